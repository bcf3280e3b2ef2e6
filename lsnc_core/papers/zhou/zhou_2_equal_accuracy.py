"""Zhou et al. 2022: the claims about deep networks under four losses, Z-C1 to Z-C5, and their
verdicts from `zhou_deep_tables`.
"""

import itertools
from dataclasses import dataclass

import numpy as np

from lsnc_core.data_sources import source_of
from lsnc_core.papers import claims
from lsnc_core.papers.claims import FAILS, HOLDS, UNDECIDED, Case, Claim, Verdict
from lsnc_core.papers.zhou import PAPER
from lsnc_core.papers.zhou_deep import LOSSES
from lsnc_core.papers.zhou_deep_tables import METRICS

# The claims' thresholds, fixed before the first run.
FITTED = (
    99.9  # percent of the training images: collapse is claimed of networks that have fitted them
)
COLLAPSED = 0.1  # of a metric's value after E/100 epochs
GRAM_TOLERANCE = 0.2  # distance of Gram matrices of Frobenius norm 1
EQUAL = 0.5  # points of test accuracy
PAPER_STEPS = 800 * 450  # 45,000 images in batches of 100
MIN_CELLS = 6  # of a grid, for an interval of a rank correlation

_CLAIMS = (
    (
        "Z-C1",
        "experiments, NC metrics against epochs",
        "With a wide network trained for long, every loss reaches neural collapse on the training data.",
        f"NC1, NC2 and NC3 each end below {COLLAPSED:.0%} of their value after E/100 epochs, for all four losses",
    ),
    (
        "Z-C2",
        "abstract and theorem on global optimality",
        "The last-layer features are equivalent across losses: class means form the same simplex up to rotation and scale.",
        f"distances between the Gram matrices of the class means, at Frobenius norm 1, and to the simplex's all below {GRAM_TOLERANCE:g}",
    ),
    (
        "Z-C3",
        "abstract; experiments on width and epochs",
        "The test accuracies of the four losses become equal as width and epochs grow.",
        f"the spread over losses (highest minus lowest mean over seeds) falls from the smallest, shortest to the widest, longest training, "
        f"to at most {EQUAL:g} point",
    ),
    (
        "Z-C4",
        "experiments on width and epochs",
        "Small or briefly trained networks do differ in test accuracy between losses.",
        "the spread over losses (highest minus lowest mean over seeds) at the smallest width and fewest epochs is above 0",
    ),
    (
        "Z-C5",
        "experiments, heat map of variances",
        "The variance of test accuracy over losses and seeds falls along width and epochs.",
        "rank correlation of a cell's variance with log width + log epochs below 0",
    ),
)
CLAIMS = {
    name: Claim(name, PAPER, place, sentence, expected)
    for name, place, sentence, expected in _CLAIMS
}


@dataclass(frozen=True)
class Spread:
    """Range over losses of the mean over seeds, its error (standard, of the difference of two
    means), and interval; in points.

    chance: how often losses without any difference spread over more than 2 errors, in [0, 1].
    """

    value: float
    error: float
    low: float
    high: float
    chance: float

    def __str__(self) -> str:
        errors = f"2 standard errors {2 * self.error:.2f} (exceeded by equal losses in {self.chance:.0%} of trials)"
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}] points, {errors}"


def spread(values: np.ndarray, level: float = claims.LEVEL) -> Spread:
    """Range over losses of the mean over seeds, with seeds as blocks.

    Formula: s^2 the variance left when means of losses and of seeds are taken out, at f = (seeds -
    1)(losses - 1) degrees of freedom; error = s sqrt(2 / seeds). The interval is Tukey's, for the
    best and the worst were picked after the fact: all differences of two means lie within q s /
    sqrt(seeds) of the true ones at once, q the quantile of the studentised range. chance = P(range
    > 2 sqrt(2)) of the
    same distribution. Args: values, float (seeds, losses), at least 2 x 2, finite; level, of the
    interval.

    >>> print(spread(np.array([[1.0, 2.0], [1.0, 2.2], [1.4, 2.3]])))  # two losses: P(|t| > 2) at 2 degrees of freedom
    1.03 [0.65, 1.41] points, 2 standard errors 0.18 (exceeded by equal losses in 18% of trials)
    """
    from scipy import stats

    seeds, losses = values.shape
    means = values.mean(0)
    left = values - values.mean(1, keepdims=True) - means + values.mean()
    freedom = (seeds - 1) * (losses - 1)
    s = np.sqrt((left**2).sum() / freedom)
    half = stats.studentized_range.ppf(level, losses, freedom) * s / np.sqrt(seeds)
    value = np.ptp(means)
    chance = stats.studentized_range.sf(2 * np.sqrt(2), losses, freedom)
    return Spread(
        float(value),
        float(s * np.sqrt(2 / seeds)),
        float(max(value - half, 0)),
        float(value + half),
        float(chance),
    )


