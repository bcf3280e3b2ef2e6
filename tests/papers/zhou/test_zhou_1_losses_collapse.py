"""Collapse under four losses: tables against brute force, verdicts both ways, figures."""

import doctest
import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from nulls.zhou import LEAST_COSINE, make_collapse, make_distances
from scipy import stats
from scipy.spatial import distance

from lsnc_core import runs
from lsnc_core.claims import FAILS, HOLDS, UNDECIDED
from lsnc_core.metrics import neural_collapse
from lsnc_core.papers.zhou import collapse, networks, premises
from lsnc_core.papers.zhou import zhou_1_losses_collapse as page
from lsnc_core.papers.zhou.networks import LOSSES
from lsnc_core.papers.zhou.zhou_1_losses_collapse import METRICS
from lsnc_core.runs.store import Store


@pytest.mark.parametrize("module", [page, collapse, premises])
def test_doctests(module):
    assert doctest.testmod(module).failed == 0


def test_the_page_trains_the_grids_largest_cell_and_the_same_with_half_the_schedule():
    arguments = "quick", "digits", 0.05
    planned = networks.collapse_runs(*arguments) + networks.halved_runs(*arguments)
    assert page.plan_runs(*arguments) == planned


# tables


def gram_tensors(means):
    """Tensors of two measured epochs, the first at random, the last with the class means that
    `means(name, seed)` gives.
    """
    draws = np.random.default_rng(1)
    tensors = {}
    specs = networks.collapse_runs("smoke")
    for spec, name in zip(specs, itertools.cycle(LOSSES), strict=False):
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

    found = collapse.gram_distance_table(gram_tensors(turned))
    assert found.end.max() < 1e-5 and found.start.min() > 0.1
    pairs = found.groupby(["first", "second"]).size()
    across = list(itertools.combinations([*LOSSES, "simplex"], 2))
    expected = dict.fromkeys(across, 4) | {(loss, loss): 6 for loss in LOSSES}
    assert pairs.to_dict() == expected
    # networks of one seed share their start
    across = found[(found["first"] != found.second) & (found.second != "simplex")]
    assert ((across.seed + 1) % 4 == across.other_seed).all()


def test_gram_distances_are_frobenius_distances():
    means = {"CE": np.eye(10, 12), "LS": np.diag(np.arange(1, 13.0))[:10]}
    tensors = gram_tensors(lambda name, seed: means.get(name, means["CE"]))
    found = collapse.gram_distance_table(tensors)

    def gram(matrix):
        rows = [matrix[k] - matrix.mean(0) for k in range(10)]
        products = np.zeros((10, 10))
        for i, j in itertools.product(range(10), repeat=2):
            products[i, j] = sum(rows[i] * rows[j])
        return products / math.sqrt((products**2).sum())

    expected = math.sqrt(((gram(means["CE"]) - gram(means["LS"])) ** 2).sum())
    pair = found[(found["first"] == "CE") & (found.second == "LS")]
    np.testing.assert_allclose(pair.end, expected, rtol=1e-6)
    assert np.isnan(collapse.normalise_gram(np.ones((3, 4)))).all()


