"""Sessions: made by the platform when somebody asks for one, never by themselves.

The three ways to ask (command, bus, direct call) and the 30 s for the platform's answer are documented.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from roboticks_tasks.sim import topics
from roboticks_tasks.sim.device_manager import endings, files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from roboticks_tasks.sim.device_manager.journal import Journal
    from roboticks_tasks.sim.device_manager.link import Link
    from roboticks_tasks.sim.device_manager.state import State

UNKNOWN_DEVICE = "no such device is registered"
"""The platform's error for a device that it does not know, or no longer (our choice: not documented)."""

ANSWER_TIMEOUT = 30.0
COMPLETION_TIMEOUT = 5.0


class SessionRefusedError(Exception):
    """There is no session to be had, or none to stop; the message is one sentence."""


class Sessions:
    """The one session a device can have, and its files in sessions/active and sessions/completed."""

    def __init__(self, root: Path, state: State, journal: Journal, *, link: Link, dropped: bool = False) -> None:
        """With `dropped` no request for a session ever leaves the device (the fault `no-session`)."""
        self._folder = root / "sessions"
        self._state, self._journal, self._link, self._dropped = state, journal, link, dropped
        self._one_at_a_time = asyncio.Lock()
        self._answers: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._ending: set[str] = set()
        self.on_unknown_device: Callable[[], None] = lambda: None

    async def start(self, name: str | None = None, *, timeout: float = ANSWER_TIMEOUT) -> dict[str, Any]:
        """Return the active session, made by the platform when there is none.

        Errors: SessionRefusedError when the platform refuses, or gives no answer within `timeout` seconds.
        """
        try:
            async with asyncio.timeout(timeout), self._one_at_a_time:
                if self.active is not None:
                    return self.active
                return await self._create(name or f"session-{datetime.now(UTC):%Y%m%d-%H%M%S}")
        except TimeoutError:
            online = "" if self._link.online else f": the device is not online{self._why_not()}"
            sentence = f"the platform gave no session within {timeout:g} s{online}"
            self._journal.error("sessions", sentence)
            raise SessionRefusedError(sentence) from None

    async def stop(self, status: str = "completed", *, timeout: float = COMPLETION_TIMEOUT) -> dict[str, Any]:
        """Complete the active session and return it; SessionRefusedError when none is active.

        Without an answer of the platform within `timeout` seconds it is completed here all the same; its file stays
        among the active ones until the platform has confirmed, be it after the next start.
        """
        async with self._one_at_a_time:
            session = self.active
            if session is None:
                raise SessionRefusedError("no session is active")
            session = {**session, "status": status}
            ended = {**session, "ended_at": _iso(_now())}
            self._write("active", ended)
            answer = self._send_completion(ended)
            try:
                async with asyncio.timeout(timeout):
                    await asyncio.shield(answer)
            except TimeoutError:
                self._journal.warning("sessions", f"the platform has not confirmed the end of session {session['id']}")
            self._journal.info("sessions", f"Session {status}: {session['id']}")
            self._journal.session_id = None
            self._state.update(session=session)
            return session

    def _why_not(self) -> str:
        error = self._state.document["error"]
        return f": {error['message']}" if error else ""

    @property
    def active(self) -> dict[str, Any] | None:
        """Return the session that is active, or None."""
        session: dict[str, Any] | None = self._state.document["session"]
        return session if session is not None and session["status"] in ("active", "paused") else None

    def on_response(self, answer: Any) -> None:
        """Take the platform's answer to a create or complete request."""
        if not isinstance(answer, dict):
            self._journal.warning("sessions", "dropped a session response that is not an object")
            return
        if answer.get("error") == UNKNOWN_DEVICE:
            for asked in self._answers.values():  # none of them will be answered any more
                if not asked.done():
                    asked.set_result(answer)
            self.on_unknown_device()
            return
        key = answer.get("request_id") or answer.get("session_id")
        waiting = self._answers.get(key) if isinstance(key, str) else None
        if waiting is not None and not waiting.done():
            if key not in self._ending or _is_final(answer):
                waiting.set_result(answer)
        elif answer.get("status") == "active" and isinstance(answer.get("session_id"), str):
            self._give_back(answer["session_id"])

    def recover(self) -> None:
        """Report the sessions that are left from before: those that a crash left active as failed."""
        for path in sorted((self._folder / "active").glob("*.json")):
            try:
                session = json.loads(path.read_text(encoding="utf-8"))
                status = "completed" if session["status"] == "completed" else "failed"
            except (OSError, ValueError, KeyError, TypeError):
                session, status = {}, "failed"
            self._journal.warning("sessions", f"Session {status}: {path.stem} (left from before this start)")
            self._send_completion({**session, "id": path.stem, "status": status})

    async def _create(self, name: str) -> dict[str, Any]:
        started = _now()
        request_id = str(uuid.uuid4())
        request = {"action": "create", "name": name, "status": "active", "metadata": {}, "started_at": started}
        # The platform knows by the id a request that comes twice, and makes one session of it.
        waiting = self._answers[request_id] = (
            asyncio.get_running_loop().create_future()
            if self._dropped
            else self._link.publish(topics.sessions, {**request, "request_id": request_id})
        )
        try:
            answer = await waiting
        finally:
            del self._answers[request_id]
        if not isinstance(answer.get("session_id"), str) or "error" in answer:
            sentence = f"the platform refused the session: {answer.get('error', 'its answer has no session_id')}"
            self._journal.error("sessions", sentence)
            raise SessionRefusedError(sentence)
        session = {"id": str(uuid.UUID(answer["session_id"])), "status": "active", "started_at": _iso(started)}
        self._write("active", session)
        self._journal.session_id = session["id"]
        self._journal.info("sessions", f"Session created: {session['id']}")
        self._state.update(session=session)
        return session

    def _give_back(self, session_id: str) -> None:
        """End a session that came after its asker had given up: nobody here would ever end it."""
        session = self._state.document["session"]
        if session is None or session["id"] != session_id:  # else the answer was delivered twice
            self._journal.warning("sessions", f"session {session_id} came too late: it is given back")
            self._send_completion({"id": session_id, "status": "failed"})

    def _send_completion(self, session: dict[str, Any]) -> asyncio.Future[dict[str, Any]]:
        """Report the end of a session; its file moves once the platform has answered."""
        session_id = session["id"]
        ended = {"status": session["status"], "ended_at": _milliseconds(session.get("ended_at")) or _now()}
        request = {"action": "complete", "session_id": session_id, **ended, "request_id": session_id}
        answer = self._answers[session_id] = self._link.publish(topics.sessions, request)
        answer.add_done_callback(lambda _: self._archive(session))
        self._ending.add(session_id)
        return answer

    def _write(self, folder: str, session: dict[str, Any]) -> None:
        files.replace(self._folder / folder / f"{session['id']}.json", json.dumps(session) + "\n")

    def _archive(self, session: dict[str, Any]) -> None:
        self._answers.pop(session["id"], None)
        self._ending.discard(session["id"])
        self._write("completed", session)
        active = self._folder / "active" / f"{session['id']}.json"
        try:
            active.unlink(missing_ok=True)
        except OSError as error:
            raise endings.storage(str(active), error) from error


def _is_final(answer: dict[str, Any]) -> bool:
    """Tell whether an answer to the end of a session settles it, be it that the platform has no such session.

    Any other error is the platform's own trouble: the message is sent again.
    """
    return "error" not in answer or str(answer["error"]).startswith("session_id:")


def _now() -> int:
    return time.time_ns() // 1_000_000


def _iso(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _milliseconds(moment: object) -> int | None:
    try:
        return round(datetime.fromisoformat(str(moment)).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None
