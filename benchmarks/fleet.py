"""Training throughput: the fleet against what a user would write, in one run, as ratios.

    .venv/bin/python benchmarks/fleet.py [--seconds S] [--only CASE ...] [--output FILE]

Rows of a case, all on the same images, network and batch size:

    loader   a DataLoader, one network at a time, eager, torch's default threads: what a user would write
    memory   the same with the images in memory as tensors
    vmap     torch.func.stack_module_state and vmap over 8 networks, images in memory
    fleet R  `runs.fleet` as the companion runs it: one single-threaded process per core, R networks in each

The unit is replica-images per second: images times networks that they train. Evaluation and start-up are left out: each row is
timed between two epochs, after a first one. The rows take turns, so a machine that drifts drifts for all of them.
"""

import argparse
import dataclasses
import json
import multiprocessing
import os
import resource
import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lsnc_core import data, files, labels, losses, models, provenance
from lsnc_core.images import standardise
from lsnc_core.runs import RunSpec, fleet

BASE = {"a": 0.8, "p": 0.9, "lr": 0.01, "momentum": 0.9, "weight_decay": 0.0, "epochs": 1, "evaluate_at": (1,), "seed": 0, "order_seed": 0}
CASES = {
    "cnn 14x14": RunSpec(data="mnist-subset", train_size=3000, test_size=10, pool=2, model="cnn", widths=(8, 16, 128), batch=64, **BASE),
    "cnn 28x28": RunSpec(data="mnist-subset", train_size=3000, test_size=10, pool=1, model="cnn", widths=(8, 16, 128), batch=128, **BASE),
    "mlp 8x8": RunSpec(data="digits", train_size=1200, test_size=10, pool=1, model="mlp", widths=(64,), batch=64, **BASE),
    "resnet18 width 4": RunSpec(
        data="mnist-subset", train_size=600, test_size=10, pool=1, model="resnet18", widths=(4,), batch=128, **BASE
    ),
}
SIZES = {"resnet18 width 4": (1, 2)}
DEFAULT_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


def prepared(spec: RunSpec) -> tuple[torch.Tensor, torch.Tensor, models.Network]:
    """Standardised training images (N, C, H, W), smoothed targets (N, K) and the network of a spec."""
    chosen = data.load(spec.data).subset(spec.train_size, spec.test_size)
    images, _ = standardise(chosen, spec.pool)
    noisy = labels.corrupt(chosen.train_labels, labels.symmetric_noise(spec.a, 10), spec.seed)
    return images, labels.soft_targets(noisy, spec.p, 10), fleet.build(spec, tuple(images.shape[1:]), 10)


def timed(epoch, images_a_epoch: int, seconds: float) -> float:
    """Replica-images per second of a function that trains one epoch: a warm-up, then epochs for at least `seconds`."""
    epoch()
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        epoch()
        done += images_a_epoch
    return done / (time.perf_counter() - start)


def plain(spec: RunSpec, seconds: float, loader: bool) -> float:
    """One network at a time, eager, with a DataLoader or with tensors in memory."""
    images, targets, network = prepared(spec)
    optimizer = torch.optim.SGD(network.parameters(), lr=spec.lr, momentum=spec.momentum)
    batches = DataLoader(TensorDataset(images, targets), batch_size=spec.batch, shuffle=True)

    def step(x: torch.Tensor, y: torch.Tensor) -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()

    def epoch() -> None:
        if loader:
            for x, y in batches:
                step(x, y)
        else:
            for rows in torch.randperm(len(images)).split(spec.batch):
                step(images[rows], targets[rows])

    return timed(epoch, len(images), seconds)


def vmapped(spec: RunSpec, seconds: float, replicas: int = 8) -> float | None:
    """`replicas` networks through torch.func; None for networks that it refuses (batch norm's running statistics)."""
    images, targets, _ = prepared(spec)
    networks = [fleet.build(dataclasses.replace(spec, seed=seed), tuple(images.shape[1:]), 10) for seed in range(replicas)]
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

    return timed(epoch, replicas * len(images), seconds)


def fleet_process(spec: RunSpec, replicas: int, seconds: float, barrier, answers) -> None:
    """One of the fleet's processes: trains until `seconds` have passed since its second epoch began, answers rate and peak memory."""
    torch.set_num_threads(1)
    start, done = 0.0, -1

    class Enough(Exception):
        """Ends a training that would go on for ever."""

    def progress(_: int) -> None:
        nonlocal start, done
        done += 1
        if done == 0:
            barrier.wait()
            start = time.perf_counter()
        elif time.perf_counter() - start >= seconds:
            raise Enough

    endless = [dataclasses.replace(spec, seed=seed, epochs=10**9, evaluate_at=(10**9,)) for seed in range(replicas)]
    try:
        fleet.train(endless, data.load(spec.data), torch.device("cpu"), progress)
    except Enough:
        rate = done * replicas * spec.train_size / (time.perf_counter() - start)
        answers.put((rate, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def in_fleet(spec: RunSpec, replicas: int, seconds: float) -> tuple[float, float]:
    """All cores together: replica-images per second, and the largest process's peak memory in MiB."""
    context = multiprocessing.get_context("spawn")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    barrier, answers = context.Barrier(cores), context.Queue()
    workers = [context.Process(target=fleet_process, args=(spec, replicas, seconds, barrier, answers)) for _ in range(cores)]
    for worker in workers:
        worker.start()
    found = [answers.get() for _ in workers]
    for worker in workers:
        worker.join()
    return sum(rate for rate, _ in found), max(memory for _, memory in found)


def main() -> None:
    """Measure the chosen cases, print a table, write it with the hardware and versions to a file."""
    command = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_argument("--seconds", type=float, default=3, help="time of each measurement (default 3)")
    command.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), help="cases to measure")
    command.add_argument("--output", type=Path, default=files.outputs_root() / "benchmarks" / "fleet.json", help="where the table goes")
    given = command.parse_args()
    rows = []
    for case in given.only:
        spec = CASES[case]
        measured = {
            "loader": plain(spec, given.seconds, True),
            "memory": plain(spec, given.seconds, False),
            "vmap": vmapped(spec, given.seconds),
        }
        memory = {}
        for size in SIZES.get(case, DEFAULT_SIZES):
            measured[f"fleet {size}"], memory[f"fleet {size}"] = in_fleet(spec, size, given.seconds)
        again = plain(spec, given.seconds, True)  # the machine's drift over the case
        base = (measured["loader"] + again) / 2
        print(f"\n{case}, batch {spec.batch}; the loader loop before and after: {measured['loader']:,.0f} and {again:,.0f} images/s")
        for name, rate in measured.items():
            said = "refused by torch.func" if rate is None else f"{rate:>12,.0f} replica-images/s  {rate / base:>5.2f} x"
            print(f"  {name:<10} {said}" + (f"  {memory[name]:,.0f} MiB" if name in memory else ""), flush=True)
            rows.append({"case": case, "row": name, "rate": rate, "ratio": rate and rate / base, "memory_mib": memory.get(name)})
    report = {"rows": rows, "unit": "replica-images per second", "seconds": given.seconds, "device": "cpu", "gpu": "not measured"}
    text = json.dumps(
        report | {"specs": {case: CASES[case].to_dict() for case in given.only}, "provenance": provenance.describe()}, indent=1
    )
    files.write_whole(given.output, lambda path: path.write_text(text))
    print(f"\nwritten to {given.output}")


if __name__ == "__main__":
    main()
