"""Nulls of Zhou et al.'s claims: four losses, collapse at the end and test accuracy over a grid.

Four seeds, three in grids of nine cells. By chance metrics of collapse differ by 10 %, distances
and cosines by .02, accuracies by .15 points, as on 10,000 test images; half of the variance of an
accuracy is common to the networks of a seed. Half the schedule gives the same values, so training
has ended.
"""

import functools
import itertools
import math
from collections.abc import Callable

import numpy as np
import pandas as pd

from lsnc_core.claims import FAILS, HOLDS, Verdict
from lsnc_core.papers.zhou import (
    collapse,
    zhou_1_losses_collapse,
    zhou_2_equal_accuracy,
)
from lsnc_core.papers.zhou.networks import LOSSES
from nulls import Null

METRICS = collapse.METRICS
SIMPLEX = collapse.SIMPLEX
LEAST_COSINE = -1 / 9  # of ten classes
METRIC_NOISE, DISTANCE_NOISE, ACCURACY_NOISE = 0.1, 0.02, 0.15
RUN = {"data": "mnist-subset", "train_size": 1000, "model": "cnn"}
CORNERS = (4, 16), (10, 160)  # first channels and epochs of the smallest and the largest cell
GRID = (4, 8, 16), (10, 40, 160)


# ---- tables of networks


def make_collapse(
    value: Callable[[str, str, int], float],
    epochs: int = 160,
    seeds: int = 4,
    fitted: float = 100.0,
    cosine: Callable[[str, int], float] = lambda loss, seed: LEAST_COSINE,
) -> pd.DataFrame:
    """A collapse table of networks with D = 128: each metric is 1 at first and
    `value(metric, loss, seed)` at the end; the accuracy of all is `fitted`.
    """
    rows = []
    for loss, seed in itertools.product(LOSSES, range(seeds)):
        run = RUN | {"widths": (16, 32, 128), "width": 2.0, "epochs": epochs, "steps": 20 * epochs}
        run |= {"loss": loss, "seed": seed}
        run |= {f"{part}_accuracy": fitted for part in ("train", "validation", "test")}
        rows.append(run | {"epoch": 1, "cosine": 0.5} | dict.fromkeys(METRICS, 1.0))
        last = {metric: value(metric, loss, seed) for metric in METRICS}
        rows.append(run | {"epoch": epochs, "cosine": cosine(loss, seed)} | last)
    return pd.DataFrame(rows)


def make_distances(end: Callable[[str, str, int], float], seeds: int = 4) -> pd.DataFrame:
    """A table of distances: `end(first, second, seed)` at the end, 0.6 at first."""
    rows = []
    pairs = itertools.combinations([*LOSSES, SIMPLEX], 2)
    for (one, other), seed in itertools.product(pairs, range(seeds)):
        partner = seed if other == SIMPLEX else (seed + 1) % seeds
        row = {"first": one, "second": other, "seed": seed, "other_seed": partner, "start": 0.6}
        rows.append(row | {"end": end(one, other, seed)})
    # two seeds of one loss decide nothing
    same = {"first": "CE", "second": "CE", "seed": 0, "other_seed": 1, "start": 1.0, "end": 1.0}
    return pd.DataFrame([*rows, same])


@functools.cache
def cells(channels: tuple[int, ...], epochs: tuple[int, ...], seeds: int) -> pd.DataFrame:
    """A table as `networks.select_epochs` gives it, without test accuracies."""
    rows = []
    for width, length, seed, loss in itertools.product(channels, epochs, range(seeds), LOSSES):
        run = RUN | {"widths": (width, 2 * width, 8 * width), "width": width / 8, "loss": loss}
        run |= {"epochs": length, "epoch": length, "steps": 20 * length, "seed": seed}
        rows.append(run | {"strength": 0.1, "train_accuracy": 100.0})
    return pd.DataFrame(rows)


