"""Zhou et al. 2022: collapse of stored networks, and distances between the Gram matrices of their
class means.
"""

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lsnc_core.papers import stored
from lsnc_core.papers.zhou import networks
from lsnc_core.papers.zhou.networks import LOSSES
from lsnc_core.runs import RunSpec

if TYPE_CHECKING:
    import pandas as pd

METRICS = ("NC1", "NC2", "NC3", "NC4")
SIMPLEX = "simplex"


def collapse_table(
    results: "pd.DataFrame", tensors: Mapping[RunSpec, Sequence[stored.Tensors]]
) -> "pd.DataFrame":
    """Accuracies and NC1 to NC4 of the training images, one row per (run, epoch).

    Args:
        results: the table of `lsnc_core.runs.results`.
        tensors: of the same networks, from `lsnc_core.runs.tensors`.

    Returns:
        pandas.DataFrame as `networks.accuracy_table`, with a column for each of `METRICS` and
        "cosine", see `largest_cosine`; NaN where a network has diverged.
    """
    import pandas as pd

    rows, finite, names = [], [], stored.run_names(tensors)
    for spec, epochs in tensors.items():
        for epoch, arrays in zip(spec.evaluate_at, epochs, strict=True):
            rows.append({"run": names[spec], "epoch": epoch})
            rows[-1] |= dict.fromkeys((*METRICS, "cosine"), np.nan)
            if np.isfinite(arrays["weight"]).all() and np.isfinite(arrays["train_means"]).all():
                finite.append((rows[-1], arrays))
    measured = stored.collapse_of_many([arrays for _, arrays in finite])
    for (row, arrays), values in zip(finite, measured, strict=True):
        row |= values.preset("zhou") | {"cosine": largest_cosine(arrays["train_means"])}
    accuracies = networks.accuracy_table(results)
    return accuracies.merge(pd.DataFrame(rows), on=stored.KEYS, validate="one_to_one")


def largest_cosine(means: np.ndarray) -> float:
    """The largest cosine between two class means, taken about the mean of all.

    The least that it can be for K classes is -1/(K-1): then the means are as far apart as means on
    one sphere can be.

    Args:
        means: float (K, D).

    Returns:
        float in [-1/(K-1), 1]; NaN where a mean lies at the centre.

    >>> round(largest_cosine(np.eye(3)), 3)
    -0.5
    """
    H = means.astype(float) - means.astype(float).mean(0)
    with np.errstate(invalid="ignore"):  # a mean at the centre has no direction
        H /= np.linalg.norm(H, axis=1, keepdims=True)
    cosines = H @ H.T  # (K, K)
    return float(cosines[~np.eye(len(H), dtype=bool)].max())


def normalise_gram(means: np.ndarray) -> np.ndarray:
    """Gram matrix of the class means about their mean, at Frobenius norm 1.

    Args:
        means: float (K, D).

    Returns:
        float64 (K, K); NaN where all means coincide.

    >>> normalise_gram(np.array([[3.0, 0.0], [1.0, 0.0]])).tolist()
    [[0.5, -0.5], [-0.5, 0.5]]
    """
    H = means.astype(float) - means.astype(float).mean(0)
    gram = H @ H.T  # (K, K)
    norm = np.linalg.norm(gram)
    return gram / norm if norm > 0 else np.full_like(gram, np.nan)


def describe_lowest(table: "pd.DataFrame") -> str:
    """Under which loss NC1, NC2 and NC3 end lowest, means over seeds, as a sentence.

    Args: table, from `collapse_table`.
    """
    means = table[table.epoch == table.epochs].groupby("loss")[list(METRICS[:3])].mean()
    lowest = ", ".join(f"{metric} under {loss}" for metric, loss in means.idxmin().items())
    return f"Lowest at the last epoch of this schedule: {lowest}."


def describe_gram(distances: "pd.DataFrame") -> str:
    """For how many pairs of losses the class means become more alike while training, means over
    seeds, in a sentence.

    Args: distances, from `gram_distance_table`.
    """
    losses = distances[distances["second"] != SIMPLEX]
    losses = losses[losses["first"] != losses["second"]]
    compared = "From the first measured epoch to the end the class means become more alike"
    if losses.empty:  # one seed: each loss has its distance to the simplex alone
        nearer = (distances.end < distances.start).sum()
        return f"{compared} to the simplex for {nearer} of {len(distances)} losses."
    means = losses.groupby(["first", "second"])[["start", "end"]].mean()
    return f"{compared} for {(means.end < means.start).sum()} of {len(means)} pairs of losses."


def gram_distance_table(tensors: Mapping[RunSpec, Sequence[stored.Tensors]]) -> "pd.DataFrame":
    """Distances between normalised Gram matrices of class means: of each two losses, of each loss
    to the simplex ETF, and of each loss between two seeds.

    Networks of one seed share their start, which makes them alike whatever the loss. So two losses
    are compared at different seeds, each seed of the one with the next of the other.

    Args:
        tensors: from `lsnc_core.runs.tensors`.

    Returns:
        pandas.DataFrame with first, second (losses, or "simplex"), seed, other_seed, start and end
        (distances in [0, sqrt(2)] at the first measured epoch and at the last).
    """
    import pandas as pd

    grams = {}
    for spec, epochs in tensors.items():
        key = networks.loss_name(spec.loss, spec.p), spec.seed
        grams[key] = [normalise_gram(epochs[at]["train_means"]) for at in (0, -1)]
    K = len(next(iter(grams.values()))[0])
    seeds = sorted({seed for _, seed in grams})
    following = dict(zip(seeds, [*seeds[1:], seeds[0]], strict=True))
    for seed in seeds:
        grams[SIMPLEX, seed] = [normalise_gram(np.eye(K))] * 2
    rows = []
    for one, other in itertools.combinations_with_replacement((*LOSSES, SIMPLEX), 2):
        for seed, other_seed in itertools.product(seeds, repeat=2):
            if one == other:
                wanted = seed < other_seed and one != SIMPLEX
            elif other == SIMPLEX:
                wanted = seed == other_seed
            else:
                wanted = other_seed == following[seed] != seed
            if wanted:
                ends = zip(grams[one, seed], grams[other, other_seed], strict=True)
                start, end = (float(np.linalg.norm(gram - partner)) for gram, partner in ends)
                row = {"first": one, "second": other, "seed": seed, "other_seed": other_seed}
                rows.append(row | {"start": start, "end": end})
    return pd.DataFrame(rows)


@functools.cache
def random_nc2(K: int, D: int) -> float:
    """The mean NC2 of weights with independent normal entries, shape (K, D).

    Rows of such weights are nearly orthogonal where D is large, and orthogonal rows form a simplex
    ETF once centred. So a small NC2 alone shows nothing.

    >>> round(random_nc2(10, 128), 2), round(random_nc2(10, 2048), 2)
    (0.27, 0.07)
    """
    draws, P = np.random.default_rng(0), np.eye(K) - 1 / K
    distances = []
    for _ in range(200):
        W = draws.standard_normal((K, D))
        gram = P @ W @ W.T @ P
        distances.append(np.linalg.norm(gram / np.linalg.norm(gram) - P / np.sqrt(K - 1)))
    return float(np.mean(distances))
