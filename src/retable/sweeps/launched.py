"""Runs given to a launcher of Hydra's own (basic, joblib, submitit): what becomes of them stands in their directories.

Such a launcher starts jobs and gives back what they returned. One whose process dies takes the launch down, with joblib
the other jobs, too; who is to blame is found by trying those that had begun one by one, the others together again.
"""

import contextlib
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from retable.errors import ConfigError
from retable.run import files, lease
from retable.run.result import describe, write_failure
from retable.run.single import Stopped
from retable.sweeps.plan import Plan, Run
from retable.sweeps.pool import Outcome, StopRules
from retable.sweeps.session import check_in_worker, handling, prepare
from retable.sweeps.store import status_of

_AGAIN = 60.0  # seconds after which jobs that have not stopped are told again: as they start they may not listen
_LOOK = 0.5  # seconds between two looks at runs whose jobs go on by themselves


def train(launcher: Any, plan: Plan, todo: list[Run]) -> Outcome:
    """Train the pending runs by another launcher.

    Raises:
        ConfigError: for a config that is refused, and for sweep.on_failure=stop where all runs start at once.
    """
    from hydra._internal.core_plugins.basic_launcher import BasicLauncher

    one_by_one = isinstance(launcher, BasicLauncher)
    if plan.settings["on_failure"] == "stop" and not one_by_one:
        raise ConfigError("sweep.on_failure=stop: this launcher starts all runs at once; accepted: continue")
    check_in_worker(plan, todo)
    prepare(plan, todo)
    return _Launched(launcher, plan, [[run] for run in todo] if one_by_one else [todo]).train()


class _Launched:
    def __init__(self, launcher: Any, plan: Plan, batches: Sequence[list[Run]]) -> None:
        self.launcher, self.folder = launcher, Path(plan.settings["dir"])
        self.batches = deque(batches)
        self.outcome = Outcome()
        self.rules = StopRules(plan.settings, self.outcome)
        self.taken = {run.directory: lease.times_taken(run.directory) for batch in batches for run in batch}
        self.launched = 0

    def train(self) -> Outcome:
        signals = _Signals()
        try:
            with handling(dict.fromkeys((signal.SIGTERM, signal.SIGUSR1), signals.stop)):
                while self.batches and not self.outcome.stopped_by and not signals.asked:
                    self._try(self.batches.popleft(), signals)
                self.outcome.interrupted = signals.asked
        except KeyboardInterrupt:
            self.outcome.interrupted = True
        finally:
            signals.over.set()
        return self.outcome

    def _try(self, batch: list[Run], signals: "_Signals") -> None:
        try:
            returns = [job._return_value for job in self._launch(batch)]
        except Exception as error:
            self._wait(batch)
            if not signals.asked:
                self._find_out(batch, error)
            return
        signals.asked |= any(isinstance(value, Stopped) for value in returns)
        if not signals.asked:
            for run, value in zip(batch, returns, strict=False):
                self._note(run, value)

    def _launch(self, batch: list[Run]) -> Sequence[Any]:
        folders = [run.directory.relative_to(self.folder) for run in batch]
        jobs = [[*run.overrides, f"hydra.sweep.subdir='{folder}'"] for run, folder in zip(batch, folders, strict=True)]
        begin, self.launched = self.launched, self.launched + len(batch)
        return self.launcher.launch(jobs, initial_job_idx=begin)

    def _note(self, run: Run, value: Any) -> None:
        """Note what became of a run, whose job has returned this value or exception."""
        self._wait([run])  # another sweep may train it, or a job of a launch that broke down
        status = status_of(run.directory)
        recorded = (files.read_result(run.directory) or {}).get("reason")
        left = describe(value) if isinstance(value, BaseException) else "no result"
        self.rules.note(run, status if status in files.DONE else files.FAILED, recorded or left)

    def _find_out(self, batch: list[Run], error: Exception) -> None:
        """A launch broke down: note what has ended all the same, and what to try again."""
        reason = f"the launcher failed: {describe(error)}"
        left = [run for run in batch if status_of(run.directory) not in files.ENDED]
        for run in batch:
            if run not in left:
                self._note(run, None)
        begun = [run for run in left if self._has_begun(run)]
        if len(batch) == 1 and begun:
            (run,) = begun
            write_failure(run.directory, reason, run.config)
            with contextlib.suppress(OSError), (run.directory / files.LOG).open("a", encoding="utf-8") as log:
                log.write(f"{reason}\n{error}\n")
            self.rules.note(run, files.FAILED, reason)
        elif left and not begun:
            self.outcome.stopped_by = reason
        else:
            self.taken |= {run.directory: lease.times_taken(run.directory) for run in begun}
            rest = [run for run in left if run not in begun]
            self.batches.extendleft([[run] for run in reversed(begun)])
            self.batches.extendleft([rest] if rest else [])

    def _has_begun(self, run: Run) -> bool:
        """Whether a job has taken the run since it was last launched."""
        return lease.times_taken(run.directory) != self.taken[run.directory]

    def _wait(self, runs: Sequence[Run]) -> None:
        while any(status_of(run.directory) == files.RUNNING for run in runs):
            time.sleep(_LOOK)


class _Signals:
    """Passes SIGTERM, and SLURM's SIGUSR1, on to what the launcher has started, and lets that end; a second one leaves
    at once. Ctrl-C of a terminal reaches all of them by itself. over: set once nothing is left to be told."""

    def __init__(self) -> None:
        self.asked = False
        self._others = set(_children())
        self.over = threading.Event()

    def stop(self, number: int, frame: FrameType | None) -> None:
        started = set(_children()) - self._others
        if self.asked or not started:
            _tell(started)
            raise KeyboardInterrupt
        self.asked = True
        threading.Thread(target=self._keep_telling, daemon=True).start()
        print("\nStopping: runs keep the checkpoint of their last epoch. Once more: stop at once.", flush=True)

    def _keep_telling(self) -> None:
        while True:
            _tell(set(_children()) - self._others)
            if self.over.wait(_AGAIN):
                return


def _tell(processes: set[int]) -> None:
    for process in processes:
        with contextlib.suppress(OSError):
            os.kill(process, signal.SIGTERM)


def _children() -> Iterator[int]:
    """This process's children that live and do not ignore SIGTERM; none where there is no /proc."""
    for path in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            said = dict(line.split(":\t", 1) for line in path.read_text().splitlines() if ":\t" in line)
            ignores = int(said["SigIgn"], 16) >> (signal.SIGTERM - 1) & 1
            if int(said["PPid"]) == os.getpid() and not said["State"].startswith(("Z", "X")) and not ignores:
                yield int(path.parent.name)
