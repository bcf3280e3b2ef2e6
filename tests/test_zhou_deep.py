"""Zhou's deep networks: what is trained, tables against brute force, intervals against simulation,
verdicts both ways, figures.
"""

import itertools
import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from scipy import stats

from lsnc_core import runs
from lsnc_core.errors import UsageError
from lsnc_core.papers import (
    zhou_deep,
    zhou_deep_claims,
    zhou_deep_figures,
    zhou_deep_tables,
)
from lsnc_core.papers.claims import FAILS, HOLDS, MIN_SEEDS, UNDECIDED
from lsnc_core.papers.zhou_deep import LOSSES
from lsnc_core.papers.zhou_deep_tables import METRICS
from lsnc_core.runs import cost
from lsnc_core.runs.store import Store

PROFILES = tuple(zhou_deep.GRID)


def draw(figure):
    FigureCanvasAgg(figure).draw()
    return figure


# what is trained


@pytest.mark.parametrize("profile", PROFILES)
def test_a_cell_trains_all_losses_together_from_equal_starts_with_one_recipe(profile):
    specs = zhou_deep.grid_runs(profile)
    size = zhou_deep.GRID[profile]
    assert len(set(specs)) == len(specs)
    cells = {
        cell: [run for run in specs if (run.widths, run.epochs) == cell]
        for cell in itertools.product(size.widths, size.epochs)
    }
    assert sum(map(len, cells.values())) == len(specs)
    for cell, members in cells.items():
        assert len({run.shared for run in members}) == 1
        assert (
            len({(run.lr, run.weight_decay, run.clip, run.order_seed, run.a) for run in members})
            == 1
        )
        by_seed = {
            seed: [(run.loss, run.p < 1) for run in members if run.seed == seed]
            for seed in {run.seed for run in members}
        }
        assert all(
            found == [("ce", False), ("ce", True), ("focal", False), ("mse", False)]
            for found in by_seed.values()
        )
        corner = cell in ((size.widths[0], size.epochs[0]), (size.widths[-1], size.epochs[-1]))
        assert len(by_seed) == (size.corner_seeds if corner else size.seeds)
        assert not corner or len(by_seed) >= MIN_SEEDS  # Z-C1 to Z-C4 rest on these
        assert members[0].validation_size > 0


def test_the_quick_grid_is_within_what_was_allowed():
    size = zhou_deep.GRID["quick"]
    assert size.widths == ((4, 8, 32), (8, 16, 64), (16, 32, 128)) and len(size.epochs) == 3
    assert (
        size.seeds == 3
        and size.corner_seeds == 4
        and len(zhou_deep.grid_runs("quick")) == 7 * 12 + 2 * 16
    )
    run = zhou_deep.grid_runs("quick")[0]
    assert (
        run.data,
        run.train_size,
        run.validation_size,
        run.test_size,
        run.pool,
        run.batch_norm,
    ) == (
        "mnist-subset",
        1000,
        500,
        2000,
        2,
        True,
    )
    assert (run.widths, run.epochs) == (
        size.widths[-1],
        size.epochs[-1],
    )  # the longest first, or one core waits for the other


@pytest.mark.parametrize("data_set", ["", "cifar100"])
def test_the_paper_profile_is_the_papers_setting(data_set):
    specs = zhou_deep.grid_runs("paper", data_set)
    assert len(specs) == 192 + 8 and {run.data for run in specs} == {
        data_set or "cifar10"
    }  # a fourth seed in the two corners
    assert (
        sum(run.seed < 3 for run in specs) == 192
        and len(zhou_deep.collapse_runs("paper", data_set)) == 16
    )
    assert {run.widths for run in specs} == {(16,), (32,), (64,), (128,)} and {
        run.epochs for run in specs
    } == {100, 200, 400, 800}
    one = specs[0]
    assert (one.model, one.train_size, one.validation_size, one.test_size) == (
        "resnet50",
        45000,
        5000,
        10000,
    )
    assert (one.lr, one.momentum, one.weight_decay, one.batch, one.clip) == (
        0.1,
        0.9,
        5e-4,
        100,
        2.0,
    )
    assert (one.schedule, one.lr_steps, one.lr_factor, one.augment, one.precision) == (
        "steps",
        (342, 571),
        0.1,
        "crop-flip",
        "float32",
    )
    assert sorted({run.p for run in specs if run.loss == "ce"}) == pytest.approx(
        [0.9 + 0.1 / (100 if data_set else 10), 1.0]
    )


