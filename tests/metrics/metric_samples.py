"""Inputs with class means of their own, and what `measure` says of them by metric."""

import torch

N, D, K = 60, 8, 4


def samples(seed=0):
    """Inputs (N, D) and labels (N,) of K classes."""
    draw = torch.Generator().manual_seed(seed)
    y = torch.arange(N) % K
    means = torch.randn(K, D, generator=draw)
    return means[y] + torch.randn(N, D, generator=draw), y


def values(measured, layer=None):
    """The metrics of all samples by name, of one layer if there are several."""
    rows = measured.table[measured.table.part == "all"]
    rows = rows if layer is None else rows[rows.layer == layer]
    assert rows.metric.is_unique
    return dict(zip(rows.metric, rows.value, strict=True))
