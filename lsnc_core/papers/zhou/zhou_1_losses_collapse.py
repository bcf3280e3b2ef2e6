"""Zhou et al. 2022: neural collapse of deep networks under four losses.

Figures: Z1, collapse and accuracy against epochs; distances between Gram matrices of class means.
Claims: Z-C1, Z-C2, Z-C10. NC1 collapses within minutes; NC2 and NC3 take longer, and how long
depends on the loss. A second set of networks, trained with half the schedule, shows whether
training has ended. The metrics are Zhou's (preset "zhou" of `lsnc_core.metrics`), of training
images by clean label. The paper's code measures them on augmented images; here the images are as
they are.
"""

import functools
import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lsnc_core import runs
from lsnc_core.claims import MIN_SEEDS, Case, Claim, Scale, Verdict, decides, seed_case
from lsnc_core.data_sources import source_of
from lsnc_core.papers.page import Page, list_released, tabulate_deviations
from lsnc_core.papers.zhou import PAPER, deviations, networks, problems
from lsnc_core.papers.zhou.collapse import (
    METRICS,
    SIMPLEX,
    collapse_table,
    describe_gram,
    describe_lowest,
    gram_distance_table,
    random_nc2,
)
from lsnc_core.papers.zhou.drawing import NAMES, draw_heat, label_grid
from lsnc_core.papers.zhou.networks import LOSSES, PARTS
from lsnc_core.papers.zhou.play import explore_losses as explore_losses
from lsnc_core.papers.zhou.premises import (
    check_ended,
    check_fitted,
    feature_width,
)
from lsnc_core.papers.zhou.spread import describe_size
from lsnc_core.runs import RunSpec
from lsnc_core.show import Drawing, Entries, Table, Verdicts, figure, style
from lsnc_core.show.panels import draw_band, draw_legend, make_panels

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

PAGE = Page(
    title="Four losses, one geometry?",
    shows="Gram matrices of class means, problems in the released code",
    minutes={"quick": 0.4},
)


# ---- runs


plan_grid = functools.partial(networks.add_halved, networks.collapse_runs)


def plan_runs(profile: str, data_set: str = "", smoothing: float = 0.1) -> list[RunSpec]:
    """The networks of this page: `networks.collapse_runs` and `networks.halved_runs` of all
    grids.
    """
    return networks.plan_grids(plan_grid, profile, data_set, smoothing)


# ---- tables


class Tables(NamedTuple):
    """What the page shows.

    Attributes:
        recipe: what was trained, in a sentence.
        collapse: from `collapse_table`.
        distances: from `gram_distance_table`.
        halved, halved_distances: as both, of the networks trained with half the schedule.
    """

    recipe: str
    collapse: "pd.DataFrame"
    distances: "pd.DataFrame"
    halved: "pd.DataFrame"
    halved_distances: "pd.DataFrame"


def load(profile: str, device: str = "auto", data_set: str = "", smoothing: float = 0.1) -> Tables:
    """The page's tables from the store; missing networks are trained."""
    specs = plan_grid(profile, data_set, smoothing)
    results, tensors = runs.results(specs, device), runs.tensors(specs, device)
    table = collapse_table(results, tensors)
    longest = max(spec.epochs for spec in specs)
    ends = table.epochs == longest
    whole = {spec: epochs for spec, epochs in tensors.items() if spec.epochs == longest}
    half = {spec: epochs for spec, epochs in tensors.items() if spec.epochs != longest}
    return Tables(
        networks.recipe(list(whole)),
        table[ends],
        gram_distance_table(whole),
        table[~ends],
        gram_distance_table(half),
    )


def load_further(profile: str, device: str = "auto", data_set: str = "") -> list[Tables]:
    """The tables of `networks.further_grids`."""
    grids = networks.further_grids(profile, data_set)
    return [load(profile, device, *grid) for grid in grids]


def show_deviations(profile: str) -> Table:
    """Where the networks of a profile differ from the paper's, see `deviations`."""
    return tabulate_deviations(deviations.list_deviations(profile))


def show_problems() -> Entries:
    """Problems in the released code and the theory, and what is done about each here."""
    return list_released(problems.list_problems())


# ---- figures

FORMULAS = {
    "NC1": r"NC1  tr($\Sigma_W\Sigma_B^+$)/K",
    "NC2": r"NC2  distance of $WW^\top$ to the simplex",
    "NC3": r"NC3  distance of $W\bar H$ to the simplex",
    "NC4": r"NC4  $\|W\mu_G + b\|$ (logits)",
}


Z1 = (
    "NC1 to NC4 of the training data and training, validation and test accuracy against "
    "epochs for CE, LS, FL and MSE; CIFAR-100, width 2, 800 epochs, one seed. All four losses "
    "drive NC1 to NC3 towards 0 and end at nearly equal test accuracy."
)


