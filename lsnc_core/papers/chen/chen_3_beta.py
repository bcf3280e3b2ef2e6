"""Chen, Ziyin et al. 2020, section 5.2: test labels independently as noisy (assumption beta).

Figure 7; C3 and C4 on networks. The networks are the landscape's: the expectation over test-label
noise is a closed form of two measured losses. Expected: C3 and C4 hold on training images with
labels made noisy anew, once the labels are memorised.

a is the clean rate of training and test labels, p the kept mass of the smoothed label, M the number
of classes. Losses are in nats.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lsnc_core import claims, labels
from lsnc_core.claims import Case, Claim, Premise, Verdict, decides
from lsnc_core.data_sources import source_of
from lsnc_core.notebook import convert
from lsnc_core.papers.chen import PAPER
from lsnc_core.papers.chen.cases import difference_cases, formula_cases
from lsnc_core.papers.chen.drawing import (
    ALPHA,
    BETA,
    CLEAN_RATE,
    DASHES,
    IMAGES,
    KEPT,
    check_rates,
    draw_minima,
    label_landscape,
    largest_distance,
    loss_ceiling,
    slice_panels,
    slice_title,
)
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
)
from lsnc_core.papers.chen.minima import find_minima
from lsnc_core.papers.chen.networks import plan_cifar, plan_landscape, plan_memorised
from lsnc_core.papers.chen.premises import ENOUGH_IMAGES, FINER, settings_of
from lsnc_core.papers.chen.shared_claims import C4
from lsnc_core.papers.page import Page
from lsnc_core.runs.spec import RunSpec
from lsnc_core.show import Drawing, Verdicts, figure, style
from lsnc_core.show.panels import draw_legend, draw_points, make_panels
from lsnc_core.theory import label_noise

if TYPE_CHECKING:
    import pandas as pd

    from lsnc_core.papers.stored import Tensors

PAGE = Page(title="Noisy test labels", section="5.2", minutes={"quick": 0.1})
# The same images with noisy labels: column of the expected loss, and what they are called.
NOISY = {"test_loss": "test_beta", "clean_train_loss": "train_beta"}
NOISY_IMAGES = {
    "test_beta": "held-out images, noisy labels",
    "train_beta": "training images, labels made noisy anew",
}
# The paper's clean rates.
C3_RATES = (0.5, 0.95)


# ---- runs


def plan_runs(profile: str, data_set: str = "") -> list[RunSpec]:
    """All networks of the notebook: its landscapes. Args and raises: as `plan_landscape`."""
    return plan_landscape(profile, data_set) + plan_cifar(profile) + plan_memorised(profile)


# ---- tables


class Tables(NamedTuple):
    """What the notebook shows.

    Attributes:
        noisy: from `beta_table`.
        drawn: from `corrupted_losses`, at the clean rates of Figure 7.
        cifar, cifar_drawn: the same on CIFAR-10; None if the profile does not train it.
        memorised: from `beta_table`, of networks that memorise; None where the landscape's own do.
    """

    noisy: "pd.DataFrame"
    drawn: "pd.DataFrame"
    cifar: "pd.DataFrame | None"
    cifar_drawn: "pd.DataFrame | None"
    memorised: "pd.DataFrame | None"


def load(profile: str, device: str, data_set: str = "", rates: Sequence[float] = ()) -> Tables:
    """The notebook's tables; networks missing in the store are trained.

    Args: rates, clean rates of Figure 7; none for the paper's.
    """
    from lsnc_core import runs

    def load_noisy(specs: list[RunSpec]) -> "pd.DataFrame":
        return beta_table(runs.results(specs, device))

    def load_drawn(specs: list[RunSpec], table: "pd.DataFrame") -> "pd.DataFrame":
        chosen = choose_rates(table, rates)
        return corrupted_losses(runs.tensors([spec for spec in specs if spec.a in chosen], device))

    specs, cifar_specs = plan_landscape(profile, data_set), plan_cifar(profile)
    noisy = load_noisy(specs)
    cifar = load_noisy(cifar_specs) if cifar_specs else None
    drawn = load_drawn(specs, noisy)
    cifar_drawn = load_drawn(cifar_specs, cifar) if cifar is not None else None
    memorised = load_noisy(plan_memorised(profile)) if plan_memorised(profile) else None
    return Tables(noisy, drawn, cifar, cifar_drawn, memorised)


def expected_loss(
    a: float | np.ndarray, loss: float | np.ndarray, uniform_loss: float | np.ndarray, M: int
) -> float | np.ndarray:
    """Expected cross-entropy against labels under symmetric noise.

    Formula: a L + (1-a)/(M-1) (M U - L).

    Args:
        a: clean rate in [0, 1].
        loss: L, against the clean labels, float in nats.
        uniform_loss: U, against the uniform distribution, of the same shape.
        M: classes.

    Returns:
        float of that shape, in nats.

    Source: Chen eq. 14, for any output.

    >>> round(float(expected_loss(0.5, 0.1, 2.0, 10)), 4)  # half of 0.1, half of 19.9/9
    1.1556
    """
    return a * loss + (1 - a) / (M - 1) * (M * uniform_loss - loss)


def beta_table(runs: "pd.DataFrame") -> "pd.DataFrame":
    """The landscape's table with the losses on noisy labels beside those on clean ones.

    Args:
        runs: the table of `lsnc_core.runs.results`.

    Returns:
        pandas.DataFrame as `landscape_table`, with test_beta and train_beta (expected over the test
        labels' noise), predicted_beta (Chen eq. 14) and predicted_beta_as_drawn (Chen eq. 14 at the
        share of clean training labels as drawn), in nats.
    """
    table = landscape_table(runs)
    M = class_count(table)
    last = runs[runs.epoch == runs.epochs].set_index("run").loc[table.run]
    for column, noisy in NOISY.items():
        uniform = last[column.replace("loss", "uniform_loss")].to_numpy()
        table[noisy] = expected_loss(table.a, table[column], uniform, M)
    a, p = table.a.to_numpy(), table.p.to_numpy()
    table["predicted_beta"] = label_noise.loss("beta", a, p, M)
    # probability that a test label agrees with the training label as drawn; alpha's formula with
    # this probability for the clean rate is beta's
    agreement = table.kept * a + (1 - table.kept) * (1 - a) / (M - 1)
    table["predicted_beta_as_drawn"] = label_noise.loss("alpha", agreement.to_numpy(), p, M)
    return table


def choose_rates(table: "pd.DataFrame", rates: Sequence[float] = ()) -> tuple[float, ...]:
    """The clean rates of Figure 7: those given, else the paper's that the table has, else its
    highest below 1.
    """
    trained = set(table.a)
    papers = [a for a in C3_RATES if a in trained]
    return (
        tuple(convert(rates, [], "rates")) or tuple(papers) or (max(trained - {1.0}, default=1.0),)
    )


def corrupted_losses(tensors: "Mapping[RunSpec, Sequence[Tensors]]") -> "pd.DataFrame":
    """The loss on one drawn corruption of the test labels, by a draw of its own for each seed.

    Args:
        tensors: from `lsnc_core.runs.tensors`.

    Returns:
        pandas.DataFrame with a, p, seed and drawn (nats), a row for each network.
    """
    import pandas as pd
    import torch

    from lsnc_core import data

    rows = []
    for spec, epochs in tensors.items():
        _, clean = data.truth(spec.data, spec.train_size, spec.test_size)
        T = labels.symmetric_noise(spec.a, source_of(spec.data).num_classes)
        noisy = labels.corrupt(clean, T, spec.seed, purpose="test label noise")
        logits = torch.from_numpy(np.array(epochs[-1]["test_logits"]))
        loss = torch.nn.functional.cross_entropy(logits.double(), noisy)
        rows.append({"a": spec.a, "p": spec.p, "seed": spec.seed, "drawn": float(loss)})
    return pd.DataFrame(rows, columns=["a", "p", "seed", "drawn"])


# ---- figures


def describe_slices(table: "pd.DataFrame", drawn: "pd.DataFrame") -> str:
    """What Figure 7 shows: how far measured and predicted are apart, and one draw from its
    expectation.

    Args: table, from `beta_table`; drawn, from `corrupted_losses`.
    """
    low, high = FORMULA_RANGE
    inside = table[table.a.isin(set(drawn.a)) & table.p.between(low, high)]
    parts, near = [], {}
    for column, images in NOISY_IMAGES.items():
        means = inside.groupby(["a", "p"])[[column, "predicted_beta"]].mean()
        near[column] = largest_distance(means[column], means.predicted_beta)
        by_rate = (inside[column] - inside.predicted_beta).groupby(inside.a).mean()
        listed = ", ".join(f"{residual:+.2f} at a = {a:g}" for a, residual in by_rate.items())
        parts.append(f"{images}: {listed}")
    both = table.merge(drawn, on=["a", "p", "seed"])
    both = both[both.p < 1]
    return (
        f"Filled marks (training images) lie within {near['train_beta']:.2f} nats of the black "
        f"line, equation 14, open ones (held-out images) within {near['test_beta']:.2f}, for p "
        f"from {low} to {high}. Points: means over seeds with "
        "95 % t-intervals, p = 1 where it fits the axis. Mean of measured minus predicted for p "
        f"from {low} to {high} in nats; {'; '.join(parts)}. A drawn corruption of the test labels "
        f"(crosses) lies {(both.drawn - both.test_beta).abs().mean():.3f} nats from its "
        "expectation on average for p below 1."
    )


def _draw_slices(table: "pd.DataFrame", drawn: "pd.DataFrame", rates: Sequence[float]) -> Drawing:
    """Loss on noisy labels against p at fixed a: the formula, its measured expectation, one drawn
    corruption of the test labels.
    """
    rates = check_rates(table, choose_rates(table, rates))
    M = class_count(table)
    drawing, panels = slice_panels(len(rates))
    p = np.linspace(0.02, 0.999, 400)
    for panel, a in zip(panels, rates, strict=True):
        formula, best = label_noise.loss("beta", a, p, M), label_noise.optimum("beta", a, M)
        panel.plot(p, formula, color=style.INK, label="theory, eq. 14")
        panel.axvline(best, color=style.SOFT, lw=0.8, ls=":", label=r"predicted best $p^*_\beta$")
        part = table[table.a == a]
        for column, images in NOISY_IMAGES.items():
            curves = part.pivot(index="seed", columns="p", values=column)
            look = BETA | {"ls": "", "mfc": style.PAPER if column == "test_beta" else BETA["color"]}
            draw_points(panel, curves, label=f"expected: {images}", **look)
        once = drawn[drawn.a == a].groupby("p").drawn.mean()
        label = "held-out images, one drawn corruption"
        # above the open marks, which it mostly lies in
        panel.plot(once.index, once, "x", color=style.INK, ms=4.5, mew=1, label=label, zorder=5)
        panel.set(xlabel=KEPT, title=slice_title(table, a))
        panel.set(xlim=(0, 1.02), ylim=(0, 2 * loss_ceiling(table)))
    panels[0].set_ylabel("loss on noisy labels (nats)")
    drawing.suptitle(label_landscape(table))
    draw_legend(drawing, panels[:1], columns=2)
    shown = table[table.a.isin(rates)].merge(drawn, how="left", on=["a", "p", "seed"])
    return Drawing(drawing, describe_slices(table, drawn), shown)


FIGURE_7 = {
    "number": "Figure 7",
    "paper": "predicted and measured test loss against p where test labels are corrupted like the "
    "training labels, at a = 0.5 and 0.95, on MNIST and CIFAR-10; in the paper they agree.",
    "alt": "Loss on noisy labels against kept mass at fixed clean rates: equation 14 as a curve "
    "with its best p, measured points for held-out and for training images with error bars, "
    "crosses for one drawn corruption.",
}


@figure("chen-figure-7", title="Chen, Figure 7", **FIGURE_7)
def draw_figure_7(
    table: "pd.DataFrame", drawn: "pd.DataFrame", rates: Sequence[float] = ()
) -> Drawing:
    """Slices of the landscape on noisy labels.

    Args: table, from `beta_table`; drawn, from `corrupted_losses` at the same clean rates; rates,
    a panel each, none for the paper's.
    Raises: UsageError, for a clean rate that the table does not have.
    """
    return _draw_slices(table, drawn, rates)


@figure("chen-figure-7-cifar10", title="Chen, Figure 7, CIFAR-10", **FIGURE_7)
def draw_figure_7_cifar10(
    table: "pd.DataFrame", drawn: "pd.DataFrame", rates: Sequence[float] = ()
) -> Drawing:
    """Slices of CIFAR-10's landscape. Args and raises: as `draw_figure_7`."""
    return _draw_slices(table, drawn, rates)


