"""Spectra, condition numbers and eigenvectors against autograd's Hessian, eigsh, brute force."""

import itertools

import numpy as np
import pytest
from scipy.sparse.linalg import eigsh
from test_ufm import hessian

from lsnc_core.errors import UsageError
from lsnc_core.theory import ufm, ufm_landscape, ufm_objective, ufm_spectra, ufm_vectors
from lsnc_core.theory.ufm import FeatureModel, Loss

DECAYS = [(2e-2, 3e-3, 1e-2), (1e-3, 2e-3, 0.0)]
SIZES = [
    (2, 1, 1),
    (2, 3, 4),
    (3, 1, 2),
    (3, 2, 3),
    (3, 3, 6),
    (4, 2, 3),
    (5, 1, 4),
    (5, 2, 7),
    (7, 2, 6),
    (6, 8, 8),
]  # K, n, D
CASES = [
    (*size, decays, delta)
    for size, decays, delta in itertools.product(SIZES, DECAYS, (0.0, 0.1, 0.4))
]
BLOCKS = {
    "W": lambda m: slice(0, m.K * m.D),
    "H": lambda m: slice(m.K * m.D, -m.K),
    "all": lambda m: slice(None),
}


def listed(spectrum):
    return np.sort(np.concatenate([np.full(e.multiplicity, e.value) for e in spectrum]))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_spectra_are_those_of_autograds_hessian_with_exact_multiplicities(case):
    K, n, D, decays, delta = case
    model, loss = FeatureModel(K, n, D, *decays), Loss("ls", delta)
    x = ufm.construct(model, loss, seed=5)
    whole = (
        hessian(model, loss, x)
        if model.size <= 150 or delta == 0.1
        else ufm_objective.dense_hessian(model, loss, x)
    )
    assert model.size <= 500
    for of, place in BLOCKS.items():
        spectrum, part = ufm_spectra.spectrum(model, delta, of), whole[place(model), place(model)]
        computed = np.linalg.eigvalsh(part)
        assert (
            sum(e.multiplicity for e in spectrum) == len(computed)
            and min(e.multiplicity for e in spectrum) > 0
        )
        np.testing.assert_allclose(computed, listed(spectrum), atol=1e-10)
        for e in spectrum:  # as many computed eigenvalues near it as the closed form has there
            wanted = sum(
                other.multiplicity for other in spectrum if abs(other.value - e.value) < 1e-9
            )
            assert (np.abs(computed - e.value) < 5e-10).sum() == wanted
            v = ufm_vectors.eigenvector(model, delta, e.name, of, seed=1, rotation=5)
            assert (
                np.linalg.norm(v) == pytest.approx(1)
                and np.linalg.norm(part @ v - e.value * v) <= 1e-10
            )


@pytest.mark.parametrize("K", [2, 3, 6])
def test_the_data_losss_spectrum_in_class_mean_logits(K):
    model, delta = FeatureModel(K, 2, K, 1e-3, 1e-3), 0.1
    at = ufm.minimiser(model, Loss("ls", delta))
    blocks = []
    for k in range(K):
        p = np.full(K, at.p_off)
        p[k] = at.p_on
        blocks.append(np.linalg.eigvalsh(np.diag(p) - np.outer(p, p)) / K)
    np.testing.assert_allclose(
        np.sort(np.concatenate(blocks)),
        listed(ufm_spectra.spectrum(model, delta, "logits")),
        atol=1e-13,
    )


def test_spectra_vectorise_over_strengths_and_skip_nothing():
    model, deltas = FeatureModel(10, 8, 12, 1e-3, 1e-4, 1e-2), np.linspace(0, 0.8, 300)
    for of in ufm_spectra.BLOCKS:
        together = ufm_spectra.spectrum(model, deltas, of)
        for row in (0, 150, 299):
            alone = ufm_spectra.spectrum(model, deltas[row], of)
            assert [(e.name, e.multiplicity) for e in alone] == [
                (e.name, e.multiplicity) for e in together
            ]
            np.testing.assert_allclose(
                [e.value[row] for e in together], [e.value for e in alone], rtol=1e-12
            )
    for name in ufm_spectra.DEFINITIONS:
        assert ufm_spectra.condition_number(model, deltas, name)[7] == pytest.approx(
            ufm_spectra.condition_number(model, deltas[7], name), rel=1e-12
        )


@pytest.mark.parametrize(
    "case", [case for case in CASES if case[2] <= 7 and case[4] != 0.4], ids=str
)
def test_condition_numbers_by_brute_force(case):
    K, n, D, decays, delta = case
    model, loss = FeatureModel(K, n, D, *decays), Loss("ls", delta)
    x = ufm.construct(model, loss)  # the simplex lies in the first K - 1 coordinates
    whole = ufm_objective.dense_hessian(model, loss, x)
    at = {of: whole[place(model), place(model)] for of, place in BLOCKS.items()}
    inside = {
        "W": np.kron(
            ufm.centred_basis(K), np.eye(D)[:, : K - 1]
        ),  # rows summing to 0 in the span of the means
        "H": np.kron(np.eye(model.N), np.eye(D)[:, : K - 1]),
    }

    def ratio(matrix, floor=0.0):
        values = np.linalg.eigvalsh(matrix)
        values = values[values > floor]
        return values[-1] / values[0]

    for of, decay in (("W", model.lambda_W), ("H", model.lambda_H)):
        assert ratio(at[of] - decay * np.eye(len(at[of])), 1e-9) == pytest.approx(
            ufm_spectra.condition_number(model, delta, "D1"), rel=1e-9
        )
        assert ratio(inside[of].T @ at[of] @ inside[of]) == pytest.approx(
            ufm_spectra.condition_number(model, delta, "D3"), rel=1e-10
        )
        if of == "W" or D > K - 1:
            assert ratio(at[of]) == pytest.approx(
                ufm_spectra.condition_number(model, delta, "D4"), rel=1e-10
            )
    assert ratio(at["all"], 1e-11) == pytest.approx(
        ufm_spectra.condition_number(model, delta, "D5"), rel=1e-7
    )


