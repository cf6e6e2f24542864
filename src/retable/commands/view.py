"""`retable view`: a folder of sweeps in the browser, while they train.

The first page says how far the runs are; the tables' pages are made again as runs finish, and an open page follows.
It serves what lies in the folder and nothing else, to this machine alone; the pages are plain files and need no server.
"""

import argparse
import os
import stat
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

if TYPE_CHECKING:
    from retable.sweeps.store import Progress

HOST, PORT = "127.0.0.1", 8086
_EVERY = 4.0  # seconds between two looks at the directories
_PAGES_EVERY = 20.0  # seconds between two makings of the pages, whose charts take seconds
_RECENT = 50  # finished runs from which the time beside the epochs is taken
_TAIL = 4000  # bytes of a failed run's log that are shown
_TEXT = (".yaml", ".yml", ".txt", ".log", ".csv", ".json", ".md", ".tex")
# A page that is served looks whether it has changed; one that is opened as a file has no such script.
_FOLLOW = b"""<script>
(() => {
  let seen = null;
  setInterval(async () => {
    try {
      const tag = (await fetch(location.pathname, { method: "HEAD", cache: "no-store" })).headers.get("Last-Modified");
      if (seen && tag && tag !== seen) location.reload();
      seen = tag || seen;
    } catch { /* the server is gone; the page stays */ }
  }, 5000);
})();
</script>
"""


def add(commands: argparse._SubParsersAction) -> None:
    view = commands.add_parser(
        "view",
        help="show sweeps and their tables in the browser while they train",
        description="Serve a folder's pages to this machine: how far the runs are, why some failed, and the tables,"
        " made again as runs finish. On another machine: ssh -L 8086:localhost:8086 HOST.",
        epilog="example: retable view multirun",
    )
    view.add_argument("path", type=Path, nargs="?", default=Path("multirun"), metavar="DIR", help="default: multirun")
    view.add_argument("--port", type=int, default=PORT, help=f"default: {PORT}; 0 takes a free one")
    view.set_defaults(do=_view)


def _view(options: argparse.Namespace) -> None:
    from retable.errors import ConfigError

    if not options.path.is_dir():
        raise ConfigError(f"{options.path}: no such folder; accepted: a sweep's folder, e.g. multirun")
    try:
        server = serve(options.path, options.port)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"--port {options.port}: {getattr(error, 'strerror', None) or error}; accepted: a free port, or 0"
        ) from None
    print(f"http://{HOST}:{server.server_port}/  (Ctrl-C ends it)", flush=True)
    try:
        server.serve_forever()
    finally:
        server.server_close()


def serve(folder: Path, port: int = 0) -> ThreadingHTTPServer:
    """A server of a folder on loopback, bound and not yet serving."""
    watch = Watch(folder)

    class Handler(_Handler):
        watched = watch

    return ThreadingHTTPServer((HOST, port), Handler)


class Watch:
    """What is known of a folder's runs: read at most every few seconds, by whoever asks first."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(os.path.realpath(folder))
        self._lock = threading.Lock()
        self._page, self._read, self._made = "", -_EVERY, -_PAGES_EVERY
        self._seen: Any = None
        self._maker: threading.Thread | None = None

    def page(self) -> str:
        """The first page; as a side effect the tables' pages are made again where runs have ended since."""
        with self._lock:
            if time.monotonic() - self._read >= _EVERY:
                from retable.sweeps.store import runs_below

                runs = runs_below(self.folder)
                self._page, self._read = progress_page(runs, self.folder), time.monotonic()
                self._renew([(str(run.directory), run.changed, run.status) for run in runs if run.epoch], runs)
            return self._page

    def _renew(self, state: Any, runs: "Sequence[Progress]") -> None:
        """Have the pages made in a thread, where they are older than what the runs have written."""
        if (self._maker and self._maker.is_alive()) or time.monotonic() - self._made < _PAGES_EVERY:
            return
        index = self.folder / "tables" / "index.html"
        newest = max((run.changed or 0.0 for run in runs), default=0.0)
        stale = not index.exists() or index.stat().st_mtime < newest
        if state and stale and state != self._seen:
            self._seen, self._made = state, time.monotonic()
            self._maker = threading.Thread(target=self.make_pages, daemon=True)
            self._maker.start()

    def make_pages(self) -> None:
        from retable.commands.report import make_pages
        from retable.errors import RetableError, first_line

        try:
            make_pages([self.folder])
        except RetableError:
            pass  # runs of no table have no page
        except Exception as error:  # runs that are being written, a folder that is read-only: the server goes on
            print(f"pages: {first_line(error)}", file=sys.stderr)


