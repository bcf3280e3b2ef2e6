"""What no paper has: neural collapse and calibration over Chen's grid of clean rates and kept
masses (B1 and B2).

NC1, NC2, NC3 are Guo et al.'s (equations 4 to 6), with the classes by their clean labels.
"""

import numpy as np

from lsnc_core.papers import claims, collapse
from lsnc_core.papers.chen_claims import B1_TOLERANCE, C1_RANGE, CLAIMS
from lsnc_core.papers.chen_landscape import case, decider, landscape_table, learned, where
from lsnc_core.papers.chen_minima import argmin_differences, minima
from lsnc_core.papers.claims import Verdict

# metric columns of `table`, and their names on figures
METRICS = {
    "train NC1": "NC1, training images",
    "test NC1": "NC1, held-out images",
    "train NC2": "NC2, training images",
    "train NC3": "NC3, training images",
    "ECE": "ECE, held-out images",
}
# which images each kind of verdict is about
COLLAPSES = {
    "train NC1": ("clean_train_loss", "training images, clean labels"),
    "test NC1": ("test_loss", "held-out images"),
}


def table(runs, found: dict):
    """The landscape's table with collapse metrics and ECE after the last epoch.

    Args: runs, the table of `lsnc_core.runs.results`; found, from `lsnc_core.runs.tensors`, of the
    same networks.

    Returns:
        pandas.DataFrame as `landscape_table` with the columns of `METRICS`; only the rows that have
        `learned`, for the class means of networks that learned nothing coincide.
    """
    import pandas as pd
    import torch

    from lsnc_core import data
    from lsnc_core.metrics import ece

    landscape, rows = learned(landscape_table(runs)), []
    kept = set(landscape.p)
    for spec, epochs in found.items():
        if spec.p not in kept:
            continue
        last, row = epochs[-1], {"a": spec.a, "p": spec.p, "seed": spec.seed}
        for part in ("train", "test"):
            row |= {
                f"{part} {name}": value
                for name, value in collapse.values(last, part).preset("guo").items()
            }
        _, clean = data.truth(spec.data, spec.train_size, spec.test_size)
        rows.append(row | {"ECE": ece(torch.from_numpy(np.array(last["test_logits"])), clean)})
    return landscape.merge(pd.DataFrame(rows), on=["a", "p", "seed"])


def seen(table) -> str:
    """What the grid shows, in numbers: the p of least loss, NC1 and ECE by clean rate."""
    columns = {
        "test_loss": "test loss",
        "train NC1": "NC1 on training images",
        "test NC1": "NC1 on held-out images",
        "ECE": "ECE",
    }
    best = {name: minima(table, column) for column, name in columns.items()}
    said = [
        f"{name} " + ", ".join(f"{row.argmin:.2f}" for row in found.itertuples())
        for name, found in best.items()
    ]
    return f"the p at which each is least, for a = {', '.join(f'{a:g}' for a in sorted(set(table.a)))}: {'; '.join(said)}."


def verdict(claim: str, table, metric: str, loss: str, place: str) -> Verdict:
    """B1 or B2: p of the least metric minus p of the least loss, paired by seed, at each clean rate
    of four seeds or more.
    """
    cases = []
    for row in argmin_differences(table[table.a.between(*C1_RANGE)], metric, loss).itertuples():
        outcome = claims.decide(row.low, row.high, -B1_TOLERANCE, B1_TOLERANCE)
        cases.append(
            case(
                row.a,
                f"difference {row.mean:+.3f} [{row.low:+.3f}, {row.high:+.3f}]",
                outcome,
                row.memorised,
            )
        )
    return claims.over_cases(
        CLAIMS[claim], where(table, place), cases, decider=decider(table, cases)
    )


def verdicts(table) -> list[Verdict]:
    """B1 on both kinds of images, B2 on held-out ones."""
    b1 = [verdict("B1", table, metric, loss, place) for metric, (loss, place) in COLLAPSES.items()]
    return [*b1, verdict("B2", table, "ECE", "test_loss", COLLAPSES["test NC1"][1])]
