"""From specs to what training needs: networks, noisy labels and their targets, rates and decays. R
replicas, N images, K classes.
"""

import functools
import math
from collections.abc import Sequence

import torch

from lsnc_core import labels, models
from lsnc_core.data_sources import source_of
from lsnc_core.runs.spec import RunSpec


def build(spec: RunSpec, image_shape: tuple[int, int, int], classes: int) -> models.Network:
    """The network of a spec with its initial weights, drawn by the spec's seed."""
    if spec.model == "cnn":
        network = models.cnn(
            image_shape,
            classes,
            spec.widths[:2],
            spec.widths[2],
            spec.batch_norm,
            spec.feature_norm,
        )
    elif spec.model == "lenet":
        network = models.lenet(image_shape, classes, spec.widths[:2], spec.widths[2])
    elif spec.model == "mlp":
        network = models.mlp(image_shape, classes, spec.widths, spec.batch_norm, spec.feature_norm)
    else:
        make = models.resnet18 if spec.model == "resnet18" else models.resnet50
        network = make(image_shape, classes, *spec.widths, feature_norm=spec.feature_norm)
    return models.initialise(network, labels.generator(spec.seed, "weights"))


def forward_operations(spec: RunSpec) -> int:
    """Multiplications and additions of convolutions and linear layers in one image's forward pass,
    counted apart.

    Raises: UsageError, for an unknown image set.
    """
    source, counts = source_of(spec.data), []
    shape = source.shape[0], source.shape[1] // spec.pool, source.shape[2] // spec.pool
    network = build(spec, shape, source.num_classes).eval()
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            layer.register_forward_hook(
                lambda layer, _, out: counts.append(2 * out.numel() * layer.weight[0].numel())
            )
    with torch.no_grad():
        network(torch.zeros(1, *shape))
    return sum(counts)


def operations(spec: RunSpec) -> int:
    """Operations of one epoch of one network's training: a step counts as three forward passes.
    Measuring is left out.
    """
    return 3 * spec.train_size * forward_operations(spec)


@functools.cache
def kept_bytes(spec: RunSpec) -> int:
    """Bytes that one network keeps of a step's forward pass for the backward one, weights left out.

    Raises: UsageError, for an unknown image set.
    """
    source, kept = source_of(spec.data), {}
    shape = source.shape[0], source.shape[1] // spec.pool, source.shape[2] // spec.pool
    network = build(spec, shape, source.num_classes).to("meta")
    weights = {parameter.untyped_storage()._cdata for parameter in network.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(torch.zeros(spec.batch, *shape, device="meta"))
    total = sum(
        tensor.untyped_storage().nbytes()
        for storage, tensor in kept.items()
        if storage not in weights
    )
    return total // 2 if spec.precision == "bfloat16" else total


def noisy_labels(spec: RunSpec, clean: torch.Tensor, classes: int) -> torch.Tensor:
    """The training labels as a spec's noise and seed leave them, int64 (N,)."""
    return labels.corrupt(clean, labels.noise_matrix(spec.noise, spec.a, classes), spec.seed)


def targets(spec: RunSpec, noisy: torch.Tensor, classes: int) -> torch.Tensor:
    """What a spec's loss compares logits with, float32 (N, K): smoothed labels, or for forward
    correction the noisy labels' rows of T.
    """
    if spec.loss == "forward":
        rows = labels.noise_matrix(
            spec.noise, spec.a, classes
        )  # (K, K): row i is P(clean j becomes i)
    elif spec.smoothing == "posterior":
        rows = labels.posterior(
            labels.noise_matrix(spec.noise, spec.a, classes)
        ).T  # (K, K): row k is S* of the noisy label k
    else:
        return labels.soft_targets(noisy, spec.p, classes)
    return torch.from_numpy(rows).float()[noisy]


def rate_factor(spec: RunSpec, epoch: int) -> float:
    """What the rate is multiplied by in an epoch, counted from 1."""
    if spec.schedule == "steps":
        return spec.lr_factor ** sum(epoch > step for step in spec.lr_steps)
    if spec.schedule == "cosine":
        return (1 + math.cos(math.pi * (epoch - 1) / spec.epochs)) / 2
    return 1.0


def column(specs: Sequence[RunSpec], name: str, device: torch.device) -> torch.Tensor:
    """One setting of all specs, float32 (R,)."""
    return torch.tensor([getattr(spec, name) for spec in specs], dtype=torch.float32, device=device)


def decays(specs: Sequence[RunSpec], replicas, device: torch.device) -> list[torch.Tensor] | None:
    """The decay of each parameter and replica, shaped for `fleet.sgd_step`; None where there is
    none.
    """
    if not any(spec.weight_decay or spec.lambda_W or spec.lambda_b for spec in specs):
        return None
    everywhere, weight, bias = (
        column(specs, name, device) for name in ("weight_decay", "lambda_W", "lambda_b")
    )
    return replicas.spread(everywhere, everywhere + weight, everywhere + bias)
