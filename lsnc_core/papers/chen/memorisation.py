"""Test error over p at equal memorisation: every network at the epoch at which it fits the same
share of its noisy training labels. No paper has it.

Networks with a small kept mass p learn their labels later. So at the last epoch, p and how much a
network has memorised are confounded: accuracy may ask for a small p only because there least is
memorised. a is the clean rate of the training labels.
"""

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from lsnc_core.claims import OURS, Claim, Premise, Verdict, decides
from lsnc_core.papers.chen.cases import difference_cases
from lsnc_core.papers.chen.drawing import KEPT, label_landscape, slice_title
from lsnc_core.papers.chen.grid import landscape_table, learned, noisy, place
from lsnc_core.papers.chen.minima import find_minima
from lsnc_core.papers.chen.premises import FINER, RATES_FROM, settings_of
from lsnc_core.show import Drawing, figure, style
from lsnc_core.show.panels import draw_legend, draw_points, make_panels

if TYPE_CHECKING:
    import pandas as pd

FITTED = (0.8, 0.9, 0.99)  # shares of the noisy training labels
COMPARED = 0.9  # the share of claim C19
COLUMNS = 3  # panels beside each other


def memorisation_table(runs: "pd.DataFrame") -> "pd.DataFrame":
    """Test error and loss of every network when it first fits each share of its noisy labels.

    Between two measured epochs, errors, losses and the share are taken to be linear in the
    logarithm of the epoch.

    Args:
        runs: the table of `lsnc_core.runs.results`.

    Returns:
        pandas.DataFrame as `landscape_table` for the p that teach the label, a row for each share,
        with fitted (the share), test_error and test_loss at that epoch; NaN where a network does
        not get there.
    """
    import pandas as pd

    ends, rows = learned(landscape_table(runs)), []
    for run, epochs in runs[runs.run.isin(ends.run)].groupby("run"):
        epochs = epochs.sort_values("epoch")
        reached = np.maximum.accumulate(epochs.train_accuracy.to_numpy())
        for share in FITTED:
            at = first_crossing(np.log(epochs.epoch.to_numpy()), reached, share)
            row: dict[str, object] = {"run": run, "fitted": share}
            for name, values in (
                ("test_error", 1 - epochs.test_accuracy),
                ("test_loss", epochs.test_loss),
            ):
                row[name] = np.interp(at, np.log(epochs.epoch), values) if at == at else np.nan
            rows.append(row)
    return ends.drop(columns="test_loss").merge(pd.DataFrame(rows), on="run")


def first_crossing(x: np.ndarray, y: np.ndarray, level: float) -> float:
    """Where a curve that does not fall first reaches a level, linear between its points.

    Args: x, y, float (points,), increasing and not falling; level.

    Returns: the first x at most; NaN where the curve stays below.

    >>> first_crossing(np.array([0.0, 1.0, 2.0]), np.array([0.25, 0.5, 1.0]), 0.75)
    1.5
    """
    at = int(np.searchsorted(y, level))
    if at == len(y):
        return float("nan")
    if at == 0:
        return float(x[0])
    return float(np.interp(level, y[at - 1 : at + 1], x[at - 1 : at + 1]))


@figure(
    "chen-equal-memorisation",
    title="Test error against kept mass at equal memorisation",
    paper="no such figure.",
    alt="Test error against kept mass, a panel for each clean rate: a line for the last epoch and "
    "one for each share of the noisy training labels that the networks fit.",
)
def draw_equal_memorisation(table: "pd.DataFrame", ends: "pd.DataFrame") -> Drawing:
    """Test error against p at the last epoch and when each share of noisy labels is first fitted.

    Args: table, from `memorisation_table`; ends, from `accuracy_table`, of the same networks.
    """
    noise = noisy(table[table.a >= RATES_FROM])
    rates = sorted(set(noise.a))
    drawing, panels = make_panels(len(rates), COLUMNS, height=2.5, sharex=True, sharey=True)
    lines = [("last epoch", learned(ends))]
    lines += [(f"{share:.0%} fitted", noise[noise.fitted == share]) for share in FITTED]
    for panel, a in zip(panels, rates, strict=True):
        for number, (label, part) in enumerate(lines):
            curves = part[part.a == a].pivot(index="seed", columns="p", values="test_error")
            colour = style.INK if number == 0 else style.ordered(len(FITTED) + 1)[number]
            look = {"color": colour, "marker": style.SHAPES[number], "ls": style.DASHES[number]}
            draw_points(panel, curves, label=label, lw=1.2, **look)
        panel.set(title=slice_title(noise, a), ylim=(0, None))
    for number, panel in enumerate(panels):
        panel.set(xlabel=KEPT, ylabel="test error")
        panel.label_outer()
        if number + COLUMNS >= len(panels):  # the lowest of its column, in whatever row
            panel.set(xlabel=KEPT)
            panel.tick_params(labelbottom=True)
    drawing.suptitle(label_landscape(noise))
    draw_legend(drawing, panels[:1], columns=4)
    caption = (
        f"{describe_flatness(noise, learned(ends))} Where the coloured curves are flat, the "
        "minimum of the black one comes from how much was memorised. A mark is missing where a "
        "seed never fits so many labels. "
        f"{_describe_best(noise, learned(ends))}"
    )
    return Drawing(drawing, caption, table)


