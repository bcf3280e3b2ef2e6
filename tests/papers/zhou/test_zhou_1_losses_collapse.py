"""Collapse under four losses: tables against brute force, verdicts both ways, figures."""

import doctest
import itertools
import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from scipy import stats

from lsnc_core import runs
from lsnc_core.claims import FAILS, HOLDS, UNDECIDED
from lsnc_core.papers.zhou import networks
from lsnc_core.papers.zhou import zhou_1_losses_collapse as page
from lsnc_core.papers.zhou.networks import LOSSES
from lsnc_core.papers.zhou.zhou_1_losses_collapse import METRICS
from lsnc_core.runs.store import Store


def test_doctests():
    assert doctest.testmod(page).failed == 0


def test_the_page_trains_the_grids_largest_cell():
    assert page.plan_runs("quick", "digits", 0.05) == networks.collapse_runs(
        "quick", "digits", 0.05
    )


# tables


def gram_tensors(means):
    """Tensors of two measured epochs, the first at random, the last with the class means that
    `means(name, seed)` gives.
    """
    draws = np.random.default_rng(1)
    tensors = {}
    for spec, name in zip(page.plan_runs("smoke"), itertools.cycle(LOSSES), strict=False):
        first = draws.standard_normal((10, 12)).astype(np.float32)
        last = means(name, spec.seed).astype(np.float32)
        tensors[spec] = [{"train_means": first}, {"train_means": last}]
    return tensors


def test_gram_distances_ignore_rotation_scale_and_offset_and_are_zero_for_a_simplex():
    draws = np.random.default_rng(0)

    def turned(name, seed):
        turn = np.random.default_rng(7 * seed + len(name))
        rotation = stats.ortho_group.rvs(12, random_state=turn)
        return draws.uniform(0.1, 9) * np.eye(10, 12) @ rotation + draws.standard_normal(12)

    found = page.gram_distance_table(gram_tensors(turned))
    assert found.end.max() < 1e-5 and found.start.min() > 0.1
    pairs = found.groupby(["first", "second"]).size()
    across = list(itertools.combinations([*LOSSES, "simplex"], 2))
    expected = dict.fromkeys(across, 4) | {(loss, loss): 6 for loss in LOSSES}
    assert pairs.to_dict() == expected


