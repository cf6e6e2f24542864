"""What a sweep leaves behind when its runs have ended: results, curves, tables and pages, and its exit code."""

import contextlib
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from retable.errors import RetableError, shortened
from retable.run import checkpoints, files, tensorboard
from retable.run.result import describe
from retable.sweeps import curves, results, store
from retable.sweeps.plan import Plan, Run
from retable.sweeps.pool import Outcome

_SHOWN = 5  # names of missing runs in a line


def finish(plan: Plan, outcome: Outcome) -> None:
    """The table, the failures and how to go on: on screen and on disk."""
    for run in plan.runs:
        checkpoints.settle_again(run.directory)
    found = results.rows(plan.runs)
    with _noting_what_fails(outcome):  # before anything is shown: no terminal may cost the table
        results.write(plan, found)
    page = None
    with _noting_what_fails(outcome):
        page = _sweep_page(plan)
    console = results.show(plan, found)
    say = console.out
    if (means := results.over_seeds(found)) is not None:
        say(means, highlight=False)
    failed = failures(plan, outcome)
    for run, reason in failed:
        word = files.BROKEN if store.status_of(run.directory) == files.BROKEN else files.FAILED
        say(f"{word}: {run.name} · {reason} · log: {run.directory / files.LOG}", highlight=False)
    if failed:
        say("Failed runs are tried again with sweep.retry_failed=true.", highlight=False)
    if outcome.stopped_by:
        say(f"The sweep stopped: {outcome.stopped_by}.", highlight=False)
    for directory, reason in plan.lost.items():
        say(f"broken, left alone: {directory}: {reason}", highlight=False)
    for line in _missing(plan):
        say(line, highlight=False)
    if outcome.interrupted or outcome.stopped_by:
        say("The same command goes on where this one stopped; finished runs are kept.", highlight=False)
    with _noting_what_fails(outcome):
        for path in _regenerate(plan, console):
            say(f"report:      {path}", highlight=False)
    with _noting_what_fails(outcome):
        curves.link(plan)
        curves.describe(plan)
        tensorboard.describe_sweep(Path(plan.settings["dir"]), store.identity_and_metrics)
    for reason in outcome.unwritten:
        say(f"Not everything could be written: {reason}.", highlight=False)
    say(f"table:       {plan.folder / 'results.md'}", highlight=False)
    if page:
        say(f"page:        {page}", highlight=False)
    say(f"curves:      {curves.command(plan)}", highlight=False)
    if plan.settings.get("on_end"):
        _run_on_end(plan, outcome)


def _sweep_page(plan: Plan) -> Path | None:
    """The page of what varied, for a sweep without an experiment; None where nothing did, or nothing came of it."""
    if plan.tables:
        return None
    from retable.report.index import write_index
    from retable.report.sweep_page import write_sweep_page

    results.note(plan)
    root = plan.folder.parent.parent
    page = write_sweep_page(plan.folder, "../" * len(plan.folder.relative_to(root).parts) + "index.html")
    if page:
        _note_older_pages(plan, root)
        write_index(root)
    return page


def _note_older_pages(plan: Plan, root: Path) -> None:
    """Make the tables' pages again that an earlier version has left without a note for the index."""
    from retable.report.index import NOTE, write_site

    names = plan.composer.options("experiment") if plan.composer else []
    names = [name for name in names if (root / name / "index.html").exists() and not (root / name / NOTE).exists()]
    if not names:
        return
    from retable.report.evaluated import evaluate
    from retable.report.match import tables_of
    from retable.report.runs import read_runs

    found = tables_of(read_runs([Path(plan.settings["dir"])]), names, composer=plan.composer)
    write_site([evaluate(table, runs) for table, runs in found if any(runs.cells.values())], root)


def _missing(plan: Plan) -> list[str]:
    """A line a table that has not all its runs yet."""
    left = [run for run in plan.runs if store.status_of(run.directory) not in (*files.ENDED, files.BROKEN)]
    lines = []
    for table in plan.tables or [None]:
        runs = [run for run in left if table is None or table in run.tables]
        total = sum(table is None or table in run.tables for run in plan.runs)
        if runs:
            shown = ", ".join(run.name for run in runs[:_SHOWN]) + (", ..." if len(runs) > _SHOWN else "")
            lines.append(f"missing: {len(runs)} of {total} runs{f' of {table}' if table else ''}: {shown}")
    return lines


