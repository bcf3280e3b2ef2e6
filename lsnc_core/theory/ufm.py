"""The unconstrained feature model (UFM): free features under weight decay, and its global
minimisers in closed form.

Every sample has its own free feature vector h_ki (class k, sample i), and with classifier W and
bias b

    f(W, H, b) = (1/N) sum_ki loss(W h_ki + b, k) + lambda_W/2 ||W||^2 + lambda_H/2 ||H||^2 +
    lambda_b/2 ||b||^2.

    symbol        meaning                                            here                     source
    K, n, N       classes, samples a class, N = n K                  FeatureModel             Guo, Zhou: setting
    D             feature width; the closed forms need D >= K - 1    FeatureModel.D           Guo, Zhou: d
    eps           sqrt(n lambda_W lambda_H)                          FeatureModel.eps
    a             margin: target logit minus any other logit         Minimiser.margin         Guo Theorem 1
    p_t, p_o      softmax of the target and of every other class     Minimiser.p_on, p_off
    P             I - 1 1^t / K

At a minimiser h_ki = h_k, W W^t = s_W^2 P, W Hbar = a P and Hbar = sqrt(lambda_W / (n lambda_H))
W^t with s_W^2 = a sqrt(n lambda_H / lambda_W), s_H^2 = a sqrt(lambda_W / (n lambda_H)). So one
number, a, is left: with phi(a) the loss of a sample whose wrong logits are equal, a minimises
phi(a) + (K-1) eps a over a >= 0. Arrays are numpy float64.
"""

from dataclasses import dataclass

import numpy as np

from lsnc_core.errors import UsageError
from lsnc_core.labels import check_classes

LOSSES = {
    "ls": "the smoothing strength delta",
    "focal": "the focusing parameter gamma",
    "mse": "the target logit M",
}


@dataclass(frozen=True)
class FeatureModel:
    """Sizes and decays of an unconstrained feature model: K classes of n samples each, width D,
    decays of W, H and b.

    Raises: UsageError, for sizes that are not positive integers (K: at least 2) and for negative or
    infinite decays.
    """

    K: int
    n: int
    D: int
    lambda_W: float
    lambda_H: float
    lambda_b: float = 0.0

    def __post_init__(self):
        check_classes(self.K)
        if np.ndim(self.n):
            raise UsageError(
                f"n must be one number of samples a class, for the model has balanced classes, not {self.n!r}."
            )
        for name, value in (("n", self.n), ("D", self.D)):
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
                raise UsageError(
                    f"{name} of the feature model must be an integer of at least 1, not {value!r}."
                )
        for name in ("lambda_W", "lambda_H", "lambda_b"):
            value = getattr(self, name)
            if (
                isinstance(value, bool)
                or not isinstance(value, (int, float, np.number))
                or not 0 <= value < np.inf
            ):
                raise UsageError(
                    f"The decay {name} must be a finite number of at least 0, not {value!r}."
                )

    @property
    def N(self) -> int:
        """Number of samples."""
        return self.K * self.n

    @property
    def eps(self) -> float:
        """sqrt(n lambda_W lambda_H): what a unit of the logits' nuclear norm costs."""
        return float(np.sqrt(self.n * self.lambda_W * self.lambda_H))

    @property
    def size(self) -> int:
        """Number of unknowns, K D + N D + K."""
        return (self.K + self.N) * self.D + self.K


@dataclass(frozen=True, eq=False)
class Loss:
    """A loss and its parameter: "ls" (delta, 0 is cross-entropy), "focal" (gamma) or "mse" (target
    logit M).

    `strength` is a number or a float64 array; formulas then broadcast over it.
    Raises: UsageError, for another name, delta outside [0, 1), gamma < 0 or M <= 0.
    """

    name: str
    strength: float | np.ndarray

    def __post_init__(self):
        if self.name not in LOSSES:
            raise UsageError(f"The loss must be one of {', '.join(LOSSES)}, not {self.name!r}.")
        try:
            value = np.asarray(self.strength, dtype=np.float64)
        except (TypeError, ValueError):
            raise UsageError(
                f"{LOSSES[self.name]} must be a real number or an array of them, not {self.strength!r}."
            ) from None
        good = {
            "ls": (value >= 0) & (value < 1),
            "focal": (value >= 0) & (value < np.inf),
            "mse": (value > 0) & (value < np.inf),
        }[self.name]
        if not np.all(good):
            wanted = {
                "ls": "in [0, 1)",
                "focal": "finite and at least 0",
                "mse": "finite and above 0",
            }[self.name]
            raise UsageError(
                f"{LOSSES[self.name]} must be {wanted}, not {float(value[~good].flat[0])!r}."
            )
        object.__setattr__(self, "strength", value[()])


