"""Follow one device manager through what it writes, and say what was last seen on every side."""

from __future__ import annotations

import logging
import re
from collections import deque
from typing import NamedTuple

import msgspec

from roboticks_tasks import processes
from roboticks_tasks.backend import open_client
from roboticks_tasks.backend.local import check_local
from roboticks_tasks.bounded import narrow
from roboticks_tasks.errors import BackendError, ConfigError, TargetError, Verdict
from roboticks_tasks.lifecycle.support.echo import Echo
from roboticks_tasks.lifecycle.support.pacing import FIRST as NEAR
from roboticks_tasks.lifecycle.support.pacing import Pacing
from roboticks_tasks.models import BackendRef, Composition, DeviceManager
from roboticks_tasks.targets import Target
from roboticks_tasks.targets.detached import Detached
from roboticks_tasks.targets.watch import Position, watch

log = logging.getLogger(__name__)

PATIENCE = 0.1
"""Seconds that one look may block; a change ends it at once, and what cannot be watched is asked in between."""

LONGEST_LINE = 65_536
"""Bytes after which a line of a log counts as one, end or no end: a device may send none at all."""


BLAME = {
    "bad-configuration": Verdict.CONFIG_ERROR,
    "platform-unreachable": Verdict.BACKEND_ERROR,
    "project-secret-missing": Verdict.CONFIG_ERROR,
    "project-secret-refused": Verdict.CONFIG_ERROR,
    "registration-refused": Verdict.BACKEND_ERROR,
}
"""Whose fault a device manager's error is; the codes are our choice, and every other one is the bench's."""


class ReportedError(msgspec.Struct, frozen=True):
    """What a device manager says went wrong."""

    code: str = ""
    message: str = ""


class ReportedSession(msgspec.Struct, frozen=True):
    """The session that a device manager has."""

    id: str
    status: str = "active"


class ReportedState(msgspec.Struct, frozen=True):
    """The state file: one line of JSON. The format is our choice; keys that are not here are somebody else's."""

    phase: str = ""
    dsn: str | None = None
    error: ReportedError | None = None
    session: ReportedSession | None = None
    compositions: tuple[Composition, ...] = ()
    bus: str | None = None


class Sighting(NamedTuple):
    """One look: `lines` are those logged since the last one."""

    alive: bool
    state: ReportedState
    lines: list[str]


class Watcher:
    """Remember what was seen, so that each look returns only news."""

    def __init__(self, dm: DeviceManager, target: Target) -> None:
        self._dm = dm
        self._target = target
        self._state_text = ""
        self._state = ReportedState()
        self._position = Position()
        self._partial = b""
        self._alive = True
        self._unanswered = False
        self._end = Position()
        self._pacing = Pacing()
        self._echo = Echo()
        self.tail: deque[str] = deque(maxlen=5)

    def look(self, patience: float = PATIENCE, *, echo: bool = True) -> Sighting:
        """Return as soon as there is news of the device manager, after `patience` seconds in any case.

        `echo=False` keeps lines that an earlier step has already shown out of this process's own log.
        """
        if self._pacing.begin():
            log.warning("the device logs faster than can be read: a part of its log is skipped")
            self.skip_to_end()
        look = watch(
            self._target,
            Detached(self._dm.pid, self._dm.identity),
            state_path=self._dm.state_path,
            log_path=self._dm.log_path,
            known_state=self._state_text,
            position=self._position,
            patience=patience if self._alive else 0.0,
            most=self._pacing.most,
        )
        self._alive = look.alive
        self._position, self._end = look.position, look.end
        self._pacing.end(len(look.log), look.behind)
        if look.state != self._state_text:
            self._state_text = look.state
            self._state = _decode(look.state)
        return Sighting(look.alive, self._state, self._split(look.log, echo=echo))

    def skip_to_end(self) -> None:
        """Have the next look begin near the end of the log that the last one has seen."""
        if self._end.offset > self._position.offset + NEAR or self._end.file != self._position.file:
            self._position = Position(self._end.file, max(0, self._end.offset - NEAR))
            self._partial = b""

    def _split(self, data: bytes, *, echo: bool) -> list[str]:
        *whole, self._partial = (self._partial + data).split(b"\n")
        if len(self._partial) > LONGEST_LINE:
            whole, self._partial = [*whole, self._partial], b""
        lines = [line.decode("utf-8", "replace").rstrip("\r") for line in whole]
        self.tail.extend(map(narrow, lines[-5:]))
        if echo:
            self._echo.show(lines)
        return lines

    def describe(self) -> str:
        """Say what was last seen of process, state and log, and whether the platform answers."""
        process = "is running" if self._alive else "has ended"
        phase = self._state.phase or "no state written"
        if self._state.error:
            phase += f" ({self._state.error.message})"
        last = self.tail[-1] if self.tail else "nothing"
        platform, self._unanswered = describe_platform(self._dm)
        return (
            f"the device manager (pid {self._dm.pid}) {process}, its state: {phase}, its last log line: {last!r}, "
            f"{platform}"
        )

    @property
    def verdict(self) -> Verdict:
        """Judge by what the device manager reported whether bench, configuration or platform is to blame.

        One that lives and complains of nothing waits in vain for a platform that gave no answer to `describe` either.
        """
        code = self._state.error.code if self._state.error else ""
        silent = self._alive and self._unanswered
        return BLAME.get(code, Verdict.BACKEND_ERROR if silent else Verdict.BENCH_ERROR)


