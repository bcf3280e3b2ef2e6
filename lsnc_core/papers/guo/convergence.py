"""Guo et al. 2025: how fast networks converge: epochs to a level, slope of the loss, NC2 at equal
NC1.
"""

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lsnc_core.claims import LEVEL, Case, Premise, seed_case
from lsnc_core.papers.guo.measured import (
    ERROR_REACHED,
    METRICS,
    groups,
    image_set,
    last_epochs,
    main_pair,
    paired,
    ratio_case,
)

if TYPE_CHECKING:
    import pandas as pd

# F9: c of log(loss - lowest loss + c) from the released plotting script, and for other image sets
LOSS_OFFSETS = {"cifar10": 0.002, "cifar100": 0.006, "stl10": 0.01, "tiny-imagenet": 0.005}
LOSS_OFFSET = 0.002
# F2: where the axes of the released plotting script put NC1 of networks, with its factor 1/K
NC1_RANGES = {"cifar10": (5e-5, 1.0), "stl10": (1e-2, 100.0), "tiny-imagenet": (2.5e-2, 5.0)}
NC1_RANGE = NC1_RANGES["cifar10"]  # of an image set without known axes
# G10's slope: epochs 10 to 100, our choice, as parts of the paper's 150 before the first step
SLOPE_PART = (10 / 150, 100 / 150)
LEAST_APPROACH = 2.0  # by how much a loss's distance to its lowest must fall to have a rate


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


def bracket_epoch(epochs: np.ndarray, values: np.ndarray, level: float) -> tuple[float, float]:
    """The measured epochs between which a curve first passes below a level: the last one above it,
    0 where there is none, and the first one below; NaN where it never does.

    >>> bracket_epoch(np.array([1, 3, 5]), np.array([4.0, 2.0, 0.0]), 1.0)
    (3.0, 5.0)
    >>> bracket_epoch(np.array([1, 3]), np.array([0.5, 0.1]), 1.0)
    (0.0, 1.0)
    """
    below = np.flatnonzero(values <= level)
    if not len(below):
        return float("nan"), float("nan")
    at = below[0]
    return float(epochs[at - 1]) if at else 0.0, float(epochs[at])


def measure_convergence(history: "pd.DataFrame", factor: float) -> "pd.DataFrame":
    """When networks have learned and collapsed, with cross-entropy and with smoothing.

    Args:
        history: from `measured.fetch_history`.
        factor: a metric counts as converged at this many times its last value.

    Returns:
        pandas.DataFrame, one row per (delta, seed): loss, delta, seed and epochs: to_error, to a
        training error of `ERROR_REACHED`; for each of `METRICS` nc1_own, to `factor` times its last
        value in the same network, and nc1_ce, to that of the same seed's cross-entropy network; NaN
        where a level is not reached. Of each, as to_error_after and to_error_by, also the measured
        epochs between which it lies.
    """
    import pandas as pd

    both, rows = main_pair(history), []
    ends = last_epochs(both)
    plain = ends[ends.delta == 0].set_index("seed")
    for (delta, seed), run in both.groupby(["delta", "seed"]):
        epochs = run.epoch.to_numpy()
        crossings = {"to_error": (run.train_error.to_numpy(), ERROR_REACHED)}
        for metric in METRICS:
            values = run[metric].to_numpy()
            crossings[f"{metric}_own"] = values, factor * values[-1]
            crossings[f"{metric}_ce"] = values, factor * plain[metric].get(seed, np.nan)
        row = {"loss": "ce", "delta": delta, "seed": seed}
        for name, crossing in crossings.items():
            row[name] = epoch_below(epochs, *crossing)
            row[f"{name}_after"], row[f"{name}_by"] = bracket_epoch(epochs, *crossing)
        rows.append(row)
    return pd.DataFrame(rows)


def describe_learning(table: "pd.DataFrame") -> str:
    """After how many epochs each loss reaches the training error `ERROR_REACHED`, mean over seeds,
    as a sentence.
    """
    phrases = []
    for part in groups(table):
        means = measure_convergence(part, 1.0).groupby("delta").to_error
        means = means.apply(lambda epochs: epochs.mean(skipna=False))
        names = part.drop_duplicates("delta").set_index("delta").arm
        epochs = []
        for delta, mean in means.items():
            taken = f"{mean:.1f}" if np.isfinite(mean) else "more than were trained"
            epochs.append(f"{taken} with {names[delta]}")
        phrases.append(f"{' and '.join(epochs)} on {image_set(part)}")
    reached = f"Epochs to a training error of {ERROR_REACHED:.0%}, mean over seeds"
    return f"{reached}: {'; '.join(phrases)}."


