"""How often the intervals of `lsnc_core.metrics.intervals` hold the population's value.

    .venv/bin/python benchmarks/metric_coverage.py [--sets N] [--output FILE]

Features are class means plus noise, normal or of Student's t with 5 degrees of freedom, whose
covariance differs between classes and directions; logits are linear in them. So the collapse
metrics of the population follow from its means and covariances, and its accuracy and calibration
from a million logits. The accuracies of nearest class means are those of each set's own means for
fifty thousand new samples. Cases "ETF" have class means near a simplex ETF and a classifier
near them, at given true values of NC2 and NC3. "difference" rows compare two models on the same
samples whose noise correlates.

A row gives, for one metric, the share of intervals that hold the truth with its binomial error,
their mean length, the shares that lie wholly below and above the truth, and the share that is
one-sided; and the bias of the metric itself and of the corrected estimate, in standard deviations
of the estimate. Two bootstraps of 200 resamples within classes stand beside them.
"""

import argparse
import dataclasses
import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from scipy.optimize import brentq

from lsnc_core import files, provenance
from lsnc_core.metrics import Statistics, Values, calibration_scores, collapse_values
from lsnc_core.metrics.collapse import collapse_values_of_many
from lsnc_core.metrics.intervals import (
    MetricInterval,
    Samples,
    compare_intervals,
    metric_intervals,
)
from lsnc_core.metrics.statistics import span_of_means

COLLAPSE = (
    *("nc1_trace", "nc1_quotient", "nc1_cdnv", "nc2_means", "nc2_means_equinorm"),
    *("nc2_means_equiangular", "nc3_product", "nc3_distance", "means_norm"),
)
SCORES = ("accuracy", "nll", "brier", "ece_15", "adaptive_ece_15", "classwise_ece_15")
NEAREST = ("ncc_accuracy", "nc4_agreement")
ALL = COLLAPSE + SCORES + NEAREST
NEAR_ETF = COLLAPSE[3:8]
COMPARED = ("nc1_trace", "nc2_means", "nc3_product", "nc3_distance", "accuracy", "nll", "ece_15")
LOGITS, NEW = 1_000_000, 50_000
RESAMPLES = 200


