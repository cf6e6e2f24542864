"""A published table as a sweep: the 16 runs of A1.2 at a few epochs, workers against one after another.

    python benchmarks/sweep.py

Three sides take turns, whole commands: a worker a core (one thread each), one worker (one thread), and one process that
takes the runs in turn with a thread a core, which makes no table. Memory is that of all processes together.
"""

import argparse
import os
import sys
from typing import Any

from common import IN_TURN, save, seconds_of, speedup, sweeps_in_rounds

RUNS = ["experiment=cifar/dropout", "data.fraction=0.25", "trainer.device=cpu"]


def measure(rounds: int, epochs: int, cores: int) -> dict[str, Any]:
    """Let the sides take turns."""
    overrides = [*RUNS, f"trainer.max_epochs={epochs}"]
    train = [sys.executable, "train.py", "-m", *overrides]
    commands = {
        "workers": ([*train, f"sweep.workers={cores}"], 1),
        "one_worker": ([*train, "sweep.workers=1"], 1),
        "in_turn": ([sys.executable, "-c", IN_TURN, str(cores), *overrides], cores),
    }
    sides, again = sweeps_in_rounds(commands, 16, rounds, memory=True)
    return {
        "what": f"16 runs of A1.2, {epochs} epochs of 2,000 images; whole commands in turns",
        "rounds": rounds,
        "rounds_measured_again": again,
        "workers": cores,
        **seconds_of(sides, 1),
        "peak_memory_mb": {side: round(max(timing.peak_mb for timing in timings)) for side, timings in sides.items()},
        "speedup_over_one_worker": speedup(sides, "one_worker", "workers"),
        "speedup_over_one_process": speedup(sides, "in_turn", "workers"),
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
