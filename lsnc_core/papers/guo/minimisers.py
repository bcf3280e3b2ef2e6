"""Guo et al. 2025, Theorem 1: minimisers of the feature model that an optimiser finds, beside the
closed form.
"""

from typing import TYPE_CHECKING

import numpy as np

from lsnc_core.papers.guo.model import STRENGTHS, code_model, model_size
from lsnc_core.theory import ufm, ufm_dynamics, ufm_objective
from lsnc_core.theory.ufm import FeatureModel, Loss

if TYPE_CHECKING:
    import pandas as pd

FEW_STRENGTHS, FEW_STARTS = np.array([0, 0.05, 0.2]), 5
CLASSES = (2, 3, 5, 10, 20)
WEAKER = (0.05, 0.2, 1, 5, 20)  # what divides the released code's weight decays
LEVELS = (0.9, 0.95, 0.98, 0.995, 1.005, 1.02, 1.05)  # of delta + K eps
THRESHOLD_CLASSES = 4


def closed_form(model: FeatureModel, loss: Loss) -> "pd.DataFrame":
    """Theorem 1's minimisers.

    Args:
        model: the model.
        loss: "ls" with strengths (S,).

    Returns:
        pandas.DataFrame, one row per strength: margin, w_norm, h_norm, value (of f).
    """
    import pandas as pd

    at = ufm.minimiser(model, loss)
    columns = {"margin": at.margin, "w_norm": at.W_norm, "h_norm": at.h_norm, "value": at.value}
    return pd.DataFrame(columns)


def solve(model: FeatureModel, loss: Loss, starts: int, seed: int = 0) -> "pd.DataFrame":
    """Minimisers that L-BFGS finds from random starts, beside the closed form.

    Args:
        model: the model.
        loss: "ls" with strengths (S,).
        starts: random starts of each strength, the same for all.
        seed: of the starts.

    Returns:
        pandas.DataFrame, one row per strength: strength, K, n, D, eps, starts; the columns of
        `closed_form`; found_margin, found_w, found_h (means over starts, classes and samples); and,
        worst over starts, loss_error, logit_error, norm_error (absolute).
    """
    import pandas as pd

    strengths = np.asarray(loss.strength)
    x = np.tile(ufm_objective.random_starts(model, starts, seed), (len(strengths), 1))
    repeated = Loss(loss.name, np.repeat(strengths, starts))
    solved = ufm_dynamics.minimise(model, repeated, x, tolerance=1e-12)
    W, H, _ = ufm_objective.split(model, solved.points)
    logits = ufm_objective.logits(model, solved.points)

    def by_strength(values: np.ndarray) -> np.ndarray:
        return values.reshape(len(strengths), -1)

    values = by_strength(solved.values)  # (S, starts)
    margins = by_strength(own_minus_other(model, logits))  # (S, starts N (K-1))
    w_norms = by_strength(np.linalg.norm(W, axis=-1))  # (S, starts K)
    h_norms = by_strength(np.linalg.norm(H, axis=-1))  # (S, starts N)
    expected = closed_form(model, loss)

    def worst(found: np.ndarray, column: str) -> np.ndarray:
        return np.abs(found - expected[[column]].to_numpy()).max(1)

    sizes = {"K": model.K, "n": model.n, "D": model.D, "eps": model.eps, "starts": starts}
    found = {
        "found_margin": margins.mean(1),
        "found_w": w_norms.mean(1),
        "found_h": h_norms.mean(1),
        "loss_error": worst(values, "value"),
        "logit_error": worst(margins, "margin"),
        "norm_error": np.maximum(worst(w_norms, "w_norm"), worst(h_norms, "h_norm")),
    }
    return pd.DataFrame({"strength": strengths} | sizes | dict(expected.items()) | found)


