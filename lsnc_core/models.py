"""Networks of the companion: a feature extractor and a linear classifier, so that collapse can be measured between them."""

import torch
from torch import nn

from lsnc_core.errors import UsageError

# Chen et al. name "two convolutional and two linear layers" and give no widths. These are ours: patches instead of
# overlapping windows after the first layer, so that many replicas can be trained as a few matrix products.
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


def cnn(image_shape: tuple[int, int, int], classes: int, channels: tuple[int, int] = CNN_CHANNELS, hidden: int = CNN_HIDDEN) -> Network:
    """The 2-convolution, 2-linear network of Chen et al.: 4x4 windows at stride 2, then 2x2 patches, then two linear layers.

    Args:
        image_shape: (C, H, W), H and W at least `CNN_SIDE`.
        classes: K, at least 2.
        channels: output channels of the two convolutions.
        hidden: feature width D, the input of the classifier.

    Raises:
        UsageError: when the images are too small for one 2x2 patch of 4x4 windows.

    >>> sum(w.numel() for w in cnn((1, 14, 14), 10).parameters())
    20514
    """
    colours, height, width = image_shape
    rows, columns = (height - 2) // 2 // 2, (width - 2) // 2 // 2
    if rows < 1 or columns < 1:
        raise UsageError(f"images of {height}x{width} pixels are too small for the CNN: it needs at least {CNN_SIDE}x{CNN_SIDE}.")
    features = nn.Sequential(
        nn.Conv2d(colours, channels[0], 4, stride=2),
        nn.ReLU(),
        nn.Conv2d(channels[0], channels[1], 2, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(channels[1] * rows * columns, hidden),
        nn.ReLU(),
    )
    return Network(features, nn.Linear(hidden, classes))


def lenet(image_shape: tuple[int, int, int], classes: int, channels: tuple[int, int] = (10, 20), hidden: int = 50) -> Network:
    """The usual small CNN of MNIST examples: two 5x5 convolutions, each halved by max-pooling, and two linear layers.

    Args, raises: as for `cnn`; H and W at least `LENET_SIDE`.

    >>> sum(w.numel() for w in lenet((1, 28, 28), 10).parameters())
    21840
    """
    colours, height, width = image_shape
    rows, columns = (((side - 4) // 2 - 4) // 2 for side in (height, width))
    if rows < 1 or columns < 1:
        raise UsageError(f"images of {height}x{width} pixels are too small for the LeNet: it needs at least {LENET_SIDE}x{LENET_SIDE}.")
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


def mlp(image_shape: tuple[int, int, int], classes: int, hidden: tuple[int, ...] = (CNN_HIDDEN,)) -> Network:
    """A multilayer perceptron with ReLU: pixels -> hidden layers -> K logits.

    Args:
        image_shape: (C, H, W).
        classes: K, at least 2.
        hidden: widths of the hidden layers, at least one; the last is the feature width D.

    Raises:
        UsageError: when no hidden layer is asked for.

    >>> sum(w.numel() for w in mlp((1, 8, 8), 10, (16,)).parameters())
    1210
    """
    if not hidden:
        raise UsageError("an MLP needs at least one hidden layer, got none.")
    inputs = image_shape[0] * image_shape[1] * image_shape[2]
    layers: list[nn.Module] = [nn.Flatten()]
    for width in hidden:
        layers += [nn.Linear(inputs, width), nn.ReLU()]
        inputs = width
    return Network(nn.Sequential(*layers), nn.Linear(inputs, classes))


def resnet18(image_shape: tuple[int, int, int], classes: int, width: int = 64) -> Network:
    """ResNet-18 for small images: torchvision's residual blocks behind a 3x3 stem at stride 1 without pooling.

    Args:
        image_shape: (C, H, W), H and W at least 1.
        classes: K, at least 2.
        width: channels of the first of the four stages, doubled in each of the next; D = 8 width.
    """
    from torchvision.models.resnet import BasicBlock

    layers: list[nn.Module] = [nn.Conv2d(image_shape[0], width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    inputs = width
    for stage in range(4):
        outputs, stride = width * 2**stage, 1 if stage == 0 else 2
        shortcut = None
        if stage:
            shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))
        layers += [BasicBlock(inputs, outputs, stride, shortcut), BasicBlock(outputs, outputs)]
        inputs = outputs
    features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Network(features, nn.Linear(inputs, classes))


def initialise(network: Network, generator: torch.Generator) -> Network:
    """Draw all weights and biases from U(-1/sqrt(fan_in), 1/sqrt(fan_in)), torch's own rule
    for linear layers and convolutions (batch norm starts as the identity); returns the network."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            bound = module.weight[0].numel() ** -0.5
            for parameter in filter(lambda parameter: parameter is not None, (module.weight, module.bias)):
                nn.init.uniform_(parameter, -bound, bound, generator=generator)
    return network
