"""Faults to order, for tests of whoever watches a device manager: ROBOTICKS_SIM_FAULT, a comma separated list."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = "ROBOTICKS_SIM_FAULT"
SECONDS: Mapping[str, float | None] = MappingProxyType(
    {
        "dies-at-start": None,
        "dies-later": 0.0,
        "never-registers": None,
        "registers-late": 2.0,
        "no-session": None,
        "ignores-sigterm": None,
    }
)
"""The known faults and, for those that take `=SECONDS`, the default."""


def parse(text: str) -> Mapping[str, float]:
    """Return the faults of e.g. `no-session,registers-late=0.5` with their seconds (0 where none apply).

    Errors: ValueError with one sentence that names the known faults.
    """
    found: dict[str, float] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, has_seconds, seconds = item.partition("=")
        if name not in SECONDS:
            raise ValueError(f"{VARIABLE}: unknown fault {name!r} (known: {', '.join(SECONDS)})")
        default = SECONDS[name]
        if has_seconds and default is None:
            raise ValueError(f"{VARIABLE}: {name} takes no seconds, got {item!r}")
        try:
            found[name] = float(seconds) if has_seconds else default or 0.0
        except ValueError:
            raise ValueError(f"{VARIABLE}: {name}={seconds!r} is not a number of seconds") from None
        if not 0 <= found[name] < float("inf"):
            raise ValueError(f"{VARIABLE}: {name}={seconds!r} is not a number of seconds")
    return found
