"""Chen, Ziyin et al. 2020: test accuracy beside test loss over the landscape (Figures 8 to 11, C7
to C10, C16), and the quoted Table 1.
"""

import numpy as np

from lsnc_core.papers import claims
from lsnc_core.papers.chen_claims import C8_RATIO, C9_SMALL, C9_UP_TO, C10_FROM, C10_WEAK, CLAIMS
from lsnc_core.papers.chen_landscape import (
    case,
    decider,
    landscape_table,
    learned,
    where,
    with_seeds,
)
from lsnc_core.papers.chen_minima import argmin_differences, argmin_slope, minima
from lsnc_core.papers.claims import Verdict

HELD_OUT = "held-out images"
# Table 1 of the paper, quoted there from Szegedy et al. 2016, Vaswani et al. 2017 and Chorowski and
# Jaitly 2017; nothing of it is run here
QUOTED = (
    ("ImageNet", "Inception-V2", "top-1 error (%)", "23.1", "22.8"),
    ("ImageNet", "Inception-V2", "top-5 error (%)", "6.3", "6.1"),
    ("English to German", "Transformer", "BLEU", "25.3", "25.8"),
    ("WSJ", "BiLSTM with attention", "word error rate (%)", "8.9", "6.7"),
)
QUOTED_HEADER = ("data", "model", "measure", "without smoothing", "with smoothing")


def table(runs):
    """The landscape's table with errors and with what the best measured epoch gives.

    The best epoch is the one of highest test accuracy among those measured, chosen on the very
    images that it is reported on: an oracle, as in the paper, and flattering.

    Args: runs, the table of `lsnc_core.runs.results`.

    Returns:
        pandas.DataFrame as `landscape_table`, with test_error, best_accuracy, best_error (shares of
        the test images) and best_epoch.
    """
    found = landscape_table(runs)
    best = runs.loc[runs.groupby("run").test_accuracy.idxmax()].set_index("run").loc[found.run]
    found["test_error"] = 1 - found.test_accuracy
    found["best_accuracy"], found["best_epoch"] = (
        best.test_accuracy.to_numpy(),
        best.epoch.to_numpy(),
    )
    found["best_error"] = 1 - found.best_accuracy
    return found


def weak(table):
    """Accuracy with weak smoothing minus that with none, paired by seed.

    Args: table, from `table`.
    Returns: pandas.DataFrame with epoch ("last" or "best"), a, seed, p (those of `C10_WEAK` on the
    grid, else its weakest), gain (share).
    """
    import pandas as pd

    on_grid = [p for p in C10_WEAK if p in set(table.p)] or [table.p[table.p < 1].max()]
    parts = []
    for p in on_grid:
        for epoch, column in (("last", "test_accuracy"), ("best", "best_accuracy")):
            with_, without = (
                table[table.p == value].set_index(["a", "seed"])[column] for value in (p, 1.0)
            )
            parts.append((with_ - without).rename("gain").reset_index().assign(epoch=epoch, p=p))
    return pd.concat(parts, ignore_index=True)


def _noisy(table):
    """The rows with label noise: those of a < 1."""
    return table[table.a < 1]


def seen(table) -> str:
    """What Figure 8 shows, in numbers: the best p for the loss and for the accuracy, by clean
    rate.
    """
    both = minima(table, "test_loss").merge(
        minima(learned(table), "test_error"), on="a", suffixes=("_loss", "_accuracy")
    )
    said = ", ".join(
        f"{row.argmin_loss:.2f} and {row.argmin_accuracy:.2f} at a = {row.a:g}"
        for row in both.itertuples()
    )
    return f"the best p for the loss and for the accuracy: {said}. Intervals: bootstrap over seeds, never narrower than the grid."


def seen_spread(table) -> str:
    """What Figure 9 shows, in numbers: how far the accuracy varies over p at the last and at the
    best epoch, by clean rate.
    """
    found = spread(table).groupby("a")[["last", "best"]].mean() ** 0.5 * 100
    said = ", ".join(
        f"{row['last']:.1f} and {row.best:.1f} at a = {a:g}" for a, row in found.iterrows()
    )
    shown = "a plus marks the best p of each a"
    return f"{shown}. Standard deviation of the accuracy over p, in points, at the last and at the best epoch: {said}."


