"""`retable export`: what a reader needs of finished runs, without checkpoints and events, small enough to be committed.

Of each run: run.json, result.json, history.csv, images.json and, of seed 0, its figures made smaller. Where the runs
lay and where they read their data is left out, since it means nothing elsewhere.
"""

import argparse
from pathlib import Path
from typing import Any

from retable import atomic
from retable.config.keys import PLACE, STEERING, below, key_of
from retable.errors import ConfigError
from retable.run import files

WIDEST = 900  # pixels of an exported figure
COLOURS = 32


def add(commands: argparse._SubParsersAction) -> None:
    export = commands.add_parser(
        "export",
        help="copy what a reader needs of finished runs into a folder that can be committed",
        description="Copy config, result and history of finished runs, and their figures made smaller; no checkpoints."
        " `retable report FOLDER` makes the tables from such a folder, `retable verify` trains one of its cells again.",
        epilog="example: retable export multirun results/epyc --pictures none",
    )
    export.add_argument("runs", type=Path, help="a sweep's folder, a task's, or a run's directory")
    export.add_argument("folder", type=Path, help="where <task>/<run> is written; what is there already is replaced")
    export.add_argument(
        "--pictures",
        choices=("small", "none"),
        default="small",
        help="figures of the runs of seed 0, made smaller (default), or none",
    )
    export.set_defaults(do=_export)


def _export(options: argparse.Namespace) -> None:
    if not options.runs.is_dir():
        raise ConfigError(f"{options.runs}: no such folder; accepted: a sweep's folder, a task's, or a run's directory")
    done = []
    for path in sorted(options.runs.rglob(files.RUN)):
        result = atomic.read_json(path.parent / files.RESULT) or {}
        if result.get("status") in files.DONE:
            done.append(
                export_run(path.parent, options.folder, options.pictures == "small" and result.get("seed") == 0)
            )
    if not done:
        raise ConfigError(f"{options.runs}: no finished run; accepted: folders with {files.RESULT} in them or below")
    size = sum(file.stat().st_size for file in options.folder.rglob("*") if file.is_file())
    print(f"{len(done)} runs in {options.folder}, {size / 1e6:.1f} MB")


def export_run(directory: Path, folder: Path, pictures: bool) -> Path:
    """Copy one finished run to <folder>/<task>/<name>; returns that directory."""
    run = atomic.read_json(directory / files.RUN) or {}
    target = folder / str(run.get("task")) / directory.name
    atomic.write_json(target / files.RUN, portable(run))
    result = atomic.read_json(directory / files.RESULT) or {}
    atomic.write_json(target / files.RESULT, {key: value for key, value in result.items() if key != "log"})
    atomic.write_text(target / files.HISTORY, (directory / files.HISTORY).read_text(encoding="utf-8"))
    if (directory / files.IMAGES).exists():
        atomic.write_text(target / files.IMAGES, (directory / files.IMAGES).read_text(encoding="utf-8"))
    for picture in sorted((directory / files.FIGURES).glob("*.png")) if pictures else ():
        _shrink(picture, target / files.FIGURES / picture.name)
    return target


def portable(run: dict[str, Any]) -> dict[str, Any]:
    """What run.json holds, without the places of the machine that trained it."""
    config = dict(run.get("config") or {})
    weights = (config.get("model") or {}).get("weights")
    if isinstance(weights, str) and "/" in weights:  # its content is part of the identity
        config["model"] = config["model"] | {"weights": Path(weights).name}
    if "data" in config:
        config["data"] = {key: value for key, value in config["data"].items() if not below(f"data.{key}", PLACE)}
    asked = [text for text in run.get("overrides") or () if not below(key_of(text), (*STEERING, *PLACE, "hydra"))]
    asked = [_by_name(text) if key_of(text) == "model.weights" else text for text in asked]
    return run | {"config": config, "overrides": asked}


def _by_name(override: str) -> str:
    key, _, path = override.partition("=")
    return f"{key}={Path(path).name}"


def _shrink(source: Path, target: Path) -> None:
    from PIL import Image

    with Image.open(source) as picture:
        small = picture.convert("RGB")
    if small.width > WIDEST:
        small = small.resize((WIDEST, round(small.height * WIDEST / small.width)), Image.Resampling.LANCZOS)
    target.parent.mkdir(parents=True, exist_ok=True)
    small.quantize(COLOURS).save(target, optimize=True)
