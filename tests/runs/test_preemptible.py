"""Checkpoints within epochs: how often they are written, and that training goes on from them."""

import contextlib
import dataclasses
import itertools
import os
import random
import time

import pytest
import torch
from helpers import a_cnn_spec, a_resnet_spec, a_spec, forked, numbers

from lsnc_core.runs import checkpoint, execute, fleet, preemptible, store

CPU = torch.device("cpu")


class Clock:
    """Seconds that pass only where a test says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize("cost", [0.001, 0.1, 2.0, 60.0])
def test_writing_takes_a_small_share_and_loses_little(cost):
    clock = Clock()
    timer = preemptible.Timer(clock)
    written, writing = [], 0.0
    step = 0.05
    while clock.now < 10_000:
        clock.now += step
        if timer.is_due():
            written.append(clock.now)
            with timer.writing():
                clock.now += cost
            writing += cost
    assert written[0] == pytest.approx(preemptible.SECONDS, abs=2 * step)
    assert writing / clock.now <= 0.05
    gaps = [later - earlier for earlier, later in itertools.pairwise(written)]
    # at most what the two bounds ask for, a step and what writing takes
    assert max(gaps) <= max(preemptible.SECONDS, 25 * cost) + cost + 2 * step


class Preempted(Exception):
    """The machine is taken away."""


def train_in_lives(specs, digits, checkpoint, life, step_seconds, monkeypatch):
    """Train where each start lives for `life` seconds of a clock and writing takes half a second.

    Returns: the histories, how many starts it took, and what share of the time went into writing.
    """
    clock, writing, ends = Clock(), 0.0, 0.0
    write = fleet.checkpoints.write

    def pass_by(seconds):
        if clock.now + seconds > ends:
            clock.now = ends
            raise Preempted
        clock.now += seconds

    def write_slowly(path, content):
        nonlocal writing
        pass_by(0.5)  # a file is written whole or not at all
        writing += 0.5
        write(path, content)

    class Slow(preemptible.PreemptibleFleet):
        def batch(self, *rows):
            pass_by(step_seconds)
            return super().batch(*rows)

    monkeypatch.setattr(fleet.checkpoints, "write", write_slowly)
    for starts in itertools.count(1):
        assert starts < 200, "no progress"
        ends = clock.now + life
        try:
            trained = Slow(specs, digits, CPU, clock=clock).train(lambda epochs: None, checkpoint)
            return [one.history for one in trained], starts, writing / clock.now
        except Preempted:
            pass


@pytest.mark.parametrize(
    "spec",
    [
        a_cnn_spec(epochs=2, evaluate_at=(1, 2), augment="crop-flip"),
        a_resnet_spec(),
        a_cnn_spec(validation_size=30, best_checkpoint=True),
    ],
    ids=["stacked", "listed", "best checkpoint"],
)
def test_a_machine_that_lives_for_half_a_minute_ends_with_the_same_bits(
    digits, tmp_path, monkeypatch, spec
):
    specs = [spec, dataclasses.replace(spec, seed=9, p=0.5, lr=0.01)]
    undisturbed = [one.history for one in fleet.train(specs, digits, CPU)]
    steps = spec.epochs * -(-spec.train_size // spec.batch)
    # an epoch lasts longer than a life
    found, starts, share = train_in_lives(specs, digits, tmp_path / "a.pt", 30, 11, monkeypatch)
    assert found == undisturbed
    assert steps * 11 / 30 < starts <= steps + 1 and share <= 0.05  # every life goes further


def test_an_undisturbed_training_writes_little_and_needs_no_file(digits, tmp_path, monkeypatch):
    spec = a_spec(epochs=100, evaluate_at=(100,))
    undisturbed = fleet.train([spec], digits, CPU)[0].history
    found, starts, share = train_in_lives([spec], digits, tmp_path / "a.pt", 1e9, 1, monkeypatch)
    assert found == [undisturbed] and starts == 1 and 0.01 < share <= 0.05
    assert preemptible.train([spec], digits, CPU)[0].history == undisturbed


def test_a_checkpoint_of_other_networks_is_passed_over(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(preemptible, "SECONDS", 0)
    spec, path = a_cnn_spec(), tmp_path / "a.pt"
    preemptible.train([a_cnn_spec(widths=(4, 6, 15))], digits, CPU, checkpoint=path)
    reports = []
    found = preemptible.train([spec], digits, CPU, reports.append, path)[0].history
    assert path.exists() and reports == [1] * spec.epochs
    assert found == fleet.train([spec], digits, CPU)[0].history


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_kills_within_an_epoch_lose_little(tmp_path, shelf, monkeypatch):
    """An epoch of 600 steps in lives that end by SIGKILL soon after they have gone further."""
    monkeypatch.setattr(preemptible, "SECONDS", 0.02)
    spec, moments = a_spec(train_size=1200, batch=2, epochs=1, evaluate_at=(1,)), random.Random(0)
    undisturbed = execute.results([spec], "cpu", store.Store(tmp_path / "undisturbed"))
    batch = fleet.Fleet.batch

    def request():
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
            execute.results([spec], "cpu", shelf)

    def slow_batch(self, *rows):
        time.sleep(0.002)
        return batch(self, *rows)

    monkeypatch.setattr(fleet.Fleet, "batch", slow_batch)
    path, done = shelf.unfinished([spec], "cpu"), [0]
    for _ in range(5):
        child, before = forked(request), store._identity(path)
        child.start()
        while child.is_alive() and store._identity(path) in (None, before):
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.1))
        child.kill()
        child.join()
        if not path.exists():  # it had finished
            break
        done.append(int(checkpoint.read(path)["state"][-2]))
    assert len(done) > 2 and done == sorted(set(done)), done  # every life went further
    assert numbers(execute.results([spec], "cpu", shelf)).equals(numbers(undisturbed))
