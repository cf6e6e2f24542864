"""A config's values are checked once by each process that composes it or reads it from a disk, and never between."""

import io
import os
import sys
from pathlib import Path

import pytest

from retable.cli import main as cli
from retable.config import validate
from retable.main import main
from retable.run import files
from retable.sweeps import worker
from retable.sweeps.plan import make_plan, write_runs

SMALL = ("task=mnist", "data=sample", "data.fraction=0.1", "model.width=4", "trainer.max_epochs=1", "logger=none")


@pytest.fixture
def counted(monkeypatch, tmp_path):
    """The seeds that were validated, in order; in an empty folder."""
    monkeypatch.chdir(tmp_path)
    seeds, of_a_seed = [], validate.CHECKS["seed"]

    def count(key, value):
        seeds.append(value)
        of_a_seed(key, value)

    monkeypatch.setitem(validate.CHECKS, "seed", count)
    return seeds


def test_a_single_run_and_the_same_continued_and_evaluated(counted, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["train.py", *SMALL, "seed=3", "hydra.run.dir=run"])
    main()
    assert counted == [3]
    (tmp_path / "run" / files.RESULT).unlink()
    monkeypatch.setattr(sys, "argv", ["train.py", "resume=run"])
    main()
    assert counted[1:] == [3]  # what run.json holds
    (sample,) = Path(os.environ["RETABLE_CACHE"], "sample").glob("mnist*")
    cli(["evaluate", "run", str(sample), "--split", "val"])
    assert counted[2:] == []  # a checkpoint's values are checked by the classes that are built of them


def test_a_sweeps_run_in_the_process_that_plans_it_and_in_its_worker(counted, monkeypatch):
    plan = make_plan([*SMALL, "seed=1,2"])
    assert counted == [1, 2]
    write_runs(plan.runs)
    monkeypatch.setattr(worker, "_has_company", lambda: False)  # of the tests' own process group
    trainer = worker.Worker(io.StringIO(), io.StringIO())
    trainer._check({"configs": {str(run.directory): run.config for run in plan.runs}})
    assert counted == [1, 2]  # which came from the process that has validated them
    trainer._run({"directories": [str(plan.runs[0].directory)]})
    assert files.read_result(plan.runs[0].directory)["status"] == "finished"
    assert counted == [1, 2, 1]  # what run.json holds
