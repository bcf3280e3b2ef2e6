"""Replicates of metrics for their intervals: the samples reweighted, group by group.

The samples of each class are split at random into `GROUPS` groups. Replicate g takes weight from
the samples of group g and gives it to the others of their class, so the classes' shares stay. This
is the delete-a-group jackknife, with weights that also hold for classes whose sizes GROUPS does not
divide or that are smaller than it (Kott 2001, Journal of Official Statistics 17(4), "extended").

With n samples of a class, m of them in group g and c groups that hold samples of the class, a
sample outside the group weighs 1 + Z, one inside 1 - (n/m - 1) Z, with
Z^2 = GROUPS m / ((GROUPS - 1) c (n - m)). For m = n / GROUPS the group has weight 0. The squared
deviations of the replicates, summed and times (GROUPS - 1) / GROUPS, are unbiased for the variance
of any linear statistic.
"""

import warnings
from dataclasses import dataclass

import torch

from lsnc_core.metrics.collapse import SAMPLE_MEAN, collapse_values, collapse_values_of_many
from lsnc_core.metrics.statistics import (
    CHUNK,
    GLOBAL_MEANS,
    Statistics,
    refuse_not_finite,
    span_of_means,
)
from lsnc_core.metrics.two_passes import FirstPass

GROUPS = 50
BLOCK = 2**24  # numbers of replicates' class means that stand in memory at once


@dataclass(frozen=True, eq=False)
class Groups:
    """The weights of every sample in every replicate; replicate 0 is the sample itself.

    members: int64 (N,), the group of each sample, 1 to GROUPS.
    strata: int64 (N,), within which weight moves: the labels.
    outside, inside: float64 (K, 1 + GROUPS), weights of the samples of a stratum that are not in
        the replicate's group, and of those that are.
    """

    members: torch.Tensor
    strata: torch.Tensor
    outside: torch.Tensor
    inside: torch.Tensor

    def weights(self, part: slice) -> torch.Tensor:
        """float64 (rows, 1 + GROUPS), for the samples of a slice."""
        y, g = self.strata[part], self.members[part, None]
        weights = self.outside[y]
        return weights.scatter_(1, g, self.inside[y].gather(1, g))


def draw_groups(strata: torch.Tensor, K: int, seed: int) -> Groups:
    """Split the samples of each stratum at random into groups of sizes that differ by at most one.

    The single sample of a stratum keeps its weight. Args: strata, int64 (N,) in 0..K-1; K; seed.
    """
    generator = torch.Generator().manual_seed(seed)
    strata = strata.cpu()
    counts = torch.bincount(strata, minlength=K)
    order = torch.randperm(len(strata), generator=generator)
    order = order[strata[order].argsort(stable=True)]
    starts = counts.cumsum(0) - counts
    ranks = torch.arange(len(strata)) - starts[strata[order]]
    # each stratum starts at a random group, so that small ones seldom share theirs
    first = torch.randint(GROUPS, counts.shape, generator=generator)
    members = torch.empty_like(strata)
    members[order] = (ranks + first[strata[order]]) % GROUPS
    m = torch.bincount(strata * GROUPS + members, minlength=len(counts) * GROUPS)
    m, n = m.reshape(-1, GROUPS).double(), counts[:, None].double()
    held = n.clamp(max=GROUPS)
    Z = (GROUPS * m / ((GROUPS - 1) * held * (n - m)).clamp(min=1)).sqrt()
    inside = 1 - (n / m.clamp(min=1) - 1) * Z
    ones = torch.ones(len(counts), 1, dtype=torch.float64)
    return Groups(members + 1, strata, torch.cat([ones, 1 + Z], 1), torch.cat([ones, inside], 1))


