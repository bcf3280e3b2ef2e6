"""Collapse metrics against a dense implementation (explicit covariances, scipy's pinv).

Also exact cases, invariances and refusals. Values are compared exactly only where the arithmetic is
exact; elsewhere processors round differently.
"""

import doctest
import itertools
import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lsnc_core.errors import UsageError
from lsnc_core.metrics import (
    FORMULAS,
    PRESETS,
    collapse,
    geometry,
    nc1_by_correctness,
    neural_collapse,
    statistics,
)

SLOW = settings(deadline=None, max_examples=60)
pytestmark = [
    pytest.mark.filterwarnings("ignore:no simplex ETF:UserWarning"),
    # as of three classes in one dimension always
    pytest.mark.filterwarnings("ignore:the means of classes .* same direction:UserWarning"),
]


def made(seed, sizes, D, offset=0.0, condition=1.0, sigma=0.3):
    """Features, shuffled labels and a classifier near the class means.

    condition: the ratio of the largest to the smallest non-zero eigenvalue of Sigma_B.
    """
    draw = np.random.default_rng(seed)
    K, r = len(sizes), min(len(sizes) - 1, D)
    rows = draw.normal(size=(K, K))
    across = np.linalg.qr(rows - rows.mean(0))[0][:, :r]  # (K, r), orthonormal, columns sum to zero
    along = np.linalg.qr(draw.normal(size=(D, r)))[0]  # (D, r)
    means = across * np.geomspace(1, condition**-0.5, r) @ along.T
    labels = np.repeat(np.arange(K), sizes)
    noise = draw.normal(size=(len(labels), D)) * sigma
    for k in range(K):
        noise[labels == k] -= noise[labels == k].mean(0)
    features = means[labels] + noise + offset * draw.normal(size=D) / math.sqrt(D)
    order = draw.permutation(len(labels))
    W = means + 0.1 * draw.normal(size=(K, D)) / math.sqrt(D)
    tensors = features[order], labels[order], W, 0.1 * draw.normal(size=K)
    return tuple(map(torch.from_numpy, tensors))


def unit(A):
    return A / np.linalg.norm(A)


def off_diagonal(A):
    return A[~np.eye(len(A), dtype=bool)]


