"""Chen, Ziyin et al. 2020: figures of the theory (1 to 4) with their tables, and of the landscape
(5 and 6).
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lsnc_core.data_sources import source_of
from lsnc_core.errors import UsageError
from lsnc_core.papers import chen_landscape, chen_minima, claims
from lsnc_core.papers.style import COLOURS, LOSS_MAP, RESIDUAL_MAP, styled
from lsnc_core.theory import label_noise

NAMES = {
    "alpha": r"$\alpha$: clean test labels",
    "beta": r"$\beta$: noisy test labels",
    "gamma": r"$\gamma$: Bayesian test labels",
}
DASHES = {"alpha": "-", "beta": "--", "gamma": ":"}
CLEAN_RATE, KEPT = "clean rate a", "kept mass p"
# Losses diverge at p = 1; the colour scale of heat maps ends here, in nats, and the bar says so.
TOP = 3.0




def landscape_theory(M: int = 2, points: int = 101) -> pd.DataFrame:
    """The three losses over the (a, p) plane: one row per (a, p), columns alpha, beta, gamma in
    nats (inf where they diverge).

    Raises:
        UsageError: for fewer than 2 points an axis.
    """
    if points < 2:
        raise UsageError(f"points must be at least 2, got {points!r}.")
    a, p = (
        axis.ravel() for axis in np.meshgrid(np.linspace(0, 1, points), np.linspace(0, 1, points))
    )
    return pd.DataFrame(
        {"a": a, "p": p} | {kind: label_noise.loss(kind, a, p, M) for kind in label_noise.KINDS}
    )


def optima_theory(
    kinds: tuple[str, ...], classes: tuple[int, ...], points: int = 201
) -> pd.DataFrame:
    """The best kept mass against the clean rate: one row per (kind, M, a) with p* and the loss
    there.

    Raises:
        UsageError: when no number of classes is given, or one is below 2.
    """
    if not classes:
        raise UsageError("classes must name at least one number of classes, got none.")
    a = np.linspace(0, 1, points)
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "kind": kind,
                    "M": M,
                    "a": a,
                    "p": label_noise.optimum(kind, a, M),
                    "loss": label_noise.best_loss(kind, a, M),
                }
            )
            for kind in kinds
            for M in classes
        ],
        ignore_index=True,
    )




@styled
def figure_1(table: pd.DataFrame) -> Figure:
    """Heat maps of eqs 7, 8, 9 over the (a, p) plane with the best p of each a (the mirror minimum
    of gamma too).
    """
    figure, panels = plt.subplots(1, 3, figsize=(10.5, 3.7), sharey=True, layout="constrained")
    for panel, kind in zip(panels, label_noise.KINDS, strict=True):
        grid = table.pivot(index="p", columns="a", values=kind)
        image = panel.pcolormesh(
            grid.columns,
            grid.index,
            np.minimum(grid, 1e3),
            cmap=LOSS_MAP,
            vmin=0,
            vmax=TOP,
            shading="nearest",
            rasterized=True,
        )
        a = np.linspace(0, 1, 401)
        best = label_noise.optimum(kind, a, 2)
        panel.plot(a, best, color="white", lw=2.2)
        if kind == "gamma":
            panel.plot(a, 1 - best, color="white", lw=1.6, ls="--")
        _mark(panel)
        panel.set_title(NAMES[kind])
        panel.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
    for panel in panels[1:]:
        panel.set_ylabel("")
    figure.colorbar(image, ax=panels, extend="max", label="test loss (nats)")
    return figure


@styled
def figure_2(table: pd.DataFrame) -> Figure:
    """p* against a for two classes, three assumptions; gamma's mirror minimum 1 - p* thin."""
    figure, axes = plt.subplots(figsize=(5.2, 4), layout="constrained")
    for colour, (kind, part) in zip(COLOURS, table.groupby("kind"), strict=False):
        axes.plot(part.a, part.p, DASHES[kind], color=colour, lw=2.2, label=NAMES[kind])
        if kind == "gamma":
            axes.plot(
                part.a,
                1 - part.p,
                DASHES[kind],
                color=colour,
                lw=1,
                label=r"$\gamma$: its mirror minimum $1-p^*$",
            )
    _mark(axes, ylabel="best kept mass p*")
    axes.set_xlim(0.5, 1)
    axes.legend(frameon=False, fontsize="small")
    return figure


