"""NC2 at equal NC1 (F2, G4) on networks whose NC2 is a known line over log NC1."""

import numpy as np
import pandas as pd
import pytest
from guo_tables import made_up_history, texts_of

from lsnc_core.papers.guo import guo_1_dynamics as page
from lsnc_core.papers.guo.equal_nc1 import LEVELS, match_nc2, subtract_nc2
from lsnc_core.papers.guo.measured import main_pair

LOWER = 0.1  # NC2 with smoothing at equal NC1


def lines(nc1_of_ls=1.0):
    """The made-up networks with NC2 = 1 + log10(NC1)/10, less `LOWER` with smoothing, and another
    for each seed.
    """
    table = main_pair(made_up_history()).copy()
    smooth = table.delta > 0
    rank = table.groupby("run").epoch.rank().to_numpy()
    table["nc1"] = 10.0 ** -(rank / 4) * np.where(smooth, nc1_of_ls, 1.0)
    table["nc2"] = 1 + np.log10(table.nc1) / 10 + table.seed / 100 - LOWER * smooth
    return table


def test_levels_lie_where_all_networks_have_been_and_within_the_axis():
    table = lines(nc1_of_ls=0.5)
    matched = match_nc2(table, (1e-2, 1.0))
    overlap = table.groupby("run").nc1.agg(["min", "max"])
    low, high = max(overlap["min"].max(), 1e-2), overlap["max"].min()
    levels = np.sort(matched.nc1.unique())
    assert len(levels) == LEVELS and (levels[0], levels[-1]) == pytest.approx((low, high))
    assert np.diff(np.log(levels)) == pytest.approx(np.log(high / low) / (LEVELS - 1))
    assert match_nc2(table, (10.0, 20.0)).empty


def test_differences_are_those_of_the_lines():
    # different paces: at equal epochs NC2 would differ by more
    differences = subtract_nc2(match_nc2(lines(nc1_of_ls=0.5), (1e-4, 1.0)))
    assert differences.shape == (4, LEVELS)
    assert differences.to_numpy() == pytest.approx(-LOWER)


def test_the_figure_shows_matched_levels_and_their_differences():
    figure = page.draw_f2(lines())
    assert figure.data["title"] == "Guo, NC2 at equal NC1, networks (F2)"
    assert {"NC2", "NC2 of LS − NC2 of CE"} <= texts_of(figure)
    left, right = figure.drawing.axes
    assert left.xaxis_inverted() and right.xaxis_inverted()  # collapse runs to the right
    points = right.containers[0][0].get_xydata()
    assert points[:, 1] == pytest.approx(-LOWER)
    matched = figure.table[figure.table.matched]
    levels = matched[matched.seed.notna()].nc1.unique()  # rows without a seed are the means
    assert points[:, 0] == pytest.approx(np.sort(levels))
    means = "-0.100 at all epochs (NC1 0.56 to 0.0056), -0.100 at epochs from 1% training error on"
    assert means in figure.data["ours"]


def test_too_few_seeds_are_drawn_without_intervals():
    few = pd.concat([part for seed, part in lines().groupby("seed") if seed < 3])
    figure = page.draw_f2(few)
    assert "NC2(LS) − NC2(CE) 3 seeds; an interval needs 4 at all epochs" in figure.data["ours"]
    assert not figure.drawing.axes[1].containers[0].has_yerr
