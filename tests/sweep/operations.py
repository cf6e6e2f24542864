"""Lets every file operation of a small sweep fail once, and be the process's last once; then runs the sweep again.

python -m tests.sweep.operations FOLDER [--every STRIDE] [--from N], with operations.c built and preloaded (make
test-faults does that). The operations are those of this process: planning, the runs' own, and the table, in the order
in which they come; a run is trained by a worker's code, in this process. For each kind of fault it goes on from the
first operation until none is left to fail. What came out is printed as JSON, a line a fault that was not made good.
"""

import argparse
import contextlib
import ctypes
import errno
import io
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from retable.errors import RetableError
from retable.figures import classification as figures
from retable.run import execute, files
from retable.run.imports import import_all
from retable.sweeps.finish import exit_code
from retable.sweeps.plan import Plan, Run
from retable.sweeps.pool import Outcome
from retable.sweeps.session import Trainer, prepare, sweep
from retable.sweeps.worker import Worker

SWEEP = ["task=mnist", "data=sample", "data.fraction=0.05", "model.width=2", "trainer.max_epochs=2", "logger=none"]
SWEEP += ["trainer.device=cpu", "dropout=0.0,0.3", "sweep.retry_failed=true", "sweep.same_reason_limit=null"]
TIMES = {"seconds", "seconds/train", "seconds/val", "images_per_second"}
DIES = -1
FAULTS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "EACCES": errno.EACCES, "dies": DIES}
PATIENCE = 120  # seconds for a sweep of two seconds
DONE, FAILED, REFUSED, TRACEBACK = 0, 1, 2, 3


def draw(directory: Path, record: Any, *rest: Any) -> None:
    """One of a run's figures in place of all: they are written in the same way, and take most of the time."""
    figures.curves(record.rows, directory / "figures" / "curves.png", "")


def train(plan: Plan, todo: list[Run]) -> Outcome:
    """Train as a worker does, in this process."""
    prepare(plan, todo)
    outcome = Outcome()
    for run in todo:
        events = io.StringIO()
        Worker(io.StringIO(), events)._run({"directories": [str(run.directory)]})
        ended = json.loads(events.getvalue().splitlines()[-1])
        if ended["status"] == files.FAILED:
            outcome.failures.append((run, ended["reason"]))
    return outcome


