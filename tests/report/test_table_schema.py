"""Every fault of a table is one line that names the table, the key, and what is accepted."""

import subprocess
import sys

import pytest

from retable.errors import ConfigError
from retable.experiment.metrics import Published
from retable.experiment.table import load_table, parse_table

GOOD = {"text": "b beats a", "kind": "greater", "metric": "val", "left": "b", "right": "a"}


def claim(**changes):
    return {"claims": [{key: value for key, value in {**GOOD, **changes}.items() if value is not None}]}


def cell(**changes):
    return {"cells": {"a": {"match": {"model.name": "a"}, **changes}}}


FAULTS = [
    ({"bogus": 1}, "toy/table: unknown key 'bogus'; accepted are assumed, baseline, cells"),
    ({"name": "toy/table"}, "toy/table: unknown key 'name'"),  # it is the file's place
    ({"title": None}, "toy/table: title=None is not accepted; accepted is a text"),
    ({"published_epochs": 0}, "published_epochs=0 is not accepted; accepted is a whole number of at least 1"),
    ({"assumed": "batch size"}, "assumed='batch size' is not accepted; accepted is a list of texts"),
    ({"grid": []}, "grid=[] is not accepted; accepted is a list of blocks of overrides"),
    ({"grid": ["model=a"]}, "grid[0]: 'model=a' is no block; accepted is a mapping of overrides"),
    ({"grid": [{"include": "toy/x", "model": "a"}]}, "grid[0]: include stands alone"),
    ({"grid": [{"zip": {"a": [1, 2], "b": [1]}}]}, "grid[0]: the lists under zip differ in length"),
    ({"grid": [{"zip": {"a": 1}}]}, "grid[0]: zip={'a': 1} is not accepted"),
    ({"grid": [{"model": []}]}, "grid[0]: 'model': [] is not accepted; accepted is a value or a list of values"),
    ({"metrics": {}}, "metrics={} is not accepted"),
    (
        {"metrics": {"val": {"scale": 100}}},
        "metrics.val: says not where it comes from; accepted is exactly one of column",
    ),
    ({"metrics": {"val": {"column": "x", "better": "big"}}}, "metrics.val: better='big' is not accepted"),
    ({"metrics": {"val": {"difference": ["x", "y"]}}}, "metrics.val: difference: 'x' is unknown"),
    ({"metrics": {"val": {"difference": [1, "val"]}}}, "metrics.val: difference: 'val' is unknown"),
    ({"metrics": {"val": {"difference": [1, 2]}}}, "metrics.val: difference=[1, 2] is not accepted; accepted is two"),
    (cell(match={"data.fraction": "all"}), "cells.a: match: data.fraction='all' is not accepted"),
    (
        {"metrics": {"val": {"result": "x", "reach": 1}}},
        "metrics.val: reach=1 is not accepted; accepted is only with column",
    ),
    ({"metrics": {"val": {"column": "x", "digits": -1}}}, "metrics.val: digits=-1 is not accepted"),
    ({"baseline": "d"}, "baseline: 'd' is unknown; accepted are a, b, c"),
    ({"columns": ["x"]}, "columns=['x'] is not accepted; accepted is only with rows"),
    ({"labels": {"x": {}}}, "labels: unknown key 'x'; accepted are nothing"),
    ({"cells": {0.1: {"match": {"x": 1}}}}, "cells: 0.1 is no text; put the cell's name in quotes"),
    (cell(match={}), "cells.a: match={} is not accepted"),
    (cell(published={"test": 1}), "cells.a: published: unknown key 'test'; accepted are epochs, gap"),
    (cell(published={"val": "50 %"}), "cells.a: published: val='50 %' is not accepted; accepted is a number"),
    (cell(published={"val": {"range": [2, 1]}}), "cells.a: published: val={'range': [2, 1]} is not accepted"),
    (cell(published={"val": {"curve": []}}), "cells.a: published: val={'curve': []} is not accepted"),
    (cell(epoch=3), "cells.a: unknown key 'epoch'; accepted are epochs, match, note, published"),
    (claim(kind="bestest"), "claims[0]: kind='bestest' is not accepted; accepted is one of best, best_in, worst"),
    (claim(text=""), "claims[0]: text='' is not accepted"),
    (claim(left="d"), "claims[0]: operand: cell: 'd' is unknown; accepted are a, b, c"),
    (claim(left=None), "claims[0]: left is missing; accepted is an operand"),
    (claim(metric="f1"), "claims[0]: operand: metric='f1' is not accepted; accepted is one of train, val"),
    (claim(metric=None), "claims[0]: operand: metric is missing"),
    (claim(value=3), "claims[0]: unknown key 'value'"),
    (claim(by="much"), "claims[0]: by='much' is not accepted; accepted is a finite number"),
    (claim(each=[{"rihgt": "a"}]), "claims[0].each[0]: unknown key 'rihgt'"),
    (claim(each=[]), "claims[0]: each=[] is not accepted"),
    (claim(beside=[]), "claims[0]: beside=[] is not accepted"),
    (claim(beside=[{"rihgt": "a"}]), "claims[0].beside[0]: unknown key 'rihgt'"),
    (claim(left={"cell": "b", "times": "twice"}), "operand: times='twice' is not accepted"),
    (
        claim(kind="best", left=None, right=None, cell="a", among={"metric": "val"}),
        "claims[0]: among: above is missing; accepted is a finite number",
    ),
    ({"metrics": {"val": {"mean": ["x"]}}}, "metrics.val: mean: 'x' is unknown"),
    (claim(left={"mean": ["a"], "cell": "b"}), "accepted is exactly one of cell, mean, lowest, highest"),
    (claim(left={"cell": "b", "over": "mean"}), "operand: over='mean' is not accepted; accepted is one of max, min"),
    (claim(left={"cell": "b", "at": 1, "over": "max"}), "accepted is one of at, over and fall_done"),
    (claim(left={"cell": "b", "since": 1}), "since=1 is not accepted; accepted is only with over"),
    (claim(kind="fewer_epochs"), "claims[0]: metric='val' is not accepted; accepted is one with reach: epochs"),
    (claim(kind="best", left=None, right=None, cell="d"), "claims[0]: cell: 'd' is unknown; accepted are a, b, c"),
    (claim(kind="best", left=None, right=None, cell="a", of=["b"]), "claims[0]: cell: 'a' is unknown; accepted are b"),
    (
        claim(kind="at_least", left=None, right=None, of=["a"]),
        "claims[0]: value is missing; accepted is a finite number",
    ),
    (claim(kind="ordered", left=None, right=None, of=["a", "b"]), "claims[0]: direction is missing"),
    (
        claim(kind="ordered", left=None, right=None, of="all runs", direction="ascending"),
        "is for best, best_in and worst",
    ),
    (claim(kind="falls", left=None, right=None, of=["a"]), "claims[0]: window is missing"),
    # What would hold of any values.
    (
        claim(kind="best", left=None, right=None, cell="a", of=[{"cell": "a", "at": 1}, {"cell": "a", "at": 2}, "b"]),
        "claims[0]: of: two are called a; accepted is a label for each",
    ),
    (
        claim(kind="within", left=None, right=None, of=["a"], by=1),
        "claims[0]: of=['a'] is not accepted; accepted is two",
    ),
    (
        claim(kind="ordered", left=None, right=None, of=["a"], direction="ascending"),
        "claims[0]: of=['a'] is not accepted; accepted is two",
    ),
]


