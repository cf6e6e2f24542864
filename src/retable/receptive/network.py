"""The networks whose units are studied, torchvision's and this project's own, and running them up to one layer."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn

from retable.errors import ConfigError, DataError
from retable.models import weights


@dataclass
class Network:
    """A network in evaluation mode, and what it takes.

    Attributes:
        name: torchvision's name of it, or the run's.
        model: takes images (N, C, H, W).
        in_shape: (channels, height, width) of the images that it was made for.
        normalise: turns uint8 images (N, C, H, W) into what the model takes.
        classes: class names by label, or None if they are not known.
        weights: where its weights came from, e.g. the name of a file.
        sha256: the first 16 hexadecimal digits of that file's.
    """

    name: str
    model: nn.Module
    in_shape: tuple[int, int, int]
    normalise: Callable[[torch.Tensor], torch.Tensor]
    classes: tuple[str, ...] | None
    weights: str
    sha256: str | None = None

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device


def of_torchvision(name: str, layer: str, file: Path | None, trained: bool, whole: bool, say: Callable) -> Network:
    """One of torchvision's classifiers or segmentation networks.

    Args:
        name: its name there, e.g. resnet18.
        layer: the layer to be studied; a file must hold its weights, and those of all that runs before it.
        file: a state dict, or None for torchvision's own weights, which are downloaded.
        trained: whether weights are needed at all.
        whole: whether a file must hold the weights of all that runs.
        say: is called with a line of text for each kind of entries that do not fit.

    Raises:
        ConfigError: for a name or a layer that does not exist.
        DataError: for a file that is no such state dict, or a failed download.
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
    source, digest = "none", None
    if file is not None:
        _fit_file(model, file, name, "" if whole else layer, (3, size, size), say)
        source, digest = file.name, weights.digest(file)
    elif trained:
        state = weights.download(entry, f"weights of {name}", "--weights ")
        weights.fit(model, state, weights.place(entry), name, ("aux_classifier.",))
        source, digest = str(entry), weights.digest(weights.place(entry))

    def normalise(images_NCHW: torch.Tensor) -> torch.Tensor:
        mean, std = (torch.tensor(v, device=images_NCHW.device).view(1, -1, 1, 1) for v in (preset.mean, preset.std))
        return (images_NCHW.to(torch.float32) / 255 - mean) / std

    return Network(name, model, (3, size, size), normalise, tuple(entry.meta["categories"]), source, digest)


def of_run(checkpoint: Path, layer: str, trust: bool = False) -> Network:
    """The network of a run of this project.

    Raises:
        ConfigError: for a layer that does not exist.
        DataError: for a file that is no checkpoint of a run.
    """
    from retable.run.restore import load

    trained = load(checkpoint, trust)
    check_layer(trained.name, trained.model, layer)
    shape, classes = tuple(trained.image_shape), tuple(trained.classes)
    digest = weights.digest(trained.path)
    return Network(trained.name, trained.model.eval(), shape, trained.normalise, classes, str(checkpoint), digest)


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


class _Reached(Exception):
    def __init__(self, out: Any) -> None:
        self.out = out


def activations(model: nn.Module, layer: str, images_NCHW: torch.Tensor) -> torch.Tensor:
    """A layer's output (N, C, h, w); the network runs no further. The output (N, C) of a vector gets h = w = 1.

    Raises:
        ConfigError: if the network does not run the layer, or if its output has another shape.
    """

    def stop(_module: nn.Module, _inputs: Any, out: Any) -> None:
        raise _Reached(out)

    hook = model.get_submodule(layer).register_forward_hook(stop)
    try:
        model(images_NCHW)
    except _Reached as reached:
        out = reached.out
    else:
        raise ConfigError(f"--layer {layer}: the network does not run it on an image; accepted: a layer that it runs")
    finally:
        hook.remove()
    if isinstance(out, torch.Tensor) and out.ndim == 2:
        return out[:, :, None, None]
    if not isinstance(out, torch.Tensor) or out.ndim != 4:
        given = f"a tensor of shape {tuple(out.shape)}" if isinstance(out, torch.Tensor) else type(out).__name__
        raise ConfigError(f"--layer {layer}: gives {given}; accepted: a layer that gives maps (N, C, H, W)")
    return out


def _fit_file(
    model: nn.Module, path: Path, name: str, layer: str, in_shape: tuple[int, int, int], say: Callable[[str], None]
) -> None:
    """Copy into a network what a file has of it; the layer's weights and those before it ("": all) must be there."""
    if not path.is_file():
        raise DataError(f"{path}: no such file (--weights); accepted: a file with a state dict of {name}")
    needed, purpose = _needed(model, layer, in_shape), f"--layer {layer}" if layer else "the class score"
    lacks = weights.fit_part(model, weights.read(path), path, name, needed.__contains__, purpose)
    entries = sum(not key.endswith("num_batches_tracked") for key in model.state_dict())
    for what, keys in lacks.items():
        if keys:
            shown = ", ".join(keys) if len(keys) <= 3 else f"{keys[0]} ... {keys[-1]}"
            say(f"{path.name}: {len(keys)} of {entries} entries {what}, none of which {purpose} needs: {shown}")


def _needed(model: nn.Module, layer: str, in_shape: tuple[int, int, int]) -> set[str]:
    """The entries of the state dict that belong to modules begun before the layer has finished ("": before the end)."""
    begun: set[str] = set()
    hooks = [
        module.register_forward_pre_hook(lambda _module, _inputs, name=name: begun.add(name))
        for name, module in model.named_modules()
    ]
    try:
        with torch.inference_mode():
            image = torch.zeros(1, *in_shape)
            activations(model, layer, image) if layer else model(image)
    finally:
        for hook in hooks:
            hook.remove()
    return {key for key in model.state_dict() if key.rpartition(".")[0] in begun and "num_batches" not in key}