@styled
def figure_3(table: pd.DataFrame) -> Figure:
    """p* against a for alpha and beta and several numbers of classes, with the limit a^2."""
    figure, axes = plt.subplots(figsize=(5.6, 4), layout="constrained")
    alpha, beta = table[table.kind == "alpha"], table[table.kind == "beta"]
    first = alpha[min(alpha.M) == alpha.M]
    axes.plot(first.a, first.p, color="black", lw=2, label=r"$\alpha$, every M")
    for colour, (M, part) in zip(COLOURS, beta.groupby("M"), strict=False):
        axes.plot(part.a, part.p, color=colour, lw=1.8, label=rf"$\beta$, M = {M}")
    axes.plot(first.a, first.a**2, color="black", ls=":", lw=1.4, label=r"limit $a^2$")
    _mark(axes, ylabel="best kept mass p*")
    axes.legend(frameon=False, fontsize="small")
    return figure


@styled
def figure_4(table: pd.DataFrame) -> Figure:
    """p* against a for gamma and several numbers of classes, each jump as a thin vertical line at
    a_c.
    """
    figure, axes = plt.subplots(figsize=(5.6, 4), layout="constrained")
    for colour, (M, part) in zip(COLOURS, table.groupby("M"), strict=False):
        a_c, p_c = label_noise.gamma_transition(M)
        below, above = part[part.a < a_c], part[part.a > a_c]
        axes.plot(below.a, below.p, color=colour, lw=1.8, label=rf"M = {M}: $a_c$ = {a_c:.4f}")
        axes.plot([a_c, *above.a], [p_c, *above.p], color=colour, lw=1.8)
        axes.plot([a_c, a_c], [1 / M, p_c], color=colour, lw=0.9, ls=":")
    _mark(axes, ylabel="best kept mass p*")
    axes.legend(frameon=False, fontsize="small", loc="upper left")
    return figure










