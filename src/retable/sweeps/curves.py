"""A sweep's curves under short names: a folder of links to its runs, named by what differs between them.

A run's own directory is named by all that it deviates in, which TensorBoard would repeat in each chart and cut in the
middle. The links are made before the runs train, so that the curves can be watched.
"""

import contextlib
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from retable.config.identity import short_name
from retable.config.keys import differing
from retable.run import tensorboard
from retable.sweeps import store
from retable.sweeps.plan import Plan, Run

FOLDER = "curves"
_MOST = 1000  # runs: TensorBoard draws no more


def link(plan: Plan) -> Path | None:
    """Make the links of a sweep, and take away those of runs that it no longer has.

    Returns:
        Their folder; None where there are none to be made: no curves are kept, or the file system has no links.
    """
    if len(plan.runs) > _MOST or not any((run.config.get("logger") or {}).get("tensorboard") for run in plan.runs):
        return None
    folder = plan.folder / FOLDER
    wanted = {
        name: os.path.relpath(os.path.realpath(run.directory), os.path.realpath(plan.folder) + f"/{FOLDER}")
        for name, run in zip(names(plan.runs), plan.runs, strict=True)
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = {path.name: os.readlink(path) for path in folder.iterdir() if path.is_symlink()}
        for name in there:
            if wanted.get(name) != there[name]:
                (folder / name).unlink()
        for name, target in wanted.items():
            if there.get(name) != target:
                (folder / name).symlink_to(target, target_is_directory=True)
    except (OSError, NotImplementedError):
        return None
    return folder


def describe(plan: Plan) -> None:
    """Describe the links' hyperparameters and metrics for TensorBoard's tab, once runs have ended."""
    folder = plan.folder / FOLDER
    if folder.is_dir():
        runs = [Path(os.path.realpath(path)) for path in sorted(folder.iterdir()) if path.is_symlink()]
        tensorboard.describe(folder, runs, store.identity_and_metrics)


def names(runs: Sequence[Run]) -> list[str]:
    """A name for each run, of what differs between them alone; below its task's where there are several."""
    keys = sorted(differing([run.varied for run in runs]), key="seed".__eq__)  # the seed last, as in a run's own name
    several = len({run.config["task"]["name"] for run in runs}) > 1
    tasks = [f"{run.config['task']['name']}-" if several else "" for run in runs]
    short = [short_name({key: run.varied[key] for key in keys if key in run.varied}) for run in runs]
    short = [task + name for task, name in zip(tasks, short, strict=True)]
    own = [task + run.name for task, run in zip(tasks, runs, strict=True)]
    # Two tables' runs may be alike in all that both set, and two files of one name have one text: such runs are called
    # by their own names.
    found = [name if short.count(name) == 1 else whole for name, whole in zip(short, own, strict=True)]
    return found if len(set(found)) == len(found) else own


def command(plan: Plan) -> str:
    """What to type to see the curves."""
    folder = Path(plan.settings["dir"])
    with contextlib.suppress(OSError):
        if any(path.is_symlink() for path in (plan.folder / FOLDER).iterdir()):
            folder = plan.folder / FOLDER
    return shlex.join(["tensorboard", "--logdir", str(folder)])
