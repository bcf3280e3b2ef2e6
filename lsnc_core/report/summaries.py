"""What a report says of a paper, computed from the answers to its claims."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from lsnc_core.claims import FAILS, UNDECIDED
from lsnc_core.data_sources import SOURCES
from lsnc_core.papers import Paper
from lsnc_core.report import words
from lsnc_core.report.outcomes import (
    MIXED,
    OUTCOMES,
    ClaimResult,
    counts,
    missed_premises,
)
from lsnc_core.report.pages import NotebookPage
from lsnc_core.show import is_tall, size_of, with_minus_signs

# what a claim is decided on, in the order shown
SUBJECTS = ("networks", "model", "formulas")
# the sizes that say most about an experiment; the page of deviations has all that differ
MAIN = (
    "image set",
    "training images",
    "network",
    "range of NC1",
    "epochs",
    "weight decay",
    "steps",
    "learning rate",
)
DIFFERENCES = 6
PREMISES = 2  # that a summary names


@dataclass(frozen=True)
class Summary:
    """A paper in a few sentences and a picture.

    Attributes:
        paper: its card.
        holds: whether it holds, in numbers of claims.
        recorded: the ids of the claims that recorded runs decide and this one does not or
            otherwise, by how they end there, as a verb with image sets.
        recordings: these runs, by profile and parameters.
        limit: where it stops.
        sides: the ids of the open claims by the side on which they were measured.
        differences: how the networks behind it differ most from the paper's; "" for none.
        figure: as in `Figure.data`; None where its notebook is not in the report.
        address: of the figure on its page.
    """

    paper: Paper
    holds: str
    recorded: dict[str, list[str]]
    recordings: list[str]
    limit: str
    sides: dict[str, list[str]]
    differences: str = ""
    figure: dict | None = None
    address: str = ""

    @property
    def anchor(self) -> str:
        """The card's place on the front page, e.g. "guo-et-al-2025"."""
        return "-".join(re.findall(r"\w+", self.paper.name.lower()))

    @property
    def tall(self) -> bool:
        """Whether the figure is at least as high as wide."""
        return is_tall(self.size)

    @property
    def size(self) -> tuple[float, float] | None:
        """Width and height of the figure in points; None without one."""
        return size_of(self.figure.get("svg", "")) if self.figure else None


def summarise(results: Sequence[ClaimResult], pages: Sequence[NotebookPage]) -> list[Summary]:
    """A summary of each paper that has claims in the report and names those that speak for it."""
    cards = dict.fromkeys(page.entry.paper for page in pages)
    listed = []
    for paper in cards:
        headline, own = claims_of(paper, results)
        if not own:
            continue
        figure, address = _find_figure(paper.figure, pages)
        listed.append(
            Summary(
                paper,
                say_whether_it_holds(own),
                *list_recorded(own),
                say_where_it_stops(own),
                list_sides(own),
                say_what_differs(headline + own),
                figure,
                address,
            )
        )
    return listed


def claims_of(
    paper: Paper, results: Sequence[ClaimResult]
) -> tuple[list[ClaimResult], list[ClaimResult]]:
    """The claims that speak for a paper, the first one above all, and all of its claims."""
    own = [result for result in results if result.paper == paper.name]
    by_id = {result.id: result for result in own}
    return [by_id[name] for name in paper.headline if name in by_id], own


def _find_figure(name: str, pages: Sequence[NotebookPage]) -> tuple[dict | None, str]:
    for page in pages:
        for figure in page.figures:
            if figure["name"] == name:
                return figure, f"{page.address}#{name}"
    return None, ""


def say_whether_it_holds(own: Sequence[ClaimResult]) -> str:
    """How many claims of a paper have each outcome."""
    number = "claim" if len(own) == 1 else f"{len(own)} claims"
    return f"Of its {number}, {words.counts(Counter(result.outcome for result in own))}."


