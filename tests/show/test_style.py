"""One look for all figures: colours that can be told apart, decades on logarithmic axes, intervals
over seeds, and that no drawing function has a look of its own.
"""

import ast
import itertools
import re

import numpy as np
import pandas as pd
import pytest
from conftest import COLUMN, PHONE, READABLE, ROOT, text_px
from matplotlib import pyplot
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from scipy import stats

from lsnc_core.show import panels, style

# Linear RGB as seen without one kind of cone: Machado, Oliveira and Fernandes 2009, severity 1.
SEEN = {
    "all cones": np.eye(3),
    "no red": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "no green": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "no blue": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
# Methods that one figure shows together.
TOGETHER = (
    ("CE", "LS", "FL", "MSE"),
    ("alpha", "beta", "gamma"),
    ("CE", "LS", "posterior", "forward"),
    ("CE", "LS", "forward", "logit"),
)
# A difference of about 2 is just seen where two large areas touch (CIELAB, 1976).
APART = 15


def lab(colour, seen):
    """CIELAB of a hex colour under D65, as seen."""
    rgb = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.asarray(seen) @ linear, 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x = xyz @ linear / (0.9505, 1, 1.089)
    f = np.where(x > 216 / 24389, np.cbrt(x), (24389 / 27 * x + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


# colours


@pytest.mark.parametrize("seen", SEEN)
@pytest.mark.parametrize("methods", TOGETHER, ids=" ".join)
def test_methods_of_one_figure_can_be_told_apart(methods, seen):
    for one, other in itertools.combinations(methods, 2):
        colours = style.METHODS[one], style.METHODS[other]
        assert np.linalg.norm(lab(colours[0], SEEN[seen]) - lab(colours[1], SEEN[seen])) > APART


def test_each_method_has_one_colour_and_none_has_anothers():
    colours = [*style.METHODS.values(), *style.SPARE, style.INK, style.SOFT, style.PAPER]
    assert len(set(colours)) == len(colours)
    names = {"LS δ = 0.05": "LS", "LS(0.1)": "LS", "CE": "CE", "focal": "FL", "MSE(15)": "MSE"}
    names |= {"none": "CE", "mean field": "LS", "smoothing": "LS", "forward": "forward"}
    for name, key in names.items():
        assert style.method(name) == style.METHODS[key]
    assert style.method("my_loss.py") in style.SPARE


def test_stronger_smoothing_is_darker():
    lightness = [lab(style.strength(delta), SEEN["all cones"])[0] for delta in (0.02, 0.05, 0.1)]
    lightness += [lab(style.strength(delta), SEEN["all cones"])[0] for delta in (0.2, 0.5, 0.9)]
    assert (np.diff(lightness) < -3).all()
    assert style.strength(0) == style.METHODS["CE"]
    ordered = [lab(colour, SEEN["all cones"])[0] for colour in style.ordered(6)]
    assert (np.diff(ordered) > 5).all()


# What sets a colour or a size of text.
LOOKS = {"color", "c", "colors", "cmap", "mec", "mfc", "ec", "fc", "facecolor", "edgecolor"}
LOOKS |= {"fontsize", "labelsize", "size", "title_fontsize"}
DRAWINGS = sorted((ROOT / "lsnc_core" / "papers").rglob("*.py"))


def own_looks(tree):
    """Colours and sizes of text that are written out in a module instead of taken from `style`."""
    for node in ast.walk(tree):
        given = []
        if isinstance(node, ast.Call):
            given = [(keyword.arg, keyword.value) for keyword in node.keywords]
            if isinstance(node.func, ast.Attribute) and node.func.attr == "plot":
                written = [text for text in node.args if isinstance(text, ast.Constant)]
                texts = [text for text in literals(*written) if isinstance(text, str)]
                # letters of a format string that are colours
                yield from (text for text in texts if set(text) & set("bgrcmykw"))
        elif isinstance(node, ast.Dict):
            keys = [key.value if isinstance(key, ast.Constant) else "" for key in node.keys]
            given = list(zip(keys, node.values, strict=True))
        values = [value for name, value in given if name in LOOKS]
        # names of methods, columns and parts of a look are no colours
        known = {*style.METHODS, "color", "mfc", "test_beta", "independent", "shared"}
        yield from (text for text in literals(*values) if text not in known)


def literals(*nodes):
    """Texts and numbers with a point that are written out in expressions."""
    parts = itertools.chain(*(ast.walk(node) for node in nodes))
    constants = [part.value for part in parts if isinstance(part, ast.Constant)]
    return [value for value in constants if isinstance(value, str | float)]


@pytest.mark.parametrize("path", DRAWINGS, ids=lambda path: path.stem)
def test_no_drawing_function_has_colours_or_sizes_of_its_own(path):
    text = path.read_text(encoding="utf-8")
    assert list(own_looks(ast.parse(text))) == []
    assert not re.search(r"[\"']#[0-9a-fA-F]{6}[\"']|\bcolormaps\b|get_cmap", text)


@pytest.mark.parametrize(
    "line", ('p.plot(x, color="black")', 'look = {"mec": "white"}', 'p.plot(x, y, "k:")')
)
def test_a_look_of_its_own_is_found(line):
    assert list(own_looks(ast.parse(line)))


# axes


def tick_texts(low, high):
    canvas = Canvas()
    axes = canvas.subplots()
    axes.plot([low, high], [low, high])
    axes.set(yscale="log", ylim=(low, high))
    style.finish(canvas)
    FigureCanvasAgg(canvas).draw()
    ticks = [*axes.yaxis.get_major_ticks(), *axes.yaxis.get_minor_ticks()]
    inside = [tick for tick in ticks if low * 0.999 <= tick.get_loc() <= high * 1.001]
    return [text for tick in inside if (text := tick.label1.get_text())]


def test_decades_are_powers_of_ten():
    assert tick_texts(1e-3, 1.0) == [rf"$\mathdefault{{10^{{{power}}}}}$" for power in range(-3, 1)]
    assert 2 <= len(tick_texts(1e-16, 1.0)) <= 7


@pytest.mark.parametrize("low, high", ((0.06, 0.7), (0.035, 0.085), (2.0, 3.5), (120.0, 900.0)))
def test_less_than_two_decades_have_plain_decimals(low, high):
    texts = tick_texts(low, high)
    assert 3 <= len(texts) <= 10
    assert all(low <= float(text) <= high for text in texts)


# intervals


def test_intervals_over_seeds_are_students():
    values = np.random.default_rng(0).lognormal(size=(5, 3))
    curves = pd.DataFrame(values, columns=[1, 2, 4])
    for log in (False, True):
        table = panels.seed_intervals(curves, log)
        sample = np.log(values) if log else values
        low, high = stats.t.interval(0.95, 4, loc=sample.mean(0), scale=stats.sem(sample))
        expected = np.array([sample.mean(0), low, high])
        assert pytest.approx(np.exp(expected) if log else expected) == table.to_numpy().T
    assert (panels.seed_intervals(curves, log=True) > 0).all(axis=None)


def test_intervals_need_four_seeds_and_finite_values():
    curves = pd.DataFrame(np.ones((4, 3)), columns=[1, 2, 4])
    curves.loc[0, 2] = np.inf
    assert list(panels.seed_intervals(curves).index) == [1, 4]
    few = panels.seed_intervals(curves.iloc[1:])
    assert (few["mean"] == 1).all() and few[["low", "high"]].isna().all(axis=None)
    curves.loc[1, 4] = 0
    assert list(panels.seed_intervals(curves, log=True).index) == [1]


def test_the_legend_names_each_line_once_and_its_bands_where_there_are_some():
    named = {
        (4,): "95 % interval of the mean, 4 seeds",
        (8, 3, 4): "95 % interval of the mean, 4 to 8 seeds",
        (3,): "",
    }
    for numbers, explained in named.items():
        drawing, axes = panels.make_panels(3, 2)
        curves = pd.DataFrame(np.arange(2.0 * numbers[0]).reshape(numbers[0], 2))
        for panel in axes:
            panels.draw_band(panel, curves, label="CE")
        panels.draw_legend(drawing, axes, seeds=numbers)
        pyplot.close(drawing)  # other tests count the open ones
        texts = [text.get_text() for text in drawing.legends[0].get_texts()]
        assert texts == list(filter(None, ["CE", explained]))
        assert drawing.get_size_inches()[0] == style.WIDTH and not drawing.axes[3].axison


# text


def test_text_is_measured_as_the_page_shows_it():
    # 9 points on 7.5 inches: 12 px at full size (720 px), 9 px and a bit on a phone
    canvas = Canvas(figsize=(7.5, 3))
    canvas.text(0.5, 0.5, "a", fontsize=9)
    assert text_px(canvas, COLUMN) == pytest.approx(12)
    assert text_px(canvas, PHONE) == pytest.approx(9 * 544 / 540)
    wide = Canvas(figsize=(14, 3))
    wide.text(0.5, 0.5, "a", fontsize=9)
    assert text_px(wide, COLUMN) < READABLE[COLUMN] and text_px(wide, PHONE) < READABLE[PHONE]
