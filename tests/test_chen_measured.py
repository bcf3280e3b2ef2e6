"""Chen's noisy test labels, accuracies and training-set sizes on made-up tables whose answers are
known both ways.
"""

import dataclasses
import math
import re

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT, run_cells
from matplotlib import pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from scipy import stats

from lsnc_core import data, data_sources, labels
from lsnc_core.errors import UsageError
from lsnc_core.papers import (
    chen,
    chen_accuracy,
    chen_beta,
    chen_claims,
    chen_figures,
    chen_landscape,
    chen_measured_figures,
    chen_minima,
)
from lsnc_core.papers.claims import FAILS, HOLDS, OURS, UNDECIDED, t_interval
from lsnc_core.report import parameters, show

M = 10
PS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)


def cross_entropy(q, p):
    """-q log p - (1-q) log((1-p)/(M-1)), with 30 nats for what is infinite: networks' losses are
    large, not infinite.
    """
    on, off = (-math.log(x) if x > 1e-13 else 30.0 for x in (p, (1 - p) / (M - 1)))
    return q * on + (1 - q) * off


def memorised(a, p):
    """What a network that outputs the smoothed training label has on clean labels: loss, loss
    against the uniform distribution.
    """
    return cross_entropy(a, p), cross_entropy(1 / M, p)


def made_up(
    rates=(0.5, 0.95),
    ps=PS,
    seeds=4,
    network=memorised,
    error=lambda a, p, best: 0.3,
    noise=1e-4,
    excess=0.01,
    size=500,
):
    """A table as `results` gives it: three epochs a run, the second of which has the highest
    accuracy.
    """
    draws, rows = np.random.default_rng(0), []
    for seed in range(seeds):
        for a in rates:
            for p in ps:
                run = {
                    "data": "mnist-subset",
                    "train_size": size,
                    "a": a,
                    "p": p,
                    "seed": seed,
                    "epochs": 9,
                    "kept": a,
                }
                run["run"] = f"{size}-{a}-{p}-{seed}"
                loss, uniform = (
                    value * (1 + noise * draws.standard_normal()) for value in network(a, p)
                )
                for epoch, best in ((1, None), (4, True), (9, False)):
                    wrong = (
                        0.9
                        if best is None
                        else error(a, p, best) * (1 + noise * draws.standard_normal())
                    )
                    row = {
                        "test_loss": loss,
                        "test_uniform_loss": uniform,
                        "clean_train_loss": loss,
                        "clean_train_uniform_loss": uniform,
                    }
                    row |= {"train_loss": cross_entropy(p, p) + excess, "test_accuracy": 1 - wrong}
                    rows.append(run | {"epoch": epoch} | row)
    return pd.DataFrame(rows).sample(frac=1, random_state=1)


def told(verdict):
    return "; ".join(
        [verdict.measured, *(f"{case.name}: {case.measured}" for case in verdict.cases)]
    )


# accuracies


def two_humps(a, p, best):
    """Error with a minimum at small p, a plateau, and a lower end at p = 1."""
    return 0.2 if best else {0.2: 0.25, 1.0: 0.3}.get(p, 0.35 + 0.01 * (p > 0.5))


def accuracies(**settings):
    return chen_accuracy.table(made_up(**({"rates": (0.5, 0.8, 0.95), "noise": 1e-3} | settings)))


def test_the_best_epoch_is_the_one_of_highest_accuracy():
    table = accuracies(error=two_humps)
    assert set(table.best_epoch) == {4}
    np.testing.assert_allclose(table.best_accuracy, 0.8, atol=0.002)
    np.testing.assert_allclose(table.best_error + table.best_accuracy, 1)
    np.testing.assert_allclose(table.test_error[(table.p == 1)], 0.3, atol=0.002)


def test_c7_compares_the_two_best_p_at_most_clean_rates():
    table = accuracies(error=two_humps)
    assert chen_accuracy.verdict_c7(table).outcome == HOLDS
    late = accuracies(error=lambda a, p, best: 0.3 - 0.1 * (p == 1))
    assert chen_accuracy.verdict_c7(late).outcome == FAILS
    assert chen_accuracy.verdict_c7(accuracies(error=two_humps, seeds=3)).outcome == UNDECIDED
    assert "4 seeds" in chen_accuracy.verdict_c7(accuracies(error=two_humps, seeds=3)).measured
    one = accuracies(
        error=lambda a, p, best: two_humps(a, p, best) if a == 0.5 else 0.3 - 0.1 * (p == 1)
    )
    assert chen_accuracy.verdict_c7(one).outcome == FAILS  # one of three is not most
    assert "difference -0." in told(chen_accuracy.verdict_c7(table))


