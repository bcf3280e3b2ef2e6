"""Guo et al. 2025: calibration of stored networks: temperatures, ECE, reliability diagrams, right
and wrong predictions.

Temperatures are fitted in one of two ways, the `FITS`: by likelihood on validation images, which
nothing else uses; or by ECE on the test images themselves, as in the released code, which makes the
reported ECE too small.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lsnc_core.claims import Premise
from lsnc_core.papers import stored
from lsnc_core.papers.guo.measured import (
    ERROR_REACHED,
    groups,
    has_learned,
    image_set,
    last_epochs,
    strength,
)
from lsnc_core.papers.guo.networks import loss_label
from lsnc_core.runs.spec import RunSpec

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from lsnc_core.metrics.calibration import Temperature

BINS = 20  # of the paper's figures
HELD_OUT, AS_RELEASED = "validation images, by likelihood", "test images, by ECE"
FITS = (HELD_OUT, AS_RELEASED)
Tensors = Mapping[RunSpec, Sequence[stored.Tensors]]  # as `lsnc_core.runs.tensors` returns them


def true_labels(spec: RunSpec) -> "dict[str, torch.Tensor]":
    """Labels of a run's validation and test images, int64 (N,)."""
    from lsnc_core import data

    train, test = data.truth(spec.data, spec.train_size + spec.validation_size, spec.test_size)
    return {"validation": train[spec.train_size :], "test": test}


def read_logits(tensors: stored.Tensors, part: str) -> "torch.Tensor":
    """Logits of one measured epoch, float64 (N, K); part is "validation" or "test"."""
    import torch

    return torch.from_numpy(np.array(tensors[f"{part}_logits"])).double()


def fit_temperature(
    tensors: stored.Tensors, labels: "dict[str, torch.Tensor]", how: str
) -> "Temperature":
    """The temperature of one measured epoch, fitted in one of the `FITS`."""
    from lsnc_core import metrics

    if how == HELD_OUT:
        return metrics.fit_temperature(read_logits(tensors, "validation"), labels["validation"])
    logits = read_logits(tensors, "test")
    return metrics.fit_temperature(logits, labels["test"], by="ece", fitted_on="test", bins=BINS)


def measure_ends(history: "pd.DataFrame", tensors: Tensors) -> "pd.DataFrame":
    """Calibration on test images at the end of training, before and after temperature scaling.

    Args:
        history: the networks' table from `measured.fetch_history`.
        tensors: the networks' arrays.

    Returns:
        pandas.DataFrame, one row per (run, fit): the last rows of the history with fit (one of
        `FITS`), T, ece and ece_scaled (20 bins).
    """
    import pandas as pd

    from lsnc_core import metrics

    rows, names = [], stored.run_names(tensors)
    for spec, epochs in tensors.items():
        labels, logits = true_labels(spec), read_logits(epochs[-1], "test")
        before = metrics.ece(logits, labels["test"], BINS)
        for how in FITS:
            T = fit_temperature(epochs[-1], labels, how)
            after = metrics.ece(T.scale(logits), labels["test"], BINS)
            keys = {"run": names[spec], "epoch": spec.epochs}
            rows.append(keys | {"fit": how, "T": T.value, "ece": before, "ece_scaled": after})
    return last_epochs(history).merge(pd.DataFrame(rows), on=stored.KEYS)


def measure_epochs(history: "pd.DataFrame", tensors: Tensors) -> "pd.DataFrame":
    """What F5 shows of the epochs whose logits were kept, test images unless said otherwise.

    Args: as for `measure_ends`.

    Returns:
        pandas.DataFrame, one row per (run, epoch): the history with the columns of
        `measure_predictions`.
    """
    import pandas as pd

    rows, names = [], stored.run_names(tensors)
    for spec, epochs in tensors.items():
        for epoch, arrays in zip(spec.evaluate_at, epochs, strict=True):
            if epoch in spec.keep_at:
                keys = {"run": names[spec], "epoch": epoch}
                rows.append(keys | measure_predictions(spec, arrays))
    return history.merge(pd.DataFrame(rows), on=stored.KEYS)


def measure_predictions(spec: RunSpec, tensors: stored.Tensors) -> dict[str, float]:
    """Right and wrong predictions of one measured epoch on test images.

    Returns:
        loss_all, loss_correct, loss_wrong (mean -log p_label) and entropy_correct, entropy_wrong
        (of the prediction) in nats, NaN over no images; nc1_all, nc1_correct, nc1_wrong (by
        predicted class, divided by K as in Guo eq. 4); T (fitted at that epoch on validation
        images), ece and ece_scaled.
    """
    import torch

    from lsnc_core import metrics

    labels, logits = true_labels(spec), read_logits(tensors, "test")
    test, predicted, K = labels["test"], logits.argmax(1), logits.shape[1]
    right = predicted == test
    log_p = logits.log_softmax(1)  # (N, K)
    loss = -log_p.gather(1, test[:, None])[:, 0]  # (N,)
    entropy = -(log_p.exp() * log_p).sum(1)  # (N,)
    scores = {
        "loss_all": float(loss.mean()),
        "loss_correct": float(loss[right].mean()),
        "loss_wrong": float(loss[~right].mean()),
        "entropy_correct": float(entropy[right].mean()),
        "entropy_wrong": float(entropy[~right].mean()),
    }
    features = torch.from_numpy(np.array(tensors["test_features"]))
    for name, value in metrics.nc1_by_correctness(features, predicted, test, K).items():
        scores[f"nc1_{name}"] = value / K
    T = fit_temperature(tensors, labels, HELD_OUT)
    scores["T"] = T.value
    scores["ece"] = metrics.ece(logits, test, BINS)
    scores["ece_scaled"] = metrics.ece(T.scale(logits), test, BINS)
    return scores


