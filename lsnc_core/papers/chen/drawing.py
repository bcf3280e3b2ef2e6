"""Chen, Ziyin et al. 2020: figures of the theory (1 to 4) with their tables, and of the landscape
(5 and 6).
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lsnc_core.data_sources import source_of
from lsnc_core.errors import UsageError
from lsnc_core.papers import chen_landscape, chen_minima, claims
from lsnc_core.papers.style import COLOURS, LOSS_MAP, RESIDUAL_MAP, styled
from lsnc_core.theory import label_noise

NAMES = {
    "alpha": r"$\alpha$: clean test labels",
    "beta": r"$\beta$: noisy test labels",
    "gamma": r"$\gamma$: Bayesian test labels",
}
DASHES = {"alpha": "-", "beta": "--", "gamma": ":"}
CLEAN_RATE, KEPT = "clean rate a", "kept mass p"
# Losses diverge at p = 1; the colour scale of heat maps ends here, in nats, and the bar says so.
TOP = 3.0


def top(table: pd.DataFrame) -> float:
    """Where a scale of losses of trained networks ends, in nats: `TOP`, of more than ten classes in
    proportion to log M.
    """
    return TOP * max(1.0, float(np.log10(source_of(table.data.iloc[0]).num_classes)))


def landscape_theory(M: int = 2, points: int = 101) -> pd.DataFrame:
    """The three losses over the (a, p) plane: one row per (a, p), columns alpha, beta, gamma in
    nats (inf where they diverge).

    Raises:
        UsageError: for fewer than 2 points an axis.
    """
    if points < 2:
        raise UsageError(f"points must be at least 2, got {points!r}.")
    a, p = (
        axis.ravel() for axis in np.meshgrid(np.linspace(0, 1, points), np.linspace(0, 1, points))
    )
    return pd.DataFrame(
        {"a": a, "p": p} | {kind: label_noise.loss(kind, a, p, M) for kind in label_noise.KINDS}
    )


def optima_theory(
    kinds: tuple[str, ...], classes: tuple[int, ...], points: int = 201
) -> pd.DataFrame:
    """The best kept mass against the clean rate: one row per (kind, M, a) with p* and the loss
    there.

    Raises:
        UsageError: when no number of classes is given, or one is below 2.
    """
    if not classes:
        raise UsageError("classes must name at least one number of classes, got none.")
    a = np.linspace(0, 1, points)
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "kind": kind,
                    "M": M,
                    "a": a,
                    "p": label_noise.optimum(kind, a, M),
                    "loss": label_noise.best_loss(kind, a, M),
                }
            )
            for kind in kinds
            for M in classes
        ],
        ignore_index=True,
    )


def _mark(axes, xlabel: str = CLEAN_RATE, ylabel: str = KEPT) -> None:
    axes.set(xlabel=xlabel, ylabel=ylabel, xlim=(0, 1), ylim=(0, 1))


@styled
def figure_1(table: pd.DataFrame) -> Figure:
    """Heat maps of eqs 7, 8, 9 over the (a, p) plane with the best p of each a (the mirror minimum
    of gamma too).
    """
    figure, panels = plt.subplots(1, 3, figsize=(10.5, 3.7), sharey=True, layout="constrained")
    for panel, kind in zip(panels, label_noise.KINDS, strict=True):
        grid = table.pivot(index="p", columns="a", values=kind)
        image = panel.pcolormesh(
            grid.columns,
            grid.index,
            np.minimum(grid, 1e3),
            cmap=LOSS_MAP,
            vmin=0,
            vmax=TOP,
            shading="nearest",
            rasterized=True,
        )
        a = np.linspace(0, 1, 401)
        best = label_noise.optimum(kind, a, 2)
        panel.plot(a, best, color="white", lw=2.2)
        if kind == "gamma":
            panel.plot(a, 1 - best, color="white", lw=1.6, ls="--")
        _mark(panel)
        panel.set_title(NAMES[kind])
        panel.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
    for panel in panels[1:]:
        panel.set_ylabel("")
    figure.colorbar(image, ax=panels, extend="max", label="test loss (nats)")
    return figure


@styled
def figure_2(table: pd.DataFrame) -> Figure:
    """p* against a for two classes, three assumptions; gamma's mirror minimum 1 - p* thin."""
    figure, axes = plt.subplots(figsize=(5.2, 4), layout="constrained")
    for colour, (kind, part) in zip(COLOURS, table.groupby("kind"), strict=False):
        axes.plot(part.a, part.p, DASHES[kind], color=colour, lw=2.2, label=NAMES[kind])
        if kind == "gamma":
            axes.plot(
                part.a,
                1 - part.p,
                DASHES[kind],
                color=colour,
                lw=1,
                label=r"$\gamma$: its mirror minimum $1-p^*$",
            )
    _mark(axes, ylabel="best kept mass p*")
    axes.set_xlim(0.5, 1)
    axes.legend(frameon=False, fontsize="small")
    return figure


