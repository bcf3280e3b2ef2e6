"""What training together changes, and what it does not."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from helpers import a_cnn_spec, a_resnet_spec

from lsnc_core import labels
from lsnc_core.errors import UsageError
from lsnc_core.runs import fleet

CPU = torch.device("cpu")

SPEC = a_cnn_spec()


def train(*arguments, **named):
    """Histories alone: mappings that can be compared."""
    return [trained.history for trained in fleet.train(*arguments, **named)]


def test_resnets_that_train_together_keep_their_own_batch_norm(digits):
    specs = [a_resnet_spec(), a_resnet_spec(seed=8, a=0.2, lr=0.05, weight_decay=0.01)]
    together = train(specs, digits, CPU)
    assert [train([spec], digits, CPU)[0] for spec in specs] == together


def test_weight_decay_is_not_without_effect(digits):
    (without,), (with_decay,) = (
        train([SPEC], digits, CPU),
        train([a_cnn_spec(weight_decay=0.05)], digits, CPU),
    )
    assert abs(without[-1]["train_loss"] / with_decay[-1]["train_loss"] - 1) > 1e-3


def test_other_networks_beside_change_only_rounding(digits, steps):
    specs = [
        SPEC,
        a_cnn_spec(a=0.0, p=0.1),
        a_cnn_spec(seed=4),
        a_cnn_spec(a=1.0, p=1.0, seed=5, lr=0.02),
        a_cnn_spec(a=0.4, p=0.0, seed=6, weight_decay=0.05),
    ]
    together = train(specs, digits, CPU)
    together_steps = torch.stack(steps)  # (steps, R)
    for replica in (0, 3, 4):
        steps.clear()
        (alone,) = train([specs[replica]], digits, CPU)
        np.testing.assert_allclose(
            together_steps[:20, replica], torch.stack(steps)[:20, 0], rtol=1e-5
        )
        for ours, others in zip(alone, together[replica], strict=True):
            for name in others:
                assert ours[name] == pytest.approx(others[name], rel=1e-3, abs=1e-6), name
    steps_differ = (together_steps[5:] - together_steps[5:, :1]).abs()[:, 1:] > 1e-3
    assert steps_differ.float().mean() > 0.9  # five networks, not one five times


def test_the_same_request_gives_the_same_bits_whatever_the_global_state(digits):
    specs = [SPEC, a_cnn_spec(seed=4, a=0.5)]
    torch.manual_seed(0)
    first = train(specs, digits, CPU)
    torch.manual_seed(99)
    assert train(specs, digits, CPU) == first


def test_the_order_seed_matters(digits):
    (one,), (other,) = train([SPEC], digits, CPU), train([a_cnn_spec(order_seed=12)], digits, CPU)
    assert one[0]["train_loss"] != other[0]["train_loss"] and one[0]["kept"] == other[0]["kept"]


def test_extreme_noise_and_smoothing(digits):
    K = 10
    small = a_cnn_spec(model="mlp", widths=(48,), lr=0.1, batch=20, epochs=80, evaluate_at=(80,))
    grid = list(itertools.product((0.0, 0.5, 1.0), (0.0, 1 / K, 1.0)))
    specs = [dataclasses.replace(small, a=a, p=p) for a, p in grid]
    histories = train(specs, digits, CPU)
    rows = {cell: history[-1] for cell, history in zip(grid, histories, strict=True)}
    entropy = {0.0: math.log(K - 1), 1 / K: math.log(K), 1.0: 0.0}  # of the smoothed label
    for (a, p), row in rows.items():
        assert all(math.isfinite(value) for value in row.values())
        assert a in (row["kept"], 0.5) and (a != 0.5 or 0.3 < row["kept"] < 0.7)
        floor = entropy[p]
        assert floor - 1e-5 <= row["train_loss"] < floor + 0.3
        assert row["clean_train_uniform_loss"] >= math.log(K) - 1e-6
        if p == 1:
            assert row["train_accuracy"] > 0.9
        if p == 0:
            assert row["train_accuracy"] < 0.1  # the label itself is what is avoided
    assert (
        rows[1.0, 1.0]["clean_train_accuracy"] > 0.9 > 0.1 > rows[0.0, 1.0]["clean_train_accuracy"]
    )


def test_kept_is_the_share_of_labels_left_as_they_were(digits):
    settings = itertools.product((0.2, 0.6), (0, 1))
    specs = [a_cnn_spec(a=a, seed=seed, epochs=1, evaluate_at=(1,)) for a, seed in settings]
    clean = digits.train_labels[: SPEC.train_size]
    for spec, history in zip(specs, train(specs, digits, CPU), strict=True):
        noisy = labels.corrupt(clean, labels.symmetric_noise(spec.a, 10), spec.seed)
        assert history[0]["kept"] == pytest.approx((noisy == clean).double().mean().item())


def test_progress_counts_network_epochs_and_evaluation_follows_the_list(digits):
    reports = []
    specs = [a_cnn_spec(seed=seed, evaluate_at=(2, 3, 5)) for seed in range(3)]
    histories = train(specs, digits, CPU, reports.append)
    assert reports == [3] * 5
    for history in histories:
        assert [row["epoch"] for row in history] == [2, 3, 5]


@pytest.mark.parametrize(
    "other",
    [
        {"order_seed": 1},
        {"train_size": 50},
        {"batch": 10},
        {"widths": (4, 6, 15)},
        {"momentum": 0.5},
    ],
)
def test_specs_that_cannot_train_together_are_refused(digits, other):
    with pytest.raises(
        UsageError,
        match=r"^runs that train together may differ in a, p, noise, smoothing, loss, .* only\.$",
    ):
        train([SPEC, a_cnn_spec(**other)], digits, CPU)


def test_a_set_that_is_too_small_is_refused(digits):
    with pytest.raises(UsageError, match="no subset of 1201 training images"):
        train([a_cnn_spec(train_size=1201)], digits, CPU)
