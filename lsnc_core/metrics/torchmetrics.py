"""Collapse metrics as a torchmetrics `Metric`, for collections, Lightning and several devices.

Only this module needs torchmetrics: `from lsnc_core.metrics.torchmetrics import CollapseMetric`.
"""

import functools
import importlib.util
from typing import Any

import torch
from torch import nn

from lsnc_core.errors import UsageError
from lsnc_core.metrics.accumulator import STATES, NeuralCollapse
from lsnc_core.metrics.collapse import PRESETS
from lsnc_core.metrics.statistics import describe

if importlib.util.find_spec("torchmetrics") is None:
    raise UsageError("CollapseMetric needs torchmetrics: pip install torchmetrics.")

import torchmetrics


def _packed(states: dict[str, torch.Tensor]) -> torch.Tensor:
    """The states of an accumulator as one vector float64; counts are exact up to 2^53."""
    return torch.cat([states[name].double().reshape(-1) for name in STATES])


def _loaded(packed: torch.Tensor, K: int, D: int) -> NeuralCollapse:
    """An accumulator with the states of a vector, on its device."""
    accumulator = NeuralCollapse(K, D).to(packed.device)
    empty = accumulator.state_dict()
    parts = packed.split([empty[name].numel() for name in STATES])
    states = zip(STATES, parts, strict=True)
    accumulator.load_state_dict(
        {name: part.reshape(empty[name].shape).to(empty[name].dtype) for name, part in states}
    )
    return accumulator


def _merged(packed: torch.Tensor, K: int, D: int) -> torch.Tensor:
    """The vector of all samples, from vectors (processes, length) of some of them each."""
    first, *others = (_loaded(one, K, D) for one in packed)
    first.merge_state(others)
    return _packed(first.state_dict())


class _Shared:
    """Something that copies of its owner share: a copy of a classifier would not be trained."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __deepcopy__(self, memo: dict) -> "_Shared":
        return self


class CollapseMetric(torchmetrics.Metric):
    """Every collapse metric that one pass allows, as a metric of torchmetrics.

    `update(features, labels)` takes a batch, `compute()` returns a dict of tensors by name. Counts,
    class means and scatter about them are one state. Two of them are not merged by adding, for
    scatters lie about different means, and sums about a fixed centre would lose the digits of
    collapsed features far from it. So the state's `dist_reduce_fx` is the pairwise update of
    `NeuralCollapse.merge_state`: across processes, in `forward` and in `merge_state`.

    `forward` also computes the metrics of its batch, which must have two classes at least; `update`
    takes any batch and is faster.

    Args:
        num_classes: K, at least 2.
        num_features: D, the classifier's input width.
        classifier: the linear layer, whose weights are read at every `compute`, or None for the
            metrics of the features alone. Copies of the metric share it.
        preset: of `PRESETS`, to compute a paper's metrics under its names; None for all.
        **settings: of `torchmetrics.Metric`, e.g. sync_on_compute.

    Raises: UsageError as `NeuralCollapse`, for a preset that does not exist, and for a classifier
        that is no layer.

    >>> metric = CollapseMetric(2, 2)
    >>> metric.update(torch.tensor([[2.0, 0.0], [-2.0, 1.0]]), torch.tensor([0, 1]))
    >>> metric.update(torch.tensor([[4.0, 0.0], [-4.0, -1.0]]), torch.tensor([0, 1]))
    >>> round(float(metric.compute()["nc1_trace"]), 4)
    0.1111
    """

    full_state_update = False  # `forward` merges the batch's state into the one before
    is_differentiable = False
    higher_is_better = None

    def __init__(
        self,
        num_classes: int,
        num_features: int,
        classifier: nn.Linear | None = None,
        preset: str | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        if preset is not None and preset not in PRESETS:
            raise UsageError(f"there is no preset {preset!r}: choose from {', '.join(PRESETS)}.")
        if classifier is not None and not isinstance(classifier, nn.Module):
            raise UsageError(f"classifier must be the linear layer, not {describe(classifier)}.")
        self._accumulator = NeuralCollapse(num_classes, num_features)
        self._classifier, self._preset = _Shared(classifier), preset
        reduce = functools.partial(_merged, K=num_classes, D=num_features)
        self.add_state("samples", _packed(self._accumulator.state_dict()), dist_reduce_fx=reduce)

    @property
    def samples(self) -> torch.Tensor:
        """The state of all samples so far, a vector float64.

        It is made when asked for, so that batches are collected as in `NeuralCollapse`.
        """
        return _packed(self._accumulator.state_dict())

    @samples.setter
    def samples(self, packed: torch.Tensor) -> None:
        self._accumulator = _loaded(packed, self._accumulator.K, self._accumulator.D)

    def update(self, features: torch.Tensor, labels: torch.Tensor) -> None:
        """Add a batch: features, floating point (B, D); labels, integers (B,) in 0..K-1."""
        self._accumulator.update(features, labels)

    def compute(self) -> dict[str, torch.Tensor]:
        """The metrics by name, each float64 () on the state's device.

        Raises: UsageError as `NeuralCollapse.compute`.
        """
        layer = self._classifier.value
        given = () if layer is None else (layer.weight, layer.bias)
        values = self._accumulator.compute(*given)
        named = values if self._preset is None else values.preset(self._preset)
        device = self._accumulator.counts.device
        return {
            name: torch.tensor(value, dtype=torch.float64, device=device)
            for name, value in named.items()
        }
