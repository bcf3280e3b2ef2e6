"""Zhou et al. 2022: neural collapse of deep networks under four losses.

Figures: Z1, collapse and accuracy against epochs; distances between Gram matrices of class means.
Claims: Z-C1, Z-C2. NC1 collapses within minutes; NC2 and NC3 take longer, and how long depends on
the loss. The metrics are Zhou's (preset "zhou" of `lsnc_core.metrics`), of training images by clean
label. The paper's code measures them on augmented images; here the images are as they are.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lsnc_core import runs
from lsnc_core.claims import MIN_SEEDS, Claim, Verdict, decides, seed_case
from lsnc_core.papers import stored
from lsnc_core.papers.page import Page, tabulate_deviations
from lsnc_core.papers.zhou import PAPER, deviations, networks, problems
from lsnc_core.papers.zhou.drawing import COLOUR, DASH, NAMES, draw_heat
from lsnc_core.papers.zhou.networks import LOSSES, PARTS
from lsnc_core.runs import RunSpec
from lsnc_core.show import Drawing, Entries, Table, Verdicts, figure

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

PAGE = Page(
    title="Four losses, one geometry?",
    shows="Gram matrices of class means, problems in the released code",
    minutes={"quick": 0.8},
)
METRICS = ("NC1", "NC2", "NC3", "NC4")
SIMPLEX = "simplex"


# ---- runs


def plan_runs(profile: str, data_set: str = "", smoothing: float = 0.1) -> list[RunSpec]:
    """The networks of this page: `networks.collapse_runs` of all grids."""
    return networks.plan_grids(networks.collapse_runs, profile, data_set, smoothing)


# ---- tables


class Tables(NamedTuple):
    """What the page shows.

    Attributes:
        recipe: what was trained, in a sentence.
        collapse: from `collapse_table`.
        distances: from `gram_distance_table`.
    """

    recipe: str
    collapse: "pd.DataFrame"
    distances: "pd.DataFrame"


def load(profile: str, device: str = "auto", data_set: str = "", smoothing: float = 0.1) -> Tables:
    """The page's tables from the store; missing networks are trained."""
    specs = networks.collapse_runs(profile, data_set, smoothing)
    tensors = runs.tensors(specs, device)
    collapse = collapse_table(runs.results(specs, device), tensors)
    return Tables(networks.recipe(specs), collapse, gram_distance_table(tensors))


def load_further(profile: str, device: str = "auto", data_set: str = "") -> list[Tables]:
    """The tables of `networks.further_grids`."""
    grids = networks.further_grids(profile, data_set)
    return [load(profile, device, *grid) for grid in grids]


def collapse_table(
    results: "pd.DataFrame", tensors: Mapping[RunSpec, Sequence[stored.Tensors]]
) -> "pd.DataFrame":
    """Accuracies and NC1 to NC4 of the training images, one row per (run, epoch).

    Args:
        results: the table of `lsnc_core.runs.results`.
        tensors: of the same networks, from `lsnc_core.runs.tensors`.

    Returns:
        pandas.DataFrame as `networks.accuracy_table`, with a column for each of `METRICS`; NaN
        where a network has diverged.
    """
    import pandas as pd

    rows, finite, names = [], [], stored.run_names(tensors)
    for spec, epochs in tensors.items():
        for epoch, arrays in zip(spec.evaluate_at, epochs, strict=True):
            rows.append({"run": names[spec], "epoch": epoch} | dict.fromkeys(METRICS, np.nan))
            if np.isfinite(arrays["weight"]).all() and np.isfinite(arrays["train_means"]).all():
                finite.append((rows[-1], arrays))
    measured = stored.collapse_of_many([arrays for _, arrays in finite])
    for (row, _), values in zip(finite, measured, strict=True):
        row |= values.preset("zhou")
    accuracies = networks.accuracy_table(results)
    return accuracies.merge(pd.DataFrame(rows), on=stored.KEYS, validate="one_to_one")


def normalise_gram(means: np.ndarray) -> np.ndarray:
    """Gram matrix of the class means about their mean, at Frobenius norm 1.

    Args:
        means: float (K, D).

    Returns:
        float64 (K, K); NaN where all means coincide.

    >>> normalise_gram(np.array([[3.0, 0.0], [1.0, 0.0]])).tolist()
    [[0.5, -0.5], [-0.5, 0.5]]
    """
    H = means.astype(float) - means.astype(float).mean(0)
    gram = H @ H.T  # (K, K)
    norm = np.linalg.norm(gram)
    return gram / norm if norm > 0 else np.full_like(gram, np.nan)


