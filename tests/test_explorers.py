"""Explorers of closed forms in a real browser from disk: Vega computes what Python does, and each
control moves its marks.
"""

import itertools
import json

import numpy as np
import pandas as pd
import pytest
import test_played
from test_browser import CHROMIUM, NARROW
from test_played import SCENE, press, reading

from lsnc_core.papers.chen import explore_formulas as chen
from lsnc_core.papers.guo import explore_model as guo
from lsnc_core.show import explorer, of_row
from lsnc_core.theory import label_noise, ufm, ufm_nonnegative, ufm_spectra

pytestmark = [
    pytest.mark.skipif(
        CHROMIUM is None, reason="chromium is not installed: apt-get install chromium"
    ),
    pytest.mark.filterwarnings("default::DeprecationWarning", "default::ResourceWarning"),
]
chromium, show = test_played.chromium, test_played.show  # fixtures

# as text: Playwright looks at every number that it hands over by itself
COMPUTE = """async text => {
    const [table, names] = JSON.parse(text);
    const chart = document.createElement('div');
    document.body.append(chart);
    const schema = 'https://vega.github.io/schema/vega/v6.json';  // a name, nothing is fetched
    const spec = {$schema: schema, data: [table], marks: []};
    const {view} = await vegaEmbed(chart, spec, {mode: 'vega'});
    const exact = value => Number.isNaN(value) || Math.abs(value) === Infinity ? `${value}` : value;
    return JSON.stringify(view.data('rows').map(row => names.map(name => exact(row[name]))));
}"""


def compute(page, expressions, rows):
    """Vega expressions over a table's rows; each may use those before it.

    Returns: pandas.DataFrame, float64, a column for each expression.
    """
    fields, steps = list(rows.columns), []
    for name, expression in expressions.items():
        steps.append({"type": "formula", "as": name, "expr": of_row(expression, fields)})
        fields.append(name)
    table = {"name": "rows", "values": rows.to_dict("records"), "transform": steps}
    text = page.evaluate(COMPUTE, json.dumps([table, list(expressions)], allow_nan=False))
    values = json.loads(text)
    return pd.DataFrame(values, columns=list(expressions), index=rows.index).astype(float)


def test_a_chart_is_one_picture_and_its_controls_have_names(show):
    """As the keyboard and a screen reader meet it."""
    page = show(guo.explore_minimiser()).page
    picture = page.get_by_role("img", name=guo.explore_minimiser().alt)
    assert picture.count() == 1
    for name in ("strength δ", "classes K", "log₁₀ n", "log₁₀ λ_W", "log₁₀ λ_H"):
        assert page.get_by_role("slider", name=name).count() == 1
    assert page.get_by_role("checkbox", name="non-negative features").count() == 1
    # else JupyterLab takes their arrow keys; it asks the focused element itself
    assert page.locator("figure input:not([data-lm-suppress-shortcuts])").count() == 0


# ---- Chen's landscape


def test_chens_formulas_are_those_of_python(show):
    page, rng, count = show(chen.explore_formulas()).page, np.random.default_rng(0), 12_000
    rows = pd.DataFrame(
        {
            "kind": rng.choice(label_noise.KINDS, count),
            "a": rng.random(count),
            "p": rng.random(count),
            "M": rng.integers(2, 101, count),
        }
    )
    # every a that the slider reaches, for two classes, where gamma's optimum splits at 3/4
    reached = np.arange(101) / 100
    edges = itertools.product(label_noise.KINDS, reached, (0.0, 1.0), (2,))
    rows = pd.concat([rows, pd.DataFrame(edges, columns=rows.columns)], ignore_index=True)
    found = compute(page, chen.EXPRESSIONS, rows)
    for (kind, M), part in rows.groupby(["kind", "M"]):
        expected = {
            "loss": label_noise.loss(kind, part.a, part.p, M),
            "best": label_noise.optimum(kind, part.a, M),
            "least": label_noise.best_loss(kind, part.a, M),
        }
        for name, values in expected.items():
            np.testing.assert_allclose(found.loc[part.index, name], values, rtol=1e-9, atol=1e-9)


