"""Geometry of class means and classifier rows: norms, angles, distances between classes.

Matrices (..., K, D) have a row per class. Up to K = D + 1 a simplex ETF fits, and what is measured
against it is computed from K x K matrices, so that nothing is lost near 0. For more classes the
distance to the simplex cannot be near 0. Then D x D matrices give it, and pairs of classes are
taken a block at a time.
"""

import math
from collections.abc import Callable

import torch

from lsnc_core.metrics.statistics import ROUNDING

BLOCK = 2**20  # pairs of classes at a time
# The part of the squared norms below which a squared distance is not taken from products.
CANCELLATION = 1e-6


def largest(V: torch.Tensor) -> torch.Tensor:
    """The largest size of a number in each matrix (..., K, D), float64 (..., 1, 1)."""
    return torch.linalg.vector_norm(V, math.inf, dim=(-2, -1), keepdim=True)


def without_rounding(V: torch.Tensor, around: torch.Tensor) -> torch.Tensor:
    """Rows (..., K, D) that were centred, with zeros for those that are rounding error alone.

    Args: V, float64 (..., K, D); around, float64 (..., K, D), the rows before they were centred.
    """
    rounding = V.norm(dim=-1, keepdim=True) <= ROUNDING * largest(around)  # (..., K, 1)
    return V.masked_fill(rounding, 0.0) if rounding.any() else V


def centred_rows(W: torch.Tensor) -> torch.Tensor:
    """Rows minus their mean, float64 (..., K, D); zero where they are equal up to rounding."""
    return without_rounding(W - W.mean(-2, keepdim=True), W)


def simplex_fits(V: torch.Tensor) -> bool:
    """Whether a simplex ETF of K classes fits into D dimensions: K <= D + 1, of V (..., K, D)."""
    return V.shape[-2] <= V.shape[-1] + 1


def _scaled(M: torch.Tensor) -> torch.Tensor:
    """Matrices (..., K, D) at Frobenius norm 1."""
    return M / torch.linalg.matrix_norm(M, keepdim=True)


def simplex_distance(M: torch.Tensor) -> torch.Tensor:
    """Distance of a matrix to the Gram matrix of a simplex ETF, both at Frobenius norm 1.

    Formula: ‖M/‖M‖ - (I - 11^T/K)/sqrt(K-1)‖.
    Args: M, float (..., K, K), a Gram matrix or W Hbar. Returns: float64 (...) in [0, 2], 0 for a
    simplex ETF; NaN for M = 0.
    Source: Guo eq. 5 (M = W Hbar); Zhou's NC2 (M = W W^T) and NC3 (M = W Hbar), W centred.

    >>> float(simplex_distance(3 * torch.eye(2, dtype=torch.float64) - 1.5)) < 1e-15
    True
    >>> round(float(simplex_distance(torch.eye(10))), 4)
    0.3204
    """
    K = M.shape[-1]
    E = (torch.eye(K, dtype=torch.float64) - 1 / K) / math.sqrt(K - 1)
    M = M.double()
    return torch.linalg.matrix_norm(_scaled(M) - E)


