"""A sweep's runs as jobs of an engine that has a queue: give them out, follow them, settle those that died.

What an engine does is a `Queue` (retable.sweeps.slurm). That a run has been given to a job stands in its directory
(job.json), so that the sweep may be left and called again: a run whose job is in the queue is not given out twice, and
one whose job has died is given out again if it got on there, else it has failed.
"""

import contextlib
import math
import signal
import sys
import time
import uuid
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from retable import atomic
from retable.checks import seconds
from retable.run import files
from retable.run.result import write_failure
from retable.sweeps.display import Display
from retable.sweeps.job import Job, mark
from retable.sweeps.plan import Plan, Run
from retable.sweeps.pool import Outcome, StopRules
from retable.sweeps.session import STOPPING, check_in_worker, handling, prepare, progress
from retable.sweeps.store import status_of

ELSEWHERE = ""  # the job of runs that another sweep trains
WAITING, RUNNING, OVER, CANCELLED = "waiting", "running", "over", "cancelled"
_LOOK_EVERY = (1.0, 10.0)  # seconds between two looks: the first ones, and later
_REPORT_EVERY = 30  # seconds
_SEEN_OVER = 2  # looks that must find a job over before its runs are settled: results may come late over a network


class Queue(Protocol):
    """An engine.

    Attributes:
        name: for people, e.g. SLURM.
        ends_with_us: whether its jobs end with the process that submitted them.
    """

    name: str
    ends_with_us: bool

    def describe(self, batches: Sequence[Sequence[Run]], settings: dict[str, Any]) -> list[str]:
        """What would be submitted, in lines."""

    def submit(self, jobs: Sequence[Job], settings: dict[str, Any], label: str) -> list[str]:
        """Submit jobs; returns their names, in order."""

    def states(self, names: Collection[str]) -> dict[str, tuple[str, str]]:
        """By name one of the four words above and the engine's own; jobs that it knows nothing of are left out.

        Raises:
            OSError: if the engine gives no answer now.
        """

    def log(self, name: str) -> Path | None:
        """Where what a job printed is kept, if it is."""

    def cancel(self, names: Collection[str]) -> None:
        """End jobs, also those that have not begun."""


class Cluster:
    """Trains a plan's runs through a queue."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue

    def describe(self, plan: Plan, todo: Sequence[Run]) -> list[str]:
        """What a sweep would submit, for its preview."""
        given = self._given(todo)
        free = [run for run in todo if run.directory not in given]
        lines = [f"{self.queue.name}: {len(given)} runs are given to jobs already"] if given else []
        return lines + (self.queue.describe(_batches(free, plan.settings), plan.settings) if free else [])

    def train(self, plan: Plan, todo: list[Run]) -> Outcome:
        """Submit what no job has yet; then follow all to their end, or leave them to it (`sweep.wait`)."""
        following = _Following(self.queue, plan, todo)
        given = self._given(todo)
        if plan.settings["cancel_removed"]:
            self._cancel_removed(plan)
        free = [run for run in todo if run.directory not in given]
        elsewhere = [run for run in free if run.status == files.RUNNING]
        following.follow(given | {run.directory: ELSEWHERE for run in elsewhere})
        free = following.settle_dead([run for run in free if run not in elsewhere])
        if free:
            check_in_worker(plan, free)
            prepare(plan, free)
            following.submit(free)
        if not plan.settings["wait"] and not self.queue.ends_with_us:
            following.outcome.submitted = following.pending
            return following.outcome
        with handling(dict.fromkeys(STOPPING, following.stop)):
            return following.to_the_end()

    def _given(self, runs: Iterable[Run]) -> dict[Path, str]:
        """By directory the job that is to train it, where the engine says that it waits or runs."""
        records = {run.directory: record(run.directory) for run in runs}
        mine = {where: r["job"] for where, r in records.items() if r.get("engine") == self.queue.name and r.get("job")}
        states = self.queue.states(set(mine.values())) if mine else {}
        return {where: job for where, job in mine.items() if states.get(job, (OVER, ""))[0] in (WAITING, RUNNING)}

    def _cancel_removed(self, plan: Plan) -> None:
        """Take back runs of this sweep that are in the queue and no longer in its grid."""
        kept = {run.directory.absolute() for run in plan.runs}
        found = Path(plan.settings["dir"]).glob(f"*/*/{files.JOB}")
        asked = [path.parent for path in found if record(path.parent).get("sweep") == plan.label]
        removed = [where for where in asked if where.absolute() not in kept and status_of(where) not in files.ENDED]
        jobs = {where: record(where).get("job") for where in removed}
        files.remove(where / files.JOB for where in removed)  # a job that has not begun them yet will leave them
        others = {record(where).get("job") for where in asked if where not in jobs}
        alone = {job for job in jobs.values() if job and job not in others}
        if alone:
            self.queue.cancel(alone)
        if removed:
            print(f"{len(removed)} runs that have left the grid are cancelled", flush=True)


def record(directory: Path) -> dict[str, Any]:
    """What job.json says of a run: engine, job, token, sweep, and its checkpoint's mark when it was given out."""
    return atomic.read_json(directory / files.JOB) or {}


