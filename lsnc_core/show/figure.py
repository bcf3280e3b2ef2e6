"""What a notebook shows: a figure beside the paper's statement of it, a table, verdicts.

Each object displays itself in JupyterLab and carries, under a media type of ours, what the report
needs: the figure as SVG, its table as CSV, the verdicts as data.
"""

import base64
import html
import io
import itertools
from collections.abc import Sequence
from pathlib import Path

from lsnc_core.errors import UsageError
from lsnc_core.papers.claims import FAILS, HOLDS, UNDECIDED, Verdict

FIGURE_TYPE = "application/vnd.lsnc.figure+json"
VERDICTS_TYPE = "application/vnd.lsnc.verdicts+json"
# a sign beside the word, so that no verdict is told by colour alone
SIGNS = {HOLDS: "✓", FAILS: "✗", UNDECIDED: "?"}
CLASSES = {HOLDS: "holds", FAILS: "fails", UNDECIDED: "undecided"}


def svg_text(figure) -> str:
    """A matplotlib figure as SVG text without a date, so that the same figure gives the same
    bytes.
    """
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "lsnc"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def svg_image(svg: str, alt: str, source: str = "") -> str:
    """An HTML image of an SVG: by its address where one is given, else carried inside the page."""
    source = source or "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
    return f'<img src="{source}" alt="{html.escape(alt, quote=True)}" style="max-width:100%;height:auto">'


class Figure:
    """A figure with its name in the paper, the paper's statement of it, ours, a text alternative
    and the table behind it.

    Args:
        figure: matplotlib figure.
        name: short file name, e.g. "chen-figure-1".
        title: what it is called, e.g. "Chen, Figure 1".
        paper: what the paper's figure plots and claims, in our words.
        ours: what is seen in this one.
        alt: text alternative for readers who do not see it.
        table: pandas.DataFrame of every plotted value, offered for download.
    """

    def __init__(self, figure, *, name: str, title: str, paper: str, ours: str, alt: str, table):
        self.data = {"name": name, "title": title, "paper": paper, "ours": ours, "alt": alt}
        self.data["svg"] = svg_text(figure)
        self.data["csv"] = table.to_csv(index=False, float_format="%.9g")

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {
            "text/plain": self.data["alt"],
            "text/html": figure_html(self.data),
            FIGURE_TYPE: self.data,
        }


def figure_html(data: dict, source: str = "", links: str = "") -> str:
    """The figure with title, both statements and download links, as HTML; `source` is the address
    of its SVG.
    """
    picture = svg_image("" if source else data["svg"], data["alt"], source)
    return (
        f'<figure class="lsnc-figure" id="{data["name"]}"><div class="picture">{picture}</div>'
        f"<figcaption><strong>{html.escape(data['title'])}.</strong> <span><em>The paper:</em> {html.escape(data['paper'])}</span> "
        f"<span><em>Here:</em> {html.escape(data['ours'])}</span> {links}</figcaption></figure>"
    )


def downloads(address: str) -> str:
    """Links to a figure's files, `address` without their endings."""
    return (
        f'<span class="downloads">Download: <a href="{address}.svg" download>figure (SVG)</a>, '
        f'<a href="{address}.csv" download>table (CSV)</a></span>'
    )


class Verdicts:
    """A notebook's answers to the claims it decides, shown as a table and gathered by the
    report.
    """

    def __init__(self, verdicts: Sequence[Verdict]):
        self.data = [
            {
                "id": v.claim.id,
                "paper": v.claim.paper,
                "place": v.claim.place,
                "sentence": v.claim.sentence,
                "expected": v.claim.expected,
            }
            | {"tried_on": v.tried_on, "measured": v.measured, "outcome": v.outcome}
            | {"cases": [[case.name, case.measured, case.outcome] for case in v.cases]}
            for v in verdicts
        ]

    def _repr_mimebundle_(self, include=None, exclude=None):
        plain = "\n".join(
            f"{row['id']} ({row['tried_on']}): {row['outcome']}. {row['measured']}"
            for row in self.data
        )
        return {
            "text/plain": plain,
            "text/html": verdicts_html(self.data),
            VERDICTS_TYPE: self.data,
        }


def verdicts_html(rows: Sequence[dict]) -> str:
    """Verdicts as an HTML table, those on one claim under each other.

    Args:
        rows: as in `Verdicts.data`; with `page`, what a claim was tried on links there; `recorded`
            says where a row comes from that is not of this run; `elsewhere` are rows of other
            places with the same claim tried on the same.
    """
    header = ("Claim", "What is claimed", "Expected", "Measured here", "Verdict")

    def cell(tag: str, number: int, content: str, more: str = "") -> str:
        return f'<{tag}{more} data-label="{header[number]}">{content}</{tag}>'

    body = []
    for _, same in itertools.groupby(
        rows, lambda row: (row["id"], row["sentence"], row["expected"])
    ):
        group, lines = list(same), []
        span = f' rowspan="{len(group)}"' if len(group) > 1 else ""
        for number, row in enumerate(group):
            cells = ""
            if number == 0:
                source = (
                    f"<small>({html.escape(row['paper'])}, {html.escape(row['place'])})</small>"
                )
                cells += cell(
                    "th",
                    0,
                    html.escape(row["id"]),
                    f' scope="rowgroup"{span}' if span else ' scope="row"',
                )
                cells += cell("td", 1, f"{html.escape(row['sentence'])} {source}", span)
                cells += cell("td", 2, html.escape(row["expected"]), span)
            cells += cell("td", 3, _measured_html(row)) + cell("td", 4, badge(row["outcome"]))
            lines.append(f"<tr>{cells}</tr>")
        body.append(f"<tbody>{''.join(lines)}</tbody>")
    head = "".join(f'<th scope="col">{name}</th>' for name in header)
    return f'<div class="lsnc-scroll"><table class="lsnc-verdicts"><thead><tr>{head}</tr></thead>{"".join(body)}</table></div>'


