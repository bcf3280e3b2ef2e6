"""Runs one notebook through papermill in a process of its own: `python -m lsnc_core.report.execute
SOURCE TARGET PARAMETERS`.

What papermill leaves open is settled here: the target appears only when every cell has run (a dead
kernel and a cell that calls `sys.exit` leave notebooks that look finished), and the last line
printed on failure is one sentence that says what happened.
Exit status: 0 finished, 1 a cell failed, 2 the user asked for something that cannot be done, 138
the kernel was killed.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

from lsnc_core.errors import UsageError

FAILED, MISUSED, KILLED = 1, 2, 138


def run(source: Path, target: Path, parameters: dict) -> None:
    """Execute `source` with the parameters (JSON values, all of them known to the notebook) and
    write `target` when it has finished.

    Raises:
        papermill.PapermillExecutionError: when a cell fails; nbclient.exceptions.DeadKernelError:
            when the kernel is killed;
        RuntimeError: when the notebook stopped before its last cell; UsageError: when the target
            cannot be written.
    """
    import papermill

    from lsnc_core import files

    with tempfile.TemporaryDirectory(prefix="lsnc-") as scratch:
        partial = Path(scratch) / target.name
        executed = papermill.execute_notebook(
            source,
            partial,
            parameters,
            kernel_name="python3",
            progress_bar=False,
            cwd=source.parent,
            request_save_on_cell_execute=False,
            autosave_cell_every=0,
            iopub_timeout=60,
            # ipykernel announces its transport at every start; only errors are of interest
            extra_arguments=["--IPKernelApp.log_level=ERROR"],
        )
        unrun = [
            cell
            for cell in executed.cells
            if cell.cell_type == "code" and cell.source.strip() and cell.execution_count is None
        ]
        if unrun:
            raise RuntimeError(f"it stopped before its end: {len(unrun)} cells did not run.")
        files.write_whole(target, lambda path: path.write_bytes(partial.read_bytes()))


def main(arguments: list[str]) -> int:
    """Run one notebook; 0, or the exit status that names the failure, its sentence as the last line
    of standard output.
    """
    source, target, parameters = Path(arguments[0]), Path(arguments[1]), json.loads(arguments[2])
    import papermill
    from nbclient.exceptions import DeadKernelError

    try:
        run(source, target, parameters)
    except papermill.PapermillExecutionError as error:
        print("\n".join(error.traceback))
        cause = (
            f"{error.ename}: {error.evalue}" if error.ename != UsageError.__name__ else error.evalue
        )
        print(" ".join(f"cell {error.exec_count} failed: {cause}".split()))
        return MISUSED if error.ename == UsageError.__name__ else FAILED
    except DeadKernelError:
        print(
            "its kernel was killed, most often for want of memory: close other programs, or choose a smaller profile."
        )
        return KILLED
    except UsageError as error:
        print(error)
        return MISUSED
    except RuntimeError as error:
        print(error)
        return FAILED
    return 0


if __name__ == "__main__":
    # frozen modules' warning of the debugger that ipykernel starts is no concern of a reader of the
    # log
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    sys.exit(main(sys.argv[1:]))
