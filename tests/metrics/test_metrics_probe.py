"""`measure` on models as they come: layers, modes, loaders, and what it leaves behind."""

import math
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from test_metrics_collapse import dense
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from lsnc_core.errors import UsageError
from lsnc_core.metrics import (
    FORMULAS,
    CollapseHistory,
    calibration_scores,
    fit_temperature,
    measure,
    nc1_by_correctness,
    neural_collapse,
    predict,
)
from lsnc_core.metrics.calibration import SCORES

K = 4


def images(seed=0, N=120):
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(K, (N,), generator=draw)
    return TensorDataset(
        torch.randn(N, 3, 8, 8, generator=draw) + labels[:, None, None, None] / 2, labels
    )


class Small(nn.Module):
    """Convolution, batch norm, dropout, and a classifier that is not the last module defined."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(12, K)
        self.body = nn.Sequential(
            nn.Conv2d(3, 6, 3),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.5),
        )
        self.embed = nn.Linear(6, 12)
        self.calls = 0

    def features(self, x):
        return self.embed(self.body(x)).relu()

    def forward(self, x):
        self.calls += 1
        return self.head(self.features(x)).softmax(1)  # what comes after the logits does not matter


def descend(model, x, y):
    """A step of gradient descent; torch.optim would take seconds to import."""
    model.zero_grad()
    nn.functional.cross_entropy(model.head(model.features(x)), y).backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0.2 * parameter.grad


@pytest.fixture
def model():
    """Trained briefly, so that it predicts every class, and some samples wrongly."""
    model, (x, y) = Small(), images().tensors
    for _ in range(80):
        descend(model, x, y)
    assert (
        0.5 < (model.eval()(x).argmax(1) == y).double().mean() < 1
        and len(model(x).argmax(1).unique()) == K
    )
    model.train()
    model.calls = 0
    return model


def in_memory(model, data):
    """Features, logits and labels in eval mode, by hand."""
    model.eval()
    with torch.no_grad():
        x, y = data.tensors
        features = model.features(x)
        logits = model.head(features)
    model.train()
    return features, logits, y


def column(measured, part="all", split="data"):
    table = measured.table
    rows = table[(table.part == part) & (table.split == split)]
    assert rows.metric.is_unique
    return dict(zip(rows.metric, rows.value, strict=True))


def test_every_value_is_that_of_the_features_in_memory(model):
    measured = measure(model, DataLoader(images(), 17), by_class=True, progress=False)
    features, logits, y = in_memory(model, images())
    found, collapse = (
        column(measured),
        neural_collapse(features, y, model.head.weight, model.head.bias),
    )
    by_prediction = nc1_by_correctness(features, logits.argmax(1), y, K)
    expected = (
        collapse.values
        | calibration_scores(logits, y)
        | {"nc1_trace_by_prediction": by_prediction["all"]}
    )
    assert set(found) == set(expected) == set(FORMULAS) | set(SCORES) | {"nc1_trace_by_prediction"}
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)
    reference, _, _ = dense(features, y, model.head.weight.detach(), model.head.bias.detach())
    assert {name: found[name] for name in reference} == pytest.approx(reference, rel=1e-4, abs=1e-6)
    assert [column(measured, f"class {k}")["nc1_trace"] for k in range(K)] == pytest.approx(
        collapse.nc1_by_class.tolist(), rel=1e-5
    )
    for part in ("correct", "wrong"):
        assert column(measured, part) == pytest.approx(
            {"nc1_trace_by_prediction": by_prediction[part]}, rel=1e-4
        )


def test_the_table_is_tidy_and_holds_the_papers_names(model):
    table = measure(model, DataLoader(images(), 60), progress=False).table
    columns = ["split", "layer", "metric", "part", "value", "papers", "formula"]
    assert list(table.columns) == columns and set(table.layer) == {"head"}
    assert set(table.part) == {"all", "correct", "wrong"}  # classes only on request
    assert (
        not table.duplicated(["split", "layer", "metric", "part"]).any()
        and table.notna().all().all()
        and (table.formula != "").all()
    )
    names = table[table.part == "all"].set_index("metric").papers
    assert (
        names["nc3_product"] == "guo NC2, guo_code NC2"
        and names["nc3_product_W_centred_sample_mean"] == "zhou NC3"
    )


def test_the_model_is_left_as_it_was(model):
    model.train()
    model.body[1].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    measure(model, DataLoader(images(), 32, shuffle=True), progress=False)
    assert torch.equal(torch.rand(3), expected)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    with pytest.raises(UsageError):
        measure(model, DataLoader(images(), 32), layer="body", progress=False)
    with pytest.raises(RuntimeError):  # not even a model that fails in the middle
        measure(
            model,
            DataLoader(
                TensorDataset(torch.zeros(8, 5, 8, 8), torch.zeros(8, dtype=torch.int64)), 4
            ),
            progress=False,
        )
    assert [module.training for module in model.modules()] == modes and not any(
        module._forward_hooks for module in model.modules()
    )


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        lambda m: nn.Sequential(m, nn.Identity()),
        lambda m: m.to(memory_format=torch.channels_last),
    ],
)
def test_wrapped_models_measure_the_same(model, wrap):
    loader = DataLoader(images(), 40)
    expected = measure(model, loader, progress=False).table.drop(columns="layer")
    found = measure(wrap(model), loader, progress=False).table
    assert found.layer.str.endswith("head").all()
    pd.testing.assert_frame_equal(found.drop(columns="layer"), expected, rtol=1e-5, atol=1e-7)


def test_features_that_do_not_fit_are_computed_twice(model):
    shuffled = DataLoader(images(), 32, shuffle=True)
    expected = measure(model, shuffled, progress=False).table
    assert model.calls == 1 + 4  # one to find the layer
    model.calls = 0
    twice = measure(model, shuffled, keep_gib=0, progress=False).table
    assert model.calls == 1 + 2 * 4
    pd.testing.assert_frame_equal(twice, expected, rtol=1e-5, atol=1e-7)


def test_a_loader_that_drops_samples_is_refused_only_where_it_matters(model):
    dropping = DataLoader(
        images(N=100), 32, shuffle=True, drop_last=True, generator=torch.Generator().manual_seed(0)
    )
    assert math.isfinite(column(measure(model, dropping, progress=False))["nc1_trace"])
    with pytest.raises(UsageError, match=r"second pass had .* without drop_last"):
        measure(model, dropping, keep_gib=0, progress=False)


def test_train_and_test_share_the_class_means_of_the_first(model):
    train, test = images(0), images(1)
    table = measure(
        model, {"train": DataLoader(train, 40), "test": DataLoader(test, 40)}, progress=False
    )
    features, _, y = in_memory(model, train)
    centroids = neural_collapse(features, y, model.head.weight, model.head.bias).statistics
    features, _, y = in_memory(model, test)
    expected = neural_collapse(features, y, model.head.weight, model.head.bias, centroids).values
    found = column(table, split="test")
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-5, abs=1e-6)
    nearest = torch.cdist(features, centroids.means.float()).argmin(1)
    assert found["ncc_accuracy"] == pytest.approx(float((nearest == y).double().mean()))


def test_the_layer_can_be_named(model):
    loader = DataLoader(images(), 60)
    found = measure(model, loader, layer="head", progress=False)
    expected = measure(model, loader, progress=False)
    pd.testing.assert_frame_equal(found.table, expected.table)
    with pytest.raises(UsageError, match=r"'embed' gives \(60, 12\), but the model \(60, 4\)"):
        measure(model, loader, layer="embed", progress=False)


def test_autocast_is_respected(model):
    loader = DataLoader(images(), 60)
    plain = column(measure(model, loader, progress=False))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        narrow = column(measure(model, loader, progress=False))
    assert narrow["nc1_trace"] != plain["nc1_trace"] and narrow["nc1_trace"] == pytest.approx(
        plain["nc1_trace"], rel=0.05
    )
    assert narrow["nc2_W"] == pytest.approx(plain["nc2_W"], rel=1e-12)


class Two(nn.Module):
    """Takes two inputs, gives a tuple."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, K, bias=False)

    def forward(self, left, right):
        return self.fc(torch.cat([left, right], 1)), None


