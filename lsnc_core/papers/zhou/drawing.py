"""Zhou et al. 2022: figures of deep networks under four losses (Z1 to Z5, ids of ours) and of their
Gram matrices.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from lsnc_core.papers.style import COLOURS, LOSS_MAP, styled
from lsnc_core.papers.zhou_deep import LOSSES, lr_steps
from lsnc_core.papers.zhou_deep_tables import METRICS, SIMPLEX

NAMES = {
    "CE": "cross-entropy",
    "LS": "label smoothing",
    "FL": "focal, γ = 3",
    "MSE": "MSE, rescaled by 15",
}
COLOUR = dict(zip(LOSSES, COLOURS, strict=False))
DASHES = dict(zip(LOSSES, ("-", "--", ":", "-."), strict=True))
FORMULAS = {
    "NC1": r"NC1  tr($\Sigma_W\Sigma_B^+$)/K",
    "NC2": r"NC2  distance of $WW^\top$ to the simplex",
    "NC3": r"NC3  distance of $W\bar H$ to the simplex",
    "NC4": r"NC4  $\|W\mu_G + b\|$ (logits)",
}


def _curves(panel, table: pd.DataFrame, column: str) -> None:
    """A line for each loss, the mean over seeds, in a band from the lowest to the highest seed."""
    for loss in LOSSES:
        seeds = table[table.loss == loss].pivot(index="epoch", columns="seed", values=column)
        panel.fill_between(
            seeds.index, seeds.min(axis=1), seeds.max(axis=1), color=COLOUR[loss], alpha=0.15, lw=0
        )
        panel.plot(
            seeds.index,
            seeds.mean(axis=1),
            DASHES[loss],
            color=COLOUR[loss],
            lw=1.8,
            label=NAMES[loss],
        )
    for step in lr_steps(table.epochs.iloc[0]):
        panel.axvline(step, color="grey", lw=0.8, ls=":")
    panel.set(xlabel="epoch", xscale="log")
    panel.xaxis.set_major_formatter(_plain)


def _plain(value: float, position: int) -> str:
    """A tick's number without powers of ten."""
    return f"{value:g}"


@styled
def z1(table: pd.DataFrame) -> Figure:
    """NC1 to NC4 of the training images and three accuracies against epochs, one line per loss,
    seeds as bands; from `collapse_table`.
    """
    figure, panels = plt.subplots(2, 4, figsize=(13.5, 6.2), layout="constrained")
    for panel, metric in zip(panels[0], METRICS, strict=True):
        _curves(panel, table, metric)
        panel.set(yscale="log", title=FORMULAS[metric])
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter(_plain)
        panel.yaxis.set_minor_formatter(NullFormatter())
    floor = max(
        0.0, table[[f"{part}_accuracy" for part in ("train", "validation", "test")]].min().min() - 2
    )
    for panel, part in zip(panels[1], ("train", "validation", "test"), strict=False):
        _curves(panel, table, f"{part}_accuracy")
        panel.set(
            title={"train": "training"}.get(part, part) + " accuracy",
            ylabel="percent",
            ylim=(floor, 100.5),
        )
    panels[1, 3].axis("off")
    lines, names = panels[0, 0].get_legend_handles_labels()
    seeds = table.seed.nunique()
    panels[1, 3].legend(
        lines,
        names,
        title=f"mean of {seeds} seeds, band: lowest to highest;\ndotted: the rate falls to a tenth",
        frameon=False,
        loc="center",
    )
    return figure


@styled
def gram(distances: pd.DataFrame) -> Figure:
    """Distances between normalised Gram matrices of class means at the first measurement and at the
    end; from `gram_distances`.
    """
    figure, panels = plt.subplots(1, 2, figsize=(10, 4.4), sharey=True, layout="constrained")
    names = [*LOSSES, SIMPLEX]
    top = max(distances.start.max(), distances.end.max())
    for panel, (column, title) in zip(
        panels, {"start": "first measured epoch", "end": "end of training"}.items(), strict=True
    ):
        means = distances.pivot_table(index="second", columns="first", values=column).reindex(
            index=names, columns=LOSSES
        )
        image = _heat(panel, means, LOSS_MAP, 0, top, "{:.2f}")
        panel.set(title=title, xlabel="loss")
    panels[0].set_ylabel("compared with")
    figure.colorbar(image, ax=panels, label="distance of Gram matrices at Frobenius norm 1")
    return figure


