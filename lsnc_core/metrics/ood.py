"""Detection of out-of-distribution data from logits or features: scores and their AUROC."""

import torch

from lsnc_core.errors import UsageError
from lsnc_core.metrics.statistics import CHUNK, describe, holds_values


def _check(name: str, value: torch.Tensor, shape: str, ndim: int) -> torch.Tensor:
    """The tensor, detached, on a device with float64; UsageError where it does not fit."""
    fits = holds_values(value) and value.is_floating_point() and value.ndim == ndim
    if not fits or 0 in value.shape:
        raise UsageError(
            f"{name} must be a floating-point tensor {shape} with at least one entry, not "
            f"{describe(value)}."
        )
    if value.isnan().any():
        raise UsageError(f"{name} holds NaN: find the layer that produces it.")
    value = value.detach()
    return value.cpu() if value.device.type == "mps" else value  # MPS has no float64


def energy(logits: torch.Tensor) -> torch.Tensor:
    """log sum_k exp(z_k), the negative free energy: large for in-distribution samples.

    Args: logits, floating point (N, K). Returns: float64 (N,). Raises: UsageError.
    Source: Liu et al., NeurIPS 2020; as in Harun et al., ICML 2025, on collapse and detection.

    >>> energy(torch.zeros(1, 2)).exp().tolist()
    [2.0]
    """
    return _check("logits", logits, "(N, K)", 2).double().logsumexp(1)


def nearest_mean(features: torch.Tensor, class_means: torch.Tensor) -> torch.Tensor:
    """Negative Euclidean distance to the nearest class mean: large for in-distribution samples.

    Args: features, floating point (N, D); class_means, floating point (K, D), of training features,
    e.g. `neural_collapse(...).statistics.means`. Returns: float64 (N,), <= 0. Raises: UsageError.

    >>> nearest_mean(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 0.0], [9.0, 9.0]])).tolist()
    [-5.0]
    """
    features = _check("features", features, "(N, D)", 2)
    means = _check("class_means", class_means, "(K, D)", 2).to(features.device, torch.float64)
    if features.shape[1] != means.shape[1]:
        raise UsageError(
            f"features have width {features.shape[1]} but class_means {means.shape[1]}: give both "
            "of the same layer."
        )
    rows = max(1, CHUNK // max(means.shape))
    exact = "donot_use_mm_for_euclid_dist"  # a product would cancel for features near a mean
    nearest = [
        torch.cdist(part.double(), means, compute_mode=exact).amin(1)
        for part in features.split(rows)
    ]
    return -torch.cat(nearest)


def ood_auroc(
    in_distribution_scores: torch.Tensor, out_of_distribution_scores: torch.Tensor
) -> float:
    """AUROC of telling in-distribution from out-of-distribution samples by a score.

    Formula: P(score of an in-distribution sample > score of another) + P(they are equal) / 2.
    Args: in_distribution_scores, floating point (N,), and out_of_distribution_scores, floating
    point (M,): larger means more likely in-distribution, as of `energy` and `nearest_mean`.
    Returns: float in [0, 1]; 1 for perfect detection, 0.5 for none, less where the score points the
    wrong way. Raises: UsageError. Source: Hendrycks and Gimpel 2017.

    >>> ood_auroc(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.0, 2.0]))  # (1 + 1.5 + 2) / 6
    0.75
    """
    inside = _check("in_distribution_scores", in_distribution_scores, "(N,)", 1).double()
    outside = _check("out_of_distribution_scores", out_of_distribution_scores, "(M,)", 1).double()
    outside = outside.to(inside.device).sort().values
    below = torch.searchsorted(outside, inside)
    below_or_equal = torch.searchsorted(outside, inside, right=True)
    return float((below + below_or_equal).sum()) / (2 * len(inside) * len(outside))
