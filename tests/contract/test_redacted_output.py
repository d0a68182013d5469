"""Output that comes in pieces is redacted where it is written: of the tests, of a serial console, of our own log."""

from __future__ import annotations

import io
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from roboticks_tasks.console import DEVICE_LOGGER, log, say, shown
from roboticks_tasks.lifecycle.support.group import run_group
from roboticks_tasks.profiles.values import Console
from roboticks_tasks.redaction import Redactor
from roboticks_tasks.serial_console.captures import start_capture, stop_capture
from roboticks_tasks.waiting import Deadline
from tests.conditions import until
from tests.contract.terminals import Terminal, own_folder

SECRET = "correct-horse"


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """A serial port and what is behind it."""
    terminal = Terminal(tmp_path / "usb-board-0")
    yield terminal
    terminal.unplug()


def logged(path: Path, text: str) -> str:
    """Wait until `text` is in the log, and return all of it."""
    until(lambda: text in path.read_text(), f"{text!r} in the log")
    return path.read_text()


def test_the_tests_output_is_redacted_on_its_way_and_not_delayed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # The tests wait for us: what they have said must be there although the next word has begun.
    script = f"""
    printf 'correct: {SECRET[:7]}'
    until [ -e go ]; do sleep 0.01; done
    printf '%s' '{SECRET[7:]}, {SECRET[:4]}'
    """
    path = tmp_path / "log"

    def answer() -> None:
        until(lambda: path.exists() and path.read_text() == "correct: ", "the first word")
        (tmp_path / "go").touch()

    thread = threading.Thread(target=answer)
    thread.start()
    argv = ["sh", "-c", f"cd {tmp_path}; {script}"]
    files = {"log_file": path, "pid_file": tmp_path / "pid"}
    assert run_group(argv, environment=os.environ, deadline=Deadline(30), redactor=Redactor([SECRET]), **files) == 0
    thread.join()
    assert path.read_text() == "correct: ***, corr"
    assert capfd.readouterr().out == "correct: ***, corr"


def test_a_console_is_redacted_in_its_log_and_nowhere_else(
    tmp_path: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONSOLE_TOKEN", SECRET)
    late = tmp_path / "late-secret"
    path = tmp_path / "console.log"
    redactor = Redactor([SECRET], files=[late])
    with own_folder(monkeypatch):
        capture = start_capture(Console(port=str(terminal.path)), log=path, redactor=redactor)
        try:
            process = Path(f"/proc/{capture.process.pid}")
            for name in ("cmdline", "environ"):
                assert SECRET.encode() not in (process / name).read_bytes()
            assert (process / "fd" / "0").readlink() == Path(os.devnull)
            terminal.say(f"login: robot {SECRET}\r\nlater: battery-staple\r\nprompt: {SECRET[:7]}".encode())
            assert SECRET not in logged(path, "prompt: ")
            late.write_text("battery-staple")
            terminal.say(f"{SECRET[7:]} battery-st".encode())
            terminal.say(b"aple and corr")
            logged(path, "prompt: *** *** and ")
        finally:
            stop_capture(capture)
    lines = [line.split(" ", 2)[2] for line in path.read_text().splitlines()]
    assert lines == ["login: robot ***", "later: battery-staple", "prompt: *** *** and corr"]


def test_our_own_log_is_redacted_with_its_tracebacks_and_what_a_device_says(tmp_path: Path) -> None:
    screen = io.StringIO()
    with shown(tmp_path / "test-run.log", stream=screen, redactor=Redactor([SECRET])):
        try:
            raise ValueError(SECRET)
        except ValueError:
            log.exception("it said %r", {"password": SECRET})
        logging.getLogger(DEVICE_LOGGER).info("I know %s", SECRET)
    for text in (screen.getvalue(), (tmp_path / "test-run.log").read_text()):
        assert SECRET not in text
        assert "it said {'password': '***'}" in text
        assert "ValueError: ***" in text
        assert "device  | I know ***" in text


def test_a_result_is_redacted(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"failed: {SECRET}", redactor=Redactor([SECRET]))
    assert capsys.readouterr().out == "failed: ***\n"
