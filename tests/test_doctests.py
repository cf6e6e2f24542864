"""Examples in docstrings are true."""

import doctest
import importlib
import pkgutil

import pytest

import ablate

MODULES = [m.name for m in pkgutil.walk_packages(ablate.__path__, "ablate.") if not m.name.endswith(".templates")]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0
