"""Neural collapse metrics NC1 to NC4 and norms, with every convention under a name of its own.

N samples, K classes, features h_n (D,), class means mu_k, Hbar = [mu_k - mu_G] (D, K), classifier
W (K, D) and b (K,). Sigma_W = (1/N) sum_n (h_n - mu_y)(h_n - mu_y)^T, Sigma_B = (1/K) Hbar Hbar^T.
E = (I - 11^T/K)/sqrt(K-1) is the Gram matrix of a simplex ETF at Frobenius norm 1.

mu_G is the mean of the class means. Names that end in `_sample_mean` use the mean of all samples
instead, which differs on unbalanced data. Sigma_B weights all classes equally, as every released
code does. Classes without samples are left out of every metric that uses means, with a warning.

`FORMULAS` holds the formula of every name, `PRESETS` the names that each paper uses:

    preset    NC1                           NC2            NC3
    guo       nc1_trace_over_K              nc3_product    nc3_distance
    guo_code  nc1_trace                     nc3_product    nc3_distance_squared
    zhou      nc1_trace_over_K_sample_mean  nc2_W_centred  nc3_product_W_centred_sample_mean

and zhou's NC4 is W_mu_plus_b_sample_mean. The papers share names for different numbers: Guo's NC2
is Zhou's NC3, except that Zhou centres W. For more classes than dimensions (K > D + 1) no simplex
ETF fits; `nc2_log_inverse_distance` and its coefficient of variation `..._cv` measure uniformity on
the sphere instead, as GNC2 of Wu and Papyan, whose NC1 is `nc1_cdnv`.

Metrics of degenerate features (coinciding class means, W = 0, ...) are NaN or infinite, with one
warning that says which and why. Rounding errors of means count as zero: 1e-12 of their size.

Sources: Guo eq. 4, Guo eq. 5, Guo eq. 6; Zhou et al. 2022, released code; Papyan, Han and Donoho
2020 (equinorm, equiangularity); Wu and Papyan 2024, arXiv 2405.17767 (log inverse distances).
"""

import difflib
import math
import warnings
from dataclasses import dataclass

import torch

from lsnc_core.defaults import usual_defaults
from lsnc_core.errors import UsageError
from lsnc_core.labels import check_classes
from lsnc_core.metrics.degenerate import warn_of_undefined
from lsnc_core.metrics.geometry import (
    ROUNDING,
    angles,
    centred_rows,
    equiangularity,
    equinorm,
    exact_squares,
    largest,
    mean_over_pairs,
    self_duality,
    simplex_distance_of_product,
    without_rounding,
)
from lsnc_core.metrics.statistics import (
    GLOBAL_MEANS,
    Statistics,
    check_centroids,
    check_samples,
    describe,
    holds_values,
)
from lsnc_core.metrics.threads import one_thread
from lsnc_core.metrics.two_passes import FirstPass, SecondPass

