"""The answers to the claims: their order, by claim, and as data.

An answer is `Verdict.to_dict` of an executed notebook, with `notebook`, the notebook's name, and
`page`, the address of its page.
"""

import csv
import io
import json
import re
from collections.abc import Sequence

from lsnc_core import papers
from lsnc_core.claims import OURS
from lsnc_core.report import outcomes, record
from lsnc_core.report.executed import CASE_FIELDS, VERDICT_FIELDS
from lsnc_core.report.outcomes import ClaimResult
from lsnc_core.report.site import Site

ANSWER_FIELDS = ("claim", "paper", "notebook", "tried_on", "verdict")


def in_order(answers: Sequence[dict]) -> list[dict]:
    """Answers by paper, in the order of the notebooks, our own last, and by the number in the
    claim's id; those on one claim together, as they came.
    """
    papers: dict[str, int] = {}
    first: dict[tuple, int] = {}
    for number, answer in enumerate(answers):
        papers.setdefault(answer["paper"], number)
        first.setdefault(_question(answer), number)

    def place(answer: dict) -> tuple:
        parts = re.split(r"(\d+)", answer["id"])
        number = [int(part) if part.isdigit() else part for part in parts]
        ours = answer["paper"] == OURS
        return ours, papers[answer["paper"]], number, first[_question(answer)]

    return sorted(answers, key=place)


def _question(answer: dict) -> tuple[str, str, str]:
    return answer["id"], answer["sentence"], answer["expected"]


def by_claim(site: Site) -> list[ClaimResult]:
    """The claims of a report with their answers, this run's and recorded ones."""
    recorded = record.answers(site.recordings, {page.address for page in site.pages})
    return outcomes.by_claim(in_order(site.answers), papers.claim_names(), recorded)


def changes(answers: Sequence[dict]) -> list[dict]:
    """What changed in the decision of claims after the first results: `id` and `changed` of each
    claim that has some, once.
    """
    texts: dict[tuple[str, str], dict] = {}
    for answer in in_order(answers):
        if answer["changed"]:
            key = answer["id"], answer["changed"]
            texts[key] = {"id": answer["id"], "changed": answer["changed"]}
    return list(texts.values())


def to_json(answers: Sequence[dict], results: Sequence[ClaimResult]) -> str:
    """Claims with their outcomes, and the answers, every case with its numbers, as JSON; what is
    not a finite number is null.
    """
    listed = []
    for answer in in_order(answers):
        fields = {"claim": answer["id"], "notebook": answer["notebook"]}
        fields |= {name: answer[name] for name in VERDICT_FIELDS if name != "id"}
        cases = []
        for case in answer["cases"]:  # an executed notebook has its fields in another order
            cases.append({name: case[name] for name in CASE_FIELDS})
        listed.append(fields | {"cases": cases})
    data = {"claims": [result.to_dict() for result in results], "answers": listed}
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def to_csv(answers: Sequence[dict]) -> str:
    """The answers as CSV: one row per case; one without numbers for an answer without cases."""
    text = io.StringIO()
    table = csv.DictWriter(text, [*ANSWER_FIELDS, *CASE_FIELDS], lineterminator="\n")
    table.writeheader()
    for answer in in_order(answers):
        row = {name: answer.get(name) for name in ANSWER_FIELDS}
        row |= {"claim": answer["id"], "verdict": answer["outcome"]}
        for case in answer["cases"] or [{}]:
            premises = [*answer["premises"], *case.get("premises", [])]
            unmet = dict.fromkeys(premise["text"] for premise in premises if not premise["met"])
            table.writerow(row | case | {"premises": "; ".join(unmet)})
    return text.getvalue()
