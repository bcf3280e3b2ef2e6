"""Collapse and calibration metrics: time, memory and the value of NC1, against a first attempt.

    .venv/bin/python benchmarks/metrics.py [--rounds N] [--only CASE ...] [--output FILE]

Rows of a case, all on the same float32 features in memory, all of NC1, NC2, NC3, NC4 and the
accuracies:

    two reads      `neural_collapse`: every convention, NC1 by class too
    one pass       `NeuralCollapse` in batches of 256: everything but NC4 and the accuracies
    ... float64    the same with `float64=True`
    plain sums     the same batches: class sums and second moments in float64, one product each
    dense          class means by masks, D x D covariances by one product each, torch.linalg.pinv,
                   one convention, float32

and of the calibration case, ECE with 15 bins of 50,000 x 100 logits: `ece`, a loop over the bins,
torchmetrics where it is installed. The rows take turns, so a machine that drifts drifts for all of
them. Seconds are the fastest of the rounds, and ratios are of these, because whatever else runs on
the machine only adds; the median stands beside them. Memory is the peak beyond the loaded features,
in a process of its own.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from lsnc_core import files, provenance
from lsnc_core.metrics import NeuralCollapse, ece, neural_collapse

REFERENCE = "two reads"


@dataclass(frozen=True)
class Case:
    """Features h = mu_G + a simplex vertex times `radius` + `sigma` times noise.

    Sigma_B's eigenvalues fall over so many `decades`.
    """

    N: int
    D: int
    K: int
    sigma: float
    decades: float = 0.0
    radius: float = 10.0


CASES = {
    "K = 10": Case(50_000, 512, 10, 1.0),
    "K = 100": Case(50_000, 512, 100, 0.1),
    "K = 200": Case(100_000, 2048, 200, 0.05),
    "K = 10, ill-conditioned": Case(50_000, 512, 10, 0.01, 5.0),
}


def made(case: Case) -> tuple[torch.Tensor, ...]:
    """Features float32 (N, D), labels int64 (N,), W (K, D), b (K,).

    Features are made in place, a few rows at a time.
    """
    torch.manual_seed(0)
    directions = torch.linalg.qr(torch.randn(case.D, case.K)).Q.T  # (K, D)
    falling = torch.logspace(0, -case.decades / 2, case.K - 1)
    around = torch.cat([torch.ones(case.K, 1), torch.randn(case.K, case.K - 1)], 1)
    across = torch.linalg.qr(around).Q[:, 1:]  # (K, K-1), columns sum to zero
    vertices = case.radius * across * falling @ directions[: case.K - 1]  # (K, D)
    labels = torch.randint(case.K, (case.N,))
    features = torch.empty(case.N, case.D).normal_()
    shift = 5 * torch.nn.functional.normalize(torch.randn(case.D), dim=0)
    for h, y in zip(features.split(256), labels.split(256), strict=True):
        h.mul_(case.sigma).add_(vertices[y] + shift)
    W = vertices / case.radius + 0.05 * torch.randn(case.K, case.D) / case.D**0.5
    return features, labels, W, torch.zeros(case.K)


def dense(H: torch.Tensor, y: torch.Tensor, W: torch.Tensor, b: torch.Tensor) -> float:
    """The definitions as they are written: NC1 with 1/K.

    NC2, NC3, NC4 and the accuracies are computed and dropped.
    """
    N, K = len(H), len(W)
    mu = torch.stack([H[y == k].mean(0) for k in range(K)])
    centred = mu - mu.mean(0)
    deviations = H - mu[y]
    within, between = deviations.T @ deviations / N, centred.T @ centred / K
    nc1 = torch.trace(within @ torch.linalg.pinv(between)) / K
    simplex = (torch.eye(K) - 1 / K) / (K - 1) ** 0.5
    for M in (centred @ centred.T, W @ W.T, W @ centred.T):
        torch.linalg.norm(M / torch.linalg.norm(M) - simplex)
    torch.linalg.norm(W / torch.linalg.norm(W) - centred / torch.linalg.norm(centred))
    chosen, nearest = (H @ W.T + b).argmax(1), torch.cdist(H, mu).argmin(1)
    for agreed in (chosen == nearest, chosen == y, nearest == y):
        agreed.float().mean().item()
    return float(nc1)


def one_pass(
    H: torch.Tensor, y: torch.Tensor, W: torch.Tensor, b: torch.Tensor, float64: bool = False
) -> float:
    """The accumulator, as after every batch of a loop."""
    nc = NeuralCollapse(*W.shape, float64=float64)
    for features, labels in zip(H.split(256), y.split(256), strict=True):
        nc.update(features, labels)
    return nc.compute(W, b)["nc1_trace_over_K"]


def one_pass_float64(H: torch.Tensor, y: torch.Tensor, W: torch.Tensor, b: torch.Tensor) -> float:
    """The accumulator with float64 products."""
    return one_pass(H, y, W, b, float64=True)


def plain_sums(H: torch.Tensor, y: torch.Tensor, W: torch.Tensor, b: torch.Tensor) -> float:
    """One pass as it is written first: NC1 with 1/K from sums in float64; NC2 and NC3 left out."""
    K, D = W.shape
    counts, sums = torch.zeros(K, dtype=torch.float64), torch.zeros(K, D, dtype=torch.float64)
    moments = torch.zeros(D, D, dtype=torch.float64)
    for features, labels in zip(H.split(256), y.split(256), strict=True):
        h = features.double()
        counts += torch.bincount(labels, minlength=K)
        sums.index_add_(0, labels, h)
        moments += h.T @ h
    mu = sums / counts[:, None]
    within = (moments - (mu * counts[:, None]).T @ mu) / len(H)
    centred = mu - mu.mean(0)
    return float(torch.trace(within @ torch.linalg.pinv(centred.T @ centred / K)) / K)


def two_reads(H: torch.Tensor, y: torch.Tensor, W: torch.Tensor, b: torch.Tensor) -> float:
    """The pure function."""
    return neural_collapse(H, y, W, b).values["nc1_trace_over_K"]


ROWS = {
    REFERENCE: two_reads,
    "one pass": one_pass,
    "... float64": one_pass_float64,
    "plain sums": plain_sums,
    "dense": dense,
}


def looped_ece(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """A loop over 15 bins."""
    confidence, prediction = logits.softmax(1).max(1)
    hit, error = prediction == labels, 0.0
    edges = torch.linspace(0, 1, 16)
    for lower, upper in itertools.pairwise(edges):
        inside = (confidence > lower) & (confidence <= upper)
        if inside.any():
            error += (
                inside.float().mean()
                * (hit[inside].float().mean() - confidence[inside].mean()).abs()
            )
    return float(error)


def ece_rows() -> dict:
    """The implementations of ECE that are installed, by name."""
    rows = {"ece": ece, "loop over bins": looped_ece}
    try:
        from torchmetrics.functional.classification import multiclass_calibration_error
    except ImportError:
        print("torchmetrics: not installed, left out")
        return rows

    def by_torchmetrics(logits: torch.Tensor, labels: torch.Tensor) -> float:
        K = logits.shape[1]
        return float(multiclass_calibration_error(logits, labels, num_classes=K, n_bins=15))

    return rows | {"torchmetrics": by_torchmetrics}


def in_turns(rows: dict, given: tuple, rounds: int) -> dict[str, dict]:
    """Seconds, ratio to the first row and value of every row, after a round that does not count."""
    seconds, values = {name: [] for name in rows}, {}
    for number in range(rounds + 1):
        for name, row in rows.items():
            start = time.perf_counter()
            values[name] = row(*given)
            if number:
                seconds[name].append(time.perf_counter() - start)
    base = min(seconds[next(iter(rows))])
    return {
        name: {
            "seconds": min(took),
            "median": statistics.median(took),
            "ratio": min(took) / base,
            "value": values[name],
        }
        for name, took in seconds.items()
    }


def _high_water() -> float:
    """The largest resident memory of this process since it was last reset, in MiB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def peak(case_name: str, row: str) -> float:
    """MiB beyond the features at the peak of a row."""
    given = made(CASES[case_name])
    # a first call makes the libraries' own buffers
    ROWS[row](torch.randn(30, 8), torch.arange(30) % 3, torch.randn(3, 8), torch.zeros(3))
    Path("/proc/self/clear_refs").write_text("5")
    before = _high_water()
    ROWS[row](*given)
    return _high_water() - before


