"""One look for all figures: colours that a colour-blind reader can tell apart."""

import contextlib
from collections.abc import Iterator

from lsnc_core.errors import needs_companion

# perceptually even and safe for colour-blind readers; dark is low, as in the papers' heat maps
LOSS_MAP, RESIDUAL_MAP = "viridis", "RdBu_r"
# seaborn's "colorblind" palette, written out so that importing this module does not import seaborn
COLOURS = [
    "#0173b2",
    "#de8f05",
    "#029e73",
    "#d55e00",
    "#cc78bc",
    "#ca9161",
    "#fbafe4",
    "#949494",
    "#ece133",
    "#56b4e9",
]


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
        **sns.plotting_context("notebook", font_scale=0.85),
        "axes.prop_cycle": plt.cycler(color=COLOURS),
        "figure.dpi": 100,
        "axes.titlesize": 10.5,
    }
    with plt.rc_context(look):
        yield
