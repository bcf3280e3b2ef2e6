"""Scores of out-of-distribution detection by hand, their AUROC against scikit-learn's."""

import doctest
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from lsnc_core.errors import UsageError
from lsnc_core.metrics import energy, nearest_mean, ood, ood_auroc


def test_doctests():
    assert doctest.testmod(ood).failed == 0


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 60),
    st.integers(1, 60),
    st.sampled_from([1, 3, 1_000]),
)
def test_auroc_is_scikit_learns_and_scipys_with_ties(seed, N, M, levels):
    draw = np.random.default_rng(seed)
    inside, outside = draw.integers(levels, size=N) + 0.5, draw.integers(levels, size=M) + 0.0
    outside[: M // 2] += 0.5  # half of them may tie
    found = ood_auroc(torch.from_numpy(inside), torch.from_numpy(outside))
    assert found == pytest.approx(mannwhitneyu(inside, outside).statistic / (N * M), rel=1e-12)
    metrics = pytest.importorskip("sklearn.metrics")
    expected = metrics.roc_auc_score([1] * N + [0] * M, np.concatenate([inside, outside]))
    assert found == pytest.approx(expected, abs=1e-12)


def test_auroc_at_its_ends():
    low, high = torch.tensor([-math.inf, 0.0]), torch.tensor([1.0, math.inf])
    assert ood_auroc(high, low) == 1 and ood_auroc(low, high) == 0
    assert ood_auroc(low, low) == 0.5 and ood_auroc(high[:1], high[:1]) == 0.5


def test_energy_is_the_logarithm_of_the_partition_sum():
    logits = torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    expected = np.log(np.exp(logits.double().numpy()).sum(1))
    np.testing.assert_allclose(energy(logits), expected, rtol=1e-12)
    assert energy(torch.tensor([[800.0, 800.0]])).item() == pytest.approx(800 + math.log(2))
    assert energy(torch.tensor([[1.0, -math.inf]])).tolist() == [1.0]


@pytest.mark.parametrize("chunk", [2**20, 30])
def test_distance_to_the_nearest_mean(monkeypatch, chunk):
    monkeypatch.setattr(ood, "CHUNK", chunk)
    draw = np.random.default_rng(0)
    features, means = draw.normal(size=(40, 6)) + 1e4, draw.normal(size=(5, 6)) + 1e4
    features[3] = means[2] + 1e-6
    found = nearest_mean(torch.from_numpy(features), torch.from_numpy(means))
    expected = -np.linalg.norm(features[:, None] - means, axis=2).min(1)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert -3e-6 < found[3] < 0


def test_collapsed_features_are_told_from_noise_by_both_scores():
    """Features at a simplex ETF with W = its vertices, against features of small norm between."""
    generator = torch.Generator().manual_seed(0)
    simplex = 10 * (torch.eye(5) - 0.2)
    inside = simplex.repeat(100, 1) + 0.1 * torch.randn(500, 5, generator=generator)
    outside = torch.randn(300, 5, generator=generator)
    assert ood_auroc(energy(inside @ simplex.T), energy(outside @ simplex.T)) == 1
    assert ood_auroc(nearest_mean(inside, simplex), nearest_mean(outside, simplex)) == 1


REFUSED = {
    r"logits must be a floating-point tensor \(N, K\)": lambda x: energy(x[0]),
    "not torch.int64": lambda x: energy(x.long()),
    "features holds NaN": lambda x: nearest_mean(x * math.nan, x),
    "at least one entry": lambda x: ood_auroc(x[0], x[0, :0]),
    "features have width 4 but class_means 3": lambda x: nearest_mean(x, x[:, :3]),
    r"in_distribution_scores must be a floating-point tensor \(N,\)": lambda x: ood_auroc(x, x),
    "not list": lambda x: ood_auroc([1.0], x[0]),
}


@pytest.mark.parametrize("sentence, attempt", REFUSED.items(), ids=REFUSED)
def test_misuse_is_one_sentence(sentence, attempt):
    with pytest.raises(UsageError, match=sentence):
        attempt(torch.ones(3, 4))
