"""Accuracies on made-up tables whose answers are known both ways."""

import numpy as np
import pandas as pd
import pytest
from chen_runs import PS, cases_by_name, noisy_runs, panels
from matplotlib import pyplot as plt

from lsnc_core.claims import FAILS, HOLDS, UNDECIDED, most, t_interval
from lsnc_core.errors import UsageError
from lsnc_core.papers.chen import accuracy
from lsnc_core.papers.chen import chen_4_loss_and_accuracy as page
from lsnc_core.papers.chen.memorisation import memorisation_table


def two_humps(a, p, best):
    """Error with a minimum at small p, a plateau, and a lower end at p = 1."""
    return 0.2 if best else {0.2: 0.25, 1.0: 0.3}.get(p, 0.35 + 0.01 * (p > 0.5))


def accuracies(**settings):
    shared = {"rates": (0.5, 0.8, 0.95), "noise": 1e-3}
    return accuracy.accuracy_table(noisy_runs(**(shared | settings)))


# tables


def test_the_best_epoch_is_the_one_of_highest_accuracy():
    table = accuracies(error=two_humps)
    assert set(table.best_epoch) == {4}
    np.testing.assert_allclose(table.best_accuracy, 0.8, atol=0.002)
    np.testing.assert_allclose(table.best_error + table.best_accuracy, 1)
    np.testing.assert_allclose(table.test_error[(table.p == 1)], 0.3, atol=0.002)


def test_the_table_joins_by_the_name_of_the_run():
    runs = noisy_runs(error=lambda a, p, best: 0.3 if best else 0.2 + 0.1 * p * a)
    table = accuracy.accuracy_table(runs).set_index("run")
    for name, part in runs.groupby("run"):
        assert table.best_accuracy[name] == part.test_accuracy.max()
        assert table.test_error[name] == 1 - part.test_accuracy[part.epoch == 9].item()


# C7


def test_c7_compares_the_two_best_p_at_most_clean_rates():
    table = accuracies(error=two_humps)
    verdict = page.decide_c7(table)
    assert verdict.outcome == HOLDS and all(case.value < 0 for case in verdict.cases)
    late = accuracies(error=lambda a, p, best: 0.3 - 0.1 * (p == 1))
    assert page.decide_c7(late).outcome == FAILS
    few = page.decide_c7(accuracies(error=two_humps, seeds=3))
    assert few.outcome == UNDECIDED and "4 seeds" in few.measured
    one = accuracies(
        rates=(0.5, 0.8, 0.9),  # at .95 the loss may be lowest anywhere up to p = 1
        error=lambda a, p, best: two_humps(a, p, best) if a == 0.5 else 0.3 - 0.1 * (p == 1),
    )
    assert page.decide_c7(one).outcome == FAILS  # one of three is not most


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
def test_most_is_more_than_half(outcomes, expected):
    assert most(outcomes) == expected


# C8


def between(grid):
    """The variance component over the columns of a (seeds, conditions) table, written out as an
    analysis of variance with seeds as blocks.
    """
    seeds, conditions = grid.shape
    rows = grid.mean(1, keepdims=True)
    columns = grid.mean(0, keepdims=True)
    mean = grid.mean()
    square = seeds * ((columns - mean) ** 2).sum() / (conditions - 1)
    noise = ((grid - rows - columns + mean) ** 2).sum() / ((seeds - 1) * (conditions - 1))
    return (square - noise) / seeds


def component(table, a, column):
    """The variance component over the p that teach of one accuracy at one clean rate."""
    part = table[(table.a == a) & (table.p >= 0.2)]
    return between(part.pivot(index="seed", columns="p", values=column).to_numpy())


