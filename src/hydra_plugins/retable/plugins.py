"""Hydra's view of the sweep engine: the sweeper `retable` and the launcher `workers`. Thin; see retable.sweeps."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, RunMode, TaskFunction
from omegaconf import DictConfig, OmegaConf

from retable.config.keys import flatten, key_of, lookup
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


# Keys of Hydra's that a run or sweep follows, each as conf/config.yaml has it.
_FOLLOWED = {"run.dir": ".", "sweep.dir": "${sweep.dir}", "sweep.subdir": "."}


def keys_given(settings: Any) -> set[str]:
    """The keys of Hydra's that the command line sets, or a file of the user's."""
    raw = OmegaConf.to_container(settings, resolve=False)
    by_files = {f"hydra.{key}" for key, value in _FOLLOWED.items() if lookup(raw, key) != value}
    return {key_of(text) for text in settings.overrides.hydra} | by_files


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
    places = [lookup(OmegaConf.to_container(settings, resolve=False), key) for key in ("run.dir", "sweep.dir")]
    if "hydra.job.name" in given and not any("job.name" in str(place) for place in places):
        raise ConfigError(
            f"hydra.job.name={settings.job.name}: runs are named by what they are; accepted: not given, or named by"
            " hydra.run.dir or hydra.sweep.dir as ${hydra.job.name}"
        )
    workers = settings.mode == RunMode.MULTIRUN and settings.launcher._target_.startswith(__name__)
    if workers and settings.job.env_set:
        names = ", ".join(settings.job.env_set)
        raise ConfigError(
            f"hydra.job.env_set: {names}: workers have the environment of the command; accepted: not given"
        )
    if "hydra.sweep.subdir" in given:
        raise ConfigError("hydra.sweep.subdir: a sweep's runs are named by what they are; accepted: not given")
    if "hydra.sweep.dir" not in given:
        return []
    if any(key_of(text) == "sweep.dir" for text in settings.overrides.task):
        raise ConfigError("hydra.sweep.dir: sweep.dir is given, too; accepted: one of them")
    return [f"sweep.dir='{settings.sweep.dir}'"]


def _as_overrides(params: Mapping[str, Any]) -> list[str]:
    """hydra.sweeper.params, a mapping of keys, or of nested ones, to values in Hydra's grammar."""
    plain: Any = OmegaConf.to_container(OmegaConf.create(dict(params)), resolve=True)  # nested ones come as configs
    return [f"{key}={value}" for key, value in flatten(plain).items() if key]


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
        if merged.about_code:
            print(merged.about_code, flush=True)
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
        from retable.sweeps import launched
        from retable.sweeps.finish import exit_code
        from retable.sweeps.session import sweep

        settings = self.config.hydra
        params = _as_overrides(self.params)
        ours = isinstance(self.launcher, WorkersLauncher)
        engine = (
            (self.launcher.train, self.launcher.describe) if ours else (partial(launched.train, self.launcher), None)
        )
        with ending_the_program():
            plan, outcome = sweep([*params, *arguments, *conventions(settings)], *engine)
        if code := exit_code(plan, outcome):
            sys.exit(code)
        return plan


class OptunaSweeper(_Plugin, Sweeper):
    """A search by Optuna (conf/hydra/sweeper/optuna.yaml); any launcher trains its trials."""

    def __init__(self, params: Mapping[str, Any] | None = None, **parameters: Any) -> None:
        self.params, self.parameters = params or {}, parameters

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
            asked = [*_as_overrides(self.params), *arguments, *conventions(self.config.hydra)]
            plan, outcome = search(asked, launch, **self.parameters)
        if code := exit_code(plan, outcome):
            sys.exit(code)
        return plan
