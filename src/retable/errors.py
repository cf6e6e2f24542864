"""Errors that a user can mend: printed as one line, without a traceback."""

import contextlib
import errno
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator
from types import FrameType

_LONGEST = 2000  # characters of a reason; whoever writes more has a log for it
# Of a disk, a folder or a name that can't be written; nobody's bug.
_NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ENAMETOOLONG)
_HYDRA, _WISH = "HYDRA_FULL_ERROR", "RETABLE_FULL_ERROR"


class RetableError(Exception):
    """Base of all errors whose message alone tells the user what to do: one line, or several arguments, a line each.

    What it cites of a file or a command line may be anything: what moves a terminal's cursor is written as escapes.
    """

    def __str__(self) -> str:
        return "\n".join(printable(str(line)) for line in self.args)


class ConfigError(RetableError):
    """A key, value or combination that is not accepted; the message names it and what is."""


class DataError(RetableError):
    """A file that is missing or not what it should be; the message names the file and the fault."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, cut at 2,000 characters; its type's name where it has none.

    Characters that move a terminal's cursor, or that no file can hold, are written as escapes.
    """
    try:
        text = str(error).strip()
    except Exception:  # somebody's own __str__
        text = ""
    return shortened(text or type(error).__name__)


def shortened(text: str) -> str:
    """The first line of a text that anybody may have written, cut and escaped as `first_line` does."""
    line = next(iter(text.strip().splitlines()), "")
    return printable(line if len(line) <= _LONGEST else f"{line[:_LONGEST]}... ({len(line):,} characters)")


def in_one_line(error: BaseException, most: int = _LONGEST) -> str:
    """The whole of an error's message in one line, cut at so many characters; its type's name where it has none.

    For libraries whose first line says little, as those of parsers do.
    """
    return " ".join(str(error).split())[:most] or type(error).__name__


def printable(text: str) -> str:
    """A text in one line, in which whatever is no visible character is written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


# What the CUDA runtime, cuBLAS, cuDNN and their kin, and torch's CPU allocator say when memory is short. A handle of
# cuBLAS or cuDNN that can't be made wants for the same: its workspace is the first thing that it allocates. Where NVML
# gives no answer (slim containers, MIG), torch fails as it makes the message of its own error (pytorch#112377).
_SHORT_OF_MEMORY = ("out of memory", "ALLOC_FAILED", "ALLOCATION_FAILED", "not enough memory", "can't allocate memory")
_SHORT_OF_MEMORY += ("CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate", "CUDNN_STATUS_NOT_INITIALIZED")
_SHORT_OF_MEMORY += ("NVML_SUCCESS == ",)


def out_of_memory(error: BaseException | None) -> BaseException | None:
    """The lack of memory behind an error: itself, or what it was raised from or after; None where it is another fault.

    A CUDA graph that could not be recorded raises twice: for the lack of memory, and as the recording fails to end.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__:
            return error
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            return error
        if isinstance(error, RuntimeError) and any(word in first_line(error) for word in _SHORT_OF_MEMORY):
            return error
        error = error.__cause__ or error.__context__
    return None


def ending(code: int | None) -> str:
    """How a process ended, in words.

    >>> ending(-9), ending(3)
    ('died of SIGKILL (kill -9, or the out-of-memory killer)', 'ended with exit code 3')
    """
    if code is None:
        return "died, of what is not known: the process that had forked it was gone, too"
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        hint = " (kill -9, or the out-of-memory killer)" if name == "SIGKILL" else ""
        return f"died of {name}{hint}"
    return f"ended with exit code {code}"


def wants_all() -> bool:
    """Whether the user asks for tracebacks of what is refused, too (HYDRA_FULL_ERROR=1)."""
    return os.environ.get(_WISH, os.environ.get(_HYDRA)) == "1"


def let_hydra_raise() -> None:
    """Have Hydra raise its errors in place of printing them itself; `wants_all` keeps what the user asked for."""
    os.environ.setdefault(_WISH, os.environ.get(_HYDRA, "0"))
    os.environ[_HYDRA] = "1"


@contextlib.contextmanager
def terminated_as_by_ctrl_c() -> Iterator[None]:
    """Let SIGTERM end the block by KeyboardInterrupt, where it would end the process without a word."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextlib.contextmanager
def ending_the_program() -> Iterator[None]:
    """Let errors end the program as the command line does.

    A refusal is one line, or all of it where that is asked for, and exit code 2; Ctrl-C is 130; a place that can't be
    written is one line, too, and 1; anything else is a bug, whoever's, which keeps its traceback, and 1.
    """
    try:
        yield
    except RetableError as error:
        if wants_all():
            traceback.print_exc()
        else:
            print(error, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _NO_PLACE and not wants_all():
            print(RetableError(f"{error.filename or 'writing'}: {error.strerror}"), file=sys.stderr)
        else:
            traceback.print_exc()
        sys.exit(1)


def in_words(names: Iterable[str]) -> str:
    """Names in a sentence.

    >>> in_words(["net"]), in_words(["blocks", "loss", "net"])
    ('net', 'blocks, loss and net')
    """
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
