"""Guo et al. 2025: how fast the feature model collapses.

Figures: the rate of NC1 near the minimiser, training curves (F8, with F9's gap of the loss), NC2 at
equal NC1 (F2 in the model). Claims: G13, G15, G16. With smoothing NC1 contracts faster, by the
formula of G13; in training NC1 and NC2 fall sooner and NC3 later, and the order of NC2 at equal NC1
turns round where NC1 is very small. No networks.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lsnc_core.claims import OURS, Case, Claim, Verdict, decides, seed_case
from lsnc_core.papers.guo import PAPER, SMOOTHED
from lsnc_core.papers.guo.convergence import NC1_RANGE
from lsnc_core.papers.guo.descent import (
    METRICS,
    NC1_LEVELS,
    REACHED,
    START,
    compare_starts,
    first_below,
    measure_rates,
    nc2_table,
    run_curves,
    run_variants,
    run_without_decay,
    speed_table,
    summary_table,
)
from lsnc_core.papers.guo.descent_words import (
    count_sooner,
    describe_curves,
    describe_nc2,
    ratio_text,
)
from lsnc_core.papers.guo.drawing import STRENGTH
from lsnc_core.papers.guo.model import (
    MARKS,
    STRENGTHS,
    TRIED_ON,
    dynamics_model,
    label_strength,
)
from lsnc_core.papers.guo.play import explore_descent as explore_descent
from lsnc_core.papers.page import Page
from lsnc_core.show import Drawing, Table, Verdicts, figure, style
from lsnc_core.show.panels import draw_legend, draw_range, make_panels
from lsnc_core.theory import ufm_spectra

if TYPE_CHECKING:
    import pandas as pd

PAGE = Page(
    title="The speed of collapse in the feature model",
    section="Theorem 2",
    shows="F2 and F9 in the model, rate of NC1, momentum, 50 classes, no weight decay",
    minutes={"quick": 0.3},
)

# ---- tables


class Tables(NamedTuple):
    """What the page shows, as pandas tables: see the functions of these names."""

    rates: "pd.DataFrame"
    curves: "pd.DataFrame"  # of `run_curves`
    speeds: "pd.DataFrame"
    variants: "dict[str, pd.DataFrame]"
    undecayed: "pd.DataFrame"
    nc2: "pd.DataFrame"


def load(profile: str) -> Tables:
    """Everything that the page shows, computed in one profile.

    Raises:
        UsageError: for an unknown profile.
    """
    curves = run_curves(profile)
    speeds = speed_table(curves)
    variants = {"K = 10": speeds, **run_variants(profile)}
    undecayed = run_without_decay(profile)
    return Tables(measure_rates(), curves, speeds, variants, undecayed, nc2_table(curves))


def list_speeds(speeds: "pd.DataFrame") -> Table:
    """Iterations by level and strength, and their ratio to those without smoothing."""
    header = ["until", *(f"δ = {delta:g}" for delta in sorted(set(speeds.delta)))]
    rows = []
    for metric, level in REACHED:
        at = speeds[(speeds.metric == metric) & (speeds.level == level)].sort_values("delta")
        cells = [_iterations_text(row) + ratio_text(row) for row in at.itertuples()]
        rows.append([f"{METRICS[metric]} below {level:g}", *cells])
    return Table(header, rows)


def list_variants(tables: "Mapping[str, pd.DataFrame]") -> Table:
    """Iterations without → with smoothing and their ratio, by level and variant.

    Args:
        tables: tables of `speed_table` by name.
    """
    rows = []
    for metric, level in REACHED:
        cells = []
        for table in tables.values():
            at = table[(table.metric == metric) & (table.level == level)].set_index("delta")
            plain, smooth = at.loc[0.0], at.loc[SMOOTHED]
            taken = f"{_iterations_text(plain)} → {_iterations_text(smooth)}"
            cells.append(taken + ratio_text(smooth))
        rows.append([f"{METRICS[metric]} below {level:g}", *cells])
    return Table(["until", *tables], rows)


def list_without_decay(table: "pd.DataFrame") -> Table:
    """NC1 and NC2 half-way and at the end, medians over starts, by strength.

    Args:
        table: from `run_without_decay`.
    """
    half, end = table.iteration.min(), table.iteration.max()
    header = ["strength"]
    for name in ("NC1", "NC2"):
        header += [f"{name}, {half:,} iterations", f"{name}, {end:,} iterations"]
    medians = table.groupby(["delta", "iteration"])[["nc1", "nc2"]].median()
    rows = []
    for delta in sorted(set(table.delta)):
        early, late = medians.loc[delta, half], medians.loc[delta, end]
        nc1 = [f"{early.nc1:.1e}", f"{late.nc1:.1e}"]
        rows.append([f"{delta:g}", *nc1, f"{early.nc2:.2f}", f"{late.nc2:.2f}"])
    return Table(header, rows)


def _iterations_text(row) -> str:
    return f"{row.iterations:.0f}" if np.isfinite(row.iterations) else "not reached by all"


# ---- figures


@figure(
    "guo-nc1-rate",
    title="Rate at which NC1 contracts",
    paper="no such figure or formula known to us; derived in this project.",
    alt="Rate of NC1 in units of λ_H against smoothing strength for three models: "
    "predicted lines, measured marks.",
)
def draw_rates(table: "pd.DataFrame") -> Drawing:
    """The rate of NC1 in units of lambda_H: lines predicted, marks measured.

    Args:
        table: from `measure_rates`.
    """
    import matplotlib.pyplot as plt

    drawing, axes = plt.subplots(figsize=(5.6, 3.9), layout="constrained")
    models = table.groupby(["K", "eps"])
    for number, ((K, eps), part) in enumerate(models):
        colour, label = style.ordered(len(models))[number], rf"K = {K}, $\varepsilon$ = {eps:.2g}"
        axes.plot(part.delta, part.predicted, color=colour, ls=style.DASHES[number], lw=1.4)
        axes.plot(part.delta, part.measured, MARKS[number], color=colour, ms=5, label=label)
    axes.set(xlabel=STRENGTH, ylabel=r"rate of NC1, $e / \lambda_H$", yscale="log")
    axes.legend()
    caption = (
        "The measured rates (marks) lie on the formula (lines) and rise with smoothing. Marks: "
        "measured from gradient descent that starts a "
        f"little off the minimiser. Rate {describe_rates(table)}"
    )
    return Drawing(drawing, caption, table)


def describe_rates(table: "pd.DataFrame") -> str:
    """The factor that the paper's strength brings in each model, and how far the formula is off."""
    by = table.set_index(["K", "eps", "delta"]).measured.unstack("delta")
    factors = by[SMOOTHED] / by[0.0]
    parts = [f"{factor:.1f} (K = {K}, ε = {eps:.2g})" for (K, eps), factor in factors.items()]
    return (
        f"at δ = {SMOOTHED} divided by that at δ = 0, measured: {', '.join(parts)}; measured "
        f"slopes are off by {table.error.max():.2%} at most."
    )


