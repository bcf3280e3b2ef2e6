"""One look for all figures: the colour of each method, the sizes of text, how axes are labelled.

No drawing function names a colour or a font size of its own. What a colour, a dash and a band mean:

- A method has one colour in every figure (`method`), which a colour-blind reader can tell from the
  others. Label smoothing is orange, darker the stronger it is (`strength`); at strength 0 it is
  cross-entropy.
- Solid lines and filled marks are training images, dashed lines and open marks held-out ones.
- Values in an order, such as numbers of classes, run from dark to light (`ordered`).
- What is no method (formulas, metrics side by side) is black and grey (`series`).
- A filled band, or an error bar, is the 95 % interval of a mean over seeds
  (`lsnc_core.show.panels`); ranges and quartiles are thin outlines, named in the legend.
"""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from lsnc_core.errors import needs_companion

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# A figure is at most this wide, in inches: 720 px. Text of 9 points is 12 px then, and 9 px where a
# narrow screen shows the figure at 544 px.
WIDTH = 7.5
SMALLEST = 9.0  # points

# perceptually even and safe for colour-blind readers; dark is low, as in the papers' heat maps
LOSS_MAP, ACCURACY_MAP, RESIDUAL_MAP = "viridis", "cividis", "RdBu_r"
INK, SOFT, PAPER, OPEN = "black", "#767676", "white", "none"
RULE = "#c8d0d8"  # axes of what the page itself draws
PANE = "0.7"  # behind a legend on a map

METHODS = {
    # losses
    "CE": "#0173b2",
    "LS": "#de8f05",
    "FL": "#029e73",
    "MSE": "#882255",
    # what else is done about label noise
    "posterior": "#44aa99",
    "forward": "#5e2ca5",
    "logit": "#56b4e9",
    # assumptions about test labels
    "alpha": "#d55e00",
    "beta": "#aa4499",
    "gamma": "#332288",
}
ALIASES = {"none": "CE", "mean field": "LS", "smoothing": "LS", "focal": "FL", "rescaled": "MSE"}
# of ten classes: Paul Tol's "muted" scheme and a grey, which differ to colour-blind readers, too
CLASS_COLOURS = ("#332288", "#88ccee", "#44aa99", "#117733", "#999933", "#ddcc77", "#cc6677")
CLASS_COLOURS += ("#882255", "#aa4499", "#767676")
SPARE = ("#661100", "#117733", "#999933", "#6699cc")  # losses from a reader's own files
MARKS = {"CE": "o", "LS": "s", "FL": "^", "MSE": "D", "posterior": "P", "forward": "v"}
MARKS |= {"logit": "X", "alpha": "o", "beta": "s", "gamma": "^"}
DASHES = ("-", "--", ":", "-.", (0, (5, 1)), (0, (3, 1, 1, 1)))
SHAPES = ("o", "s", "^", "D", "v", "P", "X", "d")
TRAINING: dict[str, Any] = {"ls": "-"}
HELD_OUT: dict[str, Any] = {"ls": "--", "mfc": PAPER}
# Label smoothing's colours by strength: lightness falls, the hue stays.
_STRENGTHS = (0.01, 0.05, 0.2, 0.5, 1.0)
_SHADES = ("#f3c877", METHODS["LS"], "#b35c00", "#7a3300", "#3d1500")


def method(name: str) -> str:
    """The colour of a method: a key of `METHODS`, or a name that starts with one or with an alias.

    A loss from a reader's own file takes a spare colour by its name.

    >>> method("LS δ = 0.05") == method("mean field") == METHODS["LS"]
    True
    """
    key = method_key(name)
    return METHODS[key] if key else SPARE[sum(map(ord, name)) % len(SPARE)]


def method_key(name: str) -> str:
    """The key of `METHODS` that a name means; "" for a method of a reader's own."""
    known = {key: key for key in METHODS} | ALIASES
    if name in known:
        return known[name]
    first = name.replace("(", " ").replace(":", " ").split()
    return known.get(first[0], "") if first else ""


def strength(delta: float) -> str:
    """The colour of label smoothing at one strength; cross-entropy's at 0.

    >>> strength(0) == METHODS["CE"], strength(0.05) == METHODS["LS"]
    (True, True)
    """
    from matplotlib import colors

    if delta == 0:
        return METHODS["CE"]
    at = np.log(np.clip(delta, _STRENGTHS[0], 1))
    shades = np.array([colors.to_rgb(shade) for shade in _SHADES])  # (shades, RGB)
    return colors.to_hex([np.interp(at, np.log(_STRENGTHS), channel) for channel in shades.T])


