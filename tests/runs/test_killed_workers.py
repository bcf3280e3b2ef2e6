"""Faults that are really made to training processes and to a Dask cluster: killed, stopped, gone.

After each the next start ends with the tables of an undisturbed run and trains nothing again that
had finished.
"""

import contextlib
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import Future
from pathlib import Path

import pandas as pd
import psutil
import pytest
from helpers import a_spec, left_of, numbers, one_sentence

from lsnc_core import files
from lsnc_core.errors import UsageError
from lsnc_core.runs import cluster, execute, progress, store

pytestmark = pytest.mark.usefixtures("own_outputs")

# the shortest is stored while the others are still under way
LONG = (1000, 800, 700, 400, 20)
SPECS = [a_spec(seed=i, epochs=end, evaluate_at=(end,)) for i, end in enumerate(LONG)]


@pytest.fixture(scope="module")
def undisturbed(own_outputs, tmp_path_factory):
    """The table of all specs, trained one after the other in this process."""
    shelf = store.Store(tmp_path_factory.mktemp("undisturbed"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execute, "BLOCK", 1)
        patch.setattr(execute, "SOON", float("inf"))
        return numbers(execute.results(SPECS, "cpu", shelf))


@pytest.fixture(autouse=True)
def one_network_a_block(monkeypatch):
    monkeypatch.setattr(execute, "BLOCK", 1)


def wait_for(condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@contextlib.contextmanager
def meanwhile(action):
    """Carry out an action in a thread; an error in it fails the test."""
    errors = []

    def act():
        try:
            action()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=act)
    thread.start()
    yield
    thread.join()
    assert errors == []


def stored(shelf):
    """Which file holds each stored spec, as of now."""
    paths = {spec: shelf.path(spec) for spec in SPECS}
    return {spec: path.stat().st_mtime_ns for spec, path in paths.items() if path.exists()}


def starts_again(shelf, undisturbed, capsys, monkeypatch):
    """The next start, in this process: its table, what it says, and what it leaves alone."""
    before = stored(shelf)
    assert 0 < len(before) < len(SPECS)
    monkeypatch.setattr(execute, "SOON", float("inf"))
    capsys.readouterr()
    table = numbers(execute.results(SPECS, "cpu", shelf))
    said = capsys.readouterr().err
    assert f"training {len(SPECS) - len(before)} networks on cpu" in said
    assert f"{len(before)} are in the store" in said
    pd.testing.assert_frame_equal(table, undisturbed, check_exact=True)
    assert {spec: time for spec, time in stored(shelf).items() if spec in before} == before
    assert not list(shelf.folder.rglob("*.damaged")) + list(shelf.folder.glob("unfinished/*.pt"))


# processes on this machine

KILLED = r"a training process was killed, .* what had finished is stored: close other programs"


def test_two_of_four_training_processes_are_killed(shelf, undisturbed, capsys, monkeypatch):
    monkeypatch.setattr(execute, "cores", lambda: 4)

    def kill_two():
        wait_for(lambda: stored(shelf))
        for child in multiprocessing.active_children()[:2]:
            os.kill(child.pid, signal.SIGKILL)

    with meanwhile(kill_two), pytest.raises(UsageError, match=KILLED) as caught:
        execute.results(SPECS, "cpu", shelf)
    assert one_sentence(caught.value) and multiprocessing.active_children() == []
    starts_again(shelf, undisturbed, capsys, monkeypatch)


def test_a_training_process_that_hangs_is_named_and_ended(shelf, undisturbed, capsys, monkeypatch):
    monkeypatch.setattr(execute, "cores", lambda: 2)
    hanging = []

    def stop_one():
        wait_for(lambda: stored(shelf))
        monkeypatch.setattr(progress, "QUIET_SECONDS", 5)
        monkeypatch.setattr(progress, "LEAST_SPEED", {"cpu": 1e15})
        hanging.append(multiprocessing.active_children()[0].pid)
        os.kill(hanging[0], signal.SIGSTOP)

    with meanwhile(stop_one), pytest.raises(UsageError, match="has reported nothing") as caught:
        execute.results(SPECS, "cpu", shelf)
    named = re.fullmatch(
        r"the training process (\d+) has reported nothing for 0 minutes while training 1 network "
        r"\(mlp, \d+ epochs on digits, .*\); what had finished is stored: start again\.",
        str(caught.value),
    )
    assert named and int(named[1]) == hanging[0]
    assert multiprocessing.active_children() == [] and not psutil.pid_exists(hanging[0])
    starts_again(shelf, undisturbed, capsys, monkeypatch)


# a Dask cluster


def workers_here():
    """The processes in which Dask's workers train, of those that this process started."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            command = " ".join(child.cmdline())
            if "spawn_main" in command and "dask_worker" in " ".join(child.parent().cmdline()):
                found.append(child)
    return found


def test_dask_gives_the_same_tables_survives_a_killed_worker_and_names_a_block_that_kills(
    shelf, undisturbed, capsys, monkeypatch
):
    def kill_one():
        wait_for(lambda: stored(shelf))
        workers_here()[0].kill()

    with cluster.connect("", 2, "cpu", SPECS, shelf) as dask:
        assert dask.device == "cpu"
        assert re.search(r"dashboard of the workers: http://127\.0\.0\.1", capsys.readouterr().err)
        with meanwhile(kill_one):
            table = numbers(execute.results(SPECS, dask.device, shelf, dask))
        pd.testing.assert_frame_equal(table, undisturbed, check_exact=True)

        # a block that always kills its worker: here its first one suffices
        dask.client.run_on_scheduler(allow_no_failure)
        for spec in SPECS[:-1]:
            shelf.path(spec).unlink()

        def kill_the_busy():
            wait_for(lambda: any(dask.client.processing().values()))
            time.sleep(0.2)
            for worker in workers_here():
                worker.kill()

        with meanwhile(kill_the_busy), pytest.raises(UsageError, match="worker died") as caught:
            execute.results(SPECS, dask.device, shelf, dask)
    assert one_sentence(caught.value)
    assert re.match(
        r"1 worker died while training 1 network \(mlp, \d+ epochs on", str(caught.value)
    )
    assert workers_here() == []
    starts_again(shelf, undisturbed, capsys, monkeypatch)


def allow_no_failure(dask_scheduler):
    dask_scheduler.allowed_failures = 0


@pytest.fixture
def started(tmp_path):
    """Starts Dask's commands as a user would; ends them after the test."""
    processes = []

    def start(command, *arguments, package=files.PROJECT):
        environment = os.environ | {
            "PYTHONPATH": str(package),
            "LSNC_OUTPUTS": str(tmp_path / "outputs of a worker"),
            "DASK_TEMPORARY_DIRECTORY": str(tmp_path),
        }
        process = subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.dask_{command}", *arguments],
            env=environment,
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
        process.kill()
        process.wait()


def free_port():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


def answers(port):
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


def test_a_worker_that_does_not_fit_is_refused_and_a_killed_scheduler_is_told(
    shelf, undisturbed, started, tmp_path, capsys, monkeypatch
):
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    scheduler = started("scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
    wait_for(lambda: answers(port))
    wrong = started("worker", address, "--nthreads", "2", "--no-nanny", "--no-dashboard")
    with (
        pytest.raises(UsageError, match=r"the worker tcp://.* has 2 threads and a memory limit"),
        cluster.connect(address, 0, "auto", SPECS, shelf),
    ):
        pass
    wrong.kill()
    wrong.wait()
    alone = ("--nthreads", "1", "--memory-limit", "0", "--no-nanny", "--no-dashboard")
    (tmp_path / "old" / "lsnc_core").mkdir(parents=True)
    absent = "raise ImportError('there is none')\n"
    (tmp_path / "old" / "lsnc_core" / "__init__.py").write_text(absent)
    old = started("worker", address, *alone, package=tmp_path / "old")
    with (
        pytest.raises(UsageError, match=r"the worker tcp://.* has no lsnc_core, or another"),
        cluster.connect(address, 0, "auto", SPECS, shelf),
    ):
        pass
    old.kill()
    old.wait()
    started("worker", address, *alone)

    def kill_the_scheduler():
        wait_for(lambda: stored(shelf))
        scheduler.kill()

    shortest_first = SPECS[::-1]
    with (
        meanwhile(kill_the_scheduler),
        pytest.raises(UsageError, match=rf"the scheduler {address} went away") as caught,
        cluster.connect(address, 0, "cpu", SPECS, shelf) as dask,
    ):
        execute.results(shortest_first[:1], "cpu", shelf, dask)
        execute.results(SPECS, "cpu", shelf, dask)
    assert one_sentence(caught.value)
    starts_again(shelf, undisturbed, capsys, monkeypatch)


CLIENT = """
import sys
from pathlib import Path
sys.path.append(sys.argv[2])
from lsnc_core.runs import cluster, execute, store
import test_killed_workers

if __name__ == "__main__":
    execute.BLOCK = 1
    shelf = store.Store(Path(sys.argv[1]))
    with cluster.connect("", 2, "cpu", test_killed_workers.SPECS, shelf) as dask:
        execute.results(test_killed_workers.SPECS[-1:], "cpu", shelf, dask)
        execute.results(test_killed_workers.SPECS, "cpu", shelf, dask)
"""


def test_a_killed_client_takes_its_workers_along(shelf, undisturbed, tmp_path, capsys, monkeypatch):
    script = tmp_path / "client.py"
    script.write_text(textwrap.dedent(CLIENT))
    folders = f"{files.PROJECT}{os.pathsep}{files.PROJECT / 'tests'}"
    client = subprocess.Popen(
        [sys.executable, str(script), str(shelf.folder), str(Path(__file__).parent)],
        env=os.environ | {"PYTHONPATH": folders},
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: stored(shelf) or client.poll() is not None)
        family = psutil.Process(client.pid).children(recursive=True)
        assert len(family) >= 4
    finally:
        client.kill()
        client.wait()
    left = left_of(family)
    for process in left:
        process.kill()
    assert left == [], [process.cmdline() for process in left]
    starts_again(shelf, undisturbed, capsys, monkeypatch)


# what needs no cluster


def test_a_scheduler_that_does_not_answer_is_told(shelf, monkeypatch):
    monkeypatch.setattr(cluster, "ANSWER_SECONDS", 0.5)
    for address in (f"tcp://127.0.0.1:{free_port()}", "nonsense://x"):
        with (
            pytest.raises(UsageError, match=f"no Dask scheduler answers at {address}") as caught,
            cluster.connect(address, 0, "cpu", SPECS, shelf),
        ):
            pass
        assert one_sentence(caught.value)


class Workers:
    """Stands for Dask's client of these workers; each call there ends with `error`."""

    def __init__(self, error=None, **worker):
        self.error, self.worker = error, {"nthreads": 1, "memory_limit": 0} | worker

    def scheduler_info(self, n_workers):
        return {"workers": {"tcp://W": self.worker}}

    def submit(self, *arguments, **named):
        future = Future()
        future.set_exception(self.error)
        return future

    def wait_for_workers(self, count, timeout):
        raise TimeoutError


def test_workers_that_cannot_train_are_named(shelf):
    cases = {
        r"the worker tcp://W cannot train \(TypeError: other fields\)": Workers(
            TypeError("other fields")
        ),
        r"the worker tcp://W has no lsnc_core, or another": Workers(ImportError("none")),
        r"the worker tcp://W has 2 threads and no memory limit": Workers(nthreads=2),
        r"W has 1 thread and a memory limit of 0\.5 GB": Workers(memory_limit=2**29),
    }
    for words, client in cases.items():
        with pytest.raises(UsageError, match=words) as caught:
            cluster._check(client, "cpu", SPECS, shelf)
        assert one_sentence(caught.value)


@pytest.mark.parametrize(
    ("count", "words"), [(0, "no worker joined the scheduler S"), (3, "1 of the 3 workers that")]
)
def test_workers_that_do_not_join_are_counted(count, words):
    with pytest.raises(UsageError, match=words) as caught:
        cluster._wait_for_workers(Workers(), "S", count)
    assert one_sentence(caught.value)


def test_workers_train_on_one_kind_of_device():
    assert cluster._device_of({"A": False, "B": False}, "auto") == "cpu"
    assert cluster._device_of({"A": True, "B": True}, "auto") == "cuda"
    assert cluster._device_of({"A": True, "B": False}, "cpu") == "cpu"
    assert cluster._device_of({"A": True}, "cuda") == "cuda"
    for has_cuda, device in (({"A": True, "B": False}, "auto"), ({"B": False}, "cuda")):
        with pytest.raises(UsageError, match="the worker B has no GPU") as caught:
            cluster._device_of(has_cuda, device)
        assert one_sentence(caught.value)


def test_each_worker_has_a_gpu_of_its_own_before_its_python_starts(monkeypatch):
    commands = []

    class Process:
        stdin = None

        def __init__(self, command, env, **settings):
            commands.append((command, env))

        def wait(self, *timeout):
            pass

    monkeypatch.setattr(cluster.subprocess, "Popen", Process)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    with contextlib.ExitStack() as stack:
        cluster._start(stack, 2, "cuda")
    assert [env["CUDA_VISIBLE_DEVICES"] for _, env in commands] == ["3", "5"]
    with (
        contextlib.ExitStack() as stack,
        pytest.raises(UsageError, match="more workers than there are GPUs, 2"),
    ):
        cluster._start(stack, 3, "cuda")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert cluster._gpus() == ["0", "1", "2", "3"]
