"""A board's power, switched by commands of this machine: uhubctl, a PDU's tool, a relay's.

A signal ends a command together with its children, also between the off and the on of a cycle: that is said then, and
the teardown of the run brings the board into its safe state with `make_safe`.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Sequence
from typing import Literal

from roboticks_tasks.errors import BoardError, TargetError
from roboticks_tasks.processes import unmarked
from roboticks_tasks.profiles import Board
from roboticks_tasks.profiles.values import Power
from roboticks_tasks.redaction import without_ours
from roboticks_tasks.targets.local import LocalTarget
from roboticks_tasks.waiting import Deadline, first

log = logging.getLogger(__name__)

Action = Literal["on", "off", "cycle"]
State = Literal["on", "off"]

SETTLE = 3.0
"""Seconds that a relay or a PDU may take until its state says what it was told."""

PAUSE = 0.1
"""Seconds between two readings of the state."""


def switch(board: Board, action: Action) -> None:
    """Switch the board's power and, where `power.state` is given, read back that it is so.

    `power.timeout` holds for each of the commands. Raises BoardError with the last words of a command that fails, and
    for an action that the profile has no command for.
    """
    power = _power(board)
    if action != "cycle":
        _run(board, action, _command(board, action))
    else:
        try:
            _cycle(board, power)
        except BaseException:
            log.warning("the power cycle of board %s was cut short: it may be without power", board.id)
            raise
    if power.state is not None:
        _confirm(board, "off" if action == "off" else "on")


def read_state(board: Board) -> State | None:
    """Return whether the board has power, None when the profile does not say how to ask.

    Raises BoardError when the command fails, or when its output holds neither or both of the words on and off.
    """
    if board.power is None or board.power.state is None:
        return None
    output = _run(board, "state", board.power.state)
    words = {word.lower() for word in re.findall(r"(?i)\b(?:on|off)\b", output)}
    if len(words) != 1:
        raise BoardError(
            f"`power.state` of board {board.id} printed {_excerpt(output)}, which says not clearly on or off",
            remedy="let it print one line with on or off, by a script of yours if need be",
        )
    return "on" if "on" in words else "off"


def ensure_on(board: Board) -> Literal["on", "cycled", "was on"] | None:
    """Give the board power as `power.at_start` says and return what was done, None when nothing can be.

    A board whose state reads on is left alone, unless it is to be cycled. BoardError as from `switch`.
    """
    power = board.power
    if power is None:
        return None
    if power.at_start == "cycle":
        switch(board, "cycle")
        return "cycled"
    state = read_state(board)
    if state == "on":
        return "was on"
    if power.on is not None:
        switch(board, "on")
        return "on"
    if state == "off":
        if power.cycle is None:
            raise BoardError(f"board {board.id} is off, and `power.on` is not given", remedy="switch it on by hand")
        switch(board, "cycle")
        return "cycled"
    return None


def make_safe(board: Board) -> str:
    """Bring the board's power into `power.safe`, read it back where that can be, and return what was done, in words.

    Running it again does no harm. BoardError when the state reads otherwise, and as from `switch`.
    """
    if board.power is None or board.power.safe is None:
        return "no safe state is named"
    switch(board, board.power.safe)
    return f"power {board.power.safe}, {'not read back' if board.power.state is None else 'read back'}"


def _cycle(board: Board, power: Power) -> None:
    if power.cycle is not None:
        _run(board, "cycle", power.cycle)
        return
    # Asked for both before the first is used: a board that cannot be switched on again stays on.
    off, on = _command(board, "off"), _command(board, "on")
    _run(board, "off", off)
    time.sleep(power.off_time)
    _run(board, "on", on)


def _confirm(board: Board, expected: State) -> None:
    last: list[str] = []

    def probe() -> bool | None:
        last[:] = [str(read_state(board))]
        return True if last == [expected] else None

    if probe() is None and first(probe, deadline=Deadline(SETTLE), interval=PAUSE) is None:
        raise BoardError(
            f"board {board.id} was switched {expected}, but its power still reads {last[0]}",
            remedy="look at the relay, and at what `power.state` asks",
        )


def _run(board: Board, key: str, argv: Sequence[str]) -> str:
    """Run one of the commands and return its output; arguments may hold a password, so they are told nowhere."""
    what = f"`power.{key}` of board {board.id} ({argv[0] if argv else 'an empty command'})"
    remedy = f"run the command of `power.{key}` by hand"
    limit = _power(board).timeout
    words = [word.replace("{board}", board.id).replace("{host}", board.host or "") for word in argv]
    log.info("board %s: power %s", board.id, key)
    try:
        # A tool may start a server that other boards use, too: it must not end with this run.
        done = LocalTarget(without_ours(unmarked(os.environ))).run(words, timeout=limit)
    except TargetError:
        raise BoardError(
            f"{what} did not end within {limit:g} s", remedy=f"{remedy}, or raise `power.timeout`"
        ) from None
    except (IndexError, ValueError) as error:  # no program's name, or a NUL in it
        raise BoardError(f"{what} is no command: {error}", remedy="mend it in the profile") from None
    log.debug("board %s: power %s ended with %d: %r %r", board.id, key, *done)
    if done.exit_code in {126, 127}:
        raise BoardError(f"{what} cannot be run: {done.last_words}", remedy="install it, or mend its path")
    if not done.ok:
        how = f"failed with {done.exit_code}" if done.exit_code > 0 else f"was ended by signal {-done.exit_code}"
        raise BoardError(f"{what} {how}: {done.last_words[:200]}", remedy=remedy)
    return done.text


def _command(board: Board, key: Literal["on", "off"]) -> Sequence[str]:
    argv = getattr(_power(board), key)
    if argv is None:
        raise BoardError(f"board {board.id} has no `power.{key}`", remedy="add the command to it in the profile")
    return tuple(argv)


def _power(board: Board) -> Power:
    if board.power is None:
        raise BoardError(f"board {board.id} has no `power`", remedy="add the commands to it in the profile")
    return board.power


def _excerpt(output: str) -> str:
    return repr(output[:80]) if output else "nothing"
