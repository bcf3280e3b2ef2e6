"""Zhou et al. 2022: the spread of test accuracy over losses, and its interval."""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lsnc_core.claims import LEVEL, Scale
from lsnc_core.papers.zhou import networks
from lsnc_core.papers.zhou.networks import LOSSES
from lsnc_core.papers.zhou.premises import LONGEST, describe_scale

if TYPE_CHECKING:
    import pandas as pd


SELECTED = "at the epoch of best validation accuracy"


class Spread(NamedTuple):
    """Range over losses of the mean test accuracy over seeds, in points.

    Attributes:
        value: highest minus lowest mean.
        low, high: interval, not below 0.
        error: standard error of the difference of two means.
        chance: how often losses without any difference spread over more than 2 errors, in [0, 1].
    """

    value: float
    low: float
    high: float
    error: float
    chance: float

    @property
    def remark(self) -> str:
        """The registered rule beside the interval."""
        return (
            f"2 standard errors {2 * self.error:.2f} (exceeded by equal losses in "
            f"{self.chance:.0%} of trials)"
        )


@functools.cache  # scipy integrates numerically: 40 ms each
def studentised_range(level: float, losses: int, freedom: int) -> tuple[float, float]:
    """The quantile of the studentised range, and P(range > 2 standard errors of a difference)."""
    from scipy.stats import studentized_range as q

    return q.ppf(level, losses, freedom), q.sf(2 * np.sqrt(2), losses, freedom)


def compute_spread(values: np.ndarray, level: float = LEVEL) -> Spread:
    """Range over losses of the mean over seeds, with seeds as blocks.

    All differences of two means lie at once within q s / sqrt(seeds) of the true ones, with s^2 the
    residual variance at f = (seeds - 1)(losses - 1) degrees of freedom and q the quantile of the
    studentised range (Tukey). error = s sqrt(2 / seeds).

    Args:
        values: float (seeds, losses), at least 2 x 2, finite.
        level: coverage of the interval.

    >>> spread = compute_spread(np.array([[1.0, 2.0], [1.0, 2.2], [1.4, 2.3]]))
    >>> [round(value, 2) for value in spread[:3]]
    [1.03, 0.65, 1.41]
    >>> spread.remark  # two losses: P(|t| > 2) at 2 degrees of freedom
    '2 standard errors 0.18 (exceeded by equal losses in 18% of trials)'
    """
    seeds, losses = values.shape
    means = values.mean(0)  # (losses,)
    # The networks of one seed share their start and batch order. What a seed adds to all losses
    # alike is no error of their differences, so seed means are taken out before s is estimated.
    residual = values - values.mean(1, keepdims=True) - means + values.mean()
    freedom = (seeds - 1) * (losses - 1)
    s = np.sqrt((residual**2).sum() / freedom)
    # Tukey's interval, for the best and the worst loss are picked after the fact
    quantile, chance = studentised_range(level, losses, freedom)
    half = quantile * s / np.sqrt(seeds)
    value = np.ptp(means)
    # P(range / (s / sqrt(seeds)) > 2 sqrt(2)), that is range > 2 errors, for equal true means
    numbers = value, max(value - half, 0), value + half, s * np.sqrt(2 / seeds), chance
    return Spread(*map(float, numbers))


def describe_size(
    cell: "pd.DataFrame", at: str = SELECTED, paper_epochs: int = LONGEST
) -> list[Scale]:
    """`premises.describe_scale`, whose last row, the test accuracy, says at which epoch it was
    taken. Args: as there; at, that epoch in words.
    """
    *rows, accuracy = describe_scale(cell, paper_epochs)
    return [*rows, replace(accuracy, name=f"{accuracy.name}, {at}")]


def common_seeds(table: "pd.DataFrame") -> int:
    """How many seeds each cell has at least; args: table, from `networks.select_epochs`."""
    return int(table.groupby(["width", "epochs"]).seed.nunique().min())


def describe_seeds(table: "pd.DataFrame") -> str:
    """Over which networks the heat maps take means, and how many more decide the claims.

    Args:
        table: from `networks.select_epochs`.
    """
    common, largest = common_seeds(table), select_cell(table, max).seed.nunique()
    text = f"Means over the {common} seeds that all cells have, {SELECTED}"
    if largest == common:
        return f"{text}."
    return (
        f"{text}; the verdicts and the table at the top of the page have all {largest} seeds of "
        "the smallest and of the largest cell, and so other means."
    )


def select_cell(table: "pd.DataFrame", pick: Callable) -> "pd.DataFrame":
    """The rows of the grid's first or last cell.

    Args:
        table: from `networks.accuracy_table`.
        pick: min for the first cell, max for the last.
    """
    return table[(table.width == pick(table.width)) & (table.epochs == pick(table.epochs))]


def corner_cell(table: "pd.DataFrame", pick: Callable) -> tuple[str, np.ndarray]:
    """The name and the test accuracies, float (seeds, losses), of the grid's first or last cell.

    Args: as for `select_cell`; one row per network.
    """
    part = select_cell(table, pick)
    grid = part.pivot(index="seed", columns="loss", values="test_accuracy")
    name = networks.cell_name(part.width.iloc[0], part.epochs.iloc[0])
    return name, grid[list(LOSSES)].to_numpy()
