"""Calibration scores against loops over samples, temperature scaling against a fine search."""

import doctest
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from lsnc_core.errors import UsageError
from lsnc_core.metrics import (
    adaptive_ece,
    brier,
    calibration,
    calibration_scores,
    classwise_ece,
    ece,
    fit_temperature,
    mce,
    nll,
    predictions,
    reliability,
)
from lsnc_core.metrics.calibration import SCORES, Temperature


def made(seed, N=200, K=5, sharpness=2.0):
    draw = np.random.default_rng(seed)
    logits = draw.normal(size=(N, K)) * sharpness
    labels = np.where(draw.random(N) < 0.6, logits.argmax(1), draw.integers(K, size=N))
    return torch.from_numpy(logits), torch.from_numpy(labels)


def softmax(row):
    e = np.exp(row - row.max())
    return e / e.sum()


def looped_error(confidences, hits, bins, largest=False):
    """Expected or largest gap over bins (lower, upper], one sample and one bin at a time.

    0 lies in the first bin.
    """
    greatest = expected = 0.0
    for j in range(bins):
        count, surplus = 0, 0.0
        for confidence, hit in zip(confidences, hits, strict=True):
            if j / bins < confidence <= (j + 1) / bins or (j == 0 and confidence == 0):
                count, surplus = count + 1, surplus + hit - confidence
        if count:
            greatest = max(greatest, abs(surplus) / count)
            expected += abs(surplus) / len(confidences)
    return greatest if largest else expected


def test_doctests():
    assert doctest.testmod(calibration).failed == 0


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 120),
    st.integers(2, 6),
    st.sampled_from([1, 2, 10, 15, 20]),
    st.floats(0.01, 30),
)
def test_scores_are_the_loops(seed, N, K, bins, sharpness):
    logits, labels = made(seed, N, K, sharpness)
    p, y = np.array([softmax(row) for row in logits.numpy()]), labels.numpy()
    confidences, hits = p.max(1), (p.argmax(1) == y).astype(float)
    assert ece(logits, labels, bins) == pytest.approx(
        looped_error(confidences, hits, bins), abs=1e-12
    )
    assert mce(logits, labels, bins) == pytest.approx(
        looped_error(confidences, hits, bins, largest=True), abs=1e-12
    )
    by_class = np.mean([looped_error(p[:, k], (y == k).astype(float), bins) for k in range(K)])
    assert classwise_ece(logits, labels, bins) == pytest.approx(by_class, abs=1e-12)
    assert nll(logits, labels) == pytest.approx(
        -np.mean([math.log(row[k]) for row, k in zip(p, y, strict=True)]), rel=1e-12
    )
    assert brier(logits, labels) == pytest.approx(
        np.mean([np.sum((row - np.eye(K)[k]) ** 2) for row, k in zip(p, y, strict=True)]), abs=1e-12
    )


def test_brier_and_nll_are_scikit_learns():
    reference = pytest.importorskip("sklearn.metrics")
    logits, labels = made(1, K=2)
    p = logits.softmax(1).numpy()
    assert brier(logits, labels) == pytest.approx(
        2 * reference.brier_score_loss(labels.numpy(), p[:, 1]), rel=1e-12
    )  # it counts one class
    logits, labels = made(2)
    assert nll(logits, labels) == pytest.approx(
        reference.log_loss(labels.numpy(), logits.softmax(1).numpy(), labels=range(5)), rel=1e-9
    )


@pytest.mark.parametrize("N, bins", [(100, 15), (101, 10), (7, 20), (1, 15)])
def test_adaptive_ece_is_the_loop_over_ranks(N, bins):
    logits, labels = made(3, N)
    p = logits.softmax(1)
    confidences, hits = p.max(1).values.numpy(), (p.argmax(1) == labels).numpy()
    order = np.argsort(confidences)
    groups = [g for g in np.array_split(order, min(bins, N))]
    sizes = sorted(map(len, groups))
    found = reliability(logits, labels, bins, equal_mass=True)
    assert sorted(found.counts.tolist()) == sizes and int(found.counts.sum()) == N
    if N % bins == 0 or bins > N:  # else the larger bins stand elsewhere
        expected = sum(len(g) / N * abs(hits[g].mean() - confidences[g].mean()) for g in groups)
        assert adaptive_ece(logits, labels, bins) == pytest.approx(expected, abs=1e-12)
    assert (found.lower <= found.upper).all() and (found.upper[:-1] <= found.lower[1:]).all()
    assert (
        (found.lower <= found.confidence + 1e-13) & (found.confidence <= found.upper + 1e-13)
    ).all()


