"""Guo et al. 2025, Theorem 1: the global minimisers of the feature model, and networks under its
weight decays.

Figures: margin and norms of the minimisers; the threshold; non-negative features; norms of networks
(F10). Claims: G9, G11, G17. An optimiser that does not know the closed form reaches it to rounding;
the norms of collapsed networks come within 2 % of it.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lsnc_core.claims import OURS, Case, Claim, Premise, Verdict, decides, seed_case
from lsnc_core.data_sources import source_of
from lsnc_core.papers.guo import PAPER, SMOOTHED
from lsnc_core.papers.guo.drawing import NORMS, STRENGTH, count_seeds, draw_curve, label_images
from lsnc_core.papers.guo.explore_model import explore_minimiser as explore_minimiser
from lsnc_core.papers.guo.measured import fetch_history, last_epochs
from lsnc_core.papers.guo.minimisers import (
    CLASSES,
    COMPARED,
    THRESHOLD_CLASSES,
    draw_cells,
    limit_table,
    predict_nonnegative,
    solve_cells,
    solve_nonnegative,
    solve_threshold,
)
from lsnc_core.papers.guo.model import MARKS, TRIED_ON, label_strength, show_integers
from lsnc_core.papers.guo.networks import halve_schedules
from lsnc_core.papers.guo.premises import check_ended
from lsnc_core.papers.guo.scale import describe_theorem_scale
from lsnc_core.papers.guo.theorem_networks import compare_norms, describe_norms, plan_theorem
from lsnc_core.papers.page import Page
from lsnc_core.runs.spec import RunSpec
from lsnc_core.show import Drawing, Table, Verdicts, figure, style
from lsnc_core.show.panels import draw_legend
from lsnc_core.theory import ufm
from lsnc_core.theory.ufm import FeatureModel, Loss

if TYPE_CHECKING:
    import pandas as pd

PAGE = Page(
    title="The global minimisers of the feature model",
    section="Theorem 1",
    shows="margin, norms and threshold, non-negative features",
    minutes={"quick": 0.3},
)

# ---- runs


def plan_runs(profile: str) -> list[RunSpec]:
    """The networks of F10, see `theorem_networks.plan_theorem`, with the whole schedule and with
    half of it.

    Raises:
        UsageError: for an unknown profile.
    """
    specs = plan_theorem(profile)
    return specs + halve_schedules(specs)


# ---- tables

# strength, ‖w_k‖, ‖h_k‖ as the released code has them (its plot of norms)
CODE_NORMS = ((0.0, "3.4987", "1.5647"), (0.05, "3.1278", "1.3988"), (0.1, "2.9371", "1.3135"))


class Tables(NamedTuple):
    """What the page shows of the feature model: see the functions of these names."""

    cells: "pd.DataFrame"
    threshold: "pd.DataFrame"
    limits: "pd.DataFrame"
    nonnegative: "pd.DataFrame"


def load(profile: str) -> Tables:
    """The feature model's tables, computed in one profile.

    Raises:
        UsageError: for an unknown profile.
    """
    return Tables(
        solve_cells(profile), solve_threshold(profile), limit_table(), solve_nonnegative(profile)
    )


def list_code_norms() -> Table:
    """The norms that the authors' released code carries as constants beside the closed form."""
    model = FeatureModel(10, 5000, 512, 1e-3, 1e-6, 1e-2)
    rows = []
    for delta, w, h in CODE_NORMS:
        at = ufm.minimiser(model, Loss("ls", delta))
        rows.append([f"{delta:g}", w, f"{at.W_norm:.4f}", h, f"{at.h_norm:.4f}"])
    header = ["strength", "‖w‖ in the code", "‖w‖ here", "‖h‖ in the code", "‖h‖ here"]
    return Table(header, rows)


class Networks(NamedTuple):
    """Networks under Theorem 1's weight decays over training, from
    `theorem_networks.compare_norms`, and the ends of those with half as long a schedule.
    """

    table: "pd.DataFrame"
    halved: "pd.DataFrame"


