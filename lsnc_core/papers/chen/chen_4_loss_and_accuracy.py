"""Chen, Ziyin et al. 2020, section 6.1, appendices A and B: the smoothing of lowest test loss is
not that of highest test accuracy.

Figures 8 to 11 and Table 1, which is quoted; C7 to C10, C16 and C19. Expected: the accuracy asks
for a much smaller kept mass than the loss, and the error has two minima. All networks are the
landscape's, test labels are clean.

a is the clean rate of the training labels, p the kept mass of the smoothed label, M the number of
classes. The best epoch is an oracle's, see `lsnc_core.papers.chen.accuracy`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lsnc_core import claims
from lsnc_core.claims import Case, Claim, Verdict, decides
from lsnc_core.notebook import convert
from lsnc_core.papers.chen import PAPER
from lsnc_core.papers.chen.accuracy import (
    accuracy_table,
    gain_table,
)
from lsnc_core.papers.chen.accuracy_claims import (
    C10_FROM,
    C10_WEAK,
    HELD_OUT,
    PREMISES_ADDED,
    about,
    decide_c8,
    decide_c9,
    decide_c10,
)
from lsnc_core.papers.chen.cases import difference_cases
from lsnc_core.papers.chen.drawing import (
    CLEAN_RATE,
    KEPT,
    cell_position,
    check_rates,
    draw_heat,
    draw_minima,
    label_landscape,
    loss_ceiling,
    mean_grid,
)
from lsnc_core.papers.chen.grid import (
    LEARNS_FROM,
    learned,
    noisy,
    place,
    rate_name,
    with_seeds,
)
from lsnc_core.papers.chen.memorisation import decide_c19, memorisation_table
from lsnc_core.papers.chen.memorisation import draw_equal_memorisation as draw_equal_memorisation
from lsnc_core.papers.chen.minima import argmin_slope, find_minima
from lsnc_core.papers.chen.networks import plan_landscape
from lsnc_core.papers.chen.premises import (
    FINER,
    RATES_FROM,
    case_premises,
)
from lsnc_core.papers.page import Page
from lsnc_core.show import Drawing, Table, Verdicts, figure, style
from lsnc_core.show.panels import draw_legend, draw_points, make_panels

if TYPE_CHECKING:
    import pandas as pd

    from lsnc_core.runs.spec import RunSpec

PAGE = Page(
    title="Lowest loss is not highest accuracy",
    section="6.1, A, B",
    shows="Table 1, quoted",
    minutes={"quick": 0.1},
)


# ---- runs


def plan_runs(profile: str, data_set: str = "") -> "list[RunSpec]":
    """The networks of the a-p landscape; args and raises as `plan_landscape`."""
    return plan_landscape(profile, data_set)


# ---- tables


class Tables(NamedTuple):
    """What the notebook shows.

    Attributes:
        ends: from `accuracy_table`.
        memorisation: from `memorisation_table`.
    """

    ends: "pd.DataFrame"
    memorisation: "pd.DataFrame"


def load(profile: str, device: str = "auto", data_set: str = "") -> Tables:
    """The notebook's tables; networks that the store lacks are trained."""
    from lsnc_core import runs

    results = runs.results(plan_runs(profile, data_set), device)
    return Tables(accuracy_table(results), memorisation_table(results))


# ---- figures

# Table 1 of the paper, quoted there from Szegedy et al. 2016, Vaswani et al. 2017 and Chorowski and
# Jaitly 2017; none of it is computed here.
QUOTED = (
    ("ImageNet", "Inception-V2", "top-1 error (%)", "23.1", "22.8"),
    ("ImageNet", "Inception-V2", "top-5 error (%)", "6.3", "6.1"),
    ("English to German", "Transformer", "BLEU", "25.3", "25.8"),
    ("WSJ", "BiLSTM with attention", "word error rate (%)", "8.9", "6.7"),
)
QUOTED_HEADER = ("data", "model", "measure", "without smoothing", "with smoothing")


def show_table_1() -> Table:
    """Table 1, quoted."""
    return Table(QUOTED_HEADER, QUOTED)


