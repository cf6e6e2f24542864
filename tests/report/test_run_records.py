"""Run directories as records, broken ones by their reason, and records as cells."""

import json
from types import SimpleNamespace

import pytest

from retable.errors import ConfigError
from retable.report.evaluated import evaluate
from retable.report.runs import Runs, assign, cells_of, read_runs


def test_a_directory_is_the_record_it_was_written_from(make_run, write_run, tmp_path):
    record = make_run("a", [0.4, 0.5], seed=3, steps_per_second=10.0)
    write_run(record)
    (found,) = read_runs([tmp_path]).records
    assert (found.name, found.task, found.seed, found.status) == (record.name, "toy", 3, "finished")
    assert found.history == record.history
    assert found.config == record.config


def test_a_directory_named_twice_is_read_once_in_order_of_path(make_run, write_run, tmp_path):
    paths = [write_run(make_run(cell, [0.4, 0.5])) for cell in "ba"]
    found = read_runs([*paths, tmp_path, tmp_path / "."]).records
    assert [record.name for record in found] == ["model-a__seed-0", "model-b__seed-0"]


def test_a_run_without_result_is_unfinished(make_run, write_run, tmp_path):
    write_run(make_run("a", [0.4], status="unfinished"))
    assert [record.status for record in read_runs([tmp_path]).records] == ["unfinished"]


def test_an_empty_value_is_an_epoch_without_one(make_run, write_run, tmp_path):
    path = write_run(make_run("a", [0.4, 0.5])) / "history.csv"
    path.write_text("epoch,val/accuracy\n1,0.4\n2,\n")
    values = read_runs([tmp_path]).records[0].history["val/accuracy"]
    assert values[0] == 0.4
    assert values[1] != values[1]


def test_a_figure_that_has_become_no_number_is_not_the_one_before_it(make_table, make_run, write_run, tmp_path):
    """An empty cell is an epoch without validation, of which the last one's figure stands; nan and inf are figures."""
    table = make_table(
        {"text": "b beats a", "kind": "greater", "metric": "val", "left": "b", "right": "a"},
        metrics={key: {"column": f"{key}/accuracy"} for key in ("train", "val")}
        | {"best": {"column": "val/accuracy", "reach": 0.4}},
    )
    for cell, last in (("a", ""), ("b", "nan"), ("c", "inf")):
        path = write_run(make_run(cell, [0.4, 0.5])) / "history.csv"
        path.write_text(f"epoch,val/accuracy\n1,0.4\n2,{last}\n")
    found = evaluate(table, assign(table, read_runs([tmp_path])))
    shown = [(row.entries["val"].mean, row.entries["val"].words) for row in found.rows]
    assert shown == [(0.4, ""), (None, "not a number"), (None, "not a number")]
    assert [row.entries["best"].mean for row in found.rows] == [1, 1, 1]
    assert found.verdicts[0].line == "undecided: b: val/accuracy is not a number at epoch 2"


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("run.json", None, "run.json is missing"),
        ("run.json", '{"name": ', "run.json is no JSON"),
        ("run.json", "[]", "run.json is no mapping"),
        ("run.json", '{"name": "x"}', "run.json holds no config"),
        ("result.json", '{"status": "fin', "result.json is no JSON"),
        ("result.json", '{"status": "done"}', "result.json has the unknown status 'done'"),
        ("history.csv", None, "history.csv is missing or empty, of a finished run"),
        ("history.csv", "epoch,val/accuracy\n", "history.csv is missing or empty, of a finished run"),
        ("history.csv", "val/accuracy\n0.5\n", "history.csv has no column epoch"),
        ("history.csv", "epoch,val/accuracy\n1,0.5\n2\n", "history.csv, line 3: 1 values for 2 columns"),
        ("history.csv", "epoch,val/accuracy\n1,high\n", "history.csv, line 2: val/accuracy='high' is no number"),
    ],
)
def test_broken_directories_are_listed_and_left_out(make_run, write_run, tmp_path, file, text, reason):
    write_run(make_run("b", [0.4, 0.5]))
    path = write_run(make_run("a", [0.4, 0.5])) / file
    path.unlink() if text is None else path.write_text(text)
    found = read_runs([tmp_path])
    assert [record.name for record in found.records] == ["model-b__seed-0"]
    assert [(broken.path, broken.reason.startswith(reason)) for broken in found.broken] == [
        (path.parent.as_posix(), True)
    ]


def test_cells_match_by_value_and_not_by_truth(make_table, data):
    data["cells"] = {
        "one": {"match": {"x.n": 1}},
        "yes": {"match": {"x.n": True}},
        "list": {"match": {"x.n": ["r", "v"]}},
    }
    table = make_table(baseline=None)
    assert [cells_of(table, {"x": {"n": n}}) for n in (1.0, True, ["r", "v"], ["v", "r"], "1")] == [
        *(["one"], ["yes"], ["list"], [], []),
    ]
    assert cells_of(table, {"x": 1}) == []


def test_runs_are_sorted_into_cells_by_seed(make_table, make_run):
    records = (make_run("b", [0.5, 0.5], 1), make_run("b", [0.5, 0.5], 0), make_run("z", [0.1, 0.1]))
    found = assign(make_table(), Runs(records, ()))
    assert {name: [r.seed for r in found.cells[name]] for name in found.cells} == {"a": [], "b": [0, 1], "c": []}
    assert [record.config["model"]["name"] for record in found.others] == ["z"]


def test_of_a_repeated_run_the_finished_one_stays(make_table, make_run, write_run, tmp_path):
    for folder, status in (("first", "failed"), ("second", "finished")):
        path = write_run(make_run("a", [0.5, 0.5], status=status), folder) / "run.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "identity": {"model.name": "a"}}))
    found = assign(make_table(), read_runs([tmp_path])).cells["a"]
    assert [record.status for record in found] == ["finished"]


def test_a_run_in_two_cells_is_a_fault_of_the_table(make_table, make_run, data):
    data["cells"]["c"] = {"match": {"model.name": "a"}}
    with pytest.raises(ConfigError, match="meets the cells a, c; accepted is one cell a run"):
        assign(make_table(), Runs((make_run("a", [0.5, 0.5]),), ()))


@pytest.mark.parametrize("kept", [32, "32", "32-true"])
@pytest.mark.parametrize(("asked", "met"), [(32, True), ("32", True), ("32-true", True), ("bf16", False)])
def test_a_cell_is_of_a_value_in_any_of_lightnings_forms(kept, asked, met):
    cell = SimpleNamespace(name="full", match={"trainer.precision": asked})
    found = cells_of(SimpleNamespace(cells={"full": cell}), {"trainer": {"precision": kept}})
    assert found == ["full"] * met