def test_the_largest_cosine_is_that_of_the_nearest_means():
    means = np.random.default_rng(3).standard_normal((5, 7))
    centred = means - means.mean(0)
    pairs = itertools.combinations(centred, 2)
    expected = max(1 - distance.cosine(one, other) for one, other in pairs)
    assert collapse.largest_cosine(means) == pytest.approx(expected)
    # least for a simplex, whatever its place and scale
    assert collapse.largest_cosine(4 + 3 * np.eye(5, 7)) == pytest.approx(-1 / 4)
    assert np.isnan(collapse.largest_cosine(np.ones((3, 4))))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Four networks of Z1, one for each loss, really trained."""
    specs = [run for run in networks.collapse_runs("smoke") if run.seed == 0]
    store = Store(tmp_path_factory.mktemp("store"))
    tensors = runs.tensors(specs, "cpu", store)
    return specs, runs.results(specs, "cpu", store), tensors


def test_the_collapse_table_has_zhous_metrics_of_every_measured_epoch(trained):
    specs, results, tensors = trained
    table = collapse.collapse_table(results, tensors)
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
        assert row.cosine.to_numpy()[0] == pytest.approx(collapse.largest_cosine(means))
        np.testing.assert_allclose(row[list(METRICS)].to_numpy()[0], expected, rtol=1e-4)
        assert f"({name})" in page.describe_ends(table)


def test_the_collapse_table_goes_by_run_and_epoch_whatever_the_order(trained):
    _, results, tensors = trained
    table = collapse.collapse_table(results, tensors)
    backwards = dict(reversed(tensors.items()))
    shuffled = collapse.collapse_table(results.sample(frac=1, random_state=0), backwards)
    keys = ["run", "epoch"]
    pd.testing.assert_frame_equal(
        table.sort_values(keys, ignore_index=True), shuffled.sort_values(keys, ignore_index=True)
    )


def test_a_network_that_diverged_has_no_collapse_and_decides_nothing(trained):
    _, results, tensors = trained
    broken = {}
    for spec, epochs in tensors.items():
        broken[spec] = [arrays | {"weight": arrays["weight"] * np.nan} for arrays in epochs]
    table = collapse.collapse_table(results, broken)
    assert table[list(METRICS)].isna().all(axis=None)
    verdicts = page.decide_z_c1(table, table), page.decide_z_c10(table, table)
    assert {verdict.outcome for verdict in verdicts} == {UNDECIDED}


# claims


def near(level, losses=LOSSES):
    """The end values of metrics: `level` under `losses`, 0.02 under others; NC2 at 0.1 at most."""

    def value(metric, loss, seed):
        end = level if loss in losses else 0.02
        return end * (1 + 0.01 * (-1) ** seed)

    return value


@pytest.mark.parametrize(
    ("settings", "half", "outcome"),
    [
        ({"value": near(0.05)}, 0.05, HOLDS),
        ({"value": near(0.05)}, 0.08, HOLDS),  # still falls, and is low enough already
        ({"value": near(0.05)}, 0.03, UNDECIDED),  # rises by a fifth of the limit
        ({"value": near(0.05)}, 0.045, HOLDS),  # rises, by a twentieth of it
        ({"value": near(0.05)}, 0.0, UNDECIDED),  # rises from nothing
        ({"value": near(0.4)}, 0.4, FAILS),
        ({"value": near(0.4)}, 0.5, UNDECIDED),  # still falls
        ({"value": near(0.4, ("FL",))}, 0.4, FAILS),
        ({"value": near(0.1)}, 0.1, UNDECIDED),
        ({"value": near(0.05), "seeds": 3}, 0.05, UNDECIDED),
        ({"value": near(0.4), "fitted": 99.0}, 0.4, UNDECIDED),
    ],
)
def test_z_c1_asks_every_loss_for_collapse_once_training_has_ended(settings, half, outcome):
    table = make_collapse(**settings)
    halved = table.assign(epochs=80)
    last = halved.epoch == 160
    halved.loc[last, list(METRICS)] *= half / halved.loc[last, list(METRICS)].to_numpy()
    halved.loc[last, "epoch"] = 80
    verdict = page.decide_z_c1(table, halved)
    assert verdict.outcome == outcome
    deciding = [case for case in verdict.cases if case.deciding]
    assert len(deciding) == 12 and len(verdict.cases) == 16
    open_for_want_of_seeds = outcome == UNDECIDED and not verdict.unmet
    assert ("what would decide it" in verdict.measured) == open_for_want_of_seeds
    names = {premise.name.split(",")[0] for premise in verdict.unmet}
    if "fitted" in settings:
        assert names == {"lowest accuracy on the training images"}
    elif half in (0.0, 0.03, 0.5):
        assert names == {"training ended"}
        direction = "as claimed at" if half < 0.5 else "not as claimed at"
        assert f"observed: {direction} metric NC1(CE)" in verdict.measured
    else:
        assert not names
    sizes = {scale.name: scale.text for scale in verdict.scale}
    assert sizes["steps"] == "steps 3,200 (paper 360,000)"
    assert sizes["features D"] == "features D 128 (paper 2,048)"


def test_z_c1_starts_after_a_hundredth_of_the_epochs():
    table = make_collapse(near(0.05), epochs=800)
    earlier = table[table.epoch == 1]
    later = earlier.assign(epoch=8, **dict.fromkeys(METRICS, 0.4))
    verdict = page.decide_z_c1(pd.concat([table, later]), table)
    (first, *_) = verdict.cases
    assert first.value == pytest.approx(0.05 / 0.4, rel=0.02) and first.outcome == FAILS


def test_z_c1_measures_nc2_beside_random_weights_and_shows_what_was_registered():
    table = make_collapse(near(0.05))
    first = page.decide_z_c1(table, table).cases[0]
    assert first.low < first.value < first.high and first.value == pytest.approx(0.05, rel=0.02)
    cases = [case for case in page.decide_z_c1(table, table).cases if "NC2" in case.name]
    level, registered = cases[:2]
    assert level.deciding and level.at_most == page.GRAM_TOLERANCE
    assert not registered.deciding and registered.at_most == page.COLLAPSED
    # where D is large, random weights are the nearer limit
    wide = table.assign(model="resnet50")
    level = next(case for case in page.decide_z_c1(wide, wide).cases if "NC2" in case.name)
    assert level.at_most == collapse.random_nc2(10, 2048)


@pytest.mark.parametrize(("K", "D"), [(10, 128), (10, 2048), (4, 40)])
def test_nc2_of_random_weights_is_the_metrics_own(K, D):
    draws = torch.Generator().manual_seed(1)
    found = []
    for _ in range(60):
        W = torch.randn(K, D, generator=draws, dtype=torch.float64)
        H, labels = torch.randn(2 * K, D, generator=draws, dtype=torch.float64), torch.arange(2 * K)
        found.append(neural_collapse(H, labels % K, W).values.preset("zhou")["NC2"])
    error = np.std(found) / math.sqrt(60)
    assert collapse.random_nc2(K, D) == pytest.approx(np.mean(found), abs=4 * error)


def test_z_c1_is_open_where_a_metric_is_0():
    table = make_collapse(near(0.05))
    table.loc[(table.epoch == 160) & (table.loss == "FL") & (table.seed == 1), "NC3"] = 0.0
    verdict = page.decide_z_c1(table, table)
    open_cases = [case.name for case in verdict.cases if case.outcome == UNDECIDED]
    assert open_cases == ["metric NC3(FL)"]


@pytest.mark.parametrize(
    ("end", "half", "seeds", "outcome"),
    [
        (0.1, 0.1, 4, HOLDS),
        (0.1, 0.2, 4, HOLDS),
        (0.3, 0.3, 4, FAILS),
        (0.3, 0.4, 4, UNDECIDED),
        (0.2, 0.2, 4, UNDECIDED),
        (0.1, 0.1, 3, UNDECIDED),
    ],
)
@pytest.mark.parametrize("pair", [("FL", "simplex"), ("CE", "MSE")])
def test_z_c2_asks_every_distance_to_be_small(end, half, seeds, outcome, pair):
    def distance_of(level):
        def value(one, other, seed):
            return (level if (one, other) == pair else 0.05) + 0.001 * (-1) ** seed

        return make_distances(value, seeds)

    table = make_collapse(near(0.05))
    tables = page.Tables("A recipe.", table, distance_of(end), table, distance_of(half))
    verdict = page.decide_z_c2(tables)
    assert verdict.outcome == outcome and len(verdict.cases) == 10
    chosen = [case for case in verdict.cases if case.name == f"distance {'–'.join(pair)}"]
    assert {case.outcome for case in chosen} == {outcome}
    if half > end and outcome == UNDECIDED:
        assert "half the schedule" in verdict.measured and "observed: " in verdict.measured
    unfitted = page.decide_z_c2(tables._replace(collapse=make_collapse(near(0.05), fitted=50.0)))
    assert unfitted.outcome == UNDECIDED and "accuracy on the training images" in unfitted.measured


@pytest.mark.parametrize(
    ("above", "half", "outcome"),
    [
        (0.02, 0.02, HOLDS),
        (0.02, 0.05, HOLDS),
        (0.3, 0.3, FAILS),
        (0.3, 0.4, UNDECIDED),
        (0.1, 0.1, UNDECIDED),
    ],
)
def test_z_c10_asks_for_means_as_far_apart_as_can_be(above, half, outcome):
    def table_of(level):
        def cosine(loss, seed):
            return LEAST_COSINE + (level if loss == "MSE" else 0.01) + 0.001 * (-1) ** seed

        return make_collapse(near(0.05), cosine=cosine)

    verdict = page.decide_z_c10(table_of(above), table_of(half))
    assert verdict.outcome == outcome and len(verdict.cases) == 4
    assert ("half the schedule" in verdict.measured) == (half > above and outcome == UNDECIDED)
    few = page.decide_z_c10(make_collapse(near(0.05), seeds=3), table_of(half))
    assert few.outcome == UNDECIDED


# figures


def test_the_figures_draw_every_loss(trained):
    _, results, tensors = trained
    table, distances = (
        collapse.collapse_table(results, tensors),
        collapse.gram_distance_table(tensors),
    )
    figure = page.draw_z1(page.Tables("A recipe.", table, distances, table, distances))
    panels = [panel for panel in figure.drawing.axes if panel.lines]
    assert len(panels) == 7 and all(panel.get_xlabel() == "epoch" for panel in panels)
    wanted = table[table.loss == "CE"].sort_values("epoch").NC1
    np.testing.assert_allclose(panels[0].lines[0].get_ydata(), wanted)
    assert ". A recipe. After the last epoch NC1 " in figure.data["ours"] and figure.table is table
    tables = page.Tables("A recipe.", table, distances, table, distances)
    assert len(page.draw_z1_cifar100(tables).drawing.axes) == 8
    answers = page.verdicts(tables, [tables]).verdicts
    assert [answer.claim.id for answer in answers] == ["Z-C1"] * 2 + ["Z-C2"] * 2 + ["Z-C10"] * 2
    figure = page.draw_gram_distances(distances)
    left, right, bar = figure.drawing.axes
    # one seed: nothing but the distances to the simplex
    assert len(left.texts) == len(right.texts) == 4 and "Frobenius" in bar.get_ylabel()


@pytest.mark.parametrize(("end", "count"), [(0.1, 6), (0.9, 0)])
def test_the_caption_counts_the_pairs_that_become_more_alike(end, count):
    pairs = list(itertools.combinations_with_replacement((*LOSSES, "simplex"), 2))[:-1]
    rows = []
    for (one, other), seed in itertools.product(pairs, range(2)):
        rows.append({"first": one, "second": other, "seed": seed, "other_seed": 1 - seed})
    distances = pd.DataFrame(rows).assign(start=0.5, end=end)
    caption = page.draw_gram_distances(distances).data["ours"]
    assert f" become more alike for {count} of 6 pairs of losses. " in caption
    alone = distances[distances["second"] == "simplex"]
    words = f"more alike to the simplex for {4 * bool(count)} of 4 losses."
    assert collapse.describe_gram(alone.drop_duplicates(["first"])).endswith(words)
