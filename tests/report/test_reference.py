"""The pages to look things up in, on a made-up report of few pages."""

import dataclasses
import html
import itertools
import types

import pandas as pd
import pytest
from elements import Elements
from made_up import MISSED, an_answer

from lsnc_core import papers, show
from lsnc_core.claims import HOLDS, Scale
from lsnc_core.papers.page import Comparison, Deviation, Page, Paper, Problem, Setting
from lsnc_core.report import record, reference, sources
from lsnc_core.report.pages import NotebookPage
from lsnc_core.report.site import Site

AWKWARD = """p < 1 & "a" > 'b' in `code`, $x_1 < 2$"""
PLAIN = AWKWARD.replace("`", "")
DOE = Paper("Doe <2030>", "Doe & Roe", 1, ("doe_1", "doe_2"), arxiv="2030.12345")
OURS = Paper("ours", "ours", 9, ("own_1",))
ADDRESSES = ("figures", "errata", "deviations", "trust", "bibliography", "runs")


def an_entry(name, paper, *cards, trains=False):
    module = types.ModuleType(name)
    for number, card in enumerate(cards):
        setattr(module, f"draw_{number}", types.SimpleNamespace(card=card))
    if trains:
        module.plan_runs = lambda: []
    return papers.Entry(name, paper, module, Page(f"Title of {name}"))


def a_card(name, number, paper="A curve of 0.5. It falls.", alt="a curve"):
    return show.FigureCard(name, number, f"Figure {name}", paper, alt)


ENTRIES = (
    an_entry(
        "doe_1",
        DOE,
        a_card("extra", "", "no such figure"),
        a_card("ten", "Figure 10"),
        a_card("two", "Figure 2", AWKWARD + ". More.", AWKWARD),
        trains=True,
    ),
    an_entry("doe_2", DOE, a_card("three", "Figure 3")),
    an_entry("own_1", OURS, a_card("own", "B1")),
)


def a_page(entry, *figures, verdicts=(), runs=()):
    drawn = [{"name": name, "title": title, "alt": "x"} for name, title in figures]
    return NotebookPage(entry, "<h1>A page</h1>", "", drawn, list(verdicts), tuple(runs), "")


def a_site(folder, *pages, runs=None, recordings=()):
    runs = pd.DataFrame() if runs is None else runs
    return Site(folder, "quick", pages, {}, recordings, runs)


def written(site):
    """The pages of a site by name."""
    site.publish()
    texts = {name: site.folder / f"{name}.html" for name in ADDRESSES}
    return {
        name: Elements(path.read_text(encoding="utf-8"))
        for name, path in texts.items()
        if path.exists()
    }


@pytest.fixture
def made_up(monkeypatch, tmp_path):
    """Papers with awkward texts in place of the real ones, and no recorded tables."""
    same = Setting("batch", "128 `a`", "")
    differs = Deviation("epochs <e>", AWKWARD, "3 `b`", "time", "quick")
    source = sources.Source(
        "Doe 2030", "Doe & Roe", 2030, "All <of> it.", ("metrics.x", "papers.doe.doe_1")
    )
    known = sources.Source(
        "Roe 2029", "Roe", 2029, "A rule.", ("x",), title=AWKWARD, doi="10.1/x", paper=True
    )
    monkeypatch.setattr(record, "FOLDER", tmp_path / "nowhere")
    monkeypatch.setattr(papers, "entries", lambda: ENTRIES)
    erratum = Problem("Eq. <2>", AWKWARD, "$y$", "0.5 & 1", notebook="doe_1")
    monkeypatch.setattr(papers, "errata", lambda: {DOE: [erratum]})
    released = Problem("Loader", "a < b", "c", notebook="doe_2")
    monkeypatch.setattr(papers, "problems", lambda: {DOE: [released]})
    compared = Comparison((differs,), (same,))
    monkeypatch.setattr(papers, "comparisons", lambda profile: {DOE: compared})
    monkeypatch.setattr(sources, "SOURCES", (source, known))


