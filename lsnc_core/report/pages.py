"""An executed notebook as the body of a page."""

import base64
import copy
import functools
import html
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lsnc_core import files, papers
from lsnc_core.report import catalog, executed, parameters, schedule, sources, untrusted
from lsnc_core.show import (
    EXPLORER_TYPE,
    VERDICTS_TYPE,
    carried_figure,
    downloads,
    explorer_html,
    figure_html,
    frame_html,
    unstyled,
    verdicts_html,
)

TEMPLATES = Path(__file__).parent / "templates"
# what is shown of an output that is none of this package's
TEXTS = ("text/html", "text/markdown", "text/latex", "text/plain")
PICTURES = ("image/png", "image/jpeg")


@dataclass(frozen=True)
class NotebookPage:
    """A notebook that the report shows.

    Attributes:
        entry: its place on the map.
        body: its texts and outputs as HTML.
        code: its code as HTML.
        figures: as in `Figure.data`.
        verdicts: as in `Verdicts.data`.
        runs: the names of the stored networks that it reads.
        rebuild: the command that makes it again.
    """

    entry: papers.Entry
    body: str
    code: str
    figures: list[dict]
    verdicts: list[dict]
    runs: tuple[str, ...]
    rebuild: str

    @property
    def name(self) -> str:
        return self.entry.name

    @property
    def address(self) -> str:
        """Where it lies in the report."""
        return f"{self.name}.html"

    @property
    def notebook(self) -> str:
        """Where the notebook itself lies in the report."""
        return f"files/{self.name}.ipynb"

    @property
    def title(self) -> str:
        return self.entry.page.title

    @property
    def description(self) -> str:
        """Its paper and section, and what it shows."""
        return ": ".join(filter(None, [catalog.place(self.entry), self.entry.shows]))

    @property
    def has_explorers(self) -> bool:
        """Whether a chart with controls is on it."""
        return 'class="lsnc-explorer"' in self.body

    @property
    def answers(self) -> list[dict]:
        """Its verdicts with `notebook` and `page`."""
        place = {"notebook": self.name, "page": self.address}
        return [verdict | place for verdict in self.verdicts]


def convert(entry: papers.Entry, source: Path, report: Path, profile: str) -> NotebookPage:
    """Convert an executed notebook. Its figures are also written as files, and the notebook itself
    without outputs.

    Args:
        entry: the notebook.
        source: its executed file.
        report: the report's folder.
        profile: of the report.

    Raises:
        UsageError: if the file cannot be read or the folder cannot be written.
    """
    notebook = executed.read(source)
    figures, verdicts = executed.carried(notebook)
    command = ["./run_all.sh", "--profile", profile, "--only", entry.name]
    for setting in parameters.changed(notebook):
        command += ["-p", setting]
    write(report / "files" / f"{entry.name}.ipynb", _without_outputs(notebook))
    code = "".join(highlight(cell.source) for cell in notebook.cells if cell.cell_type == "code")
    for cell in notebook.cells:
        if cell.cell_type == "code":
            # progress bars are of no use in a page; the executed notebook keeps them
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    own = untrusted.Own()
    for output in executed.outputs(notebook):
        bundle = output.get("data", {})
        for kind in set(entry.page.outputs).intersection(bundle):
            bundle["text/html"] = own.keep(entry.page.outputs[kind](bundle[kind]))
        _make_static(bundle, report, command, own)
    notebook.metadata.pop("widgets", None)
    body, _ = _exporter().from_notebook_node(notebook)
    # headings have ids from nbconvert only with a link each
    body = re.sub(r'<a class="anchor-link".*?</a>', "", body)
    body = re.sub(r"(?ms)^<table>.*?</table>", lambda table: frame_html(table[0]), body)
    body = own.put_back(sources.link_citations(untrusted.clean(body)))
    runs = schedule.remembered_runs(source.with_suffix(".json"))
    return NotebookPage(entry, body, code, figures, verdicts, runs, shlex.join(command))


