"""Nulls of our claims beside the papers', on the landscapes of `nulls.chen`."""

import numpy as np
import pandas as pd

from lsnc_core.claims import FAILS, Verdict
from lsnc_core.papers.beyond import beyond_1_collapse_under_noise as beyond_1
from nulls import Null
from nulls.chen import ACCURACY_NOISE, as_theory, normal, with_losses

METRIC_NOISE = 0.07  # of a logarithm of a collapse metric


def with_metrics(generator: np.random.Generator, apart: float) -> pd.DataFrame:
    """NC1 and ECE are lowest a distance below the p of lowest loss, with noise."""
    table = with_losses(generator, as_theory)
    place = table.p - (table.a - apart)
    for metric in ("test NC1", "ECE"):
        noise = np.exp(METRIC_NOISE * normal(generator, table))
        table[metric] = (0.1 + place**2) * noise
    return table


def with_confidence(generator: np.random.Generator, gap: float) -> pd.DataFrame:
    """Mean confidence minus accuracy is `gap` where the loss is lowest, and rises with p."""
    table = with_losses(generator, as_theory)
    table["test_accuracy"] = 0.9 + ACCURACY_NOISE * normal(generator, table)
    return table.assign(confidence=0.9 + gap + 0.5 * (table.p - table.a))


def decide_b1(table: pd.DataFrame) -> Verdict:
    return beyond_1.decide_b1(table, "test NC1", "test_loss")


BOUND = beyond_1.B_TOLERANCE
BEYOND: dict[tuple[str, str], Null] = {
    ("B1", "equal minima"): Null(decide_b1, lambda g: with_metrics(g, 0.0), (FAILS,)),
    ("B1", f"minima {BOUND} apart"): Null(decide_b1, lambda g: with_metrics(g, BOUND)),
    ("B2", "equal minima"): Null(beyond_1.decide_b2, lambda g: with_metrics(g, 0.0), (FAILS,)),
    ("B2", f"minima {BOUND} apart"): Null(beyond_1.decide_b2, lambda g: with_metrics(g, BOUND)),
    ("B3", "calibrated"): Null(beyond_1.decide_b3, lambda g: with_confidence(g, 0.0), (FAILS,)),
    ("B3", f"a gap of {beyond_1.CALIBRATED}"): Null(
        beyond_1.decide_b3, lambda g: with_confidence(g, beyond_1.CALIBRATED)
    ),
}
