"""Two ways to hold R networks of one shape that train on the same images, behind one interface.

`Stacked` keeps the weights of all networks as batched matrices, so that every layer is one product; it takes networks of linear
layers, ReLUs and patch-wise convolutions. `Listed` keeps any networks side by side and runs them in turn; on a CPU nothing else
was faster for general convolutions and batch norm. `hold` chooses. R replicas, B images, K classes, P positions of a layer.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from lsnc_core import models
from lsnc_core.errors import UsageError


class Stacked:
    """Networks of linear layers and patch-wise convolutions as batched matrices.

    The first layer is one product of all networks' weights with the shared image patches. The columns are ordered such that
    the output of each layer, only reshaped, is the input of the next: no activation is ever copied.

    Args:
        networks: R of one shape, see `linear_layers`.
        image_shape: (C, H, W).
        device: where their weights go.

    Attributes:
        parameters: weights (R, out, in) and biases (R, out, 1) of each layer in turn, leaves that require gradients.
        buffers: none.

    Raises:
        UsageError: for networks that are no such chain.
    """

    def __init__(self, networks: Sequence[models.Network], image_shape: tuple[int, int, int], device: torch.device):
        columns = zip(*(linear_layers(network) for network in networks), strict=True)
        self.parameters = [
            torch.stack([part.detach() for part in parts]).to(device).requires_grad_()
            for column in columns
            for parts in ([layer.weight.flatten(1) for layer in column], [layer.bias[:, None] for layer in column])
        ]
        self.buffers: list[torch.Tensor] = []
        self.plan = patch_plan(networks[0], image_shape).to(device)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (R, B, D) and logits (R, B, K) of all networks for the same images, float (B, C, H, W)."""
        weight, bias, *later = self.parameters
        columns = images.flatten(1).T.index_select(0, self.plan.flatten()).view(self.plan.shape[0], -1)  # (in, P*B)
        # kept flat: autograd copies the gradient of every in-place step on a view
        hidden = torch.addmm(bias.flatten(0, 1), weight.flatten(0, 1), columns)  # (R*out, P*B)
        for weight, bias in zip(later[::2], later[1::2], strict=True):
            features = hidden.relu_().reshape(len(weight), weight.shape[2], -1)  # (R, in, P*B)
            hidden = torch.baddbmm(bias, weight, features)  # (R, out, P*B)
        return features.mT, hidden.mT

    def classifier(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights (R, K, D) and biases (R, K) of the last layers, as they are now."""
        weight, bias = self.parameters[-2:]
        return weight.detach(), bias.detach()[..., 0]

    def spread(self, values: torch.Tensor) -> list[torch.Tensor]:
        """One number per network, float (R,), shaped to multiply each of the parameters."""
        return [values[:, None, None]] * len(self.parameters)

    def train(self, mode: bool) -> None:
        """Nothing in these networks behaves differently in training and evaluation."""


class Listed:
    """Networks of any kind side by side, run in turn; on a CPU in the memory format that is fastest for convolutions.

    Args and methods as for `Stacked`; `parameters` are those of each network in turn, `buffers` likewise
    (batch norm's running statistics).
    """

    def __init__(self, networks: Sequence[models.Network], image_shape: tuple[int, int, int], device: torch.device):
        self.networks = [network.to(device, memory_format=torch.channels_last) for network in networks]
        self.parameters = [parameter for network in self.networks for parameter in network.parameters()]
        self.buffers = [buffer for network in self.networks for buffer in network.buffers()]

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (R, B, D) and logits (R, B, K) of all networks for the same images, float (B, C, H, W)."""
        images = images.contiguous(memory_format=torch.channels_last)
        features = [network.features(images) for network in self.networks]
        logits = [network.classifier(found) for network, found in zip(self.networks, features, strict=True)]
        return torch.stack(features), torch.stack(logits)

    def classifier(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights (R, K, D) and biases (R, K) of the last layers, as they are now."""
        layers = [network.classifier for network in self.networks]
        return torch.stack([layer.weight.detach() for layer in layers]), torch.stack([layer.bias.detach() for layer in layers])

    def spread(self, values: torch.Tensor) -> list[torch.Tensor]:
        """One number per network, float (R,), for each of the parameters."""
        return [value for value, network in zip(values, self.networks, strict=True) for _ in network.parameters()]

    def train(self, mode: bool) -> None:
        """Switch layers such as batch norm between training and evaluation."""
        for network in self.networks:
            network.train(mode)


def hold(networks: Sequence[models.Network], image_shape: tuple[int, int, int], device: torch.device) -> Stacked | Listed:
    """The faster of the two for these networks: stacked where their layers allow it."""
    try:
        return Stacked(networks, image_shape, device)
    except UsageError:
        return Listed(networks, image_shape, device)


def linear_layers(network: models.Network) -> list[nn.Conv2d | nn.Linear]:
    """The network's layers with weights, in order; each but the last must be followed by a ReLU, later convolutions must cut patches.

    Raises:
        UsageError: for a network that is not such a chain.
    """
    chain = [module for module in network.features if not isinstance(module, nn.Flatten)] + [network.classifier]
    layers, between = chain[::2], chain[1::2]
    for position, layer in enumerate(layers):
        good = isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None
        if isinstance(layer, nn.Conv2d):
            plain = (layer.padding, layer.dilation, layer.groups) == ((0, 0), (1, 1), 1)
            good = good and plain and (position == 0 or layer.kernel_size == layer.stride)
        if not good:
            raise UsageError(f"the stacked trainer cannot train the layer {layer}.")
    for module in between:
        if not isinstance(module, nn.ReLU):
            raise UsageError(f"the stacked trainer needs a ReLU between layers, found {module}.")
    return layers


def patch_plan(network: models.Network, image_shape: tuple[int, int, int]) -> torch.Tensor:
    """Which pixel stands where in the first layer's columns: int64 (in, P), indices into the C*H*W pixels of an image.

    Positions run over the offsets inside each later patch first, so that (channels, P) of one layer read as
    (channels * offsets, positions) of the next.
    """
    convolutions = [layer for layer in linear_layers(network) if isinstance(layer, nn.Conv2d)]
    pixels = torch.arange(image_shape[0] * image_shape[1] * image_shape[2])
    if not convolutions:
        return pixels[:, None]  # (C*H*W, 1)
    first, *later = convolutions
    # unfold has no integer version; float64 holds pixel indices exactly
    columns = F.unfold(pixels.double().view(1, *image_shape), first.kernel_size, stride=first.stride)[0].long()  # (in, P)
    rows, width = ((image_shape[i] - first.kernel_size[i - 1]) // first.stride[i - 1] + 1 for i in (1, 2))
    grid = torch.arange(rows * width).view(1, rows, width)
    for convolution in later:
        high, wide = convolution.kernel_size
        rows, width = rows // high, width // wide
        grid = grid[:, : rows * high, : width * wide].unflatten(2, (width, wide)).unflatten(1, (rows, high))  # (O, rows, high, width, wide)
        grid = grid.permute(0, 2, 4, 1, 3).flatten(0, 2)  # (O*high*wide, rows, width)
    return columns[:, grid.flatten()]
