"""Eight short CPU runs: two single-threaded workers against one process that takes them in turn with two threads.

    python benchmarks/throughput.py

All sides train the same eight runs of B1.2's network on real digits and leave the same run directories; whole commands
are timed, start-up and figures included, taking turns. The one process is a bare loop over the planned runs, which
shares the start-up that was made quick for workers and makes no table; or it is Hydra's own launcher, which makes one.
A round beside which other processes worked is measured again.
"""

import argparse
import sys
from typing import Any

from common import IN_TURN, save, seconds_of, speedup, sweeps_in_rounds

RUNS = ["task=mnist", "data.fraction=0.05", "trainer.device=cpu", "dropout=0.0,0.2,0.3,0.5", "seed=0,1"]


def measure(rounds: int, epochs: int) -> dict[str, Any]:
    """Let the three ways take turns."""
    overrides = [*RUNS, f"trainer.max_epochs={epochs}"]
    train = [sys.executable, "train.py", "-m", *overrides]
    commands = {
        "workers": ([*train, "sweep.workers=2"], 1),
        "in_turn": ([sys.executable, "-c", IN_TURN, "2", *overrides], 2),
        "hydra_basic": ([*train, "hydra/launcher=basic"], 2),
    }
    sides, again = sweeps_in_rounds(commands, 8, rounds)
    return {
        "what": f"8 runs of B1.2, {epochs} epochs of 3,000 digits; whole commands in turns",
        "rounds": rounds,
        "rounds_measured_again": again,
        **seconds_of(sides, 1),
        "speedup": speedup(sides, "in_turn", "workers"),
        "speedup_over_hydra_basic": speedup(sides, "hydra_basic", "workers"),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    options = parser.parse_args()
    result = measure(options.rounds, options.epochs)
    print(f"two workers over one process with two threads: {result['speedup']}")
    print(f"over Hydra's basic launcher: {result['speedup_over_hydra_basic']}")
    print(save("throughput", result))
