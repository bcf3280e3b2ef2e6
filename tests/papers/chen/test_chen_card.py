"""Chen's card: its equations, figures and claims are those of its pages."""

import importlib
import operator

import pytest

from lsnc_core.claims import OURS, claims_in
from lsnc_core.papers.chen import PAPER
from lsnc_core.show import cards_in

PAGES = [importlib.import_module(f"lsnc_core.papers.chen.{name}") for name in PAPER.pages]


def collect(found_in):
    """What `found_in` lists of each page, together."""
    listed = []
    for page in PAGES:
        listed += found_in(page)
    return listed


@pytest.mark.parametrize("equation", PAPER.equations, ids=lambda equation: equation.number)
def test_equations_name_functions_figures_and_claims_that_there_are(equation):
    room, _, name = equation.function.partition(".")
    function = operator.attrgetter(name)(importlib.import_module(f"lsnc_core.{room}"))
    assert callable(function)
    assert set(equation.figures) <= {card.name for card in collect(cards_in)}
    assert set(equation.claims) <= {claim.id for claim in collect(claims_in)}


def test_the_equations_stand_in_the_papers_order():
    numbers = [int(equation.number.removeprefix("Chen eq. ")) for equation in PAPER.equations]
    assert numbers == sorted(numbers)
    assert set(numbers) == {1, 2, 3, *range(7, 20)}


def test_every_claim_of_the_paper_has_a_place_and_an_expectation():
    claims = dict.fromkeys(collect(claims_in))
    assert {claim.id for claim in claims} == {f"C{number}" for number in range(1, 20)}
    assert len(claims) == 19
    # what the paper does not claim is not counted as its claim
    assert {claim.id for claim in claims if claim.paper == OURS} == {"C13", "C15", "C18", "C19"}
    for claim in claims:
        assert claim.place and claim.expected and claim.sentence.endswith(".")


def test_every_figure_of_the_paper_is_drawn_and_has_words():
    cards = collect(cards_in)
    numbered = {card.number for card in cards if card.number}
    assert {f"Figure {number}" for number in range(1, 12)} <= numbered
    for card in cards:
        assert card.paper.endswith(".") and card.alt.endswith(".") and card.title
    names = [card.name for card in cards]
    assert len(set(names)) == len(names)
