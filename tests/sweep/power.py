"""What a loss of power may leave of a small sweep, and the same command on each of these states.

python -m tests.sweep.power FOLDER [--count 40] [--seed 0], with operations.c built and preloaded (make test-faults does
that). One sweep is recorded, operation by operation. After each of them the power may go: what was not yet synchronised
is lost, wholly or in part, within what a file system promises.

journal   names change in the order in which they were changed, and a synchronised file takes all changes of names
          before it along (ext4, XFS, Btrfs' log). The content of a file that was not synchronised may be gone, or cut.
names     each change of a name may be lost by itself, with those that rest on it, until its directory is synchronised
          (what POSIX promises); content that was not synchronised may be zeros, too.

For each state the command must end well, with the table and the histories of an undisturbed sweep; what had finished
by then is not trained again.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from retable.run import execute, lease
from retable.run.imports import import_all
from retable.sweeps.plan import Plan, Run
from retable.sweeps.pool import Outcome
from tests.sweep import operations
from tests.sweep.operations import Harness

JOURNAL, NAMES = "journal", "names"
LOST, ALL, CUT, ZEROS = "lost", "all", "cut", "zeros"  # what becomes of content that was not synchronised
SHORT = 0.3  # seconds of a lease: each state is of a host that has died with the run


class Operation(NamedTuple):
    """What a process did: create, write, truncate, sync, rename, link, unlink, mkdir or rmdir.

    Attributes:
        file: which file it was, for the first four; a number that no two files share.
        data: what was written, at `offset`, or to which length a file was cut.
        path: the name, the new one of two; "" is the folder itself.
        other: the old name of two.
    """

    kind: str
    file: int
    offset: int
    data: bytes
    path: str
    other: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        return (self.path, self.other) if self.kind in ("rename", "link") else (self.path,)

    @property
    def is_of_names(self) -> bool:
        return self.kind in ("create", "rename", "link", "unlink", "mkdir", "rmdir")


Tree = dict[str, int | None]  # by name the file, or None for a folder


def parse(recorded: bytes) -> list[Operation]:
    """Operations as operations.c has written them; inodes that were used again are other files."""
    found, files, place = [], Counter[int](), 0
    while place < len(recorded):
        end = recorded.index(b"\n", place)
        head, path, other = recorded[place:end].decode().split("\t")
        kind, inode, offset, length = head.split()
        if kind == "create":
            files[int(inode)] += 1
        file = int(inode) * 1000 + files[int(inode)]
        found.append(Operation(kind, file, int(offset), recorded[end + 1 : end + 1 + int(length)], path[1:], other[1:]))
        place = end + 1 + int(length)
    return [one for one in found if one.path or one.kind == "sync"]  # the folder itself was there


def tree_after(done: Iterable[Operation]) -> Tree:
    """The names that changes of names lead to, from an empty folder."""
    tree: Tree = {}
    for one in done:
        match one.kind:
            case "create":
                tree[one.path] = one.file
            case "mkdir":
                tree[one.path] = None
            case "link":
                tree[one.path] = tree[one.other]
            case "unlink" | "rmdir":
                tree.pop(one.path)
            case "rename":
                for name in [name for name in tree if name == one.other or name.startswith(f"{one.other}/")]:
                    tree[one.path + name.removeprefix(one.other)] = tree.pop(name)
    return tree


def content_after(done: Sequence[Operation], file: int, how: str, draw: random.Random) -> bytes:
    """A file's content after a loss of power: what was synchronised is there, what came later only as `how` says."""
    own = [one for one in done if one.file == file and one.kind in ("write", "truncate", "sync")]
    synced = max((place + 1 for place, one in enumerate(own) if one.kind == "sync"), default=0)
    pending = [one for one in own[synced:] if one.kind != "sync"]
    if how == LOST:
        pending = []
    elif how == CUT and pending:
        pending = pending[: draw.randrange(len(pending)) + 1]
        last = pending[-1]
        pending[-1] = last._replace(data=last.data[: draw.randrange(len(last.data))] if last.data else b"")
    elif how == ZEROS:
        pending = [one._replace(data=bytes(len(one.data))) for one in pending]
    content = bytearray()
    for one in [*own[:synced], *pending]:
        if one.kind == "truncate":
            del content[one.offset :]
            content.extend(bytes(one.offset - len(content)))
        elif one.kind == "write":
            content.extend(bytes(max(0, one.offset - len(content))))
            content[one.offset : one.offset + len(one.data)] = one.data
    return bytes(content)


def durable(done: Sequence[Operation], rule: str) -> set[int]:
    """The changes of names that a loss of power leaves, by their place."""
    changes = [place for place, one in enumerate(done) if one.is_of_names]
    if rule == JOURNAL:
        last = max((place for place, one in enumerate(done) if one.kind == "sync"), default=-1)
        return {place for place in changes if place < last}
    synced: dict[str, int] = {}  # by folder when it was last synchronised
    folders = {""} | {one.path for one in done if one.kind == "mkdir"}
    for place, one in enumerate(done):
        if one.kind == "sync" and one.path in folders:
            synced[one.path] = place
    kept = {p for p in changes if any(synced.get(os.path.dirname(name), -1) > p for name in done[p].names)}
    return closed(done, kept)


def closed(done: Sequence[Operation], indices: Iterable[int]) -> set[int]:
    """Changes of names with all those that they rest on: earlier ones of the same names, and of the folders above."""
    wanted = set(indices)
    for place in range(len(done) - 1, -1, -1):
        if place in wanted:
            touched = {*done[place].names, *(folder for name in done[place].names for folder in _above(name))}
            wanted |= {p for p in range(place) if done[p].is_of_names and touched & {*done[p].names}}
    return wanted


