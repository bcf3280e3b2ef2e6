"""Theorem 1 on what an optimiser finds and on networks: tables, both verdicts either way,
figures.
"""

import itertools
import math
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from nulls.guo import SETTINGS, halve

from lsnc_core import models
from lsnc_core.claims import FAILS, HOLDS, UNDECIDED, every
from lsnc_core.papers.guo import guo_4_minimisers as page
from lsnc_core.papers.guo import measured, minimisers, model, theorem_networks
from lsnc_core.show import style
from lsnc_core.theory import ufm


@pytest.fixture(scope="module")
def tables():
    """The feature model's tables at smoke size."""
    return page.load("smoke")


def outcomes(verdict):
    """The outcome of each part, over its cases."""
    parts = {}
    for case in verdict.cases:
        parts.setdefault(case.name.strip(), []).append(case.outcome)
    return {name: every(outcomes) for name, outcomes in parts.items()}


# ---- the feature model


def test_theorem_1_holds_on_what_the_optimiser_finds(tables):
    verdict = page.decide_g11(tables)
    assert verdict.outcome == HOLDS and set(outcomes(verdict)) == {
        "closed form",
        "threshold",
        "limit ε → 0",
    }
    cells = tables.cells
    assert set(cells.varied) == {"strength", "K", "decay"}
    assert sorted(set(cells.K)) == [2, 3, 5, 10, 20]
    for row in cells.itertuples():
        margin = np.log(row.K / (row.strength + row.K * row.eps) - row.K + 1)
        assert row.margin == pytest.approx(margin)
        assert row.found_margin == pytest.approx(row.margin, abs=1e-6)
    rows = {row[0]: row[1:] for row in page.list_code_norms().rows}
    assert rows["0.05"] == ["3.1278", "3.1278", "1.3988", "1.3988"]


@pytest.mark.parametrize(
    ("table", "column", "value", "part"),
    [
        ("cells", "loss_error", 1e-11, "closed form"),
        ("cells", "logit_error", 2e-6, "closed form"),
        ("cells", "norm_error", 2e-6, "closed form"),
        ("threshold", "logit_error", 2e-6, "threshold"),
        ("threshold", "found_w", 0.0, "threshold"),
        ("threshold", "found_h", 0.2, "threshold"),
        ("limits", "searched", 3.0, "limit ε → 0"),
        ("limits", "limit", 3.0, "limit ε → 0"),
    ],
)
def test_theorem_1_fails_when_a_number_is_off(tables, table, column, value, part):
    wrong = getattr(tables, table).assign(**{column: value})
    found = outcomes(page.decide_g11(tables._replace(**{table: wrong})))
    expected = dict.fromkeys(("closed form", "threshold", "limit ε → 0"), HOLDS)
    assert found == expected | {part: FAILS}


# ---- non-negative features


def test_the_form_for_non_negative_features_holds_on_what_the_optimiser_finds(tables):
    verdict = page.decide_g17(tables.nonnegative)
    assert verdict.outcome == HOLDS and set(outcomes(verdict)) == {
        "closed form",
        "frame",
        "collapse",
    }
    cells = tables.nonnegative
    assert sorted(set(cells.K)) == [2, 3, 5, 10, 20]
    for row in cells.itertuples():
        # lambda_W = 1e-3 and n lambda_H = 5e-3, with the factor K/(K-1) written out
        eps = math.sqrt(1e-3 * 5e-3 * row.K / (row.K - 1))
        margin = math.log(row.K / (row.strength + row.K * eps) - row.K + 1)
        h_norm = math.sqrt(margin) * ((row.K - 1) / (5 * row.K)) ** 0.25
        found = (row.found_margin, row.found_feature_norm)
        assert found == pytest.approx((margin, h_norm), abs=1e-5)
        h_centred = h_norm * math.sqrt(1 - 1 / row.K)
        assert row.found_h_norm == pytest.approx(h_centred, abs=1e-5)
    code = cells[(cells.varied == "strength") & (cells.strength == 0.05)].iloc[0]
    shown = code[["any_w_norm", "any_h_norm", "found_w_norm", "found_h_norm"]]
    assert shown.tolist() == pytest.approx([3.1278, 1.3988, 3.2054, 1.3600], abs=5e-5)
    # 2.5 % more and 2.8 % less: beyond the 2 % of G9
    changes = code[["found_change_w_norm", "found_change_h_norm"]]
    assert changes.tolist() == pytest.approx([2.48, -2.78], abs=0.01)


