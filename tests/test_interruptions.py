"""What befalls a training from outside: a damaged checkpoint, a full disk, a file edited meanwhile,
too little memory, another process.
"""

import dataclasses
import multiprocessing
import os
import random
import resource
import signal

import pytest
import torch
from test_runs import SPEC, like, numbers, one_sentence

from lsnc_core import data
from lsnc_core.errors import UsageError
from lsnc_core.runs import checkpoint, execute, fleet, store

CPU = torch.device("cpu")
CONTENT = {
    "epoch": 3,
    "state": [torch.arange(6.0).view(2, 3), torch.zeros(0)],
    "measured": [{"means": {"x": torch.ones(2)}}],
}


@pytest.fixture
def shelf(tmp_path):
    return store.Store(tmp_path / "runs")


# checkpoints


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    path = tmp_path / "folder" / "block.pt"
    assert checkpoint.read(path) is None
    checkpoint.write(path, CONTENT)
    found = checkpoint.read(path)
    assert found["epoch"] == 3 and torch.equal(found["measured"][0]["means"]["x"], torch.ones(2))
    assert all(
        torch.equal(one, other) for one, other in zip(found["state"], CONTENT["state"], strict=True)
    )


def test_any_flipped_bit_of_a_checkpoint_is_noticed(tmp_path, capsys):
    path, draws = tmp_path / "block.pt", random.Random(0)
    checkpoint.write(path, CONTENT)
    content = path.read_bytes()
    for _ in range(300):
        at, bit = draws.randrange(len(content)), 1 << draws.randrange(8)
        path.write_bytes(content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :])
        assert checkpoint.read(path) is None
        assert (
            capsys.readouterr().err
            == "the checkpoint block.pt is damaged: its networks are trained from the start\n"
        )


# each of these ends a process, so each has one of its own


def in_a_process(action):
    """The exit status of an action in a process of its own: 0, or that with which it ended."""

    def run():
        torch.set_num_threads(1)  # OpenMP's threads do not survive a fork
        action()

    child = multiprocessing.get_context("fork").Process(target=run)
    child.start()
    child.join()
    return child.exitcode


@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits a forked process")
def test_a_disk_that_is_full_in_the_middle_of_a_checkpoint_is_told_in_a_sentence(
    shelf, monkeypatch
):
    monkeypatch.setattr(fleet, "CHECKPOINT_SECONDS", 0)
    spec = like(widths=(200,), epochs=4, evaluate_at=(4,))  # 130 kB of weights and velocities

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


# readers' files, memory


LOSS = "def loss(logits, targets):\n    return -(targets * logits.log_softmax(-1)).sum(-1)"


@pytest.mark.parametrize("company", [["{}"], ["{}", "mse"]], ids=["alone", "mixed"])
def test_a_file_that_is_edited_while_networks_train_changes_nothing_and_is_told(
    shelf, tmp_path, monkeypatch, company
):
    path = tmp_path / "my_loss.py"
    path.write_text(LOSS)
    specs = [like(loss=loss.format(path)) for loss in company]
    with execute._settled("cpu"):
        undisturbed = fleet.train(specs, data.load("digits"), CPU)
    train, found = fleet.train, []

    def edited(specs, images, device, progress, checkpoint):
        def edit(done):
            path.write_text(LOSS + " * 1000")
            progress(done)

        found.append(train(specs, images, device, edit, checkpoint))
        return found[-1]

    monkeypatch.setattr(fleet, "train", edited)
    with pytest.raises(
        UsageError, match="a file of your own was changed while networks were trained with it"
    ) as caught:
        execute.results(specs, "cpu", shelf)
    assert one_sentence(caught.value) and not list(shelf.folder.glob("*.parquet"))
    assert (
        found[0][0].history == undisturbed[0].history
    )  # the file as it was at the start, to the end


def test_too_little_memory_on_a_gpu_is_told_in_a_sentence(shelf, monkeypatch):
    def train(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 20.00 GiB.")

    monkeypatch.setattr(fleet, "train", train)
    with pytest.raises(
        UsageError, match=r"the GPU's memory is too small for 2 networks \(mlp, batch 20\)"
    ) as caught:
        execute.results([SPEC, like(seed=5)], "cpu", shelf)
    assert one_sentence(caught.value)


def test_training_leaves_torch_as_it_was(shelf, monkeypatch):
    before = (
        torch.get_num_threads(),
        torch.backends.cudnn.allow_tf32,
        torch.are_deterministic_algorithms_enabled(),
    )
    monkeypatch.setenv("LSNC_DETERMINISTIC", "1")
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    with execute._settled("cuda"):
        within = (
            torch.get_num_threads(),
            torch.backends.cudnn.allow_tf32,
            torch.are_deterministic_algorithms_enabled(),
        )
    assert within == (1, False, True)
    assert (
        torch.get_num_threads(),
        torch.backends.cudnn.allow_tf32,
        torch.are_deterministic_algorithms_enabled(),
    ) == before


# two processes on one store


@pytest.mark.parametrize("part", ["numbers", "tensors"])
@pytest.mark.parametrize("meanwhile", ["set aside", "trained again"])
def test_a_damaged_file_that_another_process_has_dealt_with_is_left_to_it(
    shelf, monkeypatch, meanwhile, part
):
    execute.results([SPEC], "cpu", shelf)
    path, name = shelf.path(SPEC), {"numbers": "_read", "tensors": "_read_tensors"}[part]
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
    monkeypatch.setattr(fleet, "CHECKPOINT_SECONDS", 0)
    specs = [like(seed=seed, epochs=40, evaluate_at=(20, 40)) for seed in range(2)]
    alone = execute.results(specs, "cpu", store.Store(tmp_path / "alone"))
    execute.results(specs[:1], "cpu", shelf)
    path = shelf.path(specs[0])
    path.write_bytes(path.read_bytes()[:-50])  # damaged for both
    context = multiprocessing.get_context("fork")
    answers, together = context.Queue(), context.Barrier(2)

    def request():
        torch.set_num_threads(1)
        together.wait()
        answers.put(numbers(execute.results(specs, "cpu", store.Store(shelf.folder))))

    children = [context.Process(target=request) for _ in range(2)]
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


def test_a_batch_of_one_image_is_refused_where_there_is_batch_norm():
    for settings in (
        {"batch_norm": True},
        {"feature_norm": True},
        {"model": "resnet18", "widths": (4,)},
    ):
        with pytest.raises(
            UsageError,
            match=r"train_size must be such that no batch of 20 holds a single image, .* got 41",
        ) as caught:
            like(train_size=41, **settings)
        assert one_sentence(caught.value)
        with pytest.raises(UsageError, match="no batch of 1 holds"):
            like(batch=1, **settings)
        fleet.train(
            [like(train_size=42, epochs=1, evaluate_at=(1,), **settings)], data.load("digits"), CPU
        )
    dataclasses.replace(SPEC, train_size=41)  # nothing to normalise
