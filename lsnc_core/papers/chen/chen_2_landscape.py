"""Chen, Ziyin et al. 2020, section 5.1: the label-noise landscape on real images.

Figures 5 and 6; C1 and C2 on networks, C17, C18. Expected: C1 and C2 hold on training images
against clean labels, once the labels are memorised, and not on held-out images, where the networks
are more often right than a.

a is the clean rate of the training labels, p the kept mass of the smoothed label, M the number of
classes. Losses are in nats.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lsnc_core import claims
from lsnc_core.claims import Claim, Verdict, decides
from lsnc_core.data_sources import source_of
from lsnc_core.papers.chen import PAPER, deviations
from lsnc_core.papers.chen.cases import formula_cases, minimum_case
from lsnc_core.papers.chen.drawing import (
    ALPHA,
    IMAGES,
    KEPT,
    THEORY,
    check_rates,
    describe_panels,
    describe_slices,
    draw_heat,
    draw_landscape,
    label_landscape,
    loss_ceiling,
    mean_grid,
    nearest_rates,
    rough_cells,
    slice_panels,
    slice_title,
)
from lsnc_core.papers.chen.explore_landscape import explore_cells, measure_course
from lsnc_core.papers.chen.grid import (
    FORMULA_ERROR,
    FORMULA_RANGE,
    FORMULA_RANK,
    NO_CIFAR,
    PROTOCOLS,
    class_count,
    landscape_table,
    place,
    rate_name,
    size_table,
    with_seeds,
)
from lsnc_core.papers.chen.minima import BELOW_1, find_minima
from lsnc_core.papers.chen.minima_claims import decide_c17, decide_c18
from lsnc_core.papers.chen.minima_claims import show_nearest as show_nearest
from lsnc_core.papers.chen.networks import (
    describe_recipe,
    plan_cifar,
    plan_landscape,
    plan_memorised,
    plan_sizes,
)
from lsnc_core.papers.chen.premises import (
    ENOUGH_IMAGES,
    FINER,
    RATES_FROM,
    case_premises,
    settings_of,
)
from lsnc_core.papers.chen.shared_claims import C1, C1_RANGE, C1_STEP, C1_TOLERANCE
from lsnc_core.papers.page import Page, tabulate_deviations
from lsnc_core.runs.spec import RunSpec
from lsnc_core.show import Drawing, Explorer, Table, Verdicts, figure, style
from lsnc_core.show.panels import draw_legend, draw_points, make_panels
from lsnc_core.theory import label_noise

if TYPE_CHECKING:
    import pandas as pd

PAGE = Page(
    title="The label-noise landscape on real images",
    section="5.1",
    minutes={"quick": 1.9},
)


# ---- runs


def plan_runs(profile: str, data_set: str = "") -> list[RunSpec]:
    """All networks of the notebook. Args and raises: as `plan_landscape`."""
    grid = plan_landscape(profile, data_set)
    # few networks on many images cannot be spread over all cores: they go first
    sizes = [spec for spec in plan_sizes(profile, data_set) if spec not in grid]
    return sizes + grid + plan_cifar(profile) + plan_memorised(profile)


# ---- tables


class Tables(NamedTuple):
    """What the notebook shows.

    Attributes:
        landscape: from `landscape_table`.
        sizes: from `size_table`.
        cifar: from `landscape_table`, on CIFAR-10; None if the profile does not train it.
        memorised: from `landscape_table`, of networks that memorise; None where the landscape's own
            do.
        recipe, cifar_recipe: how the networks of the landscapes were trained.
        course: from `measure_course`, of the landscape's networks.
    """

    landscape: "pd.DataFrame"
    sizes: "pd.DataFrame"
    cifar: "pd.DataFrame | None"
    memorised: "pd.DataFrame | None"
    recipe: str
    cifar_recipe: str
    course: "pd.DataFrame"


def load(profile: str, device: str, data_set: str = "") -> Tables:
    """The notebook's tables; networks missing in the store are trained."""
    from lsnc_core import runs

    specs, cifar_specs = plan_landscape(profile, data_set), plan_cifar(profile)
    trained = runs.results(specs, device)
    landscape, course = (
        landscape_table(trained),
        measure_course(trained, runs.tensors(specs, device)),
    )
    sizes = size_table(runs.results(plan_sizes(profile, data_set), device))
    cifar, cifar_recipe, memorised = None, "", None
    if cifar_specs:
        cifar = landscape_table(runs.results(cifar_specs, device))
        cifar_recipe = describe_recipe(cifar_specs)
    if plan_memorised(profile):
        memorised = landscape_table(runs.results(plan_memorised(profile), device))
    recipe = describe_recipe(specs)
    return Tables(landscape, sizes, cifar, memorised, recipe, cifar_recipe, course)


