"""Guo et al. 2025, section 3.3 (most likely): smoothing, temperature, calibration and collapse.

Figures F3 (against the strength), F4 (reliability diagrams), F5 (over training). Claims G6
(temperature), G7 (calibration error before and after scaling), G8 (calibration and collapse).
Temperatures are fitted in two ways, and every table says in which: on validation images, and on the
test images as in the released code. Expect a difference between the two, and on an easy image set
little for smoothing to mend.
"""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lsnc_core import claims
from lsnc_core.claims import Claim, Verdict, decides
from lsnc_core.papers import stored
from lsnc_core.papers.guo import PAPER, SMOOTHED
from lsnc_core.papers.guo.calibration import (
    FITS,
    HELD_OUT,
    measure_ends,
    measure_epochs,
    measure_reliability,
)
from lsnc_core.papers.guo.drawing import (
    DASHES,
    NORMS,
    STRENGTH,
    draw_curve,
    draw_legend,
    draw_seed_means,
    make_panels,
    titled_groups,
)
from lsnc_core.papers.guo.measured import (
    ERROR_REACHED,
    fetch_history,
    groups,
    has_learned,
    last_epochs,
    main_pair,
    paired,
    place,
    ratio_case,
)
from lsnc_core.papers.guo.networks import plan_calibration
from lsnc_core.papers.guo.premises import check_hard, check_overconfident
from lsnc_core.papers.guo.scale import CALIBRATION_DECAY, describe_scale
from lsnc_core.papers.page import Page
from lsnc_core.runs.spec import RunSpec
from lsnc_core.show import Drawing, Verdicts, figure
from lsnc_core.show.style import COLOURS

if TYPE_CHECKING:
    import pandas as pd

PAGE = Page(title="Calibration", section="most likely 3.3", minutes={"quick": 0.4})

# ---- runs


def plan_runs(profile: str, data_set: str = "") -> list[RunSpec]:
    """All strengths, under the usual and the section's own weight decay; args and raises as for
    `networks.plan_calibration`.
    """
    return plan_calibration(profile, data_set)


# ---- tables


class Tables(NamedTuple):
    """What the notebook shows: from `measure_ends`, `measure_epochs` and `measure_reliability`."""

    ends: "pd.DataFrame"
    epochs: "pd.DataFrame"
    bins: "pd.DataFrame"


def load(profile: str, device: str = "auto", data_set: str = "") -> Tables:
    """Calibration of all networks at the end and over training; the reliability diagrams are those
    of the section's own networks.
    """
    from lsnc_core import runs

    specs = plan_runs(profile, data_set)
    history = fetch_history(specs, device, parts=("train",))
    tensors = runs.tensors(specs, device)
    epochs = measure_epochs(history, tensors)
    shown = set(select_section(epochs).run)
    names = stored.run_names(tensors)
    chosen = {spec: arrays for spec, arrays in tensors.items() if names[spec] in shown}
    return Tables(measure_ends(history, tensors), epochs, measure_reliability(chosen))


def select_section(epochs: "pd.DataFrame") -> "pd.DataFrame":
    """The rows of F4 and F5: the first image set, under the section's own weight decay, which is
    the smallest.
    """
    first = epochs[epochs.data == epochs.data.iloc[0]]
    return first[first.weight_decay == first.weight_decay.min()]


def describe_temperatures(ends: "pd.DataFrame") -> str:
    """Optimal temperatures and calibration errors, means over seeds, as a sentence of numbers."""
    phrases = []
    strengths = (0.0, SMOOTHED, ends.delta.max())
    for group in groups(ends[(ends.fit == HELD_OUT) & ends.delta.isin(strengths)]):
        cells = []
        for delta, part in group.groupby("delta"):
            means = part[["T", "ece", "ece_scaled"]].mean()
            cells.append(
                f"δ = {delta:g}: T* {means['T']:.2f}, ECE {means.ece:.4f} as trained, "
                f"{means.ece_scaled:.4f} scaled"
            )
        first = group.iloc[0]
        name = f"{Path(first.data).name}, decay {first.weight_decay:g}"
        phrases.append(f"{name}: {', '.join(cells)}")
    return f"temperatures from {HELD_OUT}, means over seeds; {'; '.join(phrases)}."


