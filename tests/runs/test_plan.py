"""The plan of a request, against what is trained, stored and counted by hand."""

import dataclasses
import time

import pytest
import torch
from helpers import a_cnn_spec, a_resnet_spec, a_spec

from lsnc_core.runs import cost, execute, fleet, plan

CPU = torch.device("cpu")


def test_hours_follow_from_images_and_seconds():
    small = [a_spec(seed=seed, epochs=10, evaluate_at=(5, 10)) for seed in range(20)]
    large = a_spec(train_size=400, epochs=10, evaluate_at=(10,), widths=(16,))
    # 40 images in 10 epochs and 80 measured twice; 400 in 10 epochs and 440 measured once
    passes = 40 * 10 + 2 * 80 / 3, 400 * 10 + 440 / 3
    seconds = {(8,): 3.0, (16,): 5.0}
    timed = []

    def time_image(block, device):
        timed.append((len(block), device))
        return seconds[block[0].widths]

    found = plan.estimate([*small, large, *small], "cpu", time_image)
    assert timed == [(16, "cpu"), (1, "cpu")]  # a kind once, by its largest block
    kinds = found.kinds.set_index("widths")
    hours = {"8": 20 * passes[0] * 3 / 3600, "16": passes[1] * 5 / 3600}
    assert dict(kinds.hours) == pytest.approx(hours)
    assert dict(kinds.networks) == {"8": 20, "16": 1} and dict(kinds.blocks) == {"8": 2, "16": 1}
    forward = 2 * (64 * 8 + 8 * 10)
    assert kinds.pflop["8"] == pytest.approx(20 * passes[0] * 3 * forward / 1e15)
    assert kinds.gflops["8"] == pytest.approx(3 * forward / 3 / 1e9)
    # blocks of 16 and 4 small networks, and the large one
    blocks = [16 * passes[0] * 3 / 3600, passes[1] * 5 / 3600, 4 * passes[0] * 3 / 3600]
    workers = found.workers.set_index("workers")
    assert workers.hours[1] == pytest.approx(sum(blocks)) and workers.busy[1] == pytest.approx(1)
    assert workers.hours[8] == workers.hours[64] == pytest.approx(max(blocks))
    assert list(workers.largest) == pytest.approx([max(blocks)] * 3)
    assert workers.busy[64] == pytest.approx(sum(blocks) / (64 * max(blocks)))


def test_a_plan_is_two_tables_that_fit_a_terminal():
    specs = [a_spec(), a_resnet_spec(), a_cnn_spec()]
    lines = plan.describe(plan.estimate(specs, "cpu", lambda *_: 1e6), "cpu").splitlines()
    assert lines[0] == "a worker is one CPU core; hours are those of one worker"
    assert max(map(len, lines)) <= 110
    first = [line.split()[0] for line in lines[1:] if line]
    assert first == ["images", *["digits"] * 3, "together", "workers", "1", "8", "64"]
    assert lines[5].split()[1:3] == ["3", "3"]  # networks and blocks


@pytest.mark.parametrize(
    "spec",
    [
        a_spec(train_size=1000, test_size=500),
        a_cnn_spec(train_size=400, test_size=300, validation_size=200, keep_at=(1, 5)),
    ],
    ids=["last logits", "kept features"],
)
def test_what_a_network_takes_on_disk(shelf, spec):
    execute.results([spec], "cpu", shelf)
    assert shelf.path(spec).stat().st_size == pytest.approx(plan.stored_bytes(spec), rel=0.25)


def test_what_a_block_takes_in_memory():
    block = [a_spec(seed=seed) for seed in range(3)]
    parameters = 64 * 8 + 8 + 8 * 10 + 10
    assert cost.sizes(block[0]) == (parameters, 8, 10, 64)
    images, targets = 80 * 64 * 4, 40 * 10 * 4 + 40 * 8
    kept = 20 * (64 + 8) * 4
    measured = sum(map(plan.stored_bytes, block))
    assert plan.block_bytes(block) == images + 3 * (12 * parameters + kept + targets) + measured


@pytest.mark.parametrize("spec", [a_cnn_spec(batch=60), a_resnet_spec()], ids=["cnn", "resnet"])
def test_a_timed_step_is_what_training_takes(digits, own_outputs, spec):
    block = [dataclasses.replace(spec, seed=seed) for seed in range(2)]
    found = plan.seconds_per_image(block, "cpu")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        trained = fleet.Fleet(block, digits, CPU)
        trained.train_epoch(trained.step)
        start = time.process_time()
        for _ in range(10):
            trained.train_epoch(trained.step)
        measured = (time.process_time() - start) / (10 * 2 * spec.train_size)
    finally:
        torch.set_num_threads(threads)
    # the written-out step of stacked networks is faster than the one by autograd
    assert measured / 8 < found < 3 * measured


def test_the_fastest_step_counts(own_outputs, monkeypatch):
    """The first step prepares much, and on a busy machine every step may take longer."""
    clock, lasts = [0.0], iter([9.0, 0.1, 0.02, 0.05, 0.2, 7.0])

    def take_time(*_):
        clock[0] += next(lasts)

    monkeypatch.setattr(plan.time, "process_time", lambda: clock[0])
    monkeypatch.setattr(fleet.Fleet, "train_epoch", take_time)
    block = [a_spec(seed=seed) for seed in range(2)]
    assert plan.seconds_per_image(block, "cpu") == pytest.approx(0.02 / (2 * 20))
    assert list(lasts) == [7.0]  # 0.3 s beside the first step suffice


def test_a_large_network_is_timed_on_few_images_and_a_small_one_on_its_batch():
    large = a_resnet_spec(data="stl10", widths=(64,), batch=128, train_size=4500)
    assert [spec.batch for spec in plan._timed([large], "cpu")] == [plan.IMAGES]
    assert [spec.batch for spec in plan._timed([large], "cuda")] == [128]
    assert [spec.batch for spec in plan._timed([a_spec()] * 2, "cpu")] == [20, 20]
