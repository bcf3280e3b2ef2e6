"""What all pages of a report share, and how one is written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsnc_core import profiles, provenance
from lsnc_core.report import pages, record
from lsnc_core.report.pages import TEMPLATES, NotebookPage

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Site:
    """The report of one profile.

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

    @cached_property
    def answers(self) -> list[dict]:
        """The verdicts of all pages, each with `notebook` and `page`."""
        listed = []
        for page in self.pages:
            listed += page.answers
        return listed

    @cached_property
    def _common(self) -> dict[str, Any]:
        return {
            "profile": self.profile,
            "profile_text": profiles.PROFILES[self.profile],
            "navigation": self.pages,
            "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "commit": provenance.describe()["commit"],
        }

    def write(self, address: str, template: str, *, title: str, **values: Any) -> None:
        """Fill a template with what all pages share and with values, and write it.

        Args: address, of the page in the folder; template, its file's name; title, of the page.
        """
        text = (
            _environment()
            .get_template(template)
            .render(self._common, page=address, title=title, **values)
        )
        pages.write(self.folder / address, text)


def _environment():
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["capital"] = capital
    return environment


def trusted(text: str):
    """HTML that this package made, exempt from escaping in templates."""
    import markupsafe

    return markupsafe.Markup(text)


def capital(text: str) -> str:
    """The text with a capital first letter, the rest as it is."""
    return text[:1].upper() + text[1:]
