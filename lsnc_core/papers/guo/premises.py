"""Guo et al. 2025: under which conditions its claims about networks are decided.

The paper speaks of networks trained to the end. A curve that is flat proves nothing once the
learning rate has fallen, so networks are trained twice: with a schedule and with one half as long.
"""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from lsnc_core.claims import Claim, Premise, Verdict
from lsnc_core.papers.guo import SMOOTHED
from lsnc_core.papers.guo.measured import (
    ERROR_REACHED,
    last_epochs,
    main_pair,
    paired,
    place,
    ratio_case,
)
from lsnc_core.papers.guo.scale import describe_scale

if TYPE_CHECKING:
    import pandas as pd

ENDED = 0.10  # difference between a schedule and its half up to which training counts as ended
LEAST_ERROR = 0.10  # test error of the easiest of the paper's image sets, CIFAR-10: 10 to 15 %
ONCE_ENDED = (
    "At first it was always decided; now only where training has ended, half the schedule gives "
    "the same order, and the training images are learned."
)
NAMES = {
    "nc1": "NC1",
    "nc2": "NC2",
    "nc3": "NC3",
    "w_norm": "norm of W",
    "h_norm": "norm of H",
    "test_error": "test error",
}


def check_ended(
    history: "pd.DataFrame",
    halved: "pd.DataFrame",
    column: str,
    strengths: Iterable[float] = (0.0, SMOOTHED),
    at_most: float = ENDED,
) -> list[Premise]:
    """Whether training ended, as one metric of cross-entropy networks shows: a premise for each
    strength.

    The value is the relative difference of the metric's mean over seeds between the whole schedule
    and one half as long, over the seeds that were trained with both; NaN without such seeds.

    Args:
        history: networks of one image set and weight decay, from `measured.fetch_history`.
        halved: networks trained with half as many epochs, of any image set and weight decay.
        column: the metric, one of `NAMES`.
        strengths: the smoothing strengths that the claim compares.
        at_most: the difference up to which training counts as ended.
    """
    whole, half = select_ends(history), select_ends(select_like(halved, history))
    epochs = history.epochs.iloc[0]
    quantity = f"change of {NAMES[column]} from a schedule of {epochs // 2} epochs to {epochs}"
    premises = []
    for strength in strengths:
        values = whole[whole.delta == strength].set_index("seed")[column]
        others = half[half.delta == strength].set_index("seed")[column]
        seeds = values.index.intersection(others.index)
        change = relative_change(others[seeds].mean(), values[seeds].mean())
        settings = {"form": ".0%", "where": f"δ = {strength:g}", "quantity": quantity}
        premises.append(Premise("training ended", change, at_most=at_most, **settings))
    return premises


def check_direction(history: "pd.DataFrame", halved: "pd.DataFrame", metric: str) -> Premise:
    """Whether the ratio LS/CE of a metric lies on the same side of 1 with half the schedule.

    A ratio nearer to 1 than `ENDED` could change sides although training counts as ended.

    Args: history, halved, metric: as for `check_ended`, of networks without and with smoothing.
    """
    ratio, half = (_mean_ratio(table, metric) for table in (history, select_like(halved, history)))
    side = {"at_most": 1.0} if ratio <= 1 else {"at_least": 1.0}
    name = f"ratio LS/CE of {NAMES[metric]} with half the schedule"
    return Premise(name, half, form=".2f", **side)


def _mean_ratio(table: "pd.DataFrame", metric: str) -> float:
    """The geometric mean over seeds of LS/CE at the end; NaN without seeds or without one of the
    two.
    """
    ends = last_epochs(table)
    if not {0.0, SMOOTHED} <= set(ends.delta[ends.loss == "ce"]):
        return math.nan
    plain, smooth = paired(ends, metric)
    if not len(plain):
        return math.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.exp(np.mean(np.log(smooth) - np.log(plain))))


def select_ends(table: "pd.DataFrame") -> "pd.DataFrame":
    """The last rows of the networks trained with cross-entropy, smoothed or not."""
    return last_epochs(table[table.loss == "ce"])


def select_like(table: "pd.DataFrame", part: "pd.DataFrame") -> "pd.DataFrame":
    """The rows of a table under the image set and weight decay of a part, see `measured.groups`."""
    first = part.iloc[0]
    return table[(table.data == first.data) & (table.weight_decay == first.weight_decay)]


