"""Runs given to a queue: what is submitted, what becomes of runs whose job died, leaving and coming back."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from retable import atomic
from retable.errors import ConfigError
from retable.run import files
from retable.sweeps import cluster
from retable.sweeps.cluster import CANCELLED, OVER, RUNNING, WAITING, Cluster, record
from retable.sweeps.finish import exit_code
from retable.sweeps.job import Job
from retable.sweeps.plan import make_plan
from retable.sweeps.session import prepare, sweep
from retable.sweeps.slurm import Slurm

ROOT = Path(__file__).parents[2]
FINISHED = {"status": "finished", "metrics": {"final": {"val/accuracy": 0.5}}}


class Fake:
    """A queue whose jobs do what the test says when they are next looked at: nothing, finish, or die of a word."""

    name = "FAKE"
    ends_with_us = False

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.fate: dict[str, tuple[str, str]] = {}
        self.cancelled: set[str] = set()
        self.then = lambda name, job: None

    def describe(self, batches, settings):
        return [f"{len(batches)} jobs of {[len(batch) for batch in batches]}"]

    def submit(self, jobs, settings, label):
        names = [str(len(self.jobs) + number) for number in range(len(jobs))]
        self.jobs |= dict(zip(names, jobs, strict=True))
        return names

    def states(self, names):
        for name in names:
            if name not in self.fate:
                self.then(name, self.jobs[name])
        return {name: self.fate.get(name, (WAITING, "PENDING")) for name in names if self.fate.get(name) != "gone"}

    def log(self, name):
        return None

    def cancel(self, names):
        self.cancelled |= set(names)
        self.fate |= dict.fromkeys(names, (CANCELLED, "CANCELLED"))

    def end(self, name: str, word: str = "COMPLETED", finished: int | None = None) -> None:
        """A job's end; so many of its runs have finished, all by default."""
        for directory in self.jobs[name].directories[:finished]:
            (Path(directory) / files.LOG).touch()
            files.write_history(Path(directory) / files.HISTORY, [{"epoch": 1, "val/accuracy": 0.5}])
            atomic.write_json(Path(directory) / files.RESULT, FINISHED)
        self.fate[name] = (OVER, word)


@pytest.fixture
def queue(monkeypatch):
    monkeypatch.setattr(cluster, "_LOOK_EVERY", (0.01, 0.01))
    monkeypatch.setattr(cluster, "check_in_worker", lambda plan, todo: None)
    return Fake()


def go(queue: Fake, *arguments: str):
    engine = Cluster(queue)
    return sweep(arguments, engine.train, engine.describe)


def statuses(plan) -> list[str]:
    return [(files.read_result(run.directory) or {}).get("status", "none") for run in plan.runs]


def test_runs_go_out_in_batches_and_the_table_comes_at_the_end(queue, base, capsys):
    queue.then = lambda name, job: queue.end(name)
    plan, outcome = go(queue, *base, "seed=0,1,2,3,4", "sweep.runs_per_job=2")
    assert [len(job.directories) for job in queue.jobs.values()] == [2, 2, 1]
    assert statuses(plan) == ["finished"] * 5
    assert exit_code(plan, outcome) == 0
    assert (plan.folder / "results.md").exists()
    assert "FAKE: 5 runs submitted in 3 jobs: 0 to 2" in capsys.readouterr().out
    go(queue, *base, "seed=0,1,2,3,4", "sweep.runs_per_job=2")
    assert len(queue.jobs) == 3  # nothing is left to submit


def test_a_preview_says_what_would_be_submitted(queue, base, monkeypatch, capsys):
    monkeypatch.setattr("retable.sweeps.preview.preview", lambda plan, queued: None)
    go(queue, *base, "seed=0,1,2", "sweep.runs_per_job=2", "sweep.preview=true")
    assert capsys.readouterr().out == "2 jobs of [2, 1]\n"
    assert queue.jobs == {}


