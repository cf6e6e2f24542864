"""Weights that a detector begins with: torchvision's, a file's, or those of a run of this project."""

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.models import get_model_weights

from retable import checks
from retable.config.weights_file import kept_checkpoint
from retable.errors import DataError
from retable.models import weights as pretrained

ACCEPTED = "none, coco, imagenet, a run's directory or checkpoint, or the path of a .pth file with a state dict"
ENTRIES = {"resnet50": "retinanet_resnet50_fpn", "resnet50_v2": "retinanet_resnet50_fpn_v2"}
SCORES = "head.classification_head.cls_logits."
COCO_V1 = "eeacb38b"  # sha256 of torchvision's retinanet_resnet50_fpn_coco-eeacb38b.pth begins so
COCO_CLASSES = 91  # of torchvision's detectors, background and gaps included


@dataclass
class Source:
    """Weights that were found.

    Attributes:
        record: what a run notes of them: weights and sha256, as in `retable.models.weights.load`.
        path: their file.
        state: parameters by torchvision's names of a RetinaNet, or of a ResNet if not `detector`; None under meta.
        classes: names by label of the class scores, where they are known.
    """

    record: dict[str, str | None]
    path: Path
    state: dict[str, torch.Tensor] | None
    classes: tuple[str, ...] | None
    detector: bool


def find(weights: str, backbone: str) -> Source | None:
    """Read the weights that a config asks for. Under `torch.device("meta")` nothing is read or downloaded.

    Args:
        weights: none; coco: torchvision's RetinaNet of that backbone; imagenet: its classifier, for the ResNet alone; a
            run's directory or .ckpt; a .pth file of torchvision's RetinaNet, or of a classifier for the ResNet alone,
            in which layer4 may be missing.
        backbone: resnet50, resnet50_v2 or resnet18.

    Raises:
        ValueError: if `weights` is none of these.
        DataError: one line: a missing or damaged file, or a failed download.
    """
    if weights == "none":
        return None
    if weights in ("coco", "imagenet"):
        return _official(weights, backbone)
    path = Path(os.path.expanduser(str(weights)))
    if path.is_dir() or path.suffix == ".ckpt":
        return _run(path)
    try:
        path = pretrained.path_of(weights)
    except ValueError:
        raise checks.refuse("weights", weights, ACCEPTED) from None
    if _meta():
        return Source({"weights": path.name, "sha256": None}, path, None, None, True)
    digest = pretrained.digest(path)
    state = modern(pretrained.read(path))
    detector = any(key.startswith("backbone.") for key in state)
    bias = state.get(f"{SCORES}bias")
    coco = bias is not None and len(bias) % COCO_CLASSES == 0
    if digest.startswith(COCO_V1):
        state = without_epsilon(state)
    classes = _coco_classes() if coco else None
    return Source({"weights": path.name, "sha256": digest}, path, state, classes, detector)


def give(net: nn.Module, source: Source, backbone: str) -> None:
    """Copy the weights into torchvision's RetinaNet, but for the class scores. Raises DataError naming a bad key."""
    if source.state is None:
        return
    if source.detector:
        state = {key: value for key, value in source.state.items() if not key.startswith(SCORES)}
        pretrained.fit(net, state, source.path, f"RetinaNet, backbone={backbone}", (SCORES,))
    else:
        name = backbone.removesuffix("_v2")
        pretrained.fit(net.backbone.body, source.state, source.path, name, ("fc.", "layer4."))


