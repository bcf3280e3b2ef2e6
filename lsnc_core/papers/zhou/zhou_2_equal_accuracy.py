"""Zhou et al. 2022: test accuracy under four losses against width and epochs.

Figures: Z2, difference from cross-entropy; Z3, mean accuracy; Z4, variance over losses and seeds;
Z5, accuracy against epochs. Claims: Z-C3, Z-C4, Z-C5. Differences of half a point are at the edge
of what 2,000 test images and four seeds resolve.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lsnc_core import runs
from lsnc_core.claims import (
    HOLDS,
    MIN_SEEDS,
    Case,
    Claim,
    Scale,
    Verdict,
    decides,
    rank_interval,
)
from lsnc_core.papers.page import Page
from lsnc_core.papers.stored import run_names
from lsnc_core.papers.zhou import PAPER, networks
from lsnc_core.papers.zhou.accuracy_words import (
    describe_change,
    describe_corners,
    describe_lines,
    describe_range,
    describe_steps,
)
from lsnc_core.papers.zhou.drawing import NAMES, draw_maps, label_grid
from lsnc_core.papers.zhou.networks import LOSSES, select_epochs
from lsnc_core.papers.zhou.premises import SHORTEST, check_accuracy_ended, check_fitted
from lsnc_core.papers.zhou.spread import (
    common_seeds,
    compute_spread,
    corner_cell,
    describe_seeds,
    describe_size,
    select_cell,
)
from lsnc_core.runs import RunSpec
from lsnc_core.show import Drawing, Verdicts, figure, style
from lsnc_core.show.panels import draw_legend, make_panels

if TYPE_CHECKING:
    import pandas as pd

PAGE = Page(title="Equal accuracy with width and time", minutes={"quick": 0.5})


# ---- runs


plan_grid = functools.partial(networks.add_halved, networks.grid_runs)


def plan_runs(profile: str, data_set: str = "", smoothing: float = 0.1) -> list[RunSpec]:
    """The networks of this page: `networks.grid_runs` and `networks.halved_runs` of all
    grids.
    """
    return networks.plan_grids(plan_grid, profile, data_set, smoothing)


# ---- tables


class Tables(NamedTuple):
    """What the page shows.

    Attributes:
        recipe: what was trained, in a sentence.
        selected: from `networks.select_epochs`.
        cells: from `cell_table`.
        ends: the networks of the grid's largest cell after their last epoch.
        halved: as `selected`, of the same networks trained with half the schedule.
    """

    recipe: str
    selected: "pd.DataFrame"
    cells: "pd.DataFrame"
    ends: "pd.DataFrame"
    halved: "pd.DataFrame"


def load(profile: str, device: str = "auto", data_set: str = "", smoothing: float = 0.1) -> Tables:
    """The page's tables from the store; missing networks are trained."""
    arguments = profile, data_set, smoothing
    grid, halved = networks.grid_runs(*arguments), networks.halved_runs(*arguments)
    # all at once, or they train in other blocks
    table = networks.accuracy_table(runs.results(plan_grid(*arguments), device))
    names = run_names([*grid, *halved])
    selected = select_epochs(table[table.run.isin([names[spec] for spec in grid])])
    ends = table.run.isin([names[spec] for spec in networks.collapse_runs(*arguments)])
    return Tables(
        networks.recipe(grid),
        selected,
        cell_table(selected),
        table[ends & (table.epoch == table.epochs)],
        select_epochs(table[table.run.isin([names[spec] for spec in halved])]),
    )


def load_further(profile: str, device: str = "auto", data_set: str = "") -> list[Tables]:
    """The tables of `networks.further_grids`."""
    return [load(profile, device, *grid) for grid in networks.further_grids(profile, data_set)]


