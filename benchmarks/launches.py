"""What the host asks of a GPU: launches, waits and copies of a step, a chunk, a validation batch and an epoch.

    python benchmarks/launches.py                       B1.2 and A1, in float32 and bf16, eager and recorded
    python benchmarks/launches.py --case A1 --epochs 5
    python benchmarks/launches.py --fused 1 29          steps of so many runs of A1 and B1.2 as one model

Counted by a stand-in for CUDA's libraries (the environment that its `env.sh` makes), which computes nothing: counts are
the same each time, and no machine is needed. They say what a step costs the host and where it waits, not how long.
Medians over the calls of all epochs but the first and the last, in which a run begins and ends; `RETABLE_DATA` names
the folder of the data. The stand-in has no cuDNN, and takes a convolution image by image: it is counted as cuDNN's
kernels, one forward, one for a bias, one for each gradient.
"""

import argparse
import ctypes
import functools
import json
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from retable.config.compose import Composer
from retable.run.execute import execute
from retable.run.record import Record
from retable.tasks.base import Task
from retable.tasks.chunks import ChunkSteps
from retable.training.fused import Member, train_together

CASES = {
    "B1.2": ("task=mnist",),
    "A1": ("task=cifar", "model.blocks=3", "model.width=32", "data.batch_size=32"),
    "A1.2": ("task=cifar",),  # A1's runs as they are published: batches of 64
}
FORMS = {
    "eager": (),
    "eager, bf16": ("trainer.precision=bf16-mixed",),
    "recorded": ("trainer.cuda_graph=true",),
    "recorded, bf16": ("trainer.cuda_graph=true", "trainer.precision=bf16-mixed"),
}
# What the counters hold, by their places. A pageable copy and a copy back wait for the device.
LAUNCHES, GRAPHS, WAITS, COPIES = (0, 4, 5, 12), (11,), (6, 7, 8), (1, 2, 3)
SHOWN = {"launches": LAUNCHES, "graph launches": GRAPHS, "waits": WAITS, "copies": COPIES}


def counters() -> Any:
    """The stand-in's counters, or None where this process runs on no stand-in."""
    try:
        read = ctypes.CDLL(None).shim_counters
    except AttributeError:
        return None
    read.restype = ctypes.POINTER(ctypes.c_long)
    return read()


class Convolutions(TorchDispatchMode):
    """Sees convolutions, and what they have counted beyond cuDNN's kernels.

    Attributes:
        beyond: launches and calls of cuBLAS that are to be left out of the count.
    """

    def __init__(self, read: Any) -> None:
        super().__init__()
        self.beyond, self._read = 0, read

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in (torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default):
            return func(*args, **(kwargs or {}))
        before = sum(self._read[place] for place in LAUNCHES)
        found = func(*args, **(kwargs or {}))
        kernels = 1 + (args[2] is not None) if torch.is_tensor(found) else sum(part is not None for part in found)
        if args[0].is_cuda:
            self.beyond += sum(self._read[place] for place in LAUNCHES) - before - kernels
        return found


class Counted:
    """Notes what each call of some functions has asked of the device, an epoch apart.

    Attributes:
        found: by name a list of (epoch, counts) of the calls.
    """

    def __init__(self) -> None:
        self.found: dict[str, list[tuple[int, list[int]]]] = defaultdict(list)
        self.epoch = 0
        self._counters = counters()
        self.convolutions = Convolutions(self._counters)

    def now(self) -> list[int]:
        """All counts up to now."""
        found = list(self._counters[:14])
        found[0] -= self.convolutions.beyond
        return found

    def wrap(self, owner: type, method: str, name: str) -> Callable[[], None]:
        """Have a method counted; returns what undoes that."""
        original = getattr(owner, method)

        @functools.wraps(original)
        def counting(*given: Any, **named: Any) -> Any:
            before = self.now()
            try:
                return original(*given, **named)
            finally:
                self.note(name, before)

        setattr(owner, method, counting)
        return lambda: setattr(owner, method, original)

    def note(self, name: str, before: list[int]) -> None:
        """Keep what has been counted since."""
        self.found[name].append((self.epoch, [b - a for a, b in zip(before, self.now(), strict=True)]))


