"""Premises and scale: under which conditions a paper makes a claim, and how large its experiment
was beside ours.
"""

import math
import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Premise:
    """A condition under which a paper makes a claim, checked on the data.

    Attributes:
        name: the condition, e.g. "labels memorised"; the same for all cases of a claim.
        value: what was measured, in `unit`; NaN where nothing was.
        at_least, at_most: the range in which the condition is met; infinite where it is open.
        unit: "" for a pure number.
        form: format of the numbers, as in `format`.
        where: on which of the claim's data it was checked, "" for all of it.
        quantity: what was measured, a singular noun; "" where `name` is one.

    >>> small = Premise("number of training images", 500, at_least=10_000, form=",.0f")
    >>> small.met, small.text
    (False, 'number of training images is 500, needed at least 10,000')
    >>> Premise("change", -0.1004, at_least=-0.1, form=".0%").text
    'change is -10.04%, needed at least -10%'
    """

    name: str
    value: float
    at_least: float = -math.inf
    at_most: float = math.inf
    unit: str = ""
    form: str = ".3g"
    where: str = ""
    quantity: str = ""

    @property
    def met(self) -> bool:
        """Whether the value was measured and lies in its range."""
        return bool(self.at_least <= self.value <= self.at_most)

    @property
    def needed(self) -> str:
        """The range in words."""
        ends = [
            f"{words} {self._number(end)}"
            for words, end in (("at least", self.at_least), ("at most", self.at_most))
            if math.isfinite(end)
        ]
        return " and ".join(ends)

    @property
    def text(self) -> str:
        """The condition with its numbers as one sentence."""
        measured = "not measured" if math.isnan(self.value) else self._measured()
        where = f" ({self.where})" if self.where else ""
        return f"{self.quantity or self.name}{where} is {measured}, needed {self.needed}"

    def _measured(self) -> str:
        """The value, with more digits where with its own it would read like an end of the range
        which it is not.
        """
        form = self.form
        ends = {x for x in (self.at_least, self.at_most) if math.isfinite(x) and x != self.value}
        while any(f"{self.value:{form}}" == f"{end:{form}}" for end in ends):
            finer = re.sub(r"\.(\d+)", lambda digits: f".{int(digits[1]) + 1}", form)
            if finer == form:  # no precision to raise
                return " ".join(filter(None, [repr(self.value), self.unit]))
            form = finer
        return self._number(self.value, form)

    def _number(self, value: float, form: str = "") -> str:
        return " ".join(filter(None, [f"{value:{form or self.form}}", self.unit]))

    def to_dict(self) -> dict[str, Any]:
        """The premise as JSON values; a number that is not finite becomes None."""
        return {
            "name": self.name,
            "quantity": self.quantity,
            "met": self.met,
            "value": float(self.value) if math.isfinite(self.value) else None,
            "needed": self.needed,
            "unit": self.unit,
            "where": self.where,
            "text": self.text,
        }


@dataclass(frozen=True)
class Scale:
    """One measure of an experiment's size, here and in the paper.

    Attributes:
        name: e.g. "training images".
        here: of our experiment.
        paper: of the paper's; "" where no published number was found.
    """

    name: str
    here: str
    paper: str = ""

    @property
    def text(self) -> str:
        """Both sizes as one phrase.

        >>> Scale("seeds", "4", "1").text, Scale("test error", "0.06").text
        ('seeds 4 (paper 1)', 'test error 0.06')
        """
        return f"{self.name} {self.here}" + (f" (paper {self.paper})" if self.paper else "")

    def to_dict(self) -> dict[str, str]:
        """The scale as JSON values."""
        return {"name": self.name, "here": self.here, "paper": self.paper}
