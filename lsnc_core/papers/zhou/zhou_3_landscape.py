"""Zhou et al. 2022, Theorems A to C (letters of ours): the landscape of the feature model.

Figures: all starts reach one value; margins of four losses; critical points and their curvature;
where focal loss is convex. Claims: Z-C6 to Z-C9. Every start ends at the value in closed form, and
every other critical point is a strict saddle. Nothing is trained. Wordings and constants of the
paper that could not be sourced are derived, and the claims say so.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lsnc_core.claims import Case, Claim, Verdict, decides
from lsnc_core.papers.page import Page
from lsnc_core.papers.zhou import PAPER, model
from lsnc_core.papers.zhou.drawing import draw_convex_region, draw_focal_tie
from lsnc_core.papers.zhou.model import LOSSES, VALUE_TOLERANCE
from lsnc_core.show import Drawing, Verdicts, figure, style
from lsnc_core.show.panels import draw_legend, make_panels
from lsnc_core.theory import ufm, ufm_landscape

if TYPE_CHECKING:
    import pandas as pd

PAGE = Page(
    title="The landscape of the feature model",
    section="Theorems A to C",
    minutes={"quick": 0.1},
)


# ---- tables


class Tables(NamedTuple):
    """What the page shows, as pandas tables: see the functions of `lsnc_core.papers.zhou.model`."""

    all_starts: "pd.DataFrame"
    margins: "pd.DataFrame"
    critical_points: "pd.DataFrame"
    hessians: "pd.DataFrame"
    gaps: "pd.DataFrame"


def load(profile: str) -> Tables:
    """Everything that the page shows."""
    return Tables(
        model.run_all_starts(profile),
        model.margin_table(profile),
        model.critical_point_table(profile),
        model.focal_hessian_table(profile),
        model.contrastive_gap_table(profile),
    )


# ---- figures

MARKS = ("o", "s", "^", "D", "v")
FOCAL_TIE = (100, 3.0)  # K and gamma of the example with two equally good margins


@figure(
    "zhou-all-starts",
    title="Distance to the least value from every start",
    paper="no such figure known to us; the theorem says that no start can end elsewhere, but for "
    "saddles.",
    alt="Relative gap to the least value against iteration, one panel per loss, one thin line per "
    "start: all fall to rounding.",
)
def draw_all_starts(table: "pd.DataFrame") -> Drawing:
    """Gap to the least value along every run of L-BFGS, a panel for each loss, a dash for each
    spread of the starts.

    Args: table, from `model.run_all_starts`.
    """
    drawing, panels = make_panels(len(LOSSES), 2, height=2.4, sharey=True)
    for panel, (loss, part) in zip(panels, table.groupby("loss", sort=False), strict=True):
        for number, (_, runs) in enumerate(part.groupby("spread")):
            gaps = runs.pivot(index="iteration", columns="start", values="gap")
            gaps = gaps.clip(lower=1e-16)  # rounding goes below 0
            look = {"color": style.method(loss), "ls": style.DASHES[number], "lw": 0.8}
            look["alpha"] = 0.6
            panel.plot(gaps.index, gaps, **look)
        panel.set(xscale="log", yscale="log", xlabel="iteration", title=loss)
    for panel in panels[::2]:
        panel.set_ylabel("gap to the least value, relative")
    spreads = enumerate(sorted(set(table.spread)))
    extra = [({"ls": style.DASHES[at]}, f"starts of spread {spread:g}") for at, spread in spreads]
    draw_legend(drawing, [], columns=3, extra=extra)
    last = table[table.iteration == table.iteration.max()]
    caption = (
        f"After {table.iteration.max()} iterations no start is further than {last.gap.max():.0e} "
        "above the closed form's value, relative. L-BFGS from random starts of three spreads, four "
        "classes of two samples, D = 6."
    )
    return Drawing(drawing, caption, table)


@figure(
    "zhou-margins",
    title="Margin of the global minimiser",
    paper="no such figure known to us; the theorem says that the normalised features do not depend "
    "on the loss.",
    alt="Margin against weight decay on a logarithmic axis for the four losses, with found marks "
    "on each line; MSE near 15, cross-entropy and focal straight lines, label smoothing flat for "
    "small weight decay.",
)
def draw_margins(table: "pd.DataFrame") -> Drawing:
    """Margin of the minimiser against eps: lines in closed form, marks where L-BFGS ended.

    Args: table, from `model.margin_table`.
    """
    import matplotlib.pyplot as plt

    drawing, axes = plt.subplots(figsize=(5.8, 3.9), layout="constrained")
    eps = np.geomspace(table.eps.min() / 2, table.eps.max() * 4, 200)
    # eps = sqrt(n) lambda with lambda_W = lambda_H = lambda and n = 2
    models = [model.small_model(value / np.sqrt(2)) for value in eps]
    for number, (name, loss) in enumerate(LOSSES.items()):
        part, colour = table[table.loss == name], style.method(name)
        line = [ufm.minimiser(each, loss).margin for each in models]
        axes.plot(eps, line, color=colour, ls=style.DASHES[number], lw=1.4)
        axes.plot(part.eps, part.found, MARKS[number], color=colour, ms=5, label=name)
    xlabel = r"weight decay $\varepsilon = \sqrt{n \lambda_W \lambda_H}$"
    axes.set(xlabel=xlabel, ylabel="margin a", xscale="log")
    axes.legend()
    caption = (
        "Only the size of the margin depends on the loss: each mark lies on its line. Lines: "
        "closed form (focal: a root in one dimension); marks: found, off by "
        f"{table.margin_error.max():.0e} at most. In closed form only cross-entropy's and focal "
        "loss's margins grow without limit as weight decay vanishes."
    )
    return Drawing(drawing, caption, table)


@figure(
    "zhou-saddles",
    title="Critical points: curvature, and the criterion of a global minimiser",
    paper="no such figure known to us; the theorem says that a critical point that is no "
    "global minimiser has a direction of negative curvature; that it is global exactly where "
    "‖∇g‖ ≤ √(λ_W λ_H) is derived here.",
    alt="Against the rank of the critical point, for five losses: left the downward curvature, a "
    "cross in each open mark; right the norm of the data loss's gradient divided by its bound, "
    "with a line at one.",
)
def draw_critical_points(table: "pd.DataFrame") -> Drawing:
    """Critical points by rank. Left: downward curvature, marks the least eigenvalue, crosses along
    the direction constructed from the data loss's gradient. Right: that gradient's norm divided
    by its bound, which only global minimisers keep.

    Args: table, from `model.critical_point_table`.
    """
    import matplotlib.pyplot as plt

    size = {"figsize": (style.WIDTH, 3.7), "layout": "constrained"}
    drawing, (left, right) = plt.subplots(1, 2, **size)
    losses = list(table.groupby("loss", sort=False))
    for number, (name, part) in enumerate(losses):
        mark, colour = MARKS[number], _colour(name)
        x = part["rank"] + 0.12 * (number - (len(losses) - 1) / 2)  # side by side
        look = {"color": colour, "mfc": style.OPEN, "label": name}
        right.plot(x, part.data_gradient / part.bound, mark, ms=7, **look)
        x, part = x[~part.globally], part[~part.globally]
        left.plot(x, -part.least, mark, ms=8, **look)
        left.plot(x, -part.escape, "x", color=colour, ms=5)
    xlabel, K = "rank of W and H at the critical point", model.small_model().K
    left.set(yscale="log", xlabel=xlabel, ylabel="downward curvature")
    left.set_xticks(range(K - 1))
    right.axhline(1, color=style.SOFT, lw=0.8)
    right.set(yscale="log", xlabel=xlabel, ylabel=r"$\|\nabla g\| / \sqrt{\lambda_W \lambda_H}$")
    right.set_xticks(range(K))
    extra = [({"ls": "", "marker": "x", "color": style.SOFT}, "constructed direction")]
    draw_legend(drawing, [left], columns=3, extra=extra)
    apart, ratio = (table.least - table.escape).abs().max(), table.data_gradient / table.bound
    caption = (
        "Every critical point but the global minimisers curves down, and only these keep the "
        "bound at 1. Left, without the global minimisers: open marks, least eigenvalue of the "
        "whole Hessian, sign changed; crosses, the constructed direction; they differ by "
        f"{apart:.0e} at most. Right: the gradient's norm / its bound, "
        f"{ratio[table.globally].max():.6f} at most where f is least, "
        f"{ratio[~table.globally].min():.2f} or more elsewhere."
    )
    return Drawing(drawing, caption, table)


def _colour(name: str) -> str:
    """The colour of a loss of `model.SADDLE_LOSSES`, label smoothing's by its strength."""
    loss = model.SADDLE_LOSSES[name]
    stronger = loss.name == "ls" and loss.strength > 0.1
    return style.strength(loss.strength) if stronger else style.method(name)


