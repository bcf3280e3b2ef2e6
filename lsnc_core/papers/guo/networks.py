"""Guo et al. 2025: the deep networks that are trained, by profile.

delta is the smoothing strength, y = (1 - delta) onehot + delta/K; delta = 0 is cross-entropy (CE).
The paper's recipe: batch 128, weight decay 5e-4, learning rate 0.05 divided by ten at epochs 150
and 350 of 800 (Tiny ImageNet: 100 and 200 of 300), no augmentation. Here a tenth of the training
images, 5,000 at most, is held out for temperatures; `gpu` trains in bfloat16. `deviations` lists
all that differs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lsnc_core import custom, labels, losses
from lsnc_core.data_sources import source_of
from lsnc_core.errors import UsageError
from lsnc_core.notebook import convert
from lsnc_core.papers.guo import SMOOTHED
from lsnc_core.profiles import choose_images
from lsnc_core.runs.spec import RunSpec

STRENGTHS = (0.0, 0.05, 0.1, 0.2, 0.5, 0.8, 0.9)  # F7
LOSSES = ("ce", "ls")  # the paper's comparison
USUAL_EPOCHS = (1, 2, 3, 4, 6, 8, 11, 15, 20, 25, 30, 40, 50, 60, 70, 80, 100, 120, 150, 200, 250)
USUAL_EPOCHS += (300, 350, 400, 500, 600, 700, 800)


@dataclass(frozen=True)
class DeepSize:
    """What is trained on one image set.

    Attributes:
        network: the run with delta = 0 and seed 0; all others differ from it in loss, strength and
            seed.
        seeds: of delta = 0 and delta = 0.05.
        other_seeds: of the other strengths.
        keep_at: epochs of `RunSpec.keep_at`, for delta = 0 and delta = 0.05.
        calibration_weight_decay: weight decay with which all strengths are trained once more for
            the section on calibration. The paper has a fifth of its usual weight decay in one
            section, most likely this one.
        strengths: all smoothing strengths.
        halved_seeds: of the other strengths in `plan_halved`.
    """

    network: RunSpec
    seeds: int
    other_seeds: int
    keep_at: tuple[int, ...]
    calibration_weight_decay: float | None = None
    strengths: tuple[float, ...] = STRENGTHS
    halved_seeds: int = 1


def epochs_until(epochs: int, *more: int) -> tuple[int, ...]:
    """Epochs at which to measure: dense early on, `more` among them, and the last.

    >>> epochs_until(8, 5)
    (1, 2, 3, 4, 5, 6, 8)
    """
    earlier = {epoch for epoch in (*USUAL_EPOCHS, *more) if epoch < epochs}
    return tuple(sorted(earlier | {epochs}))


def epochs_after(lr_steps: Sequence[int]) -> list[int]:
    """Epochs just after each step of the learning rate, where metrics fall so fast that the usual
    epochs would miss it: 10 of them in the paper's schedule, fewer where the first step comes
    before its 150.

    >>> epochs_after((30, 60))
    [31, 32, 61, 62]
    """
    count = min(10, max(2, round(lr_steps[0] / 15)))
    epochs = []
    for step in lr_steps:
        epochs += range(step + 1, step + count + 1)
    return epochs


def _network(
    data: str, sizes: tuple[int, int, int], model: str, widths: tuple[int, ...], **settings: object
) -> RunSpec:
    """A run with the paper's learning rate, momentum and schedule but for `settings`; sizes are
    training, validation and test images. It is also measured just after each step of the rate.
    """
    fixed = {"pool": 1, "a": 1.0, "p": 1.0, "lr": 0.05, "momentum": 0.9, "schedule": "steps"}
    fixed |= {"seed": 0, "order_seed": 0, "model": model, "widths": widths}
    images = dict(zip(("train_size", "validation_size", "test_size"), sizes, strict=True))
    network = RunSpec(data=data, **(fixed | images | settings))
    later = {epoch for epoch in epochs_after(network.lr_steps) if epoch < network.epochs}
    return replace(network, evaluate_at=tuple(sorted(later | set(network.evaluate_at))))


# what the released loaders standardise by; those of Tiny ImageNet are not known to us
PIXEL_MEAN = (0.4914, 0.4822, 0.4465)
_CIFAR = {"pixel_mean": PIXEL_MEAN, "pixel_std": (0.247, 0.243, 0.261)}
_STL10 = {"pixel_mean": PIXEL_MEAN, "pixel_std": (0.2470, 0.2434, 0.2615)}
_RECIPE = {"batch": 128, "weight_decay": 5e-4, "init": "torchvision"}
_LONG = _RECIPE | {"epochs": 800, "evaluate_at": epochs_until(800), "lr_steps": (150, 350)}
_SHORT = _RECIPE | {"epochs": 60, "evaluate_at": epochs_until(60), "lr_steps": (11, 26)}
_SHORT |= {"precision": "bfloat16"}
_TINY = _RECIPE | {"epochs": 300, "evaluate_at": epochs_until(300), "lr_steps": (100, 200)}
_KEPT = (60, 150, 200, 350, 500, 800)
_CIFAR_IMAGES = (45000, 5000, 10000)

_SMOKE = DeepSize(
    _network(
        "digits",
        (200, 100, 200),
        "cnn",
        (4, 8, 16),
        batch_norm=True,
        batch=20,
        weight_decay=5e-3,
        epochs=16,
        evaluate_at=(1, 2, 4, 6, 8, 12, 16),
        lr_steps=(10, 14),
    ),
    seeds=4,
    other_seeds=1,
    keep_at=(4, 8, 12, 16),
    strengths=(0.0, 0.05, 0.9),
)
_QUICK = DeepSize(
    _network(
        "mnist-subset",
        (1000, 500, 2000),
        "cnn",
        (8, 16, 64),
        pool=2,
        batch_norm=True,
        batch=50,
        weight_decay=5e-3,
        epochs=150,
        evaluate_at=epochs_until(150, 5, 68),
        lr_steps=(64, 107),
    ),
    seeds=4,
    other_seeds=4,
    keep_at=(3, 8, 20, 40, 60, 70, 100, 150),
    calibration_weight_decay=1e-3,
)

# For training to end within 20,000 steps at the weight decay of `quick`: four times the paper's
# learning rate, the least of 0.05, 0.1 and 0.2 at which NC1, NC2, NC3 and norms of a schedule and
# its half differ by less than 10 %. Nothing else chose it. Before, the rate was the paper's and the
# decay 0.02, at which the feature model's NC1 falls hardly faster with smoothing than without, 1.2
# times; at 0.005 it is 1.9 times, at the paper's 0.0005 9.6 times.
_ENDED = {"pool": 2, "batch_norm": True, "batch": 50, "weight_decay": 5e-3, "lr": 0.2}
_HOUR_MNIST = DeepSize(
    _network(
        "mnist",
        (2000, 500, 5000),
        "cnn",
        (8, 16, 64),
        **_ENDED,
        epochs=500,
        evaluate_at=epochs_until(500),
        lr_steps=(214, 356),
    ),
    seeds=8,
    other_seeds=4,
    keep_at=(20, 60, 150, 200, 250, 300, 400, 500),
    halved_seeds=4,
)
# Images so hard that cross-entropy is over-confident
_HOUR_CIFAR = DeepSize(
    _network(
        "cifar10",
        (1000, 500, 5000),
        "cnn",
        (8, 16, 64),
        **_ENDED,
        epochs=1000,
        evaluate_at=epochs_until(1000),
        lr_steps=(428, 712),
    ),
    seeds=8,
    other_seeds=4,
    keep_at=(20, 40, 60, 100, 150, 200, 250, 300, 400, 500, 600, 700, 800, 1000),
    halved_seeds=4,
)

NETWORKS = {
    "smoke": (_SMOKE,),
    "quick": (_QUICK,),
    "hour": (_HOUR_MNIST, _HOUR_CIFAR),
    "gpu": (
        DeepSize(
            _network("cifar10", _CIFAR_IMAGES, "resnet18", (64,), **_SHORT, **_CIFAR),
            seeds=4,
            other_seeds=4,
            keep_at=(11, 15, 20, 30, 40, 50, 60),
            strengths=(0.0, 0.05, 0.2, 0.5, 0.9),
        ),
    ),
    "paper": (
        DeepSize(
            _network("cifar10", _CIFAR_IMAGES, "resnet18", (64,), **_LONG, **_CIFAR),
            seeds=4,
            other_seeds=4,
            keep_at=_KEPT,
            calibration_weight_decay=1e-4,
        ),
        DeepSize(
            _network("cifar100", _CIFAR_IMAGES, "resnet50", (64,), **_LONG, **_CIFAR),
            seeds=4,
            other_seeds=4,
            keep_at=_KEPT,
            calibration_weight_decay=1e-4,
        ),
        DeepSize(
            _network("stl10", (4500, 500, 8000), "resnet50", (64,), **_LONG, **_STL10),
            seeds=4,
            other_seeds=4,
            keep_at=_KEPT,
        ),
        DeepSize(
            _network("tiny-imagenet", (95000, 5000, 10000), "resnet50", (64,), **_TINY),
            seeds=4,
            other_seeds=4,
            keep_at=(60, 100, 150, 200, 250, 300),
        ),
    ),
}


def sizes_of(profile: str, data_set: str = "") -> tuple[DeepSize, ...]:
    """What a profile trains, one entry per image set.

    Args:
        profile: one of `NETWORKS`.
        data_set: another image set for the profile's first entry, with as many of the entry's
            images as it has; "" for the profile's own image sets.

    Raises:
        UsageError: for an unknown profile or data set.
    """
    from lsnc_core import models

    if profile not in NETWORKS:
        raise UsageError(f"unknown profile {profile!r}; the profiles are {', '.join(NETWORKS)}.")
    sizes = NETWORKS[profile]
    usual = sizes[0].network
    chosen = data_set or choose_images(profile, usual.data)
    if chosen == usual.data and not data_set:
        # of the others those that need no download
        return tuple(
            size for size in sizes if choose_images(profile, size.network.data) == size.network.data
        )
    size, source = sizes[0], source_of(chosen)
    train_size, validation_size = source.split(usual.train_size, usual.validation_size, usual.batch)
    network = replace(
        usual,
        data=source.name,
        train_size=train_size,
        validation_size=validation_size,
        test_size=min(usual.test_size, source.sizes[1]),
        pool=source.pool(usual.pool, models.CNN_SIDE),
        pixel_mean=(),  # those of the profile's own images
        pixel_std=(),
    )
    return (replace(size, network=network),)


def kept_mass(delta: float, K: int) -> float:
    """The kept mass p of smoothing strength delta, rounded so that equal strengths give equal
    cache keys: p = 1 - delta (K - 1)/K.

    >>> kept_mass(0.05, 10)
    0.955
    """
    return round(float(labels.kept_from_strength(delta, K)), 12)


def loss_settings(name: str, K: int) -> dict[str, object]:
    """The settings of `RunSpec` for a named loss.

    Args:
        name: "ls" (strength 0.05), one of `losses.LOSSES`, or the path of your own .py file. A
            relative path counts from the working directory, then from the project's folder.
        K: number of classes.

    Raises:
        UsageError: for another name.

    >>> loss_settings("ls", 10)
    {'p': 0.955}
    """
    if custom.is_file(name):
        return {"loss": custom.resolve(name)}
    if name == "ls":
        return {"p": kept_mass(SMOOTHED, K)}
    if name not in losses.LOSSES:
        raise UsageError(
            f"there is no loss {name!r} here: the losses are ls, {', '.join(losses.LOSSES)}, "
            "and the path of a .py file of your own."
        )
    return {"loss": name}


def loss_label(loss: str, delta: float = 0.0) -> str:
    """What a loss is called in figures; your own file goes by its file name.

    >>> loss_label("ce"), loss_label("ce", 0.05), loss_label("/home/me/my_loss.py")
    ('CE', 'LS δ = 0.05', 'my_loss.py')
    """
    if loss == "ce":
        return f"LS δ = {delta:g}" if delta else "CE"
    return Path(loss).name if custom.is_file(loss) else {"mse": "MSE"}.get(loss, loss)


def plan_dynamics(
    profile: str, losses: Sequence[str] = LOSSES, data_set: str = ""
) -> list[RunSpec]:
    """The networks of the training curves (F1, F2, F9, F11, F12): cross-entropy, strength 0.05, and
    the other losses asked for.

    Raises:
        UsageError: for an unknown profile, data set or loss, for no loss, or for two files of one
            name, which figures could not tell apart.
    """
    asked = list(dict.fromkeys(map(str, convert(losses, [], "losses"))))
    names = {Path(name).name for name in asked}
    if not asked or len(names) < len(asked):
        raise UsageError(
            "losses must name one or more losses, and files under different names, "
            f"got {list(losses)!r}."
        )
    specs = []
    for size in sizes_of(profile, data_set):
        for name in dict.fromkeys((*LOSSES, *asked)):
            specs += _replicates(size, name)
    return specs


def plan_strengths(profile: str, data_set: str = "") -> list[RunSpec]:
    """The networks over smoothing strengths (F3, F6, F7); strengths 0 and 0.05 are those of
    `plan_dynamics`.

    Raises:
        UsageError: for an unknown profile or data set.
    """
    specs = plan_dynamics(profile, data_set=data_set)
    for size in sizes_of(profile, data_set):
        specs += _other_strengths(size)
    return specs


def plan_halved(profile: str, data_set: str = "") -> list[RunSpec]:
    """The networks of `plan_strengths` once more with half as long a schedule, measured at its end:
    all seeds of strengths 0 and 0.05, `DeepSize.halved_seeds` of the others.

    They show whether training ended, see `premises.check_ended`.

    Raises:
        UsageError: for an unknown profile or data set.
    """
    specs = plan_dynamics(profile, data_set=data_set)
    for size in sizes_of(profile, data_set):
        specs += [spec for spec in _other_strengths(size) if spec.seed < size.halved_seeds]
    return halve_schedules(specs)


def halve_schedules(specs: Sequence[RunSpec]) -> list[RunSpec]:
    """The same networks from the same starts, with half as many epochs before every step of the
    rate and in all, measured at the end.
    """
    halved = []
    for spec in specs:
        epochs, steps = spec.epochs // 2, tuple(step // 2 for step in spec.lr_steps)
        settings = {"lr_steps": steps, "evaluate_at": (epochs,), "keep_at": ()}
        halved.append(replace(spec, epochs=epochs, **settings))
    return halved


def plan_calibration(profile: str, data_set: str = "") -> list[RunSpec]:
    """The networks of the calibration figures (F3 to F5): those of `plan_strengths`, and once more
    under that section's own weight decay.

    Raises:
        UsageError: for an unknown profile or data set.
    """
    specs = plan_strengths(profile, data_set)
    for size in sizes_of(profile, data_set):
        if size.calibration_weight_decay is None:
            continue
        network = replace(size.network, weight_decay=size.calibration_weight_decay)
        lighter = replace(size, network=network)
        for name in LOSSES:
            specs += _replicates(lighter, name)
        specs += _other_strengths(lighter)
    return specs


def _replicates(size: DeepSize, name: str) -> list[RunSpec]:
    """One loss with all its seeds."""
    settings = loss_settings(name, source_of(size.network.data).num_classes)
    network = replace(size.network, keep_at=size.keep_at, **settings)
    return [replace(network, seed=seed, order_seed=seed) for seed in range(size.seeds)]


def _other_strengths(size: DeepSize) -> list[RunSpec]:
    """The strengths other than 0 and 0.05 with all their seeds."""
    K = source_of(size.network.data).num_classes
    specs = []
    for delta in size.strengths:
        if delta in (0.0, SMOOTHED):
            continue
        network = replace(size.network, p=kept_mass(delta, K))
        specs += [replace(network, seed=seed, order_seed=seed) for seed in range(size.other_seeds)]
    return specs