def test_inputs_of_several_tensors_and_more_than_labels_in_a_batch():
    torch.manual_seed(1)
    model, (left, right, y) = Two(), (torch.randn(40, 2), torch.randn(40, 4), torch.arange(40) % K)
    expected = neural_collapse(torch.cat([left, right], 1), y, model.fc.weight).values
    batches = [
        ((left[i : i + 10], right[i : i + 10]), y[i : i + 10], "names") for i in range(0, 40, 10)
    ]
    named = [
        ({"left": left[i : i + 10], "right": right[i : i + 10]}, y[i : i + 10])
        for i in range(0, 40, 10)
    ]
    for loader in (batches, named):
        found = column(measure(model, loader, progress=False))
        assert {name: found[name] for name in expected} == pytest.approx(
            expected, rel=1e-6, abs=1e-7
        )


def test_a_model_that_predicts_one_class_has_no_nc1_by_prediction():
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, K))
    with torch.no_grad():
        model[1].bias.copy_(torch.tensor([1e4, 0, 0, 0]))
    measured = measure(model, DataLoader(images(), 60), progress=False)
    assert "nc1_trace_by_prediction" not in set(measured.table.metric)
    assert math.isfinite(column(measured)["nc1_trace"])


def test_predict_feeds_a_temperature(model):
    logits, y = predict(model, DataLoader(images(), 50, shuffle=False), progress=False)
    _, expected, labels = in_memory(model, images())
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(y, labels) and model.calls == 1 + 3
    assert fit_temperature(logits, y).value > 0


