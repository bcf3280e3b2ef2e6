"""Beyond the papers: neural collapse and calibration over Chen's grid of clean rates and kept
masses.

B1 to B3; no paper has these figures. NC1, NC2 and NC3 are Guo et al.'s (Guo eq. 4 to 6), with
every image under its clean label. ECE has 15 bins. Expected: nothing. We know of no work that
compares the smoothing of lowest loss with that of strongest collapse and best calibration. Nearest
is Memorization-Dilation (Nguyen et al., ICLR 2023), which studies collapse, label noise and
smoothing together; a table sets its measures beside ours. All networks are the landscape's.

a is the clean rate of the training labels, p the kept mass of the smoothed label.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lsnc_core.claims import OURS, Claim, Verdict, decides, seed_case
from lsnc_core.papers.chen.cases import difference_cases
from lsnc_core.papers.chen.drawing import (
    CLEAN_RATE,
    KEPT,
    cell_position,
    draw_heat,
    draw_minima,
    label_landscape,
    loss_ceiling,
    mean_grid,
    rough_cells,
)
from lsnc_core.papers.chen.explore_landscape import explore_cells, measure_course
from lsnc_core.papers.chen.grid import (
    PROTOCOLS,
    landscape_table,
    learned,
    place,
    rate_name,
    with_seeds,
)
from lsnc_core.papers.chen.minima import find_minima, seed_argmins
from lsnc_core.papers.chen.networks import plan_landscape
from lsnc_core.papers.chen.premises import FINER, case_premises, settings_of
from lsnc_core.papers.chen.shared_claims import C1_RANGE
from lsnc_core.papers.page import Page
from lsnc_core.papers.stored import collapse_of_many, run_names
from lsnc_core.show import Drawing, Explorer, Table, Verdicts, figure, style
from lsnc_core.show.panels import draw_legend, make_panels

if TYPE_CHECKING:
    import pandas as pd

    from lsnc_core.papers.stored import Tensors
    from lsnc_core.runs.spec import RunSpec

PAGE = Page(
    title="Collapse and calibration under label noise",
    shows="NC1-NC3 and ECE over (a, p)",
    minutes={"quick": 0.1},
)
# Metric columns of the table, and what figures call them.
METRICS = {
    "train NC1": "NC1, training images",
    "test NC1": "NC1, held-out images",
    "train NC2": "NC2, training images",
    "train NC3": "NC3, training images",
    "ECE": "ECE, held-out images",
}


# ---- runs


def plan_runs(profile: str, data_set: str = "") -> "list[RunSpec]":
    """The networks of the a-p landscape; args and raises as `plan_landscape`."""
    return plan_landscape(profile, data_set)


# ---- tables


class Tables(NamedTuple):
    """What the notebook shows: after the last epoch, from `metric_table`, and at every measured
    epoch, from `measure_course`.
    """

    ends: "pd.DataFrame"
    course: "pd.DataFrame"


def load(profile: str, device: str = "auto", data_set: str = "") -> Tables:
    """Both tables; networks that the store lacks are trained."""
    from lsnc_core import runs

    specs = plan_runs(profile, data_set)
    trained, tensors = runs.results(specs, device), runs.tensors(specs, device)
    return Tables(metric_table(trained, tensors), measure_course(trained, tensors))


def metric_table(
    runs: "pd.DataFrame", tensors: "Mapping[RunSpec, Sequence[Tensors]]"
) -> "pd.DataFrame":
    """The landscape's table with collapse metrics and ECE after the last epoch.

    Args:
        runs: the table of `lsnc_core.runs.results`.
        tensors: from `lsnc_core.runs.tensors`, of the same networks.

    Returns:
        pandas.DataFrame as `landscape_table` with the columns of `METRICS`, "test NC2", "test NC3",
        "confidence" (mean over held-out images of the largest probability), and for "train" and
        "test" images "spread" and "relative spread", see `measure_spread`; only the p that teach
        the label, for the class means of networks that learned nothing coincide.
    """
    import pandas as pd

    landscape, names = learned(landscape_table(runs)), run_names(tensors)
    taught = set(landscape.run)
    ends = {spec: epochs[-1] for spec, epochs in tensors.items() if names[spec] in taught}
    rows: list[dict[str, str | float]] = [{"run": names[spec]} for spec in ends]
    for part in ("train", "test"):
        measured = collapse_of_many(list(ends.values()), part)
        for row, values in zip(rows, measured, strict=True):
            named = values.preset("guo")
            row |= {f"{part} {metric}": value for metric, value in named.items()}
        for row, end in zip(rows, ends.values(), strict=True):
            row[f"{part} spread"], row[f"{part} relative spread"] = measure_spread(end, part)
    for row, (spec, end) in zip(rows, ends.items(), strict=True):
        row |= _calibration(spec, end)
    return landscape.merge(pd.DataFrame(rows), on="run", validate="one_to_one")


def measure_spread(tensors: "Tensors", part: str) -> tuple[float, float]:
    """The spread of features about the means of their clean classes.

    Args:
        tensors: one measured epoch.
        part: "train" or "test".

    Returns:
        The root mean square distance of a feature to the mean of its clean class; and the same by
        the root mean square distance of two class means. NaN without any spread between classes.
    """
    counts = tensors[f"{part}_counts"].astype(float)
    spread = np.sqrt(counts @ tensors[f"{part}_within"].astype(float) / counts.sum())
    means = tensors[f"{part}_means"].astype(float)[counts > 0]  # (K, D)
    # of K points the mean squared distance of two is 2K/(K-1) times that to their mean
    between = np.square(means - means.mean(0)).sum(1).mean()
    apart = np.sqrt(2 * len(means) / (len(means) - 1) * between)
    return float(spread), float(spread / apart if apart > 0 else np.nan)


def _calibration(spec: "RunSpec", tensors: "Tensors") -> dict[str, float]:
    """ECE and mean confidence of one measured epoch on held-out images."""
    import torch

    from lsnc_core import data
    from lsnc_core.metrics import ece

    _, clean = data.truth(spec.data, spec.train_size, spec.test_size)
    logits = torch.from_numpy(np.array(tensors["test_logits"]))  # (N, M)
    confidence = float(logits.double().softmax(1).amax(1).mean())
    return {"ECE": ece(logits, clean), "confidence": confidence}


SPREADS = {
    "train spread": "training: spread",
    "train relative spread": "training: spread / class distance",
    "test spread": "held-out: spread",
    "test relative spread": "held-out: spread / class distance",
}


def show_spread(table: "pd.DataFrame") -> Table:
    """Spread of the features without smoothing and with the kept mass nearest the clean rate.

    Args: table, from `metric_table`.
    """
    rows = []
    for a, part in table[table.a.between(*C1_RANGE)].groupby("a"):
        near = part.p.unique()[np.abs(part.p.unique() - a).argmin()]
        for p in dict.fromkeys((1.0, near)):
            means = part[part.p == p][list(SPREADS)].mean()
            rows.append([f"{a:g}", f"{p:g}", *(f"{means[column]:.3g}" for column in SPREADS)])
    return Table(["a", "p", *SPREADS.values()], rows)


# ---- figures


@figure(
    "beyond-1-grid",
    title="Loss, collapse and calibration over clean rate and kept mass",
    paper="no paper has this figure.",
    alt="Six heat maps over clean rate and kept mass: test loss, NC1 on training and on held-out "
    "images, NC2, NC3, and ECE, with a plus at the least value of each clean rate.",
)
def draw_grid(table: "pd.DataFrame") -> Drawing:
    """Test loss and the collapse metrics over (a, p), each a's least marked.

    Args: table, from `metric_table`.
    """
    from matplotlib.colors import LogNorm

    drawing, panels = make_panels(1 + len(METRICS), 2, height=3, sharex=True, sharey=True)
    columns = {"test_loss": "test loss"} | METRICS
    rough = rough_cells(table)
    for panel, (column, title) in zip(panels, columns.items(), strict=True):
        grid = mean_grid(table, column)
        if column == "test_loss":
            limits, unit, extend = {"vmin": 0, "vmax": loss_ceiling(table)}, "nats", "max"
        elif column.endswith("NC1"):  # spans decades
            limits, unit, extend = {"norm": LogNorm()}, "NC1", "neither"
        else:
            limits, unit, extend = {}, column.split()[-1], "neither"
        image = draw_heat(panel, grid, rough, cmap=style.LOSS_MAP, **limits)
        minima = find_minima(table, column)
        rows = cell_position(grid.index.to_numpy(), minima.argmin)
        mark = {"color": style.PAPER, "mec": style.INK, "ms": 9, "mew": 1}
        panel.plot(np.arange(len(minima)), rows, "P", **mark)
        panel.set_title(title)
        drawing.colorbar(image, ax=panel, label=unit, extend=extend)
    for panel in panels:
        panel.set_ylabel(KEPT)
        panel.label_outer()
    drawing.suptitle(label_landscape(table))
    caption = (
        f"{describe_places(table)} Compare where the pluses lie: each marks the p of the least "
        "value at one a. Dark is low, and low is more collapsed or better calibrated. NC1 on a "
        "logarithmic scale. Hatched: labels not memorised."
    )
    return Drawing(drawing, caption, table)


def describe_places(table: "pd.DataFrame") -> str:
    """On which side of the p of least test loss that of least NC1 mostly lies, and at how many
    clean rates, in a sentence.
    """
    loss, collapse = (find_minima(table, name).argmin for name in ("test_loss", "train NC1"))
    counts = {"smaller": (collapse < loss).sum(), "larger": (collapse > loss).sum()}
    word = max(counts, key=lambda name: counts[name])
    return (
        f"At {counts[word]} of {len(loss)} clean rates the p of the least NC1 on training images "
        f"is {word} than that of the least test loss."
    )


def explore_collapse(course: "pd.DataFrame") -> Explorer:
    """The grid over epochs and seeds. Args: course, from `measure_course`."""
    title = "Loss, collapse and calibration over clean rate and kept mass"
    return explore_cells(course, "beyond-1-explorer", title, first="train_nc1")


@figure(
    "beyond-1-minima",
    title="Best kept mass for the loss, for collapse and for calibration",
    paper="no paper has this figure.",
    alt="Two panels, best kept mass against clean rate, one line each for loss, NC1 and, on "
    "held-out images, ECE, with intervals over seeds.",
)
def draw_best_kept(table: "pd.DataFrame") -> Drawing:
    """The p at which loss, NC1 and ECE are least, against a; a panel for each kind of images.

    Args: table, from `metric_table`.
    """
    drawing, panels = make_panels(2, 2, height=3.4, sharey=True)
    lines = (
        {"test_loss": "loss", "test NC1": "NC1", "ECE": "ECE"},
        {"clean_train_loss": "loss", "train NC1": "NC1"},
    )
    for panel, title, columns in zip(panels, PROTOCOLS.values(), lines, strict=True):
        panel.plot([0, 1], [0, 1], color=style.SOFT, lw=1, ls=":", label="p = a")
        for number, (column, name) in enumerate(columns.items()):
            look = style.series(number)
            minima, shift = find_minima(table, column), 0.006 * (number - 1)  # side by side
            draw_minima(panel, minima, shift=shift, label=f"least {name}", **look)
        panel.set(xlabel=CLEAN_RATE, title=title, ylim=(0, 1.04))
        panel.set_xlim(table.a.min() - 0.05, 1.03)
    panels[0].set_ylabel(KEPT)
    drawing.suptitle(label_landscape(table))
    draw_legend(drawing, panels[:1], columns=4)
    best = {name: find_minima(table, name).argmin for name in ("test_loss", "test NC1", "ECE")}
    apart = {name: (p - best["test_loss"]).abs().max() for name, p in best.items()}
    caption = (
        "On held-out images the p of the least NC1 lies up to "
        f"{apart['test NC1']:.2f} from that of the least loss, that of the least ECE up to "
        f"{apart['ECE']:.2f}. "
        f"{describe_best_kept(table)}"
    )
    return Drawing(drawing, caption, table)


def describe_best_kept(table: "pd.DataFrame") -> str:
    """The p of least loss, NC1 and ECE by clean rate, in a sentence."""
    names = {
        "test_loss": "test loss",
        "train NC1": "NC1 on training images",
        "test NC1": "NC1 on held-out images",
        "ECE": "ECE",
    }
    phrases = []
    for column, name in names.items():
        places = ", ".join(f"{p:.2f}" for p in find_minima(table, column).argmin)
        phrases.append(f"{name} {places}")
    rates = ", ".join(f"{a:g}" for a in sorted(set(table.a)))
    return f"The p at which each is least, for a = {rates}: {'; '.join(phrases)}."


# ---- claims

# How far the two best p may lie apart.
B_TOLERANCE = 0.1
CHANGED = (
    "The place of a minimum is fitted by slopes over log p/(1−p) and no longer by a parabola in p, "
    "and a difference is never finer than the grid where a minimum is a bare grid point. Labels "
    "count as memorised relative to what there is to learn."
)


@decides(
    Claim(
        "B1",
        paper=OURS,
        place="no paper: Chen's noise with Guo's metrics",
        sentence="The kept mass of the lowest test loss is the one at which the features of the "
        "clean classes collapse best.",
        expected=f"p of least NC1 within {B_TOLERANCE} of the p of least loss, for a in "
        f"[{C1_RANGE[0]}, {C1_RANGE[1]}]",
        changed=CHANGED,
    )
)
def decide_b1(claim: Claim, table: "pd.DataFrame", metric: str, column: str) -> Verdict:
    """B1: p of least NC1 minus p of least loss, each of the mean curve over seeds.

    Args: table, from `metric_table`; metric and column, NC1 and the loss of the same images.
    """
    return _same_optimum(claim, table, metric, column)


@decides(
    Claim(
        "B2",
        paper=OURS,
        place="no paper: Chen's noise with Guo's metrics",
        sentence="The kept mass of the lowest test loss is also the best calibrated one.",
        expected=f"p of least ECE within {B_TOLERANCE} of the p of least loss, for a in "
        f"[{C1_RANGE[0]}, {C1_RANGE[1]}]",
        changed=CHANGED,
    )
)
def decide_b2(claim: Claim, table: "pd.DataFrame") -> Verdict:
    """B2: p of least ECE minus p of least loss on held-out images, each of the mean curve over
    seeds.

    Args: table, from `metric_table`.
    """
    return _same_optimum(claim, table, "ECE", "test_loss")


def _same_optimum(claim: Claim, table: "pd.DataFrame", metric: str, column: str) -> Verdict:
    """Whether a metric and a loss are least at the same p, at each clean rate of `C1_RANGE`."""
    claimed = table[table.a.between(*C1_RANGE)]
    quantity = f"p of least {metric.split()[-1]} − p of least loss"
    limits = {"at_least": -B_TOLERANCE, "at_most": B_TOLERANCE}
    cases = difference_cases(claimed, (metric, column), quantity, **limits)
    return Verdict(
        claim,
        place(table, PROTOCOLS[column]),
        cases,
        **settings_of(table, decider=FINER),
    )


def _at_places(curves: "pd.DataFrame", places: np.ndarray) -> np.ndarray:
    """Each seed's curve over p, a row of `curves`, at a place of its own, float64 (seeds,)."""
    kept, rows = curves.columns.to_numpy(dtype=float), curves.to_numpy()
    return np.array([np.interp(p, kept, row) for p, row in zip(places, rows, strict=True)])


