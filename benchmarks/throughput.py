"""Eight short CPU runs: two single-threaded workers against one process that takes them in turn with two threads.

    python benchmarks/throughput.py

All sides train the same eight runs of B1.2's network on real digits and leave the same run directories; whole commands
are timed, start-up and figures included, taking turns. The one process is a bare loop over the planned runs, which
shares the start-up that was made quick for workers and makes no table; or it is Hydra's own launcher, which makes one.
A round beside which other processes worked is measured again.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import IN_TURN, Timing, disturbed, ratios, save, spread, timed, wait_until_quiet

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
    sides: dict[str, list[Timing]] = {side: [] for side in commands}
    again = 0
    with tempfile.TemporaryDirectory() as name:
        while len(sides["workers"]) < rounds:
            found = {}
            for side, (command, threads) in commands.items():
                wait_until_quiet()
                folder = Path(name) / side
                found[side] = timed([*command, f"sweep.dir={folder}"], {"OMP_NUM_THREADS": str(threads)})
                assert len(list(folder.glob("mnist/*/result.json"))) == 8
                shutil.rmtree(folder)
                print(f"{side} {found[side]}", flush=True)
            if disturbed(*found.values()) and again < 2 * rounds:
                again += 1
                continue
            for side, timing in found.items():
                sides[side].append(timing)
    seconds = {side: [timing.seconds for timing in timings] for side, timings in sides.items()}
    return {
        "what": f"8 runs of B1.2, {epochs} epochs of 3,000 digits; whole commands in turns",
        "rounds": rounds,
        "rounds_measured_again": again,
        "seconds": {side: spread(values, 1) for side, values in seconds.items()},
        "cpu_seconds": {side: spread([timing.cpu for timing in timings], 1) for side, timings in sides.items()},
        "others_cpu_seconds": {
            side: [None if timing.others is None else round(timing.others, 1) for timing in timings]
            for side, timings in sides.items()
        },
        "speedup": ratios(seconds["in_turn"], seconds["workers"]),
        "speedup_over_hydra_basic": ratios(seconds["hydra_basic"], seconds["workers"]),
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
