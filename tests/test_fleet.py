"""The stacked trainer against plain PyTorch: the same layers, the same steps, the same numbers,
written out here with nn.Module.
"""

import copy
import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import log_softmax, logsumexp
from torch import nn

from lsnc_core import data, images, labels, losses, models
from lsnc_core.errors import UsageError
from lsnc_core.runs import fleet, measure, prepare, replicas
from lsnc_core.runs.spec import RunSpec
from lsnc_core.runs.statistics import ClassStatistics

CPU = torch.device("cpu")
SPEC = RunSpec(
    data="digits",
    train_size=60,
    test_size=50,
    pool=1,
    model="cnn",
    widths=(4, 6, 16),
    a=0.7,
    p=0.8,
    lr=0.05,
    momentum=0.9,
    weight_decay=0.0,
    batch=13,
    epochs=5,
    evaluate_at=(1, 5),
    seed=3,
    order_seed=11,
)
MEASURED = [
    f"{part}_{name}"
    for part in ("clean_train", "test")
    for name in ("loss", "accuracy", "uniform_loss")
]


def like(**changes):
    return dataclasses.replace(SPEC, **changes)


def train(*arguments, **named):
    """Histories alone: mappings that can be compared."""
    return [trained.history for trained in fleet.train(*arguments, **named)]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LSNC_OUTPUTS", str(tmp_path_factory.mktemp("outputs")))
        yield data.load("digits")


# layers


def drawn(network, seed):
    return models.initialise(network, labels.generator(seed, "weights")).double()


@pytest.mark.parametrize(
    "shape", [(1, 14, 14), (1, 28, 28), (3, 32, 32), (1, 9, 11), (2, 6, 6), (1, 7, 16), (1, 8, 8)]
)
def test_stacked_cnn_is_the_modules(shape):
    check_forward([drawn(models.cnn(shape, 7, (4, 6), 11), seed) for seed in range(3)], shape)


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


def test_a_network_is_that_of_its_seed():
    first, again, other = (
        torch.cat([w.flatten() for w in prepare.build(like(seed=s), (1, 8, 8), 10).parameters()])
        for s in (0, 0, 1)
    )
    assert torch.equal(first, again) and (first != other).float().mean() > 0.99
    order_and_noise = prepare.build(like(seed=0, order_seed=5, a=0.1, p=0.2), (1, 8, 8), 10)
    assert torch.equal(first, torch.cat([w.flatten() for w in order_and_noise.parameters()]))


# training against plain PyTorch


def plain(spec, image_set):
    """One network, trained as anybody would: losses of all steps, and the numbers after the last
    epoch.
    """
    N, K = spec.train_size, 10
    pixels = [
        images[:count].float() / 255
        for images, count in ((image_set.train_images, N), (image_set.test_images, spec.test_size))
    ]
    if spec.pool > 1:
        pixels = [F.avg_pool2d(images, spec.pool) for images in pixels]
    mean, deviation = pixels[0].mean(), pixels[0].std(correction=0)
    x, x_test = ((images - mean) / deviation for images in pixels)
    y, y_test = image_set.train_labels[:N], image_set.test_labels[: spec.test_size]
    noisy = labels.corrupt(y, labels.symmetric_noise(spec.a, K), spec.seed)
    onehot = F.one_hot(noisy, K).float()
    targets = spec.p * onehot + (1 - spec.p) / (K - 1) * (1 - onehot)

    side = x.shape[-1]
    if spec.model == "cnn":
        c, d, width = spec.widths
        cells = (((side - 4) // 2 + 1) // 2) ** 2
        chain = [
            nn.Conv2d(1, c, 4, stride=2),
            nn.ReLU(),
            nn.Conv2d(c, d, 2, stride=2),
            nn.ReLU(),
            nn.Flatten(),
        ]
        chain += [nn.Linear(d * cells, width), nn.ReLU(), nn.Linear(width, K)]
    else:
        widths = (side * side, *spec.widths)
        chain = [nn.Flatten()]
        for into, out in itertools.pairwise(widths):
            chain += [nn.Linear(into, out), nn.ReLU()]
        chain += [nn.Linear(widths[-1], K)]
    network = nn.Sequential(*chain)
    draws = labels.generator(spec.seed, "weights")
    with torch.no_grad():
        for layer in network:
            if hasattr(layer, "weight"):
                bound = 1 / math.sqrt(layer.weight[0].numel())
                layer.weight.uniform_(-bound, bound, generator=draws)
                layer.bias.uniform_(-bound, bound, generator=draws)

    optimizer = torch.optim.SGD(
        network.parameters(), lr=spec.lr, momentum=spec.momentum, weight_decay=spec.weight_decay
    )
    order = labels.generator(spec.order_seed, "order")
    step_losses = []
    for _ in range(spec.epochs):
        shuffled = torch.randperm(N, generator=order)
        for start in range(0, N, spec.batch):
            rows = shuffled[start : start + spec.batch]
            loss = F.cross_entropy(network(x[rows]), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step_losses.append(loss.item())
    network.eval()
    with torch.no_grad():
        logits, test_logits = network(x), network(x_test)
        uniform = torch.full((1, K), 1 / K)
        final = {
            "epoch": spec.epochs,
            "kept": (noisy == y).float().mean().item(),
            "train_loss": F.cross_entropy(logits, targets).item(),
            "train_accuracy": (logits.argmax(1) == noisy).float().mean().item(),
            "train_smoothed_loss": F.cross_entropy(logits, targets).item(),
            "train_forward_loss": -(targets * logits.softmax(1)).sum(1).log().mean().item(),
            "clean_train_loss": F.cross_entropy(logits, y).item(),
            "clean_train_accuracy": (logits.argmax(1) == y).float().mean().item(),
            "clean_train_uniform_loss": F.cross_entropy(logits, uniform.expand(N, K)).item(),
            "test_loss": F.cross_entropy(test_logits, y_test).item(),
            "test_accuracy": (test_logits.argmax(1) == y_test).float().mean().item(),
            "test_uniform_loss": F.cross_entropy(
                test_logits, uniform.expand(len(y_test), K)
            ).item(),
        }
    return step_losses, final


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"weight_decay": 0.05, "momentum": 0.0},
        {"model": "mlp", "widths": (20,), "a": 0.5, "p": 0.3},
        {
            "model": "mlp",
            "widths": (20, 12),
            "pool": 2,
            "batch": 60,
            "epochs": 20,
            "evaluate_at": (20,),
            "a": 1.0,
            "p": 1.0,
        },
    ],
    ids=["cnn", "cnn with weight decay", "mlp", "two layers, pooled, whole batch, clean"],
)
def test_one_replica_is_plain_pytorch(digits, steps, changes):
    spec = like(**changes)
    (history,) = train([spec], digits, CPU)
    step_losses, final = plain(spec, digits)
    assert len(steps) == len(step_losses) == spec.epochs * math.ceil(spec.train_size / spec.batch)
    found = torch.stack(steps)[:, 0].tolist()
    np.testing.assert_allclose(found[:20], step_losses[:20], rtol=1e-5)
    assert history[-1].keys() == final.keys() and [row["epoch"] for row in history] == list(
        spec.evaluate_at
    )
    for name, value in final.items():
        assert history[-1][name] == pytest.approx(value, rel=2e-4, abs=1e-6), name


