"""Live widgets for JupyterLab; each also carries a slider over ready pictures for a page without a
kernel.
"""

import io

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from lsnc_core import frames, labels
from lsnc_core.papers.chen_figures import CLEAN_RATE, KEPT, NAMES, TOP
from lsnc_core.papers.style import COLOURS, LOSS_MAP, styled
from lsnc_core.report.show import svg_text
from lsnc_core.theory import label_noise

CLASSES = (2, 3, 10, 100, 1000)


@styled
def smoothing_figure(kind: str, M: int, p: float) -> Figure:
    """The closed-form landscape with the chosen kept mass p as a line, and beside it the loss at
    that p against the best possible.
    """
    # fixed margins: fitting them anew would take most of the time of a slider's step
    figure, (left, right) = plt.subplots(
        1,
        2,
        figsize=(9, 3.7),
        gridspec_kw={"left": 0.07, "right": 0.98, "bottom": 0.14, "top": 0.91, "wspace": 0.25},
    )
    a, grid = np.linspace(0, 1, 81), np.linspace(0, 1, 81)
    losses = label_noise.loss(kind, a[None, :], grid[:, None], M)
    image = left.pcolormesh(
        a,
        grid,
        np.minimum(losses, 1e3),
        cmap=LOSS_MAP,
        vmin=0,
        vmax=TOP,
        shading="nearest",
        rasterized=True,
    )
    left.plot(a, label_noise.optimum(kind, a, M), color="white", lw=2, label="best p for each a")
    left.axhline(p, color=COLOURS[1], lw=2.5, label="chosen p")
    left.set(
        xlabel=CLEAN_RATE, ylabel=KEPT, xlim=(0, 1), ylim=(0, 1.01), title=f"{NAMES[kind]}, M = {M}"
    )
    left.legend(loc="lower right", fontsize="small", facecolor="0.7")
    figure.colorbar(image, ax=left, extend="max", label="test loss (nats)")
    right.plot(
        a, label_noise.loss(kind, a, p, M), color=COLOURS[1], lw=2.5, label="at the chosen p"
    )
    right.plot(
        a,
        label_noise.best_loss(kind, a, M),
        color="black",
        lw=1.5,
        ls="--",
        label="at the best p for each a",
    )
    right.set(
        xlabel=CLEAN_RATE,
        ylabel="test loss (nats)",
        xlim=(0, 1),
        ylim=(0, max(TOP, 1.1 * np.log(M))),
        title="what this smoothing costs",
    )
    right.legend(loc="upper right", fontsize="small")
    return figure


def _label(p: float, M: int) -> str:
    return f"p = {p:.2f}, smoothing strength δ = {float(labels.strength_from_kept(p, M)):.3f} (M = {M})"


class SmoothingExplorer:
    """A slider through the kept mass p over the closed-form landscape of Chen et al.

    With a kernel: ipywidgets for p, the assumption about test labels and the number of classes.
    Without: the same slider over ready pictures for the assumption and M it was made with.

    Args:
        kind: "alpha", "beta" or "gamma".
        M: number of classes, one of `CLASSES`.

    Raises:
        UsageError: for another kind, or M below 2.
    """

    def __init__(self, kind: str = "alpha", M: int = 10):
        import ipywidgets as widgets

        label_noise.loss(kind, 0.5, 0.5, M)  # refuses what cannot be drawn before anything is shown
        self.start = (kind, M)
        self.p = widgets.FloatSlider(
            value=0.8, min=0, max=1, step=0.02, description=KEPT, readout_format=".2f"
        )
        self.kind = widgets.Dropdown(
            value=kind,
            options=[
                (NAMES[name].replace("$", "").replace("\\", ""), name) for name in label_noise.KINDS
            ],
            description="test labels",
        )
        self.classes = widgets.Dropdown(
            value=M, options=sorted({*CLASSES, M}), description="classes M"
        )
        self.said = widgets.Label()
        self.picture = widgets.Image(format="png")
        self.box = widgets.VBox(
            [widgets.HBox([self.p, self.kind, self.classes]), self.said, self.picture]
        )
        for control in (self.p, self.kind, self.classes):
            control.observe(self._draw, names="value")
        self._draw()

    def _draw(self, change=None) -> None:
        buffer = io.BytesIO()
        smoothing_figure(self.kind.value, self.classes.value, self.p.value).savefig(
            buffer, format="png", dpi=90
        )
        self.said.value = _label(self.p.value, self.classes.value)
        self.picture.value = buffer.getvalue()

    def _repr_mimebundle_(self, include=None, exclude=None):
        kind, M = self.start
        steps = np.linspace(0, 1, 21)
        pictures = [svg_text(smoothing_figure(kind, M, p)) for p in steps]
        page = frames.slider_html(KEPT, [_label(p, M) for p in steps], pictures, start=16)
        return self.box._repr_mimebundle_() | {"text/html": page}
