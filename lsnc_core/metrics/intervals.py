"""Intervals of metrics for the samples they were measured on, and of differences of two models.

What is estimated is the value for the population: that of infinitely many samples of the same
network, with the class shares of these data. The network, and so W, is fixed. The metric of N
samples is a biased estimate of it. Class means with noise inflate NC2, NC3 and Sigma_B, and the
scatter about them is too small. An interval is therefore about the bias-corrected `estimate`, and
may leave out the `value` of these samples.

Method: a delete-a-group jackknife within classes (`lsnc_core.metrics.replicates`), which gives bias
and variance of every metric from 50 replicates, and quantiles of t with 49 degrees of freedom. NC1,
norms, NLL and Brier score are logarithms there. Distances (NC2, NC3) are squares: a square is
smooth where the distance is 0, so its bias is corrected there as elsewhere. Where the lower limit
of a square is below 0, the interval is one-sided, from 0. Shares of samples have Clopper and
Pearson's interval at the number of samples that the variance is worth (Korn and Graubard 1998).
Calibration errors and equiangularity are sums of absolute values, which sampling only increases.
Their lower limit subtracts the increase expected were each term two standard errors nearer to 0,
their upper limit nothing.
"""

import math
from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass

import numpy as np
import torch

from lsnc_core.defaults import usual_defaults
from lsnc_core.errors import UsageError
from lsnc_core.labels import as_count
from lsnc_core.metrics.calibration import SCORES
from lsnc_core.metrics.collapse import FORMULAS, SAMPLE_MEAN, SECOND_PASS
from lsnc_core.metrics.predictions import Predictions
from lsnc_core.metrics.replicates import (
    GROUPS,
    CollapseReplicates,
    class_means,
    draw_groups,
    mean_replicates,
    nearest_mean_hits,
    score_replicates,
)
from lsnc_core.metrics.statistics import Statistics, check_centroids, check_samples, describe

EXACT = ("nc2_W", "nc2_W_centred", "nc2_W_equinorm", "nc2_W_equiangular", "W_norm")
LOGARITHM = ("nc1_trace", "nc1_trace_over_K", "nc1_quotient", "nc1_cdnv", "means_norm")
SQUARE = (
    "nc2_means",
    "nc2_means_equinorm",
    "nc2_log_inverse_distance_cv",
    "nc3_product",
    "nc3_product_W_centred",
    "nc3_distance",
    "nc3_distance_W_centred",
    "W_mu_plus_b",
)
REAL = ("nc2_log_inverse_distance",)
IS_SQUARE = ("nc3_distance_squared", "nc3_distance_squared_W_centred")
MEANS = ("nll", "brier")
SHARES = tuple(SECOND_PASS)
NEAREST = ("ncc_accuracy", "nc4_agreement")
TERMS = ("nc2_means_equiangular", "ece_15", "ece_20", "adaptive_ece_15", "classwise_ece_15")
UNDEFINED = "the metric is undefined for these samples"
MAXIMUM = "a maximum over bins of few samples has no valid interval"
NO_CLASSIFIER = "needs the classifier: give W, and b if there is one"
NOISE = 0.2  # share of the scatter between class means that may be noise
CORRECTION = 1.2  # factor between an estimate and the metric of the samples
MOST_GIB = 4
UNKNOWN = "no interval is known for this metric"
BIASED = "the bias at so few samples is too large to correct: take more samples"
ZERO = "0 for these samples, which says nothing about how far it varies"
OF_W = "depends on the classifier alone: exact"
NEAR_ZERO = "not distinguishable from 0: read it as an upper bound"


@dataclass(frozen=True, eq=False)
class Samples:
    """A network's outputs on one set of samples, in memory.

    features: float (N, D), the classifier's input; logits: float (N, K); labels: int64 (N,).
    W, b: float (K, D) and (K,), the classifier, or None.
    centroids: statistics whose class means the nearest-class-mean rule uses, e.g. those of the
        training set; None for the means of these samples.
    """

    features: torch.Tensor
    logits: torch.Tensor
    labels: torch.Tensor
    W: torch.Tensor | None = None
    b: torch.Tensor | None = None
    centroids: Statistics | None = None