class Harness:
    """Runs the sweep in forked processes, each on a folder as the one before has left it.

    Args:
        folder: of the runs; what else is written goes beside it.
        train: trains the sweep's runs.
        more: overrides beside SWEEP.
    """

    def __init__(self, folder: Path, train: Trainer = train, more: Sequence[str] = ()) -> None:
        self.folder, self.log, self.count = folder, folder.with_suffix(".log"), folder.with_suffix(".count")
        self.recorded, self.train, self.sweep = folder.with_suffix(".recorded"), train, [*SWEEP, *more]
        self._shim = ctypes.CDLL(None)
        self._shim.operations_arm.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int]
        self._shim.operations_seen.restype = ctypes.c_long

    def run(self, number: int = 0, action: int = 0, record: bool = False) -> tuple[str, int | None]:
        """Run the sweep with a fault at an operation, or with none; gives how it ended, and the operations counted.

        With `record` all that is done in the folder is written to `recorded`.
        """
        self.count.unlink(missing_ok=True)
        pid = os.fork()
        if pid == 0:
            self._child(number, action, record)
        deadline = time.monotonic() + PATIENCE
        while not (ended := os.waitpid(pid, os.WNOHANG))[0] and time.monotonic() < deadline:
            time.sleep(0.005)
        if not ended[0]:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return "hangs", None
        code = os.waitstatus_to_exitcode(ended[1])
        words = {DONE: "done", FAILED: "failed", REFUSED: "refused", TRACEBACK: "traceback", -signal.SIGKILL: "died"}
        seen = int(self.count.read_text()) if self.count.exists() else None
        return words.get(code, f"exit code {code}"), seen

    def _child(self, number: int, action: int, record: bool) -> None:
        os.setpgid(0, 0)
        code = TRACEBACK
        with self.log.open("w") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        if record:
            self._shim.operations_record(os.open(self.recorded, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
            self._shim.operations_arm(str(self.folder).encode(), 0, 0)
        temporary = self.folder / ".tmp"  # where Lightning begins a checkpoint, so that this is counted, too
        temporary.mkdir(parents=True, exist_ok=True)
        tempfile.tempdir = str(temporary)
        try:
            self._shim.operations_arm(str(self.folder).encode(), number, action)
            plan, outcome = sweep([*self.sweep, f"sweep.dir={self.folder}"], self.train)
            code = exit_code(plan, outcome)
        except RetableError as error:
            print(error)
            code = REFUSED
        except BaseException:
            traceback.print_exc()
        seen = self._shim.operations_seen()
        self._shim.operations_arm(b"", 0, 0)
        self.count.write_text(str(seen))
        sys.stdout.flush()
        os._exit(code)

    def state(self) -> dict[str, Any]:
        """What a sweep leaves, without times: its table and the runs' histories."""
        rows = [line.split(",") for line in self._table().read_text().splitlines()]
        kept = [place for place, key in enumerate(rows[0]) if key not in TIMES]
        histories = {
            path.parent.name: [{k: v for k, v in row.items() if k not in TIMES} for row in files.read_history(path)]
            for path in sorted(self.folder.glob("mnist/*/history.csv"))
        }
        return {"table": [[row[place] for place in kept] for row in rows], "histories": histories}

    def results(self) -> dict[str, bytes]:
        """The results of runs that have finished."""
        paths = sorted(self.folder.glob("mnist/*/result.json"))
        return {
            str(path): path.read_bytes()
            for path in paths
            if (files.read_result(path.parent) or {}).get("status") == files.FINISHED
        }

    def _table(self) -> Path:
        (path,) = self.folder.glob("tables/*/*/results.csv")
        return path


def try_fault(harness: Harness, expected: dict[str, Any], number: int, action: int) -> tuple[str, str | None, bool]:
    """One fault, and the same command again.

    Returns:
        How the disturbed sweep ended; what is wrong after the second, None if nothing; whether there was an operation.
    """
    shutil.rmtree(harness.folder, ignore_errors=True)
    ended, seen = harness.run(number, action)
    reached = seen is None or seen >= number
    if ended == "hangs":
        return ended, "hangs", reached
    if ended == "traceback":
        return ended, harness.log.read_text()[-1500:], reached
    kept = harness.results()
    again, _ = harness.run()
    if again != "done":
        return ended, f"the second ended with: {again}: {harness.log.read_text()[-1500:]}", reached
    found = harness.state()
    wrong = [key for key in expected if found[key] != expected[key]]
    results = harness.results()
    wrong += [f"{path}: trained again" for path, content in kept.items() if results.get(path) != content]
    return ended, ", ".join(wrong) or None, reached


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--every", type=int, default=1, help="only each so many operations")
    parser.add_argument("--from", type=int, default=1, dest="first", help="the first operation")
    parser.add_argument("--faults", default=",".join(FAULTS))
    options = parser.parse_args()
    folder = options.folder.absolute() / "multirun"
    folder.parent.mkdir(parents=True, exist_ok=True)
    import_all()
    import torch

    torch.set_num_threads(1)
    execute._draw = draw
    harness = Harness(folder)
    shutil.rmtree(folder, ignore_errors=True)
    assert harness.run()[0] == "done", harness.log.read_text()  # the data come into the cache
    shutil.rmtree(folder)
    ended, operations = harness.run()
    assert ended == "done"
    expected = harness.state()
    print(json.dumps({"operations": operations}), flush=True)
    for name in options.faults.split(","):
        ends: Counter[str] = Counter()
        number, bad = options.first, 0
        while True:
            ended, wrong, reached = try_fault(harness, expected, number, FAULTS[name])
            if not reached:
                break
            ends[ended] += 1
            if wrong:
                bad += 1
                print(json.dumps({"fault": name, "operation": number, "ended": ended, "wrong": wrong}), flush=True)
            number += options.every
        print(json.dumps({"fault": name, "tried": ends.total(), "ended": ends, "not made good": bad}), flush=True)
    with contextlib.suppress(OSError):
        shutil.rmtree(options.folder)


if __name__ == "__main__":
    main()
