"""Sufficient statistics of neural collapse: counts, class means and the scatter within classes.

Whatever the convention, NC1 is a trace of Sigma_W against the pseudo-inverse of Sigma_B. It depends
on Sigma_W only inside the span of the centred class means, which has at most K - 1 dimensions. So
this module neither forms nor inverts a D x D matrix. The span comes from the Gram matrix of the
class means (K x K, or D x D where D < K), in float64. The features are read twice: the first pass
gives the class means, the second the deviations from them inside the span. Deviations are taken
before they are projected, so a large common offset costs no digits.
"""

from collections.abc import Iterator
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


def describe(value: object) -> str:
    """Dtype and shape of a tensor, or the type of anything else, for an error message."""
    if isinstance(value, torch.Tensor):
        return f"{value.dtype} of shape {tuple(value.shape)}"
    return type(value).__name__


def check_samples(
    features: torch.Tensor, labels: torch.Tensor, K: int, D: int | None = None, wait: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return detached features and int64 labels on one device that supports float64.

    Args: features, floating point (N, D); labels, any integer type (N,), in 0..K-1; K, the number
    of classes; D, the expected width, None for any; wait, whether to check the values of labels on
    a GPU, which waits for it. Raises: UsageError where features and labels do not fit.
    """
    if (
        not isinstance(features, torch.Tensor)
        or not features.is_floating_point()
        or features.ndim != 2
    ):
        raise UsageError(
            f"features must be a floating-point tensor (N, D), not {describe(features)}."
        )
    if D is not None and features.shape[1] != D:
        raise UsageError(f"features have width {features.shape[1]}, but width {D} was expected.")
    if (
        not isinstance(labels, torch.Tensor)
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


def _in_chunks(
    features: torch.Tensor, labels: torch.Tensor, mark: torch.Tensor | None = None
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]]:
    """Views of the samples, at most CHUNK numbers of features at a time."""
    rows = max(1, CHUNK // max(1, features.shape[1]))
    for start in range(0, len(features), rows):
        part = slice(start, start + rows)
        yield features[part], labels[part], None if mark is None else mark[part]


class FirstPass:
    """First pass over the features, in batches of any size and order: counts and sums per class.

    Sums are float64, on the device of the features. Memory: O(K D) and one chunk.
    """

    def __init__(self, K: int) -> None:
        self.K = K
        self.D: int | None = None  # known after the first batch
        self.dtype = torch.float64  # of the second pass's products
        self.counts = torch.zeros(K, dtype=torch.int64)
        self.sums = torch.zeros(K, 0, dtype=torch.float64)

    @property
    def classes_present(self) -> int:
        """Number of classes that have samples."""
        return int((self.counts > 0).sum())

    @torch.no_grad()
    def add(self, features: torch.Tensor, labels: torch.Tensor) -> None:
        """Add a batch: features, floating point (B, D); labels, integers (B,)."""
        features, labels = check_samples(features, labels, self.K, self.D)
        if self.D is None:
            self.D = features.shape[1]
            # The one large product of the second pass is float64 for float64 features and on a GPU.
            # On a CPU float32 takes half the time and adds less error than narrow features carry.
            wide = features.dtype == torch.float64 or features.is_cuda
            self.dtype = torch.float64 if wide else torch.float32
            self.counts = self.counts.to(features.device)
            self.sums = features.new_zeros(self.K, self.D, dtype=torch.float64)
        for h, y, _ in _in_chunks(features, labels):
            self.sums.index_add_(0, y, h.double())
            self.counts.index_add_(0, y, torch.ones_like(y))


class SecondPass:
    """Second pass over the same features: scatter within classes and, with a classifier, decisions.

    Args: first, the finished first pass; W, float (K, D), and b, float (K,) or None, the
    classifier, without which no sample is classified; centroids, the statistics whose class means
    the nearest-class-mean rule uses, by default those of these features. Memory: O(K D) and one
    chunk. Raises: UsageError as `refuse_not_finite`.
    """

    def __init__(
        self,
        first: FirstPass,
        W: torch.Tensor | None = None,
        b: torch.Tensor | None = None,
        centroids: Statistics | None = None,
    ) -> None:
        self.first = first
        counts = first.counts.cpu()
        means = (first.sums / first.counts.clamp(min=1)[:, None]).cpu()
        refuse_not_finite(counts, means)
        basis = span_of_means(means[counts > 0])
        r = basis.shape[1]
        self.partial = Statistics(
            counts, means, basis, basis.new_zeros(r, r), basis.new_zeros(first.K)
        )
        sums, device, dtype = first.sums, first.sums.device, first.dtype
        self.added = torch.zeros_like(first.counts)
        self.within, self.squares = sums.new_zeros(r, r), sums.new_zeros(first.K)
        self.spread = sums.new_zeros(first.K)
        self.marked = sums.new_zeros(2, 2)  # (unmarked, marked) x (sum, samples)
        # Deviations are taken from means rounded to the working type. Their squares and products
        # are corrected for the rounding afterwards.
        rounded = means.to(dtype)
        shift = rounded.double() - means  # (K, D)
        self.roots = self.partial.between_roots()
        whitened = basis / self.roots  # coordinates in units of the between-class scatter
        self.means, self.shift = rounded.to(device), (shift @ whitened).to(device, dtype)
        self.rounding = shift.square().sum(1).to(device)  # (K,)
        self.decider: _Decider | None = None
        targets = [whitened]
        if W is not None:
            self.decider = _Decider(W, b, self.partial, centroids or self.partial, rounded, device)
            targets += self.decider.targets
        self.target = torch.cat(targets, 1).to(device, dtype)  # (D, r + ...)

    @torch.no_grad()
    def add(
        self, features: torch.Tensor, labels: torch.Tensor, mark: torch.Tensor | None = None
    ) -> None:
        """Add a batch: features and labels as in the first pass; mark, bool (B,), or None.

        `nc1_by_mark` averages over the marked and over the other samples.
        """
        features, labels = check_samples(features, labels, self.first.K, self.first.D)
        mark = None if mark is None else mark.to(features.device)
        r = self.within.shape[0]
        for h, y, marked in _in_chunks(features, labels, mark):
            deviations = self.means.index_select(0, y)  # (rows, D)
            torch.sub(h, deviations, out=deviations)
            with torch.autocast(h.device.type, enabled=False):
                products = deviations @ self.target  # (rows, r + ...)
                # The squared norm of a row is (h - mu_y)^T Sigma_B^+ (h - mu_y).
                inside = products[:, :r] + self.shift.index_select(0, y)  # (rows, r)
                self.within += inside.T @ inside
            squares = torch.linalg.vector_norm(deviations, dim=1).double().square_()  # (rows,)
            self.squares.index_add_(0, y, squares)
            spread = torch.linalg.vector_norm(inside, dim=1).double().square_()  # (rows,)
            self.spread.index_add_(0, y, spread)
            self.added.index_add_(0, y, torch.ones_like(y))
            if marked is not None:
                pairs = torch.stack([spread, torch.ones_like(spread)], 1)  # (rows, 2)
                self.marked.index_add_(0, marked.long(), pairs)
            if self.decider is not None:
                self.decider.add(h, products, y)

    def statistics(self) -> Statistics:
        """The statistics of all samples.

        Raises: UsageError where the two passes saw different samples.
        """
        first = self.first.counts
        if not torch.equal(self.added, first):
            raise UsageError(
                f"the second pass had other samples ({int(self.added.sum())}) than the first "
                f"({int(first.sum())}): use a loader that gives every sample each time, without "
                "drop_last, or keep the features in memory."
            )
        counts, partial = first.cpu(), self.partial
        class_within = self.squares.cpu() / counts.clamp(min=1) - self.rounding.cpu()
        within = self.within.cpu() * self.roots[:, None] * self.roots / counts.sum()
        return Statistics(counts, partial.means, partial.basis, within, class_within.clamp(min=0))

    def decisions(self) -> dict[str, float]:
        """Shares of samples: `accuracy`, `ncc_accuracy` and `nc4_agreement`; without W, none.

        They count the samples that the classifier assigns to their label, that the nearest class
        mean assigns to their label, and that both rules assign to the same class.
        """
        if self.decider is None:
            return {}
        shares = (self.decider.hits.double() / self.first.counts.sum()).tolist()
        return dict(zip(("accuracy", "ncc_accuracy", "nc4_agreement"), shares, strict=True))

    def nc1_by_class(self) -> torch.Tensor:
        """tr(Sigma_k Sigma_B^+), float64 (K,).

        NaN for a class without samples, and everywhere if all class means coincide.
        """
        return (self.spread / self.first.counts).cpu() + self._nan_without_span()

    def nc1_by_mark(self) -> dict[str, float]:
        """Mean of (h - mu_y)^T Sigma_B^+ (h - mu_y) over all, marked and unmarked samples.

        The keys are "all", "correct" (marked) and "wrong" (unmarked).
        """
        sums = torch.stack([self.marked.sum(0), self.marked[1], self.marked[0]])  # (3, 2)
        means = (sums[:, 0] / sums[:, 1] + self._nan_without_span()).tolist()
        return dict(zip(("all", "correct", "wrong"), means, strict=True))

    def _nan_without_span(self) -> float:
        """0, or NaN if all class means coincide: Sigma_B = 0 then has no useful inverse."""
        return 0.0 if len(self.roots) else float("nan")


class _Decider:
    """Classifies samples by W h + b and by the nearest class mean, from products of deviations.

    `targets` are the columns that deviations from the rounded means must be multiplied by: for the
    centroids' span, unless it is the span of the statistics themselves, and for the logits.
    """

    def __init__(
        self,
        W: torch.Tensor,
        b: torch.Tensor | None,
        statistics: Statistics,
        centroids: Statistics,
        rounded: torch.Tensor,
        device: torch.device,
    ) -> None:
        dtype = rounded.dtype
        W = W.detach().cpu().double()
        offset = torch.zeros(len(W)) if b is None else b.detach().cpu()
        roots = centroids.between_roots()
        basis = centroids.basis / roots  # (D, r)
        H = centroids.centred_means() @ centroids.basis  # (classes present, r)
        self.targets = [] if centroids is statistics else [basis]
        # h = rounded mean + deviation: what the rounded means add to the place in the span and to
        # the logits is looked up by label.
        place = (rounded.double() - centroids.global_mean()) @ basis  # (K, r)
        self.place = place.to(device, dtype)
        self.logits: torch.Tensor | None = None
        self.W, self.offset = W.T.to(device, dtype), offset.to(device, dtype)
        if len(W) <= W.shape[1] + 1:
            self.targets.append(W.T)
            logits = rounded.double() @ W.T + offset.double()
            self.logits = logits.to(device, dtype)  # (K, K); with more classes, too large
        # |x - m|^2 is least where x.m - |m|^2/2 is largest.
        self.pull = (H * roots).T.to(dtype).contiguous().to(device)  # (r, classes present)
        self.half = (H.square().sum(1) / 2).to(device, dtype)
        self.present = centroids.present.nonzero()[:, 0].to(device)
        self.hits = torch.zeros(3, dtype=torch.int64, device=device)

    def add(self, h: torch.Tensor, products: torch.Tensor, y: torch.Tensor) -> None:
        """Count a chunk.

        Args: h, features (rows, D); products, their deviations times the targets (rows, ...); y,
        labels (rows,).
        """
        with torch.autocast(h.device.type, enabled=False):
            if self.logits is None:
                logits = h.to(self.W.dtype) @ self.W + self.offset  # (rows, K)
                end = products.shape[1]
            else:
                end = products.shape[1] - len(self.logits)
                logits = products[:, end:] + self.logits.index_select(0, y)  # (rows, K)
            r = self.pull.shape[0]
            place = products[:, end - r : end] + self.place.index_select(0, y)  # (rows, r)
            nearest = self.present[(place @ self.pull - self.half).argmax(1)]  # (rows,)
        chosen = logits.argmax(1)  # (rows,)
        hits = [(chosen == y).sum(), (nearest == y).sum(), (chosen == nearest).sum()]
        self.hits += torch.stack(hits)
