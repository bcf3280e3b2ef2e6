"""A claim, the cases that decide it, and the verdict.

A claim is one checkable sentence of a paper, in our words. A case compares one measured quantity
with its claimed range. The case holds when its whole interval lies in the range, does not hold
when all of the interval lies outside, and is not decidable here otherwise. A verdict combines the
cases of one claim.
"""

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from lsnc_core.claims.intervals import LEVEL, t_interval
from lsnc_core.errors import UsageError

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "not decidable here"
OUTCOMES = (HOLDS, FAILS, UNDECIDED)
OURS = "this companion"  # the `paper` of a claim that none of the papers makes
MIN_SEEDS = 4  # an interval over fewer seeds decides nothing
RULES = ("every", "most")


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
class Case:
    """One measured quantity beside its claimed range.

    Attributes:
        name: what tells this case from the claim's others, e.g. "a = 0.8"; cases of one name are
            several quantities measured in the same place.
        quantity: what was measured.
        value, low, high: the estimate and its interval, in `unit`; NaN where nothing was measured.
        at_least, at_most: the claimed range, in `unit`; infinite where it is open.
        level: coverage of the interval; None for a computed number, whose low and high are
            numerical bounds.
        unit: "" for a pure number.
        form: format of the numbers, as in `format`.
        remark: further measurements that decide nothing.
        undecided: why the numbers decide nothing; "" where they do.
        deciding: False for a detail that does not enter the verdict.
    """

    name: str
    quantity: str
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    at_least: float = -math.inf
    at_most: float = math.inf
    level: float | None = LEVEL
    unit: str = ""
    form: str = ".3g"
    remark: str = ""
    undecided: str = ""
    deciding: bool = True

    @classmethod
    def exact(cls, name: str, quantity: str, value: float, **settings: Any) -> "Case":
        """A case about a computed number.

        >>> Case.exact("M = 10", "violations", 0, at_most=0).outcome
        'holds'
        """
        return cls(name, quantity, value, value, value, level=None, **settings)

    @property
    def outcome(self) -> str:
        """One of `OUTCOMES`."""
        if self.undecided or math.isnan(self.low) or math.isnan(self.high):
            return UNDECIDED
        return decide(self.low, self.high, self.at_least, self.at_most)

    @property
    def text(self) -> str:
        """The numbers and remarks as one phrase.

        >>> Case("a = 0.8", "error", 0.1, 0.08, 0.12, at_most=0.15, form=".0%").text
        'error 10% [8%, 12%]'
        """
        parts = []
        if not math.isnan(self.value):
            number = f"{self.value:{self.form}}"
            if not self.low == self.value == self.high:
                number += f" [{self.low:{self.form}}, {self.high:{self.form}}]"
            parts.append(" ".join(filter(None, [self.quantity, number, self.unit])))
        parts += [part for part in (self.remark, self.undecided) if part]
        return "; ".join(parts) or f"{self.quantity}: not measured"

    def to_dict(self) -> dict[str, Any]:
        """The case as JSON values; numbers that are not finite become None."""
        numbers = {
            name: number if math.isfinite(number := float(getattr(self, name))) else None
            for name in ("value", "low", "high", "at_least", "at_most")
        }
        return {
            "name": self.name,
            "quantity": self.quantity,
            **numbers,
            "level": self.level,
            "unit": self.unit,
            "deciding": self.deciding,
            "undecided": self.undecided,
            "outcome": self.outcome,
            "text": self.text,
        }


@dataclass(frozen=True)
class Verdict:
    """The computed answer to a claim.

    Attributes:
        claim: the claim.
        tried_on: on what it was tried, e.g. "Held-out images of mnist".
        cases: the comparisons; without any, nothing was measured and the answer is open.
        remark: what a reader should know beside the cases.
        decider: what would decide the claim; shown where it is open.
        rule: "every" case must hold, or "most" of them.
        premises: the conditions under which the paper makes the claim.
    """

    claim: Claim
    tried_on: str
    cases: Sequence[Case] = ()
    remark: str = ""
    decider: str = ""
    rule: str = "every"
    premises: tuple[()] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "cases", tuple(self.cases))
        if self.rule not in RULES:
            raise UsageError(f"a rule must be one of {', '.join(RULES)}, got {self.rule!r}.")

    @property
    def outcome(self) -> str:
        """One of `OUTCOMES`, by the rule over the deciding cases."""
        outcomes = [case.outcome for case in self.cases if case.deciding]
        return most(outcomes) if self.rule == "most" else every(outcomes)

    @property
    def changed(self) -> str:
        """What changed in the decision after the first results."""
        return self.claim.changed

    @property
    def measured(self) -> str:
        """What was measured, in a sentence.

        >>> claim = Claim("X", "", "", "", "")
        >>> near, far = (Case.exact(f"a = {x}", "p", x, at_least=0.6) for x in (0.8, 0.5))
        >>> Verdict(claim, "digits", (near, far)).measured
        'holds at a = 0.8; does not hold at a = 0.5'
        >>> Verdict(claim, "digits", (near,)).measured
        'p 0.8'
        """
        decisive = [case for case in self.cases if case.deciding]
        names = list(dict.fromkeys(case.name for case in decisive))
        if len(names) > 1:
            parts = [_outcomes_by_name(decisive, names)]
        else:
            parts = [case.text for case in decisive]
        parts.append(self.remark)
        if self.outcome == UNDECIDED and self.decider:
            parts.append(f"what would decide it: {self.decider}")
        return "; ".join(filter(None, parts))

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
            "premises": list(self.premises),
            "cases": [case.to_dict() for case in self.cases],
            "changed": self.changed,
        }


