"""A published table as a sweep: the 16 runs of A1.2 at a few epochs, workers against one after another.

    python benchmarks/sweep.py

Three sides take turns, whole commands: a worker a core (one thread each), one worker (one thread), and one process that
takes the runs in turn with a thread a core, which makes no table. Memory is that of all processes together.
"""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import IN_TURN, Timing, disturbed, ratios, save, spread, timed, wait_until_quiet

RUNS = ["experiment=cifar/dropout", "data.fraction=0.25", "trainer.device=cpu"]


def measure(rounds: int, epochs: int, cores: int) -> dict[str, Any]:
    """Let the sides take turns."""
    sides: dict[str, list[Timing]] = {"workers": [], "one_worker": [], "in_turn": []}
    overrides = [*RUNS, f"trainer.max_epochs={epochs}"]
    again = 0
    with tempfile.TemporaryDirectory() as folder:
        target = f"sweep.dir={folder}/multirun"
        train = [sys.executable, "train.py", "-m", *overrides, target]
        commands = {
            "workers": ([*train, f"sweep.workers={cores}"], 1),
            "one_worker": ([*train, "sweep.workers=1"], 1),
            "in_turn": ([sys.executable, "-c", IN_TURN, str(cores), *overrides, target], cores),
        }
        while len(sides["workers"]) < rounds:
            found = {}
            for side, (command, threads) in commands.items():
                wait_until_quiet()
                found[side] = timed(command, {"OMP_NUM_THREADS": str(threads)}, memory=True)
                print(f"{side} {found[side]}", flush=True)
                assert len(list(Path(folder).glob("multirun/cifar/*/result.json"))) == 16
                shutil.rmtree(f"{folder}/multirun")
            if disturbed(*found.values()) and again < 2 * rounds:
                again += 1
                continue
            for side, timing in found.items():
                sides[side].append(timing)
    seconds = {side: [timing.seconds for timing in timings] for side, timings in sides.items()}
    return {
        "what": f"16 runs of A1.2, {epochs} epochs of 2,000 images; whole commands in turns",
        "rounds": rounds,
        "rounds_measured_again": again,
        "workers": cores,
        "seconds": {side: spread(values, 1) for side, values in seconds.items()},
        "cpu_seconds": {side: spread([timing.cpu for timing in timings], 1) for side, timings in sides.items()},
        "peak_memory_mb": {side: round(max(timing.peak_mb for timing in timings)) for side, timings in sides.items()},
        "others_cpu_seconds": {
            side: [None if timing.others is None else round(timing.others, 1) for timing in timings]
            for side, timings in sides.items()
        },
        "speedup_over_one_worker": ratios(seconds["one_worker"], seconds["workers"]),
        "speedup_over_one_process": ratios(seconds["in_turn"], seconds["workers"]),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    options = parser.parse_args()
    result = measure(options.rounds, options.epochs, options.cores)
    print(f"workers over one worker: {result['speedup_over_one_worker']}")
    print(f"workers over one process with {options.cores} threads: {result['speedup_over_one_process']}")
    print(save("sweep", result))
