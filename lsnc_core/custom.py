"""Your own loss, noise or images in one Python file outside the package.

Where a run or a notebook's parameter names a loss, a noise or an image set, the path of such a file
may stand instead. The file defines one or more of:

    loss(logits, targets) -> float (...), one loss per sample; both arguments are float (..., K),
                             as in `lsnc_core.losses`
    noise(a, K)           -> float (K, K), T_ij = P(clean class j becomes i), columns sum to 1,
                             as in `lsnc_core.labels`
    images()              -> train_images, train_labels, test_images, test_labels: integers
                             0..255 (N, C, H, W) and 0..K-1 (N,)

At its top the file may import modules that lie in its folder or below. `__file__` is its own path.
Each function must return the same at every call.

What counts for the cache key, so that a change trains again: of a loss, the file, the modules that
it imports from its folder, and the values and gradients that it returns on a few samples; of a
noise, its matrix; of images, the arrays.
"""

import ast
import functools
import hashlib
import importlib
import os
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np

from lsnc_core import files
from lsnc_core.errors import UsageError

ImageArrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def is_file(name: object) -> bool:
    """Whether a name is the path of your own file rather than a name of the package."""
    return isinstance(name, str) and name.endswith(".py")


def resolve(name: str) -> str:
    """The absolute path of your own file.

    A relative path counts from the working directory; where there is no such file, from the
    project's folder.
    """
    places = files.find_place(name), files.PROJECT / name
    return str(next((path for path in places if os.path.exists(path)), places[0]))


def sources(path: str) -> dict[Path, bytes]:
    """The content of your own file and of the modules that it imports from its folder or below.

    Imports of imports count; those made by `importlib` do not.

    Raises:
        UsageError: when the file cannot be read.
    """
    main = files.find_place(path)
    content: dict[Path, bytes] = {}
    waiting = [main]
    while waiting:
        place = waiting.pop()
        if place in content:
            continue
        try:
            content[place] = place.read_bytes()
        except OSError as error:
            raise UsageError(f"the file {place} cannot be read: {error.strerror}.") from error
        waiting += _imported_files(content[place], place.parent, main.parent)
    return content


