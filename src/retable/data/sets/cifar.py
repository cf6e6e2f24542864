"""CIFAR-10 (report A1): one batch of 10,000 images, split 8,000 / 2,000; or the whole set, 50,000 / 10,000.

Source of the set: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from retable import checks
from retable.data.arrays import Splits, joined
from retable.data.download import fetch
from retable.data.formats.cifar_batch import read_batch, read_names
from retable.data.module import ImageData
from retable.data.samples.objects import VERSION, write_objects
from retable.data.split import balanced_share
from retable.errors import DataError

CLASSES = ("plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
OFFICIAL = ("airplane", "automobile", *CLASSES[2:])
BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))


class CifarData(ImageData):
    """CIFAR-10 in its python batches, below `<root>/cifar10/cifar-10-batches-py`.

    Args:
        files: any of data_batch_1 to data_batch_5, split by `val_share`; or full: all five to train, test_batch to
            validate.
        val_share: share held out, as many of each class as of every other; in (0, 1). Not used with full.
        **base: see ImageData.
    """

    folder: ClassVar[str] = "cifar10"
    sample_version: ClassVar[int] = VERSION

    def __init__(self, files: str | Sequence[str] = ("data_batch_1",), val_share: float = 0.2, **base: Any) -> None:
        super().__init__(**base)
        self.full = files == "full"
        accepted = f"full, or a list of different ones of {', '.join(BATCHES)}"
        try:
            names = list(BATCHES) if self.full else [files] if isinstance(files, str) else list(files)
        except TypeError:
            raise checks.refuse("files", files, accepted) from None
        if not names or len(set(names)) != len(names) or not set(names) <= set(BATCHES):
            raise checks.refuse("files", files, accepted)
        self.batches = tuple(names)
        checks.number("val_share", val_share, 0, 1, open_low=True, open_high=True)
        self.val_share = float(val_share)

    def files(self) -> list[Path]:
        names = [*self.batches, *(["test_batch"] if self.full else []), "batches.meta"]
        if self.source == "sample" and names != ["data_batch_1", "batches.meta"]:
            raise DataError(
                "data.files: the sample set of cifar10 has data_batch_1 only; use data.files=[data_batch_1]"
            )
        return self.expect([self._batch(name) for name in names])

    def read(self, files: list[Path]) -> Splits:
        *batches, meta = files
        names = read_names(meta)
        if names != OFFICIAL:
            raise DataError(f"{meta}: classes {', '.join(names)}, expected {', '.join(OFFICIAL)}")
        parts = [read_batch(path) for path in batches]
        test = parts.pop() if self.full else None
        pool = joined(parts)
        if test is not None:
            return Splits(pool, test, CLASSES)
        held_out = balanced_share(pool.targets, self.val_share, self.split_seed)
        rest = np.setdiff1d(np.arange(len(pool)), held_out, assume_unique=True)
        return Splits(pool.take(rest), pool.take(held_out), CLASSES)

    def reading(self) -> dict[str, Any]:
        if self.full:
            return {"files": "full"}  # the split is the set's own
        return {"files": self.batches, "val_share": self.val_share, "split_seed": self.split_seed}

    def download(self) -> None:
        from torchvision import datasets

        wanted = [self._batch(name) for name in (*BATCHES, "test_batch", "batches.meta")]
        fetch("CIFAR-10", self.location, wanted, lambda folder: datasets.CIFAR10(str(folder), download=True))

    def make_sample(self, folder: Path) -> None:
        write_objects(folder / "cifar-10-batches-py", OFFICIAL)

    def _batch(self, name: str) -> Path:
        return self.location / "cifar-10-batches-py" / name
