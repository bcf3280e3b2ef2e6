"""Chen, Ziyin et al. 2020, sections 3 and 4: the best smoothing in closed form.

Figures 1 to 4; C1, C4, C5, C6 and C12 on the formulas; the paper's errata. Expected: every claim
holds. Nothing is trained. a is the clean rate, p the kept mass, M the number of classes; losses are
in nats.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from lsnc_core.claims import Case, Claim, Verdict, decides
from lsnc_core.errors import UsageError
from lsnc_core.notebook import convert
from lsnc_core.papers.chen import PAPER, errata
from lsnc_core.papers.chen.drawing import DASHES, NAMES, TOP, label_unit_axes
from lsnc_core.papers.chen.explore_formulas import explore_formulas as explore_formulas
from lsnc_core.papers.chen.shared_claims import C1, C1_TOLERANCE, C4, C12
from lsnc_core.papers.page import Page
from lsnc_core.show import Drawing, Entries, Verdicts, figure, style
from lsnc_core.show.panels import draw_legend, make_panels
from lsnc_core.theory import label_noise

if TYPE_CHECKING:
    import pandas as pd

PAGE = Page(
    title="Best smoothing in closed form, and the paper's errata",
    section="3 and 4",
    shows="seventeen errata and an open question",
    minutes={"quick": 0.1},
)


# ---- tables


def plane_table(M: int = 2, points: int = 101) -> "pd.DataFrame":
    """The three losses over the (a, p) plane.

    Args:
        M: classes.
        points: grid points along each axis.

    Returns:
        pandas.DataFrame, one row per (a, p): a, p, alpha, beta, gamma (nats, inf where they
        diverge).

    Raises: UsageError, for fewer than two points.
    """
    import pandas as pd

    if convert(points, 101, "points") < 2:
        raise UsageError(f"points must be at least 2, got {points!r}.")
    axis = np.linspace(0, 1, points)
    a, p = np.meshgrid(axis, axis)
    table = pd.DataFrame({"a": a.ravel(), "p": p.ravel()})
    for kind in label_noise.KINDS:
        table[kind] = label_noise.loss(kind, a.ravel(), p.ravel(), M)
    return table


def optima_table(kinds: Sequence[str], classes: Sequence[int], points: int = 201) -> "pd.DataFrame":
    """The best kept mass against the clean rate.

    Args:
        kinds: of `label_noise.KINDS`.
        classes: numbers of classes M.
        points: of a.

    Returns:
        pandas.DataFrame, one row per (kind, M, a): kind, M, a, p (the best) and loss (there, nats).

    Raises:
        UsageError: for no number of classes, or one below 2.
    """
    import pandas as pd

    if not convert(classes, [], "classes"):
        raise UsageError("classes must name at least one number of classes, got none.")
    a = np.linspace(0, 1, points)
    tables = []
    for kind, M in itertools.product(kinds, classes):
        best, loss = label_noise.optimum(kind, a, M), label_noise.best_loss(kind, a, M)
        tables.append(pd.DataFrame({"kind": kind, "M": M, "a": a, "p": best, "loss": loss}))
    return pd.concat(tables, ignore_index=True)


# ---- figures


@figure(
    "chen-figure-1",
    number="Figure 1",
    title="Chen, Figure 1",
    paper="three heat maps of equations 7, 8 and 9, the two-class test losses, over clean rate a "
    "and kept mass p, dark where the loss is low. Every loss diverges at p = 1 unless a = 1, so "
    "some smoothing always avoids the divergence; each a has one best p (both with exceptions: "
    "errata).",
    alt="Three heat maps of test loss over clean rate and kept mass. Alpha's minimum runs along "
    "the diagonal, beta's along a parabola with its lowest point at one half, gamma's stays at one "
    "half up to a = 0.75 and splits in two above.",
)
def draw_figure_1(table: "pd.DataFrame") -> Drawing:
    """Heat maps of Chen eq. 7, 8 and 9 over (a, p) with the best p of each a.

    Args: table, from `plane_table` for two classes.
    """
    drawing, panels = make_panels(3, 3, height=2.9, sharey=True)
    colours = {"cmap": style.LOSS_MAP, "vmin": 0, "vmax": TOP, "shading": "nearest"}
    for panel, kind in zip(panels, label_noise.KINDS, strict=True):
        grid = table.pivot(index="p", columns="a", values=kind)
        # pcolormesh leaves infinite cells blank; they belong above the top of the scale
        finite = np.minimum(grid, 1e3)
        image = panel.pcolormesh(grid.columns, grid.index, finite, rasterized=True, **colours)
        a = np.linspace(0, 1, 401)
        best = label_noise.optimum(kind, a, 2)
        panel.plot(a, best, color=style.PAPER, lw=2.2)
        if kind == "gamma":
            panel.plot(a, 1 - best, color=style.PAPER, lw=1.6, ls="--")
        label_unit_axes(panel)
        panel.set_title(NAMES[kind])
        panel.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        panel.label_outer()
    drawing.colorbar(image, ax=list(panels), extend="max", label="test loss (nats)")
    caption = (
        "Each assumption has its own best p for each a (white). Dashed: gamma's second minimum "
        "1 - p, for its loss does not change when p and 1 - p are exchanged."
    )
    return Drawing(drawing, caption, table)


@figure(
    "chen-figure-2",
    number="Figure 2",
    title="Chen, Figure 2",
    paper="the best kept mass against the clean rate for two classes under the three assumptions "
    "about test labels. Cleaner labels need less smoothing under each; the three differ, and gamma "
    "stays at p = 1/2 up to a = 0.75.",
    alt="Best kept mass against clean rate from one half to one: alpha a straight line, beta a "
    "parabola below it, gamma flat at one half until 0.75 and then steeply up, its mirror image "
    "down.",
)
def draw_figure_2(table: "pd.DataFrame") -> Drawing:
    """p* against a under the three assumptions, gamma's mirror minimum 1 - p* thin.

    Args: table, from `optima_table` for two classes.
    """
    from matplotlib import pyplot as plt

    drawing, axes = plt.subplots(figsize=(5.2, 4), layout="constrained")
    for kind, part in table.groupby("kind"):
        look = {"color": style.METHODS[kind], "ls": DASHES[kind]}
        axes.plot(part.a, part.p, lw=2.2, label=NAMES[kind], **look)
        if kind == "gamma":
            mirror = r"$\gamma$: its mirror minimum $1-p^*$"
            axes.plot(part.a, 1 - part.p, lw=1, label=mirror, **look)
    label_unit_axes(axes, ylabel="best kept mass p*")
    axes.set_xlim(0.5, 1)
    axes.legend()
    caption = (
        "From a = 1/2 on cleaner labels never lower the best p. In closed form (alpha, beta) "
        "and to 1e-9 numerically (gamma), which leaves 1/2 at a = 3/4 with a vertical tangent."
    )
    return Drawing(drawing, caption, table)


@figure(
    "chen-figure-3",
    number="Figure 3",
    title="Chen, Figure 3",
    paper="the best kept mass for alpha and beta and several numbers of classes (which ones is not "
    "recorded; ours are in the legend). Alpha's is a for every M; beta's tends to a limit and no "
    "longer changes visibly beyond 100 classes.",
    alt="Best kept mass against clean rate: alpha the diagonal, beta one curve per number of "
    "classes falling towards the parabola a squared.",
)
def draw_figure_3(table: "pd.DataFrame") -> Drawing:
    """p* against a for alpha and beta and several M, with the limit a^2.

    Args: table, from `optima_table`.
    """
    from matplotlib import pyplot as plt

    drawing, axes = plt.subplots(figsize=(5.6, 4), layout="constrained")
    alpha, beta = table[table.kind == "alpha"], table[table.kind == "beta"]
    first = alpha[min(alpha.M) == alpha.M]
    axes.plot(first.a, first.p, color=style.METHODS["alpha"], lw=2, label=r"$\alpha$, every M")
    for colour, (M, part) in zip(style.ordered(beta.M.nunique()), beta.groupby("M"), strict=True):
        axes.plot(part.a, part.p, color=colour, label=rf"$\beta$, M = {M}")
    axes.plot(first.a, first.a**2, color=style.INK, ls=":", lw=1.4, label=r"limit $a^2$")
    label_unit_axes(axes, ylabel="best kept mass p*")
    axes.legend()
    caption = (
        "From 100 classes on beta's curves lie on their limit. "
        "Beta's best p is a squared plus (1-a) squared over M-1: the distance to the limit is "
        "known exactly. Below a = 1/M beta's best p is above alpha's, a case that the paper leaves "
        "out."
    )
    return Drawing(drawing, caption, table)


@figure(
    "chen-figure-4",
    number="Figure 4",
    title="Chen, Figure 4",
    paper="the best kept mass for gamma and several numbers of classes: at 1/M up to a jump at a "
    "critical clean rate.",
    alt="Best kept mass against clean rate for gamma: for each number of classes flat at 1/M, then "
    "a vertical jump for three classes and more, then a curve rising to one.",
)
def draw_figure_4(table: "pd.DataFrame") -> Drawing:
    """p* against a for gamma and several M, each jump a thin vertical line at a_c.

    Args: table, from `optima_table`.
    """
    from matplotlib import pyplot as plt

    drawing, axes = plt.subplots(figsize=(5.6, 4), layout="constrained")
    counts = table.groupby("M")
    for colour, (M, part) in zip(style.ordered(len(counts)), counts, strict=True):
        a_c, p_c = label_noise.gamma_transition(M)
        below, above = part[part.a < a_c], part[part.a > a_c]
        axes.plot(below.a, below.p, color=colour, lw=1.8, label=rf"M = {M}: $a_c$ = {a_c:.4f}")
        axes.plot([a_c, *above.a], [p_c, *above.p], color=colour, lw=1.8)
        axes.plot([a_c, a_c], [1 / M, p_c], color=colour, lw=0.9, ls=":")
    label_unit_axes(axes, ylabel="best kept mass p*")
    draw_legend(drawing, [axes], columns=2)
    caption = (
        "For three classes and more gamma's best p stays at 1/M and jumps at a clean rate that "
        "falls with M. Dotted: the jump, at the a_c of the legend, computed from equal losses "
        "at p = 1/M and at the other minimum. For two classes there is no jump."
    )
    return Drawing(drawing, caption, table)


def show_errata() -> Entries:
    """The paper's errors and its open question, each as printed, right, computed."""
    entries = [*errata.list_errata(), errata.OPEN_QUESTION]
    parts = [(entry.place, (entry.published, entry.right, entry.check)) for entry in entries]
    return Entries(["as printed", "corrected", "computed"], parts)


