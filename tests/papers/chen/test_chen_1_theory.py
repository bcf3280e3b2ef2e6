"""Chen's figures and claims on formulas: right, and wrong where the formula is exchanged."""

import itertools
import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
from chen_runs import cases_by_name, entropy, eq11, gamma_argmin, gamma_loss, outcomes, panels

from lsnc_core import labels
from lsnc_core.claims import FAILS, HOLDS, Verdict
from lsnc_core.errors import UsageError
from lsnc_core.papers.chen import chen_1_theory as page
from lsnc_core.papers.chen import errata
from lsnc_core.papers.chen.shared_claims import C1, C4, C12
from lsnc_core.theory import label_noise
from lsnc_core.theory.label_noise_errata import jensen_terms

CLASSES = (2, 3, 10, 100, 1000)
RATES = np.linspace(0.01, 0.99, 99)


@pytest.fixture(scope="module")
def theory():
    return {verdict.claim.id: verdict for verdict in page.verdicts().verdicts}


def test_the_claims_about_formulas_hold(theory):
    expected = {"C1": HOLDS, "C4": HOLDS, "C5": HOLDS, "C6": HOLDS, "C12": HOLDS}
    assert {claim: verdict.outcome for claim, verdict in theory.items()} == expected
    binary, many = "M = 2, a > 1/2, the paper's range", "M > 2, a ≥ 1/M"
    assert outcomes(theory["C4"]) == {binary: HOLDS, many: HOLDS}
    assert list(outcomes(theory["C6"]).values()) == [HOLDS] * 11
    # two classes are a detail, with a transition that is continuous
    assert {case.name for case in theory["C6"].cases if not case.deciding} == {"M = 2"}
    assert all(isinstance(verdict, Verdict) for verdict in theory.values())
    claims = [verdict.claim for verdict in theory.values()]
    assert claims == [C1, C4, page.decide_c5.claim, page.decide_c6.claim, C12]


def test_the_numbers_of_c1_c4_and_c12(theory):
    (c1,) = theory["C1"].cases
    assert 0 < c1.value < 1e-6 and c1.level is None
    assert "searched at 99 clean rates and M = (2, 3, 10, 100, 1000)" in theory["C1"].measured
    beta = {M: RATES**2 + (1 - RATES) ** 2 / (M - 1) for M in CLASSES}
    binary, _ = theory["C4"].cases
    assert binary.value == pytest.approx((beta[2] - RATES)[RATES > 0.5].max(), abs=1e-6)
    # no rate is below 1/100
    reversed_by = max((beta[M] - RATES)[RATES < 1 / M].max() for M in CLASSES[:3])
    words = f"for a < 1/M, not claimed, p*(β) is larger, by up to {reversed_by:.2g}"
    assert words in theory["C4"].measured
    assert theory["C12"].cases[0].value == 0
    words = "violations 0 in 70,000 rows of random logits, M = (2, 3, 4, 5)"
    assert theory["C12"].measured == words


def test_the_numbers_of_c5(theory):
    beta = {M: RATES**2 + (1 - RATES) ** 2 / (M - 1) for M in CLASSES}
    exact, limit, near = cases_by_name(theory["C5"]).values()
    assert all(case.value < 1e-6 for case in exact.values())
    measured = theory["C5"].measured
    assert measured.startswith("holds at the closed form, the limit a², a ≥ 0.8\n")
    for M, case in zip((10, 100, 1000), limit.values(), strict=True):
        assert case.value == pytest.approx((beta[M] - RATES**2).max(), abs=1e-6)
        assert case.quantity.endswith(f"M = {M}")
        assert case.at_most == pytest.approx(1 / (M - 1) + 1e-6)
    # registered beforehand
    registered = {3: 0.020, 10: 0.036, 100: 0.040, 1000: 0.040}
    for (M, expected), case in zip(registered.items(), near.values(), strict=True):
        assert round(case.value, 3) == expected and case.quantity.endswith(f"M = {M}")


def test_the_numbers_of_c6(theory):
    for name, cases in cases_by_name(theory["C6"]).items():
        M = int(name[4:])
        flat, place, above, share = cases.values()
        assert flat.value <= 1e-4
        tabulated = errata.C6_TRANSITIONS[M][0]
        assert place.value == pytest.approx(tabulated, abs=2e-6)
        assert (place.at_least + place.at_most) / 2 == pytest.approx(tabulated)
        near = above.value - 1 / M
        far = near / share.value
        assert (share.at_least, share.at_most)[M == 2] == 0.5
        if M > 2:
            jump = gamma_argmin(place.value + 1e-5, M) - gamma_argmin(place.value - 1e-5, M)
            assert near == pytest.approx(jump, abs=2e-3) and far == pytest.approx(jump, abs=5e-3)
        else:  # x = sqrt(3h) beside the transition, so a tenth at a hundredth of the distance
            assert (far, near) == pytest.approx((math.sqrt(3e-4), math.sqrt(3e-6)), rel=0.2)


def test_the_best_p_is_searched_for_without_closed_forms(monkeypatch, theory):
    def refuse(*_):
        raise AssertionError("a closed form was used")

    for name in ("optimum", "best_loss", "gamma_transition", "gamma_spinodal"):
        monkeypatch.setattr(label_noise, name, refuse)
    assert page.verdicts().verdicts == list(theory.values())


