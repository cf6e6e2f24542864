"""`retable predict` for a detector: each image's objects as class, score and box, and pictures with the boxes drawn."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from retable.data.formats.pictures import EXTENSIONS, read_image
from retable.data.resize import canvas, resized, resized_size
from retable.errors import ConfigError, DataError
from retable.run.restore import Trained
from retable.tasks.detection import Detection


@dataclass(frozen=True)
class Found:
    """The objects of an image: float32 (n, 6), x1, y1, x2, y2 in its own pixels, label, score; the best first."""

    name: str
    image: np.ndarray
    objects: torch.Tensor


def is_detector(trained: Trained) -> bool:
    """Whether a trained model finds boxes."""
    return isinstance(trained.task, Detection)


@torch.inference_mode()
def predict_boxes(trained: Trained, paths: Sequence[Path], score: float | None = None) -> Iterator[Found]:
    """The objects of every image below the paths, in the order of their names; one image at a time is in memory.

    Args:
        paths: picture files, folders, zip or tar archives.
        score: lowest score; by default the task's own `confidence`.

    Raises:
        DataError: one line naming the file, if something can't be read.
    """
    from retable.commands.prediction import unpack

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = trained.task.to(device).eval().model
    lowest = trained.task.confidence if score is None else score
    settings, none = trained.config["data"], True
    with tempfile.TemporaryDirectory() as scratch:
        for path in paths:
            known = path.is_dir() or path.suffix.lower() in EXTENSIONS
            folder = path if known else unpack(path, Path(scratch)) if path.exists() else path
            for name, file in _pictures(folder, path):
                image, none = read_image(file), False
                height, width = resized_size(*image.shape[1:], settings["shorter"], settings["longer"])
                small = torch.from_numpy(np.array(resized(image, (height, width))))[None].to(device)
                normalised = trained.normalise(small)
                images = torch.zeros(1, 3, *canvas([(height, width)]), device=device)
                images[..., :height, :width] = normalised
                (objects,) = model.detections(model(images), [(height, width)], images.shape[-2:])
                objects = objects[objects[:, 5] >= lowest].cpu()
                objects[:, :4] *= torch.tensor([image.shape[2] / width, image.shape[1] / height] * 2)
                yield Found(name, image, objects)
    if none:
        raise DataError(f"{', '.join(map(str, paths))}: no images; accepted: {', '.join(EXTENSIONS)}")


def draw_boxes(found: Found, classes: Sequence[str], folder: Path) -> Path:
    """Write an image with its boxes as a PNG into a folder; its path."""
    from matplotlib.figure import Figure

    from retable.figures.classification import save
    from retable.figures.detection import picture

    height, width = found.image.shape[1:]
    figure = Figure(figsize=(7.0, 7.0 * height / width))
    picture(figure.add_axes((0, 0, 1, 1)), found.image, torch.zeros(0, 5), found.objects, classes, 8.0)
    figure.axes[0].axis("off")
    path = folder / Path(found.name).with_suffix(".png")
    try:
        save(figure, path)
    except OSError as error:
        raise ConfigError(f"--output {folder}: cannot be written ({error.strerror})") from error
    return path


def _pictures(folder: Path, shown: Path) -> Iterator[tuple[str, Path]]:
    """Name and file of a picture, or of each one below a folder but hidden ones."""
    if not folder.exists():
        raise DataError(f"{shown}: no such file")
    if not folder.is_dir():
        yield folder.name, folder
        return
    for name in sorted(p.relative_to(folder) for p in folder.rglob("*") if p.suffix.lower() in EXTENSIONS):
        if not any(part.startswith((".", "__MACOSX")) for part in name.parts):
            yield str(name), folder / name
