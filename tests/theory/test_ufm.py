"""The feature model's objective and minimisers against autograd, scipy and the definitions."""

import doctest
import importlib
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, special

from lsnc_core import losses
from lsnc_core.errors import UsageError
from lsnc_core.theory import ufm, ufm_dynamics, ufm_landscape, ufm_objective, ufm_vectors
from lsnc_core.theory.ufm import FeatureModel, Loss

LOSSES = [
    Loss("ls", 0.0),
    Loss("ls", 0.3),
    Loss("focal", 0.5),
    Loss("focal", 1.0),
    Loss("focal", 3.0),
    Loss("mse", 15.0),
]
NAMES = [f"{loss.name} {loss.strength}" for loss in LOSSES]
MODULES = ("ufm", "ufm_objective", "ufm_spectra", "ufm_vectors", "ufm_dynamics", "ufm_landscape")


def torch_objective(model, loss, point):
    """f with torch and the package's losses, for autograd: independent of ufm_objective."""
    K, D, s = model.K, model.D, float(loss.strength)
    W, H, b = point[: K * D].reshape(K, D), point[K * D : -K].reshape(model.N, D), point[-K:]
    Z, Y = H @ W.T + b, torch.eye(K, dtype=torch.float64).repeat_interleave(model.n, 0)
    each = {
        "ls": lambda: losses.cross_entropy(Z, (1 - s) * Y + s / K),
        "focal": lambda: losses.focal(Z, Y, s),
        "mse": lambda: losses.mse(Z, Y, s),
    }[loss.name]()
    decays = (
        model.lambda_W * W.square().sum()
        + model.lambda_H * H.square().sum()
        + model.lambda_b * b.square().sum()
    )
    return each.mean() + decays / 2


def hessian(model, loss, x):
    return torch.autograd.functional.hessian(
        lambda point: torch_objective(model, loss, point), torch.tensor(x)
    ).numpy()


@pytest.mark.parametrize("name", MODULES)
def test_doctests(name):
    found = doctest.testmod(importlib.import_module(f"lsnc_core.theory.{name}"))
    assert found.failed == 0 and (found.attempted or name in ("ufm_vectors", "ufm_dynamics"))


@pytest.mark.parametrize("loss", LOSSES, ids=NAMES)
def test_objective_gradient_and_hessian_are_autograds(loss):
    model = FeatureModel(K=4, n=3, D=5, lambda_W=2e-2, lambda_H=3e-3, lambda_b=1e-2)
    x = np.random.default_rng(0).standard_normal((2, model.size))
    values, gradients = ufm_objective.value_and_gradient(model, loss, x)
    assert np.array_equal(ufm_objective.gradient(model, loss, x), gradients)
    for row in range(2):
        point = torch.tensor(x[row], requires_grad=True)
        value = torch_objective(model, loss, point)
        value.backward()
        assert values[row] == pytest.approx(value.item(), rel=1e-13)
        np.testing.assert_allclose(gradients[row], point.grad.numpy(), atol=1e-13)
        np.testing.assert_allclose(
            ufm_objective.dense_hessian(model, loss, x[row]),
            hessian(model, loss, x[row]),
            atol=1e-13,
        )


def test_a_batch_is_its_rows_each_with_its_own_strength():
    model = FeatureModel(K=3, n=2, D=4, lambda_W=1e-2, lambda_H=1e-2, lambda_b=1e-2)
    x, v = np.random.default_rng(1).standard_normal((2, 5, model.size))
    for name, strengths in (
        ("ls", np.linspace(0, 0.8, 5)),
        ("focal", np.linspace(0, 4, 5)),
        ("mse", np.linspace(1, 9, 5)),
    ):
        together = ufm_objective.value_and_gradient(model, Loss(name, strengths), x)
        products = ufm_objective.hessian_product(model, Loss(name, strengths), x, v)
        for row, strength in enumerate(strengths):
            value, gradient = ufm_objective.value_and_gradient(model, Loss(name, strength), x[row])
            assert together[0][row] == pytest.approx(value, rel=1e-13)
            np.testing.assert_allclose(together[1][row], gradient, atol=1e-13)
            np.testing.assert_allclose(
                products[row],
                ufm_objective.hessian_product(model, Loss(name, strength), x[row], v[row]),
                atol=1e-13,
            )


