"""The classifier of a model: the layer that produces its output, found by comparing the two.

A layer is called with h (rows of features) and gives W h + b. It is the model's classifier if the
model returns just that, its softmax, its log-softmax, its sigmoid or a positive multiple. Anything
else that a model does to its last layer's output, e.g. averaging two heads, makes the layer's
decisions differ from the model's, so the layer is then measured only if it is named.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import nn

from lsnc_core.errors import UsageError
from lsnc_core.metrics.statistics import describe

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
# What a model may do to its classifier's output without changing what it predicts.
RELATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "same": lambda logits: logits,
    "softmax": lambda logits: logits.softmax(-1),
    "log-softmax": lambda logits: logits.log_softmax(-1),
    "sigmoid": lambda logits: logits.sigmoid() if logits.shape[-1] == 1 else logits,
}


DIVERGED = "NaN or infinity: training has diverged, or the inputs hold some."


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a layer: which layer, which of its calls, the first tensor given, the output.

    The tensors are copies: a later layer may overwrite them in place.
    """

    name: str
    module: nn.Module
    number: int
    given: torch.Tensor
    output: torch.Tensor


@contextlib.contextmanager
def recorded_calls(
    modules: dict[str, nn.Module], wanted: Callable[[torch.Tensor], bool] = lambda _: True
) -> Iterator[list[Call]]:
    """Collect the calls of modules in a list, inner modules before those around them.

    Args: modules, by name; wanted, which outputs to keep.
    """
    calls: list[Call] = []
    counts = dict.fromkeys(modules, 0)

    def keep(name: str, module: nn.Module, positional: Any, named: Any, output: Any) -> None:
        tensors = [x for x in (*positional, *named.values()) if isinstance(x, torch.Tensor)]
        made = _first_tensor(output)
        if tensors and made is not None and wanted(made):
            calls.append(Call(name, module, counts[name], tensors[0].clone(), made.clone()))
        counts[name] += 1

    with _hooked(modules, keep):
        yield calls


@contextlib.contextmanager
def last_outputs(modules: dict[str, nn.Module]) -> Iterator[dict[str, torch.Tensor]]:
    """Copies, by name, of what modules give in their last call."""
    outputs: dict[str, torch.Tensor] = {}

    def keep(name: str, module: nn.Module, positional: Any, named: Any, output: Any) -> None:
        made = _first_tensor(output)
        if made is not None:
            outputs[name] = made.clone()

    with _hooked(modules, keep):
        yield outputs


def _first_tensor(output: Any) -> torch.Tensor | None:
    output = output[0] if isinstance(output, list | tuple) and output else output
    return output if isinstance(output, torch.Tensor) else None