def show_deviations(profile: str) -> Table:
    """Where the networks of a profile differ from the paper's, see `deviations`."""
    return tabulate_deviations(deviations.list_deviations(profile))


# ---- figures


FIGURE_5 = (
    "test-loss heat maps over (a, p) with clean test labels: theory and measurement on MNIST (a, "
    "b) and on CIFAR-10 (c, d). In the paper they look alike. The granularity is "
    "given as 0.01/0.1 for a and p, without saying of which panels. Both theory panels are "
    "equation 11 with M = 10, so (a) and (c) are one function."
)


@figure(
    "chen-figure-5",
    number="Figure 5",
    title="Chen, Figure 5 (a, b)",
    paper=FIGURE_5,
    alt="Three heat maps of loss over clean rate and kept mass: the formula, held-out images, "
    "training images against clean labels. The minima of the formula lie where p equals a.",
)
def draw_figure_5(table: "pd.DataFrame", recipe: str) -> Drawing:
    """The landscape. Args: table, from `landscape_table`; recipe, of its networks."""
    title = "Chen, Figure 5 (c, d)" if table.data.iloc[0] == "cifar10" else ""
    return Drawing(draw_landscape(table), describe_panels(table, recipe), table, title)


@figure(
    "chen-figure-5-cifar10",
    number="Figure 5",
    title="Chen, Figure 5 (c, d)",
    paper=FIGURE_5,
    alt="Three heat maps of loss over clean rate and kept mass on CIFAR-10: the formula, held-out "
    "images, training images against clean labels.",
)
def draw_figure_5_cifar10(table: "pd.DataFrame", recipe: str) -> Drawing:
    """The landscape on CIFAR-10. Args: as `draw_figure_5`."""
    return Drawing(draw_landscape(table), describe_panels(table, recipe), table)


@figure(
    "chen-figure-5-residual",
    title="Measured minus predicted",
    paper="no such figure; the paper judges the agreement by eye.",
    alt="Two heat maps of measured minus predicted loss, for held-out images and for training "
    "images against clean labels.",
)
def draw_residual(table: "pd.DataFrame") -> Drawing:
    """Measured minus predicted loss over (a, p), p = 1 left out if the prediction is infinite.

    Args: table, from `landscape_table`.
    """
    drawing, panels = make_panels(2, 2, height=3.8, sharey=True)
    finite = table[np.isfinite(table.predicted)]
    rough = rough_cells(finite)
    for panel, (column, images) in zip(panels, PROTOCOLS.items(), strict=True):
        grid = mean_grid(finite.assign(residual=finite[column] - finite.predicted), "residual")
        hatched = rough.reindex_like(grid)
        image = draw_heat(panel, grid, hatched, cmap=style.RESIDUAL_MAP, vmin=-1, vmax=1)
        panel.set_title(images)
    panels[0].set_ylabel(KEPT)
    drawing.suptitle(label_landscape(table))
    label = "measured − predicted (nats)"
    drawing.colorbar(image, ax=list(panels), extend="both", label=label)
    caption = (
        f"{describe_distance(table)} Blue is where the measured loss lies below the formula, red "
        "where above; p = 1 is crossed where the formula is infinite, hatched where labels are not "
        f"memorised. {_describe_held_out(table)}"
    )
    return Drawing(drawing, caption, table)


def describe_distance(table: "pd.DataFrame") -> str:
    """How far the measured loss lies from the formula at most where labels are memorised, in a
    sentence; args: table, from `landscape_table`.
    """
    finite = table[np.isfinite(table.predicted)]
    if not (mean_grid(finite, "memorised") == 1).any(axis=None):
        return "In no cell are labels memorised."
    rough, parts = rough_cells(finite), []
    for column, images in PROTOCOLS.items():
        distance = mean_grid(finite.assign(distance=finite[column] - finite.predicted), "distance")
        parts.append(f"{distance.abs().where(~rough).max(axis=None):.2f} on {images}")
    most = " and ".join(parts)
    return f"Where labels are memorised, losses differ from the formula by at most {most} (nats)."


def _describe_held_out(table: "pd.DataFrame") -> str:
    """Why held-out images differ from memorised ones: how often the networks are right on them."""
    above = table[table.p > 1 / class_count(table)]
    accuracies = above.groupby("a").test_accuracy.mean()
    listed = ", ".join(f"{accuracy:.2f} at a = {a:g}" for a, accuracy in accuracies.items())
    return (
        "The formula treats every image as memorised: its label is right with probability a, and "
        "the output is exactly the smoothed label. On held-out images the networks are right with "
        f"frequency {listed} (mean over p above 1/M and seeds)."
    )


