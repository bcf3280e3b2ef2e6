"""The command as a user meets it: what a run prints and leaves, what the next one skips, and how a
bad request ends.
"""

import csv
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from conftest import ROOT, report_environment

from lsnc_core import cli, files, profiles
from lsnc_core.data_sources import SOURCES
from lsnc_core.report import catalog, record, show
from lsnc_core.runs import Store

NOTEBOOKS = [entry.name for entry in catalog.NOTEBOOKS]
SMOKE = {entry.name: entry.runs(profile="smoke") for entry in catalog.NOTEBOOKS}
NETWORKS = len({spec for specs in SMOKE.values() for spec in specs})
FIGURES = {
    "chen_1_theory": ["chen-figure-1", "chen-figure-2", "chen-figure-3", "chen-figure-4"],
    "chen_2_landscape": ["chen-figure-5", "chen-figure-5-residual", "chen-figure-6"],
}


@pytest.fixture(autouse=True)
def own_environment(tmp_path, monkeypatch):
    """The command sets these for the processes it starts; here they are put back after each
    test.
    """
    monkeypatch.setenv("LSNC_OUTPUTS", str(tmp_path / "outputs"))
    for name in ("LSNC_DATA", "LSNC_OFFLINE"):
        monkeypatch.setenv(name, "")


@pytest.fixture
def command(capsys):
    """Runs the command in this process: exit status, printed lines, error lines."""

    def run(*arguments):
        code = cli.main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return code, printed.out.splitlines(), printed.err.splitlines()

    return run


def rows(lines):
    """The summary table at the end: notebook -> its row's words."""
    start = next(number for number, line in enumerate(lines) if line.startswith("notebook "))
    return {
        line.split()[0]: line.split() for line in itertools.takewhile(str.strip, lines[start + 1 :])
    }


# ------------------------------------------------------------------------------------------------ a whole run


def test_a_run_says_what_it_does_and_ends_well(report_smoke):
    assert report_smoke.code == 0, report_smoke.stdout + report_smoke.stderr
    lines = report_smoke.stdout.splitlines()
    import torch

    assert (
        lines[0]
        == f"Python {sys.version.split()[0]}, torch {torch.__version__}, device {'cuda' if torch.cuda.is_available() else 'cpu'}"
    )
    assert lines[1] == f"profile smoke (asked for): {profiles.PROFILES['smoke']}"
    assert re.fullmatch(rf"networks: {NETWORKS} trained, 0 from the store, \d+ s", lines[2])
    for name in NOTEBOOKS:
        assert f"{name}: started" in lines and any(
            re.fullmatch(rf"{name}: finished in \d+ s", line) for line in lines
        )
    table = rows(lines)
    assert list(table) == NOTEBOOKS and {row[1] for row in table.values()} == {"finished"}
    assert (
        " ".join(table["chen_2_landscape"][2:6])
        == f"{len(SMOKE['chen_2_landscape'])} trained, 0 stored"
        and table["explorer"][2] == "none"
    )
    assert re.fullmatch(
        r"\d+ s in all\. Report: " + re.escape(str(report_smoke.folder / "report/index.html")),
        lines[-1],
    )
    assert "Traceback" not in report_smoke.stderr and "Warning" not in report_smoke.stderr


def test_a_run_leaves_everything_it_promises_and_nothing_half_done(report_smoke):
    there = {
        path.relative_to(report_smoke.folder).as_posix()
        for path in report_smoke.folder.rglob("*")
        if path.is_file()
    }
    expected = {
        "report/index.html",
        "report/files/runs.csv",
        "report/assets/style.css",
        "report/assets/mathjax.js",
    }
    expected |= {f"report/{name}.html" for name in NOTEBOOKS} | {
        f"logs/{name}.log" for name in NOTEBOOKS
    }
    expected |= {f"notebooks/{name}.{ending}" for name in NOTEBOOKS for ending in ("ipynb", "json")}
    figures = [
        bundle["data"][show.FIGURE_TYPE]["name"]
        for bundle in bundles(report_smoke)
        if show.FIGURE_TYPE in bundle.get("data", {})
    ]
    assert len(set(figures)) == len(figures) and {
        figure for some in FIGURES.values() for figure in some
    } <= set(figures)
    expected |= {
        f"report/files/{figure}.{ending}" for figure in figures for ending in ("svg", "csv")
    }
    for made in record.recordings():  # those of this checkout are shown, with what they need
        for name in set(made.notebooks) & set(NOTEBOOKS):
            kept = {
                f"{figure['name']}.{ending}"
                for figure in made.notebooks[name]["figures"]
                for ending in ("svg", "csv")
            }
            expected |= {
                f"report/files/recorded/{made.folder.name}/{file}" for file in kept | {"runs.csv"}
            }
    assert there == expected
    assert (
        not list(report_smoke.outputs.rglob("*.partial"))
        and not (report_smoke.outputs / "error.log").exists()
    )
    with open(
        report_smoke.folder / "report/files/runs.csv", newline="", encoding="utf-8"
    ) as opened:
        runs = list(csv.DictReader(opened))
    stored = {path.stem for path in (report_smoke.outputs / "runs").glob("*.parquet")}
    assert (
        len(runs) == NETWORKS
        and {row["run"] for row in runs} == stored
        and all(row["epoch"] == row["epochs"] for row in runs)
    )


