"""`retable verify`: train one cell of a table again, and say whether it comes out the same."""

import argparse
import contextlib
import itertools
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retable.commands.evaluate import add_trust, count
from retable.config.stepping import limits_in_time, of_planned, planned_epochs, without_limits_in_time
from retable.errors import ConfigError, DataError, in_words
from retable.run import files

if TYPE_CHECKING:
    from retable.report.runs import RunRecord

# Columns of a history that say how long something took, not what came out.
_TIMES = ("seconds/", "images_per_second")


def add(commands: argparse._SubParsersAction) -> None:
    verify = commands.add_parser(
        "verify",
        help="train one run, or one cell of a table, again and compare every figure of every epoch",
        description="Train a finished run again from its config, in a temporary folder, and compare its history."
        " On the same CPU and versions it must come out bit for bit; elsewhere the difference is set against the spread"
        " of the cell's seeds.",
        epilog="example: retable verify results/epyc --experiment gland/models --cell fcn2",
    )
    verify.add_argument("runs", type=Path, help="a run's directory, or a folder of runs, with --experiment and --cell")
    verify.add_argument("--experiment", metavar="NAME", help="the table, e.g. gland/models")
    verify.add_argument("--cell", metavar="NAME", help="the cell's name in the experiment's file")
    verify.add_argument("--seed", type=int, help="which of the cell's seeds (default: the first)")
    verify.add_argument("--epochs", type=int, metavar="N", help="compare the first N epochs only, which is faster")
    add_trust(verify)
    verify.set_defaults(do=_verify)


def _verify(options: argparse.Namespace) -> None:
    import sys

    if options.epochs is not None:
        count("--epochs", options.epochs)
    directory, others = _chosen(options)
    print(f"trained again: {directory}", flush=True)
    old, new = again(directory, options.epochs, options.trust)
    line, same = compared(old, new, others)
    print(line)
    if not same:
        sys.exit(1)


def _chosen(options: argparse.Namespace) -> tuple[Path, list[Path]]:
    """The directory that is meant, and those of the same cell."""
    if (options.runs / files.RUN).exists():
        return options.runs, [options.runs]
    if not (options.experiment and options.cell):
        raise ConfigError(f"{options.runs}: is no run's directory; accepted: one, or --experiment and --cell")
    from retable.report.match import tables_of
    from retable.report.runs import read_runs

    ((table, assigned),) = tables_of(read_runs([options.runs]), [options.experiment])
    if options.cell not in table.cells:
        raise ConfigError(f"--cell {options.cell}: accepted: {', '.join(table.cells)}")
    found: Sequence[RunRecord] = [r for r in assigned.cells[options.cell] if r.status == files.FINISHED]
    chosen = [record for record in found if options.seed in (None, record.seed)]
    if not chosen:
        seeds = ", ".join(str(record.seed) for record in found) or "none"
        raise ConfigError(f"--cell {options.cell}: no finished run of that seed below {options.runs}; seeds: {seeds}")
    return Path(chosen[0].path), [Path(record.path) for record in found]


def _train_fused(config: dict[str, Any], directory: Path, **hooks: Any) -> None:
    """`execute`, with steps taken as those of runs that train together; raises what `execute` raises."""
    from retable.run.execute import execute
    from retable.run.fused import Seat, train

    errors: list[BaseException] = []

    def work(seat: Seat) -> None:
        try:
            execute(config, directory, company=seat, **hooks)
        except BaseException as error:
            errors.append(error)

    train([Seat(work, contextlib.nullcontext)])
    if errors:
        raise errors[0]


def again(
    directory: Path, epochs: int | None = None, trust: bool = False
) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """A run's history, and the one that its recorded config gives now; the first `epochs` of both.

    Of a run that a time may have ended, the epochs that it trained to their end.

    What an exported run leaves out (where data lie, which device) is as it is set here, and so is the cache, which is
    never a folder that somebody else's run names.

    Raises:
        DataError, ConfigError: one line, for a directory that is damaged or of no run of this project.
    """
    from retable.config.compose import Composer
    from retable.config.targets import check_targets
    from retable.run.execute import execute

    run = files.described(directory)
    if isinstance(run, str):
        raise DataError(f"{directory / files.RUN}: {run}; accepted: a run's directory")
    if not (directory / files.HISTORY).exists() or (odd := files.history_is_odd(directory / files.HISTORY)):
        raise DataError(f"{directory / files.HISTORY}: {odd if (directory / files.HISTORY).exists() else 'is missing'}")
    composer = Composer()
    config: dict[str, Any] = run["config"]
    if run.get("task") not in composer.options("task") or not isinstance(config.get("data"), dict):
        raise DataError(f"{directory / files.RUN}: its task is none of {', '.join(composer.options('task'))}")
    defaults = composer.compose([f"task={run['task']}"]).config
    check_targets(config, directory / files.RUN, trust=trust, hint="--trust")
    locations = {key: defaults["data"][key] for key in ("root", "cache") if key in defaults["data"]}
    cache = {"cache": locations["cache"]} if "cache" in locations else {}
    config = {"logger": defaults["logger"]} | config | {"data": locations | config["data"] | cache}
    files.check(config, directory / files.RUN)
    old = files.read_history(directory / files.HISTORY)
    planned, until = planned_epochs(config["trainer"]["max_epochs"]), epochs
    if limits := limits_in_time(config):  # no two runs come equally far in a time
        config = without_limits_in_time(config)
        if planned is None or old[-1]["epoch"] < planned:
            whole = _whole_epochs(old)
            until = min(whole, until or whole)
    with tempfile.TemporaryDirectory() as scratch:
        target, done = Path(scratch) / directory.name, []

        def progress(row: dict[str, Any]) -> None:
            done.append(row["epoch"])
            print(f"epoch {of_planned(row['epoch'], planned)}", flush=True)

        # Interrupted, not given fewer epochs: the schedule of the learning rate may depend on how many there are.
        hooks = {"on_epoch": progress, "should_interrupt": lambda: until is not None and until in done}
        if ((files.read_result(directory) or {}).get("execution") or {}).get("fused"):
            _train_fused(config, target, **hooks)  # the same arithmetic, whatever its company was
        else:
            execute(config, target, **hooks)
        new = files.read_history(target / files.HISTORY)
        for line in _other_sources(directory, target):
            print(line)
    if limits and until == 1 and old[-1]["step"] < new[-1]["step"]:
        key = limits[0].partition("=")[0]
        raise DataError(f"{directory}: {key} ended it within its first epoch; accepted: a longer run")
    return (old, new) if until is None else (_without_test(old, until), _without_test(new, until))


