"""A few samples on which a loss of your own is tried before anything is trained with it.

What it returns there enters the cache key, so a change of anything that the loss reads trains
again. A loss that is not one number per sample would train without an error, and wrongly: logits
here are (R, B, K), so `cross_entropy` of torch takes axis 1, the batch, for the classes.
"""

import numpy as np
import torch

from lsnc_core import losses
from lsnc_core.defaults import usual_defaults
from lsnc_core.errors import UsageError


@usual_defaults()
def probe_loss(path: str, K: int) -> tuple[np.ndarray, np.ndarray]:
    """Try the loss of your own file on fixed logits and targets (R, B, K).

    R, B and K are three different numbers, so that no axis passes for another. The targets are
    smoothed labels, positive in every class, each with a clear maximum.

    Args:
        path: of the file, see `lsnc_core.custom`.
        K: at least 2.

    Returns:
        Losses float (R, B), and gradients float (R, B, K) of their sum with respect to the logits.

    Raises:
        UsageError: unless the losses are one floating-point number per sample, finite, with finite
            gradients, the same at every call, and independent of the other samples; and as
            `custom.load`.
    """
    loss = losses.find(path)
    R, B = [number for number in (2, 3, 4) if number != K][:2]
    entries = torch.arange(R * B * K, dtype=torch.float32).view(R, B, K)
    # sines of 1, 2, ... radians look like draws but are the same under every version of torch
    logits = 3 * torch.sin(1.7 * entries)
    spread = torch.softmax(torch.cos(entries), -1)
    onehot = torch.nn.functional.one_hot(torch.arange(R * B).view(R, B) % K, K)
    targets = 0.9 * onehot + 0.1 * spread

    values, gradients = _evaluate(loss, path, logits, targets)
    again, _ = _evaluate(loss, path, logits, targets)
    if not torch.equal(values, again):
        raise UsageError(
            f"loss() of {path} returns other values at every call: "
            "it must be a fixed function of logits and targets."
        )
    for replica, sample in np.ndindex(R, B):
        one = slice(replica, replica + 1), slice(sample, sample + 1)
        alone, _ = _evaluate(loss, path, logits[one], targets[one])
        # a sample's sum over classes may round differently alone
        if not torch.allclose(alone, values[one], rtol=1e-4, atol=1e-5):
            raise UsageError(
                f"loss() of {path} mixes samples: the loss of one sample must not depend on the "
                "other samples of its batch."
            )
    return values.numpy(), gradients.numpy()


def _evaluate(
    loss: "losses.Loss", path: str, logits: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses and the gradient of their sum, checked one by one."""
    logits = logits.clone().requires_grad_()
    with torch.enable_grad():
        # not a leaf, as in training: a loss may change its logits in place
        values = loss(logits * 1, targets.clone())
    wanted = tuple(logits.shape[:-1])
    if not isinstance(values, torch.Tensor):
        raise UsageError(
            f"loss() of {path} must return a tensor of one loss per sample, "
            f"but it returns {type(values).__name__}."
        )
    if tuple(values.shape) != wanted:
        raise UsageError(
            f"loss() of {path} must return one loss per sample, shape {wanted} for logits of "
            f"shape {tuple(logits.shape)}, but it returns shape {tuple(values.shape)}."
        )
    if not values.is_floating_point():
        raise UsageError(
            f"loss() of {path} must return floating-point numbers, but it returns {values.dtype}."
        )
    gradient = None
    if values.requires_grad:
        ones = torch.ones_like(values)
        (gradient,) = torch.autograd.grad(values, logits, ones, allow_unused=True)
    if gradient is None:
        raise UsageError(
            f"loss() of {path} has no gradient with respect to the logits: "
            "compute it from them with differentiable functions of torch."
        )
    if not (values.isfinite().all() and gradient.isfinite().all()):
        raise UsageError(
            f"loss() of {path} or its gradient is not finite for logits between -3 and 3 and "
            "smoothed labels."
        )
    return values.detach(), gradient
