"""Every answer that a claim about networks can have, on made-up tables: holds, does not hold, open
for each premise by its name, open for want of seeds.
"""

import itertools

import pandas as pd
import pytest
from chen_runs import RECIPE, clean_runs, eq11, gamma_argmin, memorised, noisy_runs

from lsnc_core.claims import FAILS, HOLDS, UNDECIDED
from lsnc_core.papers.chen import (
    chen_2_landscape,
    chen_3_beta,
    chen_4_loss_and_accuracy,
    chen_5_beyond_uniform,
)
from lsnc_core.papers.chen.accuracy import accuracy_table
from lsnc_core.papers.chen.grid import landscape_table
from lsnc_core.papers.chen.memorisation import decide_c19, memorisation_table

MEMORISED = "labels memorised"
RATES = (0.5, 0.8, 0.95)
# the paper's own experiment on MNIST
PROTOCOL = {
    "data": "mnist",
    "model": "cnn",
    "size": 60_000,
    "epochs": 100,
    "lr": 0.01,
    "batch": 128,
    "weight_decay": 0.0,
}


def never(a):
    return False


def always(a):
    return True


def noise_below_half(a):
    return a < 0.5


# each decides one claim on made-up networks that behave as claimed, but for the clean rates at
# which they are `wrong`


def c1(wrong, column, **settings):
    def measured(a, p):
        return eq11(0.2 if wrong(a) else a, p)

    table = landscape_table(clean_runs(**{"rates": RATES} | settings, measured=measured))
    return chen_2_landscape.decide_c1(table, column)


def c2(wrong, column, **settings):
    def measured(a, p):
        return (1.3 if wrong(a) else 1.0) * eq11(a, p)

    table = landscape_table(clean_runs(**{"rates": RATES} | settings, measured=measured))
    return chen_2_landscape.decide_c2(table, column)


def c17(wrong, **settings):
    def measured(a, p):
        return eq11(a if wrong(a) else gamma_argmin(a, 10), p)

    rates = tuple(a - 0.05 for a in settings.pop("rates", (0.65, 0.75, 0.85)))
    table = landscape_table(clean_runs(**{"rates": rates} | settings, measured=measured))
    return chen_2_landscape.decide_c17(table)


def c18(wrong, **settings):
    def measured(a, p):
        return eq11(a - 0.2 if wrong(a) else (1 + a) / 2, p)

    # no grid tells a minimum above a = 0.95 from one below
    rates = tuple(a for a in settings.pop("rates", RATES) if a < 0.95)
    table = landscape_table(clean_runs(**{"rates": rates} | settings, measured=measured))
    return chen_2_landscape.decide_c18(table)


def c3(wrong, column, **settings):
    def network(a, p):
        return [(1.3 if wrong(a) else 1.0) * loss for loss in memorised(a, p)]

    table = chen_3_beta.beta_table(noisy_runs(**{"rates": RATES} | settings, network=network))
    return chen_3_beta.decide_c3(table, column)


def c4(wrong, column, **settings):
    table = chen_3_beta.beta_table(noisy_runs(**{"rates": RATES} | settings))
    clean, noisy = column, chen_3_beta.NOISY[column]
    swapped = table.a.map(wrong)
    table.loc[swapped, [clean, noisy]] = table.loc[swapped, [noisy, clean]].to_numpy()
    return chen_3_beta.decide_c4(table, column)


def accuracies(error, **settings):
    shared = {"rates": RATES, "noise": 1e-3}
    return accuracy_table(noisy_runs(**shared | settings, error=error))


def lowest_at(p, place):
    return 0.3 - 0.1 * (p == place)


def c7(wrong, **settings):
    table = accuracies(lambda a, p, best: lowest_at(p, 1.0 if wrong(a) else 0.2), **settings)
    return chen_4_loss_and_accuracy.decide_c7(table)


