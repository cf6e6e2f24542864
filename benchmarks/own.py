"""This project's side of the step benchmark: a run as `train.py` makes it, with everything that it records."""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from networks import CASES
from turns import Turns

from retable.run.imports import import_all


def main() -> None:
    """Train, and tell of each epoch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("overrides", nargs="*", help="of the configuration")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--small", action="store_true", help="the case's smaller form")
    options = parser.parse_args()
    import_all()
    import torch

    from retable.config.compose import Composer
    from retable.run.execute import execute

    if options.device == "cpu":
        torch.set_num_threads(1)
    words = [*CASES[options.case].words(options.small), *options.overrides]
    more = [f"trainer.max_epochs={options.epochs}", f"trainer.device={options.device}"]
    config = Composer().compose([*words, *more]).config
    turns = Turns()
    done = 0

    def on_epoch(row: dict[str, Any]) -> None:
        nonlocal done
        metric = config["task"]["metric"]
        figures = {"train_figure": row[metric.replace("val/", "train/")], "val_figure": row[metric]}
        turns.tell(row["seconds/train"], row["step"] - done, **figures)
        done = row["step"]

    with tempfile.TemporaryDirectory() as folder:
        execute(config, Path(folder) / "run", on_epoch=on_epoch)


if __name__ == "__main__":
    sys.exit(main())
