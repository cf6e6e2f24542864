"""Objects from config nodes."""

import sys

import pytest
import torch

from retable.config.build import build, parameters, target_of
from retable.errors import ConfigError, DataError


class Base:
    def __init__(self, root="here", seed=0):
        self.root, self.seed = root, seed


class Derived(Base):
    def __init__(self, size=1, **base):
        super().__init__(**base)
        self.size = size


def fussy(level):
    if level == "data":
        raise DataError("no data")
    raise ValueError(f"level={level}: accepted: none")


def anything(**given):
    return given


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.setitem(sys.modules, "fixtures_of_build", sys.modules[__name__])


def node(name, **keys):
    return {"_target_": f"fixtures_of_build.{name}", **keys}


def test_keys_and_context_are_passed_on():
    made = build(node("Derived", size=3, root="there"), "data", seed=7, classes=("no", "such", "parameter"))
    assert (made.size, made.root, made.seed) == (3, "there", 7)


def test_positional_arguments_and_ignored_keys():
    weight = torch.nn.Parameter(torch.ones(2))
    made = build({"_target_": "torch.optim.SGD", "lr": 0.5, "l1": 1.0}, "optimizer", [weight], ignore=("l1",))
    assert made.param_groups[0]["params"] == [weight]
    assert made.param_groups[0]["lr"] == 0.5


def test_parameters_of_bases_count_where_they_are_passed_on():
    assert list(parameters(Derived)) == ["size", "root", "seed"]
    assert list(parameters(Base)) == ["root", "seed"]
    assert list(parameters(torch.nn.Dropout)) == ["p", "inplace"]


def test_a_target_that_takes_any_key():
    assert build(node("anything", a=1), "x", b=2) == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("target", "keys", "message"),
    [
        ("Derived", {"sized": 1}, "part.sized: no such key; accepted: size, root, only_here"),
        ("fussy", {"level": 3}, "part.level=3: accepted: none"),
        ("fussy", {}, "part.level: missing; fixtures_of_build.fussy needs it"),
    ],
)
def test_refusals_say_where_the_key_stands(target, keys, message):
    with pytest.raises(ConfigError) as refused:
        build(node(target, **keys), "part", ignore=("only_here",), seed=0)
    assert str(refused.value) == message


def test_errors_that_are_explained_already_pass_unchanged():
    with pytest.raises(DataError, match=r"^no data$"):
        build(node("fussy", level="data"), "part")


@pytest.mark.parametrize("name", ["no_such_module.Thing", "torch.nn.NoSuchThing", None])
def test_what_cannot_be_imported_is_refused_in_one_line(name, capfd):
    with pytest.raises(ConfigError) as refused:
        target_of({"_target_": name}, "model")
    assert str(refused.value).startswith(f"model._target_={name}: cannot be imported (")
    assert "\n" not in str(refused.value)
    assert capfd.readouterr() == ("", ""), "Hydra prints it too"


class Buggy:
    def __init__(self, width, depth=1):
        self.layers = [int("three") for _ in range(depth)]


def test_a_fault_in_a_class_of_ones_own_is_no_refusal():
    with pytest.raises(ValueError, match="invalid literal for int"):
        build(node("Buggy", width=1), "model")


def test_a_library_s_own_refusal_is_one_line():
    weight = torch.nn.Parameter(torch.ones(2))
    with pytest.raises(ConfigError, match=r"^optimizer: Invalid learning rate: -1"):
        build({"_target_": "torch.optim.SGD", "lr": -1}, "optimizer", [weight])


def test_a_missing_key_is_named():
    with pytest.raises(ConfigError, match=r"^model\.width: missing; fixtures_of_build\.Buggy needs it$"):
        build(node("Buggy"), "model")


class Passing(Buggy):
    """Gives its base what that needs; `others` is passed on, too."""

    def __init__(self, name_of_it, **others):
        super().__init__(width=2, depth=0, **others)


class PassingNothing(Buggy):
    def __init__(self, **others):
        super().__init__(**others)


def test_what_a_base_needs_may_be_given_by_the_class_itself():
    assert build(node("Passing", name_of_it=1), "model").layers == []
    with pytest.raises(ConfigError, match=r"^model\.width: missing; fixtures_of_build\.PassingNothing needs it$"):
        build(node("PassingNothing"), "model")


@pytest.mark.parametrize(("path", "passed"), [("model", False), ("data", True), ("logger.mine", True)])
def test_a_name_is_an_options_or_an_argument(path, passed):
    assert build(node("anything", p=1) | {"name": "x"}, path) == ({"name": "x"} if passed else {}) | {"p": 1}