@pytest.mark.parametrize("momentum, weight_decay", [(0.9, 0.0), (0.0, 0.0), (0.5, 0.02)])
def test_steps_are_those_of_torchs_sgd(momentum, weight_decay):
    spec = like(momentum=momentum, weight_decay=weight_decay)
    generator = torch.Generator().manual_seed(0)
    ours = [torch.randn(shape, generator=generator) for shape in ((3, 4, 5), (3, 4, 1))]
    torchs = [parameter.clone().requires_grad_() for parameter in ours]
    velocities = [torch.zeros_like(parameter) for parameter in ours]
    optimizer = torch.optim.SGD(
        torchs, lr=spec.lr, momentum=momentum, weight_decay=weight_decay, foreach=False
    )
    for _ in range(5):
        gradients = [torch.randn(parameter.shape, generator=generator) for parameter in ours]
        for parameter, gradient in zip(torchs, gradients, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
        rates, decays = ([torch.full((3, 1, 1), value)] * 2 for value in (spec.lr, weight_decay))
        fleet.sgd_step(
            ours, gradients, velocities, rates, decays if weight_decay else None, momentum
        )
        for one, other in zip(ours, torchs, strict=True):
            torch.testing.assert_close(one, other.detach(), rtol=1e-6, atol=1e-7)


def test_replicas_of_one_fleet_may_have_different_losses(digits, steps):
    company = [
        like(loss=loss, seed=seed)
        for loss, seed in (("mse", 3), ("ce", 3), ("focal", 3), ("ce", 4))
    ]
    company = [
        dataclasses.replace(spec, lr=0.002 if spec.loss == "mse" else 0.05) for spec in company
    ]
    together, in_company = train(company, digits, CPU), torch.stack(steps)
    for replica, spec in enumerate(company):
        steps.clear()
        (alone,) = train([spec], digits, CPU)
        np.testing.assert_allclose(in_company[:20, replica], torch.stack(steps)[:20, 0], rtol=1e-5)
        assert alone[-1]["train_loss"] == pytest.approx(
            together[replica][-1]["train_loss"], rel=1e-3
        )
    # the loss of the first step is that of the initial network, by its formula
    network = prepare.build(company[0], (1, 8, 8), 10)
    x, _ = images.standardise(digits.subset(60, 50))
    noisy = labels.corrupt(digits.train_labels[:60], labels.symmetric_noise(SPEC.a, 10), 3)
    rows = torch.randperm(60, generator=labels.generator(SPEC.order_seed, "order"))[:13]
    q, y = network(x[rows]).softmax(1), labels.soft_targets(noisy[rows], SPEC.p, 10)
    expected = {
        "mse": (network(x[rows]) - 15 * y).square().mean(),
        "ce": -(y * q.log()).sum(1).mean(),
    }
    expected["focal"] = -(y * (1 - q) ** 3 * q.log()).sum(1).mean()
    for replica in range(3):
        assert in_company[0, replica].item() == pytest.approx(
            expected[company[replica].loss].item(), rel=1e-5
        )


@pytest.mark.parametrize("model, widths", [("cnn", (4, 6, 16)), ("mlp", (20,)), ("resnet18", (2,))])
def test_bfloat16_training_follows_float32_and_is_evaluated_in_float32(
    digits, steps, model, widths
):
    spec = like(
        model=model, widths=widths, train_size=40, batch=20, epochs=3, evaluate_at=(3,), lr=0.005
    )
    full = fleet.train([spec], digits, CPU)[0]
    exact = torch.stack(steps)[:, 0]
    steps.clear()
    half = fleet.train([dataclasses.replace(spec, precision="bfloat16")], digits, CPU)[0]
    rounded = torch.stack(steps)[:, 0]
    assert (exact != rounded).all() and torch.allclose(exact, rounded, rtol=0.05)
    assert half.tensors[-1]["weight"].dtype == np.float32
    logits = torch.from_numpy(half.tensors[-1]["test_logits"])
    assert (logits != logits.bfloat16().float()).float().mean() > 0.5  # not of eight bits
    assert half.history[-1]["test_loss"] == pytest.approx(full.history[-1]["test_loss"], rel=0.1)


def test_a_lenet_is_the_usual_one(steps):
    spec = like(data="mnist-subset", model="lenet", widths=(10, 20, 50), epochs=1, evaluate_at=(1,))
    mnist = data.load("mnist-subset")
    train([spec], mnist, CPU)
    x, _ = images.standardise(mnist.subset(60, 50))
    noisy = labels.corrupt(mnist.train_labels[:60], labels.symmetric_noise(SPEC.a, 10), 3)
    rows = torch.randperm(60, generator=labels.generator(SPEC.order_seed, "order"))[:13]
    with torch.random.fork_rng():
        w = [weight.detach() for weight in prepare.build(spec, (1, 28, 28), 10).parameters()]
    h = F.relu(F.max_pool2d(F.conv2d(x[rows], w[0], w[1]), 2))
    h = F.relu(F.max_pool2d(F.conv2d(h, w[2], w[3]), 2)).flatten(1)
    logits = F.linear(F.relu(F.linear(h, w[4], w[5])), w[6], w[7])
    assert steps[0][0].item() == pytest.approx(
        F.cross_entropy(logits, labels.soft_targets(noisy[rows], SPEC.p, 10)).item(), rel=1e-5
    )


def resnet_spec(**changes):
    return like(
        **{
            "model": "resnet18",
            "widths": (2,),
            "lr": 0.02,
            "epochs": 2,
            "evaluate_at": (1, 2),
            "train_size": 40,
            "batch": 20,
            **changes,
        }
    )


def reference(spec, image_set):
    """Step losses and the trained network, as torch's own optimiser, schedulers and clipping make
    them, one step after the other.
    """
    chosen = image_set.subset(spec.train_size + spec.validation_size, spec.test_size)
    x, _ = images.standardise(chosen, spec.pool)
    x, clean = x[: spec.train_size], chosen.train_labels[: spec.train_size]
    noisy = labels.corrupt(clean, labels.noise_matrix(spec.noise, spec.a, 10), spec.seed)
    y = labels.soft_targets(noisy, spec.p, 10)
    network = prepare.build(spec, tuple(x.shape[1:]), 10)
    head = list(network.classifier.parameters())
    body = [w for w in network.parameters() if all(w is not own for own in head)]
    groups = [{"params": body, "weight_decay": spec.weight_decay}]
    groups += [
        {"params": [w], "weight_decay": spec.weight_decay + own}
        for w, own in zip(head, (spec.lambda_W, spec.lambda_b), strict=True)
    ]
    optimizer = torch.optim.SGD(groups, lr=spec.lr, momentum=spec.momentum)
    scheduler = {
        "constant": lambda: torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1.0),
        "steps": lambda: torch.optim.lr_scheduler.MultiStepLR(
            optimizer, list(spec.lr_steps), spec.lr_factor
        ),
        "cosine": lambda: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, spec.epochs),
    }[spec.schedule]()
    order, step_losses = labels.generator(spec.order_seed, "order"), []
    for _ in range(spec.epochs):
        network.train()
        for rows in torch.randperm(spec.train_size, generator=order).split(spec.batch):
            batch = x[rows]
            if spec.augment == "crop-flip":
                top, left, flip = images.crops_and_flips(len(rows), order)
                side, padded = x.shape[-1], F.pad(batch, [4, 4, 4, 4])
                batch = torch.stack(
                    [
                        padded[n, :, t : t + side, u : u + side]
                        for n, (t, u) in enumerate(zip(top, left, strict=True))
                    ]
                )
                batch = torch.stack(
                    [
                        image.flip(-1) if turned else image
                        for image, turned in zip(batch, flip, strict=True)
                    ]
                )
            h = network.features(batch)
            loss = losses.LOSSES[spec.loss](network.classifier(h), y[rows]).mean()
            step_losses.append(loss.item())
            optimizer.zero_grad()
            (loss + spec.lambda_H / 2 * spec.train_size / len(rows) * h.square().sum()).backward()
            if spec.clip:
                nn.utils.clip_grad_norm_(network.parameters(), spec.clip)
            optimizer.step()
        scheduler.step()
    return step_losses, network.eval()


