"""Programs on a stand-in for a GPU: CUDA's libraries replaced by ones whose memory is the host's, and which count
launches, copies and synchronisations and compute nothing. It shows what the host does, and no values, times or memory.

RETABLE_STAND_IN names its folder, with an `env.sh` that puts it into the environment.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def on_stand_in(*arguments: object, **environment: str) -> str:
    """Run Python with these arguments on the stand-in; what it prints."""
    folder = os.environ.get("RETABLE_STAND_IN", "")
    if not (Path(folder) / "env.sh").is_file():
        pytest.skip("needs a stand-in for a GPU: RETABLE_STAND_IN names its folder")
    paths = os.pathsep.join(filter(None, (str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH"))))
    script = f'. {folder}/env.sh && PYTHONPATH={paths}:$PYTHONPATH exec "$@"'
    command = ["bash", "-c", script, "bash", sys.executable, "-W", "ignore", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ | environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


COUNTERS = """
import ctypes
_library = ctypes.CDLL(None)
_library.shim_counters.restype = ctypes.POINTER(ctypes.c_long)
def counted():
    names = ("launches", "to_pageable", "to_pinned", "back", "on", "sets", "streams", "devices", "events", "queries")
    return dict(zip((*names, "allocations", "graphs", "blas", "violations"), _library.shim_counters()[:14]))
"""
