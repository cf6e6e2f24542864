"""`retable report`: the tables of finished runs."""

import argparse
import sys
from pathlib import Path
from typing import Any


def add(commands: argparse._SubParsersAction) -> None:
    report = commands.add_parser(
        "report",
        help="make the tables of finished runs, with a verdict on every claim",
        description="Make the tables of conf/experiment from run directories: report.md, report.csv and report.tex a"
        " table, and HTML pages with an index. The same directories give the same bytes.",
        epilog="example: retable report multirun --experiment cifar/dropout --where trainer.max_epochs=30",
    )
    report.add_argument(
        "paths",
        type=Path,
        nargs="+",
        metavar="PATH",
        help="a sweep's folder (multirun), a task's, or a run's directory; two with runs of the same cells are also"
        " set side by side, in compare.md",
    )
    report.add_argument(
        "--experiment",
        action="append",
        default=[],
        metavar="NAMES",
        help="tables to make, e.g. cifar/dropout,cifar/init (default: every table of which there is a run)",
    )
    report.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="only runs whose config has this value; may be given several times",
    )
    report.add_argument("--output", type=Path, metavar="DIR", help="folder of the pages (default: <first PATH>/tables)")
    report.set_defaults(do=_report)


def _report(options: argparse.Namespace) -> None:
    import yaml

    from retable.errors import ConfigError
    from retable.report.evaluated import evaluate
    from retable.report.match import tables_of
    from retable.report.runs import read_runs
    from retable.report.site import write_site, write_table

    where = {}
    for text in options.where:
        key, sign, value = text.partition("=")
        if not key or not sign:
            raise ConfigError(f"--where {text}: accepted is KEY=VALUE, e.g. trainer.max_epochs=30")
        where[key] = yaml.safe_load(value)
    for path in options.paths:
        if not path.is_dir():
            raise ConfigError(f"{path}: no such folder; accepted: a sweep's folder, a task's, or a run's directory")
    runs = read_runs(options.paths)
    for broken in runs.broken:
        print(f"broken, left out: {broken.path}: {broken.reason}", file=sys.stderr)
    shown = ", ".join(map(str, options.paths))
    if not runs.records:
        raise ConfigError(f"{shown}: no run directory; accepted: folders with run.json in them or below")
    names = [name for text in options.experiment for name in text.split(",") if name]
    entries = [evaluate(table, assigned) for table, assigned in tables_of(runs, names, where)]
    if not entries:
        raise ConfigError(
            f"{shown}: none of {len(runs.records)} runs{' so chosen' if where else ''} is of a table in"
            " conf/experiment; accepted: runs of python train.py -m experiment=..."
        )
    folder = options.output or options.paths[0] / "tables"
    if len(options.paths) == 2:
        _compare(options.paths, names, where, folder)
    width = max(len(found.table.name) for found in entries)
    for found in entries:
        print(f"{found.table.name:<{width}}  {found.claims_line}  {write_table(found, folder)}")
    print(f"index: {write_site(entries, folder, options.paths[0] / 'receptive')}")


def _compare(paths: list[Path], names: list[str], where: dict[str, Any], folder: Path) -> None:
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
