"""`retable table new`: a table's file drafted from runs that another program has recorded."""

import argparse
import shlex
from pathlib import Path


def add(commands: argparse._SubParsersAction) -> None:
    table = commands.add_parser("table", help="draft a table's file from anybody's runs")
    kinds = table.add_subparsers(dest="kind", required=True, metavar="new")
    new = kinds.add_parser(
        "new",
        help="draft a table's file from what varies among runs",
        description="Draft a table's file from what varies among runs that another program has recorded. Cells are"
        " grouped by everything but the seed; published figures and claims are left to add.",
        epilog="example: retable table new --from mlflow mlruns --rows dropout --columns optimizer --output table.yaml",
    )
    add_source(new, required=True)
    new.add_argument("paths", nargs="+", metavar="PLACE", help="where the program keeps its runs")
    for name in ("rows", "columns"):
        new.add_argument(
            f"--{name}", default="", metavar="NAMES", help=f"settings that are the table's {name}, with commas between"
        )
    new.add_argument(
        "--metric", action="append", default=[], metavar="NAME", help="a figure that is shown, e.g. val/accuracy"
    )
    new.add_argument("--output", type=Path, metavar="FILE", help="where to write it (default: to the terminal)")
    new.set_defaults(do=_new)


def add_source(parser: argparse.ArgumentParser, required: bool = False) -> None:
    """Add the options that say whose runs are read, and which of them."""
    parser.add_argument(
        "--from",
        dest="program",
        required=required,
        metavar="PROGRAM",
        help="whose runs lie at the places: csv, hydra, mlflow, tensorboard or wandb",
    )
    parser.add_argument(
        "--seed", metavar="KEY", help="with --from: the setting that is the seed (default: by its name)"
    )
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="only runs whose config has this value; may be given several times",
    )


def source_words(options: argparse.Namespace) -> list[str]:
    """The words of a command line that read the same runs, for the command that a page or a file names."""
    seed = ["--seed", options.seed] if options.seed else []
    where = [word for condition in options.where for word in ("--where", condition)]
    return ["--from", options.program, *options.paths, *seed, *where]


def _new(options: argparse.Namespace) -> None:
    from retable import atomic
    from retable.errors import ConfigError
    from retable.report.draft import draft, draft_text
    from retable.report.foreign import read_foreign

    if options.output and options.output.exists():
        raise ConfigError(f"--output {options.output}: is there already; accepted: a file that is not")
    foreign = read_foreign(options.program, options.paths, options.seed, conditions(options.where))
    rows, columns = ([name for name in text.split(",") if name] for text in (options.rows, options.columns))
    table = draft(foreign.records, rows, columns, options.metric)
    command = shlex.join(["retable", "report", *source_words(options), "--table", str(options.output or "table.yaml")])
    text = draft_text(table, len(foreign.records), options.program, command)
    if options.output:
        atomic.write_text(options.output, text)
        print(f"{len(table['cells'])} cells of {len(foreign.records)} runs: {options.output}")
    else:
        print(text, end="")


def conditions(texts: list[str]) -> dict[str, object]:
    """The values of `--where`.  Raises: ConfigError."""
    import yaml

    from retable.errors import ConfigError

    found: dict[str, object] = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not key or not sign:
            raise ConfigError(f"--where {text}: accepted is KEY=VALUE, e.g. trainer.max_epochs=30")
        found[key] = yaml.safe_load(value)
    return found
