"""SLURM as a sweep's engine, through submitit: an array of jobs, each some runs."""

import importlib.util
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from retable.checks import seconds
from retable.errors import ConfigError, RetableError, first_line
from retable.sweeps.cluster import CANCELLED, OVER, RUNNING, WAITING
from retable.sweeps.job import Job
from retable.sweeps.plan import Run

_LARGEST_ARRAY = 1000  # SLURM's own default of MaxArraySize is 1001
_PATIENCE = 60  # seconds for an answer of squeue
_WAITING = {"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
_RUNNING = {"RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"}
_MEMORY = re.compile(r"exceeded (job |step )?memory limit|oom.kill", re.IGNORECASE)


class Slurm:
    """SLURM's queue.

    Args:
        partition, account, qos, constraint: as sbatch's options; null leaves them out.
        gpus: a job's GPUs.
        cpus: a job's CPU cores.
        memory: of a job, e.g. 8GB.
        time: the longest that a job may take, e.g. 30m or 2h.
        at_once: jobs of an array that run at the same time at most.
        notice: seconds before its end at which a job is sent a signal, so that its runs end at a checkpoint.
        setup: shell commands before a job, e.g. [module load cuda].
        extra: further options of sbatch, e.g. {mail-type: END}.

    Raises:
        ConfigError: for what is not accepted, and where there is no submitit or no SLURM.
    """

    name = "SLURM"
    ends_with_us = False

    def __init__(
        self,
        partition: str | None = None,
        account: str | None = None,
        qos: str | None = None,
        constraint: str | None = None,
        gpus: int | None = None,
        cpus: int = 1,
        memory: str | None = None,
        time: str | float = "1h",
        at_once: int = 256,
        notice: int = 90,
        setup: Sequence[str] = (),
        extra: dict[str, Any] | None = None,
    ) -> None:
        try:
            minutes = math.ceil(seconds("hydra.launcher.time", time) / 60)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        for key, value in {"gpus": gpus or 0, "cpus": cpus, "at_once": at_once, "notice": notice}.items():
            if not isinstance(value, int) or isinstance(value, bool) or value < (key in ("cpus", "at_once")):
                raise ConfigError(f"hydra.launcher.{key}={value}: accepted: a whole number")
        found = {"partition": partition, "account": account, "qos": qos, "constraint": constraint, "mem": memory}
        found |= {"gpus_per_node": gpus or None, "cpus_per_task": cpus, "time": minutes}
        found |= {"array_parallelism": at_once, "signal_delay_s": notice, "additional_parameters": dict(extra or {})}
        self._parameters = {key: value for key, value in found.items() if value is not None}
        self._setup = list(setup)
        self._logs: Path | None = None

    def describe(self, batches: Sequence[Sequence[Run]], settings: dict[str, Any]) -> list[str]:
        """The jobs and the head of their batch file."""
        executor = self._executor(settings, "sweep")
        runs, most = sum(map(len, batches)), max(map(len, batches))
        each = f"of up to {most} runs" if most > 1 else "of one run"
        at_once = min(self._parameters["array_parallelism"], len(batches))
        lines = [f"SLURM: {runs} runs would be submitted as {len(batches)} jobs {each}, {at_once} at once at most:"]
        text = executor._make_submission_file_text(executor._submitit_command_str, "preview")
        return lines + [f"  {line}" for line in text.splitlines() if line.startswith("#SBATCH")]

    def submit(self, jobs: Sequence[Job], settings: dict[str, Any], label: str) -> list[str]:
        """Submit jobs as arrays.

        Raises:
            RetableError: in SLURM's words, for what it refuses.
        """
        executor = self._executor(settings, label)
        names = []
        for begin in range(0, len(jobs), _LARGEST_ARRAY):
            part = jobs[begin : begin + _LARGEST_ARRAY]
            try:
                submitted = executor.map_array(Job.__call__, part)
            except Exception as error:  # submitit's own, or those of sbatch
                message = getattr(error, "stderr", None) or str(error)
                raise RetableError(f"SLURM refused the jobs: {_refusal(message)}") from error
            names += [job.job_id for job in submitted]
        return names

    def states(self, names: Collection[str]) -> dict[str, tuple[str, str]]:
        """From squeue, which also knows what ended a few minutes ago; from sacct, where there is one, for the rest."""
        ask = ["squeue", "--me", "--array", "--noheader", "--states=all", "--format=%i|%T"]
        try:
            shown = subprocess.run(ask, capture_output=True, text=True, timeout=_PATIENCE, check=True).stdout
        except subprocess.SubprocessError as error:
            message = str(getattr(error, "stderr", None) or error).strip()
            raise OSError(message.splitlines()[-1] if message else "squeue failed") from error
        states = dict(line.strip().split("|", 1) for line in shown.splitlines() if "|" in line)
        rest = {name for name in names if name not in states}
        states |= self._accounted(rest) if rest else {}
        return {name: (_kind(states[name]), self._word(name, states[name])) for name in names if name in states}

    def log(self, name: str) -> Path | None:
        """What a job wrote to standard error."""
        return next(self._logs.glob(f"{name}_*.err"), None) if self._logs is not None else None

    def cancel(self, names: Collection[str]) -> None:
        """scancel, a hundred at a time."""
        listed = sorted(names)
        for begin in range(0, len(listed), 100):
            subprocess.run(["scancel", *listed[begin : begin + 100]], timeout=_PATIENCE, check=False)

    def _accounted(self, names: Collection[str]) -> dict[str, str]:
        """By job what sacct says became of it."""
        from submitit.slurm.slurm import SlurmInfoWatcher

        roots = sorted({name.partition("_")[0] for name in names})
        ask = ["sacct", "--parsable2", "-o", "JobID,State,NodeList", "-j", ",".join(roots)]
        try:
            shown = subprocess.run(ask, capture_output=True, text=True, timeout=_PATIENCE, check=True).stdout
        except (OSError, subprocess.SubprocessError):
            return {}  # no accounting here
        return {
            name: str(info["State"]).partition(" ")[0] for name, info in SlurmInfoWatcher().read_info(shown).items()
        }

    def _word(self, name: str, state: str) -> str:
        """SLURM's word for how a job ended; where only its own log says that it was killed for memory, that."""
        log = self.log(name) if state == "FAILED" else None
        if log is not None and _MEMORY.search(log.read_text(encoding="utf-8", errors="replace")):
            return "OUT_OF_MEMORY"
        return state

    def _executor(self, settings: dict[str, Any], label: str) -> Any:
        if importlib.util.find_spec("submitit") is None:
            raise ConfigError("hydra/launcher=slurm needs submitit; install it with: pip install 'retable[slurm]'")
        if shutil.which("sbatch") is None or shutil.which("srun") is None:
            raise ConfigError("hydra/launcher=slurm: there is no sbatch here; accepted: a login node of SLURM's")
        import submitit

        self._logs = Path(settings["dir"]).absolute() / "jobs"
        executor = submitit.SlurmExecutor(folder=self._logs)
        paths = os.pathsep.join(path for path in sys.path if path)  # modules beside the script, too
        setup = [f"export PYTHONPATH={shlex.quote(paths)}", *self._setup]
        executor.update_parameters(setup=setup, job_name=re.sub(r"[^A-Za-z0-9._+-]+", "-", label), **self._parameters)
        return executor


def _kind(state: str) -> str:
    if state in _WAITING:
        return WAITING
    if state in _RUNNING:
        return RUNNING
    return CANCELLED if state.startswith("CANCELLED") else OVER


def _refusal(message: object) -> str:
    """The line of sbatch's own error, out of what submitit makes of it."""
    lines = [line.strip() for line in str(message).splitlines() if line.strip()]
    errors = [line for line in lines if "error:" in line]
    return first_line(RuntimeError((errors or lines or ["no words"])[-1]))
