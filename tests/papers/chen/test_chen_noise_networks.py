"""Networks under any noise: what is trained, and what memorising networks output."""

import math

import numpy as np
import pytest

from lsnc_core import labels
from lsnc_core.papers.chen import noise_networks
from lsnc_core.papers.chen.networks import LANDSCAPE, plan_landscape
from lsnc_core.theory import label_noise

M = 10


@pytest.mark.parametrize("profile", LANDSCAPE)
def test_every_noise_has_its_ways_and_seeds_and_trains_with_the_landscape(profile):
    specs = noise_networks.plan_noise(profile)
    assert len(set(specs)) == len(specs)
    shared = {spec.seed: spec.shared for spec in plan_landscape(profile)}
    assert {(spec.seed, spec.shared) for spec in specs} == set(shared.items())
    for noise, ways in noise_networks.COMPARED.items():
        for a in noise_networks.RATES[profile]:
            part = [spec for spec in specs if spec.noise == noise and spec.a == a]
            planned = [(noise_networks.way_of(spec), spec.seed) for spec in part]
            expected = []
            for way in ways:
                expected += [(way, seed) for seed in range(8 if profile == "hour" else 4)]
            assert sorted(planned) == sorted(expected)
    symmetric = {spec for spec in specs if spec.noise == "symmetric"}
    plain = {spec for spec in symmetric if noise_networks.way_of(spec) in ("none", "mean field")}
    if profile == "quick":
        assert plain <= set(plan_landscape("quick")) and len(set(specs) - plain) <= 250


def test_the_outputs_of_memorising_networks_by_way():
    for noise in noise_networks.COMPARED:
        T = labels.noise_matrix(noise, 0.7, M)
        assert (noise_networks.memorised_output("none", T) == np.eye(M)).all()
        smoothed = noise_networks.memorised_output("mean field", T)
        np.testing.assert_allclose(smoothed, labels.smoothing_matrix(0.7, M))
        # all four are doubly stochastic
        np.testing.assert_allclose(noise_networks.memorised_output("posterior", T), T.T)
    assert np.allclose(labels.noise_matrix("mixed", 0.7, M).sum(1), 1)


@pytest.mark.parametrize("noise", noise_networks.COMPARED)
def test_the_floors_are_what_no_output_goes_below(noise):
    T = labels.noise_matrix(noise, 0.7, M)
    noisy = np.arange(M)  # of a doubly stochastic T each as often
    for way in ("none", "logit"):
        assert noise_networks.training_floor(way, T, noisy) == 0
    mean_field = noise_networks.training_floor("mean field", T, noisy)
    assert mean_field == pytest.approx(label_noise.entropy_floor(0.7, M))
    targets = {"mean field": labels.smoothing_matrix(0.7, M), "posterior": T.T}
    for way, S in targets.items():
        entropies = []
        for column in S.T:
            entropies.append(-sum(x * math.log(x) for x in column if x > 0))
        floor = noise_networks.training_floor(way, T, noisy)
        assert floor == pytest.approx(np.mean(entropies))
    outputs = np.random.default_rng(0).dirichlet(np.full(M, 0.2), 4000)  # (draws, M)
    tried = -np.log(T @ outputs.T).max(1)  # the most likely output for each noisy label
    reached = -np.log((T @ np.eye(M)).max(1))
    assert (tried >= reached - 1e-12).all()
    floor = noise_networks.training_floor("forward", T, noisy)
    assert floor == pytest.approx(reached.mean())
