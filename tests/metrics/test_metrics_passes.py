"""Batches in every container, tokens and pixels, hidden layers, compiled parts, user's defaults."""

import sys
import warnings
from collections import UserDict

import numpy as np
import pytest
import torch
from metric_samples import D, K, N, samples, values
from torch import nn

from lsnc_core.errors import UsageError
from lsnc_core.metrics import (
    CollapseHistory,
    NeuralCollapse,
    calibration_scores,
    energy,
    fit_temperature,
    measure,
    nc1_by_correctness,
    neural_collapse,
    ood_auroc,
    predict,
    reliability,
)
from lsnc_core.metrics.intervals import Samples, metric_intervals

X, Y = samples()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.fc = nn.Linear(D, 6), nn.Linear(6, K)

    def forward(self, x):
        return self.fc(self.body(x).relu())


class ByName(Net):
    def forward(self, left, right, scale=1.0):
        return super().forward(scale * torch.cat([left, right], 1))


class Bundle:
    """An object with `.to`, as graph and text libraries have."""

    def __init__(self, x):
        self.x = x

    def to(self, device):
        return Bundle(self.x.to(device))


class OfBundles(Net):
    def forward(self, bundle):
        return super().forward(bundle.x)


PLAIN = values(measure(Net(), [(X, Y)]))
PARTS = list(zip(X.split(25), Y.split(25), strict=True))


def each(make):
    """Batches of 25 samples."""
    return [make(x, y) for x, y in PARTS]


LEFT_RIGHT = {"left": X[:, :3], "right": X[:, 3:]}
LOADERS = {
    "lists": (Net(), each(lambda x, y: [x, y]), {}),
    "more than labels": (Net(), each(lambda x, y: (x, y, ["names"])), {}),
    "arrays": (Net(), each(lambda x, y: (x.numpy(), y.numpy())), {}),
    "labels of uint16": (Net(), each(lambda x, y: (x, y.numpy().astype(np.uint16))), {}),
    "labels of int8": (Net(), each(lambda x, y: (x, y.to(torch.int8))), {}),
    "labels in a list": (Net(), each(lambda x, y: (x, y.tolist())), {}),
    "labels in a column": (Net(), each(lambda x, y: (x, y[:, None])), {}),
    "whole numbers as floats": (Net(), each(lambda x, y: (x, y.double())), {}),
    "a mapping": (Net(), each(lambda x, y: {"image": x, "label": y}), {}),
    "a mapping of another kind": (Net(), each(lambda x, y: UserDict(pixels=x, labels=y)), {}),
    "keys by name": (
        Net(),
        each(lambda x, y: {"index": y, "x": x, "target": y}),
        {"inputs": "x", "labels": "target"},
    ),
    "inputs by name": (
        ByName(),
        each(lambda x, y: {"left": x[:, :3], "right": x[:, 3:], "labels": y}),
        {},
    ),
    "chosen inputs by name": (
        ByName(),
        each(lambda x, y: {"left": x[:, :3], "right": x[:, 3:], "id": y, "labels": y}),
        {"inputs": ["left", "right"]},
    ),
    "a mapping as inputs": (
        ByName(),
        each(lambda x, y: (UserDict(left=x[:, :3], right=x[:, 3:].numpy()), y)),
        {},
    ),
    "a tuple as inputs": (ByName(), each(lambda x, y: ((x[:, :3], x[:, 3:]), y)), {}),
    "objects": (OfBundles(), each(lambda x, y: (Bundle(x), y)), {}),
}


@pytest.mark.parametrize("model, loader, names", LOADERS.values(), ids=LOADERS)
def test_batches_in_every_container(model, loader, names):
    assert values(measure(model, loader, **names)) == pytest.approx(PLAIN, rel=1e-5, abs=1e-7)
    assert torch.equal(predict(model, loader, **names)[1], Y)


def test_a_generator_is_read_once():
    for keep in (2.0, 0):
        found = values(measure(Net(), iter(PARTS), keep_gib=keep))
        assert found == pytest.approx(PLAIN, rel=1e-5, abs=1e-7)
    with pytest.raises(UsageError, match="of 'data' can be read only once, but every record"):
        CollapseHistory(Net(), iter(PARTS))


