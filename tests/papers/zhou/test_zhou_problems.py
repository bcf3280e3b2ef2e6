"""The problems in Zhou's released code, against the libraries that they come from."""

import doctest

import numpy as np
import pytest
import torch
from torchvision import transforms

from lsnc_core.papers.zhou import problems


def test_doctests():
    assert doctest.testmod(problems).failed == 0


def test_the_released_normalisation_moves_test_images():
    image = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0))
    train = transforms.Normalize(problems.PIXEL_MEAN, problems.PIXEL_STD)(image).numpy()
    test = transforms.Normalize(problems.TEST_MEAN, problems.TEST_STD)(image).numpy()
    scale, shift = (part[:, None, None] for part in problems.normalisation_mismatch())
    np.testing.assert_allclose(scale * train + shift, test, atol=1e-6)


def test_aliasing_loses_the_first_deviation_of_each_class_on_a_cpu():
    features, labels = np.random.default_rng(1).standard_normal((30, 4)), np.arange(30) % 3
    whole, without_first = 0.0, 0.0
    for k in range(3):
        part = features[labels == k]
        squares = np.square(part - part.mean(0)).sum(1)
        whole, without_first = whole + squares.sum(), without_first + squares[1:].sum()
    scatter = problems.aliased_scatter(features, labels, on_cpu=False)
    assert scatter == pytest.approx(whole / 30)
    scatter = problems.aliased_scatter(features, labels, on_cpu=True)
    assert scatter == pytest.approx(without_first / 30)


def test_each_problem_has_its_remedy():
    listed = problems.list_problems()
    assert len(listed) == 6
    for problem in listed:
        assert problem.place and problem.published.endswith(".") and problem.right.endswith(".")
        assert not problem.check or problem.check.endswith(".")
    assert "0.011752" in listed[4].check
