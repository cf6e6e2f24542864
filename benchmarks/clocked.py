"""A network that tells when its first optimizer step is done, and ends everything (benchmarks/startup.py)."""

import os
import signal
import time
from pathlib import Path

import torch

from retable.models.cnn import CNN


class Clocked(CNN):
    """Writes the time at its second training step, when the first is done, to the file that FIRST_STEP names."""

    steps = 0

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        self.steps += self.training
        if self.steps == 2:
            Path(os.environ["FIRST_STEP"]).write_text(repr(time.time()))
            os.killpg(0, signal.SIGKILL)
        return super().forward(images_NCHW)
