"""A search by Optuna: what it asks for, what it makes of what it is told, and that it goes on where it was stopped."""

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
import yaml

from retable import atomic
from retable.config.keys import lookup
from retable.errors import ConfigError
from retable.main import main
from retable.run import files
from retable.run.result import write_failure
from retable.sweeps.plan import make_plan, write_runs
from retable.sweeps.search import search
from tests.sweep.conftest import BASE

SPACE = ["optimizer.lr=tag(log,interval(0.001,1.0))", "model.width=range(4,17,4)", "dropout=choice(0.1,0.2)"]


@pytest.fixture
def trainer(tmp_path, monkeypatch, composer):
    """Leaves a result for each trial without training: val/accuracy is best at a learning rate of 0.1."""
    monkeypatch.chdir(tmp_path)

    class Trainer:
        trained: list[Path] = []  # noqa: RUF012
        best, higher, fails, stops_at = 0.1, True, (), None

        def __call__(self, points, first):
            for number, point in enumerate(points, start=first):
                if number == self.stops_at:
                    raise KeyboardInterrupt
                (run,) = make_plan(point, composer).runs
                if run.status != files.NEW:
                    continue
                write_runs([run])
                self.trained.append(run.directory)
                if number in self.fails:
                    write_failure(run.directory, "wrong on purpose", run.config)
                    continue
                value = 1 - abs(self.best - lookup(run.config, "optimizer.lr"))
                metrics = {"final": {"val/accuracy": value if self.higher else -value}, "best_by": "val/accuracy"}
                result = {"status": files.FINISHED, "metrics": metrics | {"higher_is_better": self.higher}}
                files.write_history(run.directory / files.HISTORY, [{"epoch": 1, "val/accuracy": value}])
                atomic.write_json(run.directory / files.RESULT, result)

    made = Trainer()
    made.trained = []
    return made


def test_the_space_may_stand_in_hydras_params(tmp_path, monkeypatch, capsys):
    pytest.importorskip("optuna", minversion="4")
    monkeypatch.chdir(tmp_path)
    seen = []

    def search(arguments, launch, **settings):
        seen.append((arguments, settings))
        raise ConfigError("seen")

    monkeypatch.setattr("retable.sweeps.search.search", search)
    words = ["-m", "task=mnist", "hydra/sweeper=optuna", "+hydra.sweeper.params.dropout.p='choice(0.1,0.2)'"]
    words += ["+hydra.sweeper.params={optimizer.lr:'interval(0.1,0.2)'}"]
    monkeypatch.setattr(sys, "argv", ["train.py", *words])
    with pytest.raises(SystemExit):
        main()
    ((arguments, settings),) = seen
    assert arguments == ["dropout.p=choice(0.1,0.2)", "optimizer.lr=interval(0.1,0.2)", "task=mnist"]
    assert "params" not in settings


def run(trainer, trials=12, words=(), **settings):
    return search([*BASE, "sweep.workers=2", *SPACE, *words], trainer, trials, **settings)


def rates(plan) -> list[float]:
    return [lookup(one.config, "optimizer.lr") for one in plan.runs]


def test_it_asks_within_the_ranges_and_learns_from_the_results(trainer, capsys):
    pytest.importorskip("optuna")
    plan, outcome = run(trainer, 16)
    assert (len(plan.runs), outcome.interrupted) == (16, False)
    assert all(0.001 <= rate <= 1 for rate in rates(plan))
    assert {lookup(one.config, "model.width") for one in plan.runs} <= {4, 8, 12, 16}
    assert {lookup(one.config, "dropout.p") for one in plan.runs} == {0.1, 0.2}
    shown = capsys.readouterr().out
    best = min(plan.runs, key=lambda one: abs(0.1 - lookup(one.config, "optimizer.lr")))
    (line,) = [line for line in shown.splitlines() if line.startswith("best val/accuracy")]
    assert line.endswith(str(best.directory))
    assert f"optimizer.lr={lookup(best.config, 'optimizer.lr')}" in line
    table = (plan.folder / "results.csv").read_text().splitlines()
    assert (len(table), plan.label) == (17, "mnist/optimizer.lr+model.width+dropout.p-search")
    trainer.best = 0.9
    other, _ = run(trainer, 16, ["sweep.dir=other"])
    assert rates(other)[:10] == rates(plan)[:10]  # which Optuna draws
    assert rates(other)[10:] != rates(plan)[10:]


def test_the_metric_says_which_way_is_better(trainer, capsys):
    pytest.importorskip("optuna")
    trainer.higher = False  # the same figures with their sign turned
    lower, _ = run(trainer)
    best = min(lower.runs, key=lambda one: abs(0.1 - lookup(one.config, "optimizer.lr")))
    assert f"· {best.directory}\n" in capsys.readouterr().out
    trainer.higher = True
    higher, _ = run(trainer, words=["sweep.dir=other"])
    assert rates(higher) == rates(lower)  # the search saw the same


