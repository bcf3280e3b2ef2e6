"""Drawing helpers of Chen's figures: heat maps over (a, p), slices, the places of minima.

a is the clean-label rate, p the kept mass. matplotlib and pandas are imported where they are used.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lsnc_core import claims
from lsnc_core.errors import UsageError
from lsnc_core.notebook import convert
from lsnc_core.papers.chen.grid import PROTOCOLS, class_count
from lsnc_core.papers.chen.minima import find_minima
from lsnc_core.show.style import LOSS_MAP

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

NAMES = {
    "alpha": r"$\alpha$: clean test labels",
    "beta": r"$\beta$: noisy test labels",
    "gamma": r"$\gamma$: Bayesian test labels",
}
DASHES = {"alpha": "-", "beta": "--", "gamma": ":"}
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "d")
CLEAN_RATE, KEPT = "clean rate a", "kept mass p"
# Losses diverge at p = 1; the colour scale of heat maps ends here, in nats, and the bar says so.
TOP = 3.0


def loss_ceiling(table: "pd.DataFrame") -> float:
    """Where a colour scale of losses ends, in nats: `TOP`, for more than ten classes in proportion
    to log M.
    """
    return TOP * max(1.0, float(np.log10(class_count(table))))


def label_unit_axes(axes: "Axes", xlabel: str = CLEAN_RATE, ylabel: str = KEPT) -> None:
    """Name both axes and let them run from 0 to 1."""
    axes.set(xlabel=xlabel, ylabel=ylabel, xlim=(0, 1), ylim=(0, 1))


def draw_heat(
    panel: "Axes", grid: "pd.DataFrame", rough: "pd.DataFrame", **colours: object
) -> "QuadMesh":
    """A heat map over cells of (a, p).

    Args:
        grid: values, a row per p and a column per a.
        rough: bool, like `grid`: cells whose networks have not memorised their labels, hatched.
        colours: passed on to `pcolormesh`.
    """
    from matplotlib.patches import Rectangle

    # the clean-label rates are unevenly spaced: each gets a column of the same width and its name
    columns, rows = np.arange(len(grid.columns) + 1) - 0.5, np.arange(len(grid.index) + 1) - 0.5
    image = panel.pcolormesh(columns, rows, grid, rasterized=True, **colours)
    for row, column in np.argwhere(rough.to_numpy(bool)):
        corner = (column - 0.5, row - 0.5)
        panel.add_patch(Rectangle(corner, 1, 1, fill=False, hatch="////", lw=0, edgecolor="black"))
    panel.set_xticks(range(len(grid.columns)), [f"{a:g}" for a in grid.columns], fontsize="small")
    panel.set_yticks(range(len(grid.index)), [f"{p:g}" for p in grid.index], fontsize="small")
    panel.set(xlabel=CLEAN_RATE)
    return image


def mean_grid(table: "pd.DataFrame", column: str) -> "pd.DataFrame":
    """Means over seeds, a row per p and a column per a."""
    return table.pivot_table(index="p", columns="a", values=column, aggfunc="mean", dropna=False)


def cell_position(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Where numbers stand on an axis with one equal cell per grid value."""
    return np.interp(at, values, np.arange(len(values)))


def rough_cells(table: "pd.DataFrame") -> "pd.DataFrame":
    """The cells of the grid in which a network has not memorised its labels."""
    return mean_grid(table, "memorised") < 1


