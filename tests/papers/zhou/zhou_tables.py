"""Made-up tables of Zhou's networks, with effects that the tests choose and without any."""

import itertools

import numpy as np
import pandas as pd
from zhou_results import make_results

from lsnc_core.papers.zhou import (
    collapse,
    networks,
    zhou_1_losses_collapse,
    zhou_2_equal_accuracy,
)
from lsnc_core.papers.zhou.networks import LOSSES

METRICS = zhou_1_losses_collapse.METRICS
SIMPLEX = "simplex"
LEAST_COSINE = -1 / 9  # of ten classes


def make_collapse(value, epochs=160, seeds=4, fitted=100.0, cosine=lambda *_: LEAST_COSINE):
    """A collapse table of networks with D = 128: each metric is 1 at first and
    `value(metric, loss, seed)` at the end; the accuracy of all is `fitted`.
    """
    rows = []
    for loss, seed in itertools.product(LOSSES, range(seeds)):
        run = {"data": "mnist-subset", "train_size": 1000, "model": "cnn", "widths": (16, 32, 128)}
        run |= {"width": 2.0, "epochs": epochs, "steps": 20 * epochs, "loss": loss, "seed": seed}
        run |= {f"{part}_accuracy": fitted for part in ("train", "validation", "test")}
        rows.append(run | {"epoch": 1, "cosine": 0.5} | dict.fromkeys(METRICS, 1.0))
        last = {metric: value(metric, loss, seed) for metric in METRICS}
        rows.append(run | {"epoch": epochs, "cosine": cosine(loss, seed)} | last)
    return pd.DataFrame(rows)


def make_distances(end, seeds=4):
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


def make_grid(accuracy, widths=(4, 16), epochs=(10, 160), seeds=4, halved=None):
    """Tables of page 2: `accuracy(width, epochs, loss, seed)` in percent, `halved(loss, seed)` of
    the largest cell after half the schedule, by default as after all of it.
    """
    table = networks.accuracy_table(make_results(accuracy, widths, epochs, seeds))
    selected = zhou_2_equal_accuracy.select_epochs(table)
    widest, longest = widths[-1], epochs[-1]

    def cell(width, length, loss, seed):
        return halved(loss, seed) if halved else accuracy(width, longest, loss, seed)

    half = networks.accuracy_table(make_results(cell, (widest,), (longest // 2,), seeds))
    last = (table.epoch == longest) & (table.width == widest / 8)
    return zhou_2_equal_accuracy.Tables(
        "A recipe.",
        selected,
        zhou_2_equal_accuracy.cell_table(selected),
        table[last & (table.epochs == longest)],
        zhou_2_equal_accuracy.select_epochs(half),
    )


# Tables without an effect, and the arguments of the decision: every measured quantity has the
# claim's limit as its mean, so that each answer but "not decidable here" is wrong.


def null_z_c1(generator):
    """Each of NC1 to NC3 at its limit; training has ended and images are fitted."""
    random = collapse.random_nc2(10, 128)
    limits = dict.fromkeys(METRICS, zhou_1_losses_collapse.COLLAPSED)
    limits["NC2"] = min(zhou_1_losses_collapse.GRAM_TOLERANCE, random)

    def value(metric, loss, seed):
        return limits[metric] * np.exp(0.1 * generator.standard_normal())

    table = make_collapse(value)
    return table, table


def null_z_c2(generator):
    """Each distance at its limit."""
    limit = zhou_1_losses_collapse.GRAM_TOLERANCE
    distances = make_distances(lambda *_: limit + 0.02 * generator.standard_normal())
    table = make_collapse(lambda *_: 0.05)
    return (zhou_1_losses_collapse.Tables("A recipe.", table, distances, table, distances),)


def null_z_c10(generator):
    """Each largest cosine at its limit."""
    limit = LEAST_COSINE + zhou_1_losses_collapse.COSINE_TOLERANCE

    def cosine(loss, seed):
        return limit + 0.02 * generator.standard_normal()

    table = make_collapse(lambda *_: 0.05, cosine=cosine)
    return table, table


def equal_accuracies(generator, deviation=0.15):
    """One accuracy of all losses and cells; seeds and networks differ by chance."""
    return lambda *_: 98 + deviation * generator.standard_normal()


def null_z_c3(generator):
    """Equal accuracies in both cells: the spread does not change."""
    tables = make_grid(equal_accuracies(generator))
    return tables.selected, tables.ends, tables.halved


def null_z_c4(generator):
    """Equal accuracies. The claim does not hold; "holds" alone is wrong."""
    return (make_grid(equal_accuracies(generator)).selected,)


def null_z_c5(generator):
    """Nine cells of equal accuracies."""
    tables = make_grid(equal_accuracies(generator), (4, 8, 16), (10, 40, 160), seeds=3)
    return tables.cells, tables.selected
