"""Guo et al. 2025 (arXiv 2402.03979): the claims about the unconstrained feature model, and what is
computed for them by profile.

delta is the smoothing strength, NC1, NC2, NC3 are the paper's equations 4 to 6. The paper's full
text was not at hand: a claim whose wording is not sourced says so.
"""

from dataclasses import dataclass

from lsnc_core.errors import UsageError
from lsnc_core.papers.claims import OURS, Claim
from lsnc_core.theory.ufm import FeatureModel

PAPER = "Guo et al. 2025"

# The claims' thresholds, fixed before the first run.
LOSS_TOLERANCE, POINT_TOLERANCE = 1e-12, 1e-6  # of f; of logits and norms, absolute
SPECTRUM_TOLERANCE, RATE_TOLERANCE = 1e-10, 0.01
GAP_FROM, GAP_TO = 1e-1, 1e-3  # of f - min f, between which its slope is taken
NC1_LEVELS = (1e-1, 3e-2, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
# when a metric counts as small, for the table of iterations
REACHED = (("gap", GAP_TO), ("nc1", 1e-2), ("nc1", 1e-4), ("nc2", 0.1), ("nc3", 0.1))

STRENGTHS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4)  # those of the paper's feature-model curves
SMOOTHED = 0.05  # the paper's main comparison is this strength against 0

_CLAIMS = (
    (
        "G4",
        "abstract; training dynamics",
        "At the same level of NC1, label smoothing has the smaller NC2 (collapse of class means and classifier to a simplex).",
        f"NC2(δ = {SMOOTHED}) − NC2(0) below 0 at each level of NC1",
    ),
    (
        "G10",
        "plots of log(loss − lowest loss); which figure is not known to us",
        "The training loss approaches its lowest value faster with label smoothing.",
        f"fewer iterations from a gap of {GAP_FROM:g} to {GAP_TO:g} than without smoothing",
    ),
    (
        "G11",
        "Theorem 1",
        "The global minimisers are simplex frames with one margin and norms in closed form, zero from δ + Kε = 1 on.",
        f"an optimiser that knows nothing of it finds f to {LOSS_TOLERANCE:g}, logits and norms to {POINT_TOLERANCE:g}",
    ),
    (
        "G12",
        "Theorem 2; which Hessian it is about is not known to us",
        "The Hessian at the minimiser has a lower condition number with label smoothing.",
        "for the data loss in W or in H, non-zero eigenvalues (D1): K − (K−1)(δ + Kε), falling in δ",
    ),
    (
        "G13",
        "a sharper form of the paper's Theorem 2, derived in this project",
        "NC1 contracts faster with label smoothing, by (1 − ηe)² a step, e = λ_H (1 + a p_o/(Kε)).",
        f"measured rate of log NC1 within {RATE_TOLERANCE:.0%} of the formula",
    ),
)
CLAIMS = {
    name: Claim(name, OURS if name == "G13" else PAPER, place, sentence, expected)
    for name, place, sentence, expected in _CLAIMS
}


@dataclass(frozen=True)
class ModelSize:
    """What the feature model's notebooks compute in one profile.

    starts: random starts of each strength that are minimised; runs: starts of the training curves;
    iterations of these.
    """

    starts: int
    runs: int
    iterations: int


MODEL = {
    "smoke": ModelSize(starts=4, runs=4, iterations=800),
    "quick": ModelSize(starts=50, runs=8, iterations=10000),
    "gpu": ModelSize(starts=200, runs=16, iterations=20000),
    "paper": ModelSize(starts=1000, runs=32, iterations=20000),
}


def model_size(profile: str) -> ModelSize:
    """The sizes of a profile. Raises: UsageError, for an unknown profile."""
    if profile not in MODEL:
        raise UsageError(f"unknown profile {profile!r}; the profiles are {', '.join(MODEL)}.")
    return MODEL[profile]


def code_model(K: int = 10, n: int = 2, D: int | None = None, weaker: float = 1.0) -> FeatureModel:
    """A model with the decays of the authors' released code, lambda_W = 1e-3, n lambda_H = 5e-3
    (theirs: 1e-6 times 5,000), 1e-2 for b.

    The closed forms depend on n and lambda_H only through n lambda_H, so few samples stand for
    theirs. weaker divides all decays.
    """
    return FeatureModel(K, n, D or K + 2, 1e-3 / weaker, 5e-3 / n / weaker, 1e-2 / weaker)


def dynamics_model(K: int = 10, n: int = 8, D: int = 12) -> FeatureModel:
    """The model of the training curves: weak decays, lambda_W = N lambda_H = lambda_b = 1e-3."""
    return FeatureModel(K, n, D, 1e-3, 1e-3 / (n * K), 1e-3)
