"""The unconstrained feature model (UFM) and its global minimisers in closed form.

Every sample has its own free feature vector h_ki (class k, sample i) under weight decay. With
classifier W and bias b

    f(W, H, b) = (1/N) sum_ki loss(W h_ki + b, k)
                 + lambda_W/2 ||W||^2 + lambda_H/2 ||H||^2 + lambda_b/2 ||b||^2.

    symbol     meaning                                           name in code
    K, n, N    classes, samples per class, N = n K               FeatureModel
    D          feature width; closed forms need D >= K - 1       FeatureModel.D (d in both papers)
    eps        sqrt(n lambda_W lambda_H)                         FeatureModel.eps
    a          margin: target logit minus any other logit        Minimiser.margin (Guo Theorem 1)
    p_t, p_o   softmax of the target and of every other class    Minimiser.p_on, Minimiser.p_off
    P          I - 1 1^t / K

At a minimiser h_ki = h_k, W W^t = s_W^2 P, W Hbar = a P and Hbar = sqrt(lambda_W/(n lambda_H)) W^t
with s_W^2 = a sqrt(n lambda_H/lambda_W) and s_H^2 = a sqrt(lambda_W/(n lambda_H)). One number is
left: with phi(a) the loss of a sample whose wrong logits are equal, a minimises
phi(a) + (K-1) eps a over a >= 0. Arrays are numpy float64.

Source: Guo Theorem 1; Zhou, theorem on global optimality.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from lsnc_core.errors import UsageError
from lsnc_core.labels import as_count, check_classes
from lsnc_core.theory.arguments import as_floats, as_one_shape, check_choice, check_kind

Floats: TypeAlias = float | np.ndarray  # a number, or a float64 array of them
LOSSES = {
    "ls": "the smoothing strength delta",
    "focal": "the focusing parameter gamma",
    "mse": "the target logit M",
}


@dataclass(frozen=True)
class FeatureModel:
    """Sizes and weight decays of an unconstrained feature model.

    K classes of n samples each, feature width D, weight decays of W, H and b.
    Raises: UsageError, for sizes that are not positive integers (K: at least 2) and for weight
    decays that are negative or not finite.
    """

    K: int
    n: int
    D: int
    lambda_W: float
    lambda_H: float
    lambda_b: float = 0.0

    def __post_init__(self) -> None:
        check_classes(self.K)
        if np.ndim(self.n):
            raise UsageError(
                "n must be one number of samples per class, because the model has balanced "
                f"classes, not {self.n!r}."
            )
        for name, size in (("n", self.n), ("D", self.D)):
            if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 1:
                raise UsageError(
                    f"{name} of the feature model must be an integer of at least 1, not {size!r}."
                )
        for name in ("lambda_W", "lambda_H", "lambda_b"):
            value = getattr(self, name)
            if (
                isinstance(value, bool)
                or not isinstance(value, (int, float, np.number))
                or not 0 <= value < np.inf
            ):
                raise UsageError(
                    f"The weight decay {name} must be a finite number of at least 0, not {value!r}."
                )

    @property
    def N(self) -> int:
        """Number of samples."""
        return self.K * self.n

    @property
    def eps(self) -> float:
        """sqrt(n lambda_W lambda_H): the cost of one unit of the logits' nuclear norm."""
        return float(np.sqrt(self.n * self.lambda_W * self.lambda_H))

    @property
    def size(self) -> int:
        """Number of unknowns, K D + N D + K."""
        return (self.K + self.N) * self.D + self.K


