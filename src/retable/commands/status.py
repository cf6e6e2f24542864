"""`retable status`: how far the runs below a folder are. Reads their directories and composes nothing."""

import argparse
import contextlib
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    status = commands.add_parser(
        "status",
        help="how far the runs below a folder are",
        description="How far runs are: counts by task and by table, what trains now, and why runs failed.",
        epilog="example: retable status multirun",
    )
    status.add_argument("path", type=Path, nargs="?", default=Path("multirun"), metavar="DIR", help="default: multirun")
    status.set_defaults(do=_status)


def _status(options: argparse.Namespace) -> None:
    from retable.commands.view import seconds_left
    from retable.errors import ConfigError
    from retable.run.files import BROKEN, FAILED, INTERRUPTED, NEW, RUNNING, STATUSES
    from retable.sweeps.display import duration
    from retable.sweeps.store import Progress, runs_below

    runs = runs_below(options.path)
    if not runs:
        raise ConfigError(f"{options.path}: no run; accepted: a sweep's folder, a task's, or a run's directory")
    groups: dict[str, list[Progress]] = {}
    for run in runs:
        for name in (run.task, *run.tables):
            groups.setdefault(name, []).append(run)
    width = max(map(len, groups))
    for name, own in sorted(groups.items()):
        counts, left = Counter(run.status for run in own), seconds_left(own)
        parts = [f"{counts[status]} {status}" for status in STATUSES if counts[status]]
        more = "" if left is None else f"; about {duration(left)} left"
        print(f"{name:<{width}}  {len(own)} runs: {', '.join(parts)}{more}")
    for run in runs:
        if run.status == RUNNING:
            of = f" of {run.epochs}" if run.epochs else ""
            silent = f", {time.time() - run.changed:.0f} s ago" if run.changed else ""
            print(f"running: {run.directory}: epoch {run.epoch}{of}{silent}")
    for line in _queued([run.directory for run in runs if run.status in (NEW, INTERRUPTED)]):
        print(line)
    for run in runs:
        if run.status in (FAILED, BROKEN):
            print(f"{run.status}: {run.directory}: {run.reason}")


def _queued(directories: Sequence[Path]) -> list[str]:
    """A line for each job that has runs to train, with SLURM's word for its state where SLURM can be asked."""
    import shutil

    from retable.sweeps.cluster import record
    from retable.sweeps.slurm import Slurm

    jobs: Counter[tuple[str, str]] = Counter()
    for directory in directories:
        note = record(directory)
        if note.get("job"):
            jobs[str(note.get("engine")), str(note["job"])] += 1
    states: dict[str, tuple[str, str]] = {}
    asked = [job for engine, job in jobs if engine == Slurm.name]
    if asked and shutil.which("squeue"):
        with contextlib.suppress(OSError):
            states = Slurm().states(asked)
    return [
        f"queued: {engine} job {job}: {count} runs{' ' + states[job][1] if job in states else ''}"
        for (engine, job), count in sorted(jobs.items())
    ]
