"""The same training the way of the Lightning-Hydra template, which this project's users would otherwise start from.

    python benchmarks/template.py B1.2 --epochs 2

A torchvision dataset (for pictures with masks: a Dataset that opens files) with transforms an item, a DataLoader with
the template's own defaults (num_workers=0, pin_memory=False, validation in training's batches), automatic optimisation,
torchmetrics objects logged at every step, and its callbacks: checkpoints of the best and the last epoch, early
stopping, a model summary, the progress bar of rich. As in the template there is no logger unless one is chosen, so it
writes no event files. The network is that of networks.py. Composing a configuration with Hydra is left out here, in the
template's favour.

Source: github.com/ashleve/lightning-hydra-template, configs/{data,callbacks,trainer} and its MNIST module.
"""

import argparse
import os
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from networks import CASES, Case, loss_of
from PIL import Image
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint, ModelSummary, RichProgressBar
from torch.utils.data import DataLoader, Dataset, Subset
from torchmetrics import JaccardIndex, MaxMetric, MeanMetric
from torchmetrics.classification import Accuracy
from torchmetrics.segmentation import DiceScore
from torchvision import datasets, transforms
from turns import Turns

# As this project's split by patient, data.split_seed=0; P01 and P11 are its test set.
VAL_PATIENTS, TEST_PATIENTS = ("P07", "P16"), ("P01", "P11")


class FirstBatch(datasets.CIFAR10):
    """The part of CIFAR-10 that the report used."""

    train_list = datasets.CIFAR10.train_list[:1]
    test_list: list[list[str]] = []  # noqa: RUF012 (torchvision's own attribute)

    def _load_meta(self) -> None:  # the names of the classes, which nothing here uses
        self.classes, self.class_to_idx = [], {}


class Pictures(Dataset):
    """Pictures with masks, opened when they are asked for."""

    def __init__(self, pairs: list[tuple[Path, Path]], size: int, mode: str) -> None:
        self.pairs, self.mode = pairs, mode
        self.image = transforms.Compose([transforms.Resize((size, size)), transforms.ToTensor()])
        self.mask = transforms.Resize((size, size), transforms.InterpolationMode.NEAREST)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image, mask = self.pairs[index]
        labels = np.array(self.mask(Image.open(mask))) > 0
        return self.image(Image.open(image).convert(self.mode)), torch.from_numpy(labels).long()


class Data(pl.LightningDataModule):
    """Datasets of a case, from the files below `root`."""

    def __init__(self, name: str, case: Case, root: Path, small: bool, workers: int, share: float) -> None:
        super().__init__()
        self.name, self.case, self.root, self.small = name, case, root, small
        self.workers, self.share = workers, share

    def setup(self, stage: str) -> None:
        train, val = getattr(self, {"B1.2": "_digits", "A1": "_cifar", "B2.2": "_glands", "E": "_heart"}[self.name])()
        if self.share < 1:
            train = Subset(train, range(round(len(train) * self.share)))
        self.train, self.val = train, val

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.train, self.case.batch, shuffle=True, num_workers=self.workers)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.val, self.case.batch, num_workers=self.workers)

    def _digits(self) -> tuple[Dataset, Dataset]:
        change = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
        return tuple(datasets.MNIST(self.root / "mnist", train, transform=change) for train in (True, False))

    def _cifar(self) -> tuple[Dataset, Dataset]:
        whole = FirstBatch(self.root / "cifar10", transform=transforms.ToTensor())
        order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(42)).tolist()
        return Subset(whole, order[:8000]), Subset(whole, order[8000:])

    def _glands(self) -> tuple[Dataset, Dataset]:
        return tuple(self._pictures(self.root / "warwick" / part, "image_", "RGB") for part in ("Train", "Test"))

    def _heart(self) -> tuple[Dataset, Dataset]:
        folder = self.root / "rvsc_png"
        pairs = [(file, folder / "masks" / file.name) for file in sorted((folder / "images").glob("*.png"))]
        of = {part: [p for p in pairs if (p[0].name[:3] in VAL_PATIENTS) == part] for part in (True, False)}
        size = self.case.sizes(self.small)[1]
        train = [p for p in of[False] if p[0].name[:3] not in TEST_PATIENTS]
        return Pictures(train, size, "L"), Pictures(of[True], size, "L")

    def _pictures(self, folder: Path, start: str, mode: str) -> Dataset:
        images = sorted(folder.glob(f"{start}*.png"))
        pairs = [(file, folder / file.name.replace(start, "label_")) for file in images]
        return Pictures(pairs, self.case.sizes(self.small)[1], mode)


