"""Looks after the store: `python -m lsnc_core.runs list | verify | clean`, on the store of the
outputs folder (`LSNC_OUTPUTS`).
"""

import argparse
import sys
from collections.abc import Sequence

from lsnc_core.errors import UsageError
from lsnc_core.runs.store import CURRENT, DAMAGED, OUTDATED, Store


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command; 0, 1 when `verify` found damage, 2 when the command cannot be carried
    out.
    """
    command = argparse.ArgumentParser("python -m lsnc_core.runs", description=__doc__)
    command.add_argument(
        "what",
        choices=("list", "verify", "clean"),
        help="list all runs; check every file; delete what no request would use any more",
    )
    what = command.parse_args(arguments).what
    store = Store()
    try:
        entries = store.entries()
        for path, state, spec in entries:
            if what == "list" or (what == "verify" and state == DAMAGED):
                about = (
                    f"{spec.data} {spec.model} a={spec.a:g} p={spec.p:g} seed={spec.seed} epochs={spec.epochs}"
                    if spec
                    else ""
                )
                print(f"{path.name}  {state}  {about}".rstrip())
        if what == "clean":
            gone = store.clean()
            print(f"deleted {len(gone)} files of {store.folder}")
        else:
            counts = [
                f"{sum(entry[1] == state for entry in entries)} {state}"
                for state in (CURRENT, OUTDATED, DAMAGED)
            ]
            print(f"{store.folder}: {', '.join(counts)}")
    except UsageError as error:
        print(f"lsnc_core.runs: {error}", file=sys.stderr)
        return 2
    return 1 if what == "verify" and any(state == DAMAGED for _, state, _ in entries) else 0


if __name__ == "__main__":
    sys.exit(main())
