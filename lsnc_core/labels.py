"""Labels: smoothing strengths and matrices, label noise, and the seeded draws that corrupt labels.

Column convention throughout (Chen's S and T): labels are one-hot columns y, a smoothed label is
S y, and E[noisy label] = T y. So T_ij = P(clean class j becomes i), and columns sum to 1. Matrices
are numpy float64; labels are torch int64 (N,). `p` is the mass kept on the label, `delta` the
usual smoothing strength, `a` the clean-label rate, K the number of classes. torch is imported only
where a tensor is made, so that the theory modules can use the checks here without it.
"""

from __future__ import annotations

import hashlib
import reprlib
from typing import TYPE_CHECKING

import numpy as np

from lsnc_core import custom
from lsnc_core.errors import UsageError

if TYPE_CHECKING:
    import torch

# How far from 1 the sums of columns may lie: up to the first a matrix stays as it is, up to the
# second, as a float32 softmax, it is divided by them. Those of 1,000 classes miss 1 by 2e-6.
COLUMN_SUM_TOLERANCE = 1e-9
ROUNDED_SUM_TOLERANCE, ROUNDED_SUM_TOLERANCE_PER_CLASS = 1e-6, 1e-8


def _quote(x) -> str:
    return " ".join(reprlib.repr(x).split())  # short, on one line


def check_classes(K, name: str = "K") -> int:
    """Return K as an int; raise UsageError unless it is an integer of at least 2."""
    if isinstance(K, (bool, np.bool_)) or not isinstance(K, (int, np.integer)) or K < 2:
        raise UsageError(
            f"The number of classes {name} must be an integer of at least 2, not {K!r}."
        )
    return int(K)


def as_count(x, name: str, least: int = 0) -> int:
    """Return x as an int; raise UsageError unless it is a whole number from `least` to 2^63 - 1."""
    if (
        isinstance(x, (bool, np.bool_))
        or not isinstance(x, (int, np.integer))
        or not least <= x < 2**63
    ):
        raise UsageError(f"{name} must be a whole number of at least {least}, not {x!r}.")
    return int(x)


def check_unit(x, name: str, slack: float = 0.0) -> np.ndarray:
    """Return x (number or array, any shape) as float64; refuse values outside [0, 1].

    Values outside by no more than `slack` are moved to the nearer end.

    Raises:
        UsageError: for anything but real numbers in [0, 1].
    """
    try:
        v = np.asarray(x)
    except (TypeError, ValueError, RuntimeError):
        v = np.empty(0, dtype=object)
    if v.dtype.kind not in "fiu":
        raise UsageError(
            f"{name} must be a real number in [0, 1] or an array of them, not {_quote(x)}."
        )
    v = v.astype(np.float64)
    bad = ~((v >= -slack) & (v <= 1 + slack))  # true for NaN
    if bad.any():
        raise UsageError(f"{name} must lie in [0, 1], not {float(v[bad].flat[0])!r}.")
    return np.clip(v, 0.0, 1.0)


def _one(x, name: str) -> float:
    v = check_unit(x, name)
    if v.ndim:
        raise UsageError(f"{name} must be one number in [0, 1], not an array of shape {v.shape}.")
    return float(v)


def strength_from_kept(p, K: int):
    """Smoothing strength of a label that keeps mass p: delta = (1 - p) K / (K - 1).

    Args: p, float or float64 array in [0, 1]; K, int >= 2.
    Returns: float64 of p's shape in [0, K/(K-1)]; p < 1/K gives delta > 1.
    Raises: UsageError. Source: Chen eq. 1 (p), the usual y = (1-delta) onehot + delta/K (delta).

    >>> round(float(strength_from_kept(0.91, 10)), 12)
    0.1
    """
    K = check_classes(K)
    return ((1.0 - check_unit(p, "The kept mass p")) * K / (K - 1))[()]


