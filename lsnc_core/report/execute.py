"""Run one notebook through papermill in a process of its own:
`python -m lsnc_core.report.execute SOURCE TARGET PARAMETERS`.

This adds what papermill leaves open. The target appears only when every cell has run, because a
dead kernel and a cell that calls `sys.exit` leave notebooks that look finished. On failure the last
line printed is one sentence about what happened.
Exit status: 0 finished, 1 a cell failed, 2 the request cannot be carried out, 138 the kernel was
killed.
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
        nbclient.exceptions.DeadKernelError: if the kernel is killed.
        RuntimeError: if the notebook stopped before its last cell.
        UsageError: if the target cannot be written.
    """
    import papermill

    from lsnc_core import files
    from lsnc_core.report import kernels

    with tempfile.TemporaryDirectory(prefix="lsnc-") as scratch:
        partial = Path(scratch) / target.name
        executed = papermill.execute_notebook(
            as_it_is(source),
            as_it_is(partial),
            parameters,
            kernel_name="python3",
            kernel_manager_class=kernels.manager_class(waiting),
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


def main(arguments: list[str], waiting: "WaitingKernel | None" = None) -> int:
    """Run one notebook, in the kernel that waits if there is one.

    Returns:
        The exit status; a failure's sentence is the last line of standard output.
    """
    source, target, parameters = Path(arguments[0]), Path(arguments[1]), json.loads(arguments[2])
    import papermill
    from nbclient.exceptions import DeadKernelError

    try:
        run(source, target, parameters, waiting)
    except papermill.PapermillExecutionError as error:
        misused = error.ename == UsageError.__name__
        cause = error.evalue if misused else f"{error.ename}: {error.evalue}"
        print("\n".join(error.traceback))
        print(" ".join(f"cell {error.exec_count} failed: {cause}".split()))
        return MISUSED if misused else FAILED
    except DeadKernelError:
        print(
            "the kernel was killed, usually because memory ran out: "
            "close other programs or choose a smaller profile."
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
    sys.exit(main(sys.argv[1:]))
