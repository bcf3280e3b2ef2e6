"""Chen, Ziyin et al. 2020: the table of the a-p landscape, and the claims C1, C2 and C17 about it.

a is the clean rate of the training labels, p the kept mass of the smoothed label, M the number of
classes. Losses in nats.
"""

from pathlib import Path

import numpy as np

from lsnc_core.data_sources import source_of
from lsnc_core.papers import claims
from lsnc_core.papers.chen_claims import (
    C1_RANGE,
    C1_STEP,
    C1_TOLERANCE,
    C2_ERROR,
    C2_RANGE,
    C2_RANK,
    CLAIMS,
    LEARNS_FROM,
    MEMORISED,
)
from lsnc_core.papers.chen_minima import argmins, minima
from lsnc_core.papers.claims import Case, Verdict
from lsnc_core.theory import label_noise

NO_CIFAR = f"{claims.NOT_TRAINED}; what would decide it: CIFAR-10 and four seeds of its landscape, profile paper"
PROTOCOLS = {"test_loss": "held-out images", "clean_train_loss": "training images, clean labels"}


def landscape_table(runs):
    """One row per trained network at its last epoch, with the formula beside the measurement.

    Args:
        runs: the table of `lsnc_core.runs.results`, of one data set.

    Returns:
        pandas.DataFrame with data, train_size, a, p, seed, kept (share of clean labels as drawn),
        `test_loss` and `clean_train_loss` in nats, `predicted` (eq. 11), `predicted_as_drawn` (eq.
        11 at the share of clean labels as drawn), `test_accuracy`, `excess` (training loss above
        its floor, nats), `memorised` (bool) and `run` (its file in the store).
    """
    table = runs[runs.epoch == runs.epochs].copy()
    M = source_of(table.data.iloc[0]).num_classes
    table["predicted"] = label_noise.loss("alpha", table.a.to_numpy(), table.p.to_numpy(), M)
    table["predicted_as_drawn"] = label_noise.loss(
        "alpha", table.kept.to_numpy(), table.p.to_numpy(), M
    )
    table["excess"] = table.train_loss - label_noise.entropy_floor(table.p.to_numpy(), M)
    table["memorised"] = table.excess <= MEMORISED
    columns = [
        "data",
        "train_size",
        "a",
        "p",
        "seed",
        "kept",
        "predicted",
        "predicted_as_drawn",
        *PROTOCOLS,
        "test_accuracy",
        "excess",
        "memorised",
        "run",
    ]
    return table[columns].sort_values(["a", "p", "seed"], ignore_index=True)


def learned(table):
    """The rows of a landscape whose p teaches the label: from `LEARNS_FROM` on, and above 1/M."""
    return table[
        (table.p >= LEARNS_FROM) & (table.p > 1 / source_of(table.data.iloc[0]).num_classes)
    ]


def agreement(table, column: str, predicted: str = "predicted"):
    """How close the formula comes at each clean rate and seed over p in [.2, .95]; `predicted` may
    be "predicted_as_drawn".

    Returns:
        pandas.DataFrame with a, seed, error (mean of |measured - predicted| / predicted), residual
        (mean of measured - predicted, nats), rank (Spearman's correlation over p; NaN where losses
        are not finite or all equal) and memorised.
    """
    import pandas as pd
    from scipy import stats

    rows = []
    inside = table[table.p.between(*C2_RANGE)]
    for (a, seed), part in inside.groupby(["a", "seed"]):
        residual = part[column] - part[predicted]
        # a formula that is symmetric in p (a = 1/2) has ties, which the last bits would break at
        # random
        ranked = np.isfinite(part[column]).all() and part[column].nunique() > 1
        rows.append(
            {
                "a": a,
                "seed": seed,
                "error": (residual.abs() / part[predicted]).mean(skipna=False),
                "residual": residual.mean(skipna=False),
                "rank": stats.spearmanr(part[column], part[predicted].round(12)).statistic
                if ranked
                else np.nan,
                "memorised": bool(part.memorised.all()),
            }
        )
    return pd.DataFrame(rows)


def where(table, name: str) -> str:
    """On what a verdict was tried: "Held-out images of digits", of a reader's file its name."""
    return f"{name[0].upper()}{name[1:]} of {Path(table.data.iloc[0]).name}"


def verdict_c1(table, column: str) -> Verdict:
    """C1 on trained networks: the argmin's interval against a - 0.1 ... a + 0.1 at each clean rate
    with four seeds or more.
    """
    grid = np.unique(table.p)
    step = np.diff(grid[grid >= C1_RANGE[0] - C1_TOLERANCE]).max(initial=0)
    found = minima(table, column)
    found = found[found.a.between(*C1_RANGE)]
    cases = []
    for row in found[found.seeds >= claims.MIN_SEEDS].itertuples():
        if np.isfinite(row.low):
            outcome = claims.decide(row.low, row.high, row.a - C1_TOLERANCE, row.a + C1_TOLERANCE)
            cases.append(
                case(
                    row.a,
                    f"lowest at p = {row.argmin:.2f} [{row.low:.2f}, {row.high:.2f}]",
                    outcome,
                    row.memorised,
                )
            )
        else:
            cases.append(case(row.a, "a loss is missing or not finite", claims.UNDECIDED))
    single = found[found.seeds < claims.MIN_SEEDS]
    near = int(((single.argmin - single.a).abs() <= C1_TOLERANCE).sum())
    remarks = (
        [f"without an interval, {near} of {len(single)} other clean rates within {C1_TOLERANCE}"]
        if len(single)
        else []
    )
    remarks += (
        [f"on a grid with steps up to {step:.2g}, not {C1_STEP}"] if step > C1_STEP + 1e-9 else []
    )
    return claims.over_cases(
        CLAIMS["C1"],
        where(table, PROTOCOLS[column]),
        cases,
        "; ".join(remarks),
        decider(table, cases),
    )


