"""Counts of the data by class beside the published ones, and pictures side by side: A2's, by hand."""

import re

import pytest

from retable.errors import ConfigError
from retable.report.class_tables import class_tables
from retable.report.evaluated import evaluate
from retable.report.markdown import report
from retable.report.rows import Row
from retable.report.runs import assign, read_runs
from tests.report.tables import table
from tests.report.test_site import PNG, page_of, text_of

TABLES = [
    {
        "title": "Voxels",
        "of": "data.class_counts",
        "classes": ["none", "x", "y"],
        "without": ["none"],
        "added": "data.train",
        "published": {"volume 1": [9, 1, 3], "total": [9, 1, 3], "share": [None, 25, 75]},
    },
    {
        "title": "Patches",
        "of": "confusion.train",
        "classes": ["x", "y"],
        "count": "data.counts.train",
        "unit": "patches",
        "published": {"total": [30, 70], "share": [30, 70], "count": 9009},
    },
]


def result(scale=1, source="real"):
    counts = {"one": [50, 10, 20], "two": [40, 5, 15], "val": [7, 7, 7]}
    return {
        "data": {"source": source, "class_counts": counts, "counts": {"train": 1234 * scale}},
        "confusion": {"train": [[3 * scale, 1 * scale], [2 * scale, 10 * scale]]},
    }


def finished(make_table, *records):
    parsed = make_table(class_tables=TABLES)
    rows = [Row(parsed.cells[r.config["model"]["name"]], {}, (r,), finished=(r,)) for r in records]
    return class_tables(parsed.class_tables, rows)


def test_totals_are_of_the_training_volumes_and_shares_without_background(make_table, make_run):
    record = make_run("a", [0.4, 0.5], config={"data": {"train": [1, 3]}}, **result())
    voxels, patches = finished(make_table, record)
    assert voxels.sides == [
        (
            "regenerated",
            [
                ["", "none", "x", "y"],
                ["one", "50", "10", "20"],
                ["two", "40", "5", "15"],
                ["val", "7", "7", "7"],
                ["total", "90", "15", "35"],
                ["share", "–", "30 %", "70 %"],
            ],
        ),
        (
            "published",
            [
                ["", "none", "x", "y"],
                ["volume 1", "9", "1", "3"],
                ["total", "9", "1", "3"],
                ["share", "–", "25 %", "75 %"],
            ],
        ),
    ]
    assert patches.sides[0] == (
        "regenerated",
        [["1,234 patches", "x", "y"], ["total", "4", "12"], ["share", "25 %", "75 %"]],
    )
    assert patches.sides[1][1][0] == ["9,009 patches", "x", "y"]


def test_cells_of_other_data_have_tables_of_their_own_and_sample_data_nothing_published(make_table, make_run):
    found = finished(
        make_table,
        make_run("a", [0.5], **result()),
        make_run("b", [0.5], **result(2)),
        make_run("c", [0.5], **result()),
    )
    assert [one.title for one in found] == ["Voxels", "Patches: a, c", "Patches: b"]
    (voxels, patches) = finished(make_table, make_run("a", [0.5], **result(source="sample")))
    assert [name for one in (voxels, patches) for name, _ in one.sides] == ["regenerated"] * 2
    assert finished(make_table, make_run("a", [0.5])) == []


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({**TABLES[1], "without": ["z"]}, "without: 'z' is unknown"),
        ({**TABLES[1], "classes": []}, "classes=[] is not accepted"),
        ({**TABLES[1], "published": {"total": [1]}}, "total=[1] is not accepted; accepted is a number a class"),
        ({**TABLES[1], "published": {"count": "many"}}, "count='many' is not accepted"),
        ({**TABLES[1], "titel": "x"}, "unknown key 'titel'"),
    ],
)
def test_what_is_refused(make_table, entry, message):
    with pytest.raises(ConfigError, match="class_tables") as caught:
        make_table(class_tables=[entry])
    assert message in str(caught.value)


def test_a2s_published_counts_are_the_reports():
    voxels, train, val = table("brain/models").class_tables
    assert dict(voxels.published) == {
        "volume 1": (7294795, 14555, 725132, 354126),
        "volume 2": (7273521, 13701, 675954, 425432),
        "volume 3": (7438497, 13784, 596162, 340165),
        "total": (22006813, 42050, 1997248, 1119723),
        "share": (None, 1, 63.22, 35.4),
    }
    assert (train.published_count, *train.published["total"]) == (9009, 787058, 672458, 846788)
    assert sum(train.published["total"]) == 9009 * 16 * 16
    assert train.published["share"] == (34.12, 29.15, 36.71)
    assert (val.published_count, dict(val.published), val.of) == (None, {}, "confusion.val")
    assert [one.picture for one in table("brain/models").pictures] == ["confusion_val", "confusion_train", "stitched"]
    assert all(one.cells == ("segnet", "transposed", "strided", "skip") for one in table("brain/models").pictures)


@pytest.mark.usefixtures("no_charts")
def test_the_pages_have_them(make_table, make_run, write_run, tmp_path):
    for cell in ("a", "b"):
        path = write_run(make_run(cell, [0.4, 0.5], **result()), f"runs/{cell}")
        (path / "figures").mkdir()
        (path / "figures/stitched.png").write_bytes(PNG)
    parsed = make_table(class_tables=TABLES, pictures=["stitched", {"picture": "stitched", "cells": ["b"]}, "absent"])
    page = page_of(parsed, tmp_path / "tables", tmp_path / "runs")
    assert "The data by class Voxels regenerated none x y one 50 10 20" in text_of(page)
    assert "9,009 patches" in text_of(page)
    section = page[page.index('id="beside"') : page.index('id="pictures"')]
    assert re.findall(r"<figcaption>(\w+)<", section) == ["a", "b", "b"]
    assert "## Patches\n\nRegenerated:\n\n| 1,234 patches | x | y |" in report(
        evaluate(parsed, assign(parsed, read_runs([tmp_path / "runs"])))
    )
