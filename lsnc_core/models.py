"""Networks: a feature extractor and a linear classifier, so that collapse can be measured between.

Every model is one function (image_shape, classes, widths, ...) -> Network, listed in `MODELS`.
"""

import torch
from torch import nn

from lsnc_core.errors import UsageError, needs_companion

# Chen et al. name "two convolutional and two linear layers" and give no widths. These are ours:
# patches instead of overlapping windows after the first layer, so that many replicas can be trained
# as a few matrix products.
CNN_WIDTHS = (8, 16, 128)
CNN_SIDE = 6  # the smallest image side that leaves one patch of the second convolution
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
    widths: tuple[int, int, int] = CNN_WIDTHS,
    batch_norm: bool = False,
    feature_norm: bool = False,
) -> Network:
    """The network of Chen et al. with two convolutions and two linear layers.

    The convolutions see 4x4 windows at stride 2, then 2x2 patches.

    Args:
        image_shape: (C, H, W), H and W at least `CNN_SIDE`.
        classes: K, at least 2.
        widths: output channels of the two convolutions, and the feature width D.
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
            f"images of {height}x{width} pixels are too small for the CNN: "
            f"it needs at least {CNN_SIDE}x{CNN_SIDE}."
        )
    first, second, hidden = widths
    layers: list[nn.Module] = []
    for layer in (
        nn.Conv2d(colours, first, 4, stride=2),
        nn.Conv2d(first, second, 2, stride=2),
    ):
        layers += [layer, *([nn.BatchNorm2d(layer.out_channels)] if batch_norm else []), nn.ReLU()]
    layers += [
        nn.Flatten(),
        nn.Linear(second * rows * columns, hidden),
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
    widths: tuple[int, int, int] = (10, 20, 50),
) -> Network:
    """The usual small CNN of MNIST examples: two 5x5 convolutions and two linear layers.

    Max-pooling halves the image after each convolution.

    Args, raises: as for `cnn`; H and W at least `LENET_SIDE`.

    >>> sum(w.numel() for w in lenet((1, 28, 28), 10).parameters())
    21840
    """
    colours, height, width = image_shape
    rows, columns = (((side - 4) // 2 - 4) // 2 for side in (height, width))
    if rows < 1 or columns < 1:
        raise UsageError(
            f"images of {height}x{width} pixels are too small for the LeNet: "
            f"it needs at least {LENET_SIDE}x{LENET_SIDE}."
        )
    first, second, hidden = widths
    features = nn.Sequential(
        nn.Conv2d(colours, first, 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(first, second, 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(second * rows * columns, hidden),
        nn.ReLU(),
    )
    return Network(features, nn.Linear(hidden, classes))


def mlp(
    image_shape: tuple[int, int, int],
    classes: int,
    widths: tuple[int, ...] = (128,),
    batch_norm: bool = False,
    feature_norm: bool = False,
) -> Network:
    """A multilayer perceptron with ReLU: pixels -> hidden layers -> K logits.

    Args:
        image_shape: (C, H, W).
        classes: K, at least 2.
        widths: of the hidden layers, at least one; the last is the feature width D.
        batch_norm, feature_norm: as for `cnn`.

    Raises:
        UsageError: when there is no hidden layer.

    >>> sum(w.numel() for w in mlp((1, 8, 8), 10, (16,)).parameters())
    1210
    """
    if not widths:
        raise UsageError("an MLP needs at least one hidden layer, got none.")
    inputs = image_shape[0] * image_shape[1] * image_shape[2]
    layers: list[nn.Module] = [nn.Flatten()]
    for position, width in enumerate(widths, 1):
        layers += [
            nn.Linear(inputs, width),
            *_last(width, batch_norm, feature_norm and position == len(widths)),
        ]
        inputs = width
    return Network(nn.Sequential(*layers), nn.Linear(inputs, classes))


def resnet18(
    image_shape: tuple[int, int, int],
    classes: int,
    widths: tuple[int] = (64,),
    feature_norm: bool = False,
) -> Network:
    """ResNet-18 for small images: a 3x3 stem at stride 1 without pooling, torchvision's blocks.

    Args:
        image_shape: (C, H, W), H and W at least 1.
        classes: K, at least 2.
        widths: channels of the first of four stages, doubled in each of the next; D is 8 times it.
        feature_norm: whether batch norm follows the pooling, so that features can be negative.
    """
    needs_companion("the model resnet18", "torchvision")
    from torchvision.models.resnet import BasicBlock

    (width,) = widths
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
    image_shape: tuple[int, int, int],
    classes: int,
    widths: tuple[int] = (64,),
    feature_norm: bool = False,
) -> Network:
    """ResNet-50 for small images: the stem of `resnet18`, torchvision's bottleneck blocks.

    Args:
        image_shape, classes, feature_norm: as for `resnet18`.
        widths: inner channels of the first of four stages, doubled in each of the next. The
            blocks' outputs stay 256 to 2048 channels, so D = 2048 for every width (64 w for Zhou's
            WideResNet-50-w).
    """
    needs_companion("the model resnet50", "torchvision")
    from torchvision.models.resnet import Bottleneck

    (width,) = widths
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
    """Append average pooling over all positions, batch norm where asked for, and the classifier."""
    norm = [nn.BatchNorm1d(width)] if feature_norm else []
    return Network(
        nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), *norm),
        nn.Linear(width, classes),
    )


# The names that `RunSpec.model` takes. The cache key holds only the entry that a run names.
MODELS = {"cnn": cnn, "lenet": lenet, "mlp": mlp, "resnet18": resnet18, "resnet50": resnet50}


def build(
    name: str,
    image_shape: tuple[int, int, int],
    classes: int,
    widths: tuple[int, ...],
    **options: bool,
) -> Network:
    """Build the network of that name, one of `MODELS`.

    Args:
        name, image_shape, classes, widths: as for the function of that name.
        options: `batch_norm` or `feature_norm`, where the function knows them.

    Raises:
        UsageError: when there is no such model, and as the function.
    """
    if name not in MODELS:
        raise UsageError(f"there is no model {name!r}: there are {', '.join(MODELS)}.")
    return MODELS[name](image_shape, classes, widths, **options)


def draw_uniform(network: Network, generator: torch.Generator) -> None:
    """Draw all weights and biases from U(-1/sqrt(fan_in), 1/sqrt(fan_in)).

    This is torch's own rule for linear layers and convolutions. Batch norm starts as the identity.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            bound = module.weight[0].numel() ** -0.5
            for parameter in filter(
                lambda parameter: parameter is not None, (module.weight, module.bias)
            ):
                nn.init.uniform_(parameter, -bound, bound, generator=generator)


def draw_torchvision(network: Network, generator: torch.Generator) -> None:
    """Draw the weights as torchvision's ResNets whose stem was replaced do.

    Convolutions are from N(0, 2/fan_out). The stem, which replaces torchvision's after its weights
    were drawn, and the classifier follow torch's own rule, see `draw_uniform`.
    """
    draw_uniform(network, generator)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    for module in convolutions[1:]:
        nn.init.kaiming_normal_(
            module.weight, mode="fan_out", nonlinearity="relu", generator=generator
        )


# The names that `RunSpec.init` takes. The cache key holds only the entry that a run names.
INITIALISATIONS = {"torch": draw_uniform, "torchvision": draw_torchvision}


def initialise(network: Network, generator: torch.Generator, rule: str = "torch") -> Network:
    """Draw all weights and biases by a rule, one of `INITIALISATIONS`; return the network.

    Raises:
        UsageError: when there is no such rule.
    """
    if rule not in INITIALISATIONS:
        raise UsageError(
            f"there is no initialisation {rule!r}: there are {', '.join(INITIALISATIONS)}."
        )
    INITIALISATIONS[rule](network, generator)
    return network