def formula_cases(table, column: str, predicted: str) -> list[Case]:
    """C2 and C3 at each clean rate of four seeds or more: relative error and rank correlation over
    p against their thresholds.
    """
    cases = []
    for a, part in agreement(table, column, predicted).groupby("a"):
        if len(part) < claims.MIN_SEEDS:
            continue
        if not np.isfinite(part[["error", "rank"]]).all(axis=None):
            cases.append(case(a, "losses that are not finite, or all equal", claims.UNDECIDED))
            continue
        error, rank, residual = (
            claims.t_interval(part[name]) for name in ("error", "rank", "residual")
        )
        rank = (rank[0], rank[1], min(rank[2], 1.0))  # a t-interval knows no upper end
        measured = (
            f"error {error[0]:.1%} [{error[1]:.1%}, {error[2]:.1%}], rank correlation {rank[0]:.2f} [{rank[1]:.2f}, {rank[2]:.2f}], "
            f"measured − predicted {residual[0]:+.3f} [{residual[1]:+.3f}, {residual[2]:+.3f}] nats"
        )
        both = claims.every(
            [
                claims.decide(*error[1:], at_most=C2_ERROR),
                claims.decide(*rank[1:], at_least=C2_RANK),
            ]
        )
        cases.append(case(a, measured, both, bool(part.memorised.all())))
    return cases


def verdict_c2(table, column: str, predicted: str = "predicted") -> Verdict:
    """C2 on trained networks; `predicted` may be "predicted_as_drawn"."""
    cases = formula_cases(table, column, predicted)
    drawn = ", formula at the share of clean labels as drawn" if predicted != "predicted" else ""
    return claims.over_cases(
        CLAIMS["C2"], where(table, PROTOCOLS[column]) + drawn, cases, decider=decider(table, cases)
    )


def case(a: float | str, measured: str, outcome: str, memorised: bool = True) -> Case:
    """What was found at one clean rate, or under a name; the theory presumes memorised labels, so
    without them nothing is decided.
    """
    return Case(
        a if isinstance(a, str) else f"a = {a:g}",
        measured + ("" if memorised else ", not memorised"),
        outcome if memorised else claims.UNDECIDED,
    )


def decider(table, cases: list[Case]) -> str:
    """What would decide an open claim about a landscape."""
    if not cases:
        return f"{claims.MIN_SEEDS} seeds at a clean rate"
    return (
        "more seeds, or more training images"
        if table.memorised.all()
        else "more epochs, until the labels are memorised"
    )


def verdicts(table, cifar=None) -> list[Verdict]:
    """C1, C2 and C17 on the landscape, the first two on CIFAR-10's too, which None says was not
    trained here.
    """
    found = [verdict(table, column) for verdict in (verdict_c1, verdict_c2) for column in PROTOCOLS]
    found.append(verdict_c2(table, "clean_train_loss", "predicted_as_drawn"))
    found += [verdict_c17(table, column) for column in PROTOCOLS]
    if cifar is not None:
        found += [
            verdict(cifar, column) for verdict in (verdict_c1, verdict_c2) for column in PROTOCOLS
        ]
    elif table.data.iloc[0] != "cifar10":
        found += [
            Verdict(CLAIMS[name], "Held-out images of cifar10", NO_CIFAR, claims.UNDECIDED)
            for name in ("C1", "C2")
        ]
    return found


def seen(table) -> str:
    """What a landscape shows, in a sentence of numbers: how many networks, whether they memorised,
    the sign of the residual.
    """
    size = f"{len(table)} networks on {source_of(table.data.iloc[0]).title}"
    fitted = f"{int(table.memorised.sum())} of them have memorised their labels (training loss within {MEMORISED} nats of its floor)"
    low, high = C2_RANGE
    inside = table[table.p.between(low, high)]
    residuals = []
    for column, place in PROTOCOLS.items():
        by_rate = (inside[column] - inside.predicted).groupby(inside.a).mean()
        residuals.append(
            f"{place}: "
            + ", ".join(f"{residual:+.2f} at a = {a:g}" for a, residual in by_rate.items())
        )
    return f"{size}; {fitted}. Mean of measured minus predicted for p from {low} to {high} in nats; {'; '.join(residuals)}."


