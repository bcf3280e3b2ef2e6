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


# what is trained


@pytest.mark.parametrize("profile", chen.LANDSCAPE)
def test_the_runs_of_the_landscapes_notebook_are_distinct_and_within_the_image_sets(profile):
    runs = chen.landscape_notebook_runs(profile)
    assert len(set(runs)) == len(runs) and set(chen.landscape_runs(profile)) | set(
        chen.size_runs(profile)
    ) <= set(runs)
    assert (
        set(chen.beta_runs(profile))
        == set(chen.landscape_runs(profile)) | set(chen.cifar_runs(profile))
        <= set(runs)
    )
    sizes = {run.train_size for run in chen.size_runs(profile)}
    assert (
        len(sizes) == len(chen.TRAIN_SIZES[profile][1]) + 1
        and chen.landscape_runs(profile)[0].train_size in sizes
    )
    for run in chen.size_runs(profile):
        assert (
            run.a == 0.8
            and run.train_size <= data_sources.SOURCES[run.data].sizes[0]
            and run.evaluate_at[-1] == run.epochs
        )
    assert {run.seed for run in chen.size_runs(profile)} == {0, 1, 2, 3}


def test_cifar_is_the_papers_setting_and_only_where_it_can_be_had():
    assert chen.cifar_runs("smoke") == chen.cifar_runs("quick") == []
    run = chen.cifar_runs("paper")[0]
    assert (run.data, run.model, run.widths, run.epochs, run.batch, run.lr) == (
        "cifar10",
        "resnet18",
        (64,),
        100,
        128,
        0.01,
    )
    assert (run.schedule, run.lr_steps, run.lr_factor, run.weight_decay, run.augment) == (
        "steps",
        (50, 75),
        0.5,
        0.0,
        "none",
    )
    small = chen.cifar_runs("gpu")
    assert {run.a for run in small} == {0.5, 0.8, 0.95} and small[0].epochs < 100
    for ask in (chen.cifar_runs, chen.size_runs, chen.landscape_notebook_runs):
        with pytest.raises(UsageError, match=r"unknown profile 'fast'"):
            ask("fast")


def test_sizes_beyond_a_smaller_image_set_are_left_out():
    assert {run.train_size for run in chen.size_runs("quick", "digits")} == {500, 250, 1000}


# noisy test labels


def test_the_expected_loss_is_the_mean_over_all_noisy_labels():
    draws = np.random.default_rng(3)
    logits = draws.standard_normal((50, M)) * 3
    log_q = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    clean = draws.integers(0, M, 50)
    for a in (0.0, 0.1, 0.7, 1.0):
        # every label that can be seen, with its probability
        direct = np.mean(
            [
                -sum((a if k == y else (1 - a) / (M - 1)) * row[k] for k in range(M))
                for row, y in zip(log_q, clean, strict=True)
            ]
        )
        found = chen_beta.expected_loss(a, -log_q[np.arange(50), clean].mean(), -log_q.mean(), M)
        assert found == pytest.approx(direct)


def test_a_memorising_network_has_the_loss_of_equation_14():
    table = chen_beta.table(made_up(rates=(0.3, 0.5, 0.95), noise=0))
    for row in table[table.p < 1].itertuples():
        a, p = row.a, row.p
        rest = (1 - p) / 9
        eq14 = (
            -(a**2) * math.log(p)
            - 2 * a * (1 - a) * math.log(rest)
            - (1 - a) ** 2 / 9 * math.log(p)
            - (1 - a) ** 2 * 8 / 9 * math.log(rest)
        )
        assert (
            row.test_beta
            == pytest.approx(eq14)
            == pytest.approx(row.predicted_beta)
            == pytest.approx(row.predicted_beta_as_drawn)
        )
        assert row.train_beta == pytest.approx(eq14)


def fake_tensors(specs, logits):
    return {spec: [{}, {"test_logits": logits}] for spec in specs}


