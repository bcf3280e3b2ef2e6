"""Nulls of Chen et al.'s claims: landscapes of loss and accuracy over clean rate and kept mass.

Four clean rates, nine kept masses, four seeds. Noise between seeds is as measured: 2 % of a loss,
half of its variance common to the networks of a seed; .5 points of accuracy, as on 2,000 test
images. Where a claim is decided on held-out and on training images alike, the tables stand for
either.
"""

import functools
import itertools
import math
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from lsnc_core.claims import FAILS, HOLDS, Verdict
from lsnc_core.papers.chen import (
    chen_2_landscape,
    chen_3_beta,
    chen_4_loss_and_accuracy,
    chen_5_beyond_uniform,
    memorisation,
    minima_claims,
)
from lsnc_core.papers.chen.shared_claims import C1_TOLERANCE
from lsnc_core.theory import label_noise
from nulls import Null

M = 10
RATES = (0.6, 0.7, 0.8, 0.9)
FIGURE_7 = (0.5, 0.95)  # the clean rates of C3
KEPT = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
SEEDS = 4
LOSS_NOISE = 0.02  # relative, between seeds
ACCURACY_NOISE = 0.005  # share of the test images
AT_P_1 = 14.0  # a network's loss at p = 1 is large, not infinite
RECIPE = {
    "data": "mnist-subset",
    "train_size": 20_000,
    "model": "mlp",
    "widths": (320, 160),
    "pool": 2,
    "epochs": 150,
    "batch": 64,
    "lr": 0.1,
    "weight_decay": 0.0,
    "unlearned": 0.02,
    "memorised": True,
}

Rates = Callable[[np.ndarray], np.ndarray]


# ---- tables of networks


@functools.cache
def cells(rates: tuple[float, ...]) -> pd.DataFrame:
    """The networks of a landscape, by clean rate, seed and kept mass, without measurements."""
    rows = []
    for a, seed, p in itertools.product(rates, range(SEEDS), KEPT):
        rows.append(RECIPE | {"a": a, "seed": seed, "p": p})
    return pd.DataFrame(rows)


