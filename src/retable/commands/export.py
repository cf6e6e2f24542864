"""`retable export`: what a reader needs of finished runs, without checkpoints and events, small enough to be committed.

Of each run: run.json, result.json, history.csv, images.json and the pictures that its tables' pages show, made smaller
(WebP); of receptive field studies their JSON files and pictures. Where the runs lay and where they read their data is
left out, since it means nothing elsewhere.
"""

import argparse
import json
import math
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from retable import atomic
from retable.config.keys import NO_EFFECT, STEERING, below, key_of
from retable.errors import ConfigError, DataError, first_line
from retable.run import files

PIXELS = 500_000  # of an exported picture, which a page shows at most 576 wide
QUALITY = 40
_SAME_RUN = (files.RESULT, files.HISTORY)  # what no two runs have alike


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
        choices=("shown", "all", "none"),
        default="shown",
        help="shown (default): of the best cell, of the baseline, and what a table wants side by side, of the first"
        " seed; of runs in no table those of seed 0. all: of every run. none. All are made smaller",
    )
    export.set_defaults(do=_export)


def _export(options: argparse.Namespace) -> None:
    if not options.runs.is_dir():
        raise ConfigError(f"{options.runs}: no such folder; accepted: a sweep's folder, a task's, or a run's directory")
    found = [path.parent for path in sorted(options.runs.rglob(files.RUN))]
    for directory, fault in [(directory, fault) for directory in found if (fault := _fault(directory))]:
        print(f"left out: {directory}: {fault}", file=sys.stderr)
        found.remove(directory)
    results = {directory: files.read_result(directory) or {} for directory in found}
    done = [directory for directory, result in results.items() if result.get("status") in files.DONE]
    from retable.report.receptive_page import SUMMARY

    studies = [path.parent for path in sorted(options.runs.rglob(SUMMARY))]
    if not done and not studies:
        raise ConfigError(f"{options.runs}: no finished run; accepted: folders with {files.RESULT} in them or below")
    for directory in (directory for directory in found if directory not in done):
        print(f"left out: {directory}: {results[directory].get('status', files.UNFINISHED)}", file=sys.stderr)
    done = _each_once(done, options.folder)
    chosen = _chosen(options.runs, options.pictures, results)
    for directory in done:
        export_run(directory, options.folder, [path for path in chosen if path.parent.parent == directory])
    for directory in studies:
        export_study(directory, options.folder, options.pictures != "none")
    size = sum(file.stat().st_size for file in options.folder.rglob("*") if file.is_file())
    more = f" and {len(studies)} receptive fields" if studies else ""
    print(f"{len(done)} runs{more} in {options.folder}, {size / 1e6:.1f} MB")


def _each_once(directories: Sequence[Path], folder: Path) -> list[Path]:
    """The runs without copies of one another.  Raises: ConfigError where two runs would be written to one place."""
    kept: dict[Path, Path] = {}
    for directory in directories:
        target = _target(directory, folder)
        first = kept.setdefault(target, directory)
        if any(atomic.read_bytes(first / name) != atomic.read_bytes(directory / name) for name in _SAME_RUN):
            raise ConfigError(
                f"{first} and {directory}: both would be {target}; accepted: folders of which no two runs have one name"
            )
    return list(kept.values())


def _target(directory: Path, folder: Path) -> Path:
    return folder / str((atomic.read_json(directory / files.RUN) or {}).get("task")) / directory.name


def _fault(directory: Path) -> str:
    """What is wrong with a directory, in words; its task becomes a folder's name. "" for a run of this project."""
    run = atomic.read_json(directory / files.RUN)
    if run is None:
        return f"{files.RUN} is not whole"
    config, asked = run.get("config"), run.get("overrides", [])
    nodes = [config.get(key) for key in ("model", "data")] if isinstance(config, dict) else []
    if not nodes or not all(isinstance(node, dict | None) for node in nodes) or not isinstance(asked, list):
        return f"{files.RUN} is odd"
    if not isinstance(run.get("task"), str) or not re.fullmatch(r"\w[\w.+-]*", run["task"]):
        return f"{files.RUN} names a task that is no folder's name"
    if not (directory / files.HISTORY).exists():
        return f"{files.HISTORY} is missing"
    odd = files.history_is_odd(directory / files.HISTORY)
    return f"{files.HISTORY} {odd}" if odd else ""


