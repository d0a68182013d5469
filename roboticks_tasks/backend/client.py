"""A small client of the platform's REST interface, as far as a run needs it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from roboticks_tasks.backend.calls import Answer, BusyError, Caller, LargeError, Limits, SlowError, open_session
from roboticks_tasks.backend.credentials import api_headers
from roboticks_tasks.errors import BackendError
from roboticks_tasks.models import BackendRef
from roboticks_tasks.waiting import Deadline

if TYPE_CHECKING:
    import requests

PATIENT = Limits(connect=3.05, read=10.0, whole=20.0, attempts=4)
"""For those who wait for the answer alone."""

QUICK = Limits(connect=1.0, read=1.0, whole=1.5, attempts=1)
"""For those who have a deadline of their own and ask again."""

SHORTEST = 0.1
"""Seconds that a call has even when the time is up: a platform that is there answers sooner."""

LONGEST_REFUSAL = 500
"""Characters of a platform's own words that are passed on: a proxy in between may send a whole page."""

LOOPBACK = {"127.0.0.1", "localhost", "::1"}

START_SESSION, STOP_SESSION = 3, 4
"""The command types; 3 and 4 are documented for session control, that 3 starts is an inference from their order."""


class Client:
    """One connection to the platform; every method returns decoded JSON or raises BackendError."""

    def __init__(self, backend: BackendRef, *, quick: bool = False, deadline: Deadline | None = None) -> None:
        """Prepare for `backend`; `quick` waits for a second or two at most and repeats nothing.

        No call lasts longer than `deadline` does, where there is one.
        """
        self._backend = backend
        self._limits = QUICK if quick else PATIENT
        self._deadline = deadline
        self._headers = api_headers(backend)
        self._caller: Caller | None = None
        self._project = f"/api/v1/organizations/{backend.organization}/projects/{backend.project}"

    @property
    def can_read(self) -> bool:
        """Tell whether project, organization and key are known, without which the registry cannot be asked."""
        return bool(self._backend.organization and self._backend.project and self._headers)

    def health(self) -> dict[str, Any]:
        """Return what the platform says of itself."""
        return self._object("GET", "/api/v1/health")

    def limits(self) -> dict[str, Any]:
        """Return the organization's limits; our local platform reports the used Device units in them."""
        return self._object("GET", f"/api/v1/organizations/{self._backend.organization}/limits")

    def devices(self, **filters: str) -> list[dict[str, Any]]:
        """Return the devices (documented filters: status, type, group_id)."""
        return self._list(f"{self._project}/devices", filters)

    def device(self, dsn: str) -> dict[str, Any]:
        """Return one device by its DSN."""
        return self._object("GET", f"{self._project}/devices/{dsn}")

    def sessions(self, **filters: str) -> list[dict[str, Any]]:
        """Return sessions, newest first (documented filters: device_id, status, since, until)."""
        return self._list(f"{self._project}/sessions", filters)

    def session(self, session_id: str) -> dict[str, Any]:
        """Return one session."""
        return self._object("GET", f"{self._project}/sessions/{session_id}")

    def logs(self, session_id: str, **filters: str) -> list[dict[str, Any]]:
        """Return the log lines of a session (documented filters: level, module, search, since, until, limit)."""
        return self._list(f"{self._project}/sessions/{session_id}/logs", filters)

    def send_command(self, dsn: str, command: int, payload: Mapping[str, object]) -> str:
        """Send a command to a device through the platform; return its id. It is sent once, and so waited for."""
        path = f"{self._project}/devices/{dsn}/commands"
        body = {"type": command, "payload": dict(payload)}
        return str(self._object("POST", path, limits=PATIENT, json=body).get("command_id", ""))

    def answers(self) -> None:
        """Raise BackendError unless the platform answers anything at all."""
        self._ask("GET", "/api/v1/health", self._limits)

    def _list(self, path: str, filters: Mapping[str, str]) -> list[dict[str, Any]]:
        answer = self._call("GET", path, params=filters)
        # The documentation shows bare arrays and, for paged lists, no shape at all: both are read.
        items = answer.get("items") if isinstance(answer, dict) else answer
        if not isinstance(items, list):
            raise BackendError(f"{self._backend.url}{path} answered something that is not a list")
        return items

    def _object(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        answer = self._call(method, path, **options)
        if not isinstance(answer, dict):
            raise BackendError(f"{self._backend.url}{path} answered something that is not an object")
        return answer

    def _call(self, method: str, path: str, *, limits: Limits | None = None, **options: Any) -> Any:
        url = self._backend.url.rstrip("/") + path
        answer = self._ask(method, path, limits or self._limits, **options)
        try:
            content = json.loads(answer.body)
        except (ValueError, RecursionError):
            content = None
        if 300 <= answer.status < 400:
            place = answer.headers.get("location", "nowhere")[:200]
            raise BackendError(
                f"{method} {url} was answered with a redirect ({answer.status}) to {place}",
                remedy="set `backend` to the platform's own URL",
            )
        if answer.status >= 400:
            # Documented: errors are read from `detail` or `message`.
            said = (content.get("detail") or content.get("message")) if isinstance(content, dict) else None
            words = " ".join(str(said or answer.reason).split())[:LONGEST_REFUSAL]
            again = answer.headers.get("retry-after", "")[:100]
            raise BackendError(
                f"{method} {url} was refused with {answer.status}: {words}",
                remedy=f"it asks to be left alone until {again} (seconds, or a time)" if again else "",
            )
        if content is None:
            raise BackendError(f"{method} {url} answered something that is not JSON", remedy="check the URL")
        return content

    def _ask(self, method: str, path: str, limits: Limits, **options: Any) -> Answer:
        url = self._backend.url.rstrip("/") + path
        if self._deadline is not None:
            limits = limits._replace(whole=max(SHORTEST, min(limits.whole, self._deadline.remaining)))
        try:
            return self._connect().call(method, url, limits=limits, **options)
        except (OSError, SlowError, BusyError, LargeError, ValueError) as error:  # requests' own errors are OSErrors
            from roboticks_tasks.backend.reasons import reason_of

            reason = reason_of(error, self._backend.url)
            raise BackendError(
                f"the platform at {self._backend.url} cannot be reached for {method} {path} ({reason.seen})",
                remedy=reason.remedy,
            ) from error

    def _connect(self) -> Caller:
        """Open the connection with the first call: whoever needs no answer does not pay for the library."""
        if self._caller is None:
            # A proxy of the CI machine would swallow the loopback address.
            session = open_session(trust_env=urlsplit(self._backend.url).hostname not in LOOPBACK)
            session.headers["Accept"] = "application/json"
            session.auth = self._authorise
            self._caller = Caller(session)
        return self._caller

    def _authorise(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add our header; without a method of ours requests would take what a .netrc says of the host."""
        request.headers.update(self._headers)
        return request

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._caller is not None:
            self._caller.close()


@contextmanager
def open_client(
    backend: BackendRef, client: Client | None = None, *, quick: bool = False, deadline: Deadline | None = None
) -> Iterator[Client]:
    """Lend `client`, or make one for the block and close it afterwards; `quick` and `deadline` as for Client."""
    if client is not None:
        yield client
        return
    own = Client(backend, quick=quick, deadline=deadline)
    try:
        yield own
    finally:
        own.close()
