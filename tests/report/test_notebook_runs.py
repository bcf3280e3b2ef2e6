"""One notebook at a time and several at once: what goes wrong inside them, what is kept, what runs
again.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import nbformat
import psutil
import pytest
from conftest import ROOT, report_environment
from helpers import run_jobs

from lsnc_core import provenance
from lsnc_core.errors import UsageError
from lsnc_core.notebook import convert
from lsnc_core.report import execute, parameters, schedule
from lsnc_core.show import VERDICTS_TYPE

SOURCES = sorted((ROOT / "notebooks").glob("*.ipynb"))


KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def a_notebook(folder, name, *cells, given="steps = 3"):
    """A notebook with a cell of parameters and these code cells."""
    first = nbformat.v4.new_code_cell(given, metadata={"tags": ["parameters"]})
    made = [first, *map(nbformat.v4.new_code_cell, cells)]
    content = nbformat.v4.new_notebook(cells=made, metadata={"kernelspec": KERNEL})
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(content, folder / f"{name}.ipynb")
    return folder / f"{name}.ipynb"


# traps, each with a kernel

pytestmark = pytest.mark.filterwarnings("default::DeprecationWarning", "default::ResourceWarning")

TRAPS = {
    "a cell fails": (
        "steps\n1 / 0",
        execute.FAILED,
        ["cell 3 failed: ZeroDivisionError", "division by zero"],
    ),
    "a request is refused": (
        "from lsnc_core.errors import UsageError\n"
        "raise UsageError(f'{steps} steps are too many:\\ntake 3.')",
        execute.MISUSED,
        ["cell 3 failed: 5 steps are too many: take 3."],
    ),
    "the kernel is killed": (
        "import os\nos.kill(os.getpid(), 9)",
        execute.KILLED,
        ["killed", "memory"],
    ),
    "it stops early": (
        "import sys\nsys.exit(0)",
        execute.FAILED,
        ["stopped early", "1 cell"],
    ),
}


@pytest.fixture(scope="module", autouse=True)
def plain_papermill(report_smoke, tmp_path_factory):
    """papermill as a stranger calls it; it runs beside the traps."""
    folder, before = tmp_path_factory.mktemp("elsewhere"), sorted(report_smoke.outputs.rglob("*"))
    asked = [sys.executable, "-m", "papermill", ROOT / "notebooks/chen_2_landscape.ipynb"]
    asked += ["out.ipynb", "-p", "profile", "smoke"]
    environment = report_environment(LSNC_OUTPUTS=str(report_smoke.outputs))
    process = subprocess.Popen(
        asked,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield folder, report_smoke.outputs, before, process
    if process.poll() is None:
        process.terminate()
    process.communicate()


@pytest.mark.parametrize("cell, code, words", TRAPS.values(), ids=TRAPS)
def test_a_notebook_that_does_not_reach_its_end_is_no_result(tmp_path, capfd, cell, code, words):
    source = a_notebook(tmp_path, "trap", cell, "print('the end')")
    target = tmp_path / "out" / "trap.ipynb"
    target.parent.mkdir()
    target.write_text("an earlier result")
    assert execute.main([str(source), str(target), json.dumps({"steps": 5})]) == code
    last = [line for line in capfd.readouterr().out.splitlines() if line.strip()][-1]
    assert not [word for word in words if word not in last], last
    assert target.read_text() == "an earlier result" and os.listdir(target.parent) == ["trap.ipynb"]


def test_a_target_that_cannot_be_written_is_a_sentence(tmp_path, capfd):
    source, target = a_notebook(tmp_path, "good", "steps"), tmp_path / "out" / "good.ipynb"
    target.mkdir(parents=True)
    assert execute.main([str(source), str(target), "{}"]) == execute.MISUSED
    assert capfd.readouterr().out.splitlines()[-1].startswith(f"cannot write {target}: ")
    assert os.listdir(target.parent) == ["good.ipynb"] and not os.listdir(target)


SAYS_TRANSPORT = (
    "from ipykernel.kernelapp import IPKernelApp\nprint(IPKernelApp.instance().transport)"
)


@pytest.mark.parametrize(("name", "transport"), [("short", "ipc"), (100 * "l", "tcp")])
def test_a_kernel_has_no_ports_which_another_could_take(tmp_path, monkeypatch, name, transport):
    folder = tmp_path / name
    folder.mkdir()
    # a socket's path is at most some 100 bytes long
    monkeypatch.setattr(tempfile, "tempdir", str(folder) if transport == "tcp" else None)
    source, target = a_notebook(tmp_path, "asks", SAYS_TRANSPORT), tmp_path / "asked.ipynb"
    assert execute.main([str(source), str(target), "{}"]) == 0
    assert nbformat.read(target, 4).cells[-1].outputs[0].text == f"{transport}\n"
    assert not os.listdir(folder)


def test_one_failing_notebook_leaves_the_other_its_result(tmp_path):
    """In processes of their own, both at once."""
    good = a_notebook(tmp_path, "good", "import os; print(steps, os.getcwd())")
    bad = a_notebook(tmp_path, "bad", "raise KeyError('a\\nkey')")
    folder, lines = tmp_path / "outputs", []
    jobs = [schedule.Job(source, {"steps": 7}, ()) for source in (bad, good)]
    failed, finished = run_jobs(jobs, folder, False, lines.append)
    assert (failed.status, failed.code) == (schedule.FAILED, 1) and "\n" not in failed.sentence
    assert failed.sentence.startswith("cell 3 failed: KeyError: ")
    assert str(folder / "logs/bad.log") in failed.sentence
    assert "Traceback" in (folder / "logs/bad.log").read_text()
    assert (finished.status, finished.code, finished.sentence) == (schedule.FINISHED, 0, "")
    executed = nbformat.read(folder / "notebooks/good.ipynb", as_version=4)
    assert executed.cells[-1].outputs[0].text == f"7 {tmp_path}\n"
    assert sorted(os.listdir(folder / "notebooks")) == ["good.ipynb", "good.json"]
    assert sorted(lines[:2]) == ["bad: started", "good: started"] and len(lines) == 4
    ended = "\n".join(lines[2:])
    assert re.search(r"^bad: FAILED after \d+ s: cell 3 failed: .*$", ended, re.MULTILINE)
    assert re.search(r"^good: finished in \d+ s$", ended, re.MULTILINE)


def test_paths_may_hold_what_papermill_shells_and_addresses_give_a_meaning(tmp_path, monkeypatch):
    odd = tmp_path / '-a {b} {0} {steps} it\'s "q" 50%d #é\\'
    source = a_notebook(odd, "name {b}", "import os; print(steps, os.getcwd())")
    assert parameters.defaults(source) == {"steps": 3}
    (odd / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(odd / "scratch"))
    (outcome,) = run_jobs([schedule.Job(source, {"steps": 7}, ())], odd / "out", False, print)
    assert outcome.status == schedule.FINISHED, outcome.sentence
    executed = nbformat.read(odd / "out/notebooks/name {b}.ipynb", as_version=4)
    assert executed.cells[-1].outputs[0].text == f"7 {odd}\n"


def test_plain_papermill_from_elsewhere_finds_the_stored_networks(plain_papermill):
    """The README's headless command, without ours."""
    folder, kept, before, process = plain_papermill
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    assert "FLOP" not in errors
    executed = json.loads((folder / "out.ipynb").read_text(encoding="utf-8"))
    outputs = []
    for cell in executed["cells"]:
        outputs += cell.get("outputs", [])
    assert [output for output in outputs if VERDICTS_TYPE in output.get("data", {})]
    for output in outputs:
        assert output["output_type"] != "error" and output.get("name") != "stderr"
    assert os.listdir(folder) == ["out.ipynb"] and sorted(kept.rglob("*")) == before


