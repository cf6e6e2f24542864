"""Any architecture on any encoder of segmentation-models-pytorch, by their names there."""

import functools
import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import segmentation_models_pytorch as library
import timm
import torch
from segmentation_models_pytorch.encoders import encoders as library_encoders
from torch import nn

from retable import checks
from retable.errors import DataError, first_line
from retable.models import weights as pretrained
from retable.models.parts import Segmenter

ARCHITECTURES = tuple(library.MODEL_ARCHITECTURES_MAPPING)
# Arguments of an architecture that are ours to set, or that would change what it puts out.
_SET = ("encoder_name", "encoder_weights", "in_channels", "classes", "activation", "aux_params")
# Classifier layers: files have them, encoders do not.
_OPTIONAL = ("classifier.", "fc.", "last_linear.", "head.")


class SMP(Segmenter):
    """A model of segmentation-models-pytorch.

    An image is padded to sides that are multiples of 32 (PAN, which pools thrice more: 128). Choose data.scale=imagenet
    for pretrained weights.

    Args:
        in_shape: (channels, height, width) of an image; one channel is repeated to three.
        num_classes: channels of the output.
        architecture: e.g. unet, fpn, deeplabv3plus (`ARCHITECTURES`).
        encoder: e.g. resnet34, mobilenet_v2, or tu-<name> for one of timm.
        weights: "none"; "imagenet" or another name that the library knows for the encoder (downloaded by it); or the
            path of a .pth file with the encoder's state dict (for encoders of torchvision also the classifier's).
        options: further arguments of the architecture, e.g. {decoder_attention_type: scse}.

    Shape: (N, C, H, W) -> (N, num_classes, H, W) logits.

    Raises:
        ValueError: for a name or an option that the library does not know.
        DataError: for weights that can't be downloaded or read, or do not fit.
    """

    def __init__(
        self,
        in_shape: tuple[int, int, int],
        num_classes: int,
        architecture: str = "unet",
        encoder: str = "resnet34",
        weights: str = "none",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        checks.one_of("architecture", architecture, ARCHITECTURES)
        _check_encoder(encoder)
        _check_options(options or {}, architecture, encoder)
        known = _known_weights(encoder)
        by_name = weights != "none" and isinstance(weights, str) and weights in known
        path = None if weights == "none" or by_name else _path_of(weights, known)
        self.multiple = 128 if architecture == "pan" else 32
        # Not left to the library: the layers must not depend on the weights, which a restored model is built without.
        self.channels = 3 if in_shape[0] == 1 else in_shape[0]
        if path is not None and self.channels != 3:
            raise checks.refuse(
                "weights", weights, f"none or {', '.join(known)} for images of {self.channels} channels"
            )
        make = functools.partial(
            library.create_model,
            architecture,
            encoder,
            in_channels=self.channels,
            classes=num_classes,
            **dict(options or {}),
        )
        if torch.get_default_device().type == "meta":
            self.model = _without_memory(make)
            if path is not None or by_name:
                self.weights_source = {"weights": path.name if path else f"{encoder} {weights}", "sha256": None}
        elif by_name:
            self.model = _downloaded(make, encoder, weights)
            self.weights_source = {"weights": f"{encoder} {weights}", "sha256": None}
        else:
            self.model = _quietly(make, None)
            if path is not None:
                pretrained.fit(self.model.encoder, pretrained.read(path), path, encoder, _OPTIONAL)
                self.weights_source = {"weights": path.name, "sha256": pretrained.digest(path)}
        self.fast_layout()

    def scores(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        return self.model(images_NCHW.expand(-1, self.channels, -1, -1))


def _check_encoder(encoder: Any) -> None:
    if isinstance(encoder, str) and encoder.startswith("tu-"):
        if not timm.is_model(encoder.removeprefix("tu-").split(".")[0]):
            raise checks.refuse("encoder", encoder, "tu-<a name that timm.list_models() gives>")
    else:
        checks.one_of("encoder", encoder, list(library_encoders))


def _check_options(options: Any, architecture: str, encoder: str) -> None:
    """Refuse options that the library would ignore or that are not the user's to set; timm checks its encoders' own."""
    if not isinstance(options, Mapping):
        raise checks.refuse("options", options, "names and values of arguments of the architecture")
    taken = inspect.signature(library.MODEL_ARCHITECTURES_MAPPING[architecture]).parameters
    accepted = [name for name in taken if name not in _SET and taken[name].kind is not inspect.Parameter.VAR_KEYWORD]
    for name in options:
        if name in _SET or (name not in accepted and not encoder.startswith("tu-")):
            raise checks.refuse("options", name, ", ".join(accepted))


def _known_weights(encoder: str) -> tuple[str, ...]:
    """Names of an encoder's weights; timm's encoders carry theirs in their own name."""
    if encoder.startswith("tu-"):
        return ("imagenet",)
    return tuple(library_encoders[encoder]["pretrained_settings"])


def _path_of(weights: Any, known: tuple[str, ...]) -> Any:
    try:
        return pretrained.path_of(weights)
    except ValueError:
        accepted = f"none, {', '.join(known)}, or the path of a .pth file with the encoder's state dict"
        raise checks.refuse("weights", weights, accepted) from None


def _quietly(make: Callable[..., nn.Module], weights: str | None) -> nn.Module:
    """Build, with the library's KeyError for a value that it does not know as ValueError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            return make(encoder_weights=weights)
        except KeyError as error:
            raise ValueError(str(error.args[0])) from error


def _without_memory(make: Callable[..., nn.Module]) -> nn.Module:
    try:
        return _quietly(make, None)
    except RuntimeError:  # some encoders (MiT) read their depths out of a tensor, which one on meta does not allow
        with torch.device("cpu"):
            return _quietly(make, None).to("meta")


def _downloaded(make: Callable[..., nn.Module], encoder: str, weights: str) -> nn.Module:
    try:
        return _quietly(make, weights)
    except (OSError, RuntimeError) as error:
        reason = first_line(error)
        raise DataError(
            f"{encoder}: weights {weights} could not be downloaded ({reason}); without a network give a file by path: "
            "model.weights=<path of a .pth file with the encoder's state dict>"
        ) from error