def test_every_page_is_written_and_holds_together(made_up, tmp_path):
    site = a_site(tmp_path / "report", a_page(ENTRIES[0], ("two", "Second <figure>")))
    reference.write(site)
    pages = written(site)
    assert list(pages) == list(ADDRESSES)
    for page in pages.values():
        assert len(page.all("h1")) == 1
        ids = [element["id"] for element in page.listed if "id" in element]
        assert len(set(ids)) == len(ids)
        for box in page.all("div", class_="lsnc-scroll"):
            assert box["tabindex"] == "0" and box["role"] == "region" and box["aria-label"]
        tables = page.all("table")
        assert len(tables) == len(page.all("div", class_="lsnc-scroll"))  # none outside a box
        for head in page.all("th"):
            assert head["scope"] and head["text"].strip()
        assert not [element for element in page.listed if "style" in element]


def test_an_empty_report_has_all_pages(made_up, tmp_path):
    site = a_site(tmp_path / "report")
    reference.write(site)
    pages = written(site)
    assert list(pages) == list(ADDRESSES)
    assert not pages["figures"].all("img")
    assert "0 of 5 figures are in this report" in " ".join(pages["figures"].texts("p"))
    assert "doe_1" in pages["errata"].texts("code")  # without its page a notebook is no link


# figures


def test_figures_stand_by_paper_and_number(made_up, tmp_path):
    site = a_site(tmp_path, a_page(ENTRIES[0], ("two", "Second <figure>"), ("extra", "Extra")))
    listed = reference.index_figures(ENTRIES, site)
    assert list(listed) == [DOE, OURS]
    assert [figure.name for figure in listed[DOE]] == ["two", "three", "ten", "extra"]
    assert [figure.drawn for figure in listed[DOE]] == [True, False, False, True]
    assert [figure.notebook for figure in listed[DOE]] == ["doe_1", "doe_2", "doe_1", "doe_1"]


@pytest.mark.parametrize("size, kind", (("540 763", "tall"), ("540 252", None)))
def test_a_high_picture_is_marked_so_that_its_upper_part_is_shown(made_up, tmp_path, size, kind):
    page = a_page(ENTRIES[0], ("two", "Second"))
    page.figures[0]["svg"] = f'<svg viewBox="0 0 {size}">'
    site = a_site(tmp_path / "report", page)
    reference.write(site)
    (entry,) = written(site)["figures"].all("li", id="index-two")
    assert entry.get("class") == kind


def test_a_figure_of_the_report_has_a_thumbnail_and_another_its_notebook(made_up, tmp_path):
    site = a_site(tmp_path / "report", a_page(ENTRIES[0], ("two", "Second <figure>")))
    reference.write(site)
    page = written(site)["figures"]
    (image,) = page.all("img")
    assert (image["src"], image["alt"]) == ("files/two.svg", AWKWARD)
    assert image["loading"] == "lazy"
    (link,) = page.all("a", href="doe_1.html#two")
    assert link["text"].split() == ["Figure", "2", "Second", "<figure>"]
    (entry,) = page.all("li", id="index-two")
    assert "P" + AWKWARD[1:] + "." in entry["text"] and "More" not in entry["text"]
    (missing,) = page.all("li", id="index-three")
    assert "Not in this report; doe_2 draws it" in missing["text"]
    assert "A curve of 0.5." in missing["text"] and "It falls" not in missing["text"]


def test_the_papers_figures_are_all_in_the_index(tmp_path):
    listed = reference.index_figures(papers.entries(), a_site(tmp_path))
    every = itertools.chain.from_iterable(listed.values())
    cards = []
    for entry in papers.entries():
        cards += show.cards_in(entry.module)
    assert sorted(figure.name for figure in every) == sorted(card.name for card in cards)
    chen = next(figures for paper, figures in listed.items() if paper.short == "Chen et al. 2020")
    numbers = [figure.number for figure in chen if figure.number]
    assert [int(number.removeprefix("Figure ")) for number in numbers] == sorted(
        int(number.removeprefix("Figure ")) for number in numbers
    )
    assert all(figure.paper.endswith(".") and figure.alt for figure in chen)


# errata and deviations


