"""MNIST (report B1): 60,000 digits to train, 10,000 to validate.

Source of the set: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document
recognition", Proc. IEEE 86(11), 1998.
"""

from pathlib import Path
from typing import Any, ClassVar

from retable.data.arrays import Splits
from retable.data.download import fetch
from retable.data.formats.idx import read_pair
from retable.data.module import ImageData
from retable.data.samples.digits import VERSION, write_digits

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
CLASSES = tuple("0123456789")


class MnistData(ImageData):
    """MNIST in its four idx files, gzipped or not, below `<root>/mnist/MNIST/raw`.

    Args:
        **base: see ImageData.
    """

    folder: ClassVar[str] = "mnist"
    sample_version: ClassVar[int] = VERSION

    def files(self) -> list[Path]:
        return self.expect([self._file(name) for name in NAMES])

    def read(self, files: list[Path]) -> Splits:
        train_images, train_labels, val_images, val_labels = files
        return Splits(read_pair(train_images, train_labels), read_pair(val_images, val_labels), CLASSES)

    def reading(self) -> dict[str, Any]:
        return {}  # the split is the set's own

    def download(self) -> None:
        from torchvision import datasets

        wanted = [self.location / "MNIST" / "raw" / name for name in NAMES]
        fetch("MNIST", self.location, wanted, lambda folder: datasets.MNIST(str(folder), download=True))

    def make_sample(self, folder: Path) -> None:
        write_digits(folder / "MNIST" / "raw", *NAMES)

    def _file(self, name: str) -> Path:
        plain = self.location / "MNIST" / "raw" / name
        zipped = plain.with_name(f"{name}.gz")
        return zipped if zipped.is_file() and not plain.is_file() else plain
