"""`retable compare`: the images that one segmentation model does best and worst on, and what another makes of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from retable import checks
from retable.commands.evaluation import evaluate
from retable.errors import ConfigError
from retable.figures.segmentation import ranked, sheet
from retable.run.restore import Trained
from retable.tasks.segmentation import Segmentation


def compare(
    first: Trained,
    second: Trained,
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
