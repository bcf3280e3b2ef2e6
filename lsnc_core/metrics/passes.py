"""Passes of a model over a loader's data: features, logits and labels, batch by batch.

The model runs in eval mode, under the caller's autocast and default device if there are any, and is
left as it was: modes, weights, and the state of torch's random number generators.
"""

import contextlib
import difflib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from lsnc_core.errors import UsageError
from lsnc_core.metrics.batches import IGNORED, Batches, call, output_tensors
from lsnc_core.metrics.heads import (
    DIVERGED,
    Call,
    Head,
    class_axis,
    find_head,
    has_diverged,
    is_linear,
    last_outputs,
    recorded_calls,
    rows,
)
from lsnc_core.metrics.statistics import describe


def unwrap(model: Any) -> nn.Module:
    """The model without DataParallel, DistributedDataParallel and torch.compile around it.

    Raises: UsageError for what is no module, has no parameters, or has none that hold values or
    that hooks can read.
    """
    if not isinstance(model, nn.Module):
        raise UsageError(f"the model must be a torch nn.Module, not {type(model).__name__}.")
    while True:
        inside = getattr(model, "_orig_mod", None)
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inside = model.module
        if inside is None:
            break
        model = inside
    parameter = next(model.parameters(), None)
    if parameter is None:
        raise UsageError("the model has no parameters: there is no classifier to measure.")
    if parameter.device.type == "meta":
        raise UsageError("the model's parameters lie on the device meta: load their values first.")
    if isinstance(model, torch.jit.ScriptModule):
        raise UsageError(
            "the layers of a scripted model cannot be read: measure the module it was made from."
        )
    return model