def check_landscape(page, kind, a, p, M):
    """The reading and the marks are those of these values."""
    loss, best = label_noise.loss(kind, a, p, M), label_noise.optimum(kind, a, M)
    least = label_noise.best_loss(kind, a, M)
    cost = f"p = {p:.2f} gives {loss:.3f} nats. The best p is {best:.3f} with {least:.3f} nats."
    assert f"At a = {a:.2f} and M = {M}, {cost}" in reading(page)
    assert f"This p costs {loss - least:.3f} nats." in reading(page)
    on_map, lowest, chosen = page.evaluate(SCENE, "symbol")
    assert (on_map["x"], on_map["y"]) == pytest.approx((chen.SIDE * a, chen.SIDE * (1 - p)))
    top = chen.TOP * max(1, np.log10(M))
    assert lowest["x"] == pytest.approx(chen.SIDE * best)
    assert lowest["y"] == pytest.approx(chen.SIDE * (1 - least / top))
    assert chosen["y"] == pytest.approx(chen.SIDE * (1 - loss / top))
    cells = [one["datum"] for one in page.evaluate(SCENE, "rect")]
    assert len(cells) == chen.CELLS**2
    for cell in cells[:: chen.CELLS + 7]:
        expected = label_noise.loss(kind, cell["a"], cell["p"], M)
        assert cell["loss"] == pytest.approx(expected, rel=1e-9)


def test_each_control_moves_chens_landscape(show):
    watched = show(chen.explore_formulas())
    page = watched.page
    check_landscape(page, "alpha", 0.8, 0.9, 10)
    press(page, "a", "ArrowLeft", 20)
    check_landscape(page, "alpha", 0.6, 0.9, 10)
    press(page, "p", "ArrowLeft", 5)
    check_landscape(page, "alpha", 0.6, 0.85, 10)
    press(page, "M", "ArrowRight", 15)
    check_landscape(page, "alpha", 0.6, 0.85, 25)
    for kind in ("beta", "gamma"):
        press(page, "kind", "ArrowDown")
        check_landscape(page, kind, 0.6, 0.85, 25)
    press(page, "p", "End")
    assert "gives an infinite loss." in reading(page)
    assert (watched.refused, watched.errors) == ([], [])


# ---- Guo's feature model

MODEL = guo.SIZES | guo.MINIMISER | guo.CONDITION


def test_the_feature_models_formulas_are_those_of_python(show):
    page, rng, count = show(guo.explore_minimiser()).page, np.random.default_rng(1), 10_500
    rows = pd.DataFrame(
        {
            "delta": guo.STRONGEST * rng.random(count),
            "K": rng.integers(2, 101, count),
            "log_n": 4 * rng.random(count),
            "log_W": -5 + 4 * rng.random(count),
            "log_H": -8 + 6 * rng.random(count),
            "one_sign": rng.random(count) < 0.5,
        }
    )
    spectrum = {}
    for number, (value, multiplicity) in enumerate(guo.EIGENSPACES.values()):
        spectrum |= {f"value{number}": value, f"count{number}": multiplicity}
    found = compute(page, MODEL | spectrum, rows)
    spectra = 0
    for row, at in zip(rows.itertuples(), found.itertuples(), strict=True):
        model = ufm.FeatureModel(row.K, int(at.n), guo.D, 10**row.log_W, 10**row.log_H)
        theory = ufm_nonnegative if row.one_sign else ufm
        least = theory.minimiser(model, ufm.Loss("ls", row.delta))
        for name in ("margin", "W_norm", "h_norm", "p_on", "p_off"):
            assert getattr(at, name) == pytest.approx(getattr(least, name), rel=1e-9, abs=1e-9)
        if not row.one_sign and least.margin > 0:
            check_conditioning(at, model, row.delta)
            spectra += 1
    assert spectra > 3000


def check_conditioning(at, model, delta):
    """Condition numbers, rate and spectrum in W as `ufm_spectra` has them."""
    for name in guo.DEFINITIONS:
        expected = ufm_spectra.condition_number(model, delta, name)
        assert getattr(at, name) == pytest.approx(expected, rel=1e-9)
    rate = ufm_spectra.collapse_rate(model, delta) / model.lambda_H
    assert at.rate == pytest.approx(rate, rel=1e-9)
    known = {one.name: one for one in ufm_spectra.spectrum(model, delta, "W")}
    for number, name in enumerate(guo.EIGENSPACES):
        eigenvalue = known.get(name)
        multiplicity = eigenvalue.multiplicity if eigenvalue else 0
        assert getattr(at, f"count{number}") == multiplicity
        if eigenvalue:
            expected = eigenvalue.value / model.lambda_W
            assert getattr(at, f"value{number}") == pytest.approx(expected, rel=1e-9)


# control, key, presses, and the parameter after them
STEPS = (
    ("delta", "ArrowRight", 10, 0.2),
    ("K", "ArrowLeft", 5, 5),
    ("log_n", "ArrowLeft", 17, 2),
    ("log_W", "ArrowRight", 5, -2.5),
    ("log_H", "ArrowRight", 10, -5),
)


