"""The shorthand dropout=..., and overrides made from YAML values."""

import doctest
import importlib
import pkgutil

import pytest

import retable.config
from retable.config.overrides import override_text, translate

MODULES = [f"retable.config.{module.name}" for module in pkgutil.iter_modules(retable.config.__path__)]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("dropout=0.37", "dropout.p=0.37"),
        ("dropout=0", "dropout.p=0"),
        ("dropout=none", "dropout.p=0.0"),
        ("dropout=default", "dropout.p=0.0"),
        ("dropout=0.2,0.3,0.5", "dropout.p=0.2,0.3,0.5"),
        ("dropout=0.2,none,0.5", "dropout.p=0.2,0.0,0.5"),
        ("dropout=range(0.1,0.6,0.1)", "dropout.p=range(0.1,0.6,0.1)"),
        ("dropout=choice(none,0.3)", "dropout.p=choice(0.0,0.3)"),
        ("+dropout=0.3", "+dropout.p=0.3"),
        ("++dropout=none", "++dropout.p=0.0"),
    ],
)
def test_the_shorthand_sets_the_probability(given, expected):
    assert translate([given]) == [expected]


@pytest.mark.parametrize(
    "other",
    [
        "dropout.p=0.3",
        "dropout.where=fc",
        "dropouts=none",
        "model.dropout=none",
        "scheduler=none",
        "~dropout",
        "dropout",
    ],
)
def test_other_overrides_stay_as_they_are(other):
    assert translate([other]) == [other]


def test_the_order_is_kept():
    given = ["task=cifar", "dropout=none", "seed=1", "dropout=0.1"]
    assert translate(given) == ["task=cifar", "dropout.p=0.0", "seed=1", "dropout.p=0.1"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.3, "key=0.3"),
        (None, "key=null"),
        (True, "key=true"),
        (False, "key=false"),
        ("range(1,4)", "key=range(1,4)"),
        (["rotate", "hflip"], "key=[rotate,hflip]"),
        ([], "key=[]"),
        ({"p": 0.3, "where": ["fc"]}, "key={p:0.3,where:[fc]}"),
    ],
)
def test_values_of_yaml_in_hydras_grammar(value, text):
    assert override_text("key", value) == text


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples():
    assert sum(doctest.testmod(importlib.import_module(name)).attempted for name in MODULES) >= 4