def gram_distance_table(tensors: Mapping[RunSpec, Sequence[stored.Tensors]]) -> "pd.DataFrame":
    """Distances between normalised Gram matrices of class means, of each two losses at one seed, of
    each loss to the simplex ETF, and of each loss between two seeds.

    Args:
        tensors: from `lsnc_core.runs.tensors`.

    Returns:
        pandas.DataFrame with first, second (losses, or "simplex"), seed, other_seed, start and end
        (distances in [0, sqrt(2)] at the first measured epoch and at the last).
    """
    import pandas as pd

    grams = {}
    for spec, epochs in tensors.items():
        key = networks.loss_name(spec.loss, spec.p), spec.seed
        grams[key] = [normalise_gram(epochs[at]["train_means"]) for at in (0, -1)]
    K = len(next(iter(grams.values()))[0])
    for seed in {seed for _, seed in grams}:
        grams[SIMPLEX, seed] = [normalise_gram(np.eye(K))] * 2
    order = (*LOSSES, SIMPLEX)
    keys = sorted(grams, key=lambda key: (order.index(key[0]), key[1]))
    rows = []
    for (one, seed), (other, other_seed) in itertools.combinations(keys, 2):
        if one == other == SIMPLEX or (one != other and seed != other_seed):
            continue
        ends = zip(grams[one, seed], grams[other, other_seed], strict=True)
        start, end = (float(np.linalg.norm(gram - partner)) for gram, partner in ends)
        row = {"first": one, "second": other, "seed": seed, "other_seed": other_seed}
        rows.append(row | {"start": start, "end": end})
    return pd.DataFrame(rows)


def show_deviations(profile: str) -> Table:
    """Where the networks of a profile differ from the paper's, see `deviations`."""
    return tabulate_deviations(deviations.list_deviations(profile))


def show_problems() -> Entries:
    """Problems in what was released, and what is done about each here."""
    return Entries(["released", "here"], problems.list_problems())


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
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter

    table = tables.collapse
    drawing, panels = plt.subplots(2, 4, figsize=(13.5, 6.2), layout="constrained")
    for panel, metric in zip(panels[0], METRICS, strict=True):
        _draw_curves(panel, table, metric)
        panel.set(yscale="log", title=FORMULAS[metric])
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter(_plain)
        panel.yaxis.set_minor_formatter(NullFormatter())
    accuracies = [f"{part}_accuracy" for part in PARTS]
    floor = max(0.0, table[accuracies].min().min() - 2)
    titles = ("training accuracy", "validation accuracy", "test accuracy")
    for panel, column, title in zip(panels[1], accuracies, titles, strict=False):
        _draw_curves(panel, table, column)
        panel.set(title=title, ylabel="percent", ylim=(floor, 100.5))
    panels[1, 3].axis("off")
    bands = f"mean of {table.seed.nunique()} seeds, band: lowest to highest"
    panels[1, 3].legend(
        *panels[0, 0].get_legend_handles_labels(),
        title=f"{bands};\ndotted: the rate falls to a tenth",
        frameon=False,
        loc="center",
    )
    return Drawing(drawing, f"{tables.recipe} {describe_ends(table)}", table)


def _draw_curves(panel: "Axes", table: "pd.DataFrame", column: str) -> None:
    """A line for each loss, the mean over seeds, in a band from the lowest to the highest seed."""
    for loss in LOSSES:
        seeds = table[table.loss == loss].pivot(index="epoch", columns="seed", values=column)
        low, high, colour = seeds.min(axis=1), seeds.max(axis=1), COLOUR[loss]
        panel.fill_between(seeds.index, low, high, color=colour, alpha=0.15, lw=0)
        look = {"color": colour, "lw": 1.8, "label": NAMES[loss]}
        panel.plot(seeds.index, seeds.mean(axis=1), DASH[loss], **look)
    for step in table.lr_steps.iloc[0]:
        panel.axvline(step, color="grey", lw=0.8, ls=":")
    panel.set(xlabel="epoch", xscale="log")
    panel.xaxis.set_major_formatter(_plain)


def _plain(value: float, position: int) -> str:
    """A tick's number without powers of ten."""
    return f"{value:g}"


def describe_ends(table: "pd.DataFrame") -> str:
    """The last values of `collapse_table` by loss, means over seeds, in a sentence of numbers."""
    ends = table[table.epoch == table.epochs].groupby("loss")[[*METRICS, "test_accuracy"]].mean()
    parts = []
    for metric in METRICS:
        numbers = [f"{ends[metric][loss]:.2g} ({loss})" for loss in LOSSES]
        parts.append(f"{metric} {', '.join(numbers)}")
    accuracies = ", ".join(f"{ends.test_accuracy[loss]:.1f} ({loss})" for loss in LOSSES)
    return f"At the end {'; '.join(parts)}; test accuracy in percent {accuracies}."


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

    drawing, panels = plt.subplots(1, 2, figsize=(10, 4.4), sharey=True, layout="constrained")
    top = max(distances.start.max(), distances.end.max())
    titles = {"start": "first measured epoch", "end": "end of training"}
    for panel, (column, title) in zip(panels, titles.items(), strict=True):
        means = distances.pivot_table(index="second", columns="first", values=column)
        means = means.reindex(index=[*LOSSES, SIMPLEX], columns=LOSSES)
        image = draw_heat(panel, means, 0, top, ".2f")
        panel.set(title=title, xlabel="loss")
    panels[0].set_ylabel("compared with")
    drawing.colorbar(image, ax=panels, label="distance of Gram matrices at Frobenius norm 1")
    caption = (
        "left after the first measured epoch, right at the end; means over seeds, or over pairs of "
        "seeds on the diagonal."
    )
    return Drawing(drawing, caption, distances)


