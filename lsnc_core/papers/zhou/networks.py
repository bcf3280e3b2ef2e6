"""Zhou et al. 2022 (arXiv 2210.02192): the networks under four losses, and their accuracies.

Losses: cross-entropy (CE), label smoothing (LS), focal with gamma = 3 (FL) and mean squared error
rescaled by 15 (MSE). K is the number of classes, E the number of epochs of a run. A width w
multiplies the channels of the profile's network; w = 1 is the network as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lsnc_core import labels
from lsnc_core.data_sources import source_of
from lsnc_core.errors import UsageError
from lsnc_core.runs.spec import RunSpec

if TYPE_CHECKING:
    import pandas as pd

    from lsnc_core.data_sources import Source

LOSSES = ("CE", "LS", "FL", "MSE")
PARTS = ("train", "validation", "test")
# channels of the first layer, or stage, of the network of width 1
BASE = {"cnn": 8, "resnet18": 64, "resnet50": 64}
# for the field `changed` of the claims about this grid
GRID_CHANGE = (
    "The grid of quick was shortened from 10, 40 and 160 epochs to 8, 32 and 128 for the time it "
    "took"
)


@dataclass(frozen=True)
class GridSize:
    """What one profile trains: every width for every number of epochs, under all losses.

    The smallest and the largest cell decide claims and have `corner_seeds` seeds.
    """

    data: str
    train_size: int
    validation_size: int
    test_size: int
    pool: int
    model: str
    widths: tuple[tuple[int, ...], ...]
    epochs: tuple[int, ...]
    seeds: int
    corner_seeds: int
    checkpoints: int
    lr: float
    batch: int
    weight_decay: float
    augment: str = "none"
    precision: str = "float32"


GRID = {
    "smoke": GridSize(
        data="digits",
        train_size=200,
        validation_size=100,
        test_size=200,
        pool=1,
        model="cnn",
        widths=((4, 8, 32), (8, 16, 64)),
        epochs=(2, 12),
        seeds=2,
        corner_seeds=4,
        checkpoints=4,
        lr=0.05,
        batch=50,
        weight_decay=5e-3,
    ),
    # One learning rate and weight decay for all losses, chosen so that CE and LS collapse; the
    # paper's weight decay, 5e-4, is for more and longer epochs.
    "quick": GridSize(
        data="mnist-subset",
        train_size=1000,
        validation_size=500,
        test_size=2000,
        pool=2,
        model="cnn",
        widths=((4, 8, 32), (8, 16, 64), (16, 32, 128)),
        epochs=(8, 32, 128),
        seeds=3,
        corner_seeds=4,
        checkpoints=10,
        lr=0.05,
        batch=50,
        weight_decay=5e-3,
    ),
    # the paper's optimiser, split and augmentation; a smaller network and few epochs
    "gpu": GridSize(
        data="cifar10",
        train_size=45000,
        validation_size=5000,
        test_size=10000,
        pool=1,
        model="resnet18",
        widths=((16,), (32,)),
        epochs=(5, 30),
        seeds=3,
        corner_seeds=4,
        checkpoints=10,
        lr=0.1,
        batch=100,
        weight_decay=5e-4,
        augment="crop-flip",
        precision="bfloat16",
    ),
    # The paper measures 100 times a run; the class means of so many would fill a disk. It has three
    # seeds in every cell. The two cells that decide Z-C1 to Z-C4 have a fourth here, since an
    # interval needs four.
    "paper": GridSize(
        data="cifar10",
        train_size=45000,
        validation_size=5000,
        test_size=10000,
        pool=1,
        model="resnet50",
        widths=((16,), (32,), (64,), (128,)),
        epochs=(100, 200, 400, 800),
        seeds=3,
        corner_seeds=4,
        checkpoints=25,
        lr=0.1,
        batch=100,
        weight_decay=5e-4,
        augment="crop-flip",
    ),
}


def evaluate_at(epochs: int, checkpoints: int) -> tuple[int, ...]:
    """The measured epochs: E/100, powers of two up to E/checkpoints, and multiples of it up to E.

    >>> evaluate_at(160, 4)
    (1, 2, 4, 8, 16, 32, 40, 80, 120, 160)
    """
    first = epochs / checkpoints
    powers = [2**power for power in range(epochs.bit_length())]
    early = [power for power in powers if power < first]
    even = [max(1, round(first * number)) for number in range(1, checkpoints + 1)]
    return tuple(sorted({max(1, epochs // 100), *early, *even}))


def lr_steps(epochs: int) -> tuple[int, ...]:
    """The epochs after which the paper divides the learning rate by 10: 3E/7 and 5E/7, rounded
    down.

    >>> lr_steps(100), lr_steps(2)
    ((42, 71), (1,))
    """
    return tuple(sorted({max(1, 3 * epochs // 7), max(1, 5 * epochs // 7)}))


def grid_runs(profile: str, data_set: str = "", smoothing: float = 0.1) -> list[RunSpec]:
    """The networks of the grid over width, epochs, loss and seed (Z2 to Z5), the most work first.

    Args:
        profile: one of `GRID`.
        data_set: another image set than the profile's, or your own file. Of a smaller set all
            images are used, at most a quarter of them for validation.
        smoothing: strength delta of LS, in (0, 1).

    Raises:
        UsageError: for an unknown profile or data set, or a strength outside (0, 1).
    """
    if profile not in GRID:
        raise UsageError(f"unknown profile {profile!r}; the profiles are {', '.join(GRID)}.")
    if not 0 < smoothing < 1:
        raise UsageError(f"smoothing must lie between 0 and 1, got {smoothing!r}.")
    size = GRID[profile]
    source = source_of(data_set or size.data)
    corners = (size.widths[0], size.epochs[0]), (size.widths[-1], size.epochs[-1])
    runs = []
    for epochs in reversed(size.epochs):
        for widths in reversed(size.widths):
            seeds = size.corner_seeds if (widths, epochs) in corners else size.seeds
            for seed in range(seeds):
                runs += _four_losses(size, source, widths, epochs, seed, smoothing)
    return runs


def collapse_runs(profile: str, data_set: str = "", smoothing: float = 0.1) -> list[RunSpec]:
    """The networks of Z1: the grid's widest, trained longest, under all losses and seeds.

    Args, Raises: as for `grid_runs`.
    """
    runs = grid_runs(profile, data_set, smoothing)
    size = GRID[profile]
    largest = size.widths[-1], size.epochs[-1]
    return [run for run in runs if (run.widths, run.epochs) == largest]


def _four_losses(
    size: GridSize,
    source: "Source",
    widths: tuple[int, ...],
    epochs: int,
    seed: int,
    smoothing: float,
) -> list[RunSpec]:
    """One cell's networks of one seed, in the order of `LOSSES`: the same start, batch order and
    recipe under each loss.
    """
    from lsnc_core import models

    train_size, validation_size = source.split(size.train_size, size.validation_size, size.batch)
    kept = float(labels.kept_from_strength(smoothing, source.num_classes))
    return [
        RunSpec(
            data=source.name,
            train_size=train_size,
            test_size=min(size.test_size, source.sizes[1]),
            pool=source.pool(size.pool, models.CNN_SIDE),
            model=size.model,
            widths=widths,
            a=1.0,
            p=p,
            lr=size.lr,
            momentum=0.9,
            weight_decay=size.weight_decay,
            batch=size.batch,
            epochs=epochs,
            evaluate_at=evaluate_at(epochs, size.checkpoints),
            seed=seed,
            order_seed=seed,
            loss=loss,
            precision=size.precision,
            schedule="steps",
            lr_steps=lr_steps(epochs),
            clip=2.0,
            augment=size.augment,
            batch_norm=size.model == "cnn",
            validation_size=validation_size,
        )
        for loss, p in (("ce", 1.0), ("ce", kept), ("focal", 1.0), ("mse", 1.0))
    ]


def recipe(runs: Sequence[RunSpec]) -> str:
    """What was trained and how, in a sentence of numbers."""
    one, source = runs[0], source_of(runs[0].data)
    spread = sorted({run.widths for run in runs})
    channels = ", ".join("–".join(map(str, widths)) for widths in spread)
    epochs = ", ".join(map(str, sorted({run.epochs for run in runs})))
    kept = min(run.p for run in runs)
    smoothing = labels.strength_from_kept(kept, source.num_classes)
    return (
        f"{len(runs)} networks ({one.model}, widths {channels}; {epochs} epochs), "
        f"{one.train_size:,} images of {source.title}; all losses with the same starts, batch "
        f"order, rate {one.lr:g} and decay {one.weight_decay:g}; LS at strength {smoothing:.3g}."
    )


def loss_name(loss: str, p: float) -> str:
    """One of `LOSSES`, from a spec's loss and kept mass."""
    return {"ce": "CE" if p == 1 else "LS", "focal": "FL", "mse": "MSE"}[loss]


def accuracy_table(runs: "pd.DataFrame") -> "pd.DataFrame":
    """The accuracies of all networks, one row per (run, epoch).

    Args:
        runs: the table of `lsnc_core.runs.results`, of one data set.

    Returns:
        pandas.DataFrame with data, width (w), epochs, steps (of the whole run), loss (one of
        `LOSSES`), seed, epoch, train_, validation_ and test_accuracy in percent, and run (its name
        in the store).
    """
    table = runs.copy()
    first = [widths[0] for widths in runs.widths]
    table["width"] = first / runs.model.map(BASE)
    table["loss"] = [loss_name(*pair) for pair in zip(runs.loss, runs.p, strict=True)]
    table["steps"] = table.epochs * np.ceil(table.train_size / table.batch).astype(int)
    accuracies = [f"{part}_accuracy" for part in PARTS]
    table[accuracies] *= 100
    columns = ["data", "width", "epochs", "steps", "loss", "seed", "epoch", *accuracies, "run"]
    return table[columns]


def cell_name(width: float, epochs: int) -> str:
    """A cell of the grid in words.

    >>> cell_name(0.5, 8)
    'width 0.5, 8 epochs'
    """
    return f"width {width:g}, {epochs} epochs"
