"""Mutated files for every reader: nothing but a DataError may come out, quickly, and without much memory.

    python -m tests.fuzz png --count 10000           ten thousand PNG files; make fuzz FORMAT=png COUNT=10000
    python -m tests.fuzz png --only 1234             one of them again, with its traceback

    python -m tests.fuzz cifar --guided              inputs that reach new lines are mutated further, with atheris

An input is a file of the corpus, which is made on the spot in the sample sets' formats, with one to eight mutations. It
depends on the format, the seed and its number alone. Checksums and compression are made good again, so that no mutation
is caught at the door. Inputs are read in a process of its own, which is replaced where it dies or hangs.
"""

import argparse
import contextlib
import multiprocessing
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

from retable.errors import DataError
from tests.fuzz_formats import FORMATS

SECONDS = 1.0  # of processor time that one input may take
HANGS = 20.0  # seconds after which the process is ended
MEGABYTES = 256  # by which a process may grow over one input of some kB: a picture of 2**27 pixels is allowed
LONGEST = 2000  # letters of a message
# fmt: on


def made(kind: str, corpus: list[bytes], seed: int, number: int) -> bytes:
    """The input of that number."""
    draw = random.Random(f"{kind}/{seed}/{number}")
    return FORMATS[kind].mutate(draw.choice(corpus), draw)


def tried(kind: str, raw: bytes, folder: Path) -> tuple[str, str]:
    """What became of an input: (read or refused or FAULT, what else there is to say)."""
    path = folder / FORMATS[kind].name
    path.write_bytes(raw)
    before, start = _peak(reset=True), time.process_time()
    try:
        FORMATS[kind].read(path)
        outcome, message = "read", ""
    except DataError as error:
        outcome, message = "refused", str(error)
        if "\n" in message or len(message) > LONGEST or str(folder) not in message:
            return "FAULT", f"a message of {len(message)} letters: {message[:300]!r}"
    except BaseException:
        return "FAULT", traceback.format_exc()
    seconds, grown = time.process_time() - start, _peak() - before
    if seconds > SECONDS:
        return "FAULT", f"{seconds:.1f} s"
    if grown > MEGABYTES:
        return "FAULT", f"{grown:.0f} MB"
    return outcome, message


def _peak(reset: bool = False) -> float:
    """Megabytes that this process had at its most, since this was last reset."""
    if reset:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 1024


def beside(folder: Path) -> None:
    """What annotations name: two pictures, and a list of one name."""
    from PIL import Image

    for name in ("a.png", "b.png"):
        Image.new("L", (17, 12)).save(folder / name)
    (folder / "Annotations").mkdir()
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    (folder / "ImageSets" / "Main" / "train.txt").write_text("a\n")


def _work(kind: str, corpus: list[bytes], seed: int, numbers: range, folder: Path, results: Any) -> None:
    import logging
    import warnings

    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    tried(kind, corpus[0], folder)  # what is imported takes time and memory once
    results.send((-1, "ready", ""))
    for number in numbers:
        results.send((number, *tried(kind, made(kind, corpus, seed, number), folder)))
    results.send((-1, "done", ""))


def fuzz(kind: str, count: int, seed: int = 0) -> tuple[Counter[str], dict[int, str]]:
    """Try inputs of a format: how many were read, refused and at fault, and what was wrong by number."""
    corpus = FORMATS[kind].corpus()
    outcomes: Counter[str] = Counter()
    faults: dict[int, str] = {}
    context, first = multiprocessing.get_context("fork"), 0
    while first < count:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            beside(folder)
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(kind, corpus, seed, range(first, count), folder, theirs))
            process.start()
            theirs.close()
            fault = ""
            try:
                ready = False
                while ours.poll(HANGS if ready else 120):
                    number, outcome, message = ours.recv()
                    if number < 0:
                        ready = True
                        if outcome == "done":
                            break
                        continue
                    outcomes[outcome] += 1
                    first = number + 1
                    if outcome == "FAULT":
                        faults[number] = message
                else:
                    fault = f"still at it after {HANGS:g} s"
            except EOFError:
                process.join()
                fault = f"the process ended by {process.exitcode}"
            process.kill()
            process.join()
        if fault:
            outcomes["FAULT"] += 1
            faults[first] = fault
            first += 1
    return outcomes, faults


def guided(kind: str, count: int, seed: int = 0) -> None:
    """Try inputs as `fuzz` does, those that reached new lines of this project's code mutated further; ends the process.

    The first fault ends it with a traceback; its input lies in the working directory then, as crash-<hash>.
    """
    import atheris

    outcomes: Counter[str] = Counter()
    folder, corpus = Path(tempfile.mkdtemp()), Path(tempfile.mkdtemp())
    beside(folder)
    for number, raw in enumerate(FORMATS[kind].corpus()):
        (corpus / str(number)).write_bytes(raw)
    with atheris.instrument_imports(include=["retable.data", "retable.run.restore", "retable.tasks.build"]):
        tried(kind, (corpus / "0").read_bytes(), folder)  # which imports the reader

    def one(raw: bytes) -> None:
        outcome, message = tried(kind, raw, folder)
        outcomes[outcome] += 1
        if outcome == "FAULT":
            raise AssertionError(message)
        if outcomes.total() % 1000 == 0 or outcomes.total() == count:  # libFuzzer ends the process without a word
            read, refused = outcomes["read"], outcomes["refused"]
            print(
                f"{kind}, guided: {read + refused:,} inputs: {read:,} read, {refused:,} refused, 0 faults", flush=True
            )

    def mutate(raw: bytes, longest: int, number: int) -> bytes:
        draw = random.Random(number)
        if draw.random() < 0.7:
            with contextlib.suppress(Exception):  # it may be no file of this format any more
                return FORMATS[kind].mutate(raw, draw)[:longest]
        return atheris.Mutate(raw, longest)

    arguments = [f"-runs={count}", f"-seed={seed + 1}", "-max_len=65536", "-verbosity=0", str(corpus)]
    atheris.Setup([sys.argv[0], *arguments], one, custom_mutator=mutate)
    atheris.Fuzz()


def main() -> None:
    """Try one format, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("formats", nargs="*", choices=[*FORMATS, []], metavar="FORMAT", help=", ".join(FORMATS))
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--guided", action="store_true", help="by coverage, with atheris; one format")
    parser.add_argument("--only", type=int, help="the number of one input")
    options = parser.parse_args()
    wrong = False
    if options.guided:
        guided(*options.formats, count=options.count, seed=options.seed)
    for kind in options.formats or FORMATS:
        if options.only is not None:
            with tempfile.TemporaryDirectory() as folder:
                beside(Path(folder))
                raw = made(kind, FORMATS[kind].corpus(), options.seed, options.only)
                print(f"{len(raw)} bytes: {raw[:80]!r}", *tried(kind, raw, Path(folder)), sep="\n")
            continue
        start = time.perf_counter()
        outcomes, faults = fuzz(kind, options.count, options.seed)
        seconds = time.perf_counter() - start
        counts = f"{outcomes['read']:,} read, {outcomes['refused']:,} refused, {outcomes['FAULT']:,} faults"
        print(f"{kind:<17} {sum(outcomes.values()):>7,} inputs: {counts}; {seconds:.0f} s", flush=True)
        for number, message in list(faults.items())[:20]:
            wrong = True
            print(f"  --only {number} --seed {options.seed}: {message.strip().splitlines()[-1][:300]}", flush=True)
    sys.exit(wrong)


if __name__ == "__main__":
    main()
