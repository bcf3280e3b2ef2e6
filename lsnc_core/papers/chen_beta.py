"""Chen, Ziyin et al. 2020, assumption beta: test labels as noisy as the training labels, and
independently so (Figure 7, C3, C4).

The networks are the landscape's: the expectation over test-label noise is a closed form of two
measured losses.
"""

import numpy as np

from lsnc_core import labels
from lsnc_core.data_sources import source_of
from lsnc_core.papers import claims
from lsnc_core.papers.chen_claims import C2_RANGE, C3_RATES, CLAIMS
from lsnc_core.papers.chen_landscape import (
    NO_CIFAR,
    PROTOCOLS,
    case,
    decider,
    formula_cases,
    landscape_table,
    where,
)
from lsnc_core.papers.chen_minima import argmin_differences
from lsnc_core.papers.claims import Case, Verdict
from lsnc_core.theory import label_noise

# The same images with noisy labels: column of the expected loss, and what they are called.
NOISY = {"test_loss": "test_beta", "clean_train_loss": "train_beta"}
PLACES = {
    "test_beta": "held-out images, noisy labels",
    "train_beta": "training images, labels made noisy anew",
}


def expected_loss(a, loss, uniform_loss, M: int):
    """Expected cross-entropy against labels under symmetric noise: a L + (1-a)/(M-1) (M U - L).

    Args: a, clean rate in [0, 1]; loss, L against the clean labels, and uniform_loss, U against the
    uniform distribution, both float of one shape, in nats; M, classes. Returns: float of that
    shape, in nats. Source: Chen's beta (eq. 14) for any output.

    >>> round(float(expected_loss(0.5, 0.1, 2.0, 10)), 4)  # half of 0.1, half of the nine others' mean 19.9/9
    1.1556
    """
    return a * loss + (1 - a) / (M - 1) * (M * uniform_loss - loss)


def table(runs):
    """The landscape's table with the losses on noisy labels beside those on clean ones.

    Args: runs, the table of `lsnc_core.runs.results`.

    Returns:
        pandas.DataFrame as `landscape_table`, and `test_beta` and `train_beta`, expected over the
        test labels' noise, `predicted_beta` (eq. 14) and `predicted_beta_as_drawn` (eq. 14 at the
        share of clean training labels as drawn), in nats.
    """
    found = landscape_table(runs)
    M = source_of(found.data.iloc[0]).num_classes
    last = runs[runs.epoch == runs.epochs].set_index("run").loc[found.run]
    for column, noisy in NOISY.items():
        uniform = last[column.replace("loss", "uniform_loss")].to_numpy()
        found[noisy] = expected_loss(found.a, found[column], uniform, M)
    a, p = found.a.to_numpy(), found.p.to_numpy()
    found["predicted_beta"] = label_noise.loss("beta", a, p, M)
    agree = found.kept * a + (1 - found.kept) * (1 - a) / (M - 1)
    # at the agreement of the labels as drawn; beta and alpha differ in that number alone
    found["predicted_beta_as_drawn"] = label_noise.loss("alpha", agree.to_numpy(), p, M)
    return found


def rates(table) -> tuple[float, ...]:
    """The clean rates of Figure 7: of the paper's two those that the table has, else its highest
    below 1.
    """
    there = set(table.a)
    return tuple(a for a in C3_RATES if a in there) or (max(there - {1.0}, default=1.0),)


def drawn(found: dict):
    """The loss on one drawn corruption of the test labels, by a draw of its own for each seed.

    Args: found, from `lsnc_core.runs.tensors`.
    Returns: pandas.DataFrame with a, p, seed and drawn (nats), a row for each network.
    """
    import pandas as pd
    import torch

    from lsnc_core import data

    rows = []
    for spec, epochs in found.items():
        _, clean = data.truth(spec.data, spec.train_size, spec.test_size)
        T = labels.symmetric_noise(spec.a, source_of(spec.data).num_classes)
        noisy = labels.corrupt(clean, T, spec.seed, purpose="test label noise")
        logits = torch.from_numpy(np.array(epochs[-1]["test_logits"]))
        loss = torch.nn.functional.cross_entropy(logits.double(), noisy)
        rows.append({"a": spec.a, "p": spec.p, "seed": spec.seed, "drawn": float(loss)})
    return pd.DataFrame(rows)