def badge(outcome: str) -> str:
    """An outcome as a word with its sign and colour."""
    return f'<span class="verdict {CLASSES[outcome]}">{SIGNS[outcome]} {outcome}</span>'


def _measured_html(row: dict) -> str:
    """What was measured, on what, its parts, and the answers of other places to the same
    question.
    """
    tried_on = html.escape(row["tried_on"])
    if "page" in row:
        tried_on = f'<a href="{row["page"]}">{tried_on}</a>'
    origin = (
        f'<small class="origin">{html.escape(row["recorded"])}</small>' if "recorded" in row else ""
    )
    said = f"{origin}<strong>{tried_on}:</strong> {html.escape(row['measured'])}{_cases_html(row['cases'])}"
    for other in row.get("elsewhere", []):
        where, measured = html.escape(other["recorded"]), html.escape(other["measured"])
        if all(other[name] == row[name] for name in ("measured", "cases", "outcome")):
            said += f'<small class="origin">the same numbers were {where}</small>'
            continue
        summary = f"{where}: {SIGNS[other['outcome']]} {other['outcome']}"
        said += f"<details><summary>{summary}</summary>{measured}{_cases_html(other['cases'])}</details>"
    return said


def _cases_html(cases: Sequence[Sequence[str]]) -> str:
    """The parts of an answer, folded away until asked for."""
    if not cases:
        return ""
    items = "".join(
        f"<li>{SIGNS[outcome]} {html.escape(name)}: {html.escape(measured)}</li>"
        for name, measured, outcome in cases
    )
    return f"<details><summary>the numbers</summary><ul>{items}</ul></details>"


class Table:
    """A table of text cells as HTML, LaTeX between dollar signs left for the page to typeset."""

    def __init__(self, header: Sequence[str], rows: Sequence[Sequence[str]]):
        self.header, self.rows = header, rows

    def _repr_mimebundle_(self, include=None, exclude=None):
        head = "".join(f"<th scope='col'>{html.escape(name)}</th>" for name in self.header)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
            for row in self.rows
        )
        plain = "\n".join(" | ".join(row) for row in [self.header, *self.rows])
        return {
            "text/plain": plain,
            "text/html": f'<div class="lsnc-scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>',
        }


class Entries:
    """A list of entries too long for table rows: each a heading with named parts, LaTeX left for
    the page to typeset.

    Args:
        names: the names of an entry's parts.
        entries: for each its heading and as many parts as there are names.
    """

    def __init__(self, names: Sequence[str], entries: Sequence[tuple[str, Sequence[str]]]):
        self.names, self.entries = names, entries

    def _repr_mimebundle_(self, include=None, exclude=None):
        plain, body = [], []
        for heading, parts in self.entries:
            named = list(zip(self.names, parts, strict=True))
            plain += [heading, *(f"  {name}: {text}" for name, text in named)]
            body.append(
                f"<h3>{html.escape(heading)}</h3><dl>"
                + "".join(
                    f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>"
                    for name, text in named
                )
                + "</dl>"
            )
        return {
            "text/plain": "\n".join(plain),
            "text/html": f'<div class="lsnc-entries">{"".join(body)}</div>',
        }


def read(path: Path):
    """An executed notebook. Raises: UsageError, where it cannot be read."""
    import nbformat

    try:
        return nbformat.read(path, as_version=4)
    except (
        OSError,
        ValueError,
        TypeError,
        AttributeError,
        KeyError,
        nbformat.ValidationError,
    ) as error:
        raise UsageError(
            f"{path} is damaged ({type(error).__name__}): delete it and start again."
        ) from error


def outputs(notebook) -> list:
    """The outputs of an executed notebook's code cells, in order."""
    return [
        output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs
    ]


def carried(notebook) -> tuple[list[dict], list[dict]]:
    """The figures and the verdicts that an executed notebook shows, as `Figure.data` and
    `Verdicts.data` have them.
    """
    bundles = [output.get("data", {}) for output in outputs(notebook)]
    figures = [bundle[FIGURE_TYPE] for bundle in bundles if FIGURE_TYPE in bundle]
    return figures, [row for bundle in bundles for row in bundle.get(VERDICTS_TYPE, [])]
