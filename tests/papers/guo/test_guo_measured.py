"""Guo's tables of networks: pairs of one seed, ratios, epochs to a level, slopes, equal NC1, and
whether training ended.
"""

import math

import numpy as np
import pandas as pd
import pytest
from guo_tables import made_up_history
from hypothesis import given
from hypothesis import strategies as st
from nulls.guo import halve
from scipy import stats

from lsnc_core.claims import FAILS, HOLDS, UNDECIDED, seed_case
from lsnc_core.papers.guo import convergence, premises
from lsnc_core.papers.guo.measured import paired, ratio_case


def test_pairs_are_of_one_seed_and_lonely_seeds_are_left_out():
    table = pd.DataFrame(
        {
            "loss": "ce",
            "delta": [0, 0, 0, 0.05, 0.05],
            "seed": [2, 0, 1, 1, 2],
            "x": [20, 0, 10, 11, 21],
        }
    )
    other = table.assign(loss="focal", x=-1)
    plain, smooth = paired(pd.concat([table, other]), "x")
    assert plain.tolist() == [10, 20] and smooth.tolist() == [11, 21]


def test_cases_have_students_interval():
    values = np.array([0.1, 0.3, 0.2, 0.25, 0.4])
    low, high = stats.t.interval(0.95, 4, values.mean(), stats.sem(values))
    case = seed_case("x", "value", values, at_least=0.0)
    assert (case.value, case.low, case.high) == pytest.approx((values.mean(), low, high))
    assert case.outcome == HOLDS
    ratio = ratio_case("x", "value", np.ones(5), np.exp(values))
    ends = np.exp([values.mean(), low, high])
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx(tuple(ends))
    assert ratio.outcome == FAILS
    assert ratio_case("x", "value", np.ones(3), np.full(3, 0.5)).outcome == UNDECIDED
    # a value that is missing, or a norm of zero, leaves the case open
    for missing in (math.nan, 0.0):
        smooth = np.array([0.5, 0.5, 0.5, 0.5, missing])
        assert ratio_case("x", "value", np.ones(5), smooth).outcome == UNDECIDED


@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=8), st.floats(0.005, 1.1))
def test_epoch_below_is_where_the_broken_line_passes(values, level):
    epochs, values = np.arange(1.0, len(values) + 1), np.array(values)
    reached = convergence.epoch_below(epochs, values, level)
    if values.min() > level:
        assert math.isnan(reached)
        return
    assert np.interp(reached, epochs, values) <= level + 1e-9
    before = np.interp(np.linspace(1, reached, 50)[:-1], epochs, values)
    assert (before >= level - 1e-9).all() or reached == 1
    after, by = convergence.bracket_epoch(epochs, values, level)
    assert after <= reached <= by == after + 1
    assert values[int(by) - 1] <= level and (values[: int(after)] > level).all()


def test_epochs_to_collapse_are_read_off_the_broken_line():
    # level 2 x 0.05: 8 exp(-t/6) + 0.05 = 0.1 at t = 6 log 160 = 30.5, between 30 and 40
    table = convergence.measure_convergence(made_up_history(), 2.0)
    plain, smooth = table[table.delta == 0], table[table.delta == 0.05]
    assert 30 < plain.nc1_own.mean() < 32
    assert (plain.nc1_own == plain.nc1_ce).all()
    # smoothing ends lower: it passes its own level later than that of cross-entropy
    assert (smooth.nc1_own > smooth.nc1_ce).all()
    for metric in ("nc2", "nc3"):
        assert np.isfinite(table[f"{metric}_own"]).all()


def made_up_times(plain, smooth):
    """Times of four seeds, each between the measured epochs around it: 10, 20, 40, 80."""
    rows, measured = [], np.array([0, 10, 20, 40, 80])
    for delta, time in ((0.0, plain), (0.05, smooth)):
        for seed in range(4):
            at = time * (1 + 0.001 * seed * (delta + 1))
            by = measured[np.searchsorted(measured, at)]
            row = {"loss": "ce", "delta": delta, "seed": seed, "t": at, "t_by": by}
            rows.append(row | {"t_after": measured[np.searchsorted(measured, at) - 1]})
    return pd.DataFrame(rows)


def test_times_are_never_finer_than_the_measured_epochs():
    same = convergence.time_case(made_up_times(30, 28), "t", "epochs")
    # each of 20 to 40: the ratio lies between 20/40 and 40/20, whatever the broken line says
    assert same.value == pytest.approx(28 / 30, rel=1e-3) and same.outcome == UNDECIDED
    assert (same.low, same.high) == pytest.approx((0.5, 2), rel=0.01)
    touching = convergence.time_case(made_up_times(30, 15), "t", "epochs")
    assert touching.outcome == UNDECIDED  # 10 to 20 against 20 to 40: at most 1
    apart = convergence.time_case(made_up_times(60, 15), "t", "epochs")
    assert apart.outcome == HOLDS and apart.high == pytest.approx(20 / 40, rel=0.01)
    assert convergence.time_case(made_up_times(15, 60), "t", "epochs").outcome == FAILS
    # already below at the first measurement: it may have been any time before
    first = convergence.time_case(made_up_times(30, 5), "t", "epochs")
    assert first.low == 0 and first.outcome == HOLDS
    both = convergence.time_case(made_up_times(5, 4), "t", "epochs")
    assert (both.low, both.high) == (0, math.inf) and both.outcome == UNDECIDED
    assert not both.at_bound


