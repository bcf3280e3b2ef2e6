"""Equal accuracy under four losses: tables against brute force, the spread's interval against
simulation, verdicts both ways, figures.
"""

import doctest
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from zhou_tables import make_grid

from lsnc_core.claims import FAILS, HOLDS, UNDECIDED
from lsnc_core.papers.zhou import networks, spread
from lsnc_core.papers.zhou import zhou_2_equal_accuracy as page
from lsnc_core.papers.zhou.networks import LOSSES


@pytest.mark.parametrize("module", [page, spread])
def test_doctests(module):
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("profile", ["quick", "paper"])
def test_the_page_trains_the_whole_grid_and_its_last_cell_with_half_the_schedule(profile):
    planned = page.plan_runs(profile, "digits", 0.05)
    grid, halved = (
        plan(profile, "digits", 0.05) for plan in (networks.grid_runs, networks.halved_runs)
    )
    assert len(set(planned)) == len(planned) and set(planned) == {*grid, *halved}


def select(accuracy, widths, epochs, seeds=4):
    """The selected rows of a made-up grid."""
    return make_grid(accuracy, widths, epochs, seeds).selected


# tables


def test_a_network_is_measured_at_the_first_epoch_of_its_best_validation_accuracy():
    columns = {
        "width": 1.0,
        "epochs": 9,
        "loss": ["CE"] * 4 + ["LS"] * 4,
        "seed": 0,
        "epoch": [9, 1, 3, 5] * 2,
        "validation_accuracy": [80.0, 10.0, 90.0, 90.0, 50.0, 10.0, 20.0, 30.0],
        "test_accuracy": np.arange(8.0),
    }
    found = page.select_epochs(pd.DataFrame(columns))
    assert found.loss.tolist() == ["CE", "LS"]
    assert found.epoch.tolist() == [3, 9] and found.test_accuracy.tolist() == [2.0, 4.0]


def test_cells_are_means_gaps_and_variances_over_the_seeds_that_all_cells_have():
    draws = np.random.default_rng(0)
    table = select(lambda *_: 90 + draws.standard_normal(), (4, 8), (10, 20))
    extra = (table.seed == 3) & ~((table.width == 1) & (table.epochs == 20))
    grid = page.cell_table(table[~extra])
    cells = list(zip(grid.width, grid.epochs, strict=True))
    assert cells == [(0.5, 10), (0.5, 20), (1.0, 10), (1.0, 20)]
    for row in grid.itertuples():
        part = table[(table.width == row.width) & (table.epochs == row.epochs) & (table.seed < 3)]
        accuracy = part.set_index(["loss", "seed"]).test_accuracy.to_dict()
        values = list(accuracy.values())
        assert len(values) == 12 and row.variance == pytest.approx(np.var(values, ddof=1))
        for loss in LOSSES:
            mean = np.mean([accuracy[loss, seed] for seed in range(3)])
            assert getattr(row, f"accuracy_{loss}") == pytest.approx(mean)
        gaps = [abs(accuracy["CE", seed] - accuracy["FL", seed]) for seed in range(3)]
        assert row.gap_FL == pytest.approx(np.mean(gaps))
    text = page.describe_corners(grid)
    assert "at width 0.5 and 10 epochs" in text and "at width 1 and 20 epochs" in text


# the spread's interval


def test_the_spreads_interval_covers_all_differences_at_once_in_95_percent_of_simulations():
    draws = np.random.default_rng(0)
    values = draws.standard_normal((4, 4))
    found = spread.compute_spread(values)
    left = values - values.mean(1, keepdims=True) - values.mean(0) + values.mean()
    factor = (found.high - found.value) / np.sqrt((left**2).sum() / 9)
    # the printed tables' q(0.95; 4, 9), by the root of four seeds
    assert 2 * factor == pytest.approx(4.415, abs=2e-3)
    assert found.value == pytest.approx(np.ptp(values.mean(0)))
    assert found.low == max(0, 2 * found.value - found.high)
    # no loss better, seeds very different
    noise = draws.standard_normal((40000, 4, 4))
    samples = noise + 5 * draws.standard_normal((40000, 4, 1))
    left = samples - samples.mean(2, keepdims=True) - samples.mean(1, keepdims=True)
    left += samples.mean((1, 2), keepdims=True)
    ranges, deviation = np.ptp(samples.mean(1), axis=1), np.sqrt((left**2).sum((1, 2)) / 9)
    assert (ranges <= factor * deviation).mean() == pytest.approx(0.95, abs=0.004)
    # what 2 standard errors of a difference of two means are worth, for a best and a worst picked
    # after the fact
    beyond = ranges > 2 * deviation * np.sqrt(1 / 4 + 1 / 4)
    assert beyond.mean() == pytest.approx(found.chance, abs=0.007)
    error = np.diff(samples[..., :2].mean(1), axis=1).std()
    squares = [spread.compute_spread(sample).error ** 2 for sample in samples[:500]]
    assert math.sqrt(np.mean(squares)) == pytest.approx(error, rel=0.05)


