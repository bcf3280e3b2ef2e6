"""How often intervals hold a truth that is known; `benchmarks/coverage.py` does so at length.

Each share is compared with its nominal value within what the binomial distribution of so many data
sets allows: all bounds together fail by chance in less than one of 10,000 runs, and the data sets
are always the same.
"""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lsnc_core import claims
from lsnc_core.papers.chen.minima import argmin_differences, argmin_slope, loss_cells

LEVELS = (0.95, 1 - 0.05 / 4)
P = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0])
CHANCE = 1e-6  # of one bound to fail


def assert_share(hits, at_least, at_most=1.0):
    """The share of hits agrees with a probability in [at_least, at_most]."""
    hits = np.asarray(hits)
    count, total = int(hits.sum()), len(hits)
    assert count >= stats.binom.ppf(CHANCE, total, at_least), f"{count} of {total}"
    assert count <= stats.binom.isf(CHANCE, total, at_most), f"{count} of {total}"


def holds(interval, truth):
    return interval[1] <= truth <= interval[2]


def losses(q, seeds, sets, noise=0.05, seed=0, kept=P, rough=0.5):
    """Chen's curve of agreement q for ten classes, with noise that neighbouring p share, as
    measured: between cells it differs by a few hundredths of a nat.
    """
    generator = np.random.default_rng(seed)
    with np.errstate(divide="ignore"):
        curve = -q * np.log(kept) - (1 - q) * np.log((1 - kept) / 9)
    if kept[-1] == 1:
        curve[-1] = 6.0  # a network's loss at p = 1 is large, not infinite
    shared = generator.normal(size=(sets, seeds, 1)) * np.linspace(0, 1.5, len(kept))
    return curve + noise * (shared + rough * generator.normal(size=(sets, seeds, len(kept))))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("seeds", [4, 8])
def test_t_intervals_of_differences_and_of_log_ratios(seeds, level):
    # seeds move both values alike
    generator = np.random.default_rng(0)
    shared, one, other = generator.normal(size=(3, 2000, seeds))
    differences = (2 + shared + 0.5 * one) - (1.5 + shared + 0.5 * other)
    hits = [holds(claims.t_interval(values, level), 0.5) for values in differences]
    assert_share(hits, level, level)
    ratios = np.exp(0.1 * (shared + one)) * 3 / np.exp(0.1 * shared)
    hits = [holds(claims.t_interval(np.log(values), level), math.log(3)) for values in ratios]
    assert_share(hits, level, level)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("seeds", [4, 8])
@pytest.mark.parametrize("q", [0.3, 0.6, 0.9])
def test_argmins_of_curves(q, seeds, level):
    cells, hits = loss_cells(P), []
    for curves in losses(q, seeds, 200):
        hits.append(holds(claims.argmin_interval(P, curves, level, cells), q))
    # at least the level: the grid can be coarser than the noise
    assert_share(hits, level - 0.01)


def percentile_interval(kept, curves, cells):
    """The rule before: percentiles of all resamples of the seeds, widened to the grid."""
    argmins = []
    for chosen in itertools.combinations_with_replacement(range(len(curves)), len(curves)):
        counts = np.bincount(chosen, minlength=len(curves))
        orders = math.factorial(len(curves)) / math.prod(map(math.factorial, counts))
        mean = curves[list(chosen)].mean(0)
        argmins += [claims.curve_argmin(kept, mean, cells)] * round(orders)
    low = np.quantile(argmins, 0.025, method="lower")
    high = np.quantile(argmins, 0.975, method="higher")
    left, right = claims.grid_resolution(kept, int(np.argmin(curves.mean(0))), cells)
    return np.nan, min(low, left), max(high, right)


def test_percentiles_of_four_seeds_would_have_failed():
    """On a grid that is fine beside the noise, so that the grid's cell does not hide it."""
    kept = np.append(np.linspace(0.1, 0.95, 35), 1.0)
    cells, new, old = loss_cells(kept), [], []
    for curves in losses(0.6, 4, 400, kept=kept, rough=0.05):
        new.append(holds(claims.argmin_interval(kept, curves, cells=cells), 0.6))
        old.append(holds(percentile_interval(kept, curves, cells), 0.6))
    assert_share(new, 0.94)
    with pytest.raises(AssertionError):
        assert_share(old, 0.94)


