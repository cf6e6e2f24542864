"""`retable evaluate`: a trained model's metrics by class and by image, on any set of its task's format."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retable import atomic
from retable.errors import ConfigError, DataError, in_one_line

if TYPE_CHECKING:
    import pandas as pd

    from retable.data.arrays import ImageSet, Splits
    from retable.run.foreign_use import TrainedModule
    from retable.run.restore import Trained

MOST_ROWS = 30  # images listed on the screen; --csv has them all


def add(commands: argparse._SubParsersAction) -> None:
    evaluate = commands.add_parser(
        "evaluate",
        help="print a trained model's metrics on a set, by class and by image",
        description="Print the metrics of a trained model on any set of its task's format, by class and by image.",
        epilog="example: retable evaluate multirun/gland/default__seed-0 data/warwick --split test --csv images.csv; of"
        " a LightningModule of your own, which brings its data: retable evaluate multirun/leaves/default__seed-0",
    )
    evaluate.add_argument("checkpoint", type=Path, help="a last.ckpt, or the directory of a run")
    add_data(evaluate)
    add_set_options(evaluate)
    add_which(evaluate)
    add_trust(evaluate)
    evaluate.add_argument("--csv", type=Path, metavar="FILE", help="also write a row an image to this file")
    evaluate.set_defaults(do=_evaluate)


def add_data(parser: argparse.ArgumentParser) -> None:
    """The argument that names a set."""
    parser.add_argument(
        "data",
        type=Path,
        nargs="?",
        help="the set's folder, as data.root holds it for this task; of a LightningModule of one's own none",
    )


def check_location(trained: "Trained | TrainedModule", location: Path | None) -> bool:
    """Whether a run is of a Task, for which a set's folder must be named.

    Raises:
        ConfigError: for a Task without a folder, and a LightningModule of somebody's own with one.
    """
    from retable.run.restore import Trained

    task = isinstance(trained, Trained)
    if task and location is None:
        raise ConfigError(f"data: missing; {trained.name} is measured on a set's folder")
    if not task and location is not None:
        raise ConfigError(f"{location}: {trained.name} brings its own DataModule; --set KEY=VALUE for its arguments")
    return task


def count(option: str, value: int, least: int = 1) -> None:
    """Refuse what is no whole number of at least so much.  Raises: ConfigError."""
    from retable import checks

    try:
        checks.integer(option, value, least)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def write(option: str, path: Path, content: bytes) -> None:
    """Write the file that an option names.  Raises: ConfigError where it can't be written."""
    try:
        atomic.write_output(path, content)
    except OSError as error:
        raise ConfigError(f"{option} {path}: cannot be written ({error.strerror})") from error


def add_which(parser: argparse.ArgumentParser) -> None:
    """The option for runs that have kept more than one checkpoint."""
    parser.add_argument(
        "--checkpoint",
        dest="which",
        choices=("last", "best"),
        help="of a run's directory: the last epoch's weights, or the best one's (runs with checkpoint=best or both)",
    )


def add_trust(parser: argparse.ArgumentParser) -> None:
    """The option for checkpoints whose config names classes of somebody else's."""
    parser.add_argument(
        "--trust", action="store_true", help="build whatever the checkpoint's config names, which may execute code"
    )


def add_set_options(parser: argparse.ArgumentParser) -> None:
    """Options that say which split of which set is meant."""
    parser.add_argument(
        "--split",
        choices=("train", "val", "test", "all"),
        help="default: test where the set has one, else val",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a key of data that differs from the run's, e.g. --set 'val=[7]'; may be given several times",
    )


def settings_of(texts: Sequence[str]) -> dict[str, Any]:
    """What --set gave.  Raises: ConfigError."""
    return values_of("--set", [text.removeprefix("data.") for text in texts], "size=128")


def values_of(option: str, texts: Sequence[str], example: str) -> dict[str, Any]:
    """By key the values of an option that is given as KEY=VALUE, each as YAML.  Raises: ConfigError."""
    import yaml

    found = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not key or not sign:
            raise ConfigError(f"{option} {text}: accepted is KEY=VALUE, e.g. {example}")
        try:
            found[key] = yaml.safe_load(value)
        except (yaml.YAMLError, RecursionError, ValueError, TypeError) as error:
            raise ConfigError(f"{option} {text}: is no YAML ({in_one_line(error)})") from error
    return found


def _evaluate(options: argparse.Namespace) -> None:
    from retable.run.restore import load

    trained = load(options.checkpoint, options.trust, options.which)
    if not check_location(trained, options.data):
        _evaluate_module(trained, options)
        return
    found = evaluate(trained, options.data, options.split, settings_of(options.set))
    print(f"{trained.name} on {options.data} · {found.split}: {len(found.by_image)} images")
    for reason, count in found.counts.get("reasons", {}).items():
        print(f"left out: {count}, {reason}", file=sys.stderr)
    print("\n" + "\n".join(f"{name:<24} {value:.4f}" for name, value in found.metrics.items() if "/" not in name))
    print("\n" + _text(found.by_class))
    rows = found.by_image
    print("\n" + _text(rows.head(MOST_ROWS)))
    if len(rows) > MOST_ROWS:
        print(f"... {len(rows) - MOST_ROWS} more{'' if options.csv else ': --csv FILE writes them all'}")
    if options.csv:
        write("--csv", options.csv, rows.to_csv(index=False, lineterminator="\n").encode())


