"""Guo's calibration: the verdicts both ways on made-up tables, temperatures, ECE, right and wrong
predictions against definitions written out here, the figures.
"""

import numpy as np
import pandas as pd
import pytest
import torch
from guo_tables import made_up_history, texts_of, trained_networks
from nulls.guo import EPOCHS, SETTINGS
from scipy import stats

from lsnc_core import data
from lsnc_core.claims import FAILS, HOLDS, UNDECIDED, claims_in
from lsnc_core.papers.guo import calibration
from lsnc_core.papers.guo import guo_3_calibration as page
from lsnc_core.papers.guo.calibration import AS_RELEASED, FITS, HELD_OUT
from lsnc_core.show import cards_in


def calibration_table(T, ece, scaled, seeds=4, test_error=0.2):
    """T, ece, scaled by strength, a little apart by seed."""
    about = SETTINGS | {"epoch": 60, "loss": "ce", "test_error": test_error, "train_error": 0.0}
    about["widths"] = (8, 16, 64)
    rows = []
    for how in FITS:
        for delta in T:
            for seed in range(seeds):
                row = about | {"fit": how, "delta": delta, "seed": seed}
                row["T"] = T[delta] * (1 + 0.01 * seed)
                row["ece"] = ece[delta] + 1e-4 * seed
                row["ece_scaled"] = scaled[delta] + 1e-5 * (seed % 2) * (delta > 0)
                rows.append(row)
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    "T, outcome",
    (
        ({0: 1.5, 0.05: 1.2, 0.9: 0.5}, HOLDS),
        ({0: 1.5, 0.05: 1.6, 0.9: 0.5}, FAILS),
        ({0: 0.8, 0.05: 0.7, 0.9: 0.5}, FAILS),  # cross-entropy is not over-confident
        ({0: 0.8, 0.05: 0.9, 0.9: 1.5}, FAILS),
        ({0: 1.5, 0.05: 1.2, 0.9: 1.1}, FAILS),
        ({0: 1.5, 0.05: 1.2, 0.9: 0.99}, UNDECIDED),
        ({0: 1.5, 0.05: 1.2, 0.9: 0.0}, UNDECIDED),  # the limit T = 0 has no logarithm
    ),
)
def test_g6_asks_for_temperatures_that_fall_through_one(T, outcome):
    same = dict.fromkeys(T, 0.05)
    verdict = page.decide_g6(calibration_table(T, same, same), HELD_OUT)
    assert verdict.outcome == outcome and HELD_OUT in verdict.tried_on


@pytest.mark.parametrize(
    "smooth, scaled, outcome",
    (
        (0.01, 0.021, HOLDS),
        (0.01, 0.045, FAILS),
        (0.08, 0.021, FAILS),
        (0.01, 0.002, HOLDS),
        (0.01, 0.04, UNDECIDED),
    ),
)
def test_g7_compares_before_and_after_scaling(smooth, scaled, outcome):
    over = dict.fromkeys((0, 0.05), 1.2)
    table = calibration_table(over, {0: 0.05, 0.05: smooth}, {0: 0.02, 0.05: scaled})
    assert page.decide_g7(table, AS_RELEASED).outcome == outcome


@pytest.mark.parametrize(
    "decide, T, error, name",
    (
        (page.decide_g7, 0.9, 0.2, "optimal temperature T* of cross-entropy"),
        (page.decide_g7, 1.2, 0.03, "test error of cross-entropy"),
        # over-confidence is a part of G6, not a condition
        (page.decide_g6, 0.9, 0.03, "test error of cross-entropy"),
        (page.decide_g6, 1.2, 0.03, "test error of cross-entropy"),
    ),
)
@pytest.mark.parametrize("smooth", (0.01, 0.08))
def test_calibration_is_decided_on_hard_images_and_g7_for_overconfident_networks(
    decide, T, error, name, smooth
):
    """Either way: smoothing calibrates better or worse."""
    factor = smooth / 0.05
    temperatures = {0: T, 0.05: T * factor, 0.9: 0.5 * factor}
    eces = {0: 0.05, 0.05: smooth, 0.9: 0.05}, {0: 0.02, 0.05: 0.02, 0.9: 0.02}
    table = calibration_table(temperatures, *eces, test_error=error)
    verdict = decide(table, HELD_OUT)
    assert verdict.outcome == UNDECIDED and [premise.name for premise in verdict.unmet] == [name]
    scale = {size.name: size.paper for size in verdict.scale}
    assert scale["weight decay"] == "1e-4 in section 3.3, most likely this one"


