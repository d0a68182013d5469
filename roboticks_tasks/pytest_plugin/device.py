"""The device under test, as tests see it."""

from __future__ import annotations

from roboticks_tasks.models import Value


class Device(Value, frozen=True, kw_only=True):
    """The device under test."""

    dsn: str
