"""Everything that conf/ offers, composed on other Pythons and Hydras, without torch: `make compose-pythons`.

    python -m tests.composed                              # a digest of all configs, and of the command line's
    python -m tests.composed --pythons 3.12 3.13 --next   # the same of each that is installed, compared

Hydra, omegaconf and filelock are all that composing needs: 23 MB and some seconds each, where a sweep needs 5.5 GB.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from retable.config.compose import Composer
from retable.errors import ConfigError

ROOT = Path(__file__).parents[1]
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


def find(version: str) -> str | None:
    """An interpreter of this version that runs: on the PATH, or pyenv's."""
    pyenv = sorted(Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(f"versions/{version}.*/bin/python"))
    for program in (shutil.which(f"python{version}"), *map(str, reversed(pyenv))):
        if program and subprocess.run([program, "-c", "import venv, ensurepip"], capture_output=True).returncode == 0:
            return program
    return None


def elsewhere(program: str, packages: tuple[str, ...], folder: Path) -> str:
    """The digest that a new environment of this interpreter and these packages gives."""
    subprocess.run([program, "-m", "venv", folder], check=True)
    pip = [folder / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pins = [] if packages is NEXT else ["-c", ROOT / "constraints.txt"]
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([*pip, *pins, *packages], env=plain, check=True)
    command = [folder / "bin/python", "-m", "tests.composed"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pythons", nargs="*", default=[], help="versions to compare with, e.g. 3.12")
    parser.add_argument("--next", action="store_true", help="compare with Hydra's pre-release, too")
    options = parser.parse_args()
    own = digest()
    print(own, flush=True)
    others = [(f"Python {version}", find(version), NEEDED) for version in options.pythons]
    others += [(", ".join(NEXT[:2]), sys.executable, NEXT)] if options.next else []
    differ = []
    for name, program, packages in others:
        if program is None:
            print(f"{name}: not installed here, left out", flush=True)
            continue
        with tempfile.TemporaryDirectory() as folder:
            found = elsewhere(program, packages, Path(folder) / "venv")
        print(f"{name}: {'the same' if found == own else found}", flush=True)
        differ += [name] if found != own else []
    sys.exit(f"composed otherwise by {'; '.join(differ)}" if differ else 0)


if __name__ == "__main__":
    main()
