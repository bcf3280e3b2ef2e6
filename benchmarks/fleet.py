"""Training throughput: the fleet against what a user would write, in one run, as ratios.

    .venv/bin/python benchmarks/fleet.py [--device cpu|cuda] [--seconds S] [--only CASE ...] [--output FILE] [--autotune]
    .venv/bin/python benchmarks/fleet.py --grid-memory | --accuracy

Rows of a case, all on the same images, network and batch size:

    loader     a DataLoader, one network at a time, eager, torch's default threads: what a user would write
    memory     the same with the images in memory as tensors
    vmap       torch.func.stack_module_state and vmap over 8 networks, images in memory
    fleet R    `runs.fleet` as the companion runs it: on a CPU one single-threaded process per core with R networks in each,
               on a GPU one process with R networks
    threads R  on a CPU: `runs.fleet` with R networks in one process with all threads
    listed R   on a CPU, as fleet R, for networks that can be stacked: side by side instead
    others R   on a GPU, as fleet R: the ways of `candidates` to hold and update networks, see `KINDS`

The unit is replica-images per second: images times networks that they train; with the arithmetic of one image it gives the share
of the peak, that of a large matrix product in the case's precision on the whole device. Evaluation and start-up are left out: each
row is timed between two epochs, after a first one, on a GPU after the steps are recorded. In bfloat16 the plain loops have autocast
and channels_last too; float32 means float32 in all rows (no TF32). A row that fails is written with its error; the table is written
after every case. `--autotune` lets cuDNN time its algorithms first, for all rows. `--grid-memory` trains 100 networks for one epoch
of full MNIST on the CPU, evaluation included, and tells the largest memory of all processes together; `--accuracy` trains the network
of "cnn 28x28" on clean full MNIST for eight epochs and tells its test accuracy.
"""

import argparse
import contextlib
import dataclasses
import functools
import gc
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import torch
from cases import ALONGSIDE, CANDIDATES, CASES, DEFAULT_SIZES, GPU_CASES, KINDS, MOST, SIZES
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from lsnc_core import data, files, labels, losses, models, provenance
from lsnc_core.images import standardise
from lsnc_core.papers import chen
from lsnc_core.runs import RunSpec, fleet, graphs, prepare

SIDES = {"cpu": 2048, "cuda": 8192}  # of the product that tells the arithmetic peak


def prepared(spec: RunSpec) -> tuple[torch.Tensor, torch.Tensor, models.Network]:
    """Standardised training images (N, C, H, W), smoothed targets (N, K) and the network of a spec."""
    chosen = data.load(spec.data).subset(spec.train_size, spec.test_size)
    images, _ = standardise(chosen, spec.pool)
    noisy = labels.corrupt(chosen.train_labels, labels.symmetric_noise(spec.a, 10), spec.seed)
    return images, labels.soft_targets(noisy, spec.p, 10), prepare.build(spec, tuple(images.shape[1:]), 10)


