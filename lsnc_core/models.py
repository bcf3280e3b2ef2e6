"""Networks of the companion: a feature extractor and a linear classifier, so that collapse can be
measured between them.
"""

import torch
from torch import nn

from lsnc_core.errors import UsageError

# Chen et al. name "two convolutional and two linear layers" and give no widths. These are ours:
# patches instead of overlapping windows after the first layer, so that many replicas can be trained
# as a few matrix products.
CNN_CHANNELS = (8, 16)
CNN_HIDDEN = 128
# the smallest image side that leaves one patch of the second convolution
CNN_SIDE = 6
LENET_SIDE = 16


class Network(nn.Module):
    """`classifier(features(x))`: images (B, C, H, W) -> features (B, D) -> logits (B, K)."""

    def __init__(self, features: nn.Sequential, classifier: nn.Linear):
        super().__init__()
        self.features = features
        self.classifier = classifier

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images float (B, C, H, W) -> logits float (B, K)."""
        return self.classifier(self.features(images))


def cnn(
    image_shape: tuple[int, int, int],
    classes: int,
    channels: tuple[int, int] = CNN_CHANNELS,
    hidden: int = CNN_HIDDEN,
    batch_norm: bool = False,
    feature_norm: bool = False,
) -> Network:
    """The 2-convolution, 2-linear network of Chen et al.: 4x4 windows at stride 2, then 2x2
    patches, then two linear layers.

    Args:
        image_shape: (C, H, W), H and W at least `CNN_SIDE`.
        classes: K, at least 2.
        channels: output channels of the two convolutions.
        hidden: feature width D, the input of the classifier.
        batch_norm: whether batch norm follows every hidden layer.
        feature_norm: whether the features end with batch norm instead of a ReLU, so that they can
            be negative.

    Raises:
        UsageError: when the images are too small for one 2x2 patch of 4x4 windows.

    >>> sum(w.numel() for w in cnn((1, 14, 14), 10).parameters())
    20514
    """
    colours, height, width = image_shape
    rows, columns = (height - 2) // 2 // 2, (width - 2) // 2 // 2
    if rows < 1 or columns < 1:
        raise UsageError(
            f"images of {height}x{width} pixels are too small for the CNN: it needs at least {CNN_SIDE}x{CNN_SIDE}."
        )
    layers: list[nn.Module] = []
    for layer in (
        nn.Conv2d(colours, channels[0], 4, stride=2),
        nn.Conv2d(channels[0], channels[1], 2, stride=2),
    ):
        layers += [layer, *([nn.BatchNorm2d(layer.out_channels)] if batch_norm else []), nn.ReLU()]
    layers += [
        nn.Flatten(),
        nn.Linear(channels[1] * rows * columns, hidden),
        *_last(hidden, batch_norm, feature_norm),
    ]
    return Network(nn.Sequential(*layers), nn.Linear(hidden, classes))


def _last(width: int, batch_norm: bool, feature_norm: bool) -> list[nn.Module]:
    """What follows the linear layer that makes the features."""
    if feature_norm:
        return [nn.BatchNorm1d(width)]
    return [*([nn.BatchNorm1d(width)] if batch_norm else []), nn.ReLU()]


def lenet(
    image_shape: tuple[int, int, int],
    classes: int,
    channels: tuple[int, int] = (10, 20),
    hidden: int = 50,
) -> Network:
    """The usual small CNN of MNIST examples: two 5x5 convolutions, each halved by max-pooling, and
    two linear layers.

    Args, raises: as for `cnn`; H and W at least `LENET_SIDE`.

    >>> sum(w.numel() for w in lenet((1, 28, 28), 10).parameters())
    21840
    """
    colours, height, width = image_shape
    rows, columns = (((side - 4) // 2 - 4) // 2 for side in (height, width))
    if rows < 1 or columns < 1:
        raise UsageError(
            f"images of {height}x{width} pixels are too small for the LeNet: it needs at least {LENET_SIDE}x{LENET_SIDE}."
        )
    features = nn.Sequential(
        nn.Conv2d(colours, channels[0], 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(channels[0], channels[1], 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(channels[1] * rows * columns, hidden),
        nn.ReLU(),
    )
    return Network(features, nn.Linear(hidden, classes))


def mlp(
    image_shape: tuple[int, int, int],
    classes: int,
    hidden: tuple[int, ...] = (CNN_HIDDEN,),
    batch_norm: bool = False,
    feature_norm: bool = False,
) -> Network:
    """A multilayer perceptron with ReLU: pixels -> hidden layers -> K logits.

    Args:
        image_shape: (C, H, W).
        classes: K, at least 2.
        hidden: widths of the hidden layers, at least one; the last is the feature width D.
        batch_norm, feature_norm: as for `cnn`.

    Raises:
        UsageError: when no hidden layer is asked for.

    >>> sum(w.numel() for w in mlp((1, 8, 8), 10, (16,)).parameters())
    1210
    """
    if not hidden:
        raise UsageError("an MLP needs at least one hidden layer, got none.")
    inputs = image_shape[0] * image_shape[1] * image_shape[2]
    layers: list[nn.Module] = [nn.Flatten()]
    for position, width in enumerate(hidden, 1):
        layers += [
            nn.Linear(inputs, width),
            *_last(width, batch_norm, feature_norm and position == len(hidden)),
        ]
        inputs = width
    return Network(nn.Sequential(*layers), nn.Linear(inputs, classes))


def resnet18(
    image_shape: tuple[int, int, int], classes: int, width: int = 64, feature_norm: bool = False
) -> Network:
    """ResNet-18 for small images: torchvision's residual blocks behind a 3x3 stem at stride 1
    without pooling.

    Args:
        image_shape: (C, H, W), H and W at least 1.
        classes: K, at least 2.
        width: channels of the first of the four stages, doubled in each of the next; D = 8 width.
        feature_norm: whether batch norm follows the pooling, so that features can be negative.
    """
    from torchvision.models.resnet import BasicBlock

    layers: list[nn.Module] = [
        nn.Conv2d(image_shape[0], width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    ]
    inputs = width
    for stage in range(4):
        outputs, stride = width * 2**stage, 1 if stage == 0 else 2
        shortcut = None
        if stage:
            shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )
        layers += [BasicBlock(inputs, outputs, stride, shortcut), BasicBlock(outputs, outputs)]
        inputs = outputs
    return _pooled(layers, inputs, classes, feature_norm)


def resnet50(
    image_shape: tuple[int, int, int], classes: int, width: int = 64, feature_norm: bool = False
) -> Network:
    """ResNet-50 for small images: torchvision's bottleneck blocks [3, 4, 6, 3] behind the same stem
    as `resnet18`.

    Args:
        image_shape, classes, feature_norm: as for `resnet18`.
        width: inner channels of the first stage, doubled in each of the next; the blocks' outputs
            stay 256 to 2048 channels, so D = 2048 for every width (Zhou's WideResNet-50-w: width =
            64 w).
    """
    from torchvision.models.resnet import Bottleneck

    layers: list[nn.Module] = [
        nn.Conv2d(image_shape[0], 64, 3, padding=1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
    ]
    inputs = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        planes, stride = 64 * 2**stage, 1 if stage == 0 else 2
        outputs = 4 * planes
        shortcut = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
        )
        layers.append(Bottleneck(inputs, planes, stride, shortcut, base_width=width))
        layers += [Bottleneck(outputs, planes, base_width=width) for _ in range(blocks - 1)]
        inputs = outputs
    return _pooled(layers, inputs, classes, feature_norm)


def _pooled(layers: list[nn.Module], width: int, classes: int, feature_norm: bool) -> Network:
    """A ResNet's layers with average pooling over all positions, batch norm if asked for, and the
    classifier.
    """
    norm = [nn.BatchNorm1d(width)] if feature_norm else []
    return Network(
        nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), *norm),
        nn.Linear(width, classes),
    )


def initialise(network: Network, generator: torch.Generator) -> Network:
    """Draw all weights and biases from U(-1/sqrt(fan_in), 1/sqrt(fan_in)), torch's own rule
    for linear layers and convolutions (batch norm starts as the identity); returns the network."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            bound = module.weight[0].numel() ** -0.5
            for parameter in filter(
                lambda parameter: parameter is not None, (module.weight, module.bias)
            ):
                nn.init.uniform_(parameter, -bound, bound, generator=generator)
    return network