BAD = {
    "a batch has no 'labels': name its labels .* 'image', 'class'": [{"image": X, "class": Y}],
    "a batch has no inputs: name its inputs": [{"labels": Y}],
    "class numbers, one per sample, not NoneType|not None": [(X, None)],
    "class numbers, one per sample, not list of str": [(X, ["cat"] * N)],
    "class numbers, one per sample, not torch.bool": [(X, Y > 1)],
    "not fractions: for soft labels": [(X, torch.full((N,), 0.5))],
    r"\(60, 4\) and the labels \(60, 4\)": [(X, torch.eye(K)[Y])],
    r"\(60, 4\), but the batch has 59 labels": [(X, Y[1:])],
    "cannot be iterated over": 3,
    r"must give batches \(inputs, labels\), not dict": None,
    "must lie in 0..3 for 4 classes, but one of them is -1": [(X, Y - 1)],
}


@pytest.mark.parametrize("sentence, loader", BAD.items(), ids=BAD)
def test_what_cannot_be_read_is_refused_in_a_sentence(sentence, loader):
    if loader is None:
        with pytest.raises(UsageError, match=r"inputs= and labels= name parts of .* mappings"):
            measure(Net(), PARTS, inputs="x")
    else:
        with pytest.raises(UsageError, match=sentence):
            measure(Net(), loader)


# tokens and pixels


class Pixels(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.fc = nn.Conv2d(D, 6, 1), nn.Conv2d(6, K, 1)

    def forward(self, x):
        return self.fc(self.body(x).relu())


def test_every_token_counts_as_a_sample():
    x, y = X.reshape(12, 5, D), Y.reshape(12, 5)
    expected = values(measure(Net(), [(X, Y)]))
    assert values(measure(Net(), [(x, y)], tokens=True)) == pytest.approx(expected, rel=1e-5)
    with pytest.raises(UsageError, match="with tokens=True each of them counts"):
        measure(Net(), [(x, y)])
    with pytest.raises(UsageError, match=r"\(12, 5, 4\) and the labels \(12,\)"):
        measure(Net(), [(x, y[:, 0])], tokens=True)


def test_padding_is_left_out():
    x, y = X.reshape(12, 5, D), Y.reshape(12, 5).clone()
    y[:, 3:] = -100
    expected = values(
        measure(
            Net(),
            [
                (
                    X[Y >= 0].reshape(12, 5, D)[:, :3].reshape(-1, D),
                    Y.reshape(12, 5)[:, :3].reshape(-1),
                )
            ],
        )
    )
    found = measure(Net(), [(x, y)], tokens=True)
    assert values(found) == pytest.approx(expected, rel=1e-5)
    logits, labels = predict(Net(), [(x, y)], tokens=True)
    assert logits.shape == (36, K) and labels.min() == 0


def test_every_pixel_counts_as_a_sample():
    torch.manual_seed(1)
    model, y = Pixels(), torch.arange(3 * 4 * 5).reshape(3, 4, 5) % K
    x = X.reshape(3, 4, 5, D).movedim(-1, 1)
    with torch.no_grad():
        features, logits = model.body(x).relu(), model(x)
    flat, scores = features.movedim(1, -1).reshape(-1, 6), logits.movedim(1, -1).reshape(-1, K)
    W = model.fc.weight.detach().flatten(1)
    expected = neural_collapse(flat, y.reshape(-1), W, model.fc.bias).values
    expected |= calibration_scores(scores, y.reshape(-1))
    found = values(measure(model, [(x, y)], tokens=True))
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-4, abs=1e-6)


# hidden layers


