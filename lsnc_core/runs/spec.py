"""What one trained network is: a frozen, hashable description that holds everything its result depends on."""

import contextlib
import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass

from lsnc_core.errors import UsageError

MODELS = ("cnn", "lenet", "mlp", "resnet18")
LOSSES = ("ce", "focal", "mse")
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class RunSpec:
    """One network to train on noisy, smoothed labels (Chen, Ziyin et al. 2020, section 5).

    Attributes:
        data: name of an image set, see `lsnc_core.data`.
        train_size, test_size: images used of each part, class-balanced prefixes.
        pool: images are averaged over pool x pool pixels.
        model: "cnn" (patches), "lenet" (overlapping windows), "mlp" or "resnet18".
        widths: (channels, channels, D) of the CNNs, hidden widths of the MLP, the width of the ResNet's first stage (its own is 64).
        a: clean rate, the probability that a training label is left as it is (symmetric noise), in [0, 1].
        p: kept mass of the smoothed label, the rest spread over the other classes, in [0, 1].
        lr, momentum, weight_decay: of SGD.
        batch: images a step.
        epochs: passes over the training images.
        evaluate_at: the epochs after which losses and accuracies are measured; the last must be `epochs`.
        seed: draws the weights and the label noise.
        order_seed: draws the batch order; runs that train together share it.
        loss: what the smoothed labels are fitted by, see `lsnc_core.losses`.
        precision: of the products in training, "float32" or "bfloat16"; weights, losses and evaluation are float32 always.
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

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type is float and type(value) in (int, float):
                with contextlib.suppress(OverflowError):  # a whole number beyond all floats is refused below
                    value = float(value) + 0.0  # -0.0 becomes 0.0: equal specs, one file
                object.__setattr__(self, field.name, value)
            if field.type in (str, int, float):
                good = type(value) is field.type
            else:
                good = isinstance(value, tuple) and value != () and all(type(entry) is int and entry > 0 for entry in value)
            if not good:
                wanted = {str: "text", int: "a whole number", float: "a number"}.get(field.type, "a tuple of positive whole numbers")
                raise UsageError(f"{field.name} must be {wanted}, got {value!r}.")
        for name, known in (("model", MODELS), ("loss", LOSSES), ("precision", PRECISIONS)):
            self._check(getattr(self, name) in known, name, f"one of {', '.join(known)}")
        for name in ("a", "p"):
            self._check(0 <= getattr(self, name) <= 1, name, "in [0, 1]")
        for name in ("train_size", "test_size", "pool", "batch", "epochs"):
            self._check(getattr(self, name) >= 1, name, "at least 1")
        for name in ("seed", "order_seed"):
            self._check(getattr(self, name) >= 0, name, "at least 0")
        self._check(self.lr > 0 and math.isfinite(self.lr), "lr", "positive and finite")
        self._check(0 <= self.momentum < 1, "momentum", "in [0, 1)")
        self._check(self.weight_decay >= 0 and math.isfinite(self.weight_decay), "weight_decay", "zero or positive")
        self._check(self.model not in ("cnn", "lenet") or len(self.widths) == 3, "widths", "(channels, channels, features) for the CNNs")
        self._check(self.model != "resnet18" or len(self.widths) == 1, "widths", "(first width,) for the ResNet")
        increasing = list(self.evaluate_at) == sorted(set(self.evaluate_at)) and self.evaluate_at[-1] == self.epochs
        self._check(increasing, "evaluate_at", f"increasing and end at epochs = {self.epochs}")

    def _check(self, good: bool, name: str, wanted: str) -> None:
        if not good:
            raise UsageError(f"{name} must be {wanted}, got {getattr(self, name)!r}.")

    @classmethod
    def from_dict(cls, values: dict) -> "RunSpec":
        """Build a spec from a mapping, lists allowed for tuples; raises `UsageError` for unknown or missing names."""
        names = [field.name for field in dataclasses.fields(cls)]
        needed = {field.name for field in dataclasses.fields(cls) if field.default is dataclasses.MISSING}
        for kind, wrong in (("unknown", set(values) - set(names)), ("missing", needed - set(values))):
            if wrong:
                raise UsageError(f"{kind} run setting {', '.join(sorted(wrong))}; the settings are {', '.join(names)}.")
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})

    def to_dict(self) -> dict:
        """All settings by name."""
        return dataclasses.asdict(self)

    @property
    def company(self) -> "RunSpec":
        """What runs that train together must share: the spec with noise, smoothing, loss, seed, rate and decay set aside."""
        return dataclasses.replace(self, a=1.0, p=1.0, seed=0, lr=1.0, weight_decay=0.0, loss="ce")


def digest(values: object) -> str:
    """sha256 of the canonical JSON of the values, as 64 hex digits; numbers keep all their digits."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, allow_nan=False).encode()).hexdigest()
