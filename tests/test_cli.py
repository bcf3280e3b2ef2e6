"""The command as a user meets it: what a run prints and leaves, what the next one skips, and how a
bad request ends.
"""

import csv
import importlib.util
import itertools
import json
import math
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
from helpers import left_of

from lsnc_core import claims, cli, files, papers, profiles
from lsnc_core.data_sources import SOURCES
from lsnc_core.errors import UsageError
from lsnc_core.report import catalog, executed, record
from lsnc_core.runs import Store
from lsnc_core.show import cards_in

ENTRIES = papers.entries()
NOTEBOOKS = [entry.name for entry in ENTRIES]
SMOKE = {entry.name: catalog.wanted_runs(entry, {"profile": "smoke"}) for entry in ENTRIES}
NETWORKS = len(set().union(*SMOKE.values()))
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
    table = itertools.takewhile(str.strip, lines[start + 1 :])
    return {line.split()[0]: line.split() for line in table}


# a whole run


def test_a_run_prints_what_it_does_and_ends_well(report_smoke):
    assert report_smoke.code == 0, report_smoke.stdout + report_smoke.stderr
    lines = report_smoke.stdout.splitlines()
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    python = sys.version.split()[0]
    assert lines[0] == f"Python {python}, torch {torch.__version__}, device {device}"
    assert lines[1] == f"profile smoke (as requested): {profiles.PROFILES['smoke']}"
    assert re.fullmatch(rf"networks: {NETWORKS} trained, 0 from the store, \d+ s", lines[2])
    for name in NOTEBOOKS:
        assert f"{name}: started" in lines
        assert re.search(rf"^{name}: finished in \d+ s$", report_smoke.stdout, re.MULTILINE)
    table = rows(lines)
    assert list(table) == NOTEBOOKS and {row[1] for row in table.values()} == {"finished"}
    counted = f"{len(SMOKE['chen_2_landscape'])} trained, 0 stored"
    assert " ".join(table["chen_2_landscape"][2:6]) == counted
    assert table["explorer"][2] == "none"
    index = re.escape(str(report_smoke.folder / "report/index.html"))
    assert re.fullmatch(r"\d+ s in total\. Report: " + index, lines[-1])
    assert f"recorded in {report_smoke.outputs / 'kept/a-recording'}" in lines
    assert "Traceback" not in report_smoke.stderr and "Warning" not in report_smoke.stderr


