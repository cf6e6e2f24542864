"""The module and its data go together, and a run of the task ends."""

import subprocess
import sys
from pathlib import Path

import torch

PROJECT = Path(__file__).parents[1]
sys.path.insert(0, str(PROJECT))

from lit import SPECIES, LitNet, Photos  # noqa: E402


def test_the_module_takes_what_the_data_give():
    data = Photos(source="sample", batch_size=16)
    data.setup()
    images, labels = next(iter(data.train_dataloader()))
    assert images.shape == (16, 3, 32, 32)
    assert torch.bincount(data.val.tensors[1]).tolist() == [20, 20, 20]
    assert LitNet()(images).shape == (16, len(SPECIES))
    assert labels.dtype == torch.int64


def test_a_run_ends(tmp_path):
    words = ["train", "task=leaves", "data.source=sample", "debug=fast", f"output={tmp_path}"]
    command = [sys.executable, "-m", "retable.cli", *words]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "finished" in done.stdout
