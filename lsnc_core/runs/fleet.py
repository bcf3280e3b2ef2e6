"""Trains many networks of one shape together: all replicas see the same images in the same order.

`Fleet.step` defines the training step of every kind of network (see `replicas`). On a CPU, networks
that can be stacked take the same step written out (see `stacked_step`). Labels, smoothing, loss,
learning rate, weight decay and seed may differ per replica. R replicas, N images, B images of a
batch, K classes, D feature width.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from lsnc_core import labels, losses
from lsnc_core.errors import UsageError
from lsnc_core.images import ImageSet, crops_and_flips, crops_and_flips_of, scale_of, standardise
from lsnc_core.runs import checkpoint as checkpoints
from lsnc_core.runs import denormals, prepare, products
from lsnc_core.runs.graphs import recorded
from lsnc_core.runs.measure import Trained, measure, named, of_replica
from lsnc_core.runs.replicas import Listed, hold
from lsnc_core.runs.sgd import sgd_step, sgd_step_side_by_side, shrink_factors
from lsnc_core.runs.spec import PER_REPLICA, RunSpec
from lsnc_core.runs.stacked_step import StackedStep

# Between epochs a checkpoint is written after so much work; within them `preemptible` writes more.
# Where writing takes long, it is less often: every CHECKPOINT_SHARE times as long as writing takes.
CHECKPOINT_SECONDS, CHECKPOINT_SHARE = 60, 20
# of `RunSpec.best_checkpoint`, in the history
BEST = ("best_epoch", "best_validation_accuracy", "best_test_accuracy")


def train(
    specs: Sequence[RunSpec],
    image_set: ImageSet,
    device: torch.device,
    progress: Callable[[int], object] = lambda epochs: None,
    checkpoint: Path | None = None,
    routes: products.Routes = products.BY_DEFAULT,
) -> list[Trained]:
    """Train the networks of all specs together by SGD on smoothed noisy labels.

    Args:
        specs: they may differ in the settings of `spec.PER_REPLICA` only.
        image_set: the set that the specs name, whole.
        device: where to train.
        progress: called with the number of network-epochs done since the last call.
        checkpoint: a file to resume from where it is there, written every `CHECKPOINT_SECONDS`; the
            result does not depend on it. The caller deletes it.
        routes: by which library a CPU multiplies, see `products`, unless a checkpoint says it.

    Returns:
        For each spec, in order, its history and its tensors.

        The history is one mapping of numbers per epoch of `evaluate_at`: `epoch`; `kept`, the share
        of training labels that the noise left as they were; `train_loss` (of the spec's kind) and
        `train_accuracy` (against the noisy labels); `train_smoothed_loss` and `train_forward_loss`,
        cross-entropy and forward correction against the spec's targets (see `prepare.targets`;
        where those sum to 1 the first minus the second is the Jensen gap of Chen eq. 18);
        `clean_train_*` (training inputs, clean labels), `validation_*` where there are such images,
        and `test_*` (held-out inputs, clean labels), cross-entropies in nats. Under
        `best_checkpoint` also `best_epoch`, the first epoch so far, measured or not, of the highest
        validation accuracy, and `best_validation_accuracy` and `best_test_accuracy` there.

        The tensors are one mapping of arrays per such epoch: `weight` float32 (K, D) and `bias`
        (K,) of the classifier; for each part statistics of the features by clean label (see
        `ClassStatistics.summary`, without the leading axis; counts int64, means and within
        float32); after the last epoch `*_logits` float32 (N, K); and at the epochs of `keep_at`
        `test_features` float32 (N, D), `validation_logits` and `test_logits`.

    Raises:
        UsageError: for specs that cannot train together, or a set too small.
    """
    fleet = Fleet(specs, image_set, device, routes)
    del image_set  # the pixels as they were read are not needed any more
    return fleet.train(progress, checkpoint)


class Fleet:
    """R networks of one shape in training.

    Args, raises: as for `train`.

    Attributes:
        specs: one per replica.
        shared: a spec whose settings outside `PER_REPLICA` are those of all.
        routes: by which library a CPU multiplies.
        epoch: the last epoch that is done.
        measured: what was measured so far, one mapping per epoch of `evaluate_at`.
    """

    def __init__(
        self,
        specs: Sequence[RunSpec],
        image_set: ImageSet,
        device: torch.device,
        routes: products.Routes = products.BY_DEFAULT,
    ):
        if any(spec.shared != specs[0].shared for spec in specs):
            raise UsageError(
                f"runs that train together may differ in {', '.join(PER_REPLICA)} only."
            )
        self.specs, self.shared, self.device, self.routes = specs, specs[0], device, routes
        self.epoch = 0
        self.measured: list[dict] = []
        image_shape, classes, clean = self._load_images(image_set)
        self._draw_labels(clean, classes)
        networks = [prepare.build(spec, image_shape, classes) for spec in specs]
        self.replicas = hold(networks, image_shape, device)
        self.velocities = [torch.zeros_like(parameter) for parameter in self.replicas.parameters]
        side_by_side = isinstance(self.replicas, Listed) and device.type == "cuda"
        self.update = sgd_step_side_by_side if side_by_side else sgd_step
        self.fit = losses.per_replica([spec.loss for spec in specs], device)
        self._set_rates()
        self.order = labels.generator(self.shared.order_seed, "order")
        # the first epoch of the best validation accuracy so far, that accuracy and the test images'
        self.best = torch.full((len(BEST), len(specs)), -1.0, dtype=torch.float64)

    def _load_images(self, image_set: ImageSet) -> tuple[tuple[int, int, int], int, torch.Tensor]:
        """Put standardised images, the padding and clean labels on the device, by part.

        Returns:
            The images' shape (C, H, W), K, and the clean training labels int64 (N,) on the CPU.
        """
        sizes = [self.shared.train_size, self.shared.validation_size]
        chosen = image_set.subset(sum(sizes), self.shared.test_size)
        scale = scale_of(chosen, self.shared.pool, self.shared.pixel_mean, self.shared.pixel_std)
        images, test_images = (
            images.to(self.device) for images in standardise(chosen, self.shared.pool, scale)
        )  # (N, C, H, W)
        black = self.shared.augment == "crop-flip-black"
        padding = scale.black if black else torch.zeros_like(scale.mean)
        self.padding = padding.to(self.device)  # (C,)
        self.train_images, validation_images = images.split(sizes)
        clean, validation_labels = chosen.train_labels.to(self.device).split(sizes)
        self.parts = {
            "train": (self.train_images, clean),
            "test": (test_images, chosen.test_labels.to(self.device)),
        }
        if self.shared.validation_size:
            self.parts["validation"] = validation_images, validation_labels
        channels, height, width = images.shape[1:]
        return (channels, height, width), chosen.num_classes, clean.cpu()

    def _draw_labels(self, clean: torch.Tensor, classes: int) -> None:
        """Draw every replica's noisy labels, and make the targets of its loss."""
        noisy = torch.stack(
            [prepare.noisy_labels(spec, clean, classes) for spec in self.specs]
        )  # (R, N)
        self.kept = (noisy == clean).double().mean(1).tolist()
        targets = torch.empty(*noisy.shape, classes)  # (R, N, K)
        for replica, spec in enumerate(self.specs):
            targets[replica] = prepare.targets(spec, noisy[replica], classes)
        self.noisy, self.targets = noisy.to(self.device), targets.to(self.device)

    def _set_rates(self) -> None:
        """Set learning rates, weight decays and the penalty of the features, one per replica."""
        self.base_lr = prepare.column(self.specs, "lr", self.device)  # (R,)
        # changed in place epoch by epoch: the learning rates by parameter are views of it
        self.lr = self.base_lr.clone()
        self.learning_rates = self.replicas.spread(self.lr)
        self.weight_decays = prepare.weight_decays(self.specs, self.replicas, self.device)
        self.penalised = any(spec.lambda_H for spec in self.specs)
        lambda_H = prepare.column(self.specs, "lambda_H", self.device)
        self.feature_decay = lambda_H * self.shared.train_size / 2  # (R,)

    def train(
        self, progress: Callable[[int], object], checkpoint: Path | None = None
    ) -> list[Trained]:
        """Train all epochs that are not done; arguments and result as of the function `train`."""
        if checkpoint and self.resume(checkpoint):
            progress(self.epoch * len(self.specs))
        # no attribute: what holds itself in a circle keeps a GPU's memory until Python looks for it
        step = StackedStep(self, self.routes) if StackedStep.fits(self) else self.step
        take_step = recorded(step, self.device)
        due = time.monotonic() + CHECKPOINT_SECONDS
        while self.epoch < self.shared.epochs:
            self.train_epoch(take_step)
            if self.shared.best_checkpoint:
                self.find_best()
            if self.epoch in self.shared.evaluate_at:
                self.measured.append(self.evaluate())
            progress(len(self.specs))
            start = time.monotonic()
            if checkpoint and self.epoch < self.shared.epochs and start >= due:
                self.save(checkpoint)
                writing = time.monotonic() - start
                due = time.monotonic() + max(CHECKPOINT_SECONDS, CHECKPOINT_SHARE * writing)
        return [
            of_replica(self.measured, replica, {"kept": kept}, self.routes)
            for replica, kept in enumerate(self.kept)
        ]

    def train_epoch(self, take_step: Callable[..., None]) -> None:
        """Pass once over the training images in a random order, one `take_step` a batch."""
        self.epoch += 1
        self.lr.copy_(self.base_lr * prepare.lr_factor(self.shared, self.epoch))
        shuffled = torch.randperm(len(self.train_images), generator=self.order).to(self.device)
        with denormals.flushed():
            for rows in shuffled.split(self.shared.batch):
                augmented = self.shared.augment != "none"
                moves = crops_and_flips(len(rows), self.order) if augmented else ()
                take_step(rows, *(tensor.to(self.device) for tensor in moves))

    def batch(self, rows: torch.Tensor, *moves: torch.Tensor) -> torch.Tensor:
        """The training images of a batch, (B, C, H, W); arguments as of `step`."""
        images = self.train_images
        if moves:
            return crops_and_flips_of(images, self.padding, rows, *moves)
        return images.index_select(0, rows)

    def step(self, rows: torch.Tensor, *moves: torch.Tensor) -> None:
        """Take one step of SGD on a batch, in place.

        Args:
            rows: of the training images, int64 (B,).
            moves: from `crops_and_flips`, where images are augmented.
        """
        images = self.batch(rows, *moves)
        half = self.shared.precision == "bfloat16"
        # weights change every step: autocast has no use for keeping their rounded copies
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half, cache_enabled=False):
            features, logits = self.replicas.forward(images)  # (R, B, D), (R, B, K)
        loss = self.fit(logits.float(), self.targets[:, rows]).mean(1)  # (R,)
        if self.penalised:
            loss = loss + self.feature_decay * features.float().square().sum(2).mean(1)
        # the sum over replicas: each one's gradient is that of its own loss
        gradients = torch.autograd.grad(loss.sum(), self.replicas.parameters)
        self.update(
            self.replicas.parameters,
            self._clip(gradients) if self.shared.clip else gradients,
            self.velocities,
            self.learning_rates,
            self.weight_decays,
            self.shared.momentum,
        )

    def _clip(self, gradients: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Shrink each replica's whole gradient to the norm `clip`, as torch's clip_grad_norm_."""
        shrink = shrink_factors(self.replicas.square_norms(gradients), self.shared.clip)  # (R,)
        factors = self.replicas.spread(shrink)
        return [gradient * factor for gradient, factor in zip(gradients, factors, strict=True)]

    def find_best(self) -> None:
        """Compare the networks as they are now with the best so far on validation images."""

        def accuracy(part: str) -> torch.Tensor:
            return measure(self.replicas, *self.parts[part]).means["accuracy"].cpu()  # (R,)

        validation = accuracy("validation")
        better = validation > self.best[BEST.index("best_validation_accuracy")]
        if better.any():
            epoch = torch.full_like(validation, self.epoch)
            now = torch.stack([epoch, validation, accuracy("test")])
            self.best = torch.where(better, now, self.best)

    def evaluate(self) -> dict:
        """Measure all parts as the networks are now."""
        keep = self.epoch in self.shared.keep_at
        measured = {}
        for part, (images, truth) in self.parts.items():
            fitted = (self.fit, self.targets, self.noisy) if part == "train" else None
            measured[part] = measure(self.replicas, images, truth, fitted, keep and part == "test")
        logits_of = set(self.parts) if self.epoch == self.shared.epochs else set()
        if keep:
            logits_of |= set(self.parts) - {"train"}
        found = named(measured, self.replicas.classifier(), logits_of)
        if self.shared.best_checkpoint:
            found["means"] |= dict(zip(BEST, self.best, strict=True))
        return {"epoch": self.epoch} | found

    @property
    def state(self) -> list[torch.Tensor]:
        """Every tensor that training changes."""
        return [*self.replicas.parameters, *self.replicas.buffers, *self.velocities]

    def save(self, checkpoint: Path) -> None:
        """Write a checkpoint; raises UsageError where that is not possible."""
        content = {
            "epoch": self.epoch,
            "routes": dict(self.routes),
            "state": [tensor.detach() for tensor in self.state],
            "order": self.order.get_state(),
            "best": self.best,
            "measured": self.measured,
        }
        checkpoints.write(checkpoint, content)

    @torch.no_grad()
    def resume(self, checkpoint: Path) -> bool:
        """Go on from a checkpoint; False where there is none of these networks."""
        content = checkpoints.read(checkpoint)
        shapes = [tensor.shape for tensor in self.state]
        if content is None or [tensor.shape for tensor in content["state"]] != shapes:
            return False
        for tensor, value in zip(self.state, content["state"], strict=True):
            tensor.copy_(value)
        self.order.set_state(content["order"])
        self.best = content["best"]
        self.epoch, self.measured = content["epoch"], content["measured"]
        self.routes = content["routes"]
        return True
