"""Every way of training against torch's own optimiser, schedulers and clipping."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import a_cnn_spec
from torch import nn

from lsnc_core import data, images, labels, losses
from lsnc_core.runs import fleet, prepare

CPU = torch.device("cpu")


def augmented(batch, padding, top, left, flip):
    """Images cropped out of their padded selves and flipped, one by one."""
    side, padded = batch.shape[-1], F.pad(batch, [4, 4, 4, 4], value=padding)
    cropped = []
    for image, down, across, turned in zip(padded, top, left, flip, strict=True):
        image = image[:, down : down + side, across : across + side]
        cropped.append(image.flip(-1) if turned else image)
    return torch.stack(cropped)


def pixels(spec, chosen):
    """Training and test images of one channel as a spec has them standardised."""
    if not spec.pixel_mean:
        return images.standardise(chosen, spec.pool)
    (mean,), (std,) = spec.pixel_mean, spec.pixel_std
    parts = chosen.train_images, chosen.test_images
    return [(F.avg_pool2d(part / 255, spec.pool) - mean) / std for part in parts]


def reference(spec, image_set):
    """Step losses and the trained network, by torch's own optimiser, schedulers and clipping."""
    chosen = image_set.subset(spec.train_size + spec.validation_size, spec.test_size)
    x, padding = pixels(spec, chosen)[0], 0.0
    if spec.augment == "crop-flip-black":
        padding = -spec.pixel_mean[0] / spec.pixel_std[0]
    x, clean = x[: spec.train_size], chosen.train_labels[: spec.train_size]
    noisy = labels.corrupt(clean, labels.noise_matrix(spec.noise, spec.a, 10), spec.seed)
    y = labels.soft_targets(noisy, spec.p, 10)
    network = prepare.build(spec, tuple(x.shape[1:]), 10)
    head = list(network.classifier.parameters())
    own = {id(parameter) for parameter in head}
    body = [parameter for parameter in network.parameters() if id(parameter) not in own]
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
            if spec.augment != "none":
                batch = augmented(batch, padding, *images.crops_and_flips(len(rows), order))
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


# small steps: batch norm over few positions amplifies rounding from step to step
RESNET = {"model": "resnet18", "widths": (2,), "lr": 0.002}
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
    "batch norm of the features of a ResNet": {**RESNET, "feature_norm": True},
    "learning rate in steps": {"schedule": "steps", "lr_steps": (1, 3), "lr_factor": 0.3},
    "cosine": {"schedule": "cosine"},
    "clipped": {"clip": 0.2},
    "clipped ResNet": {**RESNET, "clip": 0.2},
    "Theorem 1": {
        "feature_norm": True,
        "batch_norm": True,
        **PATCHES_FIT,
        "lambda_W": 0.05,
        "lambda_b": 0.3,
        "lambda_H": 1e-3,
    },
    "Theorem 1, ResNet": {
        **RESNET,
        "feature_norm": True,
        "lambda_W": 0.5,
        "lambda_b": 3.0,
        "lambda_H": 1e-2,
    },
    "augmented": {"augment": "crop-flip"},
    "augmented ResNet": {**RESNET, "augment": "crop-flip"},
    "padded with black": {
        **PATCHES_FIT,
        "augment": "crop-flip-black",
        "pixel_mean": (0.2,),
        "pixel_std": (0.3,),
    },
    "pair noise": {"noise": "pair", "a": 0.6},
    "with validation": {"validation_size": 30},
}


def without_kinks(build):
    """Networks whose ReLUs are replaced by a smooth function.

    At a kink rounding decides whether a gradient passes, and batch norm over few positions carries
    that on: two right trainings of a ResNet part within a few steps, on another chip in others.
    """

    def smooth(*arguments):
        network = build(*arguments)
        for module in list(network.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, nn.ReLU):
                    setattr(module, name, nn.SiLU())
        return network

    return smooth


@pytest.mark.parametrize("changes", TRAINING.values(), ids=TRAINING)
def test_every_way_of_training_is_that_of_torch(digits, steps, monkeypatch, changes):
    spec = a_cnn_spec(
        **{"epochs": 4, "evaluate_at": (4,), "lr": 0.02, "train_size": 52, "clip": 0.0} | changes
    )
    if spec.model == "resnet18":
        monkeypatch.setattr(prepare, "build", without_kinks(prepare.build))
    image_set = data.load(spec.data)
    trained = fleet.train([spec, dataclasses.replace(spec, seed=5, a=0.9)], image_set, CPU)[0]
    step_losses, network = reference(spec, image_set)
    np.testing.assert_allclose(torch.stack(steps)[:16, 0], step_losses, rtol=1e-4)
    chosen = image_set.subset(spec.train_size + spec.validation_size, spec.test_size)
    x, x_test = pixels(spec, chosen)
    with torch.no_grad():
        expected = F.cross_entropy(network(x_test), chosen.test_labels).item()
        assert trained.history[-1]["test_loss"] == pytest.approx(expected, rel=1e-3)
        if spec.validation_size:
            held = slice(spec.train_size, None)
            expected = F.cross_entropy(network(x[held]), chosen.train_labels[held]).item()
            assert trained.history[-1]["validation_loss"] == pytest.approx(expected, rel=1e-3)
            assert trained.tensors[-1]["validation_logits"].shape == (30, 10)
