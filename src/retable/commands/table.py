"""`retable table new`: a table's file drafted from finished runs, this project's or those of another program."""

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from retable.commands.evaluate import values_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retable.report.foreign import Foreign
    from retable.report.runs import RunRecord


def add(commands: argparse._SubParsersAction) -> None:
    table = commands.add_parser("table", help="draft a table's file from anybody's runs")
    kinds = table.add_subparsers(dest="kind", required=True, metavar="new")
    new = kinds.add_parser(
        "new",
        help="draft a table's file from what varies among runs",
        description="Draft a table's file from what varies among runs: those of a sweep, or with --from those that"
        " another program has recorded. Cells are grouped by everything but the seed; published figures and claims are"
        " left to add.",
        epilog="examples: retable table new multirun --output conf/experiment/mnist/mine.yaml;"
        " retable table new --from mlflow mlruns --rows dropout --columns optimizer --output table.yaml",
    )
    add_source(new)
    new.add_argument(
        "paths",
        nargs="+",
        metavar="PLACE",
        help="a sweep's folder (multirun), a task's, or a run's; with --from: where that program keeps its runs",
    )
    for name in ("rows", "columns"):
        new.add_argument(
            f"--{name}", default="", metavar="NAMES", help=f"settings that are the table's {name}, with commas between"
        )
    new.add_argument("--output", type=Path, metavar="FILE", help="where to write it (default: to the terminal)")
    new.set_defaults(do=_new)


def add_source(parser: argparse.ArgumentParser) -> None:
    """Add the options that say whose runs are read, and which of them."""
    parser.add_argument(
        "--from",
        dest="program",
        metavar="PROGRAM",
        help="whose runs lie at the places: csv, hydra, mlflow, tensorboard or wandb",
    )
    parser.add_argument(
        "--seed", metavar="KEY", help="with --from: the setting that is the seed (default: by its name)"
    )
    parser.add_argument(
        "--name",
        metavar="PATTERN",
        help="with --from: which settings stand in the runs' names, e.g. 'lr_{lr}_seed_{seed}'",
    )
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        metavar="KEY",
        help="with --from: a setting or figure that is left out; may be given several times",
    )
    parser.add_argument(
        "--metric",
        action="append",
        default=[],
        metavar="NAME",
        help="with --from: a figure that is shown, and so no setting, e.g. val/accuracy; may be given several times",
    )
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="only runs whose config has this value; may be given several times",
    )


def read_source(options: argparse.Namespace) -> "Foreign":
    """The runs that these options say.  Raises: ConfigError, DataError."""
    from retable.report.foreign import read_foreign

    seed, where = options.seed, conditions(options.where)
    return read_foreign(options.program, options.paths, seed, where, options.without, options.metric, options.name)


def _new(options: argparse.Namespace) -> None:
    from retable import atomic
    from retable.errors import ConfigError
    from retable.report.asked import settings_asked, trained_again
    from retable.report.draft import draft, draft_text
    from retable.report.foreign import require_factors
    from retable.report.settings import one_a_cell

    if options.output and options.output.exists():
        raise ConfigError(f"--output {options.output}: is there already; accepted: a file that is not")
    rows, columns = ([name for name in text.split(",") if name] for text in (options.rows, options.columns))
    if options.program is None:
        records = _own_runs(options)
        table = trained_again(draft(records, rows, columns, options.metric, settings_asked(records)))
        command = shlex.join(["retable", "report", *options.paths, "--experiment", _experiment(options, records)])
        text = draft_text(table, len(records), "retable", command, task=records[0].task)
    else:
        records = list(read_source(options).records)
        require_factors(records)
        table = draft(records, rows, columns, options.metric)
        command = report_command(options, options.output or "table.yaml")
        text = draft_text(table, len(records), options.program, command)
        if hint := one_a_cell(records):
            print(f"note: {hint}", file=sys.stderr)
    if options.output:
        atomic.write_text(options.output, text)
        print(f"{len(table['cells'])} cells of {len(records)} runs: {options.output}")
    else:
        print(text, end="")


def _own_runs(options: argparse.Namespace) -> "list[RunRecord]":
    """This project's runs at the places, those that `--where` chooses.  Raises: ConfigError."""
    from retable.config.keys import lookup
    from retable.errors import ConfigError
    from retable.report.runs import equal, read_runs

    for name in ("seed", "name", "without"):
        if value := getattr(options, name):
            raise ConfigError(f"--{name} {value[0] if isinstance(value, list) else value}: accepted: with --from")
    accepted = "a sweep's folder, a task's, or a run's directory; with --from PROGRAM, another program's runs"
    for path in options.paths:
        if not Path(path).is_dir():
            raise ConfigError(f"{path}: no such folder; accepted: {accepted}")
    runs = read_runs(options.paths)
    for broken in runs.broken:
        print(f"broken, left out: {broken.path}: {broken.reason}", file=sys.stderr)
    if not runs.records:
        raise ConfigError(f"{', '.join(options.paths)}: no run of retable's; accepted: {accepted}")
    where = conditions(options.where)
    chosen = [one for one in runs.records if all(equal(lookup(one.config, k), v) for k, v in where.items())]
    if not chosen:
        raise ConfigError(f"--where: none of {len(runs.records)} runs is so")
    return chosen


def _experiment(options: argparse.Namespace, records: "Sequence[RunRecord]") -> str:
    """The name by which a report knows the file, where it lies below conf/experiment."""
    if options.output and "experiment" in options.output.parts[:-1]:
        place = options.output.with_suffix("").parts
        return "/".join(place[place.index("experiment") + 1 :])
    return f"{records[0].task}/table"


def report_command(options: argparse.Namespace, table: Path | str | None, folder: Path | None = None) -> str:
    """The command that makes the pages of these runs.

    Args:
        table: a table's file, which names its metrics itself.
        folder: where they go, if not to the usual place.
    """
    words = ["retable", "report", "--from", options.program, *options.paths]
    for name in ("seed", "name"):
        words += [f"--{name}", value] if (value := getattr(options, name)) else []
    for name in ("where", "without") if table else ("where", "metric", "without"):
        words += [word for value in getattr(options, name) for word in (f"--{name}", value)]
    words += ["--table", str(table)] if table else []
    words += ["--output", str(folder)] if folder else []
    return shlex.join(words)


def conditions(texts: list[str]) -> dict[str, object]:
    """The values of `--where`.  Raises: ConfigError."""
    return values_of("--where", texts, "trainer.max_epochs=30")
