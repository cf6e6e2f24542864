"""What reading the real sets takes: once from their files, then from the cache, against a copy of the same bytes.

    python benchmarks/data.py                                 every set that is below RETABLE_DATA, one core
    python benchmarks/data.py --sets brain3 mnist --rounds 3

First preparation: fingerprint, decoding and the cache's files, in an empty cache. Cached loading: `prepare` and the
tensors of `resident_on`, as every later run has it, in a process that has read nothing else. Beside it, in turns, the
arrays' bytes alone: np.load of each .npy file, mapped, and one copy of it. All files lie in the page cache of the
system.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from common import save, spread

from retable.config.compose import Composer
from retable.data import loader
from retable.data.fingerprints import paths_in
from retable.data.module import ImageData
from retable.errors import DataError
from retable.run.assemble import make_data

SETS = {
    "mnist": ["task=mnist"],
    "cifar10": ["task=cifar"],
    "brain3": ["task=brain", "data.train=[1,3]", "data.val=[13]"],
    "brain": ["task=brain"],
    "gland": ["task=gland"],
    "lesion": ["task=lesion"],
    "camvid": ["task=fcn", "data.set=camvid"],
    "ventricle": ["task=ventricle", "data.subfolder=rvsc_png"],
}


def timed_reading(config: dict[str, Any]) -> tuple[ImageData, float, float]:
    """The data with its tensors on the CPU; wall and CPU seconds."""
    loader._last.clear()  # what this process has read
    wall, cpu = time.perf_counter(), time.process_time()
    data = make_data(config)
    data.resident_on(torch.device("cpu"))
    return data, time.perf_counter() - wall, time.process_time() - cpu


def copied(entry: Path) -> tuple[int, float, float]:
    """Load and copy an entry's arrays: bytes, wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    total = sum(np.array(np.load(path, mmap_mode="r")).nbytes for path in entry.glob("*.npy"))
    return total, time.perf_counter() - wall, time.process_time() - cpu


def measure(words: list[str], rounds: int) -> dict[str, Any]:
    """A set's figures. Raises DataError where it is not there."""
    firsts, first_cpu = [], []
    loads: dict[str, list[float]] = {"seconds": [], "cpu": [], "copy": [], "copy_cpu": []}
    size = 0
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            config = Composer().compose([*words, f"data.cache={folder}"]).config
            data, wall, cpu = timed_reading(config)
            firsts.append(wall)
            first_cpu.append(cpu)
            files = paths_in(data.files())
            source = sum(file.stat().st_size for file in files)
            (entry,) = (path.parent for path in Path(folder).glob("*/meta.json"))
            for _ in range(3):
                data, wall, cpu = timed_reading(config)
                loads["seconds"].append(wall)
                loads["cpu"].append(cpu)
                size, wall, cpu = copied(entry)
                loads["copy"].append(wall)
                loads["copy_cpu"].append(cpu)
    return {
        "files": len(files),
        "file_mb": round(source / 1e6, 1),
        "array_mb": round(size / 1e6, 1),
        "images": {split: len(images) for split, images in data.splits.by_name.items()},
        "first_seconds": spread(firsts, 3),
        "first_cpu_seconds": spread(first_cpu, 3),
        "cached_seconds": spread(loads["seconds"], 4),
        "cached_cpu_seconds": spread(loads["cpu"], 4),
        "copy_seconds": spread(loads["copy"], 4),
        "copy_cpu_seconds": spread(loads["copy_cpu"], 4),
        "cached_to_copy_cpu": round(median(a / b for a, b in zip(loads["cpu"], loads["copy_cpu"], strict=True)), 2),
    }


def main() -> None:
    """Measure the chosen sets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--rounds", type=int, default=3, help="first preparations; three cached loadings each")
    parser.add_argument("--no-save", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found, left_out = {}, {}
    for name in options.sets:
        try:
            found[name] = measure(SETS[name], options.rounds)
        except DataError as error:
            left_out[name] = str(error)
            print(f"{name}: left out ({error})")
            continue
        print(f"{name}: {found[name]}", flush=True)
    result = {"threads": 1, "load_average": round(os.getloadavg()[1], 2), "sets": found, "left_out": left_out}
    if not options.no_save:
        print(save("data", result))


if __name__ == "__main__":
    main()
