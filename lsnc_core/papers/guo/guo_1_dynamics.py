"""Guo et al. 2025, training dynamics: does label smoothing collapse networks faster and further?

Figures F1 (error and collapse), F2 (NC2 at equal NC1), F7 (over strengths), F9 (loss), F11 (first
epochs), F12 (test images). Claims G1 to G4, G10 and G19. Expect G2, G3 and G4 as directions; how
much faster collapse is depends on data and network. NC1, NC2, NC3 are Guo eq. 4 to 6.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lsnc_core import claims
from lsnc_core.claims import Claim, Verdict, decides
from lsnc_core.papers.guo import PAPER, deviations
from lsnc_core.papers.guo.convergence import (
    add_loss_gap,
    check_approach,
    describe_approach,
    describe_learning,
    fit_slopes,
    measure_convergence,
    slope_epochs,
    time_case,
)
from lsnc_core.papers.guo.drawing import (
    IMAGES,
    NAMES,
    count_seeds,
    draw_curve,
    keep_plotted,
    label_dynamics,
    make_rows,
    styled_losses,
    titled_groups,
)
from lsnc_core.papers.guo.equal_nc1 import decide_g4, draw_equal_nc1
from lsnc_core.papers.guo.explore_strength import Explored, explore, measure_strengths
from lsnc_core.papers.guo.measured import (
    ERROR_REACHED,
    METRICS,
    describe_ends,
    describe_lowest,
    describe_test_collapse,
    fetch_history,
    groups,
    main_pair,
    paired,
    place,
    select_losses,
)
from lsnc_core.papers.guo.networks import (
    LOSSES,
    halve_schedules,
    plan_dynamics,
    plan_strengths,
)
from lsnc_core.papers.guo.premises import (
    ONCE_ENDED,
    check_hard,
    check_reached,
    check_timed,
    decide_end,
)
from lsnc_core.papers.guo.problems import PROBLEMS
from lsnc_core.papers.guo.scale import describe_scale
from lsnc_core.papers.page import Page, list_released, tabulate_deviations
from lsnc_core.runs.spec import RunSpec
from lsnc_core.show import Drawing, Entries, Explorer, Table, Verdicts, figure, style
from lsnc_core.show.panels import draw_legend

if TYPE_CHECKING:
    import pandas as pd

PAGE = Page(
    title="Label smoothing against cross-entropy while training",
    minutes={"quick": 0.3},
)
DECIDER = "more seeds"

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
    ends of those with half as long a schedule; and what its explorer shows.
    """

    history: "pd.DataFrame"
    halved: "pd.DataFrame"
    explored: "Explored"


def load(
    profile: str, device: str = "auto", data_set: str = "", losses: Sequence[str] = LOSSES
) -> Tables:
    """The tables of this notebook; missing networks are trained first."""
    halved = plan_halved(profile, data_set)
    curves = [spec for spec in plan_runs(profile, data_set, losses) if spec not in halved]
    history, ends = fetch_history(curves, device), fetch_history(halved, device, parts=("train",))
    return Tables(history, ends, measure_strengths(history, curves, device))


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
    "ImageNet, cross-entropy against label smoothing of 0.05, which converges faster and ends more "
    "collapsed.",
    alt="Four panels against the epoch, one line per loss: error rate on training and test images, "
    "NC1 on a logarithmic axis, NC2 and NC3.",
)
def draw_f1(history: "pd.DataFrame", losses: Sequence[str] = LOSSES) -> Drawing:
    """F1: error (training solid, test dashed), NC1, NC2, NC3 against the epoch, four panels for
    each image set, a colour for each loss.
    """
    table = select_losses(history, losses)
    parts = titled_groups(table)
    drawn, sets = make_rows([title for title, _ in parts], 4)
    for row, (_, part) in zip(sets, parts, strict=True):
        for name, run, look in styled_losses(part):
            for panel, column in zip(row, NAMES, strict=True):
                draw_curve(panel, run, column, label=name, **look)
            draw_curve(row[0], run, "test_error", ls="--", **look)
        label_dynamics(row)
    draw_legend(drawn, sets[0], columns=4, seeds=count_seeds(table), extra=IMAGES)
    caption = f"{describe_lowest(table)} {describe_ends(table)}"
    return Drawing(drawn, caption, keep_plotted(table, *NAMES, "test_error"))


