"""The strengths' explorer: its tables against the networks' rows and logits, one by one."""

import itertools

import numpy as np
import pandas as pd
import pytest
from guo_tables import made_up_history, trained_networks
from scipy import stats

from lsnc_core import data
from lsnc_core.papers.guo import explore_strength as explore
from lsnc_core.papers.guo.measured import strength

BINS = 20  # of the paper's figures


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """The smoke networks of cross-entropy's loss: specs, history, tensors, what is explored."""
    with trained_networks(tmp_path_factory.mktemp("strengths")) as (specs, history, tensors, _):
        specs = [spec for spec in specs if spec.loss == "ce"]
        explored = explore.measure_strengths(history, specs, "cpu")
        yield specs, history, tensors, explored


def by_hand(logits):
    """Confidence and predicted class of logits, float64 (N, K), as numpy has them."""
    shares = np.exp(logits - logits.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    return shares.max(1), shares.argmax(1)


def binned(confidence, hit):
    """(confidence, accuracy, share) of the bins with images, and ECE, by a loop over bins."""
    rows, error = [], 0.0
    for number in range(BINS):
        low, high = number / BINS, (number + 1) / BINS
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            row = confidence[inside].mean(), hit[inside].mean(), inside.mean()
            error += row[2] * abs(row[0] - row[1])
            rows.append(row)
    return rows, error


@pytest.mark.parametrize(("first", "top"), [(0.3, 0.315), (0.9, 0.4), (0.1, 0.21)])
def test_early_epochs_are_shown_as_far_as_they_leave_room_for_the_rest(first, top):
    rows = pd.DataFrame({"epoch": range(1, 9), "mean": [first] + [0.2] * 7, "high": np.nan})
    ends = explore._height(rows, "test_error")["scale"].domain
    assert ends == pytest.approx([0, top])


def test_calibration_is_that_of_the_logits(networks):
    specs, _, tensors, (measured, bins) = networks
    measured, labels = measured[measured.loss == "ce"], {}
    for spec in specs:
        _, test = data.truth(spec.data, spec.train_size + spec.validation_size, spec.test_size)
        labels[spec] = test.numpy()
    kept = 0
    for spec in specs:
        rows = measured[(measured.delta == strength(spec)) & (measured.seed == spec.seed)]
        for epoch, arrays in zip(spec.evaluate_at, tensors[spec], strict=True):
            (value,) = rows.ece[rows.epoch == epoch]
            if "test_logits" not in arrays:
                assert np.isnan(value)
                continue
            confidence, guess = by_hand(arrays["test_logits"].astype(float))
            _, error = binned(confidence, guess == labels[spec])
            assert value == pytest.approx(error, abs=1e-9)
            kept += 1
    assert kept == sum(len(set(spec.keep_at) | {spec.epochs}) for spec in specs)
    for (delta, epoch), part in bins.groupby(["delta", "kept"]):
        confidences, hits = [], []
        for spec in specs:
            if strength(spec) == delta:
                arrays = tensors[spec][spec.evaluate_at.index(epoch)]
                confidence, guess = by_hand(arrays["test_logits"].astype(float))
                confidences.append(confidence)
                hits.append(guess == labels[spec])
        rows, _ = binned(np.concatenate(confidences), np.concatenate(hits))
        found = part[["confidence", "accuracy", "share"]].to_numpy()
        assert found == pytest.approx(np.array(rows), abs=1e-9)


def test_the_history_stays_as_it_was(networks):
    _, history, _, (measured, _) = networks
    assert list(measured.columns) == [*history.columns, "ece"] and len(measured) == len(history)


def test_the_spans_of_kept_epochs_meet_and_are_nearest():
    draws = np.random.default_rng(0)
    for _ in range(50):
        measured = sorted(draws.choice(400, 12, replace=False) + 1)
        kept = sorted(draws.choice(measured, 4, replace=False))
        spans = explore.nearest_spans(measured, kept)
        for epoch in measured:
            (own,) = [one for one, (first, last) in spans.items() if first <= epoch <= last]
            ratios = [max(epoch / one, one / epoch) for one in kept]
            assert max(epoch / own, own / epoch) == pytest.approx(min(ratios))


def test_means_and_intervals_are_over_seeds():
    history = made_up_history(strengths=(0.0, 0.05, 0.5)).assign(ece=0.1)
    history["w_norm"] = 1 + history.seed + history.delta
    table = explore.tabulate_means(history)
    lists = [table[column].unique().tolist() for column in ("delta", "epoch", "quantity")]
    assert lists[0] == [0.0, 0.05, 0.5] and lists[2] == list(explore.QUANTITIES)
    keys = table[["delta", "epoch", "quantity"]].itertuples(index=False, name=None)
    assert list(keys) == list(itertools.product(*lists))
    for row in table.itertuples():
        own = history[(history.delta == row.delta) & (history.epoch == row.epoch)]
        values = own[row.quantity].to_numpy()
        values = np.log(values) if row.quantity == "nc1" else values
        half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
        ends = np.array([values.mean(), values.mean() - half, values.mean() + half])
        ends = np.exp(ends) if row.quantity == "nc1" else ends
        assert [row.mean, row.low, row.high] == pytest.approx(ends)


def test_each_image_set_has_an_explorer(networks):
    _, _, _, (measured, bins) = networks
    others = bins.assign(weight_decay=0.1, accuracy=0.123)
    both = explore.Explored(
        pd.concat([measured, measured.assign(weight_decay=0.1)]), pd.concat([bins, others])
    )
    shown = explore.explore(both, "name", across="epoch")
    assert [one.name for one in shown] == ["name", "name-2"]
    texts = [str(one.data["spec"]) for one in shown]
    assert "0.123" not in texts[0] and "0.123" in texts[1]
