"""Guo et al. 2025, section 3.3 (most likely): smoothing, temperature, calibration and collapse.

Figures F3 (against the strength), F4 (reliability diagrams), F5 (over training). Claims G6
(temperature), G7 (calibration error before and after scaling), G8 (calibration and collapse).
Temperatures are fitted in two ways, and every table says in which: on validation images, and on the
test images as in the released code. Expect a difference between the two, and on an easy image set
little for smoothing to mend.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lsnc_core import claims
from lsnc_core.claims import Claim, Verdict, decides
from lsnc_core.papers import stored
from lsnc_core.papers.guo import PAPER, SMOOTHED, templates
from lsnc_core.papers.guo.calibration import (
    FITS,
    HELD_OUT,
    check_learned,
    correlate_with_collapse,
    describe_best_strengths,
    describe_scaled,
    describe_wrong,
    measure_ends,
    measure_epochs,
    measure_reliability,
)
from lsnc_core.papers.guo.drawing import (
    NORMS,
    STRENGTH,
    count_seeds,
    draw_bins,
    draw_curve,
    draw_seed_means,
    make_rows,
    styled_losses,
    titled_groups,
)
from lsnc_core.papers.guo.measured import (
    ERROR_REACHED,
    fetch_history,
    groups,
    image_set,
    last_epochs,
    main_pair,
    paired,
    place,
    ratio_case,
)
from lsnc_core.papers.guo.networks import plan_calibration
from lsnc_core.papers.guo.premises import check_fitted, check_hard, check_overconfident
from lsnc_core.papers.guo.scale import CALIBRATION_DECAY, describe_scale
from lsnc_core.papers.guo.templates import explore_templates as explore_templates
from lsnc_core.papers.page import Page
from lsnc_core.runs.spec import RunSpec
from lsnc_core.show import Drawing, Verdicts, figure, style
from lsnc_core.show.panels import draw_legend, make_panels

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
    """What the notebook shows, from the functions that `load` calls."""

    ends: "pd.DataFrame"
    epochs: "pd.DataFrame"
    bins: "pd.DataFrame"
    planes: templates.Planes | None


def load(profile: str, device: str = "auto", data_set: str = "") -> Tables:
    """Calibration of all networks at the end and over training; reliability diagrams and planes of
    the section's own networks.
    """
    from lsnc_core import runs

    specs = plan_runs(profile, data_set)
    history = fetch_history(specs, device, parts=("train",))
    tensors = runs.tensors(specs, device)
    epochs = measure_epochs(history, tensors)
    names, sections = stored.run_names(tensors), []
    for table in (epochs, history):  # of the networks whose logits are kept, and of all
        shown = set(select_section(table).run)
        sections.append({spec: tensors[spec] for spec in tensors if names[spec] in shown})
    bins, planes = measure_reliability(sections[0]), templates.project_networks(sections[1])
    return Tables(measure_ends(history, tensors), epochs, bins, planes)


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
        name = f"{image_set(group)}, weight decay {group.weight_decay.iloc[0]:g}"
        phrases.append(f"{name}: {', '.join(cells)}")
    return f"Temperatures from {HELD_OUT}, means over seeds; {'; '.join(phrases)}."


def describe_predictions(epochs: "pd.DataFrame") -> str:
    """Where right and wrong predictions end, means over seeds, as a sentence of numbers."""
    phrases = []
    for name, part in last_epochs(epochs).groupby("arm", sort=False):
        means = part[["loss_correct", "loss_wrong", "nc1_correct", "nc1_wrong"]].mean()
        phrases.append(
            f"{name}: loss {means.loss_correct:.3f} where right, {means.loss_wrong:.2f} nats where "
            f"wrong; NC1 {means.nc1_correct:.3f} and {means.nc1_wrong:.3f}"
        )
    return f"At the end, means over seeds; {'; '.join(phrases)}."


# ---- figures


@figure(
    "guo-f3",
    number="F3",
    title="Guo, calibration against the strength (F3)",
    paper="ECE before and after temperature scaling against the strength, and beside it norms and "
    "optimal temperature, on CIFAR-10 and CIFAR-100; the norms fall with the strength, and the "
    "temperature falls through 1 (our reading of the released script).",
    alt="Four panels against the smoothing strength: expected calibration error before and after "
    "temperature scaling, after it alone and enlarged, norms, optimal temperature.",
)
def draw_f3(ends: "pd.DataFrame") -> Drawing:
    """F3: ECE before and after scaling, ECE after it alone, norms and optimal temperature, each
    against the strength.
    """
    parts = titled_groups(ends[ends.loss == "ce"])
    drawn, sets = make_rows([title for title, _ in parts], 4)
    before, after = style.series(0), (style.series(1), style.series(2))
    for (both, scaled, norms, temperature), (_, part) in zip(sets, parts, strict=True):
        fits = [part[part.fit == how] for how in FITS]
        draw_seed_means(both, fits[0], "ece", label="before scaling", **before)
        for how, rows, look in zip(FITS, fits, after, strict=True):
            label = f"T* from {how}"
            for panel in (both, scaled):
                draw_seed_means(panel, rows, "ece_scaled", label=label, **look)
            draw_seed_means(temperature, rows, "T", label=label, **look)
        for number, (column, name) in enumerate(NORMS.items()):
            look = style.series(3 + number)
            draw_seed_means(norms, fits[0], column, label=name, **look)
        temperature.axhline(1, color=style.SOFT, lw=0.8)
        both.set(ylabel="ECE on test images, 20 bins", title="before and after scaling")
        scaled.set(ylabel="ECE on test images, 20 bins", title="after scaling, enlarged")
        norms.set(ylabel="mean norm over classes")
        temperature.set(ylabel="optimal temperature T*")
        for panel in (both, scaled, norms, temperature):
            panel.set(xlabel=STRENGTH, ylim=(0, None))
        norms.legend()
    draw_legend(drawn, [sets[0][0], sets[0][3]], columns=3)
    caption = (
        f"{describe_best_strengths(ends)} The enlarged panel shows what temperature scaling "
        "leaves. Error bars are 95 % intervals over seeds. "
        f"{describe_temperatures(ends)}"
    )
    return Drawing(drawn, caption, ends)


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
    (below); two cases beside each other.
    """
    from matplotlib import pyplot

    cases = list(dict.fromkeys(zip(bins.arm, bins.scaled, strict=True)))
    rows = -(-len(cases) // 2)
    drawn, panels = pyplot.subplots(
        2 * rows,
        2,
        figsize=(style.WIDTH, 3.6 * rows + 0.4),
        layout="constrained",
        sharex=True,
        sharey="row",
        height_ratios=(2.4, 1) * rows,
        squeeze=False,
    )
    for number, (name, scaled) in enumerate(cases):
        above, below = panels[2 * (number // 2) : 2 * (number // 2) + 2, number % 2]
        part = bins[(bins.arm == name) & (bins.scaled == scaled)]
        draw_bins(above, below, part, style.method(name))
        how = "scaled" if scaled else "as trained"
        above.set_title(f"{name}, {how}: ECE {part.ece.iloc[0]:.4f}")
    for panel in panels[:, 0]:
        panel.set_ylabel("accuracy in the bin")
    for panel in panels[1::2, 0]:
        panel.set_ylabel("% of test images")
    for panel in panels[-1]:
        panel.set_xlabel("confidence")
    draw_legend(drawn, [panels[0][0]], columns=2)
    caption = (
        f"{describe_scaled(bins)} The hatched gap between accuracy and mean confidence is what it "
        "can close. Above: bars for each bin of confidence; below: where the images are."
    )
    return Drawing(drawn, caption, bins)


# Panels of F5: title, axis, and the columns with what their dash means.
_PANELS = (
    ("Loss", "nats", {"loss_correct": "right", "loss_wrong": "wrong", "loss_all": "all"}),
    ("Entropy", "nats", {"entropy_correct": "right", "entropy_wrong": "wrong"}),
    ("NC1, test", "NC1", {"nc1_correct": "right", "nc1_wrong": "wrong", "nc1_all": "all"}),
    ("NC1, training", "NC1", {"nc1": "all"}),
    ("Error", "error rate", {"train_error": "training", "test_error": "test"}),
    ("ECE", "ECE", {"ece": "as trained", "ece_scaled": "scaled"}),
)
_DASHES = {"right": "-", "wrong": "--", "all": ":", "training": "-", "test": "--"}
_DASHES |= {"as trained": "-", "scaled": "--"}
_DASH_NAMES = {"-": "solid", "--": "dashed", ":": "dotted"}


@figure(
    "guo-f5",
    number="F5",
    title="Guo, right and wrong predictions over training (F5)",
    paper="over training on CIFAR-10, with and without smoothing: loss and entropy of right and "
    "wrong predictions, NC1 of each, errors and ECE. What is read from it is not known to us; G8 "
    "is our reading.",
    alt="Six panels against the epoch, cross-entropy and label smoothing in each: loss, entropy "
    "and NC1 of right and of wrong predictions, NC1 of training images, errors, calibration error.",
)
def draw_f5(epochs: "pd.DataFrame") -> Drawing:
    """F5: loss, entropy and NC1 of right and wrong predictions, NC1 of training images, errors and
    ECE against epoch; a colour for each loss.
    """
    table = select_section(epochs)
    main = main_pair(table)
    drawn, panels = make_panels(len(_PANELS), 2, height=2.4)
    for panel, (title, ylabel, curves) in zip(panels, _PANELS, strict=True):
        for name, run, look in styled_losses(main):
            for column, what in curves.items():
                label = name if column == "train_error" else ""
                draw_curve(panel, run, column, ls=_DASHES[what], label=label, **look)
        named = ", ".join(f"{what} {_DASH_NAMES[_DASHES[what]]}" for what in curves.values())
        panel.set(xlabel="epoch", ylabel=ylabel, title=f"{title}: {named}")
        if ylabel == "NC1":
            panel.set_yscale("log")
        else:
            panel.set_ylim(0, None)
    errors = table[["test_error", "ece", "ece_scaled"]].to_numpy()
    for panel in panels[4:]:
        # the first epochs would leave no room for the rest
        panel.set_ylim(0, min(0.25, 1.1 * np.nanmax(errors)) if np.nanmax(errors) < 0.25 else None)
    draw_legend(drawn, [panels[4]], columns=3, seeds=count_seeds(main))
    caption = (
        f"{describe_wrong(main)} Wrong predictions are dashed, right ones solid. "
        f"{describe_predictions(table)}"
    )
    return Drawing(drawn, caption, table)


# ---- claims


@decides(
    Claim(
        "G6",
        paper=PAPER.name,
        place="temperature against the strength (F3); our reading of its panels",
        sentence="The optimal temperature falls with the strength and crosses 1.",
        expected=f"T* above 1 without smoothing, lower at δ = {SMOOTHED}, below 1 at the largest δ",
        changed="The second weight decay of the calibration networks was added after G6 did not "
        "hold under the first; both are shown. It is decided only where cross-entropy errs on "
        "10 % of test images and where the training images are learned; at first it always was. "
        "For a time it was also asked that T* is above 1 without smoothing, which is a part of "
        "the claim itself.",
    )
)
def decide_g6(claim: Claim, ends: "pd.DataFrame", how: str) -> Verdict:
    """G6 for one way of fitting: T* without smoothing, at 0.05 against it, at the largest
    strength.
    """
    part = ends[(ends.fit == how) & (ends.loss == "ce")]
    largest = part.delta.max()
    fitted = {delta: check_fitted(part, (delta,)) for delta in (0.0, SMOOTHED, largest)}
    # temperatures scale logits: t-intervals over seeds on the log scale; T = 0, a limit of the fit,
    # has no logarithm and leaves the case open
    with np.errstate(divide="ignore"):
        first = np.log(part[part.delta == 0]["T"].to_numpy())
        last = np.log(part[part.delta == largest]["T"].to_numpy())
    settings = {"log": True, "form": ".2f"}
    above, below = (
        settings | {"at_least": 1.0, "premises": tuple(fitted[0.0])},
        settings | {"at_most": 1.0, "premises": tuple(fitted[largest])},
    )
    both = (*fitted[0.0], *fitted[SMOOTHED])
    cases = (
        claims.seed_case("δ = 0", "T*", first, **above),
        ratio_case(f"δ = {SMOOTHED:g}", "T* / T*(0):", *paired(part, "T"), premises=both),
        claims.seed_case(f"δ = {largest:g}", "T*", last, **below),
    )
    return Verdict(
        claim,
        fitted_place(part, how),
        cases,
        decider="more seeds",
        premises=[check_hard(part)],
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
        "values are replaced by two linear conditions. It is decided only where cross-entropy is "
        "over-confident and errs on 10 % of test images and where the training images are "
        "learned; at first it always was.",
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
    if np.mean(before) >= 0:
        remark += "; LS gains nothing before scaling that a difference after it could be a part of"
    return Verdict(
        claim,
        fitted_place(part, how),
        cases,
        remark=remark,
        decider="more seeds",
        premises=[check_overconfident(part), check_hard(part), *check_fitted(part)],
        scale=describe_scale(main_pair(part), CALIBRATION_DECAY),
    )


def fitted_place(table: "pd.DataFrame", how: str) -> str:
    """On what a verdict was tried, and how temperatures were fitted."""
    return f"{place(table)}; temperature fitted on {how}"


@decides(
    Claim(
        "G8",
        paper=PAPER.name,
        place="section on calibration (F5); our reading of its panels",
        sentence="While a network trained with cross-entropy collapses further, its calibration "
        "gets worse.",
        expected="rank correlation of ECE with −log NC1 over the epochs after a training error of "
        f"{ERROR_REACHED:.0%}: above 0",
        changed="Decided only where cross-entropy errs on 10 % of test images and its training "
        "images are learned early enough, at first always.",
    )
)
def decide_g8(claim: Claim, epochs: "pd.DataFrame") -> Verdict:
    """G8: ECE, and the loss of wrong predictions, against collapse."""
    cases = []
    for column, name in (("ece", "ECE"), ("loss_wrong", "loss(wrong)")):
        # one correlation per seed; epochs of one run are not independent, seeds are
        values = correlate_with_collapse(epochs, column)
        case = claims.seed_case(
            f"curve {name}",
            "rank correlation with collapse",
            values,
            within=(-1, 1),
            at_least=0.0,
            form=".2f",
        )
        cases.append(case)
    plain = epochs[(epochs.loss == "ce") & (epochs.delta == 0)]
    return Verdict(
        claim,
        place(epochs),
        cases,
        decider="more seeds, or more epochs whose logits are kept",
        premises=[check_hard(epochs), check_learned(epochs)],
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