def c16(wrong, **settings):
    def error(a, p, best):
        place = (1.2 - 0.6 * a) if wrong(a) else 0.2 + 0.6 * a
        return 0.2 + 0.5 * (p - place) ** 2

    return chen_4_loss_and_accuracy.decide_c16(accuracies(error, **{"noise": 1e-5} | settings))


def c8(wrong, **settings):
    def error(a, p, best):
        return 0.3 + (0.01 if best and not wrong(a) else 0.1) * p

    return chen_4_loss_and_accuracy.decide_c8(accuracies(error, **settings))


def c9(wrong, **settings):
    def error(a, p, best):
        return 0.2 + 0.1 * p if wrong(a) else {0.2: 0.25, 1.0: 0.3}.get(p, 0.35)

    return chen_4_loss_and_accuracy.decide_c9(accuracies(error, **settings))


def c10(wrong, weak, **settings):
    def error(a, p, best):
        helps = (a > 0.9) != wrong(a)
        return 0.3 - (p == weak) * (0.05 if helps else -0.05)

    return chen_4_loss_and_accuracy.decide_c10(accuracies(error, **settings), weak)


def c19(wrong, **settings):
    def error(a, p, best):
        return lowest_at(p, 1.0 if wrong(a) == best else 0.2)

    runs = noisy_runs(**{"rates": RATES, "noise": 1e-3} | settings, error=error)
    return decide_c19(memorisation_table(runs))


ON_HELD_OUT = {
    "C1": lambda wrong, **settings: c1(wrong, "test_loss", **settings),
    "C2": lambda wrong, **settings: c2(wrong, "test_loss", **settings),
    "C3": lambda wrong, **settings: c3(wrong, "test_beta", **settings),
    "C4": lambda wrong, **settings: c4(wrong, "test_loss", **settings),
    "C7": c7,
    "C8": c8,
    "C9": c9,
    "C10, 0.95": lambda wrong, **settings: c10(wrong, 0.95, **settings),
    "C10, 0.9": lambda wrong, **settings: c10(wrong, 0.9, **settings),
    "C16": c16,
    "C17": c17,
}
ON_TRAINING = {
    "C1": lambda wrong, **settings: c1(wrong, "clean_train_loss", **settings),
    "C2": lambda wrong, **settings: c2(wrong, "clean_train_loss", **settings),
    "C3": lambda wrong, **settings: c3(wrong, "train_beta", **settings),
    "C4": lambda wrong, **settings: c4(wrong, "clean_train_loss", **settings),
    "C18": c18,  # on held-out images; how many there are to train on is no premise of it
}
BOTH = [*ON_HELD_OUT.items(), *ON_TRAINING.items()]


def names(verdict):
    """The premises that leave a verdict open."""
    return {premise.name for premise in verdict.unmet}


@pytest.mark.parametrize("claim, decide", [*BOTH, ("C19", c19)])
def test_a_claim_holds_and_does_not_hold(claim, decide):
    holds, fails = decide(never), decide(always)
    assert (holds.outcome, fails.outcome) == (HOLDS, FAILS)
    assert holds.claim.id == claim.split(",")[0] and not holds.unmet and not fails.unmet
    for verdict in (holds, fails):
        assert all(premise["met"] for premise in verdict.to_dict()["premises"])
        scale = {row["name"]: (row["here"], row["paper"]) for row in verdict.to_dict()["scale"]}
        assert scale["training images"] == ("20,000", "60,000") and scale["seeds"] == ("4", "")
        assert scale["steps"] == (f"{9 * 313:,}", "46,900") and scale["epochs"] == ("9", "100")


@pytest.mark.parametrize("claim, decide", BOTH)
def test_labels_that_are_not_memorised_leave_a_claim_open(claim, decide):
    for wrong, against in ((never, False), (always, True)):
        verdict = decide(wrong, unlearned=0.12)
        assert verdict.outcome == UNDECIDED and names(verdict) == {MEMORISED}
        assert "12.0%" in verdict.measured and "needed at most 10.0%" in verdict.measured
        _, observed = verdict.measured.split("\nobserved: ")
        assert ("not as claimed" in observed) == against


