"""`retable init`: a project of one's own, with a task, a model, a table with claims, and a test."""

import argparse
import shutil
from pathlib import Path

from retable.errors import ConfigError

TEMPLATE = Path(__file__).parent / "project"


def add(commands: argparse._SubParsersAction) -> None:
    init = commands.add_parser(
        "init",
        help="make a project of your own: a task, a model, a table with claims, a test",
        description="Write a small project that can be swept and tabled at once, to be changed into your own.",
        epilog="example: retable init leaves && cd leaves && retable sweep experiment=leaves/width data=sample",
    )
    init.add_argument("folder", type=Path, help="the project's folder; new or empty")
    init.set_defaults(do=_init)


def _init(options: argparse.Namespace) -> None:
    write_project(options.folder)
    print(f"{options.folder} is a project; now:")
    print(f"  cd {options.folder}")
    print("  retable sweep experiment=leaves/width data=sample   # its table, on drawn leaves")
    print("  README.md says the rest")


def write_project(folder: Path) -> None:
    """Write the project into a folder that is new or empty. Raises ConfigError where it is neither."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: is not empty; accepted: a new or empty folder")
    try:
        shutil.copytree(TEMPLATE, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "gitignore").rename(folder / ".gitignore")  # under its own name it would be this project's
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written ({error.strerror})") from error
