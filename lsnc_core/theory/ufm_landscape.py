"""The landscape of the unconstrained feature model: its critical points, and why it is benign.

Contrastive property (Zhou): loss(z, k) >= phi(t) with t = sum_{j != k} (z_j - z_k), with equality
exactly where all wrong logits are equal. A loss that has it gives f only one kind of global
minimiser. Where phi is convex too, a critical point is a global minimiser if
||grad g|| <= sqrt(lambda_W lambda_H), g the data loss as a function of the K x N logits. Otherwise
it is a strict saddle, provided that one direction of feature space is unused.
"""

from dataclasses import dataclass, replace

import numpy as np

from lsnc_core.errors import UsageError
from lsnc_core.labels import as_count, check_classes
from lsnc_core.theory import ufm, ufm_dynamics, ufm_objective
from lsnc_core.theory.arguments import as_floats, as_one_float, check_kind
from lsnc_core.theory.ufm import LOSSES, FeatureModel, Floats, Loss
from lsnc_core.theory.ufm_spectra import Eigenvalue


def contrastive_gap(loss: Loss, Z: np.ndarray, own: np.ndarray) -> np.ndarray:
    """loss(z, k) - phi(t), which is at least 0 by the contrastive property.

    Formula: phi(t) = ufm.sample_loss at the margin -t/(K-1).
    Args: loss, "ls" or "focal", of one strength; Z, logits float64 (N, K); own, classes int (N,).
    Returns: float64 (N,).
    Raises: UsageError, also for mse, which depends on the sum of the logits too.
    Source: Zhou, definition of the contrastive property.

    >>> Z = np.array([[3.0, 1.0, 1.0]])
    >>> contrastive_gap(Loss("ls", 0.1), Z, np.array([0])).round(12).tolist()
    [0.0]
    """
    ufm.check_one_strength(loss)
    if loss.name == "mse":
        raise UsageError(
            "The contrastive property applies to ls and focal only; mse is no function of "
            "differences of logits."
        )
    Z, own = as_floats(Z, "Z"), as_floats(own, "own")
    if Z.ndim != 2 or Z.shape[1] < 2:
        raise UsageError(f"Z must be logits (N, K) of at least 2 classes, not {Z.shape}.")
    N, K = Z.shape
    if own.shape != (N,) or not np.isin(own, np.arange(K)).all():
        raise UsageError(f"own must be {N} classes from 0 to {K - 1}, one for each row of Z.")
    own = own.astype(np.int64)
    with np.errstate(over="ignore", invalid="ignore"):
        t = (Z - Z[np.arange(N), own][:, None]).sum(1)  # (N,)
    if not np.isfinite(t).all():
        raise UsageError("Z must be finite logits whose differences are finite, too.")
    return ufm_objective.data_loss(loss, Z, own)[0] - ufm.sample_loss(loss, -t / (K - 1), K)


def focal_tie(gamma: float, K: int) -> float:
    """The eps at which the focal loss has two minimisers, margin 0 and a far one.

    Formula: phi(a) + (K-1) eps a = phi(0) at the far local minimum a = focal_far_margin(gamma, eps,
    K), to the last bits. NaN where phi is convex (1/K >= p*), because there is no tie.
    Args: gamma, float >= 0; K, int >= 2. Returns: float. Raises: UsageError.
    Source: derived here; the exception to Zhou's uniqueness clause.

    >>> round(focal_tie(3, 100), 6), focal_tie(3, 10)
    (0.011752, nan)
    """
    from scipy.optimize import elementwise

    K, loss = check_classes(K), Loss("focal", as_one_float(gamma, LOSSES["focal"]))
    if ufm.focal_convex_from(gamma) <= 1 / K:
        return float("nan")

    def rise(eps: np.ndarray) -> np.ndarray:
        """Objective at the far local minimum minus that at margin 0; it rises with eps."""
        a = ufm.focal_far_margin(gamma, eps, K)
        return ufm.sample_loss(loss, a, K) + (K - 1) * eps * a - ufm.sample_loss(loss, 0.0, K)

    # The far minimum exists while (K-1) eps is below the steepest slope of phi, where it is no
    # better than margin 0.
    steepest = ufm.focal_slope(ufm.steepest_focal_margin(gamma, K), gamma, K) / (K - 1)
    return float(elementwise.find_root(rise, (1e-12 * steepest, (1 - 1e-12) * steepest)).x)


