"""Nulls of Guo et al.'s claims: curves of training with and without smoothing, and what is measured
at the end.

Four seeds, the strengths of the profile `hour`. Two networks differ by chance in the level of each
metric (5 %) and in how soon it falls (10 %). Half as long a schedule ends at the same values, so
training has ended.
"""

import functools
import itertools
import math
from collections.abc import Callable

import numpy as np
import pandas as pd

from lsnc_core.claims import Verdict
from lsnc_core.papers.guo import (
    SMOOTHED,
    guo_1_dynamics,
    guo_2_strength,
    guo_3_calibration,
    guo_4_minimisers,
    measured,
    networks,
)
from lsnc_core.papers.guo.calibration import FITS, HELD_OUT
from nulls import Null

SEEDS = 4
STRENGTHS = networks.STRENGTHS
LEVEL_NOISE, SPEED_NOISE = 0.05, 0.1  # of logarithms
RANGE = (0.0, SMOOTHED, STRENGTHS[-1])
EPOCHS = np.array([1, 2, 4, 7, 10, 20, 30, 40, 60])
SETTINGS = {"data": "mnist-subset", "model": "cnn", "weight_decay": 0.005, "epochs": 60}
SETTINGS |= {"train_size": 1000, "batch": 50, "pool": 2}
CHANGING = (*measured.METRICS, "w_norm", "h_norm", "test_error")
# how much faster each curve falls, and where it ends, from one strength to the next
Effects = dict[str, tuple[float, float]]


# ---- tables of networks


def made_up_run(delta: float, seed: int, better: float = 1.0) -> dict[str, np.ndarray]:
    """One made-up run's values by epoch: smoothing is `better` in every respect where that is 1,
    worse where it is -1.

    Where it is 0, smoothed networks are a little above the others in even seeds and as much below
    in odd ones.
    """
    late = math.exp(-0.3 * better * math.sqrt(delta))
    off = 0.01 * (-1) ** seed * (delta > 0)
    wiggle = math.exp(0.003 * seed + off)
    nc1 = (8 * np.exp(-EPOCHS / (6 * late)) + 0.05 * late) * wiggle
    falling = np.exp(-EPOCHS / (8 * late)) * wiggle
    return {
        "nc1": nc1,
        "nc2": late * (0.06 + 0.1 * np.log1p(nc1 / 0.06)) * (1 + off),
        "nc3": 0.15 * late * wiggle + 0.1 * nc1,
        "train_error": np.where(EPOCHS < 60, 0.5 * falling, 0.0),
        "test_error": 0.2 * late * wiggle + 0.5 * falling,
        # the last is the lowest, so log(loss - lowest + c) is a line
        "train_loss": np.where(EPOCHS < 60, falling - 0.002, 0.0),
        "w_norm": np.full(len(EPOCHS), 3 * late * wiggle),
        "h_norm": np.full(len(EPOCHS), 5 * late * wiggle),
    }


def describe_run(delta: float, seed: int, values: dict[str, np.ndarray]) -> pd.DataFrame:
    """A run's values by epoch beside what a table of `measured.fetch_history` has of its spec."""
    about = SETTINGS | {"epoch": EPOCHS, "seed": seed, "loss": "ce", "delta": delta}
    about |= {"arm": networks.loss_label("ce", delta), "run": f"{delta}-{seed}"}
    part = pd.DataFrame(about | values)
    part["lr_steps"], part["widths"] = [(45, 55)] * len(part), [(8, 16, 64)] * len(part)
    return part


def halve(history: pd.DataFrame, change: float = 0.0) -> pd.DataFrame:
    """Ends of the same networks with half as long a schedule: every metric larger by `change`."""
    ends = measured.last_epochs(history)
    columns = [name for name in CHANGING if name in ends]
    return ends.assign(epochs=30, epoch=30, **(ends[columns] * (1 + change)))


