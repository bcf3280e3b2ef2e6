"""The statistics behind verdicts against scipy, exact parabolas and brute force; cases and verdicts
by their numbers.
"""

import itertools
import json
import math
import types

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from lsnc_core import claims
from lsnc_core.claims import FAILS, HOLDS, UNDECIDED, Case, Claim, Verdict, decides, intervals
from lsnc_core.errors import UsageError

FINITE = st.floats(-1e3, 1e3, allow_subnormal=False)


# intervals over seeds


@settings(deadline=None)
@given(values=st.lists(FINITE, min_size=2, max_size=12), level=st.sampled_from([0.8, 0.95, 0.99]))
def test_t_interval_is_scipys(values, level):
    mean, low, high = claims.t_interval(values, level)
    assert mean == pytest.approx(np.mean(values), rel=1e-12, abs=1e-12)
    if np.ptp(values) < 1e-9:  # scipy has no interval without any spread
        assert (low, high) == (pytest.approx(mean, abs=1e-8), pytest.approx(mean, abs=1e-8))
    else:
        expected = stats.t.interval(
            level, len(values) - 1, loc=np.mean(values), scale=stats.sem(values)
        )
        assert (low, high) == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert claims.t_interval(values) == claims.t_interval(values, 0.95)


def test_t_interval_covers_the_truth_in_95_of_100_cases():
    samples = np.random.default_rng(0).normal(3, 2, (4000, 4))
    ends = np.array([claims.t_interval(sample) for sample in samples])
    covered = np.mean((ends[:, 1] <= 3) & (ends[:, 2] >= 3))
    # the share of 4000 intervals that cover has this binomial standard deviation
    assert abs(covered - 0.95) < 4 * math.sqrt(0.95 * 0.05 / len(samples))


@pytest.mark.parametrize(
    "values", [[], [1.0], [1.0, math.nan], [1.0, math.inf], [[1.0, 2.0], [3.0, 4.0]]]
)
def test_t_interval_refuses_what_has_no_interval(values):
    with pytest.raises(UsageError, match="an interval needs two or more finite values, got"):
        claims.t_interval(values)


# where a curve is lowest


GRIDS = st.lists(st.integers(0, 1000), min_size=3, max_size=12, unique=True).map(
    lambda x: np.array(sorted(x)) / 1000
)


@settings(deadline=None)
@given(x=GRIDS, vertex=st.floats(0, 1), steep=st.floats(0.1, 100), height=st.floats(-5, 5))
def test_curve_argmin_is_exact_on_parabolas(x, vertex, steep, height):
    y = steep * (x - vertex) ** 2 + height
    lowest = int(np.argmin(y))
    assume(np.sum(y == y[lowest]) == 1)
    argmin = claims.curve_argmin(x, y)
    if lowest in (0, len(x) - 1):
        assert argmin == x[lowest]
    else:
        # three numbers around 5 that differ by 0.1 * 1e-6 or more leave 1e-8 or so
        assert argmin == pytest.approx(vertex, abs=1e-6)
        assert x[lowest - 1] <= argmin <= x[lowest + 1]


@settings(deadline=None)
@given(x=GRIDS, data=st.data())
def test_curve_argmin_stays_between_the_neighbours_and_ignores_scale(x, data):
    y = np.array(
        data.draw(st.lists(st.integers(-50, 50), min_size=len(x), max_size=len(x))), dtype=float
    )
    argmin, lowest = claims.curve_argmin(x, y), int(np.argmin(y))
    assert x[max(lowest - 1, 0)] <= argmin <= x[min(lowest + 1, len(x) - 1)]
    assert claims.curve_argmin(x, 8 * y + 64) == argmin  # exact in binary
    if 0 < lowest < len(x) - 1 and len({*y[lowest - 1 : lowest + 2]}) == 3:
        a, b, _ = np.polyfit(x[lowest - 1 : lowest + 2], y[lowest - 1 : lowest + 2], 2)
        assert argmin == pytest.approx(-b / (2 * a), abs=1e-6)


