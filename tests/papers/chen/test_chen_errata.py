"""The numbers of Chen's errata, computed again."""

import math
import re

import numpy as np
import pytest
from chen_runs import gamma_argmin, gamma_loss
from scipy import optimize

from lsnc_core import labels
from lsnc_core.papers.chen import chen_1_theory
from lsnc_core.papers.chen import errata as module

M, A, B = 10, 0.8, 0.2 / 9
T = np.full((M, M), B) + (A - B) * np.eye(M)
Q = A * A + 9 * B * B  # both copies of the noise agree
SKEWED = np.array([[0.8, 0.1, 0.0], [0.2, 0.6, 0.3], [0.0, 0.3, 0.7]])


@pytest.fixture(scope="module")
def errata():
    return {erratum.place: erratum for erratum in module.list_errata()}


def one(errata, start):
    (erratum,) = (erratum for place, erratum in errata.items() if place.startswith(start))
    return erratum.check


def numbers(text):
    texts = re.findall(r"-?(?:\d{1,3}(?:,\d{3})+|\d*\.?\d+)(?:e-?\d+)?", text)
    return [float(number.replace(",", "")) for number in texts]


def test_the_errata_are_complete_and_in_words(errata):
    assert len(errata) == 17
    for erratum in [*errata.values(), module.OPEN_QUESTION]:
        assert all((erratum.place, erratum.published, erratum.right, erratum.check))
        assert "nan" not in erratum.check
        for text in (erratum.published, erratum.right):
            assert text.count("$") % 2 == 0  # formulas are closed


def test_the_page_shows_the_errata_and_the_open_question(errata):
    shown = chen_1_theory.show_errata()
    assert [heading for heading, _ in shown.entries] == [*errata, module.OPEN_QUESTION.place]
    assert "C17" in shown.entries[-1][1][2]


def test_the_caption_of_figure_1(errata):
    check = one(errata, "Caption of Figure 1")
    # both copies of the label are wrong, and of two classes there is one wrong one
    assert "inf, 0, inf" in check
    low, p, other, mirrored = numbers(check)[-4:]
    assert p == pytest.approx(gamma_argmin(0.8, 2), abs=3e-4) and mirrored == pytest.approx(1 - p)
    assert low == other == pytest.approx(gamma_loss(0.8, p, 2), abs=1e-6)


def test_the_corrected_output_has_the_best_loss_for_symmetric_noise(errata):
    check = one(errata, "Section 4.1 (forward")
    symmetric, block, mixed = numbers(check)[-3:]
    assert symmetric == block == 0 < mixed and check.endswith("inf (pair)")
    mixed_T = labels.noise_matrix("mixed", 0.8, 10)  # doubly stochastic: T^t is its posterior
    losses = [-(mixed_T * np.log(output.T)).sum() / 10 for output in (mixed_T, mixed_T.T)]
    assert mixed == pytest.approx(losses[0] - losses[1], abs=6e-5)


def test_more_classes_do_not_always_ask_for_a_larger_p(errata):
    check = numbers(one(errata, "Section 4.3 (gamma, larger"))
    counts = check[:5]
    few, many = check[5:10], check[11:16]
    assert few == pytest.approx([gamma_argmin(0.5, int(M)) for M in counts], abs=1e-3)
    assert many == pytest.approx([gamma_argmin(0.8, int(M)) for M in counts], abs=1e-3)
    assert few[1] < few[0] < few[2] and many == sorted(many)


def test_the_two_minima_of_binary_gamma(errata):
    check = numbers(one(errata, "After eq. 9"))
    assert check[1] == 0.5 and check[3] == pytest.approx(gamma_argmin(0.8, 2), abs=3e-4)
    expected = [gamma_loss(0.9, 0.9632, 2), gamma_loss(0.9, 0.0368, 2)]
    assert check[-2:] == pytest.approx(expected, abs=1e-6) and check[-1] == check[-2]