def measure_reliability(tensors: Tensors) -> "pd.DataFrame":
    """Reliability diagrams on test images at the end of training, seeds of a loss together (F4).

    Returns:
        pandas.DataFrame, one row per (loss, scaled, bin): arm (the loss's name), scaled (bool; the
        temperature of each seed is fitted on validation images), lower, upper, confidence, accuracy
        (NaN in an empty bin), share (of all images) and ece (of these bins).
    """
    import pandas as pd
    import torch

    from lsnc_core import metrics

    replicates: dict[str, list] = {}
    for spec, epochs in tensors.items():
        labels, logits = true_labels(spec), read_logits(epochs[-1], "test")
        scaled = fit_temperature(epochs[-1], labels, HELD_OUT).scale(logits)
        name = loss_label(spec.loss, strength(spec))
        replicates.setdefault(name, []).append((labels["test"], logits, scaled))
    tables = []
    for name, members in replicates.items():
        labels, logits, scaled = map(torch.cat, zip(*members, strict=True))
        for is_scaled, values in ((False, logits), (True, scaled)):
            bins = metrics.reliability(values, labels, BINS)
            columns = {"arm": name, "scaled": is_scaled}
            for column in ("lower", "upper", "confidence", "accuracy"):
                columns[column] = getattr(bins, column).numpy()
            columns |= {"share": bins.counts.numpy() / len(labels), "ece": bins.expected_error()}
            tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def describe_best_strengths(ends: "pd.DataFrame") -> str:
    """At which strength the mean ECE is lowest as trained and after scaling with temperatures from
    validation images, in a sentence; of networks that have diverged there is none.

    Args: ends, from `measure_ends`.
    """
    phrases = []
    for part in groups(ends[(ends.fit == HELD_OUT) & (ends.loss == "ce")]):
        means, places = part.groupby("delta").mean(numeric_only=True), []
        for column, when in (("ece", "as trained"), ("ece_scaled", "after scaling")):
            if means[column].notna().any():
                places.append(f"at δ = {means[column].idxmin():g} {when}")
        where = f"{image_set(part)}, weight decay {part.weight_decay.iloc[0]:g}"
        phrases.append(f"{' and '.join(places) or 'nowhere'} ({where})")
    return f"The mean ECE is lowest {'; '.join(phrases)}."


def describe_scaled(bins: "pd.DataFrame") -> str:
    """For how many losses temperature scaling lowers the ECE, in a sentence; args: bins, from
    `measure_reliability`.
    """
    errors = bins.groupby(["arm", "scaled"]).ece.first().unstack()
    lower = int((errors[True] < errors[False]).sum())
    return f"Temperature scaling lowers the pooled ECE of {lower} of {len(errors)} losses."


def describe_wrong(epochs: "pd.DataFrame") -> str:
    """With which loss wrong predictions cost least at the end, mean over seeds, in a sentence.

    Args: epochs, from `measure_epochs`.
    """
    means = last_epochs(epochs).groupby("arm", sort=False).loss_wrong.mean()
    if means.isna().all():
        return "At the end no prediction is wrong."
    return f"At the end wrong predictions have the lowest loss with {means.idxmin()}."


MIN_EPOCHS = 4  # of a seed's curve after learning, for a rank correlation


def check_learned(epochs: "pd.DataFrame") -> Premise:
    """Whether every seed of cross-entropy has `MIN_EPOCHS` measured epochs after learning."""
    plain = epochs[(epochs.loss == "ce") & (epochs.delta == 0)]
    learned = plain.groupby("seed").train_error.apply(lambda error: has_learned(error).sum())
    name = f"number of measured epochs after a training error of {ERROR_REACHED:.0%}"
    return Premise(name, float(learned.min()), at_least=MIN_EPOCHS, form=".0f")


def correlate_with_collapse(epochs: "pd.DataFrame", column: str) -> np.ndarray:
    """Spearman's correlation of a column with -log NC1 over the epochs after learning, of networks
    without smoothing.

    Returns:
        float (seeds,) in [-1, 1]; NaN for a seed with fewer than `MIN_EPOCHS` such epochs, or with
        a column that does not change.
    """
    from scipy import stats

    ranks = []
    for _, run in epochs[(epochs.loss == "ce") & (epochs.delta == 0)].groupby("seed"):
        late = run[has_learned(run.train_error)]
        moves = late[column].nunique() > 1 and late.nc1.nunique() > 1
        rank = np.nan
        if len(late) >= MIN_EPOCHS and moves and np.isfinite(late[column]).all():
            # ranks: the claim is that both rise together, not along which curve
            rank = stats.spearmanr(late[column], -np.log(late.nc1)).statistic
        ranks.append(rank)
    return np.array(ranks)
