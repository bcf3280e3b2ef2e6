"""What training costs, said before it starts."""

from collections.abc import Sequence
from pathlib import Path

from lsnc_core.runs.spec import RunSpec


def table(runs: Sequence[RunSpec]):
    """Operations of training and measuring, counted on one image.

    Args:
        runs: duplicates count once.

    Returns:
        pandas.DataFrame, one row per image set, kind of network and number of epochs: data, model,
        epochs, networks, image_passes (training images times epochs, all networks), pflop (1e15
        operations; a training step counts as three forward passes, measuring an image as one).
    """
    import pandas as pd

    from lsnc_core.runs import prepare

    forward, rows = {}, {}
    for spec in dict.fromkeys(runs):
        shape = spec.data, spec.pool, spec.model, spec.widths
        if shape not in forward:
            forward[shape] = prepare.forward_operations(spec)
        passes = spec.train_size * spec.epochs
        measured = (spec.train_size + spec.test_size + spec.validation_size) * len(spec.evaluate_at)
        row = rows.setdefault(
            (spec.data, spec.model, spec.epochs), {"networks": 0, "image_passes": 0, "pflop": 0.0}
        )
        row["networks"] += 1
        row["image_passes"] += passes
        row["pflop"] += (3 * passes + measured) * forward[shape] / 1e15
    return pd.DataFrame(
        [
            {"data": data, "model": model, "epochs": epochs} | row
            for (data, model, epochs), row in rows.items()
        ]
    )


def said(runs: Sequence[RunSpec]) -> str:
    """The rows of `table` in words; hours are not measured here."""
    parts = [
        f"{row.networks} networks ({row.model}) x {row.epochs} epochs on {Path(row.data).name}: "
        f"{row.image_passes:.3g} image passes, {row.pflop:,.3g} PFLOP"
        for row in table(runs).itertuples()
    ]
    return (
        "; ".join(parts)
        + ". Hours: not measured; at 100 TFLOP/s a PFLOP takes 10 s. What is in the store is not trained again."
    )
