"""What a step costs: epochs of four published trainings, against a plain eager loop and against the template's way.

    python benchmarks/step.py                             all four on one CPU thread (about half an hour)
    python benchmarks/step.py --cases B1.2 --rounds 3
    python benchmarks/step.py --cases A1 --bf16           float32 against bf16-mixed, where the CPU has bfloat16

Sides, each a process of its own that trains an epoch whenever its turn comes, on the same real data:

    retable    a run as train.py makes it, with all that it records: losses, counts, gradient norms, history,
              TensorBoard events, checkpoint
    plain     a loop written by hand over tensors in memory, with this project's network and its memory layout
    hand      the same loop with the network written by hand too, in torch's default layout
    template  the Lightning + Hydra template's way (benchmarks/template.py)

An epoch is training and validation. An epoch beside which other processes worked is measured again.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from common import machine_cpu, ratios, save, spread, wait_until_quiet
from networks import CASES
from turns import Side

from retable.run import devices

HERE = Path(__file__).parent
ENDING = 10.0  # seconds in which all sides are to end: benchmarks/gpu.py has few to spare
SIDES: dict[str, tuple[str, Sequence[str]]] = {
    "retable": ("own.py", ()),
    "plain": ("plain.py", ()),
    "hand": ("plain.py", ("--network", "hand")),
    "template": ("template.py", ()),
}
BF16_SIDES = {"retable": ("own.py", ()), "bf16": ("own.py", ("trainer.precision=bf16-mixed",))}


def measure(
    case: str, rounds: int, device: str, small: bool, sides: Mapping[str, tuple[str, Sequence[str]]] = SIDES
) -> dict[str, Any]:
    """Let the sides take turns on one case.

    Args:
        case: a key of networks.CASES.
        rounds: epochs of each side, after one that warms it up.
        device: cpu or cuda.
        small: the case's smaller form.
        sides: the script of each, and further words for it.
    """
    options = ["--epochs", "1000", "--device", device, *(["--small"] if small else [])]
    threads = {"OMP_NUM_THREADS": "1"} if device == "cpu" else {}
    started: dict[str, Side] = {}
    rows: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    again = 0
    try:
        for name, (script, words) in sides.items():
            started[name] = Side(HERE / script, [case, *words, *options], threads)
        while len(rows["retable"]) < rounds:
            wait_until_quiet(60)
            found, others = {}, 0.0
            for name, side in started.items():
                before = machine_cpu()
                found[name] = side.epoch()
                others += 0.0 if before is None else max(0.0, machine_cpu() - before - found[name]["cpu"])
            print(f"{case}: " + ", ".join(f"{name} {row['seconds']:.3f} s" for name, row in found.items()), flush=True)
            if others > 0.05 * sum(row["seconds"] for row in found.values()) + 0.2 and again < rounds:
                again += 1
                continue
            for name, row in found.items():
                rows[name].append(row)
    finally:
        for side in started.values():
            side.let_go()
        deadline = time.monotonic() + ENDING
        for side in started.values():
            side.close(max(0.0, deadline - time.monotonic()))
    return summary(rows) | {"rounds": rounds, "rounds_measured_again": again, "small": small}


def summary(rows: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians of the epochs of each side, and of the ratios between epochs of one round."""
    seconds = {name: [row["seconds"] for row in found] for name, found in rows.items()}
    training = {name: [row["train"] for row in found] for name, found in rows.items()}
    others = [name for name in rows if name != "retable"]
    return {
        "epoch_seconds": {name: spread(values, 3) for name, values in seconds.items()},
        "step_ms": {
            name: round(median(1000 * row["train"] / row["steps"] for row in found), 3) for name, found in rows.items()
        },
        "steps": rows["retable"][0]["steps"],
        "last_val_figure": {name: round(found[-1]["val_figure"], 4) for name, found in rows.items()},
        "epoch_of_retable_to": {name: ratios(seconds["retable"], seconds[name]) for name in others},
        "training_of_retable_to": {name: ratios(training["retable"], training[name]) for name in others},
    }


def main() -> None:
    """Measure the chosen cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each side")
    parser.add_argument("--no-save", action="store_true")
    parser.add_argument("--bf16", action="store_true", help="this project alone, in float32 and in bf16-mixed")
    options = parser.parse_args()
    if options.bf16 and not devices.has_bf16_instructions():
        print("step: skipped, this CPU has no instructions for bfloat16 (avx512_bf16, amx_bf16)")
        return
    sides, name = (BF16_SIDES, "step-bf16") if options.bf16 else (SIDES, "step")
    for case in options.cases:
        found = measure(case, options.rounds, "cpu", small=bool(CASES[case].smaller), sides=sides)
        print(f"{case}: an epoch of retable against {found['epoch_of_retable_to']}", flush=True)
        if not options.no_save:
            what = "seconds of an epoch, training and validation, in turns"
            print(save(f"{name}-{case.lower()}", {"what": what, "threads": 1, "cases": {case: found}}))


if __name__ == "__main__":
    main()
