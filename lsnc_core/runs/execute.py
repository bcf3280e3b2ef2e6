"""From a list of specs to a table: what the store lacks is trained.

On CPUs one single-threaded process per core trains, on a GPU one process.
"""

import contextlib
import ctypes
import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsnc_core import files
from lsnc_core.defaults import usual_defaults
from lsnc_core.errors import UsageError
from lsnc_core.runs import cost
from lsnc_core.runs.progress import Progress
from lsnc_core.runs.spec import RunSpec
from lsnc_core.runs.store import Store

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from lsnc_core.runs import products
    from lsnc_core.runs.measure import Trained

# Networks per block on a CPU core. In the recorded benchmark the CNNs that can be stacked reach at
# 16 nine tenths of the speed of their best R, the MLP three quarters; memory grows with R, and
# small blocks keep all cores busy to the end and lose little when stopped.
BLOCK = 16
# A GPU is filled by one large block.
BLOCK_CUDA = 128
# ResNets are run in turn: on a CPU none gained from training beside others. On a GPU each keeps its
# activations for the backward pass, at batch 128 and width 64 in float32 0.6 GB a ResNet-18 on
# 32x32 pixels, 13 GB a ResNet-50 on 64x64; so many together keep at most so much.
BLOCK_DEEP, KEPT_BYTES = 4, 2**34

# of glibc's mallopt: from what size on freed memory goes back to the system, and from what size on
# memory comes straight from there
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3

_messages: Any = None  # in a training process: the queue on which it reports progress


def choose_device(device: str = "auto") -> str:
    """The device to train on, "cpu" or "cuda"; "auto" takes CUDA where there is a device.

    Raises:
        UsageError: for another name, and for "cuda" where there is no CUDA device.
    """
    import torch

    if not isinstance(device, str) or device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"device must be auto, cpu or cuda, got {device!r}.")
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            "device cuda was asked for, but torch finds no CUDA device here; use --device cpu."
        )
    return "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"


