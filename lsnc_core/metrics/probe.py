"""Collapse and calibration of a model as it is.

The model is any `nn.Module` whose output comes from a linear layer, the data any loader of inputs
and labels. The input of that layer are the features, the model's output the logits.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lsnc_core.errors import UsageError
from lsnc_core.metrics.calibration import calibration_scores
from lsnc_core.metrics.collapse import collapse_values
from lsnc_core.metrics.intervals import MetricInterval, Samples, metric_intervals
from lsnc_core.metrics.measurement import COLUMNS, Measurement, tidy_rows
from lsnc_core.metrics.passes import Batch, Passes, Reading, as_it_was, unwrap
from lsnc_core.metrics.statistics import Statistics, check_samples, describe
from lsnc_core.metrics.two_passes import FirstPass, SecondPass

if TYPE_CHECKING:
    import pandas as pd

GIB = 2**30
FEW = 10  # a class has few samples if there are more than so many features for each of them


class _Split:
    """Measures one split: `rows` for the table, `remarks`, and the `statistics` of each layer.

    The class means of `centroids`, by layer, decide which class mean is nearest.
    """

    def __init__(
        self,
        passes: Passes,
        centroids: Mapping[str, Statistics],
        by_class: bool,
        intervals: bool,
    ) -> None:
        self.passes, self.centroids = passes, centroids
        self.by_class, self.intervals = by_class, intervals
        self.samples: Samples | None = None
        self.rows: list[dict[str, Any]] = []
        self.remarks: list[str] = []
        self.statistics: dict[str, Statistics] = {}
        self.firsts: dict[str, FirstPass] = {}
        self.by_prediction: FirstPass | None = None
        logits, labels = [], []
        for batch in passes:
            self._add_first(batch)
            labels.append(batch.labels.cpu())
            if batch.logits is not None:
                logits.append(batch.logits.float().cpu())
        self.labels, self.logits = torch.cat(labels), torch.cat(logits) if logits else None
        self._measure()

    def _features(self, batch: Batch) -> dict[str, torch.Tensor]:
        """The features of a batch by layer."""
        head = self.passes.head
        own = {} if head is None or batch.features is None else {head.name: batch.features}
        return own | batch.hidden

    def _add_first(self, batch: Batch) -> None:
        features = self._features(batch)
        if not self.firsts:
            K = self.passes.count_classes()
            self.firsts = {layer: FirstPass(K) for layer in features}
            if self.passes.head is not None:
                self.by_prediction = FirstPass(K)
        for layer, first in self.firsts.items():
            first.add(features[layer], batch.labels)
        if self.passes.head is not None and self.by_prediction is not None:
            assert batch.logits is not None  # the head's, if not the model's
            self.by_prediction.add(features[self.passes.head.name], batch.logits.argmax(1))

    def _measure(self) -> None:
        """The second pass, then all rows."""
        head, seconds = self.passes.head, {}
        for layer, first in self.firsts.items():
            W, b = (head.W, head.b) if head is not None and layer == head.name else (None, None)
            seconds[layer] = SecondPass(first, W, b, self.centroids.get(layer), decide=True)
        # An untrained model may predict a single class, which has no NC1.
        grouped = None
        if self.by_prediction is not None and self.by_prediction.classes_present > 1:
            grouped = SecondPass(self.by_prediction)
        for batch in self.passes:
            features = self._features(batch)
            for layer, second in seconds.items():
                second.add(features[layer], batch.labels)
            if grouped is not None and head is not None and batch.logits is not None:
                predictions = batch.logits.argmax(1)
                right = predictions == batch.labels
                grouped.add(features[head.name], predictions, mark=right)
        for layer, second in seconds.items():
            self._add_layer(layer, second)
        if grouped is not None and head is not None:
            for part, value in grouped.nc1_by_mark().items():
                self._add(head.name, {"nc1_trace_by_prediction": value}, part)

    def _add_layer(self, layer: str, second: SecondPass) -> None:
        """The rows of one layer."""
        statistics, head = second.statistics(), self.passes.head
        self.statistics[layer] = statistics
        is_head = head is not None and layer == head.name
        W, b = (head.W, head.b) if head is not None and is_head else (None, None)
        values: dict[str, float] = collapse_values(statistics, W, b) | second.decisions()
        if is_head:
            values |= self._scores()
        intervals = None
        if self.intervals:
            samples = self._kept_samples(layer, W, b)
            intervals = metric_intervals(samples, names=list(values))
            if is_head:
                self.samples = samples
        self.rows += tidy_rows(self.passes.split, layer, values, "all", intervals)
        if self.by_class:
            for k, value in enumerate(second.nc1_by_class().tolist()):
                self._add(layer, {"nc1_trace": value}, f"class {k}")
        counts, D = statistics.counts, statistics.means.shape[1]
        least = int(counts[counts > 0].min())
        if FEW * least < D:
            self.remarks.append(
                f"{self.passes.split}: a class has {least} samples for {D} features at {layer!r}; "
                "so few make NC1 too small."
            )

    def _kept_samples(self, layer: str, W: torch.Tensor | None, b: torch.Tensor | None) -> Samples:
        """All samples at a layer. Raises: UsageError if they did not fit into memory."""
        kept = self.passes.kept
        if kept is None:
            raise UsageError(
                f"intervals need the features of {self.passes.split!r} in memory: raise keep_gib=."
            )
        features = torch.cat([self._features(batch)[layer] for batch in kept])
        # without a classifier, logits decide nothing that has an interval
        logits = features.new_zeros(len(features), 2) if self.logits is None else self.logits
        return Samples(features, logits, self.labels, W, b, self.centroids.get(layer))

    def _scores(self) -> dict[str, float]:
        """Accuracy and calibration of the model's own logits, not of the projected features."""
        assert self.logits is not None
        right = self.logits.argmax(1) == self.labels
        return {"accuracy": float(right.double().mean())} | calibration_scores(
            self.logits, self.labels
        )

    def _add(self, layer: str, values: Mapping[str, float], part: str) -> None:
        """Rows of a part of the samples."""
        intervals: Mapping[str, MetricInterval] | None = {} if self.intervals else None
        self.rows += tidy_rows(self.passes.split, layer, values, part, intervals)


