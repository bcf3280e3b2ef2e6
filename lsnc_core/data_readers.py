"""Readers of image sets in files: MNIST's idx files, torchvision's classes, Tiny ImageNet.

Each returns the parts as the files hold them, see `Parts`; missing files are downloaded. Whatever
is wrong with a file ends in a `UsageError` that names the file; files that are there are never
overwritten. `lsnc_core.data` brings the parts into their fixed order and checks their sizes.
"""

import contextlib
import errno
import gzip
import hashlib
import http.client
import io
import os
import pickle
import re
import shutil
import socket
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from lsnc_core import files
from lsnc_core.data_sources import Source
from lsnc_core.errors import UsageError, needs_companion

# train_images uint8 (N, C, H, W), train_labels int64 (N,), test_images, test_labels, class names
Parts = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, tuple[str, ...]]

DIGITS = tuple("0123456789")
FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
STL10 = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")

IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
# md5 of the unpacked files, by set. For Fashion-MNIST only those of the packed files are known;
# sizes are checked instead.
IDX_MD5 = {
    "mnist": (
        "6bbc9ace898e44ae57da46a324031adb",
        "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea",
        "27ae3e4e09519cfbb04c329615203637",
    ),
    "fashion-mnist": (None, None, None, None),
}

TORCHVISION = {
    "mnist": "MNIST",
    "fashion-mnist": "FashionMNIST",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "stl10": "STL10",
}
TINY = "tiny-imagenet-200"
SILENCE_S = 30  # a server that sends nothing for so long has failed

# what urllib, torchvision, tar, zip, pickle and Pillow raise on a broken line or a broken file
BROKEN = (
    OSError, RuntimeError, ValueError, KeyError, EOFError, http.client.HTTPException,
    tarfile.TarError, zipfile.BadZipFile, zlib.error, pickle.UnpicklingError,
)  # fmt: skip


def _damaged(source: Source, path: Path, what: str) -> UsageError:
    return UsageError(
        f"{source.name} cannot be read: {path} is damaged ({what}); delete it and fetch it again."
    )


def _absent(source: Source, path: Path, remedy: str) -> UsageError:
    return UsageError(
        f"{source.name} is not there: looked for {path}; {remedy}, "
        "name the folder that holds it with --data (LSNC_DATA), "
        "or choose a set that needs no download (digits, mnist-subset)."
    )


