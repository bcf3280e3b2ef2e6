"""The table of the a-p landscape, and what several of Chen's notebooks decide about it alike.

a is the clean-label rate of the training labels, p the kept mass of the smoothed label, M the
number of classes. Losses are in nats.
"""

from typing import TYPE_CHECKING

import numpy as np

from lsnc_core import claims
from lsnc_core.claims import Premise
from lsnc_core.data_sources import source_of
from lsnc_core.theory import label_noise

if TYPE_CHECKING:
    import pandas as pd

# A network has memorised its labels if its training loss lies at most so far above its floor, the
# entropy of the smoothed label, relative to what there is to learn: log M minus the floor.
MEMORISED = 0.1
# At p = 1/M nothing is learned: accuracies are compared from here on, and above 1/M.
LEARNS_FROM = 0.2
# C2 and C3: over these p, the mean relative error and the rank correlation of formula and loss.
FORMULA_RANGE, FORMULA_ERROR, FORMULA_RANK = (0.2, 0.95), 0.15, 0.9
# Columns of losses against clean labels, and the images they are measured on.
PROTOCOLS = {"test_loss": "held-out images", "clean_train_loss": "training images, clean labels"}
# Settings of the networks that tables carry on.
RECIPE = ["model", "widths", "pool", "epochs", "batch", "lr", "weight_decay"]
# of a claim about CIFAR-10 in a profile that does not train on it
NO_CIFAR = Premise("number of networks of the landscape on CIFAR-10", 0, at_least=claims.MIN_SEEDS)


def landscape_table(runs: "pd.DataFrame") -> "pd.DataFrame":
    """One row per trained network at its last epoch, with the formula beside the measurement.

    Args:
        runs: the table of `lsnc_core.runs.results`, of one data set.

    Returns:
        pandas.DataFrame with data, train_size, a, p, seed, kept (share of clean labels as drawn),
        `test_loss` and `clean_train_loss` in nats, `predicted` (Chen eq. 11), `predicted_as_drawn`
        (Chen eq. 11 at the share of clean labels as drawn), `test_accuracy`, `unlearned` (training
        loss above its floor, divided by log M minus the floor; 0 for p = 1/M, where nothing is to
        be learned), `memorised` (bool), the settings in `RECIPE` and `run` (its name in the store).
    """
    table = runs[runs.epoch == runs.epochs].copy()
    M = class_count(table)
    a, p = table.a.to_numpy(), table.p.to_numpy()
    table["predicted"] = label_noise.loss("alpha", a, p, M)
    table["predicted_as_drawn"] = label_noise.loss("alpha", table.kept.to_numpy(), p, M)
    table["unlearned"] = unlearned_share(table.train_loss, label_noise.entropy_floor(p, M), M)
    table["memorised"] = table.unlearned <= MEMORISED
    columns = ["data", "train_size", "a", "p", "seed", "kept", "predicted", "predicted_as_drawn"]
    columns += [*PROTOCOLS, "test_accuracy", "unlearned", "memorised", *RECIPE, "run"]
    return table[columns].sort_values(["a", "p", "seed"], ignore_index=True)


def size_table(runs: "pd.DataFrame") -> "pd.DataFrame":
    """The landscape's table at several numbers of training images, and what the accuracy on
    held-out images would explain.

    Args:
        runs: the table of `lsnc_core.runs.results` for the networks of `plan_sizes`.

    Returns:
        pandas.DataFrame as `landscape_table`, with residual and train_residual (measured minus
        predicted on held-out and on training images) and accuracy_residual (Chen eq. 11 with the
        held-out accuracy for the clean rate, minus predicted), in nats.
    """
    table = landscape_table(runs)
    accuracy, p = table.test_accuracy.to_numpy(), table.p.to_numpy()
    explained = label_noise.loss("alpha", accuracy, p, class_count(table))
    table["residual"] = table.test_loss - table.predicted
    table["train_residual"] = table.clean_train_loss - table.predicted
    table["accuracy_residual"] = explained - table.predicted
    return table


