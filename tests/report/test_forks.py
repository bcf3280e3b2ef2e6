"""Notebooks in forks of a warm server: the same as in ordinary processes, and no less alone."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import nbformat
import psutil
import pytest
from conftest import ROOT, report_environment
from helpers import left_of, run_jobs
from test_notebook_runs import TRAPS, a_notebook

from lsnc_core.report import execute, executed, forks, schedule

pytestmark = [
    pytest.mark.filterwarnings("default::DeprecationWarning", "default::ResourceWarning"),
    pytest.mark.skipif(not forks.possible(), reason="this system does not fork safely"),
]


@pytest.fixture(scope="module")
def environment():
    """As `schedule` gives it to the server and to ordinary processes."""
    settings = {"OMP_NUM_THREADS": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    return report_environment(PYTHONPATH=str(ROOT), **settings)


@pytest.fixture(scope="module")
def server(environment):
    warm = forks.Server(environment)
    yield warm
    warm.close()


@pytest.fixture(scope="module")
def light(tmp_path_factory):
    """A PYTHONPATH without the libraries that take long to import: how a server and its forks begin
    and end does not depend on them.
    """
    folder = tmp_path_factory.mktemp("light")
    large = ("torch", "pandas", "matplotlib", "seaborn", "scipy", "pyarrow")
    text = f"import sys\nsys.modules |= dict.fromkeys({large})\n"  # None: importing it fails
    (folder / "sitecustomize.py").write_text(text)
    return os.pathsep.join([str(folder), str(ROOT)])


@pytest.fixture
def begin(server, tmp_path):
    """Starts a notebook of these cells in a fork: the fork, its target and its log."""
    begun = []

    def started(*cells, name="one", parameters="{}"):
        source, log = a_notebook(tmp_path, name, *cells), tmp_path / f"{name}.log"
        target = tmp_path / "out" / f"{name}.ipynb"
        with open(log, "w") as written:
            fork = server.start([str(source), str(target), parameters], written)
        assert fork, "the server did not fork"
        begun.append(fork)
        return fork, target, log

    yield started
    for fork in begun:
        fork.terminate()
        fork.wait()


def printed(target):
    """The standard output of the last cell of an executed notebook."""
    return nbformat.read(target, as_version=4).cells[-1].outputs[0].text


def wait_for(path):
    deadline = time.monotonic() + 60
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline, f"{path.name} did not come"
        time.sleep(0.05)
    return path.read_text()


# the same

STATE = """\
import json, os, signal, sys, threading
import matplotlib, torch
signals = (signal.SIGINT, signal.SIGCHLD, signal.SIGTERM, signal.SIGPIPE)
print(json.dumps({
    "folder": os.getcwd(), "path": sys.path, "python": sys.executable, "main": __name__,
    "signals": [str(signal.getsignal(number)) for number in signals],
    "threads": sorted(thread.name.split("-")[0] for thread in threading.enumerate()),
    "own session": os.getsid(0) == os.getpid(), "input": os.read(0, 1).decode(),
    "environment": sorted(os.environ), "backend": matplotlib.get_backend(),
    "OpenMP": torch.get_num_threads(),
}))"""


@pytest.fixture(scope="module")
def forked_and_ordinary(server, environment, tmp_path_factory):
    """guo_5, which first tells its kernel's state: run in a fork and in an ordinary kernel."""
    folder = tmp_path_factory.mktemp("twice")
    notebook = nbformat.read(ROOT / "notebooks" / "guo_5_conditioning.ipynb", as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(STATE))
    nbformat.write(notebook, folder / "one.ipynb")
    given, paths = json.dumps({"profile": "smoke"}), []
    for name in ("forked", "ordinary"):
        paths.append(folder / f"{name}.ipynb")
        arguments = [str(folder / "one.ipynb"), str(paths[-1]), given]
        with open(folder / f"{name}.log", "w") as log:
            if name == "forked":
                assert server.start(arguments, log).wait() == 0
            else:
                command = [sys.executable, "-P", "-m", execute.__name__, *arguments]
                subprocess.run(command, env=environment, stdout=log, stderr=log, check=True)
    return paths


def test_a_page_is_the_same_as_from_an_ordinary_kernel(forked_and_ordinary):
    shown = []
    for path in forked_and_ordinary:
        notebook = executed.read(path)
        shown.append((executed.carried(notebook), executed.outputs(notebook)))
        assert notebook.metadata["language_info"]["name"] == "python"
    (forked, forked_outputs), (ordinary, ordinary_outputs) = shown
    assert len(forked[0]) >= 2 and len(forked[1]) >= 1
    assert forked == ordinary and forked_outputs == ordinary_outputs


