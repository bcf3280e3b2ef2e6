"""The pages to look things up in: figures, errata, deviations, bibliography; and, from modules of
their own, how to trust the answers and what was run.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from lsnc_core import papers
from lsnc_core.report import (
    answers,
    catalog,
    outcomes,
    run_list,
    sources,
    summaries,
    trust,
    words,
)
from lsnc_core.report.site import Site, capital
from lsnc_core.show import cards_in, is_tall, size_of

# headings of an error's parts in a paper, and in what was released
PRINTED, RELEASED = ("As printed", "Corrected"), ("Released", "Here")


def write(site: Site) -> None:
    """Take all of these pages into the report.

    Raises:
        UsageError: if a recorded table is damaged.
    """
    _write_figures(site)
    _write_errata(site)
    _write_deviations(site)
    trust.write(site)
    _write_bibliography(site)
    run_list.write(site)


@dataclass(frozen=True)
class IndexedFigure:
    """A figure in the index.

    Attributes:
        name: as of `FigureCard`.
        number: the paper's, or our id; "" for a figure of our own.
        title: its title.
        paper: a sentence on what the paper's figure shows.
        alt: text alternative.
        notebook: the notebook that draws it.
        drawn: whether it is in this report.
        size: width and height of its picture in points; None where it is not in this report.
    """

    name: str
    number: str
    title: str
    paper: str
    alt: str
    notebook: str
    drawn: bool
    size: tuple[float, float] | None

    @property
    def tall(self) -> bool:
        """Whether the picture is at least as high as wide."""
        return is_tall(self.size)


def index_figures(
    entries: Sequence[papers.Entry], site: Site
) -> dict[papers.Paper, list[IndexedFigure]]:
    """The figures of notebooks by paper, other folders last: by number, then those without one, as
    they come.
    """
    drawn = {}
    for page in site.pages:
        for data in page.figures:
            drawn[data["name"]] = data
    listed: dict[papers.Paper, list[IndexedFigure]] = {}
    for entry in entries:
        for card in cards_in(entry.module):
            title = drawn.get(card.name, {}).get("title", card.title)
            listed.setdefault(entry.paper, []).append(
                IndexedFigure(
                    card.name,
                    card.number,
                    title,
                    capital(first_sentence(card.paper)),
                    card.alt,
                    entry.name,
                    card.name in drawn,
                    size_of(drawn.get(card.name, {}).get("svg", "")),
                )
            )
    papers_first = sorted(listed, key=lambda paper: not paper.arxiv)
    return {paper: sorted(listed[paper], key=_place) for paper in papers_first}


def first_sentence(text: str) -> str:
    """The first sentence of a text.

    >>> first_sentence("Loss at a = 0.5 (i. e. half). It falls.")
    'Loss at a = 0.5 (i. e. half).'
    """
    # a capital, or nothing, follows the end of a sentence
    match = re.match(r".*?\.(?=\s+[A-Z]|\s*$)", text, re.DOTALL)
    return match[0] if match else text


def _place(figure: IndexedFigure) -> tuple:
    """Numbered figures by their number, the others after them."""
    stem, number = re.fullmatch(r"(.*?)(\d*)", figure.number).groups()
    return not figure.number, stem, int(number or 0)


def _write_figures(site: Site) -> None:
    listed = index_figures(papers.entries(), site)
    every = list(itertools.chain.from_iterable(listed.values()))
    site.write(
        "figures.html",
        "figures.html.j2",
        title="Figures",
        note="",
        papers=listed,
        count=len(every),
        drawn=sum(figure.drawn for figure in every),
    )


def _write_errata(site: Site) -> None:
    groups = []
    for parts, found in ((PRINTED, papers.errata()), (RELEASED, papers.problems())):
        for paper, problems in found.items():
            kind = "errata" if parts == PRINTED else "released"
            anchor = f"{paper.arxiv or paper.position}-{kind}"
            groups.append({"paper": paper, "anchor": anchor, "kind": kind, "parts": parts})
            groups[-1]["problems"] = problems
    site.write(
        "errata.html",
        "errata.html.j2",
        title="Errata, and problems of released code",
        note="",
        groups=groups,
        shown=_addresses(site),
    )


def _write_deviations(site: Site) -> None:
    results = answers.by_claim(site)
    compared, firsts = {}, {}
    for paper, comparison in papers.comparisons(site.profile).items():
        headline, own = summaries.claims_of(paper, results)
        most = summaries.say_what_differs(headline + own)
        compared[paper] = comparison, most, outcomes.missed_premises(own)
    for page in site.pages:  # the first notebook with networks stands for its paper
        if catalog.has_networks(page.entry):
            firsts.setdefault(page.entry.paper, page)
    site.write(
        "deviations.html",
        "deviations.html.j2",
        title="Deviations from the papers",
        note="",
        compared=compared,
        firsts=firsts,
        words=words,
    )


def _write_bibliography(site: Site) -> None:
    groups: dict[str, list[sources.Source]] = {"The three papers": [], "Other sources": []}
    for source in sorted(sources.SOURCES, key=lambda source: source.key):
        groups["The three papers" if source.paper else "Other sources"].append(source)
    site.write(
        "bibliography.html",
        "bibliography.html.j2",
        title="Bibliography",
        note="",
        groups=groups,
        shown=_addresses(site),
    )


def _addresses(site: Site) -> dict[str, str]:
    """The addresses of the report's pages by the names of their notebooks."""
    return {page.name: page.address for page in site.pages}
