"""Guo et al. 2025: the paper's settings, and where the networks here differ from them."""

from lsnc_core.papers.guo import networks
from lsnc_core.papers.guo.measured import strength
from lsnc_core.papers.guo.networks import STRENGTHS
from lsnc_core.papers.guo.theorem_networks import SIZES
from lsnc_core.papers.page import (
    ANY,
    SMALLER_BATCH,
    Comparison,
    Deviation,
    Setting,
    compare_settings,
    name_network,
    name_pixels,
    name_schedule,
    plain_settings,
)
from lsnc_core.profiles import PROFILES

EVERYWHERE = tuple(PROFILES)
_DEEP = "resnet50 of width 64"
_PIXELS = "mean 0.4914, 0.4822, 0.4465; deviation "


SETTINGS = (
    Setting(
        "image sets",
        "CIFAR-10, CIFAR-100, STL-10, Tiny ImageNet",
        "fewer and smaller image sets train in the profile's time",
        ("data",),
        read=lambda spec: spec.data,
        grid={"": ("cifar10", "cifar100", "stl10", "tiny-imagenet")},
    ),
    Setting(
        "training images",
        "all: 50,000 (STL-10 5,000, Tiny ImageNet 100,000)",
        "a tenth, at most 5,000, is held out to fit temperatures, which the released code fits on "
        "test images; fewer train in the time of the smaller profiles",
        ("train_size",),
        wanted={"": 50000, "stl10": 5000, "tiny-imagenet": 100000},
    ),
    Setting(
        "test images",
        "10,000 (STL-10 8,000)",
        "the smaller image set has fewer test images",
        ("test_size",),
        wanted={"": 10000, "stl10": 8000},
    ),
    Setting(
        "pooling of pixels", "none", "fewer pixels make training faster", ("pool",), wanted={"": 1}
    ),
    Setting(
        "network",
        "ResNet-18 on CIFAR-10, ResNet-50 on the others",
        "a smaller network trains in the profile's time",
        ("model", "widths", "batch_norm"),
        read=name_network,
        wanted={
            "": "resnet18 of width 64",
            "cifar100": _DEEP,
            "stl10": _DEEP,
            "tiny-imagenet": _DEEP,
        },
    ),
    Setting(
        "initialisation",
        "torchvision's of ResNets (N(0, 2/fan out)), the stem and classifier torch's",
        "the small CNN has none of torchvision's layers",
        ("init",),
        wanted={"": "torchvision"},
    ),
    Setting(
        "epochs",
        "800 (Tiny ImageNet 300)",
        "fewer epochs fit into the profile's time",
        ("epochs",),
        wanted={"": 800, "tiny-imagenet": 300},
    ),
    Setting(
        "schedule",
        "the learning rate falls to a tenth at epochs 150 and 350 (Tiny ImageNet 100 and 200)",
        "in `gpu` at the paper's shares of training, on smaller image sets at later ones",
        ("schedule", "lr_steps", "lr_factor"),
        read=name_schedule,
        wanted={
            "": "times 0.1 after epochs 150, 350",
            "tiny-imagenet": "times 0.1 after epochs 100, 200",
        },
    ),
    Setting(
        "learning rate",
        "0.05",
        "larger in `hour`, so that training ends in its 20,000 steps",
        ("lr",),
        wanted={"": 0.05},
    ),
    Setting("momentum", "0.9", "", ("momentum",), wanted={"": 0.9}),
    Setting("batch", "128", SMALLER_BATCH, ("batch",), wanted={"": 128}),
    Setting(
        "weight decay",
        "5e-4; 1e-4 in one section, most likely that on calibration",
        "ten times as large in `smoke`, `quick` and `hour`, so that networks collapse in few "
        "steps; the smaller one for calibration alone, for which `gpu` has no time",
        ("weight_decay",),
        grid={"": (5e-4, 1e-4), "stl10": (5e-4,), "tiny-imagenet": (5e-4,)},
    ),
    Setting(
        "smoothing strengths",
        "0, 0.05, 0.1, 0.2, 0.5, 0.8, 0.9 (Tiny ImageNet 0 and 0.05)",
        "fewer strengths leave time for four seeds of each",
        ("p",),
        read=strength,
        grid={"": STRENGTHS, "tiny-imagenet": (0.0, 0.05)},
    ),
    Setting(
        "precision",
        "not stated; float32 on the hardware of its time",
        "bfloat16 is faster on a GPU",
        ("precision",),
        wanted={"": "float32"},
    ),
    Setting(
        "pixel statistics",
        "mean .4914, .4822, .4465, deviation .247, .243, .261 (STL-10 .2470, .2434, .2615)",
        "other images have other statistics",
        ("pixel_mean", "pixel_std"),
        read=name_pixels,
        wanted={
            "": _PIXELS + "0.247, 0.243, 0.261",
            "stl10": _PIXELS + "0.247, 0.2434, 0.2615",
            "tiny-imagenet": ANY,
        },
    ),
    *plain_settings("augment", "clip", "feature_norm", "lambda_W", "lambda_b", "lambda_H"),
    *plain_settings("loss", "smoothing", "noise"),
    Setting("clean rate a", "1", "", ("a",), wanted={"": 1.0}),
    Setting(
        "last batch of an epoch",
        "left out where incomplete",
        "every image is seen once an epoch",
        here=dict.fromkeys(EVERYWHERE, "used"),
    ),
    Setting(
        "seeds",
        "one run of each network",
        "an interval over seeds needs at least four",
        here=dict.fromkeys(EVERYWHERE, "4")
        | {"smoke": "4, of further strengths 1", "hour": "8 of strengths 0 and 0.05, 4 of others"},
    ),
    Setting(
        "pixel statistics of Tiny ImageNet",
        "its own; the numbers are not known to us",
        "the paper's numbers are not known to us",
        here={"paper": "of the images used"},
    ),
    Setting(
        "training for Theorem 1 (F10)",
        "50,000 images of CIFAR-10, 500 to 1,000 epochs, one seed",
        "four seeds need the time; with few images a small network's features are nearly free, as "
        "the theorem asks",
        here={
            name: f"{size.train_size:,} images, {size.epochs:,} epochs, seeds: {size.seeds}"
            for name, size in SIZES.items()
            if name != "paper"
        },
    ),
)


def compare(profile: str) -> Comparison:
    """The paper's settings beside those of the networks of `networks.plan_calibration` and their
    measuring.

    Raises:
        UsageError: for an unknown profile.
    """
    specs = networks.plan_calibration(profile)
    return compare_settings(SETTINGS, profile, specs)


def list_deviations(profile: str) -> list[Deviation]:
    """Where the networks of `networks.plan_calibration` and their measuring differ from the paper.

    Raises:
        UsageError: for an unknown profile.
    """
    return list(compare(profile).deviations)