# ---- claims

FITTED = 99.9  # percent of the training images: collapse is claimed of networks that fitted them
PAPER_STEPS = 800 * 450  # 45,000 images in batches of 100
NOT_FITTED = "training images not fitted"
DECIDER = f"{MIN_SEEDS} seeds; a wider network, more epochs"
FIT_CHANGE = "It is left open where networks do not fit their training images."

COLLAPSED = 0.1  # of a metric's value after E/100 epochs; fixed before the first run


@decides(
    Claim(
        "Z-C1",
        PAPER.name,
        "experiments, NC metrics against epochs",
        "With a wide network trained for long, every loss reaches neural collapse on the training "
        "data.",
        f"NC1, NC2 and NC3 each end below {COLLAPSED:.0%} of their value after E/100 epochs, for "
        "all four losses",
        changed=f"{FIT_CHANGE} {networks.GRID_CHANGE}; the verdict did not change.",
    )
)
def decide_z_c1(claim: Claim, table: "pd.DataFrame") -> Verdict:
    """Z-C1: for each metric and loss, the last value by the first.

    Args:
        table: from `collapse_table`.
    """
    cases = []
    ends = table[table.epoch == table.epochs].set_index(["loss", "seed"])
    starts = table[table.epoch == table.epoch.min()].set_index(["loss", "seed"])
    highest = table.groupby(["loss", "seed"])[list(METRICS)].max()
    for metric, loss in itertools.product(METRICS[:3], LOSSES):
        ratios = (ends[metric] / starts[metric])[loss]
        share = (ends[metric] / highest[metric])[loss].mean()
        fitted = ends.train_accuracy[loss].min() >= FITTED
        # One ratio per network: each seed has its own start. Ratios are nearer to normal on the log
        # scale. A metric at 0 or of a diverged network has no logarithm and leaves the case open.
        case = seed_case(
            f"metric {metric}({loss})",
            "last by first value",
            np.log(ratios.where(ratios > 0)),
            log=True,
            at_most=COLLAPSED,
            form=".1%",
            undecided="" if fitted else NOT_FITTED,
            remark=f"ends at {ends[metric][loss].mean():.2g}, {share:.1%} of its highest",
        )
        cases.append(case)
    remark = (
        f"training accuracy at least {ends.train_accuracy.min():.1f} % after "
        f"{table.steps.iloc[0]:,} steps, the paper's {PAPER_STEPS:,}"
    )
    return Verdict(claim, _place(table), cases, remark=remark, decider=DECIDER)


GRAM_TOLERANCE = 0.2  # distance at Frobenius norm 1; fixed before the first run


@decides(
    Claim(
        "Z-C2",
        PAPER.name,
        "abstract and theorem on global optimality",
        "The last-layer features are equivalent across losses: class means form the same simplex "
        "up to rotation and scale.",
        "distances between the Gram matrices of the class means, at Frobenius norm 1, and to the "
        f"simplex's all below {GRAM_TOLERANCE:g}",
        changed=f"{FIT_CHANGE} {networks.GRID_CHANGE}; the verdict did not change.",
    )
)
def decide_z_c2(claim: Claim, distances: "pd.DataFrame", table: "pd.DataFrame") -> Verdict:
    """Z-C2: the distance of each pair of losses, and of each loss to the simplex ETF.

    Args:
        distances: from `gram_distance_table`.
        table: from `collapse_table`; it says what was tried and whether it fitted.
    """
    fitted = table[table.epoch == table.epochs].train_accuracy.min() >= FITTED
    apart = distances[distances["first"] != distances.second]
    cases = []
    for (one, other), part in apart.groupby(["first", "second"], sort=False):
        # one distance per seed: both networks of a pair have its start and batch order
        case = seed_case(
            f"distance {one}–{other}",
            "distance at the end",
            part.end,
            at_most=GRAM_TOLERANCE,
            form=".3f",
            undecided="" if fitted else NOT_FITTED,
            remark=f"{part.start.mean():.3f} at first",
        )
        cases.append(case)
    remark = "" if fitted else NOT_FITTED
    return Verdict(claim, _place(table), cases, remark=remark, decider=DECIDER)


def _place(table: "pd.DataFrame") -> str:
    """On what a verdict was tried."""
    cell = table.iloc[0]
    return f"{networks.grid_title(table)}, {networks.cell_name(cell.width, cell.epochs)}"


def verdicts(tables: Tables, further: Sequence[Tables] = ()) -> Verdicts:
    """The page's answers, in reading order, on each grid."""
    grids = (tables, *further)
    answers = [decide_z_c1(grid.collapse) for grid in grids]
    return Verdicts(answers + [decide_z_c2(grid.distances, grid.collapse) for grid in grids])
