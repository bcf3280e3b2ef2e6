"""Chen, Ziyin et al. 2020 (arXiv 2010.12648): what is trained for the a-p landscape, by profile.

a is the clean rate of the training labels, p the kept mass of the smoothed label.
"""

from dataclasses import dataclass, replace

from lsnc_core.data_sources import source_of
from lsnc_core.errors import UsageError
from lsnc_core.runs.spec import RunSpec


@dataclass(frozen=True)
class LandscapeSize:
    """What the a-p landscape trains in one profile: seeds everywhere, and more seeds at some clean
    rates.
    """

    data: str
    train_size: int
    test_size: int
    pool: int
    widths: tuple[int, ...]
    clean_rates: tuple[float, ...]
    kept: tuple[float, ...]
    seeds: int
    lr: float
    batch: int
    epochs: int
    evaluate_at: tuple[int, ...]
    repeated_rates: tuple[float, ...] = ()
    repeated_seeds: int = 0
    model: str = "cnn"
    lr_steps: tuple[int, ...] = ()
    precision: str = "float32"


_TENTHS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_TWENTIETHS = tuple(k / 20 for k in range(2, 21))
_RATES = (*_TENTHS[:-1], 0.95, 1.0)  # Figure 7 asks for 0.95

LANDSCAPE = {
    "smoke": LandscapeSize(
        data="digits",
        train_size=200,
        test_size=500,
        pool=1,
        widths=(8, 16, 128),
        clean_rates=(0.5, 0.8),
        kept=(0.3, 0.8, 1.0),
        seeds=1,
        repeated_rates=(0.8,),
        repeated_seeds=4,
        lr=0.05,
        batch=64,
        epochs=30,
        evaluate_at=(1, 10, 30),
    ),
    "quick": LandscapeSize(
        data="mnist-subset",
        train_size=500,
        test_size=2000,
        pool=2,
        widths=(8, 16, 128),
        clean_rates=(0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0),
        kept=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0),
        seeds=4,
        lr=0.05,
        batch=64,
        epochs=250,
        evaluate_at=(1, 2, 4, 8, 16, 32, 64, 128, 250),
    ),
    # the paper's optimiser, batch and tenths of p; fewer epochs and seeds; 151,226 parameters,
    # enough to memorise random labels
    "gpu": LandscapeSize(
        data="mnist",
        train_size=60000,
        test_size=10000,
        pool=1,
        widths=(16, 32, 128),
        clean_rates=_RATES,
        kept=(*_TENTHS[:-1], 0.95, 1.0),  # weak smoothing, Figure 11
        seeds=1,
        repeated_rates=(0.5, 0.8, 0.95),
        repeated_seeds=4,
        lr=0.01,
        batch=128,
        epochs=30,
        evaluate_at=(1, 2, 3, 5, 8, 12, 20, 30),
    ),
    "paper": LandscapeSize(
        data="mnist",
        train_size=60000,
        test_size=10000,
        pool=1,
        widths=(16, 32, 128),
        clean_rates=_RATES,
        kept=_TWENTIETHS,
        seeds=4,
        lr=0.01,
        batch=128,
        epochs=100,
        evaluate_at=(1, 2, 3, 5, 8, 12, 20, 30, 50, 75, 100),
    ),
}


# CIFAR-10 (Figures 5 c, d and 7), a ResNet-18. "paper": its 100 epochs with the rate halved after
# epochs 50 and 75; "gpu": a fifteenth of the parameters (0.70 million), fewer epochs and cells.
CIFAR = {
    "gpu": LandscapeSize(
        data="cifar10",
        train_size=50000,
        test_size=10000,
        pool=1,
        widths=(16,),
        clean_rates=(0.5, 0.8, 0.95),
        kept=(0.3, 0.5, 0.7, 0.8, 0.9, 1.0),
        seeds=1,
        lr=0.01,
        batch=128,
        epochs=20,
        evaluate_at=(1, 2, 5, 10, 15, 20),
        model="resnet18",
        lr_steps=(10, 15),
        precision="bfloat16",
    ),
    "paper": LandscapeSize(
        data="cifar10",
        train_size=50000,
        test_size=10000,
        pool=1,
        widths=(64,),
        clean_rates=_RATES,
        kept=_TENTHS,
        seeds=1,
        repeated_rates=(0.5, 0.8, 0.95),
        repeated_seeds=4,
        lr=0.01,
        batch=128,
        epochs=100,
        evaluate_at=(1, 2, 3, 5, 8, 12, 20, 30, 50, 75, 100),
        model="resnet18",
        lr_steps=(50, 75),
    ),
}
# At one clean rate: kept masses, and other numbers of training images with the epochs for them.
SIZE_RATE = 0.8
TRAIN_SIZES = {
    "smoke": ((0.8,), ((100, 30),)),
    "quick": ((0.7, 0.9), ((2000, 250), (1000, 250), (250, 250))),
    "gpu": ((0.7, 0.9), ((20000, 50), (5000, 100), (1000, 300))),
    "paper": ((0.7, 0.9), ((20000, 150), (5000, 400), (1000, 1000))),
}


