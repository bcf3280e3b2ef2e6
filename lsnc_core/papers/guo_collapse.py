"""Guo et al. 2025, deep networks: tables of collapse over training and strength, and the verdicts
G1 to G5, G10, G14.

Values are compared between networks of the same seed, so with the same start and the same batches;
ratios on the log scale.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lsnc_core import labels
from lsnc_core.data_sources import source_of
from lsnc_core.papers import claims, collapse, guo_deep
from lsnc_core.papers.claims import UNDECIDED, Case, Verdict
from lsnc_core.papers.guo_deep import CLAIMS, SMOOTHED
from lsnc_core.runs.spec import RunSpec

METRICS = ("nc1", "nc2", "nc3")
PARTS = {"train": "", "test": "test_"}


def history(specs: Sequence[RunSpec], device: str = "auto", parts: Sequence[str] = tuple(PARTS)):
    """What is known of the networks over training, trained first where missing.

    Args: specs; device, "auto", "cpu" or "cuda"; parts, the images whose collapse is computed,
    ("train",) in half the time.

    Returns:
        pandas.DataFrame, one row per (run, epoch): the columns of `lsnc_core.runs.results`; delta
        (strength), arm (what it is called); train_error, test_error; nc1, nc2, nc3 (equations 4 to
        6) of training and, as test_nc1 ..., of test images; w_norm, the mean of ‖w_k‖, and h_norm,
        the mean of ‖mu_k − mu_G‖ of training images.
    """
    import pandas as pd

    from lsnc_core import runs

    table, measured = (
        runs.results(specs, device),
        collapse.table(runs.tensors(specs, device), parts=tuple(parts)),
    )
    columns = {}
    for part in parts:
        prefix = PARTS[part]
        rows = measured[measured.part == part].reset_index(
            drop=True
        )  # in the order of the results: by run, then epoch
        columns |= {prefix + name: rows[f"guo {name.upper()}"] for name in METRICS}
        if part == "train":
            columns |= {"w_norm": rows.W_norm, "h_norm": rows.means_norm}
    delta = {spec: strength(spec) for spec in dict.fromkeys(specs)}
    told = [
        (delta[spec], guo_deep.arm_label(spec.loss, delta[spec]))
        for spec in delta
        for _ in spec.evaluate_at
    ]
    columns |= {name: [row[number] for row in told] for number, name in enumerate(("delta", "arm"))}
    columns |= {"train_error": 1 - table.train_accuracy, "test_error": 1 - table.test_accuracy}
    return pd.concat([table, pd.DataFrame(columns)], axis=1)


def strength(spec: RunSpec) -> float:
    """The smoothing strength of a run, without the rounding of its kept mass."""
    return round(float(labels.strength_from_kept(spec.p, source_of(spec.data).num_classes)), 9)


def where(table) -> str:
    """What a table was measured on."""
    first = table.iloc[0]
    return f"{source_of(first.data).title}, {first.model}, {first.epochs} epochs, decay {first.weight_decay:g}"


def groups(table) -> list:
    """The parts of a table whose networks can be compared, of one image set and weight decay each,
    in order of appearance.
    """
    return [part for _, part in table.groupby(["data", "weight_decay"], sort=False)]


def last(table):
    """The rows of each run's last epoch."""
    return table[table.epoch == table.epochs]


def seen(table) -> str:
    """Where each arm ended, means over seeds, as a sentence of numbers."""
    said = []
    for (name, arm), part in last(table).groupby(["data", "arm"], sort=False):
        means = part[["train_error", "test_error", *METRICS]].mean()
        said.append(
            f"{arm} on {Path(name).name} ({len(part)} seed{'s' if len(part) > 1 else ''}): training error {means.train_error:.2%}, "
            f"test error {means.test_error:.2%}, NC1 {means.nc1:.3g}, NC2 {means.nc2:.3f}, NC3 {means.nc3:.3f}"
        )
    return f"at the end, means over seeds; {'; '.join(said)}."


