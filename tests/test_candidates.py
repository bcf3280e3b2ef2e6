"""The benchmark's candidates for a GPU train what `replicas.Listed` trains; their streams fork and
join.
"""

import contextlib
import copy
import dataclasses
import functools
import importlib
import itertools
import sys
from unittest import mock

import numpy as np
import pytest
import torch
from conftest import ROOT
from helpers import a_cnn_spec
from torch import nn

from lsnc_core import data, labels, models
from lsnc_core.errors import UsageError
from lsnc_core.runs import fleet, prepare, replicas

sys.path.insert(0, str(ROOT / "benchmarks"))
candidates, cases = (importlib.import_module(name) for name in ("candidates", "cases"))

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SPEC = a_cnn_spec(lr=0.01, batch=20, epochs=3, evaluate_at=(1, 3), clip=0.5)
SPECS = {
    "cnn": {},
    "cnn with batch norm": {"batch_norm": True, "feature_norm": True},
    "lenet": {"model": "lenet", "widths": (4, 6, 16), "data": "benchmarks/random_images.py"},
    "resnet18": {"model": "resnet18", "widths": (2,)},
    "resnet18 with normed features": {"model": "resnet18", "widths": (4,), "feature_norm": True},
}
NETWORKS = {
    "cnn": ((1, 14, 13), lambda shape: models.cnn(shape, 7, (4, 6, 11))),
    "cnn with batch norm": (
        (1, 14, 13),
        lambda shape: models.cnn(shape, 7, (4, 6, 11), batch_norm=True, feature_norm=True),
    ),
    "lenet": ((2, 17, 16), lambda shape: models.lenet(shape, 7, (4, 6, 11))),
    "resnet18": ((3, 9, 8), lambda shape: models.resnet18(shape, 7, (2,))),
    "resnet18 with normed features": (
        (1, 8, 8),
        lambda shape: models.resnet18(shape, 7, (4,), feature_norm=True),
    ),
}
OTHERS = [kind for kind in cases.KINDS if kind not in ("fleet", "listed")]
# without a CUDA device there are no streams: those of `Streamed` would be compared with themselves
ON_CPU = [kind for kind in OTHERS if "streamed" not in kind]
DEVICES = [CPU, pytest.param(CUDA, marks=needs_cuda)]


def three_specs(**changes):
    """Three networks that differ in all that may differ."""
    spec = dataclasses.replace(SPEC, **changes)
    other = dataclasses.replace(
        spec, seed=5, a=0.9, p=0.5, lr=0.004, weight_decay=0.05, lambda_H=1e-3
    )
    return [
        spec,
        other,
        dataclasses.replace(spec, seed=6, loss="focal", lr=0.02, lambda_W=0.1, lambda_b=0.3),
    ]


def trained(kind, specs, device):
    with mock.patch.multiple(fleet, **cases.KINDS[kind]):
        return fleet.train(specs, data.load(specs[0].data), device)


def losses_of(row):
    """Of a measured epoch what moves smoothly with the weights: an accuracy jumps by an image at a
    time.
    """
    return {name: value for name, value in row.items() if name.endswith("loss")}


