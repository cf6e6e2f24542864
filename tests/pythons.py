"""The same question asked of several Pythons: `make compose-pythons`, `make sweep-pythons`.

A module of the tests that prints one line, an answer, is run by an interpreter of each version that is found here, in a
new environment, and its answers are compared with this interpreter's own.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
PINNED = ("-c", str(ROOT / "constraints.txt"))


def find(version: str) -> str | None:
    """An interpreter of this version that runs: on the PATH, or pyenv's."""
    pyenv = sorted(Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(f"versions/{version}.*/bin/python"))
    for program in (shutil.which(f"python{version}"), *map(str, reversed(pyenv))):
        if program and subprocess.run([program, "-c", "import venv, ensurepip"], capture_output=True).returncode == 0:
            return program
    return None


def answer(module: str, program: str, packages: Iterable[str], shared: Iterable[Path] = ()) -> str:
    """What the module prints under this interpreter, in a new environment of these packages (words of pip install).

    shared: folders of this environment's site-packages that are linked there, not installed again.
    """
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder) / "bin/python"
        subprocess.run([program, "-m", "venv", folder], check=True)
        where = subprocess.check_output(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
        )
        for path in shared:
            (Path(where.strip()) / path.name).symlink_to(path)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        subprocess.run([*pip, *packages], env=plain, check=True)
        environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
        command = [python, "-m", module]
        return subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


def compare(own: str, others: Iterable[tuple[str, str | None, str, Iterable[str], Iterable[Path]]]) -> None:
    """Print this interpreter's answer and whether each other (a name, then the arguments of `answer`) gives the same.

    Raises:
        SystemExit: one of them gives another
    """
    print(own, flush=True)
    differ = []
    for name, program, *asked in others:
        if program is None:
            print(f"{name}: not installed here, left out", flush=True)
            continue
        module, packages, shared = asked
        found = answer(module, program, packages, shared).strip()
        print(f"{name}: {'the same' if found == own else found}", flush=True)
        differ += [name] if found != own else []
    sys.exit(f"otherwise by {'; '.join(differ)}" if differ else 0)