def compile_pattern(text: str, group: str) -> re.Pattern[str]:
    """Compile a profile's log pattern; ConfigError when it does not compile or lacks its group."""
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise ConfigError(f"`device_manager.log_patterns.{group}` is not a regular expression: {error}") from error
    if group not in pattern.groupindex:
        raise ConfigError(f"`device_manager.log_patterns.{group}` has no group (?P<{group}>…)")
    return pattern


def check_platform(backend: BackendRef) -> None:
    """Raise BackendError when the local platform has ended, TargetError when the tunnels to it have: it is in vain."""
    if backend.pid is not None and not processes.is_alive(backend.pid, backend.start_time or 0):
        raise BackendError(
            f"the local platform (pid {backend.pid}) has ended", remedy=f"see {backend.directory}/platform.log"
        )
    if backend.link is not None:
        from roboticks_tasks.targets.ssh.links import check_link

        check_link(backend.link)


def check_answers(backend: BackendRef) -> None:
    """Raise as check_platform does, and when the local platform lives but answers nothing, as one that was stopped."""
    check_platform(backend)
    if backend.pid is not None:
        check_local(backend.url, backend.pid)


def fault_of_platform(backend: BackendRef) -> BackendError | TargetError | None:
    """Return what check_answers raises: a device that complains while its platform is gone is not to blame."""
    try:
        check_answers(backend)
    except (BackendError, TargetError) as error:
        return error
    return None


def describe_platform(dm: DeviceManager) -> tuple[str, bool]:
    """Say whether the platform answers, and what it knows; and whether it gave no answer at all. Never raises."""
    try:
        with open_client(dm.backend, quick=True) as client:
            if not client.can_read:
                return f"the platform {dm.backend.url} was not asked (no API key, organization and project)", False
            client.answers()
            try:
                online = [str(device.get("dsn")) for device in client.devices(status="online")]
            except BackendError as error:
                return str(error), False
            return f"the platform {dm.backend.url} shows online: {', '.join(online) or 'no device'}", False
    except BackendError as error:
        return str(error), True


def _decode(text: str) -> ReportedState:
    try:
        state = msgspec.json.decode(text, type=ReportedState)
        if state.error is not None:
            error = msgspec.structs.replace(state.error, message=narrow(state.error.message))
            state = msgspec.structs.replace(state, error=error)
        return state
    except (msgspec.DecodeError, UnicodeError, RecursionError):  # it may hold anything
        return ReportedState()
