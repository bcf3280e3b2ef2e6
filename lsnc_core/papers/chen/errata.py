"""Errors of Chen, Ziyin et al. 2020: each as printed, right, and computed from both forms; the open
question of Figure 9's caption; gamma's transitions, computed apart from this package's formulas.

The printed formulas are in `lsnc_core.theory.label_noise_errata`, the right ones in
`lsnc_core.theory.label_noise`. a is the clean rate, p the kept mass, M the number of classes.
"""

import functools
from collections.abc import Callable

import numpy as np

from lsnc_core import labels
from lsnc_core.papers.page import Problem
from lsnc_core.theory import label_noise, label_noise_errata

# Clean rate of gamma's transition by number of classes, and p* just above it; below it p* = 1/M.
C6_TRANSITIONS = {
    2: (0.75, 0.5),
    3: (0.660150, 0.499),
    4: (0.607209, 0.497),
    5: (0.570756, 0.495),
    10: (0.476818, 0.483),
    20: (0.404274, 0.465),
    50: (0.331005, 0.434),
    100: (0.288008, 0.409),
    1000: (0.193645, 0.324),
    10**4: (0.141551, 0.254),
    10**6: (0.089616, 0.169),
}
# The example of the errata: a and M of uniform noise.
RATE, CLASSES = 0.8, 10
# Random cases of Chen eq. 18 and 19.
JENSEN_CLASSES = (2, 3, 4, 5)
JENSEN_CASES = 5000


# an error of the paper that chen_1_theory shows
Erratum = functools.partial(Problem, notebook="chen_1_theory")

OPEN_QUESTION = Problem(
    "Open question: caption of Figure 9",
    "gamma's theory is the nearest to the measured minima",
    "open: the experiment is alpha's",
    "measured in chen_2_landscape (C17)",
    notebook="chen_2_landscape",
)


def list_errata() -> list[Problem]:
    """The paper's errors in its own order of equations."""
    return [
        _figure_1(),
        _after_eq9(),
        _eq10(),
        _section_4_1(),
        _corrected_output(),
        _eq12(),
        _before_eq13(),
        _eq13(),
        _section_4_2(),
        _before_eq14(),
        _large_M(),
        _more_classes(),
        _section_4_4(),
        _eq16(),
        _eq17(),
        _eq18_19(),
        _parameters(),
    ]


def _uniform_noise() -> np.ndarray:
    return labels.symmetric_noise(RATE, CLASSES)


def _skewed_noise() -> np.ndarray:
    """Three classes; columns sum to 1, rows do not."""
    return np.array([[0.8, 0.1, 0.0], [0.2, 0.6, 0.3], [0.0, 0.3, 0.7]])


def _figure_1() -> Problem:
    at_end = ", ".join(f"{label_noise.loss(kind, 0.0, 1.0, 2):g}" for kind in label_noise.KINDS)
    best = label_noise.optimum("gamma", 0.8, 2)
    low = label_noise.loss("gamma", 0.8, np.array([best, 1 - best]), 2)
    return Erratum(
        "Caption of Figure 1",
        "the loss diverges at $p = 1$ whenever $a \\neq 1$; every a has one best p",
        "beta's is finite at $a = 0$, too, where wrong labels agree; gamma has two best p for "
        "$a > 3/4$",
        f"M = 2: losses at a = 0 and p = 1 (alpha, beta, gamma): {at_end}; gamma at a = .8: "
        f"{low[0]:.6f} at p = {best:.4f}, {low[1]:.6f} at p = {1 - best:.4f}",
    )


def _after_eq9() -> Problem:
    best = [label_noise.optimum("gamma", a, 2) for a in (0.75, 0.8)]
    upper, lower = label_noise.loss("gamma", 0.9, np.array([0.9632, 0.0368]), 2)
    return Erratum(
        "After eq. 9 (binary gamma)",
        "the testing loss is minimised for any $a > 0.75$",
        r"$p^* = 1/2$ for $a \leq 3/4$; above, two minima $p^*$ and $1 - p^*$, for the loss is "
        "symmetric",
        f"a = .75: p* = {best[0]:.4f}; a = .8: {best[1]:.4f}; "
        f"a = .9: loss at p = .9632 and .0368: {upper:.6f}, {lower:.6f}",
    )