def test_curve_argmin_at_edges_and_ties():
    x = np.array([0.0, 1.0, 3.0, 4.0])
    assert claims.curve_argmin(x, np.array([1.0, 2.0, 3.0, 4.0])) == 0
    assert claims.curve_argmin(x, np.array([4.0, 3.0, 2.0, 1.0])) == 4
    # half-way between two lowest points
    assert claims.curve_argmin(x, np.array([2.0, 1.0, 1.0, 2.0])) == 2
    assert claims.curve_argmin(x, np.zeros(4)) == 0
    assert claims.curve_argmin(x, np.array([1.0, 0.0, 0.0, 0.0])) == 2
    assert claims.curve_argmin(x[:1], np.array([7.0])) == 0
    assert claims.curve_argmin(x[:2], np.array([7.0, 5.0])) == 1


def slopes_at(place, x, curves):
    """Each curve's slope: the derivative of the parabola through the three grid points whose
    midpoints lie around the place, by a fit.
    """
    middle = int(np.searchsorted((x[1:] + x[:-1]) / 2, place).clip(1, len(x) - 2))
    three = slice(middle - 1, middle + 2)
    return [np.polyval(np.polyder(np.polyfit(x[three], y[three], 2)), place) for y in curves]


def slope_end(x, curves, level, argmin, sign):
    """The first place on one side of the argmin where Student's test finds a slope."""

    def excess(place):
        slopes = slopes_at(place, x, curves)
        return sign * np.mean(slopes) - quantile * stats.sem(slopes)

    quantile = stats.t.ppf((1 + level) / 2, len(curves) - 1)
    places = argmin + sign * np.linspace(0, 0.45, 1000)
    found = next(i for i, place in enumerate(places) if excess(place) > 0)
    return optimize.brentq(excess, places[found - 1], places[found])


def resampled_ends(x, curves, level):
    """The expanded percentile interval from all ordered resamples, one after the other."""
    seeds = len(curves)
    resampled = itertools.product(range(seeds), repeat=seeds)
    argmins = sorted(claims.curve_argmin(x, curves[list(chosen)].mean(0)) for chosen in resampled)
    # Hesterberg's quantiles of the 95 % interval: less than such a share of the resamples beyond
    wide = stats.t.ppf(0.975, seeds - 1) * math.sqrt(seeds / (seeds - 1))
    beyond = math.ceil(stats.norm.sf(wide) * len(argmins)) - 1
    argmin = claims.curve_argmin(x, curves.mean(0))
    # any other level by the ratio of Student's quantiles
    ratio = stats.t.ppf((1 + level) / 2, seeds - 1) / stats.t.ppf(0.975, seeds - 1)
    low, high = argmins[beyond], argmins[-1 - beyond]
    return argmin - ratio * (argmin - low), argmin + ratio * (high - argmin)


@pytest.mark.parametrize("level", [0.8, 0.95, 1 - 0.05 / 4])
@pytest.mark.parametrize("seeds", [3, 4, 5])
def test_an_argmin_interval_holds_where_no_slope_is_found_and_the_resamples(seeds, level):
    generator = np.random.default_rng(seeds)
    x = np.linspace(0, 1, 41) ** 1.3
    vertices = generator.normal(0.5, 0.1 if seeds > 3 else 0.03, (seeds, 1))
    curves = (x - vertices) ** 2 + generator.normal(0, 0.0003, (seeds, len(x)))
    argmin, low, high = claims.argmin_interval(x, curves, level)
    assert argmin == claims.curve_argmin(x, curves.mean(0))
    first, last = resampled_ends(x, curves, level)
    first = min(first, slope_end(x, curves, level, argmin, -1))
    last = max(last, slope_end(x, curves, level, argmin, 1))
    assert last - first > 0.05  # wider than a cell
    assert (low, high) == pytest.approx((first, last), abs=1e-5)
    # whichever seed comes first, whatever the unit and the direction of the grid
    turned = claims.argmin_interval(x, curves[::-1], level)
    assert turned == pytest.approx((argmin, low, high), abs=1e-9)
    mirrored = claims.argmin_interval(-x[::-1], 7 * curves[:, ::-1] + 3, level)
    assert mirrored == pytest.approx((-argmin, -high, -low), abs=1e-9)


