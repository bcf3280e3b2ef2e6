"""Guo et al. 2025, training dynamics: does label smoothing collapse networks faster and further?

Figures F1 (error and collapse), F2 (NC1 against NC2), F7 (over strengths), F9 (loss), F11 (first
epochs), F12 (test images). Claims G1 to G4 and G10. Expect G2, G3 and G4 as directions; how much
faster collapse is depends on data and network. NC1, NC2, NC3 are Guo eq. 4 to 6.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lsnc_core import claims
from lsnc_core.claims import Case, Claim, Verdict, decides
from lsnc_core.papers.guo import PAPER, SMOOTHED, deviations
from lsnc_core.papers.guo.convergence import (
    add_loss_gap,
    compare_nc2,
    fit_slopes,
    measure_convergence,
    nc1_range,
    slope_epochs,
)
from lsnc_core.papers.guo.drawing import (
    DASHES,
    NAMES,
    draw_curve,
    label_dynamics,
    make_panels,
    styled_losses,
    titled_groups,
)
from lsnc_core.papers.guo.measured import (
    ERROR_REACHED,
    METRICS,
    describe_ends,
    describe_ranges,
    fetch_history,
    groups,
    has_learned,
    main_pair,
    paired,
    place,
    ratio_case,
    select_losses,
)
from lsnc_core.papers.guo.networks import (
    LOSSES,
    halve_schedules,
    plan_dynamics,
    plan_strengths,
)
from lsnc_core.papers.guo.premises import ONCE_ENDED, check_ended, decide_end
from lsnc_core.papers.guo.problems import PROBLEMS
from lsnc_core.papers.guo.scale import describe_scale
from lsnc_core.papers.page import Page, list_released, tabulate_deviations
from lsnc_core.runs.spec import RunSpec
from lsnc_core.show import Drawing, Entries, Table, Verdicts, figure

if TYPE_CHECKING:
    import pandas as pd

PAGE = Page(
    title="Label smoothing against cross-entropy while training",
    minutes={"quick": 0.3},
)
DECIDER = "more epochs or seeds"

# ---- runs


def plan_runs(profile: str, data_set: str = "", losses: Sequence[str] = LOSSES) -> list[RunSpec]:
    """The networks of the training curves, with the losses asked for, those over strengths, and
    those of `plan_halved`.

    Raises:
        UsageError: for an unknown profile, data set or loss.
    """
    curves = plan_dynamics(profile, losses, data_set)
    curves += plan_strengths(profile, data_set) + plan_halved(profile, data_set)
    return list(dict.fromkeys(curves))


def plan_halved(profile: str, data_set: str = "") -> list[RunSpec]:
    """The networks of the claims with half as long a schedule, see `networks.halve_schedules`."""
    return halve_schedules(plan_dynamics(profile, data_set=data_set))


# ---- tables


class Tables(NamedTuple):
    """What the notebook shows, from `measured.fetch_history`: the networks over training, and the
    ends of those with half as long a schedule.
    """

    history: "pd.DataFrame"
    halved: "pd.DataFrame"


def load(
    profile: str,
    device: str = "auto",
    data_set: str = "",
    losses: Sequence[str] = LOSSES,
) -> Tables:
    """Both tables of this notebook; missing networks are trained first."""
    halved = plan_halved(profile, data_set)
    curves = [spec for spec in plan_runs(profile, data_set, losses) if spec not in halved]
    return Tables(fetch_history(curves, device), fetch_history(halved, device, parts=("train",)))


def show_deviations(profile: str) -> Table:
    """Where the networks of a profile differ from the paper's, see `deviations`."""
    return tabulate_deviations(deviations.list_deviations(profile))


def list_problems() -> Entries:
    """Where the released material differs from the paper, and what is done here."""
    return list_released(PROBLEMS)


# ---- figures