@figure(
    "chen-residual-by-size",
    title="Measured minus predicted against the number of training images",
    paper="no such figure; the paper trains on all images.",
    alt="Measured minus predicted loss against the number of training images, lines for held-out "
    "images, for training images, and for the formula at the held-out accuracy.",
)
def draw_sizes(table: "pd.DataFrame") -> Drawing:
    """Measured minus predicted loss against the number of training images, a panel for each p.

    Args: table, from `size_table`.
    """
    kept = sorted(set(table.p))
    drawing, panels = slice_panels(len(kept))
    looks = (
        ("residual", ALPHA | style.HELD_OUT, "measured: held-out images"),
        ("train_residual", ALPHA | style.TRAINING, "measured: training images, clean labels"),
        ("accuracy_residual", THEORY, "eq. 11 at the held-out accuracy instead of a"),
    )
    sizes = sorted(set(table.train_size))
    for panel, p in zip(panels, kept, strict=True):
        panel.axhline(0, color=style.SOFT, lw=0.8)
        part = table[table.p == p]
        for column, look, label in looks:
            curves = part.pivot(index="seed", columns="train_size", values=column)
            draw_points(panel, curves, label=label, **look)
        title = f"a = {table.a.iloc[0]:g}, p = {p:g}"
        panel.set(xscale="log", xlabel="training images", title=title)
        panel.set_xticks(sizes, [f"{size:,}" for size in sizes])
        panel.minorticks_off()
    panels[0].set_ylabel("measured minus predicted (nats)")
    drawing.suptitle(source_of(table.data.iloc[0]).label)
    draw_legend(drawing, panels[:1], columns=2)
    caption = (
        "On held-out images the loss nears the formula as networks become right on them as often "
        f"as the noisy labels are, with frequency a. {_describe_sizes(table)}"
    )
    return Drawing(drawing, caption, table)


def _describe_sizes(table: "pd.DataFrame") -> str:
    """Measured minus predicted by number of training images, in numbers."""
    parts = []
    for (size, p), part in table.groupby(["train_size", "p"]):
        interval = ""
        if len(part) >= claims.MIN_SEEDS and np.isfinite(part.residual).all():
            _, low, high = claims.t_interval(part.residual)
            interval = f" [{low:+.2f}, {high:+.2f}]"
        parts.append(
            f"{part.residual.mean():+.2f}{interval} with {size} images at p = {p:g} "
            f"(right with frequency {part.test_accuracy.mean():.2f})"
        )
    rough = int((~table.memorised).sum())
    note = f" {rough} of {len(table)} networks have not memorised their labels." if rough else ""
    return (
        "Held-out images, measured minus predicted in nats at "
        f"a = {table.a.iloc[0]:g}: {'; '.join(parts)}.{note}"
    )


def explore_landscape(course: "pd.DataFrame") -> Explorer:
    """The landscape over epochs and seeds. Args: course, from `measure_course`."""
    return explore_cells(course, "chen-2-explorer", "The measured landscape")


SLICES = (0.5, 0.8)  # clean rates of Figure 6, if no others are asked for


@figure(
    "chen-figure-6",
    number="Figure 6",
    title="Chen, Figure 6",
    paper="predicted and measured test loss against p at two clean rates (which ones is not "
    "recorded; ours are in the titles); in the paper they agree in trend and in absolute value.",
    alt="Loss against kept mass at fixed clean rates: the formula as a curve, measured points for "
    "held-out and for training images with error bars.",
)
def draw_figure_6(table: "pd.DataFrame", rates: Sequence[float]) -> Drawing:
    """Slices at fixed a: the formula as a line, measured means with 95 % intervals over seeds.

    Args: table, from `landscape_table`; rates, a panel each, none for those nearest to `SLICES`.
    Raises: UsageError, for a clean rate that the table does not have.
    """
    rates = check_rates(table, nearest_rates(table, SLICES) if rates in ([], ()) else rates)
    M = class_count(table)
    drawing, panels = slice_panels(len(rates))
    p = np.linspace(0.02, 0.999, 400)
    for panel, a in zip(panels, rates, strict=True):
        formula = label_noise.loss("alpha", a, p, M)
        panel.plot(p, formula, color=style.INK, label="theory, eq. 11")
        panel.axvline(a, color=style.SOFT, lw=0.8, ls=":", label="predicted best p = a")
        part = table[table.a == a]
        for column, images in PROTOCOLS.items():
            curves = part.pivot(index="seed", columns="p", values=column)
            look = ALPHA | {"ls": "", "mfc": IMAGES[column].get("mfc", ALPHA["color"])}
            draw_points(panel, curves, label=f"measured: {images}", **look)
        panel.set(xlabel=KEPT, title=slice_title(table, a))
        panel.set(xlim=(0, 1.02), ylim=(0, loss_ceiling(table) + 1))
    panels[0].set_ylabel("test loss (nats)")
    drawing.suptitle(label_landscape(table))
    draw_legend(drawing, panels[:1], columns=2)
    caption = (
        "The black line is the formula: filled marks (training images) are off by "
        f"{describe_slices(table, rates)}. Points: means over seeds with 95 % t-intervals. On "
        "training images seeds differ, because the share of wrong labels is drawn at random; the "
        "last C2 of the landscape has the formula at the share as drawn."
    )
    return Drawing(drawing, caption, table[table.a.isin(rates)])