def one_line(error: BaseException) -> str:
    """An error's text on one line, or its kind where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def _is_refused(error: BaseException) -> bool:
    """Whether the system refuses to write."""
    return isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)


def _download(source: Source, root: Path, offline: bool, missing: Path) -> None:
    """Download a set of torchvision's into `root`.

    This happens in a folder of its own inside `root`, out of which only files that were missing are
    moved; an interrupted download leaves nothing behind.

    Args:
        source, root: of the set.
        offline: whether to refuse to.
        missing: a file that is not there, a path in `root`.
    """
    if offline:
        remedy = (
            "downloads are switched off: run once without --offline (LSNC_OFFLINE) "
            f"to download {source.download_mb:,} MB"
        )
        raise _absent(source, root / missing, remedy)
    needs_companion(f"downloading {source.name}", "torchvision")
    import torchvision.datasets

    silence = socket.getdefaulttimeout()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=f".{source.name}-") as name:
            socket.setdefaulttimeout(SILENCE_S)
            getattr(torchvision.datasets, TORCHVISION[source.name])(name, download=True)
            for file in Path(name, missing.parts[0]).rglob("*"):
                if file.is_file() and file.suffix != ".gz":
                    _move_unless_there(file, root / file.relative_to(name))
    except BROKEN as error:
        if _is_refused(error):
            remedy = f"it cannot be downloaded there ({one_line(error)}): put its files there"
            raise _absent(source, root / missing, remedy) from error
        raise UsageError(
            f"{source.name} could not be downloaded into {root}: {one_line(error)}; "
            f"check the network connection and the free space ({source.download_mb:,} MB packed), "
            "put the files there by hand, "
            "or choose a set without download (digits, mnist-subset)."
        ) from error
    finally:
        socket.setdefaulttimeout(silence)


def _move_unless_there(file: Path, target: Path) -> None:
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(file, target)


def _complete(
    source: Source, root: Path, offline: bool, wanted: Mapping[Path, str], packed: Path
) -> Path:
    """Make sure that files of a set that comes in one archive are there.

    Where one is missing, the archive is unpacked beside it, or under the outputs where that cannot
    be written; without an archive it is downloaded.

    Args:
        source, root, offline: of the set.
        wanted: md5 of the files by path in `root`.
        packed: path of the archive in `root`.

    Returns:
        The folder that holds them all, `root` or one under the outputs.
    """
    missing = [path for path in wanted if not (root / path).exists()]
    if not missing:
        return root
    if not (root / packed).is_file():
        _download(source, root, offline, missing[0])
        return root
    try:
        _unpack(source, root / packed, root, wanted)
        return root
    except OSError as error:
        if not _is_refused(error):
            raise
    elsewhere = files.outputs_root() / "data"
    if not all((elsewhere / path).exists() for path in wanted):
        _unpack(source, root / packed, elsewhere, wanted)
    return elsewhere


def _unpack(source: Source, archive: Path, folder: Path, wanted: Mapping[Path, str]) -> None:
    """Take the wanted files that a folder lacks out of an archive.

    Nothing else is unpacked. The files' md5 counts, not the archive's, which may be packed anew.
    """
    from torchvision.datasets.utils import check_integrity

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{source.name}-") as scratch:
        remaining = set(wanted)
        try:
            with tarfile.open(archive) as opened:
                for member in opened:
                    path = Path(os.path.normpath(member.name))
                    content = opened.extractfile(member) if path in remaining else None
                    if content is not None:
                        target = Path(scratch, path)
                        target.parent.mkdir(parents=True, exist_ok=True)
                        with open(target, "wb") as written:
                            shutil.copyfileobj(content, written)
                        remaining.discard(path)
        except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise _damaged(source, archive, one_line(error)) from error
        if remaining:
            raise _damaged(source, archive, f"it lacks {min(remaining)}")
        for path, md5 in wanted.items():
            if not check_integrity(Path(scratch, path), md5):
                raise _damaged(source, archive, f"the md5 of its {path} is not the original's")
            _move_unless_there(Path(scratch, path), folder / path)


def _read_idx(source: Source, path: Path, dimensions: int, md5: str | None) -> np.ndarray:
    """One idx file of bytes, as it is or packed by gzip: uint8 of the given number of
    dimensions.
    """
    if path.exists():
        data = path.read_bytes()
    else:
        path = path.with_name(f"{path.name}.gz")
        try:
            data = gzip.decompress(path.read_bytes())
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise _damaged(source, path, one_line(error)) from error
    if md5 is not None and hashlib.md5(data, usedforsecurity=False).hexdigest() != md5:
        raise _damaged(source, path, "its md5 is not that of the original")
    start = 4 + 4 * dimensions
    shape = np.frombuffer(data[4:start], ">i4").tolist() if len(data) >= start else []
    size = int(np.prod(shape, dtype=object))
    if data[:4] != bytes((0, 0, 8, dimensions)) or len(data) - start != size:
        raise _damaged(source, path, "its length or its first bytes are not those of an idx file")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def read_idx_set(source: Source, root: Path, offline: bool) -> Parts:
    """MNIST or Fashion-MNIST from the four idx files in torchvision's folder, packed or not."""
    folder = Path(TORCHVISION[source.name], "raw")
    for path in (folder / name for name in IDX_FILES):
        if not (root / path).exists() and not (root / f"{path}.gz").is_file():
            _download(source, root, offline, path)  # this brings the others, too
    arrays = [
        _read_idx(source, root / folder / name, 3 if "images" in name else 1, md5)
        for name, md5 in zip(IDX_FILES, IDX_MD5[source.name], strict=True)
    ]
    train_images, train_labels, test_images, test_labels = arrays
    classes = FASHION if source.name == "fashion-mnist" else DIGITS
    return (
        train_images[:, None],
        train_labels.astype(np.int64),
        test_images[:, None],
        test_labels.astype(np.int64),
        classes,
    )