@pytest.mark.parametrize(
    ("column", "value", "part"),
    [
        ("loss_error", 2e-8, "closed form"),
        ("logit_error", 2e-5, "closed form"),
        ("norm_error", 2e-4, "closed form"),
        ("cosine", 2e-4, "frame"),
        ("collapse", 2e-4, "collapse"),
    ],
)
def test_the_form_for_non_negative_features_fails_when_a_number_is_off(tables, column, value, part):
    found = outcomes(page.decide_g17(tables.nonnegative.assign(**{column: value})))
    assert found == dict.fromkeys(("closed form", "frame", "collapse"), HOLDS) | {part: FAILS}


def test_features_of_any_sign_do_not_pass_for_non_negative_ones():
    """The simplex ETF of the same model misses every part that tells the two apart."""
    code, loss = model.code_model(), ufm.Loss("ls", 0.05)
    expected = minimisers.closed_forms(code, ufm.Loss("ls", np.array([0.05]))).iloc[0]
    found = minimisers._measure(code, ufm.construct(code, loss, seed=0)[None], expected)
    assert found["norm_error"] > 0.03 and found["logit_error"] > 0.01
    assert found["cosine"] == pytest.approx(1 / 9) and found["collapse"] < 1e-6


# ---- networks


@pytest.mark.parametrize("profile", theorem_networks.SIZES)
def test_every_profile_has_distinct_runs(profile):
    specs = page.plan_runs(profile)
    assert len(set(specs)) == len(specs)


@pytest.mark.parametrize("profile", ("quick", "paper"))
def test_runs_are_predicted_the_norms_of_the_released_code(profile):
    """They keep n lambda_H, on which alone the norms depend; the numbers are constants of the
    authors' plot.
    """
    code = {0.0: (3.4987, 1.5647), 0.05: (3.1278, 1.3988), 0.1: (2.9371, 1.3135)}
    specs = page.plan_runs(profile)
    assert {spec.weight_decay for spec in specs} == {0.0}
    assert all(spec.feature_norm and spec.lambda_b == 1e-2 for spec in specs)
    for spec in specs:
        delta = measured.strength(spec)
        at = ufm.minimiser(theorem_networks.network_model(spec), ufm.Loss("ls", delta))
        assert (round(float(at.W_norm), 4), round(float(at.h_norm), 4)) == code[delta]


def test_runs_that_end_in_a_relu_are_predicted_the_norms_of_non_negative_features():
    spec = page.plan_runs("quick")[0]
    assert theorem_networks.predict_norms(spec) == pytest.approx((3.4987, 1.5647), abs=5e-5)
    ends_in_a_relu = replace(spec, feature_norm=False)
    found = theorem_networks.predict_norms(ends_in_a_relu)
    assert found == pytest.approx((3.5762, 1.5173), abs=5e-5)


