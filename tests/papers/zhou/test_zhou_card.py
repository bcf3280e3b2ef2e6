"""Zhou's card: claims and figures with all their words, equations that lead to code."""

import importlib
import itertools

from lsnc_core.claims import claims_in
from lsnc_core.papers.zhou import (
    PAPER,
    zhou_1_losses_collapse,
    zhou_2_equal_accuracy,
    zhou_3_landscape,
)
from lsnc_core.show import cards_in

PAGES = (zhou_1_losses_collapse, zhou_2_equal_accuracy, zhou_3_landscape)
CLAIMS = {
    "zhou_1_losses_collapse": ["Z-C1", "Z-C2", "Z-C10"],
    "zhou_2_equal_accuracy": ["Z-C3", "Z-C4", "Z-C5"],
    "zhou_3_landscape": ["Z-C6", "Z-C7", "Z-C8", "Z-C9"],
}
FIGURES = {
    "zhou_1_losses_collapse": ["zhou-z1", "zhou-z1-cifar100", "zhou-gram"],
    "zhou_2_equal_accuracy": ["zhou-z2", "zhou-z3", "zhou-z4", "zhou-z5"],
    "zhou_3_landscape": ["zhou-all-starts", "zhou-margins", "zhou-saddles", "zhou-focal-region"],
}


def test_every_page_has_its_claims_and_figures():
    assert PAPER.pages == tuple(page.__name__.split(".")[-1] for page in PAGES)
    for name, page in zip(PAPER.pages, PAGES, strict=True):
        assert [claim.id for claim in claims_in(page)] == CLAIMS[name]
        assert [card.name for card in cards_in(page)] == FIGURES[name]
        assert page.PAGE.title and page.PAGE.minutes["quick"] > 0


def test_claims_and_figures_have_all_their_words():
    for page in PAGES:
        for claim in claims_in(page):
            assert claim.paper == PAPER.name and claim.place and claim.expected
            assert claim.sentence.endswith(".")
            assert not claim.changed or claim.changed.endswith(".")
        for card in cards_in(page):
            assert card.title and card.alt.endswith(".") and card.paper.endswith(".")


def test_every_equation_leads_to_code_figures_and_claims():
    numbers = [equation.number for equation in PAPER.equations]
    assert len(numbers) == len(set(numbers))
    figures = set(itertools.chain(*FIGURES.values()))
    claims = set(itertools.chain(*CLAIMS.values()))
    for equation in PAPER.equations:
        module, _, function = equation.function.rpartition(".")
        assert callable(getattr(importlib.import_module(f"lsnc_core.{module}"), function))
        assert equation.content and set(equation.figures) <= figures
        assert set(equation.claims) <= claims
