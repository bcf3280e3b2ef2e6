"""Training on a Dask cluster: on several machines, or on the several GPUs of one.

A scheduler hands out blocks of networks, each worker trains one at a time. Where a worker dies, its
block goes to another; where it was stopped on purpose too often, the run ends in a sentence.
"""

import concurrent.futures
import contextlib
import logging
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from lsnc_core import files
from lsnc_core.errors import UsageError, needs_companion
from lsnc_core.runs import task
from lsnc_core.runs.pool import WatchedExecutor, keep_memory
from lsnc_core.runs.progress import QUIET_SECONDS
from lsnc_core.runs.spec import RunSpec
from lsnc_core.runs.store import Store

if TYPE_CHECKING:
    from distributed import Client

# Seconds until a scheduler must have answered, workers have joined, been checked, and ended. A
# worker that is still busy with an earlier request is checked with its first block.
ANSWER_SECONDS, JOIN_SECONDS, CHECK_SECONDS, END_SECONDS = 20, 120, 180, 10
PRESENT = "__import__('lsnc_core.runs.task').__name__"
NANNY = str(Path(__file__).with_name("nanny.py"))
WORKER = "dask worker ADDRESS --nthreads 1 --memory-limit 0"


class Cluster(WatchedExecutor):
    """Dask workers as an executor, one block at a time each.

    Attributes:
        scheduler: its address.
        device: on which the workers train, "cpu" or "cuda".
    """

    def __init__(self, client: "Client", scheduler: str, device: str):
        self.client, self.scheduler, self.device = client, scheduler, device
        # a block that was asked for twice is trained twice: nobody else waits for it
        self._executor = client.get_executor(pure=False)
        self._keys: WeakKeyDictionary[Future, str] = WeakKeyDictionary()

    def submit(self, function: Callable, /, *arguments: Any, **named: Any) -> Future:
        key = f"{function.__name__}-{uuid.uuid4().hex}"
        future = self._executor.submit(_in_a_worker, function, *arguments, key=key, **named)
        self._keys[future] = key
        return future

    def reports(self) -> list[tuple[int, int]]:
        if self.client.status != "running":  # then some tasks would never end
            raise UsageError(self._gone())
        return []

    def trainer(self, future: Future) -> str:
        with contextlib.suppress(OSError):
            for address, keys in self.client.processing().items():
                if self._keys[future] in keys:
                    return f"the worker {address}"
        return f"the scheduler {self.scheduler}, which has given the block to no worker,"

    def explain(self, error: BaseException, block: str) -> str:
        from distributed.scheduler import KilledWorker

        if isinstance(error, KilledWorker):
            times = error.allowed_failures + 1
            return (
                f"{times} worker{'s' * (times > 1)} died while training {block}, most often for "
                f"want of memory or by a memory limit (the last was {error.last_worker.address}); "
                "what had finished is stored: look at their logs, then start again."
            )
        if isinstance(error, concurrent.futures.CancelledError) or self.client.status != "running":
            return self._gone()
        return super().explain(error, block)

    def _gone(self) -> str:
        return (
            f"the scheduler {self.scheduler} went away; what had finished is stored: start it and "
            "its workers, then start again."
        )

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._executor.shutdown(wait=wait and not cancel_futures)


def _in_a_worker(function: Callable, *arguments: Any, **named: Any) -> Any:
    """Call a function in a worker, whose nanny has set it to give all memory back."""
    keep_memory()
    return function(*arguments, **named)


@contextlib.contextmanager
def connect(
    scheduler: str, workers: int, device: str, specs: Sequence[RunSpec], store: Store
) -> Iterator[Cluster]:
    """A cluster whose workers can train these specs.

    Args:
        scheduler: its address, such as tcp://HOST:8786; empty to start one here.
        workers: how many to start where the scheduler is started here.
        device: "auto", "cpu" or "cuda"; "auto" is CUDA where the workers have it.
        specs: to be trained.
        store: where results will lie.

    Raises:
        UsageError: without the extra `cluster`; when no scheduler answers or no worker joins; and
            for a worker with other versions, code or images, with several threads or a memory
            limit.
    """
    needs_companion("training on a cluster", "dask", "distributed", extra="cluster")
    with contextlib.ExitStack() as stack:
        # Dask logs every lost connection and restarted worker; what matters ends in our sentences
        log = logging.getLogger("distributed")
        stack.callback(log.setLevel, log.level)
        log.setLevel(logging.CRITICAL)
        if not scheduler:
            scheduler = _start(stack, workers, device)
        client = _client(scheduler)
        stack.callback(client.close, timeout=5)
        _wait_for_workers(client, scheduler, workers)
        print(f"dashboard of the workers: {client.dashboard_link}", file=sys.stderr, flush=True)
        yield Cluster(client, scheduler, _check(client, device, specs, store))


def _client(scheduler: str) -> "Client":
    """Connect. Raises: UsageError."""
    from distributed import Client

    try:
        return Client(scheduler, timeout=ANSWER_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"no Dask scheduler answers at {scheduler}: start `dask scheduler` there, and "
            f"`{WORKER}` on every machine that is to train."
        ) from error


def _wait_for_workers(client: "Client", scheduler: str, count: int) -> None:
    """Wait for this many workers, at least one. Raises: UsageError."""
    try:
        client.wait_for_workers(max(count, 1), timeout=JOIN_SECONDS)
    except TimeoutError as error:
        if count:
            raise UsageError(
                f"{len(client.scheduler_info(n_workers=-1)['workers'])} of the {count} workers "
                f"that were started here have joined within {JOIN_SECONDS} s; what they printed "
                "stands above: start again, with fewer if memory is short."
            ) from error
        raise UsageError(
            f"no worker joined the scheduler {scheduler} within {JOIN_SECONDS} s: start "
            f"`{WORKER.replace('ADDRESS', scheduler)}` on every machine that is to train."
        ) from error


