"""Logits and labels as every score of probabilities takes them: checked once, shared by all."""

import functools
import warnings

import torch

from lsnc_core.errors import UsageError
from lsnc_core.metrics.statistics import describe, holds_values

CHUNK = 2**17  # numbers that stay in the cache while they are converted to float64
# So few rows may sum to 1 without being probabilities.
FEW_ROWS = 10


def look_like_probabilities(logits: torch.Tensor) -> bool:
    """Whether what should be logits looks like probabilities.

    It does if no entry is negative and every row sums to 1, within 1e-3 or the precision of a
    narrower type, for at least ten rows.

    Args: logits, floating point (N, K). Raises: UsageError for anything else.

    >>> z = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    >>> look_like_probabilities(z), look_like_probabilities(z.softmax(1))
    (False, True)
    """
    if not holds_values(logits) or not logits.is_floating_point() or logits.ndim != 2:
        raise UsageError(f"logits must be a floating-point tensor (N, K), not {describe(logits)}.")
    N, K = logits.shape
    if N < FEW_ROWS or K < 2:
        return False
    tolerance = max(1e-3, torch.finfo(logits.dtype).eps)
    # a few rows first: those of logits settle it
    for rows in (logits[:FEW_ROWS], logits):
        sums = rows.sum(1, dtype=torch.float64)
        if not ((sums - 1).abs() <= tolerance).all() or not (rows >= 0).all():
            return False
    return True


def check_logits(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (N, K), detached, and labels as int64 (N,) on one device that supports float64.

    Args: logits, floating point (N, K), -inf where a class has probability 0; labels, integers
    (N,) in 0..K-1. Raises: UsageError where they do not fit. Warns of probabilities.
    """
    if (
        not holds_values(logits)
        or not logits.is_floating_point()
        or logits.ndim != 2
        or 0 in logits.shape
    ):
        raise UsageError(
            "logits must be a floating-point tensor (N, K) of at least one sample, not "
            f"{describe(logits)}."
        )
    if not holds_values(labels) or labels.is_floating_point() or labels.shape != logits.shape[:1]:
        raise UsageError(
            f"labels must be an integer tensor of shape ({len(logits)},), one class number per "
            f"sample, not {describe(labels)}."
        )
    if logits.device.type == "mps":  # MPS has no float64
        logits = logits.cpu()
    if logits.dtype.itemsize == 1:  # torch hardly computes with float8
        logits = logits.float()
    logits, labels = logits.detach(), labels.detach().to(logits.device, torch.int64)
    K = logits.shape[1]
    wrong = (labels < 0) | (labels >= K)
    if wrong.any():
        raise UsageError(
            f"labels must lie in 0..{K - 1} for {K} classes, but one of them is "
            f"{int(labels[wrong][0])}."
        )
    # The maximum is NaN where a logit is. -inf is allowed: it is the logarithm of probability 0.
    broken = (~logits.amax(1).isfinite()).nonzero()[:, 0]
    if len(broken):
        raise UsageError(
            f"the logits of sample {int(broken[0])} hold NaN or infinity: find the layer that "
            "produces them."
        )
    if look_like_probabilities(logits):
        warnings.warn(
            "the logits look like probabilities (no entry is negative, every row sums to 1): give "
            "their logarithms.",
            stacklevel=4,
        )
    return logits, labels


class Predictions:
    """Logits and labels that have been checked, and what several scores need of them.

    logits: floating point (N, K). labels: int64 (N,).
    """

    def __init__(self, logits: torch.Tensor, labels: torch.Tensor) -> None:
        self.logits, self.labels = logits, labels

    @classmethod
    def checked(cls, logits: torch.Tensor, labels: torch.Tensor) -> "Predictions":
        """Raises, warns: as `check_logits`."""
        return cls(*check_logits(logits, labels))

    @functools.cached_property
    def _top(self) -> tuple[torch.Tensor, torch.Tensor]:
        confidence = self.logits.new_empty(len(self.logits), dtype=torch.float64)
        prediction = torch.empty_like(self.labels)
        for part in self._parts():
            top = self.logits[part].double().softmax(1).max(1)
            confidence[part], prediction[part] = top.values, top.indices
        return confidence, prediction == self.labels

    @property
    def confidence(self) -> torch.Tensor:
        """Probability of the predicted class, float64 (N,)."""
        return self._top[0]

    @property
    def hit(self) -> torch.Tensor:
        """Whether the predicted class is the label, bool (N,)."""
        return self._top[1]

    @functools.cached_property
    def log_odds(self) -> torch.Tensor:
        """log(c / (1 - c)) of the confidence c, float64 (N,).

        It ranks samples as c does, and also those whose c rounds to 1.
        """
        log_odds = self.logits.new_empty(len(self.logits), dtype=torch.float64)
        for part in self._parts():
            z = self.logits[part].double()
            top = z.max(1, keepdim=True)
            others = z.scatter(1, top.indices, -torch.inf)
            log_odds[part] = top.values[:, 0] - others.logsumexp(1)
        return log_odds

    def _parts(self) -> list[slice]:
        """Consecutive samples, `CHUNK` numbers at a time."""
        N, K = self.logits.shape
        rows = max(1, CHUNK // K)
        return [slice(start, start + rows) for start in range(0, N, rows)]
