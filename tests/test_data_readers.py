"""Readers of image sets in files, on small files of the right format, made here."""

import errno
import gzip
import hashlib
import os
import pickle
import struct
import tarfile
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.datasets
from helpers import SIZES, one_sentence, same, shrink

from lsnc_core import data, data_readers, data_sources
from lsnc_core.errors import UsageError

pytestmark = pytest.mark.usefixtures("fresh_outputs")


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


def md5(path):
    return hashlib.md5(Path(path).read_bytes()).hexdigest()


def idx(array):
    return (
        struct.pack(f">BBBB{array.ndim}i", 0, 0, 8, array.ndim, *array.shape)
        + array.astype(np.uint8).tobytes()
    )


def make_idx(root, name, monkeypatch):
    monkeypatch.setattr(data_readers, "DIGITS", ("0", "1", "2", "3"))
    monkeypatch.setattr(data_readers, "FASHION", ("0", "1", "2", "3"))
    shrink(monkeypatch, name, 4)
    parts = made((1, 28, 28), 4, 1)
    folder = root / {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}[name] / "raw"
    folder.mkdir(parents=True)
    for file, array in zip(data_readers.IDX_FILES, parts, strict=True):
        (folder / file).write_bytes(idx(array[:, 0] if array.ndim == 4 else array))
    if name == "mnist":  # our table holds the sums of the real files
        monkeypatch.setitem(
            data_readers.IDX_MD5, name, tuple(md5(folder / file) for file in data_readers.IDX_FILES)
        )
    return parts


def make_cifar(root, name, monkeypatch):
    shrink(monkeypatch, name, 4)
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
    for number in (0, 1):  # in the order of the files
        parts[number] = np.concatenate([parts[number][i::batches] for i in range(batches)])
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
    shrink(monkeypatch, name, 4)
    monkeypatch.setattr(data_readers, "STL10", ("ant", "bee", "cat", "dog"))
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
    whole = {name: (folder / name).read_bytes() for name in data_readers.IDX_FILES}
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
            (folder / data_readers.IDX_FILES[index]).write_bytes(idx(array))
        with pytest.raises(UsageError, match="incomplete") as caught:
            data.load("fashion-mnist", root=tmp_path)
        assert one_sentence(str(caught.value)) and str(tmp_path) in str(caught.value)
        for name, content in whole.items():
            (folder / name).write_bytes(content)


@pytest.mark.usefixtures("no_network")
def test_a_folder_in_the_place_of_a_file_is_one_sentence(tmp_path, monkeypatch):
    MADE["mnist"](tmp_path, "mnist", monkeypatch)
    file = tmp_path / "MNIST" / "raw" / data_readers.IDX_FILES[0]
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


def pack_cifar(folder, root, name="cifar-100-python", prefix=""):
    """CIFAR's files as an archive of our own, whose md5 is not that of torchvision's list."""
    root.mkdir(exist_ok=True)
    archive = root / f"{name}.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder / name, f"{prefix}{name}")
    return archive


def pack_idx(folder, root):
    """The idx files of a folder, gzipped anew."""
    for file in sorted(folder.rglob("*ubyte")):
        target = root / file.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes(), 1))


