"""What is measured of networks in training: losses, accuracies, feature statistics, logits.

R replicas, N images, B of a batch, K classes, D feature width.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from lsnc_core import losses
from lsnc_core.runs.replicas import Listed, Stacked
from lsnc_core.runs.statistics import ClassStatistics

EVALUATION_BATCH = 256


class Trained(NamedTuple):
    """What is kept of a trained network: numbers and arrays by name, per epoch of `evaluate_at`.

    And by which library a CPU multiplied, see `products`.
    """

    history: list[dict[str, float]]
    tensors: list[dict[str, np.ndarray]]
    products: Mapping[str, str]


class Measured(NamedTuple):
    """What `measure` returns.

    means: by name, float64 (R,). statistics: by name, see `ClassStatistics.summary`. features:
    float (R, N, D) where they were asked for. logits: float (R, N, K).
    """

    means: dict[str, torch.Tensor]
    statistics: dict[str, torch.Tensor]
    features: torch.Tensor | None
    logits: torch.Tensor


@torch.no_grad()
def measure(
    replicas: Stacked | Listed,
    images: torch.Tensor,
    clean: torch.Tensor,
    fitted: tuple[Callable, torch.Tensor, torch.Tensor] | None = None,
    keep: bool = False,
) -> Measured:
    """Measure losses, accuracies and feature statistics of all networks, as they are now.

    Args:
        replicas: R networks.
        images: float (N, C, H, W).
        clean: their labels, int64 (N,).
        fitted: of training images the loss (see `losses.per_replica`), the targets float (R, N, K)
            and the noisy labels int64 (R, N).
        keep: whether to keep features, on the CPU.

    Returns:
        Means over the images. `loss` and `accuracy` are against the clean labels; `uniform_loss` is
        the cross-entropy against the uniform distribution (with `loss` it gives the expected loss
        against labels with any symmetric noise); both in nats. Of what was `fitted`, `fit_loss` is
        the loss, `fit_accuracy` is against the noisy labels, and `fit_smoothed_loss` and
        `fit_forward_loss` are `losses.cross_entropy` and `losses.forward_correction` of the
        targets, whatever the loss.
    """
    sums: dict[str, torch.Tensor] = {}
    weight, _ = replicas.classifier()
    R, K, D = weight.shape
    statistics = ClassStatistics(R, K, D, device=images.device)
    all_logits = torch.empty(R, len(images), K, device=images.device)
    all_features = torch.empty(R, len(images), D) if keep else None
    replicas.train(False)

    def add(name: str, values: torch.Tensor) -> None:
        total = values.double().sum(1)
        sums[name] = sums[name] + total if name in sums else total

    for start in range(0, len(images), EVALUATION_BATCH):
        part = slice(start, start + EVALUATION_BATCH)
        features, logits = replicas.forward(images[part])  # (R, B, D), (R, B, K)
        statistics.update(features, clean[part])
        all_logits[:, part] = logits
        if all_features is not None:
            all_features[:, part] = features.cpu()
        surprise = -losses.log_softmax(logits)
        guess = surprise.mT.min(1).indices  # (R, B); on a CPU fast along this axis alone
        add("loss", surprise.gather(2, clean[part].expand(len(surprise), -1)[..., None])[..., 0])
        add("accuracy", guess == clean[part])
        add("uniform_loss", surprise.mean(2))
        if fitted is not None:
            fit, targets, noisy = fitted
            rows = targets[:, part]  # (R, B, K)
            add("fit_loss", fit(logits, rows))
            add("fit_accuracy", guess == noisy[:, part])
            # Both losses share the softmax above. Where a target is 0 its logarithm is -inf, which
            # adds nothing to the sum.
            add("fit_smoothed_loss", (rows * surprise).sum(2))
            add("fit_forward_loss", -(rows.log() - surprise).logsumexp(2))
    replicas.train(True)
    means = {name: value / len(images) for name, value in sums.items()}
    return Measured(means, statistics.summary(), all_features, all_logits)


def named(
    parts: dict[str, Measured],
    classifier: tuple[torch.Tensor, torch.Tensor],
    logits_of: Collection[str],
) -> dict[str, dict[str, torch.Tensor]]:
    """One epoch's measurements under the names of `fleet.train`.

    Args:
        parts: what was measured, by part.
        classifier: weights (R, K, D) and biases (R, K).
        logits_of: the parts whose logits are kept.

    Returns:
        `means` and `tensors`, each a mapping of tensors by name, on the CPU, with a leading axis R.
    """
    means = dict(parts["train"].means)
    numbers = {
        f"train_{name}": means.pop(f"fit_{name}")
        for name in ("loss", "accuracy", "smoothed_loss", "forward_loss")
    }
    numbers |= {f"clean_train_{name}": value for name, value in means.items()}
    weight, bias = classifier
    tensors = {"weight": weight.clone(), "bias": bias.clone()}
    for part, measured in parts.items():
        if part != "train":
            numbers |= {f"{part}_{name}": value for name, value in measured.means.items()}
        for name, value in measured.statistics.items():
            if name == "counts":
                value = value.long()
            elif name != "projected":  # no more exact than the float32 features
                value = value.float()
            tensors[f"{part}_{name}"] = value
        if measured.features is not None:
            tensors[f"{part}_features"] = measured.features
        if part in logits_of:
            tensors[f"{part}_logits"] = measured.logits
    return {
        "means": {name: value.cpu() for name, value in numbers.items()},
        "tensors": {name: value.cpu() for name, value in tensors.items()},
    }


def of_replica(
    measured: Sequence[dict],
    replica: int,
    constants: dict[str, float],
    products: Mapping[str, str],
) -> Trained:
    """One network's part of what was measured of all.

    Args:
        measured: one mapping per epoch: `epoch`, and `means` and `tensors` as `named` gives them.
        replica: which network.
        constants: numbers that are the same in every epoch.
        products: of the result.
    """
    history, tensors = [], []
    for row in measured:
        means = {name: value[replica].item() for name, value in row["means"].items()}
        history.append({"epoch": row["epoch"]} | constants | means)
        tensors.append({name: value[replica].numpy() for name, value in row["tensors"].items()})
    return Trained(history, tensors, products)