@dataclass(frozen=True, eq=False)
class Population:
    """Class means (K, D), factors (K, D, q) and deviations (K, D) of the noise, W (K, D), tails."""

    means: torch.Tensor
    factors: torch.Tensor
    deviations: torch.Tensor
    W: torch.Tensor
    heavy: bool = False

    def noise(self, y: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Noise of samples of the labels y, float64 (N, D)."""
        q = self.factors.shape[2]
        normal = normals(len(y), q + self.means.shape[1], generator)
        noise = normal[:, q:] * self.deviations[y]
        for k in y.unique():
            noise[y == k] += normal[y == k, :q] @ self.factors[k].T
        return noise * self.tails(len(y), generator)

    def tails(self, N: int, generator: torch.Generator) -> torch.Tensor | float:
        """Factors (N, 1) that make normal noise one of t(5) of the same covariance."""
        if not self.heavy:
            return 1.0
        return (3 / normals(N, 5, generator).square().sum(1, keepdim=True)).sqrt()

    def statistics(self, counts: torch.Tensor) -> Statistics:
        """The population's statistics with class shares as those of counts."""
        covariances = self.factors @ self.factors.mT + torch.diag_embed(self.deviations.square())
        within = (counts[:, None, None] * covariances).sum(0) / counts.sum()
        basis = span_of_means(self.means)
        traces = covariances.diagonal(dim1=1, dim2=2).sum(1)
        return Statistics(counts, self.means, basis, basis.T @ within @ basis, traces)

    def logits(self, y: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Logits of samples of the labels y, float64 (N, K), without their features."""
        K, q = len(self.W), self.factors.shape[2]
        normal = normals(len(y), q + K, generator)
        logits = torch.empty(len(y), K, dtype=torch.float64)
        for k in y.unique():
            scaled = self.W * self.deviations[k]
            root = torch.linalg.cholesky(scaled @ scaled.T)
            mixing = torch.cat([self.W @ self.factors[k], root], 1)  # (K, q + K)
            logits[y == k] = normal[y == k] @ mixing.T
        return logits * self.tails(len(y), generator) + (self.means @ self.W.T)[y]

    def truth(self, counts: torch.Tensor, scores: bool) -> Values:
        """The population's metrics by name, with class shares as those of counts."""
        values = collapse_values(self.statistics(counts), self.W)
        if scores:
            y = labels_of(counts * LOGITS // counts.sum())
            logits = self.logits(y, torch.Generator().manual_seed(1))
            values |= calibration_scores(logits, y)
            values["accuracy"] = float((logits.argmax(1) == y).double().mean())
        return values


def normals(rows: int, columns: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(rows, columns, generator=generator).double()


def labels_of(counts: torch.Tensor) -> torch.Tensor:
    return torch.arange(len(counts)).repeat_interleave(counts)


def clouds(K: int, D: int, heavy: bool = False, seed: int = 0) -> Population:
    """Random class means, and noise about as large, part of it between the class means.

    Its covariance differs between classes and directions. The accuracy is .85 to .9.
    """
    generator = torch.Generator().manual_seed(seed)
    means = normals(K, D, generator) / math.sqrt(D)
    sizes = 0.7 + 0.6 * torch.rand(K, 1, generator=generator).double()
    mixing = normals(K * 4, K, generator).reshape(K, 4, K) * sizes[:, :, None] / math.sqrt(6 * K)
    deviations = sizes * (0.5 + torch.rand(K, D, generator=generator).double()) / math.sqrt(D)
    W = 5 * (means + 0.5 * normals(K, D, generator) / math.sqrt(D))
    return Population(means, (mixing @ means).mT, deviations, W, heavy)


def near_etf(target: float, K: int = 10, D: int = 64) -> Population:
    """Class means at nc2_means = target, and W at nc3_distance = target."""
    base, generator = clouds(K, D), torch.Generator().manual_seed(2)
    rotation = torch.linalg.qr(normals(D, K, generator)).Q.T  # (K, D)
    etf = (rotation - rotation.mean(0)) * math.sqrt(K / (K - 1))
    one = normals(K, 1, generator) @ normals(1, D, generator) / math.sqrt(D)
    other = normals(K, D, generator) / math.sqrt(D)
    counts = torch.full((K,), 1)

    def at(x: float, y: float) -> Population:
        means = etf + x * one
        centred = means - means.mean(0)
        return dataclasses.replace(base, means=means, W=4 * (centred + y * other))

    def distance(name: str, population: Population) -> float:
        return collapse_values(population.statistics(counts), population.W)[name] - target

    x = y = 0.0
    if target:
        x = brentq(lambda x: distance("nc2_means", at(x, 0.0)), 0, 3)
        y = brentq(lambda y: distance("nc3_distance", at(x, y)), 0, 3)
    return at(x, y)


def observed(population: Population, y: torch.Tensor, noise: torch.Tensor) -> Samples:
    features = (population.means[y] + noise).float()
    W = population.W.float()
    return Samples(features, features @ W.T, y, W)


def row(
    case: str, name: str, n: int, truths: list[float], found: list[MetricInterval], **more: str
) -> dict:
    """Coverage, length and bias of one metric's intervals."""
    truth = torch.tensor(truths, dtype=torch.float64)
    kept = torch.tensor([interval.low is not None for interval in found])
    truth, ends = truth[kept], []
    for each in found:
        if each.low is not None:
            ends.append([each.value, each.estimate, each.low, each.high])
    table = torch.tensor(ends, dtype=torch.float64)
    value, estimate, low, high = table.T
    covered = float(((low <= truth) & (truth <= high)).double().mean())
    spread = (estimate - truth).std()
    return {
        "case": case,
        "n": n,
        "metric": name,
        "interval": "jackknife",
        "truth": float(truth.mean()),
        "sets": len(found),
        "covered": covered,
        "refused": 1 - len(ends) / len(found),
        "error": math.sqrt(covered * (1 - covered) / len(ends)),
        "length": float((high - low).mean()),
        "below": float((high < truth).double().mean()),
        "above": float((low > truth).double().mean()),
        "one_sided": float((low == 0).double().mean()),
        "spread": float(spread),
        "bias_of_value": float((value - truth).mean() / spread),
        "bias_of_estimate": float((estimate - truth).mean() / spread),
    } | more


def interval_rows(
    case: str,
    population: Population,
    counts: torch.Tensor,
    names: tuple[str, ...],
    sets: int,
    truth: dict[str, float] | None = None,
) -> Iterator[dict]:
    """Rows of one population, for data sets of `counts` samples of each class."""
    y = labels_of(counts)
    generator = torch.Generator().manual_seed(3)
    truth = dict(truth or population.truth(counts, scores="accuracy" in names))
    if "ncc_accuracy" in names:
        new_y = labels_of(counts * NEW // counts.sum())
        new = observed(population, new_y, population.noise(new_y, generator))
        chosen = new.logits.argmax(1)
    found: dict[str, list[MetricInterval]] = {name: [] for name in names}
    truths: dict[str, list[float]] = {name: [] for name in names}
    for number in range(sets):
        samples = observed(population, y, population.noise(y, generator))
        if "ncc_accuracy" in names:
            means = torch.zeros(population.W.shape).index_add_(0, y, samples.features)
            means = means / counts[:, None]
            pull = new.features @ means.T - means.square().sum(1) / 2
            nearest = pull.argmax(1)
            truth["ncc_accuracy"] = float((nearest == new_y).double().mean())
            truth["nc4_agreement"] = float((nearest == chosen).double().mean())
        intervals = metric_intervals(samples, seed=number, names=names)
        for name in names:
            found[name].append(intervals[name])
            truths[name].append(truth[name])
    for name in names:
        yield row(case, name, round(float(counts.double().mean())), truths[name], found[name])


def difference_rows(n: int, sets: int) -> Iterator[dict]:
    """Rows of differences between two populations whose noise has correlation .8."""
    one, other = clouds(10, 64), clouds(10, 64, seed=10)
    other = dataclasses.replace(one, means=0.9 * one.means + 0.1 * other.means, W=0.9 * one.W)
    counts = torch.full((10,), n)
    y = labels_of(counts)
    generator = torch.Generator().manual_seed(4)
    truths = [population.truth(counts, scores=True) for population in (one, other)]
    found: dict[str, list[MetricInterval]] = {name: [] for name in COMPARED}
    for number in range(sets):
        noise = one.noise(y, generator)
        second = 0.8 * noise + 0.6 * one.noise(y, generator)
        a, b = observed(one, y, noise), observed(other, y, second)
        for name, interval in compare_intervals(a, b, seed=number, names=COMPARED).items():
            found[name].append(interval)
    for name in COMPARED:
        truth = truths[1][name] - truths[0][name]
        yield row("difference, K = 10, D = 64", name, n, [truth] * sets, found[name])


def bootstrap_values(features: torch.Tensor, W: torch.Tensor, seed: int) -> dict[str, torch.Tensor]:
    """Collapse metrics of resamples within classes: first of the samples, float64 (1 + RESAMPLES,).

    Args: features, (K, n, D), n samples of each class; W, (K, D).
    """
    K, n, _ = features.shape
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(n, (RESAMPLES, K, n), generator=generator)
    drawn = torch.cat([torch.arange(n).expand(1, K, n), drawn])
    resamples = features.double()[torch.arange(K)[:, None], drawn]  # (1 + RESAMPLES, K, n, D)
    means = resamples.mean(2)
    deviations = (resamples - means[:, :, None]).flatten(1, 2)
    basis = span_of_means(means)
    inside = deviations @ basis
    squares = deviations.square().sum(2).reshape(-1, K, n).mean(2)
    counts = torch.full((1 + RESAMPLES, K), n)
    statistics = Statistics(counts, means, basis, inside.mT @ inside / (K * n), squares)
    rows = collapse_values_of_many(statistics, W.double().expand(1 + RESAMPLES, -1, -1))
    names = ("nc1_trace", "nc2_means", "nc3_distance")
    columns = {}
    for name in names:
        columns[name] = torch.tensor([values[name] for values in rows], dtype=torch.float64)
    return columns


def bootstrap_rows(case: str, population: Population, n: int, sets: int) -> Iterator[dict]:
    """Rows of the percentile and the basic bootstrap."""
    K, D = population.means.shape
    counts = torch.full((K,), n)
    y, truth = labels_of(counts), population.truth(counts, scores=False)
    generator = torch.Generator().manual_seed(3)
    found: dict[tuple[str, str], list[MetricInterval]] = {}
    for number in range(sets):
        samples = observed(population, y, population.noise(y, generator))
        features = samples.features.reshape(K, n, D)
        for name, values in bootstrap_values(features, population.W, number).items():
            value, resampled = float(values[0]), values[1:]
            low, high = resampled.quantile(torch.tensor([0.025, 0.975]).to(values)).tolist()
            ends = {"percentile": (low, high), "basic": (2 * value - high, 2 * value - low)}
            estimate = 2 * value - float(resampled.mean())
            for kind, (left, right) in ends.items():
                interval = MetricInterval(value, estimate, left, right)
                found.setdefault((name, kind), []).append(interval)
    for (name, kind), intervals in found.items():
        yield row(case, name, n, [truth[name]] * sets, intervals, interval=f"{kind} bootstrap")


def parts(sets: int) -> Iterator[Iterator[dict]]:
    """All rows, case by case; what takes long has fewer sets."""
    fewer = sets * 2 // 5
    cases = {
        "K = 10, D = 64": (clouds(10, 64), sets),
        "K = 10, D = 64, t(5)": (clouds(10, 64, heavy=True), sets),
        "K = 3, D = 64": (clouds(3, 64), sets),
        "K = 10, D = 512": (clouds(10, 512), fewer),
    }
    for case, (population, at_500) in cases.items():
        counts = torch.full((len(population.means),), 50)
        truth = population.truth(counts, scores=True)
        yield interval_rows(case, population, 10 * counts, ALL, at_500, truth)
        yield interval_rows(case, population, counts, ALL, sets, truth)
    case, population = "K = 10, D = 64", clouds(10, 64)
    unequal = torch.tensor([20, 30, 45, 65, 95, 140, 200, 300, 450, 655])
    yield interval_rows(f"{case}, unequal", population, unequal, ALL, sets)
    yield interval_rows(case, population, torch.full((10,), 20), COLLAPSE, sets)
    yield bootstrap_rows(case, population, 50, fewer)
    yield bootstrap_rows("ETF, at 0", near_etf(0.0), 50, fewer)
    for n, target in itertools.product((50, 500), (0.0, 0.01, 0.03, 0.1)):
        counts = torch.full((10,), n)
        yield interval_rows(f"ETF, at {target:g}", near_etf(target), counts, NEAR_ETF, fewer)
    for n in (50, 500):
        yield difference_rows(n, fewer)


def main() -> None:
    """Simulate, print a table, write it with the hardware and versions to a file."""
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument(
        "--sets",
        type=int,
        default=500,
        help="data sets of a case (default 500); 2/5 of them where they take long",
    )
    command.add_argument(
        "--output",
        type=Path,
        default=files.outputs_root() / "benchmarks" / "metric_coverage.json",
        help="where the table goes",
    )
    given = command.parse_args()
    rows = []
    for part in parts(given.sets):
        for found in part:
            print(
                f"{found['case']:<28} n {found['n']:>3} {found['metric']:<22} "
                f"{found['interval']:<20}: {found['covered']:.3f} ± {found['error']:.3f}, "
                f"truth {found['truth']:.4f}, length {found['length']:.4f}, below "
                f"{found['below']:.3f}, above {found['above']:.3f}, one-sided "
                f"{found['one_sided']:.2f}, bias {found['bias_of_value']:+.2f} to "
                f"{found['bias_of_estimate']:+.2f} sd",
                flush=True,
            )
            # JSON has no NaN
            rows.append({key: None if value != value else value for key, value in found.items()})
        text = json.dumps({"rows": rows, "provenance": provenance.describe()}, indent=1)
        files.write_whole(given.output, lambda path, text=text: path.write_text(text))
    print(f"written to {given.output}")


if __name__ == "__main__":
    main()