# 14x14 images: all 6x6 windows belong to a patch
PATCHES_FIT = {"data": "mnist-subset", "pool": 2}
TRAINING = {
    "batch norm in the CNN": {"batch_norm": True, **PATCHES_FIT},
    "batch norm in a CNN that leaves out positions": {"batch_norm": True},
    "batch norm in the MLP": {
        "model": "mlp",
        "widths": (20, 12),
        "batch_norm": True,
        "weight_decay": 1e-2,
    },
    "batch norm of the features": {"feature_norm": True, "batch_norm": True, **PATCHES_FIT},
    "batch norm of the features of a ResNet": {
        "model": "resnet18",
        "widths": (2,),
        "feature_norm": True,
    },
    "rate in steps": {"schedule": "steps", "lr_steps": (1, 3), "lr_factor": 0.3},
    "cosine": {"schedule": "cosine"},
    "clipped": {"clip": 0.2},
    "clipped ResNet": {"model": "resnet18", "widths": (2,), "clip": 0.2},
    "Theorem 1": {
        "feature_norm": True,
        "batch_norm": True,
        **PATCHES_FIT,
        "lambda_W": 0.05,
        "lambda_b": 0.3,
        "lambda_H": 1e-3,
    },
    "Theorem 1, ResNet": {
        "model": "resnet18",
        "widths": (2,),
        "feature_norm": True,
        "lr": 0.005,
        "lambda_W": 0.05,
        "lambda_b": 0.3,
        "lambda_H": 1e-3,
    },
    "augmented": {"augment": "crop-flip"},
    "augmented ResNet": {"model": "resnet18", "widths": (2,), "augment": "crop-flip"},
    "pair noise": {"noise": "pair", "a": 0.6},
    "with validation": {"validation_size": 30},
}


