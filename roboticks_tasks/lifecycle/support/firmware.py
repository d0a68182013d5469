"""Firmware: the device manager of a microcontroller, brought to it by a command of this machine."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from roboticks_tasks.errors import BinaryError, LaunchError, TargetError, Verdict
from roboticks_tasks.lifecycle.support import sources
from roboticks_tasks.lifecycle.support.places import fill
from roboticks_tasks.models import Binary, Capture
from roboticks_tasks.profiles import Profile, board_of
from roboticks_tasks.profiles.values import Board
from roboticks_tasks.targets.local import LocalTarget

log = logging.getLogger(__name__)

BUSY = re.compile(r"busy|in use|temporarily unavailable|could not (?:exclusively )?(?:lock|open)", re.IGNORECASE)
"""How flash tools say that somebody else has the serial port; the words are pyserial's and the kernel's."""

LAST_LINES = 5
"""Lines of a flash tool's output that are worth an error message."""


def ensure_flashed(profile: Profile, cache: Path | None) -> Binary:
    """Check the firmware's file and have `device_manager.flash` write it to the board; without a command do nothing.

    The console's capture goes on meanwhile, for most tools flash over USB or JTAG. Raises BinaryError for a file that
    is missing or another one, and when the command fails or takes more than `timeouts.binary` seconds.
    """
    source = sources.fetch(profile, cache)
    binary = Binary(path=str(source.path) if source else "firmware", sha256=source.sha256 if source else None)
    if profile.device_manager.flash is None:
        log.info("the firmware that is on the board is tested: no `device_manager.flash`")
        return binary
    board = board_of(profile)
    values = {"board": board.id}
    if board.console is not None:
        values["port"] = board.console.port
    if source is not None:
        values["source"] = str(source.path)
    argv = fill(profile.device_manager.flash, **values)
    for name, key in (("source", "`device_manager.source`"), ("port", "`boards.console.port`")):
        if name not in values and any(f"{{{name}}}" in word for word in argv):
            raise BinaryError(f"`device_manager.flash` needs {{{name}}}", remedy=f"set {key} in the profile")
    _flash(argv, board, profile.timeouts.binary)
    log.info("flashed %s", binary.path)
    return binary


def capture_of(profile: Profile) -> Capture:
    """Return the running capture of the board's console; LaunchError when there is no console or no capture."""
    from roboticks_tasks.serial_console.captures import find_capture

    board = board_of(profile)
    if board.console is None:
        raise LaunchError(
            f"board {board.id} has no console, and of firmware nothing else is seen",
            remedy="add `console` to the board in the profile",
            verdict=Verdict.CONFIG_ERROR,
        )
    capture = find_capture(board.console.port)
    if capture is None:
        raise LaunchError(
            f"the console of board {board.id} ({board.console.port}) is not captured",
            remedy="run `ensure-board` first; see console.log if it has ended",
        )
    return capture


def _flash(argv: list[str], board: Board, limit: float) -> None:
    what = f"flashing board {board.id} with {argv[0]}"
    try:
        done = LocalTarget().run(argv, timeout=limit)
    except TargetError as error:
        raise BinaryError(
            f"{what} did not end within {limit:g} s",
            remedy="raise `timeouts.binary` if it is only slow",
            verdict=Verdict.BENCH_ERROR,
        ) from error
    if done.ok:
        return
    if done.exit_code in {126, 127}:
        raise BinaryError(f"{what} is not possible: {done.last_words}", remedy="install it, or mend its path")
    output = (done.stdout + b"\n" + done.stderr).decode("utf-8", "replace").split("\n")
    tail = " | ".join([line.strip() for line in output if line.strip()][-LAST_LINES:]) or "it said nothing"
    holder = _holder_of_the_port(board) if BUSY.search(tail) else None
    raise BinaryError(
        f"{what} failed with {done.exit_code}: {tail}",
        remedy=f"{board.console.port} is being captured by us (pid {holder}): flash over USB or JTAG, not that port"
        if holder and board.console
        else "run the command of `device_manager.flash` by hand",
        verdict=Verdict.BENCH_ERROR,
    )


def _holder_of_the_port(board: Board) -> int | None:
    from roboticks_tasks.serial_console.captures import find_capture

    capture = find_capture(board.console.port) if board.console is not None else None
    return capture.process.pid if capture is not None else None
