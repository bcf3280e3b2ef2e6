"""Results on disk: one Parquet file per trained network, found again by everything its numbers
depend on.

A file's name is made of two digests: of the spec (precision included), and of its context (the
data's checksum, the code that trains). Its rows are the network's history; small tensors stand
beside the numbers in columns of bytes, which are read only when asked for; spec, context and
provenance stand in the file's metadata. Files are written whole or not at all and carry checksums,
so a damaged file is noticed, set aside and computed again.
"""

import ast
import contextlib
import functools
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lsnc_core import custom, files, provenance
from lsnc_core.errors import UsageError
from lsnc_core.runs.spec import RunSpec, digest

SCHEMA = 2
# The modules whose code decides what a trained network's numbers are.
TRAINING_CODE = (
    "custom.py",
    "labels.py",
    "losses.py",
    "models.py",
    "images.py",
    "runs/spec.py",
    "runs/checkpoint.py",
    "runs/fleet.py",
    "runs/graphs.py",
    "runs/measure.py",
    "runs/prepare.py",
    "runs/replicas.py",
    "runs/statistics.py",
)
CURRENT, OUTDATED, DAMAGED = "current", "outdated", "damaged"
_META, _SUM = b"lsnc", b"lsnc-sha256"
_TENSOR = "tensor:"


@functools.cache
def code_fingerprint() -> str:
    """Digest of the training modules' syntax trees without docstrings: comments and layout change
    nothing.
    """
    package = Path(__file__).resolve().parents[1]
    return fingerprint(
        {name: (package / name).read_text(encoding="utf-8") for name in TRAINING_CODE}
    )


def fingerprint(sources: dict[str, str]) -> str:
    """Digest of the syntax trees, without docstrings, of Python sources by name."""
    trees = []
    for name, source in sources.items():
        tree = ast.parse(source)
        for node in ast.walk(tree):
            documented = (
                isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
                and ast.get_docstring(node, clean=False) is not None
            )
            if documented:
                node.body = node.body[1:]
        trees.append([name, _plain(tree)])
    return digest(trees)


