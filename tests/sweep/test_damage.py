"""Damaged run directories: each is listed as broken and left alone, and the others' table is made."""

import csv
import json

import pytest

from retable import atomic
from retable.run import files
from retable.sweeps.finish import exit_code
from retable.sweeps.plan import make_plan, write_runs
from retable.sweeps.session import sweep
from retable.sweeps.store import broken, status_of

RESULT = {"status": "finished", "epochs": 2, "metrics": {"final": {"epoch": 2, "val/accuracy": 0.5}}}
HISTORY = "epoch,val/accuracy\n1,0.25\n2,0.5\n"
NESTED = "[" * 100_000

DAMAGE = [
    (files.RUN, '{"name": "cut', "run.json is not whole"),
    (files.RUN, "", "run.json is not whole"),
    (files.RUN, "[]", "run.json is not whole"),
    (files.RUN, NESTED, "run.json is not whole"),
    (files.RUN, "\udcff", "run.json is not whole"),
    (files.RUN, None, "run.json is missing"),
    (files.RUN, {"config": 5}, "run.json is odd: config"),
    (files.RUN, {"identity": {"seed": [0]}}, "run.json is odd: identity.seed"),
    (
        files.RUN,
        {"identity": [], "overrides": "all", "fingerprint": 7},
        "run.json is odd: identity, overrides, finger",
    ),
    (files.RESULT, "5", "result.json is not whole"),
    (files.RESULT, NESTED, "result.json is not whole"),
    (files.RESULT, {"status": "done"}, "result.json is not whole"),
    (files.RESULT, {"status": ["finished"]}, "result.json is not whole"),
    (files.RESULT, {"metrics": 5}, "result.json is not whole"),
    (files.RESULT, {"metrics": {"final": {"val/accuracy": "high"}}}, "result.json is not whole"),
    (files.RESULT, {"metrics": {"best": [1]}}, "result.json is not whole"),
    (files.RESULT, {"seconds": {"total": {}}}, "result.json is not whole"),
    (files.RESULT, {"reason": {"a": 1}}, "result.json is not whole"),
    (files.HISTORY, HISTORY + "2,0.5\n", "history.csv has epochs that do not go up"),
    (files.HISTORY, HISTORY + "nan,0.5\n", "history.csv has epochs that do not go up"),
    (files.HISTORY, HISTORY + "3,high\n", "history.csv is damaged (could not convert string to float: 'high')"),
    (files.HISTORY, HISTORY + "3,0.5,0.5\n", "history.csv is damaged (float() argument must be"),
    (files.HISTORY, "accuracy\n0.5\n", "history.csv has epochs that do not go up"),
    (files.HISTORY, None, "history.csv is missing or empty, of a finished run"),
    (files.HISTORY, "epoch,val/accuracy\n", "history.csv is missing or empty, of a finished run"),
]


@pytest.fixture
def finished(base, composer):
    """Arguments of a sweep of two runs that have finished, and their directories."""
    arguments = [*base, "seed=0,1"]
    plan = make_plan(arguments, composer)
    write_runs(plan.runs)
    for run in plan.runs:
        atomic.write_json(run.directory / files.RESULT, RESULT)
        (run.directory / files.HISTORY).write_text(HISTORY)
    return arguments, [run.directory for run in plan.runs]


def damage(directory, name, content) -> None:
    path = directory / name
    if content is None:
        path.unlink()
    elif isinstance(content, dict):
        path.write_text(json.dumps(atomic.read_json(path) | content))
    else:
        path.write_bytes(content.encode("utf-8", "surrogateescape"))


@pytest.mark.parametrize(("name", "content", "reason"), DAMAGE, ids=[f"{n} {str(c)[:30]}" for n, c, _ in DAMAGE])
def test_a_damaged_run_is_listed_and_costs_no_table(finished, capsys, name, content, reason):
    arguments, (first, second) = finished
    damage(first, name, content)
    before = {path: path.read_bytes() for path in first.iterdir()}
    plan, outcome = sweep(arguments)  # neither is to be trained: no worker starts
    assert [(run.directory, run.status) for run in plan.runs] == [(first, "broken"), (second, "finished")]
    assert broken(first).startswith(reason)
    assert exit_code(plan, outcome) == 1
    rows = list(csv.DictReader((plan.folder / "results.csv").open()))
    assert [(row["status"], row["seed"]) for row in rows] == [("broken", "0"), ("finished", "1")]
    assert rows[1]["val/accuracy"] == "0.5"
    assert f"broken: {first.name} · {reason}" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in first.iterdir()} == before
    assert len(list(first.parent.iterdir())) == 2


def test_a_lock_that_is_no_file_is_reported(finished):
    arguments, (first, _) = finished
    (first / files.RESULT).unlink()
    (first / files.LOCK).mkdir()
    plan, outcome = sweep(arguments)
    assert [run.status for run in plan.runs] == ["broken", "finished"]
    assert broken(first).startswith(".lock can't be locked: ")
    assert exit_code(plan, outcome) == 1


def test_a_directory_that_does_not_say_what_it_is_is_left_alone_with_a_word(finished, composer):
    arguments, (first, second) = finished
    for name in (files.RUN, files.CONFIG):
        (first / name).write_text("cut")
    plan = make_plan(arguments, composer)
    assert plan.lost == {first: "run.json is not whole"}
    assert [run.status for run in plan.runs] == ["new", "finished"]
    assert plan.runs[0].directory.name.startswith(f"{first.name}__")
    assert plan.runs[1].directory == second


def test_a_directory_that_a_killed_sweep_has_left_empty_is_used(base, composer):
    directory = make_plan(base, composer).runs[0].directory
    directory.mkdir(parents=True)
    (directory / f".{files.RUN}.tmp-a1b2").write_text("cut")
    assert make_plan(base, composer).runs[0].directory == directory


def test_tried_again_a_broken_run_keeps_what_is_whole(finished):
    arguments, (first, second) = finished
    damage(first, files.RUN, '{"name": "cut')
    result = (first / files.RESULT).read_bytes()
    damage(second, files.RESULT, "5")
    plan, outcome = sweep([*arguments, "sweep.retry_failed=true", "sweep.workers=1"])
    assert exit_code(plan, outcome) == 0
    assert [status_of(run.directory) for run in plan.runs] == ["finished", "finished"]
    assert (first / files.RESULT).read_bytes() == result  # only run.json was damaged, and config.yaml says the same
    assert atomic.read_json(first / files.RUN)["config"]["seed"] == 0
    assert (second / files.CHECKPOINT).exists()  # trained anew


def test_a_folder_of_runs_that_is_none_is_one_line(base):
    from pathlib import Path

    from retable.errors import RetableError

    root = Path(base[-1].partition("=")[2])
    root.mkdir()
    (root / "mnist").write_text("")
    with pytest.raises(RetableError, match=r"/mnist: cannot be read \(Not a directory\)$"):
        sweep(base)