def test_gram_distances_are_frobenius_distances():
    means = {"CE": np.eye(10, 12), "LS": np.diag(np.arange(1, 13.0))[:10]}
    tensors = gram_tensors(lambda name, seed: means.get(name, means["CE"]))
    found = page.gram_distance_table(tensors)

    def gram(matrix):
        rows = [matrix[k] - matrix.mean(0) for k in range(10)]
        products = np.zeros((10, 10))
        for i, j in itertools.product(range(10), repeat=2):
            products[i, j] = sum(rows[i] * rows[j])
        return products / math.sqrt((products**2).sum())

    expected = math.sqrt(((gram(means["CE"]) - gram(means["LS"])) ** 2).sum())
    pair = found[(found["first"] == "CE") & (found.second == "LS")]
    np.testing.assert_allclose(pair.end, expected, rtol=1e-6)
    assert np.isnan(page.normalise_gram(np.ones((3, 4)))).all()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Four networks of Z1, one for each loss, really trained."""
    specs = [run for run in page.plan_runs("smoke") if run.seed == 0]
    store = Store(tmp_path_factory.mktemp("store"))
    tensors = runs.tensors(specs, "cpu", store)
    return specs, runs.results(specs, "cpu", store), tensors


def test_the_collapse_table_has_zhous_metrics_of_every_measured_epoch(trained):
    specs, results, tensors = trained
    table = page.collapse_table(results, tensors)
    assert len(table) == len(results) == 4 * len(specs[0].evaluate_at)
    assert np.isfinite(table[list(METRICS)]).all(axis=None)
    assert set(table.run) == set(results.run)
    E = (np.eye(10) - 0.1) / 3
    for spec, name in zip(specs, LOSSES, strict=True):
        last = tensors[spec][-1]
        W, means = last["weight"].astype(float), last["train_means"].astype(float)
        H, centred = means - means.mean(0), W - W.mean(0)
        back = np.linalg.pinv(H @ H.T)
        gram, product = centred @ centred.T, centred @ H.T
        expected = [
            # tr(Sigma_W Sigma_B^+)/K from H Sigma_W H^T
            np.trace(last["train_projected"] @ back @ back),
            np.linalg.norm(gram / np.linalg.norm(gram) - E),
            np.linalg.norm(product / np.linalg.norm(product) - E),
            np.linalg.norm(W @ means.mean(0) + last["bias"]),
        ]
        row = table[(table.loss == name) & (table.epoch == spec.epochs)]
        np.testing.assert_allclose(row[list(METRICS)].to_numpy()[0], expected, rtol=1e-4)
        assert f"({name})" in page.describe_ends(table)


def test_the_collapse_table_goes_by_run_and_epoch_whatever_the_order(trained):
    _, results, tensors = trained
    table = page.collapse_table(results, tensors)
    backwards = dict(reversed(tensors.items()))
    shuffled = page.collapse_table(results.sample(frac=1, random_state=0), backwards)
    keys = ["run", "epoch"]
    pd.testing.assert_frame_equal(
        table.sort_values(keys, ignore_index=True), shuffled.sort_values(keys, ignore_index=True)
    )


def test_a_network_that_diverged_has_no_collapse_and_decides_nothing(trained):
    _, results, tensors = trained
    broken = {}
    for spec, epochs in tensors.items():
        broken[spec] = [arrays | {"weight": arrays["weight"] * np.nan} for arrays in epochs]
    table = page.collapse_table(results, broken)
    assert table[list(METRICS)].isna().all(axis=None)
    assert page.decide_z_c1(table).outcome == UNDECIDED


# claims


def make_collapse(factor=0.05, seeds=4, fitted=100.0, losses=LOSSES):
    """NC1 to NC3 fall to `factor` of their first value under `losses`, to a tenth of that under the
    others.
    """
    draws = np.random.default_rng(0)
    rows = []
    for loss, seed in itertools.product(LOSSES, range(seeds)):
        run = {"data": "mnist-subset", "width": 2.0, "epochs": 160, "steps": 3200}
        run |= {"loss": loss, "seed": seed}
        run |= {f"{part}_accuracy": fitted for part in ("train", "validation", "test")}
        end = factor if loss in losses else factor / 10
        end *= 1 + 0.01 * draws.standard_normal()
        for epoch, value in ((1, 1.0), (40, 2.0), (160, end)):
            rows.append(run | {"epoch": epoch} | dict.fromkeys(METRICS, value))
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("settings", "outcome"),
    [
        ({}, HOLDS),
        ({"factor": 0.2}, FAILS),
        ({"factor": 0.2, "losses": ("FL",)}, FAILS),
        ({"factor": 0.1}, UNDECIDED),
        ({"seeds": 3}, UNDECIDED),
        ({"factor": 0.2, "fitted": 99.0}, UNDECIDED),
    ],
)
def test_z_c1_asks_every_metric_of_every_loss_for_a_tenth_of_its_first_value(settings, outcome):
    verdict = page.decide_z_c1(make_collapse(**settings))
    assert verdict.outcome == outcome and len(verdict.cases) == 12
    assert ("what would decide it" in verdict.measured) == (outcome == UNDECIDED)
    assert {case.at_most for case in verdict.cases} == {page.COLLAPSED}
    if not settings:
        first = verdict.cases[0]
        assert "NC1(CE), NC1(LS)" in verdict.measured
        assert first.low < first.value < first.high and first.value == pytest.approx(0.05, rel=0.02)
        assert "2.5% of its highest" in first.text


def test_z_c1_is_open_where_a_metric_is_0():
    table = make_collapse()
    table.loc[(table.epoch == 160) & (table.loss == "FL") & (table.seed == 1), "NC2"] = 0.0
    verdict = page.decide_z_c1(table)
    open_cases = [case.name for case in verdict.cases if case.outcome == UNDECIDED]
    assert open_cases == ["metric NC2(FL)"]


@pytest.mark.parametrize(
    ("end", "seeds", "outcome"),
    [(0.1, 4, HOLDS), (0.3, 4, FAILS), (0.2, 4, UNDECIDED), (0.1, 3, UNDECIDED)],
)
def test_z_c2_asks_every_distance_to_be_small(end, seeds, outcome):
    rows = []
    pairs = list(itertools.combinations([*LOSSES, "simplex"], 2))
    for (one, other), seed in itertools.product(pairs, range(seeds)):
        far = end if (one, other) == ("FL", "simplex") else 0.05
        row = {"first": one, "second": other, "seed": seed, "other_seed": seed, "start": 0.6}
        rows.append(row | {"end": far + 0.001 * (-1) ** seed})
    # two seeds of one loss decide nothing
    same = {"first": "CE", "second": "CE", "seed": 0, "other_seed": 1, "start": 1.0, "end": 1.0}
    distances = pd.DataFrame([*rows, same])
    verdict = page.decide_z_c2(distances, make_collapse())
    assert verdict.outcome == outcome and len(verdict.cases) == 10
    chosen = [case for case in verdict.cases if case.name == "distance FL–simplex"]
    assert {case.outcome for case in chosen} == {outcome}
    unfitted = page.decide_z_c2(distances, make_collapse(fitted=50.0))
    assert unfitted.outcome == UNDECIDED and "not fitted" in unfitted.measured


# figures


def test_the_figures_draw_every_loss(trained):
    _, results, tensors = trained
    table, distances = page.collapse_table(results, tensors), page.gram_distance_table(tensors)
    figure = page.draw_z1(page.Tables("A recipe.", table, distances))
    FigureCanvasAgg(figure.drawing).draw()
    panels = [panel for panel in figure.drawing.axes if panel.lines]
    assert len(panels) == 7 and all(panel.get_xlabel() == "epoch" for panel in panels)
    wanted = table[table.loss == "CE"].sort_values("epoch").NC1
    np.testing.assert_allclose(panels[0].lines[0].get_ydata(), wanted)
    assert figure.data["ours"].startswith("A recipe. At the end NC1 ") and figure.table is table
    tables = page.Tables("A recipe.", table, distances)
    assert len(page.draw_z1_cifar100(tables).drawing.axes) == 8
    answers = page.verdicts(tables, [tables]).verdicts
    assert [answer.claim.id for answer in answers] == ["Z-C1", "Z-C1", "Z-C2", "Z-C2"]
    figure = page.draw_gram_distances(distances)
    FigureCanvasAgg(figure.drawing).draw()
    left, right, bar = figure.drawing.axes
    # one seed: nothing on the diagonal
    assert len(left.texts) == len(right.texts) == 10 and "Frobenius" in bar.get_ylabel()