def bundles(smoke):
    """All outputs of all executed notebooks."""
    notebooks = [
        json.loads((smoke.folder / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))
        for name in NOTEBOOKS
    ]
    return [
        output
        for notebook in notebooks
        for cell in notebook["cells"]
        for output in cell.get("outputs", [])
    ]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_executed_notebooks_ran_to_the_end_without_a_word_of_warning(report_smoke, name):
    notebook = json.loads(
        (report_smoke.folder / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8")
    )
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert outputs and not [
        output
        for output in outputs
        if output["output_type"] == "error" or output.get("name") == "stderr"
    ]
    injected = "".join(
        "".join(cell["source"])
        for cell in code
        if "injected-parameters" in cell["metadata"].get("tags", [])
    )
    source = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))
    if any(
        "profile =" in "".join(cell["source"])
        for cell in source["cells"]
        if cell["metadata"].get("tags")
    ):
        assert 'profile = "smoke"' in injected


def test_the_report_gathers_the_verdicts_of_its_notebooks(report_smoke):
    index = (report_smoke.folder / "report/index.html").read_text(encoding="utf-8")
    for page, ids in (
        ("chen_1_theory", ["C1", "C4", "C5", "C6", "C12"]),
        ("chen_2_landscape", ["C1", "C2"]),
    ):
        for claim in ids:
            assert re.search(rf'data-label="Claim">{claim}</th>.*?href="{page}\.html"', index)
    badges = len(re.findall(r'<td data-label="Verdict">', index))
    found = sum(
        len(bundle.get("data", {}).get(show.VERDICTS_TYPE, [])) for bundle in bundles(report_smoke)
    )
    assert badges >= found >= 40  # recorded ones stand beside


def test_a_run_can_be_recorded(report_smoke):
    (made,) = record.recordings(report_smoke.outputs / "kept")
    assert made.profile == "smoke" and list(made.notebooks) == NOTEBOOKS
    found = sum(
        len(bundle.get("data", {}).get(show.VERDICTS_TYPE, [])) for bundle in bundles(report_smoke)
    )
    assert sum(len(content["verdicts"]) for content in made.notebooks.values()) == found
    for content in made.notebooks.values():
        for figure in content["figures"]:
            for ending in ("svg", "csv"):
                name = f"{figure['name']}.{ending}"
                assert (made.folder / name).read_bytes() == (
                    report_smoke.folder / "report/files" / name
                ).read_bytes()
    assert (made.folder / "runs.csv").read_bytes() == (
        report_smoke.folder / "report/files/runs.csv"
    ).read_bytes()


# ------------------------------------------------------------------------------------------------ the next run


@pytest.fixture(scope="module")
def copied(report_smoke, tmp_path_factory):
    """The smoke run's outputs to go on with, the original stays as it is."""
    outputs = tmp_path_factory.mktemp("again") / "outputs"
    shutil.copytree(report_smoke.outputs, outputs)
    return outputs


def stamps(folder, pattern):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob(pattern)}


def test_a_second_start_computes_nothing_and_makes_the_same_report(copied, report_smoke, command):
    before = stamps(copied, "runs/*"), stamps(copied, "smoke/notebooks/*")
    code, lines, errors = command("--profile", "smoke", "--outputs", copied)
    assert (code, errors) == (0, [])
    assert {f"{name}: unchanged" for name in NOTEBOOKS} <= set(lines) and not [
        line for line in lines if line.endswith("started")
    ]
    assert {row[1] for row in rows(lines).values()} == {
        "unchanged"
    } and f"0 trained, {len(SMOKE['chen_2_landscape'])} stored" in "\n".join(lines)
    assert (stamps(copied, "runs/*"), stamps(copied, "smoke/notebooks/*")) == before
    assert (copied / "smoke/report/files/runs.csv").read_bytes() == (
        report_smoke.folder / "report/files/runs.csv"
    ).read_bytes()
    made = re.compile(
        r"Made \S+ \S+ UTC|\b[0-9a-f]{12}( \+ changes)?\b"
    )  # the time, and the commit that an author may change meanwhile
    pages = [
        [
            made.sub("", (folder / name).read_text(encoding="utf-8"))
            for name in ("index.html", "chen_2_landscape.html")
        ]
        for folder in (copied / "smoke/report", report_smoke.folder / "report")
    ]
    assert pages[0] == pages[1]


