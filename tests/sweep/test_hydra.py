"""Hydra's conventions: what its own keys mean here, and other sweepers and launchers in place of this project's."""

import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper

from retable import atomic
from retable.config.compose import Composer
from retable.run import files
from retable.sweeps import finish, session
from tests.sweep.conftest import BASE

OTHERS = {"basic": ["hydra/launcher=basic"], "workers": []}


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "hydra.job.chdir=true",
            "hydra.job.chdir=true: paths are those of where the command is started; accepted: false",
        ),
        (
            "hydra.job.name=x",
            "hydra.job.name=x: runs are named by what they are; accepted: not given, or named by hydra.run.dir or"
            " hydra.sweep.dir as ${hydra.job.name}",
        ),
        ("hydra.sweep.subdir=x", "hydra.sweep.subdir: a sweep's runs are named by what they are; accepted: not given"),
        (
            "+hydra.run.foo=1",
            "+hydra.run.foo=1: Hydra has no such key; accepted: dir",
        ),
        (
            "+hydra/foo=1",
            "+hydra/foo=1: there is no such group; accepted: hydra/env, hydra/help, hydra/hydra_help,"
            " hydra/hydra_logging, hydra/job_logging, hydra/launcher, hydra/output, hydra/sweeper",
        ),
        (
            "hydra.searchpath=[file:///nowhere]",
            "hydra.searchpath: file:///nowhere: no such folder; accepted: a folder, file://FOLDER, pkg://PACKAGE",
        ),
        (
            "--config-path nowhere",
            "--config-path: nowhere: no such folder; accepted: a folder, file://FOLDER, pkg://PACKAGE",
        ),
        (
            "--config-name mine",
            "--config-name=mine: accepted: config; settings of your own for every run stand in conf/local/default.yaml",
        ),
        ("hydra.sweep.dir=x sweep.dir=y", "hydra.sweep.dir: sweep.dir is given, too; accepted: one of them"),
    ],
)
@pytest.mark.parametrize("mode", [[], ["-m"]])
def test_keys_without_a_meaning_are_refused_in_a_line(command, tmp_path, mode, word, message):
    assert command(*mode, "task=mnist", *word.split()) == (2, message)
    assert list(tmp_path.iterdir()) == []


def test_an_environment_that_no_worker_would_have_is_refused(command, tmp_path):
    assert command("-m", "task=mnist", "+hydra.job.env_set.FOO=1") == (
        2,
        "hydra.job.env_set: FOO: workers have the environment of the command; accepted: not given",
    )
    assert list(tmp_path.iterdir()) == []


def test_a_jobs_name_in_a_folders(command, monkeypatch):
    seen = []
    monkeypatch.setattr(session, "sweep", lambda arguments, *engine: (seen.append(arguments), None))
    monkeypatch.setattr(finish, "exit_code", lambda plan, outcome: 0)
    assert command("-m", "task=mnist", "hydra.sweep.dir=in/${hydra.job.name}", "hydra.job.name=mine")[0] == 0
    assert seen == [["task=mnist", "sweep.dir='in/mine'"]]


def test_what_hydras_keys_set_of_a_sweep(command, monkeypatch):
    seen = []
    monkeypatch.setattr(session, "sweep", lambda arguments, *engine: (seen.append(arguments), None))
    monkeypatch.setattr(finish, "exit_code", lambda plan, outcome: 0)
    assert command("-m", "task=mnist", "hydra.sweep.dir=else where", "+hydra.sweeper.params.seed='0,1'")[0] == 0
    assert seen == [["seed=0,1", "task=mnist", "sweep.dir='else where'"]]


def test_hydras_keys_in_a_file_of_ones_own(command, tmp_path, monkeypatch):
    """Which are no part of what a run is."""
    local = tmp_path / "conf/local/default.yaml"
    local.parent.mkdir(parents=True)
    local.write_text("# @package _global_\nhydra: {run: {dir: here/it/is}, sweep: {dir: swept}}\n")
    assert command(*BASE, "trainer.max_epochs=1")[0] == 0
    run = atomic.read_json(tmp_path / "here/it/is" / files.RUN)
    assert "hydra" not in run["config"]
    assert not [key for key in run["identity"] if key.startswith("hydra")]
    seen = []
    monkeypatch.setattr(session, "sweep", lambda arguments, *engine: (seen.append(arguments), None))
    monkeypatch.setattr(finish, "exit_code", lambda plan, outcome: 0)
    assert command("-m", "task=mnist")[0] == 0
    assert seen == [["task=mnist", "sweep.dir='swept'"]]


