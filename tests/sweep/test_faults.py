"""Kills at random moments: after the rerun the table is that of an undisturbed sweep.

FAULT_REPETITIONS=40 make test-slow ARGS='tests/sweep/test_faults.py -s' repeats it more often; FAULT_SEED starts the
random moments elsewhere.
"""

import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from retable import atomic
from retable.run import files
from tests.sweep.processes import descendants

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
REPETITIONS = int(os.environ.get("FAULT_REPETITIONS", "3"))
SEED = int(os.environ.get("FAULT_SEED", "0"))
TIMES = {"seconds", "seconds/train", "seconds/val", "images_per_second"}
GRID = ["dropout=0.0,0.1,0.3,0.5", "seed=0,1"]
SWEEP = ["task=mnist", "data=sample", "model.width=4", "trainer.max_epochs=4", "trainer.device=cpu", *GRID]
EPOCHS = 8 * 4
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


def epochs_done(folder: Path) -> int:
    return sum(len(path.read_text().splitlines()) - 1 for path in folder.glob("mnist/*/history.csv"))


def wait_for_moment(sweep: subprocess.Popen, folder: Path, startup: float, chance: random.Random) -> str:
    """Wait until a random one of the epochs that are left is done, and a little longer; now and then for less."""
    begin = time.monotonic()
    if chance.random() < 0.2:  # while workers come into being
        wanted, longer = 0, chance.uniform(0, startup)
    else:
        wanted, longer = chance.randint(epochs_done(folder), EPOCHS - 1), chance.uniform(0, 0.3)
    while sweep.poll() is None and epochs_done(folder) < wanted:
        time.sleep(0.01)
    time.sleep(longer)
    return f"at {time.monotonic() - begin:.1f} s, {epochs_done(folder)} epochs"


def kill(sweep: subprocess.Popen, victim: str, chance: random.Random) -> str:
    """SIGKILL a worker (or what forks them), the parent or the whole process group; says what was hit."""
    if victim == "worker":
        workers = descendants(sweep.pid)
        if not workers:
            return "no worker"
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
    reference = table(folder), histories(folder)
    assert len(reference[0]) == len(reference[1]) == 8
    assert epochs_done(folder) == EPOCHS
    shutil.rmtree(folder)
    return folder, seconds, *reference


@pytest.mark.parametrize("repetition", range(REPETITIONS))
def test_killed_and_run_again_gives_the_same_table(undisturbed, repetition):
    folder, startup, expected_table, expected_histories = undisturbed
    chance = random.Random(f"{SEED}-{repetition}")
    shutil.rmtree(folder, ignore_errors=True)
    kept: dict[Path, bytes] = {}
    story = []
    for _ in range(chance.randint(1, 3)):
        sweep = start(folder, *RERUN)
        moment = wait_for_moment(sweep, folder, startup, chance)
        if sweep.poll() is None:
            story.append(f"{kill(sweep, chance.choice(['worker', 'parent', 'group']), chance)} {moment}")
        else:
            story.append("done before")
        sweep.wait(600)
        for path, content in kept.items():
            assert path.read_bytes() == content, f"{path} was trained again ({story})"
        finished = [
            p for p in folder.glob("mnist/*/result.json") if (atomic.read_json(p) or {})["status"] == "finished"
        ]
        kept |= {path: path.read_bytes() for path in finished}
    before = len(kept)
    assert start(folder, *RERUN).wait(600) == 0
    for path, content in kept.items():
        assert path.read_bytes() == content, f"{path} was trained again ({story})"
    assert table(folder) == expected_table, story
    assert histories(folder) == expected_histories, story
    print(f"repetition {repetition}: {', '.join(story)}; {before} of 8 finished before the last rerun")
