"""Theorem 2's spectra and condition numbers, G12 either way, captions and figures."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lsnc_core.claims import FAILS, HOLDS
from lsnc_core.papers.guo import guo_5_conditioning as page
from lsnc_core.theory import ufm_spectra


@pytest.fixture(scope="module")
def tables():
    return page.load()


def test_spectra_are_as_predicted(tables):
    table = tables.spectra
    assert np.abs(table.predicted - table.computed).max() < 1e-10
    sizes = {"W": 35, "H": 105, "all": 145}
    for (_, block), part in table.groupby(["delta", "block"]):
        assert len(part) == sizes[block] and part.predicted.is_monotonic_increasing


def test_the_theorem_holds_as_D1(tables, monkeypatch):
    verdict = page.decide_g12(tables.hessians, tables.conditions)
    assert verdict.outcome == HOLDS and len(tables.hessians) == 48
    ratio, error, rises = verdict.cases[:3]
    assert ratio.value == pytest.approx(1 - 0.0459, abs=1e-4)
    assert error.value < 1e-10 and rises.value == 0
    true = ufm_spectra.condition_number
    for wrong in (
        lambda *given: true(*given) + 1e-9,
        lambda model, delta, name: true(model, 0.0 * np.asarray(delta), name),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(ufm_spectra, "condition_number", wrong)
            assert page.decide_g12(page.hessian_table(), tables.conditions).outcome == FAILS


def test_a_condition_number_that_does_not_fall_fails(tables, monkeypatch):
    def flat(model, delta, name):
        return np.ones_like(delta)

    monkeypatch.setattr(ufm_spectra, "condition_number", flat)
    _, error, rises = page.decide_g12(tables.hessians, tables.conditions).cases[:3]
    assert error.outcome == HOLDS and rises.value == 3 * 299 and rises.outcome == FAILS


def test_the_other_readings_are_told_and_decide_nothing(tables):
    verdict = page.decide_g12(tables.hessians, tables.conditions)
    assert verdict.tried_on.endswith("read as D1")
    others = {case.name: case for case in verdict.cases if not case.deciding}
    names = ("D3 (K = 10)", "D3 (K = 100)", "D4 (K = 10)", "D4 (K = 100)", "D5 (K = 10)")
    expected = dict.fromkeys(names, FAILS) | {"D5 (K = 100)": HOLDS}
    assert {case.name: case.outcome for case in others.values()} == expected
    assert others["D3 (K = 10)"].remark == "4.328 at δ = 0, 6.104 at δ = 0.05"
    assert others["D3 (K = 10)"].value == pytest.approx(6.104 / 4.328, rel=1e-3)
    assert others["D4 (K = 10)"].remark.startswith("6.96 at δ = 0, 15.71")
    assert "5 are higher with smoothing: D3 (K = 10) 1.41, " in verdict.remark
    assert verdict.remark.endswith("D5 (K = 100) 0.80")
    # not lower is not "lower"
    equal = page.decide_g12(tables.hessians, tables.conditions.assign(ratio=1.0))
    assert {case.outcome for case in equal.cases if not case.deciding} == {FAILS}
    assert equal.outcome == FAILS and equal.cases[0].outcome == FAILS


def test_captions_follow_their_tables(tables):
    spectra = tables.spectra
    flipped = spectra.assign(delta=spectra.delta.map({0.0: 0.2, 0.05: 0.05, 0.2: 0.0}))
    assert "17 of 28 eigenspaces rise, 0 fall" in page.describe_spectra(spectra)
    assert "0 of 28 eigenspaces rise, 17 fall" in page.describe_spectra(flipped)
    caption = page.describe_conditions(tables.conditions)
    assert "K = 10: D1 everywhere" in caption
    assert "D4 nowhere, D5 nowhere; K = 100" in caption
    assert page.describe_changes(tables.conditions).startswith("-4.6% (D1), +41.0% (D3), ")
    line = pd.DataFrame({"delta": [0, 0.1, 0.2], "ratio": [1, 1.1, 0.9]})
    assert page.describe_below_one(line) == "from δ = 0.2 on"
    line = pd.DataFrame({"delta": [0.1, 0.2, 0.3], "ratio": [0.9, 1.1, 0.9]})
    assert page.describe_below_one(line) == "at 2 of 3 strengths"


@pytest.mark.parametrize("name", ["spectra", "conditions"])
def test_figures_are_closed_named_and_drawn_without_a_warning(name, tables):
    figure = getattr(page, f"draw_{name}")(getattr(tables, name)).drawing
    assert plt.get_fignums() == []
    assert figure.legends or any(axes.get_legend() for axes in figure.axes)
    for axes in figure.axes:
        assert axes.get_xlabel() and (axes.get_ylabel() or axes.get_title())
