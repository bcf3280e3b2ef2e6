"""Execution: what is trained, what is not, and on which device."""

import itertools

import pandas as pd
import pytest
import torch
from helpers import a_spec, numbers, one_sentence

from lsnc_core.errors import UsageError
from lsnc_core.runs import cost, execute, preemptible, store, task
from lsnc_core.runs.spec import RunSpec

SPEC = a_spec()


def test_results_trains_what_is_missing_and_nothing_twice(shelf, monkeypatch, capsys):
    asked = [a_spec(seed=1), a_spec(a=0.2), a_spec(seed=1), SPEC]
    trained = []
    train = preemptible.train
    monkeypatch.setattr(
        preemptible,
        "train",
        lambda specs, *rest: trained.append(list(specs)) or train(specs, *rest),
    )
    first = execute.results(asked[:1], "cpu", shelf)
    assert (
        "training 1 networks on cpu (never trained); 0 are in the store" in capsys.readouterr().err
    )
    second = execute.results(asked, "cpu", shelf)
    assert (
        "training 2 networks on cpu (never trained); 1 are in the store" in capsys.readouterr().err
    )
    assert trained == [
        [a_spec(seed=1)],
        [a_spec(seed=1), a_spec(a=0.2), SPEC],
    ]  # the block is cut from the request alone
    threads = torch.get_num_threads()
    third = execute.results(asked, "cpu", shelf)
    assert (
        len(trained) == 2 and torch.get_num_threads() == threads and capsys.readouterr().err == ""
    )
    pd.testing.assert_frame_equal(second, third)
    pd.testing.assert_frame_equal(
        second[second.seed == 1].reset_index(drop=True), first
    )  # what was stored was not written again
    assert (
        list(second.seed) == [1, 1, 0, 0, 0, 0]
        and list(second.a) == [0.7, 0.7, 0.2, 0.2, 0.7, 0.7]
        and list(second.epoch) == [1, 3] * 3
    )
    for row in second.to_dict("records"):
        spec = RunSpec.from_dict({name: row[name] for name in SPEC.to_dict()})
        history, meta = shelf.get(spec)
        by_epoch = {entry["epoch"]: entry for entry in history}
        assert {name: row[name] for name in history[0]} == by_epoch[row["epoch"]]
        assert (
            row["run"] == shelf.path(spec).stem
            and row["device"] == "cpu"
            and row["seconds"] == meta["provenance"]["seconds"]
        )


def test_the_cut_into_blocks(monkeypatch):
    pairs = itertools.product(range(5), (10, 20))
    specs = [a_spec(seed=seed, batch=batch) for seed, batch in pairs]
    small, large = specs[::2], specs[1::2]
    cut = execute.blocks([*specs, specs[0], specs[3]], lambda spec: 2)
    assert cut == [small[:2], small[2:4], small[4:], large[:2], large[2:4], large[4:]]
    assert execute.blocks([], lambda spec: 2) == []
    deep = [a_spec(seed=seed, model="resnet18", widths=(4,)) for seed in range(6)]
    cut = execute.blocks([*deep, *specs], lambda spec: execute.block_size(spec, "cuda"))
    # of ResNets each network's activations are held at once
    assert [len(block) for block in cut] == [4, 2, 5, 5]
    monkeypatch.setattr(execute, "KEPT_BYTES", 2 * cost.kept_bytes(deep[0].shared))
    assert (
        execute.block_size(deep[0].shared, "cuda") == 2
        and execute.block_size(deep[0].shared, "cpu") == 1
    )
    monkeypatch.setattr(execute, "KEPT_BYTES", 1)
    assert execute.block_size(deep[0].shared, "cuda") == 1


def test_a_resumed_request_gives_the_bits_of_an_undisturbed_one(tmp_path, monkeypatch):
    monkeypatch.setattr(execute, "BLOCK", 3)
    settings = itertools.product(range(2), (0.4, 0.7, 1.0, 0.9))
    specs = [a_spec(model="cnn", widths=(3, 4, 8), seed=seed, a=a) for seed, a in settings]
    undisturbed = execute.results(specs, "cpu", store.Store(tmp_path / "undisturbed"))
    broken = store.Store(tmp_path / "broken")
    execute.results(specs, "cpu", broken)
    kept = {spec: broken.path(spec).read_bytes() for spec in (specs[1], specs[3], specs[7])}
    for spec in set(specs) - set(kept):
        broken.path(spec).unlink()
    resumed = execute.results(specs, "cpu", broken)
    assert {spec: broken.path(spec).read_bytes() for spec in kept} == kept
    pd.testing.assert_frame_equal(numbers(resumed), numbers(undisturbed), check_exact=True)