@figure(
    "guo-model-curves",
    number="F8",
    title="Guo, curves of the feature model (F8, F9)",
    paper="F8: training error, NC1, NC2 and NC3 against the epoch of training of the feature "
    "model's kind, δ from 0 to 0.4; no direction known to us. F9, of deep networks: log(loss − "
    "lowest loss), steeper with smoothing.",
    alt="Five panels against iteration, one line per smoothing strength: loss gap, training error, "
    "NC1, NC2 and NC3.",
)
def draw_curves(curves: "pd.DataFrame", speeds: "pd.DataFrame") -> Drawing:
    """Training curves of the model, one panel per metric: median over starts, thin lines at the
    quartiles.

    Args:
        curves: from `run_curves`.
        speeds: from `speed_table`.
    """
    table = summary_table(curves)
    drawing, panels = make_panels(len(METRICS), 2, height=2.4)
    for panel, (metric, name) in zip(panels, METRICS.items(), strict=True):
        for number, (delta, part) in enumerate(table[table.metric == metric].groupby("delta")):
            look = {"color": style.strength(delta), "ls": style.DASHES[number]}
            panel.plot(part.iteration, part["median"], label=label_strength(delta), **look)
            draw_range(panel, part.iteration, part.low, part.high, color=look["color"])
        yscale = "linear" if metric == "error" else "log"
        panel.set(xlabel="iteration", ylabel=name, xscale="log", yscale=yscale)
    panels[0].set_ylim(bottom=1e-8)
    panels[2].set_ylim(bottom=1e-10)
    extra = [({"lw": 0.7}, "thin: quartiles over starts")]
    draw_legend(drawing, panels[:1], columns=3, extra=extra)
    caption = (
        f"{count_sooner(speeds)} The darker the orange the stronger the smoothing: a curve further "
        "to the left gets there sooner. Thick lines are medians over starts; "
        f"{describe_curves(curves, speeds)}"
    )
    return Drawing(drawing, caption, table)


