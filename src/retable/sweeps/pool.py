"""Workers take one run after another, a dead worker is replaced, and every failure is known by its reason."""

import itertools
import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from retable.checks import seconds
from retable.errors import ConfigError, RetableError
from retable.run import files, lease
from retable.sweeps import fuse, store
from retable.sweeps.crew import Crew
from retable.sweeps.plan import Run
from retable.sweeps.processes import DIED, WorkerProcess

_POLL = 0.1  # seconds between two looks at the clock, the signals and runs that another sweep trains
_WORKERS_THAT_NEVER_START = 3
_SILENCE = 600  # seconds after which a run without progress is reported
_TAKE_OVER_AFTER = 2.0  # seconds that another sweep's run must be unlocked without a result


class Watcher(Protocol):
    """Is given what happens, and draws it (retable.sweeps.display)."""

    def started(self, run: Run, worker: int) -> None: ...
    def progress(self, run: Run, worker: int, event: dict[str, Any]) -> None: ...
    def ended(self, run: Run, worker: int, status: str, reason: str | None) -> None: ...
    def silent(self, run: Run, seconds: float, stopped: bool) -> None: ...
    def tick(self) -> None: ...


@dataclass
class Outcome:
    """What became of a pool's runs.

    Attributes:
        failures: (run, reason) of those that failed now.
        interrupted: whether runs are left because somebody asked to stop.
        stopped_by: why the sweep stopped by itself, or None.
        unwritten: why tables could not be written at its end.
        submitted: runs that jobs of an engine are to train after this process has gone.
    """

    failures: list[tuple[Run, str]] = field(default_factory=list)
    interrupted: bool = False
    stopped_by: str | None = None
    unwritten: list[str] = field(default_factory=list)
    submitted: list[Run] = field(default_factory=list)


class StopRules:
    """Notes failures in an outcome, and stops the sweep by `sweep.on_failure` and `sweep.same_reason_limit`.

    Args:
        settings: conf/base.yaml's `sweep`.
        outcome: where failures go, and why the sweep stopped.
    """

    def __init__(self, settings: dict[str, Any], outcome: Outcome) -> None:
        self._settings, self._outcome = settings, outcome
        self._in_a_row: list[str] = []  # reasons of the last failures, all the same

    def note(self, run: Run, status: str, reason: str | None) -> None:
        """A run has ended: as it should, or it failed."""
        if status != files.FAILED:
            self._in_a_row = []
            return
        reason = reason or "unknown"
        self._outcome.failures.append((run, reason))
        self._in_a_row = [*self._in_a_row, reason] if self._in_a_row[-1:] in ([], [reason]) else [reason]
        limit = self._settings["same_reason_limit"]
        if self._settings["on_failure"] == "stop":
            self._outcome.stopped_by = "sweep.on_failure=stop"
        elif limit and len(self._in_a_row) >= limit:
            self._outcome.stopped_by = f"{limit} failures in a row for one reason (sweep.same_reason_limit={limit})"


def refuse(errors: dict[str, str]) -> None:
    """Raise ConfigError, a line each, for the faults that a check has found."""
    if errors:
        raise ConfigError(*dict.fromkeys(errors.values()))


