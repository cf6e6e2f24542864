"""The `table` of an experiment's file, checked and frozen: what was published, what is run, what is claimed.

    table:
      source: A1.2                      where it was published
      title: Dropout position and probability
      assumed: [..]                     settings the report does not state, see `assumptions`
      notes: [..]                       what else the report says of this table
      published_epochs: 100             a cell's `epochs` overrides it
      grid: [..]                        blocks of overrides, see `parse_grid`
      rows: [dropout.p]                 keys of the resolved config; `rows: cell` is a plain list of the cells
      columns: [dropout.where]
      labels: {dropout.p: {0.0: none}}  key -> value -> how the publication calls it
      metrics: {val: {..}}              see `metrics`
      baseline: none                    a cell's name
      ranked: val                       a metric by which the rows are ordered, the best first; else as the cells stand
      cells: {conv 0.2: {match: {dropout.p: 0.2, dropout.where: conv}, published: {train: 63.15, val: 47.15}}}
      claims: [..]                      see `claims`

Its name is the file's place: conf/experiment/cifar/dropout.yaml is cifar/dropout. The sweep's planner imports
this module too, so that it imports nothing heavy.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from retable.atomic import read_yaml
from retable.errors import ConfigError, in_one_line
from retable.experiment.assumptions import Assumption, parse_assumed
from retable.experiment.claims import Claim, parse_claims
from retable.experiment.fields import Fields, is_list
from retable.experiment.metrics import Metric, Published, parse_metrics, parse_published
from retable.experiment.shown import Beside, ClassTable, Compare, parse_class_tables, parse_compare, parse_pictures

TABLE_KEYS = (
    *("source", "title", "assumed", "notes", "published_epochs", "grid"),
    *("rows", "columns", "labels", "metrics", "baseline", "ranked", "cells", "claims"),
    *("class_tables", "pictures", "compare", "task"),
)


@dataclass(frozen=True)
class Cell:
    """One setting of the published table: which resolved configs it is, and its published values by metric."""

    name: str
    match: Mapping[str, Any]
    published: Mapping[str, Published]
    epochs: int
    note: str = ""

    @property
    def fraction(self) -> float:
        """Share of the training data that it was published for, where that is one of the table's settings."""
        return float(self.match.get("data.fraction", 1.0))


@dataclass(frozen=True)
class Table:
    name: str
    task: str
    source: str
    title: str
    published_epochs: int
    grid: tuple[Mapping[str, Any], ...]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    metrics: Mapping[str, Metric]
    cells: Mapping[str, Cell]
    baseline: str | None = None
    ranked: str | None = None
    claims: tuple[Claim, ...] = ()
    assumed: tuple[str, ...] = ()
    assumptions: tuple[Assumption, ...] = ()
    notes: tuple[str, ...] = ()
    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    class_tables: tuple[ClassTable, ...] = ()
    pictures: tuple[Beside, ...] = ()
    compare: tuple[Compare, ...] = ()


def parse_table(data: Any, name: str, origin: str | None = None) -> Table:
    """A table from its file's content.

    Args: data: the `table` node as plain dicts and lists; name: the experiment's; origin: the file, for messages.

    Raises: ConfigError, one line, naming the experiment or the file, the key and what is accepted.
    """
    fields = Fields.of(origin or f"experiment={name}", data, TABLE_KEYS)
    epochs = fields.whole("published_epochs", 1)
    assumed, assumptions = parse_assumed(fields)
    metrics = parse_metrics(fields)
    cells = parse_cells(fields, metrics)
    baseline = fields.names("baseline", cells)[0] if fields.has("baseline") else None
    rows, columns = (() if fields.data.get(key) == "cell" else fields.texts(key) for key in ("rows", "columns"))
    if columns and not rows:
        raise fields.fault("columns", "only with rows; leave both out for a plain list of the cells")
    return Table(
        name=name,
        task=fields.text("task") if fields.has("task") else name.split("/")[0],
        source=fields.text("source"),
        title=fields.text("title"),
        published_epochs=epochs,
        grid=parse_grid(fields),
        rows=rows,
        columns=columns,
        metrics=metrics,
        cells=cells,
        baseline=baseline,
        ranked=fields.choice("ranked", metrics) if fields.has("ranked") else None,
        claims=parse_claims(fields, list(cells), metrics),
        assumed=assumed,
        assumptions=assumptions,
        notes=fields.texts("notes"),
        labels=parse_labels(fields, rows + columns),
        class_tables=parse_class_tables(fields),
        pictures=parse_pictures(fields, list(cells)),
        compare=parse_compare(fields, list(cells)),
    )


