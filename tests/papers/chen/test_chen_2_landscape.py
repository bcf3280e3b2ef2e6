"""Chen's landscape: verdicts and figures on made-up tables with known answers."""

import math
import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from chen_runs import (
    COLUMNS,
    PS,
    cases_by_name,
    clean_runs,
    cross_entropy,
    eq11,
    gamma_argmin,
    landscape,
    memorised,
    noisy_runs,
    outcomes,
    panels,
)
from matplotlib.backends.backend_agg import FigureCanvasAgg
from scipy import stats

from lsnc_core.claims import FAILS, HOLDS, UNDECIDED
from lsnc_core.errors import UsageError
from lsnc_core.papers.chen import chen_2_landscape as page
from lsnc_core.papers.chen.drawing import TOP
from lsnc_core.papers.chen.grid import PROTOCOLS, describe_landscape, landscape_table
from lsnc_core.papers.chen.minima import find_minima, nearest_table

RECIPE = "Networks: a CNN."


def both(table):
    """C1 and C2 under both protocols."""
    c1 = [page.decide_c1(table, column) for column in COLUMNS]
    return c1 + [page.decide_c2(table, column) for column in COLUMNS]


def residual_text(case):
    return re.search(r"measured − predicted (\S+) \[(\S+), (\S+)\] nats", case.remark).groups()


# C1 and C2


def test_the_formula_itself_with_little_noise_holds():
    table = landscape()
    for verdict, claim in zip(both(table), ("C1", "C1", "C2", "C2"), strict=True):
        assert (verdict.claim.id, verdict.outcome) == (claim, HOLDS)
        assert "decide" not in verdict.measured
        assert "MNIST subset" in verdict.tried_on
        assert list(outcomes(verdict)) == ["a = 0.5", "a = 0.8"]
    cases = cases_by_name(page.decide_c2(table, "test_loss"))["a = 0.8"]
    error, rank = cases["relative error"], cases["rank correlation with the formula"]
    assert 0.0005 < error.low < error.value < error.high < 0.0015 and error.at_most == 0.15
    assert (rank.value, rank.low, rank.high) == pytest.approx((1, 1, 1), abs=0.005)
    assert rank.high <= 1 and rank.at_least == 0.9
    cases = cases_by_name(page.decide_c2(table, "clean_train_loss"))
    assert cases["a = 0.8"]["relative error"].value == pytest.approx(0.1, abs=5e-4)
    assert "as drawn" in page.decide_c2(table, "test_loss", "predicted_as_drawn").tried_on


def test_a_shifted_minimum_and_a_large_error_do_not_hold():
    shifted = landscape(rates=(0.5,), measured=lambda a, p: eq11(a + 0.3, p))
    assert [verdict.outcome for verdict in both(shifted)[:2]] == [FAILS, FAILS]
    (case,) = both(shifted)[0].cases
    assert case.name == "a = 0.5" and case.value == pytest.approx(0.8, abs=0.015)
    assert 0 < case.low < case.value < case.high < 1
    assert (case.at_least, case.at_most) == pytest.approx((0.4, 0.6))
    wrong = landscape(measured=lambda a, p: 1.3 * eq11(a, p))
    c1, _, c2, _ = both(wrong)
    assert (c1.outcome, c2.outcome) == (HOLDS, FAILS)  # a factor moves no minimum
    assert cases_by_name(c2)["a = 0.5"]["relative error"].value == pytest.approx(0.3, abs=1e-3)
    backward = landscape(
        rates=(0.8,), noise=1e-6, measured=lambda a, p: 1.0 + 0.1 * (1.0 - eq11(a, p))
    )
    verdict = page.decide_c2(backward, "test_loss")
    assert verdict.outcome == FAILS
    rank = cases_by_name(verdict)["a = 0.8"]["rank correlation with the formula"]
    assert rank.value == pytest.approx(-1) and rank.outcome == FAILS


def test_one_failing_clean_rate_fails_the_claim():
    table = landscape(measured=lambda a, p: eq11(a if a == 0.8 else 0.9, p))
    assert page.decide_c1(table, "test_loss").outcome == FAILS
    assert page.decide_c2(table, "test_loss").outcome == FAILS


