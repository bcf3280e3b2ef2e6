"""Losses of classifiers trained on smoothed labels: (logits, targets) -> one loss per sample.

A logit of -inf masks its class: the class has probability 0, and a target of mass 0 there adds
nothing to the loss. A target with mass on a masked class has an infinite `cross_entropy` and
`focal` loss. `forward_correction` stays finite, for other classes may explain the label; `mse` is
infinite wherever a logit is.

torch is imported only where a tensor is made, so that a run can be described without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lsnc_core import custom
from lsnc_core.errors import UsageError

if TYPE_CHECKING:
    import torch

    Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


# A CPU's kernel for the last axis takes ten times as long for fewer classes than these, which do
# not fill a vector.
FEW_CLASSES = 16


def log_softmax(logits: torch.Tensor) -> torch.Tensor:
    """Logarithms of the softmax of logits float (..., K) over the classes."""
    if logits.device.type != "cpu" or logits.ndim < 2 or logits.shape[-1] >= FEW_CLASSES:
        return logits.log_softmax(-1)
    return logits.mT.log_softmax(-2).mT


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of softmax(logits) against target distributions: `-sum_k y_k log softmax(z)_k`.

    With one-hot targets this is the usual cross-entropy; with `labels.soft_targets` it is label
    smoothing (Chen eq. 1, kept mass p; for the strength delta see `labels.strength_from_kept`).

    Args:
        logits: float (..., K); leading axes are samples, or replicas and samples.
        targets: float (..., K), each row a distribution over the K classes.

    Returns:
        float (...), >= 0, in nats; at least the entropy of the target row; inf where a target has
        mass on a class whose logit is -inf.

    Raises:
        UsageError: when the shapes differ or a tensor is not of floating-point type.

    >>> import torch
    >>> cross_entropy(torch.zeros(1, 2), torch.tensor([[0.9, 0.1]]))
    tensor([0.6931])
    """
    _check(logits, targets)
    return -(targets * log_softmax(logits)).sum(-1)


def cross_entropy_gradient(
    logits: torch.Tensor, targets: torch.Tensor, axis: int = -1
) -> torch.Tensor:
    """Gradient of `cross_entropy` by the logits: `softmax(z) - y`.

    Args: logits, targets as there, with the classes along `axis`.
    Returns: float, the shape of the logits.

    >>> import torch
    >>> cross_entropy_gradient(torch.zeros(1, 2), torch.tensor([[0.75, 0.25]]))
    tensor([[-0.2500,  0.2500]])
    """
    return logits.softmax(axis).sub_(targets)


def focal(logits: torch.Tensor, targets: torch.Tensor, gamma: float = 3.0) -> torch.Tensor:
    """Focal loss against target distributions: `-sum_k y_k (1 - q_k)^gamma log q_k`.

    Here q = softmax(logits). With one-hot targets this is the focal loss of Zhou et al. 2022
    (section 2), whose gamma is 3. With gamma = 0 it is `cross_entropy`.

    Args, raises: as for `cross_entropy`; gamma: at least 0.

    Returns:
        float (...), >= 0, in nats; at most the cross-entropy.

    >>> import torch
    >>> focal(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))  # log(2) / 8
    tensor([0.0866])
    """
    _check(logits, targets)
    if not gamma >= 0:
        raise UsageError(f"gamma of the focal loss must be at least 0, got {gamma!r}.")
    log_q = log_softmax(logits)
    missing = -log_q.expm1()  # 1 - q
    # Where 1 - q rounds to 0, the power's slope is infinite, that of the loss 0. 2^-60 is below any
    # other 1 - q.
    if 0 < gamma < 1:
        missing = missing.clamp(min=2.0**-60)
    return -(targets * missing**gamma * log_q).sum(-1)


def mse(logits: torch.Tensor, targets: torch.Tensor, scale: float = 15.0) -> torch.Tensor:
    """Rescaled mean squared error: `(1/K) sum_k (z_k - scale y_k)^2`.

    With one-hot targets this is the loss of Zhou et al. 2022 (section 2), with the mean over the
    classes; their scale is 15.

    Args, raises: as for `cross_entropy`; scale: the logit that a target of 1 asks for.

    Returns:
        float (...), >= 0, in squared logits.

    >>> import torch
    >>> mse(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))  # 15^2 / 2
    tensor([112.5000])
    """
    _check(logits, targets)
    return (logits - scale * targets).square().mean(-1)


