"""Guo's card: its equations, figures and claims are those of its pages."""

import importlib
import pkgutil

import pytest

from lsnc_core.claims import OURS, claims_in
from lsnc_core.papers.guo import PAPER
from lsnc_core.show import cards_in

PAGES = [importlib.import_module(f"lsnc_core.papers.guo.{name}") for name in PAPER.pages]


def collect(list_cards):
    """What `list_cards` lists of each page, together."""
    listed = []
    for page in PAGES:
        listed += list_cards(page)
    return listed


@pytest.mark.parametrize("equation", PAPER.equations, ids=lambda equation: equation.content)
def test_equations_name_functions_figures_and_claims_that_there_are(equation):
    assert callable(pkgutil.resolve_name(f"lsnc_core.{equation.function}"))
    assert set(equation.figures) <= {card.name for card in collect(cards_in)}
    assert set(equation.claims) <= {claim.id for claim in collect(claims_in)}


def test_every_claim_has_an_id_of_its_own_a_place_and_an_expectation():
    claims = list(dict.fromkeys(collect(claims_in)))
    assert sorted(claim.id for claim in claims) == sorted(f"G{k}" for k in range(1, 20))
    # what the paper does not claim is not counted as its claim
    assert {claim.id for claim in claims if claim.paper == OURS} == {"G13", "G14", "G17", "G18"}
    for claim in claims:
        assert claim.place and claim.expected and claim.sentence.endswith(".")


def test_every_figure_is_drawn_once_and_has_words():
    cards = collect(cards_in)
    assert {f"F{number}" for number in range(1, 13)} <= {card.number for card in cards}
    for card in cards:
        assert card.paper.endswith(".") and card.alt.endswith(".") and card.title
    names = [card.name for card in cards]
    assert len(set(names)) == len(names)
