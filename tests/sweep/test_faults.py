"""Kills at random moments, and file operations that fail: called again, a sweep has the table of an undisturbed one.

`make test-faults` does it with 1,000 kills, every operation and 1,000 states after a loss of power; FAULT_KILLS,
FAULT_EVERY and FAULT_POWER set other numbers, and FAULT_SEED (printed) starts the random moments elsewhere.
"""

import contextlib
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from retable import atomic
from retable.run import files
from tests.sweep.processes import descendants

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("FAULT_KILLS", "12"))
EVERY = int(os.environ.get("FAULT_EVERY", "12"))
EPOCHS_A_RUN = int(os.environ.get("FAULT_EPOCHS", "4"))  # longer runs are killed more often between two start-ups
POWER = int(os.environ.get("FAULT_POWER", "40"))
SEED = int(os.environ.get("FAULT_SEED", "0"))
TIMES = {"seconds", "seconds/train", "seconds/val", "images_per_second"}
GRID = ["trainer.device=cpu", "dropout=0.0,0.1,0.3,0.5", "seed=0,1"]
SWEEP = ["task=mnist", "data=sample", "model.width=4", f"trainer.max_epochs={EPOCHS_A_RUN}", *GRID]
EPOCHS = 8 * EPOCHS_A_RUN
MOST_CALLS = 60  # of one sweep that is killed again and again; then it is left in peace
RERUN = ["sweep.retry_failed=true", "sweep.same_reason_limit=null"]


def start(folder: Path, *extra: str) -> subprocess.Popen:
    command = [sys.executable, "train.py", "-m", *SWEEP, f"sweep.dir={folder}", "sweep.same_reason_limit=null", *extra]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


def table(folder: Path) -> list[dict[str, str]]:
    """The sweep's table without times."""
    with (folder / "tables/mnist/dropout-p_sample/results.csv").open() as file:
        return [{key: cell for key, cell in row.items() if key not in TIMES} for row in csv.DictReader(file)]


def histories(folder: Path) -> dict[str, list[dict[str, float]]]:
    return {
        path.parent.name: [{k: v for k, v in row.items() if k not in TIMES} for row in files.read_history(path)]
        for path in sorted(folder.glob("mnist/*/history.csv"))
    }


def left(folder: Path) -> dict[str, tuple[list[str], dict[str, Any]]]:
    """What histories do not hold: each run's figures by name, its confusion matrices and its metrics by class."""
    found = {}
    for path in sorted(folder.glob("mnist/*/result.json")):
        result = atomic.read_json(path)
        figures = sorted(figure.name for figure in (path.parent / "figures").iterdir())
        found[path.parent.name] = figures, {key: result[key] for key in ("confusion", "per_class")}
    return found


def epochs_done(folder: Path) -> int:
    return sum(len(path.read_text().splitlines()) - 1 for path in folder.glob("mnist/*/history.csv"))


def wait_for_moment(sweep: subprocess.Popen, folder: Path, startup: float, chance: random.Random) -> None:
    """Wait until some more epochs are done, and a little longer; now and then for less, while workers start."""
    longer = chance.uniform(0, startup) if chance.random() < 0.1 else chance.uniform(0, 0.3)
    wanted = epochs_done(folder) + chance.randint(0, 3) if longer < 0.3 else 0
    begin = time.monotonic()
    while sweep.poll() is None and epochs_done(folder) < wanted and time.monotonic() < begin + 4 * startup:
        time.sleep(0.01)
    time.sleep(longer)


