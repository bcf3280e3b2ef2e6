"""Zhou et al. 2022: figures of the feature model's landscape under four losses."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lsnc_core.papers import zhou
from lsnc_core.papers.style import COLOURS, styled
from lsnc_core.theory import ufm, ufm_landscape
from lsnc_core.theory.ufm import FeatureModel, Loss

MARKS = ("o", "s", "^", "D", "v")
DASHES = ("-", "--", ":", "-.", (0, (5, 1)))


@styled
def reached(table: pd.DataFrame) -> Figure:
    """Gap to the least value along every run of L-BFGS, a panel for each loss, a colour for each
    spread of the starts.
    """
    figure, panels = plt.subplots(
        1, len(zhou.LOSSES), figsize=(12, 3.5), sharey=True, layout="constrained"
    )
    for panel, (loss, part) in zip(panels, table.groupby("loss", sort=False), strict=True):
        for number, (spread, runs) in enumerate(part.groupby("spread")):
            gaps = runs.pivot(index="iteration", columns="start", values="gap").clip(
                lower=1e-16
            )  # rounding goes below 0
            lines = panel.plot(
                gaps.index, gaps, color=COLOURS[number], ls=DASHES[number], lw=0.8, alpha=0.6
            )
            lines[0].set_label(f"{spread:g}")
        panel.set(xscale="log", yscale="log", xlabel="iteration", title=loss)
    panels[0].set_ylabel("gap to the least value, relative")
    panels[0].legend(title="spread of the start", frameon=False, fontsize="small", loc="lower left")
    return figure


@styled
def margins(table: pd.DataFrame) -> Figure:
    """Margin of the minimiser against the decay: lines in closed form, marks found."""
    figure, axes = plt.subplots(figsize=(5.8, 3.9), layout="constrained")
    eps = np.geomspace(table.eps.min() / 2, table.eps.max() * 4, 200)
    for number, (name, loss) in enumerate(zhou.LOSSES.items()):
        part = table[table.loss == name]
        # eps depends on the decay alone: eps = sqrt(n) lambda with lambda_W = lambda_H
        models = [FeatureModel(4, 2, 6, value / np.sqrt(2), value / np.sqrt(2)) for value in eps]
        axes.plot(
            eps,
            [ufm.minimiser(model, loss).margin for model in models],
            color=COLOURS[number],
            ls=DASHES[number],
            lw=1.4,
        )
        axes.plot(part.eps, part.found, MARKS[number], color=COLOURS[number], ms=5, label=name)
    axes.set(
        xlabel=r"decay $\varepsilon = \sqrt{n \lambda_W \lambda_H}$",
        ylabel="margin a",
        xscale="log",
    )
    axes.legend(frameon=False, fontsize="small")
    return figure


@styled
def saddles(table: pd.DataFrame) -> Figure:
    """Critical points by rank. Left: downward curvature, crosses constructed from the data loss's
    gradient, marks least eigenvalue.

    Right: that gradient's norm by its bound, which only global minimisers keep.
    """
    figure, (axes, right) = plt.subplots(1, 2, figsize=(10.5, 4), layout="constrained")
    losses = list(table.groupby("loss", sort=False))
    for number, (name, part) in enumerate(losses):
        x = part["rank"] + 0.12 * (number - (len(losses) - 1) / 2)  # side by side
        right.plot(
            x,
            part.data_gradient / part.bound,
            MARKS[number],
            color=COLOURS[number],
            ms=7,
            mfc="none",
            label=name,
        )
        x, part = x[~part.globally], part[~part.globally]
        axes.plot(
            x, -part.least, MARKS[number], color=COLOURS[number], ms=8, mfc="none", label=name
        )
        axes.plot(x, -part.escape, "x", color=COLOURS[number], ms=5)
    axes.set(
        yscale="log", xlabel="rank of W and H at the critical point", ylabel="downward curvature"
    )
    axes.set_xticks(range(zhou.small_model().K - 1))
    right.axhline(1, color="grey", lw=0.8)
    right.set(
        yscale="log",
        xlabel="rank of W and H at the critical point",
        ylabel=r"$\|\nabla g\| / \sqrt{\lambda_W \lambda_H}$",
    )
    right.set_xticks(range(zhou.small_model().K))
    axes.legend(frameon=False, fontsize="small")
    return figure


@styled
def focal_region(table: pd.DataFrame) -> Figure:
    """Left: where focal loss is convex, with random Hessians; right: its one-dimensional objective
    where two margins are equally good.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4), layout="constrained")
    gamma = np.linspace(0.1, 6, 300)
    left.fill_between(
        gamma,
        ufm.focal_convex_from(gamma),
        1,
        color=COLOURS[2],
        alpha=0.2,
        lw=0,
        label="convex: p at least p*(γ)",
    )
    left.plot(gamma, ufm.focal_convex_from(gamma), color="black", lw=1.4, label="p*(γ)")
    few = table.iloc[:: max(1, len(table) // 400)]
    for convex, mark, colour, label in (
        (True, "o", COLOURS[0], "computed: convex"),
        (False, "x", COLOURS[3], "computed: not convex"),
    ):
        part = few[(few.least >= 0) == convex]
        # spread sideways, or the points of one gamma hide each other
        aside = part.gamma + 0.03 * (part.K - 5)
        left.plot(aside, part.p, mark, color=colour, ms=3.5, mfc="none", ls="", label=label)
    left.set(
        xlim=(0, 6),
        xlabel=r"focusing parameter $\gamma$",
        ylabel="softmax p of the target",
        yscale="log",
        ylim=(1e-3, 1),
    )
    left.legend(
        frameon=False, fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=2
    )
    K, focus = 100, 3.0
    tie, a = ufm_landscape.focal_tie(focus, K), np.linspace(0, 4.5, 400)
    for number, (factor, label) in enumerate(
        ((0.93, "less decay: the far one"), (1.0, "both margins"), (1.07, "more decay: zero"))
    ):
        value = (
            ufm.sample_loss(Loss("focal", focus), a, K)
            - ufm.sample_loss(Loss("focal", focus), 0, K)
            + (K - 1) * factor * tie * a
        )
        right.plot(
            a,
            value,
            color=COLOURS[number],
            ls=DASHES[number],
            lw=1.6,
            label=rf"$\varepsilon$ = {factor * tie:.4f}, {label}",
        )
    right.set(
        xlabel="margin a",
        ylabel=r"$\varphi(a) - \varphi(0) + (K-1)\varepsilon a$ (nats)",
        title=rf"K = {K}, $\gamma$ = {focus:g}",
    )
    right.legend(frameon=False, fontsize="small")
    return figure
