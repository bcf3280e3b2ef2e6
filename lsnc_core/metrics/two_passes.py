"""Two passes over features: class means first, then the deviations from them.

Deviations are taken before they are projected on the span of the class means, so a large common
offset costs no digits. `measure` and `neural_collapse` use them.
"""

from collections.abc import Iterator

import torch

from lsnc_core.defaults import usual_defaults
from lsnc_core.errors import UsageError
from lsnc_core.metrics.statistics import (
    CHUNK,
    Statistics,
    check_samples,
    refuse_not_finite,
    span_of_means,
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

    @usual_defaults()
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
    """Second pass over the same features: scatter within classes and, if asked, decisions.

    Args: first, the finished first pass; W, float (K, D), and b, float (K,) or None, the
    classifier; centroids, the statistics whose class means the nearest-class-mean rule uses, by
    default those of these features; decide, whether to classify samples without a classifier too.
    Memory: O(K D) and one chunk. Raises: UsageError as `refuse_not_finite`.
    """

    @usual_defaults()
    def __init__(
        self,
        first: FirstPass,
        W: torch.Tensor | None = None,
        b: torch.Tensor | None = None,
        centroids: Statistics | None = None,
        *,
        decide: bool = False,
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
        if decide or W is not None:
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
        """Shares of samples: `ncc_accuracy` and, with W, `accuracy` and `nc4_agreement`.

        They count the samples that the nearest class mean assigns to their label, that the
        classifier assigns to their label, and that both rules assign to the same class.
        """
        if self.decider is None:
            return {}
        shares = (self.decider.hits.double() / self.first.counts.sum()).tolist()
        found = dict(zip(("accuracy", "ncc_accuracy", "nc4_agreement"), shares, strict=True))
        if self.decider.W is None:
            return {"ncc_accuracy": found["ncc_accuracy"]}
        return found

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
        W: torch.Tensor | None,
        b: torch.Tensor | None,
        statistics: Statistics,
        centroids: Statistics,
        rounded: torch.Tensor,
        device: torch.device,
    ) -> None:
        dtype = rounded.dtype
        roots = centroids.between_roots()
        basis = centroids.basis / roots  # (D, r)
        H = centroids.centred_means() @ centroids.basis  # (classes present, r)
        self.targets = [] if centroids is statistics else [basis]
        # h = rounded mean + deviation: what the rounded means add to the place in the span and to
        # the logits is looked up by label.
        place = (rounded.double() - centroids.global_mean()) @ basis  # (K, r)
        self.place = place.to(device, dtype)
        self.W: torch.Tensor | None = None
        self.logits: torch.Tensor | None = None
        if W is not None:
            W = W.detach().cpu().double()
            offset = W.new_zeros(len(W)) if b is None else b.detach().cpu().double()
            self.W, self.offset = W.T.to(device, dtype), offset.to(device, dtype)
            if len(W) <= W.shape[1] + 1:
                self.targets.append(W.T)
                logits = rounded.double() @ W.T + offset
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
            logits, end = None, products.shape[1]
            if self.logits is not None:
                end -= len(self.logits)
                logits = products[:, end:] + self.logits.index_select(0, y)  # (rows, K)
            elif self.W is not None:
                logits = h.to(self.W.dtype) @ self.W + self.offset  # (rows, K)
            r = self.pull.shape[0]
            place = products[:, end - r : end] + self.place.index_select(0, y)  # (rows, r)
            nearest = self.present[(place @ self.pull - self.half).argmax(1)]  # (rows,)
        chosen = nearest if logits is None else logits.argmax(1)  # (rows,)
        hits = [(chosen == y).sum(), (nearest == y).sum(), (chosen == nearest).sum()]
        self.hits += torch.stack(hits)