def test_training_ended_where_a_schedule_and_its_half_agree():
    history = made_up_history()
    halved = halve(history, 0.25)  # whole by half: 1/1.25 = 1 - 0.2
    for premise in premises.check_ended(history, halved, "nc1"):
        assert premise.value == pytest.approx(0.2) and not premise.met
    first, second = premises.check_ended(history, halve(history, 0.1), "nc2", (0.1, 0.9))
    assert first.met and first.value == pytest.approx(1 - 1 / 1.1)
    assert second.text.startswith("change of NC2 from a schedule of 30 epochs to 60 (δ = 0.9) is ")
    # of one image set and weight decay, and over the seeds that both have
    others = halve(history, 9.0)
    both = pd.concat([halve(history), others.assign(data="digits")])
    both = both[(both.seed != 2) | (both.data == "digits")]
    assert premises.check_ended(history, both, "nc1")[0].value == 0
    apart = history.assign(nc1=np.where(history.seed == 2, 9.0, history.nc1))
    assert premises.check_ended(apart, both, "nc1")[0].value == 0
    assert math.isnan(premises.check_ended(history, halved[:0], "nc1")[0].value)
    assert not premises.check_ended(history, halved[:0], "nc1")[0].met


def test_half_the_schedule_must_order_label_smoothing_and_cross_entropy_alike():
    history = made_up_history(better=1.0)
    ends = history[(history.loss == "ce") & (history.epoch == history.epochs)]
    logs = np.log(ends.pivot(index="seed", columns="delta", values="nc1")[[0.0, 0.05]])
    alike = premises.check_direction(history, halve(history), "nc1")
    assert alike.value == pytest.approx(np.exp((logs[0.05] - logs[0.0]).mean())) and alike.met
    assert (alike.at_most, alike.value < 1) == (1.0, True)
    opposite = premises.check_direction(history, halve(made_up_history(better=-1.0)), "nc1")
    assert opposite.value > 1 and not opposite.met
    worse = made_up_history(better=-1.0)
    assert premises.check_direction(worse, halve(worse), "nc1").met
    assert not premises.check_direction(worse, halve(history), "nc1").met
    plain = halve(history[history.delta == 0])
    for lacking in (halve(history)[:0], plain):
        assert not premises.check_direction(history, lacking, "nc1").met


def test_zeros_end_only_in_zeros():
    history = made_up_history()
    gone = history.assign(nc1=0.0)
    assert premises.check_ended(gone, halve(gone), "nc1")[0].value == 0
    assert premises.check_ended(history, halve(gone), "nc1")[0].value == math.inf


def line(nc1, offset, slope=0.1):
    return pd.DataFrame({"nc1": nc1, "nc2": offset + slope * np.log(nc1)})


def test_compare_nc2_compares_where_both_have_been():
    plain, smooth = line(np.geomspace(10, 0.1, 9), 0.5), line(np.geomspace(2, 0.01, 13), 0.3)
    assert convergence.compare_nc2(plain, smooth) == pytest.approx(-0.2)
    assert convergence.compare_nc2(smooth, plain) == pytest.approx(0.2)
    # lines that cross in the middle of the overlap cancel
    steeper = line(np.geomspace(10, 0.1, 9), 0.5, 0.3)
    assert convergence.compare_nc2(plain, steeper) == pytest.approx(0)
    apart = line(np.array([10.0, 5.0]), 0.5), line(np.array([1.0, 0.1]), 0.5)
    assert math.isnan(convergence.compare_nc2(*apart))
    # below NC1 = 1 the second is lower, above it higher
    difference = convergence.compare_nc2(plain, line(plain.nc1, 0.5, 0.2), (0.5, 1.0))
    assert difference == pytest.approx(0.1 * math.log(0.5) / 2)
    assert math.isnan(convergence.compare_nc2(plain, smooth, (1e-9, 1e-8)))


def test_nc2_is_read_where_nc1_first_passes_a_level():
    plain = line(np.geomspace(8, 0.1, 9), 0.5)
    # NC1 rises again twice; what NC2 is then does not count
    smooth = line(np.array([8.0, 1.0, 3.0, 0.1, 0.7]), 0.3)
    smooth["nc2"] += np.array([0.0, 0.0, 5.0, 0.0, 7.0])
    passed = convergence.first_passages(smooth)
    assert passed.nc1.tolist() == [0.1, 1.0, 8.0] and passed.index.tolist() == [3, 1, 0]
    assert convergence.compare_nc2(plain, smooth) == pytest.approx(-0.2)


def test_slopes_are_taken_while_the_first_learning_rate_lasts():
    table = made_up_history()
    assert convergence.slope_epochs(table) == pytest.approx((3, 30))
    slope = convergence.fit_slopes(table).groupby("delta").slope.mean()
    late = math.exp(-0.3 * math.sqrt(0.05))
    assert slope[0.0] == pytest.approx(-1 / 8) and slope[0.05] == pytest.approx(-1 / 8 / late)


def test_the_plots_constant_is_that_of_each_image_set():
    table = made_up_history(seeds=1)
    both = pd.concat([table, table.assign(data="cifar100", run=table.run + "-100")])
    gaps = convergence.add_loss_gap(both)
    assert gaps.groupby("data").c.unique().map(list).to_dict() == {
        "cifar100": [0.006],
        "mnist-subset": [0.002],
    }
    lowest = gaps.groupby("run").gap.min().to_numpy()
    assert lowest == pytest.approx(gaps.groupby("run").c.first().to_numpy())
