"""Guo et al. 2025: networks under Theorem 1's decays (F10), the norms that it predicts for them,
and the verdict G9.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from lsnc_core import labels
from lsnc_core.data_sources import source_of
from lsnc_core.papers import claims, guo_deep
from lsnc_core.papers.claims import UNDECIDED, Case, Verdict
from lsnc_core.papers.guo_collapse import history, interval_case, last, strength, where
from lsnc_core.papers.guo_deep import CLAIMS, SMOOTHED, sizes, until
from lsnc_core.runs.spec import RunSpec
from lsnc_core.theory import ufm
from lsnc_core.theory.ufm import FeatureModel, Loss

THEOREM_STRENGTHS = (0.0, 0.05, 0.1)
# Theorem 1's decays are the released code's, with lambda_H scaled so that n lambda_H, on which
# alone the norms depend, is theirs.
LAMBDA_W, LAMBDA_B, N_LAMBDA_H = 1e-3, 1e-2, 5e-3


@dataclass(frozen=True)
class TheoremSize:
    """What is trained under Theorem 1's decays: training images, epochs, seeds, and of SGD the
    batch, rate and epochs of its falls.

    In `quick` 200 images, few enough for so small a network to leave its features nearly free, as
    the theorem has them: with 1,000 its NC1 stays at 0.2 and ‖w‖ 8 to 10 % above the closed form,
    however long it is trained.
    """

    train_size: int
    epochs: int
    seeds: int
    batch: int
    lr: float
    lr_steps: tuple[int, ...]


THEOREM = {
    "smoke": TheoremSize(train_size=100, epochs=6, seeds=1, batch=50, lr=0.2, lr_steps=(5,)),
    "quick": TheoremSize(
        train_size=200, epochs=1000, seeds=4, batch=100, lr=0.2, lr_steps=(667, 833)
    ),
    "gpu": TheoremSize(
        train_size=50000, epochs=200, seeds=1, batch=128, lr=0.05, lr_steps=(100, 150)
    ),
    "paper": TheoremSize(
        train_size=50000, epochs=800, seeds=4, batch=128, lr=0.05, lr_steps=(150, 350)
    ),
}


def theorem_runs(profile: str) -> list[RunSpec]:
    """The networks of F10: the profile's first one with batch norm as the last layer of the
    features, under Theorem 1's decays alone.
    """
    network, size = sizes(profile)[0].network, THEOREM[profile]
    K = source_of(network.data).num_classes
    decays = {
        "weight_decay": 0.0,
        "lambda_W": LAMBDA_W,
        "lambda_b": LAMBDA_B,
        "lambda_H": N_LAMBDA_H * K / size.train_size,
    }
    measured = {"validation_size": 0, "evaluate_at": until(size.epochs, round(0.8 * size.epochs))}
    settings = {name: value for name, value in asdict(size).items() if name != "seeds"}
    regularised = replace(network, feature_norm=True, **settings, **decays, **measured)
    kept = [round(float(labels.kept_from_strength(delta, K)), 12) for delta in THEOREM_STRENGTHS]
    return [replace(regularised, p=p, seed=seed) for p in kept for seed in range(size.seeds)]


def feature_model(spec: RunSpec) -> FeatureModel:
    """The feature model whose minimisers Theorem 1 predicts for a run of `theorem_runs`, with its
    own K, n and decays.
    """
    K = source_of(spec.data).num_classes
    return FeatureModel(
        K,
        spec.train_size // K,
        spec.widths[-1] * (8 if spec.model == "resnet18" else 1),
        spec.lambda_W,
        spec.lambda_H,
    )


def norms(specs: Sequence[RunSpec], device: str = "auto"):
    """F10: norms of networks under Theorem 1's decays beside the closed form, trained first where
    missing.

    Returns:
        pandas.DataFrame: `history` with predicted_w, predicted_h (closed form at the run's own K, n
            and decays) and error_w, error_h,
        measured by predicted minus 1.
    """
    table = history(specs, device, parts=("train",))
    predicted = {}
    for spec in dict.fromkeys(specs):
        at = ufm.minimiser(feature_model(spec), Loss("ls", strength(spec)))
        predicted[strength(spec)] = float(at.W_norm), float(at.h_norm)
    for number, norm in enumerate(("w", "h")):
        table[f"predicted_{norm}"] = table.delta.map(
            lambda delta, number=number: predicted[delta][number]
        )
        table[f"error_{norm}"] = table[f"{norm}_norm"] / table[f"predicted_{norm}"] - 1
    return table


def seen(table) -> str:
    """Norms measured at the end beside Theorem 1's, means over seeds, as a sentence of numbers."""
    said = []
    for delta, part in last(table).groupby("delta"):
        at = part[["w_norm", "predicted_w", "h_norm", "predicted_h", "nc1"]].mean()
        said.append(
            f"δ = {delta:g}: ‖w‖ {at.w_norm:.3f} (theorem {at.predicted_w:.3f}), "
            f"‖h‖ {at.h_norm:.3f} ({at.predicted_h:.3f}), NC1 {at.nc1:.3f}"
        )
    one = table.iloc[0]
    decays = f"λ_W = {one.lambda_W:g}, λ_b = {one.lambda_b:g}, λ_H = {one.lambda_H:g} for {one.train_size:,} images"
    return f"{decays}; at the end, means over {table.seed.nunique()} seeds; {'; '.join(said)}."


def _late_and_last(part) -> tuple[int, int]:
    """The last measured epoch of the first four fifths of training, and the last of all."""
    epochs = part.epochs.iloc[0]
    return part[part.epoch <= 0.8 * epochs].epoch.max(), epochs


def verdict_g9(table) -> Verdict:
    """G9 from `norms`: both norms within 2 % at the end; open either way while they still move, or
    while features have not collapsed.
    """
    cases = []
    for norm, name in (("w", "‖w‖"), ("h", "‖h‖")):
        for delta, part in table.groupby("delta"):
            late, end = (
                part[part.epoch == epoch].set_index("seed") for epoch in _late_and_last(part)
            )
            case = interval_case(
                f"{name} at δ = {delta:g}", 100 * end[f"error_{norm}"], "off by (%)", "+.1f",
                at_least=-100 * guo_deep.NORM_TOLERANCE, at_most=100 * guo_deep.NORM_TOLERANCE,
            )  # fmt: skip
            moved = (end[f"error_{norm}"] - late[f"error_{norm}"]).abs().max() > guo_deep.SETTLED
            loose = end.nc1.max() > guo_deep.COLLAPSED
            why = [
                text
                for text, so in (
                    ("still moving", moved),
                    (f"features not collapsed, NC1 {end.nc1.mean():.2f}", loose),
                )
                if so
            ]
            cases.append(
                Case(
                    case.name, ", ".join([case.measured, *why]), UNDECIDED if why else case.outcome
                )
            )
    found = "; ".join(
        f"{case.name}: {case.measured}" for case in cases if case.name.endswith(f" {SMOOTHED:g}")
    )
    tried_on = f"{where(table).rsplit(', decay', 1)[0]}, {table.train_size.iloc[0]:,} training images, the theorem's decays"
    return claims.over_cases(
        CLAIMS["G9"],
        tried_on,
        cases,
        found,
        "more epochs, or a network wide enough that its features are free",
    )
