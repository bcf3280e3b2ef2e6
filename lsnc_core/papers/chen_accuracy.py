"""Chen, Ziyin et al. 2020: test accuracy beside test loss over the landscape (Figures 8 to 11, C7 to C10), and the quoted Table 1."""

import numpy as np

from lsnc_core.papers import claims
from lsnc_core.papers.chen_claims import C8_RATIO, C9_UP_TO, C10_FROM, CLAIMS
from lsnc_core.papers.chen_landscape import argmin_differences, case, decider, landscape_table, learned, minima, where
from lsnc_core.papers.claims import Verdict

HELD_OUT = "held-out images"
# Table 1 of the paper, quoted there from Szegedy et al. 2016, Vaswani et al. 2017 and Chorowski and Jaitly 2017; nothing of it is run here
QUOTED = (
    ("ImageNet", "Inception-V2", "top-1 error (%)", "23.1", "22.8"),
    ("ImageNet", "Inception-V2", "top-5 error (%)", "6.3", "6.1"),
    ("English to German", "Transformer", "BLEU", "25.3", "25.8"),
    ("WSJ", "BiLSTM with attention", "word error rate (%)", "8.9", "6.7"),
)
QUOTED_HEADER = ("data", "model", "measure", "without smoothing", "with smoothing")


def table(runs):
    """The landscape's table with errors and with what the best measured epoch gives.

    The best epoch is the one of highest test accuracy among those measured, chosen on the very images that it is reported on: an
    oracle, as in the paper, and flattering.

    Args: runs, the table of `lsnc_core.runs.results`.

    Returns:
        pandas.DataFrame as `landscape_table`, with test_error, best_accuracy, best_error (shares of the test images) and best_epoch.
    """
    found = landscape_table(runs)
    best = runs.loc[runs.groupby("run").test_accuracy.idxmax()].set_index("run").loc[found.run]
    found["test_error"] = 1 - found.test_accuracy
    found["best_accuracy"], found["best_epoch"] = best.test_accuracy.to_numpy(), best.epoch.to_numpy()
    found["best_error"] = 1 - found.best_accuracy
    return found


def weak(table):
    """Accuracy of the weakest smoothing of the grid minus that of none, paired by seed.

    Args: table, from `table`. Returns: pandas.DataFrame with epoch ("last" or "best"), a, seed, p (the weakest) and gain (share).
    """
    import pandas as pd

    p = table.p[table.p < 1].max()
    parts = []
    for epoch, column in (("last", "test_accuracy"), ("best", "best_accuracy")):
        with_, without = (table[table.p == value].set_index(["a", "seed"])[column] for value in (p, 1.0))
        parts.append((with_ - without).rename("gain").reset_index().assign(epoch=epoch, p=p))
    return pd.concat(parts, ignore_index=True)


def _noisy(table):
    """The rows with label noise: those of a < 1."""
    return table[table.a < 1]


def seen(table) -> str:
    """What Figure 8 shows, in numbers: the best p for the loss and for the accuracy, by clean rate."""
    both = minima(table, "test_loss").merge(minima(table, "test_error"), on="a", suffixes=("_loss", "_accuracy"))
    said = ", ".join(f"{row.argmin_loss:.2f} and {row.argmin_accuracy:.2f} at a = {row.a:g}" for row in both.itertuples())
    return f"the best p for the loss and for the accuracy: {said}. Intervals: bootstrap over seeds, never narrower than the grid."


def seen_spread(table) -> str:
    """What Figure 9 shows, in numbers: how far the accuracy varies over p at the last and at the best epoch, by clean rate."""
    found = spread(table).groupby("a")[["last", "best"]].mean() ** 0.5 * 100
    said = ", ".join(f"{row['last']:.1f} and {row.best:.1f} at a = {a:g}" for a, row in found.iterrows())
    shown = "a plus marks the best p of each a"
    return f"{shown}. Standard deviation of the accuracy over p, in points, at the last and at the best epoch: {said}."


def verdict_c7(table) -> Verdict:
    """C7: p of highest accuracy minus p of lowest loss, paired by seed; "most" means more than half of the clean rates below 1."""
    found = argmin_differences(_noisy(table), "test_error", "test_loss")
    cases = []
    for row in found.itertuples():
        said = f"difference {row.mean:+.3f} [{row.low:+.3f}, {row.high:+.3f}]"
        cases.append(case(row.a, said, claims.decide(row.low, row.high, at_most=0.0), row.memorised))
    outcome = most([each.outcome for each in cases])
    summed = claims.over_cases(CLAIMS["C7"], where(table, HELD_OUT), cases)
    remark = f"; what would decide it: {decider(table, cases)}" if outcome == claims.UNDECIDED else ""
    return Verdict(CLAIMS["C7"], summed.tried_on, summed.measured + remark, outcome, summed.cases)


def most(outcomes: list[str]) -> str:
    """The outcome of a claim about most of several cases: more than half of them.

    >>> most(["holds", "holds", "does not hold"]), most(["does not hold", "does not hold", "holds"]), most([])
    ('holds', 'does not hold', 'not decidable here')
    """
    if 2 * outcomes.count(claims.HOLDS) > len(outcomes):
        return claims.HOLDS
    # "most" is refuted when so many fail that half or fewer can hold
    return claims.FAILS if outcomes and 2 * outcomes.count(claims.FAILS) >= len(outcomes) else claims.UNDECIDED