# claims


def make_corners(small, large, noise=0.02, seeds=4, widths=(4, 16), epochs=(10, 160), **settings):
    """A grid whose losses differ by `small` points in its first cell and by `large` in its last."""
    draws = np.random.default_rng(1)

    def accuracy(width, length, loss, seed):
        apart = small if (width, length) == (widths[0] / 8, epochs[0]) else large
        return 90 + seed + apart * (loss == "MSE") + noise * draws.standard_normal()

    return make_grid(accuracy, widths, epochs, seeds, **settings)


def decide_z_c3(tables):
    return page.decide_z_c3(tables.selected, tables.ends, tables.halved)


@pytest.mark.parametrize(
    ("table", "outcomes"),
    [
        ({"small": 2, "large": 0.1}, (HOLDS, HOLDS, HOLDS)),
        ({"small": 2, "large": 1}, (FAILS, HOLDS, FAILS)),
        ({"small": 0.1, "large": 2}, (FAILS, FAILS, FAILS)),
        ({"small": 0.1, "large": 0.4}, (FAILS, FAILS, HOLDS)),
        ({"small": 2, "large": 2}, (FAILS, UNDECIDED, FAILS)),
        ({"small": 2, "large": 0.9, "noise": 1}, (UNDECIDED, UNDECIDED, UNDECIDED)),
    ],
)
def test_z_c3_asks_for_a_spread_that_falls_and_ends_small(table, outcomes):
    verdict = decide_z_c3(make_corners(**table))
    assert (verdict.outcome, *(case.outcome for case in verdict.cases)) == outcomes
    assert "width 2, 160 epochs against width 0.5, 10 epochs" in verdict.tried_on
    assert "2 standard errors" in verdict.cases[1].text and verdict.cases[1].at_most == page.EQUAL
    assert not verdict.unmet
    sizes = {scale.name: scale.text for scale in verdict.scale}
    assert sizes["steps"] == "steps 3,200 (paper 360,000)" and sizes["seeds"] == "seeds 4 (paper 3)"


@pytest.mark.parametrize(
    ("small", "large", "observed"), [(2, 0.1, "as claimed"), (2, 1, "not as claimed")]
)
def test_z_c3_is_open_where_large_networks_do_not_fit_or_training_has_not_ended(
    small, large, observed
):
    tables = make_corners(small, large)
    ends = tables.ends.copy()
    ends.loc[ends.index[3], "train_accuracy"] = 99.85
    verdict = page.decide_z_c3(tables.selected, ends, tables.halved)
    assert verdict.outcome == UNDECIDED
    assert verdict.measured.startswith("premise not met: lowest accuracy on the training images")
    assert f"observed: {observed}" in verdict.measured
    # under one loss the accuracy has just grown by 0.6 points
    last = tables.selected[tables.selected.epochs == 160]
    halved = last[last.width == 2].assign(epochs=80)
    halved.loc[halved.loss == "LS", "test_accuracy"] -= 0.6
    verdict = page.decide_z_c3(tables.selected, tables.ends, halved)
    assert verdict.outcome == UNDECIDED
    (unmet,) = verdict.unmet
    assert unmet.name.startswith("training ended") and unmet.value == pytest.approx(0.6)
    assert f"observed: {observed}" in verdict.measured
    # of other seeds nothing is known
    verdict = page.decide_z_c3(tables.selected, tables.ends, halved.assign(seed=9))
    assert verdict.outcome == UNDECIDED and math.isnan(verdict.unmet[0].value)


