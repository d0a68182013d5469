"""Requests with a body, tried again where that may help, and one sentence where it does not."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from time import sleep
from typing import Any
from urllib.parse import urlsplit

from roboticks_tasks.backend.calls import (
    Answer,
    BusyError,
    Caller,
    LargeError,
    Limits,
    SlowError,
    asked_pause,
    open_session,
    pause_before,
    was_silent,
)
from roboticks_tasks.backend.client import LONGEST_REFUSAL, LOOPBACK
from roboticks_tasks.errors import BackendError
from roboticks_tasks.upload.form import ChangedError, Form
from roboticks_tasks.waiting import Deadline

CONNECT, READ = 5.0, 60.0
"""Seconds for a connection and each write to it, and for an answer once all is sent: a platform reads what it got."""

ATTEMPTS = 4

REMEDIES: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "set ROBOTICKS_INGEST_TOKEN, or ROBOTICKS_API_KEY, to a valid one",
    HTTPStatus.FORBIDDEN: "use a token or a key of this project",
    HTTPStatus.NOT_FOUND: "check `backend`, `organization` and `project` of the profile",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "the platform does not take so much",
}


class RefusedError(BackendError):
    """The platform does not let us in: whatever else is sent would be refused as well."""


class Sender:
    """Connections for one upload: one to the platform, with our credential, and others to hosts that get none."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = dict(headers)
        self._callers: dict[tuple[str, bool], Caller] = {}

    def ask(self, url: str, value: object, what: str, *, deadline: Deadline) -> dict[str, Any]:
        """Send JSON to the platform and return the object that it answers."""
        body = json.dumps(value).encode()
        headers = {"Content-Type": "application/json"}
        return _object(self._send(url, lambda: (body, headers), what, deadline, known=True), url, what)

    def deliver(self, url: str, form: Callable[[], Form], what: str, *, deadline: Deadline) -> dict[str, Any]:
        """Send a form to the platform and return the object that it answers."""
        return _object(self._send(url, lambda: _body(form()), what, deadline, known=True), url, what)

    def store(self, url: str, form: Callable[[], Form], what: str, *, deadline: Deadline) -> None:
        """Send a form to an address that the platform has signed; no credential of ours goes there."""
        if not is_safe(url):
            raise BackendError(f"{what} was not sent: the platform names {_place(url)} for it, which is not https")
        self._send(url, lambda: _body(form()), what, deadline, known=False)

    def close(self) -> None:
        """Close the connections."""
        for caller in self._callers.values():
            caller.close()

    def _send(
        self,
        url: str,
        body: Callable[[], tuple[Any, dict[str, str]]],
        what: str,
        deadline: Deadline,
        *,
        known: bool,
    ) -> Answer:
        """Return an answer that is well; BackendError with one sentence, RefusedError where all is lost."""
        attempt = 0
        while True:
            attempt += 1
            pause = pause_before(attempt)
            try:
                answer = self._once(url, body, deadline, known=known)
                if answer.status < 300:
                    return answer
                pause = max(pause, asked_pause(answer))
                passing = answer.status >= 500 or answer.status == HTTPStatus.TOO_MANY_REQUESTS
                if not passing or attempt >= ATTEMPTS or pause >= deadline.remaining:
                    raise _refusal(answer, url, what, known=known)
            except ChangedError as error:
                raise BackendError(f"{what} was not sent: it became shorter meanwhile") from error
            except (OSError, SlowError, BusyError, LargeError, ValueError) as error:  # requests' errors are OSErrors
                if not _may_pass(error) or attempt >= ATTEMPTS or pause >= deadline.remaining:
                    raise _failure(error, url, what, deadline) from error
            sleep(pause)

    def _once(
        self, url: str, body: Callable[[], tuple[Any, dict[str, str]]], deadline: Deadline, *, known: bool
    ) -> Answer:
        if deadline.expired:
            raise SlowError(f"{deadline.seconds:.3g} s")
        data, headers = body()
        limits = Limits(connect=CONNECT, read=READ, whole=deadline.remaining, attempts=1)
        return self._caller(url, known=known).call("POST", url, limits=limits, data=data, headers=headers)

    def _caller(self, url: str, *, known: bool) -> Caller:
        key = (_place(url), known)
        if key not in self._callers:
            # A proxy of the CI machine would swallow the loopback address.
            session = open_session(trust_env=urlsplit(url).hostname not in LOOPBACK)
            session.headers["Accept"] = "application/json"
            ours = self._headers if known else {}

            def authorise(request: Any) -> Any:
                """Add our header; without a method of ours requests would take what a .netrc says of the host."""
                request.headers.update(ours)
                return request

            session.auth = authorise
            self._callers[key] = Caller(session)
        return self._callers[key]


def is_safe(url: str) -> bool:
    """Tell whether nobody on the way can read what is sent there."""
    try:
        parts = urlsplit(url)
        return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
    except ValueError:
        return False


def _body(form: Form) -> tuple[Form, dict[str, str]]:
    return form, {"Content-Type": form.content_type}


def _may_pass(error: Exception) -> bool:
    """Tell whether it may be otherwise the next time: a connection that was refused, reset or hung up."""
    import requests

    if isinstance(error, requests.exceptions.SSLError | requests.exceptions.ProxyError):
        return False
    if isinstance(error, requests.RequestException):
        broken = requests.ConnectionError | requests.exceptions.ChunkedEncodingError | requests.Timeout
        return isinstance(error, broken) and not was_silent(error)
    return isinstance(error, ConnectionError)


def _refusal(answer: Answer, url: str, what: str, *, known: bool) -> BackendError:
    if 300 <= answer.status < 400:
        place = _place(answer.headers.get("location", ""))
        return BackendError(
            f"{what} was not sent: {_place(url)} answered with a redirect ({answer.status}) to {place}",
            remedy="set `backend` to the platform's own URL" if known else "",
        )
    try:
        content = json.loads(answer.body)
    except (ValueError, RecursionError):
        content = None
    # Documented: errors are read from `detail` or `message`.
    said = (content.get("detail") or content.get("message")) if isinstance(content, dict) else None
    words = " ".join(str(said or answer.reason).split())[:LONGEST_REFUSAL]
    lost = known and answer.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
    remedy = REMEDIES.get(answer.status, "") if known else ""
    kind = RefusedError if lost else BackendError
    return kind(f"{what} was refused by {_place(url)} with {answer.status}: {words}", remedy=remedy)


def _failure(error: Exception, url: str, what: str, deadline: Deadline) -> BackendError:
    from roboticks_tasks.backend.reasons import reason_of

    if deadline.expired or isinstance(error, SlowError):
        return BackendError(f"{what} was not sent within {deadline.seconds:.3g} s")
    reason = reason_of(error, url)
    return BackendError(f"{what} could not be sent to {_place(url)} ({reason.seen})", remedy=reason.remedy)


def _object(answer: Answer, url: str, what: str) -> dict[str, Any]:
    try:
        content = json.loads(answer.body)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise BackendError(f"{what}: {_place(url)} answered something that is not a JSON object")
    return content


def _place(url: str) -> str:
    """Return scheme and host of an address: what stands behind them may be a signature."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "nowhere"
    return f"{parts.scheme}://{parts.hostname or ''}{port}" if parts.scheme else "nowhere"
