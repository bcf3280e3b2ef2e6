"""Denormals are zero while networks train, and as before afterwards."""

import importlib
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from helpers import a_spec

from lsnc_core import data
from lsnc_core.runs import denormals
from lsnc_core.runs.fleet import Fleet

SMALLEST = float(np.finfo(np.float32).smallest_normal)


def product_and_gradient() -> tuple[torch.Tensor, torch.Tensor]:
    """SMALLEST / 8 in every entry, as a product and as its gradient."""
    factor = torch.full((100,), SMALLEST, requires_grad=True)
    product = factor * 0.125
    product.backward(torch.full((100,), SMALLEST))
    assert factor.grad is not None
    return product.detach(), factor.grad


@pytest.mark.parametrize("before", [False, True])
def test_denormals_are_zero_while_networks_train(before):
    if not torch.set_flush_denormal(before):
        pytest.skip("this processor keeps denormals")
    steps = []

    def look(*batch):
        with torch.enable_grad():
            steps.append([values.eq(0).all().item() for values in product_and_gradient()])
        # the least numbers of full precision stay as they are
        assert (torch.full((100,), 2 * SMALLEST) * 0.5).eq(SMALLEST).all()

    try:
        fleet = Fleet([a_spec()], data.load("digits"), torch.device("cpu"))
        fleet.train_epoch(look)
        assert steps and all(map(all, steps))
        for values in product_and_gradient():
            assert values.eq(0).all().item() == before
        if not before:  # as numpy has it
            assert values.numpy().tolist() == [np.float32(SMALLEST) * np.float32(0.125)] * 100
    finally:
        torch.set_flush_denormal(False)


def test_the_benchmark_trains_with_them_and_without(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.delitem(sys.modules, "denormals", raising=False)
    benchmark = importlib.import_module("denormals")
    seen, train = [], Fleet.train_epoch

    def look(self, take_step):
        train(self, lambda *batch: seen.append(denormals.are_flushed()) or take_step(*batch))

    monkeypatch.setattr(Fleet, "train_epoch", look)
    measured = benchmark.measure(rounds=1, epochs=3)
    half = len(seen) // 2
    assert not any(seen[:half]) and all(seen[half:])
    assert half == measured["steps"] == 120
    assert measured["ratio"] == pytest.approx(
        measured["seconds"]["denormals"][0] / measured["seconds"]["zeros"][0]
    )
