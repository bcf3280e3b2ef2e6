"""A claim, the cases that decide it, and the verdict.

A claim is one checkable sentence of a paper, in our words. A case compares one measured quantity
with its claimed range. The case holds when its whole interval lies in the range, does not hold
when all of the interval lies outside, and is not decidable here otherwise. A premise is a condition
under which the paper makes the claim: where one is not met, the answer is open. A verdict combines
the cases of one claim.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, Protocol

from lsnc_core.claims.case import (
    FAILS,
    HOLDS,
    OUT_OF_REACH,
    OUTCOMES,
    UNDECIDED,
    Case,
    decide_together,
    every,
    most,
)
from lsnc_core.claims.premise import Premise, Scale
from lsnc_core.errors import UsageError

OURS = "this companion"  # the `paper` of a claim that none of the papers makes
RULES = ("every", "most")
FEW = 3  # of a verdict's cases, whose numbers are told one by one
# what the numbers point to where a premise is not met
DIRECTIONS = {HOLDS: "as claimed", FAILS: "not as claimed", UNDECIDED: "undecided"}


@dataclass(frozen=True)
class Claim:
    """One checkable sentence of a paper.

    Attributes:
        id: short name, e.g. "C7"; ours.
        paper: the paper's name, or `OURS`.
        place: where the paper says so.
        sentence: the claim in our words.
        expected: the number or direction to expect if it is true.
        changed: what changed in its decision after the first results; "" if nothing did.
    """

    id: str
    paper: str
    place: str
    sentence: str
    expected: str
    changed: str = ""


@dataclass(frozen=True)
class Verdict:
    """The computed answer to a claim.

    Attributes:
        claim: the claim.
        tried_on: on what it was tried, e.g. "Held-out images of mnist".
        cases: the comparisons, each with its interval at the level that decides it, see
            `case.decide_together`; without any, nothing was measured and the answer is open. Of
            the deciding ones either all have a name or none.
        remark: what a reader should know beside the cases.
        decider: what would decide the claim; shown where it is open though all premises are met.
        rule: "every" case must hold, or "most" of them.
        premises: the conditions under which the paper makes the claim, for all cases alike.
        scale: the size of the experiment beside the paper's.
        by_construction: why the answer follows from its premises alone; "" where it does not. Such
            an answer checks the networks and does not count for the claim.
    """

    claim: Claim
    tried_on: str
    cases: Sequence[Case] = ()
    remark: str = ""
    decider: str = ""
    rule: str = "every"
    premises: Sequence[Premise] = ()
    scale: Sequence[Scale] = ()
    by_construction: str = ""

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise UsageError(f"a rule must be one of {', '.join(RULES)}, got {self.rule!r}.")
        names = {case.name for case in self.cases if case.deciding}
        if "" in names and len(names) > 1:  # sentences list outcomes by name
            raise UsageError("either every deciding case of a verdict has a name or none has.")
        object.__setattr__(self, "premises", tuple(self.premises))
        object.__setattr__(self, "scale", tuple(self.scale))
        object.__setattr__(self, "cases", decide_together(tuple(self.cases), self.rule))

    @property
    def outcome(self) -> str:
        """One of `OUTCOMES`, by the rule over the deciding cases; open where a premise fails."""
        if not all(premise.met for premise in self.premises):
            return UNDECIDED
        return self._combine([case.outcome for case in self.cases if case.deciding])

    def _combine(self, outcomes: Sequence[str]) -> str:
        return most(outcomes) if self.rule == "most" else every(outcomes)

    @property
    def unmet(self) -> list[Premise]:
        """The premises that leave the answer open, its own and its deciding cases'."""
        if self.outcome != UNDECIDED:
            return []
        own = [premise for premise in self.premises if not premise.met]
        for case in self.cases:
            if case.deciding:
                own += [premise for premise in case.unmet if premise not in own]
        return own

    @property
    def changed(self) -> str:
        """What changed in the decision after the first results."""
        return self.claim.changed

    @property
    def measured(self) -> str:
        """What was measured, a line for each kind of thing to say.

        >>> claim = Claim("X", "", "", "", "")
        >>> near, far = (Case.exact(f"a = {x}", "p", x, at_least=0.6) for x in (0.8, 0.5))
        >>> Verdict(claim, "digits", (near, far)).measured
        'holds at a = 0.8: p 0.8\\ndoes not hold at a = 0.5: p 0.5'
        >>> Verdict(claim, "digits", (near,)).measured
        'p 0.8'
        >>> few = Premise("number of seeds", 2, at_least=4)
        >>> Verdict(claim, "digits", (near,), premises=[few]).measured
        'premise not met: number of seeds is 2, needed at least 4\\nobserved: as claimed (p 0.8)'
        """
        decisive = [case for case in self.cases if case.deciding]
        parts, unmet = [], self.unmet
        if unmet:
            parts = [f"premise not met: {'; '.join(describe_premises(unmet))}"]
            if any(case.has_numbers for case in decisive):
                parts.append(f"observed: {_describe_observed(decisive)}")
        elif len({case.name for case in decisive}) > 1:
            few = len(decisive) <= FEW
            parts += _numbers_by_name(decisive) if few else [_outcomes_by_name(decisive)]
        else:
            parts.append("; ".join(case.text for case in decisive))
        parts += [self.remark, self.by_construction]
        if self.outcome == UNDECIDED and self.decider and not unmet:
            parts.append(f"what would decide it: {self.decider}{self._out_of_reach()}")
        return "\n".join(filter(None, parts))

    def _out_of_reach(self) -> str:
        """Which open cases no more of the same data in reach would decide, "" for none."""
        cases = [case for case in self.cases if case.deciding and case.outcome == UNDECIDED]
        names = list(dict.fromkeys(case.name for case in cases if case.at_bound))
        if not names:
            return ""
        where = f" at {_list_names(names)}" if names != [""] else ""
        return (
            f"; but{where} the estimate is so near the bound of the claim that "
            f"{OUT_OF_REACH} times the data would not"
        )

    def to_dict(self) -> dict[str, Any]:
        """The verdict as JSON values."""
        return {
            "id": self.claim.id,
            "paper": self.claim.paper,
            "place": self.claim.place,
            "sentence": self.claim.sentence,
            "expected": self.claim.expected,
            "tried_on": self.tried_on,
            "outcome": self.outcome,
            "measured": self.measured,
            "rule": self.rule,
            "premises": [premise.to_dict() for premise in self._all_premises()],
            "scale": [scale.to_dict() for scale in self.scale],
            "cases": [case.to_dict() for case in self.cases],
            "changed": self.changed,
            "by_construction": self.by_construction,
        }

    def _all_premises(self) -> list[Premise]:
        """The verdict's own premises, and the worst of each name among the deciding cases'."""
        by_name: dict[str, list[Premise]] = {}
        for case in self.cases:
            if case.deciding and (case.outcome != UNDECIDED or self.outcome == UNDECIDED):
                for premise in case.premises:
                    by_name.setdefault(premise.name, []).append(premise)
        return [*self.premises, *(find_worst(same) for same in by_name.values())]


