"""Tables: verdicts, tables of text, lists of entries."""

import html
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from lsnc_core.claims import FAILS, HOLDS, UNDECIDED, Scale, Verdict
from lsnc_core.show.outputs import styled

VERDICTS_TYPE = "application/vnd.lsnc.verdicts+json"
# a sign beside the word, so that no verdict depends on colour alone
SIGNS = {HOLDS: "✓", FAILS: "✗", UNDECIDED: "?"}
CLASSES = {HOLDS: "holds", FAILS: "fails", UNDECIDED: "undecided"}
HEADER = ("Claim", "Tried on", "Measured here", "Verdict")
CLAIMED = "What is claimed"


def with_minus_signs(text: str) -> str:
    """A text as it is shown to readers: a minus sign in front of each negative number; exponents,
    ranges and names keep their hyphen, and so do stored texts, which recordings are compared with.

    >>> with_minus_signs("change -0.94 [-1.2, +0.3] to -.5, 1e-06, 3-5, NC1-NC3")
    'change −0.94 [−1.2, +0.3] to −.5, 1e-06, 3-5, NC1-NC3'
    """
    return re.sub(r"(?<![\w.)\-/])-(?=\.?\d)", "−", text)


class Verdicts:
    """A notebook's answers to the claims it decides: a table for readers, data for the report."""

    def __init__(self, verdicts: Sequence[Verdict]):
        self.verdicts = list(verdicts)
        self.data = [verdict.to_dict() for verdict in self.verdicts]

    def _repr_mimebundle_(self, include=None, exclude=None):
        lines = []
        for row in self.data:
            measured = row["measured"].replace("\n", "; ")
            lines.append(f"{row['id']} ({row['tried_on']}): {row['outcome']}. {measured}")
        return {
            "text/plain": "\n".join(lines),
            "text/html": styled(verdicts_html(self.data)),
            VERDICTS_TYPE: self.data,
        }


def verdicts_html(rows: Sequence[dict]) -> str:
    """Verdicts as an HTML table: each claim in a row of its own, the answers to it below. Sizes
    that all experiments of the table share stand above it.

    Args:
        rows: as in `Verdicts.data`.
    """
    scales = [row["scale"] for row in rows if row["scale"]]
    shared = list(scales[0]) if scales else []
    for scale in scales:
        shared = [size for size in shared if size in scale]
    bodies = ""
    for _, same in itertools.groupby(rows, _question):
        bodies += _claim_html(list(same), shared)
    head = "".join(f'<th scope="col">{name}</th>' for name in HEADER)
    caption = f"<caption>{_scale_html(shared)}</caption>" if shared else ""
    table = f'<table class="lsnc-verdicts">{caption}<thead><tr>{head}</tr></thead>{bodies}</table>'
    return scroll_box(table, "Claims and verdicts")


def scroll_box(content: str, label: str, kind: str = "lsnc-scroll") -> str:
    """HTML that scrolls sideways where it is too wide: the keyboard reaches it, and a screen reader
    names it.
    """
    text = html.escape(label, quote=True)
    return f'<div class="{kind}" tabindex="0" role="region" aria-label="{text}">{content}</div>'


