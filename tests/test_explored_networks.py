"""Explorers of stored networks in a real browser from disk: each control, by keyboard or by click,
moves the marks to where the networks' values are.
"""

import itertools

import numpy as np
import pandas as pd
import pytest
import test_played
from test_browser import NARROW
from test_played import SCENE, press, reading

from lsnc_core.papers.chen import explore_landscape
from lsnc_core.papers.guo import explore_strength

pytestmark = test_played.pytestmark
chromium, show = test_played.chromium, test_played.show  # fixtures

# ---- the measured landscape

RATES, KEPT, EPOCHS, SEEDS = (0.5, 0.8), (0.3, 0.6, 0.8, 1.0), (1, 5, 20), (0, 1)


@pytest.fixture(scope="module")
def course():
    draws, rows = np.random.default_rng(2), []
    for epoch, a, p, seed in itertools.product(EPOCHS, RATES, KEPT, SEEDS):
        row = {"data": "digits", "train_size": 200, "run": f"{a}-{p}-{seed}"}
        row |= {"epoch": epoch, "a": a, "p": p, "seed": seed}
        for quantity in explore_landscape.QUANTITIES:
            row[quantity.column] = float(draws.uniform(0.1, 0.9))
        rows.append(row)
    return pd.DataFrame(rows)


def check_landscape(page, course, column, epoch, seed, a, p):
    """All marks are those of the networks of these values; seed is None for their mean."""
    rows = course[course.seed == seed] if seed is not None else course
    means = rows.groupby(["epoch", "a", "p"])[column].mean()
    now = means[epoch]
    cells = [one["datum"] for one in page.evaluate(SCENE, "rect")]
    shaded = {(one["a"], one["p"]): one["value"] for one in cells}
    assert shaded == {place: pytest.approx(value, rel=1e-3) for place, value in now.items()}
    assert len(cells) == len(shaded) + 1 and (cells[-1]["a"], cells[-1]["p"]) == (a, p)
    symbols = page.evaluate(SCENE, "symbol")
    sign = -1 if "accuracy" in column else 1
    best = {(rate, (sign * part).idxmin()[1]) for rate, part in now.groupby("a")}
    circles = symbols[: len(RATES)]
    assert {(one["datum"]["a"], one["datum"]["p"]) for one in circles} == best
    # against p at a, with the chosen p once more; then against the epoch at (a, p)
    beside = [(one["datum"]["p"], one["datum"]["value"]) for one in symbols[len(RATES) :]]
    curve = [(kept, pytest.approx(now[a, kept], rel=1e-3)) for kept in KEPT]
    chosen = (p, pytest.approx(now[a, p], rel=1e-3))
    times = [(p, pytest.approx(means[time, a, p], rel=1e-3)) for time in EPOCHS]
    assert beside == [*curve, chosen, *times, chosen]
    text = reading(page)
    assert f"a = {a:g}, p = {p:g}, epoch {epoch}" in text
    assert f": {float(f'{now[a, p]:.3g}'):g}" in text


def test_each_control_of_the_landscape_moves_the_marks(show, course):
    watched = show(explore_landscape.explore_cells(course, "grid", "The grid"))
    page = watched.page
    check_landscape(page, course, "test_loss", 20, None, 0.8, 0.8)
    press(page, "at_epoch", "ArrowLeft")
    check_landscape(page, course, "test_loss", 5, None, 0.8, 0.8)
    press(page, "cell_at_a", "ArrowLeft")
    check_landscape(page, course, "test_loss", 5, None, 0.5, 0.8)
    press(page, "cell_at_p", "ArrowLeft")
    check_landscape(page, course, "test_loss", 5, None, 0.5, 0.6)
    press(page, "seed", "ArrowDown", 2)
    check_landscape(page, course, "test_loss", 5, 1, 0.5, 0.6)
    press(page, "quantity", "ArrowDown", 2)
    check_landscape(page, course, "test_accuracy", 5, 1, 0.5, 0.6)
    press(page, "quantity", "ArrowDown", 2)  # on a logarithmic scale
    check_landscape(page, course, "train_nc1", 5, 1, 0.5, 0.6)
    assert page.get_attribute('[name="cell_at_p"]', "aria-valuetext") == "0.6"
    assert (watched.refused, watched.errors) == ([], [])


