"""Premises and what cases share: an answer with an unmet premise is open and says so, and Holm's
levels are those of a direct computation.
"""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsnc_core import claims
from lsnc_core.claims import FAILS, HOLDS, UNDECIDED, Case, Claim, Premise, Scale, Verdict
from lsnc_core.show.tables import verdicts_html

CLAIM = Claim("X0", "paper", "place", "sentence", "expected")
FEW = Premise("training images", 500, at_least=10_000, form=",.0f")
MANY = Premise("training images", 10_000, at_least=10_000, form=",.0f")


def case(name, value, **more):
    return Case.exact(name, "error", value, at_most=1, **more)


@pytest.mark.parametrize(
    "value, limits, met",
    [
        (1.0, {"at_least": 1}, True),
        (0.99, {"at_least": 1}, False),
        (1.0, {"at_most": 1}, True),
        (1.01, {"at_most": 1}, False),
        (0.5, {"at_least": 0, "at_most": 1}, True),
        (math.nan, {"at_least": 0}, False),
        (math.inf, {"at_least": 0}, True),
    ],
)
def test_a_premise_is_met_within_its_range(value, limits, met):
    premise = Premise("x", np.float64(value), **limits)
    assert premise.met is met
    data = json.loads(json.dumps(premise.to_dict(), allow_nan=False))
    assert data["met"] is met and data["needed"] == premise.needed


def test_a_premise_says_what_was_measured_and_needed():
    one = Premise("T*", 0.86, at_least=1, at_most=2, form=".2f", where="δ = 0", unit="nats")
    assert one.text == "T* (δ = 0) is 0.86 nats, needed at least 1.00 nats and at most 2.00 nats"
    assert Premise("T*", math.nan, at_least=1).text == "T* is not measured, needed at least 1"


@pytest.mark.parametrize("value, end", [(0.1 + 0.2, 0.3), (1_000_000.1, 1_000_000.2)])
def test_a_number_without_a_precision_is_written_out_beside_its_bound(value, end):
    premise = Premise("x", value, at_least=end, form="g", unit="nats")
    assert premise.text == f"x is {value!r} nats, needed at least {end:g} nats"


@pytest.mark.parametrize("value, direction", [(0, "as claimed"), (2, "not as claimed")])
def test_an_unmet_premise_leaves_the_answer_open_and_tells_the_direction(value, direction):
    verdict = Verdict(CLAIM, "here", [case("a", value)], decider="a GPU", premises=[FEW])
    assert verdict.outcome == UNDECIDED and verdict.unmet == [FEW]
    assert verdict.measured == (
        "premise not met: training images is 500, needed at least 10,000\n"
        f"observed: {direction} (error {value})"
    )
    met = Verdict(CLAIM, "here", [case("a", value)], premises=[MANY])
    assert met.outcome == (HOLDS if value == 0 else FAILS) and met.unmet == []


def test_a_premise_of_one_case_leaves_that_case_open():
    loose = case("b", 2, premises=(FEW,))
    assert (loose.outcome, loose.observed) == (UNDECIDED, FAILS)
    verdict = Verdict(CLAIM, "here", [case("a", 0), loose])
    assert verdict.outcome == UNDECIDED and verdict.unmet == [FEW]
    # a case that fails under its premises decides, and the open one has no part in it
    failing = Verdict(CLAIM, "here", [case("a", 2, premises=(MANY,)), loose])
    assert failing.outcome == FAILS and failing.unmet == []
    assert [one["met"] for one in failing.to_dict()["premises"]] == [True]
    # a detail's premise does not matter
    detail = case("b", 2, premises=(FEW,), deciding=False)
    assert Verdict(CLAIM, "here", [case("a", 0), detail]).outcome == HOLDS


def test_of_several_unmet_premises_of_a_name_the_worst_is_told():
    cases = [
        case(f"a = {share}", 0, premises=(Premise("fitted", share, at_least=0.9, where="there"),))
        for share in (0.8, 0.5, 0.95)
    ]
    verdict = Verdict(CLAIM, "here", cases)
    assert verdict.measured.startswith(
        "premise not met: fitted (there) is 0.5, needed at least 0.9"
    )
    assert "(missed at 1 more place)" in verdict.measured
    (premise,) = verdict.to_dict()["premises"]
    assert premise["value"] == 0.5 and not premise["met"]


def test_nothing_is_said_to_be_observed_where_nothing_was_measured():
    empty = Case("a = 0.5", "x", premises=(FEW,))
    verdict = Verdict(CLAIM, "here", [empty, Case("a = 0.9", "x", premises=(FEW,))])
    assert "observed" not in verdict.measured
    partly = Verdict(CLAIM, "here", [empty, case("a = 0.8", 0), case("a = 0.9", 0)], premises=[FEW])
    assert partly.measured.endswith("observed: as claimed at a = 0.8, 0.9")


