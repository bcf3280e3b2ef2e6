"""Chen, Ziyin et al. 2020, sections 4.1 and 6.2: noise that is not symmetric, forward correction,
logit smoothing.

C11 to C15; the paper has no figures of this. Expected: smoothing by the posterior S* has the lowest
loss of memorised images, Chen eq. 18 cannot fail, the second step of Chen eq. 19 does, and logit
smoothing gains nothing.

T_ij = P(clean class j becomes i), S* is the posterior of the clean class given the noisy one, a the
clean rate, p the kept mass, z logits, f = softmax(z). Losses are in nats.
"""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lsnc_core import claims
from lsnc_core.claims import OURS, Case, Claim, Premise, Verdict, decides
from lsnc_core.papers.chen import PAPER
from lsnc_core.papers.chen.drawing import (
    label_apart,
    label_landscape,
    slice_panels,
    slice_title,
)
from lsnc_core.papers.chen.grid import PROTOCOLS, place, rate_name
from lsnc_core.papers.chen.noise_drawing import (
    GENERAL_WAYS,
    WAY_NAMES,
    describe_best_ways,
    describe_gaps,
    describe_losses,
    describe_lowest_way,
    describe_outputs,
    draw_objectives,
    draw_ways,
    name_way,
)
from lsnc_core.papers.chen.noise_drawing import draw_noise_matrices as draw_noise_matrices
from lsnc_core.papers.chen.noise_networks import COMPARED, matrix_of, plan_noise, way_of
from lsnc_core.papers.chen.noise_tables import (
    CORRECTED,
    SMOOTHED,
    gap_table,
    losses_by_way,
    network_table,
    objective_table,
    rates_of,
    way_premises,
    ways_by_noise,
)
from lsnc_core.papers.chen.premises import scale_of, settings_of
from lsnc_core.papers.chen.shared_claims import C12
from lsnc_core.papers.page import Page
from lsnc_core.papers.stored import run_names
from lsnc_core.show import Drawing, Verdicts, figure, style
from lsnc_core.show.panels import draw_band, draw_legend, make_panels
from lsnc_core.theory import label_noise

if TYPE_CHECKING:
    import pandas as pd

    from lsnc_core.runs.spec import RunSpec

PAGE = Page(
    title="Beyond uniform noise",
    section="4.1, 6.2",
    shows="general noise and smoothing, forward correction, logit smoothing",
    minutes={"quick": 0.5},
)
TRAINED = "Trained networks, symmetric noise"


# ---- runs


def plan_runs(
    profile: str, data_set: str = "", noise: Sequence[str] = tuple(COMPARED)
) -> "list[RunSpec]":
    """The networks of every noise and way; args and raises as `plan_noise`."""
    return plan_noise(profile, data_set, noise)


# ---- tables


class Tables(NamedTuple):
    """What the figures and claims are made from.

    Attributes:
        history: the table of `lsnc_core.runs.results` with a column way.
        networks: from `network_table`.
        objectives: from `objective_table`.
        gaps: from `gap_table`.
    """

    history: "pd.DataFrame"
    networks: "pd.DataFrame"
    objectives: "pd.DataFrame"
    gaps: "pd.DataFrame"


def load(
    profile: str,
    device: str = "auto",
    data_set: str = "",
    noise: Sequence[str] = tuple(COMPARED),
) -> Tables:
    """All tables; networks that the store lacks are trained."""
    from lsnc_core import runs

    specs = plan_runs(profile, data_set, noise)
    history, tensors = runs.results(specs, device), runs.tensors(specs, device)
    ways = {name: way_of(spec) for spec, name in run_names(specs).items()}
    history["way"] = history.run.map(ways)
    networks, objectives = network_table(history, tensors), objective_table(tensors)
    return Tables(history, networks, objectives, gap_table(history))


# ---- figures


