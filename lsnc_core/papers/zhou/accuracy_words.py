"""Zhou et al. 2022: what the figures of test accuracy over width and epochs show, in sentences."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lsnc_core.papers.zhou.networks import LOSSES

if TYPE_CHECKING:
    import pandas as pd


def describe_corners(cells: "pd.DataFrame") -> str:
    """The first and the last row of `cell_table`, in a sentence of numbers."""
    parts = []
    for row in (cells.iloc[0], cells.iloc[-1]):
        gaps = ", ".join(f"{row[f'gap_{loss}']:.2f} ({loss})" for loss in LOSSES[1:])
        parts.append(
            f"at width {row.width:g} and {row.epochs:g} epochs the accuracy differs from that "
            f"under CE by {gaps} points"
        )
    return "; ".join(parts) + "."


def describe_change(
    cells: "pd.DataFrame", columns: Sequence[str], name: str, unit: str = "points"
) -> str:
    """How the largest of some columns changes from the smallest to the largest cell, in a sentence.

    Args: cells, from `cell_table`; columns of it; name and unit of what they hold.
    """
    first, last = (cells.iloc[at][list(columns)].max() for at in (0, -1))
    verb = "falls" if last < first else "rises"
    return (
        f"From the smallest to the largest cell the {name} {verb} by {abs(last - first):.2f} "
        f"{unit}."
    )


def describe_steps(cells: "pd.DataFrame") -> str:
    """At how many steps to the next width, and to the next number of epochs, the variance falls, in
    a sentence; args: cells, from `cell_table`.
    """
    grid = cells.pivot(index="width", columns="epochs", values="variance")
    wider, longer = grid.diff(axis=0).iloc[1:], grid.diff(axis=1).iloc[:, 1:]
    return (
        f"The variance falls at {int((wider < 0).sum(axis=None))} of {wider.size} steps to wider "
        f"and {int((longer < 0).sum(axis=None))} of {longer.size} steps to longer trained networks."
    )


def describe_range(cell: "pd.Series", seeds: int) -> str:
    """How far apart the losses' accuracies are in the largest cell, in a sentence.

    Args: cell, the last row of `cell_table`; seeds, over how many its means are.
    """
    accuracies = [cell[f"accuracy_{loss}"] for loss in LOSSES]
    apart = max(accuracies) - min(accuracies)
    return (
        f"In the largest cell the mean test accuracies of the four losses, over {seeds} seeds, lie "
        f"within {apart:.2f} points of each other."
    )


def describe_lines(panels: "Sequence[pd.DataFrame]") -> str:
    """In how many panels of Z5 the losses are closer together with the most epochs than with the
    fewest, in a sentence.

    Args: panels, the rows of `cell_table` of each.
    """
    columns, closer = [f"accuracy_{loss}" for loss in LOSSES], 0
    for part in panels:
        accuracies = part.sort_values("epochs")[columns]
        apart = (accuracies.max(axis=1) - accuracies.min(axis=1)).tolist()
        closer += apart[-1] < apart[0]
    return (
        "The four losses are closer together with the most epochs than with the fewest in "
        f"{closer} of {len(panels)} panels."
    )
