"""Pictures that two runs of a sweep's folder make together, drawn when both have finished (`compare` in a table)."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from retable.errors import RetableError
from retable.experiment.table import Table
from retable.report.match import tables_of
from retable.report.runs import Assigned, RunRecord, Runs
from retable.run import files
from retable.sweeps.processes import ask


def draw_compared(
    chosen: Sequence[tuple[Table, Assigned]], runs: Runs, composer: Any, threads: int
) -> Iterator[tuple[bool, str]]:
    """Draw what the tables ask for and is not there yet, into the figures of the second run.

    Args:
        chosen: the sweep's tables with their runs; runs: all of the sweeps' folder.
        threads: of the worker that draws.

    Yields:
        Whether a picture was drawn, and a message about it.
    """
    commands = [command for table, assigned in chosen for command in wanted(table, assigned, runs, composer)]
    if not commands:
        return
    try:
        for command, event in zip(commands, ask(commands, threads), strict=True):
            yield not event["error"], f"{command['picture']}: {event['error'] or 'drawn'}"
    except RetableError as error:
        yield False, str(error)


def wanted(table: Table, assigned: Assigned, runs: Runs, composer: Any) -> Iterator[dict[str, Any]]:
    for one in table.compare:
        others = assigned if one.experiment == table.name else of_table(runs, one.experiment, composer)
        firsts = {run.seed: run for run in others.cells.get(one.cell, ()) if can_predict(run)}
        for second in filter(can_predict, assigned.cells[one.beside]):
            first = firsts.get(second.seed)
            path = Path(second.path, files.FIGURES, f"{one.picture}.png")
            if first and not up_to_date(path, first, second):
                yield {
                    "do": "compare",
                    "first": first.path,
                    "second": second.path,
                    "picture": str(path),
                    "count": one.images,
                    "names": [one.cell, one.beside],
                }


def of_table(runs: Runs, experiment: str, composer: Any) -> Assigned:
    ((_, assigned),) = tables_of(runs, [experiment], composer=composer)
    return assigned


def can_predict(run: RunRecord) -> bool:
    there = (Path(run.path, name).exists() for name in (files.CHECKPOINT, files.BEST))
    return run.status == files.FINISHED and any(there)


def up_to_date(path: Path, *records: RunRecord) -> bool:
    made = path.stat().st_mtime_ns if path.exists() else 0
    return all(Path(run.path, files.RESULT).stat().st_mtime_ns <= made for run in records)
