"""Eight short CPU runs: two single-threaded workers against one process that takes them in turn with two threads.

    python benchmarks/throughput.py

Both sides train the same eight runs of B1.2's network on real digits and leave the same files; whole commands are
timed, start-up and figures included, taking turns. A pair beside which other processes worked is measured again.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import IN_TURN, Timing, disturbed, ratios, save, spread, timed, wait_until_quiet

RUNS = ["task=mnist", "data.fraction=0.05", "trainer.device=cpu", "dropout=0.0,0.2,0.3,0.5", "seed=0,1"]


def measure(pairs: int, epochs: int) -> dict[str, Any]:
    """Alternate the two ways."""
    sides: dict[str, list[Timing]] = {"workers": [], "in_turn": []}
    overrides = [*RUNS, f"trainer.max_epochs={epochs}"]
    again = 0
    with tempfile.TemporaryDirectory() as folder:
        while len(sides["workers"]) < pairs:
            wait_until_quiet()
            one, other = Path(folder) / "one", Path(folder) / "other"
            sweep = [sys.executable, "train.py", "-m", *overrides, f"sweep.dir={one}", "sweep.workers=2"]
            workers = timed(sweep, {"OMP_NUM_THREADS": "1"})
            in_turn = [sys.executable, "-c", IN_TURN, "2", *overrides, f"sweep.dir={other}"]
            in_turn = timed(in_turn, {"OMP_NUM_THREADS": "2"})
            for path in (one, other):
                assert len(list(path.glob("mnist/*/result.json"))) == 8
                shutil.rmtree(path)
            print(f"workers {workers}\nin turn {in_turn}", flush=True)
            if disturbed(workers, in_turn) and again < 2 * pairs:
                again += 1
                continue
            sides["workers"].append(workers)
            sides["in_turn"].append(in_turn)
    seconds = {side: [timing.seconds for timing in timings] for side, timings in sides.items()}
    return {
        "what": f"8 runs of B1.2, {epochs} epochs of 3,000 digits; whole commands in turns",
        "pairs": pairs,
        "pairs_measured_again": again,
        "seconds": {side: spread(values, 1) for side, values in seconds.items()},
        "cpu_seconds": {side: spread([timing.cpu for timing in timings], 1) for side, timings in sides.items()},
        "others_cpu_seconds": {
            side: [None if timing.others is None else round(timing.others, 1) for timing in timings]
            for side, timings in sides.items()
        },
        "speedup": ratios(seconds["in_turn"], seconds["workers"]),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    options = parser.parse_args()
    result = measure(options.pairs, options.epochs)
    print(f"speed-up of two workers: {result['speedup']}")
    print(save("throughput", result))
