"""HTTP calls that end: one limit of time and one of size for a whole call, and repetitions only where they are safe."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from contextlib import suppress
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from queue import Empty, SimpleQueue
from time import sleep, time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from roboticks_tasks.waiting import Deadline

if TYPE_CHECKING:
    import requests

T = TypeVar("T")

LARGEST_ANSWER = 16 * 1024 * 1024
"""Bytes of an answer that are read; the platform's largest page of log messages is a tenth of it."""

CHUNK = 1 << 16
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 2.0
"""Seconds before the first repetition, and at most; they double, and a part of each is left to chance."""

PASSING = {
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}
"""What a platform answers that is only busy, or about to come back."""


class Limits(NamedTuple):
    """Seconds for a connection, for each read, and for the whole call; and how often it is tried."""

    connect: float
    read: float
    whole: float
    attempts: int


class Answer(NamedTuple):
    """A whole answer; header names are in lower case."""

    status: int
    reason: str
    headers: dict[str, str]
    body: bytes


class SlowError(Exception):
    """There is no whole answer within the limit; the message tells the seconds."""


class BusyError(Exception):
    """An earlier call was left behind, and hangs to this moment."""


class LargeError(Exception):
    """The answer is larger than `LARGEST_ANSWER`."""


def within(seconds: float, work: Callable[[], T]) -> T:
    """Return what `work` returns or raise what it raises; SlowError after `seconds`, whatever it hangs in.

    A name server that does not answer and a server that sends a byte a second keep no limit of a socket's. What hangs
    is left behind in a daemon thread, which ends with the process.
    """
    outcome: SimpleQueue[tuple[T, None] | tuple[None, BaseException]] = SimpleQueue()

    def run() -> None:
        try:
            outcome.put((work(), None))
        except BaseException as error:
            outcome.put((None, error))

    threading.Thread(target=run, name="http-call", daemon=True).start()
    try:
        value, error = outcome.get(timeout=max(0.0, seconds))
    except Empty:
        raise SlowError(f"{seconds:.3g} s") from None
    if error is not None:
        raise error
    return value  # type: ignore[return-value]  # a value comes without an error


class Caller:
    """Calls to one server over a session that is kept; as long as one hangs that was left behind, there is no next."""

    def __init__(self, session: requests.Session) -> None:
        self._session = session
        self._busy = threading.Lock()

    def call(self, method: str, url: str, *, limits: Limits, **options: Any) -> Answer:
        """Return the server's answer, whatever its status.

        GETs are tried again when they broke or found the server busy, as long as the limit lasts; after the last
        attempt the answer itself comes back, because it says more than that the attempts are used up. Everything else
        is sent once, because it may have arrived. Raises SlowError, BusyError, LargeError, requests.RequestException.
        """
        import requests

        deadline = Deadline(limits.whole)
        attempts = limits.attempts if method == "GET" else 1
        attempt = 0
        while True:
            attempt += 1
            pause = pause_before(attempt)
            try:
                answer = self._once(method, url, limits, deadline, options)
                pause = max(pause, asked_pause(answer))
                if answer.status not in PASSING or attempt >= attempts or pause >= deadline.remaining:
                    return answer
            except requests.RequestException as error:
                hopeless = isinstance(error, requests.exceptions.SSLError) or was_silent(error)
                if hopeless or attempt >= attempts or pause >= deadline.remaining:
                    raise
            except SlowError as error:
                raise SlowError(f"{limits.whole:.3g} s") from error
            sleep(pause)

    def _once(self, method: str, url: str, limits: Limits, deadline: Deadline, options: dict[str, Any]) -> Answer:
        if not self._busy.acquire(blocking=False):
            raise BusyError("an earlier call still waits")
        open_answers: list[requests.Response] = []

        def ask() -> Answer:
            try:
                timeout = (min(limits.connect, limits.whole), min(limits.read, limits.whole))
                with self._session.request(
                    method, url, timeout=timeout, stream=True, allow_redirects=False, **options
                ) as response:
                    open_answers.append(response)
                    return _read(response)
            finally:
                self._busy.release()

        try:
            return within(deadline.remaining, ask)
        except SlowError:
            for response in open_answers:  # what reads it comes to an end
                with suppress(Exception):
                    response.raw.shutdown()
            raise

    def close(self) -> None:
        """Close the connections."""
        self._session.close()


def open_session(*, trust_env: bool) -> requests.Session:
    """Return a session that asks once and follows no redirect; without `trust_env` it knows of no proxy."""
    import requests

    class Session(requests.Session):
        def get_redirect_target(self, resp: requests.Response) -> None:
            """Find none: requests would read the whole answer, of any size, on the way to it."""
            return

    session = Session()
    session.trust_env = trust_env
    session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
    return session


def _read(response: requests.Response) -> Answer:
    body = bytearray()
    for chunk in response.iter_content(CHUNK):
        body += chunk
        if len(body) > LARGEST_ANSWER:
            raise LargeError
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status_code, response.reason or "", headers, bytes(body))


def was_silent(error: requests.RequestException) -> bool:
    """Tell whether the server took the connection and then said nothing: it would be the same once more."""
    return "Read timed out" in str(error)


def pause_before(attempt: int) -> float:
    """Return the seconds to wait after the attempt of this number, from 1 on."""
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (attempt - 1))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - many clients must not come back in step


def asked_pause(answer: Answer) -> float:
    """Return the seconds that the server asks to wait, 0 when it does not."""
    asked = answer.headers.get("retry-after", "")
    if asked.isascii() and asked.isdecimal():
        return float(asked[:9])
    try:
        return max(0.0, float(parsedate_to_datetime(asked).timestamp()) - time())
    except (ValueError, OverflowError):
        return 0.0
