"""What a request costs on machines like this one, from one timed step per kind of network.

Nothing is trained: the steps are taken on random images.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lsnc_core import files
from lsnc_core.data_sources import source_of
from lsnc_core.runs import cost
from lsnc_core.runs.execute import block_size, blocks
from lsnc_core.runs.pool import keep_memory
from lsnc_core.runs.shards import spread
from lsnc_core.runs.spec import RunSpec
from lsnc_core.runs.task import settled

if TYPE_CHECKING:
    import pandas as pd

    from lsnc_core.images import ImageSet
    from lsnc_core.runs.products import Routes

WORKERS = (1, 8, 64)
# On a CPU the time of a step grows with its images, so a large network's step is timed on so many
# operations only, but on some images: updating the weights takes its time, too.
OPERATIONS, IMAGES = 4e10, 8
# of timing one kind of network, without the first steps
SECONDS = 0.3
# of a stored network's numbers and metadata, without its arrays
TABLE_BYTES = 25_000


class Plan(NamedTuple):
    """What a request costs.

    kinds: pandas.DataFrame, one row per image set, model and widths: networks; blocks; pflop, 1e15
    operations; gflops, 1e9 operations a second in a step; hours, of one worker; memory_gb, of one
    worker at most; disk_gb. workers: pandas.DataFrame, one row per number of workers: hours until
    the last has finished; largest, the hours of the largest block; busy, the share of the workers'
    time that is work.
    """

    kinds: "pd.DataFrame"
    workers: "pd.DataFrame"


def estimate(
    specs: Sequence[RunSpec],
    device: str,
    time_image: Callable[[Sequence[RunSpec], str], float] | None = None,
) -> Plan:
    """Estimate operations, memory, disk and hours of training all specs, stored or not.

    A worker is a CPU core or a GPU like this machine's. Left out are starting, reading images,
    and notebooks.

    Args:
        specs: duplicates count once.
        device: "cpu" or "cuda", of every worker.
        time_image: seconds per network and image in a step of a block; timed here by default.

    Raises:
        UsageError: for an unknown image set, or a file of your own that cannot be used.
    """
    import pandas as pd

    time_image = time_image or seconds_per_image
    cut = blocks(specs, lambda spec: block_size(spec, device))
    # the largest first: it is the one that a kind is timed by
    cut.sort(key=len, reverse=True)
    seconds_of: dict[RunSpec, float] = {}
    work, rows = [], []
    for block in cut:
        kind = cost.architecture(block[0])
        if kind not in seconds_of:
            seconds_of[kind] = time_image(block, device)
        forward, images = cost.forward_operations(kind), sum(map(cost.image_passes, block))
        work.append(seconds_of[kind] * images)
        rows.append(
            {
                "data": Path(kind.data).name,
                "model": kind.model,
                "widths": "-".join(map(str, kind.widths)),
                "networks": len(block),
                "blocks": 1,
                "pflop": 3 * forward * images / 1e15,
                "hours": work[-1] / 3600,
                "memory_gb": block_bytes(block) / 1e9,
                "disk_gb": sum(map(stored_bytes, block)) / 1e9,
            }
        )
    table = pd.DataFrame(rows)
    groups = table.groupby(["data", "model", "widths"], sort=False)
    kinds = groups.sum(numeric_only=True).assign(memory_gb=groups.memory_gb.max()).reset_index()
    kinds["gflops"] = kinds.pflop * 1e6 / (kinds.hours * 3600)
    return Plan(kinds.sort_values("hours", ascending=False, ignore_index=True), _spread(work))


def _spread(work: Sequence[float]) -> "pd.DataFrame":
    """`Plan.workers` for the seconds of each block."""
    import pandas as pd

    rows = []
    for count in WORKERS:
        loads = [sum(map(work.__getitem__, places)) for places in spread(work, count)]
        longest = max(loads)
        rows.append(
            {
                "workers": count,
                "hours": longest / 3600,
                "largest": max(work) / 3600,
                "busy": sum(work) / (count * longest),
            }
        )
    return pd.DataFrame(rows)


def seconds_per_image(block: Sequence[RunSpec], device: str) -> float:
    """Seconds of a training step on random images, per network and image.

    On a CPU it is processor time, of the fastest of several steps: it does not count what else
    runs, which yet slows each step, by the memory and the caches that it takes.
    """
    import torch

    from lsnc_core.runs import graphs, products
    from lsnc_core.runs.fleet import Fleet
    from lsnc_core.runs.stacked_step import StackedStep

    specs = _timed(block, device)
    routes: Routes = products.BY_DEFAULT
    if device == "cpu":
        routes = products.of_this_machine(files.outputs_root())

    def clock() -> float:
        if device == "cpu":
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    if device == "cpu":
        keep_memory()  # as a training process does
    with settled(device):
        fleet = Fleet(specs, _random_images(specs[0]), torch.device(device), routes)
        step = StackedStep(fleet, routes) if StackedStep.fits(fleet) else fleet.step
        take_step = graphs.recorded(step, fleet.device)
        first = 1 if device == "cpu" else graphs.WARM_UP + 2
        seconds: list[float] = []
        while sum(seconds[first:]) < SECONDS:
            start = clock()
            fleet.train_epoch(take_step)
            seconds.append(clock() - start)
        return min(seconds) / (len(specs) * specs[0].batch)


def _timed(block: Sequence[RunSpec], device: str) -> list[RunSpec]:
    """The specs of a block with a single step as their whole training."""
    kind = cost.architecture(block[0])
    images = kind.batch
    if device == "cpu":
        least = OPERATIONS / (3 * cost.forward_operations(kind) * len(block))
        images = min(kind.batch, max(IMAGES, int(least)))
    kind = dataclasses.replace(kind, batch=images, train_size=images)
    return [
        dataclasses.replace(kind, seed=spec.seed, loss=spec.loss, lambda_H=spec.lambda_H)
        for spec in block
    ]


def _random_images(spec: RunSpec) -> "ImageSet":
    """As many images as a spec asks for, of its set's shape, with random pixels and labels."""
    import torch

    from lsnc_core.images import ImageSet

    source, draws = source_of(spec.data), torch.Generator().manual_seed(0)
    parts = {}
    for part, size in (("train", spec.train_size), ("test", spec.test_size)):
        pixels = torch.randint(256, (size, *source.shape), generator=draws, dtype=torch.uint8)
        parts[f"{part}_images"] = pixels
        parts[f"{part}_labels"] = torch.arange(size) % source.num_classes
    classes = tuple(map(str, range(source.num_classes)))
    order = torch.arange(spec.train_size)
    return ImageSet(
        spec.data, source.title, classes=classes, checksum="", train_order=order, **parts
    )


