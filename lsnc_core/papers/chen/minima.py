"""Chen, Ziyin et al. 2020: where curves over p are lowest, how two such places differ, and how one
moves with the clean rate.

a is the clean rate of the training labels, p the kept mass of the smoothed label.
"""

import numpy as np

from lsnc_core import claims


def _odds(kept) -> np.ndarray:
    """Kept masses as log-odds: a loss is no parabola in p, least of all near p = 1 where it
    diverges; in log-odds it is smooth.
    """
    p = np.asarray(kept, dtype=float)
    with np.errstate(divide="ignore"):
        return np.log(p) - np.log1p(-p)


def _lowest(odds: np.ndarray, curve: np.ndarray) -> float:
    """The argmin of one curve in log-odds; a cell where a network diverged is no minimum, NaN where
    all have.
    """
    there = np.isfinite(curve)
    return claims.parabola_argmin(odds[there], curve[there]) if there.any() else np.nan


def _kept(odds) -> np.ndarray:
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-np.asarray(odds, dtype=float)))


def minima(table, column: str):
    """Where each clean rate's curve is lowest: one row per a with the argmin over p, its 95 %
    interval where there are four seeds or more.

    Args:
        table: from `chen_landscape.landscape_table`, or with its columns a, p, seed and memorised.
        column: what is minimised.

    Returns:
        pandas.DataFrame with a, seeds, argmin (NaN without a finite cell), low, high (NaN without
        an interval) and memorised (all cells of the row).
    """
    import pandas as pd

    rows = []
    for a, part in table.groupby("a"):
        curves = part.pivot(index="seed", columns="p", values=column)
        odds, values = _odds(curves.columns), curves.to_numpy()
        if len(curves) >= claims.MIN_SEEDS and np.isfinite(values).all():
            found = claims.argmin_interval(odds, values)
        else:
            found = _lowest(odds, values.mean(0)), np.nan, np.nan
        argmin, low, high = _kept(found).tolist()
        rows.append(
            {
                "a": a,
                "seeds": len(curves),
                "argmin": argmin,
                "low": low,
                "high": high,
                "memorised": bool(part.memorised.all()),
            }
        )
    return pd.DataFrame(rows)


def argmin_differences(table, first: str, second: str, other=None):
    """Argmin over p of one column minus that of another, paired by seed, at each clean rate of four
    seeds or more.

    Args: table, as for `minima`; first, second, columns; other, the table of the second where it is
    not this one, with the same seeds.

    Returns:
        pandas.DataFrame with a, mean, low, high and memorised. The interval is a 95 % t-interval
        over seeds, widened by half a step of the grid to each side for an argmin that is a bare
        grid point, where no parabola can be laid; NaN where a value is not finite.
    """
    import pandas as pd

    rows = []
    for a, part in table.groupby("a"):
        parts = part, part if other is None else other[other.a == a]
        curves = [
            each.pivot(index="seed", columns="p", values=column)
            for each, column in zip(parts, (first, second), strict=True)
        ]
        if len(curves[0]) < claims.MIN_SEEDS:
            continue
        found = (np.nan, np.nan, np.nan)
        if all(np.isfinite(each).all(axis=None) for each in curves):
            (one, below_one, above_one), (two, below, above) = (argmins(each) for each in curves)
            mean, low, high = claims.t_interval(one - two)
            found = mean, low - (below_one + above).mean(), high + (above_one + below).mean()
        memorised = all(each.memorised.all() for each in parts)
        rows.append(
            dict(zip(("a", "mean", "low", "high"), (a, *found), strict=True))
            | {"memorised": memorised}
        )
    return pd.DataFrame(rows, columns=["a", "mean", "low", "high", "memorised"])


def argmin_slope(table, column: str) -> tuple[float, float, float]:
    """Slope over the clean rates of the argmin over p of one column: a least-squares line for each
    seed, over rates of four seeds or more.

    Args: table, as for `minima`, the same seeds at each of these rates; column.

    Returns:
        mean, low, high: a 95 % t-interval over seeds, widened as in `argmin_differences`; NaN for
            fewer than two rates, or where a value
        is not finite.
    """
    curves = {
        a: part.pivot(index="seed", columns="p", values=column) for a, part in table.groupby("a")
    }
    curves = {a: each for a, each in curves.items() if len(each) >= claims.MIN_SEEDS}
    if len(curves) < 2 or not all(np.isfinite(each).all(axis=None) for each in curves.values()):
        return np.nan, np.nan, np.nan
    lowest, below, above = (
        np.array(part) for part in zip(*(argmins(each) for each in curves.values()), strict=True)
    )  # (rates, seeds)
    centred = np.array(list(curves)) - np.mean(list(curves))
    weights = centred / (centred**2).sum()  # (rates,): the slope is their sum with the argmins
    up, down = np.maximum(weights, 0), np.maximum(-weights, 0)
    mean, low, high = claims.t_interval(weights @ lowest)
    return mean, low - (up @ below + down @ above).mean(), high + (up @ above + down @ below).mean()


def argmins(curves) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each seed's argmin in p, and how far it is left open below and above where it is a bare grid
    point: half a step, else 0.

    Args: curves, pandas.DataFrame, a row for each seed, a column for each p. Returns: three float64
    (seeds,); NaN without a finite cell.
    """
    kept, odds = curves.columns.to_numpy(dtype=float), _odds(curves.columns)
    lowest = np.array([_lowest(odds, curve) for curve in curves.to_numpy()])
    half = np.concatenate(
        [[0.0], np.diff(kept) / 2, [0.0]]
    )  # half the step before each grid point, and after the last
    at = np.searchsorted(odds, lowest).clip(max=len(odds) - 1)
    bare = odds[at] == lowest
    return _kept(lowest), np.where(bare, half[at], 0.0), np.where(bare, half[at + 1], 0.0)