@pytest.mark.parametrize(
    "outcomes, expected",
    [
        ([HOLDS, HOLDS, FAILS], HOLDS),
        ([HOLDS, FAILS], FAILS),
        ([HOLDS, UNDECIDED], UNDECIDED),
        ([UNDECIDED, FAILS, HOLDS], UNDECIDED),
        ([], UNDECIDED),
    ],
)
def test_most(outcomes, expected):
    assert chen_accuracy.most(outcomes) == expected


def test_c8_compares_variances_over_p():
    quiet = accuracies(error=lambda a, p, best: 0.3 + (0.01 if best else 0.1) * p)
    verdict = chen_accuracy.verdict_c8(quiet)
    assert verdict.outcome == HOLDS and "ratio 0.010" in told(verdict)
    inside = [p for p in PS if p >= 0.2]
    found = chen_accuracy.spread(quiet)
    np.testing.assert_allclose(found["last"], np.var([0.1 * p for p in inside], ddof=1), rtol=0.05)
    assert (
        chen_accuracy.verdict_c8(accuracies(error=lambda a, p, best: 0.3 + 0.1 * p)).outcome
        == FAILS
    )
    assert chen_accuracy.verdict_c8(accuracies(excess=0.06)).outcome == UNDECIDED
    few = chen_accuracy.verdict_c8(accuracies(seeds=2))
    assert few.outcome == UNDECIDED and "4 seeds at a clean rate" in few.measured


def test_two_minima_are_found_without_the_seed_they_are_measured_on():
    curves = pd.DataFrame(
        [[0.2, 0.4, 0.5, 0.3], [0.2, 0.4, 0.5, 0.3], [0.3, 0.6, 0.4, 0.1]],
        columns=[0.2, 0.5, 0.8, 1.0],
    )
    found = chen_accuracy.two_minima(curves)
    np.testing.assert_allclose(found["end"], [0.1, 0.1, -0.2])
    # seeds 0 and 1 read the hump off a mean of (.5, .45) at the middle: it lies at 0.5; seed 2
    # reads it off the first two, at 0.8
    np.testing.assert_allclose(found["hump"], [0.4 - 0.3, 0.4 - 0.3, 0.4 - 0.1])
    np.testing.assert_allclose(found["at"], [0.5, 0.5, 0.8])
    np.testing.assert_allclose(found["small"], [0.5 - 0.2, 0.5 - 0.2, 0.4 - 0.3])  # .8 against .2


def test_c9_needs_both_minima():
    verdict = chen_accuracy.verdict_c9(accuracies(error=two_humps))
    assert verdict.outcome == HOLDS and [case.name for case in verdict.cases] == [
        "a = 0.5",
        "a = 0.8",
    ]  # 0.95 is beyond the claim
    assert re.search(
        r"lowest at p = 0\.20 \[0\.20, 0\.25\], p above 0\.5 above smaller p by \+1[01]\.\d",
        told(verdict),
    )
    assert re.search(r"p = 1 above the lowest by \+(4\.9|5\.0)", told(verdict))
    assert re.search(r"the hump at p = [\d. or]+ above p = 1 by \+6\.", told(verdict))
    assert (
        chen_accuracy.verdict_c9(accuracies(error=lambda a, p, best: 0.2 + 0.1 * p)).outcome
        == FAILS
    )  # no second minimum
    assert (
        chen_accuracy.verdict_c9(accuracies(error=lambda a, p, best: 0.4 - 0.1 * p)).outcome
        == FAILS
    )  # only that at p = 1
    assert chen_accuracy.verdict_c9(accuracies(error=two_humps, excess=1)).outcome == UNDECIDED