def _run_on_end(plan: Plan, outcome: Outcome) -> None:
    """Run `sweep.on_end` with the outcome in its environment; what becomes of it changes nothing."""
    statuses = [store.status_of(run.directory) for run in plan.runs]
    values = {
        "STATUS": {0: "done", 130: files.INTERRUPTED}.get(exit_code(plan, outcome), files.FAILED),
        "NAME": plan.label,
        "RUNS": len(statuses),
        "DONE": sum(status in files.DONE for status in statuses),
        "FAILED": sum(status in (files.FAILED, files.BROKEN) for status in statuses),
        "LEFT": sum(status not in (*files.ENDED, files.BROKEN) for status in statuses),
        "REASON": outcome.stopped_by or "",
        "TABLE": plan.folder / "results.md",
    }
    environment = os.environ | {f"RETABLE_{key}": str(value) for key, value in values.items()}
    done = subprocess.run(plan.settings["on_end"], shell=True, env=environment)
    if done.returncode:
        print(f"sweep.on_end ended with exit code {done.returncode}", file=sys.stderr)


@contextlib.contextmanager
def _noting_what_fails(outcome: Outcome) -> Iterator[None]:
    """Note what fails within the block in the outcome, for the exit code, and go on with what else is written."""
    try:
        yield
    except (OSError, RetableError) as error:
        outcome.unwritten.append(str(error))
    except Exception as error:
        traceback.print_exc()
        outcome.unwritten.append(describe(error))


def _regenerate(plan: Plan, console: Any) -> list[Path]:
    """The published tables beside what the runs gave, with a verdict on every claim; returns the pages written.

    A table is made of the runs that `retable report` would choose; of several scales or settings that lie in the
    folder, of this sweep's. The HTML pages, whose charts take seconds, are made again only where a table's text has
    changed; their index covers every table of the sweeps' folder.
    """
    if not plan.tables:
        return []
    from rich.markdown import Markdown

    from retable.report.copies import REPORT, write_table
    from retable.report.evaluated import evaluate
    from retable.report.match import tables_of
    from retable.report.runs import read_runs
    from retable.sweeps.compared import draw_compared

    root = Path(plan.settings["dir"])
    folder = root / "tables"
    runs, own = read_runs([root]), [run.directory for run in plan.runs]
    entries, pages, changed = [], [], not (folder / "index.html").exists()
    chosen = tables_of(runs, list(plan.tables), composer=plan.composer, shown=own)
    for drawn, line in draw_compared(chosen, runs, plan.composer, plan.settings["threads"]):
        console.out(line, highlight=False)
        changed |= drawn
    for table, assigned in chosen:
        page = folder / table.name / REPORT
        before = page.read_text(encoding="utf-8") if page.exists() else None
        entries.append(evaluate(table, assigned))
        pages.append(write_table(entries[-1], page.parent))
        text = page.read_text(encoding="utf-8")
        changed |= text != before
        console.print(Markdown(text))
    if changed:
        from retable.report.index import write_site  # and Jinja, of which the end of most sweeps has no need

        others = [entry for entry in tables_of(runs, composer=plan.composer) if entry[0].name not in plan.tables]
        write_site([*entries, *(evaluate(*entry) for entry in others)], folder, asked=plan.tables)
    return [*pages, folder / "index.html"]


def exit_code(plan: Plan, outcome: Outcome) -> int:
    """0 when all is done; 1 when runs failed, the sweep stopped by itself or a table could not be written; 130 when
    somebody stopped it."""
    if plan.settings["preview"]:
        return 0
    if outcome.stopped_by or outcome.unwritten or failures(plan, outcome):
        return 1
    return 130 if outcome.interrupted else 0


def failures(plan: Plan, outcome: Outcome) -> list[tuple[Run, str]]:
    """The runs that failed, now or before, with their reasons; also those that a full disk left unmarked."""
    unmarked = {run.directory: reason for run, reason in outcome.failures}
    found = []
    for run in plan.runs:
        status = store.status_of(run.directory)
        if status == files.FAILED:
            found.append((run, shortened(str((files.read_result(run.directory) or {}).get("reason")))))
        elif status == files.BROKEN:
            found.append((run, store.broken(run.directory)))
        elif status not in files.DONE and run.directory in unmarked:
            found.append((run, unmarked[run.directory]))
    return found
