"""From executed notebooks to the HTML report: a page each, an index of verdicts and provenance, and
the verdicts as data.

Everything a page needs lies beside it under relative addresses, so the folder opens from disk with
the network off.
"""

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from lsnc_core import papers
from lsnc_core.report import claims_page, front, networks, pages, record, reference, sizes
from lsnc_core.report.pages import TEMPLATES, NotebookPage
from lsnc_core.report.site import Site, trusted
from lsnc_core.show import explorer

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
            shown.append(pages.convert(entry, source, report, profile))
    runs = networks.add_earlier(runs, folder, [page.name for page in shown])
    site = Site(report, profile, shown, failures, record.recordings(), runs)
    _write_pages(site)
    front.write(site)
    claims_page.write(site)
    reference.write(site)
    site.publish()
    pages.write(report / "files" / "runs.csv", runs.to_csv(index=False, float_format="%.9g"))
    _assets(report / "assets", any(page.has_explorers for page in shown))
    return report / "index.html"


def _write_pages(site: Site) -> None:
    """Write the notebooks' pages, each with what was recorded of it."""
    addresses = [page.address for page in site.pages]
    for page in site.pages:
        note = ""
        if page.name in site.failures:
            note = f"This page is from an earlier run; this time: {site.failures[page.name]}"
        parts = record.page_parts(page.name, site.recordings, site.folder)
        site.write(
            page.address,
            "page.html.j2",
            title=page.title,
            note=note,
            body=trusted(pages.link_pages(_add_sizes(page, site), addresses)),
            code=trusted(page.code),
            notebook=page.notebook,
            rebuild=page.rebuild,
            cost=networks.describe_cost(site.runs, page.runs),
            recorded=[part | {"html": trusted(part["html"])} for part in parts],
        )


def _add_sizes(page: NotebookPage, site: Site) -> str:
    """A page's body with the table of sizes under its title."""
    listed = sizes.compare(page, site.runs)
    table = ""
    if listed:
        paper = page.entry.paper
        table = site.fill("sizes.html.j2", sizes=listed, paper=paper.short if paper.arxiv else "")
    return page.body.replace("</h1>", f"</h1>{table}", 1)


def _assets(folder: Path, explorers: bool) -> None:
    """Write the style sheet, MathJax from its package and, for explorers, Vega: one copy for all
    pages.
    """
    pages.write(folder / "style.css", _style())
    mathjax = resources.files("mathjax") / "static" / "mathjax" / "es5" / "tex-svg.js"
    pages.write(folder / "mathjax.js", mathjax.read_text(encoding="utf-8"))
    if explorers:
        pages.write(folder / "vega.js", explorer.vega_script())
        pages.write(folder / "explorer.js", explorer.asset("explorer.js"))


def _style() -> str:
    """One style sheet of all in the templates: `style.css` first, then that of explorers, code in
    light and dark last.
    """
    from pygments.formatters import HtmlFormatter

    first = TEMPLATES / "style.css"
    others = sorted(path for path in TEMPLATES.glob("*.css") if path != first)
    parts = [path.read_text(encoding="utf-8") for path in (first, *others)]
    parts.append(explorer.asset("explorer.css"))
    parts.append(HtmlFormatter(style="default").get_style_defs(".highlight"))
    dark = HtmlFormatter(style="github-dark").get_style_defs(".highlight")
    parts.append(f"@media screen and (prefers-color-scheme: dark) {{\n{dark}\n}}\n")
    return "\n".join(parts)
