"""Noisy labels from a file: one label for each training image, in the order of the set's files.

Where a run or a notebook's parameter names label noise, a file of labels may stand instead:

    labels.npz:aggre_label   an array of a NumPy archive; its name may be left out if there is one
    labels.npy               an array
    labels.pt:aggre_label    a tensor or an array in a mapping that torch.save wrote
    labels.pt                a tensor or an array alone

Labels are whole numbers 0..K-1. Nothing in a file is executed: archives are read without pickles,
and of torch's files only tensors, arrays and plain containers. `lsnc_core.data.given_labels`
brings the labels into the order of the images.
"""

import contextlib
import hashlib
import io
import os
import pickle
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lsnc_core import files
from lsnc_core.errors import UsageError

# the path up to the first ending that a colon or nothing follows, and the name of the array
_PLACE = re.compile(r"(.+?\.(?:npz|npy|pt|pth))(?::(.+))?", re.DOTALL)
_UNREADABLE = (ValueError, KeyError, EOFError, RuntimeError, TypeError, AttributeError, IndexError)
_UNREADABLE += (zipfile.BadZipFile, zlib.error, pickle.UnpicklingError, OverflowError, MemoryError)


def is_label_file(name: object) -> bool:
    """Whether a name is that of labels in a file.

    >>> is_label_file("labels.npz:worse_label"), is_label_file("noise.py"), is_label_file("pair")
    (True, False, False)
    """
    return isinstance(name, str) and _PLACE.fullmatch(name) is not None


def split(name: str) -> tuple[Path, str]:
    """The absolute path of the file, and the name of the array in it or "".

    Args: name, for which `is_label_file` holds.
    """
    place, array = _parts(name)
    return files.find_place(place), array


def resolve(name: str) -> str:
    """The name with an absolute path.

    A relative path counts from the working directory; where there is no such file, from the
    project's folder.
    """
    place, array = _parts(name)
    places = files.find_place(place), files.PROJECT / place
    path = next((path for path in places if os.path.exists(path)), places[0])
    return f"{path}:{array}" if array else str(path)


def _parts(name: str) -> tuple[str, str]:
    """The path and the name of the array or "". Raises: UsageError, for no name of labels."""
    match = _PLACE.fullmatch(name) if isinstance(name, str) else None
    if match is None:
        raise UsageError(f"labels lie in a .npz, .npy, .pt or .pth file, not in {name!r}.")
    return match[1], match[2] or ""


def content(name: str) -> bytes:
    """The bytes of the file.

    Raises: UsageError, when it cannot be read.
    """
    path, _ = split(name)
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"the file {path} cannot be read: {error.strerror}.") from error


def checksum(name: str) -> str:
    """sha256 of the file, 64 hex digits. Raises: UsageError, as `content`."""
    return hashlib.sha256(content(name)).hexdigest()


def read(name: str) -> np.ndarray:
    """The labels of a file in its own order.

    Args: name, for which `is_label_file` holds.
    Returns: int64 (N,).
    Raises: UsageError, when the file cannot be read, holds pickled objects or no array of that
    name, or when the array is not one of whole numbers (N,).
    """
    path, wanted = split(name)
    data = io.BytesIO(content(name))
    with _in_one_sentence(path):
        arrays = _of_torch(data) if path.suffix in (".pt", ".pth") else _of_numpy(data)
    chosen = _choose(path, wanted, list(arrays))
    with _in_one_sentence(path):
        labels = np.asarray(arrays[chosen])
    if labels.dtype.kind not in "iu" or labels.ndim != 1 or not len(labels):
        raise UsageError(
            f"the labels of {name} must be integers (N,), one for each training image, "
            f"not {labels.dtype} of shape {labels.shape}."
        )
    return labels.astype(np.int64)


@contextlib.contextmanager
def _in_one_sentence(path: Path) -> Iterator[None]:
    """Turn what reading a file raises into a sentence."""
    try:
        yield
    except _UNREADABLE as error:
        raise UsageError(
            f"{path} cannot be read as labels ({_reason(error)}): it must hold plain arrays or "
            "tensors of integers, and nothing in it is executed."
        ) from error


def _reason(error: Exception) -> str:
    """The first sentence of an error's text, on one line; torch's go on for a page."""
    text = str(error)
    if "Unsupported global" in text or "allow_pickle" in text or "of objects" in text:
        return "it holds pickled objects"
    if isinstance(error, pickle.UnpicklingError):
        return "torch.save with its usual pickle protocol did not write it"
    return re.split(r"[.:]\s|[.:]$|\n", text.strip())[0] or type(error).__name__


def _choose(path: Path, wanted: str, names: list[str]) -> str:
    """The name of the array wanted, or of the only one where none is wanted."""
    if wanted in names:
        return wanted
    if not wanted and len(names) == 1:
        return names[0]
    if names == [""]:
        raise UsageError(f"{path} holds one array without a name: leave out :{wanted}.")
    if not names:
        raise UsageError(f"{path} holds no array or tensor, alone or by name.")
    if wanted:
        raise UsageError(f"{path} has no array {wanted!r}: the names are {', '.join(names)}.")
    listed = ", ".join(names)
    raise UsageError(f"{path} holds several arrays, so name one as {path.name}:NAME: {listed}.")


def _of_numpy(data: io.BytesIO) -> Mapping[str, np.ndarray]:
    """The arrays of a NumPy archive by name, read when asked for; "" names a single one."""
    loaded = np.load(data, allow_pickle=False)
    return {"": loaded} if isinstance(loaded, np.ndarray) else loaded


# torch.load is given the following for the names under which numpy's arrays are pickled. numpy's
# own classes interpret whatever state a file has for them; these keep it and make an array only of
# numbers.


class _Array:
    """Stands for numpy.ndarray in a file.

    Attributes:
        state: version, shape, dtype, whether in Fortran's order, and the bytes.
    """

    state: tuple = ()

    def __setstate__(self, state: tuple) -> None:
        self.state = state

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        _, shape, kind, fortran, content = self.state
        if not isinstance(kind, _Dtype) or not re.fullmatch("[biuf][1248]", kind.code):
            raise pickle.UnpicklingError("an array of objects")
        flat = np.frombuffer(content, np.dtype(kind.order + kind.code))
        return flat.reshape(shape, order="F" if fortran else "C")


class _Dtype:
    """Stands for numpy.dtype in a file.

    Attributes:
        code: e.g. "i8".
        order: of the bytes, "<", ">" or "|".
    """

    def __init__(self, code: str, *_: object):
        self.code, self.order = code, "|"

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1]


def _reconstruct(kind: type, *_: object) -> _Array:
    """Stands for numpy's function that makes an empty array to fill."""
    if kind is not _Array:
        raise pickle.UnpicklingError("not an array")
    return _Array()


def _of_torch(data: io.BytesIO) -> Mapping[str, Any]:
    """The tensors and arrays of a file of torch by name; "" names a single one."""
    import torch

    stand_ins: list[Any] = [(_Array, "numpy.ndarray"), (_Dtype, "numpy.dtype")]
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        stand_ins.append((_reconstruct, f"{module}._reconstruct"))
    with torch.serialization.safe_globals(stand_ins), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is refused
        loaded = torch.load(data, map_location="cpu", weights_only=True)
    named = loaded if isinstance(loaded, Mapping) else {"": loaded}
    plain = (torch.Tensor, _Array)
    return {str(key): value for key, value in named.items() if isinstance(value, plain)}
