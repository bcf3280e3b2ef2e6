"""Networks side by side on a GPU: streams that fork and join, and the update of many tensors."""

import contextlib
import copy
import dataclasses
import functools
from unittest import mock

import pytest
import torch
from helpers import a_cnn_spec, a_resnet_spec

from lsnc_core import data
from lsnc_core.runs import fleet, prepare, replicas, sgd

pytestmark = pytest.mark.usefixtures("own_outputs")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SPEC = a_cnn_spec(lr=0.01, batch=10, epochs=3, evaluate_at=(1, 2, 3), clip=0.5)
SPECS = {
    "cnn with batch norm": {"batch_norm": True, "feature_norm": True},
    "lenet": {"model": "lenet", "widths": (4, 6, 16), "data": "benchmarks/random_images.py"},
    "resnet18": {"model": "resnet18", "widths": (2,)},
    "resnet18 with normed features": {"model": "resnet18", "widths": (4,), "feature_norm": True},
}


def three_specs(**changes):
    """Three networks that differ in all that may differ."""
    spec = dataclasses.replace(SPEC, **changes)
    return [
        spec,
        dataclasses.replace(spec, seed=5, a=0.9, p=0.5, lr=4e-3, weight_decay=0.05, lambda_H=1e-3),
        dataclasses.replace(spec, seed=6, loss="focal", lr=0.02, lambda_W=0.1, lambda_b=0.3),
    ]


def trained(specs, streams):
    with mock.patch.object(replicas, "STREAMS", streams):
        return fleet.train(specs, data.load(specs[0].data), CUDA)


class FakeStreams:
    """Streams that only write down what happens: who waits for whom, and on which one something
    runs.
    """

    def __init__(self, monkeypatch):
        self.happened, self.current = [], [self.named("here")]
        monkeypatch.setattr(torch.cuda, "current_stream", lambda: self.current[-1])
        monkeypatch.setattr(torch.cuda, "stream", self.entered)

    def named(self, name):
        return mock.Mock(
            wait_stream=lambda other: self.happened.append((name, "waits for", other.label)),
            label=name,
        )

    @contextlib.contextmanager
    def entered(self, stream):
        self.current.append(stream)
        try:
            yield
        finally:
            self.current.pop()

    def runs(self, number):
        self.happened.append((self.current[-1].label, "runs", number))


@pytest.mark.parametrize("fails", [None, 2])
def test_streams_fork_before_and_join_after_all_passes(monkeypatch, fails):
    networks = [
        prepare.build(dataclasses.replace(SPEC, seed=seed), (1, 8, 8), 10) for seed in range(5)
    ]
    held = replicas.Listed(networks, (1, 8, 8), CPU)
    assert held.streams == []
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = held.forward(x)
    fakes = FakeStreams(monkeypatch)
    held.streams = [fakes.named(name) for name in "abc"]

    def seen(number):
        fakes.runs(number)
        if number == fails:
            raise torch.OutOfMemoryError("no more")

    for number, network in enumerate(networks):
        network.features.register_forward_hook(lambda *_, number=number: seen(number))
    if fails is None:
        for found, wanted in zip(held.forward(x), expected, strict=True):
            assert torch.equal(found, wanted)
    else:
        with pytest.raises(torch.OutOfMemoryError):
            held.forward(x)
    ran = [(name, "runs", number) for number, name in enumerate("abcab")]
    forks = [(name, "waits for", "here") for name in "abc"]
    joins = [("here", "waits for", name) for name in "abc"]
    assert fakes.happened == forks + ran[: None if fails is None else fails + 1] + joins


def test_the_update_of_many_tensors_takes_gradients_of_any_layout():
    draw = functools.partial(torch.randn, generator=torch.Generator().manual_seed(0))
    parameters = [draw(shape) for shape in ((3, 2, 1, 1), (4,), (3, 2, 1, 1), (4,))]
    velocities = [draw(part.shape) for part in parameters]
    gradients = [
        draw(part.shape).contiguous(
            memory_format=torch.channels_last if part.ndim == 4 else torch.preserve_format
        )
        for part in parameters
    ]
    gradients[0] = draw(1, 1, 2, 3).permute(3, 2, 1, 0)
    rates, decays = torch.tensor([0.1, 0.3]), torch.tensor([0.5, 0.0])
    spread = [values.repeat_interleave(2).unbind() for values in (rates, decays)]
    views = [(values[0], values[0], values[1], values[1]) for values in (rates, decays)]
    for some in (views[1], None):
        here, there = (copy.deepcopy((parameters, gradients, velocities)) for _ in range(2))
        sgd.sgd_step_side_by_side(*here, views[0], some, 0.9)
        sgd.sgd_step(*there, spread[0], some and spread[1], 0.9)
        for one, other in zip(here[0] + here[2], there[0] + there[2], strict=True):
            torch.testing.assert_close(one, other)


def test_on_a_cpu_networks_side_by_side_are_updated_as_all_others():
    assert fleet.Fleet([a_resnet_spec()], data.load("digits"), CPU).update is sgd.sgd_step


# on a CUDA device


@needs_cuda
@pytest.mark.parametrize("changes", SPECS.values(), ids=SPECS)
def test_streams_change_no_bit(monkeypatch, changes):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    specs = three_specs(**changes)
    torch.use_deterministic_algorithms(True)
    try:
        streamed, expected = trained(specs, 8), trained(specs, 1)
    finally:
        torch.use_deterministic_algorithms(False)
    assert [one.history for one in streamed] == [other.history for other in expected]


@needs_cuda
def test_there_are_few_streams():
    networks = [
        prepare.build(dataclasses.replace(SPEC, seed=seed), (1, 8, 8), 10) for seed in range(10)
    ]
    x = torch.randn(5, 1, 8, 8, device=CUDA)
    for count, streams in ((3, 3), (10, replicas.STREAMS)):
        held = replicas.Listed(copy.deepcopy(networks[:count]), (1, 8, 8), CUDA)
        assert len(held.streams) == len({stream.cuda_stream for stream in held.streams}) == streams
        found, held.streams = held.forward(x), []
        for one, other in zip(found, held.forward(x), strict=True):
            torch.testing.assert_close(one, other)


@needs_cuda
def test_the_update_follows_from_device_and_networks():
    held = fleet.Fleet([a_resnet_spec()], data.load("digits"), CUDA)
    assert held.update is sgd.sgd_step_side_by_side
    assert fleet.Fleet([a_cnn_spec()], data.load("digits"), CUDA).update is sgd.sgd_step