def load_networks(profile: str, device: str = "auto") -> Networks:
    """Networks under Theorem 1's weight decays; missing ones are trained first.

    Raises:
        UsageError: for an unknown profile.
    """
    specs = plan_theorem(profile)
    history = fetch_history(specs, device, parts=("train",))
    halved = fetch_history(halve_schedules(specs), device, parts=("train",))
    return Networks(compare_norms(history, specs), halved)


# ---- figures


@figure(
    "guo-theorem-1",
    title="Guo, Theorem 1",
    paper="no such figure known to us; a plot of the authors' code follows trained networks' norms "
    "towards these values.",
    alt="Six panels, margin above and norms below, against smoothing strength, number of classes "
    "and weight decay: marks found by the optimiser lie on the lines of the closed form.",
)
def draw_theorem_1(table: "pd.DataFrame") -> Drawing:
    """Margin (above) and norms (below) against delta, K and weight decay: lines predicted, marks
    found by L-BFGS.

    Args:
        table: from `solve_cells`.
    """
    import matplotlib.pyplot as plt

    size = {"figsize": (style.WIDTH, 5.4), "sharex": "col", "sharey": "row"}
    drawing, panels = plt.subplots(2, 3, layout="constrained", **size)
    for column, (varied, x) in enumerate((("strength", "strength"), ("K", "K"), ("decay", "eps"))):
        cells = table[table.varied == varied]
        rows = [(None, cells)] if varied == "strength" else cells.groupby("strength")
        for number, (delta, part) in enumerate(rows):
            draw_cells(panels[:, column], varied, delta, part.sort_values(x), x, number)
    for delta in (0.05, 0.2):
        look = {"color": style.strength(delta), "lw": 0.9, "ls": ":"}
        panels[0, 2].axhline(ufm.margin(delta, 0.0, 10), **look)
    panels[0, 0].set(ylabel="margin a", title="10 classes, code's decays")
    panels[0, 1].set(title="code's decays", xscale="log")
    panels[0, 2].set(title="10 classes", xscale="log")
    panels[1, 0].set(xlabel=STRENGTH, ylabel=r"norms: $\|w_k\|$ filled, $\|h_k\|$ open")
    panels[1, 1].set(xlabel="classes K")
    show_integers(panels[1, 1], CLASSES)
    panels[1, 2].set(xlabel=r"weight decay $\varepsilon = \sqrt{n \lambda_W \lambda_H}$")
    extra = (
        ({"ls": "-", "marker": "o"}, r"all strengths; $\|w_k\|$"),
        ({"ls": "--", "marker": "o", "mfc": style.PAPER}, r"$\|h_k\|$"),
        ({"ls": ":", "lw": 0.9}, "limit without weight decay"),
    )
    draw_legend(drawing, [panels[0, 1]], columns=3, extra=extra)
    caption = (
        "The marks, found by L-BFGS from random starts, lie on the lines of the closed form. "
        "Margin and norms fall with smoothing and with weight decay; as weight decay vanishes "
        "cross-entropy's margin grows like log(1/ε), that of smoothed labels stops at "
        "log(K/δ − K + 1), dotted."
    )
    return Drawing(drawing, caption, table)


@figure(
    "guo-threshold",
    title="The threshold of Theorem 1",
    paper="no such figure known to us.",
    alt="Margin against delta plus K epsilon: a line that falls to zero at one and stays there, "
    "with marks of two strengths on it.",
)
def draw_threshold(table: "pd.DataFrame") -> Drawing:
    """The margin found on both sides of delta + K eps = 1, with the closed form.

    Args:
        table: from `solve_threshold`.
    """
    import matplotlib.pyplot as plt

    drawing, axes = plt.subplots(figsize=(5.4, 3.8), layout="constrained")
    level = np.linspace(table.level.min(), table.level.max(), 200)
    margin = ufm.margin(0.0, level / THRESHOLD_CLASSES, THRESHOLD_CLASSES)
    axes.plot(level, margin, color=style.INK, lw=1.2, label="closed form")
    # the margin depends on the sum alone, so both strengths share a curve: open and filled marks
    for number, (delta, part) in enumerate(table.groupby("strength")):
        colour = style.strength(delta)
        look = {"color": colour, "marker": MARKS[number], "ms": 8 - 4 * number, "ls": ""}
        look["mfc"] = style.OPEN if number == 0 else colour
        label = f"found, {label_strength(delta)}"
        axes.plot(part.level, part.found_margin, label=label, **look)
    axes.axvline(1, color=style.SOFT, lw=0.8, ls=":")
    axes.set(xlabel=r"$\delta + K \varepsilon$", ylabel="margin a")
    axes.legend()
    caption = (
        "The margin depends on δ + Kε alone and reaches zero at 1 with a finite slope. Four "
        "classes; marks: found on both sides of the threshold."
    )
    return Drawing(drawing, caption, table)


