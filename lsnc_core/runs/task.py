"""A block of networks and all that training it needs: what one task of an executor carries.

A task may run anywhere: in this process, in another on this machine, or on a machine that shares
nothing with this one. So it brings its settings along, and files of your own with it, and it
trains only where versions, code and images are those of the process that asked. What it trained
comes back as numbers and arrays; the process that asked stores them.
"""

import contextlib
import dataclasses
import hashlib
import math
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lsnc_core import custom, files, label_files, provenance
from lsnc_core.defaults import usual_defaults
from lsnc_core.errors import UsageError
from lsnc_core.runs import cost
from lsnc_core.runs.pool import changed_environment
from lsnc_core.runs.spec import RunSpec, digest
from lsnc_core.runs.store import Store

if TYPE_CHECKING:
    from lsnc_core.runs.measure import Trained
    from lsnc_core.runs.products import Routes

CHANGED = (
    "a file of your own was changed while networks were trained with it, "
    "so they are not kept: start again."
)
# The setting of a spec that names a file of your own, by what the file defines. Images come with
# more files than can be carried along.
_CARRIED = ("loss", "noise")

# What numbers depend on is set for a whole process, so that its threads take turns.
_turn = threading.Lock()


def versions() -> dict[str, str]:
    """The versions on which numbers depend, and whether results can be exchanged at all."""
    found = provenance.versions()
    python = ".".join(found["python"].split(".")[:2])
    return {"Python": python, "torch": found["torch"], "numpy": found["numpy"]}


@dataclass(frozen=True)
class Task:
    """A block, networks that train together, and what training it needs.

    Attributes:
        specs: train together.
        wanted: which of them come back.
        contexts: of each spec, `Store.context` where it was asked for.
        device: "cpu", on which training is single-threaded wherever it runs, or "cuda".
        checkpoint: lies there while the block trains.
        routes: by which library a CPU multiplies, if it is the `processor`.
        processor: of the machine that asked.
        host: its name.
        versions: its `versions()`.
        environment: `LSNC_...` settings by name.
        own_files: contents of losses and noises of your own, by the spec's value, by path relative
            to the file's folder; empty where all tasks stay on this machine.
    """

    specs: tuple[RunSpec, ...]
    wanted: frozenset[RunSpec]
    contexts: tuple[dict[str, Any], ...]
    device: str
    checkpoint: Path
    routes: "Routes"
    processor: str
    host: str
    versions: Mapping[str, str]
    environment: Mapping[str, str]
    own_files: Mapping[str, Mapping[str, bytes]]

    @property
    def epoch_work(self) -> int:
        """Operations of one epoch of all its networks."""
        return len(self.specs) * cost.epoch_operations(self.specs[0])

    @property
    def work(self) -> int:
        """Operations of the whole training."""
        return self.specs[0].epochs * self.epoch_work

    @property
    def steps(self) -> int:
        """Steps of the whole training, which its networks take together."""
        first = self.specs[0]
        return first.epochs * math.ceil(first.train_size / first.batch)

    def __str__(self) -> str:
        first, count = self.specs[0], len(self.specs)
        networks = "1 network" if count == 1 else f"{count} networks"
        details = f"{first.model}, {first.epochs} epochs on {Path(first.data).name}"
        return f"{networks} ({details}, seed {first.seed}, a = {first.a:g}, p = {first.p:g})"


def make_task(
    specs: list[RunSpec],
    missing: set[RunSpec],
    device: str,
    store: Store,
    routes: "Routes",
    carry: bool,
) -> Task:
    """The task that trains these specs together.

    Args:
        specs: train together.
        missing: those that are wanted, among others.
        device: "cpu" or "cuda".
        store: where the results will lie.
        routes: of this machine.
        carry: whether files of your own go along, for another machine.

    Raises:
        UsageError: when a data set or a file of your own cannot be used.
    """
    environment = {"LSNC_DATA": str(files.data_root())}
    for name, wanted in (("DETERMINISTIC", files.deterministic()), ("OFFLINE", files.offline())):
        environment[f"LSNC_{name}"] = "1" if wanted else ""
    return Task(
        tuple(specs),
        frozenset(missing & set(specs)),
        tuple(store.context(spec) for spec in specs),
        device,
        store.unfinished(specs, device),
        dict(routes),
        provenance.processor(),
        platform.node(),
        versions(),
        environment,
        _own_files(specs) if carry else {},
    )