def test_failed_trials_are_listed_and_do_not_end_it(trainer, capsys):
    pytest.importorskip("optuna")
    trainer.fails = (0, 3)
    plan, _ = run(trainer)
    assert len(plan.runs) == 12
    failed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("failed: ")]
    assert len(failed) == 2
    assert all("wrong on purpose · log: " in line for line in failed)


def test_the_same_command_goes_on_and_more_trials_add_to_it(trainer):
    pytest.importorskip("optuna")
    trainer.stops_at = 5
    _, outcome = run(trainer)
    assert outcome.interrupted
    assert len(trainer.trained) == 5  # of the batch of two that began with trial 4
    trainer.stops_at = None
    whole, outcome = run(trainer)
    assert not outcome.interrupted
    assert (len(whole.runs), len(trainer.trained)) == (12, 12)  # nothing was trained again
    assert [one.directory for one in whole.runs[:5]] == trainer.trained[:5]
    more, _ = run(trainer, 16)
    assert rates(more)[:12] == rates(whole)
    assert len(trainer.trained) == 16
    other, _ = run(trainer, 4, seed=1)
    assert not set(rates(other)) & set(rates(more))


@pytest.mark.parametrize(
    ("words", "settings", "message"),
    [
        (
            ["experiment=mnist/rates"],
            {},
            "experiment=mnist/rates: hydra/sweeper=optuna chooses values itself; accepted",
        ),
        (["seeds=3"], {}, "seeds=3: hydra/sweeper=optuna trains one run a trial; accepted: seed=0"),
        (["sweep.preview=true"], {}, "sweep.preview=true: hydra/sweeper=optuna does not know its trials before"),
        ([], {"trials": 0}, "hydra.sweeper.trials=0: accepted: "),
        ([], {"sampler": "grid"}, "hydra.sweeper.sampler=grid: accepted: tpe, random, qmc"),
    ],
)
def test_refusals(trainer, words, settings, message):
    pytest.importorskip("optuna")
    with pytest.raises(ConfigError) as refused:
        run(trainer, **{"trials": 4, "words": words} | settings)
    assert str(refused.value).startswith(message)
    assert trainer.trained == []


def test_nothing_to_choose(trainer):
    pytest.importorskip("optuna")
    with pytest.raises(ConfigError, match=r"^hydra/sweeper=optuna: nothing to choose; accepted: keys as interval"):
        search([*BASE, "dropout=0.2"], trainer)


def test_without_optuna_it_is_refused_in_a_line(trainer, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"^hydra/sweeper=optuna: needs optuna: pip install 'retable\[optuna\]'$"):
        run(trainer)


def test_the_workers_train_its_trials(tmp_path, monkeypatch, capsys):
    pytest.importorskip("optuna")
    monkeypatch.chdir(tmp_path)
    words = [*BASE, "trainer.max_epochs=1", "hydra/sweeper=optuna", "hydra.sweeper.trials=3", "sweep.workers=2"]
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", *words, "dropout=interval(0,0.5)"])
    main()
    shown = capsys.readouterr().out
    results = [atomic.read_json(path) for path in tmp_path.glob("multirun/mnist/*/result.json")]
    best = max(result["metrics"]["final"]["val/accuracy"] for result in results)
    assert [result["status"] for result in results] == ["finished"] * 3
    assert f"best val/accuracy {best:.4f}: dropout.p=" in shown
    main()
    assert len(list(tmp_path.glob("multirun/mnist/*/result.json"))) == 3


OTHERS = """
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore


@dataclass
class Optuna:
    defaults: list[Any] = field(default_factory=lambda: [{"sampler": "tpe"}])
    _target_: str = "hydra_plugins.others.Sweeper"


ConfigStore.instance().store("tpe", {"seed": None}, group="hydra/sweeper/sampler")
ConfigStore.instance().store("optuna", Optuna, group="hydra/sweeper", provider="optuna_sweeper")
"""


def test_hydras_own_optuna_sweeper_may_be_installed_beside_it(tmp_path):
    """As hydra-optuna-sweeper, which many templates ask for, keeps a schema under the same name."""
    package = tmp_path / "hydra_plugins" / "others"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "sweeper.py").write_text(OTHERS)
    paths = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    words = ["task=mnist", "hydra/sweeper=optuna", "hydra.sweeper.trials=7", "--cfg", "hydra", "-p", "hydra.sweeper"]
    command = [sys.executable, "-m", "retable.cli", "sweep", *words]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    shown = yaml.safe_load(done.stdout)
    assert (shown["_target_"], shown["trials"]) == ("hydra_plugins.retable.plugins.OptunaSweeper", 7)


def test_an_older_optuna_is_refused(monkeypatch):
    optuna = types.ModuleType("optuna")
    optuna.__version__ = "2.10.1"
    monkeypatch.setitem(sys.modules, "optuna", optuna)
    with pytest.raises(
        ConfigError, match=r"^hydra/sweeper=optuna: needs optuna 4.0 or later, this is 2.10.1: pip install"
    ):
        search(["task=mnist", "dropout=interval(0,0.5)"], launch=lambda *_: None)
