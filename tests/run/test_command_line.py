"""The command line: what is refused, by which line and exit code, and what is left of it (nothing)."""

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from retable import __version__
from retable.main import lazy_help_accepted

ROOT = Path(__file__).parents[2]
SMALL = ("data=sample", "data.fraction=0.1", "model.width=4", "trainer.max_epochs=1", "logger=none")


LRR = "optimizer.lrr: no such key; did you mean optimizer.lr? accepted: "
REFUSED = [
    ("task=mnist trainer=ddp trainer.num_nodes=2", "trainer.num_nodes=2, trainer.devices=2: nothing says which node "),
    ("task=mnist trainer.device=cpu trainer.precision=16-mixed", "trainer.precision=16-mixed: needs a GPU; accepted"),
    ("-m task=mnist dropout=0.1,0.2 optimizer.lrr=0.1", LRR),
    ("-m task=mnist seeds=2 dropout=0.1,0.2 optimizer.lrr=0.1", LRR),
    ("task=mnist optimizer.lrr=0.1", LRR),
    ("-m task=mnist --cfg job", "Only one of --run, --multirun, --cfg"),
    ("-m task=mnist dropout=0.1,0.2 hydra.foo=1", "Could not override 'hydra.foo'."),
    ("-m task=mnist dropout=0.1,0.2 modl=cnn", "modl: no such key; did you mean model? accepted: "),
    ("task=mnist optimizer.lr=0.1,0.2", "optimizer.lr=0.1,0.2: several values are a sweep; accepted: one, or"),
    (
        "experiment=cifar/dropout data=sample",
        "experiment=cifar/dropout is a sweep; accepted: retable sweep experiment=cifar/dropout data=sample, or table",
    ),
    (
        "task=mnist seeds=2",
        "seeds: only a sweep has several; accepted: retable sweep task=mnist seeds=2, or one by seed=0",
    ),
    ("task=mnist dropout=glob(*)", "dropout.p=glob(*): several values are a sweep; accepted: one, or start it with -m"),
    ("-m task=mnist dropout=glob(*)", "dropout.p=glob(*): chooses nothing; accepted: one value or more"),
    (
        "task=mnist output=${oc.env:NOPE}",
        "output: KeyError raised while resolving interpolation: \"Environment variable 'NOPE'",
    ),
    ("task=mnist output=null", "output=None: accepted: a folder"),
    ("task=mnist output='~nobodyhere/x'", "output=~nobodyhere/x: accepted: a folder; there is no home that ~ could"),
    ("-m task=mnist data.cache='~nobodyhere/x'", "data.cache=~nobodyhere/x: accepted: a folder; there is no home that"),
    ("task=mnist sweep.dir=5", "sweep.dir=5: accepted: a folder"),
    ("-m task=mnist sweep.dir=5", "sweep.dir=5: accepted: a folder"),
    ("-m task=mnist data.cache=5", "data.cache=5: accepted: a folder"),
    ("task=mnist ~seed", "~seed: cannot be left out; accepted: seed=<value>"),
    ("-m task=mnist ~seed", "~seed: cannot be left out; accepted: seed=<value>"),
    ("task=mnist ~trainer.max_epochs", "~trainer.max_epochs: cannot be left out; accepted: trainer.max_epochs=<value>"),
    ("-m task=mnist ~sweep.workers", "~sweep.workers: cannot be left out; accepted: sweep.workers=<value>"),
    ("-m task=mnist seeds=1000000000", "seeds=1000000000: accepted: at most 100,000 runs a sweep"),
    (
        "-m task=mnist dropout=range(0,1,0.000000001)",
        "dropout.p=range(0,1,0.000000001): over 100,000 values; accepted: at most 100,000 runs a sweep",
    ),
    ("-m task=mnist seeds=1000 dropout=range(0,1,0.001)", "1,000,000 runs; accepted: at most 100,000 a sweep"),
]


@pytest.mark.parametrize(("words", "message"), REFUSED, ids=[words for words, _ in REFUSED])
def test_a_fault_of_the_command_line_is_one_line_that_names_it(command, tmp_path, words, message):
    code, shown = command(*words.split())
    assert code == 2
    assert len(shown.splitlines()) == 1
    assert shown.startswith(message)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("loss=dice", "loss=dice: does not fit task=mnist (targets=(2,): accepted: (N, H, W) for outputs (N, K, H, W)"),
        ("model=segnet", "model=segnet: gives outputs of shape "),
        (
            "model=fnn model.hidden=1000000000000",
            "model=fnn: 795,000,000,000,010 parameters need 5,923,",
        ),
        ("output=/dev/null/x", "output=/dev/null/x: cannot be written (Not a directory)"),
        ("init=constant init.value=small", "init.value=small: accepted: a number in (-inf, inf)"),
    ],
)
def test_a_single_run_is_checked_as_a_sweeps_runs_are(command, tmp_path, words, message):
    code, shown = command("task=mnist", "data=sample", f"data.cache={tmp_path / 'cache'}", *words.split())
    assert (code, len(shown.splitlines())) == (2, 1), shown
    assert shown.startswith(message)
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_the_version_is_ours(command):
    assert command("--version") == (0, f"retable {__version__}")


