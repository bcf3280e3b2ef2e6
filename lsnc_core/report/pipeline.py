"""From a request to the report: plan, train, execute, build, sum up."""

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lsnc_core import files, papers, profiles, runs
from lsnc_core.errors import UsageError, needs_companion
from lsnc_core.report import build, catalog, pages, parameters, record, redraw, schedule
from lsnc_core.runs import shards

if TYPE_CHECKING:
    import pandas as pd

    from lsnc_core.runs.cluster import Cluster

# what the run, the notebooks and the report import of the extra `companion`
NEEDED = ("papermill", "nbconvert", "jinja2", "mathjax", "ipykernel", "ipywidgets", "pyarrow")
NEEDED += ("matplotlib", "seaborn", "sklearn", "mlxtend", "torchvision", "altair", "vl_convert")


@dataclass(frozen=True)
class Request:
    """What is to be done, checked and complete.

    Attributes:
        entries: the chosen notebooks, in reading order.
        profile, device: resolved.
        reason: why this profile.
        given: the parameters of the command line, as NAME=VALUE.
        settings: by notebook name, all its parameters with their values.
        force: run unchanged notebooks too.
        target: the folder of the recording to write, or None.
        scheduler: the address of a Dask scheduler whose workers train, or "".
        workers: how many processes to start that train by Dask, or None.
        worker_device: where they train, "auto", "cpu" or "cuda".
    """

    entries: Sequence[papers.Entry]
    profile: str
    device: str
    reason: str
    given: Sequence[str]
    settings: dict[str, parameters.Values]
    force: bool
    target: Path | None
    scheduler: str
    workers: int | None
    worker_device: str

    @property
    def folder(self) -> Path:
        """The profile's outputs."""
        return files.outputs_root() / self.profile


@dataclass(frozen=True)
class Networks:
    """The networks behind the notebooks.

    Attributes:
        planned: by notebook name, the specs it needs.
        stored: the specs that were in the store before.
        last: pandas.DataFrame of all of them at their last epoch; empty without networks.
    """

    planned: dict[str, list[runs.RunSpec]]
    stored: set[runs.RunSpec]
    last: "pd.DataFrame"

    def count(self, name: str) -> str:
        """How many networks a notebook needed, in words."""
        specs = self.planned[name]
        stored = sum(spec in self.stored for spec in specs)
        return f"{len(specs) - stored} trained, {stored} stored" if specs else "none"


def resolve(
    entries: Sequence[papers.Entry],
    profile: str,
    device: str,
    given: Sequence[str],
    force: bool,
    target: Path | None,
    scheduler: str = "",
    workers: int | None = None,
) -> Request:
    """Check a request and fill in what it leaves open.

    Args: as in `Request`; profile and device may be "auto".

    Raises:
        UsageError: if it cannot be carried out.
    """
    if not files.is_checkout():
        raise UsageError(
            "the notebooks do not come with an installed package: clone the project and start "
            "its ./run_all.sh, which installs the extra `companion` by itself."
        )
    needs_companion("the companion", *NEEDED)
    if target:
        record.check_name(target)
    _check_workers(scheduler, workers)
    chosen = runs.choose_device(device)
    profile, reason = profiles.resolve(profile, device)
    defaults = {entry.name: parameters.defaults(source_of(entry.name)) for entry in entries}
    settings = parameters.assign(given, defaults)
    for values in settings.values():
        for name, value in (("profile", profile), ("device", chosen)):
            if name in values:
                values[name] = value
    # the GPUs of a scheduler's workers need not be here
    worker_device = device if scheduler else chosen
    return Request(
        entries,
        profile,
        chosen,
        reason,
        given,
        settings,
        force,
        target,
        scheduler,
        workers,
        worker_device,
    )


def _check_workers(scheduler: str, workers: int | None) -> None:
    """Refuse workers that cannot be. Raises: UsageError."""
    if scheduler and workers is not None:
        raise UsageError("--workers starts processes here, so it does not go with --scheduler.")
    if workers is not None and workers < 1:
        raise UsageError(f"--workers must be at least 1, got {workers}.")
    if scheduler or workers:
        needs_companion("training on a cluster", "dask", "distributed", extra="cluster")


def source_of(name: str) -> Path:
    """The file of a notebook."""
    return files.PROJECT / "notebooks" / f"{name}.ipynb"


def carry_out(request: Request) -> tuple[Path, dict[str, schedule.Outcome]]:
    """Train what is missing, run the notebooks, build the report, and print what is done.

    Returns:
        The index page; by notebook name, how it ended.

    Raises:
        UsageError: if the request cannot be carried out.
    """
    planned = plan(request)
    with schedule.prepared(jobs_of(request, planned), request.folder, request.force, _say) as run:
        networks = train(request, planned)
        ended = {outcome.name: outcome for outcome in run()}
    outcomes = {entry.name: ended[entry.name] for entry in request.entries}
    failures = {
        name: outcome.sentence
        for name, outcome in outcomes.items()
        if outcome.status == schedule.FAILED
    }
    index = build.build(request.folder, request.profile, papers.entries(), failures, networks.last)
    if request.target and not failures:
        record.write(
            request.target,
            request.folder,
            request.profile,
            request.given,
            list(outcomes),
            networks.last,
        )
    print_summary(request, networks, outcomes)
    return index, outcomes


def plan(request: Request) -> dict[str, list[runs.RunSpec]]:
    """The networks that each notebook needs; print what is to be done, and check the folders.

    Raises: UsageError.
    """
    import torch

    print(f"Python {sys.version.split()[0]}, torch {torch.__version__}, device {request.device}")
    description = profiles.PROFILES[request.profile]
    print(f"profile {request.profile} ({request.reason}): {description}", flush=True)
    planned = {}
    for entry in request.entries:
        settings = {"profile": request.profile} | request.settings[entry.name]
        planned[entry.name] = catalog.wanted_runs(entry, settings)
    check_folders(request)
    return planned


