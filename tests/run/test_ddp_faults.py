"""What becomes of a run that several processes train when one of them ends, is told to, or can't write.

FAULT_KILLS and FAULT_SEED set how many random kills there are, and which (printed).
"""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from retable.run import ddp, files
from retable.run.ddp import LostProcess
from retable.run.execute import execute
from retable.run.nodes import RankEnvironment
from tests.runs import history
from tests.sweep.processes import descendants

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("FAULT_KILLS", "4"))
SEED = int(os.environ.get("FAULT_SEED", "0"))
SMALL = ["task=mnist", "data=sample", "data.fraction=0.1", "model.width=4", "dropout=0.3", "data.batch_size=48"]
WORDS = [*SMALL, "trainer=ddp", "trainer.device=cpu", "trainer.max_epochs=6", "logger=none"]
SECONDS = 240  # within which a run has ended after one of its processes has


def meeting() -> ddp.Meeting:
    environment = RankEnvironment(0, 2, 1, "127.0.0.1", ddp.free_port(), starts=True)
    return ddp.Meeting(environment)


def others(pid: int) -> list[int]:
    """The other ranks that a run's process has started."""
    found = []
    for child in descendants(pid):
        with contextlib.suppress(OSError):
            if b"retable.run.rank" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(child)
    return found


def stand_in(monkeypatch, tmp_path, code: str) -> None:
    """Have the other ranks be something else than retable.run.rank."""
    script = tmp_path / "python"
    script.write_text(f"#!{sys.executable}\nimport os, signal, sys, time\n{code}\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))


def started(tmp_path):
    return ddp.companions({"seed": 0}, {"directory": str(tmp_path)}, meeting(), "cpu")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("os.kill(os.getpid(), 9)", "process 1 of 2: died of SIGKILL (kill -9, or the out-of-memory killer)"),
        ("sys.stdin.readline(); sys.exit(3)", "process 1 of 2: ended with exit code 3"),
        ("sys.stdin.readline(); print('no')", "process 1 of 2: ended before training"),
        # Between being ready and meeting the others, where PyTorch's own rendezvous waits for half an hour.
        ("print('ready', flush=True); sys.exit(4)", "process 1 of 2: ended with exit code 4"),
        ("print('ready', flush=True); time.sleep(1); os.kill(os.getpid(), 9)", "process 1 of 2: died of SIGKILL"),
    ],
)
def test_a_process_that_ends_before_training_is_named_at_once(monkeypatch, tmp_path, code, reason):
    stand_in(monkeypatch, tmp_path, code)
    begin = time.monotonic()
    with pytest.raises(LostProcess, match=f"^{re.escape(reason)}"), started(tmp_path):
        raise AssertionError("they have met")
    assert time.monotonic() - begin < 60
    assert not others(os.getpid())


def test_what_is_sent_to_all_is_the_first_ones_business(monkeypatch, tmp_path):
    """SIGTERM to a process group, as a cluster sends it, and Ctrl-C, also before the others can ignore them."""
    code = "blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])\n"
    code += "sys.exit(40 + len(blocked & {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1}))"
    stand_in(monkeypatch, tmp_path, code)
    with pytest.raises(LostProcess, match=r"ended with exit code 44$"), started(tmp_path):
        pass
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, []) & set(ddp.SIGNALS)


def test_a_broken_connection_is_reported_by_who_has_ended(monkeypatch, tmp_path):
    """What a rank said last is the reason; a bug of the run's own stays what it is."""
    joined = []
    monkeypatch.setattr(ddp.Meeting, "join", lambda self, kind, watch: joined.append(self))
    stand_in(monkeypatch, tmp_path, "print('ready', flush=True)\nsys.stdin.read(2); time.sleep(2); sys.exit(1)")

    def broken() -> None:
        joined[0]._news.set("failed/1", "KeyError: 'here'")
        raise RuntimeError("[third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer")

    with pytest.raises(LostProcess, match=r"^process 1 of 2: KeyError: 'here'$"), started(tmp_path):
        broken()
    with pytest.raises(RuntimeError, match=r"^of its own$"), started(tmp_path):
        raise RuntimeError("of its own")


# Minutes ---------------------------------------------------------------------------------------------------------


def start(directory: Path, log, *more: str, **settings) -> subprocess.Popen:
    resumes = (directory / files.RUN).exists()
    words = [f"resume={directory}"] if resumes else [*WORDS, f"hydra.run.dir={directory}", *more]
    return subprocess.Popen(
        [sys.executable, "train.py", *words],
        cwd=ROOT,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        **settings,
    )


def waited(condition, process: subprocess.Popen) -> bool:
    deadline = time.monotonic() + SECONDS
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(condition())


