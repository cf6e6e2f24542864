"""What an engine runs in an allocation: some runs of a sweep, trained there by the ordinary workers.

job.json in a run's directory says which job is to train it. It is written before the job is submitted, with a token
that the job carries: a job leaves runs alone that have been given to another one, or to none, since.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from retable import atomic
from retable.run import devices, files
from retable.run.result import write_failure
from retable.sweeps.display import Display
from retable.sweeps.plan import Run
from retable.sweeps.pool import Pool
from retable.sweeps.store import status_of

STOPPING = {signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2}
_NEARLY_OVER = {signal.SIGUSR1, signal.SIGUSR2}  # sent some time before a job's time is up
_GOES_ON = ("RUNNING", "CONFIGURING", "SUSPENDED")


def mark(directory: Path) -> int | None:
    """What changes when a run gets on: when its checkpoint was written."""
    return _changed(directory / files.CHECKPOINT)


class Job:
    """A callable that engines can pickle.

    Args:
        directories: of the runs.
        settings: conf/base.yaml's `sweep`.
        token: stands in job.json of the runs that are this job's.
        engine: its name in reasons, e.g. SLURM.
    """

    def __init__(self, directories: Sequence[str], settings: dict[str, Any], token: str, engine: str) -> None:
        self.directories, self.settings, self.token, self.engine = list(directories), dict(settings), token, engine

    def __call__(self, name: str | None = None) -> None:
        """Train the runs; on a signal, end them at their checkpoints and ask the engine to start the job again.

        Args:
            name: the engine's name of the job; SLURM tells it by its variables.
        """
        name = name or job_name()
        runs = [run for run in map(_run, map(Path, self.directories)) if self._is_mine(run.directory, name)]
        begun = {run.directory: (mark(run.directory), _changed(run.directory / files.LOG)) for run in runs}
        settings = self.settings | {"budget": None, "workers": _workers(self.settings, runs)}
        use_gpu = any(run.config["trainer"]["device"] != "cpu" for run in runs)
        if not runs:
            return
        with Display(runs, len(runs)) as display, _listening() as heard:
            pool = Pool(runs, settings, display, use_gpu)
            heard.tell(pool.stop)
            pool.train()
        left = [run for run in runs if status_of(run.directory) not in files.ENDED]
        if heard.signal is None or not left:
            return
        got_on = len(left) < len(runs) or any(mark(run.directory) != begun[run.directory][0] for run in left)
        if heard.signal in _NEARLY_OVER and not got_on:
            for run in left:  # it would be the same again
                if _changed(run.directory / files.LOG) != begun[run.directory][1]:
                    write_failure(run.directory, f"{self.engine}: TIMEOUT, and no epoch was finished", run.config)
        else:
            _requeue(name)

    def _is_mine(self, directory: Path, name: str | None) -> bool:
        record = atomic.read_json(directory / files.JOB) or {}
        if record.get("token") != self.token:
            print(f"{directory}: is no longer this job's", flush=True)
            return False
        if record.get("job") != name:  # whoever submitted it did not live to note it
            atomic.write_json(directory / files.JOB, record | {"job": name})
        return True


def job_name() -> str | None:
    """SLURM's name of the job that this process is part of: 12, or 12_3 in an array."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def _run(directory: Path) -> Run:
    run = files.read_run(directory)
    return Run(directory.name, directory, run["config"], run.get("overrides", []), {}, status_of(directory))


def _changed(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def _workers(settings: dict[str, Any], runs: Sequence[Run]) -> Any:
    """`auto` is at most what was asked for: not every cluster binds a job to its cores."""
    asked = os.environ.get("SLURM_CPUS_PER_TASK", "")
    if settings["workers"] != "auto" or not asked.isdecimal() or devices.gpus():
        return settings["workers"]
    each = settings["threads"] * max((run.processes for run in runs), default=1)
    return max(1, min(int(asked), devices.cores()) // each)


class _Heard:
    """The signal that came, if one did; `tell` says what it is to do."""

    signal: int | None = None

    def __init__(self) -> None:
        self._calls: list[Any] = []

    def tell(self, call: Any) -> None:
        self._calls.append(call)
        if self.signal is not None:
            call()

    def hear(self, number: int) -> None:
        if self.signal is None:  # a second one is no wish to kill: engines send several
            self.signal = number
            print(f"{signal.Signals(number).name}: runs stop and keep the checkpoint of their last epoch", flush=True)
            for call in self._calls:
                call()


@contextlib.contextmanager
def _listening() -> Iterator[_Heard]:
    """Hear the signals that ask for an end. Engines send them to all processes of a job: those that are started
    meanwhile inherit that they are blocked, so that workers end when they are asked to, at a checkpoint."""
    heard = _Heard()
    if threading.current_thread() is not threading.main_thread():  # an engine's own thread, which handles signals
        yield heard
        return
    # A thread that numpy has started before does not block them, so that there are handlers, too.
    handlers = {number: signal.signal(number, lambda n, frame: heard.hear(n)) for number in STOPPING}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    over = threading.Event()

    def listen() -> None:
        while not over.is_set():
            found = signal.sigtimedwait(STOPPING, 0.2)
            if found is not None:
                heard.hear(found.si_signo)

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield heard
    finally:
        over.set()
        thread.join()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _requeue(name: str | None) -> None:
    """Have SLURM start this job again where it goes on as far as SLURM knows: pre-empted, or its time nearly up."""
    if name is None or shutil.which("scontrol") is None:
        return
    ask = ["squeue", "--noheader", "--format=%T", "--jobs", name]
    try:
        state = subprocess.run(ask, capture_output=True, text=True, timeout=60).stdout.strip()
        if state in _GOES_ON:
            print(f"asks SLURM to start job {name} again", flush=True)
            subprocess.run(["scontrol", "requeue", name], timeout=60, check=True)
            time.sleep(60)  # SLURM ends this process; ending first would make it a job that is done
    except (OSError, subprocess.SubprocessError) as error:
        print(f"the job could not be started again: {error}", flush=True)