@figure(
    "guo-nonnegative",
    title="Theorem 1 with non-negative features",
    paper="no such figure known to us; the theorem lets features have any sign.",
    alt="Three panels. Margin and norms against smoothing strength, with non-negative features and "
    "with any sign. Their change in per cent against strength and number of classes: norms change "
    "by more than two per cent at 10 classes, most at two.",
)
def draw_nonnegative(table: "pd.DataFrame") -> Drawing:
    """Margin and norms against delta, and their change from any sign against delta and K.

    Args:
        table: from `solve_nonnegative`.
    """
    import matplotlib.pyplot as plt

    size = {"figsize": (style.WIDTH, 3.5), "layout": "constrained"}
    drawing, panels = plt.subplots(1, 3, **size)
    kinds = (("strength", ""), ("strength", "change_"), ("K", "change_"))
    for panel, (varied, kind) in zip(panels, kinds, strict=True):
        cells = table[table.varied == varied]
        line = predict_nonnegative(varied, cells)
        for number, (name, label) in enumerate(COMPARED.items()):
            look = style.series(number)
            panel.plot(line.x, line[kind + name], color=look["color"], ls=look["ls"], lw=1.1)
            look |= {"ms": 5, "ls": "", "label": label}
            if name == "feature_norm":  # changes as ‖w_k‖ does
                look |= {"ms": 9, "mfc": style.OPEN}
            panel.plot(cells[varied], cells[f"found_{kind}{name}"], **look)
        if kind:
            tolerance = 100 * NORM_TOLERANCE
            panel.axhspan(-tolerance, tolerance, color=style.SOFT, alpha=0.2, lw=0)
        else:
            any_sign = line.filter(like="any_")
            panel.plot(line.x, any_sign, color=style.SOFT, lw=0.9, ls=":", zorder=0)
    panels[0].set(xlabel=STRENGTH, ylabel="margin and norms", title="10 classes")
    panels[1].set(xlabel=STRENGTH, ylabel="change, %", title="10 classes")
    panels[2].set(xlabel="classes K", xscale="log", title=rf"$\delta$ = {SMOOTHED:g}")
    panels[2].set_ylabel("change, %")
    show_integers(panels[2], CLASSES)
    extra = [({"lw": 0.9, "ls": ":", "color": style.SOFT}, "features of any sign")]
    draw_legend(drawing, [panels[2]], columns=5, extra=extra)
    caption = (
        "A ReLU before the classifier makes ‖w_k‖ and ‖h_k‖ larger and ‖h_k − h_G‖ smaller, at 10 "
        f"classes by more than the {NORM_TOLERANCE:.0%} of G9 (grey), at fewer by more still; "
        "lines: closed form, marks: bound-constrained L-BFGS."
    )
    return Drawing(drawing, caption, table)


