"""The map of notebooks, made from the cards, and the two sketches."""

import types

import numpy as np
import pytest
import torch
from conftest import ROOT

from lsnc_core import cli, metrics, papers, profiles
from lsnc_core.errors import UsageError
from lsnc_core.papers.companion import start_here
from lsnc_core.papers.page import Page, Paper
from lsnc_core.papers.zhou import zhou_1_losses_collapse
from lsnc_core.report import catalog
from lsnc_core.theory import ufm

PAPER = Paper("A paper", "A. et al. 2020", 1, ("one", "two"))


def make_entry(name, page, **functions):
    return papers.Entry(name, PAPER, types.SimpleNamespace(PAGE=page, **functions), page)


@pytest.fixture
def few_entries(monkeypatch):
    """Two notebooks: one that trains three networks, one of them twice, and one that does not."""

    def plan_runs(profile, data_set=""):
        return [f"{profile} {number}" for number in (1, 2, 2, 3)]

    trains = make_entry("one", Page("First", "5.1", "x", {"quick": 2.5}), plan_runs=plan_runs)
    computes = make_entry("two", Page("Second <2>", minutes={"quick": 1.0}))
    monkeypatch.setattr(papers, "entries", lambda: [trains, computes])
    return [trains, computes]


def test_the_map_is_made_from_the_cards(few_entries):
    made = start_here.draw_map("smoke")
    reason = profiles.resolve("smoke")[1]
    assert made.header[-2:] == [f"networks (smoke: {reason})", "minutes (quick)"]
    one, two = made.rows
    assert (one[0].text, one[0].address) == ("one", "one.ipynb")
    assert one[1:] == ["First", "A. et al. 2020, 5.1", "x", "3", "2.5"]
    assert two[1:] == ["Second <2>", "A. et al. 2020", "", "0", "1"]
    html = made._repr_mimebundle_()["text/html"]
    assert '<a href="two.ipynb">two</a>' in html and "Second &lt;2&gt;" in html


def test_the_map_lists_every_notebook_as_its_card_has_it():
    made = start_here.draw_map("smoke")
    entries = papers.entries()
    links = [row[0].address for row in made.rows]
    assert sorted(links) == sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
    for row, entry in zip(made.rows, entries, strict=True):
        link, title, place, shows, count, minutes = row
        assert link.text == entry.name and title == entry.page.title and shows == entry.shows
        assert place.startswith(entry.paper.short) and place.endswith(entry.page.section)
        assert int(count) == len(catalog.wanted_runs(entry, {"profile": "smoke"}))
        assert float(minutes) == entry.page.minutes["quick"]


def test_the_map_says_why_it_takes_a_profile(few_entries, monkeypatch):
    monkeypatch.setattr(profiles, "resolve", lambda *given: ("quick", "a reason"))
    assert "networks (quick: a reason)" in start_here.draw_map().header


def test_an_unknown_profile_is_refused(few_entries):
    with pytest.raises(UsageError, match="unknown profile 'fast'"):
        start_here.draw_map("fast")


def test_networks_are_counted_once():
    entry = make_entry("three", Page("Third"), plan_runs=zhou_1_losses_collapse.plan_runs)
    # four losses and seeds, and with half the schedule three of these seeds
    assert start_here.count_networks(entry, "smoke") == 16 + 12


def test_kept_masses_convert_to_strengths():
    made = start_here.convert_strengths()
    assert made.rows[0] == ["1", "0.0000", "0.0000", "0.0000"]
    by_mass = {row[0]: row[1:] for row in made.rows}
    # delta = (1 - p) K / (K - 1)
    assert by_mass["0.9"] == ["0.2000", "0.1111", "0.1010"]


def test_three_classes_collapse_to_the_minimiser_s_geometry():
    points, table = start_here.follow_collapse()
    table = table.set_index("frame")
    assert list(table.index) == list(start_here.FRAMES)
    for name in ("NC1", "NC2", "NC3"):
        assert table[name].is_monotonic_decreasing and table[name]["end"] < 1e-3
    assert table.NC1["start"] > 1
    for frame, part in points.groupby("frame"):
        # NC1 to NC3 again, from the plotted points and torch's pseudo-inverse
        H = part[part.kind == "feature"][["x", "y"]].to_numpy()
        W = part[part.kind == "classifier"][["x", "y"]].to_numpy()
        own = part[part.kind == "feature"]["class"].to_numpy()
        values = metrics_of(H, own, W).preset("guo")
        np.testing.assert_allclose(
            list(values.values()), table.loc[frame, list(values)], rtol=1e-6, atol=1e-8
        )
    end = points[(points.frame == "end") & (points.kind == "feature")]
    means = end.groupby("class")[["x", "y"]].mean().to_numpy()
    lengths = np.linalg.norm(means, axis=1)
    cosines = (means @ means.T / np.outer(lengths, lengths))[np.triu_indices(3, 1)]
    np.testing.assert_allclose(cosines, -1 / 2, atol=1e-3)
    least = ufm.minimiser(start_here.MODEL, ufm.Loss("ls", start_here.DELTA))
    np.testing.assert_allclose(lengths, least.h_norm, rtol=1e-3)


def metrics_of(features, own, W):
    """Collapse metrics of the package, in torch."""
    made = [torch.tensor(array) for array in (features, own, W)]
    return metrics.neural_collapse(*made, torch.zeros(len(W), dtype=torch.float64)).values


def test_the_ece_in_the_sketch_is_that_of_predictions_with_its_numbers():
    N = 10_000
    logits, labels = [], []
    numbers = zip(start_here.CONFIDENCE, start_here.ACCURACY, start_here.SHARE, strict=True)
    classes = 20  # so that a confidence of 0.1 can be the largest probability
    for confidence, accuracy, share in numbers:
        count = round(share * N)
        rest = (1 - confidence) / (classes - 1)
        row = torch.full((count, classes), rest, dtype=torch.float64)
        row[:, 0] = confidence
        logits.append(row.log())
        right = torch.arange(count) < round(accuracy * count)
        labels.append((~right).long())
    scores = metrics.reliability(torch.cat(logits), torch.cat(labels), bins=5)
    made = start_here.draw_calibration()
    (axes,) = made.drawing.axes
    assert axes.get_title().startswith(f"ECE = {scores.expected_error():.3f};")
    np.testing.assert_allclose(made.table.gap, scores.gaps, atol=1e-3)
    assert start_here.SHARE.sum() == pytest.approx(1)


def test_start_here_is_the_first_of_every_list(capsys):
    assert papers.entries()[0].name == start_here.draw_map("smoke").rows[0][0].text == "start_here"
    assert "`notebooks/start_here.ipynb`" in papers.readme_table().splitlines()[2]
    cli.list_notebooks()
    assert capsys.readouterr().out.splitlines()[1].startswith("start_here ")