def test_only_what_was_touched_runs_again_and_a_refusal_keeps_the_earlier_page(copied, command):
    """One notebook gets another parameter, one a value it refuses, one nothing new: two kernels in
    all.
    """
    before, page_before = (
        stamps(copied, "smoke/notebooks/*"),
        (copied / "smoke/report/explorer.html").read_bytes(),
    )
    chosen = ["start_here", "explorer", "chen_2_landscape"]
    code, lines, errors = command(
        *("--profile", "smoke", "--outputs", copied, "--only", *chosen),
        *("-p", "assumption=beta", "-p", "rates=[0.123]"),
    )
    text = "\n".join(lines)
    assert code == cli.MISUSED and "Traceback" not in text and errors == []
    table = {name: row[1] for name, row in rows(lines).items() if name in chosen}
    assert table == {
        "start_here": "unchanged",
        "explorer": "finished",
        "chen_2_landscape": "failed",
    }
    (sentence,) = [line for line in lines if line.startswith("chen_2_landscape failed: ")]
    assert (
        "0.123" in sentence
        and "UsageError" not in sentence
        and str(copied / "smoke/logs/chen_2_landscape.log") in sentence
    )
    changed = {
        name for name, stamp in stamps(copied, "smoke/notebooks/*").items() if stamp != before[name]
    }
    assert changed == {"explorer.ipynb", "explorer.json"}
    report = copied / "smoke/report"
    index, page = (
        (report / name).read_text(encoding="utf-8")
        for name in ("index.html", "chen_2_landscape.html")
    )
    assert (
        "Not finished" in index
        and "0.123" in index
        and "earlier run" in page
        and "chen-figure-6.svg" in page
    )
    executed = json.loads((copied / "smoke/notebooks/explorer.ipynb").read_text(encoding="utf-8"))
    assert executed["metadata"]["papermill"]["parameters"] == {"assumption": "beta", "M": 10}
    assert (report / "explorer.html").read_bytes() != page_before


def test_a_run_of_some_notebooks_does_not_take_the_others_networks_out_of_the_report(
    copied, command
):
    code, _, errors = command("--profile", "smoke", "--outputs", copied, "--only", "start_here")
    assert (code, errors) == (0, [])
    index = (copied / "smoke/report/index.html").read_text(encoding="utf-8")
    assert "chen_2_landscape.html" in index and "Networks" in index
    with open(copied / "smoke/report/files/runs.csv", newline="", encoding="utf-8") as opened:
        assert len(list(csv.DictReader(opened))) == NETWORKS


# ------------------------------------------------------------------------------------------------ what needs no packages


