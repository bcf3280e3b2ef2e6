"""The GPU's path: the logic of recorded steps everywhere, the rest where there is a CUDA device."""

import contextlib
import dataclasses

import numpy as np
import pytest
import torch

from lsnc_core import data
from lsnc_core.runs import RunSpec, fleet, graphs

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SPEC = RunSpec(
    data="digits",
    train_size=60,
    test_size=50,
    pool=1,
    model="cnn",
    widths=(4, 6, 16),
    a=0.7,
    p=0.8,
    lr=0.05,
    momentum=0.9,
    weight_decay=0.0,
    batch=13,
    epochs=6,
    evaluate_at=(1, 6),
    seed=3,
    order_seed=11,
)
SPECS = {
    "stacked": SPEC,
    "listed": dataclasses.replace(SPEC, model="resnet18", widths=(4,), lr=0.02),
}


class FakeGraph:
    """Records calls of the step while it is captured; `replay` makes them."""

    capturing = None

    def __init__(self):
        self.calls = []

    def replay(self):
        for effect, rows in self.calls:
            effect(rows)


class FakeStream:
    def wait_stream(self, other):
        pass


@contextlib.contextmanager
def fake_capture(graph):
    FakeGraph.capturing = graph
    yield
    FakeGraph.capturing = None


def test_a_recorded_step_is_taken_once_a_call_with_the_rows_of_that_call(monkeypatch):
    for name, value in (("Stream", FakeStream), ("current_stream", FakeStream), ("CUDAGraph", FakeGraph), ("graph", fake_capture)):
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    taken = []

    def effect(rows):
        taken.append(rows.tolist())

    def step(rows):
        if FakeGraph.capturing is None:
            effect(rows)
        else:  # as on a GPU: what is captured does not run
            FakeGraph.capturing.calls.append((effect, rows))

    graphed = graphs.Graphed(step)
    batches = [torch.tensor(rows) for rows in ([1, 2], [3, 4], [9], [5, 6], [7, 8], [1, 3], [8], [2, 5], [4])]
    for rows in batches:
        graphed(rows)
    assert taken == [rows.tolist() for rows in batches]
    assert set(graphed.recorded) == {2} and graphed.calls == {2: graphs.WARM_UP, 1: 3}
    assert batches[4].tolist() == [7, 8]  # the caller's rows are left alone


@needs_cuda
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_recorded_steps_give_what_eager_steps_give(monkeypatch, spec):
    company = [spec, dataclasses.replace(spec, seed=4, p=0.5, lr=0.03, loss="focal")]
    recorded = fleet.train(company, data.load("digits"), CUDA)
    monkeypatch.setattr(fleet, "Graphed", lambda step: step)
    eager = fleet.train(company, data.load("digits"), CUDA)
    for one, other in zip(recorded, eager, strict=True):
        for row, expected in zip(one.history, other.history, strict=True):
            assert row == pytest.approx(expected, rel=1e-3)


@needs_cuda
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_gpu_trains_what_a_cpu_trains(monkeypatch, spec, precision):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    company = [dataclasses.replace(spec, precision=precision, seed=seed) for seed in (3, 4)]
    tolerance = {"float32": 1e-2, "bfloat16": 0.2}[precision]
    for here, there in zip(*(fleet.train(company, data.load("digits"), device) for device in (CPU, CUDA)), strict=True):
        assert there.history[0] == pytest.approx(here.history[0], rel=tolerance, abs=tolerance)
        assert [{name: value.shape for name, value in row.items()} for row in there.tensors] == [
            {name: value.shape for name, value in row.items()} for row in here.tensors
        ]
        np.testing.assert_array_equal(there.tensors[-1]["test_counts"], here.tensors[-1]["test_counts"])


@needs_cuda
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_deterministic_training_repeats_to_the_last_bit(monkeypatch, spec):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    try:
        first, second = (fleet.train([spec], data.load("digits"), CUDA)[0] for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    assert first.history == second.history
