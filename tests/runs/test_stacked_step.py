"""The step that is written out for CPUs against the same step with autograd."""

import dataclasses

import pytest
import torch
from helpers import a_cnn_spec, a_resnet_spec

from lsnc_core import data, losses
from lsnc_core.runs import fleet, products, stacked_step
from lsnc_core.runs.stacked_step import StackedStep

CPU = torch.device("cpu")
# 14 x 14 pixels, whose patches leave out no position, so that batch norm can be stacked
SPEC = a_cnn_spec(data="mnist-subset", pool=2, train_size=50, batch=16)
NORMED = {"batch_norm": True, "feature_norm": True}
CASES = {
    "plain": {},
    "no momentum, weight decay": {"momentum": 0.0, "weight_decay": 0.05},
    "batch norm": {"batch_norm": True},
    "normed features with a penalty": NORMED | {"lambda_H": 0.01},
    "decay of features, weights and biases": {"lambda_H": 0.01, "lambda_W": 0.1, "lambda_b": 0.3},
    "clipped": {"clip": 0.3, "weight_decay": 0.01},
    "clipped with batch norm": NORMED | {"clip": 0.3},
    "augmented": {"augment": "crop-flip"},
    "mlp": {"model": "mlp", "widths": (20, 12)},
    "mlp with batch norm": {"model": "mlp", "widths": (20,), "batch_norm": True},
}


def some_specs(**changes):
    """A network with each loss, two of them of one kind in a row; they differ in all that may."""
    names = ["ce", *losses.LOSSES]
    spec = dataclasses.replace(SPEC, **changes)
    return [
        dataclasses.replace(spec, seed=seed, loss=name, p=0.5 + 0.1 * seed, lr=0.02 / (1 + seed))
        for seed, name in enumerate(names)
    ]


def a_fleet(specs):
    return fleet.Fleet(specs, data.load(specs[0].data), CPU)


def in_double(held):
    """The same fleet in float64, in which rounding moves no input of a ReLU over zero."""
    tensors = [*held.state, held.train_images, held.targets, held.lr, held.feature_decay]
    for tensor in [*tensors, *held.learning_rates, *(held.weight_decays or ())]:
        tensor.data = tensor.data.double()
    held.targets /= held.targets.sum(2, keepdim=True)  # distributions exactly
    return held


def assert_same(found, expected, precision=1e-10):
    """All tensors of two fleets, relative to each one's largest entry, or to 1 where that is less:
    biases before batch norm have no gradient but rounding, so their velocities are nothing else.
    """
    for one, other in zip(found.state, expected.state, strict=True):
        atol = precision * max(float(other.detach().abs().max()), 1.0)
        torch.testing.assert_close(one, other, rtol=0, atol=atol)


@pytest.mark.parametrize("largest", [2**21, 1])
@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_the_step_is_that_of_autograd(monkeypatch, changes, largest):
    monkeypatch.setattr(stacked_step, "GROUP_BYTES", largest)
    specs = some_specs(**changes)
    found, expected = in_double(a_fleet(specs)), in_double(a_fleet(specs))
    step = StackedStep(found, products.BY_DEFAULT)
    monkeypatch.setattr(torch.Tensor, "float", lambda tensor: tensor)  # logits stay in float64
    assert len(step.groups) == (1 if largest > 1 else len(specs))
    for _ in range(3):  # each with a last, smaller batch
        found.train_epoch(step)
        expected.train_epoch(expected.step)
    assert_same(found, expected)


def test_one_step_in_float32_is_that_of_autograd():
    specs = some_specs()
    found, expected = a_fleet(specs), a_fleet(specs)
    rows = torch.arange(SPEC.batch)
    StackedStep(found, products.BY_DEFAULT)(rows)
    expected.step(rows)
    assert_same(found, expected, 1e-5)


def test_large_products_by_the_other_library_give_the_same(monkeypatch):
    monkeypatch.setattr(products, "LARGE", 0)
    left, right = torch.randn(2, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    if not products.exact(left, right):
        pytest.skip("oneDNN rounds to bfloat16 on this processor")
    specs = some_specs()
    found, expected = a_fleet(specs), a_fleet(specs)
    step = StackedStep(found, dict.fromkeys(products.KINDS, products.ONEDNN))
    rows = torch.arange(SPEC.batch)
    step(rows)
    expected.step(rows)
    assert_same(found, expected, 1e-5)


def test_networks_are_dealt_to_groups_of_nearly_equal_size(monkeypatch):
    specs = [dataclasses.replace(SPEC, seed=seed) for seed in range(10)]
    one = a_fleet(specs)
    (shape, *_) = StackedStep(one, products.BY_DEFAULT)._shapes(SPEC.batch)
    monkeypatch.setattr(stacked_step, "GROUP_BYTES", 4 * 4 * shape[0] * shape[1])  # 4 networks
    parts = [group.part for group in StackedStep(one, products.BY_DEFAULT).groups]
    assert [part.stop - part.start for part in parts] == [3, 3, 4]
    assert [part.start for part in parts] == [0, 3, 6]


def test_it_is_for_stacked_networks_in_float32_on_a_cpu():
    assert StackedStep.fits(a_fleet([SPEC]))
    assert not StackedStep.fits(a_fleet([dataclasses.replace(SPEC, precision="bfloat16")]))
    assert not StackedStep.fits(a_fleet([a_resnet_spec()]))
    held = a_fleet([SPEC])
    held.device = torch.device("meta")
    assert not StackedStep.fits(held)


def test_a_loss_of_your_own_may_change_its_logits_in_place(tmp_path):
    path = tmp_path / "my_loss.py"
    path.write_text(
        "def loss(logits, targets):\n"
        "    logits.mul_(2)\n"
        "    return -(targets * logits.log_softmax(-1)).sum(-1)\n"
    )
    draws = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(2, 3, 5, 4, generator=draws).softmax(2)  # (r, K, B) each
    kept = logits.clone()
    found = stacked_step.loss_gradient([losses.find(str(path))] * 3, logits, targets)
    torch.testing.assert_close(found, 2 * ((2 * logits).softmax(1) - targets))
    assert torch.equal(logits, kept)


@pytest.mark.parametrize("axis", [-1, 1])
def test_the_gradient_of_cross_entropy_is_autograds(axis):
    draws = torch.Generator().manual_seed(1)
    logits, targets = torch.randn(2, 4, 6, 5, generator=draws, dtype=torch.float64)
    targets = targets.softmax(axis)
    leaf = logits.clone().requires_grad_()
    last = (leaf, targets) if axis == -1 else (leaf.mT, targets.mT)
    (expected,) = torch.autograd.grad(losses.cross_entropy(*last).sum(), leaf)
    torch.testing.assert_close(losses.cross_entropy_gradient(logits, targets, axis), expected)


@pytest.mark.parametrize("shape", [(3,), (7, 10), (2, 7, 10), (2, 7, 40)])
def test_log_softmax_is_torchs(shape):
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    torch.testing.assert_close(losses.log_softmax(logits), logits.log_softmax(-1))
