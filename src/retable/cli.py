"""The command `retable`: training and sweeping, and what is done with finished runs."""

import argparse
import os
import sys
from collections.abc import Sequence

from retable.commands import compare, evaluate, export, init, predict, receptive, report, status, table, verify, view
from retable.config import folders
from retable.errors import ending_the_program, terminated_as_by_ctrl_c
from retable.run.output import lasting_output
from retable.version import __version__

COMMANDS = (init, status, view, predict, evaluate, compare, report, table, verify, export, receptive)
TRAINING = {
    "train": "train one run: what `python train.py` does; --help lists every key",
    "sweep": "train a sweep, or a published table: what `python train.py -m` does",
    "assumptions": "train a published table again under each alternative to what its file assumes",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `retable ...`. Exit codes: 0 done, 1 a run failed, 2 refused, 130 interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] and words[0] in TRAINING:
        _train(words)
        return
    if words[:1] in (["-sc"], ["--shell-completion"]):
        _complete(words)
        return
    parser = argparse.ArgumentParser("retable", description="Ablation studies as code.")
    parser.add_argument("--version", action="version", version=f"retable {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in TRAINING.items():
        commands.add_parser(name, help=text, add_help=False)
    for command in COMMANDS:
        command.add(commands)
    for name in set(commands.choices) - set(TRAINING):
        commands.choices[name].add_argument(
            "--config-dir",
            "-cd",
            action="append",
            metavar="DIR",
            help="options of your own beside those in conf/, as `retable sweep` takes them",
        )
    options = parser.parse_args(words)
    try:
        with ending_the_program(), lasting_output(unread=False):
            folders.add(options.config_dir or (), "--config-dir")
            options.do(options)
    except BrokenPipeError:  # `retable predict ... | head`
        sys.stderr.close()


def _complete(words: list[str]) -> None:
    """Hydra's completion for a shell: `eval "$(retable -sc install=bash)"`, then keys, groups and commands."""
    from retable.config import completion
    from retable.main import main as train

    names = [*TRAINING, *(command.__name__.rpartition(".")[2] for command in COMMANDS)]
    if completion.prepare(names):
        sys.argv = ["retable", *words]
        train()


def _train(words: list[str]) -> None:
    """Hand over to Hydra, with the working directory's modules as importable as they are to a script in it."""
    with ending_the_program(), terminated_as_by_ctrl_c():
        from retable.main import main as train

    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    command, *rest = words
    if command == "assumptions":
        if not rest or "=" in rest[0] or rest[0].startswith("-"):
            print("retable assumptions EXPERIMENT [KEY=VALUE ...], e.g. cifar/blocks seeds=3", file=sys.stderr)
            sys.exit(2)
        command, rest = "sweep", [f"experiment={rest[0]}", "sweep.assumptions=true", *rest[1:]]
    shows = any(word.partition("=")[0] in ("--cfg", "-c", "--info", "-i") for word in rest)  # and trains nothing
    sys.argv = [f"retable {command}", *(["-m"] if command == "sweep" and not shows else []), *rest]
    train()


if __name__ == "__main__":
    main()
