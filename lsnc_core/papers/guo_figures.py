"""Guo et al. 2025: figures of the feature model's minimisers (Theorem 1), spectra and condition
numbers (Theorem 2), and training.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lsnc_core.papers import guo, guo_dynamics
from lsnc_core.papers.style import COLOURS, styled
from lsnc_core.theory import ufm, ufm_spectra
from lsnc_core.theory.ufm import Loss

STRENGTH = r"smoothing strength $\delta$"
MARKS = ("o", "s", "^", "D", "v", "P")
DASHES = ("-", "--", ":", "-.", (0, (5, 1)), (0, (1, 1)))


def _label(delta: float) -> str:
    return rf"$\delta$ = {delta:g}" + (" (cross-entropy)" if delta == 0 else "")


@styled
def minimisers(table: pd.DataFrame) -> Figure:
    """Margin (above) and norms (below) against delta, K and decay: lines predicted, marks found by
    L-BFGS.
    """
    figure, panels = plt.subplots(
        2, 3, figsize=(11, 6.4), sharex="col", sharey="row", layout="constrained"
    )
    of = {name: part for name, part in table.groupby("varied")}
    by = {"strength": "strength", "K": "K", "decay": "eps"}
    for column, (varied, x) in enumerate(by.items()):
        rows = (
            [(None, of[varied])] if varied == "strength" else list(of[varied].groupby("strength"))
        )
        for number, (delta, part) in enumerate(rows):
            part = part.sort_values(x)
            colour = COLOURS[number]
            panels[0, column].plot(
                part[x],
                part.found_margin,
                MARKS[number],
                color=colour,
                ms=5,
                label=delta is not None and _label(delta),
            )
            panels[1, column].plot(part[x], part.found_w, MARKS[number], color=colour, ms=5)
            panels[1, column].plot(
                part[x], part.found_h, MARKS[number], color=colour, ms=5, mfc="none"
            )
            for row, name in ((0, "margin"), (1, "w_norm"), (1, "h_norm")):
                line = _line(varied, delta, part)
                panels[row, column].plot(
                    line["x"],
                    line[name],
                    color=colour,
                    lw=1.2,
                    ls="--" if name == "h_norm" else "-",
                )
    for delta, colour in ((0.05, COLOURS[1]), (0.2, COLOURS[2])):
        panels[0, 2].axhline(ufm.margin(delta, 0.0, 10), color=colour, lw=0.9, ls=":")
    panels[0, 0].set(ylabel="margin a", title="10 classes, the code's decays")
    panels[0, 1].set(title="the code's decays", xscale="log")
    panels[0, 2].set(title="10 classes; dotted: limit without decay", xscale="log")
    panels[0, 1].legend(frameon=False, fontsize="small")
    panels[1, 0].set(xlabel=STRENGTH, ylabel=r"norms: $\|w_k\|$ filled, $\|h_k\|$ open")
    panels[1, 1].set(xlabel="classes K")
    _number_ticks(panels[1, 1], sorted(set(of["K"].K)))
    panels[1, 2].set(xlabel=r"decay $\varepsilon = \sqrt{n \lambda_W \lambda_H}$")
    return figure


def _number_ticks(panel, values: list[int]) -> None:
    """Plain numbers on a logarithmic axis."""
    panel.set_xticks(values, [str(value) for value in values])
    panel.set_xticks([], minor=True)


def _line(varied: str, delta: float | None, part: pd.DataFrame) -> dict:
    """The closed form along one panel's axis: x, margin, w_norm, h_norm."""
    if varied == "strength":
        x = np.linspace(0, part.strength.max(), 200)
        models = [(guo.code_model(), Loss("ls", x))]
    elif varied == "K":
        x = np.arange(part.K.min(), part.K.max() + 1)
        models = [(guo.code_model(int(K)), Loss("ls", delta)) for K in x]
    else:
        weaker = np.geomspace(0.05, 20, 60)
        models = [(guo.code_model(weaker=value), Loss("ls", delta)) for value in weaker]
        x = np.array([model.eps for model, _ in models])
    solved = [ufm.minimiser(model, loss) for model, loss in models]
    values = {"margin": "margin", "w_norm": "W_norm", "h_norm": "h_norm"}
    return {"x": x} | {
        name: np.concatenate([np.atleast_1d(getattr(at, field)) for at in solved])
        for name, field in values.items()
    }


@styled
def threshold(table: pd.DataFrame) -> Figure:
    """The margin found on both sides of delta + K eps = 1, with the closed form."""
    figure, axes = plt.subplots(figsize=(5.4, 3.6), layout="constrained")
    level = np.linspace(table.level.min(), table.level.max(), 200)
    axes.plot(level, ufm.margin(0.0, level / 4, 4), color="black", lw=1.2, label="closed form")
    for number, (delta, part) in enumerate(table.groupby("strength")):
        # the margin depends on the sum alone, so both strengths share a curve
        marks = {
            "marker": MARKS[number],
            "ms": 8 - 4 * number,
            "ls": "",
            "mfc": "none" if number == 0 else COLOURS[1],
        }
        axes.plot(
            part.level,
            part.found_margin,
            color=COLOURS[number],
            label=f"found, {_label(delta)}",
            **marks,
        )
    axes.axvline(1, color="grey", lw=0.8, ls=":")
    axes.set(xlabel=r"$\delta + K \varepsilon$", ylabel="margin a")
    axes.legend(frameon=False, fontsize="small")
    return figure


