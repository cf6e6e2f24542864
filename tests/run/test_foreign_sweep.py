"""A LightningModule of somebody's own from the command line to the table; its data; the package `lightning`."""
# ruff: noqa: F811

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl

import retable
from retable import atomic
from retable.errors import ConfigError, RetableError
from retable.run import files, foreign_data
from retable.run.execute import execute
from retable.run.files import read_history
from retable.sweeps.finish import finish
from retable.sweeps.plan import make_plan, write_runs
from retable.sweeps.pool import Outcome
from retable.sweeps.results import rows
from tests.checking import check
from tests.run.test_foreign import EXPERIMENT, HERE, Stopped, composed, project, stop_after  # noqa: F401, fixtures
from tests.runs import history

# What is known of the data --------------------------------------------------------------------------------------------


def test_a_fingerprint_of_what_is_trained_on_and_what_it_covers(project):
    known = {}
    for name, words in {
        "plain": [],
        "small": ["data.batch_size=16", "module.lr=0.1"],  # the same data in other batches
        "subclass": ["data._target_=stranger.Ordered"],  # the same items, another class
        "shifted": ["data._target_=stranger.Shifted"],
    }.items():
        data = execute(composed("trainer.max_epochs=1", *words), project / name)["data"]
        known[name] = data["fingerprint"]
        assert len(known[name]) == 64
        assert json.loads((project / name / files.RUN).read_text())["fingerprint"] == known[name]
        assert data["covers"].startswith("the number of items and the first item of training and validation; the sourc")
    assert data["covers"].endswith("the source of Shifted, LeavesData; nothing else")
    assert known["plain"] == known["small"]
    assert known["subclass"] != known["plain"]
    assert foreign_data.same_items(known["subclass"], known["plain"])
    assert not foreign_data.same_items(known["shifted"], known["plain"])


def test_a_run_does_not_go_on_with_other_data(project, monkeypatch):
    config = composed("trainer.max_epochs=2")
    with pytest.raises(Stopped):
        execute(config, project / "run", on_epoch=stop_after(1))
    files.remove([project / "run" / files.RESULT])
    leaves = sys.modules["stranger"].LeavesData
    setup = leaves.setup

    def shifted(self, stage=None):
        setup(self, stage)
        x, y = self.train.dataset.tensors
        self.train.dataset.tensors = (x + 0.01, y)

    monkeypatch.setattr(leaves, "setup", shifted)  # the files that it reads have changed
    with pytest.raises(RetableError, match="was begun with other data; remove the directory to train it anew"):
        execute(config, project / "run")


def test_of_a_set_that_is_iterated_over_nothing_is_known_but_its_source(project):
    data = execute(composed("data._target_=stranger.Streamed", "trainer.max_epochs=1"), project / "run")["data"]
    assert data["covers"] == "the number of items and the first item of validation; " + (
        "the source of Streamed, LeavesData; nothing else"
    )


# The package `lightning` --------------------------------------------------------------------------------------------


@pytest.fixture
def other_package(project, monkeypatch):
    """The same module and data as somebody writes them for `lightning`; without that package, on its first lines."""
    try:
        import lightning  # noqa: F401
    except ImportError:
        (project / "lightning").mkdir()
        lines = "from lightning.pytorch import Callback, LightningDataModule, LightningModule\n"
        (project / "lightning/__init__.py").write_text(lines + "from lightning.fabric import Fabric\n")
        monkeypatch.syspath_prepend(str(project))
    text = (HERE / "stranger.py").read_text().replace("import pytorch_lightning as pl", "import lightning as L")
    text = text.replace("pl.", "L.").replace(
        "class LitNet", "from lightning.pytorch.callbacks import Callback\n\n\nclass LitNet"
    )
    (project / "fellow.py").write_text(text)
    monkeypatch.syspath_prepend(str(project))
    yield
    for name in [name for name in sys.modules if name.split(".")[0] in ("lightning", "fellow")]:
        monkeypatch.delitem(sys.modules, name)


def test_a_module_of_the_package_lightning_is_the_same_run(project, other_package):
    own = composed("trainer.max_epochs=2")
    other = composed("trainer.max_epochs=2", "module._target_=fellow.LitNet", "data._target_=fellow.LeavesData")
    check(other)
    execute(own, project / "own")
    execute(other, project / "other")
    assert history(project / "own") == history(project / "other")
    import fellow

    assert issubclass(fellow.LitNet, pl.LightningModule)
    assert fellow.Callback is pl.Callback
    assert pl.__spec__.name == "pytorch_lightning"


def test_one_that_was_imported_before_is_refused_in_a_line(project, monkeypatch):
    theirs = type("LightningModule", (), {"__module__": "lightning.pytorch.core.module"})
    monkeypatch.setitem(sys.modules, "early", SimpleNamespace(Net=type("Net", (theirs,), {})))
    message = r"early\.Net: is no pytorch_lightning\.LightningModule; `lightning` was imported before retable"
    with pytest.raises(ConfigError, match=message):
        check(composed("module._target_=early.Net"))


# Options of one's own ------------------------------------------------------------------------------------------------


def with_group(project, group):
    """A group of the network's width, as Hydra's users write them, with a package line."""
    for option, width in {"small": 4, "large": 16}.items():
        path = project / f"conf/{group}/{option}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# @package module\nwidth: {width}\n")
    task = project / "conf/task/leaves.yaml"
    text = task.read_text().replace("[/lightning, ", f"[/lightning, /{group}: small, ")
    task.write_text(text.replace(", width: 8", ""))