# ---- claims

CLASSES = (2, 3, 10, 100, 1000)
RATES = np.linspace(0, 1, 101)[1:-1]
TOLERANCE = 1e-6
FORMULAS = "The formulas"
TRIED = f"searched at {len(RATES)} clean rates and M = {CLASSES}, tolerance {TOLERANCE:.0e}"


def search_best_kept(kind: str, a: float, M: int) -> float:
    """The argmin of the loss over p in (0, 1), the lowest of all local minima, by a search in
    log-odds that knows no closed form; to 1e-7, at a flat minimum to 1e-4.

    Args: kind, one of `label_noise.KINDS`; a, clean rate; M, classes.
    """
    from scipy import optimize
    from scipy.special import expit

    def loss(odds: np.ndarray) -> np.ndarray:
        return label_noise.loss(kind, a, expit(odds), M)

    odds = np.linspace(-16, 16, 1601)
    values = loss(odds)
    inner = values[1:-1]
    dips = np.flatnonzero((inner <= values[:-2]) & (inner <= values[2:])) + 1
    search = {"method": "bounded", "options": {"xatol": 1e-10}}
    minima = []
    for dip in dips:
        bounds = odds[dip - 1], odds[dip + 1]
        minima.append(optimize.minimize_scalar(loss, bounds=bounds, **search))
    return float(expit(min(minima, key=lambda minimum: minimum.fun).x))


