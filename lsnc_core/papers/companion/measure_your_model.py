"""The figures of `measure_your_model`, whose training loop stands in the notebook itself.

Figures: collapse while training; reliability before temperature scaling. One seed on a small image
set decides no claim.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from lsnc_core.errors import UsageError
from lsnc_core.labels import check_unit
from lsnc_core.notebook import convert
from lsnc_core.papers.page import Page
from lsnc_core.show import Drawing, figure, style
from lsnc_core.show.panels import draw_legend, make_panels

if TYPE_CHECKING:
    import pandas as pd

    from lsnc_core.data import ImageSet
    from lsnc_core.metrics import Reliability

PAGE = Page(
    title="Measure your model",
    shows="the metrics in a training loop of your own",
    minutes={"quick": 0.3},
)


# ---- images

# image set and epochs
SIZES = {"smoke": ("digits", 4), "quick": ("mnist-subset", 14), "hour": ("mnist-subset", 14)}
LARGE = ("mnist", 20)  # those of the other profiles


def load_images(
    profile: str, data_set: str = "", epochs: int = 0, delta: float = 0.0
) -> "tuple[ImageSet, int]":
    """The image set and the number of epochs; the profile's where none is given.

    Raises:
        UsageError: for an unknown image set, a negative number of epochs, or a smoothing strength
            delta outside [0, 1].
    """
    from lsnc_core import data

    epochs = convert(epochs, 0, "epochs")
    if epochs < 0:
        raise UsageError(f"epochs must be at least 1, or 0 for the profile's, got {epochs}.")
    check_unit(delta, "The smoothing strength delta")
    usual_set, usual_epochs = SIZES.get(profile, LARGE)
    return data.load(data_set or usual_set), epochs or usual_epochs


# ---- figures

METRICS = {
    "nc1_trace_over_K": "NC1, log scale",
    "nc3_product": "NC2 (Zhou: NC3)",
    "nc3_distance": "NC3",
    "accuracy": "accuracy",
}


@figure(
    "measure-your-model-collapse",
    title="Collapse during training",
    paper="no such figure on this data; Guo's Figure F1 (our numbering) shows the same quantities "
    "on CIFAR-10 and larger sets.",
    alt="Four panels over epochs, cross-entropy and label smoothing, train solid and test dashed: "
    "NC1 on a log scale, NC2, NC3, accuracy.",
)
def draw_collapse(table: "pd.DataFrame", images: str, delta: float) -> Drawing:
    """Collapse and accuracy against epochs: a colour for each loss, train solid, test dashed.

    Args:
        table: from `lsnc_core.metrics.CollapseHistory`, with columns epoch and loss.
        images: title of the image set.
        delta: smoothing strength of LS.
    """
    table = table[table.metric.isin(METRICS) & (table.part == "all")]
    drawing, panels = make_panels(len(METRICS), 2)
    for panel, (metric, title) in zip(panels, METRICS.items(), strict=True):
        losses = table[table.metric == metric].groupby("loss")
        for loss, part in losses:
            for dash, split in (("-", "train"), ("--", "test")):
                line = part[part.split == split]
                look = {"color": style.method(loss), "label": f"{loss}, {split}"}
                panel.plot(line.epoch, line.value, dash, **look)
        panel.set(xlabel="epoch", title=title)
        panel.xaxis.get_major_locator().set_params(integer=True)
    panels[0].set_yscale("log")
    panels[0].set_ylabel("value (no unit)")
    draw_legend(drawing, panels[:1], columns=4)
    caption = (
        f"{describe_collapse(table)} Lower NC1, NC2 and NC3 are more collapsed. {images}, one "
        f"seed; CE against LS with δ = {delta:g}."
    )
    return Drawing(drawing, caption, table)


def describe_collapse(table: "pd.DataFrame") -> str:
    """From where to where NC1 of the training images goes under each loss, in a sentence.

    Args: table, as for `draw_collapse`.
    """
    parts = []
    own = table[(table.metric == "nc1_trace_over_K") & (table.split == "train")]
    for loss, part in own[own.part == "all"].groupby("loss"):
        values = part.sort_values("epoch").value
        parts.append(f"from {values.iloc[0]:.2g} to {values.iloc[-1]:.2g} under {loss}")
    return f"NC1 of the training images goes {' and '.join(parts)}."


@figure(
    "measure-your-model-reliability",
    title="Reliability before scaling",
    paper="no such figure on this data; Guo's Figure F4 (our numbering) has CIFAR-10 and "
    "CIFAR-100.",
    alt="Two reliability diagrams, cross-entropy and label smoothing: bars of accuracy over twenty "
    "bins of confidence with the diagonal, and below the share of images in each bin.",
)
def draw_reliability(diagrams: "Mapping[str, Reliability]", scores: "pd.DataFrame") -> Drawing:
    """A reliability diagram for each network, and the share of images in each bin.

    Args:
        diagrams: from `lsnc_core.metrics.reliability`, by title; bins of equal width.
        scores: the table behind the figure, from `lsnc_core.metrics.calibration_scores`.
    """
    import matplotlib.pyplot as plt

    drawing, panels = plt.subplots(
        2,
        len(diagrams),
        figsize=(style.WIDTH, 4.8),
        sharex=True,
        sharey="row",
        height_ratios=(3, 1),
        layout="constrained",
    )
    for (top, below), (title, diagram) in zip(panels.T, diagrams.items(), strict=True):
        lower, accuracy = np.asarray(diagram.lower), np.asarray(diagram.accuracy)
        bars = {"width": 1 / len(lower), "align": "edge", "edgecolor": style.PAPER}
        label = "accuracy in the bin"
        top.bar(lower, accuracy, color=style.method(title), label=label, **bars)
        top.plot([0, 1], [0, 1], color=style.INK, ls=":", lw=1.2, label="perfect calibration")
        label = "at its mean confidence"
        confidence = np.asarray(diagram.confidence)
        look = {"color": style.INK, "mfc": style.PAPER, "ms": 4, "label": label}
        top.plot(confidence, accuracy, "o", **look)
        share = np.asarray(100 * diagram.counts / diagram.counts.sum())
        below.bar(lower, share, color=style.SOFT, **bars)
        top.set(title=title, xlim=(0, 1), ylim=(0, 1.03))
        below.set(xlabel="confidence")
    panels[0, 0].set_ylabel("accuracy")
    panels[1, 0].set_ylabel("% of images")
    draw_legend(drawing, [panels[0, 0]], columns=3)
    caption = (
        f"{describe_confidence(diagrams)} Dots below the dotted line are overconfident, those "
        "above underconfident. Accuracy of the test images in each bin of confidence, and how many "
        "there are."
    )
    return Drawing(drawing, caption, scores)


def describe_confidence(diagrams: "Mapping[str, Reliability]") -> str:
    """By how much mean confidence exceeds accuracy, in a sentence; args as `draw_reliability`."""
    parts = []
    for title, diagram in diagrams.items():
        gap = (diagram.confidence - diagram.accuracy).nan_to_num(0.0)
        mean = 100 * float((diagram.counts * gap).sum() / diagram.counts.sum())
        side = "above" if mean > 0 else "below"
        parts.append(f"{abs(mean):.1f} points {side} under {title.partition(':')[0]}")
    return f"Beside the accuracy, the mean confidence lies {' and '.join(parts)}."