@pytest.mark.parametrize("changes", TRAINING.values(), ids=TRAINING)
def test_every_way_of_training_is_that_of_torch(digits, steps, changes):
    spec = like(
        **{"epochs": 4, "evaluate_at": (4,), "lr": 0.02, "train_size": 52, "clip": 0.0} | changes
    )
    image_set = data.load(spec.data)
    trained = fleet.train([spec, dataclasses.replace(spec, seed=5, a=0.9)], image_set, CPU)[0]
    step_losses, network = reference(spec, image_set)
    # batch norm over few positions amplifies rounding from step to step; a wrong rule shows in the
    # first ones
    same, close = (8, 2e-2) if spec.model == "resnet18" else (16, 1e-3)
    np.testing.assert_allclose(torch.stack(steps)[:same, 0], step_losses[:same], rtol=1e-4)
    np.testing.assert_allclose(torch.stack(steps)[:16, 0], step_losses, rtol=close)
    chosen = image_set.subset(spec.train_size + spec.validation_size, spec.test_size)
    x, x_test = images.standardise(chosen, spec.pool)
    with torch.no_grad():
        expected = F.cross_entropy(network(x_test), chosen.test_labels).item()
        assert trained.history[-1]["test_loss"] == pytest.approx(expected, rel=close)
        if spec.validation_size:
            held = slice(spec.train_size, None)
            expected = F.cross_entropy(network(x[held]), chosen.train_labels[held]).item()
            assert trained.history[-1]["validation_loss"] == pytest.approx(expected, rel=1e-3)
            assert trained.tensors[-1]["validation_logits"].shape == (30, 10)


def test_batch_norm_is_the_same_stacked_and_listed():
    shape = (1, 14, 14)
    networks = [prepare.build(like(seed=seed, batch_norm=True), shape, 10) for seed in range(3)]
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


def test_features_are_kept_at_the_epochs_asked_for(digits):
    spec = like(keep_at=(1,), validation_size=30)
    first, last = fleet.train([spec], digits, CPU)[0].tensors
    assert first["test_features"].shape == (50, 16) and first["validation_logits"].shape == (30, 10)
    assert not {"train_features", "validation_features", "train_logits"} & set(first)
    logits = first["test_features"] @ first["weight"].T + first["bias"]
    np.testing.assert_allclose(first["test_logits"], logits, rtol=1e-4, atol=1e-5)
    assert "test_features" not in last and last["train_logits"].shape == (60, 10)
    truth = digits.test_labels[:50].numpy()
    means = np.stack([first["test_features"][truth == k].mean(0) for k in range(10)])
    np.testing.assert_allclose(first["test_means"], means, rtol=1e-4, atol=1e-6)


