"""How a finished run's model did on each single image of the validation and the test set: images.json.

By the column of the history that their mean is, `val/accuracy` for example: right or wrong as packed bits, other
metrics (dice) as float32, both in base64. From several seeds' files the spread over seeds is predicted
(retable.report.predicted).
"""

import base64
import binascii
from pathlib import Path
from typing import Any

import numpy as np

from retable import atomic
from retable.run import files

MOST = 10_000_000  # images


def write_images(directory: Path, task: Any) -> None:
    """Leave a task's `image_metrics` of the splits that it has seen, if it has any."""
    found = {
        f"{split}/{name}": encoded(values)
        for split in ("val", "test")
        if task.has_seen(split)
        for name, values in task.image_metrics(split).items()
    }
    if found:
        atomic.write_json(directory / files.IMAGES, found)


def encoded(values_N: np.ndarray) -> dict[str, Any]:
    """
    >>> encoded(np.array([True, False, True]))
    {'images': 3, 'bits': 'oA=='}
    """
    if values_N.dtype == bool:
        return {"images": len(values_N), "bits": base64.b64encode(np.packbits(values_N).tobytes()).decode()}
    return {"images": len(values_N), "float32": base64.b64encode(values_N.astype("<f4").tobytes()).decode()}


def read_images(directory: Path) -> dict[str, np.ndarray]:
    """Each column's value of every image, float64 (N,), right as 1 and wrong as 0; what is not whole is left out."""
    found = {}
    for column, entry in (atomic.read_json(directory / files.IMAGES) or {}).items():
        values = decoded(entry)
        if values is not None:
            found[column] = values
    return found


def decoded(entry: Any) -> np.ndarray | None:
    """What `encoded` was given, as float64; None for anything that it can't have made."""
    count = entry.get("images") if isinstance(entry, dict) else None
    if not isinstance(count, int) or isinstance(count, bool) or not 0 < count <= MOST:
        return None
    kind = "bits" if "bits" in entry else "float32"
    try:
        content = base64.b64decode(entry.get(kind, ""), validate=True)
    except (TypeError, ValueError, binascii.Error):
        return None
    if len(content) != (-(-count // 8) if kind == "bits" else 4 * count):
        return None
    if kind == "float32":
        return np.frombuffer(content, "<f4").astype(np.float64)
    return np.unpackbits(np.frombuffer(content, np.uint8), count=count).astype(np.float64)