@dataclass(frozen=True, eq=False)
class Loss:
    """A loss and its parameter: "ls" (delta, 0 is cross-entropy), "focal" (gamma) or "mse" (M).

    M is the target logit. `strength` is a number or a float64 array, over which formulas broadcast.
    Raises: UsageError, for another name, delta outside [0, 1), gamma outside [0, 1e100] or M <= 0.
    """

    name: str
    strength: Floats

    def __post_init__(self) -> None:
        check_choice(self.name, LOSSES, "The loss")
        meaning = LOSSES[self.name]
        value = as_floats(self.strength, meaning)
        admitted = {
            "ls": ((value >= 0) & (value < 1), "in [0, 1)"),
            "focal": ((value >= 0) & (value <= 1e100), "in [0, 1e100]"),
            "mse": ((value > 0) & (value < np.inf), "finite and above 0"),
        }
        good, wanted = admitted[self.name]
        if not np.all(good):
            raise UsageError(f"{meaning} must be {wanted}, not {float(value[~good].flat[0])!r}.")
        object.__setattr__(self, "strength", value[()])


def check_one_strength(loss: Loss) -> None:
    """Refuse anything but a Loss with a single strength. Raises: UsageError."""
    check_kind(loss, Loss, "loss")
    if np.ndim(loss.strength):
        raise UsageError(f"The loss must have one strength here, not {loss.strength!r}.")


@dataclass(frozen=True, eq=False)
class Minimiser:
    """The properties that all global minimisers share, float64 of the strength's shape.

    margin: a >= 0; 0 is the zero solution. W_norm, h_norm: ||w_k|| and ||h_k||. s_W, s_H: singular
    values of W and Hbar. p_on, p_off: softmax of the target and of each other class. bias: the
    entry of b = bias 1. value: the least f, weight decay included.
    """

    margin: np.ndarray
    W_norm: np.ndarray
    h_norm: np.ndarray
    s_W: np.ndarray
    s_H: np.ndarray
    p_on: np.ndarray
    p_off: np.ndarray
    bias: np.ndarray
    value: np.ndarray


def _log_p(a: Floats, K: int) -> Floats:
    """log softmax of the target at margin a: -log(1 + (K-1) exp(-a))."""
    return -np.logaddexp(0, np.log(K - 1) - np.asarray(a))


def sample_loss(loss: Loss, a: Floats, K: int) -> Floats:
    """phi(a): loss of a sample whose target logit exceeds all others by a, logits of zero mean.

    Formula: p = 1/(1+(K-1)e^-a); ls: -log p + delta (K-1) a/K; focal: -(1-p)^gamma log p; mse, for
    bias 0: (1/K)[(M - (K-1)a/K)^2 + (K-1)(a/K)^2].
    Args: loss; a, float64 that broadcasts with the strength; K, int >= 2. Returns: float64 of the
    broadcast shape, in nats or squared logits.
    Source: Guo Theorem 1; Zhou, contrastive property and theorem on global optimality, with
    t = -(K-1) a.

    >>> round(float(sample_loss(Loss("ls", 0.1), np.log(9), 10)), 4)  # log 2 + .09 log 9
    0.8909
    """
    a, log_p = np.asarray(a), _log_p(a, K)
    if loss.name == "ls":
        return -log_p + loss.strength * (K - 1) / K * a
    if loss.name == "focal":
        return -((-np.expm1(log_p)) ** loss.strength) * log_p
    return ((loss.strength - (K - 1) * a / K) ** 2 + (K - 1) * (a / K) ** 2) / K


def margin(delta: Floats, eps: Floats, K: int) -> Floats:
    """Margin of the minimiser under label smoothing.

    Formula: a = max(0, log(K / (delta + K eps) - K + 1)), which is 0 where delta + K eps >= 1. At
    eps = 0 it is the limit of vanishing weight decay, log(K/delta - K + 1), infinite for delta = 0.
    Args: delta, float or float64 array in [0, 1); eps, likewise, >= 0; K, int >= 2. Returns:
    float64 of the broadcast shape in [0, inf]. Raises: UsageError.
    Source: Guo Theorem 1.

    >>> [round(float(margin(delta, 0, 10)), 4) for delta in (0.01, 0.05, 0.1, 0.2)]
    [6.8987, 5.2523, 4.5109, 3.7136]
    """
    K, delta = check_classes(K), Loss("ls", delta).strength
    eps = as_floats(eps, "eps")
    if not np.all(eps >= 0):
        raise UsageError(f"eps must be at least 0, not {float(eps[~(eps >= 0)].flat[0])!r}.")
    delta, eps = as_one_shape(delta=np.asarray(delta), eps=eps)
    with np.errstate(divide="ignore"):
        # K/c - K + 1 = 1 + K (1-c)/c: exact near the threshold c = 1
        c = delta + K * eps
        return np.log1p(K * np.maximum(1 - c, 0) / c)[()]


