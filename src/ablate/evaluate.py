"""`ablate evaluate CHECKPOINT DATA`: a model's figures by class and by image, on any set of its task's format."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ablate.config.build import build
from ablate.data.arrays import ImageSet
from ablate.data.loader import DeviceLoader
from ablate.errors import ConfigError, DataError
from ablate.run.restore import Trained

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Evaluation:
    """What a model is worth on one part of a set.

    Attributes:
        part: train, val or test.
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
        part: train, val or test; by default test where the format has such a part, else val.
        settings: keys of the data configuration that differ from the run's, e.g. {"val": [7]}.

    Raises:
        ConfigError, DataError: one line: no such part, a set of another kind, or whatever its reader refuses.
    """
    if not location.exists():
        raise DataError(f"{location}: no such file or folder; accepted: a set in the format of task={_name(trained)}")
    given = {key: value for key, value in trained.config["data"].items() if key != "fraction"}
    data = build(given | {"source": "real"} | dict(settings or {}), "data", seed=0, augment=None)
    data.read_at(location)
    data.prepare()
    parts = data.splits.parts
    part = part or ("test" if "test" in parts else "val")
    if part not in parts:
        raise ConfigError(f"--part {part}: accepted: {', '.join(parts)}")
    if tuple(data.classes) != trained.classes or tuple(data.image_shape) != trained.image_shape:
        raise DataError(
            f"{location}: classes {', '.join(data.classes)}, images {tuple(data.image_shape)}; {trained.name} was"
            f" trained on {', '.join(trained.classes)}, {trained.image_shape}"
        )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images, targets = data.resident_on(device)[part]
    loader = DeviceLoader(images, targets, data.eval_batch_size, trained.normalise, shuffle=False)
    task = trained.task.to(device).eval()
    task.start(part)
    with torch.inference_mode():
        for chunk in loader:
            task.judge(part, chunk)
    metrics = {key.removeprefix(f"{part}/"): value for key, value in task.judged(part).items()}
    return Evaluation(part, metrics, *task.tables(part, parts[part].names), parts[part], data.counts)


def _name(trained: Trained) -> str:
    return str(trained.config["task"]["name"])
