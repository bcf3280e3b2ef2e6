"""Guo et al. 2025: how soon the feature model collapses, as text beside the project's notes, and the model trained in other ways.

The notes are numbers that other code of this project found before this package was written: medians over three starts, the first
iteration below a level, K = 10, n = 8, D = 12, the decays and steps of `guo.dynamics_model`. The paper prints no such numbers that we know.
"""

import numpy as np

from lsnc_core.papers import guo, guo_dynamics
from lsnc_core.papers.guo_dynamics import METRICS, START
from lsnc_core.theory import ufm_dynamics, ufm_objective
from lsnc_core.theory.ufm import FeatureModel, Loss

# iterations by strength, in the order of guo.REACHED
NOTED = {
    0.0: (1460, 680, 3600, 4440, 1700),
    0.05: (540, 220, 740, 1820, 2200),
    0.1: (480, 140, 460, 1960, 2360),
    0.2: (560, 95, 360, 2160, 2540),
    0.4: (660, 75, 660, 2440, 2840),
}
NOTED_NC2 = {1e-1: (0.56, 0.56), 3e-2: (0.50, 0.45), 1e-2: (0.43, 0.34), 1e-3: (0.27, 0.19), 1e-4: (0.15, 0.16), 1e-5: (0.07, 0.14)}
NOTED_STALL = {0.0: ("1.4e-02", "0.46"), guo.SMOOTHED: ("6e-05", "0.17")}  # NC1 and NC2 after STALL_AT iterations without decay

MOMENTUM = 0.9
STARTS = 4
ITERATIONS, STALL_AT = 2000, 6000


def speed_rows(table) -> list[list[str]]:
    """The table `guo_dynamics.speeds` as text: until what, strength, iterations, those of the notes, ratio with its interval."""
    rows = []
    for row in table.itertuples():
        noted = dict(zip(guo.REACHED, NOTED.get(row.delta, ()), strict=False)).get((row.metric, row.level), "")
        rows.append([_until(row), f"{row.delta:g}", _taken(row.iterations), str(noted), _ratio(row)])
    return rows


def _until(row) -> str:
    return f"{METRICS[row.metric]} below {row.level:g}"


def _taken(iterations: float) -> str:
    return f"{iterations:.0f}" if np.isfinite(iterations) else "not reached by all"


def _ratio(row) -> str:
    return f"{row.ratio:.2f} [{row.low:.2f}, {row.high:.2f}]" if np.isfinite(row.ratio) else ""


def variants(profile: str) -> dict:
    """`guo_dynamics.speeds` with momentum, for 10 classes of 8 samples and for 50 of 2, without smoothing and with the paper's, by name.

    Fifty classes take too long without momentum: after 3,000 iterations none of the levels is reached.
    """
    cells, iterations = [(START, delta) for delta in (0.0, guo.SMOOTHED)], min(ITERATIONS, guo.model_size(profile).iterations)
    models = (guo.dynamics_model(), guo.dynamics_model(K=50, n=2, D=52))
    return {
        f"K = {model.K}, momentum {MOMENTUM:g}": guo_dynamics.speeds(guo_dynamics.descent(model, cells, STARTS, iterations, MOMENTUM))
        for model in models
    }


def variant_rows(tables: dict) -> list[list[str]]:
    """Tables of `guo_dynamics.speeds` as text: a row per level, a column per table: iterations without → with smoothing, their ratio."""
    rows = []
    for metric, level in guo.REACHED:
        cells = []
        for table in tables.values():
            at = table[(table.metric == metric) & (table.level == level)].set_index("delta")
            plain, smooth = at.loc[0.0], at.loc[guo.SMOOTHED]
            cells.append(f"{_taken(plain.iterations)} → {_taken(smooth.iterations)}  {_ratio(smooth)}".rstrip())
        rows.append([f"{METRICS[metric]} below {level:g}", *cells])
    return rows


def without_decay(profile: str):
    """The model without any decay, where cross-entropy has no minimiser: NC1 and NC2 half-way and at the end of gradient descent.

    Returns: pandas.DataFrame with delta, start, iteration, nc1, nc2.
    """
    import pandas as pd

    usual, iterations = guo.dynamics_model(), min(STALL_AT, guo.model_size(profile).iterations)
    model = FeatureModel(usual.K, usual.n, usual.D, 0.0, 0.0, 0.0)
    x, delta = np.tile(ufm_objective.random_starts(model, STARTS, 0, START), (2, 1)), np.repeat([0.0, guo.SMOOTHED], STARTS)
    run = ufm_dynamics.trajectories(model, Loss("ls", delta), x, [iterations // 2, iterations])
    columns = {"delta": np.tile(delta, 2), "start": np.tile(np.arange(STARTS), 4), "iteration": np.repeat(run.iterations, 2 * STARTS)}
    return pd.DataFrame(columns | {"nc1": run.nc1.ravel(), "nc2": run.nc2.ravel()})


def stall_rows(table) -> list[list[str]]:
    """The table `without_decay` as text, medians over starts: strength, NC1 half-way and at the end, notes; NC2 likewise."""
    rows = []
    for delta, part in table.groupby("delta"):
        half, end = (part[part.iteration == at][["nc1", "nc2"]].median() for at in (part.iteration.min(), part.iteration.max()))
        noted = NOTED_STALL[delta] if table.iteration.max() == STALL_AT else ("", "")
        rows.append([f"{delta:g}", f"{half.nc1:.1e}", f"{end.nc1:.1e}", noted[0], f"{half.nc2:.2f}", f"{end.nc2:.2f}", noted[1]])
    return rows
