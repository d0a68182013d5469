"""A board's serial console, opened quietly and by one process alone, and opened again when it was lost."""

from __future__ import annotations

import os
import termios

from roboticks_tasks.serial_console import holders, library, reasons
from roboticks_tasks.serial_console.channel import Port
from roboticks_tasks.serial_console.network import open_network
from roboticks_tasks.serial_console.reasons import Console

PSEUDO = "/dev/pts/"
"""Where pseudo terminals are: whoever simulates a board has both ends open."""

PASSING = (0, 0)
"""What stands for a path that leads to a pseudo terminal without a link."""


def open_port(console: Console) -> Port:
    """Open a board's console for this process alone, DTR and RTS quiet; what was received before is discarded.

    BoardError says why it cannot be opened, and who has it when it is busy. ConfigError when pyserial is missing.
    """
    if console.baudrate <= 0:
        raise reasons.baudrate(console)
    return open_network(console) if "://" in console.port else _open_terminal(console)


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


def _open_terminal(console: Console) -> Port:
    handle = library.closed_port(console, exclusive=True)
    try:
        handle.open()
        fd: int = handle.fd
        # With pyserial's VMIN=0 an empty port reads like one that hung up.
        settings = termios.tcgetattr(fd)
        settings[6][termios.VMIN] = 1
        termios.tcsetattr(fd, termios.TCSANOW, settings)
    except (OSError, ValueError, OverflowError, termios.error) as error:
        handle.close()
        raise reasons.explain(console, error) from error
    device = os.path.realpath(console.port)
    others = [] if device.startswith(PSEUDO) else [pid for pid in holders.openers(device) if pid != os.getpid()]
    if others:  # a program that locks nothing, as most terminal programs: each would get some of the bytes
        handle.close()
        raise reasons.shared(console, others)
    return Port(fd, handle.close)
