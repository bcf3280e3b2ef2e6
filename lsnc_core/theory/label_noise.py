"""Label smoothing under label noise: the closed forms and optima of Chen, Ziyin, Wang and Liang.

A network that has memorised noisy, smoothed labels outputs exactly the smoothed version of its
*training* label. The formulas are its cross-entropy, in nats, against the *test* label of the same
input. That label is clean (alpha), equally but independently noisy (beta), or drawn from the
p-smoothed prior around the clean label (gamma). a: clean-label rate, p: kept mass, M: number of
classes.

    symbol  meaning                             name in code
    q       P(test label = training label)      agreement
    l       -q log p - (1-q) log((1-p)/(M-1))   loss
    p*      the minimiser of l over p           optimum, best_loss
    S, T    smoothing and noise matrix          alpha_loss, beta_loss, optimal_smoothing_alpha,
                                                optimal_smoothing_beta, mean_field_kept_alpha, ...

Each function's docstring names its equation. Columns of S and T sum to 1. Formulas that the paper
misprints are in `label_noise_errata`, under names that begin with `printed_`.

The gamma optimum. With u = log(p (M-1)/(1-p)), b = (1-a)/(M-1) and s = 1 - M b = (aM-1)/(M-1):
q = b + s p and dl/dp = b F(u) - s u, F(u) = e^u - 1 + (M-1)(1 - e^-u). So a stationary point other
than p = 1/M (u = 0) solves F(u)/u = s/b. On u > 0, F(u)/u falls and then rises; its rising part
holds the minimum, along which l decreases in a. The mirror minimum at u < 0, which exists above the
spinodal, is never lower: F(v)/v <= F(-v)/(-v) puts it nearer to 0, and l falls more slowly with a
there.

Source: arXiv 2010.12648; derivations beyond it are marked.
"""

from functools import lru_cache
from math import exp, expm1, log

import numpy as np
from numpy.typing import ArrayLike

from lsnc_core.errors import UsageError
from lsnc_core.labels import check_classes, check_noise, check_smoothing, check_unit
from lsnc_core.theory.arguments import as_one_shape

KINDS = ("alpha", "beta", "gamma")