@figure(
    "guo-f10",
    number="F10",
    title="Guo, networks under Theorem 1's weight decays (F10)",
    paper="norms of networks trained under Theorem 1's weight decays, relative to its closed form, "
    "against the epoch: they converge to it.",
    alt="Norms of classifier and class means relative to the closed form against the epoch, one "
    "line per strength, with a grey band of two per cent.",
)
def draw_f10(table: "pd.DataFrame") -> Drawing:
    """Measured norms relative to Theorem 1 against the epoch; grey: the claim's 2 %.

    Args:
        table: from `compare_norms`.
    """
    import matplotlib.pyplot as plt

    size = {"figsize": (style.WIDTH, 3.6), "layout": "constrained", "sharey": True}
    drawing, panels = plt.subplots(1, 2, **size)
    for panel, norm in zip(panels, ("w", "h"), strict=True):
        for number, (delta, rows) in enumerate(table.groupby("delta")):
            look = {"color": style.strength(delta), "ls": style.DASHES[number]}
            draw_curve(panel, rows, f"error_{norm}", label=rf"$\delta$ = {delta:g}", **look)
        shade = {"color": style.SOFT, "alpha": 0.25, "lw": 0}
        panel.axhspan(-NORM_TOLERANCE, NORM_TOLERANCE, label="within 2 % (claim G9)", **shade)
        panel.set(xlabel="epoch", title=NORMS[f"{norm}_norm"], ylim=(-0.3, 0.5))
    panels[0].set_ylabel("measured / predicted − 1")
    drawing.suptitle(label_images(table))
    draw_legend(drawing, panels[:1], columns=3, seeds=count_seeds(table))
    ends = last_epochs(table).groupby("delta")[["error_w", "error_h"]].mean()
    caption = (
        f"The norms end within {ends.abs().max(axis=None):.1%} of Theorem 1. "
        f"{describe_norms(table)}"
    )
    return Drawing(drawing, caption, table)


# ---- claims

# fixed before the first run
LOSS_TOLERANCE, POINT_TOLERANCE = 1e-12, 1e-6  # of f; of logits and norms, absolute
# a search by values of a flat curve finds the margin to about the root of rounding
SEARCH_TOLERANCE, LIMIT_TOLERANCE = 1e-4, 1e-5
NOT_ZERO = 0.1  # mean ‖w‖ half a percent below the threshold


@decides(
    Claim(
        "G11",
        PAPER.name,
        "Theorem 1",
        "The global minimisers are simplex ETFs with one margin and norms in closed form; derived "
        "here: they are zero from δ + Kε = 1 on.",
        f"an optimiser that knows nothing of it finds f to {LOSS_TOLERANCE:g}, logits and norms to "
        f"{POINT_TOLERANCE:g}",
        changed="That the threshold is derived here was added to the sentence.",
    )
)
def decide_g11(claim: Claim, tables: Tables) -> Verdict:
    """The closed form against the optimiser, its threshold and its limit without weight decay."""
    cells, near, limits = tables.cells, tables.threshold, tables.limits
    above, below = near[near.level > 1], near[near.level < 1]
    largest = max(above.found_w.max(), above.found_h.max())
    searched = (limits.margin - limits.searched).abs().max()
    weakest = limits[limits.eps == limits.eps.min()]
    apart = (weakest.margin - weakest.limit).abs().max()
    tolerances = {"loss_error": LOSS_TOLERANCE}
    tolerances |= dict.fromkeys(("logit_error", "norm_error"), POINT_TOLERANCE)
    cases = _error_cases("closed form", cells, tolerances)
    cases += _error_cases("threshold", near, tolerances)
    for name, quantity, value, tolerance in (
        ("threshold", "largest mean norm beyond it", largest, POINT_TOLERANCE),
        ("limit ε → 0", "closed form and search differ by", searched, SEARCH_TOLERANCE),
        ("limit ε → 0", "at ε = 1e-8 the limit is away by", apart, LIMIT_TOLERANCE),
    ):
        cases.append(Case.exact(name, quantity, value, at_most=tolerance, form=".1e"))
    smallest = "smallest mean ‖w‖ below the threshold", below.found_w.min()
    cases.append(Case.exact("threshold", *smallest, at_least=NOT_ZERO))
    remark = f"{len(cells)} cells of δ, K and weight decay, {cells.starts.sum()} random starts"
    return Verdict(claim, TRIED_ON, cases, remark=remark)


def _error_cases(name: str, table: "pd.DataFrame", tolerances: dict[str, float]) -> list[Case]:
    """Largest errors of f, logits and norms over a table's rows."""
    cases = []
    for column, quantity in (
        ("loss_error", "largest error of the loss f"),
        ("logit_error", "largest error of a logit"),
        ("norm_error", "largest error of a norm"),
    ):
        worst, at_most = table[column].max(), tolerances[column]
        cases.append(Case.exact(name, quantity, worst, at_most=at_most, form=".1e"))
    return cases


