"""Drawing helpers of Guo's figures of deep networks: curves over epochs, means over strengths.

Curves are means over seeds with bands from the smallest to the largest seed; error bars are 95 %
t-intervals. matplotlib and pandas are imported where they are used.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lsnc_core import claims
from lsnc_core.papers.guo.measured import groups
from lsnc_core.show.style import COLOURS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STRENGTH = r"smoothing strength $\delta$"
NAMES = {"train_error": "error rate", "nc1": "NC1", "nc2": "NC2", "nc3": "NC3"}
NORMS = {"w_norm": r"$\|w_k\|$", "h_norm": r"$\|\mu_k - \mu_G\|$"}
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)))


def titled_groups(table: "pd.DataFrame") -> "list[tuple[str, pd.DataFrame]]":
    """The table's parts by image set and weight decay, each with its title, in order."""
    parts = []
    for part in groups(table):
        first = part.iloc[0]
        parts.append((f"{Path(first.data).name}, decay {first.weight_decay:g}", part))
    return parts


def styled_losses(table: "pd.DataFrame") -> "list[tuple[str, pd.DataFrame, dict]]":
    """The table's losses in order of appearance, each with its name, rows and look."""
    parts = []
    for number, name in enumerate(dict.fromkeys(table.arm)):
        look = {"color": COLOURS[number % len(COLOURS)], "lw": 1.6}
        parts.append((name, table[table.arm == name], look))
    return parts


def draw_curve(panel: "Axes", rows: "pd.DataFrame", column: str, **look: object) -> None:
    """One loss's mean over seeds against the epoch, with a band from the smallest to the largest
    seed.
    """
    seeds = rows.groupby("epoch")[column]
    (line,) = panel.plot(seeds.mean(), **look)
    low, high = seeds.min(), seeds.max()
    panel.fill_between(low.index, low, high, color=line.get_color(), alpha=0.15, lw=0)


def draw_seed_means(panel: "Axes", ends: "pd.DataFrame", column: str, **look: object) -> None:
    """Means over seeds against the strength, with 95 % t-intervals where there are four seeds or
    more.
    """
    values = ends.groupby("delta")[column].agg(list)
    halves = []
    for seeds in values:
        enough = len(seeds) >= claims.MIN_SEEDS and np.isfinite(seeds).all()
        # half the width of Student's interval of the mean over seeds
        halves.append(claims.t_interval(seeds)[2] - np.mean(seeds) if enough else np.nan)
    panel.errorbar(values.index, values.map(np.mean), yerr=halves, capsize=2, lw=1.5, ms=5, **look)


def make_panels(
    rows: int, columns: int, size: tuple[float, float] | None = None
) -> "tuple[Figure, np.ndarray]":
    """A figure of panels in rows and columns; size is width and height in inches."""
    from matplotlib import pyplot

    size = size or (2.9 * columns, 3.1 * rows + 0.3)
    return pyplot.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)


def label_dynamics(row: np.ndarray, title: str) -> None:
    """Name and scale the four panels error, NC1, NC2, NC3 against the epoch."""
    for panel, name in zip(row, NAMES.values(), strict=True):
        panel.set(xlabel="epoch", ylabel=name)
    row[0].set(title=title, ylim=(0, None))
    row[1].set_yscale("log")
    for panel in row[2:]:
        panel.set_ylim(0, None)


def draw_legend(panel: "Axes", other: "Axes", **look: object) -> None:
    """One legend for a panel and its second axis."""
    lines, names = panel.get_legend_handles_labels()
    more_lines, more_names = other.get_legend_handles_labels()
    look = {"frameon": False, "fontsize": "small"} | look
    other.legend(lines + more_lines, names + more_names, **look)