def test_submitting_and_leaving(queue, base, capsys):
    words = [*base, "seed=0,1", "sweep.wait=false"]
    plan, outcome = go(queue, *words)
    assert exit_code(plan, outcome) == 0
    assert not (plan.folder / "results.md").exists()
    assert "2 runs: 2 in the queue\n" in capsys.readouterr().out
    queue.end("0")
    queue.fate["1"] = (RUNNING, "RUNNING")
    plan, _ = go(queue, *words)
    assert len(queue.jobs) == 2  # none is given out twice
    assert "2 runs: 1 finished, 1 in the queue\n" in capsys.readouterr().out
    queue.end("1")
    plan, _ = go(queue, *words)
    assert "results.md" in capsys.readouterr().out
    assert (plan.folder / "results.md").exists()


@pytest.mark.parametrize("wait", [True, False])
def test_a_job_that_dies_is_a_failed_run_with_the_engines_word(queue, base, wait):
    words = [*base, "seed=0,1", f"sweep.wait={wait}".lower()]
    queue.then = lambda name, job: queue.end(name, *(("TIMEOUT", 0) if name == "0" else ("COMPLETED",)))
    plan, outcome = go(queue, *words)
    if not wait:
        plan, outcome = go(queue, *words)  # which finds them dead
        plan, outcome = go(queue, *words)
    assert [(files.read_result(run.directory) or {}).get("reason") for run in plan.runs] == ["FAKE: TIMEOUT", None]
    assert exit_code(plan, outcome) == 1
    assert "FAKE job 0: TIMEOUT\n" in (plan.runs[0].directory / files.LOG).read_text()
    plan, outcome = go(queue, *base, "seed=0,1", "sweep.retry_failed=true")
    assert len(queue.jobs) == 3


def test_a_run_that_got_on_in_a_job_that_died_goes_on_in_another(queue, base):
    def then(name, job):
        (directory,) = map(Path, job.directories)
        if name == "2":
            return queue.end(name)
        (directory / files.CHECKPOINT).write_bytes(name.encode())
        return queue.end(name, "PREEMPTED", 0)

    queue.then = then
    plan, outcome = go(queue, *base)
    assert len(queue.jobs) == 3
    assert statuses(plan) == ["finished"]
    assert outcome.failures == []


def test_runs_that_a_dead_job_had_not_begun_are_not_its_victims(queue, base):
    def then(name, job):
        if name == "0":
            (Path(job.directories[1]) / files.LOG).touch()  # begun: it is what the job died of
            return queue.end(name, "OUT_OF_MEMORY", 1)
        return queue.end(name)

    queue.then = then
    plan, _ = go(queue, *base, "seed=0,1,2", "sweep.runs_per_job=3")
    assert statuses(plan) == ["finished", "failed", "finished"]
    assert [Path(d).name for d in queue.jobs["1"].directories] == [plan.runs[2].directory.name]


def test_cancelled_jobs_are_an_interruption(queue, base):
    queue.then = lambda name, job: queue.cancel([name])
    plan, outcome = go(queue, *base)
    assert exit_code(plan, outcome) == 130
    assert statuses(plan) == ["none"]
    queue.then = lambda name, job: queue.end(name)
    plan, outcome = go(queue, *base)
    assert statuses(plan) == ["finished"]


def test_runs_that_have_left_the_grid_are_cancelled(queue, base):
    words = [*base, "sweep.wait=false", "dropout.p=0.1,0.2,0.3"]
    go(queue, *words)
    go(queue, *base, "sweep.wait=false", "optimizer.lr=0.1,0.2")  # another sweep's are left alone
    plan, _ = go(queue, *words[:-1], "dropout.p=0.1,0.3", "sweep.cancel_removed=true")
    assert queue.cancelled == {"1"}
    assert [record(run.directory)["job"] for run in plan.runs] == ["0", "2"]


def test_the_sweep_stops_by_its_rules_and_cancels_what_waits(queue, base):
    queue.then = lambda name, job: queue.end(name, "NODE_FAIL", 0) if name == "0" else None
    _, outcome = go(queue, *base, "seed=0,1,2", "sweep.on_failure=stop")
    assert outcome.stopped_by == "sweep.on_failure=stop"
    assert queue.cancelled == {"1", "2"}
    _, outcome = go(queue, *base, "seed=3,4", "sweep.budget=0.05")
    assert outcome.stopped_by == "sweep.budget=0.05 is spent"
    assert queue.cancelled == {"1", "2", "3", "4"}