def time_case(convergence: "pd.DataFrame", column: str, name: str, **settings: Any) -> Case:
    """A ratio of epochs LS/CE, with their means.

    Between two measured epochs a curve may pass its level anywhere. So the interval over seeds is
    wider by how far the mean ratio moves if each curve passes at the one end or at the other.

    Args:
        convergence: from `measure_convergence`.
        column: one of its times.
        name: of the case.
        settings: further fields of the case.
    """
    plain, smooth = paired(convergence, column)
    means = f"CE {np.mean(plain):.1f}, LS {np.mean(smooth):.1f} epochs"
    case = ratio_case(name, "epochs LS/CE", plain, smooth, remark=means, **settings)
    interval = case.interval
    if interval is None:
        return case
    with np.errstate(divide="ignore"):  # epoch 0: any factor
        after, by = (np.log(paired(convergence, f"{column}_{end}")) for end in ("after", "by"))
    middle = np.log(smooth / plain).mean()
    (plain_after, smooth_after), (plain_by, smooth_by) = after.mean(1), by.mean(1)
    least = float(np.exp(smooth_after - plain_by - middle))
    most = float(np.exp(smooth_by - plain_after - middle))

    def widened(level: float) -> tuple[float, float, float]:
        value, low, high = interval(level)
        return value, least * low, most * high

    return replace(case, interval=widened).at_level(LEVEL)


def nc1_range(data: str) -> tuple[float, float]:
    """Between which values of NC1, with its factor 1/K, the paper compares NC2 on an image set."""
    return NC1_RANGES.get(data, NC1_RANGE)


def axis_of(data: str) -> str:
    """Whose axis `nc1_range` is.

    >>> axis_of("stl10"), axis_of("mnist")
    ('axis', 'axis for CIFAR-10')
    """
    return "axis" if data in NC1_RANGES else "axis for CIFAR-10"


def first_passages(run: "pd.DataFrame") -> "pd.DataFrame":
    """The measurements of a run at which NC1 is lower than ever before, by rising NC1.

    NC1 does not fall at every epoch. What a network is at a level of NC1 is read where it first
    passes it, not mixed with later epochs that came back to it.

    Args:
        run: rows of one network in the order of its epochs, with nc1.
    """
    before = run.nc1.cummin().shift(fill_value=np.inf)
    return run[run.nc1 < before].sort_values("nc1")


def compare_nc2(
    plain: "pd.DataFrame",
    smooth: "pd.DataFrame",
    within: tuple[float, float] = (0.0, np.inf),
    points: int = 50,
) -> float:
    """Mean of NC2(smooth) - NC2(plain) over log NC1 where both runs have been.

    Args:
        plain, smooth: the rows of one run each in the order of its epochs, with nc1 and nc2; of
            their `first_passages`, NC2 is linear in log NC1 between two.
        within: between which values of NC1.
        points: of the grid in log NC1.

    Returns:
        The mean difference; NaN where the ranges of NC1 do not overlap.
    """
    plain, smooth = first_passages(plain), first_passages(smooth)
    low = max(plain.nc1.min(), smooth.nc1.min(), within[0])
    high = min(plain.nc1.max(), smooth.nc1.max(), within[1])
    if not low < high:
        return float("nan")
    # an even grid in log NC1 weighs each level of collapse alike, however many epochs lie there
    grid = np.linspace(np.log(low), np.log(high), points)
    nc2_plain = np.interp(grid, np.log(plain.nc1), plain.nc2)
    nc2_smooth = np.interp(grid, np.log(smooth.nc1), smooth.nc2)
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


def describe_approach(table: "pd.DataFrame") -> str:
    """The slopes of G10 with smoothing minus those without, means over seeds with 95 % intervals,
    in a sentence.

    Args: table, rows of cross-entropy and label smoothing, from `measured.main_pair`.
    """
    phrases = []
    for part in groups(table):
        plain, smooth = paired(fit_slopes(part), "slope")
        change = seed_case("", "slope", smooth - plain, form="+.3f")
        phrases.append(f"{change.numbers} on {image_set(part)}")
    slope = (
        "Slope of the logarithm between the dashed lines, with smoothing minus without, an epoch"
    )
    return f"{slope}: {'; '.join(phrases)}."


def check_approach(slope: float, epochs: float) -> Premise:
    """Whether a loss approaches its lowest value at all while its slope is taken: one that wavers
    about a level has no rate.

    Args: slope of log(loss - lowest loss + c) per epoch, the steeper of two; epochs, how many.
    """
    fall = math.exp(-slope * epochs)
    return Premise("factor by which loss − lowest loss + c falls", fall, at_least=LEAST_APPROACH)
