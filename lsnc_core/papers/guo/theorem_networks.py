"""Guo et al. 2025: networks under Theorem 1's weight decays (F10), and the norms that the theorem
predicts for them.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from lsnc_core.data_sources import source_of
from lsnc_core.papers import stored
from lsnc_core.papers.guo.measured import last_epochs, strength
from lsnc_core.papers.guo.networks import epochs_until, kept_mass, sizes_of
from lsnc_core.runs import cost
from lsnc_core.runs.spec import RunSpec
from lsnc_core.theory import ufm, ufm_nonnegative
from lsnc_core.theory.ufm import FeatureModel, Loss

if TYPE_CHECKING:
    import pandas as pd

NETWORK_STRENGTHS = (0.0, 0.05, 0.1)
# The theorem's weight decays are those of the released code, with lambda_H scaled so that
# n lambda_H, on which alone the norms depend, is theirs.
LAMBDA_W, LAMBDA_B, N_LAMBDA_H = 1e-3, 1e-2, 5e-3


@dataclass(frozen=True)
class Size:
    """What is trained under Theorem 1's weight decays.

    In `quick` 200 images, few enough for so small a network to leave its features nearly free, as
    the theorem has them: with 1,000 its NC1 stays at 0.2 and ‖w‖ 8 to 10 % above the closed form,
    however long it is trained.

    Attributes:
        train_size: training images.
        epochs: epochs of training.
        seeds: networks of each strength.
        batch, lr, lr_steps: batch, learning rate of SGD, and the epochs at which it falls.
    """

    train_size: int
    epochs: int
    seeds: int
    batch: int
    lr: float
    lr_steps: tuple[int, ...]


SIZES = {
    "smoke": Size(train_size=100, epochs=6, seeds=1, batch=50, lr=0.2, lr_steps=(5,)),
    "quick": Size(train_size=200, epochs=1000, seeds=4, batch=100, lr=0.2, lr_steps=(667, 833)),
    "hour": Size(train_size=200, epochs=4000, seeds=4, batch=100, lr=0.2, lr_steps=(2668, 3332)),
    # a tenth of the images: four seeds take the time that one takes on all
    "gpu": Size(train_size=5000, epochs=400, seeds=4, batch=128, lr=0.05, lr_steps=(250, 350)),
    "paper": Size(train_size=50000, epochs=800, seeds=4, batch=128, lr=0.05, lr_steps=(150, 350)),
}


def plan_theorem(profile: str) -> list[RunSpec]:
    """The networks of F10: the profile's first one with batch norm as the last layer of the
    features, under Theorem 1's weight decays alone.

    Raises:
        UsageError: for an unknown profile.
    """
    network, size = sizes_of(profile)[0].network, SIZES[profile]
    K = source_of(network.data).num_classes
    settings = asdict(size)
    seeds = settings.pop("seeds")
    base = replace(
        network,
        feature_norm=True,
        **settings,
        weight_decay=0.0,
        lambda_W=LAMBDA_W,
        lambda_b=LAMBDA_B,
        lambda_H=N_LAMBDA_H * K / size.train_size,
        validation_size=0,
        evaluate_at=epochs_until(size.epochs),
    )
    specs = []
    for delta in NETWORK_STRENGTHS:
        replicate = replace(base, p=kept_mass(delta, K))
        specs += [replace(replicate, seed=seed, order_seed=seed) for seed in range(seeds)]
    return specs


def network_model(spec: RunSpec) -> FeatureModel:
    """The feature model whose minimisers Theorem 1 predicts for a run of `plan_theorem`, with the
    run's own K, n and weight decays.
    """
    K = source_of(spec.data).num_classes
    return FeatureModel(
        K, spec.train_size // K, cost.sizes(spec).width, spec.lambda_W, spec.lambda_H
    )


def predict_norms(spec: RunSpec) -> tuple[float, float]:
    """‖w_k‖ and ‖h_k - h_G‖ by the theorem: for features of any sign where they end in batch norm,
    for non-negative ones where they end in a ReLU, as those of every model without `feature_norm`.
    """
    closed_form = ufm.minimiser if spec.feature_norm else ufm_nonnegative.minimiser
    at = closed_form(network_model(spec), Loss("ls", strength(spec)))
    return float(at.W_norm), float(at.h_norm)


def compare_norms(table: "pd.DataFrame", specs: Sequence[RunSpec]) -> "pd.DataFrame":
    """Norms of networks beside the closed form at the runs' own K, n and weight decays.

    Args:
        table: from `measured.fetch_history`.
        specs: its runs, from `plan_theorem`.

    Returns:
        pandas.DataFrame: the table with predicted_w, predicted_h (mean norms of w_k and h_k by the
        theorem) and error_w, error_h (measured / predicted − 1).
    """
    table, predicted_w, predicted_h = table.copy(), {}, {}
    for spec, run in stored.run_names(specs).items():
        predicted_w[run], predicted_h[run] = predict_norms(spec)
    for norm, predicted in (("w", predicted_w), ("h", predicted_h)):
        table[f"predicted_{norm}"] = table.run.map(predicted)
        table[f"error_{norm}"] = table[f"{norm}_norm"] / table[f"predicted_{norm}"] - 1
    return table


def describe_norms(table: "pd.DataFrame") -> str:
    """Norms measured at the end beside Theorem 1's, means over seeds."""
    parts = []
    for delta, rows in last_epochs(table).groupby("delta"):
        at = rows[["w_norm", "predicted_w", "h_norm", "predicted_h", "nc1"]].mean()
        parts.append(
            f"δ = {delta:g}: ‖w‖ {at.w_norm:.3f} (theorem {at.predicted_w:.3f}), "
            f"‖h‖ {at.h_norm:.3f} ({at.predicted_h:.3f}), NC1 {at.nc1:.3f}"
        )
    one = table.iloc[0]
    decays = f"λ_W = {one.lambda_W:g}, λ_b = {one.lambda_b:g}, λ_H = {one.lambda_H:g}"
    return (
        f"{decays} for {one.train_size:,} images; at the end, means over {table.seed.nunique()} "
        f"seeds; {'; '.join(parts)}."
    )
