"""Calibration of class probabilities: scores, reliability diagrams and temperature scaling.

Every function takes logits and labels; for probabilities pass their logarithms. What looks like
probabilities is used as it is, with a warning. A logit of -inf gives its class probability 0. All
computations are float64. A bin holds the confidences in (lower, upper], the first one also 0, so a
confidence of exactly 1 lies in the last bin.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from lsnc_core.errors import UsageError
from lsnc_core.metrics.predictions import Predictions, check_logits
from lsnc_core.metrics.selective import augrc_of, aurc_of

BINS = 15
FITTED_ON = ("held-out", "test")


MOST_BINS = 1_000_000


def _check_bins(bins: int) -> int:
    whole = isinstance(bins, int | np.integer) and not isinstance(bins, bool)
    if not whole or not 1 <= bins <= MOST_BINS:
        raise UsageError(f"bins must be a whole number from 1 to {MOST_BINS:,}, not {bins!r}.")
    return int(bins)


@dataclass(frozen=True, eq=False)
class Reliability:
    """A reliability diagram: edges, number of samples, mean confidence and accuracy of each bin.

    lower, upper: float64 (bins,); counts: int64 (bins,); confidence, accuracy: float64 (bins,), NaN
    where a bin is empty.
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
        """ECE: the mean of the gaps, each bin weighted by its share of the samples."""
        return float((self.counts * self.gaps).sum() / self.counts.sum())


def _binned(
    confidence: torch.Tensor,
    hit: torch.Tensor,
    lower: torch.Tensor,
    upper: torch.Tensor,
    index: torch.Tensor,
) -> Reliability:
    """Average confidence and hits over the samples of each bin; index, the bin of each, (N,)."""
    counts = torch.bincount(index, minlength=len(lower))
    zeros = torch.zeros(len(lower), dtype=torch.float64, device=index.device)
    mean_confidence = zeros.index_add(0, index, confidence.double()) / counts
    accuracy = zeros.index_add(0, index, hit.double()) / counts
    return Reliability(
        lower.cpu(), upper.cpu(), counts.cpu(), mean_confidence.cpu(), accuracy.cpu()
    )


def _equal_width(confidence: torch.Tensor, hit: torch.Tensor, bins: int) -> Reliability:
    edges = torch.arange(bins + 1, dtype=torch.float64, device=confidence.device) / bins
    return _binned(confidence, hit, edges[:-1], edges[1:], torch.bucketize(confidence, edges[1:-1]))


def _equal_mass(confidence: torch.Tensor, hit: torch.Tensor, bins: int) -> Reliability:
    """Bins of consecutive ranks whose sizes differ by at most one.

    Samples of equal confidence share their hits, so the order of the samples does not matter.
    """
    values, group, sizes = confidence.unique(return_inverse=True, return_counts=True)
    hits = torch.zeros_like(values).index_add_(0, group, hit.double()) / sizes
    order = group.argsort()
    confidence, group = confidence[order], group[order]
    N, bins = len(confidence), min(bins, len(confidence))
    index = torch.arange(N, device=confidence.device) * bins // N
    first = torch.searchsorted(index, torch.arange(bins, device=confidence.device))
    lower = confidence[first]
    upper = torch.cat([confidence[first[1:] - 1], confidence[-1:]])
    return _binned(confidence, hits[group], lower, upper, index)


def reliability(
    logits: torch.Tensor, labels: torch.Tensor, bins: int = BINS, equal_mass: bool = False
) -> Reliability:
    """A reliability diagram over the confidence of the predicted class.

    Args: logits, floating point (N, K); labels, integers (N,); bins, their number;
    equal_mass, whether bins hold equal numbers of samples (then at most N bins) or have equal width
    in [0, 1]. Returns: Reliability. Raises: UsageError. Source: Guo's reliability figure, 20 bins.

    >>> logits, labels = torch.tensor([[0.8, 0.2], [0.6, 0.4]]).log(), torch.tensor([0, 1])
    >>> diagram = reliability(logits, labels, bins=2)
    >>> diagram.counts.tolist(), round(float(diagram.confidence[1]), 6), float(diagram.accuracy[1])
    ([0, 2], 0.7, 0.5)
    """
    bins = _check_bins(bins)
    return _reliability(Predictions.checked(logits, labels), bins, equal_mass)


def _reliability(predictions: Predictions, bins: int, equal_mass: bool = False) -> Reliability:
    split = _equal_mass if equal_mass else _equal_width
    return split(predictions.confidence, predictions.hit, bins)


def ece(logits: torch.Tensor, labels: torch.Tensor, bins: int = BINS) -> float:
    """Expected calibration error: the mean gap between accuracy and confidence.

    Formula: sum over bins of equal width of (n_b/N) |accuracy_b - confidence_b|.
    Args: logits, floating point (N, K); labels, integers (N,); bins. Returns: float in [0, 1].
    Raises: UsageError.
    Source: Naeini et al. 2015; Guo et al. 2025 log 15, 20 and 25 bins and draw 20.

    >>> logits, labels = torch.tensor([[0.8, 0.2], [0.6, 0.4]]).log(), torch.tensor([0, 1])
    >>> round(ece(logits, labels, bins=2), 6)  # |0.5 - 0.7|
    0.2
    """
    return reliability(logits, labels, bins).expected_error()


