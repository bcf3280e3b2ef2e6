"""The statistics behind verdicts against scipy, exact parabolas and brute force; the list of
notebooks against the folder.
"""

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from lsnc_core import files
from lsnc_core.errors import UsageError
from lsnc_core.papers import claims
from lsnc_core.papers.claims import FAILS, HOLDS, UNDECIDED, Claim, Verdict
from lsnc_core.report import catalog

FINITE = st.floats(-1e3, 1e3, allow_subnormal=False)


# intervals over seeds


@settings(deadline=None)
@given(values=st.lists(FINITE, min_size=2, max_size=12))
def test_t_interval_is_scipys(values):
    mean, low, high = claims.t_interval(values)
    assert mean == pytest.approx(np.mean(values), rel=1e-12, abs=1e-12)
    if np.ptp(values) < 1e-9:  # scipy has no interval without any spread
        assert (low, high) == (pytest.approx(mean, abs=1e-8), pytest.approx(mean, abs=1e-8))
    else:
        expected = stats.t.interval(
            0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values)
        )
        assert (low, high) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_t_interval_covers_the_truth_in_95_of_100_cases():
    samples = np.random.default_rng(0).normal(3, 2, (4000, 4))
    covered = sum(low <= 3 <= high for _, low, high in map(claims.t_interval, samples)) / len(
        samples
    )
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
def test_parabola_argmin_is_exact_on_parabolas(x, vertex, steep, height):
    y = steep * (x - vertex) ** 2 + height
    lowest = int(np.argmin(y))
    assume(np.sum(y == y[lowest]) == 1)
    found = claims.parabola_argmin(x, y)
    if lowest in (0, len(x) - 1):
        assert found == x[lowest]
    else:
        # three numbers around 5 that differ by 0.1 * 1e-6 or more leave 1e-8 or so
        assert found == pytest.approx(vertex, abs=1e-6)
        assert x[lowest - 1] <= found <= x[lowest + 1]


@settings(deadline=None)
@given(x=GRIDS, data=st.data())
def test_parabola_argmin_stays_between_the_neighbours_and_ignores_scale(x, data):
    y = np.array(
        data.draw(st.lists(st.integers(-50, 50), min_size=len(x), max_size=len(x))), dtype=float
    )
    found, lowest = claims.parabola_argmin(x, y), int(np.argmin(y))
    assert x[max(lowest - 1, 0)] <= found <= x[min(lowest + 1, len(x) - 1)]
    assert claims.parabola_argmin(x, 8 * y + 64) == found  # exact in binary
    if 0 < lowest < len(x) - 1 and len({*y[lowest - 1 : lowest + 2]}) == 3:
        a, b, _ = np.polyfit(x[lowest - 1 : lowest + 2], y[lowest - 1 : lowest + 2], 2)
        assert found == pytest.approx(-b / (2 * a), abs=1e-6)


def test_parabola_argmin_at_edges_and_ties():
    x = np.array([0.0, 1.0, 3.0, 4.0])
    assert claims.parabola_argmin(x, np.array([1.0, 2.0, 3.0, 4.0])) == 0
    assert claims.parabola_argmin(x, np.array([4.0, 3.0, 2.0, 1.0])) == 4
    assert (
        claims.parabola_argmin(x, np.array([2.0, 1.0, 1.0, 2.0])) == 2
    )  # halfway between two lowest points
    assert claims.parabola_argmin(x, np.zeros(4)) == 0
    assert claims.parabola_argmin(x, np.array([1.0, 0.0, 0.0, 0.0])) == 2
    assert claims.parabola_argmin(x[:1], np.array([7.0])) == 0
    assert claims.parabola_argmin(x[:2], np.array([7.0, 5.0])) == 1


def by_brute_force(x, curves):
    """All resamples of the seeds one after the other, the vertex by a fit."""
    lowest = []
    for chosen in itertools.product(range(len(curves)), repeat=len(curves)):
        mean = sum(curves[seed] for seed in chosen) / len(curves)
        at = int(np.argmin(mean))
        if 0 < at < len(x) - 1:
            a, b, _ = np.polyfit(x[at - 1 : at + 2] - x[at], mean[at - 1 : at + 2], 2)
            lowest.append(x[at] - b / (2 * a))
        else:
            lowest.append(x[at])
    lowest.sort()

    last, best = len(lowest) - 1, int(np.argmin(sum(curves)))
    left, right = (x[best] + x[max(best - 1, 0)]) / 2, (x[best] + x[min(best + 1, len(x) - 1)]) / 2
    # quantiles rounded outward, widened to the cell of the grid point that is lowest on average
    return min(lowest[math.floor(0.025 * last)], left), max(lowest[math.ceil(0.975 * last)], right)


@pytest.mark.parametrize("seeds", [2, 3, 4])
def test_argmin_interval_is_that_of_all_resamples(seeds):
    generator = np.random.default_rng(seeds)
    x = np.array([0.1, 0.2, 0.4, 0.5, 0.8, 1.0])
    curves = (x - generator.uniform(0.3, 0.7, (seeds, 1))) ** 2 + generator.normal(
        0, 0.01, (seeds, 6)
    )
    found = claims.argmin_interval(x, curves)
    assert found[1:] == pytest.approx(by_brute_force(x, curves), abs=1e-9)
    assert found[0] == claims.parabola_argmin(x, curves.mean(0)) and found[1] < found[2]
    assert claims.argmin_interval(x, curves[::-1])[1:] == pytest.approx(
        found[1:], abs=1e-9
    )  # whichever seed comes first