@pytest.mark.parametrize("seeds", [8, 9])
def test_the_resamples_of_many_seeds_are_enumerated_or_drawn_alike(seeds):
    """Each seed is in a resample once on average, and so are the probabilities."""
    counts, shares = intervals._resamples(seeds)
    assert shares.sum() == pytest.approx(1) and (counts.sum(1) == seeds).all()
    assert shares @ counts == pytest.approx(np.ones(seeds), abs=0.05)
    assert shares @ (counts - 1) ** 2 == pytest.approx(np.full(seeds, 1 - 1 / seeds), abs=0.1)


def test_an_argmin_interval_of_parabolas_of_one_width_holds_the_t_interval_and_all_vertices():
    x, vertices = np.linspace(0, 1, 101), np.array([0.4, 0.45, 0.5, 0.6])
    curves = (x - vertices[:, None]) ** 2
    mean, low, high = claims.t_interval(vertices)
    expected = mean, min(low, 0.4), max(high, 0.6)
    assert claims.argmin_interval(x, curves) == pytest.approx(expected, abs=1e-6)


def test_argmin_interval_of_equal_curves_is_a_cell_and_of_flat_ones_the_grid():
    x = np.linspace(0, 1, 11)
    curves = np.array([(x - 0.43) ** 2] * 3)
    assert claims.argmin_interval(x, curves) == pytest.approx((0.43, 0.35, 0.45))
    assert claims.argmin_interval(x, np.zeros((3, 11))) == (0, 0, 1)
    # too few points for a fit
    assert claims.argmin_interval([2.0], [[7.0], [8.0]]) == (2, 2, 2)
    assert claims.argmin_interval([2.0, 4.0], [[7.0, 3.0], [8.0, 4.0]]) == (4, 3, 4)


def test_a_second_minimum_beyond_a_significant_rise_is_not_in_the_interval():
    x, noise = np.arange(9.0), 0.01 * np.random.default_rng(0).normal(size=(4, 9))
    curves = np.array([3.0, 2, 1, 2, 3, 2.1, 1.1, 2.1, 3.1]) + noise
    argmin, low, high = claims.argmin_interval(x, curves)
    assert 1.5 <= low < argmin < high < 2.6


# the last cell is of infinite length: its slope cannot be known
UNENDING = claims.Cells(np.array([1.0, 1.0, 1.0, np.inf]), np.array([0.4, 1.4, 2.4, np.nan]))


def test_a_minimum_beside_a_cell_of_infinite_length_lies_anywhere_in_it():
    x = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    before = np.array([[4.0, 3.0, 2.0, 1.0, 9.0]] * 4)
    assert claims.curve_argmin(x, before[0], UNENDING) == 3
    assert claims.argmin_interval(x, before, cells=UNENDING) == (3, 2.4, 4)
    at_the_end = np.array([[4.0, 3.0, 2.0, 1.0, 0.5]] * 4)
    assert claims.curve_argmin(x, at_the_end[0], UNENDING) == 4
    assert claims.argmin_interval(x, at_the_end, cells=UNENDING) == (4, 3, 4)
    # elsewhere the slope is linear between the cells' centres: -1 at 1.4 and +1 at 2.4
    inside = np.array([[4.0, 3.0, 2.0, 3.0, 9.0]] * 4)
    assert claims.curve_argmin(x, inside[0], UNENDING) == pytest.approx(1.9)
    interval = claims.argmin_interval(x, inside, cells=UNENDING)
    assert interval == pytest.approx((1.9, 1.4, 2.4))


def test_where_no_rise_is_significant_the_interval_reaches_the_end_of_the_grid():
    x = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    curves = np.array(
        [[3.0, 2.0, 1.0, 1.2, 9.0], [3.1, 2.1, 1.1, 0.8, 9.1], [3.0, 2.0, 1.0, 1.1, 9]]
    )
    argmin, low, high = claims.argmin_interval(x, curves, cells=UNENDING)
    assert 1.4 <= low < argmin < high == 4


