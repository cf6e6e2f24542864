"""What goes by before training begins, and what a finished sweep called again takes.

    python benchmarks/startup.py

From the command to its first optimizer step (B1.2 on real digits, decoded before): one run, and a sweep with two
workers. Then two finished sweeps called again: eight runs given on the command line, and the 16 runs of a published
table, whose regenerated page is made each time.
"""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import Timing, in_rounds, save, seconds_of, timed, wait_until_quiet

FIRST_STEP = {
    "run": ["train.py", "task=mnist"],
    "sweep": ["train.py", "-m", "task=mnist", "seed=0,1", "sweep.workers=2"],
}
QUICK = ["data=sample", "model.width=4", "trainer.max_epochs=1", "trainer.limit_train_batches=2", "logger=none"]
FINISHED = {
    "8 runs": ["train.py", "-m", "task=mnist", "dropout=0.0,0.2,0.3,0.5", "seed=0,1", *QUICK],
    "16 runs of A1.2": ["train.py", "-m", "experiment=cifar/dropout", *QUICK],
}
CPU = {"OMP_NUM_THREADS": "1"}


def first_step(words: list[str], folder: Path) -> Timing:
    """From the command's start to the end of its first optimizer step."""
    stamp = folder / "first_step"
    stamp.unlink(missing_ok=True)
    for left in ("outputs", "multirun"):  # what was killed is resumed or counts as failed, and does not start anew
        shutil.rmtree(folder / left, ignore_errors=True)
    places = [f"output={folder / 'outputs'}", f"sweep.dir={folder / 'multirun'}"]
    command = [sys.executable, *words, "model._target_=clocked.Clocked", "trainer.device=cpu", *places]
    start = time.time()
    timing = timed(command, CPU | {"FIRST_STEP": str(stamp), "PYTHONPATH": str(Path(__file__).parent)}, check=False)
    if "-m" in words:  # killed with what forked it, a worker's CPU time is told to nobody
        return Timing(float(stamp.read_text()) - start, 0.0, None)
    return Timing(float(stamp.read_text()) - start, timing.cpu, timing.others)


def measure(repetitions: int) -> dict[str, Any]:
    """Let the four take turns."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        finished = {what: [sys.executable, *words, f"sweep.dir={folder / 'done'}"] for what, words in FINISHED.items()}
        for command in finished.values():
            timed([*command, "trainer.device=cpu"], CPU)
        first_step(FIRST_STEP["run"], folder)  # digits are decoded and cached, byte code is written

        def one_round() -> dict[str, Timing]:
            wait_until_quiet()
            one = {f"first step of a {what}": first_step(words, folder) for what, words in FIRST_STEP.items()}
            for what, command in finished.items():
                one[f"finished sweep of {what}"] = timed([*command, "trainer.device=cpu"], CPU)
            for what, timing in one.items():
                print(f"{what}: {timing}", flush=True)
            return one

        found, again = in_rounds(one_round, repetitions)
    return {
        "what": "seconds of whole commands, up to their first optimizer step or to their end",
        "repetitions": repetitions,
        "repeated": again,
        **seconds_of(found, 2),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    result = measure(parser.parse_args().repetitions)
    for what, seconds in result["seconds"].items():
        print(f"{what}: {seconds}")
    print(save("startup", result))