def draw_accuracies(
    generator: np.random.Generator,
    grid: tuple[tuple[int, ...], tuple[int, ...]],
    seeds: int = 4,
    apart: tuple[float, float] = (0.0, 0.0),
) -> pd.DataFrame:
    """Selected rows of a grid: MSE is better than the other losses by a number of points in the
    first cell, and by another everywhere else.
    """
    table = cells(*grid, seeds)
    first = (table.width == table.width.min()) & (table.epochs == table.epochs.min())
    effect = (table.loss == "MSE") * np.where(first, *apart)
    own = generator.standard_normal(len(table))
    of_seed = np.repeat(generator.standard_normal(len(table) // len(LOSSES)), len(LOSSES))
    noise = ACCURACY_NOISE * (own + of_seed) / math.sqrt(2)
    return table.assign(test_accuracy=98 + effect + noise)


# ---- collapse at its limits


def draw_collapse(
    generator: np.random.Generator, alone: bool = False
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Each of NC1 to NC3 at its limit; `alone`: only NC3 under MSE, the others at half of it."""
    random = collapse.random_nc2(10, 128)
    limits = dict.fromkeys(METRICS, zhou_1_losses_collapse.COLLAPSED)
    limits["NC2"] = min(zhou_1_losses_collapse.GRAM_TOLERANCE, random)

    def value(metric: str, loss: str, seed: int) -> float:
        below = alone and (metric, loss) != ("NC3", "MSE")
        return limits[metric] / (1 + below) * np.exp(METRIC_NOISE * generator.standard_normal())

    table = make_collapse(value)
    return table, table


def draw_distances(
    generator: np.random.Generator, alone: bool = False
) -> zhou_1_losses_collapse.Tables:
    """Each distance at its limit; `alone`: only that of CE and MSE, the others at half of it."""

    def end(one: str, other: str, seed: int) -> float:
        below = alone and (one, other) != ("CE", "MSE")
        limit = zhou_1_losses_collapse.GRAM_TOLERANCE / (1 + below)
        return limit + DISTANCE_NOISE * generator.standard_normal()

    table, distances = collapsed(), make_distances(end)
    return zhou_1_losses_collapse.Tables("A recipe.", table, distances, table, distances)


@functools.cache
def collapsed() -> pd.DataFrame:
    """Networks that have collapsed."""
    return make_collapse(lambda metric, loss, seed: 0.05)


def draw_cosines(
    generator: np.random.Generator, alone: bool = False
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Each largest cosine at its limit; `alone`: only that under MSE."""

    def cosine(loss: str, seed: int) -> float:
        above = 0 if alone and loss != "MSE" else zhou_1_losses_collapse.COSINE_TOLERANCE
        return LEAST_COSINE + above + DISTANCE_NOISE * generator.standard_normal()

    table = make_collapse(lambda metric, loss, seed: 0.05, cosine=cosine)
    return table, table


# ---- nulls


def decide_z_c1(tables: tuple[pd.DataFrame, pd.DataFrame]) -> Verdict:
    return zhou_1_losses_collapse.decide_z_c1(*tables)


def decide_z_c10(tables: tuple[pd.DataFrame, pd.DataFrame]) -> Verdict:
    return zhou_1_losses_collapse.decide_z_c10(*tables)


def decide_z_c3(table: pd.DataFrame) -> Verdict:
    """Z-C3 where half the schedule gives the same accuracies."""
    largest = table[(table.width == table.width.max()) & (table.epochs == table.epochs.max())]
    return zhou_2_equal_accuracy.decide_z_c3(table, largest, largest.assign(epochs=80))


def decide_z_c5(table: pd.DataFrame) -> Verdict:
    return zhou_2_equal_accuracy.decide_z_c5(zhou_2_equal_accuracy.cell_table(table), table)


EQUAL = zhou_2_equal_accuracy.EQUAL
ALIKE = "equal accuracies"
ZHOU: dict[tuple[str, str], Null] = {
    ("Z-C1", "each metric at its limit"): Null(decide_z_c1, draw_collapse),
    ("Z-C1", "only NC3 under MSE at its limit"): Null(
        decide_z_c1, lambda g: draw_collapse(g, alone=True)
    ),
    ("Z-C2", "each distance at its limit"): Null(
        zhou_1_losses_collapse.decide_z_c2, draw_distances
    ),
    ("Z-C2", "only CE and MSE at the limit"): Null(
        zhou_1_losses_collapse.decide_z_c2, lambda g: draw_distances(g, alone=True)
    ),
    ("Z-C3", ALIKE): Null(decide_z_c3, lambda g: draw_accuracies(g, CORNERS)),
    ("Z-C3", "2 points apart in both cells"): Null(
        decide_z_c3, lambda g: draw_accuracies(g, CORNERS, apart=(2.0, 2.0)), (HOLDS,)
    ),
    ("Z-C3", f"{EQUAL} points apart in the last cell"): Null(
        decide_z_c3, lambda g: draw_accuracies(g, CORNERS, apart=(3.0, EQUAL))
    ),
    ("Z-C4", ALIKE): Null(
        zhou_2_equal_accuracy.decide_z_c4, lambda g: draw_accuracies(g, CORNERS), (HOLDS,)
    ),
    ("Z-C4", f"{EQUAL} points apart"): Null(
        zhou_2_equal_accuracy.decide_z_c4,
        lambda g: draw_accuracies(g, CORNERS, apart=(EQUAL, 0.0)),
        (FAILS,),
    ),
    ("Z-C5", ALIKE): Null(decide_z_c5, lambda g: draw_accuracies(g, GRID, seeds=3)),
    ("Z-C10", "each cosine at its limit"): Null(decide_z_c10, draw_cosines),
    ("Z-C10", "only that under MSE at its limit"): Null(
        decide_z_c10, lambda g: draw_cosines(g, alone=True)
    ),
}
