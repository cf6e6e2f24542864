"""The images on which one finished run did worst, as its model and another's segment them: report B's figure 28."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from retable.errors import ConfigError
from retable.figures.segmentation import ranked, sheet
from retable.metrics import segmentation as metrics
from retable.run.assemble import make_data
from retable.run.restore import Trained, load
from retable.tasks.segmentation import Segmentation


def draw_worst(first: Path, second: Path, path: Path, count: int, names: tuple[str, str]) -> list[str]:
    """Draw the `count` images with the lowest dice under the first run's model: input, truth, both predictions.

    Args:
        first, second: run directories with their last checkpoints, of segmentation on the same images: those of the
            test split of the second run's data, else of its validation split.
        path: the PNG to write.
        names: what the two are called above their predictions.

    Returns:
        The images' names, the worst first.

    Raises:
        ConfigError, DataError: one line: runs of another kind, no checkpoint, or whatever the data's reader refuses.
    """
    models = [load(directory) for directory in (first, second)]
    for model in models:
        if not isinstance(model.task, Segmentation):
            raise ConfigError(f"{model.name}: no segmentation model; accepted: runs of a task of segmentation")
    if models[0].image_shape != models[1].image_shape or models[0].classes != models[1].classes:
        raise ConfigError(f"{models[0].name}, {models[1].name}: images or classes differ; accepted: models of one set")
    splits = make_data(models[1].config).splits.by_name
    split = "test" if "test" in splits else "val"
    images = splits[split]
    task = models[1].task
    truth = task.labels(torch.from_numpy(np.array(images.targets)).long())
    predicted = [predictions(model, images) for model in models]
    matrices = [metrics.image_confusions(truth, found, len(task.classes)) for found in predicted]
    dice = [ranked(matrix, task.scored)[1] for matrix in matrices]
    worst = ranked(matrices[0], task.scored)[0][::-1][:count]
    chosen = images.take(worst)
    notes = [f"dice {dice[0][i]:.3f} | {dice[1][i]:.3f}" for i in worst]
    shown = [found.numpy()[worst] for found in predicted]
    title = f"{split}: the {len(worst)} images on which {names[0]} did worst, under {names[0]} and {names[1]}"
    sheet(chosen.images, truth.numpy()[worst], shown, chosen.names, notes, task.classes, path, title, names)
    return list(chosen.names)


def predictions(model: Trained, images: Any) -> torch.Tensor:
    return model.task.predict(model.normalise(torch.from_numpy(np.array(images.images))))