@pytest.mark.parametrize("factor, sign", [(0.9, "-"), (1.1, "+")])
def test_the_sign_of_the_residual_is_told(factor, sign):
    table = landscape(rates=(0.5,), measured=lambda a, p: factor * eq11(a, p))
    verdict = page.decide_c2(table, "test_loss")
    assert verdict.outcome == HOLDS
    texts = residual_text(cases_by_name(verdict)["a = 0.5"]["relative error"])
    assert all(text.startswith(sign) for text in texts)
    residual = (factor - 1) * np.mean([eq11(0.5, p) for p in PS[1:-1]])
    assert float(texts[0]) == pytest.approx(residual, abs=2e-3)
    words = f"held-out images: {residual:+.2f} at a = 0.5; training images"
    assert words in describe_landscape(table)


def test_networks_that_have_not_memorised_decide_nothing():
    table = landscape(unlearned=0.12)
    for verdict in both(table):
        assert verdict.outcome == UNDECIDED and "excess training loss" in verdict.measured
        words = "excess training loss relative to an untrained network (a = "
        assert f"premise not met: {words}" in verdict.measured
        assert (
            "needed at most 10.0% (missed at 1 more place)\nobserved: as claimed"
            in verdict.measured
        )
        assert all(math.isfinite(case.value) for case in verdict.cases)
    assert "104 networks" in describe_landscape(table)
    # but at p = 1/M, where there is nothing to learn
    assert "; 8 of them have memorised" in describe_landscape(table)


def test_a_wide_interval_decides_nothing():
    table = landscape(rates=(0.5,), measured=lambda a, p: 1.15 * eq11(a, p))
    verdict = page.decide_c2(table, "test_loss")
    assert verdict.outcome == UNDECIDED and "what would decide it: more seeds" in verdict.measured


@pytest.mark.parametrize("rates", [(0.5,), (0.5, 0.8)])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_diverged_network_decides_nothing_and_breaks_nothing(rates, value):
    runs = clean_runs(rates=rates)
    hit = (runs.a == 0.5) & (runs.seed == 2) & (runs.p == 0.4) & (runs.epoch == 9)
    assert hit.sum() == 1
    runs.loc[hit, [*COLUMNS, "train_loss"]] = value
    table = landscape_table(runs)
    assert table.memorised.sum() == len(table) - 1
    for verdict in both(table):
        assert verdict.outcome == UNDECIDED
        (case,) = [case for case in verdict.cases if case.name == "a = 0.5"]
        assert "finite" in case.text
    page.draw_figure_5(table, RECIPE)
    page.draw_residual(table)
    page.draw_figure_6(table, rates)


def test_the_caption_of_the_residual_has_the_largest_distance_where_labels_are_memorised(grid):
    """Off by 3 in one cell, on held-out images alone; not counted where it is not memorised."""
    finite = np.isfinite(grid.predicted)
    exact = grid.assign(memorised=1.0, test_loss=grid.predicted, clean_train_loss=grid.predicted)
    first = exact[finite].iloc[0]
    cell = (exact.a == first.a) & (exact.p == first.p)
    off = exact.assign(test_loss=exact.test_loss - 3.0 * cell)
    words = "by at most {} on held-out images and 0.00 on training images, clean labels (nats)."
    assert page.describe_distance(off).endswith(words.format("3.00"))
    rough = off.assign(memorised=off.memorised * ~cell)
    assert page.describe_distance(rough).endswith(words.format("0.00"))
    assert page.describe_distance(off.assign(memorised=0.0)) == "In no cell are labels memorised."


def test_nothing_but_diverged_networks_decides_nothing():
    runs = clean_runs(rates=(0.5,))
    runs[[*COLUMNS, "train_loss"]] = math.nan
    table = landscape_table(runs)
    assert [verdict.outcome for verdict in both(table)] == [UNDECIDED] * 4
    page.draw_figure_5(table, RECIPE)
    page.draw_figure_6(table, (0.5,))


def test_one_seed_decides_nothing_but_is_counted():
    table = landscape(
        rates=(0.5, 0.7, 0.9, 1.0), seeds=1, measured=lambda a, p: eq11(0.5 if a == 0.9 else a, p)
    )
    for verdict in both(table):
        assert verdict.outcome == UNDECIDED and not verdict.cases
        assert "what would decide it: 4 seeds" in verdict.measured
    measured = page.decide_c1(table, "test_loss").measured
    assert "2 of 3 other clean rates within 0.1" in measured