@pytest.mark.parametrize("T", (np.inf, 10.2))  # no temperature, or the last that is tried
def test_g6_names_a_constant_network_as_the_reason(T):
    table = calibration_table(
        {0: 1.5, 0.05: 1.2, 0.9: T}, *[dict.fromkeys((0, 0.05, 0.9), 0.05)] * 2
    )
    table.loc[table.delta == 0.9, "train_error"] = 0.9
    verdict = page.decide_g6(table, HELD_OUT)
    assert verdict.outcome == UNDECIDED
    assert [premise.text for premise in verdict.unmet] == [
        "training error at the end (δ = 0.9) is 90.00%, needed at most 1.00%"
    ]
    assert "observed: as claimed at δ = 0, 0.05" in verdict.measured


@pytest.mark.parametrize(("smooth", "gains"), ((0.01, True), (0.08, False)))
def test_g7_says_where_smoothing_gains_nothing_that_scaling_could_take(smooth, gains):
    eces = {0: 0.05, 0.05: smooth}, {0: 0.02, 0.05: 0.021}
    verdict = page.decide_g7(calibration_table({0: 1.2, 0.05: 1.2}, *eces), HELD_OUT)
    assert ("LS gains nothing before scaling" in verdict.remark) != gains


def test_g7_needs_learned_images():
    eces = {0: 0.05, 0.05: 0.01}, {0: 0.02, 0.05: 0.021}
    table = calibration_table({0: 1.2, 0.05: 1.2}, *eces)
    assert page.decide_g7(table, HELD_OUT).outcome == HOLDS
    verdict = page.decide_g7(table.assign(train_error=0.02), HELD_OUT)
    assert [premise.name for premise in verdict.unmet] == ["training error at the end"] * 2


@pytest.mark.parametrize("sign, outcome", ((1, HOLDS), (-1, FAILS)))
def test_g8_follows_collapse_only_after_learning(sign, outcome):
    table = made_up_history(strengths=(0.0, 0.05))
    late = table.epoch > table.epoch.min()
    table["train_error"] = np.where(late, 0.0, 0.5)
    # the first epoch says the opposite
    rising = np.where(late, 0.1 - sign * 0.01 * np.log(table.nc1), -sign)
    table["ece"], table["loss_wrong"] = rising, 3 * rising
    assert page.decide_g8(table).outcome == outcome
    assert page.correlate_with_collapse(table, "ece") == pytest.approx([sign] * 4)
    few = page.decide_g8(table[table.epoch.isin(EPOCHS[:4])])
    reason = "number of measured epochs after a training error of 1% is 3, needed at least 4"
    assert few.outcome == UNDECIDED and few.unmet[-1].text == reason
    easy = page.decide_g8(table.assign(test_error=0.03))
    assert easy.outcome == UNDECIDED and easy.unmet[0].name == "test error of cross-entropy"
    # one seed says the opposite: mean of one half, wide
    table["ece"] = np.where(table.seed == 0, -table.ece, table.ece)
    case = page.decide_g8(table).cases[0]
    assert (case.value, case.low, case.high) == pytest.approx((sign * 0.5, -1, 1))
    assert case.text == f"rank correlation with collapse {sign * 0.5:.2f} [-1.00, 1.00]"
    assert case.outcome == UNDECIDED


