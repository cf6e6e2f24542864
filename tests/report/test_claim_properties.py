"""What holds for every claim that a file may hold: it is read or refused in one line, judged or undecided.

And each kind says what a few lines of Python say of the same figures.
"""

import math
from itertools import pairwise
from typing import Any

from retable.errors import ConfigError
from retable.experiment.claims import KINDS, parse_claim
from retable.experiment.metrics import Metric, NotThere
from retable.experiment.operands import Operand
from retable.experiment.statement import Evidence
from tests.searching import assume, few, given, is_one_line, many, some

CELLS = ("a", "b", "c")
METRICS = {
    "val": Metric("val", column="val/accuracy", scale=100),
    "loss": Metric("loss", column="val/loss", better="lower", digits=3),
    "epochs": Metric("epochs", column="val/accuracy", reach=50.0, better="lower", digits=1),
}


class Figures:
    """A world of three cells with two epochs each; what is None is not there."""

    def __init__(self, values: dict[str, float | None]) -> None:
        self.values = values

    def cell(self, name: str, operand: Operand) -> float:
        return operand.when.of(self.curve(name, operand), name)

    def curve(self, name: str, operand: Operand) -> dict[int, float]:
        value = self.values[name]
        if value is None:
            raise NotThere(f"no runs of {name}")
        return {1: value / 2, 2: value}


# Claims of any form ---------------------------------------------------------------------------------------------------

KEYS = sorted({"metric", "times", "at", "over", "since"}.union(*(kind.keys() for kind in KINDS.values())))
names = some.sampled_from([*CELLS, "d", "all runs", ""])
junk = some.none() | some.booleans() | some.integers(-2, 3) | some.floats() | some.text(max_size=3) | some.just(2**80)
operands = some.recursive(
    names | junk | some.lists(names, max_size=4),
    lambda inner: some.dictionaries(
        some.sampled_from(["cell", "mean", "lowest", "highest", "metric", "label", "times", "at", "over", "x"]),
        inner | some.sampled_from([*METRICS, "max", "change"]),
        max_size=3,
    ),
    max_leaves=4,
)
entries = some.dictionaries(
    some.sampled_from([*KEYS, "note", "each", "beside", "x"]),
    operands | some.sampled_from([*METRICS, "ascending", "descending", "max"]) | some.lists(operands, max_size=3),
    max_size=2,
)
VALID: list[dict[str, Any]] = [
    {"kind": "best", "cell": "a"},
    {"kind": "best", "cells": ["a", "b"], "among": {"metric": "val", "above": 0.5}},
    {"kind": "best_in", "cells": ["a", "b"]},
    {"kind": "worst", "cell": "c", "metric": "loss"},
    {"kind": "greater", "left": {"mean": ["a", "b"], "times": 2}, "right": {"cell": "c", "over": "max"}, "by": 1},
    {"kind": "fewer_epochs", "left": "a", "right": "b", "metric": "epochs"},
    {"kind": "within", "of": ["a", "b"], "by": 1, "relative": True},
    {"kind": "at_least", "of": ["a"], "value": 3, "at": 1},
    {"kind": "at_most", "of": {"lowest": ["a", "b"]}, "value": 3},
    {"kind": "at_chance", "of": ["a"], "value": 10, "by": 1},
    {"kind": "ordered", "of": ["a", "b", "c"], "direction": "ascending"},
    {"kind": "falls", "from": "a", "to": {"cell": "a", "at": 1}},
    {"kind": "falls", "of": ["a"], "window": 1},
    {"kind": "every_epoch", "left": "a", "right": "b"},
    {"kind": "greater", "left": "a", "each": [{"right": "b"}, {"right": 5}], "beside": [{"right": "c"}]},
]
near = some.builds(
    lambda claim, more: {"text": "a claim", "metric": "val", **claim, **more}, some.sampled_from(VALID), entries
)
claims = (
    near
    | some.builds(lambda claim, key, data: claim | {key: data}, near, some.sampled_from(KEYS), operands)
    | entries
    | junk
)


