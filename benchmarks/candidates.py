"""Other ways to hold and update networks on a GPU, measured by `benchmarks/fleet.py`.

These are candidates: whichever wins on a GPU moves into the package (`runs.replicas`,
`runs.fleet.sgd_step`), the others go.

    Streamed            networks side by side as in `replicas.Listed`, their passes on several CUDA
                        streams
    Fused, FusedNchw    networks as one of R-fold channels, the images' channels last or first in
                        memory
    sgd_step            the update by kernels that each take many tensors

R replicas, B images, C channels, K classes, D feature width.
"""

import copy
import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from lsnc_core import models
from lsnc_core.errors import UsageError
from lsnc_core.runs import replicas

# More streams gain nothing: a GPU's multiprocessors are full, and every fork and join costs.
STREAMS = 8


class Streamed(replicas.Listed):
    """As `replicas.Listed`, but on a CUDA device small networks run at the same time.

    They are dealt to a few streams. The streams fork from the current one and join it again within
    `forward`, as recording a graph demands; autograd runs each backward operation on the stream of
    its forward operation and joins them itself. Args and methods as there.
    """

    def __init__(
        self,
        networks: Sequence[models.Network],
        image_shape: tuple[int, int, int],
        device: torch.device,
    ):
        super().__init__(networks, image_shape, device)
        self.streams = (
            [torch.cuda.Stream() for _ in range(min(len(networks), STREAMS))]
            if device.type == "cuda"
            else []
        )

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (R, B, D) and logits (R, B, K) of all networks for images float (B, C, H, W)."""
        if not self.streams:
            return super().forward(images)
        images = images.contiguous(memory_format=torch.channels_last)
        here, features, logits = torch.cuda.current_stream(), [], []
        for stream in self.streams:
            stream.wait_stream(here)
        try:
            for network, stream in zip(self.networks, itertools.cycle(self.streams), strict=False):
                with torch.cuda.stream(stream):
                    features.append(network.features(images))
                    logits.append(network.classifier(features[-1]))
        finally:  # a recording that ends with a failure must find all streams joined
            # no tensor needs record_stream: a stream reuses itself what it frees, and not before
            # its next wait for this one
            for stream in self.streams:
                here.wait_stream(stream)
        return torch.stack(features), torch.stack(logits)


class Fused:
    """Networks of convolutions, batch norm and residual blocks as one network.

    Its channels are those of all networks in turn. The first convolution has the outputs of all
    networks on the shared images, later ones are grouped, batch norm is one call over R*C channels,
    linear layers are batched products; what works channel by channel is left as it is. Methods as
    for `replicas.Stacked`.

    Args:
        networks: R of one shape, see `fused`; they must begin with a convolution.
        image_shape: (C, H, W).
        device: where their weights go.

    Attributes:
        parameters: those of one network in turn, each of all networks (R, ...), leaves that require
            gradients.
        buffers: running means and variances (R, C) of each batch norm.

    Raises:
        UsageError: for networks with other layers.
    """

    memory_format = torch.channels_last

    def __init__(
        self,
        networks: Sequence[models.Network],
        image_shape: tuple[int, int, int],
        device: torch.device,
    ):
        first, *others = zip(*(network.features for network in networks), strict=True)
        if not isinstance(first[0], nn.Conv2d):
            raise UsageError(
                f"the fused trainer needs a convolution as the first layer, got {_line(first[0])}."
            )
        body = [
            _Convolution(first, self.memory_format, shared=True),
            *(fused(parts, self.memory_format) for parts in others),
        ]
        self.features = nn.Sequential(*body).to(device)
        self.last = _Products([network.classifier for network in networks]).to(device)
        self.parameters = [*self.features.parameters(), *self.last.parameters()]
        self.buffers = list(self.features.buffers())

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (R, B, D) and logits (R, B, K) of all networks for images float (B, C, H, W)."""
        hidden = self.features(images.contiguous(memory_format=self.memory_format))  # (B, R*D)
        return _apart(hidden, len(self.last.weight)), self.last.products(hidden)

    def classifier(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights (R, K, D) and biases (R, K) of the last layers, as they are now."""
        return self.last.weight.detach(), self.last.bias.detach()

    def spread(
        self,
        values: torch.Tensor,
        weight: torch.Tensor | None = None,
        bias: torch.Tensor | None = None,
    ) -> list[torch.Tensor]:
        """Shape one number per network, float (R,), to multiply each of the parameters, as views.

        Other numbers may be given for the classifier's weight and bias.
        """
        own = [values if weight is None else weight, values if bias is None else bias]
        numbers = [values] * (len(self.parameters) - 2) + own
        return [
            number.view(-1, *[1] * (part.ndim - 1))
            for number, part in zip(numbers, self.parameters, strict=True)
        ]

    def square_norms(self, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        """Each network's sum of squares over tensors shaped as the parameters, (R,)."""
        first, *others = (tensor.square().flatten(1).sum(1) for tensor in tensors)
        return sum(others, start=first)

    def train(self, mode: bool) -> None:
        """Switch batch norm between training and evaluation."""
        self.features.train(mode)


class FusedNchw(Fused):
    """As `Fused` with channels first in memory: some grouped convolutions are faster."""

    memory_format = torch.contiguous_format


def fused(parts: Sequence[nn.Module], memory_format: torch.memory_format) -> nn.Module:
    """One module that does what R modules of one shape do to their own channels.

    It maps (B, R*C, ...) -> (B, R*C', ...). Convolutions, batch norm and linear layers are built
    anew, in torchvision's BasicBlock and in sequences each part by itself; ReLU, pooling and
    flattening are kept.

    Raises:
        UsageError: for a module of any other kind.
    """
    from torchvision.models.resnet import BasicBlock

    one = parts[0]
    if isinstance(one, nn.Conv2d):
        return _Convolution(parts, memory_format)
    if isinstance(one, nn.BatchNorm1d | nn.BatchNorm2d):
        return _Norm(parts)
    if isinstance(one, nn.Linear):
        return _Products(parts)
    if isinstance(one, nn.Sequential | BasicBlock):
        whole = copy.deepcopy(one)
        for name, _ in one.named_children():
            setattr(whole, name, fused([getattr(part, name) for part in parts], memory_format))
        return whole
    if isinstance(one, nn.ReLU | nn.MaxPool2d | nn.AdaptiveAvgPool2d | nn.Flatten):
        return one
    raise UsageError(f"the fused trainer cannot train the layer {_line(one)}.")


class _Convolution(nn.Module):
    """R convolutions of shared images (B, C, H, W), or of (B, R*C, H, W): (B, R*C', H', W')."""

    def __init__(
        self, layers: Sequence[nn.Conv2d], memory_format: torch.memory_format, shared: bool = False
    ):
        super().__init__()
        one = layers[0]
        if one.groups != 1 or one.padding_mode != "zeros":
            raise UsageError(f"the fused trainer cannot train the layer {_line(one)}.")
        weight = torch.cat([layer.weight.detach() for layer in layers]).contiguous(
            memory_format=memory_format
        )  # (R*C', C, k, k)
        self.weight = nn.Parameter(weight.unflatten(0, (len(layers), -1)))  # (R, C', C, k, k)
        self.bias = None if one.bias is None else nn.Parameter(_stacked(layers, "bias"))
        self.how = (one.stride, one.padding, one.dilation, 1 if shared else len(layers))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return F.conv2d(
            images,
            self.weight.flatten(0, 1),
            None if self.bias is None else self.bias.flatten(),
            *self.how,
        )


class _Norm(nn.Module):
    """R batch norms: (B, R*C, ...) of the same shape."""

    def __init__(self, norms: Sequence[nn.BatchNorm1d | nn.BatchNorm2d]):
        super().__init__()
        one = norms[0]
        if not (one.affine and one.track_running_stats and one.momentum is not None):
            raise UsageError(f"the fused trainer cannot train the layer {_line(one)}.")
        self.weight, self.bias = (
            nn.Parameter(_stacked(norms, name)) for name in ("weight", "bias")
        )  # (R, C)
        for name in ("running_mean", "running_var"):
            self.register_buffer(name, _stacked(norms, name))
        self.settings = (one.momentum, one.eps)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        running, own = (
            (self.running_mean.view(-1), self.running_var.view(-1)),
            (self.weight.flatten(), self.bias.flatten()),
        )
        return F.batch_norm(hidden, *running, *own, self.training, *self.settings)


class _Products(nn.Module):
    """R linear layers: (B, R*D) -> (B, R*D')."""

    def __init__(self, layers: Sequence[nn.Linear]):
        super().__init__()
        if layers[0].bias is None:
            raise UsageError(f"the fused trainer cannot train the layer {_line(layers[0])}.")
        self.weight, self.bias = (
            nn.Parameter(_stacked(layers, name)) for name in ("weight", "bias")
        )  # (R, D', D), (R, D')

    def products(self, hidden: torch.Tensor) -> torch.Tensor:
        """(B, R*D) -> (R, B, D')."""
        return torch.baddbmm(self.bias[:, None], _apart(hidden, len(self.weight)), self.weight.mT)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.products(hidden).transpose(0, 1).flatten(1)


def _stacked(layers: Sequence[nn.Module], name: str) -> torch.Tensor:
    """A tensor of all layers, (R, ...)."""
    return torch.stack([getattr(layer, name).detach() for layer in layers])


def _apart(hidden: torch.Tensor, R: int) -> torch.Tensor:
    """What belongs to each network: (B, R*D) -> (R, B, D)."""
    return hidden.unflatten(1, (R, -1)).transpose(0, 1)


def _line(module: nn.Module) -> str:
    return " ".join(str(module).split())


@torch.no_grad()
def sgd_step(
    parameters: Sequence[torch.Tensor],
    gradients: Sequence[torch.Tensor],
    velocities: Sequence[torch.Tensor],
    learning_rates: Sequence[torch.Tensor],
    weight_decays: Sequence[torch.Tensor] | None,
    momentum: float,
) -> None:
    """As `fleet.sgd_step` for networks side by side: a few kernels a network, not three a tensor.

    Args: as there; learning rates and weight decays float (), those of one network views of one
    number.
    """
    # these kernels want equal strides; gradients of 1x1 convolutions can have others
    gradients = [
        own if own.stride() == v.stride() else torch.empty_like(v).copy_(own)
        for own, v in zip(gradients, velocities, strict=True)
    ]
    torch._foreach_mul_(velocities, momentum)
    torch._foreach_add_(velocities, gradients)
    if weight_decays is not None:
        for decay, places in _alike(weight_decays):
            pull = torch._foreach_mul(_at(parameters, places), decay)
            torch._foreach_add_(_at(velocities, places), pull)
    for lr, places in _alike(learning_rates):
        step = torch._foreach_mul(_at(velocities, places), lr)
        torch._foreach_sub_(_at(parameters, places), step)


def _alike(numbers: Sequence[torch.Tensor]) -> list[tuple[torch.Tensor, list[int]]]:
    """The distinct numbers, views of one memory counting once, each with its places."""
    places: dict[int, list[int]] = {}
    for place, number in enumerate(numbers):
        places.setdefault(number.data_ptr(), []).append(place)
    return [(numbers[own[0]], own) for own in places.values()]


def _at(tensors: Sequence[torch.Tensor], places: Sequence[int]) -> list[torch.Tensor]:
    return [tensors[place] for place in places]
