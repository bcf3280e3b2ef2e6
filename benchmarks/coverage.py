"""How often each interval of `lsnc_core.claims` holds the truth, with noise as measured.

    .venv/bin/python benchmarks/coverage.py [--sets N] [--output FILE]

Data sets are simulated whose truth is known: a mean curve over the kept mass p, and normal noise
between seeds. The noise has, at each clean rate a, the standard deviations over p of the recorded
landscapes of MNIST and CIFAR-10 (500 images, four seeds), and one correlation over p for all rates.
The mean curve is Chen's formula, or the measured one, smoothed. Variance
components and rank correlations are simulated alike, see their functions.

A row gives, for one interval, case, number of seeds and level, the share of intervals that hold the
truth with its binomial error, their mean length, and the shares that lie wholly below and above the
truth: false decisions, if a claim's limit lies at the truth. `open` is the share without a
decision: no interval. The levels are those of one case, and of the first of four and of eight cases
by Holm.

Two bootstraps stand beside the interval of a minimum, widened to the grid as it is: the plain
percentile interval, which was used before, and Hesterberg's expanded one (2015, The American
Statistician 69(4)), which the interval holds.
"""

import argparse
import functools
import itertools
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from lsnc_core import claims, files, provenance
from lsnc_core.claims.intervals import Cells
from lsnc_core.papers.chen.accuracy_claims import C8_RATIO
from lsnc_core.papers.chen.grid import LEARNS_FROM
from lsnc_core.papers.chen.minima import argmin_differences, argmin_slope, loss_cells
from lsnc_core.theory import label_noise

LEVELS = (0.95, 1 - 0.05 / 4, 1 - 0.05 / 8)
SEEDS = (4, 8)
M = 10
TENTHS = np.arange(1, 11) / 10
IMAGES = {"test_loss": "held-out images", "clean_train_loss": "training images"}
RECORDED = files.PROJECT / "outputs" / "recorded"
LANDSCAPES = {
    "MNIST": RECORDED / "quick" / "chen-figure-5.csv",
    "CIFAR-10": RECORDED / "quick-cifar10" / "chen-figure-9.csv",
}
BETA = RECORDED / "quick-cifar10" / "chen-beta-minima.csv"
RATES = {"MNIST": (0.3, 0.5, 0.7, 0.8, 0.9, 0.95), "CIFAR-10": (0.5, 0.8, 0.95)}
FINE = np.linspace(LEARNS_FROM, 0.99, 7901)

Interval = tuple[float, float, float]


class Landscape:
    """Columns of a recorded landscape: mean curves over p and the noise between seeds.

    Attributes:
        kept: float (points,), the grid of p.
        means, deviations: by clean rate, float (columns, points).
    """

    def __init__(self, path: Path, columns: tuple[str, ...]):
        table = pd.read_csv(path)
        self.means, self.deviations, residuals = {}, {}, []
        for a, part in table.groupby("a"):
            curves = []
            for column in columns:
                curves.append(part.pivot(index="seed", columns="p", values=column))
            self.kept = curves[0].columns.to_numpy(dtype=float)
            values = np.stack(curves, axis=1)  # (seeds, columns, points)
            self.means[a], self.deviations[a] = values.mean(0), values.std(0, ddof=1)
            spread = np.where(self.deviations[a] > 0, self.deviations[a], 1)
            residuals.append((values - values.mean(0)) / spread)
        standard = np.concatenate(residuals).reshape(-1, values[0].size)
        # one correlation for all rates: four seeds of one rate have but three degrees of freedom
        freedom = len(standard) * (1 - 1 / len(values))
        eigenvalues, vectors = np.linalg.eigh(standard.T @ standard / freedom)
        self.mixing = vectors * np.sqrt(eigenvalues.clip(0))

    def draw(self, a: float, seeds: int, sets: int) -> np.ndarray:
        """Noise of data sets, float (sets, seeds, columns, points)."""
        generator = np.random.default_rng([sets, seeds, round(1000 * a)])
        shape = self.deviations[a].shape
        normal = generator.normal(size=(sets, seeds, math.prod(shape)))
        return (normal @ self.mixing.T).reshape(sets, seeds, *shape) * self.deviations[a]


def formula(measured: np.ndarray, kept: np.ndarray, q: float) -> tuple[np.ndarray, float]:
    """Chen's curve of agreement q and its argmin; at p = 1, where it diverges, the measured loss.

    Source: Chen eq. 11, and eq. 14 with q = a^2 + (1 - a)^2 / (M - 1).
    """
    curve = label_noise.loss("alpha", q, kept, M)
    return np.where(np.isfinite(curve), curve, measured), q