def test_c8_compares_variance_components_over_p():
    def quiet_error(a, p, best):
        return 0.3 + (0.01 if best else 0.1) * p

    quiet = accuracies(error=quiet_error)
    verdict = page.decide_c8(quiet)
    (together,) = [case for case in verdict.cases if case.deciding]
    assert verdict.outcome == together.outcome == HOLDS
    assert together.value == pytest.approx(0.01, abs=5e-4)
    assert [case.name for case in verdict.cases[1:]] == ["a = 0.5", "a = 0.8", "a = 0.95"]
    inside = [p for p in PS if p >= 0.2]
    expected = np.var([0.1 * p for p in inside], ddof=1)
    assert component(quiet, 0.5, "test_accuracy") == pytest.approx(expected, rel=0.05)
    for case, a in zip(verdict.cases[1:], (0.5, 0.8, 0.95), strict=True):
        ratio = component(quiet, a, "best_accuracy") / component(quiet, a, "test_accuracy")
        assert case.value == pytest.approx(ratio) and not case.deciding
    varied = accuracies(error=lambda a, p, best: 0.3 + 0.1 * p)
    assert page.decide_c8(varied).outcome == FAILS
    rough = page.decide_c8(accuracies(error=quiet_error, unlearned=0.12))
    assert (
        rough.outcome == UNDECIDED
        and "premise not met: excess training loss relative to" in rough.measured
    )
    few = page.decide_c8(accuracies(seeds=2))
    assert few.outcome == UNDECIDED and "4 seeds at a clean rate" in few.measured


def test_c8_is_decided_by_all_clean_rates_together():
    table = accuracies(error=lambda a, p, best: 0.3 + (0.1 if a == 0.95 or not best else 0.01) * p)
    verdict = page.decide_c8(table)
    outcomes = {case.name: case.outcome for case in verdict.cases}
    assert outcomes["a = 0.5"] == HOLDS and outcomes["a = 0.95"] == FAILS
    # (.01^2 + .01^2 + .1^2) / (3 * .1^2): more than a quarter
    together = verdict.cases[0]
    assert together.value == pytest.approx(0.34, abs=0.01)
    assert verdict.outcome == FAILS
    # the mean over the clean rates comes before the ratio
    best = [component(table, a, "best_accuracy") for a in (0.5, 0.8, 0.95)]
    last = [component(table, a, "test_accuracy") for a in (0.5, 0.8, 0.95)]
    assert together.value == pytest.approx(np.mean(best) / np.mean(last))
    assert together.low < together.value < together.high


def test_c8_does_not_take_the_noise_of_the_seeds_for_a_variance_over_p():
    """Twice the noise of the effect at the last epoch, and nothing but noise at the best."""
    table = accuracies(noise=0.02, error=lambda a, p, best: 0.3 + (0 if best else 0.1) * p)
    inside = table[table.p >= 0.2].groupby(["a", "p"])
    best, last = (
        inside[name].mean().groupby("a").var().mean() for name in ("best_accuracy", "test_accuracy")
    )
    together = page.decide_c8(table).cases[0]
    assert together.value < 0.5 * best / last


def test_c8_has_no_ratio_where_the_accuracy_does_not_depend_on_p():
    table = accuracies(noise=0, error=lambda a, p, best: 0.25)
    verdict = page.decide_c8(table)
    assert verdict.outcome == UNDECIDED and "does not depend on p" in verdict.cases[0].undecided


def test_c8_takes_the_seeds_that_all_rates_have_and_at_one_rate_all_of_it():
    table = accuracies(
        seeds=8, noise=0.02, error=lambda a, p, best: 0.3 + (0.05 if best else 1) * p
    )
    shared = table[table.seed < 4]
    uneven = table[(table.seed < 4) | (table.a == 0.8)]
    cases = {case.name: case for case in page.decide_c8(uneven).cases}
    few = {case.name: case for case in page.decide_c8(shared).cases}
    together = page.decide_c8(uneven).cases[0].name
    for name, rows in ((together, few), ("a = 0.5", few)):
        assert cases[name].value == rows[name].value
    every = {case.name: case for case in page.decide_c8(table).cases}
    assert cases["a = 0.8"].value == every["a = 0.8"].value != few["a = 0.8"].value


# C9