def dense(features, labels, W, b):
    """Every metric by its definition, with D x D covariances, and NC1 of each class."""
    h, y, W, b = (
        x.double().numpy() if x.is_floating_point() else x.numpy() for x in (features, labels, W, b)
    )
    K, N = len(W), len(h)
    mu = np.stack([h[y == k].mean(0) for k in range(K)])
    covariances = [(h[y == k] - mu[k]).T @ (h[y == k] - mu[k]) / (y == k).sum() for k in range(K)]
    sigma_w = sum((y == k).sum() * covariances[k] for k in range(K)) / N
    simplex = (np.eye(K) - 1 / K) / math.sqrt(K - 1)
    centred_W = W - W.mean(0)

    def angles(V):
        V = V / np.linalg.norm(V, axis=1, keepdims=True)
        return np.abs(off_diagonal(V @ V.T) + 1 / (K - 1)).mean()

    def spread(V):
        return np.linalg.norm(V, axis=1).std(ddof=1) / np.linalg.norm(V, axis=1).mean()

    def gram(A):
        return np.linalg.norm(unit(A) - simplex)

    def log_inverse_distances(V):
        U = V / np.linalg.norm(V, axis=1, keepdims=True)
        with np.errstate(divide="ignore"):
            return np.array([-np.log(np.linalg.norm(U[i] - U[j])) for i, j in pairs])

    def variation(x):
        return x.std() / abs(x.mean()) if np.isfinite(x).all() else math.nan

    pairs = list(itertools.combinations(range(K), 2))
    found = {}
    for end, centre in (("", mu.mean(0)), ("_sample_mean", h.mean(0))):
        H = mu - centre
        sigma_b = sum(np.outer(v, v) for v in H) / K
        inverse = scipy.linalg.pinv(sigma_b)
        here = {
            "nc1_trace": np.trace(sigma_w @ inverse),
            "nc1_trace_over_K": np.trace(sigma_w @ inverse) / K,
            "nc1_quotient": np.trace(sigma_w) / np.trace(sigma_b),
            "nc2_means": gram(H @ H.T),
            "nc2_means_equinorm": spread(H),
            "nc2_means_equiangular": angles(H),
            "nc2_log_inverse_distance": log_inverse_distances(H).mean(),
            "nc2_log_inverse_distance_cv": variation(log_inverse_distances(H)),
            "means_norm": np.linalg.norm(H, axis=1).mean(),
            "nc3_product": gram(W @ H.T),
            "nc3_product_W_centred": gram(centred_W @ H.T),
            "nc3_distance": np.linalg.norm(unit(W) - unit(H)),
            "nc3_distance_W_centred": np.linalg.norm(unit(centred_W) - unit(H)),
            "W_mu_plus_b": np.linalg.norm(W @ centre + b),
        }
        here["nc3_distance_squared"] = here["nc3_distance"] ** 2
        here["nc3_distance_squared_W_centred"] = here["nc3_distance_W_centred"] ** 2
        found |= {name + end: value for name, value in here.items()}
        if not end:
            by_class = [np.trace(C @ inverse) for C in covariances]
    distances = np.stack([((mu - m) ** 2).sum(1) for m in mu])
    variances = np.array([np.trace(C) for C in covariances])
    with np.errstate(divide="ignore"):
        found["nc1_cdnv"] = off_diagonal((variances[:, None] + variances) / (2 * distances)).mean()
    found |= {"nc2_W": gram(W @ W.T), "nc2_W_centred": gram(centred_W @ centred_W.T)}
    found |= {
        "nc2_W_equinorm": spread(W),
        "nc2_W_equiangular": angles(W),
        "W_norm": np.linalg.norm(W, axis=1).mean(),
    }
    chosen = np.array([np.argmax(W @ x + b) for x in h])
    nearest = np.array([np.argmin(((x - mu) ** 2).sum(1)) for x in h])
    found |= {
        "accuracy": (chosen == y).mean(),
        "ncc_accuracy": (nearest == y).mean(),
        "nc4_agreement": (chosen == nearest).mean(),
    }
    eigenvalues = np.linalg.svd(mu - mu.mean(0), compute_uv=False)[: min(K - 1, h.shape[1])] ** 2
    return found, np.array(by_class), eigenvalues[0] / eigenvalues[-1]


def tolerances(problem, condition, expected):
    """By metric: 1e-14 times the condition number of Sigma_B, at least 1e-10.

    For CDNV also the relative error of the smallest distance between rounded class means. For a
    coefficient of variation, std / |mean|, times its value: the mean's error is one of std.
    """
    features, labels, W, _ = problem
    mu = torch.stack([features[labels == k].mean(0) for k in range(len(W))])
    blur = float(torch.finfo(torch.float64).eps * mu.abs().max() / torch.pdist(mu).min())
    relative = max(1e-10, 1e-14 * condition)

    def allowed(name):
        variation = expected[name] if "distance_cv" in name else 1.0
        return {
            "rel": max(relative * np.fmax(1, variation), 50 * blur * (name == "nc1_cdnv")),
            "abs": 1e-10 if name.startswith(("nc2", "nc3", "W_mu")) else 0,
        }

    return allowed


@st.composite
def problems(draw):
    K = draw(st.integers(2, 9))
    sizes = draw(st.lists(st.integers(2, 40), min_size=K, max_size=K))
    return made(
        draw(st.integers(0, 2**32 - 1)),
        sizes,
        draw(st.integers(1, 40)),
        draw(st.sampled_from([0.0, 1.0, 1e3])),
        draw(st.sampled_from([1.0, 1e2, 1e4, 1e6])),
        draw(st.sampled_from([1e-3, 0.3, 3.0])),
    )


@pytest.mark.parametrize("module", [statistics, collapse, geometry])
def test_doctests(module):
    assert doctest.testmod(module).failed == 0