def kill(sweep: subprocess.Popen, chance: random.Random) -> str:
    """SIGKILL a worker (or what forks them), the parent, or the parent and what forks; says what was hit."""
    victim = chance.choices(["worker", "parent", "group"], [8, 1, 1])[0]
    if victim == "worker":
        workers = descendants(sweep.pid)
        if not workers:
            return "nothing"
        with contextlib.suppress(ProcessLookupError):
            os.kill(chance.choice(workers), signal.SIGKILL)
    elif victim == "parent":
        sweep.kill()
    else:
        os.killpg(sweep.pid, signal.SIGKILL)
    return victim


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep") / "multirun"
    begin = time.monotonic()
    sweep = start(folder)
    while not epochs_done(folder):
        time.sleep(0.01)
    seconds = time.monotonic() - begin
    assert sweep.wait(600) == 0
    reference = table(folder), histories(folder), left(folder)
    assert len(reference[0]) == len(reference[1]) == 8
    assert epochs_done(folder) == EPOCHS
    shutil.rmtree(folder)
    return folder, seconds, *reference


def test_killed_and_called_again_gives_the_same_table(undisturbed):
    folder, startup, expected_table, expected_histories, expected_left = undisturbed
    chance, hit, rounds = random.Random(SEED), Counter(), 0
    print(f"\nFAULT_SEED={SEED}")
    while (kills := hit.total() - hit["nothing"]) < KILLS:
        shutil.rmtree(folder, ignore_errors=True)
        kept: dict[Path, bytes] = {}
        story, code, calls = [], None, 0
        while code != 0:  # the same sweep until all its runs have finished
            sweep = start(folder, *RERUN)
            calls += 1
            while sweep.poll() is None and calls < MOST_CALLS:
                wait_for_moment(sweep, folder, startup, chance)
                if sweep.poll() is None:
                    story.append(f"{kill(sweep, chance)} at {epochs_done(folder)}")
                    hit[story[-1].split()[0]] += 1
            code = sweep.wait(600)
            for path, content in kept.items():
                assert path.read_bytes() == content, f"{path} was trained again ({story})"
            results = folder.glob("mnist/*/result.json")
            kept |= {p: p.read_bytes() for p in results if (atomic.read_json(p) or {})["status"] == "finished"}
            assert calls <= MOST_CALLS + 1, f"never done: {story}"
        assert table(folder) == expected_table, story
        assert histories(folder) == expected_histories, story
        assert left(folder) == expected_left, story
        rounds += 1
        print(f"round {rounds}: {kills} kills before it, {len(story)} in it, {calls} calls; {dict(hit)}", flush=True)


@pytest.fixture(scope="module")
def preloaded(tmp_path_factory):
    """The library that counts file operations, built."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler, on Linux")
    library = tmp_path_factory.mktemp("operations") / "operations.so"
    source = Path(__file__).with_name("operations.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl", "-lpthread"], check=True)
    return library


def test_every_file_operation_fails_once_and_is_the_last_once(preloaded, tmp_path):
    command = [sys.executable, "-m", "tests.sweep.operations", str(tmp_path / "runs"), "--every", str(EVERY)]
    environment = os.environ | {"LD_PRELOAD": str(preloaded), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    print("\n" + done.stdout)
    first, *lines = map(json.loads, done.stdout.splitlines())
    tried = {line["fault"]: line for line in lines if "tried" in line}
    assert list(tried) == ["ENOSPC", "EIO", "EACCES", "dies"]
    assert all(line["not made good"] == 0 for line in tried.values()), done.stdout
    assert all(line["tried"] >= (first["operations"] - 2) // EVERY for line in tried.values())
    assert set(tried["dies"]["ended"]) == {"died"}


@pytest.mark.parametrize("every", ["epoch", "1h"])
def test_what_a_loss_of_power_leaves_gives_the_same_table(preloaded, tmp_path, every):
    """With a checkpoint an epoch, and with one at the end, where epochs in between are appended to the history."""
    command = [sys.executable, "-m", "tests.sweep.power", str(tmp_path / "runs"), f"--count={POWER}", f"--seed={SEED}"]
    command += ["--more", f"checkpoint.every={every}"]
    environment = os.environ | {"LD_PRELOAD": str(preloaded), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    print("\n" + done.stdout)
    first, *wrong, last = map(json.loads, done.stdout.splitlines())
    assert first["states"] > 1000
    assert (wrong, last["not made good"], last["tried"]) == ([], 0, min(POWER, first["states"]))
