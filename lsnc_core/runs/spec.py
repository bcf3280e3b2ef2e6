"""What one trained network is: a frozen, hashable description of everything its result depends on.

A setting that can be left out has a default and, beside it, a neutral value: the one under which
the trainer does what it did before the setting existed. The cache key leaves out settings at their
neutral value, so a new setting retrains nothing. The neutral value is frozen; a changed default
changes the key of every spec that relies on it.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any

from lsnc_core.custom import is_file
from lsnc_core.errors import UsageError
from lsnc_core.label_files import is_label_file
from lsnc_core.labels import NOISES, SMOOTHINGS
from lsnc_core.losses import LOSSES

PRECISIONS = ("float32", "bfloat16")
SCHEDULES = ("constant", "steps", "cosine")
AUGMENTATIONS = ("none", "crop-flip", "crop-flip-black")
INITIALISATIONS = ("torch", "torchvision")  # the rules of `models.INITIALISATIONS`
# The models of `models.MODELS`, each with how many widths it takes (None: any number) and which.
WIDTHS = {
    "cnn": (3, "(channels, channels, features) for the CNNs"),
    "lenet": (3, "(channels, channels, features) for the CNNs"),
    "mlp": (None, ""),
    "resnet18": (1, "(first width,) for the ResNets"),
    "resnet50": (1, "(first width,) for the ResNets"),
}
# The settings that may differ between runs that train together, each with a value to compare by.
PER_REPLICA: dict[str, Any] = {
    "a": 1.0,
    "p": 1.0,
    "noise": "symmetric",
    "smoothing": "uniform",
    "loss": "ce",
    "seed": 0,
    "lr": 1.0,
    "weight_decay": 0.0,
    "lambda_W": 0.0,
    "lambda_b": 0.0,
    "lambda_H": 0.0,
}
_CHOICES = {
    "model": tuple(WIDTHS),
    "loss": tuple(LOSSES),
    "noise": tuple(NOISES),
    "smoothing": tuple(SMOOTHINGS),
    "precision": PRECISIONS,
    "schedule": SCHEDULES,
    "augment": AUGMENTATIONS,
    "init": INITIALISATIONS,
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
_MAY_BE_EMPTY = ("lr_steps", "keep_at", "pixel_mean", "pixel_std")
_KINDS = {str: "text", int: "a whole number", float: "a number", bool: "True or False"}


def _setting(default: object, *, neutral: object) -> Any:
    """A setting that can be left out; `neutral` is frozen, see the module's docstring."""
    return dataclasses.field(default=default, metadata={"neutral": neutral})


