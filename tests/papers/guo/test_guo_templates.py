"""The plane through three templates, against explicit features of made-up networks."""

import itertools
import json

import numpy as np
import pytest
import torch

from lsnc_core.papers import stored
from lsnc_core.papers.guo import templates
from lsnc_core.papers.guo.templates import PARTS, _Frame
from lsnc_core.runs.statistics import ClassStatistics

K, D, EACH = 5, 7, 12
CHOSEN = (1, 2, 4)


def measure(features, labels, weight):
    """What the store keeps of explicit features, float (N, D), both for training and for test."""
    statistics = ClassStatistics(1, K, features.shape[1], torch.device("cpu"))
    statistics.update(torch.from_numpy(features)[None], torch.from_numpy(labels))
    kept = {name: value[0].numpy() for name, value in statistics.summary().items()}
    arrays = {"weight": weight, "bias": np.zeros(K), "test_features": features}
    for part in PARTS:
        arrays |= {f"{part}_{name}": value for name, value in kept.items()}
    return arrays


@pytest.fixture
def network():
    """Features float (N, D), labels and what the store keeps of a made-up network."""
    draws = np.random.default_rng(0)
    labels = np.repeat(np.arange(K), EACH)
    features = 3 * draws.standard_normal((K, D))[labels] + draws.standard_normal((K * EACH, D))
    return features, labels, measure(features, labels, draws.standard_normal((K, D)))


def solve(points, weight):
    """Coordinates in the plane through three templates by another way, up to rotation: least
    squares on w_b - w_a and w_c - w_a, then a Cholesky factor of their Gram matrix.
    """
    a, b, c = weight[list(CHOSEN)]
    sides = np.stack([b - a, c - a], 1)  # (D, 2)
    solved = np.linalg.lstsq(sides, points.T, rcond=None)[0]  # (2, N)
    return (np.linalg.cholesky(sides.T @ sides).T @ solved).T


def distances(points):
    return np.linalg.norm(points[:, None] - points[None], axis=2)


def pair(row, name):
    return np.stack([row[f"{name}_x"], row[f"{name}_y"]], 1)


def test_means_and_templates_are_at_their_distances_in_the_plane(network):
    features, labels, arrays = network
    row = _Frame(arrays, CHOSEN).project(arrays, "train")
    means = np.stack([features[labels == k].mean(0) for k in range(K)])
    right = solve(means, arrays["weight"])
    chosen = right[list(CHOSEN)]
    radius = np.sqrt(np.square(chosen - chosen.mean(0)).sum(1).mean())
    shown = np.concatenate([pair(row, "mean"), pair(row, "other")])
    order = [*CHOSEN, *sorted(set(range(K)) - set(CHOSEN))]
    assert distances(shown) == pytest.approx(distances(right[order]) / radius)
    # the first template straight up, the second on the right
    corners = pair(row, "template")
    assert corners[0] == pytest.approx([0, np.linalg.norm(corners[0])]) and corners[1, 0] > 0
    whole = arrays["weight"][list(CHOSEN)]
    ratio = distances(whole)[0] / distances(whole)[1, 2]
    assert distances(corners)[0] / distances(corners)[1, 2] == pytest.approx(ratio)
    sides = [np.linalg.norm(chosen[i] - chosen[j]) for i, j in itertools.combinations(range(3), 2)]
    assert row["side_ratio"] == pytest.approx(max(sides) / min(sides))
    away = [np.linalg.norm(right[k] - chosen.mean(0)) for k in order[3:]]
    assert row["others"] == pytest.approx(np.mean(away) / radius)


