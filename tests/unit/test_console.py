"""What a person sees: a live line on a terminal, plain lines elsewhere, and nothing that a device could do to it."""

from __future__ import annotations

import io
import logging
import os
import pty
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roboticks_tasks import console
from roboticks_tasks.console import DEVICE_LOGGER, log, shown, tell_steps
from roboticks_tasks.events import StepFinished, StepStarted
from tests.conditions import until

device_log = logging.getLogger(DEVICE_LOGGER)

NASTY = "\x1b]0;owned\x07\x1b[2J\r\x08\x9b31m\x00 done"
"""What a device could log: a new window title, a cleared screen, a line over ours."""

STAMP = r"\d\d:\d\d:\d\d"


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(logging, "raiseExceptions", logging.raiseExceptions)
    monkeypatch.setattr(console, "_width", lambda: 80)
    level = log.level
    yield
    log.setLevel(level)


class Terminal:
    """A pseudo terminal: `stream` is what a program writes to, `seen` what has arrived on the screen."""

    def __init__(self) -> None:
        self.screen, end = pty.openpty()
        os.set_blocking(self.screen, False)
        self.stream: TextIO = os.fdopen(end, "w", encoding="utf-8")
        self._seen = b""

    @property
    def seen(self) -> str:
        with suppress(BlockingIOError):
            while chunk := os.read(self.screen, 65536):
                self._seen += chunk
        return self._seen.decode()

    def hang_up(self) -> None:
        """Close the window."""
        os.close(self.screen)
        self.screen = -1

    def close(self) -> None:
        with suppress(OSError):
            self.stream.close()
        if self.screen >= 0:
            self.hang_up()


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.close()


def started(name: str = "await_dsn", timeout: float | None = 30) -> StepStarted:
    return StepStarted(name=name, timeout=timeout)


def finished(name: str = "await_dsn", error: str | None = None) -> StepFinished:
    return StepFinished(name=name, outcome="failed" if error else "ok", duration=1.234, error=error)


# --- a terminal -------------------------------------------------------------------------------------------------------


def test_the_live_line_shows_step_elapsed_deadline_and_the_devices_last_words(terminal: Terminal) -> None:
    with shown(stream=terminal.stream) as live:
        assert live is not None
        live(started())
        device_log.info("connecting to the platform")
        line = r"await_dsn  \d+\.\d of 30 s  connecting to the platform"
        until(lambda: re.search(line, terminal.seen), "the live line shows it")


def test_the_live_line_moves_by_itself(terminal: Terminal) -> None:
    with shown(stream=terminal.stream) as live:
        assert live is not None
        live(started(timeout=None))
        until(lambda: "await_dsn  0.2 s" in terminal.seen, "the time goes on")


def test_a_line_scrolls_by_above_the_live_line(terminal: Terminal) -> None:
    with shown(stream=terminal.stream) as live:
        assert live is not None
        live(started())
        log.info("a line of ours")
        until(lambda: re.search(rf"\r\x1b\[K{STAMP} INFO    a line of ours\r\n", terminal.seen), "the line is there")
        after = terminal.seen.rpartition("a line of ours\r\n")[2]
        assert after.startswith("\r\x1b[Kawait_dsn")


def test_the_live_line_is_gone_in_the_end(terminal: Terminal) -> None:
    with shown(stream=terminal.stream) as live:
        assert live is not None
        live(started())
        device_log.info("x")
    assert terminal.seen.endswith("\r\x1b[K")


def test_a_long_line_never_wraps(terminal: Terminal) -> None:
    with shown(stream=terminal.stream) as live:
        assert live is not None
        live(started())
        device_log.info("x" * 500)
        live(started())
    drawn = re.split(r"[\r\n]|\x1b\[K", terminal.seen)
    assert max(map(len, drawn)) <= 79


def test_while_the_tests_print_no_line_of_ours_comes_between(terminal: Terminal) -> None:
    with shown(stream=terminal.stream) as live:
        assert live is not None
        live(started("pytest_session"))
        device_log.info("the device goes on logging")
        before = terminal.seen
        live._draw()
        assert terminal.seen == before
    assert "pytest_session" not in terminal.seen