class _Handler(SimpleHTTPRequestHandler):
    watched: Watch
    server_version = "retable"
    sys_version = ""

    def do_GET(self) -> None:
        self._answer(super().do_GET)

    def do_HEAD(self) -> None:
        self._answer(super().do_HEAD)

    def _answer(self, files: Any) -> None:
        # A page of another site, whose name was made to lead here, is not to read what lies here.
        if (self.headers.get("Host") or "").rpartition(":")[0] not in (HOST, "localhost"):
            self.send_error(HTTPStatus.FORBIDDEN)
        elif urlsplit(self.path).path == "/":
            self._send(self.watched.page().encode(), "text/html; charset=utf-8")
        elif (path := Path(self.translate_path(self.path))).suffix == ".html" and path.is_file():
            self.watched.page()  # an open table follows although nobody asks for the first page
            page = path.read_bytes()
            self._send(page.replace(b"</body>", _FOLLOW + b"</body>", 1), "text/html; charset=utf-8", path)
        else:
            files()

    def translate_path(self, path: str) -> str:
        """The file of an address; one that does not exist for what is not to be served.

        That is what lies outside the folder, also behind a link, what is hidden, a pipe or a device, and a name that no
        file can have.
        """
        root = self.watched.folder
        self.directory = str(root)
        found = super().translate_path(path)
        try:
            real = Path(os.path.realpath(found))
            mode = os.stat(real).st_mode
        except (OSError, ValueError):
            return str(root / ".nowhere")
        inside = real.is_relative_to(root) and (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
        if not inside or any(part.startswith(".") for part in real.relative_to(root).parts):
            return str(root / ".nowhere")
        if real.is_dir() and (real / "index.html").is_file() and urlsplit(path).path.endswith("/"):
            return str(real / "index.html")
        return str(real) + ("/" if found.endswith("/") else "")

    def guess_type(self, path: Any) -> str:
        return "text/plain; charset=utf-8" if str(path).endswith(_TEXT) else super().guess_type(path)

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-cache")
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    def _send(self, body: bytes, kind: str, path: Path | None = None) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if path:
            self.send_header("Last-Modified", self.date_time_string(path.stat().st_mtime))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def progress_page(runs: "Sequence[Progress]", folder: Path) -> str:
    """How far the runs are, as a page."""
    from retable.report.page import environment
    from retable.run.files import BROKEN, FAILED, RUNNING, STATUSES
    from retable.sweeps.display import duration

    groups: dict[str, list[Progress]] = {}
    for run in runs:
        for name in (run.task, *run.tables):
            groups.setdefault(name, []).append(run)
    lines = []
    for name, own in sorted(groups.items()):
        counts = Counter(run.status for run in own)
        table = folder / "tables" / name / "index.html"
        done, planned = epochs_of(own)
        lines.append(
            {
                "name": name,
                "href": f"tables/{quote(name)}/index.html" if table.exists() else "",
                "counts": [(counts[status], status) for status in STATUSES if counts[status]],
                "runs": len(own),
                "share": done / planned if planned else 0.0,
                "left": duration(seconds_left(own)) if counts[RUNNING] else "",
            }
        )
    return (
        environment()
        .get_template("progress.html")
        .render(
            folder=folder.name,
            every=int(_EVERY * 1000),
            lines=lines,
            index=(folder / "tables" / "index.html").exists(),
            running=[_line(run, folder) for run in runs if run.status == RUNNING],
            failed=[
                _line(run, folder) | {"log": tail(run.directory)} for run in runs if run.status in (FAILED, BROKEN)
            ],
        )
    )


def _line(run: "Progress", folder: Path) -> dict[str, Any]:
    from retable.sweeps.display import duration

    path = Path(os.path.relpath(run.directory, folder)).as_posix()
    ago = time.time() - run.changed if run.changed else None
    return {
        "name": run.directory.name,
        "task": run.task,
        "href": quote(path) + "/",
        "epoch": run.epoch,
        "epochs": run.epochs or "?",
        "share": run.epoch / run.epochs if run.epochs else 0.0,
        "ago": f"{duration(ago)} ago" if ago is not None else "",
        "status": run.status,
        "reason": run.reason,
    }


def epochs_of(runs: "Sequence[Progress]") -> tuple[int, int]:
    """(epochs that are done, epochs that were planned); what has ended, early or not, is done."""
    from retable.run.files import BROKEN, ENDED

    planned = sum(run.epochs or 0 for run in runs)
    ended = (*ENDED, BROKEN)
    return sum((run.epochs or 0) if run.status in ended else min(run.epoch, run.epochs or 0) for run in runs), planned


def seconds_left(runs: "Sequence[Progress]") -> float | None:
    """Seconds until the runs have ended, with as many at a time as now; None while no epoch was timed.

    An epoch yet to come lasts as long as the mean of those that the running ones, else all, have finished; what a run
    does beside its epochs, as long as the mean of the finished ones.
    """
    from retable.run.files import INTERRUPTED, NEW, RUNNING

    running = [run for run in runs if run.status == RUNNING]
    if not running:  # before any history is read
        return None
    going = [run for run in runs if run.status in (RUNNING, INTERRUPTED, NEW)]
    if not all(run.epochs for run in going):
        return None  # nobody knows how many epochs max_steps or max_time leave
    times = epoch_seconds(running) or epoch_seconds(runs)
    if not times:
        return None
    left = sum(max(0, run.epochs - run.epoch) for run in going)
    return (left * fmean(times) + len(going) * seconds_beside(runs)) / len(running)


def seconds_beside(runs: "Sequence[Progress]") -> float:
    """Seconds that finished runs took beside their epochs, in the mean: set up, figures; 0 where none has said so."""
    from retable.run import files

    found = []
    finished = sorted((run for run in runs if run.status == files.FINISHED), key=lambda run: run.changed or 0.0)
    for run in finished[-_RECENT:]:  # of thousands, reading all would take longer than the page may
        result = files.read_result(run.directory)
        seconds = result.get("seconds") if result else None
        parts = [seconds.get("total"), seconds.get("figures", 0.0)] if isinstance(seconds, dict) else [None]
        if all(isinstance(part, int | float) for part in parts):
            found.append(max(0.0, sum(parts) - sum(epoch_seconds([run]))))
    return fmean(found) if found else 0.0


def epoch_seconds(runs: "Sequence[Progress]") -> list[float]:
    """Seconds of each epoch that runs have finished, training and validation."""
    from retable.run import files

    found = []
    for run in runs:
        try:
            rows = files.read_history(run.directory / files.HISTORY)
        except (OSError, ValueError, TypeError):
            continue
        found += [
            row["seconds/train"] + row.get("seconds/val", 0.0) for row in rows if row.get("seconds/train") is not None
        ]
    return found


def tail(directory: Path) -> str:
    """The end of a run's log, whole lines; empty where there is none."""
    from retable.atomic import read_bytes
    from retable.run import files

    try:
        found = read_bytes(directory / files.LOG, _TAIL + 1)
    except OSError:
        return ""
    text = found.decode("utf-8", "replace")
    return text if len(found) <= _TAIL else text.partition("\n")[2]
