"""The page of all claims with all answers, and the same as data."""

from lsnc_core.claims import OURS
from lsnc_core.report import answers, outcomes, pages, words
from lsnc_core.report.outcomes import ClaimResult, half_widths, unmet_premises
from lsnc_core.report.pages import TEMPLATES
from lsnc_core.report.site import Site

SCRIPT = "claims.js"


def write(site: Site) -> None:
    """Write the page, its script, and the claims as JSON and CSV."""
    results = answers.by_claim(site)
    files = site.folder / "files"
    pages.write(files / "claims.json", answers.to_json(site.answers, results))
    pages.write(files / "claims.csv", answers.to_csv(site.answers))
    pages.write(site.folder / "assets" / SCRIPT, (TEMPLATES / SCRIPT).read_text(encoding="utf-8"))
    sets = set()
    for result in results:
        for answer in [*result.answers, *result.recorded]:
            sets.update(words.image_sets(answer))
    site.write(
        "claims.html",
        "claims.html.j2",
        title="All claims",
        note="",
        results=results,
        papers=list(dict.fromkeys(result.paper for result in results)),
        ours=OURS,
        order=outcomes.OUTCOMES,
        sets=sorted(sets),
        rule=outcomes.RULE,
        changes=answers.changes(site.answers),
        signs=words.SIGN,
        classes=words.CLASS,
        words=words,
        describe=describe,
        misses=outcomes.stays_open,
        distance=sort_distance,
    )


def describe(result: ClaimResult) -> list[dict]:
    """The answers to a claim as the page shows them, this run's first.

    Each has `answer`; `sets`, its image sets in one word each; `premise`, "missed" where one leaves
    it open, else "met"; `same`, where the same numbers were recorded.
    """
    shown, recorded = [], list(result.recorded)
    for answer in result.answers:
        same = [other["recorded"] for other in recorded if _agree(answer, other)]
        recorded = [other for other in recorded if not _agree(answer, other)]
        shown.append(_shown(answer) | {"same": same})
    return shown + [_shown(answer) | {"same": []} for answer in recorded]


def _agree(answer: dict, other: dict) -> bool:
    names = ("tried_on", "measured", "cases", "outcome")
    return all(answer[name] == other[name] for name in names)


def _shown(answer: dict) -> dict:
    sets = " ".join(words.image_sets(answer)) or "none"
    premise = "missed" if unmet_premises(answer) else "met"
    return {"answer": answer, "sets": sets, "premise": premise}


def sort_distance(result: ClaimResult) -> str:
    """The deciding case's distance from the bound, for sorting; "" where nothing was measured."""
    return f"{half_widths(result.case):g}" if result.case else ""