@figure(
    "zhou-z1",
    number="Z1",
    title="Zhou, Z1: four losses against epochs",
    paper=Z1,
    alt="Seven panels against epochs, a line for each of four losses: NC1, NC2, NC3 and NC4 on log "
    "axes, and training, validation and test accuracy.",
)
def draw_z1(tables: Tables) -> Drawing:
    """NC1 to NC4 of the training images and three accuracies against epochs, one line per loss,
    seeds as bands.
    """
    return _draw_z1(tables)


@figure(
    "zhou-z1-cifar100",
    number="Z1",
    title="Zhou, Z1, on CIFAR-100",
    paper=Z1,
    alt="Seven panels against epochs for CIFAR-100, a line for each of four losses: NC1 to NC4 and "
    "training, validation and test accuracy.",
)
def draw_z1_cifar100(tables: Tables) -> Drawing:
    """Z1 on the paper's image set. Args: tables, the first of `load_further`."""
    return _draw_z1(tables)


def _draw_z1(tables: Tables) -> Drawing:
    table = tables.collapse
    drawing, panels = make_panels(len(METRICS) + len(PARTS), 2, height=2.3)
    for panel, metric in zip(panels, METRICS, strict=False):
        _draw_curves(panel, table, metric, log=True)
        panel.set(yscale="log", title=FORMULAS[metric])
    accuracies = [f"{part}_accuracy" for part in PARTS]
    floor = max(0.0, table[accuracies].min().min() - 2)
    for panel, column, part in zip(panels[len(METRICS) :], accuracies, PARTS, strict=True):
        _draw_curves(panel, table, column)
        name = "training" if part == "train" else part
        panel.set(title=f"{name} accuracy", ylabel="percent", ylim=(floor, 100.5))
    falls = ({"color": style.SOFT, "lw": 0.8, "ls": ":"}, "the learning rate falls to a tenth")
    draw_legend(drawing, panels[:1], columns=3, seeds=[table.seed.nunique()], extra=[falls])
    drawing.suptitle(label_grid(table))
    caption = f"{describe_lowest(table)} {tables.recipe} {describe_ends(table)}"
    return Drawing(drawing, caption, table)


def _draw_curves(panel: "Axes", table: "pd.DataFrame", column: str, log: bool = False) -> None:
    """A line for each loss, the mean over seeds, in the band of its interval."""
    for number, loss in enumerate(LOSSES):
        curves = table[table.loss == loss].pivot(index="seed", columns="epoch", values=column)
        look = {"color": style.method(loss), "ls": style.DASHES[number], "label": NAMES[loss]}
        draw_band(panel, curves, log=log, **look)
    for step in table.lr_steps.iloc[0]:
        panel.axvline(step, color=style.SOFT, lw=0.8, ls=":")
    panel.set(xlabel="epoch", xscale="log")


def describe_ends(table: "pd.DataFrame") -> str:
    """The last values of `collapse_table` by loss, means over seeds, in a sentence of numbers."""
    ends = table[table.epoch == table.epochs].groupby("loss")[[*METRICS, "test_accuracy"]].mean()
    parts = []
    for metric in METRICS:
        numbers = [f"{ends[metric][loss]:.2g} ({loss})" for loss in LOSSES]
        parts.append(f"{metric} {', '.join(numbers)}")
    accuracies = ", ".join(f"{ends.test_accuracy[loss]:.1f} ({loss})" for loss in LOSSES)
    return f"After the last epoch {'; '.join(parts)}; test accuracy in percent {accuracies}."


@figure(
    "zhou-gram",
    title="Distance of the class means' Gram matrices",
    paper="no such figure known to us; the text says that the features are equivalent across "
    "losses.",
    alt="Two triangular heat maps of distances between the losses' Gram matrices and to the "
    "simplex, at the first measured epoch and at the end of training.",
)
def draw_gram_distances(distances: "pd.DataFrame") -> Drawing:
    """Distances at the first measured epoch and at the end of training.

    Args:
        distances: from `gram_distance_table`.
    """
    import matplotlib.pyplot as plt

    size = {"figsize": (style.WIDTH, 3.6), "sharey": True, "layout": "constrained"}
    drawing, panels = plt.subplots(1, 2, **size)
    top = max(distances.start.max(), distances.end.max())
    titles = {"start": "first measured epoch", "end": "end of training"}
    for panel, (column, title) in zip(panels, titles.items(), strict=True):
        means = distances.pivot_table(index="second", columns="first", values=column)
        means = means.reindex(index=[*LOSSES, SIMPLEX], columns=LOSSES)
        image = draw_heat(panel, means, 0, top, ".2f")
        panel.set(title=title, xlabel="loss")
    panels[0].set_ylabel("compared with")
    drawing.colorbar(image, ax=panels, label="distance at Frobenius norm 1")
    caption = (
        f"{describe_gram(distances)} The smaller a number on the right, the more alike are the "
        "class means of two losses at the end. Left after the first measured epoch, right at the "
        "end; means over pairs of networks of different seeds, in the row “simplex” over seeds."
    )
    return Drawing(drawing, caption, distances)