def test_z_c3_takes_the_range_of_means_over_seeds_and_both_cells_errors_for_its_change():
    def accuracy(width, length, loss, seed):
        if length == 10:
            return 90 + (1.0 + seed) * (loss == "MSE")
        # in the last cell every seed has another best loss, and all losses one mean
        return 90 + 2.0 * (LOSSES.index(loss) == seed)

    falls, end = decide_z_c3(make_grid(accuracy)).cases
    # what is left of the first cell: 3/4 or -1/4 of the seeds' deviations 1.5, .5, .5, 1.5 from
    # their mean; of the second: 3/2 and -1/2
    squares = 5 * (0.75**2 + 3 * 0.25**2), 4 * 1.5**2 + 12 * 0.5**2
    quantile = stats.studentized_range.ppf(0.975, 4, 9)
    first, last = (quantile * np.sqrt(left / 9 / 4) for left in squares)
    low, high = max(0 - last, 0) - (2.5 + first), last - (2.5 - first)
    assert (falls.value, falls.low, falls.high) == pytest.approx((-2.5, low, high))
    assert "from 2.50 to 0.00 points" in falls.text and falls.outcome == UNDECIDED
    assert end.outcome == UNDECIDED
    assert end.value == pytest.approx(0, abs=1e-12) and end.low == 0
    # a smaller error probability makes both wider
    assert falls.at_level(0.99).low < falls.low and falls.at_level(0.99).high > falls.high
    assert end.at_level(0.99).high > end.high and end.at_level(0.99).value == end.value


@pytest.mark.parametrize(
    ("settings", "outcome"),
    [
        ({"small": 1}, HOLDS),
        ({"small": 0.2}, HOLDS),  # surely above 0, though it counts as equal
        ({"small": 0}, FAILS),
        ({"small": 0.2, "noise": 0.5}, UNDECIDED),
        ({"small": 1, "seeds": 3}, UNDECIDED),
    ],
)
def test_z_c4_asks_for_a_spread_above_0_and_fails_where_it_is_surely_small(settings, outcome):
    table = make_corners(large=0, **settings).selected
    verdict = page.decide_z_c4(table)
    assert verdict.outcome == outcome and verdict.tried_on.endswith("width 0.5, 10 epochs")
    if "seeds" not in settings:
        found = spread.compute_spread(spread.corner_cell(table, min)[1])
        rule = HOLDS if found.low > 0 else FAILS if found.high <= page.EQUAL else UNDECIDED
        assert outcome == rule
        differs, matters = verdict.cases
        assert differs.low == found.low and differs.high == found.high
        assert matters.deciding == (found.low == 0)
        # two cases share the error probability where one of them fails
        assert matters.high >= found.high and (outcome != FAILS or matters.level == 0.975)
        sizes = {scale.name: scale.text for scale in verdict.scale}
        assert sizes["steps"] == "steps 200 (paper 45,000)"


def test_three_seeds_decide_nothing_about_the_corners():
    verdict = decide_z_c3(make_corners(2, 0.1, seeds=3))
    assert verdict.outcome == UNDECIDED and not verdict.cases
    assert "3 seeds\nwhat would decide it: 4 seeds" in verdict.measured


@pytest.mark.parametrize(("sign", "outcome"), [(-1, HOLDS), (1, FAILS), (0, UNDECIDED)])
def test_z_c5_goes_by_the_rank_correlation_over_the_cells(sign, outcome):
    index = pd.MultiIndex.from_product([(0.5, 1.0, 2.0), (10, 40, 160)], names=["width", "epochs"])
    cells = index.to_frame(index=False).assign(data="mnist-subset")
    mixed = np.array([3, 9, 1, 5, 2, 8, 4, 7, 6.0])
    table = make_corners(1, 1).selected
    cells["variance"] = np.log(cells.width * cells.epochs) * sign + 10 if sign else mixed
    verdict = page.decide_z_c5(cells, table)
    assert verdict.outcome == outcome
    if sign:
        assert verdict.cases[0].value == pytest.approx(sign)
    alone = [stats.spearmanr(cells[name], cells.variance)[0] for name in ("width", "epochs")]
    words = "with width alone {:+.2f}, with epochs alone {:+.2f}".format(*alone)
    assert words in verdict.measured
    few = page.decide_z_c5(cells.iloc[[0, 1, 3, 4]], table)
    assert few.outcome == UNDECIDED and "4 cells; an interval needs 6" in few.measured
    gone = page.decide_z_c5(cells.assign(variance=[np.nan, *cells.variance[1:]]), table)
    assert gone.outcome == UNDECIDED and "a cell has no variance" in gone.measured
    level = page.decide_z_c5(cells.assign(variance=1.0), table)
    assert level.outcome == UNDECIDED and "all variances are equal" in level.measured
    assert "alone" not in level.measured