@figure(
    "chen-figure-8",
    number="Figure 8",
    title="Chen, Figure 8",
    paper="MNIST: the p of lowest test loss and the p of highest test accuracy against the clean "
    "rate. Both rise with a but lie far apart; accuracy asks for the smaller p, stronger "
    "smoothing.",
    alt="Best kept mass against clean rate, one line for the lowest loss and one for the highest "
    "accuracy, with intervals over seeds.",
)
def draw_figure_8(table: "pd.DataFrame") -> Drawing:
    """The p of lowest test loss and the p of highest test accuracy, against a.

    Args: table, from `accuracy_table`.
    """
    import matplotlib.pyplot as plt

    drawing, axes = plt.subplots(figsize=(5.8, 4.2), layout="constrained")
    axes.plot([0, 1], [0, 1], color=style.SOFT, lw=1, ls=":", label="p = a")
    lowest = find_minima(table, "test_loss")
    highest = find_minima(learned(table), "test_error")
    lines = (lowest, "lowest test loss"), (highest, "highest test accuracy, last epoch")
    for number, (minima, label) in enumerate(lines):
        look = style.series(number) | {"label": label}
        draw_minima(axes, minima, shift=0.004 * (2 * number - 1), **look)
    axes.set(xlabel=CLEAN_RATE, ylabel=KEPT, xlim=(table.a.min() - 0.05, 1.02), ylim=(0, 1.04))
    draw_legend(drawing, [axes], columns=2)
    axes.set_title(label_landscape(table))

    both = lowest.merge(highest, on="a", suffixes=("_loss", "_accuracy"))
    smaller = int((both.argmin_accuracy < both.argmin_loss).sum())
    places = ", ".join(
        f"{row.argmin_loss:.2f} and {row.argmin_accuracy:.2f} at a = {row.a:g}"
        for row in both.itertuples()
    )
    caption = (
        f"The p of the highest mean accuracy is below that of the lowest loss at {smaller} of "
        f"{len(both)} clean rates. Best p of the mean loss and of the mean accuracy: {places}; the "
        "verdict takes both seed by seed, and where the accuracy is flat its best p differs widely "
        "between seeds. Intervals: from slopes and resamples of the seeds, never narrower than the "
        "grid."
    )
    return Drawing(drawing, caption, table)


@figure(
    "chen-figure-9",
    number="Figure 9",
    title="Chen, Figure 9 (a, b, c)",
    paper="MNIST, over (a, p): test loss with each a's minimum (a), test accuracy with each a's "
    "maximum (b), and accuracy with early stopping at the best epoch (c), where the best p is "
    "scattered and so said not to matter.",
    alt="Three heat maps over clean rate and kept mass: test loss, accuracy at the last epoch, "
    "accuracy at the best epoch, each with a plus at the best kept mass of every clean rate.",
)
def draw_figure_9(table: "pd.DataFrame") -> Drawing:
    """Test loss, accuracy at the last epoch and at the best, over (a, p), each a's best p marked.

    Args: table, from `accuracy_table`.
    """
    drawing, panels = make_panels(3, 3, height=4.2, sharey=True)
    teaching = learned(table)
    grids = [mean_grid(teaching, column) for column in ("test_accuracy", "best_accuracy")]
    least = min(grid.min(axis=None) for grid in grids)
    # one scale for both accuracies, from the tenth below the lowest of the p that teach
    accuracy = {"cmap": style.ACCURACY_MAP, "vmin": np.floor(least * 10) / 10, "vmax": 1.0}
    loss = {"cmap": style.LOSS_MAP, "vmin": 0, "vmax": loss_ceiling(table)}
    panes = (
        ("test_loss", "test_loss", "a: test loss"),
        ("test_accuracy", "test_error", "b: accuracy, last epoch"),
        ("best_accuracy", "best_error", "c: accuracy, best (oracle)"),
    )
    for panel, (column, minimised, title) in zip(panels, panes, strict=True):
        of_loss = column == "test_loss"
        grid = mean_grid(table, column)
        image = draw_heat(panel, grid, **(loss if of_loss else accuracy))
        minima = find_minima(table if of_loss else teaching, minimised)
        rows = cell_position(grid.index.to_numpy(), minima.argmin)
        # white with a black rim is seen on the dark and on the light half of either scale
        mark = {"color": style.PAPER, "mec": style.INK, "ms": 9, "mew": 1}
        panel.plot(np.arange(len(minima)), rows, "P", **mark)
        panel.set_title(title)
        bar = ("max", "nats") if of_loss else ("min", "share of test images")
        drawing.colorbar(image, ax=panel, extend=bar[0], label=bar[1], location="bottom")
    panels[0].set_ylabel(KEPT)
    drawing.suptitle(label_landscape(table))

    names = ["test_accuracy", "best_accuracy"]
    deviation = noisy(teaching).groupby(["a", "seed"])[names].std().groupby("a").mean()
    less = deviation.best_accuracy < deviation.test_accuracy
    word, count = ("less", less.sum()) if less.mean() > 0.5 else ("no less", (~less).sum())
    numbers = ", ".join(
        f"{100 * row.test_accuracy:.1f} and {100 * row.best_accuracy:.1f} at a = {row.Index:g}"
        for row in deviation.itertuples()
    )
    caption = (
        f"At {count} of {len(deviation)} clean rates below 1 the accuracy varies {word} over p at "
        "the best epoch than at the last. A plus marks the best p of each a. "
        "Standard deviation of the accuracy over p, in points, at the last and at the best epoch: "
        f"{numbers}."
    )
    return Drawing(drawing, caption, table)


