"""Which runs train together as one model; sweeps that do give what they give without."""

import contextlib
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from retable.errors import ConfigError
from retable.run import devices, files
from retable.run.devices import Gpu
from retable.sweeps import fuse, pool
from retable.sweeps.plan import make_plan
from retable.sweeps.preview import preview
from retable.sweeps.session import sweep
from tests.runs import untimed
from tests.sweep.processes import descendants

ROOT = Path(__file__).parents[2]
AUTO = {"fuse": "auto"}


def planned(base: list[str], *more: str) -> list[Any]:
    return make_plan([*base, *more]).runs


def sizes(runs: list[Any], asked: Any, gpus: int = 0) -> list[int]:
    return [len(group) for group in fuse.groups(runs, {"fuse": asked}, gpus)]


def test_runs_of_one_shape_are_one_model(base):
    """What may differ: seed, init, dropout, rates and penalties; A1.2 is one program."""
    runs = planned(
        base,
        "seed=0,1",
        "dropout=0.0,0.3",
        "dropout.where=conv,fc",
        "model.hidden=10",
        "optimizer.lr=0.1,0.2",
        "optimizer.momentum=0,0.9",
    )
    assert sizes(runs, 64) == [len(runs)] == [2 * 3 * 2 * 2]
    assert sizes(planned(base, "init=he,zero,default", "loss.l1=0,0.1", "optimizer.weight_decay=0,0.1"), 64) == [12]
    assert sizes(planned(base, "optimizer=sgd,adam", "seed=0,1"), 64) == [2, 2]
    assert sizes(planned(base, "data.batch_size=16,32", "model.width=2,4"), 64) == [1, 1, 1, 1]
    experiment = [text for text in base if not text.startswith(("task=", "data.", "model."))]
    assert sizes(planned(experiment, "experiment=cifar/dropout"), 16) == [16]


def test_how_many_and_where(base):
    runs = planned(base, "seeds=10")
    assert sizes(runs, "never") == sizes(runs, 1) == sizes(runs, "auto", gpus=0) == [1] * 10
    assert sizes(runs, "auto", gpus=1) == [10]
    assert sizes(runs, "auto", gpus=4) == [3, 3, 2, 2]
    assert sizes(runs, 4) == sizes(runs, 4, gpus=8) == [4, 3, 3]
    assert sizes(planned(base, "seeds=40"), "auto", gpus=1) == [20, 20]


REASONS = {
    "model=numpy_fnn": "model=numpy_fnn",
    "callbacks=ema": "callbacks: ema",
    "logger=csv": "logger=csv",
    "+optimizer.nesterov=true": "optimizer.nesterov=True",
    "scheduler=one_cycle": "scheduler.interval=step",
    "trainer.gradient_clip_val=1.0": "trainer.gradient_clip_val=1.0",
    "trainer.accumulate_grad_batches=2": "trainer.accumulate_grad_batches=2",
    "trainer.compile=true": "trainer.compile=True",
    "trainer.cuda_graph=true": "trainer.cuda_graph=True",
    "trainer.max_steps=5": "trainer.max_steps=5",
    "trainer.limit_train_batches=1": "trainer.limit_train_batches=1",
    "trainer=ddp": "trainer.strategy=ddp",
    "+loss.ignore_index=3": "loss.ignore_index=3",
    "sweep.timeout=1h": "sweep.timeout, the time of each run",
}


@pytest.mark.parametrize("override", REASONS)
def test_why_a_run_trains_by_itself(composer, override):
    config = composer.compose(["task=mnist", "data=sample", "logger=none", override]).config
    assert fuse.refusal(config, config["sweep"]) == REASONS[override]


def test_which_tasks_and_models_can_be_fused(composer):
    def reason(*overrides: str) -> str | None:
        config = composer.compose(list(overrides)).config
        return fuse.refusal(config, config["sweep"])

    for able in (["task=cifar"], ["task=mnist", "model=fnn", "optimizer=adamw"], ["task=mnist", "scheduler=cosine"]):
        assert reason(*able) is None
    assert reason("task=gland") == "task=gland"
    assert reason("task=wildlife") == "task=wildlife"


