import doctest
import time

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar

from lsnc_core import labels
from lsnc_core.errors import UsageError
from lsnc_core.theory import label_noise as theory
from lsnc_core.theory import label_noise_errata as errata

UNIT = st.floats(0, 1, allow_subnormal=False)
INNER = st.floats(1e-6, 1 - 1e-6)
CLASSES = st.integers(2, 200)
KIND = st.sampled_from(theory.KINDS)

# Chen's equations, symbol by symbol; log is numpy's or mpmath's.


def entropy(p, log):
    return -p * log(p) - (1 - p) * log(1 - p)


def eq7(a, p, M, log):
    return -a * log(p) - (1 - a) * log(1 - p)


def eq8(a, p, M, log):
    return -(a**2 + (1 - a) ** 2) * log(p) - 2 * a * (1 - a) * log(1 - p)


def eq9(a, p, M, log):
    return a * entropy(p, log) - (1 - a) * (p * log(1 - p) + (1 - p) * log(p))


def eq11(a, p, M, log):
    return -a * log(p) - (1 - a) * log((1 - p) / (M - 1))


def eq14(a, p, M, log):
    other = log((1 - p) / (M - 1))
    first = -(a**2) * log(p) - 2 * a * (1 - a) * other
    return first - ((1 - a) ** 2 / (M - 1)) * log(p) - ((1 - a) ** 2 * (M - 2) / (M - 1)) * other


def eq15(a, p, M, log):
    other = log((1 - p) / (M - 1))
    bracket = p * other + ((1 - p) * (M - 2) / (M - 1)) * other + ((1 - p) / (M - 1)) * log(p)
    return (
        a * (entropy(p, log) + (1 - p) * log(mpmath.mpf(M - 1) if log is mpmath.log else M - 1))
        - (1 - a) * bracket
    )


BINARY = {"alpha": eq7, "beta": eq8, "gamma": eq9}
GENERAL = {"alpha": eq11, "beta": eq14, "gamma": eq15}

A = [0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.99]
OPTIMA = {
    ("beta", 2): ".5800|.5200|.5000|.5200|.5800|.6250|.6800|.7450|.8200|.9050|.9802",
    ("beta", 10): ".1444|.2000|.2778|.3778|.5000|.5694|.6444|.7250|.8111|.9028|.9801",
    ("beta", 100): ".0949|.1636|.2525|.3616|.4909|.5631|.6404|.7227|.8101|.9025|.9801",
    ("gamma", 2): ".5|.5|.5|.5|.5|.5|.8351|.9198|.9632|.9874|.9984",
    ("gamma", 3): ".3333|.3333|.3333|.3333|.7428|.8496|.9095|.9475|.9728|.9898|.9986",
    # at a = .8 the value is .95035012
    ("gamma", 10): ".1|.1|.5995|.8067|.8985|.9278|.9504|.9680|.9819|.9925|.9989",
    ("gamma", 100): ".4738|.7281|.8385|.9015|.9417|.9565|.9688|.9791|.9876|.9946|.9991",
}
P = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99]
LOSSES = {  # M = 10
    ("alpha", 0.5): "2.3026|2.0149|1.8789|1.8122|1.7918|1.8122|1.8789|2.0149|2.3026|2.6221|3.4062",
    ("alpha", 0.8): "2.3026|1.7716|1.4740|1.2746|1.1326|1.0314|.9656|.9398|.9843|1.0796|1.3685",
    ("alpha", 0.95): "2.3026|1.6500|1.2715|1.0059|.8030|.6410|.5089|.4023|.3251|.3084|.3497",
    ("beta", 0.5): "2.3026|2.1951|2.1789|2.2103|2.2800|2.3905|2.5555|2.8112|3.2791|3.7647|4.9156",
    ("beta", 0.95): "2.3026|1.6883|1.3352|1.0905|.9068|.7639|.6527|.5715|.5326|.5512|.6704",
    ("gamma", 0.8): "2.3026|2.2762|2.2089|2.1108|1.9871|1.8411|1.6760|1.4973|1.3260|1.2796|1.4213",
}
TRANSITIONS = {
    3: (".660150", ".499"),
    4: (".607209", ".497"),
    5: (".570756", ".495"),
    10: (".476818", ".483"),
    20: (".404274", ".465"),
    50: (".331005", ".434"),
    100: (".288008", ".409"),
    1000: (".193645", ".324"),
    10**4: (".141551", ".254"),
    10**6: (".089616", ".169"),
}


