"""Eigenvectors of the feature model's Hessians written out, and the Hessians as operators that are
never formed.

With them a spectrum in closed form is checked at any size: each eigenvalue by the residual of an
eigenvector, the largest by scipy's eigsh.
"""

import numpy as np

from lsnc_core.errors import UsageError
from lsnc_core.theory import ufm, ufm_objective, ufm_spectra
from lsnc_core.theory.ufm import FeatureModel, Loss


def operator(model: FeatureModel, loss: Loss, x: np.ndarray, of: str = "all"):
    """The Hessian of f at a point as a scipy LinearOperator: of all unknowns, or of "W" or "H" with
    the rest fixed.

    Args: x, point float64 (size,); loss, of one strength; of, "all", "W" or "H". Returns:
    scipy.sparse.linalg.LinearOperator, float64.
    Raises: UsageError.
    """
    from scipy.sparse.linalg import LinearOperator

    place = _place(model, of)

    def product(v: np.ndarray) -> np.ndarray:
        whole = np.zeros(model.size)
        whole[place] = v.ravel()
        return ufm_objective.hessian_product(model, loss, x, whole)[place]

    size = len(range(*place.indices(model.size)))
    return LinearOperator((size, size), matvec=product, rmatvec=product, dtype=np.float64)


def _place(model: FeatureModel, of: str) -> slice:
    """Where the unknowns of W, of H or all of them stand in a point."""
    middle = model.K * model.D
    places = {
        "all": slice(0, model.size),
        "W": slice(0, middle),
        "H": slice(middle, model.size - model.K),
    }
    if of not in places:
        raise UsageError(f"A Hessian is of all, W or H, not of {of!r}.")
    return places[of]


def eigenvector(
    model: FeatureModel,
    delta: float,
    name: str,
    of: str = "all",
    seed: int = 0,
    turned: int | None = None,
) -> np.ndarray:
    """A unit eigenvector of a named eigenvalue of ufm_spectra.spectrum at the minimiser
    ufm.construct(..., seed=turned).

    Args: model; delta, float; name, of an Eigenvalue; of, "all", "W" or "H"; seed, of the choice
    inside the eigenspace; turned, of the minimiser's rotation. Returns: float64 (size of the
    block,), norm 1. Raises: UsageError, for a name that the spectrum does not have.
    Source: the decomposition in ufm_spectra's docstring.
    """
    names = [e.name for e in ufm_spectra.spectrum(model, delta, of)]
    if name not in names or of == "logits":
        raise UsageError(
            f"The spectrum of {of} has no eigenvector named {name!r}; there are {', '.join(names)}."
        )
    build = _Eigenvectors(model, delta, seed, turned)
    whole = {"W": build.of_W, "H": build.of_H, "all": build.of_all}[of](name)
    part = whole[_place(model, of)]
    return part / np.linalg.norm(part)


