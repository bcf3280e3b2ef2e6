"""Subsets of image sets, standardised pixels, crops and flips."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import one_sentence
from torchvision.transforms import v2

from lsnc_core import images
from lsnc_core.errors import UsageError
from lsnc_core.images import ImageSet, standardise


def test_subset_is_a_balanced_prefix_with_its_own_checksum(digits):
    small = digits.subset(50, 20)
    assert torch.equal(small.train_images, digits.train_images[:50]) and torch.equal(
        small.test_labels, digits.test_labels[:20]
    )
    assert (
        small.train_labels.bincount().tolist() == [5] * 10
        and small.test_labels.bincount().tolist() == [2] * 10
    )
    assert (
        small.checksum != digits.checksum
        and small.name == digits.name
        and small.classes == digits.classes
    )
    assert digits.subset(None, None).checksum == digits.checksum
    assert digits.subset(1200, None).checksum == digits.checksum
    assert (
        digits.subset(7, None).train_labels.tolist() == list(range(7))
        and len(digits.subset(None, 3).test_labels) == 3
    )


@pytest.mark.parametrize(
    "train, test, word",
    [
        (1201, None, "1201"),
        (None, 541, "541"),
        (0, 1, "0"),
        (-5, 1, "-5"),
        (2.0, 1, "2.0"),
        (True, 1, "True"),
    ],
)
def test_subset_refuses_what_is_not_there(digits, train, test, word):
    with pytest.raises(UsageError, match=word) as caught:
        digits.subset(train, test)
    assert one_sentence(str(caught.value))


# standardise


@pytest.mark.parametrize("pool", [1, 2, 4])
def test_standardise_against_plain_numpy(digits, pool):
    train, test = standardise(digits, pool)

    def pooled(images):
        pixels, side = images.numpy().astype(float) / 255, 8 // pool
        means = np.empty((len(images), 1, side, side))
        for i, j in np.ndindex(side, side):
            window = pixels[:, :, i * pool : (i + 1) * pool, j * pool : (j + 1) * pool]
            means[:, :, i, j] = window.mean((2, 3))
        return means

    expected, tested = pooled(digits.train_images), pooled(digits.test_images)
    assert train.dtype == test.dtype == torch.float32 and train.shape == expected.shape
    assert np.abs(train.numpy() - (expected - expected.mean()) / expected.std()).max() < 2e-6
    assert np.abs(test.numpy() - (tested - expected.mean()) / expected.std()).max() < 2e-6


def test_standardise_treats_each_channel_by_itself_and_every_chunk_alike(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (30, 3, 4, 6), generator=generator, dtype=torch.uint8)
    images[:, 1] //= 2
    images[:, 2] = images[:, 2] // 8 + 200
    labels = torch.arange(30) % 3
    colour = ImageSet(
        *("colour", "colour", images, labels, images[:9], labels[:9]),
        *(("a", "b", "c"), "", torch.arange(30)),
    )
    train, test = standardise(colour, 2)
    assert train.shape == (30, 3, 2, 3) and torch.equal(test, train[:9])
    assert torch.allclose(
        train.double().mean((0, 2, 3)), torch.zeros(3, dtype=torch.float64), atol=1e-5
    )
    assert torch.allclose(
        train.double().var((0, 2, 3), correction=0), torch.ones(3, dtype=torch.float64), atol=1e-5
    )
    monkeypatch.setattr("lsnc_core.images.CHUNK", 7)
    assert torch.equal(standardise(colour, 2)[0], train)
    for pool in (3, 0, -2, 1.0, True, 8):
        with pytest.raises(UsageError, match="colour cannot be pooled"):
            standardise(colour, pool)
    images[:, 1] = 7
    with pytest.raises(UsageError, match="same value"):
        standardise(colour)


# what the papers' released loaders normalise by
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


def test_given_statistics_and_black_padding_are_those_of_torchvisions_transforms():
    """ToTensor, Normalize, and a crop of images that are padded before, with the same draws."""
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (40, 3, 12, 10), generator=draw, dtype=torch.uint8)
    truth = torch.arange(40) % 4
    colour = ImageSet(
        "c", "c", pixels, truth, pixels[:9], truth[:9], tuple("abcd"), "", torch.arange(len(truth))
    )
    scale = images.scale_of(colour, 1, MEAN, STD)
    train, test = standardise(colour, 1, scale)
    normalise = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])
    torch.testing.assert_close(train, normalise(pixels), rtol=0, atol=2e-6)
    assert torch.equal(test, train[:9])

    rows = torch.randint(0, 40, (200,), generator=draw)
    top, left, flip = images.crops_and_flips(200, draw)
    found = images.crops_and_flips_of(train, scale.black, rows, top, left, flip)
    for n in range(200):
        black = v2.functional.pad(pixels[rows[n]], [4, 4, 4, 4], fill=0)
        cut = v2.functional.crop(black, top[n].item(), left[n].item(), 12, 10)
        cut = v2.functional.horizontal_flip(cut) if flip[n] else cut
        torch.testing.assert_close(found[n], normalise(cut), rtol=0, atol=2e-6)

    pooled = standardise(colour, 2, images.scale_of(colour, 2, MEAN, STD))[0]
    means = F.avg_pool2d(v2.functional.to_dtype(pixels, torch.float32, scale=True), 2)
    expected = v2.functional.normalize(means, list(MEAN), list(STD))
    torch.testing.assert_close(pooled, expected, rtol=0, atol=2e-6)
    words = r"c has 3 channels, and the pixel mean \(0.5,\) has 1 numbers"
    with pytest.raises(UsageError, match=words):
        images.scale_of(colour, 1, (0.5,), (0.2,))


def test_crops_and_flips_are_all_of_them():
    x = torch.arange(2 * 3 * 5 * 6, dtype=torch.float32).view(2, 3, 5, 6)
    top, left = (
        axis.flatten() for axis in torch.meshgrid(torch.arange(9), torch.arange(9), indexing="ij")
    )
    edge = torch.tensor([0.0, -1.5, 7.0])
    for flip in (False, True):
        found = images.crops_and_flips_of(
            x, edge, torch.ones(81, dtype=torch.int64), top, left, torch.full((81,), flip)
        )
        padded = torch.stack([F.pad(x[1, c], [4, 4, 4, 4], value=edge[c].item()) for c in range(3)])
        for n in range(81):
            cut = padded[:, top[n] : top[n] + 5, left[n] : left[n] + 6]
            torch.testing.assert_close(found[n], cut.flip(-1) if flip else cut, rtol=0, atol=0)
    top, left, flip = images.crops_and_flips(20000, torch.Generator().manual_seed(0))
    for draws in (top, left):
        assert draws.unique().tolist() == list(range(9)) and abs(draws.double().mean() - 4) < 0.1
    assert abs(flip.double().mean() - 0.5) < 0.02