CALIBRATED = 0.05  # how close mean confidence and accuracy must be


@decides(
    Claim(
        "B3",
        paper=OURS,
        place="no paper: why the test loss is lowest where it is",
        sentence="At the kept mass of the lowest test loss the mean confidence on held-out images "
        "equals the accuracy.",
        expected=f"mean confidence − accuracy within {CALIBRATED} of 0 at that p, for a in "
        f"[{C1_RANGE[0]}, {C1_RANGE[1]}]; derived: the loss is lowest where outputs are right as "
        "often as they claim",
        changed="It was added after the first results; then the interval became wider by what the "
        "grid of p leaves open of the place of the minimum.",
    )
)
def decide_b3(claim: Claim, table: "pd.DataFrame") -> Verdict:
    """B3: mean confidence minus accuracy on held-out images at each seed's p of lowest test loss.

    Args: table, from `metric_table`.
    """
    cases = []
    for a, part in with_seeds(table[table.a.between(*C1_RANGE)]).groupby("a"):
        losses = part.pivot(index="seed", columns="p", values="test_loss")
        gaps = part.assign(gap=part.confidence - part.test_accuracy)
        gaps = gaps.pivot(index="seed", columns="p", values="gap")
        best, below, above = seed_argmins(losses)
        values, *ends = (_at_places(gaps, places) for places in (best, best - below, best + above))
        lowest, highest = np.min([values, *ends], axis=0), np.max([values, *ends], axis=0)
        unresolved = values - lowest, highest - values
        limits = {"at_least": -CALIBRATED, "at_most": CALIBRATED, "form": "+.3f"}
        settings = {"premises": case_premises(part, "test_loss"), "unresolved": unresolved}
        name, quantity = rate_name(a), "confidence − accuracy"
        cases.append(seed_case(name, quantity, values, **settings, **limits))
    return Verdict(
        claim,
        place(table, PROTOCOLS["test_loss"]),
        cases,
        **settings_of(table, decider=FINER),
    )


def verdicts(table: "pd.DataFrame") -> Verdicts:
    """B1 on both kinds of images, B2 and B3 on held-out ones. Args: table, from `metric_table`."""
    memorised = decide_b1(table, "train NC1", "clean_train_loss")
    held_out = decide_b1(table, "test NC1", "test_loss"), decide_b2(table), decide_b3(table)
    return Verdicts([memorised, *held_out])
