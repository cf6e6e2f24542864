"""Two clouds of points, and a line that is to part them."""

import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Blobs(pl.LightningDataModule):
    """Points around (-1, -1) and (1, 1), other ones for each part."""

    def __init__(self, points: int, batch_size: int) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)

    def loader(self, part: int, shuffle: bool = False) -> DataLoader:
        noise = torch.randn(self.hparams.points, 2, generator=torch.Generator().manual_seed(part))
        label = torch.arange(self.hparams.points) % 2
        points = TensorDataset(noise + 2 * label[:, None] - 1, label)
        return DataLoader(points, self.hparams.batch_size, shuffle=shuffle)

    def train_dataloader(self) -> DataLoader:
        return self.loader(0, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return self.loader(1)

    def test_dataloader(self) -> DataLoader:
        return self.loader(2)


class Line(pl.LightningModule):
    """A linear classifier, whose accuracy is logged under train/, val/ and test/."""

    def __init__(self, net: nn.Module, optimizer) -> None:
        super().__init__()
        self.net, self.optimizer = net, optimizer

    def step(self, batch, part: str) -> torch.Tensor:
        points, label = batch
        found = self.net(points)
        loss = nn.functional.cross_entropy(found, label)
        accuracy = (found.argmax(1) == label).float().mean()
        self.log_dict({f"{part}/loss": loss, f"{part}/acc": accuracy}, on_step=False, on_epoch=True)
        return loss

    def training_step(self, batch, index) -> torch.Tensor:
        return self.step(batch, "train")

    def validation_step(self, batch, index) -> None:
        self.step(batch, "val")

    def test_step(self, batch, index) -> None:
        self.step(batch, "test")

    def configure_optimizers(self):
        return self.optimizer(params=self.parameters())
