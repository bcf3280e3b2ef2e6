"""Collapse and calibration of a model as it is.

The model is any `nn.Module` that ends in a linear layer, the data any loader of (inputs, labels).
The input of the last linear layer are the features, its output the logits. The model runs in eval
mode, under the caller's autocast if there is one, and is left as it was: modes, weights, and the
state of torch's random number generators.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lsnc_core.errors import UsageError
from lsnc_core.metrics.calibration import SCORES, calibration_scores
from lsnc_core.metrics.collapse import FORMULAS, PRESETS, Values, collapse_values
from lsnc_core.metrics.statistics import FirstPass, SecondPass, Statistics, check_samples

if TYPE_CHECKING:
    import pandas as pd

GIB = 2**30


def _unwrap(model: nn.Module) -> nn.Module:
    """The model without DataParallel, DistributedDataParallel and torch.compile around it."""
    while True:
        inside = getattr(model, "_orig_mod", None)
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inside = model.module
        if inside is None:
            return model
        model = inside


@contextlib.contextmanager
def _as_it_was(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Run in eval mode without gradients, then restore modules' modes and torch's random states."""
    modes = {module: module.training for module in model.modules()}
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.no_grad():
        try:
            model.eval()
            yield
        finally:
            for module, training in modes.items():
                module.training = training


def _move(inputs: Any, device: torch.device) -> Any:
    """Tensors, also inside dicts, lists and tuples, on the device; tuples become lists."""
    if isinstance(inputs, torch.Tensor):
        return inputs.to(device, non_blocking=True)
    if isinstance(inputs, dict):
        return {name: _move(part, device) for name, part in inputs.items()}
    if isinstance(inputs, list | tuple):
        return [_move(part, device) for part in inputs]
    return inputs


def _run(model: nn.Module, inputs: Any, device: torch.device) -> None:
    inputs = _move(inputs, device)
    if isinstance(inputs, dict):
        model(**inputs)
    elif isinstance(inputs, list):
        model(*inputs)
    else:
        model(inputs)


def _pairs(loader: Iterable[Any], split: str, progress: bool) -> Iterator[tuple[Any, Any]]:
    """(inputs, labels) of each batch, with a progress bar if it takes more than a second."""
    from tqdm import tqdm

    for batch in tqdm(
        loader, desc=f"measuring {split}", disable=not progress, leave=False, delay=1, unit="batch"
    ):
        if not isinstance(batch, list | tuple) or len(batch) < 2:
            raise UsageError(
                f"the loader must give batches (inputs, labels), not {type(batch).__name__}: wrap "
                "it in one that does."
            )
        yield batch[0], batch[1]


def _find_linear(
    model: nn.Module, layer: str | None, inputs: Any, device: torch.device
) -> nn.Linear:
    """The linear layer of that name, or the one that these inputs reach last."""
    modules = model.named_modules()
    linears = {name: module for name, module in modules if isinstance(module, nn.Linear)}
    known = f"its linear layers are {', '.join(map(repr, linears)) or 'none'}."
    if layer is not None:
        if layer not in linears:
            raise UsageError(f"the model has no linear layer {layer!r}: {known}")
        return linears[layer]
    called: list[nn.Linear] = []
    handles = [
        module.register_forward_hook(lambda module, *_: called.append(module))
        for module in linears.values()
    ]
    try:
        _run(model, inputs, device)
    finally:
        for handle in handles:
            handle.remove()
    if not called:
        raise UsageError(
            f"no linear layer was called: {known} Collapse is measured at a linear classifier."
        )
    return called[-1]