def trained(record):
    """Weights after two epochs with dropout and shuffling, and the history."""
    model = Small()
    loader = DataLoader(images(), 30, shuffle=True)
    history = CollapseHistory(
        model, {"train": loader, "test": DataLoader(images(1), 30)}, progress=False
    )
    for epoch in (1, 2):
        model.train()
        for x, y in loader:
            descend(model, x, y)
        if record:
            history.record(epoch=epoch, seed=7)
            assert model.training
    return model.state_dict(), history


def test_recording_does_not_touch_the_training():
    with_it, history = trained(True)
    without, empty = trained(False)
    assert all(torch.equal(with_it[name], without[name]) for name in without)
    table = history.table()
    assert (
        list(table.columns[:3]) == ["epoch", "seed", "split"]
        and set(table.epoch) == {1, 2}
        and set(table.seed) == {7}
    )
    for _, part in table[table.part == "all"].groupby(["epoch", "split"]):
        assert set(FORMULAS) | set(SCORES) <= set(part.metric)
    assert table.groupby(["epoch", "split"]).ngroups == 4 and table.index.is_unique
    with pytest.raises(UsageError, match="nothing is recorded yet"):
        empty.table()


class Broken(Dataset):
    """One sample is NaN."""

    def __len__(self):
        return 20

    def __getitem__(self, n):
        return torch.full((192,), math.nan if n == 13 else float(n)), n % K


def with_nan(layer):
    nn.init.constant_(layer.weight[0, 0], math.nan)
    return layer


def scripted(module):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated
        return torch.jit.trace(module, torch.zeros(1, 2))


