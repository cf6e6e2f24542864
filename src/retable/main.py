"""Behind train.py: Hydra's command line, with errors in one line."""

import argparse
import contextlib
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import hydra
from hydra.conf import HydraConf
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf

from retable import atomic
from retable.config import completion, folders
from retable.config.compose import Composer
from retable.config.keys import key_of
from retable.config.messages import CONFIG_ERRORS, one_line
from retable.config.overrides import translate
from retable.errors import ConfigError, RetableError, ending_the_program, let_hydra_raise, terminated_as_by_ctrl_c
from retable.experiment.grid import expand
from retable.run import files
from retable.run.output import lasting_output
from retable.version import __version__

# Hydra 1.3 warns of a program that does not say it, 1.4 of one that does; the defaults are the same.
_BASE: dict[str, Any] = {"version_base": "1.3"} if hydra.__version__.startswith("1.3.") else {}


def main() -> None:
    """Run the command line in sys.argv. Exit codes: 0 done, 1 a run or the sweep failed, 2 refused, 130 interrupted."""
    if "--version" in sys.argv[1:]:
        print(f"retable {__version__}")
        return
    let_hydra_raise()
    many = {"-m", "--multirun"} & set(sys.argv)  # a sweep has its own ways to be stopped
    stopped = contextlib.nullcontext() if many else terminated_as_by_ctrl_c()
    with lasting_output(), ending_the_program(), stopped, lazy_help_accepted():
        sys.argv[1:] = folders.note(sys.argv[1:])
        _refuse_unknown_keys_of_hydra(sys.argv[1:])
        if completion.is_asked_for(sys.argv[1:]) and not completion.prepare():
            return
        sys.argv[1:] = _with_task(translate(sys.argv[1:]))
        _prefer_own_sweeper()
        try:
            hydra.main(**_BASE, config_path=str(folders.config_dir().absolute()), config_name="config")(_run)()
        except (*CONFIG_ERRORS, ValueError) as error:  # Hydra says some faults of overrides by a plain ValueError
            message = _explain(error)
            if message is None:
                raise
            raise ConfigError(message) from error


@contextlib.contextmanager
def lazy_help_accepted() -> Iterator[None]:
    """Accept a help that is no text: Hydra 1.3 makes that of --shell-completion when it is shown, and argparse of
    Python 3.14 looks into every help at once."""
    check = getattr(argparse.ArgumentParser, "_check_help", None)
    if check is None:  # before 3.14
        yield
        return
    parser: Any = argparse.ArgumentParser
    parser._check_help = lambda self, action: check(self, action) if isinstance(action.help, str) else None
    try:
        yield
    finally:
        parser._check_help = check


def _prefer_own_sweeper() -> None:
    """Drop the schema that hydra-optuna-sweeper keeps under the name of our sweeper, which Hydra refuses beside a file.

    Whoever comes from a template has it installed. Other programs in the same environment are not touched.
    """
    Plugins.instance()  # imports all that are installed, which store their schemas
    ConfigStore.instance().repo.get("hydra", {}).get("sweeper", {}).pop("optuna.yaml", None)


def _refuse_unknown_keys_of_hydra(words: list[str]) -> None:
    """Hydra adds whatever `+hydra.foo=1` names to its own configuration, and reads nothing of it."""
    for word in words:
        if word.startswith(("+hydra.", "++hydra.")):
            kind: Any = HydraConf
            for part in key_of(word).split(".")[1:]:
                if not is_dataclass(kind):
                    break
                types = {field.name: field.type for field in fields(kind)}
                if part not in types:
                    raise ConfigError(f"{word}: Hydra has no such key; accepted: {', '.join(types)}")
                kind = types[part]
        elif word.startswith(("+hydra/", "++hydra/")) and key_of(word).split("/")[1] not in (
            known := _groups_of_hydra()
        ):
            groups = ", ".join(f"hydra/{name}" for name in known)
            raise ConfigError(f"{word}: there is no such group; accepted: {groups}")


def _groups_of_hydra() -> list[str]:
    """The groups below hydra/: Hydra's own, those of installed plugins, and those of this package and of the user's."""
    Plugins.instance()  # registers what plugins bring
    stored = {name for name, node in ConfigStore.instance().repo["hydra"].items() if isinstance(node, dict)}
    places = [Path(hydra.__file__).parent / "conf", folders.config_dir(), *folders.project_folders()]
    found = {path.name for place in places for path in (place / "hydra").glob("[!_]*/")}
    return sorted(stored | found)


def _with_task(words: list[str]) -> list[str]:
    """The command line with a task where none need be typed: the resumed run's; for --help any, to show its keys."""
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
    try:
        config = OmegaConf.to_container(cfg, resolve=True)
    except CONFIG_ERRORS as error:
        if settings.mode == RunMode.MULTIRUN:
            raise
        with ending_the_program():  # as below
            raise ConfigError(_explain(error) or one_line(error)) from error
    assert isinstance(config, dict)
    overrides = list(settings.overrides.task)
    from hydra_plugins.retable.plugins import conventions, is_ours, keys_given
    from retable.run.single import run_job, run_single

    directory = Path(settings.runtime.output_dir)
    if settings.mode == RunMode.MULTIRUN:
        if is_ours(settings):
            return run_job(config, directory)
        from retable.sweeps.session import run_trial

        return run_trial([*overrides, *conventions(settings)])
    with ending_the_program():  # here, because Hydra adds lines of its own to what leaves a job
        conventions(settings)
        return run_single(config, overrides, directory if "hydra.run.dir" in keys_given(settings) else None)


def _explain(error: BaseException) -> str | None:
    """A fault of the command line in one line that names what is accepted; None if it is none of the command line."""
    words = [word for word in sys.argv[1:] if "=" in word and not word.startswith("-")]
    overrides = [word for word in words if not word.lstrip("+~").startswith("hydra")]
    composer = Composer()
    try:
        if not {"-m", "--multirun"} & set(sys.argv):
            composer.compose(overrides)
        elif not any(word.startswith("hydra/sweeper=") for word in words):  # which has a grammar of its own
            composer.compose(expand(overrides, composer).points[0])
    except RetableError as better:
        return str(better)
    return one_line(error) if isinstance(error, CONFIG_ERRORS) or _is_hydras(error) else None


def _is_hydras(error: BaseException) -> bool:
    """Whether Hydra's own code raised an error: it has plain ValueErrors for some faults of the command line."""
    where = error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    return where is not None and str(where.tb_frame.f_globals.get("__name__", "")).split(".")[0] == "hydra"
