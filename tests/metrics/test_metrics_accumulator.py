"""The one-pass accumulator gives the values of the pure functions for any batches and shards."""

import doctest
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_metrics_collapse import dense, made, problems, simplex, tolerances

from lsnc_core.errors import UsageError
from lsnc_core.metrics import NeuralCollapse, accumulator, neural_collapse
from lsnc_core.metrics.collapse import FORMULAS, SECOND_PASS

pytestmark = [
    pytest.mark.filterwarnings("ignore:no simplex ETF:UserWarning"),
    # as of three classes in one dimension always
    pytest.mark.filterwarnings("ignore:the means of classes .* same direction:UserWarning"),
]


def accumulate(features, labels, K, *cuts):
    """An accumulator fed the batches between the cuts."""
    nc = NeuralCollapse(K, features.shape[1])
    for h, y in zip(
        features.tensor_split(list(cuts)), labels.tensor_split(list(cuts)), strict=True
    ):
        nc.update(h, y)
    return nc


def same(found, expected, tolerance=1e-12):
    assert set(found) == set(expected)
    for name in expected:
        assert found[name] == pytest.approx(expected[name], rel=tolerance, abs=1e-12), name


def test_doctests():
    assert doctest.testmod(accumulator).failed == 0


@settings(deadline=None, max_examples=60)
@given(problems(), st.lists(st.integers(0, 360), max_size=8))
def test_any_batches_agree_with_the_dense_reference(problem, cuts):
    features, labels, W, b = problem
    expected, _, condition = dense(*problem)
    values = accumulate(features, labels, len(W), *sorted(cuts)).compute(W, b)
    assert set(values) == set(FORMULAS) - set(SECOND_PASS)
    allowed = tolerances(problem, condition, expected)
    for name, value in values.items():
        assert value == pytest.approx(expected[name], **allowed(name), nan_ok=True), name


@pytest.mark.parametrize("offset, sigma", [(0.0, 0.3), (1e3, 1e-2)])
def test_eight_shards_merged_equal_one_pass(offset, sigma):
    features, labels, W, b = made(20, [60, 50, 70, 3, 90], 16, offset, 10.0, sigma)
    shards = [
        accumulate(h, y, 5)
        for h, y in zip(features.tensor_split(8), labels.tensor_split(8), strict=True)
    ]
    merged = NeuralCollapse(5, 16)
    merged.merge_state(shards[0])
    merged.merge_state([shards[1].state_dict(), *shards[2:]])
    one = accumulate(features, labels, 5)
    assert torch.equal(merged.counts, one.counts)
    found, expected = merged.statistics(), one.statistics()
    scale = float(one.scatter.diagonal().max())
    torch.testing.assert_close(merged.scatter, one.scatter, rtol=1e-12, atol=1e-12 * scale)
    torch.testing.assert_close(found.means, expected.means, rtol=1e-14, atol=1e-12)
    torch.testing.assert_close(found.class_within, expected.class_within, rtol=1e-12, atol=0)
    same(merged.compute(W, b), one.compute(W, b))


def test_batch_order_and_size_do_not_matter():
    features, labels, W, b = made(21, [40, 30, 20], 8, 10.0)
    order = torch.from_numpy(np.random.default_rng(0).permutation(90))
    singles = accumulate(features[order], labels[order], 3, *range(1, 90))
    by_class = accumulate(features[labels.argsort()], labels.sort().values, 3, 40, 70)
    for nc in (singles, by_class):
        same(nc.compute(W, b), accumulate(features, labels, 3).compute(W, b))


def test_it_agrees_with_two_passes_far_from_the_origin_and_collapsed():
    features, labels, W, b = made(22, [50] * 6, 20, 1e3, 1e2, 1e-4)
    found, expected = (
        accumulate(features, labels, 6, 7, 100).compute(W, b),
        neural_collapse(features, labels, W, b).values,
    )
    same(found, {name: expected[name] for name in found}, 1e-9)