def test_a_file_of_ones_own_chooses_the_launcher_unless_the_command_does(command, tmp_path):
    """As files of lightning-hydra-template choose a sweeper; it is no part of what a run is."""
    local = tmp_path / "conf/local/default.yaml"
    local.parent.mkdir(parents=True)
    local.write_text("# @package _global_\ndefaults:\n  - override /hydra/launcher: basic\nseed: 3\n")
    shown = ("--cfg", "hydra", "-p", "hydra.launcher")
    assert command("task=mnist", *shown)[1].endswith("BasicLauncher")
    assert command("task=mnist", "hydra/launcher=workers", *shown)[1].endswith("WorkersLauncher")
    composition = Composer().compose(BASE)
    assert composition.config["seed"] == 3
    assert not [key for key in composition.deviations if "hydra" in key]
    local.write_text("# @package _global_\ndefaults:\n  - override /hydra/launch: basic\n")
    assert command(*BASE)[0] == 2


@pytest.mark.parametrize(
    "named", ["--config-dir {}", "--config-path {}", "hydra.searchpath=[file://{}]", "-cp {}", "-cd={}"]
)
def test_folders_of_options_by_each_of_hydras_means(command, tmp_path_factory, monkeypatch, named):
    monkeypatch.setenv("RETABLE_CONF", "")
    folder = tmp_path_factory.mktemp("options")
    (folder / "model").mkdir()
    (folder / "model/mine.yaml").write_text("_target_: retable.models.FNN\nname: mine\nhidden: 7\n")
    words = ["task=mnist", *named.format(folder).split(), "model=mine", "--cfg", "job", "-p", "model"]
    code, shown = command(*words)
    assert (code, "hidden: 7" in shown) == (0, True)
    base = [word for word in BASE if not word.startswith("model.")]
    words = [*base, "model=mine", "trainer.max_epochs=1", "dropout=none", *named.format(folder).split()]
    code, shown = command(*words)
    assert code == 0, shown


