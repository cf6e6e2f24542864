"""A LightningModule and a LightningDataModule as somebody writes them who has never heard of this project."""

import itertools
import os
import time
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
import torchmetrics
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, random_split


class LitNet(pl.LightningModule):
    def __init__(self, lr=1e-3, width=8, dropout=0.2, activation: nn.Module | None = None, diverge=False):
        super().__init__()
        self.save_hyperparameters(ignore="activation")
        activation = activation or nn.ReLU()
        self.net = nn.Sequential(nn.Linear(6, width), activation, nn.Dropout(dropout), nn.Linear(width, 3))
        self.criterion = nn.CrossEntropyLoss()
        self.train_acc = torchmetrics.Accuracy(task="multiclass", num_classes=3)
        self.val_acc = torchmetrics.Accuracy(task="multiclass", num_classes=3)

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        logits = self(x)
        loss = self.criterion(logits, y)
        if self.hparams.diverge and self.global_step == 5:
            loss = loss * float("nan")
        self.train_acc(logits, y)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        self.log("train_acc", self.train_acc, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        logits = self(x)
        self.val_acc(logits, y)
        self.log("val_loss", self.criterion(logits, y))
        self.log("val_acc", self.val_acc)

    def on_train_epoch_end(self):
        wait = os.environ.get("WAIT_WHILE_THERE_IS")
        while wait and self.current_epoch == 1 and os.path.exists(wait):
            time.sleep(0.05)

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.lr)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "val_loss"}}


class Tested(LitNet):
    def test_step(self, batch, batch_idx):
        self.log("test_loss", self.criterion(self(batch[0]), batch[1]))


class Nameless(LitNet):
    """Its metrics are called neither train's nor val's."""

    def training_step(self, batch, batch_idx):
        loss = self.criterion(self(batch[0]), batch[1])
        self.log("g_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log_dict({"recon": self(batch[0]).square().mean(), "val_loss/of_the_first": self(batch[0]).mean()})

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.hparams.lr)


class Alternating(LitNet):
    """A second head that no loss reaches."""

    def __init__(self, lr=1e-3, width=8, dropout=0.2):
        super().__init__(lr=lr, width=width, dropout=dropout)
        self.unused = nn.Linear(width, 3)


class Template(LitNet):
    """Its optimizer comes as a partial, as in lightning-hydra-template."""

    def __init__(self, optimizer, lr=1e-3, width=8, more=()):
        super().__init__(lr=lr, width=width)
        self.make_optimizer = optimizer

    def configure_optimizers(self):
        return self.make_optimizer(self.parameters())


class Bare(LitNet):
    """Without an optimizer of its own."""

    configure_optimizers = pl.LightningModule.configure_optimizers


class LeavesData(pl.LightningDataModule):
    def __init__(self, batch_size: int = 32, workers: int = 0):
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage=None):
        x = torch.randn(300, 6, generator=torch.Generator().manual_seed(7))
        self.train, self.val = random_split(TensorDataset(x, x[:, :3].argmax(1)), [240, 60])

    def train_dataloader(self):
        h = self.hparams
        return DataLoader(self.train, h.batch_size, shuffle=True, num_workers=h.workers)

    def val_dataloader(self):
        return DataLoader(self.val, 64)

    def test_dataloader(self):
        return DataLoader(self.val, 64)


class OwnGenerator(LeavesData):
    def train_dataloader(self):
        return DataLoader(self.train, 16, shuffle=True, generator=torch.Generator().manual_seed(1))


class Ordered(LeavesData):
    """Every epoch in one order."""

    def train_dataloader(self):
        return DataLoader(self.train, self.hparams.batch_size)


class Shifted(LeavesData):
    """The same leaves a little larger."""

    def setup(self, stage=None):
        super().setup(stage)
        x, y = self.train.dataset.tensors
        self.train.dataset.tensors = (x + 0.01, y)


class Endless(IterableDataset):
    def __iter__(self):
        for _ in range(8):
            x = torch.randn(6)
            yield x, x[:3].argmax()


class Streamed(LeavesData):
    def train_dataloader(self):
        return DataLoader(Endless(), self.hparams.batch_size)


class Predicted(LeavesData):
    def predict_dataloader(self):
        return DataLoader(self.train.dataset.tensors[0], batch_size=64)


class ByPosition(LeavesData):
    def predict_dataloader(self):
        return DataLoader(self.train.dataset.tensors[0], 64)


class Noted(LitNet):
    def predict_step(self, batch, batch_idx):
        return {"logits": self(batch), "note": "hello"}


class Named(LitNet):
    def predict_step(self, batch, batch_idx):
        logits = self(batch)
        return {"label": logits.argmax(1), "margin": logits.max() - logits.min()}


class FolderData(LeavesData):
    """Its hyperparameters are no plain values."""

    def __init__(self, batch_size: int = 32, workers: int = 0, folder: str = "."):
        super().__init__(batch_size, workers)
        self.folder = Path(folder)
        self.save_hyperparameters({"folder": self.folder, "made_by": object()})


class Deep(LitNet):
    """Its arguments are a list, a mapping and an object; all are saved as hyperparameters."""

    def __init__(self, widths=(8,), rates: dict | None = None, activation: nn.Module | None = None, dropout=0.2):
        super().__init__(lr=(rates or {}).get("adam", 1e-3), dropout=dropout)
        self.save_hyperparameters()
        sizes = [6, *widths, 3]
        self.net = nn.Sequential(*(nn.Linear(*pair) for pair in itertools.pairwise(sizes)))


class Odd(LitNet):
    """Keeps what no checkpoint can be read with, where no code is executed."""

    def on_save_checkpoint(self, checkpoint):
        checkpoint["folder"] = Path("leaves")


class OddCallback(pl.Callback):
    def state_dict(self):
        return {"folder": Path("leaves")}


class Drawing(LitNet):
    """Writes to its logger, whatever that is, as Lightning lets it."""

    def on_validation_epoch_end(self):
        self.logger.experiment.add_histogram("weights", self.net[0].weight, self.current_epoch)
        self.logger.log_metrics({"mine": 1.0}, step=self.global_step)
        assert Path(self.trainer.log_dir).parent.is_dir()


class Stopping(LitNet):
    """Brings a callback that monitors what nothing logs."""

    def configure_callbacks(self):
        return [pl.callbacks.EarlyStopping("val_los")]


class Sees(pl.Callback):
    """Logs a metric of its own."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        pl_module.log("seen", float(trainer.global_step))


class Counting(LitNet):
    """Keeps NumPy's arrays and numbers in its checkpoints."""

    def __init__(self, lr=1e-3, width=8, dropout=0.2):
        super().__init__(lr=lr, width=width, dropout=dropout)
        self.seen = np.zeros(3, dtype=np.int64)

    def on_train_epoch_start(self):
        self.seen += [1, 2, 3]
        self.log("seen", float(self.seen.sum()))

    def on_save_checkpoint(self, checkpoint):
        checkpoint["seen"] = {"all": self.seen, "mean": self.seen.mean(), "any": self.seen > 1, "name": np.str_("seen")}
        checkpoint["halves"] = np.arange(2, dtype=np.float16)

    def on_load_checkpoint(self, checkpoint):
        assert checkpoint["seen"]["mean"] == checkpoint["seen"]["all"].mean()
        self.seen = checkpoint["seen"]["all"]