@functools.lru_cache(maxsize=256)
def _imported_modules(source: bytes) -> tuple[tuple[int, str], ...]:
    """The modules that a source may import: (dots in front, dotted name) each."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # running the file reports it
        return ()
    modules: set[tuple[int, str]] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules.update((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            modules.add((node.level, base))
            # an imported name may itself be a module
            modules.update((node.level, f"{base}.{alias.name}".strip(".")) for alias in node.names)
    return tuple(sorted(modules))


def _imported_files(source: bytes, here: Path, root: Path) -> Iterator[Path]:
    """The files of `root` or below that a source in the folder `here` may import."""
    for level, dotted in _imported_modules(source):
        folder = root if level == 0 else here
        for _ in range(level - 1):
            folder = folder.parent
        # importing a.b.c runs a and a.b, too
        for part in dotted.split(".") if dotted else ("",):
            folder = folder / part
            for candidate in (folder.parent / f"{folder.name}.py", folder / "__init__.py"):
                if candidate.is_file() and candidate.is_relative_to(root):
                    yield candidate


def checksum(path: str) -> str:
    """sha256 of `sources`, 64 hex digits.

    Raises:
        UsageError: when the file cannot be read.
    """
    main = files.find_place(path)
    total = hashlib.sha256()
    for place, content in sorted(sources(path).items()):
        total.update(f"{place.relative_to(main.parent).as_posix()} {len(content)} ".encode())
        total.update(content)
    return total.hexdigest()


def load(path: str, function: str) -> Callable:
    """The function of that name ("loss", "noise" or "images") in your own file.

    The file is run once for each content of its `sources`.

    Raises:
        UsageError: when the file cannot be read, fails, or does not define the function; and the
            function itself, when it fails.
    """
    return _load(str(files.find_place(path)), function, checksum(path))


def forget() -> None:
    """Run losses and noises anew at their next use: data files that they read may have changed."""
    _load.cache_clear()


@functools.cache
def _load(path: str, function: str, content: str) -> Callable:
    try:
        defined = _run(path).get(function)
    except Exception as error:
        raise UsageError(f"the file {path} fails with {_one_line(error)}.") from error
    if not callable(defined):
        raise UsageError(
            f"the file {path} must define a function {function}(...), see `lsnc_core.custom`."
        )

    @functools.wraps(defined)
    def guarded(*arguments: object) -> object:
        try:
            return defined(*arguments)
        except Exception as error:
            raise UsageError(f"{function}() of {path} fails with {_one_line(error)}.") from error

    return guarded


def _run(path: str) -> dict[str, object]:
    """Run a file with its folder on the import path and fresh modules of that folder.

    Two files may each have a `helper.py` beside them, and a helper may have been edited since. So
    modules of the folder are dropped before and after. Nor is their bytecode kept: Python would
    take an edit within the same second for no edit.
    """
    folder = Path(path).parent
    own: set[str] = set()
    for place in sources(path):
        own.add(str(place))
        # a folder without __init__.py is a module, too
        own.update(str(parent) for parent in place.parents if parent.is_relative_to(folder))
    before = _drop_modules(own)
    writes_bytecode = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        return runpy.run_path(path)
    finally:
        sys.path.remove(str(folder))
        sys.dont_write_bytecode = writes_bytecode
        _drop_modules(own)
        sys.modules.update(before)


def _drop_modules(places: set[str]) -> dict[str, ModuleType]:
    """Take the modules of these files and folders out of `sys.modules`, and return them by name."""
    dropped = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        located = [file] if file else getattr(module, "__path__", ())
        if places.intersection(located):
            dropped[name] = module
    for name in dropped:
        del sys.modules[name]
    return dropped


def images(path: str) -> ImageArrays:
    """What `images` of your own file returns, read once a process.

    Returns:
        train_images uint8 (N, C, H, W), train_labels int64 (N,) in 0..K-1, K >= 2, test_images and
        test_labels likewise.

    Raises:
        UsageError: as `load`; when an array is not as the module's docstring says; and when two
            calls differ, because each training process would then have images of its own.
    """
    return _images(str(files.find_place(path)), checksum(path))


@functools.lru_cache(maxsize=1)
def _images(path: str, content: str) -> ImageArrays:
    first, second = load(path, "images")(), load(path, "images")()
    try:
        parts = [np.asarray(part) for part in (*first,)]
        again = [np.asarray(part) for part in (*second,)]
        train_images, train_labels, test_images, test_labels = parts
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"images() of {path} must return train_images, train_labels, test_images, "
            f"test_labels: {error}."
        ) from error
    for part, pictures, truth in (
        ("training", train_images, train_labels),
        ("test", test_images, test_labels),
    ):
        if not _fits(pictures, truth, train_images, train_labels):
            raise UsageError(
                f"images() of {path}: the {part} part has {_describe(pictures)} as images and "
                f"{_describe(truth)} as labels; it must have uint8 images (N, C, H, W), of one "
                "size in both parts, and N labels in 0..K-1, every class among the training "
                "labels."
            )
    if not all(map(np.array_equal, parts, again)):
        raise UsageError(
            f"images() of {path} returns other images at every call: "
            "draw them from a generator with a seed."
        )
    train_images, test_images = (
        np.ascontiguousarray(part, np.uint8) for part in (train_images, test_images)
    )
    train_labels, test_labels = (
        np.ascontiguousarray(part, np.int64) for part in (train_labels, test_labels)
    )
    return train_images, train_labels, test_images, test_labels


def _fits(
    pictures: np.ndarray, truth: np.ndarray, train_images: np.ndarray, train_labels: np.ndarray
) -> bool:
    """Whether one part's images and labels are integers in range that go with the training part."""
    if pictures.ndim != 4 or not pictures.size or truth.shape != (len(pictures),):
        return False
    if pictures.shape[1:] != train_images.shape[1:]:
        return False
    if pictures.dtype.kind not in "iu" or truth.dtype.kind not in "iu":
        return False
    K = int(train_labels.max()) + 1
    if len(np.unique(train_labels)) != K or K < 2 or truth.min() < 0 or truth.max() >= K:
        return False
    return bool(pictures.min() >= 0 and pictures.max() <= 255)


def _describe(array: np.ndarray) -> str:
    ordered = array.size and array.dtype.kind in "iuf"
    span = f", {array.min():g} to {array.max():g}" if ordered else ""
    return f"{array.dtype} of shape {array.shape}{span}"


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
