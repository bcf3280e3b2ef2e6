"""How label smoothing acts under label noise: Chen, Ziyin, Wang, Liang (arXiv 2010.12648), closed
forms and optima.

A network that has memorised noisy, smoothed labels outputs exactly the smoothed version of its
*training* label; the formulas are its cross-entropy, in nats, against the *test* label of the same
input, which is clean (alpha), equally but independently noisy (beta), or drawn from the p-smoothed
prior around the clean label (gamma). a: clean rate, p: kept mass, M: number of classes.

    symbol  meaning                                  here                       equation
    q       P(test label = training label)           agreement                  compact form of 7-9, 11, 14, 15
    l       -q log p - (1-q) log((1-p)/(M-1))        loss                       7-9, 11, 14, 15
    p*      the minimiser of l over p                optimum, best_loss         after 7, 8, 11, 14; gamma: derived
    S, T    smoothing and noise matrix, columns = 1  *_loss, *_alpha, *_beta    10, 12, 13, 16, 17
What the paper prints and is wrong stands in `label_noise_errata`, under names that begin with
`printed_`.

gamma in u = log(p (M-1)/(1-p)), b = (1-a)/(M-1), s = 1 - M b = (aM-1)/(M-1): q = b + s p and
dl/dp = b F(u) - s u, F(u) = e^u - 1 + (M-1)(1 - e^-u). So a stationary point other than p = 1/M (u
= 0) solves F(u)/u = s/b. On u > 0 F(u)/u falls, then rises; its rising part holds the minimum,
along which l decreases in a. The mirror minimum at u < 0 (it exists above the spinodal) is never
lower: F(v)/v <= F(-v)/(-v) puts it nearer to 0, and l falls more slowly with a there.
"""

from functools import lru_cache
from math import exp, expm1, log

import numpy as np

from lsnc_core.errors import UsageError
from lsnc_core.labels import check_classes, check_noise, check_smoothing, check_unit

KINDS = ("alpha", "beta", "gamma")


def _grid(a, p) -> tuple[np.ndarray, np.ndarray]:
    a, p = check_unit(a, "The clean rate a"), check_unit(p, "The kept mass p")
    try:
        return np.broadcast_arrays(a, p)
    except ValueError:
        raise UsageError(
            f"The shapes of a and p must broadcast, but they are {a.shape} and {p.shape}."
        ) from None


def _cross_entropy(q, p, M: int):
    """-q log p - (1-q) log((1-p)/(M-1)) with 0 log 0 = 0; q and p float64 of one shape."""
    with np.errstate(divide="ignore", invalid="ignore"):
        on = np.where(q == 0, 0.0, q * np.log(p))
        off = np.where(q == 1, 0.0, (1 - q) * (np.log1p(-p) - log(M - 1)))
    return (0.0 - on - off)[()]


def agreement(kind: str, a, p, M: int):
    """Probability that test and training label of one input agree.

    Formula: alpha q = a; beta q = a^2 + (1-a)^2/(M-1); gamma q = a p + (1-a)(1-p)/(M-1).
    Args: kind, one of KINDS; a, p, float or float64 arrays in [0, 1] that broadcast; M, int >= 2.
    Returns: float64 of the broadcast shape in [0, 1]. Raises: UsageError. Source: Chen eqs 7-9, 11,
    14, 15 in compact form.

    >>> [round(float(agreement(kind, 0.8, 0.9, 10)), 4) for kind in KINDS]
    [0.8, 0.6444, 0.7222]
    """
    if not isinstance(kind, str) or kind not in KINDS:
        raise UsageError(f"The kind of test label must be one of {', '.join(KINDS)}, not {kind!r}.")
    M, (a, p) = check_classes(M, "M"), _grid(a, p)
    if kind == "alpha":
        return a.copy()[()]
    other = 1 - a if kind == "beta" else 1 - p
    same = a if kind == "beta" else p
    return (a * same + (1 - a) * other / (M - 1))[()]


