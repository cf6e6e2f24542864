"""What a step costs: an epoch of B1.2 with everything recorded, against a plain eager loop.

    python benchmarks/step.py            60,000 real digits, batch 32, one CPU thread

Both sides train and validate on the same in-memory tensors in one process, taking turns epoch by epoch. The project's
epoch holds all that it records: losses, confusion counts, gradient norms, history, TensorBoard events, the checkpoint.
The plain loop counts its loss and its correct predictions, in tensors, and nothing else.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import ratios, save
from torch import nn

from ablate.config.compose import Composer
from ablate.run.assemble import make_data, make_task
from ablate.run.execute import execute

torch.set_num_threads(1)


class Plain:
    """The loop that one would write by hand."""

    def __init__(self, config: dict[str, Any]) -> None:
        torch.manual_seed(1)
        data = make_data(config)
        data.setup("fit")
        self.model = make_task(config, data).model
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=config["optimizer"]["lr"])
        self.loss = nn.CrossEntropyLoss()
        self.train = data.normalise(data.train_images), data.train_targets
        self.val = data.normalise(data.val_images), data.val_targets
        self.batch, self.eval_batch = config["data"]["batch_size"], config["data"]["eval_batch_size"]

    def epoch(self) -> tuple[float, float]:
        """Seconds of training and of validation."""
        start = time.perf_counter()
        images, targets = self.train
        self.model.train()
        loss_sum, correct = torch.zeros(()), torch.zeros((), dtype=torch.int64)
        for index in torch.randperm(len(targets)).split(self.batch):
            x, y = images[index], targets[index]
            self.optimizer.zero_grad()
            logits = self.model(x)
            loss = self.loss(logits, y)
            loss.backward()
            self.optimizer.step()
            loss_sum += loss.detach() * len(y)
            correct += (logits.argmax(1) == y).sum()
        middle = time.perf_counter()
        self.model.eval()
        with torch.inference_mode():
            for x, y in zip(self.val[0].split(self.eval_batch), self.val[1].split(self.eval_batch), strict=True):
                correct += (self.model(x).argmax(1) == y).sum()
        return middle - start, time.perf_counter() - middle


def measure(epochs: int) -> dict[str, Any]:
    """Alternate the project's epochs with the plain loop's."""
    config = Composer().compose(["task=mnist", f"trainer.max_epochs={epochs + 1}", "trainer.device=cpu"]).config
    plain = Plain(config)
    whole: dict[str, list[float]] = {"ablate": [], "plain": []}
    train: dict[str, list[float]] = {"ablate": [], "plain": []}
    clock = time.perf_counter()

    def on_epoch(row: dict[str, Any]) -> None:
        nonlocal clock
        ours = time.perf_counter() - clock
        with torch.enable_grad():
            seconds = plain.epoch()
        if row["epoch"] > 1:  # the first pair warms both sides up
            whole["ablate"].append(ours)
            train["ablate"].append(row["seconds/train"])
            whole["plain"].append(sum(seconds))
            train["plain"].append(seconds[0])
            print(f"epoch {row['epoch']}: ablate {ours:.2f} s, plain {sum(seconds):.2f} s", flush=True)
        clock = time.perf_counter()

    with tempfile.TemporaryDirectory() as folder:
        execute(config, Path(folder) / "run", on_epoch=on_epoch)
    return {
        "what": "B1.2: 60,000 digits, batch 32, one thread; seconds an epoch, in turns",
        "pairs": epochs,
        "whole_epoch_seconds": {side: [round(s, 3) for s in values] for side, values in whole.items()},
        "whole_epoch_ratio": ratios(whole["ablate"], whole["plain"]),
        "train_ratio": ratios(train["ablate"], train["plain"]),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=7, help="pairs of epochs")
    result = measure(parser.parse_args().pairs)
    print(f"whole epoch: {result['whole_epoch_ratio']}; training alone: {result['train_ratio']}")
    print(save("step", result))
