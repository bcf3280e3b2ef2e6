"""The live widget: what it redraws, and what it shows without a kernel."""

import json

import matplotlib
import pytest
from elements import Elements, bundle
from matplotlib.figure import Figure as Canvas

from lsnc_core import explore
from lsnc_core.errors import UsageError
from lsnc_core.report import pages

matplotlib.use("Agg")


def test_the_explorer_redraws_for_each_of_its_controls():
    live = explore.SmoothingExplorer("alpha", 10)
    seen = [(live.said.value, bytes(live.picture.value))]
    assert "p = 0.80" in live.said.value and "δ = 0.222" in live.said.value
    for control, value in ((live.p, 0.5), (live.classes, 2), (live.kind, "beta")):
        control.value = value
        seen.append((live.said.value, bytes(live.picture.value)))
    assert seen[0][0] != seen[1][0] != seen[2][0]
    assert "p = 0.50" in seen[1][0] and "δ = 1.000" in seen[2][0] and "M = 2" in seen[2][0]
    images = {image for _, image in seen}
    assert len(images) == 4 and all(image.startswith(b"\x89PNG") for image in images)


def test_the_explorer_carries_a_live_view_and_a_page_without_a_kernel(monkeypatch):
    drawn = []

    def draw_quickly(kind, M, p):
        drawn.append((kind, M, p))
        canvas = Canvas(figsize=(2, 1.5))
        canvas.subplots().plot([0, 1], [0, p])
        return canvas

    # 26 real pictures take seconds; the smoke run draws them
    monkeypatch.setattr(explore, "smoothing_figure", draw_quickly)
    live = explore.SmoothingExplorer("beta", 7)
    assert live.classes.value == 7 and 7 in live.classes.options
    live.p.value = 0.3
    drawn.clear()
    made = bundle(live)
    assert made[pages.WIDGET_TYPE]["model_id"] == live.box.model_id
    page = Elements(made["text/html"])
    frames = page.all("div", class_="lsnc-frame")
    labels = json.loads(page.all("div", class_="lsnc-frames")[0]["data-labels"])
    assert len(frames) == len(labels) == len(drawn)
    assert {(kind, M) for kind, M, _ in drawn} == {("beta", 7)}
    assert "p = 0.00" in labels[0] and "p = 1.00" in labels[-1]
    assert all("M = 7" in label for label in labels)
    visible = [number for number, frame in enumerate(frames) if "hidden" not in frame]
    assert len(visible) == 1 and "p = 0.80" in labels[visible[0]]
    assert page.all("input")[0]["aria-valuetext"] == labels[visible[0]]


@pytest.mark.parametrize("kind, M", [("delta", 10), ("alpha", 1), ("alpha", 0)])
def test_the_explorer_refuses_what_it_cannot_draw(kind, M):
    with pytest.raises(UsageError, match=repr(kind) if kind == "delta" else str(M)):
        explore.SmoothingExplorer(kind, M)