@figure(
    "zhou-focal-region",
    title="Focal loss: convex region, and the one weight decay with two minimisers",
    paper="a region of convexity around well-classified samples; its constant is not known to us.",
    alt="Left: convex region above a curve of softmax against gamma with computed points on both "
    "sides. Right: one-dimensional objective for three weight decays, the middle one with two "
    "equal minima.",
)
def draw_focal_region(table: "pd.DataFrame") -> Drawing:
    """Left: where focal loss is convex, with random Hessians. Right: its one-dimensional objective
    where two margins are equally good.

    Args: table, from `model.focal_hessian_table`.
    """
    import matplotlib.pyplot as plt

    size = {"figsize": (style.WIDTH, 4.4), "layout": "constrained"}
    drawing, (left, right) = plt.subplots(1, 2, **size)
    draw_convex_region(left, table)
    draw_focal_tie(right, *FOCAL_TIE)
    K, gamma = FOCAL_TIE
    low, high = ufm_landscape.focal_window(gamma, K)
    caption = (
        "Computed marks change their kind at the curve p*(γ), above which focal loss is convex. "
        "Left: p*(γ) is the same for every K; random Hessians change sign there. Right: with many "
        "classes the zero solution and a far one can be equally good, at one weight decay only. "
        f"In a window around it, from ε = {low:.4f} to {high:.4f}, both are local minima, so the "
        "worse one is no strict saddle."
    )
    return Drawing(drawing, caption, table)