@figure(
    "guo-f1",
    number="F1",
    title="Guo, training dynamics (F1)",
    paper="error rate, NC1, NC2, NC3 against the epoch for CIFAR-10, CIFAR-100, STL-10 and Tiny "
    "ImageNet, cross-entropy against label smoothing of 0.05. Smoothing is said to converge faster "
    "and to end more collapsed.",
    alt="Four panels against the epoch, one line per loss: error rate on training and test images, "
    "NC1 on a logarithmic axis, NC2 and NC3.",
)
def draw_f1(history: "pd.DataFrame", losses: Sequence[str] = LOSSES) -> Drawing:
    """F1: error (training solid, test dashed), NC1, NC2, NC3 against the epoch, a row per image
    set, a colour per loss.
    """
    table = select_losses(history, losses)
    parts = titled_groups(table)
    drawn, panels = make_panels(len(parts), 4)
    for row, (title, part) in zip(panels, parts, strict=True):
        for name, run, look in styled_losses(part):
            for panel, column in zip(row, NAMES, strict=True):
                draw_curve(panel, run, column, label=name, **look)
            draw_curve(row[0], run, "test_error", ls="--", **look)
        label_dynamics(row, title)
        row[0].set_ylabel("error rate, training solid, test dashed")
    panels[0][1].legend(frameon=False, fontsize="small")
    return Drawing(drawn, describe_ends(table), table)


@figure(
    "guo-f11",
    number="F11",
    title="Guo, the first epochs (F11)",
    paper="training and test error with an inset of the first 30 epochs: with smoothing they drop "
    "faster.",
    alt="Error rate against the epoch with and without smoothing, training and test, with an inset "
    "of the first fifth of the epochs.",
)
def draw_f11(history: "pd.DataFrame") -> Drawing:
    """F11: error against epoch, training solid, test dashed, with an inset of the first fifth of
    the epochs.
    """
    table = main_pair(history)
    parts = titled_groups(table)
    drawn, panels = make_panels(1, len(parts), (6.2 * len(parts), 4))
    for panel, (title, part) in zip(panels[0], parts, strict=True):
        inset = panel.inset_axes((0.38, 0.42, 0.58, 0.52))
        for name, run, look in styled_losses(part):
            for axes in (panel, inset):
                draw_curve(axes, run, "train_error", label=name, **look)
                draw_curve(axes, run, "test_error", ls="--", **look)
        inset.set_xlim(1, max(part.epochs.iloc[0] / 5, 4))
        # epoch 1 would set the scale of the inset
        later = part[part.epoch > 1].groupby(["arm", "epoch"]).test_error.mean()
        inset.set_ylim(0, 1.02 * later.max())
        panel.set(xlabel="epoch", ylabel="error rate, training solid, test dashed", title=title)
        panel.set_ylim(0, None)
        panel.legend(frameon=False, fontsize="small", loc="lower right", bbox_to_anchor=(1, 0.1))
    return Drawing(drawn, "the inset shows the first fifth of the epochs.", table)


@figure(
    "guo-f12",
    number="F12",
    title="Guo, collapse of test images (F12)",
    paper="NC1, NC2 and NC3 of training and of test images on CIFAR-10.",
    alt="NC1, NC2 and NC3 against the epoch with and without smoothing, solid for training images "
    "and dashed for test images.",
)
def draw_f12(history: "pd.DataFrame") -> Drawing:
    """F12: NC1, NC2, NC3 of training (solid) and test images (dashed) against epoch."""
    table = main_pair(history)
    parts = titled_groups(table)
    drawn, panels = make_panels(len(parts), 3)
    for row, (title, part) in zip(panels, parts, strict=True):
        for panel, metric in zip(row, METRICS, strict=True):
            for name, run, look in styled_losses(part):
                draw_curve(panel, run, metric, label=name, **look)
                draw_curve(panel, run, f"test_{metric}", ls="--", **look)
            panel.set(xlabel="epoch", ylabel=f"{NAMES[metric]}, training solid, test dashed")
        row[0].set(yscale="log", title=title)
        for panel in row[1:]:
            panel.set_ylim(0, None)
    panels[0][0].legend(frameon=False, fontsize="small")
    caption = "equations 4 to 6, for test images with the class means of the test images."
    return Drawing(drawn, caption, table)