def test_f4_and_f5_show_the_first_image_set_under_the_smallest_weight_decay():
    table = made_up_history(seeds=1)
    lighter = table.assign(weight_decay=0.001)
    both = pd.concat([table, lighter, lighter.assign(data="digits", weight_decay=1e-5)])
    assert page.select_section(both).equals(lighter)


def test_the_cards_name_figures_and_claims():
    assert [card.number for card in cards_in(page)] == ["F3", "F4", "F5"]
    assert [claim.id for claim in claims_in(page)] == ["G6", "G7", "G8"]


# trained networks


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    with trained_networks(tmp_path_factory.mktemp("guo-calibration")) as networks:
        yield networks


@pytest.fixture(scope="module")
def ends(trained):
    """Every second of the trained networks with its temperatures."""
    specs, history, tensors, _ = trained
    chosen = {spec: tensors[spec] for spec in specs[::2]}
    return chosen, calibration.measure_ends(history, chosen)


def ece_by_loop(p, labels, bins=20):
    confidence, right = p.max(1), p.argmax(1) == labels
    total = 0.0
    for number in range(bins):
        inside = (confidence > number / bins) & (confidence <= (number + 1) / bins)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


def softmax(z):
    q = np.exp(z.astype(float) - z.max(1, keepdims=True))
    return q / q.sum(1, keepdims=True)


def spread_by_prediction(h, guess):
    """Each sample's squared distance from the mean of its predicted class, in units of the spread
    of those means, divided by K.
    """
    means = {k: h[guess == k].mean(0) for k in set(guess)}
    centred = np.array(list(means.values())) - np.mean(list(means.values()), axis=0)
    inverse = np.linalg.pinv(centred.T @ centred / len(centred), rcond=1e-9, hermitian=True)
    off = h - np.array([means[k] for k in guess])
    return np.einsum("nd,de,ne->n", off, inverse, off) / 10


def test_right_and_wrong_predictions_are_told_apart(trained):
    specs, history, tensors, _ = trained
    spec = specs[0]
    table = calibration.measure_epochs(history, {spec: tensors[spec]})
    assert table.epoch.tolist() == list(spec.keep_at)
    assert set(table.seed) == {spec.seed} and set(table.arm) == {"CE"}
    whole = data.load(spec.data)
    labels = whole.test_labels[: spec.test_size].numpy()
    assert torch.equal(calibration.true_labels(spec)["validation"], whole.train_labels[200:300])
    for row in table.itertuples():
        arrays = tensors[spec][spec.evaluate_at.index(row.epoch)]
        p = softmax(arrays["test_logits"])
        guess = p.argmax(1)
        right = guess == labels
        assert 1 - right.mean() == pytest.approx(row.test_error)
        loss = -np.log(p[np.arange(len(p)), labels])
        losses = loss.mean(), loss[right].mean(), loss[~right].mean()
        assert (row.loss_all, row.loss_correct, row.loss_wrong) == pytest.approx(losses, rel=1e-4)
        entropy = stats.entropy(p, axis=1)
        entropies = entropy[right].mean(), entropy[~right].mean()
        assert (row.entropy_correct, row.entropy_wrong) == pytest.approx(entropies, rel=1e-4)
        assert row.ece == pytest.approx(ece_by_loop(p, labels), abs=1e-5)
        spread = spread_by_prediction(arrays["test_features"].astype(float), guess)
        parts = spread.mean(), spread[right].mean(), spread[~right].mean()
        assert (row.nc1_all, row.nc1_correct, row.nc1_wrong) == pytest.approx(parts, rel=1e-3)