@figure(
    "chen-general-noise",
    title="Smoothing under noise that is not symmetric",
    paper="no such figure; equation 10 without an experiment.",
    alt="Loss on clean labels by kind of noise and way of training, on held-out and on training "
    "images, with dashes where the theory has it.",
)
def draw_general_noise(networks: "pd.DataFrame") -> Drawing:
    """Loss on clean labels by noise and way, a column of panels for each clean rate; dashes where
    the theory has it.

    Args: networks, from `network_table`.
    """
    import matplotlib.pyplot as plt

    rates = sorted(set(networks.a))
    size = {"figsize": (style.WIDTH, 6), "sharex": "col", "sharey": "row"}
    drawing, panels = plt.subplots(2, len(rates), squeeze=False, layout="constrained", **size)
    for row, (column, images) in zip(panels, PROTOCOLS.items(), strict=True):
        for panel, a in zip(row, rates, strict=True):
            part = networks[networks.a == a]
            draw_ways(panel, part, column, list(part.noise.unique()))
            panel.set_title(f"{images.replace(', clean labels', '')}, a = {a:g}")
        row[0].set_ylabel("loss on clean labels (nats)")
    for panel in panels[1]:
        panel.set_xlabel("noise")
    theory = ({"ls": "", "marker": "_", "ms": 12, "mew": 1.6}, "theory, labels memorised")
    drawing.suptitle(label_landscape(networks))
    draw_legend(drawing, [panels[0][0]], columns=3, extra=[theory])
    drawn = networks[networks.way.isin(GENERAL_WAYS)]
    caption = (
        f"{describe_best_ways(drawn)} Under each noise the lowest mark is the best way to train, "
        "and a dash is where theory puts it; under symmetric noise S* is the mean field, and not "
        "every way was trained under every noise. Means of logarithms over seeds with 95 % "
        "t-intervals. "
        f"{describe_losses(drawn)}"
    )
    return Drawing(drawing, caption, networks)


@figure(
    "chen-corrections",
    title="Label smoothing, forward correction and logit smoothing at equal noise",
    paper="no such figure; inequalities 18 and 19 without an experiment.",
    alt="Test loss and accuracy against epoch for four ways of training under symmetric noise, and "
    "the three objectives evaluated on each trained network.",
)
def draw_corrections(
    history: "pd.DataFrame", networks: "pd.DataFrame", objectives: "pd.DataFrame"
) -> Drawing:
    """Top: test loss and accuracy while training under symmetric noise; below: the objectives of
    Chen eq. 18 and 19 at the end.

    Args: as in `Tables`.
    """
    a = objectives.a.max()
    drawing, panels = make_panels(3, 2, height=2.8)
    part = history[(history.noise == "symmetric") & (history.a == a)]
    for way in COMPARED["symmetric"]:
        key = style.method_key(way)
        look = {"color": style.METHODS[key], "marker": style.MARKS[key]}
        for panel, column in zip(panels, ("test_loss", "test_accuracy"), strict=False):
            curves = part[part.way == way].pivot(index="seed", columns="epoch", values=column)
            draw_band(panel, curves, **look, label=WAY_NAMES[way])
    title = f"symmetric noise, a = {a:g}"
    panels[0].set(
        xscale="log", xlabel="epoch", ylabel="test loss of softmax(z) (nats)", title=title
    )
    panels[1].set(xscale="log", xlabel="epoch", ylabel="test accuracy (share)", title=title)
    drawing.suptitle(label_landscape(networks[networks.noise == "symmetric"]))
    draw_objectives(panels[2], objectives[objectives.a == a])
    panels[2].set_title(f"objectives of eqs 18 and 19, a = {a:g}")
    draw_legend(drawing, panels[:1], columns=3, seeds=[part.seed.nunique()])
    caption = (
        f"{describe_lowest_way(part)} Top: test loss and accuracy while training; below: an "
        "objective has the colour of the way that minimises it. Means over seeds with 95 % "
        f"t-intervals. {describe_outputs(networks)}"
    )
    return Drawing(drawing, caption, objectives)


