"""From executed notebooks to the HTML report: a page each, an index of verdicts and provenance, and
the verdicts as data.

Everything a page needs lies beside it under relative addresses, so the folder opens from disk with
the network off.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsnc_core import papers, profiles, provenance
from lsnc_core.report import answers, networks, pages, record
from lsnc_core.report.pages import TEMPLATES, NotebookPage
from lsnc_core.show import CLASSES, SIGNS, verdicts_html

if TYPE_CHECKING:
    import pandas as pd


def build(
    folder: Path,
    profile: str,
    entries: Sequence[papers.Entry],
    failures: Mapping[str, str],
    runs: "pd.DataFrame",
) -> Path:
    """Write the report of one profile.

    Args:
        folder: the profile's outputs; executed notebooks are read from `notebooks/` in it, the
            report goes to `report/`.
        profile: its name.
        entries: the notebooks to show, in order; one that has not been executed is left out.
        failures: one sentence for each notebook of this run that failed.
        runs: pandas.DataFrame of the networks behind this run's notebooks at their last epoch, with
            provenance columns; may be empty. Those behind pages of earlier runs are taken over from
            the earlier report.

    Returns:
        The path of the index page.

    Raises:
        UsageError: if the folder cannot be written, or an executed notebook or a recording cannot
            be read.
    """
    report = folder / "report"
    shown = []
    for entry in entries:
        source = folder / "notebooks" / f"{entry.name}.ipynb"
        if source.exists():
            shown.append(pages.convert(entry, source, report))
    recordings = record.recordings()
    runs = networks.add_earlier(runs, folder, [page.name for page in shown])
    common = {
        "profile": profile,
        "profile_text": profiles.PROFILES[profile],
        "navigation": shown,
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": provenance.describe()["commit"],
    }
    _write_pages(report, shown, failures, recordings, common)
    _write_index(report, shown, failures, recordings, common, runs)
    pages.write(report / "files" / "runs.csv", runs.to_csv(index=False, float_format="%.9g"))
    _assets(report / "assets")
    return report / "index.html"


def _write_pages(
    report: Path,
    shown: Sequence[NotebookPage],
    failures: Mapping[str, str],
    recordings: Sequence[record.Recording],
    common: Mapping[str, Any],
) -> None:
    """Write the notebooks' pages, each with what was recorded of it."""
    addresses = [page.address for page in shown]
    for page in shown:
        note = ""
        if page.name in failures:
            note = f"This page is from an earlier run; this time: {failures[page.name]}"
        parts = record.page_parts(page.name, recordings, report)
        text = _render(
            "page.html.j2",
            common,
            page=page.address,
            title=page.title,
            note=note,
            body=_trusted(pages.link_pages(page.body, addresses)),
            recorded=[part | {"html": _trusted(part["html"])} for part in parts],
        )
        pages.write(report / page.address, text)


def _write_index(
    report: Path,
    shown: Sequence[NotebookPage],
    failures: Mapping[str, str],
    recordings: Sequence[record.Recording],
    common: Mapping[str, Any],
    runs: "pd.DataFrame",
) -> None:
    """Write the index, and the verdicts of this profile as JSON and CSV."""
    listed = []
    for page in shown:
        listed += page.answers
    rows = answers.in_order(record.beside(listed, recordings, common["profile"]))
    facts = networks.facts(runs)
    for recording in recordings:
        facts[_capital(recording.where)] = recording.versions
    text = _render(
        "index.html.j2",
        common,
        page="index.html",
        title="Report",
        note="",
        failures=failures,
        verdicts=_trusted(verdicts_html(rows)) if rows else "",
        tallies=answers.tallies(listed),
        changes=answers.changes(listed),
        signs=SIGNS,
        classes=CLASSES,
        recordings=recordings,
        facts=facts,
    )
    pages.write(report / "index.html", text)
    pages.write(report / "files" / "claims.json", answers.to_json(listed))
    pages.write(report / "files" / "claims.csv", answers.to_csv(listed))


def _render(template: str, common: Mapping[str, Any], **values: Any) -> str:
    """Fill a template."""
    import jinja2

    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["capital"] = _capital
    return environment.get_template(template).render(common, **values)


def _trusted(text: str):
    """HTML that this package made, exempt from escaping in templates."""
    import markupsafe

    return markupsafe.Markup(text)


def _capital(text: str) -> str:
    """The text with a capital first letter, the rest as it is."""
    return text[:1].upper() + text[1:]


def _assets(folder: Path) -> None:
    """Write the style sheet, and MathJax from its package: one copy for all pages."""
    from pygments.formatters import HtmlFormatter

    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    highlight = HtmlFormatter(style="default").get_style_defs(".highlight")
    pages.write(folder / "style.css", style + highlight)
    mathjax = resources.files("mathjax") / "static" / "mathjax" / "es5" / "tex-svg.js"
    pages.write(folder / "mathjax.js", mathjax.read_text(encoding="utf-8"))
