"""The map of notebooks, made from the cards."""

import types

import pytest
from conftest import ROOT

from lsnc_core import papers, profiles
from lsnc_core.errors import UsageError
from lsnc_core.papers.companion import start_here
from lsnc_core.papers.page import Page, Paper
from lsnc_core.papers.zhou import zhou_1_losses_collapse
from lsnc_core.report import catalog

PAPER = Paper("A paper", "A. et al. 2020", 1, ("one", "two"))


def make_entry(name, page, **functions):
    return papers.Entry(name, PAPER, types.SimpleNamespace(PAGE=page, **functions), page)


@pytest.fixture
def few_entries(monkeypatch):
    """Two notebooks: one that trains three networks, one of them twice, and one that does not."""

    def plan_runs(profile, data_set=""):
        return [f"{profile} {number}" for number in (1, 2, 2, 3)]

    trains = make_entry("one", Page("First", "5.1", "x", {"quick": 2.5}), plan_runs=plan_runs)
    computes = make_entry("two", Page("Second <2>", minutes={"quick": 1.0}))
    monkeypatch.setattr(papers, "entries", lambda: [trains, computes])
    return [trains, computes]


def test_the_map_is_made_from_the_cards(few_entries):
    made = start_here.draw_map("smoke")
    reason = profiles.resolve("smoke")[1]
    assert made.header[-2:] == [f"networks (smoke: {reason})", "minutes (quick)"]
    one, two = made.rows
    assert (one[0].text, one[0].address) == ("one", "one.ipynb")
    assert one[1:] == ["First", "A. et al. 2020, 5.1", "x", "3", "2.5"]
    assert two[1:] == ["Second <2>", "A. et al. 2020", "", "0", "1"]
    html = made._repr_mimebundle_()["text/html"]
    assert '<a href="two.ipynb">two</a>' in html and "Second &lt;2&gt;" in html


def test_the_map_lists_every_notebook_as_its_card_has_it():
    made = start_here.draw_map("smoke")
    entries = papers.entries()
    links = [row[0].address for row in made.rows]
    assert sorted(links) == sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
    for row, entry in zip(made.rows, entries, strict=True):
        link, title, place, shows, count, minutes = row
        assert link.text == entry.name and title == entry.page.title and shows == entry.shows
        assert place.startswith(entry.paper.short) and place.endswith(entry.page.section)
        assert int(count) == len(catalog.wanted_runs(entry, {"profile": "smoke"}))
        assert float(minutes) == entry.page.minutes["quick"]


def test_the_map_says_why_it_takes_a_profile(few_entries, monkeypatch):
    monkeypatch.setattr(profiles, "resolve", lambda *given: ("quick", "a reason"))
    assert "networks (quick: a reason)" in start_here.draw_map().header


def test_an_unknown_profile_is_refused(few_entries):
    with pytest.raises(UsageError, match="unknown profile 'fast'"):
        start_here.draw_map("fast")


def test_networks_are_counted_once():
    entry = make_entry("three", Page("Third"), plan_runs=zhou_1_losses_collapse.plan_runs)
    # four losses and seeds, and with half the schedule three of these seeds
    assert start_here.count_networks(entry, "smoke") == 16 + 12


def test_kept_masses_convert_to_strengths():
    made = start_here.convert_strengths()
    assert made.rows[0] == ["1", "0.0000", "0.0000", "0.0000"]
    by_mass = {row[0]: row[1:] for row in made.rows}
    # delta = (1 - p) K / (K - 1)
    assert by_mass["0.9"] == ["0.2000", "0.1111", "0.1010"]