def test_the_numbers_of_equation_10(errata):
    posterior = (SKEWED / SKEWED.sum(1, keepdims=True)).T  # P(clean c | noisy k)

    def skewed_loss(outputs):
        at = np.nonzero(SKEWED)
        return -(SKEWED[at] / 3 * np.log(outputs.T[at])).sum()

    *_, printed, right, first, second, third, unlike, by_rows, both = numbers(one(errata, "Eq. 10"))
    expected = skewed_loss(SKEWED), skewed_loss(posterior)
    assert (printed, right) == pytest.approx(expected, abs=6e-5)
    assert (first, second, third) == pytest.approx(SKEWED.sum(1))  # no distributions
    shift = np.roll(np.eye(3), 1, axis=0)
    cyclic = (0.7 * np.eye(3) + 0.3 * shift) @ (0.9 * np.eye(3) + 0.1 * shift)

    def cyclic_loss(outputs):
        return -(cyclic * np.log(outputs.T)).sum() / 3

    expected = cyclic_loss(cyclic), cyclic_loss(cyclic.T), cyclic_loss(cyclic.T)
    assert (unlike, by_rows, both) == pytest.approx(expected, abs=6e-5)


def test_the_numbers_of_equation_12_and_of_the_text_before_13_and_14(errata):
    assert numbers(one(errata, "Before eq. 14"))[-2:] == pytest.approx([A + 9 * A / 9, A + 9 * B])

    pairs, S = T @ T.T, np.full((M, M), 0.3 / 9) + (0.7 - 0.3 / 9) * np.eye(M)
    terms = pairs * np.log(S)
    diagonal, off = -np.trace(terms) / M, -terms.sum() / M + np.trace(terms) / M
    expected = [diagonal + 2 * off, diagonal + off]
    assert numbers(one(errata, "Eq. 12"))[3:5] == pytest.approx(expected, abs=6e-5)
    eq14 = -Q * math.log(0.7) - (1 - Q) * math.log(0.3 / 9)
    assert f"{eq14:.4f} by eq. 14" in one(errata, "Eq. 12")
    assert diagonal + off == pytest.approx(eq14)

    printed = A * A + B * B / 9  # the mean of the squares is b^2, divided by M - 1
    outer = 2 * (2 * A * B + 8 * B * B)
    expected = [printed, Q, printed + 9 * outer, 1.0]
    assert numbers(one(errata, "Before eq. 13"))[3:] == pytest.approx(expected, abs=6e-5)


def test_the_numbers_of_equation_13(errata):
    check = one(errata, "Eq. 13")
    assert f"diagonal {Q / 2:.4f} and column sum 0.50 as printed" in check
    assert f"{Q:.4f} and 1.00 right" in check
    assert f"= {Q:.4f};" in check
    agree = SKEWED @ SKEWED.T

    def loss(z):
        columns = np.exp(z.reshape(3, 3)) / np.exp(z.reshape(3, 3)).sum(0)
        return -(agree * np.log(columns)).sum() / 3

    best = optimize.minimize(loss, np.zeros(9), method="BFGS")
    assert numbers(check)[-1] == pytest.approx(best.fun, abs=1e-4)


def test_the_numbers_of_many_classes(errata):
    check, exact = numbers(one(errata, "Section 4.3 (gamma, many")), []
    for p in (0.3, 0.9):
        q = A * p + 0.2 * (1 - p) / (10**6 - 1)
        exact.append(-q * math.log(p) - (1 - q) * math.log((1 - p) / (10**6 - 1)))
    assert check[-1] == pytest.approx(exact[1] - exact[0], abs=6e-5)
    assert check[-2] == pytest.approx(check[-1], abs=1e-3)
    missed = [(1 - A) * (1 - p) * (math.log(p) - math.log(1 - p)) for p in (0.3, 0.9)]
    assert abs(abs(check[-3] - check[-2]) - abs(missed[1] - missed[0])) < 2e-4