def _above(name: str) -> Iterator[str]:
    while name := os.path.dirname(name):
        yield name


def choices(done: Sequence[Operation], rule: str, draw: random.Random) -> Iterator[tuple[str, set[int]]]:
    """Which changes of names a loss of power may leave: none that it need not, all, all but one, some."""
    sure = durable(done, rule)
    pending = [place for place, one in enumerate(done) if one.is_of_names and place not in sure]
    yield "none", sure
    yield "all", sure | {*pending}
    if rule == JOURNAL:
        yield "some", sure | {*pending[: draw.randint(0, len(pending))]}
        return
    if pending:
        left_out = draw.choice(pending)
        yield "but one", {p for p in sure | {*pending} if left_out not in closed(done, [p])}
    yield "some", closed(done, sure | {place for place in pending if draw.random() < 0.5})


class State(NamedTuple):
    """What a loss of power left: folders, contents by name, and which names are of one file."""

    description: str
    tree: Tree
    contents: dict[int, bytes]

    def write(self, folder: Path) -> None:
        """Make the folder hold this state and nothing else."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        written: dict[int, Path] = {}
        for name, file in sorted(self.tree.items()):
            path = folder / name
            if file is None:
                path.mkdir()
            elif file in written:
                os.link(written[file], path)
            else:
                path.write_bytes(self.contents[file])
                written[file] = path

    @property
    def key(self) -> str:
        named = {name: None if file is None else self.contents[file] for name, file in self.tree.items()}
        return hashlib.sha256(repr(sorted(named.items())).encode()).hexdigest()


def states(
    recorded: Sequence[Operation], seed: int = 0, first: int = 1, rules: Sequence[str] = (JOURNAL, NAMES)
) -> dict[str, State]:
    """Legal states after a loss of power, each once: at every moment, by both rules, with every fate of contents.

    Args:
        first: the number of operations after which the power may go.
    """
    draw, found = random.Random(seed), dict[str, State]()
    for moment in range(first, len(recorded) + 1):
        done = recorded[:moment]
        for rule in rules:
            for which, indices in choices(done, rule, draw):
                tree = tree_after(done[place] for place in sorted(indices))
                for how in (LOST, ALL, CUT) + ((ZEROS,) if rule == NAMES else ()):
                    contents = {file: content_after(done, file, how, draw) for file in {*tree.values()} - {None}}
                    description = f"after {moment} of {len(recorded)} operations; {rule}: {which}; content: {how}"
                    state = State(description, tree, contents)
                    found.setdefault(state.key, state)
    return found


def train(plan: Plan, todo: list[Run]) -> Outcome:
    """As a sweep does, which waits for leases that another host may have."""
    for run in todo:
        while run.directory.exists() and lease.is_taken(run.directory):
            time.sleep(SHORT / 3)
    return operations.train(plan, todo)


def here(folder: Path) -> dict[str, bytes | None]:
    """What a folder holds."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def tried(harness: Harness, expected: dict[str, Any], state: State) -> str | None:
    """The same command on a state: what is wrong with the outcome, None if nothing."""
    state.write(harness.folder)
    kept = harness.results()
    ended, _ = harness.run()
    if ended != "done":
        lines = [line for line in harness.log.read_text().splitlines() if " " in line and line[0].isalpha()]  # no table
        return f"{ended}: {' / '.join(lines)[-1500:]}"
    found = harness.state()
    wrong = [key for key in expected if found[key] != expected[key]]
    results = harness.results()
    wrong += [f"{path}: trained again" for path, content in kept.items() if results.get(path) != content]
    return ", ".join(wrong) or None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, help="only so many of the states, drawn by the seed")
    parser.add_argument("--more", nargs="*", default=[], help="overrides, e.g. checkpoint.every=1h")
    parser.add_argument("--only", default="", help="those of which this is said, e.g. 'after 37 of'; leaves the last")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folder = options.folder.absolute() / "multirun"
    folder.parent.mkdir(parents=True, exist_ok=True)
    import_all()
    import torch

    torch.set_num_threads(1)
    execute._draw = operations.draw
    harness = Harness(folder, train, options.more)
    assert harness.run()[0] == "done", harness.log.read_text()  # the data come into the cache
    shutil.rmtree(folder)
    lease.host = lambda: "before"
    assert harness.run(record=True)[0] == "done", harness.log.read_text()
    lease.host, lease.LEASE = lambda: "after", SHORT  # the host has started anew
    recorded = parse(harness.recorded.read_bytes())
    expected = harness.state()
    whole = State("", tree_after(one for one in recorded if one.is_of_names), {})
    whole = whole._replace(
        contents={f: content_after(recorded, f, ALL, random.Random()) for f in {*whole.tree.values()} - {None}}
    )
    left = here(folder)
    whole.write(folder)
    assert here(folder) == left, "the record is not whole"
    found = list(states(recorded, options.seed).values())
    chosen = [state for state in found if options.only in state.description]
    if options.count is not None:
        chosen = random.Random(options.seed).sample(chosen, min(options.count, len(chosen)))
    print(json.dumps({"operations": len(recorded), "states": len(found), "seed": options.seed}), flush=True)
    bad, by_rule = 0, Counter[str]()
    for state in chosen:
        wrong = tried(harness, expected, state)
        by_rule[state.description.split("; ")[1].partition(":")[0]] += 1
        if wrong:
            bad += 1
            print(json.dumps({"state": state.description, "wrong": wrong}), flush=True)
    print(json.dumps({"tried": len(chosen), "by rule": by_rule, "not made good": bad}), flush=True)
    if not options.only:
        with contextlib.suppress(OSError):
            shutil.rmtree(options.folder)


if __name__ == "__main__":
    main()
