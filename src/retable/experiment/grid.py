"""What to run: a grid of overrides, from the command line and from an experiment's table.

A table's grid is a list of blocks, united. A block is a product: a list is a choice, a scalar is fixed, a string may be
a sweep in Hydra's own syntax (`range(0.1,0.6,0.1)`, `glob(*)`). `zip: {a: [...], b: [...]}` inside a block goes through
its lists together; `{include: mnist/dropout}` stands for another experiment's grid with that experiment's settings. A
value that is itself a list is written as a list in the list: `augment.transforms: [[rotate]]`.

Overrides on the command line act on top: they replace what the grid says of the same key, and their sweeps multiply.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.override_parser.types import Glob, Override, RangeSweep
from hydra.errors import HydraException

from retable.config.compose import Composer
from retable.config.keys import NO_EFFECT, below, canonical
from retable.config.overrides import override_text
from retable.errors import ConfigError
from retable.experiment.assumptions import parse_assumed
from retable.experiment.fields import Fields

MOST = 100_000  # runs of a sweep: more are a slip of the keyboard
_SHARED = ("sweep", "table", "output", "resume", "trust")


@dataclass
class Grid:
    """The points of a sweep, in order, before composition.

    Attributes:
        points: override lists, one a run (duplicates are collapsed by what they compose to, not here).
        owners: for each point the experiment whose table asks for it, or None.
        tables: experiment name -> its table, for those that the command names.
        swept: keys that the command line sweeps, for the name of a sweep without an experiment.
    """

    points: list[list[str]]
    owners: list[str | None] = field(default_factory=list)
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    swept: list[str] = field(default_factory=list)


def expand(arguments: Sequence[str], composer: Composer) -> Grid:
    """All points of a command line.

    Raises:
        ConfigError: for overrides that are not in the grammar, and for blocks that are not of the form above.
    """
    parsed = composer.parse(arguments)
    choices = {
        o.get_key_element(): _choices(o) if o.key_or_group != "experiment" else _experiments(o, composer)
        for o in parsed
    }
    swept = [key for key, values in choices.items() if len(values) > 1]
    for override in parsed:
        if override.get_key_element() in swept:
            refuse_of_a_sweep(override)
    experiments = [text.partition("=")[2] for text in choices.pop("experiment", ["experiment=null"])]
    seeds = choices.pop("seeds", None) or choices.pop("+seeds", None) or choices.pop("++seeds", None)
    if seeds and len(seeds) > 1:
        asked = ",".join(text.partition("=")[2] for text in seeds)
        raise ConfigError(f"seeds={asked}: accepted: a number of seeds (3 is 0, 1, 2), or a list like [0,7]")
    if seeds and any(key.lstrip("+") == "seed" for key in choices):
        raise ConfigError(f"{seeds[0]}: seed= is given, too; accepted: one of them")
    assumptions = choices.get("sweep.assumptions", [""])[-1].lower() == "sweep.assumptions=true"
    grid = Grid([], swept=[key for key in swept if key != "experiment"])
    for experiment in experiments:
        named = experiment not in ("null", "None", "")
        common = _table_of(experiment, composer) if named else ({}, None)
        if named:
            grid.tables[experiment] = common[0]
        blocks = _expand_table(experiment, common[0], composer, ()) if named else [[]]
        fixed_seeds = _seeds(seeds[-1].partition("=")[2] if seeds else common[1], composer)
        others = _alternatives(experiment, common[0], choices, blocks, composer) if assumptions and named else []
        for other in [{}, *others]:
            for block in blocks:
                points = _on_top(block, {**other, **choices}, fixed_seeds if "seed" not in choices else None)
                grid.points += points
                grid.owners += [experiment if named else None] * len(points)
    return grid


def refuse_of_a_sweep(override: Override) -> None:
    """Raises: ConfigError for several values of a key that all runs of a sweep share, or that makes no other run."""
    if below(override.key_or_group, _SHARED):
        raise ConfigError(f"{override.input_line}: a sweep has one; accepted: one value")
    if below(override.key_or_group, NO_EFFECT):
        reason = "is no part of what a run is, so all would be one run"
        raise ConfigError(f"{override.input_line}: {reason}; accepted: one value")


def _alternatives(
    experiment: str,
    table: dict[str, Any],
    choices: dict[str, list[str]],
    blocks: Sequence[Sequence[str]],
    composer: Composer,
) -> list[dict[str, list[str]]]:
    """For each alternative to what the table assumes, the choice that sets it; not for what the command line sets.

    Raises:
        ConfigError: where nothing can be varied, or what is assumed is not what the table's runs have.
    """
    _, settings = parse_assumed(Fields(f"experiment={experiment}", table))
    if not settings:
        raise ConfigError(
            f"experiment={experiment}: nothing to vary; accepted: a table with alternatives in `assumed`, such as"
            " {data.batch_size: 32, or: [64, 128]}"
        )
    given = {key.lstrip("+") for key in choices}
    varied = {text.partition("=")[0].lstrip("+~") for block in blocks for text in block}
    configs = [composer.compose(block).config for block in {block[0]: block for block in reversed(blocks)}.values()]
    for one, config in itertools.product(settings, configs):
        where = f"experiment={experiment}: assumed: "
        if one.key in varied:
            raise ConfigError(f"{where}{one.key} is varied by the grid; accepted: keys that all runs share")
        found = one.found(config)
        if found is not None and found != one.value and canonical(found) != canonical(one.value):
            raise ConfigError(
                f"{where}{one.override(one.value)}: its runs have {one.override(found)}; accepted: what they have"
            )
    return [{one.key: [one.override(value)]} for one in settings if one.key not in given for value in one.alternatives]


def _on_top(base: list[str], choices: dict[str, list[str]], seeds: list[int] | None) -> list[list[str]]:
    """A block's point with the command line's choices instead of and beside its own, times seeds."""
    kept = [text for text in base if text.partition("=")[0].lstrip("+~") not in {k.lstrip("+~") for k in choices}]
    lists = [*choices.values()] + ([[f"seed={seed}" for seed in seeds]] if seeds is not None else [])
    return [[*kept, *combination] for combination in _combinations(lists)]


def _combinations(lists: Sequence[list[Any]]) -> Iterator[tuple[Any, ...]]:
    if (count := math.prod(map(len, lists))) > MOST:
        raise ConfigError(f"{count:,} runs; accepted: at most {MOST:,} a sweep")
    return itertools.product(*lists)


def _table_of(experiment: str, composer: Composer) -> tuple[dict[str, Any], Any]:
    """An experiment's table, and the seeds that its file sets."""
    config = composer.compose([f"experiment={experiment}"]).config
    table = config.get("table")
    if not isinstance(table, dict) or not isinstance(table.get("grid"), list):
        raise ConfigError(f"experiment={experiment}: its file has no table.grid; accepted: a list of blocks")
    return {"task": config["task"]["name"]} | table, config.get("seeds")


