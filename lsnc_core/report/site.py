"""What all pages of a report share, and how one is written."""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lsnc_core import profiles, provenance
from lsnc_core.report import pages, record
from lsnc_core.report.pages import TEMPLATES, NotebookPage
from lsnc_core.show import with_minus_signs

if TYPE_CHECKING:
    import pandas as pd

# addresses and names of the pages beside those of notebooks, above and below them in the sidebar
FIRST = {"index.html": "Overview", "claims.html": "Claims", "figures.html": "Figures"}
LAST = {
    "errata.html": "Errata",
    "deviations.html": "Deviations",
    "trust.html": "How to trust this",
    "bibliography.html": "Bibliography",
    "runs.html": "What was run",
}


class Group(NamedTuple):
    """Pages under one heading of the sidebar: `links` maps addresses to names."""

    heading: str
    links: dict[str, str]


class _Draft(NamedTuple):
    """A page that waits for the others."""

    template: str
    title: str
    values: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Site:
    """The report of one profile. Pages are gathered by `write`; `publish` writes the files, because
    each page links to the others.

    Attributes:
        folder: where it is written.
        profile: its name.
        pages: the notebooks that it shows, in order.
        failures: one sentence for each notebook of this run that failed.
        recordings: the results kept with the project.
        runs: pandas.DataFrame of the networks behind the pages at their last epoch, with provenance
            columns; may be empty.
    """

    folder: Path
    profile: str
    pages: Sequence[NotebookPage]
    failures: Mapping[str, str]
    recordings: Sequence[record.Recording]
    runs: "pd.DataFrame"
    _drafts: dict[str, _Draft] = field(default_factory=dict, init=False)

    @cached_property
    def answers(self) -> list[dict]:
        """The verdicts of all pages, each with `notebook` and `page`."""
        listed = []
        for page in self.pages:
            listed += page.answers
        return listed

    def write(self, address: str, template: str, *, title: str, **values: Any) -> None:
        """Take a page into the report.

        Args:
            address: of the page in the folder.
            template: its file's name; it extends `page.html.j2`.
            title: of the page.
            values: what the template needs beside what all pages share.
        """
        self._drafts[address] = _Draft(template, title, values)

    def fill(self, template: str, **values: Any) -> str:
        """A part of a page from a template of its own, as HTML."""
        return _environment().get_template(template).render(values)

    def sidebar(self) -> list[Group]:
        """The pages of this report by paper, between those on the whole of it."""
        groups = [Group("", FIRST)]
        for paper, shown in itertools.groupby(self.pages, lambda page: page.entry.paper):
            groups.append(Group(capital(paper.short), {page.address: page.title for page in shown}))
        groups.append(Group("Reference", LAST))
        listed = []
        for heading, links in groups:
            there = {address: name for address, name in links.items() if address in self._drafts}
            listed += [Group(heading, there)] if there else []
        return listed

    def publish(self) -> None:
        """Write all pages. Raises: UsageError."""
        environment, sidebar = _environment(), self.sidebar()
        common = {
            "profile": self.profile,
            "profile_text": profiles.PROFILES[self.profile],
            "navigation": self.pages,
            "sidebar": sidebar,
            "provenance": "runs.html" if "runs.html" in self._drafts else "index.html#provenance",
            "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "commit": provenance.describe()["commit"],
        }
        order = list(itertools.chain.from_iterable(group.links.items() for group in sidebar))
        turns: dict[str, dict] = {}
        for earlier, later in itertools.pairwise(order):
            turns.setdefault(earlier[0], {})["next"] = later
            turns.setdefault(later[0], {})["previous"] = earlier
        for address, draft in self._drafts.items():
            place = {"page": address, "title": draft.title, "turns": turns.get(address, {})}
            template = environment.get_template(draft.template)
            pages.write(self.folder / address, template.render(common | place | draft.values))


def _environment():
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["capital"] = capital
    environment.filters["contents"] = contents
    environment.filters["minus"] = with_minus_signs
    return environment


def contents(body: str) -> list[tuple[str, str]]:
    """The second-level headings of a page that have an id: the id, and the text as HTML.

    >>> ((name, text),) = contents('<h2 id="how">How <em>far</em></h2><h2>Why</h2>')
    >>> name, str(text)
    ('how', 'How far')
    """
    found = re.findall(r'<h2[^>]*\bid="([^"]+)"[^>]*>(.*?)</h2>', body, re.DOTALL)
    return [(name, trusted(re.sub(r"<[^>]+>", "", text))) for name, text in found]


def trusted(text: str):
    """HTML that this package made, exempt from escaping in templates."""
    import markupsafe

    return markupsafe.Markup(text)


def capital(text: str) -> str:
    """The text with a capital first letter, the rest as it is."""
    return text[:1].upper() + text[1:]
