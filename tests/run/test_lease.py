"""Who trains a run: one process, on whichever host; a dead one's runs are taken over, whatever the clocks say."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from retable.run import files, lease
from retable.sweeps.plan import make_plan
from retable.sweeps.session import prepare
from retable.sweeps.store import status_of

ROOT = Path(__file__).parents[2]
LONG_AGO = 1_000_000_000


@pytest.fixture
def on(monkeypatch):
    """Puts this process on a host by name."""
    return lambda name: monkeypatch.setenv("RETABLE_HOST", name)


@pytest.fixture
def short(monkeypatch):
    """Leases of 0.3 s; sleeping for one and a bit."""
    monkeypatch.setattr(lease, "LEASE", 0.3)
    return lambda: time.sleep(0.5)


def left_by(directory: Path, host: str, number: int = 0) -> Path:
    """A lease whose holder has died."""
    path = directory / f".lease-{number}"
    path.write_text(json.dumps({"host": host, "pid": 1, "owner": "x", "beat": 3}))
    return path


def test_one_has_it_at_a_time(tmp_path):
    with lease.held(tmp_path, True) as first:
        assert first.holds
        with pytest.raises(lease.Taken):
            lease.Lease(tmp_path, False)
    with lease.held(tmp_path, True) as second:
        assert second.holds
        assert not first.holds
    assert [path.name for path in files.leases(tmp_path)] == [".lease-1"]


def test_a_dead_process_of_this_host_is_known_by_the_kernels_lock(tmp_path):
    left_by(tmp_path, lease.host())
    assert status_of(tmp_path) == "running"  # no lock file: it may be on a file system without locks
    (tmp_path / files.LOCK).touch()
    assert status_of(tmp_path) == "new"
    with lease.lock(tmp_path) as locked, lease.held(tmp_path, locked) as held:
        assert locked
        assert held.holds


@pytest.mark.parametrize("clock", [LONG_AGO, 4_000_000_000])
def test_another_hosts_run_is_taken_over_when_its_heartbeat_has_been_seen_to_stand_still(tmp_path, on, short, clock):
    on("here")
    os.utime(left_by(tmp_path, "there"), (clock, clock))  # a clock that is years off
    assert status_of(tmp_path) == "running"
    short()
    assert status_of(tmp_path) == "new"
    with lease.held(tmp_path, False) as held:
        assert held.holds


def test_a_heartbeat_keeps_a_lease(tmp_path, on, short):
    on("there")
    with lease.held(tmp_path, False):
        on("here")
        for _ in range(4):
            assert lease.is_taken(tmp_path)
            short()
        assert lease.is_taken(tmp_path)
    assert not lease.is_taken(tmp_path)


def test_who_has_watched_a_lease_end_tells_all(tmp_path, on, short):
    on("here")
    left_by(tmp_path, "there")
    lease.expire(tmp_path)
    assert lease.is_taken(tmp_path)
    short()
    lease.expire(tmp_path)
    lease._seen.clear()  # as in a worker, which has watched nothing
    with lease.held(tmp_path, False) as held:
        assert held.holds


def test_a_holder_that_was_taken_for_dead_knows_when_it_wakes_up(tmp_path, on, short, monkeypatch):
    on("there")
    monkeypatch.setattr(lease, "_BEATS", 1e-9)  # no heartbeat comes
    sleeper = lease.Lease(tmp_path, False)
    on("here")
    assert lease.is_taken(tmp_path)
    short()
    with lease.held(tmp_path, False) as taker:
        assert not sleeper.holds
        sleeper.give_back()
        assert taker.holds
        assert lease.is_taken(tmp_path)


def test_who_looked_before_others_had_come_and_gone_gets_nothing(tmp_path, monkeypatch):
    left_by(tmp_path, lease.host(), 7)
    looks = iter([(4, None), (7, {})])
    monkeypatch.setattr(lease, "_latest", lambda directory: next(looks))
    with pytest.raises(lease.Taken):
        lease.Lease(tmp_path, True)
    assert [path.name for path in files.leases(tmp_path)] == [".lease-7"]


def test_a_lease_that_says_nothing_is_waited_for(tmp_path, short):
    """A loss of power leaves an empty file where one was written and not yet on the disk."""
    (tmp_path / ".lease-0").touch()
    begin = time.monotonic()
    assert lease.is_taken(tmp_path)
    while lease.is_taken(tmp_path):
        assert time.monotonic() < begin + 20 * lease.LEASE
        time.sleep(lease.LEASE / 10)
    with lease.lock(tmp_path) as locked, lease.held(tmp_path, locked) as held:
        assert held.holds
    assert time.monotonic() > begin + lease.LEASE


def test_a_run_of_which_a_loss_of_power_has_left_the_lease_alone_is_planned(tmp_path, short):
    arguments = ["task=mnist", "data=sample", "logger=none", "trainer.device=cpu", f"sweep.dir={tmp_path}"]
    (run,) = make_plan(arguments).runs
    run.directory.mkdir(parents=True)
    (run.directory / ".lease-0").touch()
    plan = make_plan(arguments)
    assert plan.runs[0].status == "running"
    prepare(plan, plan.pending)
    assert files.read_run(run.directory)["config"]["seed"] == 0


def test_without_hard_links_a_lease_is_a_lease(tmp_path, monkeypatch):
    def refuse(*args):
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    with lease.held(tmp_path, True) as held:
        assert held.holds
        assert not lease._create(tmp_path, 0, {})


RACE = """
import sys, time
from pathlib import Path
from retable.run import lease
root, start = Path(sys.argv[1]), float(sys.argv[2])
lease.LEASE = 1.0
folders = sorted(root.iterdir())
assert all(lease.is_taken(folder) for folder in folders)   # watched from now on
time.sleep(max(1.5, start - time.time()))
won = []
for folder in folders:
    try:
        won.append((folder.name, lease.Lease(folder, False)))
    except lease.Taken:
        pass
