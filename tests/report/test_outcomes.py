"""One outcome per claim, and the case that decides it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import CASES, MISSED, an_answer

from lsnc_core.claims import FAILS, HOLDS, UNDECIDED, Case, Premise, decide
from lsnc_core.report import answers, outcomes
from lsnc_core.report.outcomes import MIXED, by_claim, deciding_case, half_widths


def result(*given, recorded=()):
    (only,) = by_claim(given, {"C1": "a name"}, recorded)
    return only


# outcomes


@pytest.mark.parametrize(
    ("given", "outcome", "share", "tally"),
    [
        ([HOLDS], HOLDS, "", "1 answer: 1 holds"),
        ([HOLDS, HOLDS], HOLDS, "both answers", "2 answers: 2 hold"),
        ([UNDECIDED, HOLDS, HOLDS], HOLDS, "2 of 3 answers", "3 answers: 2 hold, 1 open"),
        ([FAILS, FAILS], FAILS, "both answers", "2 answers: 2 do not hold"),
        ([UNDECIDED, FAILS], FAILS, "1 of 2 answers", "2 answers: 1 does not hold, 1 open"),
        ([HOLDS, FAILS], MIXED, "1 of 2 answers hold", "2 answers: 1 holds, 1 does not hold"),
        (
            [FAILS, UNDECIDED, HOLDS],
            MIXED,
            "1 of 3 answers hold",
            "3 answers: 1 holds, 1 does not hold, 1 open",
        ),
        ([UNDECIDED, UNDECIDED], UNDECIDED, "both answers", "2 answers: 2 open"),
    ],
)
def test_a_claim_has_one_outcome(given, outcome, share, tally):
    claim = result(*(an_answer(each) for each in given))
    assert (claim.outcome, claim.share, claim.tally) == (outcome, share, tally)


def test_answers_for_which_nothing_was_measured_and_recorded_ones_do_not_count():
    recorded = an_answer(FAILS) | {"recorded": "recorded elsewhere"}
    claim = result(an_answer(HOLDS), an_answer(tried_on="cifar10"), recorded=[recorded])
    assert (claim.outcome, claim.tally) == (HOLDS, "1 answer: 1 holds")
    nothing = result(an_answer(tried_on="cifar10"), recorded=[recorded])
    assert (nothing.outcome, nothing.answer, nothing.case) == (UNDECIDED, None, None)
    assert nothing.tally == "nothing was measured in this profile"
    assert nothing.to_dict()["decided_by"] is None


def test_missed_premises_are_listed_by_how_much_they_leave_open():
    other = Premise("epochs", 3, at_least=10)
    given = [
        an_answer(HOLDS, name="C1", premises=[other]),
        an_answer(HOLDS, name="C1", premises=[MISSED], tried_on="mnist"),
        an_answer(HOLDS, name="C2", premises=[MISSED]),
        an_answer(HOLDS, name="C3", premises=[MISSED]) | {"outcome": HOLDS},
        an_answer(UNDECIDED, name="C4"),
    ]
    missed = outcomes.missed_premises(by_claim(given, {}))
    assert list(missed) == ["number of training images", "epochs"]
    assert [list(texts) for texts in missed.values()] == [["C1", "C2"], ["C1"]]


def test_answers_that_follow_from_their_premises_do_not_count():
    follows = {"by_construction": "on training images it must"}
    held_out, training = an_answer(FAILS), an_answer(HOLDS, **follows)
    assert training["measured"].endswith("\non training images it must")
    claim = result(training, held_out, training | {"tried_on": "mnist"})
    assert (claim.outcome, claim.answer) == (FAILS, held_out)
    assert claim.tally == "1 answer: 1 does not hold; 2 more by construction"
    assert [answer["counted"] for answer in claim.to_dict()["answers"]] == [False, True, False]
    alone = result(training)
    assert (alone.outcome, alone.case) == (UNDECIDED, None)
    assert alone.tally == "nothing was measured that could fail; 1 more by construction"


def test_claims_are_counted_by_paper_and_not_their_answers():
    given = [
        an_answer(HOLDS, name="C1"),
        an_answer(HOLDS, name="C1", tried_on="mnist"),
        an_answer(FAILS, name="C2"),
        an_answer(FAILS, name="D1", paper="Another paper"),
    ]
    counts = outcomes.count(by_claim(given, {}))
    assert counts == {"A paper": {HOLDS: 1, FAILS: 1}, "Another paper": {FAILS: 1}}


def test_a_claim_as_data_names_its_answers_and_the_deciding_case():
    given = [an_answer(HOLDS), an_answer(FAILS, notebook="two"), an_answer(tried_on="mnist")]
    data = result(*given).to_dict()
    assert [data[name] for name in ("id", "paper", "name", "outcome", "rule")] == [
        "C1",
        "A paper",
        "a name",
        MIXED,
        "2 answers: 1 holds, 1 does not hold",
    ]
    assert [(answer["notebook"], answer["counted"]) for answer in data["answers"]] == [
        ("one", True),
        ("two", True),
        ("one", False),
    ]
    decided = data["decided_by"]
    assert (decided["case"], decided["value"], decided["half_widths"]) == ("a = 0.6", 3, -2)
    assert decided["premise_missed"] is False


# the deciding case


def names(*cases, **settings):
    return deciding_case(an_answer(*cases, **settings))["name"]


def near(name, value, **settings):
    """A case claimed at most 2, with a half-width of 1/2."""
    return Case(name, "error", value, value - 0.5, value + 0.5, at_most=2, **settings)


def test_the_case_nearest_to_failing_decides_that_every_case_holds():
    assert names(near("far", 0), near("near", 1.4), near("detail", 9, deciding=False)) == "near"


def test_a_failing_case_decides_that_not_every_case_holds():
    worse, missed = near("worse", 5), near("missed", 8, premises=(MISSED,))
    assert names(near("good", 0), near("bad", 3), worse, missed) == "worse"


def test_an_open_answer_turns_on_a_case_that_does_not_hold():
    assert names(near("good", 0), near("open", 1.9)) == "open"
    # a premise of the whole answer leaves it open whatever its cases say
    assert names(near("good", 0), near("bad", 5), premises=[MISSED]) == "bad"
    assert names(near("good", 0), near("better", -1), premises=[MISSED]) == "good"


@pytest.mark.parametrize(
    ("values", "outcome", "decides"),
    [
        ((0, 1, 5), HOLDS, "1"),
        ((0, 5, 6), FAILS, "5"),
        ((0, 1, 5, 6), FAILS, "5"),
        ((0, 1, 1.4, 6), HOLDS, "1.4"),
    ],
)
def test_the_case_that_makes_most_more_than_half_decides(values, outcome, decides):
    # exact numbers are not compared together, so that no level changes
    cases = [
        Case(str(value), "error", value, value - 0.5, value + 0.5, at_most=2, level=None)
        for value in values
    ]
    answer = an_answer(*cases, rule="most")
    assert answer["outcome"] == outcome
    assert deciding_case(answer)["name"] == decides


def test_a_decided_answer_farthest_from_holding_decides_a_claim():
    nearly = an_answer(near("nearly", 1.4), tried_on="mnist")
    claim = result(an_answer(near("far", 0)), nearly, an_answer(near("open", 2.2)))
    assert (claim.outcome, claim.case["name"]) == (HOLDS, "nearly")
    assert claim.answer["tried_on"] == "mnist"


# half-widths


@given(
    value=st.floats(-10, 10),
    down=st.floats(0, 5),
    up=st.floats(0, 5),
    at_least=st.none() | st.floats(-10, 10),
    width=st.none() | st.floats(0, 10),
)
def test_half_widths_beyond_one_are_decided(value, down, up, at_least, width):
    """`decide` is the independent account of which intervals are decided."""
    low, high = value - down, value + up
    at_most = None if width is None else (at_least or 0) + width
    distance = half_widths(
        {"value": value, "low": low, "high": high, "at_least": at_least, "at_most": at_most}
    )
    bounds = [-math.inf if at_least is None else at_least, math.inf if at_most is None else at_most]
    if abs(abs(distance) - 1) < 1e-6 or min(abs(value - bound) for bound in bounds) < 1e-9:
        return  # rounding decides
    expected = decide(low, high, *bounds)
    assert (distance > 1) == (expected == HOLDS)
    assert (distance < -1) == (expected == FAILS)


def test_half_widths_of_numbers_without_an_interval_or_a_value():
    exact = Case.exact("", "error", 1, at_most=2).to_dict()
    assert half_widths(exact) == math.inf
    assert half_widths(exact | {"at_most": 0.5}) == -math.inf
    assert half_widths(exact | {"at_most": 1}) == math.inf  # on the bound, which is allowed
    assert math.isnan(half_widths(Case("", "error", undecided="2 seeds").to_dict()))
    # an end at infinity is None in JSON; infinitely wide on the side of the bound
    assert half_widths(CASES[HOLDS].to_dict() | {"high": None}) == 0


# premises


def test_a_missed_premise_of_one_case_is_not_one_of_the_others():
    bad = near("bad", 5, premises=(MISSED,))
    answer = an_answer(near("open", 1.9), bad)
    by_name = {case["name"]: case for case in answer["cases"]}
    assert outcomes.misses_premise(answer, by_name["bad"])
    assert not outcomes.misses_premise(answer, by_name["open"])
    whole = an_answer(near("good", 0), premises=[MISSED])
    assert outcomes.misses_premise(whole, whole["cases"][0])
    (premise,) = outcomes.unmet_premises(whole)
    assert premise["name"] == "number of training images"
    assert outcomes.unmet_premises(an_answer(HOLDS)) == []


def test_answers_in_order_keep_those_on_one_claim_together():
    given = [
        an_answer(HOLDS, name="C10"),
        an_answer(HOLDS, name="C2"),
        an_answer(HOLDS, name="C10", tried_on="mnist"),
    ]
    claims = by_claim(answers.in_order(given), {})
    assert [(claim.id, len(claim.answers)) for claim in claims] == [("C2", 1), ("C10", 2)]
    assert claims[0].name == "it holds"  # without a name the sentence stands in
