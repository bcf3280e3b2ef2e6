"""What a notebook shows: a figure beside the paper's statement of it, a table, verdicts.

Each object displays itself in JupyterLab and carries, under a media type of ours, what the report needs: the figure as SVG,
its table as CSV, the verdicts as data.
"""

import base64
import html
import io
from collections.abc import Sequence

from lsnc_core.papers.claims import FAILS, HOLDS, UNDECIDED, Verdict

FIGURE_TYPE = "application/vnd.lsnc.figure+json"
VERDICTS_TYPE = "application/vnd.lsnc.verdicts+json"
# a sign beside the word, so that no verdict is told by colour alone
SIGNS = {HOLDS: "✓", FAILS: "✗", UNDECIDED: "?"}
CLASSES = {HOLDS: "holds", FAILS: "fails", UNDECIDED: "undecided"}


def svg_text(figure) -> str:
    """A matplotlib figure as SVG text without a date, so that the same figure gives the same bytes."""
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
    """A figure with its name in the paper, the paper's statement of it, ours, a text alternative and the table behind it.

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
        return {"text/plain": self.data["alt"], "text/html": figure_html(self.data), FIGURE_TYPE: self.data}


def figure_html(data: dict, source: str = "", links: str = "") -> str:
    """The figure with title, both statements and download links, as HTML; `source` is the address of its SVG."""
    return (
        f'<figure class="lsnc-figure" id="{data["name"]}"><div class="picture">{svg_image(data["svg"], data["alt"], source)}</div>'
        f"<figcaption><strong>{html.escape(data['title'])}.</strong> <span><em>The paper:</em> {html.escape(data['paper'])}</span> "
        f"<span><em>Here:</em> {html.escape(data['ours'])}</span> {links}</figcaption></figure>"
    )


class Verdicts:
    """A notebook's answers to the claims it decides, shown as a table and gathered by the report."""

    def __init__(self, verdicts: Sequence[Verdict]):
        self.data = [
            {"id": v.claim.id, "paper": v.claim.paper, "place": v.claim.place, "sentence": v.claim.sentence, "expected": v.claim.expected}
            | {"tried_on": v.tried_on, "measured": v.measured, "outcome": v.outcome}
            | {"cases": [[case.name, case.measured, case.outcome] for case in v.cases]}
            for v in verdicts
        ]

    def _repr_mimebundle_(self, include=None, exclude=None):
        plain = "\n".join(f"{row['id']} ({row['tried_on']}): {row['outcome']}. {row['measured']}" for row in self.data)
        return {"text/plain": plain, "text/html": verdicts_html(self.data), VERDICTS_TYPE: self.data}


def verdicts_html(rows: Sequence[dict], pages: Sequence[str] = ()) -> str:
    """Verdicts as an HTML table; `pages`, where given, is the address of each row's notebook page."""
    header = ("Claim", "What the paper says", "Expected", "Measured here", "Verdict")
    body = []
    for number, row in enumerate(rows):
        said = {name: html.escape(text) for name, text in row.items() if isinstance(text, str)}
        cells = (
            f'<a href="{pages[number]}">{said["id"]}</a>' if pages else said["id"],
            f"{said['sentence']} <small>({said['paper']}, {said['place']})</small>",
            said["expected"],
            f"<strong>{said['tried_on']}:</strong> {said['measured']}{_cases_html(row['cases'])}",
            f'<span class="verdict {CLASSES[row["outcome"]]}">{SIGNS[row["outcome"]]} {row["outcome"]}</span>',
        )
        first, *others = (f'data-label="{name}">{cell}' for name, cell in zip(header, cells, strict=True))
        body.append(f'<tr><th scope="row" {first}</th>' + "".join(f"<td {cell}</td>" for cell in others) + "</tr>")
    head = "".join(f'<th scope="col">{name}</th>' for name in header)
    return (
        f'<div class="lsnc-scroll"><table class="lsnc-verdicts"><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'
    )


def _cases_html(cases: Sequence[Sequence[str]]) -> str:
    """The parts of an answer, folded away until asked for."""
    if not cases:
        return ""
    items = "".join(f"<li>{SIGNS[outcome]} {html.escape(name)}: {html.escape(measured)}</li>" for name, measured, outcome in cases)
    return f"<details><summary>the numbers</summary><ul>{items}</ul></details>"


class Table:
    """A table of text cells as HTML, LaTeX between dollar signs left for the page to typeset."""

    def __init__(self, header: Sequence[str], rows: Sequence[Sequence[str]]):
        self.header, self.rows = header, rows

    def _repr_mimebundle_(self, include=None, exclude=None):
        head = "".join(f"<th scope='col'>{html.escape(name)}</th>" for name in self.header)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in self.rows)
        plain = "\n".join(" | ".join(row) for row in [self.header, *self.rows])
        return {
            "text/plain": plain,
            "text/html": f'<div class="lsnc-scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>',
        }


class Entries:
    """A list of entries too long for table rows: each a heading with named parts, LaTeX left for the page to typeset.

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
                + "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in named)
                + "</dl>"
            )
        return {"text/plain": "\n".join(plain), "text/html": f'<div class="lsnc-entries">{"".join(body)}</div>'}