def describe_predictions(epochs: "pd.DataFrame") -> str:
    """Where right and wrong predictions end, means over seeds, as a sentence of numbers."""
    phrases = []
    for name, part in last_epochs(epochs).groupby("arm", sort=False):
        means = part[["loss_correct", "loss_wrong", "nc1_correct", "nc1_wrong"]].mean()
        phrases.append(
            f"{name}: loss {means.loss_correct:.3f} where right, {means.loss_wrong:.2f} nats where "
            f"wrong; NC1 {means.nc1_correct:.3f} and {means.nc1_wrong:.3f}"
        )
    return f"at the end, means over seeds; {'; '.join(phrases)}."


# ---- figures


@figure(
    "guo-f3",
    number="F3",
    title="Guo, calibration against the strength (F3)",
    paper="ECE before and after temperature scaling against the strength, and beside it norms and "
    "optimal temperature, on CIFAR-10 and CIFAR-100. Norms and temperature fall with the strength.",
    alt="Left: expected calibration error against the smoothing strength, before and after "
    "temperature scaling. Right: norms and optimal temperature against the strength.",
)
def draw_f3(ends: "pd.DataFrame") -> Drawing:
    """F3: ECE before and after scaling (left), norms and optimal temperature (right) against the
    strength.
    """
    parts = titled_groups(ends[ends.loss == "ce"])
    drawn, panels = make_panels(len(parts), 2, (10.5, 3.8 * len(parts) + 0.2))
    for (left, right), (title, part) in zip(panels, parts, strict=True):
        fits = [part[part.fit == how] for how in FITS]
        label = "before scaling"
        draw_seed_means(left, fits[0], "ece", fmt="o-", color=COLOURS[0], label=label)
        temperature = right.twinx()
        for number, (how, rows) in enumerate(zip(FITS, fits, strict=True)):
            look = {"fmt": ("s--", "^:")[number], "color": COLOURS[1 + number]}
            draw_seed_means(left, rows, "ece_scaled", label=f"after: T from {how}", **look)
            draw_seed_means(temperature, rows, "T", label=f"T* from {how} (right)", **look)
        for number, (column, name) in enumerate(NORMS.items()):
            look = {"fmt": ("D-", "v-")[number], "color": ("black", "grey")[number]}
            draw_seed_means(right, fits[0], column, label=f"{name} (left)", **look)
        temperature.axhline(1, color=COLOURS[1], lw=0.8)
        left.set(xlabel=STRENGTH, ylabel="ECE on test images, 20 bins", title=title, ylim=(0, None))
        # room for the legend above the curves
        top, top_T = 1.7 * right.get_ylim()[1], 1.7 * temperature.get_ylim()[1]
        right.set(xlabel=STRENGTH, ylabel="mean norm over classes", ylim=(0, top))
        temperature.set(ylabel="optimal temperature T*", ylim=(0, top_T))
        left.legend(frameon=False, fontsize="small")
        draw_legend(right, temperature, fontsize="x-small", loc="upper right")
    return Drawing(drawn, describe_temperatures(ends), ends)