@styled
def figure_3(table: pd.DataFrame) -> Figure:
    """p* against a for alpha and beta and several numbers of classes, with the limit a^2."""
    figure, axes = plt.subplots(figsize=(5.6, 4), layout="constrained")
    alpha, beta = table[table.kind == "alpha"], table[table.kind == "beta"]
    first = alpha[min(alpha.M) == alpha.M]
    axes.plot(first.a, first.p, color="black", lw=2, label=r"$\alpha$, every M")
    for colour, (M, part) in zip(COLOURS, beta.groupby("M"), strict=False):
        axes.plot(part.a, part.p, color=colour, lw=1.8, label=rf"$\beta$, M = {M}")
    axes.plot(first.a, first.a**2, color="black", ls=":", lw=1.4, label=r"limit $a^2$")
    _mark(axes, ylabel="best kept mass p*")
    axes.legend(frameon=False, fontsize="small")
    return figure


@styled
def figure_4(table: pd.DataFrame) -> Figure:
    """p* against a for gamma and several numbers of classes, each jump as a thin vertical line at
    a_c.
    """
    figure, axes = plt.subplots(figsize=(5.6, 4), layout="constrained")
    for colour, (M, part) in zip(COLOURS, table.groupby("M"), strict=False):
        a_c, p_c = label_noise.gamma_transition(M)
        below, above = part[part.a < a_c], part[part.a > a_c]
        axes.plot(below.a, below.p, color=colour, lw=1.8, label=rf"M = {M}: $a_c$ = {a_c:.4f}")
        axes.plot([a_c, *above.a], [p_c, *above.p], color=colour, lw=1.8)
        axes.plot([a_c, a_c], [1 / M, p_c], color=colour, lw=0.9, ls=":")
    _mark(axes, ylabel="best kept mass p*")
    axes.legend(frameon=False, fontsize="small", loc="upper left")
    return figure


def heat(panel, grid: pd.DataFrame, rough: pd.DataFrame, **colours):
    """A heat map over cells of (a, p); cells whose networks have not memorised their labels are
    hatched.
    """
    # the clean rates of a grid are unevenly spaced: each gets a column of the same width, named on
    # the axis
    columns, rows = np.arange(len(grid.columns) + 1) - 0.5, np.arange(len(grid.index) + 1) - 0.5
    image = panel.pcolormesh(columns, rows, grid, rasterized=True, **colours)
    for row, column in np.argwhere(rough.to_numpy(bool)):
        panel.add_patch(
            Rectangle(
                (column - 0.5, row - 0.5), 1, 1, fill=False, hatch="////", lw=0, edgecolor="black"
            )
        )
    panel.set_xticks(range(len(grid.columns)), [f"{a:g}" for a in grid.columns], fontsize="small")
    panel.set_yticks(range(len(grid.index)), [f"{p:g}" for p in grid.index], fontsize="small")
    panel.set(xlabel=CLEAN_RATE)
    return image


def means(table: pd.DataFrame, column: str) -> pd.DataFrame:
    return table.pivot_table(index="p", columns="a", values=column, aggfunc="mean", dropna=False)