def map_classes(scores: nn.Conv2d, source: Source, classes: Sequence[str], prior: float) -> None:
    """Take over the scores of classes that have the same name, whatever its case; all others get the score `prior`.

    Raises:
        DataError: weights whose classes are not known, or none of which is in the set.
    """
    if source.state is None and source.classes is None:
        return  # meta: it is not known yet
    if source.classes is None or (source.state is not None and f"{SCORES}weight" not in source.state):
        raise DataError(f"{source.path}: its classes are not known, accepted for model.head=mapped: coco, or a run's")
    known = [name.lower() for name in source.classes]
    pairs = [(label, known.index(name.lower())) for label, name in enumerate(classes) if name.lower() in known]
    if not pairs:
        raise DataError(
            f"{source.path}: knows none of {', '.join(classes)}, accepted for model.head=mapped: at least one"
        )
    if source.state is None:
        return
    anchors, given = scores.out_channels // len(classes), {}
    for name, parameter in (("weight", scores.weight), ("bias", scores.bias)):
        given[f"{SCORES}{name}"] = source.state.get(f"{SCORES}{name}", torch.empty(0))
        found, wanted = given[f"{SCORES}{name}"].shape, (anchors * len(known), *parameter.shape[1:])
        if found != wanted:
            raise DataError(f"{source.path}: {SCORES}{name} has shape {tuple(found)}, accepted: {wanted}")
    pretrained.check_finite(given, source.path)
    to, from_ = (list(labels) for labels in zip(*pairs, strict=True))
    with torch.no_grad():
        scores.weight.zero_()
        scores.bias.fill_(-math.log((1 - prior) / prior))
        for name, parameter in (("weight", scores.weight), ("bias", scores.bias)):
            # Channels are anchor by anchor, each with all classes.
            theirs = given[f"{SCORES}{name}"].unflatten(0, (-1, len(known)))
            parameter.view(-1, len(classes), *parameter.shape[1:])[:, to] = theirs[:, from_]


def modern(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state dict with the names that torchvision has used since 0.13, in which a convolution is part of a block."""
    found = {}
    for key, value in state.items():
        pyramid = re.fullmatch(r"(.*\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)", key)
        tower = re.fullmatch(r"(head\.\w+\.conv)\.(\d+)\.(weight|bias)", key)
        if pyramid:
            key = f"{pyramid[1]}.0.{pyramid[2]}"
        elif tower:  # activations counted between the convolutions
            key = f"{tower[1]}.{int(tower[2]) // 2}.0.{tower[3]}"
        found[key] = value
    return found


def without_epsilon(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Variances from which the epsilon that BatchNorm2d adds is taken: these weights were trained without one."""
    epsilon = nn.BatchNorm2d(1).eps
    return {key: value - epsilon if key.endswith("running_var") else value for key, value in state.items()}


def _official(weights: str, backbone: str) -> Source:
    if weights == "coco":
        if backbone not in ENTRIES:
            raise checks.refuse("weights", weights, f"for backbone={backbone}: {ACCEPTED.replace('coco, ', '')}")
        entry = get_model_weights(ENTRIES[backbone]).COCO_V1
    else:
        entry = get_model_weights(backbone.removesuffix("_v2")).IMAGENET1K_V1
    path = pretrained.place(entry)
    classes = _coco_classes() if weights == "coco" else None
    if _meta():
        return Source({"weights": str(entry), "sha256": None}, path, None, classes, weights == "coco")
    state = modern(pretrained.download(entry, f"weights {entry}"))
    digest = pretrained.digest(path)
    if digest.startswith(COCO_V1):
        state = without_epsilon(state)
    return Source({"weights": str(entry), "sha256": digest}, path, state, classes, weights == "coco")


def _run(given: Path) -> Source:
    """The weights of a run of this project, from its directory or checkpoint."""
    path = kept_checkpoint(given) if given.is_dir() else given
    if not path.is_file():
        raise DataError(f"{path}: no such file (weights); accepted: {ACCEPTED}")
    if _meta():
        return Source({"weights": str(given), "sha256": None}, path, None, None, True)
    content = pretrained.saved(path)
    kept, state = (content.get(key) if isinstance(content, dict) else None for key in ("retable", "state_dict"))
    classes = kept.get("classes") if isinstance(kept, dict) else None
    if not _is_of(classes, str) or not isinstance(state, dict):
        raise DataError(f"{path}: not a checkpoint of a run of this project")
    if not _is_of(list(state), str) or not _is_of(list(state.values()), torch.Tensor):
        raise DataError(f"{path}: its weights are no state dict (names and their tensors)")
    start = "model.net."
    state = {key.removeprefix(start): value for key, value in state.items() if key.startswith(start)}
    if f"{SCORES}weight" not in state:
        raise DataError(f"{path}: a run of another model, accepted: of model=retinanet")
    record = {"weights": str(kept.get("name"))[:200], "sha256": pretrained.digest(path)}
    return Source(record, path, state, tuple(classes), True)


def _is_of(found: Any, kind: type) -> bool:
    return isinstance(found, list) and all(isinstance(item, kind) for item in found)


def _coco_classes() -> tuple[str, ...]:
    return tuple(get_model_weights(ENTRIES["resnet50"]).COCO_V1.meta["categories"])


def _meta() -> bool:
    return torch.get_default_device().type == "meta"