@figure(
    "chen-figure-10",
    number="Figure 10",
    title="Chen, Figure 10",
    paper="MNIST: test error against p at several clean rates. For a up to 0.85 it has two minima, "
    "the lowest at a small p and a local one at p = 1, at the end of a wide plateau.",
    alt="Test error against kept mass, a line for each clean rate.",
)
def draw_figure_10(table: "pd.DataFrame", rates: Sequence[float] = ()) -> Drawing:
    """Test error at the last epoch against p.

    Args: table, from `accuracy_table`; rates, clean rates, empty for all below 1.
    Raises: UsageError for a clean rate that the table does not have.
    """
    import matplotlib.pyplot as plt

    rates = convert(rates, [], "rates") or sorted(set(noisy(table).a))
    rates = check_rates(table, rates)
    teaching = learned(table)
    drawing, axes = plt.subplots(figsize=(6.6, 4.6), layout="constrained")
    for number, a in enumerate(rates):
        curves = teaching[teaching.a == a].pivot(index="seed", columns="p", values="test_error")
        look = {"color": style.ordered(len(rates))[number], "marker": style.SHAPES[number % 8]}
        draw_points(axes, curves, label=rate_name(a), lw=1.2, **look)
    axes.set(xlabel=KEPT, ylabel="test error, last epoch (share of images)", ylim=(0, None))
    axes.set_title(label_landscape(table[table.a.isin(rates)]))
    draw_legend(drawing, [axes], columns=4)
    caption = (
        f"{describe_errors(teaching[teaching.a.isin(rates)])} A curve with two minima falls "
        "towards both ends of the axis. Means over seeds with 95 % t-intervals where there are "
        "four seeds, at the last epoch, for p from 0.2 on. Whether a curve falls towards p = 1 and "
        "is lower still at a small p is decided below, paired by seed."
    )
    return Drawing(drawing, caption, table[table.a.isin(rates)])


def describe_errors(table: "pd.DataFrame") -> str:
    """At how many clean rates the mean test error is lowest at the smallest p, in a sentence.

    Args: table, from `accuracy_table`, of the p that teach the label.
    """
    means = mean_grid(table, "test_error")  # (p, a)
    smallest = int((means.idxmin() == means.index.min()).sum())
    return (
        f"At {smallest} of {len(means.columns)} clean rates the mean test error is lowest at the "
        "smallest p drawn."
    )


@figure(
    "chen-figure-11",
    number="Figure 11",
    title="Chen, Figure 11",
    paper="MNIST: accuracy with weak smoothing minus that without, against the clean rate. It "
    "helps only for a from about 0.9 on; with more noise it hurts, by up to 8 points.",
    alt="Accuracy gained by weak smoothing, in points, against clean rate, for the last and for "
    "the best epoch, with intervals over seeds.",
)
def draw_figure_11(table: "pd.DataFrame") -> Drawing:
    """Accuracy with weak smoothing minus that without, against a, at the last and the best epoch.

    Args: table, from `accuracy_table`.
    """
    import matplotlib.pyplot as plt

    gains = gain_table(table, C10_WEAK)
    drawing, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    axes.axhline(0, color=style.SOFT, lw=0.8)
    kept = sorted(set(gains.p))
    for number, ((p, epoch), part) in enumerate(gains.groupby(["p", "epoch"], sort=False)):
        curves = 100 * part.pivot(index="seed", columns="a", values="gain")
        curves.columns = curves.columns + 0.006 * number  # side by side
        look = {"color": style.strength(1 - p), "marker": style.SHAPES[kept.index(p)]}
        look |= {"ls": "-"} if epoch == "last" else {"ls": ":", "mfc": style.PAPER}
        draw_points(axes, curves, **look, label=f"p = {p:g}, {epoch} epoch")
    axes.axvline(C10_FROM, color=style.SOFT, lw=0.8, ls=":", label="claimed: helps from here on")
    axes.set(xlabel=CLEAN_RATE, ylabel="accuracy minus that at p = 1 (points)")
    axes.set_title(label_landscape(table))
    draw_legend(drawing, [axes], columns=3)
    caption = (
        f"At the last epoch weak smoothing changes the accuracy by {_describe_gains(gains)}. "
        "Differences are paired by seed: same first weights, same noisy labels, same order. The "
        "claim is about the last epoch; the best one stands beside it. Where the grid has neither "
        "p = 0.95 nor 0.9, its weakest smoothing is drawn and C10 stays open."
    )
    return Drawing(drawing, caption, gains)


