"""What the benchmarks share: the machine in words, timing whole commands, and where results go."""

import json
import os
import re
import resource
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

from retable.run import facts

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"

# One process that trains a sweep's runs in turn. Its imports are as quick as a worker's.
IN_TURN = """
import sys
from retable.run.imports import import_all
import_all()
import torch
torch.set_num_threads(int(sys.argv[1]))
from pathlib import Path
from retable.run.execute import execute
from retable.sweeps.plan import make_plan, write_runs
plan = make_plan(sys.argv[2:])
write_runs(plan.runs)
for run in plan.runs:
    execute(run.config, run.directory)
"""


@dataclass(frozen=True)
class Timing:
    """What a command took.

    Attributes:
        seconds: wall clock.
        cpu: CPU seconds of the command and of all that it started.
        others: CPU seconds that the rest of the machine used meanwhile, which is what makes `seconds` uncertain; None
            where that can't be known.
        peak_mb: largest memory of all its processes together, pages that they share counted once (0: not measured).
    """

    seconds: float
    cpu: float
    others: float | None
    peak_mb: float = 0.0


def timed(command: Sequence[str], environment: Mapping[str, str], memory: bool = False, check: bool = True) -> Timing:
    """Run a command in the repository's root and wait for it.

    Args:
        command: the words.
        environment: variables to set.
        memory: measure it, every half second.
        check: a failing command is an error.
    """
    busy, own, start = machine_cpu(), own_cpu(), time.perf_counter()
    child = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, env=os.environ | environment, start_new_session=True
    )
    peaks = [0.0]
    watch = threading.Thread(target=_watch_memory, args=(child, peaks), daemon=True)
    if memory:
        watch.start()
    code = child.wait()
    seconds = time.perf_counter() - start
    cpu = own_cpu() - own
    if check and code:
        raise SystemExit(f"{' '.join(command)}: exit code {code}")
    others = None if busy is None else max(0.0, machine_cpu() - busy - cpu)
    return Timing(seconds, cpu, others, max(peaks))


def wait_until_quiet(most_seconds: float = 600.0) -> None:
    """Wait until nothing else uses more than a tenth of a core for three seconds, or until it has been long enough."""
    deadline = time.monotonic() + most_seconds
    while (busy := machine_cpu()) is not None and time.monotonic() < deadline:
        time.sleep(3)
        if machine_cpu() - busy < 0.3:
            return


def disturbed(*timings: Timing) -> bool:
    """Whether other processes used more than a twentieth of a core beside a command."""
    return any(timing.others is not None and timing.others > 0.05 * timing.seconds + 0.2 for timing in timings)


def in_rounds(measure: Callable[[], Mapping[str, Timing]], rounds: int) -> tuple[dict[str, list[Timing]], int]:
    """Measure rounds of several sides; one beside which other processes worked is measured again.

    Args:
        measure: measures a round, every side once.
        rounds: how many to keep.

    Returns:
        The timings of each side, and how many rounds were measured again.
    """
    kept: list[Mapping[str, Timing]] = []
    again = 0
    while len(kept) < rounds:
        found = measure()
        if disturbed(*found.values()) and again < 2 * rounds:
            again += 1
        else:
            kept.append(found)
    return {side: [found[side] for found in kept] for side in kept[0]}, again


def sweeps_in_rounds(
    commands: Mapping[str, tuple[Sequence[str], int]], runs: int, rounds: int, memory: bool = False
) -> tuple[dict[str, list[Timing]], int]:
    """Let whole sweeps take turns, each in an empty folder, and see that all their runs are there. See `in_rounds`.

    Args:
        commands: each side's words, without its folder, and its OMP_NUM_THREADS.
        runs: how many results each is to leave.
    """

    def measure() -> dict[str, Timing]:
        found = {}
        for side, (command, threads) in commands.items():
            wait_until_quiet()
            with tempfile.TemporaryDirectory() as folder:
                words = [*command, f"sweep.dir={folder}"]
                found[side] = timed(words, {"OMP_NUM_THREADS": str(threads)}, memory=memory)
                assert len(list(Path(folder).glob("*/*/result.json"))) == runs
            print(f"{side} {found[side]}", flush=True)
        return found

    return in_rounds(measure, rounds)


def seconds_of(sides: Mapping[str, Sequence[Timing]], digits: int) -> dict[str, Any]:
    """For a result file: wall and CPU seconds of each side, and what others used beside it; CPU where it is known."""
    return {
        "seconds": {side: spread([t.seconds for t in timings], digits) for side, timings in sides.items()},
        "cpu_seconds": {
            side: spread([t.cpu for t in timings], digits) for side, timings in sides.items() if timings[0].cpu
        },
        "others_cpu_seconds": {
            side: [None if t.others is None else round(t.others, 1) for t in timings] for side, timings in sides.items()
        },
    }


def speedup(sides: Mapping[str, Sequence[Timing]], slower: str, faster: str) -> dict[str, float]:
    """How many times as fast one side is as another, by rounds."""
    return ratios(*([timing.seconds for timing in sides[side]] for side in (slower, faster)))


def save(name: str, values: dict[str, Any], device: str = "cpu") -> Path:
    """Write a result file named by benchmark and hardware, with versions and date."""
    hardware = facts.device(device) | {"cores": os.cpu_count()}
    slug = re.sub(r"[^a-z0-9]+", "-", hardware["name"].lower()).strip("-")
    path = RESULTS / f"{name}-{slug}.json"
    path.parent.mkdir(exist_ok=True)
    content = {"benchmark": name, "date": date.today().isoformat(), "device": hardware, "versions": facts.versions()}
    path.write_text(json.dumps(content | values, indent=2) + "\n")
    return path


def ratios(left: Sequence[float], right: Sequence[float]) -> dict[str, float]:
    """Median, smallest and largest of the pairwise ratios left / right."""
    return spread([one / other for one, other in zip(left, right, strict=True)], 4)


def spread(values: Sequence[float], digits: int = 2) -> dict[str, float]:
    """Median, smallest and largest."""
    return {key: round(of(values), digits) for key, of in (("median", median), ("min", min), ("max", max))}


def own_cpu() -> float:
    """CPU seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def machine_cpu() -> float | None:
    """CPU seconds that the machine has used since it was started; None where that is not told (Linux tells)."""
    try:
        user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    except (OSError, ValueError):
        return None
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _watch_memory(child: "subprocess.Popen[bytes]", peaks: list[float]) -> None:
    """The child leads a session of its own: all that it starts belongs to it."""
    while child.poll() is None:
        total = 0
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if os.getsid(int(path.name)) == child.pid:
                    lines = (path / "smaps_rollup").read_text().splitlines()
                    total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
            except (OSError, StopIteration, ValueError):
                continue
        peaks.append(total / 1024)
        time.sleep(0.5)