def unlearned_share(loss: "pd.Series", floor: np.ndarray, M: int) -> "pd.Series":
    """How much of what there is to learn networks have not learned: (loss - floor)/(log M - floor).

    Args: loss, of training, and floor, its least value, nats; M, classes.

    Returns: float; 0 where the floor is log M, so that nothing can be learned.
    """
    room = np.log(M) - floor
    return ((loss - floor) / room).where(room > 1e-9, 0.0)


def describe_landscape(table: "pd.DataFrame") -> str:
    """What a landscape shows, in numbers: how many networks, whether they memorised, the sign of
    the residual.
    """
    low, high = FORMULA_RANGE
    inside = table[table.p.between(low, high)]
    residuals = []
    for column, images in PROTOCOLS.items():
        by_rate = (inside[column] - inside.predicted).groupby(inside.a).mean()
        listed = ", ".join(f"{residual:+.2f} at a = {a:g}" for a, residual in by_rate.items())
        residuals.append(f"{images}: {listed}")
    return (
        f"{len(table)} networks on {source_of(table.data.iloc[0]).title}; "
        f"{int(table.memorised.sum())} of them have memorised their labels (training loss above "
        f"its floor at most {MEMORISED:.0%} of what there is to learn). Mean of measured minus "
        f"predicted for p from {low} to {high} in nats; {'; '.join(residuals)}."
    )


def class_count(table: "pd.DataFrame") -> int:
    """The number of classes M of a table's data set."""
    return source_of(table.data.iloc[0]).num_classes


def learned(table: "pd.DataFrame") -> "pd.DataFrame":
    """The rows whose p teaches the label: from `LEARNS_FROM` on, and above 1/M."""
    return table[(table.p >= LEARNS_FROM) & (table.p > 1 / class_count(table))]


def with_seeds(table: "pd.DataFrame") -> "pd.DataFrame":
    """The rows of the clean-label rates that have four seeds or more."""
    return table[table.groupby("a").seed.transform("nunique") >= claims.MIN_SEEDS]


def with_shared_seeds(table: "pd.DataFrame") -> "pd.DataFrame":
    """As `with_seeds`, of these rates only the seeds that all of them have."""
    enough = with_seeds(table)
    return enough[enough.groupby("seed").a.transform("nunique") == enough.a.nunique()]


def noisy(table: "pd.DataFrame") -> "pd.DataFrame":
    """The rows with label noise, a < 1."""
    return table[table.a < 1]


def agreement(table: "pd.DataFrame", column: str, predicted: str = "predicted") -> "pd.DataFrame":
    """How close the formula comes at each clean-label rate and seed, over p in `FORMULA_RANGE`.

    Args:
        table: from `landscape_table`.
        column: the measured loss.
        predicted: the column of the formula, e.g. "predicted_as_drawn".

    Returns:
        pandas.DataFrame with a, seed, error (mean of |measured - predicted| / predicted), residual
        (mean of measured - predicted, nats), rank (Spearman's correlation over p; NaN if losses are
        not finite or all equal) and memorised.
    """
    import pandas as pd
    from scipy import stats

    rows = []
    inside = table[table.p.between(*FORMULA_RANGE)]
    for (a, seed), part in inside.groupby(["a", "seed"]):
        residual = part[column] - part[predicted]
        rank = np.nan
        if np.isfinite(part[column]).all() and part[column].nunique() > 1:
            # a formula symmetric in p (a = 1/2) has ties, which the last bits would break at random
            rank = stats.spearmanr(part[column], part[predicted].round(12)).statistic
        rows.append(
            {
                "a": a,
                "seed": seed,
                "error": (residual.abs() / part[predicted]).mean(skipna=False),
                "residual": residual.mean(skipna=False),
                "rank": rank,
                "memorised": bool(part.memorised.all()),
            }
        )
    return pd.DataFrame(rows)


def place(table: "pd.DataFrame", images: str) -> str:
    """On what a verdict was tried: "Held-out images of MNIST, mlp"."""
    first = table.iloc[0]
    title = source_of(first.data).title
    return f"{images[0].upper()}{images[1:]} of {title}, {first.model}"


def rate_name(a: float) -> str:
    """The name of the case at one clean-label rate.

    >>> rate_name(0.8)
    'a = 0.8'
    """
    return f"a = {a:g}"