@dataclass(frozen=True)
class RunSpec:
    """One network to train on noisy, smoothed labels.

    Attributes:
        data: name of an image set, see `lsnc_core.data`; or the path of your own file, see
            `lsnc_core.custom`.
        train_size, test_size: images used of each part, class-balanced prefixes.
        pool: images are averaged over pool x pool pixels.
        model: "cnn" (patches), "lenet" (overlapping windows), "mlp", "resnet18" or "resnet50".
        widths: (channels, channels, D) of the CNNs; hidden widths of the MLP; channels of the
            first stage of the ResNet-18 (usually 64); inner channels of the first stage of the
            ResNet-50 (usually 64; 64 w for Zhou's width w).
        a: clean-label rate, the probability that a training label is left as it is, in [0, 1].
        p: kept mass of the smoothed label, the rest spread over the other classes, in [0, 1].
        lr, momentum, weight_decay: of SGD; weight decay applies to all parameters.
        batch: images a step.
        epochs: passes over the training images.
        evaluate_at: the epochs after which losses, accuracies and statistics are measured; the last
            must be `epochs`.
        seed: draws the weights and, unless it is in a file, the label noise.
        order_seed: draws the batch order and the augmentation; runs that train together share it.
        loss: compares logits with smoothed labels, see `lsnc_core.losses`; or your own file.
        precision: of the products in training, "float32" or "bfloat16"; weights, losses and
            evaluation are always float32.
        noise: how labels move that do not stay, see `lsnc_core.labels`; or your own file; or noisy
            labels in a file, "labels.npz:NAME", see `lsnc_core.label_files`, with a = 1.
        smoothing: "uniform" (kept mass p), or "posterior", the best general smoothing under the
            noise (Chen eq. 10; p must be 1).
        schedule: of the learning rate: "constant", "steps" (times `lr_factor` after each epoch of
            `lr_steps`) or "cosine" (to 0).
        lr_steps, lr_factor: of the schedule "steps".
        clip: largest norm of a network's whole gradient, 0 for no limit.
        augment: "none", or "crop-flip": padded by 4, cropped to size at random, flipped at random.
            The padding is the mean pixel of each channel, or black with "crop-flip-black".
        batch_norm: batch norm after every hidden layer of the CNN or MLP (ResNets have it).
        feature_norm: batch norm as the last layer of the features, so that they can be negative
            (Guo's training for Theorem 1); the LeNet has none.
        lambda_W, lambda_b: weight decay of the classifier alone; lambda_H: the loss gains
            lambda_H N / 2 times the mean of |h|^2.
        validation_size: images after the first `train_size` training images that are measured and
            not trained on.
        keep_at: epochs of `evaluate_at` at which test features, and validation and test logits, are
            kept.
        init: how weights are drawn: "torch", its rule for single layers, or "torchvision", that of
            torchvision's ResNets; see `models`.
        pixel_mean, pixel_std: what each channel of images in [0, 1] is standardised by; empty for
            the mean and deviation of the images used.
        best_checkpoint: whether validation accuracy is measured after every epoch, and the first
            epoch where it is highest so far is kept with its test accuracy.
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
    loss: str = _setting("ce", neutral="ce")
    precision: str = _setting("float32", neutral="float32")
    noise: str = _setting("symmetric", neutral="symmetric")
    smoothing: str = _setting("uniform", neutral="uniform")
    schedule: str = _setting("constant", neutral="constant")
    lr_steps: tuple[int, ...] = _setting((), neutral=())
    lr_factor: float = _setting(0.1, neutral=0.1)
    clip: float = _setting(0.0, neutral=0.0)
    augment: str = _setting("none", neutral="none")
    batch_norm: bool = _setting(False, neutral=False)
    feature_norm: bool = _setting(False, neutral=False)
    lambda_W: float = _setting(0.0, neutral=0.0)
    lambda_b: float = _setting(0.0, neutral=0.0)
    lambda_H: float = _setting(0.0, neutral=0.0)
    validation_size: int = _setting(0, neutral=0)
    keep_at: tuple[int, ...] = _setting((), neutral=())
    init: str = _setting("torch", neutral="torch")
    pixel_mean: tuple[float, ...] = _setting((), neutral=())
    pixel_std: tuple[float, ...] = _setting((), neutral=())
    best_checkpoint: bool = _setting(False, neutral=False)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            self._check_type(field)
        self._check_values()
        self._check_epochs()
        self._check_model()
        self._check_images()
        self._check(
            self.smoothing == "uniform" or self.p == 1,
            "p",
            "1 where the smoothing is the posterior",
        )

    def _check_type(self, field: dataclasses.Field) -> None:
        """Refuse values of another type; whole numbers become floats where a float is wanted."""
        value = getattr(self, field.name)
        if field.type is float:
            value = _as_float(value)
            object.__setattr__(self, field.name, value)
        if field.type in _KINDS:
            self._check(type(value) is field.type, field.name, _KINDS[field.type])
            return
        if field.type == tuple[float, ...]:
            if isinstance(value, tuple):
                value = tuple(map(_as_float, value))
                object.__setattr__(self, field.name, value)
            good = isinstance(value, tuple) and all(type(entry) is float for entry in value)
            self._check(good, field.name, "a tuple of numbers")
            return
        good = isinstance(value, tuple) and all(type(entry) is int and entry > 0 for entry in value)
        filled = good and (value != () or field.name in _MAY_BE_EMPTY)
        self._check(filled, field.name, "a tuple of positive whole numbers")

    def _check_values(self) -> None:
        for name, known in _CHOICES.items():
            value, wanted = getattr(self, name), f"one of {', '.join(known)}"
            by_file = name in ("loss", "noise") and is_file(value)
            if name == "noise":
                by_file = by_file or is_label_file(value)
                wanted += ", or a file: .py, or labels in .npz, .npy or .pt"
            self._check(by_file or value in known, name, wanted)
        self._check(
            self.a == 1 or not is_label_file(self.noise),
            "a",
            "1 where the labels come from a file, which decides how many are wrong",
        )
        for name, least in _AT_LEAST.items():
            self._check(getattr(self, name) >= least, name, f"at least {least}")
        for name in ("a", "p"):
            self._check(0 <= getattr(self, name) <= 1, name, "in [0, 1]")
        for name in ("lr", "lr_factor"):
            value = getattr(self, name)
            self._check(value > 0 and math.isfinite(value), name, "positive and finite")
        for name in ("weight_decay", "clip", "lambda_W", "lambda_b", "lambda_H"):
            value = getattr(self, name)
            self._check(value >= 0 and math.isfinite(value), name, "zero or positive")
        self._check(0 <= self.momentum < 1, "momentum", "in [0, 1)")

    def _check_epochs(self) -> None:
        at = self.evaluate_at
        self._check(
            list(at) == sorted(set(at)) and at[-1] == self.epochs,
            "evaluate_at",
            f"increasing and end at epochs = {self.epochs}",
        )
        self._check(list(self.lr_steps) == sorted(set(self.lr_steps)), "lr_steps", "increasing")
        self._check(
            (self.schedule == "steps") == bool(self.lr_steps),
            "lr_steps",
            'epochs for the schedule "steps" and empty for others',
        )
        self._check(set(self.keep_at) <= set(at), "keep_at", f"among evaluate_at = {at}")
        self._check(
            not self.best_checkpoint or self.validation_size > 0,
            "best_checkpoint",
            "False where there are no validation images",
        )

    def _check_model(self) -> None:
        count, meaning = WIDTHS[self.model]
        self._check(count is None or len(self.widths) == count, "widths", meaning)
        resnet = self.model.startswith("resnet")
        self._check(
            not (self.batch_norm and (resnet or self.model == "lenet")),
            "batch_norm",
            "False but for the CNN and the MLP",
        )
        self._check(
            not (self.feature_norm and self.model == "lenet"),
            "feature_norm",
            "False for the LeNet",
        )
        self._check(resnet or self.init == "torch", "init", "torch but for the ResNets")
        last_batch = self.train_size % self.batch or self.batch
        self._check(
            last_batch > 1 or not (self.batch_norm or self.feature_norm or resnet),
            "train_size",
            f"such that no batch of {self.batch} holds a single image, "
            "which batch norm cannot take",
        )

    def _check_images(self) -> None:
        for name in ("pixel_mean", "pixel_std"):
            values = getattr(self, name)
            self._check(all(map(math.isfinite, values)), name, "finite")
        self._check(all(value > 0 for value in self.pixel_std), "pixel_std", "positive")
        self._check(
            len(self.pixel_std) == len(self.pixel_mean),
            "pixel_std",
            f"as many numbers as pixel_mean = {self.pixel_mean}",
        )

    def _check(self, good: bool, name: str, wanted: str) -> None:
        if not good:
            raise UsageError(f"{name} must be {wanted}, got {getattr(self, name)!r}.")

    @classmethod
    def from_dict(cls, values: dict) -> "RunSpec":
        """Build a spec from settings by name, lists allowed for tuples.

        Raises:
            UsageError: for unknown or missing names, and for values that a setting does not take.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        required = [
            field.name for field in dataclasses.fields(cls) if field.default is dataclasses.MISSING
        ]
        unknown, missing = set(values) - set(names), set(required) - set(values)
        for kind, wrong in (("unknown", unknown), ("missing", missing)):
            if wrong:
                raise UsageError(
                    f"{kind} run setting {', '.join(sorted(wrong))}; "
                    f"the settings are {', '.join(names)}."
                )
        settings: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        return cls(**settings)

    @classmethod
    def from_stored(cls, values: dict) -> "RunSpec":
        """Build a spec from what was stored: settings that did not exist then are neutral.

        Raises:
            UsageError: as `from_dict`.
        """
        return cls.from_dict(_neutral(cls) | values)

    def to_dict(self) -> dict[str, Any]:
        """All settings by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def key(self) -> dict[str, Any]:
        """The settings that enter the cache key, by name: all but those at their neutral value."""
        neutral = _neutral(type(self))
        return {
            name: value
            for name, value in self.to_dict().items()
            if name not in neutral or value != neutral[name]
        }

    @property
    def shared(self) -> "RunSpec":
        """What runs that train together must share: the spec with `PER_REPLICA` set aside."""
        return dataclasses.replace(self, **PER_REPLICA)


def _as_float(value: Any) -> Any:
    """A whole number or float as a float, anything else as it is."""
    if type(value) in (int, float):
        with contextlib.suppress(OverflowError):  # an int beyond all floats stays one
            return float(value) + 0.0  # -0.0 becomes 0.0: equal specs have one key
    return value


def _neutral(cls: type[RunSpec]) -> dict[str, Any]:
    """The neutral values by name, of the settings that have one."""
    return {
        field.name: field.metadata["neutral"]
        for field in dataclasses.fields(cls)
        if "neutral" in field.metadata
    }


def digest(values: object) -> str:
    """sha256 of the canonical JSON of the values, 64 hex digits; numbers keep all their digits."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, allow_nan=False).encode()).hexdigest()