def relative_change(before: float, after: float) -> float:
    """The absolute change as a part of the first value; 0 from zero to zero, infinite from zero
    to another value, NaN where one is missing.

    >>> relative_change(0.5, 0.4), relative_change(0, 0), relative_change(0, 0.1)
    (0.2, 0.0, inf)
    """
    if before == 0:
        return 0.0 if after == 0 else math.inf
    return round(abs(after / before - 1), 12)


def check_timed(
    history: "pd.DataFrame", halved: "pd.DataFrame", metric: str, at_least: float
) -> tuple[Premise, ...]:
    """Whether the time of a metric's fall means something: its training has ended, and its mean at
    the first measured epoch is at least so many times that at the last.

    Args: history, halved, metric: as for `check_ended`, of networks without and with smoothing.
    """
    premises = check_ended(history, halved, metric)
    for strength, part in main_pair(history).groupby("delta"):
        means = part.groupby("epoch")[metric].mean()  # sorted by epoch
        name = f"{NAMES[metric]} at epoch {means.index[0]} relative to its last value"
        ratio, where = float(means.iloc[0] / means.iloc[-1]), f"δ = {strength:g}"
        premises.append(Premise(name, ratio, at_least=at_least, form=".1f", where=where))
    return tuple(premises)


def check_fitted(
    history: "pd.DataFrame", strengths: Iterable[float] = (0.0, SMOOTHED)
) -> list[Premise]:
    """Whether cross-entropy networks have learned their training images: the mean training error
    at the end, a premise for each strength.

    Much smoothing and weight decay together leave a network constant, for then zero is the
    minimiser (Theorem 1). Such a network has learned nothing; of it no direction of the features,
    no temperature and no ratio of norms is defined.

    Args:
        history: rows of one image set and weight decay.
        strengths: those that the claim compares.
    """
    ends = select_ends(history)
    premises = []
    for strength in strengths:
        where = f"δ = {strength:g}"
        error = ends.train_error[ends.delta == strength].mean()
        premises.append(
            Premise(
                "training error at the end", error, at_most=ERROR_REACHED, form=".2%", where=where
            )
        )
    return premises


def check_reached(history: "pd.DataFrame") -> Premise:
    """Whether networks without and with smoothing reach, at any epoch, the training error that
    counts as learned.
    """
    least = main_pair(history).groupby("run").train_error.min()
    name = f"share of networks that reach a training error of {ERROR_REACHED:.0%}"
    return Premise(name, float((least <= ERROR_REACHED).mean()), at_least=1.0, form=".0%")


def check_hard(ends: "pd.DataFrame") -> Premise:
    """Whether the images are as hard as the paper's: mean test error of cross-entropy at the
    end.
    """
    error = select_ends(ends).query("delta == 0").test_error.mean()
    return Premise("test error of cross-entropy", error, at_least=LEAST_ERROR, form=".1%")


def check_overconfident(ends: "pd.DataFrame") -> Premise:
    """Whether cross-entropy is over-confident: its mean optimal temperature is above 1.

    Args:
        ends: from `calibration.measure_ends`, of one way of fitting.
    """
    temperature = ends[(ends.loss == "ce") & (ends.delta == 0)]["T"].mean()
    name = "optimal temperature T* of cross-entropy"
    return Premise(name, temperature, at_least=1.0, form=".2f")


def decide_end(
    claim: Claim,
    history: "pd.DataFrame",
    halved: "pd.DataFrame",
    metric: str,
    also: Iterable[Premise] = (),
    **settings: Any,
) -> Verdict:
    """A metric at the end of training, ratio LS/CE, of networks that have learned their training
    images, whose training has ended, and which half the schedule orders alike.

    Args:
        claim: the claim, "at most that of CE" unless `settings` have another range.
        history, halved, metric: as for `check_ended`.
        also: further premises.
        settings: further fields of the case.
    """
    pair = paired(last_epochs(history), metric)
    case = ratio_case(NAMES[metric], "LS/CE", *pair, **settings)
    return Verdict(
        claim,
        place(history),
        (case,),
        decider="more seeds",
        premises=[
            *check_ended(history, halved, metric),
            check_direction(history, halved, metric),
            *check_fitted(history),
            *also,
        ],
        scale=describe_scale(main_pair(history)),
    )