def focal_window(gamma: float, K: int) -> tuple[float, float]:
    """The eps between which the focal loss has two local minima, margin 0 and a far one.

    Formula: at margin 0 the objective phi(a) + (K-1) eps a rises from (K-1) eps = -phi'(0) on, and
    the far minimum exists up to the steepest slope of phi. In between, the worse of the two has no
    direction of negative curvature, though phi is convex at the far one. NaN where phi is convex
    (1/K >= p*): there is one minimum.
    Args: gamma, float >= 0; K, int >= 2. Returns: two floats. Raises: UsageError.
    Source: derived here; the exception to Zhou's theorem on saddles.

    >>> low, high = focal_window(3, 100)
    >>> round(low, 6), round(high, 6), low < focal_tie(3, 100) < high
    (0.011057, 0.012137, True)
    """
    K, gamma = check_classes(K), as_one_float(gamma, LOSSES["focal"])
    if ufm.focal_convex_from(gamma) <= 1 / K:
        return float("nan"), float("nan")
    steepest = ufm.steepest_focal_margin(gamma, K)
    low, high = (float(ufm.focal_slope(a, gamma, K)) / (K - 1) for a in (0.0, steepest))
    return low, high


def origin_spectrum(model: FeatureModel, delta: Floats) -> list[Eigenvalue]:
    """Every eigenvalue of the Hessian of f at W = 0, H = 0, b = 0 under label smoothing.

    The last one listed is negative where the origin is a saddle.
    Formula: with kappa = (1-delta)/(K sqrt(n)), the roots ((lambda_W + lambda_H) +- sqrt((lambda_W
    - lambda_H)^2 + 4 kappa^2))/2; lambda_W and lambda_H; lambda_b and lambda_b + 1/K. With lambda_W
    = lambda_H = lambda the least is lambda - kappa.
    Args: model, of any D; delta, float or float64 array in [0, 1). Returns: list of Eigenvalue.
    Raises: UsageError. Source: Zhou, theorem on the global landscape.

    >>> model = FeatureModel(K=4, n=2, D=6, lambda_W=2e-3, lambda_H=2e-3)
    >>> round(float(origin_spectrum(model, 0.1)[-1].value), 4)
    -0.1571
    """
    check_kind(model, FeatureModel, "model")
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
    """A point where the gradient of f vanishes.

    rank: of W. x: the point, float64 (size,). value: f. gradient: the largest gradient entry.
    data_gradient: spectral norm of the data loss's gradient in the K x N logits. global_bound:
    sqrt(lambda_W lambda_H); a point with a larger data_gradient is no global minimiser. escape:
    curvature along the direction built from that gradient and an unused direction of feature space.
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
    """Critical points with W and H of at most a given rank.

    They are the minimisers of the model of feature width `rank`, padded with zeros: in the other
    directions W and H are 0, and so is the gradient. Rank 0 is the origin, with the best bias.
    Equal values are listed once.
    Args: model, D > rank; loss, of one strength; rank, int >= 0; starts and seed, of the search.
    Returns: list of CriticalPoint, by value. Raises: UsageError.
    Source: Zhou, theorem on the global landscape; the choice of points is ours.
    """
    check_kind(model, FeatureModel, "model")
    ufm.check_one_strength(loss)
    if not 0 <= as_count(rank, "The rank") < model.D:
        raise UsageError(
            f"The rank of a critical point must be from 0 to D - 1 = {model.D - 1}, not {rank!r}."
        )
    narrow = replace(model, D=max(rank, 1))
    x = ufm_objective.random_starts(narrow, starts if rank else 1, seed)
    if not rank:
        x *= 0
    solution = ufm_dynamics.minimise(narrow, loss, x, tolerance=1e-13, iterations=3000)
    points: list[CriticalPoint] = []
    previous = -np.inf
    for row in np.argsort(solution.values):
        value = solution.values[row]
        if value - previous > 1e-9 * abs(value):
            wide = _widen(narrow, model, solution.points[row])
            points.append(_describe(model, loss, wide, rank))
        previous = value
    return points


def _widen(narrow: FeatureModel, model: FeatureModel, x: np.ndarray) -> np.ndarray:
    """A point of a narrower model, with zeros in the added feature directions."""
    W, H, b = ufm_objective.split(narrow, x)
    more = ((0, 0), (0, model.D - narrow.D))
    return ufm_objective.join(np.pad(W, more), np.pad(H, more), b)


def _describe(model: FeatureModel, loss: Loss, x: np.ndarray, rank: int) -> CriticalPoint:
    value, gradient = ufm_objective.value_and_gradient(model, loss, x)
    Z, own = ufm_objective.logits(model, x), ufm_objective.classes(model)
    G = ufm_objective.data_loss(loss, Z, own)[1] / model.N  # (N, K)
    steepest = float(np.linalg.norm(G, 2))
    # Along (u q^t, -v q^t), u and v the top singular pair of G and q a feature direction in which W
    # and H are 0, f is a quadratic form in two variables: this is its smaller eigenvalue.
    half, spread = (model.lambda_W + model.lambda_H) / 2, (model.lambda_W - model.lambda_H) / 2
    return CriticalPoint(
        rank,
        x,
        value=float(value),
        gradient=float(np.abs(gradient).max()),
        data_gradient=steepest,
        global_bound=float(np.sqrt(model.lambda_W * model.lambda_H)),
        escape=float(half - np.hypot(spread, steepest)),
        least=float(np.linalg.eigvalsh(ufm_objective.dense_hessian(model, loss, x))[0]),
    )
