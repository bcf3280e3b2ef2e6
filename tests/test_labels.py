import doctest
import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lsnc_core import labels
from lsnc_core.errors import UsageError

UNIT = st.floats(0, 1, allow_subnormal=False)
CLASSES = st.integers(2, 12)


def test_doctests():
    assert doctest.testmod(labels).failed == 0


def test_importing_labels_does_not_import_torch_or_scipy():
    code = "import sys, lsnc_core.labels, lsnc_core.theory.label_noise; "
    code += "sys.exit('torch' in sys.modules or 'scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@settings(deadline=None)
@given(p=UNIT, K=CLASSES)
def test_kept_mass_and_strength_are_inverse(p, K):
    delta = labels.strength_from_kept(p, K)
    assert delta == pytest.approx(K * (1 - p) / (K - 1), abs=1e-15)
    if delta <= 1:
        assert labels.kept_from_strength(delta, K) == pytest.approx(p, abs=1e-15)


@pytest.mark.parametrize("K", [2, 3, 7, 10, 49, 100, 1000])
def test_strength_end_points_are_exact(K):
    assert labels.kept_from_strength(0, K) == 1
    assert labels.kept_from_strength(1, K) == 1 / K
    assert labels.strength_from_kept(1, K) == 0
    assert labels.kept_from_strength(labels.strength_from_kept(1 / K, K), K) == pytest.approx(
        1 / K, abs=1e-16
    )
    assert labels.strength_from_kept(0, K) == K / (K - 1) > 1
    assert labels.strength_from_kept(np.array([[1.0, 0.0]]), K).shape == (1, 2)


@settings(deadline=None)
@given(p=UNIT, K=CLASSES)
def test_smoothing_matrix_gives_the_usual_smoothed_label(p, K):
    S = labels.smoothing_matrix(p, K)
    delta = K * (1 - p) / (K - 1)
    assert S.dtype == np.float64 and S.shape == (K, K)
    np.testing.assert_allclose(S, (1 - delta) * np.eye(K) + delta / K, atol=1e-14)
    np.testing.assert_allclose(S.sum(axis=0), 1, atol=1e-14)
    np.testing.assert_array_equal(S, labels.symmetric_noise(p, K))
    labels.check_noise(S)


@settings(deadline=None)
@given(a=UNIT, K=CLASSES)
def test_pair_noise_moves_to_the_next_class(a, K):
    T = labels.check_noise(labels.pair_noise(a, K))
    for j in range(K):
        column = np.zeros(K)
        column[j] += a
        column[(j + 1) % K] += 1 - a
        np.testing.assert_array_equal(T[:, j], column)


@settings(deadline=None)
@given(p=UNIT, K=CLASSES, data=st.data())
def test_soft_targets_are_columns_of_S(p, K, data):
    y = torch.tensor(data.draw(st.lists(st.integers(0, K - 1), max_size=6)), dtype=torch.int64)
    targets = labels.soft_targets(y, p, K)
    assert targets.dtype == torch.float32 and targets.shape == (len(y), K)
    onehot = np.eye(K)[y.numpy()]  # (N, K)
    np.testing.assert_allclose(
        targets.numpy(), (labels.smoothing_matrix(p, K) @ onehot.T).T, atol=1e-7
    )


def test_generator_is_documented_and_apart_by_purpose():
    g = labels.generator(7, "weights")
    assert g.device.type == "cpu"
    assert g.initial_seed() == int.from_bytes(hashlib.sha256(b"weights:7").digest()[:8], "big") >> 1
    first = torch.rand(4, generator=g)
    assert torch.equal(first, torch.rand(4, generator=labels.generator(7, "weights")))
    assert not torch.equal(first, torch.rand(4, generator=labels.generator(7, "order")))
    assert not torch.equal(first, torch.rand(4, generator=labels.generator(8, "weights")))


def test_corrupt_is_pinned():
    """The bits every stored run depends on: a change here makes old and new runs incomparable."""
    y = torch.arange(12) % 4
    assert labels.corrupt(y, labels.symmetric_noise(0.4, 4), seed=3).tolist() == [
        3,
        1,
        2,
        3,
        2,
        3,
        2,
        2,
        3,
        1,
        2,
        0,
    ]


