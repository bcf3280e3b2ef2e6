"""What a report says of a paper, computed from the answers to its claims."""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lsnc_core.claims import FAILS, HOLDS, UNDECIDED
from lsnc_core.papers import Paper
from lsnc_core.report import words
from lsnc_core.report.outcomes import (
    MIXED,
    ClaimResult,
    deciding_case,
    find_farthest,
    unmet_premises,
)
from lsnc_core.report.pages import NotebookPage
from lsnc_core.show import is_tall, with_minus_signs


@dataclass(frozen=True)
class Summary:
    """A paper in a few sentences and a picture.

    Attributes:
        paper: its card.
        holds, strength, limit: whether it holds, how strongly, and where it stops.
        figure: as in `Figure.data`; None where its notebook is not in the report.
        address: of the figure on its page.
    """

    paper: Paper
    holds: str
    strength: str
    limit: str
    figure: dict | None = None
    address: str = ""

    @property
    def tall(self) -> bool:
        """Whether the figure is at least as high as wide."""
        return self.figure is not None and is_tall(self.figure.get("svg", ""))


def summarise(results: Sequence[ClaimResult], pages: Sequence[NotebookPage]) -> list[Summary]:
    """A summary of each paper that has claims in the report and names those that speak for it."""
    cards = dict.fromkeys(page.entry.paper for page in pages)
    listed = []
    for paper in cards:
        own = [result for result in results if result.paper == paper.name]
        if not own:
            continue
        by_id = {result.id: result for result in own}
        headline = [by_id[name] for name in paper.headline if name in by_id]
        figure, address = _find_figure(paper.figure, pages)
        sentences = (
            say_whether_it_holds(headline, own),
            say_how_strongly(headline or own),
            say_where_it_stops(headline, own),
        )
        listed.append(Summary(paper, *sentences, figure, address))
    return listed


def _find_figure(name: str, pages: Sequence[NotebookPage]) -> tuple[dict | None, str]:
    for page in pages:
        for figure in page.figures:
            if figure["name"] == name:
                return figure, f"{page.address}#{name}"
    return None, ""


def say_whether_it_holds(headline: Sequence[ClaimResult], own: Sequence[ClaimResult]) -> str:
    """The outcomes of the headline claims and the count of all.

    Args:
        headline: the claims that speak for the paper.
        own: all of its claims.
    """
    parts = []
    for result in headline:
        verb = words.SINGULAR[result.outcome]
        parts.append(f"“{result.name}” ({result.id}) {verb}{_reach(result)}")
    number = "claim" if len(own) == 1 else f"{len(own)} claims"
    counted = f"Of its {number}, {words.counts(Counter(result.outcome for result in own))}."
    counted += _split_holding(own)
    return f"{'; '.join(parts)}. {counted}" if parts else counted


def _split_holding(own: Sequence[ClaimResult]) -> str:
    """Which of the claims that hold do so on trained networks, as a sentence."""
    on_networks, others = [], []
    for result in own:
        holding = [answer for answer in result.counted if answer["outcome"] == HOLDS]
        if result.outcome == HOLDS:
            measured = any(words.is_about_networks(answer) for answer in holding)
            (on_networks if measured else others).append(result.id)
    if not on_networks or not others:
        holding = len(on_networks) + len(others)
        subject = "trained networks" if on_networks else "formulas or the feature model"
        which = "That one is" if holding == 1 else "Those that hold are all"
        return f" {which} about {subject}." if holding else ""
    return (
        f" Of those that hold, {_count(on_networks)} about trained networks and {_count(others)} "
        "about formulas or the feature model."
    )


def _count(ids: Sequence[str]) -> str:
    """E.g. "3 (G11, G12, G16) are"."""
    return f"{len(ids)} ({', '.join(ids)}) {'is' if len(ids) == 1 else 'are'}"


def _reach(result: ClaimResult) -> str:
    """On what a claim is decided, where other answers leave it open."""
    if not result.open_elsewhere:
        return ""
    decided = [answer for answer in result.counted if answer["outcome"] != UNDECIDED]
    if len(decided) > 2:
        return f" where decided ({result.share})"
    places = [words.place_within(answer) for answer in decided]
    return f" on {' and on '.join(places)} ({result.share})"


def say_how_strongly(headline: Sequence[ClaimResult]) -> str:
    """The effect on which the first headline claim turns, on what it was measured, and how large
    the experiment was; one with an interval before computed numbers.
    """
    found = []
    for result in headline:
        for measured in (True, False):
            answers = [answer for answer in result.counted if _is_measured(answer) == measured]
            decided = [answer for answer in answers if answer["outcome"] != UNDECIDED]
            answer = find_farthest(decided) or find_farthest(answers)
            if answer is not None:
                found.append((not measured, result, answer))
    if not found:
        return "Nothing was measured for its main claims in this profile."
    _, result, answer = min(found, key=lambda triple: triple[0])
    case = deciding_case(answer)
    sizes = words.sizes(answer)
    open_ = answer["outcome"] == UNDECIDED
    verb = "stays open" if open_ else words.SINGULAR[answer["outcome"]]
    return f"{result.id} {verb} on {words.place_within(answer)}: {words.comparison(case)}." + (
        f" It rests on {sizes}." if sizes else ""
    )


def _is_measured(answer: dict) -> bool:
    """Whether an answer turns on an interval."""
    case = deciding_case(answer)
    return case is not None and case["level"] is not None


def say_where_it_stops(headline: Sequence[ClaimResult], own: Sequence[ClaimResult]) -> str:
    """The first headline claim that fails, else the first whose premise is missed; then the same
    among all claims of the paper, and which others fail.
    """
    rest = [result for result in own if result not in headline]
    reasons = itertools.chain(
        _failures(headline), _misses(headline), _failures(rest), _misses(rest), _doubts(own)
    )
    reason = next(reasons, None)
    silent = [result.id for result in own if not result.counted]
    if reason is None and silent:
        return f"Nothing was measured for {', '.join(silent)}."
    if reason is None:
        return "Every claim is decided, no premise is missed and nothing fails."
    name, text = reason
    failing = [result.id for result in own if result.outcome in (FAILS, MIXED)]
    others = [claim for claim in failing if claim != name]
    also = " also" if name in failing else ""
    verb = "fails" if len(others) == 1 else "fail"
    further = f" {' and '.join(others)}{also} {verb}, at least in part." if others else ""
    return f"{text}.{further}"


def _failures(results: Sequence[ClaimResult]) -> Iterator[tuple[str, str]]:
    for result in results:
        answer = find_farthest(answer for answer in result.counted if answer["outcome"] == FAILS)
        if answer is not None:
            case = deciding_case(answer)
            yield (
                result.id,
                f"{result.id}, “{result.name}”, does not hold on {words.place_within(answer)}: "
                f"{words.comparison(case)}",
            )


def _misses(results: Sequence[ClaimResult]) -> Iterator[tuple[str, str]]:
    for result in results:
        for answer in result.counted:
            for premise in unmet_premises(answer):
                yield (
                    result.id,
                    f"{result.id}, “{result.name}”, stays open on {words.place_within(answer)} "
                    f"because a premise is missed: {with_minus_signs(premise['text'])}",
                )


def _doubts(results: Sequence[ClaimResult]) -> Iterator[tuple[str, str]]:
    for result in results:
        for answer in result.counted:
            case = deciding_case(answer)
            if answer["outcome"] == UNDECIDED and case is not None:
                yield (
                    result.id,
                    f"{result.id}, “{result.name}”, stays open on {words.place_within(answer)} "
                    f"because the interval contains the bound: {words.comparison(case)}",
                )
