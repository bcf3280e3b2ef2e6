"""Training throughput: the fleet against what a user would write, in one run, as ratios.

    .venv/bin/python benchmarks/fleet.py [--device cpu|cuda] [--seconds S] [--only CASE ...]
                                         [--output FILE] [--autotune]
    .venv/bin/python benchmarks/fleet.py --grid [--device cpu|cuda] | --grid-memory | --accuracy

Rows of a case, all on the same images, network and batch size:

    loader     what a user would write: a DataLoader, one network at a time, eager, torch's default
               threads
    default    on a GPU in float32: the same with torch's default settings, under which cuDNN may
               round to TF32
    memory     as loader, with the images in memory as tensors
    vmap R     torch.func.stack_module_state and vmap over R networks, images in memory: 8, and as
               many as the fleet has
    fleet R    `runs.fleet` as the companion runs it: on a CPU one single-threaded process per core
               with R networks in each, on a GPU one process with R networks; "as used" is the R
               that the companion takes, `execute.block_size`
    threads R  on a CPU: `runs.fleet` with R networks in one process with all threads
    listed R   as fleet R, for networks that can be stacked: side by side instead
    autograd R on a CPU, as fleet R, for networks that can be stacked: with autograd through all
               layers instead of the step that is written out (`runs.stacked_step`)
    jax R      on a CPU, where JAX is installed: R networks as an expert would write them, see
               `jax_peer`

The unit is replica-images per second: images times the networks that they train. Together with the
arithmetic of one image it gives the share of the peak, which is the speed of a large matrix product
in the case's precision on the whole device, on a CPU by the faster of two libraries. Ratios are to
the loader row, and to the default row where there is one. These rows, the fleet as used and its
peers of the same R are measured before and after all others, and count with the mean. Evaluation
and start-up do not count: each row is timed between two epochs, after a first one, on a GPU after
the steps are recorded. In bfloat16 the plain loops have autocast and channels_last too; float32
means float32 in all rows but "default" (no TF32).

Memory is a peak in MiB: on a CPU of all the fleet's processes together from their start, see
`memory`; on a GPU what torch reserved there in the row, the pools of recorded steps included. The
ResNet cases in bfloat16 also have hours: what the paper's CIFAR-10 grid (10 x 10 networks, all
epochs, measuring left out) would take at the row's speed; on a GPU their row as used is timed for
at least ten seconds.

A row that fails is written with its error. On a GPU any error but lack of memory ends its case,
because the process cannot be trusted after it, and each case has a process of its own. The table is
written after every case. `--autotune` lets cuDNN time its algorithms first, for all rows but
"default". `--grid` trains the paper's MNIST grid (10 x 10 networks, 100 epochs) as the companion
does, and prints its time and the training error at a = .5, p = 1. `--grid-memory` trains 100
networks for one epoch of full MNIST on the CPU, evaluation included, and prints the largest memory
of all processes together; `--accuracy` trains the network of "cnn 28x28" on clean full MNIST for
eight epochs and prints its test accuracy.
"""

import argparse
import functools
import gc
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import grids
import jax_peer
import torch
from cases import ALONGSIDE, CASES, DEFAULT_SIZES, GPU_CASES, LONG, SIZES
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from ways import (
    by_default,
    cudnn,
    finish,
    in_fleet,
    in_jax,
    in_processes,
    plain,
    prepared,
    vmapped,
)

from lsnc_core import files
from lsnc_core.errors import UsageError
from lsnc_core.runs import RunSpec, execute, products

SIDES = {"cpu": 2048, "cuda": 8192}  # of the product that measures the arithmetic peak


def arithmetic(spec: RunSpec) -> float:
    """Floating-point operations of one training step per image.

    Products and convolutions count, forward and backward.
    """
    images, targets, network = (part.to("meta") for part in prepared(spec))
    with FlopCounterMode(display=False) as counter:
        nn.functional.cross_entropy(network(images[: spec.batch]), targets[: spec.batch]).backward()
    return counter.get_total_flops() / spec.batch


def peak(device: torch.device, precision: str) -> float:
    """Operations per second of a large matrix product on the whole device, the best of ten.

    On a CPU it is that of the faster library that is exact, see `runs.products`. The precision is
    "float32" or "bfloat16".
    """
    side = SIDES[device.type]
    left, right = torch.randn(2, side, side, device=device, dtype=getattr(torch, precision))
    libraries = [products.DEFAULT]
    if device.type == "cpu" and precision == "float32":
        small = left[None, :256, :256], right[None, :256, :256]
        libraries += [products.ONEDNN] * products.exact(*small)
    rates = []
    for library in libraries * 10:
        with products.library(library):
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
    # torch.func refuses ResNets anyway
    for size in sorted({ALONGSIDE} if spec.model.startswith("resnet") else {ALONGSIDE, used}):
        rows[f"vmap {size}"] = functools.partial(vmapped, spec, size, seconds, device)
    for size in sizes:
        long = max(seconds, LONG) if gpu and case in GPU_CASES and size == used else seconds
        rows[f"fleet {size}"] = functools.partial(in_fleet, spec, size, long, device)
    if not gpu:
        rows[f"threads {ALONGSIDE}"] = functools.partial(
            in_processes, spec, ALONGSIDE, seconds, processes=1
        )
    if spec.model in ("cnn", "mlp"):
        others = [("listed", ALONGSIDE)] + [("autograd", used)] * (not gpu)
        for kind, size in others:
            rows[f"{kind} {size}"] = functools.partial(in_fleet, spec, size, seconds, device, kind)
        for size in (used, 2 * used) if jax_peer.installed() and not gpu else ():
            rows[f"jax {size}"] = functools.partial(in_jax, spec, size, seconds)
    return rows


