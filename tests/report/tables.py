"""What the tests of the experiments' files share: each file read once, each point composed once."""

import functools
import itertools
import json
from pathlib import Path

from retable.config.compose import Composer
from retable.config.identity import identity
from retable.config.overrides import override_text
from retable.experiment.table import load_table
from retable.report.runs import cells_of

FOLDER = Path(__file__).parents[2] / "conf" / "experiment"
HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "undecided"


@functools.cache
def table(name):
    return load_table(FOLDER / f"{name}.yaml")


@functools.cache
def composer(task):
    """One a task, as a sweep has it."""
    return Composer(FOLDER.parent)


@functools.cache
def composed(point):
    """A grid point's resolved config and its identity as text; point: (experiment, more overrides)."""
    config = composer(point[0].split("/")[0]).compose(point).config
    return config, json.dumps(identity(config), sort_keys=True)


def points(name):
    """Overrides of a table's own grid points; included grids are their own files'."""
    yield from points_of(name, table(name))


def points_of(name, one):
    """As `points`, of a table that is the experiment's, or part of its grid."""
    for block in one.grid:
        zipped = block.get("zip", {})
        steps = [dict(zip(zipped, values, strict=True)) for values in zip(*zipped.values(), strict=True)] or [{}]
        keys = [key for key in block if key not in ("zip", "include")]
        choices = [block[key] if isinstance(block[key], list) else [block[key]] for key in keys]
        for values in itertools.product(*choices) if "include" not in block else ():
            for step in steps:
                chosen = {**dict(zip(keys, values, strict=True)), **step}
                yield (f"experiment={name}", *(override_text(key, value) for key, value in chosen.items()))


def cells_by_run(names):
    """The cells of several tables by the run that they are."""
    runs = {}
    for name in names:
        for point in points(name):
            config, key = composed(point)
            runs.setdefault(key, set()).add(f"{name}: {cells_of(table(name), config)[0]}")
    return runs
