"""Whole trainings for `benchmarks/fleet.py`.

They measure the paper's grid, the memory of a hundred networks, and what the patch-wise CNN
reaches.
"""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from cases import CASES
from memory import family, peak_memory

from lsnc_core import data, files, provenance, runs
from lsnc_core.papers.chen import networks
from lsnc_core.runs import RunSpec, fleet

TENTHS = {tenth / 10 for tenth in range(1, 11)}


def ten_by_ten(specs: Sequence[RunSpec]) -> list[RunSpec]:
    """One seed's 10 x 10 networks of a landscape: a and p in tenths."""
    return [spec for spec in specs if spec.seed == 0 and {spec.a, spec.p} <= TENTHS]


def cifar_grid_hours(rate: float) -> float:
    """Hours to train the paper's CIFAR-10 grid, all its epochs.

    Args: rate, in replica-images per second.
    """
    grid_specs = ten_by_ten(networks.plan_cifar("paper"))
    return sum(spec.train_size * spec.epochs for spec in grid_specs) / rate / 3600


def write(output: Path, report: dict) -> None:
    """Write a report with its provenance as JSON."""
    text = json.dumps(report | {"provenance": provenance.describe()}, indent=1)
    files.write_whole(output, lambda path: path.write_text(text))


def grid(specs: Sequence[RunSpec], device: str) -> dict:
    """Train a grid as the companion does, in a store of its own.

    Args:
        specs: the networks, one with a = .5 and p = 1 among them.
        device: "cpu" or "cuda".

    Returns:
        By name: networks; seconds of wall time from the call to the table, measuring and storing
        included; rate, replica-images per second of them; train_error, the share in [0, 1] of the
        noisy training labels that the network at a = .5, p = 1 has wrong at the end, and
        train_loss, in nats, there; device; spec of the first network.
    """
    data.load(specs[0].data)  # a download is no part of it
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        table = runs.results(specs, device, runs.Store(Path(folder)))
        seconds = time.perf_counter() - start
    passes = sum(spec.train_size * spec.epochs for spec in specs)
    cell = table[(table.a == 0.5) & (table.p == 1) & (table.epoch == table.epochs)].iloc[0]
    memorised = {
        "train_error": 1 - float(cell.train_accuracy),
        "train_loss": float(cell.train_loss),
    }
    found = {"networks": len(specs), "seconds": seconds, "rate": passes / seconds}
    return found | memorised | {"device": device, "spec": specs[0].to_dict()}


def paper_grid(device: str, output: Path) -> None:
    """Train the paper's MNIST grid; print and write what `grid` returns."""
    found = grid(ten_by_ten(networks.plan_landscape("paper")), device)
    write(output, found)
    print(
        f"{found['networks']} networks: {found['seconds']:,.0f} s, "
        f"{found['rate']:,.0f} replica-images/s"
    )
    print(
        f"a = 0.5, p = 1: training error {found['train_error']:.2%}, "
        f"training loss {found['train_loss']:.4f}; written to {output}"
    )


HUNDRED = """
import dataclasses, json, sys
from lsnc_core import runs
spec = runs.RunSpec.from_dict(json.load(sys.stdin))
runs.results([dataclasses.replace(spec, seed=seed) for seed in range(100)], "cpu")
"""


def grid_memory(output: Path) -> None:
    """Train 100 networks of the `gpu` profile's grid for one epoch on the CPU; print their memory.

    They train in processes of their own. The memory is the sum of all processes' peaks, which need
    not fall together: an upper bound.
    """
    spec = dataclasses.replace(networks.plan_landscape("gpu")[0], epochs=1, evaluate_at=(1,))
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"LSNC_OUTPUTS": folder, "LSNC_DATA": str(files.data_root())}
        child = subprocess.Popen(
            [sys.executable, "-c", HUNDRED], stdin=subprocess.PIPE, env=environment, text=True
        )
        child.stdin.write(json.dumps(spec.to_dict()))
        child.stdin.close()
        most, start = 0.0, time.perf_counter()
        while child.poll() is None:
            most = max(most, sum(peak_memory(process) for process in family(child.pid)))
            time.sleep(0.5)
    if child.returncode:
        sys.exit(child.returncode)
    report = {
        "networks": 100,
        "memory_mib": most,
        "seconds": time.perf_counter() - start,
        "spec": spec.to_dict(),
    }
    write(output, report)
    print(
        f"100 networks, one epoch of MNIST and its evaluation: {most:,.0f} MiB, "
        f"{report['seconds']:.0f} s; written to {output}"
    )


def accuracy() -> None:
    """Train the patch-wise CNN on clean full MNIST; print its test accuracy.

    Kept mass p = .9, four seeds, on the CPU.
    """
    changes = {
        "data": "mnist",
        "train_size": 60000,
        "test_size": 10000,
        "a": 1.0,
        "p": 0.9,
        "lr": 0.03,
        "epochs": 8,
        "evaluate_at": (8,),
    }
    specs = [dataclasses.replace(CASES["cnn 28x28"], **changes, seed=seed) for seed in range(4)]
    trained = fleet.train(specs, data.load("mnist"), torch.device("cpu"))
    accuracies = [one.history[-1]["test_accuracy"] for one in trained]
    each = ", ".join(f"{value:.2%}" for value in accuracies)
    mean = sum(accuracies) / len(accuracies)
    print(f"test accuracy after 8 epochs: {each}; mean {mean:.2%}")