def load_table(path: Path | str) -> Table:
    """The table of one experiment's file.  Raises: ConfigError, also where the file is no YAML or holds no table."""
    try:
        data = read_yaml(Path(path))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {in_one_line(error)}") from None
    if not isinstance(data, Mapping) or not isinstance(data.get("table"), Mapping):
        raise ConfigError(f"{path}: holds no table; accepted is a mapping under the key table")
    defaults = data.get("defaults")
    named = [entry for entry in defaults if isinstance(entry, Mapping)] if isinstance(defaults, list) else []
    task = next((entry["override /task"] for entry in named if "override /task" in entry), None)
    return parse_table({"task": task} | dict(data["table"]), name_of(path), str(path))


def name_of(path: Path | str) -> str:
    """An experiment's name from its file's path: what follows the folder `experiment`, else the file's own name.

    >>> name_of("conf/experiment/cifar/dropout.yaml"), name_of("mine.yaml")
    ('cifar/dropout', 'mine')
    """
    parts = Path(path).with_suffix("").parts
    last = max((place for place, part in enumerate(parts[:-1]) if part == "experiment"), default=len(parts) - 2)
    return "/".join(parts[last + 1 :])


def parse_grid(fields: Fields) -> tuple[Mapping[str, Any], ...]:
    """A list of blocks, united; duplicates collapse. A block is the product of its keys, each a Hydra override.

    `{dropout.p: [0.2, 0.3], dropout.where: all}`: a list is a choice of values, anything else is one value.
    `{augment.transforms: [[rotate]]}`: a value that is itself a list is an item of the outer list, here the one item.
    `{zip: {optimizer.lr: [0.1, 0.01], data.batch_size: [32, 64]}, init: he}`: lists of one length taken in step.
    `{include: mnist/dropout}`: the whole grid of another experiment, with that experiment's common settings.
    """
    blocks = fields.data.get("grid")
    if not is_list(blocks) or not blocks:
        raise fields.fault("grid", "a list of blocks of overrides")
    for number, block in enumerate(blocks):
        where = f"{fields.where}: grid[{number}]"
        if not isinstance(block, Mapping):
            raise ConfigError(f"{where}: {block!r} is no block; accepted is a mapping of overrides")
        if "include" in block and (len(block) > 1 or not isinstance(block["include"], str)):
            raise ConfigError(f"{where}: include stands alone and names one experiment, e.g. mnist/dropout")
        zipped = block.get("zip", {})
        if not isinstance(zipped, Mapping) or not all(is_list(values) and values for values in zipped.values()):
            raise ConfigError(
                f"{where}: zip={zipped!r} is not accepted; accepted are overrides with lists of one length"
            )
        if len({len(values) for values in zipped.values()}) > 1:
            raise ConfigError(f"{where}: the lists under zip differ in length; accepted are lists of one length")
        for key, value in block.items():
            if not isinstance(key, str) or (is_list(value) and not value):
                raise ConfigError(
                    f"{where}: {key!r}: {value!r} is not accepted; accepted is a value or a list of values"
                )
    return tuple(blocks)


def parse_cells(table: Fields, metrics: Mapping[str, Metric]) -> dict[str, Cell]:
    data = table.data.get("cells")
    if not isinstance(data, Mapping) or not data:
        raise table.fault("cells", "a mapping from a cell's name to its match and published figures")
    cells = {}
    for name, value in data.items():
        if not isinstance(name, str):
            raise ConfigError(f"{table.where}: cells: {name!r} is no text; put the cell's name in quotes")
        fields = Fields.of(f"{table.where}: cells.{name}", value, ("match", "published", "epochs", "note"))
        match = fields.data.get("match")
        if not isinstance(match, Mapping) or not match:
            raise fields.fault("match", "a mapping from keys of the resolved config to values, e.g. {dropout.p: 0.2}")
        Fields(f"{fields.where}: match", match).number("data.fraction", 1.0)
        published = Fields.of(f"{fields.where}: published", fields.data.get("published") or {}, metrics)
        cells[name] = Cell(
            name=name,
            match=dict(match),
            published={str(metric): parse_published(published, metric) for metric in published.data},
            epochs=fields.whole("epochs", 1, table.data.get("published_epochs")),
            note=fields.text("note") if fields.has("note") else "",
        )
    return cells


def parse_labels(table: Fields, keys: tuple[str, ...]) -> dict[str, dict[str, str]]:
    fields = Fields.of(f"{table.where}: labels", table.data.get("labels") or {}, keys)
    if not all(isinstance(labels, Mapping) for labels in fields.data.values()):
        raise table.fault("labels", "a mapping from a key of rows or columns to a mapping from values to labels")
    return {key: {str(value): str(label) for value, label in labels.items()} for key, labels in fields.data.items()}
