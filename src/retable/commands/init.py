"""`retable init`: a project of one's own, with a task, a model, a table with claims, and a test."""

import argparse
import keyword
import re
import shlex
import shutil
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

from retable.errors import ConfigError

TEMPLATE, OF_A_MODULE = (Path(__file__).parent / name for name in ("project", "project_module"))
_NAME = "leaves"  # of the task in the templates; no other word of theirs is this one
_CONF = Path(__file__).parents[1] / "conf"


def add(commands: argparse._SubParsersAction) -> None:
    init = commands.add_parser(
        "init",
        help="make a project of your own: a task, a model, a table with claims, a test",
        description="Write a small project that can be swept and tabled at once, to be changed into your own.",
        epilog="example: retable init leaves && cd leaves && retable sweep experiment=leaves/width data=sample",
    )
    init.add_argument("folder", type=Path, help="the project's folder; new or empty")
    init.add_argument("--name", help="of its task and of its table's folder; by default the folder's")
    init.add_argument(
        "--module",
        action="store_true",
        help="of a LightningModule and a LightningDataModule that know nothing of retable",
    )
    init.set_defaults(do=_init)


def _init(options: argparse.Namespace) -> None:
    name = options.name or re.sub(r"\W", "_", options.folder.resolve().name)
    write_project(options.folder, name, OF_A_MODULE if options.module else TEMPLATE)
    print(f"{options.folder} is a project; now:")
    print(f"  cd {shlex.quote(str(options.folder))}")
    sample = "data.source=sample" if options.module else "data=sample"
    print(f"  retable sweep experiment={name}/width {sample}   # its table, on drawn pictures")
    print("  README.md says the rest")


def write_project(folder: Path, name: str, template: Path = TEMPLATE) -> None:
    """Write a project into a folder that is new or empty.

    Args:
        name: of its task, its module and its table's folder.

    Raises:
        ConfigError: if the folder is neither, or the name is no Python name or one that is taken.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: is not empty; accepted: a new or empty folder")
    if not (name.isascii() and name.isidentifier()) or keyword.iskeyword(name):  # Hydra's overrides take no others
        accepted = "ASCII letters, digits and _, no digit first"
        raise ConfigError(f"{name}: accepted as a task's name: {accepted}; --name sets it")
    if taken := _taken(name, template):
        raise ConfigError(f"{name}: {taken}, which a task of this name would hide; --name sets another")
    try:
        shutil.copytree(template, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "gitignore").rename(folder / ".gitignore")  # under its own name it would be this project's
        (folder / ".ci/run").chmod(0o755)  # which not every way to unpack a wheel keeps
        for path in sorted(folder.rglob("*"), reverse=True):  # what a folder holds before the folder
            if path.is_file():
                path.write_text(re.sub(rf"\b{_NAME}\b", name, path.read_text("utf-8")), "utf-8")
            path.rename(path.with_name(re.sub(rf"(?<![a-z]){_NAME}(?![a-z])", name, path.name)))
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written ({error.strerror})") from error


def _taken(name: str, template: Path) -> str | None:
    """What has this name already: an option of the package, a file of the project, or a module that is installed."""
    if (_CONF / "task" / f"{name}.yaml").exists():
        return f"the package has task={name}"
    if name != _NAME and (template / f"{name}.py").exists():
        return f"the project has {name}.py"
    modules = {"retable", *sys.stdlib_module_names, *packages_distributions()}
    return f"Python has a module {name}" if name in modules else None
