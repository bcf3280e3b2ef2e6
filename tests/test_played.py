"""Explorers that play, in a real browser from disk: what moves, what plays, and what stops."""

import json

import numpy as np
import pandas as pd
import pytest
from test_browser import ARGUMENTS, CHROMIUM, NARROW, WIDE, Watched

from lsnc_core.papers.guo import play as guo_play
from lsnc_core.papers.guo import templates
from lsnc_core.papers.guo.descent import METRICS, START, run_descent
from lsnc_core.papers.guo.model import STRENGTHS, dynamics_model
from lsnc_core.papers.zhou import play as zhou_play
from lsnc_core.papers.zhou.networks import LOSSES
from lsnc_core.show import explorer, explorer_html

pytestmark = [
    pytest.mark.skipif(
        CHROMIUM is None, reason="chromium is not installed: apt-get install chromium"
    ),
    pytest.mark.filterwarnings("default::DeprecationWarning", "default::ResourceWarning"),
]

# all marks of one type with their data, as Vega drew them
SCENE = """type => {
    const found = [];
    const walk = mark => (mark.items || []).forEach(item => {
        if (mark.marktype === 'group') (item.items || []).forEach(walk);
        else if (mark.marktype === type && mark.role === 'mark')
            found.push({x: item.x, y: item.y, shape: item.shape, opacity: item.opacity,
                        datum: {...item.datum}});
    });
    walk(document.querySelector('figure').vegaView.scenegraph().root);
    return found;
}"""
READY = "() => document.querySelector('figure').vegaView"


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture
def show(chromium, tmp_path):
    """Opens a page with one explorer, as the report has it."""
    contexts = []

    def open_page(shown, viewport=WIDE, **settings):
        body = f"{explorer_html(shown.data)}<style>{explorer.asset('explorer.css')}</style>"
        for name, script in (
            ("vega", explorer.vega_script()),
            ("x", explorer.asset("explorer.js")),
        ):
            (tmp_path / f"{name}.js").write_text(script, encoding="utf-8")
            body += f'<script src="{name}.js"></script>'
        path = tmp_path / "page.html"
        path.write_text(f'<!doctype html><meta charset="utf-8">{body}', encoding="utf-8")
        contexts.append(chromium.new_context(viewport=viewport, **settings))
        watched = Watched(contexts[-1])
        watched.page.goto(path.as_uri())
        watched.page.wait_for_function(READY)
        return watched

    yield open_page
    for context in contexts:
        context.close()


def press(page, name, key, times=1):
    """Move a control by keyboard and wait until the chart is drawn."""
    page.focus(f'[name="{name}"]')
    for _ in range(times):
        page.keyboard.press(key)
    page.evaluate("() => document.querySelector('figure').vegaView.runAsync().then(() => 0)")


def now(page):
    return page.evaluate("() => document.querySelector('figure').vegaView.signal('time')")


def reading(page):
    return page.inner_text("figure output")


# ---- curves over time


@pytest.fixture(scope="module")
def descent():
    """The played descent of a small model, and its table."""
    curves = run_descent(
        dynamics_model(K=3, n=2, D=4), [(START, delta) for delta in STRENGTHS], 3, 24
    )
    return guo_play.explore_descent(curves), guo_play.tabulate_descent(curves)