def _eq10() -> Problem:
    printed, right = label_noise_errata.printed_eq10, label_noise.optimal_smoothing_alpha
    loss, skewed = label_noise.alpha_loss, _skewed_noise()
    column_sums = ", ".join(f"{total:.1f}" for total in printed(skewed, by_rows=True).sum(0))
    # doubly stochastic, not symmetric
    cyclic = labels.noise_matrix("pair", 0.7, 3) @ labels.noise_matrix("pair", 0.9, 3)
    return Erratum(
        "Eq. 10 (alpha, general T)",
        "$S^*_{ij} = T_{ij}$, the sum starting at $j = 0$",
        r"$S^* = T^\mathsf{T} \mathrm{diag}(1 / (T \mathbf{1}))$, the sum from $j = 1$. The "
        "printed form is right for symmetric T; with $T_{1j}$ read by rows, as the probability "
        "that the clean class 1 becomes j, for every doubly stochastic T",
        f"loss of an asymmetric 3-class T: {loss(printed(skewed), skewed):.4f} as printed, "
        f"{loss(right(skewed), skewed):.4f} right; read by rows its columns sum to "
        f"{column_sums}. Of an asymmetric doubly stochastic one: "
        f"{loss(printed(cyclic), cyclic):.4f} as printed, "
        f"{loss(printed(cyclic, by_rows=True), cyclic):.4f} read by rows, "
        f"{loss(right(cyclic), cyclic):.4f} right",
    )


def _section_4_1() -> Problem:
    # p* - 1/M above gamma's transition; a square root keeps a tenth of it, a jump all of it
    rises = {}
    for M in (2, 3):
        a_c, _ = label_noise.gamma_transition(M)
        rises[M] = [label_noise.optimum("gamma", a_c + step, M) - 1 / M for step in (1e-4, 1e-6)]
    return Erratum(
        "Section 4.1 and caption of Figure 4 (many classes)",
        "many classes are not qualitatively different from two",
        "true of alpha and beta; gamma's $p^*$ is continuous for two classes and jumps for more",
        "p* - 1/M at .0001 and .000001 above gamma's transition: "
        f"{rises[2][0]:.4f} and {rises[2][1]:.4f} for M = 2, "
        f"{rises[3][0]:.4f} and {rises[3][1]:.4f} for M = 3",
    )


def _corrected_output() -> Problem:
    differences = []
    for noise in ("symmetric", "block", "mixed", "pair"):
        T = labels.noise_matrix(noise, RATE, CLASSES)
        best = label_noise.alpha_loss(label_noise.optimal_smoothing_alpha(T), T)
        differences.append(f"{label_noise.alpha_loss(T, T) - best:.4f} ({noise})")
    return Erratum(
        "Section 4.1 (forward correction, general T)",
        r"the corrected output $T \tilde y = S^* \tilde y$ has exactly the loss of the best "
        "smoothing",
        r"for symmetric T; otherwise $S^* \neq T$ (eq. 10), and the corrected output has a higher "
        "loss",
        f"loss of T minus that of S*, a = .8, M = 10: {', '.join(differences)}",
    )


def _eq12() -> Problem:
    S, T = labels.smoothing_matrix(0.7, CLASSES), _uniform_noise()
    return Erratum(
        "Eq. 12 (beta, general T)",
        "twice the sum over ordered pairs $k \\neq j$",
        r"$-\sum_{jk} (T T^\mathsf{T})_{jk} \log S_{jk}$, without the 2",
        f"a = .8, p = .7, M = 10: {label_noise_errata.printed_eq12_loss(S, T):.4f} as printed, "
        f"{label_noise.beta_loss(S, T):.4f} right, "
        f"{label_noise.loss('beta', RATE, 0.7, CLASSES):.4f} by eq. 14",
    )


def _before_eq13() -> Problem:
    T = _uniform_noise()
    printed, right = label_noise_errata.printed_text_before_eq13(T), T @ T.T
    return Erratum(
        "Before eq. 13",
        r"$S_{ii} \sim T_{ii}^2 + \frac{1}{M-1} \overline{T_{ij}^2}, "
        r"\; S_{ij} = 2 \sum_k T_{ik} T_{jk}$",
        r"$S_{ii} = \sum_j T_{ij}^2, \; S_{ij} = \sum_k T_{ik} T_{jk}$",
        f"a = .8, M = 10: S_11 = {printed[0, 0]:.4f} as printed, {right[0, 0]:.4f} right; "
        f"column sum {printed[:, 0].sum():.4f} and {right[:, 0].sum():.4f}",
    )