def test_extreme_logits_stay_finite():
    own = np.array([0, 0])
    Z = np.array([[800.0, 0.0, 0.0], [-800.0, 0.0, 0.0]])
    given = Z.copy()
    for loss in LOSSES:
        values, gradients = ufm_objective.data_loss(loss, Z, own)
        assert np.isfinite(values).all() and np.isfinite(gradients).all()
        assert np.array_equal(Z, given)
    assert ufm_objective.data_loss(Loss("ls", 0.0), Z, own)[0].tolist() == pytest.approx(
        [0.0, 800 + np.log(2)]
    )
    assert ufm_objective.data_loss(Loss("focal", 0.5), Z[:1], own[:1])[0] == 0


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("logits", [[40.0, 0, 0], [800.0, 0, 0], [-800.0, 0, 0], [20.0, 0, 1]])
def test_the_focal_loss_has_a_curvature_where_a_sample_is_fitted_to_the_last_bit(gamma, logits):
    mpmath = pytest.importorskip("mpmath")
    Z, own = np.array([logits]), np.array([0])
    found = ufm_objective.curvature_product(
        Loss("focal", gamma), Z[None], own, np.eye(3)[:, None, :]
    )[:, 0]

    def loss(*z):
        low = max(z)
        p = mpmath.exp(z[0] - low) / sum(mpmath.exp(one - low) for one in z)
        return -((1 - p) ** gamma) * mpmath.log(p) if gamma else -mpmath.log(p)

    exact = np.empty((3, 3))
    with mpmath.workdps(900):
        for i, j in itertools.product(range(3), repeat=2):
            order = np.eye(3, dtype=int)[i] + np.eye(3, dtype=int)[j]
            step = mpmath.mpf(10) ** -300
            exact[i, j] = mpmath.diff(loss, logits, tuple(map(int, order)), h=step)
    np.testing.assert_allclose(found, exact, rtol=1e-7, atol=1e-14)


def test_points_are_views_and_come_back():
    model = FeatureModel(K=3, n=2, D=4, lambda_W=1, lambda_H=1)
    x = np.arange(2.0 * model.size).reshape(2, -1)
    W, H, b = ufm_objective.split(model, x)
    assert (W.shape, H.shape, b.shape) == ((2, 3, 4), (2, 6, 4), (2, 3)) and W.base is not None
    np.testing.assert_array_equal(ufm_objective.join(W, H, b), x)
    few, many = (
        ufm_objective.random_starts(model, 3, 5, 0.1),
        ufm_objective.random_starts(model, 7, 5, 0.1),
    )
    np.testing.assert_array_equal(few, many[:3])
    assert (few[:, -3:] == 0).all() and np.abs(few[:, :-3]).std() == pytest.approx(0.06, rel=0.3)


# --------------------------------------------------------------------------------------- minimisers

GRID = [  # K, n, D, lambda_W, lambda_H, lambda_b, delta
    (2, 1, 1, 5e-3, 5e-3, 1e-2, 0.0),
    (2, 3, 4, 1e-2, 2e-3, 1e-3, 0.2),
    (3, 2, 2, 5e-3, 1e-3, 1e-2, 0.05),
    (3, 2, 6, 2e-3, 2e-3, 0.0, 0.0),
    (4, 2, 3, 1e-2, 5e-3, 1e-2, 0.5),
    (4, 5, 16, 5e-3, 1e-3, 1e-2, 0.05),
    (5, 1, 7, 4e-2, 1e-2, 1e-2, 0.1),
    (10, 2, 9, 1e-3, 2.5e-3, 1e-2, 0.05),
    (10, 2, 12, 5e-3, 2.5e-3, 1e-2, 0.2),
    (10, 2, 12, 1e-3, 2.5e-3, 1e-2, 0.0),
    (6, 4, 5, 1e-3, 1e-3, 1e-2, 0.8),
    (20, 1, 22, 1e-3, 5e-3, 1e-2, 0.1),
    (4, 2, 6, 0.09, 0.09, 1e-2, 0.3),  # just short of the zero solution
    (4, 2, 6, 0.13, 0.13, 1e-2, 0.3),  # beyond it
]


