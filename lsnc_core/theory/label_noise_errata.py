"""What Chen et al. (arXiv 2010.12648) print and is WRONG, kept to be shown beside the right form;
never use these to compute.

printed                               right form (lsnc_core.theory.label_noise)
printed_eq10                          optimal_smoothing_alpha
printed_eq12_loss                     beta_loss
printed_eq13, printed_text_before_eq13  optimal_smoothing_beta
printed_eq16_loss, printed_eq17       mean_field_kept_beta
printed_gamma_large_M                 gamma_large_M
eqs 18, 19 (order of three losses)    jensen_terms below: the three, to be compared
"""

from math import log

import numpy as np

from lsnc_core.errors import UsageError
from lsnc_core.labels import check_classes, check_noise, check_smoothing, check_unit
from lsnc_core.theory.label_noise import beta_loss, loss


def printed_eq10(T, by_rows: bool = False) -> np.ndarray:
    """Printed optimum for clean test labels: S* = T; right only for symmetric doubly stochastic T.

    Args: T, float64 (M, M), columns sum to 1; by_rows, whether the printed T_ij is read as P(clean
    i becomes j), against the paper's own
    convention: then S* = T^t, right only for doubly stochastic T. Returns: float64 (M, M). Raises:
    UsageError. Source: Chen eq. 10.

    >>> printed_eq10([[1.0, 0.5], [0.0, 0.5]], by_rows=True).tolist()  # columns sum to 1.5 and 0.5
    [[1.0, 0.0], [0.5, 0.5]]
    """
    T = check_noise(T)
    return (T.T if by_rows else T).copy()


def printed_eq12_loss(S, T) -> float:
    """Printed loss for noisy test labels: counts every pair of different classes twice.

    Formula: -(1/M) [sum_j (T T^t)_jj log S_jj + 2 sum_{j != k} (T T^t)_jk log S_jk].
    Args: S, float64 (M, M) in [0, 1]; T, float64 (M, M), columns sum to 1. Returns: float in [0,
    inf]. Raises: UsageError.
    Source: Chen eq. 12.

    >>> from lsnc_core.labels import smoothing_matrix, symmetric_noise
    >>> S, T = smoothing_matrix(0.68, 2), symmetric_noise(0.8, 2)
    >>> round(printed_eq12_loss(S, T), 4), round(beta_loss(S, T), 4)
    (0.9915, 0.6269)
    """
    T = check_noise(T)
    S = check_smoothing(S, len(T))
    on_diagonal = np.where(
        np.eye(len(T), dtype=bool), S, 1.0
    )  # (M, M): log 1 = 0 drops the other terms
    return 2 * beta_loss(S, T) - beta_loss(on_diagonal, T)


def printed_eq13(T) -> np.ndarray:
    """Printed optimum for noisy test labels: S* = (1/2) T T^t; its columns sum to 1/2 for doubly
    stochastic T.

    Args: T, float64 (M, M), columns sum to 1. Returns: float64 (M, M). Raises: UsageError. Source:
    Chen eq. 13.

    >>> printed_eq13([[0.8, 0.2], [0.2, 0.8]]).round(4).tolist()
    [[0.34, 0.16], [0.16, 0.34]]
    """
    T = check_noise(T)
    return 0.5 * (T @ T.T)


def printed_text_before_eq13(T) -> np.ndarray:
    """Printed unnormalised optimum for noisy test labels, as the text before eq. 13 has it.

    Formula: S_ii = T_ii^2 + m_i/(M-1) with m_i = (1/(M-1)) sum_{j != i} T_ij^2 (right: sum_j T_ij^2
    = T_ii^2 + (M-1) m_i); S_ij = 2 sum_k T_ik T_jk (right: without the 2).
    Args: T, float64 (M, M), columns sum to 1. Returns: float64 (M, M). Raises: UsageError. Source:
    Chen, text before eq. 13.

    >>> printed_text_before_eq13([[0.8, 0.2], [0.2, 0.8]]).round(4).tolist()
    [[0.68, 0.64], [0.64, 0.68]]
    """
    T = check_noise(T)
    M, d = len(T), T.diagonal() ** 2  # (M,)
    S = 2 * (T @ T.T)  # (M, M)
    np.fill_diagonal(S, d + ((T * T).sum(axis=1) - d) / (M - 1) ** 2)
    return S


