"""`retable compare`: the same images under two trained segmentation models, as one picture."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retable.commands.evaluate import (
    add_data,
    add_set_options,
    add_trust,
    add_which,
    check_location,
    count,
    evaluate,
    settings_of,
)
from retable.errors import ConfigError

if TYPE_CHECKING:
    from retable.run.foreign_use import TrainedModule
    from retable.run.restore import Trained


def add(commands: argparse._SubParsersAction) -> None:
    compare = commands.add_parser(
        "compare",
        help="draw the same images under two trained segmentation models",
        description="Draw the images that the second model segments best and worst, as both models segment them. Of two"
        " LightningModules of one's own, what both log of the same data.",
        epilog="example: retable compare outputs/gland/first outputs/gland/second data/warwick",
    )
    compare.add_argument("first", type=Path, help="a last.ckpt, or the directory of a run")
    compare.add_argument("second", type=Path, help="another one of the same task")
    add_data(compare)
    add_set_options(compare)
    add_which(compare)
    add_trust(compare)
    compare.add_argument("--images", type=int, metavar="N", help="so many of the best and of the worst (3)")
    compare.add_argument("--output", type=Path, metavar="PNG", help="default: compare.png")
    compare.set_defaults(do=_compare)


def _compare(options: argparse.Namespace) -> None:
    from retable.run.restore import load

    first, second = (load(path, options.trust, options.which) for path in (options.first, options.second))
    if [check_location(model, options.data) for model in (first, second)] == [False, False]:
        _compare_modules(first, second, options)
        return
    output, images = options.output or Path("compare.png"), 3 if options.images is None else options.images
    rows = compare(first, second, options.data, output, images, options.split, settings_of(options.set))
    for name, *dice in rows:
        print(f"{name}  " + "  ".join(f"{value:.4f}" for value in dice))
    print(output)


def _compare_modules(first: "TrainedModule", second: "TrainedModule", options: argparse.Namespace) -> None:
    for name in ("images", "output"):
        if getattr(options, name) is not None:
            raise ConfigError(f"--{name}: not accepted for {first.name}, a LightningModule of one's own")
    rows = compare_modules(first, second, options.split, settings_of(options.set))
    print(f"{'':<24} {'first':>10} {'second':>10} {'change':>10}")
    for name, *values in rows:
        print(f"{name:<24} {values[0]:>10.4f} {values[1]:>10.4f} {values[1] - values[0]:>+10.4f}")


def compare_modules(
    first: "TrainedModule", second: "TrainedModule", split: str | None = None, settings: Mapping[str, Any] | None = None
) -> list[tuple[str, float, float]]:
    """What both of two LightningModules log of the second one's data: name, the first's value, the second's.

    Args:
        split, settings: as for `retable.run.foreign_use.measured`.

    Raises:
        ConfigError: one line, for modules that log nothing under the same name, and what `measured` refuses.
    """
    from dataclasses import replace

    from retable.run.foreign_use import measured

    config = first.config | {key: second.config[key] for key in ("data", "seed")}  # the seed decides on what is drawn
    (_, one), (_, other) = (measured(m, split, settings) for m in (replace(first, config=config), second))
    names = [name for name in one if name in other]
    if not names:
        raise ConfigError(f"{first.name} and {second.name}: log nothing under the same name")
    return [(name, one[name], other[name]) for name in names]


def compare(
    first: "Trained",
    second: "Trained",
    location: Path,
    output: Path,
    each: int = 3,
    split: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> list[tuple[str, float, float]]:
    """Draw the `each` best and worst images by the second model's dice: input, truth, both predictions.

    Args:
        location, split, settings: as for `evaluate`, of the second model's own data.
        output: the PNG to write.

    Returns:
        Name, dice under the first and dice under the second model of each image drawn.

    Raises:
        ConfigError: models that are not both of segmentation; DataError: see `evaluate`.
    """
    from dataclasses import replace

    import numpy as np
    import torch

    from retable.figures.segmentation import ranked, sheet
    from retable.tasks.segmentation import Segmentation

    count("--images", each)
    for model in (first, second):
        if not isinstance(getattr(model, "task", None), Segmentation):
            raise ConfigError(f"{model.name}: no segmentation model; accepted: runs of a task of segmentation")
    first = replace(first, config=first.config | {"data": second.config["data"]})  # which images a split has
    found = [evaluate(model, location, split, settings) for model in (first, second)]
    dice = [ranked(m.task.matrices(f.split), m.task.scored)[1] for m, f in zip((first, second), found, strict=True)]
    order, _ = ranked(second.task.matrices(found[1].split), second.task.scored)
    each = min(each, len(order) // 2) or 1
    chosen = np.unique(np.concatenate([order[:each], order[-each:]]))
    chosen = chosen[np.argsort(-dice[1][chosen], kind="stable")]
    images = found[1].images.take(chosen)
    predictions = [
        model.task.predict(model.normalise(torch.from_numpy(np.array(images.images)))).numpy()
        for model in (first, second)
    ]
    truth = second.task.labels(torch.from_numpy(np.array(images.targets)).long()).numpy()
    notes = [f"dice {dice[0][i]:.3f} | {dice[1][i]:.3f}" for i in chosen]
    title = f"{first.name} | {second.name} · {found[1].split}"
    sheet(images.images, truth, predictions, images.names, notes, second.classes, output, title, ("first", "second"))
    return [(name, float(dice[0][i]), float(dice[1][i])) for name, i in zip(images.names, chosen, strict=True)]