def test_what_no_more_data_in_reach_would_decide_is_said():
    """Four seeds of standard error 1: 25 times as many reach .2 of the quantile, 3.18, of their
    interval's half length.
    """
    near, far = seeds(0.6, 1.0), seeds(0.7, 1.0)
    assert (near.outcome, far.outcome) == (UNDECIDED, UNDECIDED)
    assert near.at_bound and not far.at_bound and seeds(0.0, 1.0).at_bound
    assert not seeds(-9.0, 1.0).at_bound and not case("a", 0).at_bound
    words = "so near the bound of the claim that 25 times the data would not"
    assert words in Verdict(CLAIM, "here", [near], decider="more seeds").measured
    assert words not in Verdict(CLAIM, "here", [far], decider="more seeds").measured
    assert words not in Verdict(CLAIM, "here", [near]).measured  # nothing is said to decide it
    # an interval without an end is not one that more data shorten
    endless = Case.measured("a", "x", lambda level: (0.1, -math.inf, math.inf), at_most=0.0)
    assert not endless.at_bound


def test_the_scale_stands_once_where_rows_share_it():
    scale = [Scale("seeds", "4", "1"), Scale("steps", "2,000")]
    rows = [Verdict(CLAIM, place, [case("a", 0)], scale=scale) for place in ("here", "there")]
    text = verdicts_html([row.to_dict() for row in rows])
    assert text.count("Size here: seeds 4 (paper 1), steps 2,000.") == 1
    rows.append(Verdict(CLAIM, "far", [case("a", 0)], scale=[scale[0], Scale("steps", "9")]))
    text = verdicts_html([row.to_dict() for row in rows])
    assert "<caption>" in text and text.count("Size here: seeds 4 (paper 1).") == 1
    assert [text.count(f"Size here: steps {steps}.") for steps in ("2,000", "9")] == [1, 1]
    assert text.count("premise") == 0
    text = verdicts_html([Verdict(CLAIM, "here", [case("a", 0)], premises=[FEW]).to_dict()])
    assert "<li>premise ✗ training images is 500, needed at least 10,000</li>" in text


# cases of one claim


def seeds(mean, error):
    """A case over four seeds with this mean and standard error, claimed to be at most 0."""
    values = mean + error * np.array([-1.5, -0.5, 0.5, 1.5]) / np.sqrt(5 / 12)
    return claims.seed_case("a", "x", values, at_most=0.0)


def p_value(mean, error):
    """Of the two-sided t-test of the mean against 0."""
    from scipy import stats

    return 2 * stats.t.sf(abs(mean) / error, 3)


EFFECTS = st.lists(st.floats(-8, 12), min_size=1, max_size=6)


@settings(deadline=None, max_examples=60)
@given(means=EFFECTS)
def test_failures_are_holms(means):
    """The step-down procedure by p-values: the k-th smallest of m against .05/(m - k + 1)."""
    cases = claims.decide_together([seeds(mean, 1.0) for mean in means], "every")
    order = sorted(range(len(means)), key=lambda number: p_value(means[number], 1.0))
    # a case on the claimed side cannot fail, whatever its p-value
    failing, left = set(), len(means)
    for number in [number for number in order if means[number] > 0]:
        if p_value(means[number], 1.0) > 0.05 / left:
            break
        failing.add(number)
        left -= 1
    assert {number for number, one in enumerate(cases) if one.outcome == FAILS} == failing
    for number, one in enumerate(cases):
        alone = seeds(means[number], 1.0).outcome
        # whatever holds does so at 95 %, and a failure that the others take away is open
        assert (one.outcome == HOLDS) == (alone == HOLDS)
        if alone == FAILS and number not in failing:
            assert one.outcome == UNDECIDED and one.level > claims.LEVEL


def test_of_most_cases_holding_is_shared_too():
    barely = seeds(-3.3, 1.0)  # p = .046
    assert barely.outcome == HOLDS
    shared = claims.decide_together([barely, seeds(0.1, 1.0)], "most")
    assert [one.outcome for one in shared] == [UNDECIDED, UNDECIDED]
    assert claims.decide_together([barely, seeds(0.1, 1.0)], "every")[0].outcome == HOLDS


def test_computed_and_excluded_cases_take_no_share():
    barely = seeds(3.3, 1.0)
    others = [case("b", 0), Case("c", "x", undecided="none")]
    excluded = claims.seed_case("d", "x", [3.0, 3.1, 2.9, 3.2], at_most=0.0, premises=(FEW,))
    detail = claims.seed_case("e", "x", [3.0, 3.1, 2.9, 3.2], at_most=0.0, deciding=False)
    together = claims.decide_together([barely, *others, excluded, detail], "every")
    assert together[0].outcome == FAILS and together[0].level == claims.LEVEL
    assert together[1:] == (*others, excluded, detail)


def test_readers_see_minus_signs_and_stored_texts_keep_theirs():
    premise = Premise("gap", -0.94, at_least=-0.5)
    case = Case("here", "change", -1.0, -2.0, 0.5, at_most=0, remark="from -3 to 1e-06")
    row = Verdict(Claim("X", "", "", "", ""), "digits", [case], premises=[premise]).to_dict()
    assert row["cases"][0]["text"] == "change -1 [-2, 0.5]; from -3 to 1e-06"
    shown = verdicts_html([row])
    assert "gap is −0.94, needed at least −0.5" in shown
    assert "change −1 [−2, 0.5]; from −3 to 1e-06" in shown and "-0.94" not in shown
