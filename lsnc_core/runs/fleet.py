"""Trains many networks of one shape together: all replicas see the same images in the same order.

One definition of the training step serves every kind of network (see `replicas`); labels, smoothing, loss, learning
rate, weight decay and seed may differ per replica. R replicas, B images, K classes.
"""

import pickle
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from lsnc_core import files, labels, losses, models
from lsnc_core.errors import UsageError
from lsnc_core.images import ImageSet, standardise
from lsnc_core.runs.graphs import Graphed
from lsnc_core.runs.replicas import Listed, Stacked, hold
from lsnc_core.runs.spec import RunSpec
from lsnc_core.runs.statistics import ClassStatistics

EVALUATION_BATCH = 256
# A run that is stopped loses at most this much work.
CHECKPOINT_SECONDS = 60


def build(spec: RunSpec, image_shape: tuple[int, int, int], classes: int) -> models.Network:
    """The network of a spec with its initial weights, drawn by the spec's seed."""
    if spec.model == "cnn":
        network = models.cnn(image_shape, classes, spec.widths[:2], spec.widths[2])
    elif spec.model == "lenet":
        network = models.lenet(image_shape, classes, spec.widths[:2], spec.widths[2])
    elif spec.model == "mlp":
        network = models.mlp(image_shape, classes, spec.widths)
    else:
        network = models.resnet18(image_shape, classes, *spec.widths)
    return models.initialise(network, labels.generator(spec.seed, "weights"))


class Trained(NamedTuple):
    """What is known of a trained network: for each epoch of `evaluate_at` a mapping of numbers and one of arrays."""

    history: list[dict[str, float]]
    tensors: list[dict[str, np.ndarray]]


class Measured(NamedTuple):
    """What `measure` finds: means by name, float64 (R,); statistics by name, see `ClassStatistics.summary`; logits float (R, N, K)."""

    means: dict[str, torch.Tensor]
    statistics: dict[str, torch.Tensor]
    logits: torch.Tensor


@torch.no_grad()
def measure(
    replicas: Stacked | Listed,
    images: torch.Tensor,
    clean: torch.Tensor,
    fitted: tuple[Callable, torch.Tensor, torch.Tensor] | None = None,
) -> Measured:
    """Means over the images, float (N, C, H, W), of losses and accuracies, the statistics of their features, and their logits.

    `loss` and `accuracy` are against the clean labels int64 (N,); `uniform_loss` is the cross-entropy against the uniform
    distribution (with `loss` it gives the expected loss against labels with any symmetric noise); both in nats. Where the loss
    (see `losses.per_replica`), the targets float (R, N, K) and the noisy labels int64 (R, N) that were fitted are given, `fit_loss`
    is that loss and `fit_accuracy` is against those labels.
    """
    sums: dict[str, torch.Tensor] = {}
    weight, _ = replicas.classifier()
    statistics = ClassStatistics(*weight.shape, device=images.device)
    kept = []
    replicas.train(False)

    def add(name: str, values: torch.Tensor) -> None:
        sums[name] = sums.get(name, 0) + values.double().sum(1)

    for start in range(0, len(images), EVALUATION_BATCH):
        part = slice(start, start + EVALUATION_BATCH)
        features, logits = replicas.forward(images[part])  # (R, B, D), (R, B, K)
        statistics.update(features, clean[part])
        kept.append(logits)
        surprise = -logits.log_softmax(-1)
        guess = surprise.argmin(-1)  # (R, B)
        add("loss", surprise.gather(2, clean[part].expand(len(surprise), -1)[..., None])[..., 0])
        add("accuracy", guess == clean[part])
        add("uniform_loss", surprise.mean(2))
        if fitted is not None:
            fit, targets, noisy = fitted
            add("fit_loss", fit(logits, targets[:, part]))
            add("fit_accuracy", guess == noisy[:, part])
    replicas.train(True)
    means = {name: value / len(images) for name, value in sums.items()}
    return Measured(means, statistics.summary(), torch.cat(kept, 1))