# ---- claims: every case is about computed numbers, so an interval has no width

TRIED_ON = "The feature model"

MARGIN_TOLERANCE = 1e-6  # absolute; fixed before the first run, as VALUE_TOLERANCE


@decides(
    Claim(
        "Z-C6",
        PAPER.name,
        "theorem on global optimality",
        "Under each loss all global minimisers are simplex ETFs with one margin; only the margin "
        "depends on the loss.",
        f"every start reaches the closed form's value to {VALUE_TOLERANCE:g} and to "
        f"{MARGIN_TOLERANCE:g} its margin, classifier, features tied to it, and equal biases",
        changed="Value and margin alone were compared at first.",
    )
)
def decide_z_c6(claim: Claim, table: "pd.DataFrame") -> Verdict:
    """Z-C6: under each loss, the worst start's margin, value and form.

    Args: table, from `model.margin_table`.
    """
    cases = []
    for loss in LOSSES:
        part = table[table.loss == loss]
        tried = f"{part.starts.sum()} starts at {len(part)} weight decays"
        for quantity, column, bound, remark in (
            ("largest error of a margin", "margin_error", MARGIN_TOLERANCE, tried),
            ("largest relative error of the least value", "value_error", VALUE_TOLERANCE, ""),
            ("largest error of W Wᵗ, H or b", "form_error", MARGIN_TOLERANCE, ""),
        ):
            asked = {"at_most": bound, "form": ".1e", "remark": remark}
            cases.append(Case.exact(f"loss {loss}", quantity, part[column].max(), **asked))
    at = table[table.decay == model.DECAY]
    margins = ", ".join(f"{row.margin:.4f} ({row.loss})" for row in at.itertuples())
    remark = f"margins at λ_W = λ_H = {model.DECAY:g}: {margins}; with many classes there is one "
    remark += "weight decay at which focal loss has two (Z-C9)"
    return Verdict(claim, TRIED_ON, cases, remark=remark)