def kept_from_strength(delta, K: int):
    """Mass on the label at smoothing strength delta: p = (1 - delta) + delta/K.

    Args: delta, float or float64 array in [0, 1]; K, int >= 2.
    Returns: float64 of delta's shape in [1/K, 1].
    Raises: UsageError (1e-12 beyond [0, 1] counts as rounding). Source: Chen eq. 1.

    >>> round(float(kept_from_strength(0.1, 10)), 12)
    0.91
    """
    K = check_classes(K)
    delta = check_unit(delta, "The smoothing strength delta", slack=1e-12)
    return ((1.0 - delta) + delta / K)[()]


def smoothing_matrix(p: float, K: int) -> np.ndarray:
    """Symmetric smoothing: S_ii = p, S_ij = (1 - p)/(K - 1); the smoothed label is S y.

    Args: p, float in [0, 1]; K, int >= 2.
    Returns: float64 (K, K) in [0, 1], columns (and rows) sum to 1.
    Raises: UsageError. Source: Chen eq. 1.

    >>> smoothing_matrix(0.5, 3).tolist()
    [[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.25, 0.25, 0.5]]
    """
    K, p = check_classes(K), _one(p, "The kept mass p")
    S = np.full((K, K), (1.0 - p) / (K - 1))  # (K, K)
    np.fill_diagonal(S, p)
    return S


def symmetric_noise(a: float, K: int) -> np.ndarray:
    """Symmetric label noise: T_ii = a, T_ij = (1 - a)/(K - 1).

    Args: a, clean-label rate, float in [0, 1]; K, int >= 2.
    Returns: float64 (K, K), columns sum to 1.
    Raises: UsageError. Source: Chen's uniform T (printed a/(M-1) off the diagonal is a misprint).

    >>> symmetric_noise(0.8, 3)[:, 0].round(12).tolist()
    [0.8, 0.1, 0.1]
    """
    return smoothing_matrix(_one(a, "The clean-label rate a"), K)


def pair_noise(a: float, K: int) -> np.ndarray:
    """Pair label noise: class j stays with probability a and becomes (j + 1) mod K otherwise.

    Args: a, clean-label rate, float in [0, 1]; K, int >= 2.
    Returns: float64 (K, K), columns sum to 1.
    Raises: UsageError. Source: the common class-conditional benchmark; Chen's general T.

    >>> pair_noise(0.75, 3).tolist()
    [[0.75, 0.0, 0.25], [0.25, 0.75, 0.0], [0.0, 0.25, 0.75]]
    """
    K, a = check_classes(K), _one(a, "The clean-label rate a")
    eye = np.eye(K)  # (K, K)
    return a * eye + (1.0 - a) * np.roll(eye, 1, axis=0)


def block_noise(a: float, K: int) -> np.ndarray:
    """Block label noise: the first K // 2 classes are confused with each other, the rest likewise.

    Inside a block T_ii = a and T_ij = (1 - a)/(block size - 1); 0 between blocks.

    Args: a, clean-label rate, float in [0, 1]; K, int >= 4.
    Returns: float64 (K, K), columns sum to 1.
    Raises: UsageError. Source: this project; Chen's general T.

    >>> block_noise(0.8, 4)[:, 0].round(12).tolist()
    [0.8, 0.2, 0.0, 0.0]
    """
    K, a = check_classes(K), _one(a, "The clean-label rate a")
    if K < 4:
        raise UsageError(
            f"Block noise needs at least 4 classes, two for each block, not {K}: name other noises."
        )
    T, half = np.zeros((K, K)), K // 2
    T[:half, :half], T[half:, half:] = smoothing_matrix(a, half), smoothing_matrix(a, K - half)
    return T


