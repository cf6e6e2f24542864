"""Sweeps in real worker processes: what fails, fails alone, and is known by its reason."""

import csv
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from retable import atomic
from retable.errors import ConfigError
from retable.run import files
from retable.sweeps import pool
from retable.sweeps.finish import exit_code
from retable.sweeps.session import sweep
from retable.sweeps.store import status_of
from tests.sweep.faults import LONG
from tests.sweep.processes import descendants

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch):
    """Workers find tests.sweep.faults from their working directory."""
    monkeypatch.chdir(ROOT)


def by_fault(plan) -> dict[str, dict]:
    return {run.config["model"]["fault"]: atomic.read_json(run.directory / files.RESULT) or {} for run in plan.runs}


def test_every_kind_of_failure_costs_its_own_run_only(faulty, capfd):
    faults = ("none", "meta", "raise", "exit", "segfault", "kill", "leave", "memory")
    plan, outcome = sweep([*faulty(*faults), "sweep.workers=1"])
    results = by_fault(plan)
    assert results["none"]["status"] == "finished"
    assert results["meta"]["status"] == "finished"  # what can't be checked beforehand is tried
    assert results["memory"]["status"] == "finished"  # tried again alone
    reasons = {fault: result["reason"] for fault, result in results.items() if result["status"] == "failed"}
    assert reasons == {
        "raise": "RuntimeError: wrong on purpose",
        "exit": "the run called sys.exit(7)",
        "segfault": "the worker process died of SIGSEGV",
        "kill": "the worker process died of SIGKILL (kill -9, or the out-of-memory killer)",
        "leave": "the worker process ended with exit code 5",
    }
    assert sorted(reason for _, reason in outcome.failures) == sorted(reasons.values())
    assert exit_code(plan, outcome) == 1
    shown = capfd.readouterr().out
    for run in plan.runs:
        if status_of(run.directory) == "failed":
            assert re.search(
                rf"failed: {re.escape(run.name)} · .* · log: {re.escape(str(run.directory))}/log.txt", shown
            )
    logs = {run.config["model"]["fault"]: (run.directory / files.LOG).read_text() for run in plan.runs}
    assert "RuntimeError: wrong on purpose" in logs["raise"]
    assert "Fatal Python error: Segmentation fault" in logs["segfault"]
    rows = list(csv.DictReader((plan.folder / "results.csv").open()))
    assert [row["status"] for row in rows] == [results[fault]["status"] for fault in faults]
    assert [bool(row["val/accuracy"]) for row in rows] == [row["status"] == "finished" for row in rows]


@pytest.mark.skipif(sys.platform != "linux", reason="process groups are looked through in /proc")
def test_what_a_run_leaves_behind_ends_with_it_and_stalls_nothing(faulty, monkeypatch, tmp_path):
    monkeypatch.setenv("MARK_OF_THIS_TEST", str(tmp_path))
    begin = time.monotonic()
    plan, outcome = sweep([*faulty("child", "orphan", "stray", "none"), "sweep.workers=1"])
    assert time.monotonic() - begin < LONG / 2
    assert {fault: result["status"] for fault, result in by_fault(plan).items()} == {
        "child": "finished",
        "orphan": "failed",
        "stray": "failed",
        "none": "finished",
    }
    assert {reason for _, reason in outcome.failures} == {
        "the worker process died of SIGKILL (kill -9, or the out-of-memory killer)"
    }
    left = started_with(str(tmp_path))
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert len(left) == 1  # the one that has taken a session of its own


