"""Profiles by name, and the automatic one."""

import pytest
import torch

from lsnc_core import data, profiles
from lsnc_core.errors import UsageError

# profiles


def test_profiles_are_taken_by_name_and_unknown_ones_are_refused():
    for name in profiles.PROFILES:
        assert profiles.resolve(name) == (name, "as requested")
    with pytest.raises(
        UsageError,
        match=r"unknown profile 'quik': the profiles are auto, smoke, .*; did you mean 'quick'\?",
    ) as caught:
        profiles.resolve("quik")
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="unknown profile 'zzz'") as caught:
        profiles.resolve("zzz")
    assert "did you mean" not in str(caught.value)


def test_the_automatic_profile(monkeypatch):
    asked = []

    def there(name, offline):
        asked.append((name, offline))

    def absent(name, offline):
        raise UsageError("mnist is not there.")

    monkeypatch.setattr(data, "load", there)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert profiles.resolve("auto") == ("quick", "torch finds no CUDA device") and asked == []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert profiles.resolve("auto", "cpu") == ("quick", "the CPU was requested") and asked == []
    assert (
        profiles.resolve("auto")[0] == profiles.resolve("auto", "cuda")[0] == "gpu"
        and asked == [("mnist", True), ("cifar10", True)] * 2
    )
    monkeypatch.setattr(data, "load", absent)
    assert profiles.resolve("auto") == ("quick", "CUDA is available, but mnist is not there")
