"""Training throughput: the fleet against what a user would write, in one run, as ratios.

    .venv/bin/python benchmarks/fleet.py [--device cpu|cuda] [--seconds S] [--only CASE ...]
    [--output FILE] [--autotune] .venv/bin/python benchmarks/fleet.py --grid [--device cpu|cuda] |
    --grid-memory | --accuracy

Rows of a case, all on the same images, network and batch size:

    loader     a DataLoader, one network at a time, eager, torch's default threads: what a user
               would write
    default    on a GPU in float32: the same with torch's default settings, by which cuDNN may round
               to TF32
    memory     as loader with the images in memory as tensors
    vmap R     torch.func.stack_module_state and vmap over R networks, images in memory: 8, and as
               many as the fleet has
    fleet R    `runs.fleet` as the companion runs it: on a CPU one single-threaded process per core
               with R networks in each,
               on a GPU one process with R networks; "as used" is the R that the companion takes,
               `execute.block_size`
    threads R  on a CPU: `runs.fleet` with R networks in one process with all threads
    listed R   on a CPU, as fleet R, for networks that can be stacked: side by side instead
    others R   on a GPU, as fleet R: the ways of `candidates` to hold and update networks, see
               `KINDS`

The unit is replica-images per second: images times networks that they train; with the arithmetic of
one image it gives the share of the peak, that of a large matrix product in the case's precision on
the whole device. Ratios are to the loader row, and to the default row where there is one, each the
mean of its rates before and after all others. Evaluation and start-up are left out: each row is
timed between two epochs, after a first one, on a GPU after the steps are recorded. In bfloat16 the
plain loops have autocast and channels_last too; float32 means float32 in all rows but "default" (no
TF32).

Memory is a peak in MiB: on a CPU of all the fleet's processes together from their start, see
`memory`; on a GPU what torch reserved there in the row, the pools of recorded steps included. For
the ResNet cases in bfloat16 the hours are told that the paper's CIFAR-10 grid (10 x 10 networks,
all epochs, measuring left out) would take at the row's rate; on a GPU their row as used is timed
for two minutes at least.

A row that fails is written with its error; on a GPU an error other than want of memory ends its
case, for the process cannot be trusted after it, and each case has a process of its own. The table
is written after every case. `--autotune` lets cuDNN time its algorithms first, for all rows but
"default". `--grid` trains the paper's MNIST grid (10 x 10 networks, 100 epochs) as the companion
does and tells its time and the training error at a = .5, p = 1. `--grid-memory` trains 100 networks
for one epoch of full MNIST on the CPU, evaluation included, and tells the largest memory of all
processes together; `--accuracy` trains the network of "cnn 28x28" on clean full MNIST for eight
epochs and tells its test accuracy.
"""

import argparse
import functools
import gc
import multiprocessing
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import grids
import torch
from cases import ALONGSIDE, CANDIDATES, CASES, DEFAULT_SIZES, GPU_CASES, LONG, MOST, SIZES
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from ways import by_default, cudnn, finish, in_fleet, in_processes, plain, prepared, vmapped

from lsnc_core import files
from lsnc_core.errors import UsageError
from lsnc_core.runs import RunSpec, execute

SIDES = {"cpu": 2048, "cuda": 8192}  # of the product that tells the arithmetic peak


def arithmetic(spec: RunSpec) -> float:
    """Floating-point operations of one training step per image: products and convolutions, forward
    and backward.
    """
    images, targets, network = (found.to("meta") for found in prepared(spec))
    with FlopCounterMode(display=False) as counter:
        nn.functional.cross_entropy(network(images[: spec.batch]), targets[: spec.batch]).backward()
    return counter.get_total_flops() / spec.batch


def peak(device: torch.device, precision: str) -> float:
    """Operations per second of a large matrix product in "float32" or "bfloat16" on the whole
    device, the best of ten.
    """
    side = SIDES[device.type]
    left, right = torch.randn(2, side, side, device=device, dtype=getattr(torch, precision))
    rates = []
    for _ in range(10):
        start = time.perf_counter()
        left @ right
        finish(device)
        rates.append(2 * side**3 / (time.perf_counter() - start))
    return max(rates)


