"""Notebooks' processes as forks of a server that has imported what they need.

Importing takes a notebook longer than computing. The server imports once and forks a process for
each notebook, which forks its kernel at once, while both are still single-threaded. Nothing depends
on the server after that. It refuses to fork, and notebooks start as ordinary processes, where a
fork would not be safe: on macOS, and with threads or a CUDA context in the server.

The server reads requests from a socket. Each comes with two open files: the notebook's log, and a
socket on which the notebook's process writes its id and, at its end, its exit status.
"""

import contextlib
import functools
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from lsnc_core.report import execute

LONGEST = 1 << 17  # bytes in a request, below every system's limit for one message
# What notebooks, papermill and kernels import, beside the modules of the notebooks.
WARM = (
    "papermill",
    "lsnc_core.report.kernels",
    "ipykernel.kernelapp",
    "ipykernel.debugger",
    "ipywidgets",
    "numpy",
    "torch",
    "pandas",
    "matplotlib.pyplot",
    "seaborn",
    "scipy.stats",
    "pyarrow.parquet",
    "altair",
    "lsnc_core.papers",
    "lsnc_core.runs",
    "lsnc_core.metrics.collapse",
    "lsnc_core.notebook",
)
# Threads that the system's libraries stop and start around a fork themselves.
HARMLESS = ("jemalloc_bg_thd",)


def possible() -> bool:
    """Whether this system forks safely: Linux does, macOS's libraries do not survive it."""
    return sys.platform == "linux"


# ------------------------------------------------------------------------------ the command's side


class Fork:
    """A notebook's process; used like `subprocess.Popen`.

    Attributes:
        pid: its id.
        returncode: its exit status; None until its end has been seen.
    """

    def __init__(self, pid: int, connection: socket.socket):
        self.pid, self._connection = pid, connection
        self.returncode: int | None = None

    def wait(self) -> int:
        """Wait for its end; its exit status."""
        if self.returncode is None:
            status = b""
            with self._connection:
                while received := self._connection.recv(LONGEST):
                    status = received
            # one that does not say how it ended was killed
            self.returncode = int(status or -signal.SIGKILL)
        return self.returncode

    def terminate(self) -> None:
        """Ask it to end, unless it has."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)


class Server:
    """The server as the command sees it.

    Args:
        environment: of the server and all its forks.
    """

    def __init__(self, environment: Mapping[str, str]):
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "lsnc_core.report.forks", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=environment,
                pass_fds=[theirs.fileno()],
            )

    def start(self, arguments: Sequence[str], log: IO[str]) -> Fork | None:
        """Fork a process that runs a notebook.

        Args:
            arguments: those of `lsnc_core.report.execute`.
            log: open file for its output.

        Returns:
            The process; None if the server is gone or refuses to fork.
        """
        request = json.dumps(list(arguments)).encode()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = b""
        with theirs, contextlib.suppress(OSError):
            if len(request) <= LONGEST:
                socket.send_fds(self._requests, [request], [theirs.fileno(), log.fileno()])
                theirs.close()
                # if the server ends before it forks, so does this connection
                pid = ours.recv(LONGEST)
        if not pid:
            ours.close()
            return None
        return Fork(int(pid), ours)

    def close(self) -> None:
        """End the server; its forks run on."""
        self._requests.close()
        self._process.terminate()
        self._process.wait()


# ------------------------------------------------------------------------------- the server's side


def safe_to_fork() -> bool:
    """Whether only this thread runs, but for harmless ones, and CUDA has not been used."""
    torch = sys.modules.get("torch")
    if threading.active_count() > 1 or (torch and torch.cuda.is_initialized()):
        return False
    names = []
    for thread in Path("/proc/self/task").iterdir():
        names.append((thread / "comm").read_text().strip())
    return len([name for name in names if name not in HARMLESS]) == 1


def fork() -> int:
    """`os.fork` without the warning of Python 3.12 and later, which counts harmless threads too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def warm_up() -> None:
    """Import what notebooks import, draw once, and fork once: OpenBLAS then stops the threads it
    starts.
    """
    # as ipykernel does before matplotlib is imported
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    for name in WARM:
        # a notebook that needs what is missing says so itself
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    from lsnc_core import papers
    from lsnc_core.runs import key

    papers.entries()
    _ = key.package().engine  # a digest of code, in the names of all stored networks
    with contextlib.suppress(ImportError):
        draw_once()
    pid = fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    # what is there now lives as long as the process: garbage collection need not look at it
    gc.collect()
    gc.freeze()


def draw_once() -> None:
    """Draw a small figure: the first one of a process reads the fonts and imports what writes SVG
    and PDF.
    """
    from matplotlib.figure import Figure

    from lsnc_core.show.figure import pdf_bytes, svg_text

    drawing = Figure(layout="constrained")
    drawing.subplots().set_title("text, and $x_1$")
    svg_text(drawing)
    pdf_bytes(drawing)


def serve(requests: socket.socket) -> Callable[[], int]:
    """Fork a process for each request.

    Returns:
        What this process has to do next. It returns in the server and in each fork, so that all
        end like any other process.
    """
    # a Ctrl-C is for the command, which ends the notebooks, and for them
    interrupted = signal.signal(signal.SIGINT, signal.SIG_IGN)
    if safe_to_fork():
        warm_up()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks here
    while safe_to_fork():
        request, files, _, _ = socket.recv_fds(requests, LONGEST, 2)
        if not request:
            break
        if fork() == 0:
            signal.signal(signal.SIGINT, interrupted)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return functools.partial(run_notebook, json.loads(request), *files)
        for file in files:
            os.close(file)
    return lambda: 0


def run_notebook(arguments: list[str], connection: int, log: int) -> int:
    """Run a notebook in this fork, its kernel in another; the exit status."""
    from lsnc_core.report import kernels

    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    receiving, sending = os.pipe()
    pid = fork()
    if pid == 0:
        os.close(sending)
        os.close(connection)
        kernels.become(receiving)
        return 0
    os.close(receiving)
    # the connection closes with this process: the command waits for that
    os.set_inheritable(connection, False)
    os.write(connection, str(os.getpid()).encode())
    status = execute.FAILED
    try:
        status = execute.main(arguments, kernels.WaitingKernel(pid, sending))
    finally:
        os.write(connection, str(status).encode())
    return status


if __name__ == "__main__":
    # a fork leaves here without the server's socket, so that its end is noticed
    with socket.socket(fileno=int(sys.argv[1])) as requests:
        action = serve(requests)
    sys.exit(action())