def focal_convex_from(gamma: Floats) -> Floats:
    """p*(gamma): the focal loss is convex in the logits exactly where softmax of the target >= p*.

    p* is the same for every K, and the slope of the loss in the margin, |dphi/da|, is greatest
    there. Formula: the root p of (1-p)(1+2 gamma) + gamma log p (1 - (1+gamma) p) = 0, that is
    f'' p (1-p) + f' (1-2p) = 0 with f = -(1-p)^gamma log p; 0 for gamma = 0.
    Args: gamma, float or float64 array >= 0. Returns: float64 of its shape in [0, .0585). Raises:
    UsageError.
    Source: derived here. Zhou's theorem on focal loss is of this kind; we do not know its constant.

    >>> [round(float(focal_convex_from(gamma)), 4) for gamma in (1, 2, 3, 5)]
    [0.0432, 0.0578, 0.0575, 0.0502]
    """
    from scipy.optimize import elementwise

    gamma = np.asarray(Loss("focal", gamma).strength)
    g = np.where(gamma > 0, gamma, 1.0)
    # In log p the sign changes once between these.
    low, high = -2 * (1 + 2 * g) / g - np.log1p(g), -np.log1p(g)

    def curvature(log_p: np.ndarray, g: np.ndarray) -> np.ndarray:
        p = np.exp(log_p)
        return -(1 - p) * (1 + 2 * g) - g * log_p * (1 - (1 + g) * p)

    log_p = elementwise.find_root(curvature, (low, high), args=(g,)).x
    return np.where(gamma > 0, np.exp(log_p), 0.0)[()]


def focal_slope(a: Floats, gamma: Floats, K: int) -> Floats:
    """Slope of the focal loss in the margin: -dphi/da = (1-p)^gamma (1 - p - gamma p log p).

    Args: a, gamma, float or float64 arrays that broadcast; K, int >= 2. Returns: float64 of the
    broadcast shape, >= 0.
    """
    log_p = _log_p(a, K)
    rest = -np.expm1(log_p)
    return rest**gamma * (rest - gamma * np.exp(log_p) * log_p)


def steepest_focal_margin(gamma: Floats, K: int) -> Floats:
    """The margin, 0 or more, beyond which phi(a) of the focal loss is convex; focal_slope falls.

    Formula: p = 1/(1+(K-1)e^-a) = max(p*, 1/K), p* = focal_convex_from(gamma).
    Args: gamma, float or float64 array >= 0; K, int >= 2. Returns: float64 of gamma's shape.
    """
    p = np.maximum(focal_convex_from(gamma), 1 / K)
    return np.log(p * (K - 1) / (1 - p))


def focal_far_margin(gamma: Floats, eps: Floats, K: int) -> Floats:
    """The local minimum of phi(a) + (K-1) eps a in the convex region; NaN where there is none.

    Formula: the root of (1-p)^gamma (1 - p - gamma p log p) = (K-1) eps with p = 1/(1+(K-1)e^-a) >=
    max(p*, 1/K), p* = focal_convex_from(gamma), to the last bits.
    Args: gamma, eps, float or float64 arrays, >= 0 and > 0; K, int >= 2. Returns: float64 of the
    broadcast shape. Source: Zhou, theorem on global optimality.
    """
    from scipy.optimize import elementwise

    gamma, eps = np.broadcast_arrays(np.asarray(gamma, float), np.asarray(eps, float))
    low = steepest_focal_margin(gamma, K)
    # slope <= (1+gamma) (1-p)^(1+gamma) and 1-p <= (K-1) e^-a
    high = np.maximum(low, np.log(K - 1) + np.log((1 + gamma) / (eps * (K - 1))) / (1 + gamma)) + 1

    def excess(a: Floats, gamma: Floats, eps: Floats) -> Floats:
        return focal_slope(a, gamma, K) - (K - 1) * eps

    far = elementwise.find_root(excess, (low, high), args=(gamma, eps)).x
    return np.where(excess(low, gamma, eps) > 0, far, np.nan)[()]


