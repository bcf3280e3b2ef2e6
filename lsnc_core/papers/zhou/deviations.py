"""Zhou et al. 2022: the paper's settings, and where the networks here differ from them."""

from lsnc_core import labels
from lsnc_core.data_sources import source_of
from lsnc_core.papers.page import (
    ANY,
    SMALLER_BATCH,
    Comparison,
    Deviation,
    Setting,
    compare_settings,
    name_pixels,
    plain_settings,
)
from lsnc_core.papers.zhou import networks
from lsnc_core.papers.zhou.networks import BASE, LOSSES, loss_name, lr_steps
from lsnc_core.profiles import PROFILES
from lsnc_core.runs.spec import RunSpec

EVERYWHERE = tuple(PROFILES)
_RELEASED, _LATER = "from epochs 3E/7 and 5E/7 on", "after epochs 3E/7 and 5E/7"


def _strength(spec: RunSpec) -> float | None:
    """The strength of LS; None for other losses."""
    K = source_of(spec.data).num_classes
    return round(float(labels.strength_from_kept(spec.p, K)), 9) if spec.p < 1 else None


def _schedule(spec: RunSpec) -> str:
    released = spec.lr_steps == lr_steps(spec.epochs, released=True)
    return f"times {spec.lr_factor:g} {_RELEASED if released else _LATER}"


SETTINGS = (
    Setting(
        "image sets",
        "CIFAR-10, CIFAR-100, mini-ImageNet",
        "no settings are known for mini-ImageNet; CIFAR-100 takes too long for the others",
        ("data",),
        read=lambda spec: spec.data,
        grid={"": ("cifar10", "cifar100", "mini-imagenet")},
    ),
    Setting(
        "training images",
        "45,000",
        "fewer images train in the profile's time",
        ("train_size",),
        wanted={"": 45000},
    ),
    Setting(
        "validation images",
        "5,000",
        "fewer images leave fewer for validation",
        ("validation_size",),
        wanted={"": 5000},
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
        "ResNet-50 of inner width w",
        "a smaller network trains in the profile's time",
        ("model", "batch_norm"),
        read=lambda spec: spec.model,
        wanted={"": "resnet50"},
    ),
    Setting(
        "widths",
        "1/4, 1/2, 1, 2",
        "fewer widths fit into the profile's time",
        ("widths",),
        read=lambda spec: spec.widths[0] / BASE[spec.model],
        grid={"": (0.25, 0.5, 1.0, 2.0)},
    ),
    Setting(
        "epochs",
        "100, 200, 400, 800",
        "fewer epochs fit into the profile's time",
        ("epochs",),
        grid={"": (100, 200, 400, 800)},
    ),
    Setting(
        "losses",
        "cross-entropy, label smoothing, focal with γ = 3, MSE rescaled by 15",
        "",
        ("loss",),
        read=lambda spec: loss_name(spec.loss, spec.p),
        grid={"": LOSSES},
    ),
    Setting(
        "strength of label smoothing",
        "0.1 in the scripts for CIFAR-10; 0.05 by default and in the legend of the CIFAR-100 plot",
        "",
        ("p",),
        read=_strength,
        grid={"": (0.1,), "cifar100": (0.05, 0.1)},
    ),
    Setting(
        "learning rate",
        "0.1",
        "other images and a smaller network need another rate",
        ("lr",),
        wanted={"": 0.1},
    ),
    Setting("momentum", "0.9", "", ("momentum",), wanted={"": 0.9}),
    Setting(
        "weight decay",
        "5e-4",
        "ten times as large, so that networks collapse in so few steps",
        ("weight_decay",),
        wanted={"": 5e-4},
    ),
    Setting("batch", "100", SMALLER_BATCH, ("batch",), wanted={"": 100}),
    Setting("clipping", "norm 2", "", ("clip",), wanted={"": 2.0}),
    Setting(
        "schedule",
        "the learning rate falls to a tenth from epochs 3E/7 and 5E/7 on, as in the released code",
        "one epoch later, as a scheduler does that is stepped after each epoch",
        ("schedule", "lr_steps", "lr_factor"),
        read=_schedule,
        wanted={"": f"times 0.1 {_RELEASED}"},
    ),
    Setting(
        "augmentation",
        "crop of images padded with black by 4, flip",
        "digits are not symmetric, and the training of `quick` is short",
        ("augment",),
        wanted={"": "crop-flip-black"},
    ),
    Setting(
        "pixel statistics",
        "mean .4914, .4822, .4465, deviation .2023, .1994, .2010",
        "other images have other statistics",
        ("pixel_mean", "pixel_std"),
        read=name_pixels,
        wanted={"": "mean 0.4914, 0.4822, 0.4465; deviation 0.2023, 0.1994, 0.201"},
    ),
    Setting(
        "checkpoint",
        "best validation accuracy of all epochs",
        "validating after every epoch would take too long",
        ("best_checkpoint",),
        read=lambda spec: "of all epochs" if spec.best_checkpoint else "of the measured epochs",
        wanted={"": "of all epochs"},
    ),
    Setting("initialisation", "not stated", "", ("init",), wanted={"": ANY}),
    Setting(
        "precision",
        "float32",
        "bfloat16 is faster on a GPU",
        ("precision",),
        wanted={"": "float32"},
    ),
    *plain_settings("noise", "smoothing", "feature_norm", "lambda_W", "lambda_b", "lambda_H"),
    Setting("clean rate a", "1", "", ("a",), wanted={"": 1.0}),
    Setting(
        "measuring of collapse",
        "100 times a run, on augmented training images",
        "so many measurements would need too much disk; on augmented images NC1 stays above 0",
        here=dict.fromkeys(EVERYWHERE, "less often, on training images as they are"),
    ),
    Setting(
        "choice of validation images",
        "drawn at random",
        "all pages use the images in one order",
        here=dict.fromkeys(EVERYWHERE, "as many of each class, the same for all networks"),
    ),
    Setting(
        "seeds",
        "3 in every cell",
        "an interval needs four seeds, and one as narrow as half a point of accuracy eight",
        here=dict.fromkeys(EVERYWHERE, "3, in the smallest and the largest cell 8")
        | {
            "smoke": "2, in the smallest and the largest cell 4",
            "quick": "3, in the smallest and the largest cell 4",
        },
    ),
    Setting(
        "test images of CIFAR-100",
        "the released loader standardises them by ImageNet's statistics",
        "an error of the released code",
        here={"paper": "by those of the training images"},
    ),
)


def compare(profile: str) -> Comparison:
    """The paper's settings beside those of the networks of all grids and their measuring.

    Raises:
        UsageError: for an unknown profile.
    """
    specs = networks.plan_grids(networks.grid_runs, profile)
    return compare_settings(SETTINGS, profile, specs)


def list_deviations(profile: str) -> list[Deviation]:
    """Where the networks of all grids and their measuring differ from the paper.

    Raises:
        UsageError: for an unknown profile.
    """
    return list(compare(profile).deviations)