@dataclass(frozen=True)
class MetricInterval:
    """A metric of the samples and what they tell about its value for the population.

    value: the metric of these samples; of a comparison, the second model's less the first's.
    estimate: the value for the population, corrected for bias; NaN where there is none.
    low, high: the interval of the value for the population; None where there is none.
    remark: why there is no interval, or how to read it; "" otherwise.
    """

    value: float
    estimate: float
    low: float | None
    high: float | None
    remark: str = ""


@dataclass(frozen=True, eq=False)
class _Resampled:
    """A metric of N samples, its replicates where it has some, and why it has no interval."""

    value: float
    replicates: torch.Tensor | None
    N: int
    remark: str = ""


@dataclass(frozen=True, eq=False)
class _Limits:
    """Estimate and limits, and the replicates, float64 (1 + GROUPS,), of the metric.

    Of a sum of absolute values, the replicates are its parts along the terms' signs, and `gain` is
    what the sum may have gained from noise.
    """

    estimate: float
    low: float
    high: float
    replicates: torch.Tensor
    gain: float = 0.0


@usual_defaults()
def metric_intervals(
    samples: Samples,
    *,
    level: float = 0.95,
    seed: int = 0,
    names: Collection[str] | None = None,
) -> dict[str, MetricInterval]:
    """Intervals of collapse and calibration metrics for the population of the samples.

    The accuracies of nearest class means are those of the present class means for new samples, so
    a sample is left out of its own class mean. There are no intervals for mce_15, a maximum over
    bins of few samples; nor for metrics of means where a class has a single sample, or where more
    than a fifth of the scatter between class means is the means' own noise; nor for NC1 where the
    correction of its bias exceeds a factor 1.2, as where two classes hardly differ.

    Simulated coverage of the 95 % interval, 500 sets each, normal noise, K = 10, D = 64:

        samples per class    nc1_trace    nc2_means    nc3_distance    nc3_product    accuracy
        500                  .948         .952         .964            .954           .938
        50                   .936         .962         .972            .960           .954

    At 50 the metrics of the samples are biased by -0.7, +1.2, +3.9, +1.6 and 0 standard deviations
    of the estimates, the estimates by at most 0.1; nc1_quotient and nc1_cdnv cover .91, NLL and
    Brier score .95. Calibration errors and equiangularity cover .97 to 1: their intervals are
    longer than needed. True NC2 and NC3 of 0 and of 0.03 at 50 are covered by [0, high] in at least
    .99 of 200 sets, those of 0.1 in at least .97. `benchmarks/metric_coverage.py` has more cases.

    Args:
        samples: of at least two classes.
        level: how often the interval shall hold the population's value, in (0, 1).
        seed: draws the groups.
        names: of `FORMULAS` and of the calibration scores; None for all.

    Returns: MetricInterval by name.
    Raises: UsageError where shapes do not fit, numbers are not finite, a name is unknown, or the
    replicates would take more than 4 GiB.
    """
    resampled, level = _resample(samples, level, seed, names), float(level)
    return {name: _interval(name, metric, level) for name, metric in resampled.items()}


@usual_defaults()
def compare_intervals(
    a: Samples,
    b: Samples,
    *,
    level: float = 0.95,
    seed: int = 0,
    names: Collection[str] | None = None,
) -> dict[str, MetricInterval]:
    """Intervals of the differences b - a between two models on the same samples.

    Both have the same replicates, whose differences give bias and variance. Differences of shares
    have limits from those of the two models and the correlation of their replicates (Newcombe).
    Where a distance is not distinguishable from 0, the two are taken to be independent, which makes
    the interval too long rather than too short.

    Args: a, b, samples in the same order; level, seed and names as in `metric_intervals`.
    Returns: MetricInterval by name. Raises: UsageError as `metric_intervals`, and where labels
    differ.
    Source: Newcombe 1998, Statistics in Medicine 17(22) (paired shares).
    """
    for given in (a, b):
        _check_samples(given)
    if not torch.equal(a.labels.cpu().long(), b.labels.cpu().long()):
        raise UsageError(
            "the two models are compared on the same samples, but their labels differ: read both "
            "from one loader that does not shuffle."
        )
    one, other = (_resample(samples, level, seed, names) for samples in (a, b))
    level = float(level)
    return {name: _difference(name, one[name], other[name], level) for name in one}


