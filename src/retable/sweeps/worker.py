"""A worker process: imports once, keeps its task's data loaded, and takes run after run until it is asked to stop.

Forked by retable.sweeps.forkserver or started as `python -m retable.sweeps.worker`. Commands come in on standard input
and events go out on standard output, one JSON object a line. What a run prints goes to its own log.txt. When standard
input ends, the sweep that started the worker is gone, and the worker goes too: its run continues from its checkpoint
the next time.
"""

import contextlib
import faulthandler
import functools
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn, TextIO

_PROGRESS_EVERY = 0.5  # seconds between two progress events


class Worker:
    """Reads commands, does what they say, reports.

    Args:
        commands: lines {"do": "run" | "check" | "read" | "calibrate" | "compare" | "stop" | "end", ...}.
        events: where lines {"event": ...} go.
    """

    def __init__(self, commands: TextIO, events: TextIO) -> None:
        self._commands, self._events = commands, events
        self._queue: queue.Queue[dict[str, Any]] = queue.Queue()
        self._stop = threading.Event()
        self._lock = threading.Lock()

    def listen(self) -> None:
        """Take in commands from now on, in the background."""
        threading.Thread(target=self._listen, daemon=True).start()

    def serve(self) -> None:
        """Work until asked to end."""
        from retable.run.imports import import_all

        import_all()  # before the first run asks for it; nothing is left to be done in a forked worker
        self._say(event="ready")
        while (command := self._queue.get())["do"] != "end":
            getattr(self, f"_{command['do']}")(command)

    def _listen(self) -> None:
        for line in self._commands:
            command = json.loads(line)
            if command["do"] == "stop":
                self._stop.set()
            else:
                self._queue.put(command)
        os._exit(0)  # the parent has gone, or wants this process gone; nothing waits for it

    def _say(self, **event: Any) -> None:
        with self._lock, contextlib.suppress(BrokenPipeError):
            print(json.dumps(event), file=self._events, flush=True)

    def _run(self, command: dict[str, Any]) -> None:
        """Train one run, or several together (retable.run.fused)."""
        from retable.run import files, fused

        first, *others = directories = [Path(name) for name in command["directories"]]
        if not others:
            end = self._trained(first, lambda: _output_to(first / files.LOG))
            self._say(**end)
            spoilt = end.get("leaving")
        else:
            ends: list[dict[str, Any]] = []

            def work(directory: Path, output: Callable[[], Any], seat: fused.Seat | None) -> None:
                end = self._trained(directory, output, seat)
                ends.append(end)
                # The worker is of use until the last of them has ended.
                end["leaving"] = len(ends) == len(directories) and any(one.get("leaving") for one in ends)
                self._say(**end)

            seats = []
            with contextlib.ExitStack() as logs:
                for directory in directories:
                    try:
                        log = logs.enter_context((directory / files.LOG).open("a", encoding="utf-8"))
                    except OSError:
                        work(directory, lambda path=directory / files.LOG: _output_to(path), None)  # which says so
                        continue
                    its_work = functools.partial(work, directory, contextlib.nullcontext)
                    seats.append(fused.Seat(its_work, functools.partial(_printing_to, log)))
                fused.train(seats)
            spoilt = ends[-1]["leaving"]
        if spoilt:
            os._exit(0)  # the sweep ends what is left of the group, and a new worker is there at once

    def _trained(self, directory: Path, output: Callable[[], Any], seat: Any = None) -> dict[str, Any]:
        """Train a run; the event that says how it ended.

        Args:
            output: a context in which the process prints to the run's log.
            seat: see `execute`.
        """
        from retable.config.stepping import planned_epochs
        from retable.errors import out_of_memory
        from retable.run import execute, files, fused
        from retable.run.result import describe, write_failure

        self._say(event="started", directory=str(directory))
        end: dict[str, Any] = {"event": "ended", "directory": str(directory)}
        if self._stop.is_set():
            return end | {"status": files.INTERRUPTED}
        config: dict[str, Any] | None = None
        try:
            with output():
                try:
                    config = files.read_run(directory)["config"]
                    trainer, metric = config["trainer"], (config.get("task") or {}).get("metric")
                    epochs = planned_epochs(trainer["max_epochs"])
                    progress = _Progress(self, str(directory), epochs, metric, settled_after(trainer))
                    result = execute.execute(
                        config,
                        directory,
                        on_epoch=progress.epoch,
                        on_chunk=progress.chunk,
                        should_interrupt=self._stop.is_set,
                        company=seat,
                    )
                except execute.Busy:
                    raise
                except BaseException:
                    traceback.print_exc()
                    raise
        except execute.Busy:
            return end | {"event": "busy"}
        except BaseException as error:
            reason = describe(error)
            if not isinstance(error, execute.Gone) and not (directory / files.RESULT).exists():  # it had no lock yet
                write_failure(directory, reason, config)
            # sys.exit may have left anything behind, and so may a failure on a GPU, by whatever library's name it goes:
            # the context may be unusable, a recording unfinished, memory held by what the traceback holds.
            spoilt = not isinstance(error, Exception) or _has_used_cuda() or "CUDA" in reason or _has_company()
            memory = out_of_memory(error) is not None
            end |= {"status": files.FAILED, "reason": reason, "memory": memory, "leaving": spoilt}
            return end | {"fused": isinstance(error, fused.FusedStepFailed)}
        peak = (result.get("peak_memory_mb") or {}).get("gpu")
        end |= {"status": result["status"], "reason": result.get("reason")}
        return end | {"gpu_mb": peak, "leaving": _has_company()}

    def _check(self, command: dict[str, Any]) -> None:
        """Refuse what would not run, before anything does."""
        from retable.errors import RetableError
        from retable.run.assemble import check

        errors, work = {}, {}
        for directory, config in command["configs"].items():
            try:
                work[directory] = check(config).get("work")
            except RetableError as error:
                errors[directory] = str(error)
            except (Exception, SystemExit):
                continue  # no refusal: a fault that its run will tell, or a model that the meta device can't build
        self._say(event="checked", errors=errors, work=work)

    def _read(self, command: dict[str, Any]) -> None:
        """Read a config's data, whose fingerprint is noted on the way."""
        from retable.run.assemble import make_data

        self._say(event="read", error=_fault(lambda: make_data(command["config"])))

    def _compare(self, command: dict[str, Any]) -> None:
        """Draw the images on which one run did worst, under its model and another's."""
        from retable.run.compared import draw_worst

        paths = (Path(command[key]) for key in ("first", "second", "picture"))
        fault = _fault(lambda: draw_worst(*paths, command["count"], tuple(command["names"])))
        self._say(event="compared", error=fault)

    def _calibrate(self, command: dict[str, Any]) -> None:
        from retable.run.calibrate import calibrate

        try:
            estimate = calibrate(command["config"])
        except Exception as error:
            estimate = {"error": str(error)}
        self._say(event="calibrated", **estimate)


