"""Zhou's deep networks: what each profile trains, what it costs, and the table of accuracies."""

import dataclasses
import doctest
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from zhou_results import make_results

from lsnc_core.claims import MIN_SEEDS
from lsnc_core.errors import UsageError
from lsnc_core.papers.zhou import networks
from lsnc_core.papers.zhou.networks import LOSSES
from lsnc_core.runs import cost, prepare

PROFILES = tuple(networks.GRID)


def test_doctests():
    assert doctest.testmod(networks).failed == 0


@pytest.mark.parametrize("profile", PROFILES)
def test_a_cell_trains_all_losses_together_from_equal_starts_with_one_recipe(profile):
    specs = networks.grid_runs(profile)
    size = networks.GRID[profile]
    assert len(set(specs)) == len(specs)
    corners = (size.widths[0], size.epochs[0]), (size.widths[-1], size.epochs[-1])
    count = 0
    for cell in itertools.product(size.widths, size.epochs):
        members = [run for run in specs if (run.widths, run.epochs) == cell]
        count += len(members)
        recipes = {(run.lr, run.weight_decay, run.clip, run.a) for run in members}
        assert len(recipes) == 1
        # each seed has a batch order of its own, which its four losses share
        assert all(run.order_seed == run.seed for run in members)
        for seed in {run.seed for run in members}:
            assert len({run.shared for run in members if run.seed == seed}) == 1
        seeds = {run.seed for run in members}
        for seed in seeds:
            found = [(run.loss, run.p < 1) for run in members if run.seed == seed]
            assert found == [("ce", False), ("ce", True), ("focal", False), ("mse", False)]
        assert len(seeds) == (size.corner_seeds if cell in corners else size.seeds)
        # Z-C1 to Z-C4 rest on these
        assert cell not in corners or len(seeds) >= MIN_SEEDS
        assert members[0].validation_size > 0
    assert count == len(specs)


def test_the_quick_grid_is_within_what_was_allowed():
    size, specs = networks.GRID["quick"], networks.grid_runs("quick")
    assert size.widths == ((4, 8, 32), (8, 16, 64), (16, 32, 128)) and len(size.epochs) == 3
    assert size.seeds == 3 and size.corner_seeds == 4
    assert len(specs) == 7 * 12 + 2 * 16
    run = specs[0]
    assert (run.data, run.train_size, run.validation_size) == ("mnist-subset", 1000, 500)
    assert (run.test_size, run.pool, run.batch_norm) == (2000, 2, True)
    # the longest first, or one core waits for the other
    assert (run.widths, run.epochs) == (size.widths[-1], size.epochs[-1])


def test_the_paper_profile_has_both_image_sets_and_strengths():
    grids = networks.further_grids("paper")
    assert grids == (("cifar100", 0.05), ("cifar100", 0.1))
    specs = networks.plan_grids(networks.grid_runs, "paper")
    assert specs[:232] == networks.grid_runs("paper") and len(set(specs)) == len(specs)
    rest = specs[232:]
    # the second strength adds the networks of LS alone
    assert {run.data for run in rest} == {"cifar100"} and len(rest) == 232 + 232 // 4
    kept = {round(run.p, 6) for run in rest if run.loss == "ce"}
    assert kept == {1.0, 1 - 0.05 * 0.99, 1 - 0.1 * 0.99}
    assert networks.further_grids("paper", "cifar10") == networks.further_grids("quick") == ()


