"""The feature model's training: tables against made-up curves and other code, G13, G15 and G16
either way, captions and figures.
"""

import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from lsnc_core.claims import FAILS, HOLDS, UNDECIDED
from lsnc_core.papers.guo import SMOOTHED, descent, model
from lsnc_core.papers.guo import guo_6_speed as page
from lsnc_core.papers.guo.descent import START
from lsnc_core.theory import ufm, ufm_dynamics, ufm_objective
from lsnc_core.theory.ufm import FeatureModel, Loss


@pytest.fixture(scope="module")
def tables():
    """Everything that the page shows, at smoke size."""
    return page.load("smoke")


def made_up(nc2, gap, starts=5, spread=START):
    """Curves with NC1 = 1/t and given NC2 and loss gap as functions of (delta, t), a little
    different from start to start.
    """
    draws, rows = np.random.default_rng(0), []
    for start in range(starts):
        for delta in model.STRENGTHS:
            factor = 1 + 0.01 * draws.standard_normal()
            for t in 10.0 ** np.arange(0, 8.5, 0.5):
                about = {"spread": spread, "delta": delta, "start": start, "iteration": t}
                values = {"gap": gap(delta, t) * factor, "error": 0.0, "nc1": 1 / t}
                values |= {"nc2": nc2(delta, t) * factor, "nc3": 1 / t}
                rows.append(about | values)
    return pd.DataFrame(rows)


def tenfold(delta, t):
    """A loss gap that smoothing reaches in a tenth of the iterations."""
    return (1 if delta == 0 else 0.1) / t


# ---- claims


def test_rates_are_within_one_percent(tables):
    rates = tables.rates
    assert rates.error.max() < 0.01 and page.decide_g13(rates).outcome == HOLDS
    np.testing.assert_allclose(rates.measured, rates.predicted, rtol=0.01)
    assert page.decide_g13(rates.assign(error=0.011)).outcome == FAILS
    assert page.decide_g13(rates.assign(predicted=-rates.predicted)).outcome == FAILS
    assert page.decide_g13(rates.assign(predicted=1.0)).outcome == FAILS


def test_nc2_at_equal_nc1_is_decided_level_by_level():
    def nc2(delta, t):  # smoothing is lower early, higher late, equal at NC1 = 1e-3
        return 0.5 if delta == 0 else 0.5 * (t / 1e3) ** 0.1

    curves = made_up(nc2, lambda delta, t: 1 / t)
    table = descent.nc2_table(curves)
    verdict = page.decide_g15(curves, table)
    found = {case.name.removeprefix("NC1 = "): case.outcome for case in verdict.cases}
    assert verdict.outcome == FAILS
    assert found == {
        "1": HOLDS,
        "0.1": HOLDS,
        "0.03": HOLDS,
        "0.01": HOLDS,
        "0.001": UNDECIDED,
        "0.0001": FAILS,
        "5e-05": FAILS,
        "1e-05": FAILS,
        "1e-06": FAILS,
    }
    # below NC1 = 5e-5, where the paper's axis ends, levels decide nothing
    deciding = [case.name for case in verdict.cases if case.deciding]
    assert deciding == [f"NC1 = {level}" for level in found if float(level) >= 5e-5]
    assert "NC1 = 1e-05, beyond the paper's axis: NC2(LS) − NC2(CE) +0.29" in verdict.remark
    at = table.set_index("nc1")
    assert at.loc[1e-5].ls == pytest.approx(0.5 * 100**0.1, rel=0.02)
    assert at.loc[1e-5].ce == pytest.approx(0.5, rel=0.02)
    short = curves[curves.iteration < 1e4]
    last = page.decide_g15(short, descent.nc2_table(short)).cases[-1]
    assert last.outcome == UNDECIDED and "not finite for every seed" in last.text


def test_a_reversal_below_the_papers_axis_is_a_remark():
    def nc2(delta, t):  # smoothing is higher from NC1 = 1e-5 down
        return 0.5 if delta == 0 else 0.4 if t < 5e4 else 0.6

    curves = made_up(nc2, lambda delta, t: 1 / t)
    verdict = page.decide_g15(curves, descent.nc2_table(curves))
    assert verdict.outcome == HOLDS and "1e-06, beyond the paper's axis" in verdict.remark