def test_the_resolution_of_a_grid():
    x = np.array([0.0, 1.0, 3.0, 4.0])
    places = [claims.grid_resolution(x, at) for at in range(4)]
    assert places == [(0, 0.5), (0.5, 2), (2, 3.5), (3.5, 4)]
    x = np.arange(5.0)
    places = [claims.grid_resolution(x, at, UNENDING) for at in range(5)]
    assert places == [(0, 0.4), (0.4, 1.4), (1.4, 2.4), (2.4, 4), (3, 4)]


@pytest.mark.parametrize(
    "curves",
    [
        [[1.0, 2.0, 3.0]],
        [[1.0, 2.0], [1.0, 2.0]],
        [[1.0, 2.0, math.nan]] * 2,
        [[1.0, 2.0, math.inf]] * 2,
        [1.0, 2.0, 3.0],
    ],
)
def test_argmin_interval_refuses_what_has_no_interval(curves):
    with pytest.raises(
        UsageError,
        match="an argmin interval needs two or more finite curves over 3 rising points, got",
    ):
        claims.argmin_interval([0.0, 0.5, 1.0], curves)


@pytest.mark.parametrize("level", [0.95, 0.99])
@pytest.mark.parametrize("n", [5, 9, 40])
def test_rank_interval_is_bonett_and_wrights_by_another_road(n, level):
    generator = np.random.default_rng(n)
    x = generator.normal(size=n)
    y = x + generator.normal(size=n)
    r, low, high = claims.rank_interval(x, y, level)
    assert r == pytest.approx(stats.pearsonr(stats.rankdata(x), stats.rankdata(y)).statistic)
    # in atanh(r) the interval is symmetric, with this half-width
    half = stats.norm.ppf((1 + level) / 2) * math.sqrt((1 + r**2 / 2) / (n - 3))
    assert (math.atanh(low), math.atanh(high)) == pytest.approx(
        (math.atanh(r) - half, math.atanh(r) + half)
    )


def test_rank_interval_of_a_perfect_order_stays_within_one():
    r, low, high = claims.rank_interval(np.arange(9), np.arange(9) ** 3)
    assert r == pytest.approx(1) and 0.9 < low <= high <= 1


# components of variance


def mean_covariance(values):
    """The covariance over conditions of two seeds, averaged over all pairs of seeds: what seeds
    share over conditions is no noise.
    """
    pairs = itertools.combinations(values, 2)
    return np.mean([np.cov(one, other)[0, 1] for one, other in pairs])


@pytest.mark.parametrize("shape", [(2, 2), (4, 12), (8, 3)])
def test_the_variance_component_is_the_mean_covariance_of_two_seeds(shape):
    values = np.random.default_rng(0).normal(size=shape)
    assert claims.variance_component(values) == pytest.approx(mean_covariance(values))
    # what a seed adds to all its conditions is another matter
    moved = values + np.arange(shape[0])[:, None]
    assert claims.variance_component(moved) == pytest.approx(claims.variance_component(values))
    groups = [claims.variance_component(part) for part in (values, 3 * values)]
    together = claims.variance_component(np.array([values, 3 * values]))
    assert together == pytest.approx(np.mean(groups))


def test_the_variance_component_of_noise_is_zero_on_average_and_that_of_means_their_variance():
    generator, means = np.random.default_rng(0), np.array([0.0, 1.0, 5.0])
    noise = generator.normal(size=(4000, 4, 3))
    for truth, values in ((0.0, noise), (means.var(ddof=1), noise + means)):
        estimates = np.array([claims.variance_component(part) for part in values])
        assert abs(estimates.mean() - truth) < 4 * estimates.std() / math.sqrt(len(values))


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_the_ratio_of_components_is_what_students_test_does_not_exclude(level):
    generator = np.random.default_rng(1)
    means = generator.normal(size=(2, 9))
    one, other = means[:, None] * [[[1.0]], [[2.0]]] + generator.normal(0, 0.4, (2, 5, 9))
    ratio, low, high = claims.component_ratio_interval(one, other, level)
    assert ratio == pytest.approx(mean_covariance(one) / mean_covariance(other))
    pseudo = []
    for values in (one, other):
        left = [mean_covariance(np.delete(values, seed, 0)) for seed in range(5)]
        pseudo.append(5 * mean_covariance(values) - 4 * np.array(left))
    for end in (low, high):  # where the test just excludes
        assert 0 < end < 2
        p = stats.ttest_1samp(pseudo[0] - end * pseudo[1], 0).pvalue
        assert p == pytest.approx(1 - level)
    assert low < ratio < high


