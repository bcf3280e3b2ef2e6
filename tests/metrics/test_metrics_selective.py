"""AURC and AUGRC against permutations, scikit-learn's AUROC, and other definitions by hand."""

import doctest
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lsnc_core.metrics import augrc, aurc, calibration_scores, selective
from lsnc_core.metrics.predictions import Predictions


def made(seed, N, levels=None, rate=0.6):
    """Two-class logits (N, 2) with confidences on so many levels, and labels."""
    draw = np.random.default_rng(seed)
    gaps = draw.normal(size=N) if levels is None else draw.integers(2, levels + 2, N)
    logits = np.stack([gaps, np.zeros(N)], 1).astype(float)
    labels = np.where(draw.random(N) < rate, logits.argmax(1), 1 - logits.argmax(1))
    return torch.from_numpy(logits), torch.from_numpy(labels)


def areas(wrong):
    """AURC and AUGRC of samples in this order: plain mean, and trapezoids from coverage 0."""
    errors = np.cumsum(wrong)
    N = len(wrong)
    curve = np.concatenate([[0], errors / N])
    return (errors / np.arange(1, N + 1)).mean(), np.trapezoid(curve, dx=1 / N)


def test_doctests():
    assert doctest.testmod(selective).failed == 0


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 3))
def test_ties_count_by_their_mean_over_all_orders(seed, N, levels):
    logits, labels = made(seed, N, levels)
    wrong, gap = (logits.argmax(1) != labels).numpy(), logits[:, 0].numpy()
    found = []
    for order in map(list, itertools.permutations(range(N))):
        if (np.diff(gap[order]) <= 0).all():
            found.append(areas(wrong[order]))
    expected = np.mean(found, 0)
    assert aurc(logits, labels) == pytest.approx(expected[0], abs=1e-14)
    assert augrc(logits, labels) == pytest.approx(expected[1], abs=1e-14)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(5, 300),
    st.sampled_from([None, 1, 3, 30]),
    st.floats(0.2, 0.9),
)
def test_augrc_follows_from_error_rate_and_auroc(seed, N, levels, rate):
    roc_auc_score = pytest.importorskip("sklearn.metrics").roc_auc_score
    logits, labels = made(seed, N, levels, rate)
    right = (logits.argmax(1) == labels).numpy()
    e = 1 - right.mean()
    auroc = 0.0  # of no pairs
    if 0 < e < 1:
        auroc = roc_auc_score(right, Predictions(logits, labels).log_odds.numpy())
    expected = e * (1 - e) * (1 - auroc) + e**2 / 2
    found = augrc(logits, labels)
    assert found == pytest.approx(expected, abs=1e-12)
    assert e**2 / 2 - 1e-12 <= found <= e - e**2 / 2 + 1e-12


def test_aurc_is_the_other_conventions_up_to_one_over_n():
    logits, labels = made(0, 4_000)
    order = (logits[:, 0] - logits[:, 1]).abs().argsort(descending=True)
    wrong = (logits.argmax(1) != labels)[order].double().numpy()
    N = len(wrong)
    risks = np.cumsum(wrong) / np.arange(1, N + 1)
    found = aurc(logits, labels)
    assert found == pytest.approx(risks.mean(), rel=1e-12)
    by_trapezoids = np.trapezoid(risks, dx=1 / N) / (1 - 1 / N)  # as torch-uncertainty
    zero_prepended = np.trapezoid(np.concatenate([[0], risks]), dx=1 / N)
    for other in (by_trapezoids, zero_prepended):
        assert 0 < abs(found - other) < 1 / N


def test_bounds_and_random_ranking():
    """The best ranking has every error last; a random one has the error rate and half of it."""
    N, e = 4_000, 0.3
    wrong = torch.arange(N) < e * N
    logits = torch.stack([torch.linspace(1, 2, N), torch.zeros(N)], 1)
    best, worst = wrong.long(), wrong.flip(0).long()
    assert aurc(logits, best) == pytest.approx(e + (1 - e) * math.log(1 - e), abs=1 / N)
    assert augrc(logits, best) == pytest.approx(e**2 / 2, abs=1e-12)
    assert augrc(logits, worst) == pytest.approx(e - e**2 / 2, abs=1e-12)
    shuffled = wrong[torch.randperm(N, generator=torch.Generator().manual_seed(0))].long()
    assert aurc(logits, shuffled) == pytest.approx(e, abs=0.03)
    assert augrc(logits, shuffled) == pytest.approx(e / 2, abs=0.01)
    tied = torch.tensor([[2.0, 0.0]]).repeat(N, 1)
    assert aurc(tied, best) == pytest.approx(e, rel=1e-12)
    assert augrc(tied, best) == pytest.approx(e / 2, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_confidences_that_round_to_1_keep_their_order(dtype):
    """All wrong ones have lower logits; ranked by softmax they would tie."""
    gaps = torch.arange(60.0, 100.0, dtype=dtype)
    logits, labels = torch.stack([gaps, 0 * gaps], 1), (gaps < 70).long()
    assert (logits.double().softmax(1)[:, 0] == 1).all()
    assert augrc(logits, labels) == pytest.approx(0.25**2 / 2, abs=1e-14)


def test_the_order_of_the_samples_does_not_matter():
    logits, labels = made(3, 500, 20)
    order = torch.randperm(500, generator=torch.Generator().manual_seed(1))
    assert aurc(logits[order], labels[order]) == pytest.approx(aurc(logits, labels), rel=1e-12)
    scores = calibration_scores(logits, labels)
    assert scores["aurc"] == aurc(logits, labels) and scores["augrc"] == augrc(logits, labels)


def test_without_errors_both_are_0_and_with_errors_alone_1_and_a_half():
    logits = made(4, 30)[0]
    right = logits.argmax(1)
    assert aurc(logits, right) == augrc(logits, right) == 0
    assert aurc(logits, 1 - right) == 1 and augrc(logits, 1 - right) == pytest.approx(0.5)