def _outcomes_by_name(cases: Sequence[Case], names: Sequence[str]) -> str:
    """Which cases hold, which do not, which are open: "holds at a = 0.5, 0.9"."""
    outcomes = {}
    for name in names:
        outcomes[name] = every([case.outcome for case in cases if case.name == name])
    phrases = []
    for outcome in OUTCOMES:
        chosen = [name for name in names if outcomes[name] == outcome]
        if chosen:
            # "a = 0.5, a = 0.9" shares the words before its last: "a = 0.5, 0.9"
            shared = "".join(chosen[0].rpartition(" ")[:2])
            listed = ", ".join(name.removeprefix(shared) for name in chosen)
            phrases.append(f"{outcome} at {shared}{listed}")
    return "; ".join(phrases)


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


def decide(low: float, high: float, at_least: float = -math.inf, at_most: float = math.inf) -> str:
    """The outcome for an interval [low, high] when the value is claimed to lie in
    [at_least, at_most].

    >>> decide(0.7, 0.8, 0.6, 0.9), decide(0.95, 1.0, 0.6, 0.9), decide(0.85, 0.95, 0.6, 0.9)
    ('holds', 'does not hold', 'not decidable here')
    """
    if low >= at_least and high <= at_most:
        return HOLDS
    return FAILS if high < at_least or low > at_most else UNDECIDED


def every(outcomes: Iterable[str]) -> str:
    """The outcome of a claim about all of several cases; without cases it is open.

    >>> every(["holds", "not decidable here"]), every(["holds", "does not hold"]), every([])
    ('not decidable here', 'does not hold', 'not decidable here')
    """
    outcomes = list(outcomes)
    if FAILS in outcomes:
        return FAILS
    return HOLDS if outcomes and set(outcomes) == {HOLDS} else UNDECIDED


def most(outcomes: Iterable[str]) -> str:
    """The outcome of a claim about more than half of several cases; without cases it is open.

    >>> most(["holds", "holds", "does not hold"]), most(["does not hold", "holds"]), most([])
    ('holds', 'does not hold', 'not decidable here')
    """
    outcomes = list(outcomes)
    if 2 * outcomes.count(HOLDS) > len(outcomes):
        return HOLDS
    # so many fail that half or fewer can hold
    return FAILS if outcomes and 2 * outcomes.count(FAILS) >= len(outcomes) else UNDECIDED


def seed_case(
    name: str,
    quantity: str,
    values: Sequence[float] | np.ndarray,
    *,
    log: bool = False,
    within: tuple[float, float] = (-math.inf, math.inf),
    undecided: str = "",
    **settings: Any,
) -> Case:
    """A case decided by the 95 % t-interval of one value per seed.

    Args:
        name, quantity: as in `Case`.
        values: float (seeds,).
        log: the values are logarithms of the quantity. The interval is computed on the log scale,
            where ratios are nearer to normal, and shown without the logarithm.
        within: bounds of the quantity, which a t-interval ignores, e.g. (-1, 1) for a correlation.
        undecided: as in `Case`; by default, whether seeds or values are missing.
        settings: further fields of `Case`: at_least, at_most, unit, form, remark, deciding.
    """
    values = np.asarray(values, dtype=float)
    if len(values) < MIN_SEEDS:
        few = f"{len(values)} seeds; an interval needs {MIN_SEEDS}"
        return Case(name, quantity, undecided=few, **settings)
    if not np.isfinite(values).all():
        missing = f"{quantity} is not finite for every seed"
        return Case(name, quantity, undecided=missing, **settings)
    ends = np.array(t_interval(values))
    mean, low, high = np.clip(np.exp(ends) if log else ends, *within).tolist()
    return Case(name, quantity, mean, low, high, undecided=undecided, **settings)
