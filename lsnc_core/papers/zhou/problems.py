"""Zhou et al. 2022: problems found in the released code (jinxinzhou/nc_loss) and in the theory, and
what is done about each here.
"""

import numpy as np

from lsnc_core.theory import ufm, ufm_landscape

# per colour channel, of images in [0, 1]: what the released CIFAR-100 loaders subtract and divide
# by
TRAIN_MEAN, TRAIN_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
TEST_MEAN, TEST_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def mismatch() -> tuple[np.ndarray, np.ndarray]:
    """What the released normalisation of CIFAR-100 does to test images: x as a training image would
    be becomes scale x + shift.

    Formula: scale = s_train/s_test, shift = (m_train - m_test)/s_test. Returns: scale, shift,
    float64 (3,), of red, green, blue.

    >>> [part.round(3).tolist() for part in mismatch()]
    [[0.883, 0.89, 0.893], [0.028, 0.117, 0.18]]
    """
    return np.divide(TRAIN_STD, TEST_STD), np.subtract(TRAIN_MEAN, TEST_MEAN) / np.array(TEST_STD)


def aliased_scatter(features: np.ndarray, labels: np.ndarray, on_cpu: bool) -> float:
    """tr Sigma_W as the released evaluation computes it, whose class sums begin as views of the
    first feature of each class.

    On a GPU the features kept for Sigma_W are copies; on a CPU they share memory, the first of each
    class becomes its class mean, and
    its deviation is lost. Args: features, float (N, D); labels, int (N,), in the order of the
    loader. Returns: float >= 0.
    """
    import torch

    batch, sums, kept = torch.tensor(features), {}, {}
    for feature, label in zip(batch, labels.tolist(), strict=True):
        if label in sums:
            sums[label] += feature
        else:
            sums[label] = feature
        kept.setdefault(label, []).append(feature.numpy() if on_cpu else feature.numpy().copy())
    for label in sums:
        sums[label] /= len(kept[label])
    return sum(np.sum((np.array(kept[label]) - sums[label].numpy()) ** 2) for label in sums) / len(
        labels
    )


def problems() -> list[tuple[str, str, str]]:
    """Heading, what is released, what is done here: for each problem."""
    scale, shift = mismatch()
    colours = ", ".join(
        f"{a:.2f} x + {b:.2f} ({name})"
        for a, b, name in zip(scale, shift, ("red", "green", "blue"), strict=True)
    )
    samples = np.random.default_rng(0).standard_normal((100, 8)), np.arange(100) % 4
    lost = 1 - aliased_scatter(*samples, on_cpu=True) / aliased_scatter(*samples, on_cpu=False)
    return [
        (
            "Test images of CIFAR-100",
            "The test loader normalises by ImageNet's mean and deviation, the training and validation loaders by CIFAR-10's: a value x "
            f"that training would have shown the network becomes {colours}. The loaders of CIFAR-10 agree.",
            "One mean and deviation, of the training images, for every split.",
        ),
        (
            "Collapse on augmented images",
            "NC1 to NC3 are computed on randomly cropped and flipped training images, which keeps NC1 from 0.",
            "On the training images as they are.",
        ),
        (
            "Class sums share memory with features",
            "The sum of a class begins as a view of the class's first feature and is added to in place. On a GPU what is kept for "
            f"Σ_W are copies, so nothing is lost; on a CPU the first deviation of each class is (25 random features a class: {lost:.1%} "
            "of tr Σ_W).",
            "Sums are arrays of their own.",
        ),
        (
            "Strength of smoothing",
            "0.05 is the default and in the legend of the CIFAR-100 plot, 0.1 in the scripts that run CIFAR-10; the README's examples of "
            "evaluation pair folders with other widths and epochs.",
            "0.1; the parameter `smoothing` takes 0.05.",
        ),
        (
            "Uniqueness in the contrastive property",
            "Asked for every decay; under focal loss it fails at one decay where 1/K is below p*(γ).",
            f"At γ = 3 and K = 100, p* = {ufm.focal_convex_from(3.0):.4f}: ε = {ufm_landscape.focal_tie(3, 100):.6f} has two minimisers "
            "(drawn in zhou_3_landscape). Outside that value the theorem stands.",
        ),
        (
            "Folders of the data",
            "The loaders of one data set look for training and for test images in different folders, ./data and ../data.",
            "One reader for both.",
        ),
    ]
