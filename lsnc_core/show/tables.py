"""Tables: verdicts, tables of text, lists of entries."""

import html
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from lsnc_core.claims import FAILS, HOLDS, UNDECIDED, Verdict

VERDICTS_TYPE = "application/vnd.lsnc.verdicts+json"
# a sign beside the word, so that no verdict depends on colour alone
SIGNS = {HOLDS: "✓", FAILS: "✗", UNDECIDED: "?"}
CLASSES = {HOLDS: "holds", FAILS: "fails", UNDECIDED: "undecided"}


class Verdicts:
    """A notebook's answers to the claims it decides: a table for readers, data for the report."""

    def __init__(self, verdicts: Sequence[Verdict]):
        self.verdicts = list(verdicts)
        self.data = [verdict.to_dict() for verdict in self.verdicts]

    def _repr_mimebundle_(self, include=None, exclude=None):
        lines = []
        for row in self.data:
            lines.append(f"{row['id']} ({row['tried_on']}): {row['outcome']}. {row['measured']}")
        return {
            "text/plain": "\n".join(lines),
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


def _cases_html(cases: Sequence[dict]) -> str:
    """The cases of an answer, folded away until asked for."""
    if not cases:
        return ""
    items = []
    for case in cases:
        text = ": ".join(filter(None, [case["name"], case["text"]]))
        items.append(f"<li>{SIGNS[case['outcome']]} {html.escape(text)}</li>")
    return f"<details><summary>the numbers</summary><ul>{''.join(items)}</ul></details>"


@dataclass(frozen=True)
class Link:
    """A table cell that leads to another notebook, or to its page in the report.

    Attributes:
        text: what the cell shows.
        address: e.g. "explorer.ipynb".
    """

    text: str
    address: str


class Table:
    """A table of text cells and links as HTML, LaTeX between dollar signs left for the page to
    typeset.
    """

    def __init__(self, header: Sequence[str], rows: Sequence[Sequence[str | Link]]):
        self.header, self.rows = header, rows

    def _repr_mimebundle_(self, include=None, exclude=None):
        head = "".join(f"<th scope='col'>{html.escape(name)}</th>" for name in self.header)
        body, lines = [], [" | ".join(self.header)]
        for row in self.rows:
            cells = "".join(f"<td>{_cell_html(cell)}</td>" for cell in row)
            body.append(f"<tr>{cells}</tr>")
            lines.append(" | ".join(cell.text if isinstance(cell, Link) else cell for cell in row))
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
        return {
            "text/plain": "\n".join(lines),
            "text/html": f'<div class="lsnc-scroll">{table}</div>',
        }


def _cell_html(cell: str | Link) -> str:
    if isinstance(cell, Link):
        return f'<a href="{html.escape(cell.address)}">{html.escape(cell.text)}</a>'
    return html.escape(cell)


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
