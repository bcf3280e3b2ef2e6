"""Drawing helpers of Zhou's figures: the look of each loss, heat maps with numbers, focal loss.

matplotlib and pandas are imported where they are used.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from lsnc_core.papers.zhou import networks
from lsnc_core.show import style
from lsnc_core.show.panels import label_data, make_panels
from lsnc_core.theory import ufm, ufm_landscape
from lsnc_core.theory.ufm import Loss

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

NAMES = {
    "CE": "cross-entropy",
    "LS": "label smoothing",
    "FL": "focal, γ = 3",
    "MSE": "MSE, rescaled by 15",
}


def label_grid(table: "pd.DataFrame") -> str:
    """`networks.grid_title` with training images and each loss's mean test error after the last
    epoch.

    Args: table, from `accuracy_table`.
    """
    ends = table[table.epoch == table.epochs]
    errors = 1 - ends.groupby("loss").test_accuracy.mean() / 100
    title, name = networks.grid_title(table), "last-epoch test error"
    return label_data(title, table.iloc[0].train_size, list(errors), name)


def draw_heat(
    panel: "Axes", grid: "pd.DataFrame", low: float, high: float, form: str
) -> "QuadMesh":
    """A heat map of equal cells with their numbers written in; empty cells stay blank.

    Args:
        grid: values, a row per cell row and a column per cell column.
        low, high: ends of the colour scale.
        form: format of the numbers, as in `format`.
    """
    columns, rows = np.arange(grid.shape[1] + 1) - 0.5, np.arange(grid.shape[0] + 1) - 0.5
    image = panel.pcolormesh(columns, rows, grid, cmap=style.LOSS_MAP, vmin=low, vmax=high)
    look = {"ha": "center", "va": "center", "fontsize": style.SMALLEST}
    for (row, column), value in np.ndenumerate(grid.to_numpy(float)):
        if np.isfinite(value):
            # white on the dark half of the scale
            colour = style.PAPER if value < (low + high) / 2 else style.INK
            panel.text(column, row, f"{value:{form}}", color=colour, **look)
    panel.set_xticks(range(grid.shape[1]), [_tick_name(name) for name in grid.columns])
    panel.set_yticks(range(grid.shape[0]), [str(name) for name in grid.index])
    return image


def _tick_name(name: object) -> str:
    return f"{name:g}" if isinstance(name, float) else str(name)


def draw_maps(
    cells: "pd.DataFrame",
    columns: Mapping[str, str],
    label: str,
    low: float,
    high: float,
    form: str,
) -> "Figure":
    """Heat maps over width and epochs on one colour scale, a panel for each column of the table.

    Args:
        cells: one row per (width, epochs).
        columns: columns of the table with the titles of their panels.
        label: of the colour scale.
        low, high: its ends.
        form: format of the numbers, as in `format`.
    """
    drawing, panels = make_panels(len(columns), 3 if len(columns) == 3 else 2, height=2.7)
    for panel, (column, title) in zip(panels, columns.items(), strict=True):
        grid = cells.pivot(index="epochs", columns="width", values=column)
        image = draw_heat(panel, grid, low, high, form)
        panel.set(title=title, xlabel="width", ylabel="epochs of training")
        panel.label_outer()
    drawing.colorbar(image, ax=list(panels), label=label)
    return drawing


def draw_convex_region(panel: "Axes", table: "pd.DataFrame") -> None:
    """Where focal loss is convex in the logits, over gamma and the target's softmax, with the signs
    of random Hessians.

    Args:
        table: from `lsnc_core.papers.zhou.model.focal_hessian_table`.
    """
    gamma = np.linspace(0.1, 6, 300)
    edge = ufm.focal_convex_from(gamma)
    look = {"color": style.method("FL"), "alpha": 0.2, "lw": 0, "label": "convex: p at least p*(γ)"}
    panel.fill_between(gamma, edge, 1, **look)
    panel.plot(gamma, edge, color=style.INK, lw=1.4, label="p*(γ)")
    few = table.iloc[:: max(1, len(table) // 400)]
    looks = (
        (True, "o", style.method("FL"), "computed: convex"),
        (False, "x", style.INK, "computed: not convex"),
    )
    for convex, mark, colour, label in looks:
        part = few[(few.least >= 0) == convex]
        # spread sideways, or the points of one gamma hide each other
        aside = part.gamma + 0.03 * (part.K - 5)
        panel.plot(aside, part.p, mark, color=colour, ms=3.5, mfc=style.OPEN, ls="", label=label)
    panel.set(
        xlim=(0, 6),
        xlabel=r"focusing parameter $\gamma$",
        ylabel="softmax p of the target",
        yscale="log",
        ylim=(1e-3, 1),
    )
    above = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0)}
    panel.legend(ncol=1, **above)


def draw_focal_tie(panel: "Axes", K: int, gamma: float) -> None:
    """The focal loss's one-dimensional objective at the eps at which two margins are equally good,
    and at one on either side.
    """
    loss, a = Loss("focal", gamma), np.linspace(0, 4.5, 400)
    tie = ufm_landscape.focal_tie(gamma, K)
    rise = ufm.sample_loss(loss, a, K) - ufm.sample_loss(loss, 0, K)
    factors = {
        0.93: "less decay: the far one",
        1.0: "both margins",
        1.07: "more decay: zero",
    }
    for number, (factor, text) in enumerate(factors.items()):
        label = rf"$\varepsilon$ = {factor * tie:.4f}, {text}"
        look = {"color": style.method("FL"), "ls": style.DASHES[number], "label": label}
        panel.plot(a, rise + (K - 1) * factor * tie * a, **look)
    panel.set(
        xlabel="margin a",
        ylabel=r"$\varphi(a) - \varphi(0) + (K-1)\varepsilon a$ (nats)",
        title=rf"K = {K}, $\gamma$ = {gamma:g}",
    )
    panel.legend(loc="lower center", bbox_to_anchor=(0.5, 1.08))
