"""Degenerate features and weights: what is undefined is NaN or infinite, and one warning says why.

Rounding must not hide it: means of equal samples differ in the last digits.
"""

import math
import warnings

import pytest
import torch

from lsnc_core.metrics import NeuralCollapse, neural_collapse

K, D = 4, 8
MEANS = {"nc1_trace", "nc1_trace_over_K", "nc1_quotient", "nc1_cdnv", "nc2_means"}
MEANS |= {"nc2_means_equinorm", "nc2_means_equiangular", "nc3_product", "nc3_distance"}
UNIFORMITY = {"nc2_log_inverse_distance", "nc2_log_inverse_distance_cv"}
CLASSIFIER = {"nc2_W", "nc2_W_equinorm", "nc2_W_equiangular", "nc3_product", "nc3_distance"}


def made(n=30, offset=0.0):
    """Features in class order, labels, W: nothing about them is degenerate."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(K).repeat_interleave(n)
    centres = torch.randn(K, D, generator=generator, dtype=torch.float64)
    noise = 0.3 * torch.randn(n * K, D, generator=generator, dtype=torch.float64)
    return centres[labels] + noise + offset, labels, centres


def copied(features, labels, source, target):
    """The features with those of one class also as another's, in another order."""
    features = features.clone()
    features[labels == target] = features[labels == source].flip(0)
    return features


def constant(features, value=0.1):
    return torch.full_like(features, value)


CASES = {
    "all features are 0": (
        lambda h, y, W: (0 * h, y, W),
        "all class means coincide",
        MEANS | UNIFORMITY,
    ),
    "all features are constant": (
        lambda h, y, W: (constant(h), y, W),
        "all class means coincide",
        MEANS | UNIFORMITY,
    ),
    "constant features and classes of several sizes": (
        lambda h, y, W: (constant(h, 1e3 / 3)[:-7], y[:-7], W),
        "all class means coincide",
        MEANS | UNIFORMITY,
    ),
    "all classes have the same samples": (
        lambda h, y, W: (h[:30].repeat(K, 1) + 50, y, W),
        "all class means coincide",
        MEANS | UNIFORMITY,
    ),
    "two classes have the same samples": (
        lambda h, y, W: (copied(h, y, 1, 3), y, W),
        "the means of classes 1, 3 coincide",
        {"nc1_cdnv", *UNIFORMITY},
    ),
    "a mean is the global mean": (
        lambda h, y, W: (h - (h[y == 2].mean(0) - h[y != 2].mean(0)) * (y == 2)[:, None], y, W),
        "the mean of class 2 is the global mean",
        {"nc2_means_equiangular", *UNIFORMITY},
    ),
    "W is 0": (lambda h, y, W: (h, y, 0 * W), "W is zero", CLASSIFIER),
    "all rows of W are equal": (
        lambda h, y, W: (h, y, torch.full_like(W, 0.1) * torch.arange(1, 1 + D) / 3),
        "all rows of W are equal",
        {"nc2_W_centred", "nc3_product_W_centred", "nc3_distance_W_centred"},
    ),
    "a row of W is 0": (
        lambda h, y, W: (h, y, W.index_fill(0, torch.tensor([1]), 0.0)),
        "the weights of class 1 are zero",
        {"nc2_W_equiangular"},
    ),
}


@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize("name", CASES)
def test_one_warning_names_what_is_undefined_and_why(name, offset):
    change, reason, undefined = CASES[name]
    features, labels, W = change(*made(offset=offset))
    nc = NeuralCollapse(K, D)
    nc.update(features, labels)
    for compute in (
        lambda: neural_collapse(features, labels, W).values,
        lambda: nc.compute(W),
    ):
        with pytest.warns(UserWarning) as given:
            values = compute()
        assert len(given) == 1 and reason in str(given[0].message)
        listed = {metric for metric, value in values.items() if not math.isfinite(value)}
        assert undefined <= listed
        for metric in listed:
            assert metric.removesuffix("_sample_mean") in str(given[0].message)
    # what does not depend on it stays defined
    if reason.startswith(("W", "all rows", "the weights")):
        assert not listed & {"nc1_trace", "nc2_means", *UNIFORMITY}
    else:
        assert not listed & {"nc2_W", "W_norm", "means_norm", "W_mu_plus_b"}


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_nothing_is_said_of_features_that_are_almost_degenerate(offset):
    features, labels, W = made(offset=offset)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for scale in (1e-30, 1.0, 1e30):
            neural_collapse(scale * features, labels, W)
        near = copied(features, labels, 1, 3)
        near[labels == 3] += 1e-6
        assert neural_collapse(near, labels, W).values["nc1_cdnv"] > 1e8
        close = 1e-4 * (features - offset) + offset  # 1e-8 of the offset apart
        found = neural_collapse(close, labels, W).values["nc1_trace"]
    assert found == pytest.approx(
        neural_collapse(features, labels, W).values["nc1_trace"], rel=1e-3
    )


def test_a_long_sum_of_equal_numbers_has_no_between_class_scatter():
    features, labels = torch.full((60_000, 2), 0.1), torch.arange(60_000) % 3
    labels[:100] = 0
    with pytest.warns(UserWarning, match="all class means coincide"):
        assert math.isnan(neural_collapse(features, labels, torch.eye(3, 2)).values["nc1_trace"])


def test_numbers_beyond_float64():
    features, labels, W = made()
    with pytest.warns(UserWarning, match="too large or too small"):
        neural_collapse(features, labels, 1e200 * W)
