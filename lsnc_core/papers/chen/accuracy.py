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
from lsnc_core.papers.chen.grid import landscape_table, learned, noisy, rate_name, with_shared_seeds
from lsnc_core.papers.chen.minima import find_minima
from lsnc_core.papers.chen.premises import case_premises, in_range

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


def gain_cases(table: "pd.DataFrame", gains: "pd.DataFrame", helps_from: float) -> list[Case]:
    """The gain of one weak smoothing at each clean rate: above 0 beyond `helps_from`, below 0 under
    it. At the boundary itself the claimed gain is about 0, which has no sign to test: a detail.

    Args: table, from `accuracy_table`; gains, from `gain_table`, of one epoch and p.
    """
    cases = []
    for a, part in gains.groupby("a"):
        pair = table[(table.a == a) & table.p.isin([part.p.iloc[0], 1.0])]
        settings: dict[str, Any] = {"at_least" if a >= helps_from else "at_most": 0.0}
        settings |= {
            "unit": "points",
            "form": "+.2f",
            "deciding": in_range(a) and bool(a != helps_from),
        }
        settings |= {"premises": case_premises(pair, "test_accuracy")}
        # one paired difference per seed: same initial weights, label noise and batch order
        quantity = name_gain(part.p.iloc[0])
        cases.append(claims.seed_case(rate_name(a), quantity, 100 * part.gain, **settings))
    return cases


def name_gain(p: float) -> str:
    """The gain of weak smoothing in words."""
    return f"accuracy at p = {p:g} − without smoothing"


def accuracy_grids(table: "pd.DataFrame", column: str) -> np.ndarray:
    """One accuracy over the p that teach the label, of each clean rate below 1 with four seeds or
    more, of the seeds that all of these have.

    Args:
        table: from `accuracy_table`.
        column: "best_accuracy" or "test_accuracy".

    Returns:
        float (clean rates, seeds, p), shares.
    """
    grids = [
        part.pivot(index="seed", columns="p", values=column)
        for _, part in with_shared_seeds(noisy(learned(table))).groupby("a")
    ]
    return np.array(grids)


VARIANCES = "variance of accuracy over p, best epoch / last"


def variance_case(name: str, table: "pd.DataFrame", **settings: Any) -> Case:
    """The ratio of the variance components over p at the best and at the last epoch, of their means
    over the clean rates.

    The variance over p of measured accuracies holds the noise of the seeds too, by which an
    accuracy that does not depend on p at all would vary; the component is what is left without it.

    Args:
        name: the case's name.
        table: from `accuracy_table`, at one or several clean rates.
        settings: further fields of `Case`.
    """
    best, last = (accuracy_grids(table, column) for column in ("best_accuracy", "test_accuracy"))
    if np.isnan(claims.component_ratio_interval(best, last)[0]):
        settings["undecided"] = "at the last epoch the accuracy does not depend on p beyond noise"
        return Case(name, VARIANCES, **settings)

    def interval(level: float) -> tuple[float, float, float]:
        return claims.component_ratio_interval(best, last, level)

    return Case.measured(name, VARIANCES, interval, form=".3f", **settings)


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
        return [Case(name, "difference of errors", undecided=few)]
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
    settings = {"at_least": 0.0, "unit": "points", "form": "+.2f"}
    settings |= {"premises": case_premises(part, "test_error")}
    settings |= {"deciding": in_range(part.a.iloc[0])}
    cases = []
    for column, quantity, remark in quantities:
        # one value per seed, each measured where the other seeds have their minima
        points = 100 * differences[column]
        cases.append(claims.seed_case(name, quantity, points, remark=remark, **settings))
    return cases