def _of_profile(table: dict, profile: str):
    """A profile's entry; raises UsageError for an unknown one."""
    if profile not in LANDSCAPE:
        raise UsageError(f"unknown profile {profile!r}; the profiles are {', '.join(LANDSCAPE)}.")
    return table.get(profile)


def _grid(size: LandscapeSize, data_set: str = "") -> list[RunSpec]:
    """The networks of one landscape, on its own image set or on another."""
    from lsnc_core import models

    source = source_of(data_set or size.data)
    train_size, test_size = (
        min(asked, there)
        for asked, there in zip((size.train_size, size.test_size), source.sizes, strict=True)
    )
    runs = []
    for seed in range(max(size.seeds, size.repeated_seeds)):
        rates = size.clean_rates if seed < size.seeds else size.repeated_rates
        runs += [
            RunSpec(
                data=source.name,
                train_size=train_size,
                test_size=test_size,
                pool=source.pool(size.pool, models.CNN_SIDE),
                model=size.model,
                widths=size.widths,
                a=a,
                p=p,
                lr=size.lr,
                momentum=0.9,
                weight_decay=0.0,
                batch=size.batch,
                epochs=size.epochs,
                evaluate_at=size.evaluate_at,
                seed=seed,
                order_seed=0,
                precision=size.precision,
                schedule="steps" if size.lr_steps else "constant",
                lr_steps=size.lr_steps,
                lr_factor=0.5 if size.lr_steps else 0.1,
            )
            for a in rates
            for p in size.kept
        ]
    return runs


def landscape_runs(profile: str, data_set: str = "") -> list[RunSpec]:
    """The networks of the a-p landscape (Chen Figures 5 to 11) in one profile.

    Another image set than the profile's may be named, a reader's file among them; of a smaller one
    all images are used, and images that cannot be pooled are taken as they are.

    Raises:
        UsageError: for an unknown profile or data set.
    """
    return _grid(_of_profile(LANDSCAPE, profile), data_set)


def cifar_runs(profile: str) -> list[RunSpec]:
    """The networks of the landscape on CIFAR-10 (Chen Figures 5 c, d and 7); none in the profiles
    that need no download.

    Raises:
        UsageError: for an unknown profile.
    """
    size = _of_profile(CIFAR, profile)
    return _grid(size) if size else []


def size_runs(profile: str, data_set: str = "") -> list[RunSpec]:
    """The networks for measured minus predicted against the number of training images; args and
    raises as for `landscape_runs`.

    Some of the landscape's own, and others like them but for the number of images and epochs.
    """
    kept, sizes = _of_profile(TRAIN_SIZES, profile)
    here = [
        spec for spec in landscape_runs(profile, data_set) if spec.a == SIZE_RATE and spec.p in kept
    ]
    most = source_of(here[0].data).sizes[0]
    return here + [
        replace(spec, train_size=number, epochs=epochs, evaluate_at=(epochs,))
        for number, epochs in sizes
        if number <= most and number != here[0].train_size
        for spec in here
    ]


def recipe(runs: list[RunSpec]) -> str:
    """How a landscape's networks were trained, in a sentence of numbers."""
    one = runs[0]
    network = f"{one.model} of widths {', '.join(map(str, one.widths))}"
    return f"Networks: {network}; {one.train_size:,} training images, {one.epochs} epochs, rate {one.lr:g}, batch {one.batch}."


def beta_runs(profile: str, data_set: str = "") -> list[RunSpec]:
    """All networks of the notebook on noisy test labels: both landscapes; args and raises as for
    `landscape_runs`.
    """
    return landscape_runs(profile, data_set) + cifar_runs(profile)


def landscape_notebook_runs(profile: str, data_set: str = "") -> list[RunSpec]:
    """All networks of the notebook on the landscape; args and raises as for `landscape_runs`."""
    grid = landscape_runs(profile, data_set)
    # few networks on many images cannot be spread over all cores: they go first
    return (
        [spec for spec in size_runs(profile, data_set) if spec not in grid]
        + grid
        + cifar_runs(profile)
    )
