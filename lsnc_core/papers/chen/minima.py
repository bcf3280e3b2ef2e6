"""Where curves over p are lowest, how two such places differ, how one moves with a, and which
theory comes nearest.

a is the clean rate of the training labels, p the kept mass of the smoothed label. A table is one of
`lsnc_core.papers.chen.grid.landscape_table`, or has its columns a, p, seed and memorised.
"""

from typing import TYPE_CHECKING

import numpy as np

from lsnc_core import claims
from lsnc_core.claims import LEVEL, Cells
from lsnc_core.papers.chen.grid import PROTOCOLS, class_count, with_shared_seeds
from lsnc_core.theory import label_noise

if TYPE_CHECKING:
    import pandas as pd


BELOW_1 = float(np.nextafter(1, 0))  # the theory's losses are infinite at p = 1


def _odds(kept: np.ndarray) -> np.ndarray:
    """Kept masses as log-odds, infinite at p = 1."""
    with np.errstate(divide="ignore"):
        return np.log(kept) - np.log1p(-kept)


def loss_cells(kept: np.ndarray) -> Cells:
    """The cells of a grid of kept masses, for minima of losses.

    Over the log-odds of p, every curve of the theory, -q log p - (1 - q) log((1 - p)/(M - 1)), has
    the slope p - q, and in a cell the mean slope is that at the mean of p over the log-odds. So
    slopes are taken over log-odds and are linear in p between these means: exact for the theory's
    curves, a local fit of three points for any other. At p = 1, the log-odds are infinite.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.diff(_odds(kept))
        # the mean of p, for -log(1 - p) is its integral over the log-odds; NaN in a cell up to 1
        return Cells(steps, -np.diff(np.log1p(-kept)) / steps)


def _lowest(kept: np.ndarray, curve: np.ndarray) -> float:
    """The argmin of one curve over its finite points; NaN if there are none."""
    finite = np.isfinite(curve)
    if not finite.any():
        return np.nan
    return claims.curve_argmin(kept[finite], curve[finite], loss_cells(kept[finite]))


def _open_range(kept: np.ndarray, curve: np.ndarray) -> tuple[float, float]:
    """How far below and above its argmin the grid leaves a finite curve's minimum open.

    A bare grid point is known to `claims.grid_resolution`. A fit to three points may be off by what
    it differs from another fit to them, a parabola in log-odds.
    """
    lowest, cells = int(np.argmin(curve)), loss_cells(kept)
    if not cells.beside()[lowest]:
        low, high = claims.grid_resolution(kept, lowest, cells)
        return kept[lowest] - low, high - kept[lowest]
    three = slice(lowest - 1, lowest + 2)
    vertex = claims.curve_argmin(_odds(kept[three]), curve[three])
    error = abs(1 / (1 + np.exp(-vertex)) - claims.curve_argmin(kept, curve, cells))
    return error, error


def _curves(table: "pd.DataFrame", column: str) -> "pd.DataFrame":
    """One curve over p for each seed: a row per seed, a column per p."""
    return table.pivot(index="seed", columns="p", values=column)


def find_minima(table: "pd.DataFrame", column: str, level: float = LEVEL) -> "pd.DataFrame":
    """Where the mean curve over p is lowest at each clean rate.

    Args:
        table: as in the module docstring.
        column: what is minimised.
        level: coverage of the intervals.

    Returns:
        pandas.DataFrame, one row per a: a, seeds, argmin in [0, 1] (NaN without a finite loss),
        low, high (its interval; NaN for fewer than four seeds or a diverged network) and memorised
        (bool, all networks of that a). A curve that is lowest at p = 1 or at the last p before it
        has its minimum anywhere between these two, for the theory's losses diverge at p = 1: its
        interval holds both, p = 1 itself only if the seeds do not tell it from the lowest.
    """
    import pandas as pd

    rows = []
    for a, part in table.groupby("a"):
        curves = _curves(part, column)
        kept, values = curves.columns.to_numpy(dtype=float), curves.to_numpy()
        if len(curves) >= claims.MIN_SEEDS and np.isfinite(values).all():
            # the minimum of the mean curve; the seeds' slopes show how far it can be off
            argmin, low, high = claims.argmin_interval(kept, values, level, loss_cells(kept))
            if high == 1 and _is_above_lowest(values, level):
                high = BELOW_1
        else:
            argmin, low, high = _lowest(kept, values.mean(0)), np.nan, np.nan
        row = {"a": a, "seeds": len(curves), "argmin": argmin, "low": low, "high": high}
        rows.append(row | {"memorised": bool(part.memorised.all())})
    return pd.DataFrame(rows)


def _is_above_lowest(curves: np.ndarray, level: float) -> bool:
    """Whether the last point of curves, (seeds, points), is above the lowest by a t-interval."""
    lowest = int(curves.mean(0).argmin())
    _, low, _ = claims.t_interval(curves[:, -1] - curves[:, lowest], level)
    return low > 0


def argmin_differences(
    table: "pd.DataFrame",
    first: str,
    second: str,
    other: "pd.DataFrame | None" = None,
    level: float = LEVEL,
    paired: bool = False,
) -> "pd.DataFrame":
    """Argmin over p of one column minus that of another, at each clean rate of four seeds or more.

    Args:
        table: as in the module docstring.
        first, second: columns.
        other: the table of the second column if it is not `table`; it has the same seeds.
        level: coverage of the intervals.
        paired: whether to take the differences seed by seed, for curves that may jump from one p to
            the next, as those of accuracy do: such a curve has no slopes to test.

    Returns:
        pandas.DataFrame with a, difference, low, high and memorised. The interval follows from
        those of both argmins or, if paired, is a t-interval over seeds, wider by what the grid
        leaves open of both argmins, see `seed_argmins`. NaN where a value is not finite.
    """
    import pandas as pd

    find, rows = _paired_difference if paired else _difference, []
    for a, part in table.groupby("a"):
        partner = part if other is None else other[other.a == a]
        one, two = _curves(part, first), _curves(partner, second)
        if len(one) < claims.MIN_SEEDS:
            continue
        difference = low = high = np.nan
        if np.isfinite(one).all(axis=None) and np.isfinite(two).all(axis=None):
            difference, low, high = find(one, two, level)
        memorised = bool(part.memorised.all() and partner.memorised.all())
        row = {"a": a, "difference": difference, "low": low, "high": high, "memorised": memorised}
        rows.append(row)
    return pd.DataFrame(rows, columns=["a", "difference", "low", "high", "memorised"])


def _difference(
    one: "pd.DataFrame", two: "pd.DataFrame", level: float
) -> tuple[float, float, float]:
    """Difference of the argmins of two mean curves, from the intervals of both.

    Each limit lies as far from the difference as the root of the sum of their squared lengths on
    that side, as if they were independent. The minima mostly move together, so it rather covers
    more. Source: Zou and Donner 2008 (recovery of variances from intervals).
    """
    argmin_one, low_one, high_one = _argmin_interval(one, level)
    argmin_two, low_two, high_two = _argmin_interval(two, level)
    difference = argmin_one - argmin_two
    low = difference - np.hypot(argmin_one - low_one, high_two - argmin_two)
    return difference, low, difference + np.hypot(high_one - argmin_one, argmin_two - low_two)


def _argmin_interval(curves: "pd.DataFrame", level: float) -> tuple[float, float, float]:
    """Argmin of the mean of curves, a row for each seed, and its interval."""
    kept = curves.columns.to_numpy(dtype=float)
    return claims.argmin_interval(kept, curves.to_numpy(), level, loss_cells(kept))


def _paired_difference(
    one: "pd.DataFrame", two: "pd.DataFrame", level: float
) -> tuple[float, float, float]:
    """Mean difference of the seeds' argmins and its interval."""
    argmin_one, below_one, above_one = seed_argmins(one)
    argmin_two, below_two, above_two = seed_argmins(two)
    # both curves share initial weights, label noise and batch order
    mean, low, high = claims.t_interval(argmin_one - argmin_two, level)
    return mean, low - (below_one + above_two).mean(), high + (above_one + below_two).mean()


