"""Tables that were published epoch by epoch: in every format beside the regenerated ones, and in the charts."""

import csv
import io

import pytest

from retable.report.copies import write_table
from retable.report.csv import csv_by_epoch
from retable.report.curves import published_lines
from retable.report.drawing import charts
from retable.report.evaluated import evaluate
from retable.report.index import write_site
from retable.report.latex import latex_by_epoch
from retable.report.markdown import report
from retable.report.runs import assign, read_runs
from tests.report.tables import table as published_table

METRICS = {
    "val": {"column": "val/accuracy", "scale": 100, "unit": "%"},
    "rest": {"difference": [100, "val"], "better": "lower"},
}
CELLS = {
    "a": {"match": {"model.name": "a"}, "published": {"val": {"curve": [40, 50, 52]}, "rest": {"curve": [60, 50, 48]}}},
    "b": {"match": {"model.name": "b"}, "published": {"val": {"curve": [41.5, 55, 60]}}},
    "c": {"match": {"model.name": "c"}},
}


@pytest.fixture
def table(make_table):
    return make_table(metrics=METRICS, cells=CELLS, published_epochs=3)


@pytest.fixture
def runs(make_run, assigned):
    """Of a two seeds of three epochs, of b one that failed."""
    found = [make_run("a", [0.4 + seed / 50, 0.5, 0.55], seed) for seed in (0, 1)]
    return assigned(*found, make_run("b", [0.4], status="failed"))


def test_markdown_has_a_table_a_metric_a_line_an_epoch(table, runs):
    text = report(evaluate(table, runs))
    section = text[text.index("## By epoch: val (%)") : text.index("## By epoch: rest")]
    assert section.splitlines()[2:7] == [
        "| epoch | a val (%) | b val (%) |",
        "| --- | --- | --- |",
        "| 1 | 41.00 ± 1.41 (2) / 40 / +1.00 | failed / 41.5 |",
        "| 2 | 50.00 (2) / 50 / +0.00 | failed / 55 |",
        "| 3 | 55.00 (2) / 52 / +3.00 | failed / 60 |",
    ]
    assert "| 1 | 59.00 ± 1.41 (2) / 60 / -1.00 |" in text[text.index("## By epoch: rest") :]


def test_csv_and_latex(table, runs):
    found = evaluate(table, runs)
    lines = list(csv.DictReader(io.StringIO(csv_by_epoch(found))))
    assert [(line["metric"], line["cell"], line["epoch"]) for line in lines] == [
        *(("val", cell, str(epoch)) for cell in "ab" for epoch in (1, 2, 3)),
        *(("rest", "a", str(epoch)) for epoch in (1, 2, 3)),
    ]
    assert float(lines[0]["mean"]) == pytest.approx(41)
    assert (lines[0]["n"], lines[0]["published"], lines[3]["words"], lines[3]["mean"]) == ("2", "40.0", "failed", "")
    text = latex_by_epoch(found)
    assert text.count(r"\begin{tabular}{lrr}") == text.count(r"\begin{tabular}{lr}") == 1
    assert r"2 & 50.00 (50) & failed (55) \\" in text
    assert r"3 & 45.00 (48) \\" in text


def test_what_was_not_published_by_epoch_has_no_such_file(make_table, runs, tmp_path):
    found = evaluate(make_table(), runs)
    assert (csv_by_epoch(found), latex_by_epoch(found), found.by_epoch) == ("", "", ())
    write_table(found, tmp_path / found.table.name)
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["report.csv", "report.md", "report.tex"]


def test_epochs_that_a_shorter_run_has_not_got_to_are_a_dash(table, make_run, assigned):
    found = evaluate(table, assigned(make_run("a", [0.4, 0.5], config={"trainer": {"max_epochs": 2}})))
    entries = [line[1][0] for line in found.by_epoch[0].lines]
    assert [(e.words, e.mean is None, e.difference) for e in entries] == [("", False, None)] * 2 + [("–", True, None)]


def test_sample_data_stands_beside_no_published_curve(table, make_run, assigned):
    found = evaluate(table, assigned(make_run("a", [0.4, 0.5, 0.6], data={"source": "sample"})))
    assert {e.published for _, entries in found.by_epoch[0].lines for e in entries[:1]} == {None}
    assert published_lines(found.rows, table.metrics["val"]) == []


def test_charts_show_the_published_curve_dashed_in_the_cells_colour(table, runs):
    found = evaluate(table, runs)
    (line,) = published_lines(found.rows, table.metrics["val"])  # b has no finished run to stand beside
    assert (line.label, line.look % 8, line.look // 8) == ("a", 0, 1)
    assert line.points == ((1, 40, 40, 40), (2, 50, 50, 50), (3, 52, 52, 52))
    drawn = {chart.title: chart for chart in charts(found)}
    for title in ("Accuracy per epoch, all runs", "Rest per epoch, all runs"):
        assert [(key.label, key.dash) for key in drawn[title].keys if key.dash != "none"] == [("a, published", "5 2")]
        assert "dashed line: the published curve" in drawn[title].note
        assert 'class="line line-8"' in drawn[title].panels[-1]


def test_the_page_has_them_as_tables(table, make_run, write_run, tmp_path):
    write_run(make_run("a", [0.4, 0.5, 0.55]), "runs/a")
    write_site([evaluate(table, assign(table, read_runs([tmp_path / "runs"])))], tmp_path / "tables")
    page = (tmp_path / "tables/toy/table/index.html").read_text()
    own = page[page.index('id="epochs-1"') : page.index('id="epochs-2"')]
    assert own.count('<th scope="row">') == 3
    assert 'published 52<span class="difference">, +3.00</span>' in own


def test_reports_c_and_d1_have_all_their_rows():
    from retable.report.runs import Assigned

    for name, lines in (("lesion/encoder", {"iou": 20, "soft_dice": 20, "train_loss": 20, "val_loss": 20}),
                        ("fcn/models", {"iou": 19})):  # fmt: skip
        found = evaluate(published_table(name), Assigned({}))
        assert {one.metric.name: len(one.lines) for one in found.by_epoch} == lines
    epochs, entries = found.by_epoch[0].lines[18]
    assert (epochs, entries[1].published.value) == (18, 0.79583449)
