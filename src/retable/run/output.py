"""Standard output and standard error that stop nothing: neither by what they can't encode nor by a reader that left."""

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from retable.errors import RetableError

_ESCAPES = {code: repr(chr(code))[1:-1] for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"}


@contextlib.contextmanager
def lasting_output(unread: bool = True) -> Iterator[None]:
    """Let what is printed meanwhile never raise.

    What a stream can't encode is written with backslash escapes. When nobody reads any more (`| head -1`, a terminal
    that was closed), or nothing more can be written (a full disk), the rest goes nowhere, and the work goes on. A
    stream that was closed before (`>&-`) is nowhere, too.

    Args:
        unread: false is for commands whose only result is what they print, names from anybody's files in it. What moves
            a terminal's cursor is written as escapes then, and standard output that fails ends the command: by
            BrokenPipeError where nobody reads, else by RetableError.
    """
    _open_standard_streams()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Lasting(sys.stdout, unread, escapes=not unread), _Lasting(sys.stderr, unread)
    try:
        yield
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            sys.stdout, sys.stderr = before


def _open_standard_streams() -> None:
    """Have descriptors 0 to 2 be open, or the next files, pipes and sockets would get these numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)


class _Lasting:
    """A text stream whose `write` and `flush` do what can be done."""

    def __init__(self, stream: Any, unread: bool, escapes: bool = False) -> None:
        self._stream, self._unread, self._escapes = stream, unread, escapes

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text.translate(_ESCAPES) if self._escapes else text)
        except UnicodeEncodeError:
            encoding = self._stream.encoding or "ascii"
            return self.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except (OSError, RuntimeError) as error:
            return self._give_up(error, text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, RuntimeError) as error:
            self._give_up(error, "")

    def _give_up(self, error: OSError | RuntimeError, text: str) -> int:
        if isinstance(error, RuntimeError):
            if not str(error).startswith("reentrant call"):
                raise error
            return len(text)  # a signal's handler prints while a write waits: the handler's words can be done without
        if not self._unread:
            if isinstance(error, BrokenPipeError):
                raise error
            self._unread = True  # the rest, the traceback of this among it, goes nowhere
            self._go_nowhere()
            raise RetableError(f"standard output: cannot be written ({error.strerror or error})") from error
        self._go_nowhere()
        return len(text)

    def _go_nowhere(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())  # what the stream still holds goes there, at exit too
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def quieten_lightning() -> None:
    """Silence Lightning's advice, which is about loaders and loggers that this project does not use."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", module="lightning_fabric")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*capturable=True.*")  # the eager steps before one is recorded