@pytest.mark.parametrize("claim, decide", BOTH)
def test_one_clean_rate_without_memorised_labels_leaves_open_what_others_do_not_decide(
    claim, decide
):
    rate = 0.6 if claim == "C17" else 0.5
    verdict = decide(never, unlearned={rate: 0.12})
    if claim == "C7":  # most clean rates are enough
        assert verdict.outcome == HOLDS
        return
    assert verdict.outcome == UNDECIDED and names(verdict) == {MEMORISED}
    (unmet,) = verdict.unmet
    one_case_for_all = claim in ("C8", "C16", "C17")
    assert unmet.where == ("" if one_case_for_all else f"a = {rate}")
    if not one_case_for_all:
        assert decide(lambda a: a == rate, unlearned={rate: 0.12}).outcome == UNDECIDED
        assert decide(always, unlearned={rate: 0.12}).outcome == FAILS


@pytest.mark.parametrize("claim, decide", BOTH)
def test_few_training_images_leave_held_out_claims_open(claim, decide):
    held_out = ON_HELD_OUT.get(claim) is decide
    for wrong, decided in ((never, HOLDS), (always, FAILS)):
        verdict = decide(wrong, size=9_999)
        assert verdict.outcome == (UNDECIDED if held_out else decided)
        assert names(verdict) == ({"number of training images"} if held_out else set())
        if held_out:
            words = "number of training images is 9,999, needed at least 10,000\nobserved: "
            assert verdict.measured.startswith(f"premise not met: {words}")
            premises = {premise["name"]: premise for premise in verdict.to_dict()["premises"]}
            assert premises["lowest clean rate a that decides"]["met"]
            premise = premises["number of training images"]
            assert (premise["met"], premise["value"]) == (False, 9_999)
            assert premise["needed"] == "at least 10,000"
        assert decide(wrong, size=10_000).outcome == decided


@pytest.mark.parametrize("claim, decide", [*BOTH, ("C19", c19)])
def test_few_seeds_leave_a_claim_open(claim, decide):
    verdict = decide(never, seeds=3)
    assert verdict.outcome == UNDECIDED
    assert names(verdict) == ({"number of seeds"} if claim == "C3" else set())
    assert ("needed at least 4" if claim == "C3" else "4 seeds") in verdict.measured


@pytest.mark.parametrize("claim, decide", BOTH)
def test_the_papers_own_protocol_is_decided_whatever_it_memorises(claim, decide):
    held_out = ON_HELD_OUT.get(claim) is decide
    for wrong, decided in ((never, HOLDS), (always, FAILS)):
        verdict = decide(wrong, unlearned=0.5, **PROTOCOL)
        assert verdict.outcome == (decided if held_out else UNDECIDED)
    for other in (
        {"lr": 0.05},
        {"batch": 64},
        {"weight_decay": 5e-4},
        {"size": 59_999},
        {"epochs": 50},
        {"model": "mlp"},
    ):
        verdict = decide(never, unlearned=0.5, **PROTOCOL | other)
        assert verdict.outcome == UNDECIDED and names(verdict) == {MEMORISED}
    subset = decide(never, unlearned=0.5, **PROTOCOL | {"data": "mnist-subset"})
    assert subset.outcome == UNDECIDED


@pytest.mark.parametrize("claim, decide", BOTH)
def test_clean_rates_below_a_half_do_not_vote(claim, decide):
    rates = (0.35, 0.65, 0.75, 0.85) if claim == "C17" else (0.3, *RATES)
    verdict = decide(noise_below_half, rates=rates)
    assert verdict.outcome == HOLDS
    for case in verdict.cases:
        assert case.deciding <= (case.name != "a = 0.3")