def read_torchvision(source: Source, root: Path, offline: bool) -> Parts:
    """CIFAR-10, CIFAR-100 or STL-10 through torchvision's class.

    Every file's md5 is checked before the class opens it.
    """
    needs_companion(f"the image set {source.name}", "torchvision")
    import torchvision.datasets
    from torchvision.datasets.utils import check_integrity

    dataset = getattr(torchvision.datasets, TORCHVISION[source.name])
    stl = source.name == "stl10"
    lists = {
        "train_list": dataset.train_list[:2] if stl else dataset.train_list,
        "test_list": dataset.test_list,
    }  # without unlabeled_X.bin
    wanted = {
        Path(dataset.base_folder, name): md5
        for name, md5 in lists["train_list"] + lists["test_list"]
    }
    if not stl:
        wanted[Path(dataset.base_folder, dataset.meta["filename"])] = dataset.meta["md5"]
    root = _complete(source, root, offline, wanted, Path(dataset.filename))
    for path, md5 in wanted.items():
        if not check_integrity(root / path, md5):
            raise _damaged(source, root / path, "its md5 is not that of the original")
    # the checksums are verified above; None spares the class from computing them twice more
    unchecked = {}
    for key, entries in lists.items():
        unchecked[key] = [[name, None] for name, _ in entries]
    reader = type(dataset.__name__, (dataset,), unchecked)
    if stl:
        train, test = reader(root, split="train"), reader(root, split="test")
        return (
            train.data,
            train.labels.astype(np.int64),
            test.data,
            test.labels.astype(np.int64),
            STL10,
        )
    train, test = reader(root, train=True), reader(root, train=False)
    train_labels, test_labels = (np.array(part.targets, dtype=np.int64) for part in (train, test))
    return (
        train.data.transpose(0, 3, 1, 2),
        train_labels,
        test.data.transpose(0, 3, 1, 2),
        test_labels,
        tuple(train.classes),
    )


# Tiny ImageNet


def _decode(names: list[str], read: Callable[[str], bytes], size: int) -> np.ndarray:
    """JPEG files as uint8 (N, 3, size, size); grey ones become RGB."""
    from PIL import Image

    images = np.empty((len(names), 3, size, size), np.uint8)
    for index, name in enumerate(names):
        try:
            with Image.open(io.BytesIO(read(name)), formats=["JPEG"]) as picture:
                if picture.size != (size, size):
                    raise ValueError(
                        f"{picture.width}x{picture.height} pixels instead of {size}x{size}"
                    )
                images[index] = np.asarray(picture.convert("RGB")).transpose(2, 0, 1)
        except (*BROKEN, Image.DecompressionBombError) as error:
            raise ValueError(f"{name}: {one_line(error)}") from error
    return images


def read_tiny_imagenet(source: Source, root: Path) -> Parts:
    """Tiny ImageNet from its folder or, without unpacking, from its archive.

    The labelled validation part is the test part.
    """
    folder, archive = root / TINY, root / f"{TINY}.zip"
    if not folder.is_dir() and not archive.is_file():
        raise _absent(
            source,
            archive,
            f"get {archive.name} from the course page of Stanford's CS231n and put it there",
        )
    needs_companion(f"the image set {source.name}", "PIL")
    place = folder if folder.is_dir() else archive
    try:
        with contextlib.ExitStack() as stack:
            if place is folder:
                names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))
                return _tiny_parts(
                    names, lambda name: (folder / name).read_bytes(), source.shape[1]
                )
            packed = stack.enter_context(zipfile.ZipFile(archive))
            names = sorted(
                name.removeprefix(f"{TINY}/")
                for name in packed.namelist()
                if name.startswith(f"{TINY}/")
            )
            return _tiny_parts(names, lambda name: packed.read(f"{TINY}/{name}"), source.shape[1])
    except BROKEN as error:
        raise _damaged(source, place, one_line(error)) from error


def _tiny_parts(names: list[str], read: Callable[[str], bytes], size: int) -> Parts:
    wnids = tuple(read("wnids.txt").decode("ascii").split())
    label = {wnid: index for index, wnid in enumerate(wnids)}
    train_image = re.compile(r"train/([^/]+)/images/[^/]+\.JPEG")
    train = [(match[0], match[1]) for match in map(train_image.fullmatch, names) if match]
    annotations = read("val/val_annotations.txt").decode("ascii").splitlines()
    lines = [line.split("\t") for line in annotations]
    test = [(f"val/images/{line[0]}", line[1]) for line in lines if len(line) > 1]
    strange = {wnid for _, wnid in train + test}.difference(label)
    if strange:
        raise ValueError(f"{min(strange)} is not in wnids.txt")
    listed = set(names)
    # this also keeps a name with .. in it inside the folder
    absent = [name for name, _ in test if name not in listed]
    if absent:
        raise ValueError(f"{absent[0]} is missing")
    return (
        _decode([name for name, _ in train], read, size),
        np.array([label[wnid] for _, wnid in train], dtype=np.int64),
        _decode([name for name, _ in test], read, size),
        np.array([label[wnid] for _, wnid in test], dtype=np.int64),
        wnids,
    )
