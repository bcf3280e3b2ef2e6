"""Training processes on this machine, one single-threaded process per core, as an executor."""

import contextlib
import ctypes
import itertools
import multiprocessing
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from multiprocessing import forkserver
from multiprocessing.context import BaseContext, ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from typing import Any
from weakref import WeakKeyDictionary

# of glibc's mallopt: from what size on freed memory goes back to the system, and from what size on
# memory comes straight from there
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3

# On Linux training processes are forks of a server that has imported what they need, which takes
# seconds; it starts with the first of them and ends with this process. macOS's libraries do not
# survive a fork.
_FORKS = sys.platform == "linux"
_IMPORTED = ["torch", "numpy", "pandas", "lsnc_core.runs", "lsnc_core.runs.preemptible"]

# By its name a process knows that it is to train, also while it still imports the script that is
# run; its exit status then tells what it met: there Python's own is 1 for any error.
NAME, FAILED_IMPORT, UNGUARDED = "training process", 1, 70
_GUARD = 'put what the script does under `if __name__ == "__main__":`.'

_messages: Any = None  # in a training process: the queue on which it reports


class WatchedExecutor(Executor):
    """An executor that can say more of what it is doing than the interface asks for.

    Attributes:
        reports_epochs: whether `reports` has something to say before a task ends.
    """

    reports_epochs = False

    def reports(self) -> list[tuple[int, int]]:
        """What `task.carry_out` reported since the last call."""
        return []

    def trainer(self, future: Future) -> str:
        """Who carries out a task, for an error message."""
        return "a worker"

    def explain(self, error: BaseException, block: str) -> str:
        """One sentence for the user on why a task failed; empty where the error says it.

        Args:
            error: what the task's future raises.
            block: the task's networks in words.
        """
        if not isinstance(error, BrokenExecutor):
            return ""
        return (
            "a training process was killed, most often for want of memory; what had finished "
            "is stored: close other programs and start again."
        )

    def stop(self, waiting: Iterable[Future]) -> None:
        """End at once what is under way, as far as that is possible, and begin nothing more.

        Args:
            waiting: the futures of all tasks that have not ended.
        """
        for future in waiting:
            future.cancel()


class _Processes(BaseContext):
    """Starts processes under the name of training processes, and keeps them in a list."""

    def __init__(self) -> None:
        super().__init__()
        self._context: ForkServerContext | SpawnContext = multiprocessing.get_context("spawn")
        if _FORKS:
            self._context = multiprocessing.get_context("forkserver")
            self._context.set_forkserver_preload(_IMPORTED)
            _start_server()
        self._name = self._context.get_start_method()
        self.started: list[BaseProcess] = []

    def Process(self, *arguments: Any, **named: Any) -> BaseProcess:  # type: ignore[override]
        process = self._context.Process(*arguments, **named | {"name": NAME})
        self.started.append(process)
        return process


def _start_server() -> None:
    """Start the server of forks, unless it runs, with this process's search path.

    By itself it would first look for what it imports in the working directory.
    """
    with changed_environment({"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONSAFEPATH": "1"}):
        forkserver.ensure_running()


@contextlib.contextmanager
def changed_environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables, and set them back."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class LocalPool(WatchedExecutor):
    """Training processes that end with this one.

    Args:
        processes: how many.
    """

    reports_epochs = True

    def __init__(self, processes: int):
        self._processes = _Processes()
        self._messages = self._processes.Queue()
        self._pool = ProcessPoolExecutor(
            processes,
            self._processes,
            initializer=_start_trainer,
            initargs=(self._messages, dict(os.environ)),
        )
        self._count = itertools.count()
        # weak: a future holds all arrays of its block
        self._numbers: WeakKeyDictionary[Future, int] = WeakKeyDictionary()
        self._trainers: dict[int, int] = {}  # ids of processes by number of the task

    def submit(self, function: Callable, /, *arguments: Any, **named: Any) -> Future:
        """Call the function in a training process, with `report=` for what it has done."""
        number = next(self._count)
        future = self._pool.submit(_work, number, function, *arguments, **named)
        self._numbers[future] = number
        return future

    def reports(self) -> list[tuple[int, int]]:
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                kind, *values = self._messages.get_nowait()
                if kind == "began":
                    number, process = values
                    self._trainers[number] = process
                else:
                    found.append((values[0], values[1]))
        return found

    def trainer(self, future: Future) -> str:
        return f"the training process {self._trainers.get(self._numbers[future], 'of this run')}"

    def explain(self, error: BaseException, block: str) -> str:
        if isinstance(error, BrokenExecutor):
            self.stop(())
            self._pool.shutdown()  # all have an exit status then
            statuses = {process.exitcode for process in self._processes.started}
            if UNGUARDED in statuses:
                return f"training processes import the script that is run, and it trains: {_GUARD}"
            if FAILED_IMPORT in statuses:
                return (
                    "a training process imports the script that is run, which must be a file, and "
                    f"failed with the error that stands above: {_GUARD}"
                )
        return super().explain(error, block)

    def stop(self, waiting: Iterable[Future]) -> None:
        # Killed, not asked to end: a process that hangs would not hear it. The pool breaks by that
        # and ends all futures; Python 3.11 prints a traceback where one of them was cancelled.
        for process in self._processes.started:
            if process.is_alive():
                process.kill()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._pool.shutdown(wait, cancel_futures=cancel_futures)


def leave_import() -> None:
    """End this process if it is a training process that imports the script that is run.

    Such a script trains whenever it is imported, and nobody waits for this training.
    """
    if multiprocessing.current_process().name == NAME and _messages is None:
        os._exit(UNGUARDED)  # a fork would end with the status of any error


def cores() -> int:
    """How many CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def keep_memory() -> None:
    """Let this process keep the memory that it frees; nothing happens without glibc.

    Every step makes and frees the same large tensors, and the system fills each page with zeros
    before it gives it out again: a third of the time of the 28x28 CNN.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_MMAP_THRESHOLD, 2**30)


def _start_trainer(messages: Any, environment: dict[str, str]) -> None:
    """Set up a training process: Ctrl-C belongs to the parent, and it ends when the parent ends.

    Args:
        messages: the queue on which it reports.
        environment: the parent's, which may have changed since the server started.
    """
    os.environ.clear()
    os.environ.update(environment)
    keep_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    global _messages
    _messages = messages


def _end_with_parent() -> None:
    """End this process with its parent: one that is killed cannot stop its training processes."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def _work(number: int, function: Callable, *arguments: Any, **named: Any) -> Any:
    """Carry out one task inside a training process."""
    _messages.put(("began", number, os.getpid()))

    def report(done: int, before: int) -> None:
        _messages.put(("did", done, before))

    return function(*arguments, report=report, **named)
