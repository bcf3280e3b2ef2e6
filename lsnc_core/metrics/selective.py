"""Selective classification: the errors among the most confident samples.

At coverage n/N the n most confident of N samples are accepted. Their selective risk is errors/n,
their generalised risk errors/N. Samples are ranked by the log-odds of their confidence in float64,
which tell confidences apart that round to 1. Within a tie every order is equally likely, and the
expected errors count, so the order of the samples does not matter.
"""

import torch

from lsnc_core.metrics.predictions import Predictions


def _errors(predictions: Predictions) -> torch.Tensor:
    """Expected number of errors among the n most confident samples, n = 1..N, float64 (N,)."""
    _, group, sizes = predictions.log_odds.unique(return_inverse=True, return_counts=True)
    wrong = (~predictions.hit).double()
    shares = torch.zeros(len(sizes), dtype=torch.float64, device=wrong.device)
    shares = shares.index_add_(0, group, wrong) / sizes  # of wrong samples, by rising confidence
    return shares.flip(0).repeat_interleave(sizes.flip(0)).cumsum(0)


def aurc_of(predictions: Predictions) -> float:
    """`aurc` of checked logits and labels."""
    errors = _errors(predictions)
    accepted = torch.arange(1, len(errors) + 1, dtype=torch.float64, device=errors.device)
    return float((errors / accepted).mean())


def augrc_of(predictions: Predictions) -> float:
    """`augrc` of checked logits and labels."""
    errors = _errors(predictions)
    return float((errors.sum() - errors[-1] / 2) / len(errors) ** 2)


def aurc(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Area under the risk-coverage curve, as the mean of the selective risks.

    Formula: (1/N) sum over n = 1..N of (errors among the n most confident samples) / n.
    Of the four conventions in use this is the plain mean over the coverages 1/N, 2/N, ..., 1. The
    others prepend a risk of 0 at coverage 0, divide the trapezoid's area from 1/N on by 1 - 1/N
    (torch-uncertainty), or merge ties and multiply by 1,000 (fd-shifts); they differ by O(1/N).
    Ties count by their expectation over all orders.

    Args: logits, floating point (N, K); labels, integers (N,). Returns: float in [0, 1]; for error
    rate e at least e + (1 - e) log(1 - e), up to O(1/N), and e in expectation for a random ranking.
    Raises: UsageError. Warns of probabilities in place of logits.
    Source: Geifman and El-Yaniv 2017; Xia et al. 2025 (label smoothing).

    >>> z = torch.tensor([[3.0, 0.0], [2.0, 0.0], [1.0, 0.0]])  # the second of three is wrong
    >>> round(aurc(z, torch.tensor([0, 1, 0])), 4)  # (0 + 1/2 + 1/3) / 3
    0.2778
    """
    return aurc_of(Predictions.checked(logits, labels))


def augrc(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Area under the generalised risk-coverage curve.

    Formula: area, by trapezoids from coverage 0 to 1, under (errors among the n most confident
    samples) / N. It equals e (1 - e) (1 - AUROC) + e^2 / 2 for error rate e and the AUROC of the
    confidence for telling right from wrong samples. Ties count by their expectation.

    Args, Raises, Warns: as `aurc`. Returns: float in [e^2 / 2, e - e^2 / 2]; e / 2 in expectation
    for a random ranking. Source: Traub et al. 2024.

    >>> z = torch.tensor([[3.0, 0.0], [2.0, 0.0], [1.0, 0.0]])
    >>> round(augrc(z, torch.tensor([0, 1, 0])), 4)  # (0 + 1/2 + 1) / 3^2
    0.1667
    """
    return augrc_of(Predictions.checked(logits, labels))
