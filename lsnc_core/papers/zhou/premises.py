"""Zhou et al. 2022: under which conditions the paper makes its claims about trained networks, and
how large its experiment is beside ours.

The claims are about networks that are "sufficiently large and trained until convergence": they have
fitted their training images, and more training would change little. A flat curve does not show
that, since the learning rate has fallen; so the same networks are trained with half the schedule.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lsnc_core.claims import HOLDS, Case, Premise, Scale
from lsnc_core.data_sources import source_of
from lsnc_core.papers.zhou.networks import LOSSES

if TYPE_CHECKING:
    import pandas as pd

FITTED = 99.9  # percent of the training images
ENDED = 0.10  # change from half the schedule to the whole one, relative
IMAGE_SETS = "CIFAR-10, CIFAR-100, mini-ImageNet"
PAPER_D = 2048
STEPS = 450  # of an epoch in the paper: 45,000 images in batches of 100
SHORTEST, LONGEST = 100, 800  # the paper's epochs


def check_fitted(table: "pd.DataFrame", where: str = "") -> Premise:
    """Whether every network fits its training images after its last epoch.

    Args:
        table: from `networks.accuracy_table`.
        where: what its rows have in common.
    """
    least = table[table.epoch == table.epochs].train_accuracy.min()
    settings = {"at_least": FITTED, "unit": "%", "form": ".2f", "where": where}
    return Premise("lowest accuracy on the training images", float(least), **settings)


def check_ended(case: Case, half: float, whole: float, limit: float, where: str) -> Premise:
    """Whether training has ended, as shows in a distance from collapse: the change of its mean over
    seeds from half the schedule to the whole one, as a part of its value, or of the claim's limit
    where that is larger. So what happens far below the limit does not matter.

    Where the limit is surely reached, a distance that still falls is no objection, since more
    training would bring it lower; there it must only not rise.

    Args:
        case: about the distance; its premises do not matter.
        half, whole: means after half the schedule and after all of it, at least 0; NaN where a
            network has diverged.
        limit: of the claim, above 0, in the unit of the means.
        where: on which networks.
    """
    least = -math.inf if case.observed == HOLDS else -ENDED
    change = (whole - half) / max(half, limit)
    quantity = "change of the mean from half the schedule to the whole"
    settings = {"at_least": least, "at_most": ENDED, "form": "+.0%", "where": where}
    return Premise("training ended", change, quantity=quantity, **settings)


def check_accuracy_ended(
    half: "pd.DataFrame", whole: "pd.DataFrame", at_most: float, where: str
) -> Premise:
    """Whether training has ended, as shows in test accuracy: the largest change over losses of its
    mean over seeds from half the schedule to the whole one, in points.

    Args:
        half, whole: one row per network, of the same networks under either schedule.
        at_most: in points.
        where: on which networks.
    """
    means = [rows.groupby(["loss", "seed"]).test_accuracy.mean() for rows in (half, whole)]
    # over the seeds that both have; no seed in common leaves nothing measured
    change = (means[1] - means[0]).dropna().groupby("loss").mean().abs().max()
    quantity = "largest change of test accuracy from half the schedule to the whole"
    settings = {"at_most": at_most, "unit": "points", "form": ".2f", "where": where}
    name = "training ended, by test accuracy"
    return Premise(name, float(change), quantity=quantity, **settings)


def feature_width(model: str, widths: Sequence[int]) -> int:
    """The number of features D of a network.

    The width of the ResNet-50 is that inside its blocks, so its features are always as many.

    >>> feature_width("cnn", (16, 32, 128)), feature_width("resnet18", (16,))
    (128, 128)
    """
    if model == "resnet50":
        return PAPER_D
    return 8 * widths[0] if model == "resnet18" else widths[-1]


def describe_scale(cell: "pd.DataFrame", paper_epochs: int = LONGEST) -> list[Scale]:
    """The size of the experiment beside the paper's.

    Args:
        cell: rows of `networks.accuracy_table` of one cell of the grid, one per network, at the
            epochs at which test accuracy counts.
        paper_epochs: of the paper's networks that the claim is about.
    """
    first = cell.iloc[0]
    widths, paper_width = "–".join(map(str, first.widths)), 2 if paper_epochs == LONGEST else 0.25
    means = cell.groupby("loss").test_accuracy.mean()
    accuracies = ", ".join(f"{means[loss]:.1f} ({loss})" for loss in LOSSES)
    # of CIFAR-100 only the axis of Z5 is known
    published = "70 to 80" if first.data == "cifar100" else ""
    return [
        Scale("image set", source_of(first.data).title, IMAGE_SETS),
        Scale("training images", f"{first.train_size:,}", "45,000"),
        Scale("steps", f"{first.steps:,}", f"{paper_epochs * STEPS:,}"),
        Scale("network", f"{first.model} {widths}", f"ResNet-50 of width {paper_width:g}"),
        Scale("features D", f"{feature_width(first.model, first.widths):,}", f"{PAPER_D:,}"),
        Scale("seeds", f"{cell.seed.nunique()}", "3"),
        Scale("test accuracy in percent", accuracies, published),
    ]