"""Chen, Ziyin et al. 2020: the claims about formulas alone, and every error of the paper as
printed, right, and checked.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lsnc_core import labels
from lsnc_core.papers import claims
from lsnc_core.papers.chen_claims import C5_FROM, C5_NEAR, C6_TOLERANCE, C6_TRANSITIONS, CLAIMS
from lsnc_core.papers.claims import Case, Verdict
from lsnc_core.theory import label_noise, label_noise_errata

CLASSES = (2, 3, 10, 100, 1000)
RATES = np.linspace(0, 1, 101)[1:-1]
FORMULAS = "The formulas"
TOLERANCE = 1e-6
P_ABOVE = 1e-3  # p* above gamma's transition is tabulated to three digits
JENSEN_CLASSES = (2, 3, 4, 5)
JENSEN_CASES = 5000


def lowest(kind: str, a: float, M: int) -> float:
    """The argmin of the loss over p in (0, 1), by a search in log-odds that knows no closed form;
    to 1e-7, of a flat minimum to 1e-4.

    Args: kind, one of `label_noise.KINDS`; a, clean rate; M, classes. Returns: the p of the lowest
    of all local minima.
    """
    from scipy import optimize
    from scipy.special import expit

    def loss(odds):
        return label_noise.loss(kind, a, expit(odds), M)

    odds = np.linspace(-16, 16, 1601)
    values = loss(odds)
    dips = np.flatnonzero((values[1:-1] <= values[:-2]) & (values[1:-1] <= values[2:])) + 1
    options = {"method": "bounded", "options": {"xatol": 1e-10}}
    found = [
        optimize.minimize_scalar(loss, bounds=(odds[dip - 1], odds[dip + 1]), **options)
        for dip in dips
    ]
    return float(expit(min(found, key=lambda each: each.fun).x))


def _searched(kind: str, M: int) -> np.ndarray:
    """`lowest` at each of `RATES`: float64 (rates,)."""
    return np.array([lowest(kind, a, M) for a in RATES])


def _outcome(holds: bool) -> str:
    return claims.HOLDS if holds else claims.FAILS


def theory_verdicts() -> list[Verdict]:
    """C1, C4, C5, C6 and C12 checked on the formulas, each to a stated tolerance; every best p is
    searched for.
    """
    alpha, beta = ({M: _searched(kind, M) for M in CLASSES} for kind in ("alpha", "beta"))
    tried = f"searched at {len(RATES)} clean rates and M = {CLASSES}, tolerance {TOLERANCE:.0e}"

    found = max(np.abs(best - RATES).max() for best in alpha.values())
    c1 = Verdict(
        CLAIMS["C1"],
        FORMULAS,
        f"largest |p* − a| {found:.1e}, {tried}",
        _outcome(found < TOLERANCE),
    )

    differences = {M: beta[M] - alpha[M] for M in CLASSES}
    parts = (
        ("M = 2, a > 1/2, the paper's range", differences[2][RATES > 0.5]),
        ("M > 2, a ≥ 1/M", np.concatenate([differences[M][RATES >= 1 / M] for M in CLASSES[1:]])),
    )
    cases = [
        Case(name, f"largest p*(β) − p*(α): {part.max():.1e}", _outcome(part.max() < TOLERANCE))
        for name, part in parts
    ]
    below = max(part[RATES < 1 / M].max(initial=-1) for M, part in differences.items())
    c4 = claims.over_cases(
        CLAIMS["C4"],
        FORMULAS,
        cases,
        f"for a < 1/M, not claimed, p*(β) is larger, by up to {below:.2g}; {tried}",
    )

    c12 = Verdict(CLAIMS["C12"], FORMULAS, *_jensen_holds())
    return [c1, c4, _verdict_c5(beta, tried), _verdict_c6(), c12]


def _verdict_c5(beta: dict[int, np.ndarray], tried: str) -> Verdict:
    """C5 from beta's best p by number of classes, (rates,) each: its limit, the distance to it, and
    how close classes come for large a.
    """
    exact = max(
        np.abs(best - RATES**2 - (1 - RATES) ** 2 / (M - 1)).max() for M, best in beta.items()
    )
    gap = {M: np.abs(best - RATES**2).max() for M, best in beta.items() if M >= 10}
    near = {
        M: np.abs(best - beta[2])[RATES >= C5_FROM - 1e-12].max()
        for M, best in beta.items()
        if M > 2
    }
    cases = [
        Case(
            "the closed form",
            f"largest |p* − a² − (1−a)²/(M−1)| {exact:.1e}",
            _outcome(exact < TOLERANCE),
        ),
        Case(
            "the limit a²",
            "largest |p* − a²|: "
            + ", ".join(f"{value:.4f} at M = {M}" for M, value in gap.items()),
            _outcome(all(value <= 1 / (M - 1) + TOLERANCE for M, value in gap.items())),
        ),
        Case(
            f"a ≥ {C5_FROM}",
            "largest |p* − p* of M = 2|: "
            + ", ".join(f"{value:.3f} at M = {M}" for M, value in near.items()),
            _outcome(max(near.values()) <= C5_NEAR),
        ),
    ]
    return claims.over_cases(CLAIMS["C5"], FORMULAS, cases, tried)


def transition(M: int) -> float:
    """The clean rate at which gamma's searched best p leaves 1/M, by bisection; the formulas of
    `gamma_transition` are not used.
    """
    low, high = 1 / M, 0.99
    while high - low > 1e-10:
        middle = (low + high) / 2
        low, high = (
            (low, middle) if abs(lowest("gamma", middle, M) - 1 / M) > 1e-3 else (middle, high)
        )
    return high


def _verdict_c6() -> Verdict:
    """C6: at every M p* = 1/M below the transition, the transition where it was tabulated, and a
    jump that stays as the step shrinks.
    """
    steps, cases = (1e-4, 1e-6), []
    for M, (tabulated, above) in C6_TRANSITIONS.items():
        a_c = transition(M)
        flat = max(
            abs(lowest("gamma", a, M) - 1 / M) for a in np.linspace(1 / M, a_c - steps[0], 20)
        )
        far, close = (
            abs(lowest("gamma", a_c + step, M) - 1 / M) for step in steps
        )  # for M = 2 either of the two mirrored minima
        known = abs(a_c - tabulated) <= C6_TOLERANCE and abs(1 / M + close - above) <= P_ABOVE
        said = (
            f"p* − 1/M at most {flat:.0e} below a = {a_c:.6f} (tabulated {tabulated:.6f}); above by {steps[0]:.0e} {far:.4f}, "
            f"by {steps[1]:.0e} {close:.4f} (tabulated p* {above:.3f})"
        )
        # a continuous transition like a square root gives a tenth, a jump all of it
        cases.append(
            Case(f"M = {M}", said, _outcome(flat <= C6_TOLERANCE and known and close > far / 2))
        )
    return claims.over_cases(
        CLAIMS["C6"], FORMULAS, cases, "p* searched for on both sides of the transition"
    )


def _jensen_holds() -> tuple[str, str]:
    """What C12 measures on random logits, and its outcome."""
    terms = [random_jensen_terms(M) for M in JENSEN_CLASSES]
    violated = sum(int((smoothing > forward + 1e-12).sum()) for smoothing, forward, _ in terms)
    rows = sum(smoothing.size for smoothing, _, _ in terms)
    return (
        f"{violated} violations in {rows:,} rows of random cases, M = {JENSEN_CLASSES}",
        _outcome(violated == 0),
    )


@functools.cache
def random_jensen_terms(M: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The three log-likelihoods of eqs 18 and 19 for random logits (normal, scale 2) and kept
    masses (even in [1/M, 1]).

    Returns: three float64 (cases, M), the row of the largest logit first.
    """
    generator = np.random.default_rng((seed, M))
    # symmetric smoothing does not care for the order of the classes
    logits = -np.sort(-2 * generator.standard_normal((JENSEN_CASES, M)), axis=1)
    cases = [
        label_noise_errata.jensen_terms(labels.smoothing_matrix(p, M), h[None])
        for p, h in zip(generator.uniform(1 / M, 1, JENSEN_CASES), logits, strict=True)
    ]
    smoothing, forward, logit = (np.concatenate(part) for part in zip(*cases, strict=True))
    return smoothing, forward, logit