# ---- claims


@decides(C1)
def decide_c1(claim: Claim, table: "pd.DataFrame", column: str) -> Verdict:
    """C1 on networks: the interval of the argmin at each clean rate with four seeds or more.

    Args: table, from `landscape_table`; column, of `PROTOCOLS`.
    """
    claimed = table[table.a.between(*C1_RANGE)]
    cases = []
    for a, part in with_seeds(claimed).groupby("a"):
        ends = {"at_least": a - C1_TOLERANCE, "at_most": min(a + C1_TOLERANCE, BELOW_1)}
        settings = {**ends, "form": ".2f", "premises": case_premises(part, column)}
        cases.append(minimum_case(rate_name(a), "p of lowest loss", part, column, **settings))
    remarks = _single_seeds(claimed, column), _coarse_grid(table)
    remark = "; ".join(filter(None, remarks))
    return Verdict(
        claim,
        place(table, PROTOCOLS[column]),
        cases,
        remark,
        **settings_of(table, column, FINER),
    )


def _single_seeds(table: "pd.DataFrame", column: str) -> str:
    """How the minima without an interval compare with a."""
    lowest = find_minima(table, column)
    single = lowest[lowest.seeds < claims.MIN_SEEDS]
    near = int(((single.argmin - single.a).abs() <= C1_TOLERANCE).sum())
    if single.empty:
        return ""
    return f"without an interval, {near} of {len(single)} other clean rates within {C1_TOLERANCE}"


def _coarse_grid(table: "pd.DataFrame") -> str:
    """How the grid of p differs from the one C1 asks for."""
    grid = np.unique(table.p)
    step = np.diff(grid[grid >= C1_RANGE[0] - C1_TOLERANCE]).max(initial=0)
    return f"on a grid with steps up to {step:.2g}, not {C1_STEP}" if step > C1_STEP + 1e-9 else ""


@decides(
    Claim(
        "C2",
        paper=PAPER.name,
        place="section 5.1, Figures 5 and 6",
        sentence="The formula with clean test labels predicts the measured test loss in absolute "
        "value.",
        expected=f"mean over p in [{FORMULA_RANGE[0]}, {FORMULA_RANGE[1]}] of "
        f"|measured − predicted| / predicted below {FORMULA_ERROR:.0%}, rank correlation above "
        f"{FORMULA_RANK}",
        changed="Ties in the formula's ranking count as ties. On held-out images it is open below "
        f"{ENOUGH_IMAGES:,} training images; clean rates below {RATES_FROM} no longer decide.",
    )
)
def decide_c2(
    claim: Claim, table: "pd.DataFrame", column: str, predicted: str = "predicted"
) -> Verdict:
    """C2 on networks.

    Args: table, from `landscape_table`; column, of `PROTOCOLS`; predicted, "predicted" or
    "predicted_as_drawn".
    """
    tried_on = place(table, PROTOCOLS[column])
    if predicted != "predicted":
        tried_on += ", formula at the share of clean labels as drawn"
    return Verdict(
        claim,
        tried_on,
        formula_cases(table, column, predicted),
        **settings_of(table, column),
    )


def verdicts(tables: Tables) -> Verdicts:
    """C1, C2, C17 and C18 on the landscape, C1 and C2 on networks that memorise and on CIFAR-10."""
    table, cifar, answers = tables.landscape, tables.cifar, []
    for landscape in (table, tables.memorised):
        if landscape is None:
            continue
        answers += [decide_c1(landscape, column) for column in PROTOCOLS]
        answers += [decide_c2(landscape, column) for column in PROTOCOLS]
        answers.append(decide_c2(landscape, "clean_train_loss", "predicted_as_drawn"))
    answers += [decide_c17(table), decide_c18(table)]
    if cifar is not None:
        answers += [decide_c1(cifar, column) for column in PROTOCOLS]
        answers += [decide_c2(cifar, column) for column in PROTOCOLS]
    elif table.data.iloc[0] != "cifar10":
        tried_on = "Held-out images of CIFAR-10"
        for decision in (decide_c1, decide_c2):
            answers.append(Verdict(decision.claim, tried_on, premises=[NO_CIFAR]))
    return Verdicts(answers)