def _by_split(loader: Any) -> Mapping[str, Iterable[Any]]:
    """Loaders by split. Raises: UsageError for an empty mapping."""
    loaders = loader if isinstance(loader, Mapping) else {"data": loader}
    if not loaders:
        raise UsageError("there are no loaders: give one, or a mapping of loaders by split.")
    return loaders


def _check_options(layers: Any, keep_gib: Any) -> None:
    if isinstance(layers, str) or not isinstance(layers, Sequence):
        hint = f": write layers=[{layers!r}]" if isinstance(layers, str) else ""
        raise UsageError(f"layers= takes a list of names, not {describe(layers)}{hint}.")
    if not isinstance(keep_gib, int | float):
        raise UsageError(f"keep_gib= must be a number, not {describe(keep_gib)}.")


def measure(
    model: nn.Module,
    loader: Iterable[Any] | Mapping[str, Iterable[Any]],
    *,
    layer: str | None = None,
    layers: Sequence[str] = (),
    inputs: str | Sequence[str] | None = None,
    labels: str | None = None,
    tokens: bool = False,
    by_class: bool = False,
    intervals: bool = False,
    keep_gib: float = 2.0,
    progress: bool = True,
) -> Measurement:
    """Every collapse and calibration metric of a model on a loader's data.

    Args:
        model: any nn.Module whose output is W h + b of one layer, or the softmax or a positive
            multiple of that: a tensor, an object with `.logits`, or an element of a tuple, the
            first unless that holds the features. DataParallel,
            DistributedDataParallel and torch.compile around it or its parts do not matter. It runs
            where its parameters are. A single logit z stands for two classes, (-z/2, z/2).
        loader: gives batches (inputs, labels), labels integers (B,), or mappings; or a mapping of
            such loaders by name, e.g. {"train": ..., "test": ...}. The nearest-class-mean rule then
            uses the class means of the first one for all. Samples may come in any order. Where
            features do not fit into memory they are computed twice, so the loader must not augment
            at random or drop the last batch.
        layer: name of the classifier as in `named_modules`; by default the layer that the model's
            output comes from. At a named layer that gives something else, NC1 to NC4 are the
            layer's, accuracy and calibration the model's.
        layers: names of hidden layers. Their outputs, averaged over positions, get rows of those
            metrics that need no classifier.
        inputs: where batches are mappings, the key of the input, or the keys of those that the
            model takes by name; by default all but the labels.
        labels: where batches are mappings, the key of the labels; by default "labels" or "label".
        tokens: whether every token or pixel counts as a sample: logits (B, T, K) with labels
            (B, T), or (B, K, H, W) with (B, H, W). Those with the label -100 are left out.
        by_class: whether to add NC1 of each class.
        intervals: whether to add 95 % intervals of the values for the population, from these
            samples without running the model again, see `lsnc_core.metrics.intervals`. The features
            must fit into `keep_gib`.
        keep_gib: features and logits up to this size, in GiB, stay in main memory, so that the
            model runs once over a loader; all do where the loader can be read only once.
        progress: whether to show a bar, on a terminal, for what takes longer than a second.

    Returns:
        Measurement: its `table` has a row per split, layer, metric and part, `summary()` NC1 to
        NC3, accuracy and ECE. Logits are kept for the calibration scores, 4 N K bytes.

    Raises:
        UsageError: for a model whose classifier is not found, an empty loader, labels that do not
            fit, NaN in the features.
    """
    import pandas as pd

    model, loaders = unwrap(model), _by_split(loader)
    _check_options(layers, keep_gib)
    reading = Reading(layer, tuple(layers), inputs, labels, tokens, progress)
    rows: list[dict[str, Any]] = []
    remarks: list[str] = []
    samples: dict[str, Samples] = {}
    centroids: dict[str, Statistics] = {}
    with as_it_was(model, next(model.parameters()).device):
        for split, each in loaders.items():
            passes = Passes(model, each, split, reading, keep_gib * GIB)
            measured = _Split(passes, centroids, by_class, intervals)
            if measured.samples is not None:
                samples[split] = measured.samples
            centroids = centroids or measured.statistics
            rows += measured.rows
            remarks += measured.remarks
            if passes.head is None and passes.no_head not in remarks:
                remarks.append(passes.no_head)
    return Measurement(pd.DataFrame(rows), tuple(remarks), samples)