def printed(values, like):
    """The values with as many digits as the table's entries, in the table's style."""
    digits = [len(x.split(".")[1]) for x in like]
    return [f"{v:.{d}f}".removeprefix("0") for v, d in zip(values, digits, strict=True)]


@pytest.mark.parametrize("module", [theory, errata])
def test_doctests(module):
    assert doctest.testmod(module).failed == 0


@settings(deadline=None)
@given(kind=KIND, a=UNIT, p=INNER, M=CLASSES)
def test_loss_is_the_printed_equation(kind, a, p, M):
    exact = GENERAL[kind](mpmath.mpf(a), mpmath.mpf(p), M, mpmath.log)
    assert abs(float(theory.loss(kind, a, p, M) - exact)) <= 1e-12
    assert (
        abs(theory.loss(kind, a, p, M) - GENERAL[kind](a, p, M, np.log)) <= 1e-11
    )  # 1 - p rounds in the transcription
    if M == 2:
        assert abs(theory.loss(kind, a, p, 2) - BINARY[kind](a, p, 2, np.log)) <= 1e-11


@settings(deadline=None)
@given(kind=KIND, a=UNIT, p=INNER)
def test_two_classes_are_a_case_of_M(kind, a, p):
    exact = BINARY[kind](mpmath.mpf(a), mpmath.mpf(p), 2, mpmath.log)
    assert abs(float(theory.loss(kind, a, p, 2) - exact)) <= 1e-12
    assert theory.loss("gamma", a, 1 - p, 2) == pytest.approx(
        theory.loss("gamma", a, p, 2), abs=1e-9
    )


@settings(deadline=None)
@given(kind=KIND, a=UNIT, p=UNIT, M=CLASSES)
def test_loss_is_never_nan_and_at_least_the_optimum(kind, a, p, M):
    q, value, best = (
        theory.agreement(kind, a, p, M),
        theory.loss(kind, a, p, M),
        theory.best_loss(kind, a, M),
    )
    assert 0 <= q <= 1
    assert value >= best - 1e-12
    assert -1e-12 <= best <= np.log(M) + 1e-12
    assert 0 <= theory.optimum(kind, a, M) <= 1
    assert theory.loss(kind, a, 1 / M, M) == pytest.approx(np.log(M), abs=1e-12)


def test_loss_at_the_ends_of_p():
    inf = float("inf")
    for M in (2, 3, 10):
        for kind in theory.KINDS:
            assert theory.loss(kind, 1.0, 1.0, M) == 0 and not np.signbit(
                theory.loss(kind, 1.0, 1.0, M)
            )
            assert theory.loss(kind, 0.9, 1.0, M) == inf
        assert theory.loss("alpha", 0.0, 0.0, M) == pytest.approx(np.log(M - 1), abs=1e-15)
        assert theory.loss("gamma", 1.0, 0.0, M) == pytest.approx(np.log(M - 1), abs=1e-15)
        assert (
            theory.loss("alpha", 0.5, 0.0, M)
            == theory.loss("beta", 0.5, 0.0, M)
            == theory.loss("gamma", 0.5, 0.0, M)
            == inf
        )
    assert theory.loss("beta", 0.0, 1.0, 2) == 0  # both labels flipped: they agree
    assert theory.loss("gamma", 0.0, 0.0, 2) == inf and theory.loss("gamma", 0.0, 1.0, 2) == inf


