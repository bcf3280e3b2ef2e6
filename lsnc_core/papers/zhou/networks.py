"""Zhou et al. 2022 (arXiv 2210.02192): the networks under four losses, and their accuracies.

Losses: cross-entropy (CE), label smoothing (LS), focal with gamma = 3 (FL) and mean squared error
rescaled by 15 (MSE). K is the number of classes, E the number of epochs of a run. A width w
multiplies the channels of the profile's network; w = 1 is the network as it is.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lsnc_core import labels
from lsnc_core.data_sources import source_of
from lsnc_core.errors import UsageError
from lsnc_core.notebook import convert
from lsnc_core.profiles import choose_images
from lsnc_core.runs.spec import RunSpec

if TYPE_CHECKING:
    import pandas as pd

    from lsnc_core.data_sources import Source

LOSSES = ("CE", "LS", "FL", "MSE")
STRENGTH = 0.1  # of LS, unless asked otherwise
PARTS = ("train", "validation", "test")
BEST_ACCURACIES = ("validation_accuracy", "test_accuracy")
# channels of the first layer, or stage, of the network of width 1
BASE = {"cnn": 8, "resnet18": 64, "resnet50": 64}
# Further grids of a profile: image set and strength of LS. The scripts for CIFAR-10 have 0.1, the
# default and the legend for CIFAR-100 have 0.05.
FURTHER = {"paper": (("cifar100", 0.05), ("cifar100", 0.1))}
# for the field `changed` of the claims about this grid
GRID_CHANGE = (
    "The grid of quick was shortened from 10, 40 and 160 epochs to 8, 32 and 128 for the time it "
    "took"
)


@dataclass(frozen=True)
class GridSize:
    """What one profile trains: every width for every number of epochs, under all losses.

    The smallest and the largest cell decide claims and have `corner_seeds` seeds; at most
    `halved_seeds` of the largest cell are trained with half the schedule as well. `released`:
    the learning rate falls where it does in the released code (see `lr_steps`), and the checkpoint
    is chosen among all epochs. Other fields are those of `RunSpec`.
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
    pixel_mean: tuple[float, ...] = ()
    pixel_std: tuple[float, ...] = ()
    released: bool = False
    halved_seeds: int = 3


# what the released loaders of CIFAR-10, and of CIFAR-100 in training, standardise by
PIXEL_MEAN, PIXEL_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
_RELEASED: dict[str, Any] = {
    "pixel_mean": PIXEL_MEAN,
    "pixel_std": PIXEL_STD,
    "augment": "crop-flip-black",
    "released": True,
}

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
        halved_seeds=2,  # for the time that they take
    ),
    # The recipe of quick for six times as many epochs, about 30 minutes of one core. Their number
    # was chosen by whether training has ended, before the claims were looked at: at four times the
    # learning rate collapse is weaker and changes as much from half the schedule to all of it.
    "hour": GridSize(
        data="mnist",
        train_size=1000,
        validation_size=2000,
        test_size=10000,
        pool=2,
        model="cnn",
        widths=((4, 8, 32), (8, 16, 64), (16, 32, 128)),
        epochs=(12, 96, 768),
        seeds=3,
        corner_seeds=8,
        checkpoints=10,
        lr=0.05,
        batch=50,
        weight_decay=5e-3,
        halved_seeds=8,
    ),
    # the paper's recipe; a smaller network and few epochs
    "gpu": GridSize(
        data="cifar10",
        train_size=45000,
        validation_size=5000,
        test_size=10000,
        pool=1,
        model="resnet18",
        widths=((16,), (64,)),
        epochs=(5, 10, 20),
        seeds=3,
        corner_seeds=8,
        checkpoints=5,
        lr=0.1,
        batch=100,
        weight_decay=5e-4,
        precision="bfloat16",
        **_RELEASED,
    ),
    # The paper measures collapse 100 times a run; the class means of so many would fill a disk. It
    # has three seeds in every cell. The two cells that decide Z-C1 to Z-C4 have eight here, since
    # with four an interval of half a point needs seeds that hardly differ.
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
        corner_seeds=8,
        checkpoints=25,
        lr=0.1,
        batch=100,
        weight_decay=5e-4,
        **_RELEASED,
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


