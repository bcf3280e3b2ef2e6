"""Confidence intervals over seeds, and the place of a curve's minimum.

They cover what the seed draws: the weights, the label noise and the order of the batches, which the
networks of one seed share.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from lsnc_core.errors import UsageError

LEVEL = 0.95


def t_interval(
    values: Sequence[float] | np.ndarray, level: float = LEVEL
) -> tuple[float, float, float]:
    """Mean and 95 % Student interval of independent values, one per seed.

    Args:
        values: float (seeds,), at least two, finite.

    Returns:
        mean, low, high in the unit of the values.

    Raises:
        UsageError: for fewer than two values or a value that is not finite.

    >>> [round(x, 3) for x in t_interval([1.0, 2.0, 3.0, 4.0])]
    [2.5, 0.446, 4.554]
    """
    from scipy import stats

    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise UsageError(f"an interval needs two or more finite values, got {values.tolist()}.")
    # scipy.stats.ttest_1samp has the same interval but warns where all values are equal
    quantile = stats.t.ppf((1 + level) / 2, len(values) - 1)
    half = quantile * values.std(ddof=1) / np.sqrt(len(values))
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
    x: Sequence[float] | np.ndarray, curves: np.ndarray
) -> tuple[float, float, float]:
    """The minimum of the mean of several curves, with a 95 % percentile bootstrap interval over
    the curves.

    Up to six seeds, every resample with replacement is enumerated, so nothing is drawn; above six,
    10,000 seeded resamples are. A bootstrap of few seeds is too narrow, and a grid cannot resolve
    more than its steps. So the interval always holds the points half-way to both neighbours of the
    mean curve's lowest grid point; if a neighbour lies at infinity, the neighbour itself.

    Args:
        x: float (points,), increasing, in a coordinate in which the curves are smooth; the ends may
            be infinite.
        curves: float (seeds, points), finite.

    Returns:
        argmin of the mean curve (local parabola), low, high; all in [x[0], x[-1]].

    Raises:
        UsageError: for fewer than two curves, shapes that do not fit or values that are not finite.
    """
    x, curves = np.asarray(x, dtype=float), np.asarray(curves, dtype=float)
    fits = curves.ndim == 2 and curves.shape[1] == len(x) and len(curves) >= 2
    if not fits or not np.isfinite(curves).all():
        raise UsageError(
            f"an argmin interval needs two or more finite curves over {len(x)} points, "
            f"got shape {curves.shape}."
        )
    seeds = len(curves)
    if seeds <= 6:
        draws = np.array(list(itertools.product(range(seeds), repeat=seeds)))
    else:
        draws = np.random.default_rng(0).integers(seeds, size=(10_000, seeds))
    lowest = [parabola_argmin(x, mean) for mean in curves[draws].mean(1)]
    # outward rounding: interpolated quantiles would do arithmetic with points at infinity
    low = np.quantile(lowest, (1 - LEVEL) / 2, method="lower")
    high = np.quantile(lowest, (1 + LEVEL) / 2, method="higher")
    # the grid's own resolution around the lowest point of the mean curve
    best = int(np.argmin(curves.mean(0)))
    cell_low, cell_high = _half_way(x, best, -1), _half_way(x, best, +1)
    return (
        parabola_argmin(x, curves.mean(0)),
        float(min(low, cell_low)),
        float(max(high, cell_high)),
    )


def _half_way(x: np.ndarray, at: int, step: int) -> float:
    """The point half-way from a grid point to its neighbour; the neighbour if that is infinite."""
    neighbour = x[min(max(at + step, 0), len(x) - 1)]
    middle = (x[at] + neighbour) / 2
    return float(middle if np.isfinite(middle) else neighbour)


def rank_interval(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Spearman's rank correlation with a 95 % interval.

    The interval is normal in atanh(r) with standard error sqrt((1 + r^2/2) / (n - 3)).

    Args:
        x, y: float (n,), n > 3, neither constant.

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
    half = stats.norm.ppf((1 + LEVEL) / 2) * error
    middle = np.arctanh(np.clip(r, -1 + 1e-15, 1 - 1e-15))  # atanh(1) is infinite
    return r, float(np.tanh(middle - half)), float(np.tanh(middle + half))