def _fault(do: Callable[[], Any]) -> str | None:
    """What goes wrong as something is done, in a line."""
    from retable.run.result import describe

    try:
        do()
    except Exception as error:
        return describe(error)
    return None


def settled_after(trainer: dict[str, Any]) -> int:
    """After how many epochs of a process a run holds all the memory that it will: of validation, and of recordings.

    Args:
        trainer: the config's.
    """
    from retable.training.captured import WARM_UP

    recorded = WARM_UP + 1 if trainer.get("cuda_graph") else 1  # at the latest, of epochs of one mini-batch
    return (trainer.get("check_val_every_n_epoch") or 1) * recorded


class _Progress:
    """Turns what a run tells about itself into events, not too many.

    Args:
        settled: epochs after which its need of a GPU's memory is known.
    """

    def __init__(
        self, worker: Worker, directory: str, epochs: int | None, metric: str | None = None, settled: int = 1
    ) -> None:
        self.worker, self.directory, self.epochs, self.metric = worker, directory, epochs, metric
        self.done, self.steps, self.last, self.unsettled = 0, 0, 0.0, settled
        self.score: dict[str, float] = {}

    def epoch(self, row: dict[str, Any]) -> None:
        from retable.config.stepping import of_planned
        from retable.run import files

        self.done, self.steps, self.unsettled = row["epoch"], 0, self.unsettled - 1
        shown = "  ".join(f"{k} {v:.4f}" for k, v in files.metrics_of(row).items())
        print(f"epoch {of_planned(row['epoch'], self.epochs)}  {shown}", flush=True)
        # The task's own metric comes first of those on validation data: accuracy, dice, mAP.
        scores = ((k, v) for k, v in row.items() if k.startswith("val/") and not k.endswith("loss") and v == v)
        own = ((k, row[k]) for k in (self.metric,) if row.get(k) is not None and row[k] == row[k])
        self.score = dict([*own, *scores][:1])
        self._report(row.get("train/loss", row.get("train_loss")))

    def chunk(self, steps: int, loss: float) -> None:
        self.steps += steps
        if time.monotonic() - self.last > _PROGRESS_EVERY:
            self._report(loss)

    def _report(self, loss: float | None) -> None:
        import torch

        self.last = time.monotonic()
        where: dict[str, Any] = {"epoch": self.done, "epochs": self.epochs, "steps": self.steps, "score": self.score}
        if torch.cuda.is_initialized():
            if self.unsettled <= 0:
                where["gpu_mb"] = torch.cuda.max_memory_reserved() / 2**20
            where["free_mb"] = torch.cuda.mem_get_info()[0] / 2**20
        self.worker._say(event="progress", directory=self.directory, **where, loss=loss)


