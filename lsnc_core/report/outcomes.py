"""One outcome per claim: what its answers on several data sets and in several ways add up to, and
the case that decides it.

An answer is `Verdict.to_dict` of an executed notebook, with `notebook`, its name, and `page`, the
address of its page; one from a recording also has `recorded`, where it was made, `profile`, and
`parameters`, those that were given.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from lsnc_core.claims import FAILS, HOLDS, UNDECIDED

MIXED = "mixed"
# of a claim, in the order in which they are counted
OUTCOMES = (HOLDS, MIXED, FAILS, UNDECIDED)
RULE = (
    "A claim that was tried on several data sets or in several ways has one answer for each and "
    "one outcome: it holds if some answers hold and none fails, does not hold if some fail and "
    "none holds, is mixed if some hold and some fail, and is not decidable here if none decides. "
    "Three kinds of answers do not count: those for which this profile measures nothing, recorded "
    "ones, and those that follow from their premises by construction."
)


def half_widths(case: dict) -> float:
    """How far an estimate lies inside its claimed range, in half-widths of its interval.

    The half-width is the part of the interval between the estimate and the side of the bound, so
    that intervals need not be symmetric; of two bounds the nearer one counts.

    Args:
        case: as in `Case.to_dict`.

    Returns:
        At least 1 where the whole interval lies in the range, below -1 where it lies outside, 0
        with the estimate on the bound; infinite without an interval, NaN without a value.

    >>> case = {"value": 3, "low": 1, "high": 4, "at_least": 0, "at_most": None}
    >>> half_widths(case), half_widths(case | {"at_least": None, "at_most": 2})
    (1.5, -0.5)
    """
    value, low, high = case["value"], case["low"], case["high"]
    if value is None:
        return math.nan
    low = -math.inf if low is None else low
    high = math.inf if high is None else high
    distances = [math.inf]
    if case["at_least"] is not None:
        distances.append(_ratio(value - case["at_least"], value - low, high - value))
    if case["at_most"] is not None:
        distances.append(_ratio(case["at_most"] - value, high - value, value - low))
    return min(distances)


def _ratio(room: float, inward: float, outward: float) -> float:
    """Room between estimate and bound by the half of the interval that points to the bound."""
    half = inward if room >= 0 else outward
    if half > 0:
        return room / half
    return math.inf if room >= 0 else -math.inf


def deciding_case(answer: dict) -> dict | None:
    """The case on which an answer turns; None without measured ones.

    Where every case must hold, it is the one farthest from holding among those that leave the
    answer as it is. Where most must, it is the one with which they are just more than half.
    """
    cases = [case for case in answer["cases"] if case["deciding"] and case["value"] is not None]
    cases.sort(key=half_widths)
    if not cases:
        return None
    if answer["rule"] == "most":
        return cases[(len(cases) - 1) // 2]
    if answer["outcome"] == FAILS:
        alike = [case for case in cases if case["outcome"] == FAILS]
    elif answer["outcome"] == UNDECIDED:
        alike = [case for case in cases if case["outcome"] != HOLDS]
    else:
        alike = cases
    return (alike or cases)[0]


def misses_premise(answer: dict, case: dict) -> bool:
    """Whether a premise of the case, or one of the answer's for all cases, is not met."""
    of_cases = set()
    for other in answer["cases"]:
        of_cases |= {premise["name"] for premise in other["premises"]}
    premises = [*case["premises"]]
    premises += [premise for premise in answer["premises"] if premise["name"] not in of_cases]
    return any(not premise["met"] for premise in premises)


def stays_open(answer: dict, case: dict) -> bool:
    """Whether a missed premise leaves a case open, or the answer that it decides."""
    return misses_premise(answer, case) or bool(unmet_premises(answer))


def unmet_premises(answer: dict) -> list[dict]:
    """The premises that leave an answer open."""
    if answer["outcome"] != UNDECIDED:
        return []
    return [premise for premise in answer["premises"] if not premise["met"]]


def counts(answer: dict) -> bool:
    """Whether an answer speaks for or against its claim: something was measured for it, and it does
    not follow from its premises by construction.
    """
    return bool(answer["cases"]) and not answer["by_construction"]


def _add_up(answers: Iterable[dict]) -> str:
    decided = {answer["outcome"] for answer in answers} - {UNDECIDED}
    if len(decided) == 2:
        return MIXED
    return decided.pop() if decided else UNDECIDED