@pytest.mark.parametrize("profile", PROFILES)
def test_z1s_networks_are_the_grids_widest_and_longest(profile):
    grid, chosen = zhou_deep.grid_runs(profile), zhou_deep.collapse_runs(profile)
    assert set(chosen) <= set(grid) and {run.epochs for run in chosen} == {
        max(run.epochs for run in grid)
    }
    assert {run.widths for run in chosen} == {max(run.widths for run in grid)} and len(chosen) >= 12


def test_what_cannot_be_trained_is_refused_and_smaller_sets_are_taken_whole():
    with pytest.raises(
        UsageError, match=r"unknown profile 'fast'; the profiles are smoke, quick, gpu, paper\."
    ):
        zhou_deep.collapse_runs("fast")
    with pytest.raises(
        UsageError, match=r"no image set 'mnits': did you mean 'mnist'\? the names are digits"
    ):
        zhou_deep.grid_runs("smoke", "mnits")
    for strength in (0.0, 1.0, math.nan):
        with pytest.raises(UsageError, match="smoothing must lie between 0 and 1, got"):
            zhou_deep.grid_runs("smoke", smoothing=strength)
    digits = zhou_deep.grid_runs("quick", "digits")[0]
    assert (digits.train_size, digits.validation_size, digits.test_size, digits.pool) == (
        900,
        300,
        540,
        1,
    )