@figure(
    "chen-beta-minima",
    title="Best kept mass on clean and on noisy labels",
    paper="no such figure; it gives both optima as formulas and shows them without measurement "
    "(Figures 2 and 3).",
    alt="Two panels, best kept mass against clean rate: alpha's diagonal and beta's parabola below "
    "it, with measured points and intervals near each.",
)
def draw_beta_minima(table: "pd.DataFrame") -> Drawing:
    """Where the loss on clean and on noisy labels is lowest, against a, with alpha's and beta's
    best p; a panel for each kind of image.

    Args: table, from `beta_table`.
    """
    M = class_count(table)
    drawing, panels = make_panels(2, 2, height=3.4, sharey=True)
    a = np.linspace(0, 1, 201)
    for panel, (clean, images) in zip(panels, PROTOCOLS.items(), strict=True):
        curves = (("alpha", clean, ALPHA), ("beta", NOISY[clean], BETA))
        for kind, column, look in curves:
            optimum = label_noise.optimum(kind, a, M)
            formula = rf"$p^*_\{kind}$ by its formula"
            panel.plot(a, optimum, DASHES[kind], color=look["color"], lw=1.4, label=formula)
            label = f"lowest loss, {'clean' if kind == 'alpha' else 'noisy'} labels"
            mark = look | {"ls": "", "mfc": IMAGES[clean].get("mfc", look["color"])}
            draw_minima(panel, find_minima(table, column), label=label, **mark)
        panel.set(xlabel=CLEAN_RATE, title=images.replace(", clean labels", ""))
        panel.set(xlim=(table.a.min() - 0.05, 1.02), ylim=(0, 1.04))
    panels[0].set_ylabel("best kept mass")
    drawing.suptitle(label_landscape(table))
    draw_legend(drawing, panels[1:], columns=2)
    caption = (
        f"Marks lie off their curve by at most {_describe_minima(table)}. The same networks, "
        "evaluated on clean and on noisy labels. The curves are for memorised images, which the "
        "held-out ones are not."
    )
    return Drawing(drawing, caption, table)


