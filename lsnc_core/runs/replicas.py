"""Two ways to hold R networks of one shape that train on the same images, behind one interface.

`Stacked` keeps the weights of all networks as batched matrices, so that every layer is one product;
it takes networks of linear layers, patch-wise convolutions, batch norm and ReLUs. `Listed` keeps
any networks side by side and runs them in turn; on a CPU nothing else was faster for general
convolutions and batch norm. `hold` chooses. R replicas, B images, K classes, P positions of a
layer.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from lsnc_core import models
from lsnc_core.errors import UsageError


class Stacked:
    """Networks of linear layers and patch-wise convolutions as batched matrices.

    The first layer is one product of all networks' weights with the shared image patches. The
    columns are ordered such that the output of each layer, only reshaped, is the input of the next:
    no activation is ever copied. Batch norm is one call over the channels of all networks.

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
        layers = list(
            zip(*(linear_layers(network) for network in networks), strict=True)
        )  # of each layer, R of them
        norms = list(zip(*(hidden_norms(network) for network in networks), strict=True))

        def stacked(parts: Sequence[torch.Tensor]) -> torch.Tensor:
            return torch.stack([part.detach() for part in parts]).to(device)

        self.matrices, self.norms, self.buffers = [], [], []
        for column in layers:
            self.matrices += [
                stacked([layer.weight.flatten(1) for layer in column]),
                stacked([layer.bias[:, None] for layer in column]),
            ]
        for column in norms:
            self.norms.append(None)
            if column[0] is not None:
                self.norms[-1] = [
                    stacked([getattr(norm, name) for norm in column]) for name in ("weight", "bias")
                ]
                self.buffers += [
                    stacked([getattr(norm, name) for norm in column])
                    for name in ("running_mean", "running_var")
                ]
        self.parameters = [*self.matrices, *(part for norm in self.norms if norm for part in norm)]
        for parameter in self.parameters:
            parameter.requires_grad_()
        self.settings = [
            (column[0].momentum, column[0].eps) for column in norms if column[0] is not None
        ]
        self.ends_in_relu = isinstance(networks[0].features[-1], nn.ReLU)
        self.plan = patch_plan(networks[0], image_shape).to(device)
        if self.buffers and self.plan.shape[1] < first_positions(networks[0], image_shape):
            raise UsageError(
                "the stacked trainer computes only positions that later patches use, but batch norm sees all of them."
            )
        self.training = True

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (R, B, D) and logits (R, B, K) of all networks for the same images, float (B, C,
        H, W).
        """
        weight, bias, *later = self.matrices
        columns = (
            images.flatten(1).T.index_select(0, self.plan.flatten()).view(self.plan.shape[0], -1)
        )  # (in, P*B)
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
        settings: tuple,
    ):
        """Batch norm of all networks' channels at once: (R*out, P*B) or (R, out, P*B) -> (R*out,
        P*B).
        """
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
        """One number per network, float (R,), shaped to multiply each of the parameters, as views
        of it.

        Other numbers may be given for the classifier's weight and bias.
        """
        found = [values.view(-1, *[1] * (parameter.ndim - 1)) for parameter in self.parameters]
        last = len(self.matrices)
        for place, other in ((last - 2, weight), (last - 1, bias)):
            if other is not None:
                found[place] = other[:, None, None]
        return found

    def square_norms(self, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        """Each network's sum of squares over tensors shaped as the parameters, (R,)."""
        return sum(tensor.square().flatten(1).sum(1) for tensor in tensors)

    def train(self, mode: bool) -> None:
        """Switch batch norm between training and evaluation."""
        self.training = mode