def test_one_drawn_corruption_is_a_draw_of_its_own_for_each_seed_and_near_its_expectation():
    specs = [spec for spec in chen.landscape_runs("smoke") if spec.a == 0.8 and spec.p == 0.8]
    logits = (
        torch.randn(specs[0].test_size, M, generator=torch.Generator().manual_seed(0)).numpy() * 2
    )
    found = chen_beta.drawn(fake_tensors(specs, logits))
    assert found.seed.tolist() == [0, 1, 2, 3] and found.drawn.nunique() == 4
    clean = data.load("digits").subset(200, 500).test_labels
    log_q = torch.from_numpy(logits).double().log_softmax(1)
    noisy = labels.corrupt(clean, labels.symmetric_noise(0.8, M), 2, purpose="test label noise")
    assert found.drawn[2] == pytest.approx(-log_q[torch.arange(500), noisy].mean().item())
    assert not torch.equal(
        noisy, labels.corrupt(clean, labels.symmetric_noise(0.8, M), 2)
    )  # not the draw of the training labels
    loss = -log_q[torch.arange(500), clean].mean().item()
    expected = chen_beta.expected_loss(0.8, loss, -log_q.mean().item(), M)
    assert np.abs(found.drawn - expected).max() < 5 * log_q.std().item() / math.sqrt(500)


def test_c3_holds_for_the_formula_fails_for_another_and_names_missing_clean_rates():
    table = chen_beta.table(made_up(rates=(0.5, 0.8, 0.95)))
    for column in chen_beta.PLACES:
        verdict = chen_beta.verdict_c3(table, column)
        assert verdict.outcome == HOLDS and [case.name for case in verdict.cases] == [
            "a = 0.5",
            "a = 0.95",
        ]
        assert "it holds at 1 of 1 other clean rates" in verdict.measured
    wrong = chen_beta.table(
        made_up(network=lambda a, p: [1.3 * value for value in memorised(a, p)])
    )
    assert chen_beta.verdict_c3(wrong, "test_beta").outcome == FAILS
    missing = chen_beta.verdict_c3(chen_beta.table(made_up(rates=(0.5,))), "test_beta")
    assert missing.outcome == UNDECIDED and "4 seeds at a = 0.95" in missing.measured
    rough = chen_beta.verdict_c3(chen_beta.table(made_up(excess=0.06)), "test_beta")
    assert rough.outcome == UNDECIDED and "more epochs" in rough.measured


def test_c4_holds_for_memorised_labels_and_fails_where_noisy_labels_ask_for_less_smoothing():
    table = chen_beta.table(made_up(rates=(0.5, 0.8, 1.0)))
    verdict = chen_beta.verdict_c4(table, "test_loss")
    assert verdict.outcome == HOLDS and [case.name for case in verdict.cases] == [
        "a = 0.5",
        "a = 0.8",
    ]
    assert f"predicted {0.5**2 + 0.5**2 / 9 - 0.5:+.3f}" in told(verdict)
    swapped = table.rename(columns={"test_loss": "test_beta", "test_beta": "test_loss"})
    assert chen_beta.verdict_c4(swapped, "test_loss").outcome == FAILS


def test_differences_of_argmins_are_those_of_the_curves_and_need_four_finite_seeds():
    table = chen_beta.table(made_up(rates=(0.5,), noise=0))
    (row,) = chen_minima.argmin_differences(table, "test_beta", "test_loss").itertuples()
    assert row.mean == pytest.approx(
        0.5**2 + 0.5**2 / 9 - 0.5, abs=0.01
    ) and row.low == pytest.approx(row.high)
    assert chen_minima.argmin_differences(table[table.seed < 3], "test_beta", "test_loss").empty
    table.loc[0, "test_loss"] = math.nan
    (row,) = chen_minima.argmin_differences(table, "test_beta", "test_loss").itertuples()
    assert math.isnan(row.low) and chen_beta.verdict_c4(table, "test_loss").outcome == UNDECIDED


def test_an_argmin_that_is_a_bare_grid_point_leaves_half_a_step_open():
    """p = .95 next to p = 1, which lies at infinity in log-odds: no parabola; and a curve that is
    lowest at the grid's first point.
    """
    rows = [
        {"a": 0.5, "p": p, "seed": seed, "memorised": True, "one": abs(p - 0.95), "other": p}
        for seed in range(4)
        for p in (0.2, 0.3, 0.7, 0.95, 1.0)
    ]
    (row,) = chen_minima.argmin_differences(pd.DataFrame(rows), "one", "other").itertuples()
    # the first lies in [.95 - .125, .95 + .025], the second in [.2, .25]
    assert (row.mean, row.low, row.high) == pytest.approx((0.75, 0.825 - 0.25, 0.975 - 0.2))
    same = pd.DataFrame(rows).assign(other=lambda table: table.one)
    (row,) = chen_minima.argmin_differences(same, "one", "other").itertuples()
    assert row.mean == 0 and (row.low, row.high) == pytest.approx((-0.15, 0.15))