def _describe_minima(table: "pd.DataFrame") -> str:
    """How far measured minima are from their formula at most, by kind of image, in numbers."""
    parts, M = [], class_count(table)
    for clean, images in PROTOCOLS.items():
        off = []
        for kind, column in (("alpha", clean), ("beta", NOISY[clean])):
            lowest = find_minima(table, column)
            best = label_noise.optimum(kind, lowest.a.to_numpy(), M)
            off.append(largest_distance(lowest.argmin, best))
        clean_labels, noisy_labels = off
        name = images.replace(", clean labels", "")
        parts.append(f"{clean_labels:.2f} (clean labels) and {noisy_labels:.2f} (noisy) on {name}")
    return "; ".join(parts)


# ---- claims


@decides(
    Claim(
        "C3",
        paper=PAPER.name,
        place="section 5.2, Figure 7",
        sentence="The formula with noisy test labels predicts the measured loss at a = 0.5 and "
        "0.95.",
        expected=f"as C2, at a = {C3_RATES[0]} and {C3_RATES[1]}: error below {FORMULA_ERROR:.0%}, "
        f"rank correlation above {FORMULA_RANK}",
        changed="Ties in the formula's ranking now count as ties. Held-out images are left open "
        f"below {ENOUGH_IMAGES:,} training images.",
    )
)
def decide_c3(
    claim: Claim, table: "pd.DataFrame", column: str, predicted: str = "predicted_beta"
) -> Verdict:
    """C3 on networks, at the paper's two clean rates.

    Args: table, from `beta_table`; column, of `NOISY_IMAGES`; predicted, "predicted_beta" or
    "predicted_beta_as_drawn".
    """
    names = [rate_name(a) for a in C3_RATES]
    cases, others = [], {}
    for case in formula_cases(table, column, predicted):
        if case.name in names:
            cases.append(case)
        else:
            others.setdefault(case.name, []).append(case.outcome)
    holding = [claims.every(outcomes) for outcomes in others.values()].count(claims.HOLDS)
    remark = f"it holds at {holding} of {len(others)} other clean rates" if others else ""
    measured = {case.name for case in cases}
    for a in C3_RATES:
        if rate_name(a) not in measured:
            seeds = table[table.a == a].seed.nunique()
            premise = Premise(
                "number of seeds", seeds, at_least=claims.MIN_SEEDS, where=rate_name(a)
            )
            cases.append(Case(rate_name(a), "relative error", premises=(premise,)))
    tried_on = place(table, NOISY_IMAGES[column])
    if predicted.endswith("drawn"):
        tried_on += ", formula at the share of clean labels as drawn"
    return Verdict(
        claim,
        tried_on,
        cases,
        remark,
        **settings_of(table, column),
    )