class Pool:
    """Trains pending runs in worker processes.

    Args:
        runs: those to train, in order.
        settings: conf/base.yaml's `sweep`.
        watcher: is given every event.
        use_gpu: whether runs may use the GPUs.
    """

    def __init__(self, runs: Sequence[Run], settings: dict[str, Any], watcher: Watcher, use_gpu: bool = True) -> None:
        self.watcher = watcher
        self.alone: deque[Run] = deque()  # died of memory once: tried again with no other run beside it
        self.elsewhere: list[Run] = []  # another sweep trains these now
        self.outcome = Outcome()
        ordered = sorted(runs, key=lambda run: run.processes)
        self.crew = Crew(settings, use_gpu, ordered[0].processes if ordered else 1)
        self.waiting = deque(fuse.groups(ordered, settings, len(self.crew.gpus)))  # each for one worker
        self._rules = StopRules(settings, self.outcome)
        self._retried: set[Path] = set()
        self._free_since: dict[Path, float] = {}
        self._stopped_runs: list[Run] = []
        self._asked_to_stop = self._stillborn = 0
        self._timeout, self._stalled, self._budget = (
            math.inf if settings.get(key) is None else seconds(f"sweep.{key}", settings[key])
            for key in ("timeout", "stalled", "budget")
        )
        self._begin = time.monotonic()

    def stop(self) -> None:
        """Ask to stop: running runs end at their next chunk and keep their checkpoint. A second call kills them."""
        self._asked_to_stop += 1
        if self._asked_to_stop > 1:
            self.crew.kill()

    def check(self, configs: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """Build every config once in a worker, without training.

        Returns:
            The work of each, as far as it is known (retable.run.assemble.check).

        Raises:
            ConfigError: the faults, a line each.
        """
        self.crew.grow(max(1, len(self.waiting)))  # the others start while the first one checks
        checker = self.crew.workers[0]
        checker.send(do="check", configs=configs)
        while True:
            worker, event = self.crew.next_event(_POLL)
            if self._asked_to_stop:
                return {}
            if event is None:
                continue
            if event["event"] == "ready":
                worker.ready = True
            if event["event"] == DIED:
                self.crew.workers.remove(worker)
                if worker is checker and not worker.ready:
                    raise RetableError(f"the first worker did not start: {event['reason']}")
                if worker is checker:
                    return {}  # a config crashed it: its run will tell
            if event["event"] == "checked":
                refuse(event["errors"])
                return event["work"]

    def longest_first(self, work: dict[Path, dict[str, float] | None]) -> None:
        """Put the runs in order, so that no long one is left when all others are done.

        Args:
            work: of runs by directory, see `check`. Those that it says nothing of go first: they were begun before.
        """
        kind = "cuda" if self.crew.gpus else "cpu"

        def length(group: list[Run]) -> float:
            return max((work.get(run.directory) or {kind: math.inf})[kind] for run in group)

        # Runs of one width stand together: workers of another one are others.
        self.waiting = deque(sorted(self.waiting, key=lambda group: (group[0].processes, -length(group))))

    def train(self) -> Outcome:
        """Train everything; returns when nothing is left, or after a stop."""
        try:
            while not self._finished():
                self._assign()
                worker, event = self.crew.next_event(_POLL)
                if event is not None:
                    self._handle(worker, event)
                self._look_at_the_clock()
                self.watcher.tick()
        finally:
            self.close()
        self.outcome.interrupted = bool(self._asked_to_stop) and bool(self._left())
        return self.outcome

    def close(self) -> None:
        """End the workers; those without a run at once."""
        self.crew.close()

    def _left(self) -> list[Run]:
        return [*itertools.chain(*self.waiting), *self.alone, *self.elsewhere, *self._interrupted]

    @property
    def _interrupted(self) -> list[Run]:
        return [run for run in self._stopped_runs if store.status_of(run.directory) not in files.ENDED]

    def _finished(self) -> bool:
        if self._stopping:
            return not self.crew.busy
        return not (self.crew.busy or self.waiting or self.alone or self.elsewhere)

    @property
    def asked_to_stop(self) -> bool:
        """Whether somebody asked to stop."""
        return bool(self._asked_to_stop)

    @property
    def _stopping(self) -> bool:
        return bool(self._asked_to_stop) or self.outcome.stopped_by is not None

    # Giving out runs --------------------------------------------------------------------------------------------------

    def _assign(self) -> None:
        if self._stopping:
            self.crew.ask_to_stop()
            return
        self._look_elsewhere()
        self._fit_width()
        fitting = sum(first.processes == self.crew.width for first, *_ in self.waiting)
        self.crew.grow(fitting + len(self.crew.busy))
        idle = self.crew.idle
        for worker in idle:
            if self.waiting and self.waiting[0][0].processes == self.crew.width:
                self._give(worker, self.waiting.popleft())
        if self.alone and not self.waiting and not self.crew.busy:
            if not self.crew.workers:
                self.crew.start()
            elif idle:
                self.crew.dismiss(worker for worker in self.crew.workers if worker is not idle[0])  # they hold memory
                self._give(idle[0], [self.alone.popleft()])

    def _fit_width(self) -> None:
        """Runs that several processes train have workers of their own, once those with other runs have ended."""
        following = [*(group[0] for group in list(self.waiting)[:1]), *list(self.alone)[:1]]
        if following and following[0].processes != self.crew.width and not self.crew.busy:
            self.crew.dismiss(self.crew.workers)
            self.crew.width = following[0].processes

    def _give(self, worker: WorkerProcess, runs: Sequence[Run]) -> None:
        worker.runs, worker.begun = list(runs), False
        worker.given = worker.last_event = time.monotonic()
        worker.send(do="run", directories=[str(run.directory) for run in runs])

    def _look_elsewhere(self) -> None:
        """Runs that another sweep trained: done by now, or to be taken over if it died."""
        for run in list(self.elsewhere):
            status = store.status_of(run.directory)
            if status == files.RUNNING:
                self._free_since.pop(run.directory, None)
                continue
            # A sweep whose worker crashed needs a moment to say so; one that died itself never will.
            since = self._free_since.setdefault(run.directory, time.monotonic())
            if status not in files.ENDED and time.monotonic() - since < _TAKE_OVER_AFTER:
                continue
            self.elsewhere.remove(run)
            if status in files.ENDED:
                result = files.read_result(run.directory) or {}
                self._note_end(run, -1, status, result.get("reason"))
            else:
                lease.expire(run.directory)
                self.waiting.append([run])

    def _look_at_the_clock(self) -> None:
        now = time.monotonic()
        if now - self._begin > self._budget and self.outcome.stopped_by is None:
            self.outcome.stopped_by = f"sweep.budget={self.crew.settings['budget']} is spent"
        for worker in self.crew.busy:
            silence = now - worker.last_event
            if now - worker.given > self._timeout:
                worker.end(f"took longer than sweep.timeout={self.crew.settings['timeout']}")
            elif silence > self._stalled:
                state = "its process was stopped" if worker.stopped else "no progress"
                worker.end(f"{state} for longer than sweep.stalled={self.crew.settings['stalled']}")
            elif silence > min(_SILENCE, self._stalled) and not worker.silence_reported:
                worker.silence_reported = True
                self.watcher.silent(worker.runs[0], silence, worker.stopped)

    # Hearing from workers ---------------------------------------------------------------------------------------------

    def _handle(self, worker: WorkerProcess, event: dict[str, Any]) -> None:
        kind, named = event["event"], event.get("directory")
        run = next((run for run in worker.runs if str(run.directory) == named), None)
        worker.last_event, worker.silence_reported = time.monotonic(), False
        self.crew.note_memory(worker, event)
        if kind == "ready":
            worker.ready = True
        elif kind == DIED:
            self._bury(worker, worker.verdict or event["reason"])
        elif run is None:
            return
        elif kind == "started":
            worker.begun, self._stillborn = True, 0
            self.watcher.started(run, worker.number)
        elif kind == "progress":
            self.watcher.progress(run, worker.number, event)
        elif kind == "busy":
            worker.runs.remove(run)
            worker.ready = not event.get("leaving")
            self.elsewhere.append(run)
        elif kind == "ended":
            worker.runs.remove(run)
            worker.ready = not event.get("leaving")
            not_its_own = event.get("memory") or event.get("fused")
            if event["status"] == files.FAILED and not_its_own and run.directory not in self._retried:
                self._retried.add(run.directory)
                files.remove([run.directory / files.RESULT])
                self.alone.append(run)
            else:
                self._note_end(run, worker.number, event["status"], event.get("reason"))

    def _bury(self, worker: WorkerProcess, reason: str) -> None:
        """A worker died: its run failed, unless it had written a result, or somebody asked to stop.

        Runs that it trained together go on by themselves, from their checkpoints.
        """
        if worker not in self.crew.workers:
            return
        self.crew.workers.remove(worker)
        runs, worker.runs = worker.runs, []
        if not worker.begun:
            self._stillborn += 1
            if self._stillborn >= _WORKERS_THAT_NEVER_START:
                self.outcome.stopped_by = f"workers do not start: {reason}"
        if not runs:
            return
        if not worker.begun and not self._stopping:
            self.waiting.appendleft(runs)  # they never started: another worker takes them
            return
        for run in reversed(runs):
            if len(runs) > 1 and not self._stopping and store.status_of(run.directory) not in files.ENDED:
                self.waiting.appendleft([run])  # who knows which of them it was: each goes on by itself
            else:
                self._bury_run(run, worker, reason)

    def _bury_run(self, run: Run, worker: WorkerProcess, reason: str) -> None:
        if self._asked_to_stop:
            self._stopped_runs.append(run)
            self.watcher.ended(run, worker.number, files.INTERRUPTED, None)
            return
        status = store.status_of(run.directory)
        if status == files.RUNNING:  # another sweep took it in the moment since
            self.elsewhere.append(run)
            return
        if status not in files.ENDED:
            from retable.run.result import write_failure

            write_failure(run.directory, reason, run.config)
            status = files.FAILED
        result = files.read_result(run.directory) or {}
        self._note_end(run, worker.number, status, result.get("reason", reason if status == files.FAILED else None))

    def _note_end(self, run: Run, worker: int, status: str, reason: str | None) -> None:
        if status == files.INTERRUPTED:
            self._stopped_runs.append(run)
        else:
            self._rules.note(run, status, reason)
        self.watcher.ended(run, worker, status, reason)
