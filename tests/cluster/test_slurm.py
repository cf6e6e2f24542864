"""Sweeps on a real SLURM of one node: `make test-cluster`."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from retable import atomic
from retable.run import files
from retable.sweeps.cluster import record
from tests.cluster.conftest import ROOT, output_of
from tests.runs import history, same

pytestmark = pytest.mark.cluster

CIFAR = ("task=cifar", "data=sample", "data.fraction=0.1", "trainer.device=cpu", "logger=none", "trainer.max_epochs=2")
FAULTY = ("task=mnist", "data=sample", "data.fraction=0.1", "trainer.device=cpu", "logger=none")
FAULTY += ("model._target_=tests.sweep.faults.Faulty",)
SLURM = ("hydra/launcher=slurm", "hydra.launcher.memory=2500MB", "hydra.launcher.time=5m")


class Sweep:
    """A sweep's command in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "retable.cli", "sweep", *words, f"sweep.dir={self.folder}"]
        return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def __call__(self, *words: str, code: int = 0) -> str:
        process = self.start(*words)
        shown, _ = process.communicate(timeout=900)
        assert process.returncode == code, shown
        return shown

    def runs(self) -> list[Path]:
        return sorted(path.parent for path in self.folder.glob("*/*/run.json"))

    def results(self) -> dict[str, dict]:
        """By fault, or by dropout, what became of a run."""
        found = {}
        for run in self.runs():
            config = atomic.read_json(run / files.RUN)["config"]
            found[str(config["model"].get("fault", config["dropout"]["p"]))] = atomic.read_json(run / files.RESULT)
        return found

    def wait(self, what, seconds: float = 180) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < deadline, (output_of("squeue"), [p.name for p in self.folder.rglob("*")])
            time.sleep(0.3)


@pytest.fixture
def a_sweep(slurm, tmp_path):
    yield Sweep(tmp_path / "multirun")
    output_of("scancel", "--me")


def test_a_sweep_trains_in_arrays_and_a_second_call_has_nothing_to_do(a_sweep):
    words = [*CIFAR, *SLURM, "dropout=0.1,0.2,0.3", "sweep.runs_per_job=2"]
    shown = a_sweep(*words, "sweep.preview=true")
    assert "SLURM: 3 runs would be submitted as 2 jobs of up to 2 runs, 2 at once at most:\n" in shown
    assert "  #SBATCH --mem=2500MB\n" in shown
    assert "  #SBATCH --time=5\n" in shown
    shown = a_sweep(*words)
    assert "SLURM: 3 runs submitted in 2 jobs: " in shown
    assert "│       0.3 │" in shown
    assert [result["status"] for result in a_sweep.results().values()] == ["finished"] * 3
    names = [record(run)["job"] for run in a_sweep.runs()]
    assert [name.partition("_")[2] for name in names] == ["0", "0", "1"]
    assert "submitted" not in a_sweep(*words)


def test_what_fails_and_what_is_killed_for_memory_is_listed_and_the_rest_is_trained(a_sweep):
    shown = a_sweep(*FAULTY, *SLURM, "+model.fault=raise,none,hog,segfault", "trainer.max_epochs=2", code=1)
    results = a_sweep.results()
    assert {fault: result["status"] for fault, result in results.items()} == {
        "raise": "failed", "none": "finished", "hog": "failed", "segfault": "failed"
    }  # fmt: skip
    assert results["hog"]["reason"] == "SLURM: OUT_OF_MEMORY"
    assert results["segfault"]["reason"] == "the worker process died of SIGSEGV"
    assert shown.count("\nfailed: ") == 3
    hog = next(run for run in a_sweep.runs() if "fault-hog" in run.name)
    assert "its own log: " in (hog / files.LOG).read_text()


def test_a_sweep_whose_process_is_killed_is_called_again(a_sweep):
    words = [*FAULTY, *SLURM, "+model.fault=slow", "trainer.max_epochs=4", "seed=0,1"]
    process = a_sweep.start(*words)
    a_sweep.wait(lambda: any((run / files.LOG).exists() for run in a_sweep.runs()))
    process.kill()
    process.wait()
    before = [record(run)["job"] for run in a_sweep.runs()]
    assert "submitted" not in a_sweep(*words)
    assert [record(run)["job"] for run in a_sweep.runs()] == before
    assert all(atomic.read_json(run / files.RESULT)["status"] == "finished" for run in a_sweep.runs())


def test_submitting_and_leaving(a_sweep):
    words = [*CIFAR, *SLURM, "dropout=0.1,0.2", "sweep.wait=false"]
    assert "2 runs: 2 in the queue\n" in a_sweep(*words)
    shown = output_of(sys.executable, "-m", "retable.cli", "status", str(a_sweep.folder))
    assert "2 runs: 2 " in shown
    assert "queued: SLURM job " in shown
    a_sweep.wait(lambda: all((run / files.RESULT).exists() for run in a_sweep.runs()))
    assert "│       0.2 │" in a_sweep(*words)


def epochs(run: Path) -> int:
    try:
        return len((run / files.HISTORY).read_text().splitlines()) - 1
    except OSError:
        return 0


