"""What training costs: operations, memory, and a sentence to print before it starts."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lsnc_core.data_sources import source_of
from lsnc_core.runs.spec import RunSpec

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from lsnc_core import models


def architecture(spec: RunSpec) -> RunSpec:
    """A spec with all settings neutral that leave operations and memory of a step as they are."""
    return dataclasses.replace(
        spec.shared,
        train_size=2 * spec.batch,
        test_size=1,
        validation_size=0,
        epochs=1,
        evaluate_at=(1,),
        keep_at=(),
        order_seed=0,
        schedule="constant",
        lr_steps=(),
        lr_factor=0.1,
        pixel_mean=(),
        pixel_std=(),
        init="torch",
        best_checkpoint=False,
    )


def forward_operations(spec: RunSpec) -> int:
    """Multiplications and additions, counted apart, of one image's forward pass.

    Only convolutions and linear layers count.

    Raises: UsageError, for an unknown image set.
    """
    return _forward_operations(architecture(spec))


@functools.cache
def _forward_operations(spec: RunSpec) -> int:
    import torch

    network, shape = _network_and_shape(spec)
    counts: list[int] = []
    for layer in network.eval().modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            layer.register_forward_hook(
                lambda layer, _, out: counts.append(2 * out.numel() * layer.weight[0].numel())
            )
    with torch.no_grad():
        network(torch.zeros(1, *shape))
    return sum(counts)


def epoch_operations(spec: RunSpec) -> int:
    """Operations of one network in one epoch of training, measuring left out.

    A training step counts as three forward passes.
    """
    return 3 * spec.train_size * forward_operations(spec)


def kept_bytes(spec: RunSpec) -> int:
    """Bytes that one network keeps from a forward pass for the backward pass, weights left out.

    Raises: UsageError, for an unknown image set.
    """
    return _kept_bytes(architecture(spec))


@functools.cache
def _kept_bytes(spec: RunSpec) -> int:
    import torch

    network, shape = _network_and_shape(spec)
    network = network.to("meta")
    weights = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: "torch.Tensor") -> "torch.Tensor":
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(torch.zeros(spec.batch, *shape, device="meta"))
    total = sum(
        tensor.untyped_storage().nbytes()
        for storage, tensor in kept.items()
        if storage not in weights
    )
    return total // 2 if spec.precision == "bfloat16" else total


class Sizes(NamedTuple):
    """Of a spec's network: parameters; D, its feature width; K, its classes; pixels of an image."""

    parameters: int
    width: int
    classes: int
    pixels: int


def sizes(spec: RunSpec) -> Sizes:
    """The sizes of a spec's network. Raises: UsageError, for an unknown image set."""
    return _sizes(architecture(spec))


@functools.cache
def _sizes(spec: RunSpec) -> Sizes:
    network, shape = _network_and_shape(spec)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    classifier = network.classifier
    return Sizes(parameters, classifier.in_features, classifier.out_features, math.prod(shape))


def image_passes(spec: RunSpec) -> float:
    """Images that one network is trained on, passes counted, one that is measured as a third.

    A training step counts as three forward passes, measuring as one. Test images where an epoch is
    the best so far are not counted.
    """
    measured = (spec.train_size + spec.test_size + spec.validation_size) * len(spec.evaluate_at)
    if spec.best_checkpoint:
        measured += spec.validation_size * spec.epochs
    return spec.train_size * spec.epochs + measured / 3


def _network_and_shape(spec: RunSpec) -> tuple["models.Network", tuple[int, int, int]]:
    """A spec's network and the shape (C, H, W) of its images after pooling."""
    from lsnc_core.runs import prepare

    source = source_of(spec.data)
    channels, height, width = source.shape
    shape = channels, height // spec.pool, width // spec.pool
    return prepare.build(spec, shape, source.num_classes), shape


def cost_table(specs: Sequence[RunSpec]) -> "pd.DataFrame":
    """Operations of training and measuring, counted on one image.

    Args:
        specs: duplicates count once.

    Returns:
        pandas.DataFrame, one row per image set, model and number of epochs: data, model, epochs,
        networks, image_passes (training images times epochs, all networks), pflop (1e15 operations;
        a training step counts as three forward passes, measuring an image as one).
    """
    import pandas as pd

    rows: dict[tuple, dict] = {}
    for spec in dict.fromkeys(specs):
        group = {"data": spec.data, "model": spec.model, "epochs": spec.epochs}
        row = rows.setdefault(
            tuple(group.values()), group | {"networks": 0, "image_passes": 0, "pflop": 0.0}
        )
        row["networks"] += 1
        row["image_passes"] += spec.train_size * spec.epochs
        row["pflop"] += 3 * image_passes(spec) * forward_operations(spec) / 1e15
    return pd.DataFrame(list(rows.values()))


def describe_cost(specs: Sequence[RunSpec]) -> str:
    """The rows of `cost_table` in words."""
    parts = [
        f"{row.networks} networks ({row.model}), {row.epochs} epochs on {Path(row.data).name}: "
        f"{row.image_passes:,} image passes, {_operations(row.pflop)}"
        for row in cost_table(specs).itertuples()
    ]
    return (
        f"To train: {'; '.join(parts)}. What is in the store is not trained again; "
        "./run_all.sh --plan estimates the hours on this machine."
    )


def _operations(pflop: float) -> str:
    """Operations in a unit that leaves few digits."""
    return f"{pflop:,.3g} PFLOP" if pflop >= 1 else f"{1000 * pflop:,.3g} TFLOP"
