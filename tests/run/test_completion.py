"""What a shell completes, by Hydra's own completion."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from retable.cli import main as cli
from retable.main import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def completed(monkeypatch, capsys):
    """The words that Hydra's completion of bash gives for a line."""

    def ask(line: str) -> list[str]:
        monkeypatch.setenv("COMP_LINE", line)
        if line.startswith("python"):
            monkeypatch.setattr(sys, "argv", ["train.py", "-sc", "query=bash"])
            main()
        else:
            cli(["-sc", "query=bash"])
        return capsys.readouterr().out.split()

    return ask


DROPOUT = ["dropout.channels=", "dropout.p=", "dropout.where="]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("python train.py task=cifar dropout.", DROPOUT),
        ("python train.py dropout.", DROPOUT),  # no task is chosen yet
        ("python train.py dropout=0.3 dropout.w", ["dropout.where="]),
        ("python train.py -m dropout=0.1,0.2 seeds=2 dropout.", DROPOUT),
        ("retable train dropout.", DROPOUT),
        ("retable sweep dropout=0.1,0.2 dropout.", DROPOUT),
        ("retable train task=mn", ["task=mnist"]),
        (
            "retable train early_stop=",
            ["early_stop=change", "early_stop=gap", "early_stop=none", "early_stop=patience"],
        ),
        ("retable sweep experiment=cifar/dr", ["experiment=cifar/dropout"]),
        ("retable sweep experiment=cifar/dropout trainer.max_e", ["trainer.max_epochs="]),
        ("retable tr", ["train"]),
        ("retable pre", ["predict"]),
        ("retable predict mul", []),  # names of files, which the shell knows
    ],
)
def test_keys_options_and_commands(completed, line, words):
    assert completed(line) == words


@pytest.mark.parametrize("option", ["--config-dir", "-cd", "--config-path"])
def test_options_of_a_folder_that_the_line_names(completed, tmp_path, monkeypatch, option):
    folder = tmp_path / "theirs"
    (folder / "dropout").mkdir(parents=True)
    (folder / "dropout/noisy.yaml").write_text("p: 0.4\n")
    (folder / "experiment").mkdir()
    (folder / "experiment/mine.yaml").write_text("# @package _global_\ndefaults: [{override /task: mnist}]\n")
    monkeypatch.setenv("RETABLE_CONF", "")  # so that it is as it was afterwards
    named = f"retable train {option} {folder}"
    assert completed(f"{named} task=mnist dropout=no") == ["dropout=noisy", "dropout=none"]
    assert completed(f"{named} experiment=mi") == ["experiment=mine"]
    assert completed(f"retable train {option} ") == []  # names of files, which the shell knows
    assert completed(f"retable train {option} {folder}/nowhere task=mn") == ["task=mnist"]


def test_all_commands_are_offered(completed):
    assert {"train", "sweep", "report", "status", "init"} <= set(completed("retable "))


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_bash_completes_by_what_the_installation_line_gives(tmp_path):
    (tmp_path / "python").symlink_to(sys.executable)
    shutil.copy(ROOT / "train.py", tmp_path)
    script = """
eval "$(python train.py -sc install=bash)"
COMP_LINE="python train.py dropout." COMP_POINT=24 COMP_CWORD=2 COMP_WORDS=(python train.py dropout.)
$(complete -p python | sed "s/.* -F \\([^ ]*\\) .*/\\1/")
printf "%s\\n" "${COMPREPLY[@]}"
"""
    source = os.pathsep.join(path for path in sys.path if path)
    env = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": source}
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=100, env=env)
    assert done.stdout.split() == DROPOUT, done.stderr
