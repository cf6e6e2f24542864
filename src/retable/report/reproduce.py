"""What repeats a run: the command that trains it again, and the code, device and versions that it was trained with.

A run of a sweep recorded the overrides of its point, e.g. experiment=mnist/cnn, model=fnn, sweep.workers=1. Repeating
them with -m is not enough: what the command line says goes on top of every block of the experiment's grid, so that
model=fnn would also be combined with the other blocks. With `table=null` the experiment's file sets its defaults and
asks for no grid: one run, the same config.
"""

import shlex
from collections.abc import Iterable, Mapping, Sequence

from retable.config.folders import train_command
from retable.config.keys import STEERING, below, key_of
from retable.report.runs import RunRecord


def sweep_command(experiment: str) -> str:
    """The shell command that trains a table, as it is called in the working directory."""
    return " ".join([*train_command(many=True), f"experiment={experiment}"])


def command(overrides: Sequence[str], seed: int) -> str | None:
    """The shell command of a run's recorded overrides; None where it recorded none.

    >>> command(["experiment=mnist/cnn", "model=fnn", "sweep.workers=1"], 1)
    'python train.py experiment=mnist/cnn table=null model=fnn seed=1'
    """
    return shlex.join([*train_command(), *single(overrides, seed)]) if overrides else None


def product_command(points: Sequence[Sequence[str]]) -> str:
    """The shell command of a sweep without an experiment, from the overrides of its runs.

    >>> product_command([["task=cifar", "dropout=0.2", "seed=0"], ["task=cifar", "dropout=0.3", "seed=0"]])
    'python train.py -m task=cifar dropout=0.2,0.3 seed=0'
    """
    values: dict[str, dict[str, None]] = {}
    for point in points:
        for text in _own(point):
            key, _, value = text.partition("=")
            values.setdefault(key, {})[value] = None
    words = [f"{key}={','.join(found)}" for key, found in values.items()]
    return shlex.join([*train_command(many=True), *words])


def single(overrides: Sequence[str], seed: int) -> list[str]:
    """A sweep's point as the overrides of a single run, the seed stated also where it was the default."""
    kept = list(_own(overrides))
    if "seed" not in map(key_of, kept):
        kept.append(f"seed={seed}")
    if any(key_of(text) == "experiment" for text in kept):
        first = next(index for index, text in enumerate(kept) if key_of(text) == "experiment")
        kept.insert(first + 1, "table=null")
    return kept


def _own(overrides: Iterable[str]) -> Iterable[str]:
    return (text for text in overrides if not below(key_of(text).replace("/", "."), (*STEERING, "hydra")))


def device(record: RunRecord) -> str:
    """E.g. `AMD EPYC (cpu, 2 threads)`; empty where it was not recorded, as in a run that has not ended."""
    found = record.result.get("device")
    if not isinstance(found, Mapping):
        return str(found or "")
    threads = f", {found['threads']} threads" if found.get("kind") == "cpu" and (found.get("threads") or 1) > 1 else ""
    return f"{found.get('name', '')} ({found.get('kind', '')}{threads})".strip()


def commit(record: RunRecord) -> str:
    """E.g. `e7cfdc7f04 with changes`, where the tree was dirty."""
    git = record.result.get("git")
    if not isinstance(git, Mapping) or not git.get("commit"):
        return ""
    return f"{str(git['commit'])[:10]}{' with changes' if git.get('dirty') else ''}"


def versions_text(record: RunRecord) -> str:
    """E.g. `python 3.11.7, torch 2.14.1`."""
    found = record.result.get("versions")
    return ", ".join(f"{name} {version}" for name, version in found.items()) if isinstance(found, Mapping) else ""


def versions(used: Sequence[RunRecord]) -> list[str]:
    """The distinct sets of versions, which the runs' lines refer to by number."""
    return list(dict.fromkeys(text for text in map(versions_text, used) if text))
