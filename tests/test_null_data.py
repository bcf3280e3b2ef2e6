"""Made-up tables without a claim's effect seldom decide it; `benchmarks/null_data.py` tries more of
them, at more clean rates.
"""

import json

import null_data as study
import numpy as np
import pytest
from conftest import ROOT
from nulls import Null, chen, guo, zhou
from scipy import stats

from lsnc_core import papers
from lsnc_core.claims import FAILS, HOLDS, UNDECIDED

DRAWS = 30
FALLING = ("train_error", "nc1", "nc2", "nc3")
NORMS = ("w_norm", "h_norm")
STORED = ROOT / "outputs" / "recorded" / "benchmarks" / "null_data.json"
CLAIMS = list(dict.fromkeys(claim for claim, _ in study.NULLS))
ON_FORMULAS = {"C5", "C6", "C12", "C14", "G11", "G12", "G13", "G15", "G16", "G17"}
ON_FORMULAS |= {"Z-C6", "Z-C7", "Z-C8", "Z-C9"}


@pytest.fixture(autouse=True)
def small_grids(monkeypatch):
    monkeypatch.setattr(chen, "RATES", (0.7, 0.8))
    monkeypatch.setattr(guo, "STRENGTHS", (0.0, 0.05, 0.9))


def hardest(claim):
    """The claim's first null with the most outcomes that are false."""
    nulls = [null for (name, _), null in study.NULLS.items() if name == claim]
    return max(nulls, key=lambda null: len(null.false))


@pytest.mark.parametrize("claim", CLAIMS)
def test_null_data_seldom_decide_a_claim(claim):
    counts = study.count_outcomes(hardest(claim), DRAWS)
    assert counts[HOLDS] + counts[FAILS] + counts[UNDECIDED] == DRAWS
    # at 5 % of false decisions, one of 10,000 such tests fails
    assert counts["false"] <= stats.binom.isf(1e-4, DRAWS, 0.05)


def test_an_effect_is_seen():
    """The study could not fail where everything is open."""
    holds = study.count_outcomes(study.NULLS["C1", chen.EXACT], 10)
    assert holds[HOLDS] > 5 and holds["false"] == 0
    fails = study.count_outcomes(study.NULLS["C17", "alpha is exact"], 10)
    assert fails[FAILS] == 10 and fails["false"] == 0
    wrong = Null(chen.decide_c1, lambda g: chen.with_losses(g, lambda a: a - 0.3), (FAILS,))
    assert study.count_outcomes(wrong, 10)["false"] == 10


def draw_sooner(generator):
    """Everything falls so much sooner that no time lies within the same two measured epochs; from
    twice as high, or little would be left to fall after the first.
    """
    table = guo.draw_history(generator, effects=dict.fromkeys(FALLING, (4.0, 1.0)))
    table.loc[table.epoch == table.epoch.min(), ["nc1", "nc2", "nc3"]] *= 2
    return table


@pytest.mark.parametrize(
    ("claim", "draw"),
    [
        ("G1", draw_sooner),
        ("G2", lambda g: guo.draw_history(g, effects={"nc1": (1.0, 0.5)})),
        ("G5", lambda g: guo.draw_history(g, effects=dict.fromkeys(NORMS, (1.0, 0.5)))),
        ("G6", lambda g: guo.draw_ends(g, (1.3, 0.9, 0.5), *guo.EQUAL_ERRORS)),
        ("Z-C3", lambda g: zhou.draw_accuracies(g, zhou.CORNERS, apart=(4.0, 0.0))),
        ("Z-C4", lambda g: zhou.draw_accuracies(g, zhou.CORNERS, apart=(2.0, 0.0))),
    ],
)
def test_an_effect_of_guo_and_zhou_is_seen(claim, draw):
    """The tables can carry one."""
    null = Null(hardest(claim).decide, draw)
    assert study.count_outcomes(null, 5)[HOLDS] == 5


def test_a_premise_that_is_not_met_is_an_error():
    null = study.NULLS["C2", chen.EXACT]
    small = Null(null.decide, lambda g: null.draw(g).assign(train_size=500))
    with pytest.raises(ValueError, match="C2: premise not met: number of training images is 500"):
        study.count_outcomes(small, 1)
    rough = Null(null.decide, lambda g: null.draw(g).assign(unlearned=0.2))
    with pytest.raises(ValueError, match="C2: premise not met: excess training loss"):
        study.count_outcomes(rough, 1)


def test_chens_noise_is_as_the_study_says():
    generator = np.random.default_rng(0)
    tables = [chen.with_errors(generator, chen.flat) for _ in range(300)]
    losses = np.array([table.test_loss / table.exact for table in tables])
    assert losses.std() == pytest.approx(0.02, rel=0.05) and abs(losses.mean() - 1) < 1e-3
    errors = np.array([table.test_error for table in tables])
    assert errors.std() == pytest.approx(0.005, rel=0.05)
    # neighbours in p share half of the variance, seeds none
    shared = np.corrcoef(losses[:, 0], losses[:, 1])[0, 1]
    assert shared == pytest.approx(0.5, abs=0.15)
    assert abs(np.corrcoef(losses[:, 0], losses[:, len(chen.KEPT)])[0, 1]) < 0.2


def test_guos_and_zhous_noise_is_as_the_study_says():
    generator = np.random.default_rng(0)
    norms = np.array([np.log(ends_of(generator).w_norm) for _ in range(150)])
    assert norms.std() == pytest.approx(0.05, rel=0.1)
    assert abs(np.corrcoef(norms[:, 0], norms[:, 4])[0, 1]) < 0.2
    accuracies = []
    for _ in range(300):
        accuracies.append(zhou.draw_accuracies(generator, zhou.CORNERS).test_accuracy)
    values = np.array(accuracies)
    assert values.std() == pytest.approx(0.15, rel=0.05)
    # the losses of a seed share half of the variance, seeds none
    assert np.corrcoef(values[:, 0], values[:, 1])[0, 1] == pytest.approx(0.5, abs=0.15)
    assert abs(np.corrcoef(values[:, 0], values[:, 4])[0, 1]) < 0.2


def ends_of(generator):
    """The last rows of Guo's networks without an effect."""
    table = guo.draw_history(generator)
    return table[table.epoch == table.epochs]


def test_the_study_has_every_claim_that_networks_decide():
    decided = set()
    for entry in papers.entries():
        decided |= set(entry.claims)
    assert set(CLAIMS) == decided - ON_FORMULAS


def test_the_stored_study_has_all_nulls_and_few_false_decisions():
    stored = json.loads(STORED.read_text(encoding="utf-8"))
    rows = {(row["claim"], row["null"]): row for row in stored["rows"]}
    assert set(rows) == set(study.NULLS)
    for row in rows.values():
        assert row["draws"] == 400 and row["false"] <= row["most"] == study.most_false(400) == 29
    assert len(stored["provenance"]["commit"]) == 12  # of a tree without changes