def stored_bytes(spec: RunSpec) -> int:
    """Bytes that the store keeps of a network, before compression.

    Raises: UsageError, for an unknown image set.
    """
    _, width, classes, _ = cost.sizes(spec)
    sizes = {"train": spec.train_size, "test": spec.test_size}
    if spec.validation_size:
        sizes["validation"] = spec.validation_size
    # float32 classifier; class means, their spread and counts, and the scatter in their span
    classifier = 4 * classes * (width + 1)
    statistics = classes * (4 * width + 4 + 8 + 8 * classes)
    total = len(spec.evaluate_at) * (classifier + len(sizes) * statistics)
    total += 4 * classes * sum(sizes.values())  # the last logits
    for epoch in spec.keep_at:
        total += 4 * width * spec.test_size
        if epoch != spec.epochs:
            total += 4 * classes * (spec.test_size + spec.validation_size)
    return total + TABLE_BYTES


def block_bytes(block: Sequence[RunSpec]) -> int:
    """Bytes of memory that training a block takes at most, Python and torch left out.

    These are images and targets, weights with velocities and gradients, what the backward pass
    needs, and what was measured so far.
    """
    spec, replicas = block[0], len(block)
    parameters, _, classes, pixels = cost.sizes(spec)
    images = spec.train_size + spec.test_size + spec.validation_size
    labels = spec.train_size * (4 * classes + 8)
    networks = 12 * parameters + cost.kept_bytes(spec) + labels
    return 4 * pixels * images + replicas * networks + sum(map(stored_bytes, block))


def describe(plan: Plan, device: str) -> str:
    """The plan as two tables of text."""
    worker = "one CPU core" if device == "cpu" else "one GPU"
    kinds, whole = plan.kinds, plan.kinds.sum(numeric_only=True)
    lines = [f"a worker is {worker}; hours are those of one worker"]
    heads = ("networks", "blocks", "PFLOP", "GFLOP/s", "hours", "GB memory", "GB disk")
    lines.append(f"{'images':<15}{'network':<17}" + "".join(f"{head:>11}" for head in heads))
    for row in kinds.itertuples():
        numbers = row.networks, row.blocks, row.pflop, row.gflops, row.hours, row.memory_gb
        lines.append(
            f"{row.data:<15}{row.model + ' ' + row.widths:<17}" + _cells(*numbers, row.disk_gb)
        )
    speed = whole.pflop * 1e6 / (whole.hours * 3600)
    totals = whole.networks, whole.blocks, whole.pflop, speed, whole.hours, kinds.memory_gb.max()
    lines += [f"{'together':<32}" + _cells(*totals, whole.disk_gb), ""]
    lines.append(f"{'workers':<15}{'hours':>17}{'largest block':>15}{'busy':>7}")
    for row in plan.workers.itertuples():
        hours = f"{_short(row.hours):>17}{_short(row.largest):>15}"
        lines.append(f"{row.workers:<15}{hours}{row.busy:>7.0%}")
    return "\n".join(lines)


def _cells(*numbers: float) -> str:
    return "".join(f"{_short(number):>11}" for number in numbers)


def _short(number: float) -> str:
    """A number with three digits, or whole.

    >>> _short(770912.4), _short(85.49), _short(16), _short(0.0123)
    ('770,912', '85.5', '16', '0.0123')
    """
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