def frame_html(text: str) -> str:
    """A table as pandas writes it, in a scroll box, without empty header cells, scopes added."""
    text = re.sub(r"<style scoped>.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r"<th[^>]*></th>", "<td></td>", text)
    head, end, body = text.partition("</thead>")
    head = re.sub(r"<th\b(?=[ >])", '<th scope="col"', head)
    body = re.sub(r"<th\b(?=[ >])", '<th scope="row"', body)
    return scroll_box(head + end + body, "Table")


def _question(row: dict) -> tuple[str, str, str]:
    return row["id"], row["sentence"], row["expected"]


def _claim_html(rows: Sequence[dict], shared: Sequence[dict]) -> str:
    """A claim with its answers; sizes that are in `shared` are left out."""
    name, paper, place, sentence, expected = (
        html.escape(rows[0][field]) for field in ("id", "paper", "place", "sentence", "expected")
    )
    claim = (
        f"{sentence} <small>({paper}, {place})</small>"
        f'<span class="expected">Expected: {expected}</span>'
    )
    cells = _cell("th", 0, name, f' scope="rowgroup" rowspan="{1 + len(rows)}"')
    cells += f'<td colspan="3" data-label="{CLAIMED}">{claim}</td>'
    lines = f'<tr class="claim">{cells}</tr>'
    shown: list[dict] = []  # a scale that is that of the row above is not repeated
    for row in rows:
        scale = [size for size in row["scale"] if size not in shared]
        cells = _cell("td", 1, html.escape(row["tried_on"]))
        cells += _cell("td", 2, _measured_html(row, [] if scale == shown else scale))
        uncounted = "<small>not counted</small>" if row["by_construction"] else ""
        cells += _cell("td", 3, badge(row["outcome"]) + uncounted)
        lines += f"<tr>{cells}</tr>"
        shown = scale
    return f"<tbody>{lines}</tbody>"


def _cell(tag: str, column: int, content: str, attributes: str = "") -> str:
    """A cell that carries its column's name, for narrow screens."""
    return f'<{tag}{attributes} data-label="{HEADER[column]}">{content}</{tag}>'


def badge(outcome: str) -> str:
    """An outcome as a word with its sign and colour."""
    return f'<span class="verdict {CLASSES[outcome]}">{SIGNS[outcome]} {outcome}</span>'


def _measured_html(row: dict, scale: Sequence[dict]) -> str:
    """What was measured, the experiment's size and its cases."""
    first, *others = html.escape(with_minus_signs(row["measured"])).split("\n")
    notes = "".join(f'<span class="note">{text}</span>' for text in others)
    return f"{first}{notes} {_scale_html(scale)}{_details_html(row)}"


def _scale_html(scale: Sequence[dict]) -> str:
    """The size of the experiment beside the paper's, in small print."""
    if not scale:
        return ""
    sizes = ", ".join(Scale(**size).text for size in scale)
    return f'<small class="scale">Size here: {html.escape(sizes)}.</small>'


def _details_html(row: dict) -> str:
    """The premises and the cases of an answer, folded away."""
    if not row["cases"] and not row["premises"]:
        return ""
    items = ""
    for premise in row["premises"]:
        sign = SIGNS[HOLDS if premise["met"] else FAILS]
        items += f"<li>premise {sign} {html.escape(with_minus_signs(premise['text']))}</li>"
    for case in row["cases"]:
        text = ": ".join(filter(None, [case["name"], case["text"]]))
        items += f"<li>{SIGNS[case['outcome']]} {html.escape(with_minus_signs(text))}</li>"
    return f"<details><summary>the numbers</summary><ul>{items}</ul></details>"


@dataclass(frozen=True)
class Link:
    """A table cell that leads to another notebook, or to its page in the report.

    Attributes:
        text: what the cell shows.
        address: e.g. "explorer.ipynb".
    """

    text: str
    address: str


LONG = 40  # letters in a cell; a table with more has its cells below each other on a phone


class Table:
    """A table of text cells and links as HTML; LaTeX between dollar signs is left for the page to
    typeset.
    """

    def __init__(self, header: Sequence[str], rows: Sequence[Sequence[str | Link]]):
        self.header, self.rows = header, rows

    def _repr_mimebundle_(self, include=None, exclude=None):
        head = "".join(f"<th scope='col'>{html.escape(name)}</th>" for name in self.header)
        body, lines, longest = "", [" | ".join(self.header)], 0
        for row in self.rows:
            cells = ""
            for name, cell in zip(self.header, row, strict=True):
                cells += f'<td data-label="{html.escape(name)}">{_cell_html(cell)}</td>'
            body += f"<tr>{cells}</tr>"
            texts = [cell.text if isinstance(cell, Link) else cell for cell in row]
            longest = max(longest, *map(len, texts))
            lines.append(" | ".join(texts))
        kind = ' class="stacked"' if longest > LONG else ""
        table = f"<table{kind}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        return {
            "text/plain": "\n".join(lines),
            "text/html": styled(scroll_box(table, "Table")),
        }


def _cell_html(cell: str | Link) -> str:
    if isinstance(cell, Link):
        return f'<a href="{html.escape(cell.address)}">{html.escape(cell.text)}</a>'
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(cell))


class Entries:
    """A list of entries too long for table rows: each is a heading with named parts; LaTeX is left
    for the page to typeset.

    Args:
        names: the names of an entry's parts.
        entries: for each its heading and as many parts as there are names.
    """

    def __init__(self, names: Sequence[str], entries: Sequence[tuple[str, Sequence[str]]]):
        self.names, self.entries = names, entries

    def _repr_mimebundle_(self, include=None, exclude=None):
        plain, body = [], ""
        for heading, parts in self.entries:
            plain.append(heading)
            items = ""
            for name, text in zip(self.names, parts, strict=True):
                plain.append(f"  {name}: {text}")
                items += f"<dt>{html.escape(name)}</dt><dd>{_cell_html(text)}</dd>"
            body += f"<h3>{html.escape(heading)}</h3><dl>{items}</dl>"
        return {
            "text/plain": "\n".join(plain),
            "text/html": styled(f'<div class="lsnc-entries">{body}</div>'),
        }
