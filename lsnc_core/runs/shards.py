"""Dealing the networks of a request out to machines that share nothing while they train.

A shard trains whole blocks, those that one machine would train, so it gives the same bits.
"""

import heapq
import itertools
import os
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lsnc_core.errors import UsageError
from lsnc_core.runs import cost
from lsnc_core.runs.execute import block_size, blocks
from lsnc_core.runs.spec import RunSpec

_SLURM = "SLURM_ARRAY_TASK_"


class Shard(NamedTuple):
    """One of `total` parts of a request; `number` counts from 1."""

    number: int
    total: int

    def __str__(self) -> str:
        return f"shard {self.number}/{self.total}"


def shard_of(given: str, environment: Mapping[str, str] = os.environ) -> Shard:
    """The shard that `--shard` names.

    Args:
        given: "i/n", with i from 1 to n; or "", for the task of a Slurm array that this is.
        environment: where Slurm says which.

    Raises:
        UsageError: for anything else, and for a Slurm array whose numbers leave gaps.

    >>> shard_of("3/16")
    Shard(number=3, total=16)
    """
    if not given:
        return _of_slurm(environment)
    match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", given)  # a list is made for each part
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(f"--shard takes I/N, with I from 1 to N, such as 3/16, got {given!r}.")
    return Shard(int(match[1]), int(match[2]))


def _of_slurm(environment: Mapping[str, str]) -> Shard:
    """The shard of a Slurm array's task, in `--array=0-15`, `1-16` or any evenly spaced range."""
    if f"{_SLURM}ID" not in environment:
        raise UsageError(
            "--shard without a value belongs in a Slurm array, but SLURM_ARRAY_TASK_ID is not "
            "set: say which part this is, such as --shard 3/16."
        )
    try:
        task, count = (int(environment[f"{_SLURM}{name}"]) for name in ("ID", "COUNT"))
        first = int(environment.get(f"{_SLURM}MIN", 0))
        step = int(environment.get(f"{_SLURM}STEP") or 1)
        last = int(environment.get(f"{_SLURM}MAX", first + step * (count - 1)))
    except (KeyError, ValueError) as error:
        raise UsageError(
            "Slurm's variables SLURM_ARRAY_TASK_... are not whole numbers or incomplete: "
            "say which part this is, such as --shard 3/16."
        ) from error
    number, rest = divmod(task - first, step) if step > 0 else (-1, 0)
    if rest or not 0 <= number < count or last != first + step * (count - 1):
        raise UsageError(
            f"task {task} of a Slurm array with gaps has no place among {count} parts: use "
            "--array=1-N, or say which part this is, such as --shard 3/16."
        )
    return Shard(number + 1, count)


def deal(specs: Sequence[RunSpec], device: str, count: int) -> list[list[RunSpec]]:
    """The networks of each of `count` shards, in the order of the request.

    Blocks go out by cost, the largest first, each to the shard that has least so far: no shard has
    more than 4/3 of the best possible (Graham 1969, "Bounds on multiprocessing timing anomalies",
    Theorem 2). Every machine that is asked deals in the same way.

    Args:
        specs: of the whole request; duplicates count once.
        device: "cpu" or "cuda", of all shards.
        count: at least 1.

    Returns:
        `count` lists that have every spec once; some are empty where there are fewer blocks.
    """
    cut = blocks(specs, lambda spec: block_size(spec, device))
    shards = []
    for places in spread([block_operations(block) for block in cut], count):
        # in the order of the request, from which the same blocks are cut again
        shards.append(list(itertools.chain.from_iterable(cut[place] for place in sorted(places))))
    return shards


def spread(work: Sequence[float], count: int) -> list[list[int]]:
    """Give out pieces of work, the largest first, each to whoever of `count` has least so far.

    Returns: the places in `work` of each one's pieces.

    >>> spread([3, 1, 1, 2], 2)
    [[0, 2], [3, 1]]
    """
    given: list[list[int]] = [[] for _ in range(count)]
    load = [(0.0, number) for number in range(count)]  # a heap: whoever has least is its first
    for place in sorted(range(len(work)), key=lambda place: -work[place]):
        least, number = load[0]
        given[number].append(place)
        heapq.heapreplace(load, (least + work[place], number))
    return given


def block_operations(block: Sequence[RunSpec]) -> int:
    """Operations of training networks that train together, measuring left out."""
    return len(block) * block[0].epochs * cost.epoch_operations(block[0])
