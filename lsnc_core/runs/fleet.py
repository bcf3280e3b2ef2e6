"""Trains many networks of one shape together: all replicas see the same images in the same order.

One definition of the training step serves every kind of network (see `replicas`); labels, smoothing, learning rate, weight decay
and seed may differ per replica. R replicas, B images, K classes.
"""

import pickle
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from lsnc_core import files, labels, losses, models
from lsnc_core.errors import UsageError
from lsnc_core.images import ImageSet, standardise
from lsnc_core.runs.replicas import Listed, Stacked, hold
from lsnc_core.runs.spec import RunSpec

EVALUATION_BATCH = 1024
# A run that is stopped loses at most this much work.
CHECKPOINT_SECONDS = 60


def build(spec: RunSpec, image_shape: tuple[int, int, int], classes: int) -> models.Network:
    """The network of a spec with its initial weights, drawn by the spec's seed."""
    if spec.model == "cnn":
        network = models.cnn(image_shape, classes, spec.widths[:2], spec.widths[2])
    elif spec.model == "mlp":
        network = models.mlp(image_shape, classes, spec.widths)
    else:
        network = models.resnet18(image_shape, classes, *spec.widths)
    return models.initialise(network, labels.generator(spec.seed, "weights"))


@torch.no_grad()
def measure(
    replicas: Stacked | Listed,
    images: torch.Tensor,
    clean: torch.Tensor,
    fitted: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> dict[str, torch.Tensor]:
    """Means over the images, float (N, C, H, W), of losses in nats and accuracies, each float64 (R,).

    `loss` and `accuracy` are against the clean labels int64 (N,); `uniform_loss` is the cross-entropy against the uniform
    distribution (with `loss` it gives the expected loss against labels with any symmetric noise). Where the targets float
    (R, N, K) and noisy labels int64 (R, N) that were fitted are given, `fit_loss` and `fit_accuracy` are against those.
    """
    sums: dict[str, torch.Tensor] = {}
    replicas.train(False)

    def add(name: str, values: torch.Tensor) -> None:
        sums[name] = sums.get(name, 0) + values.double().sum(1)

    for start in range(0, len(images), EVALUATION_BATCH):
        part = slice(start, start + EVALUATION_BATCH)
        surprise = -replicas.forward(images[part]).log_softmax(-1)  # (R, B, K)
        guess = surprise.argmin(-1)  # (R, B)
        add("loss", surprise.gather(2, clean[part].expand(len(surprise), -1)[..., None])[..., 0])
        add("accuracy", guess == clean[part])
        add("uniform_loss", surprise.mean(2))
        if fitted is not None:
            targets, noisy = fitted
            add("fit_loss", (targets[:, part] * surprise).sum(-1))
            add("fit_accuracy", guess == noisy[:, part])
    replicas.train(True)
    return {name: value / len(images) for name, value in sums.items()}


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
) -> list[list[dict]]:
    """Train the networks of all specs together by SGD on smoothed noisy labels.

    Args:
        specs: runs of one `company`: they may differ in a, p, seed, lr and weight_decay only.
        image_set: the set that the specs name, whole.
        device: where to train.
        progress: called with the number of network-epochs done since the last call.
        checkpoint: a file to go on from where it is there, written every `CHECKPOINT_SECONDS`; what is computed does not depend
            on it. The caller deletes it.

    Returns:
        For each spec its history: one mapping per epoch of `evaluate_at` with `epoch`, `kept` (the share of training labels
        that the noise left as they were), `train_loss` and `train_accuracy` (against the smoothed noisy labels),
        `clean_train_*` (training inputs, clean labels) and `test_*` (held-out inputs, clean labels); losses in nats.

    Raises:
        UsageError: for specs that cannot train together, or a set too small.
    """
    shared = specs[0]
    if any(spec.company != shared.company for spec in specs):
        raise UsageError("runs that train together may differ in a, p, seed, lr and weight_decay only.")
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
    state = [*replicas.parameters, *replicas.buffers, *velocities]
    order = labels.generator(shared.order_seed, "order")
    first, histories = 1, [[] for _ in specs]
    if checkpoint and (found := _resume(checkpoint, state, order)):
        first, histories = found
        progress((first - 1) * len(specs))
    saved = time.monotonic()
    for epoch in range(first, shared.epochs + 1):
        for rows in torch.randperm(len(train_images), generator=order).to(device).split(shared.batch):
            # the sum over replicas: each one's gradient is that of its own mean loss
            loss = losses.cross_entropy(replicas.forward(train_images[rows]), targets[:, rows]).mean(1).sum()
            gradients = torch.autograd.grad(loss, replicas.parameters)
            sgd_step(replicas.parameters, gradients, velocities, rates, decays, shared.momentum)
        if epoch in shared.evaluate_at:
            on_train = measure(replicas, train_images, clean, (targets, noisy))
            on_test = measure(replicas, test_images, test_labels)
            found = {"train_loss": on_train.pop("fit_loss"), "train_accuracy": on_train.pop("fit_accuracy")}
            found |= {f"clean_train_{name}": value for name, value in on_train.items()}
            found |= {f"test_{name}": value for name, value in on_test.items()}
            columns = {name: value.tolist() for name, value in found.items()}
            for replica, history in enumerate(histories):
                history.append({"epoch": epoch, "kept": kept[replica]} | {name: values[replica] for name, values in columns.items()})
        progress(len(specs))
        if checkpoint and epoch < shared.epochs and time.monotonic() - saved >= CHECKPOINT_SECONDS:
            content = {"epoch": epoch, "state": [tensor.detach() for tensor in state], "order": order.get_state(), "histories": histories}
            files.write_whole(checkpoint, lambda path, content=content: torch.save(content, path))
            saved = time.monotonic()
    return histories


@torch.no_grad()
def _resume(checkpoint: Path, state: Sequence[torch.Tensor], order: torch.Generator) -> tuple[int, list[list[dict]]] | None:
    """Put a checkpoint's tensors and batch order in place; the next epoch and the histories so far, or None without a readable one."""
    try:
        found = torch.load(checkpoint, map_location="cpu", weights_only=True)
        epoch, kept, histories, draws = found["epoch"], found["state"], found["histories"], found["order"]
        if [tensor.shape for tensor in kept] != [tensor.shape for tensor in state]:
            return None
    except (OSError, EOFError, RuntimeError, KeyError, TypeError, AttributeError, pickle.UnpicklingError):
        return None
    for tensor, value in zip(state, kept, strict=True):
        tensor.copy_(value)
    order.set_state(draws)
    return epoch + 1, histories