def started_with(mark: str) -> list[int]:
    """Other processes that live and have the mark in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (path / "environ").read_bytes() and alive(int(path.name)):
                found.append(int(path.name))
        except OSError:
            continue
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="a stopped process is known from /proc")
def test_runs_that_hang_are_reported_and_ended(faulty, monkeypatch, capfd):
    monkeypatch.setattr(pool, "_SILENCE", 8)
    plan, outcome = sweep([*faulty("stop", "hold"), "sweep.workers=2", "sweep.stalled=12s"])
    assert {fault: result["reason"] for fault, result in by_fault(plan).items()} == {
        "stop": "its process was stopped for longer than sweep.stalled=12s",
        "hold": "no progress for longer than sweep.stalled=12s",
    }
    assert exit_code(plan, outcome) == 1
    shown = capfd.readouterr().out
    for run, what in zip(plan.runs, ("its process is stopped (SIGSTOP)", "no progress"), strict=True):
        assert f"{run.name}: {what} for 8s · log: {run.directory / files.LOG} · sweep.stalled=" in shown


def test_a_run_that_takes_too_long_fails_and_keeps_its_checkpoint(faulty):
    plan, outcome = sweep([*faulty("slow"), "trainer.max_epochs=1000", "sweep.timeout=0.2m"])
    assert [reason for _, reason in outcome.failures] == ["took longer than sweep.timeout=0.2m"]
    assert (plan.runs[0].directory / files.CHECKPOINT).exists()


def test_a_budget_ends_the_sweep_and_the_outcome_is_reported(faulty, capfd, tmp_path):
    settings = ["trainer.max_epochs=1000", "seed=0,1", "sweep.workers=1", "sweep.budget=30"]
    on_end = f"sweep.on_end='env | grep RETABLE_ > {tmp_path / 'told'}; exit 3'"
    plan, outcome = sweep([*faulty("slow"), *settings, on_end])
    assert outcome.stopped_by == "sweep.budget=30 is spent"
    assert exit_code(plan, outcome) == 1
    assert [status_of(run.directory) for run in plan.runs] == ["interrupted", "new"]
    shown, errors = capfd.readouterr()
    assert f"missing: 2 of 2 runs: {plan.runs[0].name}, {plan.runs[1].name}\n" in shown
    assert errors.endswith("sweep.on_end ended with exit code 3\n")
    environment = dict(line.partition("=")[::2] for line in (tmp_path / "told").read_text().splitlines())
    expected = {"STATUS": "failed", "RUNS": "2", "DONE": "0", "FAILED": "0", "LEFT": "2"}
    assert {key: environment[f"RETABLE_{key}"] for key in expected} == expected
    assert (environment["RETABLE_NAME"], environment["RETABLE_TABLE"]) == (plan.label, str(plan.folder / "results.md"))


@pytest.mark.skipif(sys.platform != "linux", reason="a stopped process is known from /proc")
def test_ctrl_z_takes_the_workers_along(faulty):
    slow = [*faulty("slow"), "trainer.max_epochs=4", "sweep.workers=1"]
    child = subprocess.Popen(command(*slow), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    folder = Path(slow[7].partition("=")[2]) / "mnist"
    assert waited(lambda: bool(list(folder.glob("*/last.ckpt")))), "no checkpoint came"
    child.send_signal(signal.SIGTSTP)
    workers = [pid for pid in descendants(child.pid) if os.getpgid(pid) == pid]
    try:
        assert len(workers) == 1
        assert waited(lambda: state(child.pid) == state(workers[0]) == "T")
    finally:
        child.send_signal(signal.SIGCONT)
    shown, _ = child.communicate(timeout=120)
    assert child.returncode == 0, shown


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.skipif(sys.platform != "linux", reason="the model finds its run's directory by /proc")
def test_a_run_whose_directory_is_deleted_has_failed(faulty):
    plan, outcome = sweep([*faulty("vanish", "none"), "sweep.workers=1"])
    (gone, kept) = (run.directory for run in plan.runs)
    assert [reason for _, reason in outcome.failures] == [f"{gone}: was deleted or replaced while the run trained"]
    assert exit_code(plan, outcome) == 1
    assert not (gone / files.RESULT).exists()
    assert status_of(kept) == "finished"


def test_failed_runs_are_tried_again_only_when_asked(faulty):
    arguments = [*faulty("memory,raise"), "sweep.workers=1"]
    plan, _ = sweep(arguments)
    failed = next(run for run in plan.runs if run.config["model"]["fault"] == "raise")
    before = (failed.directory / files.RESULT).stat().st_mtime_ns
    plan, outcome = sweep(arguments)
    assert (failed.directory / files.RESULT).stat().st_mtime_ns == before
    assert not outcome.failures
    assert exit_code(plan, outcome) == 1  # the table still has a failed run
    sweep([*arguments, "sweep.retry_failed=true"])
    assert (failed.directory / files.RESULT).stat().st_mtime_ns > before


@pytest.mark.parametrize(
    ("faults", "setting", "left"),
    [
        (("raise", "none"), "sweep.on_failure=stop", "sweep.on_failure=stop"),
        (("raise", "none"), "sweep.same_reason_limit=1", "1 failures in a row for one reason"),
    ],
)
def test_a_sweep_stops_when_asked_to(faulty, faults, setting, left):
    plan, outcome = sweep([*faulty(*faults), "sweep.workers=1", setting])
    assert outcome.stopped_by.startswith(left)
    assert status_of(plan.runs[-1].directory) == "new"


def test_different_reasons_do_not_count_as_one(faulty):
    plan, outcome = sweep([*faulty("raise", "other", "none"), "sweep.workers=1", "sweep.same_reason_limit=2"])
    assert outcome.stopped_by is None
    assert status_of(plan.runs[-1].directory) == "finished"


def test_a_bad_run_is_refused_before_any_runs(base):
    with pytest.raises(ConfigError, match=r"^model.blocks=5: accepted: a whole number from 1 to 4$"):
        sweep([*base, "model.blocks=1,5"])
    assert not list(Path(base[-1].partition("=")[2]).rglob("run.json"))


def test_the_python_api_returns_the_table(base):
    import retable

    table = retable.sweep(*base, "dropout=0.1,0.3")
    assert table["dropout.p"].tolist() == [0.1, 0.3]
    assert table["status"].tolist() == ["finished", "finished"]
    assert table["val/accuracy"].between(0, 1).all()


def command(*arguments: str) -> list[str]:
    return [sys.executable, "train.py", "-m", *arguments]


def test_ctrl_c_keeps_checkpoints_and_the_same_command_goes_on(faulty):
    slow = [*faulty("slow"), "trainer.max_epochs=5", "seed=0,1", "sweep.workers=1"]
    child = subprocess.Popen(command(*slow), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    folder = Path(slow[7].partition("=")[2]) / "mnist"
    assert waited(lambda: bool(list(folder.glob("*/last.ckpt")))), "no checkpoint came"
    child.send_signal(signal.SIGINT)
    shown, _ = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "The same command goes on where this one stopped" in shown
    (path,) = folder.glob("*/history.csv")
    before = path.read_text()
    assert not list(folder.glob("*/result.json"))
    done = subprocess.run(command(*slow), cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "1 of them from a checkpoint" in done.stdout
    assert path.read_text().startswith(before)  # epochs before the stop were not trained again, times and all
    assert len(list(folder.glob("*/result.json"))) == 2


@pytest.mark.slow
def test_two_invocations_share_the_work(faulty):
    slow = [*faulty("slow"), "seed=0,1,2", "sweep.workers=1"]
    one = subprocess.Popen(command(*slow), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    two = subprocess.Popen(command(*slow), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    shown = [child.communicate(timeout=300)[0] for child in (one, two)]
    assert (one.returncode, two.returncode) == (0, 0), shown
    logs = list((Path(slow[7].partition("=")[2]) / "mnist").glob("*/log.txt"))
    assert len(logs) == 3
    for log in logs:
        assert log.read_text().count("epoch 1/2") == 1, "a run was trained twice"


def test_a_finished_sweep_needs_no_torch_and_returns_at_once(base):
    arguments = [*base, "dropout=0.1,0.2"]
    subprocess.run(command(*arguments), cwd=ROOT, check=True, capture_output=True, timeout=300)
    code = "import sys; sys.argv = sys.argv[1:]; import train; train.main(); print('torch' in sys.modules)"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    again = [sys.executable, "-c", code, "train.py", "-m", *arguments]
    done = subprocess.run(again, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip().endswith("False"), done.stdout + done.stderr
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert spent < 3.0  # CPU time, so that a busy machine changes nothing


@pytest.mark.slow
def test_hydras_basic_launcher_works_under_the_sweeper(base):
    arguments = command(*base, "dropout=0.1,0.2", "hydra/launcher=basic")
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    results = list((Path(base[-1].partition("=")[2]) / "mnist").glob("*dropout*/result.json"))
    assert [atomic.read_json(path)["status"] for path in results] == ["finished", "finished"]
    assert "finished" in done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="pipes as on Linux")
def test_neither_a_reason_nor_a_closed_pipe_costs_the_table(faulty):
    arguments = command(*faulty("words", "none"), "sweep.workers=1")
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    child = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    assert child.stdout.readline().startswith(b"mnist/model-fault_sample: 2 runs")
    child.stdout.close()  # as `| head -1` does
    _, errors = child.communicate(timeout=300)
    assert (child.returncode, errors.decode()) == (1, "")
    folder = Path(arguments[10].partition("=")[2])
    rows = list(csv.DictReader((folder / "tables/mnist/model-fault_sample/results.csv").open()))
    assert [row["status"] for row in rows] == ["failed", "finished"]
    failed = Path(rows[0]["directory"])
    reason = atomic.read_json(failed / files.RESULT)["reason"]
    assert reason.startswith("RuntimeError: \\x1b[2J\u65e5\\udc80xxx")
    assert reason.endswith("xxx... (5,000,006 characters)")
    assert len(reason) < 2100
    assert (failed / files.LOG).stat().st_size > 5_000_000
    again = subprocess.run(arguments, cwd=ROOT, capture_output=True, env=environment, timeout=60)
    assert again.returncode == 1
    assert rb"RuntimeError: \x1b[2J\u65e5\udc80xxx" in again.stdout
    assert max(map(len, again.stdout.splitlines())) < 3000


def test_a_table_that_cannot_be_written_is_a_failure(base, capsys):
    folder = Path(base[-1].partition("=")[2])
    folder.mkdir()
    (folder / "tables").write_text("a file where a folder should be")
    plan, outcome = sweep(base)
    assert status_of(plan.runs[0].directory) == "finished"
    assert exit_code(plan, outcome) == 1
    assert "Not everything could be written" in capsys.readouterr().out


def test_preview_trains_nothing(base):
    done = subprocess.run(
        command(*base, "dropout=0.1,0.2", "sweep.preview=true"), cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert "2 new; about" in done.stdout, done.stdout + done.stderr
    assert not list(Path(base[-1].partition("=")[2]).rglob("*"))


def waited(condition, seconds: float = 120) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_workers_go_when_their_sweep_is_killed(faulty):
    slow = [*faulty("slow"), "trainer.max_epochs=100", "sweep.workers=1"]
    child = subprocess.Popen(command(*slow), cwd=ROOT, stdout=subprocess.DEVNULL)
    folder = Path(slow[7].partition("=")[2]) / "mnist"
    assert waited(lambda: bool(list(folder.glob("*/last.ckpt"))))
    workers = descendants(child.pid)
    assert workers
    child.kill()
    child.wait()
    assert waited(lambda: not any(alive(pid) for pid in workers), 20)
    assert status_of(next(folder.glob("*/last.ckpt")).parent) == "interrupted"


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