def test_c19_needs_networks_that_fit_so_many_labels():
    verdict = c19(never, fitted=0.89)
    assert verdict.outcome == UNDECIDED
    assert names(verdict) == {"share of networks that fit so many labels"}
    # as for every claim, clean rates below one half have no vote
    runs = noisy_runs(rates=(0.3, *RATES), noise=1e-3, error=lambda a, p, best: lowest_at(p, 0.2))
    runs.loc[runs.a == 0.3, "train_accuracy"] *= 0.5
    table = memorisation_table(runs)
    assert table.test_error[(table.a == 0.3) & (table.fitted == 0.9)].isna().all()
    assert decide_c19(table).outcome == HOLDS
    assert c19(never, unlearned=0.5).outcome == HOLDS  # whatever the last epoch memorises


def test_c10_has_no_vote_at_its_boundary():
    def error(a, p, best):
        return 0.3 - (p == 0.95) * {0.5: -0.05, 0.9: -0.05, 0.95: 0.05}[a]

    verdict = chen_4_loss_and_accuracy.decide_c10(accuracies(error, rates=(0.5, 0.9, 0.95)), 0.95)
    assert verdict.outcome == HOLDS
    deciding = {case.name: case.deciding for case in verdict.cases}
    assert deciding == {"a = 0.5": True, "a = 0.9": False, "a = 0.95": True}
    # both ways: it does not save a claim either
    verdict = chen_4_loss_and_accuracy.decide_c10(accuracies(error, rates=(0.9,)), 0.95)
    assert verdict.outcome == UNDECIDED


@pytest.mark.parametrize(
    "rates, lacking", [((0.5, 0.8), "above"), ((0.95, 1.0), "below"), ((0.3, 0.95), "below")]
)
def test_c10_does_not_hold_by_one_half_of_it(rates, lacking):
    """It says where weak smoothing helps and where it costs; below one half nothing votes."""
    verdict = c10(never, 0.95, rates=rates)
    assert verdict.outcome == UNDECIDED
    (premise,) = verdict.unmet
    assert (
        premise.text == f"number of clean rates {lacking} 0.9 with 4 seeds is 0, needed at least 1"
    )
    assert "observed: as claimed" in verdict.measured
    # the half that is tried can refute it
    assert c10(always, 0.95, rates=rates).outcome == FAILS


def test_what_decides_a_claim_is_told_by_what_it_is_about():
    """A finer grid moves the place of a minimum; a loss or a gain at a given p needs seeds."""
    finer = "more seeds, or a finer grid of p"
    for claim, decide in BOTH:
        verdict = decide(never)
        assert (verdict.decider == finer) == (claim in {"C1", "C4", "C7", "C16", "C17", "C18"})
        assert verdict.decider in (finer, "more seeds")


@pytest.mark.parametrize("claim", ["C1", "C2", "C3", "C4"])
def test_on_training_images_a_verdict_says_what_it_is_worth(claim):
    words = "on training images the prediction follows by construction"
    assert ON_TRAINING[claim](never).by_construction.startswith(words)


@pytest.mark.parametrize("decide", [*ON_HELD_OUT.values(), c18, c19])
def test_no_answer_on_held_out_images_follows_from_its_premises(decide):
    assert decide(never).by_construction == ""


# networks under any noise

LOSSES = {  # on clean labels, by noise and way
    "symmetric": {"none": 2.0, "mean field": 1.0, "forward": 2.0, "logit": 1.9},
    "pair": {"none": 2.0, "mean field": 1.2, "posterior": 1.0, "forward": 2.0},
}


