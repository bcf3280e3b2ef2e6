"""Metrics from what the store keeps, against the same metrics from the features themselves."""

import contextlib
import dataclasses

import numpy as np
import pytest
import torch

from lsnc_core import data
from lsnc_core.metrics import neural_collapse
from lsnc_core.papers import stored
from lsnc_core.runs import RunSpec, fleet

SPEC = RunSpec(
    data="digits",
    train_size=200,
    test_size=200,
    pool=1,
    model="mlp",
    widths=(24,),
    a=0.9,
    p=0.9,
    lr=0.05,
    momentum=0.9,
    weight_decay=1e-3,
    batch=20,
    epochs=6,
    evaluate_at=(1, 6),
    seed=3,
    order_seed=11,
    keep_at=(1, 6),
    validation_size=100,
)
LONGER = {"epochs": 40, "evaluate_at": (1, 40), "keep_at": (1, 40), "a": 1.0}


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Trains the spec with some changes; the spec and what the store would keep."""
    monkeypatch.setenv("LSNC_OUTPUTS", str(tmp_path))

    def with_changes(changes):
        spec = dataclasses.replace(SPEC, **changes)
        (trained,) = fleet.train([spec], data.load("digits"), torch.device("cpu"))
        return spec, trained.tensors

    return with_changes


@pytest.mark.parametrize("changes", [{}, {"widths": (6,)}, LONGER])
def test_stored_statistics_give_the_metrics_of_the_features(train, changes):
    spec, epochs = train(changes)
    labels = data.load("digits").test_labels[:200]
    for tensors in epochs:
        features, weight, bias = (
            torch.from_numpy(tensors[name]) for name in ("test_features", "weight", "bias")
        )
        narrow = pytest.warns(UserWarning, match="simplex")
        with narrow if spec.widths == (6,) else contextlib.nullcontext():
            expected = neural_collapse(features, labels, weight, bias).values
            values = stored.collapse_at(tensors, "test")
        for name, value in values.items():
            assert value == pytest.approx(expected[name], rel=2e-3, abs=1e-6), name


def test_the_table_of_stored_networks_has_a_key_for_each_row(train):
    spec, epochs = train({})
    table = stored.collapse_table({spec: epochs}, ("guo", "zhou"), ("train", "test"))
    assert set(table.run) == set(stored.run_names([spec]).values())
    assert not table.duplicated([*stored.KEYS, "part"]).any() and len(table) == 4
    assert set(table.epoch) == {1, 6} and set(table.part) == {"train", "test"}
    last = stored.collapse_at(epochs[-1])
    row = table[(table.epoch == 6) & (table.part == "train")].iloc[0]
    for metric, value in last.preset("zhou").items():
        assert row[f"zhou {metric}"] == pytest.approx(value, rel=1e-12)
    for name in ("means_norm", "W_norm"):
        assert row[name] == pytest.approx(last[name], rel=1e-12)
    assert np.isfinite(table.filter(like=" NC")).all(axis=None)


def epoch(seed, K=4, D=7, absent=(), level=False):
    """What the store keeps of one epoch, from features written out; and these features."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(K, D)) * 3
    labels = np.concatenate([np.arange(K), rng.integers(K, size=200)])
    labels = labels[~np.isin(labels, absent)]
    H = means[labels] + rng.normal(size=(len(labels), D))
    weight, bias = (rng.normal(size=shape).astype(np.float32) for shape in ((K, D), K))
    counts = np.bincount(labels, minlength=K)
    mu = np.stack([H[labels == k].mean(0) if counts[k] else np.zeros(D) for k in range(K)])
    deviations, kept = H - mu[labels], counts > 0
    if level:  # all means in a plane
        mu[:, 2:] = 0
        H = mu[labels] + deviations
    centred = (mu - mu[kept].mean(0)) * kept[:, None]
    within = [(deviations[labels == k] ** 2).sum() / max(1, counts[k]) for k in range(K)]
    projected = centred @ (deviations.T @ deviations / len(H)) @ centred.T
    arrays = {"counts": counts, "means": mu, "within": np.array(within), "projected": projected}
    tensors = {f"train_{name}": array for name, array in arrays.items()}
    features = torch.from_numpy(H), torch.from_numpy(labels)
    return tensors | {"weight": weight, "bias": bias}, features


@pytest.mark.parametrize("together", [1, 3 * 4 * 7, 2**20])
@pytest.mark.filterwarnings("ignore:1 of 4 classes have no samples", "ignore:no simplex ETF")
def test_many_networks_at_once_have_the_metrics_of_their_features(monkeypatch, together):
    """Networks of several shapes, one without samples of a class, one with means in a plane."""
    monkeypatch.setattr(stored, "TOGETHER", together)
    changes = [{}, {"K": 5}, {}, {"absent": (2,)}, {"level": True}, {"K": 5}, {"D": 2}, {}]
    made = [epoch(seed, **change) for seed, change in enumerate(changes)]
    found = stored.collapse_of_many([tensors for tensors, _ in made])
    for values, (tensors, (features, labels)) in zip(found, made, strict=True):
        weight, bias = (torch.from_numpy(tensors[name]) for name in ("weight", "bias"))
        expected = neural_collapse(features, labels, weight, bias).values
        for name, value in values.items():
            assert value == pytest.approx(expected[name], rel=1e-9), name
        assert values == pytest.approx(stored.collapse_at(tensors), rel=1e-12)


def test_small_matrices_are_left_to_one_thread(monkeypatch):
    seen, restore, before = [], stored._restore, torch.get_num_threads()

    def watch(*tensors):
        seen.append(torch.get_num_threads())
        return restore(*tensors)

    monkeypatch.setattr(stored, "_restore", watch)
    torch.set_num_threads(2)
    try:
        stored.collapse_of_many([epoch(seed)[0] for seed in range(3)])
        assert seen == [1] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
