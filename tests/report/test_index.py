"""The index over a folder's pages is made from what lies there, whichever command made it last."""

import json
import re

import pytest

from retable.cli import main
from retable.config.compose import Composer
from retable.config.identity import identity
from retable.report.evaluated import evaluate
from retable.report.index import write_index, write_site
from retable.report.runs import assign, read_runs
from retable.report.sweep_page import note_sweep, write_sweep_page
from retable.sweeps.finish import finish
from retable.sweeps.plan import make_plan
from retable.sweeps.pool import Outcome
from tests.report.test_site import B_BEST, C_BEST, text_of


def linked(index):
    """The pages that an index leads to, in its order."""
    return list(dict.fromkeys(re.findall(r'href="([^"#]+/index\.html)"', index.read_text())))


@pytest.fixture(scope="module")
def composer():
    return Composer()


@pytest.fixture
def end_sweep(composer, tmp_path):
    """Ends a sweep whose runs have been left finished, as the command that trained them does."""

    def end(*arguments):
        plan = make_plan([*arguments, f"sweep.dir={tmp_path / 'multirun'}"], composer)
        for place, run in enumerate(plan.runs):
            run.directory.mkdir(parents=True, exist_ok=True)
            config = {key: value for key, value in run.config.items() if key not in ("table", "sweep", "seeds")}
            stated = {"name": run.name, "task": "cifar", "overrides": list(run.overrides), "config": config}
            (run.directory / "run.json").write_text(json.dumps({**stated, "identity": identity(run.config)}))
            (run.directory / "history.csv").write_text(f"epoch,val/accuracy\n1,0.3\n2,0.{4 + place}\n")
            result = {"status": "finished", "seed": run.config["seed"], "data": {"source": "real"}}
            (run.directory / "result.json").write_text(json.dumps(result))
        finish(plan, Outcome())
        return (plan.folder / "index.html").relative_to(tmp_path / "multirun/tables").as_posix()

    return end


def test_every_sweep_without_an_experiment_is_in_the_index_when_it_ends(end_sweep, tmp_path):
    first = end_sweep("task=cifar", "dropout=0.2,0.3")
    second = end_sweep("task=cifar", "optimizer.lr=0.5,0.6")
    assert first != second
    index = tmp_path / "multirun/tables/index.html"
    assert sorted(linked(index)) == sorted([first, second])
    again = index.read_bytes()
    assert end_sweep("task=cifar", "dropout=0.2,0.3") == first
    assert index.read_bytes() == again


TABLE = """
title: {title}
metrics: {{acc: {{column: acc}}}}
claims: [{{text: {title}, kind: best, metric: acc, cell: {best}}}]
cells: {{low: {{match: {{p: 1}}}}, high: {{match: {{p: 2}}}}}}
"""


def test_two_tables_of_recorded_runs_in_one_folder_are_both_in_its_index(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs.csv").write_text("name,p,seed,acc\na,1,0,0.5\nb,2,0,0.6\n")
    for name, best in (("a", "low"), ("b", "high")):
        (tmp_path / f"{name}.yaml").write_text(TABLE.format(title=f"table {name}", best=best))
        main(["report", "--from", "csv", "runs.csv", "--table", f"{name}.yaml", "--output", "X"])
    index = tmp_path / "X/index.html"
    assert linked(index) == ["a/index.html", "b/index.html"]
    assert "1 of 2 claims hold, none of them resolved" in text_of(index.read_text())
    # Page by page it says what the index of both at once says.
    both = index.read_bytes()
    main(["report", "--from", "csv", "runs.csv", "--table", "a.yaml", "--output", "X"])
    assert index.read_bytes() == both


@pytest.mark.usefixtures("no_charts")
def test_what_a_table_is_to_the_index_lies_beside_its_page(make_table, make_run, write_run, tmp_path):
    for cell, level in (("a", 0.5), ("b", 0.6)):
        for seed in range(3):
            write_run(make_run(cell, [0.1, level + seed / 100], seed=seed), f"runs/{cell}-{seed}")
    broken = tmp_path / "runs/broken"
    broken.mkdir()
    (broken / "run.json").write_text("{")
    table = make_table(
        B_BEST, C_BEST, {"text": "b beats a", "kind": "greater", "metric": "val", "left": "b", "right": "a"}
    )
    folder = tmp_path / "tables"
    index = write_site([evaluate(table, assign(table, read_runs([tmp_path / "runs"])))], folder)
    whole = index.read_bytes()
    text = text_of(index.read_text())
    assert "T1 (3) b beats a ✓ holds not resolved at 3 seeds; about 6 would decide" in text
    assert "6 finished" in text
    assert "1 of 3 cells missing" in text
    assert "1 broken directory, left out: ../runs/broken : run.json is no JSON" in text
    index.unlink()
    assert write_index(folder).read_bytes() == whole
    note = folder / "toy/table/table.json"
    stated = json.loads(note.read_text())
    for damage in ("", "[]", "{}", json.dumps(stated | {"claims": [1]}), json.dumps(stated | {"statuses": 3})):
        note.write_text(damage)
        assert linked(write_index(folder)) == []
    note.write_text(json.dumps(stated))
    (folder / "toy/table/index.html").unlink()  # the page is gone
    assert linked(write_index(folder)) == []


@pytest.mark.usefixtures("no_charts")
@pytest.mark.parametrize(
    ("overrides", "cells", "aside"),
    [([], "a", True), ([], "ab", False), (["experiment=toy/table"], "a", False)],  # of three cells
)
def test_a_table_that_nobody_asked_for_and_is_mostly_missing_stands_last(
    make_table, make_run, write_run, tmp_path, overrides, cells, aside
):
    folder = tmp_path / "tables"
    runs = []
    for place, cell in enumerate(cells):
        path = write_run(make_run(cell, [0.3, 0.5]), f"runs/{cell}")
        run = json.loads((path / "run.json").read_text())
        (path / "run.json").write_text(json.dumps(run | {"overrides": overrides}))
        runs.append((path, {"p": place}))
    runs.append((write_run(make_run("other", [0.3, 0.4]), "runs/other"), {"p": 7}))
    note_sweep(folder / "toy/sweep", "toy/sweep", "retable sweep p=0,7", runs)
    write_sweep_page(folder / "toy/sweep", "../../index.html")
    table = make_table(B_BEST)
    index = write_site([evaluate(table, assign(table, read_runs([tmp_path / "runs"])))], folder)
    assert linked(index) == [f"{name}/index.html" for name in ("toy/sweep", "toy/table")]
    text = text_of(index.read_text())
    assert ("Further tables nobody asked for them, and most of their cells are missing" in text) == aside
    assert ("All claims" in text) == (not aside)
    assert "0 of 1" not in text


@pytest.mark.usefixtures("no_charts")
@pytest.mark.parametrize("noted", [True, False])
def test_a_sweep_without_an_experiment_leaves_the_tables_in_the_index(end_sweep, tmp_path, noted):
    end_sweep("experiment=cifar/activation", "trainer.max_epochs=2")
    folder = tmp_path / "multirun/tables"
    tables = ["cifar/activation/index.html", "cifar/best/index.html"]  # the second has these runs, too
    assert linked(folder / "index.html") == tables
    before = text_of((folder / "index.html").read_text())
    if not noted:  # the page is of a version that left no note beside it
        (folder / "cifar/activation/table.json").unlink()
    page = end_sweep("task=cifar", "optimizer.lr=0.5,0.6")
    assert linked(folder / "index.html") == [page, *tables]
    after = text_of((folder / "index.html").read_text())
    assert before[before.index("Report A1") :] == after[after.index("Report A1") :]
