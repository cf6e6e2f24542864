"""The command `ablate`: what is done with finished runs."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ablate import __version__
from ablate.errors import AblateError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `ablate ...`. Exit codes: 0 done, 2 refused."""
    parser = argparse.ArgumentParser("ablate", description="What is done with finished runs. To train: python train.py")
    parser.add_argument("--version", action="version", version=f"ablate {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_predict(commands)
    _add_report(commands)
    options = parser.parse_args(arguments)
    try:
        options.do(options)
    except AblateError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # `ablate predict ... | head`
        sys.stderr.close()


def _add_predict(commands: argparse._SubParsersAction) -> None:
    predict = commands.add_parser(
        "predict",
        help="label images with a trained classifier",
        description="Print each image's predicted label and its probability, and the accuracy where labels are known.",
    )
    predict.add_argument("checkpoint", type=Path, help="a last.ckpt, or the directory of a run")
    predict.add_argument(
        "images", type=Path, nargs="+", help="images, folders, zip or tar archives, a CIFAR batch, or an idx file"
    )
    predict.add_argument("--quiet", action="store_true", help="the accuracy alone")
    predict.set_defaults(do=_predict)


def _predict(options: argparse.Namespace) -> None:
    from ablate.predict import predict
    from ablate.run.restore import load

    found = predict(load(options.checkpoint), options.images)
    known = [p for p in found if p.truth is not None]
    if not options.quiet:
        width = max(len(p.name) for p in found)
        for p in found:
            truth = "" if p.truth is None else f"  {'right' if p.truth == p.label else f'wrong, it is {p.truth}'}"
            print(f"{p.name:<{width}}  {p.label:<8} {p.probability:6.1%}{truth}")
    if known:
        right = sum(p.truth == p.label for p in known)
        print(f"accuracy {right / len(known):.4f} ({right} of {len(known)})")
    else:
        print(f"{len(found)} images; no labels known, so no accuracy")


def _add_report(commands: argparse._SubParsersAction) -> None:
    report = commands.add_parser(
        "report",
        help="make the tables of finished runs, with a verdict on every claim",
        description="Make the tables of conf/experiment from run directories: report.md, report.csv and report.tex a"
        " table, and HTML pages with an index. The same directories give the same bytes.",
        epilog="example: ablate report multirun --experiment cifar/dropout --where trainer.max_epochs=30",
    )
    report.add_argument(
        "paths",
        type=Path,
        nargs="+",
        metavar="PATH",
        help="a sweep's folder (multirun), a task's, or a run's directory",
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

    from ablate.errors import ConfigError
    from ablate.report.claims import judge
    from ablate.report.markdown import claims_line
    from ablate.report.match import tables_of
    from ablate.report.pages import write_all
    from ablate.report.runs import read_runs

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
    entries = tables_of(runs, names, where)
    if not entries:
        raise ConfigError(
            f"{shown}: none of {len(runs.records)} runs{' so chosen' if where else ''} is of a table in"
            " conf/experiment; accepted: runs of python train.py -m experiment=..."
        )
    pages, index = write_all(entries, options.output or options.paths[0] / "tables")
    width = max(len(table.name) for table, _ in entries)
    for (table, assigned), page in zip(entries, pages, strict=True):
        print(f"{table.name:<{width}}  {claims_line(judge(table, assigned))}  {page}")
    if index is not None:
        print(f"index: {index}")


if __name__ == "__main__":
    main()