def test_everything_broadcasts():
    a, p = np.linspace(0, 1, 5)[:, None], np.linspace(0, 1, 7)
    for kind in theory.KINDS:
        grid = theory.loss(kind, a, p, 3)
        assert (
            grid.shape == theory.agreement(kind, a, p, 3).shape == (5, 7)
            and grid.dtype == np.float64
        )
        assert not np.isnan(grid).any()
        assert grid[2, 3] == pytest.approx(theory.loss(kind, 0.5, 0.5, 3), rel=1e-14)
        assert theory.optimum(kind, a, 3).shape == theory.best_loss(kind, a, 3).shape == (5, 1)
        assert np.ndim(theory.optimum(kind, 0.9, 3)) == np.ndim(theory.loss(kind, 0.9, 0.9, 3)) == 0
        assert theory.optimum(kind, np.empty(0), 3).shape == (0,)
    assert (
        theory.gamma_large_M(a, p, 3).shape == errata.printed_gamma_large_M(a, p, 3).shape == (5, 7)
    )


@settings(deadline=None)
@given(p=UNIT, M=CLASSES)
def test_entropy_floor_is_the_entropy_of_a_smoothed_label(p, M):
    y = labels.smoothing_matrix(p, M)[:, 0]
    y = y[y > 0]
    assert theory.entropy_floor(p, M) == pytest.approx(-(y * np.log(y)).sum(), abs=1e-12)
    assert theory.entropy_floor(p, M) == theory.loss("gamma", 1.0, p, M)
    assert theory.entropy_floor(p, M) == theory.loss("alpha", p, p, M)


@pytest.mark.parametrize(("kind", "M"), list(OPTIMA))
def test_table_of_optima(kind, M):
    table = OPTIMA[kind, M].split("|")
    assert printed(theory.optimum(kind, A, M), table) == table
    assert theory.optimum("alpha", A, M).tolist() == A


@pytest.mark.parametrize(("kind", "a"), list(LOSSES))
def test_table_of_losses(kind, a):
    table = LOSSES[kind, a].split("|")
    assert printed(theory.loss(kind, a, P, 10), table) == table


@settings(deadline=None)
@given(a=UNIT, M=CLASSES)
def test_beta_optimum_and_its_identities(a, M):
    p = theory.optimum("beta", a, M)
    assert p == pytest.approx((1 - 2 * a + a * a * M) / (M - 1), abs=1e-14)
    assert p - a == pytest.approx((1 - a) * (1 - a * M) / (M - 1), abs=1e-14)
    assert p - a * a == pytest.approx((1 - a) ** 2 / (M - 1), abs=1e-14)
    if a * M >= 1 + 1e-9:
        assert p <= a + 1e-15  # beta needs the stronger smoothing


@settings(deadline=None)
@given(kind=st.sampled_from(["alpha", "beta"]), a=st.floats(0.02, 0.98), M=CLASSES)
def test_alpha_and_beta_optimum_by_sign_of_the_derivative(kind, a, M):
    p = mpmath.mpf(float(theory.optimum(kind, a, M)))
    with mpmath.workdps(40):
        left, right = (
            mpmath.diff(lambda x: GENERAL[kind](mpmath.mpf(a), x, M, mpmath.log), p + d)
            for d in (-1e-9, 1e-9)
        )
    assert left < 0 < right


def gamma_slope_sign(a, p, M):
    with mpmath.workdps(60):
        return mpmath.sign(mpmath.diff(lambda x: eq15(mpmath.mpf(a), x, M, mpmath.log), p))


NEAR_TWO = [0.75 + 2.0**-k for k in (53, 50, 40, 30, 20, 10, 5)]


@pytest.mark.parametrize("M", [2, 3, 4, 10, 100, 1000, 10**6])
def test_gamma_optimum_to_1e9_by_sign_of_the_derivative(M):
    a_c = theory.gamma_transition(M)[0]
    rates = [
        a_c + 1e-12,
        a_c + 1e-6,
        0.5 * (a_c + theory.gamma_spinodal(M)),
        0.77,
        0.9,
        0.999,
        1 - 1e-6,
        1 - 1e-12,
    ]
    for a in rates if M > 2 else NEAR_TWO + rates[3:]:
        p = mpmath.mpf(float(theory.optimum("gamma", a, M)))
        assert p > mpmath.mpf(1) / M
        if p - 0.5 > 1e-9 or M > 2:
            assert gamma_slope_sign(a, p - mpmath.mpf("1e-9"), M) < 0
        if p < 1 - 1e-9:
            assert gamma_slope_sign(a, p + mpmath.mpf("1e-9"), M) > 0