def half(spec: RunSpec, device: torch.device) -> torch.autocast:
    """The context in which a plain loop makes its products in the spec's precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=spec.precision == "bfloat16")


def timed(epoch, images_a_epoch: int, seconds: float) -> float:
    """Replica-images per second of a function that trains one epoch: a warm-up, then epochs for at least `seconds`."""
    epoch()
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        epoch()
        done += images_a_epoch
    return done / (time.perf_counter() - start)


def plain(spec: RunSpec, seconds: float, loader: bool, device: torch.device) -> float:
    """One network at a time, eager, with a DataLoader or with tensors in memory."""
    images, targets, network = prepared(spec)
    layout = torch.channels_last if spec.precision == "bfloat16" else torch.preserve_format
    network.to(device, memory_format=layout)
    optimizer = torch.optim.SGD(network.parameters(), lr=spec.lr, momentum=spec.momentum)
    batches = DataLoader(TensorDataset(images, targets), batch_size=spec.batch, shuffle=True)
    if not loader:
        images, targets = images.to(device), targets.to(device)

    def step(x: torch.Tensor, y: torch.Tensor) -> None:
        optimizer.zero_grad()
        with half(spec, device):
            logits = network(x.to(memory_format=layout))
        nn.functional.cross_entropy(logits.float(), y).backward()
        optimizer.step()

    def epoch() -> None:
        if loader:
            for x, y in batches:
                step(x.to(device), y.to(device))
        else:
            for rows in torch.randperm(len(images), device=device).split(spec.batch):
                step(images[rows], targets[rows])
        finish(device)

    return timed(epoch, len(images), seconds)


def finish(device: torch.device) -> None:
    """Wait for what a GPU still has to do."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def vmapped(spec: RunSpec, seconds: float, device: torch.device, replicas: int = 8) -> float | None:
    """`replicas` networks through torch.func; None for networks that it refuses (batch norm's running statistics)."""
    images, targets, _ = prepared(spec)
    networks = [prepare.build(dataclasses.replace(spec, seed=seed), tuple(images.shape[1:]), 10) for seed in range(replicas)]
    images, targets, networks = images.to(device), targets.to(device), [network.to(device) for network in networks]
    parameters, buffers = torch.func.stack_module_state(networks)
    if buffers:
        return None
    optimizer = torch.optim.SGD(parameters.values(), lr=spec.lr, momentum=spec.momentum)

    def loss(weights: dict, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        with half(spec, device):
            logits = torch.func.functional_call(networks[0], weights, (x,))
        return losses.cross_entropy(logits.float(), y).mean()

    together = torch.func.vmap(loss, in_dims=(0, None, None))

    def epoch() -> None:
        for rows in torch.randperm(len(images), device=device).split(spec.batch):
            optimizer.zero_grad()
            together(parameters, images[rows], targets[rows]).sum().backward()
            optimizer.step()
        finish(device)

    return timed(epoch, replicas * len(images), seconds)


def fleet_rate(
    spec: RunSpec, count: int, seconds: float, device: torch.device, kind: str = "fleet", ready=lambda: None
) -> tuple[float, float]:
    """Replica-images per second of one process that trains `count` networks, and the memory in MiB that it holds while it does.

    `kind` is one of `KINDS`; `ready` is called before the clock starts.
    """
    # on a GPU the steps of each size run as they are at first: a last smaller batch once an epoch
    start, done, rate, memory = 0.0, -1 if device.type == "cpu" else -1 - graphs.WARM_UP, 0.0, 0.0

    class Enough(Exception):
        """Ends a training that would go on for ever."""

    def progress(_: int) -> None:
        nonlocal start, done, rate, memory
        done += 1
        finish(device)
        if done == 0:
            ready()
            start = time.perf_counter()
        elif time.perf_counter() - start >= seconds:
            rate = done * count * spec.train_size / (time.perf_counter() - start)
            memory = torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else proportional_memory(os.getpid())
            raise Enough

    endless = [dataclasses.replace(spec, seed=seed, epochs=10**9, evaluate_at=(10**9,)) for seed in range(count)]
    with contextlib.suppress(Enough), mock.patch.multiple(fleet, **KINDS[kind]):
        fleet.train(endless, data.load(spec.data), device, progress)
    return rate, memory


def fleet_process(spec: RunSpec, count: int, seconds: float, barrier, answers, kind: str) -> None:
    """One of the fleet's processes on a CPU: answers its rate and its memory in MiB, or the error that ended it."""
    torch.set_num_threads(1)
    try:
        answers.put(fleet_rate(spec, count, seconds, torch.device("cpu"), kind, barrier.wait))
    except Exception as error:
        answers.put(RuntimeError(one_line(error)))
        barrier.abort()  # nobody else need wait


def in_fleet(spec: RunSpec, count: int, seconds: float, device: torch.device, kind: str = "fleet") -> tuple[float, float]:
    """The whole machine: replica-images per second, and the memory in MiB of all processes together (on a GPU: the peak there)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return fleet_rate(spec, count, seconds, device, kind)
    context = multiprocessing.get_context("spawn")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    barrier, answers = context.Barrier(cores), context.Queue()
    workers = [context.Process(target=fleet_process, args=(spec, count, seconds, barrier, answers, kind)) for _ in range(cores)]
    for worker in workers:
        worker.start()
    found = [answers.get() for _ in workers]
    for worker in workers:
        worker.join()
    for answer in found:
        if isinstance(answer, Exception):
            raise answer
    return sum(rate for rate, _ in found), sum(memory for _, memory in found)


def arithmetic(spec: RunSpec) -> float:
    """Floating-point operations of one training step per image: products and convolutions, forward and backward."""
    images, targets, network = (found.to("meta") for found in prepared(spec))
    with FlopCounterMode(display=False) as counter:
        nn.functional.cross_entropy(network(images[: spec.batch]), targets[: spec.batch]).backward()
    return counter.get_total_flops() / spec.batch


def peak(device: torch.device, precision: str) -> float:
    """Operations per second of a large matrix product in "float32" or "bfloat16" on the whole device, the best of ten."""
    side = SIDES[device.type]
    left, right = torch.randn(2, side, side, device=device, dtype=getattr(torch, precision))
    rates = []
    for _ in range(10):
        start = time.perf_counter()
        left @ right
        finish(device)
        rates.append(2 * side**3 / (time.perf_counter() - start))
    return max(rates)


def rows_of(case: str, seconds: float, device: torch.device) -> dict[str, Callable[[], float | tuple[float, float] | None]]:
    """The rows of a case by name: functions that measure a rate, or a rate and a memory."""
    spec, sizes = CASES[case], SIZES[device.type].get(case, DEFAULT_SIZES[device.type])
    others = [("listed", ALONGSIDE)] if spec.model in ("cnn", "mlp") else []
    if device.type == "cuda":
        others = [(kind, size) for kind in CANDIDATES.get(spec.model, ()) for size in sizes if size <= MOST]
    rows = {
        "loader": functools.partial(plain, spec, seconds, True, device),
        "memory": functools.partial(plain, spec, seconds, False, device),
        "vmap": functools.partial(vmapped, spec, seconds, device),
    }
    threads = {f"threads {ALONGSIDE}": functools.partial(fleet_rate, spec, ALONGSIDE, seconds, device)}
    fleets, others = (
        {f"{kind} {size}": functools.partial(in_fleet, spec, size, seconds, device, kind) for kind, size in runs}
        for runs in ([("fleet", size) for size in sizes], others)
    )
    return rows | fleets | (threads if device.type == "cpu" else {}) | others


def one_line(error: Exception) -> str:
    """The kind of an error and the beginning of what it says."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def attempt(row: Callable) -> dict:
    """What a row measures, or why it could not; nothing of it stays on the GPU for the next."""
    try:
        found = row()
        rate, memory = found if isinstance(found, tuple) else (found, None)
        answer = {"rate": rate, "memory_mib": memory}
    except Exception as error:
        answer = {"rate": None, "memory_mib": None, "error": one_line(error)}
    gc.collect()
    with contextlib.suppress(RuntimeError):  # after some errors of a kernel every later call fails
        torch.cuda.empty_cache()
    return answer


def measure_case(case: str, seconds: float, device: torch.device) -> list[dict]:
    """All rows of one case, the plain loop before and after them."""
    spec, rows = CASES[case], rows_of(case, seconds, device)
    most = peak(device, spec.precision)
    print(f"\n{case}, batch {spec.batch}", flush=True)
    measured = {name: attempt(row) for name, row in rows.items()}
    again = attempt(rows["loader"])  # the machine's drift over the case
    loops = [found["rate"] for found in (measured["loader"], again) if found["rate"]]
    base, work = (sum(loops) / len(loops), arithmetic(spec)) if loops else (None, None)
    print(f"  the loader loop before and after: {' and '.join(f'{rate:,.0f}' for rate in loops)} images/s")
    table = []
    for name, found in measured.items():
        rate, memory = found["rate"], found["memory_mib"]
        ratio, share = (rate / base, rate * work / most) if rate and base else (None, None)
        said = found.get("error", "refused by torch.func")
        if rate:
            said = f"{rate:>12,.0f} replica-images/s" + (f"  {ratio:>5.2f} x  {share:>4.0%} of peak" if base else "")
        print(f"  {name:<20} {said}" + (f"  {memory:,.0f} MiB" if memory else ""), flush=True)
        table.append({"case": case, "row": name, "rate": rate, "ratio": ratio, "peak_share": share} | found)
    return table


GRID = """
import dataclasses, json, sys
from lsnc_core import runs
values = json.load(sys.stdin)
runs.results([dataclasses.replace(runs.RunSpec.from_dict(values), seed=seed) for seed in range(100)], "cpu")
"""


def grid_memory(output: Path) -> None:
    """Train 100 networks of the `gpu` profile's grid for one epoch in processes of their own and watch their memory."""
    spec = dataclasses.replace(chen.landscape_runs("gpu")[0], epochs=1, evaluate_at=(1,))
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"LSNC_OUTPUTS": folder, "LSNC_DATA": str(files.data_root())}
        child = subprocess.Popen([sys.executable, "-c", GRID], stdin=subprocess.PIPE, env=environment, text=True)
        child.stdin.write(json.dumps(spec.to_dict()))
        child.stdin.close()
        most, start = 0.0, time.perf_counter()
        while child.poll() is None:
            most = max(most, sum(proportional_memory(pid) for pid in family(child.pid)))
            time.sleep(0.5)
    if child.returncode:
        sys.exit(child.returncode)
    report = {"networks": 100, "memory_mib": most, "seconds": time.perf_counter() - start, "spec": spec.to_dict()}
    text = json.dumps(report | {"provenance": provenance.describe()}, indent=1)
    files.write_whole(output, lambda path: path.write_text(text))
    print(f"100 networks, one epoch of MNIST and its evaluation: {most:,.0f} MiB, {report['seconds']:.0f} s; written to {output}")


