"""What of a network's features is kept so that collapse can be measured later, under any
convention, without training again.

R replicas, B images of a batch, N images in all, K classes, D feature width.
"""

import torch


class ClassStatistics:
    """Class means and pooled within-class scatter of R networks' features, in one pass over batches
    of any size.

    Batches are merged by the update of Chan, Golub and LeVeque (1979): the scatter is taken about
    the batch's own class means, so that nothing cancels where the features have collapsed. Sums are
    float64.

    Args:
        replicas, classes, width: R, K, D.
        device: where the features come from.
    """

    def __init__(self, replicas: int, classes: int, width: int, device: torch.device):
        zeros = {"dtype": torch.float64, "device": device}
        self.counts = torch.zeros(classes, **zeros)
        self.means = torch.zeros(replicas, classes, width, **zeros)
        self.spread = torch.zeros(
            replicas, classes, **zeros
        )  # sums of squared distances to the class mean
        self.scatter = torch.zeros(replicas, width, width, **zeros)

    def update(self, features: torch.Tensor, labels: torch.Tensor) -> None:
        """Take in one batch: features float (R, B, D), labels int64 (B,)."""
        classes = torch.arange(len(self.counts), device=labels.device)
        members = (labels == classes[:, None]).to(features.dtype)  # (K, B)
        counts = members.sum(1).double()
        means = members @ features / counts.clamp(min=1).to(features.dtype)[:, None]  # (R, K, D)
        deviations = features - means.index_select(1, labels)  # (R, B, D)
        self.scatter += deviations.mT @ deviations
        self.spread += deviations.square().sum(2) @ members.mT
        total = self.counts + counts
        step = means.double() - self.means
        weight = self.counts * counts / total.clamp(min=1)  # (K,)
        self.scatter += step.mT @ (weight[:, None] * step)
        self.spread += weight * step.square().sum(2)
        self.means += step * (counts / total.clamp(min=1))[:, None]
        self.counts = total

    def summary(self) -> dict[str, torch.Tensor]:
        """What is kept, float64.

        `counts` (R, K); `means` (R, K, D), zero for a class without images; `within` (R, K): the
        mean squared distance of a class's features to their mean (weighted by the counts it sums to
        N times the trace of Sigma_W); `projected` (R, K, K):
        Hbar Sigma_W Hbar^T, with Sigma_W the pooled covariance (divided by N) and Hbar the class
        means about their own mean (of the classes that have images; zero for the others).
        """
        present = (self.counts > 0).double()[:, None]  # (K, 1)
        centred = (
            self.means - self.means.sum(1, keepdim=True) / present.sum()
        ) * present  # (R, K, D)
        return {
            "counts": self.counts.expand(len(self.means), -1),
            "means": self.means,
            "within": self.spread / self.counts.clamp(min=1),
            "projected": centred @ self.scatter @ centred.mT / self.counts.sum(),
        }