def mce(logits: torch.Tensor, labels: torch.Tensor, bins: int = BINS) -> float:
    """Maximum calibration error: the largest |accuracy_b - confidence_b| over bins of equal width.

    Args, Raises: as `ece`. Returns: float in [0, 1]. Source: Naeini et al. 2015.
    """
    return float(reliability(logits, labels, bins).gaps.max())


def adaptive_ece(logits: torch.Tensor, labels: torch.Tensor, bins: int = BINS) -> float:
    """ECE over bins of equal numbers of samples instead of equal width.

    Released codes use quantiles as edges and so lose the smallest confidence, which lies in no bin
    (lower, upper]. Here every sample counts.

    Args, Raises: as `ece`. Returns: float in [0, 1]. Source: Nguyen and O'Connor 2015; Guo's
    released code.
    """
    return reliability(logits, labels, bins, equal_mass=True).expected_error()


def classwise_ece(logits: torch.Tensor, labels: torch.Tensor, bins: int = BINS) -> float:
    """Mean over the classes k of the ECE of the probability p_k for the event label = k.

    Args, Raises: as `ece`. Returns: float in [0, 1]. Source: Kull et al. 2019; Guo's released code.
    """
    bins = _check_bins(bins)
    return _classwise_ece(Predictions.checked(logits, labels), bins)


def _classwise_ece(predictions: Predictions, bins: int = BINS) -> float:
    p = predictions.logits.double().softmax(1)
    K = p.shape[1]
    total = 0.0
    for k in range(K):
        hit = predictions.labels == k
        total += _equal_width(p[:, k].contiguous(), hit, bins).expected_error()
    return total / K