def test_a_ratio_to_nothing_but_noise_is_open_and_one_of_noise_reaches_down_to_zero():
    generator = np.random.default_rng(0)
    noise, means = generator.normal(size=(4, 9)), 10 * np.arange(9)
    assert np.isnan(claims.component_ratio_interval(noise, generator.normal(size=(4, 9)))).all()
    assert np.isnan(claims.component_ratio_interval(np.zeros((4, 9)), np.zeros((4, 9)))).all()
    ratio, low, high = claims.component_ratio_interval(noise, noise + means)
    assert low == 0 <= ratio <= high < 0.1


@pytest.mark.parametrize(
    "values", [np.zeros(3), np.zeros((1, 3)), np.zeros((4, 1)), [[1.0, 2.0], [3.0, math.nan]]]
)
def test_what_has_no_variance_component(values):
    with pytest.raises(UsageError, match="a variance component needs finite values of 2 or more"):
        claims.variance_component(values)


def test_what_has_no_ratio_of_components():
    with pytest.raises(UsageError, match="needs finite values of 3 or more seeds by two or more"):
        claims.component_ratio_interval(np.zeros((2, 3)), np.zeros((2, 3)))
    with pytest.raises(UsageError, match="a ratio needs the same seeds, got 4 and 5"):
        claims.component_ratio_interval(np.zeros((4, 3)), np.zeros((5, 3)))


# decisions


INF, NAN = math.inf, math.nan
BETWEEN, ABOVE, BELOW = (0.6, 0.9), (0.6, INF), (-INF, 0.15)


@pytest.mark.parametrize(
    "low, high, bounds, outcome",
    [
        *((0.7, 0.8, BETWEEN, HOLDS), (0.6, 0.9, BETWEEN, HOLDS)),
        *((0.59, 0.9, BETWEEN, UNDECIDED), (0.6, 0.91, BETWEEN, UNDECIDED)),
        *((0.5, 1.0, BETWEEN, UNDECIDED), (0.1, 0.6, BETWEEN, UNDECIDED)),
        *((0.1, 0.59, BETWEEN, FAILS), (0.91, 1.0, BETWEEN, FAILS)),
        *((0.5, 0.9, ABOVE, UNDECIDED), (0.7, INF, ABOVE, HOLDS)),
        *((0.1, 0.2, BELOW, UNDECIDED), (-INF, 0.1, BELOW, HOLDS), (0.16, 0.2, BELOW, FAILS)),
        *((NAN, NAN, BETWEEN, UNDECIDED), (NAN, 0.8, BETWEEN, UNDECIDED)),
        *((0.7, NAN, BETWEEN, UNDECIDED), (-INF, INF, BETWEEN, UNDECIDED)),
    ],
)
def test_decide(low, high, bounds, outcome):
    assert claims.decide(low, high, *bounds) == outcome


def combinations():
    for count in (1, 2, 3, 4):
        yield from itertools.product(claims.OUTCOMES, repeat=count)


def test_every_over_all_combinations():
    assert claims.every([]) == UNDECIDED
    for outcomes in combinations():
        expected = HOLDS if set(outcomes) == {HOLDS} else UNDECIDED
        if FAILS in outcomes:
            expected = FAILS
        assert claims.every(outcomes) == claims.every(list(outcomes)) == expected


