"""From specs to networks and targets."""

import numpy as np
import torch
from helpers import a_cnn_spec

from lsnc_core import labels
from lsnc_core.runs import prepare


def test_a_network_is_that_of_its_seed():
    def weights(**changes):
        network = prepare.build(a_cnn_spec(**changes), (1, 8, 8), 10)
        return torch.cat([parameter.flatten() for parameter in network.parameters()])

    first, other = weights(seed=0), weights(seed=1)
    assert torch.equal(first, weights(seed=0)) and (first != other).float().mean() > 0.99
    assert torch.equal(first, weights(seed=0, order_seed=5, a=0.1, p=0.2))


def test_targets_of_every_smoothing_and_correction():
    noisy, K, a = torch.tensor([0, 3, 9, 3]), 10, 0.7
    for noise in labels.NOISES:
        T = labels.noise_matrix(noise, a, K)
        joint = T / K  # P(noisy i, clean j) under uniform classes
        best = prepare.targets(a_cnn_spec(noise=noise, a=a, p=1.0, smoothing="posterior"), noisy, K)
        np.testing.assert_allclose(
            best, [joint[i] / joint[i].sum() for i in noisy], rtol=1e-6, atol=1e-9
        )
        forward = prepare.targets(a_cnn_spec(noise=noise, a=a, loss="forward"), noisy, K)
        np.testing.assert_allclose(forward, T[noisy], rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(
        prepare.targets(a_cnn_spec(p=0.6), noisy, K), labels.soft_targets(noisy, 0.6, K)
    )