@figure(
    "guo-f2",
    number="F2",
    title="Guo, NC2 at equal NC1, networks (F2)",
    paper="NC1 against NC2, a point per logged epoch, coloured by test error: at equal NC1 the "
    "smoothed networks lie at smaller NC2. Ranges of axes and colours in the released script: "
    "CIFAR-10 test error 0.10 to 0.15, NC2 0 to 0.4, NC1 5e-5 to 1; CIFAR-100 0.36 to 0.40, NC2 "
    "0.25 to 1.08; STL-10 0.39 to 0.45, NC2 0 to 1, NC1 0.01 to 100; Tiny ImageNet 0.40 to 0.45, "
    "NC2 0.5 to 1.25, NC1 0.025 to 5 (NC1 divided by K as in equation 4; the script's is not).",
    alt="Left: NC2 against falling NC1 with and without smoothing, a faint point per network and "
    "measured epoch, lines at matched levels of NC1. Right: the difference of NC2 at each of these "
    "levels with its interval, and a line at zero.",
)
def draw_f2(history: "pd.DataFrame") -> Drawing:
    """F2: NC2 at equal NC1. Left: NC2 against NC1, a point per run and measured epoch, means at
    matched levels of NC1. Right: NC2(LS) - NC2(CE) at these levels.
    """
    return draw_equal_nc1(main_pair(history))


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
    """F7: training error, NC1, NC2, NC3 against epoch, a colour and a dash for each smoothing
    strength.
    """
    table = history[history.loss == "ce"].sort_values("delta", kind="stable")
    parts = titled_groups(table)
    drawn, sets = make_rows([title for title, _ in parts], 4)
    for row, (_, part) in zip(sets, parts, strict=True):
        for number, delta in enumerate(sorted(set(part.delta))):
            look = {"color": style.strength(delta), "ls": style.DASHES[number % 6]}
            look |= {"lw": 1.4, "label": rf"$\delta$ = {delta:g}"}
            for panel, column in zip(row, NAMES, strict=True):
                draw_curve(panel, part[part.delta == delta], column, **look)
        label_dynamics(row, "training error rate")
    draw_legend(drawn, sets[0], columns=4, seeds=count_seeds(table))
    caption = (
        f"{describe_lowest(table)} The darker the orange the stronger the smoothing; blue is "
        f"cross-entropy. {describe_ends(table)}"
    )
    return Drawing(drawn, caption, keep_plotted(table, *NAMES))


