"""The feature model under four losses: verdicts on what is computed and on tables that must fail,
figures.
"""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy import special

from lsnc_core import profiles
from lsnc_core.claims import FAILS, HOLDS, every
from lsnc_core.errors import UsageError
from lsnc_core.papers.zhou import model
from lsnc_core.papers.zhou import zhou_3_landscape as page


@pytest.fixture(scope="module")
def tables():
    """Every table of the page at smoke size."""
    return page.load("smoke")


def outcomes(verdict):
    """Outcome by loss: all cases of one name together."""
    found = {}
    for case in verdict.cases:
        found.setdefault(case.name.split(" ", 1)[1], []).append(case.outcome)
    return {name: every(parts) for name, parts in found.items()}


def test_all_starts_reach_the_value_and_the_margins(tables):
    assert tables.all_starts.query("iteration == 400").gap.max() < 1e-6
    assert set(tables.all_starts.spread) == set(model.SPREADS)
    verdict = page.decide_z_c6(tables.margins)
    assert verdict.outcome == HOLDS and set(outcomes(verdict)) == set(model.LOSSES)
    for column, value in (("margin_error", 2e-6), ("value_error", 2e-10), ("form_error", 2e-6)):
        wrong = tables.margins.copy()
        wrong.loc[wrong.loss == "CE", column] = value
        expected = dict.fromkeys(model.LOSSES, HOLDS) | {"CE": FAILS}
        assert outcomes(page.decide_z_c6(wrong)) == expected


def test_the_simpler_condition_on_focal_loss_is_lambert_s():
    # log p = 2 p - 2 below 1: -2 p exp(-2 p) = -2 exp(-2)
    expected = -special.lambertw(-2 * np.exp(-2)).real / 2
    assert model.enough_for_focal() == pytest.approx(expected, abs=1e-12)


def test_saddles_are_strict_and_a_hidden_minimum_would_be_noticed(tables):
    table = tables.critical_points
    verdict = page.decide_z_c7(table)
    assert verdict.outcome == HOLDS and set(outcomes(verdict)) == set(model.SADDLE_LOSSES)
    assert (table[table["rank"] < 3].least < -1e-3).all()
    assert table[table["rank"] == 3].globally.all()
    np.testing.assert_allclose(table.bound, 2e-3)  # both weight decays
    hidden = table.copy()
    hidden.loc[(hidden.loss == "FL(3)") & (hidden["rank"] == 2), "least"] = 1e-3
    found = outcomes(page.decide_z_c7(hidden))
    assert found["FL(3)"] == FAILS and found["CE"] == HOLDS
    # the criterion of a global minimiser, either way: a saddle that meets it, a least value that
    # does not
    for chosen, factor in (
        ((table.loss == "FL(3)") & (table["rank"] == 2), 1.0),
        ((table.loss == "CE") & table.globally, 1.001),
    ):
        wrong = table.copy()
        wrong.loc[chosen, "data_gradient"] = factor * table.bound
        found = outcomes(page.decide_z_c7(wrong))
        failed = [name for name, outcome in found.items() if outcome == FAILS]
        assert failed == table.loss[chosen].tolist()
    off = table.assign(least=table.least - 1e-6)
    assert outcomes(page.decide_z_c7(off))["CE"] == FAILS  # the formula at the origin
    # a loss without a critical point above its least value has nothing to show
    none = table[(table.loss != "CE") | table.globally]
    assert outcomes(page.decide_z_c7(none))["CE"] == FAILS


def test_the_focal_region(tables):
    table = tables.hessians
    verdict = page.decide_z_c8(table)
    wrong, greatest = verdict.cases
    assert verdict.outcome == HOLDS and wrong.value == 0
    assert greatest.value == pytest.approx(0.05844, abs=1e-5) and greatest.at_most == 0.0585
    assert 0.2 < (table.least < 0).mean() < 0.8
    assert (table.p / table.edge).between(0.9, 1.1).mean() > 0.3
    assert page.decide_z_c8(table.assign(edge=table.edge * 1.05)).outcome == FAILS


def test_the_contrastive_bound(tables, monkeypatch):
    verdict = page.decide_z_c9(tables.gaps)
    assert verdict.outcome == HOLDS and "0.011752" in verdict.measured
    assert set(outcomes(verdict)) == {"CE", "LS(0.1)", "FL(1)", "FL(3)"}
    true = model.ufm_landscape.contrastive_gap
    # below the bound; never equal to it
    for wrong in (lambda gap: np.where(gap > 1e-3, -1e-8, gap), lambda gap: gap + 1e-8):
        monkeypatch.setattr(
            model.ufm_landscape,
            "contrastive_gap",
            lambda *given, wrong=wrong: wrong(true(*given)),
        )
        assert page.decide_z_c9(model.contrastive_gap_table("smoke")).outcome == FAILS


def test_every_profile_has_a_size():
    assert set(model.LANDSCAPE) == set(profiles.PROFILES)
    assert model.LANDSCAPE["quick"].starts == 50
    unknown = r"unknown profile 'fast'; the profiles are smoke, quick, hour, gpu, paper\."
    with pytest.raises(UsageError, match=unknown):
        model.landscape_size("fast")


@pytest.mark.parametrize(
    ("draw", "table"),
    [
        (page.draw_all_starts, "all_starts"),
        (page.draw_margins, "margins"),
        (page.draw_critical_points, "critical_points"),
        (page.draw_focal_region, "hessians"),
    ],
)
def test_figures_are_closed_named_and_drawn_without_a_warning(draw, table, tables):
    figure = draw(getattr(tables, table))
    assert plt.get_fignums() == [] and figure.table is getattr(tables, table)
    panels = figure.drawing.axes
    assert figure.drawing.legends or any(panel.get_legend() for panel in panels)
    for panel in panels:
        across = panel.get_shared_x_axes().get_siblings(panel)
        up = panel.get_shared_y_axes().get_siblings(panel)
        assert any(other.get_xlabel() for other in across)
        assert panel.get_title() or any(other.get_ylabel() for other in up)