def test_there_is_a_formula_for_every_value_and_no_other():
    features, labels, W, b = made(0, [5, 6, 7], 4)
    values = neural_collapse(features, labels, W, b).values
    assert set(values) == set(FORMULAS) == set(dense(features, labels, W, b)[0])
    for names in PRESETS.values():
        assert set(names.values()) <= set(FORMULAS)


@SLOW
@given(problems())
def test_agrees_with_dense_covariances_and_pinv(problem):
    expected, by_class, condition = dense(*problem)
    assume(condition <= 1e7)
    found = neural_collapse(*problem)
    allowed = tolerances(problem, condition, expected)
    for name, value in expected.items():
        assert found.values[name] == pytest.approx(value, **allowed(name), nan_ok=True), name
    np.testing.assert_allclose(found.nc1_by_class, by_class, rtol=allowed("nc1_trace")["rel"])


@pytest.mark.parametrize(
    "dtype, tolerance", [(torch.float32, 2e-6), (torch.bfloat16, 2e-6), (torch.float16, 2e-6)]
)
@pytest.mark.parametrize(
    "offset, sigma, condition", [(0.0, 0.3, 1.0), (50.0, 1e-2, 1.0), (5.0, 0.3, 1e4)]
)
def test_narrow_features_lose_only_what_they_were_given_without(
    dtype, tolerance, offset, sigma, condition
):
    features, labels, W, b = made(1, [70, 90, 80, 60, 100, 75], 48, offset, condition, sigma)
    features, W, b = features.to(dtype), W.to(dtype), b.to(dtype)
    expected, by_class, _ = dense(features, labels, W, b)
    found = neural_collapse(features, labels, W, b)
    for name in FORMULAS:
        allowed = (
            2 / len(labels) if name in collapse.SECOND_PASS else 0
        )  # a sample between two classes may go to either
        assert found.values[name] == pytest.approx(expected[name], rel=tolerance, abs=allowed), name
    np.testing.assert_allclose(found.nc1_by_class, by_class, rtol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_features_of_eight_bits_are_taken_as_they_are(dtype):
    features, labels, W, b = made(1, [70, 90, 80], 16)
    narrow = features.to(dtype)
    found = neural_collapse(narrow, labels, W, b).values
    assert found == neural_collapse(narrow.float(), labels, W, b).values


def test_sigma_b_over_five_decades_in_float32_keeps_every_direction():
    """A pinv in float32 drops eigenvalues below 6e-5 of the largest, and with them 94 % of NC1."""
    features, labels, W, b = made(2, [200] * 10, 512, 5.0, 1e5, 0.01)
    found = neural_collapse(features.float(), labels, W, b).values["nc1_trace_over_K"]
    assert found == pytest.approx(dense(features, labels, W, b)[0]["nc1_trace_over_K"], rel=1e-4)


# -------------------------------------------------------------------------------------- exact cases


def simplex(K, D, seed=0):
    """Vertices of a simplex ETF in a random direction, float64 (K, D)."""
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(D, K)))[0]
    return torch.from_numpy((np.eye(K) - 1 / K) @ turn.T)


@pytest.mark.parametrize("K, D, copies", [(2, 2, 3), (3, 3, 1), (10, 64, 4), (10, 10, 1)])
def test_a_perfect_simplex_is_zero(K, D, copies):
    """Also with as many samples as classes, and with two classes."""
    M = simplex(K, D)
    features, labels = (3 * M).repeat(copies, 1), torch.arange(K).repeat(copies)
    found = neural_collapse(features, labels, 0.5 * M)
    for name, value in found.values.items():
        if name in collapse.SECOND_PASS:
            assert value == 1
        elif name.removesuffix(collapse.SAMPLE_MEAN) == "nc2_log_inverse_distance":
            assert value == pytest.approx(-math.log(2 * K / (K - 1)) / 2, rel=1e-13)
        elif "norm" not in name or "equinorm" in name:
            assert abs(value) < 1e-13, name
    # The mean of one sample is the sample itself; the mean of equal samples may round.
    largest = 0 if copies == 1 else 1e-30
    assert all(found.values[name] <= largest for name in ("nc1_trace", "nc1_quotient", "nc1_cdnv"))
    assert all(value <= largest for value in found.nc1_by_class.tolist())
    assert found.values["means_norm"] == pytest.approx(3 * math.sqrt(1 - 1 / K), rel=1e-13)


