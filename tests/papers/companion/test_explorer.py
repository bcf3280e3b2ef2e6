"""The explorer's widgets: what they offer and show, and that training starts and stops."""

import dataclasses

import numpy as np
import pytest
import torch
from elements import Elements
from helpers import a_spec

from lsnc_core import data, runs
from lsnc_core.errors import UsageError
from lsnc_core.metrics import ece, neural_collapse
from lsnc_core.papers.companion import explorer

pytestmark = pytest.mark.usefixtures("own_outputs")
WIDGET_TYPE = "application/vnd.jupyter.widget-view+json"
BASE = a_spec(a=1.0, p=1.0, widths=(9,))  # the fewest dimensions for a simplex of ten classes
# three seeds of one group, and a network each of another strength, loss, noise rate and recipe
SEEDS = [dataclasses.replace(BASE, seed=seed, order_seed=seed) for seed in range(3)]
OTHERS = [
    dataclasses.replace(BASE, p=0.82),
    dataclasses.replace(BASE, loss="focal"),
    dataclasses.replace(BASE, a=0.8),
    dataclasses.replace(BASE, weight_decay=0.01),
]


@pytest.fixture(scope="module", autouse=True)
def _plans(own_outputs):
    """Plans of a few tiny networks, all stored but one."""
    missing = dataclasses.replace(BASE, seed=9, order_seed=9)
    runs.results([*SEEDS, *OTHERS], "cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(explorer, "plan_strengths", lambda profile: [*SEEDS, missing])
        patch.setattr(explorer, "collapse_runs", lambda profile: OTHERS)
        patch.setattr(explorer, "plan_landscape", lambda profile: [*SEEDS, OTHERS[0], OTHERS[2]])
        yield


def cells(html):
    """The rows of a table of widgets, by their first cell."""
    texts = Elements(html).texts("td")
    width = len(Elements(html).texts("th"))
    rows = [texts[start : start + width] for start in range(0, len(texts), width)]
    return {row[0]: row[1:] for row in rows}


def test_networks_that_differ_in_seeds_are_one_group():
    groups = explorer.group_networks([*SEEDS, *OTHERS])
    assert [len(specs) for specs in groups.values()] == [3, 1, 1, 1, 1]
    first, smoothed, focal, noisy, other = groups
    assert (first.delta, smoothed.delta, noisy.noise) == (0.0, 0.2, 0.2)
    assert focal.loss == "focal" and other.recipe != first.recipe


def test_stored_networks_are_measured_as_the_metrics_do():
    table = explorer.measure_networks(SEEDS)
    assert list(table.epoch) == [1, 3] * 3 and set(table.seed) == {0, 1, 2}
    history = runs.results(SEEDS, "cpu")
    np.testing.assert_allclose(table["test accuracy"], history.test_accuracy)
    np.testing.assert_allclose(table["train loss"], history.train_loss)
    row = table[(table.seed == 0) & (table.epoch == 3)].iloc[0]
    arrays = runs.tensors(SEEDS[:1], "cpu")[SEEDS[0]][-1]
    logits, weight, bias = (
        torch.from_numpy(np.array(arrays[name])) for name in ("train_logits", "weight", "bias")
    )
    # the features of a full-rank classifier follow from its logits
    features = torch.linalg.lstsq(weight.double(), (logits - bias).double().T).solution.T
    images = data.load("digits").subset(BASE.train_size, BASE.test_size)
    collapse = neural_collapse(features, images.train_labels, weight).values.preset("guo")
    assert row[list(collapse)].to_dict() == pytest.approx(collapse, rel=1e-3)
    error = ece(torch.from_numpy(np.array(arrays["test_logits"])), images.test_labels)
    assert row["test ECE"] == pytest.approx(error)
    assert np.isnan(table["test ECE"].iloc[0])  # its logits are not stored


def test_the_browser_shows_the_group_and_the_epoch_that_are_chosen():
    live = explorer.StoreBrowser("smoke")
    assert len(live.groups) == 5 and live.epoch.value == 3
    table = explorer.measure_networks(SEEDS)

    def expected(rows, metric):
        return [f"{value:.4g}" for value in (rows[metric].mean(), *rows[metric].agg([min, max]))]

    last = table[table.epoch == 3]
    assert cells(live.table.value)["NC1"] == expected(last, "NC1")
    assert "mean of 3 networks" in live.table.value
    live.epoch.value = 1
    first = table[table.epoch == 1]
    assert cells(live.table.value)["test accuracy"] == expected(first, "test accuracy")
    assert cells(live.table.value)["test ECE"] == ["not stored"] * 3
    live.controls["delta"].value = 0.2
    alone = explorer.measure_networks(OTHERS[:1])
    assert live.epoch.value == 1  # kept
    shown = cells(live.table.value)["train loss"]
    assert shown[0] == f"{alone[alone.epoch == 1]['train loss'].item():.4g}"


def values_of(control):
    return [value for _, value in control.options]


def test_each_control_of_the_browser_offers_what_those_above_it_leave():
    live = explorer.StoreBrowser("smoke")
    offered = {name: values_of(control) for name, control in live.controls.items()}
    assert offered["delta"] == [0.0, 0.2] and offered["noise"] == [0.0, 0.2]
    assert offered["loss"] == ["ce", "focal"] and len(offered["recipe"]) == 2
    live.controls["recipe"].value = offered["recipe"][1]
    assert values_of(live.controls["loss"]) == ["ce"]
    live.controls["recipe"].value = offered["recipe"][0]
    live.controls["loss"].value = "focal"
    assert values_of(live.controls["delta"]) == [0.0]


def test_without_a_kernel_the_browser_leaves_a_table():
    page, widgets = explorer.StoreBrowser("smoke").bundles()
    rows = Elements(page["text/html"]).all("tr")
    assert len(rows) == 1 + 4  # a header, and all groups without label noise
    assert WIDGET_TYPE not in page and widgets[WIDGET_TYPE]["model_id"]


def test_an_empty_store_says_what_to_run(monkeypatch):
    monkeypatch.setattr(explorer, "find_stored", lambda specs: [])
    live = explorer.StoreBrowser("smoke")
    assert live.table.value == explorer.NONE_STORED in live.page
    with pytest.raises(UsageError, match=r"0\.05.*got 0\.07"):
        explorer.train_in_page(0.07)


def test_training_ends_with_what_the_package_trains():
    live = explorer.TrainNow("smoke")
    assert live.text.value == "Stored at label noise 0.00, strength 0.000 (p = 1): 3 networks."
    live.strength.value = 0.82
    live.start.click()
    live.thread.join(60)
    assert live.bar.value == BASE.epochs and "Trained for 3 epochs" in live.text.value
    assert not live.start.disabled and live.stop.disabled and not live.strength.disabled
    seed = explorer.SEED
    spec = dataclasses.replace(OTHERS[0], seed=seed, order_seed=seed)
    assert not explorer.find_stored([spec])  # it was not stored
    here = runs.results([spec], "cpu")
    for epoch, accuracy in zip(here.epoch, here.test_accuracy, strict=True):
        now, there = cells(live.table.value)[str(epoch)][1].split(" | ")
        assert now == f"{accuracy:.4g}" and there != ""


def test_the_stop_button_stops(monkeypatch):
    long = dataclasses.replace(BASE, epochs=100_000, evaluate_at=(1, 100_000))
    monkeypatch.setattr(explorer, "plan_landscape", lambda profile: [long])
    live = explorer.TrainNow("smoke")
    live.start.click()
    while live.bar.value < 2:
        assert live.thread.is_alive()
        live.thread.join(0.01)
    live.stop.click()
    live.thread.join(60)
    assert not live.thread.is_alive()
    stopped = live.bar.value
    assert 2 <= stopped < 100_000
    assert live.text.value == f"Stopped after epoch {stopped} of 100000; not stored."
    assert not live.start.disabled and "1" in cells(live.table.value)
