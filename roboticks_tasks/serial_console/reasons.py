"""Why a console cannot be opened, in one sentence and with what to do about it."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Protocol

from roboticks_tasks.errors import BoardError, ConfigError
from roboticks_tasks.serial_console.holders import describe, holders
from roboticks_tasks.serial_console.registration import find_capture

MISSING = {errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ENOTDIR}
DENIED = {errno.EACCES, errno.EPERM}
HUNG_UP = {errno.EPIPE, errno.ECONNRESET}
BUSY = {errno.EAGAIN, errno.EBUSY, errno.EWOULDBLOCK}


class Console(Protocol):
    """What a profile says of a console, as much as it takes to open it; the capture starts without msgspec."""

    @property
    def port(self) -> str:
        """Path or URL."""

    @property
    def baudrate(self) -> int:
        """Bits per second."""


def scheme(console: Console) -> str:
    """Return what stands before :// in the port's address."""
    return console.port.partition("://")[0].lower()


def explain(console: Console, error: BaseException) -> BoardError | ConfigError:
    """Return the error that says why `console` could not be opened."""
    text = str(error).replace(f"{console.port}?ign_set_control", console.port)
    if "://" in console.port and getattr(error, "errno", None) in HUNG_UP:
        return refused(console, b"")
    if "://" in console.port:
        return _network(console, text)
    # pyserial gives the number of the error alone where open(2) failed, and a text elsewhere.
    number = getattr(error, "errno", None)
    if number in MISSING:
        return _missing(console)
    if number in DENIED:
        return _denied(console)
    if number in BUSY:
        return busy(console, path=console.port)
    if "baud" in text.lower() or isinstance(error, OverflowError):
        return baudrate(console)
    if "configure port" in text or number in {errno.ENOTTY, errno.EIO, errno.EISDIR}:
        return BoardError(
            f"the console {console.port} is no serial port, or has no hardware behind it: {text}",
            remedy=_those_that_exist(),
        )
    return BoardError(f"the console {console.port} cannot be opened: {text}")


def busy(console: Console, *, path: str) -> BoardError:
    """Return the error of a port that somebody has; `path` is the file that they hold."""
    capture = find_capture(console.port)
    if capture is not None:
        return captured(console.port, pid=capture.process.pid, log=capture.log)
    return _held(console, holders(path) or ["a process of another user"])


def shared(console: Console, pids: list[int]) -> BoardError:
    """Return the error of a port that others have open as well."""
    return _held(console, [describe(pid) for pid in pids])


def captured(port: str, *, pid: int, log: str) -> BoardError:
    """Return the error of a port that a run captures."""
    return BoardError(
        f"the console {port} is busy: captured by run {Path(log).parent}, pid {pid}",
        remedy=f"tear that run down, or `kill {pid}` if it is no more",
    )


def refused(console: Console, said: bytes) -> BoardError:
    """Return the error of a console server that let us in and hung up; `said`: what it sent before."""
    words = "".join(letter if letter.isprintable() else " " for letter in said.decode("utf-8", "replace"))
    return BoardError(
        f"the console server at {console.port} hung up at once: {' '.join(words.split())[:200] or 'it said nothing'}",
        remedy="see who else is connected to it, and whether it has the board's port",
    )


def baudrate(console: Console) -> BoardError:
    """Return the error of a speed that the port cannot have."""
    return BoardError(
        f"the console {console.port} cannot run at {console.baudrate} baud",
        remedy="correct `console.baudrate` in the profile",
    )


def bad_address(console: Console, error: BaseException) -> ConfigError:
    """Return the error of an address that is none."""
    return ConfigError(
        f"the console {console.port} is no address: {error}",
        remedy="write /dev/serial/by-id/…, socket://host:port or rfc2217://host:port",
    )


def _held(console: Console, who: list[str]) -> BoardError:
    return BoardError(f"the console {console.port} is busy: {' and '.join(who)} has it", remedy="end that process")


def _network(console: Console, text: str) -> BoardError | ConfigError:
    lowered = text.lower()
    if "invalid url" in lowered or "expected a string in the form" in lowered or "protocol" in lowered:
        return bad_address(console, ValueError(text))
    if ("rfc2217" in lowered and ("support" in lowered or "accept" in lowered)) or "option" in lowered:
        return BoardError(
            f"what listens at {console.port} does not speak RFC 2217: {text}",
            remedy="use socket:// for a server of raw bytes, or set the server's port to telnet with rfc2217",
        )
    return BoardError(
        f"the console server at {console.port} cannot be reached: {text}", remedy="check that it runs, and the port"
    )


def _missing(console: Console) -> BoardError:
    return BoardError(f"the console {console.port} does not exist", remedy=_those_that_exist())


def _those_that_exist() -> str:
    from serial.tools.list_ports import comports  # type: ignore[import-untyped]  # pyserial ships no types

    names = sorted(str(path) for path in Path("/dev/serial/by-id").glob("*"))
    known = {os.path.realpath(name) for name in names}
    names += sorted(port.device for port in comports() if port.device not in known)
    return f"those that exist: {', '.join(names)}" if names else "no serial port exists here: plug the adapter in"


def _denied(console: Console) -> BoardError:
    import grp

    try:
        group = grp.getgrgid(Path(console.port).stat().st_gid).gr_name
    except (OSError, KeyError):
        group = "dialout"
    return BoardError(
        f"this user may not open the console {console.port}",
        remedy=f"add the user to the group {group} (`sudo usermod -aG {group} $USER`) and log in again",
    )
