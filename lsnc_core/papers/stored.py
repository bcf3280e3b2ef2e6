"""From the store to keyed tables: collapse metrics of stored networks.

Every table has the columns `run`, the network's name in the store, and `epoch`; tables are joined
by these keys, never by the order of their rows.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lsnc_core.runs.spec import RunSpec

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from lsnc_core.metrics.collapse import Values
    from lsnc_core.metrics.statistics import Statistics

KEYS = ["run", "epoch"]
Tensors = Mapping[str, np.ndarray]
TOGETHER = 2**20  # numbers of class means that are computed with at once
STATISTICS = ("counts", "means", "within", "projected")  # of each part, as the store names them


def run_names(specs: Iterable[RunSpec]) -> dict[RunSpec, str]:
    """Names in the store, the column `run`; together, so that images are read only once."""
    from lsnc_core.runs import Store

    store = Store()
    return {spec: store.path(spec).stem for spec in specs}


def _read(tensors: Tensors, name: str) -> "torch.Tensor":
    import torch

    return torch.from_numpy(np.array(tensors[name]))


def _stack(epochs: Sequence[Tensors], name: str) -> "torch.Tensor":
    import torch

    return torch.stack([_read(tensors, name) for tensors in epochs])


def restore_statistics(tensors: Tensors, part: str = "train") -> "Statistics":
    """The sufficient statistics of one measured epoch, by clean label.

    The store keeps Hbar Sigma_W Hbar^T, with Hbar (K, D) the centred class means. In the basis B of
    their span, Hbar = U S B^T, so B^T Sigma_W B = S^-1 U^T (Hbar Sigma_W Hbar^T) U S^-1.

    Args:
        tensors: one epoch's arrays, from `lsnc_core.runs.tensors`.
        part: "train", "validation" or "test".
    """
    return _restore(*(_read(tensors, f"{part}_{name}") for name in STATISTICS))


def _restore(
    counts: "torch.Tensor", means: "torch.Tensor", within: "torch.Tensor", projected: "torch.Tensor"
) -> "Statistics":
    """The statistics from what the store keeps, with leading axes where all classes are present."""
    import torch

    from lsnc_core.metrics.statistics import Statistics, span_of_means

    means = means.double()
    kept = slice(None) if (counts > 0).all() else counts > 0
    hbar = means[..., kept, :] - means[..., kept, :].mean(-2, keepdim=True)
    basis = span_of_means(means[..., kept, :])  # (..., D, r)
    U, S, Vh = torch.linalg.svd(hbar @ basis, full_matrices=False)
    back = Vh.mT / S[..., None, :] @ U.mT  # (..., r, classes present): B^T Hbar^+
    projected = projected[..., kept, :][..., kept]
    return Statistics(counts, means, basis, back @ projected @ back.mT, within.double())


def collapse_at(tensors: Tensors, part: str = "train") -> "Values":
    """All collapse metrics of one measured epoch that need no second pass over the features.

    Args: as `restore_statistics`.
    """
    return collapse_of_many([tensors], part)[0]


def collapse_of_many(epochs: Sequence[Tensors], part: str = "train") -> "list[Values]":
    """`collapse_at` of many measured epochs, of any networks, in their order.

    Networks of the same shape are computed together and in one thread: operations on matrices this
    small take longer to call than to run, and to share them among threads takes longer still.

    Args:
        epochs: each epoch's arrays, from `lsnc_core.runs.tensors`.
        part: "train", "validation" or "test".
    """
    from lsnc_core.metrics.collapse import Values
    from lsnc_core.metrics.threads import one_thread

    measured = [Values() for _ in epochs]
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, tensors in enumerate(epochs):
        shape = tensors[f"{part}_means"].shape
        # statistics with absent classes cannot stand beside others
        complete = (tensors[f"{part}_counts"] > 0).all()
        groups.setdefault(shape if complete else (*shape, number), []).append(number)
    with one_thread():
        for (K, D, *_), numbers in groups.items():
            together = max(1, TOGETHER // (K * D))
            for start in range(0, len(numbers), together):
                members = numbers[start : start + together]
                found = _collapse_of_group([epochs[number] for number in members], part)
                for number, values in zip(members, found, strict=True):
                    measured[number] = values
    return measured


def _collapse_of_group(epochs: Sequence[Tensors], part: str) -> "list[Values]":
    """`collapse_at` of epochs of the same shape, with samples of all classes if there are many."""
    from lsnc_core.metrics.collapse import Values, collapse_values, collapse_values_of_many
    from lsnc_core.metrics.statistics import rank_of_means

    names = ("weight", "bias", *(f"{part}_{name}" for name in STATISTICS))
    weight, bias, *kept = (_stack(epochs, name) for name in names)
    if len(epochs) == 1:
        return [collapse_values(_restore(*(tensor[0] for tensor in kept)), weight[0], bias[0])]
    measured = [Values() for _ in epochs]
    ranks = rank_of_means(kept[1].double())  # (epochs,)
    for rank in ranks.unique():
        chosen = (ranks == rank).nonzero()[:, 0]
        restored = _restore(*(tensor[chosen] for tensor in kept))
        found = collapse_values_of_many(restored, weight[chosen], bias[chosen])
        for place, values in zip(chosen.tolist(), found, strict=True):
            measured[place] = values
    return measured


def collapse_table(
    tensors: Mapping[RunSpec, Sequence[Tensors]],
    presets: Sequence[str] = ("guo",),
    parts: Sequence[str] = ("train", "test"),
) -> "pd.DataFrame":
    """Collapse metrics of many networks.

    Args:
        tensors: from `lsnc_core.runs.tensors`.
        presets: which of `lsnc_core.metrics.PRESETS`.
        parts: which images: "train", "validation", "test".

    Returns:
        pandas.DataFrame, one row per (run, epoch, part): a column for each metric, named
        "guo NC1" and so on, and the norms `means_norm` and `W_norm`.
    """
    import pandas as pd

    names, keys, flat = run_names(tensors), [], []
    for spec, epochs in tensors.items():
        for epoch, arrays in zip(spec.evaluate_at, epochs, strict=True):
            keys.append((names[spec], epoch))
            flat.append(arrays)
    measured = {part: collapse_of_many(flat, part) for part in parts}
    rows = []
    for number, (name, epoch) in enumerate(keys):
        for part in parts:
            values = measured[part][number]
            row = {"run": name, "epoch": epoch, "part": part}
            for preset in presets:
                for metric, value in values.preset(preset).items():
                    row[f"{preset} {metric}"] = value
            row |= {norm: values[norm] for norm in ("means_norm", "W_norm")}
            rows.append(row)
    return pd.DataFrame(rows)