@pytest.mark.filterwarnings("ignore:the weights of class 1 are zero")
def test_two_classes_by_hand():
    features = torch.tensor([[1.0], [3.0], [-1.0], [-3.0]])
    values = neural_collapse(
        features, torch.tensor([0, 0, 1, 1]), torch.tensor([[2.0], [0.0]]), torch.tensor([1.0, 1.0])
    ).values
    expected = {"nc1_trace": 0.25, "nc1_trace_over_K": 0.125, "nc1_quotient": 0.25}
    for name, value in (expected | {"nc1_cdnv": (1 + 1) / (2 * 16)}).items():
        assert values[name] == pytest.approx(value, rel=1e-14)
    assert values["W_mu_plus_b"] == pytest.approx(math.sqrt(2))
    # (1, 0)/1 against (1, -1)/sqrt(2)
    assert values["nc3_distance"] == pytest.approx(math.sqrt(2 - math.sqrt(2)))
    assert values["nc3_distance_squared"] == pytest.approx(2 - math.sqrt(2))
    assert values["nc2_W_centred"] < 1e-14 and values["nc2_means"] < 1e-14
    assert (values["accuracy"], values["ncc_accuracy"], values["nc4_agreement"]) == (1, 1, 1)


def test_the_bias_counts_in_nc4():
    features, labels, W = (
        torch.tensor([[1.0], [2.0], [-1.0], [-2.0]]),
        torch.tensor([0, 0, 1, 1]),
        torch.tensor([[1.0], [-1.0]]),
    )
    assert neural_collapse(features, labels, W).values["nc4_agreement"] == 1
    assert (
        neural_collapse(features, labels, W, torch.tensor([0.0, 3.0])).values["nc4_agreement"]
        == 0.75
    )


def test_presets_are_the_papers_equations():
    features, labels, W, b = made(3, [30, 5, 17, 9], 12, offset=2.0)
    found, (expected, _, _) = (
        neural_collapse(features, labels, W, b).values,
        dense(features, labels, W, b),
    )
    h, y = features.numpy(), labels.numpy()
    mu = np.stack([h[y == k].mean(0) for k in range(4)])
    simplex_gram = (np.eye(4) - 0.25) / math.sqrt(3)
    sigma_w = sum(np.outer(x - mu[k], x - mu[k]) for x, k in zip(h, y, strict=True)) / len(h)

    H, V = (mu - mu.mean(0)).T, W.numpy()  # Guo eq. 4, Guo eq. 5, Guo eq. 6
    guo = found.preset("guo")
    assert guo["NC1"] == pytest.approx(
        np.trace(sigma_w @ np.linalg.pinv(H @ H.T / 4)) / 4, rel=1e-10
    )
    assert guo["NC2"] == pytest.approx(
        np.linalg.norm(V @ H / np.linalg.norm(V @ H) - simplex_gram), rel=1e-12
    )
    assert guo["NC3"] == pytest.approx(
        np.linalg.norm(V / np.linalg.norm(V) - H.T / np.linalg.norm(H)), rel=1e-12
    )
    code = found.preset("guo_code")
    assert (
        code["NC1"] == pytest.approx(4 * guo["NC1"])
        and code["NC3"] == pytest.approx(guo["NC3"] ** 2)
        and code["NC2"] == guo["NC2"]
    )
    assert code["NC2H"] == pytest.approx(expected["nc2_means"]) and code["NC2W"] == pytest.approx(
        expected["nc2_W"]
    )

    mean = h.mean(0)  # Zhou: global mean over the samples, W centred in NC2 and NC3 alone
    H, C = (mu - mean).T, V - V.mean(0)
    zhou = found.preset("zhou")
    assert zhou["NC1"] == pytest.approx(
        np.trace(sigma_w @ np.linalg.pinv(H @ H.T / 4)) / 4, rel=1e-10
    )
    assert zhou["NC2"] == pytest.approx(
        np.linalg.norm(C @ C.T / np.linalg.norm(C @ C.T) - simplex_gram), rel=1e-12
    )
    assert zhou["NC3"] == pytest.approx(
        np.linalg.norm(C @ H / np.linalg.norm(C @ H) - simplex_gram), rel=1e-12
    )
    assert zhou["NC4"] == pytest.approx(np.linalg.norm(V @ mean + b.numpy()), rel=1e-12)
    assert abs(zhou["NC1"] / guo["NC1"] - 1) > 1e-3  # unbalanced: the conventions do differ