def _start(stack: contextlib.ExitStack, workers: int, device: str) -> str:
    """Start a scheduler in this process and workers in others; returns its address.

    With CUDA each worker has one GPU of its own, chosen before its Python starts.

    Raises:
        UsageError: for more workers than GPUs.
    """
    import dask
    from distributed import LocalCluster

    gpus = _gpus() if device == "cuda" else []
    if gpus and workers > len(gpus):
        raise UsageError(
            f"--workers {workers} asks for more workers than there are GPUs, {len(gpus)}: "
            "each worker takes one."
        )
    # A worker that does not answer is given up and its block goes to another; the usual five
    # minutes are too few for one that holds Python's lock for long.
    with dask.config.set({"distributed.scheduler.worker-ttl": f"{QUIET_SECONDS} s"}):
        cluster = LocalCluster(
            n_workers=0,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        )
    stack.enter_context(cluster)
    processes: list[subprocess.Popen] = []
    stack.callback(_end, processes)
    for number in range(workers):
        environment = dict(os.environ)
        environment["PYTHONPATH"] = os.pathsep.join(
            filter(None, [str(files.PROJECT), os.environ.get("PYTHONPATH")])
        )
        environment["DASK_LOGGING__DISTRIBUTED"] = "critical"
        # a worker that is ended while it trains leaves these to the system
        environment["PYTHONWARNINGS"] = "ignore::UserWarning:multiprocessing.resource_tracker"
        if gpus:
            environment["CUDA_VISIBLE_DEVICES"] = gpus[number]
        command = [sys.executable, "-P", "-m", "distributed.cli.dask_worker"]
        command += [cluster.scheduler_address, "--nthreads", "1", "--memory-limit", "0"]
        command += ["--no-dashboard", "--name", f"worker-{number}", "--preload-nanny", NANNY]
        processes.append(subprocess.Popen(command, env=environment, stdin=subprocess.PIPE))
    return str(cluster.scheduler_address)


def _gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    chosen = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return chosen.split(",") if chosen else list(map(str, range(torch.cuda.device_count())))


def _end(processes: Sequence[subprocess.Popen]) -> None:
    """End workers, and soon: what they do is not wanted any more."""
    for process in processes:
        if process.stdin:
            process.stdin.close()  # see `nanny`
    end = time.monotonic() + END_SECONDS
    for process in processes:
        try:
            process.wait(max(0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _check(client: "Client", device: str, specs: Sequence[RunSpec], store: Store) -> str:
    """Refuse workers that could not train; returns the device of those there are.

    Raises: UsageError, which names the worker.
    """
    workers = client.scheduler_info(n_workers=-1)["workers"]
    for address, worker in workers.items():
        if worker["nthreads"] != 1 or worker["memory_limit"]:
            limit = worker["memory_limit"]
            threads = f"{worker['nthreads']} thread{'s' * (worker['nthreads'] > 1)}"
            memory = f"a memory limit of {limit / 2**30:.1f} GB" if limit else "no memory limit"
            raise UsageError(
                f"the worker {address} has {threads} and {memory}, but must train one block at a "
                "time and never be stopped half-way: start it with --nthreads 1 --memory-limit 0."
            )
    answers = {}
    # a worker that cannot import what it is sent would die of it, so that comes first
    for address, future in _ask(client, list(workers), eval, PRESENT).items():
        try:
            error = future.exception(timeout=CHECK_SECONDS)
        except TimeoutError:  # busy with an earlier request
            continue
        if isinstance(error, ImportError):
            raise UsageError(
                f"the worker {address} has no lsnc_core, or another version ({error}): "
                "start it in the environment of this project."
            )
    samples = list({spec.data: spec for spec in specs}.values())
    tasks = [task.make_task([spec], set(), "cpu", store, {}, True) for spec in samples]
    for address, future in _ask(client, list(workers), task.can_train, tasks).items():
        try:
            answers[address] = future.result(timeout=CHECK_SECONDS)
        except TimeoutError:  # busy with an earlier request: checked with its first block
            continue
        except UsageError:
            raise
        except Exception as error:  # another version fails in a way of its own
            raise UsageError(
                f"the worker {address} cannot train ({type(error).__name__}: {error}): "
                "start it in the environment of this project."
            ) from error
    if not answers:
        raise UsageError(f"no worker answered within {CHECK_SECONDS} s: all of them are busy.")
    return _device_of(answers, device)


def _ask(
    client: "Client", workers: Sequence[str], function: Callable, argument: object
) -> dict[str, Any]:
    """Call a function in each worker; returns Dask's futures by address."""
    futures = {}
    for address in workers:
        futures[address] = client.submit(
            function, argument, workers=[address], allow_other_workers=False, pure=False
        )
    return futures


def _device_of(has_cuda: dict[str, bool], device: str) -> str:
    """The device that workers share. Raises: UsageError, where they share none.

    Args:
        has_cuda: by address.
        device: "auto", "cpu" or "cuda".
    """
    with_gpu = [address for address, cuda in has_cuda.items() if cuda]
    without = [address for address, cuda in has_cuda.items() if not cuda]
    if device == "cpu" or (not with_gpu and device == "auto"):
        return "cpu"
    if without:
        others = f"while {with_gpu[0]} has one " if with_gpu else ""
        raise UsageError(
            f"the worker {without[0]} has no GPU {others}and results are those of one device: stop "
            "it, or use --device cpu."
        )
    return "cuda"
