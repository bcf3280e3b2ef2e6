"""Drawing helpers of Guo's figures of deep networks: curves over epochs, means over strengths.

Colours, dashes and bands are those of `lsnc_core.show.style` and `lsnc_core.show.panels`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lsnc_core.data_sources import source_of
from lsnc_core.papers.guo.measured import groups, last_epochs
from lsnc_core.show import panels, style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STRENGTH = r"smoothing strength $\delta$"
NAMES = {"train_error": "error rate", "nc1": "NC1", "nc2": "NC2", "nc3": "NC3"}
NORMS = {"w_norm": r"$\|w_k\|$", "h_norm": r"$\|\mu_k - \mu_G\|$"}
LOGARITHMIC = ("nc1", "test_nc1", "nc1_all", "nc1_correct", "nc1_wrong", "gap")
IMAGES = (({"ls": "-"}, "training images"), ({"ls": "--"}, "test images"))


def keep_plotted(table: "pd.DataFrame", *columns: str) -> "pd.DataFrame":
    """What a figure plots of a table over epochs: these columns, of which network and epoch they
    are; all settings of a network stand in the list of networks.
    """
    which = ["run", "data", "train_size", "weight_decay", "arm", "seed", "epoch"]
    return table[[name for name in (*which, *columns) if name in table]]


def titled_groups(table: "pd.DataFrame") -> "list[tuple[str, pd.DataFrame]]":
    """The table's parts by image set and weight decay, in order, each with its title: the image
    set, training images, the losses' mean test errors, the weight decay.
    """
    parts = []
    for part in groups(table):
        parts.append((f"{label_images(part)}, weight decay {part.iloc[0].weight_decay:g}", part))
    return parts


def label_images(part: "pd.DataFrame") -> str:
    """The image set of a table with training images and the losses' mean test errors."""
    first, errors = part.iloc[0], last_epochs(part).groupby(["loss", "delta"]).test_error.mean()
    return panels.label_data(source_of(first.data).title, first.train_size, list(errors))


def styled_losses(table: "pd.DataFrame") -> "list[tuple[str, pd.DataFrame, dict]]":
    """The table's losses in order of appearance, each with its name, rows and look."""
    parts = []
    for name in dict.fromkeys(table.arm):
        parts.append((name, table[table.arm == name], {"color": style.method(name)}))
    return parts


def draw_curve(panel: "Axes", rows: "pd.DataFrame", column: str, **look: Any) -> None:
    """One loss's mean over seeds against the epoch, in the band of its interval."""
    curves = rows.pivot(index="seed", columns="epoch", values=column)
    panels.draw_band(panel, curves, log=column in LOGARITHMIC, **look)


def draw_seed_means(panel: "Axes", ends: "pd.DataFrame", column: str, **look: Any) -> None:
    """Means over seeds against the strength, with their intervals; each strength has its seeds."""
    import pandas as pd

    tables = []
    for _, part in ends.groupby("delta"):
        curves = part.pivot(index="seed", columns="delta", values=column)
        tables.append(panels.seed_intervals(curves, log=column in LOGARITHMIC))
    panels.draw_intervals(panel, pd.concat(tables), **look)


def make_rows(
    titles: Sequence[str], count: int, columns: int = 2, height: float = 2.4
) -> "tuple[Figure, list]":
    """Panels for each of several image sets, under its title.

    Args:
        titles: of the image sets.
        count: panels of each.
        columns: panels beside each other.
        height: of a row of panels, in inches.

    Returns:
        The figure and, for each image set, its panels, (count,).
    """
    from matplotlib import pyplot

    rows = -(-count // columns)
    size = (style.WIDTH, len(titles) * (rows * height + 0.3) + 0.4)
    drawing = pyplot.figure(figsize=size, layout="constrained")
    sets = []
    for title, block in zip(
        titles, drawing.subfigures(len(titles), 1, squeeze=False).flat, strict=True
    ):
        block.suptitle(title)
        grid = block.subplots(rows, columns, squeeze=False)
        for panel in grid.flat[count:]:
            panel.axis("off")
        sets.append(grid.flat[:count])
    return drawing, sets


def label_dynamics(row: "Sequence[Axes]", error: str = "error rate") -> None:
    """Name and scale the four panels error, NC1, NC2, NC3 against the epoch."""
    for panel, name in zip(row, (error, *list(NAMES.values())[1:]), strict=True):
        panel.set(xlabel="epoch", ylabel=name)
    row[1].set_yscale("log")
    for panel in (row[0], row[2], row[3]):
        panel.set_ylim(0, None)


def count_seeds(table: "pd.DataFrame") -> set[int]:
    """The numbers of seeds of a table's losses, for the legend of its bands."""
    kinds = [name for name in ("data", "weight_decay", "loss", "delta") if name in table]
    return set(table.groupby(kinds).seed.nunique())


def draw_bins(above: "Axes", below: "Axes", part: "pd.DataFrame", colour: str) -> None:
    """One reliability diagram, and the share of images in its bins."""
    full = part[part.share > 0]
    width = (full.upper - full.lower).to_numpy()
    look = {"color": colour, "edgecolor": style.PAPER, "label": "accuracy (colour of the loss)"}
    above.bar(full.lower, full.accuracy, width, align="edge", **look)
    look = {"color": style.OPEN, "edgecolor": style.INK, "hatch": "////", "lw": 0.6}
    look |= {"bottom": full.accuracy, "label": "gap to the mean confidence"}
    above.bar(full.lower, full.confidence - full.accuracy, width, align="edge", **look)
    above.plot([0, 1], [0, 1], color=style.SOFT, lw=0.9, ls="--")
    above.set(xlim=(0, 1), ylim=(0, 1))
    look = {"align": "edge", "color": style.SOFT, "edgecolor": style.PAPER}
    below.bar(part.lower, 100 * part.share, part.upper - part.lower, **look)