@figure(
    "guo-nc2-at-nc1",
    title="NC2 at equal NC1, feature model (F2)",
    paper="networks' NC1 against NC2 over epochs: at equal NC1 the points of label smoothing lie "
    "at smaller NC2.",
    alt="NC2 against falling NC1 for cross-entropy and label smoothing, three panels by spread of "
    "the start; grey where smoothing is higher.",
)
def draw_nc2_at_nc1(table: "pd.DataFrame") -> Drawing:
    """NC2 against NC1 with and without smoothing, a panel for each spread of the starts; grey where
    NC2 is higher with smoothing by its interval over starts.

    Args:
        table: from `nc2_table`.
    """
    import matplotlib.pyplot as plt

    size = {"figsize": (style.WIDTH, 3.5), "sharey": True, "layout": "constrained"}
    drawing, panels = plt.subplots(1, table.spread.nunique(), **size)
    for panel, (spread, part) in zip(panels, table.groupby("spread"), strict=True):
        for number, (column, delta) in enumerate((("ce", 0.0), ("ls", SMOOTHED))):
            look = {"color": style.strength(delta), "ls": style.DASHES[number]}
            look["marker"] = MARKS[number]
            panel.plot(part.nc1, part[column], ms=5, label=label_strength(delta), **look)
        for row in part[part.low > 0].itertuples():
            panel.axvspan(row.nc1 / 2, row.nc1 * 2, color=style.SOFT, alpha=0.25, lw=0)
        title = f"spread {spread:g} of starts"
        panel.set(xscale="log", yscale="log", xlabel="NC1", title=title)
        panel.invert_xaxis()
    panels[0].set_ylabel("NC2 when NC1 passes")
    extra = [({"color": style.SOFT, "alpha": 0.25, "lw": 8}, "NC2 higher with smoothing, 95 %")]
    draw_legend(drawing, panels[:1], columns=3, extra=extra)
    usual = table[table.spread == START]
    caption = (
        f"At equal NC1 label smoothing has the lower NC2 at {(usual.high < 0).sum()} of "
        f"{len(usual)} levels, and the larger at {(usual.low > 0).sum()} (starts of spread "
        f"{START:g}). Grey: larger, the 95 % interval of the difference is above 0. Means over "
        f"starts; time runs to the right; {describe_nc2(table)}"
    )
    return Drawing(drawing, caption, table)


# ---- claims

DECIDER = "more iterations or starts"


@decides(
    Claim(
        "G15",
        PAPER.name,
        "abstract; training dynamics",
        "At the same level of NC1, label smoothing has the smaller NC2 (collapse of class means "
        "and classifier to a simplex).",
        f"NC2(δ = {SMOOTHED}) − NC2(0) below 0 at each level of NC1 that is tried from "
        f"{NC1_RANGE[1]:g} to {NC1_RANGE[0]:g}, the axis of F2 for CIFAR-10",
        changed="The level NC1 = 1e-6 was added and the iterations of quick were raised from 6,000 "
        "to 10,000, because the reversal lay beyond what the first trial reached. That decided the "
        "answer at levels below the paper's axis; they are a remark now. The model has eight "
        "samples of each class instead of two. The ends of the axis, 1 and 5e-5, became levels.",
    )
)
def decide_g15(claim: Claim, curves: "pd.DataFrame", table: "pd.DataFrame") -> Verdict:
    """NC2 at equal NC1, a case for each level, starts of the usual spread; levels below the paper's
    axis, and what other spreads give, are remarks.

    Args:
        curves: from `run_curves`.
        table: from `nc2_table`.
    """
    cases, beyond = [], []
    for level in NC1_LEVELS:
        plain, smooth = compare_starts(curves, START, level)
        inside = NC1_RANGE[0] <= level <= NC1_RANGE[1]
        settings = {"at_most": 0.0, "form": "+.4f", "deciding": inside}
        # paired: both strengths descend from the same start
        case = seed_case(f"NC1 = {level:g}", "NC2(LS) − NC2(CE)", smooth - plain, **settings)
        cases.append(case)
        if not inside:
            beyond.append(f"{case.name}, beyond the paper's axis: {case.text}")
    higher = table[(table.spread != START) & (table.low > 0)]
    for spread, part in higher.groupby("spread"):
        levels = ", ".join(part.nc1.map("{:g}".format))
        beyond.append(f"starts of spread {spread:g}: interval above 0 at NC1 = {levels}")
    return Verdict(claim, _tried_on(curves), cases, remark="; ".join(beyond), decider=DECIDER)


