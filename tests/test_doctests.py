"""The examples in docstrings."""

import doctest

import pytest

from lsnc_core import losses, models
from lsnc_core.papers import claims
from lsnc_core.report import parameters


@pytest.mark.parametrize(
    "module", [losses, models, claims, parameters], ids=lambda module: module.__name__
)
def test_doctests(module):
    found = doctest.testmod(module)
    assert found.attempted > 0 and found.failed == 0