@torch.no_grad()
def sgd_step(
    parameters: Sequence[torch.Tensor],
    gradients: Sequence[torch.Tensor],
    velocities: Sequence[torch.Tensor],
    rates: Sequence[torch.Tensor],
    decays: Sequence[torch.Tensor] | None,
    momentum: float,
) -> None:
    """One step of SGD in place: `v <- momentum v + gradient + decay w`, `w <- w - rate v`; rates and decays broadcast to the parameters.

    torch.optim.SGD knows one rate per tensor, not one per replica in it.
    """
    for number, (parameter, gradient, velocity) in enumerate(zip(parameters, gradients, velocities, strict=True)):
        velocity.mul_(momentum).add_(gradient)
        if decays is not None:
            velocity.addcmul_(parameter, decays[number])
        parameter.addcmul_(velocity, rates[number], value=-1)


def train(
    specs: Sequence[RunSpec],
    image_set: ImageSet,
    device: torch.device,
    progress: Callable[[int], object] = lambda epochs: None,
    checkpoint: Path | None = None,
) -> list[Trained]:
    """Train the networks of all specs together by SGD on smoothed noisy labels.

    Args:
        specs: runs of one `company`: they may differ in a, p, loss, seed, lr and weight_decay only.
        image_set: the set that the specs name, whole.
        device: where to train.
        progress: called with the number of network-epochs done since the last call.
        checkpoint: a file to go on from where it is there, written every `CHECKPOINT_SECONDS`; what is computed does not depend
            on it. The caller deletes it.

    Returns:
        For each spec, in order: its history, one mapping per epoch of `evaluate_at` with `epoch`, `kept` (the share of training
        labels that the noise left as they were), `train_loss` (of the spec's kind) and `train_accuracy` (against the smoothed noisy
        labels), `clean_train_*` (training inputs, clean labels) and `test_*` (held-out inputs, clean labels), cross-entropies in
        nats; and its tensors, one mapping per such epoch with `weight` float32 (K, D) and `bias` (K,) of the classifier,
        `train_*` and `test_*` statistics of the features by clean label (see `ClassStatistics.summary`, without the leading axis),
        and after the last epoch `train_logits` and `test_logits` float32 (N, K).

    Raises:
        UsageError: for specs that cannot train together, or a set too small.
    """
    shared = specs[0]
    if any(spec.company != shared.company for spec in specs):
        raise UsageError("runs that train together may differ in a, p, loss, seed, lr and weight_decay only.")
    chosen = image_set.subset(shared.train_size, shared.test_size)
    train_images, test_images = (images.to(device) for images in standardise(chosen, shared.pool))  # (N, C, H, W)
    image_shape, classes = tuple(train_images.shape[1:]), chosen.num_classes
    clean, test_labels = chosen.train_labels.to(device), chosen.test_labels.to(device)

    noisy = torch.stack([labels.corrupt(chosen.train_labels, labels.symmetric_noise(spec.a, classes), spec.seed) for spec in specs])
    kept = (noisy == chosen.train_labels).double().mean(1).tolist()
    targets = torch.stack([labels.soft_targets(row, spec.p, classes) for row, spec in zip(noisy, specs, strict=True)])
    noisy, targets = noisy.to(device), targets.to(device)  # (R, N), (R, N, K)

    replicas = hold([build(spec, image_shape, classes) for spec in specs], image_shape, device)
    rates = replicas.spread(torch.tensor([spec.lr for spec in specs], device=device))
    decays = (
        replicas.spread(torch.tensor([spec.weight_decay for spec in specs], device=device)) if any(s.weight_decay for s in specs) else None
    )
    velocities = [torch.zeros_like(parameter) for parameter in replicas.parameters]
    fit = losses.per_replica([spec.loss for spec in specs], device)
    half = shared.precision == "bfloat16"

    def step(rows: torch.Tensor) -> None:
        # weights change every step: autocast has no use for keeping their rounded copies
        with torch.autocast(device.type, torch.bfloat16, enabled=half, cache_enabled=False):
            _, logits = replicas.forward(train_images[rows])  # (R, B, K)
        # the sum over replicas: each one's gradient is that of its own mean loss
        loss = fit(logits.float(), targets[:, rows]).mean(1).sum()
        sgd_step(replicas.parameters, torch.autograd.grad(loss, replicas.parameters), velocities, rates, decays, shared.momentum)

    if device.type == "cuda":
        step = Graphed(step)
    state = [*replicas.parameters, *replicas.buffers, *velocities]
    order = labels.generator(shared.order_seed, "order")
    first, measured = 1, []
    if checkpoint and (found := _resume(checkpoint, state, order)):
        first, measured = found
        progress((first - 1) * len(specs))
    saved = time.monotonic()
    for epoch in range(first, shared.epochs + 1):
        for rows in torch.randperm(len(train_images), generator=order).to(device).split(shared.batch):
            step(rows)
        if epoch in shared.evaluate_at:
            on_train = measure(replicas, train_images, clean, (fit, targets, noisy))
            on_test = measure(replicas, test_images, test_labels)
            measured.append({"epoch": epoch} | _named(on_train, on_test, replicas.classifier(), with_logits=epoch == shared.epochs))
        progress(len(specs))
        if checkpoint and epoch < shared.epochs and time.monotonic() - saved >= CHECKPOINT_SECONDS:
            content = {"epoch": epoch, "state": [tensor.detach() for tensor in state], "order": order.get_state(), "measured": measured}
            files.write_whole(checkpoint, lambda path, content=content: torch.save(content, path))
            saved = time.monotonic()
    return [_trained(measured, replica, {"kept": kept[replica]}) for replica in range(len(specs))]


