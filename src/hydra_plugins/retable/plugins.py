"""Hydra's view of the sweep engine: the sweeper `retable` and the launcher `workers`. Thin; see retable.sweeps."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from retable.config.keys import key_of
from retable.errors import ConfigError, ending_the_program


@dataclass
class SweeperConfig:
    """hydra/sweeper=retable

    Attributes:
        params: what to sweep over beside the command line, by key, e.g. {"dropout.p": "0.1,0.2"}.
    """

    _target_: str = "hydra_plugins.retable.plugins.RetableSweeper"
    params: dict[str, Any] = field(default_factory=dict)


@dataclass
class LauncherConfig:
    """hydra/launcher=workers"""

    _target_: str = "hydra_plugins.retable.plugins.WorkersLauncher"


ConfigStore.instance().store(group="hydra/sweeper", name="retable", node=SweeperConfig, provider="retable")
ConfigStore.instance().store(group="hydra/launcher", name="workers", node=LauncherConfig, provider="retable")


def is_ours(settings: Any) -> bool:
    """Whether the sweep is planned by this project's sweeper, which gives each job its directory."""
    return settings.sweeper.get("_target_") == SweeperConfig._target_


def keys_given(settings: Any) -> set[str]:
    """The keys of Hydra's that the command line sets."""
    return {key_of(text) for text in settings.overrides.hydra}


def conventions(settings: Any) -> list[str]:
    """What Hydra's own keys ask of a run or sweep, as overrides of ours.

    Args:
        settings: the `hydra` node of a composed config.

    Raises:
        ConfigError: for a key of Hydra's that has no meaning here.
    """
    given = keys_given(settings)
    if settings.job.chdir:
        raise ConfigError("hydra.job.chdir=true: paths are those of where the command is started; accepted: false")
    if "hydra.sweep.subdir" in given:
        raise ConfigError("hydra.sweep.subdir: a sweep's runs are named by what they are; accepted: not given")
    if "hydra.sweep.dir" not in given:
        return []
    if any(key_of(text) == "sweep.dir" for text in settings.overrides.task):
        raise ConfigError("hydra.sweep.dir: sweep.dir is given, too; accepted: one of them")
    return [f"sweep.dir='{settings.sweep.dir}'"]


class _Plugin:
    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config


class WorkersLauncher(_Plugin, Launcher):
    """Trains in disposable worker processes. Under the sweeper `retable` its configs are those that the sweeper fixed;
    under another sweeper (a search, say) each batch of jobs is planned by itself."""

    train: Any = None  # who trains the runs of a plan, and says what it would submit; None: the workers
    describe: Any = None

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from retable.run import files
        from retable.sweeps.plan import make_plan
        from retable.sweeps.session import train_in_workers

        plans = [make_plan(list(overrides)) for overrides in job_overrides]
        merged = plans[0]
        merged.runs = list({run.directory: run for plan in plans for run in plan.runs}.values())
        if todo := merged.pending:
            (self.train or train_in_workers)(merged, todo)
        returns = []
        for overrides, plan in zip(job_overrides, plans, strict=True):
            result = files.read_result(plan.runs[0].directory) or {}
            job = JobReturn(overrides=list(overrides))
            metrics = result.get("metrics") or {}
            if result.get("status") in files.DONE:
                job.return_value = metrics.get("final", {}).get(metrics.get("best_by"))
                job.status = JobStatus.COMPLETED
            else:
                job.return_value, job.status = RuntimeError(result.get("reason", files.INTERRUPTED)), JobStatus.FAILED
            returns.append(job)
        return returns


class SlurmLauncher(WorkersLauncher):
    """Trains in jobs of SLURM (conf/hydra/launcher/slurm.yaml)."""

    def __init__(self, **parameters: Any) -> None:
        from retable.sweeps.cluster import Cluster
        from retable.sweeps.slurm import Slurm

        with ending_the_program():
            cluster = Cluster(Slurm(**parameters))
        self.train, self.describe = cluster.train, cluster.describe