def test_w_of_orthogonal_rows_by_closed_form():
    for K in (2, 3, 10, 50):
        assert float(geometry.simplex_distance(torch.eye(K))) == pytest.approx(
            math.sqrt(2 - 2 * math.sqrt((K - 1) / K)), rel=1e-12
        )
        assert float(geometry.equiangularity(torch.eye(K))) == pytest.approx(1 / (K - 1), rel=1e-12)


def test_test_features_are_classified_by_the_given_centroids():
    train, test = made(4, [20] * 3, 5, sigma=0.4), made(5, [15] * 3, 5, sigma=0.4)
    mu = np.stack([train[0][train[1] == k].numpy().mean(0) for k in range(3)])
    nearest = np.array([np.argmin(((x - mu) ** 2).sum(1)) for x in test[0].numpy()])
    chosen = (test[0] @ train[2].T + train[3]).argmax(1).numpy()
    found = neural_collapse(
        test[0], test[1], train[2], train[3], centroids=neural_collapse(*train).statistics
    ).values
    assert found["ncc_accuracy"] == pytest.approx((nearest == test[1].numpy()).mean())
    assert found["nc4_agreement"] == pytest.approx((nearest == chosen).mean())
    assert found["nc1_trace"] == pytest.approx(
        neural_collapse(test[0], test[1], train[2]).values["nc1_trace"], rel=1e-12
    )


def test_nc1_by_correctness_groups_by_prediction():
    features, labels, W, b = made(6, [60, 40, 50], 6, sigma=1.0)
    predictions = (features @ W.T + b).argmax(1)
    h, p, right = features.numpy(), predictions.numpy(), (predictions == labels).numpy()
    groups = sorted(set(p))
    mu = {k: h[p == k].mean(0) for k in groups}
    H = np.stack([mu[k] for k in groups])
    H = H - H.mean(0)
    inverse = np.linalg.pinv(H.T @ H / len(groups))
    terms = np.array([(x - mu[k]) @ inverse @ (x - mu[k]) for x, k in zip(h, p, strict=True)])
    found = nc1_by_correctness(features, predictions, labels, 3)
    assert 0 < right.sum() < len(right)
    assert found == pytest.approx(
        {"all": terms.mean(), "correct": terms[right].mean(), "wrong": terms[~right].mean()},
        rel=1e-10,
    )
    assert math.isnan(nc1_by_correctness(features, predictions, predictions, 3)["wrong"])
    alone = nc1_by_correctness(features, torch.zeros_like(labels), labels, 3)
    assert all(map(math.isnan, alone.values()))


# -------------------------------------------------------------------------------------- invariances

SCALED = {
    "means_norm",
    "W_norm",
    "W_mu_plus_b",
    "means_norm_sample_mean",
    "W_mu_plus_b_sample_mean",
}