def test_other_starts_are_a_remark():
    def crossing(delta, t):
        return 0.5 if delta == 0 else 0.5 * (t / 1e3) ** 0.1

    usual = made_up(lambda delta, t: 0.5 - 0.1 * (delta > 0), lambda delta, t: 1 / t)
    curves = pd.concat([usual, made_up(crossing, lambda delta, t: 1 / t, spread=1.0)])
    verdict = page.decide_g15(curves, descent.nc2_table(curves))
    assert verdict.outcome == HOLDS
    reversed_at = "; starts of spread 1: interval above 0 at NC1 = 0.0001, 5e-05, 1e-05, 1e-06"
    assert verdict.remark.endswith(reversed_at)


def test_the_slope_of_the_loss_is_compared_start_by_start():
    def gap(delta, t):
        return t ** -(1 if delta == 0 else 2 if delta < 0.3 else 0.8)

    curves = made_up(lambda delta, t: 0.5, gap)
    verdict = page.decide_g16(curves)
    found = {case.name.removeprefix("δ = "): case.outcome for case in verdict.cases}
    assert found == {"0.05": HOLDS, "0.1": HOLDS, "0.2": HOLDS, "0.3": FAILS, "0.4": FAILS}
    reached = descent.first_below(curves, "gap", 1e-3)
    assert reached[START, 0.0, 0] == pytest.approx(1e3, rel=0.05)
    taken = {}
    for delta in (0.0, 0.05):
        first = descent.first_below(curves, "gap", 1e-1)[START, delta]
        taken[delta] = (reached[START, delta] - first).to_numpy()
    logs = np.log(taken[0.05] / taken[0.0])
    low, high = np.exp(stats.t.interval(0.95, 4, loc=logs.mean(), scale=stats.sem(logs)))
    case = verdict.cases[0]
    assert (case.value, case.low, case.high) == pytest.approx((np.exp(logs.mean()), low, high))
    never = page.decide_g16(made_up(lambda delta, t: 0.5, lambda delta, t: 0.5))
    assert never.outcome == UNDECIDED and never.remark == ""


def test_the_condition_number_is_set_beside_the_speed():
    verdict = page.decide_g16(made_up(lambda delta, t: 0.5, tenfold))
    # K - (K - 1)(delta + K eps), K eps = sqrt(K N lambda_W lambda_H) = sqrt(10) 1e-3
    change = 1 - 9 * 0.05 / (10 - 9 * math.sqrt(10) * 1e-3)
    assert verdict.remark.startswith("at δ = 0.05 the loss comes down 10.0 times as fast")
    assert f"changes by only {change - 1:+.1%}" in verdict.remark


# ---- tables


def test_a_metric_that_comes_back_up_has_not_arrived():
    table = made_up(lambda delta, t: 0.5, lambda delta, t: 1.0)
    table["nc3"] = np.where((table.iteration < 5) | (table.iteration > 1e4), 0.01, 1.0)
    reached = descent.first_below(table, "nc3", 0.1)
    assert (reached > 1e4).all() and (reached < 1e5).all()
    assert descent.first_below(table, "nc3", 1e-3).isna().all()
    assert (descent.first_below(table, "nc3", 2.0) == 1).all()


def test_speeds_are_ratios_of_iterations(tables):
    speeds = descent.speed_table(made_up(lambda delta, t: t**-0.5, tenfold))
    gap = speeds[speeds.metric == "gap"].set_index("delta")
    smoothed, plain = gap.loc[0.05], gap.loc[0.0]
    assert smoothed.ratio == pytest.approx(0.1, rel=0.05)
    assert smoothed.low < 0.1 < smoothed.high * 1.05
    assert np.isnan(plain.ratio) and plain.iterations == pytest.approx(1000, rel=0.05)
    interval = f"({smoothed.ratio:.2f} [{smoothed.low:.2f}, {smoothed.high:.2f}])"
    assert page.list_speeds(speeds).rows[0][2] == f"{smoothed.iterations:.0f} {interval}"
    rows = page.list_speeds(tables.speeds).rows
    assert len(rows) == 5 and {len(row) for row in rows} == {1 + len(model.STRENGTHS)}
    assert rows[2][:2] == ["NC1 below 0.0001", "not reached by all"]  # after 800 iterations


