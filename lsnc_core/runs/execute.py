"""From a list of specs to a table: what the store lacks is trained.

On CPUs one single-threaded process per core trains, and this process what is done soon; on a GPU
one process; or any executor does, on machines of its own.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from typing import TYPE_CHECKING, Any

from lsnc_core import files
from lsnc_core.defaults import usual_defaults
from lsnc_core.errors import UsageError
from lsnc_core.runs import cost
from lsnc_core.runs.pool import LocalPool, WatchedExecutor, cores, leave_import
from lsnc_core.runs.progress import Progress, Watch
from lsnc_core.runs.spec import RunSpec
from lsnc_core.runs.store import Store
from lsnc_core.runs.task import CHANGED, Finished, Task, carry_out, make_task

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from lsnc_core.runs.products import Routes

# Networks per block on a CPU core. In the recorded benchmark the CNNs that can be stacked reach at
# 16 nine tenths of the speed of their best R, the MLP two thirds; memory grows with R, and
# small blocks keep all cores busy to the end and lose little when stopped.
BLOCK = 16
# A GPU is filled by one large block.
BLOCK_CUDA = 128
# A training process imports for about 4 s before it trains, so a request that one core is done with
# in less than twice that is trained in this process. A core takes about so many operations a
# second, and a step at least so many seconds.
SOON, OPERATIONS_PER_SECOND, STEP_SECONDS = 8.0, 1e10, 5e-3
# ResNets are run in turn: on a CPU none gained from training beside others. On a GPU each keeps its
# activations for the backward pass, at batch 128 and width 64 in float32 0.6 GB a ResNet-18 on
# 32x32 pixels, 13 GB a ResNet-50 on 64x64; so many together keep at most so much.
BLOCK_DEEP, KEPT_BYTES = 4, 2**34
_GONE = (
    "a run is not in {} though it was trained: a file of your own or the store was changed "
    "meanwhile, so start again."
)


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
    specs: Sequence[RunSpec],
    device: str = "auto",
    store: Store | None = None,
    executor: Executor | None = None,
) -> "pd.DataFrame":
    """The histories of all specs as one tidy table; what is not in the store is trained first.

    Args:
        specs: the runs wanted; duplicates count once.
        device: "auto", "cpu" or "cuda".
        store: where results lie; by default the store of the outputs folder.
        executor: trains the blocks, one at a time in each of its processes, anywhere: a block
            brings its settings and comes back as arrays, and this process stores it. By default
            one process per core does, or this one what is done soon. With one, `device` is that of
            the processes it has.

    Returns:
        pandas.DataFrame, one row per (run, epoch): the spec's settings, its file and provenance
        (`seconds` are those of its block since the last start, divided by the networks in it), then
        what `runs.fleet.train` measures.

    Raises:
        UsageError: when a data set is missing, the store cannot be written, memory is too small, a
            training process was killed, hangs or cannot start, a file of your own cannot be used,
            or it changed while networks were trained with it.
    """
    import pandas as pd

    _check_specs(specs)
    store = store or Store()
    store.refresh()
    stored = {spec: store.get(spec) for spec in specs}
    missing = {spec for spec, content in stored.items() if content is None}
    if missing:
        train(specs, missing, _device(device, executor), store, executor)
        stored |= {spec: store.get(spec) for spec in missing}
    rows = []
    for spec, content in stored.items():
        if content is None:
            raise UsageError(_GONE.format(store.folder))
        history, meta = content
        origin = _origin(store, spec, meta)
        rows += [origin | row for row in history]
    _discard_checkpoints(specs, _device(device, executor), store)
    return pd.DataFrame(rows)


def _device(device: str, executor: Executor | None) -> str:
    """The device to train on, which need not be here where an executor trains."""
    there = executor is not None and device in ("cpu", "cuda")
    return device if there else choose_device(device)


def _check_specs(specs: Sequence[RunSpec]) -> None:
    """Refuse what is no list of specs. Raises: UsageError."""
    if not isinstance(specs, Sequence) or not all(isinstance(spec, RunSpec) for spec in specs):
        raise UsageError(f"specs must be a list of RunSpec, not {specs!r}.")


def _discard_checkpoints(specs: Sequence[RunSpec], device: str, store: Store) -> None:
    """Delete checkpoints of blocks that are stored: a kill may fall between storing and this."""
    if not any((store.folder / "unfinished").glob("*.pt")):
        return
    for block in blocks(specs, lambda spec: block_size(spec, device)):
        store.unfinished(block, device).unlink(missing_ok=True)


@usual_defaults()
def tensors(
    specs: Sequence[RunSpec],
    device: str = "auto",
    store: Store | None = None,
    executor: Executor | None = None,
) -> dict[RunSpec, list[dict[str, "np.ndarray"]]]:
    """The stored arrays of all specs, one mapping per measured epoch; trained first where missing.

    Args, raises: as for `results`.

    Returns:
        For each spec its mappings, in the order of `evaluate_at`: arrays by the names that
        `runs.fleet.train` gives them.
    """
    _check_specs(specs)
    _device(device, executor)  # refused as by `results`, whether anything is missing or not
    store = store or Store()
    store.refresh()
    arrays = {spec: store.tensors(spec) for spec in specs}
    missing = [spec for spec, rows in arrays.items() if rows is None]  # damaged ones are set aside
    if missing:
        results(specs, device, store, executor)
        arrays |= {spec: store.tensors(spec) for spec in missing}
    if None in arrays.values():
        raise UsageError(_GONE.format(store.folder))
    return {spec: rows for spec, rows in arrays.items() if rows is not None}


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


def train(
    specs: Sequence[RunSpec],
    missing: set[RunSpec],
    device: str,
    store: Store,
    executor: Executor | None = None,
) -> None:
    """Train those of the specs that are missing; results are stored block by block.

    A block of which some networks are stored trains whole where that repeats the bits of an
    undisturbed request. A GPU gives other bits in each run anyway, and its blocks are large.
    """
    cut = blocks(specs, lambda spec: block_size(spec, device))
    routes, carry = _routes(device), executor is not None
    whole = device == "cpu" or files.deterministic()
    tasks = []
    for block in cut:
        lacking = [spec for spec in block if spec in missing]
        if lacking:
            together = block if whole else lacking
            tasks.append(make_task(together, missing, device, store, routes, carry))
    in_processes = executor is None and device == "cpu" and len(tasks) > 1 and not _soon(tasks)
    if in_processes:
        leave_import()
    store.discard_leftovers()
    _announce(specs, missing, device, store, tasks)
    # the largest first, so that no process is left with one at the end
    tasks.sort(key=lambda task: task.work, reverse=True)
    with Progress(sum(task.work for task in tasks)) as progress:
        if executor is not None:
            _train_on(executor, tasks, store, progress)
        elif in_processes:
            _train_in_processes(tasks, store, progress)
        else:
            for task in tasks:
                _keep(task, carry_out(task, progress.advance), store)


def _announce(
    specs: Sequence[RunSpec], missing: set[RunSpec], device: str, store: Store, tasks: list[Task]
) -> None:
    """Say what is trained and why, and what an earlier start has left."""
    if store.earlier_files():
        print(store.describe_earlier_files(), file=sys.stderr, flush=True)
    reason = store.why_missing(next(spec for spec in specs if spec in missing))
    passes = sum(spec.train_size * spec.epochs for spec in missing)
    begun = len([task for task in tasks if task.checkpoint.exists()])
    print(
        f"training {len(missing)} networks on {device} ({reason}); "
        f"{len(set(specs)) - len(missing)} are in the store; "
        f"{passes:,} images to be trained on, passes counted"
        + (f"; {begun} of {len(tasks)} blocks go on where an earlier start ended" if begun else ""),
        file=sys.stderr,
        flush=True,
    )


def _routes(device: str) -> "Routes":
    """By which library this machine's CPU multiplies, if it is the one that trains."""
    from lsnc_core.runs import products

    if device != "cpu":
        return products.BY_DEFAULT
    return products.of_this_machine(files.outputs_root())


