"""Guo's networks: what each profile trains, and which losses can be asked for."""

import dataclasses
import itertools

import pytest

from lsnc_core import data_sources
from lsnc_core.errors import UsageError
from lsnc_core.files import PROJECT
from lsnc_core.losses import LOSSES
from lsnc_core.papers.guo import guo_4_minimisers, networks
from lsnc_core.papers.guo.measured import strength
from lsnc_core.runs import cost


def test_quick_trains_every_strength_with_four_seeds_under_one_weight_decay():
    specs = networks.plan_strengths("quick")
    strengths = (0, 0.05, 0.1, 0.2, 0.5, 0.8, 0.9)
    wanted = sorted(itertools.product(strengths, range(4)))
    assert sorted((strength(spec), spec.seed) for spec in specs) == wanted
    settings = {(spec.weight_decay, spec.batch_norm, spec.loss) for spec in specs}
    assert settings == {(5e-3, True, "ce")}
    # each seed has a batch order of its own, which its strengths share
    assert all(spec.order_seed == spec.seed for spec in specs)
    # the same again under a fifth of the weight decay
    lighter = set(networks.plan_calibration("quick")) - set(specs)
    assert sorted((strength(spec), spec.seed) for spec in lighter) == wanted
    assert {spec.weight_decay for spec in lighter} == {1e-3}