def spread(table):
    """Variance over p of the accuracy at the best and at the last epoch, at each clean rate below 1 and seed, of the `learned` rows.

    Returns: pandas.DataFrame with a, seed, best, last (squared shares).
    """
    names = {"best_accuracy": "best", "test_accuracy": "last"}
    return _noisy(learned(table)).groupby(["a", "seed"])[list(names)].var().rename(columns=names).reset_index()


def verdict_c8(table) -> Verdict:
    """C8: ratio of the two variances of `spread`, on the log scale over seeds: of their means over the clean rates, and at each."""
    noisy = _noisy(table)
    noisy = noisy[noisy.groupby("a").seed.transform("nunique") >= claims.MIN_SEEDS]
    found = spread(table)
    found = found[found.a.isin(noisy.a)]

    def ratio(part) -> tuple[str, str]:
        by_seed = part.groupby("seed")[["best", "last"]].mean()
        if (by_seed == 0).any(axis=None):  # as where all test images are easy
            return "no ratio: of a seed the accuracy does not depend on p", claims.UNDECIDED
        middle, low, high = np.exp(claims.t_interval(np.log(by_seed.best / by_seed["last"])))
        return f"ratio {middle:.3f} [{low:.3f}, {high:.3f}]", claims.decide(low, high, at_most=C8_RATIO)

    cases = [case(a, *ratio(part), bool(noisy[noisy.a == a].memorised.all())) for a, part in found.groupby("a")]
    said, outcome = ratio(found) if cases else ("no clean rate has seeds enough", claims.UNDECIDED)
    if cases and not noisy.memorised.all():
        outcome = claims.UNDECIDED
    remark = f"; what would decide it: {decider(noisy, cases)}" if outcome == claims.UNDECIDED else ""
    rates = ", ".join(f"{a:g}" for a in sorted(set(noisy.a)))
    return Verdict(CLAIMS["C8"], where(table, HELD_OUT), f"over a = {rates or 'none'} together: {said}{remark}", outcome, tuple(cases))


def two_minima(curves) -> dict[str, np.ndarray]:
    """How high the hump of an error curve stands above its end at p = 1, and that end above the lowest point, one value a seed.

    Where lowest point and hump lie is read off the other seeds' mean, so that no seed's noise chooses the place where it counts.

    Args: curves, pandas.DataFrame of errors, a row for each seed, a column for each p, the last p = 1.

    Returns:
        end (error at p = 1 minus the lowest) and hump (error at the hump minus that at p = 1), float (seeds,).
    """
    values = curves.to_numpy()
    found = {"end": [], "hump": []}
    for seed, curve in enumerate(values):
        others = np.delete(values, seed, axis=0).mean(0)
        low = int(others[:-1].argmin())
        top = low + int(others[low:-1].argmax())
        found["end"].append(curve[-1] - curve[low])
        found["hump"].append(curve[top] - curve[-1])
    return {name: np.array(differences) for name, differences in found.items()}


def verdict_c9(table) -> Verdict:
    """C9 at each clean rate up to the paper's that has four seeds or more."""
    cases = []
    found = learned(table)
    for a, part in found[found.a <= C9_UP_TO].groupby("a"):
        curves = part.pivot(index="seed", columns="p", values="test_error")
        if len(curves) < claims.MIN_SEEDS:
            continue
        intervals = {name: claims.t_interval(100 * values) for name, values in two_minima(curves).items()}
        outcome = claims.every([claims.decide(*interval[1:], at_least=0.0) for interval in intervals.values()])
        (end, *end_in), (hump, *hump_in) = intervals["end"], intervals["hump"]
        said = (
            f"p = 1 above the lowest by {end:+.2f} [{end_in[0]:+.2f}, {end_in[1]:+.2f}] points, "
            f"the hump above p = 1 by {hump:+.2f} [{hump_in[0]:+.2f}, {hump_in[1]:+.2f}]"
        )
        cases.append(case(a, said, outcome, bool(part.memorised.all())))
    return claims.over_cases(CLAIMS["C9"], where(table, HELD_OUT), cases, decider=decider(table, cases))


def verdict_c10(table) -> Verdict:
    """C10: sign of the gain of weak smoothing at each clean rate with four seeds or more, last epoch."""
    found = weak(table)
    cases, worst = [], (0.0, "")
    for a, part in found[found.epoch == "last"].groupby("a"):
        if len(part) < claims.MIN_SEEDS:
            continue
        middle, low, high = claims.t_interval(100 * part.gain)
        worst = min(worst, (middle, f"; the largest cost is {-middle:.1f} points at a = {a:g}"))
        outcome = claims.decide(low, high, at_least=0.0) if a >= C10_FROM else claims.decide(low, high, at_most=0.0)
        memorised = bool(table[(table.a == a) & table.p.isin([found.p.iloc[0], 1.0])].memorised.all())
        cases.append(case(a, f"{middle:+.2f} [{low:+.2f}, {high:+.2f}] points", outcome, memorised))
    remark = f"weak smoothing is p = {found.p.iloc[0]:g}{worst[1]}"
    return claims.over_cases(CLAIMS["C10"], where(table, HELD_OUT), cases, remark, decider(table, cases))