def _without_outputs(notebook) -> str:
    """A notebook as it was before it ran, with the parameters that it was given, as text."""
    import nbformat

    plain = copy.copy(notebook)
    plain.metadata = {
        name: notebook.metadata[name]
        for name in ("kernelspec", "language_info")
        if name in notebook.metadata
    }
    plain.cells = []
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        kept = copy.copy(cell)
        kept.metadata = {"tags": tags} if tags else {}
        if cell.cell_type == "code":
            kept.outputs, kept.execution_count = [], None
        plain.cells.append(kept)
    return nbformat.writes(plain) + "\n"


def highlight(source: str) -> str:
    """Python source as HTML."""
    import pygments
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    return pygments.highlight(source, PythonLexer(), HtmlFormatter())


@functools.cache
def _exporter():
    """nbconvert's exporter, one for all pages: compiling its templates takes longer than a page."""
    from nbconvert import HTMLExporter

    return HTMLExporter(
        template_name="basic",
        exclude_input=True,
        exclude_output_prompt=True,
        embed_images=True,
    )


def _make_static(bundle: dict, report: Path, command: Sequence[str], own: untrusted.Own) -> None:
    """Turn one output into HTML that needs neither kernel nor network; write its figure's files.

    Args:
        bundle: the output by type.
        report: its folder.
        command: what runs this notebook.
        own: takes the HTML that is made here from checked data.
    """
    if "text/html" in bundle:
        bundle["text/html"] = unstyled(bundle["text/html"])
    data = carried_figure(bundle)
    if data is not None:
        address = f"files/{data['name']}"
        endings = write_figure(data, report / "files")
        line = shlex.join([*command, "--figure", data["name"]])
        links = downloads(address, endings)
        links += '<span class="rebuild">Rebuild in the project folder: '
        words = " ".join(f"<span>{html.escape(word)}</span>" for word in line.split(" "))
        links += f"<code>{words}</code></span>"
        bundle["text/html"] = own.keep(figure_html(data, f"{address}.svg", links))
    elif EXPLORER_TYPE in bundle:
        # the report keeps the scripts and styles once for all pages
        bundle["text/html"] = own.keep(explorer_html(bundle[EXPLORER_TYPE]))
    elif VERDICTS_TYPE in bundle:
        bundle["text/html"] = own.keep(verdicts_html(bundle[VERDICTS_TYPE]))
    elif 'class="dataframe"' in bundle.get("text/html", ""):
        bundle["text/html"] = frame_html(bundle["text/html"])
    elif picture := _picture(bundle):
        bundle["text/html"] = own.keep(picture)
    # a live widget is dead without a kernel; its HTML or its text stands in
    for kind in set(bundle).difference(TEXTS):
        del bundle[kind]
    for kind in {"text/html", "text/latex"}.intersection(bundle):
        # by itself, so that what is not closed in one output does not reach into the next
        bundle[kind] = untrusted.clean(bundle[kind])
    if not bundle:
        bundle["text/plain"] = "(an output of a kind that pages do not show)"


def _picture(bundle: dict) -> str:
    """An output's pixels as an image that the page carries; "" without any."""
    for kind in PICTURES:
        try:
            pixels = base64.b64decode("".join(bundle.get(kind, "").split()), validate=True)
        except ValueError:
            continue
        if pixels:
            alt = html.escape(bundle.get("text/plain", ""), quote=True)
            source = f"data:{kind};base64,{base64.b64encode(pixels).decode()}"
            return f'<img src="{source}" alt="{alt}" style="max-width:100%;height:auto">'
    return ""


def write_figure(data: dict, folder: Path) -> list[str]:
    """Write a figure's files, named after it; give their endings.

    Args: data, as from `Figure.carried`; without `pdf` none is written.

    Raises: UsageError.
    """
    endings = [ending for ending in ("svg", "pdf", "csv") if ending in data]
    for ending in endings:
        text = data[ending]
        content = base64.b64decode(text) if ending == "pdf" else text.encode()
        files.write_whole(
            folder / f"{data['name']}.{ending}",
            lambda path, content=content: path.write_bytes(content),
        )
    return endings


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
