"""A POSIX shell on a board's serial console as a target: read `target.py` first."""

from roboticks_tasks.targets.serial.target import SerialTarget, open_serial

__all__ = ["SerialTarget", "open_serial"]
