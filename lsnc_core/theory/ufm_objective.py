"""The objective of the unconstrained feature model, its gradient and its Hessian.

All functions take many problems of one size at once. A point is one vector of unknowns (W, H, b),
float64 (..., size). The leading axes are starts and strengths, and a loss may have a strength for
each. Sample number k n + i is sample i of class k.
"""

import functools

import numpy as np

from lsnc_core.errors import UsageError
from lsnc_core.labels import as_count
from lsnc_core.theory.arguments import as_one_float, as_one_shape, check_kind
from lsnc_core.theory.ufm import FeatureModel, Loss

FAR = 300.0  # the exponential of minus this is a normal number, and so is its square


def split(model: FeatureModel, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """W (..., K, D), features H (..., N, D) and b (..., K) as views of points x (..., size).

    Raises: UsageError where the last axis does not have the model's size.
    """
    check_kind(model, FeatureModel, "model")
    if not isinstance(x, np.ndarray) or x.dtype.kind not in "fiub":
        raise UsageError(f"A point of this model must be a float64 array, not {x!r}.")
    if np.shape(x)[-1:] != (model.size,):
        raise UsageError(
            f"A point of this model has {model.size} entries (W, H, b), not {np.shape(x)[-1:]}."
        )
    lead, (K, D) = x.shape[:-1], (model.K, model.D)
    W, H, b = x[..., : K * D], x[..., K * D : -K], x[..., -K:]
    return W.reshape(*lead, K, D), H.reshape(*lead, model.N, D), b


def check_point(model: FeatureModel, x: np.ndarray) -> None:
    """Refuse what is not one point (size,) of a model. Raises: UsageError."""
    split(model, x)
    if x.ndim != 1:
        raise UsageError(f"The Hessian is that at one point (size,), not {x.shape}.")


def join(W: np.ndarray, H: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The points (..., size) of W (..., K, D), H (..., N, D) and b (..., K); undoes split."""
    lead = b.shape[:-1]
    return np.concatenate([W.reshape(*lead, -1), H.reshape(*lead, -1), b], axis=-1)


def random_starts(model: FeatureModel, count: int, seed: int, scale: float = 1.0) -> np.ndarray:
    """Starts with independent normal entries of standard deviation `scale` and bias 0.

    The first ones do not depend on count. Returns: float64 (count, size). Raises: UsageError for
    fewer than one start.
    """
    check_kind(model, FeatureModel, "model")
    shape = as_count(count, "The number of starts", least=1), model.size
    draw = np.random.default_rng(as_count(seed, "The seed")).standard_normal(shape)
    x = as_one_float(scale, "The scale of the starts") * draw
    x[:, -model.K :] = 0
    return x


def logits(model: FeatureModel, x: np.ndarray) -> np.ndarray:
    """Logits W h + b of every sample: float64 (..., N, K)."""
    W, H, b = split(model, x)
    Z = H @ W.swapaxes(-1, -2)
    Z += b[..., None, :]
    return Z


def classes(model: FeatureModel) -> np.ndarray:
    """Class of each sample, int (N,)."""
    return np.arange(model.N) // model.n


def _check_loss(loss: Loss, lead: tuple[int, ...]) -> None:
    """Refuse strengths that do not fit points with these leading axes. Raises: UsageError."""
    check_kind(loss, Loss, "loss")
    shape = np.shape(loss.strength)
    if shape in ((), lead):  # nearly always; what follows costs a small gradient's time
        return
    try:
        fits = np.broadcast_shapes(shape, lead) == lead
    except ValueError:
        fits = False
    if not fits:
        raise UsageError(
            f"The loss must have one strength, or strengths that broadcast over points {lead}, not "
            f"{shape}."
        )


def _strength(loss: Loss, axes: int) -> np.ndarray:
    """The loss's strength with `axes` more axes of length 1."""
    value = np.asarray(loss.strength)
    return value.reshape(value.shape + (1,) * axes)


def _focal_factor(log_p: np.ndarray, rest: np.ndarray, gamma: np.ndarray) -> np.ndarray:
    """c(p) of the focal loss's gradient c (e_k - q); rest = 1 - p.

    Formula: c = (1-p)^gamma (gamma p log p / (1-p) - 1).
    """
    ratio = np.where(rest > 0, log_p / np.where(rest > 0, rest, 1), -1.0)
    return rest**gamma * (gamma * np.exp(log_p) * ratio - 1)


def _lower(Z: np.ndarray) -> None:
    """Shift logits (..., N, K), in place, so that no exponential overflows and no row of them
    vanishes.

    The largest logit of all samples does for both where logits do not differ much, and is found
    faster than each sample's.
    """
    high = Z.max((-2, -1), keepdims=True)
    far = high - Z.min((-2, -1), keepdims=True)
    Z -= high if far.max(initial=0) < FAR else Z.max(-1, keepdims=True)


def data_loss(loss: Loss, Z: np.ndarray, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Loss of each sample and its gradient with respect to the logits.

    Formula: ls: -sum_j y_j log q_j, y = (1-delta) e_k + delta/K; focal: -(1-q_k)^gamma log q_k;
    mse: (1/K)||z - M e_k||^2; q = softmax(z).
    Args: loss, its strength broadcasts with the leading axes; Z, logits float64 (..., N, K); own,
    class k of each sample, int (N,).
    Returns: losses (..., N) and gradients (..., N, K).
    Source: Guo, section on label smoothing; Zhou, section 2.
    """
    G = Z.astype(np.float64)
    return _differentiate(loss, G, own), G


def _differentiate(loss: Loss, Z: np.ndarray, own: np.ndarray, valued: bool = True) -> np.ndarray:
    """Turn logits into `data_loss`'s gradients, in place, and return its losses. For label
    smoothing the losses are computed only if `valued`.

    This is the inner loop of every optimiser: arrays that are made anew cost it as much time as
    what is computed.
    """
    rows, K = np.arange(len(own)), Z.shape[-1]
    if loss.name == "mse":
        Z[..., rows, own] -= _strength(loss, 1)
        losses = (Z * Z).mean(-1)
        Z *= 2 / K
        return losses
    _lower(Z)
    ones, own_z, losses = np.ones((K, 1)), Z[..., rows, own], np.empty(0)
    delta = _strength(loss, 1)
    if loss.name == "ls" and valued:
        losses = delta * (own_z - (Z @ ones)[..., 0] / K) - own_z
    np.exp(Z, out=Z)
    total = Z @ ones  # (..., N, 1); numpy's own sum over a short axis takes several times as long
    Z /= total
    if loss.name == "ls":
        if valued:
            losses += np.log(total[..., 0])
        Z -= delta[..., None] / K
        Z[..., rows, own] -= 1 - delta
        return losses
    log_p = own_z - np.log(total[..., 0])  # (..., N)
    gamma, rest = delta, -np.expm1(log_p)
    c = _focal_factor(log_p, rest, gamma)
    Z *= -c[..., None]
    Z[..., rows, own] += c
    return -(rest**gamma) * log_p


@functools.lru_cache
def _decays(model: FeatureModel) -> np.ndarray:
    """The weight decay of each entry of a point, float64 (size,)."""
    sizes = (model.K * model.D, model.N * model.D, model.K)
    return np.repeat((model.lambda_W, model.lambda_H, model.lambda_b), sizes)


def value_and_gradient(
    model: FeatureModel, loss: Loss, x: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """f and its gradient at points x.

    Args: x, float64 (..., size). Returns: float64 (...) and (..., size). Raises: UsageError.
    Source: f is defined in the docstring of `ufm`.

    >>> model = FeatureModel(K=2, n=1, D=1, lambda_W=0.1, lambda_H=0.1)
    >>> value, gradient = value_and_gradient(model, Loss("ls", 0.0), np.zeros(6))
    >>> round(float(value), 4), gradient.tolist()  # log 2, a critical point
    (0.6931, [0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    """
    G = logits(model, x)
    _check_loss(loss, x.shape[:-1])
    losses = _differentiate(loss, G, classes(model))
    shrinking = x * _decays(model)
    penalty = 0.5 * np.einsum("...p,...p->...", x, shrinking)
    return losses.mean(-1) + penalty, _whole_gradient(model, G, x, shrinking)


def gradient(model: FeatureModel, loss: Loss, x: np.ndarray) -> np.ndarray:
    """The gradient of f at points x, in less time than with the value.

    Args, returns, raises: as of `value_and_gradient`.
    """
    G = logits(model, x)
    _check_loss(loss, x.shape[:-1])
    _differentiate(loss, G, classes(model), valued=False)
    return _whole_gradient(model, G, x, x * _decays(model))


def _whole_gradient(
    model: FeatureModel, G: np.ndarray, x: np.ndarray, shrinking: np.ndarray
) -> np.ndarray:
    """Add the data's part to `shrinking`, the gradient of weight decay, and return it.

    Args: G, of `_differentiate`, float64 (..., N, K).
    """
    W, H, _ = split(model, x)
    into_W, into_H, into_b = split(model, shrinking)
    into_W += (G.swapaxes(-1, -2) @ H) / model.N
    into_H += G @ (W / model.N)
    into_b += (np.full((1, model.N), 1 / model.N) @ G)[..., 0, :]
    return shrinking


def curvature_product(loss: Loss, Z: np.ndarray, own: np.ndarray, V: np.ndarray) -> np.ndarray:
    """Second derivative of each sample's loss in its logits, applied to V.

    Args: loss; Z, logits float64 (..., N, K); own, class of each sample, int (N,); V, float64
    (..., N, K). Returns: float64 of the broadcast shape of Z and V.
    """
    if loss.name == "mse":
        return V * (2 / Z.shape[-1])
    log_Q = Z - Z.max(-1, keepdims=True)
    log_Q -= np.log(np.exp(log_Q).sum(-1, keepdims=True))
    Q = np.exp(log_Q)
    centred = V - (Q * V).sum(-1, keepdims=True)
    if loss.name == "ls":
        return Q * centred
    rows = np.arange(len(own))
    gamma, log_p = _strength(loss, 1), log_Q[..., rows, own]
    p, rest = np.exp(log_p), -np.expm1(log_p)
    c = _focal_factor(log_p, rest, gamma)
    # dc = c'(p) dp with dp = p (v_k - q.v); where p is 1 to the last bit, so does not change, 0
    safe = np.where(rest > 0, rest, 1)
    slope = gamma * safe ** (gamma - 1) * (log_p + 2 - (gamma - 1) * p * log_p / safe)
    slope = np.where(rest > 0, slope, 0)
    moved = slope * p * centred[..., rows, own]
    product = -c[..., None] * Q * centred - moved[..., None] * Q
    product[..., rows, own] += moved
    return product


def hessian_product(model: FeatureModel, loss: Loss, x: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The Hessian of f at x applied to v, without forming it.

    Args: x, v, float64 (..., size) that broadcast. Returns: float64 of the broadcast shape. Raises:
    UsageError.
    """
    (W, H, _), (V, G, c) = split(model, x), split(model, v)
    _check_loss(loss, x.shape[:-1])
    as_one_shape(x=x, v=v)
    Z = logits(model, x)
    residual = data_loss(loss, Z, classes(model))[1] / model.N
    moved = H @ V.swapaxes(-1, -2) + G @ W.swapaxes(-1, -2) + c[..., None, :]
    S = curvature_product(loss, Z, classes(model), moved) / model.N
    return join(
        S.swapaxes(-1, -2) @ H + residual.swapaxes(-1, -2) @ G + model.lambda_W * V,
        S @ W + residual @ V + model.lambda_H * G,
        S.sum(-2) + model.lambda_b * c,
    )


def dense_hessian(model: FeatureModel, loss: Loss, x: np.ndarray) -> np.ndarray:
    """The whole Hessian of f at one point x (size,), for up to some thousand unknowns.

    Returns: symmetric float64 (size, size). Raises: UsageError.
    """
    check_point(model, x)
    whole = hessian_product(model, loss, x[None], np.eye(model.size))
    return (whole + whole.T) / 2