def normal(generator: np.random.Generator, table: pd.DataFrame) -> np.ndarray:
    """Standard normal noise, one number for each network, half of its variance of its seed."""
    own = generator.standard_normal(len(table))
    of_seed = np.repeat(generator.standard_normal(len(table) // len(KEPT)), len(KEPT))
    return (own + of_seed) / math.sqrt(2)


def cross_entropy(q: np.ndarray, p: np.ndarray) -> np.ndarray:
    """The loss of outputs of kept mass p that are right with probability q, lowest at p = q."""
    with np.errstate(divide="ignore"):
        loss = -q * np.log(p) - (1 - q) * np.log((1 - p) / (M - 1))
    return np.minimum(loss, AT_P_1)


def with_losses(
    generator: np.random.Generator, lowest: Rates, rates: tuple[float, ...] = ()
) -> pd.DataFrame:
    """A landscape whose losses are lowest at given p, by clean rate, with noise; `exact` is the
    loss without.
    """
    table = cells(rates or RATES).copy()
    a, p = table.a.to_numpy(), table.p.to_numpy()
    exact = cross_entropy(lowest(a), p)
    for column in ("test_loss", "clean_train_loss"):
        table[column] = exact * (1 + LOSS_NOISE * normal(generator, table))
    table["predicted"] = label_noise.loss("alpha", a, p, M)
    return table.assign(exact=exact, test_accuracy=0.9, run=np.arange(len(table)))


def with_errors(
    generator: np.random.Generator,
    error: Callable[[np.ndarray, np.ndarray], np.ndarray],
    rates: tuple[float, ...] = (),
) -> pd.DataFrame:
    """A landscape by the theory with test errors at the last and the best epoch, each with noise of
    its own: `error` is a function of a and p.
    """
    table = with_losses(generator, as_theory, rates)
    exact = error(table.a.to_numpy(), table.p.to_numpy())
    for name in ("test", "best"):
        table[f"{name}_error"] = exact + ACCURACY_NOISE * normal(generator, table)
        table[f"{name}_accuracy"] = 1 - table[f"{name}_error"]
    return table


def as_theory(a: np.ndarray) -> np.ndarray:
    """The p of lowest loss of memorised images on clean labels."""
    return a


def scaled(
    generator: np.random.Generator, factor: float, rates: tuple[float, ...] = ()
) -> pd.DataFrame:
    """A landscape whose losses are a multiple of the theory's, on clean and on noisy labels."""
    table = with_losses(generator, as_theory, rates)
    a, p = table.a.to_numpy(), table.p.to_numpy()
    table["predicted_beta"] = label_noise.loss("beta", a, p, M)
    for column, exact in (
        ("test_loss", cross_entropy(a, p)),
        ("test_beta", np.minimum(table.predicted_beta, AT_P_1)),
    ):
        table[column] = factor * exact * (1 + LOSS_NOISE * normal(generator, table))
    return table


def flat(a: np.ndarray, p: np.ndarray) -> np.ndarray:
    """An error that depends on neither clean rate nor kept mass."""
    return np.full(len(a), 0.1)


def bowl(a: np.ndarray, p: np.ndarray) -> np.ndarray:
    """An error that is lowest where the loss is: at p = a."""
    return 0.1 + 0.3 * (p - a) ** 2


# ---- Chen's claims


def same_minima(generator: np.random.Generator) -> pd.DataFrame:
    """Losses on noisy labels are lowest where those on clean labels are."""
    table = with_losses(generator, as_theory)
    noise = 1 + LOSS_NOISE * normal(generator, table)
    return table.assign(test_beta=table.exact * noise)


def half_the_spread(generator: np.random.Generator) -> pd.DataFrame:
    """At the best epoch the error varies half as much over p: a quarter of the variance."""
    table = with_errors(generator, lambda a, p: 0.1 + 0.1 * p)
    best = table.best_error - 0.05 * table.p
    return table.assign(best_error=best, best_accuracy=1 - best)


def no_rise(generator: np.random.Generator) -> pd.DataFrame:
    """Loss and error are lowest at the same p for every clean rate."""
    table = with_losses(generator, lambda a: np.full(len(a), 0.75))
    error = bowl(np.full(len(table), 0.65), table.p.to_numpy())
    return table.assign(test_error=error + ACCURACY_NOISE * normal(generator, table))


def midway(a: np.ndarray) -> np.ndarray:
    """As far from gamma's best p as from alpha's."""
    return (a + label_noise.optimum("gamma", a, M)) / 2


def fitted(error: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable:
    """A generator of tables of `memorisation_table`: errors at equal memorisation."""
    return lambda generator: with_errors(generator, error).assign(fitted=memorisation.COMPARED)


def by_way(
    generator: np.random.Generator, losses: Mapping[str, float], noise: str = "symmetric"
) -> pd.DataFrame:
    """A table of networks trained under one noise; losses, of each way on clean labels.

    The other output of a network has the same noise but for a fifth.
    """
    ways, rows = list(losses), []
    for way, a, seed in itertools.product(ways, RATES, range(SEEDS)):
        own = 1 + LOSS_NOISE * generator.standard_normal()
        other = own + LOSS_NOISE / 5 * generator.standard_normal()
        row = RECIPE | {"noise": noise, "way": way, "a": a, "p": a, "seed": seed}
        rows.append(row | {"test_loss": losses[way] * own, "corrected_test": losses[way] * other})
    return pd.DataFrame(rows).assign(test_accuracy=0.9)


def decide_c1(table: pd.DataFrame) -> Verdict:
    return chen_2_landscape.decide_c1(table, "test_loss")


def decide_c2(table: pd.DataFrame) -> Verdict:
    return chen_2_landscape.decide_c2(table, "test_loss")


def decide_c3(table: pd.DataFrame) -> Verdict:
    return chen_3_beta.decide_c3(table, "test_beta")


def decide_c4(table: pd.DataFrame) -> Verdict:
    return chen_3_beta.decide_c4(table, "test_loss")


def decide_c10(table: pd.DataFrame) -> Verdict:
    return chen_4_loss_and_accuracy.decide_c10(table, 0.95)


def decide_c11(table: pd.DataFrame) -> Verdict:
    return chen_5_beyond_uniform.decide_c11(table, "test_loss")


def decide_c13(table: pd.DataFrame) -> Verdict:
    return chen_5_beyond_uniform.decide_c13(table, "test_loss")


def decide_c17(table: pd.DataFrame) -> Verdict:
    return minima_claims.decide_c17(table)


FLAT = "the accuracy does not depend on p"
EXACT = "the theory is exact"
CHEN: dict[tuple[str, str], Null] = {
    ("C1", EXACT): Null(decide_c1, lambda g: with_losses(g, as_theory), (FAILS,)),
    ("C1", f"lowest {C1_TOLERANCE} below a"): Null(
        decide_c1, lambda g: with_losses(g, lambda a: a - C1_TOLERANCE)
    ),
    ("C2", EXACT): Null(decide_c2, lambda g: scaled(g, 1.0), (FAILS,)),
    ("C2", "an error of 15 %"): Null(decide_c2, lambda g: scaled(g, 1.15)),
    ("C3", EXACT): Null(decide_c3, lambda g: scaled(g, 1.0, FIGURE_7), (FAILS,)),
    ("C3", "an error of 15 %"): Null(decide_c3, lambda g: scaled(g, 1.15, FIGURE_7)),
    ("C4", EXACT): Null(decide_c4, lambda g: scaled(g, 1.0), (FAILS,)),
    ("C4", "equal minima"): Null(decide_c4, same_minima),
    ("C7", FLAT): Null(chen_4_loss_and_accuracy.decide_c7, lambda g: with_errors(g, flat)),
    ("C7", "equal minima"): Null(
        chen_4_loss_and_accuracy.decide_c7, lambda g: with_errors(g, bowl)
    ),
    ("C8", FLAT): Null(chen_4_loss_and_accuracy.decide_c8, lambda g: with_errors(g, flat)),
    ("C8", "a quarter of the variance"): Null(chen_4_loss_and_accuracy.decide_c8, half_the_spread),
    ("C9", FLAT): Null(chen_4_loss_and_accuracy.decide_c9, lambda g: with_errors(g, flat)),
    # the claim is about both sides of a = 0.9
    ("C10", FLAT): Null(decide_c10, lambda g: with_errors(g, flat, (*RATES, 0.95))),
    ("C11", EXACT): Null(
        decide_c11, lambda g: by_way(g, {"mean field": 1.0, "forward": 1.0}), (FAILS,)
    ),
    ("C11", "a ratio of 1.1"): Null(
        decide_c11, lambda g: by_way(g, {"mean field": 1.0, "forward": 1.1})
    ),
    ("C13", "equal losses"): Null(
        decide_c13,
        lambda g: by_way(g, dict.fromkeys(("none", "mean field", "posterior"), 1.0), "pair"),
    ),
    ("C15", "half of the gain"): Null(
        chen_5_beyond_uniform.decide_c15,
        lambda g: by_way(g, {"none": 2.0, "mean field": 1.0, "logit": 1.5}),
    ),
    ("C15", "no gain of logit smoothing"): Null(
        chen_5_beyond_uniform.decide_c15,
        lambda g: by_way(g, {"none": 2.0, "mean field": 1.0, "logit": 2.0}),
        (HOLDS,),
    ),
    ("C16", "equal minima at all clean rates"): Null(chen_4_loss_and_accuracy.decide_c16, no_rise),
    ("C16", FLAT): Null(chen_4_loss_and_accuracy.decide_c16, lambda g: with_errors(g, flat)),
    ("C17", "alpha is exact"): Null(decide_c17, lambda g: with_losses(g, as_theory), (HOLDS,)),
    ("C17", "gamma is exact"): Null(
        decide_c17,
        lambda g: with_losses(g, lambda a: label_noise.optimum("gamma", a, M)),
        (FAILS,),
    ),
    ("C17", "midway between alpha and gamma"): Null(decide_c17, lambda g: with_losses(g, midway)),
    ("C18", "lowest at a"): Null(minima_claims.decide_c18, lambda g: with_losses(g, as_theory)),
    ("C19", FLAT): Null(memorisation.decide_c19, fitted(flat)),
    ("C19", "equal minima"): Null(memorisation.decide_c19, fitted(bowl)),
}