# ---- claims

DECIDER = f"more seeds, at least {MIN_SEEDS}"
PREMISE_CHANGE = (
    "The claim is now left open where networks do not fit their training images and, since "
    "networks are trained with half the schedule as well, where training has not ended."
)

COLLAPSED = 0.1  # of a metric's value after E/100 epochs; registered before the first run
# Distance of matrices at Frobenius norm 1; registered before the first run for Z-C2. Later taken
# over for NC2, which is a distance of the same kind.
GRAM_TOLERANCE = 0.2


@decides(
    Claim(
        "Z-C1",
        PAPER.name,
        "section 4.1, NC metrics against epochs",
        "With a wide network trained for long, every loss reaches neural collapse on the training "
        "data.",
        f"NC1 and NC3 each end below {COLLAPSED:.0%} of their value after E/100 epochs, NC2 below "
        f"{GRAM_TOLERANCE:g} and below that of random weights, for all four losses",
        changed=f"{PREMISE_CHANGE} At first NC2 too had to fall to {COLLAPSED:.0%} of its value "
        "after E/100 epochs. Random weights are near a simplex, so NC2 starts low and cannot "
        f"reach that share; it is shown and decides nothing now. {networks.GRID_CHANGE}; the "
        "verdict did not change. The values after E/100 epochs were at first those after one "
        "epoch, which are others in the profiles hour and paper.",
    )
)
def decide_z_c1(claim: Claim, table: "pd.DataFrame", halved: "pd.DataFrame") -> Verdict:
    """Z-C1: NC1 and NC3 divided by their values after E/100 epochs, NC2 beside that of random
    weights, for each loss.

    Args:
        table: from `collapse_table`.
        halved: the same of the networks trained with half the schedule.
    """
    cases = []
    ends, half = _last_epochs(table), _last_epochs(halved)
    starts = table[table.epoch == np.maximum(1, table.epochs // 100)].set_index(["loss", "seed"])
    random = random_nc2(*_weight_shape(table))
    for metric, loss in itertools.product(METRICS[:3], LOSSES):
        ratios = (ends[metric] / starts[metric])[loss]
        # One ratio per network: each seed has its own start. Ratios are nearer to normal on the log
        # scale. A metric at 0 or of a diverged network has no logarithm and leaves the case open.
        by_first = seed_case(
            f"metric {metric}({loss})",
            "last value / that after E/100 epochs",
            np.log(ratios.where(ratios > 0)),
            log=True,
            at_most=COLLAPSED,
            form=".1%",
            remark=f"ends at {ends[metric][loss].mean():.2g}",
            deciding=metric != "NC2",
        )
        if metric != "NC2":
            limit = COLLAPSED * starts[metric][loss].mean()
            cases.append(_with_premises(by_first, ends, half, metric, loss, limit))
            continue
        level = seed_case(
            f"metric {metric}({loss})",
            "NC2 at the end",
            ends[metric][loss],
            at_most=min(GRAM_TOLERANCE, random),
            form=".3f",
            remark=f"random weights {random:.3f}",
        )
        level = _with_premises(level, ends, half, metric, loss, level.at_most)
        cases += [level, by_first]
    return Verdict(claim, _place(table), cases, decider=DECIDER, scale=_scale(table))


def _last_epochs(table: "pd.DataFrame") -> "pd.DataFrame":
    """The last row of each network, by loss and seed."""
    return table[table.epoch == table.epochs].set_index(["loss", "seed"])


def _weight_shape(table: "pd.DataFrame") -> tuple[int, int]:
    """Classes K and features D."""
    first = table.iloc[0]
    return source_of(first.data).num_classes, feature_width(first.model, first.widths)


def _with_premises(
    case: Case, ends: "pd.DataFrame", half: "pd.DataFrame", column: str, loss: str, limit: float
) -> Case:
    """A case about a column at the end of one loss's training, with what the claim presupposes.

    Args:
        ends, half: from `_last_epochs`, of the whole schedule and of half of it.
        limit: of the claim, in the unit of the column.
    """
    # over the seeds that were trained with both
    whole, halved = ends[column][loss], half[column][loss]
    seeds = whole.index.intersection(halved.index)
    before, after = halved[seeds].mean(skipna=False), whole[seeds].mean(skipna=False)
    ended = check_ended(case, before, after, limit, f"{column}({loss})")
    return replace(case, premises=(check_fitted(ends.loc[[loss]], loss), ended))


@decides(
    Claim(
        "Z-C2",
        PAPER.name,
        "abstract and theorem on global optimality",
        "The last-layer features are equivalent across losses: class means form the same simplex "
        "up to rotation and scale.",
        "distances between the Gram matrices of the class means, at Frobenius norm 1, and to the "
        f"simplex's all below {GRAM_TOLERANCE:g}",
        changed=f"{PREMISE_CHANGE} Two losses are compared at different seeds; at first they were "
        "compared at one seed, whose shared start made most pairs pass after the first epoch. "
        f"{networks.GRID_CHANGE}; the verdict did not change.",
    )
)
def decide_z_c2(claim: Claim, tables: Tables) -> Verdict:
    """Z-C2: the distance of each pair of losses, and of each loss to the simplex ETF."""
    cases = []
    half = tables.halved_distances.groupby(["first", "second"]).end.mean()
    ends = tables.collapse
    for (one, other), part in tables.distances.groupby(["first", "second"], sort=False):
        if one == other:
            continue  # two seeds of one loss are shown in the figure
        # One distance per seed of the first loss. Each network is in one pair of two losses alone,
        # but pairs of one seed share a start; at the end little of it is left.
        case = seed_case(
            f"distance {one}–{other}",
            "distance at the end",
            part.end,
            at_most=GRAM_TOLERANCE,
            form=".3f",
            remark=f"{part.start.mean():.3f} at first",
        )
        where, before = f"{one}–{other}", half.get((one, other), np.nan)
        ended = check_ended(case, before, part.end.mean(), GRAM_TOLERANCE, where)
        pair = ends[ends.loss.isin((one, other))]
        cases.append(replace(case, premises=(check_fitted(pair, where), ended)))
    return Verdict(claim, _place(ends), cases, decider=DECIDER, scale=_scale(ends))


COSINE_TOLERANCE = 0.1  # fixed before the first run of this claim


@decides(
    Claim(
        "Z-C10",
        PAPER.name,
        "abstract, definition of neural collapse",
        "Under every loss the class means are as far apart as they can be, in angle: every two at "
        "the cosine −1/(K − 1) about their mean.",
        "the largest cosine between two class means, about their mean, is at most "
        f"{COSINE_TOLERANCE:g} above −1/(K − 1), for all four losses",
        changed="The claim was added after the first results of the others. It speaks of angles; "
        "the paper and, at first, this sentence speak of distances, for which the means must be as "
        "long, too.",
    )
)
def decide_z_c10(claim: Claim, table: "pd.DataFrame", halved: "pd.DataFrame") -> Verdict:
    """Z-C10: for each loss, how far the largest cosine is above its least possible value.

    Args:
        table: from `collapse_table`.
        halved: the same of the networks trained with half the schedule.
    """
    cases = []
    least = -1 / (_weight_shape(table)[0] - 1)
    starts = table[table.epoch == table.epoch.min()].groupby("loss").cosine.mean()
    table, halved = (rows.assign(cosine=rows.cosine - least) for rows in (table, halved))
    ends, half = _last_epochs(table), _last_epochs(halved)
    for loss in LOSSES:
        case = seed_case(
            f"loss {loss}",
            "largest cosine − its least, −1/(K − 1):",
            ends.cosine[loss],
            at_most=COSINE_TOLERANCE,
            form=".3f",
            remark=f"{starts[loss] - least:.3f} at first",
        )
        cases.append(_with_premises(case, ends, half, "cosine", loss, COSINE_TOLERANCE))
    return Verdict(claim, _place(table), cases, decider=DECIDER, scale=_scale(table))


def _place(table: "pd.DataFrame") -> str:
    """On what a verdict was tried."""
    cell = table.iloc[0]
    return f"{networks.grid_title(table)}, {networks.cell_name(cell.width, cell.epochs)}"


def _scale(table: "pd.DataFrame") -> list[Scale]:
    """The size of the experiment, with the test accuracy after the last epoch."""
    return describe_size(table[table.epoch == table.epochs], "last epoch")


def verdicts(tables: Tables, further: Sequence[Tables] = ()) -> Verdicts:
    """The page's answers, in reading order, on each grid."""
    grids = (tables, *further)
    answers = [decide_z_c1(grid.collapse, grid.halved) for grid in grids]
    answers += [decide_z_c2(grid) for grid in grids]
    return Verdicts(answers + [decide_z_c10(grid.collapse, grid.halved) for grid in grids])