@pytest.mark.parametrize("M", [3, 4, 10, 1000, 10**6])
def test_gamma_optimum_a_few_roundings_above_the_transition(M):
    """Rounding may hide the sign change of the slope there; the optimum is p_c all the same."""
    a_c, p_c = theory.gamma_transition(M)
    rates = [a_c]
    for _ in range(20):
        rates.append(np.nextafter(rates[-1], 1))
    np.testing.assert_allclose(theory.optimum("gamma", rates[1:], M), p_c, rtol=1e-9)


def test_gamma_optimum_near_the_binary_transition():
    c = 2 * np.array([0.7501, 0.751]) - 1
    series = 0.5 + np.sqrt((4 * c - 2) / (2 * (4 - 16 * c / 3)))
    np.testing.assert_allclose(theory.optimum("gamma", [0.7501, 0.751], 2), series, atol=5e-4)
    np.testing.assert_allclose(
        theory.optimum("gamma", [0.751, 0.76], 2), [0.5546, 0.6679], atol=5e-5
    )
    assert theory.optimum("gamma", [0.0, 0.3, 0.75], 2).tolist() == [0.5] * 3
    tiny = 2.0**-50  # p* - 1/2 = u/4, u^2 = 6 excess = 48 tiny to first order
    assert theory.optimum("gamma", 0.75 + tiny, 2) - 0.5 == pytest.approx(
        np.sqrt(48 * tiny) / 4, rel=1e-6
    )


@settings(deadline=None, max_examples=40)
@given(a=UNIT, M=CLASSES)
def test_gamma_optimum_is_the_global_minimum(a, M):
    best, star = theory.best_loss("gamma", a, M), theory.optimum("gamma", a, M)
    grid = np.concatenate(
        [
            np.linspace(0, 1, 400),
            np.geomspace(1e-12, 1e-2, 100),
            1 - np.geomspace(1e-12, 1e-2, 100),
            [1 / M],
        ]
    )
    values = theory.loss("gamma", a, grid, M)
    k = int(values.argmin())
    bounds = (max(grid[k] - 0.01, 0), min(grid[k] + 0.01, 1))
    found = minimize_scalar(
        lambda p: theory.loss("gamma", a, p, M), bounds=bounds, method="bounded"
    )
    assert best <= min(values.min(), found.fun) + 1e-12
    if a < theory.gamma_transition(M)[0]:
        assert star == 1 / M


def test_the_optimum_does_not_round_to_1_where_the_loss_is_infinite():
    a = 1 - 2.0 ** -np.arange(45, 54)
    for kind in theory.KINDS:
        for M in (2, 3, 1000):
            assert (theory.best_loss(kind, a, M) < 1e-9).all() and (
                theory.optimum(kind, a, M) <= 1
            ).all()


def test_gamma_optimum_is_never_below_uniform_where_the_mirror_minimum_exists():
    for M in (3, 5, 20):
        a = np.linspace(theory.gamma_spinodal(M), 1, 30)[:, None]
        below = theory.loss("gamma", a, np.linspace(1e-6, 1 / M, 400), M).min(axis=1)
        assert (below >= theory.best_loss("gamma", a[:, 0], M) - 1e-12).all()


