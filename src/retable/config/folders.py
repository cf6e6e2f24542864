"""Where options are read from: the package's conf/, and a user's own folders beside it."""

import argparse
import importlib.util
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from retable.errors import ConfigError

CONF_VARIABLE = "RETABLE_CONF"  # folders beside the package's, as PATH lists them; the command line adds to it
PATH, DIR = ("--config-path", "-cp"), ("--config-dir", "-cd")  # options of Hydra's that name a folder

_SEARCHPATH = re.compile(r"\+{0,2}hydra\.searchpath=\[?(.*?)\]?", re.DOTALL)


def config_dir() -> Path:
    """The conf/ folder that every command starts from: a whole copy in the working directory, else the package's."""
    here = Path.cwd() / "conf"
    return here if (here / "base.yaml").exists() else Path(__file__).parents[1] / "conf"


def train_command(many: bool = False) -> list[str]:
    """The words that train a run, or a sweep, in the working directory.

    A checkout has a script for it; a project of one's own has none.
    """
    if Path("train.py").is_file():
        return ["python", "train.py", *(["-m"] if many else [])]
    return ["retable", "sweep" if many else "train"]


def project_folders() -> list[Path]:
    """A project's own folders of options: those that RETABLE_CONF names, then conf/ in the working directory.

    An option of the package's stands before one of the same name.
    """
    named = [Path(name) for name in os.environ.get(CONF_VARIABLE, "").split(os.pathsep) if name]
    found = [folder.absolute() for folder in (*named, Path("conf")) if folder.is_dir()]
    return [folder for folder in dict.fromkeys(found) if not folder.samefile(config_dir())]


def note(words: Sequence[str]) -> list[str]:
    """Let whatever composes configs, in the workers too, see the folders that a command line names.

    `--config-dir DIR`, `--config-path DIR` (the same, as what is there already stays there), `hydra.searchpath=[...]`.

    Returns:
        The words that are left to Hydra, which would take `--config-path` in place of the package's folder, and no
        overrides behind a `--config-dir` that others stand before.

    Raises:
        ConfigError: for a folder that is not there, and for `--config-name`, as there is one configuration.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(*PATH, action="append", default=[])
    parser.add_argument("--config-name", "-cn", default="config")
    parser.add_argument(*DIR, action="append", default=[])
    found, rest = parser.parse_known_args(list(words))
    if found.config_name not in ("config", "config.yaml"):
        raise ConfigError(
            f"--config-name={found.config_name}: accepted: config; settings of your own for every run stand in"
            " conf/local/default.yaml"
        )
    add(found.config_path, "--config-path")
    add(found.config_dir, "--config-dir")
    searched = {word: match[1] for word in rest if (match := _SEARCHPATH.fullmatch(word))}
    for entries in searched.values():
        add(filter(None, (entry.strip("'\" ") for entry in entries.split(","))), "hydra.searchpath")
    return [word for word in rest if word not in searched]


def add(names: Iterable[str], option: str) -> None:
    """Have folders searched before those that RETABLE_CONF names already.

    Args:
        names: folders, as paths or as Hydra's search path has them.
        option: which named them, for the message.

    Raises:
        ConfigError: for one that is not there.
    """
    found = []
    for name in names:
        folder = _folder(name)
        if folder is None or not folder.is_dir():
            raise ConfigError(f"{option}: {name}: no such folder; accepted: a folder, file://FOLDER, pkg://PACKAGE")
        found.append(str(folder.absolute()))
    if found:
        before = os.environ.get(CONF_VARIABLE)
        os.environ[CONF_VARIABLE] = os.pathsep.join([*found, *([before] if before else [])])


def _folder(name: str) -> Path | None:
    """A folder as Hydra's search path names it."""
    kind, separator, path = name.partition("://")
    if not separator or kind == "file":
        return Path(path if separator else name)
    if kind != "pkg":
        return None
    package, *inner = path.replace("/", ".").split(".")
    spec = importlib.util.find_spec(package)
    roots = [] if spec is None else spec.submodule_search_locations or []
    return next((folder for root in roots if (folder := Path(root, *inner)).is_dir()), None)
