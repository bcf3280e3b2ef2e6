"""Intervals of metrics: coverage on simulated data, boundaries, refusals and replicates' weights.

Truth follows from the population's means and covariances, as in `benchmarks/metric_coverage.py`,
which simulates more cases at more data sets.
"""

import dataclasses
import importlib
import math
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT

from lsnc_core.errors import UsageError
from lsnc_core.metrics import (
    FORMULAS,
    NeuralCollapse,
    calibration_scores,
    ece,
    neural_collapse,
)
from lsnc_core.metrics.calibration import SCORES
from lsnc_core.metrics.intervals import (
    EXACT,
    Samples,
    compare_intervals,
    metric_intervals,
)
from lsnc_core.metrics.replicates import (
    GROUPS,
    CollapseReplicates,
    class_means,
    draw_groups,
    mean_replicates,
)

sys.path.insert(0, str(ROOT / "benchmarks"))
benchmark = importlib.import_module("metric_coverage")
pytestmark = pytest.mark.filterwarnings("ignore:no simplex ETF:UserWarning")

SIZES = torch.tensor([40, 7, 55, 2, 120])  # below, at no multiple of and above the groups


def samples_of(counts, D=12, seed=0, **changes):
    """Samples of random class means, in random order, with a classifier near the means."""
    population = benchmark.clouds(len(counts), D, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    y = benchmark.labels_of(counts)
    y = y[torch.randperm(len(y), generator=generator)]
    features = population.means[y] + population.noise(y, generator)
    given = {"features": features, "logits": features @ population.W.T, "W": population.W}
    return Samples(**({"labels": y} | given | changes))


def test_values_are_those_of_the_samples():
    samples = samples_of(SIZES, b=0.1 * torch.arange(5.0))
    found = metric_intervals(samples)
    reference = neural_collapse(samples.features, samples.labels, samples.W, samples.b).values
    reference["accuracy"] = float((samples.logits.argmax(1) == samples.labels).double().mean())
    nearest = neural_collapse(samples.features, samples.labels, samples.W).values
    reference["nc4_agreement"] = nearest["nc4_agreement"]  # these logits have no bias
    reference |= calibration_scores(samples.logits, samples.labels)
    assert set(found) == set(FORMULAS) | set(SCORES) == set(reference)
    for name, interval in found.items():
        assert interval.value == pytest.approx(reference[name], rel=1e-9, abs=1e-12), name
        if interval.low is not None:
            assert interval.low <= interval.estimate <= interval.high, name


def test_equal_confidences_share_the_bins_of_equal_numbers():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randint(3, (200, 4), generator=generator).float()
    y = torch.arange(200) % 4
    features = torch.randn(200, 6, generator=generator)
    found = metric_intervals(Samples(features, logits, y), names=["adaptive_ece_15", "ece_15"])
    reference = calibration_scores(logits, y)
    for name, interval in found.items():
        assert interval.value == pytest.approx(reference[name], abs=1e-12)


def test_replicates_are_metrics_of_weighted_samples():
    samples = samples_of(SIZES)
    y, groups = samples.labels, draw_groups(samples.labels, 5, 3)
    _, means = class_means(samples.features, y, 5)
    values = CollapseReplicates(samples.features, y, means, groups, samples.W, None).values()
    weights = groups.weights(slice(None))
    for replicate in (0, 1, GROUPS):
        w = weights[:, replicate]
        mu = torch.stack([w[y == k] @ samples.features[y == k] / w[y == k].sum() for k in range(5)])
        deviations = samples.features - mu[y]
        within = (w[:, None] * deviations).T @ deviations / len(y)
        H = mu - mu.mean(0)
        between = torch.linalg.pinv(H.T @ H / 5, rtol=1e-10)
        distance = samples.W / samples.W.norm() - H / H.norm()
        assert values["nc1_trace"][replicate] == pytest.approx(float((within @ between).trace()))
        assert values["nc3_distance"][replicate] == pytest.approx(float(distance.norm()))


def test_replicates_have_the_variance_of_stratified_means():
    """For any sizes: the expectation over groups is the textbook estimate of the variance."""
    samples = samples_of(SIZES)
    y, x = samples.labels, samples.features[:, 0]
    textbook = sum(float(n) * float(x[y == k].var()) for k, n in enumerate(SIZES)) / len(y) ** 2
    found = []
    for seed in range(400):
        means = mean_replicates(x[None], draw_groups(y, 5, seed))[0]
        assert means[0] == pytest.approx(float(x.mean()))
        found.append((GROUPS - 1) / GROUPS * float((means[1:] - means[0]).square().sum()))
    found = torch.tensor(found)
    assert abs(float(found.mean()) / textbook - 1) < 4 * float(found.std()) / textbook / 20


def test_a_sample_is_left_out_of_its_own_class_mean():
    samples = samples_of(torch.tensor([4, 5, 6]))
    h, y = samples.features, samples.labels
    hits = []
    for i in range(len(y)):
        others = torch.arange(len(y)) != i
        means = torch.stack([h[others & (y == k)].mean(0) for k in range(3)])
        hits.append(float((h[i] - means).norm(dim=1).argmin() == y[i]))
    found = metric_intervals(samples, names=["ncc_accuracy"])["ncc_accuracy"]
    assert found.estimate == pytest.approx(sum(hits) / len(hits))
    assert found.value > found.estimate  # 15 samples in 12 dimensions


def covered(rows):
    return {row["metric"]: row["covered"] for row in rows}


def test_intervals_cover_at_500_samples_of_a_class(monkeypatch):
    monkeypatch.setattr(benchmark, "LOGITS", 400_000)
    population, counts = benchmark.clouds(4, 16), torch.full((4,), 500)
    names = ("nc1_trace", "nc3_distance", "accuracy")
    for row in benchmark.interval_rows("", population, counts, names, 150):
        # four binomial standard errors of 150 sets below .95
        assert row["covered"] >= 0.88, row
        # neither too long: 3.92 deviations of the estimate, which 150 sets know to 6 %
        assert row["length"] / row["spread"] == pytest.approx(3.92, rel=0.2), row


def test_intervals_cover_at_50_samples_where_the_percentile_bootstrap_does_not(monkeypatch):
    monkeypatch.setattr(benchmark, "RESAMPLES", 100)
    population, counts = benchmark.clouds(4, 24), torch.full((4,), 50)
    names = ("nc1_trace", "nc2_means", "nc3_distance")
    ours = covered(benchmark.interval_rows("", population, counts, names, 100))
    rows = list(benchmark.bootstrap_rows("", population, 50, 60))
    theirs = covered(row for row in rows if row["interval"] == "percentile bootstrap")
    assert min(ours.values()) >= 0.86
    assert theirs["nc3_distance"] < 0.5


@pytest.mark.parametrize("n", [20, 200])
def test_a_true_value_of_0_is_covered_by_an_interval_from_0(n):
    population = benchmark.near_etf(0.0, K=4, D=24)
    y, generator = benchmark.labels_of(torch.full((4,), n)), torch.Generator().manual_seed(0)
    names = benchmark.NEAR_ETF
    sets, held = 40, dict.fromkeys(names, 0)
    for seed in range(sets):
        samples = benchmark.observed(population, y, population.noise(y, generator))
        for name, found in metric_intervals(samples, seed=seed, names=names).items():
            assert 0 <= found.low < found.high < 10 * found.value, name
            assert ("upper bound" in found.remark) == (found.low == 0)
            held[name] += found.low == 0
    assert min(held.values()) >= 0.85 * sets  # four binomial standard errors below .95: .81


def test_a_value_away_from_0_is_told_from_0():
    population, counts = benchmark.near_etf(0.2, K=4, D=24), torch.full((4,), 200)
    names = ("nc2_means", "nc3_distance", "nc3_product")
    for row in benchmark.interval_rows("", population, counts, names, 60):
        assert row["covered"] >= 0.84, row  # four binomial standard errors below .95
        assert row["one_sided"] == 0, row


def test_differences_are_paired():
    """They cover, and are shorter than those of independent samples."""
    y, generator = benchmark.labels_of(torch.full((4,), 100)), torch.Generator().manual_seed(0)
    population = benchmark.clouds(4, 24)
    truth = population.truth(torch.full((4,), 100), scores=False)
    held, ratios = 0, []
    for seed in range(60):
        noise = population.noise(y, generator)
        a = benchmark.observed(population, y, noise)
        b = benchmark.observed(population, y, 0.9 * noise + 0.1 * population.noise(y, generator))
        alone = metric_intervals(a, seed=seed, names=["nc1_trace"])["nc1_trace"]
        found = compare_intervals(a, b, seed=seed, names=["nc1_trace"])["nc1_trace"]
        ratios.append((found.high - found.low) / (alone.high - alone.low))
        # the noise of b has .82 times the variance
        held += found.low <= (0.82 - 1) * truth["nc1_trace"] <= found.high
    assert held >= 0.84 * 60  # four binomial standard errors below .95
    assert max(ratios) < 0.7  # independent: 1.3


def test_a_model_does_not_differ_from_itself():
    samples = samples_of(torch.full((3,), 40))
    for name, found in compare_intervals(samples, samples).items():
        if found.low is not None:
            assert found.value == found.estimate == 0, name
            assert found.low <= 0 <= found.high, name


def test_no_errors_bound_the_accuracy_as_the_binomial_does():
    samples = samples_of(torch.full((3,), 40))
    logits = 9.0 * torch.nn.functional.one_hot(samples.labels, 3)
    found = metric_intervals(dataclasses.replace(samples, logits=logits), names=["accuracy"])
    assert found["accuracy"].high == 1
    assert found["accuracy"].low == pytest.approx(0.025 ** (1 / 120))


def test_a_higher_level_gives_a_longer_interval():
    samples = samples_of(torch.full((3,), 40))
    lengths = []
    for level in (0.8, 0.95, 0.99):
        intervals = metric_intervals(samples, level=level)
        lengths.append({name: x.high - x.low for name, x in intervals.items() if x.low is not None})
    for name in lengths[0].keys() - EXACT:
        assert lengths[0][name] < lengths[1][name] < lengths[2][name], name


def test_metrics_of_the_classifier_alone_are_exact():
    found = metric_intervals(samples_of(torch.full((3,), 40)), names=EXACT)
    for interval in found.values():
        assert interval.low == interval.value == interval.high and "exact" in interval.remark


def test_reasons_for_no_interval():
    samples = samples_of(torch.tensor([30, 1, 30]))
    found = metric_intervals(samples)
    assert "class 1 has a single sample" in found["nc1_trace"].remark
    assert "class 1 has a single sample" in found["ncc_accuracy"].remark
    assert found["nc1_trace"].low is None and found["nc1_trace"].value > 0
    assert found["accuracy"].low < found["accuracy"].value < found["accuracy"].high
    assert found["mce_15"].low is None and "maximum" in found["mce_15"].remark
    without = metric_intervals(dataclasses.replace(samples, W=None), names=["nc3_product", "nll"])
    assert "classifier" in without["nc3_product"].remark and without["nll"].low is not None
    few = samples_of(torch.tensor([3, 3, 3]), D=40)
    assert "noise" in metric_intervals(few, names=["nc3_product"])["nc3_product"].remark


def test_absent_classes_are_left_out():
    samples = samples_of(torch.tensor([30, 0, 40, 25, 0]))
    with pytest.warns(UserWarning, match="no samples"):
        reference = neural_collapse(samples.features, samples.labels, samples.W).values
    found = metric_intervals(samples, names=["nc1_trace", "nc3_distance_sample_mean"])
    for name, interval in found.items():
        assert interval.value == pytest.approx(reference[name])
        assert interval.low < interval.estimate < interval.high


def test_centroids_of_other_samples_decide_as_they_are():
    train, test = samples_of(torch.full((3,), 50)), samples_of(torch.tensor([1, 30, 30]))
    centroids = neural_collapse(train.features, train.labels, train.W).statistics
    nearest = torch.cdist(test.features, centroids.means).argmin(1)
    test = dataclasses.replace(test, centroids=centroids)
    found = metric_intervals(test, names=["ncc_accuracy"])["ncc_accuracy"]
    share = float((nearest == test.labels).double().mean())
    assert found.value == found.estimate == pytest.approx(share) and found.low < share


@pytest.mark.parametrize(
    "given, message",
    [
        ({"names": ["nc7"]}, "no metric 'nc7'"),
        ({"level": 95}, "level must lie between 0 and 1"),
    ],
)
def test_what_a_user_can_get_wrong(given, message):
    with pytest.raises(UsageError, match=message):
        metric_intervals(samples_of(torch.full((3,), 10)), **given)


def test_numbers_of_numpy_are_numbers():
    given, level = samples_of(torch.full((3,), 10)), np.float32(0.9)
    found = metric_intervals(given, level=level, seed=np.int64(3), names=["accuracy"])
    assert found == metric_intervals(given, level=float(level), seed=3, names=["accuracy"])
    assert NeuralCollapse(np.int64(3), np.int32(4)).D == 4
    assert ece(given.logits, given.labels, np.int64(7)) == ece(given.logits, given.labels, 7)


def test_too_many_classes_are_refused():
    y = torch.arange(4000).repeat(2)
    given = Samples(torch.zeros(len(y), 1), torch.zeros(1, 1).expand(len(y), 4000), y)
    with pytest.raises(UsageError, match="4000 classes in 1 dimensions would take 6 GiB"):
        metric_intervals(given, names=["nc1_trace"])


def test_other_labels_are_refused():
    a, b = samples_of(torch.full((3,), 10)), samples_of(torch.full((3,), 10), seed=1)
    with pytest.raises(UsageError, match="their labels differ"):
        compare_intervals(a, b)
    with pytest.raises(UsageError, match="one row for each"):
        metric_intervals(dataclasses.replace(a, logits=a.logits[1:]))
    for name, value in {"logits": None, "W": np.ones((3, 4)), "centroids": a.W}.items():
        with pytest.raises(UsageError, match=f"{name} .*, not "):
            metric_intervals(dataclasses.replace(a, **{name: value}))
    a.logits[3, 1] = math.nan
    with pytest.raises(UsageError, match="NaN"):
        metric_intervals(a)