def _batches(runs: Sequence[Run], settings: dict[str, Any]) -> list[list[Run]]:
    size = settings["runs_per_job"]
    return [list(runs[begin : begin + size]) for begin in range(0, len(runs), size)]


class _Following:
    """Runs that are out, until they have ended."""

    def __init__(self, queue: Queue, plan: Plan, todo: Sequence[Run]) -> None:
        self.queue, self.plan, self.settings = queue, plan, plan.settings
        self.outcome = Outcome()
        self.pending: list[Run] = []
        self._jobs: dict[Path, str] = {}
        self._over: dict[str, int] = {}
        self._rules = StopRules(plan.settings, self.outcome)
        self._display = Display(list(todo), len(plan.runs))
        self._asked: list[int] = []
        budget = plan.settings.get("budget")
        self._deadline = time.monotonic() + (math.inf if budget is None else seconds("sweep.budget", budget))

    def follow(self, given: dict[Path, str]) -> None:
        """Runs that jobs have already."""
        self._jobs |= given
        self.pending += [run for run in self.plan.runs if run.directory in given]

    def submit(self, runs: Sequence[Run]) -> None:
        """Give runs to new jobs."""
        batches = _batches(runs, self.settings)
        jobs = []
        for batch in batches:
            token = uuid.uuid4().hex
            for run in batch:
                note = {"engine": self.queue.name, "job": None, "token": token, "sweep": self.plan.label}
                atomic.write_json(run.directory / files.JOB, note | {"checkpoint": mark(run.directory)})
            directories = [str(run.directory.absolute()) for run in batch]
            jobs.append(Job(directories, self.settings, token, self.queue.name))
        names = self.queue.submit(jobs, self.settings, self.plan.label)
        for batch, job, name in zip(batches, jobs, names, strict=True):
            for run in batch:
                note = record(run.directory)
                if note.get("token") == job.token and note.get("job") is None:  # else the job was faster
                    atomic.write_json(run.directory / files.JOB, note | {"job": name})
                self._jobs[run.directory] = name
        self.pending += [run for run in runs if run not in self.pending]
        shown = f"{names[0]} to {names[-1]}" if len(names) > 1 else names[0]
        print(f"{self.queue.name}: {len(runs)} runs submitted in {len(names)} jobs: {shown}", flush=True)

    def settle_dead(self, runs: Sequence[Run]) -> list[Run]:
        """Of runs that no living job has, those to be given out; the others' jobs had died, and they have failed."""
        free = []
        dead: dict[str, list[Run]] = {}
        for run in runs:
            note = record(run.directory)
            given_out = note.get("engine") == self.queue.name and note.get("job")
            if given_out and run.status not in (files.FAILED, files.BROKEN):
                dead.setdefault(note["job"], []).append(run)
            else:
                free.append(run)
        states = self.queue.states(set(dead)) if dead else {}
        for job, group in dead.items():
            free += self._settle(group, job, states.get(job, (OVER, "")))
        return free

    def to_the_end(self) -> Outcome:
        """Look at directories and at the queue until nothing is out."""
        begin = reported = time.monotonic()
        while self.pending and not self._asked and self.outcome.stopped_by is None:
            self._look()
            now = time.monotonic()
            if now > self._deadline and self.pending:
                self.outcome.stopped_by = f"sweep.budget={self.settings['budget']} is spent"
            if now - reported > _REPORT_EVERY:
                reported = now
                print(progress(self.plan, self.pending), flush=True)
            pause = min(max(_LOOK_EVERY[0], (now - begin) / 20), _LOOK_EVERY[1])
            until = time.monotonic() + pause
            while self.pending and not self._asked and time.monotonic() < until:
                time.sleep(0.1)
        if self._asked:
            self._leave()
        elif self.outcome.stopped_by is not None and self.pending:
            self.queue.cancel({self._jobs[run.directory] for run in self.pending} - {ELSEWHERE})
        return self.outcome

    def _look(self) -> None:
        for run in list(self.pending):
            if (run.directory / files.RESULT).exists():
                self._note_end(run)
        try:
            states = self.queue.states({self._jobs[run.directory] for run in self.pending} - {ELSEWHERE})
        except OSError as error:
            print(f"{self.queue.name} gives no answer ({error}); asking again", flush=True)
            return
        groups: dict[str, list[Run]] = {}
        for run in self.pending:
            groups.setdefault(self._jobs[run.directory], []).append(run)
        again: list[Run] = []
        for job, group in groups.items():
            state = states.get(job, (OVER, ""))
            if state[0] in (WAITING, RUNNING):
                self._over.pop(job, None)
                continue
            self._over[job] = self._over.get(job, 0) + 1
            if self._over[job] >= _SEEN_OVER:
                left = [run for run in group if status_of(run.directory) != files.RUNNING]
                again += self._settle(left, job, state)
        if again and self.outcome.stopped_by is None:
            self.submit(again)

    def _settle(self, runs: list[Run], job: str, state: tuple[str, str]) -> list[Run]:
        """What becomes of runs that a dead job has left; returns those to be given out again.

        A run that finished an epoch there goes on from its checkpoint. One that did not has failed, with the engine's
        word. One that had not begun is given out again if the job got on at all.
        """
        for run in runs:  # what ended between two looks
            self._note_end(run)
        runs = [run for run in runs if status_of(run.directory) not in files.ENDED]
        kind, word = state
        if job == ELSEWHERE:
            return runs
        if kind == CANCELLED:
            for run in runs:
                files.remove([run.directory / files.JOB])
                self._drop(run, files.INTERRUPTED, None)
            self.outcome.interrupted |= bool(runs)
            return []
        others = [run for run in self.plan.runs if record(run.directory).get("job") == job and run not in runs]
        moved = [run for run in runs if mark(run.directory) not in (None, record(run.directory).get("checkpoint"))]
        got_on = bool(moved) or any(status_of(run.directory) in files.ENDED for run in others)
        again = []
        for run in runs:
            if run in moved or (got_on and not (run.directory / files.LOG).exists()):
                again.append(run)
            else:
                reason = f"{self.queue.name}: {word or 'the job is gone, of what is not known'}"
                where = self.queue.log(job)
                with contextlib.suppress(OSError), (run.directory / files.LOG).open("a", encoding="utf-8") as log:
                    print(
                        f"{self.queue.name} job {job}: {word}" + (f"; its own log: {where}" if where else ""), file=log
                    )
                write_failure(run.directory, reason, run.config)
                self._note_end(run)
        return again

    def _note_end(self, run: Run) -> None:
        result = files.read_result(run.directory)
        if result is None:
            return
        self._rules.note(run, result["status"], result.get("reason"))
        self._drop(run, result["status"], result.get("reason"))

    def _drop(self, run: Run, status: str, reason: str | None) -> None:
        if run in self.pending:
            self.pending.remove(run)
        self._display.ended(run, 0, status, reason)

    def stop(self, number: int, frame: FrameType | None) -> None:
        self._asked.append(number)

    def _leave(self) -> None:
        """Somebody asked to stop: the jobs are cancelled if that is wanted, too; else they go on without us."""
        self.outcome.interrupted = True
        jobs = {self._jobs[run.directory] for run in self.pending} - {ELSEWHERE}
        if self.queue.ends_with_us or (self._asked == [signal.SIGINT] and _confirms(jobs, self.queue.name)):
            self.queue.cancel(jobs)
            print(f"{len(jobs)} jobs are cancelled; runs keep the checkpoint of their last epoch", flush=True)
        else:
            self.outcome.submitted = self.pending
            print(f"{len(jobs)} jobs go on; the same command shows how far they are", flush=True)


def _confirms(jobs: Collection[str], engine: str) -> bool:
    if not sys.stdin.isatty():
        return False
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return input(f"\nCancel {len(jobs)} {engine} jobs? [y/N] ").strip().lower() in ("y", "yes")
    except (EOFError, KeyboardInterrupt):
        return False
