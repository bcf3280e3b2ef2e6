"""What a claim is, how it is decided, and the statistics that decide it.

A claim is one sentence of a paper, in our words, with the number or direction to expect. A verdict
sets what was measured beside it. An interval wholly on the claimed side means "holds"; wholly on
the other side, "does not hold"; anything else is "not decidable here". Intervals are 95 %; they
need four seeds or more and cover weights and label noise, not the batch order.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lsnc_core.errors import UsageError

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "not decidable here"
OUTCOMES = (HOLDS, FAILS, UNDECIDED)
OURS = "this companion"  # the `paper` of a claim that none of the three makes
NOT_TRAINED = (
    "not trained in this profile"  # how an open verdict begins that nothing was measured for
)
LEVEL = 0.95
MIN_SEEDS = 4


@dataclass(frozen=True)
class Claim:
    """One checkable sentence of a paper: id (ours), where it stands, the sentence, what to expect
    if it is true.
    """

    id: str
    paper: str
    place: str
    sentence: str
    expected: str


@dataclass(frozen=True)
class Case:
    """One of several cases that a claim was tried in: its name, what was measured, and the outcome,
    one of `OUTCOMES`.
    """

    name: str
    measured: str
    outcome: str

    def __post_init__(self):
        _check_outcome(self.outcome)


@dataclass(frozen=True)
class Verdict:
    """The computed answer to a claim: what it was tried on, what was measured, the outcome, and its
    cases where there are several.
    """

    claim: Claim
    tried_on: str
    measured: str
    outcome: str
    cases: tuple[Case, ...] = ()

    def __post_init__(self):
        _check_outcome(self.outcome)


def _check_outcome(outcome: str) -> None:
    if outcome not in OUTCOMES:
        raise UsageError(f"an outcome must be one of {', '.join(OUTCOMES)}, got {outcome!r}.")


def over_cases(
    claim: Claim, tried_on: str, cases: Sequence[Case], remark: str = "", decider: str = ""
) -> Verdict:
    """The verdict on a claim about several cases at once; an open one says what would decide it
    (`decider`).

    >>> cases = [Case("a = 0.5", "", HOLDS), Case("a = 0.8", "", FAILS), Case("a = 0.9", "", HOLDS)]
    >>> over_cases(None, "digits", cases).measured
    'holds at a = 0.5, 0.9; does not hold at a = 0.8'
    >>> over_cases(None, "digits", [Case("formula", "", HOLDS)]).measured
    'holds at formula'
    """
    outcome = every([case.outcome for case in cases])
    said = []
    for each in OUTCOMES:
        names = [case.name for case in cases if case.outcome == each]
        shared = "".join(names[0].rpartition(" ")[:2]) if names else ""
        if names:
            said.append(
                f"{each} at {shared}{', '.join(name.removeprefix(shared) for name in names)}"
            )
    said += [
        part
        for part in (
            remark,
            f"what would decide it: {decider}" if outcome == UNDECIDED and decider else "",
        )
        if part
    ]
    return Verdict(claim, tried_on, "; ".join(said), outcome, tuple(cases))


def t_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and 95 % Student interval of independent values, one a seed.

    Args:
        values: float (seeds,), at least two, finite.

    Returns:
        mean, low, high in the values' unit.

    Raises:
        UsageError: for fewer than two values or a value that is not finite.

    >>> [round(x, 3) for x in t_interval([1.0, 2.0, 3.0, 4.0])]
    [2.5, 0.446, 4.554]
    """
    from scipy import stats

    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise UsageError(f"an interval needs two or more finite values, got {values.tolist()}.")
    half = stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