@figure(
    "guo-f7",
    number="F7",
    title="Guo, dynamics over strengths (F7)",
    paper="training error, NC1, NC2, NC3 against the epoch for strengths from 0 to 0.9 on CIFAR-10 "
    "and CIFAR-100.",
    alt="Four panels against the epoch, one line per smoothing strength from dark to light: "
    "training error, NC1, NC2, NC3.",
)
def draw_f7(history: "pd.DataFrame") -> Drawing:
    """F7: training error, NC1, NC2, NC3 against epoch, a colour from dark to light and a dash per
    smoothing strength.
    """
    from matplotlib import pyplot

    table = history[history.loss == "ce"]
    parts = titled_groups(table)
    drawn, panels = make_panels(len(parts), 4)
    for row, (title, part) in zip(panels, parts, strict=True):
        deltas = sorted(set(part.delta))
        for number, delta in enumerate(deltas):
            shade = 0.92 * number / max(1, len(deltas) - 1)
            look = {"color": pyplot.get_cmap("viridis")(shade), "lw": 1.4}
            look |= {"ls": DASHES[number % len(DASHES)], "label": rf"$\delta$ = {delta:g}"}
            for panel, column in zip(row, NAMES, strict=True):
                draw_curve(panel, part[part.delta == delta], column, **look)
        label_dynamics(row, title)
        row[0].set_ylabel("training error rate")
    panels[0][1].legend(frameon=False, fontsize="x-small", ncols=2)
    return Drawing(drawn, describe_ends(table.sort_values("delta")), table)


@figure(
    "guo-f2",
    number="F2",
    title="Guo, NC1 against NC2 (F2)",
    paper="NC1 against NC2, a point per logged epoch, coloured by test error: at equal NC1 the "
    "smoothed networks lie at smaller NC2. Ranges of axes and colours in the released script: "
    "CIFAR-10 test error 0.10 to 0.15, NC2 0 to 0.4, NC1 5e-5 to 1; CIFAR-100 0.36 to 0.40, NC2 "
    "0.25 to 1.08; STL-10 0.39 to 0.45, NC2 0 to 1, NC1 0.01 to 100; Tiny ImageNet 0.40 to 0.45, "
    "NC2 0.5 to 1.25, NC1 0.025 to 5 (NC1 divided by K as in equation 4; the script's is not).",
    alt="NC1 on a logarithmic axis against NC2, crosses for cross-entropy and triangles for label "
    "smoothing, coloured by test error.",
)
def draw_f2(history: "pd.DataFrame") -> Drawing:
    """F2: NC1 against NC2, a point per run and measured epoch, coloured by test error; CE crosses,
    LS triangles.
    """
    table = main_pair(history)
    parts = titled_groups(table)
    drawn, panels = make_panels(1, len(parts), (5.6 * len(parts), 4.2))
    for panel, (title, part) in zip(panels[0], parts, strict=True):
        # the first epochs' errors would leave no colours for the rest
        colours = {"cmap": "viridis", "vmin": part.test_error.min()}
        colours["vmax"] = part.test_error.quantile(0.8)
        for (_, run), marker in zip(part.groupby("delta"), ("+", "^"), strict=True):
            look = {"marker": marker, "s": 34, "label": run.arm.iloc[0]}
            points = panel.scatter(run.nc2, run.nc1, c=run.test_error, **look, **colours)
        panel.set(xlabel="NC2", ylabel="NC1", yscale="log", title=title)
        legend = panel.legend(frameon=False, fontsize="small")
        for handle in legend.legend_handles:
            handle.set_array(None)
            handle.set(facecolor="black", edgecolor="black")
        drawn.colorbar(points, ax=panel, label="test error", extend="max")
    caption = (
        f"a point per network and measured epoch; {describe_ranges(table)}. "
        "Colours end at the 80th percentile of the test error."
    )
    return Drawing(drawn, caption, table)