def _named(on_train: Measured, on_test: Measured, classifier: tuple[torch.Tensor, torch.Tensor], with_logits: bool) -> dict:
    """One epoch's measurements under the names of `train`'s tables and tensors, on the CPU, each with a leading axis R."""
    means = dict(on_train.means)
    found = {"train_loss": means.pop("fit_loss"), "train_accuracy": means.pop("fit_accuracy")}
    found |= {f"clean_train_{name}": value for name, value in means.items()}
    found |= {f"test_{name}": value for name, value in on_test.means.items()}
    weight, bias = classifier
    tensors = {"weight": weight.clone(), "bias": bias.clone()}
    for part, measured in (("train", on_train), ("test", on_test)):
        for name, value in measured.statistics.items():
            # sums over K classes lose nothing in float64; the rest is no more exact than the float32 features
            tensors[f"{part}_{name}"] = value if name == "projected" else value.long() if name == "counts" else value.float()
        if with_logits:
            tensors[f"{part}_logits"] = measured.logits
    return {
        "means": {name: value.cpu() for name, value in found.items()},
        "tensors": {name: value.cpu() for name, value in tensors.items()},
    }


def _trained(measured: list[dict], replica: int, constants: dict[str, float]) -> Trained:
    """One network's part of what was measured of all."""
    history = [
        {"epoch": row["epoch"]} | constants | {name: value[replica].item() for name, value in row["means"].items()} for row in measured
    ]
    return Trained(history, [{name: value[replica].numpy() for name, value in row["tensors"].items()} for row in measured])


@torch.no_grad()
def _resume(checkpoint: Path, state: Sequence[torch.Tensor], order: torch.Generator) -> tuple[int, list[dict]] | None:
    """Put a checkpoint's tensors and batch order in place; the next epoch and the measurements so far, or None without a readable one."""
    try:
        found = torch.load(checkpoint, map_location="cpu", weights_only=True)
        epoch, kept, measured, draws = found["epoch"], found["state"], found["measured"], found["order"]
        if [tensor.shape for tensor in kept] != [tensor.shape for tensor in state]:
            return None
    except (OSError, EOFError, RuntimeError, KeyError, TypeError, AttributeError, pickle.UnpicklingError):
        return None
    for tensor, value in zip(state, kept, strict=True):
        tensor.copy_(value)
    order.set_state(draws)
    return epoch + 1, measured
