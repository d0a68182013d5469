"""MQTT topics of the platform, and who may do what on them.

The fleet topics are those of https://docs.roboticks.io/architecture/mqtt-migration, the older per-device command topic
that of https://docs.roboticks.io/sdk/session-control: the pages disagree, so both are served.
"""

from __future__ import annotations

import re

PLATFORM_ID = "roboticks-platform"
"""Common name and client id of the platform's own MQTT client (our choice: not documented)."""

COMMANDS_BROADCAST = "roboticks/fleet/commands"
"""Where the platform sends commands to all devices."""

DSN = re.compile(r"[A-Z0-9][A-Z0-9_-]{0,62}")
"""What a device serial number looks like (our choice: not documented): no wildcard, no slash: safe in a topic."""

ROOT = "roboticks/"
WILDCARDS = frozenset("+#")

DEVICE_RULES: tuple[tuple[str, str], ...] = (
    ("publish", "roboticks/fleet/{dsn}/heartbeat"),
    ("publish", "roboticks/fleet/{dsn}/sessions"),
    ("publish", "roboticks/fleet/{dsn}/logs"),
    ("publish", "roboticks/fleet/{dsn}/file_upload/request"),
    ("subscribe", "roboticks/fleet/{dsn}/session/response"),
    ("subscribe", "roboticks/fleet/{dsn}/file_upload/response"),
    ("subscribe", "roboticks/fleet/{dsn}/logs/response"),
    ("subscribe", "roboticks/devices/{dsn}/commands"),
    ("subscribe", COMMANDS_BROADCAST),
)
"""All that a device may do, as (action, topic with its own DSN); everything else is denied."""


def heartbeat(dsn: str) -> str:
    """Return the topic of a device's status and metrics; `dsn` may be "+" for the platform's subscription, as below."""
    return f"roboticks/fleet/{dsn}/heartbeat"


def sessions(dsn: str) -> str:
    """Return the topic on which a device creates and completes sessions."""
    return f"roboticks/fleet/{dsn}/sessions"


def logs(dsn: str) -> str:
    """Return the topic of a device's batched log messages."""
    return f"roboticks/fleet/{dsn}/logs"


def file_upload_request(dsn: str) -> str:
    """Return the topic on which a device asks for an upload URL."""
    return f"roboticks/fleet/{dsn}/file_upload/request"


def session_response(dsn: str) -> str:
    """Return the topic on which the platform answers with a session's UUID."""
    return f"roboticks/fleet/{dsn}/session/response"


def file_upload_response(dsn: str) -> str:
    """Return the topic on which the platform answers with an upload URL."""
    return f"roboticks/fleet/{dsn}/file_upload/response"


def logs_response(dsn: str) -> str:
    """Return the topic on which the platform says that it has stored log messages (our choice: not documented)."""
    return f"roboticks/fleet/{dsn}/logs/response"


def device_commands(dsn: str) -> str:
    """Return the older topic of commands to one device."""
    return f"roboticks/devices/{dsn}/commands"


def allowed(identity: str, action: str, topic: str) -> bool:
    """Tell whether `identity` may "publish" to the topic, or "subscribe" with the filter, `topic`.

    The platform may do everything under roboticks/; a device exactly what `DEVICE_RULES` grant its own DSN, so a filter
    with wildcards is refused; an identity that is neither may do nothing.
    """
    if action not in ("publish", "subscribe") or (action == "publish" and not WILDCARDS.isdisjoint(topic)):
        return False
    if identity == PLATFORM_ID:
        return topic.startswith(ROOT)
    if DSN.fullmatch(identity) is None:
        return False
    return any(action == granted and topic == pattern.format(dsn=identity) for granted, pattern in DEVICE_RULES)
