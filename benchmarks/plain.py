"""A plain eager loop over tensors in memory: what one would write by hand to train as fast as PyTorch goes.

    python benchmarks/plain.py B1.2 --epochs 2

It counts its loss and its correct predictions (for masks, each image's dice), in tensors, and records nothing else. The
network is the project's own, with its memory layout, so that only the loops differ; --network hand takes the one of
networks.py, in torch's default layout.
"""

import argparse
import time

import torch
from networks import CASES, Case, loss_of
from torch import nn
from turns import Turns

from retable.config.compose import Composer
from retable.run.assemble import make_data, make_task


class Plain:
    """The loop, with its data on the device. mixed: bfloat16 autocast."""

    def __init__(self, case: Case, words: list[str], device: str, mixed: bool, network: nn.Module | None) -> None:
        config = Composer().compose([*words, f"trainer.device={device}"]).config
        torch.manual_seed(1)
        data = make_data(config)
        model = network if network is not None else make_task(config, data).model
        self.device, self.mixed, self.case = torch.device(device), mixed, case
        self.model = model.to(self.device)
        self.optimizer, self.loss = case.optimizer(self.model.parameters()), loss_of(case)
        parts = data.resident_on(self.device)
        self.train, self.val = ((data.normalise(x), y.long()) for x, y in (parts["train"], parts["val"]))
        self.batch, self.eval_batch = config["data"]["batch_size"], config["data"]["eval_batch_size"]

    def epoch(self) -> tuple[float, int]:
        """Train and validate once; seconds of training, and its steps."""
        start = time.perf_counter()
        images, targets = self.train
        order = torch.randperm(len(targets), device=self.device).split(self.batch)
        loss_sum = torch.zeros((), device=self.device)
        counted = []
        self.model.train()
        for index in order:
            x, y = images[index], targets[index]
            self.optimizer.zero_grad()
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed):
                outputs = self.model(x)
                loss = self.loss(outputs, y)
            loss.backward()
            self.optimizer.step()
            loss_sum += loss.detach() * len(y)
            counted.append(self.count(outputs.detach(), y))
        self.figures = float(loss_sum) / len(targets), float(torch.cat(counted).float().mean())
        seconds = time.perf_counter() - start
        self.model.eval()
        counted = []
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed):
            for x, y in zip(self.val[0].split(self.eval_batch), self.val[1].split(self.eval_batch), strict=True):
                counted.append(self.count(self.model(x), y))
        self.val_figure = float(torch.cat(counted).float().mean())
        return seconds, len(order)

    def count(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Whether each label is right; of masks, each image's dice."""
        if not self.case.masks:
            return outputs.argmax(1) == targets
        found = outputs[:, 0] > 0 if outputs.shape[1] == 1 else outputs[:, 1] > outputs[:, 0]
        true = targets == 1
        both = (found & true).sum((1, 2))
        return 2 * both / (found.sum((1, 2)) + true.sum((1, 2))).clamp(min=1)


def main() -> None:
    """Train, and tell of each epoch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("overrides", nargs="*", help="of the project's configuration")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--small", action="store_true", help="the case's smaller form")
    parser.add_argument("--network", default="project", choices=("project", "hand"))
    options = parser.parse_args()
    if options.device == "cpu":
        torch.set_num_threads(1)
    case = CASES[options.case]
    network = case.network(*case.sizes(options.small)) if options.network == "hand" else None
    words = [*case.words(options.small), *options.overrides]
    plain = Plain(case, words, options.device, options.device == "cuda", network)
    turns = Turns()
    for _ in range(options.epochs):
        seconds, steps = plain.epoch()
        turns.tell(seconds, steps, train_figure=plain.figures[1], val_figure=plain.val_figure)


if __name__ == "__main__":
    main()