def test_who_wants_the_traceback_of_a_refusal_gets_it(command, monkeypatch):
    monkeypatch.setenv("RETABLE_FULL_ERROR", "1")  # what HYDRA_FULL_ERROR=1 becomes
    code, shown = command("task=mnist", "output=null")
    assert code == 2
    assert shown.startswith("Traceback")
    assert shown.endswith("retable.errors.ConfigError: output=None: accepted: a folder")


def test_hydra_full_error_is_what_asks_for_it(tmp_path):
    import os

    environment = os.environ | {"HYDRA_FULL_ERROR": "1"}
    environment.pop("RETABLE_FULL_ERROR", None)
    for words in (["task=mnist", "output=null"], ["-m", "task=mnist", "seeds=0"]):
        command = [sys.executable, str(ROOT / "train.py"), *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 2
        assert "Traceback" in done.stderr


def test_a_models_own_bug_shows_its_traceback_and_where_it_is_kept(command, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT))
    faulty = ["model._target_=tests.sweep.faults.Faulty", "+model.fault=raise"]
    code, shown = command("task=mnist", *SMALL, "trainer.device=cpu", *faulty)
    assert code == 1
    assert shown.count("Traceback") == 1
    assert shown.splitlines()[-1].endswith("RuntimeError: wrong on purpose")
    (log,) = tmp_path.glob("outputs/mnist/*/*/log.txt")
    assert log.read_text().endswith("RuntimeError: wrong on purpose\n")
    assert (log.parent / "result.json").exists()


def test_hydras_parser_is_made_though_argparse_looks_into_every_help(monkeypatch):
    """Python 3.14's argparse does, and Hydra 1.3.8's help of --shell-completion is no text."""
    from hydra._internal.utils import get_args_parser

    def look(self, action):  # what 3.14's does first
        if action.help and "%" in action.help:
            action.help % {}

    def add(self, *names, **settings):
        action = add_before(self, *names, **settings)
        self._check_help(action)
        return action

    parser, add_before = argparse.ArgumentParser, argparse.ArgumentParser.add_argument
    monkeypatch.setattr(parser, "_check_help", look, raising=False)
    monkeypatch.setattr(parser, "add_argument", add)
    with pytest.raises(TypeError):
        get_args_parser()
    with lazy_help_accepted():
        assert get_args_parser().parse_args(["-m", "a=1"]).overrides == ["a=1"]
        with pytest.raises(ValueError, match="unsupported format character"):
            parser().add_argument("-x", help="100%!")
    assert parser._check_help is look


SIGNALLED = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # where the tests run in the background it is ignored
import {module}
taken = {module}.{name}
def signalled(*arguments, **settings):
    if {after}:
        taken(*arguments, **settings)
    os.kill(os.getpid(), signal.{signal})
{module}.{name} = signalled
from retable.cli import main
main(["train", *sys.argv[1:]])
"""


@pytest.mark.parametrize(
    ("number", "module", "name", "after", "more"),
    [
        ("SIGTERM", "retable.config.folders", "note", False, []),
        ("SIGTERM", "retable.run.imports", "import_all", False, []),
        ("SIGINT", "retable.run.imports", "import_all", False, ["hydra.run.dir=chosen"]),
        ("SIGTERM", "retable.run.single", "write_plan", True, ["hydra.run.dir=chosen"]),
        ("SIGINT", "retable.run.single", "write_plan", True, []),
    ],
    ids=["it begins", "it imports", "it imports with a chosen folder", "a chosen folder is written", "its is written"],
)
def test_a_run_that_is_stopped_in_its_first_seconds_says_so_and_leaves_nothing(
    tmp_path, number, module, name, after, more
):
    code = SIGNALLED.format(module=module, name=name, after=after, signal=number)
    words = ["task=mnist", *SMALL, "trainer.device=cpu", *more]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "", "interrupted")
    assert list(tmp_path.iterdir()) == []
