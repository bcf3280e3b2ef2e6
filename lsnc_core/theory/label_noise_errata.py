"""Formulas that Chen et al. (arXiv 2010.12648) print WRONGLY, kept for comparison only.

Never compute with a `printed_` function: its right form is in lsnc_core.theory.label_noise.

    printed                                  right form
    printed_eq10                             optimal_smoothing_alpha
    printed_eq12_loss                        beta_loss
    printed_eq13, printed_text_before_eq13   optimal_smoothing_beta
    printed_eq16_loss                        beta_loss of a symmetric smoothing matrix
    printed_eq17                             mean_field_kept_beta
    printed_gamma_large_M                    gamma_large_M

Chen eq. 18 and Chen eq. 19 order three log-likelihoods; `jensen_terms` computes all three.
"""

from math import log

import numpy as np
from numpy.typing import ArrayLike

from lsnc_core.errors import UsageError
from lsnc_core.labels import check_classes, check_noise, check_smoothing, check_unit
from lsnc_core.theory.arguments import as_floats
from lsnc_core.theory.label_noise import beta_loss, loss


def printed_eq10(T: ArrayLike, by_rows: bool = False) -> np.ndarray:
    """Printed optimum for clean test labels: S* = T; right only for symmetric doubly stochastic T.

    Args: T, float64 (M, M), columns sum to 1; by_rows, whether to read the printed T_ij as P(clean
    i becomes j), against the paper's own convention: then S* = T^t, right only for doubly
    stochastic T. Returns: float64 (M, M). Raises: UsageError.
    Source: text after Chen eq. 10.

    >>> printed_eq10([[1.0, 0.5], [0.0, 0.5]], by_rows=True).tolist()  # columns sum to 1.5 and 0.5
    [[1.0, 0.0], [0.5, 0.5]]
    """
    T = check_noise(T)
    return (T.T if by_rows else T).copy()


def printed_eq12_loss(S: ArrayLike, T: ArrayLike) -> float:
    """Printed loss for noisy test labels: it counts every pair of different classes twice.

    Formula: -(1/M) [sum_j (T T^t)_jj log S_jj + 2 sum_{j != k} (T T^t)_jk log S_jk].
    Args: S, float64 (M, M) in [0, 1]; T, float64 (M, M), columns sum to 1. Returns: float in
    [0, inf]. Raises: UsageError.
    Source: Chen eq. 12 as printed.

    >>> from lsnc_core.labels import smoothing_matrix, symmetric_noise
    >>> S, T = smoothing_matrix(0.68, 2), symmetric_noise(0.8, 2)
    >>> round(printed_eq12_loss(S, T), 4), round(beta_loss(S, T), 4)
    (0.9915, 0.6269)
    """
    T = check_noise(T)
    S = check_smoothing(S, len(T))
    on_diagonal = np.where(np.eye(len(T), dtype=bool), S, 1.0)  # (M, M): log 1 = 0 off the diagonal
    return 2 * beta_loss(S, T) - beta_loss(on_diagonal, T)


def printed_eq13(T: ArrayLike) -> np.ndarray:
    """Printed optimum for noisy test labels: S* = (1/2) T T^t.

    Its columns sum to 1/2 for doubly stochastic T.
    Args: T, float64 (M, M), columns sum to 1. Returns: float64 (M, M). Raises: UsageError.
    Source: Chen eq. 13 as printed.

    >>> printed_eq13([[0.8, 0.2], [0.2, 0.8]]).round(4).tolist()
    [[0.34, 0.16], [0.16, 0.34]]
    """
    T = check_noise(T)
    return 0.5 * (T @ T.T)


def printed_text_before_eq13(T: ArrayLike) -> np.ndarray:
    """Printed unnormalised optimum for noisy test labels.

    Formula: S_ii = T_ii^2 + m_i/(M-1) with m_i = (1/(M-1)) sum_{j != i} T_ij^2 (right: sum_j T_ij^2
    = T_ii^2 + (M-1) m_i); S_ij = 2 sum_k T_ik T_jk (right: without the 2).
    Args: T, float64 (M, M), columns sum to 1. Returns: float64 (M, M). Raises: UsageError.
    Source: text before Chen eq. 13.

    >>> printed_text_before_eq13([[0.8, 0.2], [0.2, 0.8]]).round(4).tolist()
    [[0.68, 0.64], [0.64, 0.68]]
    """
    T = check_noise(T)
    M, d = len(T), T.diagonal() ** 2  # (M,)
    S = 2 * (T @ T.T)  # (M, M)
    np.fill_diagonal(S, d + ((T * T).sum(axis=1) - d) / (M - 1) ** 2)
    return S