def test_a_batch_larger_than_a_chunk(monkeypatch):
    features, labels, W, b = made(23, [50] * 6, 20)
    expected = accumulate(features, labels, 6).compute(W, b)
    monkeypatch.setattr(accumulator, "CHUNK", 20 * 64)
    same(accumulate(features, labels, 6).compute(W, b), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_narrow_features_are_summed_in_float64_under_autocast_too(dtype):
    features, labels, W, b = made(24, [50] * 6, 20, 5.0)
    expected = accumulate(features.to(dtype).double(), labels, 6).compute(W, b)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        nc, wide = NeuralCollapse(6, 20), NeuralCollapse(6, 20, float64=True)
        for each in (nc, wide):
            each.update(features.to(dtype), labels.to(torch.int32))
        found, exact = nc.compute(W, b), wide.compute(W, b)
    assert set(found) == set(expected)
    for name in expected:
        # about 4e-9 is left of the means' rounding, which distances near zero show
        assert found[name] == pytest.approx(expected[name], rel=1e-6, abs=4e-8), name
    same(exact, expected)


def collapsed(K, offset, ratio, D=40, N=6_000):
    """Float32 features (N, D), labels and W: within-class by between-class variance as given."""
    rng = np.random.default_rng([K, int(offset), round(-math.log10(ratio))])
    rotation = np.linalg.qr(rng.normal(size=(D, D)))[0]
    means = 1e3 * (np.eye(K, D) - (np.arange(D) < K) / K) @ rotation
    labels = rng.integers(K, size=N)
    noise = 1e3 * math.sqrt(ratio / K) * rng.normal(size=(N, D))
    features = torch.from_numpy((means[labels] + noise + offset).astype(np.float32))
    W = torch.from_numpy(means / 1e3 + 0.05 * rng.normal(size=(K, D)))
    return features, torch.from_numpy(labels), W


@pytest.mark.parametrize("batch", [64, 6_000])
@pytest.mark.parametrize("ratio", [1.0, 1e-2, 1e-4, 1e-6, 1e-8])
@pytest.mark.parametrize("offset", [0.0, 1e3])
@pytest.mark.parametrize("K", [4, 25])
def test_float32_products_keep_five_digits(monkeypatch, K, offset, ratio, batch):
    """Against two float64 passes over the same float32 features."""
    monkeypatch.setattr(accumulator, "ROWS", 512)  # twelve chunks
    features, labels, W = collapsed(K, offset, ratio)
    expected = neural_collapse(features.double(), labels, W).values
    assert 0.5 * ratio < expected["nc1_trace_over_K"] < 2 * ratio
    found = accumulate(features, labels, K, *range(batch, 6_000, batch)).compute(W)
    for name, value in found.items():
        assert value == pytest.approx(expected[name], rel=1e-5), name


@pytest.mark.parametrize("by_class, tolerance", [(False, 1e-6), (True, 1e-5)])
def test_float32_products_bear_first_samples_far_from_all_others(monkeypatch, by_class, tolerance):
    """About means of the first samples alone, NC1 would be off by 5e-6 in random order."""
    monkeypatch.setattr(accumulator, "ROWS", 64)
    features, labels, W = collapsed(4, 10.0, 1e-6)
    features, labels = features.repeat(4, 1), labels.repeat(4)
    features[:64] += 1e3 * torch.randn(40, generator=torch.Generator().manual_seed(0))
    order = labels.argsort(stable=True) if by_class else torch.arange(24_000)
    expected = neural_collapse(features.double(), labels, W).values
    found = accumulate(features[order], labels[order], 4, *range(50, 24_000, 50)).compute(W)
    assert found["nc1_trace"] == pytest.approx(expected["nc1_trace"], rel=tolerance)
    assert found["nc1_cdnv"] == pytest.approx(expected["nc1_cdnv"], rel=tolerance)


def test_features_that_become_float64_lose_nothing():
    features, labels, W, b = made(31, [50] * 6, 20, 1e3, 1e2, 1e-4)
    nc = NeuralCollapse(6, 20)
    nc.update(features[:90].float(), labels[:90])
    nc.update(features[90:], labels[90:])
    expected = torch.cat([features[:90].float().double(), features[90:]])
    same(nc.compute(W, b), accumulate(expected, labels, 6).compute(W, b), 1e-5)


def test_the_caller_may_write_the_next_batch_into_the_same_memory():
    features, labels, W, b = made(32, [40, 30, 20], 8)
    nc, H, y = NeuralCollapse(3, 8), torch.empty(9, 8, dtype=torch.float64), torch.empty(9).long()
    for start in range(0, 90, 9):
        H[:], y[:] = features[start : start + 9], labels[start : start + 9]
        nc.update(H, y)
    same(nc.compute(W, b), accumulate(features, labels, 3).compute(W, b))


def test_reading_between_batches_changes_nothing_and_threads_are_given_back():
    features, labels, W, b = made(33, [40, 30, 20], 8)
    threads, nc = torch.get_num_threads(), NeuralCollapse(3, 8)
    torch.set_num_threads(2)
    try:
        for start in range(0, 90, 10):
            with torch.inference_mode(start % 20 == 0):
                nc.update(features[start : start + 10], labels[start : start + 10])
            assert nc.counts.sum() == start + 10
        found = nc.compute(W, b)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    same(found, accumulate(features, labels, 3).compute(W, b))


def test_a_perfect_simplex_with_one_sample_per_class():
    M = simplex(5, 8)
    values = accumulate(M, torch.arange(5), 5, 2).compute(M)
    assert values["nc1_trace"] == values["nc1_cdnv"] == 0
    assert all(abs(value) < 1e-13 for value in values.preset("guo").values())


def test_reset_state_and_loading(tmp_path):
    features, labels, W, b = made(25, [20, 30], 4)
    nc = accumulate(features, labels, 2)
    torch.save(nc.state_dict(), tmp_path / "state.pt")
    other = NeuralCollapse(2, 4)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    state = nc.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in other.state_dict().items())
    same(other.compute(W, b), nc.compute(W, b))
    nc.update(features, labels)
    assert other.counts.tolist() == state["counts"].tolist() == [20, 30] and nc.counts.tolist() == [
        40,
        60,
    ]
    nc.reset()
    nc.update(features, labels)
    same(nc.compute(W, b), other.compute(W, b))
    assert set(nc.compute()) == {
        name for name in FORMULAS if "W" not in name.replace("W_centred", "W") and "nc3" not in name
    } - set(SECOND_PASS)


