"""Workers that are forked: the same as those that are started anew, and not lost with what forked them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from retable import atomic
from retable.run import files
from retable.sweeps import forkserver
from retable.sweeps.forkserver import ForkServer
from retable.sweeps.processes import worker_environment
from retable.sweeps.session import sweep
from tests.data.limits import processor_seconds
from tests.runs import untimed
from tests.stand_in import on_stand_in
from tests.sweep.processes import descendants

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(not forkserver.available(), reason="workers are forked on Linux only")


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def waited(condition, seconds: float = 120) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


@pytest.fixture
def server():
    made = ForkServer()
    yield made
    made.close()
    assert not made.alive


def ready(server: ForkServer, number: int):
    child = server.fork(number, worker_environment(None, 1))
    assert child.events.readline() == '{"event": "ready"}\n'
    return child


def test_a_worker_ends_as_it_was_ended_and_a_new_one_is_there_at_once(server):
    first, second = ready(server, 1), ready(server, 2)
    assert {parent_of(first.pid), parent_of(second.pid)} == {parent_of(first.pid)} != {os.getpid()}
    first.kill()
    assert first.events.read() == ""
    assert first.wait() == -signal.SIGKILL
    third = ready(server, 3)
    assert processor_seconds(third.pid) < 2.0  # imports would take five
    for child in (second, third):
        child.commands.close()  # a worker whose sweep has gone goes, too
        assert child.events.read() == ""
        assert child.wait() == 0


def test_workers_outlive_what_forked_them_and_a_lost_request_says_so(server):
    worker = ready(server, 1)
    os.kill(parent_of(worker.pid), signal.SIGKILL)
    assert waited(lambda: not server.alive)
    worker.commands.write('{"do": "check", "configs": {}}\n')
    worker.commands.flush()
    assert worker.events.readline() == '{"event": "checked", "errors": {}, "work": {}}\n'
    late = server.fork(2, {})
    assert late.events.read() == ""
    assert late.wait() == -signal.SIGKILL  # what became of the server
    worker.kill()
    assert worker.events.read() == ""
    assert worker.wait() is None  # nobody can tell


def test_a_sweep_goes_on_when_what_forks_its_workers_is_killed(faulty):
    slow = [*faulty("slow"), "seed=0,1", "sweep.workers=1"]
    command = [sys.executable, "train.py", "-m", *slow]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    folder = Path(slow[7].partition("=")[2]) / "mnist"
    assert waited(lambda: bool(list(folder.glob("*/last.ckpt"))))
    below = descendants(child.pid)
    os.kill(next(pid for pid in below if parent_of(pid) == child.pid), signal.SIGKILL)
    shown, _ = child.communicate(timeout=120)
    assert child.returncode == 0, shown
    assert [atomic.read_json(path)["status"] for path in folder.glob("*/result.json")] == ["finished"] * 2


@pytest.mark.parametrize("threads", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_forked_and_new_processes_train_the_same(base, monkeypatch, tmp_path, threads):
    histories = []
    for way in ("forked", "new"):
        monkeypatch.setattr(forkserver, "available", lambda way=way: way == "forked")
        plan, outcome = sweep([*base[:-1], f"sweep.dir={tmp_path / way}", f"sweep.threads={threads}"])
        assert not outcome.failures
        directory = plan.runs[0].directory
        assert atomic.read_json(directory / files.RESULT)["device"]["threads"] == threads
        rows = files.read_history(directory / files.HISTORY)
        histories.append(untimed(rows))
    assert len(histories[0]) == 2
    assert histories[0] == histories[1]


# Python runs these at its start, in the forking process: it has a second thread from then on, or a GPU's file open.
UNCLEAN = {
    "thread": "import threading, time; threading.Thread(target=time.sleep, args=(600,), daemon=True).start()",
    "GPU": "import os; link = os.readlink;"
    " os.readlink = lambda path: '/dev/nvidia0' if str(path).startswith('/proc/self/fd') else link(path)",
}


@pytest.mark.parametrize("what", UNCLEAN)
def test_no_worker_is_forked_beside_a_thread_or_a_gpu_in_use(monkeypatch, tmp_path, what):
    (tmp_path / "sitecustomize.py").write_text(
        f"import sys\nif 'retable.sweeps.forkserver' in sys.orig_argv:\n    {UNCLEAN[what]}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    server = ForkServer()
    try:
        worker = ready(server, 1)
        assert "retable.sweeps.worker" in Path(f"/proc/{worker.pid}/cmdline").read_text()
        worker.kill()
    finally:
        server.close()


def test_a_gpu_in_use_is_seen(monkeypatch, tmp_path):
    (tmp_path / "0").symlink_to("/dev/null")
    assert not forkserver._has_used_a_gpu(tmp_path)
    (tmp_path / "1").symlink_to("/dev/nvidiactl")
    assert forkserver._has_used_a_gpu(tmp_path)
    assert not forkserver._has_used_a_gpu()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    assert forkserver._has_used_a_gpu()


SWEEP = """
import sys
from retable.sweeps import crew
from retable.sweeps.session import sweep

class Forked(crew.WorkerProcess):
    def __init__(self, number, events, gpu, threads, server=None):
        assert server is not None and gpu == "0"
        super().__init__(number, events, gpu, threads, server)

crew.WorkerProcess = Forked
plan, outcome = sweep(sys.argv[1:])
sys.exit(bool(outcome.failures))
"""


def test_workers_of_a_gpu_are_forked(base, tmp_path):
    on_stand_in("-c", SWEEP, *base[:-1], "trainer.device=auto", "sweep.workers=2", "seed=0,1", f"sweep.dir={tmp_path}")
    results = [atomic.read_json(path) for path in tmp_path.glob("*/*/result.json")]
    assert [(result["status"], result["device"]["kind"]) for result in results] == [("finished", "cuda")] * 2