def test_summary_has_median_and_quartiles(tables):
    curves, summary = tables.curves, descent.summary_table(tables.curves)
    one = summary[(summary.metric == "nc1") & (summary.delta == 0.1)]
    here = curves[(curves.spread == START) & (curves.delta == 0.1)]
    nc1 = here.groupby("iteration").nc1
    np.testing.assert_allclose(one["median"], nc1.median())
    np.testing.assert_allclose(one.high, nc1.quantile(0.75))


def test_curves_are_what_the_theory_module_computes(tables):
    curves = tables.curves
    assert curves.start.nunique() == 4 and set(curves.delta) == set(model.STRENGTHS)
    assert curves.iteration.max() == 800 and (curves.gap > 0).all()
    assert set(curves[curves.spread != START].delta) == {0.0, SMOOTHED}
    usual = curves[(curves.spread == START) & (curves.iteration == 800)]
    means = usual.groupby("delta")[["gap", "nc1", "nc3"]].mean()
    smoothed, plain = means.loc[0.05:], means.loc[0.0]
    assert (smoothed[["gap", "nc1"]] < plain[["gap", "nc1"]]).all(axis=None)  # sooner
    assert (smoothed.nc3 > plain.nc3).all()  # later


# iterations to NC1 below 1e-2 and 1e-4 that other code found for the same model and steps, medians
# over three starts
FOUND_BEFORE = {0.05: {1e-2: 220, 1e-4: 740}, 0.2: {1e-2: 95, 1e-4: 360}}


def test_the_model_is_that_of_other_code_and_the_variants_are_plain_descent():
    """What other code found, at eight starts and 900 iterations, within what starts differ by;
    momentum and no weight decay against loops.
    """
    cells = [(START, 0.05), (START, 0.2)]
    curves = descent.run_descent(model.dynamics_model(), cells, 8, 900)
    plain = curves[curves.delta == 0.05].assign(delta=0.0)
    speeds = descent.speed_table(pd.concat([curves, plain]))
    for row in speeds[(speeds.metric == "nc1") & (speeds.delta > 0)].itertuples():
        assert row.iterations == pytest.approx(FOUND_BEFORE[row.delta][row.level], rel=0.1)
    small, loss = model.dynamics_model(K=3, n=2, D=4), Loss("ls", 0.1)
    found = descent.run_descent(small, [(0.3, 0.1)], 1, 5, momentum=0.9).set_index("iteration").gap
    x, v = ufm_objective.random_starts(small, 1, 0, 0.3)[0], 0.0
    rate = np.r_[np.full(12, 0.5), np.full(24, 0.5 * 6), np.full(3, 0.5)]
    for _ in range(5):
        v = 0.9 * v + ufm_objective.value_and_gradient(small, loss, x)[1]
        x = x - rate * v
    value = ufm_objective.value_and_gradient(small, loss, x)[0]
    assert found[5] == pytest.approx(value - ufm.minimiser(small, loss).value, rel=1e-9)