def draw_figure(request: Request, name: str) -> list[Path]:
    """Train what is missing, and draw one figure of a request's only notebook.

    Returns:
        Its files, in `figures/` of the profile's outputs.

    Raises:
        UsageError: if the request cannot be carried out.
    """
    import torch

    train(request, plan(request))
    (entry,) = request.entries
    # as for the report, or sums would round otherwise
    torch.set_num_threads(schedule.threads())
    figure = redraw.draw(entry, source_of(entry.name), name, request.settings[entry.name])
    folder = request.folder / "figures"
    return [folder / f"{name}.{ending}" for ending in pages.write_figure(figure.carried(), folder)]


def check_folders(request: Request) -> None:
    """Refuse before training what could not be written or read after it. Raises: UsageError."""
    for folder in (files.outputs_root(), runs.Store().folder):
        _check_writable(folder, "--outputs")
    record.recordings()
    if request.target:
        _check_writable(request.target, "--record")


def _check_writable(folder: Path, option: str) -> None:
    """Write and delete a file; the error names the option that chose the folder."""
    probe = folder / ".writable"
    try:
        files.write_whole(probe, lambda path: path.touch())
    except UsageError as error:
        raise UsageError(str(error).replace("--outputs", option)) from error
    probe.unlink(missing_ok=True)


def union_of(planned: dict[str, list[runs.RunSpec]]) -> list[runs.RunSpec]:
    """All networks that notebooks need, each once."""
    union: dict[runs.RunSpec, None] = {}
    for specs in planned.values():
        union |= dict.fromkeys(specs)
    return list(union)


def train_shard(request: Request, shard: shards.Shard) -> None:
    """Train one part of the networks of a request, and say how to go on.

    Raises:
        UsageError: if the request cannot be carried out.
    """
    specs = union_of(plan(request))
    part = shards.deal(specs, request.device, shard.total)[shard.number - 1]
    print(f"{shard}: {len(part)} of {len(specs)} networks; no notebooks are run", flush=True)
    train(request, {str(shard): part})
    print(
        f"{shard} is done. When all are, `python -m lsnc_core.runs merge DIR ...` joins their "
        "outputs, unless they share one folder; then start again without --shard."
    )


def print_plan(request: Request) -> None:
    """Print what a request costs on machines like this one. Raises: UsageError."""
    from lsnc_core.runs import plan as costs

    specs = union_of(plan(request))
    if not specs:
        print("these notebooks need no trained networks")
        return
    print(costs.describe(costs.estimate(specs, request.device), request.device))


def train(request: Request, planned: dict[str, list[runs.RunSpec]]) -> Networks:
    """Train the union of all planned networks that the store lacks, once, over all workers."""
    start, store = time.perf_counter(), runs.Store()
    union = union_of(planned)
    stored = {spec for spec in union if store.path(spec).exists()}
    with _cluster(request, [spec for spec in union if spec not in stored], store) as cluster:
        device = cluster.device if cluster else request.device
        table = runs.results(union, device, store, cluster)
    if union:
        counts = f"{len(union) - len(stored)} trained, {len(stored)} from the store"
        print(f"networks: {counts}, {time.perf_counter() - start:.0f} s", flush=True)
    last = table[table.epoch == table.epochs] if len(table) else table
    return Networks(planned, stored, last)


@contextlib.contextmanager
def _cluster(
    request: Request, missing: list[runs.RunSpec], store: runs.Store
) -> Iterator["Cluster | None"]:
    """What trains the missing specs if it was asked for, else None. Raises: UsageError."""
    if not missing or not (request.scheduler or request.workers):
        yield None
        return
    from lsnc_core.runs import cluster

    with cluster.connect(
        request.scheduler, request.workers or 0, request.worker_device, missing, store
    ) as connected:
        yield connected


def jobs_of(request: Request, planned: dict[str, list[runs.RunSpec]]) -> list[schedule.Job]:
    """The notebooks to bring up to date, the longest first."""
    store, jobs = runs.Store(), []

    def expected(entry: papers.Entry) -> tuple[bool, float]:
        # a card's minutes count the training, which is over: those that train nothing take longest
        return bool(planned[entry.name]), -entry.page.minutes.get("quick", 0)

    for entry in sorted(request.entries, key=expected):
        names = tuple(store.path(spec).stem for spec in planned[entry.name])
        jobs.append(schedule.Job(source_of(entry.name), request.settings[entry.name], names))
    return jobs


def _say(line: str) -> None:
    """Print a line in one piece: several notebooks report at the same time."""
    print(f"{line}\n", end="", flush=True)


def print_summary(
    request: Request, networks: Networks, outcomes: dict[str, schedule.Outcome]
) -> None:
    """Print a table of the notebooks, what failed, and where the recording lies."""
    print(f"\n{'notebook':<30} {'status':<10} {'networks':<24} {'seconds':>7}")
    for name, outcome in outcomes.items():
        row = f"{name:<30} {outcome.status:<10} {networks.count(name):<24}"
        print(f"{row} {outcome.seconds:>7.0f}")
    failed = [outcome for outcome in outcomes.values() if outcome.status == schedule.FAILED]
    for outcome in failed:
        print(f"\n{outcome.name} failed: {outcome.sentence}")
    if request.target and failed:
        print(f"\nnothing recorded: {len(failed)} notebooks failed")
    elif request.target:
        print(f"\nrecorded in {request.target}")
