"""Non-negative features: the closed form against bound-constrained L-BFGS, which knows nothing of
it.
"""

import doctest
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from lsnc_core.errors import UsageError
from lsnc_core.theory import ufm, ufm_dynamics, ufm_nonnegative, ufm_objective
from lsnc_core.theory.ufm import FeatureModel, Loss

CELLS = [  # K, n, D, lambda_W, lambda_H, lambda_b, loss
    (4, 3, 8, 5e-3, 5e-3, 1e-2, Loss("ls", 0.0)),
    (4, 3, 8, 2e-2, 1e-3, 0.0, Loss("ls", 0.1)),
    (3, 2, 6, 5e-3, 5e-3, 1e-2, Loss("ls", 0.05)),
    (6, 2, 10, 1e-3, 5e-3, 1e-2, Loss("ls", 0.2)),
    (2, 3, 4, 1e-2, 5e-3, 1e-2, Loss("ls", 0.1)),
    (5, 1, 5, 5e-3, 5e-3, 1e-2, Loss("ls", 0.05)),  # as narrow as it can be
    (4, 2, 8, 5e-3, 2e-3, 1e-2, Loss("focal", 1.0)),
    (4, 2, 8, 5e-3, 2e-3, 1e-2, Loss("focal", 2.0)),
    (4, 2, 8, 5e-3, 2e-3, 1e-2, Loss("focal", 3.0)),
    (4, 2, 8, 5e-3, 2e-3, 0.0, Loss("mse", 3.0)),
]


def search(model, loss, starts, seed=7):
    """Points of least f over H >= 0 from random starts, by scipy: (starts, size)."""
    first = ufm_objective.random_starts(model, starts, seed)
    features = ufm_objective.split(model, first)[1]
    np.abs(features, out=features)
    low = np.full(model.size, -np.inf)
    ufm_objective.split(model, low)[1][:] = 0
    points = []
    for start in first:
        found = optimize.minimize(
            lambda x: ufm_objective.value_and_gradient(model, loss, x),
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=optimize.Bounds(low, np.inf),
            options={"ftol": 0, "gtol": 1e-11, "maxiter": 5000, "maxfun": 10000, "maxcor": 20},
        )
        points.append(found.x)
    return np.array(points)


def name_cell(value):
    return f"{value.name} {value.strength}" if isinstance(value, Loss) else str(value)


@pytest.mark.parametrize(
    "cell", CELLS, ids=lambda cell: " ".join(name_cell(value) for value in cell)
)
def test_bound_constrained_lbfgs_finds_the_closed_form(cell):
    *sizes, loss = cell
    model = FeatureModel(*sizes)
    K, at = model.K, ufm_nonnegative.minimiser(model, loss)
    points = search(model, loss, 6)
    values = ufm_objective.value_and_gradient(model, loss, points)[0]
    np.testing.assert_allclose(values, at.value, atol=1e-8, rtol=0)
    W, H, b = ufm_objective.split(model, points)
    own, P = ufm_objective.classes(model), np.eye(K) - 1 / K
    target = np.broadcast_to(at.margin * P[own], (6, model.N, K))
    np.testing.assert_allclose(H @ W.swapaxes(1, 2), target, atol=1e-5)
    assert np.ptp(b, axis=1).max() <= 1e-5
    if loss.name == "mse":
        np.testing.assert_allclose(b, at.bias, atol=1e-5)
    features = H.reshape(6, K, model.n, -1)
    centred = features - features.mean((1, 2), keepdims=True)
    for found, norm in ((W, at.W_norm), (H, at.feature_norm), (centred, at.h_norm)):
        np.testing.assert_allclose(np.linalg.norm(found, axis=-1), norm, atol=1e-4)
    # an orthogonal frame, and blind metrics
    gram = H @ H.swapaxes(1, 2)
    assert np.abs(gram * (own[:, None] != own)).max() <= 1e-10
    singular = np.linalg.svd(W, compute_uv=False)  # (6, K)
    np.testing.assert_allclose(singular[:, :-1], at.s_W, atol=1e-4)
    assert max(values.max() for values in ufm_dynamics.collapse(model, points)[:3]) <= 1e-5
    mean = features.mean((1, 2))
    np.testing.assert_allclose(np.linalg.norm(mean, axis=-1), at.feature_norm / K**0.5, atol=1e-4)


