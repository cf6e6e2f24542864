"""Everything that conf/ offers, composed on other Pythons and Hydras, without torch: `make compose-pythons`.

    python -m tests.composed                              # a digest of all configs, and of the command line's
    python -m tests.composed --pythons 3.12 3.13 --next   # the same of each that is installed, compared

Hydra, omegaconf and filelock are all that composing needs: 23 MB and some seconds each, where a sweep needs 5.5 GB.
"""

import argparse
import hashlib
import json
import subprocess
import sys

from retable.config.compose import Composer
from retable.errors import ConfigError
from tests.pythons import PINNED, ROOT, compare, find

CONF = ROOT / "src/retable/conf"
TASKS = sorted(path.stem for path in (CONF / "task").glob("*.yaml"))
OPTIONS = [f"{path.parent.name}={path.stem}" for path in sorted(CONF.glob("*/*.yaml")) if path.parent.name != "task"]
NEEDED = ("hydra-core", "omegaconf", "filelock")
NEXT = ("hydra-core==1.4.0rc3", "omegaconf==2.4.1rc1", "filelock")  # beside the tested versions


def digest() -> str:
    """Of the config of each task, of one with each option or why that is refused; and how many there are."""
    composer = Composer(CONF)
    lines = []
    asked = [[f"task={task}"] for task in TASKS] + [["task=gland", option] for option in OPTIONS]
    for words in asked:
        try:
            composition = composer.compose(words)
        except ConfigError as refusal:
            lines.append(f"{words} {refusal}")
        else:
            lines.append(json.dumps([words, composition.config, composition.deviations], sort_keys=True))
    shown = subprocess.run(
        [sys.executable, "-m", "retable.cli", "train", "task=mnist", "data=sample", "dropout=0.3", "--cfg", "job"],
        capture_output=True,
        text=True,
        check=True,
    )
    lines.append(shown.stdout)
    return f"{hashlib.sha256(chr(10).join(lines).encode()).hexdigest()} of {len(lines)}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pythons", nargs="*", default=[], help="versions to compare with, e.g. 3.12")
    parser.add_argument("--next", action="store_true", help="compare with Hydra's pre-release, too")
    options = parser.parse_args()
    others = [
        (f"Python {version}", find(version), "tests.composed", (*PINNED, *NEEDED), ()) for version in options.pythons
    ]
    others += [(", ".join(NEXT[:2]), sys.executable, "tests.composed", NEXT, ())] if options.next else []
    compare(digest(), others)


if __name__ == "__main__":
    main()
