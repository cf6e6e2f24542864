"""What becomes of runs that go wrong under each launcher: the table of docs/compared.md, cell by cell."""

import contextlib
import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from retable import atomic
from retable.run import files
from retable.sweeps.store import status_of
from tests.runs import history
from tests.sweep.conftest import BASE

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PACKAGES = {"joblib": "hydra_joblib_launcher", "submitit_local": "hydra_submitit_launcher"}
SETTINGS = {"workers": ["sweep.workers=2"], "joblib": ["hydra.launcher.n_jobs=2"]}
ROWS = [
    [cell.strip("` ").removeprefix("hydra/launcher=") for cell in line.strip("| ").split(" | ")]
    for line in re.findall(
        r"^\| .*", (ROOT / "docs/compared.md").read_text().partition("\n## Launchers")[2].partition("\n## ")[0], re.M
    )
]
LAUNCHERS = ("workers", "basic", "joblib", "submitit_local")
# How a segfault reads; None where nobody is left to say it.
SEGFAULTS = {
    "workers": "the worker process died of SIGSEGV",
    "basic": None,
    "joblib": "the launcher failed: TerminatedWorkerError: ",
    "submitit_local": "the launcher failed: UncompletedJobError: ",
}


@pytest.fixture(params=LAUNCHERS)
def launcher(request):
    package = PACKAGES.get(request.param)
    if package and not importlib.util.find_spec(f"hydra_plugins.{package}"):
        pytest.skip(f"needs {package.replace('_', '-')}: pip install -e '.[integrations]'")
    return request.param


@pytest.fixture
def start(launcher, tmp_path):
    """Starts a sweep of runs that go wrong in an empty folder."""
    begun: list[subprocess.Popen] = []
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}

    def start(*words: str) -> subprocess.Popen:
        faulty = [*BASE, "model._target_=tests.sweep.faults.Faulty", f"hydra/launcher={launcher}"]
        command = [sys.executable, "-m", "retable.cli", "sweep", *faulty, *SETTINGS.get(launcher, []), *words]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        begun.append(subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True, **pipes))
        return begun[-1]

    yield start
    for sweep in begun:  # where a test gave up on it
        with contextlib.suppress(ProcessLookupError):
            os.killpg(sweep.pid, signal.SIGKILL)
        sweep.communicate()


def ended(sweep: subprocess.Popen) -> tuple[int, str, str]:
    shown, said = sweep.communicate(timeout=600)
    return sweep.returncode, shown, said


def by_fault(folder: Path) -> dict[str, Path]:
    """The runs' directories by what goes wrong in them."""
    runs = {path.parent for path in (folder / "multirun/mnist").glob("*/run.json")}
    return {atomic.read_json(run / files.RUN)["config"]["model"]["fault"]: run for run in runs}


def listed(shown: str) -> dict[str, tuple[str, Path]]:
    """(Reason, log) that the sweep's last lines say of its failed runs, by name."""
    found = re.findall(r"^failed: (\S+) · (.*) · log: (\S+)$", shown, re.MULTILINE)
    return {name: (reason, Path(log)) for name, reason, log in found}


def test_the_table_has_these_launchers():
    assert [row[0] for row in ROWS[1:]] == list(LAUNCHERS)
    assert {len(row) for row in ROWS} == {7}


def test_a_run_that_calls_exit_and_one_that_raises_are_failures_with_reason_and_log(start, tmp_path):
    code, shown, said = ended(start("+model.fault=exit,raise,none"))
    assert code == 1, said
    runs = by_fault(tmp_path)
    reasons = {"exit": "the run called sys.exit(7)", "raise": "RuntimeError: wrong on purpose"}
    assert {fault: files.read_result(run).get("reason") for fault, run in runs.items()} == reasons | {"none": None}
    assert files.read_result(runs["none"])["status"] == "finished"
    found = listed(shown)
    for fault, last in (("exit", "SystemExit: 7"), ("raise", "RuntimeError: wrong on purpose")):
        reason, log = found.pop(runs[fault].name)
        assert (reason, tmp_path / log) == (reasons[fault], runs[fault] / files.LOG)
        assert (runs[fault] / files.LOG).read_text().splitlines()[-1] == last
    assert found == {}


