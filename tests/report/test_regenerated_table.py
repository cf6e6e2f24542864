"""The table beside the published figures, with spread, and with cells that have none."""

import csv
import io

import pytest

from retable.report.csv import csv_text
from retable.report.evaluated import evaluate
from retable.report.markdown import markdown_table, report
from retable.report.runs import Assigned, Runs, assign, read_runs

BEATS = {"text": "b beats a", "kind": "greater", "metric": "val", "left": "b", "right": "a"}
METRICS = {
    "train": {"column": "train/accuracy", "scale": 100, "unit": "%"},
    "val": {"column": "val/accuracy", "scale": 100, "unit": "%"},
}


def test_mean_and_sample_deviation_over_seeds(make_table, make_run, assigned):
    values = (0.50, 0.53, 0.47)  # mean 50, sample deviation 3
    rows = evaluate(make_table(), assigned(*(make_run("a", [0.1, v], seed) for seed, v in enumerate(values)))).rows
    entry = rows[0].entries["val"]
    assert entry.mean == pytest.approx(50)
    assert entry.std == pytest.approx(3)
    assert (entry.n, entry.published.value, entry.difference) == (3, 50, pytest.approx(0))


def test_failed_missing_diverged_and_other_cells_are_shown_in_words(make_table, make_run, assigned):
    sample = make_run("b", [0.1, 0.9], 2, data={"source": "sample"})
    runs = assigned(
        *(make_run("a", [0.1], seed, "failed") for seed in (0, 1)),
        make_run("b", [0.1, 0.6], 0),
        make_run("b", [0.1], 1, "diverged"),
        sample,
    )
    text = markdown_table(evaluate(make_table(metrics=METRICS), runs))
    assert text.splitlines() == [
        "|  | train (%) | val (%) |",
        "| --- | --- | --- |",
        "| a | 2 of 2 failed / 60 | 2 of 2 failed / 50 |",
        "| b | 70.00 (1 of 2 diverged, 1 of other data) / 80 / -10.00"
        " | 60.00 (1 of 2 diverged, 1 of other data) / 60 / +0.00 |",
        "| c | missing / 60 | missing / 40 |",
    ]


def test_best_is_marked_and_one_seed_has_no_spread(make_table, make_run, assigned):
    runs = assigned(make_run("a", [0.1, 0.5]), *(make_run("b", [0.1, v], s) for s, v in enumerate((0.6, 0.7))))
    table = make_table(metrics=METRICS)
    lines = markdown_table(evaluate(table, runs)).splitlines()
    assert lines[2] == "| a | 60.00 / 60 / +0.00 | 50.00 / 50 / +0.00 |"
    assert lines[3] == "| b | **75.00 ± 7.07** (2) / 80 / -5.00 | **65.00 ± 7.07** (2) / 60 / +5.00 |"


def test_rows_are_ranked_and_those_without_a_figure_come_last(make_table, make_run, assigned):
    runs = assigned(make_run("a", [0.1, 0.5]), make_run("b", [0.1, 0.6], status="failed"), make_run("c", [0.1, 0.7]))
    assert [row.cell.name for row in evaluate(make_table(), runs).rows] == ["a", "b", "c"]
    assert [row.cell.name for row in evaluate(make_table(ranked="val"), runs).rows] == ["c", "a", "b"]
    lower = assigned(*(make_run(cell, [0.5], loss=[loss]) for cell, loss in (("a", 3), ("b", 1), ("c", 2))))
    assert [row.cell.name for row in evaluate(make_table(ranked="loss"), lower).rows] == ["b", "c", "a"]


def test_reduced_scale_is_not_compared_with_published_figures(make_table, make_run, assigned):
    table = make_table(BEATS, published_epochs=10, metrics=METRICS)
    runs = assigned(make_run("a", [0.1, 0.5]), make_run("b", [0.1, 0.6]))
    text = report(evaluate(table, runs))
    assert "- Reduced scale: 2 of 10 epochs." in text
    assert "| a | 60.00 / 60 / not comparable | 50.00 / 50 / not comparable |" in text
    assert "| T1 (1) b beats a | holds at this scale (2 of 10 epochs), not resolved at 1 seed:" in text


