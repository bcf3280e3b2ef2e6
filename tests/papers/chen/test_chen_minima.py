"""Places of minima and their differences, on made-up tables with known answers."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from chen_runs import COLUMNS, PS, clean_runs, eq11, gamma_argmin, landscape, noisy_runs
from scipy import stats

from lsnc_core.claims import UNDECIDED
from lsnc_core.papers.chen import chen_3_beta
from lsnc_core.papers.chen.grid import PROTOCOLS, agreement, landscape_table
from lsnc_core.papers.chen.minima import (
    argmin_differences,
    argmin_slope,
    find_minima,
    nearest_table,
)

PS_TENTHS = tuple(k / 10 for k in range(1, 11))


def test_the_minima_of_the_formula_itself_are_found_between_the_grid_points():
    rates = (0.3, 0.45, 0.5, 0.6, 0.65, 0.7, 0.8, 0.85, 0.9, 0.95)
    minima = find_minima(landscape(rates=rates, noise=0), "test_loss")
    np.testing.assert_allclose(minima.argmin, rates, atol=1e-9)
    # on a coarse grid as well
    tenths = find_minima(landscape(rates=rates[:-1], ps=PS_TENTHS, noise=0), "test_loss")
    np.testing.assert_allclose(tenths.argmin, rates[:-1], atol=1e-9)
    assert (minima.low <= minima.a + 1e-3).all() and (minima.high >= minima.a - 1e-3).all()
    assert ((minima.high - minima.low) > 0.04).all()  # never finer than the grid


@pytest.mark.parametrize("column", COLUMNS)
def test_minima_are_what_a_direct_computation_gives(column):
    table = landscape(noise=0.02)
    minima = find_minima(table, column)
    assert list(minima.a) == [0.5, 0.8] and list(minima.seeds) == [4, 4]
    assert minima.memorised.all()
    for row in minima.itertuples():
        means = [table[(table.a == row.a) & (table.p == p)][column].mean() for p in PS]
        at = int(np.argmin(means))
        # the theory's form through three points: its minimum divides the two weights
        terms = [[1, -math.log(p), -math.log(1 - p)] for p in PS[at - 1 : at + 2]]
        _, q, rest = np.linalg.solve(terms, means[at - 1 : at + 2])
        assert row.argmin == pytest.approx(q / (q + rest))
        assert row.low <= row.argmin <= row.high


def test_single_seeds_have_a_minimum_but_no_interval():
    minima = find_minima(landscape(rates=(0.5, 0.7), seeds={0.5: 4, 0.7: 1}), "test_loss")
    assert minima.low.notna().tolist() == minima.high.notna().tolist() == [True, False]
    assert minima.argmin.tolist() == pytest.approx([0.5, 0.7], abs=0.03)


@pytest.mark.parametrize("rates", [(0.5,), (0.5, 0.8)])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_diverged_network_leaves_no_interval(rates, value):
    runs = clean_runs(rates=rates)
    hit = (runs.a == 0.5) & (runs.seed == 2) & (runs.p == 0.4) & (runs.epoch == 9)
    assert hit.sum() == 1
    runs.loc[hit, [*COLUMNS, "train_loss"]] = value
    table = landscape_table(runs)
    measured = agreement(table, "test_loss").set_index(["a", "seed"])
    assert not np.isfinite(measured.loc[(0.5, 2), ["error", "residual"]]).any()
    assert np.isnan(measured["rank"][0.5, 2])
    assert np.isfinite(measured.drop((0.5, 2))).all(axis=None)  # no cell is left out in silence
    minima = find_minima(table, "test_loss")
    assert np.isnan(minima.low[0]) and minima.argmin[0] == pytest.approx(0.5, abs=0.03)
    assert nearest_table(table).notna().all(axis=None)


def test_of_nothing_but_diverged_networks_there_is_no_minimum():
    runs = clean_runs(rates=(0.5,))
    runs[[*COLUMNS, "train_loss"]] = math.nan
    assert find_minima(landscape_table(runs), "test_loss").argmin.isna().all()


# differences and slopes


def test_differences_of_argmins_are_those_of_the_curves_and_need_four_finite_seeds():
    table = chen_3_beta.beta_table(noisy_runs(rates=(0.5,), noise=0))
    (row,) = argmin_differences(table, "test_beta", "test_loss").itertuples()
    assert row.difference == pytest.approx(0.5**2 + 0.5**2 / 9 - 0.5, abs=0.01)
    # as far from the difference as both argmins' intervals together
    ends = [next(find_minima(table, column).itertuples()) for column in ("test_beta", "test_loss")]
    below = math.hypot(ends[0].argmin - ends[0].low, ends[1].high - ends[1].argmin)
    assert row.low == pytest.approx(row.difference - below, abs=1e-9) and row.low < row.high
    assert argmin_differences(table[table.seed < 3], "test_beta", "test_loss").empty
    table.loc[0, "test_loss"] = math.nan
    (row,) = argmin_differences(table, "test_beta", "test_loss").itertuples()
    assert math.isnan(row.low)
    assert chen_3_beta.decide_c4(table, "test_loss").outcome == UNDECIDED


def centre(left, right):
    """The mean of p over the log-odds from one kept mass to another."""
    odds = np.linspace(math.log(left / (1 - left)), math.log(right / (1 - right)), 10_001)
    return np.trapezoid(1 / (1 + np.exp(-odds)), odds) / (odds[-1] - odds[0])


def test_an_argmin_that_is_a_bare_grid_point_is_open_to_the_cells_centres_and_up_to_1():
    """p = .95 next to p = 1, where the theory's losses diverge; the grid's first point; p = 1."""
    table = pd.DataFrame(itertools.product(range(4), (0.2, 0.3, 0.7, 0.95, 1.0)))
    table.columns = ["seed", "p"]
    table = table.assign(a=0.5, memorised=True, one=(table.p - 0.95).abs(), other=table.p)
    (row,) = argmin_differences(table, "one", "other").itertuples()
    first, second = centre(0.7, 0.95), centre(0.2, 0.3)  # how far each may lie inside the grid
    low, high = 0.75 - math.hypot(0.95 - first, second - 0.2), 0.75 + 0.05
    assert (row.difference, row.low, row.high) == pytest.approx((0.75, low, high), abs=1e-6)
    same = table.assign(other=table.one)
    (row,) = argmin_differences(same, "one", "other").itertuples()
    width = math.hypot(1 - 0.95, 0.95 - centre(0.7, 0.95))
    assert row.difference == 0 and (row.low, row.high) == pytest.approx((-width, width), abs=1e-6)
    minima = find_minima(table, "one")[["argmin", "low", "high"]].to_numpy()
    assert minima == pytest.approx(np.array([[0.95, centre(0.7, 0.95), 1]]), abs=1e-6)
    # p = 1 is excluded where the seeds tell its loss from the lowest
    assert minima[0, 2] < 1
    noise = table.seed * (table.p == 1) * 0.1 * np.where(table.seed % 2, 1, -1)
    (row,) = find_minima(table.assign(one=table.one + noise), "one").itertuples()
    assert (row.argmin, row.high) == (0.95, 1)
    minima = find_minima(table.assign(falling=-table.p), "falling")[["argmin", "low", "high"]]
    assert minima.to_numpy().tolist() == [[1, 0.95, 1]]


def test_the_slope_of_argmins_is_a_line_through_them_widened_by_what_the_grid_leaves_open():
    # all at grid ends, which are bare: .2 is open above, .9 below, to the centre of the cell
    lowest = {0.2: [0.2] * 4, 0.6: [0.9, 0.9, 0.2, 0.9], 0.8: [0.9] * 4}
    rows = []
    for a, p, seed in itertools.product(lowest, (0.2, 0.3, 0.5, 0.9), range(4)):
        rows.append({"a": a, "p": p, "seed": seed, "value": abs(p - lowest[a][seed])})
    table = pd.DataFrame(rows)
    at = np.array(list(lowest.values()))
    slopes = np.polyfit([0.2, 0.6, 0.8], at, 1)[0]
    below = np.where(at == 0.9, 0.9 - centre(0.5, 0.9), 0)
    above = np.where(at == 0.2, centre(0.2, 0.3) - 0.2, 0)
    # the extreme lines: every argmin where it makes the line least and most steep
    rises = np.array([False, True, True])[:, None]  # which rates lie above the mean, 0.533
    least = np.polyfit([0.2, 0.6, 0.8], np.where(rises, at - below, at + above), 1)[0].mean()
    most = np.polyfit([0.2, 0.6, 0.8], np.where(rises, at + above, at - below), 1)[0].mean()
    half = stats.t.ppf(0.975, 3) * slopes.std(ddof=1) / 2
    expected = slopes.mean(), least - half, most + half
    assert argmin_slope(table, "value") == pytest.approx(expected)
    assert np.isnan(argmin_slope(table[table.a == 0.2], "value")).all()
    table.loc[3, "value"] = math.nan
    assert np.isnan(argmin_slope(table, "value")).all()


# the nearest theory

KINDS = ["alpha", "beta", "gamma"]


def test_the_nearest_theory_is_the_one_the_minima_were_made_from():
    def beta(a, p):
        return eq11(a * a + (1 - a) ** 2 / 9, p)

    rates = (0.5, 0.6, 0.7, 0.8)
    nearest = nearest_table(landscape(rates=rates, measured=beta)).xs("mean", axis=1, level=1)
    assert nearest.loc[KINDS].idxmin().tolist() == ["beta", "beta"]
    assert list(nearest.index) == [*KINDS, "gamma - alpha", "gamma - beta"]
    distance = np.mean([a - a * a - (1 - a) ** 2 / 9 for a in rates])
    assert nearest.loc["alpha"].to_numpy() == pytest.approx(distance, abs=0.02)
    assert (nearest.loc["beta"] < 0.03).all()


def test_the_differences_to_gamma_are_paired():
    nearest = nearest_table(landscape(rates=(0.5, 0.6, 0.7, 0.8)))
    means = nearest.xs("mean", axis=1, level=1)
    assert means.loc[KINDS].idxmin().tolist() == ["alpha", "alpha"]
    for images in PROTOCOLS.values():
        difference = nearest[images].loc["gamma - alpha"]
        assert 0 < difference["low"] < difference["mean"] < difference["high"]
        expected = nearest[images]["mean"]["gamma"] - nearest[images]["mean"]["alpha"]
        assert difference["mean"] == pytest.approx(expected)


def test_what_a_bare_grid_point_leaves_open_widens_the_distance_to_a_theory():
    """All seeds are lowest at the first grid point, p = .5, whose place is known to the centre
    of the cell above.
    """

    def difference(rate):
        settings = {"ps": (0.5, 0.6, 0.9), "noise": 0, "measured": lambda a, p: 1 + p}
        nearest = nearest_table(landscape(rates=(rate,), **settings))
        return nearest["held-out images"].loc["gamma - alpha"]

    row, best = difference(0.7), gamma_argmin(0.7, 10)
    ends = [abs(p - best) - abs(p - 0.7) for p in (0.5, centre(0.5, 0.6))]
    expected = ends[0], min(ends), max(ends)
    assert (row["mean"], row.low, row.high) == pytest.approx(expected, abs=1e-3)
    # below both: the difference does not depend on where
    assert row.high - row.low == pytest.approx(0, abs=1e-9)
    inside = difference(0.56)
    assert inside.high - inside.low == pytest.approx(0, abs=1e-9)
    between = difference(0.52)  # .52 lies within what is open, gamma's .64 beyond
    assert between.high - between.low == pytest.approx(2 * (centre(0.5, 0.6) - 0.52), abs=1e-6)


def test_slopes_and_distances_are_of_the_seeds_that_all_rates_have():
    table = landscape(rates=(0.5, 0.6, 0.7, 0.8), seeds=8)
    shared = table[table.seed < 4]
    uneven = table[(table.seed < 4) | (table.a == 0.8)]
    assert len(shared) < len(uneven) < len(table)
    for column in PROTOCOLS:
        assert argmin_slope(uneven, column) == argmin_slope(shared, column)
    pd.testing.assert_frame_equal(nearest_table(uneven), nearest_table(shared))
    # the minimum at that rate is of all its seeds
    assert find_minima(uneven, "test_loss").set_index("a").seeds[0.8] == 8