# Metrics that depend on mu_G; each also exists with the suffix for the mean of all samples.
_WITH_GLOBAL_MEAN = {
    "nc1_trace": "tr(Σ_W Σ_B⁺)",
    "nc1_trace_over_K": "tr(Σ_W Σ_B⁺) / K",
    "nc1_quotient": "tr Σ_W / tr Σ_B",
    "nc2_means": "‖HᵀH/‖HᵀH‖ - E‖, H = [mu_k - mu_G]",
    "nc2_means_equinorm": "std / mean of ‖mu_k - mu_G‖ (std with K - 1)",
    "nc2_means_equiangular": "mean over k ≠ j of |cos(mu_k - mu_G, mu_j - mu_G) + 1/(K-1)|",
    "nc2_log_inverse_distance": "mean over k < j of log(1/‖u_k - u_j‖), u_k = (mu_k - mu_G)/‖.‖",
    "nc2_log_inverse_distance_cv": "std / |mean| over k < j of log(1/‖u_k - u_j‖)",
    "means_norm": "mean of ‖mu_k - mu_G‖",
    "nc3_product": "‖WH/‖WH‖ - E‖",
    "nc3_product_W_centred": "‖W̄H/‖W̄H‖ - E‖, W̄ = W - mean of its rows",
    "nc3_distance": "‖W/‖W‖ - Hᵀ/‖H‖‖",
    "nc3_distance_W_centred": "‖W̄/‖W̄‖ - Hᵀ/‖H‖‖, W̄ = W - mean of its rows",
    "nc3_distance_squared": "‖W/‖W‖ - Hᵀ/‖H‖‖²",
    "nc3_distance_squared_W_centred": "‖W̄/‖W̄‖ - Hᵀ/‖H‖‖², W̄ = W - mean of its rows",
    "W_mu_plus_b": "‖W mu_G + b‖",
}
_WITHOUT_GLOBAL_MEAN = {
    "nc1_cdnv": "mean over k ≠ j of (tr Σ_k + tr Σ_j) / (2 ‖mu_k - mu_j‖²)",
    "nc2_W": "‖WWᵀ/‖WWᵀ‖ - E‖",
    "nc2_W_centred": "‖W̄W̄ᵀ/‖W̄W̄ᵀ‖ - E‖, W̄ = W - mean of its rows",
    "nc2_W_equinorm": "std / mean of ‖w_k‖ (std with K - 1)",
    "nc2_W_equiangular": "mean over k ≠ j of |cos(w_k, w_j) + 1/(K-1)|",
    "W_norm": "mean of ‖w_k‖",
}
SECOND_PASS = {
    "nc4_agreement": "share of samples with argmax(Wh + b) = nearest class mean",
    "ncc_accuracy": "share of samples whose nearest class mean is their label's",
    "accuracy": "share of samples with argmax(Wh + b) = label",
}
SAMPLE_MEAN = "_sample_mean"
_WITH_SAMPLE_MEAN = {
    name + SAMPLE_MEAN: f"{formula}; mu_G the mean of all samples"
    for name, formula in _WITH_GLOBAL_MEAN.items()
}
FORMULAS = _WITH_GLOBAL_MEAN | _WITHOUT_GLOBAL_MEAN | SECOND_PASS | _WITH_SAMPLE_MEAN
_GUO = {"NC2H": "nc2_means", "NC2W": "nc2_W", "h_norm": "means_norm", "w_norm": "W_norm"}
PRESETS = {
    "guo": {"NC1": "nc1_trace_over_K", "NC2": "nc3_product", "NC3": "nc3_distance"},
    "guo_code": {"NC1": "nc1_trace", "NC2": "nc3_product", "NC3": "nc3_distance_squared", **_GUO},
    "zhou": {
        "NC1": "nc1_trace_over_K_sample_mean",
        "NC2": "nc2_W_centred",
        "NC3": "nc3_product_W_centred_sample_mean",
        "NC4": "W_mu_plus_b_sample_mean",
    },
}


class Values(dict[str, float]):
    """Metric values by name, float; looking up a missing one explains what would provide it."""

    def __missing__(self, name: str) -> float:
        if name in SECOND_PASS:
            raise UsageError(
                f"{name} needs a second pass over the features: use "
                "lsnc_core.metrics.measure(model, loader), or neural_collapse(features, labels, W, "
                "b) where they are in memory."
            )
        if name in FORMULAS:
            raise UsageError(f"{name} needs the classifier: give W, and b if there is one.")
        close = difflib.get_close_matches(str(name), FORMULAS, n=1)
        hint = f": did you mean {close[0]!r}?" if close else "; FORMULAS lists them."
        raise UsageError(f"there is no metric {name!r}{hint}")

    def preset(self, name: str) -> dict[str, float]:
        """The values under a paper's own names.

        Args: name, of `PRESETS`: "guo" (Guo eq. 4, Guo eq. 5, Guo eq. 6), "guo_code" or "zhou".
        Raises: UsageError.
        """
        if name not in PRESETS:
            raise UsageError(f"there is no preset {name!r}: choose from {', '.join(PRESETS)}.")
        return {theirs: self[ours] for theirs, ours in PRESETS[name].items()}


@dataclass(frozen=True, eq=False)
class Collapse:
    """All collapse metrics of one set of features.

    values: every name of `FORMULAS`.
    nc1_by_class: float64 (K,), tr(Sigma_k Sigma_B^+) with the mean of the class means as mu_G; NaN
        for a class without samples.
    statistics: the statistics that determine the values.
    """

    values: Values
    nc1_by_class: torch.Tensor
    statistics: Statistics


