"""Guo et al. 2025, deep networks: calibration over the smoothing strength and over training, and
the verdicts G6 to G8.

Temperatures are fitted twice, and every table says how: by likelihood on validation images, which
nothing else sees; and by ECE on the test images themselves, as the authors' released code does,
which flatters what is reported afterwards.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from lsnc_core import data, metrics
from lsnc_core.metrics.calibration import Temperature
from lsnc_core.papers import claims, guo_collapse, guo_deep
from lsnc_core.papers.claims import Verdict
from lsnc_core.papers.guo_collapse import below_case, interval_case, paired, where
from lsnc_core.papers.guo_deep import CLAIMS, SMOOTHED
from lsnc_core.runs.spec import RunSpec

BINS = 20  # of the paper's figures
HELD_OUT, AS_RELEASED = "validation images, by likelihood", "test images, by ECE"
FITS = (HELD_OUT, AS_RELEASED)


def truth(spec: RunSpec) -> dict[str, torch.Tensor]:
    """Labels of a run's validation and test images, int64 (N,)."""
    train, test = data.truth(spec.data, spec.train_size + spec.validation_size, spec.test_size)
    return {"validation": train[spec.train_size :], "test": test}


def fit(tensors: dict[str, np.ndarray], labels: dict[str, torch.Tensor], how: str) -> Temperature:
    """The temperature of one measured epoch, fitted in one of the `FITS`."""
    if how == HELD_OUT:
        return metrics.fit_temperature(_logits(tensors, "validation"), labels["validation"])
    return metrics.fit_temperature(
        _logits(tensors, "test"), labels["test"], by="ece", fitted_on="test", bins=BINS
    )


def _logits(tensors: dict[str, np.ndarray], part: str) -> torch.Tensor:
    return torch.from_numpy(np.array(tensors[f"{part}_logits"])).double()


def scaled(specs: Sequence[RunSpec], history, device: str = "auto"):
    """Calibration on test images at the end of training, before and after scaling: one row per
    (run, way of fitting).

    Args: specs; history, their table from `guo_collapse.history`; device, "auto", "cpu" or "cuda".

    Returns:
        pandas.DataFrame: the last rows of the history with fit (one of `FITS`), T, ece and
            ece_scaled (20 bins).
    """
    import pandas as pd

    from lsnc_core import runs

    ends = guo_collapse.last(history).to_dict("records")
    rows = []
    for row, (spec, found) in zip(ends, runs.tensors(specs, device).items(), strict=True):
        labels, logits = truth(spec), _logits(found[-1], "test")
        before = metrics.ece(logits, labels["test"], BINS)
        for how in FITS:
            T = fit(found[-1], labels, how)
            after = metrics.ece(T.scale(logits), labels["test"], BINS)
            rows.append(row | {"fit": how, "T": T.value, "ece": before, "ece_scaled": after})
    return pd.DataFrame(rows)


def over_epochs(specs: Sequence[RunSpec], history, device: str = "auto"):
    """What F5 shows of the epochs whose logits were kept: one row per (run, epoch), test images
    unless said.

    Args: as for `scaled`.

    Returns:
        pandas.DataFrame: rows of the history with loss_all, loss_correct, loss_wrong (mean -log
            p_label) and entropy_correct,
        entropy_wrong (of the prediction), nats, NaN over no images; nc1_all, nc1_correct, nc1_wrong
        (by predicted class, divided by K as in equation 4); ece, ece_scaled (temperature of that
        epoch, fitted on validation images) and T.
    """
    import pandas as pd

    from lsnc_core import runs

    found = [
        (spec, tensors)
        for spec, epochs in runs.tensors(specs, device).items()
        for tensors in epochs
    ]
    rows = zip(history.to_dict("records"), found, strict=True)
    kept = [
        row | _of_epoch(spec, tensors)
        for row, (spec, tensors) in rows
        if row["epoch"] in spec.keep_at
    ]
    return pd.DataFrame(kept)