def test_the_clean_rates_of_figure_7_are_the_papers_where_there_are_such():
    assert chen_beta.rates(pd.DataFrame({"a": [0.5, 0.8, 0.95, 1.0]})) == (0.5, 0.95)
    assert chen_beta.rates(pd.DataFrame({"a": [0.3, 0.8, 1.0]})) == (0.8,)


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


def test_the_slope_of_argmins_is_a_line_through_them_widened_by_what_the_grid_leaves_open():
    def rows(lowest):
        cells = [(a, p, seed) for a in lowest for p in (0.2, 0.3, 0.5, 0.9) for seed in range(4)]
        return pd.DataFrame(
            [
                {"a": a, "p": p, "seed": seed, "value": abs(p - lowest[a][seed])}
                for a, p, seed in cells
            ]
        )

    # all at grid ends, which are bare: .2 is open by .05 above, .9 by .2 below
    table = rows({0.2: [0.2] * 4, 0.6: [0.9, 0.9, 0.2, 0.9], 0.8: [0.9] * 4})
    at = np.array([[0.2] * 4, [0.9, 0.9, 0.2, 0.9], [0.9] * 4])
    slopes = np.polyfit([0.2, 0.6, 0.8], at, 1)[0]
    below, above = np.where(at == 0.9, 0.2, 0), np.where(at == 0.2, 0.05, 0)
    # the extreme lines: every argmin where it makes the line least and most steep
    rises = np.array([False, True, True])[:, None]  # which rates lie above the mean, 0.533
    least = np.polyfit([0.2, 0.6, 0.8], np.where(rises, at - below, at + above), 1)[0].mean()
    most = np.polyfit([0.2, 0.6, 0.8], np.where(rises, at + above, at - below), 1)[0].mean()
    half = stats.t.ppf(0.975, 3) * slopes.std(ddof=1) / 2
    assert chen_minima.argmin_slope(table, "value") == pytest.approx(
        (slopes.mean(), least - half, most + half)
    )
    assert np.isnan(chen_minima.argmin_slope(table[table.a == 0.2], "value")).all()
    table.loc[3, "value"] = math.nan
    assert np.isnan(chen_minima.argmin_slope(table, "value")).all()


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


# training-set sizes


def sizes(**settings):
    return pd.concat(
        [made_up(rates=(0.8,), ps=(0.7,), size=size, **settings) for size in (250, 1000)]
    )


def test_residuals_by_size_and_what_the_accuracy_would_explain():
    table = chen_landscape.by_size(
        sizes(network=lambda a, p: [value + 0.2 for value in memorised(a, p)], noise=0)
    )
    assert set(table.train_size) == {250, 1000} and len(table) == 8
    np.testing.assert_allclose(table.residual, 0.2)
    np.testing.assert_allclose(table.train_residual, 0.2)
    np.testing.assert_allclose(
        table.accuracy_residual, cross_entropy(0.7, 0.7) - cross_entropy(0.8, 0.7)
    )
    said = chen_landscape.size_seen(table)
    assert (
        "+0.20 [+0.20, +0.20] with 250 images at p = 0.7 (right with frequency 0.70)" in said
        and "not memorised" not in said
    )
    assert "8 of 8 networks have not memorised" in chen_landscape.size_seen(
        chen_landscape.by_size(sizes(excess=1))
    )