def draw_history(
    generator: np.random.Generator,
    strengths: tuple[float, ...] = (0.0, SMOOTHED),
    effects: Effects | None = None,
) -> pd.DataFrame:
    """A table of `measured.fetch_history`: runs differ by chance, in speed and level of each
    metric, and by the effects of smoothing, none by default.
    """
    table = plain_history(strengths).copy()
    place = table.delta.map({delta: place for place, delta in enumerate(strengths)}).to_numpy()
    runs = place.reshape(-1, len(EPOCHS))[:, :1]  # (runs, 1)
    speed = np.exp(SPEED_NOISE * generator.standard_normal(runs.shape))
    for name in made_up_run(0.0, 0):
        faster, level = (effects or {}).get(name, (1.0, 1.0))
        chance = np.exp(LEVEL_NOISE * generator.standard_normal(runs.shape))
        epochs = faster**runs * speed * EPOCHS  # (runs, epochs)
        curves = table[name].to_numpy().reshape(epochs.shape)
        moved = [np.interp(*pair) for pair in zip(epochs, itertools.repeat(EPOCHS), curves)]
        table[name] = (level**runs * chance * moved).ravel()
    table.loc[table.epoch == EPOCHS[-1], "train_error"] = 0.0
    return table


def draw_learned(generator: np.random.Generator) -> pd.DataFrame:
    """The same of networks that learn early, so that two have NC1 in common after it."""
    table = draw_history(generator)
    return table.assign(train_error=table.train_error.where(table.epoch < 10, 0.0))


@functools.cache
def plain_history(strengths: tuple[float, ...]) -> pd.DataFrame:
    """Networks at several strengths on which smoothing has no effect, without chance."""
    parts = []
    for delta, seed in itertools.product(strengths, range(SEEDS)):
        parts.append(describe_run(delta, seed, made_up_run(0.0, seed, 0.0)))
    return pd.concat(parts, ignore_index=True)


def draw_plateau(generator: np.random.Generator) -> pd.DataFrame:
    """NC1 is halved by the first strength; the further ones, up to the largest, change nothing."""
    table = draw_history(generator, STRENGTHS)
    return table.assign(nc1=table.nc1 * np.where(table.delta == 0, 2.0, 1.0))


def draw_ends(
    generator: np.random.Generator,
    temperatures: tuple[float, float, float],
    eces: tuple[float, float],
    scaled: tuple[float, float],
) -> pd.DataFrame:
    """A table of `calibration.measure_ends`.

    Args:
        generator: of the chance.
        temperatures: without smoothing, at the paper's strength, at the largest.
        eces, scaled: without and with smoothing, before and after scaling.
    """
    rows = []
    for how, (place, delta), seed in itertools.product(FITS, enumerate(RANGE), range(SEEDS)):
        factors = np.exp(LEVEL_NOISE * generator.standard_normal(3))
        exact = temperatures[place], eces[place > 0], scaled[place > 0]
        row = {"fit": how, "delta": delta, "seed": seed, "loss": "ce", "epoch": 60}
        row |= dict(zip(("T", "ece", "ece_scaled"), exact * factors, strict=True))
        errors = {"train_error": 0.0, "test_error": 0.2}
        rows.append(SETTINGS | row | errors | {"widths": (8, 16, 64)})
    return pd.DataFrame(rows)