def ordered(count: int) -> list[str]:
    """Colours of values in an order, from dark to light."""
    import matplotlib
    from matplotlib import colors

    scale = matplotlib.colormaps[LOSS_MAP]
    return [colors.to_hex(scale(at)) for at in np.linspace(0, 0.86, count)]


def series(number: int) -> dict[str, Any]:
    """The look of one of several curves that are no methods: black or grey, its dash and mark."""
    look = {"color": (INK, SOFT)[number % 2], "ls": DASHES[number % len(DASHES)]}
    look["marker"] = SHAPES[number % len(SHAPES)]
    return look if number < 2 else look | {"mfc": PAPER}


@contextlib.contextmanager
def common() -> Iterator[None]:
    """Draw under the common style.

    Raises:
        UsageError: without the extra `companion`.
    """
    needs_companion("drawing a figure", "matplotlib", "seaborn")
    import matplotlib.pyplot as plt
    import seaborn as sns

    look = {
        **sns.axes_style("ticks"),
        "figure.dpi": 100,
        "font.size": 9.5,
        "axes.labelsize": 9.5,
        "axes.titlesize": 9.5,
        "figure.titlesize": 10,
        "xtick.labelsize": SMALLEST,
        "ytick.labelsize": SMALLEST,
        "legend.fontsize": SMALLEST,
        "legend.title_fontsize": SMALLEST,
        "legend.frameon": False,
        "axes.linewidth": 0.9,
        "lines.linewidth": 1.6,
        "lines.markersize": 5,
        "errorbar.capsize": 2,
    }
    with plt.rc_context(look):
        yield


def chart_config() -> dict[str, Any]:
    """The common style for Vega-Lite: the `config` of a chart with controls.

    A chart lies on a light plate in light and dark, as figures do.
    """
    letters = {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"}
    return {
        "aria": False,  # the chart has one text alternative, not one for each mark
        "background": None,
        "font": 'system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif',
        "axis": {**letters, "grid": False, "labelColor": INK, "titleColor": INK},
        "header": letters,
        "legend": {**letters, "labelLimit": 260, "titleLimit": 260},
        "line": {"strokeWidth": 2},
        "text": {"fontSize": 12},
        "title": {"fontSize": 13, "fontWeight": "normal", "anchor": "start"},
        "view": {"stroke": None},
    }


# ---- axes


def finish(figure: "Figure") -> None:
    """Label the logarithmic axes of a figure, once everything is drawn."""
    from matplotlib.ticker import LogLocator

    for axes in figure.axes:
        for inner in (axes, *axes.child_axes):
            for axis in (inner.xaxis, inner.yaxis):
                chosen = isinstance(axis.get_major_locator(), LogLocator)
                if axis.get_scale() == "log" and chosen:
                    label_decades(axis)


def label_decades(axis: "Axis") -> None:
    """Powers of ten where an axis shows two or more, else plain decimals."""
    from matplotlib.ticker import (
        FuncFormatter,
        LogFormatterMathtext,
        LogLocator,
        NullFormatter,
        NullLocator,
    )

    low, high = sorted(axis.get_view_interval())
    # a tick on the edge of the axis counts
    first, last = np.ceil(np.log10(low) - 1e-9), np.floor(np.log10(high) + 1e-9)
    if last - first >= 1:
        axis.set_major_locator(LogLocator(numticks=6))
        axis.set_major_formatter(LogFormatterMathtext())
        axis.set_minor_formatter(NullFormatter())
        return
    axis.set_minor_locator(NullLocator())
    axis.set_major_locator(LogLocator(subs=_decimals(low, high), numticks=20))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _decimals(low: float, high: float) -> tuple[float, ...]:
    """The fewest first digits that give three ticks or more between two values."""
    digits: tuple[float, ...] = ()
    every, halves = tuple(range(1, 10)), tuple(np.arange(2, 20) / 2)
    for digits in ((1, 3), (1, 2, 5), (1, 2, 3, 5, 7), every, halves):
        powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
        ticks = np.outer(powers, digits)
        if ((ticks >= low) & (ticks <= high)).sum() >= 3:
            return digits
    return digits
