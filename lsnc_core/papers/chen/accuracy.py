"""Test accuracy over Chen's a-p landscape: its table, the gain of weak smoothing, how the accuracy
varies over p, and how much two minima of the error stand out.

a is the clean rate of the training labels, p the kept mass of the smoothed label. The best epoch of
a network is the measured epoch of highest test accuracy. It is chosen on the very images that it is
reported on: an oracle, as in the paper, and flattering.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lsnc_core import claims
from lsnc_core.claims import Case
from lsnc_core.papers.chen.grid import gate, landscape_table, learned, noisy
from lsnc_core.papers.chen.minima import find_minima

if TYPE_CHECKING:
    import pandas as pd


def accuracy_table(runs: "pd.DataFrame") -> "pd.DataFrame":
    """The landscape's table with test errors at the last and at the best epoch.

    Args:
        runs: the table of `lsnc_core.runs.results`.

    Returns:
        pandas.DataFrame as `landscape_table`, with test_error, best_accuracy, best_error (shares of
        the test images, in [0, 1]) and best_epoch.
    """
    table = landscape_table(runs)
    highest = runs.loc[
        runs.groupby("run").test_accuracy.idxmax(), ["run", "test_accuracy", "epoch"]
    ]
    names = {"test_accuracy": "best_accuracy", "epoch": "best_epoch"}
    table["test_error"] = 1 - table.test_accuracy
    table = table.merge(highest.rename(columns=names), on="run", validate="one_to_one")
    table["best_error"] = 1 - table.best_accuracy
    return table


def gain_table(table: "pd.DataFrame", weak: Sequence[float]) -> "pd.DataFrame":
    """Test accuracy with weak smoothing minus that without, paired by seed.

    Args:
        table: from `accuracy_table`.
        weak: kept masses of weak smoothing.

    Returns:
        pandas.DataFrame with a, seed, gain (share of the test images), epoch ("last" or "best") and
        p, one of `weak`; if none of them is on the grid, its largest below 1.
    """
    import pandas as pd

    on_grid = [p for p in weak if p in set(table.p)]
    parts = []
    for p in on_grid or [table.p[table.p < 1].max()]:
        for epoch, column in (("last", "test_accuracy"), ("best", "best_accuracy")):
            smoothed = table[table.p == p].set_index(["a", "seed"])[column]
            plain = table[table.p == 1].set_index(["a", "seed"])[column]
            gain = (smoothed - plain).rename("gain").reset_index()
            parts.append(gain.assign(epoch=epoch, p=p))
    return pd.concat(parts, ignore_index=True)


def accuracy_variance(table: "pd.DataFrame") -> "pd.DataFrame":
    """Variance over p of the test accuracy, at the best and at the last epoch, at each clean rate
    below 1 and seed, over the p that teach the label.

    Args:
        table: from `accuracy_table`.

    Returns:
        pandas.DataFrame with a, seed, best, last (squared shares).
    """
    names = {"best_accuracy": "best", "test_accuracy": "last"}
    groups = noisy(learned(table)).groupby(["a", "seed"])
    return groups[list(names)].var().rename(columns=names).reset_index()


def variance_case(name: str, variances: "pd.DataFrame", **settings: Any) -> Case:
    """The ratio of the variances at the best and at the last epoch, of their means over the clean
    rates.

    Args:
        name: the case's name.
        variances: from `accuracy_variance`, at one or several clean rates.
        settings: further fields of `Case`.
    """
    by_seed = variances.groupby("seed")[["best", "last"]].mean()
    if (by_seed == 0).any(axis=None):  # as where all test images are easy
        settings["undecided"] = "a seed's accuracy does not depend on p"
        return Case(name, "ratio", **settings)
    # one value per seed; on the log scale a ratio and its inverse count alike
    ratios = np.log(by_seed.best / by_seed["last"])
    return claims.seed_case(name, "ratio", ratios, log=True, form=".3f", **settings)


def measure_minima(curves: "pd.DataFrame", split: float) -> "pd.DataFrame":
    """How much two minima of an error curve stand out, one value per seed.

    The lowest points and the hump between them are located on the other seeds' mean, so that no
    seed's noise chooses the place where it is measured.

    Args:
        curves: errors, a row for each seed, a column for each p, the last p = 1.
        split: up to which p counts as small; curves have p on both sides of it.

    Returns:
        pandas.DataFrame, a row per seed: small (lowest error between `split` and 1 minus the lowest
        up to `split`), end (error at p = 1 minus the lowest), hump (error at the hump minus that at
        p = 1), at (p of the hump).
    """
    import pandas as pd

    values, count = curves.to_numpy(), int((curves.columns <= split).sum())
    rows = []
    for seed, curve in enumerate(values):
        others = np.delete(values, seed, axis=0).mean(0)
        lowest = int(others[:-1].argmin())
        hump = lowest + int(others[lowest:-1].argmax())
        small, large = others[:count].argmin(), count + others[count:-1].argmin()
        rows.append(
            {
                "small": curve[large] - curve[small],
                "end": curve[-1] - curve[lowest],
                "hump": curve[hump] - curve[-1],
                "at": curves.columns[hump],
            }
        )
    return pd.DataFrame(rows, index=curves.index)


def minima_cases(name: str, part: "pd.DataFrame", split: float) -> list[Case]:
    """Whether the error has two minima in p, the lower one at a small p: the three differences of
    `measure_minima` as cases of one name.

    Args:
        name: the cases' name.
        part: rows of `accuracy_table` at one clean rate with four seeds or more.
        split: up to which p counts as small.
    """
    curves = part.pivot(index="seed", columns="p", values="test_error")
    small, large = curves.columns <= split, (curves.columns > split) & (curves.columns < 1)
    if not (small.any() and large.any()):
        few = f"no kept masses on both sides of {split}"
        return [Case(name, "error", undecided=few)]
    differences = measure_minima(curves, split)
    (lowest,) = find_minima(part, "test_error").itertuples()
    humps = " or ".join(f"{p:g}" for p in np.unique(differences["at"]))
    quantities = (
        (
            "small",
            f"lowest error between {split} and 1 − lowest up to {split}",
            f"lowest at p = {lowest.argmin:.2f} [{lowest.low:.2f}, {lowest.high:.2f}]",
        ),
        ("end", "error at p = 1 − lowest error", ""),
        ("hump", "error at the hump − error at p = 1", f"hump at p = {humps}"),
    )
    undecided = gate(part.memorised.all())
    settings = {"at_least": 0.0, "unit": "points", "form": "+.2f", "undecided": undecided}
    cases = []
    for column, quantity, remark in quantities:
        # one value per seed, each measured where the other seeds have their minima
        points = 100 * differences[column]
        cases.append(claims.seed_case(name, quantity, points, remark=remark, **settings))
    return cases
