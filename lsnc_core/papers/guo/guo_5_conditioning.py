"""Guo et al. 2025, Theorem 2: the Hessian at the minimiser of the feature model.

Figures: spectra as predicted and as computed; condition numbers under four readings of the theorem.
Claim: G12. Which Hessian the theorem means could not be sourced. Under D1, the data loss in W or in
H without zero eigenvalues, the condition number falls with smoothing; with weight decay added it
often rises. Nothing is trained.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lsnc_core.claims import Case, Claim, Verdict, decides
from lsnc_core.papers.guo import PAPER, SMOOTHED
from lsnc_core.papers.guo.drawing import STRENGTH
from lsnc_core.papers.guo.explore_model import explore_conditioning as explore_conditioning
from lsnc_core.papers.guo.model import (
    MARKS,
    STRENGTHS,
    TRIED_ON,
    code_model,
    label_strength,
    show_integers,
)
from lsnc_core.papers.page import Page
from lsnc_core.show import Drawing, Verdicts, figure, style
from lsnc_core.show.panels import draw_legend
from lsnc_core.theory import ufm, ufm_dynamics, ufm_objective, ufm_spectra
from lsnc_core.theory.ufm import FeatureModel, Loss

if TYPE_CHECKING:
    import pandas as pd

PAGE = Page(
    title="Conditioning at the minimiser",
    section="Theorem 2",
    shows="spectra and condition numbers",
    minutes={"quick": 0.1},
)

# ---- tables

CLASSES = (3, 5, 10, 20, 50, 100, 200)
SHOWN_CLASSES = (10, 100)  # drawn against delta, and decided
CHECKED_CLASSES = (2, 3, 4, 5)  # small enough to write their Hessians out
FALLING_STRENGTHS = np.linspace(0, 0.9, 300)
NON_ZERO = 1e-9  # eigenvalues of the data loss above it count as not zero


class Tables(NamedTuple):
    """What the page shows, as pandas tables: see the functions of these names."""

    spectra: "pd.DataFrame"
    conditions: "pd.DataFrame"
    hessians: "pd.DataFrame"


def load() -> Tables:
    """Everything that the page shows; it is the same in every profile."""
    return Tables(spectra_table(), condition_table(), hessian_table())


def spectra_table(
    K: int = 5, n: int = 3, D: int = 7, strengths: tuple[float, ...] = (0.0, 0.05, 0.2)
) -> "pd.DataFrame":
    """Every eigenvalue of the Hessians in W, in H and in all unknowns: in closed form, and of the
    Hessian computed where L-BFGS ended.

    Returns:
        pandas.DataFrame with delta, block, number (in order of size), name (of the closed form's
        eigenspace), predicted, computed.
    """
    import pandas as pd

    model, parts = code_model(K, n, D), []
    start = ufm_objective.random_starts(model, 1, 0)
    for delta in strengths:
        loss = Loss("ls", delta)
        end = ufm_dynamics.minimise(model, loss, start, tolerance=1e-13).points[0]
        whole = ufm_objective.dense_hessian(model, loss, end)
        for block, place in (*_blocks(model).items(), ("all", slice(None))):
            spaces = sorted(ufm_spectra.spectrum(model, delta, block), key=lambda e: e.value)
            repeats = [space.multiplicity for space in spaces]
            computed = np.linalg.eigvalsh(whole[place, place])
            columns = {
                "delta": delta,
                "block": block,
                "number": np.arange(len(computed)),
                "name": np.repeat([space.name for space in spaces], repeats),
                "predicted": np.repeat([space.value for space in spaces], repeats),
                "computed": computed,
            }
            parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def _blocks(model: FeatureModel) -> dict[str, slice]:
    """Where W and H stand in the vector of all unknowns."""
    middle = model.K * model.D
    return {"W": slice(0, middle), "H": slice(middle, -model.K)}


def condition_table(classes: tuple[int, ...] = CLASSES, points: int = 81) -> "pd.DataFrame":
    """Condition numbers under every definition against delta and K, with the weight decays of the
    released code for 50,000 samples and D = 512.

    Returns:
        pandas.DataFrame with K, delta, definition, value, ratio (to that without smoothing).
    """
    import pandas as pd

    delta, parts = np.linspace(0, 0.8, points), []
    for K in classes:
        model = FeatureModel(K, 50_000 // K, 512, 1e-3, 1e-6, 1e-2)
        for name in ufm_spectra.DEFINITIONS:
            value = ufm_spectra.condition_number(model, delta, name)
            columns = {"K": K, "delta": delta, "definition": name, "value": value}
            parts.append(pd.DataFrame(columns | {"ratio": value / value[0]}))
    return pd.concat(parts, ignore_index=True)


def hessian_table() -> "pd.DataFrame":
    """D1 by its formula and of Hessians written out at the minimiser.

    Returns:
        pandas.DataFrame, one row per (K, delta, block), with predicted and computed.
    """
    import pandas as pd

    rows = []
    for K in CHECKED_CLASSES:
        model = _without_bias_decay(K)
        decays = {"W": model.lambda_W, "H": model.lambda_H}
        for delta in STRENGTHS:
            loss = Loss("ls", delta)
            whole = ufm_objective.dense_hessian(model, loss, ufm.construct(model, loss, seed=1))
            predicted = ufm_spectra.condition_number(model, delta, "D1")
            for block, place in _blocks(model).items():
                # D1 is about the data loss alone: weight decay adds lambda to every eigenvalue
                values = np.linalg.eigvalsh(whole[place, place]) - decays[block]
                values = values[values > NON_ZERO]
                row = {"K": K, "delta": delta, "block": block, "predicted": predicted}
                rows.append(row | {"computed": values[-1] / values[0]})
    return pd.DataFrame(rows)


def _without_bias_decay(K: int) -> FeatureModel:
    return replace(code_model(K, 2), lambda_b=0.0)


def count_rises() -> int:
    """At how many of 299 steps in delta D1 does not fall, over all checked classes but K = 2, for
    which it is 1 whatever delta.
    """
    rises = 0
    for K in CHECKED_CLASSES[1:]:
        line = ufm_spectra.condition_number(_without_bias_decay(K), FALLING_STRENGTHS, "D1")
        rises += int((np.diff(line) >= 0).sum())
    return rises


# ---- figures


@figure(
    "guo-spectra",
    title="Guo, Theorem 2: Hessian spectra at the minimiser",
    paper="no such figure known to us; the theorem compares condition numbers.",
    alt="Three step plots of eigenvalues in order of size for three smoothing strengths; computed "
    "marks lie on the predicted steps.",
)
def draw_spectra(table: "pd.DataFrame") -> Drawing:
    """Eigenvalues of three Hessians in order of size: lines predicted, marks computed; zero
    eigenvalues (rotations) left out.

    Args:
        table: from `spectra_table`.
    """
    import matplotlib.pyplot as plt

    titles = {"W": "in W", "H": "in H", "all": "in W, H and b"}
    drawing, panels = plt.subplots(1, 3, figsize=(style.WIDTH, 3.5), layout="constrained")
    for panel, (block, title) in zip(panels, titles.items(), strict=True):
        positive = table[(table.block == block) & (table.predicted > 0)]
        for number, (delta, part) in enumerate(positive.groupby("delta")):
            look = {"color": style.strength(delta), "lw": 1.2, "ls": style.DASHES[number]}
            panel.step(part.number, part.predicted, where="mid", **look)
            few = part.iloc[:: max(1, len(part) // 40)]
            look = {"color": style.strength(delta), "ms": 4, "mfc": style.OPEN}
            label = label_strength(delta)
            panel.plot(few.number, few.computed, MARKS[number], label=label, **look)
        panel.set(yscale="log", xlabel="eigenvalue number", title=f"Hessian {title}")
    panels[0].set_ylabel("eigenvalue")
    draw_legend(drawing, panels[:1], columns=3)
    caption = (
        "The computed eigenvalues (marks) lie on the steps of the closed form (lines). Five "
        "classes of three samples, D = 7, weight decay included. Lines: closed form with its "
        "multiplicities; marks (some of many): eigenvalues of the Hessian where L-BFGS ended. The "
        "zeros of the last panel, rotations of the feature space, are left out; "
    )
    return Drawing(drawing, caption + describe_spectra(table), table)


def describe_spectra(table: "pd.DataFrame") -> str:
    """How far computed is from predicted, and how many eigenspaces rise with smoothing."""
    spaces = table.drop_duplicates(["delta", "block", "name"])
    spaces = spaces.pivot(index=["block", "name"], columns="delta", values="predicted")
    parts = []
    for delta in spaces.columns[1:]:
        change = spaces[delta] - spaces[0.0]
        same = np.isclose(spaces[delta], spaces[0.0], rtol=1e-12, atol=0)
        rise, fall = (change[~same] > 0).sum(), (change[~same] < 0).sum()
        parts.append(
            f"from δ = 0 to {delta:g} {rise} of {len(spaces)} eigenspaces rise, {fall} fall"
        )
    worst = np.abs(table.predicted - table.computed).max()
    return (
        f"predicted and computed differ by {worst:.0e} at most; {'; '.join(parts)}, the rest stay, "
        "set by weight decay alone."
    )


@figure(
    "guo-condition-numbers",
    title="Condition numbers with smoothing, divided by those without",
    paper="no such figure known to us; the theorem says lower under label smoothing.",
    alt="Ratio of condition numbers against smoothing strength for 10 and 100 classes and against "
    "the number of classes, one line per definition, with a line at one.",
)
def draw_conditions(table: "pd.DataFrame") -> Drawing:
    """Condition number with smoothing divided by that without, under each definition, against delta
    (K = 10, 100) and against K.

    Args:
        table: from `condition_table`.
    """
    import matplotlib.pyplot as plt

    size = {"figsize": (style.WIDTH, 3.7), "sharey": True, "layout": "constrained"}
    drawing, panels = plt.subplots(1, 3, **size)
    slices = []
    for K in SHOWN_CLASSES:
        slices.append((table[table.K == K], "delta", STRENGTH, f"{K} classes"))
    at = table[np.isclose(table.delta, SMOOTHED)]
    slices.append((at, "K", "classes K", rf"$\delta$ = {SMOOTHED}"))
    for panel, (part, x, name, title) in zip(panels, slices, strict=True):
        for number, definition in enumerate(ufm_spectra.DEFINITIONS):
            line = part[part.definition == definition]
            look = style.series(number) | {"markevery": max(1, len(line) // 6)}
            panel.plot(line[x], line.ratio, label=definition, **look)
        panel.axhline(1, color=style.SOFT, lw=0.8)
        xscale = "log" if x == "K" else "linear"
        panel.set(xlabel=name, title=title, yscale="log", xscale=xscale)
    show_integers(panels[2], sorted(set(at.K)))
    panels[0].set_ylabel(r"condition number / that at $\delta = 0$")
    draw_legend(drawing, panels[:1], columns=4)
    caption = (
        f"At δ = {SMOOTHED} smoothing changes the condition number of ten classes by "
        f"{describe_changes(table)}. {describe_conditions(table)}"
    )
    return Drawing(drawing, caption, table)


def describe_changes(table: "pd.DataFrame", K: int = 10) -> str:
    """By how much the paper's strength changes each condition number, in numbers."""
    at = table[(table.K == K) & np.isclose(table.delta, SMOOTHED)]
    return ", ".join(f"{row.ratio - 1:+.1%} ({row.definition})" for row in at.itertuples())