def cell_table(table: "pd.DataFrame") -> "pd.DataFrame":
    """The numbers of each cell, over the seeds that all cells have.

    Args:
        table: from `select_epochs`.

    Returns:
        pandas.DataFrame, one row per (width, epochs): data, strength (of LS), accuracy_<loss> (mean
        over seeds, percent), gap_<loss> (mean over seeds of |accuracy under CE - under the loss|,
        points; not for CE) and variance (over losses and seeds, points squared).
    """
    import pandas as pd

    common = table.groupby(["width", "epochs"]).seed.max().min()
    rows = []
    for (width, epochs), part in table[table.seed <= common].groupby(["width", "epochs"]):
        grid = part.pivot(index="seed", columns="loss", values="test_accuracy")
        grid = grid[list(LOSSES)]  # (seeds, losses)
        row = part.iloc[0][["data", "strength"]].to_dict() | {"width": width, "epochs": epochs}
        for loss in LOSSES:
            row[f"accuracy_{loss}"] = grid[loss].mean()
        for loss in LOSSES[1:]:
            # |difference| at each seed, then the mean: above 0 even where the losses are equal
            row[f"gap_{loss}"] = (grid.CE - grid[loss]).abs().mean()
        # sample variance of all networks of the cell together, as in the paper's heat map
        row["variance"] = grid.to_numpy().var(ddof=1)
        rows.append(row)
    return pd.DataFrame(rows)


# ---- figures


@figure(
    "zhou-z2",
    number="Z2",
    title="Zhou, Z2: difference from cross-entropy",
    paper="per loss (MSE, FL, LS) a 4 × 4 heat map over width and epochs of the mean over seeds of "
    "|accuracy under CE − accuracy under the loss|; the text says that differences vanish in large "
    "networks trained for long. No published number found.",
    alt="Three heat maps over width and epochs of the difference in test accuracy between "
    "cross-entropy and label smoothing, focal loss, and MSE.",
)
def draw_z2(tables: Tables) -> Drawing:
    """Mean over seeds of |accuracy under CE - accuracy under another loss|, a panel for each other
    loss.
    """
    cells = tables.cells
    columns = {f"gap_{loss}": f"CE against {NAMES[loss]}" for loss in LOSSES[1:]}
    top = cells[list(columns)].max().max()
    drawing = draw_maps(cells, columns, "difference in test accuracy (points)", 0, top, ".2f")
    drawing.suptitle(f"{label_grid(tables.ends)} in the largest cell")
    caption = (
        f"{describe_change(cells, list(columns), 'largest difference from cross-entropy')} Dark "
        "cells are those in which a loss gives nearly the accuracy of cross-entropy. "
        f"{tables.recipe} In the smallest and the largest cell: {describe_corners(cells)}"
    )
    return Drawing(drawing, caption, cells)


@figure(
    "zhou-z3",
    number="Z3",
    title="Zhou, Z3: mean test accuracy",
    paper="per loss a 4 × 4 heat map of mean test accuracy over width and epochs. No published "
    "number found.",
    alt="Four heat maps over width and epochs of the mean test accuracy under each loss.",
)
def draw_z3(tables: Tables) -> Drawing:
    """Mean test accuracy, a panel for each loss."""
    cells = tables.cells
    columns = {f"accuracy_{loss}": NAMES[loss] for loss in LOSSES}
    low, high = cells[list(columns)].min().min(), cells[list(columns)].max().max()
    drawing = draw_maps(cells, columns, "mean test accuracy (percent)", low, high, ".1f")
    drawing.suptitle(f"{label_grid(tables.ends)} in the largest cell")
    caption = (
        f"{describe_range(cells.iloc[-1], common_seeds(tables.selected))} Compare one cell in the "
        f"four maps: equal shades are equal accuracies. {describe_seeds(tables.selected)}"
    )
    return Drawing(drawing, caption, cells)


