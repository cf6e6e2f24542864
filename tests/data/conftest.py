"""Small sets with values that can be told by hand."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from retable.data import loader
from retable.data.arrays import ImageSet, Splits
from retable.data.module import ImageData


@pytest.fixture(autouse=True)
def _fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """No set is left in memory from the test before."""
    monkeypatch.setattr(loader, "_last", [])


class TinyData(ImageData):
    """Image i is filled with the value i: 60 to train, 20 to validate, 1x2x2, two classes that alternate."""

    folder = "tiny"
    reads = 0

    def files(self) -> list[Path]:
        return self.expect([self.location / "values.bin"])

    def read(self, files: list[Path]) -> Splits:
        type(self).reads += 1
        values = np.frombuffer(files[0].read_bytes(), np.uint8)
        images = np.broadcast_to(values[:, None, None, None], (len(values), 1, 2, 2)).copy()
        targets = (values % 2).astype(np.int64)
        return Splits(ImageSet(images[:60], targets[:60]), ImageSet(images[60:], targets[60:]), ("even", "odd"))

    def make_sample(self, folder: Path) -> None:
        (folder / "values.bin").write_bytes(bytes(range(100, 180)))


@pytest.fixture
def tiny(tmp_path: Path):
    """Makes TinyData with given arguments; its file lies in <tmp_path>/root/tiny, its cache in <tmp_path>/cache."""
    folder = tmp_path / "root" / "tiny"
    folder.mkdir(parents=True)
    (folder / "values.bin").write_bytes(bytes(range(80)))
    TinyData.reads = 0

    def make(**arguments) -> TinyData:
        return TinyData(root=tmp_path / "root", cache=tmp_path / "cache", **arguments)

    return make


@pytest.fixture
def trainer():
    """Makes a stand-in for Lightning's Trainer with its defaults, but for what is given."""

    def make(device: str = "cpu", **changed) -> SimpleNamespace:
        defaults = {"limit_train_batches": 1.0, "fast_dev_run": False, "overfit_batches": 0.0, "max_steps": -1}
        strategy = SimpleNamespace(root_device=torch.device(device))
        return SimpleNamespace(strategy=strategy, **({"val_check_interval": 1.0} | defaults | changed))

    return make