def nc1_trace(statistics: Statistics, mu_G: str = "classes") -> torch.Tensor:
    """Scatter within classes in units of the scatter between them: tr(Sigma_W Sigma_B^+).

    Args: statistics; mu_G, "classes" or "samples", the centre of Sigma_B. Returns: float64 (...)
    >= 0; NaN if all class means coincide.
    Source: K times Guo eq. 4 ("classes") and K times Zhou's NC1 ("samples").
    """
    if not statistics.basis.shape[-1]:
        return torch.full_like(statistics.within_trace, math.nan)
    H = statistics.centred_means(mu_G) @ statistics.basis  # (..., classes present, r)
    # With H = QR, Sigma_B^-1 = K R^-1 R^-T, and the trace is that of K R^-T Sigma_W R^-1.
    R = torch.linalg.qr(H, mode="r").R  # (..., r, r)
    half = torch.linalg.solve_triangular(R.mT, statistics.within, upper=False)
    whole = torch.linalg.solve_triangular(R.mT, half.mT, upper=False)
    return H.shape[-2] * whole.diagonal(dim1=-2, dim2=-1).sum(-1)


def cdnv(statistics: Statistics) -> torch.Tensor:
    """Class-distance normalised variance, the mean over pairs of classes.

    Formula: mean over k != j of (tr Sigma_k + tr Sigma_j) / (2 ‖mu_k - mu_j‖^2).
    Returns: float64 (...) >= 0; inf if two class means coincide and their samples do not.
    Source: Galanti, György and Hutter 2022.
    """
    centred = statistics.centred_means() @ statistics.basis  # (..., classes present, r)
    least = ROUNDING * largest(statistics.means)
    variances = statistics.class_within[..., statistics.kept]  # (..., classes present)
    if centred.shape[-2] <= statistics.means.shape[-1] + 1:  # as `simplex_fits`
        squares = exact_squares(centred, centred, least)  # (..., present, present)
        k, j = torch.triu_indices(centred.shape[-2], centred.shape[-2], 1)
        return ((variances[..., k] + variances[..., j]) / (2 * squares[..., k, j])).mean(-1)

    def terms(squares: torch.Tensor, rows: slice, columns: slice) -> list[torch.Tensor]:
        return [(variances[..., rows, None] + variances[..., None, columns]) / (2 * squares)]

    return mean_over_pairs(centred, terms, least)[0]


def _check_classifier(W: torch.Tensor, b: torch.Tensor | None, *shape: int) -> None:
    if not holds_values(W) or W.shape != shape:
        raise UsageError(
            f"W must have the shape {shape}, one row per class and one column per feature, not "
            f"{describe(W)}."
        )
    if b is not None and (not holds_values(b) or b.shape != shape[:-1]):
        raise UsageError(f"b must be None or a tensor of shape {shape[:-1]}, not {describe(b)}.")
    if not W.isfinite().all() or (b is not None and not b.isfinite().all()):
        raise UsageError("the classifier's weights hold NaN or infinity: training has diverged.")


def _warn(counts: torch.Tensor, D: int) -> None:
    """Warn of classes without samples, and of too few dimensions for a simplex ETF."""
    K, missing = len(counts), (counts == 0).nonzero()[:, 0].tolist()
    if missing:
        some = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
        warnings.warn(
            f"{len(missing)} of {K} classes have no samples ({some}): metrics of means use the "
            "others.",
            stacklevel=3,
        )
    if K - len(missing) - 1 > D:
        warnings.warn(
            f"no simplex ETF of {K - len(missing)} classes fits into {D} dimensions: NC2 and NC3 "
            "cannot reach 0; nc2_log_inverse_distance_cv can.",
            stacklevel=3,
        )


