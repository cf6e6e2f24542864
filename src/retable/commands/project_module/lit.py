"""Species by their photographs: a LightningModule and a LightningDataModule that know nothing of retable."""

from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
import torchmetrics
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

SPECIES = ("oak", "beech", "birch")


class LitNet(pl.LightningModule):
    """Two convolutions and a linear layer, trained by Adam.

    Args:
        lr: learning rate.
        width: feature maps of the first convolution, doubled by the second.
    """

    def __init__(self, lr: float = 1e-3, width: int = 8) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(2 * width * 16, len(SPECIES)),
        )
        self.train_acc = torchmetrics.Accuracy(task="multiclass", num_classes=len(SPECIES))
        self.val_acc = self.train_acc.clone()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.net(images)

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        images, labels = batch
        logits = self(images)
        loss = nn.functional.cross_entropy(logits, labels)
        self.train_acc(logits, labels)
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        self.log("train/acc", self.train_acc, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> None:
        images, labels = batch
        logits = self(images)
        self.val_acc(logits, labels)
        self.log("val/loss", nn.functional.cross_entropy(logits, labels))
        self.log("val/acc", self.val_acc)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.hparams.lr)


class Photos(pl.LightningDataModule):
    """Photographs below <root>/train/<species> and <root>/val/<species>, resized to squares.

    Args:
        source: real, or sample: drawn pictures, for trying things out without a photograph.
        root: folder of the photographs.
        size: pixels a side.
        batch_size: images a mini-batch.
    """

    def __init__(self, source: str = "real", root: str = "data/leaves", size: int = 32, batch_size: int = 16) -> None:
        super().__init__()
        self.source, self.root, self.size, self.batch_size = source, Path(root), size, batch_size

    def setup(self, stage: str | None = None) -> None:
        make = self._draw if self.source == "sample" else self._read
        self.train, self.val = make("train"), make("val")

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.train, self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.val, 64)

    def _read(self, split: str) -> TensorDataset:
        files = [file for species in SPECIES for file in sorted((self.root / split / species).glob("*.png"))]
        if not files:
            raise ValueError(f"no photographs in {self.root / split}/{{{','.join(SPECIES)}}}/*.png")
        images = [np.asarray(Image.open(file).convert("RGB").resize((self.size, self.size))) for file in files]
        return _dataset(np.stack(images), [SPECIES.index(file.parent.name) for file in files])

    def _draw(self, split: str) -> TensorDataset:
        """Pictures of three shapes."""
        draw = np.random.default_rng(len(split))
        rows, columns = np.mgrid[-1 : 1 : self.size * 1j, -1 : 1 : self.size * 1j]
        labels = np.arange(180 if split == "train" else 60) % len(SPECIES)
        images = draw.normal(90, 15, (len(labels), self.size, self.size, 3))
        for image, label in zip(images, labels, strict=True):
            angle, radius = np.arctan2(rows, columns) + draw.uniform(0, 1), np.hypot(rows, columns)
            image[radius < draw.uniform(0.4, 0.7) * (1 + 0.5 * np.cos((label + 2) * angle))] += draw.uniform(60, 120, 3)
        return _dataset(images.clip(0, 255), labels)


def _dataset(images_NHWC: np.ndarray, labels: object) -> TensorDataset:
    images = torch.from_numpy(images_NHWC.transpose(0, 3, 1, 2).copy()).float() / 255 - 0.5
    return TensorDataset(images, torch.as_tensor(np.array(labels)))
