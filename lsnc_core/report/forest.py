"""The forest plot: every claim with its distance from the claimed bound, as rows of HTML with marks
in SVG.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from lsnc_core.claims import UNDECIDED
from lsnc_core.report import words
from lsnc_core.report.outcomes import (
    ClaimResult,
    deciding_case,
    half_widths,
    misses_premise,
    stays_open,
)
from lsnc_core.report.record import Recording

LIMIT = 6  # half-widths; what lies farther is drawn at the edge
INSIDE, EDGE = 41.0, 44.5  # percent of the width from the bound, in the middle, to both
TICKS = (-6, -4, -2, 0, 2, 4, 6)
DECIDED = (-1, 1)  # beyond these the whole interval lies on one side of the bound
# corners of a mark by the profile of its recording
CORNERS = {"smoke": 4, "quick": 4, "hour": 3, "gpu": 5, "paper": 6}
STAR = 0.45  # where parameters were given it is a star, drawn in so far between its corners
RADIUS = {"deciding": 6.5, "case": 3.0, "recorded": 5.5}


@dataclass(frozen=True)
class Mark:
    """One case in a row.

    Attributes:
        kind: "deciding", "case" or "recorded".
        outcome: of the case.
        hollow: a premise is missed.
        exact: a number without an interval.
        x: position in half-widths, infinite without an interval.
        outline: of a recorded one; "" for this run's.
        text: for a tooltip.
        number: how many cases of one look it stands for.
    """

    kind: str
    outcome: str
    hollow: bool
    exact: bool
    x: float
    outline: str
    text: str
    number: int = 1

    @property
    def percent(self) -> float:
        """Its position from the left."""
        return percent(self.x)

    @property
    def beyond(self) -> int:
        """-1 or 1 where it lies beyond the left or right edge, otherwise 0."""
        return 0 if self.exact or abs(self.x) <= LIMIT else int(math.copysign(1, self.x))

    @property
    def interval(self) -> tuple[float, float] | None:
        """Where its interval begins and ends, in percent; None without one."""
        if math.isinf(self.x) or self.beyond:
            return None
        return percent(self.x - 1), percent(self.x + 1)

    @property
    def classes(self) -> str:
        """Its style."""
        hollow = " hollow" if self.hollow else ""
        return f"{self.kind} {words.CLASS[self.outcome]}{hollow}"

    @property
    def path(self) -> str:
        """Its outline about the origin, in pixels: a square without an interval, a disc for this
        run's, a polygon for recorded ones.
        """
        radius = RADIUS[self.kind]
        if self.kind == "recorded":
            return self.outline
        if self.exact:
            half = 0.85 * radius
            return f"M{-half:g} {-half:g}h{2 * half:g}v{2 * half:g}h{-2 * half:g}z"
        arc = f"a{radius:g} {radius:g} 0 1 0"
        return f"M{-radius:g} 0{arc} {2 * radius:g} 0{arc} {-2 * radius:g} 0z"


def percent(x: float) -> float:
    """Position from the left in percent of the width; x, in half-widths, is cut at the edges."""
    offset = INSIDE * x / LIMIT if abs(x) <= LIMIT else math.copysign(EDGE, x)
    return round(50 + offset, 2)


def _outline(profile: str, varied: bool) -> str:
    """A regular polygon with a corner on top, a star where parameters were given."""
    corners, points = CORNERS.get(profile, 4), []
    for number in range(2 * corners):
        middle = number % 2
        if middle and not varied:
            continue
        radius = RADIUS["recorded"] * (STAR if middle else 1.2 if varied else 1.0)
        angle = math.pi * number / corners
        points.append(f"{radius * math.sin(angle):.1f} {-radius * math.cos(angle):.1f}")
    return "M" + "L".join(points) + "z"


@dataclass(frozen=True)
class Row:
    """One claim in the plot.

    Attributes:
        result: the claim.
        marks: drawn in this order, the deciding case last.
    """

    result: ClaimResult
    marks: Sequence[Mark]

    @property
    def address(self) -> str:
        return f"claims.html#{self.result.id}"

    @property
    def estimate(self) -> str:
        """The deciding case in numbers."""
        case = self.result.case
        return words.read(case)[0] if case else "nothing was measured"

    @property
    def quantity(self) -> str:
        """What the deciding case measures, and which of several it is."""
        return words.measured(self.result)

    @property
    def claimed(self) -> str:
        """The range in which the claim has the deciding case."""
        return words.bounds(self.result.case) if self.result.case else ""

    @property
    def place(self) -> str:
        """What the deciding answer was tried on, without the network and its settings."""
        return words.place_in_brief(self.result.answer) if self.result.answer else ""

    @property
    def summary(self) -> str:
        """What the marks say, for those who do not see them."""
        case, answer = self.result.case, self.result.answer
        if case is None or answer is None:
            return ""
        parts = [words.distance(case)]
        if stays_open(answer, case):
            parts.append("a premise is missed")
        others = sum(mark.number for mark in self.marks if mark.kind == "case")
        if others:
            parts.append(f"{others} other case{'s' * (others > 1)}")
        parts += [mark.text for mark in self.marks if mark.kind == "recorded"]
        return "; ".join(parts)


def rows_by_paper(results: Sequence[ClaimResult]) -> list[tuple[str, list[Row]]]:
    """The papers in the order of their claims, each with a row for each claim."""
    groups: dict[str, list[Row]] = {}
    for result in results:
        groups.setdefault(result.paper, []).append(Row(result, _marks(result)))
    return list(groups.items())


def _marks(result: ClaimResult) -> list[Mark]:
    marks = []
    for answer in result.recorded:
        case = deciding_case(answer)
        if case is not None:
            outline = _outline(answer["profile"], bool(answer["parameters"]))
            where = f"{answer['recorded']}; {words.place(answer)}"
            marks.append(_mark("recorded", answer, case, where, outline))
    for answer in result.counted:
        for case in answer["cases"]:
            wanted = case["deciding"] and case["value"] is not None
            if wanted and case is not result.case:
                marks.append(_mark("case", answer, case, words.place(answer)))
    marks = list(_together(marks))
    if result.case is not None and result.answer is not None:
        place = words.place(result.answer)
        marks.append(_mark("deciding", result.answer, result.case, place))
    return marks


def _mark(kind: str, answer: dict, case: dict, place: str, outline: str = "") -> Mark:
    # a case beside others stands for itself, all else for its answer
    hollow = misses_premise(answer, case) if kind == "case" else stays_open(answer, case)
    # a missed premise leaves a case open, whatever its numbers say
    outcome = UNDECIDED if hollow else case["outcome"]
    missed = ", a premise is missed" if hollow else ""
    text = f"{place}: {words.effect(case)}: {outcome}{missed}, {words.distance(case)}"
    return Mark(kind, outcome, hollow, case["level"] is None, half_widths(case), outline, text)


def _together(marks: Iterable[Mark]) -> Iterable[Mark]:
    """The marks, those of one look in one place drawn once."""

    def look(mark: Mark) -> tuple:
        # the larger a recorded one, the earlier it is drawn, or it would hide others
        large = -len(mark.outline)
        return mark.kind != "recorded", large, mark.classes, mark.percent, mark.exact, mark.outline

    for _, same in itertools.groupby(sorted(marks, key=look), look):
        first, *others = same
        if others:
            text = f"{first.text}; and {len(others)} more here"
            first = replace(first, text=text, number=1 + len(others))
        yield first


def legend(recordings: Sequence[Recording]) -> list[tuple[str, str]]:
    """The marks of recordings: outline and words, one for each outline."""
    listed: dict[str, list[str]] = {}
    for recording in recordings:
        names = listed.setdefault(_outline(recording.profile, bool(recording.parameters)), [])
        names.append(f"profile {words.name_of_run(recording.profile, recording.parameters)}")
    marks = []
    for outline, names in listed.items():
        marks.append((outline, " and ".join(dict.fromkeys(names))))
    return marks