def _evaluate_module(trained: "TrainedModule", options: argparse.Namespace) -> None:
    from retable.run.foreign_use import measured

    if options.csv:
        raise ConfigError(f"--csv: what {trained.name} logs is no table by image; accepted: no --csv")
    split, metrics = measured(trained, options.split, settings_of(options.set))
    print(f"{trained.name} on {trained.config['data']['_target_']} · {split}\n")
    print("\n".join(f"{name:<24} {value:.4f}" for name, value in metrics.items()))


def _text(table: "pd.DataFrame") -> str:
    return table.to_string(index=False, float_format="{:.4f}".format, na_rep="-")


@dataclass(frozen=True)
class Evaluation:
    """The metrics of a model on one split of a set.

    Attributes:
        split: train, val, test or all.
        metrics: loss and the task's metrics by name.
        by_class, by_image: a row a class, a row an image.
        images: the split's images, in the order of by_image.
        counts: what the set holds and what was left out of it, with reasons.

    Of a LightningModule of somebody's own there are split and metrics alone: no rows, no images, no counts.
    """

    split: str
    metrics: dict[str, float]
    by_class: "pd.DataFrame"
    by_image: "pd.DataFrame"
    images: "ImageSet | None"
    counts: dict[str, Any]


def evaluate(
    trained: "Trained | TrainedModule",
    location: Path | None = None,
    split: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Run a trained model over a set.

    Args:
        location: folder (or file, where the task's format is one) in the place of the task's own set; None for a
            LightningModule of somebody's own, which has a DataModule.
        split: train, val, test, or all of them; by default test where the format has such a split, else val.
        settings: keys of the data configuration that differ from the run's, e.g. {"val": [7]}.

    Raises:
        ConfigError, DataError: one line: no such split, a set of another kind, or whatever its reader refuses.
    """
    import torch

    from retable.config.build import build
    from retable.config.targets import check_targets
    from retable.data.arrays import joined
    from retable.data.loader import DeviceLoader
    from retable.tasks.build import HINT

    if not check_location(trained, location):
        import pandas as pd

        from retable.run.foreign_use import measured

        return Evaluation(*measured(trained, split, settings), pd.DataFrame(), pd.DataFrame(), None, {})
    if not location.exists():
        task = trained.config["task"]["name"]
        raise DataError(f"{location}: no such file or folder; accepted: a set in the format of task={task}")
    check_targets(trained.config, trained.path, ("data",), trained.trust, HINT)
    left = ("cache",) if split == "train" else ("cache", "fraction")  # the training images are those of data.fraction
    given = {key: value for key, value in trained.config["data"].items() if key not in left}
    if "RETABLE_CACHE" in os.environ:
        given["cache"] = os.environ["RETABLE_CACHE"]  # never a folder that the checkpoint names
    data = build(given | {"source": "real"} | dict(settings or {}), "data", seed=0, augment=None)
    data.read_at(location, trained.classes)
    data.prepare()
    splits = _splits(data.splits, split)
    same_size = trained.task.any_size or tuple(data.image_shape) == trained.image_shape
    if tuple(data.classes) != trained.classes or not same_size:
        raise DataError(
            f"{location}: classes {', '.join(data.classes)}, images {tuple(data.image_shape)}; {trained.name} was"
            f" trained on {', '.join(trained.classes)}, {trained.image_shape}"
        )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    task, name = trained.task.to(device).eval(), split or next(iter(splits))
    task.start(name)
    with torch.inference_mode():
        for key in splits:
            images, targets = data.resident_on(device)[key]
            for batch in DeviceLoader(images, targets, data.eval_batch_size, trained.normalise, shuffle=False):
                task.evaluate_batch(name, *batch)
    metrics = {key.removeprefix(f"{name}/"): value for key, value in task.metrics_of(name).items()}
    whole = joined(list(splits.values()))
    by_class, by_image = task.tables(name, whole, trained.normalise)
    return Evaluation(name, metrics, by_class, by_image, whole, data.counts)


def _splits(splits: "Splits", wanted: str | None) -> dict[str, "ImageSet"]:
    """The splits that `--split` asks for; "all" is each image once, also where validation is the test set."""
    if wanted == "all":
        return splits.distinct
    wanted = wanted or ("val" if splits.test is None else "test")
    if wanted not in splits.by_name:
        raise ConfigError(f"--split {wanted}: accepted: {', '.join(splits.by_name)}, all")
    return {wanted: splits.by_name[wanted]}
