"""An image set in memory: its two parts, prefixes of them, and pixels ready for a network.

This module decides, with the images themselves, what a network is trained on. `data` loads them.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from lsnc_core.errors import UsageError

CHUNK = 250  # images that are standardised at a time


@dataclass(frozen=True, eq=False)
class ImageSet:
    """A training and a test part in memory, each in the class-interleaved order of `data`.

    Attributes:
        name, title: of the set.
        train_images, test_images: uint8 (N, C, H, W), 0..255.
        train_labels, test_labels: int64 (N,), 0..K-1.
        classes: K names.
        checksum: sha256 over dtype, shape and bytes of the four tensors.
        train_order: int64 (N,), where each training image stands in the set's files.
    """

    name: str
    title: str
    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor
    classes: tuple[str, ...]
    checksum: str
    train_order: torch.Tensor

    @property
    def num_classes(self) -> int:
        """K, the number of classes."""
        return len(self.classes)

    def subset(self, train: int | None, test: int | None) -> "ImageSet":
        """The first `train` training and `test` test images; None keeps the whole part.

        Args: train, test: integers of at least 1, or None.
        Returns: a set of its own with its own checksum, class-balanced where the number is a
        multiple of K and no class ran out.
        Raises: `UsageError` for a number below 1 or above the number of images.
        """
        parts = {}
        for part, count in (("train", train), ("test", test)):
            images, labels = getattr(self, f"{part}_images"), getattr(self, f"{part}_labels")
            whole = isinstance(count, int) and not isinstance(count, bool)
            if count is not None and not (whole and 1 <= count <= len(labels)):
                part_name = "training" if part == "train" else "test"
                raise UsageError(
                    f"{self.name} has no subset of {count!r} {part_name} images: "
                    f"ask for a whole number from 1 to {len(labels):,}."
                )
            parts[f"{part}_images"] = images[:count].clone()
            parts[f"{part}_labels"] = labels[:count].clone()
        checksum = sha256(*(tensor.numpy() for tensor in parts.values()))
        order = self.train_order[:train].clone()
        return replace(self, **parts, checksum=checksum, train_order=order)


def sha256(*arrays: np.ndarray) -> str:
    """The sha256, 64 hexadecimal digits, over dtype, shape and bytes of the arrays in turn."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