@figure(
    "guo-f4",
    number="F4",
    title="Guo, reliability diagrams (F4)",
    paper="reliability diagrams of 20 bins with and without smoothing, before and after "
    "temperature scaling, and the share of images in each bin. How they look is not known to us.",
    alt="Reliability diagrams of cross-entropy and label smoothing, as trained and with "
    "temperature scaling, and histograms of confidence.",
)
def draw_f4(bins: "pd.DataFrame") -> Drawing:
    """F4: accuracy of each bin with its gap to the confidence (above), share of the images in it
    (below).
    """
    from matplotlib import pyplot

    cases = list(dict.fromkeys(zip(bins.arm, bins.scaled, strict=True)))
    drawn, panels = pyplot.subplots(
        2,
        len(cases),
        figsize=(3 * len(cases), 4.6),
        layout="constrained",
        sharex=True,
        sharey="row",
        height_ratios=(2.4, 1),
        squeeze=False,
    )
    for (above, below), (name, scaled) in zip(panels.T, cases, strict=True):
        part = bins[(bins.arm == name) & (bins.scaled == scaled)]
        full = part[part.share > 0]
        width = (full.upper - full.lower).to_numpy()
        look = {"color": COLOURS[0], "edgecolor": "white", "label": "accuracy"}
        above.bar(full.lower, full.accuracy, width, align="edge", **look)
        look = {"color": "none", "edgecolor": COLOURS[3], "hatch": "////", "lw": 0.6}
        look |= {"bottom": full.accuracy, "label": "gap to the confidence"}
        above.bar(full.lower, full.confidence - full.accuracy, width, align="edge", **look)
        above.plot([0, 1], [0, 1], color="grey", lw=0.9, ls="--")
        look = {"align": "edge", "color": "grey", "edgecolor": "white"}
        below.bar(part.lower, 100 * part.share, part.upper - part.lower, **look)
        how = "scaled" if scaled else "as trained"
        above.set(title=f"{name}, {how}\nECE {part.ece.iloc[0]:.4f}", xlim=(0, 1), ylim=(0, 1))
        below.set_xlabel("confidence")
    panels[0][0].set_ylabel("accuracy in the bin")
    panels[1][0].set_ylabel("% of test images")
    panels[0][0].legend(frameon=False, fontsize="small", loc="upper left")
    caption = (
        "bars: accuracy in the bin; hatched: the gap to the mean confidence; below: where the "
        "images are."
    )
    return Drawing(drawn, caption, bins)


_LOSSES = {
    "loss_all": "loss, all",
    "loss_correct": "loss, right",
    "loss_wrong": "loss, wrong",
    "entropy_correct": "entropy, right",
    "entropy_wrong": "entropy, wrong",
}
_NC1 = {
    "nc1": "training, by label",
    "nc1_all": "test, by prediction",
    "nc1_correct": "test, right",
    "nc1_wrong": "test, wrong",
}
_ERRORS = {
    "train_error": "training error",
    "test_error": "test error",
    "ece": "ECE as trained",
    "ece_scaled": "ECE scaled",
}
_PANELS = {"loss, entropy (nats)": _LOSSES, "NC1": _NC1, "error rate, ECE": _ERRORS}


@figure(
    "guo-f5",
    number="F5",
    title="Guo, right and wrong predictions over training (F5)",
    paper="over training on CIFAR-10, with and without smoothing: loss and entropy of right and "
    "wrong predictions, NC1 of each, errors and ECE. What is read from it is not known to us; G8 "
    "is our reading.",
    alt="Two rows, cross-entropy and label smoothing, against the epoch: loss and entropy of right "
    "and wrong predictions; NC1 of training images, test images, right and wrong ones; errors and "
    "calibration error.",
)
def draw_f5(epochs: "pd.DataFrame") -> Drawing:
    """F5: loss and entropy of right and wrong predictions, NC1 of each, errors and ECE against
    epoch; a row per loss, scales shared.
    """
    from matplotlib import pyplot

    table = select_section(epochs)
    names = list(dict.fromkeys(main_pair(table).arm))
    size = (12, 3.3 * len(names) + 0.2)
    drawn, panels = pyplot.subplots(
        len(names), 3, figsize=size, layout="constrained", sharey="col", squeeze=False
    )
    for row, name in zip(panels, names, strict=True):
        run = table[table.arm == name]
        for panel, (ylabel, curves) in zip(row, _PANELS.items(), strict=True):
            for number, (column, label) in enumerate(curves.items()):
                look = {"color": COLOURS[number], "ls": DASHES[number], "lw": 1.6}
                draw_curve(panel, run, column, label=label, **look)
            panel.set(xlabel="epoch", ylabel=ylabel, title=name)
        row[0].set_ylim(0, None)
        row[1].set_yscale("log")
        row[2].set_ylim(0, min(0.25, 1.1 * np.nanmax(table[[*_ERRORS]].to_numpy())))
    for panel in panels[-1]:
        look = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.22), "ncols": 2}
        panel.legend(frameon=False, fontsize="small", **look)
    return Drawing(drawn, describe_predictions(table), table)