def test_sample_data_shows_no_published_figures(make_table, make_run, assigned):
    table = make_table(BEATS, metrics=METRICS)
    data = {"source": "sample"}
    text = report(evaluate(table, assigned(*(make_run(c, [0.1, v], data=data) for c, v in (("a", 0.5), ("b", 0.6))))))
    assert "- Made from sample data" in text
    assert "| a | 60.00 | 50.00 |" in text
    assert "not judged (sample data)" in text
    assert "1 claim, not judged: sample data." in text


def test_a_range_is_met_inside_and_missed_from_its_nearer_end(make_table, make_run, assigned, data):
    for name in "abc":
        data["cells"][name]["published"] = {"val": {"range": [45, 55]}}
    runs = assigned(make_run("a", [0.1, 0.5]), make_run("b", [0.1, 0.6]), make_run("c", [0.1, 0.4]))
    rows = evaluate(make_table(), runs).rows
    assert [row.entries["val"].difference for row in rows] == pytest.approx([0, 5, -5])


def test_thresholds_that_some_seeds_never_reach(make_table, make_run, assigned):
    runs = assigned(
        *(make_run("a", [0.1, v], seed) for seed, v in enumerate((0.5, 0.4))),
        make_run("b", [0.1, 0.4]),
        make_run("c", [0.5, 0.5]),
    )
    rows = evaluate(make_table(), runs).rows
    assert [row.entries["epochs"].words for row in rows] == ["never reached in 1 of 2", "never reached", ""]
    assert [row.entries["step_time"].words for row in rows] == ["not recorded"] * 3


@pytest.fixture
def pivoted(make_table):
    cells = {
        "none": {"match": {"p": 0.0}, "published": {"val": 50}},
        **{f"{w} {p}": {"match": {"p": p, "where": w}} for p in (0.2, 0.3) for w in ("conv", "all")},
    }
    metrics = {"val": METRICS["val"]}
    layout = {"rows": ["p"], "columns": ["where"], "labels": {"p": {0.0: "none"}}, "baseline": "none"}
    return make_table(cells=cells, metrics=metrics, **layout)


def test_pivot_as_published_with_the_baseline_in_every_column(pivoted, make_run, write_run, tmp_path):
    write_run(make_run("x", [0.1, 0.52], config={"p": 0.0, "where": "all"}), "none")
    write_run(make_run("x", [0.1, 0.48], config={"p": 0.2, "where": "all"}), "all")
    found = evaluate(pivoted, assign(pivoted, read_runs([tmp_path])))
    assert markdown_table(found).splitlines() == [
        "| p | conv val (%) | all val (%) |",
        "| --- | --- | --- |",
        "| none | **52.00** / 50 / +2.00 | **52.00** / 50 / +2.00 |",
        "| 0.2 | missing | 48.00 |",
        "| 0.3 | missing | missing |",
    ]


@pytest.mark.parametrize(
    ("columns", "matches"),
    [
        ([], [{"p": 0.2, "where": "conv"}, {"p": 0.2, "where": "all"}]),  # of one line
        (["where"], [{"p": 0.2}, {"p": 0.2, "where": "conv"}]),  # beside the baseline of its line
        ([], [{"p": True}, {"p": 1}]),
        (["where", "q"], [{"p": 1, "where": "conv"}, {"p": 2, "where": "all", "q": 3}]),  # in no column
    ],
)
def test_no_cell_is_hidden_by_another_of_its_place(make_table, make_run, columns, matches):
    """Rows and columns that don't tell the cells apart: a plain list has them all, as the CSV file does."""
    cells = {name: {"match": match} for name, match in zip("ab", matches, strict=True)}
    table = make_table(cells=cells, rows=["p"], columns=columns, metrics={"val": METRICS["val"]}, baseline="a")
    runs = Assigned({"a": [make_run("x", [0.1, 0.3])], "b": [make_run("x", [0.1, 0.4])]})
    assert markdown_table(evaluate(table, runs)).splitlines()[2:] == ["| a | 30.00 |", "| b | **40.00** |"]