def nearest_theory(table):
    """Which assumption's best p lies closest to the measured minima, over the clean rates that have
    four seeds or more.

    Returns:
        pandas.DataFrame with rows alpha, beta, gamma (mean distance over clean rates and seeds),
        "gamma - alpha" and "gamma - beta" (the paired differences), columns mean, low, high for
        each protocol, as a two-level index. The intervals are 95 % t-intervals over seeds; those of
        the differences are widened by what a minimum that is a bare grid point leaves open, half a
        step to each side.
    """
    import pandas as pd

    M = source_of(table.data.iloc[0]).num_classes
    enough = with_seeds(table)
    found = {}
    for column, place in PROTOCOLS.items():
        curves = [
            part.pivot(index="seed", columns="p", values=column) for _, part in enough.groupby("a")
        ]
        lowest, below, above = (
            np.array(part) for part in zip(*(argmins(each) for each in curves), strict=True)
        )  # (rates, seeds)
        best = {
            kind: label_noise.optimum(kind, np.unique(enough.a), M)[:, None]
            for kind in label_noise.KINDS
        }
        rows = {
            kind: claims.t_interval(np.nanmean(np.abs(lowest - p), axis=0))
            for kind, p in best.items()
        }
        for kind in ("alpha", "beta"):
            # |x - p| - |x - q| is monotone in x: the ends of what is left open are the ends of the
            # difference
            ends = [
                np.abs(x - best["gamma"]) - np.abs(x - best[kind])
                for x in (lowest, lowest - below, lowest + above)
            ]
            least, most = (
                np.nanmean(each) - np.nanmean(ends[0])
                for each in (np.minimum(*ends[1:]), np.maximum(*ends[1:]))
            )
            mean, low, high = claims.t_interval(np.nanmean(ends[0], axis=0))
            rows[f"gamma - {kind}"] = mean, low + least, high + most
        found[place] = pd.DataFrame(rows, index=["mean", "low", "high"]).T
    return pd.concat(found, axis=1)


def with_seeds(table):
    """The rows of the clean rates that have four seeds or more."""
    return table[table.groupby("a").seed.transform("nunique") >= claims.MIN_SEEDS]


def verdict_c17(table, column: str) -> Verdict:
    """C17: distance of the measured minima to gamma's best p minus that to alpha's and to beta's,
    paired by seed.
    """
    enough, cases = with_seeds(table), []
    if len(enough):
        nearest = nearest_theory(table)[PROTOCOLS[column]]
        for name in ("gamma - alpha", "gamma - beta"):
            mean, low, high = nearest.loc[name]
            said = f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"
            cases.append(
                case(
                    name.replace("-", "−"),
                    said,
                    claims.decide(low, high, at_most=0.0),
                    bool(enough.memorised.all()),
                )
            )
    return claims.over_cases(
        CLAIMS["C17"], where(table, PROTOCOLS[column]), cases, "", decider(enough, cases)
    )


def held_out(table) -> str:
    """Why held-out images differ from memorised ones, in numbers: how often the networks are right
    on them, by clean rate.
    """
    above = table[table.p > 1 / source_of(table.data.iloc[0]).num_classes]
    rates = above.groupby("a").test_accuracy.mean()
    said = ", ".join(f"{accuracy:.2f} at a = {a:g}" for a, accuracy in rates.items())
    return (
        "The formula takes every image for memorised: right with probability a, and the output exactly the smoothed label. "
        f"On held-out images the networks are right with frequency {said} (mean over p above 1/M and seeds)."
    )


def by_size(runs):
    """The landscape's table at several numbers of training images, with what the accuracy on
    held-out images would explain.

    Args: runs, the table of `lsnc_core.runs.results` for `chen.size_runs` and the landscape's
    networks like them.

    Returns:
        pandas.DataFrame as `landscape_table`, with residual and train_residual (measured minus
        predicted on held-out and on training images) and accuracy_residual (eq. 11 with the
        held-out accuracy for the clean rate, minus predicted), in nats.
    """
    table = landscape_table(runs)
    M = source_of(table.data.iloc[0]).num_classes
    table["residual"] = table.test_loss - table.predicted
    table["train_residual"] = table.clean_train_loss - table.predicted
    table["accuracy_residual"] = (
        label_noise.loss("alpha", table.test_accuracy.to_numpy(), table.p.to_numpy(), M)
        - table.predicted
    )
    return table


def size_seen(table) -> str:
    """Measured minus predicted by number of training images, in a sentence of numbers; `table` from
    `by_size`.
    """
    said = []
    for (size, p), part in table.groupby(["train_size", "p"]):
        low_high = ""
        if len(part) >= claims.MIN_SEEDS and np.isfinite(part.residual).all():
            _, low, high = claims.t_interval(part.residual)
            low_high = f" [{low:+.2f}, {high:+.2f}]"
        said.append(
            f"{part.residual.mean():+.2f}{low_high} with {size} images at p = {p:g} (right with frequency {part.test_accuracy.mean():.2f})"
        )
    rough = int((~table.memorised).sum())
    note = f" {rough} of {len(table)} networks have not memorised their labels." if rough else ""
    return f"held-out images, measured minus predicted in nats at a = {table.a.iloc[0]:g}: {'; '.join(said)}.{note}"
