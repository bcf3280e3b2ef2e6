"""What Chen's notebooks train, by profile."""

import itertools

import pytest
from chen_runs import PS

from lsnc_core import data_sources
from lsnc_core.errors import UsageError
from lsnc_core.papers.chen import chen_2_landscape, chen_3_beta, networks
from lsnc_core.papers.chen.networks import plan_cifar, plan_landscape, plan_memorised, plan_sizes


def test_the_quick_landscape_is_the_grid_asked_for():
    runs = plan_landscape("quick")
    rates = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
    wanted = itertools.product(rates, PS, range(4))
    assert sorted((run.a, run.p, run.seed) for run in runs) == sorted(wanted)
    assert len(runs) == 416
    assert {run.data for run in runs} == {"mnist-subset"}
    assert {run.weight_decay for run in runs} == {0.0}
    assert {(run.momentum, run.model) for run in runs} == {(0.9, "mlp")}


@pytest.mark.parametrize("profile", networks.LANDSCAPE)
def test_every_landscape_trains_together_without_repetition_and_has_seeds_enough(profile):
    runs = plan_landscape(profile)
    assert len(set(runs)) == len(runs)
    # each seed has its own batch order, and trains with its own networks alone
    assert {run.order_seed - run.seed for run in runs} == {0}
    shared = {(run.seed, run.shared) for run in runs}
    assert len(shared) == len({run.seed for run in runs})
    seeds_by_rate, kept_by_curve = {}, {}
    for run in runs:
        seeds_by_rate.setdefault(run.a, set()).add(run.seed)
        kept_by_curve.setdefault((run.a, run.seed), set()).add(run.p)
    enough = {a for a, seeds in seeds_by_rate.items() if len(seeds) >= 4}
    assert enough >= ({0.8} if profile == "smoke" else {0.6, 0.8})
    assert len({frozenset(ps) for ps in kept_by_curve.values()}) == 1  # every curve has all p


def test_the_grids_are_those_that_the_claims_ask_for():
    grids = {}
    for profile in ("quick", "gpu", "paper"):
        grids[profile] = sorted({run.p for run in plan_landscape(profile)})
    weak = {0.95, 0.9}  # C10's
    assert all(weak <= set(grid) for grid in grids.values())
    assert grids["paper"] == [round(0.1 + 0.05 * step, 2) for step in range(19)]
    tenths = [round(0.1 * step, 1) for step in range(1, 11)]
    assert sorted({run.p for run in plan_cifar("paper")}) == tenths  # the paper's own
    assert len(plan_landscape("gpu")) == 11 * 11 * 4


@pytest.mark.parametrize("profile", ["gpu", "paper"])
def test_the_landscape_on_mnist_is_the_papers_setting(profile):
    run = plan_landscape(profile)[0]
    assert (run.data, run.train_size, run.epochs, run.batch) == ("mnist", 60000, 100, 128)
    assert (run.lr, run.momentum, run.weight_decay) == (0.01, 0.9, 0.0)


def test_another_data_set_may_be_named_and_unknown_names_are_refused():
    assert {run.data for run in plan_landscape("quick", "fashion-mnist")} == {"fashion-mnist"}
    assert plan_landscape("smoke", "digits") == plan_landscape("smoke")
    words = r"unknown profile 'fast'; the profiles are smoke, quick, hour, gpu, paper\."
    with pytest.raises(UsageError, match=words):
        plan_landscape("fast")
    words = r"no image set 'mnits': did you mean 'mnist'\? the names are digits, mnist-subset,"
    with pytest.raises(UsageError, match=words):
        plan_landscape("smoke", "mnits")


@pytest.mark.parametrize("profile", networks.LANDSCAPE)
def test_the_runs_of_the_landscapes_notebook_are_distinct_and_within_the_image_sets(profile):
    runs = chen_2_landscape.plan_runs(profile)
    grid, sizes = plan_landscape(profile), plan_sizes(profile)
    assert len(set(runs)) == len(runs) and set(grid) | set(sizes) <= set(runs)
    noisy = set(chen_3_beta.plan_runs(profile))
    memorising = set(plan_memorised(profile))
    assert noisy == set(grid) | set(plan_cifar(profile)) | memorising <= set(runs)
    numbers = {run.train_size for run in sizes}
    others = {size for size, _ in networks.TRAIN_SIZES[profile][1]}
    assert numbers == others | {grid[0].train_size} and len(numbers) > 1
    for run in sizes:
        assert run.a == 0.8 and run.evaluate_at[-1] == run.epochs
        assert run.train_size <= data_sources.SOURCES[run.data].sizes[0]
    assert {run.seed for run in sizes} == {0, 1, 2, 3}


def test_few_networks_on_many_images_go_first():
    runs, grid = chen_2_landscape.plan_runs("gpu"), plan_landscape("gpu")
    first = [spec for spec in plan_sizes("gpu") if spec not in grid]
    assert runs == first + grid + plan_cifar("gpu") + plan_memorised("gpu")


def test_cifar_is_the_papers_setting_and_only_where_it_can_be_had():
    assert plan_cifar("smoke") == plan_cifar("quick") == []
    run = plan_cifar("paper")[0]
    assert (run.data, run.model, run.widths) == ("cifar10", "resnet18", (64,))
    assert (run.epochs, run.batch, run.lr) == (100, 128, 0.01)
    assert (run.schedule, run.lr_steps, run.lr_factor) == ("steps", (50, 75), 0.5)
    assert (run.weight_decay, run.augment) == (0.0, "none")
    small = plan_cifar("gpu")
    assert {run.a for run in small} == {0.5, 0.8, 0.95} and small[0].train_size == 10000
    assert {run.seed for run in small} == {0, 1, 2, 3} and len(small) == 3 * 6 * 4
    for plan in (plan_cifar, plan_memorised, plan_sizes, chen_2_landscape.plan_runs):
        with pytest.raises(UsageError, match=r"unknown profile 'fast'"):
            plan("fast")


def test_a_network_that_memorises_stands_beside_the_papers_own():
    assert plan_memorised("smoke") == plan_memorised("quick") == []
    for profile, count in (("gpu", 6 * 9 * 4), ("paper", 6 * 15 * 4)):
        runs = plan_memorised(profile)
        assert len(set(runs)) == len(runs) == count
        assert len({(run.seed, run.shared) for run in runs}) == 4
        run = runs[0]
        assert (run.data, run.model, run.widths) == ("mnist", "mlp", (512, 256))
        # as it was measured to memorise, or longer
        assert (run.lr, run.batch, run.train_size) == (0.05, 64, 60000) and run.epochs >= 150
        assert {run.seed for run in runs} == {0, 1, 2, 3}
        # C1 and C2 ask for rates from a half up, and C3 for these
        assert {0.5, 0.95} <= {run.a for run in runs} and min(run.a for run in runs) == 0.5


def test_sizes_beyond_a_smaller_image_set_are_left_out():
    assert {run.train_size for run in plan_sizes("quick", "digits")} == {500, 250, 1000}


def test_the_recipe_is_a_sentence_of_numbers():
    assert networks.describe_recipe(plan_landscape("quick")) == (
        "Networks: mlp of widths 128, 64; 500 training images, 300 epochs, learning rate 0.05, "
        "batch 64."
    )
