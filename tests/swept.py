"""A sweep and its table on other Pythons: `make sweep-pythons`.

    python -m tests.swept                       # a digest of the table that a small sweep gives
    python -m tests.swept --pythons 3.12 3.13   # the same of each that is installed, compared bit for bit

An environment for it takes 1.5 GB and a minute, not 5.5 GB: CUDA's libraries, which do not depend on the Python, are
linked to this environment's.
"""

import argparse
import csv
import hashlib
import subprocess
import sys
import tempfile
from importlib import metadata, util
from pathlib import Path

from packaging.requirements import Requirement

from tests.pythons import compare, find

NOT_NEEDED = ("nvidia-", "cuda-", "triton")  # on a CPU, but for the libraries that torch is linked with
SWEEP = ("task=mnist", "data=sample", "data.fraction=0.1", "model.width=4", "dropout=0.2,0.3", "trainer.max_epochs=1")
OTHERWISE = ("seconds", "images_per_second", "directory")  # columns of each sweep's own


def digest() -> str:
    """Of the results of a sweep of two runs and of all figures of their epochs but the times; and of how many rows."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "retable.cli", "sweep", *SWEEP, "sweep.dir=sweep", "sweep.workers=1"]
        subprocess.run(command, cwd=folder, check=True, stdout=sys.stderr)
        files = [*Path(folder).glob("sweep/tables/*/*/results.csv"), *sorted(Path(folder).rglob("history.csv"))]
        rows = [row for path in files for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines())]
    kept = [{name: value for name, value in row.items() if not name.startswith(OTHERWISE)} for row in rows]
    return f"{hashlib.sha256(repr(kept).encode()).hexdigest()} of {len(kept)} rows"


def pinned() -> list[str]:
    """All that retable requires, as installed here, without what only a GPU needs."""
    found: dict[str, str] = {}
    left = ["retable"]
    while left:
        name = left.pop()
        for text in metadata.requires(name) or []:
            needed = Requirement(text)
            name = needed.name.lower()
            wanted = needed.marker is None or needed.marker.evaluate({"extra": ""})
            if wanted and name not in found and not name.startswith(NOT_NEEDED):
                found[name] = f"{name}=={metadata.version(name)}"
                left.append(name)
    return sorted(found.values())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pythons", nargs="*", default=[], help="versions to compare with, e.g. 3.12")
    options = parser.parse_args()
    cuda = util.find_spec("nvidia")
    shared = [Path(place) for place in cuda.submodule_search_locations or []] if cuda else []
    packages = ["--no-deps", *pinned()] if options.pythons else []
    others = [version for version in options.pythons if version != "{}.{}".format(*sys.version_info)]
    compare(digest(), [(f"Python {v}", find(v), "tests.swept", packages, shared) for v in others])


if __name__ == "__main__":
    main()
