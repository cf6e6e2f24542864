"""A run's checkpoints: the last epoch's, the one before it, the best epoch's; and what becomes of a damaged one.

While a run is unfinished it can go on from last.ckpt or, where that is damaged, from previous.ckpt. What a finished run
keeps is conf/checkpoint's matter. Each file takes its place by one rename, so a kill leaves whole files. A loss of
power may leave torn ones: the checksums that a checkpoint has for each of its parts tell, before anything is loaded.
"""

import contextlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retable import checks
from retable.run import files

_EVERY = 30  # seconds, on a GPU


def interval(wanted: object, kind: str, alone: bool) -> float:
    """Seconds of training that a run may lose: what checkpoint.every comes to. 0 is a checkpoint at each epoch's end.

    Args:
        wanted: auto, epoch, or a time.
        kind: cpu or cuda. On a GPU an epoch of a small network is over in less time than its checkpoint takes.
        alone: whether one process trains the run; several must agree, and their clocks do not.
    """
    if wanted == "auto":
        wanted = _EVERY if kind == "cuda" and alone else "epoch"
    return 0.0 if wanted == "epoch" or not alone else checks.seconds("checkpoint.every", wanted)


def put(directory: Path, written: Path, best: bool) -> None:
    """Make a file that was just written the last checkpoint; the one that was it becomes the previous one.

    Args:
        best: whether it is the best one, too.
    """
    last = directory / files.CHECKPOINT
    if last.exists():
        _name_also(last, directory / files.PREVIOUS)
    os.replace(written, last)
    if best:
        _name_also(last, directory / files.BEST)


def usable(directory: Path) -> Path | None:
    """The checkpoint that a run goes on from; None where it starts at its beginning.

    A damaged one is set aside as `<name>.damaged`, which a line reports.
    """
    from retable.models.weights import damage  # with torch; a sweep's own process settles without

    for path in (directory / files.CHECKPOINT, directory / files.PREVIOUS):
        if not path.exists():
            continue
        fault = damage(path)
        if fault is None:
            return path
        aside = path.with_name(f"{path.name}.damaged")
        os.replace(path, aside)
        print(f"{path}: damaged ({fault}); set aside as {aside.name}, the run goes on from before", flush=True)
    return None


def settle(directory: Path, wanted: Mapping[str, Any]) -> None:
    """Leave the checkpoints of a finished run that are wanted.

    The previous one goes last: while it is there this was not done to its end.

    Args:
        wanted: `last` and `best`, each true or false. Where there is no best epoch the last one's stays for it.
    """
    last, best = directory / files.CHECKPOINT, directory / files.BEST
    unwanted = []
    if not wanted["best"]:
        unwanted.append(best)
    if not wanted["last"] and (best.exists() or not wanted["best"]):
        unwanted.append(last)
    with contextlib.suppress(OSError):  # the run has finished all the same; the next to see it tries again
        files.remove([*unwanted, directory / files.PREVIOUS])


def settle_again(directory: Path) -> None:
    """Do what a process that was killed between its result and the end of `settle` has left undone.

    What is wanted is what run.json says: how the run was trained, whatever is asked for now.
    """
    if not (directory / files.PREVIOUS).exists():
        return
    result, run = files.read_result(directory), files.described(directory)
    kept = run["config"].get("checkpoint") if isinstance(run, dict) else None
    if result and result["status"] in files.DONE:
        settle(directory, {"last": True, "best": False, **(kept if isinstance(kept, dict) else {})})


def _name_also(path: Path, name: Path) -> None:
    """Give a file a second name, in place of what had it; a copy where the file system knows no second names."""
    temporary = name.with_name(f".{name.name}")
    temporary.unlink(missing_ok=True)
    try:
        os.link(path, temporary)
    except OSError:
        shutil.copyfile(path, temporary)
    os.replace(temporary, name)