def _of_epoch(spec: RunSpec, tensors: dict[str, np.ndarray]) -> dict[str, float]:
    labels, logits = truth(spec), _logits(tensors, "test")
    log_p = logits.log_softmax(1)  # (N, K)
    predicted = logits.argmax(1)
    right = predicted == labels["test"]
    loss = -log_p.gather(1, labels["test"][:, None])[:, 0]  # (N,)
    entropy = -(log_p.exp() * log_p).sum(1)  # (N,)
    values = {
        "loss_all": loss.mean(),
        "loss_correct": loss[right].mean(),
        "loss_wrong": loss[~right].mean(),
    }
    values |= {"entropy_correct": entropy[right].mean(), "entropy_wrong": entropy[~right].mean()}
    K = logits.shape[1]
    by_prediction = metrics.nc1_by_correctness(
        torch.from_numpy(np.array(tensors["test_features"])), predicted, labels["test"], K
    )
    T = fit(tensors, labels, HELD_OUT)
    scores = {
        "T": T.value,
        "ece": metrics.ece(logits, labels["test"], BINS),
        "ece_scaled": metrics.ece(T.scale(logits), labels["test"], BINS),
    }
    return (
        {name: float(value) for name, value in values.items()}
        | {f"nc1_{name}": value / K for name, value in by_prediction.items()}
        | scores
    )


def reliability(specs: Sequence[RunSpec], device: str = "auto"):
    """F4: reliability diagrams on test images at the end of training, all seeds of an arm together,
    20 bins.

    Returns:
        pandas.DataFrame with arm, scaled (bool; temperature of each seed fitted on validation
        images), lower, upper, share (of all images), confidence, accuracy (NaN in an empty bin) and
        ece (of these bins).
    """
    import pandas as pd

    from lsnc_core import runs

    arms: dict[str, list] = {}
    for spec, epochs in runs.tensors(specs, device).items():
        T = fit(epochs[-1], truth(spec), HELD_OUT)
        arms.setdefault(guo_deep.arm_label(spec.loss, guo_collapse.strength(spec)), []).append(
            (spec, _logits(epochs[-1], "test"), T)
        )
    rows = []
    for arm, members in arms.items():
        labels = torch.cat([truth(spec)["test"] for spec, _, _ in members])
        for is_scaled in (False, True):
            logits = torch.cat(
                [T.scale(logits) if is_scaled else logits for _, logits, T in members]
            )
            bins = metrics.reliability(logits, labels, BINS)
            columns = {
                name: getattr(bins, name).numpy()
                for name in ("lower", "upper", "confidence", "accuracy")
            }
            share = bins.counts.numpy() / len(labels)
            rows.append(
                pd.DataFrame(
                    {"arm": arm, "scaled": is_scaled}
                    | columns
                    | {"share": share, "ece": bins.expected_error()}
                )
            )
    return pd.concat(rows, ignore_index=True)


def seen(table) -> str:
    """The optimal temperatures and calibration errors of `scaled` as a sentence of numbers, means
    over seeds.
    """
    said = []
    for group in guo_collapse.groups(
        table[(table.fit == HELD_OUT) & table.delta.isin((0.0, SMOOTHED, table.delta.max()))]
    ):
        cells = []
        for delta, part in group.groupby("delta"):
            means = part[["T", "ece", "ece_scaled"]].mean()
            cells.append(
                f"δ = {delta:g}: T* {means['T']:.2f}, ECE {means.ece:.4f} as trained, {means.ece_scaled:.4f} scaled"
            )
        said.append(
            f"{Path(group.data.iloc[0]).name}, decay {group.weight_decay.iloc[0]:g}: {', '.join(cells)}"
        )
    return f"temperatures from {HELD_OUT}, means over seeds; {'; '.join(said)}."


def seen_wrong(table) -> str:
    """What right and wrong predictions of `over_epochs` end with, as a sentence of numbers, means
    over seeds.
    """
    said = []
    for arm, part in guo_collapse.last(table).groupby("arm", sort=False):
        means = part[["loss_correct", "loss_wrong", "nc1_correct", "nc1_wrong"]].mean()
        said.append(
            f"{arm}: loss {means.loss_correct:.3f} where right, {means.loss_wrong:.2f} nats where wrong; "
            f"NC1 {means.nc1_correct:.3f} and {means.nc1_wrong:.3f}"
        )
    return f"at the end, means over seeds; {'; '.join(said)}."


