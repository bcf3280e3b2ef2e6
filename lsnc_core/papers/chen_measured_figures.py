"""Chen, Ziyin et al. 2020: Figures 7 to 11, all from the networks of the landscape."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lsnc_core.data_sources import source_of
from lsnc_core.papers import chen_accuracy, chen_beta, chen_landscape, chen_minima
from lsnc_core.papers.chen_figures import (
    CLEAN_RATE,
    KEPT,
    check_rates,
    heat,
    means,
    position,
    seed_points,
    slice_title,
    top,
)
from lsnc_core.papers.style import COLOURS, LOSS_MAP, styled
from lsnc_core.theory import label_noise

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "d")


@styled
def figure_7(table: pd.DataFrame, drawn: pd.DataFrame, rates: tuple[float, ...]) -> Figure:
    """Loss on noisy labels against p at fixed a: the formula, its measured expectation, one drawn
    corruption of the test labels.

    Args: table, from `chen_beta.table`; drawn, from `chen_beta.drawn`; rates, clean rates, a panel
    each.
    Raises: UsageError for a clean rate that the table does not have.
    """
    check_rates(table, rates)
    M = source_of(table.data.iloc[0]).num_classes
    figure, panels = plt.subplots(
        1,
        len(rates),
        figsize=(4.6 * len(rates) + 0.4, 4),
        sharey=True,
        layout="constrained",
        squeeze=False,
    )
    for panel, a in zip(panels[0], rates, strict=True):
        p = np.linspace(0.02, 0.999, 400)
        panel.plot(
            p, label_noise.loss("beta", a, p, M), color="black", lw=1.6, label="theory, eq. 14"
        )
        best = label_noise.optimum("beta", a, M)
        panel.axvline(best, color="grey", lw=0.8, ls=":", label=r"predicted best $p^*_\beta$")
        part = table[table.a == a]
        for number, (column, place) in enumerate(chen_beta.PLACES.items()):
            curves = part.pivot(index="seed", columns="p", values=column)
            seed_points(
                panel,
                curves,
                fmt=MARKERS[number],
                color=COLOURS[number],
                ms=5,
                label=f"expected: {place}",
            )
        once = drawn[drawn.a == a].groupby("p").drawn.mean()
        panel.plot(
            once.index,
            once,
            "x",
            color=COLOURS[4],
            ms=6,
            label="held-out images, one drawn corruption",
        )
        panel.set(
            xlabel=KEPT, title=slice_title(table, a), xlim=(0, 1.02), ylim=(0, 2 * top(table))
        )
    panels[0][0].set_ylabel("loss on noisy labels (nats); infinite at p = 1")
    panels[0][-1].legend(frameon=False, fontsize="small", loc="upper left")
    return figure


@styled
def beta_minima(table: pd.DataFrame) -> Figure:
    """Where the loss on clean and on noisy labels is lowest, against a, with alpha's and beta's
    best p; a panel for each kind of image.
    """
    M = source_of(table.data.iloc[0]).num_classes
    figure, panels = plt.subplots(1, 2, figsize=(9.6, 4), sharey=True, layout="constrained")
    a = np.linspace(0, 1, 201)
    for panel, (clean, place) in zip(panels, chen_landscape.PROTOCOLS.items(), strict=True):
        for number, (kind, column, labels) in enumerate(
            (("alpha", clean, "clean"), ("beta", chen_beta.NOISY[clean], "noisy"))
        ):
            colour = COLOURS[number]
            panel.plot(
                a,
                label_noise.optimum(kind, a, M),
                "-" if number == 0 else "--",
                color=colour,
                lw=1.4,
            )
            label = f"lowest loss on {labels} labels"
            argmins(
                panel,
                chen_minima.minima(table, column),
                color=colour,
                fmt=MARKERS[number],
                label=label,
            )
        panel.plot(
            [],
            [],
            "-",
            color="black",
            lw=1.2,
            label="lines: " + r"$p^*_\alpha$, $p^*_\beta$ (dashed)",
        )
        panel.set(
            xlabel=CLEAN_RATE,
            title=place.replace(", clean labels", ""),
            xlim=(table.a.min() - 0.05, 1.02),
            ylim=(0, 1.04),
        )
    panels[0].set_ylabel("best kept mass")
    panels[0].legend(frameon=False, fontsize="small", loc="upper left")
    return figure


def argmins(panel, found: pd.DataFrame, shift: float = 0.0, **look) -> None:
    """Argmins with their intervals as error bars."""
    error = np.abs(np.array([found.argmin - found.low, found.high - found.argmin]))
    panel.errorbar(
        found.a + shift, found.argmin, yerr=np.nan_to_num(error), capsize=2, ms=5, **look
    )


@styled
def figure_8(table: pd.DataFrame) -> Figure:
    """The p of lowest test loss and the p of highest test accuracy, against a; `table` from
    `chen_accuracy.table`.
    """
    figure, axes = plt.subplots(figsize=(5.8, 4.2), layout="constrained")
    axes.plot([0, 1], [0, 1], color="black", lw=1, ls=":", label="p = a")
    learned = chen_landscape.learned(table)
    looks = (
        (table, "test_loss", "lowest test loss"),
        (learned, "test_error", "highest test accuracy, last epoch"),
    )
    for number, (part, column, label) in enumerate(looks):
        found = chen_minima.minima(part, column)
        argmins(
            axes,
            found,
            shift=0.004 * (2 * number - 1),
            fmt=MARKERS[number] + "-",
            color=COLOURS[number],
            lw=1,
            label=label,
        )
    axes.set(xlabel=CLEAN_RATE, ylabel=KEPT, xlim=(table.a.min() - 0.05, 1.02), ylim=(0, 1.04))
    axes.legend(frameon=False, fontsize="small", loc="upper left")
    return figure


@styled
def figure_9(table: pd.DataFrame) -> Figure:
    """Test loss, accuracy at the last epoch and at the best, over (a, p), each a's best p marked;
    `table` from `chen_accuracy.table`.
    """
    figure, panels = plt.subplots(1, 3, figsize=(12.6, 4.6), sharey=True, layout="constrained")
    panes = (
        ("test_loss", "test_loss", "a: test loss", LOSS_MAP),
        ("test_accuracy", "test_error", "b: test accuracy, last epoch", "cividis"),
        ("best_accuracy", "best_error", "c: test accuracy, best epoch (oracle)", "cividis"),
    )
    learned = chen_landscape.learned(table)
    lowest = min(
        means(learned, column).min(axis=None) for column in ("test_accuracy", "best_accuracy")
    )
    for panel, (column, minimised, title, colours) in zip(panels, panes, strict=True):
        grid = means(table, column)
        loss = column == "test_loss"
        limits = (
            {"vmin": 0, "vmax": top(table)}
            if loss
            else {"vmin": np.floor(lowest * 10) / 10, "vmax": 1.0}
        )
        image = heat(panel, grid, grid.isna(), cmap=colours, **limits)
        found = chen_minima.minima(table if loss else learned, minimised)
        mark = {"color": "white" if loss else COLOURS[0], "mec": "black", "ms": 9, "mew": 0.8}
        panel.plot(
            np.arange(len(found)), position(grid.index.to_numpy(), found.argmin), "P", **mark
        )
        panel.set_title(title)
        figure.colorbar(
            image,
            ax=panel,
            extend="max" if loss else "min",
            label="nats" if loss else "share of test images",
        )
    panels[0].set_ylabel(KEPT)
    return figure


@styled
def figure_10(table: pd.DataFrame, rates: tuple[float, ...]) -> Figure:
    """Test error at the last epoch against p at several clean rates; raises UsageError for one that
    the table does not have.
    """
    check_rates(table, rates)
    shown = chen_landscape.learned(table)
    figure, axes = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
    for number, a in enumerate(rates):
        curves = shown[shown.a == a].pivot(index="seed", columns="p", values="test_error")
        seed_points(
            axes,
            curves,
            fmt=MARKERS[number % len(MARKERS)] + "-",
            color=COLOURS[number % len(COLOURS)],
            lw=1.2,
            ms=4.5,
            label=f"a = {a:g}",
        )
    axes.set(xlabel=KEPT, ylabel="test error, last epoch (share of images)", ylim=(0, None))
    figure.legend(frameon=False, fontsize="small", ncols=4, loc="outside lower center")
    return figure


@styled
def figure_11(table: pd.DataFrame) -> Figure:
    """Accuracy with weak smoothing minus without, against a, at the last epoch and at the best;
    `table` from `chen_accuracy.weak`.
    """
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    axes.axhline(0, color="black", lw=0.8)
    for number, ((p, epoch), part) in enumerate(table.groupby(["p", "epoch"], sort=False)):
        curves = 100 * part.pivot(index="seed", columns="a", values="gain")
        curves.columns = curves.columns + 0.006 * number  # side by side
        look = {
            "fmt": MARKERS[number] + "-",
            "color": COLOURS[number],
            "lw": 1,
            "ms": 5,
            "label": f"p = {p:g}, {epoch} epoch",
        }
        seed_points(axes, curves, **look)
    axes.axvline(
        chen_accuracy.C10_FROM, color="grey", lw=0.8, ls=":", label="claimed: helps from here on"
    )
    axes.set(xlabel=CLEAN_RATE, ylabel="accuracy minus that at p = 1 (points)")
    axes.legend(frameon=False, fontsize="small")
    return figure