def ranges(table) -> str:
    """Where the points of F2 lie, as a sentence of numbers, over all arms, seeds and measured
    epochs.
    """
    said = []
    for name, part in table.groupby("data", sort=False):
        error, nc2, nc1 = part.test_error, part.nc2, part.nc1
        said.append(
            f"{Path(name).name}: test error {error.min():.2f} to {error.max():.2f}, NC2 {nc2.min():.2f} to {nc2.max():.2f}, "
            f"NC1 {nc1.min():.2g} to {nc1.max():.2g}"
        )
    return "; ".join(said)


def pair(table):
    """The rows of cross-entropy and of label smoothing at the paper's strength."""
    return table[(table.loss == "ce") & table.delta.isin((0.0, SMOOTHED))]


def paired(
    table, column: str, first: float = 0.0, second: float = SMOOTHED
) -> tuple[np.ndarray, np.ndarray]:
    """One column of cross-entropy and smoothed networks at two strengths, over the seeds that both
    have: float (seeds,) twice.

    Args: table, one row a run, e.g. from `last`; NaN where a value is missing.
    """
    wide = table[table.loss == "ce"].pivot(index="seed", columns="delta", values=column)
    rows = (
        table[(table.loss == "ce") & table.delta.isin((first, second))]
        .groupby("seed")
        .delta.nunique()
    )
    both = wide.loc[rows.index[rows == 2]]
    return both[first].to_numpy(), both[second].to_numpy()


def interval_case(
    name: str,
    values: np.ndarray,
    said: str,
    show: str = ".2f",
    logs: bool = False,
    within=(-np.inf, np.inf),
    **wanted: float,
) -> Case:
    """A case decided by the 95 % t-interval of one value a seed; `said` names the value.

    logs: the values are logarithms of what is shown. within: ends that the value has and a
    t-interval does not know. `wanted` are `at_least` and `at_most` of what is shown, as in
    `claims.decide`.
    """
    values = np.asarray(values, dtype=float)
    if len(values) < claims.MIN_SEEDS:
        return Case(name, f"seeds: {len(values)}, an interval needs {claims.MIN_SEEDS}", UNDECIDED)
    if not np.isfinite(values).all():
        return Case(name, f"{said}: not there for every seed", UNDECIDED)
    found = claims.t_interval(values)
    mean, low, high = np.clip(np.exp(found) if logs else found, *within)
    return Case(
        name,
        f"{said} {mean:{show}} [{low:{show}}, {high:{show}}]",
        claims.decide(low, high, **wanted),
    )