def argmin_slope(
    table: "pd.DataFrame", column: str, level: float = LEVEL
) -> tuple[float, float, float]:
    """Slope over the clean rates of the argmin over p of one column, at rates of four seeds or
    more, over the seeds that all of these have.

    Args:
        table: as in the module docstring.
        column: what is minimised.
        level: coverage of the interval.

    Returns:
        mean, low, high: a t-interval over seeds, wider by what the grid leaves open of the
        argmins, see `seed_argmins`; NaN for fewer than two rates, or where a value is not finite.
    """
    rates, places = [], []
    for a, part in with_shared_seeds(table).groupby("a"):
        curves = _curves(part, column)
        if not np.isfinite(curves).all(axis=None):
            return np.nan, np.nan, np.nan
        rates.append(a)
        places.append(seed_argmins(curves))
    if len(rates) < 2:
        return np.nan, np.nan, np.nan
    argmins, below, above = np.stack(places, axis=1)  # each (rates, seeds)
    # a least-squares line for each seed: its slope is the argmins' sum with these weights
    centred = np.array(rates) - np.mean(rates)
    weights = centred / (centred**2).sum()  # (rates,)
    up, down = np.maximum(weights, 0), np.maximum(-weights, 0)
    mean, low, high = claims.t_interval(weights @ argmins, level)
    return mean, low - (up @ below + down @ above).mean(), high + (up @ above + down @ below).mean()