def test_corrupt_leaves_the_state_of_torch_and_the_input_alone():
    y = torch.arange(100) % 5
    before, copy = torch.get_rng_state(), y.clone()
    out = labels.corrupt(y, labels.symmetric_noise(0.2, 5), seed=1)
    assert torch.equal(torch.get_rng_state(), before) and torch.equal(y, copy)
    assert out.dtype == torch.int64 and out.shape == y.shape
    assert torch.equal(out, labels.corrupt(y, labels.symmetric_noise(0.2, 5), seed=1))
    assert not torch.equal(out, labels.corrupt(y, labels.symmetric_noise(0.2, 5), seed=2))
    assert not torch.equal(
        out, labels.corrupt(y, labels.symmetric_noise(0.2, 5), seed=1, purpose="test label noise")
    )


def test_corrupt_of_a_prefix_is_a_prefix():
    y, T = torch.arange(1000) % 5, labels.symmetric_noise(0.3, 5)
    assert torch.equal(labels.corrupt(y, T, seed=1)[:37], labels.corrupt(y[:37], T, seed=1))


@settings(deadline=None, max_examples=40)
@given(
    low=UNIT,
    high=UNIT,
    K=CLASSES,
    seed=st.integers(0, 2**40),
    noise=st.sampled_from(["symmetric_noise", "pair_noise"]),
)
def test_corruption_is_nested_in_the_clean_rate(low, high, K, seed, noise):
    low, high = sorted((low, high))
    y = torch.arange(300) % K
    worse, better = (labels.corrupt(y, getattr(labels, noise)(a, K), seed) for a in (low, high))
    assert bool((better == y)[worse == y].all())
    moved = better != y
    assert torch.equal(better[moved], worse[moved])


def test_corrupt_follows_T():
    rng = np.random.default_rng(0)
    K, n = 5, 40_000
    T = rng.dirichlet(np.full(K, 0.7), size=K).T  # (K, K)
    T[:, 2] = np.eye(K)[4]  # class 2 always becomes 4
    T[:, 0] = [0.3, 0.0, 0.7, 0.0, 0.0]
    y = torch.arange(K).repeat_interleave(n)
    noisy = labels.corrupt(y, T, seed=0)
    counts = np.zeros((K, K))
    np.add.at(counts, (noisy.numpy(), y.numpy()), 1)
    assert (counts[T == 0] == 0).all()
    assert (np.abs(counts / n - T) <= 5 * np.sqrt(T * (1 - T) / n)).all()


@settings(deadline=None)
@given(K=CLASSES, seed=st.integers(0, 1000))
def test_corrupt_end_points(K, seed):
    y = torch.arange(50) % K
    assert torch.equal(labels.corrupt(y, np.eye(K), seed), y)
    assert not bool((labels.corrupt(y, labels.symmetric_noise(0.0, K), seed) == y).any())
    nearly = np.eye(K) * (1 - 5e-10)  # passes the tolerance, has nowhere to go
    assert torch.equal(labels.corrupt(y, nearly, seed), y)
    assert labels.corrupt(y[:0], np.eye(K), seed).shape == (0,)


@pytest.mark.parametrize("K", [2, 10, 100, 1000])
def test_columns_rounded_to_float32_are_accepted_and_sum_to_1(K):
    logits = torch.randn(K, K, generator=torch.Generator().manual_seed(K))
    T = logits.softmax(0)
    accepted = labels.check_noise(T)
    exact = logits.double().softmax(0).numpy()
    assert accepted.dtype == np.float64
    np.testing.assert_allclose(accepted.sum(0), 1, rtol=0, atol=1e-14)
    np.testing.assert_allclose(accepted, exact, rtol=3e-6)
    np.testing.assert_array_equal(labels.check_noise(accepted), accepted)
    assert labels.corrupt(torch.arange(K), T.numpy(), 0).shape == (K,)
    # off by more than rounding
    with pytest.raises(UsageError, match="must sum to 1"):
        labels.check_noise(T * (1 + 3e-6 * max(1, K / 100)))


def test_a_matrix_whose_columns_sum_to_1_keeps_its_bits():
    """Else the keys of stored networks would change."""
    kept = np.full((3, 3), 1 / 3)
    off = np.array([[0.1, 0.7], [0.9, 0.3 + 5e-10]])  # within 1e-9
    for T in (kept, off, *(noise(0.7, 10) for noise in labels.NOISES.values())):
        assert labels.check_noise(T).tobytes() == T.tobytes()