def _tried_on(curves: "pd.DataFrame") -> str:
    return f"{TRIED_ON}, gradient descent from {curves.start.nunique()} random starts"


GAP_FROM, GAP_TO = 1e-1, 1e-3  # of f - min f, fixed before the first run


@decides(
    Claim(
        "G16",
        PAPER.name,
        "plots of log(loss − lowest loss); which figure is not known to us",
        "The training loss approaches its lowest value faster with label smoothing.",
        f"fewer iterations from a gap of {GAP_FROM:g} to {GAP_TO:g} than without smoothing",
        changed="The iterations of quick were raised from 6,000 to 10,000 for G15, and the model "
        "has eight samples of each class instead of two.",
    )
)
def decide_g16(claim: Claim, curves: "pd.DataFrame") -> Verdict:
    """Iterations between two gaps of the loss, ratio to no smoothing, a case for each strength.

    Args:
        curves: from `run_curves`.
    """
    usual = curves[curves.spread == START]
    taken = first_below(usual, "gap", GAP_TO) - first_below(usual, "gap", GAP_FROM)
    taken = taken.droplevel("spread").unstack("start")  # (strengths, starts)
    cases = []
    for delta in STRENGTHS[1:]:
        # paired over starts, on the log scale, where ratios are nearer to normal
        logs = np.log(taken.loc[delta] / taken.loc[0.0])
        name, quantity = f"δ = {delta:g}", "iterations at δ / those at δ = 0"
        cases.append(seed_case(name, quantity, logs, log=True, at_most=1.0, form=".2f"))
    main = cases[STRENGTHS.index(SMOOTHED) - 1]
    remark = describe_cause(1 / main.value) if np.isfinite(main.value) else ""
    return Verdict(claim, _tried_on(curves), cases, remark=remark, decider=DECIDER)


def describe_cause(speed: float) -> str:
    """How much of a speed the condition number can explain, as a sentence of numbers.

    Args:
        speed: iterations without smoothing divided by those with the paper's strength.
    """
    plain, smooth = ufm_spectra.condition_number(dynamics_model(), np.array([0.0, SMOOTHED]), "D1")
    return (
        f"at δ = {SMOOTHED} the loss comes down {speed:.1f} times as fast, but the condition "
        f"number of Theorem 2 (read as D1; weight decays of these curves, not of the theorem's "
        f"page) changes by only {smooth / plain - 1:+.1%}, so it does not explain the speed"
    )


RATE_TOLERANCE = 0.01  # fixed before the first run


@decides(
    Claim(
        "G13",
        OURS,
        "a sharper form of the paper's Theorem 2, derived in this project",
        "NC1 contracts faster with label smoothing, by (1 − ηe)² a step, e = λ_H (1 + a p_o/(Kε)).",
        f"measured rate of log NC1 within {RATE_TOLERANCE:.0%} of the formula",
        changed="The claim counts as this companion's; at first it counted as the paper's.",
    )
)
def decide_g13(claim: Claim, table: "pd.DataFrame") -> Verdict:
    """The slope of log NC1 to 1 %, and faster with smoothing.

    Args:
        table: from `measure_rates`.
    """
    by = table.set_index(["K", "eps", "delta"]).predicted.unstack("delta")
    plain, smooth = by[0.0], by[SMOOTHED]
    parts = []
    for (K, eps), factor in (smooth / plain).items():
        parts.append(f"{factor:.1f} at K = {K}, ε = {eps:.2g}")
    cases = (
        Case.exact(
            "",
            f"largest relative error of {len(table)} contraction rates",
            table.error.max(),
            at_most=RATE_TOLERANCE,
            form=".2%",
        ),
        Case.exact(
            "",
            "models whose rate smoothing does not raise:",
            int((smooth <= plain).sum()),
            at_most=0,
            remark=f"e at δ = {SMOOTHED} / e at δ = 0: {', '.join(parts)}",
        ),
    )
    return Verdict(claim, TRIED_ON, cases)


def verdicts(tables: Tables) -> Verdicts:
    """The page's answers, in reading order."""
    return Verdicts(
        [
            decide_g15(tables.curves, tables.nc2),
            decide_g16(tables.curves),
            decide_g13(tables.rates),
        ]
    )
