"""`retable status`: counts, what trains now, and why runs failed, from directories alone."""

import json
import subprocess
import sys

import pytest
from filelock import FileLock

from retable import cli
from retable.run import files


@pytest.fixture
def folder(tmp_path):
    """Runs of two tasks, one of each status."""

    def run(task: str, name: str, experiment: str | None = None, epochs: int = 0, result: object = None):
        directory = tmp_path / "multirun" / task / name
        directory.mkdir(parents=True)
        config = {"seed": 0, "trainer": {"max_epochs": 9}}
        overrides = [f"experiment={experiment}", "seed=0"] if experiment else ["seed=0"]
        stated = {"name": name, "task": task, "config": config, "identity": {"seed": 0}, "overrides": overrides}
        (directory / files.RUN).write_text(json.dumps(stated))
        if epochs:
            rows = "".join(f"{epoch},0.5\n" for epoch in range(1, epochs + 1))
            (directory / files.HISTORY).write_text(f"epoch,val/accuracy\n{rows}")
            (directory / files.CHECKPOINT).write_bytes(b"")
        if result is not None:
            (directory / files.RESULT).write_text(json.dumps(result))
        return directory

    run("cifar", "a", "cifar/dropout", 9, {"status": "finished"})
    run("cifar", "b", "cifar/dropout", 2, {"status": "failed", "reason": "RuntimeError: no"})
    run("cifar", "c", "cifar/dropout")
    run("cifar", "d", None, 4)
    run("mnist", "e", None, 3)
    run("mnist", "f", None, 1, {"status": "done"})
    (tmp_path / "multirun" / "tables").mkdir()
    return tmp_path / "multirun"


def test_counts_what_trains_and_what_failed(folder, capsys):
    running = folder / "cifar" / "d"
    with FileLock(running / files.LOCK):
        cli.main(["status", str(folder)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "cifar          4 runs: 1 finished, 1 failed, 1 running, 1 new",
        "cifar/dropout  3 runs: 1 finished, 1 failed, 1 new",
        "mnist          2 runs: 1 broken, 1 interrupted",
    ]
    assert lines[3].startswith(f"running: {running}: epoch 4 of 9, ")
    assert lines[4:] == [
        f"failed: {folder / 'cifar' / 'b'}: RuntimeError: no",
        f"broken: {folder / 'mnist' / 'f'}: result.json is not whole",
    ]


def test_time_left_of_what_trains(folder, capsys):
    """Of nine epochs of a minute four are done, and nine of the run that waits: one run at a time."""
    running = folder / "cifar" / "d"
    rows = "".join(f"{epoch},0.5,50.0,10.0\n" for epoch in range(1, 5))
    (running / files.HISTORY).write_text(f"epoch,val/accuracy,seconds/train,seconds/val\n{rows}")
    with FileLock(running / files.LOCK):
        cli.main(["status", str(folder)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "cifar          4 runs: 1 finished, 1 failed, 1 running, 1 new; about 14m00s left"
    assert lines[1] == "cifar/dropout  3 runs: 1 finished, 1 failed, 1 new"


def test_a_folder_without_runs_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["status", str(tmp_path)])
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith(f"{tmp_path}: no run; accepted: ")


def test_nothing_is_composed(folder):
    code = "import sys; from retable import cli; cli.main(['status', sys.argv[1]])"
    code += "; assert not {'torch', 'pandas', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, capture_output=True)
