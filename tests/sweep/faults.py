"""A model that goes wrong on purpose, for the tests of the sweep engine: `model._target_=tests.sweep.faults.Faulty`."""

import ctypes
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

LONG = 600
WORDS = "\x1b[2J\u65e5\udc80" + 5_000_000 * "x"


class Faulty(nn.Module):
    """One linear layer whose forward pass does something else at its second training step.

    Args:
        fault: none, raise, words (that no terminal can show, and too many), other, exit, segfault, kill, memory (once),
            slow, leave (ends without a word), meta (can't be built without memory), child, orphan, stray (leave a
            process behind: a living worker, a dead one, in a session of its own), stop (SIGSTOP), hold (the GIL),
            vanish (its run's directory), hang (for long), hog (4 GB of memory) or elsewhere (raise, in rank 1 alone).
    """

    def __init__(self, in_shape: Any, num_classes: int, fault: str = "none", **rest: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(torch.Size(in_shape).numel(), num_classes)
        self.fault, self.steps = fault, 0
        if fault == "meta":
            self.shares = [value.item() for value in torch.linspace(0, 1, 3)]  # impossible on the meta device

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.steps += self.training
        if self.training and self.fault == "slow":
            time.sleep(0.2)
        if self.training and self.steps == 2:
            self._go_wrong()
        return self.layer(images.flatten(1))

    def _go_wrong(self) -> None:
        if self.fault == "raise" or (self.fault == "elsewhere" and torch.distributed.get_rank() == 1):
            raise RuntimeError("wrong on purpose")
        if self.fault == "words":
            raise RuntimeError(WORDS)
        if self.fault == "other":
            raise KeyError("another reason")
        if self.fault == "exit":
            sys.exit(7)
        if self.fault == "segfault":
            ctypes.string_at(0)
        if self.fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "leave":
            os._exit(5)
        if self.fault in ("child", "orphan", "stray") and os.fork() == 0:
            if self.fault == "stray":
                os.setsid()
            time.sleep(LONG)
            os._exit(0)
        if self.fault in ("orphan", "stray"):
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "vanish":
            shutil.rmtree(Path(os.readlink("/proc/self/fd/1")).parent)  # where its log is
        if self.fault == "hang":
            time.sleep(LONG)
        if self.fault == "hog":
            self.much = torch.ones(2**30)
            time.sleep(LONG)
        if self.fault == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        if self.fault == "hold":
            ctypes.PyDLL(None).sleep(LONG)  # unlike CDLL it keeps the interpreter's lock meanwhile
        if self.fault == "memory" and not os.environ.get("FAULTY_HAS_MEMORY"):
            os.environ["FAULTY_HAS_MEMORY"] = "1"
            raise MemoryError("not enough memory")