CURVATURE_TOLERANCE = 1e-8  # fixed before the first run


@decides(
    Claim(
        "Z-C7",
        PAPER.name,
        "theorems on the landscape",
        "Every critical point that is no global minimiser is a strict saddle: everywhere under CE "
        "and LS, around the minimisers under focal loss.",
        "least Hessian eigenvalue below 0 and at most the curvature of the constructed direction, "
        "at the origin the closed form; ‖∇g‖ at most √(λ_W λ_H) at the global minimisers and at no "
        "other critical point (g: data loss, in the logits)",
        changed="The bound on the gradient, ‖∇g‖ ≤ √(λ_W λ_H), was added to what the claim asks "
        "for, and the theorems' conditions to its sentence.",
    )
)
def decide_z_c7(claim: Claim, table: "pd.DataFrame") -> Verdict:
    """Z-C7: under each loss, the curvature at every critical point, and the criterion of a global
    minimiser: ||grad g||_2 <= sqrt(lambda_W lambda_H), with equality at global ones.

    Whether a point is a global minimiser is decided by its value alone.

    Args: table, from `model.critical_point_table`.
    """
    cases = []
    for name, part in table.groupby("loss", sort=False):
        cases += _saddle_cases(f"loss {name}", part)
        if model.SADDLE_LOSSES[name].name == "ls":
            cases.append(_origin_case(f"loss {name}", name, part))
    remark = (
        "tried at the origin and at minimisers of narrower models; that no other kind exists is "
        "the theorem's part. Focal loss is tried where 1/K is above p*(γ), so around every point "
        "tried; below it there can be a second local minimum (errata). MSE, which the paper treats "
        "elsewhere, stands beside them"
    )
    return Verdict(claim, TRIED_ON, cases, remark=remark)


def _saddle_cases(name: str, part: "pd.DataFrame") -> list[Case]:
    """What is asked of one loss's critical points."""
    saddles, minima = part[~part.globally], part[part.globally]
    ratio = part.data_gradient / part.bound
    meets = part.data_gradient <= part.bound + CURVATURE_TOLERANCE
    return [
        Case.exact(
            name,
            "least Hessian eigenvalue at saddles, the largest:",
            saddles.least.max(),
            at_most=-CURVATURE_TOLERANCE,
            form=".4f",
            remark=f"smallest {saddles.least.min():.4f}",
        ),
        Case.exact(name, "saddles tried:", len(saddles), at_least=1),
        Case.exact(
            name,
            "largest excess of that eigenvalue over the constructed direction's curvature",
            (saddles.least - saddles.escape).max(),
            at_most=CURVATURE_TOLERANCE,
            form=".0e",
        ),
        Case.exact(
            name,
            "least Hessian eigenvalue where f is least",
            minima.least.min(),
            at_least=-CURVATURE_TOLERANCE,
            form=".0e",
        ),
        Case.exact(
            name,
            "points misclassified by ‖∇g‖ ≤ √(λ_W λ_H)",
            int((meets != part.globally).sum()),
            at_most=0,
            remark=f"‖∇g‖/√(λ_W λ_H) {ratio[~part.globally].min():.4g} or more at saddles, "
            f"{ratio[part.globally].max():.6f} where f is least",
        ),
    ]