def search_optima(kind: str) -> dict[int, np.ndarray]:
    """`search_best_kept` by number of classes, at each of `RATES`: float64 (rates,) each."""
    optima = {}
    for M in CLASSES:
        optima[M] = np.array([search_best_kept(kind, a, M) for a in RATES])
    return optima


def _rise(a: float, M: int) -> float:
    """How far gamma's searched best p is from 1/M; for M = 2 it is one of two mirrored minima."""
    return abs(search_best_kept("gamma", a, M) - 1 / M)


def find_transition(M: int) -> float:
    """The clean rate at which gamma's searched best p leaves 1/M, by bisection, without the
    formulas of `label_noise.gamma_transition`.
    """
    low, high = 1 / M, 0.99
    while high - low > 1e-10:
        middle = (low + high) / 2
        if _rise(middle, M) > 1e-3:
            high = middle
        else:
            low = middle
    return high


@decides(C1)
def decide_c1(claim: Claim, alpha: Mapping[int, np.ndarray]) -> Verdict:
    """C1 on the formulas. Args: alpha, from `search_optima`."""
    error = max(np.abs(best - RATES).max() for best in alpha.values())
    case = Case.exact("the formulas", "largest |p* − a|", error, at_most=TOLERANCE, form=".1e")
    return Verdict(claim, FORMULAS, [case], remark=TRIED)


