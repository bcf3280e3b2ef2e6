"""From a list of specs to a table: what the store lacks is trained, one single-threaded process per
core, or on one GPU.
"""

import contextlib
import ctypes
import functools
import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from datetime import UTC, datetime
from pathlib import Path

from lsnc_core import files
from lsnc_core.errors import UsageError
from lsnc_core.runs.spec import RunSpec
from lsnc_core.runs.store import Store

# Networks per block on a CPU core. In the recorded benchmark the CNNs that can be stacked reach at
# 16 nine tenths of the rate of their best R, the MLP three quarters; memory grows with R, and small
# blocks keep all cores busy to the end and lose little when stopped.
BLOCK = 16
# A GPU is filled by one large block.
BLOCK_CUDA = 128
# ResNets are run in turn: on a CPU none gained by company. On a GPU each keeps its activations for
# the backward pass, at batch 128 and width 64 in float32 0.6 GB a ResNet-18 on 32x32 pixels, 13 GB
# a ResNet-50 on 64x64; so many together keep at most so much.
BLOCK_DEEP, KEPT_BYTES = 4, 2**34

# of glibc's mallopt: from what size on freed memory goes back to the system, and from what on it
# comes from there by itself
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3

_progress_queue = None


def choose_device(device: str = "auto") -> str:
    """ "cpu" or "cuda" for "auto", "cpu" or "cuda"; raises `UsageError` for another name or when
    there is no CUDA device.
    """
    import torch

    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"device must be auto, cpu or cuda, got {device!r}.")
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            "device cuda was asked for, but torch finds no CUDA device here; use --device cpu."
        )
    return "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"


