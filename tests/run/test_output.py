"""What becomes of standard output changes nothing of the work: closed, full, read by nobody, or written from a signal's
handler while a write waits."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

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


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_signals_handler_prints_while_a_write_waits():
    """As Ctrl-C does where a pager has stopped reading: the words are lost, the work goes on."""
    code = """
import signal, sys
def stop(number, frame):
    print("Stopping", flush=True)
    print("handled", file=sys.stderr, flush=True)
signal.signal(signal.SIGINT, stop)
with lasting_output():
    print("begun", flush=True)
    print("x" * 2_000_000, flush=True)
    print("ended", flush=True)
"""
    child = subprocess.Popen(
        [sys.executable, "-c", "from retable.run.output import lasting_output\n" + code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout.readline() == "begun\n"
    handled = threading.Thread(target=child.stderr.readline)
    handled.start()
    deadline = time.monotonic() + 600
    while handled.is_alive():  # by then it waits for somebody to read
        time.sleep(0.2)
        child.send_signal(signal.SIGINT)
        assert time.monotonic() < deadline
    shown = []
    reader = threading.Thread(target=lambda: shown.append(child.stdout.read()))
    reader.start()
    reader.join(60)
    assert child.wait(60) == 0, child.stderr.read()
    assert shown[0].splitlines()[-1] == "ended"
    assert shown[0].count("x") == 2_000_000
