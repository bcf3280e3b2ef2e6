"""Zhou et al. 2022: what is computed of the unconstrained feature model under four losses.

Losses: cross-entropy (CE), label smoothing (LS), focal (FL) and rescaled mean squared error (MSE).
f is the objective, eps = sqrt(n lambda_W lambda_H), phi the loss as a function of the margin. The
paper's full text was not at hand: constants that could not be sourced are derived here.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lsnc_core.errors import UsageError
from lsnc_core.theory import ufm, ufm_dynamics, ufm_landscape, ufm_objective
from lsnc_core.theory.ufm import FeatureModel, Loss

if TYPE_CHECKING:
    import pandas as pd

LOSSES = {
    "CE": Loss("ls", 0.0),
    "LS(0.1)": Loss("ls", 0.1),
    "FL(3)": Loss("focal", 3.0),
    "MSE(15)": Loss("mse", 15.0),
}
SADDLE_LOSSES = {**LOSSES, "LS(0.5)": Loss("ls", 0.5)}
CONTRASTIVE_LOSSES = {
    "CE": Loss("ls", 0.0),
    "LS(0.1)": Loss("ls", 0.1),
    "FL(1)": Loss("focal", 1.0),
    "FL(3)": Loss("focal", 3.0),
}
CONTRASTIVE_CLASSES = (2, 3, 10, 100)
SPREADS = (0.01, 1.0, 4.0)  # standard deviations of the starts' entries, in turn
DECAYS = (2e-4, 2e-3, 2e-2)  # weight decays of W and H for the margins
DECAY = 2e-3  # that of everything else
# Values of f that agree to this, relative, count as equal; fixed before the first run.
VALUE_TOLERANCE = 1e-10


@dataclass(frozen=True)
class LandscapeSize:
    """What is computed in one profile.

    Attributes:
        starts: random starts of each loss.
        searches: starts of each critical point's search.
        draws: random logits.
    """

    starts: int
    searches: int
    draws: int


LANDSCAPE = {
    "smoke": LandscapeSize(starts=6, searches=2, draws=200),
    "quick": LandscapeSize(starts=50, searches=4, draws=3000),
    "hour": LandscapeSize(starts=100, searches=8, draws=5000),
    "gpu": LandscapeSize(starts=300, searches=20, draws=10000),
    "paper": LandscapeSize(starts=1000, searches=50, draws=50000),
}


def landscape_size(profile: str) -> LandscapeSize:
    """The sizes of a profile.

    Raises:
        UsageError: for an unknown profile.
    """
    if profile not in LANDSCAPE:
        raise UsageError(f"unknown profile {profile!r}; the profiles are {', '.join(LANDSCAPE)}.")
    return LANDSCAPE[profile]


def small_model(decay: float = DECAY) -> FeatureModel:
    """K = 4 classes of n = 2 samples, D = 6 (above K, as the theorem on the landscape asks), no
    weight decay of the bias.

    Args:
        decay: lambda_W = lambda_H.
    """
    return FeatureModel(4, 2, 6, decay, decay)


def run_all_starts(profile: str) -> "pd.DataFrame":
    """L-BFGS from random starts of three spreads, under every loss.

    Returns:
        pandas.DataFrame with loss, start, spread, iteration and gap, (f - min f) / min f with the
        minimum in closed form.
    """
    import pandas as pd

    model, starts = small_model(), landscape_size(profile).starts
    spread = np.resize(SPREADS, starts)
    x = ufm_objective.random_starts(model, starts, 0) * spread[:, None]
    record_at = np.unique(np.round(np.geomspace(1, 400, 26)).astype(int))
    parts = []
    for name, loss in LOSSES.items():
        run = ufm_dynamics.trajectories(model, loss, x, record_at, method="lbfgs")
        gap = run.loss / ufm.minimiser(model, loss).value - 1  # (iterations, starts)
        columns = {
            "loss": name,
            "start": np.tile(np.arange(starts), len(record_at)),
            "spread": np.tile(spread, len(record_at)),
            "iteration": np.repeat(record_at, starts),
            "gap": gap.ravel(),
        }
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def _form_error(model: FeatureModel, expected: ufm.Minimiser, points: np.ndarray) -> float:
    """How far points (starts, size) are from the form that the theorem gives minimisers."""
    W, H, b = ufm_objective.split(model, points)
    simplex = np.eye(model.K) - 1 / model.K
    tied = (expected.s_H / expected.s_W) * W[:, ufm_objective.classes(model)]  # (starts, N, D)
    errors = (
        W @ W.swapaxes(-1, -2) - expected.s_W**2 * simplex,
        H - tied,
        b - b.mean(-1, keepdims=True),
    )
    return max(float(np.abs(error).max()) for error in errors)


def margin_table(profile: str) -> "pd.DataFrame":
    """The margin of each loss's minimiser against weight decay: in closed form, and where L-BFGS
    ends from random starts.

    Returns:
        pandas.DataFrame with loss, decay (lambda of W and H), eps, starts, margin (closed form),
        found (mean over starts, samples and wrong classes), margin_error (largest difference),
        value_error (largest relative difference of f, either sign), and form_error (largest
        difference from W W^t = s_W^2 P, from h_ki = (s_H/s_W) w_k and among the entries of b).
    """
    import pandas as pd

    starts, rows = landscape_size(profile).starts, []
    for decay in DECAYS:
        model = small_model(decay)
        number = starts if decay == DECAY else min(starts, 6)
        x = ufm_objective.random_starts(model, number, 0) * np.resize(SPREADS, number)[:, None]
        own = np.eye(model.K, dtype=bool)[ufm_objective.classes(model)]  # (N, K)
        for name, loss in LOSSES.items():
            solved = ufm_dynamics.minimise(model, loss, x, tolerance=1e-12)
            expected = ufm.minimiser(model, loss)
            Z = ufm_objective.logits(model, solved.points)  # (starts, N, K)
            wrong = Z[:, ~own].reshape(number, model.N, -1)  # (starts, N, K-1)
            margins = Z[:, own][..., None] - wrong
            row = {
                "loss": name,
                "decay": decay,
                "eps": model.eps,
                "starts": number,
                "margin": float(expected.margin),
                "found": margins.mean(),
                "margin_error": np.abs(margins - expected.margin).max(),
                "value_error": np.abs(solved.values / expected.value - 1).max(),
                "form_error": _form_error(model, expected, solved.points),
            }
            rows.append(row)
    return pd.DataFrame(rows)


def critical_point_table(profile: str) -> "pd.DataFrame":
    """Critical points of rank 0 to K - 1 under every loss, and under LS with strength 0.5.

    Returns:
        pandas.DataFrame with loss, rank, value (f), gap (relative to the least value), gradient
        (largest entry), data_gradient (spectral norm of the data loss's gradient in the logits),
        bound (sqrt(lambda_W lambda_H), its bound at a global minimiser), escape (curvature along
        the constructed direction), least (smallest eigenvalue of the Hessian), globally (bool:
        whether the value is the least).
    """
    import pandas as pd

    model, searches, rows = small_model(), landscape_size(profile).searches, []
    for name, loss in SADDLE_LOSSES.items():
        least = ufm.minimiser(model, loss).value
        for rank in range(model.K):
            for point in ufm_landscape.critical_points(model, loss, rank, searches):
                gap = point.value / least - 1
                row = {
                    "loss": name,
                    "rank": rank,
                    "value": point.value,
                    "gap": gap,
                    "gradient": point.gradient,
                    "data_gradient": point.data_gradient,
                    "bound": point.global_bound,
                    "escape": point.escape,
                    "least": point.least,
                    "globally": bool(gap < VALUE_TOLERANCE),
                }
                rows.append(row)
    return pd.DataFrame(rows)


def focal_hessian_table(profile: str, seed: int = 0) -> "pd.DataFrame":
    """The focal loss's Hessian in the logits at random points, half of them near the edge
    p*(gamma) of its convex region.

    Returns:
        pandas.DataFrame with gamma, K, p (softmax of the target), edge (p*), least (smallest
        eigenvalue; the direction of equal logits, where the Hessian is 0, is left out).
    """
    import pandas as pd

    draws, generator, parts = landscape_size(profile).draws, np.random.default_rng(seed), []
    for K in range(2, 9):
        count = -(-draws // 7)
        gamma = generator.choice([0.5, 1, 2, 3, 5], count)
        edge = ufm.focal_convex_from(gamma)
        near = edge * (1 + 0.02 * generator.standard_normal(count))
        far = np.exp(generator.uniform(np.log(edge / 10), np.log(0.9)))
        p = np.where(np.arange(count) % 2, near, far)
        Z = generator.standard_normal((count, K))
        # the target's logit that gives it softmax p among the others
        Z[:, 0] = np.log(p / (1 - p)) + np.log(np.exp(Z[:, 1:]).sum(1))
        unit = np.eye(K)[:, None, None, :]  # (K, 1, 1, K): the Hessian column by column
        target = np.zeros(1, dtype=int)
        columns = ufm_objective.curvature_product(Loss("focal", gamma), Z[:, None], target, unit)
        whole = columns[:, :, 0].swapaxes(0, 1)  # (K, count, 1, K) -> (count, K, K)
        inside = ufm.centred_basis(K)
        least = np.linalg.eigvalsh(inside.T @ whole @ inside)[:, 0]
        parts.append(pd.DataFrame({"gamma": gamma, "K": K, "p": p, "edge": edge, "least": least}))
    return pd.concat(parts, ignore_index=True)


def enough_for_focal() -> float:
    """The target's softmax p from which on focal loss is convex in the logits by a simpler
    condition, whatever gamma.

    With f = -(1-p)^gamma log p the Hessian is convex where -p f'(p) does not grow, so where
    2 (1-p) + (1 - gamma p) log p >= 0. The root falls with gamma; this is its limit at 0.
    """
    from scipy import optimize

    return float(optimize.brentq(lambda p: 2 * (1 - p) + np.log(p), 0.01, 0.9))


def contrastive_gap_table(profile: str, seed: int = 0) -> "pd.DataFrame":
    """loss - phi at random logits, and at logits whose wrong entries are equal, for the numbers of
    classes in `CONTRASTIVE_CLASSES`.

    Returns:
        pandas.DataFrame, one row per loss: loss, logits (how many were drawn), least (smallest gap
        at random logits), at_equality (largest |gap| where the wrong logits are equal).
    """
    import pandas as pd

    draws, generator, rows = landscape_size(profile).draws, np.random.default_rng(seed), []
    for name, loss in CONTRASTIVE_LOSSES.items():
        least, largest = np.inf, 0.0
        for K in CONTRASTIVE_CLASSES:
            own = generator.integers(0, K, draws)
            Z = 3 * generator.standard_normal((draws, K))
            least = min(least, ufm_landscape.contrastive_gap(loss, Z, own).min())
            Z[:] = Z[:, :1]
            Z[np.arange(draws), own] += 3 * generator.standard_normal(draws)
            gaps = np.abs(ufm_landscape.contrastive_gap(loss, Z, own))
            largest = max(largest, gaps.max())
        row = {"loss": name, "logits": len(CONTRASTIVE_CLASSES) * draws}
        rows.append(row | {"least": least, "at_equality": largest})
    return pd.DataFrame(rows)