def noise_table(
    losses=LOSSES, corrected=None, seeds=4, unlearned=0.02, rates=(0.6, 0.8), size=20_000
):
    """A table of `network_table`; `corrected` is the loss of the other output, by way."""
    corrected, rows = {"forward": 1.0, "logit": 1.9} | (corrected or {}), []
    for noise, ways in losses.items():
        for (way, loss), a, seed in itertools.product(ways.items(), rates, range(seeds)):
            row = RECIPE | {"data": "mnist-subset", "train_size": size, "epochs": 9}
            row |= {"noise": noise, "way": way, "a": a, "p": a, "seed": seed}
            factor = 1 + 0.01 * seed * (way in ("forward", "posterior", "logit"))
            row |= dict.fromkeys(("test_loss", "clean_train_loss"), loss * factor)
            other = corrected.get(way, float("nan")) * factor
            row |= dict.fromkeys(("corrected_test", "corrected_train"), other)
            rows.append(row | {"unlearned": unlearned, "memorised": unlearned <= 0.1})
    return pd.DataFrame(rows).assign(test_accuracy=0.7)


def c11(wrong, column, **settings):
    table = noise_table(corrected={"forward": 1.3} if wrong else None, **settings)
    return chen_5_beyond_uniform.decide_c11(table, column)


def c13(wrong, column, **settings):
    worse = LOSSES | {"pair": LOSSES["pair"] | {"posterior": 1.5}}
    return chen_5_beyond_uniform.decide_c13(
        noise_table(worse if wrong else LOSSES, **settings), column
    )


def c15(wrong, **settings):
    table = noise_table(corrected={"logit": 1.9 if wrong else 1.0}, **settings)
    return chen_5_beyond_uniform.decide_c15(table)


ANY_NOISE = [("C15", c15)]
for column in ("test_loss", "clean_train_loss"):
    ANY_NOISE += [
        ("C11", lambda wrong, column=column, **settings: c11(wrong, column, **settings)),
        ("C13", lambda wrong, column=column, **settings: c13(wrong, column, **settings)),
    ]


@pytest.mark.parametrize("claim, decide", ANY_NOISE)
def test_claims_under_any_noise_have_every_outcome(claim, decide):
    for wrong, decided in ((False, HOLDS), (True, FAILS)):
        verdict = decide(wrong)
        assert (verdict.claim.id, verdict.outcome) == (claim, decided)
        scale = {row["name"]: row["here"] for row in verdict.to_dict()["scale"]}
        assert scale["training images"] == "20,000" and scale["seeds"] == "4"
        verdict = decide(wrong, unlearned=0.12)
        assert verdict.outcome == UNDECIDED and names(verdict) == {MEMORISED}
        (premise,) = (one for one in verdict.to_dict()["premises"] if not one["met"])
        assert premise["value"] == 0.12
        _, observed = verdict.measured.split("\nobserved: ")
        assert ("not as claimed" in observed) == wrong
    few = decide(False, seeds=3)
    assert few.outcome == UNDECIDED and not few.unmet and "4 seeds" in few.measured


@pytest.mark.parametrize("decide", [c11, c13])
def test_few_training_images_leave_c11_and_c13_open_on_held_out_images(decide):
    for wrong, decided in ((False, HOLDS), (True, FAILS)):
        verdict = decide(wrong, "test_loss", size=9_999)
        assert verdict.outcome == UNDECIDED and names(verdict) == {"number of training images"}
        assert decide(wrong, "clean_train_loss", size=9_999).outcome == decided


def test_c13_needs_noise_that_is_not_symmetric():
    alone = noise_table({"symmetric": LOSSES["symmetric"]})
    verdict = chen_5_beyond_uniform.decide_c13(alone, "test_loss")
    assert verdict.outcome == UNDECIDED
    assert names(verdict) == {"number of noises tried that are not symmetric"}


def test_c15_needs_a_gain_of_label_smoothing():
    nothing = LOSSES | {"symmetric": LOSSES["symmetric"] | {"mean field": 2.1}}
    verdict = chen_5_beyond_uniform.decide_c15(noise_table(nothing, corrected={"logit": 1.0}))
    assert verdict.outcome == UNDECIDED
    assert names(verdict) == {"lower end of the gain of label smoothing"}
