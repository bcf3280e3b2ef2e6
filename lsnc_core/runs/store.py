"""Results on disk: one Parquet file per trained network, found again by everything its numbers depend on.

A file's name is made of two digests: of the spec, and of its context (the data's checksum, the precision, the code that
trains). Its rows are the network's history; spec, context and provenance stand in the file's metadata. Files are written
whole or not at all, and pages carry checksums, so a damaged file is noticed, set aside and computed again.
"""

import ast
import contextlib
import functools
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from lsnc_core import files, provenance
from lsnc_core.errors import UsageError
from lsnc_core.runs.spec import RunSpec, digest

SCHEMA = 1
PRECISION = "float32"
# The modules whose code decides what a trained network's numbers are.
TRAINING_CODE = ("labels.py", "losses.py", "models.py", "images.py", "runs/spec.py", "runs/fleet.py", "runs/replicas.py")
CURRENT, OUTDATED, DAMAGED = "current", "outdated", "damaged"
_META, _SUM = b"lsnc", b"lsnc-sha256"


@functools.cache
def code_fingerprint() -> str:
    """Digest of the training modules' syntax trees without docstrings: comments and layout change nothing."""
    package = Path(__file__).resolve().parents[1]
    return fingerprint({name: (package / name).read_text(encoding="utf-8") for name in TRAINING_CODE})


def fingerprint(sources: dict[str, str]) -> str:
    """Digest of the syntax trees, without docstrings, of Python sources by name."""
    trees = []
    for name, source in sources.items():
        tree = ast.parse(source)
        for node in ast.walk(tree):
            documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False) is not None
            if documented:
                node.body = node.body[1:]
        trees.append([name, ast.dump(tree)])
    return digest(trees)


def _content_sum(history: list[dict], about: str) -> bytes:
    """sha256 over all that a file says; Parquet's own checksums leave out its footer, where the columns' names stand."""
    return hashlib.sha256(json.dumps([history, about]).encode()).hexdigest().encode()


class Store:
    """Histories of trained networks under a folder.

    Args:
        folder: where the files lie; by default `runs/` under the outputs folder.
    """

    def __init__(self, folder: Path | None = None):
        self.folder = folder or files.outputs_root() / "runs"
        self._checksums: dict[str, str] = {}

    def context(self, spec: RunSpec) -> dict:
        """What beside the spec decides the result: data checksum, precision, code fingerprint, schema version."""
        if spec.data not in self._checksums:
            from lsnc_core import data

            self._checksums[spec.data] = data.load(spec.data).checksum
        return {"data": self._checksums[spec.data], "precision": PRECISION, "code": code_fingerprint(), "schema": SCHEMA}

    def path(self, spec: RunSpec) -> Path:
        """The file that holds, or will hold, the spec's history."""
        return self.folder / f"{digest(spec.to_dict())[:24]}-{digest(self.context(spec))[:16]}.parquet"

    def unfinished(self, block: Sequence[RunSpec]) -> Path:
        """Where the checkpoint of runs that train together lies while they do."""
        return self.folder / "unfinished" / f"{digest([self.path(spec).stem for spec in block])[:24]}.pt"

    def why_missing(self, spec: RunSpec) -> str:
        """Why a spec is not in the store: never trained, or which part of its context changed since."""
        context = self.context(spec)
        for other in sorted(
            self.folder.glob(f"{digest(spec.to_dict())[:24]}-*.parquet"), key=lambda path: path.stat().st_mtime, reverse=True
        ):
            before = self._read(other)
            if before is not None:
                changed = [name for name, value in context.items() if before[1]["context"].get(name) != value]
                return f"{' and '.join(changed)} changed since it was trained"
        return "never trained"

    def put(self, spec: RunSpec, history: Sequence[dict], run: dict) -> None:
        """Write a history (one mapping of numbers per epoch) with its provenance; `run` adds to it what this run knows.

        Raises:
            UsageError: when the folder cannot be written.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        meta = {"spec": spec.to_dict(), "context": self.context(spec), "provenance": provenance.describe() | run}
        about = json.dumps(meta)
        table = pa.Table.from_pylist(list(history))
        table = table.replace_schema_metadata({_META: about.encode(), _SUM: _content_sum(table.to_pylist(), about)})
        files.write_whole(self.path(spec), lambda path: pq.write_table(table, path, write_page_checksum=True))

    def get(self, spec: RunSpec) -> tuple[list[dict], dict] | None:
        """The spec's history and metadata, or None when it is not there; a damaged file is set aside with a notice."""
        path = self.path(spec)
        if not path.exists():
            return None
        found = self._read(path)
        if found is None or found[1]["spec"] != json.loads(json.dumps(spec.to_dict())):
            aside = path.with_suffix(".damaged")
            try:
                path.replace(aside)
            except OSError as error:
                raise UsageError(f"{path} is damaged and cannot be set aside: {error.strerror}; delete it.") from error
            print(f"the stored run {path.name} is damaged: it is set aside as {aside.name} and trained again", file=sys.stderr, flush=True)
            return None
        return found

    def entries(self) -> list[tuple[Path, str, RunSpec | None]]:
        """Every stored run with its state and spec: current, outdated (code, data, precision or schema changed since) or damaged.

        A run whose data set is not at hand counts as current.
        """
        found = []
        for path in sorted(self.folder.glob("*.parquet")):
            content = self._read(path)
            spec, state = None, DAMAGED
            if content is not None:
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
        """Delete outdated and damaged runs, checkpoints and leftovers of writing; returns what was deleted.

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
        """History and metadata of one file; None when it is damaged."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as opened:
                table = opened.read()
            history, about = table.to_pylist(), table.schema.metadata[_META].decode()
            return (history, json.loads(about)) if _content_sum(history, about) == table.schema.metadata[_SUM] else None
        except (pa.ArrowException, OSError, KeyError, TypeError, ValueError):
            return None
