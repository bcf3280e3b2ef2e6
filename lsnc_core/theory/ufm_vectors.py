"""Eigenvectors of the feature model's Hessians in closed form, and the Hessians as operators.

The operators are never formed as matrices. With both, a closed-form spectrum can be checked at any
size: each eigenvalue by the residual of an eigenvector, the largest by scipy's eigsh.
"""

from typing import TYPE_CHECKING

import numpy as np

from lsnc_core.errors import UsageError
from lsnc_core.labels import as_count
from lsnc_core.theory import ufm, ufm_objective, ufm_spectra
from lsnc_core.theory.arguments import check_kind
from lsnc_core.theory.ufm import FeatureModel, Loss

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator


def operator(model: FeatureModel, loss: Loss, x: np.ndarray, of: str = "all") -> "LinearOperator":
    """The Hessian of f at a point as a scipy LinearOperator.

    Args: x, point float64 (size,); loss, of one strength; of, "all" unknowns, or "W" or "H" with
    the rest fixed. Returns: scipy.sparse.linalg.LinearOperator, float64. Raises: UsageError.
    """
    from scipy.sparse.linalg import LinearOperator

    place = _place(model, of)
    ufm.check_one_strength(loss)
    ufm_objective.check_point(model, x)

    def product(v: np.ndarray) -> np.ndarray:
        whole = np.zeros(model.size)
        whole[place] = v.ravel()
        return ufm_objective.hessian_product(model, loss, x, whole)[place]

    size = len(range(*place.indices(model.size)))
    return LinearOperator((size, size), matvec=product, rmatvec=product, dtype=np.float64)


def _place(model: FeatureModel, of: str) -> slice:
    """Where the unknowns of W, of H or all of them stand in a point."""
    check_kind(model, FeatureModel, "model")
    middle = model.K * model.D
    places = {
        "all": slice(0, model.size),
        "W": slice(0, middle),
        "H": slice(middle, model.size - model.K),
    }
    if not isinstance(of, str) or of not in places:
        raise UsageError(f"A Hessian is of all, W or H, not of {of!r}.")
    return places[of]


def eigenvector(
    model: FeatureModel,
    delta: float,
    name: str,
    of: str = "all",
    seed: int = 0,
    rotation: int | None = None,
) -> np.ndarray:
    """A unit eigenvector of a named eigenvalue of ufm_spectra.spectrum.

    It belongs to the minimiser ufm.construct(..., seed=rotation).
    Args: model; delta, float; name, of an Eigenvalue; of, "all", "W" or "H"; seed, of the choice
    inside the eigenspace; rotation, the seed of the minimiser's rotation, or None. Returns: float64
    (size of the block,), norm 1. Raises: UsageError for a name that the spectrum does not have.
    Source: the derivation in the docstring of ufm_spectra.
    """
    names = [e.name for e in ufm_spectra.spectrum(model, delta, of)]
    if not isinstance(name, str) or name not in names or of == "logits":
        raise UsageError(
            f"The spectrum of {of} has no eigenvector named {name!r}; there are {', '.join(names)}."
        )
    build = _Eigenvectors(model, delta, seed, rotation)
    whole = {"W": build.of_W, "H": build.of_H, "all": build.of_all}[of](name)
    part = whole[_place(model, of)]
    return part / np.linalg.norm(part)


