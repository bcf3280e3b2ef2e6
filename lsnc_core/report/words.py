"""Numbers, cases and outcomes in words."""

import math
import re
import sys
from collections import Counter
from collections.abc import Iterable

from lsnc_core.claims import FAILS, HOLDS, OURS, UNDECIDED
from lsnc_core.data_sources import SOURCES
from lsnc_core.report.outcomes import MIXED, OUTCOMES, ClaimResult, half_widths
from lsnc_core.show import CLASSES, SIGNS

OWN_FILE = r"\S+ \(your own file\)"  # how an answer names images from one
SIGN = SIGNS | {MIXED: "±"}
CLASS = CLASSES | {MIXED: "mixed"}
SINGULAR = {
    HOLDS: "holds",
    MIXED: "is mixed",
    FAILS: "does not hold",
    UNDECIDED: "is not decidable here",
}
PLURAL = {
    HOLDS: "hold",
    MIXED: "are mixed",
    FAILS: "do not hold",
    UNDECIDED: "are not decidable here",
}


def number(value: float) -> str:
    """Three significant digits, whole from a thousand on.

    >>> number(-0.05179), number(12345.6), number(3.8e-8)
    ('−0.0518', '12,346', '3.8e-08')
    """
    text = f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.3g}"
    return f"−{text[1:]}" if text.startswith("-") else text


def claimed(case: dict) -> str:
    """The claimed range, e.g. "at most 0".

    >>> claimed({"at_least": 0.4, "at_most": 0.6}), claimed({"at_least": 5e-324, "at_most": None})
    ('0.4 to 0.6', 'above 0')
    """
    low, high = case["at_least"], case["at_most"]
    if low is not None and high is not None:
        return f"{number(low)} to {number(high)}"
    if low is not None:
        return "above 0" if 0 < low < sys.float_info.min else f"at least {number(low)}"
    return f"at most {number(high)}" if high is not None else "any number"


def bounds(case: dict) -> str:
    """The claimed range in symbols, e.g. "≤ 0".

    >>> bounds({"at_least": 0.4, "at_most": 0.6}), bounds({"at_least": 5e-324, "at_most": None})
    ('0.4 to 0.6', '> 0')
    """
    text = claimed(case)
    for words, sign in (("at least", "≥"), ("at most", "≤"), ("above", ">")):
        text = text.replace(words, sign)
    return text


def estimate(case: dict) -> str:
    """The estimate with its interval, e.g. "0.853 [0.819, 0.889]"."""
    text = number(case["value"])
    low, high = (-math.inf if case["low"] is None else case["low"], case["high"])
    high = math.inf if high is None else high
    if not low == case["value"] == high:
        text += f" [{number(low)}, {number(high)}]"
    return f"{text} {case['unit']}".rstrip()


def effect(case: dict) -> str:
    """What was measured, where, and its estimate, e.g. "NC1: LS/CE 0.853 [0.819, 0.889]"."""
    measured = f"{case['quantity']} {estimate(case)}"
    return ": ".join(filter(None, [case["name"], measured]))


def read(case: dict) -> tuple[str, str]:
    """An estimate with its interval, and what it is: the unit stands with the first unless it goes
    on from the second.

    >>> size = {"value": 2, "low": 1, "high": 3, "unit": "nats", "quantity": "gain of logits"}
    >>> read(size), read(size | {"quantity": "violations", "unit": "in 9 labels"})
    (('2 [1, 3] nats', 'gain of logits'), ('2 [1, 3]', 'violations in 9 labels'))
    """
    quantity, unit = case["quantity"].rstrip(":"), case["unit"]
    if unit.startswith("in "):
        return estimate(case | {"unit": ""}), f"{quantity} {unit}"
    return estimate(case), quantity