def test_adaptive_ece_does_not_depend_on_the_order_of_ties():
    logits = (
        torch.tensor([[0.7, 0.3], [0.9, 0.1]], dtype=torch.float64)
        .log()
        .repeat_interleave(torch.tensor([37, 23]), 0)
    )
    labels = torch.tensor([0, 0, 1] * 20)
    found = {
        round(adaptive_ece(logits[order], labels[order]), 12)
        for order in map(torch.randperm, [60] * 5)
    }
    assert len(found) == 1


def test_edges_of_the_bins():
    """(lower, upper]: a confidence on an edge lies below it, 1 in the last bin, 0 in the first.

    Softmax is exact for 1, 2 or 4 equal logits, so these confidences lie exactly on edges.
    """
    rows = [[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.25] * 4, [0.7, 0.3, 0, 0], [0.95, 0.05, 0, 0]]
    logits = torch.tensor(rows, dtype=torch.float64).log()
    found = reliability(logits, torch.tensor([0, 0, 0, 0, 1]), bins=8)
    assert found.counts.tolist() == [0, 1, 0, 1, 0, 1, 0, 2]
    filled = found.counts > 0
    assert found.confidence[filled].tolist() == pytest.approx([0.25, 0.5, 0.7, 0.975])
    assert found.accuracy[filled].tolist() == [1, 1, 1, 0.5]
    assert found.confidence[~filled].isnan().all() and (found.gaps[~filled] == 0).all()
    certain = torch.tensor([[1e4, 0.0], [0.0, 1e4]])
    assert reliability(certain, torch.tensor([0, 1]), 15).counts.tolist() == [0] * 14 + [2]
    assert (
        ece(certain, torch.tensor([0, 1]))
        == mce(certain, torch.tensor([0, 1]))
        == brier(certain, torch.tensor([0, 1]))
        == 0
    )
    assert ece(certain, torch.tensor([1, 0])) == mce(certain, torch.tensor([1, 0])) == 1
    assert (
        brier(certain, torch.tensor([1, 0])) == 2
        and classwise_ece(certain, torch.tensor([1, 0])) == 1
    )  # zeros in the first bin


@pytest.mark.parametrize(
    "dtype, tolerance", [(torch.float32, 1e-6), (torch.bfloat16, 2e-2), (torch.float16, 3e-3)]
)
def test_narrow_logits(dtype, tolerance):
    logits, labels = made(4, 400)
    found, expected = (
        calibration_scores(logits.to(dtype), labels.to(torch.int32)),
        calibration_scores(logits, labels),
    )
    assert found == calibration_scores(logits.to(dtype).double(), labels)
    assert found["nll"] == pytest.approx(expected["nll"], rel=tolerance) and found[
        "brier"
    ] == pytest.approx(expected["brier"], rel=tolerance)


def test_logits_of_eight_bits_are_taken_as_they_are():
    logits, labels = made(4, 400)
    narrow = logits.to(torch.float8_e4m3fn)
    assert calibration_scores(narrow, labels) == calibration_scores(narrow.double(), labels)


def test_converting_piece_by_piece_changes_no_bit(monkeypatch):
    logits, labels = made(6, 400)
    confidence, prediction = logits.double().softmax(1).max(1)
    monkeypatch.setattr(predictions, "CHUNK", 7 * logits.shape[1])  # the last piece is smaller
    found = reliability(logits, labels, bins=400, equal_mass=True)
    assert torch.equal(found.lower, confidence.sort().values)
    assert float(found.accuracy.sum()) == float((prediction == labels).sum())


