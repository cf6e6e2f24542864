"""Two processes that train one run together give what one process gives, and one set of files."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from torch import distributed

from retable.errors import ConfigError
from retable.run import ddp, files
from retable.run.execute import execute
from retable.sweeps import pool
from retable.sweeps.finish import exit_code
from retable.sweeps.plan import Run
from retable.sweeps.session import sweep
from tests.checking import check, refusal
from tests.runs import history, same

TASKS = {
    # 200 digits in batches of 48: the last one, of 8, is cut into 4 and 4. Of 197 and 64 it is cut into 3 and 2.
    "mnist": ("data.fraction=0.1", "model.width=4", "dropout=none", "data.batch_size=48", "scheduler=cosine"),
    "gland": ("data.size=32", "data.batch_size=4", "model=fcn_small", "data.eval_batch_size=4"),
}


@pytest.fixture
def config(compose):
    def make(task: str, *more: str):
        return compose(f"task={task}", *TASKS[task], "trainer.device=cpu", "trainer.max_epochs=2", *more)

    return make


@pytest.mark.parametrize(
    ("task", "more"),
    [("mnist", ("loss.l1=0.0001",)), ("mnist", ("data.fraction=0.0985", "data.batch_size=64")), ("gland", ())],
)
def test_two_processes_equal_one(config, tmp_path, task, more):
    alone = execute(config(task, *more), tmp_path / "alone")
    together = execute(config(task, "trainer=ddp", "trainer.max_epochs=2", *more), tmp_path / "together")
    assert together["status"] == "finished"
    same(history(tmp_path / "together"), history(tmp_path / "alone"))
    assert together["step"] == alone["step"]
    assert together["confusion"]["train"] == alone["confusion"]["train"]
    assert together["confusion"]["val"] == alone["confusion"]["val"]
    assert together["stepping"] == {"in_chunks": False, "because": "trainer.strategy=ddp"}
    left = {path.name for path in (tmp_path / "alone").iterdir()}
    assert {path.name for path in (tmp_path / "together").iterdir()} == left


class Stopped(Exception):
    pass


@pytest.mark.slow
def test_a_resumed_run_equals_an_undisturbed_one(config, tmp_path):
    def stop(row):
        raise Stopped

    wanted = config("mnist", "trainer=ddp", "trainer.max_epochs=2", "dropout=0.3")
    execute(wanted, tmp_path / "whole")
    with pytest.raises(Stopped):
        execute(wanted, tmp_path / "parts", on_epoch=stop)
    files.remove([tmp_path / "parts" / files.RESULT])
    execute(wanted, tmp_path / "parts")
    assert history(tmp_path / "parts") == history(tmp_path / "whole")


def test_a_group_that_nobody_came_to_is_no_matter_of_the_next_one(monkeypatch):
    """A worker trains one run after another: of the first one's ranks one died before all had met."""
    numbers, world = [], distributed.distributed_c10d._world
    monkeypatch.setattr(distributed, "init_process_group", lambda *_, **__: numbers.append(world.group_count))
    monkeypatch.setattr(world, "group_count", 1)
    environment = ddp.RankEnvironment(0, 2, 1, "127.0.0.1", ddp.free_port(), starts=True)
    ddp.Meeting(environment).join("cpu")
    assert numbers == [0]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.batch_size=33"], "data.batch_size=33: accepted with trainer.devices=2: a multiple of it"),
        (["trainer.devices=1"], "trainer.devices=1: accepted with trainer.strategy=ddp: 2 or more"),
        (["trainer.cuda_graph=true"], "trainer.cuda_graph=true: accepted with trainer.strategy=ddp: false"),
        (["trainer.strategy=auto"], "trainer.devices=2: accepted with trainer.strategy=auto: 1; trainer=ddp has more"),
    ],
)
def test_refusals(compose, overrides, message):
    assert refusal(compose("task=mnist", "trainer=ddp", *overrides)) == message


def test_detection_is_refused(compose):
    config = compose(
        "task=wildlife", "trainer=ddp", "data.batch_size=2", "model.weights=none", "model.backbone=resnet18"
    )
    with pytest.raises(ConfigError, match=r"trainer\.strategy=ddp: accepted by task=wildlife: auto"):
        check(config)


def test_a_last_mini_batch_that_is_too_small_is_refused(config, tmp_path):
    wanted = config("mnist", "trainer=ddp", "data.batch_size=199")
    with pytest.raises(ConfigError):
        check(wanted)
    wanted = config("mnist", "trainer=ddp", "data.fraction=0.0505", "data.batch_size=50")
    with pytest.raises(
        ConfigError, match=r"leaves 1 of 101 images to the last mini-batch; accepted with trainer\.devices=2: one"
    ):
        execute(wanted, tmp_path)


@pytest.mark.slow
def test_in_a_sweep_it_is_the_run_that_it_is_by_itself(config, tmp_path):
    """Two processes a run, one worker after another of a width, with plain runs beside them."""
    words = ["task=mnist", "data=sample", *TASKS["mnist"], "trainer.device=cpu", "trainer=ddp", "trainer.max_epochs=2"]
    words += ["seed=0,1", "logger=none", "sweep.workers=1", f"sweep.dir={tmp_path / 'multirun'}"]
    plan, outcome = sweep(words)
    assert exit_code(plan, outcome) == 0
    assert [run.processes for run in plan.runs] == [2, 2]
    for seed, run in enumerate(plan.runs):
        execute(config("mnist", "trainer=ddp", "trainer.max_epochs=2", f"seed={seed}"), tmp_path / str(seed))
        assert history(run.directory) == history(tmp_path / str(seed))
        assert {path.name for path in run.directory.iterdir()} >= {files.RESULT, files.CHECKPOINT, files.LOG}
    plan, _ = sweep(words)
    assert not plan.pending


def test_runs_of_different_numbers_of_processes_follow_each_other(monkeypatch):
    """The crew is dismissed between them, and nothing is given to a worker of another width."""
    given, widths = [], []

    class Crew:
        gpus = ()

        def __init__(self, settings, use_gpu, width):
            self.width, self.workers, self.busy, self.settings = width, [], [], settings

        def grow(self, wanted):
            widths.append((self.width, wanted))
            self.workers = self.workers or [SimpleNamespace(width=self.width, runs=[], ready=True)]

        idle = property(lambda self: [worker for worker in self.workers if not worker.runs])

        def dismiss(self, workers):
            self.workers = []

    monkeypatch.setattr(pool, "Crew", Crew)
    made = [Run(str(n), Path(str(n)), {"trainer": {"devices": n, "strategy": "ddp"}}, [], {}, "new") for n in (2, 3, 2)]
    settings = {"on_failure": "continue", "same_reason_limit": 3, "timeout": None, "stalled": None, "budget": None}
    tested = pool.Pool(made, settings, None)
    monkeypatch.setattr(tested, "_give", lambda worker, runs: given.append((worker.width, runs[0].processes)))
    for _ in made:
        tested._assign()
    assert given == [(2, 2), (2, 2), (3, 3)]
    assert widths == [(2, 2), (2, 1), (3, 1)]