def find_worst(premises: Sequence[Premise]) -> Premise:
    """The premise of several that misses its range by most, or comes nearest to missing it.

    Args:
        premises: of one name and one range.

    >>> find_worst([Premise("x", value, at_least=1) for value in (2, 0.5, 0.9)]).value
    0.5
    """

    def room(premise: Premise) -> float:
        room = min(premise.value - premise.at_least, premise.at_most - premise.value)
        return room if room == room else -float("inf")  # NaN: not measured

    return min(premises, key=room)


def describe_premises(premises: Sequence[Premise]) -> list[str]:
    """A phrase for each name: the worst, and at how many places of those it is not met."""
    by_name: dict[str, list[Premise]] = {}
    for premise in premises:
        by_name.setdefault(premise.name, []).append(premise)
    phrases = []
    for same in by_name.values():
        others = len(same) - 1
        more = f" (missed at {others} more place{'s' * (others > 1)})" if others else ""
        phrases.append(find_worst(same).text + more)
    return phrases


def _describe_observed(cases: Sequence[Case]) -> str:
    """What the numbers point to: "as claimed at a = 0.5", of a single name with its numbers; names
    without any number are left out.
    """
    names = list(dict.fromkeys(case.name for case in cases))
    if len(names) > 1:
        numbered = {case.name for case in cases if case.has_numbers}
        chosen = [case for case in cases if case.name in numbered]
        return _group_names(chosen, "observed", DIRECTIONS)
    direction = DIRECTIONS[every([case.observed for case in cases])]
    numbers = "; ".join(_strip_premises(case) for case in cases)
    return f"{direction} ({numbers})"


