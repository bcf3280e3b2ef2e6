"""The figures of a user's own model, and the images it is trained on."""

import itertools
import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from lsnc_core.errors import UsageError
from lsnc_core.metrics import reliability
from lsnc_core.papers.companion import measure_your_model as page


def test_the_images_are_the_profiles_unless_others_are_named():
    images, epochs = page.load_images("smoke")
    assert (images.name, epochs) == ("digits", 4)
    images, epochs = page.load_images("quick", "digits", 2)
    assert (images.name, epochs) == ("digits", 2)
    with pytest.raises(UsageError, match="no image set 'digit'"):
        page.load_images("smoke", "digit")
    for epochs, words in ((-1, "at least 1"), (2.0, "a whole number"), (None, "a whole number")):
        with pytest.raises(UsageError, match=f"epochs must be {words}"):
            page.load_images("smoke", "digits", epochs)
    for delta in (math.inf, -0.1, 1.5, "0.1", None):
        with pytest.raises(UsageError, match="The smoothing strength delta"):
            page.load_images("smoke", "digits", 1, delta)


def make_history():
    rows = []
    groups = itertools.product(("CE", "LS"), ("train", "test"), [*page.METRICS, "cdnv"], (1, 2, 3))
    for number, (loss, split, metric, epoch) in enumerate(groups):
        row = {"loss": loss, "split": split, "metric": metric, "epoch": epoch, "value": number + 1}
        rows += [row | {"part": "all"}, row | {"part": "correct", "value": -1}]
    return pd.DataFrame(rows)


def test_collapse_has_a_line_for_each_loss_and_split():
    table = make_history()
    figure = page.draw_collapse(table, "Some images", 0.1)
    assert plt.get_fignums() == []
    assert figure.data["ours"].endswith(". Some images, one seed; CE against LS with δ = 0.1.")
    assert figure.data["ours"].startswith(
        "NC1 of the training images goes from 1 to 3 under CE and from 31 to 33 under LS. "
    )
    assert set(figure.table.metric) == set(page.METRICS) and set(figure.table.part) == {"all"}
    panels = figure.drawing.axes
    assert [panel.get_title() for panel in panels] == list(page.METRICS.values())
    for panel, metric in zip(panels, page.METRICS, strict=True):
        lines = {line.get_label(): line.get_ydata() for line in panel.lines}
        assert list(lines) == ["CE, train", "CE, test", "LS, train", "LS, test"]
        rows = table[(table.metric == metric) & (table.loss == "LS") & (table.split == "test")]
        np.testing.assert_array_equal(lines["LS, test"], rows[rows.part == "all"].value)


def test_reliability_has_a_diagram_for_each_network():
    logits = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
    diagram = reliability(logits, torch.arange(300) % 4, bins=20)
    scores = pd.DataFrame({"loss": ["CE", "LS"], "ece_20": [0.1, 0.2]})
    figure = page.draw_reliability({"CE: 0.1": diagram, "LS: 0.2": diagram}, scores)
    assert plt.get_fignums() == [] and figure.table is scores
    top, other, below, _ = figure.drawing.axes
    assert (top.get_title(), other.get_title()) == ("CE: 0.1", "LS: 0.2")
    assert len(top.patches) == len(below.patches) == 20
    shares = [bar.get_height() for bar in below.patches]
    assert sum(shares) == pytest.approx(100)


def test_the_caption_tells_on_which_side_of_the_accuracy_the_confidence_lies():
    """Three of four right: at confidences of .9 too sure, at .6 too little."""
    labels = torch.tensor([0, 0, 0, 1])
    diagrams = {}
    for name, confidence in (("CE: x", 0.9), ("LS: y", 0.6)):
        logits = torch.tensor([confidence, 1 - confidence]).log().repeat(4, 1)
        diagrams[name] = reliability(logits, labels, bins=20)
    assert page.describe_confidence(diagrams) == (
        "Beside the accuracy, the mean confidence lies 15.0 points above under CE and 15.0 points "
        "below under LS."
    )
