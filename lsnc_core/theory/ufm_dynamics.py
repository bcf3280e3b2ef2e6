"""Minimising the unconstrained feature model from many starts at once, and measuring its collapse.

The methods are gradient descent, momentum and L-BFGS. All starts and strengths of one call advance
together, one row each, and no row depends on the numbers of another. Rows are taken in blocks that
fit a processor's cache, one after the other: threads would wait for Python's lock.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lsnc_core.errors import UsageError
from lsnc_core.labels import as_count
from lsnc_core.theory import ufm_objective
from lsnc_core.theory.arguments import as_floats, as_one_float, check_choice, check_kind
from lsnc_core.theory.ufm import FeatureModel, Loss

BLOCK_ENTRIES = 60_000  # unknowns of the rows of a block: its L-BFGS history then fits the cache
MEMORY = 8  # pairs that L-BFGS remembers
ARMIJO, SHRINK, TRIES = 1e-4, 0.25, 12  # of the backtracking search
METHODS = ("descent", "lbfgs")


@dataclass(frozen=True, eq=False)
class Trajectories:
    """Records along R runs, at T iterations.

    iterations: int (T,). loss, error, nc1, nc2, nc3, w_norm, h_norm: float64 (T, R), the objective
    f, the training error, the collapse metrics, and the means over the classes of ||w_k|| and of
    ||mu_k - mu_G||. end: float64 (R, size), the last points.
    """

    iterations: np.ndarray
    loss: np.ndarray
    error: np.ndarray
    nc1: np.ndarray
    nc2: np.ndarray
    nc3: np.ndarray
    w_norm: np.ndarray
    h_norm: np.ndarray
    end: np.ndarray


@dataclass(frozen=True, eq=False)
class Solution:
    """Numerical minimisers from R starts.

    points: float64 (R, size). values: float64 (R,), f. gradients: float64 (R,), the largest
    gradient entry. iterations: int (R,), used.
    """

    points: np.ndarray
    values: np.ndarray
    gradients: np.ndarray
    iterations: np.ndarray


class _Descent:
    """Gradient descent with heavy-ball momentum: v <- momentum v + grad, x <- x - step v.

    Steps of the features are N times larger: f is a mean over the samples, so the gradient in a
    feature is 1/N of its sample's.
    """

    def __init__(
        self, model: FeatureModel, loss: Loss, x: np.ndarray, step: float, momentum: float
    ) -> None:
        self.model, self.loss, self.x, self.momentum = model, loss, x, momentum
        self.step = np.full(model.size, step)
        self.step[model.K * model.D : -model.K] *= model.N
        self.velocity, self.change = np.zeros_like(x), np.empty_like(x)

    def advance(self) -> None:
        gradient = ufm_objective.gradient(self.model, self.loss, self.x)
        if self.momentum:
            self.velocity *= self.momentum
            self.velocity += gradient
            gradient = self.velocity
        self.x -= np.multiply(self.step, gradient, out=self.change)


class _QuasiNewton:
    """L-BFGS with a backtracking search; every row has its own step length and memory.

    moves, changes: the remembered s and y, float64 (R, size) each. curvatures: 1/(s.y), float64
    (R,), 0 where a row leaves a pair out. scale: of the inverse Hessian's first guess, float64
    (R,). stuck: bool (R,), rows whose search could not lower f.
    """

    def __init__(self, model: FeatureModel, loss: Loss, x: np.ndarray) -> None:
        self.model, self.loss, self.x = model, loss, x
        self.value, self.gradient = ufm_objective.value_and_gradient(model, loss, x)
        self.moves: list[np.ndarray] = []
        self.changes: list[np.ndarray] = []
        self.curvatures: list[np.ndarray] = []
        self.scale = 1 / np.maximum(1.0, np.abs(self.gradient).max(-1))
        self.stuck = np.zeros(len(x), dtype=bool)

    def keep(self, rows: np.ndarray) -> None:
        """Continue with these rows only."""
        self.loss = _rows(self.loss, rows)
        self.x, self.value, self.gradient = self.x[rows], self.value[rows], self.gradient[rows]
        self.scale, self.stuck = self.scale[rows], self.stuck[rows]
        for remembered in (self.moves, self.changes, self.curvatures):
            remembered[:] = [part[rows] for part in remembered]

    def _direction(self) -> np.ndarray:
        """Minus the approximate inverse Hessian times the gradient, by the two-loop recursion."""
        d = -self.gradient
        pairs = list(zip(self.moves, self.changes, self.curvatures, strict=True))
        weights = []
        for s, y, curvature in reversed(pairs):
            weights.append(curvature * _dot(s, d))
            d -= weights[-1][:, None] * y
        d *= self.scale[:, None]
        for (s, y, curvature), weight in zip(pairs, reversed(weights), strict=True):
            d += (weight - curvature * _dot(y, d))[:, None] * s
        return d

    def advance(self) -> None:
        d = self._direction()
        slope = _dot(self.gradient, d)
        uphill = slope >= 0  # only by rounding, near the end
        d[uphill] = -self.gradient[uphill]
        slope[uphill] = -_dot(self.gradient[uphill], self.gradient[uphill])
        x, value, gradient = self._search(d, slope)
        self._remember(x - self.x, gradient - self.gradient)
        self.x, self.value, self.gradient = x, value, gradient

    def _search(
        self, d: np.ndarray, slope: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The next points with their values and gradients, by backtracking along d."""
        length = np.ones(len(d))
        x = self.x + d
        value, gradient = ufm_objective.value_and_gradient(self.model, self.loss, x)
        self._put_back(self.stuck, x, value, gradient)
        late = np.flatnonzero(~self.stuck)  # rows that still search
        for _ in range(TRIES):
            lower = value[late] <= self.value[late] + ARMIJO * length[late] * slope[late]
            # Near the end rounding hides the gain of a step, but not the slope along it (the
            # approximate Wolfe condition of Hager and Zhang).
            level = value[late] <= self.value[late] + 1e-14 * np.abs(self.value[late])
            flat = _dot(gradient[late], d[late]) <= (2 * ARMIJO - 1) * slope[late]
            late = late[~(lower | (level & flat))]
            if not len(late):
                break
            length[late] *= SHRINK
            x[late] = self.x[late] + length[late, None] * d[late]
            value[late], gradient[late] = ufm_objective.value_and_gradient(
                self.model, _rows(self.loss, late), x[late]
            )
        self._put_back(late, x, value, gradient)
        self.stuck[late] = True
        return x, value, gradient

    def _put_back(
        self, rows: np.ndarray, x: np.ndarray, value: np.ndarray, gradient: np.ndarray
    ) -> None:
        """Undo the step of these rows."""
        x[rows], value[rows], gradient[rows] = self.x[rows], self.value[rows], self.gradient[rows]

    def _remember(self, s: np.ndarray, y: np.ndarray) -> None:
        sy, yy = _dot(s, y), _dot(y, y)
        # A pair without positive curvature would break the positive definite approximation.
        good = sy > 1e-10 * np.sqrt(yy * _dot(s, s))
        self.moves.append(s)
        self.changes.append(y)
        self.curvatures.append(np.where(good, 1 / np.where(good, sy, 1), 0.0))
        self.scale = np.where(good, sy / np.where(good, yy, 1), self.scale)
        if len(self.moves) > MEMORY:
            del self.moves[0], self.changes[0], self.curvatures[0]


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("rp,rp->r", a, b)


