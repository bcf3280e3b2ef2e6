"""What is kept of networks' features so that collapse can be measured later without training again.

It serves every convention of the collapse metrics. R replicas, B images of a batch, N images in
all, K classes, D feature width.
"""

import torch


class ClassStatistics:
    """Class means and pooled within-class scatter of R networks' features, in one pass.

    Batches may have any size. They are merged by the update of Chan, Golub and LeVeque (1979): the
    scatter is taken about the batch's own class means, so that nothing cancels where the features
    have collapsed. Sums are float64.

    Args:
        replicas, classes, width: R, K, D.
        device: where the features come from.
    """

    def __init__(self, replicas: int, classes: int, width: int, device: torch.device):
        def zeros(*shape: int) -> torch.Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        self.counts = zeros(classes)
        self.means = zeros(replicas, classes, width)
        self.spread = zeros(replicas, classes)  # sums of squared distances to the class mean
        self.scatter = zeros(replicas, width, width)

    def update(self, features: torch.Tensor, labels: torch.Tensor) -> None:
        """Take in one batch: features float (R, B, D), labels int64 (B,)."""
        classes = torch.arange(len(self.counts), device=labels.device)
        members = (labels == classes[:, None]).to(features.dtype)  # (K, B)
        counts = members.sum(1).double()
        means = members @ features / counts.clamp(min=1).to(features.dtype)[:, None]  # (R, K, D)
        deviations = features - means.index_select(1, labels)  # (R, B, D)
        self.scatter += deviations.mT @ deviations
        self.spread += deviations.square().sum(2) @ members.mT
        # the batch's means about those so far: what the merged scatter has beyond the sum
        total = self.counts + counts
        step = means.double() - self.means
        weight = self.counts * counts / total.clamp(min=1)  # (K,)
        self.scatter += step.mT @ (weight[:, None] * step)
        self.spread += weight * step.square().sum(2)
        self.means += step * (counts / total.clamp(min=1))[:, None]
        self.counts = total

    def summary(self) -> dict[str, torch.Tensor]:
        """What is kept, float64, by name.

        Returns:
            `counts` (R, K). `means` (R, K, D), zero for a class without images. `within` (R, K),
            the mean squared distance of a class's features to their mean; weighted by the counts it
            sums to N times the trace of Sigma_W. `projected` (R, K, K), Hbar Sigma_W Hbar^T, with
            Sigma_W the pooled covariance (divided by N) and Hbar the class means about their own
            mean (of the classes that have images; zero for the others).
        """
        present = (self.counts > 0).double()[:, None]  # (K, 1)
        centre = self.means.sum(1, keepdim=True) / present.sum()
        centred = (self.means - centre) * present  # (R, K, D)
        return {
            "counts": self.counts.expand(len(self.means), -1),
            "means": self.means,
            "within": self.spread / self.counts.clamp(min=1),
            "projected": centred @ self.scatter @ centred.mT / self.counts.sum(),
        }