def test_a_run_that_dies_of_a_segfault(start, launcher, tmp_path):
    """The one before it is in its first epoch when it happens, except under basic, where it has finished."""
    code, shown, said = ended(start("+model.fault=slow,segfault,none"))
    runs = by_fault(tmp_path)
    if SEGFAULTS[launcher] is None:
        assert code == -signal.SIGSEGV  # 139 to a shell
        assert [status_of(runs[fault]) for fault in ("slow", "segfault", "none")] == ["finished", "new", "new"]
        return
    assert code == 1, said
    assert [status_of(runs[fault]) for fault in ("slow", "segfault", "none")] == ["finished", "failed", "finished"]
    assert [len(history(runs[fault])) for fault in ("slow", "none")] == [2, 2]
    assert files.read_result(runs["segfault"])["reason"].startswith(SEGFAULTS[launcher])
    ((name, (reason, log)),) = listed(shown).items()
    assert (name, tmp_path / log) == (runs["segfault"].name, runs["segfault"] / files.LOG)
    assert reason.startswith(SEGFAULTS[launcher])
    assert (runs["segfault"] / files.LOG).exists()


def test_a_sweep_that_is_sent_sigterm_keeps_the_last_epochs_and_goes_on(start, launcher, tmp_path):
    words = ("+model.fault=slow", "seed=0,1", "trainer.max_epochs=8")
    sweep = start(*words)
    at_once = 1 if launcher == "basic" else 2
    deadline = time.monotonic() + 400
    while len(begun := list(tmp_path.glob(f"multirun/mnist/*/{files.CHECKPOINT}"))) < at_once:
        assert time.monotonic() < deadline
        assert sweep.poll() is None, sweep.communicate()
        time.sleep(0.1)
    sweep.terminate()
    code, shown, said = ended(sweep)
    assert code == 130, said
    assert shown.splitlines().count("The same command goes on where this one stopped; finished runs are kept.") == 1
    runs = [path.parent for path in begun]
    assert [status_of(run) for run in runs] == ["interrupted"] * at_once  # nobody trains them any more
    before = [files.read_history(run / files.HISTORY) for run in runs]
    assert all(1 <= len(rows) < 8 for rows in before)
    time.sleep(3)  # more than an epoch
    assert [files.read_history(run / files.HISTORY) for run in runs] == before
    code, shown, said = ended(start(*words))
    assert code == 0, said
    assert f"2 runs, 0 done before, 2 to train, {at_once} of them from a checkpoint" in shown
    after = [files.read_history(run / files.HISTORY) for run in runs]
    assert [rows[: len(kept)] for rows, kept in zip(after, before, strict=True)] == before
    assert [[row["epoch"] for row in rows] for rows in after] == [list(range(1, 9))] * at_once
    assert len(list(tmp_path.glob("multirun/mnist/*/result.json"))) == 2


def test_a_sweep_that_is_to_stop_at_a_failure(start, launcher, tmp_path):
    alone = ["sweep.workers=1"] if launcher == "workers" else []
    code, shown, said = ended(start("+model.fault=raise,none", "sweep.on_failure=stop", *alone))
    results = list(tmp_path.glob("multirun/mnist/*/result.json"))
    if launcher in ("workers", "basic"):
        assert code == 1, said
        assert [atomic.read_json(path)["reason"] for path in results] == ["RuntimeError: wrong on purpose"]
        assert "The sweep stopped: sweep.on_failure=stop." in shown.splitlines()
    else:
        refused = "sweep.on_failure=stop: this launcher starts all runs at once; accepted: continue"
        assert (code, said.splitlines()[-1], results) == (2, refused, [])
