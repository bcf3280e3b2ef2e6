"""Run one notebook through papermill in a process of its own:
`python -m lsnc_core.report.execute SOURCE TARGET PARAMETERS`.

This adds what papermill leaves open. The target appears only when every cell has run, because a
dead kernel and a cell that calls `sys.exit` leave notebooks that look finished. A cell may run for
an hour and show what a page can hold. On failure the last line printed is one sentence about what
happened.
Exit status: 0 finished, 1 a cell failed or ran too long, 2 the request cannot be carried out, 138
the kernel died.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from lsnc_core.errors import UsageError

if TYPE_CHECKING:
    from lsnc_core.report.kernels import WaitingKernel

FAILED, MISUSED, KILLED = 1, 2, 138
LONGEST = 1_000  # characters of a cell's error that the sentence on it quotes
# what Python, NumPy and torch raise when an allocation fails
OUT_OF_MEMORY = ("MemoryError", "_ArrayMemoryError", "OutOfMemoryError")


def as_it_is(path: Path) -> str:
    """A path for papermill, which fills parameters into braces: `{epochs}.ipynb`. Doubled ones stay
    braces.
    """
    return str(path).replace("{", "{{").replace("}", "}}")


def run(
    source: Path, target: Path, parameters: dict, waiting: "WaitingKernel | None" = None
) -> None:
    """Execute a notebook and write the target when it has finished.

    Args:
        source: the notebook.
        target: where the executed notebook goes.
        parameters: JSON values, all of them known to the notebook.
        waiting: a process forked ahead for the kernel, or None to start one.

    Raises:
        papermill.PapermillExecutionError: if a cell fails.
        nbclient.exceptions.CellTimeoutError: if a cell runs too long.
        RuntimeError: if the kernel dies or the notebook stopped before its last cell.
        UsageError: if the target cannot be written.
    """
    import papermill

    from lsnc_core import files
    from lsnc_core.report import kernels, limits

    limits.minutes()  # what is wrong with it is said before a kernel starts
    with tempfile.TemporaryDirectory(prefix="lsnc-") as scratch:
        partial = Path(scratch) / target.name
        executed = papermill.execute_notebook(
            as_it_is(source),
            as_it_is(partial),
            parameters,
            engine_name=limits.ENGINE,
            kernel_name="python3",
            kernel_manager_class=kernels.manager_class(waiting, Path(scratch)),
            progress_bar=False,
            cwd=source.parent,
            request_save_on_cell_execute=False,
            autosave_cell_every=0,
            iopub_timeout=60,
            # ipykernel announces its transport at every start; only errors are of interest
            extra_arguments=["--IPKernelApp.log_level=ERROR"],
        )
        code = [cell for cell in executed.cells if cell.cell_type == "code" and cell.source.strip()]
        missing = sum(cell.execution_count is None for cell in code)
        if missing:
            raise RuntimeError(f"the notebook stopped early: {missing} cells did not run.")
        files.write_whole(target, lambda path: path.write_bytes(partial.read_bytes()))


def describe_failure(cell: int, kind: str, text: str) -> str:
    """What failed in a cell, on one line.

    Args:
        cell: its number.
        kind, text: of the error.

    >>> describe_failure(3, "ZeroDivisionError", "division by zero")
    'cell 3 failed: ZeroDivisionError: division by zero'
    """
    from lsnc_core.report import limits

    text = " ".join(text.split())
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
    if kind in OUT_OF_MEMORY or "can't allocate memory" in text:
        return f"cell {cell} failed: memory ran out ({text or kind}): {limits.MORE_MEMORY}"
    cause = text if kind == UsageError.__name__ else f"{kind}: {text}".removesuffix(": ")
    return f"cell {cell} failed: {cause}"


def main(arguments: list[str], waiting: "WaitingKernel | None" = None) -> int:
    """Run one notebook, in the kernel that waits if there is one.

    Returns:
        The exit status; a failure's sentence is the last line of standard output.
    """
    source, target, parameters = Path(arguments[0]), Path(arguments[1]), json.loads(arguments[2])
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    try:
        run(source, target, parameters, waiting)
    except papermill.PapermillExecutionError as error:
        print("\n".join(error.traceback))
        print(describe_failure(error.exec_count, error.ename, error.evalue))
        return MISUSED if error.ename == UsageError.__name__ else FAILED
    except DeadKernelError as error:
        print(error)
        return KILLED
    except UsageError as error:
        print(error)
        return MISUSED
    except (RuntimeError, CellTimeoutError) as error:
        print(error)
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