def parabola_argmin(x: np.ndarray, y: np.ndarray) -> float:
    """Where a curve is lowest: the vertex of the parabola through its lowest grid point and that
    point's two neighbours.

    Args:
        x: float (points,), increasing.
        y: float (points,), finite.

    Returns:
        The vertex, between the two neighbours; the grid point itself when the lowest is the first
        or the last, or next to a point at infinity.

    >>> round(parabola_argmin(np.array([0.0, 1.0, 3.0]), np.array([4.0, 1.0, 1.0])), 6)
    2.0
    """
    lowest = int(np.argmin(y))
    if lowest in (0, len(x) - 1):
        return float(x[lowest])
    left, here, right = x[lowest - 1 : lowest + 2]
    if not (np.isfinite(left) and np.isfinite(right)):
        return float(here)
    rise_left, rise_right = (
        (y[lowest - 1] - y[lowest]) / (here - left),
        (y[lowest + 1] - y[lowest]) / (right - here),
    )
    if rise_left + rise_right == 0:  # three equal values: no curvature to go by
        return float(here)
    # the parabola's slope is linear between the two midpoints, from -rise_left to rise_right
    middle_left, middle_right = (left + here) / 2, (here + right) / 2
    return float(middle_left + (middle_right - middle_left) * rise_left / (rise_left + rise_right))


def argmin_interval(x: Sequence[float], curves: np.ndarray) -> tuple[float, float, float]:
    """Where the mean of several curves is lowest, with a 95 % percentile bootstrap interval over
    the curves.

    Every resample with replacement of up to six seeds is enumerated, so nothing is drawn; above
    six, 10,000 seeded resamples. A bootstrap of few seeds is too narrow, and a grid cannot tell
    more than its steps: the interval is widened to hold, at the least, the points half-way to both
    neighbours of the mean curve's lowest grid point; where one of the two lies at infinity, the
    neighbour itself.

    Args:
        x: float (points,), increasing, in a coordinate in which the curves are smooth; the ends may
            be infinite.
        curves: float (seeds, points), finite.

    Returns:
        argmin of the mean curve (local parabola), low, high; all in [x[0], x[-1]].

    Raises:
        UsageError: for fewer than two curves, shapes that do not fit or values that are not finite.
    """
    x, curves = np.asarray(x, dtype=float), np.asarray(curves, dtype=float)
    if (
        curves.ndim != 2
        or curves.shape[1] != len(x)
        or len(curves) < 2
        or not np.isfinite(curves).all()
    ):
        raise UsageError(
            f"an argmin interval needs two or more finite curves over {len(x)} points, got shape {curves.shape}."
        )
    seeds = len(curves)
    if seeds <= 6:
        draws = np.array(list(itertools.product(range(seeds), repeat=seeds)))
    else:
        draws = np.random.default_rng(0).integers(seeds, size=(10_000, seeds))
    lowest = [parabola_argmin(x, mean) for mean in curves[draws].mean(1)]
    # outward rounding: no arithmetic with points at infinity
    low = np.quantile(lowest, (1 - LEVEL) / 2, method="lower")
    high = np.quantile(lowest, (1 + LEVEL) / 2, method="higher")
    best = int(np.argmin(curves.mean(0)))
    neighbours = x[max(best - 1, 0)], x[min(best + 1, len(x) - 1)]
    cell = [
        middle if np.isfinite(middle := (x[best] + other) / 2) else other for other in neighbours
    ]
    return parabola_argmin(x, curves.mean(0)), float(min(low, cell[0])), float(max(high, cell[1]))


def decide(low: float, high: float, at_least: float = -np.inf, at_most: float = np.inf) -> str:
    """The outcome for an interval [low, high] when the claim is that the value lies in [at_least,
    at_most].

    >>> decide(0.7, 0.8, 0.6, 0.9), decide(0.95, 1.0, 0.6, 0.9), decide(0.85, 0.95, 0.6, 0.9)
    ('holds', 'does not hold', 'not decidable here')
    """
    if low >= at_least and high <= at_most:
        return HOLDS
    return FAILS if high < at_least or low > at_most else UNDECIDED


def every(outcomes: Sequence[str]) -> str:
    """The outcome of a claim about several cases at once: it fails when one fails, holds when all
    hold; of no cases nothing is decided.

    >>> every(["holds", "not decidable here"]), every(["holds", "does not hold"]), every([])
    ('not decidable here', 'does not hold', 'not decidable here')
    """
    if FAILS in outcomes:
        return FAILS
    return HOLDS if outcomes and set(outcomes) == {HOLDS} else UNDECIDED
