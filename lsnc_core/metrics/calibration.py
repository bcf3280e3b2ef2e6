"""Calibration of class probabilities: ECE and its relatives, Brier score, likelihood, reliability
diagrams, temperature scaling.

Everything takes logits and labels; for probabilities give their logarithms. Computed in float64. A
bin holds the confidences in (lower, upper], the first one also 0; so a confidence of exactly 1 lies
in the last.
"""

import math
from dataclasses import dataclass

import torch

from lsnc_core.errors import UsageError

BINS = 15
FITTED_ON = ("held-out", "test")


def _check(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits as float64 (N, K) and labels as int64 (N,) on one device, or UsageError."""
    if (
        not isinstance(logits, torch.Tensor)
        or not logits.is_floating_point()
        or logits.ndim != 2
        or 0 in logits.shape
    ):
        got = (
            f"{logits.dtype} of shape {tuple(logits.shape)}"
            if isinstance(logits, torch.Tensor)
            else type(logits).__name__
        )
        raise UsageError(
            f"logits must be a floating-point tensor (N, K) of at least one sample, not {got}."
        )
    if (
        not isinstance(labels, torch.Tensor)
        or labels.is_floating_point()
        or labels.shape != logits.shape[:1]
    ):
        got = (
            f"{labels.dtype} of shape {tuple(labels.shape)}"
            if isinstance(labels, torch.Tensor)
            else type(labels).__name__
        )
        raise UsageError(
            f"labels must be an integer tensor of shape ({len(logits)},), one class number a sample, not {got}."
        )
    if logits.device.type == "mps":  # it has no float64
        logits = logits.cpu()
    logits, labels = logits.detach().double(), labels.detach().to(logits.device, torch.int64)
    K = logits.shape[1]
    wrong = (labels < 0) | (labels >= K)
    if wrong.any():
        raise UsageError(
            f"labels must lie in 0..{K - 1} for {K} classes, but one of them is {int(labels[wrong][0])}."
        )
    broken = (~logits.amax(1).isfinite()).nonzero()[
        :, 0
    ]  # amax passes NaN on; -inf is the logarithm of probability 0
    if len(broken):
        raise UsageError(
            f"the logits of sample {int(broken[0])} hold NaN or infinity: find out where the network makes them."
        )
    return logits, labels


def _check_bins(bins: int) -> int:
    if isinstance(bins, bool) or not isinstance(bins, int) or bins < 1:
        raise UsageError(f"bins must be a whole number of at least 1, not {bins!r}.")
    return bins


@dataclass(frozen=True, eq=False)
class Reliability:
    """A reliability diagram: per bin, its edges, how many samples, their mean confidence and their
    share of hits (NaN when empty).

    lower, upper: float64 (bins,); counts: int64 (bins,); confidence, accuracy: float64 (bins,).
    """

    lower: torch.Tensor
    upper: torch.Tensor
    counts: torch.Tensor
    confidence: torch.Tensor
    accuracy: torch.Tensor

    @property
    def gaps(self) -> torch.Tensor:
        """|accuracy - confidence| of each bin, float64 (bins,), 0 where a bin is empty."""
        return (self.accuracy - self.confidence).abs().nan_to_num(0.0)

    def expected_error(self) -> float:
        """Mean of the gaps, each bin weighing its share of the samples: ECE."""
        return float((self.counts * self.gaps).sum() / self.counts.sum())


def _binned(
    confidence: torch.Tensor,
    hit: torch.Tensor,
    lower: torch.Tensor,
    upper: torch.Tensor,
    bin_: torch.Tensor,
) -> Reliability:
    bins = len(lower)
    counts = torch.bincount(bin_, minlength=bins)
    total = [
        torch.zeros(bins, dtype=torch.float64, device=bin_.device).index_add_(0, bin_, x.double())
        for x in (confidence, hit)
    ]
    return Reliability(
        *(x.cpu() for x in (lower, upper, counts, total[0] / counts, total[1] / counts))
    )


def _equal_width(confidence: torch.Tensor, hit: torch.Tensor, bins: int) -> Reliability:
    edges = torch.arange(bins + 1, dtype=torch.float64, device=confidence.device) / bins
    return _binned(confidence, hit, edges[:-1], edges[1:], torch.bucketize(confidence, edges[1:-1]))


def _equal_mass(confidence: torch.Tensor, hit: torch.Tensor, bins: int) -> Reliability:
    """Bins of ranks, sizes differing by at most one; samples of equal confidence share their hits,
    so that their order is no matter.
    """
    values, group, sizes = confidence.unique(return_inverse=True, return_counts=True)
    hits = torch.zeros_like(values).index_add_(0, group, hit.double()) / sizes
    confidence, group = confidence[order := group.argsort()], group[order]
    N = len(confidence)
    bin_ = torch.arange(N, device=confidence.device) * min(bins, N) // N
    first = torch.searchsorted(bin_, torch.arange(min(bins, N), device=confidence.device))
    lower = confidence[first]
    upper = torch.cat([confidence[first[1:] - 1], confidence[-1:]])
    return _binned(confidence, hits[group], lower, upper, bin_)


def _confidence(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Confidence of the predicted class and whether it is the label's, (N,) each."""
    logits, labels = _check(logits, labels)
    confidence, prediction = logits.softmax(1).max(1)
    return confidence, prediction == labels


def reliability(
    logits: torch.Tensor, labels: torch.Tensor, bins: int = BINS, equal_mass: bool = False
) -> Reliability:
    """The data of a reliability diagram over the confidence of the predicted class.

    Args: logits, floating point (N, K); labels, integers (N,); bins, of equal width in [0, 1], or
    of equal numbers of samples (fewer bins where there are fewer samples). Returns: Reliability.
    Raises: UsageError. Source: Guo's reliability figure, 20 bins.

    >>> found = reliability(torch.tensor([[0.8, 0.2], [0.6, 0.4]]).log(), torch.tensor([0, 1]), bins=2)
    >>> found.counts.tolist(), round(float(found.confidence[1]), 6), float(found.accuracy[1])
    ([0, 2], 0.7, 0.5)
    """
    return (_equal_mass if equal_mass else _equal_width)(
        *_confidence(logits, labels), _check_bins(bins)
    )


def ece(logits: torch.Tensor, labels: torch.Tensor, bins: int = BINS) -> float:
    """Expected calibration error: sum over bins of equal width of (n_b/N) |accuracy_b -
    confidence_b|.

    Args: logits, floating point (N, K); labels, integers (N,); bins. Returns: float in [0, 1].
    Raises: UsageError.
    Source: Naeini et al. 2015; Guo et al. 2025 use 15 and, in figures, 20 bins.

    >>> round(ece(torch.tensor([[0.8, 0.2], [0.6, 0.4]]).log(), torch.tensor([0, 1]), bins=2), 6)  # |0.5 - 0.7|
    0.2
    """
    return reliability(logits, labels, bins).expected_error()


def mce(logits: torch.Tensor, labels: torch.Tensor, bins: int = BINS) -> float:
    """Maximum calibration error: the largest |accuracy_b - confidence_b| over bins of equal width.
    Args, raises: as `ece`.
    """
    return float(reliability(logits, labels, bins).gaps.max())


def adaptive_ece(logits: torch.Tensor, labels: torch.Tensor, bins: int = BINS) -> float:
    """ECE over bins of equal numbers of samples instead of equal width.

    Released codes take quantiles as edges and lose the smallest confidence, which lies in no bin
    (lower, upper]; here none is lost.
    Args, raises: as `ece`. Returns: float in [0, 1]. Source: Nguyen and O'Connor 2015; Guo's
    released code.
    """
    return reliability(logits, labels, bins, equal_mass=True).expected_error()


def classwise_ece(logits: torch.Tensor, labels: torch.Tensor, bins: int = BINS) -> float:
    """Mean over the classes k of the ECE of probability p_k against whether the label is k.

    Args, raises: as `ece`. Returns: float in [0, 1]. Source: Kull et al. 2019; Guo's released code.
    """
    logits, labels = _check(logits, labels)
    p, bins = logits.softmax(1), _check_bins(bins)
    return (
        sum(
            _equal_width(p[:, k].contiguous(), labels == k, bins).expected_error()
            for k in range(p.shape[1])
        )
        / p.shape[1]
    )


def brier(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Brier score: mean over samples of sum_k (p_k - [k = label])^2, in [0, 2]. Args, raises: as
    `ece`. Source: Brier 1950.

    >>> round(brier(torch.tensor([[0.8, 0.2]]).log(), torch.tensor([0])), 6)
    0.08
    """
    logits, labels = _check(logits, labels)
    p = logits.softmax(1)
    hit = p.gather(1, labels[:, None])[:, 0]  # (N,)
    return float((p.square().sum(1) - hit.square() + (1 - hit).square()).mean())


def nll(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Mean of -log p_label in nats, in [0, inf]. Args, raises: as `ece`.

    >>> round(nll(torch.tensor([[0.8, 0.2]]).log(), torch.tensor([0])), 4)
    0.2231
    """
    logits, labels = _check(logits, labels)
    return float(-logits.log_softmax(1).gather(1, labels[:, None]).mean())


def calibration_scores(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """All scores by name, those of `SCORES`. Args, raises: as `ece`."""
    return {name: score(logits, labels) for name, (score, _) in SCORES.items()}


SCORES = {
    "nll": (nll, "mean of -log p_label (nats)"),
    "brier": (brier, "mean of Σ_k (p_k - [k = label])²"),
    "ece_15": (ece, "Σ_b n_b/N |accuracy_b - confidence_b|, 15 bins of equal width"),
    "ece_20": (lambda logits, labels: ece(logits, labels, 20), "the same, 20 bins"),
    "adaptive_ece_15": (adaptive_ece, "the same, 15 bins of equal numbers of samples"),
    "classwise_ece_15": (
        classwise_ece,
        "mean over classes k of the ECE of p_k, 15 bins of equal width",
    ),
    "mce_15": (mce, "max over b of |accuracy_b - confidence_b|, 15 bins of equal width"),
}


@dataclass(frozen=True)
class Temperature:
    """A fitted temperature: value in [0, inf], what it minimises ("nll" or "ece"), and on which
    samples it was fitted.

    0 and inf are limits: no finite temperature is best when every sample is right, or when the
    logits say less than nothing.
    """

    value: float
    by: str
    fitted_on: str

    def scale(self, logits: torch.Tensor) -> torch.Tensor:
        """logits / T; in the limits, logits whose softmax is the one of the limit."""
        if self.value == 0:
            return torch.zeros_like(logits).masked_fill(
                logits < logits.amax(1, keepdim=True), -math.inf
            )
        return torch.zeros_like(logits) if self.value == math.inf else logits / self.value


def fit_temperature(
    logits: torch.Tensor,
    labels: torch.Tensor,
    *,
    by: str = "nll",
    fitted_on: str = "held-out",
    bins: int = 20,
) -> Temperature:
    """The temperature T for which softmax(logits / T) is best calibrated on these samples.

    by "nll": the minimum, to 1e-10, of the likelihood, convex in 1/T. by "ece": the best of the
    paper's grid, T = 0.1, 0.6, ... 9.6, refined by ten points within 0.5 and ten within 0.1 (only
    positive ones).
    Args: logits, floating point (N, K); labels, integers (N,); fitted_on, "held-out", or "test"
    where the samples are those whose calibration is reported afterwards, as in Guo's released code,
    which flatters it: the result carries the word; bins, of the ECE.
    Returns: Temperature. Raises: UsageError, also where all logits of each sample are equal, so
    that no T matters.
    Source: Guo, Pleiss et al. 2017 (nll); Guo et al. 2025, released code (ece, on the test set).

    >>> z = torch.tensor([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    >>> found = fit_temperature(z, torch.tensor([0, 0, 0, 0]))  # three of four right: softmax gives 3/4 at T = 2 / log 3
    >>> round(found.value * math.log(3), 8), found.fitted_on
    (2.0, 'held-out')
    """
    if by not in ("nll", "ece"):
        raise UsageError(f'a temperature is fitted by "nll" or by "ece", not by {by!r}.')
    if fitted_on not in FITTED_ON:
        raise UsageError(
            f'fitted_on must be "held-out" or "test", so that a result says where its temperature comes from, not {fitted_on!r}.'
        )
    logits, labels = _check(logits, labels)
    if (logits == logits[:, :1]).all():
        raise UsageError(
            "the logits of each sample are all equal: no temperature changes their probabilities."
        )
    return Temperature(
        _by_nll(logits, labels) if by == "nll" else _by_ece(logits, labels, bins), by, fitted_on
    )


def _by_nll(logits: torch.Tensor, labels: torch.Tensor) -> float:
    from scipy.optimize import brentq

    scale = float(logits[logits.isfinite()].abs().max())
    logits = (logits - logits.amax(1, keepdim=True)) / scale  # (N, K), in [-2, 0] or -inf
    own = logits.gather(1, labels[:, None])[:, 0]  # (N,)

    def slope(log_beta: float) -> float:
        """Derivative of the likelihood by beta = scale / T, which rises with beta."""
        p = (logits * math.exp(log_beta)).softmax(1)
        return float(((p * logits).nan_to_num(0.0).sum(1) - own).mean())

    low, high = -700.0, 0.0  # exp(-700): as good as infinite T
    if not own.any():
        return 0.0
    if slope(low) >= 0:
        return math.inf
    while slope(high) <= 0:
        high += 1
    return scale * math.exp(-brentq(slope, low, high, xtol=1e-12))


def _by_ece(logits: torch.Tensor, labels: torch.Tensor, bins: int) -> float:
    best, least = 1.0, math.inf
    for step, points in ((None, 20), (0.5, 10), (0.1, 10)):
        centre = best
        for number in range(points):
            T = (
                0.1 + 0.5 * number
                if step is None
                else centre - step + 2 * step * number / (points - 1)
            )
            if T > 0 and (error := ece(logits / T, labels, bins)) < least:
                best, least = T, error
    return best
