"""Claims as data. A claim is a text, a kind and what it speaks of; `each` says the same of several, and all must hold.

    - {text: all 0.3 is best, kind: best, metric: val, cell: all 0.3}
    - text: p = 0.3 has the smaller gap at each position
      kind: greater
      metric: gap
      left: none
      each: [{right: conv 0.3}, {right: fc 0.3}, {right: all 0.3}]

`beside` is a list as `each` is, of statements that are given with the claim and do not decide it.

Each kind is a class in `best` or `comparisons`, named as in the file. Its keys, beside text, kind, note, each and the
options of operands, are those of its operands and its fields; `holds` decides it. A new kind is one such class. Values,
by too, are in the metric's published unit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from retable.errors import ConfigError
from retable.experiment import best, comparisons  # noqa: F401, whose classes become the kinds
from retable.experiment.fields import Fields, is_list
from retable.experiment.metrics import Metric
from retable.experiment.operands import OPTIONS, Given
from retable.experiment.statement import KINDS, Statement


@dataclass(frozen=True)
class Claim:
    """A claim of the publication: all its statements must hold."""

    id: str
    text: str
    kind: str
    statements: tuple["Statement", ...]
    note: str = ""
    beside: tuple["Statement", ...] = ()  # given with the claim; they do not decide it

    @property
    def absolute(self) -> bool:
        constants = (o.constant for statement in self.statements for o in statement.operands)
        return any(s.names_threshold for s in self.statements) or any(constant is not None for constant in constants)

    @property
    def all_runs(self) -> bool:
        return any(statement.speaks_of_all_runs for statement in self.statements)

    @property
    def cells(self) -> tuple[str, ...]:
        """Every cell it speaks of, each once, in order."""
        return tuple(
            dict.fromkeys(cell for s in (*self.statements, *self.beside) for o in s.operands for cell in o.cells)
        )


def parse_claims(table: Fields, cells: Sequence[str], metrics: Mapping[str, Metric]) -> tuple[Claim, ...]:
    """The claims of a table.  Raises: ConfigError."""
    source = table.text("source")
    return tuple(
        parse_claim(f"{table.where}: claims[{number}]", f"{source} ({number + 1})", claim, cells, metrics)
        for number, claim in enumerate(table.entries("claims", "a list of claims"))
    )


def parse_claim(where: str, id: str, data: Any, cells: Sequence[str], metrics: Mapping[str, Metric]) -> Claim:
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: {data!r} is no claim; accepted is a mapping with text, kind and the kind's keys")
    kind = KINDS[Fields(where, data).choice("kind", KINDS)]
    keys = {*kind.keys(), *OPTIONS}
    fields = Fields.of(where, data, {"text", "kind", "note", "each", "beside", *keys})
    text = fields.text("text")
    common = {key: value for key, value in data.items() if key in keys}
    found: dict[str, list[Statement]] = {"each": [], "beside": []}
    for key, statements in found.items():
        mappings = data.get(key, [{}] if key == "each" else [])
        if not is_list(mappings) or (key in data and not mappings):
            raise fields.fault(key, "a list of mappings, one a statement")
        for number, own in enumerate(mappings):
            place = f"{where}.{key}[{number}]" if key in data else where
            Fields.of(place, own, keys)
            statements.append(kind.read(Given(place, {**common, **own}, cells, metrics)))
    note = fields.text("note") if fields.has("note") else ""
    return Claim(id, text, kind.kind, tuple(found["each"]), note, tuple(found["beside"]))
