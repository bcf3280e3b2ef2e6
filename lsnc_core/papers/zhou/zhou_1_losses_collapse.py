"""Zhou et al. 2022: tables of deep networks under four losses, from what the store keeps of them.

K classes, D feature width; a width w is a multiple of the channels of the network as it is. NC1 to
NC4 are Zhou's (preset "zhou" of `lsnc_core.metrics`), of training images by clean label; the
paper's code measures them on augmented images, here they are as they are.
"""

import itertools

import numpy as np

from lsnc_core.papers.zhou_deep import LOSSES

METRICS = ("NC1", "NC2", "NC3", "NC4")
SIMPLEX = "simplex"
# channels of the first layer, or stage, of the network of width 1
BASE = {"cnn": 8, "resnet18": 64, "resnet50": 64}


def histories(runs):
    """The accuracies of all runs, one row per (run, measured epoch).

    Args:
        runs: the table of `lsnc_core.runs.results`, of one data set.

    Returns:
        pandas.DataFrame with data, width (w), epochs, steps (of the whole run), loss (one of
        `LOSSES`), seed, epoch, train_, validation_ and test_accuracy in percent, and run (its file
        in the store).
    """
    table = runs.copy()
    table["width"] = [
        widths[0] / BASE[model] for widths, model in zip(runs.widths, runs.model, strict=True)
    ]
    table["loss"] = [_name(loss, p) for loss, p in zip(runs.loss, runs.p, strict=True)]
    table["steps"] = table.epochs * np.ceil(table.train_size / table.batch).astype(int)
    accuracies = [f"{part}_accuracy" for part in ("train", "validation", "test")]
    table[accuracies] *= 100
    return table[["data", "width", "epochs", "steps", "loss", "seed", "epoch", *accuracies, "run"]]


def _name(loss: str, p: float) -> str:
    return {"ce": "CE" if p == 1 else "LS", "focal": "FL", "mse": "MSE"}[loss]


def collapse_table(runs, tensors):
    """`histories` with NC1 to NC4 of the training images beside each row; NaN where a network has
    diverged.

    Args:
        runs: the table of `lsnc_core.runs.results`.
        tensors: of the same specs, from `lsnc_core.runs.tensors`.
    """
    import pandas as pd

    from lsnc_core.papers import collapse

    rows = []
    for spec, measured in tensors.items():
        for epoch, arrays in zip(spec.evaluate_at, measured, strict=True):
            row = {
                "loss": _name(spec.loss, spec.p),
                "seed": spec.seed,
                "epoch": epoch,
            } | dict.fromkeys(METRICS, np.nan)
            if np.isfinite(arrays["weight"]).all() and np.isfinite(arrays["train_means"]).all():
                row |= collapse.values(arrays, "train").preset("zhou")
            rows.append(row)
    return histories(runs).merge(
        pd.DataFrame(rows), on=["loss", "seed", "epoch"], validate="one_to_one"
    )


def seen(table) -> str:
    """The last values of `collapse_table` by loss, means over seeds, in a sentence of numbers."""
    ends = table[table.epoch == table.epochs].groupby("loss")[[*METRICS, "test_accuracy"]].mean()
    said = [
        f"{name} " + ", ".join(f"{ends[name][loss]:.2g} ({loss})" for loss in LOSSES)
        for name in METRICS
    ]
    accuracies = ", ".join(f"{ends.test_accuracy[loss]:.1f} ({loss})" for loss in LOSSES)
    return f"At the end {'; '.join(said)}; test accuracy in percent {accuracies}."


def normalised_gram(means: np.ndarray) -> np.ndarray:
    """Gram matrix of the class means about their mean, at Frobenius norm 1: float (K, D) -> float64
    (K, K); NaN where all coincide.

    >>> normalised_gram(np.array([[3.0, 0.0], [1.0, 0.0]])).tolist()
    [[0.5, -0.5], [-0.5, 0.5]]
    """
    H = means.astype(float) - means.astype(float).mean(0)
    gram = H @ H.T  # (K, K)
    norm = np.linalg.norm(gram)
    return gram / norm if norm > 0 else np.full_like(gram, np.nan)


def gram_distances(tensors):
    """Distances between the normalised Gram matrices of the networks' class means, at the end of
    training and at its first measurement.

    Returns:
        pandas.DataFrame with first, second (losses, or "simplex"), seed, other_seed, start and end
        (distance in [0, sqrt(2)]): of each two losses at one seed, of each loss to the simplex, and
        of each loss between two seeds.
    """
    import pandas as pd

    found = {(_name(spec.loss, spec.p), spec.seed): measured for spec, measured in tensors.items()}
    grams = {
        key: [normalised_gram(measured[at]["train_means"]) for at in (0, -1)]
        for key, measured in found.items()
    }
    K = len(next(iter(grams.values()))[0])
    grams |= {
        (SIMPLEX, seed): [normalised_gram(np.eye(K))] * 2 for seed in {seed for _, seed in grams}
    }
    rows = []
    for (one, seed), (other, other_seed) in itertools.combinations(sorted(grams, key=_rank), 2):
        if (one == other != SIMPLEX) or (one != other and seed == other_seed):
            ends = zip(grams[one, seed], grams[other, other_seed], strict=True)
            start, end = (float(np.linalg.norm(gram - partner)) for gram, partner in ends)
            rows.append(
                {
                    "first": one,
                    "second": other,
                    "seed": seed,
                    "other_seed": other_seed,
                    "start": start,
                    "end": end,
                }
            )
    return pd.DataFrame(rows)


def seen_grid(grid) -> str:
    """The first and last row of `cells`, in a sentence of numbers."""
    said = []
    for row in (grid.iloc[0], grid.iloc[-1]):
        gaps = ", ".join(f"{row[f'gap_{loss}']:.2f} ({loss})" for loss in LOSSES[1:])
        said.append(
            f"at width {row.width:g} and {row.epochs:g} epochs the accuracy differs from that under CE by {gaps} points"
        )
    return "; ".join(said) + "."


def _rank(key: tuple[str, int]) -> tuple[int, int]:
    return (*LOSSES, SIMPLEX).index(key[0]), key[1]


def selected(table):
    """Each run at the epoch of its best validation accuracy, the first of several, as the paper
    reports it: rows of `histories`.
    """
    best = (
        table.sort_values("epoch")
        .groupby(["width", "epochs", "loss", "seed"])
        .validation_accuracy.idxmax()
    )
    return table.loc[best].sort_values(["width", "epochs", "loss", "seed"], ignore_index=True)


def cells(table):
    """The grid's numbers, over the seeds that all cells have.

    Args:
        table: from `selected`.

    Returns:
        pandas.DataFrame, a row per (width, epochs): data, accuracy_<loss> (mean over seeds,
        percent), gap_<loss> (mean over seeds of
        |accuracy under CE - under the loss|, points; not for CE) and variance (over losses and seeds, divided by their number - 1).
    """
    import pandas as pd

    common, rows = table.groupby(["width", "epochs"]).seed.max().min(), []
    for (width, epochs), part in table[table.seed <= common].groupby(["width", "epochs"]):
        grid = part.pivot(index="seed", columns="loss", values="test_accuracy")[
            list(LOSSES)
        ]  # (seeds, losses)
        row = {"data": part.data.iloc[0], "width": width, "epochs": epochs} | {
            f"accuracy_{loss}": grid[loss].mean() for loss in LOSSES
        }
        row |= {f"gap_{loss}": (grid.CE - grid[loss]).abs().mean() for loss in LOSSES[1:]}
        rows.append(row | {"variance": grid.to_numpy().var(ddof=1)})
    return pd.DataFrame(rows)
