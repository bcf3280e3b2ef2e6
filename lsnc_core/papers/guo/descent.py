"""Guo et al. 2025: gradient descent of the feature model, and how soon it collapses."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lsnc_core.claims import t_interval
from lsnc_core.papers.guo import SMOOTHED
from lsnc_core.papers.guo.model import STRENGTHS, code_model, dynamics_model, model_size
from lsnc_core.theory import ufm, ufm_dynamics, ufm_objective, ufm_spectra
from lsnc_core.theory.ufm import FeatureModel, Loss

if TYPE_CHECKING:
    import pandas as pd

START = 0.3  # standard deviation of the starts' entries
OTHER_STARTS = (0.1, 1.0)  # only without smoothing and with the paper's strength
METRICS = {
    "gap": "f − min f (nats)",
    "error": "training error",
    "nc1": "NC1",
    "nc2": "NC2",
    "nc3": "NC3",
}
# when a metric counts as small, for the table of iterations
REACHED = (("gap", 1e-3), ("nc1", 1e-2), ("nc1", 1e-4), ("nc2", 0.1), ("nc3", 0.1))
NC1_LEVELS = (1.0, 1e-1, 3e-2, 1e-2, 1e-3, 1e-4, 5e-5, 1e-5, 1e-6)
MOMENTUM = 0.9
VARIANT_STARTS, VARIANT_ITERATIONS, STALL_AT = 4, 2000, 6000
RATE_MODELS = ((3, 1), (10, 1), (10, 10))  # K, and what divides the weight decays
STEP = 0.5


def run_curves(profile: str) -> "pd.DataFrame":
    """The training curves of a profile: every strength from starts of the usual spread, none and
    the paper's also from the other spreads.

    Returns: as `run_descent`.
    """
    size = model_size(profile)
    cells = [(START, delta) for delta in STRENGTHS]
    for spread in OTHER_STARTS:
        cells += [(spread, 0.0), (spread, SMOOTHED)]
    return run_descent(dynamics_model(), cells, size.runs, size.iterations)


def run_descent(
    model: FeatureModel,
    cells: Sequence[tuple[float, float]],
    starts: int,
    iterations: int,
    momentum: float = 0.0,
) -> "pd.DataFrame":
    """Gradient descent of the feature model from equal starts in each cell, with step 0.5, that of
    the features times N.

    Args:
        model: with weight decay, so that f has a minimiser at every strength.
        cells: pairs of the starts' spread and delta.
        starts: starts of each cell.
        iterations: at most 110 of them are recorded, evenly in their logarithm.
        momentum: of the heavy ball.

    Returns:
        pandas.DataFrame, one row per start, strength and recorded iteration: spread (of the start),
        delta, start, iteration, gap (f - min f), error, nc1, nc2, nc3.
    """
    import pandas as pd

    spreads = np.array([spread for spread, _ in cells])
    strengths = np.array([delta for _, delta in cells])
    delta = np.repeat(strengths, starts)  # (cells starts,)
    x = np.concatenate(
        [ufm_objective.random_starts(model, starts, 0, spread) for spread in spreads]
    )
    record_at = np.unique(np.round(np.geomspace(1, iterations, 110)).astype(int))
    run = ufm_dynamics.trajectories(model, Loss("ls", delta), x, record_at, momentum=momentum)
    least = ufm.minimiser(model, Loss("ls", delta)).value
    # the recorded arrays are (recorded iterations, cells starts), laid out iteration by iteration
    return pd.DataFrame(
        {
            "spread": np.tile(np.repeat(spreads, starts), len(record_at)),
            "delta": np.tile(delta, len(record_at)),
            "start": np.tile(np.arange(starts), len(cells) * len(record_at)),
            "iteration": np.repeat(record_at, len(delta)),
            "gap": (run.loss - least).ravel(),
            "error": run.error.ravel(),
            "nc1": run.nc1.ravel(),
            "nc2": run.nc2.ravel(),
            "nc3": run.nc3.ravel(),
        }
    )


def pivot_runs(table: "pd.DataFrame", column: str) -> "pd.DataFrame":
    """A column of `run_descent`, one row per iteration, one column per (spread, delta, start)."""
    wide = table.pivot(index="iteration", columns=["spread", "delta", "start"], values=column)
    return wide.sort_index(axis=1)


def first_below(table: "pd.DataFrame", column: str, level: float) -> "pd.Series":
    """The iteration from which on a column stays below a level.

    Between recorded iterations it is interpolated in log iteration and log value: the curves are
    near to power laws, which are straight there.

    Args:
        table: from `run_descent`.
        column: one of its metrics.
        level: positive.

    Returns:
        pandas.Series indexed by spread, delta and start; NaN where a run does not stay below.
    """
    runs = pivot_runs(table, column)
    iteration = runs.index.to_numpy()

    def last_crossing(value: np.ndarray) -> float:
        above = np.flatnonzero(value >= level)
        last = above[-1] if len(above) else -1
        if last + 1 == len(value):
            return np.nan
        if last < 0:
            return float(iteration[0])
        weight = np.log(value[last] / level) / np.log(value[last] / value[last + 1])
        return float(np.exp(np.interp(weight, (0, 1), np.log(iteration[last : last + 2]))))

    return runs.clip(lower=1e-300).apply(last_crossing, raw=True)  # log(0) is infinite


# ---- how soon


def summary_table(curves: "pd.DataFrame") -> "pd.DataFrame":
    """Median and quartiles over starts of each metric, at each strength and iteration, for starts
    of the usual spread.

    Returns: pandas.DataFrame with delta, metric, iteration, median, low, high.
    """
    import pandas as pd

    usual, parts = curves[curves.spread == START], []
    for metric in METRICS:
        runs = pivot_runs(usual, metric)
        strengths = runs.columns.get_level_values("delta")
        for delta in STRENGTHS:
            here = runs.loc[:, strengths == delta]
            # quartiles, not an interval of the mean: they describe how starts differ
            low, median, high = np.quantile(here, [0.25, 0.5, 0.75], axis=1)
            columns = {"delta": delta, "metric": metric, "iteration": runs.index}
            parts.append(pd.DataFrame(columns | {"median": median, "low": low, "high": high}))
    return pd.concat(parts, ignore_index=True)


def ratio_interval(logs: Sequence[float]) -> tuple[float, float, float]:
    """Geometric mean of ratios, paired over starts, with its 95 % interval.

    Both strengths descend from the same start, so what the start contributes cancels in the ratio;
    the t-interval is computed on the log scale, where ratios are nearer to normal.

    Args:
        logs: float (starts,), logarithms of the ratios.

    Returns:
        ratio, low, high; NaN where a run does not get there.
    """
    if not np.isfinite(logs).all():
        return np.nan, np.nan, np.nan
    ratio, low, high = np.exp(t_interval(logs))
    return ratio, low, high


def speed_table(curves: "pd.DataFrame") -> "pd.DataFrame":
    """Iterations until each metric stays small, beside those without smoothing.

    Returns:
        pandas.DataFrame with metric, level, delta, iterations (median over starts), ratio, low,
        high (`ratio_interval` to delta = 0; NaN there).
    """
    import pandas as pd

    usual, rows = curves[curves.spread == START], []
    for metric, level in REACHED:
        reached = first_below(usual, metric, level).droplevel("spread").unstack("start")
        for delta, here in reached.iterrows():  # reached: (strengths, starts)
            row = {"metric": metric, "level": level, "delta": delta}
            row["iterations"] = here.median(skipna=False)
            with np.errstate(invalid="ignore"):
                logs = np.log(here / reached.loc[0.0])
            ratio = ratio_interval(logs) if delta > 0 else (np.nan, np.nan, np.nan)
            rows.append(row | dict(zip(("ratio", "low", "high"), ratio, strict=True)))
    return pd.DataFrame(rows)


# ---- NC2 at equal NC1


def nc2_table(curves: "pd.DataFrame") -> "pd.DataFrame":
    """NC2 when NC1 first passes a level, without smoothing and with the paper's, and the paired
    difference over starts.

    Returns:
        pandas.DataFrame with spread, nc1, ce, ls (means), difference, low, high (95 % t-interval of
        the difference; NaN where a run does not get there).
    """
    import pandas as pd

    rows = []
    for spread in sorted(set(curves.spread)):
        for level in NC1_LEVELS:
            plain, smooth = compare_starts(curves, spread, level)
            interval = np.nan, np.nan, np.nan
            if np.isfinite(smooth - plain).all():
                # paired: both strengths descend from the same start
                interval = t_interval(smooth - plain)
            row = {"spread": spread, "nc1": level, "ce": plain.mean(), "ls": smooth.mean()}
            rows.append(row | dict(zip(("difference", "low", "high"), interval, strict=True)))
    return pd.DataFrame(rows)


def compare_starts(
    curves: "pd.DataFrame", spread: float, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """NC2 of each start when NC1 first passes a level, without smoothing and with the paper's:
    float (starts,) twice, NaN where a run does not get there.
    """
    sides = []
    for delta in (0.0, SMOOTHED):
        runs = curves[(curves.spread == spread) & (curves.delta == delta)].groupby("start")
        sides.append(np.array([_crossing(run.nc1, run.nc2, level) for _, run in runs]))
    return sides[0], sides[1]


def _crossing(nc1: "pd.Series", nc2: "pd.Series", level: float) -> float:
    """NC2 where NC1 first passes a level from above, by interpolation in log NC1; NaN where it does
    not.
    """
    nc1, nc2 = nc1.to_numpy(), nc2.to_numpy()
    below = np.flatnonzero(nc1 < level)
    if not len(below) or below[0] == 0:
        return np.nan
    around = [below[0] - 1, below[0]]
    return float(np.interp(-np.log(level), -np.log(nc1[around]), nc2[around]))


# ---- trained in other ways


def run_variants(profile: str) -> "dict[str, pd.DataFrame]":
    """`speed_table` with momentum, for 10 classes of 8 samples and for 50 of 2, without smoothing
    and with the paper's, by name.

    Fifty classes take too long without momentum: after 3,000 iterations none of the levels is
    reached.
    """
    iterations = min(VARIANT_ITERATIONS, model_size(profile).iterations)
    cells = [(START, 0.0), (START, SMOOTHED)]
    tables = {}
    for model in (dynamics_model(), dynamics_model(K=50, n=2, D=52)):
        curves = run_descent(model, cells, VARIANT_STARTS, iterations, MOMENTUM)
        tables[f"K = {model.K}, momentum {MOMENTUM:g}"] = speed_table(curves)
    return tables


def run_without_decay(profile: str) -> "pd.DataFrame":
    """The model without any weight decay, where cross-entropy has no minimiser: NC1 and NC2
    half-way and at the end of gradient descent.

    Returns: pandas.DataFrame with delta, start, iteration, nc1, nc2.
    """
    import pandas as pd

    usual, iterations = dynamics_model(), min(STALL_AT, model_size(profile).iterations)
    model = FeatureModel(usual.K, usual.n, usual.D, 0.0, 0.0, 0.0)
    x = np.tile(ufm_objective.random_starts(model, VARIANT_STARTS, 0, START), (2, 1))
    delta = np.repeat([0.0, SMOOTHED], VARIANT_STARTS)
    run = ufm_dynamics.trajectories(model, Loss("ls", delta), x, [iterations // 2, iterations])
    return pd.DataFrame(
        {
            "delta": np.tile(delta, 2),
            "start": np.tile(np.arange(VARIANT_STARTS), 4),
            "iteration": np.repeat(run.iterations, len(delta)),
            "nc1": run.nc1.ravel(),
            "nc2": run.nc2.ravel(),
        }
    )


# ---- near the minimiser


def measure_rates(starts: int = 3) -> "pd.DataFrame":
    """The rate of NC1 near the minimiser: predicted, and measured from gradient descent that starts
    a little off it.

    Returns:
        pandas.DataFrame with K, eps, delta, predicted and measured (e by lambda_H, the mean over
        starts), error (worst over starts, relative, of the slope of log NC1).
    """
    import pandas as pd

    strengths, rows = np.array(STRENGTHS), []
    for K, weaker in RATE_MODELS:
        model = code_model(K, n=3, weaker=weaker)
        e = ufm_spectra.collapse_rate(model, strengths)
        predicted = -2 * np.log1p(-STEP * model.N * e)  # slope of -log NC1 by the formula
        # after 4 units of decay the other directions are gone; 4 more are enough to measure
        first = np.ceil(4 / predicted).astype(int)
        record_at = np.unique(np.concatenate([first, 2 * first]))
        noise = 1e-5 * np.random.default_rng(0).standard_normal((starts, model.size))
        minimisers = [ufm.construct(model, Loss("ls", delta), seed=0) for delta in strengths]
        x = np.concatenate([minimiser + noise for minimiser in minimisers])
        loss = Loss("ls", np.repeat(strengths, starts))
        nc1 = ufm_dynamics.trajectories(model, loss, x, record_at, step=STEP).nc1
        nc1 = nc1.reshape(len(record_at), len(strengths), starts)
        for number, delta in enumerate(strengths):
            ends = np.searchsorted(record_at, first[number] * np.array([1, 2]))
            # the slope of log NC1 between the two: NC1 contracts by (1 - eta N e)^2 a step
            slopes = -np.diff(np.log(nc1[ends, number]), axis=0)[0] / first[number]  # (starts,)
            measured = -np.expm1(-slopes / 2) / (STEP * model.N * model.lambda_H)
            row = {
                "K": K,
                "eps": model.eps,
                "delta": delta,
                "predicted": e[number] / model.lambda_H,
                "measured": measured.mean(),
                "error": np.abs(slopes / predicted[number] - 1).max(),
            }
            rows.append(row)
    return pd.DataFrame(rows)
