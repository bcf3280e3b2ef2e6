"""What loaders give and what models take and return, in whatever containers they come.

A batch is (inputs, labels, ...) or a mapping with labels in it. Inputs are a tensor, a list or
tuple of arguments, a mapping of keyword arguments, or any object with `.to`; arrays of NumPy become
tensors. The model's output is a tensor, or holds one as `.logits`, ["logits"] or an element of a
tuple.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from lsnc_core.errors import UsageError
from lsnc_core.metrics.statistics import describe

LABELS = ("labels", "label")  # the keys of a mapping's labels, if none is given
IGNORED = -100  # the label of tokens that count for nothing, torch's and transformers' convention


class Batches:
    """A loader's batches as (inputs, labels), as often as they are iterated over.

    Args: loader; split, its name; inputs, the key or keys of a mapping's inputs, None for all but
    the labels; labels, the key of its labels; progress, whether to show a bar on a terminal.
    """

    def __init__(
        self,
        loader: Iterable[Any],
        split: str,
        inputs: str | Sequence[str] | None,
        labels: str | None,
        progress: bool,
    ) -> None:
        if not isinstance(loader, Iterable) or isinstance(loader, torch.Tensor):
            raise UsageError(
                f"the loader of {split!r} must give batches, but {describe(loader)} cannot be "
                "iterated over."
            )
        self.loader, self.split, self.progress = loader, split, progress
        self.inputs, self.labels = inputs, labels
        self.once = isinstance(loader, Iterator)  # gives its batches only once

    def __iter__(self) -> Iterator[tuple[Any, torch.Tensor]]:
        from tqdm import tqdm

        shown = tqdm(
            self.loader,
            desc=f"measuring {self.split}",
            disable=None if self.progress else True,  # None: unless written to a file
            leave=False,
            delay=1,
            unit="batch",
        )
        for batch in shown:
            inputs, labels = self._parts(batch)
            yield inputs, as_labels(labels)

    def _parts(self, batch: Any) -> tuple[Any, Any]:
        """Inputs and labels of a batch."""
        if isinstance(batch, Mapping):
            return self._parts_by_name(batch)
        if self.inputs is not None or self.labels is not None:
            raise UsageError(
                "inputs= and labels= name parts of batches that are mappings, but the loader of "
                f"{self.split!r} gives {describe(batch)}."
            )
        if not isinstance(batch, list | tuple) or len(batch) < 2:
            raise UsageError(
                f"the loader must give batches (inputs, labels), not {describe(batch)}: wrap it in "
                "one that does."
            )
        return batch[0], batch[1]

    def _parts_by_name(self, batch: Mapping[str, Any]) -> tuple[Any, Any]:
        wanted = LABELS if self.labels is None else (self.labels,)
        key = next((name for name in wanted if name in batch), None)
        known = f"its keys are {', '.join(map(repr, batch)) or 'none'}."
        if key is None:
            raise UsageError(f"a batch has no {wanted[0]!r}: name its labels with labels=; {known}")
        if isinstance(self.inputs, str):
            names: Sequence[str] = [self.inputs]
        else:
            names = [name for name in batch if name != key] if self.inputs is None else self.inputs
        missing = [name for name in names if name not in batch]
        if missing or not names:
            what = repr(missing[0]) if missing else "inputs"
            raise UsageError(f"a batch has no {what}: name its inputs with inputs=; {known}")
        if len(names) == 1 and not isinstance(self.inputs, list | tuple):
            return batch[names[0]], batch[key]
        return {name: batch[name] for name in names}, batch[key]


def as_labels(labels: Any) -> torch.Tensor:
    """Class numbers as an int64 tensor of the same shape, without a last axis of length 1.

    Raises: UsageError for what holds no whole numbers.
    """
    if not isinstance(labels, torch.Tensor):
        try:
            labels = torch.as_tensor(labels)
        except (TypeError, ValueError, RuntimeError):
            labels = _from_numpy(labels)
    if labels.is_complex() or labels.dtype == torch.bool or labels.ndim == 0:
        raise UsageError(f"labels must be class numbers, one per sample, not {describe(labels)}.")
    whole = labels.to(torch.int64)
    if labels.is_floating_point() and not torch.equal(whole.to(labels.dtype), labels):
        raise UsageError(
            "labels must be class numbers, one per sample, not fractions: for soft labels give the "
            "class that counts as right, labels.argmax(1)."
        )
    return whole[..., 0] if whole.ndim > 1 and whole.shape[-1] == 1 else whole


def _from_numpy(labels: Any) -> torch.Tensor:
    """Whole numbers in whatever NumPy can read, e.g. an array of uint16."""
    import numpy as np

    array = np.asarray(labels)
    if array.dtype.kind not in "iu":
        kind = "None" if labels is None else f"{type(labels).__name__} of {array.dtype.name}"
        raise UsageError(
            f"labels must be class numbers, one per sample, not {kind}: turn them into 0, 1, ... "
            "first."
        )
    return torch.from_numpy(array.astype(np.int64))


def move(inputs: Any, device: torch.device) -> Any:
    """The inputs on the device; tuples become lists, mappings dicts."""
    if isinstance(inputs, torch.Tensor):
        return inputs.to(device, non_blocking=True)
    if isinstance(inputs, Mapping):
        return {name: move(part, device) for name, part in inputs.items()}
    if isinstance(inputs, list | tuple):
        return [move(part, device) for part in inputs]
    if hasattr(inputs, "to"):
        return inputs.to(device)
    if hasattr(inputs, "__array__"):
        return torch.as_tensor(inputs).to(device)
    return inputs


def call(model: nn.Module, inputs: Any, device: torch.device) -> Any:
    """The model's output for the inputs of a batch."""
    inputs = move(inputs, device)
    if isinstance(inputs, Mapping):
        return model(**inputs)
    if isinstance(inputs, list):
        return model(*inputs)
    return model(inputs)


def output_tensors(output: Any) -> list[torch.Tensor | None]:
    """The tensors that a model may return as its logits: one, or as many as there are elements in
    a tuple; None for what is no tensor.
    """
    if isinstance(output, torch.Tensor):
        return [output]
    logits = getattr(output, "logits", None)
    if isinstance(output, Mapping):
        logits = output.get("logits")
    elif logits is None and isinstance(output, list | tuple) and output:
        return [output_tensors(element)[0] for element in output]
    return [logits if isinstance(logits, torch.Tensor) else None]