def test_two_minima_are_located_without_the_seed_they_are_measured_on():
    curves = pd.DataFrame(
        [[0.2, 0.4, 0.5, 0.3], [0.2, 0.4, 0.5, 0.3], [0.3, 0.6, 0.4, 0.1]],
        columns=[0.2, 0.5, 0.8, 1.0],
    )
    differences = accuracy.measure_minima(curves, split=0.5)
    np.testing.assert_allclose(differences["end"], [0.1, 0.1, -0.2])
    # seeds 0 and 1 read the hump off a mean of (.5, .45) at the middle: it lies at 0.5; seed 2
    # reads it off the first two, at 0.8
    np.testing.assert_allclose(differences["hump"], [0.4 - 0.3, 0.4 - 0.3, 0.4 - 0.1])
    np.testing.assert_allclose(differences["at"], [0.5, 0.5, 0.8])
    # .8 against .2
    np.testing.assert_allclose(differences["small"], [0.5 - 0.2, 0.5 - 0.2, 0.4 - 0.3])


def test_c9_needs_both_minima():
    verdict = page.decide_c9(accuracies(error=two_humps))
    assert verdict.outcome == HOLDS
    cases = cases_by_name(verdict)
    assert list(cases) == ["a = 0.5", "a = 0.8"]  # 0.95 is beyond the claim
    small, end, hump = cases["a = 0.5"].values()
    assert small.remark == "lowest at p = 0.20 [0.20, 0.25]"
    assert 10 <= small.value < 12 and end.value == pytest.approx(5, abs=0.15)
    assert 6 <= hump.value < 7 and hump.remark.startswith("hump at p = ")
    assert {case.unit for case in verdict.cases} == {"points"}
    # no second minimum, and only that at p = 1
    for error in (lambda a, p, best: 0.2 + 0.1 * p, lambda a, p, best: 0.4 - 0.1 * p):
        assert page.decide_c9(accuracies(error=error)).outcome == FAILS
    assert page.decide_c9(accuracies(error=two_humps, unlearned=1)).outcome == UNDECIDED


def test_noise_alone_seldom_makes_two_minima():
    """Intervals of 95 % on errors that do not depend on p: each side is missed about once in twenty
    to forty, not more.
    """
    draws = np.random.default_rng(1)
    sides = {name: np.zeros(2) for name in ("small", "end", "hump")}
    for _ in range(600):
        curves = pd.DataFrame(draws.normal(0.3, 0.05, (4, 12)), columns=PS[1:])
        differences = accuracy.measure_minima(curves, split=0.5)
        for name, missed in sides.items():
            _, low, high = t_interval(differences[name])
            missed += low > 0, high < 0
    assert max(missed.max() for missed in sides.values()) < 0.1 * 600


@pytest.mark.parametrize(
    "lowest, outcome", [(0.3, HOLDS), (0.5, HOLDS), (0.75, FAILS), (None, FAILS)]
)
def test_c9_asks_for_the_lowest_error_at_a_small_p(lowest, outcome):
    """Two minima in every case, one at p = 1 and a lower one: at a small p, at the bound, at a
    large p, or nowhere in particular.
    """
    verdict = page.decide_c9(
        accuracies(error=lambda a, p, best: 0.3 if p == 1 else 0.25 + 0.15 * (p != lowest))
    )
    assert verdict.outcome == outcome
    if lowest:
        place = float(verdict.cases[0].remark.split()[4])
        assert place == pytest.approx(lowest, abs=0.02)
    tie = page.decide_c9(
        accuracies(
            noise=0.02,
            error=lambda a, p, best: 0.3 if p == 1 else 0.25 + 0.15 * (p not in (0.3, 0.75)),
        )
    )
    assert tie.outcome == UNDECIDED


def test_c9_is_open_where_no_small_p_can_learn():
    few = page.decide_c9(accuracies(ps=(0.6, 0.8, 1.0), error=two_humps))
    assert few.outcome == UNDECIDED
    assert {case.undecided for case in few.cases} == {"no kept masses on both sides of 0.5"}
    coarse = page.decide_c9(accuracies(ps=(0.2, 0.5, 1.0), error=two_humps))
    assert coarse.outcome == UNDECIDED


# C10


def gains(at_low, at_high, weak=0.95):
    """Accuracies that weak smoothing raises by `at_high` from a = 0.9 on, by `at_low` below."""

    def error(a, p, best):
        return 0.3 - (p == weak) * (at_high if a >= 0.9 else at_low)

    return accuracies(error=error)


