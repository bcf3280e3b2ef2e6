"""Results on disk: one Parquet file per trained network, under everything its numbers depend on.

A file's name is made of two digests: of the spec, and of its context (the data, the code that
trains, files of your own; see `key`). Its rows are the network's history. Small tensors stand
beside the numbers in columns of bytes, which are read only when asked for. Spec, context and
provenance stand in the file's metadata. Files are written whole or not at all and carry checksums,
so a damaged file is noticed, set aside and computed again.
"""

import contextlib
import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lsnc_core import custom, files, label_files, provenance
from lsnc_core.data_sources import source_of
from lsnc_core.errors import UsageError, needs_companion
from lsnc_core.runs import key
from lsnc_core.runs.spec import RunSpec, digest

SCHEMA = 3  # of the files and their names; part of the names, so that older files are known by them
CURRENT, OUTDATED, DAMAGED = "current", "outdated", "damaged"
# No file takes so many seconds to write: what is older was left by a process that was killed.
WRITING_SECONDS = 3600
_META, _SUM = b"lsnc", b"lsnc-sha256"
_TENSOR = "tensor:"

History = list[dict[str, Any]]


def _tensor_sum(columns: dict[str, list[bytes | None]]) -> str:
    """sha256 over the bytes of tensors by name; None where an epoch has none."""
    total = hashlib.sha256()
    for name, column in sorted(columns.items()):
        for content in column:
            total.update(f"{name} {-1 if content is None else len(content)} ".encode())
            total.update(content or b"")
    return total.hexdigest()


def _content_sum(history: History, about: str) -> bytes:
    """sha256 over history and metadata; Parquet's own checksums leave out the columns' names."""
    return hashlib.sha256(json.dumps([history, about]).encode()).hexdigest().encode()


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file lies at a path, None without one; a file that is written anew is another."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_ino, status.st_mtime_ns