def measured(result: ClaimResult, brief: bool = False) -> str:
    """What a claim's deciding case measures and, where its answer has others, which one it is, e.g.
    "LS/CE for NC1", in brief without what the case's name has in parentheses; "" where nothing was
    measured.
    """
    if result.case is None or result.answer is None:
        return ""
    several = sum(case["deciding"] for case in result.answer["cases"]) > 1
    name = result.case["name"] if several else ""
    if brief:
        name = name.partition(" (")[0]
    return " for ".join(filter(None, [read(result.case)[1], name]))


def distance(case: dict) -> str:
    """`half_widths` in words, e.g. "5.7 half-widths on the claimed side of the bound"."""
    widths = half_widths(case)
    side = "on the claimed side of the bound" if widths >= 0 else "on the other side of the bound"
    if math.isinf(widths):
        return f"without an interval, {side}"
    return f"{abs(widths):.1f} half-widths {side}"


def place(answer: dict) -> str:
    """What an answer was tried on, image sets without their origin."""
    return _without_origin(answer["tried_on"])


def _without_origin(text: str) -> str:
    for source in SOURCES.values():
        text = text.replace(source.title, source.label)
    return text


def place_within(answer: dict) -> str:
    """The first two parts of `place` within a sentence: "on the feature model"."""
    text = ", ".join(place(answer).split(", ")[:2])
    return text[:1].lower() + text[1:] if text[1:2].islower() or text[1:2] == " " else text


def place_in_brief(answer: dict) -> str:
    """The image sets that an answer was tried on, or the first part of `place_within`."""
    labels = [SOURCES[name].label for name in image_sets(answer)]
    return ", ".join(labels) or place_within(answer).split(", ")[0]


def image_sets(answer: dict) -> list[str]:
    """The image sets that an answer was tried on, by name; none for formulas and models."""
    text, names = re.sub(OWN_FILE, "", answer["tried_on"]), []
    # the longest first: "mnist" is also a part of "mnist-subset"
    for source in sorted(SOURCES.values(), key=lambda source: -len(source.name)):
        for word in (source.title, source.name):
            if word in text:
                names.append(source.name)
                text = text.replace(word, "")
    return sorted(set(names))


def is_about_networks(answer: dict) -> bool:
    """Whether an answer was tried on trained networks, not on formulas or a model."""
    text = answer["tried_on"]
    own = re.search(OWN_FILE, text)
    return bool(own or image_sets(answer)) or "networks" in text.lower()


def differing_sizes(answer: dict) -> dict[str, str]:
    """The sizes of an answer's experiment that are not the paper's by name, e.g. "training images
    500 (paper 60,000)"; a claim of ours has no paper beside it.
    """
    if answer["paper"] == OURS:
        return {}
    parts = {}
    for size in answer["scale"]:
        if size["paper"] and size["paper"] != size["here"]:
            here = _without_origin(size["here"])
            parts[size["name"]] = f"{size['name']} {here} (paper {size['paper']})"
    return parts


def premise(texts: dict[str, str]) -> str:
    """A missed premise of several claims: its text, or that of the first where they differ.

    >>> premise({"G1": "epochs is 3", "G2": "epochs is 3"})
    'epochs is 3'
    >>> premise({"G1": "change of NC1 is 29%", "G3": "change of NC2 is 19%"})
    'change of NC1 is 29%, for G1'
    """
    name, text = next(iter(texts.items()))
    return text if set(texts.values()) == {text} else f"{text}, for {name}"


def name_of_run(profile: str, parameters: Iterable[str]) -> str:
    """A run by its profile and the parameters that were given, e.g. "quick with a=1, b=2"."""
    return " with ".join(filter(None, [profile, ", ".join(parameters)]))


def how_many(number: int, outcome: str) -> str:
    """How many claims have an outcome, e.g. "1 does not hold"."""
    return f"{number} {(SINGULAR if number == 1 else PLURAL)[outcome]}"


def counts(outcomes: Counter) -> str:
    """How many claims have each outcome, e.g. "5 hold, 1 does not hold"."""
    return ", ".join(how_many(outcomes[one], one) for one in OUTCOMES if outcomes[one])
