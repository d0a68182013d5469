"""Which port that was lost may be opened again: the same adapter behind its link, never a stranger's terminal."""

from __future__ import annotations

import os

PASSING = (0, 0)
"""What stands for a path that leads to a pseudo terminal without a link."""


def link_of(port: str) -> tuple[int, int] | None:
    """Return what tells the link to a pseudo terminal from one that is made later; None for every other port.

    The number of a pseudo terminal that has ended is given to the next one, be it somebody's login.
    """
    if "://" in port or not os.path.realpath(port).startswith("/dev/pts/"):
        return None
    found = os.lstat(port)
    return (found.st_ino, found.st_ctime_ns) if os.path.islink(port) else PASSING  # noqa: PTH114 - not followed


def may_come_back(port: str, link: tuple[int, int] | None) -> bool:
    """Tell whether it makes sense to open a port that was lost."""
    if "://" in port:
        return True
    try:
        return os.path.exists(port) and (link is None or link_of(port) != link)  # noqa: PTH110 - as above
    except OSError:
        return False
