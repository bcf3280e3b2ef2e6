"""The sufficient statistics of collapse: counts, class means, and the within-class scatter inside
the span of the class means.

Whatever the convention, a trace of Sigma_W against the pseudo-inverse of Sigma_B sees Sigma_W only
inside the span of the centred class means, at most K - 1 dimensions. So no D x D matrix is formed
here and none is inverted: the span comes from the Gram matrix of the class means (K x K, or D x D
where D < K), in float64, and the features are read twice, once for the means and once for their
deviations inside the span. Deviations are taken before they are projected, so a large common offset
costs no digits.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from lsnc_core.errors import UsageError

# numbers of a chunk: what is copied and converted at a time, a few MiB that stay in the processor's
# cache
CHUNK = 2**20
GLOBAL_MEANS = ("classes", "samples")


@dataclass(frozen=True, eq=False)
class Statistics:
    """What all one-pass collapse metrics are functions of; on the CPU. A class without samples has
    zeros everywhere.

    counts: int64 (K,), samples of each class.
    means: float64 (K, D), class means mu_k.
    basis: float64 (D, r), orthonormal, spans the centred class means of the classes present; r <=
    min(K - 1, D).
    within: float64 (r, r), basis^T Sigma_W basis with Sigma_W = (1/N) sum_n (h_n - mu_y)(h_n -
    mu_y)^T.
    class_within: float64 (K,), tr Sigma_k, the mean squared distance of a class to its mean.
    """

    counts: torch.Tensor
    means: torch.Tensor
    basis: torch.Tensor
    within: torch.Tensor
    class_within: torch.Tensor

    @property
    def present(self) -> torch.Tensor:
        """bool (K,): the classes that have samples."""
        return self.counts > 0

    @property
    def within_trace(self) -> float:
        """tr Sigma_W, the mean squared distance of a sample to its class mean."""
        return float((self.counts * self.class_within).sum() / self.counts.sum())

    def global_mean(self, mu_G: str = "classes") -> torch.Tensor:
        """The global mean, float64 (D,): the mean of the class means ("classes"), or of all samples
        ("samples").

        The two differ on unbalanced data. Raises: UsageError for another name.
        """
        if mu_G not in GLOBAL_MEANS:
            raise UsageError(
                f'mu_G must be "classes" (mean of the class means) or "samples" (mean of all samples), not {mu_G!r}.'
            )
        means = self.means[self.present]
        if mu_G == "classes":
            return means.mean(0)
        counts = self.counts[self.present, None]
        return (counts * means).sum(0) / counts.sum()

    def centred_means(self, mu_G: str = "classes") -> torch.Tensor:
        """Hbar^T = [mu_k - mu_G] of the classes present, float64 (classes present, D)."""
        return self.means[self.present] - self.global_mean(mu_G)


def span_of_means(means: torch.Tensor) -> torch.Tensor:
    """An orthonormal basis of the span of the centred means, by falling eigenvalue of Sigma_B =
    (1/K) sum_k (mu_k - mu_G)(.)^T.

    Directions whose eigenvalue is below 10 max(K, D) eps times the largest are rounding and left
    out.
    Args: means, float64 (K, D), K >= 2. Returns: float64 (D, r), r <= min(K - 1, D), 0 where all
    means coincide.

    >>> span_of_means(torch.tensor([[0.0, 1.0], [0.0, 5.0]], dtype=torch.float64)).abs().tolist()
    [[0.0], [1.0]]
    """
    H = means - means.mean(0)  # (K, D)
    K, D = H.shape
    if D < K:
        eigenvalues, vectors = torch.linalg.eigh(H.T @ H)  # (D,), (D, D)
    else:
        eigenvalues, vectors = torch.linalg.eigh(H @ H.T)  # (K,), (K, K)
        vectors = H.T @ vectors  # (D, K)
    keep = eigenvalues > 10 * max(K, D) * torch.finfo(torch.float64).eps * eigenvalues[-1]
    keep[: max(0, len(keep) - (K - 1))] = (
        False  # centring takes one dimension away, whatever rounding leaves of it
    )
    if not keep.any():
        return means.new_zeros(D, 0)
    basis, _ = torch.linalg.qr(
        vectors[:, keep]
    )  # (D, r); the Gram matrix alone gives it orthonormal only to eps times its condition
    return basis @ torch.linalg.svd(H @ basis, full_matrices=False).Vh.T


def check_samples(
    features: torch.Tensor, labels: torch.Tensor, K: int, D: int | None = None, wait: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """Features detached and labels as int64, both where metrics can be computed, or UsageError
    where they do not fit.

    Args: features, floating point (N, D); labels, any integer type (N,), in 0..K-1; D, the width
    wanted, any if None; wait, whether the values of labels on a GPU are looked at, which waits for
    it.
    """
    if (
        not isinstance(features, torch.Tensor)
        or not features.is_floating_point()
        or features.ndim != 2
    ):
        got = (
            f"{features.dtype} of shape {tuple(features.shape)}"
            if isinstance(features, torch.Tensor)
            else type(features).__name__
        )
        raise UsageError(f"features must be a floating-point tensor (N, D), not {got}.")
    if D is not None and features.shape[1] != D:
        raise UsageError(
            f"features have width {features.shape[1]}, not the {D} that was said or seen before."
        )
    if (
        not isinstance(labels, torch.Tensor)
        or labels.is_floating_point()
        or labels.dtype == torch.bool
        or labels.ndim != 1
    ):
        got = (
            f"{labels.dtype} of shape {tuple(labels.shape)}"
            if isinstance(labels, torch.Tensor)
            else type(labels).__name__
        )
        raise UsageError(f"labels must be an integer tensor (N,) of class numbers, not {got}.")
    if len(labels) != len(features):
        raise UsageError(
            f"there are {len(features)} features and {len(labels)} labels: give one label a sample."
        )
    if features.device.type == "mps":  # it has no float64
        features = features.cpu()
    features, labels = features.detach(), labels.detach().to(features.device, torch.int64)
    if wait or not labels.is_cuda:
        wrong = (labels < 0) | (labels >= K)
        if wrong.any():
            raise UsageError(
                f"labels must lie in 0..{K - 1} for {K} classes, but one of them is {int(labels[wrong][0])}."
            )
    return features, labels


def refuse_not_finite(counts: torch.Tensor, means: torch.Tensor) -> None:
    """Raise UsageError where the data hold no samples, fewer than two classes, NaN or infinity; the
    message names the class.
    """
    if int((counts > 0).sum()) < 2:
        raise UsageError(
            f"collapse needs samples of at least two classes, got {int(counts.sum())} samples of {int((counts > 0).sum())}."
        )
    broken = (~means.isfinite()).any(1).nonzero()[:, 0]
    if len(broken):
        raise UsageError(
            f"the features of class {int(broken[0])} hold NaN or infinity: find out where the network makes them."
        )


def _roots(s: Statistics) -> torch.Tensor:
    """Square roots of the eigenvalues of Sigma_B along the basis, float64 (r,)."""
    H = s.centred_means() @ s.basis  # (classes present, r)
    return (H.square().sum(0) / len(H)).sqrt()


class TwoReads:
    """Statistics from features that are read twice, in batches of any size and order: `first` for
    all, `turn`, `second` for all.

    Memory: O(K D + K^2) numbers and one chunk. Sums are float64; the one large product is float64
    for float64 features and on a GPU, float32 for narrower features on the CPU. With a classifier
    the second read also decides each sample, by the classifier and by the nearest class mean of
    `centroids` (its own where None).
    """

    def __init__(
        self,
        K: int,
        W: torch.Tensor | None = None,
        b: torch.Tensor | None = None,
        centroids: Statistics | None = None,
    ):
        self.K, self.W, self.b, self.centroids = K, W, b, centroids
        self.counts = self.sums = self.statistics = None

    def _chunks(self, features, labels, *more) -> Iterator[tuple[torch.Tensor, ...]]:
        D = None if self.sums is None else self.sums.shape[1]
        features, labels = check_samples(features, labels, self.K, D)
        rows = max(1, CHUNK // max(1, features.shape[1]))
        return zip(
            *(
                tensor.split(rows)
                for tensor in (features, labels, *(tensor.to(features.device) for tensor in more))
            ),
            strict=True,
        )

    @torch.no_grad()
    def first(self, features: torch.Tensor, labels: torch.Tensor) -> None:
        """Take in a batch for the class means: features, floating point (B, D); labels, integers
        (B,).
        """
        for h, y in self._chunks(features, labels):
            if self.sums is None:
                self.sums = h.new_zeros(self.K, h.shape[1], dtype=torch.float64)
                self.counts = torch.zeros(self.K, dtype=torch.int64, device=h.device)
            self.sums.index_add_(0, y, h.double())
            self.counts.index_add_(0, y, torch.ones_like(y))

    def turn(self) -> None:
        """Between the two reads: class means and their span. Raises: UsageError as
        `refuse_not_finite`.
        """
        counts, means = self.counts.cpu(), (self.sums / self.counts.clamp(min=1)[:, None]).cpu()
        refuse_not_finite(counts, means)
        basis = span_of_means(means[counts > 0])
        r = basis.shape[1]
        self.statistics = Statistics(
            counts, means, basis, basis.new_zeros(r, r), basis.new_zeros(self.K)
        )
        self.seen = torch.zeros_like(self.counts)
        self.within, self.squares = self.sums.new_zeros(r, r), self.sums.new_zeros(self.K)
        self.spread, self.marked = (
            self.sums.new_zeros(self.K),
            self.sums.new_zeros(2, 2),
        )  # marked: (unmarked, marked) x (sum, samples)
        self.decided = torch.zeros(3, dtype=torch.int64, device=self.sums.device)
        self.tables = None

    def _prepare(self, dtype: torch.dtype) -> None:
        """What the second read looks up, by label: means in the working type, what that rounds
        away, and the two decisions' offsets.
        """
        s, device = self.statistics, self.sums.device
        rounded = s.means.to(dtype)
        shift = rounded.double() - s.means  # (K, D)
        self.roots = _roots(s)
        targets = [s.basis / self.roots]  # inside the span in units of the between-class scatter
        tables = {"means": rounded, "shift": (shift @ targets[0]).to(dtype)}
        self.rounding = shift.square().sum(1).to(device)  # (K,)
        if self.W is not None:
            W, b = (
                self.W.detach().cpu().double(),
                0 if self.b is None else self.b.detach().cpu().double(),
            )
            near = self.centroids or s
            basis, H = (
                near.basis / _roots(near),
                near.centred_means() @ near.basis,
            )  # (D, r), (classes present, r)
            tables["nearest"] = ((rounded.double() - near.global_mean()) @ basis).to(dtype)
            tables["logits"] = (rounded.double() @ W.T + b).to(dtype)
            tables["pull"], tables["half"] = (
                (H * _roots(near)).T.to(dtype).contiguous(),
                (H.square().sum(1) / 2).to(dtype),
            )
            tables["names"] = near.present.nonzero()[:, 0]
            targets += ([] if near is s else [basis]) + [W.T]
        self.target = torch.cat(targets, 1).to(device, dtype)  # (D, r + ...)
        self.tables = {name: table.to(device) for name, table in tables.items()}

    @torch.no_grad()
    def second(
        self, features: torch.Tensor, labels: torch.Tensor, mark: torch.Tensor | None = None
    ) -> None:
        """Take in a batch for everything else; mark, bool (B,): what `nc1_by_mark` tells apart."""
        for h, y, *marks in self._chunks(features, labels, *([] if mark is None else [mark])):
            dtype = torch.float64 if h.dtype == torch.float64 or h.is_cuda else torch.float32
            if self.tables is None:
                self._prepare(dtype)
            t, r = self.tables, self.within.shape[0]
            deviations = t["means"].index_select(0, y)  # (rows, D)
            torch.sub(h, deviations, out=deviations)
            with torch.autocast(h.device.type, enabled=False):
                products = deviations @ self.target  # (rows, r + ...)
                inside = products[:, :r] + t["shift"].index_select(
                    0, y
                )  # (rows, r): its square is (h - mu_y)^T Sigma_B^+ (h - mu_y)
                self.within += inside.T @ inside
            self.squares.index_add_(
                0, y, torch.linalg.vector_norm(deviations, dim=1).double().square_()
            )
            spread = torch.linalg.vector_norm(inside, dim=1).double().square_()  # (rows,)
            self.spread.index_add_(0, y, spread)
            self.seen.index_add_(0, y, torch.ones_like(y))
            for marked in marks:
                self.marked.index_add_(
                    0, marked.long(), torch.stack([spread, torch.ones_like(spread)], 1)
                )
            if self.W is not None:
                self._decide(products, y)

    def _decide(self, products: torch.Tensor, y: torch.Tensor) -> None:
        t, K, r = self.tables, len(self.W), self.tables["pull"].shape[0]
        logits = products[:, -K:] + t["logits"].index_select(0, y)  # (rows, K)
        place = products[:, -K - r : -K] + t["nearest"].index_select(0, y)  # (rows, r)
        with torch.autocast(place.device.type, enabled=False):
            nearest = t["names"][(place @ t["pull"] - t["half"]).argmax(1)]  # (rows,)
        chosen = logits.argmax(1)  # (rows,)
        self.decided += torch.stack(
            [(chosen == y).sum(), (nearest == y).sum(), (chosen == nearest).sum()]
        )

    def finish(self) -> Statistics:
        """The statistics, after both reads. Raises: UsageError when the second read saw other
        samples than the first.
        """
        if not torch.equal(self.seen, self.counts):
            raise UsageError(
                f"the second read saw other samples ({int(self.seen.sum())}) than the first ({int(self.counts.sum())}): "
                "use a loader that gives every sample each time, without drop_last, or keep the features in memory."
            )
        s, counts = self.statistics, self.counts.cpu()
        class_within = (self.squares.cpu() / counts.clamp(min=1) - self.rounding.cpu()).clamp(min=0)
        within = self.within.cpu() * self.roots[:, None] * self.roots / counts.sum()
        return Statistics(counts, s.means, s.basis, within, class_within)

    def decisions(self) -> dict[str, float]:
        """Shares of samples: `accuracy` and `ncc_accuracy` right by classifier and nearest class
        mean, `nc4_agreement` decided alike.
        """
        shares = (self.decided.double() / self.counts.sum()).tolist()
        return dict(zip(("accuracy", "ncc_accuracy", "nc4_agreement"), shares, strict=True))

    def nc1_by_class(self) -> torch.Tensor:
        """tr(Sigma_k Sigma_B^+), float64 (K,), NaN for a class without samples and where all class
        means coincide.
        """
        nothing = 0.0 if len(self.roots) else float("nan")
        return (self.spread / self.counts).cpu() + nothing

    def nc1_by_mark(self) -> dict[str, float]:
        """Mean of (h - mu_y)^T Sigma_B^+ (h - mu_y) over all, over the marked ("correct") and over
        the other samples ("wrong").
        """
        sums = torch.stack([self.marked.sum(0), self.marked[1], self.marked[0]])  # (3, 2)
        nothing = 0.0 if len(self.roots) else float("nan")
        return dict(
            zip(
                ("all", "correct", "wrong"),
                (sums[:, 0] / sums[:, 1] + nothing).tolist(),
                strict=True,
            )
        )
