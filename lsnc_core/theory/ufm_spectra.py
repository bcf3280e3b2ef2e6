"""Hessian spectra of the unconstrained feature model at its minimiser under label smoothing.

From the spectra follow condition numbers and the rate at which NC1 contracts.

Derivation, from the quadratic form of f around the minimiser. The data loss alone curves class-mean
logits Z by (p_o/K) (||PZ||^2 + K (p_t - p_o) sum_k (PZ)_kk^2). Its gradient there is -K eps P/N per
sample, and W, Hbar are s_W U, s_H U^t. So the unknowns decouple into deviations within a class,
directions outside the span of W, and K x K matrices inside it: antisymmetric ones, symmetric ones
without diagonal, one copy of P, and those that belong to a vector of K entries with sum 0. Values
broadcast over delta.

Source: derived here, beside Guo's theorem on condition numbers; we do not know which Hessian the
paper means.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lsnc_core.errors import UsageError
from lsnc_core.theory.arguments import check_choice
from lsnc_core.theory.ufm import FeatureModel, Floats, Loss, Minimiser, minimiser

BLOCKS = ("logits", "W", "H", "all")
# The project's notes number four readings of "the condition number"; there is no D2.
DEFINITIONS = {
    "D1": "data loss with respect to W (or H), non-zero eigenvalues",
    "D3": "with weight decay, with respect to W (or H), inside the span of the simplex ETF",
    "D4": "with weight decay, with respect to all of W",
    "D5": "with weight decay, with respect to W, H and b, non-zero eigenvalues",
}
Group = tuple[str, int, Floats]  # name of an eigenspace, multiplicity (0: absent), eigenvalue


@dataclass(frozen=True, eq=False)
class Eigenvalue:
    """One eigenvalue of a spectrum.

    name: of its eigenspace. multiplicity: int >= 1. value: float64 of delta's shape.
    """

    name: str
    multiplicity: int
    value: np.ndarray


def at_minimiser(model: FeatureModel, delta: Floats) -> Minimiser:
    """The minimiser that the spectra belong to.

    Raises: UsageError, also where it is the zero solution (delta + K eps >= 1).
    """
    at = minimiser(model, Loss("ls", delta))
    zero = np.asarray(at.margin) <= 0
    if zero.any():
        bad = float(np.asarray(delta, dtype=float)[zero].flat[0])
        raise UsageError(
            f"At delta = {bad!r} and eps = {model.eps:.4g} the minimiser is zero, because "
            "delta + K eps is not below 1; take less smoothing or weight decay, or "
            "ufm_landscape.origin_spectrum."
        )
    return at


def spectrum(model: FeatureModel, delta: Floats, of: str = "all") -> list[Eigenvalue]:
    """Every eigenvalue of a Hessian of f at the minimiser, in closed form.

    Equal values may appear under two names.
    Formula: of = "logits", data loss in the K x K class-mean logits: 0, p_o/K, p_o p_t. of = "W" (H
    fixed), g = p_o s_H^2/K: lambda_W, lambda_W + g, lambda_W + g (1 + (p_t-p_o)(K-2)), lambda_W + g
    K p_t. of = "H" (W fixed): lambda_H, lambda_H + s_W^2 p_o/N, lambda_H + s_W^2 K p_o p_t/N. of =
    "all": the groups of `_groups_of_all`; its zeros are the rotations.
    Args: model, D >= K-1; delta, float or float64 array in [0, 1) below the zero solution; of, one
    of BLOCKS.
    Returns: list of Eigenvalue whose multiplicities sum to the number of unknowns. Raises:
    UsageError. Source: derived here, see the module docstring.

    >>> small = FeatureModel(K=2, n=1, D=1, lambda_W=0.05, lambda_H=0.05)
    >>> eigenvalues = spectrum(small, 0.1, "W")
    >>> [(e.name, e.multiplicity, round(float(e.value), 4)) for e in eigenvalues]
    [('left', 1, 0.05), ('mean', 1, 0.2478)]
    """
    if not isinstance(of, str) or of not in BLOCKS:
        raise UsageError(f"A spectrum is of one of {', '.join(BLOCKS)}, not of {of!r}.")
    at = at_minimiser(model, delta)
    groups = {
        "logits": _groups_of_logits,
        "W": _groups_of_W,
        "H": _groups_of_H,
        "all": _groups_of_all,
    }
    shape = np.shape(at.margin)
    return [
        Eigenvalue(name, count, np.broadcast_to(value, shape)[()])
        for name, count, value in groups[of](model, at)
        if count > 0
    ]


def _groups_of_logits(model: FeatureModel, at: Minimiser) -> Iterator[Group]:
    K = model.K
    yield "shift", K, 0.0
    yield "others", K * (K - 2), at.p_off / K
    yield "target", K, at.p_off * at.p_on


def _groups_of_W(model: FeatureModel, at: Minimiser) -> Iterator[Group]:
    K, D, lambda_W = model.K, model.D, model.lambda_W
    g = at.p_off * at.s_H**2 / K
    yield "outside", K * (D - K + 1), lambda_W
    yield "left", K - 1, lambda_W
    yield "antisymmetric", (K - 1) * (K - 2) // 2, lambda_W + g
    yield "symmetric", K * (K - 3) // 2, lambda_W + g
    diagonal = lambda_W + g * (1 + (at.p_on - at.p_off) * (K - 2))
    yield "diagonal", K - 1 if K > 2 else 0, diagonal
    yield "mean", 1, lambda_W + g * K * at.p_on


def _groups_of_sample(model: FeatureModel, at: Minimiser) -> Iterator[Group]:
    """For one sample's features: outside the span, across the other classes, towards its own."""
    K, D = model.K, model.D
    unit = at.s_W**2 * at.p_off / model.N
    yield "outside", D - K + 1, model.lambda_H
    yield "others", K - 2, model.lambda_H + unit
    yield "own", 1, model.lambda_H + K * at.p_on * unit


