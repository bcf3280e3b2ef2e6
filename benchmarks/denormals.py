"""What denormals cost: four CNNs of the profile `hour` with them and without, in turns.

    python benchmarks/denormals.py [--rounds N] [--epochs N] [--json PATH]

The networks are Guo's, without smoothing, on the embedded MNIST images: one process, one thread.
Their weight decay makes the weights of dead channels denormal within some thousand steps.
"""

import argparse
import contextlib
import json
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from unittest import mock

import torch
import tqdm

from lsnc_core import data, provenance
from lsnc_core.papers.guo.networks import NETWORKS
from lsnc_core.runs import RunSpec, denormals, fleet, pool

WAYS = {"denormals": contextlib.nullcontext, "zeros": denormals.flushed}


def specs_of(epochs: int) -> list[RunSpec]:
    """Four seeds of the first network of `hour`, measured at the end alone."""
    network = replace(NETWORKS["hour"][0].network, data="mnist-subset")
    steps = tuple(step * epochs // network.epochs for step in network.lr_steps)
    network = replace(network, epochs=epochs, lr_steps=steps, evaluate_at=(epochs,), test_size=1000)
    return [replace(network, seed=seed) for seed in range(4)]


def seconds_of(way: str, specs: list[RunSpec]) -> float:
    """How long training takes."""
    start = time.perf_counter()
    with mock.patch.object(denormals, "flushed", WAYS[way]):
        fleet.train(specs, data.load(specs[0].data), torch.device("cpu"))
    return time.perf_counter() - start


def measure(rounds: int, epochs: int) -> dict:
    """The seconds of each round, by way, and the ratio of the medians."""
    specs, seconds = specs_of(epochs), {way: [] for way in WAYS}
    for _ in tqdm.trange(rounds, file=sys.stderr):
        for way, measured in seconds.items():
            measured.append(seconds_of(way, specs))
    with_them, without = (statistics.median(measured) for measured in seconds.values())
    steps = epochs * specs[0].train_size // specs[0].batch
    result = {"provenance": provenance.describe(), "networks": len(specs), "steps": steps}
    return result | {"seconds": seconds, "ratio": with_them / without}


def main() -> None:
    command = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    command.add_argument("--rounds", type=int, default=3)
    command.add_argument("--epochs", type=int, default=500, help="at least 3 (default: 500)")
    command.add_argument("--json", type=Path, help="a file for the result")
    given = command.parse_args()
    pool.keep_memory()
    torch.set_num_threads(1)
    measured = measure(given.rounds, given.epochs)
    for way, seconds in measured["seconds"].items():
        print(f"{way:<10} " + " ".join(f"{value:6.1f}" for value in seconds) + " s")
    print(f"with denormals {measured['ratio']:.2f} times as long")
    if given.json:
        given.json.write_text(json.dumps(measured, indent=1) + "\n")


if __name__ == "__main__":
    main()