def _logit_violations() -> str:
    """How often the second step of eq. 19 is violated by random logits, in percent by number of
    classes.
    """
    shares = {"at least one row": [], "the sum over rows": [], "the row of the largest logit": []}
    for M in JENSEN_CLASSES:
        _, forward, logit = random_jensen_terms(M)
        above = forward > logit
        for name, hits in zip(
            shares, (above.any(1), forward.sum(1) > logit.sum(1), above[:, 0]), strict=True
        ):
            shares[name].append(f"{hits.mean():.1%}")
    said = "; ".join(f"{name} in {', '.join(found)}" for name, found in shares.items())
    return f"forward correction above logit smoothing at M = {', '.join(map(str, JENSEN_CLASSES))}, {JENSEN_CASES:,} random cases each: {said}"


@dataclass(frozen=True)
class Erratum:
    """One error of the paper: the place, what is printed, what is right (both LaTeX or plain
    words), and the computed check.
    """

    place: str
    printed: str
    right: str
    check: str


def errata() -> list[Erratum]:
    """The paper's errors in its own order of equations, each with numbers computed here from both
    forms.
    """
    M, a = 10, 0.8
    uniform = labels.symmetric_noise(a, M)
    skewed = np.array(
        [[0.8, 0.1, 0.0], [0.2, 0.6, 0.3], [0.0, 0.3, 0.7]]
    )  # columns sum to 1, rows do not
    best_alpha, best_beta = (
        label_noise.optimal_smoothing_alpha(skewed),
        label_noise.optimal_smoothing_beta(skewed),
    )
    printed13, right13 = (
        label_noise_errata.printed_eq13(uniform),
        label_noise.optimal_smoothing_beta(uniform),
    )
    printed12 = label_noise_errata.printed_eq12_loss(labels.smoothing_matrix(0.7, M), uniform)
    text = label_noise_errata.printed_text_before_eq13(uniform)
    first, second = label_noise_errata.printed_eq17(uniform)
    mean_field = label_noise.mean_field_kept_beta(uniform)
    searched = _lowest_kept(lambda p: label_noise.beta_loss(labels.smoothing_matrix(p, M), uniform))
    searched16 = _lowest_kept(lambda p: label_noise_errata.printed_eq16_loss(p, uniform))
    cyclic = labels.noise_matrix("pair", 0.7, 3) @ labels.noise_matrix(
        "pair", 0.9, 3
    )  # doubly stochastic, not symmetric
    wrong_large, right_large, exact_large = (
        float(np.diff(form(a, np.array([0.3, 0.9]), 10**6))[0])
        for form in (
            label_noise_errata.printed_gamma_large_M,
            label_noise.gamma_large_M,
            functools.partial(label_noise.loss, "gamma"),
        )
    )
    mirrored = label_noise.loss("gamma", 0.9, np.array([0.9632, 0.0368]), 2)
    off = (1 - a) / (M - 1)
    return [
        Erratum(
            "After eq. 9 (binary gamma)",
            "the testing loss is minimised for any $a > 0.75$",
            r"$p^* = 1/2$ for $a \leq 3/4$; above, two minima $p^*$ and $1 - p^*$, for the loss is symmetric",
            f"a = .75: p* = {label_noise.optimum('gamma', 0.75, 2):.4f}; a = .8: {label_noise.optimum('gamma', 0.8, 2):.4f}; "
            f"a = .9: loss at p = .9632 and .0368: {mirrored[0]:.6f}, {mirrored[1]:.6f}",
        ),
        Erratum(
            "Eq. 10 (alpha, general T)",
            "$S^*_{ij} = T_{ij}$, the sum starting at $j = 0$",
            r"$S^* = T^\mathsf{T} \mathrm{diag}(1 / (T \mathbf{1}))$, the sum from $j = 1$. The printed form is right for symmetric T; "
            "with $T_{1j}$ read by rows, as the probability that the clean class 1 becomes j, for every doubly stochastic T",
            f"loss of an asymmetric 3-class T: {label_noise.alpha_loss(label_noise_errata.printed_eq10(skewed), skewed):.4f} as printed, "
            f"{label_noise.alpha_loss(best_alpha, skewed):.4f} right; read by rows its columns sum to "
            f"{', '.join(f'{total:.1f}' for total in label_noise_errata.printed_eq10(skewed, by_rows=True).sum(0))}. Of an asymmetric "
            f"doubly stochastic one: {label_noise.alpha_loss(label_noise_errata.printed_eq10(cyclic), cyclic):.4f} as printed, "
            f"{label_noise.alpha_loss(label_noise_errata.printed_eq10(cyclic, by_rows=True), cyclic):.4f} read by rows, "
            f"{label_noise.alpha_loss(label_noise.optimal_smoothing_alpha(cyclic), cyclic):.4f} right",
        ),
        Erratum(
            "Eq. 12 (beta, general T)",
            "twice the sum over ordered pairs $k \\neq j$",
            r"$-\sum_{jk} (T T^\mathsf{T})_{jk} \log S_{jk}$, without the 2",
            f"a = .8, p = .7, M = 10: {printed12:.4f} as printed, "
            f"{label_noise.beta_loss(labels.smoothing_matrix(0.7, M), uniform):.4f} right, "
            f"{label_noise.loss('beta', a, 0.7, M):.4f} by eq. 14",
        ),
        Erratum(
            "Before eq. 13",
            r"$S_{ii} \sim T_{ii}^2 + \frac{1}{M-1} \overline{T_{ij}^2}, \; S_{ij} = 2 \sum_k T_{ik} T_{jk}$",
            r"$S_{ii} = \sum_j T_{ij}^2, \; S_{ij} = \sum_k T_{ik} T_{jk}$",
            f"a = .8, M = 10: S_11 = {text[0, 0]:.4f} as printed, {(uniform @ uniform.T)[0, 0]:.4f} right; "
            f"column sum {text[:, 0].sum():.4f} and {(uniform @ uniform.T)[:, 0].sum():.4f}",
        ),
        Erratum(
            "Eq. 13 (beta, general T)",
            r"$S^* = \frac{1}{2} T T^\mathsf{T}$",
            r"$S^* = T T^\mathsf{T} \mathrm{diag}(1 / (T \mathbf{1}))$",
            f"uniform T, a = .8, M = 10: diagonal {printed13[0, 0]:.4f} and column sum {printed13[:, 0].sum():.2f} as printed; "
            f"{right13[0, 0]:.4f} and {right13[:, 0].sum():.2f} right, the paper's own "
            f"p*(β) = {label_noise.optimum('beta', a, M):.4f}; loss of an asymmetric 3-class T: "
            f"{label_noise.beta_loss(label_noise_errata.printed_eq13(skewed), skewed):.4f} as printed, "
            f"{label_noise.beta_loss(best_beta, skewed):.4f} right",
        ),
        Erratum(
            "Before eq. 14 (uniform T)",
            "$T_{ii} = a, \\; T_{ij} = a / (M - 1)$",
            "$T_{ij} = (1 - a) / (M - 1)$",
            f"column sum at a = .8, M = 10: {a + (M - 1) * a / (M - 1):.1f} as printed, {a + (M - 1) * off:.1f} right",
        ),
        Erratum(
            "Section 4.3 (gamma, many classes)",
            r"$\ell = \ell_2(a, p) - a p \log(M - 1) + O(1/M) + \mathrm{const}$",
            r"$-ap \log p - (1 - ap) \log(1 - p) + (1 - ap) \log(M - 1)$",
            f"loss(p = .9) - loss(p = .3) at a = .8, M = 1,000,000: {wrong_large:.4f} as printed, "
            f"{right_large:.4f} right, {exact_large:.4f} exact",
        ),
        Erratum(
            "Eq. 16 (beta, mean field)",
            r"$\log(1 - p)$, and twice the double sum with $k = j$",
            r"$\log\frac{1 - p}{M - 1}$, once, without $k = j$",
            f"a = .8, M = 10, lowest at p = {searched16:.4f} as printed, {searched:.4f} right (by search); of the slips only the one "
            "under the logarithm leaves p* as it is",
        ),
        Erratum(
            "Eq. 17 (beta, mean field)",
            r"$\frac{1}{2} \sum_{ij} T_{ij}^2$, and $\mathrm{Tr}[T T^\mathsf{T}] / (2M)$",
            r"$p^* = \mathrm{Tr}[T T^\mathsf{T}] / M$",
            f"a = .8, M = 10: {first:.4f} and {second:.4f} as printed, {mean_field:.4f} right, {searched:.4f} searched",
        ),
        Erratum(
            "Eqs 18 and 19 (forward correction, logit smoothing)",
            r"$\log(S_{ij} \sigma(h_j))$, and forward correction $\leq$ logit smoothing",
            r"$\log \sum_j S_{ij} \sigma_j(h)$; the second inequality is false",
            _logit_violations(),
        ),
        Erratum(
            "Appendix C (ResNet-18)",
            "1,000,000 parameters",
            "11.17 million for the CIFAR form",
            f"counted here: {resnet18_parameters():,}",
        ),
    ]


def _lowest_kept(loss: Callable[[float], float]) -> float:
    """The kept mass at which a mean-field loss is lowest, by search."""
    from scipy import optimize

    return optimize.minimize_scalar(
        loss, bounds=(0.01, 0.99), method="bounded", options={"xatol": 1e-9}
    ).x


def resnet18_parameters(classes: int = 10) -> int:
    """Parameters of ResNet-18 with the 3x3 stem for small images, counted layer by layer:
    convolutions without bias, then batch norm.
    """

    def convolution(inputs: int, outputs: int, size: int) -> int:
        return (
            inputs * outputs * size**2 + 2 * outputs
        )  # batch norm has a scale and a shift per channel

    total, inputs = convolution(3, 64, 3), 64
    for width in (64, 128, 256, 512):
        shortcut = convolution(inputs, width, 1) if inputs != width else 0
        total += convolution(inputs, width, 3) + 3 * convolution(width, width, 3) + shortcut
        inputs = width
    return total + inputs * classes + classes
