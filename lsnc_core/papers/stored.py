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

    from lsnc_core.metrics.collapse import Values
    from lsnc_core.metrics.statistics import Statistics

KEYS = ["run", "epoch"]
Tensors = Mapping[str, np.ndarray]


def run_names(specs: Iterable[RunSpec]) -> dict[RunSpec, str]:
    """Names in the store, the column `run`; together, so that images are read only once."""
    from lsnc_core.runs import Store

    store = Store()
    return {spec: store.path(spec).stem for spec in specs}


def restore_statistics(tensors: Tensors, part: str = "train") -> "Statistics":
    """The sufficient statistics of one measured epoch, by clean label.

    The store keeps Hbar Sigma_W Hbar^T, with Hbar (K, D) the centred class means. In the basis B of
    their span, Hbar = U S B^T, so B^T Sigma_W B = S^-1 U^T (Hbar Sigma_W Hbar^T) U S^-1.

    Args:
        tensors: one epoch's arrays, from `lsnc_core.runs.tensors`.
        part: "train", "validation" or "test".
    """
    import torch

    from lsnc_core.metrics.statistics import Statistics, span_of_means

    def read(name: str) -> torch.Tensor:
        return torch.from_numpy(np.array(tensors[f"{part}_{name}"]))

    counts, means, present = read("counts"), read("means").double(), read("counts") > 0
    basis = span_of_means(means[present])  # (D, r)
    centred = means[present] - means[present].mean(0)
    U, S, Vh = torch.linalg.svd(centred @ basis, full_matrices=False)
    back = Vh.T / S @ U.T  # (r, classes present): B^T Hbar^+
    projected = read("projected")[present][:, present]
    return Statistics(counts, means, basis, back @ projected @ back.T, read("within").double())


def collapse_at(tensors: Tensors, part: str = "train") -> "Values":
    """All collapse metrics of one measured epoch that need no second pass over the features.

    Args: as `restore_statistics`.
    """
    import torch

    from lsnc_core.metrics.collapse import collapse_values

    weight, bias = (torch.from_numpy(np.array(tensors[name])) for name in ("weight", "bias"))
    return collapse_values(restore_statistics(tensors, part), weight, bias)


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

    rows, names = [], run_names(tensors)
    for spec, epochs in tensors.items():
        name = names[spec]
        for epoch, arrays in zip(spec.evaluate_at, epochs, strict=True):
            for part in parts:
                measured = collapse_at(arrays, part)
                row = {"run": name, "epoch": epoch, "part": part}
                for preset in presets:
                    for metric, value in measured.preset(preset).items():
                        row[f"{preset} {metric}"] = value
                row |= {norm: measured[norm] for norm in ("means_norm", "W_norm")}
                rows.append(row)
    return pd.DataFrame(rows)
