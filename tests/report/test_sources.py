"""The bibliography against the citations in the package, the benchmarks and the notebooks."""

import re

import pytest
from conftest import ROOT

from lsnc_core import papers
from lsnc_core.report.sources import SOURCES, link_citations

# names and a year, as docstrings cite; names may go over lines
NAME = r"[A-Z][\w'’-]+"
CITATION = re.compile(
    rf"({NAME}(?:(?:, and |, | and ){NAME}){{0,4}}(?: et al\.)?),?(?:'s)? \(?((?:18|19|20)\d\d)\b"
)
ARXIV = re.compile(r"(?:arXiv[ :]+|arxiv\.org/abs/|arxiv=\")(\d{4}\.\d{5})")
VENUES = {"NeurIPS", "TMLR", "ICLR", "ICML", "AAAI", "EMNLP"}
THIS = "sources.py"


def read_all():
    """The text of every file that may cite, by its place; line breaks and comment signs gone."""
    texts = {}
    paths = [*(ROOT / "lsnc_core").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    for path in [*paths, *(ROOT / "notebooks").glob("*.ipynb")]:
        if path.name != THIS:
            place = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            text = re.sub(r"[ \t]*\n[ \t#]*", " ", path.read_text(encoding="utf-8"))
            texts[place.removeprefix("lsnc_core.").removesuffix(".__init__")] = text
    return texts


TEXTS = read_all()


def cited(text):
    """First surname and year of every citation in a text."""
    found = set()
    for names, year in CITATION.findall(text):
        surnames = [name for name in re.findall(NAME, names) if name not in VENUES]
        if surnames:
            found.add((surnames[0], int(year)))
    return found


def first_surname(source):
    return re.findall(NAME, source.key)[0]


def test_a_citation_is_found_however_it_is_written():
    text = "Wu and Papyan, NeurIPS 2024 (x); Chan, Golub and LeVeque (1979); Holm 1979."
    assert cited(text) == {("Wu", 2024), ("Chan", 1979), ("Holm", 1979)}


def test_every_citation_is_in_the_bibliography():
    known = {(first_surname(source), source.year) for source in SOURCES}
    # cited by all authors but the first in a row too long for the pattern
    known |= {("Lienen", 2023), ("Levie", 2023), ("Nguyen", 2023)}
    # "arXiv 2010.12648" is a number
    unknown = {place: cited(text) - known - {("Xiv", 2010)} for place, text in TEXTS.items()}
    assert {place: found for place, found in unknown.items() if found} == {}


def test_every_arxiv_number_is_in_the_bibliography():
    numbers = set().union(*map(ARXIV.findall, TEXTS.values()))
    assert len(numbers) > 3 and numbers <= {source.arxiv for source in SOURCES}


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.key)
def test_a_source_is_named_where_it_says(source):
    for module in source.modules:
        text = " ".join(body for place, body in TEXTS.items() if place.startswith(module))
        assert first_surname(source) in text, module
        assert str(source.year) in text or source.arxiv in ARXIV.findall(text), module
    assert source.use.endswith(".") and source.modules and source.authors


def test_keys_anchors_and_papers_are_unique_and_agree_with_the_cards():
    assert len({source.key for source in SOURCES}) == len(SOURCES)
    anchors = {source.anchor for source in SOURCES}
    assert len(anchors) == len(SOURCES)
    assert all(re.fullmatch(r"[\w-]+", anchor) for anchor in anchors)
    cards = {paper.short: paper.arxiv for paper in papers.papers() if paper.arxiv}
    assert {one.key: one.arxiv for one in SOURCES if one.paper} == cards


def test_the_citation_file_has_the_papers_titles():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    for source in SOURCES:
        if source.paper:
            assert f'"{source.title}"' in text and f"arXiv:{source.arxiv}" in text


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.key)
def test_a_citation_leads_to_its_own_entry_once(source):
    body = f"<p>As {source.key} has it.</p><p>{source.key} again.</p>"
    links = re.findall(r'<a href="bibliography\.html#([\w-]+)">([^<]*)</a>', link_citations(body))
    assert links == [(source.anchor, source.key)]


def test_links_code_and_headings_keep_their_words():
    for tag in ("a", "code", "pre", "h2"):
        body = f"<{tag}>Holm 1979</{tag}>"
        assert link_citations(body) == body
        assert link_citations(f"{body}<p>Holm 1979</p>").startswith(f"{body}<p><a ")


def test_a_citation_across_other_words_or_years_is_none():
    for words in ("Holm 1978", "Holmes 1979", "Holm had 3 cases in 1979", f"Holm{' x' * 40} 1979"):
        assert link_citations(words) == words
