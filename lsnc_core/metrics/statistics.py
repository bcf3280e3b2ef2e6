"""Sufficient statistics of neural collapse: counts, class means and the scatter within classes.

Whatever the convention, NC1 is a trace of Sigma_W against the pseudo-inverse of Sigma_B. It depends
on Sigma_W only inside the span of the centred class means, which has at most K - 1 dimensions. So
this module neither forms nor inverts a D x D matrix. The span comes from the Gram matrix of the
class means (K x K, or D x D where D < K), in float64.
"""

from dataclasses import dataclass

import torch

from lsnc_core.errors import UsageError

# Features are copied and converted this many numbers at a time: a few MiB, which stay in the cache.
CHUNK = 2**20
GLOBAL_MEANS = ("classes", "samples")
# Class means closer than this, in units of the largest entry of a mean, differ by rounding alone.
ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Statistics:
    """The statistics that determine every one-pass collapse metric, on the CPU.

    A class without samples has zeros everywhere. The statistics of many networks may stand together
    along leading axes (...) if every class has samples in all of them.

    counts: int64 (..., K), samples of each class.
    means: float64 (..., K, D), class means mu_k.
    basis: float64 (..., D, r), orthonormal, spans the centred means of the classes that have
        samples; r <= min(K - 1, D).
    within: float64 (..., r, r), basis^T Sigma_W basis with
        Sigma_W = (1/N) sum_n (h_n - mu_y)(h_n - mu_y)^T.
    class_within: float64 (..., K), tr Sigma_k, the mean squared distance of a class to its mean.
    """

    counts: torch.Tensor
    means: torch.Tensor
    basis: torch.Tensor
    within: torch.Tensor
    class_within: torch.Tensor

    @property
    def present(self) -> torch.Tensor:
        """bool (..., K): the classes that have samples."""
        return self.counts > 0

    @property
    def kept(self) -> torch.Tensor | slice:
        """The index of the classes that have samples, along the axis of classes."""
        present = self.present
        return slice(None) if present.all() else present

    @property
    def within_trace(self) -> torch.Tensor:
        """tr Sigma_W, the mean squared distance of a sample to its class mean, float64 (...)."""
        return (self.counts * self.class_within).sum(-1) / self.counts.sum(-1)

    def global_mean(self, mu_G: str = "classes") -> torch.Tensor:
        """The global mean, float64 (..., D).

        Args: mu_G, "classes" for the mean of the class means or "samples" for the mean of all
        samples; the two differ on unbalanced data. Raises: UsageError for another name.
        """
        if mu_G not in GLOBAL_MEANS:
            raise UsageError(
                'mu_G must be "classes" (mean of the class means) or "samples" (mean of all '
                f"samples), not {mu_G!r}."
            )
        means = self.means[..., self.kept, :]
        if mu_G == "classes":
            return means.mean(-2)
        counts = self.counts[..., self.kept, None]
        return (counts * means).sum(-2) / counts.sum(-2)

    def centred_means(self, mu_G: str = "classes") -> torch.Tensor:
        """Hbar^T = [mu_k - mu_G] of the classes with samples, float64 (..., classes present, D)."""
        return self.means[..., self.kept, :] - self.global_mean(mu_G)[..., None, :]

    def between_roots(self) -> torch.Tensor:
        """Square roots of the eigenvalues of Sigma_B along the basis, float64 (r,)."""
        H = self.centred_means() @ self.basis  # (classes present, r)
        return (H.square().sum(0) / len(H)).sqrt()


def span_of_means(means: torch.Tensor) -> torch.Tensor:
    """An orthonormal basis of the span of the centred class means.

    Its columns are eigenvectors of Sigma_B = (1/K) sum_k (mu_k - mu_G)(mu_k - mu_G)^T, by falling
    eigenvalue. An eigenvalue below 10 max(K, D) eps times the largest is rounding error, and its
    direction is dropped.

    Args: means, float64 (K, D), K >= 2, or (..., K, D) where r is the same for all, see
    `rank_of_means`. Returns: float64 (..., D, r), r <= min(K - 1, D); r = 0 where all means
    coincide.

    >>> means = torch.tensor([[0.0, 1.0], [0.0, 5.0]], dtype=torch.float64)
    >>> span_of_means(means).abs().tolist()
    [[0.0], [1.0]]
    """
    H = means - means.mean(-2, keepdim=True)  # (..., K, D)
    eigenvalues, vectors = torch.linalg.eigh(_smaller_gram(H))
    r = int(_count_kept(eigenvalues, means).max())
    if not r:
        return means.new_zeros(*means.shape[:-2], means.shape[-1], 0)
    vectors = vectors[..., -r:]
    if H.shape[-2] <= H.shape[-1]:
        vectors = H.mT @ vectors  # (..., D, r)
    # The Gram matrix alone gives vectors that are orthonormal only to eps times its condition
    # number; QR restores orthogonality, the SVD the order of the eigenvectors.
    basis, _ = torch.linalg.qr(vectors)  # (..., D, r)
    return basis @ torch.linalg.svd(H @ basis, full_matrices=False).Vh.mT


