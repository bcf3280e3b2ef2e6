"""The page on how far an answer can be trusted: what an interval covers, which premises were met,
and what simulations say about both.
"""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lsnc_core.claims import LEVEL, UNDECIDED
from lsnc_core.errors import UsageError
from lsnc_core.report import outcomes, record, words
from lsnc_core.report.site import Site
from lsnc_core.show import CLASSES, SIGNS

# what `benchmarks/coverage.py` and `benchmarks/null_data.py` write, and what is read of a row
COVERAGE = ("coverage", ("interval", "case", "seeds", "level", "covered", "sets"))
NULLS = ("null_data", ("claim", "null", "draws", "false", "most", *SIGNS))
# the kinds of interval in words; those with "for comparison" decide nothing
KINDS = {
    "t, difference": "mean of paired differences",
    "t, log ratio": "ratio of paired values, on the log scale",
    "argmin": "minimum of the mean curve",
    "argmin difference": "difference of two minima",
    "argmin slope": "slope of minima over clean rates",
    "rank": "rank correlation (seeds: pairs)",
    "component ratio": "ratio of variance components",
    "argmin, percentile": "for comparison: minimum, percentile bootstrap",
    "argmin, expanded percentile": "for comparison: minimum, expanded percentile bootstrap",
}


def write(site: Site) -> None:
    """Take the page into the report.

    Raises:
        UsageError: if a recorded table is damaged.
    """
    coverage, nulls = read_rows(*COVERAGE), read_rows(*NULLS)
    summary = summarise_coverage(coverage)
    site.write(
        "trust.html",
        "trust.html.j2",
        title="How to trust this",
        note="",
        signs=SIGNS,
        classes=CLASSES,
        premises=count_premises(site.answers),
        sets=max((row["sets"] for row in coverage), default=0),
        coverage=[row for row in summary if row.level == LEVEL],
        shared=[row for row in summary if row.level != LEVEL],
        nulls=nulls,
        worst=max(nulls, key=lambda row: row["false"], default=None),
        example=_example(site),
    )


def read_rows(name: str, fields: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of a recorded table of a benchmark; none where it is not at hand.

    Args:
        name: of the benchmark.
        fields: what each row must have.

    Raises:
        UsageError: if it is damaged.
    """
    path = record.FOLDER / "benchmarks" / f"{name}.json"
    if not path.exists():
        return []
    try:
        rows = []
        for row in json.loads(path.read_text(encoding="utf-8"))["rows"]:
            rows.append({field: row[field] for field in fields})
        return rows
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UsageError(
            f"the recorded table {path} is damaged ({type(error).__name__}): restore it from git "
            "or delete it."
        ) from error


@dataclass(frozen=True)
class Coverage:
    """How often intervals of one kind and level held the truth, over its simulated cases.

    Attributes:
        kind: in words.
        level: what they should hold.
        cases: how many cases.
        least, median, greatest: shares in [0, 1].
        least_at, greatest_at: in which case.
    """

    kind: str
    level: float
    cases: int
    least: float
    least_at: str
    median: float
    greatest: float
    greatest_at: str


def summarise_coverage(rows: Sequence[dict[str, Any]]) -> list[Coverage]:
    """The least, median and greatest coverage of each kind of interval and level.

    Rows without a truth, in which every decision is false, are left out.
    """
    groups: dict[tuple[str, float], list[dict]] = {}
    for row in rows:
        if row["covered"] is not None:
            groups.setdefault((row["interval"], row["level"]), []).append(row)
    summary = []
    for (kind, level), group in groups.items():
        least, greatest = (choose(group, key=_covered) for choose in (min, max))
        median = statistics.median(map(_covered, group))
        shares = _covered(least), _where(least), median, _covered(greatest), _where(greatest)
        summary.append(Coverage(KINDS.get(kind, kind), level, len(group), *shares))
    # as in `KINDS`, others last
    order = {kind: number for number, kind in enumerate(KINDS.values())}
    return sorted(summary, key=lambda row: (order.get(row.kind, len(order)), row.level))


def _covered(row: dict[str, Any]) -> float:
    return row["covered"]


def _where(row: dict[str, Any]) -> str:
    return f"{row['case']}, {row['seeds']} seeds"


@dataclass(frozen=True)
class PremiseCount:
    """A premise of this report's answers, and how often it was met.

    Attributes:
        name: the condition, and what it measures where that is always the same.
        needed: its range; several where claims ask for different ones.
        met, checked: in how many of the answers that have it.
        claims: ids of the claims that have it.
    """

    name: str
    needed: str
    met: int
    checked: int
    claims: tuple[str, ...]


def count_premises(answers: Sequence[dict[str, Any]]) -> list[PremiseCount]:
    """The premises of answers, in the order in which they first occur.

    An answer has its own and, of those that its cases check one by one, the worst.
    """
    found: dict[str, list[tuple[dict, int]]] = {}
    for number, answer in enumerate(answers):
        for premise in answer["premises"]:
            found.setdefault(premise["name"], []).append((premise, number))
    counts = []
    for name, checks in found.items():
        needed = dict.fromkeys(premise["needed"] for premise, _ in checks)
        having = dict.fromkeys(number for _, number in checks)
        missing = {number for premise, number in checks if not premise["met"]}
        claims = tuple(dict.fromkeys(answers[number]["id"] for number in having))
        met = len(having) - len(missing)
        quantities = {premise.get("quantity", "") for premise, _ in checks}
        if len(quantities) == 1:
            name = ": ".join(filter(None, [name, *quantities]))
        counts.append(PremiseCount(name, "; ".join(needed), met, len(having), claims))
    return counts


def _example(site: Site) -> dict[str, str]:
    """A claim that networks decided, and its notebook, to show how one is repeated; the first
    notebook of all where there is none.
    """
    for page in site.pages:
        for verdict in page.verdicts:
            decided = verdict["outcome"] != UNDECIDED and outcomes.counts(verdict)
            if decided and words.is_about_networks(verdict):
                return {"claim": verdict["id"], "notebook": page.name}
    return {"claim": "", "notebook": site.pages[0].name if site.pages else "start_here"}