def describe_flatness(table: "pd.DataFrame", ends: "pd.DataFrame") -> str:
    """At how many clean rates the mean test error depends less on p at equal memorisation, in a
    sentence; only p at which all networks fit the share count.

    Args: as for `draw_equal_memorisation`, of the p that teach the label.
    """
    flatter: list[bool] = []
    for a in sorted(set(table.a)):
        ranges = []
        fitted = table[(table.a == a) & (table.fitted == COMPARED)]
        curves = fitted.pivot(index="seed", columns="p", values="test_error").dropna(axis=1)
        last = ends[ends.a == a].pivot(index="seed", columns="p", values="test_error")
        for errors in (curves, last[curves.columns]):
            means = errors.mean()
            ranges.append(means.max() - means.min())
        if len(curves.columns):
            flatter.append(bool(ranges[0] < ranges[1]))
    if not flatter:
        return f"At no p all networks fit {COMPARED:.0%} of their noisy labels."
    less, others = flatter.count(True), flatter.count(False)
    word, count = ("less", less) if less > others else ("no less", others)
    return (
        f"At {count} of {len(flatter)} clean rates the mean test error varies {word} over p where "
        f"{COMPARED:.0%} of the noisy labels are fitted than at the last epoch."
    )


def _describe_best(table: "pd.DataFrame", ends: "pd.DataFrame") -> str:
    """The p of lowest error at the last epoch and at equal memorisation, in a sentence."""
    phrases = []
    for a, part in table.groupby("a"):
        lowest = [find_minima(ends[ends.a == a], "test_error").argmin.iloc[0]]
        for share in FITTED:
            rows = part[part.fitted == share]
            lowest.append(find_minima(rows, "test_error").argmin.iloc[0])
        phrases.append(f"{', '.join(map(_place, lowest))} at a = {a:g}")
    shares = ", ".join(f"{share:.0%}" for share in FITTED)
    return (
        f"The p of lowest error at the last epoch and when {shares} of the noisy labels are "
        f"fitted: {'; '.join(phrases)}."
    )


def _place(p: float) -> str:
    """The p of a minimum in a sentence; a dash where none was found."""
    return "–" if math.isnan(p) else f"{p:.2f}"


@decides(
    Claim(
        "C19",
        paper=OURS,
        place="beside Chen's section 6.1: whether C7 survives equal memorisation",
        sentence="At equal memorisation, too, the p that is best for the test accuracy is smaller "
        "than the one that is best for the test loss, for most clean rates.",
        expected=f"where {COMPARED:.0%} of the noisy training labels are fitted: p of highest "
        "accuracy − p of lowest loss below 0, for more than half of the clean rates from "
        f"{RATES_FROM} to below 1",
        changed="It was added after the first results.",
    )
)
def decide_c19(claim: Claim, table: "pd.DataFrame") -> Verdict:
    """C19: p of highest accuracy minus p of lowest loss at equal memorisation.

    Args: table, from `memorisation_table`.
    """
    part = noisy(table[table.fitted == COMPARED])
    got_there = float(part.test_error[part.a >= RATES_FROM].notna().mean())
    premise = Premise(
        "share of networks that fit so many labels", got_there, at_least=1.0, form=".0%"
    )
    cases = difference_cases(
        part, ("test_error", "test_loss"), "p of accuracy − p of loss", paired=True, at_most=0.0
    )
    return Verdict(
        claim,
        f"{place(table, 'held-out images')}, {COMPARED:.0%} of the noisy labels fitted",
        # the epoch is chosen by what is fitted, so that the last one need not have memorised
        [replace(case, premises=()) for case in cases],
        rule="most",
        **settings_of(table, decider=FINER) | {"premises": [premise]},
    )
