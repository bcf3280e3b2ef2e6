"""The metric of torchmetrics equals the accumulator, whole, in parts, copied and over processes."""

import copy
import doctest
import os
import pickle
import subprocess
import sys

import pytest
import torch
from test_metrics_accumulator import accumulate
from test_metrics_collapse import made

from lsnc_core.errors import UsageError
from lsnc_core.metrics import FORMULAS, PRESETS, accumulator
from lsnc_core.metrics.collapse import SECOND_PASS

torchmetrics = pytest.importorskip("torchmetrics")

import lsnc_core.metrics.torchmetrics as adapter  # noqa: E402
from lsnc_core.metrics.torchmetrics import CollapseMetric  # noqa: E402

K, D = 3, 6


@pytest.fixture
def problem():
    """Features far from the origin, where plain sums of squares would lose digits, and a layer."""
    features, labels, W, b = made(30, [20, 30, 25], D, offset=1e3, sigma=1e-2)
    classifier = torch.nn.Linear(D, K, dtype=torch.float64)
    with torch.no_grad():
        classifier.weight.copy_(W), classifier.bias.copy_(b)
    return features, labels, classifier


def expected_of(features, labels, classifier):
    nc = accumulate(features, labels, K)
    return dict(nc.compute(classifier.weight, classifier.bias))


def same(found, expected, tolerance=1e-9):
    assert all(isinstance(value, torch.Tensor) for value in found.values())
    floats = {name: float(value) for name, value in found.items()}
    assert floats == pytest.approx(expected, rel=tolerance, abs=1e-10)


def test_doctests():
    assert doctest.testmod(adapter).failed == 0


def test_batches_reset_and_presets(problem):
    features, labels, classifier = problem
    metric, guo = CollapseMetric(K, D, classifier), CollapseMetric(K, D, classifier, "guo")
    expected = expected_of(*problem)
    for _ in range(2):
        for h, y in zip(features.split(16), labels.split(16), strict=True):
            metric.update(h, y)
            guo.update(h, y)
        same(metric.compute(), expected)
        assert set(metric.compute()) == set(FORMULAS) - set(SECOND_PASS)
        same(guo.compute(), {name: expected[ours] for name, ours in PRESETS["guo"].items()})
        metric.reset(), guo.reset()
        assert metric.samples.sum() == 0 and not metric.update_called
    alone = CollapseMetric(K, D)
    alone.update(features, labels)
    same(alone.compute(), dict(accumulate(features, labels, K).compute()))


def test_the_classifier_is_read_when_asked_and_is_no_part_of_the_metric(problem):
    features, labels, classifier = problem
    metric = CollapseMetric(K, D, classifier)
    clone = metric.clone()
    assert not list(metric.parameters()) and not metric.state_dict()
    with torch.no_grad():
        classifier.weight.mul_(2).add_(0.1)
    for each in (metric, clone):
        each.update(features, labels)
        same(each.compute(), expected_of(*problem))


def test_updates_collect_batches_as_the_accumulator_does(problem, monkeypatch):
    joined = []
    join = accumulator.NeuralCollapse._join
    monkeypatch.setattr(
        accumulator.NeuralCollapse,
        "_join",
        lambda self, other: joined.append(1) or join(self, other),
    )
    features, labels, classifier = problem
    metric = CollapseMetric(K, D, classifier)
    for h, y in zip(features.split(5), labels.split(5), strict=True):
        metric.update(h, y)
    assert not joined
    metric.compute()
    assert len(joined) == 1


def test_forward_gives_the_batch_and_keeps_the_whole(problem):
    features, labels, classifier = problem
    metric = CollapseMetric(K, D, classifier)
    for h, y in zip(features.split(25), labels.split(25), strict=True):
        same(metric(h, y), expected_of(h, y, classifier), 1e-7)
    same(metric.compute(), expected_of(*problem))


def test_two_halves_merged_are_the_whole(problem):
    features, labels, classifier = problem
    halves = [CollapseMetric(K, D, classifier) for _ in range(2)]
    for metric, h, y in zip(halves, features.split(40), labels.split(40), strict=True):
        metric.update(h, y)
    states = {"samples": halves[1].samples}
    halves[0].merge_state(halves[1])
    same(halves[0].compute(), expected_of(*problem))
    third = CollapseMetric(K, D, classifier)
    third.update(features[:40], labels[:40])
    third.merge_state(states)
    same(third.compute(), expected_of(*problem))


def test_pickle_copy_and_state_dict_continue(problem):
    features, labels, classifier = problem
    metric = CollapseMetric(K, D, classifier)
    metric.update(features[:40], labels[:40])
    metric.persistent(True)
    loaded = CollapseMetric(K, D, classifier)
    loaded.persistent(True)
    loaded.load_state_dict(metric.state_dict())
    loaded._update_count = 1  # as torchmetrics: it is not part of a state_dict
    for other in (pickle.loads(pickle.dumps(metric)), copy.deepcopy(metric), loaded):
        other.update(features[40:], labels[40:])
        same(other.compute(), expected_of(*problem))
    assert float(metric.samples[:K].sum()) == 40