def measured_twice(rows: Iterable[str], used: int) -> list[str]:
    """Of the rows those that count with two measurements: the loops and what trains `used`."""
    twice = ["loader", "default", *(f"{kind} {used}" for kind in ("fleet", "autograd", "jax"))]
    return [name for name in rows if name in twice]


def one_line(error: BaseException) -> str:
    """The kind of an error and the beginning of its message."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def chain(error: BaseException | None) -> list[BaseException]:
    """An error and those during whose handling it arose, the last first."""
    errors: list[BaseException] = []
    while error is not None and error not in errors:
        errors.append(error)
        error = error.__cause__ or error.__context__
    return errors


def describe_error(error: Exception) -> tuple[str, bool]:
    """An error's message, and whether it is lack of memory alone.

    Where an error followed from lack of memory, the message is of that.
    """
    lacks = [each for each in chain(error) if isinstance(each, torch.OutOfMemoryError)]
    return one_line(lacks[0] if lacks else error), lacks == chain(error)


def attempt(row: Callable, device: torch.device) -> tuple[dict, bool]:
    """What a row measures, or why it failed; and whether the process is good for another row.

    After an error that is not lack of memory alone, a GPU's process may be amid a recording, or
    every later call may fail.
    """
    gpu, good = device.type == "cuda", True
    gc.collect()
    if gpu:  # nothing of the row before
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    answer = {"rate": None, "memory_mib": None}
    try:
        measured = row()
        if not isinstance(measured, tuple):
            measured = measured, None
        answer["rate"], answer["memory_mib"] = measured
        if gpu:  # reserved, not allocated: that leaves out what recorded steps hold
            answer["memory_mib"] = torch.cuda.max_memory_reserved() / 2**20
    except Exception as error:
        answer["error"], memory_alone = describe_error(error)
        good = memory_alone or not gpu
    return answer, good


def measure_case(
    case: str, seconds: float, device: torch.device, autotune: bool = False
) -> list[dict]:
    """All rows of one case, some of them before and after the others."""
    spec, rows = CASES[case], rows_of(case, seconds, device)
    used = execute.block_size(spec, device.type)
    twice = measured_twice(rows, used)
    again = {f"{name} again": rows[name] for name in twice}  # shows the machine's drift
    with cudnn(False, autotune):
        most = peak(device, spec.precision)
        print(f"\n{case}, batch {spec.batch}", flush=True)
        measured = measure_rows(rows | again, device)
    for name in twice:
        rates = [rate for key in (name, f"{name} again") if (rate := measured[key]["rate"])]
        measured[name]["rate"] = sum(rates) / len(rates) if rates else None
        speeds = " and ".join(f"{rate:,.0f}" for rate in rates)
        print(f"  {name} before and after: {speeds} images/s")
    bases = {name: measured[name]["rate"] for name in ("loader", "default") if name in rows}
    work = arithmetic(spec)
    table = []
    for name in rows:
        rate = measured[name]["rate"]
        row = {"case": case, "row": name, "as_used": name == f"fleet {used}", "rate": rate}
        for ratio, base in zip(("ratio", "ratio_default"), bases.values(), strict=False):
            row[ratio] = rate / base if rate and base else None
        row["peak_share"] = rate * work / most if rate else None
        if case in GPU_CASES:
            row["cifar_grid_hours"] = grids.cifar_grid_hours(rate) if rate else None
        table.append(row | measured[name])
        print(f"  {'>' if row['as_used'] else ' '} {name:<20} {describe(table[-1])}", flush=True)
    return table


def measure_rows(rows: dict[str, Callable], device: torch.device) -> dict[str, dict]:
    """What each row measures; after an error that leaves the process in doubt, none of the rest."""
    measured, stopped = {}, ""
    for name, row in rows.items():
        if stopped:
            error = f"not measured: {stopped!r} failed, see there"
            measured[name] = {"rate": None, "memory_mib": None, "error": error}
            continue
        measured[name], good = attempt(row, device)
        stopped = "" if good else name
    return measured


def describe(row: dict) -> str:
    """A row of the table in words."""
    if not row["rate"]:
        return row.get("error", "refused by torch.func")
    words = [f"{row['rate']:>12,.0f} replica-images/s"]
    for key, of in (("ratio", ""), ("ratio_default", " the default loop")):
        if row.get(key):
            words.append(f"{row[key]:>6.2f} x{of}")
    words.append(f"{row['peak_share']:>4.0%} of peak")
    if row["memory_mib"]:
        words.append(f"{row['memory_mib']:>7,.0f} MiB")
    if "cifar_grid_hours" in row:
        words.append(f"{row['cifar_grid_hours']:,.1f} h the CIFAR-10 grid")
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


def command_line() -> argparse.ArgumentParser:
    """The options of this program."""
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
    return command


def main() -> None:
    """Measure the chosen cases, or train one of the `grids`; print and write what was measured."""
    command = command_line()
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
    rows, specs, device = [], {}, torch.device(given.device)
    here = [case for case in CASES if given.device == "cuda" or case not in GPU_CASES]
    for case in given.only or here:
        rows += measure_apart(case, given.seconds, device, given.autotune)
        specs[case] = CASES[case].to_dict()
        report = {
            "rows": rows,
            "unit": "replica-images per second",
            "seconds": given.seconds,
            "device": given.device,
        }
        if given.autotune:
            report["autotune"] = True
        grids.write(output, report | {"specs": specs})
    print(f"\nwritten to {output}")


if __name__ == "__main__":
    main()