class _Passes:
    """Batches of (features, logits, labels), iterated over as often as needed.

    While all features fit into `keep` bytes they stay in main memory and the model runs once;
    beyond that it runs on every pass.
    """

    def __init__(
        self,
        model: nn.Module,
        loader: Iterable[Any],
        split: str,
        layer: str | None,
        keep: float,
        progress: bool,
    ) -> None:
        self.model, self.loader, self.split = model, loader, split
        self.layer, self.progress = layer, progress
        self.device = next(model.parameters()).device
        self.head: nn.Linear | None = None
        self.kept: list[tuple[torch.Tensor, ...]] | None = []
        self.room = keep
        self.complete = False

    @property
    def classifier(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """W (K, D) and b (K,) or None of the layer that the first batch identified."""
        assert self.head is not None, "no batch has been read yet"
        return self.head.weight, self.head.bias

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        if self.complete and self.kept is not None:
            for features, logits, labels in self.kept:
                yield features.to(self.device), logits.to(self.device), labels.to(self.device)
            return
        for inputs, labels in _pairs(self.loader, self.split, self.progress):
            if self.head is None:
                self.head = _find_linear(self.model, self.layer, inputs, self.device)
            features, logits = self._capture(self.head, inputs)
            labels = torch.as_tensor(labels).to(self.device)
            if self.kept is not None and not self.complete:
                batch = features.cpu(), logits.cpu(), labels.cpu()
                self.kept.append(batch)
                self.room -= sum(tensor.nbytes for tensor in batch)
                if self.room < 0:
                    self.kept = None
            yield features, logits, labels
        self.complete = True
        if self.head is None:
            raise UsageError(f"the loader of {self.split!r} is empty: there is nothing to measure.")

    def _capture(self, head: nn.Linear, inputs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Input and output of the classifier for one batch."""
        calls: list[tuple[torch.Tensor, torch.Tensor]] = []
        handle = head.register_forward_hook(
            lambda _, given, output: calls.append((given[0], output))
        )
        try:
            _run(self.model, inputs, self.device)
        finally:
            handle.remove()
        if not calls:
            raise UsageError(
                "the input of the classifier should have the shape (batch, features), but the "
                "layer was not called: name another layer."
            )
        features, logits = calls[-1]
        if features.ndim != 2:
            raise UsageError(
                "the input of the classifier should have the shape (batch, features), not "
                f"{tuple(features.shape)}: name another layer."
            )
        return features, logits


def _prepare(model: nn.Module, loader: Any) -> tuple[nn.Module, Mapping[str, Iterable[Any]]]:
    """The unwrapped model and its loaders by split."""
    if not isinstance(model, nn.Module):
        raise UsageError(f"the model must be a torch nn.Module, not {type(model).__name__}.")
    model = _unwrap(model)
    if next(model.parameters(), None) is None:
        raise UsageError("the model has no parameters: there is no classifier to measure.")
    return model, loader if isinstance(loader, dict) else {"data": loader}


def _papers_names() -> dict[str, str]:
    """By metric, what the papers call it: "guo NC2, guo_code NC2"."""
    names: dict[str, list[str]] = {}
    for preset, metrics in PRESETS.items():
        for theirs, ours in metrics.items():
            names.setdefault(ours, []).append(f"{preset} {theirs}")
    return {metric: ", ".join(papers) for metric, papers in names.items()}


PAPERS_NAMES = _papers_names()
ALL_FORMULAS = FORMULAS | {name: formula for name, (_, formula) in SCORES.items()}
ALL_FORMULAS["nc1_trace_by_prediction"] = "tr(Σ_W Σ_B⁺), samples grouped by predicted class"


def _rows(split: str, values: Mapping[str, float], part: str = "all") -> list[dict[str, Any]]:
    return [
        {
            "split": split,
            "metric": name,
            "part": part,
            "value": value,
            "papers": PAPERS_NAMES.get(name, ""),
            "formula": ALL_FORMULAS[name],
        }
        for name, value in values.items()
    ]


def _measure_split(
    split: str, passes: _Passes, centroids: Statistics | None
) -> tuple[list[dict[str, Any]], Statistics]:
    """The rows of one split, and its statistics."""
    by_label: FirstPass | None = None
    logits_of, labels_of = [], []
    for features, logits, labels in passes:
        if by_label is None:
            K = len(passes.classifier[0])
            by_label, by_prediction = FirstPass(K), FirstPass(K)
        by_label.add(features, labels)
        by_prediction.add(features, logits.argmax(1))
        logits_of.append(logits.float().cpu())
        labels_of.append(labels.cpu())
    assert by_label is not None  # an empty loader has raised
    W, b = passes.classifier
    second = SecondPass(by_label, W, b, centroids)
    # An untrained model may predict a single class, which has no NC1.
    grouped = SecondPass(by_prediction) if by_prediction.classes_present > 1 else None
    for features, logits, labels in passes:
        second.add(features, labels)
        if grouped is not None:
            predictions = logits.argmax(1)
            grouped.add(features, predictions, mark=predictions == labels)
    statistics = second.statistics()
    all_logits, all_labels = torch.cat(logits_of), torch.cat(labels_of)
    values = Values(collapse_values(statistics, W, b) | second.decisions())
    # The model's own logits decide, not those of the projected features.
    values["accuracy"] = float((all_logits.argmax(1) == all_labels).double().mean())
    rows = _rows(split, values | calibration_scores(all_logits, all_labels))
    for k, value in enumerate(second.nc1_by_class().tolist()):
        rows += _rows(split, {"nc1_trace": value}, f"class {k}")
    if grouped is not None:
        for part, value in grouped.nc1_by_mark().items():
            rows += _rows(split, {"nc1_trace_by_prediction": value}, part)
    return rows, statistics


def measure(
    model: nn.Module,
    loader: Iterable[Any] | dict[str, Iterable[Any]],
    *,
    layer: str | None = None,
    keep_gib: float = 2.0,
    progress: bool = True,
) -> "pd.DataFrame":
    """Every collapse and calibration metric of a model on a loader's data, as a tidy table.

    Args:
        model: any nn.Module whose logits come from a linear layer; DataParallel,
            DistributedDataParallel and torch.compile around it do not matter. It runs where its
            parameters are.
        loader: gives batches (inputs, labels), labels integers (B,); or a dict of such loaders by
            name, e.g. {"train": ..., "test": ...}. The nearest-class-mean rule then uses the class
            means of the first one for all. Samples may come in any order. Where features do not
            fit into memory they are computed twice, so the loader must not augment at random or
            drop the last batch.
        layer: name of the classifier as in `named_modules`; by default the linear layer that is
            called last.
        keep_gib: features and logits up to this size, in GiB, stay in main memory, so that the
            model runs once over a loader.
        progress: whether to show a progress bar for what takes longer than a second.

    Returns:
        pandas.DataFrame with columns split, metric, part ("all", "class 3", "correct", "wrong"),
        value, papers (the papers' names for it), formula. Logits are kept for the calibration
        scores, 4 N K bytes.

    Raises:
        UsageError: for a model without a linear classifier, an empty loader, labels that do not
            fit, NaN in the features.
    """
    import pandas as pd

    model, loaders = _prepare(model, loader)
    rows: list[dict[str, Any]] = []
    centroids: Statistics | None = None
    with _as_it_was(model, next(model.parameters()).device):
        for split, each in loaders.items():
            passes = _Passes(model, each, split, layer, keep_gib * GIB, progress)
            more, statistics = _measure_split(split, passes, centroids)
            centroids = centroids or statistics
            rows += more
    return pd.DataFrame(rows)


def predict(
    model: nn.Module,
    loader: Iterable[Any] | dict[str, Iterable[Any]],
    *,
    layer: str | None = None,
    progress: bool = True,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits float32 (N, K) and labels int64 (N,) of a loader's samples, on the CPU.

    Use it, for instance, to fit a temperature on held-out data. The logits are the output of the
    last linear layer, whatever the model does with them afterwards.

    Args, Raises: as `measure`.
    """
    model, loaders = _prepare(model, loader)
    (split, batches), *_ = loaders.items()
    logits_of, labels_of = [], []
    with _as_it_was(model, next(model.parameters()).device):
        for _, logits, labels in _Passes(model, batches, split, layer, -1, progress):
            _, labels = check_samples(logits, labels, logits.shape[1])
            logits_of.append(logits.float().cpu())
            labels_of.append(labels.cpu())
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
        loader: Iterable[Any] | dict[str, Iterable[Any]],
        *,
        layer: str | None = None,
        keep_gib: float = 2.0,
        progress: bool = True,
    ) -> None:
        self.model, self.loader = model, loader
        self.layer, self.keep_gib, self.progress = layer, keep_gib, progress
        self.parts: list[pd.DataFrame] = []

    def record(self, **when: Any) -> None:
        """Measure now; keyword arguments, e.g. epoch=3, become columns of the table."""
        part = measure(
            self.model,
            self.loader,
            layer=self.layer,
            keep_gib=self.keep_gib,
            progress=self.progress,
        )
        for position, (name, value) in enumerate(when.items()):
            part.insert(position, name, value)
        self.parts.append(part)

    def table(self) -> "pd.DataFrame":
        """All records as one tidy table. Raises: UsageError if there are none."""
        import pandas as pd

        if not self.parts:
            raise UsageError("nothing is recorded yet: call record(epoch=epoch) after an epoch.")
        return pd.concat(self.parts, ignore_index=True)