@pytest.mark.parametrize("M", list(TRANSITIONS))
def test_gamma_transition_table_and_an_independent_evaluation(M):
    a_c, p_c = theory.gamma_transition(M)
    assert tuple(printed((a_c, p_c), TRANSITIONS[M])) == TRANSITIONS[M]
    assert 1 / M < a_c < theory.gamma_spinodal(M)
    with mpmath.workdps(40):  # loss = log M and slope = 0, of eq. 15 itself, from the table's start
        slope = lambda a, p: mpmath.diff(lambda x: eq15(a, x, M, mpmath.log), p)  # noqa: E731
        start = [mpmath.mpf("0" + x) for x in TRANSITIONS[M]]
        a, p = mpmath.findroot(
            [lambda a, p: eq15(a, p, M, mpmath.log) - mpmath.log(M), slope], start
        )
        assert abs(a - a_c) < 1e-12 and abs(p - p_c) < 1e-10
    assert theory.optimum("gamma", a_c - 1e-9, M) == 1 / M
    assert theory.optimum("gamma", a_c + 1e-9, M) == pytest.approx(p_c, abs=1e-6)
    assert theory.best_loss("gamma", a_c + 1e-9, M) == pytest.approx(np.log(M), abs=1e-6)


@pytest.mark.parametrize("M", [2, 3, 10, 1000])
def test_spinodal_is_where_the_curvature_at_uniform_vanishes(M):
    a_s = theory.gamma_spinodal(M)
    with mpmath.workdps(50):
        curve = [
            mpmath.diff(lambda x, a=a: eq15(mpmath.mpf(a), x, M, mpmath.log), mpmath.mpf(1) / M, 2)
            for a in (a_s - 1e-6, a_s + 1e-6)
        ]
    assert curve[0] > 0 > curve[1]
    assert theory.gamma_transition(2) == (0.75, 0.5)


def test_a_hundred_optima_are_quick():
    seconds = []
    for _ in range(3):  # the first imports scipy; each takes .02 s
        start = time.perf_counter()
        for M in (2, 3, 10, 100):
            theory.optimum("gamma", np.linspace(0, 1, 101), M)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1


@pytest.mark.parametrize("M", [2, 3, 10])
@pytest.mark.parametrize("kind", theory.KINDS)
def test_monte_carlo_of_the_definition(kind, M):
    n, a, p = 60_000, 0.7, 0.85
    T, S = labels.symmetric_noise(a, M), labels.smoothing_matrix(p, M)
    clean = torch.arange(n) % M
    train = labels.corrupt(clean, T, seed=M)
    test = {
        "alpha": clean,
        "beta": labels.corrupt(clean, T, seed=M, purpose="test label noise"),
        "gamma": labels.corrupt(clean, S, seed=M, purpose="test label noise"),
    }[kind]
    output = labels.soft_targets(
        train, p, M
    )  # what a network that memorised the smoothed training label says
    sample = -torch.log(output[torch.arange(n), test].double())
    assert abs(float(sample.mean()) - theory.loss(kind, a, p, M)) < 5 * float(sample.std()) / n**0.5
    if kind != "gamma":
        exact = theory.alpha_loss(S, T) if kind == "alpha" else theory.beta_loss(S, T)
        assert exact == pytest.approx(theory.loss(kind, a, p, M), abs=1e-12)


def random_T(seed, M):
    return np.random.default_rng(seed).dirichlet(np.ones(M), size=M).T


@settings(deadline=None)
@given(seed=st.integers(0, 10**6), M=st.integers(2, 6))
def test_matrix_losses_against_triple_sums(seed, M):
    T, S = random_T(seed, M), random_T(seed + 1, M)
    alpha = beta = 0.0
    for clean in range(M):
        for train in range(M):
            alpha -= T[train, clean] * np.log(S[clean, train]) / M
            for test in range(M):
                beta -= T[train, clean] * T[test, clean] * np.log(S[test, train]) / M
    assert theory.alpha_loss(S, T) == pytest.approx(alpha, abs=1e-12)
    assert theory.beta_loss(S, T) == pytest.approx(beta, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["alpha", "beta"])
