"""What commands make of run directories that somebody made to do harm, or that are damaged: a line, and no harm."""

import json
import math
import os
import struct
import zlib

import pytest

from retable import cli
from retable.commands.compare import compare
from retable.commands.evaluate import settings_of
from retable.commands.export import _shrink
from retable.commands.verify import compared
from retable.errors import ConfigError
from retable.run import files
from tests.data.limits import taken

CONFIG = {"seed": 0, "task": {"name": "mnist"}, "model": {"name": "cnn"}, "data": {"name": "mnist"}}
RUN = {"name": "a", "task": "mnist", "config": CONFIG, "identity": {"seed": 0}, "overrides": ["task=mnist"]}
RESULT = {"status": "finished", "seed": 0, "epochs": 1, "metrics": {"final": {"epoch": 1, "val/accuracy": 0.5}}}


@pytest.fixture
def made(tmp_path):
    """Makes a run's directory; what is given replaces what stands in run.json and result.json."""

    def make(name: str = "a", **changed):
        directory = tmp_path / "runs" / "mnist" / name
        directory.mkdir(parents=True)
        result = changed.pop("result", {})
        (directory / files.RUN).write_text(json.dumps(RUN | changed))
        (directory / files.RESULT).write_text(json.dumps(RESULT | result))
        (directory / files.HISTORY).write_text("epoch,val/accuracy\n1,0.5\n")
        return directory

    return make


def shown(capsys, *words: str) -> tuple[int, str]:
    """Exit code, and what was printed on both streams."""
    try:
        cli.main(list(words))
        code = 0
    except SystemExit as ended:
        code = ended.code
    found = capsys.readouterr()
    return code, found.out + found.err


@pytest.mark.parametrize("task", ["../../outside", "/{}/outside", "..", "a/b", "", None, 5, ["mnist"], "a\x00b"])
def test_an_export_stays_in_its_folder(made, tmp_path, capsys, task):
    made("whole")
    bad = made("bad", task=task.format(tmp_path) if isinstance(task, str) else task)
    before = {path for path in tmp_path.rglob("*") if "out" not in path.relative_to(tmp_path).parts}
    code, text = shown(capsys, "export", str(tmp_path / "runs"), str(tmp_path / "out"), "--pictures", "none")
    assert code == 0
    assert f"left out: {bad}: run.json names a task that is no folder's name\n" in text
    after = {path for path in tmp_path.rglob("*") if "out" not in path.relative_to(tmp_path).parts}
    assert after == before
    assert [path.name for path in (tmp_path / "out").glob("*/*")] == ["whole"]


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        (files.RUN, "{", "run.json is not whole"),
        (files.RUN, {"config": 5}, "run.json is odd"),
        (files.RUN, {"config": {"model": "cnn"}}, "run.json is odd"),
        (files.RUN, {"overrides": 5}, "run.json is odd"),
        (files.HISTORY, None, "history.csv is missing"),
        (files.HISTORY, "epoch\n1\n1\n", "history.csv has epochs that do not go up"),
        (files.HISTORY, "pipe", "history.csv cannot be read (is no plain file)"),
        (files.IMAGES, "pipe", None),
    ],
)
def test_what_is_damaged_is_left_out_of_an_export_with_a_word(made, tmp_path, capsys, name, content, fault):
    directory = made()
    made("whole")
    (directory / name).unlink(missing_ok=True)
    if content == "pipe":
        os.mkfifo(directory / name)
    elif isinstance(content, dict):
        (directory / name).write_text(json.dumps(RUN | content))
    elif content is not None:
        (directory / name).write_text(content)
    code, text = shown(capsys, "export", str(tmp_path / "runs"), str(tmp_path / "out"), "--pictures", "none")
    assert code == 0
    assert "Traceback" not in text
    assert (f"left out: {directory}: {fault}" in text) == (fault is not None)
    names = {path.name for path in (tmp_path / "out" / "mnist").iterdir()}
    assert names == ({"whole"} if fault else {"a", "whole"})