def draw_epochs(generator: np.random.Generator, wandering: bool = False) -> pd.DataFrame:
    """A table of `calibration.measure_epochs` whose calibration has nothing to do with collapse:
    every epoch has a number of its own, or each run goes a random walk. Over many draws of such
    walks G8 is decided in 6.5 %: their rank correlations, often near -1 or 1, are not normal.
    """
    table = draw_history(generator).assign(train_error=0.0, test_error=0.2)
    steps = generator.standard_normal((2, len(table) // len(EPOCHS), len(EPOCHS)))
    curves = steps.cumsum(-1) if wandering else steps
    ece, loss = curves.reshape(2, -1)
    return table.assign(ece=0.05 + 0.001 * ece, loss_wrong=2 + 0.1 * loss)


def draw_norms(generator: np.random.Generator, alone: bool = False) -> pd.DataFrame:
    """A table of `theorem_networks.compare_norms` whose norms are off by the tolerance; `alone`:
    only the classifier's without smoothing, the others are as predicted.
    """
    table = draw_history(generator, strengths=(0.0, SMOOTHED, 0.1)).assign(nc1=0.01)
    errors = 0.005 * generator.standard_normal((2, len(table)))
    off = np.full_like(errors, guo_4_minimisers.NORM_TOLERANCE)
    if alone:
        off[0, table.delta > 0] = off[1] = 0
    errors += off
    decays = {"lambda_W": 1e-3, "lambda_H": 2.5e-4, "lambda_b": 1e-2}
    return table.assign(**decays, error_w=errors[0], error_h=errors[1])


# ---- nulls


def ended(decide: Callable[..., Verdict], draw: Callable = draw_history) -> Null:
    """The null of a claim about the end of training, which has ended."""
    return Null(lambda table: decide(table, halve(table)), draw)


def calibrated(decide: Callable[..., Verdict], *exact: tuple[float, ...]) -> Null:
    """The null of a claim about temperatures and errors; exact, those of `draw_ends`."""
    return Null(lambda table: decide(table, HELD_OUT), lambda g: draw_ends(g, *exact))


NONE = "smoothing has no effect"
SOONER = dict.fromkeys(measured.METRICS, (1.5, 1.0))
EQUAL_ERRORS = (0.05, 0.05), (0.02, 0.02)
GUO: dict[tuple[str, str], Null] = {
    ("G1", NONE): ended(guo_1_dynamics.decide_g1),
    ("G1", "only collapse is sooner"): ended(
        guo_1_dynamics.decide_g1, lambda g: draw_history(g, effects=SOONER)
    ),
    ("G2", NONE): ended(guo_1_dynamics.decide_g2),
    ("G3", NONE): ended(guo_1_dynamics.decide_g3),
    ("G19", NONE): ended(guo_1_dynamics.decide_g19),
    ("G4", NONE): Null(guo_1_dynamics.decide_g4, draw_learned),
    ("G5", NONE): ended(guo_2_strength.decide_g5, lambda g: draw_history(g, STRENGTHS)),
    ("G5", "only the norm of H falls"): ended(
        guo_2_strength.decide_g5, lambda g: draw_history(g, effects={"h_norm": (1.0, 0.7)})
    ),
    ("G6", "equal T*, 1 at the largest strength"): calibrated(
        guo_3_calibration.decide_g6, (1.3, 1.3, 1.0), *EQUAL_ERRORS
    ),
    ("G6", "T* falls, but not to δ = .05"): calibrated(
        guo_3_calibration.decide_g6, (1.3, 1.3, 0.6), *EQUAL_ERRORS
    ),
    ("G7", "equal errors"): calibrated(guo_3_calibration.decide_g7, (1.3, 1.3, 1.3), *EQUAL_ERRORS),
    ("G7", "half of the gain is left"): calibrated(
        guo_3_calibration.decide_g7, (1.3, 1.3, 1.3), (0.05, 0.03), (0.02, 0.01)
    ),
    ("G8", "calibration by chance"): Null(guo_3_calibration.decide_g8, draw_epochs),
    ("G8", "calibration walks at random"): Null(
        guo_3_calibration.decide_g8, lambda g: draw_epochs(g, wandering=True)
    ),
    ("G9", "off by the tolerance"): ended(guo_4_minimisers.decide_g9, draw_norms),
    ("G9", "one norm off by the tolerance"): ended(
        guo_4_minimisers.decide_g9, lambda g: draw_norms(g, alone=True)
    ),
    ("G10", NONE): Null(guo_1_dynamics.decide_g10, draw_history),
    ("G14", NONE): ended(guo_2_strength.decide_g14, lambda g: draw_history(g, STRENGTHS)),
    ("G14", "equal from the second strength on"): ended(guo_2_strength.decide_g14, draw_plateau),
    ("G18", NONE): ended(guo_2_strength.decide_g18),
}
