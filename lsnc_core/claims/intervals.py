"""Confidence intervals over seeds, the place of a curve's minimum, and components of variance.

They cover what a seed draws: the weights, the label noise and the order of the batches, which the
networks of one seed share. `benchmarks/coverage.py` simulates how often they hold the truth.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lsnc_core.errors import UsageError

LEVEL = 0.95
ENUMERATED = 8  # seeds whose resamples are all enumerated: 6,435


class Cells(NamedTuple):
    """How a curve's slope is measured in the cells between grid points.

    Attributes:
        steps: float (points - 1,), the lengths of the cells in the coordinate of the slope; in a
            cell of infinite length nothing is known of the curve.
        centres: float (points - 1,), where in each cell the curve has its mean slope.
    """

    steps: np.ndarray
    centres: np.ndarray

    def beside(self) -> np.ndarray:
        """Which grid points have a cell of finite length on either side; bool (points,)."""
        known = np.isfinite(self.steps)
        inner = known[:-1] & known[1:]
        return np.concatenate([[False], inner, [False]])[: len(known) + 1]


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
    _check_level(level)
    values = _as_numbers(values)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise UsageError(f"an interval needs two or more finite values, got {values.tolist()}.")
    # scipy.stats.ttest_1samp has the same interval but warns where all values are equal
    half = _t_quantile(level, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


def curve_argmin(x: np.ndarray, y: np.ndarray, cells: Cells | None = None) -> float:
    """The minimum of a curve, by a local fit of its slope.

    The slope is taken to be linear between the centres of the two cells beside the lowest grid
    point; the minimum is where it is zero. By default, this is the vertex of the parabola through
    the grid point and its two neighbours.

    Args:
        x: float (points,), increasing, finite.
        y: float (points,), finite.
        cells: of x; those of a parabola by default.

    Returns:
        The minimum, between the centres of the two cells; the grid point itself if it is the first
        or the last, or beside a cell of infinite length.

    >>> round(curve_argmin(np.array([0.0, 1.0, 3.0]), np.array([4.0, 1.0, 1.0])), 6)
    2.0
    """
    return float(_find_argmins(x, y[None], cells or _parabola_cells(x))[0])


def _find_argmins(x: np.ndarray, curves: np.ndarray, cells: Cells) -> np.ndarray:
    """`curve_argmin` of each row of curves."""
    lowest, rows = curves.argmin(1), np.arange(len(curves))
    argmins, fitted = x[lowest], cells.beside()[lowest]
    lowest, rows = lowest[fitted], rows[fitted]
    fall = (curves[rows, lowest - 1] - curves[rows, lowest]) / cells.steps[lowest - 1]
    rise = (curves[rows, lowest + 1] - curves[rows, lowest]) / cells.steps[lowest]
    # three equal values have no curvature: the grid point itself
    bent = fall + rise > 0
    left, right = cells.centres[lowest - 1], cells.centres[lowest]
    share = fall / np.where(bent, fall + rise, 1)
    argmins[rows] = np.where(bent, left + (right - left) * share, argmins[rows])
    return argmins


def _parabola_cells(x: np.ndarray) -> Cells:
    """A parabola has its mean slope half-way."""
    return Cells(np.diff(x), (x[1:] + x[:-1]) / 2)


def grid_resolution(x: np.ndarray, lowest: int, cells: Cells | None = None) -> tuple[float, float]:
    """Where a minimum can lie if all that is known is the lowest grid point: up to the centres of
    the cells beside it, and anywhere in a cell of infinite length.

    Args:
        x, cells: as in `curve_argmin`.
        lowest: the index of the lowest grid point.
    """
    steps, centres = cells or _parabola_cells(x)
    # the cell left of a point has its index less one; before the first and after the last is none
    low, high = x[max(lowest - 1, 0)], x[min(lowest + 1, len(x) - 1)]
    if lowest > 0 and np.isfinite(steps[lowest - 1]):
        low = centres[lowest - 1]
    if lowest < len(x) - 1 and np.isfinite(steps[lowest]):
        high = centres[lowest]
    return float(low), float(high)


def argmin_interval(
    x: Sequence[float] | np.ndarray,
    curves: np.ndarray,
    level: float = LEVEL,
    cells: Cells | None = None,
) -> tuple[float, float, float]:
    """The minimum of the mean of several curves, with an interval over the curves.

    The interval holds two ranges, each of which covers too little for some curves:

    - At the minimum the mean slope is zero. From the minimum to either side, the first range
      reaches as far as Student's test over the curves finds no rise, by slopes that are linear
      between the centres of cells, as in `curve_argmin`; to the end of the grid if there is none up
      to the last centre. Curves that are rough on a fine grid end it too soon.
    - The second range is the expanded percentile interval of the argmins of resampled mean curves:
      their quantiles Phi(-z) and Phi(z), rounded outward, with z = sqrt(n / (n - 1)) t and
      Student's quantile t of the 95 % interval. With four seeds it reaches from the least to the
      greatest resample. Few seeds have no resamples further out, so for another level the
      distances of its ends from the argmin are multiplied by the ratio of Student's quantiles.

    A grid cannot resolve more than its steps. So the interval always holds the mean curve's lowest
    grid point with its `grid_resolution`.

    Args:
        x: float (points,), increasing, finite.
        curves: float (seeds, points), finite.
        level: coverage, in (0, 1).
        cells: of x; those of a parabola by default.

    Returns:
        argmin of the mean curve, low, high; all in [x[0], x[-1]].

    Raises:
        UsageError: for fewer than two curves, shapes that do not fit or values that are not finite.

    Source: ours. By inversion of a test, as in Fieller 1954; and Hesterberg 2015, "What teachers
    should know about the bootstrap", The American Statistician 69(4). `benchmarks/coverage.py`
    compares.
    """
    _check_level(level)
    x, curves = _as_numbers(x), _as_numbers(curves)
    fits = x.ndim == 1 and curves.ndim == 2 and curves.shape[1] == x.size and len(curves) >= 2
    if not fits or not x.size or not (np.diff(x) > 0).all() or not np.isfinite(curves).all():
        raise UsageError(
            f"an argmin interval needs two or more finite curves over {x.size} rising points, "
            f"got shape {curves.shape}."
        )
    cells = cells or _parabola_cells(x)
    mean = curves.mean(0)
    argmin = curve_argmin(x, mean, cells)
    ends = [
        grid_resolution(x, int(np.argmin(mean)), cells),
        _slope_range(x, curves, level, cells, argmin),
        _resampled_range(x, curves, level, cells, argmin),
    ]
    low, high = np.clip(np.array(ends), x[0], x[-1]).T
    return argmin, float(low.min()), float(high.max())


def _slope_range(
    x: np.ndarray, curves: np.ndarray, level: float, cells: Cells, argmin: float
) -> tuple[float, float]:
    """From the argmin of the mean curve as far as no rise is significant."""
    known = np.isfinite(cells.steps)
    slopes, centres = (np.diff(curves) / cells.steps)[:, known], cells.centres[known]
    t = _t_quantile(level, len(curves) - 1)
    rise = _find_rise(centres, slopes, argmin, t)
    fall = _find_rise(-centres[::-1], -slopes[:, ::-1], -argmin, t)  # the mirror image
    return float(x[0]) if fall is None else -fall, float(x[-1]) if rise is None else rise


def _resampled_range(
    x: np.ndarray, curves: np.ndarray, level: float, cells: Cells, argmin: float
) -> tuple[float, float]:
    """The expanded percentile interval of the argmin of the mean curve."""
    from scipy import stats

    seeds = len(curves)
    counts, shares = _resamples(seeds)
    argmins = _find_argmins(x, counts @ curves / seeds, cells)
    t = _t_quantile(LEVEL, seeds - 1)
    # outward: less than this share of the resamples lies beyond an end
    tail = stats.norm.cdf(-math.sqrt(seeds / (seeds - 1)) * t)
    quantile = {"q": tail, "weights": shares, "method": "inverted_cdf"}
    low, high = np.quantile(argmins, **quantile), -np.quantile(-argmins, **quantile)
    stretch = _t_quantile(level, seeds - 1) / t
    return argmin - stretch * (argmin - low), argmin + stretch * (high - argmin)


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


def _find_rise(centres: np.ndarray, slopes: np.ndarray, start: float, t: float) -> float | None:
    """The first place from `start` on at which the seeds' slopes are significantly positive.

    Args:
        centres: float (cells,), increasing.
        slopes: float (seeds, cells), at the centres; linear between them, constant beyond.
        start: where the search starts.
        t: quantile of Student's distribution.
    """
    if not len(centres):
        return None
    places = np.linspace(start, max(start, centres[-1]), 1001)
    between = np.array([np.interp(places, centres, seed) for seed in slopes])  # (seeds, places)
    excess = between.mean(0) - t * between.std(0, ddof=1) / math.sqrt(len(slopes))
    if not (excess > 0).any():
        return None
    first = int(np.argmax(excess > 0))
    if first == 0:
        return start
    # between two of so many places, the excess is nearly linear
    return float(np.interp(0, excess[first - 1 : first + 1], places[first - 1 : first + 1]))


def _as_numbers(values: object) -> np.ndarray:
    """Numbers as float64. Raises: UsageError, for anything else."""
    try:
        numbers = np.asarray(values)
        if numbers.dtype.kind in "fiu":
            return numbers.astype(float)
    except (TypeError, ValueError, RuntimeError):
        pass  # ragged, or a tensor that is on no CPU or has a gradient
    raise UsageError(f"an interval needs numbers, got {values!r}.")


def _check_level(level: float) -> None:
    """Refuse what is no number in (0, 1). Raises: UsageError."""
    if not isinstance(level, (int, float)) or not 0 < level < 1:
        raise UsageError(f"the level of an interval must lie between 0 and 1, not {level!r}.")


@functools.cache  # scipy takes .1 ms
def _t_quantile(level: float, freedom: int) -> float:
    """Half the length of a Student interval in standard errors."""
    from scipy import stats

    return float(stats.t.ppf((1 + level) / 2, freedom))


def rank_interval(x: np.ndarray, y: np.ndarray, level: float = LEVEL) -> tuple[float, float, float]:
    """Spearman's rank correlation with its interval.

    The interval is normal in atanh(r) with standard error sqrt((1 + r^2/2) / (n - 3)).

    Args:
        x, y: float (n,), n > 3, neither constant.
        level: coverage, in (0, 1).

    Returns:
        r, low, high in [-1, 1].

    Raises:
        UsageError: for anything else.

    Source: Bonett and Wright 2000.

    >>> falling = np.array([9, 8, 7, 5, 6, 4, 1, 3, 2])
    >>> [round(value, 3) for value in rank_interval(np.arange(9), falling)]
    [-0.933, -0.99, -0.62]
    """
    from scipy import stats

    _check_level(level)
    x, y = _as_numbers(x), _as_numbers(y)
    if x.ndim != 1 or x.shape != y.shape or len(x) < 4 or not np.isfinite([x, y]).all():
        raise UsageError(
            "a rank correlation needs two lists of at least 4 finite numbers, of one length, got "
            f"shapes {x.shape} and {y.shape}."
        )
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        raise UsageError("a rank correlation needs numbers that are not all the same.")
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
    _check_level(level)
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
    values = _as_numbers(values)
    fits = values.ndim in (2, 3) and values.shape[-2] >= seeds and values.shape[-1] >= 2
    # squares of larger numbers have no sum
    if not fits or not values.size or not (np.abs(values) < 1e150).all():
        raise UsageError(
            f"a variance component needs finite values of {seeds} or more seeds by two or more "
            f"conditions, got shape {values.shape}."
        )
    return values