# parameters


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_every_parameter_can_be_given_on_the_command_line(source):
    defaults = parameters.defaults(source)
    assert defaults
    for name, value in defaults.items():
        text = value if isinstance(value, str) else json.dumps(value)
        assert convert(text, value, name) == value


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_the_parameters_are_those_that_the_cell_assigns(source):
    """papermill reads the cell line by line, Python as a whole."""
    for cell in json.loads(source.read_text(encoding="utf-8"))["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            assigned = {}
            exec("".join(cell["source"]), assigned)
            del assigned["__builtins__"]
            assert parameters.defaults(source) == assigned


CELL = {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "outputs": []}
CELL |= {"id": "one", "execution_count": None}


def with_source(source):
    """The text of a notebook whose cell of parameters is this."""
    version = {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": KERNEL}}
    return json.dumps(version | {"cells": [CELL | {"source": source}]})


DAMAGED = {
    "missing": None,
    "empty": "",
    "cut short": '{"cells": [',
    "a list": "[]",
    "no cells": "{}",
    "cells of nothing": '{"cells": null}',
    "no such cell": with_source("a = 1").replace("parameters", "others"),
    "source of nothing": with_source(None),
    "no Python": with_source("a ="),
    "no plain value": with_source("a = open('x')"),
    "two at once": with_source("a, b = 1, 2"),
    "a name of another": with_source("a = 1\nb = a"),
    "no kernel": with_source("a = 1").replace("kernelspec", "other"),
}


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_notebook_is_named(tmp_path, text):
    if text is not None:
        (tmp_path / "odd.ipynb").write_text(text)
    with pytest.raises(
        UsageError, match=r"^odd\.ipynb has no readable cell of plain parameters .*\.$"
    ):
        parameters.defaults(tmp_path / "odd.ipynb")


def test_defaults_are_read_without_running_anything(tmp_path):
    given = "a = -1  # a remark\nb = [0.5, 1]\nc = 'x'\n\n# another\nd = False\n"
    assert parameters.defaults(a_notebook(tmp_path, "n", "1 / 0", given=given)) == {
        "a": -1,
        "b": [0.5, 1],
        "c": "x",
        "d": False,
    }


def test_parameters_go_to_every_notebook_that_has_them_and_to_no_other():
    notebooks = {"one": {"a": 1, "s": "x"}, "two": {"a": 2}, "three": {"b": 3}}
    assert parameters.assign(["a=7", "s=p=q", "a=8"], notebooks) == {
        "one": {"a": 8, "s": "p=q"},
        "two": {"a": 8},
        "three": {"b": 3},
    }
    assert notebooks == {"one": {"a": 1, "s": "x"}, "two": {"a": 2}, "three": {"b": 3}}


# what runs again


@pytest.fixture
def job(tmp_path):
    return schedule.Job(
        a_notebook(tmp_path / "notebooks", "one", "steps"),
        {"steps": 3, "rates": [0.5]},
        ("run-a", "run-b"),
    )


def test_a_fingerprint_changes_with_all_that_outputs_depend_on(job, tmp_path, monkeypatch):
    package = tmp_path / "lsnc_core"
    (package / "sub").mkdir(parents=True)
    (package / "a.py").write_text("x = 1\n")
    monkeypatch.setattr(schedule.files, "PROJECT", tmp_path)
    versions = {"torch": "2.11", "numpy": "2.0"}
    monkeypatch.setattr(provenance, "versions", lambda: versions)
    others = [
        replace(job, parameters=job.parameters | {"steps": 4}),
        replace(job, parameters=job.parameters | {"steps": "3"}),
        replace(job, runs=("run-a",)),
        replace(job, runs=("run-a", "run-c")),
    ]
    digests = [schedule.fingerprint(each) for each in (job, *others)]
    versions = {"torch": "2.12", "numpy": "2.0"}
    digests.append(schedule.fingerprint(job))
    (package / "sub" / "b.py").write_text("")
    digests.append(schedule.fingerprint(job))
    (package / "a.py").write_text("x = 2\n")
    digests.append(schedule.fingerprint(job))
    job.source.write_text(job.source.read_text().replace("steps = 3", "steps = 4"))
    digests.append(schedule.fingerprint(job))
    assert len(set(digests)) == len(digests)


def test_a_fingerprint_changes_with_nothing_else(job, tmp_path, monkeypatch):
    before = schedule.fingerprint(job)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LSNC_OUTPUTS", str(tmp_path / "elsewhere"))
    os.utime(job.source, (1, 1))
    (job.source.parent / "neighbour.txt").write_text("x")
    moved = Path(job.source.parent / "other" / job.source.name)
    moved.parent.mkdir()
    moved.write_bytes(job.source.read_bytes())
    turned = dict(reversed(job.parameters.items()))
    assert schedule.fingerprint(replace(job, source=moved, parameters=turned)) == before


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A program in place of Python: it is called as `python -P -m module SOURCE TARGET PARAMETERS`
    and runs a shell text.
    """

    def become(text):
        program = tmp_path / "stand-in"
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))

    monkeypatch.setattr(
        schedule.forks, "possible", lambda: False
    )  # it cannot stand in for a server
    become('mkdir -p "$(dirname "$5")" && cp "$4" "$5"; echo ran >>"$4.count"')
    return become


def times(job):
    counted = Path(f"{job.source}.count")
    return len(counted.read_text().split()) if counted.exists() else 0


def test_what_is_unchanged_is_skipped_and_what_is_damaged_runs_again(job, tmp_path, stand_in):
    folder, lines = tmp_path / "out", []
    target, state = folder / "notebooks/one.ipynb", folder / "notebooks/one.json"

    def again(job, force=False):
        (outcome,) = run_jobs([job], folder, force, lines.append)
        return outcome.status, times(job)

    assert again(job) == (schedule.FINISHED, 1)
    assert again(job) == (schedule.UNCHANGED, 1) and lines[-1] == "one: unchanged"
    assert again(job, force=True) == (schedule.FINISHED, 2)
    count = 2
    for damage in ("", "{", "[]", "null", "{}", '{"fingerprint": 5}', '"text"', "\x00"):
        state.write_text(damage)
        count += 1
        assert again(job) == (schedule.FINISHED, count), damage
        assert again(job) == (schedule.UNCHANGED, count), damage
    state.unlink()
    assert again(job) == (schedule.FINISHED, count + 1)
    target.unlink()
    assert again(job) == (schedule.FINISHED, count + 2)
    other = replace(job, parameters=job.parameters | {"steps": 4})
    assert again(other) == (schedule.FINISHED, count + 3)
    # and back: only the last run is remembered
    assert again(job) == (schedule.FINISHED, count + 4)


def test_a_failure_is_tried_again_and_does_not_spoil_what_was_there(job, tmp_path, stand_in):
    folder = tmp_path / "out"
    run_jobs([job], folder, False, print)
    good = (folder / "notebooks/one.ipynb").read_bytes()
    other = replace(job, parameters={"steps": 9})
    for text, code, words in (
        ("echo first; echo; echo the last word; echo; exit 1", 1, "the last word (log: "),
        ("echo refused; exit 2", execute.MISUSED, "refused (log: "),
        ("exit 3", 1, "status 3 and printed nothing"),
        ("kill -9 $$", 1, "status -9 and printed nothing"),
        ("printf '\\377\\376 odd bytes\\n'; exit 1", 1, "odd bytes"),
    ):
        stand_in(text)
        for _ in range(2):
            (outcome,) = run_jobs([other], folder, False, lambda line: None)
            assert (outcome.status, outcome.code) == (schedule.FAILED, code)
            assert words in outcome.sentence
    assert (folder / "notebooks/one.ipynb").read_bytes() == good
    (outcome,) = run_jobs([job], folder, False, lambda line: None)
    assert outcome.status == schedule.UNCHANGED


def test_a_folder_that_cannot_be_written_is_a_sentence(job, tmp_path, stand_in):
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(UsageError, match=r"^cannot write .*--outputs\.$"):
        run_jobs([job], tmp_path / "out", False, lambda line: None)
    assert times(job) == 0


def test_two_run_at_once_in_the_order_given(tmp_path, stand_in):
    """Each waits until the other is there: one after the other would never end."""
    stand_in(
        'touch "$4.here"; n=0\n'
        'while [ $(ls "$(dirname "$4")" | grep -c here) -lt 2 ] && [ $n -lt 100 ]\n'
        "do sleep 0.05; n=$((n+1)); done\n"
        "[ $n -lt 100 ]"
    )
    jobs = [
        schedule.Job(a_notebook(tmp_path / "notebooks", name, "1"), {}, ())
        for name in ("a", "b", "c")
    ]
    outcomes = run_jobs(jobs, tmp_path / "out", False, lambda line: None)
    assert [(outcome.name, outcome.status) for outcome in outcomes] == [
        (name, schedule.FINISHED) for name in "abc"
    ]


def test_ctrl_c_ends_the_running_notebooks_and_calls_none_of_them_failed(tmp_path, stand_in):
    stand_in('echo $$ >"$4.pid"; exec sleep 600')
    running, waiting = "abcd"[: schedule.AT_ONCE], "e"
    jobs = [
        schedule.Job(a_notebook(tmp_path / "notebooks", name, "1"), {}, ())
        for name in running + waiting
    ]
    pids, lines = [tmp_path / f"notebooks/{name}.ipynb.pid" for name in running], []

    def press():
        deadline = time.monotonic() + 120
        while (
            not all(path.exists() and path.read_text().strip() for path in pids)
            and time.monotonic() < deadline
        ):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs, tmp_path / "out", False, lines.append)
    presser.join()
    assert time.monotonic() - start < 300
    assert not [path for path in pids if psutil.pid_exists(int(path.read_text()))]
    assert sorted(lines) == [f"{name}: started" for name in running]
    assert not list((tmp_path / "out").rglob("*.json"))  # nothing is remembered as finished


def test_ctrl_c_before_all_notebooks_are_handed_over_ends_those_that_run(
    tmp_path, stand_in, monkeypatch
):
    stand_in('echo $$ >"$4.pid"; exec sleep 600')
    jobs = [schedule.Job(a_notebook(tmp_path / "notebooks", name, "1"), {}, ()) for name in "ab"]
    pid = tmp_path / "notebooks/a.ipynb.pid"

    class Interrupted(schedule.ThreadPoolExecutor):
        def submit(self, function, job, *rest):
            deadline = time.monotonic() + 120
            while job.name == "b" and time.monotonic() < deadline:
                if pid.exists() and pid.read_text().strip():
                    raise KeyboardInterrupt
                time.sleep(0.02)
            return super().submit(function, job, *rest)

    monkeypatch.setattr(schedule, "ThreadPoolExecutor", Interrupted)
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs, tmp_path / "out", False, [].append)
    assert time.monotonic() - start < 300
    assert not psutil.pid_exists(int(pid.read_text()))