def verdict_g6(table, how: str) -> Verdict:
    """G6 from `scaled`, for one way of fitting: T* without smoothing, at 0.05 against it, at the
    largest strength.
    """
    part = table[(table.fit == how) & (table.loss == "ce")]
    largest = part.delta.max()
    with np.errstate(divide="ignore"):
        logs = {
            delta: np.log(part[part.delta == delta]["T"].to_numpy()) for delta in (0.0, largest)
        }
    cases = [
        interval_case("δ = 0", logs[0.0], "T*", logs=True, at_least=1.0),
        below_case(f"δ = {SMOOTHED:g}", *paired(part, "T"), "T* by T*(0):"),
        interval_case(f"δ = {largest:g}", logs[largest], "T*", logs=True, at_most=1.0),
    ]
    return claims.over_cases(
        CLAIMS["G6"],
        _fitted_on(part, how),
        cases,
        "; ".join(f"{case.name}: {case.measured}" for case in cases),
        "more seeds",
    )


def verdict_g7(table, how: str) -> Verdict:
    """G7 from `scaled`, for one way of fitting: ECE before scaling, and what of the difference is
    left after it.
    """
    part = table[table.fit == how]
    plain, smooth = paired(part, "ece")
    after = np.subtract(*paired(part, "ece_scaled"))
    # |difference after| <= share of |difference before|, written without a quotient, whose
    # denominator may be near 0
    room = guo_deep.AFTER_SCALING * np.abs(plain - smooth) - np.abs(after)
    cases = [
        interval_case(
            "ECE before scaling", smooth - plain, "ECE(LS) − ECE(CE)", "+.4f", at_most=0.0
        ),
        interval_case(
            "ECE after scaling",
            room,
            f"{guo_deep.AFTER_SCALING:g} × |difference before| − |difference after|",
            "+.4f",
            at_least=0.0,
        ),
    ]
    means = f"ECE of CE {np.mean(plain):.4f}, of LS {np.mean(smooth):.4f}; CE − LS after scaling {np.mean(after):+.4f}"
    remark = "; ".join([means, *(f"{case.name}: {case.measured}" for case in cases)])
    return claims.over_cases(CLAIMS["G7"], _fitted_on(part, how), cases, remark, "more seeds")


def _fitted_on(table, how: str) -> str:
    return f"{where(table)}; temperature fitted on {how}"


def follows_collapse(table, column: str) -> np.ndarray:
    """Spearman's correlation of a column with -log NC1 over the epochs after learning, float
    (seeds,), of networks without smoothing.

    NaN for a seed with fewer than four such epochs, or with a column that does not change.
    """
    from scipy import stats

    found = []
    for _, run in table[(table.loss == "ce") & (table.delta == 0)].groupby("seed"):
        late = run[guo_collapse.has_learned(run.train_error)]
        known = (
            len(late) >= 4
            and late[column].nunique() > 1
            and late.nc1.nunique() > 1
            and np.isfinite(late[column]).all()
        )
        found.append(
            stats.spearmanr(late[column], -np.log(late.nc1)).statistic if known else np.nan
        )
    return np.array(found)


def verdict_g8(table) -> Verdict:
    """G8 from `over_epochs`: ECE, and the loss of wrong predictions, against collapse."""
    names = {"ece": "ECE", "loss_wrong": "loss(wrong)"}
    cases = [
        interval_case(
            f"curve {name}",
            follows_collapse(table, column),
            "rank correlation",
            within=(-1, 1),
            at_least=0.0,
        )
        for column, name in names.items()
    ]
    remark = "; ".join(
        f"{name}: {case.measured}" for name, case in zip(names.values(), cases, strict=True)
    )
    return claims.over_cases(
        CLAIMS["G8"], where(table), cases, remark, "more epochs whose logits are kept"
    )
