"""The platform, as tests see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from roboticks_tasks.backend import Client
from roboticks_tasks.errors import BackendError
from roboticks_tasks.waiting import Deadline, first

T = TypeVar("T")


class Platform:
    """Ask the platform what it knows of device and session."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def device(self, dsn: str) -> dict[str, Any]:
        """Return the device's entry in the registry."""
        return self._client.device(dsn)

    def session(self, session_id: str) -> dict[str, Any]:
        """Return the session's entry."""
        return self._client.session(session_id)

    def logs(self, session_id: str, **filters: str) -> list[dict[str, Any]]:
        """Return the log lines of a session that have arrived so far."""
        return self._client.logs(session_id, **filters)

    def limits(self) -> dict[str, Any]:
        """Return the organization's limits and the used Device units."""
        return self._client.limits()

    def wait_for(self, probe: Callable[[], T], timeout: float = 5.0) -> T:
        """Return the first true value of `probe()`; AssertionError after `timeout` seconds, with its last value.

        BackendError when the platform cannot be reached by then: that is no word about the device.
        """
        last: list[object] = [None]

        def look() -> T | None:
            try:
                value = probe()
            except BackendError as error:
                last[0] = error
                return None
            last[0] = value
            return value or None

        found = first(look, deadline=Deadline(timeout), interval=0.02)
        if found is not None:
            return found
        if isinstance(last[0], BackendError) and last[0].__cause__ is not None:  # not even a refusal has come
            raise last[0]
        raise AssertionError(f"not within {timeout:g} s; last seen: {last[0]!r}")