def _own_files(specs: list[RunSpec]) -> dict[str, dict[str, bytes]]:
    """The contents of losses and noises of your own, as in `Task.own_files`."""
    contents: dict[str, dict[str, bytes]] = {}
    for spec in specs:
        for setting in _CARRIED:
            name = getattr(spec, setting)
            if custom.is_file(name):
                folder, sources = _main_file(name).parent, custom.sources(name)
                contents[name] = {
                    place.relative_to(folder).as_posix(): text for place, text in sources.items()
                }
            elif label_files.is_label_file(name):
                contents[name] = {_main_file(name).name: label_files.content(name)}
    return contents


def _main_file(name: str) -> Path:
    """The file of a loss or a noise of your own."""
    if label_files.is_label_file(name):
        return label_files.split(name)[0]
    return Path(name).expanduser().absolute()


class Finished(NamedTuple):
    """What comes back of a task.

    trained: for each spec its numbers and arrays, None where they were not wanted. made: where,
    when and how it was trained, for the store.
    """

    trained: "list[Trained | None]"
    made: dict[str, Any]


def carry_out(
    task: Task, report: Callable[[int, int], object] = lambda done, before: None
) -> Finished:
    """Train one block, in the process in which this is called.

    Args:
        task: what to train.
        report: called with operations done, and how many of them an earlier start did.

    Raises:
        UsageError: where versions, code or images are not those of the process that asked, and
            as `runs.results`.
    """
    with _ready(task) as specs:
        start = time.perf_counter()
        checkpoint = _checkpoint(task)
        resumed = checkpoint.exists()
        same = task.processor == provenance.processor()
        trained = _train_together(
            specs, task.device, checkpoint, task.routes if same else None, report
        )
        made = {
            **provenance.describe(),
            "device": task.device,
            "seconds": round((time.perf_counter() - start) / len(specs), 3),
            "trained_together": len(specs),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "resumed": resumed,
            "deterministic": task.device == "cpu" or files.deterministic(),
            "products": dict(trained[0].products),
        }
        if checkpoint != task.checkpoint:
            checkpoint.unlink(missing_ok=True)
    kept: list[Trained | None] = []
    for spec, one in zip(task.specs, trained, strict=True):
        kept.append(one if spec in task.wanted else None)
    return Finished(kept, made)


def can_train(tasks: Sequence[Task]) -> bool:
    """Check that tasks could be carried out here; returns whether there is a CUDA device.

    Raises: UsageError, which names this process.
    """
    import torch

    for task in tasks:
        try:
            with _ready(task):
                pass
        except UsageError as error:
            if str(error).startswith(this_worker()):
                raise
            raise UsageError(f"{this_worker()} cannot train: {error}") from error
    return torch.cuda.is_available()


@contextlib.contextmanager
def _ready(task: Task) -> Iterator[list[RunSpec]]:
    """The settings of a task, while this process has its turn; yields its specs as they are here.

    Raises: UsageError, as `carry_out`.
    """
    with _turn, usual_defaults(), _environment(task):
        _refuse_other_versions(task)
        specs = [_with_files_here(spec, task) for spec in task.specs]
        store = Store()
        contexts = [store.context(spec) for spec in specs]
        if contexts != list(task.contexts):
            raise UsageError(_difference(task, contexts))
        yield specs


def this_worker() -> str:
    """This process in an error message."""
    return f"the worker on {platform.node()} (process {os.getpid()})"


def _refuse_other_versions(task: Task) -> None:
    here = versions()
    for name, version in task.versions.items():
        if here[name] != version:
            raise UsageError(
                f"{this_worker()} has {name} {here[name]}, but the networks were asked for with "
                f"{name} {version}: give it the same environment."
            )


def _difference(task: Task, contexts: list[dict[str, Any]]) -> str:
    """One sentence on what differs here from what was asked for."""
    parts: set[str] = set()
    for here, there in zip(contexts, task.contexts, strict=True):
        parts |= {name for name in here | there if here.get(name) != there.get(name)}
    own = {"data"} if custom.is_file(task.specs[0].data) else set()
    if parts <= {*_CARRIED, *own} and platform.node() == task.host:
        return CHANGED
    if parts == {"data"}:
        return f"{this_worker()} has other images of {task.specs[0].data}: give it the same files."
    return (
        f"{this_worker()} has another version of lsnc_core or of your own files (it differs in "
        f"{', '.join(sorted(parts))}): give it the same."
    )


