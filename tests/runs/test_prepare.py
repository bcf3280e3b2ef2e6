"""From specs to networks and targets."""

import numpy as np
import torch
from helpers import a_cnn_spec

from lsnc_core import labels
from lsnc_core.runs import prepare


def test_a_network_is_that_of_its_seed():
    first, again, other = (
        torch.cat(
            [w.flatten() for w in prepare.build(a_cnn_spec(seed=s), (1, 8, 8), 10).parameters()]
        )
        for s in (0, 0, 1)
    )
    assert torch.equal(first, again) and (first != other).float().mean() > 0.99
    order_and_noise = prepare.build(a_cnn_spec(seed=0, order_seed=5, a=0.1, p=0.2), (1, 8, 8), 10)
    assert torch.equal(first, torch.cat([w.flatten() for w in order_and_noise.parameters()]))


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
