"""Facts that stand in one place: a second copy of one would be the one that somebody forgets to change."""

import ast
from pathlib import Path

from retable.config import keys, weights_file
from retable.run import files

PACKAGE = Path(__file__).parents[1] / "src" / "retable"
SOURCES = [path for path in sorted(PACKAGE.rglob("*.py")) if "project" not in str(path.parent.relative_to(PACKAGE))]
IN_A_RUN = {files.RUN, files.RESULT, files.HISTORY, files.CHECKPOINT, files.PREVIOUS, files.BEST}
IN_A_RUN |= {files.IMAGES, files.LOGGERS, files.JOB, files.LOG}


def texts(path: Path) -> list[tuple[int, str]]:
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return [(node.lineno, node.value) for node in nodes if isinstance(node, ast.Constant) and type(node.value) is str]


def test_the_files_of_a_run_are_named_in_one_place() -> None:
    homes = {Path(files.__file__), Path(weights_file.__file__)}
    found = {
        f"{path.relative_to(PACKAGE)}:{line} {text}"
        for path in SOURCES
        if path not in homes
        for line, text in texts(path)
        if text in IN_A_RUN
    }
    assert found == set()


def test_each_file_is_named_once() -> None:
    named = [text for home in (files, weights_file) for _, text in texts(Path(home.__file__)) if text in IN_A_RUN]
    assert sorted(named) == sorted(IN_A_RUN)


def test_no_status_is_compared_with_a_literal() -> None:
    statuses = {*files.STATUSES, files.UNFINISHED}
    compared = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Compare) and "status" in ast.unparse(node.left)
        for other in ast.walk(node)
        if isinstance(other, ast.Constant) and isinstance(other.value, str) and other.value in statuses
    ]
    assert compared == []


def test_every_status_is_counted_once() -> None:
    assert len(set(files.STATUSES)) == len(files.STATUSES) == 7
    assert {*files.ENDED, *files.DONE} < set(files.STATUSES)


def test_no_key_of_the_scale_is_left_out_of_what_a_run_is() -> None:
    assert [key for key in keys.SCALE if not keys.is_part_of_a_run(key)] == []
