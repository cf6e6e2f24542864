"""`retable view`: what it serves and what it does not, how far runs are, and pages that follow."""

import http.client
import json
import os
import re
import threading
import time

import pytest
from filelock import FileLock

from retable import cli
from retable.commands import view
from retable.run import files
from retable.sweeps.store import Progress, runs_below


def leave(folder, task, name, *, epochs=0, planned=4, result=None, log="", overrides=()):
    """A run's directory as a sweep leaves it; an epoch trains for two seconds and validates for one."""
    directory = folder / task / name
    directory.mkdir(parents=True)
    config = {"seed": 0, "trainer": {"max_epochs": planned}}
    stated = {"name": name, "task": task, "config": config, "identity": {"seed": 0}, "overrides": list(overrides)}
    (directory / files.RUN).write_text(json.dumps(stated))
    if epochs:
        rows = "".join(f"{epoch},2.0,1.0\n" for epoch in range(1, epochs + 1))
        (directory / files.HISTORY).write_text(f"epoch,seconds/train,seconds/val\n{rows}")
        (directory / files.CHECKPOINT).write_bytes(b"")
    if result:
        (directory / files.RESULT).write_text(json.dumps(result))
    if log:
        (directory / files.LOG).write_text(log)
    return directory


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "multirun"
    leave(root, "toy", "done", epochs=4, result={"status": "finished"})
    leave(
        root,
        "toy",
        "bad",
        epochs=1,
        result={"status": "failed", "reason": "RuntimeError: <no>"},
        log="x" * 9000 + "\nTraceback",
    )
    leave(root, "toy", "waits")
    (tmp_path / "secret.txt").write_text("secret")
    (root / "leads_out").symlink_to(tmp_path / "secret.txt")
    (root / ".hidden").write_text("hidden")
    for name in ("pipe", "pipe.html"):
        os.mkfifo(root / name)
    return root


@pytest.fixture
def port(folder, monkeypatch):
    monkeypatch.setattr(view, "_EVERY", 0.0)
    server = view.serve(folder)
    assert server.server_address[0] == "127.0.0.1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