def test_all_scores_by_name():
    logits, labels = made(5)
    found = calibration_scores(logits, labels)
    assert set(found) == set(SCORES)
    assert (
        found["ece_15"] == ece(logits, labels, 15)
        and found["ece_20"] == ece(logits, labels, 20) != found["ece_15"]
    )
    order = torch.randperm(200)
    assert calibration_scores(logits[order], labels[order]) == pytest.approx(found, rel=1e-12)


# ----------------------------------------------------------------------- masked classes


def with_masked_class(logits, at=2):
    """Logits with one class more, of probability 0."""
    column = torch.full((len(logits), 1), -math.inf, dtype=logits.dtype)
    return torch.cat([logits[:, :at], column, logits[:, at:]], 1)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.sampled_from([torch.float64, torch.float32, torch.bfloat16]))
def test_a_masked_class_that_no_sample_has_changes_no_score(seed, dtype):
    logits, labels = made(seed, 150, 4)
    logits = logits.to(dtype)
    expected = calibration_scores(logits, labels)
    found = calibration_scores(with_masked_class(logits), labels + (labels >= 2).long())
    # a mean over classes has one more of them, whose error is 0
    expected["classwise_ece_15"] *= 4 / 5
    assert found == pytest.approx(expected, rel=1e-12)
    T = fit_temperature(logits, labels).value
    masked = fit_temperature(with_masked_class(logits), labels + (labels >= 2).long())
    assert masked.value == pytest.approx(T, rel=1e-9)


def test_a_label_on_a_masked_class_has_infinite_nll_and_finite_scores_otherwise():
    logits = with_masked_class(made(0, 40, 4)[0])
    found = calibration_scores(logits, torch.full((40,), 2))
    assert found.pop("nll") == math.inf and found["augrc"] == 0.5 and found["aurc"] == 1
    assert all(map(math.isfinite, found.values()))


def test_certain_labels_have_temperature_0():
    certain = torch.eye(2).log()
    for by in ("nll", "ece"):
        assert fit_temperature(certain, torch.tensor([0, 1]), by=by).value == 0
    assert nll(certain, torch.tensor([0, 1])) == ece(certain, torch.tensor([0, 1])) == 0
    some = torch.tensor([[0.0, -math.inf, -math.inf], [1.0, 0.0, -math.inf]])
    assert fit_temperature(some, torch.tensor([0, 0])).value == 0
    assert fit_temperature(some, torch.tensor([0, 1])).value == math.inf


def test_scaling_keeps_masked_classes_masked():
    masked = torch.tensor([[2.0, 0.0, -math.inf], [0.0, 1.0, 1.0]])
    for value, expected in {
        0.0: [[1, 0, 0], [0, 0.5, 0.5]],
        math.inf: [[0.5, 0.5, 0], [1 / 3] * 3],
    }.items():
        p = Temperature(value, "nll", "test").scale(masked).softmax(1)
        torch.testing.assert_close(p, torch.tensor(expected, dtype=torch.float32))


# -------------------------------------------------------------------------------------- temperature


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e3))
def test_temperature_by_nll_is_the_minimum(seed, sharpness):
    logits, labels = made(seed, 150, 4, sharpness)
    T = fit_temperature(logits, labels)
    expected = minimize_scalar(
        lambda t: nll(logits / math.exp(t), labels),
        bracket=(math.log(sharpness), math.log(sharpness) + 1),
        tol=1e-12,
    )
    assert nll(T.scale(logits), labels) <= expected.fun + 1e-12
    assert (math.log(T.value), T.by, T.fitted_on) == (
        pytest.approx(expected.x, abs=1e-5),
        "nll",
        "held-out",
    )


def test_temperature_undoes_a_scale():
    logits, labels = made(6, 400)
    T = fit_temperature(logits, labels).value
    assert fit_temperature(7 * logits, labels).value == pytest.approx(7 * T, rel=1e-9)
    assert fit_temperature(logits + torch.arange(400)[:, None], labels).value == pytest.approx(
        T, rel=1e-9
    )


