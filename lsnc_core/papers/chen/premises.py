"""Under which conditions Chen et al. make their claims about networks, and how large ours are.

Their theory is about networks that have memorised their labels, trained on so many images that the
loss on held-out images is near that of the population, under label noise that leaves most labels
right. a is the clean rate of the training labels, p the kept mass of the smoothed label, M the
number of classes.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from lsnc_core.claims import MIN_SEEDS, Premise, Scale
from lsnc_core.papers.chen.grid import MEMORISED, rate_name

if TYPE_CHECKING:
    import pandas as pd

# From how many images on the paper takes the training images for the population (section 2).
ENOUGH_IMAGES = 10_000
# The paper's binary theory has less than half of the labels wrong, and so have we.
# Its theory for M classes has a > 1/M, which is less.
RATES_FROM = 0.5
# What decides a claim about the place of a minimum; of others more seeds.
FINER = "more seeds, or a finer grid of p"
# The paper's experiments (section 5): epochs, learning rate, batch, number of images.
PROTOCOL = {"epochs": 100, "lr": 0.01, "batch": 128, "weight_decay": 0.0}
PAPER_IMAGES = {"mnist": 60_000, "cifar10": 50_000}
PAPER_MODELS = {"mnist": "cnn", "cifar10": "resnet18"}
# why a claim about memorised labels follows on the very images that were memorised
BY_CONSTRUCTION = (
    "on training images the prediction follows by construction from labels memorised in full: this "
    "tests how far they are, and nothing about test images"
)


def follows_protocol(table: "pd.DataFrame") -> bool:
    """Whether networks were trained as in the paper: its images, network, epochs, learning rate
    and batch.
    """
    enough = table.train_size >= table.data.map(PAPER_IMAGES)
    if not (enough & (table.model == table.data.map(PAPER_MODELS))).all():
        return False
    return all((table[name] == value).all() for name, value in PROTOCOL.items())


def in_range(a: float) -> bool:
    """Whether the paper's claims are about this clean rate; others are details."""
    return bool(a >= RATES_FROM)


def memorised_premise(part: "pd.DataFrame", where: str = "") -> Premise:
    """Labels memorised: of the worst network, the training loss above its floor, divided by that
    of a network that has learned nothing.

    Args: part, rows of `landscape_table` or of `network_table`; where, what they have in common.
    """
    worst = np.max(part.unlearned.to_numpy())  # NaN where a network has diverged
    quantity = "excess training loss relative to an untrained network"
    settings = {"at_most": MEMORISED, "form": ".1%", "where": where, "quantity": quantity}
    return Premise("labels memorised", float(worst), **settings)


def case_premises(part: "pd.DataFrame", column: str) -> tuple[Premise, ...]:
    """The premises of a case about some networks, most often those of one clean rate.

    On held-out images the paper's own protocol needs none: what its networks have memorised is part
    of its claim.

    Args: part, rows of the networks; column, what was measured; "test" first if on held-out images.
    """
    if column.startswith("test") and follows_protocol(part):
        return ()
    where = rate_name(part.a.iloc[0]) if part.a.nunique() == 1 else ""
    return (memorised_premise(part, where),)


def table_premises(table: "pd.DataFrame", column: str) -> tuple[Premise, ...]:
    """The premises of all cases alike: most labels right at the clean rates that decide and, on
    held-out images, enough training images.
    """
    deciding = table.a[table.a >= RATES_FROM]
    least = float(deciding.min() if len(deciding) else table.a.max())
    premises = (Premise("lowest clean rate a that decides", least, at_least=RATES_FROM),)
    if not column.startswith("test"):
        return premises
    images = float(table.train_size.min())
    return (
        *premises,
        Premise("number of training images", images, at_least=ENOUGH_IMAGES, form=",.0f"),
    )


def scale_of(table: "pd.DataFrame") -> tuple[Scale, ...]:
    """The size of a landscape beside the paper's, see chen/networks."""
    first, cifar = table.iloc[0], table.data.iloc[0] == "cifar10"
    least_noise = table[table.a == table.a.max()]
    images, epochs = (50_000, 100) if cifar else (60_000, 100)
    widths = ", ".join(map(str, first.widths))
    return (
        Scale("training images", f"{table.train_size.min():,}", f"{images:,}"),
        Scale("epochs", f"{first.epochs:,}", f"{epochs}"),
        Scale("steps", f"{_steps(first):,}", f"{epochs * -(-images // 128):,}"),
        Scale("learning rate", f"{first.lr:g}", "0.01"),
        Scale(
            "network",
            f"{first.model} {widths}",
            "ResNet-18" if cifar else "CNN of two convolutional and two linear layers",
        ),
        Scale("seeds", f"{table.groupby('a').seed.nunique().max()}"),
        Scale(
            f"test error at a = {table.a.max():g}, of the best network",
            f"{1 - least_noise.test_accuracy.max():.1%}",
        ),
    )


def _steps(run: "pd.Series") -> int:
    """The steps of a run."""
    return int(run.epochs * -(-run.train_size // run.batch))


def settings_of(
    table: "pd.DataFrame", column: str = "", decider: str = "more seeds"
) -> dict[str, Any]:
    """The fields of a `Verdict` about a landscape that follow from its table: decider, premises,
    scale and by_construction. Args: column, as for `table_premises`; "" for a claim without its
    premise; decider, where there are seeds enough for an interval.
    """
    few = table.groupby("a").seed.nunique().max() < MIN_SEEDS
    return {
        "decider": f"{MIN_SEEDS} seeds at a clean rate" if few else decider,
        "premises": table_premises(table, column),
        "scale": scale_of(table),
        "by_construction": "" if column.startswith("test") or not column else BY_CONSTRUCTION,
    }