def _check_grid(a: ArrayLike, p: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """a and p as float64 of one shape, or UsageError."""
    a, p = check_unit(a, "The clean-label rate a"), check_unit(p, "The kept mass p")
    a, p = as_one_shape(a=a, p=p)
    return a, p


def _cross_entropy(q: np.ndarray, p: np.ndarray, M: int) -> float | np.ndarray:
    """-q log p - (1-q) log((1-p)/(M-1)) with 0 log 0 = 0; q and p float64 of one shape."""
    with np.errstate(divide="ignore", invalid="ignore"):
        on = np.where(q == 0, 0.0, q * np.log(p))
        off = np.where(q == 1, 0.0, (1 - q) * (np.log1p(-p) - log(M - 1)))
    return (0.0 - on - off)[()]


def agreement(kind: str, a: ArrayLike, p: ArrayLike, M: int) -> float | np.ndarray:
    """Probability that test and training label of one input agree.

    Formula: alpha q = a; beta q = a^2 + (1-a)^2/(M-1); gamma q = a p + (1-a)(1-p)/(M-1).
    Args: kind, one of KINDS; a, p, float or float64 arrays in [0, 1] that broadcast; M, int >= 2.
    Returns: float64 of the broadcast shape in [0, 1]. Raises: UsageError.
    Source: compact form, derived here, of the losses that `loss` lists.

    >>> [round(float(agreement(kind, 0.8, 0.9, 10)), 4) for kind in KINDS]
    [0.8, 0.6444, 0.7222]
    """
    if not isinstance(kind, str) or kind not in KINDS:
        raise UsageError(f"The kind of test label must be one of {', '.join(KINDS)}, not {kind!r}.")
    M, (a, p) = check_classes(M, "M"), _check_grid(a, p)
    if kind == "alpha":
        return a.copy()[()]
    other = 1 - a if kind == "beta" else 1 - p
    same = a if kind == "beta" else p
    return (a * same + (1 - a) * other / (M - 1))[()]


def loss(kind: str, a: ArrayLike, p: ArrayLike, M: int) -> float | np.ndarray:
    """Cross-entropy per sample of the memorised smoothed label against the test label.

    Formula: l = -q log p - (1-q) log((1-p)/(M-1)), q = agreement(kind, a, p, M), 0 log 0 = 0.
    Args: kind, one of KINDS; a, p, float or float64 arrays in [0, 1] that broadcast; M, int >= 2.
    Returns: float64 of the broadcast shape in [0, inf], in nats; never NaN; inf at p = 1 unless
    q = 1, and at p = 0 unless q = 0.
    Raises: UsageError.
    Source: alpha Chen eq. 7 (M = 2) and Chen eq. 11; beta Chen eq. 8 (M = 2) and Chen eq. 14; gamma
    Chen eq. 9 (M = 2) and Chen eq. 15.

    >>> [round(float(loss(kind, 0.5, 0.9, 10)), 4) for kind in ("alpha", "beta")]
    [2.3026, 3.2791]
    >>> round(float(loss("gamma", 0.8, 0.9, 10)), 4)
    1.326
    """
    q = np.asarray(agreement(kind, a, p, M))
    return _cross_entropy(q, _check_grid(a, p)[1], int(M))


def entropy_floor(p: ArrayLike, M: int) -> float | np.ndarray:
    """Entropy of a smoothed label: the least training loss that a network can reach.

    Formula: H(p) + (1-p) log(M-1), H(p) = -p log p - (1-p) log(1-p).
    Args: p, float or float64 array in [0, 1]; M, int >= 2. Returns: float64 of p's shape in
    [0, log M], in nats. Raises: UsageError.
    Source: Chen eq. 3; for M classes the first bracket of Chen eq. 15.

    >>> [round(float(entropy_floor(p, 10)), 4) for p in (0.1, 0.9, 1.0)]
    [2.3026, 0.5448, 0.0]
    """
    M, p = check_classes(M, "M"), check_unit(p, "The kept mass p")
    return _cross_entropy(p, p, M)


def _sinhc_excess(u: np.ndarray) -> np.ndarray:
    """sinh(u)/u - 1 without cancellation, u >= 0."""
    small, x = u < 1, np.minimum(u, 1.0) ** 2
    term, total = np.ones_like(x), np.zeros_like(x)
    for k in range(1, 11):  # x^10/21! < 1e-19
        term = term * x / (2 * k * (2 * k + 1))
        total = total + term
    large = np.maximum(u, 1.0)
    return np.where(small, total, np.sinh(large) / large - 1)


@lru_cache(maxsize=256)
def _transition_u(M: int) -> float:
    """u at the first-order transition: on the rising branch the loss equals log M; M >= 3."""
    from scipy.optimize import elementwise

    def slope(u: np.ndarray) -> np.ndarray:
        """u^2 d(F/u)/du: negative below the fold of the branch, positive above."""
        return (u - 1) * np.exp(u) + 1 - (M - 1) * (1 - (1 + u) * np.exp(-u))

    def excess(u: np.ndarray) -> np.ndarray:
        """log M - l on the branch, where b = u/(F + M u)."""
        e, p = np.expm1(u), 1 / (1 + (M - 1) * np.exp(-u))
        b = u / (e - (M - 1) * np.expm1(-u) + M * u)
        return u * p - u * b * (M * p - 1) - np.log1p(e / M)

    top = 2 * log(M) + 10
    fold = elementwise.find_root(slope, (log(M - 1) / 2, top)).x
    return float(elementwise.find_root(excess, (fold, top)).x)


def gamma_transition(M: int) -> tuple[float, float]:
    """Where the gamma optimum leaves p = 1/M: the clean-label rate a_c, and p_c just above it.

    Formula: l(a_c, p_c) = log M and dl/dp = 0 with p_c > 1/M (first order, M >= 3). M = 2: a
    continuous transition at a_c = 3/4, p_c = 1/2.
    Args: M, int >= 2. Returns: (a_c, p_c), floats, 1/M < a_c <= (M+1)/(2M), 1/M <= p_c < 1. Raises:
    UsageError.
    Source: Chen, section 4.3, claims a first-order transition at some a > 1/M; the values are
    derived here.

    >>> [tuple(round(x, 4) for x in gamma_transition(M)) for M in (2, 3, 10)]
    [(0.75, 0.5), (0.6601, 0.4993), (0.4768, 0.4827)]
    """
    M = check_classes(M, "M")
    if M == 2:
        return 0.75, 0.5
    u = _transition_u(M)
    b = u / (expm1(u) - (M - 1) * expm1(-u) + M * u)
    return 1 - (M - 1) * b, 1 / (1 + (M - 1) * exp(-u))


def gamma_spinodal(M: int) -> float:
    """Clean-label rate above which p = 1/M is no longer a local minimum of the gamma loss.

    Formula: a_s = (M+1)/(2M).
    Args: M, int >= 2. Returns: float in (1/2, 3/4]. Raises: UsageError.
    Source: derived here from Chen eq. 15: d2l/dp2 = 0 at p = 1/M.

    >>> gamma_spinodal(2), gamma_spinodal(10)
    (0.75, 0.55)
    """
    return (check_classes(M, "M") + 1) / (2 * M)


def _gamma_optimum(a: np.ndarray, M: int) -> float | np.ndarray:
    from scipy.optimize import elementwise

    optima = np.where(a == 1, 1.0, 1 / M)
    beyond = (a > gamma_transition(M)[0]) & (a < 1)
    c = a[beyond]  # (n,)
    ratio = (c * M - 1) / (1 - c)  # s/b, at least 1 here
    top = 2 * np.log(ratio) + 10
    if M == 2:
        # F/u = 2 sinh(u)/u, and 4a - 3 is exact: full precision close to the transition.
        excess = (4 * c - 3) / (2 * (1 - c))
        low = np.zeros_like(c)
        found = elementwise.find_root(
            lambda u, excess: _sinhc_excess(u) - excess, (low, top), args=(excess,)
        )
    else:
        low = np.full_like(c, _transition_u(M))
        found = elementwise.find_root(
            lambda u, ratio: np.expm1(u) - (M - 1) * np.expm1(-u) - ratio * u,
            (low, top),
            args=(ratio,),
        )
    # Just above the transition rounding may hide the change of sign; the root is then `low`.
    u = np.where(found.success, found.x, low)
    # At p = 1 itself the loss is infinite.
    optima[beyond] = np.minimum(1 / (1 + (M - 1) * np.exp(-u)), np.nextafter(1, 0))
    return optima[()]


def optimum(kind: str, a: ArrayLike, M: int) -> float | np.ndarray:
    """Kept mass that minimises the loss at each clean-label rate.

    Formula: alpha p* = a; beta p* = (1 - 2a + a^2 M)/(M-1); gamma p* = 1/M up to a_c
    (gamma_transition), above it the largest root of b F(u) = s u (module docstring), to 1e-9 or
    better. gamma, M = 2: the minimiser >= 1/2; 1 - p* is the other one.
    Args: kind, one of KINDS; a, float or float64 array in [0, 1]; M, int >= 2.
    Returns: float64 of a's shape in [0, 1]. Raises: UsageError.
    Source: Chen, text after the losses that `loss` lists; gamma derived here.

    >>> [round(float(optimum(kind, 0.8, 10)), 4) for kind in KINDS]
    [0.8, 0.6444, 0.9504]
    """
    q = agreement(kind, a, 0.0, M)  # alpha and beta do not depend on p, and q is the optimum
    if kind == "gamma":
        return _gamma_optimum(check_unit(a, "The clean-label rate a"), int(M))
    return q


def best_loss(kind: str, a: ArrayLike, M: int) -> float | np.ndarray:
    """The loss at the best kept mass: min over p of loss(kind, a, p, M).

    Formula: alpha and beta H(q) + (1-q) log(M-1), q = p*; gamma log M up to a_c, less above.
    Args: kind, one of KINDS; a, float or float64 array in [0, 1]; M, int >= 2. Returns: float64 of
    a's shape in [0, log M], in nats. Raises, Source: as `optimum`.

    >>> [round(float(best_loss(kind, 0.8, 10)), 4) for kind in KINDS]
    [0.9398, 1.4321, 1.2796]
    """
    return loss(kind, a, optimum(kind, a, M), M)


def gamma_large_M(a: ArrayLike, p: ArrayLike, M: int) -> float | np.ndarray:
    """The gamma loss for many classes, without terms that vanish like log(M)/M.

    Formula: -a p log p - (1 - a p) log(1-p) + (1 - a p) log(M-1).
    Args: a, p, float or float64 arrays in [0, 1] that broadcast; M, int >= 2.
    Returns: float64 of the broadcast shape in [0, inf], in nats. Raises: UsageError.
    Source: derived here; replaces the statement after Chen eq. 15.

    >>> round(float(gamma_large_M(0.8, 0.9, 1000) - loss("gamma", 0.8, 0.9, 1000)), 4)
    0.0002
    """
    M, (a, p) = check_classes(M, "M"), _check_grid(a, p)
    return _cross_entropy(a * p, p, M)


def _weighted(W: np.ndarray, S: np.ndarray) -> float:
    """-(1/M) sum_ij W_ij log S_ij with 0 log 0 = 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(W == 0, 0.0, W * np.log(S))  # (M, M)
    return float(0.0 - terms.sum() / len(W))


def alpha_loss(S: ArrayLike, T: ArrayLike) -> float:
    """Cross-entropy of memorised smoothed noisy labels against clean labels, for any noise.

    Classes are balanced. Formula: -(1/M) sum over clean c and noisy k of T_kc log S_ck.
    Args: S, float64 (M, M) in [0, 1], outputs as columns, which need not sum to 1; T, float64
    (M, M), columns sum to 1. Returns: float in [0, inf], in nats. Raises: UsageError.
    Source: Chen eq. 10, averaged over the classes; for symmetric S also Chen eq. 16, alpha-type.

    >>> round(alpha_loss([[0.8, 0.2], [0.2, 0.8]], [[0.5, 0.5], [0.5, 0.5]]), 4)  # -log(0.16)/2
    0.9163
    """
    T = check_noise(T)
    return _weighted(T.T, check_smoothing(S, len(T)))


def beta_loss(S: ArrayLike, T: ArrayLike) -> float:
    """Cross-entropy of memorised smoothed noisy labels against independently noisy labels.

    Classes are balanced, the noise is arbitrary. Formula: -(1/M) sum_jk (T T^t)_jk log S_jk.
    Args: S, float64 (M, M) in [0, 1], outputs as columns, which need not sum to 1; T, float64
    (M, M), columns sum to 1. Returns: float in [0, inf], in nats. Raises: UsageError.
    Source: Chen eq. 12 without its factor 2, averaged over the classes; for symmetric S it corrects
    Chen eq. 16, beta-type.

    >>> T = [[0.9, 0.1], [0.1, 0.9]]
    >>> round(beta_loss([[0.8, 0.2], [0.2, 0.8]], T), 4)  # -0.82 log 0.8 - 0.18 log 0.2
    0.4727
    """
    T = check_noise(T)
    return _weighted(T @ T.T, check_smoothing(S, len(T)))


def _normalise_columns(W: np.ndarray) -> np.ndarray:
    sums = W.sum(axis=0)  # (M,)
    return np.where(sums > 0, W / np.where(sums > 0, sums, 1.0), 1 / len(W))


def optimal_smoothing_alpha(T: ArrayLike) -> np.ndarray:
    """The smoothing matrix of least alpha_loss: the posterior of the clean class.

    Formula: S* = T^t diag(1/(T 1)), S*_ck = P(clean c | noisy k) for balanced classes; a class that
    noise never yields gets the uniform column.
    Args: T, float64 (M, M), columns sum to 1. Returns: float64 (M, M), columns sum to 1. Raises:
    UsageError.
    Source: text after Chen eq. 10, which prints S* = T (true for symmetric doubly stochastic T).

    >>> optimal_smoothing_alpha([[1.0, 0.5], [0.0, 0.5]]).round(4).tolist()
    [[0.6667, 0.0], [0.3333, 1.0]]
    """
    return _normalise_columns(check_noise(T).T)


def optimal_smoothing_beta(T: ArrayLike) -> np.ndarray:
    """The smoothing matrix of least beta_loss: T T^t with each column normalised.

    Formula: S* = T T^t diag(1/(T 1)); a class that noise never yields gets the uniform column.
    Args: T, float64 (M, M), columns sum to 1. Returns: float64 (M, M), columns sum to 1. Raises:
    UsageError. Source: corrects Chen eq. 13.

    >>> optimal_smoothing_beta([[0.8, 0.2], [0.2, 0.8]]).round(4).tolist()
    [[0.68, 0.32], [0.32, 0.68]]
    """
    T = check_noise(T)
    return _normalise_columns(T @ T.T)


def mean_field_kept_alpha(T: ArrayLike) -> float:
    """Best kept mass of symmetric smoothing under any noise, for clean test labels: p* = Tr(T)/M.

    Args: T, float64 (M, M), columns sum to 1. Returns: float in [0, 1]. Raises: UsageError.
    Source: Chen eq. 17, alpha-type.

    >>> round(mean_field_kept_alpha([[1.0, 0.5], [0.0, 0.5]]), 12)
    0.75
    """
    return float(check_noise(T).diagonal().mean())


def mean_field_kept_beta(T: ArrayLike) -> float:
    """Best kept mass of symmetric smoothing under any noise, for equally noisy test labels.

    Formula: p* = Tr(T T^t)/M = (1/M) sum_ij T_ij^2.
    Args: T, float64 (M, M), columns sum to 1. Returns: float in [1/M, 1]. Raises: UsageError.
    Source: corrects Chen eq. 17, beta-type.

    >>> round(mean_field_kept_beta([[1.0, 0.5], [0.0, 0.5]]), 12)
    0.75
    """
    T = check_noise(T)
    return float((T * T).sum() / len(T))
