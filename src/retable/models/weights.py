"""Pretrained weights: torchvision's, or a file's, checked key by key, with a record of which they were.

Every model with a pretrained encoder takes `weights`: "none", "imagenet", or the path of a .pth file with a state dict.
"""

import errno
import hashlib
import os
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch
import torchvision
from torch import nn

from retable import checks
from retable.errors import DataError, first_line
from retable.models import plain_numpy

ACCEPTED = "none, imagenet, or the path of a .pth file with a state dict"
_SUFFIXES = (".pth", ".pt")


def load(model: nn.Module, weights: str, name: str, optional: tuple[str, ...] = ()) -> dict[str, str | None] | None:
    """Give a model of torchvision the weights that a config asks for.

    Under `torch.device("meta")` nothing is read or downloaded: a file need only be there.

    Args:
        model: the model, as torchvision builds it.
        weights: "none", "imagenet" (torchvision's IMAGENET1K_V1) or the path of a file.
        name: the model's name in torchvision, e.g. "vgg16".
        optional: beginnings of keys that a file may lack, or have without the model having them, e.g. "classifier.".

    Returns:
        The source for a run's record, or None for "none": `weights`, the name of the file or of torchvision's entry,
        and `sha256`, the first 16 hexadecimal digits of the file's (None under meta).

    Raises:
        ValueError: if `weights` is none of the three.
        DataError: one line: a missing or damaged file, the first key that does not fit, or a failed download.
    """
    if weights == "none":
        return None
    if weights == "imagenet":
        return _official(model, name, optional)
    path = path_of(weights)
    if next(model.parameters()).is_meta:
        return {"weights": path.name, "sha256": None}
    fit(model, read(path), path, name, optional)
    return {"weights": path.name, "sha256": digest(path)}


def path_of(weights: Any) -> Path:
    """The existing file that a value of `weights` names.

    Raises:
        ValueError: if it is no path of a .pth or .pt file.
        DataError: if there is no such file.
    """
    if not isinstance(weights, str | Path) or Path(weights).suffix not in _SUFFIXES:
        raise checks.refuse("weights", weights, ACCEPTED)
    path = Path(os.path.expanduser(weights))
    if not path.is_file():
        raise DataError(f"{path}: no such file (weights); accepted: {ACCEPTED}")
    return path