def test_argmin_interval_of_equal_curves_is_a_cell_and_many_seeds_are_sampled():
    x = np.linspace(0, 1, 11)
    curve = (x - 0.43) ** 2
    assert claims.argmin_interval(x, np.array([curve] * 3)) == pytest.approx((0.43, 0.35, 0.45))
    x = np.linspace(0, 1, 101)
    curves = (x - np.random.default_rng(0).normal(0.5, 0.1, (9, 1))) ** 2
    found = claims.argmin_interval(x, curves)
    assert found == claims.argmin_interval(x, curves)
    # parabolas of one width: the vertex of their mean is the mean of their vertices, whose
    # bootstrap deviation is known
    vertices = np.array([claims.parabola_argmin(x, curve) for curve in curves])
    half = 1.96 * vertices.std() / 3
    assert found == pytest.approx(
        (vertices.mean(), vertices.mean() - half, vertices.mean() + half), abs=0.1 * half
    )


def test_a_minimum_beside_a_point_at_infinity_is_the_grid_point():
    x, curve = np.array([0.0, 1.0, 2.0, np.inf]), np.array([3.0, 2.0, 1.0, 9.0])
    assert claims.parabola_argmin(x, curve) == 2.0
    assert claims.argmin_interval(x, np.array([curve] * 4)) == (2.0, 1.5, np.inf)
    falling = np.array(
        [3.0, 2.0, 1.0, 0.5]
    )  # lowest at infinity itself: the grid cannot tell it from its neighbour
    assert claims.argmin_interval(x, np.array([falling] * 4)) == (np.inf, 2.0, np.inf)


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
        match="an argmin interval needs two or more finite curves over 3 points, got shape",
    ):
        claims.argmin_interval([0.0, 0.5, 1.0], curves)


# verdicts


@pytest.mark.parametrize(
    "low, high, bounds, outcome",
    [
        (0.7, 0.8, (0.6, 0.9), HOLDS), (0.6, 0.9, (0.6, 0.9), HOLDS), (0.59, 0.9, (0.6, 0.9), UNDECIDED),
        (0.6, 0.91, (0.6, 0.9), UNDECIDED),
        (0.5, 1.0, (0.6, 0.9), UNDECIDED), (0.1, 0.59, (0.6, 0.9), FAILS), (0.91, 1.0, (0.6, 0.9), FAILS),
        (0.1, 0.6, (0.6, 0.9), UNDECIDED),
        (0.5, 0.9, (0.6, math.inf), UNDECIDED), (0.7, math.inf, (0.6, math.inf), HOLDS), (0.1, 0.2, (-math.inf, 0.15), UNDECIDED),
        (-math.inf, 0.1, (-math.inf, 0.15), HOLDS), (0.16, 0.2, (-math.inf, 0.15), FAILS), (math.nan, math.nan, (0.6, 0.9), UNDECIDED),
        (math.nan, 0.8, (0.6, 0.9), UNDECIDED), (0.7, math.nan, (0.6, 0.9), UNDECIDED), (-math.inf, math.inf, (0.6, 0.9), UNDECIDED),
    ],
)  # fmt: skip
def test_decide(low, high, bounds, outcome):
    assert claims.decide(low, high, *bounds) == outcome


def test_every_over_all_combinations():
    assert claims.every([]) == UNDECIDED
    for count in (1, 2, 3):
        for outcomes in itertools.product(claims.OUTCOMES, repeat=count):
            expected = (
                FAILS
                if outcomes.count(FAILS)
                else HOLDS
                if outcomes.count(HOLDS) == count
                else UNDECIDED
            )
            assert claims.every(outcomes) == claims.every(list(outcomes)) == expected


def test_a_verdict_has_one_of_three_outcomes():
    claim = Claim("C0", "paper", "place", "sentence", "expected")
    for outcome in claims.OUTCOMES:
        assert Verdict(claim, "here", "1", outcome).outcome == outcome
    for outcome in ("Holds", "", "true", None):
        with pytest.raises(
            UsageError,
            match="an outcome must be one of holds, does not hold, not decidable here, got",
        ):
            Verdict(claim, "here", "1", outcome)


# the list of notebooks


def test_the_catalog_is_the_notebooks_folder():
    names = [notebook.name for notebook in catalog.NOTEBOOKS]
    assert sorted(names) == sorted(
        path.stem for path in (files.PROJECT / "notebooks").glob("*.ipynb")
    )
    assert len(set(names)) == len({notebook.title for notebook in catalog.NOTEBOOKS}) == len(names)


def test_choose_keeps_the_reading_order_and_refuses_unknown_names():
    names = [notebook.name for notebook in catalog.NOTEBOOKS]
    assert [notebook.name for notebook in catalog.choose([])] == names
    assert [notebook.name for notebook in catalog.choose([names[2], names[0], names[2]])] == [
        names[0],
        names[2],
    ]
    with pytest.raises(
        UsageError,
        match=r"there is no notebook 'chen_2_landscap': .*start_here.*; did you mean 'chen_2_landscape'\?",
    ):
        catalog.choose([names[0], "chen_2_landscap"])
    with pytest.raises(UsageError) as caught:
        catalog.choose(["zzz"])
    assert "did you mean" not in str(caught.value) and "'zzz'" in str(caught.value)


def test_the_catalogs_runs_take_its_parameters_by_name():
    from lsnc_core.papers import chen

    by_name = {notebook.name: notebook for notebook in catalog.NOTEBOOKS}
    landscape = by_name["chen_2_landscape"]
    assert landscape.runs(profile="smoke", data_set="") == chen.landscape_notebook_runs("smoke")
    assert landscape.runs(profile="smoke", data_set="mnist-subset")[0].data == "mnist-subset"
    assert set(landscape.run_parameters) == {"profile", "data_set"}
    assert by_name["start_here"].runs(profile="smoke") == []