def draw_landscape(table: "pd.DataFrame") -> "Figure":
    """Theory and measurement over the (a, p) grid, the lowest p of each a marked; one colour scale
    for all panels.

    Args: table, from `lsnc_core.papers.chen.grid.landscape_table`.
    """
    from matplotlib import pyplot as plt

    drawing, panels = plt.subplots(1, 3, figsize=(11, 4.6), sharey=True, layout="constrained")
    # pcolormesh leaves infinite cells blank; they belong above the top of the scale
    theory = np.minimum(mean_grid(table, "predicted"), 1e3)
    across, rates = np.arange(len(theory.columns)), theory.columns.to_numpy()
    kept, rough = theory.index.to_numpy(), rough_cells(table)
    mark = {"color": "white", "mec": "black", "ms": 7}
    colours = {"cmap": LOSS_MAP, "vmin": 0, "vmax": loss_ceiling(table)}
    image = draw_heat(panels[0], theory, rough & False, **colours)
    panels[0].plot(across, cell_position(kept, rates), "o", **mark)
    panels[0].set(title="theory, equation 11, in these cells", ylabel=KEPT)
    for panel, (column, images) in zip(panels[1:], PROTOCOLS.items(), strict=True):
        draw_heat(panel, mean_grid(table, column), rough, **colours)
        lowest = find_minima(table, column)
        low, high = cell_position(kept, lowest.low), cell_position(kept, lowest.high)
        panel.vlines(across, low, high, color="white", lw=2)
        panel.plot(across, cell_position(kept, lowest.argmin), "o", **mark)
        panel.set_title(f"measured: {images}")
    drawing.colorbar(image, ax=panels, extend="max", label="test loss (nats)")
    return drawing


def draw_seed_means(panel: "Axes", curves: "pd.DataFrame", **look: object) -> None:
    """Means over seeds (rows of `curves`) against its columns, with 95 % t-intervals if there are
    four seeds or more.
    """
    error = None
    if len(curves) >= claims.MIN_SEEDS:
        curves = curves.loc[:, np.isfinite(curves).all()]  # a diverged network has no mean
        ends = np.array([claims.t_interval(curves[value]) for value in curves]).reshape(-1, 3)
        error = [ends[:, 0] - ends[:, 1], ends[:, 2] - ends[:, 0]]
    panel.errorbar(curves.columns, curves.mean(), yerr=error, capsize=2, **look)


def draw_minima(panel: "Axes", minima: "pd.DataFrame", shift: float = 0.0, **look: object) -> None:
    """Places of minima against a, with their intervals as error bars.

    Args: minima, from `lsnc_core.papers.chen.minima.find_minima`; shift, of the marks along a.
    """
    error = np.abs(np.array([minima.argmin - minima.low, minima.high - minima.argmin]))
    yerr = np.nan_to_num(error)
    panel.errorbar(minima.a + shift, minima.argmin, yerr=yerr, capsize=2, ms=5, **look)


def check_rates(table: "pd.DataFrame", rates: Sequence[float]) -> list[float]:
    """The clean-label rates as a list; refuse none, or one that the table does not have.

    Raises: UsageError.
    """
    rates = convert(rates, [], "rates")
    if not rates:
        raise UsageError("rates must name at least one clean rate, got none.")
    known = sorted(set(table.a))
    for a in rates:
        if a not in known:
            raise UsageError(
                f"no network was trained at the clean rate {a!r}; "
                f"there are {', '.join(f'{a:g}' for a in known)}."
            )
    return rates


def nearest_rates(table: "pd.DataFrame", wanted: Sequence[float]) -> list[float]:
    """The clean rates of a table that lie nearest to those wanted, each once.

    >>> import pandas as pd
    >>> nearest_rates(pd.DataFrame({"a": [0.6, 0.7, 0.8]}), (0.5, 0.8))
    [0.6, 0.8]
    """
    known = sorted(set(table.a))
    return sorted({min(known, key=lambda a: abs(a - rate)) for rate in wanted})


def slice_panels(count: int) -> "tuple[Figure, np.ndarray]":
    """A figure with panels beside each other that share the axis of the loss: `count` of them."""
    from matplotlib import pyplot as plt

    settings = {"sharey": True, "layout": "constrained", "squeeze": False}
    drawing, panels = plt.subplots(1, count, figsize=(4.6 * count + 0.4, 4), **settings)
    return drawing, panels[0]


def slice_title(table: "pd.DataFrame", a: float) -> str:
    """The title of a slice, e.g. "a = 0.5, 4 seeds"."""
    seeds = table[table.a == a].seed.nunique()
    return f"a = {a:g}, {seeds} seed{'s' if seeds > 1 else ''}"
