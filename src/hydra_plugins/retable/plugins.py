"""Hydra's view of the sweep engine: the sweeper `retable` and the launcher `workers`. Thin; see retable.sweeps."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from retable.errors import ending_the_program


@dataclass
class SweeperConfig:
    """hydra/sweeper=retable"""

    _target_: str = "hydra_plugins.retable.plugins.RetableSweeper"


@dataclass
class LauncherConfig:
    """hydra/launcher=workers"""

    _target_: str = "hydra_plugins.retable.plugins.WorkersLauncher"


ConfigStore.instance().store(group="hydra/sweeper", name="retable", node=SweeperConfig, provider="retable")
ConfigStore.instance().store(group="hydra/launcher", name="workers", node=LauncherConfig, provider="retable")


class _Plugin:
    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config


class WorkersLauncher(_Plugin, Launcher):
    """Trains in disposable worker processes. Under the sweeper `retable` its configs are those that the sweeper fixed;
    under another sweeper (a search, say) each batch of jobs is planned by itself."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from retable.run import files
        from retable.sweeps.plan import make_plan
        from retable.sweeps.session import train_in_workers

        plans = [make_plan(list(overrides)) for overrides in job_overrides]
        merged = plans[0]
        merged.runs = list({run.directory: run for plan in plans for run in plan.runs}.values())
        if todo := merged.pending:
            train_in_workers(merged, todo)
        returns = []
        for overrides, plan in zip(job_overrides, plans, strict=True):
            result = files.read_result(plan.runs[0].directory) or {}
            job = JobReturn(overrides=list(overrides))
            metrics = result.get("metrics") or {}
            if result.get("status") in files.DONE:
                job.return_value = metrics.get("final", {}).get(metrics.get("best_by"))
                job.status = JobStatus.COMPLETED
            else:
                job.return_value, job.status = RuntimeError(result.get("reason", "interrupted")), JobStatus.FAILED
            returns.append(job)
        return returns


class RetableSweeper(_Plugin, Sweeper):
    """Unions of grids, resume, one table at the end. With a launcher of Hydra's own the runs go through that."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        from hydra.core.plugins import Plugins

        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        from retable.sweeps.session import exit_code, sweep

        train = None if isinstance(self.launcher, WorkersLauncher) else self._train_by_launcher
        with ending_the_program():
            plan, outcome = sweep(arguments, train)
        if code := exit_code(plan, outcome):
            sys.exit(code)
        return plan

    def _train_by_launcher(self, plan: Any, todo: list[Any]) -> Any:
        """Hand the pending runs to another launcher; what became of them stands in their directories."""
        from pathlib import Path

        from retable.run import files
        from retable.sweeps import store
        from retable.sweeps.pool import Outcome
        from retable.sweeps.session import prepare

        prepare(plan, todo)
        root = Path(plan.settings["dir"])
        jobs = []
        for run in todo:
            folder = run.directory.relative_to(root)
            jobs.append([*run.overrides, f"hydra.sweep.subdir='{folder}'"])
        outcome = Outcome()
        try:
            self.launcher.launch(jobs, initial_job_idx=0)
        except KeyboardInterrupt:
            outcome.interrupted = True
        except Exception as error:
            outcome.stopped_by = f"the launcher failed: {error}"
        for run in todo:
            if store.status_of(run.directory) == files.FAILED:
                result = files.read_result(run.directory) or {}
                outcome.failures.append((run, result.get("reason", "unknown")))
        return outcome