def mixed_noise(a: float, K: int) -> np.ndarray:
    """A random doubly stochastic noise matrix: T = a I + (1 - a) sum_m w_m P_m.

    The P_m are the K - 1 cyclic shifts of the classes in a random order; the weights w_m are
    uniform on the simplex. Both are drawn with seed 0, so they are the same for every a.

    Args: a, clean-label rate, float in [0, 1]; K, int >= 2.
    Returns: float64 (K, K), T_ii = a, rows and columns sum to 1.
    Raises: UsageError. Source: this project; Chen's doubly stochastic T.

    >>> T = mixed_noise(0.7, 5)
    >>> [bool(np.allclose(x, 1)) for x in (T.sum(0), T.sum(1), T.diagonal() / 0.7)]
    [True, True, True]
    """
    K, a = check_classes(K), _one(a, "The clean-label rate a")
    draws = np.random.default_rng(0)
    weights, order = draws.dirichlet(np.ones(K - 1)), draws.permutation(K)
    away = sum(
        weight * np.roll(np.eye(K), shift, axis=0) for shift, weight in enumerate(weights, 1)
    )  # (K, K)
    return a * np.eye(K) + (1.0 - a) * away[np.ix_(order, order)]


# The names that `RunSpec.noise` takes. The cache key holds only the entry that a run names.
NOISES = {
    "symmetric": symmetric_noise,
    "pair": pair_noise,
    "block": block_noise,
    "mixed": mixed_noise,
}


def noise_matrix(name: str, a: float, K: int) -> np.ndarray:
    """Return the noise matrix T of that name, one of `NOISES`, or that your own file defines.

    Args: name; a, clean-label rate, float in [0, 1]; K, int >= 2.
    Returns: float64 (K, K), T_ij = P(clean class j becomes i), columns sum to 1.
    Raises: UsageError, when there is no such noise, and as `custom.load` and `check_noise`.

    >>> noise_matrix("pair", 1.0, 3).tolist() == np.eye(3).tolist()
    True
    """
    if custom.is_file(name):
        return check_noise(custom.load(name, "noise")(a, K), f"the noise of {name}", K)
    if name not in NOISES:
        raise UsageError(f"there is no noise {name!r}: there are {', '.join(NOISES)}, or a file.")
    return NOISES[name](a, K)


def posterior(T) -> np.ndarray:
    """P(clean class c | noisy class k) under uniform classes: S* = T^t diag(1/(T 1)).

    S* is the best smoothing matrix when test labels are clean.

    Args: T, float (K, K), T_ij = P(clean class j becomes i).
    Returns: float64 (K, K), S*_ck; columns sum to 1 (uniform for a noisy class that never occurs).
    Raises: UsageError. Source: Chen eq. 10, corrected.

    >>> posterior(pair_noise(0.75, 3)).tolist() == pair_noise(0.75, 3).T.tolist()
    True
    """
    T = check_noise(T)
    reached = T.sum(1)  # (K,)
    return np.where(reached > 0, T.T / np.where(reached > 0, reached, 1), 1 / len(T))


def check_noise(T, name: str = "T", K: int | None = None) -> np.ndarray:
    """Return the noise matrix T as float64; refuse it unless its columns are distributions.

    Formula: T_ij >= 0, sum_i T_ij = 1 within 1e-6 (1e-8 K beyond 100 classes). Where a sum misses 1
    by more than 1e-9, as in a float32 softmax, columns are divided by their sums.
    Args: T, (K, K) real array-like; name, for the message; K, the required size (any if None).
    Returns: float64 (K, K). Raises: UsageError. Source: Chen's general T, E[noisy label] = T y.
    """
    try:
        M = np.asarray(T)
    except (TypeError, ValueError, RuntimeError):
        M = np.empty(0, dtype=object)
    if M.dtype.kind not in "fiu":
        raise UsageError(f"{name} must be a square matrix of real numbers, not {_quote(T)}.")
    M = M.astype(np.float64)
    if M.ndim != 2 or M.shape[0] != M.shape[1] or M.shape[0] < 2:
        raise UsageError(
            f"{name} must be a square matrix of at least 2 classes, not of shape {M.shape}."
        )
    if K is not None and M.shape[0] != K:
        raise UsageError(f"{name} must be a {K} x {K} matrix, not of shape {M.shape}.")
    if not np.isfinite(M).all() or (M < 0).any():
        bad = M[~(np.isfinite(M) & (M >= 0))][0]
        raise UsageError(f"Every entry of {name} must be a probability, not {float(bad)!r}.")
    sums = M.sum(axis=0)  # (K,)
    worst = int(np.abs(sums - 1).argmax())
    rounding = max(ROUNDED_SUM_TOLERANCE, ROUNDED_SUM_TOLERANCE_PER_CLASS * len(M))
    if abs(sums[worst] - 1) > rounding:
        message = (
            f"Each column of {name} must sum to 1 ({name}_ij = P(class j becomes i)), "
            f"but column {worst} sums to {float(sums[worst])!r}"
        )
        if (np.abs(M.sum(axis=1) - 1) <= rounding).all():
            message += ", while its rows sum to 1: transpose it"
        raise UsageError(f"{message}.")
    if abs(sums[worst] - 1) > COLUMN_SUM_TOLERANCE:
        M = M / sums
    return M


