"""Drawing helpers of Chen's figures: heat maps over (a, p), slices, the places of minima.

a is the clean-label rate, p the kept mass. matplotlib and pandas are imported where they are used.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lsnc_core.data_sources import source_of
from lsnc_core.errors import UsageError
from lsnc_core.notebook import convert
from lsnc_core.papers.chen.grid import (
    FORMULA_RANGE,
    PROTOCOLS,
    class_count,
    describe_landscape,
    learned,
)
from lsnc_core.papers.chen.minima import find_minima
from lsnc_core.show import style
from lsnc_core.show.panels import label_data, make_panels

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
# The looks of losses on clean and on noisy test labels, of formulas, and of the two kinds of image.
ALPHA = {"color": style.METHODS["alpha"], "marker": style.MARKS["alpha"]}
BETA = {"color": style.METHODS["beta"], "marker": style.MARKS["beta"]}
THEORY = {"color": style.INK, "marker": "^", "ls": ":"}
IMAGES = {"test_loss": style.HELD_OUT, "clean_train_loss": style.TRAINING}
DASHES = {"alpha": "-", "beta": "--", "gamma": ":"}
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
    panel: "Axes", grid: "pd.DataFrame", rough: "pd.DataFrame | None" = None, **colours: object
) -> "QuadMesh":
    """A heat map over cells of (a, p); a cell without a finite value is crossed.

    Args:
        grid: values, a row per p and a column per a.
        rough: bool, like `grid`: cells whose networks have not memorised their labels, hatched;
            None to hatch none.
        colours: passed on to `pcolormesh`.
    """
    from matplotlib.patches import Rectangle

    # the clean-label rates are unevenly spaced: each gets a column of the same width and its name
    columns, rows = np.arange(len(grid.columns) + 1) - 0.5, np.arange(len(grid.index) + 1) - 0.5
    image = panel.pcolormesh(columns, rows, grid, rasterized=True, **colours)
    # blank, it would look like the middle of a diverging scale
    empty, across = np.nonzero(~np.isfinite(grid.to_numpy(float)))
    if len(empty):
        panel.plot(across, empty, "x", color=style.INK, ms=5, mew=0.8)
    for row, column in () if rough is None else np.argwhere(rough.to_numpy(bool)):
        corner = (column - 0.5, row - 0.5)
        panel.add_patch(
            Rectangle(corner, 1, 1, fill=False, hatch="////", lw=0, edgecolor=style.INK)
        )
    panel.set_xticks(range(len(grid.columns)), [f"{a:g}" for a in grid.columns], rotation=90)
    panel.set_yticks(range(len(grid.index)), [f"{p:g}" for p in grid.index])
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
    """Theory and measurement over the (a, p) grid, the p of the lowest loss at each a marked; one
    colour scale for all panels.

    Args: table, from `lsnc_core.papers.chen.grid.landscape_table`.
    """
    drawing, panels = make_panels(3, 3, height=3.6, sharey=True)
    # pcolormesh leaves infinite cells blank; they belong above the top of the scale
    theory = np.minimum(mean_grid(table, "predicted"), 1e3)
    across, rates = np.arange(len(theory.columns)), theory.columns.to_numpy()
    kept, rough = theory.index.to_numpy(), rough_cells(table)
    mark = {"color": style.PAPER, "mec": style.INK, "ms": 6}
    colours = {"cmap": style.LOSS_MAP, "vmin": 0, "vmax": loss_ceiling(table)}
    image = draw_heat(panels[0], theory, **colours)
    panels[0].plot(across, cell_position(kept, rates), "o", **mark)
    panels[0].set(title="theory, equation 11", ylabel=KEPT)
    for panel, (column, images) in zip(panels[1:], PROTOCOLS.items(), strict=True):
        draw_heat(panel, mean_grid(table, column), rough, **colours)
        lowest = find_minima(table, column)
        low, high = cell_position(kept, lowest.low), cell_position(kept, lowest.high)
        panel.vlines(across, low, high, color=style.PAPER, lw=2)
        panel.plot(across, cell_position(kept, lowest.argmin), "o", **mark)
        panel.set_title(images)
    drawing.suptitle(label_landscape(table))
    drawing.colorbar(image, ax=list(panels), extend="max", label="test loss (nats)")
    return drawing


def describe_panels(table: "pd.DataFrame", recipe: str) -> str:
    """The caption of Figure 5; args table, from `landscape_table`; recipe, of its networks."""
    return (
        "Circles mark the p of the lowest loss at each a: by theory p = a, here off by at most "
        f"{describe_circles(table)}. {recipe} {describe_landscape(table)}"
    )


def largest_distance(measured: "pd.Series", predicted: "pd.Series | np.ndarray") -> float:
    """The largest distance of measured values from predicted ones; missing values are left out.

    >>> import pandas as pd
    >>> round(largest_distance(pd.Series([0.5, 0.9, np.nan]), np.array([0.6, 0.7, 0.1])), 3)
    0.2
    """
    return float((measured - predicted).abs().max())


def describe_circles(table: "pd.DataFrame") -> str:
    """How far the p of the lowest loss is from a at most, by kind of image, in numbers.

    Args: table, from `landscape_table`.
    """
    parts = []
    for column, images in PROTOCOLS.items():
        lowest = find_minima(table, column)
        off = largest_distance(lowest.argmin, lowest.a)
        parts.append(f"{off:.2f} on {images.replace(', clean labels', '')}")
    return " and ".join(parts)


def describe_slices(table: "pd.DataFrame", rates: Sequence[float]) -> str:
    """How far the marks of Figure 6 lie from the formula at most, by kind of image and clean rate.

    Args: table, from `landscape_table`; rates, the clean rates shown.
    """
    low, high = FORMULA_RANGE
    inside = table[table.a.isin(rates) & table.p.between(low, high)]
    means = inside.groupby(["a", "p"])[["predicted", *PROTOCOLS]].mean()
    parts = {}
    for column in PROTOCOLS:
        phrases = []
        for a, part in means.groupby("a"):
            off = largest_distance(part[column], part.predicted)
            phrases.append(f"{off:.2f} at a = {a:g}")
        parts[column] = " and ".join(phrases)
    return (
        f"at most {parts['clean_train_loss']}, open marks (held-out images) by at most "
        f"{parts['test_loss']} (nats, p from {low} to {high})"
    )


def label_landscape(table: "pd.DataFrame") -> str:
    """The image set of a table of networks with its training images and, of the p that teach the
    label, the mean test errors after the last epoch from the lowest to the highest over clean
    rates.
    """
    first, taught = table.iloc[0], learned(table)
    errors = 1 - taught.groupby("a").test_accuracy.mean()
    name = "mean test error at each a" if len(errors) > 1 else f"mean test error (a = {first.a:g})"
    return label_data(source_of(first.data).title, first.train_size, list(errors), name)


def draw_minima(panel: "Axes", minima: "pd.DataFrame", shift: float = 0.0, **look: object) -> None:
    """Places of minima against a, with their intervals as error bars.

    Args: minima, from `lsnc_core.papers.chen.minima.find_minima`; shift, of the marks along a.
    """
    error = np.abs(np.array([minima.argmin - minima.low, minima.high - minima.argmin]))
    yerr = np.nan_to_num(error)
    panel.errorbar(minima.a + shift, minima.argmin, yerr=yerr, elinewidth=1.1, **look)


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
    """A figure with panels two beside each other that share the axis of the loss: `count` of
    them.
    """
    return make_panels(count, 2, height=3.2, sharey=True)


def label_apart(values: Sequence[int]) -> list[str]:
    """Labels of the ticks of a logarithmic axis, none where the next one stands so near that they
    would touch. Args: values, ascending.

    >>> label_apart([1, 2, 4, 100, 130])
    ['1', '2', '4', '', '130']
    """
    labels: list[str] = []
    nearest = np.inf  # the labelled value above
    for value in reversed(values):
        labels.append(str(value) if value * 1.4 <= nearest else "")
        nearest = value if labels[-1] else nearest
    return labels[::-1]


def slice_title(table: "pd.DataFrame", a: float) -> str:
    """The title of a slice, e.g. "a = 0.5, 4 seeds"."""
    seeds = table[table.a == a].seed.nunique()
    return f"a = {a:g}, {seeds} seed{'s' if seeds > 1 else ''}"