@figure(
    "guo-f9",
    number="F9",
    title="Guo, convergence of the loss (F9)",
    paper="training loss and the logarithm of its distance to the lowest: steeper with smoothing.",
    alt="Training loss against the epoch, and on a logarithmic axis its distance to the lowest "
    "value, with and without smoothing.",
)
def draw_f9(history: "pd.DataFrame") -> Drawing:
    """F9: training loss, and its distance to the run's lowest plus c on a log axis, against epoch;
    grey where G10's slope is taken.
    """
    table = add_loss_gap(main_pair(history))
    parts = titled_groups(table)
    drawn, panels = make_panels(len(parts), 2, (9, 3.5 * len(parts) + 0.3))
    for row, (title, part) in zip(panels, parts, strict=True):
        for name, run, look in styled_losses(part):
            draw_curve(row[0], run, "train_loss", label=name, **look)
            draw_curve(row[1], run, "gap", label=name, **look)
        row[1].axvspan(*slope_epochs(part), color="grey", alpha=0.15, lw=0)
        row[0].set(xlabel="epoch", ylabel="training loss (nats)", title=title)
        distance = f"loss − lowest loss + {part.c.iloc[0]:g} (nats)"
        row[1].set(xlabel="epoch", ylabel=distance, yscale="log")
        row[0].legend(frameon=False, fontsize="small")
    caption = (
        "each loss against its own lowest measured value; the loss of smoothed labels does not go "
        "below their entropy."
    )
    return Drawing(drawn, caption, table)


# ---- claims

NC_REACHED = 2.0  # times a network's own last value: what counts as converged


@decides(
    Claim(
        "G1",
        paper=PAPER.name,
        place="abstract; plots of the training dynamics (F1)",
        sentence="With label smoothing training error and collapse (NC1, NC2, NC3) converge "
        "faster.",
        expected=f"epochs to a training error of {ERROR_REACHED:.0%}, and of NC1, NC2 and NC3 to "
        f"{NC_REACHED:g} times a network's own last value: at most those of CE",
        changed="At first only NC1 was timed, to twice CE's last value, which a network that ends "
        "more collapsed (G2) passes early. These times are details now; each network is timed to "
        "its own end, in NC1, NC2 and NC3, once training has ended. More epochs are measured after "
        "each step of the rate.",
    )
)
def decide_g1(claim: Claim, history: "pd.DataFrame", halved: "pd.DataFrame") -> Verdict:
    """G1: epochs to learn and to collapse, ratio LS/CE."""
    convergence = measure_convergence(history, NC_REACHED)
    cases = [_time_case(convergence, "to_error", "epochs to error")]
    for metric in METRICS:
        # the level is a part of the end, so it means nothing before there is one
        premises = tuple(check_ended(history, halved, metric))
        name = f"epochs to {metric.upper()}"
        cases.append(_time_case(convergence, f"{metric}_own", name, premises=premises))
        name = f"epochs to CE's {metric.upper()}"
        cases.append(_time_case(convergence, f"{metric}_ce", name, deciding=False))
    details = "; ".join(f"{case.name} {case.text}" for case in cases if not case.deciding)
    remark = f"to {NC_REACHED:g} times CE's last value, which repeats G2 and G3: {details}"
    scale = describe_scale(main_pair(history))
    return Verdict(claim, place(history), cases, remark=remark, decider=DECIDER, scale=scale)


def _time_case(convergence: "pd.DataFrame", column: str, name: str, **settings: Any) -> Case:
    """A ratio of epochs, with their means."""
    plain, smooth = paired(convergence, column)
    means = f"CE {np.mean(plain):.1f}, LS {np.mean(smooth):.1f} epochs"
    return ratio_case(name, "LS/CE", plain, smooth, remark=means, **settings)