@contextlib.contextmanager
def _hooked(modules: dict[str, nn.Module], hook: Callable[..., None]) -> Iterator[None]:
    """Call the hook after each call of a module: its name, itself, arguments, output."""
    handles = [
        module.register_forward_hook(
            lambda module, positional, named, output, name=name: hook(
                name, module, positional, named, output
            ),
            with_kwargs=True,
        )
        for name, module in modules.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def class_axis(shape: torch.Size, labels: torch.Size) -> int | None:
    """The axis of the classes in logits of this shape with these labels; None if there is none."""
    if shape[:-1] == labels:
        return -1
    return 1 if len(shape) > 2 and shape[:1] + shape[2:] == labels else None


def rows(tensor: torch.Tensor, axis: int = -1) -> torch.Tensor:
    """A tensor as a matrix with one row per sample or position; axis holds its columns."""
    if tensor.ndim == 1:
        return tensor[:, None]
    if tensor.ndim > 2 and tensor[0].numel() == tensor.shape[1]:  # (B, D, 1, 1)
        return tensor.flatten(1)
    return tensor.movedim(axis, -1).reshape(-1, tensor.shape[axis])


def _is_convolution(module: nn.Module) -> TypeGuard[Convolution]:
    """Whether a module is a linear map at each position."""
    return (
        isinstance(module, Convolution)
        and module.groups == 1
        and all(size == 1 for size in module.kernel_size)
    )


def is_linear(module: nn.Module) -> TypeGuard[nn.Linear | Convolution]:
    """Whether a module is a linear layer or a convolution that acts as one."""
    return isinstance(module, nn.Linear) or _is_convolution(module)


def _matrices(call: Call, samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Input and output of a call as matrices; a convolution's are averaged over positions where
    the model gives one output per sample.
    """
    given, output = call.given, call.output
    if not _is_convolution(call.module):
        return rows(given), rows(output)
    if len(output) == samples:
        return given.flatten(2).mean(2), output.flatten(2).mean(2)
    return rows(given, 1), rows(output, 1)


def has_diverged(logits: torch.Tensor) -> bool:
    """Whether logits hold NaN or infinity; -infinity is that of a class which is masked."""
    return bool((logits.isnan() | logits.isposinf()).any())


def _close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether two tensors agree up to rounding in the narrower of their types."""
    if found.shape != expected.shape:
        return False
    if torch.equal(found, expected):
        return True
    eps = max(torch.finfo(x.dtype).eps for x in (found, expected))
    found, expected = found.double(), expected.double()
    size = expected[expected.isfinite()].abs()
    slack = min(16 * eps, 0.03) * float(size.max() if len(size) else 0.0)
    return torch.allclose(found, expected, rtol=0, atol=slack, equal_nan=True)


def _relation(output: torch.Tensor, logits: torch.Tensor) -> str | None:
    """What the model makes of a layer's output; both (rows, K)."""
    if output.shape != logits.shape:
        return None
    for name, relation in RELATIONS.items():
        if _close(relation(output), logits):
            return name
    wide, theirs = output.double(), logits.double()
    scale = float((wide * theirs).sum() / wide.square().sum())
    return "scaled" if scale > 0 and _close((scale * wide).to(output.dtype), logits) else None


def _slack(h: torch.Tensor, W: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """How far rounding may take W h + b from the output, (rows, 1)."""
    eps = max(torch.finfo(x.dtype).eps for x in (h, W, output))
    if output.is_cuda:
        eps = max(eps, 2**-10)  # TF32
    bound = h.double().norm(dim=1, keepdim=True) * W.double().norm(dim=1).max()
    return 8 * eps * (bound + output.double().abs().amax(1, keepdim=True))


def _affine(call: Call, h: torch.Tensor, output: torch.Tensor) -> tuple[torch.Tensor, ...] | None:
    """W and b of a layer that gives W h + b, from its weights or else from what it makes of unit
    vectors; None for a layer that gives something else.
    """
    for read in (_from_weights, _from_unit_vectors):
        classifier = read(call.module, h)
        if classifier is None or classifier[0].shape != (output.shape[1], h.shape[1]):
            continue
        W, b = classifier
        with torch.autocast(h.device.type, enabled=False):
            expected = h.double() @ W.double().T + b.double()
        if bool(((expected - output).abs() <= _slack(h, W, output)).all()):
            return W, b
    return None


def _from_weights(module: nn.Module, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
    if not is_linear(module):
        return None
    weight, bias = module.weight.detach(), module.bias
    W = weight.flatten(1)
    return W, W.new_zeros(len(W)) if bias is None else bias.detach()


def _from_unit_vectors(
    module: nn.Module, h: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor] | None:
    tensors = (*module.parameters(), *module.buffers())
    if not any(tensor.ndim > 1 for tensor in tensors):  # activations, norms
        return None
    try:
        b = module(h.new_zeros(1, h.shape[1]))[0]
        W = (module(torch.eye(h.shape[1], dtype=h.dtype, device=h.device)) - b).T
    except Exception:  # whatever a layer that is no map of rows to rows does with them
        return None
    return W, b


@dataclass(frozen=True, eq=False)
class Head:
    """A classifier found in a model.

    name: of the layer, "" for the model itself; number: which of the layer's calls in a pass;
    relation: of its output to the model's, None if there is none; W: float (K, D); b: float (K,);
    binary: whether one logit z stands for two classes with logits (-z/2, z/2).
    """

    name: str
    module: nn.Module
    number: int
    relation: str | None
    W: torch.Tensor
    b: torch.Tensor
    binary: bool

    def read(
        self, calls: Sequence[Call], output: torch.Tensor | None, samples: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (rows, D) and logits (rows, K) of a batch.

        Args: calls, of the layer; output, the model's, (rows, outputs), or None; samples, how many
        rows the logits have.
        Raises: UsageError if the model does something else than in the first batch.
        """
        call = next((call for call in calls if call.number == self.number), None)
        if call is None:
            raise UsageError(
                f"the layer {self.name!r} was not called in every batch: measure the parts of the "
                "model that use different classifiers one by one."
            )
        features, own = _matrices(call, samples)
        if self.relation is not None and (output is None or not self._holds(own, output)):
            raise UsageError(
                f"the model's output comes from the layer {self.name!r} in the first batch, but "
                "not in a later one: name the classifier with layer=."
            )
        keep_own = output is None or self.relation in ("softmax", "sigmoid")
        logits = own if keep_own else output
        assert logits is not None  # as `keep_own` says
        if self.binary:
            logits = torch.cat([-logits / 2, logits / 2], 1)
        return features, logits

    def _holds(self, own: torch.Tensor, output: torch.Tensor) -> bool:
        if self.relation == "scaled":
            return _relation(own, output) is not None
        return _close(RELATIONS[self.relation or "same"](own), output)


def find_head(
    calls: list[Call], output: torch.Tensor | None, samples: int, layer: str | None
) -> Head | None:
    """The classifier among the calls of a pass, see the module's docstring.

    Args: calls, of all modules, or of the named one; output, the model's, (rows, outputs), or None;
    samples, how many rows the logits have; layer, the name that the classifier was given, or None.
    Returns: None where no layer, or a layer that is not linear in its input, gives the output.
    Raises: UsageError if the named layer cannot be measured.
    """
    related = []
    for call in calls if output is not None else []:
        _, own = _matrices(call, samples)
        if output is not None and (relation := _relation(own, output)) is not None:
            related.append((call, relation))
    # The last linear layer, or else the innermost other one.
    linear = [pair for pair in related if is_linear(pair[0].module)]
    others = [pair for pair in related if not is_linear(pair[0].module)]
    for call, relation in linear[::-1] + others:
        head = _head(call, relation, samples)
        if head is not None:
            return head
    return None if layer is None else _named_head(calls, output, samples, layer)


def _head(call: Call, relation: str | None, samples: int) -> Head | None:
    """The head that a call belongs to; None if it is not linear in its input."""
    h, own = _matrices(call, samples)
    if h.ndim != 2 or len(h) != len(own) or not h.is_floating_point():
        return None
    classifier = _affine(call, h, own)
    if classifier is None:
        return None
    W, b = classifier
    binary = len(W) == 1
    if binary:
        W, b = torch.cat([-W / 2, W / 2]), torch.cat([-b / 2, b / 2])
    return Head(call.name, call.module, call.number, relation, W, b, binary)


def _named_head(calls: list[Call], output: torch.Tensor | None, samples: int, layer: str) -> Head:
    """The head at the last call of a named layer whose output is not the model's."""
    if not calls:
        raise UsageError(f"the layer {layer!r} was not called: name another one.")
    call = calls[-1]
    _, own = _matrices(call, samples)
    if output is not None and own.shape != output.shape:
        raise UsageError(
            f"the layer {layer!r} gives {tuple(own.shape)}, but the model {tuple(output.shape)}: "
            "name the classifier with layer=, hidden layers with layers=[...]."
        )
    head = _head(call, None, samples)
    if head is None:
        if has_diverged(own):
            raise UsageError(f"the layer {layer!r} gives {DIVERGED}")
        raise UsageError(
            f"the layer {layer!r} does not give W h + b of its input {describe(call.given)}, so it "
            "has no W to measure: give its features, labels and W to neural_collapse."
        )
    return head
