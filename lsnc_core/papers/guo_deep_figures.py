"""Guo et al. 2025, deep networks: figures of collapse over training (F1, F2, F7, F9 to F12) and
over the smoothing strength (F6).

Lines are means over seeds, bands reach from the least to the largest seed, error bars are 95 %
t-intervals.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lsnc_core.papers import claims, guo_collapse
from lsnc_core.papers.style import COLOURS, styled

STRENGTH = r"smoothing strength $\delta$"
NAMES = {"train_error": "error rate", "nc1": "NC1", "nc2": "NC2", "nc3": "NC3"}
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)))
MARKS = ("o", "s", "^", "D", "v", "P", "X")


def by_data(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The table's parts by image set and weight decay, each with its title, in the table's
    order.
    """
    return [
        (f"{Path(part.data.iloc[0]).name}, decay {part.weight_decay.iloc[0]:g}", part)
        for part in guo_collapse.groups(table)
    ]


def curve(panel, run: pd.DataFrame, column: str, **look) -> None:
    """One arm's mean over seeds against the epoch, with a band from the least to the largest
    seed.
    """
    seeds = run.groupby("epoch")[column]
    (line,) = panel.plot(seeds.mean(), **look)
    panel.fill_between(
        seeds.min().index, seeds.min(), seeds.max(), color=line.get_color(), alpha=0.15, lw=0
    )


def arms(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame, dict]]:
    """The table's arms in order of appearance, each with its name, rows and look."""
    return [
        (name, table[table.arm == name], {"color": COLOURS[number % len(COLOURS)], "lw": 1.6})
        for number, name in enumerate(dict.fromkeys(table.arm))
    ]


def grid(rows: int, columns: int, height: float = 3.1) -> tuple[Figure, np.ndarray]:
    """A figure of panels in rows and columns."""
    return plt.subplots(
        rows,
        columns,
        figsize=(2.9 * columns, height * rows + 0.3),
        layout="constrained",
        squeeze=False,
    )


@styled
def dynamics(table: pd.DataFrame) -> Figure:
    """F1: error (training solid, test dashed), NC1, NC2, NC3 against epoch, a row per image set, a
    colour per arm.
    """
    parts = by_data(table)
    figure, panels = grid(len(parts), 4)
    for row, (title, part) in zip(panels, parts, strict=True):
        for name, run, look in arms(part):
            for panel, column in zip(row, NAMES, strict=True):
                curve(panel, run, column, label=name, **look)
            curve(row[0], run, "test_error", ls="--", **look)
        _finish_dynamics(row, title)
        row[0].set_ylabel("error rate, training solid, test dashed")
    panels[0][1].legend(frameon=False, fontsize="small")
    return figure


def _finish_dynamics(row, title: str) -> None:
    for panel, name in zip(row, NAMES.values(), strict=True):
        panel.set(xlabel="epoch", ylabel=name)
    row[0].set(title=title, ylim=(0, None))
    row[1].set_yscale("log")
    for panel in row[2:]:
        panel.set_ylim(0, None)


@styled
def early(table: pd.DataFrame) -> Figure:
    """F11: error against epoch, training solid, test dashed, with an inset of the first fifth of
    the epochs.
    """
    parts = by_data(table)
    figure, panels = plt.subplots(
        1, len(parts), figsize=(6.2 * len(parts), 4), layout="constrained", squeeze=False
    )
    for panel, (title, part) in zip(panels[0], parts, strict=True):
        inset = panel.inset_axes((0.38, 0.42, 0.58, 0.52))
        for name, run, look in arms(part):
            for axes in (panel, inset):
                curve(axes, run, "train_error", label=name, **look)
                curve(axes, run, "test_error", ls="--", **look)
        inset.set_xlim(1, max(part.epochs.iloc[0] / 5, 4))
        inset.set_ylim(
            0, 1.02 * part[part.epoch > 1].groupby(["arm", "epoch"]).test_error.mean().max()
        )
        panel.set(
            xlabel="epoch",
            ylabel="error rate, training solid, test dashed",
            title=title,
            ylim=(0, None),
        )
        panel.legend(frameon=False, fontsize="small", loc="lower right", bbox_to_anchor=(1, 0.1))
    return figure


