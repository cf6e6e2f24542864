"""Weights from a file that need not hold all of a network: what it lacks is named, and refused where it matters."""

import re
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from retable.errors import DataError
from retable.models.weights import read
from retable.receptive.truncated import activations


def fill(
    model: nn.Module, path: Path, name: str, layer: str, in_shape: tuple[int, int, int], say: Callable[[str], None]
) -> None:
    """Copy what a file has into a network.

    Args:
        model: the network, in evaluation mode.
        path: a state dict.
        name: what the network is called in messages.
        layer: the layer whose weights the file must have, and those of all that is run before it; "": of all.
        in_shape: (channels, height, width) of an image.
        say: told, line by line, what the file lacks or has too much.

    Raises:
        DataError: one line: no such file, no state dict, or the first entry that is needed and missing or misshapen.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file (--weights); accepted: a file with a state dict of {name}")
    # Files of DenseNets from before torch 0.4 have dots that names may not have now: denselayer1.norm.1.weight.
    state = {re.sub(r"(denselayer\d+\.(?:norm|conv))\.(?=\d)", r"\1", key): value for key, value in read(path).items()}
    wanted = {key: value for key, value in model.state_dict().items() if not key.endswith("num_batches_tracked")}
    missing = [key for key in wanted if key not in state]
    misshapen = [key for key in wanted if key in state and state[key].shape != wanted[key].shape]
    needed, purpose = _needed(model, layer, in_shape), f"--layer {layer}" if layer else "the class score"
    for key in wanted:
        if key not in needed or not (key in missing or key in misshapen):
            continue
        if key in missing:
            fault = f"has no {key}, which {purpose} needs ({len(missing)} of {len(wanted)} entries are missing)"
        else:
            found, expected = tuple(state[key].shape), tuple(wanted[key].shape)
            fault = f"{key} has shape {found} instead of {expected}, and {purpose} needs it"
        raise DataError(f"{path}: {fault}; accepted: a state dict of {name} that holds all up to there")
    fitting = {key: value for key, value in state.items() if key in wanted and key not in misshapen}
    model.load_state_dict(fitting, strict=False)
    extra = [key for key in state if key not in wanted and not key.endswith("num_batches_tracked")]
    for what, keys in (("missing", missing), ("of another shape", misshapen), ("unknown to the network", extra)):
        if keys:
            shown = ", ".join(keys) if len(keys) <= 3 else f"{keys[0]} ... {keys[-1]}"
            say(f"{path.name}: {len(keys)} of {len(wanted)} entries {what}, none of which {purpose} needs: {shown}")


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