def explore_strengths(explored: Explored) -> list[Explorer]:
    """Every strength over training, beside cross-entropy; one for each image set."""
    return explore(explored, "guo-1-explorer", across="epoch")


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
    lines where G10's slope begins and ends.
    """
    table = add_loss_gap(main_pair(history))
    parts = titled_groups(table)
    drawn, sets = make_rows([title for title, _ in parts], 2, height=2.8)
    for (left, right), (_, part) in zip(sets, parts, strict=True):
        for name, run, look in styled_losses(part):
            draw_curve(left, run, "train_loss", label=name, **look)
            draw_curve(right, run, "gap", label=name, **look)
        # lines, since grey is the interval's in the legend
        for number, edge in enumerate(slope_epochs(part)):
            label = "_" if number else "first and last epoch of the slope (G10)"
            right.axvline(edge, color=style.INK, lw=0.9, ls="--", label=label)
        left.set(xlabel="epoch", ylabel="training loss (nats)")
        distance = f"loss − lowest loss + {part.c.iloc[0]:g} (nats)"
        right.set(xlabel="epoch", ylabel=distance, yscale="log")
    draw_legend(drawn, sets[0], columns=2, seeds=count_seeds(table))
    caption = (
        f"{describe_approach(table)} Each loss is measured against its own lowest value; the loss "
        "of smoothed labels does not go below their entropy. What the axis adds is the constant c "
        "of the released plotting script, without which the lowest loss had no logarithm."
    )
    return Drawing(drawn, caption, keep_plotted(table, "train_loss", "gap", "c"))


@figure(
    "guo-f11",
    number="F11",
    title="Guo, the first epochs (F11)",
    paper="training and test error with an inset of the first 30 epochs: with smoothing they drop "
    "faster.",
    alt="Error rate against the epoch with and without smoothing, training and test: all epochs, "
    "and the first fifth of them.",
)
def draw_f11(history: "pd.DataFrame") -> Drawing:
    """F11: error against epoch, training solid, test dashed: all epochs, and the first fifth."""
    table = main_pair(history)
    parts = titled_groups(table)
    drawn, sets = make_rows([title for title, _ in parts], 2, height=2.8)
    for (whole, start), (_, part) in zip(sets, parts, strict=True):
        for name, run, look in styled_losses(part):
            for panel in (whole, start):
                draw_curve(panel, run, "train_error", label=name, **look)
                draw_curve(panel, run, "test_error", ls="--", **look)
        whole.set(xlabel="epoch", ylabel="error rate", title="all epochs", ylim=(0, None))
        start.set(xlabel="epoch", title="the first fifth")
        start.set_xlim(1, max(part.epochs.iloc[0] / 5, 4))
        # epoch 1 would set the scale of the first fifth
        later = part[part.epoch > 1].groupby(["arm", "epoch"]).test_error.mean()
        start.set_ylim(0, 1.02 * later.max())
    draw_legend(drawn, sets[0], columns=3, seeds=count_seeds(table), extra=IMAGES)
    errors = keep_plotted(table, "train_error", "test_error")
    return Drawing(drawn, describe_learning(table), errors)


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
    drawn, sets = make_rows([title for title, _ in parts], 3, columns=3, height=2.6)
    for row, (_, part) in zip(sets, parts, strict=True):
        for panel, metric in zip(row, METRICS, strict=True):
            for name, run, look in styled_losses(part):
                draw_curve(panel, run, metric, label=name, **look)
                draw_curve(panel, run, f"test_{metric}", ls="--", **look)
            panel.set(xlabel="epoch", ylabel=NAMES[metric])
        row[0].set(yscale="log")
        for panel in row[1:]:
            panel.set_ylim(0, None)
    draw_legend(drawn, sets[0], columns=3, seeds=count_seeds(table), extra=IMAGES)
    caption = (
        f"{describe_test_collapse(table)} The gap between dashed and solid lines is how much less "
        "test images collapse. For test images the class means are theirs too (Guo eq. 4 to 6)."
    )
    on_test = [f"test_{metric}" for metric in METRICS]
    return Drawing(drawn, caption, keep_plotted(table, *METRICS, *on_test))


# ---- claims

NC_REACHED = 2.0  # times a network's own last value: what counts as converged
LEAST_FALL = NC_REACHED**2  # of a metric that is timed: one that falls less is there at once


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
        "each step of the learning rate, and an interval is wider by the epochs between two "
        f"measurements. A metric is timed only where it falls to 1/{LEAST_FALL:g} or less.",
    )
)
def decide_g1(claim: Claim, history: "pd.DataFrame", halved: "pd.DataFrame") -> Verdict:
    """G1: epochs to learn and to collapse, ratio LS/CE."""
    convergence = measure_convergence(history, NC_REACHED)
    reached = (check_reached(history),)
    name = f"training error to {ERROR_REACHED:.0%}"
    cases = [time_case(convergence, "to_error", name, premises=reached)]
    for metric in METRICS:
        # the level is a part of the end, so it means nothing before there is one
        premises = check_timed(history, halved, metric, LEAST_FALL)
        name = f"{metric.upper()} to {NC_REACHED:g} times its own last value"
        cases.append(time_case(convergence, f"{metric}_own", name, premises=premises))
        name = f"{metric.upper()} to {NC_REACHED:g} times CE's last value"
        cases.append(time_case(convergence, f"{metric}_ce", name, deciding=False))
    details = [f"{case.numbers} {case.name}" for case in cases if not case.deciding]
    remark = f"LS/CE timed to CE's end, which repeats G2 and G3: {'; '.join(details)}"
    scale = describe_scale(main_pair(history))
    decider = "more seeds, or epochs measured more closely"
    return Verdict(claim, place(history), cases, remark=remark, decider=decider, scale=scale)


@decides(
    Claim(
        "G2",
        paper=PAPER.name,
        place="abstract; F1",
        sentence="With label smoothing NC1 is stronger (lower) at the end of training.",
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
        sentence="With label smoothing NC2 is stronger (lower) at the end of training.",
        expected="last NC2 below that of CE",
        changed=ONCE_ENDED,
    )
)
def decide_g3(claim: Claim, history: "pd.DataFrame", halved: "pd.DataFrame") -> Verdict:
    """G3: NC2 at the end, ratio LS/CE."""
    return decide_end(claim, history, halved, "nc2")


@decides(
    Claim(
        "G19",
        paper=PAPER.name,
        place="abstract of arXiv v1 and v2, which speak of performance benefits (v3 of an impact); "
        "test error in F1, F6 and F11",
        sentence="With label smoothing the test error is lower at the end of training.",
        expected="last test error below that of CE",
        changed="The claim was added after the first results, under the rule of G2 and G3 and on "
        "images as hard as the paper's.",
    )
)
def decide_g19(claim: Claim, history: "pd.DataFrame", halved: "pd.DataFrame") -> Verdict:
    """G19: test error at the end, ratio LS/CE."""
    return decide_end(claim, history, halved, "test_error", also=[check_hard(history)])


@decides(
    Claim(
        "G10",
        paper=PAPER.name,
        place="plots of log(loss − lowest loss) (F9)",
        sentence="The training loss approaches its lowest value faster with label smoothing.",
        expected="slope of log(loss − lowest loss + c) over epochs, before the learning rate first "
        "falls: below that of CE",
        changed="At first it was always decided; now only where the distance halves.",
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
    about = {"remark": f"{means} over epochs {first:.0f} to {end:.0f}", "decider": DECIDER}
    about |= {"scale": describe_scale(main_pair(history))}
    about |= {"premises": [check_approach(min(np.mean(plain), np.mean(smooth)), end - first)]}
    return Verdict(claim, place(history), (case,), **about)


def verdicts(tables: Tables) -> Verdicts:
    """G1 to G4, G10 and G19 for each image set and weight decay."""
    answers = []
    for part in groups(tables.history):
        answers += [decide(part, tables.halved) for decide in (decide_g1, decide_g2, decide_g3)]
        answers += [decide_g4(part), decide_g10(part), decide_g19(part, tables.halved)]
    return Verdicts(answers)
