"""The training step of stacked networks on a CPU, written out layer by layer.

It does what `Fleet.step` does with autograd, up to rounding. What it saves is memory traffic, on
which small networks spend most of their time: networks go through the whole step in groups whose
activations fit into a core's cache, every buffer is used again, gradients of weights are added to
the velocities as they are multiplied, and what a ReLU lets through is cut in place.

R networks, r of a group, B images, K classes, P*B columns of a layer.
"""

import contextlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch

from lsnc_core import losses
from lsnc_core.runs import products
from lsnc_core.runs.replicas import Listed, Stacked
from lsnc_core.runs.sgd import advance, shrink_factors
from lsnc_core.runs.spec import RunSpec

# The largest activation of a group in bytes, measured on cores with 1 MiB of second-level cache:
# smaller groups lose more to calls than they gain, larger ones wait for memory.
GROUP_BYTES = 2**21


class Fleet(Protocol):
    """What a step needs of `fleet.Fleet`, see there."""

    specs: Sequence[RunSpec]
    shared: RunSpec
    device: torch.device
    replicas: Stacked | Listed
    targets: torch.Tensor  # (R, N, K)
    velocities: list[torch.Tensor]
    learning_rates: list[torch.Tensor]
    weight_decays: list[torch.Tensor] | None
    penalised: bool
    feature_decay: torch.Tensor  # (R,)

    def batch(self, rows: torch.Tensor, *moves: torch.Tensor) -> torch.Tensor: ...


class Parameter(NamedTuple):
    """A parameter of the r networks of a group, with what updates it; all (r, ...)."""

    value: torch.Tensor
    velocity: torch.Tensor
    lr: torch.Tensor
    decay: torch.Tensor | None


class Norm(NamedTuple):
    """Batch norm of a group's channels: parameters (r, C), running statistics (r, C)."""

    scale: Parameter
    shift: Parameter
    mean: torch.Tensor
    var: torch.Tensor
    settings: tuple[float, float]


class Layer(NamedTuple):
    """A layer of a group: weight (r, out, in), bias (r, out, 1), and what follows it."""

    weight: Parameter
    bias: Parameter
    norm: Norm | None
    relu: bool


@dataclass
class Passed:
    """What a layer's backward pass needs.

    input: what went into it, (r, in, P*B), of the first layer (in, P*B). output: what came out,
    (r, out, P*B), before batch norm, which centres it and leaves `inverse`, see `_normalise`.
    """

    input: torch.Tensor
    output: torch.Tensor
    inverse: torch.Tensor | None = None


@dataclass(frozen=True)
class Group:
    """Networks that take a step together: which ones, their layers, losses and feature decay.

    The loss is None where it is cross-entropy, whose gradient is known.
    """

    part: slice
    layers: tuple[Layer, ...]
    fits: "tuple[losses.Loss | None, ...]"
    feature_decay: torch.Tensor | None