@pytest.mark.parametrize("profile", networks.NETWORKS)
def test_schedules_are_halved_in_every_place(profile):
    whole = {}
    for spec in networks.plan_strengths(profile):
        whole[spec.data, spec.p, spec.seed] = spec
    halved = networks.plan_halved(profile)
    assert len(set(halved)) == len(halved) and not set(halved) & set(whole.values())
    for spec in halved:
        twin = whole[spec.data, spec.p, spec.seed]
        assert spec.epochs == twin.epochs // 2 and spec.evaluate_at == (spec.epochs,)
        assert spec.lr_steps == tuple(step // 2 for step in twin.lr_steps)
        changed = {"epochs": 1, "evaluate_at": (1,), "lr_steps": (1,), "keep_at": ()}
        assert dataclasses.replace(spec, **changed) == dataclasses.replace(twin, **changed)
    # every strength has a twin, the paper's two have one for each seed
    assert {(spec.data, spec.p) for spec in halved} == {(data, p) for data, p, _ in whole}
    pair = [spec for spec in halved if strength(spec) in (0, 0.05)]
    assert len(pair) == len(networks.plan_dynamics(profile))


def test_epochs_after_a_step_are_measured():
    at = networks.sizes_of("paper")[0].network.evaluate_at
    assert set(range(150, 161)) | set(range(350, 361)) <= set(at) and 170 not in at
    quick = networks.sizes_of("quick")[0].network.evaluate_at
    assert set(range(65, 69)) | set(range(108, 112)) <= set(quick)


@pytest.mark.parametrize("profile", networks.NETWORKS)
def test_every_profile_has_valid_distinct_runs_with_seeds_enough(profile):
    for specs in (networks.plan_strengths(profile), networks.plan_calibration(profile)):
        assert len(set(specs)) == len(specs)
    for size in networks.sizes_of(profile):
        source, network = data_sources.SOURCES[size.network.data], size.network
        assert size.seeds >= 4 and network.validation_size > 0
        assert network.train_size + network.validation_size <= source.sizes[0]
        assert network.test_size <= source.sizes[1]


def test_paper_has_the_papers_settings():
    trained = {size.network.data: size.network for size in networks.sizes_of("paper")}
    schedules = {name: (run.model, run.epochs, run.lr_steps) for name, run in trained.items()}
    assert schedules == {
        "cifar10": ("resnet18", 800, (150, 350)),
        "cifar100": ("resnet50", 800, (150, 350)),
        "stl10": ("resnet50", 800, (150, 350)),
        "tiny-imagenet": ("resnet50", 300, (100, 200)),
    }
    names = ("batch", "lr", "momentum", "weight_decay", "augment", "lr_factor")
    for run in trained.values():
        assert [getattr(run, name) for name in names] == [128, 0.05, 0.9, 5e-4, "none", 0.1]
    assert {(run.precision, run.init) for run in trained.values()} == {("float32", "torchvision")}
    deviations = {name: run.pixel_std for name, run in trained.items()}
    cifar = (0.247, 0.243, 0.261)
    known = {"cifar10": cifar, "cifar100": cifar, "stl10": (0.247, 0.2434, 0.2615)}
    assert deviations == known | {"tiny-imagenet": ()}
    means = {run.pixel_mean for run in trained.values()}
    assert means == {(0.4914, 0.4822, 0.4465), ()}
    pairs = {(spec.data, spec.weight_decay) for spec in networks.plan_calibration("paper")}
    usual = {(name, 5e-4) for name in trained}
    assert pairs == usual | {("cifar10", 1e-4), ("cifar100", 1e-4)}


def test_gpu_can_decide_every_strength_and_takes_other_images_with_their_own_statistics():
    (size,) = networks.sizes_of("gpu")
    assert size.seeds >= 4 and size.other_seeds >= 4 and size.network.precision == "bfloat16"
    assert (size.network.init, len(size.network.pixel_mean)) == ("torchvision", 3)
    (other,) = networks.sizes_of("gpu", "mnist")
    assert other.network.pixel_mean == other.network.pixel_std == ()
    assert len({run.seed for run in guo_4_minimisers.plan_runs("gpu")}) >= 4


def test_unknown_profiles_and_losses_are_refused_by_name(tmp_path):
    with pytest.raises(UsageError, match="unknown profile 'fast'"):
        networks.plan_strengths("fast")
    with pytest.raises(UsageError, match="no loss 'hinge' here"):
        networks.plan_dynamics("smoke", ["hinge"])
    with pytest.raises(UsageError, match="one or more losses"):
        networks.plan_dynamics("smoke", [])
    for losses in ("ce", 3, None):
        with pytest.raises(UsageError, match="losses must be a list"):
            networks.plan_dynamics("smoke", losses)
    with pytest.raises(UsageError, match="no loss '1' here"):
        networks.plan_dynamics("smoke", [1])
    with pytest.raises(UsageError, match="different names"):
        files = [str(tmp_path / folder / "loss.py") for folder in "ab"]
        networks.plan_dynamics("smoke", files)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_of_the_table_can_be_compared_by_name(name):
    planned = networks.plan_dynamics("smoke", ["ls", name])
    assert {spec.loss for spec in planned} == {"ce", name}
    assert networks.loss_label(name).lower() == name


def test_a_relative_file_is_looked_for_here_and_then_in_the_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "tests/conftest.py"
    assert networks.loss_settings(name, 10) == {"loss": str(PROJECT / name)}
    (tmp_path / "tests").mkdir()
    (tmp_path / name).write_text("")
    assert networks.loss_settings(name, 10) == {"loss": str(tmp_path / name)}


def test_compute_counts_the_products_of_the_network():
    spec = networks.plan_dynamics("quick")[0]
    # 14x14: 4x4 windows at stride 2 -> 6x6, 2x2 patches -> 3x3, linear layers; two operations a
    # product
    by_hand = 2 * (36 * 8 * 16 + 9 * 16 * 8 * 4 + 144 * 64 + 64 * 10)
    assert cost.forward_operations(spec) == by_hand
    (row,) = cost.cost_table([spec, spec]).itertuples()
    assert (row.networks, row.image_passes) == (1, 150_000)
    images = 3 * 150_000 + 3500 * len(spec.evaluate_at)
    assert row.pflop == pytest.approx(by_hand * images / 1e15)
    assert "--plan estimates the hours" in cost.describe_cost([spec])