def test_a_preview_says_what_trains_together(base, monkeypatch, capsys):
    monkeypatch.setattr("retable.sweeps.preview._calibrate", lambda runs, plan: {})
    plan = make_plan([*base, "seeds=3"])
    preview(plan)
    assert capsys.readouterr().out.splitlines()[-1] == "sweep.fuse=auto: no GPU: each run trains by itself"
    monkeypatch.setattr(devices, "gpus", lambda: (Gpu("0", 80_000, 80_000, 9.0),))
    for run in plan.runs:
        run.config["trainer"]["device"] = "auto"
    plan.runs[2].config["trainer"]["compile"] = True
    preview(plan)
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "sweep.fuse=auto: 2 runs train as 1 model, 2 together",
        "by themselves: 1 for trainer.compile=True",
    ]


def test_sweep_fuse_is_no_part_of_a_run(base):
    directories = [[run.directory for run in planned(base, "seeds=2", f"sweep.fuse={value}")] for value in (2, "never")]
    assert directories[0] == directories[1]
    with pytest.raises(ConfigError, match=r"sweep.fuse=sometimes: accepted: auto, never, or a whole number"):
        planned(base, "sweep.fuse=sometimes")


def histories(plan: Any) -> list[list[dict[str, float]]]:
    found = [files.read_history(run.directory / files.HISTORY) for run in plan.runs]
    return [untimed(rows) for rows in found]


def test_a_fused_sweep_gives_what_the_sweep_gives(base, tmp_path):
    """Through real workers; each run with a log, a result and a mark of its own."""
    grid = ["dropout=0.2,0.5", "trainer.precision=64-true", "sweep.workers=1"]
    fused, outcome = sweep([*base, *grid, "sweep.fuse=2"])
    assert not outcome.failures
    alone, _ = sweep([*base, *grid, f"sweep.dir={tmp_path / 'alone'}", "sweep.fuse=auto"])
    for one, other in zip(histories(fused), histories(alone), strict=True):
        for row, same in zip(one, other, strict=True):
            assert row == pytest.approx(same, rel=1e-10, abs=1e-10)
    results = [[files.read_result(run.directory) for run in plan.runs] for plan in (fused, alone)]
    assert [result.get("execution") for result in results[0]] == [{"fused": 2}] * 2
    assert [result.get("execution") for result in results[1]] == [None] * 2
    for run in fused.runs:
        lines = (run.directory / files.LOG).read_text().splitlines()
        assert [line.split("  ")[0] for line in lines] == [
            "data: 200 train, 500 val (sample)",
            "left out: 1,800, data.fraction",
            "steps: many in one Lightning step (nothing asks for single steps)",
            "steps: as one model of 2 runs",
            "epoch 1/2",
            "epoch 2/2",
        ]
    again, _ = sweep([*base, *grid, "sweep.fuse=never"])
    assert [run.status for run in again.runs] == ["finished"] * 2


@pytest.mark.slow
def test_a_worker_that_dies_with_several_runs_costs_none_of_them(base, monkeypatch):
    """Each goes on by itself: who knows which of them it was."""
    given: list[list[str]] = []
    give = pool.Pool._give

    def noted(self: Any, worker: Any, runs: Any) -> None:
        given.append([run.name[-1] for run in runs])
        give(self, worker, runs)

    handle = pool.Pool._handle

    def killing(self: Any, worker: Any, event: dict[str, Any]) -> None:
        handle(self, worker, event)
        if event["event"] == "progress" and len(given) == 1:
            os.kill(worker.pid, signal.SIGKILL)

    monkeypatch.setattr(pool.Pool, "_give", noted)
    monkeypatch.setattr(pool.Pool, "_handle", killing)
    plan, outcome = sweep([*base, "seeds=2", "sweep.fuse=2", "sweep.workers=1"])
    assert given == [["0", "1"], ["0"], ["1"]]
    assert not outcome.failures
    assert [files.read_result(run.directory)["status"] for run in plan.runs] == ["finished"] * 2
    assert [[row["epoch"] for row in rows] for rows in histories(plan)] == [[1, 2]] * 2