def forward_correction(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood of a noisy label under a noise model: `-log sum_j t_j q_j`.

    Here q = softmax(logits), and the targets are rows of the noise matrix:
    t_j = T_ij = P(clean class j becomes the observed i).

    Args, raises: as for `cross_entropy`; but targets (..., K) lie in [0, 1] and need not sum to 1.

    Returns:
        float (...), >= 0, in nats. By Jensen's inequality at most the cross-entropy against the
        same targets where they sum to 1 (Chen eq. 18).

    >>> import torch
    >>> forward_correction(torch.zeros(1, 2), torch.tensor([[0.9, 0.1]]))
    tensor([0.6931])
    """
    _check(logits, targets)
    return -(targets.log() + log_softmax(logits)).logsumexp(-1)


def logit_smoothing(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the label after its logits were smoothed: `-log softmax(S z)_y`.

    S is symmetric smoothing with p >= 1/K. S z is `(p - (1-p)/(K-1)) z` plus the same number in
    every logit, so logit smoothing is a temperature.

    Args, raises: as for `cross_entropy`; targets are the smoothed labels S y.

    Returns:
        float (...), >= 0, in nats. Source: Chen eq. 19.

    >>> import torch
    >>> logit_smoothing(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.5, 0.5]]))
    tensor([0.6931])
    """
    import torch

    _check(logits, targets)
    most, label = targets.max(-1, keepdim=True)
    scaled = (most - targets.min(-1, keepdim=True).values) * logits
    chosen = label == torch.arange(targets.shape[-1], device=targets.device)
    # a mask and a sum, not gather: its deterministic gradient makes a GPU wait
    return -log_softmax(scaled).where(chosen, 0).sum(-1)


# The names that `RunSpec.loss` takes. The cache key holds only the entry that a run names.
LOSSES = {
    "ce": cross_entropy,
    "focal": focal,
    "mse": mse,
    "forward": forward_correction,
    "logit": logit_smoothing,
}


def _for_masked_classes(loss: Loss) -> Loss:
    """`loss`, where -inf logits of classes without target mass add 0 instead of 0 * -inf = NaN.

    For all other logits value and gradient have the same bits.
    """
    import functools

    @functools.wraps(loss)
    def masked(
        logits: torch.Tensor, targets: torch.Tensor, *parameters: float, **named: float
    ) -> torch.Tensor:
        import torch

        _check(logits, targets)
        unused = (logits == float("-inf")) & (targets == 0)
        # so low that softmax is exactly 0 there, yet finite, so that 0 times its logarithm is 0
        lowest = torch.finfo(logits.dtype).min / 2
        return loss(logits.masked_fill(unused, lowest), targets, *parameters, **named)

    return masked


# By name these losses take masked classes. Training takes them from the table above, as they are
# written: its logits are finite, and the mask would be one more pass over them.
globals()["cross_entropy"] = _for_masked_classes(cross_entropy)
globals()["focal"] = _for_masked_classes(focal)


def find(name: str) -> Loss:
    """Return the loss of that name, one of `LOSSES`, or the loss that your own file defines.

    Raises:
        UsageError: when there is no such loss, or as `custom.load`.
    """
    if custom.is_file(name):
        return custom.load(name, "loss")
    if name not in LOSSES:
        raise UsageError(f"there is no loss {name!r}: there are {', '.join(LOSSES)}, or a file.")
    return LOSSES[name]


def per_replica(names: Sequence[str], device: torch.device) -> Loss:
    """Make one function for R networks, each with the loss it names.

    Returns:
        logits (R, B, K), targets (R, B, K) -> losses float (R, B).
    """
    import torch

    if len(set(names)) == 1:
        return find(names[0])
    parts = []
    for name in dict.fromkeys(names):
        rows = [row for row, other in enumerate(names) if other == name]
        parts.append((find(name), torch.tensor(rows, device=device)))
    back = torch.cat([rows for _, rows in parts]).argsort()  # (R,)

    def mixed(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        by_name = [
            loss(logits.index_select(0, rows), targets.index_select(0, rows))
            for loss, rows in parts
        ]
        return torch.cat(by_name).index_select(0, back)

    return mixed


def _check(logits: torch.Tensor, targets: torch.Tensor) -> None:
    """Refuse what would broadcast or truncate silently."""
    if logits.shape != targets.shape:
        raise UsageError(
            f"logits have shape {tuple(logits.shape)} and targets {tuple(targets.shape)}: "
            "they must be equal."
        )
    if not (logits.is_floating_point() and targets.is_floating_point()):
        raise UsageError(
            "logits and targets must be floating-point tensors, "
            f"got {logits.dtype} and {targets.dtype}."
        )