def _groups_of_H(model: FeatureModel, at: Minimiser) -> Iterator[Group]:
    for name, count, value in _groups_of_sample(model, at):
        yield name, model.N * count, value


def _groups_of_all(model: FeatureModel, at: Minimiser) -> Iterator[Group]:
    """For W, H and b together, with mu = sqrt(lambda_W lambda_H), theta = p_o a/(K sqrt(n))."""
    K, D, W, H, b = model.K, model.D, model.lambda_W, model.lambda_H, model.lambda_b
    mu, theta = np.sqrt(W * H), at.p_off * at.margin / (K * np.sqrt(model.n))
    outside, planes = D - K + 1, (K - 1) * (K - 2) // 2
    for name, count, value in _groups_of_sample(model, at):
        yield f"within, {name}", K * (model.n - 1) * count, value
    yield "rotation, outside", (K - 1) * outside, 0.0
    yield "rotation, inside", planes, 0.0
    yield "outside, stretch", (K - 1) * outside, W + H
    yield "outside, W sum", outside, W
    yield "outside, mean feature", outside, H
    yield "left", K - 1, W
    yield "antisymmetric", planes, (1 + theta / mu) * (W + H)
    low, high = _roots(W, H, mu, theta)
    yield "symmetric, low", K * (K - 3) // 2, low
    yield "symmetric, high", K * (K - 3) // 2, high
    low, high = _roots(W, H, mu, K * at.p_on * theta)
    yield "mean, low", 1, low
    yield "mean, high", 1, high
    yield "bias shift", 1, b
    eigenvalues = np.linalg.eigvalsh(diagonal_block(model, at))  # (..., 4), K = 2: (..., 2)
    for number in range(eigenvalues.shape[-1]):
        yield f"diagonal {number}", K - 1, eigenvalues[..., number]


def _roots(W: float, H: float, mu: float, theta: Floats) -> tuple[Floats, Floats]:
    """Roots of x^2 - (W+H)(1 + theta/mu) x + 4 theta mu, the smaller without cancellation."""
    half = (W + H) * (1 + theta / mu) / 2
    large = half + np.sqrt(half**2 - 4 * theta * mu)
    return 4 * theta * mu / large, large