def test_without_decay_cross_entropy_stalls(tables, monkeypatch):
    table = tables.undecayed
    assert sorted(set(table.iteration)) == [400, 800]
    assert table.groupby(["delta", "iteration"]).size().eq(4).all()
    last = table[table.iteration == 800].groupby("delta").nc1.median()
    assert last[0.0] > 30 * last[0.05]
    shown = page.list_without_decay(table)
    assert [row[0] for row in shown.rows] == ["0", "0.05"]
    assert shown.rows[0][2] == f"{last[0.0]:.1e}" and {len(row) for row in shown.rows} == {5}
    assert shown.header[1:3] == ["NC1, 400 iterations", "NC1, 800 iterations"]
    # f without weight decay, by autograd: one step of the loop
    free = FeatureModel(10, 8, 12, 0.0, 0.0, 0.0)
    x = torch.tensor(ufm_objective.random_starts(free, 1, 0, 0.3)[0], requires_grad=True)
    logits = x[120:1080].reshape(80, 12) @ x[:120].reshape(10, 12).T + x[1080:]
    labels = torch.arange(10).repeat_interleave(8)
    torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.05).backward()
    steps = torch.full((120,), 0.5), torch.full((960,), 0.5 * 80), torch.full((10,), 0.5)
    end = (x - torch.cat(steps) * x.grad).detach().numpy()
    nc1 = ufm_dynamics.collapse(free, end[None])[0].item()
    monkeypatch.setattr(descent, "STALL_AT", 2)
    found = descent.run_without_decay("smoke")
    first = found[(found.iteration == 1) & (found.delta == 0.05) & (found.start == 0)]
    assert first.nc1.item() == pytest.approx(nc1, rel=1e-9)


def test_variants_are_listed_without_and_with_smoothing(tables):
    speeds = descent.speed_table(made_up(lambda delta, t: t**-0.5, tenfold))
    never = speeds.assign(iterations=np.where(speeds.delta == 0, np.nan, 7), ratio=np.nan)
    rows = page.list_variants({"one": speeds, "two": never}).rows
    assert len(rows) == 5 and rows[0][0] == "f − min f (nats) below 0.001"
    assert {row[2] for row in rows} == {"not reached by all → 7"}
    iterations, ratio = rows[0][1].split(" (")
    before, after = iterations.split(" → ")
    assert float(before) == pytest.approx(1000, rel=0.05)
    assert float(after) == pytest.approx(100, rel=0.05)
    assert ratio.startswith("0.1") and ratio.endswith("])")
    assert list(tables.variants) == ["K = 10", "K = 10, momentum 0.9", "K = 50, momentum 0.9"]
    momentum = list(tables.variants.values())[1:]
    assert all(len(table) == 10 for table in momentum)


# ---- figures


def test_captions_follow_their_tables(tables):
    assert "4.0 (K = 3" in page.describe_rates(tables.rates)
    made = made_up(lambda delta, t: t**-0.5 * (1 if delta == 0 else 2), tenfold)
    made.loc[(made.iteration < 50) & (made.delta == 0.1), "error"] = 0.5
    caption = page.describe_curves(made, descent.speed_table(made))
    sooner, later = caption.split("later: ")
    assert "f − min f (nats) below 0.001 (0.1" in sooner and "NC1" not in sooner
    assert "NC2 below 0.1 (4." in later
    assert caption.endswith("Last recorded training error above 0: 31.6228 (δ = 0.1).")
    caption = page.describe_nc2(descent.nc2_table(made))
    assert "NC2 with smoothing higher (grey) at NC1 = 1, 0.1, 0.03" in caption
    assert "lower" not in caption


@pytest.mark.parametrize(
    "low, high, counts", [(0.5, 0.9, (5, 0)), (1.1, 2.0, (0, 5)), (0.9, 1.1, (0, 0))]
)
def test_levels_that_are_reached_sooner_and_later_are_counted(low, high, counts):
    speeds = pd.DataFrame({"delta": [0.05] * 5 + [0.2], "low": low, "high": high})
    sooner, later = counts
    caption = page.count_sooner(speeds)
    assert f"reaches {sooner} of 5 levels" in caption and f"smoothing, {later} in more" in caption


@pytest.mark.parametrize("name", ["rates", "curves", "nc2_at_nc1"])
def test_figures_are_closed_named_and_drawn_without_a_warning(name, tables):
    arguments = {
        "rates": (tables.rates,),
        "curves": (tables.curves, tables.speeds),
        "nc2_at_nc1": (tables.nc2,),
    }
    figure = getattr(page, f"draw_{name}")(*arguments[name]).drawing
    assert plt.get_fignums() == []
    assert figure.legends or any(axes.get_legend() for axes in figure.axes)
    for axes in (axes for axes in figure.axes if axes.axison):
        assert axes.get_xlabel() and (axes.get_ylabel() or axes.get_title())