def test_the_covariance_is_that_of_features_projected_on_the_span_of_the_means(network):
    features, labels, arrays = network
    frame = _Frame(arrays, CHOSEN)
    row = frame.project(arrays, "test")
    means = np.stack([features[labels == k].mean(0) for k in range(K)])
    span = np.linalg.svd(means - means.mean(0))[2][: K - 1]  # (K - 1, D)
    deviations = (features - means[labels]) @ span.T @ span @ frame.basis / frame.unit
    covariance = deviations.T @ deviations / len(features)
    found = [row["cov_xx"], row["cov_xy"], row["cov_yy"]]
    assert found == pytest.approx([covariance[0, 0], covariance[0, 1], covariance[1, 1]])
    assert row["spread"] == pytest.approx(
        np.sqrt(np.square(deviations).sum(1).mean())
        / np.sqrt(np.square(pair(row, "mean") - pair(row, "mean").mean(0)).sum(1).mean())
    )
    # the collapse metrics restore the same scatter in another way
    statistics = stored.restore_statistics(arrays, "test")
    inside = statistics.basis.numpy().T @ frame.basis
    restored = inside.T @ statistics.within.numpy() @ inside / frame.unit**2
    assert found == pytest.approx(restored.ravel()[[0, 1, 3]])
    assert 0 < row["seen"] < 1 and row["seen"] == pytest.approx(np.square(inside).sum() / 2)


def test_in_the_span_of_the_means_nothing_is_left_out(network):
    features, labels, arrays = network
    means = arrays["train_means"]
    # templates that are combinations of the class means, as after collapse
    arrays = measure(features, labels, np.eye(K) @ (means - means.mean(0)))
    frame = _Frame(arrays, CHOSEN)
    row = frame.project(arrays, "train")
    deviations = (features - means[labels]) @ frame.basis / frame.unit
    assert row["seen"] == pytest.approx(1)
    assert row["cov_xy"] == pytest.approx((deviations[:, 0] * deviations[:, 1]).mean())


def test_a_collapsed_simplex_is_the_dashed_triangle():
    rotation = np.linalg.qr(np.random.default_rng(1).standard_normal((D, D)))[0]
    simplex = (np.eye(K) - 1 / K) @ rotation[:K]
    labels = np.repeat(np.arange(K), EACH)
    arrays = measure(4 * simplex[labels] + 2, labels, 0.3 * simplex)
    row = _Frame(arrays, CHOSEN).project(arrays, "train")
    assert [row[name] for name in ("side_ratio", "others", "spread", "seen")] == pytest.approx(
        [1, 0, 0, 1], abs=1e-6
    )
    dashed = json.loads(templates._draw_simplex().to_json())["datasets"]
    corners = [[point["x"], point["y"]] for point in next(iter(dashed.values()))]
    for name in ("mean", "template"):
        assert pair(row, name) == pytest.approx(np.array(corners), abs=1e-6)


def test_single_images_lie_where_their_features_project(network):
    features, labels, arrays = network
    frame = _Frame(arrays, CHOSEN)
    rows = frame.project_images(arrays, torch.from_numpy(labels), {"epoch": 3}, ("b", "c", "e"))
    assert [(row["class"], row["number"], row["epoch"]) for row in rows] == [
        ("b", 0, 3),
        ("c", 1, 3),
        ("e", 2, 3),
    ]
    points = np.concatenate([np.stack([row["x"], row["y"]], 1) for row in rows])
    of_three = np.concatenate([features[labels == k] for k in CHOSEN])
    right = distances(solve(of_three, arrays["weight"])) / frame.unit
    assert distances(points) == pytest.approx(right)
    assert points[:EACH].mean(0) == pytest.approx(pair(frame.project(arrays, "test"), "mean")[0])


def test_a_class_without_images_is_left_out(network):
    features, labels, arrays = network
    fewer = measure(features[labels != 0], labels[labels != 0], arrays["weight"])
    whole = _Frame(arrays, CHOSEN).project(arrays, "train")
    row = _Frame(fewer, CHOSEN).project(fewer, "train")
    assert pair(row, "mean") == pytest.approx(pair(whole, "mean"))
    assert pair(row, "other") == pytest.approx(pair(whole, "other")[1:])


def test_classes_are_chosen_by_confusions():
    draws = np.random.default_rng(2)
    confusions = draws.integers(0, 1000, (6, 6))
    often, hardly = templates.choose_classes(confusions)
    both = confusions + confusions.T
    pairs = {two: both[two] for two in itertools.combinations(range(6), 2)}
    for chosen, best in ((often, max), (hardly, min)):
        two = best(pairs, key=pairs.get)
        left = set(range(6)) - set(two)
        third = best(left, key=lambda k: both[k, two[0]] + both[k, two[1]])
        assert set(chosen) == {*two, third} and chosen == tuple(sorted(chosen))
