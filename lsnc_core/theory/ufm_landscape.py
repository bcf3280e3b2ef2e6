"""The landscape of the unconstrained feature model: critical points that are no minima, and what
makes a loss's landscape benign.

Contrastive property (Zhou): loss(z, k) >= phi(t) with t = sum_{j != k} (z_j - z_k), equal exactly
when all wrong logits are equal. With it f has only one kind of global minimiser. Where phi is
convex too, a critical point is a global minimiser if ||grad g|| <= sqrt(lambda_W lambda_H), g the
data loss as a function of the K x N logits; else it is a strict saddle, provided a direction of
feature space is unused.
"""

from dataclasses import dataclass, replace

import numpy as np

from lsnc_core.errors import UsageError
from lsnc_core.labels import check_classes
from lsnc_core.theory import ufm, ufm_dynamics, ufm_objective
from lsnc_core.theory.ufm import FeatureModel, Loss
from lsnc_core.theory.ufm_spectra import Eigenvalue


def contrastive_gap(loss: Loss, Z: np.ndarray, own: np.ndarray) -> np.ndarray:
    """loss(z, k) - phi(t), which the contrastive property says is at least 0.

    Formula: phi(t) = ufm.sample_loss at the margin -t/(K-1).
    Args: loss, "ls" or "focal"; Z, logits float64 (N, K); own, classes int (N,). Returns: float64
    (N,).
    Raises: UsageError, for mse, which depends on the sum of the logits too. Source: Zhou,
    definition of the contrastive property.

    >>> contrastive_gap(Loss("ls", 0.1), np.array([[3.0, 1.0, 1.0]]), np.array([0])).round(12).tolist()
    [0.0]
    """
    if loss.name == "mse":
        raise UsageError(
            "The contrastive property is one of ls and focal; mse is no function of differences of logits, take those."
        )
    K = Z.shape[1]
    t = Z.sum(1) - K * Z[np.arange(len(Z)), own]  # (N,)
    return ufm_objective.data_loss(loss, Z, own)[0] - ufm.sample_loss(loss, -t / (K - 1), K)


def focal_tie(gamma: float, K: int) -> float:
    """The eps at which the focal loss has two minimisers, margin 0 and a far one; NaN where phi is
    convex (1/K >= p*), then there is none.

    Formula: phi(a) + (K-1) eps a = phi(0) at the far local minimum a(eps), by bisection to the last
    bits.
    Args: gamma, float >= 0; K, int >= 2. Returns: float. Raises: UsageError. Source: derived; the
    exception to Zhou's uniqueness clause.

    >>> round(focal_tie(3, 100), 6), focal_tie(3, 10)
    (0.011752, nan)
    """
    K, loss = check_classes(K), Loss("focal", gamma)
    if ufm.focal_convex_from(gamma) <= 1 / K:
        return float("nan")

    def far_is_lower(eps: float) -> bool:
        a = ufm.focal_far_margin(gamma, eps, K)
        return bool(
            ufm.sample_loss(loss, a, K) + (K - 1) * eps * a < ufm.sample_loss(loss, 0.0, K)
        )  # False for NaN

    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if far_is_lower(middle) else (low, middle)
    return (low + high) / 2


def origin_spectrum(model: FeatureModel, delta) -> list[Eigenvalue]:
    """Every eigenvalue of the Hessian of f at W = 0, H = 0, b = 0 under label smoothing; the last
    named is negative at a saddle.

    Formula: with kappa = (1-delta)/(K sqrt(n)), the roots ((lambda_W + lambda_H) +- sqrt((lambda_W
    - lambda_H)^2 + 4 kappa^2))/2; lambda_W and lambda_H; lambda_b and lambda_b + 1/K. With lambda_W
    = lambda_H = lambda the least is lambda - kappa.
    Args: model, of any D; delta, float or float64 array in [0, 1). Returns: list of Eigenvalue.
    Raises: UsageError. Source: Zhou Theorem B.

    >>> model = FeatureModel(K=4, n=2, D=6, lambda_W=2e-3, lambda_H=2e-3)
    >>> round(float(origin_spectrum(model, 0.1)[-1].value), 4)
    -0.1571
    """
    K, n, D, W, H = model.K, model.n, model.D, model.lambda_W, model.lambda_H
    kappa = (1 - np.asarray(Loss("ls", delta).strength)) / (K * np.sqrt(n))
    half, spread = (W + H) / 2, np.sqrt((W - H) ** 2 + 4 * kappa**2) / 2
    groups = [
        ("W sum", D, W),
        ("mean feature and within", D * (1 + K * (n - 1)), H),
        ("bias shift", 1, model.lambda_b),
        ("bias", K - 1, model.lambda_b + 1 / K),
        ("up", (K - 1) * D, half + spread),
        ("down", (K - 1) * D, half - spread),
    ]
    return [
        Eigenvalue(name, count, np.broadcast_to(value, kappa.shape)[()])
        for name, count, value in groups
    ]


