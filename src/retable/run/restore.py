"""A trained model from its checkpoint, without executing pickled code and without its run directory."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from retable.config.keys import is_foreign
from retable.config.weights_file import kept_checkpoint
from retable.errors import ConfigError, DataError, first_line
from retable.models.weights import saved
from retable.run import files
from retable.run.foreign_use import TrainedModule, load_module
from retable.tasks.build import rebuilt

MOST_VALUES = 3 * 2**27  # of an image


@dataclass
class Trained:
    """A model in evaluation mode and what its inputs and outputs mean.

    Attributes:
        task: the LightningModule around the model.
        classes: class names by label.
        image_shape: (channels, height, width) of an input.
        mean, std: by channel, of images in [0, 1]; what the model takes is (image - mean) / std.
        config: resolved config of the run.
        name: the run's name.
        path: the checkpoint's file.
        trust: whether its config may name whatever it likes.
    """

    model: nn.Module
    task: Any
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    config: dict[str, Any]
    name: str
    path: Path
    trust: bool = False

    def normalise(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """uint8 images (N, C, H, W) as the model takes them: float32. Images that are float32 already are so."""
        if images_NCHW.dtype == torch.float32:
            return images_NCHW
        mean = torch.tensor(self.mean, device=images_NCHW.device).view(1, -1, 1, 1)
        std = torch.tensor(self.std, device=images_NCHW.device).view(1, -1, 1, 1)
        return (images_NCHW.to(torch.float32) / 255 - mean) / std

    @torch.inference_mode()
    def probabilities(self, images_NCHW: torch.Tensor, batch_size: int = 250) -> torch.Tensor:
        """Class probabilities (N, number of classes) of uint8 images (N, C, H, W)."""
        parts = [self.model(self.normalise(part)).softmax(1) for part in images_NCHW.split(batch_size)]
        return torch.cat(parts)


def load(checkpoint: Path, trust: bool = False, which: str | None = None) -> Trained | TrainedModule:
    """Load a checkpoint written by a run; a `TrainedModule` is of a LightningModule of somebody's own.

    Args:
        checkpoint: the file, or a run's directory.
        trust: build what its config names, whatever that is (retable.config.targets).
        which: of a run's directory: its "last" checkpoint or its "best" one; None: the last one where there is one.

    Raises:
        DataError: one line, if it is missing, no checkpoint of this project, or would execute code.
    """
    path = of_run(checkpoint, which) if checkpoint.is_dir() else checkpoint
    content = read_checkpoint(path)
    kept = content["retable"]
    if is_foreign(kept.get("config") or {}):
        try:
            return load_module(content, path, trust)
        except ConfigError as error:
            raise DataError(f"{path}: {error}") from error
    try:
        task = rebuilt(kept, path, content["state_dict"], trust)
        task.load_state_dict(content["state_dict"])
        _check_described(kept)
        return Trained(
            model=task.eval().model,
            task=task,
            classes=tuple(kept["classes"]),
            image_shape=tuple(kept["image_shape"]),
            mean=tuple(kept["mean"]),
            std=tuple(kept["std"]),
            config=kept["config"],
            name=kept["name"],
            path=path,
            trust=trust,
        )
    except ConfigError as error:
        raise DataError(f"{path}: {error}") from error
    except RuntimeError as error:
        raise DataError(f"{path}: weights do not fit the model of its config ({first_line(error)})") from error
    except (KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise DataError(f"{path}: not a checkpoint of a run of this project ({reason})") from error


def of_run(directory: Path, which: str | None = None) -> Path:
    """The file of a run's last or best checkpoint, whether it is there or not."""
    if which is None:
        return kept_checkpoint(directory)
    return directory / {"last": files.CHECKPOINT, "best": files.BEST}[which]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What a checkpoint of this project holds, on the CPU; nothing of it is executed.

    Raises:
        DataError: one line.
    """
    if not path.is_file():
        hint = " (runs with checkpoint=both keep it)" if path.name == files.BEST else ""
        raise DataError(f"{path}: no such checkpoint{hint}; accepted: a last.ckpt or the directory of a run")
    content = saved(path)
    if not isinstance(content, dict) or not isinstance(content.get("retable"), dict):
        raise DataError(f"{path}: not a checkpoint of a run of this project")
    return content


def _check_described(kept: dict[str, Any]) -> None:
    """Raise TypeError for what no run writes of its images."""
    shape, mean, std = (kept[key] for key in ("image_shape", "mean", "std"))
    if len(shape) != 3 or not all(type(side) is int and side > 0 for side in shape) or math.prod(shape) > MOST_VALUES:
        raise TypeError(f"image_shape={shape}")
    if not all(type(value) is float and math.isfinite(value) for value in (*mean, *std)) or min(std) <= 0:
        raise TypeError(f"mean={mean}, std={std}")
    if not all(isinstance(name, str) for name in kept["classes"]):
        raise TypeError(f"classes={kept['classes']}")
