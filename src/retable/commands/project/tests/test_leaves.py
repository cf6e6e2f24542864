"""The data set is read as it should be, and a run of the task ends."""

import subprocess
import sys
from pathlib import Path

import numpy as np

PROJECT = Path(__file__).parents[1]
sys.path.insert(0, str(PROJECT))

from leaves import SPECIES, PhotoData  # noqa: E402


def test_the_sample_has_every_species_in_both_splits(tmp_path):
    data = PhotoData(source="sample", cache=tmp_path)
    data.prepare()
    assert data.classes == SPECIES
    assert data.image_shape == (3, 32, 32)
    assert np.bincount(data.splits.train.targets).tolist() == [60, 60, 60]
    assert np.bincount(data.splits.val.targets).tolist() == [20, 20, 20]


def test_a_run_ends(tmp_path):
    words = ["train", "task=leaves", "data=sample", "debug=fast", f"output={tmp_path}", f"data.cache={tmp_path}"]
    command = [sys.executable, "-m", "retable.cli", *words]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "finished" in done.stdout
