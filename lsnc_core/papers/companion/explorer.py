"""A slider through the closed-form landscape of Chen, Ziyin et al. 2020, sections 3 and 4.

For JupyterLab live widgets, for a page without a kernel the same slider over ready pictures. a is
the clean-label rate, p the kept mass, M the number of classes.
"""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lsnc_core import labels
from lsnc_core.errors import needs_companion
from lsnc_core.papers.chen.drawing import CLEAN_RATE, KEPT, NAMES, TOP
from lsnc_core.papers.page import Page
from lsnc_core.show import style, svg_text
from lsnc_core.show.slider import SLIDER_TYPE, slider_html
from lsnc_core.theory import label_noise

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

PAGE = Page(
    title="Explore: drag the smoothing",
    shows="a slider through the smoothing strength (Chen, sections 3 and 4)",
    minutes={"quick": 0.1},
)
CLASSES = (2, 3, 10, 100, 1000)
STEPS = 21  # pictures of the slider without a kernel
START = 16  # the one shown first, p = 0.8


def draw_smoothing(kind: str, M: int, p: float) -> "Figure":
    """The closed-form landscape with the chosen kept mass p as a line, and beside it the loss at
    that p against the best possible.

    Args:
        kind: "alpha", "beta" or "gamma".
        M: number of classes.
        p: kept mass in [0, 1].
    """
    needs_companion("drawing a figure", "matplotlib", "seaborn")
    import matplotlib.pyplot as plt

    # fixed margins: fitting them anew would take most of the time of a slider's step
    margins = {"left": 0.08, "right": 0.98, "bottom": 0.15, "top": 0.91, "wspace": 0.27}
    with style.common():
        drawing, (left, right) = plt.subplots(1, 2, figsize=(style.WIDTH, 3.4), gridspec_kw=margins)
        image = _draw_landscape(left, kind, M, p)
        drawing.colorbar(image, ax=left, extend="max", label="test loss (nats)")
        _draw_cost(right, kind, M, p)
    plt.close(drawing)
    return drawing


def _draw_landscape(panel: "Axes", kind: str, M: int, p: float) -> "QuadMesh":
    a, kept = np.linspace(0, 1, 81), np.linspace(0, 1, 81)
    losses = label_noise.loss(kind, a[None, :], kept[:, None], M)  # (p, a)
    # pcolormesh leaves infinite cells blank; they belong above the top of the scale
    colours = {"cmap": style.LOSS_MAP, "vmin": 0, "vmax": TOP}
    look = {"shading": "nearest", "rasterized": True}
    image = panel.pcolormesh(a, kept, np.minimum(losses, 1e3), **colours, **look)
    best = label_noise.optimum(kind, a, M)
    panel.plot(a, best, color=style.PAPER, lw=2, label="best p for each a")
    panel.axhline(p, color=style.METHODS["LS"], lw=2.5, label="chosen p")
    panel.set(xlabel=CLEAN_RATE, ylabel=KEPT, xlim=(0, 1), ylim=(0, 1.01))
    panel.set_title(f"{NAMES[kind]}, M = {M}")
    panel.legend(loc="lower right", frameon=True, facecolor=style.PANE)
    return image


def _draw_cost(panel: "Axes", kind: str, M: int, p: float) -> None:
    a = np.linspace(0, 1, 81)
    losses, best = label_noise.loss(kind, a, p, M), label_noise.best_loss(kind, a, M)
    panel.plot(a, losses, color=style.METHODS["LS"], lw=2.5, label="at the chosen p")
    panel.plot(a, best, color=style.INK, lw=1.5, ls="--", label="at the best p for each a")
    top = max(TOP, 1.1 * np.log(M))
    panel.set(xlabel=CLEAN_RATE, ylabel="test loss (nats)", xlim=(0, 1), ylim=(0, top))
    panel.set_title("what this smoothing costs")
    panel.legend(loc="upper right")


def describe_strength(p: float, M: int) -> str:
    """A kept mass with the smoothing strength that it stands for.

    >>> describe_strength(0.8, 10)
    'p = 0.80, smoothing strength δ = 0.222 (M = 10)'
    """
    return f"p = {p:.2f}, smoothing strength δ = {labels.strength_from_kept(p, M):.3f} (M = {M})"


class SmoothingExplorer:
    """A slider through the kept mass p over the closed-form landscape of Chen et al.

    With a kernel: ipywidgets for p, the assumption about test labels and the number of classes.
    Without: the same slider over ready pictures for the assumption and M it was made with.

    Args:
        kind: "alpha", "beta" or "gamma".
        M: number of classes, at least 2.

    Raises:
        UsageError: for another kind, or M below 2; without the extra `companion`.
    """

    def __init__(self, kind: str = "alpha", M: int = 10):
        needs_companion("the explorer", "ipywidgets")
        import ipywidgets as widgets

        label_noise.loss(kind, 0.5, 0.5, M)  # refuses what cannot be drawn before anything is shown
        self.start = (kind, M)
        self.p = widgets.FloatSlider(
            value=0.8, min=0, max=1, step=0.02, description=KEPT, readout_format=".2f"
        )
        names = [NAMES[name].replace("$", "").replace("\\", "") for name in label_noise.KINDS]
        self.kind = widgets.Dropdown(
            value=kind,
            options=list(zip(names, label_noise.KINDS, strict=True)),
            description="test labels",
        )
        self.classes = widgets.Dropdown(
            value=M, options=sorted({*CLASSES, M}), description="classes M"
        )
        self.strength = widgets.Label()
        self.picture = widgets.Image(format="png")
        controls = widgets.HBox([self.p, self.kind, self.classes])
        self.box = widgets.VBox([controls, self.strength, self.picture])
        for control in (self.p, self.kind, self.classes):
            control.observe(self._draw, names="value")
        self._draw()

    def _draw(self, change: object = None) -> None:
        buffer = io.BytesIO()
        drawing = draw_smoothing(self.kind.value, self.classes.value, self.p.value)
        drawing.savefig(buffer, format="png", dpi=90)
        self.strength.value = describe_strength(self.p.value, self.classes.value)
        self.picture.value = buffer.getvalue()

    def _repr_mimebundle_(
        self, include: Sequence[str] | None = None, exclude: Sequence[str] | None = None
    ) -> dict[str, Any]:
        kind, M = self.start
        steps = np.linspace(0, 1, STEPS)
        pictures = [svg_text(draw_smoothing(kind, M, p)) for p in steps]
        texts = [describe_strength(p, M) for p in steps]
        kept = {"title": KEPT, "labels": texts, "svgs": pictures, "start": START}
        shown = {"text/html": slider_html(**kept), SLIDER_TYPE: kept}
        return self.box._repr_mimebundle_() | shown