def test_noise_alone_seldom_makes_two_minima():
    """Intervals of 95 % on errors that do not depend on p: each side is missed about once in twenty
    to forty, not more.
    """
    draws, sides = (
        np.random.default_rng(1),
        {name: np.zeros(2) for name in ("small", "end", "hump")},
    )
    for _ in range(600):
        found = chen_accuracy.two_minima(
            pd.DataFrame(draws.normal(0.3, 0.05, (4, 12)), columns=PS[1:])
        )
        for name, missed in sides.items():
            _, low, high = t_interval(found[name])
            missed += low > 0, high < 0
    assert max(missed.max() for missed in sides.values()) < 0.1 * 600


@pytest.mark.parametrize(
    "lowest, outcome", [(0.3, HOLDS), (0.5, HOLDS), (0.75, FAILS), (None, FAILS)]
)
def test_c9_asks_for_the_lowest_error_at_a_small_p(lowest, outcome):
    """Two minima in every case, one at p = 1 and a lower one: at a small p, at the bound, at a
    large p, or nowhere in particular.
    """
    verdict = chen_accuracy.verdict_c9(
        accuracies(error=lambda a, p, best: 0.3 if p == 1 else 0.25 + 0.15 * (p != lowest))
    )
    assert verdict.outcome == outcome
    if lowest:
        place = float(re.search(r"lowest at p = (\d\.\d\d)", told(verdict))[1])
        assert place == pytest.approx(lowest, abs=0.02)
    tie = chen_accuracy.verdict_c9(
        accuracies(
            noise=0.02,
            error=lambda a, p, best: 0.3 if p == 1 else 0.25 + 0.15 * (p not in (0.3, 0.75)),
        )
    )
    assert tie.outcome == UNDECIDED


def test_c9_is_open_where_no_small_p_can_learn():
    few = chen_accuracy.verdict_c9(accuracies(ps=(0.6, 0.8, 1.0), error=two_humps))
    assert few.outcome == UNDECIDED and "no kept masses on both sides of 0.5" in told(few)
    assert (
        chen_accuracy.verdict_c9(accuracies(ps=(0.2, 0.5, 1.0), error=two_humps)).outcome
        == UNDECIDED
    )


def test_c10_asks_for_a_change_of_sign_and_tells_the_largest_cost():
    def gains(at_low, at_high, weak=0.95, **settings):
        return accuracies(
            error=lambda a, p, best: 0.3 - (p == weak) * (at_high if a >= 0.9 else at_low),
            **settings,
        )

    for p in (0.95, 0.9):
        verdict = chen_accuracy.verdict_c10(gains(-0.05, 0.05, p), p)
        assert (
            verdict.outcome == HOLDS
            and "the largest cost is 5.0 points" in verdict.measured
            and f"p = {p}" in verdict.tried_on
        )
        assert chen_accuracy.verdict_c10(gains(0.05, 0.05, p), p).outcome == FAILS
        assert chen_accuracy.verdict_c10(gains(-0.05, -0.05, p), p).outcome == FAILS
    assert (
        chen_accuracy.verdict_c10(gains(-0.05, 0.05, 0.9), 0.95).outcome == UNDECIDED
    )  # each p by itself
    assert chen_accuracy.verdict_c10(accuracies(noise=0.2), 0.95).outcome == UNDECIDED
    gain = chen_accuracy.weak(gains(-0.05, 0.05))
    assert (
        set(gain.epoch) == {"last", "best"}
        and set(gain.p) == {0.95, 0.9}
        and len(gain) == 2 * 2 * 3 * 4
    )
    np.testing.assert_allclose(gain.gain[(gain.a == 0.5) & (gain.p == 0.95)], -0.05, atol=0.002)
    np.testing.assert_allclose(gain.gain[gain.p == 0.9], 0, atol=0.002)


def test_c10_stays_open_on_a_grid_without_weak_smoothing():
    coarse = accuracies(
        ps=(0.3, 0.8, 1.0),
        error=lambda a, p, best: 0.3 - (p == 0.8) * (0.05 if a >= 0.9 else -0.05),
    )
    found = [verdict for verdict in chen_accuracy.verdicts(coarse) if verdict.claim.id == "C10"]
    assert [verdict.outcome for verdict in found] == [UNDECIDED] * 2 and all(
        "p = 0.9" in verdict.measured for verdict in found
    )
    assert set(chen_accuracy.weak(coarse).p) == {0.8}  # what the figure draws


