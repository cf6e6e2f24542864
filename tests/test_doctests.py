"""Examples in docstrings are true."""

import doctest
import importlib
import pkgutil

import pytest

import retable

MODULES = [m.name for m in pkgutil.walk_packages(retable.__path__, "retable.") if not m.name.endswith(".templates")]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0
