"""The map of the house: imports point down the list below, the lazy ones inside functions too; no files in a circle.

Run with -s to see the map. A package may use itself and whatever stands below it; of the top, anything.
"""

import ast
import re
from collections import defaultdict
from graphlib import TopologicalSorter
from pathlib import Path

from retable.cli import COMMANDS

PACKAGE = Path(__file__).parents[1] / "src" / "retable"
# From the command line down to plain values. Rooms in one line stand side by side and do not use each other.
ORDER = (
    ("cli",),
    ("__init__", "main"),
    ("commands",),
    ("sweeps", "receptive"),
    ("report",),
    ("run",),
    ("tasks",),
    ("figures",),
    ("experiment", "losses", "training", "metrics"),
    ("models", "data"),
    ("config",),
    ("atomic",),
    ("checks",),
    ("errors", "version"),
)
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """The rooms that a file imports from, wherever in it the import stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            top, _, rest = node.module.partition(".")
            if top == "retable":
                found |= {rest.partition(".")[0]} if rest else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names = (alias.name.split(".") for alias in node.names)
            found |= {name[1] for name in names if name[0] == "retable" and len(name) > 1}
    return found


def arrows() -> dict[tuple[str, str], list[str]]:
    found = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        own = room_of(path)
        for other in imported(path):
            if other in LEVEL and other != own:
                found[own, other].append(str(path.relative_to(PACKAGE)))
    return found


def test_every_room_has_its_place() -> None:
    rooms = {room_of(path) for path in PACKAGE.rglob("*.py")}
    assert rooms == set(LEVEL)


def test_the_map_in_contributing_is_the_order_and_names_every_command() -> None:
    text = (PACKAGE.parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:3] for line in text.partition("| room |")[2].splitlines()[2:]]
    rows = rows[: next(number for number, row in enumerate(rows) if not row)]
    assert [set(re.findall(r"`(\w+)`", room)) for room, _ in rows] == [set(rooms) for rooms in ORDER]
    (commands,) = (what for room, what in rows if room.strip() == "`commands`")
    assert {name.strip() for name in commands.split(",")} == {
        command.__name__.rpartition(".")[2] for command in COMMANDS
    }


def test_imports_point_down() -> None:
    found = arrows()
    for rooms in ORDER:
        print(" ".join(rooms), "->", " ".join(sorted({b for a, b in found if a in rooms})))
    up = [
        f"{path} imports {other}"
        for (own, other), paths in found.items()
        for path in paths
        if LEVEL[other] <= LEVEL[own] and other != "__init__"
    ]
    assert up == []


def modules() -> dict[str, set[str]]:
    """The files of the package by dotted name, and which others each imports, wherever in it the import stands."""
    names = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    found: dict[str, set[str]] = {}
    for name, path in names.items():
        asked: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                every = {f"{node.module}.{alias.name}" for alias in node.names}
                asked |= {one if one in names else node.module for one in every}
            elif isinstance(node, ast.Import):
                asked |= {alias.name for alias in node.names}
        found[name] = asked & set(names) - {name}
    return found


def test_no_file_imports_itself_by_way_of_others() -> None:
    found = modules()
    assert {"retable.tasks.measured", "retable.tasks.chunks"} <= found["retable.tasks.base"]
    TopologicalSorter(found).prepare()  # raises CycleError, which names the files


def test_an_import_inside_a_function_counts(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("def f():\n    from retable.run.files import read\n    import retable.data.cache\n")
    assert imported(file) == {"run", "data"}