def test_optimal_smoothing_by_numeric_minimisation(kind, seed):
    M = 2 + seed
    T = random_T(seed, M)
    price = theory.alpha_loss if kind == "alpha" else theory.beta_loss
    star = (
        theory.optimal_smoothing_alpha(T) if kind == "alpha" else theory.optimal_smoothing_beta(T)
    )

    def softmax(z):
        e = np.exp(z.reshape(M, M))
        return e / e.sum(axis=0)

    found = minimize(
        lambda z: price(softmax(z), T), np.zeros(M * M), method="BFGS", options={"gtol": 1e-7}
    )
    np.testing.assert_allclose(labels.check_noise(star), softmax(found.x), atol=2e-4)
    assert price(star, T) <= found.fun + 1e-12
    assert found.fun == pytest.approx(price(star, T), abs=1e-8)


@settings(deadline=None)
@given(seed=st.integers(0, 10**6), M=st.integers(2, 6), a=UNIT, p=INNER)
def test_mean_field_is_the_best_symmetric_smoothing(seed, M, a, p):
    T = random_T(seed, M)
    for kept, price in (
        (theory.mean_field_kept_alpha(T), theory.alpha_loss),
        (theory.mean_field_kept_beta(T), theory.beta_loss),
    ):
        assert (
            price(labels.smoothing_matrix(p, M), T)
            >= price(labels.smoothing_matrix(kept, M), T) - 1e-12
        )
    T = labels.symmetric_noise(a, M)
    assert theory.mean_field_kept_alpha(T) == pytest.approx(a, abs=1e-14)
    assert theory.mean_field_kept_beta(T) == pytest.approx(theory.optimum("beta", a, M), abs=1e-14)
    np.testing.assert_allclose(
        theory.optimal_smoothing_beta(T),
        labels.smoothing_matrix(theory.optimum("beta", a, M), M),
        atol=1e-14,
    )
    np.testing.assert_allclose(theory.optimal_smoothing_alpha(T), T, atol=1e-14)


def test_a_class_that_noise_never_yields():
    T = [[0.0, 0.0, 0.0], [1.0, 0.4, 0.0], [0.0, 0.6, 1.0]]
    for S in (theory.optimal_smoothing_alpha(T), theory.optimal_smoothing_beta(T)):
        labels.check_noise(S)
        assert S[:, 0].tolist() == [1 / 3] * 3
    assert np.isfinite(theory.alpha_loss(theory.optimal_smoothing_alpha(T), T))
    assert theory.alpha_loss(np.eye(3), T) == float("inf")
    assert theory.alpha_loss(np.eye(3), np.eye(3)) == theory.beta_loss(np.eye(3), np.eye(3)) == 0


@settings(deadline=None, max_examples=50)
@given(a=UNIT, p=st.floats(0.01, 0.99))
def test_large_M_limit_and_what_the_printed_one_misses(a, p):
    for M in (10**3, 10**6, 10**12):
        u = np.log(p * (M - 1) / (1 - p))
        missing = -(1 - a) * (1 - p) / (M - 1) * u  # exact difference, O(log M / M)
        assert theory.loss("gamma", a, p, M) - theory.gamma_large_M(a, p, M) == pytest.approx(
            missing, abs=1e-11
        )
        error = theory.gamma_large_M(a, p, M) - errata.printed_gamma_large_M(a, p, M)
        assert error == pytest.approx((1 - a) * (1 - p) * np.log(p / (1 - p)), abs=1e-10)


# The paper's errata.


def test_erratum_1_eq13_is_half_of_what_it_should_be():
    T = labels.symmetric_noise(0.8, 5)
    np.testing.assert_allclose(errata.printed_eq13(T).sum(axis=0), 0.5, atol=1e-14)
    np.testing.assert_allclose(
        2 * errata.printed_eq13(T), theory.optimal_smoothing_beta(T), atol=1e-14
    )
    assert 2 * errata.printed_eq13(T)[0, 0] == pytest.approx(
        theory.optimum("beta", 0.8, 5), abs=1e-14
    )
    assert theory.beta_loss(errata.printed_eq13(T), T) == pytest.approx(
        theory.beta_loss(2 * errata.printed_eq13(T), T) + np.log(2)
    )