def seed_argmins(curves: "pd.DataFrame") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each seed's argmin over p, and how far the grid leaves it open below and above.

    Args:
        curves: a row for each seed, a column for each p.

    Returns:
        Three float64 (seeds,): the argmin in [0, 1] (NaN without a finite value), and how far below
        and above it the minimum can be: to `claims.grid_resolution` for a bare grid point, else by
        what two fits to the same three points differ.
    """
    grid = curves.columns.to_numpy(dtype=float)
    argmins, below, above = np.full(len(curves), np.nan), *np.zeros((2, len(curves)))
    for seed, curve in enumerate(curves.to_numpy()):
        finite = np.isfinite(curve)
        if finite.any():
            argmins[seed] = _lowest(grid, curve)
            below[seed], above[seed] = _open_range(grid[finite], curve[finite])
    return argmins, below, above


def nearest_table(table: "pd.DataFrame", level: float = LEVEL) -> "pd.DataFrame":
    """Which assumption's best p lies closest to the measured minima, over the clean rates that have
    four seeds or more, and the seeds that all of these have.

    Args:
        table: from `landscape_table`.
        level: coverage of the intervals.

    Returns:
        pandas.DataFrame with rows alpha, beta, gamma (mean distance over clean rates and seeds),
        "gamma - alpha" and "gamma - beta" (the paired differences), columns mean, low, high for
        each protocol, as a two-level index. The intervals are t-intervals over seeds. Those of the
        differences are wider by what the grid leaves open of the minima, see `seed_argmins`.
    """
    import pandas as pd

    enough = with_shared_seeds(table)
    tables = {}
    for column, images in PROTOCOLS.items():
        rows = _distances(enough, column, level)
        tables[images] = pd.DataFrame(rows, index=["mean", "low", "high"]).T
    return pd.concat(tables, axis=1)


def _distances(
    table: "pd.DataFrame", column: str, level: float
) -> dict[str, tuple[float, float, float]]:
    """The rows of `nearest_table` for one protocol: mean, low, high each."""
    places = []
    for _, part in table.groupby("a"):
        places.append(seed_argmins(_curves(part, column)))
    argmins, below, above = np.stack(places, axis=1)  # each (rates, seeds)
    rates, M = np.unique(table.a), class_count(table)
    best = {kind: label_noise.optimum(kind, rates, M)[:, None] for kind in label_noise.KINDS}
    rows = {}
    for kind, p in best.items():
        # mean over clean rates for each seed, then a t-interval over seeds
        rows[kind] = claims.t_interval(np.nanmean(np.abs(argmins - p), axis=0), level)
    for kind in ("alpha", "beta"):
        # |x - p| - |x - q| is monotone in x: the ends of what the grid leaves open are the ends of
        # the difference
        middle, first, last = (
            np.abs(x - best["gamma"]) - np.abs(x - best[kind])
            for x in (argmins, argmins - below, argmins + above)
        )
        least = np.nanmean(np.minimum(first, last)) - np.nanmean(middle)
        most = np.nanmean(np.maximum(first, last)) - np.nanmean(middle)
        mean, low, high = claims.t_interval(np.nanmean(middle, axis=0), level)
        rows[f"gamma - {kind}"] = mean, low + least, high + most
    return rows
