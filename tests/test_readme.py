"""What the README shows: its commands are run, its table is the gallery's, its file is the table's."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


COMMANDS = [
    re.sub(r"\s+#.*", "", line).strip() for block in blocks("sh") for line in block.splitlines() if line.strip()
]
RETABLE = [line for line in COMMANDS if line.startswith("retable ")]
COMPOSED = [line for line in RETABLE if "experiment=" in line]
RUNS = "optimizer,seed,val/accuracy\nsgd,0,0.80\nsgd,1,0.81\nadam,0,0.70\nadam,1,0.73\n"
# What each leaves, in order; all are given in one folder.
LEAVES = {
    "retable train task=cifar": "outputs/**/result.json",
    "retable sweep task=cifar": "multirun/debug/tables/cifar/*/index.html",
    "retable report multirun": "multirun/debug/tables/index.html",
    "retable report --from csv runs.csv": "tables/csv/index.html",
    "retable init leaves": "leaves/conf/task/leaves.yaml",  # what is done with it: tests/commands/test_init.py
}


def test_every_command_is_known():
    assert all(line.startswith(("make ", "retable ")) for line in COMMANDS), COMMANDS
    assert len(COMPOSED) == 2
    others = [line for line in RETABLE if line not in COMPOSED]
    assert all(line.startswith(start) for line, start in zip(others, LEAVES, strict=True))


def test_it_is_half_as_long_as_it_was():
    assert len(TEXT.splitlines()) <= 82
    assert len(TEXT.encode()) < 5_200


@pytest.mark.pages
def test_its_commands_in_order(tmp_path):
    (tmp_path / "runs.csv").write_text(RUNS)
    for line in (line for line in RETABLE if line not in COMPOSED):
        small = ["debug=fast", "data=sample", "logger=none"] if line.split()[1] in ("train", "sweep") else []
        command = [sys.executable, "-m", "retable.cli", *shlex.split(line)[1:], *small]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{line}: {done.stderr}"
        start = next(start for start in LEAVES if line.startswith(start))
        assert list(tmp_path.glob(LEAVES[start])), line


@pytest.mark.parametrize("line", COMPOSED)
def test_experiment_commands_compose(line, tmp_path):
    from retable.sweeps.plan import make_plan

    plan = make_plan([*shlex.split(line)[2:], f"sweep.dir={tmp_path / 'multirun'}"])
    assert len(plan.runs) == 16  # A1.2
    assert all(run.config["trainer"]["max_epochs"] == 100 for run in plan.runs)


def test_make_targets_exist():
    targets = {line.split()[1] for line in COMMANDS if line.startswith("make ")}
    targets |= set(re.findall(r"`make ([a-z-]+)`", TEXT))
    assert {"demo", "test", "view", "docs"} <= targets
    for target in sorted(targets):
        done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, f"{target}: {done.stderr}"


def test_files_that_it_links_to_exist():
    linked = re.findall(r"\]\(((?!http)[^)#]+)", TEXT)
    assert len(linked) > 10
    assert [name for name in linked if not (ROOT / name).exists()] == []


def test_the_table_shown_is_the_gallerys():
    report = (ROOT / "results/amd-epyc/tables/gland/models/report.md").read_text()
    rows = re.findall(r"^\|.*\|$", TEXT, re.MULTILINE)
    assert len(rows) == 5
    assert "\n".join(rows) in report
    text = TEXT.partition("All three claims hold:")[2].partition("[The page]")[0]
    claims = re.findall(r"\*\"(.*?)\"\*", " ".join(text.split()))
    verdicts = [re.search(rf"\) {re.escape(claim)} \| (.*?): ", report)[1] for claim in claims]
    assert verdicts == [
        "holds, resolved at 3 seeds",
        "holds, not resolved at 3 seeds (about 5 would decide)",
        "holds, not resolved at 3 seeds (holds in 2 of 3; about 33 would decide)",
    ]
    assert "resolved at three seeds" in text
    assert "(about five would decide)" in text
    assert "in two of three" in text


def test_the_file_shown_is_the_tables():
    from retable.experiment.table import parse_table

    (block,) = blocks("yaml")
    shown = parse_table(yaml.safe_load(block)["table"], "gland/models")
    whole = parse_table(
        yaml.safe_load((ROOT / "src/retable/conf/experiment/gland/models.yaml").read_text())["table"], "gland/models"
    )
    assert list(shown.cells) == list(whole.cells)
    for name, cell in shown.cells.items():
        assert cell.match == whole.cells[name].match
        assert cell.published.items() <= whole.cells[name].published.items()
    assert [claim.text for claim in shown.claims] == [whole.claims[1].text]
