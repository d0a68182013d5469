"""What a signal does to a session of pytest: it breaks off a test, and nothing that pytest does after it."""

from __future__ import annotations

import atexit
import os
import signal
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import pytest

from roboticks_tasks.signals import ignore

PATIENCE = 10.0
"""Seconds in which no further signal disturbs the clean-up; a later one does what it does without us."""

ECHO = 1.0
"""Seconds in which a SIGINT behind a SIGINT, to a group and to each of its members say, counts as the same one."""

CONTROLLER = "roboticks_controller"
"""The key under which a worker of xdist gets the pid of the process that started it."""


class Stopped(KeyboardInterrupt):
    """A signal ends the tests; not an `Exception`, so that no handler in a test swallows it."""


class Stop:
    """A plugin that remembers the first signal, and lets it break off nothing but collection, set-ups and tests.

    What pytest does in between, reporting and tearing down, it does to the end; it stops before the next test.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.received: int | None = None
        self._received_at = 0.0
        self._session: pytest.Session | None = None
        self._is_worker = hasattr(config, "workerinput")
        self._workers: list[int] = []
        self._in_phase = False
        self._interrupted_at = -ECHO

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Take note of the first signal, and raise where that breaks off no clean-up."""
        if self.received is not None:
            return
        if not self._in_phase or _in_finalizer(frame):
            self._note(number)
        elif time.monotonic() - self._interrupted_at < ECHO:
            if number != signal.SIGINT:
                self._note(number)
        elif number == signal.SIGINT:
            # A test may have sent it, and expect it; else it ends the session, and we are told so.
            self._interrupted_at = time.monotonic()
            raise KeyboardInterrupt
        else:
            self._note(number)
            raise Stopped(self.reason)

    def _note(self, number: int) -> None:
        self.received, self._received_at = number, time.monotonic()
        atexit.register(ignore)  # the exit code is decided
        if self._session is not None:
            self._session.shouldstop = self.reason
        for pid in self._workers:  # the tests run there; what they report is awaited here
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    @property
    def reason(self) -> str:
        """Return the first signal as a sentence."""
        return f"stopped by {signal.Signals(self.received or 0).name}"

    @property
    def is_patient(self) -> bool:
        """Tell whether the clean-up still has time."""
        return self.received is None or time.monotonic() - self._received_at < PATIENCE

    def exit_code(self, code: int | pytest.ExitCode | None) -> int | pytest.ExitCode | None:
        """Return 128 + the signal's number, but pytest's own 2 for SIGINT; without a signal, `code`."""
        if self.received is None:
            return code
        return pytest.ExitCode.INTERRUPTED if self.received == signal.SIGINT else 128 + self.received

    @contextmanager
    def _phase(self) -> Iterator[None]:
        self._in_phase, self._interrupted_at = True, -ECHO
        try:
            if self.received is not None:
                raise Stopped(self.reason)
            yield
        finally:
            self._in_phase = False

    @contextmanager
    def _as_worker(self) -> Iterator[None]:
        """End a stopped worker as one that was told to: an interrupted one xdist replaces, and calls its test red."""
        try:
            yield
        except KeyboardInterrupt as error:
            if not self._is_worker or not self._knows(error):
                raise
            raise pytest.exit.Exception(self.reason, returncode=1) from None

    def _knows(self, error: BaseException) -> bool:
        """Tell whether a signal is behind it; a SIGINT that no test wanted is known from here on."""
        if type(error) is KeyboardInterrupt and self.received != signal.SIGINT:
            self._note(signal.SIGINT)  # whatever else has come, came behind it
        return type(error) in {KeyboardInterrupt, Stopped}

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Know the session, which is told not to go on."""
        self._session = session
        if self.received is not None:
            session.shouldstop = self.reason

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection(self) -> Generator[None, object, object]:
        """Let a signal break off the collection."""
        with self._as_worker(), self._phase():
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        """Let a worker end its tests in a way that its controller understands."""
        with self._as_worker():
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Report a test that was broken off as one that has neither passed nor failed."""
        try:
            return (yield)
        except KeyboardInterrupt as error:
            if self._knows(error):
                item.ihook.pytest_runtest_logreport(report=_broken_off(item, self.reason))
            raise

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self) -> Generator[None, None, None]:
        """Let a signal break off a set-up."""
        with self._phase():
            yield

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self) -> Generator[None, None, None]:
        """Let a signal break off a test."""
        with self._phase():
            yield

    @pytest.hookimpl(tryfirst=True)
    def pytest_fixture_setup(self) -> None:
        """Make up for a signal during the tear-down of an earlier value of the fixture."""
        if self._in_phase and self.received is not None:
            raise Stopped(self.reason)

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Take note of a SIGINT that broke off the collection."""
        self._knows(excinfo.value)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker of xdist on this machine whose child it is."""
        if node.gateway.spec.popen:
            node.workerinput[CONTROLLER] = os.getpid()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodeready(self, node: Any) -> None:
        """Remember a worker on this machine; one that is ready only after the signal is stopped at once."""
        if node.gateway.spec.popen:
            pid = node.gateway._rinfo().pid
            self._workers.append(pid)
            if self.received is not None:
                os.kill(pid, self.received)


def _in_finalizer(frame: FrameType | None) -> bool:
    """Tell whether a fixture is being torn down: a set-up begins so when the fixture has another parameter now."""
    while frame is not None:
        if frame.f_code is pytest.FixtureDef.finish.__code__:
            return True
        frame = frame.f_back
    return False


def _broken_off(item: pytest.Item, reason: str) -> pytest.TestReport:
    path, line, _ = item.location
    return pytest.TestReport(item.nodeid, item.location, {}, "skipped", (path, line or 0, reason), "call")