class _Eigenvectors:
    """Eigenvectors at one minimiser; draws inside an eigenspace come from one generator."""

    def __init__(self, model: FeatureModel, delta: float, seed: int, rotation: int | None) -> None:
        self.model, self.at = model, ufm_spectra.at_minimiser(model, delta)
        self.U = ufm.simplex_etf(model, rotation)
        self.draw = np.random.default_rng(as_count(seed, "The seed")).standard_normal

    def _outside(self) -> np.ndarray:
        """A feature direction outside the span of U: (D,)."""
        x = self.draw(self.model.D)
        return x - self.U.T @ (self.U @ x)  # U^t U projects onto the span

    def _centred(self) -> np.ndarray:
        """K entries with sum 0."""
        v = self.draw(self.model.K)
        return v - v.mean()

    def _matrix(self, kind: str) -> np.ndarray:
        """A K x K matrix of norm 1 whose rows and columns sum to 0.

        kind: "antisymmetric"; "symmetric", without diagonal and orthogonal to P; "mean", P itself.
        """
        K = self.model.K
        P = np.eye(K) - 1 / K
        A = P @ self.draw((K, K)) @ P
        if kind == "antisymmetric":
            A = A - A.T
        elif kind == "symmetric":
            A = A + A.T
            A -= P @ np.diag(np.diag(A)) @ P * K / (K - 2)  # leaves the diagonal of a multiple of P
            A -= P * np.trace(A) / (K - 1)
        else:
            A = P
        return A / np.linalg.norm(A)

    def _point(
        self,
        W: np.ndarray | None = None,
        means: np.ndarray | None = None,
        bias: np.ndarray | None = None,
    ) -> np.ndarray:
        """A change of W (K, D), of the class means times sqrt(n) (D, K) and of b (K,), as unknowns.

        Returns: float64 (size,); what is None does not change.
        """
        K, D, n = self.model.K, self.model.D, self.model.n
        W = np.zeros((K, D)) if W is None else W
        means = np.zeros((D, K)) if means is None else means
        H = np.repeat(means.T / np.sqrt(n), n, axis=0)  # (K, D) -> (N, D)
        return ufm_objective.join(W, H, np.zeros(K) if bias is None else bias)

    def _diagonal(self, v: np.ndarray) -> np.ndarray:
        """P diag(v) P, scaled to norm 1 for a vector of norm 1."""
        K = self.model.K
        P = np.eye(K) - 1 / K
        return P @ np.diag(v) @ P * np.sqrt(K / (K - 2))

    def _sample(self, kind: str) -> np.ndarray:
        """A feature direction of a sample of class 0, (D,).

        kind: "outside" the span, "own", towards its class mean, or "others", across the others.
        """
        own = np.eye(self.model.K)[0] - 1 / self.model.K
        if kind == "outside":
            return self._outside()
        if kind == "own":
            return self.U.T @ own
        y = self._centred()
        return self.U.T @ (y - own * (y @ own) / (own @ own))

    def of_H(self, name: str) -> np.ndarray:
        H = np.zeros((self.model.N, self.model.D))
        H[0] = self._sample(name)
        return ufm_objective.join(np.zeros_like(self.U), H, np.zeros(self.model.K))

    def of_W(self, name: str) -> np.ndarray:
        K = self.model.K
        if name == "outside":
            return self._point(np.outer(self.draw(K), self._outside()))
        if name == "left":
            return self._point(np.outer(np.ones(K), self.U.T @ self._centred()))
        if name == "diagonal":
            v = self._centred()
            return self._point(self._diagonal(v) @ self.U)
        return self._point(self._matrix(name) @ self.U)

    def of_all(self, name: str) -> np.ndarray:
        kind, _, part = name.partition(", ")
        if kind == "within":
            return self._of_deviations(part)
        if kind in ("outside", "left", "bias shift") or name == "rotation, outside":
            return self._of_outside(name)
        if kind.startswith("diagonal"):
            return self._of_block(int(kind.split()[1]))
        return self._of_matrices(kind, part)

    def _of_deviations(self, kind: str) -> np.ndarray:
        """A change of two samples of class 0 that leaves the class mean as it is."""
        x = np.zeros((self.model.N, self.model.D))
        x[0] = self._sample(kind)
        x[1] = -x[0]
        return ufm_objective.join(np.zeros_like(self.U), x, np.zeros(self.model.K))

    def _of_outside(self, name: str) -> np.ndarray:
        """Changes of W and of class means outside the span, or of their sums over the classes."""
        ones, root_W, root_H = np.ones(self.model.K), *self._roots()
        if name in ("rotation, outside", "outside, stretch"):
            v, x = self._centred(), self._outside()
            # [[W, -mu], [-mu, H]] has eigenvalues 0 and W + H
            scale = (root_H, root_W) if name == "rotation, outside" else (root_W, -root_H)
            return self._point(scale[0] * np.outer(v, x), scale[1] * np.outer(x, v))
        if name == "outside, W sum":
            return self._point(np.outer(ones, self._outside()))
        if name == "outside, mean feature":
            return self._point(means=np.outer(self._outside(), ones))
        if name == "left":
            return self._point(np.outer(ones, self.U.T @ self._centred()))
        return self._point(bias=ones)  # bias shift

    def _of_matrices(self, kind: str, part: str) -> np.ndarray:
        """Changes of W along A U and of the class means along U^t A, A a K x K matrix."""
        model, at, U = self.model, self.at, self.U
        K, W, H = model.K, model.lambda_W, model.lambda_H
        mu, (root_W, root_H) = np.sqrt(W * H), self._roots()
        if kind in ("rotation", "antisymmetric"):
            A = self._matrix("antisymmetric")
            # [[W, mu], [mu, H]] (1 + theta/mu)
            scale = (root_H, -root_W) if kind == "rotation" else (root_W, root_H)
            return self._point(scale[0] * A @ U, scale[1] * U.T @ A)
        theta = at.p_off * at.margin / (K * np.sqrt(model.n))
        theta = theta * (K * at.p_on if kind == "mean" else 1)
        form = np.array([[W * (1 + theta / mu), theta - mu], [theta - mu, H * (1 + theta / mu)]])
        along_W, along_H = np.linalg.eigh(form)[1][:, 0 if part == "low" else 1]
        A = self._matrix(kind)
        return self._point(along_W * A @ U, along_H * U.T @ A)

    def _roots(self) -> tuple[float, float]:
        return np.sqrt(self.model.lambda_W), np.sqrt(self.model.lambda_H)

    def _of_block(self, number: int) -> np.ndarray:
        """Eigenvector `number` of ufm_spectra.diagonal_block, for a random vector."""
        K, v = self.model.K, self._centred()
        v /= np.linalg.norm(v)
        parts = np.linalg.eigh(ufm_spectra.diagonal_block(self.model, self.at))[1][:, number]
        mean = np.outer(self.U.T @ v, np.ones(K)) / np.sqrt(K)
        if K == 2:
            return self._point(means=parts[0] * mean, bias=parts[1] * v)
        B = self._diagonal(v)
        return self._point(
            parts[1] * B @ self.U, parts[0] * self.U.T @ B + parts[2] * mean, parts[3] * v
        )