def points_at(page, table, at):
    """The marks at the chosen time are those of the rows, in every panel."""
    points = page.evaluate(SCENE, "symbol")
    rows = table[table.now == at].set_index("curve")
    panels = [*METRICS, "nc2"]  # the last one is NC2 against NC1
    assert len(points) == len(panels) * len(rows)
    for number, point in enumerate(points):
        column, row = panels[number // len(rows)], rows.loc[point["datum"]["curve"]]
        assert point["datum"][column] == pytest.approx(row[column], rel=1e-5)
    # on the first panel's logarithmic axis of iterations, 230 px wide
    times = np.log(table.time)
    right = 230 * (np.log(rows.time.iloc[0]) - times.min()) / (times.max() - times.min())
    assert points[0]["x"] == pytest.approx(right, abs=1e-3)
    return points


def test_the_iteration_moves_the_marks_by_keyboard(show, descent):
    shown, table = descent
    watched = show(shown)
    page, last = watched.page, table.now.max()
    chosen = table[~(table.setting > 0)]
    points_at(page, chosen, last)
    texts = json.loads(guo_play._describe(table))
    assert reading(page) == texts[0][last]
    press(page, "time", "ArrowLeft", 5)
    assert now(page) == last - 5
    before = points_at(page, chosen, last - 5)
    assert reading(page) == texts[0][last - 5]
    control, value = page.locator('[name="time"]'), str(sorted(set(table.time))[last - 5])
    assert control.get_attribute("aria-valuetext") == value
    assert page.locator('[name="time"] + span').inner_text() == value
    # whole curves are faint, and drawn up to the iteration
    lines = page.evaluate(SCENE, "line")
    counts = {}
    for point in lines:
        counts[point["opacity"]] = counts.get(point["opacity"], 0) + 1
    faint, drawn = counts.pop(0.25), sum(counts.values())
    assert faint / (last + 1) == drawn / (last - 4) == 2 * (len(METRICS) + 1)
    press(page, "strength", "ArrowRight", 2)
    smooth = table[table.setting.isna() | (table.setting == 2)]
    assert points_at(page, smooth, last - 5) != before
    assert reading(page) == texts[2][last - 5]
    assert (watched.refused, watched.errors) == ([], [])


def test_play_moves_and_pause_stops(show, descent):
    page = show(descent[0]).page
    press(page, "time", "Home")
    assert now(page) == 0
    button = page.get_by_role("button", name="Play")
    button.focus()
    page.keyboard.press("Enter")
    page.wait_for_function(f"() => ({READY})().signal('time') >= 3")
    assert page.locator("figure button").inner_text() == "Pause"
    page.keyboard.press("Space")
    assert page.locator("figure button").inner_text() == "Play"
    stopped = now(page)
    assert 3 <= stopped < descent[1].now.max()
    page.wait_for_timeout(1500)  # several values at the pace of the play
    assert now(page) == stopped
    points_at(page, descent[1][~(descent[1].setting > 0)], stopped)


def test_play_ends_at_the_last_value_and_starts_again(show, descent):
    page, last = show(descent[0]).page, descent[1].now.max()
    press(page, "time", "ArrowLeft")
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("() => document.querySelector('figure button').textContent == 'Play'")
    assert now(page) == last
    page.get_by_role("button", name="Play").click()
    page.wait_for_function(f"() => ({READY})().signal('time') < {last}")


def test_who_asked_for_less_motion_moves_one_value_a_press(show, descent):
    page = show(descent[0], reduced_motion="reduce").page
    press(page, "time", "Home")
    page.get_by_role("button", name="Next").click()
    page.wait_for_function(f"() => ({READY})().signal('time') == 1")
    page.wait_for_timeout(1000)
    assert now(page) == 1


def test_a_seed_and_an_epoch_of_four_losses_are_chosen_by_keyboard(show):
    draws, rows = np.random.default_rng(0), []
    columns = [*zhou_play.METRICS, *zhou_play.ACCURACY]
    for loss in LOSSES:
        for seed in range(3):
            for epoch in (1, 4, 9):
                values = dict(zip(columns, draws.uniform(0.1, 2, len(columns)), strict=True))
                rows.append({"loss": loss, "seed": seed, "epoch": epoch} | values)
    collapse = pd.DataFrame(rows)
    watched = show(zhou_play.explore_losses(collapse))
    page = watched.page
    press(page, "seed", "ArrowDown", 2)
    press(page, "time", "ArrowLeft")
    points = page.evaluate(SCENE, "symbol")
    right = collapse[(collapse.seed == 1) & (collapse.epoch == 4)].set_index("loss")
    names = {zhou_play.NAMES[loss]: loss for loss in LOSSES}
    assert len(points) == len(LOSSES) * (len(columns) + 1)
    for number, point in enumerate(points):
        column = [*columns, "NC2"][number // len(LOSSES)]
        loss = names[point["datum"]["curve"]]
        assert point["datum"][column] == pytest.approx(right[column][loss], rel=1e-5)
    assert reading(page).startswith("Epoch 4: ")
    assert (watched.refused, watched.errors) == ([], [])


# ---- the plane through three templates


def made_up_planes():
    """Two strengths, two epochs and two triples of classes, with images at one of them."""
    frames, images, names = [], [], {}
    draws = np.random.default_rng(3)
    for classes in (("ant", "bee", "cat"), ("ant", "cat", "dog")):
        names[", ".join(classes)] = classes
        for delta in (0.0, 0.05):
            for epoch in (2, 7):
                keys = {"delta": delta, "epoch": epoch, "classes": ", ".join(classes)}
                for part in templates.PARTS:
                    row = keys | {"part": part}
                    for name, count in (("mean", 3), ("template", 3), ("other", 2)):
                        for axis in "xy":
                            row[f"{name}_{axis}"] = draws.uniform(-1, 1, count)
                    root = draws.uniform(-0.4, 0.4, (2, 2))
                    xx, xy, _, yy = (root @ root.T).ravel()
                    row |= {"cov_xx": xx, "cov_xy": xy, "cov_yy": yy, "seen": 1.0}
                    row |= {name: draws.random() for name in ("side_ratio", "others", "spread")}
                    frames.append(row)
                if delta == 0 and epoch == 7:
                    for number, name in enumerate(classes):
                        at = {"x": draws.uniform(-1, 1, 4), "y": draws.uniform(-1, 1, 4)}
                        images.append({**keys, "number": number, "class": name, **at})
    return templates.Planes(pd.DataFrame(frames), pd.DataFrame(images), names)


def check_plane(page, planes, classes, delta, epoch):
    """Both panels show the rows of these keys; returns how many images are drawn."""
    found, side, edge = page.evaluate(SCENE, "symbol"), templates.SIDE, templates.EDGE
    ellipses = page.evaluate(SCENE, "line")
    ellipses = [point for point in ellipses if "angle" in point["datum"]]
    for number, part in enumerate(templates.PARTS):
        rows = planes.frames.set_index(["classes", "delta", "epoch", "part"])
        row = rows.loc[(classes, delta, epoch, part)]
        for name, mark in (
            ("mean", templates.MEAN),
            ("template", templates.TEMPLATE),
            ("other", templates.OTHER),
        ):
            points = [point for point in found if point["datum"]["mark"] == mark]
            here = points[: len(points) // 2] if number == 0 else points[len(points) // 2 :]
            x, y = row[f"{name}_x"], row[f"{name}_y"]
            assert [point["x"] for point in here] == pytest.approx(
                side * (x + edge) / (2 * edge), abs=0.1
            )
            assert [point["y"] for point in here] == pytest.approx(
                side * (edge - y) / (2 * edge), abs=0.1
            )
        half = len(ellipses) // 2
        inverse = np.linalg.inv([[row.cov_xx, row.cov_xy], [row.cov_xy, row.cov_yy]])
        for point in ellipses[number * half : (number + 1) * half]:
            datum = point["datum"]
            away = np.array([datum["x"] - datum["mean_x"], datum["y"] - datum["mean_y"]])
            assert away @ inverse @ away == pytest.approx(datum["deviations"] ** 2, rel=1e-3)
        assert f"{templates.PARTS[part]}: side ratio {row.side_ratio:.2f}" in reading(page)
    assert {point["datum"]["deviations"] for point in ellipses} == {1, 2}
    return sum(point["datum"]["mark"] == templates.IMAGE for point in found)


def test_strength_epoch_and_classes_move_the_plane_by_keyboard(show):
    planes = made_up_planes()
    watched = show(templates.explore_templates(planes))
    page = watched.page
    first, second = planes.names
    assert check_plane(page, planes, first, 0.0, 7) == 12
    press(page, "strength", "ArrowRight")
    assert check_plane(page, planes, first, 0.05, 7) == 0
    assert "not stored" in reading(page)
    press(page, "time", "Home")
    assert check_plane(page, planes, first, 0.05, 2) == 0
    press(page, "classes", "ArrowDown")
    assert check_plane(page, planes, second, 0.05, 2) == 0
    names = page.evaluate(SCENE.replace("item.shape", "item.text"), "text")
    assert [name["shape"] for name in names] == ["ant", "cat", "dog"] * 2
    assert (watched.refused, watched.errors) == ([], [])


def test_panels_fit_a_phone(show, descent):
    for shown in (templates.explore_templates(made_up_planes()), descent[0]):
        page = show(shown, viewport=NARROW).page
        right = "() => document.querySelector('figure svg').getBoundingClientRect().right"
        assert page.evaluate(right) <= NARROW["width"]
        assert page.evaluate("() => document.documentElement.scrollWidth") <= NARROW["width"]


def test_controls_are_called_by_their_labels(show, descent):
    page = show(descent[0]).page
    for label, name in (("smoothing strength δ", "strength"), ("iteration", "time")):
        assert page.get_by_label(label).get_attribute("name") == name