def loss(kind: str, a, p, M: int):
    """Cross-entropy per sample of the memorised smoothed label against the test label.

    Formula: l = -q log p - (1-q) log((1-p)/(M-1)), q = agreement(kind, a, p, M), 0 log 0 = 0.
    Args: kind, one of KINDS; a, p, float or float64 arrays in [0, 1] that broadcast; M, int >= 2.
    Returns: float64 of the broadcast shape in [0, inf], in nats; never NaN; inf at p = 1 unless q =
    1, at p = 0 unless q = 0.
    Raises: UsageError. Source: Chen eqs 7, 8, 9 (M = 2), 11, 14, 15.

    >>> [round(float(loss(kind, 0.5, 0.9, 10)), 4) for kind in ("alpha", "beta")], round(float(loss("gamma", 0.8, 0.9, 10)), 4)
    ([2.3026, 3.2791], 1.326)
    """
    q = agreement(kind, a, p, M)
    return _cross_entropy(q, _grid(a, p)[1], int(M))


def entropy_floor(p, M: int):
    """Entropy of a smoothed label: the least training loss that can be reached.

    Formula: H(p) + (1-p) log(M-1), H(p) = -p log p - (1-p) log(1-p).
    Args: p, float or float64 array in [0, 1]; M, int >= 2. Returns: float64 of p's shape in [0, log
    M], in nats.
    Raises: UsageError. Source: Chen eq. 3, for M classes the bracket of eq. 15.

    >>> [round(float(entropy_floor(p, 10)), 4) for p in (0.1, 0.9, 1.0)]
    [2.3026, 0.5448, 0.0]
    """
    M, p = check_classes(M, "M"), check_unit(p, "The kept mass p")
    return _cross_entropy(p, p, M)


def _bisect(f, lo, hi):
    """Where f, at most 0 at lo and positive at hi, changes sign; element by element, to the last
    bits.
    """
    for _ in range(90):
        mid = 0.5 * (lo + hi)
        up = f(mid) > 0
        lo, hi = np.where(up, lo, mid), np.where(up, mid, hi)
    return 0.5 * (lo + hi)


def _sinhc_excess(u):
    """sinh(u)/u - 1 without cancellation, u >= 0."""
    small, x, term, total = u < 1, np.minimum(u, 1.0) ** 2, 1.0, 0.0
    for k in range(1, 11):
        term = term * x / (2 * k * (2 * k + 1))
        total = total + term
    large = np.maximum(u, 1.0)
    return np.where(small, total, np.sinh(large) / large - 1)


@lru_cache(maxsize=256)
def _transition_u(M: int) -> float:
    """u at the first-order transition: on the rising branch the loss equals log M; M >= 3."""

    def slope(u):  # u^2 d(F/u)/du: negative below the fold of the branch, positive above
        return (u - 1) * np.exp(u) + 1 - (M - 1) * (1 - (1 + u) * np.exp(-u))

    def below(u):  # log M - l on the branch, where b = u/(F + M u)
        e, p = np.expm1(u), 1 / (1 + (M - 1) * np.exp(-u))
        b = u / (e - (M - 1) * np.expm1(-u) + M * u)
        return u * p - u * b * (M * p - 1) - np.log1p(e / M)

    top = 2 * log(M) + 10
    return float(_bisect(below, _bisect(slope, log(M - 1) / 2, top), top))


