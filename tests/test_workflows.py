"""The workflows of .github/ without GitHub: what they name is there, their Pythons are those that the package declares.

What the steps do is run by `make` targets, and by tests/test_wheel.py, which takes its commands from the workflow.
"""

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((ROOT / ".github/workflows").glob("*.yml"))}
JOBS = {f"{name}.{job}": found for name, workflow in WORKFLOWS.items() for job, found in workflow["jobs"].items()}
PYTHONS = [found[1] for line in PROJECT["classifiers"] if (found := re.fullmatch(r"Programming .* :: (3\.\d+)", line))]


def steps(key: str) -> list[tuple[str, Any]]:
    """(Job, what its step has under `key`) of all jobs."""
    return [(name, step[key]) for name, job in JOBS.items() for step in job["steps"] if key in step]


def test_there_is_one_for_tests_docs_wheel_and_clusters():
    assert set(WORKFLOWS) == {"test", "docs", "wheel", "cluster"}
    for name, workflow in WORKFLOWS.items():
        assert workflow["name"] == name
        assert workflow["permissions"] == {"contents": "read"}
        assert workflow[True]  # `on`, as YAML 1.1 reads it


@pytest.mark.parametrize("name", JOBS)
def test_a_job_checks_out_and_sets_up_a_python_that_is_supported(name):
    job = JOBS[name]
    assert job["steps"][0]["uses"].startswith("actions/checkout@")
    (setup,) = [step["with"] for step in job["steps"] if step.get("uses", "").startswith("actions/setup-python@")]
    asked = [setup["python-version"]]
    if asked == ["${{ matrix.python }}"]:
        asked = job["strategy"]["matrix"]["python"]
    assert set(asked) <= set(PYTHONS)
    assert (ROOT / setup["cache-dependency-path"]).exists()
    assert 0 < job["timeout-minutes"] <= 90


def test_the_suite_runs_on_every_python_that_the_package_declares():
    assert JOBS["test.test"]["strategy"]["matrix"]["python"] == PYTHONS
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"


@pytest.mark.parametrize(("name", "run"), steps("run"))
def test_what_a_step_runs_is_there(name, run):
    for target in re.findall(r"\bmake ([a-z-]+)", run):
        done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, f"{name}: {done.stderr}"
    known = ("make ", "sudo env ", "pip install ", "retable ", "cd ", "python -m ", "playwright install ")
    assert [line for line in run.strip().splitlines() if not line.startswith(known)] == []
    for file in re.findall(r"-c (\S+)", run):
        assert (ROOT / file).exists(), f"{name}: {file}"
    for extra in re.findall(r"\.\[(\w+)\]", run):
        assert extra in PROJECT["optional-dependencies"]
