"""Eight short CPU runs: two single-threaded workers against one process that takes them in turn with two threads.

    python benchmarks/throughput.py

Both sides train the same eight runs of B1.2's network on real digits and leave the same files; whole commands are
timed, start-up and figures included, taking turns.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import ratios, save

ROOT = Path(__file__).parents[1]
RUNS = ["task=mnist", "data.fraction=0.05", "trainer.device=cpu", "dropout=0.0,0.2,0.3,0.5", "seed=0,1"]

SEQUENTIAL = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(2)
from ablate.run.execute import execute
from ablate.sweeps.plan import make_plan, write_runs
plan = make_plan(sys.argv[1:])
write_runs(plan.runs)
for run in plan.runs:
    execute(run.config, run.directory)
"""


def timed(command: list[str], threads: int) -> float:
    """Seconds of a whole command."""
    start = time.perf_counter()
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - start


def measure(pairs: int, epochs: int) -> dict:
    """Alternate the two ways."""
    workers, sequential = [], []
    overrides = [*RUNS, f"trainer.max_epochs={epochs}"]
    with tempfile.TemporaryDirectory() as folder:
        for pair in range(pairs):
            one, other = Path(folder) / "one", Path(folder) / "other"
            sweep = [sys.executable, "train.py", "-m", *overrides, f"sweep.dir={one}", "sweep.workers=2"]
            workers.append(timed(sweep, 1))
            sequential.append(timed([sys.executable, "-c", SEQUENTIAL, *overrides, f"sweep.dir={other}"], 2))
            print(f"pair {pair + 1}: workers {workers[-1]:.1f} s, in turn {sequential[-1]:.1f} s", flush=True)
            for path in (one, other):
                assert len(list(path.glob("mnist/*/result.json"))) == 8
                shutil.rmtree(path)
    return {
        "what": f"8 runs of B1.2, {epochs} epochs of 3,000 digits; whole commands in turns",
        "seconds": {"workers": [round(s, 1) for s in workers], "in_turn": [round(s, 1) for s in sequential]},
        "speedup": ratios(sequential, workers),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    options = parser.parse_args()
    result = measure(options.pairs, options.epochs)
    print(f"speed-up of two workers: {result['speedup']}")
    print(save("throughput", result))
