"""`sweep.preview=true`: what a sweep would do, how long it would take and how much memory, training nothing."""

import sys
from typing import Any

from retable.config.keys import differing
from retable.errors import RetableError
from retable.run import devices
from retable.sweeps import fuse
from retable.sweeps.display import duration
from retable.sweeps.plan import Plan, Run, alike
from retable.sweeps.processes import ask

_MAX_SHARE = 0.9  # of a float32 step's time at which bf16 is recommended; nearer to 1 it is chance


def preview(plan: Plan, queued: bool = False) -> list[dict[str, Any]]:
    """List the runs with their status; estimate those that are left from a few calibration steps each.

    Args:
        queued: whether a cluster's queue is to train them, and not this host's workers.

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
    columns = differing([run.varied for run in plan.runs]) or ["run"]
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
    gpus = devices.gpus() if any(run.config["trainer"]["device"] != "cpu" for run in left) else ()
    about = [*about_data(plan, estimates), *about_bf16(plan, estimates)]
    for line in [about_time(plan, rows, queued), *about, *fuse.describe(left, plan.settings, len(gpus))]:
        console.out(line, highlight=False)
    return rows


def about_time(plan: Plan, rows: list[dict[str, Any]], queued: bool) -> str:
    """How many runs there are of each status, and how long those that are left would take.

    Args:
        rows: as `preview` returns them.
        queued: as for `preview`; how many jobs run at once is then the queue's to say.
    """
    counts = {
        status: sum(run.status == status for run in plan.runs) for status in dict.fromkeys(r.status for r in plan.runs)
    }
    seconds = sum(row["seconds"] or 0 for row in rows)
    left = set(map(id, plan.pending))
    unknown = any(row["seconds"] is None for run, row in zip(plan.runs, rows, strict=True) if id(run) in left)
    if unknown and not seconds:
        return f"{_counted(counts)}; how long is not known"
    if queued:
        return f"{_counted(counts)}; {duration(seconds)} one after another, by steps on this host"
    workers = plan.settings["workers"]
    if workers == "auto":
        workers = max(1, devices.cores() // plan.settings["threads"])
        if devices.gpus():
            return f"{_counted(counts)}; {duration(seconds)} one after another, less as they share the GPU's memory"
    about = "more than" if unknown else "about"
    return f"{_counted(counts)}; {about} {duration(seconds / max(1, min(workers, len(rows))))} with {workers} workers"


def about_data(plan: Plan, estimates: dict[str, dict[str, Any]]) -> list[str]:
    """How large the sets are, and where their images lie while a run trains: a line each.

    Args:
        estimates: what `calibrate` found, by run directory.
    """
    lines: dict[str, None] = {}
    for run in plan.pending:
        found = estimates.get(str(run.directory), {})
        if found.get("data_mb") is None:
            continue
        asked = str(run.config["data"].get("resident", "auto")).lower()
        if not found["resident"]:
            how = "streamed from the cache's files"
        elif found.get("gpu_mb"):
            how = "kept in memory, once a GPU"
        else:
            how = "kept in memory, " + ("which the workers share" if found["shared"] else "once a worker")
        name = run.config["task"]["name"]
        lines[f"data of task={name}: {found['data_mb']:,.1f} MiB, {how} (data.resident={asked})"] = None
    return list(lines)


def about_bf16(plan: Plan, estimates: dict[str, dict[str, Any]]) -> list[str]:
    """That bf16-mixed would be faster, of each task where it was measured to be.  Args: as for `about_data`."""
    shares: dict[str, list[float]] = {}
    for run in plan.pending:
        share = estimates.get(str(run.directory), {}).get("bf16_share")
        if share is not None:
            shares.setdefault(run.config["task"]["name"], []).append(share)
    lines = []
    for task, found in shares.items():
        low, high = (f"{value:.2f}" for value in (min(found), max(found)))
        if max(found) <= _MAX_SHARE:
            lines.append(
                f"trainer.precision=bf16-mixed: task={task} would take {low if low == high else f'{low} to {high}'} of"
                " a step's time, as this CPU has bfloat16; the figures would be others than float32's"
            )
    return lines


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
