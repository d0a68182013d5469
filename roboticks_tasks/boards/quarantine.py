"""A board that fails its preflight or its safe state again and again is parked, for every user of the bench."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from roboticks_tasks import bench
from roboticks_tasks.boards.locks import open_shared, printable
from roboticks_tasks.boards.resources import quarantine_name
from roboticks_tasks.errors import ConfigError
from roboticks_tasks.models import Value
from roboticks_tasks.profiles import Profile, board_of

log = logging.getLogger(__name__)

SIZE = 4096
"""Bytes of the file, filled up with spaces. In a folder like /tmp nobody can replace a file of another user, so it is
overwritten in one write of always the same size: whatever kills the writer, the file is whole."""

LONGEST_REASON = 500
"""Characters; escaped or not they fit into the file."""


class Parked(Value, frozen=True, kw_only=True):
    """A board that runs pass over, and why; the times are UTC."""

    reason: str
    since: datetime
    until: datetime
    failures: int

    def __str__(self) -> str:
        until = f"{self.until:%Y-%m-%d %H:%M:%S} UTC"
        times = "failure" if self.failures == 1 else "failures in a row"
        return f"parked until {until} after {self.failures} {times}: {self.reason}"


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    """What the file says: how often the board has failed since it last passed, and from when to when it is parked."""

    failures: int = 0
    reason: str = ""
    since: datetime | None = None
    until: datetime | None = None


def note_failure(profile: Profile, reason: str) -> Parked | None:
    """Count a failure of the narrowed profile's board and park it after `quarantine.failures` in a row.

    Return how it is parked now, None when it is not. Where the bench's folder cannot be written it is only logged.
    """
    now = _now()

    def fail(record: _Record) -> _Record:
        failures = record.failures + 1
        parks = failures >= profile.quarantine.failures
        until = now + timedelta(seconds=profile.quarantine.expiry) if parks else None
        words = printable(" ".join(reason.split()))[:LONGEST_REASON]
        return _Record(failures=failures, reason=words, since=now, until=until)

    found = _current(_change(profile, fail, make=True), profile, now)
    if found is not None:
        log.warning("board %s is %s", board_of(profile).id, found)
    return found


def note_success(profile: Profile) -> None:
    """Forget the failures of the narrowed profile's board: it works."""
    _change(profile, lambda record: _Record())


def free(profile: Profile) -> bool:
    """Unpark the narrowed profile's board, and forget its failures; return whether it was parked."""
    was_parked = parked(profile) is not None
    note_success(profile)
    return was_parked


def parked(profile: Profile) -> Parked | None:
    """Return how the narrowed profile's board is parked, None when it is not, or not any more."""
    now = _now()
    record = _read(profile)
    if record.until is not None and record.since is not None and now < record.since:
        # The clock was set back since: let the time run from now, or it would be parked until the clock is there again.
        record = _change(profile, lambda each: _shifted(each, now))
    return _current(record, profile, now)


def _current(record: _Record, profile: Profile, now: datetime) -> Parked | None:
    if record.until is None or record.since is None:
        return None
    until = min(record.until, record.since + timedelta(seconds=profile.quarantine.expiry))
    if not record.since <= now < until:
        return None
    return Parked(reason=printable(record.reason), since=record.since, until=until, failures=record.failures)


def _shifted(record: _Record, now: datetime) -> _Record:
    if record.until is None or record.since is None or record.since <= now:
        return record
    return msgspec.structs.replace(record, since=now, until=now + (record.until - record.since))


def _read(profile: Profile) -> _Record:
    try:
        folder = bench.find_shared_folder()
        if folder is None:
            return _Record()
        path = folder / quarantine_name(profile)
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return _Record()
    except (OSError, ConfigError) as error:
        log.debug("no quarantine: %s", error)
        return _Record()
    try:
        fcntl.flock(file, fcntl.LOCK_SH)
        return _decode(os.pread(file, SIZE, 0), path)
    finally:
        os.close(file)


def _change(profile: Profile, change: Callable[[_Record], _Record], *, make: bool = False) -> _Record:
    """Change what is noted of the board, nobody else at the same time, and return it; without a file only if `make`."""
    try:
        folder = bench.shared_folder() if make else bench.find_shared_folder()
        path = folder / quarantine_name(profile) if folder is not None else None
        if path is None or not (make or path.exists()):
            return _Record()
        file = open_shared(path)
    except (OSError, ConfigError) as error:
        log.warning("what becomes of board %s cannot be noted: %s", board_of(profile).id, error)
        return _Record()
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        before = _decode(os.pread(file, SIZE, 0), path)
        after = change(before)
        if after != before:
            os.pwrite(file, msgspec.json.encode(after).ljust(SIZE - 1) + b"\n", 0)
        return after
    except OSError as error:
        log.warning("what becomes of board %s cannot be noted: %s: %s", board_of(profile).id, path, error.strerror)
        return _Record()
    finally:
        os.close(file)


def _decode(content: bytes, path: Path) -> _Record:
    if not content.strip():
        return _Record()
    try:
        record = msgspec.json.decode(content, type=_Record)
        if any(each is not None and each.tzinfo is None for each in (record.since, record.until)):
            raise msgspec.DecodeError("a time without its zone")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        log.warning("%s is damaged, its board counts as not parked: %s", path, error)
        return _Record()
    return record


def _now() -> datetime:
    return datetime.now(UTC)