def test_D1_is_the_papers_number_and_always_falls():
    code = FeatureModel(10, 5000, 512, 1e-3, 1e-6, 1e-2)
    np.testing.assert_allclose(
        ufm_spectra.condition_number(code, np.array([0, 0.05, 0.1, 0.2])),
        [9.799, 9.349, 8.899, 7.999],
        atol=6e-4,
    )
    for K in (3, 10, 100):
        model = FeatureModel(K, 100, K, 1e-3, 1e-6)
        delta = np.linspace(0, 0.9, 300)
        found = ufm_spectra.condition_number(model, delta, "D1")
        assert (np.diff(found) < 0).all()
        np.testing.assert_allclose(found, K - (K - 1) * (delta + K * model.eps), rtol=1e-12)
    many, few = FeatureModel(100, 500, 512, 1e-3, 1e-6, 1e-2), code
    rise = {
        name: ufm_spectra.condition_number(few, 0.05, name)
        > ufm_spectra.condition_number(few, 0.0, name)
        for name in ("D3", "D4", "D5")
    }
    assert all(rise.values())
    assert ufm_spectra.condition_number(many, 0.05, "D5") < ufm_spectra.condition_number(
        many, 0.0, "D5"
    )


@pytest.mark.parametrize("of", ["W", "H", "all"])
def test_a_hundred_thousand_unknowns_without_a_matrix(of):
    model, delta = FeatureModel(100, 9, 100, 1e-3, 1e-3 / 900, 1e-2), 0.1
    assert model.size > 100_000
    loss = Loss("ls", delta)
    hessian_of = ufm_vectors.operator(model, loss, ufm.construct(model, loss, seed=2), of)
    spectrum = ufm_spectra.spectrum(model, delta, of)
    assert sum(e.multiplicity for e in spectrum) == hessian_of.shape[0]
    top = eigsh(
        hessian_of,
        k=1,
        which="LA",
        return_eigenvectors=False,
        tol=1e-12,
        v0=np.ones(hessian_of.shape[0]),
    )[0]
    assert top == pytest.approx(max(e.value for e in spectrum), abs=1e-10)
    for e in spectrum:
        v = ufm_vectors.eigenvector(model, delta, e.name, of, seed=3, rotation=2)
        assert np.linalg.norm(hessian_of @ v - e.value * v) <= 1e-10


@pytest.mark.parametrize("delta", [0.0, 0.1, 0.5])
@pytest.mark.parametrize(("K", "n", "D"), [(2, 1, 1), (3, 2, 2), (4, 2, 6)])
def test_the_origins_spectrum_is_autograds(K, n, D, delta):
    model = FeatureModel(K, n, D, 2e-3, 5e-3, 1e-3)
    whole = hessian(model, Loss("ls", delta), np.zeros(model.size))
    np.testing.assert_allclose(
        np.linalg.eigvalsh(whole), listed(ufm_landscape.origin_spectrum(model, delta)), atol=1e-13
    )


def test_the_origins_spectrum_at_the_zero_solution_has_no_negative_eigenvalue():
    model = FeatureModel(4, 2, 5, 0.2, 0.2)
    assert ufm.minimiser(model, Loss("ls", 0.2)).margin == 0
    assert min(e.value for e in ufm_landscape.origin_spectrum(model, 0.2)) >= 0


def test_refusals():
    model = FeatureModel(4, 2, 5, 1e-2, 1e-2)
    for call, words in (
        (lambda: ufm_spectra.spectrum(model, 0.1, "b"), "one of logits, W, H, all, not of 'b'"),
        (
            lambda: ufm_spectra.spectrum(model, np.array([0.1, 0.97])),
            "At delta = 0.97 .* minimiser is zero.*origin_spectrum",
        ),
        (lambda: ufm_spectra.spectrum(model, 1.2), r"must be in \[0, 1\), not 1.2"),
        (
            lambda: ufm_spectra.spectrum(FeatureModel(4, 2, 2, 1e-2, 1e-2), 0.1),
            "at least K - 1 = 3, not 2",
        ),
        (lambda: ufm_spectra.condition_number(model, 0.1, "D2"), "one of D1, D3, D4, D5, not 'D2'"),
        (lambda: ufm_spectra.collapse_rate(model, 0.99), "minimiser is zero"),
        (
            lambda: ufm_vectors.eigenvector(model, 0.1, "middle"),
            "has no eigenvector named 'middle'; there are within, outside",
        ),
        (
            lambda: ufm_vectors.eigenvector(model, 0.1, "shift", "logits"),
            "no eigenvector named 'shift'",
        ),
        (
            lambda: ufm_vectors.operator(model, Loss("ls", 0.1), np.zeros(model.size), "b"),
            "of all, W or H, not of 'b'",
        ),
    ):
        with pytest.raises(UsageError, match=words):
            call()
