"""Losses against torch's own and closed forms."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lsnc_core import labels, losses, models
from lsnc_core.errors import UsageError
from lsnc_core.runs import key, spec


def random_case(seed, shape):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(shape, generator=generator, dtype=torch.float64)
    targets = torch.rand(shape, generator=generator, dtype=torch.float64)
    return logits, targets / targets.sum(-1, keepdim=True)


# losses


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**31), K=st.integers(2, 12), kept=st.floats(0, 1))
def test_cross_entropy_is_torchs_with_label_smoothing(seed, K, kept):
    p = 1 / K + kept * (1 - 1 / K)  # torch's strengths end at 1, that is p = 1/K
    logits, _ = random_case(seed, (7, K))
    y = torch.randint(K, (7,), generator=torch.Generator().manual_seed(seed))
    strength = min(float(labels.strength_from_kept(min(p, 1.0), K)), 1.0)
    expected = F.cross_entropy(logits, y, label_smoothing=strength, reduction="none")
    found = losses.cross_entropy(logits, labels.soft_targets(y, min(p, 1.0), K).double())
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)  # soft_targets are float32


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**31), K=st.integers(2, 12), gamma=st.sampled_from([0.0, 0.5, 1.0, 3.0])
)
def test_focal_loss_is_its_formula_and_cross_entropy_at_gamma_0(seed, K, gamma):
    logits, targets = random_case(seed, (4, K))
    q = np.exp(logits.numpy())
    q /= q.sum(-1, keepdims=True)
    expected = -(targets.numpy() * (1 - q) ** gamma * np.log(q)).sum(-1)
    np.testing.assert_allclose(losses.focal(logits, targets, gamma), expected, rtol=1e-9)
    if gamma == 0:
        torch.testing.assert_close(
            losses.focal(logits, targets, 0),
            losses.cross_entropy(logits, targets),
            rtol=1e-12,
            atol=1e-12,
        )
    assert (
        losses.focal(logits, targets, gamma) <= losses.cross_entropy(logits, targets) + 1e-12
    ).all()


def test_focal_loss_and_its_gradient_are_finite_where_softmax_is_0_or_1():
    logits = torch.tensor([[60.0, -60.0], [-200.0, 200.0]], requires_grad=True)
    found = losses.focal(logits, torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    torch.testing.assert_close(found, torch.tensor([0.0, 400.0]))
    (gradient,) = torch.autograd.grad(found.sum(), logits)
    torch.testing.assert_close(gradient, torch.tensor([[0.0, 0.0], [-1.0, 1.0]]))


@pytest.mark.parametrize("gamma", [0.0, 0.25, 0.5, 0.9, 1.0, 3.0])
def test_focal_loss_s_gradient_is_that_of_its_formula(gamma):
    """By autograd on 1 - q as a sum over the other classes, which keeps its digits; where q rounds
    to 1 it vanishes.
    """
    target = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    for logit in (0.0, 5.0, 15.0, 20.0, 36.0, 45.0, 800.0):
        z = torch.tensor([[logit, 0.0, -1.0]], dtype=torch.float64, requires_grad=True)
        (found,) = torch.autograd.grad(losses.focal(z, target, gamma).sum(), z)
        others = (z[:, 1:] - z[:, :1]).exp().sum()
        exact = (others / (1 + others)) ** gamma * others.log1p()
        (expected,) = torch.autograd.grad(exact, z)
        torch.testing.assert_close(found, expected.nan_to_num(0.0), rtol=1e-6, atol=1e-14)
        narrow = z.detach().float().requires_grad_()
        (found,) = torch.autograd.grad(losses.focal(narrow, target.float(), gamma).sum(), narrow)
        assert found.isfinite().all()


def test_mse_is_torchs_on_scaled_targets():
    logits, targets = random_case(5, (6, 4))
    expected = F.mse_loss(logits, 15 * targets, reduction="none").mean(-1)
    torch.testing.assert_close(losses.mse(logits, targets), expected)
    assert losses.mse(3 * targets, targets, scale=3.0).abs().max() < 1e-15


def test_every_replica_gets_the_loss_it_names():
    logits, targets = random_case(6, (5, 3, 4))
    names = ["mse", "ce", "focal", "ce", "mse"]
    found = losses.per_replica(names, torch.device("cpu"))(logits, targets)
    assert found.shape == (5, 3)
    for replica, name in enumerate(names):
        torch.testing.assert_close(
            found[replica], losses.LOSSES[name](logits[replica], targets[replica])
        )
    assert set(models.MODELS) == set(spec.WIDTHS)
    assert tuple(models.INITIALISATIONS) == spec.INITIALISATIONS


@pytest.mark.parametrize("loss", losses.LOSSES.values())
def test_losses_refuse_what_does_not_fit(loss):
    with pytest.raises(UsageError, match="must be equal"):
        loss(torch.zeros(2, 3), torch.zeros(2, 2))
    with pytest.raises(UsageError, match="floating-point"):
        loss(torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.int64))


def test_focal_loss_refuses_a_negative_gamma():
    with pytest.raises(UsageError, match=r"gamma .* at least 0, got -1\.0"):
        losses.focal(torch.zeros(2), torch.zeros(2), -1.0)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**31), K=st.integers(2, 12))
def test_cross_entropy_is_torchs_with_probabilities_and_its_gradient_is_softmax_minus_target(
    seed, K
):
    logits, targets = random_case(seed, (5, K))
    logits.requires_grad_()
    found = losses.cross_entropy(logits, targets)
    torch.testing.assert_close(
        found, F.cross_entropy(logits, targets, reduction="none"), rtol=1e-12, atol=1e-12
    )
    (gradient,) = torch.autograd.grad(found.sum(), logits)
    torch.testing.assert_close(gradient, logits.softmax(-1) - targets, rtol=1e-10, atol=1e-12)


def test_cross_entropy_is_at_least_the_entropy_reached_at_the_logarithm_of_the_target():
    logits, targets = random_case(0, (200, 6))
    entropy = torch.special.entr(targets).sum(-1)
    assert (losses.cross_entropy(logits, targets) > entropy).all()
    torch.testing.assert_close(
        losses.cross_entropy(targets.log() + 5, targets), entropy, rtol=1e-12, atol=1e-12
    )


def test_cross_entropy_takes_leading_axes_and_extreme_logits():
    logits, targets = random_case(1, (3, 4, 5, 6))
    found = losses.cross_entropy(logits, targets)
    assert found.shape == (3, 4, 5)
    for i, j, k in np.ndindex(3, 4, 5):
        by_hand = -sum(
            targets[i, j, k, c] * (logits[i, j, k, c] - logits[i, j, k].exp().sum().log())
            for c in range(6)
        )
        assert found[i, j, k].item() == pytest.approx(by_hand.item(), rel=1e-12)
    far = losses.cross_entropy(torch.tensor([[1e4, 0.0, 0.0]]), torch.tensor([[0.0, 1.0, 0.0]]))
    assert far.item() == 1e4  # naive softmax would give infinity


def test_cross_entropy_refuses_what_does_not_fit():
    with pytest.raises(
        UsageError, match=r"logits have shape \(2, 3\) and targets \(3,\): they must be equal\."
    ):
        losses.cross_entropy(torch.zeros(2, 3), torch.zeros(3))
    with pytest.raises(
        UsageError, match=r"floating-point tensors, got torch\.float32 and torch\.int64\."
    ):
        losses.cross_entropy(torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.int64))
    with pytest.raises(UsageError, match=r"got torch\.int32 and torch\.float32\."):
        losses.cross_entropy(torch.zeros(2, 3, dtype=torch.int32), torch.zeros(2, 3))


# masked classes


def masked_case(seed, K, dtype=torch.float64):
    """Logits and targets of a K-class problem, and the same with two masked classes more."""
    logits, targets = random_case(seed, (5, K))
    logits, targets = logits.to(dtype), targets.to(dtype)
    at = torch.randperm(K + 2, generator=torch.Generator().manual_seed(seed))[:K].sort().values
    wide = torch.full((5, K + 2), -torch.inf, dtype=dtype).index_copy(1, at, logits)
    return logits, targets, wide, torch.zeros_like(wide).index_copy(1, at, targets), at


SOFTMAX_LOSSES = {
    "ce": losses.cross_entropy,
    "focal": losses.focal,
    "forward": losses.forward_correction,
}


@pytest.mark.parametrize("name", SOFTMAX_LOSSES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("K", [2, 5, 20])
def test_a_masked_class_without_target_mass_is_no_class(name, dtype, K):
    """Value and gradient are those of the problem without the class."""
    loss = SOFTMAX_LOSSES[name]
    logits, targets, wide, wide_targets, at = masked_case(K, K, dtype)
    leaf, wide_leaf = logits.requires_grad_(), wide.requires_grad_()
    expected, found = loss(leaf, targets), loss(wide_leaf, wide_targets)
    tolerance = 8 * torch.finfo(dtype).eps
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    (gradient,) = torch.autograd.grad(expected.sum(), leaf)
    (wide_gradient,) = torch.autograd.grad(found.sum(), wide_leaf)
    torch.testing.assert_close(wide_gradient[:, at], gradient, rtol=tolerance, atol=tolerance)
    assert (wide_gradient.index_fill(1, at, 0) == 0).all()


def test_masked_classes_by_hand_and_by_torchs_class_numbers():
    masked, onehot = torch.tensor([[2.0, 0.0, -torch.inf]]), torch.tensor([[1.0, 0.0, 0.0]])
    found = losses.cross_entropy(masked, onehot)
    torch.testing.assert_close(found, torch.tensor([0.1269]), rtol=1e-3, atol=0)
    torch.testing.assert_close(found, F.cross_entropy(masked, torch.tensor([0]), reduction="none"))
    assert losses.logit_smoothing(masked, onehot).item() == found.item()
    sure = torch.eye(3).log()
    assert losses.cross_entropy(sure, torch.eye(3)).tolist() == [0, 0, 0]
    assert losses.cross_entropy_gradient(sure, torch.eye(3)).abs().max() == 0
    far = losses.cross_entropy(1e30 * masked, torch.tensor([[0.0, 1.0, 0.0]]))
    assert far.item() == pytest.approx(2e30)


@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.focal])
def test_target_mass_on_a_masked_class_costs_infinity(loss):
    masked = torch.tensor([[2.0, 0.0, -torch.inf], [2.0, 0.0, -torch.inf]])
    found = loss(masked, torch.tensor([[0.9, 0.0, 0.1], [0.0, 1.0, 0.0]]))
    assert found[0] == torch.inf and found[1].isfinite()
    kept = losses.forward_correction(masked[:1], torch.tensor([[0.9, 0.0, 0.1]]))
    assert kept.item() == pytest.approx(-np.log(0.9 / (1 + np.exp(-2))), rel=1e-6)


@pytest.mark.parametrize("name", ["ce", "focal"])
@pytest.mark.parametrize("shape", [(7, 3), (4, 7, 30)])
def test_without_masked_classes_losses_by_name_have_the_bits_of_those_that_train(name, shape):
    trains = losses.LOSSES[name]
    assert trains is not SOFTMAX_LOSSES[name] and trains is SOFTMAX_LOSSES[name].__wrapped__
    logits, targets = (x.float() for x in random_case(9, shape))
    targets[..., 1] = 0
    leaves = [logits.clone().requires_grad_() for _ in range(2)]
    values = [trains(leaves[0], targets), SOFTMAX_LOSSES[name](leaves[1], targets)]
    gradients = [torch.autograd.grad(v.sum(), x)[0] for v, x in zip(values, leaves, strict=True)]
    assert torch.equal(*values) and torch.equal(*gradients)


def test_the_mask_is_no_part_of_the_cache_key():
    source = key.read_module("losses.py")
    changed = source.replace("torch.finfo(logits.dtype).min / 2", "-1e4")
    assert changed != source
    other = key.Package(lambda name: changed if name == "losses.py" else key.read_module(name))
    assert other.engine == key.package().engine
    for name in losses.LOSSES:
        assert other.entry("loss", name) == key.package().entry("loss", name)
