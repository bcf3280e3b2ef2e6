"""Guo et al. 2025: how large an experiment is beside the paper's."""

import math
from typing import TYPE_CHECKING, NamedTuple

from lsnc_core.claims import Scale
from lsnc_core.data_sources import label_of, source_of
from lsnc_core.papers.guo.deviations import SETTINGS
from lsnc_core.papers.guo.measured import last_epochs

if TYPE_CHECKING:
    import pandas as pd


class PaperSize(NamedTuple):
    """What is known of the paper's experiment on one image set.

    Attributes:
        images: training images.
        pixels: side of an image.
        network: the network, with the width of its features.
        epochs: of training.
        steps: of training: these epochs at batch 128 without the last incomplete batch.
        error: test errors between which the points of F2 lie; "" where they are not known.
    """

    images: str
    pixels: str
    network: str
    epochs: str
    steps: str
    error: str


# The paper's settings and its released code; errors are the colour ranges of the code's plot (F2).
_WANTED = next(setting.wanted for setting in SETTINGS if setting.name == "epochs")
_EPOCHS, _FEWER = str(_WANTED[""]), str(_WANTED["tiny-imagenet"])
_SMALL, _LARGE = "resnet18, 512 features", "resnet50, 2,048 features"
PAPER_SIZES = {
    "cifar10": PaperSize("50,000", "32", _SMALL, _EPOCHS, "312,000", "10% to 15%"),
    "cifar100": PaperSize("50,000", "32", _LARGE, _EPOCHS, "312,000", "36% to 40%"),
    "stl10": PaperSize("5,000", "96", _LARGE, _EPOCHS, "31,200", "39% to 45%"),
    "tiny-imagenet": PaperSize("100,000", "64", _LARGE, _FEWER, "234,300", "40% to 45%"),
}
# of the networks under Theorem 1's weight decays
THEOREM_SIZE = PaperSize("50,000", "32", _SMALL, "500 to 1,000", "195,000 to 390,000", "")
WEIGHT_DECAY = "5e-4"
CALIBRATION_DECAY = "1e-4 in section 3.3, most likely this one"
WIDENED = {"resnet18": 8, "resnet50": 32}  # feature width by the first stage's


def describe_scale(table: "pd.DataFrame", weight_decay: str = WEIGHT_DECAY) -> list[Scale]:
    """The size of an experiment beside the paper's on the same image set; for an image set that
    the paper does not have, beside CIFAR-10.

    Args:
        table: rows of one image set and weight decay, from `measured.fetch_history` or from a table
            that is made of it.
        weight_decay: the paper's.
    """
    first = table.iloc[0]
    beside = first.data if first.data in PAPER_SIZES else "cifar10"
    others = ", ".join(label_of(name) for name in PAPER_SIZES if name != beside)
    title, sets = (
        source_of(first.data).title,
        f"{label_of(beside)}, whose sizes follow; also {others}",
    )
    return [
        Scale("image set", title, title if beside == first.data else sets),
        *_describe_sizes(table, PAPER_SIZES[beside]),
        Scale("weight decay", f"{first.weight_decay:g}", weight_decay),
    ]


def describe_theorem_scale(table: "pd.DataFrame") -> list[Scale]:
    """The size of the experiment under Theorem 1's weight decays beside the released code's.

    Args:
        table: from `theorem_networks.compare_norms`.
    """
    first = table.iloc[0]
    here = f"λ_W = {first.lambda_W:g}, λ_H = {first.lambda_H:g}, λ_b = {first.lambda_b:g}"
    return [
        Scale("image set", source_of(first.data).title, "CIFAR-10"),
        *_describe_sizes(table, THEOREM_SIZE),
        Scale("weight decay", here, "λ_W = 1e-3, λ_H = 1e-6, λ_b = 1e-2"),
    ]


def _describe_sizes(table: "pd.DataFrame", paper: PaperSize) -> list[Scale]:
    first, ends = table.iloc[0], last_epochs(table)
    width = first.widths[-1] * WIDENED.get(first.model, 1)
    steps = first.epochs * math.ceil(first.train_size / first.batch)
    error = ends[(ends.loss == "ce") & (ends.delta == 0)].test_error.mean()
    seeds = ends.groupby(["loss", "delta"]).seed.nunique()
    counted = f"{seeds.min()}" if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()}"
    return [
        Scale("training images", f"{first.train_size:,}", paper.images),
        Scale("side in pixels", f"{source_of(first.data).shape[1] // first['pool']}", paper.pixels),
        Scale("network", f"{first.model}, {width:,} features", paper.network),
        Scale("epochs", f"{first.epochs:,}", paper.epochs),
        Scale("steps", f"{steps:,}", paper.steps),
        Scale("seeds", counted, "1"),
        Scale("test error without smoothing", f"{error:.1%}", paper.error),
    ]