def test_erratum_2_eq12_counts_pairs_twice():
    T, S = random_T(1, 4), random_T(2, 4)
    expected = 0.0
    for j in range(4):
        for k in range(4):
            expected -= (1 if j == k else 2) * (T[j] @ T[k]) * np.log(S[j, k]) / 4
    assert errata.printed_eq12_loss(S, T) == pytest.approx(expected, abs=1e-12)
    once = -sum((T[j] @ T[j]) * np.log(S[j, j]) for j in range(4)) / 4
    assert (errata.printed_eq12_loss(S, T) + once) / 2 == pytest.approx(
        theory.beta_loss(S, T), abs=1e-12
    )


@pytest.mark.parametrize("M", [2, 3, 6])
def test_erratum_3_text_before_eq13(M):
    T = random_T(M, M)
    as_printed, right = errata.printed_text_before_eq13(T), T @ T.T
    mean = np.array([np.mean(np.delete(T[i], i) ** 2) for i in range(M)])
    np.testing.assert_allclose(as_printed.diagonal(), T.diagonal() ** 2 + mean / (M - 1))
    np.testing.assert_allclose(right.diagonal(), T.diagonal() ** 2 + (M - 1) * mean)
    assert np.allclose(as_printed.diagonal(), right.diagonal()) == (M == 2)
    np.testing.assert_allclose(as_printed[0, 1], 2 * right[0, 1])


@pytest.mark.parametrize("M", [2, 3, 6])
def test_erratum_4_eq17(M):
    T = random_T(M, M)
    first, second = errata.printed_eq17(T)
    right = theory.mean_field_kept_beta(T)
    assert first == pytest.approx(0.5 * (T**2).sum()) and second == pytest.approx(
        np.trace(T @ T.T) / (2 * M)
    )
    assert (first == pytest.approx(right)) == (M == 2)
    assert second == pytest.approx(right / 2)


def test_erratum_7_eq10_holds_for_symmetric_noise_only():
    T = labels.symmetric_noise(0.7, 4)
    np.testing.assert_allclose(
        errata.printed_eq10(T), theory.optimal_smoothing_alpha(T), atol=1e-14
    )
    T = labels.pair_noise(0.7, 4)
    assert theory.alpha_loss(theory.optimal_smoothing_alpha(T), T) < theory.alpha_loss(
        errata.printed_eq10(T), T
    )
    by_rows = errata.printed_eq10(T, by_rows=True)
    np.testing.assert_array_equal(
        by_rows, theory.optimal_smoothing_alpha(T)
    )  # for this T is doubly stochastic
    skewed = np.array([[0.8, 0.1, 0.0], [0.2, 0.6, 0.3], [0.0, 0.3, 0.7]])
    assert np.abs(errata.printed_eq10(skewed, by_rows=True).sum(0) - 1).max() == pytest.approx(
        0.1
    )  # and this one is not


def test_erratum_8_size_of_the_large_M_error():
    gap = [
        theory.gamma_large_M(0.8, p, 10**6) - errata.printed_gamma_large_M(0.8, p, 10**6)
        for p in (0.3, 0.9)
    ]
    assert round(float(gap[1] - gap[0]), 2) == 0.16


def test_erratum_9_jensen_holds_and_the_second_step_does_not():
    rng = np.random.default_rng(0)
    broken = cases = 0
    for _ in range(60):
        M = int(rng.integers(2, 6))
        h = 2 * rng.normal(size=(50, M))
        S = rng.dirichlet(np.ones(M), size=M)  # rows sum to 1
        smoothing, forward, _ = errata.jensen_terms(S, h)
        assert (smoothing <= forward + 1e-12).all()
        smoothing, forward, logits = errata.jensen_terms(
            labels.smoothing_matrix(rng.uniform(1 / M, 1), M), h
        )
        assert (smoothing <= forward + 1e-12).all()
        broken += int((forward.sum(axis=1) > logits.sum(axis=1)).sum())
        cases += len(h)
    assert broken > 0.9 * cases