@figure(
    "chen-jensen-gap",
    title="The gap of equation 18 while networks train",
    paper="no such figure; equation 18 says that the gap is never below zero.",
    alt="Gap between the objectives of forward correction and of label smoothing against epoch, a "
    "line with a band for each of three ways of training, a panel for each clean rate.",
)
def draw_jensen_gap(gaps: "pd.DataFrame") -> Drawing:
    """The gap of Chen eq. 18 against epoch by way, a panel for each clean rate: means over seeds
    with 95 % t-bands.

    Args: gaps, from `gap_table`.
    """
    rates, epochs = sorted(set(gaps.a)), sorted(set(gaps.epoch))
    drawing, panels = slice_panels(len(rates))
    for panel, a in zip(panels, rates, strict=True):
        for way, label in SMOOTHED.items():
            part = gaps[(gaps.a == a) & (gaps.way == way)]
            curves = part.pivot(index="seed", columns="epoch", values="gap")
            key = style.method_key(way)
            look = {"color": style.METHODS[key], "marker": style.MARKS[key], "label": label}
            draw_band(panel, curves, **look)
        panel.axhline(0, color=style.SOFT, lw=0.8)
        panel.set(xscale="log", xlabel="epoch", title=slice_title(gaps, a))
        panel.set_xticks(epochs, label_apart(epochs))
        # the gap spans four decades and its bound is 0, which a logarithmic axis cannot show; only
        # bands reach below
        panel.set_yscale("symlog", linthresh=1e-3)
        panel.margins(y=0.1)  # the last marks would touch the frame
        panel.set_ylim(bottom=-3e-4)
        panel.minorticks_off()
    panels[0].set_ylabel("Jensen gap (nats)")
    draw_legend(drawing, panels[:1], columns=3, seeds=[gaps.seed.nunique()])
    caption = (
        "The gap never falls below 0, as equation 18 says. Symmetric noise, means over seeds with "
        f"95 % t-bands; the axis is linear below 0.001. {describe_gaps(gaps)}"
    )
    return Drawing(drawing, caption, gaps)


# ---- claims

C11_TOLERANCE, C11_EXACT, C11_RATE = 0.1, 1e-12, 0.8
C11 = Claim(
    "C11",
    paper=PAPER.name,
    place="section 4.1, on forward-matrix correction",
    sentence="Alpha-optimal smoothing has the same loss as forward correction whose output f is "
    "corrected to T f.",
    expected=f"ratio of the losses on clean labels within {C11_TOLERANCE:.0%} of 1; equal by "
    "construction on memorised images, symmetric noise",
    changed="The ratio is now compared on the log scale. It is left open on held-out images below "
    "10,000 training images.",
)


@decides(C11)
def decide_c11_formula(claim: Claim, networks: "pd.DataFrame") -> Verdict:
    """C11 on the formulas, under the noises of `network_table`: loss of T f minus that of S*."""
    excess = {}
    for noise in networks.noise.unique():
        T = matrix_of(noise, C11_RATE, networks.data.iloc[0])
        best = label_noise.optimal_smoothing_alpha(T)
        excess[noise] = label_noise.alpha_loss(T, T) - label_noise.alpha_loss(best, T)
    settings = {"at_least": -C11_EXACT, "at_most": C11_EXACT, "unit": "nats", "form": ".2g"}
    remark = f"labels memorised, a = {C11_RATE}"
    symmetric = excess.pop("symmetric")
    case = Case.exact("symmetric", "loss of T f − loss of S*", symmetric, remark=remark, **settings)
    remark = "the paper says so of any T; tried here on symmetric noise (errata)"
    if excess:
        others = ", ".join(f"{value:.2g} ({Path(noise).name})" for noise, value in excess.items())
        remark += f"; {others}: T f differs from the posterior unless T is symmetric"
    return Verdict(claim, "The formulas", [case], remark)