def block_size(spec: RunSpec, device: str) -> int:
    """How many networks of a spec's company train together at most; what memory is free does not
    matter, for the bits depend on it.
    """
    from lsnc_core.runs import prepare

    if spec.model.startswith("resnet"):
        return (
            max(1, min(BLOCK_DEEP, KEPT_BYTES // prepare.kept_bytes(spec)))
            if device == "cuda"
            else 1
        )
    return BLOCK_CUDA if device == "cuda" else BLOCK


def blocks(specs: Sequence[RunSpec], size: Callable[[RunSpec], int]) -> list[list[RunSpec]]:
    """Distinct specs, in the order asked for, grouped by company and cut into blocks of at most
    `size(spec)`.

    The cut depends on the request alone, not on what is stored: a resumed request trains the same
    blocks, so it gives the same bits.
    """
    companies: dict[RunSpec, list[RunSpec]] = {}
    for spec in dict.fromkeys(specs):
        companies.setdefault(spec.company, []).append(spec)
    return [
        group[start : start + size(company)]
        for company, group in companies.items()
        for start in range(0, len(group), size(company))
    ]


def results(specs: Sequence[RunSpec], device: str = "auto", store: Store | None = None):
    """The histories of all specs as one tidy table; those not yet in the store are trained first,
    with a progress bar.

    Args:
        specs: the runs wanted; duplicates count once.
        device: "auto", "cpu" or "cuda".
        store: where results lie; by default the store of the outputs folder.

    Returns:
        pandas.DataFrame, one row per (run, epoch): the spec's settings, its file and provenance
        (`seconds` are the process time of one network), then what `runs.fleet.train` measures.

    Raises:
        UsageError: when a data set is missing, the store cannot be written, memory is too small, a
            training process was killed, or a reader's file was changed while networks were trained
            with it.
    """
    import pandas as pd

    store = store or Store()
    found = {spec: store.get(spec) for spec in specs}
    missing = {spec for spec, entry in found.items() if entry is None}
    if missing:
        train(specs, missing, choose_device(device), store)
        found |= {spec: store.get(spec) for spec in missing}
    return pd.DataFrame(
        [
            _origin(store, spec, meta) | row
            for spec, (history, meta) in found.items()
            for row in history
        ]
    )


def tensors(
    specs: Sequence[RunSpec], device: str = "auto", store: Store | None = None
) -> dict[RunSpec, list[dict]]:
    """The stored arrays of all specs, trained first where missing: for each, one mapping per
    measured epoch.

    Args, raises: as for `results`.

    Returns:
        For each spec its mappings, in the order of `evaluate_at`: arrays by the names that
            `runs.fleet.train` gives them.
    """
    store = store or Store()
    results(specs, device, store)
    found = {spec: store.tensors(spec) for spec in specs}
    damaged = [
        spec for spec, arrays in found.items() if arrays is None
    ]  # its numbers were readable, its arrays are not
    if damaged:
        train(specs, set(damaged), choose_device(device), store)
        found |= {spec: store.tensors(spec) for spec in damaged}
    return found


def _origin(store: Store, spec: RunSpec, meta: dict) -> dict:
    """A run's settings, the name of its file, and where, when and how it was trained, as table
    columns.
    """
    made = meta["provenance"]
    where = {
        "run": store.path(spec).stem,
        "device": made["device"],
        "hardware": made["accelerator"] if made["device"] == "cuda" else made["processor"],
        "torch": made["versions"]["torch"],
        "commit": made["commit"],
        "finished": made["finished"],
        "seconds": made["seconds"],
    }
    return spec.to_dict() | where


def train(specs: Sequence[RunSpec], missing: set[RunSpec], device: str, store: Store) -> None:
    """Train those of the specs that are missing; results are stored block by block as they
    finish.
    """
    from tqdm import tqdm

    from lsnc_core.runs import prepare

    todo = [
        block
        for block in blocks(specs, lambda spec: block_size(spec, device))
        if missing & set(block)
    ]
    reason = store.why_missing(next(spec for spec in specs if spec in missing))
    print(
        f"training {len(missing)} networks on {device} ({reason}); {len(set(specs)) - len(missing)} are in the store; "
        f"{sum(spec.train_size * spec.epochs for spec in missing):,} images to be trained on, passes counted",
        file=sys.stderr,
        flush=True,
    )
    total = sum(len(block) * block[0].epochs * prepare.operations(block[0]) for block in todo)
    # the remaining time is told by the mean rate: blocks report in bursts
    with tqdm(
        total=total,
        desc="training",
        unit="FLOP",
        unit_scale=True,
        smoothing=0,
        mininterval=1,
        maxinterval=5,
    ) as bar:
        if device == "cuda" or len(todo) == 1:
            for block in todo:
                _train_block(block, missing, device, store, functools.partial(_advance, bar))
        else:
            _train_in_processes(todo, missing, store, bar)


def _advance(bar, done: int, before: int) -> None:
    """Move the bar by `done` operations, of which `before` were done by an earlier start and say
    nothing of this one's speed.

    Nor does the first report: until then processes were being started and images read.
    """
    if bar.n == 0:
        bar.start_t, before = bar._time(), done
    bar.initial += before
    bar.update(done)


def _train_block(
    block: list[RunSpec],
    missing: set[RunSpec],
    device: str,
    store: Store,
    progress: Callable[[int, int], object],
) -> None:
    """Train one block, single-threaded on a CPU wherever it runs, and store those of its histories
    that were missing.
    """
    import torch

    from lsnc_core import data
    from lsnc_core.runs import fleet, prepare

    start = time.perf_counter()
    contexts = [store.context(spec) for spec in block]
    checkpoint = store.unfinished(block, device)
    resumed = checkpoint.exists()
    work = prepare.operations(block[0])  # networks of very different size train under one bar
    unsaid = resumed  # the first report of a training that goes on is of the epochs before

    def report(epochs: int) -> None:
        nonlocal unsaid
        progress(epochs * work, epochs * work if unsaid else 0)
        unsaid = False

    try:
        with _settled(device):
            trained = fleet.train(
                block, data.load(block[0].data), torch.device(device), report, checkpoint
            )
    except torch.OutOfMemoryError as error:
        raise UsageError(
            f"the GPU's memory is too small for {len(block)} networks ({block[0].model}, batch {block[0].batch}) and what else is there; "
            "what had finished is stored: free it of other programs, or use --device cpu."
        ) from error
    if [store.context(spec) for spec in block] != contexts:
        raise UsageError(
            "a file of your own was changed while networks were trained with it, so they are not kept: start again."
        )
    made = {
        "device": device,
        "seconds": round((time.perf_counter() - start) / len(block), 3),
        "trained_together": len(block),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "resumed": resumed,
        "deterministic": device == "cpu" or files.deterministic(),
    }
    for spec, found in zip(block, trained, strict=True):
        if spec in missing:
            store.put(spec, found.history, made, found.tensors)
    checkpoint.unlink(missing_ok=True)


@contextlib.contextmanager
def _settled(device: str) -> Iterator[None]:
    """What numbers depend on beside the program, for as long as networks train: one thread; on a
    GPU float32 means float32, and, if asked for, no algorithm that may vary.
    """
    import torch

    threads, tf32, repeatable = (
        torch.get_num_threads(),
        torch.backends.cudnn.allow_tf32,
        torch.are_deterministic_algorithms_enabled(),
    )
    torch.set_num_threads(1)
    if device == "cuda":
        torch.backends.cudnn.allow_tf32 = False
        if files.deterministic():
            os.environ.setdefault(
                "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
            )  # cuBLAS reads it when it is first used
        torch.use_deterministic_algorithms(files.deterministic())
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.cudnn.allow_tf32 = tf32
        torch.use_deterministic_algorithms(repeatable)


def _train_in_processes(
    todo: list[list[RunSpec]], missing: set[RunSpec], store: Store, bar
) -> None:
    """Spread blocks over one process per core; the first failure, or Ctrl-C, stops them all."""
    context = multiprocessing.get_context("spawn")
    messages = context.Queue()
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        min(len(todo), cores), mp_context=context, initializer=_start_worker, initargs=(messages,)
    )
    try:
        waiting = {pool.submit(_work, block, missing & set(block), store.folder) for block in todo}
        while waiting:
            with contextlib.suppress(queue.Empty):
                _advance(bar, *messages.get(timeout=0.2))
            for future in [future for future in waiting if future.done()]:
                waiting.remove(future)
                future.result()
        bar.update(bar.total - bar.n)
    except BaseException as error:
        for child in set(multiprocessing.active_children()) - others:
            child.terminate()
        if isinstance(error, BrokenProcessPool):
            raise UsageError(
                "a training process was killed, most often for want of memory; what had finished is stored: "
                "close other programs and start again."
            ) from error
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def keep_memory() -> None:
    """Let this process keep the memory that it frees; what is no glibc is left as it is.

    Every step makes and frees the same large tensors, and the system fills each page with zeros
    before it gives it out again: a third of the time of the 28x28 CNN.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_MMAP_THRESHOLD, 2**30)


def _start_worker(messages) -> None:
    """Leave Ctrl-C to the parent, end when it is gone, keep memory, and remember where progress is
    told.
    """
    keep_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    global _progress_queue
    _progress_queue = messages


def _end_with_parent() -> None:
    """A parent that was killed can stop nobody: its training processes would live on."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _work(block: list[RunSpec], missing: set[RunSpec], folder: Path) -> None:
    """Train one block inside a training process."""
    _train_block(
        block,
        missing,
        "cpu",
        Store(folder),
        lambda done, before: _progress_queue.put((done, before)),
    )
