"""Two ways to hold R networks of one shape that train on the same images, behind one interface.

`Stacked` keeps the weights of all networks as batched matrices, so that every layer is one product.
It takes networks of linear layers, patch-wise convolutions, batch norm and ReLUs. `Listed` keeps
any networks side by side and runs them in turn, on a GPU on several streams; nothing else was
faster for general convolutions and batch norm. `hold` chooses. R replicas, B images, D feature
width, K classes, P positions of a layer.
"""

import itertools
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from lsnc_core import models
from lsnc_core.errors import UsageError

# More streams gain nothing: a GPU's multiprocessors are full, and every fork and join costs.
STREAMS = 8
# Channels that a convolution's kernels on CPUs take at once, at most.
CHANNEL_BLOCK = 16


class Stacked:
    """Networks of linear layers and patch-wise convolutions as batched matrices.

    The first layer is one product of all networks' weights with the image patches that they share.
    The columns are in an order in which the output of each layer, only reshaped, is the input of
    the next: no activation is ever copied. Batch norm is one call over the channels of all
    networks.

    Args:
        networks: R of one shape, see `linear_layers`.
        image_shape: (C, H, W).
        device: where their weights go.

    Attributes:
        parameters: weights (R, out, in) and biases (R, out, 1) of each layer in turn, then scales
            and shifts (R, out) of each batch norm, leaves that require gradients.
        buffers: running means and variances (R, out) of each batch norm.

    Raises:
        UsageError: for networks that are no such chain, and for batch norm where patches leave out
            positions at the edge.
    """

    def __init__(
        self,
        networks: Sequence[models.Network],
        image_shape: tuple[int, int, int],
        device: torch.device,
    ):
        # of each layer, R of them
        layers = list(zip(*map(linear_layers, networks), strict=True))
        norms = list(zip(*map(hidden_norms, networks), strict=True))

        def stacked(parts: Sequence[torch.Tensor]) -> torch.Tensor:
            return torch.stack([part.detach() for part in parts]).to(device)

        def stacked_attribute(column: Sequence[nn.Module | None], name: str) -> torch.Tensor:
            return stacked([getattr(norm, name) for norm in column])

        self.matrices: list[torch.Tensor] = []
        self.norms: list[list[torch.Tensor] | None] = []
        self.buffers: list[torch.Tensor] = []
        self.settings: list[tuple[float, float]] = []  # momentum and epsilon of each batch norm
        for column in layers:
            self.matrices.append(stacked([layer.weight.flatten(1) for layer in column]))
            # every layer has a bias, see `linear_layers`
            self.matrices.append(
                stacked([cast(nn.Parameter, layer.bias)[:, None] for layer in column])
            )
        for norm_column in norms:
            first = norm_column[0]
            if first is None:
                self.norms.append(None)
                continue
            self.norms.append([stacked_attribute(norm_column, name) for name in ("weight", "bias")])
            for name in ("running_mean", "running_var"):
                self.buffers.append(stacked_attribute(norm_column, name))
            self.settings.append((cast(float, first.momentum), first.eps))
        self.parameters = list(self.matrices)
        for norm in self.norms:
            self.parameters += norm or []
        for parameter in self.parameters:
            parameter.requires_grad_()
        self.ends_in_relu = isinstance(networks[0].features[-1], nn.ReLU)
        self.plan = patch_plan(networks[0], image_shape).to(device)
        if self.buffers and self.plan.shape[1] < first_positions(networks[0], image_shape):
            raise UsageError(
                "the stacked trainer computes only positions that later patches use, "
                "but batch norm sees all of them."
            )
        self.training = True

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (R, B, D) and logits (R, B, K) of all networks for images float (B, C, H, W)."""
        weight, bias, *later = self.matrices
        pixels = images.flatten(1).T  # (C*H*W, B)
        columns = pixels.index_select(0, self.plan.flatten())  # (in*P, B)
        columns = columns.view(self.plan.shape[0], -1)  # (in, P*B)
        # kept flat: autograd copies the gradient of every in-place step on a view
        hidden = torch.addmm(bias.flatten(0, 1), weight.flatten(0, 1), columns)  # (R*out, P*B)
        buffers = iter(zip(self.buffers[::2], self.buffers[1::2], self.settings, strict=True))
        for weight, bias, norm in zip(later[::2], later[1::2], self.norms, strict=True):
            if norm is not None:
                hidden = self._normalised(hidden, norm, *next(buffers))
            if weight is not later[-2] or self.ends_in_relu:
                hidden = hidden.relu_()
            features = hidden.reshape(len(weight), weight.shape[2], -1)  # (R, in, P*B)
            hidden = torch.baddbmm(bias, weight, features)  # (R, out, P*B)
        return features.mT, hidden.mT

    def _normalised(
        self,
        hidden: torch.Tensor,
        norm: list[torch.Tensor],
        mean: torch.Tensor,
        var: torch.Tensor,
        settings: tuple[float, float],
    ) -> torch.Tensor:
        """Batch norm of all channels at once: (R*out, P*B) or (R, out, P*B) -> (R*out, P*B)."""
        scale, shift = (part.flatten() for part in norm)
        hidden = hidden.reshape(1, scale.numel(), -1)  # (1, R*out, P*B)
        return F.batch_norm(
            hidden, mean.view(-1), var.view(-1), scale, shift, self.training, *settings
        )[0]

    def classifier(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights (R, K, D) and biases (R, K) of the last layers, as they are now."""
        weight, bias = self.matrices[-2:]
        return weight.detach(), bias.detach()[..., 0]

    def spread(
        self,
        values: torch.Tensor,
        weight: torch.Tensor | None = None,
        bias: torch.Tensor | None = None,
    ) -> list[torch.Tensor]:
        """Shape one number per network, float (R,), to multiply each of the parameters.

        The results are views of it. Other numbers may be given for the classifier's weight and
        bias.
        """
        shaped = [values.view(-1, *[1] * (parameter.ndim - 1)) for parameter in self.parameters]
        last = len(self.matrices)
        for place, other in ((last - 2, weight), (last - 1, bias)):
            if other is not None:
                shaped[place] = other[:, None, None]
        return shaped

    def square_norms(self, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        """Each network's sum of squares over tensors shaped as the parameters, (R,)."""
        first, *others = (tensor.square().flatten(1).sum(1) for tensor in tensors)
        return sum(others, start=first)

    def train(self, mode: bool) -> None:
        """Switch batch norm between training and evaluation."""
        self.training = mode


class Listed:
    """Networks of any kind side by side, run in turn.

    On a CUDA device they are dealt to a few streams, so that small networks run at the same time.
    The streams fork from the current one and join it again within `forward`, as recording a graph
    demands; autograd runs each backward operation on the stream of its forward operation and joins
    them itself. The memory format, see `memory_format_of`, is one for all. Args and methods as for
    `Stacked`; `parameters` are those of each network in turn, `buffers` likewise (batch norm's
    running statistics).
    """

    def __init__(
        self,
        networks: Sequence[models.Network],
        image_shape: tuple[int, int, int],
        device: torch.device,
    ):
        self.networks: list[models.Network] = []
        self.parameters: list[torch.Tensor] = []
        self.buffers: list[torch.Tensor] = []
        self.memory_format = memory_format_of(networks[0], device)
        for network in networks:
            network = network.to(device).to(memory_format=self.memory_format)
            self.networks.append(network)
            self.parameters += network.parameters()
            self.buffers += network.buffers()
        count = min(len(networks), STREAMS) if device.type == "cuda" else 0
        self.streams = [torch.cuda.Stream() for _ in range(count)]

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (R, B, D) and logits (R, B, K) of all networks for images float (B, C, H, W)."""
        if self.memory_format == torch.channels_last:
            images = images.contiguous(memory_format=self.memory_format)
        else:
            # images of one channel count as contiguous whatever their strides: a copy has new ones
            images = images.clone(memory_format=self.memory_format)
        if self.streams:
            passed = self._in_streams(images)
        else:
            passed = [_pass(network, images) for network in self.networks]
        features, logits = zip(*passed, strict=True)
        return torch.stack(features), torch.stack(logits)

    def _in_streams(self, images: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Features (B, D) and logits (B, K) of each network."""
        here, passed = torch.cuda.current_stream(), []
        for stream in self.streams:
            stream.wait_stream(here)
        try:
            for network, stream in zip(self.networks, itertools.cycle(self.streams), strict=False):
                with torch.cuda.stream(stream):
                    passed.append(_pass(network, images))
        finally:  # a recording that ends with a failure must find all streams joined
            # no tensor needs record_stream: a stream reuses itself what it frees, and not before
            # its next wait for this one
            for stream in self.streams:
                here.wait_stream(stream)
        return passed

    def classifier(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights (R, K, D) and biases (R, K) of the last layers, as they are now."""
        layers = [network.classifier for network in self.networks]
        weights = torch.stack([layer.weight.detach() for layer in layers])
        return weights, torch.stack([layer.bias.detach() for layer in layers])

    def spread(
        self,
        values: torch.Tensor,
        weight: torch.Tensor | None = None,
        bias: torch.Tensor | None = None,
    ) -> list[torch.Tensor]:
        """One number per network, float (R,), for each of the parameters, as views.

        Other numbers may be given for the classifier's weight and bias.
        """
        shaped = []
        for replica, network in enumerate(self.networks):
            head = network.classifier
            for parameter in network.parameters():
                own = {id(head.weight): weight, id(head.bias): bias}.get(id(parameter))
                shaped.append((values if own is None else own)[replica])
        return shaped

    def square_norms(self, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        """Each network's sum of squares over tensors shaped as the parameters, (R,)."""
        squares = torch.stack([tensor.square().sum() for tensor in tensors])
        return squares.view(len(self.networks), -1).sum(1)

    def train(self, mode: bool) -> None:
        """Switch layers such as batch norm between training and evaluation."""
        for network in self.networks:
            network.train(mode)


def memory_format_of(network: models.Network, device: torch.device) -> torch.memory_format:
    """The fastest memory format for a network's convolutions that is safe on a device.

    Channels last is the fastest. But on processors without AVX-512, oneDNN's gradient of a 1 x 1
    convolution with a stride writes past its buffer in this format where the channels do not fill
    one block (https://github.com/uxlfoundation/oneDNN/issues/6035): the process dies, hangs or goes
    on with wrong numbers.
    """
    overruns = any(
        max(layer.kernel_size) == 1 < max(layer.stride) and layer.in_channels < CHANNEL_BLOCK
        for layer in network.modules()
        if isinstance(layer, nn.Conv2d)
    )
    safe = device.type != "cpu" or not overruns
    return torch.channels_last if safe else torch.contiguous_format


def _pass(network: models.Network, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    features = network.features(images)
    return features, network.classifier(features)


def hold(
    networks: Sequence[models.Network], image_shape: tuple[int, int, int], device: torch.device
) -> Stacked | Listed:
    """The faster of the two for these networks: stacked where their layers allow it."""
    try:
        return Stacked(networks, image_shape, device)
    except UsageError:
        return Listed(networks, image_shape, device)


def _chain(network: models.Network) -> list[tuple[nn.Module, list[nn.Module]]]:
    """The layers with weights in order, each with the modules between it and the next."""
    chain: list[tuple[nn.Module, list[nn.Module]]] = []
    for module in (*network.features, network.classifier):
        if isinstance(module, nn.Flatten):
            continue
        if isinstance(module, nn.ReLU | nn.BatchNorm1d | nn.BatchNorm2d) and chain:
            chain[-1][1].append(module)
        else:
            chain.append((module, []))
    return chain


def linear_layers(network: models.Network) -> list[nn.Conv2d | nn.Linear]:
    """The network's layers with weights, in order; later convolutions must cut patches.

    Each but the last must be followed by a ReLU, or by batch norm and a ReLU; the one that makes
    the features also by batch norm alone.

    Raises:
        UsageError: for a network that is not such a chain.
    """
    chain = _chain(network)
    layers: list[nn.Conv2d | nn.Linear] = []
    for position, (layer, between) in enumerate(chain):
        if not isinstance(layer, nn.Conv2d | nn.Linear) or not _stackable(layer, position == 0):
            raise UsageError(f"the stacked trainer cannot train the layer {layer}.")
        relus = [isinstance(module, nn.ReLU) for module in between]
        if position == len(chain) - 1:
            fits = not relus
        elif position == len(chain) - 2:
            fits = relus in ([True], [False, True], [False])
        else:
            fits = relus in ([True], [False, True])
        if not fits:
            raise UsageError(
                f"the stacked trainer needs a ReLU after {layer}, with or without batch norm "
                f"before it, found {between}."
            )
        layers.append(layer)
    return layers


def _stackable(layer: nn.Conv2d | nn.Linear, first: bool) -> bool:
    """Whether a layer is one product with patches; overlapping windows are for the first alone."""
    if layer.bias is None or isinstance(layer, nn.Linear):
        return layer.bias is not None
    plain = (layer.padding, layer.dilation, layer.groups) == ((0, 0), (1, 1), 1)
    return plain and (first or layer.kernel_size == layer.stride)


def hidden_norms(network: models.Network) -> list[nn.BatchNorm1d | nn.BatchNorm2d | None]:
    """The batch norm after each layer but the last, None where there is none."""
    norms: list[nn.BatchNorm1d | nn.BatchNorm2d | None] = []
    for _, between in _chain(network)[:-1]:
        found = [
            module for module in between if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
        ]
        norms.append(found[0] if found else None)
    return norms


def _windows(layer: nn.Conv2d, image_shape: tuple[int, int, int]) -> tuple[int, int]:
    """How many windows a convolution has in an image (C, H, W), downwards and across."""
    _, height, width = image_shape
    (high, wide), (down, across) = layer.kernel_size, layer.stride
    return (height - high) // down + 1, (width - wide) // across + 1


def first_positions(network: models.Network, image_shape: tuple[int, int, int]) -> int:
    """How many positions the first layer has in an image: a convolution's windows, or 1."""
    first = linear_layers(network)[0]
    if isinstance(first, nn.Linear):
        return 1
    rows, width = _windows(first, image_shape)
    return rows * width


def patch_plan(network: models.Network, image_shape: tuple[int, int, int]) -> torch.Tensor:
    """Which pixel stands where in the first layer's columns.

    Positions run over the offsets inside each later patch first, so that (channels, P) of one layer
    read as (channels * offsets, positions) of the next.

    Returns:
        int64 (in, P), indices into the C*H*W pixels of an image.
    """
    convolutions = [layer for layer in linear_layers(network) if isinstance(layer, nn.Conv2d)]
    pixels = torch.arange(image_shape[0] * image_shape[1] * image_shape[2])
    if not convolutions:
        return pixels[:, None]  # (C*H*W, 1)
    first, *later = convolutions
    # unfold takes no integers; float64 holds pixel indices exactly
    numbered = pixels.double().view(1, *image_shape)
    columns = F.unfold(numbered, first.kernel_size, stride=first.stride)[0].long()  # (in, P)
    rows, width = _windows(first, image_shape)
    grid = torch.arange(rows * width).view(1, rows, width)
    for convolution in later:
        high, wide = convolution.kernel_size
        rows, width = rows // high, width // wide
        grid = grid[:, : rows * high, : width * wide]  # a row or column that is left over goes
        # (O, rows, high, width, wide)
        grid = grid.unflatten(2, (width, wide)).unflatten(1, (rows, high))
        grid = grid.permute(0, 2, 4, 1, 3).flatten(0, 2)  # (O*high*wide, rows, width)
    return columns[:, grid.flatten()]
