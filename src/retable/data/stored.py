"""Splits as the cache keeps them: arrays by name, and plain values."""

from typing import Any

import numpy as np

from retable.data.arrays import ImageSet, Splits

Arrays = dict[str, np.ndarray]


def pack(splits: Splits) -> tuple[Arrays, dict[str, Any]]:
    """Arrays by name (`train_images`, `train_targets`, `train_about_<key>`, ...) and the JSON-able rest."""
    arrays: Arrays = {}
    same: dict[str, str] = {}
    for name, part in splits.parts.items():
        earlier = next((other for other, images in splits.parts.items() if images is part), name)
        if earlier != name:
            same[name] = earlier
            continue
        arrays |= {f"{name}_images": part.images, f"{name}_targets": part.targets}
        arrays |= {f"{name}_about_{key}": values for key, values in part.about.items()}
    rest = {
        "classes": list(splits.classes),
        "left_out": dict(splits.left_out),
        "codes": splits.codes,
        "extra": dict(splits.extra),
        "same": same,  # parts that are one of the others, e.g. {"test": "val"}
    }
    return arrays, rest


def unpack(arrays: Arrays, rest: dict[str, Any]) -> Splits:
    """What `pack` was given."""
    parts = {name: _part(arrays, name) for name in ("train", "val", "test") if f"{name}_images" in arrays}
    parts |= {name: parts[other] for name, other in rest["same"].items()}
    return Splits(
        parts["train"],
        parts["val"],
        tuple(rest["classes"]),
        parts.get("test"),
        rest["left_out"],
        rest["codes"],
        rest["extra"],
    )


def _part(arrays: Arrays, name: str) -> ImageSet:
    start = f"{name}_about_"
    about = {key.removeprefix(start): values for key, values in arrays.items() if key.startswith(start)}
    return ImageSet(arrays[f"{name}_images"], arrays[f"{name}_targets"], about)
