"""Guo et al. 2025: how soon the feature model collapses, as text, and the model trained in other
ways.
"""

import numpy as np

from lsnc_core.papers import guo, guo_dynamics
from lsnc_core.papers.guo_dynamics import METRICS, START
from lsnc_core.theory import ufm_dynamics, ufm_objective
from lsnc_core.theory.ufm import FeatureModel, Loss

MOMENTUM = 0.9
STARTS = 4
ITERATIONS, STALL_AT = 2000, 6000


def speed_rows(table) -> list[list[str]]:
    """The table `guo_dynamics.speeds` as text: a row per level, a column per strength: iterations,
    their ratio with its interval.
    """
    rows = []
    for metric, level in guo.REACHED:
        at = table[(table.metric == metric) & (table.level == level)].sort_values("delta")
        rows.append(
            [
                f"{METRICS[metric]} below {level:g}",
                *(_taken(row.iterations) + _ratio(row) for row in at.itertuples()),
            ]
        )
    return rows


def _taken(iterations: float) -> str:
    return f"{iterations:.0f}" if np.isfinite(iterations) else "not reached by all"


def _ratio(row) -> str:
    return f" ({row.ratio:.2f} [{row.low:.2f}, {row.high:.2f}])" if np.isfinite(row.ratio) else ""


def variants(profile: str) -> dict:
    """`guo_dynamics.speeds` with momentum, for 10 classes of 8 samples and for 50 of 2, without
    smoothing and with the paper's, by name.

    Fifty classes take too long without momentum: after 3,000 iterations none of the levels is
    reached.
    """
    cells, iterations = (
        [(START, delta) for delta in (0.0, guo.SMOOTHED)],
        min(ITERATIONS, guo.model_size(profile).iterations),
    )
    models = (guo.dynamics_model(), guo.dynamics_model(K=50, n=2, D=52))
    return {
        f"K = {model.K}, momentum {MOMENTUM:g}": guo_dynamics.speeds(
            guo_dynamics.descent(model, cells, STARTS, iterations, MOMENTUM)
        )
        for model in models
    }


def variant_rows(tables: dict) -> list[list[str]]:
    """Tables of `guo_dynamics.speeds` as text: a row per level, a column per table: iterations
    without → with smoothing, their ratio.
    """
    rows = []
    for metric, level in guo.REACHED:
        cells = []
        for table in tables.values():
            at = table[(table.metric == metric) & (table.level == level)].set_index("delta")
            plain, smooth = at.loc[0.0], at.loc[guo.SMOOTHED]
            cells.append(
                f"{_taken(plain.iterations)} → {_taken(smooth.iterations)}{_ratio(smooth)}"
            )
        rows.append([f"{METRICS[metric]} below {level:g}", *cells])
    return rows


def without_decay(profile: str):
    """The model without any decay, where cross-entropy has no minimiser: NC1 and NC2 half-way and
    at the end of gradient descent.

    Returns: pandas.DataFrame with delta, start, iteration, nc1, nc2.
    """
    import pandas as pd

    usual, iterations = guo.dynamics_model(), min(STALL_AT, guo.model_size(profile).iterations)
    model = FeatureModel(usual.K, usual.n, usual.D, 0.0, 0.0, 0.0)
    x, delta = (
        np.tile(ufm_objective.random_starts(model, STARTS, 0, START), (2, 1)),
        np.repeat([0.0, guo.SMOOTHED], STARTS),
    )
    run = ufm_dynamics.trajectories(model, Loss("ls", delta), x, [iterations // 2, iterations])
    columns = {
        "delta": np.tile(delta, 2),
        "start": np.tile(np.arange(STARTS), 4),
        "iteration": np.repeat(run.iterations, 2 * STARTS),
    }
    return pd.DataFrame(columns | {"nc1": run.nc1.ravel(), "nc2": run.nc2.ravel()})


def stall_rows(table) -> list[list[str]]:
    """The table `without_decay` as text, medians over starts: strength, NC1 half-way and at the
    end, NC2 likewise.
    """
    rows = []
    for delta, part in table.groupby("delta"):
        half, end = (
            part[part.iteration == at][["nc1", "nc2"]].median()
            for at in (part.iteration.min(), part.iteration.max())
        )
        rows.append(
            [f"{delta:g}", f"{half.nc1:.1e}", f"{end.nc1:.1e}", f"{half.nc2:.2f}", f"{end.nc2:.2f}"]
        )
    return rows