def test_a_forked_kernel_starts_in_the_same_state(forked_and_ordinary):
    cells = [nbformat.read(path, as_version=4).cells for path in forked_and_ordinary]
    states = [json.loads(first.outputs[0].text) for first, *_ in cells]
    assert states[0] == states[1]
    assert states[0]["folder"] == str(forked_and_ordinary[0].parent)
    assert states[0]["python"] == sys.executable


def test_two_forks_draw_different_random_numbers(begin):
    """None may go on from where the server stood."""
    cell = "import random, numpy, torch\nprint(random.random(), numpy.random.random(), "
    cell += "torch.rand(()).item())"
    drawn = []
    for name in ("one", "two"):
        fork, target, log = begin(cell, name=name)
        assert fork.wait() == 0, log.read_text()
        drawn += printed(target).split()
    assert len(set(drawn)) == 6


@pytest.fixture
def impostor(tmp_path):
    """Another kernel called python3 stands first on Jupyter's search path, and cannot start."""
    folder = tmp_path / "jupyter" / "kernels" / "python3"
    folder.mkdir(parents=True)
    specification = {"argv": ["/bin/false"], "display_name": "Other", "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(specification))
    return str(folder.parents[1])


def test_the_kernel_is_this_interpreter_s_whatever_the_search_path_holds(
    impostor, light, environment, tmp_path
):
    """Ordinary and forked: two notebooks start a server, one does not."""
    text = f"""
        import os
        from pathlib import Path
        from lsnc_core.report import schedule

        os.environ["PYTHONPATH"] = {light!r}
        folder = Path({str(tmp_path)!r})
        for names in (["a"], ["b", "c"]):
            jobs = [schedule.Job(folder / f"{{name}}.ipynb", {{}}, ()) for name in names]
            with schedule.prepared(jobs, folder / "out", True, print) as run:
                ended = run()
            assert [one.status for one in ended] == ["finished"] * len(jobs), ended
    """
    for name in "abc":
        a_notebook(tmp_path, name, "import sys; print(sys.executable)")
    subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(text)],
        env=environment | {"JUPYTER_PATH": impostor},
        check=True,
    )
    for name in "abc":
        assert printed(tmp_path / "out" / "notebooks" / f"{name}.ipynb") == f"{sys.executable}\n"


# alone

ENDS = TRAPS | {"it leaves": ("import os\nos._exit(3)", execute.KILLED, ["exit status 3"])}