def _other_sources(directory: Path, again: Path) -> list[str]:
    """What there is to say of the data, and of the user's own code, of a run and of the one that repeats it."""
    from retable.config import own_code
    from retable.run.foreign_data import same_items

    found = [files.described(path) for path in (directory, again)]
    before, after = (run if isinstance(run, dict) else {} for run in found)
    lines = []
    was, now = (str(run.get("fingerprint") or "") for run in (before, after))
    if was and now and not same_items(was, now):
        marks = f"was {was[:8]} and is {now[:8]}"
        lines.append(f"other data: their fingerprint {marks}, so that the files are not those of the run")
    if "code" in before and (modules := own_code.changed(before["code"], after.get("code", {}))):
        lines.append(f"other code: {in_words(modules)} changed since the run was trained")
    return lines


def _whole_epochs(rows: list[dict[str, float]]) -> int:
    """How many epochs were trained to their end."""
    steps = [0.0, *(row["step"] for row in rows if row["epoch"] > 0)]
    lengths = [later - earlier for earlier, later in itertools.pairwise(steps)]
    return len(lengths) - (bool(lengths) and lengths[-1] < lengths[0])


def compared(old: list[dict[str, float]], new: list[dict[str, float]], cell: Sequence[Path]) -> tuple[str, bool]:
    """What a verification says, and whether the run came out the same: bit for bit, or within the seeds' spread."""
    from statistics import stdev

    pairs = [(row["epoch"], key, row[key], other.get(key)) for row, other in zip(old, new, strict=False) for key in row]
    pairs = [pair for pair in pairs if not pair[1].startswith(_TIMES)]
    differing = [pair for pair in pairs if pair[2] != pair[3] and not _both_are_nan(*pair[2:])]
    if len(old) == len(new) and not differing:
        return f"the same, bit for bit: {len(pairs)} figures of {len(old)} epochs", True
    if len(old) != len(new):
        return f"not the same: {len(new)} epochs in place of {len(old)}", False
    epoch, key, was, now = differing[0]
    message = f"first differs at epoch {epoch:.0f}, {key}: {was!r} was recorded, {now!r} came out"
    columns = [key for key in files.metrics_of(old[-1]) if key.startswith("val/")] or files.metrics_of(old[-1])
    found = dict.fromkeys(key for _, key, _, _ in differing)
    last = [key for key in found if key in columns] or [key for key in found if key in old[-1]]
    finals = [
        row for path in cell for row in files.read_history(path / files.HISTORY) if row["epoch"] == old[-1]["epoch"]
    ]
    lines, within = [message], bool(last)
    for key in last:
        before, after = old[-1][key], new[-1].get(key, math.nan)
        values = [final[key] for final in finals if key in final]
        spread = stdev(values) if len(values) > 1 else None
        inside = spread is not None and abs(after - before) <= 2 * spread
        within &= inside
        against = (
            f"two standard deviations of {len(values)} seeds: {2 * spread:.4g}" if spread is not None else "one seed"
        )
        lines.append(f"{key}: {before:.4f} recorded, {after:.4f} now ({against})")
    lines.append("within the seeds' spread" if within else "not the same")
    return "\n".join(lines), within


def _both_are_nan(was: float, now: float | None) -> bool:
    return now is not None and math.isnan(was) and math.isnan(now)


def _without_test(rows: list[dict[str, float]], until: float) -> list[dict[str, float]]:
    """Rows of the first epochs, without the metrics of the test set, which a run's last epoch alone has."""
    rows = [row for row in rows if row["epoch"] <= until]
    return [{key: value for key, value in row.items() if not key.startswith("test/")} for row in rows]
