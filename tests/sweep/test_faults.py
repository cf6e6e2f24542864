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

from ablate.run import files
from tests.sweep.processes import descendants

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
REPETITIONS = int(os.environ.get("FAULT_REPETITIONS", "3"))
SEED = int(os.environ.get("FAULT_SEED", "0"))
TIMES = {"seconds", "seconds/train", "seconds/val", "images_per_second"}
GRID = ["dropout=0.0,0.1,0.3,0.5", "seed=0,1"]
SWEEP = ["task=mnist", "data=sample", "model.width=4", "trainer.max_epochs=4", "trainer.device=cpu", *GRID]
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
    assert start(folder).wait(600) == 0
    seconds = time.monotonic() - begin
    reference = table(folder), histories(folder)
    assert len(reference[0]) == len(reference[1]) == 8
    shutil.rmtree(folder)
    return folder, seconds, *reference


@pytest.mark.parametrize("repetition", range(REPETITIONS))
def test_killed_and_run_again_gives_the_same_table(undisturbed, repetition):
    folder, seconds, expected_table, expected_histories = undisturbed
    chance = random.Random(f"{SEED}-{repetition}")
    shutil.rmtree(folder, ignore_errors=True)
    kept: dict[Path, bytes] = {}
    story = []
    for _ in range(chance.randint(1, 3)):
        sweep = start(folder, *RERUN)
        # Most of a sweep's time is the workers' start, where little can go wrong: aim at what comes behind it.
        moment = chance.uniform(0.3, 1.0) * seconds
        victim = chance.choice(["worker", "parent", "group"])
        try:
            sweep.wait(moment)
            story.append("done before")
        except subprocess.TimeoutExpired:
            story.append(f"{kill(sweep, victim, chance)} at {moment:.1f} s")
        sweep.wait(600)
        for path, content in kept.items():
            assert path.read_bytes() == content, f"{path} was trained again ({story})"
        finished = [p for p in folder.glob("mnist/*/result.json") if (files.read_json(p) or {})["status"] == "finished"]
        kept |= {path: path.read_bytes() for path in finished}
    before = len(kept)
    assert start(folder, *RERUN).wait(600) == 0
    for path, content in kept.items():
        assert path.read_bytes() == content, f"{path} was trained again ({story})"
    assert table(folder) == expected_table, story
    assert histories(folder) == expected_histories, story
    print(f"repetition {repetition}: {', '.join(story)}; {before} of 8 finished before the last rerun")