def scipys(model, loss, start):
    return optimize.minimize(
        lambda x: ufm_objective.value_and_gradient(model, loss, x),
        start,
        jac=True,
        method="L-BFGS-B",
        options={"ftol": 0, "gtol": 1e-11, "maxiter": 5000, "maxfun": 10000, "maxcor": 20},
    )


@pytest.mark.parametrize("cell", GRID, ids=str)
def test_lbfgs_from_twenty_random_starts_finds_the_closed_form(cell):
    K, n, D, *decays, delta = cell
    model, loss = FeatureModel(K, n, D, *decays), Loss("ls", delta)
    at = ufm.minimiser(model, loss)
    own = np.arange(model.N) // n
    ideal = (at.margin * (np.eye(K) - 1 / K))[own]
    for start in ufm_objective.random_starts(model, 20, seed=7):
        found = scipys(model, loss, start)
        W, H, b = ufm_objective.split(model, found.x)
        assert abs(found.fun - at.value) <= 1e-12
        np.testing.assert_allclose(H @ W.T, ideal, atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(W, axis=1), at.W_norm, atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(H, axis=1), at.h_norm, atol=1e-6)
        assert np.ptp(b) <= 1e-6


@pytest.mark.parametrize(
    "loss", [Loss("focal", 1.0), Loss("focal", 3.0), Loss("mse", 15.0)], ids=str
)
@pytest.mark.parametrize("lambda_b", [0.0, 1e-4])
def test_other_losses_against_lbfgs(loss, lambda_b):
    model = FeatureModel(K=5, n=2, D=8, lambda_W=2e-3, lambda_H=2e-3, lambda_b=lambda_b)
    at = ufm.minimiser(model, loss)
    for start in ufm_objective.random_starts(model, 5, seed=1):
        found = scipys(model, loss, start)
        W, H, b = ufm_objective.split(model, found.x)
        assert abs(found.fun - at.value) <= 1e-12 * max(1, at.value)
        np.testing.assert_allclose(
            # f is flat at its minimum: values alike to 1e-12 leave points apart by its root
            H @ W.T,
            (at.margin * (np.eye(5) - 1 / 5))[np.repeat(range(5), 2)],
            atol=1e-5,
        )
        if loss.name == "mse":
            np.testing.assert_allclose(b, at.bias, atol=1e-5)


def test_known_margins_and_norms():
    model = FeatureModel(K=5, n=2, D=8, lambda_W=2e-3, lambda_H=2e-3)
    cases = [
        (Loss("ls", 0.0), 5.856656),
        (Loss("ls", 0.1), 3.683993),
        (Loss("focal", 1.0), 3.884902),
        (Loss("focal", 3.0), 2.557978),
    ]
    for loss, margin in [*cases, (Loss("mse", 15.0), 14.964645)]:
        assert ufm.minimiser(model, loss).margin == pytest.approx(margin, abs=5e-7)
    code = ufm.minimiser(
        FeatureModel(10, 5000, 512, 1e-3, 1e-6, 1e-2), Loss("ls", np.array([0, 0.05, 0.1]))
    )
    assert [f"{value:.4f}" for value in code.W_norm] == ["3.4987", "3.1278", "2.9371"]
    assert [f"{value:.4f}" for value in code.h_norm] == ["1.5647", "1.3988", "1.3135"]