@pytest.mark.parametrize("name", SECOND_PASS)
def test_what_one_pass_cannot_give_names_measure(name):
    features, labels, W, b = made(26, [20, 30], 4)
    with pytest.raises(UsageError, match=f"{name} needs a second pass.*measure"):
        accumulate(features, labels, 2).compute(W, b)[name]


def test_classes_without_samples_are_reported():
    features, labels, W, _ = made(27, [20, 30], 4)
    nc = accumulate(features, labels, 3)
    with pytest.warns(UserWarning, match=r"1 of 3 classes have no samples \(2\)"):
        found = nc.compute(torch.cat([W, W[:1]]))
    assert found["nc1_trace"] == pytest.approx(
        accumulate(features, labels, 2).compute(W)["nc1_trace"], rel=1e-12
    )


def test_misuse_is_one_sentence():
    features, labels, W, b = made(28, [4, 4], 3)
    nc = accumulate(features, labels, 2)
    for sentence, attempt in {
        "num_classes must be an integer of at least 2, not 1": lambda: NeuralCollapse(1, 3),
        "num_features must be a whole number of at least 1, not 2.5": lambda: NeuralCollapse(
            2, 2.5
        ),
        "features have width 2, but width 3 was expected": lambda: nc.update(
            features[:, :2], labels
        ),
        "labels must lie in 0..1 for 2 classes, but one of them is 2": lambda: nc.update(
            features, labels + 1
        ),
        "does not belong to 2 classes and 3 features": lambda: nc.merge_state(NeuralCollapse(3, 3)),
        "its shapes are": lambda: nc.load_state_dict({"counts": labels}),
        "a state is what state_dict gives, not NoneType": lambda: nc.load_state_dict(None),
        "a state is what state_dict gives, not dict": lambda: nc.load_state_dict({"counts": 1}),
        "a state is what state_dict gives, not int": lambda: nc.merge_state([3]),
        "others must be accumulators or their state_dicts, not None": lambda: nc.merge_state(None),
        r"W must have the shape \(2, 3\)": lambda: nc.compute(W.T),
        "at least two classes, got 0 samples of 0": lambda: NeuralCollapse(2, 3).compute(),
    }.items():
        with pytest.raises(UsageError, match=sentence):
            attempt()
    assert nc.counts.tolist() == [4, 4]
    nc.update(features[labels == 1].index_fill(0, torch.tensor([2]), math.nan), labels[labels == 1])
    with pytest.raises(UsageError, match="features of class 1 hold NaN or infinity"):
        nc.compute(W, b)


def fakes_cuda():
    """Whether this torch can pretend to have a GPU; up to 2.6 it needed a real one for that."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        try:
            return torch.empty(1).to("cuda").device.type == "cuda"
        except RuntimeError:
            return False


def fake_cuda_update():
    """One update on tensors of the device cuda without memory: reading their values raises."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        nc = NeuralCollapse(3, 4)
        nc.to("cuda")._empty = False
        for _ in range(3):
            nc.update(
                torch.empty(8, 4, device="cuda"), torch.empty(8, dtype=torch.int64, device="cuda")
            )
        return nc.scatter.device.type


def test_an_update_on_a_gpu_never_waits_for_it(monkeypatch):
    if not fakes_cuda():
        pytest.skip("this torch cannot pretend to have a GPU")
    monkeypatch.setattr(accumulator, "ROWS", 8)  # so that every update multiplies
    monkeypatch.setattr(torch.Tensor, "cpu", None)
    assert fake_cuda_update() == "cuda"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_gives_the_same():
    features, labels, W, b = made(29, [40] * 5, 16, 5.0)
    nc = accumulate(features.cuda(), labels.cuda(), 5, 50)
    same(nc.compute(W.cuda(), b.cuda()), accumulate(features, labels, 5).compute(W, b), 1e-10)
    nc.update(features.cuda(), labels.cuda() + 5)
    with pytest.raises(UsageError, match=r"200 labels lie outside 0\.\.4"):
        nc.compute()
