"""pyserial, loaded when a port needs it, and told not to touch the lines by which boards are reset."""

from __future__ import annotations

from typing import Any

from roboticks_tasks.errors import ConfigError
from roboticks_tasks.serial_console import reasons
from roboticks_tasks.serial_console.reasons import Console


def closed_port(console: Console, *, exclusive: bool | None = None) -> Any:
    """Return pyserial's object for the port, not yet open."""
    try:
        import serial  # type: ignore[import-untyped]  # pyserial ships no types
    except ImportError as error:
        raise ConfigError(
            f"the console {console.port} needs pyserial, which is not installed",
            remedy="install `roboticks-tasks[serial]`",
        ) from error
    options = {"baudrate": console.baudrate, "timeout": 0.2, "exclusive": exclusive}
    try:
        if reasons.scheme(console) == "rfc2217":
            handle = _rfc2217(console.port, options)
        else:
            handle = serial.serial_for_url(console.port, do_not_open=True, **options)
        # The kernel raises both at open, and many boards reset by one of them: pyserial lowers them at once.
        handle.dtr = False
        handle.rts = False
    except (ValueError, OSError) as error:
        raise reasons.explain(console, error) from error
    return handle


def _rfc2217(url: str, options: dict[str, Any]) -> Any:
    from roboticks_tasks.serial_console.rfc2217 import Client

    handle = Client(None, **options)
    # A server whose port has no DTR and RTS (a pty, some adapters) never answers that it has set them.
    handle.port = url if "ign_set_control" in url else f"{url}{'&' if '?' in url else '?'}ign_set_control"
    return handle