def _resample(
    samples: Samples, level: float, seed: int, names: Collection[str] | None
) -> dict[str, _Resampled]:
    """The named metrics in all replicates."""
    _check_samples(samples)
    names = _check(samples, level, names)
    seed = as_count(seed, "seed")
    wanted, (N, K) = set(names), samples.logits.shape
    features, labels = check_samples(samples.features, samples.labels, K)
    labels = labels.cpu()
    counts, means = class_means(features, labels, K)
    groups = draw_groups(labels, K, seed)
    single = (counts == 1).nonzero()[:, 0].tolist()
    replicates: dict[str, torch.Tensor] = {}
    refused = {"mce_15": MAXIMUM}
    if wanted & (FORMULAS.keys() - SHARES):
        _check_memory(K, features.shape[1])
        collapse = CollapseReplicates(features, labels, means, groups, samples.W, samples.b)
        replicates = collapse.values()
        if not single and (share := collapse.noise_share()) > NOISE:
            remark = f"{share:.0%} of the scatter between class means is noise: take more samples"
            refused |= dict.fromkeys(replicates.keys() - EXACT, remark)
    if single:
        of_means = replicates.keys() - EXACT
        if samples.centroids is None:
            of_means |= set(NEAREST)
        remark = f"class {single[0]} has a single sample, whose spread cannot be estimated"
        refused |= dict.fromkeys(of_means, remark)
        # Without classes as strata the intervals of means of samples are rather too long.
        groups = draw_groups(torch.zeros_like(labels), 1, seed)
    if wanted & {"accuracy", *SCORES}:
        replicates |= score_replicates(samples.logits, labels, groups)
    # a vector of replicates holds the terms of a sum of absolute values
    values = {
        name: float(metric[0].abs().sum() if metric.ndim > 1 else metric[0])
        for name, metric in replicates.items()
    }
    if wanted & set(NEAREST):
        chosen = samples.logits.argmax(1).cpu()
        hits = nearest_mean_hits(features, labels, chosen, means, samples.centroids)
        replicates |= zip(NEAREST, mean_replicates(hits[2:], groups), strict=True)
        values |= zip(NEAREST, hits[:2].mean(1).tolist(), strict=True)
    resampled = {}
    for name in names:
        if name in SCORES and name not in values:
            predictions = Predictions(samples.logits, labels.to(samples.logits.device))
            values[name] = SCORES[name][0](predictions)
        value = values.get(name, math.nan)
        remark = refused.get(name, "" if name in values else NO_CLASSIFIER)
        if not remark and not math.isfinite(value):
            remark = UNDEFINED
        resampled[name] = _Resampled(value, replicates.get(name), N, remark)
    return resampled


def _check(samples: Samples, level: float, names: Collection[str] | None) -> list[str]:
    """The names, or UsageError where they, the level or the logits do not fit."""
    if not isinstance(level, int | float | np.number) or not 1e-9 < level < 1:
        raise UsageError(f"level must lie between 0 and 1, e.g. 0.95, not {level!r}.")
    logits, known = samples.logits, [*FORMULAS, *SCORES]
    if logits.ndim != 2 or len(logits) != len(samples.labels):
        raise UsageError(
            f"logits must have one row for each of the {len(samples.labels)} labels, not the shape "
            f"{tuple(logits.shape)}."
        )
    if not logits.amax(1).isfinite().all():
        raise UsageError("the logits hold NaN or infinity: find the layer that produces them.")
    if isinstance(names, str) or not isinstance(names, Sequence | Set | None):
        raise UsageError(f"names must be None or a list of names, not {names!r}.")
    for name in () if names is None else names:
        if not isinstance(name, str) or name not in known:
            raise UsageError(f"there is no metric {name!r}: FORMULAS and SCORES list them.")
    return known if names is None else list(names)