def gamma_transition(M: int) -> tuple[float, float]:
    """Where the gamma optimum leaves p = 1/M: the clean rate a_c and the optimum p_c just above it.

    Formula: l(a_c, p_c) = log M and dl/dp = 0 with p_c > 1/M (first order, M >= 3); M = 2:
    continuous at a_c = 3/4, p_c = 1/2.
    Args: M, int >= 2. Returns: (a_c, p_c), floats, 1/M < a_c <= (M+1)/(2M), 1/M <= p_c < 1. Raises:
    UsageError.
    Source: Chen claims a first-order transition at some a > 1/M; the values are derived here.

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
    """Clean rate above which p = 1/M is no longer a local minimum of the gamma loss: a_s =
    (M+1)/(2M).

    Args: M, int >= 2. Returns: float in (1/2, 3/4]. Raises: UsageError. Source: derived from Chen
    eq. 15, d2l/dp2 = 0 at p = 1/M.

    >>> gamma_spinodal(2), gamma_spinodal(10)
    (0.75, 0.55)
    """
    return (check_classes(M, "M") + 1) / (2 * M)


def _gamma_optimum(a: np.ndarray, M: int) -> np.ndarray:
    out = np.where(a == 1, 1.0, 1 / M)
    beyond = (a > gamma_transition(M)[0]) & (a < 1)
    c = a[beyond]  # (n,)
    ratio = (c * M - 1) / (1 - c)  # s/b, at least 1 here
    if M == 2:  # F/u = 2 sinh(u)/u; 4a - 3 is exact
        excess = (4 * c - 3) / (2 * (1 - c))
        u = _bisect(lambda u: _sinhc_excess(u) - excess, np.zeros_like(c), 2 * np.log(ratio) + 10)
    else:
        u = _bisect(
            lambda u: np.expm1(u) - (M - 1) * np.expm1(-u) - ratio * u,
            np.full_like(c, _transition_u(M)),
            2 * np.log(ratio) + 10,
        )
    out[beyond] = np.minimum(
        1 / (1 + (M - 1) * np.exp(-u)), np.nextafter(1, 0)
    )  # at 1 itself the loss is infinite
    return out[()]


def optimum(kind: str, a, M: int):
    """Kept mass that minimises the loss at each clean rate.

    Formula: alpha p* = a; beta p* = (1 - 2a + a^2 M)/(M-1); gamma p* = 1/M up to a_c
    (gamma_transition), above it the largest root of b F(u) = s u (module docstring), to 1e-9 or
    better. gamma, M = 2: the minimiser >= 1/2; 1 - p* is the other one.
    Args: kind, one of KINDS; a, float or float64 array in [0, 1]; M, int >= 2.
    Returns: float64 of a's shape in [0, 1]. Raises: UsageError. Source: Chen, after eqs 7, 8, 11,
    14; gamma derived here.

    >>> [round(float(optimum(kind, 0.8, 10)), 4) for kind in KINDS]
    [0.8, 0.6444, 0.9504]
    """
    q = agreement(kind, a, 0.0, M)  # alpha and beta do not depend on p, and q is the optimum
    return _gamma_optimum(check_unit(a, "The clean rate a"), int(M)) if kind == "gamma" else q


def best_loss(kind: str, a, M: int):
    """The loss at the best kept mass: min over p of loss(kind, a, p, M).

    Formula: alpha and beta H(q) + (1-q) log(M-1), q = p*; gamma log M up to a_c, less above. Args:
    kind, one of KINDS; a, float or float64 array in [0, 1]; M, int >= 2. Returns: float64 of a's
    shape in [0, log M], in nats. Raises and source: as optimum.

    >>> [round(float(best_loss(kind, 0.8, 10)), 4) for kind in KINDS]
    [0.9398, 1.4321, 1.2796]
    """
    return loss(kind, a, optimum(kind, a, M), M)


def gamma_large_M(a, p, M: int):
    """The gamma loss for many classes: loss("gamma", a, p, M) without terms that vanish like
    log(M)/M.

    Formula: -a p log p - (1 - a p) log(1-p) + (1 - a p) log(M-1).
    Args: a, p, float or float64 arrays in [0, 1] that broadcast; M, int >= 2.
    Returns: float64 of the broadcast shape in [0, inf], in nats. Raises: UsageError. Source:
    replaces Chen's statement after eq. 15.

    >>> round(float(gamma_large_M(0.8, 0.9, 1000) - loss("gamma", 0.8, 0.9, 1000)), 4)
    0.0002
    """
    M, (a, p) = check_classes(M, "M"), _grid(a, p)
    return _cross_entropy(a * p, p, M)


def _weighted(W: np.ndarray, S: np.ndarray) -> float:
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(W == 0, 0.0, W * np.log(S))  # (M, M)
    return float(0.0 - terms.sum() / len(W))


def alpha_loss(S, T) -> float:
    """Cross-entropy of memorised smoothed noisy labels against clean labels, balanced classes, any
    noise.

    Formula: -(1/M) sum over clean c and noisy k of T_kc log S_ck.
    Args: S, float64 (M, M) in [0, 1], outputs as columns (sums to 1 are not asked for); T, float64
    (M, M), columns sum to 1.
    Returns: float in [0, inf], in nats. Raises: UsageError. Source: Chen eq. 10.

    >>> round(alpha_loss([[0.8, 0.2], [0.2, 0.8]], [[0.5, 0.5], [0.5, 0.5]]), 4)  # -log(0.16)/2
    0.9163
    """
    T = check_noise(T)
    return _weighted(T.T, check_smoothing(S, len(T)))


def beta_loss(S, T) -> float:
    """Cross-entropy of memorised smoothed noisy labels against independently noisy labels, balanced
    classes, any noise.

    Formula: -(1/M) sum_jk (T T^t)_jk log S_jk.
    Args: S, float64 (M, M) in [0, 1], outputs as columns (sums to 1 are not asked for); T, float64
    (M, M), columns sum to 1.
    Returns: float in [0, inf], in nats. Raises: UsageError. Source: Chen eq. 12 without its factor
    2.

    >>> round(beta_loss([[0.8, 0.2], [0.2, 0.8]], [[0.9, 0.1], [0.1, 0.9]]), 4)  # -0.82 log 0.8 - 0.18 log 0.2
    0.4727
    """
    T = check_noise(T)
    return _weighted(T @ T.T, check_smoothing(S, len(T)))


def _normalise_columns(W: np.ndarray) -> np.ndarray:
    sums = W.sum(axis=0)  # (M,)
    return np.where(sums > 0, W / np.where(sums > 0, sums, 1.0), 1 / len(W))


def optimal_smoothing_alpha(T) -> np.ndarray:
    """The smoothing matrix of least alpha_loss: the posterior of the clean class given the noisy
    one.

    Formula: S* = T^t diag(1/(T 1)); a class that noise never yields gets the uniform column.
    Args: T, float64 (M, M), columns sum to 1. Returns: float64 (M, M), columns sum to 1. Raises:
    UsageError.
    Source: Chen eq. 10, which prints S* = T (true for symmetric doubly stochastic T).

    >>> optimal_smoothing_alpha([[1.0, 0.5], [0.0, 0.5]]).round(4).tolist()
    [[0.6667, 0.0], [0.3333, 1.0]]
    """
    return _normalise_columns(check_noise(T).T)


def optimal_smoothing_beta(T) -> np.ndarray:
    """The smoothing matrix of least beta_loss: T T^t with each column normalised.

    Formula: S* = T T^t diag(1/(T 1)); a class that noise never yields gets the uniform column.
    Args: T, float64 (M, M), columns sum to 1. Returns: float64 (M, M), columns sum to 1. Raises:
    UsageError. Source: replaces Chen eq. 13.

    >>> optimal_smoothing_beta([[0.8, 0.2], [0.2, 0.8]]).round(4).tolist()
    [[0.68, 0.32], [0.32, 0.68]]
    """
    T = check_noise(T)
    return _normalise_columns(T @ T.T)


def mean_field_kept_alpha(T) -> float:
    """Best kept mass of symmetric smoothing under any noise, clean test labels: p* = Tr(T)/M.

    Args: T, float64 (M, M), columns sum to 1. Returns: float in [0, 1]. Raises: UsageError. Source:
    eq. 17's mean field for eq. 10.

    >>> round(mean_field_kept_alpha([[1.0, 0.5], [0.0, 0.5]]), 12)
    0.75
    """
    return float(check_noise(T).diagonal().mean())


def mean_field_kept_beta(T) -> float:
    """Best kept mass of symmetric smoothing under any noise, noisy test labels: p* = Tr(T T^t)/M =
    (1/M) sum_ij T_ij^2.

    Args: T, float64 (M, M), columns sum to 1. Returns: float in [1/M, 1]. Raises: UsageError.
    Source: replaces Chen eq. 17.

    >>> round(mean_field_kept_beta([[1.0, 0.5], [0.0, 0.5]]), 12)
    0.75
    """
    T = check_noise(T)
    return float((T * T).sum() / len(T))
