"""On one GPU: tests, then steps against both alternatives, then runs and whole tables, for machines lent for minutes.

    python benchmarks/gpu.py --part tests --out FOLDER     a part ends within nine minutes, and saves after every
    python benchmarks/gpu.py --part A1 --out FOLDER        figure into FOLDER/<part>.json; without --part all of them

    tests    what only the machine can tell (gpu_probes.py), then the tests that need a CUDA device
    steps    epochs of the four published trainings, in turns: this project's eager step and its recorded one
             (trainer.cuda_graph), a plain loop, the plain loop with a network by hand, the template's way
    run      B1.2 as it is published, 20 epochs: one command, and the run's own seconds. Aim: 4 s
    packed   16 runs of B1.2 by 1, 2, 4, 8 and 16 workers on the one GPU; whole commands
    A1, B1   every cell of the report as published, with recorded steps, then fused; whole commands, tables included.
             Aim for A1: 60 s
    fused    ten seeds of B1.2 fused, one by one, and one seed alone. Aim: ten for the price of two

What does not fit the time is named in the file under `left_out`. Without a GPU it says so and measures nothing.
`benchmarks/gpu_prepare.sh` packs what a machine without network needs.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch
from common import RESULTS, ROOT, spread
from gpu_probes import PROBES
from networks import CASES
from step import SIDES, measure

from retable.run import facts

LIMIT = 520  # seconds of a part
GRAPH = "trainer.cuda_graph=true"
GPU_SIDES = SIDES | {"recorded": ("own.py", (GRAPH,))}
GRIDS = {"A1": "glob(cifar/*)", "B1": "glob(mnist/*)"}
GRID_FORMS = {"recorded": (GRAPH,), "fused": ("sweep.fuse=auto",)}  # fused runs' steps are not recorded
RUN = ("task=mnist", "trainer.max_epochs=20")


class Ledger:
    """A part's figures, in a file that is written anew after each of them.

    Args:
        path: the file.
        device: cuda, or cpu in a trial.
        limit: seconds until the part is to end.
    """

    def __init__(self, path: Path, device: str, limit: float = LIMIT) -> None:
        self.path, self.device = path, device
        self.found: dict[str, Any] = {}
        self.left_out: dict[str, str] = {}
        self._end = time.monotonic() + limit

    @property
    def seconds_left(self) -> float:
        """Seconds that the part still has."""
        return self._end - time.monotonic()

    def note(self, name: str, value: Any) -> None:
        """Keep a figure."""
        self.found[name] = value
        print(f"{self.path.stem}: {name}: {json.dumps(value)}", flush=True)
        self._save()

    def leave_out(self, name: str, why: str) -> None:
        """Say what was not measured."""
        self.left_out[name] = why
        print(f"{self.path.stem}: {name}: left out, {why}", flush=True)
        self._save()

    def measure(self, name: str, work: Callable[[], Any], needs: float) -> None:
        """Take a figure, if there is time; what fails, or takes longer than the part has, is noted as that."""
        if self.seconds_left < needs:
            self.leave_out(name, f"{self.seconds_left:.0f} s were left, {needs:.0f} are needed")
            return

        def over(number: int, frame: Any) -> None:
            raise TimeoutError("the part's time is up")

        before = signal.signal(signal.SIGALRM, over)
        signal.setitimer(signal.ITIMER_REAL, max(1.0, self.seconds_left))
        try:
            self.note(name, work())
        except (Exception, SystemExit) as error:  # the latter is how a side says that it has ended early
            self.leave_out(name, f"{type(error).__name__}: {error}")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def _save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        about = {"benchmark": f"gpu-{self.path.stem}", "date": date.today().isoformat()}
        about |= {"device": facts.device(self.device), "versions": facts.versions()}
        content = about | {"found": self.found, "left_out": self.left_out}
        self.path.write_text(json.dumps(content, indent=2) + "\n")


def command(words: Sequence[str], limit: float) -> tuple[float, str]:
    """Run a command in the repository's root.

    Returns:
        Its seconds and all that it printed.

    Raises:
        RuntimeError: when it fails, or takes longer than the limit.
    """
    start = time.perf_counter()
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in (str(ROOT / "src"), *sys.path) if path)}
    child = subprocess.Popen(words, cwd=ROOT, env=environment, start_new_session=True, **pipe)
    try:
        printed, _ = child.communicate(timeout=max(1.0, limit))
    except BaseException as error:  # also that a part's time is up: nothing of it may run beside the next one
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise RuntimeError(f"took longer than {limit:.0f} s") from None
        raise
    if child.returncode:
        raise RuntimeError(f"exit code {child.returncode}: {printed[-500:]}")
    return time.perf_counter() - start, printed


def train(words: Sequence[str], limit: float) -> float:
    """Seconds of a train.py command."""
    return command([sys.executable, "train.py", *words], limit)[0]


def gpu_tests() -> list[Path]:
    """The files of the tests that need a CUDA device: the others may import what such a machine has not."""
    return sorted(path for path in (ROOT / "tests").rglob("test_*.py") if "pytest.mark.gpu" in path.read_text())


def tests(ledger: Ledger) -> None:
    """What only the machine can tell, and the tests that need it."""
    for name, probe in PROBES.items():
        asked = [sys.executable, str(Path(__file__).with_name("gpu_probes.py")), name, ledger.device]
        ledger.measure(name, lambda asked=asked: json.loads(command(asked, 90)[1].splitlines()[-1]), probe.needs)

    def pytest() -> dict[str, Any]:
        words = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", *map(str, gpu_tests())]
        try:
            seconds, printed = command(words, ledger.seconds_left - 10)
        except RuntimeError as error:
            return {"passed": False, "says": str(error)}
        return {"passed": True, "seconds": round(seconds, 1), "says": printed.splitlines()[-1]}

    ledger.measure("tests", pytest, 60)


def steps(ledger: Ledger, rounds: int = 3, small: bool = False) -> None:
    """The four cases at their full size; the small ones first."""
    for case in CASES:
        work = lambda case=case: measure(case, rounds, ledger.device, small, sides=GPU_SIDES)  # noqa: E731
        ledger.measure(case, work, 100)


def run(ledger: Ledger, repetitions: int = 3, words: Sequence[str] = RUN) -> None:
    """One run, eager and recorded in turns: seconds of the whole command, and of its training and validation."""
    found: dict[str, dict[str, list[float]]] = {"eager": {}, "recorded": {}}

    def work(side: str, extra: Sequence[str]) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            where = (f"trainer.device={ledger.device}", f"output={folder}")
            seconds = train([*words, *extra, *where], ledger.seconds_left)
            (path,) = Path(folder).glob("*/*/*/result.json")
            its_own = json.loads(path.read_text())["seconds"]
        figures = {"command": seconds, "epochs": its_own["train"] + its_own["val"]}
        for name, value in figures.items():
            found[side].setdefault(name, []).append(value)
        return {name: spread(values) for name, values in found[side].items()}

    for _ in range(repetitions):
        for side, extra in (("eager", ()), ("recorded", (GRAPH,))):
            ledger.measure(side, lambda side=side, extra=extra: work(side, extra), 30)


def packed(
    ledger: Ledger, workers: Sequence[int] = (16, 8, 4, 2, 1), runs: int = 16, words: Sequence[str] = RUN
) -> None:
    """The same runs by fewer and fewer workers; runs a minute."""
    needs = 30.0
    for count in workers:

        def work(count: int = count) -> dict[str, float]:
            seeds = f"seed={','.join(str(seed) for seed in range(runs))}"
            with tempfile.TemporaryDirectory() as folder:
                where = [f"trainer.device={ledger.device}", f"sweep.dir={folder}", f"sweep.workers={count}"]
                seconds = train(["-m", *words, seeds, GRAPH, *where], ledger.seconds_left)
                assert len(list(Path(folder).glob("*/*/result.json"))) == runs
            return {"seconds": round(seconds, 1), "runs_a_minute": round(60 * runs / seconds, 1)}

        ledger.measure(str(count), work, needs)
        needs = 1.5 * ledger.found.get(str(count), {}).get("seconds", needs)


def grid(ledger: Ledger, experiment: str, words: Sequence[str] = ()) -> None:
    """A whole report's tables in each form: seconds of the command and of its runs, and what did not finish in time."""
    for number, (form, own) in enumerate(GRID_FORMS.items()):
        limit, start = ledger.seconds_left / (len(GRID_FORMS) - number), time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            budget = f"sweep.budget={max(1, int(limit - 60))}s"
            given = [f"experiment={experiment}", *own, f"trainer.device={ledger.device}", f"sweep.dir={folder}", budget]
            try:
                train(["-m", *given, *words], limit - 10)
                why = None
            except RuntimeError as error:  # also of a sweep whose budget was spent
                why = str(error)
            results = [json.loads(path.read_text()) for path in Path(folder).glob("*/*/result.json")]
        done = [result["seconds"]["total"] for result in results if result["status"] == "finished"]
        figures: dict[str, Any] = {"seconds": round(time.monotonic() - start, 1), "whole": why is None}
        figures |= {"finished": len(done), "others": len(results) - len(done)}
        ledger.note(form, figures | ({"run_seconds": spread(done)} if done else {}))
        if why is not None:
            ledger.leave_out(f"the rest, {form}", why)


