"""The command `retable`: what is done with finished runs."""

import argparse
import sys
from collections.abc import Sequence

from retable import __version__
from retable.commands import compare, evaluate, predict, receptive, report
from retable.errors import RetableError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `retable ...`. Exit codes: 0 done, 2 refused."""
    parser = argparse.ArgumentParser(
        "retable", description="What is done with finished runs. To train: python train.py"
    )
    parser.add_argument("--version", action="version", version=f"retable {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in (predict, evaluate, compare, report, receptive):
        command.add(commands)
    options = parser.parse_args(arguments)
    try:
        options.do(options)
    except RetableError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # `retable predict ... | head`
        sys.stderr.close()


if __name__ == "__main__":
    main()
