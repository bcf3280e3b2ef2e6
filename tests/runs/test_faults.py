"""Faults that are really made: a disk that is full or read-only, and two commands at once.

After each, the next start ends with the tables of an undisturbed run, trains nothing again that was
finished, and the failed one said in a sentence what happened.
"""

import contextlib
import errno
import os
import re
import resource
import shutil
import signal
import subprocess

import pyarrow.parquet as pq
import pytest
from conftest import ROOT, report_environment
from helpers import a_spec, numbers, one_sentence

from lsnc_core import cli, files
from lsnc_core.errors import UsageError
from lsnc_core.runs import execute, preemptible, products, store

SPECS = [a_spec(seed=seed) for seed in range(4)]


@pytest.fixture(autouse=True)
def one_after_the_other(monkeypatch):
    """Each network is a block, trained in this process."""
    monkeypatch.setattr(execute, "BLOCK", 1)
    monkeypatch.setattr(execute, "SOON", float("inf"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, own_outputs):
    """The table of a run without faults."""
    shelf = store.Store(tmp_path_factory.mktemp("undisturbed"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execute, "BLOCK", 1)
        patch.setattr(execute, "SOON", float("inf"))
        return numbers(execute.results(SPECS, "cpu", shelf))


def count_training(monkeypatch):
    """The specs that are trained from now on."""
    trained, train = [], preemptible.train

    def counted(specs, *rest):
        trained.extend(specs)
        return train(specs, *rest)

    monkeypatch.setattr(preemptible, "train", counted)
    return trained


@pytest.mark.parametrize("good", range(4))
@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, r"No space left on device; free some space or choose another folder"),
        (errno.EDQUOT, r"quota exceeded; free some space or choose another folder"),
        (errno.EROFS, r"Read-only file system; choose another folder"),
        (errno.EIO, r"Input/output error; choose another folder"),
    ],
)
def test_a_disk_that_fails_while_results_are_stored(
    undisturbed, shelf, monkeypatch, good, number, words
):
    products.of_this_machine(shelf.folder.parent)  # is written before any result
    left, fsync = good, os.fsync

    def failing(descriptor):
        nonlocal left
        if left == 0:
            raise OSError(number, os.strerror(number))
        left -= 1
        fsync(descriptor)

    monkeypatch.setattr(files.os, "fsync", failing)
    with pytest.raises(UsageError, match=rf"cannot write .*\.parquet: .*{words}") as caught:
        execute.results(SPECS, "cpu", shelf)
    assert one_sentence(caught.value)
    assert len(list(shelf.folder.iterdir())) == good  # whole ones, and nothing half written
    monkeypatch.setattr(files.os, "fsync", fsync)
    trained = count_training(monkeypatch)
    assert numbers(execute.results(SPECS, "cpu", shelf)).equals(undisturbed)
    assert len(trained) == len(SPECS) - good


@contextlib.contextmanager
def no_file_larger_than(size):
    """Writing beyond `size` bytes fails like writing to a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def test_a_result_that_does_not_fit_is_not_half_stored(undisturbed, shelf):
    with no_file_larger_than(9_000), pytest.raises(UsageError, match="File too large") as caught:
        execute.results(SPECS, "cpu", shelf)
    assert one_sentence(caught.value) and list(shelf.folder.iterdir()) == []
    assert numbers(execute.results(SPECS, "cpu", shelf)).equals(undisturbed)


def test_a_store_that_is_no_folder_is_named(tmp_path, own_outputs):
    (tmp_path / "runs").touch()
    with pytest.raises(UsageError, match=r"cannot write .*runs.*; choose another") as caught:
        execute.results(SPECS[:1], "cpu", store.Store(tmp_path / "runs"))
    assert one_sentence(caught.value)


# the command itself

ASKED = ["--profile", "smoke", "--only", "guo_4_minimisers"]
COMMAND = [ROOT / "run_all.sh", *ASKED, "--outputs"]
# a disk of 180 kB, that is larger when the command starts again; the shard is one block, so it
# needs no training processes
SMALL_DISK = """
mount -t tmpfs -o size=180k none "$1" || exit 99
"${@:3}" "$1" --shard 1/2
echo "status $?, $(ls "$1/runs" | grep -c parquet) stored"
mount -o remount,size=50m "$1"
"${@:3}" "$1" --shard 1/2
echo "status $?"
cp -r "$1/runs" "$2"
"""


def run(*commands):
    """Run commands side by side; exit status, printed lines and errors of each."""
    started = []
    for command in commands:
        started.append(
            subprocess.Popen(
                command,
                env=report_environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        printed = [process.communicate(timeout=600) for process in started]
    finally:
        for process in started:
            process.kill()
    return [(process.returncode, *both) for process, both in zip(started, printed, strict=True)]


def histories(outputs):
    """The stored numbers by file name."""
    return {path.name: pq.read_table(path).to_pylist() for path in (outputs / "runs").glob("*.p*")}


def answers(outputs):
    """The report's claims as data."""
    folder = outputs / "smoke" / "report" / "files"
    return [(folder / name).read_bytes() for name in ("claims.json", "claims.csv")]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The outputs of a command that trained undisturbed."""
    outputs = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execute, "SOON", float("inf"))
        patch.setenv("LSNC_OUTPUTS", str(outputs))
        assert cli.main([*ASKED, "--shard", "1/1"]) == 0
    return outputs


def end_well(folder, commands):
    """Run commands on a folder side by side; all end well and leave nothing half done."""
    for code, out, error in run(*commands):
        assert code == 0 and "Traceback" not in error, out + error
    assert not list(folder.rglob("*.partial")) and not list(folder.rglob("*.damaged"))
    assert not list(folder.glob("runs/unfinished/*"))


def test_two_commands_that_train_at_once_end_like_one_alone(tmp_path, alone):
    end_well(tmp_path, [[*COMMAND, tmp_path, "--shard", "1/1"]] * 2)
    assert histories(tmp_path) == histories(alone)


@pytest.mark.slow
def test_two_whole_commands_at_once_end_like_one_alone(tmp_path):
    both, one = tmp_path / "both", tmp_path / "one"
    end_well(both, [[*COMMAND, both]] * 2)
    end_well(one, [[*COMMAND, one]])
    assert answers(both) == answers(one) and histories(both) == histories(one)


def test_a_full_disk_is_named_and_the_next_start_ends_like_one_alone(tmp_path, alone):
    if shutil.which("unshare") is None:
        pytest.skip("mounts a disk of its own")
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["unshare", "-rm", "bash", "-c", SMALL_DISK, "small disk", disk, tmp_path, *COMMAND]
    ((code, out, error),) = run(command)
    if code == 99 or "unshare failed" in error:
        pytest.skip("may not mount a disk of its own")
    first, second, again = re.split(r"^status ", out, flags=re.MULTILINE)
    assert second.startswith("2, ") and "Traceback" not in error, first + second + error
    sentence = r"run_all\.sh: cannot write .*: No space left on device; free some space or choose"
    assert len(re.findall(sentence, error)) == 1
    whole, found, stored = histories(alone), histories(tmp_path), int(second.split()[1])
    assert 0 < stored < len(found)
    assert f"{len(found) - stored} trained, {stored} from the store" in second
    assert again.strip() == "0" and found == {name: whole[name] for name in found}