def test_most_over_all_combinations():
    """The answer is settled when no outcome of the open cases could change it."""
    assert claims.most([]) == UNDECIDED
    for outcomes in combinations():
        least, open_ = outcomes.count(HOLDS), outcomes.count(UNDECIDED)
        possible = {2 * holding > len(outcomes) for holding in range(least, least + open_ + 1)}
        expected = {(True,): HOLDS, (False,): FAILS}.get(tuple(possible), UNDECIDED)
        assert claims.most(outcomes) == claims.most(list(outcomes)) == expected


# cases


NUMBERS = st.floats(-10, 10, allow_nan=False)


@settings(deadline=None)
@given(ends=st.tuples(NUMBERS, NUMBERS), bounds=st.tuples(NUMBERS, NUMBERS))
def test_the_outcome_of_a_case_follows_from_its_numbers(ends, bounds):
    (low, high), (at_least, at_most) = sorted(ends), sorted(bounds)
    case = Case("here", "error", (low + high) / 2, low, high, at_least, at_most)
    assert case.outcome == claims.decide(low, high, at_least, at_most)
    assert Case("here", "error", low, low, high, at_least, at_most, undecided="few").outcome == (
        UNDECIDED
    )


def test_a_case_without_numbers_is_open_and_tells_why():
    assert Case("here", "error").outcome == UNDECIDED
    assert Case("here", "error").text == "error: not measured"
    assert Case("here", "error", undecided="2 seeds").text == "2 seeds"


def test_a_case_shows_its_numbers_with_unit_and_remarks():
    case = Case("here", "loss", 0.5, 0.25, 0.75, unit="nats", form=".2f", remark="on digits")
    assert case.text == "loss 0.50 [0.25, 0.75] nats; on digits"
    exact = Case.exact("here", "violations", 3, at_most=0, form=".0f")
    assert (exact.text, exact.level, exact.outcome) == ("violations 3", None, FAILS)


def test_a_case_as_data_is_strict_json_with_its_numbers():
    case = Case("a = 0.8", "argmin", 1 / 3, 0.1, math.inf, at_least=0.2, unit="nats")
    data = json.loads(json.dumps(case.to_dict(), allow_nan=False))
    assert data["value"] == 1 / 3 and data["low"] == 0.1 and data["at_least"] == 0.2
    assert data["high"] is None and data["at_most"] is None  # infinite
    assert data["level"] == claims.LEVEL and data["unit"] == "nats"
    assert data["outcome"] == case.outcome and data["text"] == case.text
    assert data["deciding"] is True and data["undecided"] == ""


def test_a_case_over_seeds_is_the_t_interval():
    values = [0.10, 0.12, 0.11, 0.13]
    case = claims.seed_case("here", "error", values, at_most=0.15, unit="nats", form=".2f")
    assert (case.value, case.low, case.high) == claims.t_interval(values)
    assert (case.outcome, case.unit, case.form) == (HOLDS, "nats", ".2f")


def test_a_case_of_logarithms_is_shown_without_them():
    logs = np.log([2.0, 2.2, 1.9, 2.1])
    case = claims.seed_case("here", "ratio", logs, log=True, at_least=1)
    assert (case.value, case.low, case.high) == pytest.approx(np.exp(claims.t_interval(logs)))
    assert case.outcome == HOLDS


def test_a_case_keeps_within_the_bounds_of_its_quantity():
    values = [0.99, 1.0, 0.9, 0.95]
    assert claims.t_interval(values)[2] > 1
    case = claims.seed_case("here", "rank", values, within=(-1, 1), at_least=0.5, at_most=1)
    assert case.high == 1 and case.outcome == HOLDS


def test_what_a_grid_leaves_open_widens_a_case():
    values = [0.10, 0.12, 0.11, 0.13]
    mean, low, high = claims.t_interval(values)
    open_range = [0.0, 0.02, 0.0, 0.02], [0.1] * 4
    case = claims.seed_case("here", "error", values, at_most=0.2, unresolved=open_range)
    assert (case.value, case.low, case.high) == pytest.approx((mean, low - 0.01, high + 0.1))
    assert case.outcome == UNDECIDED and mean < high < 0.2


