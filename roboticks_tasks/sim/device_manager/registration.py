"""Registration with the platform over HTTP, once, and from then on only the question where its broker is.

The calls (`/api/v1/fleet/register`, `/api/v1/fleet/connection`) are our choice: not documented.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from roboticks_tasks.sim import topics
from roboticks_tasks.sim.device_manager import endings, state
from roboticks_tasks.sim.device_manager.credentials import Credentials, serial_of
from roboticks_tasks.sim.device_manager.offload import offload

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from roboticks_tasks.sim.device_manager.journal import Journal
    from roboticks_tasks.sim.device_manager.settings import Settings
    from roboticks_tasks.sim.device_manager.state import State

TIMEOUT = 5.0
FIRST_PAUSE = 0.02
LONGEST_PAUSE = 1.0
LARGEST_ANSWER = 1 << 20
CLOCK_TOLERANCE = 60.0
"""Seconds by which two clocks may differ without a word."""

TRY_AGAIN = frozenset({408, 425, 429})
"""Refusals that are about the moment, not about the device."""


class UnreachableError(Exception):
    """The platform did not answer, or not with sense; it may later."""


class RefusedError(Exception):
    """The platform answered with a refusal; `status` is its HTTP status."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, kw_only=True)
class Registration:
    """Who the device is for the platform, and where its broker is.

    `clock_ahead` is by how many seconds the device's clock is ahead of the platform's.
    """

    dsn: str
    host: str
    port: int
    from_cache: bool
    clock_ahead: float = 0.0

    @property
    def clock_words(self) -> str:
        """Say how wrong the device's clock is by the platform's; empty when they agree."""
        seconds = abs(self.clock_ahead)
        if seconds < CLOCK_TOLERANCE:
            return ""
        units = {86_400: "days", 3600: "hours", 60: "minutes"}
        size, unit = next((each for each in units.items() if seconds >= 2 * each[0]), (60, "minutes"))
        return (
            f"this device's clock is {seconds / size:.0f} {unit} {'ahead of' if self.clock_ahead > 0 else 'behind'} "
            "the platform's"
        )


async def obtain(
    settings: Settings,
    credentials: Credentials,
    journal: Journal,
    *,
    status: State,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Registration:
    """Return the device's registration, asking until the platform answers; the state shows why it takes long.

    Errors: Ending with exit code 4 when the platform refuses the project secret or the device.
    """
    pause, told = FIRST_PAUSE, ""
    while True:
        try:
            return await offload(lambda: _ask_once(settings, credentials))
        except RefusedError as refusal:
            secret = refusal.status in (401, 403)
            code = "project-secret-refused" if secret else "registration-refused"
            raise endings.Ending(
                f"{settings.api_url} refused the registration: {refusal}", code=code, exit_code=endings.REFUSED
            ) from refusal
        except UnreachableError as error:
            if str(error) != told:
                told = str(error)
                journal.warning("registration", f"{told}; trying again")
                status.update(error=state.error("platform-unreachable", told))
        await sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def _ask_once(settings: Settings, credentials: Credentials) -> Registration:
    cached = credentials.cached()
    # A test device is another kind of device for the platform (it uses no purchased unit), so it registers as such.
    if cached is not None and cached.get("test_device") == settings.test_device:
        try:
            answer, ahead = _request(settings, "GET", f"/api/v1/fleet/connection?dsn={quote(cached['dsn'])}")
            return _registration({**cached, **answer}, from_cache=True, clock_ahead=ahead)
        except RefusedError as refusal:
            if refusal.status != http.client.NOT_FOUND:
                raise
    serial = serial_of(settings.root)
    body = {
        "name": settings.name,
        "serial": serial,
        "csr": credentials.signing_request(serial),
        "type": settings.type,
        "test_device": settings.test_device,
        "environment": "test" if settings.test_device else "production",
    }
    answer, ahead = _request(settings, "POST", "/api/v1/fleet/register", body=body)
    registration = _registration(answer, from_cache=False, clock_ahead=ahead)
    if not (isinstance(answer.get("certificate"), str) and isinstance(answer.get("ca_certificate"), str)):
        raise UnreachableError(f"{settings.api_url} answered the registration without certificates")
    credentials.store({**answer, "test_device": settings.test_device})
    return registration


def _registration(answer: dict[str, Any], *, from_cache: bool, clock_ahead: float) -> Registration:
    try:
        dsn, host, port = answer["dsn"], answer["mqtt"]["host"], answer["mqtt"]["port"]
    except (KeyError, TypeError) as error:
        raise UnreachableError(f"the platform's answer has no {error}") from error
    if not (isinstance(dsn, str) and topics.DSN.fullmatch(dsn) and isinstance(host, str) and isinstance(port, int)):
        raise UnreachableError(f"the platform's answer makes no sense: DSN {dsn!r}, broker {host!r} port {port!r}")
    return Registration(dsn=dsn, host=host, port=port, from_cache=from_cache, clock_ahead=clock_ahead)


def _request(settings: Settings, method: str, path: str, *, body: object = None) -> tuple[dict[str, Any], float]:
    """Return the platform's JSON answer, and by how many seconds our clock is ahead of its own.

    No proxy is ever asked, a CI proxy would swallow 127.0.0.1.
    """
    parts = urlsplit(settings.api_url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT)
    headers = {"X-Project-Secret": settings.project_secret, "Content-Type": "application/json"}
    try:
        connection.request(method, parts.path + path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        status, content = answer.status, answer.read(LARGEST_ANSWER)
        ahead = _clock_ahead(answer.getheader("Date"))
    except (OSError, http.client.HTTPException) as error:
        reason = str(error) or type(error).__name__
        raise UnreachableError(f"the platform at {settings.api_url} is not reachable: {reason}") from error
    finally:
        connection.close()
    try:
        document = json.loads(content)
    except ValueError:
        document = None
    if http.client.BAD_REQUEST <= status < http.client.INTERNAL_SERVER_ERROR and status not in TRY_AGAIN:
        detail = document.get("detail") if isinstance(document, dict) else None
        raise RefusedError(f"{detail or answer.reason} (HTTP {status})", status=status)
    if status not in (http.client.OK, http.client.CREATED) or not isinstance(document, dict):
        raise UnreachableError(f"the platform at {settings.api_url} answered HTTP {status} {answer.reason}")
    return document, ahead


def _clock_ahead(date: str | None) -> float:
    try:
        return time.time() - parsedate_to_datetime(date or "").timestamp()
    except (ValueError, OverflowError):
        return 0.0
