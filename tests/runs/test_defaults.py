"""A default device or dtype that a user has set changes no network."""

import contextlib

import numpy as np
import pytest
import torch
from helpers import a_resnet_spec, a_spec

from lsnc_core import labels
from lsnc_core.defaults import usual_defaults
from lsnc_core.runs import execute
from lsnc_core.runs.probe import probe_loss
from lsnc_core.runs.store import Store

pytestmark = pytest.mark.usefixtures("own_outputs")
LOSS = """import torch

def loss(logits, targets):
    weights = torch.tensor([1.0] * 9 + [2.0])
    return -(targets * weights * logits.log_softmax(-1)).sum(-1)
"""


@contextlib.contextmanager
def as_the_user_set(setting):
    """On the device "meta" nothing can be computed: what lands there is noticed."""
    if setting == "a device in a block":
        with torch.device("meta"):
            yield
        return
    if setting == "a device":
        torch.set_default_device("meta")
    else:
        torch.set_default_dtype({"double": torch.float64, "half": torch.bfloat16}[setting])
    try:
        yield
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)


SETTINGS = ["a device", "a device in a block", "double", "half"]


@pytest.mark.parametrize("setting", SETTINGS)
def test_networks_and_their_keys_are_the_same(shelf, tmp_path, setting):
    (tmp_path / "my_loss.py").write_text(LOSS)
    specs = [a_spec(), a_spec(loss=str(tmp_path / "my_loss.py"), p=0.9), a_resnet_spec()]
    for spec in specs:  # each alone, so that it trains in this process
        usual = execute.tensors([spec], "cpu", shelf)[spec]
        with as_the_user_set(setting):
            fresh = Store(tmp_path / "fresh")
            assert fresh.path(spec).name == shelf.path(spec).name
            ours = execute.tensors([spec], "cpu", fresh)[spec]
            table = execute.results([spec], "cpu", fresh)
        for row, expected in zip(ours, usual, strict=True):
            assert row.keys() == expected.keys()
            for name, value in row.items():
                np.testing.assert_array_equal(value, expected[name])
        losses = execute.results([spec], "cpu", shelf).train_loss
        assert table.train_loss.tolist() == losses.tolist()


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_user_s_settings_stay(shelf, tmp_path, setting):
    (tmp_path / "my_loss.py").write_text(LOSS)
    with as_the_user_set(setting):
        before = torch.get_default_device(), torch.get_default_dtype()
        probe_loss(str(tmp_path / "my_loss.py"), 10)
        execute.results([a_spec()], "cpu", shelf)
        with pytest.raises(ZeroDivisionError), usual_defaults():
            assert torch.empty(1).device.type == "cpu" and torch.empty(1).dtype == torch.float32
            raise ZeroDivisionError
        assert (torch.get_default_device(), torch.get_default_dtype()) == before


@pytest.mark.parametrize("setting", SETTINGS)
def test_label_noise_is_drawn_alike(setting):
    clean, T = torch.arange(10).repeat(20), labels.symmetric_noise(0.5, 10)
    usual = labels.corrupt(clean, T, 3)
    with as_the_user_set(setting):
        drawn = labels.corrupt(clean, T, 3)
    assert torch.equal(drawn, usual)
