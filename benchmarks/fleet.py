"""Training throughput: the fleet against what a user would write, in one run, as ratios.

    .venv/bin/python benchmarks/fleet.py [--device cpu|cuda] [--seconds S] [--only CASE ...] [--output FILE]
    .venv/bin/python benchmarks/fleet.py --grid-memory | --accuracy

Rows of a case, all on the same images, network and batch size:

    loader     a DataLoader, one network at a time, eager, torch's default threads: what a user would write
    memory     the same with the images in memory as tensors
    vmap       torch.func.stack_module_state and vmap over 8 networks, images in memory
    fleet R    `runs.fleet` as the companion runs it: on a CPU one single-threaded process per core with R networks in each,
               on a GPU one process with R networks
    threads R  on a CPU: `runs.fleet` with R networks in one process with all threads
    listed R   on a CPU, as fleet R, for networks that can be stacked: side by side instead

The unit is replica-images per second: images times networks that they train; with the arithmetic of one image it gives the share
of the peak, that of a large matrix product on all cores. Evaluation and start-up are left out: each row is timed between two
epochs, after a first one. `--grid-memory` trains 100 networks for one epoch of full MNIST on the CPU, evaluation included, and
tells the largest memory of all processes together; `--accuracy` trains the network of "cnn 28x28" on clean full MNIST for eight
epochs and tells its test accuracy.
"""

import argparse
import contextlib
import dataclasses
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from lsnc_core import data, files, labels, losses, models, provenance
from lsnc_core.images import standardise
from lsnc_core.papers import chen
from lsnc_core.runs import RunSpec, fleet, prepare, replicas

BASE = {"a": 0.8, "p": 0.9, "lr": 0.01, "momentum": 0.9, "weight_decay": 0.0, "epochs": 1, "evaluate_at": (1,), "seed": 0, "order_seed": 0}
CASES = {
    "cnn 14x14": RunSpec(data="mnist-subset", train_size=3000, test_size=10, pool=2, model="cnn", widths=(8, 16, 128), batch=64, **BASE),
    "cnn 28x28": RunSpec(data="mnist-subset", train_size=3000, test_size=10, pool=1, model="cnn", widths=(8, 16, 128), batch=128, **BASE),
    "wide cnn 28x28": RunSpec(
        data="mnist-subset", train_size=3000, test_size=10, pool=1, model="cnn", widths=(16, 32, 128), batch=128, **BASE
    ),
    "lenet 28x28": RunSpec(
        data="mnist-subset", train_size=3000, test_size=10, pool=1, model="lenet", widths=(10, 20, 50), batch=128, **BASE
    ),
    "mlp 8x8": RunSpec(data="digits", train_size=1200, test_size=10, pool=1, model="mlp", widths=(64,), batch=64, **BASE),
    "resnet18 width 4": RunSpec(
        data="mnist-subset", train_size=600, test_size=10, pool=1, model="resnet18", widths=(4,), batch=128, **BASE
    ),
}
SIZES = {"resnet18 width 4": (1, 2, 4), "lenet 28x28": (1, 2, 4, 8)}
DEFAULT_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
ALONGSIDE = 8  # networks of the rows "threads" and "listed"


def prepared(spec: RunSpec) -> tuple[torch.Tensor, torch.Tensor, models.Network]:
    """Standardised training images (N, C, H, W), smoothed targets (N, K) and the network of a spec."""
    chosen = data.load(spec.data).subset(spec.train_size, spec.test_size)
    images, _ = standardise(chosen, spec.pool)
    noisy = labels.corrupt(chosen.train_labels, labels.symmetric_noise(spec.a, 10), spec.seed)
    return images, labels.soft_targets(noisy, spec.p, 10), prepare.build(spec, tuple(images.shape[1:]), 10)


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
    network.to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=spec.lr, momentum=spec.momentum)
    batches = DataLoader(TensorDataset(images, targets), batch_size=spec.batch, shuffle=True)
    if not loader:
        images, targets = images.to(device), targets.to(device)

    def step(x: torch.Tensor, y: torch.Tensor) -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
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
        return losses.cross_entropy(torch.func.functional_call(networks[0], weights, (x,)), y).mean()

    together = torch.func.vmap(loss, in_dims=(0, None, None))

    def epoch() -> None:
        for rows in torch.randperm(len(images)).split(spec.batch):
            optimizer.zero_grad()
            together(parameters, images[rows], targets[rows]).sum().backward()
            optimizer.step()
        finish(device)

    return timed(epoch, replicas * len(images), seconds)