def test_c1_says_where_its_grid_is_coarser_than_asked_for():
    fine = tuple(k / 20 for k in range(2, 21))
    assert "not 0.05" not in page.decide_c1(landscape(ps=fine), "test_loss").measured
    measured = page.decide_c1(landscape(), "test_loss").measured
    assert "steps up to 0.1, not 0.05" in measured


# C17


def gamma(a, p):
    """A loss with its minima where gamma's are: equation 11 at gamma's best p, by search."""
    return eq11(gamma_argmin(a, 10), p)


@pytest.mark.parametrize(
    "measured, outcome, by_case",
    [
        (gamma, HOLDS, [HOLDS, HOLDS]),
        (eq11, FAILS, [FAILS, HOLDS]),
        (lambda a, p: eq11(a * a, p), FAILS, [FAILS] * 2),
    ],
)
def test_c17_asks_that_gammas_best_p_is_nearest(measured, outcome, by_case):
    table = landscape(rates=(0.6, 0.7, 0.8), measured=measured)
    verdict = page.decide_c17(table)
    assert verdict.outcome == outcome and [case.outcome for case in verdict.cases] == by_case
    nearest = nearest_table(table)["held-out images"]
    for case, kind in zip(verdict.cases, ("alpha", "beta"), strict=True):
        row = nearest.loc[f"gamma - {kind}"]
        assert row["mean"] == pytest.approx(nearest["mean"]["gamma"] - nearest["mean"][kind])
        row = nearest_table(table, case.level)["held-out images"].loc[f"gamma - {kind}"]
        assert (case.value, case.low, case.high) == (row["mean"], row.low, row.high)
        # failures share the error probability
        assert (case.level > 0.95) == (case.outcome == FAILS)
    rough = landscape(measured=measured, unlearned=0.12)
    assert page.decide_c17(rough).outcome == UNDECIDED
    few = page.decide_c17(landscape(measured=measured, seeds=3))
    assert few.outcome == UNDECIDED and "4 seeds" in few.measured


def test_the_nearest_theory_is_shown_as_a_table():
    table = landscape(rates=(0.6, 0.7, 0.8))
    shown, nearest = page.show_nearest(table), nearest_table(table)
    assert shown.header == ["assumption", *PROTOCOLS.values()]
    assert [row[0] for row in shown.rows] == list(nearest.index)
    for column, images in enumerate(PROTOCOLS.values(), start=1):
        row = nearest[images].loc["gamma"]
        assert shown.rows[2][column] == f"{row['mean']:+.3f} [{row.low:+.3f}, {row.high:+.3f}]"


def test_what_was_not_trained_is_undecided():
    table = landscape_table(noisy_runs())
    tables = page.Tables(table, table, None, None, RECIPE, "", course=table)
    alone = page.verdicts(tables).verdicts
    ids, others = ["C1", "C1", "C2", "C2", "C2"], ["C17", "C18", "C1", "C2"]
    assert [verdict.claim.id for verdict in alone] == ids + others
    for verdict in alone[-2:]:
        assert verdict.outcome == UNDECIDED and "CIFAR-10" in verdict.tried_on
        assert not verdict.cases
        words = "number of networks of the landscape on CIFAR-10 is 0, needed at least 4"
        assert verdict.measured == f"premise not met: {words}"
    # networks that memorise stand beside the paper's own
    both_networks = page.verdicts(tables._replace(memorised=table)).verdicts
    assert [verdict.claim.id for verdict in both_networks] == ids + ids + others
    trained = page.verdicts(tables._replace(cifar=table.assign(data="cifar10"))).verdicts
    for verdict in trained[-4:]:
        assert verdict.outcome == HOLDS and "CIFAR-10" in verdict.tried_on


# training-set sizes


def sizes(**settings):
    settings |= {"rates": (0.8,), "ps": (0.7,)}
    return pd.concat([noisy_runs(size=size, **settings) for size in (250, 1000)])


