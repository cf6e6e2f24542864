"""Behind train.py: Hydra's command line, with errors in one line."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from retable import atomic
from retable.config.compose import CONF_VARIABLE, Composer, config_dir
from retable.config.messages import CONFIG_ERRORS, one_line
from retable.config.overrides import translate
from retable.errors import RetableError
from retable.run import files


def main() -> None:
    """Run the command line in sys.argv. Exit codes: 0 done, 1 a run or the sweep failed, 2 refused, 130 interrupted."""
    asked_for_trace = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises its errors then, in place of printing them in its own way
    _note_config_folders(sys.argv[1:])
    sys.argv[1:] = _with_task(translate(sys.argv[1:]))
    try:
        hydra.main(version_base="1.3", config_path=str(config_dir().absolute()), config_name="config")(_run)()
    except RetableError as error:
        _refuse(str(error), error, asked_for_trace)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)
    except (*CONFIG_ERRORS, ValueError) as error:  # Hydra says some faults of overrides by a plain ValueError
        message = _explain(error)
        if message is None:
            raise
        _refuse(message, error, asked_for_trace)


def _note_config_folders(words: list[str]) -> None:
    """Let whatever composes configs, in the workers too, see the folders that --config-dir names."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd", action="append", default=[])
    named = [str(Path(folder).absolute()) for folder in parser.parse_known_args(words)[0].config_dir]
    if named:
        before = os.environ.get(CONF_VARIABLE)
        os.environ[CONF_VARIABLE] = os.pathsep.join([*named, *([before] if before else [])])


def _with_task(words: list[str]) -> list[str]:
    """The command line with the task that goes without saying: the resumed run's; for --help any, to show its keys."""
    if any(word.startswith(("task=", "experiment=")) for word in words):
        return words
    resume = next((word.partition("=")[2] for word in words if word.startswith("resume=")), None)
    if resume is None and not {"-h", "--help"} & set(words):
        return words
    run = atomic.read_json(Path(resume) / files.RUN) if resume else None
    return [*words, f"task={(run or {}).get('task') or Composer().options('task')[0]}"]


def _run(cfg: DictConfig) -> Any:
    """One run: by itself, or as a job of one of Hydra's launchers."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    settings = HydraConfig.get()
    config = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(config, dict)
    overrides = list(settings.overrides.task)
    from retable.run.single import run_job, run_single

    if settings.mode == RunMode.MULTIRUN:
        return run_job(config, Path(settings.runtime.output_dir))
    try:
        return run_single(config, overrides)
    except RetableError as error:  # caught here, because Hydra adds lines of its own to what leaves a job
        _refuse(str(error), error, False)


def _explain(error: BaseException) -> str | None:
    """A fault of the command line in one line that names what is accepted; None if it is none of the command line."""
    arguments = [word for word in sys.argv[1:] if "=" in word and not word.startswith("-")]
    try:
        Composer().compose([word for word in arguments if not word.lstrip("+~").startswith("hydra")])
    except RetableError as better:
        return str(better)
    return one_line(error) if isinstance(error, CONFIG_ERRORS) else None


def _refuse(message: str, error: BaseException, trace: bool) -> None:
    if trace:
        raise error
    print(message, file=sys.stderr)
    sys.exit(2)