def _eq13() -> Problem:
    T, skewed = _uniform_noise(), _skewed_noise()
    printed, right = label_noise_errata.printed_eq13, label_noise.optimal_smoothing_beta
    return Erratum(
        "Eq. 13 (beta, general T)",
        r"$S^* = \frac{1}{2} T T^\mathsf{T}$",
        r"$S^* = T T^\mathsf{T} \mathrm{diag}(1 / (T \mathbf{1}))$",
        f"uniform T, a = .8, M = 10: diagonal {printed(T)[0, 0]:.4f} and column sum "
        f"{printed(T)[:, 0].sum():.2f} as printed; {right(T)[0, 0]:.4f} and "
        f"{right(T)[:, 0].sum():.2f} right, the paper's own "
        f"p*(β) = {label_noise.optimum('beta', RATE, CLASSES):.4f}; loss of an asymmetric "
        f"3-class T: {label_noise.beta_loss(printed(skewed), skewed):.4f} as printed, "
        f"{label_noise.beta_loss(right(skewed), skewed):.4f} right",
    )


def _section_4_2() -> Problem:
    skewed = _skewed_noise()
    beta = label_noise.optimal_smoothing_beta(skewed)
    alpha = label_noise.optimal_smoothing_alpha(skewed)
    sums = ", ".join(f"{total:.2f}" for total in alpha.sum(1))
    return Erratum(
        "Section 4.2 (general T)",
        "the beta solution is symmetric, the alpha solution doubly stochastic",
        "true for doubly stochastic T",
        f"an asymmetric 3-class T: S* of beta differs from its transpose by up to "
        f"{np.abs(beta - beta.T).max():.3f}; rows of alpha's sum to {sums}",
    )


def _before_eq14() -> Problem:
    printed = RATE + (CLASSES - 1) * RATE / (CLASSES - 1)
    right = RATE + (CLASSES - 1) * ((1 - RATE) / (CLASSES - 1))
    return Erratum(
        "Before eq. 14 (uniform T)",
        "$T_{ii} = a, \\; T_{ij} = a / (M - 1)$",
        "$T_{ij} = (1 - a) / (M - 1)$",
        f"column sum at a = .8, M = 10: {printed:.1f} as printed, {right:.1f} right",
    )


def _large_M() -> Problem:
    def rise(loss: Callable[..., np.ndarray]) -> float:
        return float(np.diff(loss(RATE, np.array([0.3, 0.9]), 10**6))[0])

    return Erratum(
        "Section 4.3 (gamma, many classes)",
        r"$\ell = \ell_2(a, p) - a p \log(M - 1) + O(1/M) + \mathrm{const}$",
        r"$-ap \log p - (1 - ap) \log(1 - p) + (1 - ap) \log(M - 1)$",
        "loss(p = .9) - loss(p = .3) at a = .8, M = 1,000,000: "
        f"{rise(label_noise_errata.printed_gamma_large_M):.4f} as printed, "
        f"{rise(label_noise.gamma_large_M):.4f} right, "
        f"{rise(functools.partial(label_noise.loss, 'gamma')):.4f} exact",
    )


def _more_classes() -> Problem:
    counts, parts = (2, 3, 10, 100, 1000), []
    for a in (0.5, RATE):
        best = ", ".join(f"{label_noise.optimum('gamma', a, M):.4f}" for M in counts)
        parts.append(f"{best} at a = {a:g}")
    return Erratum(
        "Section 4.3 (gamma, larger p)",
        "the term $-a p \\log(M - 1)$ encourages larger p as $M - 1$ increases",
        "true above gamma's transition; below it $p^* = 1 / M$, which falls",
        f"p* for M = {', '.join(map(str, counts))}: {'; '.join(parts)}",
    )


def _section_4_4() -> Problem:
    kept = np.linspace(0.1, 0.9, 9)
    changes = [labels.smoothing_matrix(p, CLASSES) - np.eye(CLASSES) for p in kept]
    rank = np.linalg.matrix_rank(np.reshape(changes, (len(kept), -1)))
    return Erratum(
        "Section 4.4 (mean field)",
        "2 variables",
        r"one, $p$: what is off the diagonal is $\frac{1 - p}{M - 1}$",
        f"M = 10: {len(kept)} matrices of different p minus the identity have rank {rank}",
    )


def _searched_kept() -> float:
    """The kept mass at which symmetric smoothing has the least beta loss, by search."""
    T = _uniform_noise()
    return _search_kept(lambda p: label_noise.beta_loss(labels.smoothing_matrix(p, CLASSES), T))


def _eq16() -> Problem:
    T = _uniform_noise()
    printed = _search_kept(lambda p: label_noise_errata.printed_eq16_loss(p, T))
    return Erratum(
        "Eq. 16 (beta, mean field)",
        r"$\log(1 - p)$, and twice the double sum with $k = j$",
        r"$\log\frac{1 - p}{M - 1}$, once, without $k = j$",
        f"a = .8, M = 10, lowest at p = {printed:.4f} as printed, {_searched_kept():.4f} right "
        "(by search); of the slips only the one under the logarithm leaves p* as it is",
    )


