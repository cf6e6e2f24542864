"""The commands of docs/compared.md, each run by a shell in an empty folder as its reader would."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLE = (ROOT / "docs/compared.md").read_text().partition("\n## Launchers")[0]
ROWS = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in re.findall(r"^\| .*", TABLE, re.MULTILINE)]
FEATURES = ROWS[1:]


def test_each_line_has_one_command():
    assert len(FEATURES) == 29
    assert [row for row in FEATURES if len(row) != 3 or not re.fullmatch(r"`[^`]*\bretable [^`]*`", row[2])] == []


@pytest.fixture(scope="module")
def surroundings(tmp_path_factory):
    """Environment with `retable` and `python` as in an installation, and one cache for all commands."""
    programs = tmp_path_factory.mktemp("bin")
    for name, words in (("retable", "-m retable.cli "), ("python", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words}"$@"\n')
        (programs / name).chmod(0o755)
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MASTER_", "SLURM_"))}
    return own | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "src"),
        "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache")),
    }


@pytest.mark.pages
@pytest.mark.parametrize("row", FEATURES, ids=[re.sub(r"\W+", "-", row[0]).strip("-") for row in FEATURES])
def test_a_command_of_the_table_ends_well(row, tmp_path, surroundings):
    command = row[2].strip("`")
    if "hydra/sweeper=optuna" in command and not importlib.util.find_spec("optuna"):
        pytest.skip("needs optuna: pip install -e '.[optuna]'")
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, env=surroundings, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, f"{command}: {done.stderr[-3000:]}\n{done.stdout[-2000:]}"