def test_two_classes_pay_the_root_of_two():
    model = FeatureModel(2, 3, 4, 1e-2, 5e-3)
    assert ufm_nonnegative.any_sign(model).eps == pytest.approx(np.sqrt(2) * model.eps, rel=1e-14)


@pytest.mark.parametrize("delta", [0.0, 0.3])
@pytest.mark.parametrize("level", [0.98, 1.02])
def test_the_zero_solution_begins_at_the_threshold(delta, level):
    eps_plus = (level - delta) / 4
    decay = eps_plus / np.sqrt(2) * (3 / 4) ** 0.5  # n = 2 and K/(K-1) = 4/3
    model, loss = FeatureModel(4, 2, 8, decay, decay, 1e-2), Loss("ls", delta)
    at = ufm_nonnegative.minimiser(model, loss)
    points = search(model, loss, 6)
    # some starts end in the local minimum of the test below
    lowest = points[ufm_objective.value_and_gradient(model, loss, points)[0].argmin()]
    W, H, _ = ufm_objective.split(model, lowest)
    if level > 1:
        assert at.margin == at.feature_norm == 0 and at.value == pytest.approx(np.log(4))
        assert max(np.abs(W).max(), np.abs(H).max()) <= 1e-5
    else:
        # features of any sign have a smaller eps and are further from their threshold
        assert 0 < at.margin < ufm.minimiser(model, loss).margin
        np.testing.assert_allclose(np.linalg.norm(W, axis=-1), at.W_norm, atol=1e-4)
        assert at.W_norm > 0.1


def test_a_class_without_features_can_be_a_local_minimum():
    """First and second order: its features cannot grow, and all else only rotates."""
    model, loss = FeatureModel(4, 2, 4, 1e-2, 1e-2, 1e-2), Loss("ls", 0.0)
    points = search(model, loss, 30)
    values = ufm_objective.value_and_gradient(model, loss, points)[0]
    end = points[values.argmax()]
    assert values.max() > ufm_nonnegative.minimiser(model, loss).value + 1e-2
    H = ufm_objective.split(model, end)[1]
    rows = np.flatnonzero((H == 0).all(1))
    assert len(rows) == 2 and rows[0] // 2 == rows[1] // 2  # both samples of one class
    gradient = ufm_objective.value_and_gradient(model, loss, end)[1]
    held = np.zeros(model.size, dtype=bool)
    ufm_objective.split(model, held)[1][:] = H == 0
    assert gradient[held].min() > 1e-2 and np.abs(gradient[~held]).max() < 1e-7
    moves = ufm_objective.dense_hessian(model, loss, end)[np.ix_(~held, ~held)]
    eigenvalues = np.linalg.eigvalsh(moves)
    assert np.abs(eigenvalues[:6]).max() < 1e-7  # the rotations of four dimensions
    assert eigenvalues[6] > 1e-3


SIZES = {
    "K": st.integers(2, 200),
    "n": st.integers(1, 50),
    "W": st.floats(1e-6, 1e-2),
    "H": st.floats(1e-6, 1e-2),
    "delta": st.floats(0, 0.9),
}


