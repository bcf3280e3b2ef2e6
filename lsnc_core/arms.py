"""A reader's own arm: one small Python file outside the package that adds a loss, a noise model or an image set.

Where a run names a loss, a noise or a data set, the path of such a file may stand instead. What the file must define:

    loss(logits, targets)   float (..., K) twice -> float (...), one loss per sample, as in `lsnc_core.losses`
    noise(a, K)             -> float (K, K), T_ij = P(clean class j becomes i), columns sum to 1, as in `lsnc_core.labels`
    images()                -> train_images, train_labels, test_images, test_labels: uint8 (N, C, H, W) and integers (N,)

The file's content enters the key under which results are kept.
"""

import functools
import hashlib
import runpy
from collections.abc import Callable
from pathlib import Path

from lsnc_core.errors import UsageError


def is_file(name: object) -> bool:
    """Whether a name is the path of a reader's file rather than one of the package's names."""
    return isinstance(name, str) and name.endswith(".py")


def checksum(path: str) -> str:
    """sha256 of the file's content, 64 hex digits; raises UsageError where it cannot be read."""
    try:
        return hashlib.sha256(Path(path).expanduser().read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(f"the file {path} cannot be read: {error.strerror}.") from error


def load(path: str, function: str) -> Callable:
    """The function of that name ("loss", "noise" or "images") in the reader's file.

    Raises:
        UsageError: when the file cannot be read, fails, or does not define the function.
    """
    return _load(str(Path(path).expanduser().absolute()), function, checksum(path))


@functools.cache
def _load(path: str, function: str, content: str) -> Callable:
    try:
        found = runpy.run_path(path).get(function)
    except Exception as error:
        raise UsageError(f"the file {path} fails with {type(error).__name__}: {error}.") from error
    if not callable(found):
        raise UsageError(f"the file {path} must define a function {function}(...), see `lsnc_core.arms`.")
    return found
