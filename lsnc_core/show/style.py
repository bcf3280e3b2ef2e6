"""One look for all figures: colours that a colour-blind reader can tell apart, axes with names and
units.
"""

import functools

import matplotlib.pyplot as plt
import seaborn as sns

# dark = low loss, as in the papers' heat maps; perceptually even and safe for colour-blind readers
LOSS_MAP, RESIDUAL_MAP = "viridis", "RdBu_r"
COLOURS = sns.color_palette("colorblind")


def styled(draw):
    """Decorator: run a drawing function under the common style and hand back its figure, closed for
    automatic display.
    """

    @functools.wraps(draw)
    def wrapped(*arguments, **settings):
        look = sns.axes_style("ticks") | sns.plotting_context("notebook", font_scale=0.85)
        with plt.rc_context(
            {
                **look,
                "axes.prop_cycle": plt.cycler(color=COLOURS),
                "figure.dpi": 100,
                "axes.titlesize": 10.5,
            }
        ):
            figure = draw(*arguments, **settings)
        plt.close(figure)
        return figure

    return wrapped