@figure(
    "zhou-z4",
    number="Z4",
    title="Zhou, Z4: variance of test accuracy",
    paper="a 4 × 4 heat map of the variance of test accuracy over 4 losses and 3 seeds, by "
    "width and epochs. No published number found.",
    alt="Heat map over width and epochs of the variance of test accuracy over losses and seeds.",
)
def draw_z4(tables: Tables) -> Drawing:
    """Variance of test accuracy over losses and seeds."""
    cells = tables.cells
    columns = {"variance": "variance over losses and seeds"}
    drawing = draw_maps(cells, columns, "variance (points²)", 0, cells.variance.max(), ".2f")
    # one panel is not as wide as the title
    drawing.suptitle(f"{label_grid(tables.ends)} in the largest cell".replace(", last", "\nlast"))
    caption = (
        f"{describe_steps(cells)} {describe_change(cells, ['variance'], 'variance', 'points²')} "
        "The darker a cell the "
        "closer are its networks in test accuracy. Sample variance over four "
        "losses and the seeds that all cells have, at the epoch of best validation accuracy; part "
        "of it is the seeds', whatever the loss."
    )
    return Drawing(drawing, caption, cells)


@figure(
    "zhou-z5",
    number="Z5",
    title="Zhou, Z5: test accuracy against epochs",
    paper="test accuracy against epochs on a log axis, colour for the width, CE solid, other "
    "losses dashed; 70 to 80 percent on CIFAR-100.",
    alt="Mean test accuracy against epochs of training, a panel for each width, a line for each of "
    "four losses.",
)
def draw_z5(tables: Tables, further: Sequence[Tables] = ()) -> Drawing:
    """Mean test accuracy against epochs: a panel for each grid and width, a colour for each
    loss.
    """
    import pandas as pd

    grids = [grid.cells for grid in (tables, *further)]
    cells = list(itertools.chain(*(grid.groupby("width") for grid in grids)))
    columns = 3 if len(cells) % 3 == 0 else 2
    drawing, panels = make_panels(len(cells), columns, height=2.6, sharey=len(grids) == 1)
    for panel, (width, part) in zip(panels, cells, strict=True):
        for number, loss in enumerate(LOSSES):
            look = {"color": style.method(loss), "marker": style.MARKS[loss]}
            look |= {"ls": style.DASHES[number], "label": NAMES[loss]}
            panel.plot(part.epochs, part[f"accuracy_{loss}"], **look)
        epochs = sorted(set(part.epochs))
        panel.set(xscale="log", xlabel="epochs of training")
        panel.set_xticks(epochs, [str(value) for value in epochs])
        panel.minorticks_off()
        grid = f"{networks.grid_title(part)}, " if further else ""
        panel.set_title(f"{grid}width {width:g}")
    for panel in panels[::columns]:
        panel.set_ylabel("mean test accuracy (percent)")
    if not further:
        drawing.suptitle(f"{label_grid(tables.ends)} in the largest cell")
    draw_legend(drawing, panels[:1], columns=4)
    caption = (
        f"{describe_lines([part for _, part in cells])} From left to right networks grow wider. "
        "The numbers are those of Z3."
    )
    return Drawing(drawing, caption, pd.concat(grids))


# ---- claims

EQUAL = 0.5  # points of test accuracy; fixed before the first run
DECIDER = "more seeds, more test images"
RULE_CHANGE = (
    "At first 2 standard errors decided; now an interval does, because equal losses exceed 2 "
    "standard errors in about a quarter of trials, and the verdict shows both."
)


def spread_case(quantity: str, values: np.ndarray, **settings: Any) -> Case:
    """A case about the spread of one cell, float (seeds, losses)."""

    def interval(level: float) -> tuple[float, float, float]:
        spread = compute_spread(values, level)
        return spread.value, spread.low, spread.high

    return Case.measured("", quantity, interval, unit="points", form=".2f", **settings)


