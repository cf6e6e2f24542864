"""In which settings compared cells differ, and which claims are confounded."""

from dataclasses import replace

import pytest

from retable.report.evaluated import evaluate
from retable.report.markdown import report
from retable.report.settings import Differing, differing, keys_that_differ
from retable.report.verdicts import evaluate_claims

BEATS = {"text": "b beats a", "kind": "greater", "metric": "val", "left": "b", "right": "a"}


def test_the_options_own_keys_are_the_option(make_run):
    """Of another model its name is said, not also its width; and nothing of seed, place or keys that one run lacks."""
    ours = {
        "model": {"name": "a", "width": 8},
        "optimizer": {"name": "sgd", "lr": 0.1},
        "data": {"root": "x", "size": 1},
    }
    theirs = {"model": {"name": "b", "width": 9}, "optimizer": {"name": "sgd", "lr": 0.2}, "data": {"root": "y"}}
    runs = make_run("a", [0.5], 0, config=ours), make_run("b", [0.5], 1, config=theirs)
    assert keys_that_differ(*runs) == {"model.name", "optimizer.lr"}


def test_another_optimizer_does_not_hide_another_learning_rate(make_run):
    """Its own keys are the option; what every optimizer has is not, and may be the reason of what is seen."""
    ours = {"optimizer": {"name": "sgd", "lr": 0.1, "weight_decay": 0.0, "momentum": 0.9, "eps": 1}}
    theirs = {"optimizer": {"name": "adam", "lr": 0.001, "weight_decay": 0.0, "momentum": 0.8, "eps": 2}}
    runs = make_run("a", [0.5], config=ours), make_run("a", [0.5], 1, config=theirs)
    assert keys_that_differ(*runs) == {"optimizer.name", "optimizer.lr"}


def test_one_number_is_not_another_way_to_write_it(make_run):
    runs = [make_run("a", [0.5], config={"dropout": {"p": p}}) for p in (0, 0.0)]
    assert keys_that_differ(*runs) == set()


def test_a_claim_whose_cells_differ_in_more_says_confounded(make_table, make_run, assigned):
    same, other = {"data": {"batch_size": 32}}, {"data": {"batch_size": 64}}
    pure = assigned(make_run("a", [0.1, 0.5], config=same), make_run("b", [0.1, 0.6], config=same))
    mixed = assigned(make_run("a", [0.1, 0.5], config=same), make_run("b", [0.1, 0.6], config=other))
    table = make_table(BEATS)
    (found,) = evaluate_claims(table, pure)
    assert found.differs == Differing(("model.name",))
    assert "confounded" not in found.line
    (found,) = evaluate_claims(table, mixed)
    assert found.differs == Differing(("model.name",), ("data.batch_size",))
    assert found.line.endswith("a 50.00; confounded: the cells differ in data.batch_size, too")
    text = report(evaluate(table, mixed))
    assert text.count("model.name; confounded: data.batch_size |") == 2  # the difference from the baseline, the claim
    assert "confounded" not in report(evaluate(table, pure))


def test_rows_and_columns_are_factors_also_where_a_cell_leaves_them_open(make_table, make_run):
    cells = {"none": {"match": {"p": 0.0}}, "conv": {"match": {"p": 0.2, "where": "conv"}}}
    table = make_table(cells=cells, rows=["p"], columns=["where"], baseline="none")
    runs = [[make_run("x", [0.5], config={"p": p, "where": w})] for p, w in ((0.0, "all"), (0.2, "conv"))]
    assert differing(table, runs) == Differing(("p", "where"))


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_is_compared_with_nothing(make_table, make_run, count):
    assert differing(make_table(), [[make_run("a", [0.5])]][:count]) == Differing()


def test_a_files_other_columns_are_no_settings(make_table, make_run):
    """A CSV file has names of runs and figures among its columns; what is alike within each cell is a setting."""

    def row(name, value, lr):
        return {"id": name, "val": {"accuracy": value}, "time": value * 9, "lr": lr}

    def runs(model, *rows):
        return [
            replace(make_run(model, [value], seed, config=row(name, value, lr)), name=name)
            for seed, (name, value, lr) in enumerate(rows)
        ]

    table = make_table()
    many = [runs("a", ("x", 0.5, 0.1), ("y", 0.6, 0.1)), runs("b", ("u", 0.7, 0.2), ("v", 0.8, 0.2))]
    assert differing(table, many) == Differing(("model.name",), ("lr",))
    one = [found[:1] for found in many]
    assert differing(table, one) == Differing(("model.name",), ("lr", "time"))  # of one run nobody can tell