def test_a_package_on_the_search_path(command, tmp_path, monkeypatch):
    monkeypatch.setenv("RETABLE_CONF", "")
    (tmp_path / "mypackage/settings/model").mkdir(parents=True)
    (tmp_path / "mypackage/settings/model/mine.yaml").write_text("_target_: retable.models.FNN\nhidden: 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    words = ("task=mnist", "model=mine", "hydra.searchpath=[pkg://mypackage.settings]", "--cfg", "job", "-p", "model")
    code, shown = command(*words)
    assert (code, "hidden: 7" in shown) == (0, True)


def test_a_run_goes_where_hydras_keys_say(command, tmp_path):
    words = [*BASE, "trainer.max_epochs=1", "hydra.run.dir=here/it/is"]
    assert command(*words)[0] == 0
    assert atomic.read_json(tmp_path / "here/it/is" / files.RESULT)["status"] == "finished"
    code, shown = command(*words)
    assert code == 2
    assert shown == (
        f"hydra.run.dir={tmp_path}/here/it/is: holds a run; accepted: another one, or resume={tmp_path}/here/it/is"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_a_refused_run_leaves_no_folder_of_hydras(command, tmp_path):
    assert command("task=mnist", "data=sample", "loss=dice", "hydra.run.dir=here")[0] == 2
    assert list(tmp_path.iterdir()) == []


class Search(Sweeper):
    """Like Optuna's: one trial after another, each next to what was best; keeps what it is told of them."""

    values: list[float] = []  # noqa: RUF012

    def __init__(self, trials):
        self.trials = trials

    def setup(self, *, hydra_context, task_function, config):
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments):
        Search.values = []
        for number in range(self.trials):
            (job,) = self.launcher.launch([[*arguments, f"dropout.p={number / 10}"]], initial_job_idx=number)
            Search.values.append(job.return_value)


PLUGIN = "hydra_plugins.search"
ConfigStore.instance().store(
    group="hydra/sweeper", name="search", node={"_target_": f"{PLUGIN}.Search", "trials": 2}, provider="test"
)


@pytest.fixture
def search(monkeypatch):
    """Makes the sweeper of another kind a plugin's, whose place Hydra 1.4 asks the class itself for."""
    module = ModuleType(PLUGIN)
    module.Search = Search
    monkeypatch.setitem(sys.modules, PLUGIN, module)
    monkeypatch.setattr(Search, "__module__", PLUGIN)
    monkeypatch.setitem(Plugins.instance().class_name_to_class, f"{PLUGIN}.Search", Search)


def runs(folder: Path) -> dict[float, Path]:
    found = {}
    for path in folder.glob("multirun/mnist/*/result.json"):
        found[atomic.read_json(path.parent / files.RUN)["config"]["dropout"]["p"]] = path
    return found


@pytest.mark.parametrize("launcher", ["basic", pytest.param("workers", marks=pytest.mark.slow)])
def test_a_search_gets_each_trials_metric_and_a_second_study_trains_its_own(
    command, search, tmp_path, monkeypatch, launcher
):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    words = ["-m", *BASE, "trainer.max_epochs=1", "hydra/sweeper=search", *OTHERS[launcher]]
    assert command(*words)[0] == 0
    first = runs(tmp_path)
    assert sorted(first) == [0.0, 0.1]
    finals = [atomic.read_json(first[p])["metrics"]["final"]["val/accuracy"] for p in (0.0, 0.1)]
    assert Search.values == finals
    before = {path: path.stat().st_mtime_ns for path in first.values()}
    assert command(*words, "optimizer.lr=0.05")[0] == 0  # another study, whose trials have the same numbers
    assert len(list(tmp_path.glob("multirun/mnist/*/result.json"))) == 4
    assert command(*words)[0] == 0  # the first again: nothing is left to train
    assert Search.values == finals
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert not list(tmp_path.glob("multirun/[0-9]*"))


def test_hydras_own_sweeper_and_launcher_do_not_take_an_earlier_studys_runs(command, tmp_path):
    words = ["-m", *BASE, "trainer.max_epochs=1", "hydra/sweeper=basic", "hydra/launcher=basic"]
    assert command(*words, "dropout=0.1,0.2")[0] == 0
    assert command(*words, "dropout=0.3")[0] == 0
    assert sorted(runs(tmp_path)) == [0.1, 0.2, 0.3]


def test_a_trial_is_one_run(command, search, tmp_path):
    code, shown = command("-m", *BASE, "hydra/sweeper=search", "hydra/launcher=basic", "seeds=3")
    assert code == 2
    assert shown.splitlines()[-1] == "3 runs in one trial; accepted: one, so no experiment= and no seeds="


def test_failures_under_hydras_launcher_are_listed_and_stop_what_on_failure_says(command, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    faulty = [*BASE, "model._target_=tests.sweep.faults.Faulty", "hydra/launcher=basic"]
    code, _ = command("-m", *faulty, "+model.fault=exit,raise,none")
    assert code == 1
    results = [atomic.read_json(path) for path in tmp_path.glob("multirun/mnist/*/result.json")]
    assert sorted((result["status"], result.get("reason")) for result in results) == [
        ("failed", "RuntimeError: wrong on purpose"),
        ("failed", "the run called sys.exit(7)"),
        ("finished", None),
    ]
    assert all(Path(result["log"]).read_text() for result in results if result["status"] == "failed")
    code, _ = command("-m", *faulty, "+model.fault=raise,none", "sweep.on_failure=stop", "sweep.dir=stopped")
    assert code == 1
    assert len(list(tmp_path.glob("stopped/mnist/*/result.json"))) == 1


def test_a_launcher_that_starts_all_at_once_cannot_stop_at_a_failure():
    from retable.errors import ConfigError
    from retable.sweeps import launched

    plan = SimpleNamespace(settings={"on_failure": "stop"})
    with pytest.raises(ConfigError, match=r"^sweep\.on_failure=stop: this launcher starts all runs at once;"):
        launched.train(object(), plan, [])