@settings(deadline=None)
@given(**SIZES)
def test_the_formulas_written_out(K, n, W, H, delta):
    """Norms and value as sums over a minimiser's entries, and less margin than with any sign."""
    model, loss = FeatureModel(K, n, K, W, H), Loss("ls", delta)
    at, free = ufm_nonnegative.minimiser(model, loss), ufm.minimiser(model, loss)
    eps_plus = np.sqrt(n * W * H * K / (K - 1))
    if delta + K * eps_plus < 1:
        margin = np.log(K / (delta + K * eps_plus) - K + 1)
        assert at.margin == pytest.approx(margin, rel=1e-9, abs=1e-12)
    assert at.margin < free.margin or free.margin == 0
    assert at.value > free.value or at.margin == 0
    a = float(at.margin)
    root = (H * n * K / (W * (K - 1))) ** 0.25
    w_norm, h_norm = np.sqrt(a * (K - 1) / K) * root, np.sqrt(a) / root
    assert (at.W_norm, at.feature_norm) == pytest.approx((w_norm, h_norm), rel=1e-12)
    assert at.h_norm == pytest.approx(h_norm * np.sqrt((K - 1) / K), rel=1e-12)
    z = a * (np.eye(K)[0] - 1 / K)
    loss_here = np.log(np.exp(z).sum()) - (1 - delta) * z[0] - delta * z.mean()
    decays = K / 2 * (W * w_norm**2 + n * H * h_norm**2)
    assert at.value == pytest.approx(loss_here + decays, rel=1e-10)


@settings(deadline=None)
@given(**{name: SIZES[name] for name in ("n", "W", "H")})
def test_many_classes_pay_less_than_few(n, W, H):
    ratios = []
    for K in (2, 3, 10, 100, 10_000):
        model = FeatureModel(K, n, K, W, H)
        ratios.append(ufm_nonnegative.any_sign(model).eps / model.eps)
    assert ratios == sorted(ratios, reverse=True) and 1 < ratios[-1] < 1 + 1e-4


def test_weight_decay_that_vanishes_leaves_the_limit_of_any_sign():
    model = FeatureModel(10, 1, 10, 1e-9, 1e-9)
    at = ufm_nonnegative.minimiser(model, Loss("ls", 0.05))
    assert at.margin == pytest.approx(np.log((1 - 0.05 * 0.9) / 0.005), abs=1e-5)


def test_norms_at_the_weight_decays_of_the_released_code():
    """Against the table that was computed before this module was written."""
    code, loss = FeatureModel(10, 5000, 512, 1e-3, 1e-6, 1e-2), Loss("ls", np.array([0, 0.05, 0.1]))
    at = ufm_nonnegative.minimiser(code, loss)
    np.testing.assert_allclose(at.margin, [6.029, 4.844, 4.276], atol=5e-4)
    np.testing.assert_allclose(at.W_norm, [3.5762, 3.2054, 3.0116], atol=5e-5)
    np.testing.assert_allclose(at.h_norm, [1.5173, 1.3600, 1.2777], atol=5e-5)
    np.testing.assert_allclose(at.feature_norm, [1.5993, 1.4335, 1.3468], atol=5e-5)
    found = doctest.testmod(ufm_nonnegative)
    assert found.failed == 0 and found.attempted >= 4


def test_a_width_below_K_cannot_reach_the_value_and_is_refused():
    model, loss = FeatureModel(4, 2, 4, 5e-3, 5e-3, 1e-2), Loss("ls", 0.05)
    narrow = replace(model, D=3)
    values = ufm_objective.value_and_gradient(narrow, loss, search(narrow, loss, 6))[0]
    assert values.min() > ufm_nonnegative.minimiser(model, loss).value + 1e-3
    with pytest.raises(UsageError, match="D of at least K = 4, one feature for each class, not 3"):
        ufm_nonnegative.minimiser(narrow, loss)


def test_mse_with_weight_decay_of_the_bias_goes_below_the_form_and_is_refused():
    model, loss = FeatureModel(4, 2, 8, 5e-3, 2e-3, 1e-4), Loss("mse", 3.0)
    form = ufm.minimiser(ufm_nonnegative.any_sign(model), loss).value
    values = ufm_objective.value_and_gradient(model, loss, search(model, loss, 3))[0]
    assert values.max() < form - 1e-6
    with pytest.raises(UsageError, match=r"needs lambda_b = 0, not 0\.0001"):
        ufm_nonnegative.minimiser(model, loss)


def test_a_model_without_weight_decay_is_refused():
    with pytest.raises(UsageError, match=r"no minimiser, and lambda_W is 0\.0"):
        ufm_nonnegative.minimiser(FeatureModel(3, 2, 4, 0.0, 1e-3), Loss("ls", 0.1))