# figures


def test_the_figures_show_the_tables_numbers():
    tables = make_corners(2, 0.1, widths=(4, 8, 16), epochs=(10, 40, 160))
    grid = tables.cells
    for draw, panels in ((page.draw_z2, 3), (page.draw_z3, 4), (page.draw_z4, 1)):
        figure = draw(tables)
        assert figure.table is grid
        *maps, bar = figure.drawing.axes
        assert len(maps) == panels and bar.get_ylabel()
        for panel in maps:
            below = panel.get_subplotspec().is_last_row()
            assert panel.get_xlabel() == ("width" if below else "") and len(panel.texts) == 9
    texts = page.draw_z4(tables).drawing.axes[0].texts
    written = {text.get_position(): text.get_text() for text in texts}
    first = grid[(grid.width == 0.5) & (grid.epochs == 10)]
    assert written[0, 0] == f"{first.variance.iloc[0]:.2f}"
    drawing = page.draw_z5(tables).drawing
    lines = drawing.axes[0].lines
    assert len(drawing.axes) == 3 and len(lines) == 4
    assert "test error" in drawing.get_suptitle()
    assert lines[0].get_ydata().tolist() == grid[grid.width == 0.5].accuracy_CE.tolist()


@pytest.mark.parametrize(("small", "large", "verb"), [(3.0, 1.0, "falls"), (1.0, 3.0, "rises")])
def test_the_captions_have_the_direction_of_the_numbers(small, large, verb):
    """The focal loss is off by a number of points in the smallest and in the largest cell."""

    def accuracy(width, epochs, loss, seed):
        return 90 + (loss == "FL") * (small if epochs == 10 else large)

    tables = make_grid(accuracy)
    caption = page.draw_z2(tables).data["ours"]
    words = f"the largest difference from cross-entropy {verb} by 2.00 points. Dark"
    assert caption.startswith(f"From the smallest to the largest cell {words}")
    assert f" within {large:.2f} points of each other. " in page.draw_z3(tables).data["ours"]
    assert f"cell the variance {verb} by " in page.draw_z4(tables).data["ours"]
    count = 2 if small > large else 0
    assert f" than with the fewest in {count} of 2 panels. " in page.draw_z5(tables).data["ours"]


def test_further_grids_are_trained_drawn_and_decided_beside_the_first(monkeypatch):
    monkeypatch.setitem(networks.FURTHER, "quick", (("digits", 0.05),))
    planned = [*page.plan_grid("quick"), *page.plan_grid("quick", "digits", 0.05)]
    assert page.plan_runs("quick") == planned
    calls = []
    monkeypatch.setattr(page, "load", lambda *arguments: calls.append(arguments))
    assert len(page.load_further("quick", "cpu")) == 1
    assert page.load_further("quick", "cpu", "mnist") == []
    assert calls == [("quick", "cpu", "digits", 0.05)]

    one = make_corners(2, 0.1, widths=(4, 8, 16), epochs=(10, 40, 160))
    weaker = one.selected.assign(strength=0.05)
    two = one._replace(selected=weaker, cells=page.cell_table(weaker))
    figure = page.draw_z5(one, [two])
    titles = [panel.get_title() for panel in figure.drawing.axes]
    assert titles[3] == titles[0].replace(", width", " with LS at 0.05, width")
    assert len(titles) == 6 and len(figure.table) == 18
    answers = page.verdicts(one, [two]).verdicts
    assert [answer.claim.id for answer in answers] == ["Z-C3"] * 2 + ["Z-C4"] * 2 + ["Z-C5"] * 2
    assert ["LS at 0.05" in answer.tried_on for answer in answers] == [False, True] * 3


@pytest.mark.parametrize("sign, wider, longer", [(1, 0, 4), (-1, 3, 0)])
def test_the_caption_of_z4_counts_steps_of_width_and_of_epochs(sign, wider, longer):
    """The variance goes one way with width and the other with epochs, whatever the corners do."""
    cells = pd.DataFrame({"width": [1, 1, 1, 2, 2, 2], "epochs": [1, 2, 3] * 2})
    cells["variance"] = 10 + sign * (cells.width - 3 * cells.epochs)
    words = f"falls at {wider} of 3 steps to wider and {longer} of 4 steps to longer trained"
    assert words in page.describe_steps(cells)
