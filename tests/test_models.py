"""Networks against hand-counted shapes and torch's own initial distribution."""

import itertools
import math

import numpy as np
import pytest
import torch
import torchvision
from scipy import stats
from torch import nn

from lsnc_core import labels, models
from lsnc_core.errors import UsageError

# networks


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    "shape", [(1, 14, 14), (1, 28, 28), (3, 32, 32), (2, 9, 11), (1, 6, 6), (1, 8, 8), (3, 7, 13)]
)
def test_cnn_shapes_parameters_and_split(shape):
    C, H, W = shape
    first, second, hidden, K = 3, 5, 7, 4
    network = models.cnn(shape, K, (first, second, hidden))
    # 4x4 windows at stride 2 start at 0, 2, .. while they fit; 2x2 patches drop an odd row or
    # column
    positions = math.prod(len(range(0, size - 3, 2)) // 2 for size in (H, W))
    expected = (
        first * (16 * C + 1)
        + second * (4 * first + 1)
        + hidden * (second * positions + 1)
        + K * (hidden + 1)
    )
    assert count(network) == expected
    images = torch.randn(6, *shape)
    features = network.features(images)
    assert features.shape == (6, hidden) and (features >= 0).all()
    assert network(images).shape == (6, K)
    assert torch.equal(network(images), network.classifier(features))
    assert isinstance(network.classifier, nn.Linear) and network.classifier.bias is not None


@pytest.mark.parametrize("hidden", [(5,), (6, 5), (4, 3, 2)])
def test_mlp_shapes_parameters_and_split(hidden):
    network = models.mlp((3, 4, 5), 7, hidden)
    widths = (60, *hidden, 7)
    assert count(network) == sum(out * (into + 1) for into, out in itertools.pairwise(widths))
    images = torch.randn(2, 3, 4, 5)
    assert network.features(images).shape == (2, hidden[-1]) and network(images).shape == (2, 7)
    assert torch.equal(network(images), network.classifier(network.features(images)))


@pytest.mark.parametrize("shape", [(1, 5, 28), (1, 28, 5), (3, 4, 4), (1, 1, 1)])
def test_too_small_images_are_refused(shape):
    with pytest.raises(
        UsageError,
        match=f"images of {shape[1]}x{shape[2]} pixels .* the CNN: it needs at least 6x6",
    ):
        models.cnn(shape, 10)


def test_an_mlp_without_hidden_layers_is_refused():
    with pytest.raises(UsageError, match="at least one hidden layer, got none"):
        models.mlp((1, 8, 8), 10, ())


def weights(network):
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def test_initialise_depends_on_its_generator_alone():
    def drawn(seed):
        return weights(
            models.initialise(models.cnn((1, 14, 14), 10), labels.generator(seed, "weights"))
        )

    torch.manual_seed(1)
    first = drawn(0)
    torch.manual_seed(2)
    torch.rand(17)
    assert torch.equal(drawn(0), first)
    assert (drawn(1) != first).float().mean() > 0.99
    network = models.mlp((1, 8, 8), 10, (16,))
    before = torch.get_rng_state()
    assert models.initialise(network, labels.generator(0, "weights")) is network
    assert torch.equal(torch.get_rng_state(), before)


def of_torchvision(name, classes):
    """torchvision's network with the stem that Guo's released code puts in."""
    network = getattr(torchvision.models, name)(num_classes=classes)
    network.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
    return network


def layers(network, kind):
    return [module for module in network.modules() if isinstance(module, kind)]


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_resnets_can_start_as_torchvisions_do(name):
    def ours(seed, rule):
        draw = labels.generator(seed, "weights")
        return models.initialise(models.build(name, (3, 32, 32), 100, (64,)), draw, rule)

    torch.manual_seed(0)
    theirs, network = of_torchvision(name, 100), ours(0, "torchvision")
    for kind in (nn.Conv2d, nn.Linear):
        pairs = list(zip(layers(theirs, kind), layers(network, kind), strict=True))
        # where a block changes the shape, torchvision lists its shortcut last, and so do we
        assert [one.weight.shape for one, _ in pairs] == [two.weight.shape for _, two in pairs]
        for one, two in pairs:
            count = one.weight.numel()
            spread = (two.weight.std() / one.weight.std()).item()
            assert abs(spread - 1) < 5 * count**-0.5, two  # of a ratio of normals: 1 / sqrt(count)
            assert abs(two.weight.mean()) < 5 * two.weight.std() * count**-0.5
            # normal: 4.55 % beyond two deviations; uniform: none
            far = (two.weight.abs() > 2 * one.weight.std()).double().mean()
            if kind is nn.Conv2d and two is not pairs[0][1]:
                assert far == pytest.approx(0.0455, abs=5 * (0.0455 / count) ** 0.5)
            else:
                assert far == 0
    for norm in layers(network, nn.BatchNorm2d):
        assert (norm.weight == 1).all() and (norm.bias == 0).all()
    assert torch.equal(weights(ours(0, "torchvision")), weights(network))
    assert not torch.equal(weights(ours(1, "torchvision")), weights(network))
    # torch's rule draws convolutions of a smaller deviation
    deep = layers(ours(0, "torch"), nn.Conv2d)[1].weight.std()
    assert deep < 0.7 * layers(network, nn.Conv2d)[1].weight.std()


def test_an_unknown_initialisation_is_refused():
    with pytest.raises(UsageError, match="no initialisation 'he': there are torch, torchvision"):
        models.initialise(models.mlp((1, 8, 8), 10, (16,)), torch.Generator(), "he")


def test_initial_weights_have_torchs_own_distribution():
    torch.manual_seed(0)
    of_torch = models.cnn((3, 14, 14), 10)  # as its layers initialise themselves
    ours = models.initialise(models.cnn((3, 14, 14), 10), labels.generator(3, "weights"))
    scaled = {"torch": [], "ours": []}
    for name, network in (("torch", of_torch), ("ours", ours)):
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                fan_in = (
                    layer.in_features
                    if isinstance(layer, nn.Linear)
                    else layer.in_channels * math.prod(layer.kernel_size)
                )
                for parameter in (layer.weight, layer.bias):
                    scaled[name].append((parameter.detach().flatten() * fan_in**0.5).numpy())
    for name, parts in scaled.items():
        assert max(np.abs(part).max() for part in parts) <= 1 + 1e-6, name
        for part in parts:
            assert stats.kstest(part, stats.uniform(-1, 2).cdf).pvalue > 1e-3, name
    assert len(scaled["ours"]) == 8


def test_torchvisions_resnet_has_as_many_parameters():
    import torchvision

    with torch.device("meta"):
        ours, theirs = models.resnet18((3, 32, 32), 10), torchvision.models.resnet18(num_classes=10)
        theirs.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    assert count(ours) == count(theirs) == 11_173_962


@pytest.mark.parametrize("width, expected", [(64, 23_520_842), (16, None), (128, None)])
def test_a_resnet_50_is_torchvisions_but_for_its_stem(width, expected):
    import torchvision
    from torchvision.models.resnet import Bottleneck, ResNet

    with torch.device("meta"):
        ours = models.resnet50((3, 32, 32), 10, (width,))
        theirs = ResNet(Bottleneck, [3, 4, 6, 3], num_classes=10, width_per_group=width)
        theirs.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    assert torchvision.models.resnet50 is not None and ours.classifier.in_features == 2048
    assert count(ours) == count(theirs) and expected in (None, count(ours))