def test_targets_of_every_smoothing_and_correction():
    noisy, K, a = torch.tensor([0, 3, 9, 3]), 10, 0.7
    for noise in labels.NOISES:
        T = labels.noise_matrix(noise, a, K)
        joint = T / K  # P(noisy i, clean j) under uniform classes
        best = prepare.targets(like(noise=noise, a=a, p=1.0, smoothing="posterior"), noisy, K)
        np.testing.assert_allclose(
            best, [joint[i] / joint[i].sum() for i in noisy], rtol=1e-6, atol=1e-9
        )
        forward = prepare.targets(like(noise=noise, a=a, loss="forward"), noisy, K)
        np.testing.assert_allclose(forward, T[noisy], rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(
        prepare.targets(like(p=0.6), noisy, K), labels.soft_targets(noisy, 0.6, K)
    )


def test_crops_and_flips_are_all_of_them():
    x = torch.arange(2 * 3 * 5 * 6, dtype=torch.float32).view(2, 3, 5, 6)
    top, left = (
        axis.flatten() for axis in torch.meshgrid(torch.arange(9), torch.arange(9), indexing="ij")
    )
    for flip in (False, True):
        found = images.crops_and_flips_of(
            x, torch.ones(81, dtype=torch.int64), top, left, torch.full((81,), flip)
        )
        padded = F.pad(x[1], [4, 4, 4, 4])
        for n in range(81):
            cut = padded[:, top[n] : top[n] + 5, left[n] : left[n] + 6]
            torch.testing.assert_close(found[n], cut.flip(-1) if flip else cut, rtol=0, atol=0)
    top, left, flip = images.crops_and_flips(20000, torch.Generator().manual_seed(0))
    for draws in (top, left):
        assert draws.unique().tolist() == list(range(9)) and abs(draws.double().mean() - 4) < 0.1
    assert abs(flip.double().mean() - 0.5) < 0.02


def test_a_resnet_with_batch_norm_is_plain_pytorch(digits, steps):
    spec = resnet_spec(weight_decay=1e-3)
    (history,) = train([spec], digits, CPU)
    pixels = [
        images.float() / 255 for images in (digits.train_images[:40], digits.test_images[:50])
    ]
    x, x_test = ((images - pixels[0].mean()) / pixels[0].std(correction=0) for images in pixels)
    noisy = labels.corrupt(digits.train_labels[:40], labels.symmetric_noise(spec.a, 10), spec.seed)
    targets = labels.soft_targets(noisy, spec.p, 10)
    network = models.initialise(
        models.resnet18((1, 8, 8), 10, 2), labels.generator(spec.seed, "weights")
    )
    optimizer = torch.optim.SGD(
        network.parameters(), lr=spec.lr, momentum=spec.momentum, weight_decay=spec.weight_decay
    )
    order, step_losses = labels.generator(spec.order_seed, "order"), []
    for _ in range(2):
        network.train()
        for rows in torch.randperm(40, generator=order).split(20):
            loss = F.cross_entropy(network(x[rows]), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step_losses.append(loss.item())
    network.eval()
    with torch.no_grad():
        test_loss = F.cross_entropy(network(x_test), digits.test_labels[:50]).item()
    np.testing.assert_allclose(torch.stack(steps)[:, 0], step_losses, rtol=1e-5)
    assert history[-1]["test_loss"] == pytest.approx(test_loss, rel=1e-4)


def test_resnets_in_company_keep_their_own_batch_norm(digits):
    company = [resnet_spec(), resnet_spec(seed=8, a=0.2, lr=0.05, weight_decay=0.01)]
    together = train(company, digits, CPU)
    assert [train([spec], digits, CPU)[0] for spec in company] == together


def test_torchvisions_resnet_has_as_many_parameters():
    import torchvision

    with torch.device("meta"):
        ours, theirs = models.resnet18((3, 32, 32), 10), torchvision.models.resnet18(num_classes=10)
        theirs.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    count = [sum(weight.numel() for weight in network.parameters()) for network in (ours, theirs)]
    assert count[0] == count[1] == 11_173_962


@pytest.mark.parametrize("width, count", [(64, 23_520_842), (16, None), (128, None)])
def test_a_resnet_50_is_torchvisions_but_for_its_stem(width, count):
    import torchvision
    from torchvision.models.resnet import Bottleneck, ResNet

    with torch.device("meta"):
        ours = models.resnet50((3, 32, 32), 10, width)
        theirs = ResNet(Bottleneck, [3, 4, 6, 3], num_classes=10, width_per_group=width)
        theirs.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    assert torchvision.models.resnet50 is not None and ours.classifier.in_features == 2048
    numbers = [sum(weight.numel() for weight in network.parameters()) for network in (ours, theirs)]
    assert numbers[0] == numbers[1] and (count is None or numbers[0] == count)


def test_weight_decay_is_not_without_effect(digits):
    (without,), (with_decay,) = (
        train([SPEC], digits, CPU),
        train([like(weight_decay=0.05)], digits, CPU),
    )
    assert abs(without[-1]["train_loss"] / with_decay[-1]["train_loss"] - 1) > 1e-3


def test_company_does_not_matter(digits, steps):
    company = [
        SPEC,
        like(a=0.0, p=0.1),
        like(seed=4),
        like(a=1.0, p=1.0, seed=5, lr=0.02),
        like(a=0.4, p=0.0, seed=6, weight_decay=0.05),
    ]
    together = train(company, digits, CPU)
    in_company = torch.stack(steps)  # (steps, R)
    for replica in (0, 3, 4):
        steps.clear()
        (alone,) = train([company[replica]], digits, CPU)
        np.testing.assert_allclose(in_company[:20, replica], torch.stack(steps)[:20, 0], rtol=1e-5)
        for ours, others in zip(alone, together[replica], strict=True):
            for name in others:
                assert ours[name] == pytest.approx(others[name], rel=1e-3, abs=1e-6), name
    steps_differ = (in_company[5:] - in_company[5:, :1]).abs()[:, 1:] > 1e-3
    assert steps_differ.float().mean() > 0.9  # five networks, not one five times


def test_the_same_request_gives_the_same_bits_whatever_the_global_state(digits):
    company = [SPEC, like(seed=4, a=0.5)]
    torch.manual_seed(0)
    first = train(company, digits, CPU)
    torch.manual_seed(99)
    assert train(company, digits, CPU) == first


def test_the_order_seed_matters(digits):
    (one,), (other,) = train([SPEC], digits, CPU), train([like(order_seed=12)], digits, CPU)
    assert one[0]["train_loss"] != other[0]["train_loss"] and one[0]["kept"] == other[0]["kept"]


def test_extreme_noise_and_smoothing(digits):
    K, small = 10, like(model="mlp", widths=(48,), lr=0.1, batch=20, epochs=80, evaluate_at=(80,))
    specs = [
        dataclasses.replace(small, a=a, p=p) for a in (0.0, 0.5, 1.0) for p in (0.0, 1 / K, 1.0)
    ]
    rows = {
        (spec.a, spec.p): history[-1]
        for spec, history in zip(specs, train(specs, digits, CPU), strict=True)
    }
    assert all(math.isfinite(value) for row in rows.values() for value in row.values())
    for (a, p), row in rows.items():
        assert a in (row["kept"], 0.5) and (a != 0.5 or 0.3 < row["kept"] < 0.7)
        floor = {0.0: math.log(K - 1), 1 / K: math.log(K), 1.0: 0.0}[
            p
        ]  # entropy of the smoothed label
        assert floor - 1e-5 <= row["train_loss"] < floor + 0.3
        assert row["clean_train_uniform_loss"] >= math.log(K) - 1e-6
        if p == 1:
            assert row["train_accuracy"] > 0.9
        if p == 0:
            assert row["train_accuracy"] < 0.1  # the label itself is what is avoided
    assert (
        rows[1.0, 1.0]["clean_train_accuracy"] > 0.9 > 0.1 > rows[0.0, 1.0]["clean_train_accuracy"]
    )


def test_kept_is_the_share_of_labels_left_as_they_were(digits):
    specs = [
        like(a=a, seed=seed, epochs=1, evaluate_at=(1,)) for a in (0.2, 0.6) for seed in (0, 1)
    ]
    clean = digits.train_labels[: SPEC.train_size]
    for spec, history in zip(specs, train(specs, digits, CPU), strict=True):
        noisy = labels.corrupt(clean, labels.symmetric_noise(spec.a, 10), spec.seed).tolist()
        assert history[0]["kept"] == pytest.approx(
            sum(a == b for a, b in zip(noisy, clean.tolist(), strict=True)) / len(noisy)
        )


def test_progress_counts_network_epochs_and_evaluation_follows_the_list(digits):
    told = []
    specs = [like(seed=seed, evaluate_at=(2, 3, 5)) for seed in range(3)]
    histories = train(specs, digits, CPU, told.append)
    assert told == [3] * 5
    assert [[row["epoch"] for row in history] for history in histories] == [[2, 3, 5]] * 3


@pytest.mark.parametrize(
    "other",
    [
        {"order_seed": 1},
        {"train_size": 50},
        {"batch": 10},
        {"widths": (4, 6, 15)},
        {"momentum": 0.5},
    ],
)
def test_specs_that_cannot_train_together_are_refused(digits, other):
    with pytest.raises(
        UsageError,
        match=r"^runs that train together may differ in a, p, noise, smoothing, loss, seed, lr, .* only\.$",
    ):
        train([SPEC, like(**other)], digits, CPU)


@pytest.mark.parametrize(
    "spec",
    [SPEC, like(model="resnet18", widths=(2,), epochs=2, evaluate_at=(1, 2))],
    ids=["stacked", "listed"],
)
def test_tensors_are_those_of_the_networks_as_they_were_measured(digits, monkeypatch, spec):
    monkeypatch.setattr(measure, "EVALUATION_BATCH", 16)
    held, hold = [], fleet.hold
    monkeypatch.setattr(fleet, "hold", lambda *arguments: held.append(hold(*arguments)) or held[-1])
    company = [spec, dataclasses.replace(spec, seed=9, p=0.5)]
    found = fleet.train(company, digits, CPU)
    pictures = dict(
        zip(
            ("train", "test"),
            images.standardise(digits.subset(spec.train_size, spec.test_size)),
            strict=True,
        )
    )
    truth = {
        "train": digits.train_labels[: spec.train_size],
        "test": digits.test_labels[: spec.test_size],
    }
    held[0].train(False)
    weight, bias = held[0].classifier()
    for replica, trained in enumerate(found):
        assert len(trained.tensors) == len(trained.history) and not any(
            "logits" in name for name in trained.tensors[0]
        )
        last = trained.tensors[-1]
        np.testing.assert_array_equal(last["weight"], weight[replica])
        np.testing.assert_array_equal(last["bias"], bias[replica])
        assert not np.array_equal(trained.tensors[0]["weight"], last["weight"])
        for part, y in truth.items():
            with torch.no_grad():
                features, logits = (
                    value[replica].double() for value in held[0].forward(pictures[part])
                )
            np.testing.assert_allclose(last[f"{part}_logits"], logits, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(
                logits, features @ weight[replica].double().T + bias[replica], rtol=1e-5, atol=1e-5
            )
            means = torch.stack([features[y == k].mean(0) for k in range(10)])
            assert last[f"{part}_counts"].tolist() == torch.bincount(y, minlength=10).tolist()
            np.testing.assert_allclose(last[f"{part}_means"], means, rtol=1e-4, atol=1e-6)
            within = [(features[y == k] - means[k]).square().sum(1).mean() for k in range(10)]
            np.testing.assert_allclose(last[f"{part}_within"], within, rtol=1e-4)
            centred, deviations = means - means.mean(0), features - means[y]
            np.testing.assert_allclose(
                last[f"{part}_projected"],
                centred @ (deviations.T @ deviations / len(y)) @ centred.T,
                rtol=1e-3,
                atol=1e-8,
            )


@pytest.mark.parametrize("offset, spread", [(0.0, 1.0), (1e3, 1.0), (10.0, 1e-4)])
@pytest.mark.parametrize("batch", [1, 7, 400])
def test_class_statistics_are_exact_in_any_batches(offset, spread, batch):
    R, N, K, D = 2, 400, 6, 5
    draws = np.random.default_rng(3)
    y = draws.choice([0, 1, 2, 4, 5], N, p=[0.5, 0.2, 0.1, 0.1, 0.1])  # nobody is of class 3
    features = offset + draws.normal(size=(K, D))[y] + spread * draws.normal(size=(R, N, D))
    found = ClassStatistics(R, K, D, CPU)
    for start in range(0, N, batch):
        found.update(
            torch.from_numpy(features[:, start : start + batch]),
            torch.from_numpy(y[start : start + batch]),
        )
    summary = {name: value.numpy() for name, value in found.summary().items()}
    for r in range(R):
        counts = np.bincount(y, minlength=K)
        means = np.array(
            [features[r, y == k].mean(0) if counts[k] else np.zeros(D) for k in range(K)]
        )
        deviations = features[r] - means[y]
        centred = np.where(counts[:, None] > 0, means - means[counts > 0].mean(0), 0)
        np.testing.assert_array_equal(summary["counts"][r], counts)
        np.testing.assert_allclose(summary["means"][r], means, rtol=1e-12, atol=1e-12)
        within = [np.sum(deviations[y == k] ** 2) / max(counts[k], 1) for k in range(K)]
        np.testing.assert_allclose(summary["within"][r], within, rtol=1e-8)
        np.testing.assert_allclose(
            summary["projected"][r],
            centred @ np.cov(deviations.T, bias=True) @ centred.T,
            rtol=1e-6,
            atol=1e-15,
        )


def test_a_set_that_is_too_small_is_refused(digits):
    with pytest.raises(UsageError, match="no subset of 1201 training images"):
        train([like(train_size=1201)], digits, CPU)


# measuring


def test_measure_is_plain_evaluation_batch_by_batch(monkeypatch):
    monkeypatch.setattr(measure, "EVALUATION_BATCH", 16)
    shape, K, R, N = (1, 8, 8), 5, 3, 50
    generator = torch.Generator().manual_seed(4)
    networks = [drawn(models.cnn(shape, K, (4, 6), 8), seed) for seed in range(R)]
    images = 3 * torch.randn(N, *shape, generator=generator, dtype=torch.float64)
    clean, noisy = (
        torch.randint(K, (N,), generator=generator),
        torch.randint(K, (R, N), generator=generator),
    )
    targets = torch.rand(R, N, K, generator=generator, dtype=torch.float64)
    targets /= targets.sum(-1, keepdim=True)
    stacked = replicas.Stacked(networks, shape, CPU)
    found = measure.measure(stacked, images, clean, (losses.cross_entropy, targets, noisy)).means
    for replica, network in enumerate(networks):
        with torch.no_grad():
            logits = network(images)
        expected = {
            "loss": F.cross_entropy(logits, clean),
            "accuracy": (logits.argmax(1) == clean).double().mean(),
            "uniform_loss": F.cross_entropy(logits, torch.full((N, K), 1 / K, dtype=torch.float64)),
            "fit_loss": F.cross_entropy(logits, targets[replica]),
            "fit_accuracy": (logits.argmax(1) == noisy[replica]).double().mean(),
            "fit_smoothed_loss": F.cross_entropy(logits, targets[replica]),
            "fit_forward_loss": -(targets[replica] * logits.softmax(1)).sum(1).log().mean(),
        }
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert (
                found[name].shape == (R,)
                and found[name].dtype == torch.float64
                and not found[name].requires_grad
            )
            assert found[name][replica].item() == pytest.approx(value.item(), rel=1e-12), name
    assert measure.measure(stacked, images, clean).means.keys() == {
        "loss",
        "accuracy",
        "uniform_loss",
    }


def test_both_losses_of_equation_18_are_measured_whatever_is_trained_beside(digits):
    company = [
        like(),
        like(loss="logit"),
        like(p=1.0, loss="forward"),
        like(p=1.0, smoothing="posterior"),
    ]
    company += [like(p=1.0), like(p=1.0, loss="mse", lr=0.002)]
    y = labels.corrupt(
        digits.train_labels[:60], labels.symmetric_noise(SPEC.a, 10), SPEC.seed
    ).numpy()
    for spec, trained in zip(company, fleet.train(company, digits, CPU), strict=True):
        kept = SPEC.a if spec.loss == "forward" or spec.smoothing == "posterior" else spec.p
        rows = np.where(np.eye(10) == 1, kept, (1 - kept) / 9)[y]  # (N, K)
        log_q = log_softmax(trained.tensors[-1]["train_logits"].astype(float), axis=1)
        last = trained.history[-1]
        assert last["train_smoothed_loss"] == pytest.approx(-(rows * log_q).sum(1).mean(), rel=1e-6)
        assert last["train_forward_loss"] == pytest.approx(
            -logsumexp(log_q, axis=1, b=rows).mean(), rel=1e-6
        )
        if spec.loss in ("ce", "forward"):
            assert last["train_loss"] == pytest.approx(
                last["train_forward_loss" if spec.loss == "forward" else "train_smoothed_loss"]
            )
        gaps = [row["train_smoothed_loss"] - row["train_forward_loss"] for row in trained.history]
        assert all(gap == 0 if kept == 1 else gap > 0 for gap in gaps)


@pytest.mark.parametrize("a", [0.0, 0.3, 1 / 5, 0.95, 1.0])
def test_uniform_loss_gives_the_expected_loss_against_noisy_labels(a):
    K, N = 5, 30
    networks = [drawn(models.mlp((1, 4, 4), K, (8,)), seed) for seed in range(2)]
    generator = torch.Generator().manual_seed(1)
    images, clean = (
        4 * torch.randn(N, 1, 4, 4, generator=generator, dtype=torch.float64),
        torch.randint(K, (N,), generator=generator),
    )
    found = measure.measure(replicas.Stacked(networks, (1, 4, 4), CPU), images, clean).means
    L, U = found["loss"], found["uniform_loss"]
    T = labels.symmetric_noise(a, K)
    for replica, network in enumerate(networks):
        with torch.no_grad():
            logits = network(images)
        expected = sum(
            T[label, y] * F.cross_entropy(logits[n], torch.tensor(label)).item()
            for n, y in enumerate(clean.tolist())
            for label in range(K)
        )
        identity = a * L + (1 - a) / (K - 1) * (K * U - L)
        assert identity[replica].item() == pytest.approx(expected / N, rel=1e-10)


# going on from a checkpoint


@pytest.mark.parametrize(
    "spec", [SPEC, resnet_spec(epochs=5, evaluate_at=(1, 5))], ids=["stacked", "listed"]
)
def test_a_checkpoint_goes_on_to_the_same_bits(digits, tmp_path, monkeypatch, spec):
    company, checkpoint = (
        [spec, dataclasses.replace(spec, seed=9, p=0.5, lr=0.01)],
        tmp_path / "folder" / "block.pt",
    )
    undisturbed = train(company, digits, CPU)
    monkeypatch.setattr(fleet, "CHECKPOINT_SECONDS", 0)

    def stop_after(epochs):
        def progress(done):
            nonlocal epochs
            epochs -= 1
            if epochs < 0:
                raise KeyboardInterrupt

        return progress

    for epochs in (
        2,
        1,
        2,
    ):  # stopped in the third epoch, again soon after the start that goes on, and again
        with pytest.raises(KeyboardInterrupt):
            train(company, digits, CPU, stop_after(epochs), checkpoint)
    told = []
    assert train(company, digits, CPU, told.append, checkpoint) == undisturbed
    assert told[0] >= 4 and sum(told) == 2 * spec.epochs  # it did go on


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", "truncated", "of other networks"])
def test_a_checkpoint_that_cannot_be_used_is_passed_over(digits, tmp_path, monkeypatch, content):
    monkeypatch.setattr(fleet, "CHECKPOINT_SECONDS", 0)
    checkpoint, undisturbed = tmp_path / "block.pt", train([SPEC], digits, CPU)
    train(
        [like(widths=(4, 6, 15)) if content == "of other networks" else SPEC],
        digits,
        CPU,
        checkpoint=checkpoint,
    )
    if content == "truncated":
        checkpoint.write_bytes(checkpoint.read_bytes()[:-300])
    elif content != "of other networks":
        checkpoint.write_bytes(content)
    told = []
    assert (
        train([SPEC], digits, CPU, told.append, checkpoint) == undisturbed
        and told == [1] * SPEC.epochs
    )