def verdict_c7(table) -> Verdict:
    """C7: p of highest accuracy minus p of lowest loss, paired by seed; "most" means more than half
    of the clean rates below 1.
    """
    noisy = _noisy(table)
    found = argmin_differences(learned(noisy), "test_error", "test_loss", noisy)
    cases = []
    for row in found.itertuples():
        said = f"difference {row.mean:+.3f} [{row.low:+.3f}, {row.high:+.3f}]"
        cases.append(
            case(row.a, said, claims.decide(row.low, row.high, at_most=0.0), row.memorised)
        )
    outcome = most([each.outcome for each in cases])
    summed = claims.over_cases(CLAIMS["C7"], where(table, HELD_OUT), cases)
    remark = (
        f"; what would decide it: {decider(table, cases)}" if outcome == claims.UNDECIDED else ""
    )
    return Verdict(CLAIMS["C7"], summed.tried_on, summed.measured + remark, outcome, summed.cases)


def verdict_c16(table) -> Verdict:
    """C16: slope over the clean rates below 1 of the p of lowest loss and of that of highest
    accuracy, of the `learned` rows.
    """
    noisy = with_seeds(_noisy(table))
    rates = sorted(set(noisy.a))
    cases = []
    if len(rates) > 1:
        for part, column, name in (
            (noisy, "test_loss", "lowest loss"),
            (learned(noisy), "test_error", "highest accuracy"),
        ):
            mean, low, high = argmin_slope(part, column)
            said = f"slope {mean:+.3f} [{low:+.3f}, {high:+.3f}]"
            cases.append(
                case(
                    name, said, claims.decide(low, high, at_least=0.0), bool(noisy.memorised.all())
                )
            )
    remark = f"slopes of the best p over a = {', '.join(f'{a:g}' for a in rates)}" if cases else ""
    what = (
        f"{decider(noisy, cases)}, or a finer grid of p"
        if cases
        else f"{claims.MIN_SEEDS} seeds at two clean rates below 1"
    )
    return claims.over_cases(CLAIMS["C16"], where(table, HELD_OUT), cases, remark, what)


def most(outcomes: list[str]) -> str:
    """The outcome of a claim about most of several cases: more than half of them.

    >>> most(["holds", "holds", "does not hold"]), most(["does not hold", "does not hold", "holds"]), most([])
    ('holds', 'does not hold', 'not decidable here')
    """
    if 2 * outcomes.count(claims.HOLDS) > len(outcomes):
        return claims.HOLDS
    # "most" is refuted when so many fail that half or fewer can hold
    return (
        claims.FAILS
        if outcomes and 2 * outcomes.count(claims.FAILS) >= len(outcomes)
        else claims.UNDECIDED
    )


def spread(table):
    """Variance over p of the accuracy at the best and at the last epoch, at each clean rate below 1
    and seed, of the `learned` rows.

    Returns: pandas.DataFrame with a, seed, best, last (squared shares).
    """
    names = {"best_accuracy": "best", "test_accuracy": "last"}
    return (
        _noisy(learned(table))
        .groupby(["a", "seed"])[list(names)]
        .var()
        .rename(columns=names)
        .reset_index()
    )


def verdict_c8(table) -> Verdict:
    """C8: ratio of the two variances of `spread`, on the log scale over seeds: of their means over
    the clean rates, and at each.
    """
    noisy = with_seeds(_noisy(table))
    found = spread(table)
    found = found[found.a.isin(noisy.a)]

    def ratio(part) -> tuple[str, str]:
        by_seed = part.groupby("seed")[["best", "last"]].mean()
        if (by_seed == 0).any(axis=None):  # as where all test images are easy
            return "no ratio: of a seed the accuracy does not depend on p", claims.UNDECIDED
        middle, low, high = np.exp(claims.t_interval(np.log(by_seed.best / by_seed["last"])))
        return f"ratio {middle:.3f} [{low:.3f}, {high:.3f}]", claims.decide(
            low, high, at_most=C8_RATIO
        )

    cases = [
        case(a, *ratio(part), bool(noisy[noisy.a == a].memorised.all()))
        for a, part in found.groupby("a")
    ]
    said, outcome = ratio(found) if cases else ("no clean rate has seeds enough", claims.UNDECIDED)
    if cases and not noisy.memorised.all():
        outcome = claims.UNDECIDED
    remark = (
        f"; what would decide it: {decider(noisy, cases)}" if outcome == claims.UNDECIDED else ""
    )
    rates = ", ".join(f"{a:g}" for a in sorted(set(noisy.a)))
    return Verdict(
        CLAIMS["C8"],
        where(table, HELD_OUT),
        f"over a = {rates or 'none'} together: {said}{remark}",
        outcome,
        tuple(cases),
    )


