"""Tables of networks trained under any label noise (Chen, Ziyin et al. 2020, sections 4.1 and 6.2):
losses, the objectives of forward correction and logit smoothing, the gap of Chen eq. 18.

T_ij = P(clean class j becomes i), a is the clean rate, p the kept mass, M the number of classes, z
logits, f = softmax(z). Losses are in nats. The ways of training are those of
`lsnc_core.papers.chen.noise_networks.WAYS`.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lsnc_core import labels
from lsnc_core.claims import Premise
from lsnc_core.data_sources import source_of
from lsnc_core.label_files import is_label_file
from lsnc_core.papers.chen.grid import (
    MEMORISED,
    PROTOCOLS,
    RECIPE,
    rate_name,
    unlearned_share,
)
from lsnc_core.papers.chen.noise_networks import (
    matrix_of,
    memorised_output,
    training_floor,
    way_of,
)
from lsnc_core.papers.chen.premises import memorised_premise
from lsnc_core.papers.stored import run_names
from lsnc_core.theory import label_noise
from lsnc_core.theory.label_noise_errata import jensen_terms

if TYPE_CHECKING:
    import pandas as pd

    from lsnc_core.papers.stored import Tensors
    from lsnc_core.runs.spec import RunSpec

# The ways whose targets under symmetric noise are the rows of one S, that with p = a. Without
# smoothing S is the identity.
SMOOTHED = {
    "mean field": "label smoothing",
    "forward": "forward correction",
    "logit": "logit smoothing",
}
# Loss on clean labels as trained, and that of the other output.
CORRECTED = {"test_loss": "corrected_test", "clean_train_loss": "corrected_train"}
# Objectives count as unequal from here on: a float32 network knows its logits no better.
ROUNDING = 1e-6


def network_table(
    runs: "pd.DataFrame", tensors: "Mapping[RunSpec, Sequence[Tensors]]"
) -> "pd.DataFrame":
    """One row per network after its last epoch.

    Args:
        runs: the table of `lsnc_core.runs.results`.
        tensors: from `lsnc_core.runs.tensors`, of the same networks.

    Returns:
        pandas.DataFrame with data, noise, way, a (of labels from a file the share that is right),
        p, seed, test_loss, clean_train_loss and test_accuracy as trained; predicted (loss on clean
        labels of a network that has memorised its labels; inf for one-hot labels); corrected_test
        and corrected_train (loss of the other output of forward correction, T f, and of logit
        smoothing, softmax(S z); NaN for the other ways); unlearned and memorised, as in
        `grid.landscape_table`; train_size and `RECIPE`.
    """
    import pandas as pd

    last = runs[runs.epoch == runs.epochs]
    names = run_names(tensors)
    rows = [_network_row(spec, tensors[spec][-1]) | {"run": names[spec]} for spec in tensors]
    recipe = ["train_size", *RECIPE]
    measured = ["run", "data", "noise", "p", "seed", *PROTOCOLS, "test_accuracy", "train_loss"]
    table = last[[*measured, *recipe]].merge(pd.DataFrame(rows), on="run", validate="one_to_one")
    M = source_of(table.data.iloc[0]).num_classes
    table["unlearned"] = unlearned_share(table.train_loss, table.floor, M)
    table["memorised"] = table.unlearned <= MEMORISED
    columns = ["data", "noise", "way", "a", "p", "seed", *PROTOCOLS, "test_accuracy", "predicted"]
    columns += ["corrected_test", "corrected_train", "unlearned", "memorised", *recipe]
    return table[columns]


def _network_row(spec: "RunSpec", tensors: "Tensors") -> dict[str, Any]:
    """What `network_table` adds to a network's measured losses, and the floor of its training
    loss.
    """
    from scipy.special import softmax

    from lsnc_core import data
    from lsnc_core.runs import prepare

    train, test = data.truth(spec.data, spec.train_size, spec.test_size)
    M, way = source_of(spec.data).num_classes, way_of(spec)
    T = matrix_of(spec.noise, spec.a, spec.data)
    row = {
        "way": way,
        "a": clean_rate(spec.noise, spec.a, spec.data),
        "predicted": label_noise.alpha_loss(memorised_output(way, T), T),
    }
    for part, clean in (("test", test.numpy()), ("train", train.numpy())):
        logits = np.asarray(tensors[f"{part}_logits"], dtype=float)  # (N, M)
        loss = np.nan
        if way == "forward":
            loss = _cross_entropy(softmax(logits, axis=1) @ T.T, clean)
        elif way == "logit":
            S = labels.smoothing_matrix(spec.p, M)
            loss = _cross_entropy(softmax(logits @ S.T, axis=1), clean)
        row[f"corrected_{part}"] = loss
    noisy = prepare.noisy_labels(spec, train, M).numpy()
    return row | {"floor": training_floor(way, T, noisy)}


def clean_rate(noise: str, a: float, image_set: str) -> float:
    """The share of labels that are right: a, or of labels from a file theirs, to four digits."""
    from lsnc_core import data

    return round(1 - data.given_labels(noise, image_set).rate, 4) if is_label_file(noise) else a


def rates_of(networks: "pd.DataFrame", noise: str) -> list[float]:
    """The clean rates that a table has of a noise, ascending."""
    return sorted(set(networks.a[networks.noise == noise]))


def _cross_entropy(probabilities: np.ndarray, clean: np.ndarray) -> float:
    return float(-np.log(probabilities[np.arange(len(clean)), clean]).mean())


def objective_table(tensors: "Mapping[RunSpec, Sequence[Tensors]]") -> "pd.DataFrame":
    """The three objectives of Chen eq. 18 and 19 on the noisy training labels of each network under
    symmetric noise, after its last epoch; S is symmetric with p = a.

    Args:
        tensors: from `lsnc_core.runs.tensors`.

    Returns:
        pandas.DataFrame with way, a, seed, images; smoothing, forward, logit (means over images of
        `jensen_terms` at the noisy label, nats); above_forward and above_logit (images with
        smoothing above forward, and forward above logit, by more than rounding).
    """
    import pandas as pd

    from lsnc_core import data

    rows = []
    for spec, epochs in tensors.items():
        if spec.noise != "symmetric":
            continue
        clean, _ = data.truth(spec.data, spec.train_size, spec.test_size)
        # symmetric noise is its own posterior: S = T
        S = labels.symmetric_noise(spec.a, source_of(spec.data).num_classes)
        noisy = labels.corrupt(clean, S, spec.seed).numpy()
        logits = np.asarray(epochs[-1]["train_logits"])  # (N, M)
        smoothing = forward = logit = np.full(len(noisy), np.nan)
        if np.isfinite(logits).all():  # a diverged network has no objectives
            smoothing, forward, logit = jensen_terms(S, logits, noisy)
        rows.append(
            {
                "way": way_of(spec),
                "a": spec.a,
                "seed": spec.seed,
                "images": len(noisy),
                "smoothing": smoothing.mean(),
                "forward": forward.mean(),
                "logit": logit.mean(),
                "above_forward": int((smoothing > forward + ROUNDING).sum()),
                "above_logit": int((forward > logit + ROUNDING).sum()),
            }
        )
    return pd.DataFrame(rows)


def gap_table(history: "pd.DataFrame") -> "pd.DataFrame":
    """How far Chen eq. 18 is from an equality while networks train under symmetric noise: log sum_j
    S q - sum_j S log q, S with p = a.

    Args:
        history: the table of `lsnc_core.runs.results` with a column way.

    Returns:
        pandas.DataFrame with way (of `SMOOTHED`; without smoothing the gap is 0), a, seed, epoch;
        gap (mean over the noisy training labels, nats, >= 0 but for rounding).
    """
    part = history[(history.noise == "symmetric") & history.way.isin(SMOOTHED)]
    gap = part.train_smoothed_loss - part.train_forward_loss
    return part[["way", "a", "seed", "epoch"]].assign(gap=gap).reset_index(drop=True)


def ways_by_noise(networks: "pd.DataFrame") -> dict[str, list[str]]:
    """The ways that a table has of each noise, both in the order of its rows."""
    groups = networks.groupby("noise", sort=False)
    return {noise: list(part.way.unique()) for noise, part in groups}


def losses_by_way(networks: "pd.DataFrame", noise: str, a: float, column: str) -> "pd.DataFrame":
    """One column of `network_table` at one noise and clean rate: a row per seed, a column per
    way.
    """
    part = networks[(networks.noise == noise) & (networks.a == a)]
    return part.pivot(index="seed", columns="way", values=column)


def way_premises(
    networks: "pd.DataFrame", noise: str, a: float, ways: Sequence[str]
) -> tuple[Premise]:
    """The premise of a comparison of ways at one noise and clean rate: their labels memorised."""
    here = (networks.noise == noise) & (networks.a == a) & networks.way.isin(ways)
    return (memorised_premise(networks[here], rate_name(a)),)
