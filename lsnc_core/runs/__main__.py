"""Look after stored runs: `python -m lsnc_core.runs list | verify | clean | merge DIR ...`.

The store is that of the outputs folder (`LSNC_OUTPUTS`).
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lsnc_core.errors import UsageError
from lsnc_core.runs.merge import merge
from lsnc_core.runs.spec import RunSpec
from lsnc_core.runs.store import CURRENT, DAMAGED, OUTDATED, Store


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command.

    Returns:
        The exit status: 0; 1 when `verify` found damage or `merge` left files out; 2 when the
        command cannot be carried out.
    """
    command = argparse.ArgumentParser("python -m lsnc_core.runs", description=__doc__)
    command.add_argument(
        "what",
        choices=("list", "verify", "clean", "merge"),
        help="list all runs; check every file; delete what is not used any more; copy the runs of "
        "other outputs folders into this store, each checked",
    )
    command.add_argument(
        "folders", nargs="*", type=Path, metavar="DIR", help="with merge: outputs folders"
    )
    given = command.parse_args(arguments)
    what = given.what
    if (what == "merge") != bool(given.folders):
        command.error("merge takes outputs folders, and nothing else does")
    try:
        store = Store()
        if what == "merge":
            return _merge(given.folders, store)
        if what == "clean":
            print(f"deleted {len(store.clean())} files of {store.folder}")
            return 0
        entries = store.entries()
    except UsageError as error:
        print(f"lsnc_core.runs: {error}", file=sys.stderr)
        return 2
    states = [state for _, state, _ in entries]
    for path, state, spec in entries:
        if what == "list" or state == DAMAGED:
            print(f"{path.name}  {state}  {_describe(spec)}".rstrip())
    if what == "list" and store.earlier_files():
        print(store.describe_earlier_files())
    counts = [f"{states.count(state)} {state}" for state in (CURRENT, OUTDATED, DAMAGED)]
    print(f"{store.folder}: {', '.join(counts)}")
    return 1 if what == "verify" and DAMAGED in states else 0


def _merge(folders: Sequence[Path], store: Store) -> int:
    """Merge stores and say what became of their files; the exit status."""
    merged = merge(folders, store)
    for sentence in merged.refused:
        print(sentence, file=sys.stderr)
    print(f"{store.folder}: {merged}")
    return 1 if merged.refused else 0


def _describe(spec: RunSpec | None) -> str:
    if spec is None:
        return ""
    return (
        f"{spec.data} {spec.model} a={spec.a:g} p={spec.p:g} seed={spec.seed} epochs={spec.epochs}"
    )


if __name__ == "__main__":
    sys.exit(main())