@styled
def train_and_test(table: pd.DataFrame) -> Figure:
    """F12: NC1, NC2, NC3 of training (solid) and test images (dashed) against epoch."""
    parts = by_data(table)
    figure, panels = grid(len(parts), 3)
    for row, (title, part) in zip(panels, parts, strict=True):
        for panel, metric in zip(row, guo_collapse.METRICS, strict=True):
            for name, run, look in arms(part):
                curve(panel, run, metric, label=name, **look)
                curve(panel, run, f"test_{metric}", ls="--", **look)
            panel.set(xlabel="epoch", ylabel=f"{NAMES[metric]}, training solid, test dashed")
        row[0].set(yscale="log", title=title)
        for panel in row[1:]:
            panel.set_ylim(0, None)
    panels[0][0].legend(frameon=False, fontsize="small")
    return figure


@styled
def strengths(table: pd.DataFrame) -> Figure:
    """F7: training error, NC1, NC2, NC3 against epoch, a colour from dark to light and a dash per
    smoothing strength.
    """
    parts = by_data(table[table.loss == "ce"])
    figure, panels = grid(len(parts), 4)
    for row, (title, part) in zip(panels, parts, strict=True):
        found = sorted(set(part.delta))
        for number, delta in enumerate(found):
            look = {
                "color": plt.get_cmap("viridis")(0.92 * number / max(1, len(found) - 1)),
                "ls": DASHES[number % len(DASHES)],
                "lw": 1.4,
            }
            for panel, column in zip(row, NAMES, strict=True):
                curve(
                    panel, part[part.delta == delta], column, label=rf"$\delta$ = {delta:g}", **look
                )
        _finish_dynamics(row, title)
        row[0].set_ylabel("training error rate")
    panels[0][1].legend(frameon=False, fontsize="x-small", ncols=2)
    return figure


@styled
def nc1_against_nc2(table: pd.DataFrame) -> Figure:
    """F2: NC1 against NC2, a point per run and measured epoch, coloured by test error; CE crosses,
    LS triangles.
    """
    parts = by_data(guo_collapse.pair(table))
    figure, panels = plt.subplots(
        1, len(parts), figsize=(5.6 * len(parts), 4.2), layout="constrained", squeeze=False
    )
    for panel, (title, part) in zip(panels[0], parts, strict=True):
        top = part.test_error.quantile(
            0.8
        )  # the first epochs' errors would leave no colours for the rest
        for (_, run), marker in zip(part.groupby("delta"), ("+", "^"), strict=True):
            image = panel.scatter(
                run.nc2,
                run.nc1,
                c=run.test_error,
                marker=marker,
                s=34,
                cmap="viridis",
                vmin=part.test_error.min(),
                vmax=top,
                label=run.arm.iloc[0],
            )
        panel.set(xlabel="NC2", ylabel="NC1", yscale="log", title=title)
        legend = panel.legend(frameon=False, fontsize="small")
        for handle in legend.legend_handles:
            handle.set_array(None)
            handle.set(facecolor="black", edgecolor="black")
        figure.colorbar(image, ax=panel, label="test error", extend="max")
    return figure


@styled
def losses(table: pd.DataFrame) -> Figure:
    """F9: training loss, and its distance to the run's lowest plus c on a log axis, against epoch;
    grey where G10's slope is taken.
    """
    parts = by_data(guo_collapse.pair(table))
    figure, panels = plt.subplots(
        len(parts), 2, figsize=(9, 3.5 * len(parts) + 0.3), layout="constrained", squeeze=False
    )
    for row, (title, part) in zip(panels, parts, strict=True):
        gaps = guo_collapse.loss_gap(part)
        for name, run, look in arms(gaps):
            curve(row[0], run, "train_loss", label=name, **look)
            curve(row[1], run, "gap", label=name, **look)
        row[1].axvspan(*guo_collapse.slope_epochs(part), color="grey", alpha=0.15, lw=0)
        row[0].set(xlabel="epoch", ylabel="training loss (nats)", title=title)
        row[1].set(
            xlabel="epoch", ylabel=f"loss − lowest loss + {gaps.c.iloc[0]:g} (nats)", yscale="log"
        )
        row[0].legend(frameon=False, fontsize="small")
    return figure


