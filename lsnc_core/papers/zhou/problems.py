"""Zhou et al. 2022: problems in the released code (jinxinzhou/nc_loss) and in the theory, and what
is done about each here.
"""

import numpy as np

from lsnc_core.papers.page import Problem
from lsnc_core.papers.zhou.networks import PIXEL_MEAN, PIXEL_STD
from lsnc_core.theory import ufm, ufm_landscape

# What the released loader of CIFAR-100's test images subtracts and divides by, per colour of images
# in [0, 1]. That of its training images takes `PIXEL_MEAN` and `PIXEL_STD`.
TEST_MEAN, TEST_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def normalisation_mismatch() -> tuple[np.ndarray, np.ndarray]:
    """What the released normalisation of CIFAR-100 does to test images.

    A value x that training would have shown becomes scale x + shift, with scale = s_train / s_test
    and shift = (m_train - m_test) / s_test.

    Returns:
        scale, shift: float64 (3,), of red, green, blue.

    >>> [part.round(3).tolist() for part in normalisation_mismatch()]
    [[0.883, 0.89, 0.893], [0.028, 0.117, 0.18]]
    """
    scale = np.divide(PIXEL_STD, TEST_STD)
    shift = np.subtract(PIXEL_MEAN, TEST_MEAN) / np.array(TEST_STD)
    return scale, shift


def aliased_scatter(features: np.ndarray, labels: np.ndarray, on_cpu: bool) -> float:
    """tr Sigma_W as the released evaluation computes it.

    There the sum of a class begins as a view of the class's first feature. On a GPU the features
    kept for Sigma_W are copies. On a CPU they share memory: the first feature of each class turns
    into the class mean and its deviation is lost.

    Args:
        features: float (N, D).
        labels: int (N,), in the order of the loader.
        on_cpu: whether the kept features share memory.

    Returns:
        float, at least 0.
    """
    import torch

    batch, sums, kept = torch.tensor(features), {}, {}
    for feature, label in zip(batch, labels.tolist(), strict=True):
        if label in sums:
            sums[label] += feature
        else:
            sums[label] = feature
        kept.setdefault(label, []).append(feature.numpy() if on_cpu else feature.numpy().copy())
    scatter = 0.0
    for label, mean in sums.items():
        mean /= len(kept[label])  # in place, as released
        scatter += np.sum((np.array(kept[label]) - mean.numpy()) ** 2)
    return scatter / len(labels)


def list_problems() -> list[Problem]:
    """The problems of the released code and of the theory."""
    parts = []
    names = ("red", "green", "blue")
    for name, scale, shift in zip(names, *normalisation_mismatch(), strict=True):
        parts.append(f"{scale:.2f} x + {shift:.2f} ({name})")
    colours = ", ".join(parts)
    samples = np.random.default_rng(0).standard_normal((100, 8)), np.arange(100) % 4
    lost = 1 - aliased_scatter(*samples, on_cpu=True) / aliased_scatter(*samples, on_cpu=False)
    edge, tie = ufm.focal_convex_from(3.0), ufm_landscape.focal_tie(3, 100)
    low, high = ufm_landscape.focal_window(3, 100)
    return [
        Problem(
            "Test images of CIFAR-100",
            "The test loader normalises by ImageNet's mean and standard deviation, the training "
            "and validation loaders by CIFAR-10's. The loaders of CIFAR-10 agree.",
            "One mean and standard deviation for every split.",
            f"A value x that training would have shown the network becomes {colours}.",
            notebook="zhou_1_losses_collapse",
        ),
        Problem(
            "Collapse on augmented images",
            "NC1 to NC3 are computed on randomly cropped and flipped training images, which keeps "
            "NC1 away from 0.",
            "NC1 to NC3 are computed on the training images as they are.",
            notebook="zhou_1_losses_collapse",
        ),
        Problem(
            "Class sums share memory with features",
            "The sum of a class begins as a view of the class's first feature and is added to in "
            "place. On a GPU the features kept for Σ_W are copies, so nothing is lost. On a CPU "
            "the first deviation of each class is lost.",
            "Sums are arrays of their own.",
            f"Of 25 random features a class, {lost:.1%} of tr Σ_W is lost.",
            notebook="zhou_1_losses_collapse",
        ),
        Problem(
            "Strength of smoothing",
            "0.05 is the default and stands in the legend of the CIFAR-100 plot, 0.1 in the "
            "scripts that run CIFAR-10. The README's examples of evaluation pair folders with "
            "other widths and epochs.",
            "0.1; the parameter `smoothing` takes 0.05, and `paper` has both on CIFAR-100.",
            notebook="zhou_1_losses_collapse",
        ),
        Problem(
            "Uniqueness in the contrastive property",
            "The property asks for uniqueness at every weight decay. Under focal loss it fails at "
            "one weight decay where 1/K is below p*(γ).",
            "Outside that value the global minimisers are as claimed. In a window around it, the "
            "worse of the two is a local minimum and no strict saddle.",
            f"At γ = 3 and K = 100, p* = {edge:.4f}: ε = {tie:.6f} has two minimisers (drawn in "
            f"zhou_3_landscape), and two local minima lie at every ε from {low:.4f} to {high:.4f}.",
            notebook="zhou_3_landscape",
        ),
        Problem(
            "Folders of the data",
            "The loaders of one data set look for training and for test images in different "
            "folders, ./data and ../data.",
            "One reader serves both.",
            notebook="zhou_1_losses_collapse",
        ),
    ]