class _Eigenvectors:
    """Eigenvectors of one minimiser; draws inside an eigenspace come from one generator."""

    def __init__(self, model: FeatureModel, delta: float, seed: int, turned: int | None):
        self.model, self.at = model, ufm_spectra.at_minimiser(model, delta)
        self.U = ufm.frame(model, turned)
        self.draw = np.random.default_rng(seed).standard_normal

    def _outside(self) -> np.ndarray:
        """A feature direction outside the span of U: (D,)."""
        x = self.draw(self.model.D)
        return x - self.U.T @ (self.U @ x)  # U^t U projects onto the span

    def _centred(self) -> np.ndarray:
        """K entries with sum 0."""
        v = self.draw(self.model.K)
        return v - v.mean()

    def _matrix(self, name: str) -> np.ndarray:
        """A K x K matrix of norm 1 of the kind that the name begins with, rows and columns of sum 0
        (diagonal: of the vector drawn).
        """
        K = self.model.K
        P = np.eye(K) - 1 / K
        A = P @ self.draw((K, K)) @ P
        if name.startswith("antisymmetric"):
            A = A - A.T
        elif name.startswith("symmetric"):
            A = A + A.T
            A -= (
                P @ np.diag(np.diag(A)) @ P * K / (K - 2)
            )  # takes the diagonal away, up to a copy of P
            A -= P * np.trace(A) / (K - 1)
        else:
            A = P
        return A / np.linalg.norm(A)

    def _point(self, W=None, means=None, bias=None) -> np.ndarray:
        """The unknowns of a change of W (K, D), of class means times sqrt(n) (D, K), and of b
        (K,).
        """
        K, D, n = self.model.K, self.model.D, self.model.n
        W = np.zeros((K, D)) if W is None else W
        means = np.zeros((D, K)) if means is None else means
        H = np.repeat(means.T / np.sqrt(n), n, axis=0)  # (K, D) -> (N, D)
        return ufm_objective.join(W, H, np.zeros(K) if bias is None else bias)

    def _diagonal(self, v: np.ndarray) -> np.ndarray:
        """P diag(v) P of norm 1 for a vector of norm 1."""
        K = self.model.K
        P = np.eye(K) - 1 / K
        return P @ np.diag(v) @ P * np.sqrt(K / (K - 2))

    def _sample(self, name: str) -> np.ndarray:
        """A feature direction of a sample of class 0, (D,): outside the span, across the other
        classes, towards its own.
        """
        own = np.eye(self.model.K)[0] - 1 / self.model.K
        if name == "outside":
            return self._outside()
        if name == "own":
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
        model, at, U = self.model, self.at, self.U
        K, W, H = model.K, model.lambda_W, model.lambda_H
        mu, ones = np.sqrt(W * H), np.ones(K)
        kind, _, part = name.partition(", ")
        if kind == "within":
            x = np.zeros((model.N, model.D))
            x[0] = self._sample(part)
            x[1] = -x[0]  # sums to 0 over the class
            return ufm_objective.join(np.zeros_like(U), x, np.zeros(K))
        if name in ("rotation, outside", "outside, stretch"):
            v, x = self._centred(), self._outside()
            # [[W, -mu], [-mu, H]] has eigenvalues 0 and W + H
            scale = (np.sqrt(H), np.sqrt(W)) if kind == "rotation" else (np.sqrt(W), -np.sqrt(H))
            return self._point(scale[0] * np.outer(v, x), scale[1] * np.outer(x, v))
        if name == "outside, W sum":
            return self._point(np.outer(ones, self._outside()))
        if name == "outside, mean feature":
            return self._point(means=np.outer(self._outside(), ones))
        if name == "left":
            return self._point(np.outer(ones, U.T @ self._centred()))
        if name == "bias shift":
            return self._point(bias=ones)
        if kind == "rotation" or kind == "antisymmetric":
            A = self._matrix("antisymmetric")
            # [[W, mu], [mu, H]] (1 + theta/mu)
            scale = (np.sqrt(H), -np.sqrt(W)) if kind == "rotation" else (np.sqrt(W), np.sqrt(H))
            return self._point(scale[0] * A @ U, scale[1] * U.T @ A)
        if kind.startswith("diagonal"):
            return self._of_block(int(kind.split()[1]))
        theta = (
            at.p_off * at.margin / (K * np.sqrt(model.n)) * (K * at.p_on if kind == "mean" else 1)
        )
        form = np.array([[W * (1 + theta / mu), theta - mu], [theta - mu, H * (1 + theta / mu)]])
        scale = np.linalg.eigh(form)[1][:, 0 if part == "low" else 1]
        A = self._matrix(kind)
        return self._point(scale[0] * A @ U, scale[1] * U.T @ A)

    def _of_block(self, number: int) -> np.ndarray:
        """The eigenvector number `number` of ufm_spectra.diagonal_block, for a vector drawn."""
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