def test_a_click_chooses_the_cell_that_the_sliders_name(show, course):
    page = show(explore_landscape.explore_cells(course, "grid", "The grid")).page
    cell = page.locator(".cells_0_marks path").nth(0)  # a = 0.5, p = 0.3
    cell.click()
    page.wait_for_function(
        "() => document.querySelector('[name=cell_at_a]').getAttribute('aria-valuetext') == '0.5'"
    )
    press(page, "cell_at_p", "Tab")  # waits for the picture
    check_landscape(page, course, "test_loss", 20, None, 0.5, 0.3)
    assert page.input_value('[name="cell_at_p"]') == "0"
    box = page.locator("figure svg").bounding_box()
    page.mouse.click(box["x"] + 3, box["y"] + 3)  # beside the map nothing changes
    check_landscape(page, course, "test_loss", 20, None, 0.5, 0.3)


def test_the_formula_is_shown_for_losses_alone(show, course):
    page = show(explore_landscape.explore_cells(course, "grid", "The grid")).page

    def formula():
        lines = [one["datum"] for one in page.evaluate(SCENE, "line")]
        return [(one["p"], one["loss"]) for one in lines if "loss" in one]

    for p, loss in formula():
        wanted = -0.8 * np.log(p) - 0.2 * np.log((1 - p) / 9)
        assert loss == pytest.approx(wanted, rel=1e-3)
    assert len(formula()) == explore_landscape.POINTS
    assert [one["datum"]["a"] for one in page.evaluate(SCENE, "rule")] == [0.8]
    assert "Chen eq. 11: 0.94" in reading(page)
    press(page, "quantity", "ArrowDown", 2)
    assert formula() == [] and page.evaluate(SCENE, "rule") == []
    assert "eq. 11" not in reading(page)


# ---- the strengths

STRENGTHS = (0.0, 0.05, 0.5)


@pytest.fixture(scope="module")
def explored():
    draws, rows, bins = np.random.default_rng(4), [], []
    for delta, epoch, seed in itertools.product(STRENGTHS, EPOCHS, range(4)):
        row = {"data": "digits", "train_size": 200, "weight_decay": 0.1, "loss": "ce"}
        row |= {"delta": delta, "epoch": epoch, "epochs": EPOCHS[-1], "seed": seed}
        for column in explore_strength.QUANTITIES:
            row[column] = float(draws.uniform(0.2, 0.8))
        rows.append(row)
    for delta, (kept, first, last) in itertools.product(STRENGTHS, ((1, 1, 1), (20, 5, 20))):
        row = {"data": "digits", "weight_decay": 0.1, "delta": delta, "kept": kept}
        row |= {"first": first, "last": last, "share": 0.5}
        for confidence in (0.4, 0.9):
            bins.append(row | {"confidence": confidence, "accuracy": float(draws.random())})
    return explore_strength.Explored(pd.DataFrame(rows), pd.DataFrame(bins))


def mean_of(explored, column, delta, epoch):
    """A mean over seeds, of logarithms for NC1."""
    rows = explored.measured
    values = rows[(rows.delta == delta) & (rows.epoch == epoch)][column]
    mean = np.exp(np.log(values).mean()) if column == "nc1" else values.mean()
    return pytest.approx(mean, rel=1e-3)


def split_symbols(page):
    """The marks of means by quantity and those of the reliability diagram, in their order."""
    means, diagram = {}, []
    for one in page.evaluate(SCENE, "symbol"):
        datum = one["datum"]
        if "quantity" in datum:
            means.setdefault(datum["quantity"], []).append(
                (datum["delta"], datum["epoch"], datum["mean"])
            )
        else:
            diagram.append((datum["delta"], datum["kept"], datum["confidence"], datum["accuracy"]))
    return means, diagram


