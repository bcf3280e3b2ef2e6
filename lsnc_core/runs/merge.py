"""Joining stores that were trained elsewhere, every file checked.

A file counts as data alone: nothing in it is run, nor any file that it names.
"""

import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lsnc_core import files
from lsnc_core.errors import UsageError
from lsnc_core.runs import key
from lsnc_core.runs.spec import RunSpec, digest
from lsnc_core.runs.store import SCHEMA, Store

_NAME = re.compile(r"[0-9a-f]{24}-[0-9a-f]{16}(?:-v([0-9]{1,9}))?\.parquet")


@dataclass
class Merged:
    """What became of the files of merged stores.

    Attributes:
        added: files that are new here, or whose copy here was damaged.
        present: files that were here before.
        older: of those, the ones that other code trained: kept, and not used by this version.
        refused: one sentence for each file that was left out.
    """

    added: int = 0
    present: int = 0
    older: int = 0
    refused: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        older = f", {self.older} of them by other code than this version's" if self.older else ""
        return f"{self.added} added, {self.present} here before{older}, {len(self.refused)} refused"


class _Refused(Exception):
    """A file that is left out; the text says why."""


def merge(folders: Sequence[Path], store: Store) -> Merged:
    """Copy stored networks into a store, each whole or not at all. Merging again changes nothing.

    Args:
        folders: outputs folders, or the `runs/` in them.
        store: where they go; what is whole there stays as it is.

    Raises:
        UsageError: for a folder that is not there or is the store itself, and when the store cannot
            be written.
    """
    sources = [_source(folder, store) for folder in folders]
    merged = Merged()
    for source in sources:
        for path in _listed(source):
            try:
                context = _copy(path, store.folder / path.name, merged)
            except _Refused as reason:
                merged.refused.append(f"{path} is left out: {reason}.")
            else:
                merged.older += not _is_current(*context)
    return merged


def _source(folder: Path, store: Store) -> Path:
    """The folder of stored networks in an outputs folder, or the folder itself."""
    source = folder / "runs" if (folder / "runs").is_dir() else folder
    if not source.is_dir():
        raise UsageError(f"there is no folder {folder} to merge.")
    if source.resolve() == store.folder.resolve():
        raise UsageError(f"{folder} holds the store that others are merged into: name the others.")
    return source


def _listed(source: Path) -> list[Path]:
    """What lies in a store, but for hidden files and what interrupted work has left."""
    try:
        found = sorted(source.iterdir())
    except OSError as error:
        raise UsageError(f"cannot read the folder {source}: {error.strerror}.") from error
    # hidden are half-written files, and what desktops and network drives put into any folder
    visible = [path for path in found if not path.name.startswith(".")]
    return [path for path in visible if path.name != "unfinished" and path.suffix != ".damaged"]


def _copy(path: Path, target: Path, merged: Merged) -> tuple[RunSpec, dict[str, Any]]:
    """Copy one file unless it is there; its spec and context. Raises: _Refused, UsageError."""
    content = _content(path)
    found = _checked(path, path.name)
    try:
        _checked(target, path.name)
    except _Refused:  # nothing here, or something damaged

        def write(partial: Path) -> None:
            partial.write_bytes(content)
            _checked(partial, path.name)  # what has arrived, not what was sent

        files.write_whole(target, write)
        merged.added += 1
    else:
        merged.present += 1
    return found


def _content(path: Path) -> bytes:
    """The bytes of a file that may be a stored network. Raises: _Refused."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise _Refused("its name is not that of a stored network")
    if match[1] is None or int(match[1]) != SCHEMA:
        raise _Refused("another version of this package wrote it in another format")
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe would wait for ever
            raise _Refused("it is not a file")
        return path.read_bytes()
    except OSError as error:
        raise _Refused(f"it cannot be read ({error.strerror})") from error


def _checked(path: Path, name: str) -> tuple[RunSpec, dict[str, Any]]:
    """Spec and context of a file that is whole and belongs under a name. Raises: _Refused."""
    try:
        content = Store.read_file(path)
        if content is None:
            raise _Refused("it is truncated or damaged, its checksums do not hold")
        history, meta = content
        spec, context = RunSpec.from_stored(meta["spec"]), dict(meta["context"])
        right = f"{digest(spec.key())[:24]}-{digest(context)[:16]}-v{SCHEMA}.parquet"
        epochs = [row["epoch"] for row in history]
    except UsageError as error:
        raise _Refused("this version knows no such network") from error
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise _Refused("it is not a stored network") from error
    if name != right or epochs != list(spec.evaluate_at):
        raise _Refused("it holds another network than its name says")
    return spec, context


def _is_current(spec: RunSpec, context: dict[str, Any]) -> bool:
    """Whether this version's code trained a network, as far as the package's own code decides."""
    return all(context.get(part) == value for part, value in key.code_of(spec).items())