# Minutes ---------------------------------------------------------------------------------------------------------

# Narrow networks on a third of the sample images; A1.2's 16 cells, and some of them with two seeds.
QUICK = [
    "data=sample",
    "data.fraction=0.3",
    "model.width=4",
    "trainer.device=cpu",
    "logger=none",
]
A1_2 = [*QUICK, "trainer.max_epochs=3", "experiment=cifar/dropout", "sweep.workers=1"]
SEEDS = [*QUICK, "task=cifar", "dropout=0.2,0.5", "seeds=2", "sweep.workers=1"]


def command(folder: Path, *words: str) -> list[str]:
    return [sys.executable, "train.py", "-m", *words, f"sweep.dir={folder}"]


def left_by(folder: Path) -> tuple[list[dict[str, str]], dict[str, list[dict[str, float]]]]:
    """The table without times, and each run's history without them."""
    rows = {path.parent.name: files.read_history(path) for path in sorted(folder.glob("cifar/*/history.csv"))}
    kept = {name: untimed(of) for name, of in rows.items()}
    (table,) = (folder / "tables").rglob("results.csv")
    with table.open() as file:
        lines = [{k: v for k, v in row.items() if k not in ("seconds", "directory")} for row in csv.DictReader(file)]
    return lines, kept


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "precision", "within"), [(A1_2, "64-true", 1e-10), (SEEDS, "32", 1e-4)], ids=["A1.2", "two seeds"]
)
def test_a_fused_table_is_the_table(tmp_path, words, precision, within):
    """In float64 to 1e-10; in float32 losses to 1e-4 of themselves and accuracies to two images."""
    found = []
    for number, asked in enumerate((16, "never")):
        folder = tmp_path / str(number)
        more = [f"sweep.fuse={asked}", f"trainer.precision={precision}"]
        more += ["trainer.max_epochs=3"] if words is SEEDS else []
        subprocess.run(command(folder, *words, *more), cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        found.append(left_by(folder))
    (table, fused), (_, plain) = found
    assert len(table) == len(fused) == len(plain) == (16 if words is A1_2 else 4)
    for name, rows in fused.items():
        for row, other in zip(rows, plain[name], strict=True):
            for key, value in row.items():
                counted = precision == "32" and key.endswith("/accuracy")
                assert value == pytest.approx(other[key], rel=within, abs=0.0041 if counted else within), (name, key)
    if precision == "64-true":
        pages = [next((tmp_path / which / "tables").rglob("report.csv")).read_text() for which in ("0", "1")]
        assert pages[0] == pages[1]


@pytest.mark.slow
def test_a_fused_sweep_killed_and_called_again_gives_the_same_bits(tmp_path):
    folder, words = (
        tmp_path / "multirun",
        [*SEEDS, "sweep.fuse=16", "trainer.max_epochs=8"],
    )  # more than until the last kill
    subprocess.run(command(folder, *words), cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    expected = left_by(folder)
    shutil.rmtree(folder)
    kills = 0

    def epochs() -> int:
        return sum(len(path.read_text().splitlines()) - 1 for path in folder.glob("cifar/*/history.csv"))

    while True:
        process = subprocess.Popen(command(folder, *words), cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True)
        done = epochs()
        while process.poll() is None and kills < 3:
            if epochs() > done + 1:  # in the midst of an epoch's end: some runs have written it, some have not
                workers = descendants(process.pid)
                os.killpg(process.pid, signal.SIGKILL)
                for worker in workers:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(worker, signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.01)
        if process.wait(600) == 0:
            break
    assert kills == 3
    assert left_by(folder) == expected
    marks = [json.loads(path.read_text())["execution"] for path in folder.glob("cifar/*/result.json")]
    assert marks == [{"fused": 4}] * 4
