"""Runs of one setting on files that were changed in between: a table is made of those on one state of the files.

A sweep that finds its files changed trains its runs anew, beside the old ones, which differ from them in nothing else.
"""

import contextlib
import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from retable.config.keys import SCALE, below, canonical, is_foreign
from retable.data.fingerprints import USE
from retable.report.runs import Remark, RunRecord
from retable.run.files import FINISHED, RESULT

Chosen = Mapping[str, str]  # settings of data -> fingerprint
_NOT_READ = tuple(f"data.{key}" for key in USE)


def chosen_data(records: Iterable[RunRecord], shown: Collection[str] = ()) -> dict[str, str]:
    """The fingerprint whose runs are shown, by the settings that say which files are read.

    It is that of most of `shown`, then of most finished runs, then of the run that ended last.

    Args:
        shown: real paths of runs' directories.
    """
    found: defaultdict[str, defaultdict[str, list[RunRecord]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        if key := _reads(record):
            found[key][record.fingerprint].append(record)

    def merit(runs: list[RunRecord]) -> tuple[int, int, float]:
        wanted = sum(os.path.realpath(run.path) in shown for run in runs) if shown else 0
        return wanted, sum(run.status == FINISHED for run in runs), max(map(_ended, runs))

    return {
        key: next(iter(by_data)) if len(by_data) == 1 else max(by_data, key=lambda data: merit(by_data[data]))
        for key, by_data in found.items()
    }


def of_one_data(records: Iterable[RunRecord], chosen: Chosen) -> tuple[list[RunRecord], list[Remark]]:
    """The records on the data that were chosen, or whose data nobody knows; and a remark on those left out."""
    kept, left = [], Counter()
    for record in records:
        wanted = chosen.get(_reads(record), record.fingerprint)
        if record.fingerprint == wanted:
            kept.append(record)
        else:
            left[record.fingerprint, wanted] += 1
    counted = "; ".join(
        f"{count} run{'s' if count > 1 else ''} ({data}; {shown} is shown)"
        for (data, shown), count in sorted(left.items())
    )
    text = f"Trained on other data, in files that have changed, and not in this table: {counted}."
    return kept, [Remark(text, "left out")] if left else []


def _reads(record: RunRecord) -> str:
    """The settings that say which files a run reads; "" where its data are not known by their files."""
    if not record.fingerprint or record.identity is None or is_foreign(record.config):
        return ""
    named = {key: value for key, value in record.identity.items() if key.startswith("data.") or key == "task.name"}
    return canonical({key: value for key, value in named.items() if key not in SCALE and not below(key, _NOT_READ)})


def _ended(record: RunRecord) -> float:
    with contextlib.suppress(OSError):
        return (Path(record.path) / RESULT).stat().st_mtime
    return 0.0