def rank_interval(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Spearman's rank correlation with a 95 % interval: normal in atanh, standard error sqrt((1 +
    r^2/2)/(n - 3)) (Bonett, Wright 2000).

    Args: x, y, float (n,), n > 3, neither constant. Returns: r, low, high in [-1, 1].

    >>> [round(value, 3) for value in rank_interval(np.arange(9), np.array([9, 8, 7, 5, 6, 4, 1, 3, 2]))]
    [-0.933, -0.99, -0.62]
    """
    from scipy import stats

    r = float(stats.spearmanr(x, y).statistic)
    half = stats.norm.ppf((1 + claims.LEVEL) / 2) * np.sqrt((1 + r * r / 2) / (len(x) - 3))
    middle = np.arctanh(np.clip(r, -1 + 1e-15, 1 - 1e-15))
    return r, float(np.tanh(middle - half)), float(np.tanh(middle + half))


def verdict_z1(table) -> Verdict:
    """Z-C1 from `collapse_table`: a case for each metric and loss, its last value by its first,
    ratios on the log scale.
    """
    cases = []
    ends = table[table.epoch == table.epochs].set_index(["loss", "seed"])
    starts = table[table.epoch == table.epoch.min()].set_index(["loss", "seed"])
    highest = table.groupby(["loss", "seed"])[list(METRICS)].max()
    for metric, loss in itertools.product(METRICS[:3], LOSSES):
        ratios = (ends[metric] / starts[metric])[loss]
        name = f"metric {metric}({loss})"
        if len(ratios) < claims.MIN_SEEDS or not (np.isfinite(ratios) & (ratios > 0)).all():
            cases.append(
                Case(name, "no interval: too few seeds, or a network has diverged", UNDECIDED)
            )
            continue
        ratio, low, high = np.exp(claims.t_interval(np.log(ratios)))
        said = f"ends at {ends[metric][loss].mean():.2g}, {ratio:.1%} [{low:.1%}, {high:.1%}] of its first value, "
        said += f"{(ends[metric] / highest[metric])[loss].mean():.1%} of its highest"
        fitted = ends.train_accuracy[loss].min() >= FITTED
        outcome = claims.decide(low, high, at_most=COLLAPSED) if fitted else UNDECIDED
        cases.append(Case(name, said + ("" if fitted else ", training images not fitted"), outcome))
    remark = f"training accuracy at least {ends.train_accuracy.min():.1f} % after {table.steps.iloc[0]:,} steps, the paper's {PAPER_STEPS:,}"
    return claims.over_cases(
        CLAIMS["Z-C1"],
        _where(table),
        cases,
        remark,
        f"{claims.MIN_SEEDS} seeds; a wider network, more epochs",
    )


def verdict_z2(distances, table) -> Verdict:
    """Z-C2 from `gram_distances`, a case for each pair, simplex included; `collapse_table` says
    what was tried and whether it fitted.
    """
    cases = []
    fitted = table[table.epoch == table.epochs].train_accuracy.min() >= FITTED
    apart = distances[distances["first"] != distances.second]
    for (one, other), part in apart.groupby(["first", "second"], sort=False):
        name = f"distance {one}–{other}"
        if len(part) < claims.MIN_SEEDS or not np.isfinite(part.end).all():
            cases.append(
                Case(name, "no interval: too few seeds, or a network has diverged", UNDECIDED)
            )
            continue
        mean, low, high = claims.t_interval(part.end)
        outcome = claims.decide(low, high, at_most=GRAM_TOLERANCE) if fitted else UNDECIDED
        cases.append(
            Case(
                name,
                f"{mean:.3f} [{low:.3f}, {high:.3f}], at first {part.start.mean():.3f}",
                outcome,
            )
        )
    remark = "" if fitted else "training images not fitted"
    return claims.over_cases(
        CLAIMS["Z-C2"],
        _where(table),
        cases,
        remark,
        f"{claims.MIN_SEEDS} seeds; a wider network, more epochs",
    )


def _where(table) -> str:
    cell = table.iloc[0]
    return f"{source_of(cell.data).title}, {_cell(cell.width, cell.epochs)}"


def _cell(width: float, epochs: int) -> str:
    return f"width {width:g}, {epochs} epochs"


def _corner(table, pick) -> tuple[str, np.ndarray]:
    """Name and test accuracies (seeds, losses) of the grid's first (`pick` is min) or last (max)
    cell.
    """
    width, epochs = pick(table.width), pick(table.epochs)
    part = table[(table.width == width) & (table.epochs == epochs)]
    return _cell(width, epochs), part.pivot(index="seed", columns="loss", values="test_accuracy")[
        list(LOSSES)
    ].to_numpy()


def verdict_z3(table) -> Verdict:
    """Z-C3 from `selected`: the spread in the last cell minus that in the first, and the last
    cell's.

    The change's interval is from the two spreads' own at half the error each (Bonferroni): a paired
    one would not know that the best and the worst were picked after the fact.
    """
    (small, first), (large, last) = _corner(table, min), _corner(table, max)
    where = f"{source_of(table.data.iloc[0]).title}, {large} against {small}"
    seeds = min(len(first), len(last))
    if seeds < claims.MIN_SEEDS:
        return Verdict(CLAIMS["Z-C3"], where, _too_few(seeds), UNDECIDED)
    before, after = (spread(values, (1 + claims.LEVEL) / 2) for values in (first, last))
    low, high = after.low - before.high, after.high - before.low
    said = f"{before.value:.2f} to {after.value:.2f} points, {after.value - before.value:+.2f} [{low:+.2f}, {high:+.2f}]"
    falls = Case("the spread falls", said, claims.decide(low, high, at_most=0.0))
    found = spread(last)
    at_end = Case(
        f"at most {EQUAL:g} point at {large}",
        str(found),
        claims.decide(found.low, found.high, at_most=EQUAL),
    )
    outcome = claims.every([falls.outcome, at_end.outcome])
    measured = "; ".join(
        f"{case.name}: {case.measured} ({case.outcome})" for case in (falls, at_end)
    )
    return Verdict(
        CLAIMS["Z-C3"],
        where,
        measured + _open(outcome, "more seeds, more test images"),
        outcome,
        (falls, at_end),
    )


def verdict_z4(table) -> Verdict:
    """Z-C4 from `selected`: the spread at the first cell; it fails where the interval ends below
    what counts as equal.
    """
    small, values = _corner(table, min)
    where = f"{source_of(table.data.iloc[0]).title}, {small}"
    if len(values) < claims.MIN_SEEDS:
        return Verdict(CLAIMS["Z-C4"], where, _too_few(len(values)), UNDECIDED)
    found = spread(values)
    outcome = HOLDS if found.low > 0 else FAILS if found.high <= EQUAL else UNDECIDED
    means = ", ".join(
        f"{loss} {mean:.2f}" for loss, mean in zip(LOSSES, values.mean(0), strict=True)
    )
    measured = f"spread {found}; mean test accuracies in percent: {means}"
    return Verdict(
        CLAIMS["Z-C4"], where, measured + _open(outcome, "more seeds, more test images"), outcome
    )


def verdict_z5(grid) -> Verdict:
    """Z-C5 from `cells`: rank correlation over the cells of the grid, which are its sample; seeds
    are inside each variance.
    """
    title = source_of(grid.data.iloc[0]).title
    where = f"{title}, {len(grid)} cells, width {grid.width.min():g} to {grid.width.max():g}, {grid.epochs.min()} to {grid.epochs.max()} epochs"
    ends = f"variance {grid.variance.iloc[0]:.2f} in the first, {grid.variance.iloc[-1]:.2f} points² in the last cell"
    if len(grid) < MIN_CELLS or grid.variance.nunique() < 2:
        return Verdict(
            CLAIMS["Z-C5"],
            where,
            f"{ends}; what would decide it: {MIN_CELLS} cells or more",
            UNDECIDED,
        )
    # rounded, so that rounding of the logarithms breaks no tie
    r, low, high = rank_interval(np.log(grid.width * grid.epochs).round(9), grid.variance)
    outcome = claims.decide(low, high, at_most=0.0)
    measured = f"rank correlation {r:.2f} [{low:.2f}, {high:.2f}]; {ends}"
    return Verdict(CLAIMS["Z-C5"], where, measured + _open(outcome, "a larger grid"), outcome)


def _too_few(seeds: int) -> str:
    return f"{seeds} seeds; what would decide it: {claims.MIN_SEEDS} seeds"


def _open(outcome: str, decider: str) -> str:
    return f"; what would decide it: {decider}" if outcome == UNDECIDED else ""