def check_diagram(explored, diagram, delta, kept):
    bins = explored.bins
    rows = bins[bins.delta.isin((0.0, delta)) & (bins.kept == kept)]
    wanted = rows[["delta", "kept", "confidence", "accuracy"]].itertuples(index=False, name=None)
    assert sorted(diagram) == [pytest.approx(row, rel=1e-3) for row in sorted(wanted)]


def check_training(page, explored, delta, epoch, kept):
    means, diagram = split_symbols(page)
    for column in explore_strength.QUANTITIES:
        marked = {row for row in means[column] if row[1] == epoch}
        wanted = {one: mean_of(explored, column, one, epoch) for one in (0.0, delta)}
        assert {one: value for one, _, value in marked} == wanted
    drawn = [one["datum"] for one in page.evaluate(SCENE, "line")]
    assert {one["delta"] for one in drawn if "mean" in one} == {0.0, delta}
    check_diagram(explored, diagram, delta, kept)
    assert reading(page).startswith(f"δ = {delta:g}, epoch {epoch}: test error ")


def test_strength_and_epoch_move_the_curves_over_training(show, explored):
    (shown,) = explore_strength.explore(explored, "strengths", across="epoch")
    watched = show(shown)
    page = watched.page
    check_training(page, explored, 0.05, 20, 20)
    press(page, "at_delta", "ArrowRight")
    check_training(page, explored, 0.5, 20, 20)
    press(page, "at_epoch", "ArrowLeft")
    check_training(page, explored, 0.5, 5, 20)
    press(page, "at_epoch", "ArrowLeft")
    check_training(page, explored, 0.5, 1, 1)
    press(page, "at_delta", "Home")  # cross-entropy alone
    check_training(page, explored, 0.0, 1, 1)
    assert page.get_attribute('[name="at_epoch"]', "aria-valuetext") == "1"
    assert (watched.refused, watched.errors) == ([], [])


def test_strength_and_epoch_move_the_curves_over_strengths(show, explored):
    (shown,) = explore_strength.explore(explored, "strengths", across="delta")
    watched = show(shown)
    page = watched.page

    def check(delta, epoch, kept):
        means, diagram = split_symbols(page)
        for column in explore_strength.QUANTITIES:
            every = [(one, epoch, mean_of(explored, column, one, epoch)) for one in STRENGTHS]
            # all strengths, then the chosen one once more
            assert means[column] == [*every, every[STRENGTHS.index(delta)]]
        check_diagram(explored, diagram, delta, kept)

    check(0.05, 20, 20)
    press(page, "at_epoch", "Home")
    check(0.05, 1, 1)
    press(page, "at_delta", "End")
    check(0.5, 1, 1)
    assert (watched.refused, watched.errors) == ([], [])


def test_the_explorers_fit_a_phone(show, course, explored):
    landscape = explore_landscape.explore_cells(course, "grid", "The grid")
    both = [explore_strength.explore(explored, "s", across=one)[0] for one in ("epoch", "delta")]
    for shown in (landscape, *both):
        page = show(shown, viewport=NARROW).page
        assert page.evaluate("() => document.documentElement.scrollWidth") <= NARROW["width"]
        # with axes, labels and colour bars, and no narrower than there is room
        room, wide, drawn = page.evaluate(
            "() => { const chart = document.querySelector('.chart'); const picture ="
            " chart.querySelector('[role=img]'); return [chart.clientWidth, chart.scrollWidth,"
            " picture.querySelector('svg').getBoundingClientRect().width / picture.clientWidth]; }"
        )
        assert wide <= room and 0.9 < drawn <= 1


def test_panels_of_a_narrow_page_keep_their_shape(show, course):
    landscape = explore_landscape.explore_cells(course, "grid", "The grid")
    wide, narrow = (
        show(landscape, viewport={"width": width, "height": 900}).page.evaluate(
            "() => [...document.querySelectorAll('.chart .role-scope > g > .background')]"
            ".map(one => one.getBoundingClientRect()).map(one => one.width / one.height)"
        )
        for width in (1280, 560)
    )
    assert len(wide) >= 2 and sorted(narrow) == pytest.approx(sorted(wide), rel=0.02)