REFUSED = {
    "must be a torch nn.Module, not str": lambda m: measure("resnet", []),
    "the model has no parameters": lambda m: measure(nn.ReLU(), []),
    "the loader of 'data' is empty": lambda m: measure(m, []),
    "the loader of 'test' is empty": lambda m: measure(
        m, {"train": DataLoader(images(), 60), "test": []}, progress=False
    ),
    "there are no loaders": lambda m: measure(m, {}),
    r"the loader must give batches \(inputs, labels\), not torch.float32": lambda m: measure(
        m, DataLoader(images().tensors[0], 60), progress=False
    ),
    "no layer 'haed': did you mean 'head'. its linear layers are 'head', 'embed'": lambda m: (
        measure(m, DataLoader(images(), 60), layer="haed")
    ),
    "no layer 'nonesuch'": lambda m: measure(m, DataLoader(images(), 60), layers=["nonesuch"]),
    r"layers= takes a list of names, not str: write layers=\['body'\]": lambda m: measure(
        m, DataLoader(images(), 60), layers="body"
    ),
    r"layers= takes a list of names, not set\.": lambda m: measure(m, [], layers={"body"}),
    r"keep_gib= must be a number, not NoneType\.": lambda m: measure(m, [], keep_gib=None),
    "'head' is the classifier": lambda m: measure(
        m, DataLoader(images(), 60), layers=["head"], progress=False
    ),
    r"not W h \+ b of one layer .* with 4 outputs are none": lambda m: measure(
        nn.Sequential(nn.Conv2d(3, K, 8), nn.Flatten()), DataLoader(images(), 60), progress=False
    ),
    r"\(60, 3, 8, 4\) and the labels \(60,\)": lambda m: measure(
        nn.Linear(8, K), DataLoader(images(), 60), progress=False
    ),
    "the layer 'spare' was not called": lambda m: measure(
        nn.ModuleDict({"used": m, "spare": nn.Linear(2, 2)})["used"].append_spare(),
        DataLoader(images(), 60),
        layer="spare",
    ),
    "labels must lie in 0..3 for 4 classes, but one of them is 5": lambda m: measure(
        m,
        DataLoader(
            TensorDataset(images().tensors[0], images().tensors[1] + 5 * (torch.arange(120) == 0)),
            60,
        ),
        progress=False,
    ),
    "hold NaN or infinity": lambda m: measure(
        nn.Linear(192, K), DataLoader(Broken(), 8), progress=False
    ),
    "the model gives NaN or infinity: training has diverged": lambda m: measure(
        nn.Linear(192, K), DataLoader(Broken(), 20), progress=False
    ),
    "the layer '1' gives NaN or infinity: training has diverged": lambda m: measure(
        nn.Sequential(nn.Flatten(), with_nan(nn.Linear(192, K))),
        DataLoader(images(), 60),
        layer="1",
        progress=False,
    ),
    "the layers of a scripted model": lambda m: measure(
        scripted(nn.Linear(2, 2)), DataLoader(images(), 60)
    ),
    "lie on the device meta": lambda m: measure(
        nn.Linear(2, 2, device="meta"), DataLoader(images(), 60)
    ),
    "an exported model has no eval mode": lambda m: measure(
        torch.export.export(nn.Linear(2, 2), (torch.zeros(1, 2),)).module(), []
    ),
    "the table has a column 'split'": lambda m: CollapseHistory(m, []).record(split="test"),
    "epoch= must be one number or name, not list": lambda m: CollapseHistory(m, []).record(
        epoch=[1, 2]
    ),
}


@pytest.mark.parametrize("sentence, attempt", REFUSED.items(), ids=REFUSED)
def test_misuse_is_one_sentence(model, sentence, attempt):
    def append_spare():
        model.spare = nn.Linear(2, 2)
        return model

    model.append_spare = append_spare
    with pytest.raises(UsageError, match=sentence):
        attempt(model)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_gives_the_same(model):
    loader = DataLoader(images(), 32, shuffle=True, pin_memory=True)
    expected = measure(model, loader, progress=False).table
    for keep in (2.0, 0):
        found = measure(model.cuda(), loader, keep_gib=keep, progress=False).table
        pd.testing.assert_frame_equal(found, expected, rtol=1e-3, atol=1e-4)
    assert np.isfinite(found.value).all()
