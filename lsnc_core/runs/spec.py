"""What one trained network is: a frozen, hashable description that holds everything its result
depends on.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass

from lsnc_core.custom import is_file
from lsnc_core.errors import UsageError

MODELS = ("cnn", "lenet", "mlp", "resnet18", "resnet50")
LOSSES = ("ce", "focal", "mse", "forward", "logit")
NOISES = ("symmetric", "pair", "block", "mixed")
SMOOTHINGS = ("uniform", "posterior")
PRECISIONS = ("float32", "bfloat16")
SCHEDULES = ("constant", "steps", "cosine")
AUGMENTATIONS = ("none", "crop-flip")
# what may differ between runs that train together, with the value that stands for "set aside"
PER_REPLICA = {
    "a": 1.0,
    "p": 1.0,
    "noise": "symmetric",
    "smoothing": "uniform",
    "loss": "ce",
    "seed": 0,
    "lr": 1.0,
}
PER_REPLICA |= {"weight_decay": 0.0, "lambda_W": 0.0, "lambda_b": 0.0, "lambda_H": 0.0}
_CHOICES = {
    "model": MODELS,
    "loss": LOSSES,
    "noise": NOISES,
    "smoothing": SMOOTHINGS,
    "precision": PRECISIONS,
    "schedule": SCHEDULES,
    "augment": AUGMENTATIONS,
}
_AT_LEAST = {
    "train_size": 1,
    "test_size": 1,
    "validation_size": 0,
    "pool": 1,
    "batch": 1,
    "epochs": 1,
    "seed": 0,
    "order_seed": 0,
}
_MAY_BE_EMPTY = ("lr_steps", "keep_at")
_WIDTHS = {"cnn": 3, "lenet": 3, "resnet18": 1, "resnet50": 1}


@dataclass(frozen=True)
class RunSpec:
    """One network to train on noisy, smoothed labels.

    Attributes:
        data: name of an image set, see `lsnc_core.data`; or a file of the reader's, see
            `lsnc_core.custom`.
        train_size, test_size: images used of each part, class-balanced prefixes.
        pool: images are averaged over pool x pool pixels.
        model: "cnn" (patches), "lenet" (overlapping windows), "mlp", "resnet18" or "resnet50".
        widths: (channels, channels, D) of the CNNs, hidden widths of the MLP, of the ResNet-18 the
            channels of the first stage (its own is 64), of the ResNet-50 the inner channels of the
            first stage (its own is 64; 64 w for Zhou's width w).
        a: clean rate, the probability that a training label is left as it is, in [0, 1].
        p: kept mass of the smoothed label, the rest spread over the other classes, in [0, 1].
        lr, momentum, weight_decay: of SGD; the decay is that of all parameters.
        batch: images a step.
        epochs: passes over the training images.
        evaluate_at: the epochs after which losses, accuracies and statistics are measured; the last
            must be `epochs`.
        seed: draws the weights and the label noise.
        order_seed: draws the batch order and the augmentation; runs that train together share it.
        loss: what the smoothed labels are fitted by, see `lsnc_core.losses`; or a file of the
            reader's.
        precision: of the products in training, "float32" or "bfloat16"; weights, losses and
            evaluation are float32 always.
        noise: how labels that do not stay move, see `lsnc_core.labels`; or a file of the reader's.
        smoothing: "uniform" (kept mass p), or "posterior", the best general smoothing under the
            noise (Chen eq. 10; p must be 1).
        schedule: of the rate: "constant", "steps" (times `lr_factor` after each epoch of
            `lr_steps`) or "cosine" (to 0).
        lr_steps, lr_factor: of the schedule "steps".
        clip: largest norm of a network's whole gradient, 0 for no limit.
        augment: "none", or "crop-flip": zero-padded by 4, cropped to size at random, flipped at
            random.
        batch_norm: batch norm after every hidden layer of the CNN or MLP (ResNets have it).
        feature_norm: batch norm as the last layer of the features, so that they can be negative
            (Guo's training for Theorem 1).
        lambda_W, lambda_b: decays of the classifier alone; lambda_H: the loss gains lambda_H N / 2
            times the mean of |h|^2.
        validation_size: training images, those after the first `train_size`, that are measured and
            not trained on.
        keep_at: epochs of `evaluate_at` at which test features, and validation and test logits, are
            kept.
    """

    data: str
    train_size: int
    test_size: int
    pool: int
    model: str
    widths: tuple[int, ...]
    a: float
    p: float
    lr: float
    momentum: float
    weight_decay: float
    batch: int
    epochs: int
    evaluate_at: tuple[int, ...]
    seed: int
    order_seed: int
    loss: str = "ce"
    precision: str = "float32"
    noise: str = "symmetric"
    smoothing: str = "uniform"
    schedule: str = "constant"
    lr_steps: tuple[int, ...] = ()
    lr_factor: float = 0.1
    clip: float = 0.0
    augment: str = "none"
    batch_norm: bool = False
    feature_norm: bool = False
    lambda_W: float = 0.0
    lambda_b: float = 0.0
    lambda_H: float = 0.0
    validation_size: int = 0
    keep_at: tuple[int, ...] = ()

    def __post_init__(self):
        for field in dataclasses.fields(self):
            self._check_type(field)
        for name, known in _CHOICES.items():
            by_file = name in ("loss", "noise") and is_file(getattr(self, name))
            self._check(by_file or getattr(self, name) in known, name, f"one of {', '.join(known)}")
        for name, least in _AT_LEAST.items():
            self._check(getattr(self, name) >= least, name, f"at least {least}")
        for name in ("a", "p"):
            self._check(0 <= getattr(self, name) <= 1, name, "in [0, 1]")
        for name in ("lr", "lr_factor"):
            self._check(
                getattr(self, name) > 0 and math.isfinite(getattr(self, name)),
                name,
                "positive and finite",
            )
        for name in ("weight_decay", "clip", "lambda_W", "lambda_b", "lambda_H"):
            self._check(
                getattr(self, name) >= 0 and math.isfinite(getattr(self, name)),
                name,
                "zero or positive",
            )
        self._check(0 <= self.momentum < 1, "momentum", "in [0, 1)")
        wanted = _WIDTHS.get(self.model)
        shapes = {
            3: "(channels, channels, features) for the CNNs",
            1: "(first width,) for the ResNets",
            None: "",
        }
        self._check(wanted is None or len(self.widths) == wanted, "widths", shapes[wanted])
        increasing = (
            list(self.evaluate_at) == sorted(set(self.evaluate_at))
            and self.evaluate_at[-1] == self.epochs
        )
        self._check(increasing, "evaluate_at", f"increasing and end at epochs = {self.epochs}")
        self._check(list(self.lr_steps) == sorted(set(self.lr_steps)), "lr_steps", "increasing")
        self._check(
            (self.schedule == "steps") == bool(self.lr_steps),
            "lr_steps",
            'epochs for the schedule "steps" and empty for others',
        )
        self._check(
            set(self.keep_at) <= set(self.evaluate_at),
            "keep_at",
            f"among evaluate_at = {self.evaluate_at}",
        )
        self._check(
            self.smoothing == "uniform" or self.p == 1,
            "p",
            "1 where the smoothing is the posterior",
        )
        resnet = self.model.startswith("resnet")
        self._check(
            not (self.batch_norm and (resnet or self.model == "lenet")),
            "batch_norm",
            "False but for the CNN and the MLP",
        )
        alone = (self.train_size % self.batch or self.batch) == 1 and (
            self.batch_norm or self.feature_norm or resnet
        )
        self._check(
            not alone,
            "train_size",
            f"such that no batch of {self.batch} holds a single image, which batch norm cannot take",
        )

    def _check_type(self, field: dataclasses.Field) -> None:
        value = getattr(self, field.name)
        if field.type is float and type(value) in (int, float):
            with contextlib.suppress(
                OverflowError
            ):  # a whole number beyond all floats is refused below
                value = float(value) + 0.0  # -0.0 becomes 0.0: equal specs, one file
            object.__setattr__(self, field.name, value)
        wanted = {str: "text", int: "a whole number", float: "a number", bool: "True or False"}.get(
            field.type
        )
        if wanted:
            self._check(type(value) is field.type, field.name, wanted)
        else:
            good = isinstance(value, tuple) and all(
                type(entry) is int and entry > 0 for entry in value
            )
            self._check(
                good and (value != () or field.name in _MAY_BE_EMPTY),
                field.name,
                "a tuple of positive whole numbers",
            )

    def _check(self, good: bool, name: str, wanted: str) -> None:
        if not good:
            raise UsageError(f"{name} must be {wanted}, got {getattr(self, name)!r}.")

    @classmethod
    def from_dict(cls, values: dict) -> "RunSpec":
        """Build a spec from a mapping, lists allowed for tuples; raises `UsageError` for unknown or
        missing names.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        needed = {
            field.name for field in dataclasses.fields(cls) if field.default is dataclasses.MISSING
        }
        for kind, wrong in (
            ("unknown", set(values) - set(names)),
            ("missing", needed - set(values)),
        ):
            if wrong:
                raise UsageError(
                    f"{kind} run setting {', '.join(sorted(wrong))}; the settings are {', '.join(names)}."
                )
        return cls(
            **{
                name: tuple(value) if isinstance(value, list) else value
                for name, value in values.items()
            }
        )

    def to_dict(self) -> dict:
        """All settings by name."""
        return dataclasses.asdict(self)

    @property
    def company(self) -> "RunSpec":
        """What runs that train together must share: the spec with `PER_REPLICA` set aside."""
        return dataclasses.replace(self, **PER_REPLICA)


def digest(values: object) -> str:
    """sha256 of the canonical JSON of the values, as 64 hex digits; numbers keep all their
    digits.
    """
    return hashlib.sha256(json.dumps(values, sort_keys=True, allow_nan=False).encode()).hexdigest()