def check_smoothing(S, M: int) -> np.ndarray:
    """Return S as float64 (M, M); refuse entries outside [0, 1]. Columns need not sum to 1."""
    S = check_unit(S, "Every entry of S")
    if S.shape != (M, M):
        raise UsageError(f"S must have the shape of T, {(M, M)}, not {S.shape}.")
    return S


def check_labels(labels, K: int) -> torch.Tensor:
    """Return labels unchanged; refuse anything but a torch int64 tensor (N,) in 0..K-1."""
    import torch

    if not isinstance(labels, torch.Tensor) or labels.dtype != torch.int64 or labels.ndim != 1:
        is_tensor = isinstance(labels, torch.Tensor)
        got = (
            f"{labels.dtype} of shape {tuple(labels.shape)}"
            if is_tensor
            else f"{type(labels).__name__} {_quote(labels)}"
        )
        raise UsageError(f"Labels must be a one-dimensional torch int64 tensor, not {got}.")
    bad = (labels < 0) | (labels >= K)
    if bool(bad.any()):
        raise UsageError(
            f"Labels must lie in 0..{K - 1} for {K} classes, "
            f"but one of them is {int(labels[bad][0])}."
        )
    return labels


def soft_targets(labels: torch.Tensor, p: float, K: int) -> torch.Tensor:
    """Smoothed training targets: p on the label, (1 - p)/(K - 1) on every other class.

    Args: labels, int64 (N,) in 0..K-1; p, float in [0, 1]; K, int >= 2.
    Returns: float32 (N, K) on the labels' device, rows are distributions (row n = S y_n).
    Raises: UsageError. Source: Chen eq. 1.

    >>> import torch
    >>> soft_targets(torch.tensor([1]), 0.5, 3).tolist()
    [[0.25, 0.5, 0.25]]
    """
    import torch

    K, p = check_classes(K), _one(p, "The kept mass p")
    check_labels(labels, K)
    out = torch.full(
        (len(labels), K), (1.0 - p) / (K - 1), dtype=torch.float32, device=labels.device
    )  # (N, K)
    return out.scatter_(1, labels[:, None], p)


def rows_of(matrix: np.ndarray, labels: torch.Tensor) -> torch.Tensor:
    """The row of a matrix that each label names: float (K, K), int64 (N,) -> float32 (N, K)."""
    import torch

    return torch.from_numpy(matrix).float()[labels]


def uniform_targets(labels: torch.Tensor, p: float, T: np.ndarray) -> torch.Tensor:
    """Targets of uniform smoothing: `soft_targets`, whatever the noise."""
    return soft_targets(labels, p, len(T))


def posterior_targets(labels: torch.Tensor, p: float, T: np.ndarray) -> torch.Tensor:
    """Targets of the best general smoothing: column k of S* for the noisy label k.

    Args: labels, int64 (N,) in 0..K-1; p, not used; T, float (K, K).
    Returns: float32 (N, K), rows are distributions. Raises: UsageError. Source: Chen eq. 10,
    corrected.
    """
    check_labels(labels, len(T))
    return rows_of(posterior(T).T, labels)