@given(st.integers(1, 1000), st.integers(1, 100))
def test_measured_epochs_begin_at_a_hundredth_and_end_with_the_run(epochs, checkpoints):
    found = zhou_deep.evaluate_at(epochs, checkpoints)
    assert (
        list(found) == sorted(set(found))
        and found[-1] == epochs
        and found[0] <= max(1, epochs // 100) in found
    )
    assert len(found) >= min(epochs, checkpoints) and set(zhou_deep.lr_steps(epochs)) == {
        max(1, 3 * epochs // 7),
        max(1, 5 * epochs // 7),
    }


def test_the_compute_needed_is_counted_as_by_hand():
    # digits, 8x8: windows of 4 at stride 2 leave 3x3, patches of 2 leave 1x1
    def forward(a, b, d):
        return 2 * (9 * a * 16 + b * 4 * a + d * b + 10 * d)

    runs = zhou_deep.grid_runs("smoke")
    cells = {
        (widths, epochs): 16 if (widths, epochs) in (((4, 8, 32), 2), ((8, 16, 64), 12)) else 8
        for widths, epochs in (
            (widths, epochs) for widths in ((4, 8, 32), (8, 16, 64)) for epochs in (2, 12)
        )
    }
    found = cost.cost_table(runs)
    assert (
        found.networks.sum() == sum(cells.values()) == 48 and found.image_passes.sum() == 336 * 200
    )
    measured = {
        run.epochs: len(run.evaluate_at) * (200 + runs[0].test_size + runs[0].validation_size)
        for run in runs
    }
    total = sum(
        number * forward(*widths) * (3 * 200 * epochs + measured[epochs])
        for (widths, epochs), number in cells.items()
    )
    assert found.pflop.sum() == pytest.approx(total / 1e15)


# tables


def made_up(
    cell=lambda width, epochs, loss, seed: 90.0, widths=(4, 8, 16), epochs=(10, 40, 160), seeds=4
):
    """A table as `results` gives it, two measured epochs a run; `cell` gives the test accuracy in
    percent of the last.
    """
    settings = {"CE": ("ce", 1.0), "LS": ("ce", 0.91), "FL": ("focal", 1.0), "MSE": ("mse", 1.0)}
    rows = []
    for width, length, name, seed in itertools.product(widths, epochs, LOSSES, range(seeds)):
        loss, p = settings[name]
        run = {
            "data": "mnist-subset",
            "model": "cnn",
            "widths": (width, 2 * width, 8 * width),
            "epochs": length,
            "seed": seed,
        }
        run |= {
            "loss": loss,
            "p": p,
            "train_size": 1000,
            "batch": 50,
            "run": f"{width}-{length}-{name}-{seed}",
        }
        end = {
            "epoch": length,
            "validation_accuracy": 0.9,
            "test_accuracy": cell(width / 8, length, name, seed) / 100,
        }
        start = {"epoch": 1, "validation_accuracy": 0.5, "test_accuracy": 0.123}
        rows += [run | found | {"train_accuracy": 1.0} for found in (start, end)]
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


def test_histories_name_losses_widths_and_steps():
    table = zhou_deep_tables.histories(
        made_up(lambda width, epochs, loss, seed: 10.0 * LOSSES.index(loss) + width, seeds=1)
    )
    ends = table[table.epoch == table.epochs]
    assert set(table.width) == {0.5, 1.0, 2.0} and len(table) == 72
    for row in ends.itertuples():
        assert (
            row.test_accuracy == pytest.approx(10 * LOSSES.index(row.loss) + row.width)
            and row.steps == 20 * row.epochs
        )
        assert row.run == f"{int(8 * row.width)}-{row.epochs}-{row.loss}-0"


def test_a_run_is_read_at_the_first_epoch_of_its_best_validation_accuracy():
    table = pd.DataFrame(
        {
            "width": 1.0,
            "epochs": 9,
            "loss": ["CE"] * 4 + ["LS"] * 4,
            "seed": 0,
            "epoch": [9, 1, 3, 5] * 2,
        }
        | {
            "validation_accuracy": [80.0, 10.0, 90.0, 90.0, 50.0, 10.0, 20.0, 30.0],
            "test_accuracy": np.arange(8.0),
        }
    )
    found = zhou_deep_tables.selected(table)
    assert (
        found.loss.tolist() == ["CE", "LS"]
        and found.epoch.tolist() == [3, 9]
        and found.test_accuracy.tolist() == [2.0, 4.0]
    )


def test_cells_are_means_gaps_and_variances_over_the_seeds_that_all_cells_have():
    draws = np.random.default_rng(0)
    table = zhou_deep_tables.selected(
        zhou_deep_tables.histories(
            made_up(lambda *_: 90 + draws.standard_normal(), widths=(4, 8), epochs=(10, 20))
        )
    )
    extra = (table.seed == 3) & ~((table.width == 1) & (table.epochs == 20))
    grid = zhou_deep_tables.cells(table[~extra])
    assert list(zip(grid.width, grid.epochs, strict=True)) == [
        (0.5, 10),
        (0.5, 20),
        (1.0, 10),
        (1.0, 20),
    ]
    for row in grid.itertuples():
        part = table[(table.width == row.width) & (table.epochs == row.epochs) & (table.seed < 3)]
        accuracy = {
            (loss, seed): value
            for loss, seed, value in zip(part.loss, part.seed, part.test_accuracy, strict=True)
        }
        assert len(accuracy) == 12 and row.variance == pytest.approx(
            np.var(list(accuracy.values()), ddof=1)
        )
        for loss in LOSSES:
            assert getattr(row, f"accuracy_{loss}") == pytest.approx(
                np.mean([accuracy[loss, seed] for seed in range(3)])
            )
        assert row.gap_FL == pytest.approx(
            np.mean([abs(accuracy["CE", seed] - accuracy["FL", seed]) for seed in range(3)])
        )
    assert "at width 0.5 and 10 epochs" in zhou_deep_tables.seen_grid(
        grid
    ) and "at width 1 and 20 epochs" in zhou_deep_tables.seen_grid(grid)


def gram_tensors(means):
    """Tensors of two measured epochs, the first at random, the last with the class means that
    `means(name, seed)` gives.
    """
    draws = np.random.default_rng(1)
    chosen = {
        (name, spec.seed): spec
        for spec, name in zip(
            zhou_deep.collapse_runs("smoke"), itertools.cycle(LOSSES), strict=False
        )
    }
    return {
        spec: [
            {"train_means": draws.standard_normal((10, 12)).astype(np.float32)},
            {"train_means": means(name, seed).astype(np.float32)},
        ]
        for (name, seed), spec in chosen.items()
    }


def test_gram_distances_do_not_see_rotation_scale_or_offset_and_are_zero_for_a_simplex():
    draws = np.random.default_rng(0)

    def turned(name, seed):
        rotation = stats.ortho_group.rvs(
            12, random_state=np.random.default_rng(7 * seed + len(name))
        )
        return draws.uniform(0.1, 9) * np.eye(10, 12) @ rotation + draws.standard_normal(12)

    found = zhou_deep_tables.gram_distances(gram_tensors(turned))
    assert found.end.max() < 1e-5 and found.start.min() > 0.1
    pairs = found.groupby(["first", "second"]).size()
    across = list(itertools.combinations([*LOSSES, "simplex"], 2))
    assert {pair: pairs[pair] for pair in pairs.index} == dict.fromkeys(across, 4) | {
        (loss, loss): 6 for loss in LOSSES
    }


def test_gram_distances_are_frobenius_distances():
    means = {"CE": np.eye(10, 12), "LS": np.diag(np.arange(1, 13.0))[:10]}
    found = zhou_deep_tables.gram_distances(
        gram_tensors(lambda name, seed: means.get(name, means["CE"]))
    )

    def gram(matrix):
        rows = [matrix[k] - matrix.mean(0) for k in range(10)]
        products = np.array([[sum(one * other) for other in rows] for one in rows])
        return products / math.sqrt((products**2).sum())

    expected = math.sqrt(((gram(means["CE"]) - gram(means["LS"])) ** 2).sum())
    np.testing.assert_allclose(
        found[(found["first"] == "CE") & (found.second == "LS")].end, expected, rtol=1e-6
    )
    assert np.isnan(zhou_deep_tables.normalised_gram(np.ones((3, 4)))).all()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Four networks of Z1, one for each loss, really trained."""
    specs = [run for run in zhou_deep.collapse_runs("smoke") if run.seed == 0]
    store = Store(tmp_path_factory.mktemp("store"))
    tensors = runs.tensors(specs, "cpu", store)
    return specs, runs.results(specs, "cpu", store), tensors


def test_the_collapse_table_has_zhous_metrics_of_every_measured_epoch(trained):
    specs, results, tensors = trained
    table = zhou_deep_tables.collapse_table(results, tensors)
    assert len(table) == len(results) == 4 * len(specs[0].evaluate_at) and np.isfinite(
        table[list(METRICS)]
    ).all(axis=None)
    E = (np.eye(10) - 0.1) / 3
    for spec, name in zip(specs, LOSSES, strict=True):
        last = tensors[spec][-1]
        W, means = last["weight"].astype(float), last["train_means"].astype(float)
        H, centred = means - means.mean(0), W - W.mean(0)
        back = np.linalg.pinv(H @ H.T)
        expected = [
            np.trace(
                last["train_projected"] @ back @ back
            ),  # tr(Sigma_W Sigma_B^+)/K from H Sigma_W H^T
            np.linalg.norm(centred @ centred.T / np.linalg.norm(centred @ centred.T) - E),
            np.linalg.norm(centred @ H.T / np.linalg.norm(centred @ H.T) - E),
            np.linalg.norm(W @ means.mean(0) + last["bias"]),
        ]
        row = table[(table.loss == name) & (table.epoch == spec.epochs)]
        np.testing.assert_allclose(row[list(METRICS)].to_numpy()[0], expected, rtol=1e-4)
    assert f"({name})" in zhou_deep_tables.seen(table) and zhou_deep.recipe(specs).startswith(
        "4 networks (cnn, widths 8–16–64; 12 epochs)"
    )
    assert zhou_deep.recipe(zhou_deep.collapse_runs("paper", "cifar100", 0.05)).endswith(
        "decay 0.0005; LS at strength 0.05."
    )


def test_a_network_that_diverged_has_no_collapse_and_decides_nothing(trained):
    _, results, tensors = trained
    broken = {
        spec: [arrays | {"weight": arrays["weight"] * np.nan} for arrays in measured]
        for spec, measured in tensors.items()
    }
    table = zhou_deep_tables.collapse_table(results, broken)
    assert table[list(METRICS)].isna().all(axis=None)
    assert zhou_deep_claims.verdict_z1(table).outcome == UNDECIDED


# intervals


def test_the_spreads_interval_covers_all_differences_at_once_in_95_percent_of_simulations():
    draws = np.random.default_rng(0)
    values = draws.standard_normal((4, 4))
    found = zhou_deep_claims.spread(values)
    left = values - values.mean(1, keepdims=True) - values.mean(0) + values.mean()
    factor = (found.high - found.value) / np.sqrt((left**2).sum() / 9)
    assert 2 * factor == pytest.approx(
        4.415, abs=2e-3
    )  # the printed tables' q(0.95; 4, 9), by the root of four seeds
    assert found.value == pytest.approx(np.ptp(values.mean(0))) and found.low == max(
        0, 2 * found.value - found.high
    )
    samples = draws.standard_normal((40000, 4, 4)) + 5 * draws.standard_normal(
        (40000, 4, 1)
    )  # no loss better, seeds very different
    left = (
        samples
        - samples.mean(2, keepdims=True)
        - samples.mean(1, keepdims=True)
        + samples.mean((1, 2), keepdims=True)
    )
    ranges, deviation = np.ptp(samples.mean(1), axis=1), np.sqrt((left**2).sum((1, 2)) / 9)
    assert (ranges <= factor * deviation).mean() == pytest.approx(0.95, abs=0.004)
    # what 2 standard errors of a difference of two means are worth, for a best and a worst picked
    # after the fact
    assert (ranges > 2 * deviation * np.sqrt(1 / 4 + 1 / 4)).mean() == pytest.approx(
        found.chance, abs=0.007
    )
    error = np.diff(samples[..., :2].mean(1), axis=1).std()
    assert np.sqrt(
        np.mean([zhou_deep_claims.spread(sample).error ** 2 for sample in samples[:500]])
    ) == pytest.approx(error, rel=0.05)


@given(st.permutations(range(9)))
def test_the_rank_correlations_interval_holds_it_and_turns_with_it(order):
    x, y = np.arange(9), np.array(order)
    r, low, high = zhou_deep_claims.rank_interval(x, y)
    assert (
        -1 <= low <= r + 1e-9
        and r - 1e-9 <= high <= 1
        and r == pytest.approx(np.corrcoef(x, y)[0, 1])
    )
    np.testing.assert_allclose(zhou_deep_claims.rank_interval(x, -y), (-r, -high, -low), atol=1e-9)


# verdicts


def collapse_table(factor=0.05, seeds=4, fitted=100.0, losses=LOSSES):
    """NC1 to NC3 fall to `factor` of their first value under `losses`, to a tenth of that under the
    others.
    """
    draws = np.random.default_rng(0)
    rows = []
    for loss, seed in itertools.product(LOSSES, range(seeds)):
        end = factor if loss in losses else factor / 10
        run = {
            "data": "mnist-subset",
            "width": 2.0,
            "epochs": 160,
            "steps": 3200,
            "loss": loss,
            "seed": seed,
        }
        run |= {f"{part}_accuracy": fitted for part in ("train", "validation", "test")}
        for epoch, value in (
            (1, 1.0),
            (40, 2.0),
            (160, end * (1 + 0.01 * draws.standard_normal())),
        ):
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
def test_z1_asks_every_metric_of_every_loss_for_a_tenth_of_its_first_value(settings, outcome):
    verdict = zhou_deep_claims.verdict_z1(collapse_table(**settings))
    assert verdict.outcome == outcome and len(verdict.cases) == 12
    assert ("what would decide it" in verdict.measured) == (outcome == UNDECIDED)
    if not settings:
        assert (
            "NC1(CE), NC1(LS)" in verdict.measured
            and "2.5% of its highest" in verdict.cases[0].measured
        )


@pytest.mark.parametrize(
    ("end", "seeds", "outcome"),
    [(0.1, 4, HOLDS), (0.3, 4, FAILS), (0.2, 4, UNDECIDED), (0.1, 3, UNDECIDED)],
)
def test_z2_asks_every_distance_to_be_small(end, seeds, outcome):
    rows = []
    for (one, other), seed in itertools.product(
        itertools.combinations([*LOSSES, "simplex"], 2), range(seeds)
    ):
        far = end if (one, other) == ("FL", "simplex") else 0.05
        rows.append(
            {
                "first": one,
                "second": other,
                "seed": seed,
                "other_seed": seed,
                "start": 0.6,
                "end": far + 0.001 * (-1) ** seed,
            }
        )
    rows.append(
        {"first": "CE", "second": "CE", "seed": 0, "other_seed": 1, "start": 1.0, "end": 1.0}
    )  # decides nothing
    found = zhou_deep_claims.verdict_z2(pd.DataFrame(rows), collapse_table())
    assert found.outcome == outcome and len(found.cases) == 10
    assert {case.outcome for case in found.cases if case.name == "distance FL–simplex"} == {outcome}
    unfitted = zhou_deep_claims.verdict_z2(pd.DataFrame(rows), collapse_table(fitted=50.0))
    assert unfitted.outcome == UNDECIDED and "not fitted" in unfitted.measured


def chosen(small, large, noise=0.02, seeds=4, widths=(4, 16), epochs=(10, 160)):
    """A grid whose losses differ by `small` points in its first cell and by `large` in its last."""
    draws = np.random.default_rng(1)

    def accuracy(width, length, loss, seed):
        apart = small if (width, length) == (widths[0] / 8, epochs[0]) else large
        return 90 + seed + apart * (loss == "MSE") + noise * draws.standard_normal()

    return zhou_deep_tables.selected(
        zhou_deep_tables.histories(made_up(accuracy, widths, epochs, seeds))
    )


@pytest.mark.parametrize(
    ("table", "outcomes"),
    [
        ({"small": 2, "large": 0.1}, (HOLDS, HOLDS, HOLDS)),
        ({"small": 2, "large": 1}, (FAILS, HOLDS, FAILS)),
        ({"small": 0.1, "large": 2}, (FAILS, FAILS, FAILS)),
        ({"small": 0.1, "large": 0.4}, (FAILS, FAILS, HOLDS)),
        ({"small": 2, "large": 2}, (FAILS, UNDECIDED, FAILS)),
        ({"small": 2, "large": 0.9, "noise": 1}, (UNDECIDED, UNDECIDED, UNDECIDED)),
    ],
)
def test_z3_asks_for_a_spread_that_falls_and_ends_small(table, outcomes):
    verdict = zhou_deep_claims.verdict_z3(chosen(**table))
    assert (verdict.outcome, *(case.outcome for case in verdict.cases)) == outcomes
    assert "width 2, 160 epochs against width 0.5, 10 epochs" in verdict.tried_on
    assert "2 standard errors" in verdict.cases[1].measured


def test_z3_takes_the_range_of_means_over_seeds_and_both_cells_errors_for_its_change():
    def accuracy(
        width, length, loss, seed
    ):  # in the last cell every seed has another best loss, and all losses one mean
        return (
            90 + (1.0 + seed) * (loss == "MSE")
            if length == 10
            else 90 + 2.0 * (LOSSES.index(loss) == seed)
        )

    table = zhou_deep_tables.selected(
        zhou_deep_tables.histories(made_up(accuracy, (4, 16), (10, 160)))
    )
    falls, end = zhou_deep_claims.verdict_z3(table).cases
    # what is left of the first cell: 3/4 or -1/4 of the seeds' deviations 1.5, .5, .5, 1.5 from
    # their mean; of the second: 3/2 and -1/2
    squares = 5 * (0.75**2 + 3 * 0.25**2), 4 * 1.5**2 + 12 * 0.5**2
    first, last = (
        stats.studentized_range.ppf(0.975, 4, 9) * np.sqrt(left / 9 / 4) for left in squares
    )
    low, high = max(0 - last, 0) - (2.5 + first), last - (2.5 - first)
    assert (
        falls.measured == f"2.50 to 0.00 points, -2.50 [{low:+.2f}, {high:+.2f}]"
        and falls.outcome == UNDECIDED
    )
    assert end.outcome == UNDECIDED and end.measured.startswith("0.00 [0.00, ")


@pytest.mark.parametrize(
    ("settings", "outcome"),
    [
        ({"small": 1}, HOLDS),
        ({"small": 0}, FAILS),
        ({"small": 0.2, "noise": 0.5}, UNDECIDED),
        ({"small": 1, "seeds": 3}, UNDECIDED),
    ],
)
def test_z4_asks_for_a_spread_above_0_and_fails_where_it_is_surely_small(settings, outcome):
    verdict = zhou_deep_claims.verdict_z4(chosen(large=0, **settings))
    assert verdict.outcome == outcome and verdict.tried_on.endswith("width 0.5, 10 epochs")


def test_three_seeds_decide_nothing_about_the_corners():
    table = chosen(2, 0.1, seeds=3)
    assert zhou_deep_claims.verdict_z3(table).outcome == UNDECIDED
    assert "3 seeds; what would decide it: 4 seeds" in zhou_deep_claims.verdict_z3(table).measured


@pytest.mark.parametrize(("sign", "outcome"), [(-1, HOLDS), (1, FAILS), (0, UNDECIDED)])
def test_z5_goes_by_the_rank_correlation_over_the_cells(sign, outcome):
    cells = pd.DataFrame(
        list(itertools.product((0.5, 1.0, 2.0), (10, 40, 160))), columns=["width", "epochs"]
    )
    cells["data"] = "mnist-subset"
    mixed = np.array([3, 9, 1, 5, 2, 8, 4, 7, 6.0])
    cells["variance"] = np.log(cells.width * cells.epochs) * sign + 10 if sign else mixed
    assert zhou_deep_claims.verdict_z5(cells).outcome == outcome
    assert zhou_deep_claims.verdict_z5(cells.iloc[[0, 1, 3, 4]]).outcome == UNDECIDED


# figures


def test_the_figures_show_the_tables_numbers():
    grid = zhou_deep_tables.cells(chosen(2, 0.1, widths=(4, 8, 16), epochs=(10, 40, 160)))
    for figure, panels in (
        (zhou_deep_figures.z2(grid), 3),
        (zhou_deep_figures.z3(grid), 4),
        (zhou_deep_figures.z4(grid), 1),
    ):
        *maps, bar = draw(figure).axes
        assert (
            len(maps) == panels
            and all(panel.get_xlabel() == "width" for panel in maps)
            and bar.get_ylabel()
        )
        assert all(len(panel.texts) == 9 for panel in maps)
    written = {
        text.get_position(): text.get_text() for text in zhou_deep_figures.z4(grid).axes[0].texts
    }
    assert (
        written[0, 0] == f"{grid[(grid.width == 0.5) & (grid.epochs == 10)].variance.iloc[0]:.2f}"
    )
    lines = [
        line for line in draw(zhou_deep_figures.z5(grid)).axes[0].lines if len(line.get_xdata())
    ]
    assert (
        len(lines) == 12
        and lines[0].get_ydata().tolist() == grid[grid.width == 0.5].accuracy_CE.tolist()
    )


def test_the_curves_and_gram_figures_draw_every_loss(trained):
    _, results, tensors = trained
    table = zhou_deep_tables.collapse_table(results, tensors)
    figure = draw(zhou_deep_figures.z1(table))
    panels = [panel for panel in figure.axes if panel.lines]
    assert len(panels) == 7 and all(panel.get_xlabel() == "epoch" for panel in panels)
    wanted = table[table.loss == "CE"].sort_values("epoch").NC1
    np.testing.assert_allclose(panels[0].lines[0].get_ydata(), wanted)
    left, right, bar = draw(zhou_deep_figures.gram(zhou_deep_tables.gram_distances(tensors))).axes
    assert (
        len(left.texts) == len(right.texts) == 10 and "Frobenius" in bar.get_ylabel()
    )  # one seed: nothing on the diagonal
    plt.close("all")