@dataclass(frozen=True, eq=False)
class ClaimResult:
    """A claim with its answers.

    Attributes:
        id, paper, name: of the claim; the name is the short one.
        answers: this run's, in order; at least one, or `recorded` has one.
        recorded: the answers of recordings.
    """

    id: str
    paper: str
    name: str
    answers: Sequence[dict]
    recorded: Sequence[dict] = ()

    @property
    def any_answer(self) -> dict:
        """An answer, for the claim's own words."""
        return [*self.answers, *self.recorded][0]

    @property
    def counted(self) -> list[dict]:
        """The answers that speak for or against the claim, see `counts`."""
        return [answer for answer in self.answers if counts(answer)]

    @property
    def _counts(self) -> Counter:
        return Counter(answer["outcome"] for answer in self.counted)

    @property
    def outcome(self) -> str:
        """One of `OUTCOMES`, by `RULE`."""
        return _add_up(self.counted)

    @property
    def outcome_of_recorded(self) -> str:
        """What the recorded answers add up to, one of `OUTCOMES`."""
        return _add_up([answer for answer in self.recorded if counts(answer)])

    @property
    def open_elsewhere(self) -> bool:
        """Whether some answers decide the claim and others leave it open."""
        return 0 < self._counts[UNDECIDED] < len(self.counted)

    @property
    def share(self) -> str:
        """How many answers have the claim's outcome, of a mixed one how many hold, e.g. "2 of 3
        answers", "both answers" or "all 3 answers"; "" for a single one.
        """
        number = len(self.counted)
        if number < 2:
            return ""
        alike = HOLDS if self.outcome == MIXED else self.outcome
        if self._counts[alike] == number:
            return "both answers" if number == 2 else f"all {number} answers"
        return f"{self._counts[alike]} of {number} answers" + " hold" * (self.outcome == MIXED)

    @property
    def tally(self) -> str:
        """How the answers are divided, e.g. "3 answers: 2 hold, 1 open"."""
        number = len(self.counted)
        checks = sum(bool(answer["by_construction"]) for answer in self.answers)
        more = f"; {checks} more by construction" if checks else ""
        if not number:
            return (
                f"nothing was measured {'that could fail' if checks else 'in this profile'}{more}"
            )
        singular = {HOLDS: "holds", FAILS: "does not hold", UNDECIDED: "open"}
        plural = {HOLDS: "hold", FAILS: "do not hold", UNDECIDED: "open"}
        parts = []
        for outcome, verb in singular.items():
            times = self._counts[outcome]
            if times:
                parts.append(f"{times} {verb if times == 1 else plural[outcome]}")
        return f"{number} answer{'s' * (number > 1)}: {', '.join(parts)}{more}"

    @cached_property
    def answer(self) -> dict | None:
        """The answer that decides the claim: of those that decide, otherwise of all counted, the
        one farthest from holding; None where nothing was measured.
        """
        decided = [answer for answer in self.counted if answer["outcome"] != UNDECIDED]
        return find_farthest(decided or self.counted)

    @property
    def side(self) -> str:
        """On which side of the bounds, beyond their intervals, the deciding cases of its answers
        lie, whether their premises are met or not: "as claimed", "not as claimed", or "" where some
        lie on either side or none beyond its interval.
        """
        sides = set()
        for answer in self.counted:
            case = deciding_case(answer)
            distance = half_widths(case) if case else 0.0
            if abs(distance) >= 1:
                sides.add("as claimed" if distance > 0 else "not as claimed")
        return sides.pop() if len(sides) == 1 else ""

    @property
    def case(self) -> dict | None:
        """The deciding case of the deciding answer."""
        return deciding_case(self.answer) if self.answer else None

    def to_dict(self) -> dict:
        """The claim's outcome as JSON values."""
        listed = []
        for answer in self.answers:
            place = {name: answer[name] for name in ("notebook", "tried_on", "outcome")}
            listed.append(place | {"counted": counts(answer)})
        return {
            "id": self.id,
            "paper": self.paper,
            "name": self.name,
            "outcome": self.outcome,
            "rule": self.tally,
            "answers": listed,
            "decided_by": self._decided_by(),
        }

    def _decided_by(self) -> dict | None:
        """The deciding case with its distance from the bound."""
        if self.case is None or self.answer is None:
            return None
        distance = half_widths(self.case)
        numbers = ("value", "low", "high", "at_least", "at_most", "unit", "outcome")
        return {
            "tried_on": self.answer["tried_on"],
            "case": self.case["name"],
            "quantity": self.case["quantity"],
            **{name: self.case[name] for name in numbers},
            "half_widths": distance if math.isfinite(distance) else None,
            "premise_missed": stays_open(self.answer, self.case),
        }


def missed_premises(results: Iterable[ClaimResult]) -> dict[str, dict[str, str]]:
    """What leaves answers open: for each missed premise the ids of the claims, each with its first
    text; the premise of most claims first.
    """
    missed: dict[str, dict[str, str]] = {}
    for result in results:
        for answer in result.counted:
            for premise in unmet_premises(answer):
                texts = missed.setdefault(premise["name"], {})
                texts.setdefault(result.id, premise["text"])
    return dict(sorted(missed.items(), key=lambda item: -len(item[1])))


def find_farthest(answers: Iterable[dict]) -> dict | None:
    """Of answers with a measured case, the one whose deciding case is farthest from holding."""
    measured = []
    for answer in answers:
        case = deciding_case(answer)
        if case is not None:
            measured.append((half_widths(case), answer))
    return min(measured, key=lambda pair: pair[0])[1] if measured else None


def by_claim(
    answers: Sequence[dict], names: dict[str, str], recorded: Sequence[dict] = ()
) -> list[ClaimResult]:
    """The claims of answers.

    Args:
        answers: this run's, those on one claim together, see `answers.in_order`.
        names: short names by id; a claim without one has its sentence.
        recorded: answers of recordings; those on claims without an answer here are left out.
    """

    def claim(answer: dict) -> tuple[str, str]:
        return answer["id"], answer["paper"]

    results = []
    for (name, paper), same in itertools.groupby(answers, claim):
        own = list(same)
        others = [answer for answer in recorded if claim(answer) == (name, paper)]
        short = names.get(name, own[0]["sentence"])
        results.append(ClaimResult(name, paper, short, own, others))
    return results


def count(results: Sequence[ClaimResult]) -> dict[str, Counter]:
    """How many claims of each paper have each outcome, in the order of the claims."""
    counts: dict[str, Counter] = {}
    for result in results:
        counts.setdefault(result.paper, Counter())[result.outcome] += 1
    return counts