def block_size(spec: RunSpec, device: str) -> int:
    """How many networks like a spec's train together at most.

    It does not depend on free memory, because the bits of the results depend on it.
    """
    if not spec.model.startswith("resnet"):
        return BLOCK_CUDA if device == "cuda" else BLOCK
    if device != "cuda":
        return 1
    return max(1, min(BLOCK_DEEP, KEPT_BYTES // cost.kept_bytes(spec)))


def blocks(specs: Sequence[RunSpec], size: Callable[[RunSpec], int]) -> list[list[RunSpec]]:
    """Distinct specs, grouped by what trains together and cut into blocks of at most `size(spec)`.

    The cut depends on the request alone, not on what is stored: a resumed request trains the same
    blocks, so it gives the same bits.
    """
    groups: dict[RunSpec, list[RunSpec]] = {}
    for spec in dict.fromkeys(specs):
        groups.setdefault(spec.shared, []).append(spec)
    cut = []
    for shared, group in groups.items():
        step = size(shared)
        cut += [group[start : start + step] for start in range(0, len(group), step)]
    return cut


@usual_defaults()
def results(
    specs: Sequence[RunSpec], device: str = "auto", store: Store | None = None
) -> "pd.DataFrame":
    """The histories of all specs as one tidy table; what is not in the store is trained first.

    Args:
        specs: the runs wanted; duplicates count once.
        device: "auto", "cpu" or "cuda".
        store: where results lie; by default the store of the outputs folder.

    Returns:
        pandas.DataFrame, one row per (run, epoch): the spec's settings, its file and provenance
        (`seconds` are the process time of one network), then what `runs.fleet.train` measures.

    Raises:
        UsageError: when a data set is missing, the store cannot be written, memory is too small, a
            training process was killed, a file of your own cannot be used, or it changed while
            networks were trained with it.
    """
    import pandas as pd

    _check_specs(specs)
    store = store or Store()
    store.refresh()
    stored = {spec: store.get(spec) for spec in specs}
    missing = {spec for spec, content in stored.items() if content is None}
    if missing:
        train(specs, missing, choose_device(device), store)
        stored |= {spec: store.get(spec) for spec in missing}
    rows = []
    for spec, content in stored.items():
        if content is None:
            raise UsageError(
                f"a run is not in {store.folder} though it was trained: a file of your own or the "
                "store was changed meanwhile, so start again."
            )
        history, meta = content
        origin = _origin(store, spec, meta)
        rows += [origin | row for row in history]
    _discard_checkpoints(specs, device, store)
    return pd.DataFrame(rows)


def _check_specs(specs: Sequence[RunSpec]) -> None:
    """Refuse what is no list of specs. Raises: UsageError."""
    if not isinstance(specs, Sequence) or not all(isinstance(spec, RunSpec) for spec in specs):
        raise UsageError(f"specs must be a list of RunSpec, not {specs!r}.")


def _discard_checkpoints(specs: Sequence[RunSpec], device: str, store: Store) -> None:
    """Delete checkpoints of blocks that are stored: a kill may fall between storing and this."""
    if not any((store.folder / "unfinished").glob("*.pt")):
        return
    device = choose_device(device)
    for block in blocks(specs, lambda spec: block_size(spec, device)):
        store.unfinished(block, device).unlink(missing_ok=True)


@usual_defaults()
def tensors(
    specs: Sequence[RunSpec], device: str = "auto", store: Store | None = None
) -> dict[RunSpec, list[dict[str, "np.ndarray"]]]:
    """The stored arrays of all specs, one mapping per measured epoch; trained first where missing.

    Args, raises: as for `results`.

    Returns:
        For each spec its mappings, in the order of `evaluate_at`: arrays by the names that
        `runs.fleet.train` gives them.
    """
    store = store or Store()
    results(specs, device, store)
    arrays = {spec: store.tensors(spec) for spec in specs}
    # of these the numbers were readable, but the arrays are damaged
    damaged = {spec for spec, rows in arrays.items() if rows is None}
    if damaged:
        train(specs, damaged, choose_device(device), store)
        arrays |= {spec: store.tensors(spec) for spec in damaged}
    return {spec: rows or [] for spec, rows in arrays.items()}


def _origin(store: Store, spec: RunSpec, meta: dict[str, Any]) -> dict[str, Any]:
    """A run's settings, its file, and where, when and how it was trained, as table columns."""
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
    """Train those of the specs that are missing; results are stored block by block."""
    cut = blocks(specs, lambda spec: block_size(spec, device))
    todo = [block for block in cut if missing & set(block)]
    if store.earlier_files():
        print(store.describe_earlier_files(), file=sys.stderr, flush=True)
    reason = store.why_missing(next(spec for spec in specs if spec in missing))
    passes = sum(spec.train_size * spec.epochs for spec in missing)
    print(
        f"training {len(missing)} networks on {device} ({reason}); "
        f"{len(set(specs)) - len(missing)} are in the store; "
        f"{passes:,} images to be trained on, passes counted",
        file=sys.stderr,
        flush=True,
    )
    routes = _routes(device, store)

    def work(block: list[RunSpec]) -> int:
        return len(block) * block[0].epochs * cost.epoch_operations(block[0])

    # the largest first, so that no process is left with one at the end
    todo.sort(key=work, reverse=True)
    total = sum(map(work, todo))
    with Progress(total) as progress:
        if device == "cuda" or len(todo) == 1:
            for block in todo:
                _train_block(block, missing, device, store, routes, progress.advance)
        else:
            _train_in_processes(todo, missing, store, routes, progress)


def _routes(device: str, store: Store) -> "products.Routes":
    """By which library this machine's CPU multiplies, if it is the one that trains."""
    from lsnc_core.runs import products

    return products.of_this_machine(store.folder.parent) if device == "cpu" else products.BY_DEFAULT


def _train_block(
    block: list[RunSpec],
    missing: set[RunSpec],
    device: str,
    store: Store,
    routes: "products.Routes",
    progress: Callable[[int, int], object],
) -> None:
    """Train one block and store those of its histories that were missing.

    Args:
        block: trains together.
        missing: the specs to store.
        device: "cpu", on which training is single-threaded wherever it runs, or "cuda".
        store: where results and checkpoints lie.
        routes: by which library a CPU multiplies.
        progress: called with operations done, and how many of them an earlier start did.
    """
    start = time.perf_counter()
    contexts = [store.context(spec) for spec in block]
    checkpoint = store.unfinished(block, device)
    resumed = checkpoint.exists()
    trained = _train_together(block, device, checkpoint, routes, progress)
    store.refresh()
    if [store.context(spec) for spec in block] != contexts:
        raise UsageError(
            "a file of your own was changed while networks were trained with it, "
            "so they are not kept: start again."
        )
    made = {
        "device": device,
        "seconds": round((time.perf_counter() - start) / len(block), 3),
        "trained_together": len(block),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "resumed": resumed,
        "deterministic": device == "cpu" or files.deterministic(),
        "products": dict(trained[0].products),
    }
    for spec, one in zip(block, trained, strict=True):
        if spec in missing:
            store.put(spec, one.history, made, one.tensors)
    checkpoint.unlink(missing_ok=True)


def _train_together(
    block: list[RunSpec],
    device: str,
    checkpoint: Path,
    routes: "products.Routes",
    progress: Callable[[int, int], object],
) -> list["Trained"]:
    """Train one block from its checkpoint, or from the start; arguments as of `_train_block`."""
    import torch

    from lsnc_core import data
    from lsnc_core.runs import fleet

    work = cost.epoch_operations(block[0])  # blocks of very different size share one bar
    # the first report of a resumed training is about the epochs before
    resumes = checkpoint.exists()

    def report(epochs: int) -> None:
        nonlocal resumes
        progress(epochs * work, epochs * work if resumes else 0)
        resumes = False

    try:
        with _settled(device):
            # not held here: the fleet lets go of the pixels as they were read
            return fleet.train(
                block, data.load(block[0].data), torch.device(device), report, checkpoint, routes
            )
    except torch.OutOfMemoryError as error:
        raise UsageError(
            f"the GPU's memory is too small for {len(block)} networks ({block[0].model}, batch "
            f"{block[0].batch}) and what else is there; what had finished is stored: free it of "
            "other programs, or use --device cpu."
        ) from error


@contextlib.contextmanager
def _settled(device: str) -> Iterator[None]:
    """Fix what numbers depend on beside the program, for as long as networks train.

    One thread; on a GPU float32 means float32 and, if asked for, no algorithm may vary.
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
            # cuBLAS reads it when it is first used
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(files.deterministic())
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.cudnn.allow_tf32 = tf32
        torch.use_deterministic_algorithms(repeatable)


def cores() -> int:
    """How many CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _train_in_processes(
    todo: list[list[RunSpec]],
    missing: set[RunSpec],
    store: Store,
    routes: "products.Routes",
    progress: Progress,
) -> None:
    """Spread blocks over one process per core; the first failure, or Ctrl-C, stops them all."""
    context = multiprocessing.get_context("spawn")
    messages = context.Queue()
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        min(len(todo), cores()), mp_context=context, initializer=_start_worker, initargs=(messages,)
    )
    try:
        waiting = {
            pool.submit(_work, block, missing & set(block), store.folder, routes) for block in todo
        }
        while waiting:
            with contextlib.suppress(queue.Empty):
                progress.advance(*messages.get(timeout=0.2))
            for future in [future for future in waiting if future.done()]:
                waiting.remove(future)
                future.result()
        progress.finish()
    except BaseException as error:
        _terminate(set(multiprocessing.active_children()) - others)
        if isinstance(error, BrokenProcessPool):
            raise UsageError(
                "a training process was killed, most often for want of memory; what had finished "
                "is stored: close other programs and start again."
            ) from error
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _terminate(children: Iterable[multiprocessing.process.BaseProcess]) -> None:
    for child in children:
        child.terminate()


def keep_memory() -> None:
    """Let this process keep the memory that it frees; nothing happens without glibc.

    Every step makes and frees the same large tensors, and the system fills each page with zeros
    before it gives it out again: a third of the time of the 28x28 CNN.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_MMAP_THRESHOLD, 2**30)


def _start_worker(messages: Any) -> None:
    """Set up a training process: Ctrl-C belongs to the parent, and it ends when the parent ends."""
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


def _work(
    block: list[RunSpec], missing: set[RunSpec], folder: Path, routes: "products.Routes"
) -> None:
    """Train one block inside a training process."""

    def report(done: int, before: int) -> None:
        _messages.put((done, before))

    _train_block(block, missing, "cpu", Store(folder), routes, report)