def _focal_margin(gamma: np.ndarray, eps: float, K: int) -> np.ndarray:
    """The better of the margin 0 and the far local minimum."""
    far = np.nan_to_num(focal_far_margin(gamma, eps, K), nan=0.0)
    loss = Loss("focal", gamma)
    lower = sample_loss(loss, far, K) + (K - 1) * eps * far < sample_loss(loss, 0.0, K)
    return np.where(lower, far, 0.0)


def _check_width(model: FeatureModel) -> None:
    """Raise UsageError unless a simplex ETF fits: D >= K - 1."""
    if model.D < model.K - 1:
        raise UsageError(
            f"The closed forms need a feature width D of at least K - 1 = {model.K - 1}, not "
            f"{model.D}; ufm_dynamics.minimise finds a numerical solution."
        )


def check_closed_form(model: FeatureModel) -> None:
    """Raise UsageError unless the closed forms hold: D >= K - 1, weight decays of W and H > 0."""
    check_kind(model, FeatureModel, "model")
    _check_width(model)
    if not model.eps > 0:
        raise UsageError(
            "Without weight decay of W and H there is no minimiser, and lambda_W is "
            f"{model.lambda_W!r}, lambda_H {model.lambda_H!r}; ufm.margin(delta, 0, K) is the "
            "limit."
        )


def minimiser(model: FeatureModel, loss: Loss) -> Minimiser:
    """The global minimisers of f, unique up to a rotation of the feature space.

    For ls and focal with lambda_b = 0, b is also free up to a multiple of 1.
    Formula: ls a = log(K/(delta + K eps) - K + 1), 0 where delta + K eps >= 1; focal a = argmin of
    phi(a) + (K-1) eps a in one dimension; mse a = max(0, M - K^2 eps/2) and b = 2M/(K (2 + K
    lambda_b)) 1. ||w_k||^2 = (K-1)/K s_W^2, ||h_k||^2 = (K-1)/K s_H^2. value = phi(a) +
    (K-1) eps a; for mse the residuals and the weight decay of b enter too.
    Args: model, with D >= K-1 and weight decays > 0; loss, of any strength's shape. Returns:
    Minimiser.
    Raises: UsageError, also for mse where a large lambda_b makes a mean feature cheaper than the
    bias (lambda_b bias > eps).
    Source: Guo Theorem 1; Zhou, theorem on global optimality, and earlier work for mse (mean over
    the classes).

    >>> code = FeatureModel(K=10, n=5000, D=512, lambda_W=1e-3, lambda_H=1e-6)
    >>> at = minimiser(code, Loss("ls", np.array([0, 0.05, 0.1])))
    >>> at.W_norm.round(4).tolist(), at.h_norm.round(4).tolist()
    ([3.4987, 3.1278, 2.9371], [1.5647, 1.3988, 1.3135])
    """
    check_closed_form(model)
    check_kind(loss, Loss, "loss")
    K, eps = model.K, model.eps
    strength = np.asarray(loss.strength)
    bias = np.zeros_like(strength)
    a: Floats
    if loss.name == "mse":
        a = np.maximum(0.0, strength - K**2 * eps / 2)
        bias = 2 * strength / (K * (2 + K * model.lambda_b))
        _check_mse_bias(model, bias)
        # W Hbar + b 1^t - M I = (a - M) P + (K bias - M) 1 1^t/K
        residuals = (K - 1) * (a - strength) ** 2 + (K * bias - strength) ** 2
        value = residuals / K**2 + model.lambda_b / 2 * K * bias**2
    else:
        a = margin(strength, eps, K) if loss.name == "ls" else _focal_margin(strength, eps, K)
        value = sample_loss(loss, a, K)
    ratio = np.sqrt(model.n * model.lambda_H / model.lambda_W)
    s_W, s_H, share = np.sqrt(a * ratio), np.sqrt(a / ratio), np.sqrt((K - 1) / K)
    p_off = 1 / (np.exp(a) + K - 1)
    fields = {
        "margin": a,
        "W_norm": share * s_W,
        "h_norm": share * s_H,
        "s_W": s_W,
        "s_H": s_H,
        "p_on": 1 - (K - 1) * p_off,
        "p_off": p_off,
        "bias": bias,
        "value": value + (K - 1) * eps * a,
    }
    return Minimiser(**{name: np.asarray(field)[()] for name, field in fields.items()})