def test_a_device_cannot_reach_the_terminal(terminal: Terminal) -> None:
    with shown(stream=terminal.stream) as live:
        assert live is not None
        live(started())
        device_log.info(NASTY)
        live(started())
        device_log.info(NASTY)
        log.error("the device manager said: %s", NASTY)
        live(finished(error=NASTY))
    ours = terminal.seen.replace("\r\x1b[K", "").replace("\r\n", "")
    assert ours.isprintable(), ours
    assert "owned" in ours


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(codec="utf-8")))
def test_no_text_of_a_device_reaches_a_terminal_as_anything_but_letters(terminal: Terminal, text: str) -> None:
    with shown(stream=terminal.stream) as live:
        assert live is not None
        live(started())
        device_log.info("%s", text)
        log.warning("it said %s", text)
    assert re.sub(r"\r\x1b\[K|\r\n|\t", "", terminal.seen).isprintable()


def test_a_terminal_that_was_closed_breaks_nothing(terminal: Terminal) -> None:
    with shown(stream=terminal.stream) as live:
        assert live is not None
        live(started())
        terminal.hang_up()
        log.info("nobody reads this")
        device_log.info("nor this")
        live(finished())
        live(started("teardown"))


# --- elsewhere --------------------------------------------------------------------------------------------------------


def test_elsewhere_lines_are_plain_and_the_devices_are_marked() -> None:
    stream = io.StringIO()
    with shown(stream=stream) as live:
        assert live is None
        log.info("ours")
        device_log.info("theirs")
    ours, theirs = stream.getvalue().splitlines()
    assert re.fullmatch(rf"{STAMP} INFO    ours", ours)
    assert re.fullmatch(rf"{STAMP} device  \| theirs", theirs)


def test_a_device_cannot_write_a_line_that_looks_like_ours() -> None:
    stream = io.StringIO()
    with shown(stream=stream):
        device_log.info("x\n12:00:00 INFO    all is well\r12:00:00 INFO    really")
    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b" not in stream.getvalue()


def test_control_characters_reach_neither_the_ci_log_nor_the_file(tmp_path: Path) -> None:
    stream = io.StringIO()
    with shown(tmp_path / "test-run.log", stream=stream):
        device_log.info(NASTY)
        log.info("  %s", NASTY)
    for text in (stream.getvalue(), (tmp_path / "test-run.log").read_text()):
        assert text.replace("\n", "").isprintable()


def test_the_lines_of_a_traceback_stay_lines() -> None:
    stream = io.StringIO()
    with shown(stream=stream):
        try:
            raise ZeroDivisionError("by zero")
        except ZeroDivisionError:
            log.exception("a bug")
    lines = stream.getvalue().splitlines()
    assert lines[1] == "Traceback (most recent call last):"
    assert lines[-1] == "ZeroDivisionError: by zero"


def test_everything_is_in_the_file_too_and_an_older_log_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "test-run.log"
    path.write_text("of an earlier run\n")
    with shown(path, stream=io.StringIO()):
        log.info("ours \u2603")
        device_log.info("theirs")
    first, ours, theirs = path.read_text(encoding="utf-8").splitlines()
    assert first == "of an earlier run"
    assert ours.endswith("INFO    ours \u2603")
    assert theirs.endswith("device  | theirs")


def test_without_a_line_there_is_no_file(tmp_path: Path) -> None:
    with shown(tmp_path / "test-run.log", stream=io.StringIO()):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_takes_no_more_breaks_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log").symlink_to("/dev/full")
    stream = io.StringIO()
    with shown(tmp_path / "log", stream=stream):
        log.info("one")
        log.info("two")
    assert len(stream.getvalue().splitlines()) == 2
    assert capfd.readouterr().err == ""


def test_after_the_block_nothing_is_shown_any_more() -> None:
    before, stream = list(log.handlers), io.StringIO()
    with pytest.raises(ZeroDivisionError), shown(stream=stream):
        raise ZeroDivisionError
    log.info("too late")
    assert stream.getvalue() == ""
    assert log.handlers == before


def test_each_step_ends_with_a_line() -> None:
    stream = io.StringIO()
    with shown(stream=stream):
        tell_steps(started())
        tell_steps(finished())
        tell_steps(finished("deploy", error="it does not run"))
    fine, broken = stream.getvalue().splitlines()
    assert fine.endswith("INFO    await_dsn       ok  1.23 s")
    assert broken.endswith("ERROR   deploy          failed  1.23 s: it does not run")


def test_a_log_file_that_cannot_be_opened_ends_no_run(tmp_path: Path) -> None:
    (tmp_path / "test-run.log").mkdir()
    screen = io.StringIO()
    with shown(tmp_path / "test-run.log", stream=screen):
        log.info("still here")
    assert "still here" in screen.getvalue()
