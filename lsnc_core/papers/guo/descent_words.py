"""Guo et al. 2025: what descent of the feature model shows, in sentences."""

from typing import TYPE_CHECKING

import numpy as np

from lsnc_core.papers.guo import SMOOTHED
from lsnc_core.papers.guo.descent import METRICS, START

if TYPE_CHECKING:
    import pandas as pd


def ratio_text(row) -> str:
    """The ratio of iterations to those without smoothing with its interval, " (0.80 [0.70, 0.90])";
    "" where one of the two does not get there. Args: row, of `descent.speed_table`.
    """
    if not np.isfinite(row.ratio):
        return ""
    return f" ({row.ratio:.2f} [{row.low:.2f}, {row.high:.2f}])"


def count_sooner(speeds: "pd.DataFrame") -> str:
    """How many levels the paper's strength reaches sooner and later, by its interval over starts,
    in a sentence; args: speeds, from `speed_table`.
    """
    at = speeds[speeds.delta == SMOOTHED]
    return (
        f"With δ = {SMOOTHED} descent reaches {(at.high < 1).sum()} of {len(at)} levels of the "
        f"loss, NC1, NC2 and NC3 in fewer iterations than without smoothing, {(at.low > 1).sum()} "
        "in more."
    )


def describe_curves(curves: "pd.DataFrame", speeds: "pd.DataFrame") -> str:
    """What the paper's strength reaches sooner and later, and when the training error is gone."""
    at = speeds[speeds.delta == SMOOTHED]
    sooner, later = at.high < 1, at.low > 1
    groups = {"sooner": sooner, "later": later}
    groups["not told apart or not reached"] = ~(sooner | later)
    parts = []
    for word, chosen in groups.items():
        names = []
        for row in at[chosen].itertuples():
            names.append(f"{METRICS[row.metric]} below {row.level:g}{ratio_text(row)}")
        if names:
            parts.append(f"{word}: {', '.join(names)}")
    wrong = curves[(curves.spread == START) & (curves.error > 0)]
    last = wrong.groupby("delta").iteration.max()
    until = ", ".join(f"{iteration:g} (δ = {delta:g})" for delta, iteration in last.items())
    return (
        f"at δ = {SMOOTHED}, iterations divided by those without smoothing, {'; '.join(parts)}. "
        f"Last recorded training error above 0: {until}."
    )


def describe_nc2(table: "pd.DataFrame") -> str:
    """At which levels of NC1 smoothing has the lower and the higher NC2, by spread of the
    starts.
    """
    parts = []
    for spread, part in table.groupby("spread"):
        orders = {"lower": part.nc1[part.high < 0], "higher (grey)": part.nc1[part.low > 0]}
        words = []
        for word, levels in orders.items():
            if len(levels):
                words.append(f"{word} at NC1 = {', '.join(levels.map('{:g}'.format))}")
        order = " and ".join(words) or "not told apart"
        parts.append(f"starts of spread {spread:g}: NC2 with smoothing {order}")
    return f"{'; '.join(parts)} (95 % over starts)."