def two_minima(curves) -> dict[str, np.ndarray]:
    """How high the hump of an error curve stands above its end at p = 1, that end above the lowest
    point, and large p above small p.

    Where lowest points and hump lie is read off the other seeds' mean, so that no seed's noise
    chooses the place where it counts.

    Args: curves, pandas.DataFrame of errors, a row for each seed, a column for each p, on both
    sides of `C9_SMALL`, the last p = 1.

    Returns:
        small (lowest error between C9_SMALL and 1 minus the lowest up to C9_SMALL), end (error at p
        = 1 minus the lowest), hump (error at the hump minus that at p = 1) and at (p of the hump),
        float (seeds,).
    """
    values, split = curves.to_numpy(), int((curves.columns <= C9_SMALL).sum())
    found = {"small": [], "end": [], "hump": [], "at": []}
    for seed, curve in enumerate(values):
        others = np.delete(values, seed, axis=0).mean(0)
        low = int(others[:-1].argmin())
        top = low + int(others[low:-1].argmax())
        found["small"].append(
            curve[split + others[split:-1].argmin()] - curve[others[:split].argmin()]
        )
        found["end"].append(curve[-1] - curve[low])
        found["hump"].append(curve[top] - curve[-1])
        found["at"].append(curves.columns[top])
    return {name: np.array(differences) for name, differences in found.items()}


def verdict_c9(table) -> Verdict:
    """C9 at each clean rate up to the paper's that has four seeds or more: the three differences of
    `two_minima`.
    """
    cases = []
    found = learned(table)
    for a, part in found[found.a <= C9_UP_TO].groupby("a"):
        curves = part.pivot(index="seed", columns="p", values="test_error")
        if len(curves) < claims.MIN_SEEDS:
            continue
        if (
            curves.columns[0] > C9_SMALL
            or not ((curves.columns > C9_SMALL) & (curves.columns < 1)).any()
        ):
            cases.append(case(a, f"no kept masses on both sides of {C9_SMALL}", claims.UNDECIDED))
            continue
        differences = two_minima(curves)
        humps = " or ".join(f"{p:g}" for p in np.unique(differences.pop("at")))
        intervals = {name: claims.t_interval(100 * values) for name, values in differences.items()}
        small, end, hump = (
            f"{middle:+.2f} [{low:+.2f}, {high:+.2f}]" for middle, low, high in intervals.values()
        )
        (lowest,) = minima(part, "test_error").itertuples()
        said = (
            f"lowest at p = {lowest.argmin:.2f} [{lowest.low:.2f}, {lowest.high:.2f}], p above {C9_SMALL} above smaller p by {small} "
            f"points, p = 1 above the lowest by {end}, the hump at p = {humps} above p = 1 by {hump}"
        )
        outcome = claims.every(
            [claims.decide(*interval[1:], at_least=0.0) for interval in intervals.values()]
        )
        cases.append(case(a, said, outcome, bool(part.memorised.all())))
    return claims.over_cases(
        CLAIMS["C9"], where(table, HELD_OUT), cases, decider=decider(table, cases)
    )


def verdict_c10(table, p: float) -> Verdict:
    """C10 at one p of `C10_WEAK`: sign of the gain of weak smoothing at each clean rate with four
    seeds or more, last epoch.
    """
    place = f"{where(table, HELD_OUT)}, p = {p:g}"
    if p not in set(table.p):
        return Verdict(
            CLAIMS["C10"],
            place,
            f"{claims.NOT_TRAINED}; what would decide it: a grid with p = {p:g}",
            claims.UNDECIDED,
        )
    found = weak(table)
    cases, worst = [], (0.0, "")
    for a, part in found[(found.epoch == "last") & (found.p == p)].groupby("a"):
        if len(part) < claims.MIN_SEEDS:
            continue
        middle, low, high = claims.t_interval(100 * part.gain)
        worst = min(worst, (middle, f"the largest cost is {-middle:.1f} points at a = {a:g}"))
        outcome = (
            claims.decide(low, high, at_least=0.0)
            if a >= C10_FROM
            else claims.decide(low, high, at_most=0.0)
        )
        memorised = bool(table[(table.a == a) & table.p.isin([p, 1.0])].memorised.all())
        cases.append(case(a, f"{middle:+.2f} [{low:+.2f}, {high:+.2f}] points", outcome, memorised))
    return claims.over_cases(CLAIMS["C10"], place, cases, worst[1], decider(table, cases))


def verdicts(table) -> list[Verdict]:
    """C7 to C10 and C16, from `table`."""
    one_each = [verdict(table) for verdict in (verdict_c7, verdict_c16, verdict_c8, verdict_c9)]
    return [*one_each, *(verdict_c10(table, p) for p in C10_WEAK)]
