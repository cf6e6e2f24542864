"""A sweep from its command line to its table: plan, check, train what is missing, report."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from retable.errors import ConfigError, DataError, RetableError
from retable.run import checkpoints, devices, files, tensorboard
from retable.run.result import describe
from retable.sweeps import curves, fuse, mps, results, store
from retable.sweeps.display import Display
from retable.sweeps.plan import Plan, Run, alike, make_plan, write_runs
from retable.sweeps.pool import Outcome, Pool, refuse
from retable.sweeps.processes import ask

_SHOWN = 5  # names of missing runs in a line
Trainer = Callable[[Plan, list[Run]], Outcome]
Describer = Callable[[Plan, list[Run]], list[str]]


def sweep(
    arguments: Sequence[str], train: Trainer | None = None, describe: Describer | None = None
) -> tuple[Plan, Outcome]:
    """Run a sweep.

    Args:
        arguments: overrides as on the command line, e.g. ["task=cifar", "dropout=0.2,0.3"].
        train: trains the pending runs; the workers by default.
        describe: says in a preview what `train` would submit, where it would submit something.

    Raises:
        ConfigError, DataError: one line, before anything runs.
    """
    plan = make_plan(arguments)
    if plan.unread and not plan.settings["preview"]:
        read_data(plan)
        plan = make_plan(arguments)
    if plan.settings["preview"]:
        from retable.sweeps.preview import preview

        preview(plan, queued=describe is not None)
        if describe is not None:
            print("\n".join(describe(plan, plan.pending)))
        return plan, Outcome()
    todo = plan.pending
    outcome = Outcome()
    if todo:
        _announce(plan, todo)
        outcome = (train or train_in_workers)(plan, todo)
    if outcome.submitted:
        print(progress(plan, outcome.submitted), flush=True)
        for run, reason in failures(plan, outcome):
            print(f"{files.FAILED}: {run.name} · {reason} · log: {run.directory / files.LOG}")
        print("The same command shows how far they are, and makes the table when all are done.", flush=True)
    else:
        finish(plan, outcome)
    return plan, outcome


def progress(plan: Plan, submitted: Sequence[Run]) -> str:
    """How far a sweep is whose runs are jobs of an engine, in a line."""
    out = {run.directory for run in submitted}
    counts: Counter[str] = Counter()
    for run in plan.runs:
        status = store.status_of(run.directory)
        queued = run.directory in out and status in (files.NEW, files.INTERRUPTED)
        counts["in the queue" if queued else status] += 1
    return f"{plan.label}: {len(plan.runs)} runs: {', '.join(f'{count} {word}' for word, count in counts.items())}"


def read_data(plan: Plan) -> None:
    """Have a worker read the data of which the plan can't tell whether finished runs are of them.

    Raises:
        DataError: one line, for data that can't be read.
    """
    for event in ask([{"do": "read", "config": config} for config in plan.unread], plan.settings["threads"]):
        if event["error"]:
            raise DataError(event["error"])


def check_in_worker(plan: Plan, todo: list[Run]) -> None:
    """Build every config of runs that are not begun once in a worker, without training.

    Raises:
        ConfigError: the faults, a line each.
    """
    configs = _to_check(todo)
    found: dict[str, str] = {}
    with contextlib.suppress(RetableError):  # a config that crashed it: its run will tell
        for event in ask([{"do": "check", "configs": configs}], plan.settings["threads"]):
            found = event["errors"]
    refuse(found)


def _to_check(todo: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """By directory the configs of runs not begun, one of those that are alike."""
    new = [run for run in todo if run.status == files.NEW]
    return {str(first.directory): first.config for first, *_ in alike(new)}


def run_trial(overrides: Sequence[str]) -> float | None:
    """Train one run for another sweeper, in this process; one that has finished before is not trained again.

    Returns:
        The final value of the task's metric.

    Raises:
        RetableError: for what is refused, and for a run that failed before.
        Exception: whatever went wrong in training.
    """
    plan = make_plan(overrides)
    if plan.unread:
        read_data(plan)
        plan = make_plan(overrides)
    if len(plan.runs) != 1:
        raise ConfigError(f"{len(plan.runs)} runs in one trial; accepted: one, so no experiment= and no seeds=")
    (run,) = plan.runs
    if plan.pending:
        prepare(plan, [run])
    elif run.status not in files.DONE:
        reason = (files.read_result(run.directory) or {}).get("reason") or store.broken(run.directory)
        raise RetableError(f"{run.name}: failed before ({reason}); sweep.retry_failed=true tries again")
    from retable.run.execute import Busy
    from retable.run.single import run_job

    while True:
        try:
            return run_job(run.config, run.directory)
        except Busy:  # the same trial elsewhere
            time.sleep(1)


def train_in_workers(plan: Plan, todo: list[Run]) -> Outcome:
    """Check the runs that are not begun, fix all configs on disk, and train in worker processes."""
    use_gpu = any(run.config["trainer"]["device"] != "cpu" for run in todo)
    gpus = devices.gpus() if use_gpu else ()
    if any(len(group) > 1 for group in fuse.groups(todo, plan.settings, len(gpus))):
        print("\n".join(fuse.describe(todo, plan.settings, len(gpus))), flush=True)
    with mps.serving(plan.settings, gpus), Display(todo, len(plan.runs)) as display:
        pool = Pool(todo, plan.settings, display, use_gpu)
        with _signals(pool):
            try:
                pool.check(_to_check(todo))
                if not pool.asked_to_stop:
                    prepare(plan, todo)
            except BaseException:
                pool.close()
                raise
            return pool.train()


def prepare(plan: Plan, todo: list[Run]) -> None:
    """Write the configs of new runs; clear the results of those to be tried again."""
    try:
        write_runs(todo)
    except OSError as error:
        raise RetableError(
            f"sweep.dir={plan.settings['dir']}: cannot be written ({error.strerror or error})"
        ) from error
    for run in todo:
        if run.status in (files.FAILED, files.BROKEN):
            store.clear_failure(run.directory)
    with contextlib.suppress(OSError):  # for who looks on meanwhile; it is written again at the end
        results.note(plan)
        curves.link(plan)


def finish(plan: Plan, outcome: Outcome) -> None:
    """The table, the failures and how to go on: on screen and on disk."""
    from rich.console import Console

    for run in plan.runs:
        checkpoints.settle_again(run.directory)
    found = results.rows(plan.runs)
    with _noting_what_fails(outcome):  # before anything is shown: no terminal may cost the table
        results.write(plan, found)
    page = None
    with _noting_what_fails(outcome):
        page = _sweep_page(plan)
    console = Console(width=None if sys.stdout.isatty() else 160)
    note = " (synthetic sample data)" if results.sample(plan.runs) else ""
    console.print(results.as_rich(found, plan.label + note))
    say = console.out
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
        _tell(plan, outcome)


def _sweep_page(plan: Plan) -> Path | None:
    """The page of what varied, for a sweep without an experiment; None where nothing did, or nothing came of it."""
    if plan.tables:
        return None
    from retable.report.site import write_index
    from retable.report.sweep_page import write_sweep_page

    results.note(plan)
    root = plan.folder.parent.parent
    page = write_sweep_page(plan.folder, "../" * len(plan.folder.relative_to(root).parts) + "index.html")
    if page and not (root / "index.html").exists():
        write_index(root)
    return page


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


def _tell(plan: Plan, outcome: Outcome) -> None:
    """Run `sweep.on_end` with the outcome in its environment; what becomes of it changes nothing."""
    statuses = [store.status_of(run.directory) for run in plan.runs]
    values = {
        "STATUS": {0: "done", 130: "interrupted"}.get(exit_code(plan, outcome), "failed"),
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
    """What is written at the end fails by itself: the rest is made, and the exit code tells."""
    try:
        yield
    except OSError as error:
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

    from retable.report.evaluated import evaluate
    from retable.report.match import tables_of
    from retable.report.runs import read_runs
    from retable.report.site import REPORT, write_site, write_table
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
        pages.append(write_table(entries[-1], folder))
        text = page.read_text(encoding="utf-8")
        changed |= text != before
        console.print(Markdown(text))
    if changed:
        others = [entry for entry in tables_of(runs, composer=plan.composer) if entry[0].name not in plan.tables]
        write_site([*entries, *(evaluate(*entry) for entry in others)], folder)
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
            found.append((run, str((files.read_result(run.directory) or {}).get("reason"))))
        elif status == files.BROKEN:
            found.append((run, store.broken(run.directory)))
        elif status not in files.DONE and run.directory in unmarked:
            found.append((run, unmarked[run.directory]))
    return found


def _announce(plan: Plan, todo: list[Run]) -> None:
    kept = len(plan.runs) - len(todo)
    again = sum(run.status == files.INTERRUPTED for run in todo)
    words = [f"{plan.label}: {len(plan.runs)} runs, {kept} done before, {len(todo)} to train"]
    words += [f"{again} of them from a checkpoint"] if again else []
    print(", ".join(words), flush=True)


class _signals:
    """Ctrl-C and SIGTERM stop the pool, not this process; a second one kills its workers. Ctrl-Z takes them along."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.old: dict[int, Any] = {}

    def __enter__(self) -> None:
        handlers = dict.fromkeys((signal.SIGINT, signal.SIGTERM, signal.SIGUSR1), self._stop)  # the last is SLURM's
        handlers[signal.SIGTSTP] = self._pause
        for number, handler in handlers.items():
            try:
                self.old[number] = signal.signal(number, handler)
            except ValueError:  # not in the main thread: the caller handles signals
                return

    def __exit__(self, *error: object) -> None:
        for number, handler in self.old.items():
            signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        print("\nStopping: runs keep the checkpoint of their last epoch. Once more: stop at once.", flush=True)
        self.pool.stop()

    def _pause(self, number: int, frame: FrameType | None) -> None:
        self.pool.crew.pause()
