"""What Dask costs: the same blocks by two workers of one core each, and by the local pool.

    python benchmarks/cluster.py [--rounds N] [--networks N] [--json PATH]

Both train in every round, in turn, and start in every round anew; a round counts from the first
block's submission to the last one's storing, with processes started and torch imported before. The
overhead is that of the medians.
"""

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import tqdm

from lsnc_core import provenance
from lsnc_core.runs import RunSpec, Store, cluster, execute, products
from lsnc_core.runs.pool import LocalPool

WORKERS, PER_BLOCK = 2, 4


def specs_of(networks: int) -> list[RunSpec]:
    """CNNs on MNIST images, `PER_BLOCK` in each block."""
    shared = {"data": "mnist-subset", "train_size": 2000, "test_size": 1000, "pool": 2}
    shared |= {"model": "cnn", "widths": (16, 32, 64), "p": 0.9, "batch": 64}
    shared |= {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.0, "epochs": 8, "evaluate_at": (8,)}
    return [RunSpec(**shared, a=0.8, seed=seed, order_seed=0) for seed in range(networks)]


def seconds_of(executor, specs: list[RunSpec], folder: Path) -> float:
    """How long an executor takes to train and store the specs."""
    start = time.perf_counter()
    execute.results(specs, "cpu", Store(folder), executor)
    return time.perf_counter() - start


def measure(rounds: int, networks: int) -> dict:
    """The seconds of each round, by executor, and the overhead of the medians."""
    execute.BLOCK = PER_BLOCK
    specs, seconds = specs_of(networks), {"local pool": [], "Dask": []}
    warm = specs_of(networks + WORKERS * PER_BLOCK)[networks:]
    with tempfile.TemporaryDirectory() as folder:
        # chosen before all rounds, for stores in this folder
        products.of_this_machine(Path(folder))
        for number in tqdm.trange(rounds, file=sys.stderr):
            for name in seconds:
                store = Store(Path(folder) / f"{name} {number}")
                with contextlib.ExitStack() as stack:
                    if name == "Dask":
                        executor = stack.enter_context(
                            cluster.connect("", WORKERS, "cpu", specs, store)
                        )
                    else:
                        executor = stack.enter_context(LocalPool(WORKERS))
                    seconds_of(executor, warm, store.folder)
                    seconds[name].append(seconds_of(executor, specs, store.folder))
    medians = {name: statistics.median(measured) for name, measured in seconds.items()}
    return {
        "provenance": provenance.describe(),
        "workers": WORKERS,
        "networks": networks,
        "seconds": seconds,
        "overhead": medians["Dask"] / medians["local pool"] - 1,
    }


def main() -> None:
    command = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    command.add_argument("--rounds", type=int, default=5)
    command.add_argument("--networks", type=int, default=32)
    command.add_argument("--json", type=Path, help="a file for the result")
    given = command.parse_args()
    measured = measure(given.rounds, given.networks)
    for name, seconds in measured["seconds"].items():
        print(f"{name:<12} " + " ".join(f"{value:6.2f}" for value in seconds) + " s")
    print(f"overhead of Dask: {measured['overhead']:.1%}")
    if given.json:
        given.json.write_text(json.dumps(measured, indent=1) + "\n")


if __name__ == "__main__":
    main()
