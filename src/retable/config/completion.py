"""What a shell has typed so far, as Hydra's completion takes it."""

import contextlib
import os
from collections.abc import Collection, Sequence
from pathlib import PurePath

from retable.config import folders
from retable.config.compose import Composer
from retable.config.overrides import translate
from retable.errors import ConfigError

_LINE = "COMP_LINE"  # what bash, zsh and fish say the line is
_EXPERIMENT = "experiment="


def is_asked_for(words: Sequence[str]) -> bool:
    """Whether a command line installs, removes or asks for completion (`-sc install=bash`)."""
    return bool({"-sc", "--shell-completion"} & set(words))


def prepare(commands: Collection[str] = ()) -> bool:
    """Have Hydra complete the keys of a line in which no task is chosen, or a command of `retable` stands.

    Where no task is chosen the keys of the first one are shown. Options of the folders that the line names are offered.

    Args:
        commands: those of `retable` that Hydra's grammar does not know; their names are completed here.

    Returns:
        Whether Hydra is to be asked.
    """
    line = os.environ.get(_LINE)
    if line is None:
        return True
    words, new = line.split(), line[-1:] in ("", " ")
    head = 2 if PurePath(words[0]).name.startswith("python") else 1
    program, rest = words[:head], words[head:]
    if commands:
        if not rest or (len(rest) == 1 and not new):
            start = rest[0] if rest else ""
            print(" ".join(sorted(name for name in commands if name.startswith(start))))
            return False
        command, *rest = rest
        if command not in ("train", "sweep"):
            return False  # the shell completes names of files
        rest = (["-m"] if command == "sweep" else []) + rest
    last = [] if new or not rest else [rest.pop()]
    if rest[-1:] and rest[-1] in (*folders.PATH, *folders.DIR):
        return False  # the shell completes names of files
    with contextlib.suppress(ConfigError):  # which the command itself will say
        rest = folders.note(rest)
    composer = Composer()
    if last and last[0].startswith(_EXPERIMENT):  # Hydra does not look into a group's folders
        options = (f"{_EXPERIMENT}{name}" for name in composer.options("experiment"))
        print(" ".join(option for option in options if option.startswith(last[0])))
        return False
    if not any(word.startswith(("task=", _EXPERIMENT)) for word in rest):
        rest = [*rest, f"task={composer.options('task')[0]}"]
    os.environ[_LINE] = " ".join([*program, *translate(rest), *(last or [""])])
    return True