@decides(C11)
def decide_c11(claim: Claim, networks: "pd.DataFrame", column: str) -> Verdict:
    """C11 on trained networks: ratio of T f's loss to that of label smoothing, paired by seed.

    Args: networks, from `network_table`; column, one of `PROTOCOLS`.
    """
    cases = []
    for a in rates_of(networks, "symmetric"):
        smoothed = losses_by_way(networks, "symmetric", a, column)["mean field"]
        forward = losses_by_way(networks, "symmetric", a, CORRECTED[column])["forward"]
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = np.log(forward / smoothed)
        premises = way_premises(networks, "symmetric", a, ("mean field", "forward"))
        limits = {"at_least": 1 - C11_TOLERANCE, "at_most": 1 + C11_TOLERANCE}
        settings = {"log": True, "form": ".3f", "premises": premises, **limits}
        # one ratio per seed; on the log scale a ratio and its inverse count alike
        cases.append(
            claims.seed_case(rate_name(a), "loss of T f / loss of smoothing", ratios, **settings)
        )
    tried_on = place(networks, PROTOCOLS[column])
    remark = "ratios of T f's loss to label smoothing's"
    return Verdict(claim, tried_on, cases, remark, **settings_of(networks, column))


@decides(C12)
def decide_c12(claim: Claim, objectives: "pd.DataFrame") -> Verdict:
    """C12 on trained networks, counted over all noisy training labels; from `objective_table`."""
    gaps = (objectives.forward - objectives.smoothing).groupby(objectives.way, sort=False).mean()
    by_way = ", ".join(f"{gap:.3f} ({name_way(way)})" for way, gap in gaps.items())
    case = Case.exact(
        "all networks",
        "violations",
        int(objectives.above_forward.sum()),
        at_most=0,
        form="d",
        unit=f"in {objectives.images.sum():,} labels of {len(objectives)} networks",
    )
    remark = f"mean gap by how they were trained, nats: {by_way}"
    inequality = "it is Jensen's inequality, which no network can violate"
    return Verdict(claim, TRAINED, [case], remark, by_construction=inequality)


@decides(
    Claim(
        "C13",
        paper=OURS,
        place="Chen's equation 10, corrected",
        sentence="Under any noise T, smoothing by the posterior S* has a lower test loss than the "
        "same kept mass spread evenly and than no smoothing; Chen et al. print S* = T, which is "
        "the posterior only where T is symmetric.",
        expected="test loss with S* below that with the same kept mass spread evenly over the "
        "other classes, and below that without smoothing",
        changed="It counts as this companion's claim and no longer as the paper's. On held-out "
        "images it is now left open below 10,000 training images.",
    )
)
def decide_c13(claim: Claim, networks: "pd.DataFrame", column: str) -> Verdict:
    """C13: loss with the posterior minus that with mean field and minus that without smoothing,
    paired by seed.

    Args: networks, from `network_table`; column, one of `PROTOCOLS`.
    """
    cases = []
    general = [noise for noise, ways in ways_by_noise(networks).items() if "posterior" in ways]
    for noise in general:
        others = {"mean field": "mean field", "none": "no smoothing"}
        for other, a in itertools.product(others, rates_of(networks, noise)):
            losses = losses_by_way(networks, noise, a, column)
            name = f"{Path(noise).name} noise: posterior against {others[other]} at {rate_name(a)}"
            premises = way_premises(networks, noise, a, ("posterior", other))
            settings = {"at_most": 0.0, "unit": "nats", "form": "+.3f", "premises": premises}
            # one paired difference per seed: same initial weights, label noise and batch order
            differences = losses["posterior"] - losses[other]
            cases.append(claims.seed_case(name, "difference of losses", differences, **settings))
    tried_on = place(networks, PROTOCOLS[column])
    if not cases:
        # under symmetric noise the posterior is the mean field
        others = Premise("number of noises tried that are not symmetric", 0, at_least=1)
        return Verdict(claim, tried_on, premises=[others], scale=scale_of(networks))
    return Verdict(claim, tried_on, cases, **settings_of(networks, column))