@pytest.mark.parametrize("p", page.C10_WEAK)
def test_c10_asks_for_a_change_of_sign_and_names_the_largest_cost(p):
    verdict = page.decide_c10(gains(-0.05, 0.05, p), p)
    assert verdict.outcome == HOLDS and f"p = {p}" in verdict.tried_on
    assert "the largest cost is 5.0 points" in verdict.measured
    np.testing.assert_allclose([case.value for case in verdict.cases], [-5, -5, 5], atol=0.2)
    assert page.decide_c10(gains(0.05, 0.05, p), p).outcome == FAILS
    assert page.decide_c10(gains(-0.05, -0.05, p), p).outcome == FAILS


def test_c10_takes_each_p_by_itself():
    assert page.decide_c10(gains(-0.05, 0.05, 0.9), 0.95).outcome == UNDECIDED
    assert page.decide_c10(accuracies(noise=0.2), 0.95).outcome == UNDECIDED
    gain = accuracy.gain_table(gains(-0.05, 0.05), page.C10_WEAK)
    assert set(gain.epoch) == {"last", "best"} and set(gain.p) == {0.95, 0.9}
    assert len(gain) == 2 * 2 * 3 * 4
    np.testing.assert_allclose(gain.gain[(gain.a == 0.5) & (gain.p == 0.95)], -0.05, atol=0.002)
    np.testing.assert_allclose(gain.gain[gain.p == 0.9], 0, atol=0.002)


def test_c10_stays_open_on_a_grid_without_weak_smoothing():
    runs = noisy_runs(
        rates=(0.5, 0.8, 0.95),
        ps=(0.3, 0.8, 1.0),
        error=lambda a, p, best: 0.3 - (p == 0.8) * (0.05 if a >= 0.9 else -0.05),
    )
    coarse = accuracy.accuracy_table(runs)
    shown = page.verdicts(page.Tables(coarse, memorisation_table(runs))).verdicts
    ids = ["C7", "C16", "C8", "C9", "C10", "C10", "C19"]
    assert [verdict.claim.id for verdict in shown] == ids
    for verdict, p in zip(shown[-3:-1], page.C10_WEAK, strict=True):
        words = f"kept mass p of the weakest smoothing on the grid is 0.8, needed at least {p}"
        assert verdict.outcome == UNDECIDED
        assert verdict.measured == f"premise not met: {words}"
    assert set(accuracy.gain_table(coarse, page.C10_WEAK).p) == {0.8}  # what the figure draws


# C16


def rising(loss, error, **settings):
    """Losses and errors with their minima at lines in a; errors steep near p = 1/M, where nothing
    is learned.
    """
    return accuracies(
        rates=(0.5, 0.6, 0.8),
        network=lambda a, p: (2 + abs(p - loss(a)), 2.0),
        error=lambda a, p, best: 0.9 if p == 0.1 else 0.2 + 0.5 * (p - error(a)) ** 2,
        **{"noise": 1e-6} | settings,
    )


def steep(a):
    return a


def gentle(a):
    return 0.2 + 0.5 * a


def falling(a):
    return 0.9 - 0.5 * a


def test_c16_asks_that_both_best_p_rise():
    verdict = page.decide_c16(rising(steep, gentle))
    assert verdict.outcome == HOLDS
    assert [case.name for case in verdict.cases] == ["lowest loss", "highest accuracy"]
    assert [case.value for case in verdict.cases] == pytest.approx([1, 0.5], abs=0.05)
    falls = page.decide_c16(rising(steep, falling))
    assert [case.outcome for case in falls.cases] == [HOLDS, FAILS]
    falls = page.decide_c16(rising(falling, gentle))
    assert [case.outcome for case in falls.cases] == [FAILS, HOLDS]
    # all at the first p that learns: a parabola through p = 1/M would find a place of its own
    flat = page.decide_c16(rising(steep, lambda a: 0.2 * (1 - a)))
    assert flat.outcome == UNDECIDED and "finer grid" in flat.measured
    assert flat.cases[1].value == pytest.approx(0, abs=5e-4)
    assert page.decide_c16(rising(steep, gentle, unlearned=1)).outcome == UNDECIDED
    few = page.decide_c16(rising(steep, gentle, seeds=3))
    assert few.outcome == UNDECIDED and "4 seeds at two clean rates" in few.measured


