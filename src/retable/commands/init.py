"""`retable init`: a project of one's own, with a task, a model, a table with claims, and a test."""

import argparse
import shutil
from pathlib import Path

from retable.errors import ConfigError

TEMPLATE, OF_A_MODULE = (Path(__file__).parent / name for name in ("project", "project_module"))


def add(commands: argparse._SubParsersAction) -> None:
    init = commands.add_parser(
        "init",
        help="make a project of your own: a task, a model, a table with claims, a test",
        description="Write a small project that can be swept and tabled at once, to be changed into your own.",
        epilog="example: retable init leaves && cd leaves && retable sweep experiment=leaves/width data=sample",
    )
    init.add_argument("folder", type=Path, help="the project's folder; new or empty")
    init.add_argument(
        "--module",
        action="store_true",
        help="of a LightningModule and a LightningDataModule that know nothing of retable",
    )
    init.set_defaults(do=_init)


def _init(options: argparse.Namespace) -> None:
    write_project(options.folder, OF_A_MODULE if options.module else TEMPLATE)
    print(f"{options.folder} is a project; now:")
    print(f"  cd {options.folder}")
    sample = "data.source=sample" if options.module else "data=sample"
    print(f"  retable sweep experiment=leaves/width {sample}   # its table, on drawn leaves")
    print("  README.md says the rest")


def write_project(folder: Path, template: Path = TEMPLATE) -> None:
    """Write a project into a folder that is new or empty. Raises ConfigError where it is neither."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: is not empty; accepted: a new or empty folder")
    try:
        shutil.copytree(template, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "gitignore").rename(folder / ".gitignore")  # under its own name it would be this project's
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written ({error.strerror})") from error