def test_temperatures_say_where_they_come_from_and_scaling_is_division(ends):
    tensors, table = ends
    assert len(table) == 2 * len(tensors) and set(table.fit) == set(FITS)
    held, released = (table[table.fit == how].reset_index(drop=True) for how in FITS)
    for number, (spec, epochs) in enumerate(tensors.items()):
        labels = calibration.true_labels(spec)
        test, validation = labels["test"].numpy(), labels["validation"].numpy()
        z, T = epochs[-1]["test_logits"], held["T"][number]
        assert held.seed[number] == spec.seed and held.p[number] == spec.p
        assert held.ece[number] == pytest.approx(ece_by_loop(softmax(z), test), abs=1e-5)
        scaled = ece_by_loop(softmax(z / T), test)
        assert held.ece_scaled[number] == pytest.approx(scaled, abs=1e-5)

        def likelihood(T, z=epochs[-1]["validation_logits"], y=validation):
            return -np.log(softmax(z / T)[np.arange(len(y)), y]).mean()

        assert likelihood(T) <= min(likelihood(0.99 * T), likelihood(1.01 * T))
        # fitted on what is reported, its ECE is the least on the grid, T = 1.1 is one of the points
        assert released.ece_scaled[number] <= ece_by_loop(softmax(z / 1.1), test) + 1e-5


def test_reliability_pools_the_seeds(trained):
    specs, _, tensors, _ = trained
    table = calibration.measure_reliability(tensors)
    assert len(table) == 3 * 2 * 20
    first = table[(table.arm == "CE") & ~table.scaled]
    p = np.concatenate([softmax(tensors[spec][-1]["test_logits"]) for spec in specs[:4]])
    labels = np.tile(calibration.true_labels(specs[0])["test"].numpy(), 4)
    counts, _ = np.histogram(p.max(1), np.linspace(0, 1, 21))
    assert first.share.to_numpy() == pytest.approx(counts / len(p), abs=2 / len(p))
    assert first.share.sum() == pytest.approx(1)
    assert first.ece.iloc[0] == pytest.approx(ece_by_loop(p, labels), abs=1e-5)


def test_figures_name_their_axes(trained, ends):
    specs, history, tensors, _ = trained
    chosen = {spec: tensors[spec] for spec in specs[::4]}
    assert "ECE on test images, 20 bins" in texts_of(page.draw_f3(ends[1]))
    bins = calibration.measure_reliability(chosen)
    assert "confidence" in texts_of(page.draw_f4(bins))
    epochs = calibration.measure_epochs(history, chosen)
    assert {"nats", "ECE"} <= texts_of(page.draw_f5(epochs))


@pytest.mark.parametrize("smooth, scaled", ((0.01, 0.3), (0.3, 0.01)))
def test_captions_have_the_direction_of_the_numbers(smooth, scaled):
    """Cross-entropy has 0.1 of each number, as trained and scaled."""
    rows = []
    for delta, ece, after in ((0.0, 0.1, 0.1), (0.05, smooth, scaled)):
        row = {
            "data": "digits",
            "weight_decay": 0.1,
            "loss": "ce",
            "fit": calibration.HELD_OUT,
        }
        row |= {"delta": delta, "arm": f"δ = {delta:g}", "epoch": 2, "epochs": 2}
        rows.append(row | {"ece": ece, "ece_scaled": after, "loss_wrong": ece})
    table = pd.DataFrame(rows)
    least = ["δ = 0.05" if value < 0.1 else "δ = 0" for value in (smooth, scaled)]
    where = "digits, weight decay 0.1"
    words = f"at {least[0]} as trained and at {least[1]} after scaling ({where})."
    assert calibration.describe_best_strengths(table) == f"The mean ECE is lowest {words}"
    assert calibration.describe_wrong(table).endswith(f"the lowest loss with {least[0]}.")
    both = [table.assign(scaled=False), table.assign(scaled=True, ece=table.ece_scaled)]
    lower = int(scaled < smooth)
    assert f"of {lower} of 2 losses." in calibration.describe_scaled(pd.concat(both))
    nothing = table.assign(ece_scaled=np.nan, loss_wrong=np.nan)
    unscaled = calibration.describe_best_strengths(nothing)
    assert unscaled.endswith(f"lowest at {least[0]} as trained ({where}).")
    assert calibration.describe_wrong(nothing) == "At the end no prediction is wrong."
