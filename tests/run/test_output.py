"""What becomes of standard output changes nothing of the work: closed, full, read by nobody, or written from a signal's
handler while a write waits."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from retable.run.output import lasting_output

ROOT = Path(__file__).parents[2]


def run(code: str, **streams) -> subprocess.CompletedProcess:
    """Python code in a process of its own, without torch."""
    return subprocess.run(
        [sys.executable, "-c", "from retable.run.output import lasting_output\n" + code],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        **streams,
    )


WORK = "with lasting_output():\n    print('said', flush=True)\n    open({path!r}, 'w').write('done')\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_standard_output_ends_no_work(tmp_path):
    with open("/dev/full", "w") as full:
        done = run(WORK.format(path=str(tmp_path / "file")), stdout=full)
    assert (done.returncode, done.stderr, (tmp_path / "file").read_text()) == (0, "", "done")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_command_whose_result_is_what_it_prints_says_that_it_cannot(tmp_path):
    code = "from retable.cli import main\nmain(['status', 'results'])"
    with open("/dev/full", "w") as full:
        done = run(code, stdout=full)
    assert (done.returncode, done.stderr) == (2, "standard output: cannot be written (No space left on device)\n")


@pytest.mark.parametrize("closed", [(1,), (0, 1), (0, 1, 2)])
def test_closed_streams_are_nowhere_and_their_numbers_nobody_elses(tmp_path, closed):
    path = tmp_path / "file"
    code = WORK.format(path=str(path)) + f"    assert open({str(path)!r}).fileno() > 2\n"

    def close() -> None:
        for number in closed:
            os.close(number)

    done = subprocess.run(
        [sys.executable, "-c", "from retable.run.output import lasting_output\n" + code],
        cwd=ROOT,
        preexec_fn=close,
        timeout=120,
    )
    assert (done.returncode, path.read_text()) == (0, "done")


def test_a_signals_handler_prints_while_a_write_waits(monkeypatch):
    """As Ctrl-C does where a pager has stopped reading: the words are lost, the work goes on."""

    class Waiting(io.StringIO):
        fault = "reentrant call inside <_io.BufferedWriter name='<stdout>'>"

        def write(self, text):
            raise RuntimeError(self.fault)

        flush = write

    monkeypatch.setattr(sys, "stdout", Waiting())
    with lasting_output():
        sys.stdout.flush = lambda: None
        assert sys.stdout.write("Stopping") == 8
        monkeypatch.setattr(Waiting, "fault", "of another kind")
        with pytest.raises(RuntimeError, match=r"^of another kind$"):
            sys.stdout.write("Stopping")
