"""Geometry of more classes than dimensions, against K x K matrices and closed forms."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lsnc_core.metrics import NeuralCollapse, geometry, neural_collapse

pytestmark = pytest.mark.filterwarnings("ignore:no simplex ETF:UserWarning")


def drawn(seed, *shape):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def by_pairs(V):
    """Equiangularity, mean and coefficient of variation, one pair at a time."""
    U = (V / V.norm(dim=1, keepdim=True)).numpy()
    K = len(U)
    logs, off = [], []
    for i in range(K):
        for j in range(i):
            logs.append(-math.log(np.linalg.norm(U[i] - U[j])))
            off.append(abs(U[i] @ U[j] + 1 / (K - 1)))
    return np.mean(off), np.mean(logs), np.std(logs) / abs(np.mean(logs))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.integers(2, 20), st.integers(1, 50))
def test_pairs_in_blocks_are_all_pairs(seed, K, D, size):
    V = drawn(seed, K, D)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(geometry, "BLOCK", size**2)  # blocks of `size` classes
        found = geometry.angles(V)
    for value, expected in zip(found, by_pairs(V), strict=True):
        assert float(value) == pytest.approx(expected, rel=1e-9, abs=1e-10)


@pytest.mark.parametrize("K", [2, 3, 10, 101])
def test_uniformity_of_a_simplex_is_its_closed_form(K):
    _, mean, variation = geometry.angles(torch.eye(K, dtype=torch.float64) - 1 / K)
    assert float(mean) == pytest.approx(-math.log(2 * K / (K - 1)) / 2, rel=1e-12)
    assert float(variation) < 1e-12


def test_uniformity_of_random_directions():
    found = [geometry.angles(drawn(seed, 1_000, 64)) for seed in range(2)]
    for _, mean, variation in found:
        assert float(mean) == pytest.approx(-0.343, abs=1e-3)
        assert float(variation) == pytest.approx(0.19, abs=5e-3)


def test_a_polygon_is_uniform_in_the_plane():
    """K = 7 in two dimensions: pairs are 2 sin(pi m / 7) apart, m = 1, 2, 3."""
    turns = 2 * math.pi * torch.arange(7, dtype=torch.float64) / 7
    logs = [-math.log(2 * math.sin(math.pi * m / 7)) for m in (1, 2, 3)]
    _, mean, variation = geometry.angles(torch.stack([turns.cos(), turns.sin()], 1))
    assert float(mean) == pytest.approx(np.mean(logs), rel=1e-12)
    assert float(variation) == pytest.approx(np.std(logs) / abs(np.mean(logs)), rel=1e-12)


def test_nearly_equal_directions_keep_their_digits():
    """Products alone would give |u - v|^2 = 0 here, or its half."""
    gap = 1e-9
    V = torch.tensor([[1.0, 0.0], [math.cos(gap), math.sin(gap)], [0.0, 1.0]]).double()
    V[1, 1] = gap
    _, mean, _ = geometry.angles(V)
    expected = -(math.log(gap) + math.log(2)) / 3  # two pairs are sqrt(2) apart
    assert float(mean) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("K, D", [(7, 5), (30, 3), (200, 64), (40, 1)])
def test_distance_to_the_simplex_without_k_by_k_matrices(K, D):
    A, B = drawn(0, 2, K, D), drawn(1, 2, K, D)
    for left, right in ((A, B), (A, A)):
        expected = geometry.simplex_distance(left @ right.mT)
        found = geometry.simplex_distance_of_product(left, right)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    zero = geometry.simplex_distance_of_product(0 * A, B)
    assert zero.isnan().all()


def test_many_networks_at_once_are_each_alone(monkeypatch):
    monkeypatch.setattr(geometry, "BLOCK", 50)
    V = drawn(3, 4, 12, 5)
    together = torch.stack(geometry.angles(V))
    alone = torch.stack([torch.stack(geometry.angles(one)) for one in V], 1)
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=0)


@pytest.mark.parametrize("K, D", [(9, 4), (120, 16)])
def test_more_classes_than_dimensions_agree_with_k_by_k_matrices(monkeypatch, K, D):
    """All metrics, once by blocks and once as if the simplex fitted."""
    generator = torch.Generator().manual_seed(K)
    labels = torch.arange(K).repeat(6)
    centres, W = torch.randn(2, K, D, generator=generator, dtype=torch.float64)
    noise = torch.randn(len(labels), D, generator=generator, dtype=torch.float64)
    features, b = centres[labels] + 0.2 * noise + 3, torch.linspace(-0.1, 0.1, K).double()
    nc = NeuralCollapse(K, D)
    nc.update(features, labels)
    found = neural_collapse(features, labels, W, b).values
    assert dict(nc.compute(W, b)) == pytest.approx(
        {name: value for name, value in found.items() if name in nc.compute(W, b)}, rel=1e-9
    )
    logits = features @ W.T + b
    assert found["accuracy"] == float((logits.argmax(1) == labels).double().mean())
    means = nc.means
    nearest = torch.cdist(features, means).argmin(1)
    assert found["ncc_accuracy"] == float((nearest == labels).double().mean())
    assert found["nc4_agreement"] == float((nearest == logits.argmax(1)).double().mean())
    squares = torch.cdist(means, means).square().fill_diagonal_(torch.inf)
    variances = nc.class_scatter / 6
    ratios = (variances[:, None] + variances) / (2 * squares)
    assert found["nc1_cdnv"] == pytest.approx(float(ratios.sum()) / (K * (K - 1)), rel=1e-9)
    by_blocks = dict(nc.compute(W, b))
    monkeypatch.setattr(geometry, "simplex_fits", lambda V: True)
    assert dict(nc.compute(W, b)) == pytest.approx(by_blocks, rel=1e-11)


def test_no_matrix_has_a_row_and_a_column_for_every_class(monkeypatch):
    """The largest tensor of any operation stays below K x K."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        numel = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            for tensor in result if isinstance(result, tuple | list) else [result]:
                if isinstance(tensor, torch.Tensor):
                    self.numel = max(self.numel, tensor.numel())
            return result

    K, D = 600, 4
    monkeypatch.setattr(geometry, "BLOCK", 2**12)
    labels = torch.arange(K).repeat(2)
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2 * K, D, generator=generator)
    nc = NeuralCollapse(K, D)
    nc.update(features, labels)
    statistics, W = nc.statistics(), torch.randn(K, D, generator=generator)
    with Largest() as seen:
        from lsnc_core.metrics import collapse_values

        collapse_values(statistics, W, W[:, 0])
    assert K * D <= seen.numel < K * K / 10