@pytest.mark.parametrize("epochs", [5, 10, 20, 100, 200, 400, 800])
def test_the_rate_falls_in_the_epochs_of_the_released_code(epochs):
    """A MultiStepLR that is stepped at the start of each epoch, as released."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    milestones = [int(3 / 7 * epochs), int(5 / 7 * epochs)]
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=0.1)
    sizes = [size for size in networks.GRID.values() if size.released]
    assert sizes == [networks.GRID["gpu"], networks.GRID["paper"]]
    spec = networks.grid_runs("paper")[0]
    steps = networks.lr_steps(epochs, released=True)
    spec = dataclasses.replace(spec, epochs=epochs, evaluate_at=(epochs,), lr_steps=steps)
    for epoch in range(1, epochs + 1):
        optimizer.step()
        scheduler.step()
        assert scheduler.get_last_lr()[0] == pytest.approx(0.1 * prepare.lr_factor(spec, epoch))


@pytest.mark.parametrize("data_set", ["", "cifar100"])
def test_the_paper_profile_is_the_papers_setting(data_set):
    specs = networks.grid_runs("paper", data_set)
    assert len(specs) == 192 + 2 * 5 * 4  # eight seeds in the two corners
    assert {run.data for run in specs} == {data_set or "cifar10"}
    assert sum(run.seed < 3 for run in specs) == 192
    assert len(networks.collapse_runs("paper", data_set)) == 32
    assert {run.widths for run in specs} == {(16,), (32,), (64,), (128,)}
    assert {run.epochs for run in specs} == {100, 200, 400, 800}
    one = specs[0]
    assert (one.model, one.train_size, one.validation_size) == ("resnet50", 45000, 5000)
    assert one.test_size == 10000
    assert (one.lr, one.momentum, one.weight_decay) == (0.1, 0.9, 5e-4)
    assert (one.batch, one.clip) == (100, 2.0)
    assert (one.schedule, one.lr_steps, one.lr_factor) == ("steps", (341, 570), 0.1)
    assert (one.augment, one.precision) == ("crop-flip-black", "float32")
    assert one.pixel_mean == (0.4914, 0.4822, 0.4465) and one.best_checkpoint
    assert one.pixel_std == (0.2023, 0.1994, 0.2010)
    kept = sorted({run.p for run in specs if run.loss == "ce"})
    assert kept == pytest.approx([0.9 + 0.1 / (100 if data_set else 10), 1.0])


@pytest.mark.parametrize("profile", PROFILES)
def test_z1s_networks_are_the_grids_widest_and_longest(profile):
    grid, chosen = networks.grid_runs(profile), networks.collapse_runs(profile)
    assert set(chosen) <= set(grid)
    assert {run.epochs for run in chosen} == {max(run.epochs for run in grid)}
    assert {run.widths for run in chosen} == {max(run.widths for run in grid)}
    assert len(chosen) >= 12


@pytest.mark.parametrize("profile", PROFILES)
def test_the_halved_networks_differ_from_z1s_in_the_length_of_the_schedule_alone(profile):
    whole, halved = networks.collapse_runs(profile), networks.halved_runs(profile)
    seeds = {"quick": 2, "hour": 8}.get(profile, 3)
    assert len(halved) == 4 * seeds
    for one, other in zip([run for run in whole if run.seed < seeds], halved, strict=True):
        assert other.epochs == one.epochs // 2 and other.evaluate_at[-1] == other.epochs
        changed = {name for name, value in one.to_dict().items() if value != other.to_dict()[name]}
        assert changed == {"epochs", "evaluate_at", "lr_steps"}
        # rounding, and the released code's one epoch, move a step by little
        pairs = zip(other.lr_steps, one.lr_steps, strict=True)
        assert all(abs(step - whole_step / 2) <= 1 for step, whole_step in pairs)
    # a network that both plans have is trained once
    planned = networks.add_halved(networks.collapse_runs, profile)
    assert planned == [*whole, *halved]
    planned = networks.add_halved(networks.grid_runs, profile)
    # in gpu and paper half the longest schedule is in the grid anyway
    if profile in ("gpu", "paper"):
        assert planned == networks.grid_runs(profile)
    assert len(set(planned)) == len(planned) and set(planned) >= {*whole, *halved}


def test_what_cannot_be_trained_is_refused_and_smaller_sets_are_taken_whole():
    unknown = r"unknown profile 'fast'; the profiles are smoke, quick, hour, gpu, paper\."
    with pytest.raises(UsageError, match=unknown):
        networks.collapse_runs("fast")
    near = r"no image set 'mnits': did you mean 'mnist'\? the names are digits"
    with pytest.raises(UsageError, match=near):
        networks.grid_runs("smoke", "mnits")
    between, finite = "smoothing must lie between 0 and 1", "smoothing must be a finite number"
    for strength, words in ((0.0, between), (1.0, between), (math.nan, finite), (None, finite)):
        with pytest.raises(UsageError, match=f"{words}, got"):
            networks.grid_runs("smoke", smoothing=strength)
    digits = networks.grid_runs("quick", "digits")[0]
    assert (digits.train_size, digits.validation_size) == (900, 300)
    assert (digits.test_size, digits.pool) == (540, 1)


@given(st.integers(1, 1000), st.integers(1, 100))
def test_measured_epochs_begin_at_a_hundredth_and_end_with_the_run(epochs, checkpoints):
    found = networks.evaluate_at(epochs, checkpoints)
    first = max(1, epochs // 100)
    assert list(found) == sorted(set(found)) and found[-1] == epochs
    assert found[0] <= first and first in found
    assert len(found) >= min(epochs, checkpoints)
    steps = {max(1, 3 * epochs // 7), max(1, 5 * epochs // 7)}
    assert set(networks.lr_steps(epochs)) == steps


def test_a_grey_image_set_keeps_its_own_statistics():
    grey, colour = (networks.grid_runs("gpu", name)[0] for name in ("mnist", "cifar100"))
    assert grey.pixel_mean == grey.pixel_std == () and len(colour.pixel_mean) == 3


def test_the_checkpoint_is_the_best_of_all_epochs_where_it_was_looked_for():
    results = make_results(lambda *cell: 80.0, seeds=1)
    chosen = networks.select_epochs(networks.accuracy_table(results))
    assert len(chosen) == 36 and (chosen.epoch == chosen.epochs).all()
    results["best_epoch"] = np.minimum(7, results.epoch)
    results["best_validation_accuracy"] = 0.95
    results["best_test_accuracy"] = np.where(results.epoch > 1, 0.77, 0.11)
    best = networks.select_epochs(networks.accuracy_table(results))
    assert len(best) == 36 and set(best.epoch) == {7}
    assert set(best.test_accuracy) == {77.0} and set(best.validation_accuracy) == {95.0}


def test_the_compute_needed_is_counted_as_by_hand():
    # digits, 8x8: windows of 4 at stride 2 leave 3x3, patches of 2 leave 1x1
    def forward(a, b, d):
        return 2 * (9 * a * 16 + b * 4 * a + d * b + 10 * d)

    specs = networks.grid_runs("smoke")
    corners = ((4, 8, 32), 2), ((8, 16, 64), 12)
    measured = {}
    for run in specs:
        images = 200 + run.test_size + run.validation_size
        measured[run.epochs] = len(run.evaluate_at) * images
    total, count = 0, 0
    for cell in itertools.product(((4, 8, 32), (8, 16, 64)), (2, 12)):
        widths, epochs = cell
        number = 16 if cell in corners else 8
        count += number
        total += number * forward(*widths) * (3 * 200 * epochs + measured[epochs])
    found = cost.cost_table(specs)
    assert found.networks.sum() == count == 48 and found.image_passes.sum() == 336 * 200
    assert found.pflop.sum() == pytest.approx(total / 1e15)


def test_the_recipe_names_networks_images_and_strength():
    specs = [run for run in networks.collapse_runs("smoke") if run.seed == 0]
    start = "4 networks (cnn, widths 8–16–64; 12 epochs)"
    assert networks.recipe(specs).startswith(start)
    specs = networks.collapse_runs("paper", "cifar100", 0.05)
    assert networks.recipe(specs).endswith("decay 0.0005; LS at strength 0.05.")


def test_accuracies_name_losses_widths_and_steps():
    results = make_results(lambda width, *cell: 10.0 * LOSSES.index(cell[1]) + width, seeds=1)
    table = networks.accuracy_table(results)
    ends = table[table.epoch == table.epochs]
    assert set(table.width) == {0.5, 1.0, 2.0} and len(table) == 72
    for row in ends.itertuples():
        assert row.test_accuracy == pytest.approx(10 * LOSSES.index(row.loss) + row.width)
        assert row.steps == 20 * row.epochs
        assert row.run == f"{int(8 * row.width)}-{row.epochs}-{row.loss}-0"