class Store:
    """Histories of trained networks under a folder.

    Args:
        folder: where the files lie; by default `runs/` under the outputs folder.

    Raises:
        UsageError: without the extra `companion`.
    """

    def __init__(self, folder: Path | None = None):
        # at once, not when the first network is trained and about to be kept
        needs_companion("the store of trained networks", "pyarrow")
        self.folder = folder or files.outputs_root() / "runs"
        self._checksums: dict[str, str] = {}
        self._own_files: dict[tuple, str] = {}

    def refresh(self) -> None:
        """Look anew at what files of your own read: it may have changed since the last look."""
        self._own_files.clear()
        custom.forget()

    def context(self, spec: RunSpec) -> dict[str, Any]:
        """What beside the spec decides the result, as digests by part.

        The parts are data, engine, loss, noise, smoothing, model, init and schema.

        Raises:
            UsageError: when the data set or a file of your own cannot be used.
        """
        if spec.data not in self._checksums:
            from lsnc_core import data

            self._checksums[spec.data] = data.load(spec.data).checksum
        parts: dict[str, Any] = {"data": self._checksums[spec.data], "schema": SCHEMA}
        return parts | key.code_of(spec) | self._of_own_files(spec)

    def _of_own_files(self, spec: RunSpec) -> dict[str, str]:
        """The digests of the loss and the noise, where your own files define them."""
        parts = {}
        for setting in ("loss", "noise"):
            path = getattr(spec, setting)
            if label_files.is_label_file(path):
                parts[setting] = key.noise_of_labels(path, spec.data)
            if not custom.is_file(path):
                continue
            K = source_of(spec.data).num_classes
            a = spec.a if setting == "noise" else None
            place = setting, path, custom.checksum(path), a, K
            if place not in self._own_files:
                self._own_files[place] = (
                    key.loss_of_file(path, K)
                    if setting == "loss"
                    else key.noise_of_file(path, spec.a, K)
                )
            parts[setting] = self._own_files[place]
        return parts

    def path(self, spec: RunSpec) -> Path:
        """The file that holds, or will hold, the spec's history."""
        context = digest(self.context(spec))[:16]
        return self.folder / f"{digest(spec.key())[:24]}-{context}-v{SCHEMA}.parquet"

    def unfinished(self, block: Sequence[RunSpec], device: str) -> Path:
        """Where the checkpoint of runs that train together on a device lies while they do."""
        block_digest = digest([device, *(self.path(spec).stem for spec in block)])
        return self.folder / "unfinished" / f"{block_digest[:24]}.pt"

    def why_missing(self, spec: RunSpec) -> str:
        """Why a spec is not in the store: never trained, or what changed since."""
        context = self.context(spec)
        others = self.folder.glob(f"{digest(spec.key())[:24]}-*.parquet")
        for other in sorted(others, key=lambda path: path.stat().st_mtime, reverse=True):
            content = self._read(other)
            if content is not None:
                before = content[1]["context"]
                changed = [name for name, value in context.items() if before.get(name) != value]
                return f"{' and '.join(changed)} changed since it was trained"
        return "never trained"

    def put(
        self,
        spec: RunSpec,
        history: Sequence[Mapping[str, Any]],
        run: Mapping[str, Any],
        tensors: Sequence[Mapping[str, np.ndarray]] = (),
    ) -> None:
        """Write a spec's history with its provenance.

        Args:
            spec: what was trained.
            history: one mapping of numbers per epoch.
            run: what this run adds to the provenance.
            tensors: arrays by name for each of the same epochs; one name has one type and shape in
                all epochs that have it.

        Raises:
            UsageError: when the folder cannot be written.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        forms: dict[str, list] = {}
        for row in tensors:
            for name, value in row.items():
                forms[name] = [value.dtype.str, list(value.shape)]
        columns: dict[str, list[bytes | None]] = {}
        for name in forms:
            columns[name] = [row[name].tobytes() if name in row else None for row in tensors]
        meta = {
            "spec": spec.to_dict(),
            "context": self.context(spec),
            "provenance": {**provenance.describe(), **run},
        }
        about = json.dumps(meta | {"tensors": forms, "tensors_sha256": _tensor_sum(columns)})
        table = pa.Table.from_pylist(list(history))
        table = table.replace_schema_metadata(
            {_META: about.encode(), _SUM: _content_sum(table.to_pylist(), about)}
        )
        numbers = table.column_names
        for name, column in columns.items():
            table = table.append_column(_TENSOR + name, pa.array(column, pa.binary()))
        files.write_whole(
            self.path(spec),
            lambda path: pq.write_table(
                table, path, write_page_checksum=True, use_dictionary=numbers
            ),
        )

    def get(self, spec: RunSpec) -> tuple[History, dict[str, Any]] | None:
        """The spec's history and metadata, or None where they are not stored.

        A damaged file is set aside with a notice.
        """
        return self._content(spec, self._read)

    def tensors(self, spec: RunSpec) -> list[dict[str, np.ndarray]] | None:
        """The spec's arrays by name, one mapping per measured epoch, or None as `get` does."""
        content = self._content(spec, self._read_whole)
        if content is None:
            return None
        history, meta, columns = content
        rows: list[dict[str, np.ndarray]] = [{} for _ in history]
        for name, column in columns.items():
            dtype, shape = meta["tensors"][name]
            for row, stored in zip(rows, column, strict=True):
                if stored is not None:
                    row[name] = np.frombuffer(stored, dtype).reshape(shape)
        return rows

    def _content(self, spec: RunSpec, read: Callable[[Path], Any]) -> Any:
        """What `read` finds in the spec's file; None without one, or where it is damaged: then it
        is set aside.
        """
        path = self.path(spec)
        before = _identity(path)
        if before is None:
            return None
        content = read(path)
        if content is None or self._spec_of(content[1]) != spec:
            self._set_aside(path, before)
            return None
        return content

    @staticmethod
    def _spec_of(meta: dict[str, Any]) -> RunSpec | None:
        """The spec in a file's metadata; None where this version of the package knows no such."""
        with contextlib.suppress(UsageError):
            return RunSpec.from_stored(meta["spec"])
        return None

    @staticmethod
    def _set_aside(path: Path, before: tuple[int, int] | None) -> None:
        """Move a damaged file out of the way, with a notice.

        Nothing happens where another process has moved it, or written a new one, since it was
        looked at (`before`, from `_identity`).
        """
        aside = path.with_suffix(".damaged")
        if _identity(path) != before:
            return
        try:
            path.replace(aside)
        except FileNotFoundError:
            return
        except OSError as error:
            raise UsageError(
                f"{path} is damaged and cannot be set aside: {error.strerror}; delete it."
            ) from error
        print(
            f"the stored run {path.name} is damaged: "
            f"it is set aside as {aside.name} and trained again",
            file=sys.stderr,
            flush=True,
        )

    def entries(self) -> list[tuple[Path, str, RunSpec | None]]:
        """Every stored run with its state and spec: current, outdated or damaged.

        A run is outdated when code, data, schema or a file of your own has changed since. A run
        whose data set is not at hand counts as current.
        """
        earlier = set(self.earlier_files())
        entries = []
        for path in sorted(self.folder.glob("*.parquet")):
            content = self.read_file(path)
            spec = None if content is None else self._spec_of(content[1])
            if path in earlier:
                state = OUTDATED
            elif content is None:
                state = DAMAGED
            else:
                state = CURRENT if spec is not None and self._is_current(spec, path) else OUTDATED
            entries.append((path, state, spec))
        return entries

    def _is_current(self, spec: RunSpec, path: Path) -> bool:
        try:
            return self.path(spec) == path
        except UsageError:
            return True

    def earlier_files(self) -> list[Path]:
        """Files that an earlier version of the package wrote, known by their names."""
        paths = sorted(self.folder.glob("*.parquet"))
        return [path for path in paths if not path.stem.endswith(f"-v{SCHEMA}")]

    def describe_earlier_files(self) -> str:
        """One sentence about `earlier_files`, empty where there are none."""
        count = len(self.earlier_files())
        if not count:
            return ""
        runs = "1 stored run is" if count == 1 else f"{count} stored runs are"
        return (
            f"{runs} outdated: an earlier version of this package wrote to {self.folder}; "
            "`python -m lsnc_core.runs clean` deletes what is not used any more."
        )

    def discard_leftovers(self) -> None:
        """Delete files that were being written when their process was killed, long ago.

        On a machine that is taken away again and again they would fill the disk.
        """
        for folder in (self.folder, self.folder / "unfinished"):
            for path in folder.glob(".*.partial"):
                with contextlib.suppress(OSError):
                    if time.time() - path.stat().st_mtime > WRITING_SECONDS:
                        path.unlink()

    def clean(self) -> list[Path]:
        """Delete outdated and damaged runs, checkpoints and leftovers of writing.

        Returns:
            What was deleted.

        Raises:
            UsageError: when a file cannot be deleted.
        """
        unused = [path for path, state, _ in self.entries() if state != CURRENT]
        for pattern in ("*.damaged", "unfinished/*", ".*.partial"):
            unused += self.folder.glob(pattern)
        for path in unused:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise UsageError(f"cannot delete {path}: {error.strerror}.") from error
        return unused

    @classmethod
    def read_file(cls, path: Path) -> tuple[History, dict[str, Any]] | None:
        """History and metadata of any store's file; None where it or its tensors are damaged."""
        content = cls._read_whole(path)
        return None if content is None else content[:2]

    @classmethod
    def _read(cls, path: Path) -> tuple[History, dict[str, Any]] | None:
        """History and metadata of one file, without its tensors; None where it is damaged."""
        content = cls._read_columns(path, lambda name: not name.startswith(_TENSOR))
        return None if content is None else content[:2]

    @classmethod
    def _read_whole(
        cls, path: Path
    ) -> tuple[History, dict[str, Any], dict[str, list[bytes | None]]] | None:
        """History and metadata of one file, and the bytes of its tensors by name, one per epoch;
        None where it is damaged.
        """
        content = cls._read_columns(path, lambda name: True)
        if content is None:
            return None
        _, meta, columns = content
        try:
            whole = set(columns) == set(meta["tensors"])
            return content if whole and _tensor_sum(columns) == meta["tensors_sha256"] else None
        except (KeyError, TypeError):
            return None

    @staticmethod
    def _read_columns(
        path: Path, wanted: Callable[[str], bool]
    ) -> tuple[History, dict[str, Any], dict[str, list[bytes | None]]] | None:
        """What `_read_whole` returns, of the tensors those in wanted columns and not yet checked;
        None where the numbers are damaged.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as opened:
                names = list(filter(wanted, opened.schema_arrow.names))
                # files this small are read in less time than threads take to start
                table = opened.read(columns=names, use_threads=False)
            tensors = {
                name.removeprefix(_TENSOR): table.column(name).to_pylist()
                for name in names
                if name.startswith(_TENSOR)
            }
            numbers = [name for name in names if not name.startswith(_TENSOR)]
            history, about = table.select(numbers).to_pylist(), table.schema.metadata[_META]
            whole = _content_sum(history, about.decode()) == table.schema.metadata[_SUM]
            return (history, json.loads(about), tensors) if whole else None
        except (pa.ArrowException, OSError, KeyError, TypeError, ValueError):
            return None