@dataclass(frozen=True, eq=False)
class Minimiser:
    """What a global minimiser has, whatever its rotation; float64 of the strength's shape.

    margin a >= 0 (0: the zero solution); W_norm = ||w_k||, h_norm = ||h_k||; s_W, s_H, the singular
    values of W and Hbar; p_on, p_off, softmax of the target and of each other class; bias, the
    entry of b = bias 1; value, the least f, decays included.
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


def _log_p(a, K: int):
    """log softmax of the target at margin a; -log(1 + (K-1) exp(-a))."""
    return -np.log1p((K - 1) * np.exp(-a))


def sample_loss(loss: Loss, a, K: int):
    """phi(a): loss of a sample whose target logit exceeds all others by a, logits of zero mean.

    Formula: p = 1/(1+(K-1)e^-a); ls: -log p + delta (K-1) a/K; focal: -(1-p)^gamma log p; mse:
    (1/K)[(M - (K-1)a/K)^2 + (K-1)(a/K)^2] for
    a bias of 0. Args: a, float64 that broadcasts with the strength; K, int >= 2. Returns: float64,
    nats or squared logits.
    Source: Guo Theorem 1, Zhou Theorem A and contrastive property, t = -(K-1) a.

    >>> round(float(sample_loss(Loss("ls", 0.1), np.log(9), 10)), 4)  # log 2 + .09 log 9
    0.8909
    """
    log_p = _log_p(a, K)
    if loss.name == "ls":
        return -log_p + loss.strength * (K - 1) / K * a
    if loss.name == "focal":
        return -((-np.expm1(log_p)) ** loss.strength) * log_p
    return ((loss.strength - (K - 1) * a / K) ** 2 + (K - 1) * (a / K) ** 2) / K


def margin(delta, eps, K: int):
    """Margin of the minimiser under label smoothing.

    Formula: a = max(0, log(K / (delta + K eps) - K + 1)); 0 from the threshold delta + K eps = 1
    on. eps = 0 is the limit of vanishing
    decay: log(K/delta - K + 1), infinite for delta = 0.
    Args: delta, float or float64 array in [0, 1); eps, likewise, >= 0; K, int >= 2. Returns:
    float64 of the broadcast shape in [0, inf].
    Raises: UsageError. Source: Guo Theorem 1.

    >>> [round(float(margin(delta, 0, 10)), 4) for delta in (0.01, 0.05, 0.1, 0.2)]
    [6.8987, 5.2523, 4.5109, 3.7136]
    """
    K, delta, eps = check_classes(K), Loss("ls", delta).strength, np.asarray(eps, dtype=np.float64)
    if not np.all(eps >= 0):
        raise UsageError(f"eps must be at least 0, not {float(eps[~(eps >= 0)].flat[0])!r}.")
    with np.errstate(divide="ignore"):
        # K/c - K + 1 = 1 + K (1-c)/c: exact near the threshold c = 1
        c = delta + K * eps
        return np.log1p(K * np.maximum(1 - c, 0) / c)[()]


def focal_convex_from(gamma):
    """p*(gamma): the focal loss is convex in the logits exactly where softmax of the target is at
    least this, for every K.

    Formula: root p of (1-p)(1+2 gamma) + gamma log p (1 - (1+gamma) p) = 0, that is f'' p (1-p) +
    f' (1-2p) = 0 with f = -(1-p)^gamma log p; 0 for gamma = 0. The loss's slope in the margin,
    |dphi/da|, is greatest there.
    Args: gamma, float or float64 array >= 0. Returns: float64 of its shape in [0, .0585). Raises:
    UsageError.
    Source: derived; Zhou's theorem on focal loss is of this kind, its constant is not known to us.

    >>> [round(float(focal_convex_from(gamma)), 4) for gamma in (1, 2, 3, 5)]
    [0.0432, 0.0578, 0.0575, 0.0502]
    """
    gamma = np.asarray(Loss("focal", gamma).strength)
    g = np.where(gamma > 0, gamma, 1.0)
    low, high = (
        -2 * (1 + 2 * g) / g - np.log1p(g),
        -np.log1p(g),
    )  # in log p: the sign changes once between these

    def falling(log_p):
        p = np.exp(log_p)
        return -(1 - p) * (1 + 2 * g) - g * log_p * (1 - (1 + g) * p)

    return np.where(gamma > 0, np.exp(_bisect(falling, low, high)), 0.0)[()]


def _bisect(f, low, high):
    """Where f, positive at low and not at high, changes sign; element by element, to the last
    bits.
    """
    for _ in range(70):
        middle = 0.5 * (low + high)
        positive = f(middle) > 0
        low, high = np.where(positive, middle, low), np.where(positive, high, middle)
    return 0.5 * (low + high)


def _focal_slope(a, gamma, K: int):
    """-dphi/da = (1-p)^gamma (1 - p - gamma p log p)."""
    log_p = _log_p(a, K)
    rest = -np.expm1(log_p)
    return rest**gamma * (rest - gamma * np.exp(log_p) * log_p)


def focal_far_margin(gamma, eps, K: int):
    """The margin beyond focal_convex_from at which phi(a) + (K-1) eps a has a local minimum, NaN
    where there is none.

    Formula: the root of (1-p)^gamma (1 - p - gamma p log p) = (K-1) eps with p = 1/(1+(K-1)e^-a) >=
    max(p*, 1/K), to the last bits.
    Args: gamma, eps, float or float64 arrays, >= 0 and > 0; K, int >= 2. Returns: float64 of the
    broadcast shape. Source: Zhou Theorem A.
    """
    gamma, eps = np.broadcast_arrays(
        np.asarray(gamma, dtype=np.float64), np.asarray(eps, dtype=np.float64)
    )
    p = np.maximum(focal_convex_from(gamma), 1 / K)
    low = np.log(p * (K - 1) / (1 - p))
    # slope <= (1+gamma) (1-p)^(1+gamma) and 1-p <= (K-1) e^-a
    high = np.maximum(low, np.log(K - 1) + np.log((1 + gamma) / (eps * (K - 1))) / (1 + gamma)) + 1
    found = _bisect(lambda a: _focal_slope(a, gamma, K) - (K - 1) * eps, low, high)
    return np.where(_focal_slope(low, gamma, K) > (K - 1) * eps, found, np.nan)[()]


def _focal_margin(gamma, eps, K: int):
    far = np.nan_to_num(focal_far_margin(gamma, eps, K), nan=0.0)
    loss = Loss("focal", gamma)
    lower = sample_loss(loss, far, K) + (K - 1) * eps * far < sample_loss(loss, 0.0, K)
    return np.where(lower, far, 0.0)


def check_closed_form(model: FeatureModel) -> None:
    """Raise UsageError unless the closed forms hold: D >= K - 1 and decays of W and H above 0."""
    if model.D < model.K - 1:
        raise UsageError(
            f"The closed forms need a feature width D of at least K - 1 = {model.K - 1}, not {model.D}; "
            "ufm_dynamics.minimise finds a numerical solution."
        )
    if not model.eps > 0:
        raise UsageError(
            f"Without decay of W and H there is no minimiser, and lambda_W is {model.lambda_W!r}, lambda_H {model.lambda_H!r}; "
            "ufm.margin(delta, 0, K) is the limit."
        )


def minimiser(model: FeatureModel, loss: Loss) -> Minimiser:
    """The global minimisers of f, unique up to a rotation of the feature space (and, where lambda_b
    = 0, a shift of b for ls and focal).

    Formula: ls a = log(K/(delta + K eps) - K + 1), 0 from delta + K eps = 1 on; focal a = argmin
    phi(a) + (K-1) eps a in one dimension; mse a = max(0, M - K^2 eps/2) and b = 2M/(K (2 + K
    lambda_b)) 1. ||w_k||^2 = (K-1)/K s_W^2, ||h_k||^2 = (K-1)/K s_H^2. value = phi(a) + (K-1) eps a
    (mse: residuals and decay of b added).
    Args: model, with D >= K-1 and decays > 0; loss, of any strength's shape. Returns: Minimiser.
    Raises: UsageError, also for mse where a large lambda_b makes a mean feature cheaper than the
    bias (lambda_b bias > eps).
    Source: Guo Theorem 1; Zhou Theorem A and earlier work for mse (mean over the classes).

    >>> code = FeatureModel(K=10, n=5000, D=512, lambda_W=1e-3, lambda_H=1e-6)
    >>> found = minimiser(code, Loss("ls", np.array([0, 0.05, 0.1])))
    >>> found.W_norm.round(4).tolist(), found.h_norm.round(4).tolist()
    ([3.4987, 3.1278, 2.9371], [1.5647, 1.3988, 1.3135])
    """
    check_closed_form(model)
    K, eps = model.K, model.eps
    strength = np.asarray(loss.strength)
    bias = np.zeros_like(strength)
    if loss.name == "ls":
        a = margin(strength, eps, K)
    elif loss.name == "focal":
        a = _focal_margin(strength, eps, K)
    else:
        a = np.maximum(0.0, strength - K**2 * eps / 2)
        bias = 2 * strength / (K * (2 + K * model.lambda_b))
        if np.any(model.lambda_b * bias > eps):
            raise UsageError(
                f"The closed form for mse needs lambda_b times the bias to be at most eps = {eps:.4g}, and lambda_b is {model.lambda_b!r}; "
                "lower it or take ufm_dynamics.minimise."
            )
    if loss.name == "mse":
        # W Hbar + b 1^t - M I = (a - M) P + (K bias - M) 1 1^t/K
        value = (
            (K - 1) * (a - strength) ** 2 + (K * bias - strength) ** 2
        ) / K**2 + model.lambda_b / 2 * K * bias**2
    else:
        value = sample_loss(loss, a, K)
    ratio = np.sqrt(model.n * model.lambda_H / model.lambda_W)
    s_W, s_H, share = np.sqrt(a * ratio), np.sqrt(a / ratio), np.sqrt((K - 1) / K)
    p_off = 1 / (np.exp(a) + K - 1)
    parts = (
        a,
        share * s_W,
        share * s_H,
        s_W,
        s_H,
        1 - (K - 1) * p_off,
        p_off,
        bias,
        value + (K - 1) * eps * a,
    )
    return Minimiser(*(np.asarray(part)[()] for part in parts))


def centred_basis(K: int) -> np.ndarray:
    """Orthonormal columns that span the vectors of K entries with sum 0 (Helmert's): float64 (K,
    K-1), Q Q^t = P, Q^t Q = I.
    """
    Q = np.zeros((K, K - 1))
    for j in range(1, K):
        Q[:j, j - 1], Q[j, j - 1] = 1, -j
        Q[:, j - 1] /= np.sqrt(j * (j + 1))
    return Q


def frame(model: FeatureModel, seed: int | None = None) -> np.ndarray:
    """U with U U^t = P, the directions of W's rows: a simplex, in the first K-1 coordinates or
    turned at random by a seed.

    Args: model, with D >= K-1; seed, int or None. Returns: float64 (K, D). Raises: UsageError.
    """
    check_closed_form(model)
    turned = np.eye(model.K - 1, model.D)  # (K-1, D)
    if seed is not None:
        turned = np.linalg.qr(np.random.default_rng(seed).standard_normal((model.D, model.K - 1)))[
            0
        ].T
    return centred_basis(model.K) @ turned


def construct(model: FeatureModel, loss: Loss, seed: int | None = None) -> np.ndarray:
    """A global minimiser written out: W = s_W U, h_ki = (s_H/s_W) w_k, b = bias 1, as one vector of
    unknowns.

    Args: model; loss, of one strength; seed, None or that of a random rotation. Returns: float64
    (size,), see ufm_objective.split.
    Raises: UsageError. Source: Guo Theorem 1, Zhou Theorem A.

    >>> model = FeatureModel(K=2, n=1, D=1, lambda_W=0.05, lambda_H=0.05)
    >>> construct(model, Loss("ls", 0.1)).round(4).tolist()  # a = log(2/.2 - 1): w = h = +-sqrt(a/2), b = 0
    [1.0481, -1.0481, 1.0481, -1.0481, 0.0, 0.0]
    """
    found = minimiser(model, loss)
    U = frame(model, seed)
    features = np.repeat(found.s_H * U, model.n, axis=0)  # (K, D) -> (N, D)
    return np.concatenate(
        [(found.s_W * U).ravel(), features.ravel(), np.full(model.K, float(found.bias))]
    )