def saved(path: Path, what: str = "checkpoint", fault: str = "it is no plain checkpoint") -> Any:
    """What torch.save wrote to a file, on the CPU, without executing pickled code.

    Args:
        what, fault: for messages, what the file should be, and what it is called where it holds code.

    Raises:
        DataError: one line, for a damaged file, one with code, or one with compressed parts: torch compresses none.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if sum(member.file_size for member in archive.infolist()) > path.stat().st_size:
                    raise ValueError("parts of it are compressed")
            if broken := damage(path):
                raise ValueError(broken)
        with plain_numpy.accepted():
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(f"{path}: refused, {fault} and could execute code") from error
    except Exception as error:  # a damaged file can raise nearly anything
        raise DataError(f"{path}: not a whole {what} ({first_line(error)})") from error


def damage(path: Path) -> str | None:
    """What is wrong with a file of torch.save, by the checksums of its parts, which torch.load does not look at.

    Returns:
        A few words; None where all that it holds is as it was written.

    Raises:
        OSError: if it can't be read.
    """
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                bad = archive.testzip()
        except OSError as error:
            if error.errno != errno.EINVAL:  # which is a place before the file's beginning
                raise
            return first_line(error)
        except Exception as error:  # a damaged file can raise nearly anything
            return first_line(error)
    if bad is not None:
        return f"{bad.partition('/')[2]} is not as it was written"
    try:
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)  # reads no tensor; is stricter on headers
    except pickle.UnpicklingError:
        return None  # it holds code, and is as it was written
    except Exception as error:
        return first_line(error)
    return None


def code_in(file: Path | BinaryIO) -> list[str]:
    """Names of the classes and functions that a file of torch.save asks for beside plain data; none is called."""
    with plain_numpy.accepted():
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(file))


def read(path: Path) -> dict[str, torch.Tensor]:
    """The state dict of a file, on the CPU, without executing pickled code.

    Raises:
        DataError: one line, if the file holds anything else.
    """
    state = saved(path, "file of weights", "it holds more than tensors")
    if not isinstance(state, dict) or not state:
        raise DataError(f"{path}: holds {type(state).__name__}; accepted: a state dict (names and their tensors)")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise DataError(
                f"{path}: {key} is {type(value).__name__}; accepted: a state dict (names and their tensors)"
            )
    return _renamed(state)


def _renamed(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """DenseNets' names from before torch 0.4, in torchvision's own files too: denselayer1.norm.1.weight."""
    return _like(state, {re.sub(r"(denselayer\d+\.(?:norm|conv))\.(?=\d)", r"\1", k): v for k, v in state.items()})


def fit(model: nn.Module, state: dict[str, torch.Tensor], path: Path, name: str, optional: tuple[str, ...]) -> None:
    """Copy a state dict into a model; every key must fit but the optional ones.

    Raises:
        DataError: naming the file and the first key that is missing, of another shape, or unknown to the model.
    """
    lacks = fit_part(model, state, path, name, lambda key: key in state or not key.startswith(optional))
    for key in lacks["unknown to the model"]:
        if not key.startswith(optional):
            raise DataError(f"{path}: {key} is unknown to the model; accepted: a state dict of {name}")


def fit_part(
    model: nn.Module,
    state: dict[str, torch.Tensor],
    path: Path,
    name: str,
    needed: Callable[[str], bool],
    purpose: str = "",
) -> dict[str, list[str]]:
    """Copy into a model what a state dict has of it.

    `num_batches_tracked` is never missing: files from before torch 0.4.1 have none.

    Args:
        path, name: the state dict's file, and what the model is called, for messages.
        needed: whether the model can't do without one of its keys.
        purpose: what needs these keys, for messages.

    Returns:
        The keys that are "missing", "of another shape", and "unknown to the model", in the model's or the file's order.

    Raises:
        DataError: naming the file and the first needed key that is missing or of another shape, or the first key whose
            values are not finite.
    """
    wanted = model.state_dict()
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    misshapen = [key for key, tensor in wanted.items() if key in state and state[key].shape != tensor.shape]
    unknown = [key for key in state if key not in wanted]
    entries = sum(not key.endswith("num_batches_tracked") for key in wanted)
    why = f", which {purpose} needs ({len(missing)} of {entries} entries are missing)" if purpose else ""
    for key in filter(needed, wanted):
        if key in missing:
            raise DataError(f"{path}: has no {key}{why}; accepted: a state dict of {name}")
        if key in misshapen:
            found, expected = tuple(state[key].shape), tuple(wanted[key].shape)
            raise DataError(f"{path}: {key} has shape {found}{why}; accepted: a state dict of {name}, shape {expected}")
    left_out = {*misshapen, *unknown}
    check_finite({key: value for key, value in state.items() if key not in left_out}, path)
    model.load_state_dict(_like(state, {k: v for k, v in state.items() if k not in left_out}), strict=False)
    return {"missing": missing, "of another shape": misshapen, "unknown to the model": unknown}


def check_finite(state: dict[str, torch.Tensor], path: Path) -> None:
    """Raise DataError naming the file and the first key with a NaN or an infinity."""
    for key, value in state.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise DataError(f"{path}: {key} holds values that are not finite; accepted: weights that are")


def _like(state: dict[str, torch.Tensor], values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Some values as a state dict with the metadata of another one: modules' versions, by which they read old files."""
    found: Any = OrderedDict(values)
    found._metadata = getattr(state, "_metadata", OrderedDict())
    return found


def digest(path: Path) -> str:
    """The first 16 hexadecimal digits of a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def place(entry: torchvision.models.WeightsEnum) -> Path:
    """Where torch keeps an entry's file once it is downloaded."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(entry.url).name


def download(
    entry: torchvision.models.WeightsEnum, what: str, option: str = "model.weights="
) -> dict[str, torch.Tensor]:
    """The state dict of an entry of torchvision's, on the CPU, downloaded unless it has been before.

    Args:
        what: what the weights are called in messages.
        option: how a user gives a file instead.

    Raises:
        DataError: one line, naming `what`, the address and how to do without a network.
    """
    path = place(entry)
    try:
        return _renamed(entry.get_state_dict(progress=False, check_hash=True, map_location="cpu", weights_only=True))
    except Exception as error:  # refused connections, cut downloads, wrong hashes, full disks
        reason = first_line(error)
        raise DataError(
            f"{path}: {what} could not be downloaded from {entry.url} ({reason}); "
            f"without a network give such a file by path: {option}<path of {path.name}>"
        ) from error


def _official(model: nn.Module, name: str, optional: tuple[str, ...]) -> dict[str, str | None]:
    entry = torchvision.models.get_model_weights(name).IMAGENET1K_V1
    if next(model.parameters()).is_meta:
        return {"weights": str(entry), "sha256": None}
    state = download(entry, f"ImageNet weights of {name}")
    path = place(entry)
    fit(model, state, path, name, optional)
    return {"weights": str(entry), "sha256": digest(path)}