def rank_of_means(means: torch.Tensor) -> torch.Tensor:
    """How many columns `span_of_means` gives: int64 (...) of means, float64 (..., K, D)."""
    H = means - means.mean(-2, keepdim=True)
    return _count_kept(torch.linalg.eigvalsh(_smaller_gram(H)), means)


def _smaller_gram(H: torch.Tensor) -> torch.Tensor:
    """The smaller of the two Gram matrices; both have the same non-zero eigenvalues."""
    K, D = H.shape[-2:]
    return H.mT @ H if D < K else H @ H.mT


def _count_kept(eigenvalues: torch.Tensor, means: torch.Tensor) -> torch.Tensor:
    """How many rising eigenvalues of the Gram matrix of the centred means are not rounding, (...).

    None is if the means differ by less than `ROUNDING` of their size.
    """
    K, D = means.shape[-2:]
    largest = eigenvalues[..., -1:]
    smallest = 10 * max(K, D) * torch.finfo(torch.float64).eps * largest
    apart = largest[..., 0] > K * (ROUNDING * means.abs().amax((-2, -1))).square()
    # Centring removes one dimension, whatever rounding leaves of it.
    return (eigenvalues > smallest).sum(-1).clamp(max=K - 1) * apart


def check_centroids(centroids: object) -> None:
    """Refuse what is neither None nor `Statistics`. Raises: UsageError."""
    if centroids is not None and not isinstance(centroids, Statistics):
        raise UsageError(
            f"centroids are Statistics, e.g. `.statistics` of a result, not {describe(centroids)}."
        )


def holds_values(value: object) -> bool:
    """Whether this is a tensor whose values can be read one by one: neither sparse nor on the
    device "meta", whose tensors have a shape alone.
    """
    return (
        isinstance(value, torch.Tensor)
        and value.layout == torch.strided
        and value.device.type != "meta"
    )


def describe(value: object) -> str:
    """Dtype and shape of a tensor, or the type of anything else, for an error message."""
    if isinstance(value, torch.Tensor):
        kind = "" if holds_values(value) else f", {value.layout} on the device {value.device}"
        return f"{value.dtype} of shape {tuple(value.shape)}{kind}"
    return type(value).__name__


def check_samples(
    features: torch.Tensor, labels: torch.Tensor, K: int, D: int | None = None, wait: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return detached features and int64 labels on one device that supports float64.

    Args: features, floating point (N, D); labels, any integer type (N,), in 0..K-1; K, the number
    of classes; D, the expected width, None for any; wait, whether to check the values of labels on
    a GPU, which waits for it. Raises: UsageError where features and labels do not fit.
    """
    fits = holds_values(features) and features.is_floating_point() and features.ndim == 2
    if not fits or not features.shape[1]:
        raise UsageError(
            f"features must be a floating-point tensor (N, D), not {describe(features)}."
        )
    if D is not None and features.shape[1] != D:
        raise UsageError(f"features have width {features.shape[1]}, but width {D} was expected.")
    if (
        not holds_values(labels)
        or labels.is_floating_point()
        or labels.dtype == torch.bool
        or labels.ndim != 1
    ):
        raise UsageError(
            f"labels must be an integer tensor (N,) of class numbers, not {describe(labels)}."
        )
    if len(labels) != len(features):
        raise UsageError(
            f"there are {len(features)} features but {len(labels)} labels: give one label per "
            "sample."
        )
    if features.device.type == "mps":  # MPS has no float64
        features = features.cpu()
    if features.dtype.itemsize == 1:  # torch hardly computes with float8
        features = features.float()
    features, labels = features.detach(), labels.detach().to(features.device, torch.int64)
    if wait or not labels.is_cuda:
        wrong = (labels < 0) | (labels >= K)
        if wrong.any():
            raise UsageError(
                f"labels must lie in 0..{K - 1} for {K} classes, but one of them is "
                f"{int(labels[wrong][0])}."
            )
    return features, labels


def refuse_not_finite(counts: torch.Tensor, means: torch.Tensor) -> None:
    """Raise UsageError for data of fewer than two classes, or with NaN or infinity.

    The message names the first class whose features are not finite. Args: counts, int64 (K,);
    means, float64 (K, D).
    """
    present = int((counts > 0).sum())
    if present < 2:
        raise UsageError(
            "collapse needs samples of at least two classes, got "
            f"{int(counts.sum())} samples of {present}."
        )
    broken = (~means.isfinite()).any(1).nonzero()[:, 0]
    if len(broken):
        raise UsageError(
            f"the features of class {int(broken[0])} hold NaN or infinity: find the layer that "
            "produces them."
        )
