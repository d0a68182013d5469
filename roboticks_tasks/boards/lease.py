"""One run at a time per board: a lock that the kernel holds, so that any death of the holder frees it."""

from __future__ import annotations

import getpass
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from roboticks_tasks.boards import locks
from roboticks_tasks.boards.quarantine import Parked, parked
from roboticks_tasks.boards.resources import lock_files
from roboticks_tasks.errors import BoardInUseError, BoardQuarantinedError
from roboticks_tasks.profiles import Profile, board_of, candidates
from roboticks_tasks.waiting import Deadline, first

log = logging.getLogger(__name__)

PACE = 0.05
"""Seconds between two looks at boards that are held."""

CLEANING = 12.0
"""Seconds that even the impatient wait for the guard of a killed run, which is making the board safe."""

GLANCE = 0.02
"""Seconds for which even the impatient look: somebody may be asking who holds the board, which takes microseconds."""


@contextmanager
def lease(
    profile: Profile,
    *,
    run: Path,
    board: str | None = None,
    wait: float = 0.0,
    borrow_quarantined: bool = False,
    held: list[int] | None = None,
) -> Iterator[Profile]:
    """Hold a free board of the profile, or `board`, for the block; yield the profile narrowed to it.

    `run` is the run's folder, for those who are refused. The first board that is free within `wait` seconds is taken,
    whoever has waited longer; an exception of a signal's handler ends the wait at once. Raises BoardInUseError with
    the words of each holder, BoardQuarantinedError when every board that would do is parked (`borrow_quarantined`
    takes a parked one too), ConfigError for an unknown board or a bench whose folder cannot be used. The descriptors
    of the locks are in `held` for the block, for a process that is to have the board when this one is gone.
    """
    search = _Search(profile, candidates(profile, board), borrow=borrow_quarantined, held=held)
    try:
        leased = search.look() or search.wait(max(wait, CLEANING) if search.is_being_cleaned() else wait)
        locks.write_words(search.held, _describe(leased, run))
        try:
            yield leased
        finally:
            locks.write_words(search.held, "")
    finally:
        locks.release(search.held)


def holder(profile: Profile) -> str | None:
    """Return who holds the narrowed profile's board now, in words; None when nobody does."""
    return locks.holder_of(lock_files(profile, make=False))


class _Search:
    """One look after the other at the boards that would do, and what the last one has shown."""

    def __init__(
        self, profile: Profile, options: list[Profile], *, borrow: bool, held: list[int] | None = None
    ) -> None:
        self.profile = profile
        self.options = options
        self.borrow = borrow
        self.held = [] if held is None else held
        self.holders: dict[str, str] = {}
        self.parked: dict[str, Parked] = {}

    def look(self) -> Profile | None:
        """Take the first free board, None when all are held; BoardQuarantinedError when all are parked."""
        self.holders, self.parked = {}, {}
        for option in self.options:
            name = board_of(option).id
            found = None if self.borrow else parked(option)
            if found is not None:
                self.parked[name] = found
                continue
            words = locks.take(lock_files(option), self.held)
            if words is None:
                for other in self.parked:
                    log.info("board %s is passed over, it is %s", other, self.parked[other])
                return option
            self.holders[name] = words
        if not self.holders:
            raise self._quarantined()
        return None

    def is_being_cleaned(self) -> bool:
        """Tell whether one of the boards is only held by the guard of a run that is dead: it will be free in a moment.

        That is when the first look finds words of a process that is gone.
        """
        return any(locks.is_orphaned(lock_files(each, make=False)) for each, _ in self._busy())

    def wait(self, seconds: float) -> Profile:
        """Look again until a board is free; BoardInUseError after `seconds`."""
        said: dict[str, str] = {}

        def probe() -> Profile | None:
            nonlocal said
            option = self.look()
            if option is None and seconds > 0 and self.holders != said:
                said = self.holders
                log.info("waiting up to %g s: %s", seconds, self._in_use())
            return option

        pace = min(PACE, max(seconds, GLANCE) / 4)
        found = first(probe, deadline=Deadline(max(seconds, GLANCE)), interval=pace)
        if found is None:
            waited = f", still after {seconds:g} s" if seconds > 0 else ""
            remedy = "wait for that run to end (--wait SECONDS), or use another board or root"
            raise BoardInUseError(self._in_use() + waited, remedy=remedy)
        return found

    def _in_use(self) -> str:
        parts = [f"{_name(each, self.profile)} is in use by {words}" for each, words in self._busy()]
        parts += [f"board {name!r} is {found}" for name, found in self.parked.items()]
        return "; ".join(parts)

    def _busy(self) -> list[tuple[Profile, str]]:
        return [(each, self.holders[name]) for each in self.options if (name := board_of(each).id) in self.holders]

    def _quarantined(self) -> BoardQuarantinedError:
        where = [_name(each, self.profile) for each in self.options]
        told = "; ".join(f"{name} is {found}" for name, found in zip(where, self.parked.values(), strict=True))
        doctor = f"roboticks-tasks doctor --profile {self.profile.name}"
        if self.profile.boards:
            doctor += f" --board {next(iter(self.parked))}"
        return BoardQuarantinedError(told, remedy=f"`{doctor}` frees it when it passes")


def _name(option: Profile, profile: Profile) -> str:
    if profile.boards:
        return f"board {board_of(option).id!r} of profile {profile.name!r}"
    return f"the board of profile {profile.name!r} ({profile.device_manager.root})"


def _describe(leased: Profile, run: Path) -> str:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    who = f"pid {os.getpid()}, {_user()}@{socket.gethostname()}, since {now}"
    board = f", board {board_of(leased).id!r}" if leased.boards else ""
    folder = str(run.absolute()).replace("\n", "?")
    return f"run {folder}, {who}, profile {leased.name!r}{board}\n"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user id without a name
        return str(os.getuid())