@pytest.mark.parametrize("name", models.MODELS)
def test_features_are_non_negative_exactly_without_batch_norm_after_them(name):
    """What `predict_norms` takes the signs from, on random images."""
    images = torch.randn(8, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    widths = {"mlp": (12,)}.get(name, (4,) if name.startswith("resnet") else (4, 8, 12))
    for feature_norm in (False, True):
        if feature_norm and name == "lenet":
            continue  # has none
        options = {"feature_norm": True} if feature_norm else {}
        network = models.build(name, (1, 16, 16), 10, widths, **options)
        with torch.no_grad():
            assert (network.features(images).min() < 0) == feature_norm


def norms_table(error, nc1=0.01):
    """Norms off by `error` at the end, a little apart by seed."""
    rows = []
    for delta, seed in itertools.product((0.0, 0.05, 0.1), range(4)):
        off = error + 1e-3 * (seed - 1.5)
        row = SETTINGS | {"epoch": 60, "seed": seed, "delta": delta, "loss": "ce", "nc1": nc1}
        row |= {"lambda_W": 1e-3, "lambda_b": 1e-2, "lambda_H": 2.5e-4, "test_error": 0.1}
        row |= {"w_norm": 3 * (1 + off), "predicted_w": 3.0, "error_w": off}
        row |= {"h_norm": 2 * (1 - off), "predicted_h": 2.0, "error_h": -off}
        rows.append(row | {"widths": (8, 16, 64)})
    return pd.DataFrame(rows)


def decide_g9(table, change=0.0):
    """G9 where norms change by a part when the schedule is halved."""
    return page.decide_g9(table, halve(table, change))


@pytest.mark.parametrize(
    "settings, outcome, text",
    (
        ({"error": 0.01}, HOLDS, "off by +1.0%"),
        ({"error": 0.05}, FAILS, "+5.0%"),
        ({"error": 0.05, "nc1": 0.3}, UNDECIDED, "largest NC1 at the end (δ = 0) is 0.3"),
        ({"error": 0.02}, UNDECIDED, "+2.0%"),
    ),
)
def test_g9_is_about_two_percent_and_presumes_collapsed_features(settings, outcome, text):
    verdict = decide_g9(norms_table(**settings))
    assert verdict.outcome == outcome and text in verdict.measured
    case = verdict.cases[0]
    assert case.value == pytest.approx(settings["error"])
    assert (case.at_least, case.at_most) == (-0.02, 0.02)
    scale = {size.name: size.here for size in verdict.scale}
    assert scale["weight decay"] == "λ_W = 0.001, λ_H = 0.00025, λ_b = 0.01"


@pytest.mark.parametrize(("error", "outcome"), [(0.01, HOLDS), (0.05, FAILS)])
def test_g9_is_open_either_way_while_networks_move_or_have_not_collapsed(error, outcome):
    assert decide_g9(norms_table(error), change=0.015).outcome == outcome
    moving = decide_g9(norms_table(error), change=0.03)
    assert {premise.name for premise in moving.unmet} == {"training ended"}
    for unsettled in (moving, decide_g9(norms_table(error, nc1=0.3))):
        assert {case.outcome for case in unsettled.cases} == {UNDECIDED}


def test_norms_are_set_beside_the_theorems(tmp_path, monkeypatch):
    monkeypatch.setenv("LSNC_OUTPUTS", str(tmp_path))
    table, halved = page.load_networks("smoke", "cpu")
    assert set(halved.epoch) == {3} and len(halved) == 3
    assert sorted(set(table.delta)) == [0.0, 0.05, 0.1]
    # Theorem 1 written out at n lambda_H = 5e-3, lambda_W = 1e-3, K = 10
    for row in table.itertuples():
        a = math.log(10 / (10 * math.sqrt(5e-6) + row.delta) - 9)
        w, h = math.sqrt(0.9 * a) * 5**0.25, math.sqrt(0.9 * a) * 5**-0.25
        assert (row.error_w, row.error_h) == pytest.approx((row.w_norm / w - 1, row.h_norm / h - 1))
    caption = theorem_networks.describe_norms(table)
    assert "λ_H = 0.0005 for 100 images" in caption and "theorem 3.499" in caption
    assert page.decide_g9(table, halved).outcome == UNDECIDED  # one seed


# ---- figures


@pytest.mark.parametrize("name", ["theorem_1", "threshold", "nonnegative", "f10"])
def test_figures_are_closed_named_and_drawn_without_a_warning(name, tables):
    shown = {"theorem_1": tables.cells, "threshold": tables.threshold, "f10": norms_table(0.01)}
    shown["nonnegative"] = tables.nonnegative
    figure = getattr(page, f"draw_{name}")(shown[name]).drawing
    assert plt.get_fignums() == []
    assert figure.legends or any(axes.get_legend() for axes in figure.axes)
    for axes in figure.axes:
        across = axes.get_shared_x_axes().get_siblings(axes)
        down = axes.get_shared_y_axes().get_siblings(axes)
        assert any(other.get_xlabel() for other in across)
        assert axes.get_title() or any(other.get_ylabel() for other in down)


def test_lines_are_predictions_and_marks_are_findings(tables):
    figure = page.draw_threshold(tables.threshold).drawing
    line, *marks = figure.axes[0].lines[:3]
    level, margin = line.get_data()
    expected = np.where(level < 1, np.log(np.maximum(4 / level - 3, 1)), 0)
    np.testing.assert_allclose(margin, expected, atol=1e-12)
    for mark, (_, part) in zip(marks, tables.threshold.groupby("strength"), strict=True):
        np.testing.assert_allclose(mark.get_ydata(), part.found_margin)


def test_the_figure_of_non_negative_features_draws_both_forms(tables):
    norms, change, _ = page.draw_nonnegative(tables.nonnegative).drawing.axes
    strengths = tables.nonnegative[tables.nonnegative.varied == "strength"]
    for panel, column in ((norms, "found_w_norm"), (change, "found_change_w_norm")):
        marks = next(line for line in panel.lines if line.get_label() == r"$\|w_k\|$")
        np.testing.assert_allclose(marks.get_ydata(), strengths[column])
    # dotted: the forms of any sign, at delta = 0 those of the released code
    dotted = [line for line in norms.lines if line.get_linestyle() == ":"]
    dotted = [line.get_ydata()[0] for line in dotted if line.get_color() == style.SOFT]
    assert sorted(dotted)[-2:] == pytest.approx([3.4987, 6.0827], abs=5e-5)


def test_the_figure_of_norms_draws_every_strength():
    figure = page.draw_f10(norms_table(0.01)).drawing
    texts = {text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))}
    assert {r"$\delta$ = 0", r"$\delta$ = 0.05", r"$\delta$ = 0.1", "epoch"} <= texts