def printed_eq16_loss(p: float, T) -> float:
    """Printed mean-field loss for noisy test labels: counts all pairs, equal ones too, twice, under
    log(1-p).

    Formula: -(1/M) [sum_k (T T^t)_kk log p + 2 sum_jk (T T^t)_jk log(1-p)]; right: once, without k
    = j, under log((1-p)/(M-1)).
    Args: p, float in (0, 1); T, float64 (M, M), columns sum to 1. Returns: float in (0, inf).
    Raises: UsageError. Source: Chen eq. 16.

    >>> round(printed_eq16_loss(0.5, [[0.8, 0.2], [0.2, 0.8]]), 4)
    1.8576
    """
    T = check_noise(T)
    p = float(check_unit(p, "The kept mass p"))
    pairs = T @ T.T
    return -float(np.trace(pairs) * log(p) + 2 * pairs.sum() * log(1 - p)) / len(T)


def printed_eq17(T) -> tuple[float, float]:
    """Printed mean-field optimum for noisy test labels, its two forms: (1/2) sum_ij T_ij^2 and Tr(T
    T^t)/(2M).

    The first is right for M = 2 only, the second never; they equal each other never.
    Args: T, float64 (M, M), columns sum to 1. Returns: two floats. Raises: UsageError. Source: Chen
    eq. 17.

    >>> [round(x, 4) for x in printed_eq17([[0.8, 0.2], [0.2, 0.8]])]
    [0.68, 0.34]
    """
    T = check_noise(T)
    total = float((T * T).sum())
    return total / 2, total / (2 * len(T))


def printed_gamma_large_M(a, p, M: int):
    """Printed gamma loss for many classes, l_2(a, p) - a p log(M-1) + const, with const = log(M-1),
    the choice nearest the truth.

    It misses (1-a)(1-p)[log p - log(1-p)], which depends on p and does not vanish.
    Args: a, p, float or float64 arrays in [0, 1] that broadcast; M, int >= 2. Returns: float64 of
    the broadcast shape.
    Raises: UsageError. Source: Chen, after eq. 15.

    >>> round(float(printed_gamma_large_M(0.8, 0.5, 3)), 4)
    1.109
    """
    M = check_classes(M, "M")
    two = loss("gamma", a, p, 2)
    return two + (1 - np.asarray(a, dtype=np.float64) * np.asarray(p, dtype=np.float64)) * log(
        M - 1
    )


def _log_softmax(h: np.ndarray) -> np.ndarray:
    h = h - h.max(axis=1, keepdims=True)
    return h - np.log(np.exp(h).sum(axis=1, keepdims=True))


def jensen_terms(S, h, labels=None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The three log-likelihoods that Chen compares: label smoothing, forward correction, logit
    smoothing.

    Formula, sample n and row i: sum_j S_ij log sigma_j(h); log(sum_j S_ij sigma_j(h)); log
    sigma_i(S h). The first is never above the second (Jensen); the paper's "second <= third" is
    false in general.
    Args: S, float64 (M, M), *rows* sum to 1 (pass S.T of a column matrix; the same for symmetric
    smoothing); h, logits float (n, M); labels, integers (n,), the one row that each sample needs,
    its noisy label; None for all rows.
    Returns: three float64 (n, M), with labels (n,), in [-inf, 0]. Raises: UsageError.
    Source: Chen eqs 18, 19, read as log(sum_j S_ij sigma_j) where they print log(S_ij sigma(h_j)).

    >>> import numpy as np
    >>> S, h = np.array([[0.9, 0.1], [0.1, 0.9]]), np.array([[2.0, 0.0]])
    >>> [t.round(4).tolist() for t in jensen_terms(S, h)]
    [[[-0.3269, -1.9269]], [[-0.2174, -1.6329]], [[-0.1839, -1.7839]]]
    >>> [t.round(4).tolist() for t in jensen_terms(S, h, labels=[1])]
    [[-1.9269], [-1.6329], [-1.7839]]
    """
    S = check_noise(np.transpose(S), "S.T").T
    h = np.asarray(h)
    if h.dtype.kind not in "fiu" or h.ndim != 2 or h.shape[1] != len(S) or not np.isfinite(h).all():
        raise UsageError(
            f"The logits h must be finite real numbers of shape (n, {len(S)}), "
            f"not {h.dtype} of shape {h.shape}."
        )
    h = h.astype(np.float64)
    log_sigma = _log_softmax(h)  # (n, M)
    smoothed = _log_softmax(h @ S.T)  # (n, M)
    with np.errstate(divide="ignore"):
        log_S = np.log(S)
    if labels is None:
        # (n, M, M) -> (n, M)
        forward = np.logaddexp.reduce(log_S[None] + log_sigma[:, None, :], axis=2)
        return log_sigma @ S.T, forward, smoothed
    # with many classes all rows of many samples would not fit in memory
    labels = np.asarray(labels)
    forward = np.logaddexp.reduce(log_S[labels] + log_sigma, axis=1)  # (n, M) -> (n,)
    own = np.take_along_axis(smoothed, labels[:, None], axis=1)[:, 0]  # (n,)
    return (S[labels] * log_sigma).sum(axis=1), forward, own
