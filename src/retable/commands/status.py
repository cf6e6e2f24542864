"""`retable status`: how far the runs below a folder are. Reads their directories and composes nothing."""

import argparse
import time
from collections import Counter
from pathlib import Path
from typing import Any

ORDER = ("finished", "diverged", "failed", "broken", "running", "interrupted", "new")


def add(commands: Any) -> None:
    """Add the command to a parser's subcommands."""
    status = commands.add_parser(
        "status",
        help="how far the runs below a folder are",
        description="How far runs are: counts by task and by table, what trains now, and why runs failed.",
        epilog="example: retable status multirun",
    )
    status.add_argument("path", type=Path, nargs="?", default=Path("multirun"), metavar="DIR", help="default: multirun")
    status.set_defaults(do=_status)


def _status(options: argparse.Namespace) -> None:
    from retable.errors import ConfigError
    from retable.sweeps.store import runs_below

    runs = runs_below(options.path)
    if not runs:
        raise ConfigError(f"{options.path}: no run; accepted: a sweep's folder, a task's, or a run's directory")
    groups: dict[str, Counter[str]] = {}
    for run in runs:
        for name in (run.task, *run.tables):
            groups.setdefault(name, Counter())[run.status] += 1
    width = max(map(len, groups))
    for name, counts in sorted(groups.items()):
        parts = [f"{counts[status]} {status}" for status in ORDER if counts[status]]
        print(f"{name:<{width}}  {counts.total()} runs: {', '.join(parts)}")
    for run in runs:
        if run.status == "running":
            silent = f", {time.time() - run.changed:.0f} s ago" if run.changed else ""
            print(f"running: {run.directory}: epoch {run.epoch} of {run.epochs}{silent}")
    for run in runs:
        if run.status in ("failed", "broken"):
            print(f"{run.status}: {run.directory}: {run.reason}")