def own_minus_other(model: FeatureModel, logits: np.ndarray) -> np.ndarray:
    """Own logit minus every other one.

    Args:
        model: the model.
        logits: float (R, N, K).

    Returns:
        float (R, N, K-1).
    """
    own = np.eye(model.K, dtype=bool)[ufm_objective.classes(model)]  # (N, K)
    others = logits[:, ~own].reshape(len(logits), model.N, -1)
    return logits[:, own][..., None] - others


def solve_cells(profile: str) -> "pd.DataFrame":
    """Theorem 1 against the optimiser over strengths, numbers of classes and weight decays.

    Returns: pandas.DataFrame, rows of `solve`, with varied: "strength", "K" or "decay".
    """
    import pandas as pd

    starts = model_size(profile).starts
    few, few_starts = Loss("ls", FEW_STRENGTHS), min(starts, FEW_STARTS)
    cells = solve(code_model(), Loss("ls", np.array(STRENGTHS)), starts)
    parts = [cells.assign(varied="strength")]
    for K in CLASSES:
        parts.append(solve(code_model(K), few, few_starts).assign(varied="K"))
    for weaker in WEAKER:
        cells = solve(code_model(weaker=weaker), few, few_starts)
        parts.append(cells.assign(varied="decay"))
    return pd.concat(parts, ignore_index=True)


def solve_threshold(profile: str) -> "pd.DataFrame":
    """Minimisers on both sides of delta + K eps = 1.

    Returns: pandas.DataFrame, rows of `solve`, with level = delta + K eps.
    """
    import pandas as pd

    starts, K = min(model_size(profile).starts, FEW_STARTS), THRESHOLD_CLASSES
    parts = []
    for delta in (0.0, 0.3):
        for level in LEVELS:
            decay = (level - delta) / K / np.sqrt(2)
            model = FeatureModel(K, 2, K + 1, decay, decay, decay)
            cells = solve(model, Loss("ls", np.array([delta])), starts)
            parts.append(cells.assign(level=level))
    return pd.concat(parts, ignore_index=True)


def limit_table(K: int = 10) -> "pd.DataFrame":
    """The margin as the weight decay vanishes: closed form, found by a search in one dimension, and
    what it tends to.

    Args:
        K: number of classes.

    Returns:
        pandas.DataFrame with delta, eps, margin, searched, limit (with smoothing
        log(K/delta - K + 1), without log(1/eps)).
    """
    import pandas as pd
    from scipy import optimize

    rows = []
    for delta in (0.0, 0.05, 0.2):
        loss = Loss("ls", delta)
        for eps in 10.0 ** -np.arange(2, 9):

            def value(a: float, loss: Loss = loss, eps: float = eps) -> float:
                return ufm.sample_loss(loss, a, K) + (K - 1) * eps * a

            searched = optimize.minimize_scalar(value, bounds=(0, 60), options={"xatol": 1e-12}).x
            limit = ufm.margin(delta, 0.0, K) if delta else np.log(1 / eps)
            margin = ufm.margin(delta, eps, K)
            row = {"delta": delta, "eps": eps, "margin": margin}
            rows.append(row | {"searched": searched, "limit": limit})
    return pd.DataFrame(rows)


def predict_line(varied: str, delta: float | None, part: "pd.DataFrame") -> "pd.DataFrame":
    """The closed form along one panel's axis: x, margin, w_norm, h_norm."""
    import pandas as pd

    if varied == "strength":
        x = np.linspace(0, part.strength.max(), 200)
        return closed_form(code_model(), Loss("ls", x)).assign(x=x)
    if varied == "K":
        x = np.arange(part.K.min(), part.K.max() + 1)
        models = [code_model(int(K)) for K in x]
    else:
        models = [code_model(weaker=weaker) for weaker in np.geomspace(0.05, 20, 60)]
        x = np.array([model.eps for model in models])
    points = [closed_form(model, Loss("ls", np.array([delta]))) for model in models]
    return pd.concat(points, ignore_index=True).assign(x=x)
