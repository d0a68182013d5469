"""ensure_board: the board has power, and whatever its console says from now on is kept."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

from roboticks_tasks.backend.secrets import redactor_of
from roboticks_tasks.errors import BoardError, UnreachableError
from roboticks_tasks.lifecycle.support.places import is_hosted
from roboticks_tasks.models import BoardRef, Capture
from roboticks_tasks.profiles import Board, Profile, board_of
from roboticks_tasks.profiles.values import Console, Power
from roboticks_tasks.redaction import Redactor
from roboticks_tasks.targets import open_target
from roboticks_tasks.waiting import Deadline, first

log = logging.getLogger(__name__)

CONSOLE_LOG = "console.log"

PAUSE = 0.5
"""Seconds between two attempts to reach a board that is booting."""


def ensure_board(profile: Profile, *, artifacts: Path) -> BoardRef:
    """Capture the board's console into `artifacts`, give the board power, and wait until it has booted.

    The console comes first, because opening a port discards what the board has said before. A board that was on
    already is not waited for. Raises BoardError when the port is busy, a power command fails, or the board does not
    answer within `power.boot_timeout` seconds; a capture that was started here is stopped then.
    """
    board = board_of(profile)
    capture = None if board.console is None else _capture(board.console, artifacts, redactor_of(profile))
    try:
        powered = None if board.power is None else _power(profile, board, board.power)
    except BaseException:
        if capture is not None:
            from roboticks_tasks.serial_console.captures import stop_capture

            stop_capture(capture)
        raise
    return BoardRef(id=board.id, capture=capture, powered=powered)


def _capture(console: Console, artifacts: Path, redactor: Redactor) -> Capture:
    from roboticks_tasks.serial_console.captures import find_capture, start_capture, stop_capture

    # Whoever calls this has the board alone: a capture that still runs is what a killed run has left behind.
    left = find_capture(console.port)
    if left is not None:
        outcome = stop_capture(left)
        log.warning("an earlier run was still capturing %s (pid %d): %s", left.port, left.process.pid, outcome)
    return start_capture(console, log=artifacts.absolute() / CONSOLE_LOG, redactor=redactor)


def _power(profile: Profile, board: Board, power: Power) -> Literal["on", "cycled", "was on"] | None:
    from roboticks_tasks.boards.power import ensure_on

    powered = ensure_on(board)
    if powered in {"on", "cycled"} and is_hosted(profile):
        _await_boot(profile, board, Deadline(power.boot_timeout))
    return powered


def _await_boot(profile: Profile, board: Board, deadline: Deadline) -> None:
    last: list[BoardError] = []

    def answers() -> bool | None:
        try:
            with open_target(profile):
                return True
        except UnreachableError as error:
            last.append(error)
            return None

    if first(answers, deadline=deadline, interval=PAUSE) is None:
        seen = f": {last[-1]}" if last else ""
        raise BoardError(
            f"board {board.id} has power, but does not answer within {deadline.seconds:g} s{seen}",
            remedy="see console.log if it has a console; raise `power.boot_timeout` if it is only slow",
        )
