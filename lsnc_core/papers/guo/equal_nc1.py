"""Guo et al. 2025, F2: NC2 with and without smoothing where NC1 is equal; its panels, and G4."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lsnc_core.claims import Case, Claim, Premise, Scale, Verdict, decides, seed_case
from lsnc_core.papers.guo import PAPER, SMOOTHED
from lsnc_core.papers.guo.convergence import axis_of, compare_nc2, first_passages, nc1_range
from lsnc_core.papers.guo.drawing import count_seeds, make_rows, styled_losses, titled_groups
from lsnc_core.papers.guo.measured import (
    ERROR_REACHED,
    describe_ranges,
    has_learned,
    main_pair,
    place,
)
from lsnc_core.papers.guo.premises import check_reached
from lsnc_core.papers.guo.scale import describe_scale
from lsnc_core.show import Drawing, panels, style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

LEVELS = 8  # of NC1 that are matched
FAINT = "a network at a measured epoch"


def match_nc2(part: "pd.DataFrame", within: tuple[float, float]) -> "pd.DataFrame":
    """NC2 of every network at levels of NC1 that all networks have passed.

    Args:
        part: rows of cross-entropy and label smoothing on one image set, from
            `measured.main_pair`.
        within: between which values of NC1.

    Returns:
        pandas.DataFrame, one row per (level, network): nc1 (the level), seed, delta, arm and nc2,
        linear in log NC1 between two `first_passages`; without rows where the networks' NC1 do not
        overlap.
    """
    import pandas as pd

    runs = dict(list(part.groupby(["arm", "delta", "seed"], sort=False)))
    low, high = common_range(runs.values(), within)
    rows = []
    if low < high:
        # even in log NC1: each level of collapse weighs alike
        levels = np.geomspace(low, high, LEVELS)
        for (arm, delta, seed), run in runs.items():
            passed = first_passages(run)
            nc2 = np.interp(np.log(levels), np.log(passed.nc1), passed.nc2)
            columns = {"nc1": levels, "seed": seed, "delta": delta, "arm": arm, "nc2": nc2}
            rows.append(pd.DataFrame(columns))
    names = ["nc1", "seed", "delta", "arm", "nc2"]
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=names)


def common_range(
    runs: "Iterable[pd.DataFrame]", within: tuple[float, float]
) -> tuple[float, float]:
    """The least and the greatest NC1 that every run has passed within a range; without one, the
    first is not below the second.
    """
    passed = [first_passages(run).nc1 for run in runs]
    spans = [(nc1.min(), nc1.max()) for nc1 in passed]
    return max(within[0], *(low for low, _ in spans)), min(within[1], *(high for _, high in spans))


def subtract_nc2(matched: "pd.DataFrame") -> "pd.DataFrame":
    """NC2 with smoothing minus that without at each level, paired by seed.

    Args:
        matched: from `match_nc2`.

    Returns:
        pandas.DataFrame, a row for each seed, a column for each level of NC1.
    """
    wide = matched.pivot(index="seed", columns=["delta", "nc1"], values="nc2")
    both = {0.0, SMOOTHED} <= set(matched.delta)
    return (wide[SMOOTHED] - wide[0.0]).dropna() if both else wide.iloc[:0, :0]


def draw_equal_nc1(table: "pd.DataFrame") -> Drawing:
    """F2 for each image set, see `draw_matched`; args: table, from `measured.main_pair`."""
    import pandas as pd

    parts = titled_groups(table)
    drawn, sets = make_rows([title for title, _ in parts], 2, height=3)
    seen, below, levels = [], [], []
    for (left, right), (title, part) in zip(sets, parts, strict=True):
        matched = match_nc2(part, nc1_range(part.data.iloc[0]))
        draw_matched(left, right, part, matched)
        name = title.split(",")[0]
        short, full = describe_means(part)
        below.append(f"{count_below(matched)} on {name} ({short})")
        seen.append(f"{name}: {full}")
        keys = {"data": part.data.iloc[0], "weight_decay": part.weight_decay.iloc[0]}
        levels.append(matched.assign(**keys, matched=True))
        levels.append(tabulate_means(part).assign(**keys, matched=True))
    faint = ({"ls": "", "marker": "o", "ms": 3.5, "alpha": 0.3, "mew": 0}, FAINT)
    panels.draw_legend(drawn, [*sets[0]], columns=3, seeds=count_seeds(table), extra=[faint])
    caption = (
        f"At equal NC1 label smoothing has the smaller NC2 (right, below 0) {'; '.join(below)}. "
        f"Mean over log NC1 (G4), {'; '.join(seen)}. {describe_ranges(table)}."
    )
    return Drawing(drawn, caption, pd.concat([table.assign(matched=False), *levels]))


def tabulate_means(part: "pd.DataFrame") -> "pd.DataFrame":
    """The mean differences as lines: a row for each end of the range of NC1 that all networks have
    in common, none without one. Args: as in `match_nc2`.
    """
    import pandas as pd

    rows = []
    for mean in mean_differences(part):
        if mean.case.has_numbers and mean.low < mean.high:
            arm = f"LS − CE, mean over {mean.epochs}"
            ends = (mean.high, mean.low)
            rows += [{"arm": arm, "nc1": end, "nc2": mean.case.value} for end in ends]
    return pd.DataFrame(rows, columns=["arm", "nc1", "nc2"])


def draw_matched(
    left: "Axes", right: "Axes", part: "pd.DataFrame", matched: "pd.DataFrame"
) -> None:
    """NC2 against NC1 with the matched levels, and the differences at these.

    Args:
        left, right: the panels.
        part, matched: as in `match_nc2`, whose result is the second.
    """
    for name, run, look in styled_losses(part):
        mark = style.MARKS[style.method_key(name)]
        faint = {"ls": "", "marker": mark, "ms": 3.5, "alpha": 0.3, "mew": 0}
        left.plot(run.nc1, run.nc2, **look, **faint)
        here = matched[matched.arm == name]
        if len(here):  # none without an NC1 in common
            curves = here.pivot(index="seed", columns="nc1", values="nc2")
            panels.draw_band(left, curves, marker=mark, label=f"{name} at equal NC1", **look)
    for level in matched.nc1.unique():
        left.axvline(level, color=style.SOFT, lw=0.5, ls=":", zorder=0)
    left.set(xscale="log", xlabel="NC1 (collapse runs to the right)", ylabel="NC2", ylim=(0, None))
    right.axhline(0, color=style.SOFT, lw=0.9)
    if len(matched):
        look = {"fmt": "d", "color": style.INK, "label": "difference, paired by seed"}
        panels.draw_points(right, subtract_nc2(matched), **look)
    right.set(xscale="log", xlabel="NC1 (matched levels)", ylabel="NC2 of LS − NC2 of CE")
    lines = tabulate_means(part).groupby("arm", sort=False)
    for dashes, (arm, line) in zip(("--", "-"), lines, strict=False):
        look = {"ls": dashes, "color": style.SOFT, "lw": 1.5, "zorder": 0}
        right.plot(line.nc1, line.nc2, label=f"{arm} (G4)", **look)
    for panel in (left, right):
        panel.invert_xaxis()


def count_below(matched: "pd.DataFrame") -> str:
    """At how many levels of NC1, and between which, the mean difference of NC2 is below 0.

    Args: matched, from `match_nc2`.
    """
    means = subtract_nc2(matched).mean()
    span = f" from NC1 {matched.nc1.max():.2g} to {matched.nc1.min():.2g}" if len(means) else ""
    return f"at {int((means < 0).sum())} of {len(means)} levels{span}"


def describe_means(part: "pd.DataFrame") -> tuple[str, str]:
    """The mean differences of G4 in words, beside the paper's range of NC1, and with their
    intervals; args: part, as in `match_nc2`.
    """
    means, (low, high) = mean_differences(part), nc1_range(part.data.iloc[0])
    cases = [mean.case for mean in means]
    short = [f"{mean.case.value:+.3f} at {mean.epochs}" for mean in means if mean.case.has_numbers]
    short = [f"on average {' and '.join(short)}"] if short else []
    short.append(f"the paper's {axis_of(part.data.iloc[0])} goes from {high:g} to {low:g}")
    numbers = ", ".join(f"{case.numbers} at {case.name}" for case in cases)
    return "; ".join(short), f"{cases[0].quantity} {numbers}"


class MeanDifference(NamedTuple):
    """The mean of NC2(LS) - NC2(CE) over log NC1.

    Attributes:
        epochs: which ones, in words.
        low, high: the NC1 that all its networks have passed then; `low` is not below `high`
            without any.
        case: the mean, named by its epochs and its NC1.
    """

    epochs: str
    low: float
    high: float
    case: Case


def mean_differences(history: "pd.DataFrame") -> list[MeanDifference]:
    """The mean differences over all measured epochs and over those after learning.

    Args:
        history: networks of one image set, from `measured.fetch_history`.
    """
    learned = history[history.groupby("run").train_error.transform(has_learned)]
    within, means, after = nc1_range(history.data.iloc[0]), [], (check_reached(history),)
    common = f"share of pairs with an NC1 in common on the paper's {axis_of(history.data.iloc[0])},"
    common += f" {within[0]:g} to {within[1]:g}"
    for name, part, reached in (
        ("all epochs", history, ()),
        (f"epochs from {ERROR_REACHED:.0%} training error on", learned, after),
    ):
        runs = dict(list(main_pair(part).groupby(["delta", "seed"])))
        seeds = [seed for delta, seed in runs if delta == 0 and (SMOOTHED, seed) in runs]
        differences = [compare_nc2(runs[0.0, s], runs[SMOOTHED, s], within) for s in seeds]
        share = float(np.isfinite(differences).mean()) if seeds else np.nan
        low, high = common_range(runs.values(), within) if runs else (1.0, 0.0)
        where = f"{name} (NC1 {high:.2g} to {low:.2g})" if low < high else name
        premises = (*reached, Premise(common, share, at_least=1.0, form=".0%"))
        settings = {"at_most": 0.0, "form": "+.3f", "premises": premises}
        # one paired difference per seed: a t-interval of their mean
        case = seed_case(where, "NC2(LS) − NC2(CE)", differences, **settings)
        means.append(MeanDifference(name, low, high, case))
    return means


@decides(
    Claim(
        "G4",
        paper=PAPER.name,
        place="abstract; NC1 against NC2 (F2)",
        sentence="At the same level of NC1, label smoothing has the smaller NC2 (collapse of class "
        "means and classifier to a simplex).",
        expected="NC2(LS) − NC2(CE), mean over log NC1 where both networks have been and within "
        "the axes of F2 (CIFAR-10: NC1 from 5e-5 to 1), below 0: at all epochs, and at those after "
        f"learning (from a training error of {ERROR_REACHED:.0%} on)",
        changed="It is decided within the range of NC1 that the paper's axes have; at first it was "
        "wherever both networks have been. NC2 is read where NC1 first passes a level; at first "
        "epochs that came back to it counted, too.",
    )
)
def decide_g4(claim: Claim, history: "pd.DataFrame") -> Verdict:
    """G4: NC2 at equal NC1, over all measured epochs and over those after learning."""
    pair, within = main_pair(history), nc1_range(history.data.iloc[0])
    means = mean_differences(history)
    _, low, high, _ = means[0]
    here = f"{high:.2g} to {low:.2g}" if low < high else "none common to all networks"
    axis = f"the {axis_of(history.data.iloc[0])} of F2"
    span = Scale("range of NC1", here, f"{within[1]:g} to {within[0]:g}, {axis}")
    about = {"decider": "more seeds", "scale": [*describe_scale(pair), span]}
    return Verdict(claim, place(history), [mean.case for mean in means], **about)
