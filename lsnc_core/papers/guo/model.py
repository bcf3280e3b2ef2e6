"""Guo et al. 2025: the unconstrained feature model as its three notebooks use it.

delta is the smoothing strength, y = (1 - delta) onehot + delta/K; NC1, NC2 and NC3 are Guo eq. 4
to 6. The paper's full text was not at hand: a claim whose wording is not sourced says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lsnc_core.errors import UsageError
from lsnc_core.theory.ufm import FeatureModel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TRIED_ON = "The feature model"
STRENGTHS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4)  # those of the paper's feature-model curves

# one mark per strength or definition in every figure of the model
MARKS = ("o", "s", "^", "D", "v", "P")


@dataclass(frozen=True)
class ModelSize:
    """What the feature model's notebooks compute in one profile.

    Attributes:
        starts: random starts of each strength that L-BFGS minimises from.
        runs: random starts of the training curves.
        iterations: gradient steps of the training curves.
    """

    starts: int
    runs: int
    iterations: int


MODEL = {
    "smoke": ModelSize(starts=4, runs=4, iterations=800),
    "quick": ModelSize(starts=50, runs=8, iterations=10000),
    "hour": ModelSize(starts=100, runs=16, iterations=10000),
    "gpu": ModelSize(starts=200, runs=16, iterations=20000),
    "paper": ModelSize(starts=1000, runs=32, iterations=20000),
}


def model_size(profile: str) -> ModelSize:
    """The sizes of a profile.

    Raises:
        UsageError: for an unknown profile.
    """
    if profile not in MODEL:
        raise UsageError(f"unknown profile {profile!r}; the profiles are {', '.join(MODEL)}.")
    return MODEL[profile]


def code_model(K: int = 10, n: int = 2, D: int | None = None, weaker: float = 1.0) -> FeatureModel:
    """A model with the weight decays of the authors' released code.

    lambda_W = 1e-3, n lambda_H = 5e-3 (theirs: 1e-6 times 5,000), lambda_b = 1e-2. The closed forms
    depend on n and lambda_H only through n lambda_H, so few samples stand for theirs.

    Args:
        K: number of classes.
        n: samples of each class.
        D: feature width; K + 2 by default.
        weaker: divides all weight decays.
    """
    return FeatureModel(K, n, D or K + 2, 1e-3 / weaker, 5e-3 / n / weaker, 1e-2 / weaker)


def dynamics_model(K: int = 10, n: int = 8, D: int = 12) -> FeatureModel:
    """The model of the training curves, lambda_W = N lambda_H = lambda_b = 1e-3."""
    return FeatureModel(K, n, D, 1e-3, 1e-3 / (n * K), 1e-3)


# ---- drawing


def label_strength(delta: float) -> str:
    """A strength as figures name it."""
    return rf"$\delta$ = {delta:g}" + (" (cross-entropy)" if delta == 0 else "")


def show_integers(panel: "Axes", values: Sequence[int]) -> None:
    """Plain numbers on a logarithmic x axis."""
    panel.set_xticks(values, [str(value) for value in values])
    panel.set_xticks([], minor=True)