def files_of(folder):
    """The files of a folder, by their paths in it."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix() for path in paths}


def test_a_run_leaves_everything_it_promises_and_nothing_half_done(report_smoke):
    expected = {"report/index.html", "report/assets/style.css", "report/assets/mathjax.js"}
    expected |= {f"report/files/{name}" for name in ("runs.csv", "claims.csv", "claims.json")}
    expected |= {"report/claims.html", "report/assets/claims.js"}
    expected |= {"report/assets/explorer.js", "report/assets/vega.js"}
    reference = ("figures", "errata", "deviations", "trust", "bibliography", "runs")
    expected |= {f"report/{name}.html" for name in reference}
    for name in NOTEBOOKS:
        expected |= {f"report/{name}.html", f"logs/{name}.log"}
        expected |= {f"notebooks/{name}.ipynb", f"notebooks/{name}.json"}
        expected.add(f"report/files/{name}.ipynb")
    figures = [figure["name"] for figure in carried(report_smoke)[0]]
    assert len(set(figures)) == len(figures)
    for names in FIGURES.values():
        assert set(names) <= set(figures)
    for figure in figures:
        expected |= {f"report/files/{figure}.{ending}" for ending in ("svg", "pdf", "csv")}
    for made in record.recordings():  # those of this checkout are shown, with what they need
        for name in set(made.notebooks) & set(NOTEBOOKS):
            folder = f"report/files/recorded/{made.folder.name}"
            expected.add(f"{folder}/runs.csv")
            for figure in made.notebooks[name]["figures"]:
                expected.add(f"{folder}/{figure['name']}.svg")
    assert files_of(report_smoke.folder) == expected
    assert not list(report_smoke.outputs.rglob("*.partial"))
    assert not (report_smoke.outputs / "error.log").exists()


def test_a_run_lists_its_networks(report_smoke):
    path = report_smoke.folder / "report/files/runs.csv"
    with open(path, newline="", encoding="utf-8") as opened:
        runs = list(csv.DictReader(opened))
    stored = {path.stem for path in (report_smoke.outputs / "runs").glob("*.parquet")}
    assert len(runs) == NETWORKS and {row["run"] for row in runs} == stored
    assert all(row["epoch"] == row["epochs"] for row in runs)


def carried(smoke):
    """All figures, and all verdicts with their notebook, of all executed notebooks."""
    figures, verdicts = [], []
    for name in NOTEBOOKS:
        shown = executed.carried(executed.read(smoke.folder / "notebooks" / f"{name}.ipynb"))
        figures += shown[0]
        verdicts += [verdict | {"notebook": name} for verdict in shown[1]]
    return figures, verdicts


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_executed_notebooks_ran_to_the_end_without_a_word_of_warning(report_smoke, name):
    path = report_smoke.folder / "notebooks" / f"{name}.ipynb"
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs, injected = [], ""
    for cell in code:
        outputs += cell["outputs"]
        if "injected-parameters" in cell["metadata"].get("tags", []):
            injected += "".join(cell["source"])
    assert outputs
    for output in outputs:
        assert output["output_type"] != "error" and output.get("name") != "stderr"
    source = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))
    tagged = ["".join(cell["source"]) for cell in source["cells"] if cell["metadata"].get("tags")]
    if "profile =" in "".join(tagged):
        assert 'profile = "smoke"' in injected


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_a_notebook_shows_the_figures_and_decides_the_claims_of_its_module(report_smoke, entry):
    """What the cards promise, in the list, the README and the index."""
    path = report_smoke.folder / "notebooks" / f"{entry.name}.ipynb"
    figures, verdicts = executed.carried(executed.read(path))
    shown = {verdict["id"] for verdict in verdicts}
    # a profile or data set may leave a figure out; none comes without a card
    cards = {card.name for card in cards_in(entry.module)}
    assert {figure["name"] for figure in figures} <= cards
    assert shown == set(entry.claims)


def test_the_report_gathers_the_verdicts_of_its_notebooks(report_smoke):
    listed = (report_smoke.folder / "report/claims.html").read_text(encoding="utf-8")
    by_claim = dict(re.findall(r'<li id="([\w-]+)"(.*?)\n</div></details></li>', listed, re.DOTALL))
    for page, ids in (
        ("chen_1_theory", ["C1", "C4", "C5", "C6", "C12"]),
        ("chen_2_landscape", ["C1", "C2"]),
    ):
        for claim in ids:
            assert f'<h2><a href="{page}.html">' in by_claim[claim]
    verdicts = carried(report_smoke)[1]
    assert set(by_claim) == {verdict["id"] for verdict in verdicts}
    # recorded ones stand beside
    assert listed.count('<section class="answer"') >= len(verdicts) >= 40
    index = (report_smoke.folder / "report/index.html").read_text(encoding="utf-8")
    assert set(re.findall(r'href="claims\.html#([\w-]+)"', index)) == {*by_claim, "rule", "changes"}


def test_a_run_can_be_recorded(report_smoke):
    (made,) = record.recordings(report_smoke.outputs / "kept")
    assert made.profile == "smoke" and list(made.notebooks) == NOTEBOOKS
    verdicts, files = 0, ["runs.csv"]
    for content in made.notebooks.values():
        verdicts += len(content["verdicts"])
        for figure in content["figures"]:
            files += [f"{figure['name']}.svg", f"{figure['name']}.csv"]
    assert verdicts == len(carried(report_smoke)[1])
    for name in files:
        written = report_smoke.folder / "report/files" / name
        assert (made.folder / name).read_bytes() == written.read_bytes()


# claims as data


def number(value, otherwise):
    """A number of claims.json; null stands for one that is not finite."""
    return otherwise if value is None else value


def answers(smoke):
    text = (smoke.folder / "report/files/claims.json").read_text(encoding="utf-8")
    return json.loads(text)["answers"]


def test_the_claims_as_data_are_the_verdicts_of_the_notebooks(report_smoke):
    listed = answers(report_smoke)
    verdicts = {}
    for verdict in carried(report_smoke)[1]:
        key = verdict["id"], verdict["notebook"], verdict["tried_on"]
        verdicts.setdefault(key, []).append(verdict)
    assert len(listed) == sum(map(len, verdicts.values()))
    for answer in listed:
        key = answer.pop("claim"), answer["notebook"], answer["tried_on"]
        assert {"id": key[0]} | answer == verdicts[key].pop(0)


def test_outcomes_follow_from_the_numbers(report_smoke):
    for answer in answers(report_smoke):
        deciding = []
        for case in answer["cases"]:
            limits = number(case["at_least"], -math.inf), number(case["at_most"], math.inf)
            low, high = number(case["low"], -math.inf), number(case["high"], math.inf)
            outcome = claims.decide(low, high, *limits)
            if case["undecided"] or (case["value"], case["low"], case["high"]) == (None,) * 3:
                outcome = claims.UNDECIDED
            assert case["observed"] == outcome, (answer["claim"], case)
            if not all(premise["met"] for premise in case["premises"]):
                outcome = claims.UNDECIDED
            assert case["outcome"] == outcome, (answer["claim"], case)
            if case["deciding"]:
                deciding.append(outcome)
        combine = {"every": claims.every, "most": claims.most}[answer["rule"]]
        outcome = combine(deciding)
        # what decides has no premise that is not met
        if not all(premise["met"] for premise in answer["premises"]):
            outcome = claims.UNDECIDED
        assert answer["outcome"] == outcome, answer["claim"]


def test_the_claims_as_csv_have_a_row_per_case(report_smoke):
    path = report_smoke.folder / "report/files/claims.csv"
    with open(path, newline="", encoding="utf-8") as opened:
        table = list(csv.DictReader(opened))
    expected = []
    for answer in answers(report_smoke):
        for case in answer["cases"] or [dict.fromkeys(executed.CASE_FIELDS)]:
            expected.append((answer["claim"], answer["notebook"], answer["outcome"], case))
    assert len(table) == len(expected)
    for row, (claim, notebook, outcome, case) in zip(table, expected, strict=True):
        assert (row["claim"], row["notebook"], row["verdict"]) == (claim, notebook, outcome)
        texts = set(filter(None, row.pop("premises").split("; ")))
        for premise in case.pop("premises") or []:
            assert premise["met"] or premise["text"] in texts
        for name, value in case.items():
            assert row[name] == ("" if value is None else str(value))


# the next run


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
    assert {f"{name}: unchanged" for name in NOTEBOOKS} <= set(lines)
    assert not [line for line in lines if line.endswith("started")]
    assert {row[1] for row in rows(lines).values()} == {"unchanged"}
    assert f"0 trained, {len(SMOKE['chen_2_landscape'])} stored" in "\n".join(lines)
    assert (stamps(copied, "runs/*"), stamps(copied, "smoke/notebooks/*")) == before
    ours, theirs = copied / "smoke/report", report_smoke.folder / "report"
    for name in ("runs.csv", "claims.csv", "claims.json"):
        assert (ours / "files" / name).read_bytes() == (theirs / "files" / name).read_bytes()
    # the time, and the commit that an author may change meanwhile
    made = re.compile(r"Made \S+ \S+ UTC|\b[0-9a-f]{12}( \+ changes)?\b")
    for name in ("index.html", "chen_2_landscape.html"):
        again, first = (
            made.sub("", (folder / name).read_text(encoding="utf-8")) for folder in (ours, theirs)
        )
        assert again == first


def test_only_what_was_touched_runs_again_and_a_refusal_keeps_the_earlier_page(copied, command):
    """One notebook gets another parameter, one a value it refuses, one nothing new: two kernels in
    all.
    """
    report = copied / "smoke/report"
    before = stamps(copied, "smoke/notebooks/*"), (report / "explorer.html").read_bytes()
    chosen = ["start_here", "explorer", "chen_2_landscape"]
    code, lines, errors = command(
        *("--profile", "smoke", "--outputs", copied, "--only", *chosen),
        *("-p", "strength=0.5", "-p", "rates=[0.123]"),
    )
    assert code == cli.MISUSED and "Traceback" not in "\n".join(lines) and errors == []
    table = {name: row[1] for name, row in rows(lines).items() if name in chosen}
    assert table == {
        "start_here": "unchanged",
        "explorer": "finished",
        "chen_2_landscape": "failed",
    }
    (sentence,) = [line for line in lines if line.startswith("chen_2_landscape failed: ")]
    assert "0.123" in sentence and "UsageError" not in sentence
    assert str(copied / "smoke/logs/chen_2_landscape.log") in sentence
    after = stamps(copied, "smoke/notebooks/*")
    changed = {name for name, stamp in after.items() if stamp != before[0][name]}
    assert changed == {"explorer.ipynb", "explorer.json"}
    index, page = (
        (report / name).read_text(encoding="utf-8")
        for name in ("index.html", "chen_2_landscape.html")
    )
    assert "Not finished" in index and "0.123" in index
    assert "earlier run" in page and "chen-figure-6.svg" in page
    explorer = json.loads((copied / "smoke/notebooks/explorer.ipynb").read_text(encoding="utf-8"))
    given = explorer["metadata"]["papermill"]["parameters"]
    assert given == {"profile": "smoke", "strength": 0.5}
    assert (report / "explorer.html").read_bytes() != before[1]


def test_one_figure_drawn_again_is_the_report_s(copied, report_smoke, command):
    # the last of its page, under a cell that loads stored networks
    asked = ["--only", "chen_3_beta", "--figure", "chen-beta-minima"]
    before = stamps(copied, "smoke/notebooks/*"), stamps(copied, "smoke/report/*")
    code, lines, errors = command("--profile", "smoke", "--outputs", copied, *asked)
    assert (code, errors) == (0, [])
    files = [
        copied / f"smoke/figures/chen-beta-minima.{ending}" for ending in ("svg", "pdf", "csv")
    ]
    assert lines[-3:] == [str(path) for path in files]
    for path in files:
        theirs = report_smoke.folder / "report/files" / path.name
        assert path.read_bytes() == theirs.read_bytes()
    assert (stamps(copied, "smoke/notebooks/*"), stamps(copied, "smoke/report/*")) == before


def test_a_run_of_some_notebooks_does_not_take_the_others_networks_out_of_the_report(
    copied, command
):
    code, _, errors = command("--profile", "smoke", "--outputs", copied, "--only", "start_here")
    assert (code, errors) == (0, [])
    index = (copied / "smoke/report/index.html").read_text(encoding="utf-8")
    assert "chen_2_landscape.html" in index and f"{NETWORKS:,} networks from" in index
    with open(copied / "smoke/report/files/runs.csv", newline="", encoding="utf-8") as opened:
        assert len(list(csv.DictReader(opened))) == NETWORKS


# what needs few packages


def test_help_needs_the_standard_library_alone():
    answer = subprocess.run(
        [sys.executable, "-S", "-E", "-m", "lsnc_core.cli", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0 and answer.stderr == ""
    for word in ("--profile", "--only", "smoke", "Exit status"):
        assert word in answer.stdout


def test_the_list_is_made_without_heavy_imports():
    heavy = {"torch", "torchvision", "pandas", "scipy", "matplotlib", "seaborn", "papermill"}
    code = "import sys; from lsnc_core import cli; cli.main(['--list']); "
    code += f"print(*{heavy} & set(sys.modules), file=sys.stderr)"
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert answer.stderr.split() == []
    assert not [name for name in NOTEBOOKS if name not in answer.stdout]


def test_help_through_the_script_from_anywhere(tmp_path):
    (tmp_path / "link").symlink_to(ROOT / "run_all.sh")
    answer = subprocess.run(
        [tmp_path / "link", "--help"],
        cwd=tmp_path,
        env=report_environment(),
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0 and answer.stderr == ""
    assert answer.stdout.startswith("usage: run_all.sh")


@pytest.mark.parametrize("variable", ["", "1"])
def test_bytecode_is_kept_with_the_caches_where_it_may_not_lie_beside_the_sources(
    tmp_path, variable
):
    environment = report_environment(
        LSNC_OUTPUTS=str(tmp_path / "outputs"), PYTHONDONTWRITEBYTECODE=variable
    )
    environment.pop("PYTHONPYCACHEPREFIX", None)
    command = [ROOT / "run_all.sh", "--help"]
    subprocess.run(command, env=environment, capture_output=True, check=True)
    kept = tmp_path / "outputs" / "cache" / "bytecode"
    assert bool(list(kept.rglob("lsnc_core/errors.*.pyc"))) == bool(variable)


def test_the_list_has_each_notebook_once_with_its_section_and_minutes(command):
    code, lines, errors = command("--list")
    assert (code, errors) == (0, [])
    for entry in ENTRIES:
        (line,) = [line for line in lines if line.split()[:1] == [entry.name]]
        assert entry.shows in line and entry.paper.short in line and entry.page.section in line
        assert f" {catalog.minutes(entry)} " in line


LINES = re.findall(r"^  (\./run_all\.sh --.*?)(?:   .*)?$", cli.EPILOG, re.MULTILINE)
EXAMPLES = [shlex.split(line)[1:] for line in LINES]


@pytest.mark.parametrize("example", EXAMPLES, ids=" ".join)
@pytest.mark.parametrize("profile", ["smoke", "quick"])
def test_the_examples_of_the_help_ask_for_what_can_be_done(example, profile):
    given = cli.parser().parse_args(example)
    settings = {"profile": profile} | dict(text.split("=") for text in given.parameters)
    for entry in catalog.choose(given.only):
        for spec in catalog.wanted_runs(entry, settings):
            sizes = SOURCES[spec.data].sizes
            enough = spec.train_size <= sizes[0] and spec.test_size <= sizes[1]
            assert enough, f"{spec.data} has not so many images"


# requests that cannot be carried out


def refused(command, *arguments, words):
    """The request ends with status 2 and one sentence on standard error that has the words."""
    code, _, errors = command(*arguments)
    assert code == cli.MISUSED == 2
    assert len(errors) == 1, errors
    assert errors[0].startswith("run_all.sh: ") and errors[0].endswith((".", "?")), errors
    assert not [word for word in words if word not in errors[0]], errors[0]


MISTAKES = {
    "a recording's name": (["--only", "explorer", "--record", "a b"], ["letters, digits", "'a b'"]),
    "a recording without a name": (
        ["--only", "explorer", "--record", ""],
        ["--record", "got nothing"],
    ),
    "unknown profile": (["--profile", "paperr"], ["'paperr'", "did you mean 'paper'?"]),
    "unknown notebook": (["--only", "explorr"], ["'explorr'", "did you mean 'explorer'?"]),
    "unknown figure": (
        ["--only", "guo_1_dynamics", "--figure", "guo-f22"],
        ["'guo-f22'", "guo_1_dynamics", "guo-f2"],
    ),
    "a figure of another notebook": (
        ["--only", "explorer", "--figure", "guo-f2"],
        ["'guo-f2'", "explorer", "draws none"],
    ),
    "a figure to record": (
        ["--only", "guo_1_dynamics", "--figure", "guo-f2", "--record", "a"],
        ["--record", "--figure"],
    ),
    "strange notebook": (["--only", "zzz"], ["'zzz'", *NOTEBOOKS]),
    "unknown parameter": (["--only", "explorer", "-p", "zzz=1"], ["'zzz'", "strength"]),
    "parameter of none": (["--only", "start_here", "-p", "zzz=1"], ["'zzz'", "none"]),
    "parameter of another": (["--only", "explorer", "-p", "points=5"], ["'points'"]),
    "misspelt parameter": (["-p", "strenght=0.5"], ["'strenght'", "did you mean 'strength'?"]),
    "not a number": (["-p", "points=many"], ["points", "a whole number", "'many'"]),
    "not whole": (["-p", "points=5.0"], ["points", "a whole number", "'5.0'"]),
    "not a list": (["-p", "rates=0.5"], ["rates", "a list", "'0.5'"]),
    "without =": (["-p", "points"], ["NAME=VALUE", "'points'"]),
    "without a name": (["-p", "=5"], ["''"]),
    "profile by -p": (["-p", "profile=quick"], ["--profile"]),
    "device by -p": (["-p", "device=cpu"], ["--device"]),
    "unknown data set": (["-p", "data_set=minst"], ["'minst'", "mnist-subset"]),
    "unknown device": (["--device", "tpu"], ["'tpu'", "auto, cpu or cuda"]),
    "no workers": (["--workers", "0"], ["--workers", "at least 1", "got 0"]),
    "workers here and there": (
        ["--workers", "2", "--scheduler", "tcp://host:8786"],
        ["--workers", "--scheduler"],
    ),
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


WORKERS = {
    ("--workers", "2"): ("", 2, "cpu"),
    # the workers of a scheduler say what they train on
    ("--scheduler", "tcp://host:8786"): ("tcp://host:8786", 0, "auto"),
}


@pytest.mark.parametrize("arguments", WORKERS)
def test_workers_are_asked_for_what_is_missing(command, monkeypatch, arguments):
    asked = []

    def connect(*given):
        asked.append(given)
        raise UsageError("no worker.")

    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("lsnc_core.runs.cluster.connect", connect)
    monkeypatch.setattr("lsnc_core.runs.results", lambda *arguments: pytest.fail("it trained"))
    page = ["--profile", "smoke", "--only", "chen_2_landscape"]
    refused(command, *page, *arguments, words=["no worker"])
    ((*where, specs, _),) = asked
    assert tuple(where) == WORKERS[arguments] and set(specs) == set(SMOKE["chen_2_landscape"])


def test_workers_need_an_extra(command, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "distributed" else find(name, *rest),
    )
    words = ["needs distributed", "the extra `cluster`: pip install 'lsnc-core[cluster]'"]
    refused(command, "--profile", "smoke", "--workers", "2", words=words)


def test_cuda_without_cuda(command, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    refused(command, "--profile", "smoke", "--device", "cuda", words=["cuda", "--device cpu"])


def test_a_data_set_that_is_absent_offline(command, tmp_path):
    (tmp_path / "data").mkdir()
    folder = tmp_path / "data"
    asked = ["--profile", "smoke", "--only", "chen_2_landscape", "-p", "data_set=cifar10"]
    asked += ["--offline", "--data", folder]
    refused(command, *asked, words=["cifar10", str(folder), "--offline"])


def test_an_outputs_folder_that_cannot_be_written(command, tmp_path):
    (tmp_path / "file").write_text("in the way")
    for outputs in (tmp_path / "file", tmp_path / "file" / "below"):
        asked = ["--profile", "smoke", "--only", "start_here", "--outputs", outputs]
        refused(command, *asked, words=["cannot write", str(outputs), "--outputs"])


def test_an_outputs_folder_that_cannot_be_written_is_noticed_before_training(
    command, tmp_path, monkeypatch
):
    """Hours of training would be lost at the first network that is to be stored."""
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr("lsnc_core.runs.results", lambda *arguments: pytest.fail("it trained"))
    blocked, words = tmp_path / "file", ["cannot write", str(tmp_path / "file")]
    refused(command, "--profile", "smoke", "--outputs", blocked, words=words)
    asked = ["--profile", "smoke", "--only", "explorer", "--outputs", tmp_path / "outputs"]
    words = [*words, "another folder with --record."]
    refused(command, *asked, "--record", blocked / "kept", words=words)


@pytest.mark.parametrize(
    "arguments", [["--prof", "smoke"], ["--only"], ["--nonsense"], ["explorer"]], ids=" ".join
)
def test_arguments_that_the_parser_does_not_know(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    printed = capsys.readouterr().err
    assert stopped.value.code == cli.MISUSED
    assert "Traceback" not in printed and "run_all.sh: error: " in printed


# accidents


def break_with(monkeypatch, error):
    def fail(*arguments, **settings):
        raise error

    monkeypatch.setattr(catalog, "choose", fail)


def test_an_error_of_the_companion_itself_is_a_sentence_and_a_log(command, monkeypatch, tmp_path):
    break_with(monkeypatch, LookupError("the spoon"))
    code, _, errors = command()
    log = files.outputs_root() / "error.log"
    assert code == cli.FAILED == 1 and len(errors) == 1
    assert "LookupError: the spoon" in errors[0] and str(log) in errors[0]
    assert log.read_text().startswith("Traceback") and log.is_relative_to(tmp_path)


def test_an_error_whose_log_cannot_be_written_is_told_in_full(command, monkeypatch, tmp_path):
    (tmp_path / "outputs").write_text("a file in the way")
    break_with(monkeypatch, LookupError("the spoon"))
    code, _, errors = command()
    assert code == cli.FAILED
    assert errors[0].startswith("Traceback") and "LookupError: the spoon" in errors[-1]


def test_ctrl_c_anywhere_is_a_sentence(command, monkeypatch):
    break_with(monkeypatch, KeyboardInterrupt())
    code, _, errors = command()
    assert code == cli.INTERRUPTED == 130
    assert "interrupted" in errors[-1] and "run it again" in errors[-1]


@pytest.mark.parametrize(
    "sent", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "a request to end"]
)
def test_stopped_while_networks_train(report_smoke, tmp_path, sent):
    """Ctrl-C goes from a terminal to the command and everything it started, a scheduler's request
    to the command alone.
    """
    outputs, printed, errors = tmp_path / "outputs", tmp_path / "stdout", tmp_path / "stderr"
    # saves parsing the images; and what is stored already must stay whole
    for name in ("cache", "runs"):
        shutil.copytree(report_smoke.outputs / name, outputs / name)
    kept = set(Path(outputs, "runs").glob("*.parquet"))
    asked = [ROOT / "run_all.sh", "--profile", "quick", "--device", "cpu", "--outputs", outputs]
    asked += ["--only", "chen_4_loss_and_accuracy", "-p", "data_set=digits"]
    with open(printed, "wb") as out, open(errors, "wb") as err:
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
        # the bar has moved: networks are training
        while not re.search(r"training: .*\| [1-9]", errors.read_text()):
            waited = command.poll() is None and time.monotonic() < deadline
            assert waited, printed.read_text() + errors.read_text()
            time.sleep(0.1)
        children = psutil.Process(command.pid).children(recursive=True)
        (os.killpg if sent == signal.SIGINT else os.kill)(command.pid, sent)
        assert command.wait(timeout=30) == cli.INTERRUPTED
        assert len(children) >= 2
        assert not left_of(children), "processes were left behind"
    finally:
        for process in children:
            if process.is_running():
                process.kill()
        if command.poll() is None:
            command.kill()
        command.wait()
    lines = errors.read_text(encoding="utf-8").strip().splitlines()
    assert lines[-1] == "run_all.sh: interrupted; finished work is kept, run it again to continue."
    assert not [line for line in lines if "Traceback" in line]
    assert not (outputs / "error.log").exists()
    # a training process that is stopped while it writes leaves its hidden half file, which nothing
    # reads and `clean` deletes
    assert not [path for path in outputs.rglob("*.partial") if path.parent.name != "runs"]
    stored = set(Path(outputs, "runs").glob("*.parquet"))
    assert kept and kept <= stored and len(stored - kept) < 416
    assert all(Store._read(path) is not None for path in stored)