def printed_eq16_loss(p: float, T: ArrayLike) -> float:
    """Printed mean-field loss for noisy test labels.

    It counts all pairs twice, equal ones too, under log(1-p); right: once, without k = j, under
    log((1-p)/(M-1)). Formula: -(1/M) [sum_k (T T^t)_kk log p + 2 sum_jk (T T^t)_jk log(1-p)].
    Args: p, float in (0, 1); T, float64 (M, M), columns sum to 1. Returns: float in (0, inf).
    Raises: UsageError.
    Source: Chen eq. 16 as printed, beta-type.

    >>> round(printed_eq16_loss(0.5, [[0.8, 0.2], [0.2, 0.8]]), 4)
    1.8576
    """
    T = check_noise(T)
    kept = check_unit(p, "The kept mass p")
    if kept.ndim or not 0 < kept < 1:
        raise UsageError(f"The kept mass p must be one number in (0, 1), not {kept.tolist()!r}.")
    p = float(kept)
    pairs = T @ T.T
    return -float(np.trace(pairs) * log(p) + 2 * pairs.sum() * log(1 - p)) / len(T)


def printed_eq17(T: ArrayLike) -> tuple[float, float]:
    """Printed mean-field optimum for noisy test labels, in its two forms.

    Formula: (1/2) sum_ij T_ij^2, right for M = 2 only, and Tr(T T^t)/(2M), never right. The two
    never agree.
    Args: T, float64 (M, M), columns sum to 1. Returns: two floats. Raises: UsageError.
    Source: Chen eq. 17 as printed, beta-type.

    >>> [round(x, 4) for x in printed_eq17([[0.8, 0.2], [0.2, 0.8]])]
    [0.68, 0.34]
    """
    T = check_noise(T)
    total = float((T * T).sum())
    return total / 2, total / (2 * len(T))


def printed_gamma_large_M(a: ArrayLike, p: ArrayLike, M: int) -> float | np.ndarray:
    """Printed gamma loss for many classes: l_2(a, p) - a p log(M-1) + const.

    const = log(M-1) is the choice nearest to the truth. The form misses
    (1-a)(1-p)[log p - log(1-p)], which depends on p and does not vanish.
    Args: a, p, float or float64 arrays in [0, 1] that broadcast; M, int >= 2. Returns: float64 of
    the broadcast shape, in nats. Raises: UsageError.
    Source: text after Chen eq. 15.

    >>> round(float(printed_gamma_large_M(0.8, 0.5, 3)), 4)
    1.109
    """
    M = check_classes(M, "M")
    two_classes = loss("gamma", a, p, 2)
    a, p = np.asarray(a, dtype=np.float64), np.asarray(p, dtype=np.float64)
    return two_classes + (1 - a * p) * log(M - 1)


def jensen_terms(
    S: ArrayLike, h: ArrayLike, labels: ArrayLike | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The three log-likelihoods that Chen compares, for every class i or at given labels.

    Formula: label smoothing sum_j S_ij log sigma_j(h); forward correction log(sum_j S_ij
    sigma_j(h)); logit smoothing log sigma_i(S h). The first is never above the second (Jensen); the
    paper's "second <= third" is false in general.
    Args: S, float64 (M, M), *rows* sum to 1 (pass S.T of a column matrix; symmetric smoothing is
    its own transpose); h, logits float (n, M); labels, None, or integers (n,) in 0..M-1.
    Returns: three float64 (n, M), or (n,) at labels, in (-inf, 0], in nats. Raises: UsageError.
    Source: Chen eq. 18, Chen eq. 19, read as log(sum_j S_ij sigma_j) where they print
    log(S_ij sigma(h_j)).

    >>> S, h = np.array([[0.9, 0.1], [0.1, 0.9]]), np.array([[2.0, 0.0]])
    >>> [terms.round(4).tolist() for terms in jensen_terms(S, h)]
    [[[-0.3269, -1.9269]], [[-0.2174, -1.6329]], [[-0.1839, -1.7839]]]
    >>> [terms.round(4).tolist() for terms in jensen_terms(S, h, labels=[1])]
    [[-1.9269], [-1.6329], [-1.7839]]
    """
    from scipy.special import log_softmax

    S = check_noise(as_floats(S, "S").T, "S.T").T
    h = _check_logits(h, len(S))
    log_sigma = log_softmax(h, axis=1)  # (n, M)
    logit = log_softmax(h @ S.T, axis=1)  # (n, M)
    with np.errstate(divide="ignore"):
        log_S = np.log(S)
    if labels is not None:
        own = as_floats(labels, "labels")
        if own.shape != h.shape[:1] or not np.isin(own, np.arange(len(S))).all():
            raise UsageError(
                f"labels must be integers in 0..{len(S) - 1}, one for each of the {len(h)} rows of "
                f"h, not {labels!r}."
            )
        own = own.astype(np.int64)
        rows = np.arange(len(h))
        smoothing = (S[own] * log_sigma).sum(axis=1)
        return smoothing, np.logaddexp.reduce(log_S[own] + log_sigma, axis=1), logit[rows, own]
    forward = np.logaddexp.reduce(log_S + log_sigma[:, None, :], axis=2)  # (n, M, M) -> (n, M)
    return log_sigma @ S.T, forward, logit


def _check_logits(h: ArrayLike, M: int) -> np.ndarray:
    h = as_floats(h, "h")
    if h.dtype.kind not in "fiu" or h.ndim != 2 or h.shape[1] != M or not np.isfinite(h).all():
        raise UsageError(
            f"The logits h must be finite real numbers of shape (n, {M}), not {h.dtype} of shape "
            f"{h.shape}."
        )
    return h.astype(np.float64)
