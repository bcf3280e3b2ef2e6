"""What is measured of networks against plain evaluation."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import a_cnn_spec
from scipy.special import log_softmax, logsumexp

from lsnc_core import images, labels, losses, models
from lsnc_core.runs import fleet, measure, replicas
from lsnc_core.runs.statistics import ClassStatistics

CPU = torch.device("cpu")

SPEC = a_cnn_spec()


# layers


def drawn(network, seed):
    return models.initialise(network, labels.generator(seed, "weights")).double()


# measuring


def test_measure_is_plain_evaluation_batch_by_batch(monkeypatch):
    monkeypatch.setattr(measure, "EVALUATION_BATCH", 16)
    shape, K, R, N = (1, 8, 8), 5, 3, 50
    generator = torch.Generator().manual_seed(4)
    networks = [drawn(models.cnn(shape, K, (4, 6, 8)), seed) for seed in range(R)]
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
    specs = [
        a_cnn_spec(),
        a_cnn_spec(loss="logit"),
        a_cnn_spec(p=1.0, loss="forward"),
        a_cnn_spec(p=1.0, smoothing="posterior"),
    ]
    specs += [a_cnn_spec(p=1.0), a_cnn_spec(p=1.0, loss="mse", lr=0.002)]
    y = labels.corrupt(
        digits.train_labels[:60], labels.symmetric_noise(SPEC.a, 10), SPEC.seed
    ).numpy()
    for spec, trained in zip(specs, fleet.train(specs, digits, CPU), strict=True):
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
        expected = 0.0
        for row, y in zip(logits, clean.tolist(), strict=True):
            for label in range(K):
                expected += T[label, y] * F.cross_entropy(row, torch.tensor(label)).item()
        identity = a * L + (1 - a) / (K - 1) * (K * U - L)
        assert identity[replica].item() == pytest.approx(expected / N, rel=1e-10)


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


def test_features_are_kept_at_the_epochs_asked_for(digits):
    spec = a_cnn_spec(keep_at=(1,), validation_size=30)
    first, last = fleet.train([spec], digits, CPU)[0].tensors
    assert first["test_features"].shape == (50, 16) and first["validation_logits"].shape == (30, 10)
    assert not {"train_features", "validation_features", "train_logits"} & set(first)
    logits = first["test_features"] @ first["weight"].T + first["bias"]
    np.testing.assert_allclose(first["test_logits"], logits, rtol=1e-4, atol=1e-5)
    assert "test_features" not in last and last["train_logits"].shape == (60, 10)
    truth = digits.test_labels[:50].numpy()
    means = np.stack([first["test_features"][truth == k].mean(0) for k in range(10)])
    np.testing.assert_allclose(first["test_means"], means, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "spec",
    [SPEC, a_cnn_spec(model="resnet18", widths=(2,), epochs=2, evaluate_at=(1, 2))],
    ids=["stacked", "listed"],
)
def test_tensors_are_those_of_the_networks_as_they_were_measured(digits, monkeypatch, spec):
    monkeypatch.setattr(measure, "EVALUATION_BATCH", 16)
    held, hold = [], fleet.hold
    monkeypatch.setattr(fleet, "hold", lambda *arguments: held.append(hold(*arguments)) or held[-1])
    specs = [spec, dataclasses.replace(spec, seed=9, p=0.5)]
    found = fleet.train(specs, digits, CPU)
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
