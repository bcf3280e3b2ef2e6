"""Stacked networks against the modules that they are made of."""

import copy

import pytest
import torch
from helpers import a_cnn_spec
from torch import nn

from lsnc_core import labels, models
from lsnc_core.errors import UsageError
from lsnc_core.runs import prepare, replicas

CPU = torch.device("cpu")


# layers


def drawn(network, seed):
    return models.initialise(network, labels.generator(seed, "weights")).double()


@pytest.mark.parametrize(
    "shape", [(1, 14, 14), (1, 28, 28), (3, 32, 32), (1, 9, 11), (2, 6, 6), (1, 7, 16), (1, 8, 8)]
)
def test_stacked_cnn_is_the_modules(shape):
    check_forward([drawn(models.cnn(shape, 7, (4, 6, 11)), seed) for seed in range(3)], shape)


@pytest.mark.parametrize("hidden", [(9,), (12, 5)])
def test_stacked_mlp_is_the_modules(hidden):
    check_forward([drawn(models.mlp((3, 5, 4), 7, hidden), seed) for seed in range(3)], (3, 5, 4))


def test_stacked_layers_with_windows_that_are_not_square():
    def chain():  # 15x16 -> 6x14 -> 3x4 -> 1x2
        first, second, third = (
            nn.Conv2d(2, 3, (4, 3), stride=(2, 1)),
            nn.Conv2d(3, 4, (2, 3), stride=(2, 3)),
            nn.Conv2d(4, 5, (3, 2), (3, 2)),
        )
        features = nn.Sequential(
            first,
            nn.ReLU(),
            second,
            nn.ReLU(),
            third,
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(10, 6),
            nn.ReLU(),
        )
        return models.Network(features, nn.Linear(6, 3))

    check_forward([drawn(chain(), seed) for seed in range(2)], (2, 15, 16))


def check_forward(networks, shape):
    images = torch.randn(5, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert isinstance(replicas.hold(networks, shape, CPU), replicas.Stacked)
    for kind in (replicas.Stacked, replicas.Listed):
        features, found = kind(networks, shape, CPU).forward(images)
        assert found.shape == (len(networks), 5, networks[0].classifier.out_features)
        for replica, network in enumerate(networks):
            torch.testing.assert_close(found[replica], network(images), rtol=1e-10, atol=1e-12)
            torch.testing.assert_close(
                features[replica], network.features(images), rtol=1e-10, atol=1e-12
            )
        assert not torch.allclose(found[0], found[1])


@pytest.mark.parametrize(
    "layers, sentence",
    [
        ([nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Flatten()], "cannot train the layer Conv2d"),
        (
            [nn.Conv2d(1, 2, 3, padding="same"), nn.ReLU(), nn.Flatten()],
            "cannot train the layer Conv2d",
        ),
        (
            [nn.Conv2d(1, 2, 3, dilation=2), nn.ReLU(), nn.Flatten()],
            "cannot train the layer Conv2d",
        ),
        ([nn.Conv2d(2, 2, 3, groups=2), nn.ReLU(), nn.Flatten()], "cannot train the layer Conv2d"),
        (
            [nn.Conv2d(1, 2, 3, bias=False), nn.ReLU(), nn.Flatten()],
            "cannot train the layer Conv2d",
        ),
        (
            [nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3), nn.ReLU(), nn.Flatten()],
            "cannot train the layer Conv2d",
        ),
        (
            [nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3, stride=2), nn.ReLU(), nn.Flatten()],
            "cannot train the layer Conv2d",
        ),
        (
            [nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 4), nn.ReLU()],
            "needs a ReLU after Conv2d",
        ),
        (
            [nn.Conv2d(1, 2, 3), nn.ReLU(), nn.BatchNorm2d(2), nn.Flatten()],
            "needs a ReLU after Conv2d",
        ),
        ([nn.Flatten(), nn.Linear(4, 4), nn.Linear(4, 4)], "needs a ReLU after Linear"),
        ([nn.Flatten(), nn.Linear(4, 4)], "needs a ReLU after Linear"),
        ([nn.Flatten(), nn.Linear(4, 4), nn.Tanh()], "needs a ReLU after Linear"),
        (
            [nn.Flatten(), nn.Linear(4, 4), nn.ReLU(), nn.Dropout()],
            "cannot train the layer Dropout",
        ),
    ],
)
def test_layers_that_cannot_be_stacked_are_refused(layers, sentence):
    network = models.Network(nn.Sequential(*layers), nn.Linear(4, 2))
    with pytest.raises(UsageError, match=sentence) as caught:
        replicas.Stacked([network], (1, 2, 2), CPU)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
    assert isinstance(replicas.hold([network], (1, 2, 2), CPU), replicas.Listed)


@pytest.mark.parametrize(
    "width, device, layout",
    [
        (2, "cpu", torch.contiguous_format),
        (15, "cpu", torch.contiguous_format),
        (16, "cpu", torch.channels_last),
        (2, "meta", torch.channels_last),
    ],
)
def test_narrow_shortcuts_keep_their_channels_apart_on_a_cpu(width, device, layout):
    # in channels last, oneDNN without AVX-512 writes past a buffer there
    network = models.resnet18((1, 8, 8), 10, (width,))
    listed = replicas.Listed([network], (1, 8, 8), torch.device(device))
    (weights,) = [
        layer.weight
        for layer in listed.networks[0].modules()
        if isinstance(layer, nn.Conv2d) and layer.in_channels == width and layer.stride == (2, 2)
        if layer.kernel_size == (3, 3)
    ]
    assert listed.memory_format == layout
    assert weights.is_contiguous(memory_format=layout)


def test_images_of_one_channel_have_the_strides_of_their_format():
    # as cropping leaves them: contiguous in both formats by name, channels last by their strides
    images = torch.rand(4, 8, 8, 1).permute(0, 3, 1, 2)
    listed = replicas.Listed([models.resnet18((1, 8, 8), 10, (2,))], (1, 8, 8), torch.device("cpu"))
    seen = []
    listed.networks[0].register_forward_pre_hook(lambda _, given: seen.append(given[0].stride()))
    first = next(one for one in listed.networks[0].modules() if isinstance(one, nn.Conv2d))
    first.register_forward_pre_hook(lambda _, given: seen.append(given[0].stride()))
    listed.forward(images)
    assert set(seen) == {(64, 64, 8, 1)}


def test_batch_norm_is_the_same_stacked_and_listed():
    shape = (1, 14, 14)
    networks = [
        prepare.build(a_cnn_spec(seed=seed, batch_norm=True), shape, 10) for seed in range(3)
    ]
    assert isinstance(replicas.hold(networks, shape, CPU), replicas.Stacked)
    x = torch.randn(20, *shape, generator=torch.Generator().manual_seed(0))
    stacked, listed = (
        kind(copy.deepcopy(networks), shape, CPU) for kind in (replicas.Stacked, replicas.Listed)
    )
    for training in (True, True, False):
        stacked.train(training)
        listed.train(training)
        for one, other in zip(stacked.forward(x), listed.forward(x), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
        x = 2 * x + 1
    theirs = [
        module
        for module in listed.networks[1].modules()
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
    ]
    for mean, var, norm in zip(stacked.buffers[::2], stacked.buffers[1::2], theirs, strict=True):
        torch.testing.assert_close(mean[1], norm.running_mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(var[1], norm.running_var, rtol=1e-4, atol=1e-5)
