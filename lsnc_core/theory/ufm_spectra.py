"""Hessian spectra of the unconstrained feature model at its minimiser under label smoothing,
condition numbers, and the rate of NC1.

Written from the quadratic form of f around the minimiser. The data loss alone curves class-mean
logits Z by (p_o/K) (||PZ||^2 + K (p_t - p_o) sum_k (PZ)_kk^2), its gradient there is -K eps P/N a
sample, and W, Hbar are s_W U, s_H U^t. So the unknowns fall apart into deviations within a class,
directions outside the span of W, and K x K matrices inside it: antisymmetric, symmetric without
diagonal, one copy of P, and what belongs to a vector of K entries with sum 0. Values broadcast over
delta.

Source: Guo Theorem 2 as derived in this project; the paper's own wording of which Hessian it means
is not known to us.
"""

from dataclasses import dataclass

import numpy as np

from lsnc_core.errors import UsageError
from lsnc_core.theory.ufm import FeatureModel, Loss, Minimiser, minimiser

BLOCKS = ("logits", "W", "H", "all")
# The notes that this project works from number four readings of "the condition number" D1, D3, D4
# and D5; there is no D2.
DEFINITIONS = {
    "D1": "data loss with respect to W (or H), non-zero eigenvalues",
    "D3": "with decay, with respect to W (or H), inside the simplex's span",
    "D4": "with decay, with respect to all of W",
    "D5": "with decay, with respect to W, H and b, non-zero eigenvalues",
}


@dataclass(frozen=True, eq=False)
class Eigenvalue:
    """One eigenvalue of a spectrum: the name of its eigenspace, its multiplicity (>= 1), its value,
    float64 of delta's shape.
    """

    name: str
    multiplicity: int
    value: np.ndarray


def at_minimiser(model: FeatureModel, delta) -> Minimiser:
    """The minimiser that the spectra belong to. Raises: UsageError, also where it is the zero
    solution (delta + K eps >= 1).
    """
    found = minimiser(model, Loss("ls", delta))
    zero = np.asarray(found.margin) <= 0
    if zero.any():
        bad = float(np.asarray(delta, dtype=float)[zero].flat[0])
        raise UsageError(
            f"At delta = {bad!r} and eps = {model.eps:.4g} the minimiser is zero, for delta + K eps is not below 1; "
            "take less smoothing or decay, or ufm_landscape.origin_spectrum."
        )
    return found


def spectrum(model: FeatureModel, delta, of: str = "all") -> list[Eigenvalue]:
    """Every eigenvalue of a Hessian of f at the minimiser, in closed form; equal values may appear
    under two names.

    Formula: of = "logits", data loss in the K x K class-mean logits: 0, p_o/K, p_o p_t. of = "W" (H
    fixed), g = p_o s_H^2/K: lambda_W, lambda_W + g, lambda_W + g (1 + (p_t-p_o)(K-2)), lambda_W + g
    K p_t. of = "H" (W fixed): lambda_H, lambda_H + s_W^2 p_o/N, lambda_H + s_W^2 K p_o p_t/N. of =
    "all": see Guo Theorem 2 in the source below; its zeros are the rotations.
    Args: model, D >= K-1; delta, float or float64 array in [0, 1) below the zero solution; of, one
    of BLOCKS.
    Returns: list of Eigenvalue whose multiplicities sum to the number of unknowns. Raises:
    UsageError. Source: module docstring.

    >>> small = FeatureModel(K=2, n=1, D=1, lambda_W=0.05, lambda_H=0.05)
    >>> [(e.name, e.multiplicity, round(float(e.value), 4)) for e in spectrum(small, 0.1, "W")]
    [('left', 1, 0.05), ('mean', 1, 0.2478)]
    """
    if of not in BLOCKS:
        raise UsageError(f"A spectrum is of one of {', '.join(BLOCKS)}, not of {of!r}.")
    found = at_minimiser(model, delta)
    groups = {"logits": _of_logits, "W": _of_W, "H": _of_H, "all": _of_all}[of](model, found)
    shape = np.shape(found.margin)
    return [
        Eigenvalue(name, count, np.broadcast_to(value, shape)[()])
        for name, count, value in groups
        if count > 0
    ]