def _slices(N: int, width: int) -> list[slice]:
    """Slices of N samples, at most CHUNK numbers each at `width` numbers a sample."""
    rows = max(1, CHUNK // width)
    return [slice(start, start + rows) for start in range(0, N, rows)]


def class_means(
    features: torch.Tensor, labels: torch.Tensor, K: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples of each class, int64 (K,), and class means, float64 (K, D), zero without samples.

    Raises: UsageError for fewer than two classes, NaN or infinity.
    """
    first = FirstPass(K)
    first.add(features, labels)
    counts = first.counts.cpu()
    means = (first.sums / first.counts.clamp(min=1)[:, None]).cpu()
    refuse_not_finite(counts, means)
    return counts, means


class CollapseReplicates:
    """The collapse metrics of every replicate, from features in memory.

    Deviations from the class means are taken once in float64. A replicate's means differ from them
    by known shifts, and its scatter is that of the weighted deviations less that of the shifts.

    Args: features, float (N, D); labels, int64 (N,); means, float64 (K, D), of the classes; groups,
    with the labels as strata; W, float (K, D), or None, and b, float (K,), or None. Memory:
    O(GROUPS K D). Raises: UsageError as `collapse_values`.
    """

    def __init__(
        self,
        features: torch.Tensor,
        labels: torch.Tensor,
        means: torch.Tensor,
        groups: Groups,
        W: torch.Tensor | None,
        b: torch.Tensor | None,
    ) -> None:
        self.features, self.labels, self.groups = features, labels, groups
        self.W = None if W is None else W.detach().cpu().double()
        self.b = None if b is None else b.detach().cpu().double()
        # as in the second pass of `Statistics`
        wide = features.dtype == torch.float64
        self.dtype = torch.float64 if wide else torch.float32
        self.means, self.counts = means, torch.bincount(labels, minlength=len(means))
        self.present = (self.counts > 0).nonzero()[:, 0]
        self._sum_groups()

    def noise_share(self) -> float:
        """How much of the scatter between class means is expected from the scatter within classes.

        Each class needs two samples or more.
        """
        present, (K, n) = self.present, (len(self.present), self.counts[self.present])
        H = self.means[present] - self.means[present].mean(0)
        noise = (self.squares[present, 0] / (n - 1)).sum() * (1 - 1 / K)
        return float(noise / H.square().sum())

    def _deviations(self, part: slice) -> torch.Tensor:
        """h - mu_y, float64 (rows, D)."""
        return self.features[part].detach().cpu().double() - self.means[self.labels[part]]

    def _sum_groups(self) -> None:
        """Means over each class and group of deviations, and of their squares less the class's."""
        (K, D), cells = self.means.shape, len(self.means) * GROUPS
        sums = torch.zeros(cells, D, dtype=torch.float64)
        squares = torch.zeros(cells, dtype=torch.float64)
        index = self.labels * GROUPS + self.groups.members - 1  # (N,)
        for part in _slices(len(self.labels), D):
            deviations = self._deviations(part)
            sums.index_add_(0, index[part], deviations)
            squares.index_add_(0, index[part], deviations.square().sum(1))
        m = torch.bincount(index, minlength=cells).clamp(min=1)
        self.shifts = (sums / m[:, None]).reshape(K, GROUPS, D)
        of_class = squares.reshape(K, GROUPS).sum(1) / self.counts.clamp(min=1)
        spread = (squares / m).reshape(K, GROUPS)
        Z = self.groups.outside - 1  # (K, 1 + GROUPS)
        changes = Z[:, 1:] * (spread - of_class[:, None])
        self.squares = of_class[:, None] - torch.nn.functional.pad(changes, (1, 0))

    def _statistics(self, block: slice) -> Statistics:
        """Statistics of some replicates, with a leading axis R."""
        Z = (self.groups.outside - 1).T[block, :, None]  # (R, K, 1)
        at = torch.arange(1 + GROUPS)[block] - 1
        shifts = -Z * self.shifts[:, at].transpose(0, 1)  # (R, K, D)
        means = self.means + shifts
        basis = span_of_means(means[:, self.present])  # (R, D, r)
        (R, _, r), N = basis.shape, len(self.labels)
        shares = self.counts / N
        inside = (shifts * shares.sqrt()[:, None]) @ basis  # (R, K, r)
        within = -(inside.mT @ inside)
        columns = basis.transpose(0, 1).reshape(-1, R * r).to(self.dtype)  # (D, R r)
        for part in _slices(N, max(self.means.shape[1], R * r)):
            weights = self.groups.weights(part)[:, block].T[..., None] / N  # (R, rows, 1)
            products = self._deviations(part).to(self.dtype) @ columns  # (rows, R r)
            products = products.reshape(-1, R, r).transpose(0, 1)  # (R, rows, r)
            within += (products * weights.to(self.dtype)).mT @ products
        squares = self.squares.T[block] - shifts.square().sum(2)  # (R, K)
        counts = self.counts.expand(R, -1)
        return Statistics(counts, means, basis, within, squares.clamp(min=0))

    def values(self) -> dict[str, torch.Tensor]:
        """Each metric of every replicate, float64 (1 + GROUPS,).

        The equiangularity of the means is given by its terms, float64 (1 + GROUPS, pairs), whose
        absolute values add up to it.
        """
        rows: dict[str, list[torch.Tensor]] = {}
        size = max(1, BLOCK // self.means.numel())
        for start in range(0, 1 + GROUPS, size):
            statistics = self._statistics(slice(start, min(start + size, 1 + GROUPS)))
            found = self._of_statistics(statistics) | self._angles(statistics.means)
            for name, values in found.items():
                rows.setdefault(name, []).append(values)
        return {name: torch.cat(values) for name, values in rows.items()}

    def _of_statistics(self, statistics: Statistics) -> dict[str, torch.Tensor]:
        W, b, R = self.W, self.b, len(statistics.means)
        with warnings.catch_warnings():  # `measure` has warned, once
            warnings.simplefilter("ignore")
            if W is not None and len(self.present) == len(self.means):
                b = None if b is None else b.expand(R, -1)
                values = collapse_values_of_many(statistics, W.expand(R, -1, -1), b)
            else:
                values = []
                for i in range(R):
                    fields = [tensor[i] for tensor in vars(statistics).values()]
                    values.append(collapse_values(Statistics(*fields), W, b))
        columns = {}
        for name in values[0]:
            columns[name] = torch.tensor([row[name] for row in values], dtype=torch.float64)
        return columns

    def _angles(self, means: torch.Tensor) -> dict[str, torch.Tensor]:
        """(cos + 1/(K-1)) / pairs of each pair of class means, float64 (R, pairs), by metric."""
        means, counts = means[:, self.present], self.counts[self.present].double()
        K = len(counts)
        k, j = torch.triu_indices(K, K, 1)
        found = {}
        for mu_G, suffix in zip(GLOBAL_MEANS, ("", SAMPLE_MEAN), strict=True):
            weights = counts if mu_G == "samples" else torch.ones_like(counts)
            H = means - (weights / weights.sum() @ means)[:, None]
            H = H / H.norm(dim=2, keepdim=True)  # (R, K, D)
            cosines = (H @ H.mT)[:, k, j]  # (R, pairs)
            found[f"nc2_means_equiangular{suffix}"] = (cosines + 1 / (K - 1)) / len(k)
        return found


def nearest_mean_hits(
    features: torch.Tensor,
    labels: torch.Tensor,
    chosen: torch.Tensor,
    means: torch.Tensor,
    centroids: Statistics | None,
) -> torch.Tensor:
    """What the nearest-class-mean rule does with each sample: float64 (4, N), 0 or 1.

    Rows 0 and 1: whether it chooses the label, and whether it chooses as the classifier does. Rows
    2 and 3: the same where the sample is left out of its own class mean, which otherwise lies
    nearer to it than to a new one; with centroids of other samples there is nothing to leave out.

    Args: features, float (N, D); labels and chosen, the classifier's classes, int64 (N,); means,
    float64 (K, D), of the labels; centroids, whose means decide, or None for `means`.
    """
    counts = torch.bincount(labels, minlength=len(means))
    present = (counts if centroids is None else centroids.counts).nonzero()[:, 0]
    rule = (means if centroids is None else centroids.means)[present]  # (present, D)
    column = torch.zeros_like(counts)
    column[present] = torch.arange(len(present))
    centre = rule.mean(0)
    rule = rule - centre
    hits = torch.zeros(4, len(labels), dtype=torch.float64)
    for part in _slices(len(labels), means.shape[1]):
        h, y = features[part].detach().cpu().double(), labels[part]
        # |x - m|^2 is least where x.m - |m|^2/2 is largest.
        pull = (h - centre) @ rule.T - rule.square().sum(1) / 2  # (rows, present)
        hits[:2, part] = _agree(present[pull.argmax(1)], y, chosen[part])
        if centroids is None:
            # Without a sample its class mean is n/(n-1) times as far from it.
            n = counts[y].double()
            nearer = ((n / (n - 1)).square() - 1) * (h - means[y]).square().sum(1) / 2
            pull.scatter_add_(1, column[y][:, None], -nearer[:, None])
        hits[2:, part] = _agree(present[pull.argmax(1)], y, chosen[part])
    return hits


def _agree(nearest: torch.Tensor, y: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    return torch.stack([nearest == y, nearest == chosen]).double()


def mean_replicates(columns: torch.Tensor, groups: Groups) -> torch.Tensor:
    """Means over the samples in every replicate, float64 (columns, 1 + GROUPS).

    Args: columns, float64 (columns, N); groups.
    """
    means = columns.new_zeros(len(columns), 1 + GROUPS)
    for part in _slices(columns.shape[1], GROUPS):
        means += columns[:, part] @ groups.weights(part)
    return means / columns.shape[1]


def score_replicates(
    logits: torch.Tensor, labels: torch.Tensor, groups: Groups
) -> dict[str, torch.Tensor]:
    """The calibration scores of every replicate, and the accuracy.

    Means of the samples are float64 (1 + GROUPS,). Calibration errors are given by their terms,
    float64 (1 + GROUPS, bins): of each bin, mean of (hit - confidence) [in the bin], whose absolute
    values add up to the error. Bins of equal numbers keep their edges.

    Args: logits, float (N, K); labels, int64 (N,); groups.
    """
    N, K = logits.shape
    columns = torch.zeros(4, N, dtype=torch.float64)
    hit, nll, brier, confidence = columns
    widths = {"ece_15": 15, "ece_20": 20, "classwise_ece_15": 15 * K}
    terms = {}
    for name, bins in widths.items():
        terms[name] = torch.zeros(bins, 1 + GROUPS, dtype=torch.float64)
    for part in _slices(N, K + GROUPS):
        y, weights = labels[part], groups.weights(part) / N  # (rows, 1 + GROUPS)
        scaled = logits[part].detach().cpu().double()
        p, own = scaled.softmax(1), torch.nn.functional.one_hot(y, K)  # (rows, K)
        confidence[part], hit[part] = p.amax(1), (scaled.argmax(1) == y).double()
        nll[part] = -scaled.log_softmax(1).gather(1, y[:, None])[:, 0]
        brier[part] = (p - own).square().sum(1)
        gaps = (hit[part] - confidence[part])[:, None] * weights
        for name in ("ece_15", "ece_20"):
            terms[name].index_add_(0, _bin(confidence[part], widths[name]), gaps)
        for k in range(K):
            gaps = (own[:, k] - p[:, k])[:, None] * weights / K
            terms["classwise_ece_15"].index_add_(0, 15 * k + _bin(p[:, k], 15), gaps)
    terms["adaptive_ece_15"] = _equal_mass_terms(confidence, hit, groups, 15)
    means = mean_replicates(columns[:3], groups)
    found = dict(zip(("accuracy", "nll", "brier"), means, strict=True))
    return found | {name: values.T for name, values in terms.items()}


def _bin(confidence: torch.Tensor, bins: int) -> torch.Tensor:
    """The bin (lower, upper] of equal width of each confidence, int64 (N,)."""
    edges = torch.arange(1, bins, dtype=torch.float64) / bins
    return torch.bucketize(confidence.contiguous(), edges)


def _equal_mass_terms(
    confidence: torch.Tensor, hit: torch.Tensor, groups: Groups, bins: int
) -> torch.Tensor:
    """As `score_replicates`, (bins, 1 + GROUPS): bins of ranks, which equal confidences share."""
    N, (_, level, sizes) = len(hit), confidence.unique(return_inverse=True, return_counts=True)
    bins = min(bins, N)
    index = torch.arange(N) * bins // N
    terms = torch.zeros(bins, 1 + GROUPS, dtype=torch.float64)
    sums = torch.zeros(len(sizes), 1 + GROUPS, dtype=torch.float64)
    for part in _slices(N, GROUPS):
        gaps = (hit[part] - confidence[part])[:, None] * groups.weights(part) / N
        sums.index_add_(0, level[part], gaps)
    # a place in the order takes an equal share of the samples whose confidence stands there
    return terms.index_add_(0, index, (sums / sizes[:, None])[level.sort().values])
