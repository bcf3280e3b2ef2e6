"""Collapse and calibration of a model as it is: any `nn.Module` that ends in a linear layer, any
loader of (inputs, labels).

The input of the last linear layer are the features, its output the logits. The model runs in eval
mode, under whatever autocast
the caller has on, and is left as it was: modes, weights, random numbers drawn from torch.
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from lsnc_core.errors import UsageError
from lsnc_core.metrics.calibration import SCORES, calibration_scores
from lsnc_core.metrics.collapse import FORMULAS, PRESETS, Values, collapse_values
from lsnc_core.metrics.statistics import Statistics, TwoReads, check_samples

GIB = 2**30


def _unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, without DataParallel, DistributedDataParallel and torch.compile around
    it.
    """
    while True:
        inside = getattr(model, "_orig_mod", None)
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inside = model.module
        if inside is None:
            return model
        model = inside


@contextlib.contextmanager
def _as_it_was(model: nn.Module, device: torch.device) -> Iterator[None]:
    """In eval mode and without gradients; afterwards every module's mode and torch's random numbers
    are as before.
    """
    modes = {module: module.training for module in model.modules()}
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.no_grad():
        try:
            model.eval()
            yield
        finally:
            for module, training in modes.items():
                module.training = training


def _moved(thing, device: torch.device):
    if isinstance(thing, torch.Tensor):
        return thing.to(device, non_blocking=True)
    if isinstance(thing, dict):
        return {name: _moved(part, device) for name, part in thing.items()}
    if isinstance(thing, list | tuple):
        return [_moved(part, device) for part in thing]
    return thing


def _run(model: nn.Module, inputs, device: torch.device) -> None:
    inputs = _moved(inputs, device)
    if isinstance(inputs, dict):
        model(**inputs)
    elif isinstance(inputs, list):
        model(*inputs)
    else:
        model(inputs)


def _pairs(loader, split: str, progress: bool) -> Iterator[tuple]:
    """(inputs, labels) of each batch of a loader, with a progress bar if it takes more than a
    second.
    """
    from tqdm import tqdm

    for batch in tqdm(
        loader, desc=f"measuring {split}", disable=not progress, leave=False, delay=1, unit="batch"
    ):
        if not isinstance(batch, list | tuple) or len(batch) < 2:
            raise UsageError(
                f"the loader must give batches (inputs, labels), not {type(batch).__name__}: wrap it in one that does."
            )
        yield batch[0], batch[1]


def _linear(model: nn.Module, layer: str | None, inputs, device: torch.device) -> nn.Linear:
    """The linear layer of that name, or the one that is called last on these inputs."""
    linears = {
        name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)
    }
    known = f"its linear layers are {', '.join(map(repr, linears)) or 'none'}."
    if layer is not None:
        if layer not in linears:
            raise UsageError(f"the model has no linear layer {layer!r}: {known}")
        return linears[layer]
    called = []
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
    """Batches of (features, logits, labels), as often as they are asked for.

    While all features fit into `keep` bytes they are kept in main memory and the model runs once;
    beyond that it runs each time.
    """

    def __init__(
        self, model: nn.Module, loader, split: str, layer: str | None, keep: float, progress: bool
    ):
        self.model, self.loader, self.split, self.layer, self.progress = (
            model,
            loader,
            split,
            layer,
            progress,
        )
        self.device = next(model.parameters()).device
        self.head: nn.Linear | None = None
        self.kept, self.room = [], keep
        self.complete = False

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        if self.complete and self.kept is not None:
            for batch in self.kept:
                yield tuple(tensor.to(self.device) for tensor in batch)
            return
        for inputs, labels in _pairs(self.loader, self.split, self.progress):
            if self.head is None:
                self.head = _linear(self.model, self.layer, inputs, self.device)
            batch = *self._captured(inputs), torch.as_tensor(labels).to(self.device)
            if self.kept is not None and not self.complete:
                self.kept.append(tuple(tensor.cpu() for tensor in batch))
                self.room -= sum(tensor.nbytes for tensor in self.kept[-1])
                if self.room < 0:
                    self.kept = None
            yield batch
        self.complete = True
        if self.head is None:
            raise UsageError(f"the loader of {self.split!r} is empty: there is nothing to measure.")

    def _captured(self, inputs) -> tuple[torch.Tensor, torch.Tensor]:
        seen = []
        handle = self.head.register_forward_hook(
            lambda _, given, output: seen.append((given[0], output))
        )
        try:
            _run(self.model, inputs, self.device)
        finally:
            handle.remove()
        if not seen or seen[-1][0].ndim != 2:
            got = f"got {tuple(seen[-1][0].shape)}" if seen else "was not called"
            raise UsageError(
                f"the input of the classifier should have the shape (batch, features), it {got}: name another layer."
            )
        return seen[-1]


def _prepare(model: nn.Module, loader) -> tuple[nn.Module, dict]:
    if not isinstance(model, nn.Module):
        raise UsageError(f"the model must be a torch nn.Module, not {type(model).__name__}.")
    model = _unwrapped(model)
    if next(model.parameters(), None) is None:
        raise UsageError("the model has no parameters: there is no classifier to measure.")
    return model, loader if isinstance(loader, dict) else {"data": loader}