def test_a_line_for_each_list_of_a_setting(make_table, make_run):
    cells = {name: {"match": {"kinds": [name]}} for name in "ab"}
    table = make_table(cells=cells, rows=["kinds"], metrics={"val": METRICS["val"]}, baseline="a")
    runs = Assigned({"a": [make_run("x", [0.1, 0.3])], "b": [make_run("x", [0.1, 0.4])]})
    assert markdown_table(evaluate(table, runs)).splitlines()[2:] == ["| ['a'] | 30.00 |", "| ['b'] | **40.00** |"]


def test_a_column_that_is_a_number_says_of_what(make_table, make_run):
    cells = {f"{n} {lr}": {"match": {"model.name": n, "optimizer.lr": lr}} for n in "ab" for lr in (0.1, 0.01)}
    found = [
        make_run(name, [0.5], config={"model": {"name": name}, "optimizer": {"lr": lr}})
        for name in "ab"
        for lr in (0.1, 0.01)
    ]
    for labels, heads in (
        ({}, ["lr 0.1 val (%)", "lr 0.01 val (%)"]),
        ({0.1: "high"}, ["high val (%)", "lr 0.01 val (%)"]),
    ):
        table = make_table(
            cells=cells,
            rows=["model.name"],
            columns=["optimizer.lr"],
            metrics={"val": METRICS["val"]},
            labels={"optimizer.lr": labels},
            baseline="a 0.1",
        )
        assert evaluate(table, assign(table, Runs(tuple(found), ()))).layout.heads == heads


def test_csv_has_a_line_a_cell_and_metric_in_full_precision(make_table, make_run, assigned):
    table = make_table(metrics=METRICS)
    runs = assigned(*(make_run("a", [0.1, v], seed) for seed, v in enumerate((0.5, 0.51, 0.51))))
    lines = list(csv.DictReader(io.StringIO(csv_text(evaluate(table, runs)))))
    assert [(line["cell"], line["metric"]) for line in lines[:3]] == [("a", "train"), ("a", "val"), ("b", "train")]
    assert float(lines[1]["mean"]) == pytest.approx(152 / 3, abs=1e-12)
    assert (lines[1]["n"], lines[1]["published"], lines[2]["words"], lines[2]["mean"]) == ("3", "50.0", "missing", "")


def test_the_same_directories_give_the_same_bytes(make_table, make_run, write_run, tmp_path):
    table = make_table(BEATS, metrics=METRICS)
    for cell in "ab":
        for seed in range(3):
            write_run(make_run(cell, [0.1, 0.5 + seed / 30], seed), f"runs/{cell}{seed}")
    made = []
    for _ in range(2):
        found = evaluate(table, assign(table, read_runs([tmp_path / "runs"])))
        made.append((report(found), csv_text(found)))
    assert made[0] == made[1]


def test_remarks_name_what_was_assumed_and_what_is_broken(make_table, make_run, write_run, tmp_path):
    table = make_table(assumed=["batch size 32", "SGD"], notes=["no table was published"])
    write_run(make_run("a", [0.1, 0.5], device="cpu"), "a")
    write_run(make_run("b", [0.1, 0.5], device="H200"), "b")
    (write_run(make_run("c", [0.1, 0.5]), "c") / "result.json").write_text("{")
    runs = assign(table, read_runs([tmp_path]))
    remarks = evaluate(table, runs).remarks
    assert list(remarks[:3]) == [
        "The runs come from different devices: H200; cpu.",
        "Assumed: batch size 32; SGD.",
        "No table was published.",
    ]
    assert "result.json is no JSON" in remarks[3]


@pytest.mark.parametrize(
    ("precisions", "remark"),
    [
        (("32", "32"), []),
        (("bf16-mixed", "bf16-mixed"), ["Trained in bf16-mixed, not in float32."]),
        (("32", "bf16-mixed"), ["Runs of different precision: 32, bf16-mixed."]),
    ],
)
def test_another_precision_than_float32_is_reported(precisions, remark, make_table, make_run, assigned):
    runs = [make_run(cell, [0.1, 0.5], precision=one) for cell, one in zip("ab", precisions, strict=True)]
    found = evaluate(make_table(), assigned(*runs))
    assert [str(one) for one in found.remarks if one.kind == "precision"] == remark
