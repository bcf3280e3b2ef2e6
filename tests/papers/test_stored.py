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
        assert row[f"zhou {metric}"] == value
    assert row.means_norm == last["means_norm"] and row.W_norm == last["W_norm"]
    assert np.isfinite(table.filter(like=" NC")).all(axis=None)