def _plain(node: object) -> object:
    """A syntax tree as lists and text, without fields that are empty: those differ between versions
    of Python.
    """
    if isinstance(node, list):
        return [_plain(entry) for entry in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [
        (name, value) for name, value in ast.iter_fields(node) if value is not None and value != []
    ]
    return [type(node).__name__, *([name, _plain(value)] for name, value in sorted(fields))]


def _tensor_sum(columns: dict[str, list[bytes | None]]) -> str:
    """sha256 over the bytes of tensors by name; None where an epoch has none."""
    found = hashlib.sha256()
    for name, column in sorted(columns.items()):
        for content in column:
            found.update(f"{name} {-1 if content is None else len(content)} ".encode())
            found.update(content or b"")
    return found.hexdigest()


def _content_sum(history: list[dict], about: str) -> bytes:
    """sha256 over all that a file says; Parquet's own checksums leave out its footer, where the
    columns' names stand.
    """
    return hashlib.sha256(json.dumps([history, about]).encode()).hexdigest().encode()


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file lies at a path, None without one: a file that is written anew is another."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


class Store:
    """Histories of trained networks under a folder.

    Args:
        folder: where the files lie; by default `runs/` under the outputs folder.
    """

    def __init__(self, folder: Path | None = None):
        self.folder = folder or files.outputs_root() / "runs"
        self._checksums: dict[str, str] = {}

    def context(self, spec: RunSpec) -> dict:
        """What beside the spec decides the result: data checksum, code fingerprint, schema version,
        readers' files.
        """
        if spec.data not in self._checksums:
            from lsnc_core import data

            self._checksums[spec.data] = data.load(spec.data).checksum
        own = {
            name: custom.checksum(getattr(spec, name))
            for name in ("loss", "noise")
            if custom.is_file(getattr(spec, name))
        }
        return {
            "data": self._checksums[spec.data],
            "code": code_fingerprint(),
            "schema": SCHEMA,
        } | own

    def path(self, spec: RunSpec) -> Path:
        """The file that holds, or will hold, the spec's history."""
        return (
            self.folder / f"{digest(spec.to_dict())[:24]}-{digest(self.context(spec))[:16]}.parquet"
        )

    def unfinished(self, block: Sequence[RunSpec], device: str) -> Path:
        """Where the checkpoint of runs that train together on a device lies while they do."""
        return (
            self.folder
            / "unfinished"
            / f"{digest([device, *(self.path(spec).stem for spec in block)])[:24]}.pt"
        )

    def why_missing(self, spec: RunSpec) -> str:
        """Why a spec is not in the store: never trained, or which part of its context changed
        since.
        """
        context = self.context(spec)
        for other in sorted(
            self.folder.glob(f"{digest(spec.to_dict())[:24]}-*.parquet"),
            key=lambda path: path.stat().st_mtime,
            reverse=True,
        ):
            before = self._read(other)
            if before is not None:
                changed = [
                    name
                    for name, value in context.items()
                    if before[1]["context"].get(name) != value
                ]
                return f"{' and '.join(changed)} changed since it was trained"
        return "never trained"

    def put(
        self,
        spec: RunSpec,
        history: Sequence[dict],
        run: dict,
        tensors: Sequence[dict[str, np.ndarray]] = (),
    ) -> None:
        """Write a history (one mapping of numbers per epoch) with its provenance; `run` adds to it
        what this run knows.

        `tensors` are arrays by name for each of the same epochs; one name has one type and shape in
        all epochs that have it.

        Raises:
            UsageError: when the folder cannot be written.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        forms = {
            name: [value.dtype.str, list(value.shape)]
            for row in tensors
            for name, value in row.items()
        }
        columns = {
            name: [row[name].tobytes() if name in row else None for row in tensors]
            for name in forms
        }
        meta = {
            "spec": spec.to_dict(),
            "context": self.context(spec),
            "provenance": provenance.describe() | run,
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

    def get(self, spec: RunSpec) -> tuple[list[dict], dict] | None:
        """The spec's history and metadata, or None when it is not there; a damaged file is set
        aside with a notice.
        """
        path = self.path(spec)
        seen = _identity(path)
        if seen is None:
            return None
        found = self._read(path)
        if found is None or found[1]["spec"] != json.loads(json.dumps(spec.to_dict())):
            self._set_aside(path, seen)
            return None
        return found

    def tensors(self, spec: RunSpec) -> list[dict[str, np.ndarray]] | None:
        """The spec's arrays by name, one mapping per measured epoch, or None as `get` does."""
        seen, found = _identity(self.path(spec)), self.get(spec)
        if found is None:
            return None
        columns = self._read_tensors(self.path(spec), found[1])
        if columns is None:
            self._set_aside(self.path(spec), seen)
            return None
        forms = found[1]["tensors"]
        return [
            {
                name: np.frombuffer(column[row], forms[name][0]).reshape(forms[name][1])
                for name, column in columns.items()
                if column[row] is not None
            }
            for row in range(len(found[0]))
        ]

    @staticmethod
    def _set_aside(path: Path, seen: tuple[int, int] | None) -> None:
        """Move a damaged file out of the way, with a notice, unless another process has done so, or
        has put a new one there, since.
        """
        aside = path.with_suffix(".damaged")
        if _identity(path) != seen:
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
            f"the stored run {path.name} is damaged: it is set aside as {aside.name} and trained again",
            file=sys.stderr,
            flush=True,
        )

    def entries(self) -> list[tuple[Path, str, RunSpec | None]]:
        """Every stored run with its state and spec: current, outdated (code, data or schema changed
        since) or damaged.

        A run whose data set is not at hand counts as current.
        """
        found = []
        for path in sorted(self.folder.glob("*.parquet")):
            content = self._read(path)
            spec, state = None, DAMAGED
            if content is not None and self._read_tensors(path, content[1]) is not None:
                with contextlib.suppress(UsageError):  # settings of another version of the package
                    spec = RunSpec.from_dict(content[1]["spec"])
                state = CURRENT if spec is not None and self._is_current(spec, path) else OUTDATED
            found.append((path, state, spec))
        return found

    def _is_current(self, spec: RunSpec, path: Path) -> bool:
        try:
            return self.path(spec) == path
        except UsageError:
            return True

    def clean(self) -> list[Path]:
        """Delete outdated and damaged runs, checkpoints and leftovers of writing; returns what was
        deleted.

        Raises:
            UsageError: when a file cannot be deleted.
        """
        gone = [path for path, state, _ in self.entries() if state != CURRENT]
        for pattern in ("*.damaged", "unfinished/*", ".*.partial"):
            gone += self.folder.glob(pattern)
        for path in gone:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise UsageError(f"cannot delete {path}: {error.strerror}.") from error
        return gone

    @staticmethod
    def _read(path: Path) -> tuple[list[dict], dict] | None:
        """History and metadata of one file, without its tensors; None when it is damaged."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as opened:
                numbers = [
                    name for name in opened.schema_arrow.names if not name.startswith(_TENSOR)
                ]
                table = opened.read(columns=numbers)
            history, about = table.to_pylist(), table.schema.metadata[_META].decode()
            return (
                (history, json.loads(about))
                if _content_sum(history, about) == table.schema.metadata[_SUM]
                else None
            )
        except (pa.ArrowException, OSError, KeyError, TypeError, ValueError):
            return None

    @staticmethod
    def _read_tensors(path: Path, meta: dict) -> dict[str, list[bytes | None]] | None:
        """The bytes of one file's tensors by name, one per epoch; None when they are damaged."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        forms = meta.get("tensors", {})  # files of the first schema have none
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as opened:
                table = opened.read(columns=[_TENSOR + name for name in forms])
            columns = {name: table.column(_TENSOR + name).to_pylist() for name in forms}
            return columns if not forms or _tensor_sum(columns) == meta["tensors_sha256"] else None
        except (pa.ArrowException, OSError, KeyError):
            return None