def measure(words: tuple[str, ...], epochs: int) -> dict[str, dict[str, float]]:
    """Counts of a run by what was counted: {"step": {"launches": ..., ...}, ...}."""
    counted = Counted()
    last = counted.now()

    def ended(row: dict[str, Any]) -> None:
        nonlocal last
        counted.note("epoch", last)
        last, counted.epoch = counted.now(), row["epoch"]

    undo = [
        counted.wrap(ChunkSteps, "step", "step"),
        counted.wrap(Task, "training_step", "chunk"),
        counted.wrap(Task, "validation_step", "validation batch"),
        counted.wrap(Task, "on_validation_epoch_end", "end of validation"),
        counted.wrap(Record, "on_train_epoch_end", "checkpoint and history"),
    ]
    try:
        with tempfile.TemporaryDirectory() as folder, counted.convolutions:
            fixed = ("trainer.device=cuda", "checkpoint.every=1h")  # by the clock it would not be the same each time
            config = Composer().compose([*words, *fixed, f"trainer.max_epochs={epochs}"]).config
            execute(config, Path(folder) / "run", on_epoch=ended)
    finally:
        for one in undo:
            one()
    return {name: _medians(calls, epochs) for name, calls in counted.found.items()}


def measure_fused(words: tuple[str, ...], runs: int) -> dict[str, dict[str, float]]:
    """Counts of a step of several runs as one model, and of what a chunk has beside its steps. Half have dropout."""
    from retable.run.assemble import make_data, make_task

    counted, found = Counted(), []
    configs = [
        Composer().compose([*words, f"seed={number}", *(["dropout=0.3"] if number % 2 else [])]).config
        for number in range(runs)
    ]
    data = make_data(configs[0])
    tasks = [make_task(config, data).to("cuda").train() for config in configs]
    optimizers = [task.configure_optimizers()["optimizer"] for task in tasks]
    size = configs[0]["data"]["batch_size"]
    images = torch.zeros(size, *data.image_shape, device="cuda")
    targets = torch.zeros(size, dtype=torch.int64, device="cuda")
    for steps in (3, 1, 11):  # the first ones allocate what lasts
        members = [
            Member(task.model, optimizer, [images] * steps, [targets] * steps, 0.0, (), lambda: None, random)
            for task, optimizer, random in zip(tasks, optimizers, [torch.cuda.get_rng_state()] * runs, strict=True)
        ]
        before = counted.now()
        train_together(members, tasks[0].loss, tasks[0].autocast)
        found.append([b - a for a, b in zip(before, counted.now(), strict=True)])
    _, one, eleven = (
        {name: sum(counts[place] for place in places) for name, places in SHOWN.items()} for counts in found
    )
    step = {name: (eleven[name] - one[name]) / 10 for name in SHOWN}
    return {"step": step, "chunk, beside its steps": {name: one[name] - step[name] for name in SHOWN}}


def _medians(calls: list[tuple[int, list[int]]], epochs: int) -> dict[str, float]:
    late = [counts for epoch, counts in calls if 0 < epoch < epochs - 1] or [counts for _, counts in calls[:1]]
    return {
        shown: statistics.median(sum(counts[place] for place in places) for counts in late)
        for shown, places in SHOWN.items()
    }


def main() -> None:
    """Count the chosen cases and print them, a line each; JSON of all at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--form", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--fused", nargs="+", type=int, metavar="RUNS", help="count steps of so many runs as one model")
    options = parser.parse_args()
    if counters() is None:
        print("launches: skipped, this process runs on no stand-in for a GPU")
        return
    found: dict[str, Any] = {}
    for case in options.case if options.fused else ():
        for runs in options.fused:
            for name, counts in measure_fused((*CASES[case], "logger=none"), runs).items():
                print(f"{case:5} {runs:3} runs  {name:24} {counts}", flush=True)
    for case in options.case if not options.fused else ():
        for form in options.form:
            one = found.setdefault(case, {})[form] = measure(
                (*CASES[case], "logger=none", *FORMS[form]), options.epochs
            )
            for name, counts in one.items():
                print(f"{case:5} {form:15} {name:24} {counts}", flush=True)
    if found:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