@settings(deadline=None, max_examples=200)
@given(
    K=st.integers(2, 200),
    delta=st.floats(0, 0.99),
    n=st.integers(1, 50),
    W=st.floats(1e-6, 1),
    H=st.floats(1e-6, 1),
    seed=st.integers(0, 9),
)
def test_the_minimiser_is_stationary_and_its_numbers_agree(K, delta, n, W, H, seed):
    model = FeatureModel(K, n, K - 1, W, H)
    at, eps = ufm.minimiser(model, Loss("ls", delta)), model.eps
    assert at.p_on + (K - 1) * at.p_off == pytest.approx(1, abs=1e-12)
    if delta + K * eps < 1:
        assert at.margin > 0 and at.p_off == pytest.approx(delta / K + eps, rel=1e-9)
    else:
        assert at.margin == 0 and at.value == pytest.approx(np.log(K))
    z = at.margin * (np.eye(K)[0] - 1 / K)
    written_out = np.log(np.exp(z).sum()) - (1 - delta) * z[0] - delta * z.mean()
    decays = K / 2 * (W * at.W_norm**2 + n * H * at.h_norm**2)
    assert at.value == pytest.approx(written_out + decays, rel=1e-12)


@settings(deadline=None)
@given(
    K=st.integers(2, 100),
    delta=st.floats(0, 0.98),
    more=st.floats(1e-4, 0.01),
    eps=st.floats(1e-12, 0.1),
)
def test_the_margin_falls_with_smoothing_and_weight_decay(K, delta, more, eps):
    here = ufm.margin(delta, eps, K)
    assert ufm.margin(delta + more, eps, K) < here or here == 0
    assert ufm.margin(delta, eps * (1 + more), K) < here or here == 0


def test_limits_of_vanishing_weight_decay():
    assert ufm.margin(0.0, 0.0, 10) == np.inf
    for delta in (0.01, 0.3):
        assert ufm.margin(delta, 1e-15, 10) == pytest.approx(ufm.margin(delta, 0, 10), abs=1e-11)
        assert ufm.margin(delta, 0, 10) == pytest.approx(
            np.log((1 - delta + delta / 10) / (delta / 10))
        )
    assert ufm.margin(0.0, 1e-12, 10) == pytest.approx(np.log(1e12), abs=1e-10)


def test_a_width_below_K_minus_1_cannot_reach_the_value():
    wide, narrow = (FeatureModel(4, 2, D, 5e-3, 5e-3, 1e-2) for D in (3, 2))
    value = ufm.minimiser(wide, Loss("ls", 0.05)).value
    lowest = min(
        scipys(narrow, Loss("ls", 0.05), start).fun
        for start in ufm_objective.random_starts(narrow, 5, 0)
    )
    assert lowest > value + 1e-3


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 3.0, 10.0])
@pytest.mark.parametrize("K", [2, 3, 10, 100])
def test_the_focal_margin_is_the_lowest_of_a_fine_search(gamma, K):
    loss, grid = Loss("focal", gamma), np.linspace(0, 40, 40001)
    for eps in (1e-6, 1e-4, 1e-3, 1e-2, 5e-2, 0.2):
        a = float(ufm.minimiser(FeatureModel(K, 1, K, eps, eps), loss).margin)
        p = 1 / (1 + (K - 1) * np.exp(-grid))
        curve = -((1 - p) ** gamma) * np.log(p) + (K - 1) * eps * grid
        assert float(ufm.sample_loss(loss, a, K) + (K - 1) * eps * a) <= curve.min() + 1e-12
        assert abs(a - grid[curve.argmin()]) <= 2e-3 or abs(np.sort(curve)[0] - curve.min()) < 1e-12
    if gamma == 0:
        assert ufm.minimiser(FeatureModel(K, 1, K, 1e-4, 1e-4), loss).margin == pytest.approx(
            ufm.margin(0, 1e-4, K), abs=1e-9
        )


def test_the_focal_minimiser_changes_sides_where_two_margins_are_equally_good():
    tie, loss = (
        0.01175211559,
        Loss("focal", 3.0),
    )  # K = 100; on both sides a far local minimum exists
    less, more = (
        ufm.minimiser(FeatureModel(100, 1, 99, eps, eps), loss).margin
        for eps in (tie * (1 - 1e-4), tie * (1 + 1e-4))
    )
    assert less > 2 and more == 0
    assert ufm.focal_far_margin(3.0, tie * (1 + 1e-4), 100) > 2