def position(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Where numbers stand on an axis with one equal cell per grid value."""
    return np.interp(at, values, np.arange(len(values)))


def rough_cells(table: pd.DataFrame) -> pd.DataFrame:
    """The cells of the grid in which a network has not memorised its labels."""
    return means(table, "memorised") < 1


@styled
def figure_5(table: pd.DataFrame) -> Figure:
    """Theory and measurement over the (a, p) grid, the lowest p of each a marked; one colour scale
    for all panels.
    """
    figure, panels = plt.subplots(1, 3, figsize=(11, 4.6), sharey=True, layout="constrained")
    # pcolormesh leaves infinite cells blank; they belong above the top of the scale
    theory = np.minimum(means(table, "predicted"), 1e3)
    across, rates, kept = (
        np.arange(len(theory.columns)),
        theory.columns.to_numpy(),
        theory.index.to_numpy(),
    )
    mark = {"color": "white", "mec": "black", "ms": 7}
    colours = {"cmap": LOSS_MAP, "vmin": 0, "vmax": top(table)}
    image = heat(panels[0], theory, rough_cells(table) & False, **colours)
    panels[0].plot(across, position(kept, rates), "o", **mark)
    panels[0].set(title="theory, equation 11, in these cells", ylabel=KEPT)
    for panel, (column, where) in zip(panels[1:], chen_landscape.PROTOCOLS.items(), strict=True):
        heat(panel, means(table, column), rough_cells(table), **colours)
        found = chen_minima.minima(table, column)
        panel.vlines(
            across, position(kept, found.low), position(kept, found.high), color="white", lw=2
        )
        panel.plot(across, position(kept, found.argmin), "o", **mark)
        panel.set_title(f"measured: {where}")
    figure.colorbar(image, ax=panels, extend="max", label="test loss (nats)")
    return figure


@styled
def figure_5_residual(table: pd.DataFrame) -> Figure:
    """Measured minus predicted loss over the (a, p) grid, p = 1 left out where the prediction is
    infinite.
    """
    figure, panels = plt.subplots(1, 2, figsize=(8.6, 4.4), sharey=True, layout="constrained")
    finite = table[np.isfinite(table.predicted)]
    rough = rough_cells(finite)
    for panel, (column, title) in zip(panels, chen_landscape.PROTOCOLS.items(), strict=True):
        grid = means(finite.assign(residual=finite[column] - finite.predicted), "residual")
        image = heat(panel, grid, rough.reindex_like(grid), cmap=RESIDUAL_MAP, vmin=-1, vmax=1)
        panel.set_title(title)
    panels[0].set_ylabel(KEPT)
    figure.colorbar(image, ax=panels, extend="both", label="measured - predicted (nats)")
    return figure


def seed_points(panel, curves: pd.DataFrame, **look) -> None:
    """Means over seeds (rows of `curves`) against its columns, with 95 % t-intervals where there
    are four seeds or more.
    """
    error = None
    if len(curves) >= claims.MIN_SEEDS:
        curves = curves.loc[
            :, np.isfinite(curves).all()
        ]  # a diverged network leaves no mean to draw
        intervals = [claims.t_interval(curves[value]) for value in curves]
        error = [
            [middle - low for middle, low, _ in intervals],
            [high - middle for middle, _, high in intervals],
        ]
    panel.errorbar(curves.columns, curves.mean(), yerr=error, capsize=2, **look)


def check_rates(table: pd.DataFrame, rates: tuple[float, ...]) -> None:
    """Refuse no clean rates, or one that the table does not have, with a UsageError."""
    if not rates:
        raise UsageError("rates must name at least one clean rate, got none.")
    for a in rates:
        if a not in set(table.a):
            raise UsageError(
                f"no network was trained at the clean rate {a!r}; there are {', '.join(f'{a:g}' for a in sorted(set(table.a)))}."
            )


def slice_title(table: pd.DataFrame, a: float) -> str:
    """ "a = 0.5, 4 seeds"."""
    seeds = table[table.a == a].seed.nunique()
    return f"a = {a:g}, {seeds} seed{'s' if seeds > 1 else ''}"


@styled
def figure_6(table: pd.DataFrame, rates: tuple[float, ...]) -> Figure:
    """Slices at fixed a: the formula as a line, measured means with 95 % intervals over seeds.

    Raises:
        UsageError: for a clean rate that the table does not have.
    """
    M = source_of(table.data.iloc[0]).num_classes
    check_rates(table, rates)
    figure, panels = plt.subplots(
        1,
        len(rates),
        figsize=(4.6 * len(rates) + 0.4, 4),
        sharey=True,
        layout="constrained",
        squeeze=False,
    )
    markers = dict(zip(chen_landscape.PROTOCOLS, ("o", "s"), strict=True))
    for panel, a in zip(panels[0], rates, strict=True):
        p = np.linspace(0.02, 0.999, 400)
        panel.plot(
            p, label_noise.loss("alpha", a, p, M), color="black", lw=1.6, label="theory, eq. 11"
        )
        panel.axvline(a, color="grey", lw=0.8, ls=":", label="predicted best p = a")
        for colour, (column, where) in zip(COLOURS, chen_landscape.PROTOCOLS.items(), strict=False):
            curves = table[table.a == a].pivot(index="seed", columns="p", values=column)
            seed_points(
                panel, curves, fmt=markers[column], color=colour, ms=5, label=f"measured: {where}"
            )
        panel.set(
            xlabel=KEPT, title=slice_title(table, a), xlim=(0, 1.02), ylim=(0, top(table) + 1)
        )
    panels[0][0].set_ylabel("test loss (nats); formula infinite at p = 1")
    panels[0][-1].legend(frameon=False, fontsize="small", loc="upper left")
    return figure


@styled
def size_residual(table: pd.DataFrame) -> Figure:
    """Measured minus predicted loss against the number of training images, a panel for each p;
    `table` from `chen_landscape.by_size`.
    """
    kept = sorted(set(table.p))
    figure, panels = plt.subplots(
        1,
        len(kept),
        figsize=(4.6 * len(kept) + 0.4, 4),
        sharey=True,
        layout="constrained",
        squeeze=False,
    )
    looks = (
        ("residual", "o-", "measured: held-out images"),
        ("train_residual", "s-", "measured: training images, clean labels"),
        ("accuracy_residual", "^:", "eq. 11 at the held-out accuracy instead of a"),
    )
    for panel, p in zip(panels[0], kept, strict=True):
        panel.axhline(0, color="black", lw=0.8)
        for colour, (column, mark, label) in zip(COLOURS, looks, strict=False):
            curves = table[table.p == p].pivot(index="seed", columns="train_size", values=column)
            seed_points(panel, curves, fmt=mark, color=colour, lw=1, ms=5, label=label)
        sizes = sorted(set(table.train_size))
        panel.set(
            xscale="log", xlabel="training images", title=f"a = {table.a.iloc[0]:g}, p = {p:g}"
        )
        panel.set_xticks(sizes, [f"{size:,}" for size in sizes])
        panel.minorticks_off()
    panels[0][0].set_ylabel("measured minus predicted (nats)")
    figure.legend(
        *panels[0][0].get_legend_handles_labels(),
        frameon=False,
        fontsize="small",
        ncols=3,
        loc="outside lower center",
    )
    return figure
