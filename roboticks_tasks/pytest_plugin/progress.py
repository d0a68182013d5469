"""Live progress of the tests at the platform: sent in batches by a thread that no test ever waits for.

The platform's documentation names such a plugin, but neither its endpoint nor what it sends: both are our choice. A
POST to the project's `test-runs/{run_id}/progress` has `{"events": […], "total": number | null}`, the events as they
stand in tests.jsonl, and is answered with 202 and `{"accepted": number}`.
"""

from __future__ import annotations

import threading
import warnings
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import msgspec

from roboticks_tasks.events import Event

if TYPE_CHECKING:
    import requests

    from roboticks_tasks.backend.calls import Caller
    from roboticks_tasks.models import BackendRef
    from roboticks_tasks.state import RunState

INTERVAL = 0.25
"""Seconds between two batches."""

MOST_WAITING = 2000
"""Events that wait at most; a platform that is slower than the tests does not get the others."""

LARGEST_BATCH = 200

PATIENCE = 1.0
"""Seconds that the end of the session waits for the last batch, at most."""

FAILURES = 3
"""In a row, after which the platform is left alone for good."""

UNKNOWN = {404, 405}
"""What a platform answers that has no such interface: that is no news to anybody."""

REFUSED = {401, 403}


class Progress:
    """Take events without waiting, and send them on, as long as the platform takes them."""

    def __init__(self, backend: BackendRef, run_id: str, *, total: Callable[[], int | None]) -> None:
        names = [quote(each or "", safe="") for each in (backend.organization, backend.project, run_id)]
        path = "/api/v1/organizations/{}/projects/{}/test-runs/{}/progress".format(*names)
        self._url = backend.url.rstrip("/") + path
        self._backend = backend
        self._total = total
        self._waiting: deque[Event] = deque()
        self._lost = 0
        self._reason = ""
        self._is_off = False
        self._is_unknown = False
        self._end = threading.Event()
        with warnings.catch_warnings():  # here, as in our thread a warning of theirs would be one of a test
            warnings.simplefilter("ignore")
            import requests  # noqa: F401
        self._thread = threading.Thread(target=self._work, name="roboticks-progress", daemon=True)
        self._thread.start()

    @classmethod
    def of(cls, run: RunState | None, *, total: Callable[[], int | None]) -> Progress | None:
        """Return what tells the platform of a run; None where project, organization or key are not known."""
        from roboticks_tasks.backend.credentials import api_headers
        from roboticks_tasks.errors import BackendError

        if run is None or run.backend is None or not (run.backend.organization and run.backend.project):
            return None
        try:
            return cls(run.backend, run.run_id, total=total) if api_headers(run.backend) else None
        except BackendError:
            return None

    def __call__(self, event: Event) -> None:
        """Take an event, unless too many wait already."""
        if self._is_off or len(self._waiting) >= MOST_WAITING:
            self._lost += 1
        else:
            self._waiting.append(event)

    def close(self) -> None:
        """Have what waits sent now, and wait for that a second at most."""
        self._end.set()
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            self._reason = self._reason or "it does not answer"
        self._is_off = True

    @property
    def complaint(self) -> str | None:
        """Return a sentence on what the platform has not been told; None when there is nothing to say."""
        lost = self._lost + len(self._waiting)
        if not lost or self._is_unknown:
            return None
        return f"the platform was not told of {lost} test events: {self._reason or 'it takes them too slowly'}"

    def _work(self) -> None:
        try:
            self._deliver()
        except Exception as error:  # a warning that the tests' settings make an error, say: pytest would blame a test
            self._reason, self._is_off = f"{type(error).__name__}: {error}", True

    def _deliver(self) -> None:
        from roboticks_tasks.backend.calls import Caller, open_session
        from roboticks_tasks.backend.client import LOOPBACK
        from roboticks_tasks.backend.credentials import api_headers

        headers = {**api_headers(self._backend), "Accept": "application/json", "Content-Type": "application/json"}

        def authorise(request: requests.PreparedRequest) -> requests.PreparedRequest:
            request.headers.update(headers)
            return request

        session = open_session(trust_env=urlsplit(self._url).hostname not in LOOPBACK)
        session.auth = authorise
        caller = Caller(session)
        failures, is_last = 0, False
        try:
            while not (self._is_off or is_last):
                is_last = self._end.wait(INTERVAL)
                while self._waiting and not self._is_off:
                    if not self._send(caller):
                        failures += 1
                        self._is_off = self._is_off or failures >= FAILURES
                        break
                    failures = 0
        finally:
            caller.close()

    def _send(self, caller: Caller) -> bool:
        """Send the oldest events; they stay where they are if that fails, and may be tried again."""
        from roboticks_tasks.backend.calls import BusyError, LargeError, Limits, SlowError
        from roboticks_tasks.backend.reasons import reason_of

        limits = Limits(connect=1.0, read=2.0, whole=2.0, attempts=1)
        batch = list(islice(self._waiting.copy(), LARGEST_BATCH))
        body = msgspec.json.encode({"events": batch, "total": self._total()})
        try:
            status = caller.call("POST", self._url, limits=limits, data=body).status
        except (OSError, SlowError, BusyError, LargeError, ValueError) as error:
            self._reason = reason_of(error, self._backend.url).seen
            return False
        if 200 <= status < 300:
            self._reason = ""
            for _ in batch:
                self._waiting.popleft()
            return True
        self._reason = f"it answered {status}"
        self._is_unknown = status in UNKNOWN
        self._is_off = self._is_off or status in UNKNOWN | REFUSED
        return False
