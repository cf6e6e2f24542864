"""Ray as a sweep's engine: a remote task a job, on whichever node has the resources that it asks for."""

import importlib.util
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from retable.errors import ConfigError, first_line
from retable.sweeps.cluster import CANCELLED, OVER, RUNNING
from retable.sweeps.job import Job
from retable.sweeps.plan import Run


class Ray:
    """Ray's tasks. They end with the process that submitted them.

    Args:
        address: of a running cluster, e.g. auto or ray://head:10001; null starts one on this host.
        cpus, gpus: that a job takes.
        memory: in GB that a job takes; null asks for none.
        resources: further ones that nodes have, e.g. {a100: 1}.

    Raises:
        ConfigError: for what is not accepted, and where there is no ray.
    """

    name = "Ray"
    ends_with_us = True

    def __init__(
        self,
        address: str | None = None,
        cpus: float = 1,
        gpus: float = 0,
        memory: float | None = None,
        resources: dict[str, float] | None = None,
    ) -> None:
        for key, value in {"cpus": cpus, "gpus": gpus, "memory": memory or 0}.items():
            if not isinstance(value, int | float) or isinstance(value, bool) or value < 0:
                raise ConfigError(f"hydra.launcher.{key}={value}: accepted: a number of at least 0")
        self._address = address
        # A task that Ray would try again by itself would hide why it died.
        self._options = {"num_cpus": cpus, "num_gpus": gpus, "max_retries": 0, "resources": dict(resources or {})}
        self._options |= {"memory": int(memory * 2**30)} if memory else {}
        self._tasks: dict[str, Any] = {}

    def describe(self, batches: Sequence[Sequence[Run]], settings: dict[str, Any]) -> list[str]:
        """The tasks and what each asks for."""
        asked = ", ".join(f"{key}={value}" for key, value in self._options.items() if value and key != "max_retries")
        return [f"Ray: {sum(map(len, batches))} runs would be submitted as {len(batches)} tasks, each with {asked}"]

    def submit(self, jobs: Sequence[Job], settings: dict[str, Any], label: str) -> list[str]:
        """Start a task a job."""
        if importlib.util.find_spec("ray") is None:
            raise ConfigError("hydra/launcher=ray needs ray; install it with: pip install 'retable[ray]'")
        import ray

        if not ray.is_initialized():
            ray.init(address=self._address, log_to_driver=False, include_dashboard=False, logging_level="warning")
        names = []
        for job in jobs:
            name = str(len(self._tasks))
            self._tasks[name] = ray.remote(Job.__call__).options(**self._options).remote(job, name)
            names.append(name)
        return names

    def states(self, names: Collection[str]) -> dict[str, tuple[str, str]]:
        """What became of tasks; an error of Ray's by the name of its class."""
        import ray

        tasks = {name: self._tasks[name] for name in names if name in self._tasks}
        if not tasks:
            return {}
        done, _ = ray.wait(list(tasks.values()), num_returns=len(tasks), timeout=0)
        found = {}
        for name, task in tasks.items():
            found[name] = (RUNNING, "RUNNING")
            if task in done:
                try:
                    ray.get(task)
                    found[name] = (OVER, "the task ended without a result")
                except ray.exceptions.TaskCancelledError:
                    found[name] = (CANCELLED, "cancelled")
                except ray.exceptions.RayError as error:
                    found[name] = (OVER, f"{type(error).__name__}: {first_line(error)}")
        return found

    def log(self, name: str) -> Path | None:
        """None: what its workers print stays on their node, in a folder of Ray's."""
        return None

    def cancel(self, names: Collection[str]) -> None:
        """End tasks; those under way are interrupted."""
        import ray

        for name in names:
            if name in self._tasks:
                ray.cancel(self._tasks[name], force=True)