def close(found, expected, but=frozenset()):
    for name in set(expected) - but:
        assert found[name] == pytest.approx(expected[name], rel=1e-9, abs=1e-11), name


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(3, 7), st.integers(2, 20))
def test_rotation_scale_translation_and_permutations_change_nothing(seed, K, D):
    draw = np.random.default_rng(seed)
    features, labels, W, b = made(seed, draw.integers(3, 20, K), D, condition=100.0)
    expected = neural_collapse(features, labels, W, b).values
    turn = torch.from_numpy(np.linalg.qr(draw.normal(size=(D, D)))[0])
    close(neural_collapse(features @ turn, labels, W @ turn, b).values, expected)
    close(neural_collapse(7.0 * features, labels, 7.0 * W, 49.0 * b).values, expected, SCALED)
    shift = torch.from_numpy(draw.normal(size=D))
    close(neural_collapse(features + shift, labels, W, b - W @ shift).values, expected)
    order = torch.from_numpy(draw.permutation(len(labels)))
    close(neural_collapse(features[order], labels[order], W, b).values, expected)
    names = torch.from_numpy(draw.permutation(K))
    back = names.argsort()
    renamed = neural_collapse(features, names[labels], W[back], b[back])
    close(renamed.values, expected)
    np.testing.assert_allclose(
        renamed.nc1_by_class[names], neural_collapse(features, labels, W, b).nc1_by_class, rtol=1e-9
    )


def test_inputs_are_left_as_they_are_and_autocast_changes_nothing():
    features, labels, W, b = (
        x.float() if x.is_floating_point() else x for x in made(7, [40] * 5, 30)
    )
    before = [x.clone() for x in (features, labels, W, b)]
    plain = neural_collapse(features, labels, W.requires_grad_(), b).values
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = neural_collapse(features.requires_grad_(), labels, W, b).values
    assert all(torch.equal(x, y) for x, y in zip(before, (features, labels, W, b), strict=True))
    narrow_labels = neural_collapse(features, labels.to(torch.uint8), W, b).values
    assert under_autocast == pytest.approx(plain, rel=1e-12)
    assert narrow_labels == pytest.approx(plain, rel=1e-12)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_gives_the_same():
    features, labels, W, b = made(8, [400] * 10, 64, 5.0, 1e4)
    close(
        neural_collapse(*(x.cuda() for x in (features, labels, W, b))).values,
        neural_collapse(features, labels, W, b).values,
    )


# -------------------------------------------------------------------- degenerate cases and refusals


