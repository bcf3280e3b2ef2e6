"""An executed notebook as the body of a page."""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lsnc_core import files, papers
from lsnc_core.report import catalog, executed
from lsnc_core.show import FIGURE_TYPE, VERDICTS_TYPE, downloads, figure_html

TEMPLATES = Path(__file__).parent / "templates"
WIDGET_TYPE = "application/vnd.jupyter.widget-view+json"


@dataclass(frozen=True)
class NotebookPage:
    """A notebook that the report shows.

    Attributes:
        entry: its place on the map.
        body: its cells as HTML.
        figures: as in `Figure.data`.
        verdicts: as in `Verdicts.data`.
    """

    entry: papers.Entry
    body: str
    figures: list[dict]
    verdicts: list[dict]

    @property
    def name(self) -> str:
        return self.entry.name

    @property
    def address(self) -> str:
        """Where it lies in the report."""
        return f"{self.name}.html"

    @property
    def title(self) -> str:
        return self.entry.page.title

    @property
    def description(self) -> str:
        """Its paper and section, and what it shows."""
        return ": ".join(filter(None, [catalog.place(self.entry), self.entry.shows]))

    @property
    def answers(self) -> list[dict]:
        """Its verdicts with `notebook` and `page`."""
        place = {"notebook": self.name, "page": self.address}
        return [verdict | place for verdict in self.verdicts]


def convert(entry: papers.Entry, source: Path, report: Path) -> NotebookPage:
    """Convert an executed notebook; its figures are also written as SVG and CSV files.

    Args:
        entry: the notebook.
        source: its executed file.
        report: the report's folder.

    Raises:
        UsageError: if the file cannot be read or the folder cannot be written.
    """
    notebook = executed.read(source)
    figures, verdicts = executed.carried(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            # progress bars are of no use in a page; the executed notebook keeps them
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    for output in executed.outputs(notebook):
        _make_static(output.get("data", {}), report)
    notebook.metadata.pop("widgets", None)
    body, _ = _exporter().from_notebook_node(notebook)
    return NotebookPage(entry, body, figures, verdicts)


@functools.cache
def _exporter():
    """nbconvert's exporter, one for all pages: compiling its templates takes longer than a page."""
    from nbconvert import HTMLExporter

    return HTMLExporter(
        template_name="notebook",
        extra_template_basedirs=[str(TEMPLATES)],
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
        embed_images=True,
    )


def _make_static(bundle: dict, report: Path) -> None:
    """Turn one output into HTML that needs neither kernel nor network; write its figure's files."""
    bundle.pop(VERDICTS_TYPE, None)
    if FIGURE_TYPE in bundle:
        data = bundle.pop(FIGURE_TYPE)
        for ending in ("svg", "csv"):
            write(report / "files" / f"{data['name']}.{ending}", data[ending])
        address = f"files/{data['name']}"
        bundle["text/html"] = figure_html(data, f"{address}.svg", downloads(address))
    if WIDGET_TYPE in bundle and "text/html" in bundle:
        # a live widget is dead without a kernel; its own HTML stands in
        del bundle[WIDGET_TYPE]


def link_pages(body: str, pages: Sequence[str]) -> str:
    """Turn links between notebooks into links between pages; a notebook without a page in this
    report keeps its name and loses the link.
    """

    def link(match: re.Match) -> str:
        return f'<a href="{match[1]}.html">' if f"{match[1]}.html" in pages else "<a>"

    return re.sub(r'<a href="(\w+)\.ipynb"[^>]*>', link, body)


def write(path: Path, text: str) -> None:
    """Write a text file whole. Raises: UsageError."""
    files.write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8"))
