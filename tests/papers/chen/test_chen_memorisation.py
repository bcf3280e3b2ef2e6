"""Equal memorisation: crossings by hand, and a made-up history whose errors are known at each share
of fitted labels.
"""

import math
import re

import numpy as np
import pandas as pd
import pytest
from chen_runs import RECIPE

from lsnc_core.papers.chen.accuracy import accuracy_table
from lsnc_core.papers.chen.memorisation import (
    FITTED,
    draw_equal_memorisation,
    first_crossing,
    memorisation_table,
)


def history(fits_at=8, kept=(0.1, 0.3, 0.9, 1.0), rates=(0.5, 0.8), seeds=4):
    """Networks that fit a share e/fits_at of their noisy labels at epoch e, with a test error of a
    tenth of that share and a loss of twice it.
    """
    rows = []
    for seed in range(seeds):
        for a in rates:
            for p in kept:
                run = {"run": f"{a} {p} {seed}", "data": "mnist-subset", "train_size": 500}
                run |= RECIPE | {"a": a, "p": p, "seed": seed, "epochs": 8, "kept": a}
                for epoch in (1, 2, 4, 8):
                    share = min(1.0, epoch / fits_at)
                    row = {"epoch": epoch, "train_accuracy": share, "train_loss": 1.0}
                    row |= {"test_accuracy": 1 - share / 10, "test_loss": 2 * share}
                    rows.append(run | row | {"clean_train_loss": 1.0})
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


@pytest.mark.parametrize(
    "level, place", [(0.1, 0.0), (0.5, 1.0), (0.75, 1.5), (1.0, 2.0), (1.01, math.nan)]
)
def test_the_first_crossing_is_linear_between_points(level, place):
    found = first_crossing(np.array([0.0, 1.0, 2.0]), np.array([0.25, 0.5, 1.0]), level)
    assert found == pytest.approx(place, nan_ok=True)


def test_a_plateau_is_crossed_where_it_begins():
    assert first_crossing(np.arange(4.0), np.array([0.0, 0.5, 0.5, 1.0]), 0.5) == 1.0


def test_errors_are_those_of_the_epoch_at_which_the_share_is_fitted():
    table = memorisation_table(history())
    assert set(table.p) == {0.3, 0.9, 1.0}  # at 1/M nothing is learned
    assert len(table) == len(FITTED) * 2 * 3 * 4
    # between epochs 4 and 8 share and error are linear in log epoch alike
    np.testing.assert_allclose(table.test_error, table.fitted / 10)
    np.testing.assert_allclose(table.test_loss, 2 * table.fitted)


def test_a_network_that_does_not_get_there_has_no_error():
    table = memorisation_table(history(fits_at=9))  # ends at 8/9
    reached = table.fitted <= 8 / 9
    assert table.test_error[reached].notna().all() and table.test_error[~reached].isna().all()


def test_the_share_counts_when_it_is_first_reached():
    runs = history()
    # the last epoch falls back: what was fitted before stays fitted
    runs.loc[runs.epoch == 8, "train_accuracy"] = 0.2
    runs.loc[runs.epoch == 4, "train_accuracy"] = 0.95
    table = memorisation_table(runs)
    assert table[table.fitted == 0.9].test_error.between(0.025, 0.05).all()
    assert table[table.fitted == 0.99].test_error.isna().all()


def test_the_figure_has_a_panel_for_each_clean_rate_and_a_line_for_each_share():
    runs = history(rates=(0.3, 0.5, 0.6, 0.8, 0.9))
    shown = draw_equal_memorisation(memorisation_table(runs), accuracy_table(runs))
    panels = [axes for axes in shown.drawing.axes if axes.axison]
    assert len(panels) == 4  # from one half on
    for axes in panels:
        labels = [container.get_label() for container in axes.containers]
        assert labels == ["last epoch", "80% fitted", "90% fitted", "99% fitted"]


@pytest.mark.parametrize(("early", "late", "count"), [(0.0, 0.1, 2), (0.1, 0.0, 0), (0.1, 0.1, 0)])
def test_the_caption_says_where_the_error_is_flatter_at_equal_memorisation(early, late, count):
    runs = history()
    slope = np.where(runs.epoch == 8, late, early)  # over p, at the last epoch and before
    runs["test_accuracy"] = 0.9 - slope * runs.p
    runs.loc[runs.epoch == 4, "train_accuracy"] = 0.9
    table, ends = memorisation_table(runs), accuracy_table(runs)
    word = "less" if count else "no less"
    caption = draw_equal_memorisation(table, ends).data["ours"]
    words = f"varies {word} over p where 90% of the noisy labels are fitted than at the last epoch."
    assert caption.startswith(f"At 2 of 2 clean rates the mean test error {words} ")


def test_a_share_that_nothing_fits_is_not_compared():
    runs = history(fits_at=16)
    caption = draw_equal_memorisation(memorisation_table(runs), accuracy_table(runs)).data["ours"]
    assert caption.startswith("At no p all networks fit 90% of their noisy labels. ")
    # the error is the same at all p, so the place of its minimum is the middle of none of them
    places = re.search(r"labels are fitted: (.*) at a = 0.5;", caption)[1].split(", ")
    assert len(places) == 1 + len(FITTED) and places[2:] == ["–", "–"]