class Scale(NamedTuple):
    """What the pixels of each channel are standardised by, x = (s - mean) / deviation, with s the
    sum of pixels 0..255 over a pooling window; float32 (C,) each.
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    @property
    def black(self) -> torch.Tensor:
        """A black pixel after standardising, float32 (C,)."""
        return -self.mean / self.deviation


def scale_of(
    image_set: ImageSet,
    pool: int = 1,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
) -> Scale:
    """What the images of a set are standardised by.

    Args:
        image_set: without `mean` and `std`, its training images give them after pooling, the
            deviation divided by the number of pixels, not one less. They come from sums of integers
            in float64, which are exact.
        pool: an integer that divides H and W.
        mean, std: of each channel of images in [0, 1].

    Raises:
        UsageError: for another pool, where a channel has the same value everywhere, and for `mean`
            and `std` of another number of channels.
    """
    channels, height, width = image_set.train_images.shape[1:]
    whole = isinstance(pool, int) and not isinstance(pool, bool) and pool >= 1
    if not whole or height % pool or width % pool:
        raise UsageError(
            f"{image_set.name} cannot be pooled by {pool!r}: "
            f"give a whole number that divides {height} and {width}."
        )
    if mean:
        if len(mean) != channels:
            raise UsageError(
                f"{image_set.name} has {channels} channels, and the pixel mean {tuple(mean)!r} "
                f"has {len(mean)} numbers: give one for each channel."
            )
        window = 255 * pool**2
        return Scale(torch.tensor(mean) * window, torch.tensor(std) * window)
    count = image_set.train_labels.numel() * (height // pool) * (width // pool)
    total, squares = torch.zeros(2, channels, dtype=torch.float64)
    for sums in _window_sums(image_set.train_images, pool):
        sums = sums.double()
        total += sums.sum((0, 2, 3))
        squares += sums.square().sum((0, 2, 3))
    average = total / count
    deviation = (squares / count - average.square()).clamp(min=0).sqrt()
    if not deviation.all():
        raise UsageError(
            f"{image_set.name} cannot be standardised: "
            "a channel has the same value in all its training images."
        )
    return Scale(average.float(), deviation.float())


def standardise(
    image_set: ImageSet, pool: int = 1, scale: Scale | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels ready for a network: averaged over pool x pool squares and standardised by channel.

    Args:
        image_set: the images.
        pool: an integer that divides H and W.
        scale: from `scale_of` with the same pool, by default the set's own.

    Returns:
        train float32 (N_train, C, H/pool, W/pool), under the set's own scale of mean 0 and
        deviation 1 by channel, and test float32 (N_test, ...).

    Raises:
        UsageError: as `scale_of`.
    """
    mean, deviation = (part.view(1, -1, 1, 1) for part in scale or scale_of(image_set, pool))
    height, width = image_set.train_images.shape[2:]
    standardised = []
    for images in (image_set.train_images, image_set.test_images):
        result = torch.empty(len(images), images.shape[1], height // pool, width // pool)
        for chunk, sums in zip(result.split(CHUNK), _window_sums(images, pool), strict=True):
            torch.div(sums.sub_(mean), deviation, out=chunk)
        standardised.append(result)
    return standardised[0], standardised[1]


PADDING = 4


def crops_and_flips(
    count: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random crops of padded images and random flips.

    Returns:
        top and left int64 (count,) in 0..2 PADDING, flip bool (count,).
    """
    top, left = torch.randint(2 * PADDING + 1, (2, count), generator=generator)
    return top, left, torch.rand(count, generator=generator) < 0.5


def crops_and_flips_of(
    images: torch.Tensor,
    padding: torch.Tensor,
    rows: torch.Tensor,
    top: torch.Tensor,
    left: torch.Tensor,
    flip: torch.Tensor,
) -> torch.Tensor:
    """The images of these rows, each padded by PADDING pixels, cropped to size and flipped.

    Args: images float (N, C, H, W); padding float (C,), the value of the padded pixels; rows int64
    (B,); top, left, flip: from `crops_and_flips`.
    Returns: (B, C, H, W).
    """
    channels, height, width = images.shape[1:]
    larger = len(rows), channels, height + 2 * PADDING, width + 2 * PADDING
    padded = padding.to(images.dtype).view(1, -1, 1, 1).expand(larger).clone()  # (B, C, H+8, W+8)
    inside = slice(PADDING, PADDING + height), slice(PADDING, PADDING + width)
    padded[:, :, *inside] = images.index_select(0, rows)
    down = top[:, None] + torch.arange(height, device=top.device)  # (B, H)
    across = torch.arange(width, device=left.device)
    across = left[:, None] + torch.where(flip[:, None], width - 1 - across, across)  # (B, W)
    batch = torch.arange(len(rows), device=rows.device)[:, None, None]
    channels_last = padded.permute(0, 2, 3, 1)
    cropped = channels_last[batch, down[:, :, None], across[:, None, :]]  # (B, H, W, C)
    return cropped.permute(0, 3, 1, 2)  # (B, C, H, W)


def _window_sums(images: torch.Tensor, pool: int) -> Iterator[torch.Tensor]:
    """Sums over pool x pool squares, chunk by chunk.

    Each chunk is float32 (up to CHUNK, C, H/pool, W/pool) and holds integers in 0..255 pool^2.
    """
    for chunk in images.split(CHUNK):
        sums = chunk.float()
        if pool > 1:
            sums = torch.nn.functional.avg_pool2d(sums, pool, divisor_override=1)
        yield sums
