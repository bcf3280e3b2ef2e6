"""papermill's client with limits on what a cell may do: how long it runs, and how much it shows.

A cell that hangs would hold up the report for ever, and one that floods its output would fill the
memory of the process that reads it and of the browser that opens the page.
"""

import os
import signal
from typing import Any

from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat.v4 import new_output
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines
from papermill.utils import merge_kwargs, remove_args

from lsnc_core.errors import UsageError

ENGINE = "lsnc"
# Networks are trained before the notebooks run; the slowest cell takes minutes.
MINUTES = 60.0
TEXT = 100_000  # characters of text that a cell prints, each of standard output and error
SHOWN = 50_000_000  # characters of what it displays
EACH = 5_000  # an output counts at least so much: a page with more of them would not open
MORE_MEMORY = "close other programs or choose a smaller profile."
NAMES = {"stdout": "standard output", "stderr": "standard error"}
LEFT_OUT = "\n[the rest is left out: a cell shows at most {:,} characters of {}]\n"


def minutes() -> float:
    """How long a cell may run: `LSNC_CELL_MINUTES`, or an hour.

    Raises:
        UsageError: if that is not a positive number.
    """
    text = os.environ.get("LSNC_CELL_MINUTES", "")
    try:
        given = float(text or MINUTES)
    except ValueError:
        given = 0.0
    if not 0 < given < 1e6:
        raise UsageError(f"LSNC_CELL_MINUTES must be a number of minutes above 0, got {text!r}.")
    return given


class LimitedClient(PapermillNotebookClient):
    """Runs a notebook's cells one by one, and keeps of what each shows as much as a page can hold.

    Attributes:
        room: characters that a cell may still show, by cell and kind of output.
    """

    def __init__(self, manager: Any, **settings: Any):
        super().__init__(manager, **settings)
        self.room: dict[tuple[int, str], int] = {}

    def papermill_execute_cells(self) -> None:
        """Run the cells.

        Raises:
            DeadKernelError, CellTimeoutError: with one sentence on what happened.
        """
        try:
            super().papermill_execute_cells()
        except DeadKernelError:
            status = self.km.provisioner.ended
            raise DeadKernelError(describe_end(self.code_cells_executed, status)) from None
        except CellTimeoutError as error:
            cell = f"cell {self.code_cells_executed}"
            if "IOPub" in str(error):
                raise CellTimeoutError(
                    f"{cell} wrote faster than its output could be read: let it print less."
                ) from None
            raise CellTimeoutError(
                f"{cell} was stopped after {minutes():g} minutes: if it does not hang, "
                "allow more with LSNC_CELL_MINUTES."
            ) from None

    def output(self, outs: list, msg: dict, display_id: str | None, cell_index: int) -> Any:
        content, kind = msg["content"], msg["msg_type"]
        if kind == "error":
            return super().output(outs, msg, display_id, cell_index)
        if kind == "stream":
            place, most, size = NAMES[content["name"]], TEXT, len(content["text"])
        else:
            place, most, size = "displays", SHOWN, max(EACH, len(str(content)))
        room = self.room.setdefault((cell_index, place), most)
        self.room[cell_index, place] = room - size
        if size <= room:
            return super().output(outs, msg, display_id, cell_index)
        if room < 0:
            return None
        # what crosses the limit: the beginning of a text, nothing of a display, and a remark
        kept = content["text"][:room] if kind == "stream" else ""
        name = content["name"] if kind == "stream" else "stdout"
        self.room[cell_index, place] = -1
        outs.append(new_output("stream", name=name, text=kept + LEFT_OUT.format(most, place)))
        return outs[-1]


def describe_end(cell: int, status: int | None) -> str:
    """How a kernel died, in one sentence.

    Args:
        cell: the number of the cell that ran.
        status: the kernel's exit status, negative for a signal; None if it is not known.

    >>> describe_end(2, 3)
    'cell 2 ended its kernel with exit status 3: a notebook must run to its end.'
    """
    if status is not None and status >= 0:
        return (
            f"cell {cell} ended its kernel with exit status {status}: "
            "a notebook must run to its end."
        )
    if status in (None, -signal.SIGKILL):
        return (
            f"the kernel was killed in cell {cell}, usually because memory ran out: {MORE_MEMORY}"
        )
    return f"the kernel crashed in cell {cell} ({signal.Signals(-status).name})."


class LimitedEngine(NBClientEngine):
    """papermill's engine with that client."""

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, start_timeout=60, **settings):
        settings = remove_args(["input_path", "execution_timeout"], **settings)
        limits = {"timeout": max(1, round(60 * minutes())), "startup_timeout": start_timeout}
        made = merge_kwargs(settings, kernel_name=kernel_name, **limits)
        return LimitedClient(nb_man, **made).execute()


papermill_engines.register(ENGINE, LimitedEngine)