def _values_of_means(
    statistics: Statistics, mu_G: str, W: torch.Tensor | None, b: torch.Tensor | None
) -> dict[str, torch.Tensor]:
    """The metrics that depend on mu_G; without W, those of the features alone."""
    H = without_rounding(statistics.centred_means(mu_G), statistics.means)
    present, trace = H.shape[-2], nc1_trace(statistics, mu_G)
    between = H.square().sum((-2, -1)) / present
    quotient = statistics.within_trace / between
    equiangular, log_inverse, log_inverse_cv = angles(H)
    values = {
        "nc1_trace": trace,
        "nc1_trace_over_K": trace / present,
        "nc1_quotient": quotient.masked_fill(between == 0, math.nan),
        "nc2_means": simplex_distance_of_product(H, H),
        "nc2_means_equinorm": equinorm(H),
        "nc2_means_equiangular": equiangular,
        "nc2_log_inverse_distance": log_inverse,
        "nc2_log_inverse_distance_cv": log_inverse_cv,
        "means_norm": H.norm(dim=-1).mean(-1),
    }
    if W is not None:
        V = W[..., statistics.kept, :]
        centred = centred_rows(V)
        distance, distance_centred = self_duality(V, H), self_duality(centred, H)
        logits = (W @ statistics.global_mean(mu_G)[..., None])[..., 0]  # (..., K)
        logits = logits if b is None else logits + b
        values |= {
            "nc3_product": simplex_distance_of_product(V, H),
            "nc3_product_W_centred": simplex_distance_of_product(centred, H),
            "nc3_distance": distance,
            "nc3_distance_W_centred": distance_centred,
            "nc3_distance_squared": distance.square(),
            "nc3_distance_squared_W_centred": distance_centred.square(),
            "W_mu_plus_b": logits.norm(dim=-1),
        }
    return values


def _all_values(
    statistics: Statistics, W: torch.Tensor | None, b: torch.Tensor | None
) -> dict[str, torch.Tensor]:
    """The metrics of `collapse_values`, float64 (...) by name."""
    if not isinstance(statistics, Statistics):
        raise UsageError(f"statistics must be Statistics, not {describe(statistics)}.")
    *_, K, D = statistics.means.shape
    _warn(statistics.counts.reshape(-1, K)[0], D)
    values = {"nc1_cdnv": cdnv(statistics)}
    if W is not None:
        _check_classifier(W, b, *statistics.means.shape)
        W, b = W.detach().cpu().double(), None if b is None else b.detach().cpu().double()
        V = centred_rows(W)
        values |= {
            "nc2_W": simplex_distance_of_product(W, W),
            "nc2_W_centred": simplex_distance_of_product(V, V),
            "nc2_W_equinorm": equinorm(W),
            "nc2_W_equiangular": equiangularity(W),
            "W_norm": W.norm(dim=-1).mean(-1),
        }
    by_classes, by_samples = (_values_of_means(statistics, mu_G, W, b) for mu_G in GLOBAL_MEANS)
    renamed = {name + SAMPLE_MEAN: value for name, value in by_samples.items()}
    return by_classes | values | renamed


@usual_defaults()
@one_thread()
def collapse_values(
    statistics: Statistics, W: torch.Tensor | None = None, b: torch.Tensor | None = None
) -> Values:
    """Every metric that statistics and classifier determine: all but those of `SECOND_PASS`.

    Args: statistics; W, float (K, D), or None for the metrics of the features alone; b, float (K,),
    or None for no bias.
    Returns: Values, float by name. NaN where a metric is undefined, e.g. NC1 if all class means
    coincide.
    Raises: UsageError where shapes do not fit or W holds NaN. Warns of classes without samples, of
    D < K - 1, and of undefined or infinite metrics with the reason.
    Source: Guo eq. 4, Guo eq. 5, Guo eq. 6; Zhou et al. 2022, released code.
    """
    values = {name: float(value) for name, value in _all_values(statistics, W, b).items()}
    undefined = [name for name, value in values.items() if not math.isfinite(value)]
    if undefined:
        # with another mean as mu_G they are mostly undefined too
        base = [name for name in undefined if name.removesuffix(SAMPLE_MEAN) == name]
        names = base or undefined
        warn_of_undefined(names, statistics, W)
    return Values(values)


@usual_defaults()
@one_thread()
def collapse_values_of_many(
    statistics: Statistics, W: torch.Tensor, b: torch.Tensor | None = None
) -> list[Values]:
    """`collapse_values` of n networks at once, in a fraction of the time for small ones.

    Args: statistics, with a leading axis n; W, float (n, K, D); b, float (n, K), or None.
    Returns: n Values. Raises: UsageError as `collapse_values`, if it does so for any network.
    """
    values = {name: value.tolist() for name, value in _all_values(statistics, W, b).items()}
    rows = zip(*values.values(), strict=True)
    return [Values(zip(values, row, strict=True)) for row in rows]