def _expand_table(experiment: str, table: dict[str, Any], composer: Composer, path: tuple[str, ...]) -> list[list[str]]:
    if experiment in path:
        raise ConfigError(f"table.grid: {' includes '.join((*path, experiment))}; accepted: no circle")
    points = []
    for block in table["grid"]:
        where = f"experiment={experiment}: table.grid: {block}"
        if not isinstance(block, dict):
            raise ConfigError(f"{where}; accepted: a mapping of overrides")
        if "include" in block:
            if len(block) > 1:
                raise ConfigError(f"{where}; accepted: include stands alone")
            other = block["include"]
            points += _expand_table(other, _table_of(other, composer)[0], composer, (*path, experiment))
        else:
            points += [[f"experiment={experiment}", *point] for point in _product(block, composer, where)]
    return points


def _product(block: dict[str, Any], composer: Composer, where: str) -> list[list[str]]:
    lists: list[list[list[str]]] = []
    for key, value in block.items():
        if key == "zip":
            columns = [_texts(k, v, composer) for k, v in value.items()]
            if len({len(column) for column in columns}) != 1:
                raise ConfigError(f"{where}: zip; accepted: lists of one length")
            lists.append([list(row) for row in zip(*columns, strict=True)])
        else:
            lists.append([[text] for text in _texts(key, value, composer)])
    return [list(itertools.chain(*combination)) for combination in _combinations(lists)]


def _texts(key: str, value: Any, composer: Composer) -> list[str]:
    """The overrides of one key of a block: one a choice, the shorthand translated."""
    values = value if isinstance(value, list) else [value]
    texts = []
    for item in values:
        (override,) = composer.parse([override_text(key, item)])
        texts += _choices(override)
    return texts


def _choices(override: Override) -> list[str]:
    """An override as one override for each value that it sweeps over."""
    if not override.is_sweep_override():
        return [override.input_line]
    if not override.is_discrete_sweep():
        raise ConfigError(f"{override.input_line}: accepted: a discrete sweep (a,b,c, choice, range or glob)")
    key = override.get_key_element()
    try:
        if isinstance(override.value(), RangeSweep):  # 0.1 + 0.1 + 0.1 is to be the run that 0.3 is
            values = (float(f"{v:.12g}") if isinstance(v, float) else v for v in override.sweep_iterator())
        else:
            values = override.sweep_string_iterator()
        found = [f"{key}={value}" for value in itertools.islice(values, MOST + 1)]
    except HydraException as error:
        raise ConfigError(f"{override.input_line}: {error}") from error
    if not found:
        raise ConfigError(f"{override.input_line}: chooses nothing; accepted: one value or more")
    if len(found) > MOST:
        raise ConfigError(f"{override.input_line}: over {MOST:,} values; accepted: at most {MOST:,} runs a sweep")
    return found


def _experiments(override: Override, composer: Composer) -> list[str]:
    """Names of experiments; `glob(cifar/*)` is all of a folder, which Hydra's own glob does not descend into."""
    value = override.value()
    if not isinstance(value, Glob):
        return _choices(override)
    names = sorted(composer.options("experiment"))
    found = value.filter(names)
    if not found:
        raise ConfigError(f"{override.input_line}: no such experiment; accepted: {', '.join(names)}")
    return [f"experiment={name}" for name in found]


def _seeds(value: Any, composer: Composer) -> list[int] | None:
    """`seeds=3` is 0, 1, 2; `seeds=[0,7]` is those two; null is the one seed that the config names."""
    if isinstance(value, str):
        (override,) = composer.parse([f"seeds={value}"])
        value = override.value()
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and value > MOST:
        raise ConfigError(f"seeds={value}: accepted: at most {MOST:,} runs a sweep")
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return list(range(value))
    if isinstance(value, list) and value and all(isinstance(s, int) and s >= 0 for s in value):
        return list(dict.fromkeys(value))
    raise ConfigError(f"seeds={value}: accepted: a number of seeds (3 is 0, 1, 2), or a list like [0,7]")