def test_what_was_not_trained_is_said_to_be_undecided():
    table = chen_landscape.landscape_table(made_up())
    alone = chen_landscape.verdicts(table)
    assert [verdict.claim.id for verdict in alone] == [
        "C1",
        "C1",
        "C2",
        "C2",
        "C2",
        "C17",
        "C17",
        "C1",
        "C2",
    ]
    assert all(
        verdict.outcome == UNDECIDED and "cifar10" in verdict.tried_on for verdict in alone[-2:]
    )
    beta = chen_beta.table(made_up())
    assert [verdict.claim.id for verdict in chen_beta.verdicts(beta)] == [
        "C3",
        "C3",
        "C3",
        "C4",
        "C4",
        "C3",
    ]
    assert (
        chen_beta.verdicts(beta)[-1].outcome == UNDECIDED
        and "cifar10" in chen_beta.verdicts(beta)[-1].tried_on
    )
    assert all(
        verdict.outcome == HOLDS
        for verdict in chen_beta.verdicts(beta, beta.assign(data="cifar10"))
    )
    both = chen_landscape.verdicts(table, table.assign(data="cifar10"))
    assert all(verdict.outcome == HOLDS and "cifar10" in verdict.tried_on for verdict in both[-4:])


def test_every_claim_of_the_paper_has_a_place_and_an_expectation():
    assert {name for name in chen_claims.CLAIMS if name.startswith("C")} == {
        f"C{number}" for number in range(1, 18)
    }
    # what the paper does not claim is not counted as its claim
    assert [name for name, claim in chen_claims.CLAIMS.items() if claim.paper == OURS] == [
        "C13",
        "C15",
        "B1",
        "B2",
    ]
    for name, claim in chen_claims.CLAIMS.items():
        assert claim.id == name and claim.place and claim.expected and claim.sentence.endswith(".")


# figures


def drawn_once(table):
    return table[["a", "p", "seed"]].assign(drawn=1.0)


FIGURES = {
    "7": lambda: chen_measured_figures.figure_7(
        beta := chen_beta.table(made_up()), drawn_once(beta), (0.5, 0.95)
    ),
    "minima": lambda: chen_measured_figures.beta_minima(chen_beta.table(made_up())),
    "8": lambda: chen_measured_figures.figure_8(accuracies(error=two_humps)),
    "9": lambda: chen_measured_figures.figure_9(accuracies(error=two_humps)),
    "10": lambda: chen_measured_figures.figure_10(accuracies(error=two_humps), (0.5, 0.8)),
    "11": lambda: chen_measured_figures.figure_11(chen_accuracy.weak(accuracies(error=two_humps))),
    "sizes": lambda: chen_figures.size_residual(chen_landscape.by_size(sizes())),
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
    with pytest.raises(UsageError, match="at least one clean rate"):
        chen_measured_figures.figure_7(chen_beta.table(made_up()), drawn_once(table), ())


@pytest.mark.parametrize("name", ["chen_2_landscape", "chen_3_beta"])
def test_the_cells_for_cifar10_run(name, tmp_path_factory, monkeypatch):
    """Only the long profiles train it; here a ResNet-18 on digits stands in for a minute-long one
    on CIFAR-10.
    """
    small = {
        "train_size": 40,
        "test_size": 50,
        "clean_rates": (0.5, 0.95),
        "kept": (0.5, 1.0),
        "repeated_rates": (),
        "epochs": 2,
    }
    landscape = dataclasses.replace(
        chen.LANDSCAPE["smoke"], **small, evaluate_at=(1, 2), seeds=4, repeated_seeds=0
    )
    monkeypatch.setitem(chen.LANDSCAPE, "smoke", landscape)
    monkeypatch.setitem(chen.TRAIN_SIZES, "smoke", ((0.5,), ()))
    monkeypatch.setattr(chen, "SIZE_RATE", 0.95)
    monkeypatch.setitem(
        chen.CIFAR,
        "smoke",
        dataclasses.replace(landscape, model="resnet18", widths=(2,), seeds=1, lr_steps=(1,)),
    )
    monkeypatch.setenv(
        "LSNC_OUTPUTS", str(tmp_path_factory.getbasetemp() / "cifar-cells")
    )  # both notebooks read the same networks
    shown = []
    real = show.Figure
    monkeypatch.setattr(
        show, "Figure", lambda *args, **words: shown.append(words["name"]) or real(*args, **words)
    )
    given = parameters.defaults(ROOT / "notebooks" / f"{name}.ipynb") | {
        "profile": "smoke",
        "device": "cpu",
        "rates": [0.5],
    }
    run_cells(ROOT / "notebooks" / f"{name}.ipynb", given)
    figure = "5" if name == "chen_2_landscape" else "7"
    assert {f"chen-figure-{figure}", f"chen-figure-{figure}-cifar10"} <= set(shown)