def test_the_convex_region_of_focal_loss():
    gammas = [0.5, 1, 1.5, 2, 2.5, 3, 4, 5, 10, 20]
    known = [0.0177, 0.0432, 0.0541, 0.0578, 0.0584, 0.0575, 0.0541, 0.0502, 0.0357, 0.0225]
    np.testing.assert_allclose(ufm.focal_convex_from(np.array(gammas)), known, atol=5e-5)
    assert ufm.focal_convex_from(0.0) == 0 and 0 < ufm.focal_convex_from(1e-2) < 1e-40
    for gamma in gammas:
        edge = ufm.focal_convex_from(gamma)
        for p, convex in ((edge * 0.98, False), (edge * 1.02, True), (min(0.9, edge * 5), True)):
            for z in np.random.default_rng(0).standard_normal((3, 5)):
                z[0] = np.log(p / (1 - p)) + np.log(np.exp(z[1:]).sum())
                Y = torch.eye(5, dtype=torch.float64)[:1]
                whole = torch.autograd.functional.hessian(
                    lambda t, Y=Y, g=gamma: losses.focal(t[None], Y, g).sum(), torch.tensor(z)
                ).numpy()
                assert (np.linalg.eigvalsh(whole)[0] > -1e-12) == convex


@pytest.mark.parametrize(("K", "D"), [(2, 1), (2, 5), (3, 2), (6, 5), (6, 9)])
@pytest.mark.parametrize("loss", LOSSES, ids=NAMES)
def test_a_constructed_minimiser_is_one(K, D, loss):
    model = FeatureModel(K, 3, D, 4e-3, 1e-3, 1e-5)
    at, x = ufm.minimiser(model, loss), ufm.construct(model, loss, seed=3)
    value, gradient = ufm_objective.value_and_gradient(model, loss, x)
    assert value == pytest.approx(at.value, rel=1e-13) and np.abs(gradient).max() < 1e-13
    W, H, _ = ufm_objective.split(model, x)
    P = np.eye(K) - 1 / K
    np.testing.assert_allclose(W @ W.T, at.s_W**2 * P, atol=1e-12)
    np.testing.assert_allclose(W @ H[::3].T, at.margin * P, atol=1e-12)
    np.testing.assert_allclose(H[::3], np.sqrt(4e-3 / 3e-3) * W, atol=1e-12)
    plain = ufm_objective.split(model, ufm.construct(model, loss))[0]
    assert (plain[:, K - 1 :] == 0).all() and (D == 1 or not np.allclose(plain, W))


# ----------------------------------------------------------------------------------------- refusals

GOOD = {"K": 4, "n": 2, "D": 5, "lambda_W": 1e-3, "lambda_H": 1e-3}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"K": 1}, "number of classes K must be an integer of at least 2, not 1"),
        ({"n": [3, 3, 2, 4]}, r"balanced classes, not \[3, 3, 2, 4\]"),
        ({"n": 0}, "n of the feature model must be an integer of at least 1, not 0"),
        ({"D": 2.5}, "D of the feature model must be an integer of at least 1, not 2.5"),
        (
            {"lambda_W": -1e-3},
            "weight decay lambda_W must be a finite number of at least 0, not -0.001",
        ),
        ({"lambda_H": float("nan")}, "weight decay lambda_H .* not nan"),
        ({"lambda_b": "1"}, "weight decay lambda_b .* not '1'"),
    ],
)
def test_a_model_refuses_impossible_sizes(change, words):
    with pytest.raises(UsageError, match=words):
        FeatureModel(**{**GOOD, **change})


@pytest.mark.parametrize(
    ("name", "strength", "words"),
    [
        ("ls", 1.0, r"smoothing strength delta must be in \[0, 1\), not 1.0"),
        ("ls", np.array([0.1, -0.2]), r"in \[0, 1\), not -0.2"),
        ("ls", float("nan"), "not nan"),
        ("focal", -1, "gamma must be in \\[0, 1e100\\], not -1.0"),
        ("mse", 0, "M must be finite and above 0, not 0.0"),
        ("ce", 0, "one of ls, focal, mse, not 'ce'"),
        ("ls", "0.1x", "must be a real number"),
    ],
)
def test_a_loss_refuses_impossible_strengths(name, strength, words):
    with pytest.raises(UsageError, match=words):
        Loss(name, strength)


