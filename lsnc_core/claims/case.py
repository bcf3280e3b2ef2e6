"""Cases: one measured quantity beside its claimed range, and what follows from its interval."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lsnc_core.claims.intervals import LEVEL, t_interval
from lsnc_core.claims.premise import Premise

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "not decidable here"
OUTCOMES = (HOLDS, FAILS, UNDECIDED)
MIN_SEEDS = 4  # an interval over fewer seeds decides nothing
OUT_OF_REACH = 25  # times as much data as there is; chooses words, never an outcome
Interval = tuple[float, float, float]  # estimate, low, high


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
        undecided: why nothing was measured; "" where something was.
        deciding: False for a detail that does not enter the verdict.
        premises: conditions of the claim that concern this case alone.
        interval: value, low, high as a function of the level; None where the interval has but one.
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
    premises: tuple[Premise, ...] = ()
    interval: Callable[[float], Interval] | None = field(default=None, compare=False, repr=False)

    @classmethod
    def exact(cls, name: str, quantity: str, value: float, **settings: Any) -> "Case":
        """A case about a computed number.

        >>> Case.exact("M = 10", "violations", 0, at_most=0).outcome
        'holds'
        """
        return cls(name, quantity, value, value, value, level=None, **settings)

    @classmethod
    def measured(
        cls, name: str, quantity: str, interval: Callable[[float], Interval], **settings: Any
    ) -> "Case":
        """A case about a measured quantity.

        Args:
            name, quantity: as in the class.
            interval: level -> estimate, low, high.
            settings: further fields of the class.
        """
        value, low, high = interval(LEVEL)
        return cls(name, quantity, value, low, high, interval=interval, **settings)

    def at_level(self, level: float) -> "Case":
        """The case with its interval at another level, if it is a measured one."""
        if self.interval is None:
            return self
        value, low, high = self.interval(level)
        return replace(self, value=value, low=low, high=high, level=level)

    @property
    def unmet(self) -> list[Premise]:
        """The premises of this case that are not met."""
        return [premise for premise in self.premises if not premise.met]

    @property
    def has_numbers(self) -> bool:
        """Whether there is an interval to decide by."""
        return not (self.undecided or math.isnan(self.low) or math.isnan(self.high))

    @property
    def at_bound(self) -> bool:
        """Whether the estimate lies so near a claimed bound inside its interval that `OUT_OF_REACH`
        times as much data would not tell them apart; an interval shrinks as the root of that.
        """
        if self.interval is None or not self.has_numbers:
            return False
        for bound in (self.at_least, self.at_most):
            if self.low < bound < self.high:
                # the end of the interval beyond the bound
                end = self.low if bound < self.value else self.high
                reach = math.sqrt(OUT_OF_REACH) * abs(bound - self.value)
                if math.isfinite(end) and abs(end - self.value) > reach:
                    return True
        return False

    @property
    def observed(self) -> str:
        """One of `OUTCOMES`, by the numbers alone, whatever the premises are."""
        if not self.has_numbers:
            return UNDECIDED
        return decide(self.low, self.high, self.at_least, self.at_most)

    @property
    def outcome(self) -> str:
        """One of `OUTCOMES`; open where a premise is not met."""
        return UNDECIDED if self.unmet else self.observed

    @property
    def numbers(self) -> str:
        """The estimate with its interval; why there is none where nothing was measured.

        >>> Case("a = 0.8", "error", 0.1, 0.08, 0.12, at_most=0.15, form=".0%").numbers
        '10% [8%, 12%]'
        """
        if math.isnan(self.value):
            return self.undecided or "not measured"
        number = f"{self.value:{self.form}}"
        if not self.low == self.value == self.high:
            number += f" [{self.low:{self.form}}, {self.high:{self.form}}]"
        return f"{number} {self.unit}".rstrip()

    @property
    def text(self) -> str:
        """The numbers and remarks as one phrase.

        >>> Case("a = 0.8", "error", 0.1, 0.08, 0.12, at_most=0.15, form=".0%").text
        'error 10% [8%, 12%]'
        """
        parts = []
        if not math.isnan(self.value):
            parts.append(" ".join(filter(None, [self.quantity, self.numbers])))
            if self.level not in (None, LEVEL):
                parts[-1] += f" (level {100 * self.level:.3g} %)"
        parts += [part for part in (self.remark, self.undecided) if part]
        parts += [f"premise not met: {premise.text}" for premise in self.unmet]
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
            "premises": [premise.to_dict() for premise in self.premises],
            "observed": self.observed,
            "outcome": self.outcome,
            "text": self.text,
        }


def seed_case(
    name: str,
    quantity: str,
    values: Sequence[float] | np.ndarray,
    *,
    log: bool = False,
    within: tuple[float, float] = (-math.inf, math.inf),
    unresolved: tuple[Any, Any] = (0.0, 0.0),
    **settings: Any,
) -> Case:
    """A case decided by the t-interval of one value per seed.

    Args:
        name, quantity: as in `Case`.
        values: float (seeds,).
        log: the values are logarithms of the quantity. The interval is computed on the log scale,
            where ratios are nearer to normal, and shown without the logarithm.
        within: bounds of the quantity, which a t-interval ignores, e.g. (-1, 1) for a correlation.
        unresolved: how far below and above each value may lie for want of a finer grid, each
            float (seeds,) >= 0; their means widen the interval.
        settings: further fields of `Case`.
    """
    values = np.asarray(values, dtype=float)
    if len(values) < MIN_SEEDS:
        few = f"{len(values)} seeds; an interval needs {MIN_SEEDS}"
        return Case(name, quantity, **settings | {"undecided": few})
    if not np.isfinite(values).all():
        missing = f"{quantity} is not finite for every seed"
        return Case(name, quantity, **settings | {"undecided": missing})

    def interval(level: float) -> Interval:
        ends = np.array(t_interval(values, level))
        ends += 0.0, -np.mean(unresolved[0]), np.mean(unresolved[1])
        mean, low, high = np.clip(np.exp(ends) if log else ends, *within).tolist()
        return mean, low, high

    return Case.measured(name, quantity, interval, **settings)


def decide_together(cases: Sequence[Case], rule: str) -> tuple[Case, ...]:
    """The cases of one claim, each with its interval at the level that decides it.

    A claim about every case holds if each holds at the level `LEVEL`: to be wrong, at least one of
    the tests must be (intersection-union test). It fails if any case does, so the cases share the
    error probability 1 - `LEVEL` (Holm): the first to fail must do so at level
    1 - (1 - `LEVEL`)/m among m cases, the next at 1 - (1 - `LEVEL`)/(m - 1), and so on. In a claim
    about most cases both outcomes are shared out in this way.

    Args:
        cases: of one claim. Only measured, deciding ones with all premises met are compared; the
            others are returned as they are.
        rule: "every" or "most".

    Source: Holm 1979; Berger 1982 for the intersection-union test.
    """
    decided = {
        number: case
        for number, case in enumerate(cases)
        if case.deciding and case.interval is not None and not case.unmet and not case.undecided
    }
    shared = (FAILS,) if rule == "every" else (FAILS, HOLDS)
    left = [number for number, case in decided.items() if case.outcome in shared]
    count, stepping = len(decided), True
    while stepping and left:
        level = 1 - (1 - LEVEL) / count
        trial = {number: cases[number].at_level(level) for number in left}
        decided |= trial
        settled = [number for number in left if trial[number].outcome in shared]
        left = [number for number in left if number not in settled]
        count, stepping = count - len(settled), bool(settled)
    return tuple(decided.get(number, case) for number, case in enumerate(cases))
