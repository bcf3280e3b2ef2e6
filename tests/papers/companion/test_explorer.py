"""The explorer: live widgets that redraw, and a page for readers without a kernel."""

import doctest
import json

import matplotlib.pyplot as plt
import numpy as np
import pytest
from elements import Elements, bundle
from matplotlib.figure import Figure

from lsnc_core.errors import UsageError
from lsnc_core.papers.companion import explorer
from lsnc_core.theory import label_noise


def test_doctests():
    assert doctest.testmod(explorer).failed == 0


def test_the_explorer_redraws_for_each_of_its_controls():
    live = explorer.SmoothingExplorer("alpha", 10)
    states = [(live.strength.value, bytes(live.picture.value))]
    assert "p = 0.80" in live.strength.value and "δ = 0.222" in live.strength.value
    for control, value in ((live.p, 0.5), (live.classes, 2), (live.kind, "beta")):
        control.value = value
        states.append((live.strength.value, bytes(live.picture.value)))
    texts, pictures = zip(*states, strict=True)
    assert texts[0] != texts[1] != texts[2]
    assert "p = 0.50" in texts[1] and "δ = 1.000" in texts[2] and "M = 2" in texts[2]
    assert len(set(pictures)) == 4
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)


def test_the_explorer_carries_a_live_view_and_a_page_for_readers_without_a_kernel(monkeypatch):
    drawn = []

    def draw_quickly(kind, M, p):
        drawn.append((kind, M, p))
        figure = Figure(figsize=(2, 1.5))
        figure.subplots().plot([0, 1], [0, p])
        return figure

    # 21 real pictures take seconds; the smoke run draws them
    monkeypatch.setattr(explorer, "draw_smoothing", draw_quickly)
    live = explorer.SmoothingExplorer("beta", 7)
    assert live.classes.value == 7 and 7 in live.classes.options
    live.p.value = 0.3
    drawn.clear()
    made = bundle(live)
    assert made["application/vnd.jupyter.widget-view+json"]["model_id"] == live.box.model_id
    page = Elements(made["text/html"])
    frames = page.all("div", class_="lsnc-frame")
    labels = json.loads(page.all("div", class_="lsnc-frames")[0]["data-labels"])
    assert len(frames) == len(labels) == len(drawn) == explorer.STEPS
    assert {(kind, M) for kind, M, _ in drawn} == {("beta", 7)}
    assert "p = 0.00" in labels[0] and "p = 1.00" in labels[-1]
    assert all("M = 7" in label for label in labels)
    visible = [number for number, frame in enumerate(frames) if "hidden" not in frame]
    assert visible == [explorer.START] and "p = 0.80" in labels[explorer.START]
    assert page.all("input")[0]["aria-valuetext"] == labels[explorer.START]


@pytest.mark.parametrize("kind, M", [("delta", 10), ("alpha", 1), ("alpha", 0)])
def test_the_explorer_refuses_what_it_cannot_draw(kind, M):
    with pytest.raises(UsageError, match=repr(kind) if kind == "delta" else str(M)):
        explorer.SmoothingExplorer(kind, M)


def test_the_picture_shows_the_loss_at_the_chosen_p():
    figure = explorer.draw_smoothing("alpha", 3, 0.4)
    assert plt.get_fignums() == []
    left, right, _ = figure.axes
    (chosen,) = [line for line in left.lines if line.get_label() == "chosen p"]
    assert set(chosen.get_ydata()) == {0.4}
    at_p, best = right.lines
    a = at_p.get_xdata()
    np.testing.assert_allclose(at_p.get_ydata(), label_noise.loss("alpha", a, 0.4, 3))
    assert (best.get_ydata() <= at_p.get_ydata() + 1e-12).all()
