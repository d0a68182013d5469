"""What the device tells the platform by itself: heartbeats and batches of log messages."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any

from roboticks_tasks.sim import topics
from roboticks_tasks.sim.device_manager import metrics
from roboticks_tasks.sim.device_manager.connection import OFFLINE
from roboticks_tasks.sim.device_manager.link import encoded
from roboticks_tasks.sim.device_manager.spool import BATCH_BYTES, BATCH_MESSAGES

if TYPE_CHECKING:
    from collections import deque

    from roboticks_tasks.sim.device_manager.journal import Journal
    from roboticks_tasks.sim.device_manager.link import Link
    from roboticks_tasks.sim.device_manager.segments import Batch
    from roboticks_tasks.sim.device_manager.settings import Settings
    from roboticks_tasks.sim.device_manager.spool import Entry
    from roboticks_tasks.sim.device_manager.state import State

GATHER = 0.02
"""Seconds in which messages gather for one batch."""


class Heartbeat:
    """Sends one at each interval, and at once when something changed that it carries."""

    def __init__(self, settings: Settings, state: State, link: Link) -> None:
        self._settings, self._state, self._link = settings, state, link
        self._cpu = metrics.cpu_times()
        self.changed = asyncio.Event()
        state.on_change = self.changed.set

    async def run(self) -> None:
        """Send heartbeats until cancelled."""
        while True:
            try:
                async with asyncio.timeout(self._settings.heartbeat_interval):
                    await self.changed.wait()
            except TimeoutError:
                pass
            self.send()

    def send(self) -> None:
        """Send one now, if online."""
        self.changed.clear()
        now = metrics.cpu_times()
        usage, self._cpu = metrics.cpu_usage(self._cpu, now), now
        document = {
            "status": "online",
            "interval": self._settings.heartbeat_interval,
            "metrics": {
                "cpu_usage": usage,
                "memory_usage": metrics.memory_usage(),
                "disk_usage": metrics.disk_usage(self._settings.root),
            },
            "location": None,
            "current_session_id": current_session(self._state),
            "compositions": [
                {"name": entry["name"], "mode": entry["mode"], "status": entry["status"]}
                for entry in self._state.document["compositions"]
            ],
        }
        self._link.tell(topics.heartbeat, document)

    def send_offline(self) -> None:
        """Say that the device goes now."""
        self._link.tell(topics.heartbeat, OFFLINE)


class LogShipper:
    """Ships what is spooled in order, one batch at a time; a batch is done once the platform says that it has it.

    What earlier starts have left goes first. Messages that the spool could not take are shipped from memory, under an
    id of their own.
    """

    def __init__(self, journal: Journal, link: Link) -> None:
        self._journal, self._link = journal, link
        self._boot_id = str(uuid.uuid4())
        self._sequence = 0
        self._spooled: Batch | None = None
        self._sent: tuple[str, int] | None = None
        self._receipt: asyncio.Future[dict[str, Any]] | None = None
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self.hurry = False
        journal.on_message = self._noticed
        if self._waiting:
            self._wake.set()

    async def run(self) -> None:
        """Ship until cancelled; what cannot be sent yet stays where it is."""
        while True:
            await self._wake.wait()
            if not self.hurry:
                await asyncio.sleep(GATHER)
            self._wake.clear()
            while self._waiting:
                if (batch := self._next_batch()) is not None:
                    await self._deliver(batch)
            self._idle.set()

    async def drained(self) -> None:
        """Return once the platform has every message so far."""
        self.hurry = True
        if self._waiting or not self._idle.is_set():
            self._wake.set()
            await self._idle.wait()

    def on_receipt(self, receipt: Any) -> None:
        """Take the platform's word that it has stored a batch, or that it never will."""
        if isinstance(receipt, dict) and (receipt.get("boot_id"), receipt.get("sequence")) == self._sent:
            assert self._receipt is not None
            if not self._receipt.done():
                self._receipt.set_result(receipt)

    @property
    def _waiting(self) -> bool:
        spool = self._journal.spool
        return bool(self._journal.backlog) or (spool is not None and not spool.empty)

    async def _deliver(self, batch: dict[str, Any]) -> None:
        self._sent = (batch["boot_id"], batch["sequence"])
        self._receipt = self._link.publish(topics.logs, {**batch, "receipt": True})
        receipt = await self._receipt
        if self._spooled is not None and self._journal.spool is not None:
            self._journal.spool.done(self._spooled)
        if "error" in receipt:
            count, why = len(batch["messages"]), receipt["error"]
            self._journal.warning("logs", f"the platform refused {count} messages: {why}")

    def _noticed(self) -> None:
        self._idle.clear()
        self._wake.set()

    def _next_batch(self) -> dict[str, Any] | None:
        """Return the document of the oldest messages that wait, first those on disk."""
        self._spooled = self._journal.spool.peek() if self._journal.spool is not None else None
        if self._spooled is not None:
            spooled = self._spooled
            return _document(spooled.session_id, spooled.sequence, spooled.boot_id, spooled.messages)
        if not self._journal.backlog:
            return None
        session_id, messages = take(self._journal.backlog)
        if self._journal.dropped:  # now there is room: a notice in a full backlog would drop one more
            dropped, self._journal.dropped = self._journal.dropped, 0
            self._journal.warning("logs", f"{dropped} older messages were dropped: the platform was away too long")
        self._sequence += 1
        return _document(session_id, self._sequence, self._boot_id, messages)


def _document(session_id: str | None, sequence: int, boot_id: str, messages: list[dict[str, Any]]) -> dict[str, Any]:
    return {"session_id": session_id, "sequence": sequence, "boot_id": boot_id, "messages": messages}


def take(backlog: deque[Entry]) -> tuple[str | None, list[dict[str, Any]]]:
    """Remove the next batch from the backlog: of one session, in order, and small enough for one MQTT message."""
    session_id = backlog[0][0]
    messages: list[dict[str, Any]] = []
    size = 0
    while backlog and backlog[0][0] == session_id and len(messages) < BATCH_MESSAGES:
        size += len(encoded(backlog[0][1])) + len(", ")
        if messages and size > BATCH_BYTES:
            break
        messages.append(backlog.popleft()[1])
    return session_id, messages


def current_session(state: State) -> str | None:
    """Return the id of the session that is active, or None."""
    session = state.document["session"]
    return session["id"] if session and session["status"] in ("active", "paused") else None