@contextlib.contextmanager
def as_it_was(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Run in eval mode without gradients, then restore modules' modes and torch's random states.

    Compiled parts run uncompiled: they would not call the hooks that read features.
    """
    modes = {module: module.training for module in model.modules()}
    devices = [device] if device.type == "cuda" else []
    uncompiled: Any = contextlib.nullcontext()
    # From torch 2.6 on; it imports torch's compiler, which takes seconds. As long as that is not
    # imported, nothing is compiled.
    if "torch._dynamo" in sys.modules and hasattr(torch.compiler, "set_stance"):
        uncompiled = torch.compiler.set_stance("force_eager")
    with torch.random.fork_rng(devices), torch.no_grad(), uncompiled:
        try:
            _set_eval(model)
            yield
        finally:
            for module, training in modes.items():
                module.training = training


def _set_eval(model: nn.Module) -> None:
    try:
        model.eval()
    except NotImplementedError as error:
        raise UsageError(
            "an exported model has no eval mode: measure the module it was made from."
        ) from error


@dataclass(frozen=True)
class Reading:
    """What to read of a model; the fields are the arguments of `measure` of the same name."""

    layer: str | None = None
    layers: Sequence[str] = ()
    inputs: str | Sequence[str] | None = None
    labels: str | None = None
    tokens: bool = False
    progress: bool = True


@dataclass(frozen=True, eq=False)
class Batch:
    """features: of the classifier, floating point (rows, D), None without one; hidden: of each
    hidden layer (rows, its width); logits: (rows, K), None if the model gives none; labels (rows,).
    """

    features: torch.Tensor | None
    hidden: dict[str, torch.Tensor]
    logits: torch.Tensor | None
    labels: torch.Tensor

    def tensors(self) -> Iterator[torch.Tensor]:
        """All tensors."""
        yield from (x for x in (self.features, self.logits, self.labels) if x is not None)
        yield from self.hidden.values()

    def to(self, device: torch.device | str) -> "Batch":
        """The batch on a device."""
        features, logits = (
            None if x is None else x.to(device) for x in (self.features, self.logits)
        )
        hidden = {name: x.to(device) for name, x in self.hidden.items()}
        return Batch(features, hidden, logits, self.labels.to(device))


@dataclass(eq=False)
class Passes:
    """Batches of a split, iterated over as often as needed.

    While all features fit into `room` bytes they stay in main memory and the model runs once;
    beyond that it runs on every pass. What can be read only once is kept whatever its size. After
    the first batch, `head` is the classifier, or None with the reason in `no_head`, which is an
    error where `headless` is false and no hidden layers are read.
    """

    model: nn.Module
    loader: Iterable[Any]
    split: str
    reading: Reading
    room: float
    headless: bool = False
    head: Head | None = None
    no_head: str = ""
    kept: list[Batch] | None = field(default_factory=list)
    complete: bool = False

    def __post_init__(self) -> None:
        reading = self.reading
        self.batches = Batches(
            self.loader, self.split, reading.inputs, reading.labels, reading.progress
        )
        self.device = next(self.model.parameters()).device
        named = dict(self.model.named_modules())
        for name in reading.layers if reading.layer is None else (reading.layer, *reading.layers):
            if not isinstance(name, str) or name not in named:
                raise UsageError(self._unknown(name, named))
        self.hidden = {name: named[name] for name in reading.layers}
        self.started = False
        self.element = 0  # of the model's output, if that is a tuple: the logits

    @staticmethod
    def _unknown(name: str, named: Mapping[str, nn.Module]) -> str:
        linear = [other for other, module in named.items() if is_linear(module)]
        close = difflib.get_close_matches(str(name), named, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        return (
            f"the model has no layer {name!r}: {hint}its linear layers are "
            f"{', '.join(map(repr, linear)) or 'none'}."
        )

    def __iter__(self) -> Iterator[Batch]:
        if self.complete and self.kept is not None:
            for batch in self.kept:
                yield batch.to(self.device)
            return
        for inputs, labels in self.batches:
            read = self._read if self.started else self._read_first
            batch = read(inputs, labels.to(self.device))
            self.started = True
            self._keep(batch)
            yield batch
        self.complete = True
        if not self.started:
            raise UsageError(f"the loader of {self.split!r} is empty: there is nothing to measure.")

    def count_classes(self) -> int:
        """K, of the classifier, or else the highest label and one.

        Raises: UsageError without a classifier for what can be read only once.
        """
        if self.head is not None:
            return len(self.head.W)
        if self.batches.once:
            raise UsageError(
                f"the loader of {self.split!r} can be read only once, but without a classifier the "
                "classes must be counted first: give a list of its batches."
            )
        return 1 + max(int(labels.max()) for _, labels in self.batches)

    def _keep(self, batch: Batch) -> None:
        if self.kept is None or self.complete:
            return
        batch = batch.to("cpu")
        self.kept.append(batch)
        self.room -= sum(tensor.nbytes for tensor in batch.tensors())
        if self.room < 0 and not self.batches.once:
            self.kept = None

    def _read(self, inputs: Any, labels: torch.Tensor) -> Batch:
        """Run the model on a batch and read features and logits."""
        head = {} if self.head is None else {self.head.name: self.head.module}
        with last_outputs(self.hidden) as hidden, recorded_calls(head) as own:
            output = call(self.model, inputs, self.device)
        return self._batch(own, hidden, self._logits(output, labels), labels)

    def _read_first(self, inputs: Any, labels: torch.Tensor) -> Batch:
        """Find the classifier with the first batch, and read it."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):  # a model that draws numbers shall draw them again
            output = call(self.model, inputs, self.device)
        layer, made = self.reading.layer, [x for x in output_tensors(output) if x is not None]
        sizes = {x.numel() for x in made}
        per_sample = {(len(labels), x.shape[1] if x.ndim > 1 else 1) for x in made}

        def may_be_logits(found: torch.Tensor) -> bool:
            averaged = found.ndim > 2 and tuple(found.shape[:2]) in per_sample
            return layer is not None or found.numel() in sizes or averaged

        modules = dict(self.model.named_modules())
        candidates = modules if layer is None else {layer: modules[layer]}
        with (
            last_outputs(self.hidden) as hidden,
            recorded_calls(candidates, may_be_logits) as calls,
        ):
            output = call(self.model, inputs, self.device)
        self.element = _element_of_logits(output_tensors(output), calls, layer)
        logits = self._logits(output, labels)
        self.head = find_head(calls, logits, labels.numel(), layer)
        if self.head is None:
            named = {made.name for made in calls} if logits is not None else set(modules)
            linear = [name for name in modules if name in named and is_linear(modules[name])]
            self.no_head = self._no_head(output, logits, linear)
            if not (self.hidden or (self.headless and logits is not None)):
                raise UsageError(self.no_head)
        elif self.head.name in self.hidden:
            raise UsageError(
                f"{self.head.name!r} is the classifier, whose input is measured: name hidden "
                "layers in layers=[...]."
            )
        own = [] if self.head is None else [made for made in calls if made.name == self.head.name]
        return self._batch(own, hidden, logits, labels)

    @staticmethod
    def _no_head(output: Any, logits: torch.Tensor | None, called: Sequence[str]) -> str:
        """Why no classifier was found, and what to do; called, the linear layers that may be it."""
        known = ", ".join(map(repr, called)) or "none"
        if logits is None:
            return (
                f"the model returns {describe(output)}, not logits: name its classifier with "
                f"layer=; its linear layers are {known}."
            )
        if has_diverged(logits):
            return f"the model gives {DIVERGED}"
        return (
            "the model's output is not W h + b of one layer (a sum of two heads, cosines, an "
            f"adapter?): name the layer to measure with layer=; those with {logits.shape[1]} "
            f"outputs are {known}."
        )

    def _logits(self, output: Any, labels: torch.Tensor) -> torch.Tensor | None:
        """The model's output as a matrix with one row per label, None if it is none.

        Raises: UsageError where output and labels do not fit together.
        """
        found = output_tensors(output)[self.element]
        if found is None or not found.is_floating_point():
            return None
        flat = rows(found) if found.ndim <= 2 or found[0].numel() == found.shape[1] else found
        if flat.ndim == 2 and labels.ndim == 1:
            if len(flat) != len(labels):
                raise UsageError(
                    f"the model's output has the shape {tuple(found.shape)}, but the batch has "
                    f"{len(labels)} labels: give one label per sample."
                )
            return flat
        axis = class_axis(found.shape, labels.shape)
        if axis is None:
            raise UsageError(
                f"the model's output has the shape {tuple(found.shape)} and the labels "
                f"{tuple(labels.shape)}: they must be (B, K) and (B,), or, with tokens=True, agree "
                "in all axes but that of the classes."
            )
        if not self.reading.tokens:
            raise UsageError(
                f"the labels have the shape {tuple(labels.shape)}, one per token or pixel: with "
                "tokens=True each of them counts as a sample."
            )
        return rows(found, axis)

    def _batch(
        self,
        own: Sequence[Call],
        hidden: Mapping[str, torch.Tensor],
        logits: torch.Tensor | None,
        labels: torch.Tensor,
    ) -> Batch:
        """What is read of a batch, from the calls of its classifier and of its hidden layers."""
        counted = labels.reshape(-1) != IGNORED if self.reading.tokens else slice(None)
        pooled = {}
        for name in self.hidden:
            pooled[name] = _pooled(name, hidden.get(name), labels)[counted]
        features = None
        if self.head is not None:
            features, logits = self.head.read(own, logits, labels.numel())
            if len(features) != labels.numel():
                raise UsageError(
                    f"the classifier was given {len(features)} rows for {labels.numel()} labels: "
                    "name another layer with layer=."
                )
            features = features[counted]
        logits = None if logits is None else logits[counted]
        return Batch(features, pooled, logits, labels.reshape(-1)[counted])


def _element_of_logits(
    elements: Sequence[torch.Tensor | None], calls: Sequence[Call], layer: str | None
) -> int:
    """Which element of a model's output its logits are: the first, unless another is what the named
    layer gives or, where none is named, what a linear layer makes of the first, the features.
    """

    def same(found: torch.Tensor, element: torch.Tensor | None) -> bool:
        if element is None or (found.dtype, found.device) != (element.dtype, element.device):
            return False
        return torch.equal(found, element)

    for number, element in enumerate(elements):
        for made in calls:
            of_features = is_linear(made.module) and same(made.given, elements[0])
            if (layer is not None or of_features) and same(made.output, element):
                return number
    return 0


def _pooled(name: str, output: torch.Tensor | None, labels: torch.Tensor) -> torch.Tensor:
    """The output of a hidden layer with a row per label, averaged over positions.

    Convolutions have their positions behind the second axis, (B, D, H, W), sequences on it,
    (B, T, D). Raises: UsageError if the layer was not called or its output does not fit.
    """
    if output is None:
        raise UsageError(f"the layer {name!r} was not called, or gives no tensor: name another.")
    if output.ndim < 2 or len(output) != len(labels):
        raise UsageError(
            f"the layer {name!r} gives {describe(output)} for {len(labels)} samples: hidden layers "
            "need one row per sample."
        )
    if labels.ndim > 1:  # tokens
        axis = class_axis(output.shape, labels.shape)
        if axis is None:
            raise UsageError(
                f"the layer {name!r} gives {describe(output)}, not one row for each of the labels "
                f"{tuple(labels.shape)}: name another."
            )
        return rows(output, axis)
    if output.ndim > 3:
        return output.flatten(2).mean(2)
    return output.mean(1) if output.ndim == 3 else output
