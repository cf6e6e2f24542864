"""The command `ablate`: what is done with finished runs."""

import argparse
import sys
from collections.abc import Sequence

from ablate import __version__
from ablate.commands import compare, evaluate, predict, report
from ablate.errors import AblateError
from ablate.receptive import command as receptive


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `ablate ...`. Exit codes: 0 done, 2 refused."""
    parser = argparse.ArgumentParser("ablate", description="What is done with finished runs. To train: python train.py")
    parser.add_argument("--version", action="version", version=f"ablate {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in (predict, evaluate, compare, report, receptive):
        command.add(commands)
    options = parser.parse_args(arguments)
    try:
        options.do(options)
    except AblateError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # `ablate predict ... | head`
        sys.stderr.close()


if __name__ == "__main__":
    main()