def _check_samples(samples: Samples) -> None:
    """Refuse what is not `Samples` of tensors. Raises: UsageError."""
    if not isinstance(samples, Samples):
        raise UsageError(f"intervals are those of Samples, not of {describe(samples)}.")
    given = {"logits": samples.logits, "W": samples.W, "b": samples.b}
    for name, value in given.items():
        if not isinstance(value, torch.Tensor) and (value is not None or name == "logits"):
            raise UsageError(f"{name} of Samples must be a tensor, not {describe(value)}.")
    check_centroids(samples.centroids)


def _check_memory(K: int, D: int) -> None:
    """Raise UsageError where the replicates' class means and angles would take more than 4 GiB."""
    gib = 8 * GROUPS * K * (K + D) / 2**30
    if gib > MOST_GIB:
        raise UsageError(
            f"intervals of the class means' metrics for {K} classes in {D} dimensions would take "
            f"{gib:.0f} GiB of memory: ask for the accuracy and calibration scores alone, "
            "names=[...]."
        )


def _limits(name: str, metric: _Resampled, level: float) -> _Limits | str:
    """Estimate and limits of a metric, or why it has none."""
    base, x = name.removesuffix(SAMPLE_MEAN), metric.replicates
    if metric.remark or x is None:
        return metric.remark or UNKNOWN
    from scipy import stats  # imported where it is used: it takes longer than the metrics

    quantile = float(stats.t.ppf((1 + level) / 2, GROUPS - 1))
    if base in EXACT:
        return _Limits(metric.value, metric.value, metric.value, x)
    if base in TERMS:
        return _absolute_limits(x, quantile)
    if base in SHARES:
        return _share_limits(x, quantile, metric.N, level)
    if base in LOGARITHM or base in MEANS:
        if not (x > 0).all():
            return ZERO
        limits = _logarithm_limits(x, quantile, unbiased=base in MEANS)
        correction = abs(math.log(limits.estimate / metric.value))
        return limits if correction < math.log(CORRECTION) else BIASED
    if base in IS_SQUARE:
        return _Limits(*_square_limits(x, quantile), x)
    if base in SQUARE:
        estimate, low, high = _square_limits(x.square(), quantile)
        return _Limits(math.sqrt(estimate), math.sqrt(low), math.sqrt(high), x)
    return UNKNOWN