def test_each_control_moves_the_minimiser(show):
    watched = show(guo.explore_minimiser())
    page, chosen = watched.page, {"delta": 0.1, "K": 10, "log_n": 3.7, "log_W": -3, "log_H": -6}
    for name, key, times, value in STEPS:
        before = page.evaluate(SCENE, "rect"), page.evaluate(SCENE, "line")
        press(page, name, key, times)
        chosen[name] = value
        check_minimiser(page, ufm, **chosen)
        assert (page.evaluate(SCENE, "rect"), page.evaluate(SCENE, "line")) != before
    press(page, "one_sign", "Space")
    check_minimiser(page, ufm_nonnegative, **chosen)
    press(page, "log_W", "End")
    press(page, "log_H", "End")
    assert "the minimiser is zero" in reading(page)
    assert (watched.refused, watched.errors) == ([], [])


def check_minimiser(page, theory, delta, K, log_n, log_W, log_H):
    model = ufm.FeatureModel(K, round(10**log_n), guo.D, 10**log_W, 10**log_H)
    least = theory.minimiser(model, ufm.Loss("ls", delta))
    words = f"Margin {least.margin:.3f}, norm of wₖ {least.W_norm:.3f}"
    assert words in reading(page)
    # label and softmax of the own class, then of each other
    expected = (1 - delta + delta / K, least.p_on, delta / K, least.p_off)
    bars = [one["datum"]["height"] for one in page.evaluate(SCENE, "rect")]
    assert bars == pytest.approx(expected)
    (rule, *_) = page.evaluate(SCENE, "rule")
    assert rule["datum"]["delta"] == pytest.approx(delta)
    curve = [one["datum"] for one in page.evaluate(SCENE, "line")]
    here = [one for one in curve if one["delta"] == pytest.approx(delta)]
    values = {one["key"]: one["value"] for one in here}
    fields = {name: float(getattr(least, name)) for name in ("margin", "W_norm", "h_norm")}
    assert values == pytest.approx(fields)


def test_each_control_moves_the_conditioning(show):
    watched = show(guo.explore_conditioning(), NARROW)
    page, chosen = watched.page, {"delta": 0.1, "K": 10, "log_n": 3.7, "log_W": -3, "log_H": -6}
    for name, key, times, value in STEPS:
        press(page, name, key, times)
        chosen[name] = value
        sizes = round(10 ** chosen["log_n"]), guo.D, 10 ** chosen["log_W"], 10 ** chosen["log_H"]
        model = ufm.FeatureModel(chosen["K"], *sizes)
        numbers = [
            f"{name} {ufm_spectra.condition_number(model, chosen['delta'], name):.2f}"
            for name in guo.DEFINITIONS
        ]
        assert f"Condition numbers: {', '.join(numbers)}." in reading(page)
        dots = [one["datum"]["value"] for one in page.evaluate(SCENE, "symbol")]
        known = ufm_spectra.spectrum(model, chosen["delta"], "W")
        assert sorted(dots) == pytest.approx(sorted(one.value / model.lambda_W for one in known))
    assert (watched.refused, watched.errors) == ([], [])


# ---- in a notebook


def test_vega_comes_once_and_those_that_came_before_it_wait(show, monkeypatch, tmp_path):
    monkeypatch.setattr(explorer, "_carrier", [])
    first, second = guo.explore_minimiser(), guo.explore_conditioning()
    page = show(first).page  # as JupyterLab reopens a notebook from its middle
    texts = [one._repr_mimebundle_()["text/html"] for one in (first, second, first)]
    assert texts[0] == texts[2] and [len(text) > 500_000 for text in texts] == [True, False, True]
    for name, text in (("second", texts[1]), ("first", texts[0])):
        (tmp_path / f"{name}.html").write_text(f'<meta charset="utf-8">{text}', encoding="utf-8")
    page.goto((tmp_path / "second.html").as_uri())
    assert page.locator("figure .chart svg").count() == 0
    page.evaluate(
        """text => {
            const output = document.createElement('div');
            output.innerHTML = text;  // scripts in it run once they are made anew
            document.body.append(output);
            for (const script of output.querySelectorAll('script:not([type])')) {
                const running = document.createElement('script');
                running.textContent = script.textContent;
                script.replaceWith(running);
            }
        }""",
        texts[0],
    )
    page.wait_for_function("() => document.querySelectorAll('figure .chart svg').length == 2")