def accuracy() -> None:
    """Train the patch-wise CNN on clean full MNIST with the smoothing p = .9, four seeds."""
    changes = {"data": "mnist", "train_size": 60000, "test_size": 10000, "a": 1.0, "p": 0.9, "lr": 0.03, "epochs": 8, "evaluate_at": (8,)}
    specs = [dataclasses.replace(CASES["cnn 28x28"], **changes, seed=seed) for seed in range(4)]
    found = [trained.history[-1]["test_accuracy"] for trained in fleet.train(specs, data.load("mnist"), torch.device("cpu"))]
    print(f"test accuracy after 8 epochs: {', '.join(f'{value:.2%}' for value in found)}; mean {sum(found) / len(found):.2%}")


def family(pid: int) -> list[int]:
    """A process and its descendants (Linux)."""
    children = [int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]
    return [pid, *(descendant for child in children for descendant in family(child))]


def proportional_memory(pid: int) -> float:
    """Memory of a process in MiB, pages that several share counted in parts (Linux); 0 for one that has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def main() -> None:
    """Measure the chosen cases, print a table, write it with the hardware and versions to a file."""
    command = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where to train (default cpu)")
    command.add_argument("--seconds", type=float, default=3, help="time of each measurement (default 3)")
    command.add_argument("--only", nargs="+", choices=CASES, help="cases to measure (default: all; on a CPU those that are not for a GPU)")
    command.add_argument("--autotune", action="store_true", help="let cuDNN time its algorithms and take the fastest")
    command.add_argument("--grid-memory", action="store_true", help="measure the memory of a grid of 100 networks instead")
    command.add_argument("--accuracy", action="store_true", help="measure what the patch-wise CNN reaches on full MNIST instead")
    command.add_argument("--output", type=Path, help="where the table goes (default: benchmarks/ of the outputs folder)")
    given = command.parse_args()
    folder = files.outputs_root() / "benchmarks"
    if given.grid_memory:
        grid_memory(given.output or folder / "grid-memory.json")
        return
    if given.accuracy:
        accuracy()
        return
    if given.device == "cuda" and not torch.cuda.is_available():
        command.error("torch finds no CUDA device here")
    device = torch.device(given.device)
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = False, given.autotune
    output, rows, done = given.output or folder / f"fleet-{given.device}.json", [], []
    for case in given.only or [case for case in CASES if given.device == "cuda" or case not in GPU_CASES]:
        rows, done = rows + measure_case(case, given.seconds, device), [*done, case]
        report = {"rows": rows, "unit": "replica-images per second", "seconds": given.seconds, "device": given.device}
        report |= {"autotune": True} if given.autotune else {}
        report |= {"specs": {case: CASES[case].to_dict() for case in done}, "provenance": provenance.describe()}
        text = json.dumps(report, indent=1)
        files.write_whole(output, lambda path, text=text: path.write_text(text))
    print(f"\nwritten to {output}")


if __name__ == "__main__":
    main()