@contextlib.contextmanager
def _output_to(path: Path) -> Any:
    """Everything printed, also by C code and by a crash's traceback, goes to the file of this name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file, _printing_to(file):
        yield


@contextlib.contextmanager
def _printing_to(file: TextIO) -> Iterator[None]:
    """The same for an open file."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    os.dup2(file.fileno(), 1)
    os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, old in enumerate(saved, start=1):
            os.dup2(old, number)
            os.close(old)


def _leave_to_parent(*streams: TextIO) -> None:
    """In a process that a run has forked: its sweep hears and speaks to the worker alone."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in streams:
        os.dup2(nothing, stream.fileno())
    os.close(nothing)


def _has_used_cuda() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and torch.cuda.is_initialized()


def _has_company() -> bool:
    """Whether a run has left processes behind: others of this one's group."""
    try:
        others = [name for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]
    except OSError:
        return False
    for name in others:
        with contextlib.suppress(OSError):
            state, _, group = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[:3]
            if int(group) == os.getpgrp() and state != "Z":
                return True
    return False


def main() -> NoReturn:
    """Serve one sweep; Ctrl-C is the sweep's business, which asks this process to stop."""
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)  # what its runs start ends with it
    commands = os.fdopen(os.dup(0), encoding="utf-8")
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)  # nothing in a run may read the commands,
    os.close(nothing)
    os.dup2(2, 1)  # and nothing that is printed outside of a run may mix with the events
    faulthandler.enable(all_threads=False)  # a crash's traceback goes where standard error goes then: the run's log
    # Logs are UTF-8 whatever the terminal is, and no character that a run prints is to end it.
    sys.stdout, sys.stderr = (
        os.fdopen(number, "w", 1, "utf-8", "backslashreplace", closefd=False) for number in (1, 2)
    )
    os.register_at_fork(after_in_child=lambda: _leave_to_parent(commands, events))
    worker = Worker(commands, events)
    worker.listen()
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    worker.serve()
    sys.stdout.flush()
    os._exit(0)  # skips the teardown of torch, which takes longer than a short run's end


if __name__ == "__main__":
    main()
