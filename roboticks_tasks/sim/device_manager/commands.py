"""Wishes that arrive as messages: commands of the platform over MQTT, session control of modules over the bus."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from roboticks_tasks.sim.device_manager.sessions import SessionRefusedError, Sessions

if TYPE_CHECKING:
    from roboticks_tasks.sim.device_manager.journal import Journal

START_SESSION, STOP_SESSION = 3, 4
"""Command types: the numbers are documented, which is which is inferred from their order."""

REMEMBERED = 100


class Commands:
    """Turns messages into calls; nobody waits for these, so a refusal goes to the log."""

    def __init__(
        self, sessions: Sessions, journal: Journal, in_background: Callable[[Coroutine[Any, Any, None]], None]
    ) -> None:
        self._sessions, self._journal, self._in_background = sessions, journal, in_background
        self._seen: deque[str] = deque(maxlen=REMEMBERED)

    def on_command(self, document: Any) -> None:
        """Take a command of the platform: an object with `command_id`, `type` and `payload`.

        A start that names a `session_id` other than the active session's is refused: this device takes up no session
        that it has not asked for (our choice: not documented).
        """
        payload = document.get("payload") or {} if isinstance(document, dict) else None
        if not isinstance(payload, dict):
            self._journal.warning("commands", "dropped a command that is not an object")
            return
        command_id, kind = document.get("command_id"), document.get("type")
        if command_id is not None and str(command_id) in self._seen:
            return  # QoS 1 delivers at least once
        self._seen.append(str(command_id))
        self._journal.info("commands", f"Command {command_id} of type {kind}")
        if kind == START_SESSION:
            wanted, active = payload.get("session_id"), self._sessions.active
            if wanted is not None and (active is None or active["id"] != wanted):
                self._journal.error("commands", f"refused to start session {wanted!r}: it is not the active one")
                return
            name = payload.get("name")
            self._in_background(self._start(name if isinstance(name, str) else None))
        elif kind == STOP_SESSION:
            self._in_background(self._stop())
        else:
            self._journal.warning("commands", f"command type {kind!r} is not supported")

    def on_session_control(self, message: dict[str, Any]) -> None:
        """Take a module's `{"action": "start"}` or `{"action": "stop"}`."""
        action = message.get("action")
        if action == "start":
            self._in_background(self._start(None))
        elif action == "stop":
            self._in_background(self._stop())
        else:
            self._journal.warning("sessions", f"session control with an unknown action: {action!r}")

    async def _start(self, name: str | None) -> None:
        try:
            await self._sessions.start(name)
        except SessionRefusedError as error:
            self._journal.error("commands", str(error))

    async def _stop(self) -> None:
        try:
            await self._sessions.stop()
        except SessionRefusedError as error:
            self._journal.error("commands", str(error))
