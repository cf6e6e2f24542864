"""`retable evaluate CHECKPOINT DATA`: a model's figures by class and by image, on any set of its task's format."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from retable.config.build import build
from retable.data.arrays import ImageSet, joined
from retable.data.loader import DeviceLoader
from retable.errors import ConfigError, DataError
from retable.run.restore import Trained

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Evaluation:
    """A model's metrics on one part of a set.

    Attributes:
        part: train, val, test or all.
        metrics: loss and the task's metrics by name.
        by_class, by_image: a row a class, a row an image.
        images: the part's images, in the order of by_image.
        counts: what the set holds and what was left out of it, with reasons.
    """

    part: str
    metrics: dict[str, float]
    by_class: "pd.DataFrame"
    by_image: "pd.DataFrame"
    images: ImageSet
    counts: dict[str, Any]


def evaluate(
    trained: Trained, location: Path, part: str | None = None, settings: Mapping[str, Any] | None = None
) -> Evaluation:
    """Run a trained model over a set.

    Args:
        location: folder (or file, where the task's format is one) in the place of the task's own set.
        part: train, val, test, or all of them; by default test where the format has such a part, else val.
        settings: keys of the data configuration that differ from the run's, e.g. {"val": [7]}.

    Raises:
        ConfigError, DataError: one line: no such part, a set of another kind, or whatever its reader refuses.
    """
    if not location.exists():
        raise DataError(f"{location}: no such file or folder; accepted: a set in the format of task={_name(trained)}")
    given = {key: value for key, value in trained.config["data"].items() if key != "fraction"}
    data = build(given | {"source": "real"} | dict(settings or {}), "data", seed=0, augment=None)
    data.read_at(location, trained.classes)
    data.prepare()
    parts = _parts(data.splits.parts, part)
    same_size = trained.task.any_size or tuple(data.image_shape) == trained.image_shape
    if tuple(data.classes) != trained.classes or not same_size:
        raise DataError(
            f"{location}: classes {', '.join(data.classes)}, images {tuple(data.image_shape)}; {trained.name} was"
            f" trained on {', '.join(trained.classes)}, {trained.image_shape}"
        )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    task, name = trained.task.to(device).eval(), part or next(iter(parts))
    task.start(name)
    with torch.inference_mode():
        for key in parts:
            images, targets = data.resident_on(device)[key]
            for batch in DeviceLoader(images, targets, data.eval_batch_size, trained.normalise, shuffle=False):
                task.evaluate_batch(name, *batch)
    metrics = {key.removeprefix(f"{name}/"): value for key, value in task.metrics_of(name).items()}
    whole = joined(list(parts.values()))
    by_class, by_image = task.tables(name, whole, trained.normalise)
    return Evaluation(name, metrics, by_class, by_image, whole, data.counts)


def _parts(parts: dict[str, ImageSet], wanted: str | None) -> dict[str, ImageSet]:
    """The parts that `--part` asks for; "all" is each image once, also where validation is the test set."""
    if wanted == "all":
        return {name: images for name, images in parts.items() if not any(p is images for p in _before(parts, name))}
    wanted = wanted or ("test" if "test" in parts else "val")
    if wanted not in parts:
        raise ConfigError(f"--part {wanted}: accepted: {', '.join(parts)}, all")
    return {wanted: parts[wanted]}


def _before(parts: dict[str, ImageSet], name: str) -> list[ImageSet]:
    names = list(parts)
    return [parts[other] for other in names[: names.index(name)]]


def _name(trained: Trained) -> str:
    return str(trained.config["task"]["name"])
