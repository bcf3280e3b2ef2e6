"""From the arrays that the store keeps of a run to the collapse metrics of every convention."""

import numpy as np
import torch

from lsnc_core.metrics.collapse import Values, collapse_values
from lsnc_core.metrics.statistics import Statistics, span_of_means


def statistics(tensors: dict[str, np.ndarray], part: str = "train") -> Statistics:
    """The sufficient statistics of one measured epoch, by clean label.

    Args:
        tensors: one epoch's arrays, from `lsnc_core.runs.tensors`.
        part: "train", "validation" or "test".

    Returns:
        Statistics; what is kept of Sigma_W, Hbar Sigma_W Hbar^T with Hbar (K, D) the centred class
        means, is brought to the basis of
        their span: Hbar = U S B^T, so B^T Sigma_W B = S^-1 U^T (Hbar Sigma_W Hbar^T) U S^-1.
    """
    counts, means, within = (
        torch.from_numpy(np.array(tensors[f"{part}_{name}"]))
        for name in ("counts", "means", "within")
    )
    means, present = means.double(), counts > 0
    basis = span_of_means(means[present])  # (D, r)
    U, S, Vh = torch.linalg.svd(
        (means[present] - means[present].mean(0)) @ basis, full_matrices=False
    )
    back = Vh.T / S @ U.T  # (r, classes present): B^T Hbar^+
    projected = torch.from_numpy(np.array(tensors[f"{part}_projected"]))[present][:, present]
    return Statistics(counts, means, basis, back @ projected @ back.T, within.double())


def values(tensors: dict[str, np.ndarray], part: str = "train") -> Values:
    """Every collapse metric of one measured epoch that needs no second read of the features; args
    as for `statistics`.
    """
    weight, bias = (torch.from_numpy(np.array(tensors[name])) for name in ("weight", "bias"))
    return collapse_values(statistics(tensors, part), weight, bias)


def table(
    found: dict, presets: tuple[str, ...] = ("guo",), parts: tuple[str, ...] = ("train", "test")
):
    """Collapse metrics of many runs, as a tidy table.

    Args:
        found: from `lsnc_core.runs.tensors`.
        presets: which of `lsnc_core.metrics.PRESETS`.
        parts: which images.

    Returns:
        pandas.DataFrame: one row per (run, epoch, part), the spec's settings, then a column for
            each metric, named
        "preset NC1" and so on, and norms as `means_norm` and `W_norm`.
    """
    import pandas as pd

    rows = []
    for spec, epochs in found.items():
        for epoch, tensors in zip(spec.evaluate_at, epochs, strict=True):
            for part in parts:
                measured = values(tensors, part)
                named = {
                    f"{preset} {name}": value
                    for preset in presets
                    for name, value in measured.preset(preset).items()
                }
                norms = {name: measured[name] for name in ("means_norm", "W_norm")}
                rows.append(spec.to_dict() | {"epoch": epoch, "part": part} | named | norms)
    return pd.DataFrame(rows)