def brier(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Brier score: mean over the samples of sum_k (p_k - [k = label])^2.

    Args, Raises: as `ece`. Returns: float in [0, 2]. Source: Brier 1950.

    >>> round(brier(torch.tensor([[0.8, 0.2]]).log(), torch.tensor([0])), 6)
    0.08
    """
    return _brier(Predictions.checked(logits, labels))


def _brier(predictions: Predictions) -> float:
    p = predictions.logits.double().softmax(1)
    hit = p.gather(1, predictions.labels[:, None])[:, 0]  # (N,)
    return float((p.square().sum(1) - hit.square() + (1 - hit).square()).mean())


def nll(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Negative log-likelihood: mean of -log p_label, in nats.

    Args, Raises: as `ece`. Returns: float in [0, inf].

    >>> round(nll(torch.tensor([[0.8, 0.2]]).log(), torch.tensor([0])), 4)
    0.2231
    """
    return _nll(Predictions.checked(logits, labels))


def _nll(predictions: Predictions) -> float:
    log_p = predictions.logits.double().log_softmax(1)
    return float(-log_p.gather(1, predictions.labels[:, None]).mean())


def _ece_15(predictions: Predictions) -> float:
    return _reliability(predictions, 15).expected_error()


def _ece_20(predictions: Predictions) -> float:
    return _reliability(predictions, 20).expected_error()


def _adaptive_ece_15(predictions: Predictions) -> float:
    return _reliability(predictions, 15, equal_mass=True).expected_error()


def _mce_15(predictions: Predictions) -> float:
    return float(_reliability(predictions, 15).gaps.max())


# By name, the score of checked predictions and its formula.
SCORES = {
    "nll": (_nll, "mean of -log p_label (nats)"),
    "brier": (_brier, "mean of Σ_k (p_k - [k = label])²"),
    "ece_15": (_ece_15, "Σ_b n_b/N |accuracy_b - confidence_b|, 15 bins of equal width"),
    "ece_20": (_ece_20, "the same, 20 bins"),
    "adaptive_ece_15": (_adaptive_ece_15, "the same, 15 bins of equal numbers of samples"),
    "classwise_ece_15": (
        _classwise_ece,
        "mean over classes k of the ECE of p_k, 15 bins of equal width",
    ),
    "mce_15": (_mce_15, "max over b of |accuracy_b - confidence_b|, 15 bins of equal width"),
    "aurc": (aurc_of, "mean over n = 1..N of (errors among the n most confident samples) / n"),
    "augrc": (augrc_of, "area over coverage n/N of (errors among the n most confident) / N"),
}


def calibration_scores(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """All scores by name, those of `SCORES`.

    Args, Raises: as `ece`. Returns: float by name.
    """
    predictions = Predictions.checked(logits, labels)
    return {name: score(predictions) for name, (score, _) in SCORES.items()}


@dataclass(frozen=True)
class Temperature:
    """A fitted temperature: its value, the objective it minimises and the samples it was fitted on.

    value: float in [0, inf]. The limit 0 is best if every sample is classified correctly, the limit
        inf if uniform probabilities beat those at every finite temperature.
    by: "nll" or "ece".
    fitted_on: "held-out" or "test".
    """

    value: float
    by: str
    fitted_on: str

    def scale(self, logits: torch.Tensor) -> torch.Tensor:
        """logits / T; in the limits, logits whose softmax is that of the limit.

        Args: logits, floating point (N, K). Returns: of the same dtype and shape.
        """
        if 0 < self.value < math.inf:
            return logits / self.value
        least = logits.amax(1, keepdim=True) if self.value == 0 else -torch.finfo(logits.dtype).max
        return torch.zeros_like(logits).masked_fill(logits < least, -math.inf)


def fit_temperature(
    logits: torch.Tensor,
    labels: torch.Tensor,
    *,
    by: str = "nll",
    fitted_on: str = "held-out",
    bins: int = 20,
) -> Temperature:
    """The temperature T at which softmax(logits / T) is best calibrated on these samples.

    by "nll": the minimiser of the negative log-likelihood, which is convex in 1/T, to 1e-10. by
    "ece": the best of Guo's grid, T = 0.1, 0.6, ... 9.6, refined by ten points within 0.5 and ten
    within 0.1, positive ones only.

    Args: logits, floating point (N, K); labels, integers (N,); by, "nll" or "ece"; fitted_on,
    "held-out", or "test" if the samples are those whose calibration is reported afterwards, as in
    Guo's released code, which flatters it; bins, of the ECE.
    Returns: Temperature, which records `by` and `fitted_on`; 0 if every label is certain, the only
    class whose logit is not -inf. Raises: UsageError, also if otherwise all logits of each sample
    that are not -inf are equal, so that no temperature matters, and, by "nll", if the logit of a
    label is -inf, so that every temperature is infinitely bad.
    Source: Guo, Pleiss et al. 2017 (nll); Guo et al. 2025, released code (ece, on the test set).

    >>> z = torch.tensor([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    >>> fitted = fit_temperature(z, torch.tensor([0, 0, 0, 0]))  # three of four are right
    >>> round(fitted.value * math.log(3), 8), fitted.fitted_on  # softmax is 3/4 at T = 2 / log 3
    (2.0, 'held-out')
    """
    if not isinstance(by, str) or by not in ("nll", "ece"):
        raise UsageError(f'a temperature is fitted by "nll" or by "ece", not by {by!r}.')
    if fitted_on not in FITTED_ON:
        raise UsageError(
            'fitted_on must be "held-out" or "test", so that a result names the samples behind its '
            f"temperature, not {fitted_on!r}."
        )
    logits, labels = check_logits(logits, labels)
    masked = logits == -math.inf
    if ((logits == logits.amax(1, keepdim=True)) | masked).all():
        if ((~masked).sum(1) == 1).all() and not masked.gather(1, labels[:, None]).any():
            return Temperature(0.0, by, fitted_on)
        raise UsageError(
            "the logits of each sample are all equal: no temperature changes their probabilities."
        )
    impossible = masked.gather(1, labels[:, None]).nonzero()[:, 0]
    if by == "nll" and len(impossible):
        raise UsageError(
            f"the label of sample {int(impossible[0])} has the logit -inf, probability 0 at every "
            'temperature: leave such samples out, or fit by "ece".'
        )
    logits = logits.double()
    value = _by_nll(logits, labels) if by == "nll" else _by_ece(logits, labels, _check_bins(bins))
    return Temperature(value, by, fitted_on)


def _by_nll(logits: torch.Tensor, labels: torch.Tensor) -> float:
    from scipy.optimize import brentq

    # Shifted and scaled logits make the search independent of the size of the logits.
    scale = float(logits[logits.isfinite()].abs().max())
    logits = (logits - logits.amax(1, keepdim=True)) / scale  # (N, K), in [-2, 0] or -inf
    own = logits.gather(1, labels[:, None])[:, 0]  # (N,)

    def slope(log_beta: float) -> float:
        """Derivative of the NLL by beta = scale / T; the NLL is convex, so it rises with beta."""
        p = (logits * math.exp(log_beta)).softmax(1)
        return float(((p * logits).nan_to_num(0.0).sum(1) - own).mean())

    low, high = -700.0, 0.0  # exp(-700): T is infinite for all purposes
    if not own.any():
        return 0.0
    if slope(low) >= 0:
        return math.inf
    while slope(high) <= 0:
        high += 1
    return scale * math.exp(-brentq(slope, low, high, xtol=1e-12))


def _by_ece(logits: torch.Tensor, labels: torch.Tensor, bins: int) -> float:
    best, least = 1.0, math.inf
    grid = [0.1 + 0.5 * number for number in range(20)]
    for refine in (0.5, 0.1, None):
        # ECE is piecewise continuous in T with many local minima, so a grid decides, not a descent.
        for T in grid:
            if T <= 0:
                continue
            error = _reliability(Predictions(logits / T, labels), bins).expected_error()
            if error < least:
                best, least = T, error
        if refine is not None:
            grid = [best - refine + 2 * refine * number / 9 for number in range(10)]
    return best
