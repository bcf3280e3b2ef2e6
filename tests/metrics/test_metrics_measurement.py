"""What `measure` returns: views of its table, remarks, intervals, and comparisons of two models."""

import math

import pytest
import torch
from torch import nn

from lsnc_core.errors import UsageError
from lsnc_core.metrics import CollapseHistory, compare, measure
from lsnc_core.metrics.intervals import Samples, compare_intervals, metric_intervals

D, K = 8, 4
DRAW = torch.Generator().manual_seed(0)
MEANS = 2 * torch.randn(K, D, generator=DRAW)


def draw(N):
    """Batches of 50 samples with class means of their own."""
    y = torch.arange(N) % K
    x = MEANS[y] + torch.randn(N, D, generator=DRAW)
    return list(zip(x.split(50), y.split(50), strict=True))


TRAIN, TEST = draw(200), draw(120)


def network(seed=0, width=6):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(D, width), nn.ReLU(), nn.Linear(width, K))


def metric_values(measured, split):
    rows = measured.table[(measured.table.part == "all") & (measured.table.split == split)]
    return dict(zip(rows.metric, rows.value, strict=True))


def outputs(model, batches, centroids=None):
    """Features, logits and labels of all batches."""
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    with torch.no_grad():
        h = model[:2](x)
        z = model[2](h)
    return Samples(h, z, y, model[2].weight, model[2].bias, centroids)


def test_the_summary_holds_a_papers_names_and_the_remarks():
    measured = measure(network(), {"train": TRAIN, "test": TEST})
    summary = measured.summary()
    assert list(summary.columns) == ["NC1", "NC2", "NC3", "accuracy", "ECE"]
    assert list(summary.index) == [("train", "2"), ("test", "2")]
    train = summary.loc[("train", "2")]
    zhou, code = (
        view.loc[("train", "2")] for view in (measured.summary("zhou"), measured.preset("guo_code"))
    )
    shown = [train.NC1, train.ECE, zhou.NC2, code.NC2H]
    names = ["nc1_trace_over_K", "ece_15", "nc2_W_centred", "nc2_means"]
    found = metric_values(measured, "train")
    assert shown == [found[name] for name in names]
    assert "train" in str(measured) and "NC1" in repr(measured) and not measured.remarks
    with pytest.raises(UsageError, match="choose from guo, guo_code, zhou"):
        measured.summary("papyan")


def test_few_samples_per_class_are_remarked_on():
    torch.manual_seed(0)
    wide = nn.Sequential(nn.Linear(D, 600), nn.ReLU(), nn.Linear(600, K))
    measured = measure(wide, TRAIN)
    assert "a class has 50 samples for 600 features at '2'" in str(measured)
    assert math.isfinite(metric_values(measured, "data")["nc1_trace"])


def test_intervals_are_those_of_the_features_in_memory():
    model = network()
    measured = measure(model, {"train": TRAIN, "test": TEST}, layers=["0"], intervals=True)
    table = measured.table[(measured.table.part == "all") & (measured.table.layer == "2")]
    expected = metric_intervals(outputs(model, TRAIN))
    for row in table[table.split == "train"].itertuples():
        interval = expected[row.metric]
        assert row.remark == interval.remark
        for shown, wanted in ((row.low, interval.low), (row.high, interval.high)):
            wanted = math.nan if wanted is None else wanted
            assert shown == pytest.approx(wanted, rel=1e-4, abs=1e-6, nan_ok=True)
    hidden = measured.table[measured.table.layer == "0"].set_index(["split", "metric"])
    low, value, high = hidden.loc[("train", "nc1_trace"), ["low", "value", "high"]]
    assert 0 < low < high and low < 1.2 * value and math.isfinite(high)
    assert "[" in str(measured)
    plain = measure(model, {"train": TRAIN, "test": TEST}, layers=["0"])
    shared = list(plain.table.columns)
    assert plain.table.equals(measured.table[shared]) and not plain.samples


def test_two_models_are_compared_on_the_same_samples():
    one, other = network(0), network(1, width=7)
    a, b = (measure(model, {"test": TEST}, intervals=True) for model in (one, other))
    table = compare(a, b).loc["test"]
    expected = compare_intervals(outputs(one, TEST), outputs(other, TEST))
    for name, interval in expected.items():
        row = table.loc[name]
        difference = pytest.approx(interval.value, rel=1e-4, abs=1e-6, nan_ok=True)
        assert row.b - row.a == difference
        if interval.low is not None:
            assert (row.low, row.high) == pytest.approx(
                (interval.low, interval.high), rel=1e-3, abs=1e-5
            )
    same = compare(a, a).loc["test"]
    assert same.estimate.dropna().eq(0).all() and same.low.accuracy <= 0 <= same.high.accuracy


def test_what_cannot_be_compared_is_refused():
    model = network()
    a, b = (measure(model, {"test": part}, intervals=True) for part in (TEST, TEST[::-1]))
    with pytest.raises(UsageError, match="measure with intervals=True"):
        compare(a, measure(model, {"test": TEST}))
    with pytest.raises(UsageError, match="of the splits test and train"):
        compare(a, measure(model, {"train": TEST}, intervals=True))
    with pytest.raises(UsageError, match="same"):
        compare(a, b)
    with pytest.raises(UsageError, match="intervals need the features of 'data' in memory"):
        measure(model, TRAIN, intervals=True, keep_gib=0)


def test_a_history_takes_the_options_of_measure():
    history = CollapseHistory(network(), TRAIN, layers=["0"], progress=False)
    history.record(epoch=1)
    assert set(history.table().layer) == {"0", "2"}