@contextlib.contextmanager
def _environment(task: Task) -> Iterator[None]:
    """The settings of the process that asked; a data folder that a worker names itself stays."""
    wanted = dict(task.environment)
    if os.environ.get("LSNC_DATA") or not Path(wanted["LSNC_DATA"]).is_dir():
        del wanted["LSNC_DATA"]
    with changed_environment(wanted):
        yield


def _with_files_here(spec: RunSpec, task: Task) -> RunSpec:
    """The spec with its own files as they are here; what is missing here is written to a cache."""
    changes: dict[str, Any] = {}
    for setting in _CARRIED:
        name = getattr(spec, setting)
        carried = task.own_files.get(name)
        if carried is None or _lies_here(name, carried):
            continue
        digests = {path: hashlib.sha256(text).hexdigest() for path, text in carried.items()}
        folder = files.outputs_root() / "cache" / "own" / digest(digests)[:24]
        for path, text in carried.items():
            _write_once(folder / path, text)
        file = str(folder / _main_file(name).name)
        array = label_files.split(name)[1] if label_files.is_label_file(name) else ""
        changes[setting] = f"{file}:{array}" if array else file
    return dataclasses.replace(spec, **changes) if changes else spec


def _lies_here(name: str, carried: Mapping[str, bytes]) -> bool:
    """Whether a file of your own lies here at its path, as it was carried."""
    folder = _main_file(name).parent
    try:
        return all((folder / path).read_bytes() == text for path, text in carried.items())
    except OSError:
        return False


def _write_once(path: Path, text: bytes) -> None:
    if not path.exists():
        files.write_whole(path, lambda partial: partial.write_bytes(text))


def _checkpoint(task: Task) -> Path:
    """Where the checkpoint lies: in the store if it is seen from here, else in the outputs here."""
    if platform.node() == task.host or task.checkpoint.parents[1].is_dir():
        return task.checkpoint
    return files.outputs_root() / "runs" / "unfinished" / task.checkpoint.name


def _train_together(
    specs: list[RunSpec],
    device: str,
    checkpoint: Path,
    routes: "Routes | None",
    report: Callable[[int, int], object],
) -> "list[Trained]":
    """Train specs from their checkpoint, or from the start.

    Args:
        specs, device, checkpoint: as of `Task`.
        routes: by which library a CPU multiplies; None for torch's default.
        report: as of `carry_out`.
    """
    import torch

    from lsnc_core import data
    from lsnc_core.runs import preemptible, products

    work = cost.epoch_operations(specs[0])  # blocks of very different size share one bar
    # the first report of a resumed training is about the epochs before
    resumes = checkpoint.exists()

    def report_work(epochs: int) -> None:
        nonlocal resumes
        report(epochs * work, epochs * work if resumes else 0)
        resumes = False

    try:
        with settled(device):
            # not held here: the fleet lets go of the pixels as they were read
            return preemptible.train(
                specs,
                data.load(specs[0].data),
                torch.device(device),
                report_work,
                checkpoint,
                routes or products.BY_DEFAULT,
            )
    except torch.OutOfMemoryError as error:
        raise UsageError(
            f"the GPU's memory is too small for {len(specs)} networks ({specs[0].model}, batch "
            f"{specs[0].batch}) and what else is there; what had finished is stored: free it of "
            "other programs, or use --device cpu."
        ) from error


@contextlib.contextmanager
def settled(device: str) -> Iterator[None]:
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
        _make_repeatable(files.deterministic())
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.cudnn.allow_tf32 = tf32
        _make_repeatable(repeatable)


def _make_repeatable(wanted: bool) -> None:
    """Allow torch no algorithm that varies, or any, unless that is so already.

    Setting it imports torch's compiler, which takes as long as all else that a process starts with.
    """
    import torch

    if torch.are_deterministic_algorithms_enabled() != wanted:
        torch.use_deterministic_algorithms(wanted)