def leave_finished(plan):
    write_runs(plan.runs)
    for run in plan.runs:
        files.write_history(run.directory / files.HISTORY, [{"epoch": 1, "val_acc": 0.5}])
        atomic.write_json(run.directory / files.RESULT, {"status": "finished", "seed": 0})


@pytest.mark.parametrize("group", ["net", "module/net"])
def test_a_group_of_ones_own_that_sets_keys_elsewhere_is_a_setting_by_its_options(project, group):
    """Its name is no key of the config."""
    with_group(project, group)
    plan = make_plan(["task=leaves", f"{group}=small,large", "seeds=2"])
    assert [run.config["module"]["width"] for run in plan.runs] == [4, 4, 16, 16]
    found = [{key: row[key] for key in (group, "seed")} for row in rows(plan.runs)]
    assert found == [{group: option, "seed": seed} for option in ("small", "large") for seed in (0, 1)]


def test_a_table_whose_file_names_a_group_that_is_gone_is_named(project, capsys):
    """As after a group was renamed in one file and not in another: the sweep's own table is made all the same."""
    old = EXPERIMENT.replace("{module.lr: [0.1, 0.001], ", "{nett: small, module.lr: [0.1, 0.001], ")
    (project / "conf/experiment/leaves/old.yaml").write_text(old)
    plan = make_plan(["experiment=leaves/rates"])
    leave_finished(plan)
    message = "experiment=leaves/old: nett: no such key; accepted: callbacks, "
    outcome = Outcome()
    finish(plan, outcome)
    assert [reason[: len(message)] for reason in outcome.unwritten] == [message]
    assert "Traceback" not in capsys.readouterr().err
    assert (project / "multirun/tables/leaves/rates/report.md").exists()
    with pytest.raises(ConfigError, match=f"^{message}"):
        retable.report("multirun", quiet=True)
    assert set(retable.report("multirun", experiments=["leaves/rates"], quiet=True)) == {"leaves/rates"}


def test_runs_of_a_group_that_was_renamed_since_stay_in_their_table(project):
    """They are the same runs, and a sweep takes them for finished."""
    with_group(project, "net")
    table = project / "conf/experiment/leaves/rates.yaml"
    cells = "".join(f"\n    width {width}: {{match: {{module.width: {width}}}}}" for width in (4, 16))
    head = EXPERIMENT.partition("  grid:")[0] + "  grid: [{net: [small, large]}]\n"
    table.write_text(f"{head}  rows: [module.width]\n  metrics: {{val: {{column: val_acc}}}}\n  cells:{cells}\n")
    asked = ["experiment=leaves/rates", "data.batch_size=16"]
    leave_finished(make_plan(asked))
    (project / "conf/net").rename(project / "conf/size")
    for path in (table, project / "conf/task/leaves.yaml"):
        path.write_text(path.read_text().replace("net:", "size:"))
    assert [run.status for run in make_plan(asked).runs] == ["finished", "finished"]
    found = retable.report("multirun", quiet=True)["leaves/rates"]
    assert found[["cell", "mean"]].to_numpy().tolist() == [["width 4", 0.5], ["width 16", 0.5]]


# The whole way, from the command line ---------------------------------------------------------------------------------


def command(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "retable.cli", *words]
    env = os.environ | environment
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, env=env)


def kill_in_the_second_epoch(project: Path) -> None:
    """Start the sweep and end it by SIGKILL while its first run has one epoch behind it."""
    trap = project / "trap"
    trap.touch()
    command = [sys.executable, "-m", "retable.cli", *SWEEP]
    env = os.environ | {"WAIT_WHILE_THERE_IS": str(trap)}
    sweep = subprocess.Popen(command, cwd=project, env=env, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (left := list((project / "multirun/leaves").glob("*/last.ckpt"))) and time.monotonic() < deadline:
        time.sleep(0.05)
    sweep.kill()
    sweep.wait()
    assert len(left) == 1
    time.sleep(1)  # its worker notices
    trap.unlink()
    assert len(read_history(left[0].parent / files.HISTORY)) == 1


SWEEP = ("sweep", "experiment=leaves/rates", "seeds=2", "logger=none", "sweep.workers=1", "trainer.device=cpu")


@pytest.mark.slow
def test_a_sweep_that_was_killed_gives_the_table_of_an_undisturbed_one(project):
    done = command(project, *SWEEP, "sweep.dir=undisturbed")
    assert done.returncode == 0, done.stdout + done.stderr
    kill_in_the_second_epoch(project)
    again = command(project, *SWEEP)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "1 of them from a checkpoint" in again.stdout
    tables = [
        (project / folder / "tables/leaves/rates/report.md").read_text() for folder in ("undisturbed", "multirun")
    ]
    assert tables[0].replace("undisturbed", "multirun") == tables[1]
    assert "the high rate is better" in tables[0]
    runs = sorted(path.parent for path in (project / "multirun/leaves").glob(f"*/{files.RESULT}"))
    sizes = ("__data.batch_size-16", "")  # 32 is the task's own
    names = (f"module.lr-{lr}{size}__seed-{seed}" for lr in (0.1, 0.001) for size in sizes for seed in (0, 1))
    assert [path.name for path in runs] == sorted(names)
    for path in runs:
        assert history(path) == history(project / "undisturbed/leaves" / path.name)

    # What is done with finished runs.
    for words, message in [
        (("status", "multirun"), "8 finished"),
        (("report", "multirun"), "leaves/rates"),
        (("export", "multirun", "results"), "8 runs in results"),
        (("report", "results"), "leaves/rates"),
        (("verify", "results", "--experiment", "leaves/rates", "--cell", "fast 32"), "the same, bit for bit"),
    ]:
        found = command(project, *words)
        assert found.returncode == 0, found.stdout + found.stderr
        assert message in found.stdout