# The names that `RunSpec.smoothing` takes. The cache key holds only the entry that a run names.
SMOOTHINGS = {"uniform": uniform_targets, "posterior": posterior_targets}


def smoothed_targets(name: str, labels: torch.Tensor, p: float, T: np.ndarray) -> torch.Tensor:
    """Training targets of noisy labels under the smoothing of that name, one of `SMOOTHINGS`.

    Args: name; labels, int64 (N,) in 0..K-1; p, kept mass; T, float (K, K), the noise matrix.
    Returns: float32 (N, K), rows are distributions.
    Raises: UsageError, when there is no such smoothing. Source: Chen eq. 2.
    """
    if name not in SMOOTHINGS:
        raise UsageError(f"there is no smoothing {name!r}: there are {', '.join(SMOOTHINGS)}.")
    return SMOOTHINGS[name](labels, p, T)


def generator(seed: int, purpose: str) -> torch.Generator:
    """A CPU generator seeded from (seed, purpose), the same on every machine.

    Draws for different purposes are unrelated.

    Formula: manual_seed(first 8 bytes, big-endian, of sha256(f"{purpose}:{seed}"), shifted right by
    one: 63 bits). torch's CPU generator uses the low 32 of these bits.
    Args: seed, int >= 0; purpose, a non-empty str such as "weights", "order", "label noise".
    Returns: a fresh torch.Generator on the CPU. Raises: UsageError.

    >>> first, again, other = (generator(0, name) for name in ("weights", "weights", "order"))
    >>> first.initial_seed() == again.initial_seed() != other.initial_seed()
    True
    """
    import torch

    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise UsageError(f"The seed must be a whole number of at least 0, not {seed!r}.")
    if not isinstance(purpose, str) or not purpose:
        raise UsageError(
            f"The purpose of a random draw must be a non-empty string, not {purpose!r}."
        )
    digest = hashlib.sha256(f"{purpose}:{int(seed)}".encode()).digest()
    return torch.Generator(device="cpu").manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def corrupt(labels: torch.Tensor, T, seed: int, purpose: str = "label noise") -> torch.Tensor:
    """Draw noisy labels: clean class j becomes i with probability T_ij, independently per sample.

    Formula: uniforms u, v per sample from `generator(seed, purpose)`. The label y stays iff
    u < T_yy; otherwise it becomes the first class i != y, in order of number, whose cumulated
    T_iy / (sum over k != y of T_ky) exceeds v. So one seed gives nested corruption: a label kept
    at one T is kept at every T with larger T_yy, and under symmetric noise a moved label goes to
    the same class at every a. Two corruptions of the same labels (training and test, Chen's beta)
    are independent when seed or purpose differ.

    Args: labels, int64 (N,) in 0..K-1; T, (K, K), columns sum to 1; seed, int >= 0; purpose, str.
    Returns: int64 (N,) on the labels' device.
    Raises: UsageError. Source: Chen's general T, sampled.

    >>> import torch
    >>> corrupt(torch.tensor([0, 1, 2]), pair_noise(0.0, 3), seed=0).tolist()
    [1, 2, 0]
    """
    import torch

    T = check_noise(T)
    check_labels(labels, len(T))
    y = labels.cpu()
    random = generator(seed, purpose)
    draws = torch.rand((len(y), 2), generator=random, dtype=torch.float64, device="cpu")  # (N, 2)
    away = T.copy()  # (K, K): the mass that leaves each class
    np.fill_diagonal(away, 0.0)
    moved = draws[:, 0] >= torch.from_numpy(T.diagonal().copy())[y]  # (N,)
    out = y.clone()
    for c in torch.unique(y[moved]).tolist():
        cdf = away[:, c].cumsum()  # (K,)
        if cdf[-1] > 0:  # a kept mass of 1 up to rounding has nowhere to go
            where = (moved & (y == c)).nonzero()[:, 0]  # (n_c,)
            out[where] = torch.searchsorted(
                torch.from_numpy(cdf / cdf[-1]), draws[where, 1].contiguous(), right=True
            )
    return out.to(labels.device)
