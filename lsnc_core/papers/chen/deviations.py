"""Chen, Ziyin et al. 2020: the paper's settings, and where the networks here differ from them."""

from lsnc_core.papers.chen import networks
from lsnc_core.papers.page import (
    ANY,
    SMALLER_BATCH,
    Comparison,
    Deviation,
    Setting,
    compare_settings,
    name_schedule,
    plain_settings,
)
from lsnc_core.profiles import PROFILES

EVERYWHERE = tuple(PROFILES)
_NOT_STATED = "not stated"
_TENTHS = tuple(k / 10 for k in range(1, 11))

SETTINGS = (
    Setting(
        "image sets",
        "MNIST and CIFAR-10",
        "a smaller image set trains in the profile's time",
        ("data",),
        read=lambda spec: spec.data,
        grid={"": ("mnist", "cifar10")},
    ),
    Setting(
        "training images",
        "60,000 (CIFAR-10 50,000)",
        "fewer images train in the profile's time",
        ("train_size",),
        wanted={"": 60000, "cifar10": 50000},
    ),
    Setting(
        "test images",
        "10,000",
        "the smaller image set has fewer test images",
        ("test_size",),
        wanted={"": 10000},
    ),
    Setting(
        "pooling of pixels", "none", "fewer pixels make training faster", ("pool",), wanted={"": 1}
    ),
    Setting(
        "network",
        "two convolutions and two linear layers (CIFAR-10: ResNet-18)",
        "an MLP memorises its noisy labels in the time that the profile has",
        ("model", "batch_norm"),
        read=lambda spec: spec.model + (" with batch norm" if spec.batch_norm else ""),
        wanted={"": "cnn", "cifar10": "resnet18"},
    ),
    Setting(
        "width of the ResNet-18",
        "64 channels in the first stage",
        "a narrower network trains in the profile's time",
        ("widths",),
        read=lambda spec: spec.widths[0],
        wanted={"": ANY, "cifar10": 64},
    ),
    Setting(
        "epochs",
        "100",
        "long enough to memorise the small training set",
        ("epochs",),
        wanted={"": 100},
    ),
    Setting("batch", "128", SMALLER_BATCH, ("batch",), wanted={"": 128}),
    Setting(
        "learning rate", "0.01", "larger, because there are fewer steps", ("lr",), wanted={"": 0.01}
    ),
    Setting("momentum", "0.9", "", ("momentum",), wanted={"": 0.9}),
    Setting("weight decay", "none", "", ("weight_decay",), wanted={"": 0.0}),
    Setting(
        "schedule",
        "constant (CIFAR-10: the learning rate is halved after epochs 50 and 75)",
        "a learning rate that falls to 0 ends training in fewer steps",
        ("schedule", "lr_steps", "lr_factor"),
        read=name_schedule,
        wanted={"": "constant", "cifar10": "times 0.5 after epochs 50, 75"},
    ),
    Setting(
        "clean rates a",
        "steps of 0.1, most likely, and 0.95",
        "fewer rates leave time for more seeds at each",
        ("a",),
        grid={"": (*_TENTHS[:-1], 0.95)},
    ),
    Setting(
        "kept masses p",
        "steps of 0.1, most likely",
        "fewer masses leave time for more seeds at each",
        ("p",),
        grid={"": _TENTHS},
    ),
    Setting(
        "precision",
        f"{_NOT_STATED}; float32 was usual",
        "bfloat16 is faster on a GPU",
        ("precision",),
        wanted={"": "float32"},
    ),
    *plain_settings("noise", "smoothing", "loss"),
    *plain_settings("clip", "feature_norm", "lambda_W", "lambda_b", "lambda_H"),
    Setting(
        "channels and windows of the CNN",
        _NOT_STATED,
        "patches instead of overlapping windows, so that many networks train together",
        here=dict.fromkeys(("smoke", "gpu", "paper"), "4x4 windows at stride 2, then 2x2 patches"),
    ),
    Setting(
        "initialisation",
        _NOT_STATED,
        "torch's rule for single layers",
        here=dict.fromkeys(EVERYWHERE, "U(-1/√fan in, 1/√fan in)"),
    ),
    Setting(
        "pixel statistics",
        _NOT_STATED,
        "each image set is standardised by its own statistics, as is usual",
        here=dict.fromkeys(EVERYWHERE, "of the images used"),
    ),
    Setting(
        "augmentation",
        _NOT_STATED,
        "the theory is about memorised labels, which augmentation hinders",
        here=dict.fromkeys(EVERYWHERE, "none"),
    ),
    Setting(
        "seeds",
        _NOT_STATED,
        "an interval over seeds needs at least four",
        here={
            "smoke": "4 at a = 0.8, else 1",
            "quick": "4",
            "hour": "8",
            "gpu": "4",
            "paper": "4, on CIFAR-10 at a = 0.5, 0.8 and 0.95 alone",
        },
    ),
)


def compare(profile: str) -> Comparison:
    """The paper's settings beside those of the networks of both landscapes.

    Raises:
        UsageError: for an unknown profile.
    """
    specs = networks.plan_landscape(profile) + networks.plan_cifar(profile)
    return compare_settings(SETTINGS, profile, specs)


def list_deviations(profile: str) -> list[Deviation]:
    """Where the networks of both landscapes differ from the paper.

    Raises:
        UsageError: for an unknown profile.
    """
    return list(compare(profile).deviations)