def test_the_numbers_of_the_mean_field(errata):
    assert one(errata, "Eq. 17").count(f"{Q:.4f}") == 2  # searched and in closed form
    # -q log p - 2 log(1-p) is lowest at q / (q + 2), for all of T T^t / M sums to 1
    words = f"lowest at p = {Q / (Q + 2):.4f} as printed, {Q:.4f} right"
    assert words in one(errata, "Eq. 16")
    assert f"{Q * M / 2:.4f} and {Q / 2:.4f} as printed" in one(errata, "Eq. 17")


def test_two_classes_differ_from_more_for_gamma(errata):
    *_, two_far, two_near, _, three_far, three_near, _ = numbers(one(errata, "Section 4.1 and"))
    # a square root of the distance: (p - 1/2)^2 is 3 (a - 3/4) near the transition
    assert (two_far, two_near) == pytest.approx((math.sqrt(3e-4), math.sqrt(3e-6)), abs=6e-5)
    assert three_far == pytest.approx(gamma_argmin(0.66015 + 1e-4, 3) - 1 / 3, abs=1e-3)
    assert three_near == pytest.approx(three_far, rel=0.02) and three_near > 0.16


def test_the_solutions_for_skewed_noise_are_not_as_section_4_2_says(errata):
    posterior = SKEWED.T / SKEWED.sum(1)  # P(clean c | noisy k)
    smoothing = SKEWED @ SKEWED.T / SKEWED.sum(1)
    np.testing.assert_allclose(smoothing.sum(0), 1)
    _, asymmetry, *sums = numbers(one(errata, "Section 4.2"))
    assert asymmetry == pytest.approx(np.abs(smoothing - smoothing.T).max(), abs=5e-4)
    assert sums == pytest.approx(posterior.sum(1), abs=5e-3) and max(sums) > 1.05


def test_the_mean_field_has_one_variable(errata):
    assert one(errata, "Section 4.4").endswith("have rank 1")


def count_violations(M, cases, draws):
    """Random cases with forward correction above logit smoothing: in a row, summed, largest row."""
    counts = np.zeros(3)
    for _ in range(cases):
        p, h = draws.uniform(1 / M, 1), 2 * draws.standard_normal(M)
        S = np.full((M, M), (1 - p) / (M - 1)) + (p - (1 - p) / (M - 1)) * np.eye(M)
        forward = np.log(S @ (np.exp(h) / np.exp(h).sum()))
        smoothed = S @ h - np.log(np.exp(S @ h).sum())
        above = forward > smoothed
        counts += above.any(), forward.sum() > smoothed.sum(), above[h.argmax()]
    return counts


def test_the_shares_of_violations_are_those_of_other_random_draws(errata):
    check, shares = one(errata, "Eqs 18"), []
    for part in check.split("; "):
        shares.append([float(share) / 100 for share in re.findall(r"[\d.]+(?=%)", part)])
    assert np.shape(shares) == (3, 4)
    draws, cases = np.random.default_rng(7), 4000
    for number, M in enumerate((2, 3, 4, 5)):
        counts = count_violations(M, cases, draws)
        for by_classes, count in zip(shares, counts, strict=True):
            share = by_classes[number]
            spread = math.sqrt(share * (1 - share) * (1 / cases + 1 / 5000))
            assert abs(share - count / cases) < 4 * spread + 1e-3  # the text is rounded to 0.1 %
    assert "at M = 2, 3, 4, 5 (5,000 random cases each)" in check


def test_resnet18_is_counted_as_torchvision_builds_it(errata):
    import torch
    from torchvision.models import resnet18

    with torch.device("meta"):
        network = resnet18(num_classes=10)
        network.conv1 = torch.nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert module.count_resnet18_parameters() == count
    assert f"{count:,}" in one(errata, "Appendix C")
    assert module.count_resnet18_parameters(100) == count + 90 * 513