# ---- claims


@decides(
    Claim(
        "G6",
        paper=PAPER.name,
        place="temperature against the strength (F3)",
        sentence="The optimal temperature falls with the strength and crosses 1.",
        expected=f"T* above 1 without smoothing, lower at δ = {SMOOTHED}, below 1 at the largest δ",
        changed="The second weight decay of the calibration networks was added after G6 did not "
        "hold under the first; both are shown. Decided only where cross-entropy is over-confident "
        "and errs on 10 % of test images, at first always.",
    )
)
def decide_g6(claim: Claim, ends: "pd.DataFrame", how: str) -> Verdict:
    """G6 for one way of fitting: T* without smoothing, at 0.05 against it, at the largest
    strength.
    """
    part = ends[(ends.fit == how) & (ends.loss == "ce")]
    largest = part.delta.max()
    # temperatures scale logits: t-intervals over seeds on the log scale; T = 0, a limit of the fit,
    # has no logarithm and leaves the case open
    with np.errstate(divide="ignore"):
        first = np.log(part[part.delta == 0]["T"].to_numpy())
        last = np.log(part[part.delta == largest]["T"].to_numpy())
    cases = (
        claims.seed_case("δ = 0", "T*", first, log=True, at_least=1.0, form=".2f"),
        ratio_case(f"δ = {SMOOTHED:g}", "T* by T*(0):", *paired(part, "T")),
        claims.seed_case(f"δ = {largest:g}", "T*", last, log=True, at_most=1.0, form=".2f"),
    )
    return Verdict(
        claim,
        fitted_place(part, how),
        cases,
        decider="more seeds",
        premises=[check_overconfident(part), check_hard(part)],
        scale=describe_scale(part, CALIBRATION_DECAY),
    )


AFTER_SCALING = 0.5  # what at most is left of the difference in ECE once temperatures are fitted


@decides(
    Claim(
        "G7",
        paper=PAPER.name,
        place="abstract of arXiv v1 and v2 (v3 speaks of an impact); calibration (F3, F4)",
        sentence="Label smoothing is better calibrated before temperature scaling, and little "
        "different after it.",
        expected="ECE(LS) below ECE(CE) before; after it the difference, whatever its sign, is at "
        f"most {AFTER_SCALING:g} of what LS gained",
        changed="The second part compares with the absolute difference before scaling, first with "
        "the signed one; that part went from “does not hold” to “holds”. Since then its absolute "
        "values are replaced by two linear conditions. Decided only where cross-entropy is "
        "over-confident and errs on 10 % of test images, at first always.",
    )
)
def decide_g7(claim: Claim, ends: "pd.DataFrame", how: str) -> Verdict:
    """G7 for one way of fitting: ECE before scaling, and how much of the difference is left after
    it.
    """
    part = ends[ends.fit == how]
    plain, smooth = paired(part, "ece")
    before, after = smooth - plain, -np.subtract(*paired(part, "ece_scaled"))
    # |after| <= share x |before| where before < 0, in two parts that are linear in the differences:
    # absolute values of mere noise would count against the claim
    gain = f"{AFTER_SCALING:g} × (LS − CE before scaling)"
    cases = []
    for name, quantity, values in (
        ("ECE before scaling", "ECE(LS) − ECE(CE)", before),
        ("ECE after scaling", f"(LS − CE) + {gain}", after + AFTER_SCALING * before),
        ("ECE after scaling", f"(CE − LS) + {gain}", AFTER_SCALING * before - after),
    ):
        # paired over seeds: t-intervals of mean differences
        cases.append(claims.seed_case(name, quantity, values, at_most=0.0, form="+.4f"))
    remark = (
        f"ECE of CE {np.mean(plain):.4f}, of LS {np.mean(smooth):.4f}; "
        f"LS − CE after scaling {np.mean(after):+.4f}"
    )
    return Verdict(
        claim,
        fitted_place(part, how),
        cases,
        remark=remark,
        decider="more seeds",
        premises=[check_overconfident(part), check_hard(part)],
        scale=describe_scale(main_pair(part), CALIBRATION_DECAY),
    )


