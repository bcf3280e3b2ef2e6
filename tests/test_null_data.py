"""Made-up tables without a claim's effect seldom decide it; `benchmarks/null_data.py` tries more of
them, at more clean rates.
"""

import importlib
import json
import sys

import numpy as np
import pytest
from conftest import ROOT
from scipy import stats

from lsnc_core.claims import FAILS, HOLDS, UNDECIDED, claims_in
from lsnc_core.papers import beyond, chen

sys.path.insert(0, str(ROOT / "benchmarks"))
study = importlib.import_module("null_data")

DRAWS = 60
STORED = ROOT / "outputs" / "recorded" / "benchmarks" / "null_data.json"
# of each claim the first null whose effect lies on the bound, where either decision is false
ON_BOUND = {}
for (claim, name), null in study.NULLS.items():
    if set(null.false) == {HOLDS, FAILS}:
        ON_BOUND.setdefault(claim, name)


@pytest.fixture
def few_rates(monkeypatch):
    monkeypatch.setattr(study, "RATES", (0.7, 0.8))


@pytest.mark.parametrize("claim", ON_BOUND)
def test_null_data_seldom_decide_a_claim(claim, few_rates):
    counts = study.count_outcomes(study.NULLS[claim, ON_BOUND[claim]], DRAWS)
    assert counts[HOLDS] + counts[FAILS] + counts[UNDECIDED] == DRAWS
    # at 5 % of false decisions, one of 10,000 such tests fails
    assert counts["false"] <= stats.binom.isf(1e-4, DRAWS, 0.05)


def test_an_effect_is_seen(few_rates):
    """The study could not fail where everything is open."""
    holds = study.count_outcomes(study.NULLS["C1", study.EXACT], 10)
    assert holds[HOLDS] > 5 and holds["false"] == 0
    fails = study.count_outcomes(study.NULLS["C17", "alpha is exact"], 10)
    assert fails[FAILS] == 10 and fails["false"] == 0
    wrong = study.Null(study.decide_c1, lambda g: study.with_losses(g, lambda a: a - 0.3), (FAILS,))
    assert study.count_outcomes(wrong, 10)["false"] == 10


def test_a_premise_that_is_not_met_is_an_error(few_rates):
    null = study.NULLS["C2", study.EXACT]
    small = study.Null(null.decide, lambda g: null.draw(g).assign(train_size=500))
    with pytest.raises(ValueError, match="C2: premise not met: training images 500"):
        study.count_outcomes(small, 1)
    rough = study.Null(null.decide, lambda g: null.draw(g).assign(unlearned=0.2))
    with pytest.raises(ValueError, match="C2: premise not met: labels memorised"):
        study.count_outcomes(rough, 1)


def test_the_noise_is_as_the_study_says():
    generator = np.random.default_rng(0)
    tables = [study.with_errors(generator, study.flat) for _ in range(300)]
    losses = np.array([table.test_loss / table.exact for table in tables])
    assert losses.std() == pytest.approx(0.02, rel=0.05) and abs(losses.mean() - 1) < 1e-3
    errors = np.array([table.test_error for table in tables])
    assert errors.std() == pytest.approx(0.005, rel=0.05)
    # neighbours in p share half of the variance, seeds none
    shared = np.corrcoef(losses[:, 0], losses[:, 1])[0, 1]
    assert shared == pytest.approx(0.5, abs=0.15)
    assert abs(np.corrcoef(losses[:, 0], losses[:, len(study.KEPT)])[0, 1]) < 0.2


def test_the_study_has_every_claim_that_chens_networks_decide():
    decided = set()
    for paper in (chen, beyond):
        for name in paper.PAPER.pages:
            page = importlib.import_module(f"{paper.__name__}.{name}")
            decided |= {claim.id for claim in claims_in(page)}
    on_formulas = {"C5", "C6", "C12", "C14"}
    assert {claim for claim, _ in study.NULLS} >= decided - on_formulas


def test_the_stored_study_has_all_nulls_and_few_false_decisions():
    stored = json.loads(STORED.read_text(encoding="utf-8"))
    rows = {(row["claim"], row["null"]): row for row in stored["rows"]}
    assert set(rows) == set(study.NULLS)
    for row in rows.values():
        assert row["draws"] == 400 and row["false"] <= row["most"] == study.most_false(400) == 29
    assert len(stored["provenance"]["commit"]) == 12  # of a tree without changes