def _eq17() -> Problem:
    T = _uniform_noise()
    first, second = label_noise_errata.printed_eq17(T)
    return Erratum(
        "Eq. 17 (beta, mean field)",
        r"$\frac{1}{2} \sum_{ij} T_{ij}^2$, and $\mathrm{Tr}[T T^\mathsf{T}] / (2M)$",
        r"$p^* = \mathrm{Tr}[T T^\mathsf{T}] / M$",
        f"a = .8, M = 10: {first:.4f} and {second:.4f} as printed, "
        f"{label_noise.mean_field_kept_beta(T):.4f} right, {_searched_kept():.4f} searched",
    )


def _eq18_19() -> Problem:
    return Erratum(
        "Eqs 18 and 19 (forward correction, logit smoothing)",
        r"$\log(S_{ij} \sigma(h_j))$, and forward correction $\leq$ logit smoothing",
        r"$\log \sum_j S_{ij} \sigma_j(h)$; the second inequality is false",
        _describe_violations(),
    )


def _describe_violations() -> str:
    """How often random logits violate the second step of Chen eq. 19, by number of classes."""
    shares: dict[str, list[str]] = {
        "at least one row": [],
        "the sum over rows": [],
        "the row of the largest logit": [],
    }
    for M in JENSEN_CLASSES:
        _, forward, logit = random_jensen_terms(M)
        above = forward > logit
        violated = above.any(1), forward.sum(1) > logit.sum(1), above[:, 0]
        for name, hits in zip(shares, violated, strict=True):
            shares[name].append(f"{hits.mean():.1%}")
    parts = [f"{name} in {', '.join(numbers)}" for name, numbers in shares.items()]
    classes = ", ".join(map(str, JENSEN_CLASSES))
    return (
        f"forward correction above logit smoothing at M = {classes} ({JENSEN_CASES:,} random "
        f"cases each): {'; '.join(parts)}"
    )


@functools.cache
def random_jensen_terms(M: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The three log-likelihoods of Chen eq. 18 and 19 for random logits (normal, scale 2) and kept
    masses (uniform in [1/M, 1]).

    Returns:
        Label smoothing, forward correction, logit smoothing: float64 (cases, M) each, the row of
        the largest logit first.
    """
    from scipy import special

    generator = np.random.default_rng((seed, M))
    # symmetric smoothing treats all classes alike, so they may be sorted
    logits = -np.sort(-2 * generator.standard_normal((JENSEN_CASES, M)), axis=1)
    kept = generator.uniform(1 / M, 1, JENSEN_CASES)
    # `label_noise_errata.jensen_terms` of all cases at once: S is (p - spread) I + spread 1 1^T
    p = kept[:, None]
    spread = (1 - p) / (M - 1)  # (cases, 1)
    log_sigma = special.log_softmax(logits, axis=1)  # (cases, M)
    smoothing = (p - spread) * log_sigma + spread * log_sigma.sum(1, keepdims=True)
    forward = np.log((p - spread) * np.exp(log_sigma) + spread)
    logit = special.log_softmax((p - spread) * logits, axis=1)
    return smoothing, forward, logit


def _parameters() -> Problem:
    return Erratum(
        "Appendix C (ResNet-18)",
        "1,000,000 parameters",
        "11.17 million for the CIFAR form",
        f"counted here: {count_resnet18_parameters():,}",
    )


def count_resnet18_parameters(classes: int = 10) -> int:
    """Parameters of ResNet-18 with the 3x3 stem for small images, counted layer by layer:
    convolutions without bias, each followed by batch norm.
    """

    def count_convolution(inputs: int, outputs: int, size: int) -> int:
        return inputs * outputs * size**2 + 2 * outputs  # batch norm: a scale and a shift each

    total, inputs = count_convolution(3, 64, 3), 64
    for width in (64, 128, 256, 512):
        shortcut = count_convolution(inputs, width, 1) if inputs != width else 0
        total += count_convolution(inputs, width, 3) + 3 * count_convolution(width, width, 3)
        total += shortcut
        inputs = width
    return total + inputs * classes + classes


def _search_kept(loss: Callable[[float], float]) -> float:
    """The kept mass at which a mean-field loss is lowest, by search."""
    from scipy import optimize

    search = {"bounds": (0.01, 0.99), "method": "bounded", "options": {"xatol": 1e-9}}
    return optimize.minimize_scalar(loss, **search).x