class Module(pl.LightningModule):
    """A network with its loss and metric objects, one of each for training and for validation."""

    def __init__(self, case: Case, small: bool) -> None:
        super().__init__()
        self.case, self.net, self.criterion = case, case.network(*case.sizes(small)), loss_of(case)
        self.losses = torch.nn.ModuleDict({part: MeanMetric() for part in ("train_", "val_")})
        self.scores = torch.nn.ModuleDict({part: self._metrics() for part in ("train_", "val_")})
        self.best = MaxMetric()

    def _metrics(self) -> torch.nn.ModuleDict:
        if not self.case.masks:
            return torch.nn.ModuleDict({"acc": Accuracy(task="multiclass", num_classes=self.case.classes)})
        dice = DiceScore(num_classes=2, include_background=False, input_format="index")
        iou, acc = JaccardIndex(task="binary"), Accuracy(task="binary")
        return torch.nn.ModuleDict({"dice": dice, "iou": iou, "acc": acc})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)

    def model_step(self, batch: Any, part: str) -> torch.Tensor:
        x, y = batch
        logits = self(x)
        loss = self.criterion(logits, y)
        found = (logits[:, 0] > 0).long() if logits.shape[1] == 1 else torch.argmax(logits, dim=1)
        self.losses[f"{part}_"](loss)
        self.log(f"{part}/loss", self.losses[f"{part}_"], on_step=False, on_epoch=True, prog_bar=True)
        for name, score in self.scores[f"{part}_"].items():
            score(found, y)
            self.log(f"{part}/{name}", score, on_step=False, on_epoch=True, prog_bar=True)
        return loss

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        return self.model_step(batch, "train")

    def validation_step(self, batch: Any, index: int) -> None:
        self.model_step(batch, "val")

    def on_train_start(self) -> None:
        self.best.reset()  # of the sanity check

    def on_validation_epoch_end(self) -> None:
        self.best(self.scores["val_"]["dice" if self.case.masks else "acc"].compute())
        self.log("val/best", self.best.compute(), sync_dist=True, prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.case.optimizer(self.parameters())


class Clock(pl.Callback):
    """Tells of each epoch, from the beginning of one to that of the next."""

    def __init__(self, turns: Turns, metric: str) -> None:
        self.turns, self.metric = turns, metric
        self.train: float | None = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._tell(trainer)
        self.train, self._start = None, time.perf_counter()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            self.train = time.perf_counter() - self._start

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._tell(trainer)

    def _tell(self, trainer: pl.Trainer) -> None:
        if self.train is not None:
            figures = {
                f"{part}_figure": float(trainer.callback_metrics[f"{part}/{self.metric}"]) for part in ("train", "val")
            }
            self.turns.tell(self.train, trainer.num_training_batches, **figures)


def main() -> None:
    """Train, and tell of each epoch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--small", action="store_true", help="the case's smaller form")
    parser.add_argument("--workers", type=int, default=0, help="of the DataLoaders (the template's default: 0)")
    parser.add_argument("--share", type=float, default=1.0, help="of the training images")
    parser.add_argument("--root", type=Path, default=Path(os.environ.get("RETABLE_DATA", "data")))
    options = parser.parse_args()
    if options.device == "cpu":
        torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    case, turns = CASES[options.case], Turns()
    metric = "dice" if case.masks else "acc"
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            accelerator="gpu" if options.device == "cuda" else "cpu",
            devices=1,
            precision="bf16-mixed" if options.device == "cuda" else "32-true",
            max_epochs=options.epochs,
            logger=False,
            default_root_dir=folder,
            callbacks=[
                ModelCheckpoint(
                    Path(folder) / "checkpoints",
                    "epoch_{epoch:03d}",
                    f"val/{metric}",
                    mode="max",
                    save_last=True,
                    auto_insert_metric_name=False,
                ),
                EarlyStopping(f"val/{metric}", patience=100, mode="max"),
                ModelSummary(max_depth=-1),
                RichProgressBar(),
                Clock(turns, metric),
            ],
        )
        data = Data(options.case, case, options.root, options.small, options.workers, options.share)
        trainer.fit(Module(case, options.small), datamodule=data)


if __name__ == "__main__":
    main()