def gone(pids: list[int]) -> bool:
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The history of an undisturbed run, and how long it took."""
    folder = tmp_path_factory.mktemp("ddp")
    begin = time.monotonic()
    with (folder / "log").open("w") as log:
        assert start(folder / "run", log).wait(2 * SECONDS) == 0, (folder / "log").read_text()
    return history(folder / "run"), time.monotonic() - begin


HITS = {
    "another rank": lambda process, ranks: os.kill(ranks[0], signal.SIGKILL),
    "the first rank": lambda process, ranks: process.kill(),
    "SIGTERM to the first": lambda process, ranks: process.terminate(),
    "SIGTERM to all": lambda process, ranks: os.killpg(process.pid, signal.SIGTERM),
    "Ctrl-C": lambda process, ranks: os.killpg(process.pid, signal.SIGINT),
    "a closed terminal": lambda process, ranks: os.killpg(process.pid, signal.SIGHUP),
}
ENDS = {  # exit code, and the status that is noted
    "another rank": ({1}, "failed"),
    "the first rank": ({-9}, None),
    "SIGTERM to the first": ({130}, None),
    "SIGTERM to all": ({130}, None),
    "Ctrl-C": ({130}, None),
    "a closed terminal": ({-1}, None),
}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_killed_and_resumed_it_is_the_undisturbed_run(undisturbed, tmp_path):
    """One process of the two, both, or signals to either, at random moments of training, until KILLS have fallen."""
    expected, _ = undisturbed
    chance, hit = random.Random(SEED), Counter()
    print(f"\nFAULT_SEED={SEED}")
    while hit.total() < KILLS:
        directory, story, code = tmp_path / f"run-{hit.total()}", [], None
        while code != 0:
            with (tmp_path / "log").open("w") as log:
                process = start(directory, log)
                if hit.total() < KILLS and len(story) < 4:
                    before = len(history(directory)) if (directory / files.HISTORY).exists() else 0
                    wanted = before + chance.randint(0, 2)
                    kind = chance.choice(list(HITS))
                    waited(lambda p=process: others(p.pid), process)
                    waited(lambda n=wanted, d=directory: _epochs(d) >= n, process)
                    time.sleep(chance.uniform(0, 0.2))
                    ranks = others(process.pid)
                    if process.poll() is None and ranks:
                        story.append(f"{kind} at {_epochs(directory)}")
                        HITS[kind](process, ranks)
                        hit[kind] += 1
                        code = process.wait(SECONDS)
                        assert gone(ranks), story
                        printed = (tmp_path / "log").read_text()
                        codes, status = ENDS[kind]
                        if code != 0:  # else it was over before it was noticed
                            assert code in codes, (story, printed)
                            result = files.read_result(directory)
                            assert (result or {}).get("status") == status, (story, printed)
                        if status == "failed" and code:
                            assert result["reason"].startswith("LostProcess: process 1 of 2: died of SIGKILL"), story
                code = process.wait(2 * SECONDS)
            assert len(story) < 8, (story, (tmp_path / "log").read_text())
        assert history(directory) == expected, story
        assert not list(directory.glob(".*.tmp-*")), story
        print(f"{hit.total()} so far; {story}", flush=True)
        shutil.rmtree(directory)
    print(json.dumps(hit))


def _epochs(directory: Path) -> int:
    path = directory / files.HISTORY
    return len(path.read_text().splitlines()) - 1 if path.exists() else 0


@pytest.mark.slow
def test_a_full_disk_ends_all_processes_and_costs_no_epoch(compose, tmp_path, monkeypatch):
    """ENOSPC at the second epoch's checkpoint; called again the run goes on from the first one's."""
    from retable.run import checkpoints

    config = compose(*WORDS, "trainer.max_epochs=3")
    execute(config, tmp_path / "whole")
    put, count = checkpoints.put, []

    def full(*arguments):
        count.append(1)
        if len(count) == 2:
            raise OSError(28, "No space left on device")
        put(*arguments)

    monkeypatch.setattr(checkpoints, "put", full)
    with pytest.raises(OSError, match="No space left"):
        execute(config, tmp_path / "parts")
    assert not others(os.getpid())
    assert files.read_result(tmp_path / "parts")["reason"] == "OSError: [Errno 28] No space left on device"
    files.remove([tmp_path / "parts" / files.RESULT])
    execute(config, tmp_path / "parts")
    assert history(tmp_path / "parts") == history(tmp_path / "whole")


@pytest.mark.slow
def test_an_error_of_another_rank_alone_is_the_runs_reason(compose, tmp_path):
    """The model of rank 1 fails at its second step; rank 0's does not."""
    faulty = ("dropout=none", "model._target_=tests.sweep.faults.Faulty", "+model.fault=elsewhere")
    config = compose(*WORDS, *faulty)
    with pytest.raises(LostProcess, match=r"^process 1 of 2: RuntimeError: wrong on purpose$"):
        execute(config, tmp_path / "run")
    assert not others(os.getpid())
    result = files.read_result(tmp_path / "run")
    assert (result["status"], result["reason"]) == (
        "failed",
        "LostProcess: process 1 of 2: RuntimeError: wrong on purpose",
    )