def tabulate(curves, places, kept=P):
    """A table as `papers.chen.minima` reads: (a, seed, p) with the columns of `curves`."""
    shape = next(iter(curves.values())).shape
    index = pd.MultiIndex.from_product([places, range(shape[1]), kept], names=["a", "seed", "p"])
    columns = {name: values.reshape(-1) for name, values in curves.items()}
    return pd.DataFrame(columns, index=index).reset_index().assign(memorised=True)


@pytest.mark.parametrize("a, level", [(0.5, LEVELS[1]), (0.8, LEVELS[0]), (0.95, LEVELS[0])])
def test_differences_of_argmins(a, level):
    q, sets = a * a + (1 - a) ** 2 / 9, 150
    # both curves share most of their noise
    curves = {"one": losses(q, 4, sets, 0.03), "other": losses(a, 4, sets, 0.03)}
    curves["one"] += losses(q, 4, sets, 0.01, seed=1) - losses(q, 4, sets, 0.0)
    found = argmin_differences(tabulate(curves, range(sets)), "one", "other", level=level)
    hits = (found.low <= q - a) & (q - a <= found.high)
    assert_share(hits, level - 0.03)


@pytest.mark.parametrize("a", [0.3, 0.65, 0.9])
def test_differences_of_argmins_on_a_coarse_grid_of_quiet_curves(a):
    """As of many images, where the bias of a parabola would show."""
    q, tenths = a * a + (1 - a) ** 2 / 9, np.arange(1, 11) / 10
    curves = {}
    for name, agreement in (("one", q), ("other", a)):
        curves[name] = losses(agreement, 4, 60, 1e-3, kept=tenths)
    found = argmin_differences(tabulate(curves, range(60), tenths), "one", "other")
    assert_share((found.low <= q - a) & (q - a <= found.high), 0.93)


def test_slopes_of_argmins():
    rates, hits = (0.5, 0.6, 0.7, 0.8, 0.9), []
    simulated = [losses(a, 4, 60, 0.03, seed=round(10 * a)) for a in rates]
    for values in np.stack(simulated, axis=1):
        interval = argmin_slope(tabulate({"loss": values}, rates), "loss")
        hits.append(holds(interval, 1.0))
    assert_share(hits, 0.93)


@pytest.mark.parametrize("correlation", [0.0, 0.6])
def test_rank_correlations(correlation):
    generator, hits = np.random.default_rng(0), []
    truth = 6 / math.pi * math.asin(correlation / 2)  # of normal pairs, Pearson 1907
    for _ in range(600):
        x, error = generator.normal(size=(2, 9))
        y = correlation * x + math.sqrt(1 - correlation**2) * error
        hits.append(holds(claims.rank_interval(x, y), truth))
    assert_share(hits, 0.93, 0.98)


def components(first, second, sets, noise=1.0):
    """Pairs of layouts of four seeds by twelve conditions whose variance components are known."""
    generator = np.random.default_rng(0)
    means = generator.normal(size=(2, 12))
    means -= means.mean(1, keepdims=True)
    means *= np.sqrt([[first], [second]]) / means.std(1, ddof=1, keepdims=True)
    shared = generator.normal(size=(sets, 1, 4, 1))  # what a seed adds to all its conditions
    return means[:, None] + shared + noise * generator.normal(size=(sets, 2, 4, 12))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("first", [0.0, 1.0, 8.0])
def test_ratios_of_components(first, level):
    hits = []
    for one, other in components(first, 8.0, 500):
        interval = claims.component_ratio_interval(one, other, level)
        assert not np.isnan(interval).any() or level > 0.95
        if not np.isnan(interval).any():
            hits.append(holds(interval, first / 8))
    assert len(hits) > 400
    assert_share(hits, level - 0.01)


def test_accuracy_that_does_not_depend_on_p_decides_nothing():
    """Decided are ratios wholly above or below a limit, here every limit from .05 to 20."""
    decided = []
    for one, other in components(0.0, 0.0, 600):
        _, low, high = claims.component_ratio_interval(one, other)
        decided.append(low > 0.05 or high < 20)
    assert_share(decided, 0.0, 0.05)
