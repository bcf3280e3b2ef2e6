"""Your own loss, noise or images in one Python file outside the package.

Where a run or a notebook's parameter names a loss, a noise or a data set, the path of such a file
may stand instead. What it must define:

    loss(logits, targets) -> float (...), one loss per sample; both arguments are float (..., K),
                             as in `lsnc_core.losses`
    noise(a, K)           -> float (K, K), T_ij = P(clean class j becomes i), columns sum to 1,
                             as in `lsnc_core.labels`
    images()              -> train_images, train_labels, test_images, test_labels: integers
                             0..255 (N, C, H, W) and 0..K-1 (N,)

The content of a loss or noise file, and the images of the third, enter the key under which results
are kept. `images` is called twice in each process and must return the same every time; `__file__`
is the file's own path.
"""

import functools
import hashlib
import runpy
from collections.abc import Callable
from pathlib import Path

import numpy as np

from lsnc_core import files
from lsnc_core.errors import UsageError


def is_file(name: object) -> bool:
    """Whether a name is the path of a reader's file rather than one of the package's names."""
    return isinstance(name, str) and name.endswith(".py")


def resolve(name: str) -> str:
    """The absolute path of a reader's file: from the working directory or, where it is not there,
    from the project's folder.
    """
    places = Path(name).expanduser(), files.PROJECT / name
    return str(next((path for path in places if path.exists()), places[0]).absolute())


def checksum(path: str) -> str:
    """sha256 of the file's content, 64 hex digits; raises UsageError where it cannot be read."""
    try:
        return hashlib.sha256(Path(path).expanduser().read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(f"the file {path} cannot be read: {error.strerror}.") from error


def load(path: str, function: str) -> Callable:
    """The function of that name ("loss", "noise" or "images") in the reader's file.

    Raises:
        UsageError: when the file cannot be read, fails, or does not define the function; the
            function itself, when it fails.
    """
    return _load(str(Path(path).expanduser().absolute()), function, checksum(path))


@functools.cache
def _load(path: str, function: str, content: str) -> Callable:
    try:
        found = runpy.run_path(path).get(function)
    except Exception as error:
        raise UsageError(f"the file {path} fails with {_one_line(error)}.") from error
    if not callable(found):
        raise UsageError(
            f"the file {path} must define a function {function}(...), see `lsnc_core.custom`."
        )

    @functools.wraps(found)
    def guarded(*arguments):
        try:
            return found(*arguments)
        except Exception as error:
            raise UsageError(f"{function}() of {path} fails with {_one_line(error)}.") from error

    return guarded


def images(path: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What `images` of the reader's file returns, read once a process.

    Returns: train_images uint8 (N, C, H, W), train_labels int64 (N,) in 0..K-1, K >= 2, test_images
    and test_labels likewise.

    Raises:
        UsageError: as `load`, when what is returned is not as the module says, and when it differs
            from call to call, for the training processes would then each have images of their own.
    """
    return _images(str(Path(path).expanduser().absolute()), checksum(path))


@functools.lru_cache(maxsize=1)
def _images(path: str, content: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    first, second = (load(path, "images")() for _ in range(2))
    try:
        parts, again = ([np.asarray(part) for part in (*found,)] for found in (first, second))
        train_images, train_labels, test_images, test_labels = parts
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"images() of {path} must return train_images, train_labels, test_images, test_labels: {error}."
        ) from error
    for part, pictures, truth in (
        ("training", train_images, train_labels),
        ("test", test_images, test_labels),
    ):
        fits = (
            pictures.ndim == 4
            and pictures.shape[1:] == train_images.shape[1:]
            and truth.shape == (len(pictures),)
            and pictures.size
        )
        whole = fits and pictures.dtype.kind in "iu" and truth.dtype.kind in "iu"
        K = int(train_labels.max()) + 1 if whole else 0
        named = (
            whole and K == len(np.unique(train_labels)) > 1 and truth.min() >= 0 and truth.max() < K
        )
        if not named or pictures.min() < 0 or pictures.max() > 255:
            raise UsageError(
                f"images() of {path}: the {part} part has {_described(pictures)} as images and {_described(truth)} as labels; wanted are "
                "uint8 images (N, C, H, W), of one size in both parts, and N labels in 0..K-1, every class among the training labels."
            )
    if not all(map(np.array_equal, parts, again)):
        raise UsageError(
            f"images() of {path} returns other images at every call: draw them by a generator with a seed."
        )
    kinds = (np.uint8, np.int64) * 2
    return tuple(np.ascontiguousarray(part, kind) for part, kind in zip(parts, kinds, strict=True))


def _described(array: np.ndarray) -> str:
    span = (
        f", {array.min():g} to {array.max():g}" if array.size and array.dtype.kind in "iuf" else ""
    )
    return f"{array.dtype} of shape {array.shape}{span}"


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
