"""How long a sweep of 10,000 runs takes beside its training: expanding, checking, planning again, listing, tabling.

    python benchmarks/grid.py [--runs 10000]

On one core. The runs are not trained: each gets the files of a finished one. Prints seconds a phase and the peak
memory.
"""

import argparse
import contextlib
import io
import os
import resource
import tempfile
import time
from pathlib import Path

from retable import atomic
from retable.run import files
from retable.sweeps.finish import finish
from retable.sweeps.plan import make_plan, write_runs
from retable.sweeps.pool import Outcome
from retable.sweeps.session import check_in_worker
from retable.sweeps.store import runs_below

GRID = ("task=mnist", "data=sample", "trainer.device=cpu", "optimizer.lr=0.1,0.2,0.3,0.4,0.5", "dropout=0.1,0.2")


def plainly(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def finished(directory: Path, seed: int) -> None:
    """A result and a history as a run of ten epochs leaves them."""
    figures = {"train/loss": 0.1, "val/loss": 0.2 + seed * 1e-4, "val/accuracy": 0.9, "train/accuracy": 0.95}
    metrics = {"final": {"epoch": 10, **figures}, "best": {"epoch": 9, **figures}, "best_by": "val/accuracy"}
    confusion = [[seed % 7] * 10 for _ in range(10)]
    result = {"status": "finished", "seed": seed, "epochs": 10, "metrics": metrics, "seconds": {"total": 60.0}}
    atomic.write_json(directory / files.RESULT, result | {"val": {"confusion": confusion}})
    files.write_history(directory / files.HISTORY, [{"epoch": epoch, **figures} for epoch in range(1, 11)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        words = [*GRID, f"seeds={runs // 10}", f"sweep.dir={folder}"]
        clock = Clock()
        plan = make_plan(words)
        clock.tell(f"expanding {len(plan.runs):,} runs")
        check_in_worker(plan, plan.runs)
        clock.tell("checking them in a worker")
        atomic.write_bytes = plainly  # waiting for the disk is no part of what is measured
        write_runs(plan.runs)
        for run in plan.runs:
            finished(run.directory, run.config["seed"])
        clock.tell("(writing their files)")
        for again in ("again, all finished", "once more"):
            plan = make_plan(words)
            assert not plan.pending
            clock.tell(f"planning {again}")
        with contextlib.redirect_stdout(io.StringIO()):
            finish(plan, Outcome())
        clock.tell("the table")
        assert len(runs_below(Path(folder))) == len(plan.runs)
        clock.tell("listing (retable status)")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"peak memory {peak:.0f} MiB")


class Clock:
    """Prints the seconds since it last did: by the clock, and of processor time, which other work changes less."""

    def __init__(self) -> None:
        self.last = self._now()

    def tell(self, what: str) -> None:
        seconds, processor = (now - before for now, before in zip(self._now(), self.last, strict=True))
        print(f"{what:<32} {seconds:6.1f} s {processor:6.1f} s of processor", flush=True)
        self.last = self._now()

    def _now(self) -> tuple[float, float]:
        times = os.times()
        return time.perf_counter(), times.user + times.system + times.children_user + times.children_system


if __name__ == "__main__":
    main()
