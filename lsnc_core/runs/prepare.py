"""From specs to what training needs: networks, noisy labels, targets, learning rates, weight decay.

R replicas, N images, K classes.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch

from lsnc_core import data, labels, models
from lsnc_core.label_files import is_label_file
from lsnc_core.runs.replicas import Listed, Stacked
from lsnc_core.runs.spec import RunSpec


def build(spec: RunSpec, image_shape: tuple[int, int, int], classes: int) -> models.Network:
    """The network of a spec with its initial weights, drawn with the spec's seed."""
    options = {name: True for name in ("batch_norm", "feature_norm") if getattr(spec, name)}
    network = models.build(spec.model, image_shape, classes, spec.widths, **options)
    return models.initialise(network, labels.generator(spec.seed, "weights"), spec.init)


def noise_matrix(spec: RunSpec, classes: int) -> np.ndarray:
    """The noise matrix T of a spec, float64 (K, K), columns sum to 1; of labels from a file, how
    they are distributed.
    """
    if is_label_file(spec.noise):
        return data.given_labels(spec.noise, spec.data).matrix
    return labels.noise_matrix(spec.noise, spec.a, classes)


def noisy_labels(spec: RunSpec, clean: torch.Tensor, classes: int) -> torch.Tensor:
    """The training labels after a spec's label noise, drawn with its seed or from a file.

    Args: clean, of the first N training images, int64 (N,).
    Returns: int64 (N,).
    """
    if is_label_file(spec.noise):
        return data.given_labels(spec.noise, spec.data).labels[: len(clean)].clone()
    return labels.corrupt(clean, noise_matrix(spec, classes), spec.seed)


def targets(spec: RunSpec, noisy: torch.Tensor, classes: int) -> torch.Tensor:
    """What a spec's loss compares logits with, float32 (N, K).

    These are smoothed labels, or for forward correction the noisy labels' rows of T.
    """
    T = noise_matrix(spec, classes)
    if spec.loss == "forward":
        return labels.rows_of(T, noisy)  # row i is P(clean j becomes i)
    return labels.smoothed_targets(spec.smoothing, noisy, spec.p, T)


def lr_factor(spec: RunSpec, epoch: int) -> float:
    """What the learning rate is multiplied by in an epoch, counted from 1."""
    if spec.schedule == "steps":
        return spec.lr_factor ** sum(epoch > step for step in spec.lr_steps)
    if spec.schedule == "cosine":
        return (1 + math.cos(math.pi * (epoch - 1) / spec.epochs)) / 2
    return 1.0


def column(specs: Sequence[RunSpec], name: str, device: torch.device) -> torch.Tensor:
    """One setting of all specs, float32 (R,)."""
    return torch.tensor([getattr(spec, name) for spec in specs], dtype=torch.float32, device=device)


def weight_decays(
    specs: Sequence[RunSpec], replicas: Stacked | Listed, device: torch.device
) -> list[torch.Tensor] | None:
    """The weight decay of each parameter and replica for `sgd.sgd_step`; None where it is 0."""
    if not any(spec.weight_decay or spec.lambda_W or spec.lambda_b for spec in specs):
        return None
    everywhere, weight, bias = (
        column(specs, name, device) for name in ("weight_decay", "lambda_W", "lambda_b")
    )
    return replicas.spread(everywhere, everywhere + weight, everywhere + bias)