@pytest.mark.parametrize("cell, code, words", ENDS.values(), ids=ENDS)
def test_a_notebook_that_does_not_reach_its_end_ends_alone(begin, tmp_path, cell, code, words):
    go = tmp_path / "go"
    wait = (
        f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.02)\nprint('well')"
    )
    other, other_target, _ = begin(wait, name="other")
    fork, target, log = begin(cell, "print('the end')", parameters='{"steps": 5}')
    assert fork.wait() == code
    last = [line for line in log.read_text().splitlines() if line.strip()][-1]
    assert not [word for word in words if word not in last], last
    assert not target.exists()
    go.touch()
    assert other.wait() == 0 and printed(other_target) == "well\n"
    deadline = time.monotonic() + 60
    while psutil.pid_exists(fork.pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not psutil.pid_exists(fork.pid)


def test_a_notebook_s_process_that_is_killed_takes_its_kernel_along(begin, tmp_path):
    told = tmp_path / "pid"
    cell = f"import os, pathlib, time\npathlib.Path({str(told)!r}).write_text(str(os.getpid()))"
    fork, target, _ = begin(f"{cell}\ntime.sleep(60)")
    kernel = psutil.Process(int(wait_for(told)))
    os.kill(fork.pid, signal.SIGKILL)
    assert fork.wait() == -signal.SIGKILL and not target.exists()
    assert not left_of([kernel]), "its kernel was left behind"


def test_what_a_fork_prints_is_in_its_own_log(begin):
    """Past ipykernel, which keeps what Python prints for the notebook."""
    # ipykernel's copy of the first standard output is the file that the kernel began with
    begun = []
    for name in ("one", "two"):
        cell = f"import os, sys\nos.write(sys.stdout._original_stdstream_copy, b'from {name}\\n')"
        begun.append((name, *begin(cell, name=name)))
    for name, fork, _, log in begun:
        assert fork.wait() == 0, log.read_text()
        # ipykernel may add a line when it is interrupted at its end
        assert [line for line in log.read_text().splitlines() if "from" in line] == [f"from {name}"]


# stopped, refused, gone


def two_jobs(folder, cell):
    return [schedule.Job(a_notebook(folder, name, cell), {}, ()) for name in ("a", "b")]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_command_leaves_no_process_behind(tmp_path, light, environment, sent):
    """Ctrl-C goes to all processes of the terminal, a request to end to the command alone."""
    cell = "import os, pathlib, time\npathlib.Path(f'{steps}').touch()\ntime.sleep(60)"
    jobs = two_jobs(tmp_path / "notebooks", cell.replace("{steps}", "here-{os.getpid()}"))
    text = f"""
        import os, signal
        from pathlib import Path
        from lsnc_core.report import schedule

        os.environ["PYTHONPATH"] = {light!r}
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        jobs = [schedule.Job(Path(source), {{}}, ()) for source in {[str(j.source) for j in jobs]}]
        try:
            with schedule.prepared(jobs, Path({str(tmp_path / "out")!r}), False, print) as run:
                run()
        except KeyboardInterrupt:
            raise SystemExit(130)
    """
    errors = tmp_path / "errors"
    with open(errors, "w") as written:
        command = subprocess.Popen(
            [sys.executable, "-P", "-c", textwrap.dedent(text)],
            env=environment,
            stderr=written,
            start_new_session=True,
        )
    deadline = time.monotonic() + 90
    while len(list((tmp_path / "notebooks").glob("here-*"))) < 2:
        assert command.poll() is None and time.monotonic() < deadline, errors.read_text()
        time.sleep(0.05)
    children = psutil.Process(command.pid).children(recursive=True)
    (os.killpg if sent == signal.SIGINT else os.kill)(command.pid, sent)
    try:
        assert command.wait(timeout=60) == 130
        assert len(children) == 5  # the server, and two notebooks with their kernels
        assert not left_of(children), "processes were left behind"
    finally:
        for process in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
    assert errors.read_text() == ""


@pytest.mark.parametrize("end", ["before it forks", "after it has forked"])
def test_what_a_server_that_dies_has_not_forked_starts_ordinarily(
    tmp_path, light, monkeypatch, end
):
    monkeypatch.setenv("PYTHONPATH", light)
    started = []

    class Dying(forks.Server):
        def start(self, arguments, log):
            if end == "before it forks":
                self._process.kill()
            fork = super().start(arguments, log)
            started.append(fork is not None)
            self._process.kill()
            self._process.wait()
            return fork

    monkeypatch.setattr(forks, "Server", Dying)
    monkeypatch.setattr(schedule, "AT_ONCE", 1)
    jobs = two_jobs(tmp_path, "print('well')")
    ended = run_jobs(jobs, tmp_path / "out", False, lambda line: None)
    assert [outcome.status for outcome in ended] == [schedule.FINISHED] * 2
    assert started == [end == "after it has forked", False]


def test_a_server_with_a_thread_does_not_fork(environment, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, threading, time\n"
        "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    )
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    refusing = forks.Server(environment | {"PYTHONPATH": path})
    with open(tmp_path / "log", "w") as log:
        assert refusing.start(["source", "target", "{}"], log) is None
        # and again, once it is gone
        assert refusing.start(["source", "target", "{}"], log) is None
    refusing.close()
    assert (tmp_path / "log").read_text() == ""


UNSAFE = {
    "nothing": ("", True),
    "a thread": ("threading.Thread(target=time.sleep, args=(9,), daemon=True).start()", False),
    "threads of OpenMP": ("torch.set_num_threads(2); torch.ones(1_000_000).exp()", False),
    "CUDA": ("torch.cuda.is_initialized = lambda: True", False),
}


def test_only_a_process_without_threads_and_cuda_forks(environment):
    """Each action in a fork of a process that has imported torch."""
    text = f"""
        import os, threading, time, torch
        from lsnc_core.report import forks

        for action in {[action for action, _ in UNSAFE.values()]}:
            pid = os.fork()
            if pid == 0:
                exec(action)
                print(forks.safe_to_fork(), flush=True)
                os._exit(0)
            os.waitpid(pid, 0)
    """
    answer = subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(text)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.split() == [str(safe) for _, safe in UNSAFE.values()]


def test_the_server_uses_no_cuda_and_leaves_no_thread(environment):
    """With several threads for OpenBLAS, which starts them when numpy is imported."""
    text = "from lsnc_core.report import forks\nforks.warm_up()\nprint(forks.safe_to_fork())"
    answer = subprocess.run(
        [sys.executable, "-P", "-c", text],
        env=environment | {"OMP_NUM_THREADS": "4"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout == "True\n" and answer.stderr == ""


def test_a_thread_that_waits_for_the_server_sees_it_closed(environment, tmp_path):
    """As when a command is stopped while the server still imports."""
    slow, answers = forks.Server(environment), []

    def ask():
        with open(tmp_path / "log", "w") as log:
            answers.append(slow.start(["source", "target", "{}"], log))

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(0.3)
    slow.close()
    asking.join(timeout=10)
    assert answers == [None]