@pytest.mark.parametrize(("answer", "cancelled"), [("y", {"0"}), ("n", set()), (None, set())])
def test_ctrl_c_asks_whether_to_cancel(queue, base, monkeypatch, answer, cancelled):
    monkeypatch.setattr("sys.stdin.isatty", lambda: answer is not None, raising=False)
    monkeypatch.setattr("builtins.input", lambda prompt: answer)
    queue.then = lambda name, job: os.kill(os.getpid(), signal.SIGINT)
    plan, outcome = go(queue, *base)
    assert queue.cancelled == cancelled
    assert exit_code(plan, outcome) == 130


def test_an_engine_that_gives_no_answer_is_asked_again(queue, base, capsys):
    answers = iter([OSError("no controller"), None])

    def then(name, job):
        if (error := next(answers)) is not None:
            raise error
        queue.end(name)

    queue.then = then
    plan, _ = go(queue, *base)
    assert "FAKE gives no answer (no controller); asking again\n" in capsys.readouterr().out
    assert statuses(plan) == ["finished"]


def test_a_job_leaves_runs_alone_that_are_another_ones_by_now(base, capsys):
    plan = make_plan([*base])
    prepare(plan, plan.runs)
    directory = plan.runs[0].directory
    atomic.write_json(directory / files.JOB, {"job": "8", "token": "new"})
    Job([str(directory)], plan.settings, "old", "FAKE")("7")
    assert "is no longer this job's" in capsys.readouterr().out
    assert record(directory)["job"] == "8"


SLOW = """
import sys
from retable.sweeps.job import Job
from retable.sweeps.plan import make_plan
from retable.sweeps.session import prepare
from retable import atomic
plan = make_plan(sys.argv[1:])
prepare(plan, plan.runs)
atomic.write_json(plan.runs[0].directory / "job.json", {"job": None, "token": "t"})
Job([str(plan.runs[0].directory)], plan.settings, "t", "FAKE")("7")
"""


@pytest.mark.slow
@pytest.mark.parametrize("epochs", [0, 1])
def test_a_job_whose_time_is_up_keeps_checkpoints_and_fails_what_gets_nowhere(faulty, epochs):
    """It is a process group that hears, as in SLURM: the workers must outlive the signal until they have stopped."""
    words = [*faulty("slow"), "trainer.max_epochs=1000", *([] if epochs else ["data.batch_size=1"])]
    plan = make_plan(words)
    directory = plan.runs[0].directory
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen([sys.executable, "-c", SLOW, *words], cwd=ROOT, env=environment, start_new_session=True)
    wanted = directory / (files.CHECKPOINT if epochs else files.LOG)
    deadline = time.monotonic() + 120
    while not (wanted.exists() and (epochs or "steps:" in wanted.read_text())) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(child.pid, signal.SIGUSR2)
    assert child.wait(60) == 0
    result = files.read_result(directory)
    if epochs:
        assert result is None
        assert (directory / files.CHECKPOINT).exists()
    else:
        assert result["reason"] == "FAKE: TIMEOUT, and no epoch was finished"
    assert record(directory)["job"] == "7"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"time": "soon"}, "hydra.launcher.time=soon: accepted: "),
        ({"gpus": "two"}, "hydra.launcher.gpus=two: accepted: a whole number"),
        ({"cpus": 0}, "hydra.launcher.cpus=0: accepted: a whole number"),
    ],
)
def test_settings_of_slurm_that_are_no_settings_are_refused(settings, message):
    with pytest.raises(ConfigError) as refused:
        Slurm(**settings)
    assert str(refused.value).startswith(message)


def test_without_slurm_or_submitit_a_line_says_so(base, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match=r"^hydra/launcher=slurm(: there is no sbatch here; |  ?needs submitit; )"):
        Cluster(Slurm()).describe(make_plan(base), make_plan(base).runs)