# fixed, with the formula, before this was written
NONNEGATIVE_TOLERANCES = {"loss_error": 1e-8, "logit_error": 1e-5, "norm_error": 1e-4}


@decides(
    Claim(
        "G17",
        OURS,
        "Theorem 1, for features after a ReLU",
        "With non-negative features the minimisers are orthogonal frames, and the closed form has "
        "ε √(K/(K − 1)) in place of ε.",
        "a bound-constrained optimiser finds f to 1e-8, logits to 1e-5 and norms to 1e-4; cosines "
        "between features of two classes and NC1 to NC3 are zero to 1e-4",
    )
)
def decide_g17(claim: Claim, table: "pd.DataFrame") -> Verdict:
    """The closed form against the optimiser; what NC1 to NC3 do not see.

    Args:
        table: from `solve_nonnegative`.
    """
    cases = _error_cases("closed form", table, NONNEGATIVE_TOLERANCES)
    for name, quantity, column in (
        ("frame", "largest cosine between classes", "cosine"),
        ("collapse", "largest of NC1, NC2 and NC3", "collapse"),
    ):
        worst = table[column].max()
        at_most = NONNEGATIVE_TOLERANCES["norm_error"]
        cases.append(Case.exact(name, quantity, worst, at_most=at_most, form=".1e"))
    remark = f"{len(table)} cells of δ and K, {table.starts.sum()} random starts"
    remark += f", of which {table.higher.sum()} end in a local minimum"
    return Verdict(claim, TRIED_ON, cases, remark=remark)


NORM_TOLERANCE = 0.02  # distance from the closed form
COLLAPSED = 0.1  # NC1 up to which features count as collapsed, which the theorem presumes


@decides(
    Claim(
        "G9",
        PAPER.name,
        "check of Theorem 1 on networks (F10)",
        "Networks trained under the theorem's weight decays reach its norms of classifier and "
        "features.",
        f"mean ‖w_k‖ and ‖h_k‖ within {NORM_TOLERANCE:.0%} of the closed form",
        changed="The number of images and the condition for deciding were chosen after trials in "
        "which features had not collapsed. Whether norms have stopped moving was first asked of "
        "the last fifth of training, when the learning rate is low; now of a schedule half as "
        "long.",
    )
)
def decide_g9(claim: Claim, table: "pd.DataFrame", halved: "pd.DataFrame") -> Verdict:
    """Both norms within 2 % at the end; open while they still move or features are not collapsed.

    Args:
        table: from `compare_norms`.
        halved: the same networks with half as long a schedule.
    """
    cases = []
    for norm, name in (("w", "‖w‖"), ("h", "‖h‖")):
        for delta, ends in last_epochs(table).groupby("delta"):
            # norms that move by the tolerance could be on either side of it
            ended = check_ended(table, halved, f"{norm}_norm", (delta,), at_most=NORM_TOLERANCE)
            # of all seeds the worst: one network that is loose breaks the premise
            where = f"δ = {delta:g}"
            collapsed = Premise(
                "largest NC1 at the end", ends.nc1.max(), at_most=COLLAPSED, where=where
            )
            # an equivalence: the whole interval over seeds has to lie within the tolerance
            case = seed_case(
                f"{name} at δ = {delta:g}",
                "relative error",
                ends[f"error_{norm}"],
                at_least=-NORM_TOLERANCE,
                at_most=NORM_TOLERANCE,
                form="+.1%",
                premises=(*ended, collapsed),
            )
            cases.append(case)
    main = [case for case in cases if case.name.endswith(f" {SMOOTHED:g}") and not case.undecided]
    remark = "; ".join(f"{case.name}: off by {case.value:+.1%}" for case in main)
    first = table.iloc[0]
    tried_on = f"{source_of(first.data).title}, {first.model}, {first.epochs} epochs, "
    tried_on += f"{first.train_size:,} training images, the theorem's decays"
    scale = describe_theorem_scale(table)
    return Verdict(claim, tried_on, cases, remark=remark, decider="more seeds", scale=scale)


def verdicts(tables: Tables, networks: Networks) -> Verdicts:
    """The page's answers, in reading order."""
    return Verdicts([decide_g11(tables), decide_g17(tables.nonnegative), decide_g9(*networks)])
