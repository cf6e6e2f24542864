"""Runs that were trained by another version of the user's own code: a sweep and a table say so, and train them anew."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from retable.commands.verify import again, compared
from retable.config import own_code
from retable.report.evaluated import other_codes
from retable.report.runs import read_run
from retable.run import files
from retable.run.execute import execute
from retable.sweeps.plan import Plan, make_plan
from retable.sweeps.session import prepare
from tests.runs import history, interrupted_after

NET = """
from torch import nn


class Net(nn.Sequential):
    def __init__(self, in_shape, num_classes, width=16):
        super().__init__(nn.Flatten(), nn.Linear(784, num_classes))
"""
LINE = ["task=mnist", "data=sample", "data.fraction=0.05", "dropout=none", "model._target_=net.Net", "logger=none"]
LINE += ["trainer.device=cpu", "trainer.max_epochs=2", "optimizer.lr=0.1,0.01"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    edit(NET)
    yield tmp_path
    sys.modules.pop("net", None)


def edit(source: str) -> None:
    """Write net.py, as for a process that begins after that."""
    Path("net.py").write_text(source)
    sys.modules.pop("net", None)
    importlib.invalidate_caches()
    own_code._versions.cache_clear()
    own_code._found.cache_clear()


def plan(*more: str) -> Plan:
    return make_plan([*LINE, *more])


def train(found: Plan, *, stop: int | None = None) -> None:
    prepare(found, found.pending)
    for run in found.pending:
        execute(run.config, run.directory, **(interrupted_after(stop) if stop else {}))


def test_finished_runs_of_other_code_are_named_and_kept_or_trained_anew(project, capsys):
    train(plan())
    found = plan()
    assert (found.about_code, found.pending) == ("", [])
    code = read_run(found.runs[0].directory).result["code"]
    assert list(code) == ["net"]

    edit(NET.replace("nn.Linear(784, num_classes)", "nn.Linear(784, width), nn.Linear(width, num_classes)"))
    found = plan()
    assert [run.other_code for run in found.runs] == [["net"], ["net"]]
    assert found.about_code == (
        "net changed since 2 runs had been trained or begun: kept as they are;"
        " sweep.retrain_changed=true trains them anew"
    )
    assert found.pending == []

    anew = plan("sweep.retrain_changed=true")
    assert anew.about_code == "net changed since 2 runs had been trained or begun: trained anew"
    assert [run.directory for run in anew.pending] == [run.directory for run in found.runs]
    prepare(anew, anew.pending[:1])
    left = {path.name for path in anew.runs[0].directory.iterdir() if not path.name.startswith(".")}
    assert left == {files.RUN, files.CONFIG}
    execute(anew.runs[0].config, anew.runs[0].directory)
    results = [read_run(run.directory).result for run in anew.runs]
    assert results[0]["parameters"] == (784 + 1) * 16 + (16 + 1) * 10
    assert results[1]["parameters"] == (784 + 1) * 10
    assert results[0]["code"] != code == results[1]["code"]
    assert [run.directory for run in plan("sweep.retrain_changed=true").pending] == [anew.runs[1].directory]

    verified = again(anew.runs[1].directory)
    assert "\nother code: net changed since the run was trained\n" in capsys.readouterr().out
    assert compared(*verified, [])[1] is False
    remarks = other_codes([read_run(run.directory) for run in anew.runs])
    versions = f"{results[0]['code']['net']} (1 run), {code['net']} (1 run)"
    assert [str(remark) for remark in remarks] == [f"The runs come from different versions of net: {versions}."]


def test_a_run_that_goes_on_with_other_code_says_so(project, capsys):
    train(plan(), stop=1)
    edit(NET.replace("width=16", "width=8"))  # the same weights
    found = plan()
    assert [(run.status, run.other_code) for run in found.runs] == [(files.INTERRUPTED, ["net"])] * 2
    capsys.readouterr()
    execute(found.runs[0].config, found.runs[0].directory)
    assert "code: net changed since this run was begun" in capsys.readouterr().out
    record = read_run(found.runs[0].directory)
    assert record.result["code_changed"] == ["net"]
    assert record.trained_epochs == 2

    anew = plan("sweep.retrain_changed=true")  # a finished one is now of the code that there is
    assert [run.directory for run in anew.pending] == [run.directory for run in found.runs[1:]]
    train(anew)
    assert "code_changed" not in read_run(found.runs[1].directory).result
    assert len(history(found.runs[1].directory)) == 2


def test_another_sweep_that_has_trained_a_run_anew_is_not_undone(project):
    train(plan())
    edit(NET.replace("width=16", "width=8"))
    late = plan("sweep.retrain_changed=true")
    train(plan("sweep.retrain_changed=true"))
    before = (late.runs[0].directory / files.RESULT).read_bytes()
    prepare(late, late.pending)
    assert (late.runs[0].directory / files.RESULT).read_bytes() == before