def test_it_moves_and_keeps_its_precision(problem):
    features, labels, classifier = problem
    metric = CollapseMetric(K, D, classifier)
    metric.update(features[:40], labels[:40])
    metric.to("cpu").half().float()
    metric.update(features[40:], labels[40:])
    assert metric.samples.dtype == torch.float64
    same(metric.compute(), expected_of(*problem))


def test_in_a_collection_beside_another_metric(problem):
    features, labels, classifier = problem
    both = torchmetrics.MetricCollection(
        {
            "guo": CollapseMetric(K, D, classifier, "guo"),
            "zhou": CollapseMetric(K, D, classifier, "zhou"),
            "accuracy": torchmetrics.classification.MulticlassAccuracy(K, average="micro"),
        },
        compute_groups=False,
    )
    for h, y in zip(features.split(25), labels.split(25), strict=True):
        for name in ("guo", "zhou"):
            both[name].update(h, y)
        both["accuracy"].update(classifier(h), y)
    expected = expected_of(*problem)
    found = both.compute()
    for paper in ("guo", "zhou"):
        for theirs, ours in PRESETS[paper].items():
            name = theirs if theirs in found else f"{paper}_{theirs}"
            assert float(found[name]) == pytest.approx(expected[ours], rel=1e-9), name


def test_in_a_collection_two_presets_share_one_state(problem):
    features, labels, classifier = problem
    both = torchmetrics.MetricCollection(
        {name: CollapseMetric(K, D, classifier, name) for name in ("guo", "zhou")}
    )
    for h, y in zip(features.split(25), labels.split(25), strict=True):
        both.update(h, y)
    assert len(both.compute_groups) == 1
    expected, found = expected_of(*problem), both.compute()
    assert float(found["guo_NC1"]) == pytest.approx(expected["nc1_trace_over_K"], rel=1e-9)
    ours = PRESETS["zhou"]["NC1"]
    assert float(found["zhou_NC1"]) == pytest.approx(expected[ours], rel=1e-9)


# torchmetrics takes long to import, so that one process imports it and forks the other
PROCESSES = """
import os, sys, torch
from lsnc_core.metrics.torchmetrics import CollapseMetric
folder, other = sys.argv[1], os.fork()
rank = 0 if other else 1
torch.distributed.init_process_group(
    "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2
)
features, labels, W = torch.load(f"{folder}/problem.pt")
part = slice(0, 20) if rank == 0 else slice(20, None)
classifier = torch.nn.Linear(*W.T.shape, bias=False)
classifier.weight = torch.nn.Parameter(W)
metric = CollapseMetric(*W.shape, classifier)
metric.update(features[part], labels[part])
together = {name: float(value) for name, value in metric.compute().items()}
kept = float(metric.samples[: len(W)].sum())  # each process goes on with its own samples
torch.save((together, kept), f"{folder}/{rank}.pt")
torch.distributed.destroy_process_group()
if other:
    sys.exit(os.waitpid(other, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks a process")
def test_two_processes_have_the_value_of_all_samples(problem, tmp_path):
    features, labels, classifier = problem
    torch.save((features, labels, classifier.weight.detach()), tmp_path / "problem.pt")
    command = [sys.executable, "-W", "ignore", "-c", PROCESSES, str(tmp_path)]
    assert subprocess.run(command, timeout=240).returncode == 0
    expected = dict(accumulate(features, labels, K).compute(classifier.weight))
    for rank, size in enumerate((20, 55)):
        together, kept = torch.load(tmp_path / f"{rank}.pt")
        assert together == pytest.approx(expected, rel=1e-9, abs=1e-10)
        assert kept == size


def test_misuse_is_one_sentence(problem):
    features, labels, classifier = problem
    metric = CollapseMetric(K, D, classifier)
    for sentence, attempt in {
        "there is no preset 'gou'": lambda: CollapseMetric(K, D, preset="gou"),
        "num_classes must be an integer of at least 2": lambda: CollapseMetric(1, D),
        "classifier must be the linear layer, not torch.float64 of shape": lambda: CollapseMetric(
            K, D, classifier.weight.detach()
        ),
        "features have width 5, but width 6 was expected": lambda: metric.update(
            features[:, :5], labels
        ),
    }.items():
        with pytest.raises(UsageError, match=sentence):
            attempt()


def test_without_torchmetrics_one_sentence(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "lsnc_core.metrics.torchmetrics")
    with pytest.raises(UsageError, match="needs torchmetrics: pip install torchmetrics"):
        import lsnc_core.metrics.torchmetrics  # noqa: F401