def bars(panel, ends: pd.DataFrame, column: str, **look) -> None:
    """Means over seeds against the strength, with 95 % t-intervals where there are four seeds or
    more.
    """
    curves = ends.groupby("delta")[column].agg(list)
    enough = curves.map(
        lambda values: len(values) >= claims.MIN_SEEDS and np.isfinite(values).all()
    )
    half = [
        claims.t_interval(values)[2] - np.mean(values) if good else np.nan
        for values, good in zip(curves, enough, strict=True)
    ]
    panel.errorbar(curves.index, curves.map(np.mean), yerr=half, capsize=2, lw=1.5, ms=5, **look)


def shared_legend(panel, other, **look) -> None:
    """One legend for a panel and its second axis."""
    (lines, names), (more, others) = (axes.get_legend_handles_labels() for axes in (panel, other))
    other.legend(lines + more, names + others, frameon=False, **({"fontsize": "small"} | look))


@styled
def against_strength(table: pd.DataFrame) -> Figure:
    """F6: NC1 (left axis, log) with NC2 and NC3 (right axis), norms, and test error, at the end of
    training against the strength.
    """
    parts = by_data(guo_collapse.last(table[table.loss == "ce"]))
    figure, panels = plt.subplots(
        len(parts), 3, figsize=(12, 3.6 * len(parts) + 0.2), layout="constrained", squeeze=False
    )
    for row, (title, ends) in zip(panels, parts, strict=True):
        other = row[0].twinx()
        bars(row[0], ends, "nc1", fmt="o-", color=COLOURS[0], label="NC1 (left)")
        bars(other, ends, "nc2", fmt="s--", color=COLOURS[1], label="NC2 (right)")
        bars(other, ends, "nc3", fmt="^:", color=COLOURS[2], label="NC3 (right)")
        row[0].set(yscale="log", ylabel="NC1", title=title)
        other.set(ylabel="NC2, NC3", ylim=(0, None))
        shared_legend(row[0], other)
        bars(row[1], ends, "w_norm", fmt="o-", color=COLOURS[0], label=r"$\|w_k\|$")
        bars(row[1], ends, "h_norm", fmt="s--", color=COLOURS[1], label=r"$\|\mu_k - \mu_G\|$")
        row[1].set(ylabel="mean norm over classes", ylim=(0, None))
        row[1].legend(frameon=False, fontsize="small")
        bars(row[2], ends, "test_error", fmt="o-", color=COLOURS[0])
        row[2].set_ylabel("test error rate")
        for panel in row:
            panel.set_xlabel(STRENGTH)
    return figure


@styled
def theorem_norms(table: pd.DataFrame) -> Figure:
    """F10: measured norms relative to Theorem 1 against epoch, classifier and features; grey: the
    claim's 2 %.
    """
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.7), layout="constrained", sharey=True)
    for panel, (column, name) in zip(
        panels, (("error_w", r"$\|w_k\|$"), ("error_h", r"$\|\mu_k - \mu_G\|$")), strict=True
    ):
        for number, (delta, run) in enumerate(table.groupby("delta")):
            curve(
                panel,
                run,
                column,
                label=rf"$\delta$ = {delta:g}",
                color=COLOURS[number],
                ls=DASHES[number],
                lw=1.6,
            )
        panel.axhspan(-0.02, 0.02, color="grey", alpha=0.25, lw=0)
        panel.set(xlabel="epoch", title=name, ylim=(-0.3, 0.5))
    panels[0].set_ylabel("measured by predicted − 1")
    panels[0].legend(frameon=False, fontsize="small")
    return figure