def fleet_rate(spec: RunSpec, count: int, seconds: float, device: torch.device, ready=lambda: None) -> tuple[float, float]:
    """Replica-images per second of one process that trains `count` networks, and the memory in MiB that it holds while it does.

    `ready` is called before the clock starts.
    """
    start, done, rate, memory = 0.0, -1, 0.0, 0.0

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
    with contextlib.suppress(Enough):
        fleet.train(endless, data.load(spec.data), device, progress)
    return rate, memory


def fleet_process(spec: RunSpec, count: int, seconds: float, barrier, answers, listed: bool) -> None:
    """One of the fleet's processes on a CPU: answers its rate and its memory in MiB."""
    torch.set_num_threads(1)
    if listed:
        fleet.hold = replicas.Listed
    answers.put(fleet_rate(spec, count, seconds, torch.device("cpu"), barrier.wait))


def in_fleet(spec: RunSpec, count: int, seconds: float, device: torch.device, listed: bool = False) -> tuple[float, float]:
    """The whole machine: replica-images per second, and the memory in MiB of all processes together (on a GPU: the peak there)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return fleet_rate(spec, count, seconds, device)
    context = multiprocessing.get_context("spawn")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    barrier, answers = context.Barrier(cores), context.Queue()
    workers = [context.Process(target=fleet_process, args=(spec, count, seconds, barrier, answers, listed)) for _ in range(cores)]
    for worker in workers:
        worker.start()
    found = [answers.get() for _ in workers]
    for worker in workers:
        worker.join()
    return sum(rate for rate, _ in found), sum(memory for _, memory in found)


def arithmetic(spec: RunSpec) -> float:
    """Floating-point operations of one training step per image: products and convolutions, forward and backward."""
    images, targets, network = prepared(spec)
    with FlopCounterMode(display=False) as counter:
        nn.functional.cross_entropy(network(images[: spec.batch]), targets[: spec.batch]).backward()
    return counter.get_total_flops() / spec.batch


def peak(device: torch.device, side: int = 2048) -> float:
    """Operations per second of a large float32 matrix product on the whole device, the best of ten."""
    left, right = torch.randn(2, side, side, device=device)
    rates = []
    for _ in range(10):
        start = time.perf_counter()
        left @ right
        finish(device)
        rates.append(2 * side**3 / (time.perf_counter() - start))
    return max(rates)


def measure_case(case: str, seconds: float, device: torch.device) -> list[dict]:
    """All rows of one case, the plain loop before and after them."""
    spec = CASES[case]
    measured = {
        "loader": plain(spec, seconds, True, device),
        "memory": plain(spec, seconds, False, device),
        "vmap": vmapped(spec, seconds, device),
    }
    memory = {}
    for size in SIZES.get(case, DEFAULT_SIZES):
        measured[f"fleet {size}"], memory[f"fleet {size}"] = in_fleet(spec, size, seconds, device)
    if device.type == "cpu":
        row = f"threads {ALONGSIDE}"
        measured[row], memory[row] = fleet_rate(spec, ALONGSIDE, seconds, device)
        if spec.model in ("cnn", "mlp"):
            row = f"listed {ALONGSIDE}"
            measured[row], memory[row] = in_fleet(spec, ALONGSIDE, seconds, device, listed=True)
    again = plain(spec, seconds, True, device)  # the machine's drift over the case
    base, most, work = (measured["loader"] + again) / 2, peak(device), arithmetic(spec)
    print(f"\n{case}, batch {spec.batch}; the loader loop before and after: {measured['loader']:,.0f} and {again:,.0f} images/s")
    rows = []
    for name, rate in measured.items():
        share = rate and rate * work / most
        said = "refused by torch.func" if rate is None else f"{rate:>12,.0f} replica-images/s  {rate / base:>5.2f} x  {share:>4.0%} of peak"
        print(f"  {name:<10} {said}" + (f"  {memory[name]:,.0f} MiB" if name in memory else ""), flush=True)
        rows.append(
            {"case": case, "row": name, "rate": rate, "ratio": rate and rate / base, "peak_share": share, "memory_mib": memory.get(name)}
        )
    return rows


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
    command.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), help="cases to measure")
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
    rows = [row for case in given.only for row in measure_case(case, given.seconds, torch.device(given.device))]
    report = {"rows": rows, "unit": "replica-images per second", "seconds": given.seconds, "device": given.device}
    text = json.dumps(
        report | {"specs": {case: CASES[case].to_dict() for case in given.only}, "provenance": provenance.describe()}, indent=1
    )
    output = given.output or folder / f"fleet-{given.device}.json"
    files.write_whole(output, lambda path: path.write_text(text))
    print(f"\nwritten to {output}")


if __name__ == "__main__":
    main()