class Listed:
    """Networks of any kind side by side, run in turn; on a CPU in the memory format that is fastest
    for convolutions.

    Args and methods as for `Stacked`; `parameters` are those of each network in turn, `buffers`
    likewise (batch norm's running statistics).
    """

    def __init__(
        self,
        networks: Sequence[models.Network],
        image_shape: tuple[int, int, int],
        device: torch.device,
    ):
        self.networks = [
            network.to(device, memory_format=torch.channels_last) for network in networks
        ]
        self.parameters = [
            parameter for network in self.networks for parameter in network.parameters()
        ]
        self.buffers = [buffer for network in self.networks for buffer in network.buffers()]

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (R, B, D) and logits (R, B, K) of all networks for the same images, float (B, C,
        H, W).
        """
        images = images.contiguous(memory_format=torch.channels_last)
        features = [network.features(images) for network in self.networks]
        logits = [
            network.classifier(found)
            for network, found in zip(self.networks, features, strict=True)
        ]
        return torch.stack(features), torch.stack(logits)

    def classifier(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights (R, K, D) and biases (R, K) of the last layers, as they are now."""
        layers = [network.classifier for network in self.networks]
        return torch.stack([layer.weight.detach() for layer in layers]), torch.stack(
            [layer.bias.detach() for layer in layers]
        )

    def spread(
        self,
        values: torch.Tensor,
        weight: torch.Tensor | None = None,
        bias: torch.Tensor | None = None,
    ) -> list[torch.Tensor]:
        """One number per network, float (R,), for each of the parameters, as views; others for the
        classifier's if given.
        """
        found = []
        for replica, network in enumerate(self.networks):
            for parameter in network.parameters():
                own = {
                    id(network.classifier.weight): weight,
                    id(network.classifier.bias): bias,
                }.get(id(parameter))
                found.append((values if own is None else own)[replica])
        return found

    def square_norms(self, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        """Each network's sum of squares over tensors shaped as the parameters, (R,)."""
        squares = torch.stack([tensor.square().sum() for tensor in tensors])
        return squares.view(len(self.networks), -1).sum(1)

    def train(self, mode: bool) -> None:
        """Switch layers such as batch norm between training and evaluation."""
        for network in self.networks:
            network.train(mode)


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
    found: list[tuple[nn.Module, list[nn.Module]]] = []
    for module in [module for module in network.features if not isinstance(module, nn.Flatten)] + [
        network.classifier
    ]:
        if isinstance(module, nn.ReLU | nn.BatchNorm1d | nn.BatchNorm2d) and found:
            found[-1][1].append(module)
        else:
            found.append((module, []))
    return found


def linear_layers(network: models.Network) -> list[nn.Conv2d | nn.Linear]:
    """The network's layers with weights, in order; later convolutions must cut patches.

    Each but the last must be followed by a ReLU, or by batch norm and a ReLU; the one that makes
    the features also by batch norm alone.

    Raises:
        UsageError: for a network that is not such a chain.
    """
    chain = _chain(network)
    for position, (layer, between) in enumerate(chain):
        good = isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None
        if isinstance(layer, nn.Conv2d):
            plain = (layer.padding, layer.dilation, layer.groups) == ((0, 0), (1, 1), 1)
            good = good and plain and (position == 0 or layer.kernel_size == layer.stride)
        if not good:
            raise UsageError(f"the stacked trainer cannot train the layer {layer}.")
        kinds = [isinstance(module, nn.ReLU) for module in between]
        before_last = position == len(chain) - 2
        wanted = (
            [[True], [False, True], *([[False]] if before_last else [])]
            if position < len(chain) - 1
            else [[]]
        )
        if kinds not in wanted:
            raise UsageError(
                f"the stacked trainer needs a ReLU after {layer}, with or without batch norm before it, found {between}."
            )
    return [layer for layer, _ in chain]


def hidden_norms(network: models.Network) -> list[nn.BatchNorm1d | nn.BatchNorm2d | None]:
    """The batch norm after each layer but the last, None where there is none."""
    norms = [
        [module for module in between if not isinstance(module, nn.ReLU)]
        for _, between in _chain(network)[:-1]
    ]
    return [found[0] if found else None for found in norms]


def first_positions(network: models.Network, image_shape: tuple[int, int, int]) -> int:
    """How many positions the first layer has in an image: those of a convolution's windows, 1 for a
    linear layer.
    """
    first = linear_layers(network)[0]
    if isinstance(first, nn.Linear):
        return 1
    rows, width = (
        (image_shape[i] - first.kernel_size[i - 1]) // first.stride[i - 1] + 1 for i in (1, 2)
    )
    return rows * width


def patch_plan(network: models.Network, image_shape: tuple[int, int, int]) -> torch.Tensor:
    """Which pixel stands where in the first layer's columns: int64 (in, P), indices into the C*H*W
    pixels of an image.

    Positions run over the offsets inside each later patch first, so that (channels, P) of one layer
    read as (channels * offsets, positions) of the next.
    """
    convolutions = [layer for layer in linear_layers(network) if isinstance(layer, nn.Conv2d)]
    pixels = torch.arange(image_shape[0] * image_shape[1] * image_shape[2])
    if not convolutions:
        return pixels[:, None]  # (C*H*W, 1)
    first, *later = convolutions
    # unfold has no integer version; float64 holds pixel indices exactly
    columns = F.unfold(
        pixels.double().view(1, *image_shape), first.kernel_size, stride=first.stride
    )[0].long()  # (in, P)
    rows, width = (
        (image_shape[i] - first.kernel_size[i - 1]) // first.stride[i - 1] + 1 for i in (1, 2)
    )
    grid = torch.arange(rows * width).view(1, rows, width)
    for convolution in later:
        high, wide = convolution.kernel_size
        rows, width = rows // high, width // wide
        grid = (
            grid[:, : rows * high, : width * wide]
            .unflatten(2, (width, wide))
            .unflatten(1, (rows, high))
        )  # (O, rows, high, width, wide)
        grid = grid.permute(0, 2, 4, 1, 3).flatten(0, 2)  # (O*high*wide, rows, width)
    return columns[:, grid.flatten()]