def describe_conditions(table: "pd.DataFrame") -> str:
    """Where each condition number is lower than without smoothing."""
    lines = []
    for K in SHOWN_CLASSES:
        parts = []
        for name in ufm_spectra.DEFINITIONS:
            line = table[(table.K == K) & (table.definition == name)]
            parts.append(f"{name} {describe_below_one(line)}")
        lines.append(f"K = {K}: {', '.join(parts)}")
    return f"Lower with smoothing (below 1): {'; '.join(lines)}."


def describe_below_one(line: "pd.DataFrame") -> str:
    """At which strengths the ratio of a line over delta is below 1, delta = 0 left out."""
    line = line[line.delta > 0].sort_values("delta")
    lower = (line.ratio < 1).to_numpy()
    if lower.all() or not lower.any():
        return "everywhere" if lower.all() else "nowhere"
    if (np.diff(lower.astype(int)) >= 0).all():
        return f"from δ = {line.delta[lower].min():.2g} on"
    return f"at {lower.sum()} of {len(lower)} strengths"


# ---- claims

SPECTRUM_TOLERANCE = 1e-10  # fixed before the first run
LOWER = 1 - 1e-12  # a ratio below 1 by more than rounding


@decides(
    Claim(
        "G12",
        PAPER.name,
        "Theorem 2; which Hessian it is about is not known to us",
        "The Hessian at the minimiser has a lower condition number with label smoothing.",
        "for the data loss in W or in H, non-zero eigenvalues (D1): K − (K−1)(δ + Kε), falling in "
        "δ",
        changed="The readings D3, D4 and D5 are ours. At first they had an answer of their own, "
        "“does not hold”; now they are a remark.",
    )
)
def decide_g12(claim: Claim, hessians: "pd.DataFrame", conditions: "pd.DataFrame") -> Verdict:
    """G12 read as D1: its fall at the paper's strength and over 300 strengths, and the formula
    against Hessians written out. The other readings at the paper's strength are details.

    Args:
        hessians: from `hessian_table`.
        conditions: from `condition_table`.
    """
    worst = (hessians.computed - hessians.predicted).abs().max()
    ten = conditions[(conditions.K == 10) & (conditions.definition == "D1")]
    ratio = ten[np.isclose(ten.delta, SMOOTHED)].ratio.item()
    cases = [
        Case.exact(
            "D1",
            f"condition number at δ = {SMOOTHED} / at δ = 0, K = 10:",
            ratio,
            at_most=LOWER,
            form=".3f",
        ),
        Case.exact(
            "D1",
            f"largest difference between the formula and {len(hessians)} computed Hessians "
            "(K = 2 to 5)",
            worst,
            at_most=SPECTRUM_TOLERANCE,
            form=".1e",
        ),
        Case.exact(
            "D1",
            "over 300 strengths and K = 3, 4, 5, steps at which it does not fall:",
            count_rises(),
            at_most=0,
        ),
        *_other_readings(conditions),
    ]
    others = [case for case in cases if not case.deciding]
    higher = [case.name for case in others if case.value >= 1]
    remark = (
        f"for K = 2 it is 1 whatever δ; of {len(others)} other readings {len(higher)} are higher "
        "with smoothing: "
        f"{', '.join(f'{case.name} {case.numbers}' for case in others)}"
    )
    # of four readings the one that makes the theorem true, for K >= 3
    return Verdict(claim, f"{TRIED_ON}, read as D1", cases, remark=remark)


def _other_readings(table: "pd.DataFrame") -> list[Case]:
    """Condition numbers under the other definitions at the paper's strength, as details."""
    at = table[np.isclose(table.delta, SMOOTHED) & table.K.isin(SHOWN_CLASSES)]
    at = at[at.definition != "D1"].sort_values(["definition", "K"])
    cases = []
    for row in at.itertuples():
        plain = row.value / row.ratio
        case = Case.exact(
            f"{row.definition} (K = {row.K})",
            "ratio to δ = 0",
            row.ratio,
            at_most=LOWER,
            form=".2f",
            remark=f"{plain:.4g} at δ = 0, {row.value:.4g} at δ = {SMOOTHED}",
            deciding=False,
        )
        cases.append(case)
    return cases


def verdicts(tables: Tables) -> Verdicts:
    """The page's answer."""
    return Verdicts([decide_g12(tables.hessians, tables.conditions)])