def predict(
    model: nn.Module,
    loader: Iterable[Any] | Mapping[str, Iterable[Any]],
    *,
    layer: str | None = None,
    inputs: str | Sequence[str] | None = None,
    labels: str | None = None,
    tokens: bool = False,
    progress: bool = True,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits float32 (N, K) and labels int64 (N,) of a loader's samples, on the CPU.

    Use it, for instance, to fit a temperature on held-out data. The logits are the model's output
    or, where it ends in a softmax, what that was given.

    Args, Raises: as `measure`.
    """
    model, loaders = unwrap(model), _by_split(loader)
    (split, batches), *_ = loaders.items()
    reading = Reading(layer, (), inputs, labels, tokens, progress)
    logits_of, labels_of = [], []
    with as_it_was(model, next(model.parameters()).device):
        for batch in Passes(model, batches, split, reading, -1, headless=True):
            assert batch.logits is not None  # a model without them has been refused
            _, classes = check_samples(batch.logits, batch.labels, batch.logits.shape[1])
            logits_of.append(batch.logits.float().cpu())
            labels_of.append(classes.cpu())
    return torch.cat(logits_of), torch.cat(labels_of)


class CollapseHistory:
    """Records `measure` during a training loop.

        history = CollapseHistory(model, {"train": train_loader, "test": test_loader})
        ...
        history.record(epoch=epoch)  # after an epoch
        ...
        history.table()  # at the end

    Recording leaves modes, weights and torch's random states as they were, so training continues
    unchanged. A loader that shuffles with a generator of its own draws from that generator.

    Args: as `measure`.
    """

    def __init__(
        self,
        model: nn.Module,
        loader: Iterable[Any] | Mapping[str, Iterable[Any]],
        **options: Any,
    ) -> None:
        for split, each in _by_split(loader).items():
            if isinstance(each, Iterator):
                raise UsageError(
                    f"the loader of {split!r} can be read only once, but every record reads it: "
                    "give the loader itself or a list of its batches."
                )
        self.model, self.loader, self.options = model, loader, options
        self.parts: list[pd.DataFrame] = []

    def record(self, **when: Any) -> None:
        """Measure now; keyword arguments, e.g. epoch=3, become columns of the table.

        Raises: UsageError for those that are no single values or have a column's name already; as
        `measure`.
        """
        for name, value in when.items():
            if name in COLUMNS:
                raise UsageError(f"the table has a column {name!r}: record under another name.")
            if hasattr(value, "item") and not getattr(value, "ndim", 0):  # of torch or NumPy
                when[name] = value.item()
            elif isinstance(value, Sized) and not isinstance(value, str):
                raise UsageError(f"{name}= must be one number or name, not {describe(value)}.")
        part = measure(self.model, self.loader, **self.options).table
        for position, (name, value) in enumerate(when.items()):
            part.insert(position, name, value)
        self.parts.append(part)

    def table(self) -> "pd.DataFrame":
        """All records as one tidy table. Raises: UsageError if there are none."""
        import pandas as pd

        if not self.parts:
            raise UsageError("nothing is recorded yet: call record(epoch=epoch) after an epoch.")
        return pd.concat(self.parts, ignore_index=True)