def test_temperature_without_bound():
    logits, _ = made(7, 50)
    right, wrong = logits.argmax(1), logits.argmin(1)
    found = fit_temperature(logits, right)
    assert (
        found.value == 0
        and nll(found.scale(logits), right) == 0
        and ece(found.scale(logits), right) == 0
    )
    found = fit_temperature(logits, wrong)
    assert found.value == math.inf and nll(found.scale(logits), wrong) == pytest.approx(math.log(5))
    log_p = torch.tensor([[0.9, 0.1, 0.0], [0.3, 0.7, 0.0], [0.6, 0.4, 0.0]]).log()
    found = fit_temperature(log_p, torch.tensor([0, 1, 1]))
    assert 0 < found.value < math.inf and nll(found.scale(log_p), torch.tensor([0, 1, 1])) < nll(
        log_p, torch.tensor([0, 1, 1])
    )


def test_temperature_by_ece_is_the_papers_grid():
    for seed, sharpness in ((8, 2.0), (9, 6.0), (10, 0.3)):
        logits, labels = made(seed, 300, 5, sharpness)
        best, least = None, math.inf
        grid = np.arange(0.1, 10, 0.5)
        for half in (0.5, 0.1, None):
            for T in grid:
                if T > 0 and ece(logits / T, labels, 20) < least:
                    best, least = T, ece(logits / T, labels, 20)
            grid = None if half is None else np.linspace(best - half, best + half, 10)
        found = fit_temperature(logits, labels, by="ece", fitted_on="test")
        assert found.value == pytest.approx(best, rel=1e-12) and (found.by, found.fitted_on) == (
            "ece",
            "test",
        )
        assert ece(found.scale(logits), labels, 20) == pytest.approx(
            least, rel=1e-9
        ) and least < ece(logits, labels, 20)


def test_scaling_keeps_predictions():
    logits, _ = made(11)
    for value in (0.0, 0.3, 8.0):
        assert torch.equal(
            Temperature(value, "nll", "test").scale(logits).argmax(1), logits.argmax(1)
        )


# ----------------------------------------------------------------------------------------- refusals

REFUSED = {
    r"logits must be a floating-point tensor \(N, K\)": lambda z, y: ece(z[0], y),
    "of at least one sample, not torch.float64 of shape": lambda z, y: nll(z[:0], y[:0]),
    "not ndarray": lambda z, y: nll(z.numpy(), y),
    r"labels must be an integer tensor of shape \(200,\)": lambda z, y: brier(z, y[1:]),
    "not torch.float32": lambda z, y: brier(z, y.float()),
    "labels must lie in 0..4 for 5 classes, but one of them is 5": lambda z, y: classwise_ece(
        z, y * 0 + 5
    ),
    "the logits of sample 7 hold NaN or infinity": lambda z, y: ece(
        z.index_fill(0, torch.tensor([7]), math.nan), y
    ),
    "the logits of sample 0 hold NaN": lambda z, y: mce(z * math.inf, y),
    "bins must be a whole number from 1 to 1,000,000, not 0": lambda z, y: ece(z, y, 0),
    "not 1.5": lambda z, y: classwise_ece(z, y, 1.5),
    'fitted by "nll" or by "ece", not by \'brier\'': lambda z, y: fit_temperature(z, y, by="brier"),
    'fitted_on must be "held-out" or "test".*not \'train\'': lambda z, y: fit_temperature(
        z, y, fitted_on="train"
    ),
    "no temperature changes": lambda z, y: fit_temperature(z * 0, y),
    "are all equal: no temperature": lambda z, y: fit_temperature(
        with_masked_class(z[:, :2] * 0), y % 2
    ),
    "no temperature changes their": lambda z, y: fit_temperature(
        torch.eye(2).log(), torch.tensor([1, 0])
    ),
    "the label of sample 3 has the logit -inf": lambda z, y: fit_temperature(
        with_masked_class(z), (y * 0).index_fill(0, torch.tensor([3]), 2)
    ),
}


@pytest.mark.parametrize("sentence, attempt", REFUSED.items(), ids=REFUSED)
def test_misuse_is_one_sentence(sentence, attempt):
    with pytest.raises(UsageError, match=sentence):
        attempt(*made(12))