def test_residuals_by_size_and_what_the_accuracy_would_explain():
    def network(a, p):
        loss, uniform = memorised(a, p)
        return loss + 0.2, uniform + 0.2

    table = page.size_table(sizes(network=network, noise=0))
    assert set(table.train_size) == {250, 1000} and len(table) == 8
    np.testing.assert_allclose(table.residual, 0.2)
    np.testing.assert_allclose(table.train_residual, 0.2)
    expected = cross_entropy(0.7, 0.7) - cross_entropy(0.8, 0.7)
    np.testing.assert_allclose(table.accuracy_residual, expected)
    caption = page.draw_sizes(table).data["ours"]
    words = "+0.20 [+0.20, +0.20] with 250 images at p = 0.7 (right with frequency 0.70)"
    assert words in caption and "not memorised" not in caption
    rough = page.draw_sizes(page.size_table(sizes(unlearned=1))).data["ours"]
    assert "8 of 8 networks have not memorised" in rough


# figures


@pytest.fixture(scope="module")
def grid():
    """Seeds, clean rates and a few cells that were not memorised, as a real landscape has them."""
    runs = clean_runs(rates=(0.5, 0.8, 1.0), seeds={0.5: 4, 0.8: 4, 1.0: 1})
    runs.loc[(runs.p == 1) & (runs.a < 1), "train_loss"] += 1
    runs.loc[(runs.p == 0.2) & (runs.a == 0.5) & (runs.seed == 3), "train_loss"] += 1  # one of four
    return landscape_table(runs)


