"""Standard output and standard error that stop nothing: neither by what they can't encode nor by a reader that left."""

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def lasting_output(unread: bool = True) -> Iterator[None]:
    """Let what is printed meanwhile never raise.

    What a stream can't encode is written with backslash escapes. When nobody reads any more (`| head -1`) the rest goes
    nowhere, and the work goes on.

    Args:
        unread: false raises BrokenPipeError then, for work whose only result is what it prints.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_Lasting(stream, unread) for stream in before)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


class _Lasting:
    """A text stream whose `write` and `flush` do what can be done."""

    def __init__(self, stream: Any, unread: bool) -> None:
        self._stream, self._unread = stream, unread

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except UnicodeEncodeError:
            encoding = self._stream.encoding or "ascii"
            return self.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except BrokenPipeError:
            return self._give_up(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._give_up("")

    def _give_up(self, text: str) -> int:
        if not self._unread:
            raise
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())  # what the stream still holds goes there, at exit too
        os.close(nowhere)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def quieten_lightning() -> None:
    """Lightning's advice speaks of loaders and loggers that this project does not use."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", module="lightning_fabric")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*capturable=True.*")  # the eager steps before one is recorded