def rows_of(
    case: str, seconds: float, device: torch.device
) -> dict[str, Callable[[], float | tuple[float, float] | None]]:
    """The rows of a case by name: functions that measure a rate, or a rate and a memory."""
    spec, gpu = CASES[case], device.type == "cuda"
    used = execute.block_size(spec, device.type)
    sizes = sorted({*SIZES[device.type].get(case, DEFAULT_SIZES[device.type]), used})
    rows = {"loader": functools.partial(plain, spec, seconds, True, device)}
    if gpu and spec.precision == "float32":
        rows["default"] = functools.partial(by_default, spec, seconds, device)
    rows["memory"] = functools.partial(plain, spec, seconds, False, device)
    for size in sorted(
        {ALONGSIDE} if spec.model.startswith("resnet") else {ALONGSIDE, used}
    ):  # torch.func refuses ResNets anyway
        rows[f"vmap {size}"] = functools.partial(vmapped, spec, size, seconds, device)
    for size in sizes:
        long = max(seconds, LONG) if gpu and case in GPU_CASES and size == used else seconds
        rows[f"fleet {size}"] = functools.partial(in_fleet, spec, size, long, device)
    if not gpu:
        rows[f"threads {ALONGSIDE}"] = functools.partial(
            in_processes, spec, ALONGSIDE, seconds, processes=1
        )
    others = [("listed", ALONGSIDE)] if spec.model in ("cnn", "mlp") else []
    if gpu:
        others = [
            (kind, size)
            for kind in CANDIDATES.get(spec.model, ())
            for size in sizes
            if size <= MOST
        ]
    return rows | {
        f"{kind} {size}": functools.partial(in_fleet, spec, size, seconds, device, kind)
        for kind, size in others
    }