def test_a_matrix_the_other_way_round_is_to_be_transposed():
    T = torch.randn(5, 5, generator=torch.Generator().manual_seed(0)).softmax(1)
    with pytest.raises(UsageError, match=r", while its rows sum to 1: transpose it\.$"):
        labels.check_noise(T, "the noise of my.py", 5)
    labels.check_noise(T.T)
    with pytest.raises(UsageError) as caught:
        labels.check_noise([[0.9, 0.1], [0.2, 0.9]])
    assert "transpose" not in str(caught.value)


Y = torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("call", "quoted"),
    [
        (lambda: labels.strength_from_kept(1.5, 10), "1.5"),
        (lambda: labels.strength_from_kept(-0.1, 10), "-0.1"),
        (lambda: labels.strength_from_kept(float("nan"), 10), "nan"),
        (lambda: labels.strength_from_kept("a lot", 10), "a lot"),
        (lambda: labels.strength_from_kept(True, 10), "True"),
        (lambda: labels.strength_from_kept(None, 10), "None"),
        (lambda: labels.strength_from_kept([[0.1], [0.1, 0.2]], 10), r"\[0.1, 0.2\]"),
        (lambda: labels.strength_from_kept(0.5 + 0.5j, 10), "0.5j"),
        (lambda: labels.kept_from_strength(1.01, 10), "1.01"),
        (lambda: labels.kept_from_strength(0.1, 1), "1"),
        (lambda: labels.kept_from_strength(0.1, 10.0), "10.0"),
        (lambda: labels.kept_from_strength(0.1, True), "True"),
        (lambda: labels.smoothing_matrix([0.1, 0.2], 10), r"\(2,\)"),
        (lambda: labels.symmetric_noise(2, 10), "clean-label rate a .* 2"),
        (lambda: labels.pair_noise(float("inf"), 10), "inf"),
        (lambda: labels.check_noise([[0.5, 0.5]]), r"\(1, 2\)"),
        (lambda: labels.check_noise([0.5, 0.5]), r"\(2,\)"),
        (lambda: labels.check_noise([[1.0]]), r"\(1, 1\)"),
        (lambda: labels.check_noise("T"), "'T'"),
        (lambda: labels.check_noise([[1, 0], [0]]), "square matrix"),
        (lambda: labels.check_noise([[0.9, 0.1], [0.2, 0.9]]), "column 0 sums to 1.1"),
        (lambda: labels.check_noise([[1.5, 0.0], [-0.5, 1.0]]), "-0.5"),
        (lambda: labels.check_noise([[np.nan, 0.0], [0.5, 1.0]]), "nan"),
        (lambda: labels.check_noise(np.eye(3), K=4), "4 x 4"),
        (lambda: labels.soft_targets(Y, 1.1, 3), "1.1"),
        (lambda: labels.soft_targets(Y.int(), 0.9, 3), "int32"),
        (lambda: labels.soft_targets(Y[None], 0.9, 3), r"\(1, 2\)"),
        (lambda: labels.soft_targets([0, 1], 0.9, 3), r"list \[0, 1\]"),
        (lambda: labels.soft_targets(np.arange(10_000).reshape(100, 100), 0.9, 3), "ndarray"),
        (lambda: labels.soft_targets(Y + 5, 0.9, 3), "5"),
        (lambda: labels.soft_targets(Y - 1, 0.9, 3), "-1"),
        (lambda: labels.smoothed_targets("posterior", Y - 1, 0.9, np.eye(2)), "-1"),
        (lambda: labels.smoothed_targets("posterior", Y + 1, 0.9, np.eye(2)), "2"),
        (lambda: labels.corrupt(Y + 1, np.eye(2), 0), "2"),
        (lambda: labels.corrupt(Y, np.eye(2) / 2, 0), "0.5"),
        (lambda: labels.corrupt(Y, np.eye(2), -1), "-1"),
        (lambda: labels.corrupt(Y, np.eye(2), 0.5), "0.5"),
        (lambda: labels.generator(True, "weights"), "True"),
        (lambda: labels.generator(0, ""), "''"),
        (lambda: labels.generator(0, 3), "3"),
    ],
)
def test_mistakes_are_one_sentence_that_quotes_the_value(call, quoted):
    with pytest.raises(UsageError, match=quoted) as caught:
        call()
    message = str(caught.value)
    assert message.endswith(".") and "\n" not in message and len(message) < 200