@pytest.mark.usefixtures("own_outputs")
def test_a_store_of_your_own_gets_nothing_beside_it(tmp_path):
    own = store.Store(tmp_path / "mine" / "networks")
    execute.results([SPEC], "cpu", own)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["networks"]


@pytest.mark.parametrize("device, deterministic", [("cpu", ""), ("cuda", "1"), ("cuda", "")])
def test_stored_networks_train_again_only_where_that_repeats_bits(
    shelf, monkeypatch, device, deterministic
):
    trained = []
    monkeypatch.setenv("LSNC_DETERMINISTIC", deterministic)
    monkeypatch.setattr(execute, "block_size", lambda *given: 3)
    monkeypatch.setattr(execute, "carry_out", lambda task, *rest: trained.append(task))
    monkeypatch.setattr(execute, "_keep", lambda *given: None)
    specs = [a_spec(seed=seed) for seed in range(9)]
    missing = {specs[1], *specs[6:]}
    execute.train(specs, missing, device, shelf)
    first = specs[1:2] if (device, deterministic) == ("cuda", "") else specs[:3]
    assert sorted([list(task.specs) for task in trained], key=len) == sorted(
        [first, specs[6:]], key=len
    )
    assert set().union(*(task.wanted for task in trained)) == missing


@pytest.mark.parametrize("epochs, apart", [(3, False), (30_000, True)])
def test_only_what_takes_long_is_trained_in_processes(shelf, monkeypatch, epochs, apart):
    """Small networks: without the time of each step 30,000 epochs would count as 1 s."""
    started, trained = [], []
    monkeypatch.setattr(execute, "BLOCK", 1)
    monkeypatch.setattr(execute, "_train_in_processes", lambda *given: started.append(given))
    monkeypatch.setattr(execute, "_keep", lambda task, *rest: trained.append(task))
    monkeypatch.setattr(execute, "carry_out", lambda *given: None)
    specs = {a_spec(seed=seed, epochs=epochs, evaluate_at=(epochs,)) for seed in range(2)}
    execute.train(list(specs), specs, "cpu", shelf)
    assert (len(started), len(trained)) == ((1, 0) if apart else (0, 2))


def test_a_checkpoint_of_stored_networks_goes(shelf):
    execute.results([SPEC], "cpu", shelf)
    left = shelf.unfinished([SPEC], "cpu")  # as after a kill between storing and deleting it
    other = left.with_name("other.pt")
    for path in (left, other):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    execute.results([SPEC], "cpu", shelf)
    assert not left.exists() and other.exists()


def test_a_request_that_cannot_be_trained_ends_in_a_sentence_and_restores_the_threads(shelf):
    threads = torch.get_num_threads()
    with pytest.raises(UsageError, match="no subset of 1201 training images"):
        execute.results([a_spec(train_size=1201)], "cpu", shelf)
    assert torch.get_num_threads() == threads and not shelf.folder.exists()
    with pytest.raises(UsageError, match="there is no image set 'digit': did you mean 'digits'"):
        execute.results([a_spec(data="digit")], "cpu", shelf)


def test_choose_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert execute.choose_device() == execute.choose_device("cpu") == "cpu"
    with pytest.raises(
        UsageError,
        match=r"device cuda was asked for, but torch finds no CUDA device here; use --device cpu\.",
    ):
        execute.choose_device("cuda")
    with pytest.raises(UsageError, match=r"device must be auto, cpu or cuda, got 'gpu'\."):
        execute.choose_device("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert (
        execute.choose_device() == execute.choose_device("cuda") == "cuda"
        and execute.choose_device("cpu") == "cpu"
    )


def test_too_little_memory_on_a_gpu_is_reported_in_a_sentence(shelf, monkeypatch):
    def train(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 20.00 GiB.")

    monkeypatch.setattr(preemptible, "train", train)
    with pytest.raises(
        UsageError, match=r"the GPU's memory is too small for 2 networks \(mlp, batch 20\)"
    ) as caught:
        execute.results([SPEC, a_spec(seed=5)], "cpu", shelf)
    assert one_sentence(caught.value)


def test_training_leaves_torch_as_it_was(shelf, monkeypatch):
    before = (
        torch.get_num_threads(),
        torch.backends.cudnn.allow_tf32,
        torch.are_deterministic_algorithms_enabled(),
    )
    monkeypatch.setenv("LSNC_DETERMINISTIC", "1")
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    with task.settled("cuda"):
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
