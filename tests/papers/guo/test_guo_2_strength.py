"""Guo's norms and collapse against the strength: every verdict both ways on made-up tables, F6."""

import itertools

import numpy as np
import pytest
from guo_tables import made_up_history, texts_of
from nulls.guo import halve
from scipy import stats

from lsnc_core.claims import FAILS, HOLDS, UNDECIDED, claims_in
from lsnc_core.papers.guo import guo_2_strength as page
from lsnc_core.papers.guo.drawing import STRENGTH
from lsnc_core.papers.guo.measured import last_epochs
from lsnc_core.show import cards_in

VERDICTS = {"G5": page.decide_g5, "G14": page.decide_g14, "G18": page.decide_g18}


def decide(claim, history, change=0.0):
    """A claim's verdict where the ends change by a part when the schedule is halved."""
    return VERDICTS[claim](history, halve(history, change))


@pytest.mark.parametrize("claim", ("G5", "G18"))
@pytest.mark.parametrize("better", (1.0, -1.0, 0.0))
def test_verdicts_follow_the_direction(claim, better):
    falls = {1.0: HOLDS, -1.0: FAILS, 0.0: UNDECIDED}  # where norms and NC3 fall with smoothing
    expected = falls[better if claim == "G5" else -better]
    assert decide(claim, made_up_history(better)).outcome == expected
    moving = decide(claim, made_up_history(better), change=0.2)
    assert moving.outcome == UNDECIDED
    assert {premise.name for premise in moving.unmet} == {"training ended"}


@pytest.mark.parametrize("claim", VERDICTS)
def test_too_few_seeds_decide_nothing(claim):
    assert decide(claim, made_up_history(seeds=3)).outcome == UNDECIDED


def test_g5_leaves_open_only_the_steps_whose_norms_move():
    history = made_up_history()
    halved = halve(history)
    halved.loc[halved.delta == 0.9, "w_norm"] *= 1.2
    verdict = page.decide_g5(history, halved)
    unsettled = [case.name for case in verdict.cases if case.outcome == UNDECIDED]
    assert verdict.outcome == UNDECIDED and unsettled == ["W, δ 0.5→0.9"]


@pytest.mark.parametrize("claim", ("G5", "G14"))
def test_a_constant_network_is_named_as_the_reason(claim):
    """At the largest strength: all norms and NC1 gone, all images taken for one class."""
    history = made_up_history()
    constant = history.delta == 0.9
    history.loc[constant, ["w_norm", "h_norm"]] = 0.0
    history.loc[constant, "nc1"], history.loc[constant, "train_error"] = np.nan, 0.9
    verdict = decide(claim, history)
    assert verdict.outcome == UNDECIDED
    reason = "training error at the end (δ = 0.9) is 90.00%, needed at most 1.00%"
    assert verdict.measured.startswith(f"premise not met: {reason}")
    if claim == "G5":
        assert [case.name for case in verdict.cases if case.outcome == UNDECIDED] == [
            "W, δ 0.5→0.9",
            "H, δ 0.5→0.9",
        ]


@pytest.mark.parametrize("best, outcome", ((0.1, HOLDS), (0.5, HOLDS), (0.0, FAILS), (0.9, FAILS)))
def test_g14_asks_for_a_lowest_nc1_inside(best, outcome):
    table = made_up_history()
    table["nc1"] = 0.1 + (table.delta - best) ** 2 + 1e-5 * table.seed * table.delta
    verdict = decide("G14", table)
    assert verdict.outcome == outcome and f"NC1 fitted lowest at δ = {best:.1f}" in verdict.remark
    first, last = verdict.cases
    inside = min((0.05, 0.1, 0.5), key=lambda delta: abs(delta - best))
    assert first.value == pytest.approx((0.1 + (inside - best) ** 2) / (0.1 + best**2), rel=1e-3)
    assert last.quantity == f"NC1 at {inside:g} / NC1 at 0.9:"
    # Student's interval at 5 % shared out over the three strengths that could be the best
    ends = last_epochs(table).pivot(index="seed", columns="delta", values="nc1")
    logs = np.log(ends[inside] / ends[0.0])
    found = stats.ttest_1samp(logs, 0).confidence_interval(1 - 0.05 / 3)
    at_95 = first.at_level(0.95)
    assert (at_95.low, at_95.high) == pytest.approx((np.exp(found.low), np.exp(found.high)))
    assert decide("G14", table, change=0.2).outcome == UNDECIDED


def test_g18_needs_learned_images():
    verdict = decide("G18", made_up_history(-1.0).assign(train_error=0.02))
    assert [premise.name for premise in verdict.unmet] == ["training error at the end"] * 2


def test_every_verdict_tells_its_scale():
    for claim in VERDICTS:
        assert {size.name for size in decide(claim, made_up_history()).scale} >= {"steps", "seeds"}


def test_the_figure_names_its_axes():
    assert STRENGTH in texts_of(page.draw_f6(made_up_history()))


def test_f6_shows_every_strength_whatever_its_seeds():
    history = made_up_history(seeds=8, strengths=(0.0, 0.05, 0.5))
    uneven = history[(history.delta < 0.5) | (history.seed < 4)]
    drawing = page.draw_f6(uneven).drawing
    drawn = list(itertools.chain.from_iterable(panel.containers for panel in drawing.axes))
    assert drawn and all(list(bars.lines[0].get_xdata()) == [0.0, 0.05, 0.5] for bars in drawn)
    # those of four seeds as if there were no others
    few = page.draw_f6(history[history.seed < 4]).drawing
    for panel, other in zip(drawing.axes, few.axes, strict=True):
        for bars, others in zip(panel.containers, other.containers, strict=True):
            assert bars.lines[0].get_ydata()[2] == pytest.approx(others.lines[0].get_ydata()[2])
            ends, few_ends = (one.lines[2][0].get_segments()[2] for one in (bars, others))
            np.testing.assert_allclose(ends, few_ends)


def test_the_cards_name_figures_and_claims():
    assert [card.number for card in cards_in(page)] == ["F6"]
    assert [claim.id for claim in claims_in(page)] == ["G5", "G14", "G18"]