@pytest.mark.parametrize(
    "values, words",
    [
        ([], "0 seeds; an interval needs 4"),
        ([1.0, 2.0, 3.0], "3 seeds; an interval needs 4"),
        ([1.0, 2.0, 3.0, math.nan], "error is not finite for every seed"),
        ([1.0, 2.0, 3.0, math.inf], "error is not finite for every seed"),
    ],
)
def test_a_case_over_too_few_or_odd_values_is_open(values, words):
    case = claims.seed_case("here", "error", values, at_most=5)
    assert case.outcome == UNDECIDED and words in case.text
    assert math.isnan(case.value) and case.at_most == 5


# verdicts


CLAIM = Claim("X0", "paper", "place", "sentence", "expected", "It was finer.")


def exact(name, value, **more):
    return Case.exact(name, "error", value, at_most=1, **more)


def test_a_verdict_combines_the_outcomes_of_its_deciding_cases():
    good, bad, detail = exact("a", 0), exact("b", 2), exact("c", 2, deciding=False)
    open_ = Case("d", "error")
    assert Verdict(CLAIM, "here", [good, detail]).outcome == HOLDS
    assert Verdict(CLAIM, "here", [good, bad, open_]).outcome == FAILS
    assert Verdict(CLAIM, "here", [good, open_]).outcome == UNDECIDED
    assert Verdict(CLAIM, "here", [good, good, bad], rule="most").outcome == HOLDS
    assert Verdict(CLAIM, "here").outcome == UNDECIDED
    with pytest.raises(UsageError, match="a rule must be one of every, most, got 'any'"):
        Verdict(CLAIM, "here", rule="any")


def test_cases_without_a_name_do_not_stand_beside_named_ones():
    named, detail = exact("a", 0), exact("", 2, deciding=False)
    with pytest.raises(UsageError, match="either every deciding case of a verdict has a name or"):
        Verdict(CLAIM, "here", [exact("", 0), named])
    assert Verdict(CLAIM, "here", [named, detail]).outcome == HOLDS


def test_a_verdict_groups_cases_by_name_and_outcome():
    cases = [
        exact("a = 0.5", 0),
        exact("a = 0.5", 2),
        exact("a = 0.8", 0),
        exact("a = 0.9", 0.5),
        exact("a = 1", 2, deciding=False),
    ]
    verdict = Verdict(CLAIM, "here", cases, remark="four seeds", decider="a GPU")
    assert verdict.measured == "holds at a = 0.8, 0.9; does not hold at a = 0.5\nfour seeds"
    nothing = Verdict(CLAIM, "here", decider="a GPU")
    assert nothing.measured == "what would decide it: a GPU"


def test_a_verdict_as_data_has_all_of_its_claim_and_cases():
    verdict = Verdict(CLAIM, "here", [exact("a", 0), exact("b", 2)])
    data = json.loads(json.dumps(verdict.to_dict(), allow_nan=False))
    expected = {"id": "X0", "paper": "paper", "place": "place", "sentence": "sentence"}
    expected |= {"expected": "expected", "changed": "It was finer.", "tried_on": "here"}
    expected |= {"outcome": FAILS, "measured": verdict.measured}
    expected |= {"premises": [], "scale": []}
    expected |= {"rule": "every", "cases": [case.to_dict() for case in verdict.cases]}
    expected |= {"by_construction": ""}
    assert data == expected


def test_a_claim_is_bound_to_the_function_that_decides_it():
    @decides(CLAIM)
    def decide_x0(claim, value):
        return Verdict(claim, "here", [exact("a", value)])

    @decides(CLAIM)
    def decide_again(claim, value):
        return Verdict(claim, "there", [exact("a", value)])

    verdict = decide_x0(2)
    assert verdict.claim is CLAIM and verdict.outcome == FAILS and verdict.changed == CLAIM.changed
    module = types.SimpleNamespace(one=decide_x0, two=decide_again, other=CLAIM)
    assert claims.claims_in(module) == [CLAIM]