@pytest.mark.parametrize(("changes", "message"), FAULTS)
def test_fault(data, changes, message):
    with pytest.raises(ConfigError) as error:
        parse_table({**data, **changes}, "toy/table", "toy/table")
    assert message in str(error.value)
    assert str(error.value).startswith("toy/table")
    assert "\n" not in str(error.value)


def test_the_file_is_named(data, tmp_path):
    with pytest.raises(ConfigError, match=r"^conf/x\.yaml: unknown key 'bogus'"):
        parse_table({**data, "bogus": 1}, "x", "conf/x.yaml")
    path = tmp_path / "x.yaml"
    for text, fault in (("a: [", "cannot be read as YAML"), ("a: 1", "holds no table")):
        path.write_text(text)
        with pytest.raises(ConfigError, match=fault) as error:
            load_table(path)
        assert "\n" not in str(error.value)


def test_defaults_and_kinds_of_published_figures(make_table, data):
    data["cells"]["a"] = {
        "match": {"model.name": "a"},
        "published": {"val": {"range": [98, 99]}, "train": {"curve": [1, 2]}},
    }
    table = make_table(GOOD)
    assert table.cells["a"].published["val"] == Published(low=98, high=99)
    assert table.cells["a"].published["train"] == Published(value=2, curve={1: 1, 2: 2})
    assert table.metrics["epochs"].better == "lower"
    assert (table.task, table.cells["a"].epochs) == ("toy", 2)
    assert (table.claims[0].id, table.claims[0].cells, table.claims[0].absolute) == ("T1 (1)", ("b", "a"), False)


def test_the_schema_loads_nothing_heavy():
    code = (
        "import sys, retable.experiment.table;"
        "print([name for name in ('torch', 'pandas', 'numpy', 'hydra') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
