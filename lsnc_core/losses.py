"""Losses of classifiers trained on smoothed labels: (logits, targets) -> one loss per sample, in nats."""

import torch

from lsnc_core.errors import UsageError


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of softmax(logits) against target distributions: `-sum_k y_k log softmax(z)_k`.

    With one-hot targets this is the usual cross-entropy; with `labels.soft_targets` it is label smoothing
    (Chen eq. 1, kept mass p; equivalently strength delta, see `labels.strength_from_kept`).

    Args:
        logits: float, (..., K); leading axes may be samples, or replicas and samples.
        targets: float, (..., K), each row a distribution over the K classes.

    Returns:
        float, (...), >= 0, in nats; at least the entropy of the target row.

    Raises:
        UsageError: when the shapes differ or a tensor is not of floating-point type.

    >>> cross_entropy(torch.zeros(1, 2), torch.tensor([[0.9, 0.1]]))
    tensor([0.6931])
    """
    if logits.shape != targets.shape:
        raise UsageError(f"logits have shape {tuple(logits.shape)} and targets {tuple(targets.shape)}: they must be equal.")
    if not (logits.is_floating_point() and targets.is_floating_point()):
        raise UsageError(f"logits and targets must be floating-point tensors, got {logits.dtype} and {targets.dtype}.")
    return -(targets * logits.log_softmax(-1)).sum(-1)