@pytest.mark.parametrize(
    "kind, claim, wrong",
    [("gamma", "C6", "beta"), ("beta", "C5", "alpha"), ("alpha", "C1", "beta")],
)
def test_the_verdicts_on_formulas_fail_for_another_formula(kind, claim, wrong, monkeypatch):
    right = label_noise.loss

    def exchanged(asked, a, p, M):
        return right(wrong if asked == kind else asked, a, p, M)

    monkeypatch.setattr(label_noise, "loss", exchanged)
    (verdict,) = (verdict for verdict in page.verdicts().verdicts if verdict.claim.id == claim)
    assert verdict.outcome == FAILS
    assert set(list(outcomes(verdict).values())[:2]) <= {FAILS}


def test_c4_fails_where_noisy_labels_ask_for_less_smoothing_and_c6_where_the_table_says_otherwise(
    monkeypatch,
):
    right, swapped = label_noise.loss, {"alpha": "beta", "beta": "alpha"}

    def exchanged(kind, a, p, M):
        return right(swapped.get(kind, kind), a, p, M)

    monkeypatch.setattr(label_noise, "loss", exchanged)
    monkeypatch.setitem(errata.C6_TRANSITIONS, 10, (0.476818 + 3e-4, 0.483))
    verdicts = {verdict.claim.id: verdict for verdict in page.verdicts().verdicts}
    assert [case.outcome for case in verdicts["C4"].cases] == [FAILS, FAILS]
    failing = {name for name, outcome in outcomes(verdicts["C6"]).items() if outcome == FAILS}
    assert failing == {"M = 10"}


# tables


def test_tables_of_the_theory():
    table = page.optima_table(("alpha", "gamma"), (2, 10), 11)
    assert len(table) == 44 and set(table.kind) == {"alpha", "gamma"} and set(table.M) == {2, 10}
    alpha = table[table.kind == "alpha"]
    np.testing.assert_allclose(alpha.p, alpha.a)
    for row in alpha.itertuples():
        assert row.loss == pytest.approx(entropy(row.a, row.M))
    plane = page.plane_table(M=3, points=5)
    for row in plane[(plane.p > 0) & (plane.p < 1)].itertuples():
        assert row.alpha == pytest.approx(eq11(row.a, row.p, 3))
        assert row.gamma == pytest.approx(gamma_loss(row.a, row.p, 3))


def test_wrong_sizes_of_the_tables_are_refused():
    with pytest.raises(UsageError, match=r"points must be at least 2, got 1\."):
        page.plane_table(points=1)
    with pytest.raises(UsageError, match="at least one number of classes"):
        page.optima_table(("alpha",), ())
    # as a reader may write in a session
    for points in (10.0, None, [5]):
        with pytest.raises(UsageError, match="points must be a whole number"):
            page.plane_table(points=points)
    for classes in (5, "23", None):
        with pytest.raises(UsageError, match="classes must be a list"):
            page.optima_table(("alpha",), classes)


# figures

FIGURES = {
    "1": lambda: page.draw_figure_1(page.plane_table(points=21)),
    "2": lambda: page.draw_figure_2(page.optima_table(("alpha", "beta", "gamma"), (2,), 41)),
    "3": lambda: page.draw_figure_3(page.optima_table(("alpha", "beta"), (2, 10, 1000), 41)),
    "4": lambda: page.draw_figure_4(page.optima_table(("gamma",), (2, 3, 10), 41)),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_closed_and_every_axis_is_named(name):
    plt.switch_backend("agg")  # or the first figure would choose one
    before = plt.rcParams.copy()
    figure = FIGURES[name]()
    assert plt.get_fignums() == [] and plt.rcParams == before
    for axes in panels(figure):
        siblings = axes.get_shared_y_axes().get_siblings(axes)
        assert axes.get_xlabel() and any(other.get_ylabel() for other in siblings)
    bars = [axes for axes in figure.drawing.axes if axes.get_label() == "<colorbar>"]
    assert len(bars) == (name == "1") and all("nats" in axes.get_ylabel() for axes in bars)


def test_figure_1_draws_the_diverging_cells_and_the_exact_minima():
    table = page.plane_table(points=21)
    assert np.isinf(table.alpha).any() and len(table) == 441 and not table.isna().any(axis=None)
    alpha, beta, gamma = panels(page.draw_figure_1(table))
    for panel in (alpha, beta, gamma):
        (mesh,) = panel.collections
        shades = mesh.to_rgba(mesh.get_array())
        assert (shades[..., 3] == 1).all() and not np.ma.is_masked(mesh.get_array())
    a, best = alpha.lines[0].get_data()
    np.testing.assert_allclose(best, a, atol=1e-12)
    a, best = beta.lines[0].get_data()
    np.testing.assert_allclose(best, 2 * a**2 - 2 * a + 1, atol=1e-12)
    upper, mirror = (line.get_ydata() for line in gamma.lines)
    np.testing.assert_allclose(mirror, 1 - upper)


def test_random_jensen_terms_are_drawn_once_and_sorted():
    for M, seed in itertools.product((2, 5), (0, 1)):
        smoothing, forward, logit = errata.random_jensen_terms(M, seed)
        assert smoothing.shape == forward.shape == logit.shape == (errata.JENSEN_CASES, M)
        assert (logit[:, 0] >= logit.max(1) - 1e-12).all()  # the row of the largest logit is first


def test_random_jensen_terms_are_those_of_written_out_matrices():
    generator = np.random.default_rng((0, 5))
    logits = -np.sort(-2 * generator.standard_normal((errata.JENSEN_CASES, 5)), axis=1)
    kept = generator.uniform(1 / 5, 1, errata.JENSEN_CASES)
    terms = errata.random_jensen_terms(5)
    for case in range(50):
        S = labels.smoothing_matrix(kept[case], 5)
        for ours, each in zip(terms, jensen_terms(S, logits[case][None]), strict=True):
            np.testing.assert_allclose(ours[case], each[0], rtol=1e-12, atol=1e-15)
