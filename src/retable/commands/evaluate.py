"""`retable evaluate`: a trained model's figures on any set of its task's format."""

import argparse
import sys
from pathlib import Path
from typing import Any

from retable.errors import ConfigError

MOST_ROWS = 30  # images listed on the screen; --csv has them all


def add(commands: argparse._SubParsersAction) -> None:
    evaluate = commands.add_parser(
        "evaluate",
        help="print a trained model's metrics on a set, by class and by image",
        description="Print the metrics of a trained model on any set of its task's format, by class and by image.",
        epilog="example: retable evaluate multirun/gland/default__seed-0 data/warwick --part test --csv images.csv",
    )
    evaluate.add_argument("checkpoint", type=Path, help="a last.ckpt, or the directory of a run")
    evaluate.add_argument("data", type=Path, help="the set's folder, as data.root holds it for this task")
    add_set_options(evaluate)
    evaluate.add_argument("--csv", type=Path, metavar="FILE", help="also write a row an image to this file")
    evaluate.set_defaults(do=_evaluate)


def add_set_options(parser: argparse.ArgumentParser) -> None:
    """Options that say which part of which set is meant."""
    parser.add_argument(
        "--part", choices=("train", "val", "test", "all"), help="default: test where the set has such a part, else val"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a key of data that differs from the run's, e.g. --set 'val=[7]'; may be given several times",
    )


def settings_of(texts: list[str]) -> dict[str, Any]:
    """What --set gave. Raises ConfigError."""
    import yaml

    settings = {}
    for text in texts:
        key, sign, value = text.removeprefix("data.").partition("=")
        if not key or not sign:
            raise ConfigError(f"--set {text}: accepted: KEY=VALUE, e.g. size=128")
        settings[key] = yaml.safe_load(value)
    return settings


def _evaluate(options: argparse.Namespace) -> None:
    from retable.commands.evaluation import evaluate
    from retable.run.restore import load

    trained = load(options.checkpoint)
    found = evaluate(trained, options.data, options.part, settings_of(options.set))
    print(f"{trained.name} on {options.data} · {found.part}: {len(found.by_image)} images")
    for reason, count in found.counts.get("reasons", {}).items():
        print(f"left out: {count}, {reason}", file=sys.stderr)
    print("\n" + "\n".join(f"{name:<24} {value:.4f}" for name, value in found.metrics.items() if "/" not in name))
    print("\n" + _text(found.by_class))
    rows = found.by_image
    print("\n" + _text(rows.head(MOST_ROWS)))
    if len(rows) > MOST_ROWS:
        print(f"... {len(rows) - MOST_ROWS} more{'' if options.csv else ': --csv FILE writes them all'}")
    if options.csv:
        try:
            rows.to_csv(options.csv, index=False)
        except OSError as error:
            raise ConfigError(f"--csv {options.csv}: cannot be written ({error.strerror})") from error


def _text(table: Any) -> str:
    return table.to_string(index=False, float_format="{:.4f}".format, na_rep="-")
