"""`retable report A B`: two folders cell by cell, with what changed."""

import pytest

from retable.cli import main
from retable.config.compose import Composer
from retable.report.evaluated import evaluate
from retable.report.side_by_side import side_by_side
from tests.report.test_report_command import run_sweep  # noqa: F401

BEATS = {"text": "b beats a", "kind": "greater", "metric": "val", "left": "b", "right": "a"}
METRICS = {"val": {"column": "val/accuracy", "scale": 100, "unit": "%"}}


@pytest.fixture
def composer():
    return Composer()


def test_cells_differences_and_what_changed(make_table, make_run, assigned, data):
    cells = {name: {"match": cell["match"]} for name, cell in data["cells"].items()}
    table = make_table(BEATS, metrics=METRICS, cells=cells)
    cpu, gpu = ({"kind": kind, "name": name} for kind, name in (("cpu", "Small"), ("cuda", "Big")))
    old = {"device": cpu, "versions": {"torch": "2.11"}, "data": {"fingerprint": "0123456789"}}
    new = {"device": gpu, "versions": {"torch": "2.14"}, "data": {"fingerprint": "abcdefghij"}}
    ours = assigned(make_run("a", [0.1, 0.5], **old), make_run("b", [0.1, 0.6], **old), make_run("c", [0.1, 0.4]))
    config = {"optimizer": {"lr": 0.2}}
    theirs = assigned(
        make_run("a", [0.1, 0.52], **new),
        make_run("b", [0.1, 0.51], config=config, **old),
    )
    theirs.cells["b"][0].config["optimizer"]["lr"] = 0.2
    ours.cells["b"][0].config["optimizer"] = {"lr": 0.1}
    text = side_by_side(("A", "B"), [evaluate(table, ours)], [evaluate(table, theirs)])
    assert text.splitlines() == [
        "# A and B",
        "",
        "## T1 · A toy table",
        "",
        "| cell | val (%): A | B | difference | what changed |",
        "| --- | --- | --- | --- | --- |",
        "| a | 50.00 | 52.00 | +2.00 | device: Small (cpu) → Big (cuda); versions: torch 2.11 → torch 2.14;"
        " data: 01234567 → abcdefgh |",
        "| b | 60.00 | 51.00 | -9.00 | optimizer.lr: 0.1 → 0.2 |",
        "",
        "| claim | A | B |",
        "| --- | --- | --- |",
        "| T1 (1) b beats a | holds, not resolved at 1 seed | does not hold, not resolved at 1 seed |",
    ]
    assert side_by_side(("A", "B"), [evaluate(table, ours)], []) == ""
    assert side_by_side(("A", "B"), [evaluate(table, ours)], [evaluate(table, assigned())]) == ""


def test_other_seeds_are_a_change(make_table, make_run, assigned, data):
    cells = {name: {"match": cell["match"]} for name, cell in data["cells"].items()}
    table = make_table(metrics=METRICS, cells=cells)
    ours = assigned(make_run("a", [0.1, 0.5], 0), make_run("b", [0.1, 0.6], 0))
    theirs = assigned(make_run("a", [0.1, 0.5], 0), make_run("a", [0.1, 0.7], 1), make_run("b", [0.1, 0.6], 0))
    lines = side_by_side(("A", "B"), [evaluate(table, ours)], [evaluate(table, theirs)]).splitlines()
    assert "| a | 50.00 | 60.00 ± 14.14 (2) | +10.00 | seeds: 0 → 0, 1 |" in lines
    assert "| b | 60.00 | 60.00 | +0.00 | nothing |" in lines


def test_what_changed_is_said_of_all_runs_of_a_cell(make_table, make_run, assigned, data):
    cells = {name: {"match": cell["match"]} for name, cell in data["cells"].items()}
    table = make_table(metrics=METRICS, cells=cells)
    cpu, gpu = {"device": {"kind": "cpu", "name": "Small"}}, {"device": {"kind": "cuda", "name": "Big"}}
    ours = assigned(make_run("a", [0.1, 0.5], 0, **cpu), make_run("a", [0.1, 0.5], 1, **cpu))
    theirs = assigned(make_run("a", [0.1, 0.5], 0, **cpu), make_run("a", [0.1, 0.5], 1, **gpu))
    lines = side_by_side(("A", "B"), [evaluate(table, ours)], [evaluate(table, theirs)]).splitlines()
    assert lines[-1] == "| a | 50.00 (2) | 50.00 (2) | +0.00 | device: Small (cpu) → Small (cpu), Big (cuda) |"


def test_the_command(run_sweep, tmp_path, capsys):  # noqa: F811
    for number, root in enumerate(("one", "two")):
        run_sweep("experiment=cifar/activation", root=root, accuracy=lambda config, n=number: 0.4 + n / 10)
    paths = [str(tmp_path / name) for name in ("one", "two")]
    main(["report", *paths, "--experiment", "cifar/activation", "--output", str(tmp_path / "tables")])
    assert f"side by side: {tmp_path / 'tables/compare.md'}" in capsys.readouterr().out
    text = (tmp_path / "tables/compare.md").read_text()
    assert "+10.00" in text
    assert "| nothing |" in text