def fused(ledger: Ledger, seeds: int = 10, words: Sequence[str] = RUN) -> None:
    """Ten seeds as one batched model, ten runs side by side, and one run alone."""
    if not re.search(r"^ *fuse:", (ROOT / "src/retable/conf/base.yaml").read_text(), re.MULTILINE):
        ledger.leave_out("fused", "this version has no sweep.fuse")
        return
    forms = {"alone": ("seed=0", "sweep.fuse=never"), "fused": (f"seeds={seeds}", f"sweep.fuse={seeds}")}
    forms |= {"side by side": (f"seeds={seeds}", "sweep.fuse=never", GRAPH)}
    for name, form in forms.items():

        def work(form: Sequence[str] = form) -> float:
            with tempfile.TemporaryDirectory() as folder:
                where = (f"trainer.device={ledger.device}", f"sweep.dir={folder}")
                return round(train(["-m", *words, *form, *where], ledger.seconds_left), 1)

        ledger.measure(name, work, 40)


PARTS: dict[str, Callable[[Ledger], None]] = {
    "tests": tests,
    "steps": steps,
    "run": run,
    "packed": packed,
    **{name: (lambda ledger, glob=glob: grid(ledger, glob)) for name, glob in GRIDS.items()},
    "fused": fused,
}


def main() -> int:
    """Measure the chosen parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, default=RESULTS / "gpu", help="where a part's file goes")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("gpu: skipped, there is no CUDA device here")
        return 0
    for part in options.part:
        PARTS[part](Ledger(options.out / f"{part}.json", "cuda"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
