"""Guo et al. 2025: training of the feature model, curve by curve, the rate of NC1, and their
verdicts.
"""

from collections.abc import Sequence

import numpy as np

from lsnc_core.papers import claims, guo
from lsnc_core.papers.claims import UNDECIDED, Case, Verdict
from lsnc_core.papers.guo_theory import MODEL
from lsnc_core.theory import ufm, ufm_dynamics, ufm_objective, ufm_spectra
from lsnc_core.theory.ufm import FeatureModel, Loss

START = 0.3  # standard deviation of the starts' entries
OTHER_STARTS = (0.1, 1.0)  # without and with the paper's strength only
METRICS = {
    "gap": "f − min f (nats)",
    "error": "training error",
    "nc1": "NC1",
    "nc2": "NC2",
    "nc3": "NC3",
}


def curves(profile: str):
    """Training curves of the model: every strength from starts of the usual spread, the paper's
    also from the other spreads. `descent`.
    """
    size = guo.model_size(profile)
    cells = [(START, delta) for delta in guo.STRENGTHS] + [
        (spread, delta) for spread in OTHER_STARTS for delta in (0.0, guo.SMOOTHED)
    ]
    return descent(guo.dynamics_model(), cells, size.runs, size.iterations)


def descent(
    model: FeatureModel,
    cells: Sequence[tuple[float, float]],
    starts: int,
    iterations: int,
    momentum: float = 0.0,
):
    """Gradient descent of the feature model from equal starts in each cell (step 0.5, features 0.5
    N).

    Args:
        model: with decay, so that f has a minimiser at every strength.
        cells: pairs of the starts' spread and delta.
        starts: of each cell.
        iterations: at most 110 of them are recorded, evenly in their logarithm.
        momentum: of the heavy ball.

    Returns:
        pandas.DataFrame, a row per start, strength and recorded iteration: spread (of the start),
        delta, start, iteration, gap (f - min f), error, nc1, nc2, nc3.
    """
    import pandas as pd

    x = np.concatenate(
        [ufm_objective.random_starts(model, starts, 0, spread) for spread, _ in cells]
    )
    delta = np.repeat([delta for _, delta in cells], starts)
    record_at = np.unique(np.round(np.geomspace(1, iterations, 110)).astype(int))
    run = ufm_dynamics.trajectories(model, Loss("ls", delta), x, record_at, momentum=momentum)
    least = ufm.minimiser(model, Loss("ls", delta)).value
    rows = {
        "spread": np.repeat([spread for spread, _ in cells], starts),
        "delta": delta,
        "start": np.tile(np.arange(starts), len(cells)),
    }
    columns = {name: np.tile(values, len(record_at)) for name, values in rows.items()}
    columns["iteration"] = np.repeat(record_at, len(delta))
    columns |= {"gap": (run.loss - least).ravel(), "error": run.error.ravel()}
    return pd.DataFrame(
        columns | {name: getattr(run, name).ravel() for name in ("nc1", "nc2", "nc3")}
    )


def summary(table):
    """Median and quartiles over starts of each metric, at each strength and iteration, for starts
    of the usual spread: long form.
    """
    import pandas as pd

    usual, parts = table[table.spread == START], []
    for metric in METRICS:
        runs = _runs(usual, metric)
        strengths = runs.columns.get_level_values("delta")
        for delta in guo.STRENGTHS:
            low, median, high = np.quantile(
                runs.loc[:, strengths == delta], [0.25, 0.5, 0.75], axis=1
            )
            columns = {
                "delta": delta,
                "metric": metric,
                "iteration": runs.index,
                "median": median,
                "low": low,
                "high": high,
            }
            parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def first_below(table, column: str, level: float):
    """The iteration from which on a column stays below a level, interpolated in log iteration and
    log value; NaN where it never does.

    Returns: pandas.Series indexed by spread, delta and start.
    """

    runs = _runs(table, column)
    iteration = runs.index.to_numpy()

    def of(value: np.ndarray) -> float:
        above = np.flatnonzero(value >= level)
        last = above[-1] if len(above) else -1
        if last + 1 == len(value):
            return np.nan
        if last < 0:
            return float(iteration[0])
        weight = np.log(value[last] / level) / np.log(value[last] / value[last + 1])
        return float(np.exp(np.interp(weight, (0, 1), np.log(iteration[last : last + 2]))))

    return runs.clip(lower=1e-300).apply(of, raw=True)


