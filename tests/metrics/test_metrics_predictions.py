"""What is handed in as logits is checked once, and probabilities are noticed."""

import doctest
import math
import warnings

import pytest
import torch

from lsnc_core.metrics import (
    augrc,
    aurc,
    brier,
    calibration_scores,
    ece,
    fit_temperature,
    look_like_probabilities,
    nll,
    predictions,
)
from lsnc_core.metrics.predictions import Predictions

TYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


def made(K, N=400, sharpness=3.0):
    generator = torch.Generator().manual_seed(K)
    logits = sharpness * torch.randn(N, K, generator=generator, dtype=torch.float64)
    return logits, torch.randint(K, (N,), generator=generator)


def test_doctests():
    assert doctest.testmod(predictions).failed == 0


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("K", [2, 10, 1_000])
def test_probabilities_are_noticed_and_logits_are_not(dtype, K):
    z, _ = made(K)
    p = z.softmax(1).to(dtype)
    for given in (p, (1e3 * z).softmax(1).to(dtype)):  # also those that are 0 or 1
        assert look_like_probabilities(given)
    others = {
        "logits": z,
        "logarithms": p.double().log(),
        "not negative": z.abs(),
        "sums of 1": z - z.mean(1, keepdim=True) + 1 / K,
        "percent": 100 * p,
        "sigmoids": z.sigmoid(),
        "masked": z.masked_fill(z < 0, -math.inf),
    }
    for name, given in others.items():
        assert not look_like_probabilities(given.to(dtype)), name


def test_one_row_that_is_no_distribution_settles_it_and_so_do_few_rows():
    p = made(5)[0].softmax(1)
    assert not look_like_probabilities(p.index_fill(0, torch.tensor([399]), 0.3))
    assert not look_like_probabilities(p[:9]) and look_like_probabilities(p[:10])
    assert not look_like_probabilities(torch.ones(50, 1))


@pytest.mark.parametrize(
    "score", [nll, brier, ece, aurc, augrc, calibration_scores, fit_temperature]
)
def test_probabilities_in_place_of_logits_are_one_warning(score):
    z, labels = made(4)
    with pytest.warns(UserWarning, match="look like probabilities.*give their logarithms") as given:
        score(z.softmax(1), labels)
    assert len(given) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        score(z.log_softmax(1), labels)


def test_log_odds_are_those_of_the_confidence_and_never_saturate(monkeypatch):
    z, labels = made(5)
    monkeypatch.setattr(predictions, "CHUNK", 7 * 5)  # the last piece is smaller
    found = Predictions.checked(z, labels)
    torch.testing.assert_close(found.log_odds, found.confidence.logit(), rtol=1e-9, atol=1e-9)
    sharp = Predictions.checked(
        torch.tensor([[50.0, 0.0], [51.0, 0.0], [90.0, 0.0]]), labels[:3] % 2
    )
    assert sharp.log_odds.tolist() == [50, 51, 90] and (sharp.confidence == 1).all()
    masked = Predictions.checked(torch.tensor([[5.0, -math.inf]]), labels[:1] * 0)
    assert masked.log_odds.tolist() == [math.inf]