def test_a_run_goes_on_from_its_checkpoint_when_its_job_is_requeued_and_preempted(a_sweep):
    settings = ["trainer.max_epochs=30", "hydra.launcher.partition=main", "hydra.launcher.cpus=4"]
    process = a_sweep.start(*FAULTY, *SLURM, "+model.fault=slow", *settings)
    a_sweep.wait(lambda: bool(a_sweep.runs()) and epochs(a_sweep.runs()[0]) >= 2)
    (run,) = a_sweep.runs()
    name = record(run)["job"]
    output_of("scontrol", "requeue", name)
    a_sweep.wait(lambda: "PENDING" in output_of("squeue", "--noheader", "--format=%T", "--jobs", name))
    reached = epochs(run)
    output_of("scontrol", "release", name)
    a_sweep.wait(lambda: epochs(run) > reached)
    output_of("srun", "--partition=urgent", "--cpus-per-task=4", "--mem=100", "--time=1", "true")  # takes its place
    log = a_sweep.folder / "jobs" / f"{name}_0_log.out"
    a_sweep.wait(lambda: "SIGTERM: runs stop and keep the checkpoint of their last epoch" in log.read_text())
    shown, _ = process.communicate(timeout=400)
    assert process.returncode == 0, shown
    assert atomic.read_json(run / files.RESULT)["status"] == "finished"
    assert [line.partition(",")[0] for line in (run / files.HISTORY).read_text().splitlines()[1:]] == [
        str(number) for number in range(1, 31)
    ]
    assert record(run)["job"] == name


def test_a_run_that_is_longer_than_its_job_is_requeued_before_its_time_is_up(a_sweep):
    """SLURM counts in minutes: told 15 seconds before two are over, a run of more than that takes two jobs, on a slow
    machine more."""
    words = [*FAULTY, "hydra/launcher=slurm", "hydra.launcher.memory=2500MB", "hydra.launcher.time=2m"]
    shown = a_sweep(*words, "hydra.launcher.notice=15", "+model.fault=slow", "trainer.max_epochs=80")
    (run,) = a_sweep.runs()
    (log,) = (a_sweep.folder / "jobs").glob("*_log.out")
    assert "SIGUSR2: runs stop and keep the checkpoint" in log.read_text(), shown
    assert "asks SLURM to start job" in log.read_text()
    assert epochs(run) == 80


def test_a_run_that_no_job_has_the_time_for_has_failed_and_the_rest_is_trained(a_sweep):
    """It hangs in its first epoch, deaf to the signal that its time is nearly up."""
    words = [*FAULTY, "hydra/launcher=slurm", "hydra.launcher.memory=2500MB", "hydra.launcher.notice=15"]
    words += ["hydra.launcher.time=2m", "+model.fault=hang,none", "trainer.max_epochs=2"]
    shown = a_sweep(*words, code=1)
    results = a_sweep.results()
    assert results["hang"]["status"] == "failed"
    assert results["hang"]["reason"] == "SLURM: TIMEOUT", shown
    assert results["none"]["status"] == "finished"
    (late,) = [log for log in (a_sweep.folder / "jobs").glob("*_log.err") if "DUE TO TIME LIMIT" in log.read_text()]
    (run,) = [run for run in a_sweep.runs() if "fault-hang" in run.name]
    assert late.name.startswith(f"{record(run)['job']}_")


def test_a_node_that_is_lost_costs_its_runs_only(a_sweep):
    host = os.uname().nodename.partition(".")[0]
    words = [*FAULTY, *SLURM, "+model.fault=hang", "+hydra.launcher.extra.no-requeue=true"]
    process = a_sweep.start(*words)
    a_sweep.wait(lambda: any("steps:" in log.read_text() for log in a_sweep.folder.glob(f"*/*/{files.LOG}")))
    output_of("scontrol", "update", f"nodename={host}", "state=down", "reason=test")
    try:
        process.communicate(timeout=120)
    finally:
        output_of("scontrol", "update", f"nodename={host}", "state=resume")
    assert process.returncode == 1
    assert a_sweep.results()["hang"]["reason"] == "SLURM: NODE_FAIL"


def test_what_slurm_refuses_is_one_line(a_sweep):
    shown = a_sweep(*CIFAR, *SLURM, "hydra.launcher.partition=nowhere", code=2)
    assert shown.splitlines()[-1] == (
        "SLURM refused the jobs: sbatch: error: Batch job submission failed: Invalid partition name specified"
    )


def test_srun_starts_the_processes_of_one_run(slurm, tmp_path):
    """Two tasks of one step are two processes of one run, which is the run of one process."""
    words = ["task=mnist", "data=sample", "data.fraction=0.1", "model.width=4", "dropout=none", "data.batch_size=48"]
    words += ["trainer.device=cpu", "logger=none", "trainer.max_epochs=2", "hydra.run.dir=run"]
    train = [sys.executable, "-m", "retable.cli", "train", *words]
    histories = []
    for name, command in (
        ("alone", train),
        ("together", ["srun", "--ntasks=2", "--time=10", *train, "trainer=ddp", "trainer.devices=2"]),
    ):
        (tmp_path / name).mkdir()
        done = subprocess.run(command, cwd=tmp_path / name, text=True, capture_output=True, timeout=540)
        assert done.returncode == 0, done.stdout + done.stderr
        histories.append(history(tmp_path / name / "run"))
        assert files.read_result(tmp_path / name / "run")["status"] == "finished"
    assert "rank 1 of 2: trains " in done.stdout
    assert done.stdout.count("finished\n") == 1
    same(histories[1], histories[0])