def listing(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture(params=[errno.EACCES, errno.EROFS], ids=["no permission", "read-only"])
def read_only(request, monkeypatch):
    """Make a folder one in which nothing can be made; modes do not stop root."""
    folders = []

    def refuse(mkdir):
        def guarded(path, *arguments, **settings):
            if any(Path(path).is_relative_to(folder) for folder in folders):
                raise OSError(request.param, os.strerror(request.param), str(path))
            return mkdir(path, *arguments, **settings)

        return guarded

    monkeypatch.setattr(os, "mkdir", refuse(os.mkdir))
    return folders.append


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("prefix", ["", "./"])
def test_an_archive_is_unpacked_even_offline_and_packed_anew(tmp_path, monkeypatch, prefix):
    parts = make_cifar(tmp_path / "far", "cifar100", monkeypatch)
    near = tmp_path / "near"
    archive = pack_cifar(tmp_path / "far", near, prefix=prefix)
    before = archive.read_bytes()
    assert same(data.load("cifar100", root=near, offline=True), parts)
    assert listing(near / "cifar-100-python") == ["meta", "test", "train"]
    assert sorted(path.name for path in near.iterdir()) == ["cifar-100-python", archive.name]
    assert archive.read_bytes() == before


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_packed_idx_files_are_read_as_they_are(name, tmp_path, monkeypatch):
    """As in Debian's dataset-fashion-mnist: the originals, gzipped anew."""
    parts = make_idx(tmp_path / "far", name, monkeypatch)
    near = tmp_path / "near"
    pack_idx(tmp_path / "far", near)
    before = listing(near)
    assert same(data.load(name, root=near, offline=True), parts) and listing(near) == before
    # some packed, some not
    (packed,) = near.rglob("train-images*.gz")
    plain = packed.with_suffix("")
    plain.write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()
    assert same(data.load(name, root=near, offline=True), parts)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_damage_inside_packed_idx_files_is_named(name, tmp_path, monkeypatch):
    make_idx(tmp_path / "far", name, monkeypatch)
    near = tmp_path / "near"
    pack_idx(tmp_path / "far", near)
    (packed,) = near.rglob("train-images*.gz")
    whole = packed.read_bytes()
    flipped = whole[:40] + bytes([255 - whole[40]]) + whole[41:]
    other = gzip.compress(gzip.decompress(whole)[:-1])
    for damage in (b"", whole[:-9], flipped, b"no gzip", other):
        packed.write_bytes(damage)
        with pytest.raises(UsageError, match="is damaged") as caught:
            data.load(name, root=near, offline=True)
        assert one_sentence(caught.value) and str(packed) in str(caught.value)
        assert packed.read_bytes() == damage


@pytest.mark.usefixtures("no_network")
def test_damage_inside_an_archive_is_named_and_leaves_nothing(tmp_path, monkeypatch):
    make_cifar(tmp_path / "far", "cifar100", monkeypatch)
    near, folder = tmp_path / "near", tmp_path / "far/cifar-100-python"
    archive = pack_cifar(tmp_path / "far", near)
    whole, train = archive.read_bytes(), (folder / "train").read_bytes()
    damaged = {b"": "", whole[: len(whole) // 2]: "", b"no archive": ""}
    (folder / "train").write_bytes(train[:-1])
    damaged[pack_cifar(tmp_path / "far", near).read_bytes()] = "md5 of its cifar-100-python/train"
    (folder / "train").unlink()
    damaged[pack_cifar(tmp_path / "far", near).read_bytes()] = "it lacks cifar-100-python/train"
    for content, words in damaged.items():
        archive.write_bytes(content)
        with pytest.raises(UsageError, match=f"is damaged .*{words}") as caught:
            data.load("cifar100", root=near, offline=True)
        assert one_sentence(caught.value) and str(archive) in str(caught.value)
        assert listing(near) == [archive.name]


@pytest.mark.usefixtures("no_network")
def test_packed_images_in_a_folder_that_cannot_be_written(tmp_path, monkeypatch, read_only):
    outputs = tmp_path / "outputs"
    monkeypatch.setenv("LSNC_OUTPUTS", str(outputs))
    expected = {
        "cifar100": make_cifar(tmp_path / "far", "cifar100", monkeypatch),
        "mnist": make_idx(tmp_path / "far", "mnist", monkeypatch),
    }
    near = tmp_path / "near"
    pack_cifar(tmp_path / "far", near)
    pack_idx(tmp_path / "far", near)
    before = listing(near)
    read_only(near)
    for name, parts in expected.items():
        assert same(data.load(name, root=near, offline=True), parts)
    assert listing(near) == before and listing(outputs)[0] == "data"
    stamps = [path.stat().st_mtime_ns for path in (outputs / "data").rglob("*")]
    assert len(stamps) == 4  # CIFAR's folder and files
    assert same(data.load("cifar100", root=near, offline=True), expected["cifar100"])
    assert [path.stat().st_mtime_ns for path in (outputs / "data").rglob("*")] == stamps


@pytest.mark.parametrize("name", MADE)
def test_what_a_read_only_folder_lacks_is_no_fault_of_the_network(name, tmp_path, read_only):
    read_only(tmp_path)
    with pytest.raises(UsageError, match=f"^{name} is not there: looked for ") as caught:
        data.load(name, root=tmp_path)
    assert one_sentence(caught.value) and "network" not in str(caught.value)
    assert "cannot be downloaded there" in str(caught.value)


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
