"""Guo et al. 2025, Theorem 1: minimisers of the feature model that an optimiser finds, beside the
closed form.
"""

from typing import TYPE_CHECKING

import numpy as np

from lsnc_core.papers.guo import SMOOTHED
from lsnc_core.papers.guo.model import MARKS, STRENGTHS, code_model, label_strength, model_size
from lsnc_core.show import style
from lsnc_core.theory import ufm, ufm_dynamics, ufm_nonnegative, ufm_objective
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


# ---- non-negative features

# columns and their names in figures
COMPARED = {"margin": "margin a", "w_norm": r"$\|w_k\|$", "h_norm": r"$\|h_k - h_G\|$"}
COMPARED["feature_norm"] = r"$\|h_k\|$"


def closed_forms(model: FeatureModel, loss: Loss) -> "pd.DataFrame":
    """The minimisers with non-negative features and with features of any sign.

    Args:
        model: the model.
        loss: "ls" with strengths (S,).

    Returns:
        pandas.DataFrame, one row per strength: the columns of `closed_form`, for non-negative
        features, h_norm being ‖h_k - h_G‖; feature_norm, ‖h_k‖; any_margin and so on, for features
        of any sign, which have mean 0; change_margin and so on, from any sign in per cent.
    """
    import pandas as pd

    at = ufm_nonnegative.minimiser(model, loss)
    columns = {"margin": at.margin, "w_norm": at.W_norm, "h_norm": at.h_norm}
    table = pd.DataFrame(columns | {"feature_norm": at.feature_norm, "value": at.value})
    free = closed_form(model, loss)
    free["feature_norm"] = free.h_norm
    for name in COMPARED:
        table[f"any_{name}"] = free[name]
        table[f"change_{name}"] = 100 * (table[name] / free[name] - 1)
    return table


def search_nonnegative(
    model: FeatureModel, loss: Loss, starts: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Where scipy's bound-constrained L-BFGS ends from random starts with H >= 0.

    Args:
        model: the model.
        loss: of one strength.
        starts: number of starts.
        seed: of the starts.

    Returns:
        f, float (starts,), and the points, float (starts, model.size).
    """
    from scipy import optimize

    x = ufm_objective.random_starts(model, starts, seed)
    features = ufm_objective.split(model, x)[1]
    np.abs(features, out=features)
    low = np.full(model.size, -np.inf)
    ufm_objective.split(model, low)[1][:] = 0
    options = {"ftol": 0, "gtol": 1e-11, "maxiter": 5000, "maxfun": 10000, "maxcor": 20}

    def objective(point: np.ndarray) -> tuple[float, np.ndarray]:
        return ufm_objective.value_and_gradient(model, loss, point)

    values = np.empty(starts)
    for row in range(starts):
        bounds = optimize.Bounds(low, np.inf)
        found = optimize.minimize(
            objective, x[row], jac=True, method="L-BFGS-B", bounds=bounds, options=options
        )
        values[row], x[row] = found.fun, found.x
    return values, x


def solve_nonnegative(profile: str) -> "pd.DataFrame":
    """The lowest end of bound-constrained L-BFGS beside the closed form, over strengths and numbers
    of classes. Some starts may end in a local minimum, with a class whose features are all zero.

    Returns:
        pandas.DataFrame, one row per cell: varied ("strength" or "K"), strength, K, starts; the
        columns of `closed_forms`; found_margin and so on (means), found_change_margin and so on;
        loss_error, logit_error, norm_error (absolute, the worst of the lowest end); cosine, the
        largest between features of two classes, without its sign; collapse, the largest of NC1, NC2
        and NC3; higher, the number of starts that end higher.
    """
    import pandas as pd

    starts = min(model_size(profile).starts // 2, FEW_STARTS)
    cells = [("strength", 10, delta) for delta in STRENGTHS]
    cells += [("K", K, SMOOTHED) for K in CLASSES]
    parts = []
    for varied, K, delta in cells:
        model, loss = code_model(K), Loss("ls", np.array([delta]))
        expected = closed_forms(model, loss)
        values, x = search_nonnegative(model, Loss("ls", delta), starts)
        found = _measure(model, x[[values.argmin()]], expected.iloc[0])
        found["loss_error"] = abs(values.min() - expected.value[0])
        found["higher"] = (values > values.min() + 1e-8).sum()
        for name in COMPARED:
            ratio = found[f"found_{name}"] / expected[f"any_{name}"][0]
            found[f"found_change_{name}"] = 100 * (ratio - 1)
        sizes = {"varied": varied, "strength": delta, "K": K, "starts": starts}
        parts.append(expected.assign(**sizes, **found))
    return pd.concat(parts, ignore_index=True)


def _measure(model: FeatureModel, x: np.ndarray, expected: "pd.Series") -> dict[str, float]:
    """Found values, errors, cosine and collapse of one point (1, size), see `solve_nonnegative`."""
    W, H, _ = ufm_objective.split(model, x)
    margins = own_minus_other(model, ufm_objective.logits(model, x))
    norms = {
        "w_norm": np.linalg.norm(W, axis=-1),
        "h_norm": np.linalg.norm(H - H.mean(1, keepdims=True), axis=-1),
        "feature_norm": np.linalg.norm(H, axis=-1),
    }
    own = ufm_objective.classes(model)
    unit = H[0] / norms["feature_norm"][0][:, None]
    found = {"found_margin": margins.mean()}
    errors = []
    for name, values in norms.items():
        found[f"found_{name}"] = values.mean()
        errors.append(np.abs(values - expected[name]).max())
    return found | {
        "logit_error": np.abs(margins - expected.margin).max(),
        "norm_error": max(errors),
        "cosine": np.abs(np.where(own[:, None] == own, 0.0, unit @ unit.T)).max(),
        "collapse": np.max(ufm_dynamics.collapse(model, x)[:3]),
    }


def predict_nonnegative(varied: str, part: "pd.DataFrame") -> "pd.DataFrame":
    """The closed forms along one panel's axis: x and the columns of `closed_forms`."""
    import pandas as pd

    if varied == "strength":
        x = np.linspace(0, part.strength.max(), 200)
        return closed_forms(code_model(), Loss("ls", x)).assign(x=x)
    x = np.arange(part.K.min(), part.K.max() + 1)
    rows = [closed_forms(code_model(int(K)), Loss("ls", np.array([SMOOTHED]))) for K in x]
    return pd.concat(rows, ignore_index=True).assign(x=x)


def draw_cells(
    panels: np.ndarray, varied: str, delta: float | None, part: "pd.DataFrame", x: str, number: int
) -> None:
    """One strength's marks and lines in a column of panels, margin above and norms below."""
    margins, norms = panels
    colour = style.INK if delta is None else style.strength(delta)
    look = {"color": colour, "ms": 4.5}
    label = None if delta is None else label_strength(delta)
    margins.plot(part[x], part.found_margin, MARKS[number], label=label, **look)
    norms.plot(part[x], part.found_w, MARKS[number], **look)
    norms.plot(part[x], part.found_h, MARKS[number], mfc=style.PAPER, **look)
    line = predict_line(varied, delta, part)
    look = {"color": colour, "lw": 1.2}
    margins.plot(line.x, line.margin, ls="-", **look)
    norms.plot(line.x, line.w_norm, ls="-", **look)
    norms.plot(line.x, line.h_norm, ls="--", **look)