@pytest.mark.parametrize(
    "flag, words",
    [("--help", ["--profile", "--only", "smoke", "Exit status"]), ("--list", NOTEBOOKS)],
)
def test_help_and_list_need_the_standard_library_alone(flag, words):
    answer = subprocess.run(
        [sys.executable, "-S", "-E", "-m", "lsnc_core.cli", flag],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0 and answer.stderr == ""
    assert not [word for word in words if word not in answer.stdout]


def test_help_through_the_script_from_anywhere(tmp_path):
    (tmp_path / "link").symlink_to(ROOT / "run_all.sh")
    answer = subprocess.run(
        [tmp_path / "link", "--help"],
        cwd=tmp_path,
        env=report_environment(),
        capture_output=True,
        text=True,
    )
    assert (
        answer.returncode == 0
        and answer.stdout.startswith("usage: run_all.sh")
        and answer.stderr == ""
    )


def test_the_list_has_each_notebook_once_with_its_minutes(command):
    code, lines, errors = command("--list")
    assert (code, errors) == (0, [])
    for entry in catalog.NOTEBOOKS:
        (line,) = [line for line in lines if line.split()[:1] == [entry.name]]
        assert entry.shows in line and f"{entry.quick_minutes:g}" in line.split()


EXAMPLES = [
    shlex.split(line)[1:]
    for line in re.findall(r"^  (\./run_all\.sh --.*?)(?:   .*)?$", cli.EPILOG, re.MULTILINE)
]


@pytest.mark.parametrize("example", EXAMPLES, ids=" ".join)
@pytest.mark.parametrize("profile", ["smoke", "quick"])
def test_the_examples_of_the_help_ask_for_what_can_be_done(example, profile):
    given = cli.parser().parse_args(example)
    parameters = dict(text.split("=") for text in given.parameters)
    for entry in catalog.choose(given.only):
        settings = {
            name: value
            for name, value in {"profile": profile, **parameters}.items()
            if name in entry.run_parameters
        }
        for spec in entry.runs(**settings):
            sizes = SOURCES[spec.data].sizes
            assert spec.train_size <= sizes[0] and spec.test_size <= sizes[1], (
                f"{spec.data} has not so many images"
            )


# ------------------------------------------------------------------------------------------------ requests that cannot be carried out


def refused(command, *arguments, words):
    """The request ends with status 2 and one sentence on standard error that has the words."""
    code, _, errors = command(*arguments)
    assert code == cli.MISUSED == 2
    assert (
        len(errors) == 1 and errors[0].startswith("run_all.sh: ") and errors[0].endswith((".", "?"))
    ), errors
    assert not [word for word in words if word not in errors[0]], errors[0]


MISTAKES = {
    "a recording's name": (["--only", "explorer", "--record", "a b"], ["letters, digits", "'a b'"]),
    "a recording without a name": (
        ["--only", "explorer", "--record", ""],
        ["--record", "got nothing"],
    ),
    "unknown profile": (["--profile", "paperr"], ["'paperr'", "did you mean 'paper'?"]),
    "unknown notebook": (["--only", "explorr"], ["'explorr'", "did you mean 'explorer'?"]),
    "strange notebook": (["--only", "zzz"], ["'zzz'", *NOTEBOOKS]),
    "unknown parameter": (["--only", "explorer", "-p", "zzz=1"], ["'zzz'", "assumption", "M"]),
    "parameter of none": (["--only", "start_here", "-p", "zzz=1"], ["'zzz'", "none"]),
    "parameter of another": (["--only", "explorer", "-p", "points=5"], ["'points'"]),
    "misspelt parameter": (["-p", "asumption=beta"], ["'asumption'", "did you mean 'assumption'?"]),
    "not a number": (["-p", "points=many"], ["points", "a whole number", "'many'"]),
    "not whole": (["-p", "points=5.0"], ["points", "a whole number", "'5.0'"]),
    "not a list": (["-p", "rates=0.5"], ["rates", "a list", "'0.5'"]),
    "without =": (["-p", "points"], ["NAME=VALUE", "'points'"]),
    "without a name": (["-p", "=5"], ["''"]),
    "profile by -p": (["-p", "profile=quick"], ["--profile"]),
    "device by -p": (["-p", "device=cpu"], ["--device"]),
    "unknown data set": (["-p", "data_set=minst"], ["'minst'", "mnist-subset"]),
    "unknown device": (["--device", "tpu"], ["'tpu'", "auto, cpu or cuda"]),
    "no data folder": (["--data", "/nowhere/data"], ["/nowhere/data", "--data"]),
}


@pytest.mark.parametrize("arguments, words", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_named_in_one_sentence(command, tmp_path, arguments, words):
    refused(
        command,
        *([] if "--profile" in arguments else ["--profile", "smoke"]),
        *arguments,
        words=words,
    )
    assert not (tmp_path / "outputs").exists()


def test_cuda_without_cuda(command, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    refused(command, "--profile", "smoke", "--device", "cuda", words=["cuda", "--device cpu"])


def test_a_data_set_that_is_absent_offline(command, tmp_path):
    (tmp_path / "data").mkdir()
    arguments = [
        "--only",
        "chen_2_landscape",
        "-p",
        "data_set=cifar10",
        "--offline",
        "--data",
        tmp_path / "data",
    ]
    refused(
        command,
        "--profile",
        "smoke",
        *arguments,
        words=["cifar10", str(tmp_path / "data"), "--offline"],
    )


def test_an_outputs_folder_that_cannot_be_written(command, tmp_path):
    (tmp_path / "file").write_text("in the way")
    for outputs in (tmp_path / "file", tmp_path / "file" / "below"):
        refused(
            command,
            "--profile",
            "smoke",
            "--only",
            "start_here",
            "--outputs",
            outputs,
            words=["cannot write", str(outputs), "--outputs"],
        )


def test_an_outputs_folder_that_cannot_be_written_is_noticed_before_training(
    command, tmp_path, monkeypatch
):
    """Hours of training would be lost at the first network that is to be stored."""
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr("lsnc_core.runs.results", lambda *arguments: pytest.fail("it trained"))
    refused(
        command,
        "--profile",
        "smoke",
        "--outputs",
        tmp_path / "file",
        words=["cannot write", str(tmp_path / "file")],
    )
    asked = [
        "--profile",
        "smoke",
        "--only",
        "explorer",
        "--outputs",
        tmp_path / "outputs",
        "--record",
        tmp_path / "file" / "kept",
    ]
    refused(
        command,
        *asked,
        words=["cannot write", str(tmp_path / "file"), "another folder with --record."],
    )


@pytest.mark.parametrize(
    "arguments", [["--prof", "smoke"], ["--only"], ["--nonsense"], ["explorer"]], ids=" ".join
)
def test_arguments_that_the_parser_does_not_know(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    printed = capsys.readouterr().err
    assert (
        stopped.value.code == cli.MISUSED
        and "Traceback" not in printed
        and "run_all.sh: error: " in printed
    )


# ------------------------------------------------------------------------------------------------ accidents


def break_with(monkeypatch, error):
    def fail(*arguments, **settings):
        raise error

    monkeypatch.setattr(catalog, "choose", fail)


def test_an_error_of_the_companion_itself_is_a_sentence_and_a_log(command, monkeypatch, tmp_path):
    break_with(monkeypatch, LookupError("the spoon"))
    code, _, errors = command()
    log = files.outputs_root() / "error.log"
    assert (
        code == cli.FAILED == 1
        and len(errors) == 1
        and "LookupError: the spoon" in errors[0]
        and str(log) in errors[0]
    )
    assert log.read_text().startswith("Traceback") and log.is_relative_to(tmp_path)


def test_an_error_whose_log_cannot_be_written_is_told_in_full(command, monkeypatch, tmp_path):
    (tmp_path / "outputs").write_text("a file in the way")
    break_with(monkeypatch, LookupError("the spoon"))
    code, _, errors = command()
    assert (
        code == cli.FAILED
        and errors[0].startswith("Traceback")
        and "LookupError: the spoon" in errors[-1]
    )


def test_ctrl_c_anywhere_is_a_sentence(command, monkeypatch):
    break_with(monkeypatch, KeyboardInterrupt())
    code, _, errors = command()
    assert (
        code == cli.INTERRUPTED == 130 and "stopped" in errors[-1] and "start again" in errors[-1]
    )


@pytest.mark.parametrize(
    "sent", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "a request to end"]
)
def test_stopped_while_networks_train(report_smoke, tmp_path, sent):
    """Ctrl-C goes from a terminal to the command and everything it started, a scheduler's request
    to the command alone.
    """
    outputs, said, told = tmp_path / "outputs", tmp_path / "stdout", tmp_path / "stderr"
    with open(said, "wb") as out, open(told, "wb") as err:
        shutil.copytree(
            report_smoke.outputs / "cache", outputs / "cache"
        )  # saves parsing the images
        asked = [
            ROOT / "run_all.sh",
            "--profile",
            "quick",
            "--device",
            "cpu",
            "--only",
            "chen_2_landscape",
            "--outputs",
            outputs,
        ]
        asked += ["-p", "data_set=digits"]
        command = subprocess.Popen(
            asked,
            stdout=out,
            stderr=err,
            env=report_environment(),
            cwd=tmp_path,
            start_new_session=True,
        )
    children = []
    try:
        deadline = time.monotonic() + 120
        while not list(
            Path(outputs, "runs").glob("*.parquet")
        ):  # the first networks are stored, others are training
            assert command.poll() is None and time.monotonic() < deadline, (
                said.read_text() + told.read_text()
            )
            time.sleep(0.1)
        children = psutil.Process(command.pid).children(recursive=True)
        (os.killpg if sent == signal.SIGINT else os.kill)(command.pid, sent)
        assert command.wait(timeout=10) == cli.INTERRUPTED
        assert len(children) >= 2
        assert not psutil.wait_procs(children, timeout=5)[1], "processes were left behind"
    finally:
        for process in [command, *children]:
            if process.poll() is None if process is command else process.is_running():
                process.kill()
        command.wait()
    last = told.read_text(encoding="utf-8").strip().splitlines()[-1]
    assert last == "run_all.sh: stopped; what had finished is kept, start again to go on."
    assert (
        "Traceback" not in told.read_text(encoding="utf-8") and not (outputs / "error.log").exists()
    )
    # a training process that is stopped while it writes leaves its hidden half file, which nothing
    # reads and `clean` deletes
    assert not [path for path in outputs.rglob("*.partial") if path.parent.name != "runs"]
    stored = list(Path(outputs, "runs").glob("*.parquet"))
    assert 0 < len(stored) < 416 and all(Store._read(path) is not None for path in stored)