def diagonal_block(model: FeatureModel, at: Minimiser) -> np.ndarray:
    """The quadratic form of the unknowns that belong to one vector v of K entries with sum 0.

    Coordinates: Hbar sqrt(n) along U^t B and W along B U with B = P diag(v) P scaled to norm 1
    (absent for K = 2), the mean feature sqrt(n) U^t v 1^t/sqrt(K), and the bias v.
    Returns: float64 (..., 4, 4), for K = 2 (..., 2, 2).
    """
    K, n = model.K, model.n
    s_W, s_H = np.asarray(at.s_W) / np.sqrt(n), np.asarray(at.s_H)
    apart, p_off = np.asarray(at.p_on - at.p_off), np.asarray(at.p_off)
    zero = np.zeros_like(s_W)
    J = _stack([[s_W, s_H, zero, zero], [zero, zero, s_W, zero + np.sqrt(K)]])  # (..., 2, 4)
    root = np.sqrt(K - 2)
    q = _stack([[1 + apart * (K - 2), apart * root], [apart * root, 1 + apart]])  # (..., 2, 2)
    q = q * (p_off / K)[..., None, None]
    penalty = np.diag([model.lambda_H, model.lambda_W, model.lambda_H, model.lambda_b])
    penalty[0, 1] = penalty[1, 0] = -np.sqrt(model.lambda_W * model.lambda_H)
    whole = J.swapaxes(-1, -2) @ q @ J + penalty
    return whole[..., 2:, 2:] if K == 2 else whole


def _stack(rows: list[list[np.ndarray]]) -> np.ndarray:
    """A matrix of arrays as an array of matrices."""
    return np.moveaxis(np.array(rows), (0, 1), (-2, -1))


def condition_number(model: FeatureModel, delta: Floats, definition: str = "D1") -> np.ndarray:
    """Ratio of the largest to the smallest eigenvalue of the Hessian that a definition names.

    D1 and D5 leave out zeros (rotations, free directions). "With respect to W" and "with respect to
    H" agree (D4: where D > K-1).
    Formula: D1 K p_t = K - (K-1)(delta + K eps), 1 for K = 2; D3 (1 + a p_o p_t/eps)/(1 + a p_o/(K
    eps)), 1 for K = 2; D4 1 + a p_o p_t/eps; D5 from spectrum(of="all").
    Args: model, D >= K-1; delta, float or float64 array; definition, of DEFINITIONS. Returns:
    float64 of delta's shape, >= 1. Raises: UsageError.
    Source: Guo's theorem on condition numbers, read as D1; D3 to D5 are the other readings.

    >>> code = FeatureModel(K=10, n=5000, D=512, lambda_W=1e-3, lambda_H=1e-6, lambda_b=1e-2)
    >>> delta = np.array([0, 0.05])
    >>> [condition_number(code, delta, name).round(2).tolist() for name in ("D1", "D3", "D4")]
    [[9.8, 9.35], [4.33, 6.1], [6.96, 15.71]]
    """
    check_choice(definition, DEFINITIONS, "The definition of the condition number")
    at, K, eps = at_minimiser(model, delta), model.K, model.eps
    if definition == "D1":
        return K * at.p_on if K > 2 else np.ones_like(at.p_on)
    if definition == "D5":
        zeros = {"rotation, outside", "rotation, inside"}
        if model.lambda_b == 0:
            zeros.add("bias shift")
        eigenvalues = spectrum(model, delta, "all")
        values = np.stack([e.value for e in eigenvalues if e.name not in zeros])
        return values.max(0) / values.min(0)
    largest = 1 + at.margin * at.p_off * at.p_on / eps
    if definition == "D4":
        return largest
    return largest / (1 + at.margin * at.p_off / (K * eps)) if K > 2 else np.ones_like(largest)


def collapse_rate(model: FeatureModel, delta: Floats) -> np.ndarray:
    """e, the rate at which NC1 contracts near the minimiser.

    Each gradient step eta of the features multiplies NC1 by (1 - eta e)^2. Directions outside the
    span of the class means do not enter NC1.
    Formula: e = lambda_H + s_W^2 p_o/N = lambda_H (1 + a p_o/(K eps)). For K = 2, with no direction
    across other classes, e = lambda_H + 2 s_W^2 p_o p_t/N.
    Args: model, D >= K-1; delta, float or float64 array. Returns: float64 of delta's shape, >
    lambda_H. Raises: UsageError.
    Source: derived here, beside Guo's claim of faster convergence.

    >>> model = FeatureModel(K=10, n=8, D=12, lambda_W=1e-3, lambda_H=1.25e-5)
    >>> (collapse_rate(model, np.array([0, 0.05, 0.2])) / model.lambda_H).round(2).tolist()
    [1.81, 9.72, 24.73]
    """
    at = at_minimiser(model, delta)
    # The slowest direction inside the span decides.
    slowest = "others" if model.K > 2 else "own"
    groups = _groups_of_sample(model, at)
    return next(np.asarray(value)[()] for name, _, value in groups if name == slowest)