@decides(
    Claim(
        "G2",
        paper=PAPER.name,
        place="abstract; F1",
        sentence="With label smoothing NC1 is stronger at the end of training.",
        expected="last NC1 below that of CE",
        changed=ONCE_ENDED,
    )
)
def decide_g2(claim: Claim, history: "pd.DataFrame", halved: "pd.DataFrame") -> Verdict:
    """G2: NC1 at the end, ratio LS/CE."""
    return decide_end(claim, history, halved, "nc1")


@decides(
    Claim(
        "G3",
        paper=PAPER.name,
        place="abstract; F1",
        sentence="With label smoothing NC2 is stronger at the end of training.",
        expected="last NC2 below that of CE",
        changed=ONCE_ENDED,
    )
)
def decide_g3(claim: Claim, history: "pd.DataFrame", halved: "pd.DataFrame") -> Verdict:
    """G3: NC2 at the end, ratio LS/CE."""
    return decide_end(claim, history, halved, "nc2")


@decides(
    Claim(
        "G4",
        paper=PAPER.name,
        place="abstract; NC1 against NC2 (F2)",
        sentence="At the same level of NC1, label smoothing has the smaller NC2 (collapse of class "
        "means and classifier to a simplex).",
        expected="NC2(LS) − NC2(CE), mean over log NC1 where both networks have been and within "
        "the axes of F2 (CIFAR-10: NC1 from 5e-5 to 1), below 0",
        changed="Decided within the range of NC1 that the paper's axes have, at first wherever "
        "both networks have been.",
    )
)
def decide_g4(claim: Claim, history: "pd.DataFrame") -> Verdict:
    """G4: NC2 at equal NC1, over all measured epochs and over those after learning."""
    learned = history[history.groupby("run").train_error.transform(has_learned)]
    within, cases = nc1_range(history.data.iloc[0]), []
    for name, part in (("epochs all", history), ("epochs after-learning", learned)):
        runs = dict(list(main_pair(part).groupby(["delta", "seed"])))
        seeds = [seed for delta, seed in runs if delta == 0 and (SMOOTHED, seed) in runs]
        differences = [compare_nc2(runs[0.0, s], runs[SMOOTHED, s], within) for s in seeds]
        # one paired difference per seed: a t-interval of their mean
        case = claims.seed_case(name, "NC2(LS) − NC2(CE)", differences, at_most=0.0, form="+.3f")
        cases.append(case)
    scale = describe_scale(main_pair(history))
    return Verdict(claim, place(history), cases, decider=DECIDER, scale=scale)


@decides(
    Claim(
        "G10",
        paper=PAPER.name,
        place="plots of log(loss − lowest loss) (F9)",
        sentence="The training loss approaches its lowest value faster with label smoothing.",
        expected="slope of log(loss − lowest loss + c) over epochs, while the first rate lasts: "
        "below that of CE",
    )
)
def decide_g10(claim: Claim, history: "pd.DataFrame") -> Verdict:
    """G10: difference of the slopes of log(loss − lowest loss + c)."""
    plain, smooth = paired(fit_slopes(history), "slope")
    # slopes are rates on a log scale already: their paired difference, not their ratio
    settings = {"at_most": 0.0, "unit": "per epoch", "form": "+.4f"}
    case = claims.seed_case("slope", "slope LS − slope CE", smooth - plain, **settings)
    first, end = slope_epochs(history)
    means = f"slopes CE {np.mean(plain):+.4f}, LS {np.mean(smooth):+.4f}"
    remark = f"{means} over epochs {first:.0f} to {end:.0f}"
    scale = describe_scale(main_pair(history))
    return Verdict(claim, place(history), (case,), remark=remark, decider=DECIDER, scale=scale)


def verdicts(tables: Tables) -> Verdicts:
    """G1 to G4 and G10 for each image set and weight decay."""
    answers = []
    for part in groups(tables.history):
        answers += [decide(part, tables.halved) for decide in (decide_g1, decide_g2, decide_g3)]
        answers += [decide_g4(part), decide_g10(part)]
    return Verdicts(answers)