def _describe_gains(gains: "pd.DataFrame") -> str:
    """Between which means over seeds the gains of the last epoch lie, by p, in points."""
    last = gains[gains.epoch == "last"]
    means = 100 * last.groupby(["p", "a"]).gain.mean()
    parts = [
        f"{part.min():+.1f} to {part.max():+.1f} points (p = {p:g})"
        for p, part in means.groupby("p")
    ]
    return ", ".join(parts)


# ---- claims


@decides(
    Claim(
        "C7",
        paper=PAPER.name,
        place="section 6.1, Figure 8, and appendix A, Figure 9",
        sentence="The p that is best for the test accuracy is not the one that is best for the "
        "test loss; it is smaller, for most clean rates.",
        expected=f"p of highest accuracy, from {LEARNS_FROM} on, − p of lowest loss below 0, for "
        f"more than half of the clean rates from {RATES_FROM} to below 1",
        changed="The place of a minimum is fitted by slopes over log p/(1−p) and no longer by a "
        "parabola in p, and a paired difference is never finer than the grid where a minimum is a "
        "bare grid point. "
        f"Accuracies count from p = {LEARNS_FROM} on, because at 1/M nothing is learned. "
        f"{PREMISES_ADDED}",
    )
)
def decide_c7(claim: Claim, table: "pd.DataFrame") -> Verdict:
    """C7: p of highest accuracy minus p of lowest loss at each clean rate below 1.

    Args: table, from `accuracy_table`.
    """
    with_noise = noisy(table)
    teaching, columns = noisy(learned(table)), ("test_error", "test_loss")
    quantity = "p of accuracy − p of loss"
    cases = difference_cases(teaching, columns, quantity, with_noise, paired=True, at_most=0.0)
    return Verdict(claim, place(table, HELD_OUT), cases, rule="most", **about(table, FINER))


@decides(
    Claim(
        "C16",
        paper=PAPER.name,
        place="section 6.1, Figure 8",
        sentence="The p of lowest test loss and the p of highest test accuracy both rise with the "
        "clean rate.",
        expected=f"slope of either p over the clean rates from {RATES_FROM} to below 1 above 0, "
        f"that of highest accuracy taken from p = {LEARNS_FROM} on",
        changed=f"The claim was added after the first results. {PREMISES_ADDED}",
    )
)
def decide_c16(claim: Claim, table: "pd.DataFrame") -> Verdict:
    """C16: slope over the clean rates below 1 of either best p."""
    with_noise, teaching = (
        with_seeds(noisy(rows[rows.a >= RATES_FROM])) for rows in (table, learned(table))
    )
    tried_on, rates, cases = place(table, HELD_OUT), sorted(set(with_noise.a)), []
    if len(rates) < 2:
        few = f"fewer than {claims.MIN_SEEDS} seeds at two clean rates from {RATES_FROM} to below 1"
        return Verdict(claim, tried_on, remark=few, **about(table, FINER))
    for name, rows, column in (
        ("lowest loss", with_noise, "test_loss"),
        ("highest accuracy", teaching, "test_error"),
    ):

        def interval(level: float, rows=rows, column=column) -> tuple[float, float, float]:
            # a least-squares line for each seed: its slope is one value per seed
            return argmin_slope(rows, column, level)

        settings = {"at_least": 0.0, "form": "+.3f", "premises": case_premises(rows, column)}
        cases.append(Case.measured(name, "slope of the best p over a", interval, **settings))
    remark = f"slopes of the best p over a = {', '.join(f'{a:g}' for a in rates)}"
    return Verdict(claim, tried_on, cases, remark, **about(table, FINER))


def verdicts(tables: Tables) -> Verdicts:
    """C7 to C10, C16 and C19."""
    answers = [decide(tables.ends) for decide in (decide_c7, decide_c16, decide_c8, decide_c9)]
    answers += [decide_c10(tables.ends, p) for p in C10_WEAK]
    return Verdicts([*answers, decide_c19(tables.memorisation)])