def ask(port, path, method="GET", host=None):
    """(status, headers, text) of an address, sent as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, headers={"Host": host or f"127.0.0.1:{port}"})
    answer = connection.getresponse()
    return answer.status, dict(answer.headers), answer.read().decode()


def test_the_first_page_says_how_far_runs_are_and_why_some_failed(port, folder):
    with FileLock(leave(folder, "toy", "goes", epochs=1) / files.LOCK):
        status, _, page = ask(port, "/")
    text = " ".join(re.sub(r"<(style|script)\b.*?</\1>|<[^>]+>", " ", page, flags=re.DOTALL).split())
    assert status == 200
    # 4 + 4 of the ended ones, 1 of the running one, of 16; 3 + 4 epochs of three seconds are left to one at a time.
    assert "toy 56 % 4 1 finished, 1 failed, 1 running, 1 new 21s" in text
    assert "toy/goes 1 of 4" in text
    assert "toy/bad : RuntimeError: &lt;no&gt;" in text
    assert "Traceback" in page
    assert "xxx" not in page  # a line of which only the end would be shown


def test_files_of_the_folder_are_served_as_text(port):
    status, headers, text = ask(port, "/toy/bad/log.txt")
    assert (status, text[-9:], headers["Content-type"]) == (200, "Traceback", "text/plain; charset=utf-8")
    status, _, listing = ask(port, "/toy/bad/")
    assert status == 200
    assert "log.txt" in listing


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/toy/../../secret.txt",
        "/leads_out",
        "/.hidden",
        "/toy/none",
        "//etc/hosts",
        "/%00",
        "/toy/%00.html",
        "/pipe",
        "/pipe.html",
        "/" + "a" * 5000,
        "/%ff%fe",
        "/toy/%0d%0aX-Odd:%201",
    ],
)
def test_nothing_outside_the_folder_is_served(port, path):
    status, _, text = ask(port, path)
    assert status == 404
    assert "secret" not in text.replace("secret.txt", "")


def test_other_sites_and_other_methods_are_refused(port):
    assert ask(port, "/", host="evil.example:80")[0] == 403
    assert ask(port, "/", host=f"localhost:{port}")[0] == 200
    assert ask(port, "/toy/bad/log.txt", "POST")[0] == 501
    assert ask(port, "/toy/bad/log.txt", "DELETE")[0] == 501


def test_a_served_page_follows_and_the_file_is_as_it_was(port, folder):
    page = folder / "tables" / "toy" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("<html><body>one</body></html>")
    status, headers, text = ask(port, "/tables/toy/index.html")
    assert status == 200
    assert "location.reload()" in text
    assert text.endswith("</script>\n</body></html>")
    assert ask(port, "/tables/toy/")[2] == text
    assert "script" not in page.read_text()
    os.utime(page, (time.time() + 60,) * 2)
    assert ask(port, "/tables/toy/index.html", "HEAD")[1]["Last-Modified"] != headers["Last-Modified"]


def test_pages_are_made_again_when_a_run_has_written_since(folder, monkeypatch):
    made = []
    monkeypatch.setattr("retable.commands.report.make_pages", lambda paths: made.append(paths))
    monkeypatch.setattr(view, "_EVERY", 0.0)
    monkeypatch.setattr(view, "_PAGES_EVERY", 0.0)
    watch = view.Watch(folder)

    def look():
        watch.page()
        watch._maker.join()
        return len(made)

    assert look() == 1
    assert made == [[folder]]
    assert look() == 1  # nothing new
    index = folder / "tables" / "index.html"
    index.parent.mkdir()
    index.write_text("")
    leave(folder, "toy", "next", epochs=1)
    os.utime(index, (time.time() + 60,) * 2)
    assert look() == 1  # whoever trains has made them
    os.utime(index, (1, 1))
    assert look() == 2


@pytest.mark.parametrize("method", ["GET", "HEAD"])  # whoever opens a page, and the open page as it follows
def test_a_tables_own_page_is_made_again_for_whoever_asks_for_nothing_else(port, folder, monkeypatch, method):
    page = folder / "tables" / "toy" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("<html><body>one</body></html>")
    made = threading.Event()

    def make_pages(paths):
        assert paths == [folder]
        page.write_text("<html><body>two</body></html>")
        made.set()

    monkeypatch.setattr("retable.commands.report.make_pages", make_pages)
    assert ask(port, "/tables/toy/index.html", method)[0] == 200
    assert made.wait(20)
    assert "<body>two" in ask(port, "/tables/toy/index.html")[2]


def progress(status, epoch, epochs, directory):
    return Progress(directory, "toy", (), status, epoch, epochs, None, "")


def test_time_left_is_that_of_the_epochs_left_shared_by_those_that_run(folder, tmp_path):
    one, two = (leave(folder, "toy", name, epochs=2, planned=10) for name in ("one", "two"))
    runs = [progress("running", 2, 10, one), progress("running", 2, 10, two), progress("new", 0, 10, tmp_path)]
    assert view.seconds_left(runs) == (8 + 8 + 10) * 3.0 / 2
    assert view.seconds_left(runs[2:]) is None
    # Set up in 5 s, trained in 14 s of which 12 s were its epochs, drawn in 11 s: 18 s beside the epochs.
    seconds = {"setup": 5.0, "figures": 11.0, "total": 19.0}
    ended = leave(folder, "toy", "ended", epochs=4, result={"status": "finished", "seconds": seconds})
    done = progress("finished", 4, 4, ended)
    assert view.seconds_left([*runs, done]) == ((8 + 8 + 10) * 3.0 + 3 * 18.0) / 2
    failed = leave(folder, "toy", "failed", epochs=4, result={"status": "failed", "seconds": {"total": 999.0}})
    odd = leave(folder, "toy", "odd", epochs=4, result={"status": "finished", "seconds": {"total": "long"}})
    others = [progress("failed", 4, 4, failed), progress("finished", 4, 4, odd)]
    assert view.seconds_left([*runs, done, *others]) == ((8 + 8 + 10) * 3.0 + 3 * 18.0) / 2
    over = progress("running", 10, 10, one)  # whose epochs are over: it is drawing
    assert view.seconds_left([over, runs[1], done]) == (8 * 3.0 + 2 * 18.0) / 2
    assert view.epochs_of([*runs, progress("diverged", 1, 10, tmp_path)]) == (2 + 2 + 0 + 10, 40)


def test_what_cannot_be_served_is_refused_in_one_line(port, folder, tmp_path, capsys):
    for words, message in (
        (["view", str(tmp_path / "none")], "no such folder"),
        (["view", str(folder), "--port", str(port)], f"--port {port}: Address already in use; accepted: a free port"),
        (["view", str(folder), "--port", "99999"], "--port 99999: "),
    ):
        with pytest.raises(SystemExit) as end:
            cli.main(words)
        assert end.value.code == 2
        error = capsys.readouterr().err
        assert message in error
        assert len(error.splitlines()) == 1


def test_an_empty_folder_says_so(tmp_path):
    assert "No run yet." in view.progress_page(runs_below(tmp_path), tmp_path)
