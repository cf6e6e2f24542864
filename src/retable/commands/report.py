"""`retable report`: the tables of finished runs."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from retable.commands.table import add_source, conditions, read_source, report_command
from retable.config.folders import train_command

if TYPE_CHECKING:
    from retable.report.evaluated import Evaluated


def add(commands: argparse._SubParsersAction) -> None:
    report = commands.add_parser(
        "report",
        help="make the tables of finished runs, with a verdict on every claim",
        description="Make the tables of conf/experiment from run directories: report.md, report.csv and report.tex a"
        " table, and HTML pages with an index. The same directories give the same bytes. With --from: the same of runs"
        " that another program has recorded.",
        epilog="examples: retable report multirun --experiment cifar/dropout --where trainer.max_epochs=30;"
        " retable report --from mlflow mlruns --table table.yaml",
    )
    report.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="a sweep's folder (multirun), a task's, or a run's directory; two with runs of the same cells are also"
        " set side by side, in compare.md; with --from: where that program's runs lie",
    )
    report.add_argument(
        "--experiment",
        action="append",
        default=[],
        metavar="NAMES",
        help="tables to make, e.g. cifar/dropout,cifar/init (default: every table of which there is a run)",
    )
    add_source(report)
    report.add_argument(
        "--table", type=Path, metavar="FILE", help="with --from: the table's file (default: what varies among the runs)"
    )
    report.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder of the pages (default: <first PATH>/tables; with --from: tables)",
    )
    report.set_defaults(do=_report)


def _report(options: argparse.Namespace) -> None:
    from retable.errors import ConfigError

    if options.program:
        _report_foreign(options)
        return
    for name in ("table", "seed", "name", "without", "metric"):
        if value := getattr(options, name):
            given = value[0] if isinstance(value, list) else value
            raise ConfigError(f"--{name} {given}: accepted: with --from; else --experiment NAME")
    paths = [Path(path) for path in options.paths]
    for path in paths:
        if not path.is_dir():
            raise ConfigError(f"{path}: no such folder; accepted: a sweep's folder, a task's, or a run's directory")
    names = [name for text in options.experiment for name in text.split(",") if name]
    make_pages(paths, options.output, names, conditions(options.where))


def make_pages(
    paths: Sequence[Path],
    output: Path | None = None,
    names: Sequence[str] = (),
    where: Mapping[str, object] | None = None,
) -> "list[Evaluated]":
    """Write the files of all tables that the runs at or below the paths make, and say which.

    Args:
        output: folder of the pages, by default `tables` below the first path.
        names: experiments, by default all of which there is a run.
        where: value by key of the config that a run must have.

    Returns:
        The tables.

    Raises:
        ConfigError: where there is no run, or none of a table.
    """
    from retable.errors import ConfigError
    from retable.report.evaluated import evaluate
    from retable.report.index import write_index
    from retable.report.match import tables_of
    from retable.report.runs import read_runs

    runs = read_runs(paths)
    for broken in runs.broken:
        print(f"broken, left out: {broken.path}: {broken.reason}", file=sys.stderr)
    shown = ", ".join(map(str, paths))
    if not runs.records:
        raise ConfigError(f"{shown}: no run directory; accepted: folders with run.json in them or below")
    entries = [evaluate(table, assigned) for table, assigned in tables_of(runs, names, where)]
    folder = output or paths[0] / "tables"
    swept = [] if names or where else [page for path in paths if (page := path / "tables").is_dir()]
    pages = [page for place in swept for page in _sweep_pages(place)]
    for page in pages:
        print(f"sweep: {page}")
    if not entries and pages:
        print(f"index: {write_index(swept[0])}")
        return []
    if not entries:
        raise ConfigError(
            f"{shown}: none of {len(runs.records)} runs{' so chosen' if where else ''} is of a table in"
            f" conf/experiment; accepted: runs of {' '.join(train_command(many=True))} experiment=..."
        )
    if len(paths) == 2:
        _compare(paths, names, where, folder)
    _write(entries, folder, paths[0] / "receptive", asked=names)
    return entries


def _sweep_pages(folder: Path) -> list[Path]:
    """Make the pages of the sweeps without an experiment again."""
    from retable.report.sweep_page import NOTE, write_sweep_page

    found = []
    for note in sorted(folder.rglob(NOTE)):
        page = write_sweep_page(note.parent, "../" * len(note.parent.relative_to(folder).parts) + "index.html")
        found += [page] if page else []
    return found


def _report_foreign(options: argparse.Namespace) -> None:
    """The table of runs that another program has recorded."""
    from retable.errors import ConfigError
    from retable.report.evaluated import evaluate
    from retable.report.foreign import read_table, swept_of, table_of
    from retable.report.sweep_page import write_swept

    if options.experiment:
        raise ConfigError(f"--experiment {options.experiment[0]}: accepted: with --from, --table FILE")
    if options.table and options.metric:
        raise ConfigError(f"--metric {options.metric[0]}: accepted: without --table, whose file names its metrics")
    foreign = read_source(options)
    command = report_command(options, options.table, options.output)
    folder = options.output or Path("tables")
    if not options.table:
        swept = swept_of(foreign, options.program, options.metric, command)
        print(f"page: {write_swept(swept, folder / options.program, '')}")
        return
    table = read_table(options.table)
    _write([evaluate(table, table_of(table, foreign), command)], folder, folder / "receptive")


def _write(entries: "list[Evaluated]", folder: Path, studies: Path, asked: Sequence[str] = ()) -> None:
    from retable.report.copies import write_table
    from retable.report.index import write_site

    width = max(len(found.table.name) for found in entries)
    for found in entries:
        path = write_table(found, folder / found.table.name)
        print(f"{found.table.name:<{width}}  {found.claims_line}  {path}")
    print(f"index: {write_site(entries, folder, studies, asked)}")


def _compare(paths: Sequence[Path], names: Sequence[str], where: Mapping[str, object] | None, folder: Path) -> None:
    """Two folders side by side, where they have runs of the same cells."""
    from retable import atomic
    from retable.config.compose import Composer
    from retable.report.evaluated import evaluate
    from retable.report.match import tables_of
    from retable.report.runs import read_runs
    from retable.report.side_by_side import COMPARE, side_by_side

    # Tables that the first folder has not got are in no comparison: the second is asked for those of the first alone.
    composer = Composer()
    left = [evaluate(*pair) for pair in tables_of(read_runs([paths[0]]), names, where, composer)]
    shared = [found.table.name for found in left]
    right = [evaluate(*pair) for pair in tables_of(read_runs([paths[1]]), shared, where, composer)] if shared else []
    text = side_by_side((paths[0].as_posix(), paths[1].as_posix()), left, right)
    if text:
        atomic.write_text(folder / COMPARE, text)
        print(f"side by side: {folder / COMPARE}")