@decides(
    Claim(
        "Z-C3",
        PAPER.name,
        "abstract; experiments on width and epochs",
        "The test accuracies of the four losses become equal as width and epochs grow.",
        "the spread over losses (highest minus lowest mean over seeds) falls from the smallest, "
        f"shortest to the widest, longest training, to at most {EQUAL:g} point",
        changed="The range is of means over seeds, as planned; at first it was within a seed. "
        f"{RULE_CHANGE} It is now left open where the widest, longest trained networks do not fit "
        "their training images or where training has not ended.",
    )
)
def decide_z_c3(
    claim: Claim, table: "pd.DataFrame", ends: "pd.DataFrame", halved: "pd.DataFrame"
) -> Verdict:
    """Z-C3: the spread in the last cell minus that in the first, and the last cell's.

    The paper speaks of networks "sufficiently large and trained until convergence". So the networks
    of the last cell must fit their training images, and their test accuracy must have changed by no
    more than what counts as equal since half the schedule. The first cell need not.

    Args:
        table: from `select_epochs`.
        ends, halved: as in `Tables`.
    """
    (small, first), (large, last) = corner_cell(table, min), corner_cell(table, max)
    place = f"{networks.grid_title(table)}, {large} against {small}"
    cell, seeds = select_cell(table, max), min(len(first), len(last))
    scale = describe_size(cell)
    if seeds < MIN_SEEDS:
        return _too_few(claim, place, seeds, scale)

    # The interval of the change is made of both spreads' own, each at half the error (Bonferroni).
    # A paired interval would not cover that the best and the worst loss were picked after the fact,
    # and in each cell anew.
    def change(level: float) -> tuple[float, float, float]:
        before, after = (compute_spread(values, (1 + level) / 2) for values in (first, last))
        return after.value - before.value, after.low - before.high, after.high - before.low

    before, end = compute_spread(first), compute_spread(last)
    remark = f"from {before.value:.2f} to {end.value:.2f} points"
    settings = {"at_most": 0.0, "unit": "points", "form": "+.2f", "remark": remark}
    falls = Case.measured("", "change of the spread", change, **settings)
    ends_small = spread_case(f"spread at {large}", last, at_most=EQUAL, remark=end.remark)
    return Verdict(
        claim,
        place,
        (falls, ends_small),
        decider=DECIDER,
        premises=(check_fitted(ends, large), check_accuracy_ended(halved, cell, EQUAL, large)),
        scale=scale,
    )


ABOVE_0, ABOVE_EQUAL = np.nextafter([0.0, EQUAL], np.inf).tolist()  # the smallest numbers above


@decides(
    Claim(
        "Z-C4",
        PAPER.name,
        "experiments on width and epochs",
        "Small or briefly trained networks do differ in test accuracy between losses.",
        "the spread over losses (highest minus lowest mean over seeds) at the smallest width and "
        "fewest epochs is above 0",
        changed=f"{networks.GRID_CHANGE}. In an earlier run the longer grid had decided this claim "
        "(holds, spread 1.09 points [0.14, 2.03]) and the shorter one had left it open; the "
        f"answer of this run is its own. {RULE_CHANGE}",
    )
)
def decide_z_c4(claim: Claim, table: "pd.DataFrame") -> Verdict:
    """Z-C4: the spread at the first cell. Where it may be 0, the claim does not hold if the spread
    is at most what counts as equal.

    Args:
        table: from `select_epochs`.
    """
    small, values = corner_cell(table, min)
    place = f"{networks.grid_title(table)}, {small}"
    scale = describe_size(select_cell(table, min), paper_epochs=SHORTEST)
    if len(values) < MIN_SEEDS:
        return _too_few(claim, place, len(values), scale)
    spread = compute_spread(values)
    differs = spread_case("spread of test accuracy", values, at_least=ABOVE_0, remark=spread.remark)
    # The interval of a range cannot end below 0. So where the spread may be 0, it is compared with
    # what counts as equal too: an interval that ends there shows that the losses do not differ.
    matters = spread_case(
        f"the same spread against {EQUAL:g} point",
        values,
        at_least=ABOVE_EQUAL,
        deciding=differs.outcome != HOLDS,
    )
    means = zip(LOSSES, values.mean(0), strict=True)
    numbers = ", ".join(f"{loss} {mean:.2f}" for loss, mean in means)
    remark = f"mean test accuracies in percent: {numbers}"
    return Verdict(claim, place, (differs, matters), remark=remark, decider=DECIDER, scale=scale)


