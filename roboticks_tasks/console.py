"""Show a run: a live line on a terminal, plain timestamped lines elsewhere, and everything in test-run.log."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from roboticks_tasks.events import Event, StepFinished, StepStarted
from roboticks_tasks.redaction import NOTHING, Redactor
from roboticks_tasks.reporting.ci_log import fit_for_log

LOGGER = "roboticks_tasks"
DEVICE_LOGGER = "roboticks_tasks.device"
FORMAT = "%(asctime)s %(levelname)-7s %(message)s"
DEVICE_FORMAT = "%(asctime)s device  | %(message)s"
SILENT_STEPS = {"pytest_session"}
"""Steps whose own output is on the screen: no line of ours in between."""

log = logging.getLogger(LOGGER)


class Formatter(logging.Formatter):
    """Mark the lines that a device logged, so that nobody takes them for ours; take out secrets, in tracebacks too."""

    def __init__(self, redactor: Redactor = NOTHING) -> None:
        super().__init__(FORMAT, datefmt="%H:%M:%S")
        self._device = logging.Formatter(DEVICE_FORMAT, datefmt="%H:%M:%S")
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, or a few of ours; whatever a device sent, nothing obeys it that shows it."""
        if record.name == DEVICE_LOGGER:
            return _shown(self._redactor.text(self._device.format(record)))
        return _shown(self._redactor.text(super().format(record)), keep="\n\t")


class LogFile(logging.FileHandler):
    """test-run.log; where it cannot be opened the run goes on without it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, if the disk takes it."""
        with suppress(OSError):
            super().emit(record)


class LiveLine(logging.Handler):
    """The last line of a terminal: step, elapsed, deadline, what the device said last. Other lines scroll above it."""

    def __init__(self, stream: TextIO, *, redactor: Redactor = NOTHING) -> None:
        super().__init__()
        self.setFormatter(Formatter(redactor))
        self._stream = stream
        self._redactor = redactor
        self._step: StepStarted | None = None
        self._begin = 0.0
        self._device_line = ""
        self._stop = threading.Event()
        threading.Thread(target=self._tick, name="live-line", daemon=True).start()

    def __call__(self, event: Event) -> None:
        """Follow the steps."""
        with self.lock or threading.RLock():
            if isinstance(event, StepStarted):
                self._step, self._begin = event, time.monotonic()
                self._device_line = ""
            elif isinstance(event, StepFinished):
                self._step = None
            self._draw()

    def emit(self, record: logging.LogRecord) -> None:
        """Let a line scroll by; what the device says only shows in the live line."""
        if record.name == DEVICE_LOGGER:
            self._device_line = self._redactor.text(record.getMessage())
            return
        self._write(f"{self.format(record)}\n")
        self._draw()

    def close(self) -> None:
        """Clear the line and stop drawing."""
        with self.lock or threading.RLock():
            self._stop.set()
            self._step = None
            self._write("")
        super().close()

    def _tick(self) -> None:
        while not self._stop.wait(0.1):
            with self.lock or threading.RLock():
                self._draw()

    def _draw(self) -> None:
        if self._stop.is_set() or (self._step and self._step.name in SILENT_STEPS):
            return
        text = ""
        if self._step is not None:
            limit = f" of {self._step.timeout:g}" if self._step.timeout else ""
            text = f"{self._step.name}  {time.monotonic() - self._begin:.1f}{limit} s  {self._device_line}"
        self._write(printable(text)[: _width() - 1])

    def _write(self, text: str) -> None:
        with suppress(OSError, ValueError):  # the terminal may be gone; the run is to be torn down all the same
            self._stream.write(f"\r\x1b[K{text}")
            self._stream.flush()


def printable(text: str, *, keep: str = "") -> str:
    """Return the text with ? for what a terminal would obey instead of show."""
    return "".join(letter if letter.isprintable() or letter in keep else "?" for letter in text)


def _shown(text: str, *, keep: str = "") -> str:
    return fit_for_log(printable(text, keep=keep), os.environ)


def say(text: str, *, redactor: Redactor = NOTHING) -> None:
    """Print a result; a reader that has gone away does not change how the command ends."""
    try:
        print(_shown(redactor.text(text), keep="\n\t"), flush=True)
    except OSError:
        # What could not be printed is still in the buffer, and would be tried again, in vain, at the very end.
        with suppress(OSError, ValueError), Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def tell_steps(event: Event) -> None:
    """Log how each step ended."""
    if isinstance(event, StepFinished):
        if event.error is None:
            log.info("%-15s %s  %.2f s", event.name, event.outcome, event.duration)
        else:
            log.error("%-15s %s  %.2f s: %s", event.name, event.outcome, event.duration, event.error)


@contextmanager
def shown(
    log_file: Path | None = None, *, stream: TextIO | None = None, redactor: Redactor = NOTHING
) -> Iterator[LiveLine | None]:
    """Send the log to the screen and to `log_file` for the block, without what `redactor` takes out.

    Yields the live line when the screen is a terminal.
    """
    stream = stream or sys.stderr
    live = LiveLine(stream, redactor=redactor) if stream.isatty() else None
    screen: logging.Handler = live or logging.StreamHandler(stream)
    handlers = [screen]
    if log_file is not None:
        handlers.append(LogFile(log_file, encoding="utf-8", errors="replace", delay=True))
    logging.raiseExceptions = False  # a full disk must not print a traceback per line
    log.setLevel(logging.INFO)
    for handler in handlers:
        handler.setFormatter(Formatter(redactor))
        log.addHandler(handler)
    try:
        yield live
    finally:
        for handler in handlers:
            log.removeHandler(handler)
            with suppress(OSError):  # what a full disk has not taken yet
                handler.close()


def _width() -> int:
    import shutil

    return shutil.get_terminal_size().columns