def _runs(table, column: str):
    """A column with a row per iteration and a column per (spread, delta, start)."""
    return table.pivot(index="iteration", columns=["spread", "delta", "start"], values=column)


def speeds(table):
    """Iterations until each metric stays small, and how they compare with no smoothing.

    Returns: pandas.DataFrame with metric, level, delta, iterations (median over starts), ratio,
    low, high (geometric mean over starts of the paired ratio to delta = 0, 95 % t-interval on the
    log scale; NaN where a run never gets there).
    """
    import pandas as pd

    usual, rows = table[table.spread == START], []
    for metric, level in guo.REACHED:
        reached = (
            first_below(usual, metric, level).droplevel("spread").unstack("start")
        )  # (strengths, starts)
        for delta, here in reached.iterrows():
            with np.errstate(invalid="ignore"):
                logs = np.log(here / reached.loc[0.0])
            known = np.isfinite(logs).all() and delta > 0
            ratio, low, high = (
                np.exp(claims.t_interval(logs)) if known else (np.nan, np.nan, np.nan)
            )
            row = {
                "metric": metric,
                "level": level,
                "delta": delta,
                "iterations": here.median(skipna=False),
            }
            rows.append(row | {"ratio": ratio, "low": low, "high": high})
    return pd.DataFrame(rows)


def nc2_at_nc1(table):
    """NC2 when NC1 first passes a level, without smoothing and with the paper's, and the paired
    difference over starts.

    Returns: pandas.DataFrame with spread, nc1, ce, ls (means), difference, low, high (95 %
    t-interval; NaN where a run does not get there).
    """
    import pandas as pd

    pair, rows = table[table.delta.isin((0.0, guo.SMOOTHED))], []
    nc1, nc2 = _runs(pair, "nc1"), _runs(pair, "nc2")
    for spread in sorted(set(pair.spread)):
        for level in guo.NC1_LEVELS:
            plain, smooth = (
                np.array(
                    [
                        _crossing(nc1[run].to_numpy(), nc2[run].to_numpy(), level)
                        for run in nc1
                        if run[:2] == (spread, delta)
                    ]
                )
                for delta in (0.0, guo.SMOOTHED)
            )
            known = np.isfinite(smooth - plain).all()
            difference, low, high = (
                claims.t_interval(smooth - plain) if known else (np.nan, np.nan, np.nan)
            )
            values = {"ce": plain.mean(), "ls": smooth.mean()}
            rows.append(
                {"spread": spread, "nc1": level}
                | values
                | {"difference": difference, "low": low, "high": high}
            )
    return pd.DataFrame(rows)


def _crossing(nc1: np.ndarray, nc2: np.ndarray, level: float) -> float:
    """NC2 where NC1 first passes a level from above, by interpolation in log NC1; NaN where it does
    not.
    """
    below = np.flatnonzero(nc1 < level)
    if not len(below) or below[0] == 0:
        return np.nan
    at = below[0]
    return float(np.interp(-np.log(level), -np.log(nc1[[at - 1, at]]), nc2[[at - 1, at]]))


def verdict_g4(table) -> Verdict:
    """G4 in the model: NC2 at equal NC1, a case for each level, starts of the usual spread; what
    other spreads give is a remark.
    """
    at = nc2_at_nc1(table)
    parts = []
    for row in at[at.spread == START].itertuples():
        outcome = (
            claims.decide(row.low, row.high, at_most=0.0) if np.isfinite(row.low) else UNDECIDED
        )
        said = f"NC2 {row.ce:.3f} without, {row.ls:.3f} with smoothing, difference {row.difference:+.4f} [{row.low:+.4f}, {row.high:+.4f}]"
        parts.append(
            Case(
                f"NC1 = {row.nc1:g}",
                said if np.isfinite(row.low) else "a run does not get there",
                outcome,
            )
        )
    others = [
        f"starts of spread {spread:g} reverse from NC1 = {part.nc1.max():g} down"
        for spread, part in at[(at.spread != START) & (at.low > 0)].groupby("spread")
    ]
    return claims.over_cases(
        guo.CLAIMS["G4"], _where(table), parts, "; ".join(others), "more iterations or starts"
    )