def _of_logits(model: FeatureModel, at: Minimiser):
    K = model.K
    return [
        ("shift", K, 0.0),
        ("others", K * (K - 2), at.p_off / K),
        ("target", K, at.p_off * at.p_on),
    ]


def _of_W(model: FeatureModel, at: Minimiser):
    K, D, decay = model.K, model.D, model.lambda_W
    g = at.p_off * at.s_H**2 / K
    return [
        ("outside", K * (D - K + 1), decay),
        ("left", K - 1, decay),
        ("antisymmetric", (K - 1) * (K - 2) // 2, decay + g),
        ("symmetric", K * (K - 3) // 2, decay + g),
        ("diagonal", K - 1 if K > 2 else 0, decay + g * (1 + (at.p_on - at.p_off) * (K - 2))),
        ("mean", 1, decay + g * K * at.p_on),
    ]


def _within(model: FeatureModel, at: Minimiser):
    """Eigenvalues of one sample's features: outside the span, across the other classes, towards the
    own class.
    """
    K, D = model.K, model.D
    unit = at.s_W**2 * at.p_off / model.N
    return [
        ("outside", D - K + 1, model.lambda_H),
        ("others", K - 2, model.lambda_H + unit),
        ("own", 1, model.lambda_H + K * at.p_on * unit),
    ]


def _of_H(model: FeatureModel, at: Minimiser):
    return [(name, model.N * count, value) for name, count, value in _within(model, at)]


def _of_all(model: FeatureModel, at: Minimiser):
    K, D, W, H, b = model.K, model.D, model.lambda_W, model.lambda_H, model.lambda_b
    mu, theta = np.sqrt(W * H), at.p_off * at.margin / (K * np.sqrt(model.n))
    theta_t, outside = K * at.p_on * theta, D - K + 1
    return [
        *(
            (f"within, {name}", K * (model.n - 1) * count, value)
            for name, count, value in _within(model, at)
        ),
        ("rotation, outside", (K - 1) * outside, 0.0),
        ("rotation, inside", (K - 1) * (K - 2) // 2, 0.0),
        ("outside, stretch", (K - 1) * outside, W + H),
        ("outside, W sum", outside, W),
        ("outside, mean feature", outside, H),
        ("left", K - 1, W),
        ("antisymmetric", (K - 1) * (K - 2) // 2, (1 + theta / mu) * (W + H)),
        *zip(
            ("symmetric, low", "symmetric, high"),
            2 * (K * (K - 3) // 2,),
            _roots(W, H, mu, theta),
            strict=True,
        ),
        *zip(("mean, low", "mean, high"), (1, 1), _roots(W, H, mu, theta_t), strict=True),
        ("bias shift", 1, b),
        *(
            (f"diagonal {i}", K - 1, value)
            for i, value in enumerate(
                np.moveaxis(np.linalg.eigvalsh(diagonal_block(model, at)), -1, 0)
            )
        ),
    ]


def _roots(W, H, mu, theta):
    """Roots of x^2 - (W+H)(1 + theta/mu) x + 4 theta mu, the smaller without cancellation."""
    half = (W + H) * (1 + theta / mu) / 2
    large = half + np.sqrt(half**2 - 4 * theta * mu)
    return 4 * theta * mu / large, large


def diagonal_block(model: FeatureModel, at: Minimiser) -> np.ndarray:
    """The 4 x 4 form (K = 2: 2 x 2) of unknowns that belong to one vector v of K entries with sum
    0: float64 (..., 4, 4).

    Coordinates: Hbar sqrt(n) along U^t B and W along B U with B = P diag(v) P scaled to norm 1
    (absent for K = 2), the mean feature sqrt(n) U^t v 1^t/sqrt(K), and the bias v.
    """
    K, n = model.K, model.n
    s_W, s_H = np.asarray(at.s_W) / np.sqrt(n), np.asarray(at.s_H)
    apart, p_off = np.asarray(at.p_on - at.p_off), np.asarray(at.p_off)
    zero = np.zeros_like(s_W)
    J = _stack([[s_W, s_H, zero, zero], [zero, zero, s_W, zero + np.sqrt(K)]])  # (..., 2, 4)
    root = np.sqrt(K - 2)
    q = (
        _stack([[1 + apart * (K - 2), apart * root], [apart * root, 1 + apart]])
        * (p_off / K)[..., None, None]
    )  # (..., 2, 2)
    decays = np.diag([model.lambda_H, model.lambda_W, model.lambda_H, model.lambda_b])
    decays[0, 1] = decays[1, 0] = -np.sqrt(model.lambda_W * model.lambda_H)
    whole = J.swapaxes(-1, -2) @ q @ J + decays
    return whole[..., 2:, 2:] if K == 2 else whole


def _stack(rows) -> np.ndarray:
    """A matrix of arrays as an array of matrices."""
    return np.moveaxis(np.array(rows), (0, 1), (-2, -1))


def condition_number(model: FeatureModel, delta, definition: str = "D1"):
    """Largest by smallest eigenvalue of the Hessian that a definition names; zeros of D1 and D5
    (rotations, free directions) left out.

    Formula: D1 K p_t = K - (K-1)(delta + K eps), 1 for K = 2; D3 (1 + a p_o p_t/eps)/(1 + a p_o/(K
    eps)), 1 for K = 2; D4 1 + a p_o p_t/eps; D5 from spectrum(of="all"). "With respect to W" and
    "with respect to H" agree (D4: where D > K-1).
    Args: model, D >= K-1; delta, float or float64 array; definition, of DEFINITIONS. Returns:
    float64 of delta's shape, >= 1.
    Raises: UsageError. Source: Guo's condition-number theorem read as D1; D3 to D5 are the other
    readings.

    >>> code = FeatureModel(K=10, n=5000, D=512, lambda_W=1e-3, lambda_H=1e-6, lambda_b=1e-2)
    >>> [condition_number(code, np.array([0, 0.05]), name).round(2).tolist() for name in ("D1", "D3", "D4")]
    [[9.8, 9.35], [4.33, 6.1], [6.96, 15.71]]
    """
    if definition not in DEFINITIONS:
        raise UsageError(
            f"The definition of the condition number must be one of {', '.join(DEFINITIONS)}, not {definition!r}."
        )
    at, K, eps = at_minimiser(model, delta), model.K, model.eps
    if definition == "D1":
        return K * at.p_on if K > 2 else np.ones_like(at.p_on)
    if definition == "D5":
        zero = ("rotation, outside", "rotation, inside") + (
            ("bias shift",) if model.lambda_b == 0 else ()
        )
        values = np.stack([e.value for e in spectrum(model, delta, "all") if e.name not in zero])
        return values.max(0) / values.min(0)
    largest = 1 + at.margin * at.p_off * at.p_on / eps
    if definition == "D4":
        return largest
    return largest / (1 + at.margin * at.p_off / (K * eps)) if K > 2 else np.ones_like(largest)


def collapse_rate(model: FeatureModel, delta):
    """e, at which NC1 contracts near the minimiser: each gradient step eta of the features
    multiplies NC1 by (1 - eta e)^2.

    Formula: e = lambda_H + s_W^2 p_o/N = lambda_H (1 + a p_o/(K eps)); for K = 2, with no direction
    across other classes, lambda_H + 2 s_W^2 p_o p_t/N. Directions outside the span of the means do
    not enter NC1.
    Args: model, D >= K-1; delta, float or float64 array. Returns: float64 of delta's shape, >
    lambda_H. Raises: UsageError.
    Source: derived in this project (Theorem 3 of its notes), beside Guo's theorem on convergence.

    >>> model = FeatureModel(K=10, n=8, D=12, lambda_W=1e-3, lambda_H=1.25e-5)
    >>> (collapse_rate(model, np.array([0, 0.05, 0.2])) / model.lambda_H).round(2).tolist()
    [1.81, 9.72, 24.73]
    """
    rates = {
        name: value
        for name, count, value in _within(model, at_minimiser(model, delta))
        if count > 0
    }
    return rates["others" if model.K > 2 else "own"]