def _check_mse_bias(model: FeatureModel, bias: np.ndarray) -> None:
    if np.any(model.lambda_b * bias > model.eps):
        raise UsageError(
            "The closed form for mse needs lambda_b times the bias to be at most eps = "
            f"{model.eps:.4g}, and lambda_b is {model.lambda_b!r}; lower it or use "
            "ufm_dynamics.minimise."
        )


def centred_basis(K: int) -> np.ndarray:
    """Helmert's orthonormal basis of the vectors of K entries with sum 0.

    Returns: Q, float64 (K, K-1), Q Q^t = P, Q^t Q = I.
    """
    Q = np.zeros((K, K - 1))
    for j in range(1, K):
        Q[:j, j - 1], Q[j, j - 1] = 1, -j
        Q[:, j - 1] /= np.sqrt(j * (j + 1))
    return Q


def simplex_etf(model: FeatureModel, seed: int | None = None) -> np.ndarray:
    """U with U U^t = P, whose rows are the directions of W's rows: a simplex ETF.

    It lies in the first K-1 coordinates, or is rotated at random by a seed.
    Args: model, with D >= K-1; seed, int or None. Returns: float64 (K, D). Raises: UsageError.
    """
    check_kind(model, FeatureModel, "model")
    _check_width(model)
    axes = np.eye(model.K - 1, model.D)  # (K-1, D)
    if seed is not None:
        draw = np.random.default_rng(as_count(seed, "The seed")).standard_normal(
            (model.D, model.K - 1)
        )
        axes = np.linalg.qr(draw)[0].T
    return centred_basis(model.K) @ axes


def construct(model: FeatureModel, loss: Loss, seed: int | None = None) -> np.ndarray:
    """A global minimiser written out: W = s_W U, h_ki = (s_H/s_W) w_k, b = bias 1.

    Args: model; loss, of one strength; seed, None or that of a random rotation. Returns: the vector
    of unknowns, float64 (size,), see ufm_objective.split. Raises: UsageError.
    Source: Guo Theorem 1; Zhou, theorem on global optimality.

    >>> model = FeatureModel(K=2, n=1, D=1, lambda_W=0.05, lambda_H=0.05)
    >>> point = construct(model, Loss("ls", 0.1))  # a = log(2/.2 - 1), w = h = +-sqrt(a/2), b = 0
    >>> point.round(4).tolist()
    [1.0481, -1.0481, 1.0481, -1.0481, 0.0, 0.0]
    """
    at = minimiser(model, loss)
    check_one_strength(loss)
    U = simplex_etf(model, seed)
    features = np.repeat(at.s_H * U, model.n, axis=0)  # (K, D) -> (N, D)
    bias = np.full(model.K, float(at.bias))
    return np.concatenate([(at.s_W * U).ravel(), features.ravel(), bias])