@decides(C4)
def decide_c4(
    claim: Claim, alpha: Mapping[int, np.ndarray], beta: Mapping[int, np.ndarray]
) -> Verdict:
    """C4 on the formulas. Args: alpha, beta, from `search_optima`."""
    rises = {M: beta[M] - alpha[M] for M in CLASSES}
    binary = rises[2][RATES > 0.5].max()
    many = max(rises[M][RATES >= 1 / M].max() for M in CLASSES[1:])
    settings = {"at_most": TOLERANCE, "form": ".1e"}
    quantity = "largest p*(β) − p*(α)"
    cases = [
        Case.exact("M = 2, a > 1/2, the paper's range", quantity, binary, **settings),
        Case.exact("M > 2, a ≥ 1/M", quantity, many, **settings),
    ]
    below = max(rises[M][RATES < 1 / M].max(initial=-1) for M in CLASSES)
    remark = f"for a < 1/M, not claimed, p*(β) is larger, by up to {below:.2g}; {TRIED}"
    return Verdict(claim, FORMULAS, cases, remark)


# How close best kept masses of different numbers of classes must be to "well approximate each
# other", and from which a on; the bound is ours, C1's.
C5_NEAR, C5_FROM = C1_TOLERANCE, 0.8


@decides(
    Claim(
        "C5",
        paper=PAPER.name,
        place="section 4.2, Figure 3",
        sentence="With noisy test labels the best kept mass tends to the squared clean rate as "
        "classes are added; beyond 100 no difference is seen, "
        f"and from a = {C5_FROM} on all numbers of classes nearly agree.",
        expected="p*(β) − a² = (1−a)²/(M−1), at most 1/(M−1); "
        f"derived for a ≥ {C5_FROM}: p* apart from that of M = 2 by at most 0.020 (M = 3), "
        f"0.036 (M = 10), 0.040 (M ≥ 100); near is a bound of ours, {C5_NEAR}",
        changed="Its third part, large a, and its bound came after the first results. The minimum "
        "is searched for and no longer taken from the closed form.",
    )
)
def decide_c5(claim: Claim, beta: Mapping[int, np.ndarray]) -> Verdict:
    """C5 on the formulas. Args: beta, from `search_optima`."""
    squares = RATES**2
    exact = max(np.abs(beta[M] - squares - (1 - RATES) ** 2 / (M - 1)).max() for M in CLASSES)
    quantity = "largest |p* − a² − (1−a)²/(M−1)|"
    cases = [Case.exact("the closed form", quantity, exact, at_most=TOLERANCE, form=".1e")]
    for M in CLASSES:
        if M >= 10:
            gap, bound = np.abs(beta[M] - squares).max(), 1 / (M - 1) + TOLERANCE
            quantity = f"largest |p* − a²| at M = {M}"
            cases.append(Case.exact("the limit a²", quantity, gap, at_most=bound, form=".4f"))
    large = RATES >= C5_FROM - 1e-12
    for M in CLASSES[1:]:
        gap = np.abs(beta[M] - beta[2])[large].max()
        quantity = f"largest |p* − p* of M = 2| at M = {M}"
        cases.append(Case.exact(f"a ≥ {C5_FROM}", quantity, gap, at_most=C5_NEAR, form=".3f"))
    return Verdict(claim, FORMULAS, cases, TRIED)


