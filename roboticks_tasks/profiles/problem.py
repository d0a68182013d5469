"""One thing that cannot work in a profile."""

from __future__ import annotations

from typing import NamedTuple


class Problem(NamedTuple):
    """Something that cannot work: the key to look at, what is wrong with it, what to do; keys that play a part."""

    key: str
    message: str
    remedy: str
    involved: tuple[str, ...] = ()


def empty_command(key: str) -> Problem:
    """Return what is wrong with a command without words."""
    return Problem(key, f"`{key}` is an empty command", 'write it as ["program", "argument", …], or remove the key')
