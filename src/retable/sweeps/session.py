"""A sweep from its command line to its table: plan, check, train what is missing, report."""

import contextlib
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from retable.errors import ConfigError, DataError, RetableError
from retable.run import devices, files
from retable.sweeps import curves, fuse, mps, results, store
from retable.sweeps.display import Display
from retable.sweeps.finish import failures, finish
from retable.sweeps.plan import Plan, Run, alike, make_plan, write_runs
from retable.sweeps.pool import Outcome, Pool, refuse
from retable.sweeps.processes import ask

Trainer = Callable[[Plan, list[Run]], Outcome]
Describer = Callable[[Plan, list[Run]], list[str]]
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)  # the last is SLURM's


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
    if plan.about_code:
        print(plan.about_code, flush=True)
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
    return {str(run.directory): run.config for run, first in _alike_first(todo) if run.directory == first}


def _alike_first(todo: Sequence[Run]) -> list[tuple[Run, Path]]:
    """Runs not begun, each with the directory of the one of those like it that is checked for all of them."""
    new = [run for run in todo if run.status == files.NEW]
    return [(run, group[0].directory) for group in alike(new) for run in group]


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
    if plan.about_code:
        print(plan.about_code, flush=True)
    if plan.pending:
        prepare(plan, [run])
    elif run.status not in files.DONE:
        reason = (files.read_result(run.directory) or {}).get("reason") or store.broken(run.directory)
        raise RetableError(f"{run.name}: failed before ({reason}); sweep.retry_failed=true tries again")
    from retable.run.execute import Busy
    from retable.run.single import Stopped, run_job

    while True:
        try:
            return run_job(run.config, run.directory)
        except Stopped:
            raise KeyboardInterrupt from None
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

        def stop(number: int, frame: FrameType | None) -> None:
            pool.stop()  # before anything is printed, which may wait for a reader
            print("\nStopping: runs keep the checkpoint of their last epoch. Once more: stop at once.", flush=True)

        # Ctrl-Z takes the workers along.
        with handling(dict.fromkeys(STOPPING, stop) | {signal.SIGTSTP: lambda number, frame: pool.crew.pause()}):
            try:
                work = pool.check(_to_check(todo))
                pool.longest_first({run.directory: work.get(str(first)) for run, first in _alike_first(todo)})
                if not pool.asked_to_stop:
                    prepare(plan, todo)
            except BaseException:
                pool.close()
                raise
            return pool.train()


def prepare(plan: Plan, todo: list[Run]) -> None:
    """Write the configs of new runs; clear the results of those to be tried again, or trained anew."""
    for run in todo:
        if run.other_code and run.status == files.NEW:
            store.start_over(run.directory, run.config)
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


def _announce(plan: Plan, todo: list[Run]) -> None:
    kept = len(plan.runs) - len(todo)
    again = sum(run.status == files.INTERRUPTED for run in todo)
    words = [f"{plan.label}: {len(plan.runs)} runs, {kept} done before, {len(todo)} to train"]
    words += [f"{again} of them from a checkpoint"] if again else []
    print(", ".join(words), flush=True)


@contextlib.contextmanager
def handling(handlers: Mapping[int, Callable[[int, FrameType | None], None]]) -> Iterator[None]:
    """Handle signals by number within the block; in another thread than the main one the caller does."""
    before: dict[int, Any] = {}
    with contextlib.suppress(ValueError):  # not in the main thread
        for number, handler in handlers.items():
            before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