def test_every_kind_has_a_valid_claim() -> None:
    assert {claim["kind"] for claim in VALID} == KINDS.keys()


def read(data: Any) -> Any:
    """A claim; a refusal is one line that names its place."""
    try:
        return parse_claim("here", "1", data, CELLS, METRICS)
    except ConfigError as error:
        is_one_line(error, "here")
        return None


@many
@given(claims, some.fixed_dictionaries(dict.fromkeys(CELLS, some.none() | some.floats(-1e6, 1e6))))
def test_a_claim_is_refused_in_one_line_or_evaluated(data, values):
    claim = read(data)
    if claim is None:
        return
    evidence = Evidence(Figures(values), METRICS)
    for statement in claim.statements:
        try:
            holds, text = statement.holds(evidence)
            assert isinstance(holds, bool)
            assert text
            for comparison in statement.comparisons(evidence):
                assert isinstance(comparison.margin(evidence.world), float | int)
        except NotThere as error:
            is_one_line(error)


# Each kind against Python's own words ---------------------------------------------------------------------------------

figures = some.fixed_dictionaries(dict.fromkeys(CELLS, some.integers(-40, 40).map(lambda value: value / 4)))


def verdict(values: dict[str, float], metric: str = "val", **claim: Any) -> bool:
    (statement,) = read({"text": "a claim", "metric": metric, **claim}).statements
    return statement.holds(Evidence(Figures(values), METRICS))[0]


@few
@given(figures, some.sampled_from(CELLS), some.sampled_from(["val", "loss"]))
def test_best_and_worst(values, name, metric):
    sign = -1 if metric == "loss" else 1
    others = [sign * value for other, value in values.items() if other != name]
    assert verdict(values, metric, kind="best", cell=name) is (sign * values[name] > max(others))
    assert verdict(values, metric, kind="worst", cell=name) is (sign * values[name] < min(others))
    assert verdict(values, metric, kind="best", cells=list(CELLS))


@few
@given(figures, some.sampled_from(CELLS), some.sampled_from(CELLS), some.integers(0, 20).map(lambda value: value / 4))
def test_pairs(values, left, right, by):
    a, b = values[left], values[right]
    pair = {"left": left, "right": right, "by": by}
    assert verdict(values, kind="greater", **pair) is (a - b > by)
    assert verdict(values, kind="within", **pair) is (abs(a - b) <= by)
    assert verdict(values, kind="within", strict=True, **pair) is (abs(a - b) < by)
    assert verdict(values, kind="every_epoch", left=left, right=right) is (a > b and a / 2 > b / 2)


@few
@given(figures, some.permutations(CELLS), some.integers(-40, 40).map(lambda value: value / 4))
def test_lists(values, order, limit):
    listed = [values[name] for name in order]
    rises = all(before < after for before, after in pairwise(listed))
    falls = all(before > after for before, after in pairwise(listed))
    assert verdict(values, kind="ordered", of=order, direction="ascending") is rises
    assert verdict(values, kind="ordered", of=order, direction="descending") is falls
    assert verdict(values, kind="at_least", of=order, value=limit) is (min(listed) >= limit)
    assert verdict(values, kind="at_most", of=order, value=limit, strict=True) is (max(listed) < limit)
    by = abs(limit) + 0.25
    assert verdict(values, kind="at_chance", of=order, value=1, by=by) is all(abs(v - 1) <= by for v in listed)


@few
@given(figures, some.lists(some.sampled_from(CELLS), min_size=1, max_size=3, unique=True), some.integers(1, 8))
def test_reductions_and_factors(values, chosen, times):
    listed = [values[name] for name in chosen]
    for key, value in {"mean": math.fsum(listed) / len(listed), "lowest": min(listed), "highest": max(listed)}.items():
        operand = {key: chosen, "times": times / 4}
        difference = value * times / 4 - values["a"]
        assume(abs(difference) > 1e-6 or difference == 0)
        assert verdict(values, kind="greater", left=operand, right="a") is (difference > 0)