@pytest.fixture(scope="module", autouse=True)
def outputs(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LSNC_OUTPUTS", str(tmp_path_factory.mktemp("outputs")))
        yield


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


def statistics_of(buffers):
    """Batch norm's running statistics, without its counts of batches."""
    return [buffer for buffer in buffers if buffer.ndim]


@pytest.mark.parametrize("device", DEVICES, ids=str)
@pytest.mark.parametrize("kind", [candidates.Streamed, candidates.Fused, candidates.FusedNchw])
@pytest.mark.parametrize("shape, make", NETWORKS.values(), ids=NETWORKS)
def test_candidates_are_the_modules(monkeypatch, kind, shape, make, device):
    networks = [
        models.initialise(make(shape), labels.generator(seed, "weights")).double().to(device)
        for seed in range(3)
    ]
    held, draws = kind(copy.deepcopy(networks), shape, device), torch.Generator().manual_seed(0)
    if kind is candidates.Streamed and device is CPU:
        fakes = FakeStreams(monkeypatch)
        held.streams = [fakes.named(name) for name in "ab"]
    for mode in (True, True, False):
        held.train(mode)
        x = (2 * torch.randn(6, *shape, generator=draws, dtype=torch.float64) + 1).to(device)
        for network, h, q in zip(networks, *held.forward(x), strict=True):
            network.train(mode)
            expected = network.features(x)
            torch.testing.assert_close(h, expected, rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(q, network.classifier(expected), rtol=1e-10, atol=1e-10)
    running = [statistics_of(network.buffers()) for network in networks]
    if kind is candidates.Streamed:
        expected = list(itertools.chain(*running))
    else:
        expected = [torch.stack(column) for column in zip(*running, strict=True)]
    for found, wanted in zip(statistics_of(held.buffers), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
    for found, name in zip(held.classifier(), ("weight", "bias"), strict=True):
        assert not found.requires_grad
        assert torch.equal(
            found, torch.stack([getattr(network.classifier, name).detach() for network in networks])
        )
    assert all(part.is_leaf and part.requires_grad for part in held.parameters)


@pytest.mark.parametrize("changes", SPECS.values(), ids=SPECS)
def test_candidates_train_what_networks_in_turn_train(steps, changes):
    specs = three_specs(**changes)
    expected = trained("listed", specs, CPU)
    expected_steps = torch.stack(steps)
    for kind in ON_CPU:
        steps.clear()
        found = trained(kind, specs, CPU)
        np.testing.assert_allclose(
            torch.stack(steps)[:5], expected_steps[:5], rtol=1e-5, err_msg=kind
        )
        for one, other in zip(found, expected, strict=True):
            for row, numbers in zip(one.history, other.history, strict=True):
                close = 1e-2 if "resnet18" in specs[0].model else 1e-4
                assert losses_of(row) == pytest.approx(losses_of(numbers), rel=close), kind
            for name in ("weight", "bias"):
                np.testing.assert_allclose(
                    one.tensors[0][name], other.tensors[0][name], rtol=1e-3, atol=1e-4, err_msg=kind
                )


@pytest.mark.parametrize(
    "features, sentence",
    [
        ([nn.Flatten(), nn.Linear(4, 4)], "needs a convolution as the first layer, got Flatten"),
        ([nn.Conv2d(2, 4, 1, groups=2)], "cannot train the layer Conv2d"),
        ([nn.Conv2d(2, 4, 1, padding=1, padding_mode="reflect")], "cannot train the layer Conv2d"),
        (
            [nn.Conv2d(2, 4, 1), nn.Sequential(nn.ReLU(), nn.Dropout())],
            "cannot train the layer Dropout",
        ),
        (
            [nn.Conv2d(2, 4, 1), nn.BatchNorm2d(4, affine=False)],
            "cannot train the layer BatchNorm2d",
        ),
        (
            [nn.Conv2d(2, 4, 1), nn.Flatten(), nn.Linear(4, 4, bias=False)],
            "cannot train the layer Linear",
        ),
    ],
)
def test_layers_that_cannot_be_fused_are_refused(features, sentence):
    network = models.Network(nn.Sequential(*features), nn.Linear(4, 2))
    with pytest.raises(UsageError, match=sentence) as caught:
        candidates.Fused([network, network], (2, 1, 1), CPU)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


@pytest.mark.parametrize("fails", [None, 2])
def test_streams_fork_before_and_join_after_all_passes(monkeypatch, fails):
    networks = [
        prepare.build(dataclasses.replace(SPEC, seed=seed), (1, 8, 8), 10) for seed in range(5)
    ]
    held = candidates.Streamed(networks, (1, 8, 8), CPU)
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
        candidates.sgd_step(*here, views[0], some, 0.9)
        fleet.sgd_step(*there, spread[0], some and spread[1], 0.9)
        for one, other in zip(here[0] + here[2], there[0] + there[2], strict=True):
            torch.testing.assert_close(one, other)


# on a CUDA device


@needs_cuda
@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("changes", SPECS.values(), ids=SPECS)
def test_candidates_train_the_same_in_recorded_steps(monkeypatch, changes, kind):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    specs = three_specs(
        **changes, batch=10, evaluate_at=(1, 2, 3)
    )  # six steps an epoch: recorded in the first
    expected = trained("listed", specs, CUDA)
    found = trained(kind, specs, CUDA)
    for one, other in zip(found, expected, strict=True):
        for row, numbers in zip(one.history, other.history, strict=True):
            close = 0.1 if "resnet18" in specs[0].model else 1e-3
            assert losses_of(row) == pytest.approx(losses_of(numbers), rel=close), row["epoch"]
        np.testing.assert_allclose(
            one.tensors[0]["weight"], other.tensors[0]["weight"], rtol=1e-2, atol=1e-3
        )


@needs_cuda
@pytest.mark.parametrize("changes", SPECS.values(), ids=SPECS)
def test_streams_change_no_bit(monkeypatch, changes):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    specs = three_specs(**changes, batch=10)
    torch.use_deterministic_algorithms(True)
    try:
        streamed, expected = (trained(kind, specs, CUDA) for kind in ("streamed", "listed"))
    finally:
        torch.use_deterministic_algorithms(False)
    assert [one.history for one in streamed] == [other.history for other in expected]


@needs_cuda
@pytest.mark.parametrize("kind", OTHERS)
def test_candidates_train_in_bfloat16(kind):
    spec = dataclasses.replace(
        SPEC,
        model="resnet18",
        widths=(8,),
        precision="bfloat16",
        epochs=2,
        evaluate_at=(1, 2),
        batch=10,
    )
    for one, other in zip(
        *(
            trained(way, [spec, dataclasses.replace(spec, seed=4)], CUDA)
            for way in (kind, "listed")
        ),
        strict=True,
    ):
        assert losses_of(one.history[0]) == pytest.approx(losses_of(other.history[0]), rel=0.2)


@needs_cuda
def test_there_are_few_streams():
    networks = [
        prepare.build(dataclasses.replace(SPEC, seed=seed), (1, 8, 8), 10) for seed in range(10)
    ]
    for count, streams in ((3, 3), (10, candidates.STREAMS)):
        held = candidates.Streamed(copy.deepcopy(networks[:count]), (1, 8, 8), CUDA)
        assert len(held.streams) == len({stream.cuda_stream for stream in held.streams}) == streams
        x = torch.randn(5, 1, 8, 8, device=CUDA)
        for found, wanted in zip(held.forward(x), replicas.Listed.forward(held, x), strict=True):
            torch.testing.assert_close(found, wanted)