def test_c16_asks_that_both_best_p_rise():
    def rising(loss, accuracy, **settings):
        """Losses and errors with their minima at lines in a; errors steep near p = 1/M, where
        nothing is learned.
        """
        return accuracies(
            rates=(0.3, 0.5, 0.8),
            network=lambda a, p: (2 + abs(p - loss(a)), 2.0),
            error=lambda a, p, best: 0.9 if p == 0.1 else 0.2 + 0.5 * (p - accuracy(a)) ** 2,
            **{"noise": 1e-6} | settings,
        )

    steep, gentle, falling = (lambda a: a), (lambda a: 0.2 + 0.5 * a), (lambda a: 0.9 - 0.5 * a)
    verdict = chen_accuracy.verdict_c16(rising(steep, gentle))
    assert verdict.outcome == HOLDS and [case.name for case in verdict.cases] == [
        "lowest loss",
        "highest accuracy",
    ]
    slopes = [float(re.search(r"slope ([+-][\d.]+)", case.measured)[1]) for case in verdict.cases]
    assert slopes == pytest.approx([1, 0.5], abs=0.05)
    falls = chen_accuracy.verdict_c16(rising(steep, falling))
    assert [case.outcome for case in falls.cases] == [HOLDS, FAILS]
    assert [case.outcome for case in chen_accuracy.verdict_c16(rising(falling, gentle)).cases] == [
        FAILS,
        HOLDS,
    ]
    # all at the first p that learns: a parabola through p = 1/M would find a place of its own
    flat = chen_accuracy.verdict_c16(rising(steep, lambda a: 0.2 * (1 - a)))
    assert (
        flat.outcome == UNDECIDED
        and "finer grid" in flat.measured
        and flat.cases[1].measured.startswith("slope +0.000")
    )
    assert chen_accuracy.verdict_c16(rising(steep, gentle, excess=1)).outcome == UNDECIDED
    few = chen_accuracy.verdict_c16(rising(steep, gentle, seeds=3))
    assert few.outcome == UNDECIDED and "4 seeds at two clean rates" in few.measured


def test_the_quoted_table_is_marked_and_complete():
    assert len(chen_accuracy.QUOTED) == 4 and {len(row) for row in chen_accuracy.QUOTED} == {
        len(chen_accuracy.QUOTED_HEADER)
    }
    assert [row[3:] for row in chen_accuracy.QUOTED] == [
        ("23.1", "22.8"),
        ("6.3", "6.1"),
        ("25.3", "25.8"),
        ("8.9", "6.7"),
    ]


# figures


FIGURES = {
    "8": lambda: chen_measured_figures.figure_8(accuracies(error=two_humps)),
    "9": lambda: chen_measured_figures.figure_9(accuracies(error=two_humps)),
    "10": lambda: chen_measured_figures.figure_10(accuracies(error=two_humps), (0.5, 0.8)),
    "11": lambda: chen_measured_figures.figure_11(chen_accuracy.weak(accuracies(error=two_humps))),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_closed_named_and_drawn_without_warnings(name):
    figure = FIGURES[name]()
    assert plt.get_fignums() == []
    FigureCanvasAgg(figure).draw()
    for axes in figure.axes:
        if axes.get_label() != "<colorbar>":
            assert axes.get_xlabel() and any(
                other.get_ylabel() for other in axes.get_shared_y_axes().get_siblings(axes)
            )
        else:
            assert axes.get_ylabel()


def test_figures_show_the_tables_numbers_and_refuse_clean_rates_not_trained():
    table = accuracies(error=two_humps)
    lines = FIGURES["10"]().axes[0].containers
    for a, container in zip((0.5, 0.8), lines, strict=True):
        means = table[(table.a == a) & (table.p >= 0.2)].groupby("p").test_error.mean()
        np.testing.assert_allclose(container[0].get_xydata(), np.column_stack([means.index, means]))
    gain = chen_accuracy.weak(table)
    last = FIGURES["11"]().axes[0].containers[0][0].get_xydata()
    np.testing.assert_allclose(
        last[:, 1], 100 * gain[(gain.epoch == "last") & (gain.p == 0.95)].groupby("a").gain.mean()
    )
    assert len(FIGURES["11"]().axes[0].containers) == 4
    with pytest.raises(UsageError, match=r"no network was trained at the clean rate 0\.7"):
        chen_measured_figures.figure_10(table, (0.7,))
