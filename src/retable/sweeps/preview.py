"""`sweep.preview=true`: what a sweep would do, how long it would take and how much memory, training nothing."""

import sys
from typing import Any

from retable.errors import RetableError
from retable.run import devices
from retable.sweeps import fuse, results
from retable.sweeps.display import duration
from retable.sweeps.plan import Plan, Run, alike
from retable.sweeps.processes import ask


def preview(plan: Plan) -> list[dict[str, Any]]:
    """List the runs with their status; estimate those that are left from a few calibration steps each.

    Returns:
        A row a run, in order: what varies, status, seconds and memory (None where nothing is to be done).

    Raises:
        RetableError: if a run would be refused.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    left = plan.pending
    estimates = _calibrate(left, plan) if left else {}
    columns = results.varying([run.varied for run in plan.runs]) or ["run"]
    rows = []
    for run in plan.runs:
        estimate = estimates.get(str(run.directory), {})
        row: dict[str, Any] = {key: run.name if key == "run" else run.varied.get(key) for key in columns}
        memory = estimate.get("gpu_mb") or estimate.get("host_mb")
        rows.append(row | {"status": run.status, "seconds": estimate.get("seconds"), "memory_mb": memory})

    table = Table(title=f"{plan.label}: preview, nothing is trained", title_justify="left")
    for key in rows[0]:
        table.add_column({"seconds": "time", "memory_mb": "memory"}.get(key, key))
    for row in rows:
        shown = dict(row)
        shown["seconds"] = "–" if row["seconds"] is None else duration(row["seconds"])
        shown["memory_mb"] = "–" if row["memory_mb"] is None else f"{row['memory_mb']:.0f} MiB"
        table.add_row(*(Text("–" if value is None else str(value)) for value in shown.values()))
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    console.out(_total(plan, rows), highlight=False)
    gpus = devices.gpus() if any(run.config["trainer"]["device"] != "cpu" for run in left) else ()
    for line in fuse.describe(left, plan.settings, len(gpus)):
        console.out(line, highlight=False)
    return rows


def _total(plan: Plan, rows: list[dict[str, Any]]) -> str:
    counts = {
        status: sum(run.status == status for run in plan.runs) for status in dict.fromkeys(r.status for r in plan.runs)
    }
    seconds = sum(row["seconds"] or 0 for row in rows)
    workers = plan.settings["workers"]
    if workers == "auto":
        workers = max(1, devices.cores() // plan.settings["threads"])
        if devices.gpus():
            return f"{_counted(counts)}; {duration(seconds)} one after another, less as they share the GPU's memory"
    return f"{_counted(counts)}; about {duration(seconds / max(1, min(workers, len(rows))))} with {workers} workers"


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {status}" for status, count in counts.items())


def _calibrate(runs: list[Run], plan: Plan) -> dict[str, dict[str, Any]]:
    gpus = devices.gpus()
    groups = alike(runs)  # which take the same time
    commands = [{"do": "calibrate", "config": first.config} for first, *_ in groups]
    found: dict[str, dict[str, Any]] = {}
    events = ask(commands, plan.settings["threads"], gpus[0].name if gpus else None)
    for number, (group, event) in enumerate(zip(groups, events, strict=True), start=1):
        if "error" in event:
            raise RetableError(event["error"])
        found |= dict.fromkeys((str(run.directory) for run in group), event)
        if sys.stdout.isatty():
            print(f"\r\033[Kcalibrating {number}/{len(groups)}", end="", flush=True)
    if sys.stdout.isatty():
        print("\r\033[K", end="")
    return found
