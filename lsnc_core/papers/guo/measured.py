"""Guo et al. 2025: tables of trained networks over epochs, and what several notebooks read in them.

Values are compared between networks of the same seed, which share their start and their batches;
ratios are compared on the log scale.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lsnc_core import claims, labels
from lsnc_core.claims import Case
from lsnc_core.data_sources import label_of, source_of
from lsnc_core.papers import stored
from lsnc_core.papers.guo import SMOOTHED
from lsnc_core.papers.guo.networks import loss_label
from lsnc_core.runs.spec import RunSpec

if TYPE_CHECKING:
    import pandas as pd

METRICS = ("nc1", "nc2", "nc3")
PARTS = {"train": "", "test": "test_"}  # images, and the prefix of their columns
ERROR_REACHED = 0.01  # training error that counts as learned; fixed before the first run


def fetch_history(
    specs: Sequence[RunSpec], device: str = "auto", parts: Sequence[str] = tuple(PARTS)
) -> "pd.DataFrame":
    """What the store has of the networks over training; missing networks are trained first.

    Args:
        specs: the networks.
        device: "auto", "cpu" or "cuda".
        parts: the images whose collapse is computed; ("train",) takes half the time.

    Returns:
        pandas.DataFrame, one row per (run, epoch): the columns of `lsnc_core.runs.results`; delta
        (smoothing strength), arm (the loss's name in figures); train_error, test_error; nc1, nc2,
        nc3 (Guo eq. 4 to 6) of training images and, as test_nc1 and so on, of test images; w_norm,
        the mean of ‖w_k‖, and h_norm, the mean of ‖mu_k - mu_G‖ of training images.
    """
    from lsnc_core import runs

    table = runs.results(specs, device)
    collapse = stored.collapse_table(runs.tensors(specs, device), parts=tuple(parts))
    for part in parts:
        names = {f"guo {metric.upper()}": PARTS[part] + metric for metric in METRICS}
        if part == "train":
            names |= {"W_norm": "w_norm", "means_norm": "h_norm"}
        columns = collapse[collapse.part == part].rename(columns=names)
        columns = columns[[*stored.KEYS, *names.values()]]
        table = table.merge(columns, how="left", on=stored.KEYS, validate="one_to_one")
    delta, label = {}, {}
    for spec, run in stored.run_names(specs).items():
        delta[run] = strength(spec)
        label[run] = loss_label(spec.loss, delta[run])
    table["delta"], table["arm"] = table.run.map(delta), table.run.map(label)
    table["train_error"] = 1 - table.train_accuracy
    table["test_error"] = 1 - table.test_accuracy
    return table


def strength(spec: RunSpec) -> float:
    """The smoothing strength of a run, without the rounding of its kept mass."""
    return round(float(labels.strength_from_kept(spec.p, source_of(spec.data).num_classes)), 9)


def place(table: "pd.DataFrame") -> str:
    """On what a verdict was tried: image set, network, epochs and weight decay."""
    first = table.iloc[0]
    title = source_of(first.data).title
    return f"{title}, {first.model}, {first.epochs} epochs, decay {first.weight_decay:g}"


def groups(table: "pd.DataFrame") -> "list[pd.DataFrame]":
    """The parts of a table whose networks can be compared, of one image set and one weight decay
    each, in order of appearance.
    """
    return [part for _, part in table.groupby(["data", "weight_decay"], sort=False)]


def image_set(part: "pd.DataFrame") -> str:
    """The image set of a part as figures name it, e.g. "MNIST subset"."""
    return source_of(part.data.iloc[0]).label


def last_epochs(table: "pd.DataFrame") -> "pd.DataFrame":
    """The rows of each run's last epoch."""
    return table[table.epoch == table.epochs]


def main_pair(table: "pd.DataFrame") -> "pd.DataFrame":
    """The rows of cross-entropy and of label smoothing at the paper's strength."""
    return table[(table.loss == "ce") & table.delta.isin((0.0, SMOOTHED))]


def select_losses(history: "pd.DataFrame", losses: Sequence[str]) -> "pd.DataFrame":
    """The rows of the losses asked for, in that order."""
    import pandas as pd

    parts = []
    for name in dict.fromkeys(losses):
        label = loss_label("ce", SMOOTHED) if name == "ls" else loss_label(name)
        parts.append(history[history.arm == label])
    return pd.concat(parts)


def paired(
    table: "pd.DataFrame", column: str, first: float = 0.0, second: float = SMOOTHED
) -> tuple[np.ndarray, np.ndarray]:
    """One column of cross-entropy networks at two strengths, over the seeds that both have.

    Args:
        table: one row per run, e.g. from `last_epochs`.
        column: the column.
        first, second: the strengths.

    Returns:
        float (seeds,) twice, in the same order of seeds; NaN where a value is missing.
    """
    rows = table[table.loss == "ce"]
    wide = rows.pivot(index="seed", columns="delta", values=column)
    # a seed counts by its rows, not by its values, so that a missing value stays visible as NaN
    counts = rows[rows.delta.isin((first, second))].groupby("seed").delta.nunique()
    both = wide.loc[counts.index[counts == 2]]
    return both[first].to_numpy(), both[second].to_numpy()


def ratio_case(
    name: str, quantity: str, plain: np.ndarray, smooth: np.ndarray, **settings: Any
) -> Case:
    """A case of "less with smoothing": the ratio smooth/plain of positive values is at most 1.

    Args:
        name, quantity: as in `claims.Case`.
        plain, smooth: float (seeds,), from `paired`.
        settings: further fields of `claims.Case`.
    """
    # a value of zero has no logarithm; the case is then open
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(smooth) - np.log(plain)
    # paired over seeds: seed-to-seed variation that both networks share cancels in the ratio
    settings = {"form": ".2f", "at_most": 1.0} | settings
    return claims.seed_case(name, quantity, logs, log=True, **settings)


def has_learned(errors: "pd.Series") -> "pd.Series":
    """Whether the training error of a run has reached `ERROR_REACHED`, by epoch: bool."""
    return (errors <= ERROR_REACHED).cummax().astype(bool)


def describe_lowest(table: "pd.DataFrame") -> str:
    """Which loss ends lowest in NC1, NC2 and NC3, mean over seeds, as a sentence; a metric that no
    network has, as when all have diverged, is left out. A longer schedule may change it (G2, G3).
    """
    phrases = []
    for _, part in last_epochs(table).groupby("data", sort=False):
        means = part.groupby("arm", sort=False)[list(METRICS)].mean().dropna(axis=1, how="all")
        lowest: dict[str, list[str]] = {}
        for metric in means:
            lowest.setdefault(means[metric].idxmin(), []).append(metric.upper())
        ends = [f"{' and '.join(named)} with {arm}" for arm, named in lowest.items()]
        phrases.append(f"{', '.join(ends) or 'none'} ({image_set(part)})")
    return f"Lowest at the last epoch of this schedule: {'; '.join(phrases)}."


def describe_test_collapse(table: "pd.DataFrame") -> str:
    """How often test images end less collapsed than training images, counted over image sets,
    losses and NC1, NC2, NC3, means over seeds, in a sentence.
    """
    means = last_epochs(table).groupby(["data", "weight_decay", "arm"]).mean(numeric_only=True)
    less = [means[f"test_{metric}"] > means[metric] for metric in METRICS]
    return (
        f"At the end test images are less collapsed than training images in {int(np.sum(less))} of "
        f"{np.size(less)} comparisons, of each loss in NC1, NC2 and NC3."
    )


def describe_ends(table: "pd.DataFrame") -> str:
    """Where each loss ended, means over seeds, as a sentence of numbers."""
    phrases = []
    for (name, label), part in last_epochs(table).groupby(["data", "arm"], sort=False):
        means = part[["train_error", "test_error", *METRICS]].mean()
        seeds = f"{len(part)} seed{'s' if len(part) > 1 else ''}"
        phrases.append(
            f"{label} on {label_of(Path(name).name)} ({seeds}): "
            f"training error {means.train_error:.2%}, test error {means.test_error:.2%}, "
            f"NC1 {means.nc1:.3g}, NC2 {means.nc2:.3f}, NC3 {means.nc3:.3f}"
        )
    return f"At the end, means over seeds; {'; '.join(phrases)}."


def describe_ranges(table: "pd.DataFrame") -> str:
    """Where the points of F2 lie, over all seeds and measured epochs, as a sentence of numbers."""
    phrases = []
    for name, part in table.groupby("data", sort=False):
        error, nc2, nc1 = part.test_error, part.nc2, part.nc1
        phrases.append(
            f"{label_of(Path(name).name)}: test error {error.min():.2f} to {error.max():.2f}, "
            f"NC2 {nc2.min():.2f} to {nc2.max():.2f}, NC1 {nc1.min():.2g} to {nc1.max():.2g}"
        )
    return "; ".join(phrases)
