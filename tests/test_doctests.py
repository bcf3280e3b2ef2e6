"""The examples in docstrings."""

import doctest
import importlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "lsnc_core"
NAMES = []
for path in sorted(PACKAGE.rglob("*.py")):
    if ">>> " in path.read_text(encoding="utf-8"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        NAMES.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))


@pytest.mark.parametrize("name", NAMES)
def test_doctests(name):
    tried = doctest.testmod(importlib.import_module(name))
    assert tried.attempted > 0 and tried.failed == 0