print(*[name for name, held in won if held.holds])
"""


def test_hosts_that_race_for_the_same_dead_hosts_runs_200_times(tmp_path):
    for number in range(200):
        (tmp_path / f"{number:03}").mkdir()
        left_by(tmp_path / f"{number:03}", "dead", number % 3)
    start = str(time.time() + 4)
    paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(tmp_path), start],
            env=os.environ | paths | {"RETABLE_HOST": name},
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two", "three")
    ]
    won = [racer.communicate(timeout=60)[0].split() for racer in racers]
    assert sorted(name for names in won for name in names) == [f"{number:03}" for number in range(200)]


SMALL = ("task=mnist", "data=sample", "data.fraction=0.1", "trainer.device=cpu", "logger=none", "sweep.workers=1")


def sweep_on(host: str, folder: Path, *words: str) -> subprocess.Popen:
    paths = {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    return subprocess.Popen(
        [sys.executable, "-m", "retable.cli", "sweep", *SMALL, *words, f"sweep.dir={folder}"],
        env=os.environ | paths | {"RETABLE_HOST": host, "RETABLE_LEASE": "8"},
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


HOST = """
import os, sys, time
from pathlib import Path
from retable import atomic
from retable.run import execute, files
from retable.sweeps import finish, session
from retable.sweeps.pool import Outcome

def trains(config, directory, on_epoch, on_chunk, should_interrupt, company):
    should_interrupt()
    with open(os.environ["TRAINED"], "a") as file:
        file.write(f"{directory.name}\\n")
    files.write_history(directory / files.HISTORY, [{"epoch": 1, "val/accuracy": 0.5}])
    result = {"status": "finished", "epochs": 1, "metrics": {"final": {"val/accuracy": 0.5}}, "seconds": {"total": 0.0}}
    atomic.write_json(directory / files.RESULT, result)
    return result

def race(plan, todo):
    session.prepare(plan, todo)
    Path(os.environ["TRAINED"] + os.environ["RETABLE_HOST"]).touch()
    while len(list(Path(os.environ["TRAINED"]).parent.glob("trained?*"))) < 2:
        time.sleep(0.001)
    while todo:
        for run in list(todo):
            try:
                execute.execute(run.config, run.directory)
                todo.remove(run)
            except execute.Busy:
                pass
    return Outcome()

execute._execute = trains
plan, outcome = session.sweep(sys.argv[1:], race)
sys.exit(finish.exit_code(plan, outcome))
"""


@pytest.mark.slow
def test_two_hosts_sweeps_race_for_the_same_runs_200_times(tmp_path):
    """Each host sees the folder at a place of its own. All is as in a sweep, but that a run takes no time to train."""
    (tmp_path / "shared").mkdir()
    paths = {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "TRAINED": str(tmp_path / "trained")}
    racers = []
    for host in ("one", "two"):
        (tmp_path / host).mkdir()
        (tmp_path / host / "multirun").symlink_to(tmp_path / "shared")
        words = [*SMALL, "seeds=200", f"sweep.dir={tmp_path / host / 'multirun'}"]
        env = os.environ | paths | {"RETABLE_HOST": host}
        command = [sys.executable, "-c", HOST, *words]
        racers.append(subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
    shown = [racer.communicate(timeout=300)[0] for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0], shown
    trained = (tmp_path / "trained").read_text().split()
    assert sorted(trained) == sorted(path.name for path in (tmp_path / "shared" / "mnist").iterdir() if path.is_dir())
    assert len(trained) == 200


@pytest.mark.slow
def test_two_hosts_sweeps_train_each_run_once(tmp_path):
    words = ("model.width=4", "trainer.max_epochs=2", "seed=0,1,2,3")
    sweeps = [sweep_on(host, tmp_path, *words) for host in ("one", "two")]
    assert [sweep.wait(300) for sweep in sweeps] == [0, 0]
    logs = [path.read_text() for path in tmp_path.glob("mnist/*/log.txt")]
    assert [log.count("steps: ") for log in logs] == [1, 1, 1, 1]


@pytest.mark.slow
def test_a_dead_hosts_run_goes_on_elsewhere_from_its_checkpoint(tmp_path):
    words = ("model._target_=tests.sweep.faults.Faulty", "+model.fault=slow", "trainer.max_epochs=6")
    first = sweep_on("one", tmp_path, *words)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("mnist/*/last.ckpt")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    listed = subprocess.run(["ps", "-e", "-o", "pid=,args="], capture_output=True, text=True).stdout
    workers = [int(line.split()[0]) for line in listed.splitlines() if "retable.sweeps.forkserver" in line]
    mine = [pid for pid in workers if "RETABLE_HOST=one" in Path(f"/proc/{pid}/environ").read_text(errors="replace")]
    first.kill()
    for pid in mine:
        os.kill(pid, signal.SIGKILL)
    (run,) = (path.parent for path in tmp_path.glob("mnist/*/run.json"))
    assert sweep_on("two", tmp_path, *words).wait(300) == 0
    assert [line.partition(",")[0] for line in (run / files.HISTORY).read_text().splitlines()[1:]] == list("123456")
    assert (run / files.LOG).read_text().count("steps: ") == 2


def test_a_plan_leaves_another_hosts_run_alone(tmp_path, on):
    words = [*SMALL, "model.width=4", f"sweep.dir={tmp_path}"]
    plan = make_plan(words)
    prepare(plan, plan.runs)
    left_by(plan.runs[0].directory, "there")
    on("here")
    assert [run.status for run in make_plan(words).runs] == ["running"]
