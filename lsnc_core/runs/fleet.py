"""Trains many networks of one shape together: all replicas see the same images in the same order.

One definition of the training step serves every kind of network (see `replicas`); labels,
smoothing, loss, rate, decays and seed may differ per replica. R replicas, B images, K classes.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from lsnc_core import labels, losses
from lsnc_core.errors import UsageError
from lsnc_core.images import ImageSet, crops_and_flips, crops_and_flips_of, standardise
from lsnc_core.runs import checkpoint as checkpoints
from lsnc_core.runs import prepare
from lsnc_core.runs.graphs import recorded
from lsnc_core.runs.measure import Trained, measure, named, of_replica
from lsnc_core.runs.replicas import hold
from lsnc_core.runs.spec import PER_REPLICA, RunSpec

# A run that is stopped loses at most this much work, or where writing takes long so many times as
# long as that.
CHECKPOINT_SECONDS, CHECKPOINT_SHARE = 60, 20


@torch.no_grad()
def sgd_step(
    parameters: Sequence[torch.Tensor],
    gradients: Sequence[torch.Tensor],
    velocities: Sequence[torch.Tensor],
    rates: Sequence[torch.Tensor],
    decays: Sequence[torch.Tensor] | None,
    momentum: float,
) -> None:
    """One step of SGD in place: `v <- momentum v + gradient + decay w`, `w <- w - rate v`; rates
    and decays broadcast to the parameters.

    torch.optim.SGD knows one rate per tensor, not one per replica in it.
    """
    for number, (parameter, gradient, velocity) in enumerate(
        zip(parameters, gradients, velocities, strict=True)
    ):
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
        specs: runs of one `company`: they may differ in the settings of `spec.PER_REPLICA` only.
        image_set: the set that the specs name, whole.
        device: where to train.
        progress: called with the number of network-epochs done since the last call.
        checkpoint: a file to go on from where it is there, written every `CHECKPOINT_SECONDS`; what
            is computed does not depend on it. The caller deletes it.

    Returns:
        For each spec, in order: its history, one mapping per epoch of `evaluate_at` with `epoch`,
            `kept` (the share of training
        labels that the noise left as they were), `train_loss` (of the spec's kind) and
        `train_accuracy` (against the smoothed noisy labels), `train_smoothed_loss` and
        `train_forward_loss` (cross-entropy and forward correction, both against the spec's targets,
        see `prepare.targets`; where those sum to 1 the first minus the second is the Jensen gap of
        Chen eq. 18), `clean_train_*` (training inputs, clean labels), `validation_*` where there
        are such images and `test_*` (held-out inputs, clean labels), cross-entropies in nats; and
        its tensors, one mapping per such epoch with `weight` float32 (K, D) and `bias` (K,) of the
        classifier, for each part statistics of the features by clean label (see
        `ClassStatistics.summary`, without the leading axis), after the last epoch `*_logits`
        float32 (N, K), and at the epochs of `keep_at` `test_features` float32 (N, D),
        `validation_logits` and `test_logits`.

    Raises:
        UsageError: for specs that cannot train together, or a set too small.
    """
    shared = specs[0]
    if any(spec.company != shared.company for spec in specs):
        raise UsageError(f"runs that train together may differ in {', '.join(PER_REPLICA)} only.")
    chosen = image_set.subset(shared.train_size + shared.validation_size, shared.test_size)
    train_images, test_images = (
        images.to(device) for images in standardise(chosen, shared.pool)
    )  # (N, C, H, W)
    image_shape, classes = tuple(train_images.shape[1:]), chosen.num_classes
    train_images, validation_images = train_images.split(
        [shared.train_size, shared.validation_size]
    )
    clean, validation_labels = chosen.train_labels.to(device).split(
        [shared.train_size, shared.validation_size]
    )
    parts = {"train": (train_images, clean), "test": (test_images, chosen.test_labels.to(device))}
    if shared.validation_size:
        parts["validation"] = validation_images, validation_labels
    del image_set, chosen  # the pixels as they were read are not needed any more

    noisy = torch.stack(
        [prepare.noisy_labels(spec, clean.cpu(), classes) for spec in specs]
    )  # (R, N)
    kept = (noisy == clean.cpu()).double().mean(1).tolist()
    targets = torch.empty(*noisy.shape, classes)  # (R, N, K)
    for replica, spec in enumerate(specs):
        targets[replica] = prepare.targets(spec, noisy[replica], classes)
    noisy, targets = noisy.to(device), targets.to(device)

    replicas = hold(
        [prepare.build(spec, image_shape, classes) for spec in specs], image_shape, device
    )
    base_rate = prepare.column(specs, "lr", device)  # (R,)
    rate = base_rate.clone()
    rates, decays = replicas.spread(rate), prepare.decays(specs, replicas, device)
    feature_decay = prepare.column(specs, "lambda_H", device) * shared.train_size / 2  # (R,)
    penalised = any(spec.lambda_H for spec in specs)
    velocities = [torch.zeros_like(parameter) for parameter in replicas.parameters]
    fit = losses.per_replica([spec.loss for spec in specs], device)
    half = shared.precision == "bfloat16"

    def step(rows: torch.Tensor, *moves: torch.Tensor) -> None:
        images = crops_and_flips_of(train_images, rows, *moves) if moves else train_images[rows]
        # weights change every step: autocast has no use for keeping their rounded copies
        with torch.autocast(device.type, torch.bfloat16, enabled=half, cache_enabled=False):
            features, logits = replicas.forward(images)  # (R, B, D), (R, B, K)
        loss = fit(logits.float(), targets[:, rows]).mean(1)  # (R,)
        if penalised:
            loss = loss + feature_decay * features.float().square().sum(2).mean(1)
        # the sum over replicas: each one's gradient is that of its own loss
        gradients = torch.autograd.grad(loss.sum(), replicas.parameters)
        if shared.clip:
            shrink = (shared.clip / (replicas.square_norms(gradients).sqrt() + 1e-6)).clamp(
                max=1
            )  # (R,), as torch's clip_grad_norm_
            gradients = [
                gradient * factor
                for gradient, factor in zip(gradients, replicas.spread(shrink), strict=True)
            ]
        sgd_step(replicas.parameters, gradients, velocities, rates, decays, shared.momentum)

    step = recorded(step, device)
    state = [*replicas.parameters, *replicas.buffers, *velocities]
    order = labels.generator(shared.order_seed, "order")
    first, measured = 1, []
    if checkpoint and (found := _resume(checkpoint, state, order)):
        first, measured = found
        progress((first - 1) * len(specs))
    due = time.monotonic() + CHECKPOINT_SECONDS
    for epoch in range(first, shared.epochs + 1):
        rate.copy_(base_rate * prepare.rate_factor(shared, epoch))
        for rows in (
            torch.randperm(len(train_images), generator=order).to(device).split(shared.batch)
        ):
            moves = crops_and_flips(len(rows), order) if shared.augment == "crop-flip" else ()
            step(rows, *(tensor.to(device) for tensor in moves))
        if epoch in shared.evaluate_at:
            found, keep = {}, epoch in shared.keep_at
            for part, (images, truth) in parts.items():
                fitted = (fit, targets, noisy) if part == "train" else None
                found[part] = measure(replicas, images, truth, fitted, keep and part == "test")
            logits_of = parts if epoch == shared.epochs else set(parts) - {"train"} if keep else ()
            measured.append({"epoch": epoch} | named(found, replicas.classifier(), logits_of))
        progress(len(specs))
        if checkpoint and epoch < shared.epochs and (start := time.monotonic()) >= due:
            content = {
                "epoch": epoch,
                "state": [tensor.detach() for tensor in state],
                "order": order.get_state(),
                "measured": measured,
            }
            checkpoints.write(checkpoint, content)
            due = time.monotonic() + max(
                CHECKPOINT_SECONDS, CHECKPOINT_SHARE * (time.monotonic() - start)
            )
    return [of_replica(measured, replica, {"kept": kept[replica]}) for replica in range(len(specs))]


@torch.no_grad()
def _resume(
    checkpoint: Path, state: Sequence[torch.Tensor], order: torch.Generator
) -> tuple[int, list[dict]] | None:
    """Put a checkpoint's tensors and batch order in place; the next epoch and the measurements so
    far, or None without one of these.
    """
    found = checkpoints.read(checkpoint)
    if found is None or [tensor.shape for tensor in found["state"]] != [
        tensor.shape for tensor in state
    ]:
        return None
    for tensor, value in zip(state, found["state"], strict=True):
        tensor.copy_(value)
    order.set_state(found["order"])
    return found["epoch"] + 1, found["measured"]
