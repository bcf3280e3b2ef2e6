"""Guo et al. 2025: how fast networks converge: epochs to a level, slope of the loss, NC2 at equal
NC1.
"""

from typing import TYPE_CHECKING

import numpy as np

from lsnc_core.papers.guo.measured import ERROR_REACHED, last_epochs, main_pair

if TYPE_CHECKING:
    import pandas as pd

# F9: c of log(loss - lowest loss + c) from the released plotting script, and for other image sets
LOSS_OFFSETS = {"cifar10": 0.002, "cifar100": 0.006, "stl10": 0.01, "tiny-imagenet": 0.005}
LOSS_OFFSET = 0.002
# G10's slope: the paper's epochs 10 to 100, as parts of the 150 before the first step
SLOPE_PART = (10 / 150, 100 / 150)


def epoch_below(epochs: np.ndarray, values: np.ndarray, level: float) -> float:
    """The epoch at which a curve first passes below a level, interpolated linearly between
    measurements; NaN where it never does.

    >>> epoch_below(np.array([1, 3, 5]), np.array([4.0, 2.0, 0.0]), 1.0)
    4.0
    >>> epoch_below(np.array([1, 3]), np.array([0.5, 0.1]), 1.0)
    1.0
    """
    below = np.flatnonzero(values <= level)
    if not len(below):
        return float("nan")
    at = below[0]
    if at == 0:
        return float(epochs[0])
    around = [at - 1, at]
    return float(np.interp(-level, -values[around], epochs[around]))


def measure_convergence(history: "pd.DataFrame", factor: float) -> "pd.DataFrame":
    """When networks have learned and collapsed, with cross-entropy and with smoothing.

    Args:
        history: from `measured.fetch_history`.
        factor: a network counts as collapsed at this many times the last NC1 of the same seed's
            cross-entropy network.

    Returns:
        pandas.DataFrame, one row per (delta, seed): loss, delta, seed and the epochs to_error, to a
        training error of `ERROR_REACHED`, and to_nc1; NaN where a level is not reached.
    """
    import pandas as pd

    both, rows = main_pair(history), []
    ends = last_epochs(both)
    level = ends[ends.delta == 0].set_index("seed").nc1 * factor
    for (delta, seed), run in both.groupby(["delta", "seed"]):
        epochs = run.epoch.to_numpy()
        row = {"loss": "ce", "delta": delta, "seed": seed}
        row["to_error"] = epoch_below(epochs, run.train_error.to_numpy(), ERROR_REACHED)
        row["to_nc1"] = epoch_below(epochs, run.nc1.to_numpy(), level.get(seed, np.nan))
        rows.append(row)
    return pd.DataFrame(rows)


def compare_nc2(plain: "pd.DataFrame", smooth: "pd.DataFrame", points: int = 50) -> float:
    """Mean of NC2(smooth) - NC2(plain) over log NC1 where both runs have been.

    Args:
        plain, smooth: the rows of one run each, with nc1 and nc2; between measurements NC2 is
            linear in log NC1.
        points: of the grid in log NC1.

    Returns:
        The mean difference; NaN where the ranges of NC1 do not overlap.
    """
    plain, smooth = plain.sort_values("nc1"), smooth.sort_values("nc1")
    x_plain, x_smooth = np.log(plain.nc1.to_numpy()), np.log(smooth.nc1.to_numpy())
    low, high = max(x_plain[0], x_smooth[0]), min(x_plain[-1], x_smooth[-1])
    if not low < high:
        return float("nan")
    # an even grid in log NC1 weighs each level of collapse alike, however many epochs lie there
    grid = np.linspace(low, high, points)
    nc2_plain = np.interp(grid, x_plain, plain.nc2.to_numpy())
    nc2_smooth = np.interp(grid, x_smooth, smooth.nc2.to_numpy())
    return float(np.mean(nc2_smooth - nc2_plain))


def add_loss_gap(table: "pd.DataFrame") -> "pd.DataFrame":
    """The table with c, the plot's constant, and gap, the training loss above its lowest measured
    value in the same run plus c (F9).
    """
    c = table.data.map(LOSS_OFFSETS).fillna(LOSS_OFFSET)
    lowest = table.groupby("run").train_loss.transform("min")
    return table.assign(gap=table.train_loss - lowest + c, c=c)


def slope_epochs(table: "pd.DataFrame") -> tuple[float, float]:
    """The epochs between which G10's slope is taken."""
    first_step = np.ravel(table.lr_steps.iloc[0])[0]
    return SLOPE_PART[0] * first_step, SLOPE_PART[1] * first_step


def fit_slopes(history: "pd.DataFrame") -> "pd.DataFrame":
    """The slope of log gap over epochs while the first learning rate lasts.

    Returns:
        pandas.DataFrame, one row per (delta, seed): loss, delta, seed and slope, per epoch; NaN for
        fewer than three measured epochs.
    """
    import pandas as pd

    rows = []
    for (delta, seed), run in add_loss_gap(main_pair(history)).groupby(["delta", "seed"]):
        part = run[run.epoch.between(*slope_epochs(run))]
        slope = np.nan
        if len(part) > 2:
            # least squares: the exponential rate at which the loss approaches its lowest value
            slope = np.polyfit(part.epoch, np.log(part.gap), 1)[0]
        rows.append({"loss": "ce", "delta": delta, "seed": seed, "slope": slope})
    return pd.DataFrame(rows)
