"""The trainer against plain PyTorch: the same layers, the same steps, the same numbers."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import a_cnn_spec, a_resnet_spec
from torch import nn

from lsnc_core import data, images, labels, models
from lsnc_core.runs import fleet, prepare

SPEC = a_cnn_spec()


CPU = torch.device("cpu")


def train(*arguments, **named):
    """Histories alone: mappings that can be compared."""
    return [trained.history for trained in fleet.train(*arguments, **named)]


# training against plain PyTorch


def plain_network(spec, side):
    """A spec's layers, with torch's own rule of initialisation, drawn with its seed."""
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
        chain += [nn.Linear(d * cells, width), nn.ReLU(), nn.Linear(width, 10)]
    else:
        widths = (side * side, *spec.widths)
        chain = [nn.Flatten()]
        for into, out in itertools.pairwise(widths):
            chain += [nn.Linear(into, out), nn.ReLU()]
        chain += [nn.Linear(widths[-1], 10)]
    network = nn.Sequential(*chain)
    draws = labels.generator(spec.seed, "weights")
    with torch.no_grad():
        for layer in network:
            if hasattr(layer, "weight"):
                bound = 1 / math.sqrt(layer.weight[0].numel())
                layer.weight.uniform_(-bound, bound, generator=draws)
                layer.bias.uniform_(-bound, bound, generator=draws)
    return network


def plain(spec, image_set):
    """One network, trained as anybody would.

    Returns the losses of all steps, and the numbers after the last epoch.
    """
    N, K = spec.train_size, 10
    x, x_test = (image_set.train_images[:N], image_set.test_images[: spec.test_size])
    x, x_test = x.float() / 255, x_test.float() / 255
    if spec.pool > 1:
        x, x_test = F.avg_pool2d(x, spec.pool), F.avg_pool2d(x_test, spec.pool)
    mean, deviation = x.mean(), x.std(correction=0)
    x, x_test = (x - mean) / deviation, (x_test - mean) / deviation
    y, y_test = image_set.train_labels[:N], image_set.test_labels[: spec.test_size]
    noisy = labels.corrupt(y, labels.symmetric_noise(spec.a, K), spec.seed)
    onehot = F.one_hot(noisy, K).float()
    targets = spec.p * onehot + (1 - spec.p) / (K - 1) * (1 - onehot)

    network = plain_network(spec, x.shape[-1])
    optimizer = torch.optim.SGD(
        network.parameters(), lr=spec.lr, momentum=spec.momentum, weight_decay=spec.weight_decay
    )
    order = labels.generator(spec.order_seed, "order")
    step_losses = []
    for _ in range(spec.epochs):
        for rows in torch.randperm(N, generator=order).split(spec.batch):
            loss = F.cross_entropy(network(x[rows]), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step_losses.append(loss.item())
    network.eval()
    with torch.no_grad():
        logits, test_logits = network(x), network(x_test)
        uniform = torch.full((1, K), 1 / K)
        uniform, test_uniform = uniform.expand(N, K), uniform.expand(len(y_test), K)
        final = {
            "epoch": spec.epochs,
            "kept": (noisy == y).float().mean().item(),
            "train_loss": F.cross_entropy(logits, targets).item(),
            "train_accuracy": (logits.argmax(1) == noisy).float().mean().item(),
            "train_smoothed_loss": F.cross_entropy(logits, targets).item(),
            "train_forward_loss": -(targets * logits.softmax(1)).sum(1).log().mean().item(),
            "clean_train_loss": F.cross_entropy(logits, y).item(),
            "clean_train_accuracy": (logits.argmax(1) == y).float().mean().item(),
            "clean_train_uniform_loss": F.cross_entropy(logits, uniform).item(),
            "test_loss": F.cross_entropy(test_logits, y_test).item(),
            "test_accuracy": (test_logits.argmax(1) == y_test).float().mean().item(),
            "test_uniform_loss": F.cross_entropy(test_logits, test_uniform).item(),
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
    spec = a_cnn_spec(**changes)
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
    spec = a_cnn_spec(momentum=momentum, weight_decay=weight_decay)
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
    specs = [
        a_cnn_spec(loss=loss, seed=seed)
        for loss, seed in (("mse", 3), ("ce", 3), ("focal", 3), ("ce", 4))
    ]
    specs = [dataclasses.replace(spec, lr=0.002 if spec.loss == "mse" else 0.05) for spec in specs]
    together, together_steps = train(specs, digits, CPU), torch.stack(steps)
    for replica, spec in enumerate(specs):
        steps.clear()
        (alone,) = train([spec], digits, CPU)
        np.testing.assert_allclose(
            together_steps[:20, replica], torch.stack(steps)[:20, 0], rtol=1e-5
        )
        assert alone[-1]["train_loss"] == pytest.approx(
            together[replica][-1]["train_loss"], rel=1e-3
        )
    # the loss of the first step is that of the initial network, by its formula
    network = prepare.build(specs[0], (1, 8, 8), 10)
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
        assert together_steps[0, replica].item() == pytest.approx(
            expected[specs[replica].loss].item(), rel=1e-5
        )


@pytest.mark.parametrize("model, widths", [("cnn", (4, 6, 16)), ("mlp", (20,)), ("resnet18", (2,))])
def test_bfloat16_training_follows_float32_and_is_evaluated_in_float32(
    digits, steps, model, widths
):
    # small steps: batch norm over few positions amplifies rounding from step to step
    spec = a_cnn_spec(
        model=model, widths=widths, train_size=40, batch=20, epochs=3, evaluate_at=(3,), lr=0.001
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


def test_the_best_checkpoint_is_looked_for_among_all_epochs(digits):
    every = {"epochs": 8, "validation_size": 40, "lr": 0.1}
    specs = [a_cnn_spec(evaluate_at=tuple(range(1, 9)), seed=seed, **every) for seed in (3, 4, 5)]
    measured = train(specs, digits, CPU)
    sparse = {"evaluate_at": (2, 8), "best_checkpoint": True}
    chosen = train([dataclasses.replace(spec, **sparse) for spec in specs], digits, CPU)
    bests = set()
    for history, found in zip(measured, chosen, strict=True):
        for row, after in zip(found, (2, 8), strict=True):
            best = max(history[:after], key=lambda row: row["validation_accuracy"])  # the first
            assert row["best_epoch"] == best["epoch"]
            assert row["best_validation_accuracy"] == best["validation_accuracy"]
            assert row["best_test_accuracy"] == best["test_accuracy"]
            # the training itself does not notice
            assert row.items() > history[after - 1].items()
        bests.add(row["best_epoch"])
    assert not bests <= {2, 8}  # or measured epochs would have been enough


def test_a_lenet_is_the_usual_one(steps):
    spec = a_cnn_spec(
        data="mnist-subset", model="lenet", widths=(10, 20, 50), epochs=1, evaluate_at=(1,)
    )
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


def test_a_resnet_with_batch_norm_is_plain_pytorch(digits, steps):
    spec = a_resnet_spec(weight_decay=1e-3)
    (history,) = train([spec], digits, CPU)
    pixels = [
        images.float() / 255 for images in (digits.train_images[:40], digits.test_images[:50])
    ]
    x, x_test = ((images - pixels[0].mean()) / pixels[0].std(correction=0) for images in pixels)
    noisy = labels.corrupt(digits.train_labels[:40], labels.symmetric_noise(spec.a, 10), spec.seed)
    targets = labels.soft_targets(noisy, spec.p, 10)
    network = models.initialise(
        models.resnet18((1, 8, 8), 10, (2,)), labels.generator(spec.seed, "weights")
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