FIGURES = {
    "5": lambda grid: page.draw_figure_5(grid, RECIPE),
    "5 cifar10": lambda grid: page.draw_figure_5_cifar10(grid, RECIPE),
    "5 residual": page.draw_residual,
    "6": lambda grid: page.draw_figure_6(grid, (0.5, 0.8)),
    "sizes": lambda grid: page.draw_sizes(page.size_table(sizes())),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_closed_and_every_axis_is_named(name, grid):
    plt.switch_backend("agg")  # or the first figure would choose one
    before = plt.rcParams.copy()
    figure = FIGURES[name](grid)
    assert plt.get_fignums() == [] and plt.rcParams == before
    for axes in panels(figure):
        siblings = axes.get_shared_y_axes().get_siblings(axes)
        assert axes.get_xlabel() and any(other.get_ylabel() for other in siblings)
    bars = [axes for axes in figure.drawing.axes if axes.get_label() == "<colorbar>"]
    assert len(bars) == name.startswith("5") and all("nats" in axes.get_ylabel() for axes in bars)
    if not bars:
        assert "nats" in panels(figure)[0].get_ylabel()


def test_figure_5_says_which_panels_it_stands_for(grid):
    assert page.draw_figure_5(grid, RECIPE).data["title"] == "Chen, Figure 5 (a, b)"
    cifar = grid.assign(data="cifar10")
    assert page.draw_figure_5(cifar, RECIPE).data["title"] == "Chen, Figure 5 (c, d)"
    figure = page.draw_figure_5_cifar10(cifar, RECIPE)
    assert figure.data["title"] == "Chen, Figure 5 (c, d)"
    assert f". {RECIPE} {len(grid)} networks on " in figure.data["ours"]


def heat_map(panel):
    """The heat map of a panel: its drawn colours (rows of p, columns of a, RGBA), its mesh."""
    meshes = [part for part in panel.collections if type(part).__name__ == "QuadMesh"]
    (mesh,) = (mesh for mesh in meshes if not mesh.get_hatch())
    shape = mesh.get_array().shape
    return mesh.to_rgba(mesh.get_array()).reshape(*shape, 4), mesh


def test_figure_5_draws_infinite_cells(grid):
    theory, *_ = panels(page.draw_figure_5(grid, RECIPE))
    assert np.isinf(grid.predicted).any()
    shades, mesh = heat_map(theory)
    assert shades.shape[:2] == (13, 3) and (shades[..., 3] == 1).all()
    assert not np.ma.is_masked(mesh.get_array())
    assert not theory.patches
    # p = 1: infinite but for a = 1
    assert (mesh.get_array()[12] >= TOP).tolist() == [True, True, False]


def test_cells_without_a_prediction_are_crossed_in_the_residual(grid):
    """Blank, they would look like a difference of 0: those at p = 1 but for clean labels."""
    rates = sorted(grid.a.unique())
    infinite = {
        (column, grid.p.nunique() - 1) for column, a in enumerate(rates) if not math.isclose(a, 1)
    }
    for panel in panels(page.draw_residual(grid)):
        (crosses,) = (line for line in panel.lines if line.get_marker() == "x")
        assert set(zip(*crosses.get_data(), strict=True)) == infinite


def test_figure_5_hatches_and_marks(grid):
    rates = (0.5, 0.8, 1.0)
    theory, *measured = panels(page.draw_figure_5(grid, RECIPE))
    rough = {(1.0, 0.5), (1.0, 0.8), (0.2, 0.5)}  # cells (p, a) where a network has not memorised
    for panel in measured:
        hatched = set()
        for patch in panel.patches:
            if patch.get_hatch():
                row, column = round(patch.get_y() + 0.5), round(patch.get_x() + 0.5)
                hatched.add((PS[row], rates[column]))
        assert hatched == rough and len(panel.patches) == len(rough)
        assert [text.get_text() for text in panel.get_xticklabels()] == ["0.5", "0.8", "1"]
        assert [text.get_text() for text in theory.get_yticklabels()] == [f"{p:g}" for p in PS]
        assert panel in theory.get_shared_y_axes().get_siblings(theory)
        (marks,) = (line for line in panel.lines if line.get_marker() == "o")
        rows = np.interp(find_minima(grid, "test_loss").argmin, PS, range(13))
        np.testing.assert_allclose(marks.get_ydata()[:2], rows[:2], atol=0.6)
    np.testing.assert_allclose(theory.lines[0].get_ydata(), [PS.index(a) for a in rates])


def test_hatches_are_seen_in_the_drawn_picture(grid):
    def drawn(table):
        figure = page.draw_figure_5(table, RECIPE)
        canvas = FigureCanvasAgg(figure.drawing)
        canvas.draw()
        panel = panels(figure)[1]
        pixels = np.asarray(canvas.buffer_rgba())[..., :3].astype(int)
        # the cell of a = .5, p = .2
        corners = panel.transData.transform([(-0.4, 0.6), (0.4, 1.4)])
        (left, low), (right, high) = corners.round().astype(int)
        return pixels[len(pixels) - high : len(pixels) - low, left:right]

    plain, hatched = drawn(grid.assign(memorised=True)), drawn(grid)
    assert len(np.unique(plain.reshape(-1, 3), axis=0)) == 1
    changed = (np.abs(plain - hatched).sum(-1) > 60).mean()
    assert 0.02 < changed < 0.8


def test_figure_6_shows_means_with_intervals(grid):
    figure = page.draw_figure_6(grid, (0.8, 1.0))
    first, second = panels(figure)
    assert "a = 0.8, 4 seeds" in first.get_title()
    assert "a = 1, 1 seed" in second.get_title() and "seeds" not in second.get_title()
    points, _, bars = first.containers[0]
    column = grid[grid.a == 0.8].groupby("p").test_loss
    np.testing.assert_allclose(points.get_xydata(), np.column_stack([PS, column.mean()]))
    for segment, (_, values) in zip(bars[0].get_segments(), column, strict=True):
        expected = stats.t.interval(0.95, 3, loc=values.mean(), scale=stats.sem(values))
        assert segment[:, 1] == pytest.approx(expected)
    assert not second.containers[0].has_yerr
    p, loss = first.lines[0].get_data()
    np.testing.assert_allclose(loss, [eq11(0.8, x) for x in p])
    assert set(figure.table.a) == {0.8, 1.0}


def test_figure_6_refuses_other_clean_rates(grid):
    words = r"no network was trained at the clean rate 0\.7; there are 0\.5, 0\.8, 1\."
    with pytest.raises(UsageError, match=words):
        page.draw_figure_6(grid, (0.5, 0.7))
    with pytest.raises(UsageError):
        page.draw_figure_6(grid, (0.7,))
    for rates in (0.5, "0.5", None):
        with pytest.raises(UsageError, match="rates must be a list"):
            page.draw_figure_6(grid, rates)