def neural_collapse(
    features: torch.Tensor,
    labels: torch.Tensor,
    W: torch.Tensor | None = None,
    b: torch.Tensor | None = None,
    centroids: Statistics | None = None,
) -> Collapse:
    """Every collapse metric of features in memory, in two passes over them.

    Args: features, floating point (N, D), on any device; labels, integers (N,) in 0..K-1; W, float
    (K, D), or None for the metrics of the features alone, where K is the highest label and one;
    b, float (K,) or None; centroids, the statistics whose class means the nearest-class-mean rule
    uses, e.g. the training set's for test features.
    Returns: Collapse. Memory beyond the features: O(K D) and a fixed chunk.
    Raises: UsageError where shapes do not fit, fewer than two classes have samples, or numbers are
    not finite.

    >>> H = torch.tensor([[2.0, 0.0], [4.0, 0.0], [-2.0, 1.0], [-4.0, -1.0]], dtype=torch.float64)
    >>> W = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    >>> result = neural_collapse(H, torch.tensor([0, 0, 1, 1]), W)  # along x: Sigma_W 1, Sigma_B 9
    >>> {name: round(value, 4) for name, value in result.values.preset("guo").items()}
    {'NC1': 0.0556, 'NC2': 0.0, 'NC3': 0.0}
    >>> result.values["nc4_agreement"], [round(x, 4) for x in result.nc1_by_class.tolist()]
    (1.0, [0.1111, 0.1111])
    """
    if W is not None and (not holds_values(W) or W.ndim != 2):
        raise UsageError(f"W must be None or a tensor (K, D), not {describe(W)}.")
    check_centroids(centroids)
    K = len(W) if W is not None else _count_classes(labels, centroids)
    check_samples(features, labels, K)
    shape = (K, features.shape[1])
    if W is not None:
        _check_classifier(W, b, *shape)
    if centroids is not None and centroids.means.shape != shape:
        raise UsageError(
            f"the centroids' class means have shape {tuple(centroids.means.shape)}, but {shape} is "
            "that of the classes and features here: they must agree."
        )
    first = FirstPass(K)
    first.add(features, labels)
    _name_sample(features, first.sums)
    second = SecondPass(first, W, b, centroids, decide=True)
    second.add(features, labels)
    statistics = second.statistics()
    values = Values(collapse_values(statistics, W, b) | second.decisions())
    return Collapse(values, second.nc1_by_class(), statistics)


def _count_classes(labels: torch.Tensor, centroids: Statistics | None) -> int:
    """K where no classifier tells it."""
    if centroids is not None:
        return len(centroids.counts)
    is_counted = isinstance(labels, torch.Tensor) and not labels.is_floating_point()
    # what holds no class numbers is refused by `check_samples`
    return int(labels.max()) + 1 if is_counted and labels.numel() else 0


def _name_sample(features: torch.Tensor, sums: torch.Tensor) -> None:
    """Raise UsageError that names the first sample with NaN or infinity, if a class sum has any."""
    if sums.isfinite().all():
        return
    for number, rows in enumerate(features.split(1024)):
        broken = (~rows.isfinite().all(1)).nonzero()[:, 0]
        if len(broken):
            raise UsageError(
                "the features hold NaN or infinity, first in sample "
                f"{1024 * number + int(broken[0])}: find the layer that produces them."
            )


def nc1_by_correctness(
    features: torch.Tensor, predictions: torch.Tensor, labels: torch.Tensor, K: int
) -> dict[str, float]:
    """NC1 of samples grouped by predicted class, over all, over correct and over wrong predictions.

    Formula: mean over the samples of (h_n - m)^T Sigma_B^+ (h_n - m), m the mean of the samples
    with the same prediction, Sigma_B of these means about their mean, no 1/K. So "all" is
    tr(Sigma_W Sigma_B^+) of the predicted classes.
    Args: features, floating point (N, D); predictions and labels, integers (N,) in 0..K-1; K, the
    number of classes.
    Returns: {"all", "correct", "wrong"}: float >= 0. NaN over no samples, and for all three if
    fewer than two classes are predicted.
    Raises: UsageError as `neural_collapse`. Source: Guo's calibration figure.
    """
    K = check_classes(K)
    for given in (predictions, labels):
        check_samples(features, given, K)
    first = FirstPass(K)
    first.add(features, predictions)
    if first.classes_present < 2:
        return dict.fromkeys(("all", "correct", "wrong"), math.nan)
    second = SecondPass(first)
    second.add(features, predictions, mark=predictions == labels)
    return second.nc1_by_mark()