def _jackknife(replicates: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The bias-corrected estimate and its standard error, float64 (...).

    Args: replicates, float64 (1 + GROUPS, ...).
    """
    mean = replicates[1:].mean(0)
    error = ((GROUPS - 1) / GROUPS * (replicates[1:] - mean).square().sum(0)).sqrt()
    return replicates[0] - (GROUPS - 1) * (mean - replicates[0]), error


def _logarithm_limits(replicates: torch.Tensor, quantile: float, unbiased: bool) -> _Limits:
    """Limits of a positive metric, symmetric about its logarithm."""
    logarithms = replicates.log()
    estimate, error = _jackknife(logarithms)
    centre, half = float(logarithms[0] if unbiased else estimate), quantile * float(error)
    return _Limits(math.exp(centre), math.exp(centre - half), math.exp(centre + half), replicates)


def _square_limits(squares: torch.Tensor, quantile: float) -> tuple[float, float, float]:
    """Estimate and limits of a metric that is 0 or more and smooth at 0."""
    corrected, error = _jackknife(squares)
    # The upper limit adds to 0 at least: noise alone takes a corrected square below 0.
    estimate, half = max(float(corrected), 0.0), quantile * float(error)
    return estimate, max(float(corrected) - half, 0.0), estimate + half


def _share_limits(shares: torch.Tensor, quantile: float, N: int, level: float) -> _Limits:
    """Clopper and Pearson's limits at the effective number of samples."""
    from scipy import stats

    error = float(_jackknife(shares)[1])
    share, size = float(shares[0].clamp(0, 1)), float(N)
    if 0 < share < 1 and error > 0:
        # Classes as strata are worth more samples. Few samples can make that look boundless.
        size = min(share * (1 - share) / error**2, 2 * size)
        size *= (float(stats.norm.ppf((1 + level) / 2)) / quantile) ** 2
    hits, tail = share * size, (1 - level) / 2
    low = 0.0 if share == 0 else float(stats.beta.ppf(tail, hits, size - hits + 1))
    high = 1.0 if share == 1 else float(stats.beta.ppf(1 - tail, hits + 1, size - hits))
    return _Limits(share, low, high, shares)


def _absolute_limits(terms: torch.Tensor, quantile: float) -> _Limits:
    """Limits of a sum of absolute values of terms (1 + GROUPS, terms)."""
    centres, errors = _jackknife(terms)
    sizes = centres.abs()
    # The sum moves with the terms along their signs; what it gains from noise is subtracted below.
    along = terms @ centres.sign()  # (1 + GROUPS,)
    total, error = _jackknife(along)
    half = quantile * float(error)
    gain = float(_gain(sizes - 2 * errors, errors).sum())
    estimate = max(float(total - _gain(sizes, errors).sum()), 0.0)
    low, high = max(float(total) - gain - half, 0.0), float(total) + half
    return _Limits(estimate, low, high, along, gain)


def _gain(sizes: torch.Tensor, errors: torch.Tensor) -> torch.Tensor:
    """E|X| - |mean| of normal X with these means, from 0, and standard deviations."""
    sizes = sizes.clamp(min=0)
    ratios = sizes / errors.clamp(min=torch.finfo(torch.float64).tiny)
    densities = (-ratios.square() / 2).exp() / math.sqrt(2 * math.pi)
    return 2 * (errors * densities - sizes * torch.special.ndtr(-ratios))


def _interval(name: str, metric: _Resampled, level: float) -> MetricInterval:
    limits, base = _limits(name, metric, level), name.removesuffix(SAMPLE_MEAN)
    if isinstance(limits, str):
        return MetricInterval(metric.value, math.nan, None, None, limits)
    remark = ""
    if base in EXACT:
        remark = OF_W
    elif limits.low == 0 and base not in SHARES:
        remark = NEAR_ZERO
    return MetricInterval(metric.value, limits.estimate, limits.low, limits.high, remark)


def _difference(name: str, a: _Resampled, b: _Resampled, level: float) -> MetricInterval:
    value, one, other = b.value - a.value, _limits(name, a, level), _limits(name, b, level)
    if isinstance(one, str) or isinstance(other, str):
        remark = one if isinstance(one, str) else str(other)
        return MetricInterval(value, math.nan, None, None, remark)
    base, estimate = name.removesuffix(SAMPLE_MEAN), other.estimate - one.estimate
    from scipy import stats  # imported where it is used: it takes longer than the metrics

    quantile = float(stats.t.ppf((1 + level) / 2, GROUPS - 1))
    if base in EXACT:
        return MetricInterval(value, value, value, value, OF_W)
    if base in TERMS:
        # Either sum may have gained from noise as much as its own limits allow.
        total, error = map(float, _jackknife(other.replicates - one.replicates))
        low, high = total - other.gain - quantile * error, total + one.gain + quantile * error
    elif base in SHARES or min(one.low, other.low) == 0:
        r = _correlation(one.replicates, other.replicates) if base in SHARES else 0.0
        low = estimate - _length(other.estimate - other.low, one.high - one.estimate, r)
        high = estimate + _length(other.high - other.estimate, one.estimate - one.low, r)
    else:
        half = quantile * float(_jackknife(other.replicates - one.replicates)[1])
        low, high = estimate - half, estimate + half
    return MetricInterval(value, estimate, low, high)


def _correlation(x: torch.Tensor, y: torch.Tensor) -> float:
    """The correlation of two shares' replicates; 0 where one does not vary."""
    x, y = x[1:] - x[1:].mean(), y[1:] - y[1:].mean()
    norms = float(x.norm() * y.norm())
    return float(x @ y) / norms if norms else 0.0


def _length(x: float, y: float, correlation: float) -> float:
    """Standard deviation of the difference of two variables whose deviations are x and y."""
    return math.sqrt(max(x * x + y * y - 2 * correlation * x * y, 0.0))