def smoothed(measured: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, float]:
    """A smooth curve near a measured mean curve, and its argmin, NaN if it is at the edge.

    The terms of Chen's formula, 1, log p and log(1 - p), with p and p^2 beside them, by least
    squares for p from `LEARNS_FROM` to below 1; elsewhere as measured.
    """
    inside = (kept >= LEARNS_FROM) & (kept < 1)
    weights = np.linalg.lstsq(_terms(kept[inside]), measured[inside])[0]
    curve = measured.copy()
    curve[inside] = _terms(kept[inside]) @ weights
    argmin = FINE[np.argmin(_terms(FINE) @ weights)]
    return curve, argmin if FINE[0] < argmin < kept[inside][-2] else math.nan


def _terms(p: np.ndarray) -> np.ndarray:
    return np.stack([np.ones_like(p), np.log(p), np.log1p(-p), p, p**2], axis=1)


@functools.cache
def resamples(seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """All distinct resamples of seeds, by how often they hold each, and their probabilities."""
    multisets = np.array(list(itertools.combinations_with_replacement(range(seeds), seeds)))
    counts = (multisets[:, :, None] == np.arange(seeds)).sum(1)
    return counts, stats.multinomial.pmf(counts, seeds, np.full(seeds, 1 / seeds))


def bootstrap(
    x: np.ndarray, curves: np.ndarray, level: float, cells: Cells, expanded: bool
) -> Interval:
    """A percentile interval over seeds of the mean curve's argmin, at least the grid's cell."""
    seeds = len(curves)
    counts, shares = resamples(seeds)
    argmins = np.array([claims.curve_argmin(x, mean, cells) for mean in counts @ curves / seeds])
    tail = (1 - level) / 2
    if expanded:
        tail = stats.norm.cdf(stats.t.ppf(tail, seeds - 1) * math.sqrt(seeds / (seeds - 1)))
    quantile = {"q": tail, "weights": shares, "method": "inverted_cdf"}
    low, high = np.quantile(argmins, **quantile), -np.quantile(-argmins, **quantile)
    mean = curves.mean(0)
    argmin = claims.curve_argmin(x, mean, cells)
    left, right = claims.grid_resolution(x, int(np.argmin(mean)), cells)
    return argmin, max(min(low, left), x[0]), min(max(high, right), x[-1])


def row(kind: str, case: str, seeds: int, level: float, intervals: list, truth: float) -> dict:
    """Coverage of the intervals of one kind; a truth of NaN makes every decision false."""
    ends = np.array(intervals, dtype=float)[:, 1:]
    closed = ends[~np.isnan(ends).any(1)]
    edge = 1e-9  # rounding, where an interval ends at the truth
    below, above = closed[:, 1] < truth - edge, closed[:, 0] > truth + edge
    covered = 1 - (below | above).mean() if len(closed) and truth == truth else math.nan
    return {
        "interval": kind,
        "case": case,
        "seeds": seeds,
        "level": level,
        "truth": truth,
        "sets": len(ends),
        "covered": covered,
        "error": math.sqrt(covered * (1 - covered) / max(len(closed), 1)),
        "length": float((closed[:, 1] - closed[:, 0]).mean()) if len(closed) else math.nan,
        "below": float(below.sum() / len(ends)),
        "above": float(above.sum() / len(ends)),
        "open": 1 - len(closed) / len(ends),
    }


def argmin_rows(sets: int) -> Iterator[dict]:
    """The minimum of the mean curve, on both kinds of images."""
    for (data, path), (column, images) in itertools.product(LANDSCAPES.items(), IMAGES.items()):
        grid = Landscape(path, (column,))
        cells = loss_cells(grid.kept)
        for a in RATES[data]:
            (mean,) = grid.means[a]
            curves = {"formula": formula(mean, grid.kept, a)}
            curves["measured"] = smoothed(mean, grid.kept)
            for (name, (curve, truth)), seeds in itertools.product(curves.items(), SEEDS):
                if np.isnan(truth):
                    continue
                case = f"{data}, {images}, a = {a:g}, {name}"
                simulated = curve + grid.draw(a, seeds, sets)[:, :, 0]
                for level in LEVELS:
                    intervals = []
                    for values in simulated:
                        intervals.append(claims.argmin_interval(grid.kept, values, level, cells))
                    yield row("argmin", case, seeds, level, intervals, truth)
                for expanded, kind in enumerate(("percentile", "expanded percentile")):
                    if seeds > min(SEEDS) or data != "MNIST":
                        continue
                    intervals = []
                    for values in simulated:
                        intervals.append(
                            bootstrap(grid.kept, values, LEVELS[0], cells, bool(expanded))
                        )
                    yield row(f"argmin, {kind}", case, seeds, LEVELS[0], intervals, truth)


def tidy(curves: dict[str, np.ndarray], kept: np.ndarray, rates: np.ndarray) -> pd.DataFrame:
    """A table of curves, float (rates, seeds, points) by column, as `papers.chen.minima` reads."""
    shape = next(iter(curves.values())).shape
    index = pd.MultiIndex.from_product([rates, range(shape[1]), kept], names=["a", "seed", "p"])
    columns = {name: values.reshape(-1) for name, values in curves.items()}
    return pd.DataFrame(columns, index=index).reset_index().assign(memorised=True)


def difference_rows(sets: int) -> Iterator[dict]:
    """Argmin against noisy labels minus that against clean ones: on the grid of p as recorded; and
    on tenths with a tenth of the noise, as of many more images.
    """
    for columns in (("test_beta", "test_loss"), ("train_beta", "clean_train_loss")):
        grid = Landscape(BETA, columns)
        for a in (0.3, 0.8, 0.95):
            agreements = a * a + (1 - a) ** 2 / (M - 1), a
            for (points, scale), name in itertools.product(
                ((grid.kept, 1.0), (TENTHS, 0.1)), ("formula", "measured")
            ):
                chosen = np.searchsorted(grid.kept, points)
                pairs = []
                for q, mean in zip(agreements, grid.means[a], strict=True):
                    if name == "formula":
                        curve, argmin = formula(mean, grid.kept, q)
                    else:
                        curve, argmin = smoothed(mean, grid.kept)
                    pairs.append((curve[chosen], argmin))
                truth = pairs[0][1] - pairs[1][1]
                if np.isnan(truth):
                    continue
                places = "recorded p" if scale == 1 else "tenths of p, a tenth of the noise"
                case = f"CIFAR-10, {IMAGES[columns[1]]}, a = {a:g}, {name}, {places}"
                curves = np.array([curve for curve, _ in pairs])
                for seeds in SEEDS:
                    noise = scale * grid.draw(a, seeds, sets)[..., chosen]
                    simulated = curves + noise  # (sets, seeds, 2, points)
                    parts = {"one": simulated[:, :, 0], "other": simulated[:, :, 1]}
                    # a data set in the place of a clean rate
                    table = tidy(parts, points, np.arange(sets))
                    few = scale == 1 and seeds == min(SEEDS)
                    for level in LEVELS if few else LEVELS[:1]:
                        found = argmin_differences(table, "one", "other", level=level)
                        intervals = found[["difference", "low", "high"]].to_numpy()
                        yield row("argmin difference", case, seeds, level, intervals, truth)


def slope_rows(sets: int) -> Iterator[dict]:
    """The slope over the clean rates of the argmin, which the formula puts at 1."""
    for column, images in IMAGES.items():
        grid = Landscape(LANDSCAPES["MNIST"], (column,))
        rates = np.array([a for a in grid.means if 0.5 <= a < 1])
        for seeds in SEEDS:
            simulated = []
            for a in rates:
                curve, _ = formula(grid.means[a][0], grid.kept, a)
                simulated.append(curve + grid.draw(a, seeds, sets)[:, :, 0])
            tables = []
            for values in np.stack(simulated, axis=1):  # (rates, seeds, points)
                tables.append(tidy({"loss": values}, grid.kept, rates))
            for level in LEVELS if seeds == min(SEEDS) else LEVELS[:1]:
                intervals = [argmin_slope(table, "loss", level) for table in tables]
                yield row("argmin slope", f"MNIST, {images}", seeds, level, intervals, 1.0)


def student_rows(sets: int) -> Iterator[dict]:
    """A paired difference of accuracies and the logarithm of a ratio of losses, p = .95 to 1."""
    quantities: dict[str, tuple[str, Callable]] = {
        "t, difference": ("test_accuracy", lambda one, other: one - other),
        "t, log ratio": ("test_loss", lambda one, other: np.log(one / other)),
    }
    for data, path in LANDSCAPES.items():
        for kind, (column, compare) in quantities.items():
            grid = Landscape(path, (column,))
            weak, plain = grid.kept.searchsorted([0.95, 1.0])
            for a, seeds in itertools.product((0.5, 0.8, 0.95), SEEDS):
                mean = grid.means[a][0]
                simulated = mean + grid.draw(a, seeds, sets)[:, :, 0]
                values = compare(simulated[..., weak], simulated[..., plain])
                truth = float(compare(mean[weak], mean[plain]))
                for level in LEVELS:
                    intervals = [claims.t_interval(pairs, level) for pairs in values]
                    yield row(kind, f"{data}, a = {a:g}", seeds, level, intervals, truth)


def rank_rows(sets: int) -> Iterator[dict]:
    """Spearman's correlation of normal pairs; `seeds` are the pairs."""
    for correlation, pairs in itertools.product((0.0, 0.5, 0.9), (9, 12)):
        generator = np.random.default_rng(pairs)
        x, error = generator.normal(size=(2, sets, pairs))
        y = correlation * x + math.sqrt(1 - correlation**2) * error
        truth = 6 / math.pi * math.asin(correlation / 2)  # Pearson 1907
        for level in LEVELS:
            intervals = [
                claims.rank_interval(one, other, level) for one, other in zip(x, y, strict=True)
            ]
            yield row("rank", f"correlation {correlation:g}", pairs, level, intervals, truth)


def component_rows(sets: int) -> Iterator[dict]:
    """The ratio of the variance components over p of the accuracy at the best and the last epoch,
    all rates below 1 together: with curves as measured, with a best epoch that does not depend on
    p, and with no dependence at all, where every decision is false.
    """
    grid = Landscape(LANDSCAPES["CIFAR-10"], ("best_accuracy", "test_accuracy"))
    rates, chosen = [a for a in grid.means if a < 1], grid.kept >= 0.2
    means = np.stack([grid.means[a][:, chosen] for a in rates], axis=1)  # (2, rates, points)
    flat = means.mean(-1, keepdims=True) + 0 * means
    curves = {
        "as measured": means,
        "best epoch flat": np.stack([flat[0], means[1]]),
        "no dependence": flat,
    }
    for (case, curve), seeds in itertools.product(curves.items(), SEEDS):
        noise = np.stack([grid.draw(a, seeds, sets)[..., chosen] for a in rates], axis=3)
        # (2, sets, rates, seeds, points)
        simulated = curve[:, None, :, None] + np.moveaxis(noise, (2, 3), (0, 2))
        best, last = curve.var(-1, ddof=1).mean(-1)
        truth = math.nan if case == "no dependence" else best / last
        for level in LEVELS:
            intervals = []
            for one, other in zip(*simulated, strict=True):
                intervals.append(claims.component_ratio_interval(one, other, level))
            found = row("component ratio", f"CIFAR-10, {case}", seeds, level, intervals, truth)
            ends = np.array(intervals)
            if case == "no dependence":
                found["below"] = float((ends[:, 2] <= C8_RATIO).mean())
                found["above"] = float((ends[:, 1] > C8_RATIO).mean())
            yield found


def main() -> None:
    """Simulate, print a table, write it with the hardware and versions to a file."""
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument(
        "--sets", type=int, default=1000, help="data sets of each case (default 1000)"
    )
    command.add_argument(
        "--output",
        type=Path,
        default=files.outputs_root() / "benchmarks" / "coverage.json",
        help="where the table goes",
    )
    given = command.parse_args()
    rows = []
    parts = student_rows, argmin_rows, difference_rows, slope_rows, rank_rows, component_rows
    for part in parts:
        for found in part(given.sets):
            rows.append(found)
            print(
                f"{found['interval']:<28} {found['case']:<78} {found['seeds']:>2} seeds "
                f"{found['level']:.4f}: {found['covered']:.3f} ± {found['error']:.3f}, "
                f"length {found['length']:.3g}, wholly below {found['below']:.3f}, "
                f"above {found['above']:.3f}, open {found['open']:.3f}",
                flush=True,
            )
    for entry in rows:  # JSON has no NaN
        entry |= {key: None for key, value in entry.items() if value != value}
    text = json.dumps({"rows": rows, "provenance": provenance.describe()}, indent=1)
    files.write_whole(given.output, lambda path: path.write_text(text))
    print(f"written to {given.output}")


if __name__ == "__main__":
    main()