def seen(table, drawn) -> str:
    """What Figure 7 shows, in numbers: how far measured and predicted are apart, and how far one
    draw is from its expectation.
    """
    low, high = C2_RANGE
    inside = table[table.a.isin(set(drawn.a)) & table.p.between(low, high)]
    said = []
    for column, place in PLACES.items():
        apart = (inside[column] - inside.predicted_beta).groupby(inside.a).mean()
        said.append(
            f"{place}: " + ", ".join(f"{value:+.2f} at a = {a:g}" for a, value in apart.items())
        )
    both = table.merge(drawn, on=["a", "p", "seed"])
    both = both[both.p < 1]
    return (
        f"lines: equation 14; points: means over seeds with 95 % t-intervals, p = 1 where it fits the axis. "
        f"Mean of measured minus predicted for p from {low} to {high} in nats; {'; '.join(said)}. "
        f"A drawn corruption of the test labels (crosses) lies {(both.drawn - both.test_beta).abs().mean():.3f} nats from its "
        "expectation on average for p below 1."
    )


def verdict_c3(table, column: str, predicted: str = "predicted_beta") -> Verdict:
    """C3 at the paper's two clean rates, from `table`; `column` one of `NOISY`'s; what other clean
    rates say is told beside it.
    """
    cases = formula_cases(table, column, predicted)
    chosen = [f"a = {a:g}" for a in C3_RATES]
    others = [each for each in cases if each.name not in chosen]
    holding = sum(each.outcome == claims.HOLDS for each in others)
    remark = f"it holds at {holding} of {len(others)} other clean rates" if others else ""
    cases = [each for each in cases if each.name in chosen]
    place = where(table, PLACES[column]) + (
        ", formula at the share of clean labels as drawn" if predicted.endswith("drawn") else ""
    )
    missing = [name for name in chosen if name not in [each.name for each in cases]]
    cases += [
        Case(name, f"fewer than {claims.MIN_SEEDS} seeds", claims.UNDECIDED) for name in missing
    ]
    what = f"{claims.MIN_SEEDS} seeds at {', '.join(missing)}" if missing else decider(table, cases)
    return claims.over_cases(CLAIMS["C3"], place, cases, remark, what)


def verdict_c4(table, column: str) -> Verdict:
    """C4 on trained networks, from `table`: p of least loss on noisy labels minus that on clean
    ones, paired by seed, 1/M <= a < 1.
    """
    M = source_of(table.data.iloc[0]).num_classes
    cases = []
    for row in argmin_differences(
        table[table.a.between(1 / M, 1, inclusive="left")], NOISY[column], column
    ).itertuples():
        outcome = claims.decide(row.low, row.high, at_most=0.0)
        expected = label_noise.optimum("beta", row.a, M) - row.a
        said = f"p*(β) − p*(α) = {row.mean:+.3f} [{row.low:+.3f}, {row.high:+.3f}], predicted {expected:+.3f}"
        cases.append(case(row.a, said, outcome, row.memorised))
    return claims.over_cases(
        CLAIMS["C4"], where(table, PROTOCOLS[column]), cases, decider=decider(table, cases)
    )


def verdicts(table, cifar=None) -> list[Verdict]:
    """C3 and C4 on the landscape and on CIFAR-10's, which None says was not trained here."""
    found = [verdict_c3(table, column) for column in PLACES]
    found.append(verdict_c3(table, "train_beta", "predicted_beta_as_drawn"))
    found += [verdict_c4(table, column) for column in NOISY]
    if cifar is not None:
        found += [verdict_c3(cifar, column) for column in PLACES] + [
            verdict_c4(cifar, column) for column in NOISY
        ]
    elif table.data.iloc[0] != "cifar10":
        found.append(
            Verdict(
                CLAIMS["C3"], "Held-out images, noisy labels of cifar10", NO_CIFAR, claims.UNDECIDED
            )
        )
    return found