def test_errata_have_place_both_forms_numbers_and_notebook(made_up, tmp_path):
    site = a_site(tmp_path / "report", a_page(ENTRIES[0]))
    reference.write(site)
    page = written(site)["errata"]
    assert page.texts("h2") == ["Errata of Doe & Roe", "Released with Doe & Roe"]
    assert page.texts("h3") == ["Eq. <2>", "Loader"]
    parts = list(zip(page.texts("dt"), page.texts("dd"), strict=True))
    assert parts == [
        ("As printed", PLAIN),
        ("Corrected", "$y$"),
        ("Computed here", "0.5 & 1"),
        ("Shown in", "doe_1"),
        ("Released", "a < b"),
        ("Here", "c"),
        ("Shown in", "doe_2"),
    ]
    assert [link["href"] for link in page.all("a") if link["text"] == "doe_1"] == ["doe_1.html"]
    assert "code" in page.texts("code")


def test_deviations_come_first_and_equal_settings_are_folded(made_up, tmp_path):
    site = a_site(tmp_path / "report", a_page(ENTRIES[0]))
    reference.write(site)
    page = written(site)["deviations"]
    first, second = page.all("table", class_="settings stacked")
    for text in ("epochs <e>", PLAIN, "3 b", "time"):
        assert text in first["text"]
    assert "batch" in second["text"] and "128 a" in second["text"] and "batch" not in first["text"]
    folded = [part["text"] for part in page.all("details") if part.get("class") != "menu"]
    assert len(folded) == 1 and second["text"] in folded[0] and first["text"] not in folded[0]
    # the first notebook with networks stands for the paper
    assert "Title of doe_1" in page.texts("main")[0]


def test_deviations_lead_with_the_largest_and_what_they_leave_open(made_up, tmp_path):
    sizes = [Scale("epochs", "3", "9 <a>"), Scale("seeds", "4", "4")]
    settings = {"paper": DOE.name, "premises": [MISSED], "scale": sizes}
    fewer = settings | {"premises": [dataclasses.replace(MISSED, value=200)]}
    given = [an_answer(HOLDS, name="C1", **settings), an_answer(HOLDS, name="C2", **fewer)]
    given.append(an_answer(HOLDS, name="C3", paper=DOE.name))
    site = a_site(tmp_path / "report", a_page(ENTRIES[0], verdicts=given))
    reference.write(site)
    page = written(site)["deviations"]
    assert "What differs most: epochs 3 (paper 9 <a>)." in page.texts("p")
    (left_open,) = [item for item in page.texts("li") if "training images" in item]
    assert left_open == ("C1, C2: number of training images is 500, needed at least 10,000, for C1")
    links = [link["href"] for link in page.all("a") if "claims.html#" in link.get("href", "")]
    assert links == ["claims.html#C1", "claims.html#C2"]


def test_the_real_errata_and_deviations_name_notebooks_that_exist():
    notebooks = {entry.name for entry in papers.entries()}
    for found in (papers.errata(), papers.problems()):
        assert found
        for problems in found.values():
            for problem in problems:
                assert problem.notebook in notebooks
                assert problem.place and problem.published and problem.right
    compared = papers.comparisons("quick")
    assert [paper.short[:4] for paper in compared] == ["Chen", "Guo ", "Zhou"]
    for paper, comparison in compared.items():
        names = [row.setting for row in comparison.deviations]
        names += [setting.name for setting in comparison.alike]
        known = [setting.name for setting in papers.settings(paper)]
        assert len(set(names)) == len(names) and set(names) <= set(known)
        assert comparison.alike and comparison.deviations


# bibliography


def test_sources_have_their_fields_and_no_empty_ones(made_up, tmp_path):
    site = a_site(tmp_path / "report", a_page(ENTRIES[0]))
    reference.write(site)
    page = written(site)["bibliography"]
    assert page.texts("dt") == ["Roe 2029", "Doe 2030"]
    first, second = page.texts("dd")
    assert first.startswith(f"Roe: {AWKWARD}, 2029. doi 10.1/x.")
    assert second.startswith("Doe & Roe, 2030.") and "All <of> it." in second
    assert page.all("dt", id="roe-2029") and page.all("a", href="https://doi.org/10.1/x")
    links = {link["href"] for link in page.all("a") if link["text"] == "doe_1"}
    assert links == {"doe_1.html"}


def test_texts_are_escaped_once(made_up, tmp_path):
    site = a_site(tmp_path / "report", a_page(ENTRIES[0]))
    reference.write(site)
    site.publish()
    text = (site.folder / "errata.html").read_text(encoding="utf-8")
    assert html.escape("p < 1 & ", quote=False) in text and "&amp;amp;" not in text
