"""A board's serial console, opened quietly, and by one process alone."""

from __future__ import annotations

import os
import termios

from roboticks_tasks.serial_console import holders, library, reasons
from roboticks_tasks.serial_console.channel import Port
from roboticks_tasks.serial_console.network import open_network
from roboticks_tasks.serial_console.reasons import Console

PSEUDO = "/dev/pts/"
"""Where pseudo terminals are: whoever simulates a board has both ends open."""


def open_port(console: Console) -> Port:
    """Open a board's console for this process alone, DTR and RTS quiet; what was received before is discarded.

    BoardError says why it cannot be opened, and who has it when it is busy. ConfigError when pyserial is missing.
    """
    if console.baudrate <= 0:
        raise reasons.baudrate(console)
    return open_network(console) if "://" in console.port else _open_terminal(console)


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