@decides(
    Claim(
        "C14",
        paper=PAPER.name,
        place="section 6.2, equation 19",
        sentence="The log-likelihood of forward correction is never above that of logit smoothing.",
        expected="no violation; derived: false, summed over rows it is violated by 95 % of random "
        "logits",
    )
)
def decide_c14(claim: Claim, objectives: "pd.DataFrame") -> Verdict:
    """C14 on trained networks, counted over all noisy training labels; from `objective_table`."""
    counts = objectives.groupby("way", sort=False)[["above_logit", "images"]].sum()
    shares = counts.above_logit / counts.images
    by_way = ", ".join(f"{share:.1%} ({name_way(way)})" for way, share in shares.items())
    case = Case.exact(
        "all networks",
        "violations",
        int(counts.above_logit.sum()),
        at_most=0,
        form=",d",
        unit=f"in {counts.images.sum():,} labels of {len(objectives)} networks",
    )
    return Verdict(claim, TRAINED, [case], f"by how they were trained: {by_way} of the labels")


C15_SHARE = 0.5


@decides(
    Claim(
        "C15",
        paper=OURS,
        place="a question that Chen et al. leave open, section 6.2",
        sentence="Does smoothing the logits work against label noise as smoothing the labels does? "
        "Decided as the statement that it does.",
        expected="test loss below that without smoothing, at least half as far as label "
        "smoothing's; derived: S h is a temperature and a shift, which a network undoes by larger "
        "logits",
        changed="It is now decided by a difference of gains. It counts as this companion's claim "
        "and no longer as the paper's.",
    )
)
def decide_c15(claim: Claim, networks: "pd.DataFrame") -> Verdict:
    """C15: gain of logit smoothing over no smoothing, by the better of its two outputs, minus half
    the gain of label smoothing; paired by seed. From `network_table`.
    """
    cases = []
    for a in rates_of(networks, "symmetric"):
        losses = losses_by_way(networks, "symmetric", a, "test_loss")
        corrected = losses_by_way(networks, "symmetric", a, "corrected_test")
        logit = losses["none"] - np.minimum(losses["logit"], corrected["logit"])
        smoothed = losses["none"] - losses["mean field"]
        premises = way_premises(networks, "symmetric", a, ("none", "mean field", "logit"))
        remark = ""
        if np.isfinite(logit + smoothed).all():
            remark = f"gains {logit.mean():+.3f} of logits, {smoothed.mean():+.3f} of labels"
            _, least, _ = claims.t_interval(smoothed)
            # half of no gain is reached by doing nothing
            gain = Premise("lower end of the gain of label smoothing", least, at_least=0.0)
            premises += (replace(gain, unit="nats", where=rate_name(a)),)
        settings = {"at_least": 0.0, "unit": "nats", "form": "+.3f", "remark": remark}
        excess = logit - C15_SHARE * smoothed
        case = claims.seed_case(
            rate_name(a),
            "gain of logits − half the gain of labels",
            excess,
            premises=premises,
            **settings,
        )
        cases.append(case)
    remark = f"gain in test loss minus {C15_SHARE} of label smoothing's, nats; of logit "
    remark += "smoothing's two outputs, softmax(z) and softmax(S z), the better one counts"
    tried_on = place(networks, PROTOCOLS["test_loss"])
    return Verdict(claim, tried_on, cases, remark, **settings_of(networks))


def verdicts(tables: Tables) -> Verdicts:
    """C11 to C15."""
    networks, objectives = tables.networks, tables.objectives
    c11 = [decide_c11_formula(networks), *(decide_c11(networks, column) for column in PROTOCOLS)]
    c13 = [decide_c13(networks, column) for column in PROTOCOLS]
    c12, c14, c15 = decide_c12(objectives), decide_c14(objectives), decide_c15(networks)
    return Verdicts([*c11, c12, *c13, c14, c15])