def verdict_g10(table) -> Verdict:
    """G10 in the model: iterations from a gap of 0.1 to one of 0.001, ratio to no smoothing, a case
    for each strength.
    """
    usual = table[table.spread == START]
    taken = first_below(usual, "gap", guo.GAP_TO) - first_below(usual, "gap", guo.GAP_FROM)
    taken, parts = taken.droplevel("spread").unstack("start"), []
    for delta in guo.STRENGTHS[1:]:
        logs = np.log(taken.loc[delta] / taken.loc[0.0])
        if np.isfinite(logs).all():
            ratio, low, high = np.exp(claims.t_interval(logs))
            said = f"{ratio:.2f} [{low:.2f}, {high:.2f}] of the iterations without smoothing"
            parts.append(Case(f"δ = {delta:g}", said, claims.decide(low, high, at_most=1.0)))
        else:
            parts.append(Case(f"δ = {delta:g}", "a run does not get there", UNDECIDED))
    return claims.over_cases(
        guo.CLAIMS["G10"], _where(table), parts, decider="more iterations or starts"
    )


def _where(table) -> str:
    return f"{MODEL}, gradient descent from {table.start.nunique()} random starts"


def rates(starts: int = 3):
    """The rate of NC1 near the minimiser: predicted, and measured from gradient descent that starts
    a little off it.

    Returns: pandas.DataFrame with K, eps, delta, predicted and measured (e by lambda_H, the mean
    over starts), error (worst over starts, relative, of the slope of log NC1).
    """
    import pandas as pd

    step, rows = 0.5, []
    for K, weaker in ((3, 1), (10, 1), (10, 10)):
        model = guo.code_model(K, n=3, weaker=weaker)
        strengths = np.array(guo.STRENGTHS)
        e = ufm_spectra.collapse_rate(model, strengths)
        slope = -2 * np.log1p(-step * model.N * e)
        # after 4 units of decay the other directions are gone, and 4 more are long enough to
        # measure
        first = np.ceil(4 / slope).astype(int)
        record_at = np.unique(np.concatenate([first, 2 * first]))
        noise = 1e-5 * np.random.default_rng(0).standard_normal((starts, model.size))
        x = np.concatenate(
            [ufm.construct(model, Loss("ls", delta), seed=0) + noise for delta in strengths]
        )
        nc1 = ufm_dynamics.trajectories(
            model, Loss("ls", np.repeat(strengths, starts)), x, record_at, step=step
        ).nc1
        for number, delta in enumerate(strengths):
            ends = nc1[np.searchsorted(record_at, first[number] * np.array([1, 2]))][
                :, number * starts : (number + 1) * starts
            ]
            found = -np.diff(np.log(ends), axis=0)[0] / first[number]  # (starts,)
            measured = -np.expm1(-found / 2) / (step * model.N * model.lambda_H)
            row = {
                "K": K,
                "eps": model.eps,
                "delta": delta,
                "predicted": e[number] / model.lambda_H,
                "measured": measured.mean(),
            }
            rows.append(row | {"error": np.abs(found / slope[number] - 1).max()})
    return pd.DataFrame(rows)


def verdict_g13(table) -> Verdict:
    """G13 from the table `rates`: the slope of log NC1 to 1 %, and faster with smoothing."""
    worst = table.error.max()
    plain = table[table.delta == 0].set_index(["K", "eps"]).predicted
    smooth = table[table.delta == guo.SMOOTHED].set_index(["K", "eps"]).predicted
    said = ", ".join(
        f"{factor:.1f} at K = {K}, ε = {eps:.2g}" for (K, eps), factor in (smooth / plain).items()
    )
    measured = f"{len(table)} rates, worst error {worst:.2%}; e at δ = {guo.SMOOTHED} by e at δ = 0: {said}"
    holds = worst <= guo.RATE_TOLERANCE and (smooth > plain).all()
    return Verdict(guo.CLAIMS["G13"], MODEL, measured, claims.HOLDS if holds else claims.FAILS)
