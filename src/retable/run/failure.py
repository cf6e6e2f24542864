"""How a run failed, in one line, and where that is written. No torch: the pool marks what a dead worker left."""

import contextlib
from pathlib import Path
from typing import Any

from retable import atomic
from retable.errors import RetableError
from retable.run import facts, files
from retable.run.files import FAILED


def write_failure(directory: Path, reason: str, config: dict[str, Any] | None = None) -> None:
    """Mark a run as failed with its reason, in its directory; on a full disk it stays unmarked."""
    kept = {"seed": config["seed"]} if config else {}
    failure = {"status": FAILED, "reason": reason, "log": str(directory / files.LOG), **kept}
    with contextlib.suppress(OSError):
        atomic.write_json(directory / files.RESULT, failure | {"git": facts.git(), "versions": facts.versions()})


def describe(error: BaseException) -> str:
    """An exception as a one-line reason."""
    if isinstance(error, SystemExit):
        return f"the run called sys.exit({error.code})"
    text = (str(error).strip() or "no message").splitlines()[0]
    return text if isinstance(error, RetableError) else f"{type(error).__name__}: {text}"
