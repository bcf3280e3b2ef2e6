"""Confidence intervals over seeds, the place of a curve's minimum, and components of variance.

All intervals have the level `LEVEL` unless asked for another. They cover what the seed draws: the
weights, the label noise and the order of the batches, which the networks of one seed share.
`benchmarks/coverage.py` simulates how often they hold the truth.
"""

import functools
import itertools
import math
from collections.abc import Sequence

import numpy as np

from lsnc_core.errors import UsageError

LEVEL = 0.95
ENUMERATED = 8  # seeds whose resamples are all enumerated: 6,435


def t_interval(
    values: Sequence[float] | np.ndarray, level: float = LEVEL
) -> tuple[float, float, float]:
    """Mean and Student interval of independent values, one per seed.

    Args:
        values: float (seeds,), at least two, finite.
        level: coverage, in (0, 1).

    Returns:
        mean, low, high in the unit of the values.

    Raises:
        UsageError: for fewer than two values or a value that is not finite.

    >>> [round(x, 3) for x in t_interval([1.0, 2.0, 3.0, 4.0])]
    [2.5, 0.446, 4.554]
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise UsageError(f"an interval needs two or more finite values, got {values.tolist()}.")
    # scipy.stats.ttest_1samp has the same interval but warns where all values are equal
    half = _t_quantile(level, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


def parabola_argmin(x: np.ndarray, y: np.ndarray) -> float:
    """The minimum of a curve: the vertex of the parabola through its lowest grid point and that
    point's two neighbours.

    Args:
        x: float (points,), increasing.
        y: float (points,), finite.

    Returns:
        The vertex, between the two neighbours; the grid point itself if the lowest is the first or
        the last, or next to a point at infinity.

    >>> round(parabola_argmin(np.array([0.0, 1.0, 3.0]), np.array([4.0, 1.0, 1.0])), 6)
    2.0
    """
    lowest = int(np.argmin(y))
    if lowest in (0, len(x) - 1):
        return float(x[lowest])
    left, here, right = x[lowest - 1 : lowest + 2]
    if not (np.isfinite(left) and np.isfinite(right)):
        return float(here)
    rise_left = (y[lowest - 1] - y[lowest]) / (here - left)
    rise_right = (y[lowest + 1] - y[lowest]) / (right - here)
    if rise_left + rise_right == 0:  # three equal values have no curvature
        return float(here)
    # the parabola's slope is linear between the two midpoints, from -rise_left to rise_right
    middle_left, middle_right = (left + here) / 2, (here + right) / 2
    return float(middle_left + (middle_right - middle_left) * rise_left / (rise_left + rise_right))


def argmin_interval(
    x: Sequence[float] | np.ndarray, curves: np.ndarray, level: float = LEVEL
) -> tuple[float, float, float]:
    """The minimum of the mean of several curves, with a bootstrap interval over the curves.

    The 95 % interval is the expanded percentile interval: the quantiles Phi(-z) and Phi(z) of the
    argmins of the resampled mean curves, rounded outward, z = sqrt(n / (n - 1)) t with Student's
    quantile t at n - 1 degrees of freedom. A plain percentile interval of few seeds is too narrow.
    With four seeds it reaches from the least to the greatest resample. Few seeds have no resamples
    further out. So at every other level, the distances of its ends from the argmin are multiplied
    by the ratio of Student's quantiles. They count from the nearest finite grid point where the
    argmin is infinite, and an infinite end stays.

    A grid cannot resolve more than its steps. So the interval always holds the points half-way to
    both neighbours of the mean curve's lowest grid point; if a neighbour lies at infinity, the
    neighbour itself.

    Args:
        x: float (points,), increasing, in a coordinate in which the curves are smooth; the ends may
            be infinite.
        curves: float (seeds, points), finite.
        level: coverage, in (0, 1).

    Returns:
        argmin of the mean curve (local parabola), low, high; all in [x[0], x[-1]].

    Raises:
        UsageError: for fewer than two curves, shapes that do not fit or values that are not finite.

    Source: Hesterberg 2015, "What teachers should know about the bootstrap", The American
    Statistician 69(4).
    """
    from scipy import stats

    x, curves = np.asarray(x, dtype=float), np.asarray(curves, dtype=float)
    fits = curves.ndim == 2 and curves.shape[1] == len(x) and len(curves) >= 2
    if not fits or not np.isfinite(curves).all():
        raise UsageError(
            f"an argmin interval needs two or more finite curves over {len(x)} points, "
            f"got shape {curves.shape}."
        )
    seeds = len(curves)
    counts, shares = _resamples(seeds)
    lowest = np.array([parabola_argmin(x, mean) for mean in counts @ curves / seeds])
    z = math.sqrt(seeds / (seeds - 1)) * _t_quantile(LEVEL, seeds - 1)
    # outward: less than this share of the resamples lies beyond an end. Interpolated quantiles
    # would do arithmetic with points at infinity.
    tail = {"q": stats.norm.cdf(-z), "weights": shares, "method": "inverted_cdf"}
    low, high = np.quantile(lowest, **tail), -np.quantile(-lowest, **tail)
    argmin = parabola_argmin(x, curves.mean(0))
    finite = x[np.isfinite(x)]
    centre, stretch = np.clip(argmin, finite[0], finite[-1]), _stretch(level, seeds)
    low, high = (centre + stretch * (end - centre) for end in (low, high))
    # the grid's own resolution around the lowest point of the mean curve
    best = int(np.argmin(curves.mean(0)))
    low, high = min(low, _half_way(x, best, -1)), max(high, _half_way(x, best, +1))
    return argmin, max(float(low), float(x[0])), min(float(high), float(x[-1]))


@functools.cache
def _resamples(seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """Resamples of seeds with replacement: how often each holds each seed, and its probability.

    Up to `ENUMERATED` seeds, these are all distinct resamples, so nothing is drawn; above, 10,000
    seeded draws.

    Returns:
        int (resamples, seeds) and float (resamples,).
    """
    if seeds > ENUMERATED:
        generator = np.random.default_rng(0)
        counts = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=10_000)
        return counts, np.full(len(counts), 1 / len(counts))
    multisets = list(itertools.combinations_with_replacement(range(seeds), seeds))
    counts = (np.array(multisets)[:, :, None] == np.arange(seeds)).sum(1)
    factorials = np.array([math.factorial(count) for count in range(seeds + 1)])
    # multinomial probabilities
    orders = math.factorial(seeds) / factorials[counts].prod(1)
    return counts, orders / seeds**seeds


@functools.cache  # scipy takes .1 ms
def _t_quantile(level: float, freedom: int) -> float:
    """Half the length of a Student interval in standard errors."""
    from scipy import stats

    return float(stats.t.ppf((1 + level) / 2, freedom))


def _stretch(level: float, seeds: int) -> float:
    """How many times as long as at `LEVEL` an interval over seeds is at another level."""
    return _t_quantile(level, seeds - 1) / _t_quantile(LEVEL, seeds - 1)


def _half_way(x: np.ndarray, at: int, step: int) -> float:
    """The point half-way from a grid point to its neighbour; the neighbour if that is infinite."""
    neighbour = x[min(max(at + step, 0), len(x) - 1)]
    middle = (x[at] + neighbour) / 2
    return float(middle if np.isfinite(middle) else neighbour)


def rank_interval(x: np.ndarray, y: np.ndarray, level: float = LEVEL) -> tuple[float, float, float]:
    """Spearman's rank correlation with its interval.

    The interval is normal in atanh(r) with standard error sqrt((1 + r^2/2) / (n - 3)).

    Args:
        x, y: float (n,), n > 3, neither constant.
        level: coverage, in (0, 1).

    Returns:
        r, low, high in [-1, 1].

    Source: Bonett and Wright 2000.

    >>> falling = np.array([9, 8, 7, 5, 6, 4, 1, 3, 2])
    >>> [round(value, 3) for value in rank_interval(np.arange(9), falling)]
    [-0.933, -0.99, -0.62]
    """
    from scipy import stats

    r = float(stats.spearmanr(x, y).statistic)
    error = np.sqrt((1 + r * r / 2) / (len(x) - 3))
    half = stats.norm.ppf((1 + level) / 2) * error
    middle = np.arctanh(np.clip(r, -1 + 1e-15, 1 - 1e-15))  # atanh(1) is infinite
    return r, float(np.tanh(middle - half)), float(np.tanh(middle + half))


def variance_component(values: np.ndarray) -> float:
    """How much the true means vary over conditions: the variance over conditions that is not noise.

    In a two-way layout, conditions by seeds with seeds as blocks, this is (mean square of the
    conditions - residual mean square) / seeds. Its expectation is the variance of the true means,
    whatever a seed adds to all its conditions. The variance of the measured means adds noise.

    Args:
        values: float (seeds, conditions) or (groups, seeds, conditions), at least two of each,
            finite.

    Returns:
        The estimate in the square of the values' unit, negative by chance if there is little but
        noise; of several groups, their mean.

    Raises:
        UsageError: for another shape or a value that is not finite.

    >>> variance_component(np.array([[1.0, 3.0, 5.0], [2.0, 4.0, 6.0]]))  # no noise but of seeds
    4.0
    >>> variance_component(np.array([[1.0, 3.0], [3.0, 1.0]]))  # nothing but noise
    -2.0
    """
    values = _layout(values, 2)
    seeds, conditions = values.shape[-2:]
    centred = values - values.mean(-1, keepdims=True)  # without what a seed adds to all
    means = centred.mean(-2, keepdims=True)
    residual = centred - means
    noise = (residual**2).sum((-2, -1)) / ((seeds - 1) * (conditions - 1))
    return float((means.var(-1, ddof=1)[..., 0] - noise / seeds).mean())


def component_ratio_interval(
    first: np.ndarray, second: np.ndarray, level: float = LEVEL
) -> tuple[float, float, float]:
    """The ratio of two variance components over conditions, first to second, with its interval.

    The interval holds each ratio rho for which first - rho second is compatible with 0 in Student's
    test over the seeds' jackknife pseudo-values (Fieller). A logarithm of the ratio would not do:
    the first component may be 0, and its estimate negative.

    Args:
        first, second: as in `variance_component`, with the same three or more seeds, in order.
        level: coverage, in (0, 1).

    Returns:
        ratio, low, high in [0, inf); all NaN where the second component cannot be told from 0, so
        that no ratio can be excluded.

    Raises:
        UsageError: as `variance_component`, or if the seeds differ.

    Source: Fieller 1954; for the jackknife Tukey 1958.
    """
    first, second = _layout(first, 3), _layout(second, 3)
    seeds = first.shape[-2]
    if second.shape[-2] != seeds:
        raise UsageError(f"a ratio needs the same seeds, got {seeds} and {second.shape[-2]}.")
    (one, ones), (other, others) = (_pseudo_values(values) for values in (first, second))
    t = _t_quantile(level, seeds - 1)
    # squared errors of both components, and their covariance; the components share seeds
    (square_one, shared), (_, square_other) = np.cov(ones, others) / seeds
    # (one - rho other)^2 <= t^2 var(one - rho other): between the roots of a parabola in rho
    bend, middle = other**2 - t**2 * square_other, one * other - t**2 * shared
    if other <= 0 or bend <= 0:
        return math.nan, math.nan, math.nan
    half = math.sqrt(max(middle**2 - bend * (one**2 - t**2 * square_one), 0.0))
    low, high = (middle - half) / bend, (middle + half) / bend
    return max(one, 0.0) / other, max(low, 0.0), max(high, 0.0)


def _pseudo_values(values: np.ndarray) -> tuple[float, np.ndarray]:
    """The variance component, and its jackknife pseudo-values, one for each seed."""
    seeds, whole = values.shape[-2], variance_component(values)
    left_out = [variance_component(np.delete(values, seed, axis=-2)) for seed in range(seeds)]
    return whole, seeds * whole - (seeds - 1) * np.array(left_out)


def _layout(values: np.ndarray, seeds: int) -> np.ndarray:
    """Checked values of a two-way layout with at least so many seeds, float64."""
    values = np.asarray(values, dtype=float)
    fits = values.ndim in (2, 3) and values.shape[-2] >= seeds and values.shape[-1] >= 2
    if not fits or not values.size or not np.isfinite(values).all():
        raise UsageError(
            f"a variance component needs finite values of {seeds} or more seeds by two or more "
            f"conditions, got shape {values.shape}."
        )
    return values