def list_recorded(own: Sequence[ClaimResult]) -> tuple[dict[str, list[str]], list[str]]:
    """The ids of the claims that recorded runs decide and this one does not or otherwise, by how
    they end there and on which image sets, e.g. "hold on MNIST", and these runs, e.g. "hour" or
    "quick with data_set=cifar10".
    """
    ids: dict[tuple[str, str], list[str]] = {}
    runs = set()
    for result in own:
        if result.outcome_of_recorded in (UNDECIDED, result.outcome):
            continue
        names = set()
        for answer in filter(counts, result.recorded):
            if answer["outcome"] != UNDECIDED:
                names.update(words.image_sets(answer))
                runs.add(words.name_of_run(answer["profile"], answer["parameters"]))
        images = " and ".join(SOURCES[name].label for name in sorted(names))
        ids.setdefault((result.outcome_of_recorded, images), []).append(result.id)
    ended = {}
    for (outcome, images), same in sorted(ids.items(), key=lambda one: OUTCOMES.index(one[0][0])):
        verbs = words.SINGULAR if len(same) == 1 else words.PLURAL
        ended[" on ".join(filter(None, [verbs[outcome], images]))] = same
    return ended, sorted(runs)


def list_sides(own: Sequence[ClaimResult]) -> dict[str, list[str]]:
    """The ids of the open claims by the side on which they were measured, `ClaimResult.side`."""
    sides: dict[str, list[str]] = {"as claimed": [], "not as claimed": [], "neither clearly": []}
    for result in own:
        if result.outcome == UNDECIDED and result.counted:
            sides[result.side or "neither clearly"].append(result.id)
    return {side: ids for side, ids in sides.items() if ids}


def list_decided(results: Sequence[ClaimResult]) -> dict[str, list[tuple[str, ClaimResult]]]:
    """The decided claims of each paper, each with what it was tried on, one of `SUBJECTS`, in the
    order of these.
    """
    decided: dict[str, list[tuple[str, ClaimResult]]] = {}
    for result in results:
        if result.outcome != UNDECIDED and result.answer is not None:
            decided.setdefault(result.paper, []).append((_subject(result.answer), result))
    for listed in decided.values():
        listed.sort(key=lambda pair: SUBJECTS.index(pair[0]))
    return decided


def _subject(answer: dict) -> str:
    networks, model, formulas = SUBJECTS
    if words.is_about_networks(answer):
        return networks
    return model if "feature model" in answer["tried_on"] else formulas


def say_where_it_stops(own: Sequence[ClaimResult]) -> str:
    """Which claims fail or are mixed, and why others are open: the premises that most of them miss,
    with one text each, or an interval around the bound.
    """
    parts = []
    for outcome in (FAILS, MIXED):
        ids = [result.id for result in own if result.outcome == outcome]
        if ids:
            verb = words.SINGULAR if len(ids) == 1 else words.PLURAL
            parts.append(f"{_join(ids)} {verb[outcome]}.")
    reasons, listed = [], set()
    undecided = [result for result in own if result.outcome == UNDECIDED]
    for texts in missed_premises(undecided).values():
        new = {name: text for name, text in texts.items() if name not in listed}
        if new and len(reasons) < PREMISES:
            reasons.append(f"for {', '.join(new)} ({with_minus_signs(words.premise(new))})")
            listed.update(new)
    if reasons:
        parts.append(f"A premise is missed {', and '.join(reasons)}.")
    others = [result for result in undecided if result.id not in listed]
    doubts = [result.id for result in others if result.counted]
    silent = [result.id for result in others if not result.counted]
    if doubts:
        parts.append(f"Other premises or an interval around the bound leave {_join(doubts)} open.")
    if silent:
        parts.append(f"Nothing was measured for {_join(silent)}.")
    return " ".join(parts) or "Every claim is decided, no premise is missed and nothing fails."


def _join(ids: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(ids[:-1]), ids[-1]]))


def say_what_differs(results: Sequence[ClaimResult]) -> str:
    """The main sizes in which the networks behind these claims differ from the paper's, of the
    first answer that has any, e.g. "training images 500 (paper 60,000)"; "" for none.
    """
    for result in results:
        for answer in result.counted:
            sizes = words.differing_sizes(answer)
            if sizes:
                main = [sizes[name] for name in MAIN if name in sizes]
                return "; ".join(main[:DIFFERENCES])
    return ""
