"""`retable compare`: the same images under two trained segmentation models, as one picture."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retable.commands.evaluate import add_set_options, add_trust, add_which, evaluate, settings_of
from retable.errors import ConfigError

if TYPE_CHECKING:
    from retable.run.restore import Trained


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command to those of `retable`."""
    compare = commands.add_parser(
        "compare",
        help="draw the same images under two trained segmentation models",
        description="Draw the images that the second model segments best and worst, as both models segment them.",
        epilog="example: retable compare outputs/gland/first outputs/gland/second data/warwick",
    )
    compare.add_argument("first", type=Path, help="a last.ckpt, or the directory of a run")
    compare.add_argument("second", type=Path, help="another one of the same task")
    compare.add_argument("data", type=Path, help="the set's folder, as data.root holds it for this task")
    add_set_options(compare)
    add_which(compare)
    add_trust(compare)
    compare.add_argument("--images", type=int, default=3, metavar="N", help="so many of the best and of the worst (3)")
    compare.add_argument("--output", type=Path, default=Path("compare.png"), metavar="PNG", help="default: compare.png")
    compare.set_defaults(do=_compare)


def _compare(options: argparse.Namespace) -> None:
    from retable.run.restore import load

    models = [load(path, options.trust, options.which) for path in (options.first, options.second)]
    rows = compare(*models, options.data, options.output, options.images, options.part, settings_of(options.set))
    for name, *dice in rows:
        print(f"{name}  " + "  ".join(f"{value:.4f}" for value in dice))
    print(options.output)


def compare(
    first: "Trained",
    second: "Trained",
    location: Path,
    output: Path,
    each: int = 3,
    part: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> list[tuple[str, float, float]]:
    """Draw the `each` best and worst images by the second model's dice: input, truth, both predictions.

    Args:
        location, part, settings: as for `evaluate`.
        output: the PNG to write.

    Returns:
        Name, dice under the first and dice under the second model of each image drawn.

    Raises:
        ConfigError: models that are not both of segmentation; DataError: see `evaluate`.
    """
    import numpy as np
    import torch

    from retable import checks
    from retable.figures.segmentation import ranked, sheet
    from retable.tasks.segmentation import Segmentation

    checks.integer("--images", each, 1)
    for model in (first, second):
        if not isinstance(model.task, Segmentation):
            raise ConfigError(f"{model.name}: no segmentation model; accepted: runs of a task of segmentation")
    found = [evaluate(model, location, part, settings) for model in (first, second)]
    dice = [ranked(m.task.matrices(f.part), m.task.scored)[1] for m, f in zip((first, second), found, strict=True)]
    order, _ = ranked(second.task.matrices(found[1].part), second.task.scored)
    each = min(each, len(order) // 2) or 1
    places = np.unique(np.concatenate([order[:each], order[-each:]]))
    places = places[np.argsort(-dice[1][places], kind="stable")]
    images = found[1].images.take(places)
    predictions = [
        model.task.predict(model.normalise(torch.from_numpy(np.array(images.images)))).numpy()
        for model in (first, second)
    ]
    truth = second.task.labels(torch.from_numpy(np.array(images.targets)).long()).numpy()
    notes = [f"dice {dice[0][i]:.3f} | {dice[1][i]:.3f}" for i in places]
    title = f"{first.name} | {second.name} · {found[1].part}"
    sheet(images.images, truth, predictions, images.names, notes, second.classes, output, title, ("first", "second"))
    return [(name, float(dice[0][i]), float(dice[1][i])) for name, i in zip(images.names, places, strict=True)]
