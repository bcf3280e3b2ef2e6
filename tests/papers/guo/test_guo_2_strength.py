"""Guo's norms and collapse against the strength: the verdicts both ways on made-up tables, F6."""

import pytest
from guo_tables import made_up_history, texts_of

from lsnc_core.claims import FAILS, HOLDS, UNDECIDED, claims_in
from lsnc_core.papers.guo import guo_2_strength as page
from lsnc_core.papers.guo.drawing import STRENGTH
from lsnc_core.show import cards_in


@pytest.mark.parametrize("better, outcome", ((1.0, HOLDS), (-1.0, FAILS), (0.0, UNDECIDED)))
def test_g5_follows_the_direction(better, outcome):
    assert page.decide_g5(made_up_history(better)).outcome == outcome


def test_g5_with_too_few_seeds_is_open():
    assert page.decide_g5(made_up_history(seeds=3)).outcome == UNDECIDED


@pytest.mark.parametrize("best, outcome", ((0.1, HOLDS), (0.5, HOLDS), (0.0, FAILS)))
def test_g14_asks_for_a_lowest_nc1_inside(best, outcome):
    table = made_up_history()
    table["nc1"] = 0.1 + (table.delta - best) ** 2 + 1e-5 * table.seed
    verdict = page.decide_g14(table)
    # a lowest point at an end is never told from its neighbour
    assert verdict.outcome == (UNDECIDED if best == 0 else outcome)
    (case,) = verdict.cases
    assert case.value == pytest.approx(best, abs=0.005) or best == 0.5
    assert page.decide_g14(made_up_history(seeds=2)).outcome == UNDECIDED


def test_the_figure_names_its_axes():
    assert STRENGTH in texts_of(page.draw_f6(made_up_history()))


def test_the_cards_name_figures_and_claims():
    assert [card.number for card in cards_in(page)] == ["F6"]
    assert [claim.id for claim in claims_in(page)] == ["G5", "G14"]