def test_strengths_that_do_not_fit_are_refused():
    model, two = FeatureModel(**GOOD), Loss("ls", np.array([0.1, 0.2]))
    x = np.zeros((2, 3, model.size))
    fitting = Loss("ls", np.full((2, 1), 0.1))
    assert ufm_objective.value_and_gradient(model, fitting, x)[0].shape == (2, 3)
    for call in (ufm_objective.value_and_gradient, ufm_objective.gradient):
        for shape in ((), (3,), (2, 3)):
            with pytest.raises(UsageError, match=r"broadcast over points .* not \(2,\)"):
                call(model, two, np.zeros((*shape, model.size)))
    with pytest.raises(UsageError, match=r"shapes of x and v .* \(2, 3, 64\) and \(2, 64\)"):
        ufm_objective.hessian_product(model, Loss("ls", 0.1), x, x[0, :2])
    for call in (
        lambda: ufm.construct(model, two),
        lambda: ufm_landscape.critical_points(model, two, 1),
        lambda: ufm_vectors.operator(model, two, x[0, 0]),
    ):
        with pytest.raises(UsageError, match="one strength here, not"):
            call()
    with pytest.raises(UsageError, match=r"at one point \(size,\), not \(1, 64\)"):
        ufm_objective.dense_hessian(model, Loss("ls", 0.1), x[0, :1])
    with pytest.raises(UsageError, match=r"Points must be \(R, 64\), not \(64,\)"):
        ufm_dynamics.collapse(model, x[0, 0])
    with pytest.raises(UsageError, match=r"shapes of delta and eps .* \(2,\) and \(3,\)"):
        ufm.margin(np.array([0.1, 0.2]), np.full(3, 0.1), 4)


def test_models_without_a_closed_form_are_refused():
    loss = Loss("ls", 0.1)
    for change, words in (
        ({"D": 2}, "D of at least K - 1 = 3, not 2"),
        ({"lambda_W": 0.0}, "no minimiser, and lambda_W is 0.0"),
    ):
        for call in (ufm.minimiser, ufm.construct):
            with pytest.raises(UsageError, match=words):
                call(FeatureModel(**{**GOOD, **change}), loss)
    with pytest.raises(UsageError, match="lambda_b times the bias to be at most eps"):
        ufm.minimiser(FeatureModel(**GOOD, lambda_b=1.0), Loss("mse", 15.0))
    with pytest.raises(UsageError, match=r"eps must be at least 0, not -1\.0"):
        ufm.margin(0.1, -1.0, 3)
    with pytest.raises(UsageError, match=r"has 28 entries \(W, H, b\), not \(7,\)"):
        ufm_objective.split(FeatureModel(4, 2, 2, 0, 0), np.zeros(7))
    with pytest.raises(UsageError, match="starts must be a whole number of at least 1, not 0"):
        ufm_objective.random_starts(FeatureModel(**GOOD), 0, 0)


@pytest.mark.parametrize("loss", [Loss("ls", 0.1), Loss("focal", 3.0)], ids=["ls", "focal"])
@pytest.mark.parametrize("far", [1.0, 100.0, 2000.0])
def test_samples_whose_logits_are_far_apart_keep_their_losses(loss, far):
    """A sample far below the others must not vanish, whatever the shift of its exponentials."""
    Z = np.random.default_rng(0).standard_normal((2, 4, 3)) + far * np.array([0, -1, 1, 0])[:, None]
    own = np.array([0, 1, 2, 0])
    log_q = special.log_softmax(Z, axis=-1)
    log_p = log_q[:, np.arange(4), own]  # (2, 4)
    expected = -((1 - np.exp(log_p)) ** 3) * log_p
    if loss.name == "ls":
        expected = -(0.9 * log_p + 0.1 * log_q.mean(-1))
    values, gradients = ufm_objective.data_loss(loss, Z, own)
    np.testing.assert_allclose(values, expected, rtol=1e-12)
    np.testing.assert_allclose(gradients.sum(-1), 0, atol=1e-12)