class RayLauncher(WorkersLauncher):
    """Trains in tasks of Ray (conf/hydra/launcher/ray.yaml)."""

    def __init__(self, **parameters: Any) -> None:
        from retable.sweeps.cluster import Cluster
        from retable.sweeps.ray import Ray

        with ending_the_program():
            cluster = Cluster(Ray(**parameters))
        self.train, self.describe = cluster.train, cluster.describe


class RetableSweeper(_Plugin, Sweeper):
    """Unions of grids, resume, one table at the end. With a launcher of Hydra's own the runs go through that."""

    def __init__(self, params: Mapping[str, Any] | None = None) -> None:
        self.params = params or {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        from hydra.core.plugins import Plugins

        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        from retable.sweeps.finish import exit_code
        from retable.sweeps.session import sweep

        settings = self.config.hydra
        params = [f"{key}={value}" for key, value in self.params.items()]
        ours = isinstance(self.launcher, WorkersLauncher)
        engine = (self.launcher.train, self.launcher.describe) if ours else (self._train_by_launcher, None)
        with ending_the_program():
            plan, outcome = sweep([*params, *arguments, *conventions(settings)], *engine)
        if code := exit_code(plan, outcome):
            sys.exit(code)
        return plan

    def _train_by_launcher(self, plan: Any, todo: list[Any]) -> Any:
        """Hand the pending runs to another launcher; what became of them stands in their directories."""
        from pathlib import Path

        from hydra._internal.core_plugins.basic_launcher import BasicLauncher

        from retable.run import files
        from retable.run.result import describe
        from retable.sweeps.pool import Outcome, StopRules
        from retable.sweeps.session import check_in_worker, prepare
        from retable.sweeps.store import status_of

        one_by_one = isinstance(self.launcher, BasicLauncher)
        if plan.settings["on_failure"] == "stop" and not one_by_one:
            raise ConfigError("sweep.on_failure=stop: this launcher starts all runs at once; accepted: continue")
        check_in_worker(plan, todo)
        prepare(plan, todo)
        outcome = Outcome()
        rules = StopRules(plan.settings, outcome)
        for begin in range(0, len(todo), 1 if one_by_one else len(todo)):
            batch = todo[begin : begin + (1 if one_by_one else len(todo))]
            folders = [run.directory.relative_to(Path(plan.settings["dir"])) for run in batch]
            jobs = [
                [*run.overrides, f"hydra.sweep.subdir='{folder}'"] for run, folder in zip(batch, folders, strict=True)
            ]
            try:
                returns = self.launcher.launch(jobs, initial_job_idx=begin)
            except KeyboardInterrupt:
                outcome.interrupted = True
                break
            except Exception as error:
                outcome.stopped_by = f"the launcher failed: {describe(error)}"
                break
            for run, job in zip(batch, returns, strict=False):
                status = status_of(run.directory)
                if status != files.RUNNING:
                    recorded = (files.read_result(run.directory) or {}).get("reason")
                    left = describe(job._return_value) if isinstance(job._return_value, BaseException) else "no result"
                    rules.note(run, status if status in files.DONE else files.FAILED, recorded or left)
            if outcome.stopped_by:
                break
        return outcome


class OptunaSweeper(_Plugin, Sweeper):
    """A search by Optuna (conf/hydra/sweeper/optuna.yaml); any launcher trains its trials."""

    def __init__(self, **parameters: Any) -> None:
        self.parameters = parameters

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        from hydra.core.plugins import Plugins

        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        from retable.sweeps.finish import exit_code
        from retable.sweeps.search import search

        def launch(points: list[list[str]], first: int) -> Any:
            return self.launcher.launch(points, initial_job_idx=first)

        with ending_the_program():
            plan, outcome = search([*arguments, *conventions(self.config.hydra)], launch, **self.parameters)
        if code := exit_code(plan, outcome):
            sys.exit(code)
        return plan