def simplex_distance_of_product(A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
    """`simplex_distance` of A B^T, without that K x K matrix where K > D + 1.

    There ‖M/‖M‖ - E‖² = 2 - 2 <M, E>/‖M‖ with ‖A B^T‖² = <A^T A, B^T B>. It loses no digits, since
    a matrix of rank D has <M, E>/‖M‖ <= sqrt(D / (K - 1)) < 1.

    Args: A, B, float64 (..., K, D). Returns: float64 (...).

    >>> A, B = torch.randn(2, 9, 4, dtype=torch.float64)
    >>> bool((simplex_distance_of_product(A, B) - simplex_distance(A @ B.T)).abs() < 1e-12)
    True
    """
    if simplex_fits(A):
        return simplex_distance(A @ B.mT)
    K = A.shape[-2]
    norm = ((A.mT @ A) * (B.mT @ B)).sum((-2, -1)).sqrt()
    trace = (A * B).sum((-2, -1)) - (A.sum(-2) * B.sum(-2)).sum(-1) / K
    return (2 - 2 * trace / (math.sqrt(K - 1) * norm)).clamp(min=0).sqrt()


def equinorm(V: torch.Tensor) -> torch.Tensor:
    """Coefficient of variation of the norms of the rows: std / mean, std with K - 1.

    Args: V, float (..., K, D). Returns: float64 (...) >= 0, 0 for equal norms.
    Source: Papyan et al. 2020; Guo's released code.

    >>> round(float(equinorm(torch.tensor([[3.0, 0.0], [0.0, 4.0], [5.0, 0.0]]))), 12)
    0.25
    """
    norms = V.double().norm(dim=-1)  # (..., K)
    return norms.std(-1) / norms.mean(-1)


def equiangularity(V: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference between the cosines of the rows and those of a simplex ETF.

    Formula: mean over k != j of |cos(v_k, v_j) + 1/(K-1)|.
    Args: V, float (..., K, D), no row zero (NaN otherwise). Returns: float64 (...) in [0, 2], 0 for
    a simplex ETF. Source: Papyan et al. 2020.

    >>> float(equiangularity(torch.eye(3)))
    0.5
    """
    if simplex_fits(V):
        U = _unit_rows(V)
        return _from_cosines(U @ U.mT)
    K = V.shape[-2]

    def terms(squares: torch.Tensor, rows: slice, columns: slice) -> list[torch.Tensor]:
        return [(1 + 1 / (K - 1) - squares / 2).abs()]

    return mean_over_pairs(_unit_rows(V), terms, least=ROUNDING)[0]


def _unit_rows(V: torch.Tensor) -> torch.Tensor:
    return V.double() / V.double().norm(dim=-1, keepdim=True)


def _from_cosines(cosines: torch.Tensor) -> torch.Tensor:
    """`equiangularity` from the cosines of all rows, float64 (..., K, K)."""
    K = cosines.shape[-1]
    distances = (cosines + 1 / (K - 1)).abs()  # (..., K, K)
    own = distances.diagonal(dim1=-2, dim2=-1).sum(-1)
    return (distances.sum((-2, -1)) - own) / (K * (K - 1))


def angles(V: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`equiangularity`, and mean and coefficient of variation of log inverse distances.

    The latter two measure hyperspherical uniformity (GNC2), which also more classes than dimensions
    can reach: with u_k = v_k/‖v_k‖ they are of log(1/‖u_k - u_j‖) over the pairs k < j, the
    coefficient std / |mean| with the std of all pairs. For a simplex ETF the mean has its least
    value -log(2K/(K-1))/2 and the coefficient is 0. Random directions have about the same mean and,
    in D = 64 dimensions, a coefficient of 0.19.

    Args: V, float (..., K, D). Returns: three float64 (...), NaN if a row is zero; the mean is inf
    if two rows have the same direction.
    Source: Wu and Papyan, NeurIPS 2024 (arXiv 2405.17767); Liu et al. 2023 (arXiv 2303.06484).

    >>> _, mean, variation = angles(torch.eye(10) - 0.1)
    >>> round(float(mean), 4), round(float(variation), 12)
    (-0.3993, 0.0)
    """
    K, U = V.shape[-2], _unit_rows(V)
    simplex = 2 * K / (K - 1)  # squared distance of its rows

    def terms(squares: torch.Tensor) -> list[torch.Tensor]:
        # from the simplex's value on, so that squares of near-equal numbers do not cancel
        excess = (squares / simplex).log_() / -2
        return [excess, excess.square()]

    if simplex_fits(V):
        cosines = U @ U.mT  # (..., K, K)
        equiangular = _from_cosines(cosines)
        squares = 2 - 2 * cosines
        squares.diagonal(dim1=-2, dim2=-1).fill_(simplex)  # adds nothing
        if squares.amin() <= CANCELLATION:
            squares = exact_squares(U, U, ROUNDING)
            squares.diagonal(dim1=-2, dim2=-1).fill_(simplex)
        mean, mean_square = (part.sum((-2, -1)) / (K * (K - 1)) for part in terms(squares))
    else:
        equiangular, mean, mean_square = mean_over_pairs(
            U,
            lambda squares, *_: [(1 + 1 / (K - 1) - squares / 2).abs(), *terms(squares)],
            ROUNDING,
        )
    variation = (mean_square - mean.square()).clamp(min=0).sqrt()
    mean = mean - math.log(simplex) / 2
    return equiangular, mean, variation / mean.abs()


def self_duality(W: torch.Tensor, H: torch.Tensor) -> torch.Tensor:
    """Distance of the classifier to the centred class means, both at Frobenius norm 1.

    Formula: ‖W/‖W‖ - H/‖H‖‖.
    Args: W, float (..., K, D); H = Hbar^T, likewise. Returns: float64 (...) in [0, 2].
    Source: Guo eq. 6; the released code squares it.

    >>> [round(float(self_duality(torch.eye(2), c * torch.eye(2))), 12) for c in (7, -1)]
    [0.0, 2.0]
    """
    H = H.double()
    difference = _scaled(W.double()).addcdiv_(H, -torch.linalg.matrix_norm(H, keepdim=True))
    return torch.linalg.matrix_norm(difference)


def mean_over_pairs(
    X: torch.Tensor,
    terms: Callable[[torch.Tensor, slice, slice], list[torch.Tensor]],
    least: torch.Tensor | float,
) -> list[torch.Tensor]:
    """Means over all pairs of rows of functions of their squared distance, a block at a time.

    Args: X, float64 (..., K, D); terms, called with the squared distances (..., rows, columns) of a
    block and with its rows and columns, gives tensors of that shape; least, float or float64
    (..., 1, 1): distances up to it count as 0. Returns: for each of the terms its mean over the
    pairs, float64 (...).
    """
    K = X.shape[-2]
    size = max(1, math.isqrt(BLOCK // max(1, X[..., 0, 0].numel())))
    total: torch.Tensor | float = 0.0
    for start in range(0, K, size):
        rows = slice(start, start + size)
        for other in range(start, K, size):
            columns = slice(other, other + size)
            squares = _squares(X[..., rows, :], X[..., columns, :], start == other, least)
            parts = terms(squares, rows, columns)
            if start == other:
                above = torch.ones(squares.shape[-2:], dtype=torch.bool).triu(1)
                parts = [part.where(above, 0.0) for part in parts]
            total = total + torch.stack([part.sum((-2, -1)) for part in parts])
    assert isinstance(total, torch.Tensor)
    return list(total / (K * (K - 1) / 2))


def _squares(
    A: torch.Tensor, B: torch.Tensor, same: bool, least: torch.Tensor | float
) -> torch.Tensor:
    """Squared distances of rows, (..., a, b); same, whether A is B, whose diagonal does not count.

    They come from a matrix product, unless rows are so close that |x|^2 + |y|^2 - 2 x.y cancels.
    """
    norms, others = A.square().sum(-1), B.square().sum(-1)
    squares = norms[..., :, None] + others[..., None, :] - 2 * (A @ B.mT)
    if same:
        squares.diagonal(dim1=-2, dim2=-1).fill_(torch.inf)
    if squares.amin() > CANCELLATION * max(norms.amax(), others.amax()):
        return squares
    return exact_squares(A, B, least)


def exact_squares(A: torch.Tensor, B: torch.Tensor, least: torch.Tensor | float) -> torch.Tensor:
    """Squared distances of rows from their differences one by one, (..., a, b).

    Distances up to `least` are 0.
    """
    squares = torch.cdist(A, B, compute_mode="donot_use_mm_for_euclid_dist").square()
    return squares.masked_fill_(squares <= least**2, 0.0)