def _rows(split: str, values: dict, part: str = "all") -> list[dict]:
    papers: dict[str, list[str]] = {}
    for preset, names in PRESETS.items():
        for theirs, ours in names.items():
            papers.setdefault(ours, []).append(f"{preset} {theirs}")
    formulas = FORMULAS | {name: formula for name, (_, formula) in SCORES.items()}
    formulas["nc1_trace_by_prediction"] = "tr(Σ_W Σ_B⁺), samples grouped by predicted class"
    return [
        {
            "split": split,
            "metric": name,
            "part": part,
            "value": value,
            "papers": ", ".join(papers.get(name, [])),
            "formula": formulas[name],
        }
        for name, value in values.items()
    ]


def _measured(
    split: str, passes: _Passes, centroids: Statistics | None
) -> tuple[list[dict], Statistics]:
    """The rows of one split, and its statistics."""
    reads = groups = None
    logits, labels = [], []
    for features, scores, y in passes:
        W, b = passes.head.weight, passes.head.bias
        if reads is None:
            reads, groups = TwoReads(len(W), W, b, centroids), TwoReads(len(W))
        reads.first(features, y)
        groups.first(features, scores.argmax(1))
        logits.append(scores.float().cpu())
        labels.append(y.cpu())
    reads.turn()
    several = int((groups.counts > 0).sum()) > 1  # an untrained model may predict one class only
    if several:
        groups.turn()
    for features, scores, y in passes:
        reads.second(features, y)
        if several:
            groups.second(features, scores.argmax(1), mark=scores.argmax(1) == y)
    statistics = reads.finish()
    logits, labels = torch.cat(logits), torch.cat(labels)
    values = Values(collapse_values(statistics, W, b) | reads.decisions())
    values["accuracy"] = float((logits.argmax(1) == labels).double().mean())
    rows = _rows(split, values | calibration_scores(logits, labels))
    for k, value in enumerate(reads.nc1_by_class().tolist()):
        rows += _rows(split, {"nc1_trace": value}, f"class {k}")
    for part, value in groups.nc1_by_mark().items() if several else ():
        rows += _rows(split, {"nc1_trace_by_prediction": value}, part)
    return rows, statistics


def measure(
    model: nn.Module,
    loader,
    *,
    layer: str | None = None,
    keep_gib: float = 2.0,
    progress: bool = True,
):
    """Every collapse and calibration metric of a model on a loader's data, as a tidy table.

    Args:
        model: any nn.Module whose logits come from a linear layer; DataParallel,
            DistributedDataParallel and torch.compile are looked through. It runs where its
            parameters are.
        loader: gives batches (inputs, labels), labels integers (B,); or a dict of such loaders by
            name, e.g. {"train": ..., "test": ...}: the nearest-class-mean rule then uses the class
            means of the first one everywhere. Any order of samples, but no random augmentation and
            no drop_last where features do not fit into memory, for then they are made twice.
        layer: name of the classifier as in `named_modules`; by default the linear layer that is
            called last.
        keep_gib: features and logits up to this size, in GiB, are kept in main memory, so that the
            model runs once over a loader.
        progress: whether to show a progress bar for what takes longer than a second.

    Returns:
        pandas.DataFrame with columns split, metric, part ("all", "class 3", "correct", "wrong"),
        value, papers (what papers call it), formula. Logits are kept for the calibration scores, 4
        N K bytes.

    Raises:
        UsageError: for a model without a linear classifier, an empty loader, labels that do not
            fit, NaN in the features.
    """
    import pandas as pd

    model, loaders = _prepare(model, loader)
    rows, first = [], None
    with _as_it_was(model, next(model.parameters()).device):
        for split, each in loaders.items():
            more, statistics = _measured(
                split, _Passes(model, each, split, layer, keep_gib * GIB, progress), first
            )
            first = first or statistics
            rows += more
    return pd.DataFrame(rows)


def predict(
    model: nn.Module, loader, *, layer: str | None = None, progress: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits float32 (N, K) and labels int64 (N,) of a loader's samples, on the CPU, e.g. to fit a
    temperature on held-out data.

    Args, raises: as `measure`. The logits are the output of the last linear layer, whatever the
    model makes of them.
    """
    model, loaders = _prepare(model, loader)
    (split, loader), *_ = loaders.items()
    with _as_it_was(model, next(model.parameters()).device):
        passes = _Passes(model, loader, split, layer, -1, progress)
        kept = [
            (logits.float().cpu(), check_samples(logits, labels, logits.shape[1])[1].cpu())
            for _, logits, labels in passes
        ]
    return tuple(torch.cat(parts) for parts in zip(*kept, strict=True))


class CollapseHistory:
    """Records `measure` during a training loop.

    history = CollapseHistory(model, {"train": train_loader, "test": test_loader})
    ... and after an epoch: history.record(epoch=epoch); at the end: history.table()

    Args: as `measure`. Recording leaves modes, weights and torch's random numbers as they were, so
    training goes on unchanged; a loader that shuffles from a generator of its own draws from that
    one.
    """

    def __init__(
        self,
        model: nn.Module,
        loader,
        *,
        layer: str | None = None,
        keep_gib: float = 2.0,
        progress: bool = True,
    ):
        self.model, self.loader = model, loader
        self.options = {"layer": layer, "keep_gib": keep_gib, "progress": progress}
        self.parts = []

    def record(self, **when) -> None:
        """Measure now; what is given, e.g. epoch=3, becomes columns of the table."""
        table = measure(self.model, self.loader, **self.options)
        for position, (name, value) in enumerate(when.items()):
            table.insert(position, name, value)
        self.parts.append(table)

    def table(self):
        """All records as one tidy pandas.DataFrame. Raises: UsageError when there is none."""
        import pandas as pd

        if not self.parts:
            raise UsageError("nothing is recorded yet: call record(epoch=epoch) after an epoch.")
        return pd.concat(self.parts, ignore_index=True)
