"""The feature model's sizes, and the claims and figures of its three notebooks before anything is
computed.
"""

import pytest

from lsnc_core import profiles
from lsnc_core.claims import OURS, claims_in
from lsnc_core.errors import UsageError
from lsnc_core.papers.guo import (
    guo_4_minimisers,
    guo_5_conditioning,
    guo_6_speed,
    model,
)
from lsnc_core.show import cards_in

PAGES = (guo_4_minimisers, guo_5_conditioning, guo_6_speed)


def test_every_profile_has_a_size():
    assert set(profiles.PROFILES) <= set(model.MODEL)
    assert model.MODEL["quick"].starts == 50 and model.MODEL["quick"].runs >= 4
    message = r"unknown profile 'fast'; the profiles are smoke, quick, hour, gpu, paper\."
    with pytest.raises(UsageError, match=message):
        model.model_size("fast")


def test_claims_have_names_places_and_expectations():
    claims = []
    for page in PAGES:
        claims += claims_in(page)
    assert [claim.id for claim in claims] == ["G11", "G17", "G9", "G12", "G15", "G16", "G13"]
    assert [claim.id for claim in claims if claim.paper == OURS] == ["G17", "G13"]
    for claim in claims:
        assert claim.sentence.endswith(".") and claim.expected and claim.place


@pytest.mark.parametrize(
    ("page", "names"),
    [
        (guo_4_minimisers, ["guo-theorem-1", "guo-threshold", "guo-nonnegative", "guo-f10"]),
        (guo_5_conditioning, ["guo-spectra", "guo-condition-numbers"]),
        (guo_6_speed, ["guo-nc1-rate", "guo-model-curves", "guo-nc2-at-nc1"]),
    ],
)
def test_pages_show_their_figures_with_words(page, names):
    cards = cards_in(page)
    assert [card.name for card in cards] == names
    assert all(card.title and card.paper and card.alt for card in cards)
    assert page.PAGE.title and page.PAGE.minutes["quick"] > 0