def test_jensen_terms_against_scipy_and_at_no_smoothing():
    from scipy.special import log_softmax, softmax

    S, h = random_T(0, 4).T, np.random.default_rng(1).normal(size=(6, 4)) * 3
    smoothing, forward, logits = errata.jensen_terms(S, h)
    np.testing.assert_allclose(smoothing, log_softmax(h, axis=1) @ S.T, atol=1e-12)
    np.testing.assert_allclose(forward, np.log(softmax(h, axis=1) @ S.T), atol=1e-12)
    np.testing.assert_allclose(logits, log_softmax(h @ S.T, axis=1), atol=1e-12)
    for term in errata.jensen_terms(np.eye(4), 1000 * h):
        np.testing.assert_allclose(term, log_softmax(1000 * h, axis=1), atol=1e-9)


def test_jensen_terms_at_labels_are_entries_of_all_classes():
    S, h = random_T(3, 5).T, np.random.default_rng(2).normal(size=(8, 5)) * 3
    own = np.array([0, 4, 2, 2, 1, 3, 0, 4])
    for at_labels, all_classes in zip(
        errata.jensen_terms(S, h, own), errata.jensen_terms(S, h), strict=True
    ):
        np.testing.assert_allclose(at_labels, all_classes[np.arange(8), own], rtol=1e-13)


EYE = np.eye(2)


@pytest.mark.parametrize(
    ("call", "quoted"),
    [
        (lambda: theory.loss("delta", 0.5, 0.5, 10), "delta"),
        (lambda: theory.loss(["alpha"], 0.5, 0.5, 10), "alpha"),
        (lambda: theory.loss("alpha", 1.5, 0.5, 10), "clean-label rate a .* 1.5"),
        (lambda: theory.loss("alpha", 0.5, [0.5, -0.25], 10), "kept mass p .* -0.25"),
        (lambda: theory.loss("alpha", float("nan"), 0.5, 10), "nan"),
        (lambda: theory.loss("alpha", 0.5, 0.5, 1), "M .* 1"),
        (lambda: theory.loss("alpha", 0.5, 0.5, 2.5), "2.5"),
        (lambda: theory.loss("alpha", [0.5, 0.5], [0.5] * 3, 10), r"\(2,\) and \(3,\)"),
        (lambda: theory.agreement("beta", "x", 0.5, 10), "'x'"),
        (lambda: theory.optimum("nope", 0.5, 10), "nope"),
        (lambda: theory.optimum("gamma", [0.5, 2], 10), "2"),
        (lambda: theory.best_loss("gamma", 0.5, 0), "0"),
        (lambda: theory.entropy_floor(3, 10), "3"),
        (lambda: theory.gamma_transition(1), "1"),
        (lambda: theory.gamma_spinodal("3"), "'3'"),
        (lambda: theory.gamma_large_M(0.5, 7, 10), "7"),
        (lambda: theory.alpha_loss(np.eye(3), EYE), r"\(2, 2\), not \(3, 3\)"),
        (lambda: theory.beta_loss(2 * EYE, EYE), "2.0"),
        (lambda: theory.beta_loss(EYE, 2 * EYE), "2.0"),
        (lambda: theory.optimal_smoothing_alpha(0.5 * EYE), "0.5"),
        (lambda: theory.optimal_smoothing_beta([1, 0]), r"\(2,\)"),
        (lambda: theory.mean_field_kept_alpha(-EYE), "-1.0"),
        (lambda: theory.mean_field_kept_beta([[0.9, 0.0], [0.0, 1.0]]), "column 0 sums to 0.9"),
        (lambda: errata.printed_eq13(0.5 * EYE), "0.5"),
        (lambda: errata.printed_gamma_large_M(0.5, 0.5, 1), "1"),
        (lambda: errata.jensen_terms([[0.9, 0.2], [0.1, 0.8]], EYE), "column 0 sums to 1.1"),
        (lambda: errata.jensen_terms(EYE, np.zeros(2)), r"\(2,\)"),
        (lambda: errata.jensen_terms(EYE, [[np.inf, 0.0]]), "finite"),
    ],
)
def test_mistakes_are_one_sentence_that_quotes_the_value(call, quoted):
    with pytest.raises(UsageError, match=quoted) as caught:
        call()
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
