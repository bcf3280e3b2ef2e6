"""Guo et al. 2025 (arXiv 2402.03979), deep networks: what is trained by profile, and the claims.

delta is the smoothing strength, y = (1 - delta) onehot + delta/K; delta = 0 is cross-entropy (CE),
the paper's main comparison is 0.05 against it. NC1, NC2, NC3 are its equations 4 to 6. The full
text was not at hand: places are named by content, F1 to F12 are ids of ours.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from lsnc_core import custom, labels
from lsnc_core.data_sources import source_of
from lsnc_core.errors import UsageError
from lsnc_core.papers import guo
from lsnc_core.papers.claims import OURS, Claim
from lsnc_core.runs.spec import RunSpec

PAPER, SMOOTHED = guo.PAPER, guo.SMOOTHED
STRENGTHS = (0.0, 0.05, 0.1, 0.2, 0.5, 0.8, 0.9)  # F7

# The claims' thresholds, fixed before the first run.
ERROR_REACHED = 0.01  # training error that counts as learned
NC1_REACHED = 2.0  # times cross-entropy's last NC1: what counts as collapsed, for both
SLOPE_PART = (
    10 / 150,
    100 / 150,
)  # G10's slope: the paper's epochs 10 to 100, as a part of the epochs before the rate first falls
LOSS_OFFSETS = {
    "cifar10": 0.002,
    "cifar100": 0.006,
    "stl10": 0.01,
    "tiny-imagenet": 0.005,
}  # c of log(loss - least loss + c), released code
LOSS_OFFSET = 0.002  # for every other image set
AFTER_SCALING = 0.5  # G7: difference in ECE once temperatures are fitted, by that before, at most
NORM_TOLERANCE, SETTLED = (
    0.02,
    0.005,
)  # G9: distance from the closed form; change over the last fifth of training that counts as none
COLLAPSED = 0.1  # NC1 up to which features count as collapsed, which the theorem presumes; above it a miss decides nothing

_CLAIMS = (
    (
        "G1",
        "abstract; plots of the training dynamics (F1)",
        "With label smoothing training error and collapse converge faster.",
        f"epochs to a training error of {ERROR_REACHED:.0%}, and to {NC1_REACHED:g} times CE's last NC1: at most those of CE",
    ),
    (
        "G2",
        "abstract; F1",
        "With label smoothing NC1 is stronger at the end of training.",
        "last NC1 below that of CE",
    ),
    (
        "G3",
        "abstract; F1",
        "With label smoothing NC2 is stronger at the end of training.",
        "last NC2 below that of CE",
    ),
    (
        "G4",
        "abstract; NC1 against NC2 (F2)",
        "At the same level of NC1, label smoothing has the smaller NC2 (collapse of class means and classifier to a simplex).",
        "NC2(LS) − NC2(CE), mean over log NC1 where both networks have been, below 0",
    ),
    (
        "G5",
        "norms against the strength (F3, F6)",
        "Norms of classifier and features shrink as the smoothing strength grows.",
        "each norm falls from every strength to the next; at δ = 0.05 the released values of STL-10 (ResNet-50, 800 epochs) end at "
        "0.79 (classifier) and 0.66 (features) of those without smoothing",
    ),
    (
        "G6",
        "temperature against the strength (F3)",
        "The optimal temperature falls with the strength and crosses 1.",
        f"T* above 1 without smoothing, lower at δ = {SMOOTHED}, below 1 at the largest δ",
    ),
    (
        "G7",
        "section on calibration (F3, F4)",
        "Label smoothing is better calibrated before temperature scaling, and little different after it.",
        f"ECE(LS) below ECE(CE) before; after it the difference is at most {AFTER_SCALING:g} of what it was, whatever its sign",
    ),
    (
        "G8",
        "section on calibration (F5); our reading of its panels",
        "While a network trained with cross-entropy collapses further, its calibration gets worse.",
        f"rank correlation of ECE with −log NC1 over the epochs after a training error of {ERROR_REACHED:.0%}: above 0",
    ),
    (
        "G9",
        "check of Theorem 1 on networks (F10)",
        "Networks trained with the theorem's decays reach its norms of classifier and features.",
        f"mean ‖w_k‖ and ‖h_k‖ within {NORM_TOLERANCE:.0%} of the closed form",
    ),
    (
        "G10",
        "plots of log(loss − lowest loss) (F9)",
        "The training loss approaches its lowest value faster with label smoothing.",
        "slope of log(loss − lowest loss + c) over epochs, while the first rate lasts: below that of CE",
    ),
    (
        "G14",
        "asked of F6, whose direction at large strengths is not known to us; in the feature model the speed is best inside",
        "The features end most collapsed at a strength between the ends.",
        "lowest NC1 at the end of training inside the range of δ",
    ),
)
CLAIMS = {
    name: Claim(name, OURS if name == "G14" else PAPER, place, sentence, expected)
    for name, place, sentence, expected in _CLAIMS
}


@dataclass(frozen=True)
class DeepSize:
    """What is trained on one image set.

    network: the run with delta = 0 and seed 0, all others differ from it in label smoothing and
    seed. seeds: of delta = 0 and 0.05;
    other_seeds: of the other strengths. keep_at: epochs of `RunSpec.keep_at`, for those two
    strengths.
    calibration_decay: weight decay with which all strengths are trained once more for the section
    on calibration; the paper has a fifth of its usual decay in one section, most likely this one.
    """

    network: RunSpec
    seeds: int
    other_seeds: int
    keep_at: tuple[int, ...]
    calibration_decay: float | None = None
    strengths: tuple[float, ...] = STRENGTHS


def _network(
    data: str, sizes: tuple[int, int, int], model: str, widths: tuple[int, ...], **settings
) -> RunSpec:
    """A run with the paper's rate, momentum and schedule but for `settings`; sizes are training,
    validation and test images.
    """
    usual = {
        "pool": 1,
        "a": 1.0,
        "p": 1.0,
        "lr": 0.05,
        "momentum": 0.9,
        "schedule": "steps",
        "seed": 0,
        "order_seed": 0,
    }
    shown = {
        "train_size": sizes[0],
        "validation_size": sizes[1],
        "test_size": sizes[2],
        "model": model,
        "widths": widths,
    }
    return RunSpec(data=data, **(usual | shown | settings))


def until(epochs: int, *more: int) -> tuple[int, ...]:
    """Epochs at which to measure: dense early on."""
    usual = (
        1,
        2,
        3,
        4,
        6,
        8,
        11,
        15,
        20,
        25,
        30,
        40,
        50,
        60,
        70,
        80,
        100,
        120,
        150,
        200,
        250,
        300,
        350,
        400,
        500,
        600,
        700,
        800,
    )
    return tuple(sorted({epoch for epoch in (*usual, *more) if epoch < epochs} | {epochs}))


# The paper's recipe: batch 128, decay 5e-4, the rate divided by ten at epochs 150 and 350 of 800
# (Tiny ImageNet: 100 and 200 of 300), no augmentation. A tenth of the training images (5,000 at
# most) is held out here for temperatures. On a GPU: bfloat16.
_RECIPE = {"batch": 128, "weight_decay": 5e-4, "precision": "bfloat16"}
_LONG = _RECIPE | {"epochs": 800, "evaluate_at": until(800), "lr_steps": (150, 350)}
_KEPT = (60, 150, 200, 350, 500, 800)

NETWORKS = {
    "smoke": (
        DeepSize(
            _network(
                "digits", (200, 100, 200), "cnn", (4, 8, 16), batch_norm=True, batch=20, weight_decay=5e-3,
                epochs=16, evaluate_at=(1, 2, 4, 6, 8, 12, 16), lr_steps=(10, 14),
            ),
            seeds=4, other_seeds=1, keep_at=(4, 8, 12, 16), strengths=(0.0, 0.05, 0.9),
        ),
    ),
    "quick": (
        DeepSize(
            _network(
                "mnist-subset", (1000, 500, 2000), "cnn", (8, 16, 64), pool=2, batch_norm=True, batch=50, weight_decay=5e-3,
                epochs=150, evaluate_at=until(150, 5, 68), lr_steps=(64, 107),
            ),
            seeds=4, other_seeds=4, keep_at=(3, 8, 20, 40, 60, 70, 100, 150), calibration_decay=1e-3,
        ),
    ),
    "gpu": (
        DeepSize(
            _network("cifar10", (45000, 5000, 10000), "resnet18", (64,), **_RECIPE, epochs=120, evaluate_at=until(120), lr_steps=(22, 52)),
            seeds=4, other_seeds=1, keep_at=(20, 40, 60, 80, 100, 120),
        ),
    ),
    "paper": (
        DeepSize(
            _network("cifar10", (45000, 5000, 10000), "resnet18", (64,), **_LONG),
            seeds=4, other_seeds=4, keep_at=_KEPT, calibration_decay=1e-4,
        ),
        DeepSize(
            _network("cifar100", (45000, 5000, 10000), "resnet50", (64,), **_LONG),
            seeds=4, other_seeds=4, keep_at=_KEPT, calibration_decay=1e-4,
        ),
        DeepSize(_network("stl10", (4500, 500, 8000), "resnet50", (64,), **_LONG), seeds=4, other_seeds=4, keep_at=_KEPT),
        DeepSize(
            _network(
                "tiny-imagenet", (95000, 5000, 10000), "resnet50", (64,), **_RECIPE,
                epochs=300, evaluate_at=until(300), lr_steps=(100, 200),
            ),
            seeds=4, other_seeds=4, keep_at=(60, 100, 150, 200, 250, 300),
        ),
    ),
}  # fmt: skip


def sizes(profile: str, data_set: str = "") -> tuple[DeepSize, ...]:
    """What a profile trains, an image set each; or the first of them on another image set, with as
    many images as there are.

    Raises: UsageError, for an unknown profile or data set.
    """
    from lsnc_core import models

    if profile not in NETWORKS:
        raise UsageError(f"unknown profile {profile!r}; the profiles are {', '.join(NETWORKS)}.")
    if not data_set:
        return NETWORKS[profile]
    size, source = NETWORKS[profile][0], source_of(data_set)
    usual = size.network
    train_size, validation_size = source.split(usual.train_size, usual.validation_size, usual.batch)
    network = replace(
        usual,
        data=source.name,
        train_size=train_size,
        validation_size=validation_size,
        test_size=min(usual.test_size, source.sizes[1]),
        pool=source.pool(usual.pool, models.CNN_SIDE),
    )
    return (replace(size, network=network),)


def arm(name: str, K: int) -> dict[str, object]:
    """The settings of a named arm: "ce", "ls" (strength 0.05), "focal", "mse", or the path of a
    reader's .py file.

    A path that does not exist as it is given is looked for in the project's folder. Raises:
    UsageError, for another name.

    >>> arm("ls", 10)["p"]
    0.955
    """
    if custom.is_file(name):
        return {"loss": custom.resolve(name)}
    if name == "ls":
        return {"p": round(float(labels.kept_from_strength(SMOOTHED, K)), 12)}
    if name not in ("ce", "focal", "mse"):
        raise UsageError(
            f"there is no loss {name!r} here: there are ce, ls, focal, mse, and the path of a .py file of your own."
        )
    return {"loss": name}


def arm_label(loss: str, delta: float = 0.0) -> str:
    """What an arm is called in figures, from its loss (a reader's file: by its file name) and
    strength.

    >>> arm_label("ce"), arm_label("ce", 0.05), arm_label("/home/me/my_loss.py")
    ('CE', 'LS δ = 0.05', 'my_loss.py')
    """
    if loss == "ce":
        return f"LS δ = {delta:g}" if delta else "CE"
    return Path(loss).name if custom.is_file(loss) else {"focal": "focal", "mse": "MSE"}[loss]


def with_arms(table, losses: tuple[str, ...] | list[str]):
    """The rows of a table of `guo_collapse.history` that belong to the arms asked for, in that
    order.
    """
    import pandas as pd

    labels_asked = [
        arm_label("ce", SMOOTHED) if name == "ls" else arm_label(name)
        for name in dict.fromkeys(losses)
    ]
    return pd.concat([table[table.arm == label] for label in labels_asked])


def dynamics_runs(
    profile: str, losses: tuple[str, ...] | list[str] = ("ce", "ls"), data_set: str = ""
) -> list[RunSpec]:
    """The networks of the training curves (F1, F2, F9, F11, F12): cross-entropy and strength 0.05,
    and the other arms asked for.

    Raises:
        UsageError: for an unknown profile, data set or arm, no arm at all, or two files of one
            name, which could not be told apart.
    """
    names = [Path(name).name for name in dict.fromkeys(losses)]
    if not names or len(set(names)) < len(names):
        raise UsageError(
            f"losses must name one or more arms, files under different names, got {list(losses)!r}."
        )
    return [
        spec
        for size in sizes(profile, data_set)
        for name in dict.fromkeys(("ce", "ls", *losses))
        for spec in _seeds(size, name)
    ]


def _seeds(size: DeepSize, name: str) -> list[RunSpec]:
    settings = arm(name, source_of(size.network.data).num_classes)
    return [
        replace(size.network, keep_at=size.keep_at, seed=seed, **settings)
        for seed in range(size.seeds)
    ]


def strength_runs(profile: str, data_set: str = "") -> list[RunSpec]:
    """The networks over smoothing strengths (F3, F6, F7); those of strength 0 and 0.05 are the ones
    of `dynamics_runs`.
    """
    return dynamics_runs(profile, data_set=data_set) + [
        spec for size in sizes(profile, data_set) for spec in _others(size)
    ]


def dynamics_notebook_runs(
    profile: str, losses: tuple[str, ...] | list[str] = ("ce", "ls"), data_set: str = ""
) -> list[RunSpec]:
    """All networks of the notebook on training: the curves' arms and the strengths."""
    return list(
        dict.fromkeys(dynamics_runs(profile, losses, data_set) + strength_runs(profile, data_set))
    )


def _others(size: DeepSize) -> list[RunSpec]:
    K = source_of(size.network.data).num_classes
    kept = [
        round(float(labels.kept_from_strength(delta, K)), 12)
        for delta in size.strengths
        if delta not in (0.0, SMOOTHED)
    ]
    return [replace(size.network, p=p, seed=seed) for p in kept for seed in range(size.other_seeds)]


def calibration_runs(profile: str, data_set: str = "") -> list[RunSpec]:
    """The networks of the calibration figures (F3 to F5): those of `strength_runs`, and once more
    under that section's own decay.
    """
    more = []
    for size in sizes(profile, data_set):
        if size.calibration_decay is not None:
            lighter = replace(
                size, network=replace(size.network, weight_decay=size.calibration_decay)
            )
            more += [spec for name in ("ce", "ls") for spec in _seeds(lighter, name)] + _others(
                lighter
            )
    return strength_runs(profile, data_set) + more