def below_case(name: str, plain: np.ndarray, smooth: np.ndarray, said: str = "LS/CE") -> Case:
    """A case of "with smoothing it is less": the ratio of positive values, paired over seeds."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(smooth) - np.log(plain)
    return interval_case(name, logs, said, logs=True, at_most=1.0)


def first_below(epochs: np.ndarray, values: np.ndarray, level: float) -> float:
    """The epoch at which a curve first passes below a level, interpolated linearly between
    measurements; NaN where it does not.

    >>> first_below(np.array([1, 3, 5]), np.array([4.0, 2.0, 0.0]), 1.0), first_below(np.array([1, 3]), np.array([0.5, 0.1]), 1.0)
    (4.0, 1.0)
    """
    below = np.flatnonzero(values <= level)
    if not len(below):
        return float("nan")
    at = below[0]
    if at == 0:
        return float(epochs[0])
    return float(np.interp(-level, [-values[at - 1], -values[at]], epochs[[at - 1, at]]))


def convergence(table):
    """When networks trained with cross-entropy and with label smoothing have learned and collapsed:
    one row per (delta, seed).

    Returns:
        pandas.DataFrame with delta, seed, loss and the epochs to_error (training error
        `ERROR_REACHED`) and to_nc1 (`NC1_REACHED` times the same seed's last NC1 of cross-entropy).
    """
    import pandas as pd

    both, rows = pair(table), []
    level = last(both)[last(both).delta == 0].set_index("seed").nc1 * guo_deep.NC1_REACHED
    for (delta, seed), run in both.groupby(["delta", "seed"]):
        epochs = run.epoch.to_numpy()
        to_error = first_below(epochs, run.train_error.to_numpy(), guo_deep.ERROR_REACHED)
        to_nc1 = first_below(epochs, run.nc1.to_numpy(), level.get(seed, np.nan))
        rows.append(
            {"loss": "ce", "delta": delta, "seed": seed, "to_error": to_error, "to_nc1": to_nc1}
        )
    return pd.DataFrame(rows)


def verdict_g1(table) -> Verdict:
    """G1: epochs to learn and to collapse, ratio LS/CE."""
    found = convergence(table)
    cases = []
    for column, name in (("to_error", "epochs to error"), ("to_nc1", "epochs to NC1")):
        plain, smooth = paired(found, column)
        case = below_case(name, plain, smooth)
        cases.append(
            Case(
                case.name,
                f"{case.measured}; CE {np.mean(plain):.1f}, LS {np.mean(smooth):.1f} epochs",
                case.outcome,
            )
        )
    return _verdict("G1", table, cases)


def verdict_g2(table) -> Verdict:
    """G2: NC1 at the end, ratio LS/CE."""
    return _verdict("G2", table, [below_case("NC1", *paired(last(table), "nc1"))])


def verdict_g3(table) -> Verdict:
    """G3: NC2 at the end, ratio LS/CE."""
    return _verdict("G3", table, [below_case("NC2", *paired(last(table), "nc2"))])


def nc2_difference(plain, smooth, points: int = 50) -> float:
    """Mean of NC2(smooth) - NC2(plain) over log NC1 where both runs have been; NaN where their
    ranges of NC1 do not overlap.

    Args: plain, smooth, the rows of one run each, with nc1 and nc2; between measurements NC2 is
    linear in log NC1.
    """
    curves = [
        (np.log(run.nc1.to_numpy()), run.nc2.to_numpy())
        for run in (run.sort_values("nc1") for run in (plain, smooth))
    ]
    low, high = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    if not low < high:
        return float("nan")
    grid = np.linspace(low, high, points)
    first, second = (np.interp(grid, x, y) for x, y in curves)
    return float(np.mean(second - first))


def verdict_g4(table) -> Verdict:
    """G4: NC2 at equal NC1, over all epochs that were measured and over those after training error
    has gone.
    """
    cases = []
    learned = table[table.groupby("run").train_error.transform(has_learned)]
    for name, part in (("epochs all", pair(table)), ("epochs after-learning", pair(learned))):
        runs = {key: run for key, run in part.groupby(["delta", "seed"])}
        seeds = [seed for delta, seed in runs if delta == 0 and (SMOOTHED, seed) in runs]
        values = np.array([nc2_difference(runs[0.0, seed], runs[SMOOTHED, seed]) for seed in seeds])
        cases.append(interval_case(name, values, "NC2(LS) − NC2(CE)", "+.3f", at_most=0.0))
    return _verdict("G4", table, cases)


def has_learned(errors):
    """Whether the training error of a run, given by epoch, has been at most `ERROR_REACHED`: bool,
    epoch by epoch.
    """
    return (errors <= guo_deep.ERROR_REACHED).cummax().astype(bool)


def verdict_g5(table) -> Verdict:
    """G5: both norms at the end, from each strength to the next."""
    ends, cases = last(table[table.loss == "ce"]), []
    strengths = sorted(set(ends.delta))
    for column, name in (("w_norm", "W"), ("h_norm", "H")):
        for first, second in itertools.pairwise(strengths):
            found = paired(ends, column, first, second)
            cases.append(
                below_case(
                    f"{name}, δ {first:g}→{second:g}",
                    *found,
                    f"norm at {second:g} by norm at {first:g}:",
                )
            )
    main = "; ".join(
        below_case(name, *paired(ends, column), f"{name} LS/CE").measured
        for column, name in (("w_norm", "W"), ("h_norm", "H"))
    )
    return _verdict("G5", table, cases, f"at δ = {SMOOTHED}: {main}")


def loss_gap(table):
    """The table with `gap`, training loss above its lowest measured value in the same run plus the
    plot's constant c (F9), and c.
    """
    c = guo_deep.LOSS_OFFSETS.get(table.data.iloc[0], guo_deep.LOSS_OFFSET)
    return table.assign(
        gap=table.train_loss - table.groupby("run").train_loss.transform("min") + c, c=c
    )


def slopes(table):
    """Slope of log gap over epochs while the first rate lasts, least squares: one row per (delta,
    seed), columns loss, delta, seed, slope.

    Raises no error for curves of a single point: their slope is NaN.
    """
    import pandas as pd

    rows = []
    for (delta, seed), run in loss_gap(pair(table)).groupby(["delta", "seed"]):
        first, end = slope_epochs(run)
        part = run[run.epoch.between(first, end)]
        slope = np.polyfit(part.epoch, np.log(part.gap), 1)[0] if len(part) > 2 else np.nan
        rows.append({"loss": "ce", "delta": delta, "seed": seed, "slope": slope})
    return pd.DataFrame(rows)


def slope_epochs(table) -> tuple[float, float]:
    """Between which epochs G10's slope is taken: the paper's 10 to 100 of the 150 before its rate
    first falls.
    """
    steps = np.ravel(table.lr_steps.iloc[0])[0]
    return guo_deep.SLOPE_PART[0] * steps, guo_deep.SLOPE_PART[1] * steps


def verdict_g10(table) -> Verdict:
    """G10: difference of the slopes of log(loss − lowest loss + c)."""
    plain, smooth = paired(slopes(table), "slope")
    case = interval_case(
        "slope", smooth - plain, "slope LS − slope CE, per epoch", "+.4f", at_most=0.0
    )
    first, end = slope_epochs(table)
    remark = f"slopes CE {np.mean(plain):+.4f}, LS {np.mean(smooth):+.4f} over epochs {first:.0f} to {end:.0f}"
    return _verdict("G10", table, [case], remark)


def verdict_g14(table) -> Verdict:
    """G14: where NC1 is lowest over the strengths; where NC2, NC3 and the test error are, as a
    remark.
    """
    ends = last(table[table.loss == "ce"])
    found = {column: lowest(ends, column) for column in (*METRICS, "test_error")}
    strengths = sorted(set(ends.delta))
    argmin, low, high = found["nc1"]
    inside = {"at_least": np.mean(strengths[:2]), "at_most": np.mean(strengths[-2:])}
    if np.isfinite(low):
        case = Case(
            "NC1",
            f"lowest at δ = {argmin:.2f} [{low:.2f}, {high:.2f}]",
            claims.decide(low, high, **inside),
        )
    else:
        case = Case(
            "NC1", f"fewer than {claims.MIN_SEEDS} seeds, or a value that is not finite", UNDECIDED
        )
    names = {"nc2": "NC2", "nc3": "NC3", "test_error": "test error"}
    others = []
    for column, name in names.items():
        argmin, low, high = found[column]
        others.append(
            f"{name} lowest at δ = {argmin:.2f}"
            + (f" [{low:.2f}, {high:.2f}]" if np.isfinite(low) else "")
        )
    return _verdict("G14", table, [case], "; ".join(others))


def lowest(ends, column: str) -> tuple[float, float, float]:
    """The strength at which a column's mean over seeds is lowest, and its interval; NaN for the
    interval with too few seeds.
    """
    curves = ends.pivot(index="seed", columns="delta", values=column).dropna()
    if len(curves) >= claims.MIN_SEEDS and np.isfinite(curves.to_numpy()).all():
        return claims.argmin_interval(curves.columns, curves.to_numpy())
    return float(ends.groupby("delta")[column].mean().idxmin()), np.nan, np.nan


def _verdict(claim: str, table, cases: Sequence[Case], remark: str = "") -> Verdict:
    """The verdict over a claim's cases; a single one is told as it is, the numbers of two stand in
    the sentence.
    """
    if len(cases) == 1:
        measured = "; ".join(part for part in (cases[0].measured, remark) if part)
        return Verdict(CLAIMS[claim], where(table), measured, cases[0].outcome)
    said = [f"{case.name}: {case.measured}" for case in cases] if len(cases) == 2 else []
    return claims.over_cases(
        CLAIMS[claim],
        where(table),
        cases,
        "; ".join(part for part in (*said, remark) if part),
        "more epochs or seeds",
    )