def one_line(error: BaseException) -> str:
    """The kind of an error and the beginning of what it says."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def chain(error: BaseException | None) -> list[BaseException]:
    """An error and those in whose handling it came up, the last first."""
    found = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def told(error: Exception) -> tuple[str, bool]:
    """What an error says, the want of memory that it followed from if there is one; and whether it
    is want of memory alone.
    """
    wants = [each for each in chain(error) if isinstance(each, torch.OutOfMemoryError)]
    return one_line(wants[0] if wants else error), wants == chain(error)


def attempt(row: Callable, device: torch.device) -> tuple[dict, bool]:
    """What a row measures, or why it could not; and whether the process is good for another row.

    After an error that is not want of memory alone a GPU's process may be in the midst of a
    recording, or every later call fail.
    """
    gpu, good = device.type == "cuda", True
    gc.collect()
    if gpu:  # nothing of the row before
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    answer = {"rate": None, "memory_mib": None}
    try:
        found = row()
        answer["rate"], answer["memory_mib"] = found if isinstance(found, tuple) else (found, None)
        if gpu:  # reserved, not allocated: that leaves out what recorded steps hold
            answer["memory_mib"] = torch.cuda.max_memory_reserved() / 2**20
    except Exception as error:
        answer["error"], memory_alone = told(error)
        good = memory_alone or not gpu
    return answer, good


def measure_case(
    case: str, seconds: float, device: torch.device, autotune: bool = False
) -> list[dict]:
    """All rows of one case, the plain loops before and after them."""
    spec, rows, measured, stopped = CASES[case], rows_of(case, seconds, device), {}, ""
    loops = [name for name in ("loader", "default") if name in rows]
    with cudnn(False, autotune):
        most = peak(device, spec.precision)
        print(f"\n{case}, batch {spec.batch}", flush=True)
        for name, row in (
            rows | {f"{name} again": rows[name] for name in loops}
        ).items():  # the machine's drift over the case
            if stopped:
                measured[name] = {
                    "rate": None,
                    "memory_mib": None,
                    "error": f"not measured: {stopped!r} failed, see there",
                }
                continue
            measured[name], good = attempt(row, device)
            stopped = "" if good else name
    bases = {}
    for name in loops:
        rates = [rate for key in (name, f"{name} again") if (rate := measured[key]["rate"])]
        bases[name] = sum(rates) / len(rates) if rates else None
        print(
            f"  {name} before and after: {' and '.join(f'{rate:,.0f}' for rate in rates)} images/s"
        )
    work, used = arithmetic(spec), execute.block_size(spec, device.type)
    table = []
    for name in rows:
        found, rate = measured[name], measured[name]["rate"]
        row = {"case": case, "row": name, "as_used": name == f"fleet {used}", "rate": rate}
        row |= {
            key: rate / base if rate and base else None
            for key, base in zip(("ratio", "ratio_default"), bases.values(), strict=False)
        }
        row |= {"peak_share": rate * work / most if rate else None}
        row |= (
            {"cifar_grid_hours": grids.cifar_grid_hours(rate) if rate else None}
            if case in GPU_CASES
            else {}
        )
        table.append(row | found)
        print(f"  {'>' if row['as_used'] else ' '} {name:<20} {said(table[-1])}", flush=True)
    return table


def said(row: dict) -> str:
    """A row of the table in words."""
    if not row["rate"]:
        return row.get("error", "refused by torch.func")
    words = [f"{row['rate']:>12,.0f} replica-images/s"]
    words += [
        f"{row[key]:>6.2f} x{of}"
        for key, of in (("ratio", ""), ("ratio_default", " the default loop"))
        if row.get(key)
    ]
    words += [f"{row['peak_share']:>4.0%} of peak"]
    words += [f"{row['memory_mib']:>7,.0f} MiB"] if row["memory_mib"] else []
    words += (
        [f"{row['cifar_grid_hours']:,.1f} h the CIFAR-10 grid"] if "cifar_grid_hours" in row else []
    )
    return "  ".join(words + ["as used"] * row["as_used"])


def measure_apart(case: str, seconds: float, device: torch.device, autotune: bool) -> list[dict]:
    """As `measure_case`, on a GPU in a process of its own, whose end ends its case alone."""
    if device.type == "cpu":
        return measure_case(case, seconds, device, autotune)
    try:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            return pool.submit(measure_case, case, seconds, device, autotune).result()
    except Exception as error:
        print(f"  {case}: {one_line(error)}", flush=True)
        return [
            {"case": case, "row": "all", "as_used": False, "rate": None, "error": one_line(error)}
        ]


def main() -> None:
    """Measure the chosen cases, print a table, write it with the hardware and versions to a file;
    or train one of the `grids`.
    """
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="where to train (default cpu)"
    )
    command.add_argument(
        "--seconds", type=float, default=3, help="time of each measurement (default 3)"
    )
    command.add_argument(
        "--only",
        nargs="+",
        choices=CASES,
        help="cases to measure (default: all; on a CPU those that are not for a GPU)",
    )
    command.add_argument(
        "--autotune", action="store_true", help="let cuDNN time its algorithms and take the fastest"
    )
    instead = command.add_mutually_exclusive_group()
    instead.add_argument(
        "--grid",
        action="store_true",
        help="train the paper's MNIST grid instead (on a GPU minutes, on a CPU hours)",
    )
    instead.add_argument(
        "--grid-memory",
        action="store_true",
        help="measure the memory of a grid of 100 networks instead",
    )
    instead.add_argument(
        "--accuracy",
        action="store_true",
        help="measure what the patch-wise CNN reaches on full MNIST instead",
    )
    command.add_argument(
        "--output",
        type=Path,
        help="where the table goes (default: benchmarks/ of the outputs folder)",
    )
    given = command.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        command.error("torch finds no CUDA device here")
    folder = files.outputs_root() / "benchmarks"
    try:
        if given.grid:
            grids.paper_grid(given.device, given.output or folder / f"grid-{given.device}.json")
        elif given.grid_memory:
            grids.grid_memory(given.output or folder / "grid-memory.json")
        elif given.accuracy:
            grids.accuracy()
        else:
            measure(given, given.output or folder / f"fleet-{given.device}.json")
    except UsageError as error:
        sys.exit(str(error))


def measure(given: argparse.Namespace, output: Path) -> None:
    """Measure the chosen cases and write the table after each."""
    rows, done, device = [], [], torch.device(given.device)
    for case in given.only or [
        case for case in CASES if given.device == "cuda" or case not in GPU_CASES
    ]:
        rows, done = (
            rows + measure_apart(case, given.seconds, device, given.autotune),
            [*done, case],
        )
        report = {
            "rows": rows,
            "unit": "replica-images per second",
            "seconds": given.seconds,
            "device": given.device,
        }
        report |= {"autotune": True} if given.autotune else {}
        grids.write(output, report | {"specs": {case: CASES[case].to_dict() for case in done}})
    print(f"\nwritten to {output}")


if __name__ == "__main__":
    main()
