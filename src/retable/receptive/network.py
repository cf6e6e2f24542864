"""Networks whose units are looked at: torchvision's and this project's own, run up to one layer."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn

from retable.errors import ConfigError, DataError, first_line
from retable.receptive.partial import fill


@dataclass
class Network:
    """A network in evaluation mode and what its images are.

    Attributes:
        name: torchvision's name of it, or the run's.
        model: takes images (N, C, H, W).
        in_shape: (channels, height, width) of the images that it was made for.
        normalise: uint8 images (N, C, H, W) -> what the model takes.
        classes: class names by label, or None where they are not known.
        weights: where its weights came from, e.g. a file's name.
    """

    name: str
    model: nn.Module
    in_shape: tuple[int, int, int]
    normalise: Callable[[torch.Tensor], torch.Tensor]
    classes: tuple[str, ...] | None
    weights: str

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device


def check_layer(name: str, model: nn.Module, layer: str) -> None:
    """Refuse a name that is none of the network's layers.

    Raises:
        ConfigError: naming the outermost layers.
    """
    if not layer or layer not in dict(model.named_modules()):
        accepted = ", ".join(child for child, _ in model.named_children())
        inner = next((key for key, _ in model.named_modules() if key.count(".") >= 1), None)
        within = f", and layers within, e.g. {inner}" if inner else ""
        raise ConfigError(f"--layer {layer}: {name} has no such layer; accepted: {accepted}{within}")


def of_torchvision(name: str, layer: str, file: Path | None, trained: bool, whole: bool, say: Callable) -> Network:
    """One of torchvision's classifiers or segmentation networks.

    Args:
        name: its name there, e.g. resnet18.
        layer: the layer that is looked at; a file must have the weights of all that is run before it, and its own.
        file: weights, or None for torchvision's own (downloaded).
        trained: whether any weights are needed.
        whole: whether a file must have the weights of all that is run.
        say: told, line by line, what a file lacks.

    Raises:
        ConfigError: for a name or layer that there is not.
        DataError: for a file that does not do, or a failed download.
    """
    modules = (torchvision.models, torchvision.models.segmentation)
    known = {key: module for module in modules for key in torchvision.models.list_models(module)}
    if name not in known:
        near = difflib.get_close_matches(name, known, n=4, cutoff=0.4) or ["resnet18", "vgg16"]
        raise ConfigError(
            f"--network {name}: accepted: a classifier or segmentation network of torchvision, e.g. {', '.join(near)}"
        )
    extra: dict[str, Any] = {"weights_backbone": None} if known[name] is modules[1] else {}
    if name.startswith(("vgg", "googlenet", "inception")):
        extra["init_weights"] = False  # takes seconds, and the weights come from elsewhere
    if name in ("googlenet", "inception_v3"):
        extra["transform_input"] = True  # what torchvision does for the published weights
    model = torchvision.models.get_model(name, weights=None, **extra).eval()
    check_layer(name, model, layer)
    entry = next(iter(torchvision.models.get_model_weights(name)))
    preset = entry.transforms()
    size = (getattr(preset, "crop_size", None) or [224])[0]
    source = "none"
    if file is not None:
        fill(model, file, name, "" if whole else layer, (3, size, size), say)
        source = file.name
    elif trained:
        model, source = _downloaded(name, entry), str(entry)

    def normalise(images_NCHW: torch.Tensor) -> torch.Tensor:
        mean, std = (torch.tensor(v, device=images_NCHW.device).view(1, -1, 1, 1) for v in (preset.mean, preset.std))
        return (images_NCHW.to(torch.float32) / 255 - mean) / std

    return Network(name, model, (3, size, size), normalise, tuple(entry.meta["categories"]), source)


def of_run(checkpoint: Path, layer: str) -> Network:
    """The network of a run of this project.

    Raises:
        ConfigError: for a layer that there is not.
        DataError: for a checkpoint that does not do.
    """
    from retable.run.restore import load

    trained = load(checkpoint)
    check_layer(trained.name, trained.model, layer)
    shape = tuple(trained.image_shape)
    return Network(
        trained.name, trained.model.eval(), shape, trained.normalise, tuple(trained.classes), str(checkpoint)
    )


def _downloaded(name: str, entry: Any) -> nn.Module:
    try:
        return torchvision.models.get_model(name, weights=entry, progress=False).eval()
    except Exception as error:  # refused connections, cut downloads, wrong hashes, full disks
        reason = first_line(error)
        raise DataError(
            f"{entry}: weights of {name} could not be downloaded from {entry.url} ({reason}); "
            "without a network give such a file: --weights FILE"
        ) from error
