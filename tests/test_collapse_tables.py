"""Metrics from what the store keeps, against the same metrics from the features themselves."""

import contextlib
import dataclasses

import numpy as np
import pytest
import torch

from lsnc_core import data
from lsnc_core.metrics import neural_collapse
from lsnc_core.papers import collapse
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


@pytest.mark.parametrize(
    "changes",
    [{}, {"widths": (6,)}, {"epochs": 40, "evaluate_at": (1, 40), "keep_at": (1, 40), "a": 1.0}],
)
def test_stored_statistics_give_the_metrics_of_the_features(tmp_path, monkeypatch, changes):
    monkeypatch.setenv("LSNC_OUTPUTS", str(tmp_path))
    spec = dataclasses.replace(SPEC, **changes)
    digits = data.load("digits")
    (trained,) = fleet.train([spec], digits, torch.device("cpu"))
    for tensors in trained.tensors:
        weight, bias = torch.from_numpy(tensors["weight"]), torch.from_numpy(tensors["bias"])
        with (
            pytest.warns(UserWarning, match="simplex")
            if spec.widths == (6,)
            else contextlib.nullcontext()
        ):
            expected = neural_collapse(
                torch.from_numpy(tensors["test_features"]), digits.test_labels[:200], weight, bias
            ).values
            found = collapse.values(tensors, "test")
        for name, value in found.items():
            assert value == pytest.approx(expected[name], rel=2e-3, abs=1e-6), name
    if spec.widths == (24,):
        rows = collapse.table(
            {spec: trained.tensors}, presets=("guo", "zhou"), parts=("train", "test")
        )
        assert len(rows) == 4 and set(rows.part) == {"train", "test"} and rows.seed.eq(3).all()
        last = collapse.values(trained.tensors[-1]).preset("zhou")
        assert rows.iloc[2]["zhou NC2"] == last["NC2"] and np.isfinite(rows.filter(like=" NC")).all(
            axis=None
        )
