"""Figures beyond Chen et al.'s: collapse and calibration under label noise, noise that is not
symmetric, forward correction.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lsnc_core.papers import chen_beyond, chen_collapse, claims
from lsnc_core.papers.chen_figures import (
    CLEAN_RATE,
    KEPT,
    heat,
    means,
    position,
    rough_cells,
    seed_points,
    slice_title,
    top,
)
from lsnc_core.papers.chen_landscape import PROTOCOLS
from lsnc_core.papers.chen_measured_figures import MARKERS, argmins
from lsnc_core.papers.chen_minima import minima
from lsnc_core.papers.style import COLOURS, LOSS_MAP, styled

WAY_NAMES = {
    "none": "no smoothing",
    "mean field": "label smoothing, mean field",
    "posterior": "smoothing by S*",
    "forward": "forward correction, f",
}


@styled
def collapse_maps(table: pd.DataFrame) -> Figure:
    """Test loss and the collapse metrics over the (a, p) grid, each a's least marked; `table` from
    `chen_collapse.table`.
    """
    figure, panels = plt.subplots(
        2, 3, figsize=(12.6, 8), sharex=True, sharey=True, layout="constrained"
    )
    columns = {"test_loss": "test loss"} | chen_collapse.METRICS
    rough = rough_cells(table)
    for panel, (column, title) in zip(panels.flat, columns.items(), strict=True):
        grid = means(table, column)
        logarithmic = column.endswith("NC1")
        shown = np.log10(grid) if logarithmic else grid
        image = heat(
            panel,
            shown,
            rough,
            cmap=LOSS_MAP,
            **({"vmin": 0, "vmax": top(table)} if column == "test_loss" else {}),
        )
        found = minima(table, column)
        panel.plot(
            np.arange(len(found)),
            position(grid.index.to_numpy(), found.argmin),
            "P",
            color="white",
            mec="black",
            ms=9,
            mew=0.8,
        )
        panel.set_title(title)
        unit = "nats" if column == "test_loss" else "decimal logarithm" if logarithmic else ""
        figure.colorbar(
            image, ax=panel, label=unit, extend="max" if column == "test_loss" else "neither"
        )
    for panel in panels[:, 0]:
        panel.set_ylabel(KEPT)
    for panel in panels[0]:
        panel.set_xlabel("")
    return figure


@styled
def collapse_minima(table: pd.DataFrame) -> Figure:
    """The p at which loss, NC1 and ECE are least, against a; a panel for each kind of images."""
    figure, panels = plt.subplots(1, 2, figsize=(9.8, 4.2), sharey=True, layout="constrained")
    sides = (
        ("held-out images", (("test_loss", "loss"), ("test NC1", "NC1"), ("ECE", "ECE"))),
        ("training images, clean labels", (("clean_train_loss", "loss"), ("train NC1", "NC1"))),
    )
    for panel, (title, lines) in zip(panels, sides, strict=True):
        panel.plot([0, 1], [0, 1], color="black", lw=1, ls=":", label="p = a")
        for number, (column, name) in enumerate(lines):
            look = {
                "fmt": MARKERS[number] + "-",
                "color": COLOURS[number],
                "lw": 1,
                "label": f"least {name}",
            }
            argmins(panel, minima(table, column), shift=0.006 * (number - 1), **look)
        panel.set(xlabel=CLEAN_RATE, title=title, xlim=(table.a.min() - 0.05, 1.03), ylim=(0, 1.04))
        panel.legend(frameon=False, fontsize="small")
    panels[0].set_ylabel(KEPT)
    return figure


@styled
def general_noise(table: pd.DataFrame) -> Figure:
    """Loss on clean labels by noise and way, a column of panels for each clean rate; dashes where
    the theory has it.
    """
    rates = sorted(set(table.a))
    shape = {
        "figsize": (5.4 * len(rates) + 0.4, 6.6),
        "sharex": True,
        "sharey": "row",
        "squeeze": False,
        "layout": "constrained",
    }
    figure, panels = plt.subplots(2, len(rates), **shape)
    noises = list(table.noise.unique())
    for row, (column, place) in zip(panels, PROTOCOLS.items(), strict=True):
        for panel, a in zip(row, rates, strict=True):
            for number, way in enumerate(WAY_NAMES):
                part = table[(table.a == a) & (table.way == way)]
                curves = part.pivot(index="seed", columns="noise", values=column)
                curves = curves[[noise for noise in noises if noise in curves]]
                curves.columns = [noises.index(noise) + 0.14 * (number - 1.5) for noise in curves]
                seed_points(
                    panel,
                    curves,
                    fmt=MARKERS[number],
                    color=COLOURS[number],
                    ms=6,
                    label=WAY_NAMES[way],
                )
                predicted = part.groupby("noise").predicted.first()[
                    [noise for noise in noises if noise in set(part.noise)]
                ]
                finite = np.isfinite(predicted.to_numpy())
                panel.plot(
                    curves.columns[finite], predicted[finite], "_", color="black", ms=12, mew=1.6
                )
            panel.set(title=f"{place.replace(', clean labels', '')}, a = {a:g}", yscale="log")
            panel.set_xticks(range(len(noises)), [Path(noise).name for noise in noises])
            panel.set_yticks([0.25, 0.5, 1, 2, 4, 8], ["0.25", "0.5", "1", "2", "4", "8"])
            panel.minorticks_off()
        row[0].set_ylabel("loss on clean labels (nats)")
    for panel in panels[1]:
        panel.set_xlabel("noise")
    panels[0][0].plot([], [], "_", color="black", ms=12, mew=1.6, label="theory, labels memorised")
    figure.legend(
        *panels[0][0].get_legend_handles_labels(),
        frameon=False,
        fontsize="small",
        ncols=3,
        loc="outside lower center",
    )
    return figure


@styled
def corrections(runs: pd.DataFrame, terms: pd.DataFrame) -> Figure:
    """Left: test loss and accuracy while training under symmetric noise; right: the objectives of
    eqs 18 and 19 at the end.

    Args: runs, the table of `lsnc_core.runs.results` for `chen_beyond.noise_runs` with a column
    way; terms, from `chen_beyond.jensen`.
    """
    a = terms.a.max()
    figure, panels = plt.subplots(1, 3, figsize=(13.2, 4.1), layout="constrained")
    part = runs[(runs.noise == "symmetric") & (runs.a == a)]
    for number, way in enumerate(chen_beyond.TOGETHER["symmetric"]):
        look = {
            "fmt": MARKERS[number] + "-",
            "color": COLOURS[number],
            "lw": 1,
            "ms": 4.5,
            "label": WAY_NAMES.get(way, "logit smoothing"),
        }
        for panel, column in zip(panels, ("test_loss", "test_accuracy"), strict=False):
            seed_points(
                panel,
                part[part.way == way].pivot(index="seed", columns="epoch", values=column),
                **look,
            )
    panels[0].set(
        xscale="log",
        xlabel="epoch",
        ylabel="test loss of softmax(h) (nats)",
        title=f"symmetric noise, a = {a:g}",
    )
    panels[1].set(
        xscale="log",
        xlabel="epoch",
        ylabel="test accuracy (share)",
        title=f"symmetric noise, a = {a:g}",
    )
    panels[0].legend(frameon=False, fontsize="small")
    ways = list(chen_beyond.TOGETHER["symmetric"])
    labels = {
        "smoothing": "label smoothing",
        "forward": "forward correction",
        "logit": "logit smoothing",
    }
    for number, (name, label) in enumerate(labels.items()):
        curves = -terms[terms.a == a].pivot(index="seed", columns="way", values=name)[ways]
        curves.columns = [position + 0.16 * (number - 1) for position in range(len(ways))]
        # the marks of one objective keep their colour over all networks; log likelihoods near 0
        # need the logarithm
        seed_points(
            panels[2],
            curves.clip(lower=1e-4),
            fmt=MARKERS[number + 4],
            color=COLOURS[number + 4],
            ms=6,
            label=label,
        )
    panels[2].set_xticks(range(len(ways)), ["none", "label\nsmoothing", "forward", "logit"])
    panels[2].set(
        yscale="log",
        ylim=(1e-4, None),
        xlabel="network trained by",
        ylabel="minus log-likelihood of noisy labels (nats)",
    )
    panels[2].set_title(f"objectives of eqs 18 and 19, a = {a:g}")
    panels[2].legend(frameon=False, fontsize="small")
    return figure


@styled
def jensen_gap(gaps: pd.DataFrame) -> Figure:
    """The gap of eq. 18 against epoch by way, a panel for each clean rate: means over seeds with 95
    % t-bands.

    Args: gaps, from `chen_beyond.jensen_gap`.
    """
    rates, epochs = sorted(set(gaps.a)), sorted(set(gaps.epoch))
    figure, panels = plt.subplots(
        1,
        len(rates),
        figsize=(4.6 * len(rates) + 0.4, 4),
        sharey=True,
        layout="constrained",
        squeeze=False,
    )
    for panel, a in zip(panels[0], rates, strict=True):
        # the colours and marks of `corrections`, where no smoothing comes first
        for number, (way, name) in enumerate(chen_beyond.SMOOTHED.items(), start=1):
            curves = gaps[(gaps.a == a) & (gaps.way == way)].pivot(
                index="seed", columns="epoch", values="gap"
            )
            curves = curves.loc[
                :, np.isfinite(curves).all()
            ]  # a diverged network leaves no mean to draw
            middle, low, high = np.reshape(
                [claims.t_interval(curves[epoch]) for epoch in curves], (-1, 3)
            ).T  # (epochs,) each
            panel.plot(
                curves.columns,
                middle,
                MARKERS[number] + "-",
                color=COLOURS[number],
                lw=1.4,
                ms=4.5,
                label=name,
            )
            panel.fill_between(curves.columns, low, high, color=COLOURS[number], alpha=0.2, lw=0)
        panel.axhline(0, color="black", lw=0.8)
        panel.set(xscale="log", xlabel="epoch", title=slice_title(gaps, a))
        panel.set_xticks(epochs, [str(epoch) for epoch in epochs])
        # the gap spans four decades and its bound is 0, which a logarithmic axis cannot show; only
        # bands reach below
        panel.set_yscale("symlog", linthresh=1e-3)
        panel.set_ylim(bottom=-3e-4)
        panel.minorticks_off()
    panels[0][0].set_ylabel("Jensen gap of eq. 18 (nats), linear below 0.001")
    panels[0][0].legend(frameon=False, fontsize="small", loc="upper left")
    return figure
