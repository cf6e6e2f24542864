"""A few mutated files of every format; `make fuzz` tries as many as are asked for (tests/fuzz.py)."""

import random

import pytest

from tests import fuzz, fuzz_formats


@pytest.fixture
def folder(tmp_path):
    fuzz.beside(tmp_path)
    return tmp_path


@pytest.mark.filterwarnings("ignore")  # the libraries' own, of damaged files
@pytest.mark.parametrize("kind", fuzz_formats.FORMATS)
def test_files_as_they_should_be_are_read_and_mutated_ones_read_or_refused(kind, folder):
    corpus = fuzz_formats.FORMATS[kind].corpus()
    assert [fuzz.tried(kind, raw, folder) for raw in corpus] == [("read", "")] * len(corpus)
    for number in range(40):
        raw = fuzz.made(kind, corpus, 1, number)
        outcome, message = fuzz.tried(kind, raw, folder)
        assert outcome != "FAULT", f"python -m tests.fuzz {kind} --seed 1 --only {number}: {message}"


def test_faults_are_found(monkeypatch):
    def read(path):
        first = path.read_bytes()[:1]
        if first == b"a":
            raise KeyError("a fault")
        if first == b"d":
            import os

            os._exit(3)

    form = fuzz_formats.Format(lambda: [b""], lambda raw, draw: draw.choice((b"a", b"d", b"x", b"y")), read)
    monkeypatch.setitem(fuzz_formats.FORMATS, "made-up", form)
    inputs = [fuzz.made("made-up", [b""], 0, number) for number in range(20)]
    outcomes, faults = fuzz.fuzz("made-up", 20)
    assert outcomes == {
        "read": inputs.count(b"x") + inputs.count(b"y"),
        "FAULT": inputs.count(b"a") + inputs.count(b"d"),
    }
    assert {number: message.splitlines()[-1] for number, message in faults.items()} == {
        number: "KeyError: 'a fault'" if raw == b"a" else "the process ended by 3"
        for number, raw in enumerate(inputs)
        if raw in (b"a", b"d")
    }


def test_an_input_depends_on_its_format_seed_and_number_alone():
    corpus = fuzz_formats.FORMATS["idx"].corpus()
    random.seed(5)
    first = fuzz.made("idx", corpus, 0, 7)
    random.seed(6)
    assert first == fuzz.made("idx", corpus, 0, 7) != fuzz.made("idx", corpus, 0, 8)
