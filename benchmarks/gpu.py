"""On one GPU, with bf16 mixed precision: steps against both alternatives, runs packed together, and whole tables.

    python benchmarks/gpu.py                              every part (about half an hour)
    python benchmarks/gpu.py --parts steps packed         some; each is a result file of its own

    steps    epochs of the four published trainings, in turns: this project's eager step and its recorded one
             (trainer.cuda_graph), a plain loop, the plain loop with a network by hand, the template's way
    run      B1.2 as it is published, 20 epochs: one command, and the run's own seconds
    packed   16 runs of B1.2 by 1, 2, 4, 8 and 16 workers on the one GPU; whole commands
    grids    every cell of A1 and of B1 as published; whole commands, tables included

Without a GPU it says so and measures nothing.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from common import save, spread, timed
from networks import CASES
from step import SIDES, measure

GRAPH = "trainer.cuda_graph=true"
GPU_SIDES = SIDES | {"recorded": ("own.py", (GRAPH,))}
GRIDS = {"A1": "glob(cifar/*)", "B1": "glob(mnist/*)"}
RUN = ("task=mnist", "trainer.max_epochs=20")


def steps(rounds: int) -> dict[str, Any]:
    """The four cases at their full size."""
    return {case: measure(case, rounds, "cuda", small=False, sides=GPU_SIDES) for case in CASES}


def run(device: str, repetitions: int, words: Sequence[str] = RUN) -> dict[str, Any]:
    """One run, eager and recorded in turns: seconds of the whole command, and of its training and validation."""
    found: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(repetitions):
            for side, extra in (("eager", ()), ("recorded", (GRAPH,))):
                command = [*words, *extra, f"trainer.device={device}", f"output={folder}"]
                timing = timed([sys.executable, "train.py", *command], {})
                (path,) = Path(folder).glob("*/*/*/result.json")
                seconds = json.loads(path.read_text())["seconds"]
                for name, value in (("command", timing.seconds), ("epochs", seconds["train"] + seconds["val"])):
                    found.setdefault(side, {}).setdefault(name, []).append(value)
                shutil.rmtree(Path(folder) / path.relative_to(folder).parts[0])
    return {side: {name: spread(values) for name, values in figures.items()} for side, figures in found.items()}


def packed(device: str, workers: Sequence[int], runs: int, words: Sequence[str] = RUN) -> dict[str, Any]:
    """The same runs by more and more workers; runs a minute."""
    found = {}
    for count in workers:
        with tempfile.TemporaryDirectory() as folder:
            seeds = f"seed={','.join(str(seed) for seed in range(runs))}"
            where = [f"trainer.device={device}", f"sweep.dir={folder}", f"sweep.workers={count}"]
            timing = timed([sys.executable, "train.py", "-m", *words, seeds, GRAPH, *where], {})
            assert len(list(Path(folder).glob("*/*/result.json"))) == runs
        found[str(count)] = {"seconds": round(timing.seconds, 1), "runs_a_minute": round(60 * runs / timing.seconds, 1)}
        print(f"{count} workers: {found[str(count)]}", flush=True)
    return found


def grids(device: str, experiments: Mapping[str, str] = GRIDS, words: Sequence[str] = ()) -> dict[str, Any]:
    """Whole tables: seconds of the command and of its runs, and how many did not finish."""
    found = {}
    for name, experiment in experiments.items():
        with tempfile.TemporaryDirectory() as folder:
            command = [f"experiment={experiment}", GRAPH, f"trainer.device={device}", f"sweep.dir={folder}", *words]
            timing = timed([sys.executable, "train.py", "-m", *command], {})
            results = [json.loads(path.read_text()) for path in Path(folder).glob("*/*/result.json")]
        found[name] = {
            "seconds": round(timing.seconds, 1),
            "runs": len(results),
            "not_finished": sum(result["status"] != "finished" for result in results),
            "run_seconds": spread([result["seconds"]["total"] for result in results]),
        }
        print(f"{name}: {found[name]}", flush=True)
    return found


def main() -> int:
    """Measure the chosen parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = {
        "steps": lambda: steps(options.rounds),
        "run": lambda: run("cuda", 3),
        "packed": lambda: packed("cuda", (1, 2, 4, 8, 16), 16),
        "grids": lambda: grids("cuda"),
    }
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each side")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("gpu: skipped, there is no CUDA device here")
        return 0
    for part in options.parts:
        print(save(f"gpu-{part}", {"precision": "bf16-mixed", "found": parts[part]()}, device="cuda"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