@dataclass(frozen=True, eq=False)
class CriticalPoint:
    """A point where the gradient of f vanishes: rank of W, its place x (size,), f, the largest
    gradient entry there.

    data_gradient: spectral norm of the data loss's gradient in the K x N logits; global_bound:
    sqrt(lambda_W lambda_H), above which the point is no global minimiser; escape: curvature along
    the direction built from that gradient (NaN without an unused direction of feature space);
    least: the smallest eigenvalue of the Hessian.
    """

    rank: int
    x: np.ndarray
    value: float
    gradient: float
    data_gradient: float
    global_bound: float
    escape: float
    least: float


def critical_points(
    model: FeatureModel, loss: Loss, rank: int, starts: int = 4, seed: int = 0
) -> list[CriticalPoint]:
    """Critical points with W and H of at most a given rank: minimisers of the model of feature
    width `rank`, padded with zeros.

    In the other directions W and H are 0 and so is the gradient. Rank 0 is the origin, with the
    best bias. Equal values are listed once.
    Args: model, D > rank; loss, of one strength; rank, int >= 0; starts and seed, of the search.
    Returns: list of CriticalPoint, by value.
    Raises: UsageError. Source: Zhou Theorem B; the points themselves are this project's choice.
    """
    if not 0 <= rank < model.D:
        raise UsageError(
            f"The rank of a critical point must be from 0 to D - 1 = {model.D - 1}, not {rank!r}."
        )
    narrow = replace(model, D=max(rank, 1))
    x = ufm_objective.random_starts(narrow, starts if rank else 1, seed)
    if not rank:
        x *= 0
    found = ufm_dynamics.minimise(narrow, loss, x, tolerance=1e-13, iterations=3000)
    order = np.argsort(found.values)
    distinct = [
        row
        for row, before in zip(order, (None, *order[:-1]), strict=True)
        if before is None or _apart(found.values, row, before)
    ]
    return [
        _describe(model, loss, _widen(narrow, model, found.points[row]), rank) for row in distinct
    ]


def _apart(values: np.ndarray, row: int, before: int) -> bool:
    return values[row] - values[before] > 1e-9 * abs(values[before])


def _widen(narrow: FeatureModel, model: FeatureModel, x: np.ndarray) -> np.ndarray:
    """A point of a narrower model with zeros in the further feature directions."""
    W, H, b = ufm_objective.split(narrow, x)
    more = ((0, 0), (0, model.D - narrow.D))
    return ufm_objective.join(np.pad(W, more), np.pad(H, more), b)


def _describe(model: FeatureModel, loss: Loss, x: np.ndarray, rank: int) -> CriticalPoint:
    value, gradient = ufm_objective.value_and_gradient(model, loss, x)
    G = (
        ufm_objective.data_loss(loss, ufm_objective.logits(model, x), ufm_objective.classes(model))[
            1
        ]
        / model.N
    )
    steepest = float(np.linalg.norm(G, 2))
    # along (u q^t, -v q^t), u and v the top singular pair and q a feature direction in which W and
    # H are 0
    half, spread = (model.lambda_W + model.lambda_H) / 2, (model.lambda_W - model.lambda_H) / 2
    escape = half - np.hypot(spread, steepest)
    least = float(np.linalg.eigvalsh(ufm_objective.dense_hessian(model, loss, x))[0])
    bound = float(np.sqrt(model.lambda_W * model.lambda_H))
    return CriticalPoint(
        rank, x, float(value), float(np.abs(gradient).max()), steepest, bound, float(escape), least
    )