# Table 1


def test_the_quoted_table_is_marked_and_complete():
    assert len(page.QUOTED) == 4
    assert {len(row) for row in page.QUOTED} == {len(page.QUOTED_HEADER)}
    assert [row[3:] for row in page.QUOTED] == [
        ("23.1", "22.8"),
        ("6.3", "6.1"),
        ("25.3", "25.8"),
        ("8.9", "6.7"),
    ]
    shown = page.show_table_1()
    assert (shown.header, shown.rows) == (page.QUOTED_HEADER, page.QUOTED)


# figures

FIGURES = {
    "8": page.draw_figure_8,
    "9": page.draw_figure_9,
    "10": lambda table: page.draw_figure_10(table, (0.5, 0.8)),
    "11": page.draw_figure_11,
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_closed_named_and_drawn_without_warnings(name):
    figure = FIGURES[name](accuracies(error=two_humps))
    assert figure.data["name"] == f"chen-figure-{name}" and plt.get_fignums() == []
    bars = [axes for axes in figure.drawing.axes if axes.get_label() == "<colorbar>"]
    assert all(axes.get_xlabel() or axes.get_ylabel() for axes in bars)
    for axes in panels(figure):
        assert axes.get_xlabel()
        assert any(other.get_ylabel() for other in axes.get_shared_y_axes().get_siblings(axes))


def test_figure_10_shows_the_tables_means_and_refuses_clean_rates_not_trained():
    table = accuracies(error=two_humps)
    figure = page.draw_figure_10(table, (0.5, 0.8))
    lines = figure.drawing.axes[0].containers
    for a, container in zip((0.5, 0.8), lines, strict=True):
        means = table[(table.a == a) & (table.p >= 0.2)].groupby("p").test_error.mean()
        np.testing.assert_allclose(container[0].get_xydata(), np.column_stack([means.index, means]))
    assert set(figure.table.a) == {0.5, 0.8}
    clean = accuracies(error=two_humps, rates=(0.5, 1.0))
    assert set(page.draw_figure_10(clean).table.a) == {0.5}  # all clean rates below 1
    with pytest.raises(UsageError, match=r"no network was trained at the clean rate 0\.7"):
        page.draw_figure_10(table, (0.7,))


def test_figure_11_shows_the_tables_gains():
    table = accuracies(error=two_humps)
    gain, figure = accuracy.gain_table(table, page.C10_WEAK), page.draw_figure_11(table)
    last = figure.drawing.axes[0].containers[0][0].get_xydata()
    means = gain[(gain.epoch == "last") & (gain.p == 0.95)].groupby("a").gain.mean()
    np.testing.assert_allclose(last[:, 1], 100 * means)
    assert len(figure.drawing.axes[0].containers) == 4
    pd.testing.assert_frame_equal(figure.table, gain)


def test_captions_say_the_best_p_and_the_spread_of_the_accuracy():
    table = accuracies(error=two_humps, noise=0)
    assert "and 0.20 at a = 0.5, " in page.draw_figure_8(table).data["ours"]
    inside = [two_humps(0.5, p, best=False) for p in PS if p >= 0.2]
    deviation = 100 * np.std(inside, ddof=1)
    caption = page.draw_figure_9(table).data["ours"]
    assert f"best epoch: {deviation:.1f} and 0.0 at a = 0.5, " in caption


@pytest.mark.parametrize(("slope", "count"), [(0.1, 3), (-0.1, 0)])
def test_the_captions_count_clean_rates_either_way(slope, count):
    """The error rises with p or falls; at the best epoch it depends on p less, or more."""

    def error(a, p, best):
        return 0.3 + (0.5 if best == (slope > 0) else 1) * slope * p

    table = accuracies(error=error)
    caption = page.draw_figure_9(table).data["ours"]
    words = f"varies {'less' if count else 'no less'} over p at the best epoch than at the last."
    assert caption.startswith(f"At 3 of 3 clean rates below 1 the accuracy {words} ")
    caption = page.draw_figure_10(table).data["ours"]
    words = "the mean test error is lowest at the smallest p drawn. "
    assert caption.startswith(f"At {count} of 3 clean rates {words}")
