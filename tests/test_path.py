"""docs/explain/path.md is true: its steps are functions, and they are called in its order."""

import contextlib
import importlib
import re
import shutil
import sys
from pathlib import Path

import pytest

from retable import cli

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/explain/path.md").read_text(encoding="utf-8")
WALKS = {
    section.split("\n", 1)[0].split(":")[0]: re.findall(r"^\d+\. `([\w.]+)`", section, re.MULTILINE)
    for section in PAGE.split("\n## ")[1:]
}


def code_of(step: str) -> object:
    """The code object of `module.function` or `module.Class.method` of the package."""
    parts = step.split(".")
    for end in range(len(parts) - 1, 0, -1):
        try:
            found = importlib.import_module("retable." + ".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for name in parts[end:]:
            found = getattr(found, name)
        return getattr(found, "__wrapped__", found).__code__
    raise AssertionError(f"{step}: no such function")


def first_calls(argv: list[str], wanted: set[object], monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The code objects among those wanted that a command calls, in the order of their first calls."""
    seen: dict[object, None] = {}

    def note(frame, event, _argument) -> None:
        if event == "call" and frame.f_code in wanted:
            seen.setdefault(frame.f_code)

    monkeypatch.setattr(sys, "argv", ["retable", *argv])
    sys.setprofile(note)
    try:
        with contextlib.suppress(SystemExit):
            cli.main()
    finally:
        sys.setprofile(None)
    return list(seen)


@pytest.fixture(scope="module")
def called(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[object]]:
    codes = {code_of(step) for walk in WALKS.values() for step in walk}
    folder = tmp_path_factory.mktemp("path")
    shutil.copytree(ROOT / "results/amd-epyc", folder / "results")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        train = ["train", "task=cifar", "data=sample", "dropout=0.3", "data.fraction=0.1"]
        train += ["trainer.max_epochs=1", "hydra.run.dir=run"]
        training = first_calls(train, codes, patch)
        return {
            "A setting": training,
            "An image": training,
            "A claim": first_calls(["report", "results"], codes, patch),
        }


@pytest.mark.parametrize("walk", WALKS)
def test_the_steps_are_called_in_the_pages_order(walk: str, called: dict[str, list[object]]) -> None:
    steps = {code_of(step): step for step in WALKS[walk]}
    assert [steps[code] for code in called[walk] if code in steps] == WALKS[walk]


def test_there_are_three_walks() -> None:
    assert {name: len(steps) for name, steps in WALKS.items()} == {"A setting": 11, "An image": 9, "A claim": 9}
