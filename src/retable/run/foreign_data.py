"""What can be known of a DataModule of somebody's own without reading all that it reads."""

import hashlib
import inspect
import random
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.seed import isolate_rng

_HALF = 32  # hexadecimal digits
_SEED = 0  # under which items are drawn, for sets that augment them


def fingerprint(data: pl.LightningDataModule, loaders: Mapping[str, Any]) -> tuple[str, str]:
    """A name of the data that a run trains on, and what it covers.

    Args:
        data: the DataModule.
        loaders: what it gave for each split: a DataLoader, or several in lists and dictionaries.

    Returns:
        64 hexadecimal digits, the first half of the items that were looked at and the second of the source; and a
        sentence. Arguments are left out, which are keys of the run: batches of another size are of the same data.
    """
    items, seen = hashlib.sha256(), []
    for split, given in loaders.items():
        for number, dataset in enumerate(_datasets(given)):
            found = _look(dataset)
            if found is not None:
                items.update(f"{split} {number}: ".encode() + found)
                seen.append(split)
    source, classes = hashlib.sha256(), []
    for cls in type(data).__mro__[: type(data).__mro__.index(pl.LightningDataModule)]:
        try:
            source.update(inspect.getsource(cls).encode())
            classes.append(cls.__qualname__)
        except (OSError, TypeError):  # typed into a notebook
            continue
    of_source = f"the source of {', '.join(classes)}" if classes else "no source"
    splits = " and ".join(dict.fromkeys(seen))
    of_items = f"the number of items and the first item of {splits}" if seen else "no items"
    return items.hexdigest()[:_HALF] + source.hexdigest()[:_HALF], f"{of_items}; {of_source}; nothing else"


def same_items(one: str, other: str) -> bool:
    """Whether two fingerprints are of the same items, whatever has become of the source."""
    return one[:_HALF] == other[:_HALF]


def _datasets(given: Any) -> Iterable[Any]:
    if isinstance(given, Mapping):
        given = list(given.values())
    for loader in given if isinstance(given, list | tuple) else [given]:
        if hasattr(loader, "dataset"):
            yield loader.dataset


def _look(dataset: Any) -> bytes | None:
    """A digest of a set's length and of its first item; None where the item is another one when it is asked for again,
    and for sets without indices."""
    try:
        first, again = (_digest(dataset), _digest(dataset))
    except Exception:  # a set that is iterated over, or one whose items have names
        return None
    return first if first == again else None


def _digest(dataset: Any) -> bytes:
    found = hashlib.sha256(f"{len(dataset)} items".encode())
    with isolate_rng(include_cuda=False):
        random.seed(_SEED)
        np.random.seed(_SEED)
        torch.manual_seed(_SEED)
        _add(found, dataset[0])
    return found.digest()


def _add(found: Any, value: Any) -> None:
    """Add a value to a digest, in a form that is the same in another process."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    elif hasattr(value, "__array_interface__") and not isinstance(value, np.ndarray):  # a picture of Pillow's
        value = np.asarray(value)
    if isinstance(value, np.ndarray) and value.dtype != object:
        found.update(f"{value.dtype} {value.shape} ".encode() + np.ascontiguousarray(value).tobytes())
    elif isinstance(value, Mapping):
        _add(found, list(value.items()))
    elif isinstance(value, list | tuple):
        found.update(f"{len(value)} values ".encode())
        for one in value:
            _add(found, one)
    elif isinstance(value, str | bytes | int | float | bool | None):
        found.update(f"{value!r} ".encode())
    else:
        found.update(f"a {type(value).__qualname__} ".encode())