def _strip_premises(case: Case) -> str:
    """A case's text without its premises, which are told once for all cases."""
    return replace(case, premises=()).text


def _outcomes_by_name(cases: Sequence[Case]) -> str:
    """Which cases hold, which do not, which are open: "holds at a = 0.5, 0.9"."""
    return _group_names(cases, "outcome", {outcome: outcome for outcome in OUTCOMES})


def _numbers_by_name(cases: Sequence[Case]) -> list[str]:
    """A phrase for each name, its outcome with its numbers: "holds at a = 0.5: error 0.1"."""
    phrases = []
    for name in dict.fromkeys(case.name for case in cases):
        same = [case for case in cases if case.name == name]
        outcome = every([case.outcome for case in same])
        phrases.append(f"{outcome} at {name}: {'; '.join(case.text for case in same)}")
    return phrases


def _group_names(cases: Sequence[Case], field: str, words: dict[str, str]) -> str:
    """The names of the cases by the outcome of all cases of that name, each outcome in words."""
    outcomes = {}
    for name in dict.fromkeys(case.name for case in cases):
        outcomes[name] = every([getattr(case, field) for case in cases if case.name == name])
    phrases = []
    for outcome in OUTCOMES:
        chosen = [name for name in outcomes if outcomes[name] == outcome]
        if chosen:
            phrases.append(f"{words[outcome]} at {_list_names(chosen)}")
    return "; ".join(phrases)


def _list_names(names: Sequence[str]) -> str:
    """Names in a row, neighbours that differ in the last word joined.

    >>> _list_names(["a = 0.5", "a = 0.9"]), _list_names(["NC1 at a = 0.5", "NC2 at a = 0.5"])
    ('a = 0.5, 0.9', 'NC1 at a = 0.5, NC2 at a = 0.5')
    >>> _list_names(["NC1 at a = 0.5", "NC1 at a = 0.9", "NC2 at a = 0.5"])
    'NC1 at a = 0.5, 0.9; NC2 at a = 0.5'
    """
    groups = []
    for shared, same in itertools.groupby(names, lambda name: "".join(name.rpartition(" ")[:2])):
        groups.append(shared + ", ".join(name.removeprefix(shared) for name in same))
    return (", " if len(groups) == len(names) else "; ").join(groups)


class Decision(Protocol):
    """A function that decides one claim, which it carries as `claim`."""

    claim: Claim

    def __call__(self, *arguments: Any, **settings: Any) -> Verdict: ...


def decides(claim: Claim) -> Callable[[Callable[..., Verdict]], Decision]:
    """Decorator: binds a claim to the function that decides it.

    The function takes the claim first and returns its verdict; callers leave the claim out.

    >>> @decides(Claim("X1", "a paper", "section 1", "Water is wet.", "wet"))
    ... def decide_x1(claim, wetness):
    ...     return Verdict(claim, "water", [Case.exact("", "wetness", wetness, at_least=1)])
    >>> decide_x1.claim.id, decide_x1(2).outcome
    ('X1', 'holds')
    """

    def bind(function: Callable[..., Verdict]) -> Decision:
        @functools.wraps(function)
        def decision(*arguments: Any, **settings: Any) -> Verdict:
            return function(claim, *arguments, **settings)

        decision.claim = claim  # type: ignore[attr-defined]
        return decision  # type: ignore[return-value]

    return bind


def claims_in(module: ModuleType) -> list[Claim]:
    """The claims that a module's functions decide, in the order of the functions, each once."""
    found = [getattr(value, "claim", None) for value in vars(module).values()]
    return list(dict.fromkeys(claim for claim in found if isinstance(claim, Claim)))