def _rows(loss: Loss, rows: np.ndarray) -> Loss:
    return Loss(loss.name, np.asarray(loss.strength)[rows])


def _in_blocks(
    model: FeatureModel,
    loss: Loss,
    x: np.ndarray,
    work: Callable[[Loss, np.ndarray], tuple[np.ndarray, ...]],
) -> list[tuple[np.ndarray, ...]]:
    """The results of work(loss, points) for each block of rows, in order."""
    check_kind(loss, Loss, "loss")
    ufm_objective.split(model, x)
    if x.ndim != 2 or not len(x):
        raise UsageError(
            f"Starts must be points (R, {model.size}), at least one, not an array of shape "
            f"{x.shape}."
        )
    try:
        each = Loss(loss.name, np.broadcast_to(loss.strength, len(x)))
    except ValueError:
        raise UsageError(
            f"There must be one strength, or one for each of the {len(x)} starts, not "
            f"{np.size(loss.strength)}."
        ) from None
    blocks = np.array_split(np.arange(len(x)), -(-x.size // BLOCK_ENTRIES))

    def work_on(rows: np.ndarray) -> tuple[np.ndarray, ...]:
        return work(_rows(each, rows), np.array(x[rows], dtype=np.float64))

    return list(map(work_on, blocks))


def minimise(
    model: FeatureModel, loss: Loss, x: np.ndarray, tolerance: float = 1e-10, iterations: int = 5000
) -> Solution:
    """Numerical minimisers by L-BFGS, one per start.

    No closed form is needed, so any D and weight decays of 0 are allowed.
    Args: x, starts float64 (R, size); loss, of one strength or of R; tolerance, a row ends once its
    largest gradient entry is at most this, or rounding stops it; iterations, at most.
    Returns: Solution. Raises: UsageError where starts or strengths do not fit.
    """
    iterations = as_count(iterations, "The number of iterations")
    tolerance = as_one_float(tolerance, "The tolerance")

    def work(loss: Loss, x: np.ndarray) -> tuple[np.ndarray, ...]:
        state, left = _QuasiNewton(model, loss, x), np.arange(len(x))
        points, values, gradients = x.copy(), np.empty(len(x)), np.empty(len(x))
        used = np.full(len(x), iterations)
        for iteration in range(iterations + 1):
            largest = np.abs(state.gradient).max(-1)
            done = (largest <= tolerance) | state.stuck
            if iteration == iterations:
                done[:] = True
            if done.any():
                rows = left[done]
                points[rows], values[rows] = state.x[done], state.value[done]
                gradients[rows], used[rows] = largest[done], iteration
                left = left[~done]
                if not len(left):
                    break
                state.keep(np.flatnonzero(~done))
            state.advance()
        return points, values, gradients, used

    blocks = _in_blocks(model, loss, x, work)
    return Solution(*(np.concatenate(part) for part in zip(*blocks, strict=True)))


def trajectories(
    model: FeatureModel,
    loss: Loss,
    x: np.ndarray,
    record_at: Sequence[int],
    method: str = "descent",
    step: float = 0.5,
    momentum: float = 0.0,
) -> Trajectories:
    """Runs from many starts, with collapse metrics at chosen iterations.

    Args: x, starts float64 (R, size); loss, of one strength or of R; record_at, increasing
    iterations, 0 is the start; method, one of METHODS; step, the learning rate of W and b in
    gradient descent, N times larger for the features; momentum, of the heavy ball, 0 for none.
    Returns: Trajectories. Raises: UsageError.
    """
    check_choice(method, METHODS, "The method")
    step, momentum = as_one_float(step, "The step"), as_one_float(momentum, "The momentum")
    iterations = as_floats(record_at, "record_at")
    increasing = iterations.ndim == 1 and len(iterations) > 0 and iterations[0] >= 0
    increasing = increasing and bool((np.diff(iterations) > 0).all())
    if not increasing or (iterations % 1 != 0).any() or iterations[-1] > 2**53:
        raise UsageError(
            "record_at must be increasing iterations from 0 on, not "
            f"{np.asarray(record_at).tolist()}."
        )
    iterations = iterations.astype(np.int64)

    def work(loss: Loss, x: np.ndarray) -> tuple[np.ndarray, ...]:
        state: _QuasiNewton | _Descent
        if method == "lbfgs":
            state = _QuasiNewton(model, loss, x)
        else:
            state = _Descent(model, loss, x, step, momentum)
        rows, now = [], 0
        for wanted in iterations:
            for _ in range(wanted - now):
                state.advance()
            now = wanted
            rows.append(_measure(model, loss, state.x))
        return (*map(np.stack, zip(*rows, strict=True)), state.x)

    *recorded, end = zip(*_in_blocks(model, loss, x, work), strict=True)
    loss_, error, nc1, nc2, nc3, w_norm, h_norm = (
        np.concatenate(part, axis=1) for part in recorded
    )
    return Trajectories(
        iterations, loss_, error, nc1, nc2, nc3, w_norm, h_norm, np.concatenate(end)
    )


def _measure(model: FeatureModel, loss: Loss, x: np.ndarray) -> tuple[np.ndarray, ...]:
    """Loss, training error, NC1, NC2, NC3 and norms of points (R, size), each (R,)."""
    value = ufm_objective.value_and_gradient(model, loss, x)[0]
    wrong = ufm_objective.logits(model, x).argmax(-1) != ufm_objective.classes(model)
    return (value, wrong.mean(-1), *collapse(model, x))


def collapse(model: FeatureModel, x: np.ndarray) -> tuple[np.ndarray, ...]:
    """NC1, NC2, NC3 as Guo defines them, and the mean norms of weights and centred class means.

    Formula: NC1 = tr(Sigma_W Sigma_B^+)/K; NC2 = || W Hbar/||W Hbar|| - P/sqrt(K-1) ||; NC3 = ||
    W/||W|| - Hbar^t/||Hbar|| ||, all Frobenius; W is not centred.
    Args: x, float64 (R, size). Returns: five float64 (R,): NC1 >= 0, NC2 and NC3 in [0, 2], mean_k
    ||w_k||, mean_k ||mu_k - mu_G||. Raises: UsageError.
    Source: Guo eq. 4, Guo eq. 5, Guo eq. 6.
    """
    W, H, _ = ufm_objective.split(model, x)
    if x.ndim != 2:
        raise UsageError(f"Points must be (R, {model.size}), not {x.shape}.")
    K = model.K
    grouped = H.reshape(*H.shape[:-2], K, model.n, model.D)
    means = grouped.mean(-2)  # (R, K, D)
    centred = means - means.mean(-2, keepdims=True)  # (R, K, D)
    # The K x K Gram matrix has the non-zero eigenvalues of Sigma_B; those that are rounding error
    # are dropped, as the pseudo-inverse does.
    values, vectors = np.linalg.eigh(centred @ centred.swapaxes(-1, -2) / K)  # (R, K), (R, K, K)
    kept = values > values[:, -1:] * K * np.finfo(float).eps
    weights = np.where(kept, 1 / np.where(kept, values, 1), 0.0)
    # u_i / sqrt(lambda_i) with u_i = Hbar v_i / sqrt(K lambda_i)
    scaled = vectors * weights[:, None, :] / np.sqrt(K)  # (R, K, K)
    directions = centred.swapaxes(-1, -2) @ scaled  # (R, D, K)
    within = (grouped - means[..., None, :]).reshape(*H.shape) @ directions  # (R, N, K)
    nc1 = (within**2).sum((-1, -2)) / model.N / K
    ideal = (np.eye(K) - 1 / K) / np.sqrt(K - 1)
    nc2 = np.linalg.norm(_unit(W @ centred.swapaxes(-1, -2)) - ideal, axis=(-2, -1))
    nc3 = np.linalg.norm(_unit(W) - _unit(centred), axis=(-2, -1))
    w_norm = np.linalg.norm(W, axis=-1).mean(-1)
    h_norm = np.linalg.norm(centred, axis=-1).mean(-1)
    return nc1, nc2, nc3, w_norm, h_norm


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=(-2, -1), keepdims=True)