def lr_steps(epochs: int, released: bool = False) -> tuple[int, ...]:
    """The epochs, counted from 1, after which the learning rate is divided by 10.

    The milestones are 3E/7 and 5E/7, rounded down. A scheduler that is stepped at the end of each
    epoch lowers the rate after them. The released code steps its scheduler at the start of each
    epoch, so that the milestones themselves are the first epochs at the lower rate.

    Args:
        epochs: E.
        released: whether to do as the released code.

    >>> lr_steps(100), lr_steps(2), lr_steps(100, released=True)
    ((42, 71), (1,), (41, 70))
    """
    early = 1 if released else 0
    return tuple(sorted({max(1, 3 * epochs // 7 - early), max(1, 5 * epochs // 7 - early)}))


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
    smoothing = convert(smoothing, 0.1, "smoothing")
    if not 0 < smoothing < 1:
        raise UsageError(f"smoothing must lie between 0 and 1, got {smoothing!r}.")
    size = GRID[profile]
    source = source_of(data_set or choose_images(profile, size.data))
    corners = (size.widths[0], size.epochs[0]), (size.widths[-1], size.epochs[-1])
    runs = []
    for epochs in reversed(size.epochs):
        for widths in reversed(size.widths):
            seeds = size.corner_seeds if (widths, epochs) in corners else size.seeds
            for seed in range(seeds):
                runs += _four_losses(size, source, widths, epochs, seed, smoothing)
    return runs


def further_grids(profile: str, data_set: str = "") -> tuple[tuple[str, float], ...]:
    """The arguments data_set and smoothing of a profile's grids after the first; none where another
    image set was asked for.
    """
    return () if data_set else FURTHER.get(profile, ())


def plan_grids(
    plan: Callable[..., list[RunSpec]],
    profile: str,
    data_set: str = "",
    smoothing: float = STRENGTH,
) -> list[RunSpec]:
    """The distinct networks of all grids. Args: plan, `grid_runs` or `collapse_runs`; others, as
    theirs.
    """
    specs = plan(profile, data_set, smoothing)
    for grid in further_grids(profile, data_set):
        specs += plan(profile, *grid)
    return list(dict.fromkeys(specs))


def collapse_runs(profile: str, data_set: str = "", smoothing: float = 0.1) -> list[RunSpec]:
    """The networks of Z1: the grid's widest, trained longest, under all losses and seeds.

    Args, Raises: as for `grid_runs`.
    """
    runs = grid_runs(profile, data_set, smoothing)
    size = GRID[profile]
    largest = size.widths[-1], size.epochs[-1]
    return [run for run in runs if (run.widths, run.epochs) == largest]


def halved_runs(profile: str, data_set: str = "", smoothing: float = 0.1) -> list[RunSpec]:
    """The networks of Z1 trained with a schedule half as long, rounded down: whether training has
    ended shows in the difference.

    Args, Raises: as for `grid_runs`.
    """
    size, halved = GRID[profile], []
    for run in collapse_runs(profile, data_set, smoothing):
        if run.seed >= size.halved_seeds:
            continue
        epochs = run.epochs // 2
        schedule = {
            "evaluate_at": evaluate_at(epochs, size.checkpoints),
            "lr_steps": lr_steps(epochs, size.released),
        }
        halved.append(dataclasses.replace(run, epochs=epochs, **schedule))
    return halved


def add_halved(
    plan: Callable[..., list[RunSpec]],
    profile: str,
    data_set: str = "",
    smoothing: float = STRENGTH,
) -> list[RunSpec]:
    """The distinct networks of a plan and of `halved_runs`. Args: plan, `grid_runs` or
    `collapse_runs`; others, as theirs.
    """
    whole = plan(profile, data_set, smoothing)
    return list(dict.fromkeys([*whole, *halved_runs(profile, data_set, smoothing)]))


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
    own_pixels = source.shape[0] == len(size.pixel_mean)
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
            lr_steps=lr_steps(epochs, size.released),
            clip=2.0,
            augment=size.augment,
            batch_norm=size.model == "cnn",
            validation_size=validation_size,
            pixel_mean=size.pixel_mean if own_pixels else (),
            pixel_std=size.pixel_std if own_pixels else (),
            best_checkpoint=size.released,
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
        f"order, learning rate {one.lr:g} and weight decay {one.weight_decay:g}; LS at strength "
        f"{smoothing:.3g}."
    )


def loss_name(loss: str, p: float) -> str:
    """One of `LOSSES`, from a spec's loss and kept mass."""
    return {"ce": "CE" if p == 1 else "LS", "focal": "FL", "mse": "MSE"}[loss]


def accuracy_table(runs: "pd.DataFrame") -> "pd.DataFrame":
    """The accuracies of all networks, one row per (run, epoch).

    Args:
        runs: the table of `lsnc_core.runs.results`, of one data set.

    Returns:
        pandas.DataFrame with data, train_size, model, widths, width (w), epochs, steps (of the
        whole run), loss (one of `LOSSES`), strength (of LS), seed, epoch, lr_steps, train_,
        validation_ and test_accuracy in percent, and run (its name in the store); under
        `RunSpec.best_checkpoint` also best_epoch, and best_validation_ and best_test_accuracy in
        percent.
    """
    table = runs.copy()
    first = [widths[0] for widths in runs.widths]
    table["width"] = first / runs.model.map(BASE)
    table["loss"] = [loss_name(*pair) for pair in zip(runs.loss, runs.p, strict=True)]
    kept = runs.p.min()
    K = source_of(runs.data.iloc[0]).num_classes
    table["strength"] = round(float(labels.strength_from_kept(kept, K)), 9)
    table["steps"] = table.epochs * np.ceil(table.train_size / table.batch).astype(int)
    accuracies = [f"{part}_accuracy" for part in PARTS]
    columns = ["data", "train_size", "model", "widths", "width", "epochs", "steps"]
    columns += ["loss", "strength", "seed", "epoch", "lr_steps"]
    if "best_epoch" in table:
        columns.append("best_epoch")
        accuracies += [f"best_{name}" for name in BEST_ACCURACIES]
    table[accuracies] *= 100
    return table[[*columns, *accuracies, "run"]]


def select_epochs(table: "pd.DataFrame") -> "pd.DataFrame":
    """Each network at the epoch of its best validation accuracy, the first of several, as the paper
    reports it: of all epochs under `RunSpec.best_checkpoint`, else of those measured.

    Args:
        table: from `accuracy_table`.

    Returns:
        pandas.DataFrame, rows of the table; training accuracy is NaN at an epoch without a row.
    """
    keys = ["width", "epochs", "loss", "seed"]
    if "best_epoch" in table:
        ends = table[table.epoch == table.epochs]
        best = {name: ends[f"best_{name}"] for name in ("epoch", *BEST_ACCURACIES)}
        return ends.assign(**best, train_accuracy=np.nan).sort_values(keys, ignore_index=True)
    rows = table.sort_values("epoch").groupby(keys).validation_accuracy.idxmax()
    return table.loc[rows].sort_values(keys, ignore_index=True)


def grid_title(table: "pd.DataFrame") -> str:
    """What a grid was trained on, with the strength of LS where it is not the usual one.

    Args: table, from `accuracy_table` or `select_epochs`.
    """
    first = table.iloc[0]
    title, strength = source_of(first.data).title, first.get("strength", STRENGTH)
    return title if strength == STRENGTH else f"{title} with LS at {strength:g}"


def cell_name(width: float, epochs: int) -> str:
    """A cell of the grid in words.

    >>> cell_name(0.5, 8)
    'width 0.5, 8 epochs'
    """
    return f"width {width:g}, {epochs} epochs"