def fitted_place(table: "pd.DataFrame", how: str) -> str:
    """On what a verdict was tried, and how temperatures were fitted."""
    return f"{place(table)}; temperature fitted on {how}"


MIN_EPOCHS = 4  # of a seed's curve after learning, for a rank correlation


def correlate_with_collapse(epochs: "pd.DataFrame", column: str) -> np.ndarray:
    """Spearman's correlation of a column with -log NC1 over the epochs after learning, of networks
    without smoothing.

    Returns:
        float (seeds,) in [-1, 1]; NaN for a seed with fewer than `MIN_EPOCHS` such epochs, or with
        a column that does not change.
    """
    from scipy import stats

    ranks = []
    for _, run in epochs[(epochs.loss == "ce") & (epochs.delta == 0)].groupby("seed"):
        late = run[has_learned(run.train_error)]
        moves = late[column].nunique() > 1 and late.nc1.nunique() > 1
        rank = np.nan
        if len(late) >= MIN_EPOCHS and moves and np.isfinite(late[column]).all():
            # ranks: the claim is that both rise together, not along which curve
            rank = stats.spearmanr(late[column], -np.log(late.nc1)).statistic
        ranks.append(rank)
    return np.array(ranks)


@decides(
    Claim(
        "G8",
        paper=PAPER.name,
        place="section on calibration (F5); our reading of its panels",
        sentence="While a network trained with cross-entropy collapses further, its calibration "
        "gets worse.",
        expected="rank correlation of ECE with −log NC1 over the epochs after a training error of "
        f"{ERROR_REACHED:.0%}: above 0",
        changed="Decided only where cross-entropy errs on 10 % of test images, at first always.",
    )
)
def decide_g8(claim: Claim, epochs: "pd.DataFrame") -> Verdict:
    """G8: ECE, and the loss of wrong predictions, against collapse."""
    cases = []
    for column, name in (("ece", "ECE"), ("loss_wrong", "loss(wrong)")):
        # one correlation per seed; epochs of one run are not independent, seeds are
        values = correlate_with_collapse(epochs, column)
        case = claims.seed_case(
            f"curve {name}", "rank correlation", values, within=(-1, 1), at_least=0.0, form=".2f"
        )
        cases.append(case)
    plain = epochs[(epochs.loss == "ce") & (epochs.delta == 0)]
    return Verdict(
        claim,
        place(epochs),
        cases,
        decider="more epochs whose logits are kept",
        premises=[check_hard(epochs)],
        scale=describe_scale(plain, CALIBRATION_DECAY),
    )


def verdicts(tables: Tables) -> Verdicts:
    """G6 and G7 for each way of fitting, then G8, for each image set and weight decay."""
    answers = []
    for part in groups(tables.ends):
        for decide in (decide_g6, decide_g7):
            answers += [decide(part, how) for how in FITS]
    answers += [decide_g8(part) for part in groups(tables.epochs)]
    return Verdicts(answers)
