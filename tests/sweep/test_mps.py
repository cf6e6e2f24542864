"""A sweep's MPS daemon, with a program of its name that behaves as it does: started, stopped, refused, orphaned."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from retable.run.devices import Gpu
from retable.sweeps import mps, session

GPUS = (Gpu("0", 80_000, 80_000, 9.0),)
SETTINGS = {"workers": "auto", "mps": "auto"}
# In the foreground (-f) it serves until it is told to quit; otherwise it hands on a command from standard input.
DAEMON = """#!/bin/sh
here=$CUDA_MPS_PIPE_DIRECTORY
if [ "$1" = -f ]; then
  echo "$FAKE_MODE $here ${CUDA_VISIBLE_DEVICES-all}" >> "$FAKE_LOG"
  if [ "$FAKE_MODE" = refused ]; then echo; echo "Insufficient permissions"; exit 1; fi
  sleep 600 & echo $$ $! > "$FAKE_LOG.pids"
  touch "$here/control"
  while [ "$FAKE_MODE" = stubborn ] || [ ! -e "$here/quit" ]; do sleep 0.05; done
  kill $!
  exit 0
fi
read command rest
echo "$command $rest" >> "$FAKE_LOG.commands"
[ -e "$here/control" ] || exit 1
[ "$command" != quit ] || touch "$here/quit"
"""


@pytest.fixture
def daemon(monkeypatch, tmp_path):
    """A daemon on PATH; the file that it notes its starts in."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / mps.PROGRAM).write_text(DAEMON)
    (folder / mps.PROGRAM).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("FAKE_MODE", "ordinary")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.delenv("CUDA_MPS_PIPE_DIRECTORY", raising=False)
    monkeypatch.setattr(mps, "_ANYBODYS", tmp_path / "nobody")
    return tmp_path / "log"


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def pids(log: Path) -> list[int]:
    return [int(word) for word in log.with_name("log.pids").read_text().split()]


def test_it_serves_a_sweep_and_is_stopped_after_it(daemon, capfd):
    with mps.serving(SETTINGS, GPUS):
        folder = Path(os.environ["CUDA_MPS_PIPE_DIRECTORY"])
        assert os.environ["CUDA_MPS_LOG_DIRECTORY"] == str(folder)
        assert (folder / "control").exists()
        assert all(map(lives, pids(daemon)))
        assert daemon.read_text() == f"ordinary {folder} all\n"  # CUDA_VISIBLE_DEVICES is the workers'
    assert capfd.readouterr().out == "MPS: serves this sweep\n"
    assert daemon.with_name("log.commands").read_text().splitlines()[-1] == "quit -t 10"
    assert not any(map(lives, pids(daemon)))
    assert not folder.exists()
    assert "CUDA_MPS_PIPE_DIRECTORY" not in os.environ


def test_refused_by_the_machine_the_sweep_goes_on_without(daemon, monkeypatch, capfd):
    monkeypatch.setenv("FAKE_MODE", "refused")
    with mps.serving(SETTINGS, GPUS):
        assert "CUDA_MPS_PIPE_DIRECTORY" not in os.environ
    assert capfd.readouterr().out == "MPS: not started (Insufficient permissions)\n"
    assert not Path(daemon.read_text().split()[1]).exists()


def test_it_is_not_started_where_it_is_of_no_use_or_not_wanted(daemon, monkeypatch, tmp_path):
    assert mps.is_wanted(SETTINGS, GPUS)
    assert not mps.is_wanted(SETTINGS, ())
    assert not mps.is_wanted(SETTINGS | {"workers": 1}, GPUS)
    assert not mps.is_wanted(SETTINGS | {"mps": "never"}, GPUS)
    with monkeypatch.context() as patch:
        patch.setenv("CUDA_MPS_PIPE_DIRECTORY", "/somewhere")  # somebody's daemon
        assert not mps.is_wanted(SETTINGS, GPUS)
    with monkeypatch.context() as patch:
        patch.setattr(mps, "_ANYBODYS", daemon.parent)
        assert not mps.is_wanted(SETTINGS, GPUS)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        assert not mps.is_wanted(SETTINGS, GPUS)
        with mps.serving(SETTINGS, GPUS):
            pass
    assert not daemon.exists()


def test_one_that_does_not_quit_is_ended_with_what_it_has_started(daemon, monkeypatch, tmp_path):
    monkeypatch.setenv("FAKE_MODE", "stubborn")
    code = "from retable.sweeps import mps; mps.PATIENCE = 3; mps.main()"
    folder = tmp_path / "f"
    folder.mkdir()
    paths = os.pathsep.join(path for path in sys.path if path)
    guard = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
    )
    assert guard.stdout.readline() == "ready\n"
    guard.communicate(timeout=60)
    assert not any(map(lives, pids(daemon)))
    assert not folder.exists()


def test_a_sweep_that_is_killed_leaves_no_daemon(daemon):
    code = f"""
import os, signal, sys
from retable.run.devices import Gpu
from retable.sweeps import mps
mps._ANYBODYS = mps.Path("/nowhere")
with mps.serving({SETTINGS!r}, (Gpu("0", 1, 1, 9.0),)):
    os.killpg(os.getpgrp(), signal.SIGKILL)
"""
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = os.environ | {"PYTHONPATH": paths}
    done = subprocess.run([sys.executable, "-c", code], env=environment, start_new_session=True, timeout=60)
    assert done.returncode == -signal.SIGKILL
    folder, deadline = Path(daemon.read_text().split()[1]), time.monotonic() + 60
    while (folder.exists() or any(map(lives, pids(daemon)))) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not folder.exists()
    assert not any(map(lives, pids(daemon)))


def test_a_sweep_s_workers_are_served(daemon, monkeypatch, tmp_path):
    from retable.sweeps.plan import make_plan

    seen: list[str | None] = []

    class Pool:
        asked_to_stop = False

        def __init__(self, *given):
            pass

        def check(self, configs):
            return {}

        def longest_first(self, work):
            pass

        def close(self):
            pass

        def train(self):
            seen.append(os.environ.get("CUDA_MPS_PIPE_DIRECTORY"))

    monkeypatch.setattr(session, "Pool", Pool)
    monkeypatch.setattr(session.devices, "gpus", lambda: GPUS)
    plan = make_plan(["task=mnist", "data=sample", "seed=0,1", f"sweep.dir={tmp_path / 'sweep'}"])
    session.train_in_workers(plan, plan.pending)
    plan = make_plan(["task=mnist", "data=sample", "seed=0,1", f"sweep.dir={tmp_path / 'sweep'}", "sweep.mps=never"])
    session.train_in_workers(plan, plan.pending)
    assert seen == [daemon.read_text().split()[1], None]
    assert not Path(seen[0]).exists()