def test_too_few_dimensions_are_reported():
    with pytest.warns(UserWarning, match="no simplex ETF of 6 classes fits into 3 dimensions"):
        values = neural_collapse(*made(9, [20] * 6, 3)).values
    assert values["nc2_means"] > 0.1 and all(map(math.isfinite, values.values()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        neural_collapse(*made(9, [20] * 6, 5))


def test_classes_without_samples_are_reported_and_left_out():
    features, labels, W, b = made(10, [20, 30, 25], 6)
    wide, names = (
        torch.cat([torch.full((1, 6), 9.0, dtype=torch.float64), W[:1], W[1:], torch.ones(1, 6)]),
        labels + 1,
    )
    with pytest.warns(UserWarning, match=r"2 of 5 classes have no samples \(0, 4\)"):
        found = neural_collapse(
            features, names, wide, torch.cat([-b.new_tensor([1e6]), b, -b.new_tensor([1e6])])
        )
    expected = neural_collapse(features, labels, W, b)
    close(
        found.values,
        expected.values,
        {name for name in FORMULAS if name.startswith(("nc2_W", "W_"))},
    )
    assert (
        torch.equal(found.nc1_by_class[1:4], expected.nc1_by_class)
        and found.nc1_by_class[[0, 4]].isnan().all()
    )


def test_coinciding_class_means_have_no_nc1():
    features, labels = (
        torch.tensor([[1.0, 2.0], [3.0, 2.0], [1.0, 2.0], [3.0, 2.0]]),
        torch.tensor([0, 0, 1, 1]),
    )
    with pytest.warns(UserWarning, match="all class means coincide; so these metrics"):
        found = neural_collapse(features, labels, torch.eye(2))
    assert (
        math.isnan(found.values["nc1_trace"])
        and math.isnan(found.values["nc1_quotient"])
        and found.nc1_by_class.isnan().all()
    )
    assert found.values["nc1_cdnv"] == math.inf and found.values["nc2_W"] > 0


def test_means_on_a_line_leave_one_direction():
    features = (
        torch.tensor(
            [[0.0, 1.0], [0.0, -1.0], [5.0, 2.0], [5.0, -2.0], [10.0, 3.0], [10.0, -3.0]],
            dtype=torch.float64,
        )
        + 1e3
    )
    W = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    with pytest.warns(UserWarning, match="the mean of class 1 is the global mean"):
        found = neural_collapse(features, torch.tensor([0, 0, 1, 1, 2, 2]), W)
    assert found.statistics.basis.shape == (2, 1) and found.values["nc1_trace"] == pytest.approx(
        0, abs=1e-20
    )


REFUSED = {
    "first in sample 3": lambda f, y, W, b: (f.index_fill(0, torch.tensor([3]), math.nan), y, W, b),
    "first in sample 0": lambda f, y, W, b: (
        f.index_fill(0, torch.tensor([0, 4]), -math.inf),
        y,
        W,
        b,
    ),
    "weights hold NaN or infinity": lambda f, y, W, b: (f, y, W * math.nan, b),
    r"W must have the shape \(3, 4\)": lambda f, y, W, b: (f, y, W[:, :3], b),
    r"b must be None or a tensor of shape \(3,\)": lambda f, y, W, b: (f, y, W, b[:2]),
    "labels must lie in 0..2 for 3 classes, but one of them is 3": lambda f, y, W, b: (
        f,
        y + 1,
        W,
        b,
    ),
    "but one of them is -1": lambda f, y, W, b: (f, y - 1, W, b),
    "labels must be an integer tensor": lambda f, y, W, b: (f, y.float(), W, b),
    "there are 12 features but 11 labels": lambda f, y, W, b: (f, y[1:], W, b),
    r"floating-point tensor \(N, D\), not torch.int64": lambda f, y, W, b: (f.long(), y, W, b),
    r"not torch.float64 of shape \(12, 4, 1\)": lambda f, y, W, b: (f[..., None], y, W, b),
    "not ndarray": lambda f, y, W, b: (f.numpy(), y, W, b),
    "at least two classes, got 12 samples of 1": lambda f, y, W, b: (f, y * 0, W, b),
    "at least two classes, got 0 samples of 0": lambda f, y, W, b: (f[:0], y[:0], W, b),
}


@pytest.mark.parametrize("sentence, change", REFUSED.items(), ids=REFUSED)
def test_misuse_is_one_sentence(sentence, change):
    with pytest.raises(UsageError, match=sentence):
        neural_collapse(*change(*made(11, [4, 4, 4], 4)))


def test_an_unknown_name_is_one_sentence():
    found = neural_collapse(*made(11, [4, 4, 4], 4))
    with pytest.raises(UsageError, match="did you mean 'nc1_trace'"):
        found.values["nc1_trase"]
    with pytest.raises(
        UsageError, match="there is no preset 'gou': choose from guo, guo_code, zhou"
    ):
        found.values.preset("gou")
    with pytest.raises(UsageError, match='mu_G must be "classes"'):
        found.statistics.global_mean("all")
    shapes = r"class means have shape \(3, 4\), but \(3, 5\) is that of the classes"
    with pytest.raises(UsageError, match=shapes):
        neural_collapse(*made(11, [4, 4, 4], 5), centroids=found.statistics)
    with pytest.raises(UsageError, match=r"e\.g\. `\.statistics` of a result, not Collapse"):
        neural_collapse(*made(11, [4, 4, 4], 4), centroids=found)
    with pytest.raises(UsageError, match="needs the classifier"):
        collapse.collapse_values(found.statistics)["nc2_W"]


def test_importing_the_metrics_is_light():
    code = (
        "import torch, sys; before = set(sys.modules); import lsnc_core.metrics; "
        "print(*sorted(set(sys.modules) - before))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    others = {name for name in answer.stdout.split() if not name.startswith("lsnc_core")}
    assert others <= {"difflib", "reprlib", "runpy"}
