"""Panels of figures: means over seeds with their intervals, panels in rows, one legend below.

A filled band and an error bar mean the same everywhere: the 95 % t-interval of the mean over seeds,
none for fewer than four. On a logarithmic axis it is that of the mean logarithm, whose ends stay
above 0. matplotlib is imported where it is used.
"""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lsnc_core import claims
from lsnc_core.show import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BAND = 0.22  # opacity


def seed_intervals(curves: "pd.DataFrame", log: bool = False) -> "pd.DataFrame":
    """Mean over seeds with its 95 % t-interval at each x.

    Args:
        curves: a row for each seed, a column for each x.
        log: take both of the logarithms, and back.

    Returns:
        pandas.DataFrame with mean, low, high, indexed by x; low and high are NaN for fewer than
        `claims.MIN_SEEDS` seeds. An x at which a seed is missing or infinite (for logarithms: not
        above 0) is left out.
    """
    import pandas as pd

    values = curves.where(curves > 0) if log else curves
    values = values.loc[:, np.isfinite(values.astype(float)).all()]
    values = np.log(values) if log else values
    rows = []
    for x in values:
        enough = len(values) >= claims.MIN_SEEDS
        rows.append(claims.t_interval(values[x]) if enough else (values[x].mean(), np.nan, np.nan))
    ends = np.reshape(np.array(rows, float), (-1, 3))
    table = pd.DataFrame(ends, index=values.columns, columns=["mean", "low", "high"])
    return np.exp(table) if log else table


def draw_band(panel: "Axes", curves: "pd.DataFrame", log: bool = False, **look: Any) -> None:
    """The mean over seeds as a line in the band of its interval.

    Args: as `seed_intervals`; look, of the line.
    """
    table = seed_intervals(curves, log)
    (line,) = panel.plot(table.index, table["mean"], **look)
    shade = {"color": line.get_color(), "alpha": BAND, "lw": 0}
    panel.fill_between(table.index, table.low, table.high, **shade)


def draw_points(panel: "Axes", curves: "pd.DataFrame", log: bool = False, **look: Any) -> None:
    """Means over seeds as marks with their intervals as error bars; args as `draw_band`."""
    draw_intervals(panel, seed_intervals(curves, log), **look)


def draw_intervals(panel: "Axes", table: "pd.DataFrame", **look: Any) -> None:
    """Marks with error bars. Args: table, as from `seed_intervals`; look, of the marks."""
    error = None
    if np.isfinite(table.low).any():
        ends = [table["mean"] - table.low, table.high - table["mean"]]
        error = np.nan_to_num(np.array(ends, float))
    panel.errorbar(table.index, table["mean"], yerr=error, elinewidth=1.1, **look)


def draw_range(panel: "Axes", x: Any, low: Any, high: Any, **look: Any) -> None:
    """The ends of a range or of quartiles, as thin lines."""
    look = {"lw": 0.7} | look
    panel.plot(x, low, **look)
    panel.plot(x, high, **look)


def make_panels(
    count: int, columns: int = 2, height: float = 2.5, width: float = style.WIDTH, **settings: Any
) -> "tuple[Figure, np.ndarray]":
    """Panels that wrap into rows.

    Args:
        count: of panels.
        columns: beside each other.
        height: of a row, in inches.
        width: of the figure, in inches; less in proportion where there are fewer panels.
        settings: passed on to `subplots`.

    Returns:
        The figure and its panels, (count,).
    """
    from matplotlib import pyplot

    across, rows = min(count, columns), -(-count // columns)
    size = (max(width * across / columns, min(width, 4.6)), height * rows + 0.3)
    settings = {"layout": "constrained", "squeeze": False, "figsize": size} | settings
    drawing, panels = pyplot.subplots(rows, across, **settings)
    for panel in panels.flat[count:]:
        panel.axis("off")
    return drawing, panels.flat[:count]


def draw_legend(
    drawing: "Figure",
    panels: Sequence["Axes"],
    columns: int = 3,
    seeds: Collection[int] = (),
    extra: Sequence[tuple[dict[str, Any], str]] = (),
) -> None:
    """One legend below a figure: what its panels name, each once.

    Args:
        drawing: the figure.
        panels: whose labels are shown.
        columns: of the legend, at most; fewer where the figure is too narrow for them.
        seeds: the numbers of seeds that its bands are over; none without bands.
        extra: looks of further lines with what they mean.
    """
    from matplotlib.legend_handler import HandlerTuple
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    named: dict[str, Any] = {}
    for panel in panels:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    for look, label in extra:
        named[label] = Line2D([], [], **{"color": style.INK} | look)
    enough = sorted({number for number in seeds if number >= claims.MIN_SEEDS})
    if enough:
        # in the colours of the first lines, or it looks like a grey band of another meaning
        lines = [handle.get_color() for handle in named.values() if isinstance(handle, Line2D)]
        colours = list(dict.fromkeys(lines))[:2] or [style.SOFT]
        shade = tuple(Patch(color=colour, alpha=BAND, lw=0) for colour in colours)
        numbers = " to ".join(str(number) for number in dict.fromkeys((enough[0], enough[-1])))
        named[f"95 % interval of the mean, {numbers} seeds"] = shade
    both = {tuple: HandlerTuple(ndivide=None, pad=0)}
    for count in range(columns, 0, -1):
        place = {"loc": "outside lower center", "ncols": count}
        legend = drawing.legend(list(named.values()), list(named), handler_map=both, **place)
        if count == 1 or legend.get_window_extent().width <= drawing.bbox.width:
            break
        legend.remove()


def label_data(
    title: str, images: int, errors: Sequence[float] = (), name: str = "test error"
) -> str:
    """An image set as figures name it: with the number of training images and the test errors.

    Args:
        title: e.g. "CIFAR-10".
        images: training images of a network.
        errors: test errors, shares in [0, 1]; their smallest and largest are named.
        name: what they are called.

    >>> label_data("CIFAR-10", 1000, [0.688, 0.694])
    'CIFAR-10, 1,000 images, test error 69 %'
    >>> label_data("MNIST", 5000, [0.012, 0.3])
    'MNIST, 5,000 images, test error 1.2 to 30 %'
    """
    text = f"{title.split(' (')[0]}, {images:,} images"
    shares = [100 * error for error in errors if np.isfinite(error)]
    if not shares:
        return text
    low, high = (f"{share:.0f}" if share >= 10 else f"{share:.1f}" for share in _ends(shares))
    return f"{text}, {name} {low} %" if low == high else f"{text}, {name} {low} to {high} %"


def _ends(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)