class StackedStep:
    """A step `(rows, *moves) -> None` for a fleet that `fits`, with the effect of `Fleet.step`.

    Args: fleet, whose parameters, velocities and running statistics it changes in place; routes,
    the library of each kind of product, see `products`.
    """

    def __init__(self, fleet: Fleet, routes: products.Routes):
        assert isinstance(fleet.replicas, Stacked)
        self.fleet, self.replicas, self.routes = fleet, fleet.replicas, routes
        self.momentum, self.clip = fleet.shared.momentum, fleet.shared.clip
        self.plan = self.replicas.plan
        # once: a file of your own may be edited while networks train
        self.losses = {
            spec.loss: losses.find(spec.loss) for spec in fleet.specs if spec.loss != "ce"
        }
        R, shapes = len(fleet.specs), self._shapes(fleet.shared.batch)
        largest = 4 * max(rows * columns for rows, columns in shapes)
        size = max(1, GROUP_BYTES // largest)
        # groups of nearly equal size
        bounds = [R * number // -(-R // size) for number in range(-(-R // size) + 1)]
        self.groups = [self._group(slice(start, end)) for start, end in itertools.pairwise(bounds)]
        size = max(group.part.stop - group.part.start for group in self.groups)
        like = self.replicas.matrices[0].detach()
        self.outputs = [like.new_empty(size * rows * columns) for rows, columns in shapes]
        self.gradients = [torch.empty_like(output) for output in self.outputs[:-1]]

    @staticmethod
    def fits(fleet: Fleet) -> bool:
        """Whether this step can train a fleet: stacked networks in float32 on a CPU."""
        return (
            isinstance(fleet.replicas, Stacked)
            and fleet.device.type == "cpu"
            and fleet.shared.precision == "float32"
        )

    def _shapes(self, B: int) -> list[tuple[int, int]]:
        """Rows and columns of each layer's output of one network for B images."""
        shapes: list[tuple[int, int]] = []
        columns = self.plan.shape[1] * B
        for weight in self.replicas.matrices[::2]:
            _, out, into = weight.shape
            if shapes:
                columns = shapes[-1][0] * shapes[-1][1] // into
            shapes.append((out, columns))
        return shapes

    def _group(self, part: slice) -> Group:
        """The networks of that part of the fleet."""
        fleet, replicas = self.fleet, self.replicas
        own = []
        for number, value in enumerate(replicas.parameters):
            decay = fleet.weight_decays[number][part] if fleet.weight_decays else None
            velocity, lr = fleet.velocities[number][part], fleet.learning_rates[number][part]
            own.append(Parameter(value.detach()[part], velocity, lr, decay))
        count = len(replicas.matrices)
        scales = iter(zip(own[count::2], own[count + 1 :: 2], strict=True))
        statistics = iter(zip(replicas.buffers[::2], replicas.buffers[1::2], strict=True))
        settings, layers = iter(replicas.settings), []
        for number, present in enumerate([*replicas.norms, None]):
            norm = None
            if present is not None:
                mean, var = next(statistics)
                norm = Norm(*next(scales), mean[part], var[part], next(settings))
            relu = number < len(replicas.norms) - (0 if replicas.ends_in_relu else 1)
            layers.append(Layer(own[2 * number], own[2 * number + 1], norm, relu))
        fits = tuple(self.losses.get(spec.loss) for spec in fleet.specs[part])
        decay = fleet.feature_decay[part, None, None] if fleet.penalised else None
        return Group(part, tuple(layers), fits, decay)

    @torch.no_grad()
    def __call__(self, rows: torch.Tensor, *moves: torch.Tensor) -> None:
        """Take one step of SGD on a batch; arguments as of `Fleet.step`."""
        pixels = self.fleet.batch(rows, *moves).flatten(1).T.contiguous()  # (C*H*W, B)
        columns = pixels.index_select(0, self.plan.flatten()).view(len(self.plan), -1)  # (in, P*B)
        targets = self.fleet.targets.index_select(1, rows).mT  # (R, K, B)
        shapes = self._shapes(len(rows))
        for group in self.groups:
            passed = self._forward(group, columns, shapes)
            gradient = loss_gradient(group.fits, passed[-1].output, targets[group.part])
            self._backward(group, passed, gradient.div_(len(rows)))

    def _forward(
        self, group: Group, columns: torch.Tensor, shapes: Sequence[tuple[int, int]]
    ) -> list[Passed]:
        """Pass columns (in, P*B) through the layers of a group."""
        r = group.part.stop - group.part.start
        passed: list[Passed] = []
        below = columns
        for layer, shape, buffer in zip(group.layers, shapes, self.outputs, strict=True):
            weight, bias = layer.weight.value, layer.bias.value
            output = buffer[: r * shape[0] * shape[1]].view(r, *shape)
            with self._library("output", output, weight.shape[2]):
                if passed:
                    below = below.view(r, weight.shape[2], -1)
                    torch.baddbmm(bias, weight, below, out=output)
                else:  # one product of all weights: the images are shared
                    flat = output.view(-1, shape[1])
                    torch.addmm(bias.flatten(0, 1), weight.flatten(0, 1), columns, out=flat)
            passed.append(Passed(below, output))
            below = output
            if layer.norm is not None:
                below, passed[-1].inverse = _normalise(layer.norm, output)
            if layer.relu:
                below.relu_()
        return passed

    def _backward(self, group: Group, passed: Sequence[Passed], gradient: torch.Tensor) -> None:
        """Take a group's step, given the gradient (r, K, B) of its losses by the logits."""
        found: list[tuple[Parameter, torch.Tensor]] = []  # gradients, where they are clipped
        learn = self._learn if not self.clip else lambda *pair: found.append(pair)
        for number in reversed(range(len(group.layers))):
            weight, bias, *_ = group.layers[number]
            here, above = passed[number], gradient
            if number:
                under = group.layers[number - 1]
                buffer = self.gradients[number - 1][: here.input.numel()]
                below = buffer.view(here.input.shape)
                with self._library("input gradient", above, weight.value.shape[2]):
                    torch.bmm(weight.value.mT, above, out=below)
                if number == len(group.layers) - 1 and group.feature_decay is not None:
                    below.addcmul_(here.input, group.feature_decay, value=2 / above.shape[2])
                if under.relu:
                    cut = torch.ops.aten.threshold_backward.grad_input
                    cut(below, here.input, 0, grad_input=below)
                gradient = below.view(passed[number - 1].output.shape)
                if under.norm is not None:
                    gradient, scale, shift = _normalise_backward(
                        under.norm, gradient, passed[number - 1]
                    )
                    learn(under.norm.scale, scale)
                    learn(under.norm.shift, shift)
            self._learn_weight(weight, above, here.input, found)
            learn(bias, above.sum(2, keepdim=True))
        if self.clip:
            self._learn_clipped(found)

    def _learn_weight(
        self,
        weight: Parameter,
        gradient: torch.Tensor,
        below: torch.Tensor,
        found: list[tuple[Parameter, torch.Tensor]],
    ) -> None:
        """Update a weight (r, out, in) by the gradient (r, out, P*B) of the layer's output.

        Where gradients are clipped, its own is added to those `found` instead.
        """
        with self._library("weight gradient", gradient, weight.value.shape[2]):
            beta = 0 if self.clip else self.momentum
            into = torch.empty_like(weight.velocity) if self.clip else weight.velocity
            if below.ndim == 2:  # of shared columns
                flat = gradient.view(-1, gradient.shape[2])
                into.flatten(0, 1).addmm_(flat, below.T, beta=beta)
            else:
                into.baddbmm_(gradient, below.mT, beta=beta)
        if self.clip:
            found.append((weight, into))
        else:
            advance(*weight)

    def _learn(
        self, parameter: Parameter, gradient: torch.Tensor, factors: torch.Tensor | None = None
    ) -> None:
        """Update a parameter by its gradient, times `factors` (r,) if there are any."""
        velocity = parameter.velocity.mul_(self.momentum)
        if factors is None:
            velocity.add_(gradient)
        else:
            velocity.addcmul_(gradient, factors.view(-1, *[1] * (gradient.ndim - 1)))
        advance(*parameter)

    def _learn_clipped(self, found: Sequence[tuple[Parameter, torch.Tensor]]) -> None:
        """Update all parameters of a group by their gradients, clipped for each network."""
        norms = [torch.linalg.vector_norm(gradient.flatten(1), dim=1) for _, gradient in found]
        factors = shrink_factors(torch.stack(norms).square().sum(0), self.clip)  # (r,)
        for parameter, gradient in found:
            self._learn(parameter, gradient, factors)

    def _library(
        self, kind: str, output: torch.Tensor, into: int
    ) -> contextlib.AbstractContextManager[None]:
        """The library for a layer's product, by its output (r, out, P*B) and input width."""
        large = 2 * output.numel() * into >= products.LARGE
        return products.library(self.routes[kind] if large else products.DEFAULT)


def _normalise(norm: Norm, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Batch norm of (r, out, P*B), which is centred in place.

    torch's own kernel takes twice as long.

    Returns: the same shape; float (r, out, 1), one over the standard deviations.
    """
    count, (momentum, epsilon) = hidden.shape[2], norm.settings
    mean = hidden.mean(2, keepdim=True)  # (r, out, 1)
    hidden.sub_(mean)
    var = torch.linalg.vector_norm(hidden, dim=2, keepdim=True).square_().div_(count)
    norm.mean.lerp_(mean[..., 0], momentum)
    norm.var.lerp_(var[..., 0] * (count / (count - 1)), momentum)
    inverse = var.add_(epsilon).rsqrt_()
    scale, shift = norm.scale.value[..., None], norm.shift.value[..., None]
    return torch.addcmul(shift, hidden, scale * inverse), inverse


def _normalise_backward(
    norm: Norm, gradient: torch.Tensor, passed: Passed
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients by the input of batch norm (r, out, P*B), its scale and its shift (r, out)."""
    assert passed.inverse is not None
    inverse = passed.inverse.flatten()
    below, scale, shift = torch.ops.aten.native_batch_norm_backward(
        gradient.view(1, -1, gradient.shape[2]),
        passed.output.view(1, -1, gradient.shape[2]),
        norm.scale.value.flatten(),
        norm.mean.view(-1),
        norm.var.view(-1),
        torch.zeros_like(inverse),  # the mean: the output was centred
        inverse,
        True,
        norm.settings[1],
        [True, True, True],
    )
    shape = norm.scale.value.shape
    return below.view(gradient.shape), scale.view(shape), shift.view(shape)


def loss_gradient(
    fits: "Sequence[losses.Loss | None]", logits: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """Gradients of each sample's loss by its logits, (r, K, B).

    Args: fits, the r networks' losses, None for cross-entropy; logits, targets float (r, K, B).
    """
    result, start = torch.empty_like(logits), 0
    for fit, same in itertools.groupby(fits):
        part = slice(start, start := start + len(list(same)))
        if fit is None:
            result[part] = losses.cross_entropy_gradient(logits[part], targets[part], 1)
            continue
        with torch.enable_grad():
            leaf = logits[part].mT.detach().requires_grad_()  # (., B, K)
            # times 1, no leaf any more: a loss of your own may change its logits in place
            total = fit(leaf * 1, targets[part].mT).sum()
        result[part] = torch.autograd.grad(total, leaf)[0].mT
    return result