@decides(C4)
def decide_c4(claim: Claim, table: "pd.DataFrame", column: str) -> Verdict:
    """C4 on networks: p of least loss on noisy labels minus that on clean ones, for
    1/M <= a < 1.

    Args: table, from `beta_table`; column, of `NOISY`.
    """
    M = class_count(table)
    claimed = table[table.a.between(1 / M, 1, inclusive="left")]
    columns, quantity = (NOISY[column], column), "p*(β) − p*(α)"
    cases = []
    for case in difference_cases(claimed, columns, quantity, at_most=0.0):
        a = float(case.name.removeprefix("a = "))
        predicted = label_noise.optimum("beta", a, M) - a
        cases.append(replace(case, remark=f"predicted {predicted:+.3f}"))
    return Verdict(
        claim,
        place(table, PROTOCOLS[column]),
        cases,
        **settings_of(table, column, FINER),
    )


def verdicts(tables: Tables) -> Verdicts:
    """C3 and C4 on the landscape, on networks that memorise and on CIFAR-10."""
    answers = []
    for table in (tables.noisy, tables.memorised):
        if table is None:
            continue
        answers += [decide_c3(table, column) for column in NOISY_IMAGES]
        answers.append(decide_c3(table, "train_beta", "predicted_beta_as_drawn"))
        answers += [decide_c4(table, column) for column in NOISY]
    cifar = tables.cifar
    if cifar is not None:
        answers += [decide_c3(cifar, column) for column in NOISY_IMAGES]
        answers += [decide_c4(cifar, column) for column in NOISY]
    elif tables.noisy.data.iloc[0] != "cifar10":
        tried_on = "Held-out images, noisy labels of CIFAR-10"
        answers.append(Verdict(decide_c3.claim, tried_on, premises=[NO_CIFAR]))
    return Verdicts(answers)