def _origin_case(name: str, loss: str, part: "pd.DataFrame") -> Case:
    """The least eigenvalue at the origin against its closed form, under CE and LS."""
    spectrum = ufm_landscape.origin_spectrum(
        model.small_model(), model.SADDLE_LOSSES[loss].strength
    )
    formula = float(spectrum[-1].value)
    error = abs(part[part["rank"] == 0].least.min() - formula)
    return Case.exact(
        name,
        "error of the closed form at the origin",
        error,
        at_most=CURVATURE_TOLERANCE,
        form=".0e",
        remark=f"least eigenvalue {formula:.5f} by formula",
    )


CONVEX_FROM = 0.0585  # p* is claimed to be at most this, for every gamma
ROUNDING = 1e-9  # eigenvalues nearer to 0 have no sign


@decides(
    Claim(
        "Z-C8",
        PAPER.name,
        "theorem on focal loss; the paper's constant is not known to us",
        "Focal loss is convex in the logits where the target's softmax is large enough.",
        f"convex exactly where it is at least p*(γ), whatever K; p* is at most {CONVEX_FROM}",
    )
)
def decide_z_c8(claim: Claim, table: "pd.DataFrame") -> Verdict:
    """Z-C8: convex exactly from p*(gamma) on, and the greatest p*.

    Args: table, from `model.focal_hessian_table`.
    """
    clear = table[table.least.abs() > ROUNDING]
    wrong = int(((clear.least < 0) != (clear.p < clear.edge)).sum())
    gammas = np.linspace(0.05, 20, 4000)
    edges = ufm.focal_convex_from(gammas)
    top = edges.argmax()
    asked = {"at_most": 0, "unit": f"in {len(table):,} random Hessians"}
    signs = Case.exact("", "wrong signs", wrong, **asked)
    asked = {"at_most": CONVEX_FROM, "form": ".5f", "remark": f"at γ = {gammas[top]:.2f}"}
    cases = signs, Case.exact("", "greatest p*", edges[top], **asked)
    remark = f"enough for every γ, by a simpler condition: {model.enough_for_focal():.4f}"
    return Verdict(claim, "Focal loss, random logits", cases, remark)


GAP_TOLERANCE = 1e-9  # fixed before the first run


@decides(
    Claim(
        "Z-C9",
        PAPER.name,
        "definition of the contrastive property",
        "CE, LS and FL are bounded below by a function of the sum of logit differences, with "
        "equality when the wrong logits are equal.",
        f"loss − bound at least −{GAP_TOLERANCE:g} for random logits, at most {GAP_TOLERANCE:g} "
        "where the wrong logits are equal",
    )
)
def decide_z_c9(claim: Claim, table: "pd.DataFrame") -> Verdict:
    """Z-C9: under each loss, the least gap to the bound, and the largest where equality is claimed.

    Args: table, from `model.contrastive_gap_table`.
    """
    cases = []
    for row in table.itertuples():
        name, quantity = f"loss {row.loss}", f"least of loss − bound over {row.logits:,} logits"
        asked = {"at_least": -GAP_TOLERANCE, "form": ".1e"}
        cases.append(Case.exact(name, quantity, row.least, **asked))
        asked = {"at_most": GAP_TOLERANCE, "form": ".1e"}
        cases.append(
            Case.exact(
                name,
                "largest |loss − bound| where the wrong logits are equal",
                row.at_equality,
                **asked,
            )
        )
    K, gamma = FOCAL_TIE
    tie = ufm_landscape.focal_tie(gamma, K)
    remark = (
        "the bound's minimiser is unique except at one weight decay where 1/K < p*(γ): at "
        f"K = {K}, γ = {gamma:g} ε = {tie:.6f} has two"
    )
    return Verdict(claim, "Random logits, K = 2, 3, 10, 100", cases, remark=remark)


def verdicts(tables: Tables) -> Verdicts:
    """The page's answers, in reading order."""
    return Verdicts(
        [
            decide_z_c6(tables.margins),
            decide_z_c7(tables.critical_points),
            decide_z_c8(tables.hessians),
            decide_z_c9(tables.gaps),
        ]
    )