def _png(width: int, height: int) -> bytes:
    """A picture of one bit a pixel, all of it black: 2,000 million pixels in 250 kB."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def test_a_picture_that_is_a_bomb_is_refused_in_a_line(tmp_path):
    picture = tmp_path / "curves.png"
    picture.write_bytes(_png(40_000, 50_000))
    found = taken(_shrink, picture, tmp_path / "curves.webp")
    assert found.outcome.startswith(f"DataError: {picture}: ")
    assert found.megabytes < 256


def test_a_place_that_cannot_be_written_is_a_line(made, tmp_path, capsys):
    made()
    code, printed = shown(capsys, "export", str(tmp_path / "runs"), "/dev/null/out", "--pictures", "none")
    assert (code, len(printed.splitlines())) == (1, 1)
    assert printed.startswith("/dev/null/out")
    assert printed.endswith(": Not a directory\n")


@pytest.mark.parametrize("text", ["{", '{"command": "retable \'receptive"}', "pipe"])
def test_a_damaged_study_is_named(tmp_path, capsys, text):
    study = tmp_path / "runs" / "receptive" / "a"
    study.mkdir(parents=True)
    (study / "receptive.json").write_text("{}")
    if text == "pipe":
        os.mkfifo(study / "theoretical.json")
    else:
        (study / "theoretical.json").write_text(text)
    code, printed = shown(capsys, "export", str(tmp_path / "runs"), str(tmp_path / "out"))
    assert (code, len(printed.splitlines())) == (2, 1)
    assert printed.startswith(f"{study / 'theoretical.json'}: ")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (files.RUN, "{", "run.json: is not whole; accepted: a run's directory"),
        (files.RUN, json.dumps({"config": 5, "identity": {}}), "run.json: is odd: config; accepted: a run's directory"),
        (files.RUN, json.dumps(RUN | {"task": "../../evil"}), "run.json: its task is none of "),
        (files.RUN, json.dumps(RUN | {"task": ["mnist"]}), "run.json: is odd: task; accepted: a run's directory"),
        (files.RUN, json.dumps(RUN), "run.json: its config has no data._target_"),
        (files.HISTORY, None, "history.csv: is missing"),
        (files.HISTORY, "epoch,val/accuracy\n1,high\n", "history.csv: is damaged (could not convert string to float"),
    ],
)
def test_verify_refuses_what_is_damaged_in_a_line(made, capsys, name, content, message):
    directory = made()
    if content is None:
        (directory / name).unlink()
    else:
        (directory / name).write_text(content)
    code, printed = shown(capsys, "verify", str(directory))
    assert code == 2
    assert printed.splitlines()[-1].startswith(f"{directory}/{message}")
    assert "Traceback" not in printed


@pytest.mark.parametrize("images", [0, -1])
def test_no_comparison_of_no_images(tmp_path, images):
    with pytest.raises(ConfigError, match=rf"^--images={images}: accepted: a whole number of at least 1$"):
        compare(None, None, tmp_path, tmp_path / "a.png", images)


@pytest.mark.parametrize("epochs", ["0", "-1"])
def test_no_verification_of_nothing_and_none_without_end(made, capsys, epochs):
    """Of no epochs all are the same; of -1 Lightning trains for ever."""
    code, printed = shown(capsys, "verify", str(made()), "--epochs", epochs)
    assert (code, printed) == (2, f"--epochs={epochs}: accepted: a whole number of at least 1\n")


def test_a_figure_that_is_none_in_both_is_the_same():
    nan = [{"epoch": 1.0, "val/loss": math.nan}]
    assert compared(nan, [dict(nan[0])], []) == ("the same, bit for bit: 2 figures of 1 epochs", True)
    assert not compared(nan, [{"epoch": 1.0, "val/loss": 0.5}], [])[1]
    assert not compared([{"epoch": 1.0, "val/loss": 0.5}], nan, [])[1]


@pytest.mark.parametrize("text", ["val=[7", "val=!!python/name:os.system", "val=2001-99-99", "val=*a"])
def test_a_setting_that_is_no_yaml_is_named(text):
    with pytest.raises(ConfigError) as caught:
        settings_of([text])
    assert str(caught.value).startswith(f"--set {text}: is no YAML (")
    assert "\n" not in str(caught.value)


def test_what_a_run_says_moves_no_cursor(made, capsys):
    made("b", result={"status": "failed", "reason": "\x1b[2J\x9b1;1Hgone\rover"}, task="\x1b]0;title\x07")
    code, printed = shown(capsys, "status", str(made().parents[1]))
    assert code == 0
    assert "\\x1b[2J\\x9b1;1Hgone\\rover" in printed
    assert not {"\x1b", "\x9b", "\r", "\x07"} & set(printed)