def memory(case_name: str, row: str) -> float | None:
    """`peak` in a process of its own; None where the system does not report it."""
    if not Path("/proc/self/clear_refs").exists():
        return None
    asked = [sys.executable, __file__, "--peak", case_name, row]
    return float(subprocess.run(asked, stdout=subprocess.PIPE, text=True, check=True).stdout)


def main() -> None:
    """Measure the chosen cases, print a table, write it with hardware and versions to a file."""
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument(
        "--rounds", type=int, default=5, help="times that every row is run (default 5)"
    )
    command.add_argument(
        "--only",
        nargs="+",
        choices=[*CASES, "ece"],
        default=[*CASES, "ece"],
        help="cases to measure",
    )
    command.add_argument(
        "--output",
        type=Path,
        default=files.outputs_root() / "benchmarks" / "metrics.json",
        help="where the table goes",
    )
    command.add_argument("--peak", nargs=2, metavar=("CASE", "ROW"), help=argparse.SUPPRESS)
    given = command.parse_args()
    if given.peak:
        print(peak(*given.peak))
        return
    report = []
    for name in given.only:
        if name == "ece":
            torch.manual_seed(0)
            found = in_turns(
                ece_rows(),
                (3 * torch.randn(50_000, 100), torch.randint(100, (50_000,))),
                given.rounds,
            )
        else:
            case = CASES[name]
            found = in_turns(ROWS, made(case), given.rounds)
            for row in found:
                found[row]["memory_mib"] = memory(name, row)
        print(f"\n{name}" + ("" if name == "ece" else f": {CASES[name]}"))
        for row, measured in found.items():
            words = f"{measured['seconds']:>9.3f} s (median {measured['median']:.3f})"
            words += f"  {measured['ratio']:>6.1f} x"
            if measured.get("memory_mib") is not None:
                words += f"  {measured['memory_mib']:>5.0f} MiB"
            print(f"  {row:<15}{words}  value {measured['value']:.9g}", flush=True)
            report.append({"case": name, "row": row, **measured})
    text = json.dumps(
        {
            "rows": report,
            "rounds": given.rounds,
            "device": "cpu",
            "threads": torch.get_num_threads(),
        }
        | {"provenance": provenance.describe()},
        indent=1,
    )
    files.write_whole(given.output, lambda path: path.write_text(text))
    print(f"\nwritten to {given.output}")


if __name__ == "__main__":
    main()