@styled
def spectra(table: pd.DataFrame) -> Figure:
    """Eigenvalues of three Hessians in order of size: lines predicted, dots computed; zero
    eigenvalues (rotations) left out.
    """
    titles = {"W": "in W", "H": "in H", "all": "in W, H and b"}
    figure, panels = plt.subplots(1, 3, figsize=(11, 3.9), layout="constrained")
    for panel, (block, title) in zip(panels, titles.items(), strict=True):
        for number, (delta, part) in enumerate(
            table[(table.block == block) & (table.predicted > 0)].groupby("delta")
        ):
            colour = COLOURS[number]
            panel.step(
                part.number, part.predicted, where="mid", color=colour, lw=1.2, ls=DASHES[number]
            )
            few = part.iloc[:: max(1, len(part) // 40)]
            panel.plot(
                few.number,
                few.computed,
                MARKS[number],
                color=colour,
                ms=4,
                mfc="none",
                label=_label(delta),
            )
        panel.set(yscale="log", xlabel="eigenvalue number", title=f"Hessian {title}")
    panels[0].set_ylabel("eigenvalue")
    panels[0].legend(frameon=False, fontsize="small", loc="upper left")
    return figure


@styled
def conditions(table: pd.DataFrame) -> Figure:
    """Condition number with smoothing by that without, under each definition, against delta (K =
    10, 100) and against K.
    """
    figure, panels = plt.subplots(1, 3, figsize=(11, 3.9), sharey=True, layout="constrained")
    slices = [(table[table.K == K], "delta", STRENGTH, f"{K} classes") for K in (10, 100)]
    at = table[np.isclose(table.delta, guo.SMOOTHED)]
    slices.append((at, "K", "classes K", rf"$\delta$ = {guo.SMOOTHED}"))
    for panel, (part, x, name, title) in zip(panels, slices, strict=True):
        for number, definition in enumerate(ufm_spectra.DEFINITIONS):
            line = part[part.definition == definition]
            panel.plot(
                line[x],
                line.ratio,
                color=COLOURS[number],
                ls=DASHES[number],
                lw=1.8,
                label=definition,
            )
        panel.axhline(1, color="grey", lw=0.8)
        panel.set(xlabel=name, title=title, yscale="log", xscale="log" if x == "K" else "linear")
    _number_ticks(panels[2], sorted(set(at.K)))
    panels[0].set_ylabel(r"condition number by that at $\delta = 0$")
    panels[0].legend(frameon=False, fontsize="small")
    return figure


@styled
def rates(table: pd.DataFrame) -> Figure:
    """The rate of NC1 in units of lambda_H: lines predicted, marks measured."""
    figure, axes = plt.subplots(figsize=(5.6, 3.9), layout="constrained")
    for number, ((K, eps), part) in enumerate(table.groupby(["K", "eps"])):
        colour = COLOURS[number]
        axes.plot(part.delta, part.predicted, color=colour, ls=DASHES[number], lw=1.4)
        axes.plot(
            part.delta,
            part.measured,
            MARKS[number],
            color=colour,
            ms=5,
            label=rf"K = {K}, $\varepsilon$ = {eps:.2g}",
        )
    axes.set(xlabel=STRENGTH, ylabel=r"rate of NC1, $e / \lambda_H$", yscale="log")
    axes.legend(frameon=False, fontsize="small")
    return figure


@styled
def curves(table: pd.DataFrame) -> Figure:
    """Training curves of the model, one panel per metric: median over starts, band between the
    quartiles. Table: `summary`.
    """
    figure, panels = plt.subplots(1, 5, figsize=(14, 3.6), layout="constrained")
    for panel, (metric, name) in zip(panels, guo_dynamics.METRICS.items(), strict=True):
        for number, (delta, part) in enumerate(table[table.metric == metric].groupby("delta")):
            panel.plot(
                part.iteration,
                part["median"],
                color=COLOURS[number],
                ls=DASHES[number],
                lw=1.5,
                label=_label(delta),
            )
            panel.fill_between(
                part.iteration, part.low, part.high, color=COLOURS[number], alpha=0.15, lw=0
            )
        panel.set(
            xlabel="iteration",
            title=name,
            xscale="log",
            yscale="linear" if metric == "error" else "log",
        )
    panels[0].set_ylim(bottom=1e-8)
    panels[0].set_ylabel("value")
    panels[2].set_ylim(bottom=1e-10)
    panels[1].legend(frameon=False, fontsize="small")
    return figure


@styled
def nc2_at_nc1(table: pd.DataFrame) -> Figure:
    """NC2 against NC1 with and without smoothing, a panel for each spread of the starts; filled
    where the difference is decided.
    """
    figure, panels = plt.subplots(
        1, table.spread.nunique(), figsize=(11, 3.7), sharey=True, layout="constrained"
    )
    for panel, (spread, part) in zip(panels, table.groupby("spread"), strict=True):
        for number, (column, label) in enumerate(
            (("ce", _label(0.0)), ("ls", _label(guo.SMOOTHED)))
        ):
            panel.plot(
                part.nc1,
                part[column],
                color=COLOURS[number],
                ls=DASHES[number],
                marker=MARKS[number],
                ms=5,
                label=label,
            )
        for row in part[part.low > 0].itertuples():
            panel.axvspan(row.nc1 / 2, row.nc1 * 2, color="grey", alpha=0.25, lw=0)
        panel.set(xscale="log", yscale="log", xlabel="NC1", title=f"starts of spread {spread:g}")
        panel.invert_xaxis()
    panels[0].set_ylabel("NC2 when NC1 passes")
    panels[0].legend(frameon=False, fontsize="small")
    return figure