def _heat(panel, grid: pd.DataFrame, colours: str, low: float, high: float, text: str):
    """A heat map of equal cells with its numbers written in; empty cells stay blank."""
    image = panel.pcolormesh(
        np.arange(grid.shape[1] + 1) - 0.5,
        np.arange(grid.shape[0] + 1) - 0.5,
        grid,
        cmap=colours,
        vmin=low,
        vmax=high,
    )
    for (row, column), value in np.ndenumerate(grid.to_numpy(float)):
        if np.isfinite(value):
            # white on the dark half of the scale
            colour = "white" if value < (low + high) / 2 else "black"
            panel.text(
                column,
                row,
                text.format(value),
                ha="center",
                va="center",
                color=colour,
                fontsize="small",
            )
    panel.set_xticks(
        range(grid.shape[1]),
        [f"{name:g}" if isinstance(name, float) else str(name) for name in grid.columns],
    )
    panel.set_yticks(range(grid.shape[0]), [str(name) for name in grid.index])
    return image


def _maps(
    cells: pd.DataFrame, columns: dict[str, str], label: str, low: float, high: float, text: str
) -> Figure:
    """Heat maps over width and epochs on one colour scale, a panel for each column of the table."""
    figure, panels = plt.subplots(
        1,
        len(columns),
        figsize=(3.1 * len(columns) + 1.4, 3.4),
        sharey=True,
        layout="constrained",
        squeeze=False,
    )
    for panel, (column, title) in zip(panels[0], columns.items(), strict=True):
        image = _heat(
            panel,
            cells.pivot(index="epochs", columns="width", values=column),
            LOSS_MAP,
            low,
            high,
            text,
        )
        panel.set(title=title, xlabel="width")
    panels[0, 0].set_ylabel("epochs of training")
    figure.colorbar(image, ax=panels, label=label)
    return figure


@styled
def z2(cells: pd.DataFrame) -> Figure:
    """Mean over seeds of |accuracy under CE - accuracy under another loss|, a panel for each other
    loss; from `zhou_deep_tables.cells`.
    """
    columns = {f"gap_{loss}": f"CE against {NAMES[loss]}" for loss in LOSSES[1:]}
    return _maps(
        cells,
        columns,
        "difference in test accuracy (points)",
        0,
        cells[list(columns)].max().max(),
        "{:.2f}",
    )


@styled
def z3(cells: pd.DataFrame) -> Figure:
    """Mean test accuracy, a panel for each loss; from `zhou_deep_tables.cells`."""
    columns = {f"accuracy_{loss}": NAMES[loss] for loss in LOSSES}
    values = cells[list(columns)]
    return _maps(
        cells,
        columns,
        "mean test accuracy (percent)",
        values.min().min(),
        values.max().max(),
        "{:.1f}",
    )


@styled
def z4(cells: pd.DataFrame) -> Figure:
    """Variance of test accuracy over losses and seeds; from `zhou_deep_tables.cells`."""
    return _maps(
        cells,
        {"variance": "variance over losses and seeds"},
        "variance (points²)",
        0,
        cells.variance.max(),
        "{:.2f}",
    )


@styled
def z5(cells: pd.DataFrame) -> Figure:
    """Mean test accuracy against epochs, colour for the width, CE solid, the other losses with
    marks; from `zhou_deep_tables.cells`.
    """
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    marks = dict(zip(LOSSES, ("o", "s", "^", "D"), strict=True))
    for colour, (width, part) in zip(COLOURS, cells.groupby("width"), strict=False):
        for loss in LOSSES:
            line = "-" if loss == "CE" else "--"
            axes.plot(
                part.epochs,
                part[f"accuracy_{loss}"],
                line,
                marker=marks[loss],
                color=colour,
                lw=2.2 if loss == "CE" else 1,
                ms=5,
            )
        axes.plot([], [], color=colour, lw=2.2, label=f"width {width:g}")
    for loss in LOSSES:
        axes.plot(
            [],
            [],
            "-" if loss == "CE" else "--",
            marker=marks[loss],
            color="black",
            lw=1,
            label=NAMES[loss],
        )
    epochs = sorted(set(cells.epochs))
    axes.set(xscale="log", xlabel="epochs of training", ylabel="mean test accuracy (percent)")
    axes.set_xticks(epochs, [str(value) for value in epochs])
    axes.minorticks_off()
    axes.legend(frameon=False, fontsize="small", ncols=2)
    return figure
