"""Follow one device manager through what it writes, and say what was last seen on every side."""

from __future__ import annotations

import logging
import re
from collections import deque
from typing import NamedTuple

import msgspec

from roboticks_tasks import processes
from roboticks_tasks.backend import open_client
from roboticks_tasks.errors import BackendError, ConfigError, Verdict
from roboticks_tasks.models import BackendRef, Composition, DeviceManager
from roboticks_tasks.targets import Target
from roboticks_tasks.targets.detached import Detached
from roboticks_tasks.targets.watch import Position, watch

device_log = logging.getLogger("roboticks_tasks.device")
"""Every line that a device manager logged while somebody waited for it."""

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
        self.tail: deque[str] = deque(maxlen=5)

    def look(self, patience: float = PATIENCE, *, echo: bool = True) -> Sighting:
        """Return as soon as there is news of the device manager, after `patience` seconds in any case.

        `echo=False` keeps lines that an earlier step has already shown out of this process's own log.
        """
        look = watch(
            self._target,
            Detached(self._dm.pid, self._dm.identity),
            state_path=self._dm.state_path,
            log_path=self._dm.log_path,
            known_state=self._state_text,
            position=self._position,
            patience=patience if self._alive else 0.0,
        )
        self._alive = look.alive
        self._position = look.position
        if look.state != self._state_text:
            self._state_text = look.state
            self._state = _decode(look.state)
        return Sighting(look.alive, self._state, self._split(look.log, echo=echo))

    def _split(self, log: bytes, *, echo: bool) -> list[str]:
        *whole, self._partial = (self._partial + log).split(b"\n")
        if len(self._partial) > LONGEST_LINE:
            whole, self._partial = [*whole, self._partial], b""
        lines = [line.decode("utf-8", "replace").rstrip("\r") for line in whole]
        for line in lines:
            self.tail.append(line)
            if echo:
                device_log.info("%s", line)
        return lines

    def describe(self) -> str:
        """Say what was last seen of process, state and log, and whether the platform answers."""
        process = "is running" if self._alive else "has ended"
        phase = self._state.phase or "no state written"
        if self._state.error:
            phase += f" ({self._state.error.message})"
        last = self.tail[-1] if self.tail else "nothing"
        return (
            f"the device manager (pid {self._dm.pid}) {process}, its state: {phase}, its last log line: {last!r}, "
            f"{describe_platform(self._dm)}"
        )

    @property
    def verdict(self) -> Verdict:
        """Judge by what the device manager reported whether bench, configuration or platform is to blame."""
        code = self._state.error.code if self._state.error else ""
        return BLAME.get(code, Verdict.BENCH_ERROR)


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


def describe_platform(dm: DeviceManager) -> str:
    """Say whether the platform answers, and what it knows; never raises."""
    try:
        with open_client(dm.backend, quick=True) as client:
            if not client.can_read:
                return f"the platform {dm.backend.url} was not asked (no API key, organization and project)"
            online = [str(device.get("dsn")) for device in client.devices(status="online")]
            return f"the platform {dm.backend.url} shows online: {', '.join(online) or 'no device'}"
    except BackendError as error:
        return str(error)


def _decode(text: str) -> ReportedState:
    try:
        return msgspec.json.decode(text, type=ReportedState)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ReportedState()