def _chosen(runs: Path, which: str, results: Mapping[Path, Mapping[str, Any]]) -> list[Path]:
    """The pictures to be exported.  Args: results: by run directory; `which`: as `--pictures` has it."""
    if which == "none":
        return []
    from retable.report.evaluated import evaluate
    from retable.report.match import tables_of
    from retable.report.pictures import figures_of, kept
    from retable.report.runs import read_runs

    read = read_runs([runs])
    if which == "all":
        return [path for record in read.records for path in figures_of(record)]
    entries = [evaluate(*pair) for pair in tables_of(read)]
    shown = {record.path for found in entries for records in found.runs.cells.values() for record in records}
    others = [r for r in read.records if r.path not in shown and results.get(Path(r.path), {}).get("seed") == 0]
    return kept(entries) + [path for record in others for path in figures_of(record)]


def export_run(directory: Path, folder: Path, pictures: Sequence[Path] = ()) -> Path:
    """Copy one finished run, and of its pictures those given, to <folder>/<task>/<name>; returns that directory."""
    run = atomic.read_json(directory / files.RUN) or {}
    target = _target(directory, folder)
    atomic.write_json(target / files.RUN, portable(run))
    result = atomic.read_json(directory / files.RESULT) or {}
    atomic.write_json(target / files.RESULT, {key: value for key, value in result.items() if key != "log"})
    atomic.write_bytes(target / files.HISTORY, atomic.read_bytes(directory / files.HISTORY))
    images = atomic.read_json(directory / files.IMAGES)
    if images is not None:
        atomic.write_bytes(target / files.IMAGES, atomic.read_bytes(directory / files.IMAGES))
    small = [_shrink(picture, target / files.FIGURES / f"{picture.stem}.webp") for picture in pictures]
    from retable.report.pictures import SUFFIXES

    for old in (target / files.FIGURES).glob("*"):  # of an earlier export
        if old.suffix in SUFFIXES and old not in small and target.resolve() != directory.resolve():
            old.unlink()
    return target


def export_study(directory: Path, folder: Path, pictures: bool = True) -> Path:
    """Copy a study of a receptive field to <folder>/receptive/<name> and make its page; returns that directory."""
    from retable.report.receptive_page import write_receptive_page

    target = folder / "receptive" / directory.absolute().name
    for path in sorted(directory.glob("*.json")):
        try:
            text = atomic.read_bytes(path).decode("utf-8")
            study = atomic.json_of(text.encode("utf-8"))
            if isinstance(study, dict) and isinstance(study.get("command"), str):
                words = [_by_name(word) if "=" in word else Path(word).name for word in shlex.split(study["command"])]
                text = json.dumps(study | {"command": shlex.join(words)}, indent=1)
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: {first_line(error)}; accepted: what retable receptive has written") from error
        atomic.write_text(target / path.name, text)
    for path in sorted(directory.glob("*.png")) if pictures else ():
        _shrink(path, target / f"{path.stem}.webp")
    write_receptive_page(target)
    return target


def portable(run: dict[str, Any]) -> dict[str, Any]:
    """What run.json holds, without the paths of the machine that trained it."""
    config = dict(run.get("config") or {})
    weights = (config.get("model") or {}).get("weights")
    if isinstance(weights, str) and "/" in weights:  # its content is part of the identity
        config["model"] = config["model"] | {"weights": Path(weights).name}
    if config.get("data"):
        config["data"] = {key: value for key, value in config["data"].items() if not below(f"data.{key}", NO_EFFECT)}
    asked = [
        text
        for text in map(str, run.get("overrides") or ())
        if not below(key_of(text), (*STEERING, *NO_EFFECT, "hydra"))
    ]
    asked = [_by_name(text) if key_of(text) == "model.weights" else text for text in asked]
    return run | {"config": config, "overrides": asked}


def _by_name(override: str) -> str:
    key, _, path = override.partition("=")
    return f"{key}={Path(path).name}"


def _shrink(source: Path, target: Path) -> Path:
    from PIL import Image

    from retable.data.formats.pictures import read_image, write_picture  # which know what is none, or far too large

    small = Image.fromarray(read_image(source).transpose(1, 2, 0))
    share = min(1.0, math.sqrt(PIXELS / (small.width * small.height)))
    small = small.resize((round(small.width * share), round(small.height * share)), Image.Resampling.LANCZOS)
    write_picture(small, target, quality=QUALITY, method=6)
    return target