MIN_CELLS = 6  # of a grid, for an interval of a rank correlation
CORRELATION = "rank correlation of variance with size"


@decides(
    Claim(
        "Z-C5",
        PAPER.name,
        "experiments, heat map of variances",
        "The variance of test accuracy over losses and seeds falls along width and epochs.",
        "rank correlation of a cell's variance with log width + log epochs below 0",
        changed=f"{networks.GRID_CHANGE}; the verdict did not change.",
    )
)
def decide_z_c5(claim: Claim, cells: "pd.DataFrame", table: "pd.DataFrame") -> Verdict:
    """Z-C5: rank correlation over the cells of the grid.

    Args:
        cells: from `cell_table`.
        table: from `select_epochs`.
    """
    place = (
        f"{networks.grid_title(cells)}, {len(cells)} cells, width {cells.width.min():g} to "
        f"{cells.width.max():g}, {cells.epochs.min()} to {cells.epochs.max()} epochs"
    )
    ends = (
        f"variance {cells.variance.iloc[0]:.2f} in the first, "
        f"{cells.variance.iloc[-1]:.2f} points² in the last cell"
    )
    # The cells are the sample; seeds are inside each variance. log width + log epochs is rounded,
    # so that cells of equal size stay ties whatever the last bits of the logarithms.
    size = np.log(cells.width * cells.epochs).round(9)
    settings = {"at_most": 0.0, "form": ".2f", "remark": ends}
    if len(cells) < MIN_CELLS:
        few = f"{len(cells)} cells; an interval needs {MIN_CELLS}"
        case = Case("", CORRELATION, **settings, undecided=few)
    elif not np.isfinite(cells.variance).all():
        case = Case("", CORRELATION, **settings, undecided="a cell has no variance")
    elif cells.variance.nunique() < 2:
        case = Case("", CORRELATION, **settings, undecided="all variances are equal")
    else:
        interval = functools.partial(rank_interval, size, cells.variance)
        case = Case.measured("", CORRELATION, interval, **settings)
    scale = [Scale("cells", f"{len(cells)}", "16"), *describe_size(select_cell(table, max))]
    remark = _correlate_axes(cells)
    return Verdict(claim, place, (case,), remark, decider="a larger grid", scale=scale)


def _correlate_axes(cells: "pd.DataFrame") -> str:
    """The rank correlation of the variance with width and with epochs alone, "" where one of the
    three is the same in all cells.
    """
    if (cells[["width", "epochs", "variance"]].nunique() < 2).any():
        return ""
    ranks = cells[["width", "epochs", "variance"]].rank().corr()["variance"]
    return f"with width alone {ranks.width:+.2f}, with epochs alone {ranks.epochs:+.2f}"


def _too_few(claim: Claim, place: str, seeds: int, scale: Sequence[Scale]) -> Verdict:
    few = f"{seeds} seeds"
    return Verdict(claim, place, remark=few, decider=f"{MIN_SEEDS} seeds", scale=scale)


def verdicts(tables: Tables, further: Sequence[Tables] = ()) -> Verdicts:
    """The page's answers, in reading order, on each grid."""
    grids = (tables, *further)
    answers = [decide_z_c3(grid.selected, grid.ends, grid.halved) for grid in grids]
    answers += [decide_z_c4(grid.selected) for grid in grids]
    return Verdicts(answers + [decide_z_c5(grid.cells, grid.selected) for grid in grids])
