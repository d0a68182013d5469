"""Ends the sessions of devices that are gone without a word: nothing else would ever do it (our choice)."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from roboticks_tasks.sim.platform import store_sessions

if TYPE_CHECKING:
    from roboticks_tasks.sim.platform.store import Store

log = logging.getLogger(__name__)

GRACE = 2.0
"""Seconds a device has to come back: a connection that was lost, or a platform that was restarted, takes less."""

INTERVAL = 0.25


class Absences:
    """Since when each session's device has been seen offline, by a clock that is never set."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def over(self, sessions: Iterable[str], now: float) -> list[str]:
        """Return which of the `sessions` of devices that are offline at `now` have been so for the whole grace."""
        self._since = {session: self._since.get(session, now) for session in sessions}
        return [session for session, since in self._since.items() if now - since >= GRACE]


async def watch(store: Store) -> None:
    """End sessions until cancelled; trouble is logged once, and tried again."""
    absences, trouble = Absences(), ""
    while True:
        try:
            ended = absences.over(await store.read(store_sessions.abandoned), time.monotonic())
            for session in ended:
                await store.write(store_sessions.give_up, session)
                log.info("Session %s failed: its device went offline and did not come back", session)
            trouble = ""
        except sqlite3.Error as error:
            if str(error) != trouble:
                trouble = str(error)
                log.warning("Could not end sessions of devices that are gone: %s", error)
        await asyncio.sleep(INTERVAL)