C6_TOLERANCE = 1e-4
P_ABOVE = 1e-3  # p* just above the transition is tabulated to three digits
FAR, NEAR = 1e-4, 1e-6  # distances above the transition


@decides(
    Claim(
        "C6",
        paper=PAPER.name,
        place="section 4.3, Figure 4",
        sentence="With Bayesian test labels and more than two classes p* stays at 1/M up to a "
        "critical clean rate and jumps there, a sharp first-order transition.",
        expected="a jump of p* for M ≥ 3, at clean rates tabulated beforehand; derived: for M = 2 "
        "p* leaves 1/2 continuously at a = 3/4",
        changed="For a time M = 2 was tested as well, where it does not hold: section 4.3 is about "
        "M classes, and two classes are now a detail. The minimum is searched for and no longer "
        "taken from the closed form.",
    )
)
def decide_c6(claim: Claim) -> Verdict:
    """C6 at every M: p* = 1/M below the transition, the transition where it was tabulated, and a
    jump that stays as the step shrinks. M = 2, where p* is continuous, is a detail.
    """
    cases = []
    for M, (tabulated, above) in errata.C6_TRANSITIONS.items():
        a_c = find_transition(M)
        flat = max(_rise(a, M) for a in np.linspace(1 / M, a_c - FAR, 20))
        far, near = _rise(a_c + FAR, M), _rise(a_c + NEAR, M)
        # a continuous transition like a square root keeps a tenth of the rise, a jump all of it
        kept = near / far if far else 0.0
        name, place, end = f"M = {M}", (tabulated, C6_TOLERANCE), "at_least"
        best = above, P_ABOVE
        if M == 2:
            best, end = (above + np.sqrt(3 * NEAR), P_ABOVE), "at_most"  # p* = 1/2 + sqrt(3 step)
        of_this_M = [
            Case.exact(name, "p* − 1/M below", flat, at_most=C6_TOLERANCE, form=".0e"),
            _near(name, "transition at a =", a_c, *place, form=".6f"),
            _near(name, f"{NEAR:.0e} above it p* =", 1 / M + near, *best, form=".4f"),
            Case.exact(
                name,
                f"share of the rise {FAR:.0e} above",
                kept,
                form=".2f",
                remark=f"p* − 1/M {far:.4f} and {near:.4f}",
                **{end: 0.5},
            ),
        ]
        cases += [replace(case, deciding=M > 2) for case in of_this_M]
    return Verdict(claim, FORMULAS, cases, "p* searched for on both sides of the transition")


def _near(
    name: str, quantity: str, value: float, expected: float, tolerance: float, form: str
) -> Case:
    """A computed number that must lie within a tolerance of an expected one."""
    ends = {"at_least": expected - tolerance, "at_most": expected + tolerance}
    remark = f"tabulated {expected:{form}}"
    return Case.exact(name, quantity, value, form=form, remark=remark, **ends)


@decides(C12)
def decide_c12(claim: Claim) -> Verdict:
    """C12 on random logits."""
    terms = [errata.random_jensen_terms(M) for M in errata.JENSEN_CLASSES]
    # rounding alone may put equal terms in either order
    violations = sum(int((smoothing > forward + 1e-12).sum()) for smoothing, forward, _ in terms)
    rows = sum(smoothing.size for smoothing, _, _ in terms)
    unit = f"in {rows:,} rows of random logits, M = {errata.JENSEN_CLASSES}"
    case = Case.exact("random logits", "violations", violations, at_most=0, form="d", unit=unit)
    return Verdict(claim, FORMULAS, [case])


def verdicts() -> Verdicts:
    """C1, C4, C5, C6 and C12 on the formulas, each to a stated tolerance."""
    alpha, beta = search_optima("alpha"), search_optima("beta")
    return Verdicts(
        [decide_c1(alpha), decide_c4(alpha, beta), decide_c5(beta), decide_c6(), decide_c12()]
    )
