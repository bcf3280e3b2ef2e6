"""What befalls a training from outside: a full disk, a killed process, another process."""

import contextlib
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from helpers import a_spec, forked, numbers, one_sentence

from lsnc_core import files
from lsnc_core.errors import UsageError
from lsnc_core.runs import execute, preemptible, store

SPEC = a_spec()


# each of these ends a process, so each has one of its own


def in_a_process(action):
    """The exit status of an action in a process of its own: 0, or that with which it ended."""
    child = forked(action)
    child.start()
    child.join()
    return child.exitcode


@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits a forked process")
def test_a_disk_that_is_full_in_the_middle_of_a_checkpoint_is_reported_in_a_sentence(
    shelf, monkeypatch
):
    monkeypatch.setattr(preemptible, "SECONDS", 0)
    spec = a_spec(widths=(200,), epochs=4, evaluate_at=(4,))  # 130 kB of weights and velocities

    def fill():
        signal.signal(
            signal.SIGXFSZ, signal.SIG_IGN
        )  # then writing beyond the limit fails like writing to a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        with pytest.raises(
            UsageError, match=r"cannot write .*unfinished.*: File too large; choose another folder"
        ) as caught:
            execute.results([spec], "cpu", shelf)
        assert one_sentence(caught.value)
        os._exit(42)

    assert in_a_process(fill) == 42
    assert not [path for path in shelf.folder.rglob("*") if path.is_file()]
    assert len(execute.results([spec], "cpu", shelf)) == 1


# two processes on one store


@pytest.mark.parametrize("part", ["numbers", "tensors"])
@pytest.mark.parametrize("meanwhile", ["set aside", "trained again"])
def test_a_damaged_file_that_another_process_has_dealt_with_is_left_to_it(
    shelf, monkeypatch, meanwhile, part
):
    execute.results([SPEC], "cpu", shelf)
    path, name = shelf.path(SPEC), {"numbers": "_read", "tensors": "_read_whole"}[part]
    good = path.read_bytes()
    aside = path.with_suffix(".damaged")

    def other_was_faster(*arguments):
        monkeypatch.undo()
        path.replace(aside)
        if meanwhile == "trained again":
            path.write_bytes(good)

    monkeypatch.setattr(store.Store, name, staticmethod(other_was_faster))
    assert (shelf.get if part == "numbers" else shelf.tensors)(SPEC) is None
    assert path.exists() == (meanwhile == "trained again")
    assert len(execute.results([SPEC], "cpu", shelf)) == 2 and path.read_bytes()[:4] == good[:4]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks processes")
def test_two_processes_on_one_store_end_with_the_same_answer(shelf, tmp_path, monkeypatch):
    monkeypatch.setattr(execute, "BLOCK", 2)
    monkeypatch.setattr(preemptible, "SECONDS", 0)
    specs = [a_spec(seed=seed, epochs=40, evaluate_at=(20, 40)) for seed in range(2)]
    alone = execute.results(specs, "cpu", store.Store(tmp_path / "alone"))
    execute.results(specs[:1], "cpu", shelf)
    path = shelf.path(specs[0])
    path.write_bytes(path.read_bytes()[:-50])  # damaged for both
    context = multiprocessing.get_context("fork")
    answers, together = context.Queue(), context.Barrier(2)

    def request():
        together.wait()
        answers.put(numbers(execute.results(specs, "cpu", store.Store(shelf.folder))))

    children = [forked(request) for _ in range(2)]
    for child in children:
        child.start()
    found = [answers.get(timeout=60) for _ in children]
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0]
    assert all(table.equals(numbers(alone)) for table in found)
    assert not list(shelf.folder.glob("unfinished/*.pt")) and not list(
        shelf.folder.rglob(".*.partial")
    )


# training processes; see test_killed_workers, too


def stored(folder):
    return len(list(folder.glob("*.parquet")))


def wait_for(condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def session(leader):
    """The living processes of a session, from /proc."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == leader and fields[0] != "Z":
                found.append(int(entry.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes through /proc")
def test_training_processes_end_when_their_parent_is_killed(tmp_path):
    script = """
    import time
    from lsnc_core.runs.pool import LocalPool

    def sleep(seconds, report):
        time.sleep(seconds)

    if __name__ == "__main__":
        pool = LocalPool(2)
        futures = [pool.submit(sleep, 0.01) for _ in range(2)]
        [future.result() for future in futures]
        futures = [pool.submit(sleep, 600) for _ in range(2)]
        print("ready", flush=True)
        time.sleep(600)
    """
    (tmp_path / "parent.py").write_text(textwrap.dedent(script))
    command = [sys.executable, str(tmp_path / "parent.py")]
    process = subprocess.Popen(
        command,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=files.PROJECT,
    )
    try:
        assert process.stdout.readline() == "ready\n"
        assert len(session(process.pid)) >= 3
        process.kill()
        process.wait()
        wait_for(lambda: not session(process.pid), 60)
    finally:
        for left in session(process.pid):
            os.kill(left, signal.SIGKILL)
        process.wait()
        process.stdout.close()


# kill -9 at any moment


def has_begun(folder):
    """Whether a store has a checkpoint or a result."""
    return bool(list(folder.glob("unfinished/*.pt"))) or stored(folder) > 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_thirty_kills_at_random_moments_lose_nothing(tmp_path, monkeypatch):
    """Fleets are killed again and again, wherever they are; the tables in the end have the bits of
    an undisturbed run.
    """
    monkeypatch.setattr(execute, "BLOCK", 2)
    monkeypatch.setattr(execute, "SOON", float("inf"))
    monkeypatch.setattr(preemptible, "SECONDS", 0)
    specs = [a_spec(seed=seed, epochs=60, evaluate_at=(20, 40, 60)) for seed in range(4)]
    for name in ("first", "undisturbed"):  # the first loads libraries and takes longer
        start = time.monotonic()
        alone = store.Store(tmp_path / name)
        undisturbed = numbers(execute.results(specs, "cpu", alone))
        usual = time.monotonic() - start
    moments, kills, begun, fleets = random.Random(0), 0, 0, 0

    def request(shelf):
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
            execute.results(specs, "cpu", shelf)

    while kills < 30:
        shelf = store.Store(tmp_path / f"fleet {fleets}")
        for _ in range(6):
            child, start = forked(request, shelf), time.monotonic()
            child.start()
            # on a busy machine most moments lie before training: every other one is after its start
            while kills % 2 and child.is_alive() and not has_begun(shelf.folder):
                time.sleep(0.002)
            child.join(moments.uniform(0, usual / 2 if kills % 2 else usual))
            if child.exitcode is None:
                child.kill()
                child.join()
                kills += 1
            else:
                assert child.exitcode == 0
                usual = min(usual, time.monotonic() - start)
                break
            begun += has_begun(shelf.folder)
            assert all(
                store.Store._read(path) is not None for path in shelf.folder.glob("*.parquet")
            )
        assert numbers(execute.results(specs, "cpu", shelf)).equals(undisturbed)
        for spec in specs:
            for kept, whole in zip(shelf.tensors(spec), alone.tensors(spec), strict=True):
                assert kept.keys() == whole.keys()
                assert all(kept[name].tobytes() == whole[name].tobytes() for name in whole)
        assert not list(shelf.folder.glob("*.damaged")) and not list(
            shelf.folder.glob("unfinished/*.pt")
        )
        fleets += 1
    assert begun > kills / 3  # a later start found something
