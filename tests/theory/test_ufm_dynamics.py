"""Batched minimisation, trajectories, collapse metrics and landscape of the feature model."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from test_ufm import LOSSES, NAMES, torch_objective

from lsnc_core.errors import UsageError
from lsnc_core.theory import ufm, ufm_dynamics, ufm_landscape, ufm_objective, ufm_spectra
from lsnc_core.theory.ufm import FeatureModel, Loss


def test_batched_lbfgs_reaches_the_closed_form_from_every_start_and_strength():
    model = FeatureModel(10, 2, 12, 1e-3, 2.5e-3, 1e-2)
    delta = np.repeat([0, 0.05, 0.1, 0.2, 0.3, 0.4], 20)
    x = np.tile(ufm_objective.random_starts(model, 20, 0), (6, 1))
    found, best = (
        ufm_dynamics.minimise(model, Loss("ls", delta), x),
        ufm.minimiser(model, Loss("ls", delta)),
    )
    np.testing.assert_allclose(found.values, best.value, atol=1e-14)
    assert (found.gradients <= 1e-10).all() and (found.iterations < 300).all()
    W, H, _ = ufm_objective.split(model, found.points)
    ideal = (np.eye(10) - 1 / 10).repeat(2, 0)
    np.testing.assert_allclose(H @ W.swapaxes(1, 2), best.margin[:, None, None] * ideal, atol=1e-6)
    quick = ufm_dynamics.minimise(model, Loss("ls", delta), x, tolerance=1e-6)
    assert (
        quick.values <= best.value * (1 + 1e-6)
    ).all() and quick.iterations.max() < found.iterations.min() + 60


@pytest.mark.parametrize("loss", LOSSES, ids=NAMES)
def test_batched_lbfgs_finds_what_scipy_finds(loss):
    model = FeatureModel(4, 2, 6, 2e-3, 3e-3, 1e-5)
    x = ufm_objective.random_starts(model, 4, 3, 2.0)
    found = ufm_dynamics.minimise(model, loss, x)
    for row in range(4):
        theirs = optimize.minimize(
            lambda p: ufm_objective.value_and_gradient(model, loss, p),
            x[row],
            jac=True,
            options={"gtol": 1e-9},
        )
        assert found.values[row] == pytest.approx(theirs.fun, rel=1e-10)
        value, gradient = ufm_objective.value_and_gradient(model, loss, found.points[row])
        assert value == found.values[row] and np.abs(gradient).max() == pytest.approx(
            found.gradients[row], abs=1e-15
        )


def test_a_row_does_not_depend_on_its_neighbours(monkeypatch):
    model = FeatureModel(4, 2, 5, 5e-3, 5e-3, 1e-2)
    x, delta = ufm_objective.random_starts(model, 12, 0), np.linspace(0, 0.5, 12)
    together = ufm_dynamics.minimise(model, Loss("ls", delta), x)
    curves = ufm_dynamics.trajectories(model, Loss("ls", delta), x, [3, 10])
    monkeypatch.setattr(ufm_dynamics, "BLOCK_ENTRIES", 2 * model.size)  # other blocks
    again = ufm_dynamics.minimise(model, Loss("ls", delta), x)
    np.testing.assert_allclose(again.values, together.values, rtol=1e-13)
    assert np.abs(again.iterations - together.iterations).max() <= 1  # if rounding differs
    for row in (0, 7):
        alone = ufm_dynamics.trajectories(
            model, Loss("ls", float(delta[row])), x[row : row + 1], [3, 10]
        )
        np.testing.assert_allclose(alone.loss[:, 0], curves.loss[:, row], rtol=1e-13)
        np.testing.assert_allclose(alone.nc1[:, 0], curves.nc1[:, row], rtol=1e-10)
    np.testing.assert_array_equal(
        x, ufm_objective.random_starts(model, 12, 0)
    )  # the starts are left as they were


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_descent_is_torchs_sgd(momentum):
    model, loss, step = FeatureModel(3, 2, 4, 1e-2, 1e-3, 1e-2), Loss("ls", 0.1), 0.2
    x = ufm_objective.random_starts(model, 1, 4)
    point = torch.tensor(x[0], requires_grad=True)
    scale = torch.ones(model.size, dtype=torch.float64)
    scale[12:-3] *= model.N
    velocity = torch.zeros_like(point)
    for _ in range(25):
        (gradient,) = torch.autograd.grad(torch_objective(model, loss, point), point)
        velocity = momentum * velocity + gradient
        point = (point - step * scale * velocity).detach().requires_grad_()
    found = ufm_dynamics.trajectories(model, loss, x, [0, 25], step=step, momentum=momentum)
    np.testing.assert_allclose(found.end[0], point.detach().numpy(), atol=1e-12)
    assert found.loss[0, 0] == pytest.approx(ufm_objective.value_and_gradient(model, loss, x)[0][0])
    assert found.loss[1, 0] == pytest.approx(torch_objective(model, loss, point).item())


def test_lbfgs_trajectories_end_where_minimise_ends_and_stay_there():
    model, loss = FeatureModel(4, 2, 6, 2e-3, 2e-3), Loss("focal", 3.0)
    x = ufm_objective.random_starts(model, 5, 0)
    run = ufm_dynamics.trajectories(model, loss, x, [0, 5, 150, 300], method="lbfgs")
    assert (np.diff(run.loss, axis=0) <= 1e-13).all()
    np.testing.assert_allclose(run.loss[-1], ufm.minimiser(model, loss).value, rtol=1e-12)
    assert (
        (run.error[-1] == 0).all()
        and (run.nc1[-1] < 1e-12).all()
        and (run.nc2[-1] < 1e-5).all()
        and (run.nc3[-1] < 1e-5).all()
    )


def test_outside_the_closed_forms_there_is_a_numerical_solution():
    loss = Loss("ls", 0.05)
    wide, narrow = (FeatureModel(5, 2, D, 5e-3, 5e-3, 1e-2) for D in (4, 3))
    least = ufm.minimiser(wide, loss).value
    found = ufm_dynamics.minimise(narrow, loss, ufm_objective.random_starts(narrow, 8, 0))
    assert found.values.min() > least + 1e-3 and found.gradients.max() < 1e-9
    free = FeatureModel(
        3, 2, 4, 0.0, 0.0
    )  # no weight decay: the limit's margin, on a set of minimisers
    found = ufm_dynamics.minimise(free, Loss("ls", 0.2), ufm_objective.random_starts(free, 3, 0))
    Z = ufm_objective.logits(free, found.points)
    np.testing.assert_allclose(Z[:, 0, 0] - Z[:, 0, 1], ufm.margin(0.2, 0.0, 3), atol=1e-6)


# ----------------------------------------------------------------------------------------- collapse


@settings(deadline=None, max_examples=30)
@given(K=st.integers(2, 6), n=st.integers(2, 4), D=st.integers(1, 8), seed=st.integers(0, 99))
def test_collapse_metrics_are_the_definitions(K, n, D, seed):
    model = FeatureModel(K, n, D, 1e-2, 1e-2)
    x = np.random.default_rng(seed).standard_normal((1, model.size))
    W, H, _ = (part[0] for part in ufm_objective.split(model, x))
    means = H.reshape(K, n, D).mean(1)
    centred = means - means.mean(0)
    within = H - means.repeat(n, 0)
    nc1 = (
        np.trace(within.T @ within / model.N @ np.linalg.pinv(centred.T @ centred / K, rcond=1e-12))
        / K
    )
    ideal = (np.eye(K) - 1 / K) / np.sqrt(K - 1)
    product = W @ centred.T
    nc2 = np.linalg.norm(product / np.linalg.norm(product) - ideal)
    nc3 = np.linalg.norm(W / np.linalg.norm(W) - centred / np.linalg.norm(centred))
    norms = [np.sqrt((rows**2).sum(1)).mean() for rows in (W, centred)]
    np.testing.assert_allclose(
        np.ravel(ufm_dynamics.collapse(model, x)), [nc1, nc2, nc3, *norms], rtol=1e-7
    )


def test_collapse_at_the_minimiser_and_of_a_rotated_point():
    model = FeatureModel(4, 2, 6, 1e-2, 1e-3)
    at = ufm.construct(model, Loss("ls", 0.1), seed=1)[None]
    nc1, nc2, nc3, w, h = (value.item() for value in ufm_dynamics.collapse(model, at))
    expected = ufm.minimiser(model, Loss("ls", 0.1))
    assert nc1 < 1e-25 and nc2 < 1e-12 and nc3 < 1e-12
    assert (w, h) == pytest.approx((expected.W_norm, expected.h_norm))
    W, H, b = ufm_objective.split(model, ufm_objective.random_starts(model, 1, 2))
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((6, 6)))[0]
    plain, rotated = (
        ufm_dynamics.collapse(model, ufm_objective.join(W @ Q, H @ Q, b)) for Q in (np.eye(6), turn)
    )
    np.testing.assert_allclose(np.ravel(rotated), np.ravel(plain), rtol=1e-10)


@pytest.mark.parametrize(("K", "weaker"), [(2, 1), (3, 1), (10, 1), (10, 10)])
@pytest.mark.parametrize("delta", [0.0, 0.05, 0.2])
def test_nc1_contracts_at_the_predicted_rate(K, weaker, delta):
    model, loss, step = (
        FeatureModel(K, 3, K + 2, 1e-3 / weaker, 5e-3 / 3 / weaker, 1e-2 / weaker),
        Loss("ls", delta),
        0.5,
    )
    rate = -2 * np.log1p(-step * model.N * ufm_spectra.collapse_rate(model, delta))
    x = np.stack([ufm.construct(model, loss, seed) for seed in range(3)])
    x += 1e-5 * np.random.default_rng(0).standard_normal(x.shape)
    first = int(np.ceil(4 / rate))
    nc1 = ufm_dynamics.trajectories(model, loss, x, [first, 2 * first], step=step).nc1
    np.testing.assert_allclose(-np.diff(np.log(nc1), axis=0)[0] / first, rate, rtol=0.01)


# ---------------------------------------------------------------------------------------- landscape


@pytest.mark.parametrize("loss", [*LOSSES, Loss("ls", 0.5)], ids=[*NAMES, "ls 0.5"])
def test_critical_points_of_lower_rank_are_strict_saddles(loss):
    model = FeatureModel(4, 2, 6, 2e-3, 5e-3, 1e-5)
    least = ufm.minimiser(model, loss).value
    for rank in range(4):
        for point in ufm_landscape.critical_points(model, loss, rank, starts=3):
            assert (
                point.gradient < 1e-9
                and np.linalg.matrix_rank(ufm_objective.split(model, point.x)[0], tol=1e-6) <= rank
            )
            gradient = torch.tensor(point.x, requires_grad=True)
            torch_objective(model, loss, gradient).backward()
            assert gradient.grad.abs().max() < 1e-9
            if point.value > least * (1 + 1e-9):
                assert (
                    point.data_gradient > point.global_bound
                    and point.least <= point.escape + 1e-10 < 0
                )
            else:
                assert (
                    rank == 3
                    and point.data_gradient == pytest.approx(point.global_bound, rel=1e-6)
                    and point.least > -1e-9
                )


def test_the_direction_of_escape_lowers_f_by_its_curvature():
    model, loss = FeatureModel(4, 2, 6, 2e-3, 2e-3), Loss("ls", 0.1)
    (point, *_) = ufm_landscape.critical_points(model, loss, 1)
    G = (
        ufm_objective.data_loss(
            loss, ufm_objective.logits(model, point.x), ufm_objective.classes(model)
        )[1]
        / model.N
    )  # (N, K)
    left, _, right = np.linalg.svd(G)
    unused = np.eye(6)[5]
    v = ufm_objective.join(
        np.outer(right[0], unused), -np.outer(left[:, 0], unused), np.zeros(4)
    ) / np.sqrt(2)
    assert v @ ufm_objective.hessian_product(model, loss, point.x, v) == pytest.approx(
        2e-3 - np.linalg.norm(G, 2), abs=1e-12
    )
    assert point.escape == pytest.approx(2e-3 - np.linalg.norm(G, 2), abs=1e-12)
    values = ufm_objective.value_and_gradient(model, loss, point.x + np.array([[0.0], [1e-2]]) * v)[
        0
    ]
    assert values[1] - values[0] == pytest.approx(point.escape / 2 * 1e-4, rel=0.05)


def test_with_unequal_weight_decays_the_escape_is_the_lowest_of_its_plane():
    model, loss = FeatureModel(4, 2, 6, 2e-3, 9e-3), Loss("ls", 0.1)
    (point, *_) = ufm_landscape.critical_points(model, loss, 2)
    G = (
        ufm_objective.data_loss(
            loss, ufm_objective.logits(model, point.x), ufm_objective.classes(model)
        )[1]
        / model.N
    )  # (N, K)
    left, _, right = np.linalg.svd(G)
    unused, none = np.eye(6)[5], (np.zeros((4, 6)), np.zeros((8, 6)))
    plane = [
        ufm_objective.join(np.outer(right[0], unused), none[1], np.zeros(4)),
        ufm_objective.join(none[0], np.outer(left[:, 0], unused), np.zeros(4)),
    ]
    products = [ufm_objective.hessian_product(model, loss, point.x, v) for v in plane]
    form = np.stack(plane) @ np.stack(products).T  # (2, 2)
    assert point.escape == pytest.approx(np.linalg.eigvalsh(form)[0], abs=1e-12)


def test_curvature_at_the_origin_in_numbers():
    model = FeatureModel(4, 2, 6, 2e-3, 2e-3)
    for delta, curvature in ((0.0, -0.17478), (0.1, -0.15710), (0.5, -0.08639)):
        (origin,) = ufm_landscape.critical_points(model, Loss("ls", delta), 0)
        assert (
            origin.least
            == pytest.approx(curvature, abs=5e-6)
            == ufm_landscape.origin_spectrum(model, delta)[-1].value
        )
        assert curvature == pytest.approx(-((1 - delta) / (4 * np.sqrt(2)) - 2e-3), abs=5e-6)


@settings(deadline=None, max_examples=60)
@given(
    K=st.integers(2, 30),
    delta=st.floats(0, 0.9),
    gamma=st.floats(0, 10),
    seed=st.integers(0, 99),
    scale=st.floats(0.01, 10),
)
def test_the_contrastive_bound(K, delta, gamma, seed, scale):
    generator = np.random.default_rng(seed)
    Z, own = scale * generator.standard_normal((50, K)), generator.integers(0, K, 50)
    for loss in (Loss("ls", delta), Loss("focal", gamma)):
        assert ufm_landscape.contrastive_gap(loss, Z, own).min() >= -1e-9
        equal = np.tile(Z[:, :1], (1, K))
        equal[np.arange(50), own] += Z[:, -1]
        assert np.abs(ufm_landscape.contrastive_gap(loss, equal, own)).max() <= 1e-9


@pytest.mark.parametrize("far", [-1e4, -720.0, -30.0, 30.0, 720.0, 1e4])
def test_the_contrastive_bound_is_reached_however_far_the_own_logit_is(far):
    for loss in (Loss("ls", 0.0), Loss("ls", 0.1), Loss("focal", 2.0)):
        (gap,) = ufm_landscape.contrastive_gap(loss, [[far, 0.0, 0.0]], [0])
        assert gap == pytest.approx(0, abs=1e-12 * max(1, abs(far)))


@pytest.mark.parametrize("own", [[3, 0], [-1, 0], [0.5, 1.0], [0], [[0, 1]]])
def test_the_contrastive_bound_is_of_classes_that_exist(own):
    Z = [[3.0, 1.0, 1.0], [0.0, 0.0, 0.0]]  # the margin is the same against all: no gap
    gaps = ufm_landscape.contrastive_gap(Loss("ls", 0.1), Z, [0, 2])
    np.testing.assert_allclose(gaps, 0, atol=1e-15)
    with pytest.raises(UsageError, match=r"own must be 2 classes from 0 to 2, one for each row"):
        ufm_landscape.contrastive_gap(Loss("ls", 0.1), Z, own)


@pytest.mark.parametrize(
    "Z", [[3.0, 1.0], [[1.0]], [[math.nan, 1.0]], [[math.inf, 1.0]], [[-1e308, 1e308]]]
)
def test_the_contrastive_bound_is_of_finite_logits(Z):
    with pytest.raises(UsageError, match=r"Z must be .*logits"):
        ufm_landscape.contrastive_gap(Loss("ls", 0.1), Z, [0])


def test_the_weight_decay_with_two_focal_minimisers():
    for gamma, K, known in ((3, 100, 0.011752), (2, 100, 0.011157), (3, 1000, 0.001109)):
        tie = ufm_landscape.focal_tie(gamma, K)
        assert tie == pytest.approx(known, abs=5e-7)
        a = np.linspace(0, 12, 200001)
        p = 1 / (1 + (K - 1) * np.exp(-a))
        curve = -((1 - p) ** gamma) * np.log(p) + (K - 1) * tie * a
        away = a > 1
        assert (
            curve[away].min() == pytest.approx(curve[0], abs=1e-8)
            and curve[~away].min() > curve[0] - 1e-8
        )
    assert np.isnan(ufm_landscape.focal_tie(3, 10)) and np.isnan(ufm_landscape.focal_tie(0, 1000))


def test_the_window_with_two_local_focal_minima():
    """By autograd's Hessian of the whole model. Inside the window the zero solution and the far one
    both lack negative curvature, so the worse of them is a local minimum; below it the zero
    solution has some, above it there is no far one.
    """
    K, gamma = 24, 3.0
    projection = torch.eye(K, dtype=torch.float64) - 1 / K

    def least_curvature(eps, margin):
        def f(x):
            W, H = x[: K * K].reshape(K, K), x[K * K :].reshape(K, K)
            log_p = (W @ H).log_softmax(0).diagonal()
            data = -((1 - log_p.exp()) ** gamma * log_p).mean()
            return data + eps / 2 * (W.square().sum() + H.square().sum())

        x = (margin**0.5 * projection).flatten().repeat(2)
        assert torch.autograd.functional.jacobian(f, x).abs().max() < 1e-15  # critical
        return float(torch.linalg.eigvalsh(torch.autograd.functional.hessian(f, x))[0])

    low, high = ufm_landscape.focal_window(gamma, K)
    tie = ufm_landscape.focal_tie(gamma, K)
    assert low < tie < high
    for eps in ((low + tie) / 2, (tie + high) / 2):
        far = float(ufm.focal_far_margin(gamma, eps, K))
        assert far > 0 and least_curvature(eps, 0.0) > 0
        assert least_curvature(eps, far) > -1e-12  # rotations of the features change nothing
    assert least_curvature(0.999 * low, 0.0) < 0
    assert np.isnan(ufm.focal_far_margin(gamma, 1.001 * high, K))
    assert np.isnan(ufm_landscape.focal_window(3, 10)).all()
    assert np.isnan(ufm_landscape.focal_window(0, 1000)).all()


def test_refusals():
    model, loss = FeatureModel(3, 2, 4, 1e-3, 1e-3), Loss("ls", 0.1)
    x = ufm_objective.random_starts(model, 2, 0)
    for call, words in (
        (
            lambda: ufm_dynamics.minimise(model, loss, x[0]),
            r"Starts must be points \(R, 39\), at least one, not an array of shape \(39,\)",
        ),
        (lambda: ufm_dynamics.minimise(model, loss, x[:0]), "at least one"),
        (
            lambda: ufm_dynamics.minimise(model, Loss("ls", np.zeros(3)), x),
            "one for each of the 2 starts, not 3",
        ),
        (
            lambda: ufm_dynamics.minimise(model, loss, x[:, :5]),
            r"A point of this model has 39 entries \(W, H, b\), not \(5,\)",
        ),
        (
            lambda: ufm_dynamics.trajectories(model, loss, x, [1], method="newton"),
            "one of descent, lbfgs, not 'newton'",
        ),
        (
            lambda: ufm_dynamics.trajectories(model, loss, x, [3, 3]),
            r"increasing iterations from 0 on, not \[3, 3\]",
        ),
        (lambda: ufm_dynamics.trajectories(model, loss, x, []), "increasing iterations"),
        (lambda: ufm_landscape.critical_points(model, loss, 4), "from 0 to D - 1 = 3, not 4"),
        (
            lambda: ufm_landscape.contrastive_gap(Loss("mse", 1.0), x, np.zeros(2, int)),
            "ls and focal",
        ),
    ):
        with pytest.raises(UsageError, match=words):
            call()
