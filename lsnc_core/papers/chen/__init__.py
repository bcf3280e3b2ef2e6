"""Chen, Ziyin et al. 2020: how much smoothing is best when labels are wrong."""

from lsnc_core.papers.page import Equation, Paper

_LOSS = "theory.label_noise.loss"
_MEASURED_CLEAN = (
    "chen-figure-5",
    "chen-figure-5-cifar10",
    "chen-figure-5-residual",
    "chen-residual-by-size",
    "chen-figure-6",
)
_MEASURED_NOISY = ("chen-figure-7", "chen-figure-7-cifar10", "chen-beta-minima")

# Where a printed formula is wrong, the function computes the right one; chen_1_theory shows both.
EQUATIONS = (
    Equation(
        number="Chen eq. 1",
        content="smoothed label: mass p on the label, (1-p)/(M-1) on every other class",
        function="labels.smoothing_matrix",
    ),
    Equation(
        number="Chen eq. 2",
        content="smoothing by any matrix S: the label y becomes S y",
        function="labels.smoothed_targets",
        figures=("chen-general-noise",),
        claims=("C13",),
    ),
    Equation(
        number="Chen eq. 3",
        content="entropy of a smoothed label, the least training loss that can be reached",
        function="theory.label_noise.entropy_floor",
        figures=("chen-figure-5",),
        claims=("C1", "C2", "C3", "C4", "C17"),
    ),
    Equation(
        number="Chen eq. 7",
        content="test loss with clean test labels (alpha), two classes",
        function=_LOSS,
        figures=("chen-figure-1", "chen-figure-2"),
        claims=("C1",),
    ),
    Equation(
        number="Chen eq. 8",
        content="test loss with noisy test labels (beta), two classes",
        function=_LOSS,
        figures=("chen-figure-1", "chen-figure-2"),
        claims=("C4", "C5"),
    ),
    Equation(
        number="Chen eq. 9",
        content="test loss with Bayesian test labels (gamma), two classes",
        function=_LOSS,
        figures=("chen-figure-1", "chen-figure-2", "chen-figure-4"),
        claims=("C6",),
    ),
    Equation(
        number="Chen eq. 10",
        content="test loss with clean test labels, any smoothing and noise",
        function="theory.label_noise.alpha_loss",
        figures=("chen-general-noise",),
        claims=("C11", "C13"),
    ),
    Equation(
        number="Chen eq. 10",
        content="its best smoothing, the posterior (printed: S* = T)",
        function="theory.label_noise.optimal_smoothing_alpha",
        figures=("chen-general-noise",),
        claims=("C11", "C13"),
    ),
    Equation(
        number="Chen eq. 11",
        content="test loss with clean test labels (alpha), M classes",
        function=_LOSS,
        figures=("chen-figure-3", *_MEASURED_CLEAN),
        claims=("C1", "C2", "C4", "C17"),
    ),
    Equation(
        number="Chen eq. 12",
        content="test loss with noisy test labels, any smoothing and noise (printed with a factor "
        "2 too many)",
        function="theory.label_noise.beta_loss",
    ),
    Equation(
        number="Chen eq. 13",
        content="its best smoothing (printed with a factor 1/2 too many)",
        function="theory.label_noise.optimal_smoothing_beta",
    ),
    Equation(
        number="Chen eq. 14",
        content="test loss with noisy test labels (beta), M classes",
        function=_LOSS,
        figures=("chen-figure-3", *_MEASURED_NOISY),
        claims=("C3", "C4", "C5", "C17"),
    ),
    Equation(
        number="Chen eq. 15",
        content="test loss with Bayesian test labels (gamma), M classes",
        function=_LOSS,
        figures=("chen-figure-4",),
        claims=("C6", "C17"),
    ),
    Equation(
        number="Chen eq. 16",
        content="eq. 12 for symmetric smoothing, as printed; the right one is eq. 12's",
        function="theory.label_noise_errata.printed_eq16_loss",
    ),
    Equation(
        number="Chen eq. 17",
        content="best kept mass under any noise with clean test labels, Tr(T)/M",
        function="theory.label_noise.mean_field_kept_alpha",
        figures=("chen-general-noise",),
        claims=("C13",),
    ),
    Equation(
        number="Chen eq. 17",
        content="best kept mass under any noise with noisy test labels, Tr(T T^t)/M (printed "
        "in two wrong forms)",
        function="theory.label_noise.mean_field_kept_beta",
    ),
    Equation(
        number="Chen eq. 18",
        content="log-likelihoods of label smoothing and forward correction",
        function="theory.label_noise_errata.jensen_terms",
        figures=("chen-corrections", "chen-jensen-gap"),
        claims=("C12",),
    ),
    Equation(
        number="Chen eq. 19",
        content="log-likelihoods of forward correction and logit smoothing",
        function="theory.label_noise_errata.jensen_terms",
        figures=("chen-corrections",),
        claims=("C14",),
    ),
)

CLAIM_NAMES = {
    "C1": "Test loss is lowest where p equals a",
    "C2": "The formula predicts the loss on clean labels",
    "C3": "The formula predicts the loss on noisy labels",
    "C4": "Noisy test labels call for more smoothing",
    "C5": "With noisy test labels the best p tends to a²",
    "C6": "With Bayesian test labels the best p jumps",
    "C7": "Best p for accuracy lies below best p for loss",
    "C8": "With early stopping accuracy ignores p",
    "C9": "Test error has two minima in p",
    "C10": "Weak smoothing helps accuracy from a = 0.9 on",
    "C11": "Best smoothing has forward correction's loss",
    "C12": "LS objective at most that of forward correction",
    "C13": "Under any noise the posterior smooths best",
    "C14": "Forward correction never above logit smoothing",
    "C15": "Smoothing logits works as smoothing labels does",
    "C16": "Best p for loss and accuracy rise with a",
    "C17": "Theory gamma predicts the minima best",
    "C18": "On held-out images the best p is at least a",
    "C19": "Best p for accuracy lower at equal memorisation",
}

PAPER = Paper(
    name="Chen, Ziyin et al. 2020",
    short="Chen et al. 2020",
    arxiv="2010.12648",
    position=1,
    pages=(
        "chen_1_theory",
        "chen_2_landscape",
        "chen_3_beta",
        "chen_4_loss_and_accuracy",
        "chen_5_beyond_uniform",
    ),
    equations=EQUATIONS,
    claim_names=CLAIM_NAMES,
    headline=("C1", "C2", "C7"),
    figure="chen-figure-5",
)