def _keep(task: Task, finished: Finished, store: Store) -> None:
    """Store what came back of a task.

    Raises:
        UsageError: when the store cannot be written, or a file of your own has changed since.
    """
    store.refresh()
    if [store.context(spec) for spec in task.specs] != list(task.contexts):
        raise UsageError(CHANGED)
    for spec, trained in zip(task.specs, finished.trained, strict=True):
        if trained is not None:
            store.put(spec, trained.history, finished.made, trained.tensors)
    task.checkpoint.unlink(missing_ok=True)


def _soon(tasks: list[Task]) -> bool:
    """Whether this process alone is done soon, before training processes would have begun."""
    seconds = [task.work / OPERATIONS_PER_SECOND + task.steps * STEP_SECONDS for task in tasks]
    return sum(seconds) < SOON


def _train_in_processes(tasks: list[Task], store: Store, progress: Progress) -> None:
    """Spread tasks over one process per core."""
    with LocalPool(min(len(tasks), cores())) as pool:
        _train_on(pool, tasks, store, progress)


def _train_on(executor: Executor, tasks: list[Task], store: Store, progress: Progress) -> None:
    """Carry out tasks on an executor; the first failure, or Ctrl-C, stops them all."""
    watched = executor if isinstance(executor, WatchedExecutor) else WatchedExecutor()
    watch = Watch(tasks[0].device)
    waiting: dict[Future, Task] = {}
    # so that workers which see the store leave their checkpoints there
    with contextlib.suppress(OSError):
        store.folder.mkdir(parents=True, exist_ok=True)
    try:
        for task in tasks:
            with _in_one_sentence(task, watched):
                waiting[executor.submit(carry_out, task)] = task
        while waiting:
            ended, _ = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
            # of what ended together, first what can be stored
            for future in sorted(ended, key=lambda future: _failed(future)):
                task = waiting.pop(future)
                with _in_one_sentence(task, watched):
                    finished = future.result()
                _keep(task, finished, store)
                watch.hear()
                watch.measure(task.work, finished.made["seconds"] * len(task.specs))
                if not watched.reports_epochs:
                    progress.advance(task.work, 0)
            for done, before in watched.reports():
                progress.advance(done, before)
                watch.hear()
            _refuse_to_wait(waiting, watched, watch)
        progress.finish()
    except BaseException:
        watched.stop(waiting)
        raise


def _failed(future: Future) -> bool:
    return future.cancelled() or future.exception() is not None


@contextlib.contextmanager
def _in_one_sentence(task: Task, watched: WatchedExecutor) -> Iterator[None]:
    """Turn what an executor raises for a task into a sentence, where its cause is known."""
    try:
        yield
    except BaseException as error:
        sentence = watched.explain(error, str(task))
        if sentence:
            raise UsageError(sentence) from error
        raise


def _refuse_to_wait(waiting: dict[Future, Task], watched: WatchedExecutor, watch: Watch) -> None:
    """Name who hangs. Raises: UsageError, when nothing was reported for too long."""
    epochs = watched.reports_epochs
    pieces = [task.epoch_work if epochs else task.work for task in waiting.values()]
    if pieces and watch.waits_in_vain(max(pieces)):
        # the others have finished meanwhile, so that what was begun first is what hangs
        future, task = next(iter(waiting.items()))
        raise UsageError(
            f"{watched.trainer(future)} has reported nothing for "
            f"{watch.quiet_seconds() / 60:.0f} minutes while training {task}; what had finished "
            "is stored: start again."
        )