class Deep(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(2, 5, 1)
        self.sequence = nn.Linear(5, 7)
        self.block = nn.LSTM(7, 6, batch_first=True)
        self.fc = nn.Linear(6, K)

    def forward(self, x):
        h = self.conv(x.reshape(-1, 2, 2, 2)).relu().flatten(2).mT  # (B, 4, 5)
        h, _ = self.block(self.sequence(h))
        return self.fc(h[:, -1])


def test_hidden_layers_are_averaged_over_positions():
    model = Deep()
    with torch.no_grad():
        grid = model.conv(X.reshape(-1, 2, 2, 2))
        steps = model.sequence(grid.relu().flatten(2).mT)
        states, _ = model.block(steps)
    expected = {"conv": grid.mean((2, 3)), "sequence": steps.mean(1), "block": states.mean(1)}
    for keep in (2.0, 0):
        measured = measure(model, PARTS, layers=list(expected), keep_gib=keep)
        plain = values(measure(model, PARTS), "fc")
        assert values(measured, "fc") == pytest.approx(plain, rel=1e-5)
        for name, features in expected.items():
            collapse = neural_collapse(features, Y, None).values
            assert values(measured, name) == pytest.approx(dict(collapse), rel=1e-4, abs=1e-6)
    assert list(measured.summary().index) == [
        ("data", name) for name in ("fc", "conv", "sequence", "block")
    ]


class Residual(nn.Module):
    """Layers whose outputs are overwritten in place, as in torchvision's networks."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm, self.second = nn.Linear(D, 6), nn.BatchNorm1d(6), nn.Linear(6, 6)
        self.relu, self.fc = nn.ReLU(inplace=True), nn.Linear(6, K)

    def forward(self, x):
        h = self.relu(self.norm(self.first(x)))
        z = self.second(h)
        z += h
        return self.fc(self.relu(z))


def test_hidden_layers_that_are_overwritten_are_measured_as_they_were():
    model = Residual().eval()
    with torch.no_grad():
        normed = model.norm(model.first(X))
        expected = {"norm": normed, "second": model.second(normed.clamp(min=0))}
    for keep in (2.0, 0):
        measured = measure(model, PARTS, layers=list(expected), keep_gib=keep)
        for name, features in expected.items():
            collapse = neural_collapse(features, Y, None).values
            assert values(measured, name) == pytest.approx(dict(collapse), rel=1e-4, abs=1e-6)


def test_a_model_without_a_classifier_has_hidden_layers():
    body = nn.Sequential(nn.Linear(D, 6), nn.ReLU())
    with torch.no_grad():
        expected = neural_collapse(body(X), Y, None).values
    measured = measure(body, PARTS, layers=["1"])
    assert values(measured, "1") == pytest.approx(dict(expected), rel=1e-4, abs=1e-6)
    assert set(measured.table.layer) == {"1"} and "not W h + b of one layer" in str(measured)
    with pytest.raises(UsageError, match="can be read only once, but without a classifier"):
        measure(body, iter(PARTS), layers=["1"])


# compiled parts, the user's defaults


class Outer(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x)


@pytest.mark.skipif(not hasattr(torch.compiler, "set_stance"), reason="needs torch 2.6")
@pytest.mark.parametrize("part", ["all", "inner", "head"])
def test_compiled_models_are_measured_as_they_would_be_uncompiled(part):
    net = Net()
    if part == "head":
        net.fc = torch.compile(net.fc, backend="eager")
        model = net
    else:
        compiled = torch.compile(net, backend="eager")
        model = Outer(compiled) if part == "inner" else compiled
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own about its compiler
        model(X)  # compiled before
    assert values(measure(model, PARTS)) == pytest.approx(PLAIN, rel=1e-5, abs=1e-7)


def in_memory():
    """What the functions for features and logits in memory give."""
    net = Net()
    with torch.no_grad():
        h = net.body(X).relu()
        z = net.fc(h)
    W, b = net.fc.weight.detach(), net.fc.bias.detach()
    one_pass = NeuralCollapse(K, 6)
    one_pass.update(h, Y)
    found = dict(neural_collapse(h, Y, W, b).values) | calibration_scores(z, Y)
    found |= {f"one pass {name}": value for name, value in one_pass.compute(W, b).items()}
    found |= nc1_by_correctness(h, z.argmax(1), Y, K)
    found["temperature"] = fit_temperature(z, Y).value
    found["temperature by ECE"] = fit_temperature(z, Y, by="ece").value
    found["out of distribution"] = ood_auroc(energy(z), energy(z + 1))
    diagram = reliability(z, Y, equal_mass=True)
    found |= {f"accuracy {k}": float(value) for k, value in enumerate(diagram.accuracy)}
    intervals = metric_intervals(Samples(h, z, Y, W, b))
    found |= {f"high {name}": interval.high or 0.0 for name, interval in intervals.items()}
    found |= {f"measured {name}": value for name, value in values(measure(net, PARTS)).items()}
    return found


def test_the_users_default_device_and_type_do_not_matter(monkeypatch):
    expected = in_memory()
    usual = Net
    monkeypatch.setattr(sys.modules[__name__], "Net", lambda: network)
    network = usual()
    torch.set_default_device("meta")
    torch.set_default_dtype(torch.float64)
    try:
        found = in_memory()
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)
    assert found == pytest.approx(expected, rel=1e-6, nan_ok=True)
